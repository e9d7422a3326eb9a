//! What a queue's journal says besides its messages, as bytes.
//!
//! ```text
//! entry    := kind u8, fields (varints, RFC 9000)
//! 1 group added    := group id, start offset, name length, name
//! 2 group removed  := group id
//! 3 acked          := group id, range count, range*      range := gap after the last end, length - 1
//! 4 attempts       := group id, count, (range, attempt)*
//! 5 truncated      := offset                             everything below is gone for every group
//! 6 removed        := range count, range*                these are gone for every group
//! 7 group added    := group id, start offset, name length, name, options     with options
//! 8 group moved    := group id, offset
//! 32 timed         :=                                    some message waits or expires
//! 9 produced       := producer id 16 bytes, epoch, run count, run*       its messages in the same set
//! 10 identified    := time, id count, id*                               ids of its messages in the same set
//! 11 asked         := producer id 16 bytes, count, (gap, length - 1, sequence)*   of its messages it wants receipts
//! 12 settled       := outcome u8, last u8, name length, name, range count, range*   a group is done with asked ones
//! 13 told          := producer id 16 bytes, receipt number              it has the receipts below
//! 14 forgotten     := producer id 16 bytes               it was away too long
//! id       := 16 bytes of its hash, gap after the last offset, less 1
//! run      := sequence gap after the last run's end, length - 1, offset of the first
//! options  := kind (0 shared, 1 exclusive, 2 key), filter count, (filter length, filter)*
//! snapshot := version u8 (= 2), first offset, next offset, next group id, group count, group*, section*
//! group    := group id, name length, name, floor, range count, range*, attempts count, (range, attempt)*
//! section  := id, length, value
//! 1 removed        := range count, range*
//! 2 options        := group id, options                  of a group that has other than the default
//! 32 time          := newest receive time, timed         ms since 1970; 1 if some message waits or expires
//! 4 ids            := time, id count, id*                               message ids, the oldest first
//! 5 receipts       := producer id 16 bytes, lost, count, (gap, length - 1, sequence)*, count, owed*
//! owed     := number, count, sequence, offset, outcome u8, last u8, name length, name
//! 6 next receipt   := number
//! 3 producer       := producer id 16 bytes, epoch, floor, run count, run*    the longest silent first
//! ```
//!
//! A snapshot of version 1 has no sections. A section that a reader does not know is an error: it
//! was written by a newer version, and leaving it out would forget something.
//!
//! Ranges of an entry ascend. The log's checksums cover these bytes, so an entry that does not
//! parse was written by another version.

mod fields;

use std::sync::Arc;

use waypost_wire::Filter;
use waypost_wire::data::{Outcome, Range};
use waypost_wire::ranges::RangeSet;
use waypost_wire::varint::{self, Reader};

use crate::dedup::{ProducerId, ProducerSnapshot, SequenceRun};
use crate::group::Attempted;
use crate::message_ids::AcceptedIds;
use crate::receipts::{AskedRun, ReceiptSnapshot};

use fields::{
    attempts, ids, name, options, producer, put_asked, put_attempts, put_ids, put_options,
    put_ranges, put_receipts, put_runs, put_section, ranges, read_later, receipts, runs,
};

/// The version that this build writes.
const SNAPSHOT_VERSION: u8 = 2;
const SECTION_REMOVED: u64 = 1;
const SECTION_OPTIONS: u64 = 2;
const SECTION_TIME: u64 = 32;
const SECTION_PRODUCER: u64 = 3;
const SECTION_IDS: u64 = 4;
const SECTION_RECEIPTS: u64 = 5;
const SECTION_NEXT_RECEIPT: u64 = 6;

/// Numbers a group within its queue; never used again.
pub type GroupId = u32;

/// How the messages of a queue are shared out in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GroupKind {
    /// Each message to one of the consumers.
    #[default]
    Shared,
    /// All to one consumer at a time, in order.
    Exclusive,
    /// All of one key to one consumer at a time, in order.
    Key,
}

impl GroupKind {
    /// The kind with this number.
    pub fn from_number(number: u64) -> Option<GroupKind> {
        [GroupKind::Shared, GroupKind::Exclusive, GroupKind::Key]
            .get(usize::try_from(number).ok()?)
            .copied()
    }

    /// The word for people, for the configuration and for `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            GroupKind::Shared => "shared",
            GroupKind::Exclusive => "exclusive",
            GroupKind::Key => "key",
        }
    }
}

