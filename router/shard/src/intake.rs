//! Which inputs of a batch are taken, and what is said of the others.
//!
//! An input is one message as its publisher sent it; routes and plugins may have made several
//! records of it, in several queues. Invariants: of an input all is taken that was not stored
//! before, or nothing; a refused input refuses no other one, but those of its producer behind it;
//! inputs that are taken keep their order in every queue.
//!
//! Each queue decides by itself what is a repeat: where routes have changed between, what is sent
//! again goes where it has not been. Most batches are taken whole, which costs one question a
//! queue; only when a queue says no is each input looked at.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use waypost_core::dedup::{Holds, Seen, hold};
use waypost_log::Vfs;
use waypost_wire::data::{Exception, ExceptionKind};
use waypost_wire::{Code, varint};

use crate::publish::{Batch, Part, PublishError, Stamp};
use crate::{Shard, SlotId};

/// What is taken of a batch.
pub(crate) struct Taken<'a> {
    pub parts: Cow<'a, [Part]>,
    /// For each part, its queue.
    pub ids: Vec<SlotId>,
    /// Queues that have something of the batch from before.
    pub repeated: BTreeSet<SlotId>,
    /// What is said of inputs that are not simply taken, in their order.
    pub exceptions: Vec<Exception>,
    /// What the producer has to make good after this, where that changes.
    pub holds: Option<Holds>,
}

impl Taken<'_> {
    /// All of it was stored before.
    pub fn is_repeat(&self) -> bool {
        self.parts.is_empty() && !self.exceptions.is_empty()
    }
}

/// Messages and bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    count: u64,
    bytes: u64,
}

impl Load {
    fn add(&mut self, more: Load) {
        self.count += more.count;
        self.bytes += more.bytes;
    }
}

/// A part while its inputs are looked at one by one.
struct Cursor<'a> {
    part: &'a Part,
    id: Option<SlotId>,
    /// Bytes of each record with its length.
    sizes: Vec<u64>,
    at: usize,
    kept: Vec<bool>,
}

