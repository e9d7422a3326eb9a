//! A group: what one sync makes durable, all of it or nothing.
//!
//! A group starts at a multiple of 4,096 in a WAL file, lies in one file, and is padded with zeros
//! to a multiple of 4,096, because a page that was synced is never written again.
//!
//! ```text
//!  0  u32  magic "WPG1"
//!  4  u32  CRC32C of bytes 8..length
//!  8  u32  length: this header and the entries, without padding
//! 12  u32  number of entries
//! 16  u64  position of this group; one that does not match its place is an old one
//! 24  u64  generation: high half counts the opens, low half is unpredictable
//! 32  u64  synced: all bytes below this position were synced before this group was written
//! 40  u32  chain: CRC (byte 4) of the group before, 0 if there is none
//! 44  u16  shard
//! 46  u16  flags, 0
//! 48  u64  wall clock in ms since 1970, for people only
//! 56  u64  0
//! 64       entries
//! ```

use super::{u16_at, u32_at, u64_at};
use crate::ids::Position;
use crate::options::PAGE_BYTES;

/// Bytes of a group's header.
pub const GROUP_HEADER_BYTES: usize = 64;

const MAGIC: u32 = u32::from_le_bytes(*b"WPG1");

/// A group's header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// CRC32C of all that follows the CRC; the next group's `chain`.
    pub crc: u32,
    /// Bytes of header and entries, without padding.
    pub length: u32,
    /// Number of entries.
    pub count: u32,
    /// Where the group begins.
    pub position: Position,
    /// The open that wrote it.
    pub generation: u64,
    /// All bytes below were durable before this group was written.
    pub synced: Position,
    /// The CRC of the group before.
    pub chain: u32,
    /// The shard that wrote it.
    pub shard: u16,
    /// Wall clock, ms since 1970; informational.
    pub time_ms: u64,
}

impl GroupHeader {
    /// Bytes that the group takes in its file, padding included.
    pub fn padded_bytes(&self) -> u64 {
        padded(u64::from(self.length))
    }

    /// Where the next group in this file begins.
    pub fn end(&self) -> Position {
        Position(self.position.0 + self.padded_bytes())
    }

    /// Fills in the header of `group` (64 bytes of room, then the entries), pads the buffer, and
    /// returns the CRC. `length` and `crc` of `self` are computed, not read.
    pub(crate) fn seal(&self, group: &mut Vec<u8>) -> u32 {
        let length = group.len();
        group[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        group[8..12].copy_from_slice(&(length as u32).to_le_bytes());
        group[12..16].copy_from_slice(&self.count.to_le_bytes());
        group[16..24].copy_from_slice(&self.position.0.to_le_bytes());
        group[24..32].copy_from_slice(&self.generation.to_le_bytes());
        group[32..40].copy_from_slice(&self.synced.0.to_le_bytes());
        group[40..44].copy_from_slice(&self.chain.to_le_bytes());
        group[44..46].copy_from_slice(&self.shard.to_le_bytes());
        group[46..48].fill(0);
        group[48..56].copy_from_slice(&self.time_ms.to_le_bytes());
        group[56..64].fill(0);
        let crc = crc32c::crc32c(&group[8..]);
        group[4..8].copy_from_slice(&crc.to_le_bytes());
        group.resize(padded(length as u64) as usize, 0);
        crc
    }

    /// Reads the fields without judging them; `None` if there are fewer than 64 bytes.
    pub fn peek(bytes: &[u8]) -> Option<GroupHeader> {
        let b = bytes.get(..GROUP_HEADER_BYTES)?;
        Some(GroupHeader {
            crc: u32_at(b, 4),
            length: u32_at(b, 8),
            count: u32_at(b, 12),
            position: Position(u64_at(b, 16)),
            generation: u64_at(b, 24),
            synced: Position(u64_at(b, 32)),
            chain: u32_at(b, 40),
            shard: u16_at(b, 44),
            time_ms: u64_at(b, 48),
        })
    }

    /// The group that starts at `bytes[0]`, whole and unharmed, if it was written for `position`.
    pub fn decode(bytes: &[u8], position: Position) -> Option<GroupHeader> {
        if bytes.len() < GROUP_HEADER_BYTES || u32_at(bytes, 0) != MAGIC {
            return None;
        }
        let header = Self::peek(bytes)?;
        let length = header.length as usize;
        if header.position != position
            || length < GROUP_HEADER_BYTES
            || length > bytes.len()
            || header.synced > header.position
        {
            return None;
        }
        (crc32c::crc32c(&bytes[8..length]) == header.crc).then_some(header)
    }
}

/// Why no whole group begins at `bytes[0]`, for people: what was expected, and what is there.
pub fn diagnose(bytes: &[u8], position: Position) -> String {
    let Some(header) = GroupHeader::peek(bytes) else {
        let len = bytes.len();
        return format!("the file ends after {len} bytes of a group's header, which has 64");
    };
    let length = header.length as usize;
    if bytes[..4] != MAGIC.to_le_bytes() {
        return format!(
            "no group begins here: {:02x?}, \"WPG1\" expected",
            &bytes[..4]
        );
    }
    if header.position != position {
        return format!(
            "the group names position {}, {position} expected",
            header.position
        );
    }
    if length < GROUP_HEADER_BYTES || length > bytes.len() {
        return format!(
            "the group's length is {length}, 64 to {} expected",
            bytes.len()
        );
    }
    let crc = crc32c::crc32c(&bytes[8..length]);
    if crc != header.crc {
        return format!(
            "the group's CRC32C is {crc:#010x}, its header says {:#010x}",
            header.crc
        );
    }
    "the group is whole, but it does not follow the one before".to_owned()
}

/// The next multiple of the page size.
pub fn padded(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_BYTES) * PAGE_BYTES
}
