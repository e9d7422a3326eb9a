//! Consumers: they come, give credit, ack, nack, reject, ask for more time, stall, and vanish.

use std::collections::BTreeSet;

use waypost_core::journal::{GroupKind, GroupOptions};
use waypost_shard::{Attach, Start};
use waypost_wire::Filter;
use waypost_wire::data::{ConsumerFrame, Range};

use crate::invariants::Violation;
use crate::model::{GroupModel, Life};
use crate::world::{Consumer, World};

const CONSUMERS_MAX: usize = 8;
/// Groups of which a run has some; the names say how they are made.
pub(crate) const GROUPS: [&str; 7] = ["s1", "s2", "s-a", "x1", "x-ab", "k1", "k-bc"];

/// How a group of this name is made.
fn options_of(group: &str) -> GroupOptions {
    let kind = match group.as_bytes().first() {
        Some(b'x') => GroupKind::Exclusive,
        Some(b'k') => GroupKind::Key,
        _ => GroupKind::Shared,
    };
    let topics = group.split_once('-').map_or("", |(_, topics)| topics);
    let filter = |topic: char| Filter::new(format!("sim/{topic}")).ok();
    GroupOptions {
        kind,
        filters: topics.chars().filter_map(filter).collect(),
    }
}

impl World {
    pub(crate) fn attach(&mut self) -> Result<(), Violation> {
        let names = self.model.names();
        let groups = self.groups.clone();
        let (Some(mut name), Some(mut group)) = (
            self.dice.pick(&names).cloned(),
            self.dice.pick(&groups).map(|g| (*g).to_owned()),
        ) else {
            return Ok(());
        };
        // Half of them join others.
        let ids: Vec<u64> = self.consumers.keys().copied().collect();
        if self.dice.once_in(2)
            && let Some(other) = self.dice.pick(&ids).and_then(|id| self.consumers.get(id))
            && let Some(queue) = self.model.queues.get(&other.life)
        {
            (name, group) = (queue.name.clone(), other.group.clone());
        }
        if self.consumers.len() >= CONSUMERS_MAX {
            return Ok(());
        }
        let start = match self.dice.below(4) {
            0 => Start::End,
            1 => Start::Offset(self.dice.below(200)),
            _ => Start::Beginning,
        };
        let deadline = self.dice.once_in(2).then(|| self.dice.between(100, 4000));
        self.attach_to(&name, &group, start, deadline).map(|_| ())
    }

    /// Attaches a consumer; its id, unless the queue is not there.
    pub(crate) fn attach_to(
        &mut self,
        name: &str,
        group: &str,
        start: Start,
        ack_deadline_ms: Option<u64>,
    ) -> Result<Option<u64>, Violation> {
        let Some(life) = self.model.live(name) else {
            return Ok(None);
        };
        if self.is_changing(life, group) {
            self.commit()?;
            if self.is_suspect {
                return Ok(None);
            }
        }
        let consumer = self.next_consumer;
        self.next_consumer += 1;
        let now = self.now();
        let attach = Attach {
            consumer,
            queue: name.into(),
            group: group.to_owned(),
            start,
            options: options_of(group),
            ack_deadline_ms,
            batch_bytes_max: 1 << 20,
        };
        let deadline_ms = match self.shard.attach(now, attach) {
            Ok(deadline_ms) => deadline_ms,
            Err(error) => return self.failed("attach", &error).map(|()| None),
        };
        self.trace.line(format!(
            "consumer {consumer} joins {name}/{group}, {start:?}"
        ));
        let view = self.shard.queue(name).ok();
        let floor = view
            .and_then(|v| v.groups.iter().find(|g| g.name == group).cloned())
            .map_or(0, |g| g.acked_below);
        if let Some(queue) = self.model.queues.get_mut(&life) {
            queue
                .groups
                .entry(group.to_owned())
                .or_insert_with(|| GroupModel::new(floor, options_of(group)));
        }
        let state = Consumer {
            life,
            group: group.to_owned(),
            deadline_ms,
            credit_messages: 0,
            credit_bytes: 0,
            sent: 0,
            unwritten: 0,
        };
        self.consumers.insert(consumer, state);
        self.give_credit(consumer)?;
        Ok(Some(consumer))
    }

    /// A consumer vanishes; what it holds goes to others.
    pub(crate) fn detach(&mut self) -> Result<(), Violation> {
        let ids: Vec<u64> = self.consumers.keys().copied().collect();
        match self.dice.pick(&ids).copied() {
            Some(consumer) if self.dice.once_in(3) => self.leave(consumer),
            Some(consumer) => self.detach_one(consumer),
            None => Ok(()),
        }
    }

