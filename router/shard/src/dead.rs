//! Messages that could not be processed: to the dead letters, each with its reason.
//!
//! Invariant: the copies and the ack of the originals are one set of the log. So a crash never
//! leaves a message in neither place, nor in both; what cannot be moved now waits and is tried
//! again.

use std::sync::Arc;

use waypost_core::group::Attempted;
use waypost_core::journal::Entry;
use waypost_core::pipeline::with_reasons;
use waypost_log::{AppendError, Vfs};
use waypost_wire::Slab;
use waypost_wire::data::{Outcome, Range};
use waypost_wire::slab::SlabBuilder;

use crate::deliver::Found;
use crate::publish::Part;
use crate::{Now, PublishError, Shard, SlotId};

/// How long a message waits that should go to the dead letters and cannot, in ms.
const RETRY_MS: u64 = 1000;
/// Bytes of the copies of one set, unless it is one message: a batch, as from a publisher.
const SET_BYTES_MAX: usize = waypost_wire::BATCH_BYTES_MAX;

/// Why messages stay where they are for now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stay {
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Ack(#[from] AppendError),
}

/// What one set takes, and what must wait.
#[derive(Default)]
pub(crate) struct Sorted {
    pub copies: Slab,
    pub moved: Vec<Attempted>,
    pub later: Vec<Attempted>,
}

impl<V: Vfs> Shard<V> {
    /// Moves messages that were taken from a consumer to the dead letters.
    pub(crate) fn dead_letter(
        &mut self,
        now: Now,
        id: SlotId,
        group: &str,
        taken: Vec<Attempted>,
        reason: &str,
    ) {
        let Some(slot) = self.slots.get_mut(&id).filter(|_| !taken.is_empty()) else {
            return;
        };
        let is_last_stop = slot.queue.name() == waypost_core::DEAD_LETTER;
        let Some(group_id) = slot.queue.group_mut(group).map(|named| named.id) else {
            return;
        };
        let mut sorted = match is_last_stop {
            // A dead letter that is rejected is done with: there is no place behind it.
            true => Sorted {
                moved: taken,
                ..Sorted::default()
            },
            false => self.sort(id, group, taken, reason),
        };
        let mut ranges: Vec<Range> = sorted.moved.iter().map(|a| a.range).collect();
        ranges.sort_unstable();
        let count: u64 = ranges.iter().map(|r| r.count()).sum();
        let entry = Entry::Acked {
            id: group_id,
            ranges,
        };
        if count > 0 {
            let entries = self.with_receipts(id, entry, Outcome::DeadLettered);
            match self.move_set(now, id, &entries, &sorted.copies) {
                Ok(()) => {
                    self.counters.dead_lettered += count;
                    if let Some(slot) = self.slots.get_mut(&id) {
                        slot.dead_lettered += count;
                    }
                    self.moved.insert(id);
                    self.sync_soon(id, now);
                    self.has_all_receipts(id, &entries);
                }
                Err(error) => {
                    tracing::warn!(group, %error, "dead letters cannot be written yet");
                    sorted.later.append(&mut sorted.moved);
                }
            }
        }
        let Sorted { moved, later, .. } = sorted;
        if moved.is_empty() || later.is_empty() {
            return self.settle(now, id, group, &moved, later);
        }
        // The set was full; the next one takes more, until the log has no room.
        self.settle(now, id, group, &moved, Vec::new());
        self.dead_letter(now, id, group, later, reason);
    }

