//! What a queue's journal says besides its messages, as bytes.
//!
//! ```text
//! entry    := kind u8, fields (varints, RFC 9000)
//! 1 group added    := group id, start offset, name length, name
//! 2 group removed  := group id
//! 3 acked          := group id, range count, range*      range := gap after the last end, length - 1
//! 4 attempts       := group id, count, (range, attempt)*
//! 5 truncated      := offset                             everything below is gone for every group
//! snapshot := version u8 (= 1), first offset, next offset, next group id, group count, group*
//! group    := group id, name length, name, floor, range count, range*, attempts count, (range, attempt)*
//! ```
//!
//! Ranges of an entry ascend. The log's checksums cover these bytes, so an entry that does not
//! parse was written by another version.

use waypost_wire::data::Range;
use waypost_wire::varint::{self, Reader};

use crate::group::Attempted;
use crate::ranges::RangeSet;

/// Numbers a group within its queue; never used again.
pub type GroupId = u32;

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
        let mut out = Vec::with_capacity(32);
        match self {
            Entry::GroupAdded { id, name, start } => {
                out.push(1);
                varint::put(&mut out, u64::from(*id));
                varint::put(&mut out, *start);
                varint::put_prefixed(&mut out, name.as_bytes());
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
        }
        out
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
        if kind == 5 {
            return Some(Entry::Truncated {
                below: reader.varint()?,
            });
        }
        let id = u32::try_from(reader.varint()?).ok()?;
        Some(match kind {
            1 => Entry::GroupAdded {
                id,
                start: reader.varint()?,
                name: name(reader)?,
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
    /// The groups.
    pub groups: Vec<GroupSnapshot>,
}

/// One group of a [`Snapshot`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSnapshot {
    /// Its number.
    pub id: GroupId,
    /// Its name.
    pub name: String,
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
        let mut out = vec![1];
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
        if reader.u8()? != 1 {
            return None;
        }
        let mut snapshot = Snapshot {
            first: reader.varint()?,
            next: reader.varint()?,
            next_group: u32::try_from(reader.varint()?).ok()?,
            groups: Vec::new(),
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
        Some(snapshot)
    }
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

fn put_attempts(out: &mut Vec<u8>, attempts: &[Attempted]) {
    let mut sorted = attempts.to_vec();
    sorted.sort_unstable_by_key(|a| a.range.first);
    varint::put(out, sorted.len() as u64);
    let mut expected = 0;
    for attempted in sorted {
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
        for entry in [
            Entry::GroupAdded {
                id: 3,
                name: "billing".into(),
                start: 1 << 40,
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
            floor: 5,
            acked,
            attempts,
        };
        let snapshot = Snapshot {
            first: 5,
            next: 90,
            next_group: 2,
            groups: vec![group],
        };
        assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Entry::decode(&bytes);
            let _ = Snapshot::decode(&bytes);
        }
    }
}
