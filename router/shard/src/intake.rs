//! Which inputs of a batch are taken, and what is said of the others.
//!
//! An input is one message as its publisher sent it; routes and plugins may have made several
//! records of it, in several queues. Invariants: of an input all is taken that was not stored
//! before, or nothing; a refused input refuses no other one, but those of its producer behind it;
//! inputs that are taken keep their order in every queue.
//!
//! Each queue decides by itself what is a repeat, by its producer's number or by its message id:
//! where routes have changed between, what is sent again goes where it has not been. Most batches
//! are taken whole, which costs one question a queue (one a message where the queue remembers
//! message ids); only when a queue says no is each input looked at.
//!
//! What one input brings to one queue belongs together: copies by two routes and a plugin's several
//! outputs that share a message id are stored side by side, and are repeats only of what an earlier
//! input brought. A plugin that gives its outputs ids of their own has each judged by itself.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use waypost_core::dedup::{Holds, Seen, hold};
use waypost_core::journal::Entry;
use waypost_core::message_ids::{AcceptedIds, IdHash, Window};
use waypost_log::Vfs;
use waypost_wire::data::{Exception, ExceptionKind};
use waypost_wire::{Code, peek, varint};

use crate::publish::{Batch, Part, PublishError, Stamp};
use crate::slot::Slot;
use crate::{Now, Shard, SlotId};

/// What is taken of a batch.
pub(crate) struct Taken<'a> {
    pub parts: Cow<'a, [Part]>,
    /// For each part, its queue.
    pub ids: Vec<SlotId>,
    /// Queues that have something of the batch from before, and how many messages.
    pub repeated: BTreeMap<SlotId, u64>,
    /// What is said of inputs that are not simply taken, in their order.
    pub exceptions: Vec<Exception>,
    /// What the producer has to make good after this, where that changes.
    pub holds: Option<Holds>,
    /// The producer's numbers of messages that a queue has by their ids, and where it has them.
    pub settled: Vec<(SlotId, u64, u64)>,
    /// Its producer sent all of it before, under the same numbers.
    pub is_repeat: bool,
}

/// Messages and bytes, and ids to remember.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    count: u64,
    bytes: u64,
    ids: u64,
}

impl Load {
    fn add(&mut self, more: Load) {
        self.count += more.count;
        self.bytes += more.bytes;
        self.ids += more.ids;
    }
}

/// A part while its inputs are looked at one by one.
struct Cursor<'a> {
    part: &'a Part,
    id: Option<SlotId>,
    /// Bytes of each record with its length.
    sizes: Vec<u64>,
    /// The message id of each, where the queue remembers them.
    ids: Vec<Option<IdHash>>,
    at: usize,
    kept: Vec<bool>,
}

impl<'a> Cursor<'a> {
    fn new(part: &'a Part, id: Option<SlotId>, has_window: bool) -> Cursor<'a> {
        let size = |body: &[u8]| (varint::len(body.len() as u64) + body.len()) as u64;
        let sizes: Vec<u64> = part.slab.iter().map(size).collect();
        Cursor {
            part,
            id,
            ids: match has_window {
                true => part.slab.iter().map(id_of).collect(),
                false => Vec::new(),
            },
            at: 0,
            kept: vec![false; sizes.len()],
            sizes,
        }
    }

    /// The next records, if they are this input's.
    fn take(&mut self, input: u32) -> Range<usize> {
        let start = self.at;
        while self.at < self.sizes.len() && self.part.input(self.at as u32) == input {
            self.at += 1;
        }
        start..self.at
    }
}

/// A batch while its inputs are looked at one by one.
struct Sorting<'a> {
    cursors: Vec<Cursor<'a>>,
    taken: BTreeMap<SlotId, Load>,
    /// The producer's numbers that were taken from this batch.
    numbers: BTreeMap<SlotId, BTreeSet<u64>>,
    /// The message ids that were.
    ids: HashMap<(SlotId, IdHash), Spot>,
    /// See [`Taken::settled`].
    settled: Vec<(SlotId, u64, Place)>,
    holds: Holds,
    repeated: BTreeMap<SlotId, u64>,
}

