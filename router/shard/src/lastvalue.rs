//! Queues that keep only the newest message of each key.
//!
//! Invariant: a message and the removal of the one that it replaces are one set of the log. What a
//! consumer holds is removed too: its ack is then about nothing.

use std::collections::BTreeMap;

use waypost_core::journal::Entry;
use waypost_log::{AppendError, Vfs};
use waypost_wire::data::{Outcome, Range};
use waypost_wire::ranges::RangeSet;
use waypost_wire::{Slab, peek};

use crate::deliver::Found;
use crate::{Now, Shard, SlotId};

/// Messages that one step looks at after a start.
const STEP_MESSAGES_MAX: u64 = 1024;
/// How long a step waits for a disk that does not answer, in ms.
const RETRY_MS: u64 = 1000;

/// What a set of messages replaces, until it is certain that the log takes the set.
#[derive(Debug, Default)]
pub(crate) struct Replaced {
    gone: BTreeMap<SlotId, RangeSet>,
    /// What the index said before of a queue's key.
    before: Vec<(SlotId, Vec<u8>, Option<u64>)>,
}

impl<V: Vfs> Shard<V> {
    /// The records of `slab` get offsets from `first_offset` on: journals what they replace.
    pub(crate) fn replace_older(
        &mut self,
        id: SlotId,
        first_offset: u64,
        slab: &Slab,
        replaced: &mut Replaced,
    ) -> Result<(), AppendError> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(());
        };
        let (Some(values), queue) = (&mut slot.last_values, &slot.queue) else {
            return Ok(());
        };
        let mut gone = RangeSet::new();
        for (offset, body) in (first_offset..).zip(slab) {
            let Some(key) = peek::key(body) else {
                continue;
            };
            let older = values.put(key, offset);
            replaced.before.push((id, key.to_vec(), older));
            let is_there = |older: &u64| *older >= queue.first() && !queue.gone().contains(*older);
            if let Some(older) = older.filter(is_there) {
                gone.insert(Range::one(older));
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        let ranges: Vec<Range> = gone.iter().collect();
        if let Some(incarnation) = slot.incarnation {
            let entry = Entry::Removed {
                ranges: ranges.clone(),
            };
            self.log.append_state(incarnation, &entry.encode())?;
        }
        let all = replaced.gone.entry(id).or_default();
        ranges.into_iter().for_each(|range| all.insert(range));
        Ok(())
    }

    /// The set is in the log.
    pub(crate) fn replaced(&mut self, replaced: Replaced) {
        for (id, gone) in replaced.gone {
            let ranges: Vec<Range> = gone.iter().collect();
            self.receipts_lost(id, &ranges, Outcome::Dropped);
            self.counters.replaced += self.forget_messages(id, &ranges);
            let Some(slot) = self.slots.get_mut(&id) else {
                continue;
            };
            let (queue, values) = (&slot.queue, &mut slot.last_values);
            if let Some(values) = values {
                let is_there = |offset| offset >= queue.first() && !queue.gone().contains(offset);
                values.prune(queue.messages(), is_there);
            }
        }
    }

    /// The log did not take the set.
    pub(crate) fn not_replaced(&mut self, replaced: Replaced) {
        for (id, key, before) in replaced.before.into_iter().rev() {
            let slot = self.slots.get_mut(&id);
            if let Some(values) = slot.and_then(|s| s.last_values.as_mut()) {
                values.undo(&key, before);
            }
        }
    }

    /// One step over the messages that were there before the node started. Gives how long to wait
    /// for the next one, in ms.
    pub(crate) fn find_keys(&mut self, id: SlotId, now: Now) -> Option<u64> {
        let slot = self.slots.get(&id)?;
        let (next, end) = slot.last_values.as_ref()?.unseen()?;
        let mut offset = next.max(slot.queue.first());
        let stop = end.min(offset + STEP_MESSAGES_MAX);
        let mut gone: Vec<Range> = Vec::new();
        let mut wait = 1;
        while offset < stop {
            let slot = self.slots.get(&id)?;
            if let Some(range) = slot.queue.gone().covering(offset) {
                offset = range.last + 1;
                continue;
            }
            let chunk = match self.chunk_at(id, "", offset) {
                Found::Chunk(chunk) => chunk,
                Found::Nothing { until } => {
                    offset = until.max(offset + 1);
                    continue;
                }
                Found::Unreadable => {
                    wait = RETRY_MS;
                    break;
                }
            };
            let slot = self.slots.get_mut(&id)?;
            let values = slot.last_values.as_mut()?;
            let skip = (offset - chunk.first_offset) as usize;
            for body in chunk.slab.iter().skip(skip) {
                let is_gone = offset >= end || slot.queue.gone().contains(offset);
                let key = peek::key(body).filter(|_| !is_gone);
                let older = key.and_then(|key| values.found(key, offset));
                gone.extend(older.map(Range::one));
                offset += 1;
            }
        }
        self.forget_ahead(id);
        let values = self.slots.get_mut(&id)?.last_values.as_mut()?;
        values.seen(offset);
        let is_more = values.unseen().is_some();
        if !gone.is_empty() {
            self.counters.replaced += self.drop_messages(id, &gone, Outcome::Dropped, now);
        }
        is_more.then_some(wait)
    }
}
