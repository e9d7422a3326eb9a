//! What the shard answers, judged as it comes.

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use waypost_core::DEAD_LETTER;
use waypost_log::format::entry::EntryKind;
use waypost_log::{CommitError, Vfs};
use waypost_shard::{Accepted, Output};
use waypost_wire::Slab;
use waypost_wire::data::{Deliver, Level};

use crate::invariants::{
    Violation, accepted_once, acked_stays_acked, attempts, dead_letters, group_order,
    memory_bounded, nothing_foreign, one_holder, progress, quiet_recovery, removed_stays_removed,
    space_returns, synced_first,
};
use crate::message::{DeadLetter, Identity, Place, identify};
use crate::model::{Content, Life};
use crate::world::disk::is_off;
use crate::world::{CACHE_BYTES, Faults, HELD_MAX, World, dir, log_options};

impl World {
    pub(crate) fn commit(&mut self) -> Result<(), Violation> {
        let now = self.now();
        match self.shard.commit(now) {
            Ok(()) => {
                self.trace.line("commit".to_owned());
                self.model.committed();
                self.take_outputs()?;
                accepted_once::after_commit(self.model.waiting.len())?;
                self.learn_dead_letters()?;
                self.release()?;
                memory_bounded::cache(self.cached_bytes(), CACHE_BYTES)
            }
            Err(error) => {
                self.is_poisoned |= matches!(error, CommitError::Poisoned(_));
                self.failed("commit", &error)
            }
        }
    }

    fn cached_bytes(&self) -> usize {
        self.shard.cached_bytes()
    }

    /// Delivers what can be delivered without a sync.
    pub(crate) fn deliver(&mut self) -> Result<(), Violation> {
        let now = self.now();
        self.shard.deliver(now);
        self.take_outputs()
    }

    pub(crate) fn take_outputs(&mut self) -> Result<(), Violation> {
        for output in self.shard.take_outputs() {
            match output {
                Output::Accepted(Accepted { ticket, level, .. }) => {
                    self.trace.line(format!("accepted {ticket}, {level:?}"));
                    self.model.accepted(ticket, level >= Level::Stored)?;
                }
                Output::Deliver { consumer, deliver } => self.delivered(consumer, &deliver)?,
                Output::ConsumerClosed { consumer, .. } => {
                    self.trace.line(format!("closed {consumer}"));
                    self.consumers.remove(&consumer);
                }
                Output::Detached { consumer } => self.trace.line(format!("detached {consumer}")),
                Output::Dropped { queue, messages } => {
                    self.trace.line(format!("'{queue}' dropped {messages}"));
                }
                // Nobody asks for receipts here.
                Output::Receipts { receipts, .. } => {
                    return Err(progress::stuck(format!("told unasked: {receipts:?}")));
                }
                Output::Alarm { text, .. } => self.alarm(text)?,
            }
        }
        Ok(())
    }

    /// On a disk that works an alarm means that the shard took something for damage.
    fn alarm(&mut self, text: String) -> Result<(), Violation> {
        self.trace.line(format!("alarm: {text}"));
        self.is_suspect = true;
        self.told.extend(self.model.is_rotten.then(|| text.clone()));
        if self.model.is_rotten || self.plan.faults == Faults::Disk || is_off(&self.disk) {
            return Ok(());
        }
        quiet_recovery::check(&[text])
    }

    fn delivered(&mut self, consumer: u64, deliver: &Deliver) -> Result<(), Violation> {
        let (first, count) = (deliver.first_offset, deliver.slab.count());
        self.trace
            .line(format!("deliver to {consumer}: {first}+{count}"));
        self.tally.delivered += u64::from(count);
        let Some(state) = self.consumers.get_mut(&consumer) else {
            return Err(progress::stuck(format!(
                "consumer {consumer} is gone and gets offset {first}"
            )));
        };
        state.sent += u64::from(count);
        state.unwritten += deliver.slab.bytes().len() as u64;
        let (life, group) = (state.life, state.group.clone());
        let (sent, credit) = (state.sent, state.credit_messages);
        let deadline = self.now_ms + state.deadline_ms;
        for (index, body) in deliver.slab.iter().enumerate() {
            let (offset, attempt) = match deliver.detail.get(index) {
                Some(detail) => *detail,
                None => (first + index as u64, 1),
            };
            let found = identify(body);
            self.served(life, offset, &found)?;
            if !self.model.is_rotten {
                self.may_come(life, &group, offset, consumer, attempt)?;
            }
            let Some(queue) = self.model.queues.get_mut(&life) else {
                continue;
            };
            queue.delivered(offset);
            if let Some(group) = queue.groups.get_mut(&group) {
                group
                    .progress
                    .entry(offset)
                    .or_default()
                    .deliver(consumer, deadline, attempt);
            }
        }
        let held = self.held(life, &group, consumer).len() as u64;
        memory_bounded::consumer(consumer, sent, credit, held, HELD_MAX)
    }

