//! Opening a shard: what the last process left, judged, tidied and handed to the caller.
//!
//! The order of steps is what keeps a crash during recovery harmless:
//!
//! 1. read all live WAL files and judge their groups ([`crate::scan`]);
//! 2. sync them: a process that was killed may have left bytes that only the page cache holds,
//!    and what follows will say that they are durable. The last group is written again before: if
//!    its sync failed, the kernel counts its pages as clean although they never reached the disk,
//!    and a second sync would do nothing;
//! 3. copy what is damaged to `quarantine/`, then write zeros over the torn tail;
//! 4. replay the entries, find each queue's segments;
//! 5. begin a new generation in a new file whose first group states where the old one ended, and
//!    sync it. From here on, bytes beyond that end are never read again, whatever they hold.
//!
//! Every step can be repeated. Nothing is deleted because a description is missing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::error::{CommitError, Damage, IoError, OpenError};
use crate::format::entry::{Entry, EntryHeader, EntryKind, entries};
use crate::format::group::{GROUP_HEADER_BYTES, GroupHeader, padded};
use crate::ids::{Incarnation, Position};
use crate::jobs::{remove_file, remove_tree};
use crate::log::Log;
use crate::mover::set_aside;
use crate::options::{Options, PAGE_BYTES};
use crate::pending::Pending;
use crate::replay::{QueueReplay, Replayer};
use crate::scan::{self, FoundGroup, Plan};
use crate::segments::SegmentCache;
use crate::shard_meta;
use crate::vfs::{OpenMode, Vfs, VfsFile};
use crate::wal::{Wal, parse_wal_file_name, spare_file_name};

/// What a log held when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Every queue that has not been removed, by incarnation.
    pub queues: Vec<RecoveredQueue>,
    /// What was found wrong.
    pub report: RecoveryReport,
}

/// A queue as it was found.
#[derive(Clone, Debug)]
pub struct RecoveredQueue {
    /// Its identity.
    pub incarnation: Incarnation,
    /// Its name, or `recovered-<incarnation>` if its description is missing.
    pub name: String,
    /// The settings it was given; empty if its description is missing.
    pub settings: Bytes,
    /// The caller's bytes of its last snapshot.
    pub snapshot: Option<Bytes>,
    /// What was journaled since, in order.
    pub replay: Vec<Replay>,
    /// The lowest offset that may still be read.
    pub first_offset: u64,
    /// One past the highest offset that was given out.
    pub next_offset: u64,
    /// Whether its description is missing or damaged.
    pub is_orphan: bool,
}

/// An entry of a queue's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Records were appended; read them with [`Log::read`].
    Messages {
        /// Offset of the first.
        first_offset: u64,
        /// How many.
        count: u32,
        /// When they were received, ms since 1970.
        time_ms: u64,
        /// In whose name.
        epoch: u32,
    },
    /// The caller's bytes.
    State(Bytes),
    /// Offsets below this one were trimmed.
    Trimmed(u64),
}

/// What recovery found, for the operator.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// The tail of an unfinished write, which was cut. Nothing of it was ever confirmed.
    pub torn: Vec<Damage>,
    /// Synced bytes that have changed. What could be read of them is served.
    pub rot: Vec<Damage>,
    /// Entries that were found intact inside rot.
    pub salvaged_entries: u64,
    /// Queues without a readable description.
    pub orphans: Vec<Incarnation>,
    /// Segments that are not as they should be.
    pub segments: Vec<SegmentProblem>,
    /// WAL files read.
    pub wal_files: u64,
    /// Groups that count.
    pub groups: u64,
}

impl RecoveryReport {
    /// Whether anything that was confirmed may be missing or damaged: raise an alarm.
    pub fn is_alarming(&self) -> bool {
        !self.rot.is_empty() || !self.orphans.is_empty() || !self.segments.is_empty()
    }
}

/// A segment that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentProblem {
    /// The queue.
    pub queue: Incarnation,
    /// The file, or where it was moved.
    pub path: PathBuf,
    /// What is wrong and what was done.
    pub problem: &'static str,
}

pub(crate) fn io<T>(
    result: std::io::Result<T>,
    op: &'static str,
    path: &Path,
) -> Result<T, IoError> {
    result.map_err(IoError::at(op, path))
}