    /// A consumer takes its leave: what it held keeps its attempt.
    fn leave(&mut self, consumer: u64) -> Result<(), Violation> {
        let Some(state) = self.consumers.remove(&consumer) else {
            return Ok(());
        };
        self.trace
            .line(format!("consumer {consumer} takes its leave"));
        let queue = self.model.queues.get_mut(&state.life);
        if let Some(model) = queue.and_then(|q| q.groups.get_mut(&state.group)) {
            model.give_back(consumer);
        }
        let now = self.now();
        self.shard.detach(now, consumer, true);
        Ok(())
    }

    pub(crate) fn detach_one(&mut self, consumer: u64) -> Result<(), Violation> {
        let Some(state) = self.consumers.remove(&consumer) else {
            return Ok(());
        };
        self.trace.line(format!("consumer {consumer} leaves"));
        for offset in self.held(state.life, &state.group, consumer) {
            self.fail(state.life, &state.group, consumer, offset, None);
        }
        let now = self.now();
        self.shard.detach(now, consumer, false);
        self.note_dead_letters()
    }

    pub(crate) fn held(&self, life: Life, group: &str, consumer: u64) -> Vec<u64> {
        self.model
            .queues
            .get(&life)
            .and_then(|q| q.groups.get(group))
            .map(|g| g.held_by(consumer))
            .unwrap_or_default()
    }

    /// One consumer does one thing.
    pub(crate) fn consumer_acts(&mut self) -> Result<(), Violation> {
        let ids: Vec<u64> = self.consumers.keys().copied().collect();
        let Some(consumer) = self.dice.pick(&ids).copied() else {
            return self.attach();
        };
        // Every fifth consumer is a bad one: it hardly acks.
        let is_bad = consumer.is_multiple_of(5);
        match self.dice.below(20) {
            0..=3 => self.give_credit(consumer),
            4..=5 => self.written(consumer),
            6..=14 if !is_bad => self.ack(consumer),
            15 if !is_bad => self.ack_up_to(consumer),
            6 => self.ack(consumer),
            16 | 7 => self.nack(consumer),
            17 => self.reject(consumer),
            18 => self.extend(consumer),
            // It stalls.
            _ => Ok(()),
        }
    }

    pub(crate) fn give_credit(&mut self, consumer: u64) -> Result<(), Violation> {
        let (more, more_bytes) = (self.dice.between(1, 40), self.dice.between(1, 12_000));
        self.credit(consumer, more, more_bytes);
        Ok(())
    }

    pub(crate) fn credit(&mut self, consumer: u64, messages: u64, bytes: u64) {
        let Some(state) = self.consumers.get_mut(&consumer) else {
            return;
        };
        state.credit_messages += messages;
        state.credit_bytes += bytes;
        let frame = ConsumerFrame::Credit {
            messages: state.credit_messages,
            bytes: state.credit_bytes,
        };
        self.say(consumer, frame);
    }

    /// What was delivered has left the node.
    pub(crate) fn written(&mut self, consumer: u64) -> Result<(), Violation> {
        if let Some(state) = self.consumers.get_mut(&consumer) {
            let bytes = std::mem::take(&mut state.unwritten);
            self.shard.written(consumer, bytes);
        }
        Ok(())
    }

    fn say(&mut self, consumer: u64, frame: ConsumerFrame) {
        let now = self.now();
        self.shard.consumer_frame(now, consumer, frame);
    }

    /// Some of what a consumer holds, and sometimes what it does not hold.
    fn some_held(&mut self, consumer: u64) -> Option<(Life, String, Vec<u64>)> {
        let state = self.consumers.get(&consumer)?;
        let (life, group) = (state.life, state.group.clone());
        let held = self.held(life, &group, consumer);
        let mut chosen = BTreeSet::new();
        if !held.is_empty() {
            let from = self.dice.below(held.len() as u64) as usize;
            match self.dice.below(3) {
                0 => chosen.extend(held.iter().copied()),
                1 => chosen.extend(held.iter().skip(from).take(7).copied()),
                _ => {
                    let keep = self.dice.between(1, 4);
                    chosen.extend(held.iter().copied().filter(|_| self.dice.once_in(keep)));
                }
            }
        }
        if self.dice.once_in(10) {
            let stray = self.dice.below(400);
            chosen.extend(stray..stray + 3);
        }
        (!chosen.is_empty()).then(|| (life, group, chosen.into_iter().collect()))
    }

