//! `shard.meta`: what is fixed when a shard is made.
//!
//! ```text
//!  0  u32  magic "WPM1"
//!  4  u32  CRC32C of bytes 8..24
//!  8  u64  bytes of a WAL file
//! 16  u16  shard
//! 18       zeros
//! ```
//!
//! If it is damaged, the length of the WAL files says the same.

use std::path::Path;

use crate::error::OpenError;
use crate::format::{u16_at, u32_at, u64_at};
use crate::log::replace_file;
use crate::options::Options;
use crate::recover::{io, read_small};
use crate::vfs::{OpenMode, Vfs, VfsFile};
use crate::wal::parse_wal_file_name;

const MAGIC: u32 = u32::from_le_bytes(*b"WPM1");
const META_BYTES: usize = 24;
pub(crate) const FILE_NAME: &str = "shard.meta";

/// The shard's size of WAL files: the one it has, or else the one in `options`.
pub(crate) fn load_or_make<V: Vfs>(
    vfs: &V,
    dir: &Path,
    options: &Options,
) -> Result<u64, OpenError> {
    let path = dir.join(FILE_NAME);
    let bytes = read_small(vfs, &path, META_BYTES as u64)?;
    if let Some((file_bytes, shard)) = bytes.as_deref().and_then(decode) {
        if shard != options.shard {
            return Err(OpenError::OtherShard {
                path: dir.to_owned(),
                found: shard,
                expected: options.shard,
            });
        }
        return Ok(file_bytes);
    }
    let file_bytes = longest_wal_file(vfs, dir)?.unwrap_or(options.file_bytes);
    let checked = Options {
        file_bytes,
        ..options.clone()
    };
    checked.validate()?;
    replace_file(vfs, dir, FILE_NAME, &encode(file_bytes, options.shard))?;
    Ok(file_bytes)
}

/// What the description says, if it is whole: bytes of a WAL file, and the shard.
pub(crate) fn peek<V: Vfs>(vfs: &V, dir: &Path) -> Result<Option<(u64, u16)>, OpenError> {
    let bytes = read_small(vfs, &dir.join(FILE_NAME), META_BYTES as u64)?;
    Ok(bytes.as_deref().and_then(decode))
}

pub(crate) fn longest_wal_file<V: Vfs>(vfs: &V, dir: &Path) -> Result<Option<u64>, OpenError> {
    let wal = dir.join("wal");
    let mut longest = None;
    for name in io(vfs.read_dir(&wal), "list", &wal)? {
        if parse_wal_file_name(&name).is_some() {
            let path = wal.join(name);
            let file = io(vfs.open(&path, OpenMode::Read), "open", &path)?;
            longest = longest.max(Some(io(file.len(), "measure", &path)?));
        }
    }
    Ok(longest)
}

fn encode(file_bytes: u64, shard: u16) -> [u8; META_BYTES] {
    let mut b = [0; META_BYTES];
    b[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    b[8..16].copy_from_slice(&file_bytes.to_le_bytes());
    b[16..18].copy_from_slice(&shard.to_le_bytes());
    let crc = crc32c::crc32c(&b[8..]);
    b[4..8].copy_from_slice(&crc.to_le_bytes());
    b
}

fn decode(b: &[u8]) -> Option<(u64, u16)> {
    let is_whole =
        b.len() == META_BYTES && u32_at(b, 0) == MAGIC && crc32c::crc32c(&b[8..]) == u32_at(b, 4);
    is_whole.then(|| (u64_at(b, 8), u16_at(b, 16)))
}
