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

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;

use crate::error::{CommitError, Damage, IoError, OpenError};
use crate::format::entry::{Entry, EntryHeader, EntryKind};
use crate::ids::{Incarnation, Position};
use crate::jobs::remove_tree;
use crate::log::Log;
use crate::options::Options;
use crate::pending::Pending;
use crate::recover_wal::{Recovery, name_files};
use crate::replay::QueueReplay;
use crate::segments::SegmentCache;
use crate::shard_meta;
use crate::vfs::{OpenMode, Vfs, VfsFile};
use crate::wal::Wal;

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
            backup_dir: None,
            pinned_seq: None,
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
