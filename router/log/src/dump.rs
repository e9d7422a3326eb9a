//! The entries of a shard that no process uses, one by one, as they stand in its files.
//!
//! Nothing is judged: groups of the WAL are shown if they are whole, entries of segments if their
//! headers are. What was moved a moment ago stands in both. [`crate::inspect`] says what is wrong.

use std::ops::Range;
use std::path::Path;

use crate::data_dir::shard_dirs;
use crate::error::OpenError;
use crate::format::entry::{EntryHeader, EntryKind};
use crate::format::meta::QueueMeta;
use crate::format::segment::{SEGMENT_HEADER_BYTES, parse_file_name};
use crate::ids::{Incarnation, Position};
use crate::inspect::{hold_to_look, options_of};
use crate::recover::{io, read_small};
use crate::recover_wal::find_files;
use crate::scan;
use crate::segments::{Step, Walk};
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// What is to be shown.
#[derive(Clone, Debug)]
pub struct Select {
    /// A queue, by its name or incarnation: its segments, and its entries in the WAL. Without one,
    /// the whole WAL.
    pub queue: Option<String>,
    /// Of a queue, offsets of messages; of the WAL, positions.
    pub range: Range<u64>,
}

/// An entry as it stands in its file.
#[derive(Clone, Debug)]
pub struct Shown<'a> {
    /// The file.
    pub file: &'a Path,
    /// Where in it the entry's header begins, in bytes.
    pub at: u64,
    /// Its position, in the WAL.
    pub position: Option<Position>,
    /// When its group was written, ms since 1970; in the WAL.
    pub group_time_ms: Option<u64>,
    /// Its header.
    pub header: EntryHeader,
    /// Its payload.
    pub payload: &'a [u8],
    /// Whether the payload is what was written.
    pub intact: bool,
}

/// Names in a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The queue.
    pub incarnation: Incarnation,
    /// Its name, if its description is whole.
    pub name: Option<String>,
}

/// Calls `each` for every entry that is selected, segments first, until it says `false`. Refuses a
/// directory that is in use. Says how many queues had the name that was asked for.
pub fn dump<V: Vfs>(
    vfs: &V,
    dir: &Path,
    select: &Select,
    each: &mut dyn FnMut(&Shown<'_>, &[Named]) -> bool,
) -> Result<usize, OpenError> {
    let _held = hold_to_look(vfs, dir)?;
    let mut matches = 0;
    for (shard, path) in shard_dirs(vfs, dir)? {
        let names = names(vfs, &path)?;
        let chosen = select.queue.as_ref().map(|wanted| {
            let is_it =
                |n: &&Named| n.name.as_ref() == Some(wanted) || n.incarnation.hex() == *wanted;
            let chosen: Vec<Incarnation> =
                names.iter().filter(is_it).map(|n| n.incarnation).collect();
            chosen
        });
        matches += chosen.as_ref().map_or(0, Vec::len);
        let mut show =
            |shown: &Shown<'_>| !is_selected(shown, select, &chosen) || each(shown, &names);
        for queue in chosen.iter().flatten() {
            if !dump_segments(vfs, &path, *queue, &mut show)? {
                return Ok(matches);
            }
        }
        if !dump_wal(vfs, shard, &path, &mut show)? {
            return Ok(matches);
        }
    }
    Ok(matches)
}

fn is_selected(shown: &Shown<'_>, select: &Select, chosen: &Option<Vec<Incarnation>>) -> bool {
    let Some(chosen) = chosen else {
        let position = shown.position.map_or(0, |p| p.0);
        return select.range.contains(&position);
    };
    let header = &shown.header;
    let is_its = chosen.iter().any(|q| q.get() == header.incarnation);
    // What has no offsets is shown where none were asked for.
    is_its
        && match header.kind {
            EntryKind::Messages => {
                header.first_offset < select.range.end && select.range.start < header.end_offset()
            }
            _ => select.range == (0..u64::MAX),
        }
}

/// The queues that have a directory.
fn names<V: Vfs>(vfs: &V, shard: &Path) -> Result<Vec<Named>, OpenError> {
    let queues = shard.join("queues");
    let mut found = Vec::new();
    for name in vfs.read_dir(&queues).unwrap_or_default() {
        let number = u64::from_str_radix(&name, 16).ok();
        if let Some(incarnation) = number.and_then(Incarnation::new)
            && incarnation.hex() == name
        {
            let meta = read_small(vfs, &queues.join(&name).join("queue.meta"), 1 << 21)?;
            found.push(Named {
                incarnation,
                name: meta.and_then(|b| QueueMeta::decode(&b)).map(|m| m.name),
            });
        }
    }
    Ok(found)
}

/// `false` if `show` has seen enough.
fn dump_segments<V: Vfs>(
    vfs: &V,
    shard: &Path,
    queue: Incarnation,
    show: &mut dyn FnMut(&Shown<'_>) -> bool,
) -> Result<bool, OpenError> {
    let dir = shard.join("queues").join(queue.hex());
    for name in io(vfs.read_dir(&dir), "list", &dir)? {
        if parse_file_name(&name).is_none() {
            continue;
        }
        let path = dir.join(&name);
        let file = io(vfs.open(&path, OpenMode::Read), "open", &path)?;
        let len = io(file.len(), "measure", &path)?;
        let mut walk = Walk::new(&file, queue, SEGMENT_HEADER_BYTES as u64, len).reading(1 << 20);
        loop {
            let at = walk.at;
            let (header, payload) = match io(walk.step(), "read", &path)? {
                Step::Entry(header, payload) => (header, payload),
                Step::Lost(_) if io(walk.resync(u64::MAX), "read", &path)?.is_some() => continue,
                Step::Lost(_) | Step::End => break,
            };
            let shown = Shown {
                file: &path,
                at,
                position: None,
                group_time_ms: None,
                header,
                payload: &payload,
                intact: crc32c::crc32c(&payload) == header.payload_crc,
            };
            if !show(&shown) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// `false` if `show` has seen enough.
fn dump_wal<V: Vfs>(
    vfs: &V,
    shard: u16,
    dir: &Path,
    show: &mut dyn FnMut(&Shown<'_>) -> bool,
) -> Result<bool, OpenError> {
    let file_bytes = options_of(vfs, shard, dir, 0)?.file_bytes;
    let mut buf = vec![0; usize::try_from(file_bytes).unwrap_or(0)];
    for (seq, path) in find_files(vfs, &dir.join("wal"), file_bytes)? {
        let file = io(vfs.open(&path, OpenMode::Read), "open", &path)?;
        let got = io(file.read_full_at(&mut buf, 0), "read", &path)?;
        let base = Position::of(seq, 0, file_bytes);
        for group in scan::groups(&buf[..got], base) {
            let at = group.header.position.0 - base.0;
            for entry in scan::group_entries(&buf[at as usize..got], &group.header) {
                let at = at + entry.at as u64;
                let shown = Shown {
                    file: &path,
                    at,
                    position: Some(Position(base.0 + at)),
                    group_time_ms: Some(group.header.time_ms),
                    header: entry.header,
                    payload: entry.payload,
                    intact: entry.intact,
                };
                if !show(&shown) {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}
