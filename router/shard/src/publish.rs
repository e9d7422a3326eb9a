//! Messages into queues: what is taken of a batch is one set of the log, all of it or nothing.
//! [`crate::intake`] decides what is taken.

use std::sync::Arc;

use waypost_core::journal::Entry;
use waypost_core::queue::{Durability, Refusal};
use waypost_log::{AppendError, Messages, Vfs};
use waypost_wire::data::Level;
use waypost_wire::{Code, Slab};

use crate::slot::Slot;
use crate::timed;
use crate::{Accepted, Now, Output, Shard, SlotId, Ticket};

/// Records for one queue.
#[derive(Clone, Debug)]
pub struct Part {
    /// The queue's name.
    pub queue: Arc<str>,
    /// The records.
    pub slab: Slab,
    /// For each record, which input of the batch it comes from, not descending; empty where record
    /// and input have the same number.
    pub inputs: Vec<u32>,
    /// Whether some record may say when it may be delivered, or until when. `true` costs a look at
    /// each.
    pub is_timed: bool,
}

impl Part {
    /// Records of which each is the input with its number.
    pub fn new(queue: Arc<str>, slab: Slab) -> Part {
        Part {
            queue,
            slab,
            inputs: Vec::new(),
            is_timed: true,
        }
    }

    /// The same, where it is known whether some record says when it may be delivered.
    pub fn timed(self, is_timed: bool) -> Part {
        Part { is_timed, ..self }
    }

    /// Which input a record comes from.
    pub fn input(&self, record: u32) -> u32 {
        self.inputs.get(record as usize).copied().unwrap_or(record)
    }

    /// The part with the records that `keep` says yes to; `None` where there are none.
    pub fn keep(&self, keep: impl Fn(u32) -> bool) -> Option<Part> {
        let slab = self.slab.keep(&keep);
        let kept = (0..self.slab.count()).filter(|index| keep(*index));
        (!slab.is_empty()).then(|| Part {
            queue: self.queue.clone(),
            inputs: kept.map(|index| self.input(index)).collect(),
            is_timed: self.is_timed,
            slab,
        })
    }
}

/// What a publisher sent together, with all that it caused.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Comes back in [`Output::Accepted`].
    pub ticket: Ticket,
    /// The publisher's sequence of the first input; exceptions count from it.
    pub first_sequence: u64,
    /// How many inputs.
    pub count: u32,
    /// What goes into queues.
    pub parts: Vec<Part>,
    /// All inputs are taken, or none.
    pub is_whole: bool,
}

/// Why nothing of a batch was taken, or an input was not.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A route leads to a queue that is not there.
    #[error("queue '{0}' does not exist")]
    NoQueue(Arc<str>),
    /// A queue is at its limit.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The log has no room now: commit, run its jobs, answer its snapshots, then try again.
    #[error("no room in the log: {0}")]
    NoRoom(AppendError),
    /// The log takes nothing any more, or not this.
    #[error(transparent)]
    Log(AppendError),
}

impl PublishError {
    /// The code to answer with.
    pub fn code(&self) -> Code {
        match self {
            PublishError::NoQueue(_) => Code::NotFound,
            PublishError::Refused(refusal) => refusal.code(),
            PublishError::NoRoom(_) => Code::DiskFull,
            PublishError::Log(AppendError::GroupFull { .. }) => Code::TooLarge,
            PublishError::Log(_) => Code::Internal,
        }
    }
}

impl<V: Vfs> Shard<V> {
    /// Appends what the queues take, all parts of each input or none. [`Output::Accepted`] follows
    /// and says what was refused, after the next commit where a part must be synced. After an error
    /// nothing was taken, and nothing follows.
    pub fn publish(&mut self, now: Now, batch: &Batch) -> Result<(), PublishError> {
        let taken = self.sort_out(batch)?;
        let (ids, exceptions) = (taken.ids, taken.exceptions);
        self.append_all(now, &taken.parts, &ids)?;
        let is_synced = |id: &SlotId| {
            let slot = self.slots.get(id);
            slot.is_some_and(|s| s.queue.settings().durability == Durability::Sync)
        };
        let level = if ids.iter().all(is_synced) {
            Level::Stored
        } else {
            Level::Received
        };
        let accepted = Accepted {
            ticket: batch.ticket,
            level,
            exceptions,
        };
        if ids.iter().any(is_synced) {
            self.waiting.push(accepted);
        } else {
            self.outputs.push(Output::Accepted(accepted));
        }
        Ok(())
    }

