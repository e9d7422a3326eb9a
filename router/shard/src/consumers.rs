//! Consumers: they come, give credit, settle what they hold, and leave.

use std::sync::Arc;

use waypost_core::group::{Attempted, ConsumerId};
use waypost_core::journal::{Entry, GroupKind, GroupOptions};
use waypost_core::queue::Durability;
use waypost_log::Vfs;
use waypost_wire::Code;
use waypost_wire::data::{ConsumerFrame, Outcome, Range};

use crate::deliver::Found;
use crate::{ManageError, Now, Output, Shard, SlotId};

/// Bytes of a consumer's reason for a reject that are kept.
const REASON_BYTES_MAX: usize = 1024;
/// The longest delay of a nack: a week. What waits pins the queue's space.
const DELAY_MS_MAX: u64 = 7 * 86_400_000;
/// Groups of one queue. Each is kept, pins messages, and is part of every snapshot.
pub const GROUPS_MAX: usize = 1024;

/// Where a group begins that is made by its first consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest message that the queue has.
    Beginning,
    /// With the next one that is published.
    End,
    /// With this offset, or the nearest one that the queue has.
    Offset(u64),
    /// With the first one received at this time (ms since 1970) or later.
    Time(u64),
}

/// A consumer that wants messages.
#[derive(Clone, Debug)]
pub struct Attach {
    /// Its id, unique while the node runs, and not 0.
    pub consumer: ConsumerId,
    /// From which queue.
    pub queue: Arc<str>,
    /// In which group; made when it is not there.
    pub group: String,
    /// Where a new group begins.
    pub start: Start,
    /// How a new group is made; one that is there must have been made so.
    pub options: GroupOptions,
    /// How long it may take for a message; the queue's default if `None`.
    pub ack_deadline_ms: Option<u64>,
    /// Slab bytes of one delivery at most, unless it is one message: what the client's frames hold.
    pub batch_bytes_max: u64,
}

#[derive(Debug)]
pub(crate) struct Consumer {
    pub slot: SlotId,
    pub group: String,
    pub ack_deadline_ms: u64,
    /// Totals since it was attached.
    pub credit_messages: u64,
    pub credit_bytes: u64,
    pub sent_messages: u64,
    pub sent_bytes: u64,
    /// Delivered and not yet written to its stream.
    pub buffered_bytes: u64,
    pub held: u64,
    pub batch_bytes_max: u64,
    /// Its number among all consumers of the shard.
    pub joined: u64,
    /// Its group is of kind `key`.
    pub is_keyed: bool,
    /// It is among its group's open ones.
    pub is_open: bool,
}

impl<V: Vfs> Shard<V> {
    /// Adds a consumer. Gives the ack deadline in force, in ms. It gets nothing before it gave
    /// credit.
    pub fn attach(&mut self, now: Now, attach: Attach) -> Result<u64, ManageError> {
        let name = attach.queue.clone();
        let id = self.slot_of(&name).ok_or(ManageError::NoQueue(name))?;
        let start = self.place(id, attach.start);
        let slot = self
            .slots
            .get_mut(&id)
            .ok_or(ManageError::NoQueue(attach.queue))?;
        let groups = slot.queue.groups();
        if let Some(there) = groups.get(&attach.group)
            && there.options != attach.options
        {
            let (kind, group) = (there.options.kind, attach.group);
            return Err(ManageError::OtherGroup {
                queue: slot.queue.name().into(),
                group,
                kind,
            });
        }
        if attach.options.kind == GroupKind::Key && slot.queue.settings().priorities > 1 {
            return Err(ManageError::KeyPriorities(slot.queue.name().into()));
        }
        if !groups.contains_key(&attach.group) && groups.len() >= GROUPS_MAX {
            return Err(ManageError::Groups(slot.queue.name().into(), GROUPS_MAX));
        }
        let ack_deadline_ms = attach
            .ack_deadline_ms
            .unwrap_or(slot.queue.settings().ack_deadline_ms);
        self.joined += 1;
        slot.members
            .entry(attach.group.clone())
            .or_default()
            .consumers
            .insert(self.joined, attach.consumer);
        if let Some(entry) = slot.queue.add_group(&attach.group, start, attach.options) {
            self.journal(id, &entry, now);
            // The only group of a queue may begin above what it holds.
            self.moved.insert(id);
        }
        let mut is_keyed = false;
        if let Some(slot) = self.slots.get_mut(&id)
            && let Some(named) = slot.queue.group_mut(&attach.group)
        {
            is_keyed = named.options.kind == GroupKind::Key;
            named.group.join(attach.consumer);
        }
        let consumer = Consumer {
            slot: id,
            group: attach.group,
            ack_deadline_ms,
            credit_messages: 0,
            credit_bytes: 0,
            sent_messages: 0,
            sent_bytes: 0,
            buffered_bytes: 0,
            held: 0,
            batch_bytes_max: attach.batch_bytes_max,
            joined: self.joined,
            is_keyed,
            is_open: false,
        };
        self.consumers.insert(attach.consumer, consumer);
        Ok(ack_deadline_ms)
    }