impl<V: Vfs> Log<V> {
    /// Opens the shard in `dir`, making it if it does not exist, and recovers what it holds.
    ///
    /// The caller holds the data directory's lock ([`crate::DataDir`]). `now_ms` is informational.
    pub fn open(
        vfs: V,
        dir: &Path,
        mut options: Options,
        now_ms: u64,
    ) -> Result<(Self, Recovered), OpenError> {
        make_dirs(&vfs, dir)?;
        let wal_dir = dir.join("wal");
        options.file_bytes = shard_meta::load_or_make(&vfs, dir, &options)?;
        options.validate()?;
        name_files(&vfs, &wal_dir, options.file_bytes)?;
        let names = io(vfs.read_dir(&wal_dir), "list", &wal_dir)?;
        let mut recovery = Recovery::read(&vfs, dir, &options, &names)?;
        recovery.sync_and_tidy()?;
        let replayed = recovery.replay()?;
        let next_seq = recovery.files.keys().next_back().map_or(1, |seq| seq + 1);
        let (end, chain, opens) = recovery.end();
        let mut wal = Wal::new(
            vfs.clone(),
            wal_dir,
            options.shard,
            options.file_bytes,
            next_seq,
        );
        recovery.hand_over_files(&mut wal, &names)?;

        let mut report = recovery.report;
        let (queues, found) = replayed.into_queues(&vfs, dir, &mut report)?;
        let mut log = Log {
            vfs,
            dir: dir.to_owned(),
            segment_cache: Mutex::new(SegmentCache::new(options.segment_index_bytes_max)),
            options,
            wal,
            pending: Pending::new(),
            queues,
            has_job: false,
            poisoned: None,
            is_last_group_proven: true,
        };
        let low = log.options.nonce & u64::from(u32::MAX);
        let generation = u64::from(opens.saturating_add(1)) << 32 | low;
        log.wal.begin_generation(generation, chain);
        log.write_opened(end, now_ms)?;
        log.wal.name_all()?;
        Ok((
            log,
            Recovered {
                queues: found,
                report,
            },
        ))
    }

    /// The first group of a generation; see [`crate::scan`].
    fn write_opened(&mut self, previous_end: Position, now_ms: u64) -> Result<(), OpenError> {
        let payload = previous_end.0.to_le_bytes();
        let header = EntryHeader {
            length: payload.len() as u32,
            payload_crc: crc32c::crc32c(&payload),
            ..EntryHeader::new(EntryKind::Opened, 0)
        };
        let buf = &mut self.pending.buf;
        buf.extend_from_slice(&header.encode());
        buf.extend_from_slice(&payload);
        let written = self.wal.write_group(buf, 1, now_ms);
        self.pending.clear();
        written.map(|_| ()).map_err(|error| match error {
            CommitError::NoSpace(error) => OpenError::Io(error),
            CommitError::Poisoned(why) => OpenError::Io(IoError {
                op: "begin a generation in",
                path: self.dir.clone(),
                source: std::io::Error::other(why),
            }),
        })
    }
}

/// Makes the shard's directories, and their names durable.
fn make_dirs<V: Vfs>(vfs: &V, dir: &Path) -> Result<(), IoError> {
    io(vfs.create_dir(dir), "make", dir)?;
    for name in ["wal", "queues", "quarantine"] {
        let path = dir.join(name);
        io(vfs.create_dir(&path), "make", &path)?;
    }
    io(vfs.sync_dir(dir), "sync", dir)?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => io(vfs.sync_dir(parent), "sync", parent),
        _ => Ok(()),
    }
}

/// Gives their own names to files that hold groups under a spare's name: a crash came between the
/// writer's turn to a new file and the job that names it. They continue the last named file.
fn name_files<V: Vfs>(vfs: &V, wal_dir: &Path, file_bytes: u64) -> Result<(), OpenError> {
    let names = io(vfs.read_dir(wal_dir), "list", wal_dir)?;
    let last = names.iter().filter_map(|n| parse_wal_file_name(n)).max();
    let mut next = last.map_or(1, |last| last + 1);
    let mut spares: Vec<PathBuf> = names
        .iter()
        .filter(|n| n.starts_with("spare-"))
        .map(|n| wal_dir.join(n))
        .collect();
    let mut buf = vec![0; usize::try_from(file_bytes).unwrap_or(0)];
    let mut holds = |path: &Path, seq: u64| -> Result<bool, OpenError> {
        let file = io(vfs.open(path, OpenMode::Read), "open", path)?;
        let got = io(file.read_full_at(&mut buf, 0), "read", path)?;
        let groups = scan::groups(&buf[..got], Position::of(seq, 0, file_bytes));
        Ok(got as u64 == file_bytes && !groups.is_empty())
    };
    'next: loop {
        for index in 0..spares.len() {
            if holds(&spares[index], next)? {
                let from = spares.swap_remove(index);
                let to = wal_dir.join(crate::wal::wal_file_name(next));
                crate::wal::name_file(vfs, &from, &to)?;
                next += 1;
                continue 'next;
            }
        }
        return Ok(());
    }
}

