//! What the queues of a data directory say of themselves, for whoever only wants to look.
//!
//! Neither the lock nor the WAL is touched, so a router may be using the directory: a queue that it
//! makes or removes meanwhile is told or not. What is damaged is left out; an opening and
//! [`crate::inspect`] say so.

use std::io::ErrorKind;
use std::path::Path;

use crate::data_dir::{check_format, shard_dirs};
use crate::error::OpenError;
use crate::format::meta::QueueMeta;
use crate::recover::{io, read_small};
use crate::vfs::Vfs;

/// Longest `queue.meta`.
const META_BYTES_MAX: u64 = 1 << 21;

/// The descriptions of all queues; none where there is no directory yet, or an empty one. Refuses
/// one of a newer format, or that is not a router's.
pub fn queues<V: Vfs>(vfs: &V, dir: &Path) -> Result<Vec<QueueMeta>, OpenError> {
    let mut found = Vec::new();
    match vfs.read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        _ if !check_format(vfs, dir)? => return Ok(found),
        _ => {}
    }
    for (_, shard) in shard_dirs(vfs, dir)? {
        let queues = shard.join("queues");
        let names = match vfs.read_dir(&queues) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            names => io(names, "list", &queues)?,
        };
        // A directory that is being removed has another name.
        let is_queue = |name: &&String| name.len() == 16 && u64::from_str_radix(name, 16).is_ok();
        for name in names.iter().filter(is_queue) {
            let meta = queues.join(name).join("queue.meta");
            let bytes = read_small(vfs, &meta, META_BYTES_MAX)?;
            found.extend(bytes.as_deref().and_then(QueueMeta::decode));
        }
    }
    Ok(found)
}
