//! An entry: one thing that a queue's journal must remember.
//!
//! Entries follow one another in a group without padding, and message entries are copied into
//! segments byte by byte. The header has its own CRC, so that a read needs neither the group nor
//! its neighbours.
//!
//! ```text
//!  0  u32  CRC32C of bytes 4..48
//!  4  u8   kind
//!  5  u8   flags, 0
//!  6  u16  0
//!  8  u32  length of the payload
//! 12  u32  CRC32C of the payload
//! 16  u64  incarnation of the queue; 0 for an entry of the log itself
//! 24  u64  first offset (messages), or the offset trimmed to (trimmed); else 0
//! 32  u64  receive time in ms since 1970 (messages); else 0
//! 40  u32  epoch (messages); else 0
//! 44  u32  number of records (messages); else 0
//! 48       payload
//! ```
//!
//! | kind | payload |
//! |---|---|
//! | 1 messages | the slab: for each record its length as a QUIC varint, then its body |
//! | 2 state | the queue's own bytes |
//! | 3 snapshot | see [`super::snapshot`] |
//! | 4 removed | none: the queue is gone, and so is all that came before |
//! | 5 opened | u64: the position at which the generation before ended |
//! | 6 trimmed | none: offsets below are no longer needed |

use super::{u16_at, u32_at, u64_at};

/// Bytes of an entry's header.
pub const ENTRY_HEADER_BYTES: usize = 48;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// Records of a queue.
    Messages = 1,
    /// Opaque bytes of a queue's journal.
    State = 2,
    /// A queue's whole state.
    Snapshot = 3,
    /// The queue was removed.
    Removed = 4,
    /// A generation begins.
    Opened = 5,
    /// Offsets below are no longer needed.
    Trimmed = 6,
}

impl EntryKind {
    fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Messages,
            2 => Self::State,
            3 => Self::Snapshot,
            4 => Self::Removed,
            5 => Self::Opened,
            6 => Self::Trimmed,
            _ => return None,
        })
    }
}

/// An entry's header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// What the entry is.
    pub kind: EntryKind,
    /// Bytes of payload that follow.
    pub length: u32,
    /// CRC32C of the payload.
    pub payload_crc: u32,
    /// The queue, or 0 for the log itself.
    pub incarnation: u64,
    /// First offset of messages, or the offset trimmed to.
    pub first_offset: u64,
    /// Receive time of messages, ms since 1970.
    pub time_ms: u64,
    /// The epoch in whose name messages were appended.
    pub epoch: u32,
    /// Number of records.
    pub count: u32,
}

impl EntryHeader {
    /// A header of `kind` for a queue, all else zero.
    pub fn new(kind: EntryKind, incarnation: u64) -> Self {
        EntryHeader {
            kind,
            length: 0,
            payload_crc: 0,
            incarnation,
            first_offset: 0,
            time_ms: 0,
            epoch: 0,
            count: 0,
        }
    }

    /// Bytes of header and payload.
    pub fn total_bytes(&self) -> u64 {
        ENTRY_HEADER_BYTES as u64 + u64::from(self.length)
    }

    /// One past the last offset of messages.
    pub fn end_offset(&self) -> u64 {
        self.first_offset.saturating_add(u64::from(self.count))
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; ENTRY_HEADER_BYTES] {
        let mut b = [0; ENTRY_HEADER_BYTES];
        b[4] = self.kind as u8;
        b[8..12].copy_from_slice(&self.length.to_le_bytes());
        b[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        b[16..24].copy_from_slice(&self.incarnation.to_le_bytes());
        b[24..32].copy_from_slice(&self.first_offset.to_le_bytes());
        b[32..40].copy_from_slice(&self.time_ms.to_le_bytes());
        b[40..44].copy_from_slice(&self.epoch.to_le_bytes());
        b[44..48].copy_from_slice(&self.count.to_le_bytes());
        let crc = crc32c::crc32c(&b[4..]);
        b[0..4].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// The header at `bytes[0]`, if it is whole, unharmed and of a known kind.
    pub fn decode(bytes: &[u8]) -> Option<EntryHeader> {
        let b = bytes.get(..ENTRY_HEADER_BYTES)?;
        if crc32c::crc32c(&b[4..]) != u32_at(b, 0) || b[5] != 0 || u16_at(b, 6) != 0 {
            return None;
        }
        Some(EntryHeader {
            kind: EntryKind::from_u8(b[4])?,
            length: u32_at(b, 8),
            payload_crc: u32_at(b, 12),
            incarnation: u64_at(b, 16),
            first_offset: u64_at(b, 24),
            time_ms: u64_at(b, 32),
            epoch: u32_at(b, 40),
            count: u32_at(b, 44),
        })
    }
}

impl EntryHeader {
    /// As [`decode`](Self::decode), and if a single bit of the header has flipped, as it was
    /// before: the checksum tells any five flips of so few bytes apart, so that one can be undone
    /// without doubt. Without it, a flip in a length would hide all that follows.
    pub fn decode_or_mend(bytes: &[u8]) -> Option<EntryHeader> {
        let b = bytes.get(..ENTRY_HEADER_BYTES)?;
        let whole = Self::decode(b);
        if whole.is_some() || b.iter().all(|byte| *byte == 0) {
            return whole;
        }
        let mut mended = [0; ENTRY_HEADER_BYTES];
        mended.copy_from_slice(b);
        (0..ENTRY_HEADER_BYTES * 8).find_map(|bit| {
            mended[bit / 8] ^= 1 << (bit % 8);
            let header = Self::decode(&mended);
            mended[bit / 8] ^= 1 << (bit % 8);
            header
        })
    }
}

/// An entry found in a group.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Where its header begins, in bytes from the start of the group.
    pub at: usize,
    /// The header.
    pub header: EntryHeader,
    /// The payload.
    pub payload: &'a [u8],
    /// Whether the payload is what was written.
    pub intact: bool,
}

/// Walks the entries in `group` (which begins with a group header) until one cannot be read.
///
/// `end` bounds the walk, in bytes from the start of the group.
pub fn entries(group: &[u8], start: usize, end: usize) -> impl Iterator<Item = Entry<'_>> {
    walk(group, start, end, EntryHeader::decode)
}

/// As [`entries`], in a group that is damaged: goes on over a header of which one bit has flipped.
pub fn entries_in_rot(group: &[u8], start: usize) -> impl Iterator<Item = Entry<'_>> {
    walk(group, start, group.len(), EntryHeader::decode_or_mend)
}

fn walk(
    group: &[u8],
    start: usize,
    end: usize,
    decode: impl Fn(&[u8]) -> Option<EntryHeader>,
) -> impl Iterator<Item = Entry<'_>> {
    let end = end.min(group.len());
    let mut at = start;
    std::iter::from_fn(move || {
        let header = decode(group.get(at..end)?)?;
        let from = at + ENTRY_HEADER_BYTES;
        let payload = group.get(from..from.checked_add(header.length as usize)?)?;
        if from + payload.len() > end {
            return None;
        }
        let entry = Entry {
            at,
            header,
            payload,
            intact: crc32c::crc32c(payload) == header.payload_crc,
        };
        at = from + payload.len();
        Some(entry)
    })
}
