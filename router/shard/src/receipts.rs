//! Receipts: what producers are told of their messages, and when.
//!
//! [`waypost_core::receipts`] keeps each queue's book; this writes what happens to it into the
//! journal, beside the ack that it is about, and hands out what is synced to the producer's stream.
//! A queue of which nobody asked costs one look at an empty book for each ack.
//!
//! Invariants: nothing is told before the commit that holds the ack of which it tells; at most
//! [`FLIGHT_MAX`] receipts are with a stream that has not said that it has them; what it has is not
//! told again once that is synced, so that after a crash some may come twice, and none is missing.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use waypost_core::dedup::ProducerId;
use waypost_core::journal::Entry;
use waypost_core::queue::Queue;
use waypost_core::receipts::{ABSENT_MS_MAX, ASKED_MAX, ASKED_PER_PRODUCER_MAX, AskedRun, OwedRun};
use waypost_log::Vfs;
use waypost_wire::data::{Outcome, Range, Receipt, Receipts};

use crate::intake::Taken;
use crate::publish::{Part, PublishError, Stamp};
use crate::{Now, Output, Shard, SlotId};

/// Receipts that are with a stream at most.
pub const FLIGHT_MAX: u64 = 4096;
/// Runs of one frame at most: with the longest names of queue and group about 140 KiB.
const FRAME_RUNS_MAX: usize = 256;
/// How often producers that are away too long are looked for, in ms.
const ABSENT_CHECK_MS: u64 = 60_000;

/// A part of what is with a stream.
struct Flight {
    /// Of the stream.
    number: u64,
    count: u64,
    slot: SlotId,
    /// Of the queue.
    first: u64,
}

/// A producer's stream that wants receipts.
struct Stream {
    session: u64,
    /// What was sent on it, and taken of that.
    number: u64,
    taken: u64,
    /// By queue, the first receipt that was not sent.
    next: HashMap<SlotId, u64>,
    flight: VecDeque<Flight>,
}

/// The streams, and which queues have something for them.
#[derive(Default)]
pub(crate) struct Told {
    streams: BTreeMap<ProducerId, Stream>,
    /// Queues whose books are not empty.
    books: BTreeSet<SlotId>,
    /// Queues where something was settled since the last commit.
    settled: BTreeSet<SlotId>,
    /// Queues that may have something to tell now.
    ready: BTreeSet<SlotId>,
    /// What a queue that was removed had to say.
    farewell: Vec<(ProducerId, Receipt)>,
    /// Since when producers are away, in ms of the monotonic clock.
    absent: BTreeMap<ProducerId, u64>,
    absent_check: u64,
}

impl<V: Vfs> Shard<V> {
    /// The newest stream of a producer wants its receipts: what is owed to it comes at once.
    pub fn open_receipts(&mut self, id: ProducerId, session: u64) {
        if self.sessions.holds(&id, session).is_none() {
            return;
        }
        let stream = Stream {
            session,
            number: 0,
            taken: 0,
            next: HashMap::new(),
            flight: VecDeque::new(),
        };
        self.told.absent.remove(&id);
        self.told.streams.insert(id, stream);
        self.told.ready.extend(&self.told.books);
    }

    /// A producer's stream has ended: what is owed waits for the next one.
    pub(crate) fn close_receipts(&mut self, id: &ProducerId, session: u64) {
        if self
            .told
            .streams
            .get(id)
            .is_some_and(|s| s.session == session)
        {
            self.told.streams.remove(id);
            self.told.absent.insert(*id, self.mono_ms);
        }
    }

    /// A stream has receipts, up to this number of its own.
    pub fn receipts_taken(&mut self, now: Now, id: &ProducerId, session: u64, number: u64) {
        let streams = &mut self.told.streams;
        let Some(stream) = streams.get_mut(id).filter(|s| s.session == session) else {
            return;
        };
        let number = number.min(stream.number);
        stream.taken = stream.taken.max(number);
        let mut below: BTreeMap<SlotId, u64> = BTreeMap::new();
        while let Some(flight) = stream.flight.front_mut()
            && flight.number < number
        {
            let count = flight.count.min(number - flight.number);
            flight.number += count;
            flight.first += count;
            flight.count -= count;
            below.insert(flight.slot, flight.first);
            if flight.count == 0 {
                stream.flight.pop_front();
            }
        }
        for (slot_id, below) in below {
            let Some(slot) = self.slots.get_mut(&slot_id) else {
                continue;
            };
            slot.queue.receipts_mut().told(id, below);
            let producer = *id;
            self.journal(slot_id, &Entry::Told { producer, below }, now);
            self.drop_empty_book(slot_id);
        }
        self.told.ready.extend(&self.told.books);
    }