    fn ack(&mut self, consumer: u64) -> Result<(), Violation> {
        let Some((life, group, offsets)) = self.some_held(consumer) else {
            return Ok(());
        };
        self.ack_offsets(consumer, life, &group, &offsets)
    }

    /// Acks all that it holds up to some offset, which it may hold or not.
    fn ack_up_to(&mut self, consumer: u64) -> Result<(), Violation> {
        let Some(state) = self.consumers.get(&consumer) else {
            return Ok(());
        };
        let (life, group) = (state.life, state.group.clone());
        let held = self.held(life, &group, consumer);
        let last = match self.dice.pick(&held) {
            Some(offset) => offset + self.dice.below(2),
            None => self.dice.below(400),
        };
        self.trace.line(format!("ack {consumer} up to {last}"));
        let queue = self.model.queues.get_mut(&life);
        if let Some(model) = queue.and_then(|q| q.groups.get_mut(&group)) {
            let below = held.iter().filter(|offset| **offset <= last);
            below.for_each(|offset| model.ack(consumer, *offset));
        }
        self.say(consumer, ConsumerFrame::AckUpTo(last));
        Ok(())
    }

    pub(crate) fn ack_offsets(
        &mut self,
        consumer: u64,
        life: Life,
        group: &str,
        offsets: &[u64],
    ) -> Result<(), Violation> {
        let ranges = ranges(offsets);
        self.trace
            .line(format!("ack {consumer}: {}", show(&ranges)));
        let model = self
            .model
            .queues
            .get_mut(&life)
            .and_then(|q| q.groups.get_mut(group));
        if let Some(model) = model {
            offsets.iter().for_each(|o| model.ack(consumer, *o));
        }
        self.say(consumer, ConsumerFrame::Ack(ranges));
        Ok(())
    }

    fn nack(&mut self, consumer: u64) -> Result<(), Violation> {
        let Some((life, group, offsets)) = self.some_held(consumer) else {
            return Ok(());
        };
        let delay_ms = match self.dice.below(2) {
            0 => 0,
            _ => self.dice.between(1, 800),
        };
        let due = (delay_ms > 0).then_some(self.now_ms + delay_ms);
        let ranges = ranges(&offsets);
        self.trace
            .line(format!("nack {consumer}, {delay_ms} ms: {}", show(&ranges)));
        for offset in offsets {
            self.fail(life, &group, consumer, offset, due);
        }
        self.say(consumer, ConsumerFrame::Nack { delay_ms, ranges });
        self.note_dead_letters()
    }

    fn reject(&mut self, consumer: u64) -> Result<(), Violation> {
        let Some((life, group, offsets)) = self.some_held(consumer) else {
            return Ok(());
        };
        let ranges = ranges(&offsets);
        self.trace
            .line(format!("reject {consumer}: {}", show(&ranges)));
        for offset in offsets {
            let model = self
                .model
                .queues
                .get_mut(&life)
                .and_then(|q| q.groups.get_mut(&group));
            if model.is_some_and(|g| g.reject(consumer, offset)) {
                self.spent(life, &group, offset);
            }
        }
        let reason = "it is bad".to_owned();
        self.say(consumer, ConsumerFrame::Reject { reason, ranges });
        self.note_dead_letters()
    }

    fn extend(&mut self, consumer: u64) -> Result<(), Violation> {
        let Some((life, group, offsets)) = self.some_held(consumer) else {
            return Ok(());
        };
        let ms = self.dice.between(1, 5000);
        let deadline = self.now_ms + ms;
        let ranges = ranges(&offsets);
        self.trace
            .line(format!("extend {consumer}, {ms} ms: {}", show(&ranges)));
        let model = self
            .model
            .queues
            .get_mut(&life)
            .and_then(|q| q.groups.get_mut(&group));
        if let Some(model) = model {
            for offset in offsets {
                model.extend(consumer, offset, deadline);
            }
        }
        self.say(consumer, ConsumerFrame::Extend { ms, ranges });
        Ok(())
    }
}

/// Offsets in ascending order as ranges.
fn ranges(offsets: &[u64]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for offset in offsets {
        match ranges.last_mut() {
            Some(last) if last.last + 1 == *offset => last.last = *offset,
            _ => ranges.push(Range::one(*offset)),
        }
    }
    ranges
}

fn show(ranges: &[Range]) -> String {
    let parts: Vec<String> = ranges
        .iter()
        .map(|r| format!("{}..={}", r.first, r.last))
        .collect();
    parts.join(" ")
}