    /// The offset of a place in a queue. A time is looked up in the messages: their receive times
    /// rise with their offsets, as far as the node's clock did.
    pub(crate) fn place(&mut self, id: SlotId, start: Start) -> u64 {
        let Some(slot) = self.slots.get(&id) else {
            return 0;
        };
        let (mut low, mut high) = (slot.queue.first(), slot.queue.next());
        let time = match start {
            Start::Beginning => return low,
            Start::End => return high,
            Start::Offset(offset) => return offset,
            Start::Time(time) => time,
        };
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.chunk_at(id, "", middle);
            self.forget_ahead(id);
            match found {
                Found::Chunk(chunk) if chunk.time_ms < time => low = chunk.end(),
                Found::Chunk(chunk) => high = chunk.first_offset.min(middle),
                Found::Nothing { until } => low = until.max(middle + 1),
                Found::Unreadable => return low,
            }
        }
        low
    }

    /// Bytes that were delivered have been written to the consumer's stream.
    pub fn written(&mut self, consumer: ConsumerId, bytes: u64) {
        if let Some(state) = self.consumers.get_mut(&consumer) {
            state.buffered_bytes = state.buffered_bytes.saturating_sub(bytes);
            self.line_up(consumer);
        }
    }

    /// What a consumer says. Of messages that it does not hold (any more), nothing follows.
    pub fn consumer_frame(&mut self, now: Now, consumer: ConsumerId, frame: ConsumerFrame) {
        let Some(state) = self.consumers.get_mut(&consumer) else {
            return;
        };
        let (id, group) = (state.slot, state.group.clone());
        match frame {
            ConsumerFrame::Credit { messages, bytes } => {
                state.credit_messages = state.credit_messages.max(messages);
                state.credit_bytes = state.credit_bytes.max(bytes);
                self.line_up(consumer);
            }
            ConsumerFrame::Ack(ranges) => {
                let asked = count(&ranges);
                self.ack(now, consumer, id, &group, &ranges, asked);
            }
            ConsumerFrame::AckUpTo(last) => {
                let all = [Range { first: 0, last }];
                self.ack(now, consumer, id, &group, &all, 0);
            }
            ConsumerFrame::Nack { delay_ms, ranges } => {
                let due =
                    (delay_ms > 0).then(|| now.mono_ms.saturating_add(delay_ms.min(DELAY_MS_MAX)));
                let taken = self.take(consumer, id, &group, &ranges);
                self.put_back(now, id, &group, taken, due, "nacked by its consumer");
            }
            ConsumerFrame::Reject { reason, ranges } => {
                let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
                let taken = self.take(consumer, id, &group, &ranges);
                self.dead_letter(
                    now,
                    id,
                    &group,
                    taken,
                    &format!("rejected by its consumer: {reason}"),
                );
            }
            ConsumerFrame::Extend { ms, ranges } => {
                if let Some(named) = self
                    .slots
                    .get_mut(&id)
                    .and_then(|s| s.queue.group_mut(&group))
                {
                    named
                        .group
                        .extend(consumer, &ranges, now.mono_ms.saturating_add(ms));
                }
                self.set_timer(id);
            }
        }
    }

    /// Acks what the consumer holds of `ranges`; of `asked` messages the rest is counted as stale.
    fn ack(
        &mut self,
        now: Now,
        consumer: ConsumerId,
        id: SlotId,
        group: &str,
        ranges: &[Range],
        asked: u64,
    ) {
        if let Some(entry) = self.settle_acks(consumer, id, group, ranges, asked) {
            let entries = self.with_receipts(id, entry, Outcome::Acked);
            self.journal_set(id, &entries, now);
            self.has_all_receipts(id, &entries);
        }
    }

    /// A transaction has written what its consumer acks.
    pub(crate) fn ack_transacted(&mut self, consumer: ConsumerId, ranges: &[Range]) {
        if let Some(state) = self.consumers.get(&consumer) {
            let (id, group) = (state.slot, state.group.clone());
            self.settle_acks(consumer, id, &group, ranges, 0);
        }
    }

    /// Counts as acked what the consumer holds; the entry that the journal has to have.
    fn settle_acks(
        &mut self,
        consumer: ConsumerId,
        id: SlotId,
        group: &str,
        ranges: &[Range],
        asked: u64,
    ) -> Option<Entry> {
        let slot = self.slots.get_mut(&id)?;
        let entry = slot.queue.ack(group, consumer, ranges);
        let done = match &entry {
            Some(Entry::Acked { ranges, .. }) => ranges.iter().map(|r| r.count()).sum(),
            _ => 0,
        };
        slot.acked += done;
        self.counters.acked += done;
        self.count_stale(asked.saturating_sub(done));
        self.release(consumer, done);
        if entry.is_some() {
            self.moved.insert(id);
        }
        entry
    }

    fn take(
        &mut self,
        consumer: ConsumerId,
        id: SlotId,
        group: &str,
        ranges: &[Range],
    ) -> Vec<Attempted> {
        let named = self
            .slots
            .get_mut(&id)
            .and_then(|s| s.queue.group_mut(group));
        let taken = named
            .map(|n| n.group.take(consumer, ranges))
            .unwrap_or_default();
        let held = taken.iter().map(|t| t.range.count()).sum();
        self.count_stale(count(ranges).saturating_sub(held));
        self.release(consumer, held);
        taken
    }

    /// What is asked for can be any number; what is counted must not overflow.
    fn count_stale(&mut self, count: u64) {
        self.counters.stale = self.counters.stale.saturating_add(count);
    }

    pub(crate) fn release(&mut self, consumer: ConsumerId, count: u64) {
        if let Some(state) = self.consumers.get_mut(&consumer) {
            state.held = state.held.saturating_sub(count);
            self.line_up(consumer);
        }
    }

    /// Something made room at a consumer: it is in turn again, if it is not already.
    pub(crate) fn line_up(&mut self, consumer: ConsumerId) {
        let Some(state) = self.consumers.get_mut(&consumer) else {
            return;
        };
        self.ready.insert(state.slot);
        if state.is_keyed
            && let Some(slot) = self.slots.get_mut(&state.slot)
            && let Some(named) = slot.queue.group_mut(&state.group)
            && let Some(keys) = named.group.keys_mut()
        {
            keys.wake(consumer);
        }
        if std::mem::replace(&mut state.is_open, true) {
            return;
        }
        let Some(slot) = self.slots.get_mut(&state.slot) else {
            return;
        };
        if let Some(members) = slot.members.get_mut(&state.group) {
            members.open.push_back(consumer);
        }
    }

    /// What the consumers of a queue, or of one group of it, held was taken from them all.
    pub(crate) fn holds_nothing(&mut self, id: SlotId, group: Option<&str>) {
        let is_its = |c: &Consumer| c.slot == id && group.is_none_or(|group| c.group == group);
        let mut holders: Vec<ConsumerId> = self
            .consumers
            .iter_mut()
            .filter(|(_, consumer)| is_its(consumer))
            .map(|(holder, consumer)| {
                consumer.held = 0;
                *holder
            })
            .collect();
        holders.sort_unstable();
        holders.into_iter().for_each(|holder| self.line_up(holder));
    }

    /// A consumer is gone. What it holds is delivered to others; [`Output::Detached`] follows when
    /// everything that it said before is as durable as its queue promises.
    ///
    /// `is_clean` says that it took its leave: then what it holds was not tried in vain, and keeps
    /// its attempt.
    pub fn detach(&mut self, now: Now, consumer: ConsumerId, is_clean: bool) {
        let Some(state) = self.consumers.get(&consumer) else {
            return;
        };
        let slot = self.slots.get(&state.slot);
        let durability = slot.map(|slot| slot.queue.settings().durability);
        self.part(now, consumer, is_clean);
        match durability {
            Some(Durability::Interval | Durability::Memory) => {
                self.outputs.push(Output::Detached { consumer });
            }
            Some(Durability::Sync) | None => self.leaving.push(consumer),
        }
    }

    /// A consumer is one no more, and what it holds is somebody else's.
    pub(crate) fn part(&mut self, now: Now, consumer: ConsumerId, is_clean: bool) {
        let Some(state) = self.consumers.remove(&consumer) else {
            return;
        };
        let id = state.slot;
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if let Some(members) = slot.members.get_mut(&state.group) {
            members.consumers.remove(&state.joined);
            if state.is_open {
                members.open.retain(|c| *c != consumer);
            }
            if members.consumers.is_empty() {
                slot.members.remove(&state.group);
            }
        }
        let named = slot.queue.group_mut(&state.group);
        let taken = named.map(|n| n.group.leave(consumer)).unwrap_or_default();
        if is_clean {
            let before = |a: Attempted| Attempted {
                attempt: a.attempt.saturating_sub(1),
                ..a
            };
            if let Some(named) = slot.queue.group_mut(&state.group) {
                named
                    .group
                    .put_back(taken.into_iter().map(before).collect(), |_| None);
            }
            self.ready.insert(id);
            return self.set_timer(id);
        }
        self.put_back(
            now,
            id,
            &state.group,
            taken,
            None,
            "held by a consumer that went away",
        );
    }

    /// Deadlines and delays of a queue's groups that have come.
    pub(crate) fn expire(&mut self, id: SlotId, now: Now) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let names: Vec<String> = slot.queue.groups().keys().cloned().collect();
        for group in names {
            let Some(named) = self
                .slots
                .get_mut(&id)
                .and_then(|s| s.queue.group_mut(&group))
            else {
                continue;
            };
            named.group.wake_delayed(now.mono_ms);
            let expired = named.group.take_expired(now.mono_ms);
            for (consumer, attempted) in &expired {
                self.release(*consumer, attempted.range.count());
            }
            let expired = expired
                .into_iter()
                .map(|(_, attempted)| attempted)
                .collect();
            self.put_back(
                now,
                id,
                &group,
                expired,
                None,
                "not acked before its deadline",
            );
        }
    }

    /// Makes messages deliverable again, or dead letters where they have had their attempts.
    fn put_back(
        &mut self,
        now: Now,
        id: SlotId,
        group: &str,
        taken: Vec<Attempted>,
        due: Option<u64>,
        why: &str,
    ) {
        // Without a time of its own, each waits as its attempt says.
        if taken.is_empty() {
            return;
        }
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let settings = slot.queue.settings().clone();
        let deliver_max = settings.deliver_max;
        let (again, spent) = slot.queue.split_spent(taken);
        if let Some(named) = slot.queue.group_mut(group)
            && !again.is_empty()
        {
            let backoff = |attempt| Some(now.mono_ms.saturating_add(settings.backoff(attempt)?));
            let attempts = named
                .group
                .put_back(again, |attempt| due.or_else(|| backoff(attempt)));
            let entry = Entry::Attempts {
                id: named.id,
                attempts,
            };
            self.journal(id, &entry, now);
        }
        self.dead_letter(
            now,
            id,
            group,
            spent,
            &format!("{deliver_max} attempts, the last {why}"),
        );
        self.ready.insert(id);
        self.set_timer(id);
    }

    /// Closes the consumers of a queue, or of one group of it, that goes away.
    pub(crate) fn close_consumers(
        &mut self,
        id: SlotId,
        group: Option<&str>,
        code: Code,
        text: &str,
    ) {
        let mut gone: Vec<ConsumerId> = self
            .consumers
            .iter()
            .filter(|(_, c)| c.slot == id && group.is_none_or(|group| c.group == group))
            .map(|(consumer, _)| *consumer)
            .collect();
        gone.sort_unstable();
        for consumer in gone {
            self.consumers.remove(&consumer);
            self.outputs.push(Output::ConsumerClosed {
                consumer,
                code,
                text: text.to_owned(),
            });
        }
    }
}

/// How many offsets ranges name: any number can be asked for, and none may overflow.
fn count(ranges: &[Range]) -> u64 {
    let sum =
        |sum: u64, range: &Range| sum.saturating_add((range.last - range.first).saturating_add(1));
    ranges.iter().fold(0, sum)
}