/// What a group is made with; it keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupOptions {
    /// How messages are shared out.
    pub kind: GroupKind,
    /// Topics that it takes; none: all.
    pub filters: Vec<Filter>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A group was made.
    GroupAdded {
        /// Its number.
        id: GroupId,
        /// Its name.
        name: String,
        /// The first offset that it gets.
        start: u64,
        /// How it is made.
        options: GroupOptions,
    },
    /// A group was removed.
    GroupRemoved {
        /// Its number.
        id: GroupId,
    },
    /// Messages are done for a group.
    Acked {
        /// Its number.
        id: GroupId,
        /// Which messages; ascending.
        ranges: Vec<Range>,
    },
    /// Messages failed and wait for the attempt named.
    Attempts {
        /// The group's number.
        id: GroupId,
        /// Which messages; ascending.
        attempts: Vec<Attempted>,
    },
    /// Everything below was purged.
    Truncated {
        /// The first offset that is left.
        below: u64,
    },
    /// Messages are gone for every group.
    Removed {
        /// Which; ascending.
        ranges: Vec<Range>,
    },
    /// A group was moved to another place.
    GroupMoved {
        /// Its number.
        id: GroupId,
        /// The first offset that it gets next.
        to: u64,
    },
    /// From here on some message says when it may be delivered, or until when.
    Timed,
    /// Messages of a producer that were appended beside this.
    Produced {
        /// The producer.
        producer: ProducerId,
        /// Its epoch.
        epoch: u64,
        /// Their numbers and places; ascending.
        runs: Vec<SequenceRun>,
    },
    /// Message ids that a queue accepted, with messages that were appended beside this.
    Identified(AcceptedIds),
    /// Of these messages their producer wants receipts; they were appended beside this.
    Asked {
        /// The producer.
        producer: ProducerId,
        /// Which; ascending.
        runs: Vec<AskedRun>,
    },
    /// A group is done with messages that receipts were asked of.
    Settled {
        /// The group; empty where there is none.
        group: Arc<str>,
        /// How.
        outcome: Outcome,
        /// Whether no other group is left that is not.
        is_last: bool,
        /// Which; ascending.
        ranges: Vec<Range>,
    },
    /// A producer has its receipts below a number.
    Told {
        /// The producer.
        producer: ProducerId,
        /// The number.
        below: u64,
    },
    /// A producer was away too long to be told of anything.
    Forgotten {
        /// The producer.
        producer: ProducerId,
    },
}

/// An entry or snapshot that does not parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("journal {what} is not of this version: cut off or unknown at byte {at}")]
pub struct JournalError {
    /// `entry` or `snapshot`.
    pub what: &'static str,
    /// Where reading stopped.
    pub at: usize,
}