    /// Appends the ack of the originals, its receipts, and their copies: all or nothing.
    pub(crate) fn move_set(
        &mut self,
        now: Now,
        id: SlotId,
        entries: &[Entry],
        copies: &Slab,
    ) -> Result<(), Stay> {
        if copies.is_empty() {
            self.journal_set(id, entries, now);
            return Ok(());
        }
        let parts = [Part::new(self.dead_letters_of(id), copies.clone()).timed(false)];
        self.make_place(now, &parts)?;
        let mark = self.log.mark();
        if let Some(incarnation) = self.incarnation_of(id) {
            let mut each = entries.iter();
            let written = each.try_for_each(|e| self.log.append_state(incarnation, &e.encode()));
            if let Err(error) = written {
                self.log.rollback(mark);
                return Err(error.into());
            }
        }
        if let Err(error) = self.append_placed(now, &parts) {
            self.log.rollback(mark);
            return Err(error.into());
        }
        Ok(())
    }

    /// The queue that takes a queue's dead letters.
    /// The node's own where the one that its settings name cannot.
    pub(crate) fn dead_letters_of(&self, id: SlotId) -> Arc<str> {
        let node = waypost_core::DEAD_LETTER;
        let Some(slot) = self.slots.get(&id) else {
            return node.into();
        };
        let (queue, wanted) = (slot.queue.name(), &slot.queue.settings().dead_letter);
        if wanted == node || self.takes_dead_letters(queue, wanted) {
            return wanted.as_str().into();
        }
        tracing::warn!(queue, wanted, "no such durable queue for its dead letters");
        node.into()
    }

    /// Makes copies until a set is full, the log has no more room, or a message cannot be read.
    pub(crate) fn sort(
        &mut self,
        id: SlotId,
        group: &str,
        taken: Vec<Attempted>,
        reason: &str,
    ) -> Sorted {
        let queue = self
            .slots
            .get(&id)
            .map(|s| s.queue.name().to_owned())
            .unwrap_or_default();
        let mut slab = SlabBuilder::new();
        let mut sorted = Sorted::default();
        let mut is_full = false;
        for attempted in taken {
            let Range { first, last } = attempted.range;
            let attempts = attempted.attempt.to_string();
            let mut end = first;
            while end <= last && !is_full {
                let body = match self.chunk_at(id, "", end) {
                    Found::Chunk(chunk) => {
                        chunk.slab.bodies().nth((end - chunk.first_offset) as usize)
                    }
                    // It is damaged, which was told, or there is none.
                    Found::Nothing { .. } => None,
                    Found::Unreadable => {
                        is_full = true;
                        break;
                    }
                };
                let place = end.to_string();
                let reasons = [
                    ("waypost-dead-reason", reason),
                    ("waypost-dead-queue", &queue),
                    ("waypost-dead-offset", &place),
                    ("waypost-dead-group", group),
                    ("waypost-dead-attempts", &attempts),
                ];
                if let Some(copy) = body.map(|body| with_reasons(&body, &reasons)) {
                    let bytes = slab.len() + copy.len();
                    let fits = bytes <= SET_BYTES_MAX && self.log.has_room_for(bytes as u64 + 256);
                    if !fits && !slab.is_empty() {
                        is_full = true;
                        break;
                    }
                    slab.push(&copy);
                }
                end += 1;
            }
            let part = |first, last| Attempted {
                range: Range { first, last },
                ..attempted
            };
            if end > first {
                sorted.moved.push(part(first, end - 1));
            }
            if end <= last {
                sorted.later.push(part(end, last));
            }
        }
        self.forget_ahead(id);
        sorted.copies = slab.finish();
        sorted
    }

    /// Counts as acked what was moved; the rest waits, at the attempt that it had.
    fn settle(
        &mut self,
        now: Now,
        id: SlotId,
        group: &str,
        moved: &[Attempted],
        later: Vec<Attempted>,
    ) {
        let named = self
            .slots
            .get_mut(&id)
            .and_then(|s| s.queue.group_mut(group));
        if let Some(named) = named {
            named.group.settle(moved);
            let before = |a: Attempted| Attempted {
                attempt: a.attempt.saturating_sub(1),
                ..a
            };
            let due = Some(now.mono_ms + RETRY_MS);
            named
                .group
                .put_back(later.into_iter().map(before).collect(), |_| due);
        }
        self.set_timer(id);
    }
}