impl<'a> Cursor<'a> {
    fn new(part: &'a Part, id: Option<SlotId>) -> Cursor<'a> {
        let size = |body: &[u8]| (varint::len(body.len() as u64) + body.len()) as u64;
        let sizes: Vec<u64> = part.slab.iter().map(size).collect();
        Cursor {
            part,
            id,
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
    holds: Holds,
    repeated: BTreeSet<SlotId>,
}

/// What becomes of an input.
enum Fate {
    /// It goes into these queues; the others have it.
    Taken(BTreeMap<SlotId, Load>),
    /// All queues that it reaches have it: one of them, and where it lies there.
    Repeat(SlotId, Option<u64>),
}

impl<V: Vfs> Shard<V> {
    /// Decides what is taken. A batch that must be taken whole is an error otherwise.
    pub(crate) fn sort_out<'a>(&self, batch: &'a Batch) -> Result<Taken<'a>, PublishError> {
        if let Some(stamp) = &batch.stamp {
            self.holds_of(stamp)?;
        }
        let whole = self.ids_of(&batch.parts).and_then(|ids| {
            self.admit(&batch.parts, &ids)?;
            Ok(ids)
        });
        match whole {
            Ok(ids) if self.is_new(batch, &ids) => Ok(Taken {
                parts: Cow::Borrowed(&batch.parts),
                ids,
                repeated: BTreeSet::new(),
                exceptions: Vec::new(),
                holds: None,
            }),
            Err(error) if batch.is_whole && batch.stamp.is_none() => Err(error),
            _ => self.take_some(batch),
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
                });
            }
            self.admit_load(*id, load)?;
        }
        Ok(())
    }

    fn admit_load(&self, id: SlotId, load: Load) -> Result<(), PublishError> {
        if let Some(slot) = self.slots.get(&id) {
            slot.queue.admit(load.count, load.bytes)?;
        }
        Ok(())
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
    fn take_some(&self, batch: &Batch) -> Result<Taken<'static>, PublishError> {
        let cursor = |part| Cursor::new(part, self.slot_of(&part.queue));
        let mut sorting = Sorting {
            cursors: batch.parts.iter().map(cursor).collect(),
            taken: BTreeMap::new(),
            numbers: BTreeMap::new(),
            holds: match &batch.stamp {
                Some(stamp) => self.holds_of(stamp)?.clone(),
                None => Holds::new(),
            },
            repeated: BTreeSet::new(),
        };
        let mut exceptions = Vec::new();
        let mut is_partly_new = false;
        for input in 0..batch.count {
            let records: Vec<_> = sorting.cursors.iter_mut().map(|c| c.take(input)).collect();
            let stamp = batch.stamp.as_ref().map(|s| (s, s.sequence(input)));
            if records.iter().all(|range| range.is_empty()) {
                sorting.settle(stamp.map(|(_, number)| number));
                continue;
            }
            let (kind, code, text) = match self.judge(&sorting, &records, stamp) {
                Ok(Fate::Taken(loads)) => {
                    is_partly_new = true;
                    sorting.take(&records, loads, stamp.map(|(_, number)| number));
                    continue;
                }
                Ok(Fate::Repeat(id, offset)) => {
                    sorting.repeated.insert(id);
                    sorting.settle(stamp.map(|(_, number)| number));
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
        if batch.is_whole && is_partly_new && !exceptions.is_empty() {
            return Err(PublishError::Partly);
        }
        Ok(sorting.finish(exceptions))
    }

    /// Whether every queue takes what an input brings it, beside what was taken before.
    fn judge(
        &self,
        sorting: &Sorting<'_>,
        records: &[Range<usize>],
        stamp: Option<(&Stamp, u64)>,
    ) -> Result<Fate, PublishError> {
        let mut loads: BTreeMap<SlotId, Load> = BTreeMap::new();
        let mut repeat = None;
        for (cursor, range) in sorting.cursors.iter().zip(records) {
            if range.is_empty() {
                continue;
            }
            let queue = || cursor.part.queue.clone();
            let id = cursor.id.ok_or_else(|| PublishError::NoQueue(queue()))?;
            match stamp.map_or(Seen::New, |(s, number)| self.seen(sorting, id, s, number)) {
                Seen::New => loads.entry(id).or_default().add(Load {
                    count: range.len() as u64,
                    bytes: cursor.sizes[range.clone()].iter().sum(),
                }),
                Seen::Repeat(offset) => repeat = repeat.or(Some((id, offset))),
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
        if let (Some((id, offset)), true) = (repeat, loads.is_empty()) {
            return Ok(Fate::Repeat(id, offset));
        }
        for (id, load) in &loads {
            let mut all = sorting.taken.get(id).copied().unwrap_or_default();
            all.add(*load);
            self.admit_load(*id, all)?;
        }
        Ok(Fate::Taken(loads))
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
    /// An input is taken, into the queues that have it not.
    fn take(
        &mut self,
        records: &[Range<usize>],
        loads: BTreeMap<SlotId, Load>,
        number: Option<u64>,
    ) {
        for (cursor, range) in self.cursors.iter_mut().zip(records) {
            let Some(id) = cursor.id.filter(|_| !range.is_empty()) else {
                continue;
            };
            let is_wanted = loads.contains_key(&id);
            cursor.kept[range.clone()].fill(is_wanted);
            if !is_wanted {
                self.repeated.insert(id);
            }
        }
        for (id, load) in loads {
            self.taken.entry(id).or_default().add(load);
            if let Some(number) = number {
                self.numbers.entry(id).or_default().insert(number);
            }
        }
        self.settle(number);
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

    fn finish(self, exceptions: Vec<Exception>) -> Taken<'static> {
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
        }
    }
}