    /// A message was shown, whoever asked: it must be what stands there.
    pub(crate) fn served(
        &mut self,
        life: Life,
        offset: u64,
        found: &Identity,
    ) -> Result<(), Violation> {
        let Some(queue) = self.model.queues.get(&life) else {
            return Err(progress::stuck(format!(
                "queue {life:x} is gone and serves"
            )));
        };
        if !self.model.is_rotten {
            acked_stays_acked::check_released(queue.released_below, offset)?;
            removed_stays_removed::shown(queue, offset)?;
        } else if offset < queue.released_below {
            return Ok(());
        }
        nothing_foreign::check(queue, offset, found)?;
        let is_new = matches!(
            queue.entries.get(&offset).map(|e| &e.content),
            Some(Content::Dead(None))
        );
        match found {
            Identity::Dead(letter) if is_new => self.learn(life, offset, letter),
            _ => Ok(()),
        }
    }

    fn learn(&mut self, life: Life, offset: u64, letter: &DeadLetter) -> Result<(), Violation> {
        if !self.model.is_rotten {
            dead_letters::justified(letter, &self.model.spent)?;
        }
        self.tally.dead_letters += 1;
        self.model.learn(life, offset, letter);
        Ok(())
    }

    /// Whether a message may be delivered to this consumer now.
    fn may_come(
        &self,
        life: Life,
        group: &str,
        offset: u64,
        consumer: u64,
        attempt: u32,
    ) -> Result<(), Violation> {
        let Some(queue) = self.model.queues.get(&life) else {
            return Ok(());
        };
        let Some(entry) = queue.entries.get(&offset) else {
            return Ok(());
        };
        synced_first::check(queue, offset, entry)?;
        removed_stays_removed::delivered(queue, offset)?;
        let Some(model) = queue.groups.get(group) else {
            return Err(progress::stuck(format!("group '{group}' is not there")));
        };
        let is_again = queue.is_dead_letters || queue.moved_groups.contains(group);
        if let (Some(tag), false) = (entry.content.tag(), is_again) {
            let place = Place {
                queue: queue.name.clone(),
                group: group.to_owned(),
                offset,
            };
            dead_letters::not_again(&self.model.gone, place, tag)?;
        }
        let known = model.progress.get(&offset).copied().unwrap_or_default();
        acked_stays_acked::check(&known, offset)?;
        one_holder::check(&known, offset, consumer, self.now_ms)?;
        group_order::check(queue, model, offset, consumer, self.active(life, group))?;
        attempts::check(
            &known,
            offset,
            attempt,
            queue.settings.deliver_max,
            self.now_ms,
        )
    }

    /// The consumer of a group that came first.
    fn active(&self, life: Life, group: &str) -> Option<u64> {
        let mut of_group = self
            .consumers
            .iter()
            .filter(|(_, c)| c.life == life && c.group == group);
        of_group.next().map(|(consumer, _)| *consumer)
    }

    /// Notes how many dead letters were appended since the last look.
    pub(crate) fn note_dead_letters(&mut self) -> Result<(), Violation> {
        let next = self.shard.queue(DEAD_LETTER).map_or(0, |v| v.next_offset);
        let life = self.model.live(DEAD_LETTER);
        if let Some(queue) = life.and_then(|life| self.model.queues.get_mut(&life)) {
            for offset in self.dead_next..next {
                queue.append(offset, Content::Dead(None))?;
            }
        }
        if next > self.dead_next {
            self.trace
                .line(format!("dead letters {}..{next}", self.dead_next));
        }
        self.dead_next = next;
        Ok(())
    }