    /// Appends all parts, in one set; nobody waits for it.
    pub(crate) fn append_parts(
        &mut self,
        now: Now,
        parts: &[Part],
    ) -> Result<Vec<SlotId>, PublishError> {
        let ids = self.ids_of(parts)?;
        self.admit(parts, &ids)?;
        self.append_all(now, parts, &ids)?;
        Ok(ids)
    }

    fn append_all(&mut self, now: Now, parts: &[Part], ids: &[SlotId]) -> Result<(), PublishError> {
        let mark = self.log.mark();
        let was_empty = self.log.pending_bytes() == 0;
        let mut next: Vec<(SlotId, u64)> = Vec::with_capacity(parts.len());
        // For each part, the shortest time to live; nothing where no part is timed.
        let mut ttls: Vec<Option<u64>> = Vec::new();
        if parts.iter().any(|part| part.is_timed) {
            let look = |part: &Part| part.is_timed.then(|| timed::look(&part.slab)).flatten();
            ttls.extend(parts.iter().map(look));
        }
        for (index, (part, id)) in parts.iter().zip(ids).enumerate() {
            let Some(slot) = self.slots.get(id) else {
                continue;
            };
            let before = next
                .iter()
                .rev()
                .find(|(other, _)| other == id)
                .map(|(_, end)| *end);
            let first_offset = before.unwrap_or_else(|| slot.queue.next());
            next.push((*id, first_offset + u64::from(part.slab.count())));
            let Some(incarnation) = slot.incarnation else {
                continue;
            };
            let messages = Messages {
                epoch: 0,
                first_offset,
                count: part.slab.count(),
                time_ms: now.wall_ms,
            };
            let is_first_timed =
                ttls.get(index).is_some_and(Option::is_some) && !slot.queue.is_timed();
            let noted = match is_first_timed {
                true => self.log.append_state(incarnation, &Entry::Timed.encode()),
                false => Ok(()),
            };
            let slab = [part.slab.bytes()];
            let appended =
                noted.and_then(|()| self.log.append_messages(incarnation, messages, &slab));
            if let Err(error) = appended {
                self.log.rollback(mark);
                // A set that does not fit an empty group never will.
                let never = matches!(error, AppendError::GroupFull { .. }) && was_empty;
                return Err(match error.is_retryable() && !never {
                    true => PublishError::NoRoom(error),
                    false => PublishError::Log(error),
                });
            }
        }
        self.clock.observe(now.mono_ms, now.wall_ms);
        self.clock.stamp(now.wall_ms);
        for (index, (part, id)) in parts.iter().zip(ids).enumerate() {
            let ttl_ms = ttls.get(index).copied().flatten();
            if let Some(slot) = self.slots.get_mut(id) {
                let (cache, counters) = (&mut self.cache, &mut self.counters);
                Self::take_in(slot, *id, now, &part.slab, ttl_ms, cache, counters);
                self.appended.insert(*id);
            }
        }
        self.evict();
        Ok(())
    }

    fn take_in(
        slot: &mut Slot,
        id: SlotId,
        now: Now,
        slab: &Slab,
        ttl_ms: Option<u64>,
        cache: &mut crate::tail::Budget,
        counters: &mut crate::Counters,
    ) {
        let (count, bytes) = (u64::from(slab.count()), slab.bytes().len() as u64);
        let first_offset = slot.queue.append(count, bytes);
        slot.received.append(first_offset, now.mono_ms, now.wall_ms);
        if ttl_ms.is_some() {
            slot.queue.apply(&Entry::Timed);
        }
        slot.age_from(now, ttl_ms);
        slot.tail
            .push(first_offset, now.wall_ms, slab, ttl_ms.is_some(), cache);
        slot.published += count;
        if slot.incarnation.is_some() {
            cache.note(id, first_offset);
            counters.appended += count;
            counters.slab_bytes += bytes;
        }
    }

    /// Drops recent messages over the budget, the oldest first.
    pub(crate) fn evict(&mut self) {
        while let Some((id, first_offset)) = self.cache.over() {
            if let Some(slot) = self.slots.get_mut(&id) {
                // What is not committed can only be read from here.
                if first_offset >= slot.queue.visible() {
                    self.cache.note(id, first_offset);
                    return;
                }
                slot.tail.evict(first_offset, &mut self.cache);
            }
        }
    }
}
