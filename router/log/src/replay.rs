//! From the entries of the WAL and the files of the queues to each queue's state.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::error::IoError;
use crate::format::entry::{Entry, EntryKind};
use crate::format::meta::{NAME_BYTES_MAX, QueueMeta, SETTINGS_BYTES_MAX};
use crate::format::segment::{SEGMENT_HEADER_BYTES, file_name, is_header, parse_file_name};
use crate::format::snapshot::{SegmentInfo, SnapshotHead};
use crate::ids::{Incarnation, Position};
use crate::jobs::remove_file;
use crate::queue::{Queue, Run};
use crate::recover::{
    RecoveredQueue, RecoveryReport, Replay, SegmentProblem, io, queue_dirs, read_range, read_small,
};
use crate::segments::{Step, Walk};
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// A queue while its entries are replayed.
#[derive(Default)]
pub(crate) struct QueueReplay {
    state: Queue,
    head: Option<SnapshotHead>,
    snapshot: Option<Bytes>,
    pub replay: Vec<Replay>,
}

/// All queues while the WAL is replayed.
#[derive(Default)]
pub(crate) struct Replayer {
    queues: BTreeMap<Incarnation, QueueReplay>,
}

impl Replayer {
    /// Adds an entry of a group that counts.
    pub fn add(&mut self, group: Position, entry: &Entry<'_>) {
        let Some(incarnation) = Incarnation::new(entry.header.incarnation) else {
            return;
        };
        let queue = self.queues.entry(incarnation).or_default();
        let position = Position(group.0 + entry.at as u64);
        let state = &mut queue.state;
        state.note_entry(position);
        match entry.header.kind {
            EntryKind::Messages => {
                state.push_run(Run {
                    position,
                    first_offset: entry.header.first_offset,
                    end_offset: entry.header.end_offset(),
                    bytes: entry.header.total_bytes() as u32,
                    records: entry.header.count,
                });
                state.next_offset = state.next_offset.max(entry.header.end_offset());
                state.epoch = state.epoch.max(entry.header.epoch);
            }
            EntryKind::Trimmed => state.note_trimmed(entry.header.first_offset),
            EntryKind::Snapshot => {
                let Some((head, own)) = SnapshotHead::decode(entry.payload) else {
                    return;
                };
                state.note_trimmed(head.trimmed);
                let listed_end = head.segments.last().map_or(0, |s| s.end_offset);
                state.note_snapshot(position, listed_end);
                state.next_offset = state.next_offset.max(head.next_offset);
                state.epoch = state.epoch.max(head.epoch);
                queue.snapshot = Some(Bytes::copy_from_slice(own));
                queue.head = Some(head);
                queue.replay.clear();
            }
            EntryKind::Removed => {
                state.is_removed = true;
                state.is_buried = true;
                state.runs.clear();
                state.base = Some(position);
            }
            EntryKind::State | EntryKind::Opened => {}
        }
        queue.push_entry(entry);
    }

    /// Adds an entry found inside rot, if it can be trusted; says whether it was.
    ///
    /// A message entry with a damaged payload is taken: reads judge its records one by one. Its
    /// offsets must be new, for a page that lost its last write shows what it held before.
    pub fn add_salvaged(&mut self, group: Position, entry: &Entry<'_>) -> bool {
        let is_messages = entry.header.kind == EntryKind::Messages;
        let is_trusted = if is_messages {
            let next = Incarnation::new(entry.header.incarnation)
                .and_then(|queue| self.queues.get(&queue))
                .map_or(0, |queue| queue.state.next_offset);
            entry.header.first_offset >= next
        } else {
            entry.intact
        };
        if is_trusted {
            self.add(group, entry);
        }
        is_trusted
    }

