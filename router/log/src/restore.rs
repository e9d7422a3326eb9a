//! Restoring a backup into an empty directory, under new identities.
//!
//! What was backed up went on living: its queues have given out offsets since that the restored
//! ones will give out again, for other messages. So that nobody takes one for the other, each queue
//! gets a new incarnation, in every header that names it; checksums and chains follow. All else is
//! copied as it is, damage included, which a check then tells.

use std::collections::BTreeMap;
use std::path::Path;

use crate::data_dir::{check_format, hold, shard_dirs, write_format};
use crate::error::{IoError, OpenError};
use crate::format::entry::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind, entries_in_rot};
use crate::format::group::{GROUP_HEADER_BYTES, GroupHeader};
use crate::format::meta::QueueMeta;
use crate::format::segment::{self, SEGMENT_HEADER_BYTES, is_header, parse_file_name};
use crate::ids::{Incarnation, Position};
use crate::inspect::options_of;
use crate::options::PAGE_BYTES;
use crate::recover::{io, queue_dirs, read_range, read_small};
use crate::recover_wal::find_files;
use crate::shard_meta;
use crate::vfs::{OpenMode, Vfs, VfsFile};
use crate::wal::wal_file_name;

/// Queues that were restored: what each was, and what it is now.
pub type Renamed = BTreeMap<Incarnation, Incarnation>;

/// The new identities, made as they are met.
struct Identities<'a> {
    renamed: Renamed,
    random: &'a mut dyn FnMut() -> u64,
}

impl Identities<'_> {
    fn of(&mut self, old: Incarnation) -> Incarnation {
        let random = &mut self.random;
        *self.renamed.entry(old).or_insert_with(|| {
            loop {
                if let Some(new) = Incarnation::new(random()) {
                    return new;
                }
            }
        })
    }

    /// The header with its queue's new identity.
    fn change(&mut self, mut header: EntryHeader) -> EntryHeader {
        if let Some(old) = Incarnation::new(header.incarnation) {
            header.incarnation = self.of(old).get();
        }
        header
    }
}

/// Restores the backup in `from` into `dir`, which must be empty or not exist. `random` gives
/// unpredictable numbers. The restored directory is whole when this returns; look at it with
/// [`crate::inspect::check`].
pub fn restore<V: Vfs>(
    vfs: &V,
    from: &Path,
    dir: &Path,
    random: &mut dyn FnMut() -> u64,
) -> Result<Renamed, OpenError> {
    let foreign = |path: &Path, reason: &str| OpenError::Foreign {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    io(vfs.read_dir(from), "list", from)?;
    if !check_format(vfs, from)? {
        return Err(foreign(from, "it is empty"));
    }
    io(vfs.create_dir(dir), "make", dir)?;
    let names = io(vfs.read_dir(dir), "list", dir)?;
    if names.iter().any(|name| name != "lost+found") {
        return Err(foreign(dir, "it is not empty, and nothing is written over"));
    }
    let _held = hold(vfs, dir)?;
    let mut identities = Identities {
        renamed: Renamed::new(),
        random,
    };
    for (shard, path) in shard_dirs(vfs, from)? {
        let to = dir.join(path.file_name().unwrap_or_default());
        restore_shard(vfs, shard, &path, &to, &mut identities)?;
    }
    io(vfs.sync_dir(dir), "sync", dir)?;
    write_format(vfs, dir)?;
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        io(vfs.sync_dir(parent), "sync", parent)?;
    }
    Ok(identities.renamed)
}