    /// Whether a producer may ask for receipts of what is taken.
    pub(crate) fn check_receipts(
        &self,
        taken: &Taken<'_>,
        stamp: &Stamp,
    ) -> Result<(), PublishError> {
        let more = taken.parts.iter().map(|p| u64::from(p.slab.count()));
        let more: u64 = more.sum();
        let books = || {
            let slots = self.told.books.iter().filter_map(|id| self.slots.get(id));
            slots.map(|slot| slot.queue.receipts())
        };
        let own: u64 = books().map(|b| b.outstanding(&stamp.producer)).sum();
        let all: u64 = books().map(|b| b.outstanding_all()).sum();
        for (whose, held, limit) in [
            ("this producer", own, ASKED_PER_PRODUCER_MAX),
            ("the node", all, ASKED_MAX),
        ] {
            if held + more > limit {
                return Err(PublishError::Receipts {
                    whose,
                    held,
                    more,
                    limit,
                });
            }
        }
        Ok(())
    }

    /// What the journals are to say of messages whose producer wants receipts.
    pub(crate) fn asked(&self, taken: &Taken<'_>, stamp: &Stamp) -> Vec<(SlotId, Entry)> {
        let (parts, ids): (&[Part], _) = (&taken.parts, &taken.ids);
        let mut runs: BTreeMap<SlotId, Vec<AskedRun>> = BTreeMap::new();
        for ((part, id), first) in parts.iter().zip(ids).zip(self.first_offsets(parts, ids)) {
            let runs = runs.entry(*id).or_default();
            for record in 0..part.slab.count() {
                let offset = first + u64::from(record);
                let sequence = stamp.sequence(part.input(record));
                match runs.last_mut() {
                    Some(run)
                        if run.range.last + 1 == offset
                            && run.sequence + run.range.count() == sequence =>
                    {
                        run.range.last = offset;
                    }
                    _ => runs.push(AskedRun {
                        range: Range::one(offset),
                        sequence,
                    }),
                }
            }
        }
        let producer = stamp.producer;
        let entry = |(id, runs)| (id, Entry::Asked { producer, runs });
        runs.into_iter().map(entry).collect()
    }