/// A record of this batch: which cursor's, and the how manieth there.
type Spot = (usize, usize);

/// Where the first message with an id lies.
#[derive(Clone, Copy)]
enum Place {
    Offset(u64),
    OfBatch(Spot),
}

/// What an input brings that is new.
#[derive(Default)]
struct Fresh {
    /// By queue; the others have it.
    loads: BTreeMap<SlotId, Load>,
    /// Records that their queue has by their ids.
    left_out: Vec<Spot>,
    /// Ids that their queue has not.
    ids: HashMap<(SlotId, IdHash), Spot>,
    /// Queues that have all of it by its ids, and where.
    known: Vec<(SlotId, Place)>,
    /// How many of its messages a queue has.
    repeated: BTreeMap<SlotId, u64>,
}

/// What becomes of an input.
enum Fate {
    /// Some queue takes it.
    Taken(Fresh),
    /// All queues that it reaches have it: one of them, and where it lies there.
    Repeat {
        id: SlotId,
        offset: Option<u64>,
        fresh: Fresh,
    },
}

impl<V: Vfs> Shard<V> {
    /// Decides what is taken. A batch that must be taken whole is an error otherwise.
    pub(crate) fn sort_out<'a>(
        &self,
        now: Now,
        batch: &'a Batch,
    ) -> Result<Taken<'a>, PublishError> {
        if let Some(stamp) = &batch.stamp {
            self.holds_of(stamp)?;
        }
        let whole = self.ids_of(&batch.parts).and_then(|ids| {
            self.admit(&batch.parts, &ids)?;
            Ok(ids)
        });
        match whole {
            Ok(ids) if self.is_new(batch, &ids) && self.brings_new_ids(now, batch, &ids) => {
                Ok(Taken {
                    parts: Cow::Borrowed(&batch.parts),
                    ids,
                    repeated: BTreeMap::new(),
                    exceptions: Vec::new(),
                    holds: None,
                    settled: Vec::new(),
                    is_repeat: false,
                })
            }
            Err(error) if batch.is_whole && batch.stamp.is_none() && !self.has_window(batch) => {
                Err(error)
            }
            _ => self.take_some(now, batch),
        }
    }

    /// What the producer's stream has to make good; an error if it is fenced.
    fn holds_of(&self, stamp: &Stamp) -> Result<&Holds, PublishError> {
        self.sessions
            .holds(&stamp.producer, stamp.session)
            .ok_or(PublishError::Fenced)
    }

    /// Nothing of a batch was taken: what its producer sends after it must wait for it.
    pub fn refused(&mut self, batch: &Batch, code: Code) {
        let Some(stamp) = batch.stamp.as_ref().filter(|_| code.is_retryable()) else {
            return;
        };
        let Ok(mut holds) = self.holds_of(stamp).cloned() else {
            return;
        };
        for part in batch.parts.iter().filter(|part| !part.slab.is_empty()) {
            if let Some(id) = self.slot_of(&part.queue) {
                hold(&mut holds, id, stamp.sequence(part.input(0)), code);
            }
        }
        self.sessions
            .set_holds(&stamp.producer, stamp.session, holds);
    }

    /// The queues of all parts.
    pub(crate) fn ids_of(&self, parts: &[Part]) -> Result<Vec<SlotId>, PublishError> {
        let id = |part: &Part| {
            self.slot_of(&part.queue)
                .ok_or_else(|| PublishError::NoQueue(part.queue.clone()))
        };
        parts.iter().map(id).collect()
    }

    /// Two parts may name the same queue: each is admitted beside what the earlier ones add.
    pub(crate) fn admit(&self, parts: &[Part], ids: &[SlotId]) -> Result<(), PublishError> {
        for (index, id) in ids.iter().enumerate() {
            if ids[..index].contains(id) {
                continue;
            }
            let mut load = Load::default();
            for (part, _) in parts.iter().zip(ids).filter(|(_, other)| *other == id) {
                load.add(Load {
                    count: u64::from(part.slab.count()),
                    bytes: part.slab.bytes().len() as u64,
                    ids: 0,
                });
            }
            if let Some(slot) = self.slots.get(id) {
                slot.queue.admit(load.count, load.bytes)?;
            }
        }
        Ok(())
    }

    fn admit_load(&self, now: Now, id: SlotId, load: Load) -> Result<(), PublishError> {
        let Some(slot) = self.slots.get(&id) else {
            return Ok(());
        };
        slot.queue.admit(load.count, load.bytes)?;
        if let Some(window) = self.window(slot, now) {
            slot.queue.admit_ids(load.ids, &window)?;
        }
        Ok(())
    }

    /// How long a queue remembers message ids, if it does.
    fn window(&self, slot: &Slot, now: Now) -> Option<Window<'_>> {
        Some(Window {
            window_ms: slot.queue.settings().dedup_window_ms?,
            clock: &self.clock,
            mono_ms: now.mono_ms,
        })
    }

    /// Some queue of a batch remembers message ids.
    fn has_window(&self, batch: &Batch) -> bool {
        let slots = batch.parts.iter().filter_map(|p| self.slot_of(&p.queue));
        let mut slots = slots.filter_map(|id| self.slots.get(&id));
        !batch.is_replay && slots.any(|slot| slot.queue.settings().dedup_window_ms.is_some())
    }

    /// What has left the window of a part's queue is forgotten.
    pub(crate) fn forget_old_ids(&mut self, now: Now, parts: &[Part]) {
        for part in parts {
            if let Some(id) = self.slot_of(&part.queue) {
                self.forget_ids_of(id, now.mono_ms);
            }
        }
    }

    pub(crate) fn forget_ids_of(&mut self, id: SlotId, mono_ms: u64) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if let Some(window_ms) = slot.queue.settings().dedup_window_ms {
            let clock = &self.clock;
            slot.queue.ids_mut().forget_old(&Window {
                window_ms,
                clock,
                mono_ms,
            });
        }
    }

    /// Whether no queue has an id of the batch, no two inputs share one, and there is room for all.
    fn brings_new_ids(&self, now: Now, batch: &Batch, ids: &[SlotId]) -> bool {
        let mut of_batch: HashMap<(SlotId, IdHash), u32> = HashMap::new();
        let mut counts: BTreeMap<SlotId, u64> = BTreeMap::new();
        if batch.is_replay {
            return true;
        }
        for (part, id) in batch.parts.iter().zip(ids) {
            let Some(slot) = self.slots.get(id) else {
                continue;
            };
            let Some(window) = self.window(slot, now) else {
                continue;
            };
            let known = slot.queue.ids();
            for (record, body) in (0..).zip(&part.slab) {
                let Some(hash) = id_of(body) else {
                    continue;
                };
                let input = part.input(record);
                let first = *of_batch.entry((*id, hash)).or_insert_with(|| {
                    *counts.entry(*id).or_default() += 1;
                    input
                });
                if first != input || known.seen(&hash, &window).is_some() {
                    return false;
                }
            }
            let count = counts.get(id).copied().unwrap_or(0);
            if slot.queue.admit_ids(count, &window).is_err() {
                return false;
            }
        }
        true
    }

    /// What the journals are to say of the message ids of what was taken: one entry a queue.
    pub(crate) fn identified(
        &self,
        now: Now,
        parts: &[Part],
        ids: &[SlotId],
    ) -> Vec<(SlotId, Entry)> {
        let has_window = |id: &SlotId| {
            let slot = self.slots.get(id);
            slot.is_some_and(|s| s.queue.settings().dedup_window_ms.is_some())
        };
        if !ids.iter().any(has_window) {
            return Vec::new();
        }
        let mut seen: HashSet<(SlotId, IdHash)> = HashSet::new();
        let mut found: BTreeMap<SlotId, Vec<(IdHash, u64)>> = BTreeMap::new();
        let first_offsets = self.first_offsets(parts, ids);
        for ((part, id), first) in parts.iter().zip(ids).zip(first_offsets) {
            if !has_window(id) {
                continue;
            }
            for (offset, body) in (first..).zip(&part.slab) {
                if let Some(hash) = id_of(body).filter(|hash| seen.insert((*id, *hash))) {
                    found.entry(*id).or_default().push((hash, offset));
                }
            }
        }
        let time_ms = now.wall_ms;
        let entry = |(id, ids)| (id, Entry::Identified(AcceptedIds { time_ms, ids }));
        found.into_iter().map(entry).collect()
    }

    /// Whether all of a batch lies above what its producer stored and nothing is held.
    fn is_new(&self, batch: &Batch, ids: &[SlotId]) -> bool {
        let Some(stamp) = &batch.stamp else {
            return true;
        };
        let is_held = self.holds_of(stamp).map_or(true, |holds| !holds.is_empty());
        let rises = || stamp.sequences.is_sorted_by(|a, b| a < b);
        if is_held || !(stamp.is_consecutive() || rises()) {
            return false;
        }
        batch.parts.iter().zip(ids).all(|(part, id)| {
            let first = stamp.sequence(part.input(0));
            let highest = self
                .slots
                .get(id)
                .and_then(|slot| slot.queue.dedup().highest(&stamp.producer));
            part.slab.is_empty() || highest.is_none_or(|(_, highest)| first > highest)
        })
    }

    /// Looks at each input by itself.
    fn take_some<'a>(&self, now: Now, batch: &'a Batch) -> Result<Taken<'static>, PublishError> {
        let cursor = |part: &'a Part| {
            let id = self.slot_of(&part.queue);
            let slot = id.and_then(|id| self.slots.get(&id));
            let window = slot.and_then(|slot| slot.queue.settings().dedup_window_ms);
            Cursor::new(part, id, window.is_some() && !batch.is_replay)
        };
        let mut sorting = Sorting {
            cursors: batch.parts.iter().map(cursor).collect(),
            taken: BTreeMap::new(),
            numbers: BTreeMap::new(),
            ids: HashMap::new(),
            settled: Vec::new(),
            holds: match &batch.stamp {
                Some(stamp) => self.holds_of(stamp)?.clone(),
                None => Holds::new(),
            },
            repeated: BTreeMap::new(),
        };
        let mut exceptions = Vec::new();
        let (mut is_partly_new, mut is_partly_known, mut is_partly_repeat) = (false, false, false);
        for input in 0..batch.count {
            let records: Vec<_> = sorting.cursors.iter_mut().map(|c| c.take(input)).collect();
            let stamp = batch.stamp.as_ref().map(|s| (s, s.sequence(input)));
            if records.iter().all(|range| range.is_empty()) {
                sorting.settle(stamp.map(|(_, number)| number));
                continue;
            }
            let (kind, code, text) = match self.judge(now, &sorting, &records, stamp) {
                Ok(Fate::Taken(fresh)) => {
                    is_partly_new = true;
                    sorting.take(&records, fresh, stamp.map(|(_, number)| number));
                    continue;
                }
                Ok(Fate::Repeat { id, offset, fresh }) => {
                    is_partly_known |= !fresh.known.is_empty();
                    is_partly_repeat |= fresh.known.is_empty();
                    sorting.take(&records, fresh, stamp.map(|(_, number)| number));
                    (
                        ExceptionKind::Duplicate,
                        Code::Closed,
                        self.place_of(id, offset),
                    )
                }
                Err(error) if batch.is_whole => return Err(error),
                Err(error) => {
                    let code = error.code();
                    if let Some((_, number)) = stamp.filter(|_| code.is_retryable()) {
                        sorting.hold(&records, number, code);
                    }
                    (ExceptionKind::Refused, code, error.to_string())
                }
            };
            exceptions.push(Exception {
                sequence: batch.first_sequence + u64::from(input),
                kind,
                code,
                text,
            });
        }
        // What a queue has by its id is there, whoever brought it; a producer's own repeat says that
        // the whole was taken before.
        let is_transaction = batch.transaction.is_some();
        if is_transaction && is_partly_repeat && (is_partly_new || is_partly_known) {
            return Err(PublishError::Partly);
        }
        let next = |id: &SlotId| self.slots.get(id).map_or(0, |slot| slot.queue.next());
        let mut taken = sorting.finish(exceptions, next);
        taken.is_repeat = is_partly_repeat && !is_partly_new && !is_partly_known;
        Ok(taken)
    }

    /// Whether every queue takes what an input brings it, beside what was taken before.
    fn judge(
        &self,
        now: Now,
        sorting: &Sorting<'_>,
        records: &[Range<usize>],
        stamp: Option<(&Stamp, u64)>,
    ) -> Result<Fate, PublishError> {
        let mut fresh = Fresh::default();
        let mut repeat = None;
        for (at, (cursor, range)) in sorting.cursors.iter().zip(records).enumerate() {
            if range.is_empty() {
                continue;
            }
            let queue = || cursor.part.queue.clone();
            let id = cursor.id.ok_or_else(|| PublishError::NoQueue(queue()))?;
            match stamp.map_or(Seen::New, |(s, number)| self.seen(sorting, id, s, number)) {
                Seen::New => {
                    if let Some(place) = self.weigh(now, sorting, at, range, &mut fresh) {
                        let offset = match place {
                            Place::Offset(offset) => Some(offset),
                            Place::OfBatch(_) => None,
                        };
                        repeat = repeat.or(Some((id, offset)));
                        fresh.known.push((id, place));
                    }
                }
                Seen::Repeat(offset) => {
                    repeat = repeat.or(Some((id, offset)));
                    *fresh.repeated.entry(id).or_default() += range.len() as u64;
                }
                Seen::Passed => return Err(PublishError::Passed(queue())),
            }
            if let Some((_, number)) = stamp
                && let Some(held) = sorting.holds.get(&id).filter(|h| h.sequence < number)
            {
                return Err(PublishError::Held {
                    queue: queue(),
                    sequence: held.sequence,
                    code: held.code,
                });
            }
        }
        if let (Some((id, offset)), true) = (repeat, fresh.loads.is_empty()) {
            return Ok(Fate::Repeat { id, offset, fresh });
        }
        for (id, load) in &fresh.loads {
            let mut all = sorting.taken.get(id).copied().unwrap_or_default();
            all.add(*load);
            self.admit_load(now, *id, all)?;
        }
        Ok(Fate::Taken(fresh))
    }

    /// Weighs the records of an input for one queue; where the queue has all of them by their ids,
    /// says where the first of them lies.
    fn weigh(
        &self,
        now: Now,
        sorting: &Sorting<'_>,
        at: usize,
        records: &Range<usize>,
        fresh: &mut Fresh,
    ) -> Option<Place> {
        let cursor = &sorting.cursors[at];
        let id = cursor.id?;
        let slot = self.slots.get(&id)?;
        let window = self.window(slot, now);
        let (mut load, mut place) = (Load::default(), None);
        for record in records.clone() {
            let hash = cursor.ids.get(record).copied().flatten();
            if let (Some(hash), Some(window)) = (hash, &window) {
                let stored = slot.queue.ids().seen(&hash, window).map(Place::Offset);
                let of_batch = || sorting.ids.get(&(id, hash)).copied().map(Place::OfBatch);
                if let Some(known) = stored.or_else(of_batch) {
                    place = place.or(Some(known));
                    fresh.left_out.push((at, record));
                    *fresh.repeated.entry(id).or_default() += 1;
                    continue;
                }
                let spots = &mut fresh.ids;
                spots.entry((id, hash)).or_insert_with(|| {
                    load.ids += 1;
                    (at, record)
                });
            }
            load.count += 1;
            load.bytes += cursor.sizes[record];
        }
        if load.count == 0 {
            return place;
        }
        fresh.loads.entry(id).or_default().add(load);
        None
    }

    /// What a queue knows of a number, with what was taken of this batch.
    fn seen(&self, sorting: &Sorting<'_>, id: SlotId, stamp: &Stamp, number: u64) -> Seen {
        let of_batch = sorting.numbers.get(&id);
        if of_batch.is_some_and(|numbers| numbers.contains(&number)) {
            return Seen::Repeat(None);
        }
        let stored = match self.slots.get(&id) {
            Some(slot) => slot.queue.dedup().seen(&stamp.producer, number),
            None => Seen::New,
        };
        let highest = of_batch.and_then(|numbers| numbers.last());
        match stored {
            Seen::New if highest.is_some_and(|highest| number < *highest) => Seen::Passed,
            stored => stored,
        }
    }

    fn place_of(&self, id: SlotId, offset: Option<u64>) -> String {
        let name = self.slots.get(&id).map_or("", |slot| slot.queue.name());
        match offset {
            Some(offset) => format!("queue {name}, offset {offset}"),
            None => format!("queue {name}"),
        }
    }
}

