//! Queues at their limits whose oldest messages make room.
//!
//! Invariants:
//! - what is dropped is told to the log in the group that holds what made it go, as one position:
//!   the work does not grow with how much goes;
//! - what goes to the dead letters is there in the same set of the log that takes it from its
//!   queue; one publish moves [`SET_BYTES_MAX`] at most;
//! - a dead-letter queue that is full refuses the publisher: nothing is dropped instead.

use waypost_core::journal::Entry;
use waypost_core::pipeline::with_reasons;
use waypost_core::queue::{AtLimit, Over};
use waypost_log::Vfs;
use waypost_wire::Slab;
use waypost_wire::data::{Outcome, Range};
use waypost_wire::slab::SlabBuilder;

use crate::deliver::Found;
use crate::publish::Part;
use crate::slot::Slot;
use crate::{Now, Output, PublishError, Shard, SlotId};

/// Bytes of dead letters that one publish makes at most, unless it is one message: a batch.
const SET_BYTES_MAX: usize = waypost_wire::BATCH_BYTES_MAX;

impl<V: Vfs> Shard<V> {
    /// Before parts are admitted: moves the oldest messages of full queues to the dead letters,
    /// where that is what makes room. Where those are full, nothing moves, and the parts are
    /// refused.
    pub(crate) fn make_place(&mut self, now: Now, parts: &[Part]) -> Result<(), PublishError> {
        for (index, part) in parts.iter().enumerate() {
            let Some(id) = self.slot_of(&part.queue) else {
                continue;
            };
            let Some(slot) = self.slots.get(&id) else {
                continue;
            };
            let makes_room = slot.queue.settings().at_limit == AtLimit::DeadLetter;
            let is_again = || parts[..index].iter().any(|other| other.queue == part.queue);
            if !makes_room || self.is_making_room || is_again() {
                continue;
            }
            let same = parts.iter().filter(|other| other.queue == part.queue);
            let (count, bytes) = same.fold((0, 0), |(count, bytes), part| {
                let slab = &part.slab;
                (
                    count + u64::from(slab.count()),
                    bytes + slab.bytes().len() as u64,
                )
            });
            let Some(below) = slot.below_limit(slot.queue.over(count, bytes)) else {
                continue;
            };
            self.is_making_room = true;
            let moved = self.dead_letter_oldest(now, id, below);
            self.is_making_room = false;
            match moved {
                Err(PublishError::Refused(_)) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// After an append: the oldest messages of queues above their limits go. What was just appended
    /// is part of the queue, so a batch larger than the limit leaves its last messages.
    pub(crate) fn drop_oldest(&mut self, ids: &[SlotId]) {
        for id in ids {
            let Some(slot) = self.slots.get(id) else {
                continue;
            };
            if slot.queue.settings().at_limit != AtLimit::DropOldest {
                continue;
            }
            if let Some(below) = slot.below_limit(slot.queue.over(0, 0)) {
                // The newest stays, whatever the bytes of a stretch are taken for.
                let newest = slot.queue.next().saturating_sub(1);
                self.let_go_below(*id, below.min(newest));
            }
        }
    }

    /// Lets go of everything below an offset now; the log is told with the next commit.
    fn let_go_below(&mut self, id: SlotId, below: u64) {
        self.release_below(id, below);
        self.receipts_lost(id, &below_range(below), Outcome::Dropped);
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let Some(gone) = slot.queue.truncate(below) else {
            return;
        };
        slot.dropped += gone.messages;
        slot.dropped_unacked += gone.unacked;
        self.counters.dropped += gone.messages;
        if gone.unacked > 0 {
            self.dropping.insert(id);
        }
        self.freed_below(id);
    }

    /// What consumers hold below an offset does not count against them any more.
    fn release_below(&mut self, id: SlotId, below: u64) {
        let Some(slot) = self.slots.get(&id) else {
            return;
        };
        let groups = slot.queue.groups().values();
        let range = Range {
            first: 0,
            last: below.saturating_sub(1),
        };
        let held: Vec<_> = groups.flat_map(|g| g.group.holders(range)).collect();
        for (consumer, count) in held {
            self.release(consumer, count);
        }
    }

    /// A queue begins later than it did: gives back what lies before that.
    fn freed_below(&mut self, id: SlotId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            let freed = slot.tail.trim(slot.queue.first(), &mut self.cache);
            slot.queue.freed(freed);
        }
        self.moved.insert(id);
        self.ready.insert(id);
    }

    /// Copies the oldest messages to the dead letters and lets go of them: both, or neither.
    fn dead_letter_oldest(&mut self, now: Now, id: SlotId, below: u64) -> Result<(), PublishError> {
        let (copies, below) = self.copy_oldest(id, below);
        let mark = self.log.mark();
        if let Some(incarnation) = self.incarnation_of(id) {
            let entry = Entry::Truncated { below };
            self.log
                .append_state(incarnation, &entry.encode())
                .map_err(PublishError::NoRoom)?;
        }
        let moved = u64::from(copies.count());
        if moved > 0 {
            let part = Part::new(self.dead_letters_of(id), copies).timed(false);
            if let Err(error) = self.append_placed(now, &[part]) {
                self.log.rollback(mark);
                return Err(error);
            }
        }
        self.release_below(id, below);
        self.receipts_lost(id, &below_range(below), Outcome::DeadLettered);
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.queue.truncate(below);
            slot.dead_lettered += moved;
        }
        self.counters.dead_lettered += moved;
        self.freed_below(id);
        self.sync_soon(id, now);
        Ok(())
    }

    /// Copies of what lies below an offset and is not done with, as much as one set takes; and how
    /// far that went.
    fn copy_oldest(&mut self, id: SlotId, below: u64) -> (Slab, u64) {
        let Some(slot) = self.slots.get(&id) else {
            return (Slab::default(), below);
        };
        let (queue, mut offset) = (slot.queue.name().to_owned(), slot.queue.first());
        let mut slab = SlabBuilder::new();
        while offset < below {
            let is_needless = self.slots.get(&id).is_none_or(|slot| {
                slot.queue.gone().contains(offset) || slot.queue.is_done_with(offset)
            });
            if is_needless {
                offset += 1;
                continue;
            }
            let body = match self.chunk_at(id, "", offset) {
                Found::Chunk(chunk) => {
                    let index = (offset - chunk.first_offset) as usize;
                    chunk.slab.bodies().nth(index)
                }
                Found::Nothing { until } => {
                    offset = until.clamp(offset + 1, below);
                    continue;
                }
                Found::Unreadable => break,
            };
            let place = offset.to_string();
            let reasons = [
                ("waypost-dead-reason", "the oldest of a queue at its limit"),
                ("waypost-dead-queue", queue.as_str()),
                ("waypost-dead-offset", place.as_str()),
            ];
            if let Some(copy) = body.map(|body| with_reasons(&body, &reasons)) {
                let bytes = slab.len() + copy.len();
                let fits = bytes <= SET_BYTES_MAX && self.log.has_room_for(bytes as u64 + 256);
                if !fits && !slab.is_empty() {
                    break;
                }
                slab.push(&copy);
            }
            offset += 1;
        }
        self.forget_ahead(id);
        (slab.finish(), offset)
    }

    /// Says which queues let go of messages that a group had not acked.
    pub(crate) fn tell_dropped(&mut self) {
        for id in std::mem::take(&mut self.dropping) {
            if let Some(slot) = self.slots.get(&id) {
                self.outputs.push(Output::Dropped {
                    queue: slot.queue.name().to_owned(),
                    messages: slot.dropped_unacked,
                });
            }
        }
    }
}

/// All below an offset.
fn below_range(below: u64) -> Vec<Range> {
    let last = below.checked_sub(1);
    last.map(|last| Range { first: 0, last })
        .into_iter()
        .collect()
}

impl Slot {
    /// The offset below which messages must go.
    fn below_limit(&self, over: Over) -> Option<u64> {
        if over == Over::default() {
            return None;
        }
        let by_count = self.queue.end_of_oldest(over.messages);
        let by_bytes = self.tail.end_of_bytes(over.bytes);
        Some(by_count.max(by_bytes).min(self.queue.next()))
    }
}