    /// The log has an [`Entry::Asked`] or [`Entry::Settled`], or the queue's next snapshot will.
    pub(crate) fn has_receipts(&mut self, id: SlotId, entry: &Entry) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        match entry {
            Entry::Asked { .. } => self.told.books.insert(id),
            Entry::Settled { .. } => self.told.settled.insert(id),
            _ => return,
        };
        slot.queue.apply(entry);
    }

    /// What is to be written in one set with an entry by which a group is done with messages, or
    /// they go: that entry, and what is told of it.
    pub(crate) fn with_receipts(&self, id: SlotId, entry: Entry, outcome: Outcome) -> Vec<Entry> {
        let mut entries = vec![entry];
        let Some(slot) = self.slots.get(&id) else {
            return entries;
        };
        let queue = &slot.queue;
        if queue.receipts().is_empty() {
            return entries;
        }
        let receipts = match &entries[0] {
            Entry::Acked { id, ranges } => {
                let mut groups = queue.groups().iter();
                let group = groups.find(|(_, named)| named.id == *id);
                group.map(|(name, _)| queue.receipts_settled(name, ranges, outcome, &[]))
            }
            Entry::Removed { ranges } => Some(queue.receipts_lost(ranges, outcome)),
            _ => None,
        };
        entries.extend(receipts.into_iter().flatten());
        entries
    }

    /// A group is done with messages.
    pub(crate) fn receipt(&mut self, id: SlotId, group: &str, ranges: &[Range], outcome: Outcome) {
        if let Some(queue) = self.asked_queue(id) {
            let entries = queue.receipts_settled(group, ranges, outcome, &[]);
            self.write_receipts(id, &entries);
        }
    }

    /// What is to be told when a group goes, or is moved to an offset; to be written with that, and
    /// asked for before it.
    pub(crate) fn receipts_of_left(
        &self,
        id: SlotId,
        group: &str,
        to: u64,
        outcome: Outcome,
    ) -> Vec<Entry> {
        match self.asked_queue(id) {
            Some(queue) => queue.receipts_left(group, to, outcome),
            None => Vec::new(),
        }
    }

    /// The same when messages go for all groups.
    pub(crate) fn receipts_of_lost(
        &self,
        id: SlotId,
        ranges: &[Range],
        outcome: Outcome,
    ) -> Vec<Entry> {
        match self.asked_queue(id) {
            Some(queue) => queue.receipts_lost(ranges, outcome),
            None => Vec::new(),
        }
    }

    /// A queue, if somebody asked for receipts of it.
    fn asked_queue(&self, id: SlotId) -> Option<&Queue> {
        let queue = &self.slots.get(&id)?.queue;
        (!queue.receipts().is_empty()).then_some(queue)
    }

    /// Writes an entry with the receipts that it is the cause of: the log has all or none.
    pub(crate) fn journal_with(
        &mut self,
        id: SlotId,
        entry: Entry,
        receipts: Vec<Entry>,
        now: Now,
    ) {
        let mut entries = vec![entry];
        entries.extend(receipts);
        self.journal_set(id, &entries, now);
        self.has_all_receipts(id, &entries);
    }

    /// Messages are about to be gone for all groups.
    pub(crate) fn receipts_lost(&mut self, id: SlotId, ranges: &[Range], outcome: Outcome) {
        let entries = self.receipts_of_lost(id, ranges, outcome);
        self.write_receipts(id, &entries);
    }

    /// Whatever was not told of what is gone is told without a name: a message that could not be
    /// read, or whose receipt a crash took from beside its ack.
    pub(crate) fn receipts_below_first(&mut self, id: SlotId) {
        let first = self.slots.get(&id).map_or(0, |slot| slot.queue.first());
        if let Some(last) = first.checked_sub(1) {
            self.receipts_lost(id, &[Range { first: 0, last }], Outcome::Passed);
        }
    }

    fn write_receipts(&mut self, id: SlotId, entries: &[Entry]) {
        if entries.is_empty() {
            return;
        }
        let now = Now {
            mono_ms: self.mono_ms,
            wall_ms: self.wall_ms,
        };
        self.journal_set(id, entries, now);
        self.has_all_receipts(id, entries);
    }

    /// The same for each of a set.
    pub(crate) fn has_all_receipts(&mut self, id: SlotId, entries: &[Entry]) {
        entries.iter().for_each(|e| self.has_receipts(id, e));
    }

    /// A queue goes: what it owes to producers that have a stream is told once the removal is
    /// synced, and to others never.
    pub(crate) fn receipts_end(&mut self, id: SlotId) {
        self.told.settled.remove(&id);
        self.told.ready.remove(&id);
        if !self.told.books.remove(&id) {
            return;
        }
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let all = Range {
            first: 0,
            last: u64::MAX - 1,
        };
        let lost = slot.queue.receipts_lost(&[all], Outcome::Removed);
        lost.iter().for_each(|entry| slot.queue.apply(entry));
        let (name, book) = (slot.queue.name().to_owned(), slot.queue.receipts_mut());
        book.set_synced();
        for (producer, stream) in &mut self.told.streams {
            let from = stream.next.remove(&id).unwrap_or(0);
            let owed = book.untold(producer, from, u64::MAX).into_iter();
            let told = owed.map(|run| (*producer, receipt(run, &name)));
            self.told.farewell.extend(told);
        }
    }

    fn drop_empty_book(&mut self, id: SlotId) {
        let slot = self.slots.get(&id);
        if slot.is_none_or(|slot| slot.queue.receipts().is_empty()) {
            self.told.books.remove(&id);
        }
    }

    /// After a commit: what was settled before it may be told.
    pub(crate) fn receipts_synced(&mut self) {
        for id in std::mem::take(&mut self.told.settled) {
            // Its journal lacks an entry, which may be the ack.
            if self.behind.contains(&id) {
                self.told.settled.insert(id);
            } else if let Some(slot) = self.slots.get_mut(&id) {
                slot.queue.receipts_mut().set_synced();
                self.told.ready.insert(id);
            }
        }
        for (producer, receipt) in std::mem::take(&mut self.told.farewell) {
            if let Some(stream) = self.told.streams.get_mut(&producer) {
                stream.number += receipt.count;
                stream.taken += receipt.count;
                let number = stream.number;
                let receipts = vec![receipt];
                let told = (producer, number, 0, receipts);
                self.tell(told);
            }
        }
    }

    /// A queue in memory waits for no commit.
    pub(crate) fn receipts_in_memory(&mut self) {
        let in_memory = |id: &SlotId| {
            let slot = self.slots.get(id);
            slot.is_some_and(|slot| slot.incarnation.is_none())
        };
        let ids: Vec<SlotId> = self
            .told
            .settled
            .iter()
            .copied()
            .filter(in_memory)
            .collect();
        for id in ids {
            self.told.settled.remove(&id);
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.queue.receipts_mut().set_synced();
                self.told.ready.insert(id);
            }
        }
    }

    /// Sends what may be told and fits the streams.
    pub(crate) fn tell_receipts(&mut self) {
        for id in std::mem::take(&mut self.told.ready) {
            let Some(slot) = self.slots.get(&id) else {
                continue;
            };
            let producers: Vec<ProducerId> = slot.queue.receipts().producers().copied().collect();
            for producer in producers {
                while let Some(told) = self.next_frame(id, &producer) {
                    self.tell(told);
                }
            }
            self.drop_empty_book(id);
        }
    }

    /// What one frame tells a producer of a queue.
    fn next_frame(
        &mut self,
        id: SlotId,
        producer: &ProducerId,
    ) -> Option<(ProducerId, u64, u64, Vec<Receipt>)> {
        let stream = self.told.streams.get_mut(producer)?;
        let slot = self.slots.get_mut(&id)?;
        let name = slot.queue.name().to_owned();
        let book = slot.queue.receipts_mut();
        let room = FLIGHT_MAX.saturating_sub(stream.number - stream.taken);
        let next = stream.next.entry(id).or_insert(0);
        let mut owed = book.untold(producer, *next, room);
        owed.truncate(FRAME_RUNS_MAX);
        if owed.is_empty() {
            return None;
        }
        let lost = book.take_lost(producer);
        for run in &owed {
            *next = run.number + run.count;
            stream.flight.push_back(Flight {
                number: stream.number,
                count: run.count,
                slot: id,
                first: run.number,
            });
            stream.number += run.count;
        }
        let receipts = owed.into_iter().map(|run| receipt(run, &name)).collect();
        Some((*producer, stream.number, lost, receipts))
    }

    fn tell(&mut self, told: (ProducerId, u64, u64, Vec<Receipt>)) {
        let (producer, number, lost, receipts) = told;
        let Some(stream) = self.told.streams.get(&producer) else {
            return;
        };
        let books = self.told.books.iter().filter_map(|id| self.slots.get(id));
        let outstanding: u64 = books
            .map(|s| s.queue.receipts().outstanding(&producer))
            .sum();
        let waiting = outstanding.saturating_sub(stream.number - stream.taken);
        self.outputs.push(Output::Receipts {
            producer,
            session: stream.session,
            receipts: Receipts {
                number,
                waiting,
                lost,
                receipts,
            },
        });
    }

    /// Forgets producers that are away too long.
    pub(crate) fn forget_absent(&mut self, now: Now) {
        if now.mono_ms < self.told.absent_check || self.told.books.is_empty() {
            return;
        }
        self.told.absent_check = now.mono_ms + ABSENT_CHECK_MS;
        let mut absent: BTreeMap<ProducerId, u64> = BTreeMap::new();
        for id in self.told.books.clone() {
            let Some(slot) = self.slots.get_mut(&id) else {
                continue;
            };
            let producers: Vec<ProducerId> = slot.queue.receipts().producers().copied().collect();
            for producer in producers {
                if self.told.streams.contains_key(&producer) {
                    continue;
                }
                let since = self.told.absent.get(&producer).copied();
                let since = since.unwrap_or(now.mono_ms);
                absent.insert(producer, since);
                if now.mono_ms.saturating_sub(since) < ABSENT_MS_MAX {
                    continue;
                }
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.queue.receipts_mut().forget(&producer);
                }
                self.journal(id, &Entry::Forgotten { producer }, now);
            }
            self.drop_empty_book(id);
        }
        self.told.absent = absent;
    }

    /// A queue that was recovered.
    pub(crate) fn receipts_recovered(&mut self, id: SlotId) {
        let slot = self.slots.get(&id);
        if slot.is_some_and(|slot| !slot.queue.receipts().is_empty()) {
            self.told.books.insert(id);
        }
    }
}

fn receipt(run: OwedRun, queue: &str) -> Receipt {
    Receipt {
        sequence: run.sequence,
        count: run.count,
        offset: run.offset,
        outcome: run.outcome,
        queue: queue.to_owned(),
        group: run.group.to_string(),
        node: String::new(),
        is_last: run.is_last,
    }
}