impl Sorting<'_> {
    /// An input is taken, into the queues that have it not, if there is one.
    fn take(&mut self, records: &[Range<usize>], fresh: Fresh, number: Option<u64>) {
        let Fresh {
            loads,
            left_out,
            ids,
            known,
            repeated,
        } = fresh;
        for (id, count) in repeated {
            *self.repeated.entry(id).or_default() += count;
        }
        for (cursor, range) in self.cursors.iter_mut().zip(records) {
            let Some(id) = cursor.id.filter(|_| !range.is_empty()) else {
                continue;
            };
            let is_wanted = loads.contains_key(&id);
            cursor.kept[range.clone()].fill(is_wanted);
        }
        for (cursor, record) in left_out {
            self.cursors[cursor].kept[record] = false;
        }
        self.ids.extend(ids);
        let known = known.into_iter().filter(|(id, _)| !loads.contains_key(id));
        self.has(known.collect(), number);
        for (id, load) in loads {
            self.taken.entry(id).or_default().add(load);
            if let Some(number) = number {
                self.numbers.entry(id).or_default().insert(number);
            }
        }
        self.settle(number);
    }

    /// Queues have an input by its ids: its number is theirs too.
    fn has(&mut self, known: Vec<(SlotId, Place)>, number: Option<u64>) {
        for (id, place) in known {
            if let Some(number) = number {
                self.numbers.entry(id).or_default().insert(number);
                self.settled.push((id, number, place));
            }
        }
    }

    /// A number that was refused has come again, wherever it goes now.
    fn settle(&mut self, number: Option<u64>) {
        if let Some(number) = number {
            self.holds.retain(|_, held| held.sequence != number);
        }
    }

    /// An input is refused: all queues that it reaches wait for it.
    fn hold(&mut self, records: &[Range<usize>], number: u64, code: Code) {
        for (cursor, _) in self
            .cursors
            .iter()
            .zip(records)
            .filter(|(_, range)| !range.is_empty())
        {
            if let Some(id) = cursor.id {
                hold(&mut self.holds, id, number, code);
            }
        }
    }

    fn finish(self, exceptions: Vec<Exception>, next: impl Fn(&SlotId) -> u64) -> Taken<'static> {
        // A record's offset counts what is kept before it in its queue.
        let place = |(id, number, place): &(SlotId, u64, Place)| {
            let offset = match *place {
                Place::Offset(offset) => offset,
                Place::OfBatch((cursor, record)) => {
                    let before = self.cursors[..cursor].iter().filter(|c| c.id == Some(*id));
                    let before = before.flat_map(|c| &c.kept);
                    let here = &self.cursors[cursor].kept[..record];
                    next(id) + before.chain(here).filter(|kept| **kept).count() as u64
                }
            };
            (*id, *number, offset)
        };
        let settled = self.settled.iter().map(place).collect();
        let kept = self
            .cursors
            .into_iter()
            .filter_map(|c| Some((c.part.keep(|index| c.kept[index as usize])?, c.id?)));
        let (parts, ids): (Vec<Part>, Vec<SlotId>) = kept.unzip();
        Taken {
            parts: Cow::Owned(parts),
            ids,
            repeated: self.repeated,
            exceptions,
            holds: Some(self.holds),
            settled,
            is_repeat: false,
        }
    }
}

/// What a queue knows a record by.
fn id_of(body: &[u8]) -> Option<IdHash> {
    peek::message_id(body).map(IdHash::of)
}
