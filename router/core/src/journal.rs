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
//! 3 producer       := producer id 16 bytes, epoch, floor, run count, run*    the longest silent first
//! ```
//!
//! A snapshot of version 1 has no sections. A section that a reader does not know is an error: it
//! was written by a newer version, and leaving it out would forget something.
//!
//! Ranges of an entry ascend. The log's checksums cover these bytes, so an entry that does not
//! parse was written by another version.

use std::borrow::Cow;

use waypost_wire::Filter;
use waypost_wire::data::Range;
use waypost_wire::ranges::RangeSet;
use waypost_wire::varint::{self, Reader};

use crate::dedup::{ProducerId, ProducerSnapshot, SequenceRun};
use crate::group::Attempted;
use crate::message_ids::{AcceptedIds, IdHash};

/// The version that this build writes.
const SNAPSHOT_VERSION: u8 = 2;
const SECTION_REMOVED: u64 = 1;
const SECTION_OPTIONS: u64 = 2;
const SECTION_TIME: u64 = 32;
const SECTION_PRODUCER: u64 = 3;
const SECTION_IDS: u64 = 4;

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
            10 => return Some(Entry::Identified(ids(reader)?)),
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
            _ => return None,
        }
        Some(())
    }
}

fn put_section(out: &mut Vec<u8>, id: u64, put: impl FnOnce(&mut Vec<u8>)) {
    let mut value = Vec::new();
    put(&mut value);
    varint::put(out, id);
    varint::put_prefixed(out, &value);
}

fn put_options(out: &mut Vec<u8>, options: &GroupOptions) {
    varint::put(out, options.kind as u64);
    varint::put(out, options.filters.len() as u64);
    for filter in &options.filters {
        varint::put_prefixed(out, filter.as_str().as_bytes());
    }
}

fn options(reader: &mut Reader<'_>) -> Option<GroupOptions> {
    let mut options = GroupOptions {
        kind: GroupKind::from_number(reader.varint()?)?,
        filters: Vec::new(),
    };
    for _ in 0..reader.varint()? {
        options.filters.push(Filter::new(name(reader)?).ok()?);
    }
    Some(options)
}

fn name(reader: &mut Reader<'_>) -> Option<String> {
    String::from_utf8(reader.prefixed()?.to_vec()).ok()
}

fn put_range(out: &mut Vec<u8>, expected: &mut u64, range: Range) {
    varint::put(out, range.first - *expected);
    varint::put(out, range.last - range.first);
    *expected = range.last + 1;
}

fn range(reader: &mut Reader<'_>, expected: &mut u64) -> Option<Range> {
    let first = expected.checked_add(reader.varint()?)?;
    let last = first.checked_add(reader.varint()?)?;
    *expected = last.checked_add(1)?;
    Some(Range { first, last })
}

fn put_ranges(out: &mut Vec<u8>, count: usize, ranges: impl Iterator<Item = Range>) {
    varint::put(out, count as u64);
    let mut expected = 0;
    ranges.for_each(|r| put_range(out, &mut expected, r));
}

fn ranges(reader: &mut Reader<'_>) -> Option<Vec<Range>> {
    let count = reader.varint()?;
    let mut expected = 0;
    let mut ranges = Vec::with_capacity((count as usize).min(reader.remaining()));
    for _ in 0..count {
        ranges.push(range(reader, &mut expected)?);
    }
    Some(ranges)
}

fn producer(reader: &mut Reader<'_>) -> Option<ProducerId> {
    reader.bytes(16)?.try_into().ok()
}

fn put_runs(out: &mut Vec<u8>, runs: &[SequenceRun]) {
    varint::put(out, runs.len() as u64);
    let mut expected = 0;
    for run in runs {
        varint::put(out, run.first - expected);
        varint::put(out, run.last - run.first);
        varint::put(out, run.offset);
        expected = run.last + 1;
    }
}

fn runs(reader: &mut Reader<'_>) -> Option<Vec<SequenceRun>> {
    let count = reader.varint()?;
    let mut expected = 0;
    let mut runs = Vec::with_capacity((count as usize).min(reader.remaining()));
    for _ in 0..count {
        let Range { first, last } = range(reader, &mut expected)?;
        let offset = reader.varint()?;
        runs.push(SequenceRun {
            first,
            last,
            offset,
        });
    }
    Some(runs)
}

fn put_ids(out: &mut Vec<u8>, ids: &AcceptedIds) {
    varint::put(out, ids.time_ms);
    varint::put(out, ids.ids.len() as u64);
    let mut expected = 0;
    for (id, offset) in &ids.ids {
        out.extend_from_slice(&id.0);
        varint::put(out, offset - expected);
        expected = offset + 1;
    }
}