impl Entry {
    /// The entry's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + 4 * self.parts());
        match self {
            Entry::GroupAdded {
                id,
                name,
                start,
                options,
            } => {
                let is_plain = *options == GroupOptions::default();
                out.push(if is_plain { 1 } else { 7 });
                varint::put(&mut out, u64::from(*id));
                varint::put(&mut out, *start);
                varint::put_prefixed(&mut out, name.as_bytes());
                if !is_plain {
                    put_options(&mut out, options);
                }
            }
            Entry::GroupRemoved { id } => {
                out.push(2);
                varint::put(&mut out, u64::from(*id));
            }
            Entry::Acked { id, ranges } => {
                out.push(3);
                varint::put(&mut out, u64::from(*id));
                put_ranges(&mut out, ranges.len(), ranges.iter().copied());
            }
            Entry::Attempts { id, attempts } => {
                out.push(4);
                varint::put(&mut out, u64::from(*id));
                put_attempts(&mut out, attempts);
            }
            Entry::Truncated { below } => {
                out.push(5);
                varint::put(&mut out, *below);
            }
            Entry::Removed { ranges } => {
                out.push(6);
                put_ranges(&mut out, ranges.len(), ranges.iter().copied());
            }
            Entry::GroupMoved { id, to } => {
                out.push(8);
                varint::put(&mut out, u64::from(*id));
                varint::put(&mut out, *to);
            }
            Entry::Timed => out.push(32),
            Entry::Produced {
                producer,
                epoch,
                runs,
            } => {
                out.push(9);
                out.extend_from_slice(producer);
                varint::put(&mut out, *epoch);
                put_runs(&mut out, runs);
            }
            Entry::Identified(ids) => {
                out.push(10);
                put_ids(&mut out, ids);
            }
            Entry::Asked { producer, runs } => {
                out.push(11);
                out.extend_from_slice(producer);
                put_asked(&mut out, runs);
            }
            Entry::Settled {
                group,
                outcome,
                is_last,
                ranges,
            } => {
                out.extend_from_slice(&[12, *outcome as u8, u8::from(*is_last)]);
                varint::put_prefixed(&mut out, group.as_bytes());
                put_ranges(&mut out, ranges.len(), ranges.iter().copied());
            }
            Entry::Told { producer, below } => {
                out.push(13);
                out.extend_from_slice(producer);
                varint::put(&mut out, *below);
            }
            Entry::Forgotten { producer } => {
                out.push(14);
                out.extend_from_slice(producer);
            }
        }
        out
    }

    /// How many ranges, attempts or runs it has.
    fn parts(&self) -> usize {
        match self {
            Entry::Acked { ranges, .. } | Entry::Removed { ranges } => ranges.len(),
            Entry::Attempts { attempts, .. } => attempts.len(),
            Entry::Produced { runs, .. } => runs.len(),
            _ => 0,
        }
    }

    /// Reads an entry.
    pub fn decode(bytes: &[u8]) -> Result<Entry, JournalError> {
        let mut reader = Reader::new(bytes);
        Self::read(&mut reader)
            .filter(|_| reader.remaining() == 0)
            .ok_or(JournalError {
                what: "entry",
                at: reader.position(),
            })
    }

    fn read(reader: &mut Reader<'_>) -> Option<Entry> {
        let kind = reader.u8()?;
        match kind {
            5 => {
                let below = reader.varint()?;
                return Some(Entry::Truncated { below });
            }
            6 => {
                let ranges = ranges(reader)?;
                return Some(Entry::Removed { ranges });
            }
            32 => return Some(Entry::Timed),
            10..=14 => return read_later(kind, reader),
            9 => {
                return Some(Entry::Produced {
                    producer: producer(reader)?,
                    epoch: reader.varint()?,
                    runs: runs(reader)?,
                });
            }
            _ => {}
        }
        let id = u32::try_from(reader.varint()?).ok()?;
        Some(match kind {
            1 => Entry::GroupAdded {
                id,
                start: reader.varint()?,
                name: name(reader)?,
                options: GroupOptions::default(),
            },
            2 => Entry::GroupRemoved { id },
            3 => Entry::Acked {
                id,
                ranges: ranges(reader)?,
            },
            4 => Entry::Attempts {
                id,
                attempts: attempts(reader)?,
            },
            7 => Entry::GroupAdded {
                id,
                start: reader.varint()?,
                name: name(reader)?,
                options: options(reader)?,
            },
            8 => Entry::GroupMoved {
                id,
                to: reader.varint()?,
            },
            _ => return None,
        })
    }
}

/// Everything that a queue's journal says up to a point, so that what is before it may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The first offset that any group may still need.
    pub first: u64,
    /// The offset of the next message.
    pub next: u64,
    /// The next group's number.
    pub next_group: GroupId,
    /// Offsets whose messages are gone.
    pub gone: RangeSet,
    /// Whether some message says when it may be delivered, or until when.
    pub is_timed: bool,
    /// The newest receive time that the node had given, in ms since 1970.
    pub newest_ms: u64,
    /// The groups.
    pub groups: Vec<GroupSnapshot>,
    /// Producers, the one that was silent longest first.
    pub producers: Vec<ProducerSnapshot>,
    /// Message ids, the oldest first.
    pub ids: Vec<AcceptedIds>,
    /// The next receipt's number.
    pub next_receipt: u64,
    /// Producers that asked for receipts.
    pub receipts: Vec<ReceiptSnapshot>,
}

/// One group of a [`Snapshot`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSnapshot {
    /// Its number.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// How it was made.
    pub options: GroupOptions,
    /// Every offset below is acked.
    pub floor: u64,
    /// Acked ranges above the floor.
    pub acked: RangeSet,
    /// Messages that failed, with the attempt that they wait for or are at.
    pub attempts: Vec<Attempted>,
}

