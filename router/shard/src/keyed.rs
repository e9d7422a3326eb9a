//! Deliveries of `key` groups: each message to the consumer that has its key.
//!
//! A run of new messages is dealt out in one pass; what goes to the same consumer leaves in one
//! frame, its records copied together. What cannot go now is parked with its key, and read again
//! when its turn comes ([`waypost_core::keyed`] decides).

use bytes::BytesMut;
use waypost_core::group::{Attempted, ConsumerId, Group};
use waypost_core::keyed;
use waypost_core::queue::NamedGroup;
use waypost_log::Vfs;
use waypost_wire::data::{Outcome, Range};
use waypost_wire::peek;

use crate::deliver::{Found, Picked, Room, Work};
use crate::slot::Chunk;
use crate::{Now, Shard, SlotId};

/// Where records lie in a slab's bytes.
type Span = std::ops::Range<usize>;

/// Runs for which there is room from the start: a batch's part for one of several consumers.
const RUNS_EXPECTED: usize = 64;

/// What one consumer gets of a chunk.
struct Picks {
    consumer: ConsumerId,
    room: Room,
    runs: Vec<Attempted>,
    /// Where the records of each run lie.
    spans: Vec<Span>,
    count: u32,
    /// How many there may be.
    most: u32,
    bytes: usize,
}

impl Picks {
    fn new(consumer: ConsumerId, room: Room) -> Picks {
        let most = (waypost_wire::BATCH_MESSAGES_MAX as u64).min(room.messages);
        Picks {
            most: most as u32,
            consumer,
            room,
            runs: Vec::with_capacity(RUNS_EXPECTED),
            spans: Vec::with_capacity(RUNS_EXPECTED),
            count: 0,
            bytes: 0,
        }
    }

    /// Whether one more fits. The first one does, whatever its size: otherwise a large one would
    /// never go.
    #[inline]
    fn fits(&self, span: &Span) -> bool {
        self.count < self.most && (self.count == 0 || self.bytes + span.len() <= self.room.bytes)
    }

    #[inline]
    fn push(&mut self, offset: u64, attempt: u32, span: Span) {
        self.count += 1;
        self.bytes += span.len();
        if let Some(run) = self.runs.last_mut()
            && run.range.last + 1 == offset
            && run.attempt == attempt
            && let Some(last) = self.spans.last_mut()
        {
            run.range.last = offset;
            last.end = span.end;
            return;
        }
        self.spans.push(span);
        self.runs.push(Attempted {
            range: Range::one(offset),
            attempt,
        });
    }
}

/// What becomes of a run.
#[derive(Default)]
struct Dealt {
    /// What the group's filters do not take.
    passed: Vec<Range>,
    /// Who gets something, or would.
    consumers: Vec<ConsumerId>,
    /// Of each of them; nothing for one that has no room.
    picks: Vec<Option<Picks>>,
}

impl Dealt {
    #[inline]
    fn of(
        &mut self,
        consumer: ConsumerId,
        room: impl FnOnce(ConsumerId) -> Option<Room>,
    ) -> Option<&mut Picks> {
        let known = self.consumers.iter().position(|known| *known == consumer);
        let index = known.unwrap_or_else(|| {
            self.consumers.push(consumer);
            let picks = room(consumer).map(|room| Picks::new(consumer, room));
            self.picks.push(picks);
            self.picks.len() - 1
        });
        self.picks.get_mut(index)?.as_mut()
    }
}

/// The records of a chunk, looked up in an order that mostly ascends.
struct Finder<'a> {
    chunk: &'a Chunk,
    records: Box<dyn Iterator<Item = (Span, &'a [u8])> + 'a>,
    next: u64,
}

impl<'a> Finder<'a> {
    fn new(chunk: &'a Chunk) -> Finder<'a> {
        Finder {
            chunk,
            records: Box::new(chunk.slab.records()),
            next: chunk.first_offset,
        }
    }

    fn find(&mut self, offset: u64) -> Option<Span> {
        if offset < self.next {
            *self = Finder::new(self.chunk);
        }
        let skip = offset.checked_sub(self.next)?;
        self.next = offset + 1;
        Some(self.records.nth(usize::try_from(skip).ok()?)?.0)
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
        let slot = self.slots.get_mut(&id);
        let Some(named) = slot.and_then(|s| s.queue.group_mut(group)) else {
            return 0;
        };
        let room = |consumer| self.consumers.get(&consumer)?.room(&self.options, now);
        let dealt = deal(named, taker, run, chunk, room);
        if !dealt.passed.is_empty() {
            named.group.remove(&dealt.passed);
            self.moved.insert(id);
            self.sync_soon(id, now);
            self.receipt(id, group, &dealt.passed, Outcome::Passed);
        }
        // What goes to all of them is copied into one piece of memory, as large as the chunk at most.
        let bytes = dealt.picks.iter().flatten().map(|picks| picks.bytes).sum();
        let mut room = BytesMut::with_capacity(bytes);
        for picks in dealt.picks.into_iter().flatten() {
            self.send_picks(id, group, chunk, picks, &mut room);
        }
        dealt.passed.len() as u64
    }

    /// Gives a consumer what is parked for it; says whether it could be read.
    fn hand_over_ready(&mut self, id: SlotId, group: &str, consumer: ConsumerId, now: Now) -> bool {
        while let Some(room) = self.room_of(consumer, now)
            && let Some(first) = self.next_parked(id, group, consumer)
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
            let mut finder = Finder::new(&chunk);
            // What may wait or expire is looked at one by one.
            let most = match self.is_sifted(id, &chunk) {
                true => 1,
                false => u32::MAX,
            };
            while let Some(offset) = self.next_parked(id, group, consumer)
                && (chunk.first_offset..chunk.end()).contains(&offset)
            {
                let slot = self.slots.get_mut(&id);
                let Some(named) = slot.and_then(|s| s.queue.group_mut(group)) else {
                    return true;
                };
                let run = Attempted {
                    range: Range::one(offset),
                    attempt: named.group.parked_attempt(offset),
                };
                if most == 1 && self.sift(id, group, run, &chunk, now).is_none() {
                    continue;
                }
                let slot = self.slots.get_mut(&id);
                let named = slot.and_then(|s| s.queue.group_mut(group));
                let picked = named.map_or(0, |n| {
                    pick_parked(&mut n.group, &mut finder, &mut picks, most)
                });
                if picked == 0 {
                    break;
                }
            }
            let mut room = BytesMut::with_capacity(picks.bytes);
            self.send_picks(id, group, &chunk, picks, &mut room);
        }
        true
    }

