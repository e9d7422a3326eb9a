//! `queue.meta`: by which a queue's directory describes itself.
//!
//! ```text
//!  0  u32  magic "WPQ1"
//!  4  u32  CRC32C of all that follows
//!  8  u64  incarnation
//! 16  u32  length of the name
//! 20  u32  length of the settings
//! 24       name, UTF-8; then the caller's settings, to the end of the file
//! ```

use bytes::Bytes;

use super::{u32_at, u64_at};
use crate::ids::Incarnation;

const MAGIC: u32 = u32::from_le_bytes(*b"WPQ1");
/// Bytes before the name.
const HEAD_BYTES: usize = 24;
/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 65_535;
/// Longest settings, in bytes.
pub const SETTINGS_BYTES_MAX: usize = 1 << 20;

/// What a queue's directory says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueMeta {
    /// The queue.
    pub incarnation: Incarnation,
    /// Its name.
    pub name: String,
    /// The caller's settings, opaque here.
    pub settings: Bytes,
}

impl QueueMeta {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut b = Vec::with_capacity(HEAD_BYTES + self.name.len() + self.settings.len());
        b.extend_from_slice(&MAGIC.to_le_bytes());
        b.extend_from_slice(&[0; 4]);
        b.extend_from_slice(&self.incarnation.get().to_le_bytes());
        b.extend_from_slice(&(self.name.len() as u32).to_le_bytes());
        b.extend_from_slice(&(self.settings.len() as u32).to_le_bytes());
        b.extend_from_slice(self.name.as_bytes());
        b.extend_from_slice(&self.settings);
        let crc = crc32c::crc32c(&b[8..]);
        b[4..8].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// `None` unless `bytes` are a whole, unharmed file.
    pub fn decode(bytes: &[u8]) -> Option<QueueMeta> {
        if bytes.len() < HEAD_BYTES
            || u32_at(bytes, 0) != MAGIC
            || crc32c::crc32c(&bytes[8..]) != u32_at(bytes, 4)
        {
            return None;
        }
        let name_end = HEAD_BYTES.checked_add(u32_at(bytes, 16) as usize)?;
        let end = name_end.checked_add(u32_at(bytes, 20) as usize)?;
        if end != bytes.len() {
            return None;
        }
        Some(QueueMeta {
            incarnation: Incarnation::new(u64_at(bytes, 8))?,
            name: String::from_utf8(bytes.get(HEAD_BYTES..name_end)?.to_vec()).ok()?,
            settings: Bytes::copy_from_slice(bytes.get(name_end..end)?),
        })
    }
}