    /// Reads the dead letters that were committed and not seen yet: through the shard, or where a
    /// group has let go of them already, or the shard cannot read now, from the disk.
    fn learn_dead_letters(&mut self) -> Result<(), Violation> {
        let mut last = None;
        while let Some((life, offset)) = self.unseen_dead_letter()
            && last != Some(offset)
        {
            last = Some(offset);
            let Ok((peeked, _)) = self.shard.peek(DEAD_LETTER, offset, 64) else {
                break;
            };
            for message in peeked {
                self.served(life, message.offset, &identify(&message.body))?;
            }
        }
        if self.model.is_rotten {
            return Ok(());
        }
        if let Some((life, offset)) = self.unseen_dead_letter() {
            self.learn_from_disk(life, offset..u64::MAX)?;
        }
        match self.unseen_dead_letter() {
            None => Ok(()),
            Some((_, offset)) => Err(Violation::new(
                "nothing_lost",
                format!("dead letter {offset} was synced and is not on the disk"),
            )),
        }
    }

    /// The first dead letter that was committed and that nobody has seen.
    fn unseen_dead_letter(&self) -> Option<(Life, u64)> {
        let life = self.model.live(DEAD_LETTER)?;
        let entries = &self.model.queues.get(&life)?.entries;
        let mut unseen = entries
            .iter()
            .filter(|(_, e)| e.is_confirmed && e.content == Content::Dead(None));
        unseen.next().map(|(offset, _)| (life, *offset))
    }

    /// Looks on the disk for dead letters that nobody has seen.
    pub(crate) fn learn_from_disk(
        &mut self,
        life: Life,
        offsets: Range<u64>,
    ) -> Result<(), Violation> {
        let mut found = Vec::new();
        self.entries_on_disk(Some(life), offsets.clone(), &mut |shown| {
            let header = &shown.header;
            if header.kind != EntryKind::Messages || !shown.intact {
                return;
            }
            let slab = Slab::parse(Bytes::copy_from_slice(shown.payload));
            let bodies = slab.iter().flat_map(Slab::bodies);
            found.extend((header.first_offset..).zip(bodies.map(|body| identify(&body))));
        })?;
        for (offset, found) in found {
            let queue = self.model.queues.get(&life);
            let entry = queue.and_then(|q| q.entries.get(&offset));
            let is_unseen = entry.is_some_and(|e| e.content == Content::Dead(None));
            if is_unseen && offsets.contains(&offset) {
                self.trace
                    .line(format!("dead letter {offset} is on the disk"));
                self.served(life, offset, &found)?;
            }
        }
        Ok(())
    }

    /// Takes leave of what the queues durably let go of.
    fn release(&mut self) -> Result<(), Violation> {
        for view in self.shard.queues() {
            let Some(life) = self.model.live(&view.name) else {
                continue;
            };
            let Some(queue) = self.model.queues.get_mut(&life) else {
                continue;
            };
            if self.model.is_rotten {
                queue.released_below = queue.released_below.max(view.first_offset);
                continue;
            }
            let owed = queue.release(view.first_offset)?;
            dead_letters::owed(&self.model.dead, &owed)?;
        }
        Ok(())
    }

    /// Everything was acked and every job has run: what is left on the disk?
    pub(crate) fn look_at_space(&mut self) -> Result<(), Violation> {
        let used = self.shard.log_mut().space_used();
        let dirs = self.disk.read_dir(&dir().join(Path::new("queues")));
        let durable = self.model.queues.values().filter(|q| q.is_durable).count();
        // One whose making failed on a full disk, and its undoing too, stays until the next open.
        let durable = durable + self.model.maybe.len();
        let options = log_options(0);
        let files_low = options.wal_bytes_low / options.file_bytes;
        let dirs = dirs.unwrap_or_default();
        space_returns::check(used, files_low, &dirs, durable)?;
        memory_bounded::cache(self.cached_bytes(), 0)
    }
}