fn ids(reader: &mut Reader<'_>) -> Option<AcceptedIds> {
    let (time_ms, count) = (reader.varint()?, reader.varint()?);
    let mut expected = 0u64;
    let mut ids = Vec::with_capacity((count as usize).min(reader.remaining() / 16));
    for _ in 0..count {
        let id = IdHash(reader.bytes(16)?.try_into().ok()?);
        let offset = expected.checked_add(reader.varint()?)?;
        ids.push((id, offset));
        expected = offset.checked_add(1)?;
    }
    Some(AcceptedIds { time_ms, ids })
}

fn put_attempts(out: &mut Vec<u8>, attempts: &[Attempted]) {
    let mut sorted = Cow::Borrowed(attempts);
    if !attempts.is_sorted_by_key(|a| a.range.first) {
        sorted.to_mut().sort_unstable_by_key(|a| a.range.first);
    }
    varint::put(out, sorted.len() as u64);
    let mut expected = 0;
    for attempted in sorted.iter() {
        put_range(out, &mut expected, attempted.range);
        varint::put(out, u64::from(attempted.attempt));
    }
}

fn attempts(reader: &mut Reader<'_>) -> Option<Vec<Attempted>> {
    let count = reader.varint()?;
    let mut expected = 0;
    let mut attempts = Vec::with_capacity((count as usize).min(reader.remaining()));
    for _ in 0..count {
        let range = range(reader, &mut expected)?;
        attempts.push(Attempted {
            range,
            attempt: u32::try_from(reader.varint()?).ok()?,
        });
    }
    Some(attempts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn r(first: u64, last: u64) -> Range {
        Range { first, last }
    }

    #[test]
    fn round_trips() {
        let attempts = vec![
            Attempted {
                range: r(3, 3),
                attempt: 2,
            },
            Attempted {
                range: r(9, 12),
                attempt: 7,
            },
        ];
        let options = GroupOptions {
            kind: GroupKind::Key,
            filters: vec![Filter::new("a/+").unwrap(), Filter::new("b/#").unwrap()],
        };
        let run = |first, last, offset| SequenceRun {
            first,
            last,
            offset,
        };
        let ids = AcceptedIds {
            time_ms: 1 << 40,
            ids: vec![(IdHash([7; 16]), 0), (IdHash([8; 16]), 9)],
        };
        let produced = vec![run(1, 1, 90), run(2, 9, 3), run(1 << 50, 1 << 51, 4)];
        for entry in [
            Entry::GroupAdded {
                id: 3,
                name: "billing".into(),
                start: 1 << 40,
                options: GroupOptions::default(),
            },
            Entry::GroupAdded {
                id: 4,
                name: "audit".into(),
                start: 0,
                options: options.clone(),
            },
            Entry::GroupMoved { id: 4, to: 9 },
            Entry::Timed,
            Entry::Removed {
                ranges: vec![r(2, 2), r(4, 8)],
            },
            Entry::GroupRemoved { id: 3 },
            Entry::Acked {
                id: 1,
                ranges: vec![r(0, 0), r(5, 900)],
            },
            Entry::Attempts {
                id: 1,
                attempts: attempts.clone(),
            },
            Entry::Truncated { below: 77 },
            Entry::Produced {
                producer: [5; 16],
                epoch: 3,
                runs: produced.clone(),
            },
            Entry::Identified(ids.clone()),
        ] {
            let bytes = entry.encode();
            assert_eq!(Entry::decode(&bytes), Ok(entry));
            assert!(Entry::decode(&bytes[..bytes.len() - 1]).is_err());
        }
        let mut acked = RangeSet::new();
        acked.insert(r(7, 9));
        let group = GroupSnapshot {
            id: 1,
            name: "g".into(),
            options,
            floor: 5,
            acked: acked.clone(),
            attempts,
        };
        let snapshot = Snapshot {
            first: 5,
            next: 90,
            next_group: 2,
            gone: acked,
            is_timed: true,
            newest_ms: 1 << 40,
            groups: vec![group],
            producers: vec![ProducerSnapshot {
                id: [5; 16],
                epoch: 3,
                floor: 0,
                runs: produced,
            }],
            ids: vec![ids],
        };
        assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
    }

    /// A snapshot as the first version wrote it.
    #[test]
    fn the_first_version_is_read() {
        let bytes = b"\x01\x05\x1e\x02\x01\x01\x01g\x05\x01\x07\x02\x01\x03\x00\x02";
        let snapshot = Snapshot::decode(bytes).unwrap();
        assert_eq!(
            (snapshot.first, snapshot.next, snapshot.next_group),
            (5, 30, 2)
        );
        let group = &snapshot.groups[0];
        assert_eq!((group.name.as_str(), group.floor), ("g", 5));
        assert_eq!(group.acked.iter().collect::<Vec<_>>(), [r(7, 9)]);
        assert_eq!(group.attempts[0].range, r(3, 3));
        assert_eq!(group.options, GroupOptions::default());
        assert!(snapshot.is_timed, "nobody had looked");
        let mut newer = snapshot.encode();
        newer.extend([60, 1, 0]);
        assert!(Snapshot::decode(&newer).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Entry::decode(&bytes);
            let _ = Snapshot::decode(&bytes);
        }
    }
}