/// The WAL as it was found.
struct Recovery<'a, V: Vfs> {
    vfs: &'a V,
    dir: PathBuf,
    quarantine: PathBuf,
    file_bytes: u64,
    files: BTreeMap<u64, Arc<V::File>>,
    plan: Plan,
    report: RecoveryReport,
}

impl<'a, V: Vfs> Recovery<'a, V> {
    fn read(
        vfs: &'a V,
        dir: &Path,
        options: &Options,
        names: &[String],
    ) -> Result<Self, OpenError> {
        let file_bytes = options.file_bytes;
        let mut files = BTreeMap::new();
        let mut found: Vec<FoundGroup> = Vec::new();
        let mut buf = vec![0; usize::try_from(file_bytes).unwrap_or(0)];
        let wal_dir = dir.join("wal");
        for seq in names.iter().filter_map(|n| parse_wal_file_name(n)) {
            let path = wal_dir.join(crate::wal::wal_file_name(seq));
            let file = io(vfs.open(&path, OpenMode::ReadWrite), "open", &path)?;
            let got = io(file.read_full_at(&mut buf, 0), "read", &path)?;
            found.extend(scan::groups(&buf[..got], Position::of(seq, 0, file_bytes)));
            files.insert(seq, Arc::new(file));
        }
        if let Some(group) = found.iter().find(|g| g.header.shard != options.shard) {
            return Err(OpenError::OtherShard {
                path: dir.to_owned(),
                found: group.header.shard,
                expected: options.shard,
            });
        }
        let start = files.keys().next().copied().unwrap_or(1);
        let plan = scan::plan(&found, Position::of(start, 0, file_bytes), file_bytes);
        Ok(Recovery {
            vfs,
            dir: wal_dir,
            quarantine: dir.join("quarantine"),
            file_bytes,
            report: RecoveryReport {
                wal_files: files.len() as u64,
                groups: plan.kept.len() as u64,
                ..RecoveryReport::default()
            },
            files,
            plan,
        })
    }

    /// Where the log ends, the last group's CRC, and the number of opens so far.
    fn end(&self) -> (Position, u32, u32) {
        let chain = self.plan.kept.last().map_or(0, |g| g.header.crc);
        (self.plan.end, chain, self.plan.opens)
    }

    /// The file that holds the log's end: the next group would have gone there.
    fn end_file(&self) -> Option<(u64, u64)> {
        let last = self.plan.end.0.checked_sub(1)?;
        let seq = Position(last).seq(self.file_bytes);
        let offset = self.plan.end.0 - Position::of(seq, 0, self.file_bytes).0;
        match self.plan.kept.is_empty() {
            true => Some((self.plan.end.seq(self.file_bytes), 0)),
            false => Some((seq, offset)),
        }
    }

    /// Finds how far a torn write can be seen to reach, and cuts it.
    fn cut_torn(&mut self) -> Result<(), OpenError> {
        let chain = self.plan.kept.last().map_or(0, |g| g.header.crc);
        let Some((seq, offset)) = self.end_file() else {
            return Ok(());
        };
        // The torn group is in the file of the end, or the first of the next.
        for (seq, offset) in [(seq, offset), (seq + 1, 0)] {
            let Some(file) = self.files.get(&seq) else {
                continue;
            };
            let path = self.dir.join(crate::wal::wal_file_name(seq));
            let bytes = read_range(&**file, offset..self.file_bytes, &path)?;
            let position = Position::of(seq, offset, self.file_bytes);
            let whole = self.plan.cut.iter().map(|g| g.header.end());
            let broken = scan::is_broken_group(&bytes, position, chain)
                .map(|len| Position(position.0 + len));
            let file_end = Position::of(seq + 1, 0, self.file_bytes);
            let end = whole
                .chain(broken)
                .filter(|end| *end > position && *end <= file_end)
                .max();
            if let Some(end) = end {
                self.cut(position..end)?;
            }
        }
        Ok(())
    }

    /// Sets a torn write aside and writes zeros over it, so that it never reads as whole again.
    fn cut(&mut self, range: Range<Position>) -> Result<(), OpenError> {
        let seq = range.start.seq(self.file_bytes);
        let Some(file) = self.files.get(&seq) else {
            return Ok(());
        };
        let path = self.dir.join(crate::wal::wal_file_name(seq));
        let start = range.start.offset(self.file_bytes);
        let bytes = start..start + (range.end.0 - range.start.0);
        let damage = set_aside(
            self.vfs,
            &self.quarantine,
            "torn",
            range.start,
            file,
            bytes.clone(),
        )?;
        let zeros = vec![0; (bytes.end - bytes.start) as usize];
        io(file.write_all_at(&zeros, bytes.start), "write", &path)?;
        io(file.sync_data(), "sync", &path)?;
        self.report.torn.push(damage);
        Ok(())
    }

