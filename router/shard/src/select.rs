//! Groups that take only some of a queue's messages: those whose topic a filter matches.
//!
//! What they do not take counts as acked when its turn comes. Nothing is journaled of it but the
//! floor, when it moves: after a restart it is passed over again.

use waypost_core::group::{Attempted, ConsumerId};
use waypost_log::Vfs;
use waypost_wire::data::{Outcome, Range};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Filter, Slab, peek};

use crate::deliver::{Picked, Room};
use crate::slot::Chunk;
use crate::{Now, Shard, SlotId};

/// A stretch of messages that a group takes, or passes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    range: Range,
    is_taken: bool,
}

/// What the filters make of the records of `part`, the first of which is at `first`: as many as a
/// consumer has room for, and what lies between them.
fn choose(part: &Slab, first: u64, filters: &[Filter], room: &Room) -> (Vec<Stretch>, Slab) {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut taken = SlabBuilder::new();
    for (offset, body) in (first..).zip(part) {
        // A body without a topic was never admitted; whoever reads it must see it.
        let is_taken = peek::topic(body).is_none_or(|t| filters.iter().any(|f| f.matches(t)));
        if is_taken {
            let is_full = u64::from(taken.count()) >= room.messages
                || (!taken.is_empty() && taken.len() + body.len() + 8 > room.bytes);
            if is_full {
                break;
            }
            taken.push(body);
        }
        match stretches.last_mut() {
            Some(last) if last.is_taken == is_taken => last.range.last = offset,
            _ => stretches.push(Stretch {
                range: Range::one(offset),
                is_taken,
            }),
        }
    }
    (stretches, taken.finish())
}

impl<V: Vfs> Shard<V> {
    #[expect(clippy::too_many_arguments, reason = "what a turn of a group knows")]
    /// Gives a consumer what its group's filters take of a run; says how many were passed over.
    pub(crate) fn hand_over_chosen(
        &mut self,
        now: Now,
        id: SlotId,
        group: &str,
        consumer: ConsumerId,
        room: &Room,
        run: Attempted,
        chunk: &Chunk,
    ) -> u64 {
        let named = self
            .slots
            .get_mut(&id)
            .and_then(|s| s.queue.group_mut(group));
        let Some(named) = named else {
            return 0;
        };
        let skip = (run.range.first - chunk.first_offset) as u32;
        let there = u64::from(chunk.slab.count() - skip).min(run.range.count()) as u32;
        let part = chunk.slab.slice(skip, there);
        let (stretches, slab) = choose(&part, run.range.first, &named.options.filters, room);
        let mut runs = Vec::with_capacity(stretches.len());
        let mut passed = Vec::with_capacity(stretches.len());
        for stretch in stretches {
            match stretch.is_taken {
                true => runs.push(Attempted {
                    range: stretch.range,
                    ..run
                }),
                false => passed.push(stretch.range),
            }
        }
        if !passed.is_empty() {
            named.group.remove(&passed);
        }
        for taken in &runs {
            named.group.lease(consumer, *taken, room.deadline);
        }
        if !passed.is_empty() {
            self.moved.insert(id);
            self.sync_soon(id, now);
            self.receipt(id, group, &passed, Outcome::Passed);
        }
        let picked = Picked {
            time_ms: chunk.time_ms,
            runs: &runs,
            slab,
        };
        self.send(id, consumer, picked);
        passed.iter().map(Range::count).sum()
    }
}