    /// Joins what was replayed with the queues' directories.
    pub fn into_queues<V: Vfs>(
        mut self,
        vfs: &V,
        dir: &Path,
        report: &mut RecoveryReport,
    ) -> Result<(HashMap<Incarnation, Queue>, Vec<RecoveredQueue>), IoError> {
        let queues_dir = dir.join("queues");
        let mut metas = HashMap::new();
        for queue in queue_dirs(vfs, &queues_dir)? {
            let queue_dir = queues_dir.join(queue.hex());
            let meta = read_meta(vfs, &queue_dir, queue)?;
            // A process that was killed may have left names that are not durable yet.
            io(vfs.sync_dir(&queue_dir), "sync", &queue_dir)?;
            // An empty directory is left by a queue whose making was cut short.
            if !matches!(meta, Meta::Nothing) {
                self.queues.entry(queue).or_default();
            } else if !self.queues.contains_key(&queue) {
                remove_unmade(vfs, &queue_dir)?;
                continue;
            }
            metas.insert(queue, meta);
        }
        io(vfs.sync_dir(&queues_dir), "sync", &queues_dir)?;
        let has_wal = report.wal_files > 0;
        let mut states = HashMap::new();
        let mut found = Vec::new();
        for (incarnation, mut queue) in self.queues {
            let queue_dir = queues_dir.join(incarnation.hex());
            if queue.state.is_removed {
                states.insert(incarnation, queue.state);
                continue;
            }
            if metas.contains_key(&incarnation) {
                // Without a snapshot the WAL goes back to the queue's first entry, unless it is
                // damaged: then only what it shows can be relied on.
                let is_whole = report.rot.is_empty() && queue.state.base.is_some();
                let mut loader = SegmentLoader {
                    vfs,
                    queue: incarnation,
                    dir: queue_dir,
                    quarantine: dir.join("quarantine"),
                    wal_from: if is_whole { 0 } else { queue.wal_from() },
                    trimmed: queue.state.trimmed,
                    runs: &queue.state.runs,
                    report,
                };
                let segments = loader.load(queue.head.as_ref())?;
                queue.state.segments = segments;
            }
            // A queue that has segments has a snapshot or its entries in the WAL.
            let is_unknown = queue.state.base.is_none() && !queue.state.segments.is_empty();
            if is_unknown || !has_wal {
                report.segments.push(SegmentProblem {
                    queue: incarnation,
                    path: dir.join("wal"),
                    problem: "its entries in the WAL are gone; what segments hold is served anew",
                });
            }
            found.push(queue.finish(incarnation, metas.remove(&incarnation), report));
            states.insert(incarnation, queue.state);
        }
        Ok((states, found))
    }
}

impl QueueReplay {
    /// From this offset on, the WAL has what the segments may lack.
    fn wal_from(&self) -> u64 {
        match (&self.head, self.state.runs.front()) {
            // What a snapshot does not name was moved after it, and is in the WAL still.
            (Some(_), _) => 0,
            (None, Some(run)) => run.first_offset,
            (None, None) if self.state.base.is_some() => self.state.next_offset,
            (None, None) => u64::MAX,
        }
    }

    fn finish(
        &mut self,
        incarnation: Incarnation,
        meta: Option<Meta>,
        report: &mut RecoveryReport,
    ) -> RecoveredQueue {
        let state = &mut self.state;
        state.next_offset = state.next_offset.max(state.moved_end()).max(state.trimmed);
        state.release_runs();
        let first_run = state.runs.front().map(|r| r.first_offset);
        let first_segment = state.segments.first().map(|s| s.first_offset);
        let first_stored = first_run.into_iter().chain(first_segment).min();
        let (name, settings, is_orphan) = match meta {
            Some(Meta::Known(meta)) => (meta.name, meta.settings, false),
            _ => (format!("recovered-{incarnation}"), Bytes::new(), true),
        };
        if is_orphan {
            report.orphans.push(incarnation);
        }
        RecoveredQueue {
            incarnation,
            name,
            settings,
            snapshot: self.snapshot.take(),
            replay: std::mem::take(&mut self.replay),
            first_offset: first_stored.unwrap_or(state.next_offset).max(state.trimmed),
            next_offset: state.next_offset,
            is_orphan,
        }
    }
}

/// Removes the directory of a queue that was never made, with the description that was never put
/// in place. One that holds anything else is left alone.
fn remove_unmade<V: Vfs>(vfs: &V, dir: &Path) -> Result<(), IoError> {
    let names = io(vfs.read_dir(dir), "list", dir)?;
    if names.iter().any(|name| name != "queue.meta.tmp") {
        return Ok(());
    }
    for name in names {
        remove_file(vfs, &dir.join(name))?;
    }
    io(vfs.sync_dir(dir), "sync", dir)?;
    io(vfs.remove_dir(dir), "remove", dir)
}

