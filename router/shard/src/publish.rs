//! Messages into queues: all parts of a publish, or none.

use std::sync::Arc;

use waypost_core::queue::{Durability, Refusal};
use waypost_log::{AppendError, Messages, Vfs};
use waypost_wire::data::Level;
use waypost_wire::{Code, Slab};

use crate::slot::Slot;
use crate::{Now, Output, Shard, SlotId, Ticket};

/// Records for one queue.
#[derive(Clone, Debug)]
pub struct Part {
    /// The queue's name.
    pub queue: Arc<str>,
    /// The records.
    pub slab: Slab,
}

/// Why a publish was not taken. Nothing of it was.
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
    /// Appends all parts, in one set. [`Output::Accepted`] follows, after the next commit where a
    /// part must be synced.
    pub fn publish(
        &mut self,
        now: Now,
        ticket: Ticket,
        parts: &[Part],
    ) -> Result<(), PublishError> {
        let ids = self.append_parts(now, parts)?;
        let is_synced = |id: &SlotId| {
            let slot = self.slots.get(id);
            slot.is_some_and(|s| s.queue.settings().durability == Durability::Sync)
        };
        let level = if ids.iter().all(is_synced) {
            Level::Stored
        } else {
            Level::Received
        };
        if ids.iter().any(is_synced) {
            self.waiting.push((ticket, level));
        } else {
            self.outputs.push(Output::Accepted { ticket, level });
        }
        Ok(())
    }

    /// Appends all parts, in one set; nobody waits for it.
    pub(crate) fn append_parts(
        &mut self,
        now: Now,
        parts: &[Part],
    ) -> Result<Vec<SlotId>, PublishError> {
        let mut ids = Vec::with_capacity(parts.len());
        for part in parts {
            let id = self
                .slot_of(&part.queue)
                .ok_or_else(|| PublishError::NoQueue(part.queue.clone()))?;
            ids.push(id);
        }
        self.admit(parts, &ids)?;
        self.append_all(now, parts, &ids)?;
        Ok(ids)
    }

    /// Two parts may name the same queue: each is admitted beside what the earlier ones add.
    fn admit(&self, parts: &[Part], ids: &[SlotId]) -> Result<(), PublishError> {
        for (index, id) in ids.iter().enumerate() {
            if ids[..index].contains(id) {
                continue;
            }
            let same = parts.iter().zip(ids).filter(|(_, other)| *other == id);
            let (count, bytes) = same.fold((0, 0), |(count, bytes), (part, _)| {
                (
                    count + u64::from(part.slab.count()),
                    bytes + part.slab.bytes().len() as u64,
                )
            });
            if let Some(slot) = self.slots.get(id) {
                slot.queue.admit(count, bytes)?;
            }
        }
        Ok(())
    }

    fn append_all(&mut self, now: Now, parts: &[Part], ids: &[SlotId]) -> Result<(), PublishError> {
        let mark = self.log.mark();
        let was_empty = self.log.pending_bytes() == 0;
        let mut next: Vec<(SlotId, u64)> = Vec::with_capacity(parts.len());
        for (part, id) in parts.iter().zip(ids) {
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
            if let Err(error) =
                self.log
                    .append_messages(incarnation, messages, &[part.slab.bytes()])
            {
                self.log.rollback(mark);
                // A set that does not fit an empty group never will.
                let never = matches!(error, AppendError::GroupFull { .. }) && was_empty;
                return Err(match error.is_retryable() && !never {
                    true => PublishError::NoRoom(error),
                    false => PublishError::Log(error),
                });
            }
        }
        for (part, id) in parts.iter().zip(ids) {
            if let Some(slot) = self.slots.get_mut(id) {
                Self::take_in(
                    slot,
                    *id,
                    now,
                    &part.slab,
                    &mut self.cache,
                    &mut self.counters,
                );
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
        cache: &mut crate::tail::Budget,
        counters: &mut crate::Counters,
    ) {
        let (count, bytes) = (u64::from(slab.count()), slab.bytes().len() as u64);
        let first_offset = slot.queue.append(count, bytes);
        slot.tail.push(first_offset, now.wall_ms, slab, cache);
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
