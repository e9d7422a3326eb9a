//! What a disk holds after the power went.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{Disk, Inode, Rng, SECTOR_BYTES};

/// Undoes a random set of the changes that were not synced, the later ones first. A rename is
/// kept or lost as a whole.
pub(super) fn names_after_crash(disk: &Disk, rng: &mut Rng) -> BTreeMap<PathBuf, u64> {
    let mut names = disk.names.clone();
    let mut lost: BTreeMap<u64, bool> = BTreeMap::new();
    // A name's changes reach the disk in their order: if one is lost, so are those after it.
    let mut cut: BTreeSet<PathBuf> = BTreeSet::new();
    let calls: Vec<u64> = disk.unsynced.iter().map(|c| c.call).collect();
    for call in calls {
        if lost.contains_key(&call) {
            continue;
        }
        let parts = || disk.unsynced.iter().filter(|c| c.call == call);
        let is_lost = rng.below(2) == 0 || parts().any(|c| cut.contains(&c.path));
        if is_lost {
            cut.extend(parts().map(|c| c.path.clone()));
        }
        lost.insert(call, is_lost);
    }
    for change in disk.unsynced.iter().rev() {
        if lost.get(&change.call).copied().unwrap_or(false) {
            match change.before {
                Some(id) => names.insert(change.path.clone(), id),
                None => names.remove(&change.path),
            };
        }
    }
    names
}

/// Gives each sector one of the versions that it had since the last sync.
pub(super) fn bytes_after_crash(inode: &Inode, rng: &mut Rng) -> Vec<u8> {
    // The length is metadata: it is the old one, the new one, or between.
    let (old, new) = (inode.durable.len(), inode.bytes.len());
    let len = match rng.below(3) {
        0 => old,
        1 => new,
        _ => {
            let span = old.abs_diff(new) as u64;
            old.min(new) + rng.below(span + 1) as usize
        }
    };
    let mut bytes = inode.durable.clone();
    bytes.resize(old.max(new), 0);
    for (sector, versions) in &inode.dirty {
        // One of the versions, or what was there before.
        let choice = rng.below(versions.len() as u64 + 1) as usize;
        if let Some(version) = versions.get(choice) {
            let at = sector * SECTOR_BYTES;
            let end = (at + version.len()).min(bytes.len());
            if at < end {
                bytes[at..end].copy_from_slice(&version[..end - at]);
            }
        }
    }
    bytes.truncate(len);
    bytes
}