enum Meta {
    Known(QueueMeta),
    Damaged,
    Nothing,
}

fn read_meta<V: Vfs>(vfs: &V, dir: &Path, queue: Incarnation) -> Result<Meta, IoError> {
    let path = dir.join("queue.meta");
    let bytes_max = (NAME_BYTES_MAX + SETTINGS_BYTES_MAX + 4096) as u64;
    if let Some(bytes) = read_small(vfs, &path, bytes_max)? {
        return Ok(match QueueMeta::decode(&bytes) {
            Some(meta) if meta.incarnation == queue => Meta::Known(meta),
            _ => Meta::Damaged,
        });
    }
    let has_segments = io(vfs.read_dir(dir), "list", dir)?
        .iter()
        .any(|name| parse_file_name(name).is_some());
    Ok(if has_segments {
        Meta::Damaged
    } else {
        Meta::Nothing
    })
}

/// Moves a file into another directory, durably: a crash may leave both names until both
/// directories are synced, and a second attempt is none where both are names of one file.
pub(crate) fn move_aside<V: Vfs>(vfs: &V, from: &Path, to: &Path) -> Result<(), IoError> {
    remove_file(vfs, to)?;
    io(vfs.rename(from, to), "rename", from)?;
    for dir in [to.parent(), from.parent()].into_iter().flatten() {
        io(vfs.sync_dir(dir), "sync", dir)?;
    }
    Ok(())
}

/// Finds a queue's segments. Those that its last snapshot names are taken at its word, and only
/// measured; what was moved after it is walked.
struct SegmentLoader<'a, V: Vfs> {
    vfs: &'a V,
    queue: Incarnation,
    dir: PathBuf,
    quarantine: PathBuf,
    /// See [`QueueReplay::wal_from`].
    wal_from: u64,
    trimmed: u64,
    /// What the WAL has of the queue.
    runs: &'a VecDeque<Run>,
    report: &'a mut RecoveryReport,
}

