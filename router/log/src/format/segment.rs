//! A segment: message entries of one queue, moved out of the WAL, in order of offsets.
//!
//! ```text
//!  0  u32  magic "WPS1"
//!  4  u32  CRC32C of bytes 8..64
//!  8  u64  incarnation of the queue
//! 16  u64  first offset; also the file's name, in 20 decimal digits
//! 24       zeros
//! 64       message entries, as in the WAL
//! ```

use super::{u32_at, u64_at};
use crate::ids::Incarnation;

/// Bytes of a segment's header.
pub const SEGMENT_HEADER_BYTES: usize = 64;

const MAGIC: u32 = u32::from_le_bytes(*b"WPS1");

/// A segment's first bytes.
pub fn encode(queue: Incarnation, first_offset: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut b = [0; SEGMENT_HEADER_BYTES];
    b[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    b[8..16].copy_from_slice(&queue.get().to_le_bytes());
    b[16..24].copy_from_slice(&first_offset.to_le_bytes());
    let crc = crc32c::crc32c(&b[8..]);
    b[4..8].copy_from_slice(&crc.to_le_bytes());
    b
}

/// Whether `bytes` begin a segment of this queue and offset.
pub fn is_header(bytes: &[u8], queue: Incarnation, first_offset: u64) -> bool {
    bytes.len() >= SEGMENT_HEADER_BYTES
        && u32_at(bytes, 0) == MAGIC
        && crc32c::crc32c(&bytes[8..SEGMENT_HEADER_BYTES]) == u32_at(bytes, 4)
        && u64_at(bytes, 8) == queue.get()
        && u64_at(bytes, 16) == first_offset
}

/// The file's name.
pub fn file_name(first_offset: u64) -> String {
    format!("{first_offset:020}.seg")
}

/// The first offset that a file's name states.
pub fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}
