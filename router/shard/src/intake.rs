//! Which inputs of a batch are taken, and what is said of the others.
//!
//! An input is one message as its publisher sent it; routes and plugins may have made several
//! records of it, in several queues. Invariants: all records of an input are taken, or none;
//! a refused input refuses no other one; inputs that are taken keep their order in every queue.
//!
//! Most batches are taken whole, which costs one question a queue; only when a queue says no is
//! each input looked at.

use std::borrow::Cow;
use std::collections::BTreeMap;

use waypost_log::Vfs;
use waypost_wire::data::{Exception, ExceptionKind};
use waypost_wire::varint;

use crate::publish::{Batch, Part, PublishError};
use crate::{Shard, SlotId};

/// What is taken of a batch.
pub(crate) struct Taken<'a> {
    pub parts: Cow<'a, [Part]>,
    /// For each part, its queue.
    pub ids: Vec<SlotId>,
    /// What is said of inputs that are not simply taken, in their order.
    pub exceptions: Vec<Exception>,
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
    fn take(&mut self, input: u32) -> std::ops::Range<usize> {
        let start = self.at;
        while self.at < self.sizes.len() && self.part.input(self.at as u32) == input {
            self.at += 1;
        }
        start..self.at
    }
}

impl<V: Vfs> Shard<V> {
    /// Decides what is taken. A batch that must be taken whole is an error otherwise.
    pub(crate) fn sort_out<'a>(&self, batch: &'a Batch) -> Result<Taken<'a>, PublishError> {
        let whole = match self.ids_of(&batch.parts) {
            Ok(ids) => self.admit(&batch.parts, &ids).map(|()| ids),
            Err(error) => Err(error),
        };
        match whole {
            Ok(ids) => Ok(Taken {
                parts: Cow::Borrowed(&batch.parts),
                ids,
                exceptions: Vec::new(),
            }),
            Err(error) if batch.is_whole => Err(error),
            Err(_) => Ok(self.take_some(batch)),
        }
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

    /// Looks at each input by itself.
    fn take_some(&self, batch: &Batch) -> Taken<'static> {
        let cursor = |part| Cursor::new(part, self.slot_of(&part.queue));
        let mut cursors: Vec<Cursor<'_>> = batch.parts.iter().map(cursor).collect();
        let mut taken: BTreeMap<SlotId, Load> = BTreeMap::new();
        let mut exceptions = Vec::new();
        for input in 0..batch.count {
            let records: Vec<_> = cursors.iter_mut().map(|c| c.take(input)).collect();
            match self.admit_input(&cursors, &records, &taken) {
                Ok(loads) => {
                    for (id, load) in loads {
                        taken.entry(id).or_default().add(load);
                    }
                    for (cursor, range) in cursors.iter_mut().zip(records) {
                        cursor.kept[range].fill(true);
                    }
                }
                Err(error) => exceptions.push(Exception {
                    sequence: batch.first_sequence + u64::from(input),
                    kind: ExceptionKind::Refused,
                    code: error.code(),
                    text: error.to_string(),
                }),
            }
        }
        let kept = cursors
            .into_iter()
            .filter_map(|c| Some((c.part.keep(|index| c.kept[index as usize])?, c.id?)));
        let (parts, ids): (Vec<Part>, Vec<SlotId>) = kept.unzip();
        Taken {
            parts: Cow::Owned(parts),
            ids,
            exceptions,
        }
    }

    /// Whether every queue takes what an input brings it, beside what was taken before.
    fn admit_input(
        &self,
        cursors: &[Cursor<'_>],
        records: &[std::ops::Range<usize>],
        taken: &BTreeMap<SlotId, Load>,
    ) -> Result<BTreeMap<SlotId, Load>, PublishError> {
        let mut loads: BTreeMap<SlotId, Load> = BTreeMap::new();
        for (cursor, range) in cursors.iter().zip(records) {
            if range.is_empty() {
                continue;
            }
            let missing = || PublishError::NoQueue(cursor.part.queue.clone());
            loads
                .entry(cursor.id.ok_or_else(missing)?)
                .or_default()
                .add(Load {
                    count: range.len() as u64,
                    bytes: cursor.sizes[range.clone()].iter().sum(),
                });
        }
        for (id, load) in &loads {
            let mut all = taken.get(id).copied().unwrap_or_default();
            all.add(*load);
            self.admit_load(*id, all)?;
        }
        Ok(loads)
    }
}