    /// Writes again the groups that no later one proves to be synced: the last.
    fn rewrite_unproven(&self) -> Result<(), OpenError> {
        let kept = &self.plan.kept;
        let synced = kept.iter().map(|g| g.header.synced).max();
        let unproven = |g: &&FoundGroup| Some(g.header.position) >= synced;
        for group in kept.iter().rev().take_while(unproven) {
            let position = group.header.position;
            let seq = position.seq(self.file_bytes);
            let Some(file) = self.files.get(&seq) else {
                continue;
            };
            let path = self.dir.join(crate::wal::wal_file_name(seq));
            let start = position.offset(self.file_bytes);
            let bytes = read_range(&**file, start..start + group.header.padded_bytes(), &path)?;
            io(file.write_all_at(&bytes, start), "write", &path)?;
        }
        Ok(())
    }

    /// Makes durable what was read, and sets rot aside.
    fn sync_and_tidy(&mut self) -> Result<(), OpenError> {
        self.rewrite_unproven()?;
        for (seq, file) in &self.files {
            let path = self.dir.join(crate::wal::wal_file_name(*seq));
            io(file.sync_data(), "sync", &path)?;
        }
        io(self.vfs.sync_dir(&self.dir), "sync", &self.dir)?;
        self.cut_torn()?;
        for range in self.plan.rot.clone() {
            for part in self.parts(&range) {
                let seq = part.start.seq(self.file_bytes);
                let len = part.end.0 - part.start.0;
                let Some(file) = self.files.get(&seq) else {
                    self.report.rot.push(Damage {
                        position: part.start,
                        bytes: len,
                        set_aside: None,
                    });
                    continue;
                };
                let start = part.start.offset(self.file_bytes);
                let bytes = start..start + len;
                let damage = set_aside(self.vfs, &self.quarantine, "rot", part.start, file, bytes)?;
                self.report.rot.push(damage);
            }
        }
        Ok(())
    }

