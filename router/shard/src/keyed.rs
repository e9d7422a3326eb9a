//! Deliveries of `key` groups: each message to the consumer that has its key.
//!
//! A run of new messages is dealt out in one pass; what goes to the same consumer leaves in one
//! frame, its records copied together. What cannot go now is parked with its key, and read again
//! when its turn comes ([`waypost_core::keyed`] decides).

use waypost_core::group::{Attempted, ConsumerId};
use waypost_core::keyed;
use waypost_log::Vfs;
use waypost_wire::data::Range;
use waypost_wire::peek;
use waypost_wire::slab::SlabBuilder;

use crate::deliver::{Found, Picked, Room, Work};
use crate::slot::Chunk;
use crate::{Now, Shard, SlotId};

/// What one consumer gets of a chunk.
struct Picks {
    consumer: ConsumerId,
    room: Room,
    runs: Vec<Attempted>,
    slab: SlabBuilder,
}

impl Picks {
    fn new(consumer: ConsumerId, room: Room) -> Picks {
        Picks {
            consumer,
            room,
            runs: Vec::new(),
            slab: SlabBuilder::new(),
        }
    }

    /// Whether one more fits. The first one does, whatever its size: otherwise a large one would
    /// never go.
    fn fits(&self, body: &[u8]) -> bool {
        let count = u64::from(self.slab.count());
        let is_room = count
            < self
                .room
                .messages
                .min(waypost_wire::BATCH_MESSAGES_MAX as u64);
        is_room && (count == 0 || self.slab.len() + body.len() + 8 <= self.room.bytes)
    }

    fn push(&mut self, offset: u64, attempt: u32, body: &[u8]) {
        self.slab.push(body);
        match self.runs.last_mut() {
            Some(run) if run.range.last + 1 == offset && run.attempt == attempt => {
                run.range.last = offset;
            }
            _ => self.runs.push(Attempted {
                range: Range::one(offset),
                attempt,
            }),
        }
    }
}

impl<V: Vfs> Shard<V> {
    /// Gives the consumers of a `key` group what they have room for.
    pub(crate) fn deliver_keyed(&mut self, id: SlotId, group: &str, now: Now) {
        let mut work = Work::default();
        loop {
            while let Some(consumer) = self.next_woken(id, group) {
                if !self.hand_over_ready(id, group, consumer, now) {
                    return;
                }
            }
            let slot = self.slots.get_mut(&id);
            let Some(named) = slot.and_then(|s| s.queue.group_mut(group)) else {
                return;
            };
            if named.group.keys_mut().is_none_or(|keys| keys.is_full()) {
                return;
            }
            let Some((taker, _)) = self.next_consumer(id, group, now) else {
                return;
            };
            let Some(run) = self.next_run(id, group) else {
                return;
            };
            match self.chunk_at(id, group, run.range.first) {
                Found::Chunk(chunk) => {
                    if let Some(run) = self.sift(id, group, run, &chunk, now) {
                        work.passed += self.deal_out(now, id, group, taker, run, &chunk);
                    }
                }
                Found::Nothing { until } => {
                    let (first, last) = (run.range.first, run.range.last);
                    let last = last.min(until.saturating_sub(1)).max(first);
                    self.skip(id, group, Range { first, last });
                }
                Found::Unreadable => return,
            }
            if work.is_enough() {
                self.ready.insert(id);
                return;
            }
        }
    }

    fn next_woken(&mut self, id: SlotId, group: &str) -> Option<ConsumerId> {
        let named = self.slots.get_mut(&id)?.queue.group_mut(group)?;
        named.group.keys_mut()?.take_woken()
    }

    /// The next messages that nobody looked at for this group.
    fn next_run(&mut self, id: SlotId, group: &str) -> Option<Attempted> {
        let slot = self.slots.get_mut(&id)?;
        let run = slot
            .queue
            .next_run(group, waypost_wire::BATCH_MESSAGES_MAX as u64);
        if run.is_none()
            && let Some(members) = slot.members.get_mut(group)
        {
            members.read_ahead = Vec::new();
        }
        run
    }