fn restore_shard<V: Vfs>(
    vfs: &V,
    shard: u16,
    from: &Path,
    to: &Path,
    identities: &mut Identities<'_>,
) -> Result<(), OpenError> {
    for dir in [to.to_owned(), to.join("wal"), to.join("queues")] {
        io(vfs.create_dir(&dir), "make", &dir)?;
    }
    if let Some(bytes) = read_small(vfs, &from.join(shard_meta::FILE_NAME), 4096)? {
        write(vfs, &to.join(shard_meta::FILE_NAME), &bytes)?;
    }
    let file_bytes = options_of(vfs, shard, from, 0)?.file_bytes;
    let mut crcs = BTreeMap::new();
    for (seq, path) in find_files(vfs, &from.join("wal"), file_bytes)? {
        let file = io(vfs.open(&path, OpenMode::Read), "open", &path)?;
        let mut bytes = read_range(&file, 0..file_bytes, &path)?;
        let base = Position::of(seq, 0, file_bytes);
        change_wal(&mut bytes, base, identities, &mut crcs);
        write(vfs, &to.join("wal").join(wal_file_name(seq)), &bytes)?;
    }
    for queue in queue_dirs(vfs, &from.join("queues"))? {
        let new = identities.of(queue);
        let (from, to) = (
            from.join("queues").join(queue.hex()),
            to.join("queues").join(new.hex()),
        );
        io(vfs.create_dir(&to), "make", &to)?;
        for name in io(vfs.read_dir(&from), "list", &from)? {
            let path = from.join(&name);
            let file = io(vfs.open(&path, OpenMode::Read), "open", &path)?;
            let len = io(file.len(), "measure", &path)?;
            let mut bytes = read_range(&file, 0..len, &path)?;
            if let Some(first_offset) = parse_file_name(&name) {
                change_segment(&mut bytes, queue, first_offset, identities);
            } else if let Some(meta) = QueueMeta::decode(&bytes) {
                bytes = QueueMeta {
                    incarnation: new,
                    ..meta
                }
                .encode();
            }
            write(vfs, &to.join(&name), &bytes)?;
        }
        io(vfs.sync_dir(&to), "sync", &to)?;
    }
    for dir in [to.join("wal"), to.join("queues"), to.to_owned()] {
        io(vfs.sync_dir(&dir), "sync", &dir)?;
    }
    Ok(())
}

fn write<V: Vfs>(vfs: &V, path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    let file = io(vfs.open(path, OpenMode::Create), "make", path)?;
    io(file.write_all_at(bytes, 0), "write", path)?;
    io(file.sync_data(), "sync", path)
}

/// Changes the queues' identities in a WAL file. `crcs` has, for each group so far, the CRC that it
/// had and the one that it has.
fn change_wal(
    bytes: &mut [u8],
    base: Position,
    identities: &mut Identities<'_>,
    crcs: &mut BTreeMap<u32, u32>,
) {
    let mut at = 0;
    while at + GROUP_HEADER_BYTES <= bytes.len() {
        let position = Position(base.0 + at as u64);
        let page = &mut bytes[at..];
        let Some(header) = GroupHeader::decode(page, position) else {
            // Rot: what can be told of it is changed, and its checksum stays wrong.
            if GroupHeader::peek(page).is_some_and(|h| h.position == position) {
                change_entries(page, GROUP_HEADER_BYTES, identities);
            }
            at += PAGE_BYTES as usize;
            continue;
        };
        let length = header.length as usize;
        change_entries(&mut page[..length], GROUP_HEADER_BYTES, identities);
        let chain = crcs.get(&header.chain).copied().unwrap_or(header.chain);
        page[40..44].copy_from_slice(&chain.to_le_bytes());
        let crc = crc32c::crc32c(&page[8..length]);
        page[4..8].copy_from_slice(&crc.to_le_bytes());
        crcs.insert(header.crc, crc);
        at += header.padded_bytes() as usize;
    }
}

/// Changes the entries that follow one another from `start` on.
fn change_entries(bytes: &mut [u8], start: usize, identities: &mut Identities<'_>) {
    let found: Vec<(usize, EntryHeader)> = entries_in_rot(bytes, start)
        .map(|entry| (entry.at, entry.header))
        .collect();
    for (at, header) in found {
        let changed = identities.change(header).encode();
        bytes[at..at + ENTRY_HEADER_BYTES].copy_from_slice(&changed);
    }
}

fn change_segment(
    bytes: &mut [u8],
    queue: Incarnation,
    first_offset: u64,
    identities: &mut Identities<'_>,
) {
    if is_header(bytes, queue, first_offset) {
        let header = segment::encode(identities.of(queue), first_offset);
        bytes[..SEGMENT_HEADER_BYTES].copy_from_slice(&header);
    }
    let mut at = SEGMENT_HEADER_BYTES;
    while at + ENTRY_HEADER_BYTES <= bytes.len() {
        let header = EntryHeader::decode_or_mend(&bytes[at..]).filter(|header| {
            header.kind == EntryKind::Messages && header.incarnation == queue.get()
        });
        match header {
            Some(header) => {
                let next = at.saturating_add(header.total_bytes() as usize);
                let changed = identities.change(header).encode();
                bytes[at..at + ENTRY_HEADER_BYTES].copy_from_slice(&changed);
                at = next;
            }
            // Where an entry cannot be read, the next one is looked for at every byte.
            None => at += 1,
        }
    }
}