impl Snapshot {
    /// The snapshot's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![SNAPSHOT_VERSION];
        for number in [
            self.first,
            self.next,
            u64::from(self.next_group),
            self.groups.len() as u64,
        ] {
            varint::put(&mut out, number);
        }
        for group in &self.groups {
            varint::put(&mut out, u64::from(group.id));
            varint::put_prefixed(&mut out, group.name.as_bytes());
            varint::put(&mut out, group.floor);
            put_ranges(&mut out, group.acked.len(), group.acked.iter());
            put_attempts(&mut out, &group.attempts);
        }
        if !self.gone.is_empty() {
            put_section(&mut out, SECTION_REMOVED, |out| {
                put_ranges(out, self.gone.len(), self.gone.iter());
            });
        }
        put_section(&mut out, SECTION_TIME, |out| {
            varint::put(out, self.newest_ms);
            varint::put(out, u64::from(self.is_timed));
        });
        let special = |group: &&GroupSnapshot| group.options != GroupOptions::default();
        for group in self.groups.iter().filter(special) {
            put_section(&mut out, SECTION_OPTIONS, |out| {
                varint::put(out, u64::from(group.id));
                put_options(out, &group.options);
            });
        }
        for producer in &self.producers {
            put_section(&mut out, SECTION_PRODUCER, |out| {
                out.extend_from_slice(&producer.id);
                varint::put(out, producer.epoch);
                varint::put(out, producer.floor);
                put_runs(out, &producer.runs);
            });
        }
        for ids in &self.ids {
            put_section(&mut out, SECTION_IDS, |out| put_ids(out, ids));
        }
        for receipts in &self.receipts {
            put_section(&mut out, SECTION_RECEIPTS, |out| {
                put_receipts(out, receipts)
            });
        }
        if self.next_receipt > 0 {
            put_section(&mut out, SECTION_NEXT_RECEIPT, |out| {
                varint::put(out, self.next_receipt);
            });
        }
        out
    }

    /// Reads a snapshot.
    pub fn decode(bytes: &[u8]) -> Result<Snapshot, JournalError> {
        let mut reader = Reader::new(bytes);
        Self::read(&mut reader)
            .filter(|_| reader.remaining() == 0)
            .ok_or(JournalError {
                what: "snapshot",
                at: reader.position(),
            })
    }

    fn read(reader: &mut Reader<'_>) -> Option<Snapshot> {
        let version = reader.u8()?;
        if !(1..=SNAPSHOT_VERSION).contains(&version) {
            return None;
        }
        let mut snapshot = Snapshot {
            first: reader.varint()?,
            next: reader.varint()?,
            next_group: u32::try_from(reader.varint()?).ok()?,
            // The first version did not look.
            is_timed: version == 1,
            ..Snapshot::default()
        };
        for _ in 0..reader.varint()? {
            let mut group = GroupSnapshot {
                id: u32::try_from(reader.varint()?).ok()?,
                name: name(reader)?,
                floor: reader.varint()?,
                ..GroupSnapshot::default()
            };
            ranges(reader)?
                .into_iter()
                .for_each(|range| group.acked.insert(range));
            group.attempts = attempts(reader)?;
            snapshot.groups.push(group);
        }
        while version > 1 && reader.remaining() > 0 {
            let id = reader.varint()?;
            let mut section = Reader::new(reader.prefixed()?);
            snapshot.section(id, &mut section)?;
            if section.remaining() > 0 {
                return None;
            }
        }
        Some(snapshot)
    }

    fn section(&mut self, id: u64, reader: &mut Reader<'_>) -> Option<()> {
        match id {
            SECTION_REMOVED => ranges(reader)?
                .into_iter()
                .for_each(|range| self.gone.insert(range)),
            SECTION_OPTIONS => {
                let id = u32::try_from(reader.varint()?).ok()?;
                let group = self.groups.iter_mut().find(|group| group.id == id)?;
                group.options = options(reader)?;
            }
            SECTION_TIME => {
                self.newest_ms = reader.varint()?;
                self.is_timed = reader.varint()? == 1;
            }
            SECTION_PRODUCER => self.producers.push(ProducerSnapshot {
                id: producer(reader)?,
                epoch: reader.varint()?,
                floor: reader.varint()?,
                runs: runs(reader)?,
            }),
            SECTION_IDS => self.ids.push(ids(reader)?),
            SECTION_RECEIPTS => self.receipts.push(receipts(reader)?),
            SECTION_NEXT_RECEIPT => self.next_receipt = reader.varint()?,
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