    /// Deals a run out by key; what has none goes to `taker`. Says how many its filters passed over.
    fn deal_out(
        &mut self,
        now: Now,
        id: SlotId,
        group: &str,
        taker: ConsumerId,
        run: Attempted,
        chunk: &Chunk,
    ) -> u64 {
        let Some(slot) = self.slots.get_mut(&id) else {
            return 0;
        };
        let Some(named) = slot.queue.group_mut(group) else {
            return 0;
        };
        let (first, filters) = (run.range.first, &named.options.filters);
        let mut passed: Vec<Range> = Vec::new();
        let mut dealt: Vec<Picks> = Vec::new();
        let skip = (first - chunk.first_offset) as usize;
        let bodies = chunk.slab.iter().skip(skip);
        for (offset, body) in (first..=run.range.last).zip(bodies) {
            let is_taken = filters.is_empty()
                || peek::topic(body).is_none_or(|t| filters.iter().any(|f| f.matches(t)));
            if !is_taken {
                named.group.claim(Range::one(offset));
                passed.push(Range::one(offset));
                continue;
            }
            let key = peek::key(body).map(keyed::hash);
            let Some(keys) = named.group.keys_mut() else {
                break;
            };
            let wanted = match key {
                Some(key) => keys.taker(key),
                None => Some(taker),
            };
            let room = |consumer| self.consumers.get(&consumer)?.room(&self.options, now);
            let picks = wanted.and_then(|consumer| picks_of(&mut dealt, consumer, room));
            match (picks.filter(|picks| picks.fits(body)), key) {
                (Some(picks), key) => {
                    if let Some(key) = key {
                        keys.given(offset, key, picks.consumer);
                    }
                    let attempt = named.group.claim(Range::one(offset));
                    picks.push(offset, attempt, body);
                }
                (None, Some(key)) if !keys.is_full() => {
                    let attempt = named.group.claim(Range::one(offset));
                    named.group.park(offset, attempt, key);
                }
                // Another turn begins here, when there is room.
                (None, _) => break,
            }
        }
        if !passed.is_empty() {
            named.group.remove(&passed);
            self.moved.insert(id);
            self.sync_soon(id, now);
        }
        for picks in dealt {
            self.send_picks(id, group, chunk.time_ms, picks);
        }
        passed.len() as u64
    }

    /// Gives a consumer what is parked for it; says whether it could be read.
    fn hand_over_ready(&mut self, id: SlotId, group: &str, consumer: ConsumerId, now: Now) -> bool {
        while let Some(room) = self.room_of(consumer, now)
            && let Some((first, _)) = self.next_parked(id, group, consumer)
        {
            let chunk = match self.chunk_at(id, group, first) {
                Found::Chunk(chunk) => chunk,
                Found::Nothing { .. } => {
                    self.skip(id, group, Range::one(first));
                    continue;
                }
                Found::Unreadable => {
                    let slot = self.slots.get_mut(&id);
                    let named = slot.and_then(|s| s.queue.group_mut(group));
                    if let Some(keys) = named.and_then(|n| n.group.keys_mut()) {
                        keys.wake(consumer);
                    }
                    return false;
                }
            };
            let mut picks = Picks::new(consumer, room);
            while let Some((offset, key)) = self.next_parked(id, group, consumer)
                && (chunk.first_offset..chunk.end()).contains(&offset)
                && let Some(body) = chunk
                    .slab
                    .iter()
                    .nth((offset - chunk.first_offset) as usize)
                && picks.fits(body)
            {
                let range = Range::one(offset);
                let slot = self.slots.get(&id);
                let named = slot.and_then(|s| s.queue.groups().get(group));
                let attempt = named.map_or(1, |n| n.group.parked_attempt(offset));
                let run = Attempted { range, attempt };
                if self.sift(id, group, run, &chunk, now).is_none() {
                    continue;
                }
                let slot = self.slots.get_mut(&id);
                let Some(named) = slot.and_then(|s| s.queue.group_mut(group)) else {
                    return true;
                };
                named.group.claim(range);
                if let Some(keys) = named.group.keys_mut() {
                    keys.given(offset, key, consumer);
                }
                picks.push(offset, attempt, body);
            }
            self.send_picks(id, group, chunk.time_ms, picks);
        }
        true
    }

    fn room_of(&self, consumer: ConsumerId, now: Now) -> Option<Room> {
        self.consumers.get(&consumer)?.room(&self.options, now)
    }

    fn next_parked(
        &mut self,
        id: SlotId,
        group: &str,
        consumer: ConsumerId,
    ) -> Option<(u64, keyed::KeyHash)> {
        let named = self.slots.get_mut(&id)?.queue.group_mut(group)?;
        named.group.keys_mut()?.ready(consumer)
    }

    fn send_picks(&mut self, id: SlotId, group: &str, time_ms: u64, mut picks: Picks) {
        let slot = self.slots.get_mut(&id);
        if let Some(named) = slot.and_then(|s| s.queue.group_mut(group)) {
            for run in &picks.runs {
                named.group.give(picks.consumer, *run, picks.room.deadline);
            }
        }
        let picked = Picked {
            time_ms,
            runs: &picks.runs,
            slab: picks.slab.finish(),
        };
        self.send(id, picks.consumer, picked);
    }
}

/// A consumer's part of what is dealt out, if it has room for any.
fn picks_of(
    dealt: &mut Vec<Picks>,
    consumer: ConsumerId,
    room: impl Fn(ConsumerId) -> Option<Room>,
) -> Option<&mut Picks> {
    let index = match dealt.iter().position(|picks| picks.consumer == consumer) {
        Some(index) => index,
        None => {
            dealt.push(Picks::new(consumer, room(consumer)?));
            dealt.len() - 1
        }
    };
    dealt.get_mut(index)
}