    /// A range of positions, split at the ends of files.
    fn parts(&self, range: &Range<Position>) -> Vec<Range<Position>> {
        let mut parts = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let file_end = Position::of(at.seq(self.file_bytes) + 1, 0, self.file_bytes);
            let end = file_end.min(range.end);
            parts.push(at..end);
            at = end;
        }
        parts
    }

    /// Replays groups and what can be read in rot, in order of position.
    fn replay(&mut self) -> Result<Replayer, OpenError> {
        let mut replayer = Replayer::default();
        let mut rot: Vec<_> = self.plan.rot.iter().flat_map(|r| self.parts(r)).collect();
        rot.reverse();
        for i in 0..self.plan.kept.len() {
            let header = self.plan.kept[i].header;
            while let Some(part) = rot.pop_if(|part| part.start < header.position) {
                self.replay_rot(part, &mut replayer)?;
            }
            let bytes = self.bytes_at(header.position, header.padded_bytes())?;
            for entry in scan::group_entries(&bytes, &header) {
                replayer.add(header.position, &entry);
            }
        }
        while let Some(part) = rot.pop() {
            self.replay_rot(part, &mut replayer)?;
        }
        Ok(replayer)
    }

    /// Looks for entries in rot: in groups whose header still names its place.
    fn replay_rot(
        &mut self,
        part: Range<Position>,
        replayer: &mut Replayer,
    ) -> Result<(), OpenError> {
        let bytes = self.bytes_at(part.start, part.end.0 - part.start.0)?;
        let mut at = 0;
        while at < bytes.len() {
            let position = Position(part.start.0 + at as u64);
            let mut next = at + PAGE_BYTES as usize;
            let is_ours = GroupHeader::peek(&bytes[at..]).is_some_and(|h| h.position == position);
            if is_ours {
                let mut end = GROUP_HEADER_BYTES;
                for entry in entries(&bytes[at..], GROUP_HEADER_BYTES, bytes.len() - at) {
                    end = entry.at + entry.header.total_bytes() as usize;
                    self.report.salvaged_entries +=
                        u64::from(replayer.add_salvaged(position, &entry));
                }
                next = next.max(at + padded(end as u64) as usize);
            }
            at = next;
        }
        Ok(())
    }

    fn bytes_at(&self, position: Position, len: u64) -> Result<Vec<u8>, OpenError> {
        let seq = position.seq(self.file_bytes);
        let Some(file) = self.files.get(&seq) else {
            return Ok(Vec::new());
        };
        let path = self.dir.join(crate::wal::wal_file_name(seq));
        let start = position.offset(self.file_bytes);
        Ok(read_range(&**file, start..start + len, &path)?)
    }

    /// Gives the files to the writer: those that hold something as live, the others as spares.
    fn hand_over_files(&mut self, wal: &mut Wal<V>, names: &[String]) -> Result<(), OpenError> {
        let file_bytes = self.file_bytes;
        let is_live = |seq: u64| {
            let start = Position::of(seq, 0, file_bytes);
            let end = Position::of(seq + 1, 0, file_bytes);
            let kept = &self.plan.kept;
            let after = kept.partition_point(|g| g.header.position < start);
            kept.get(after).is_some_and(|g| g.header.position < end)
                || self.plan.rot.iter().any(|r| r.start < end && start < r.end)
        };
        for name in names {
            let Some(n) = name
                .strip_prefix("spare-")
                .and_then(|d| u64::from_str_radix(d, 16).ok())
            else {
                continue;
            };
            let path = self.dir.join(name);
            let file = io(self.vfs.open(&path, OpenMode::ReadWrite), "open", &path)?;
            // One whose making was cut short has fewer bytes.
            if io(file.len(), "measure", &path)? == file_bytes && *name == spare_file_name(n) {
                wal.adopt_spare(n, file);
            } else {
                remove_file(self.vfs, &path)?;
            }
        }
        let mut is_changed = false;
        for (seq, file) in std::mem::take(&mut self.files) {
            if is_live(seq) {
                wal.files.insert(seq, file);
                continue;
            }
            let from = wal.path(seq);
            is_changed = true;
            if io(file.len(), "measure", &from)? != file_bytes {
                // Something shortened it; no group begins in what is left.
                let aside = self.quarantine.join(format!("short-{seq:016x}"));
                io(self.vfs.rename(&from, &aside), "rename", &from)?;
                continue;
            }
            let path = wal.new_spare_path();
            io(self.vfs.rename(&from, &path), "rename", &from)?;
            wal.spares.push(crate::wal::Spare { path, file });
        }
        if is_changed {
            io(self.vfs.sync_dir(&self.dir), "sync", &self.dir)?;
        }
        Ok(())
    }
}

/// Reads a range of a file; fewer bytes if it is shorter.
pub(crate) fn read_range<F: VfsFile>(
    file: &F,
    range: Range<u64>,
    path: &Path,
) -> Result<Vec<u8>, IoError> {
    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
    let got = io(file.read_full_at(&mut bytes, range.start), "read", path)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// Reads a small file whole; `None` if it does not exist.
pub(crate) fn read_small<V: Vfs>(
    vfs: &V,
    path: &Path,
    bytes_max: u64,
) -> Result<Option<Vec<u8>>, IoError> {
    match vfs.open(path, OpenMode::Read) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(IoError::at("open", path)(e)),
        Ok(file) => {
            let len = io(file.len(), "measure", path)?.min(bytes_max);
            read_range(&file, 0..len, path).map(Some)
        }
    }
}

/// The queues' directories, as far as they are known; directories of queues that were being
/// removed are removed.
pub(crate) fn queue_dirs<V: Vfs>(vfs: &V, queues: &Path) -> Result<Vec<Incarnation>, IoError> {
    let mut found = Vec::new();
    for name in io(vfs.read_dir(queues), "list", queues)? {
        if name.ends_with(".removed") {
            // Its tombstone was synced before it got this name.
            remove_tree(vfs, &queues.join(&name))?;
        } else if name.len() == 16
            && let Ok(n) = u64::from_str_radix(&name, 16)
            && let Some(queue) = Incarnation::new(n)
            && queue.hex() == name
        {
            found.push(queue);
        }
    }
    Ok(found)
}

impl QueueReplay {
    pub(crate) fn push_entry(&mut self, entry: &Entry<'_>) {
        let header = &entry.header;
        match header.kind {
            EntryKind::Messages => self.replay.push(Replay::Messages {
                first_offset: header.first_offset,
                count: header.count,
                time_ms: header.time_ms,
                epoch: header.epoch,
            }),
            EntryKind::State => self
                .replay
                .push(Replay::State(Bytes::copy_from_slice(entry.payload))),
            EntryKind::Trimmed => self.replay.push(Replay::Trimmed(header.first_offset)),
            EntryKind::Snapshot | EntryKind::Removed | EntryKind::Opened => {}
        }
    }
}