    fn room_of(&self, consumer: ConsumerId, now: Now) -> Option<Room> {
        self.consumers.get(&consumer)?.room(&self.options, now)
    }

    fn next_parked(&mut self, id: SlotId, group: &str, consumer: ConsumerId) -> Option<u64> {
        let named = self.slots.get_mut(&id)?.queue.group_mut(group)?;
        Some(named.group.keys_mut()?.ready(consumer)?.0)
    }

    fn send_picks(
        &mut self,
        id: SlotId,
        group: &str,
        chunk: &Chunk,
        picks: Picks,
        room: &mut BytesMut,
    ) {
        if picks.count == 0 {
            return;
        }
        let slot = self.slots.get_mut(&id);
        if let Some(named) = slot.and_then(|s| s.queue.group_mut(group)) {
            named
                .group
                .give(picks.consumer, &picks.runs, picks.room.deadline);
        }
        let picked = Picked {
            time_ms: chunk.time_ms,
            runs: &picks.runs,
            slab: chunk.slab.gather(&picks.spans, picks.count, room),
        };
        self.send(id, picks.consumer, picked);
    }
}

/// Decides who gets which messages of a run, parks those that cannot go now, and claims all of them:
/// the whole run, unless there is no room for more.
fn deal(
    named: &mut NamedGroup,
    taker: ConsumerId,
    run: Attempted,
    chunk: &Chunk,
    room: impl Fn(ConsumerId) -> Option<Room>,
) -> Dealt {
    let mut dealt = Dealt::default();
    let (first, filters) = (run.range.first, &named.options.filters);
    let Some(keys) = named.group.keys_mut() else {
        return dealt;
    };
    let mut known = Vec::with_capacity(run.range.count() as usize);
    let mut parked = Vec::new();
    let skip = (first - chunk.first_offset) as usize;
    let records = chunk.slab.records().skip(skip);
    for (offset, (span, body)) in (first..=run.range.last).zip(records) {
        let is_taken = filters.is_empty()
            || peek::topic(body).is_none_or(|t| filters.iter().any(|f| f.matches(t)));
        if !is_taken {
            dealt.passed.push(Range::one(offset));
            known.push(0);
            continue;
        }
        let key = peek::key(body).map(|key| keys.find(keyed::hash(key)));
        let wanted = match key {
            Some(key) => keys.taker(key),
            None => Some(taker),
        };
        let picks = wanted.and_then(|consumer| dealt.of(consumer, &room));
        match (picks.filter(|picks| picks.fits(&span)), key) {
            (Some(picks), key) => {
                if let Some(key) = key {
                    keys.given(key, picks.consumer);
                }
                picks.push(offset, run.attempt, span);
            }
            (None, Some(key)) if !keys.is_full() => {
                keys.park(offset, key);
                parked.push(offset);
            }
            // Another turn begins here, when there is room.
            (None, _) => break,
        }
        known.push(key.map_or(0, |key| key.number()));
    }
    keys.note(first, &known);
    if let Some(more) = (known.len() as u64).checked_sub(1) {
        let last = first + more;
        named.group.claim(Range { first, last });
    }
    for offset in parked {
        named.group.park(offset, run.attempt);
    }
    dealt
}

/// Picks what is parked for a consumer and lies in a chunk, `most` at most; says how many.
fn pick_parked(group: &mut Group, finder: &mut Finder<'_>, picks: &mut Picks, most: u32) -> u32 {
    let before = picks.count;
    while picks.count - before < most
        && let Some((offset, key)) = group.keys_mut().and_then(|k| k.ready(picks.consumer))
        && (finder.chunk.first_offset..finder.chunk.end()).contains(&offset)
        && let Some(span) = finder.find(offset).filter(|span| picks.fits(span))
    {
        let attempt = group.claim(Range::one(offset));
        if let Some(keys) = group.keys_mut() {
            keys.unpark(offset, key, picks.consumer);
        }
        picks.push(offset, attempt, span);
    }
    picks.count - before
}