impl<V: Vfs> SegmentLoader<'_, V> {
    fn load(&mut self, head: Option<&SnapshotHead>) -> Result<Vec<SegmentInfo>, IoError> {
        let mut names: Vec<u64> = io(self.vfs.read_dir(&self.dir), "list", &self.dir)?
            .iter()
            .filter_map(|name| parse_file_name(name))
            .collect();
        names.sort_unstable();
        let listed = head.map_or(&[][..], |h| &h.segments);
        let mut segments = Vec::new();
        for info in listed {
            let has_file = names.binary_search(&info.first_offset).is_ok();
            if !has_file && info.end_offset <= self.trimmed {
                continue;
            }
            self.check_listed(info, has_file)?;
            segments.push(*info);
        }
        let listed_end = listed.last().map_or(0, |s| s.end_offset);
        // Moves may have continued the last one.
        if let Some(last) = segments.last_mut()
            && names.binary_search(&last.first_offset).is_ok()
        {
            *last = self.walk(*last)?;
        }
        let unlisted: Vec<u64> = names
            .iter()
            .filter(|first| !listed.iter().any(|s| s.first_offset == **first))
            .copied()
            .collect();
        for first in unlisted {
            self.take_unlisted(first, listed_end, &mut segments)?;
        }
        Ok(segments)
    }

    fn check_listed(&mut self, info: &SegmentInfo, has_file: bool) -> Result<(), IoError> {
        let path = self.dir.join(file_name(info.first_offset));
        let problem = if has_file {
            let file = io(self.vfs.open(&path, OpenMode::Read), "open", &path)?;
            let head = read_range(&file, 0..SEGMENT_HEADER_BYTES as u64, &path)?;
            if io(file.len(), "measure", &path)? < info.bytes {
                Some("it is shorter than it was; what is left is served")
            } else if !is_header(&head, self.queue, info.first_offset) {
                Some("its header is damaged; its entries are served")
            } else {
                None
            }
        } else {
            Some("it is missing; reads of its offsets fail")
        };
        if let Some(problem) = problem {
            self.problem(path, problem);
        }
        Ok(())
    }

    fn problem(&mut self, path: PathBuf, problem: &'static str) {
        self.report.segments.push(SegmentProblem {
            queue: self.queue,
            path,
            problem,
        });
    }

    /// Whether the WAL has what follows `offset`, so that a segment that ends there lacks nothing.
    fn is_in_wal(&self, offset: u64) -> bool {
        offset.max(self.trimmed) >= self.wal_from
    }

    /// Whether the WAL has records from `end` up to `first`, which a segment that begins at `first`
    /// would hide.
    fn has_between(&self, end: u64, first: u64) -> bool {
        let end = end.max(self.trimmed);
        let mut runs = self.runs.iter();
        runs.any(|run| run.first_offset.max(end) < run.end_offset.min(first))
    }

    /// Judges a segment that no snapshot names.
    fn take_unlisted(
        &mut self,
        first_offset: u64,
        listed_end: u64,
        segments: &mut Vec<SegmentInfo>,
    ) -> Result<(), IoError> {
        let path = self.dir.join(file_name(first_offset));
        let empty = SegmentInfo {
            first_offset,
            end_offset: first_offset,
            bytes: SEGMENT_HEADER_BYTES as u64,
            records: 0,
        };
        let end = segments.last().map_or(listed_end, |s| s.end_offset);
        let info = self.walk(empty)?;
        let is_empty = info.end_offset == first_offset;
        if !is_empty && info.end_offset <= self.trimmed {
            // Removed before a crash that brought its name back.
            return remove_file(self.vfs, &path);
        }
        let has_gap = self.has_between(end, first_offset);
        if !is_empty && first_offset >= end && !has_gap {
            segments.push(info);
            return Ok(());
        }
        let name = format!("segment-{}-{}", self.queue.hex(), file_name(first_offset));
        let aside = self.quarantine.join(name);
        move_aside(self.vfs, &path, &aside)?;
        // What a move left that failed or that a crash cut short: other segments or the WAL have
        // all of it.
        let is_needless = info.end_offset <= end || self.is_in_wal(end);
        if !is_needless {
            self.problem(aside, "its offsets are not its own; it was set aside");
        }
        Ok(())
    }

    /// Walks a segment from where `info` ends, makes what it finds durable, and cuts the rest.
    fn walk(&mut self, info: SegmentInfo) -> Result<SegmentInfo, IoError> {
        let path = self.dir.join(file_name(info.first_offset));
        let file = io(self.vfs.open(&path, OpenMode::ReadWrite), "open", &path)?;
        let len = io(file.len(), "measure", &path)?;
        if len <= info.bytes {
            return Ok(info);
        }
        // A segment that no snapshot names may lack its header on the disk as well.
        let from = match info.records {
            0 => 0,
            _ => info.bytes,
        };
        let mut info = info;
        let mut walk = Walk::new(&file, self.queue, info.bytes, len).reading(1 << 20);
        while let Step::Entry(header, payload) = io(walk.step(), "read", &path)? {
            let is_intact = crc32c::crc32c(&payload) == header.payload_crc;
            // What an earlier, failed move left behind may still be readable here.
            if header.first_offset < info.end_offset
                || (!is_intact && self.is_in_wal(info.end_offset))
            {
                break;
            }
            info.end_offset = header.end_offset();
            info.records += u64::from(header.count);
            info.bytes = walk.at;
        }
        if info.bytes < len {
            if !self.is_in_wal(info.end_offset) {
                let name = format!("segment-{}-{}", self.queue.hex(), info.first_offset);
                let rest = read_range(&file, info.bytes..len, &path)?;
                crate::log::replace_file(self.vfs, &self.quarantine, &name, &rest)?;
                let aside = self.quarantine.join(name);
                self.problem(aside, "its end could not be read; it was set aside");
            }
            io(file.set_len(info.bytes), "cut", &path)?;
        }
        // A process whose sync failed may have left pages that read well and that no sync would
        // write any more.
        let taken = read_range(&file, from..info.bytes, &path)?;
        io(file.write_all_at(&taken, from), "write", &path)?;
        io(file.sync_data(), "sync", &path)?;
        Ok(info)
    }
}
