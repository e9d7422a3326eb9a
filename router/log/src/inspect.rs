//! Looking at a data directory that no process uses: what is there, and all that is wrong with it.
//!
//! [`check`] runs the very recovery that an opening would run, on an [`Overlay`], then reads every
//! record that it serves. So it finds what an opening would find, and what only a read would.
//! Nothing is changed but the lock file. [`crate::repair`] does what a check says is to be done,
//! [`crate::dump`] shows single entries.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::data_dir::{check_format, hold, shard_dirs};
use crate::error::{Damage, OpenError, ReadError};
use crate::format::group;
use crate::format::meta::QueueMeta;
use crate::ids::{Incarnation, Position};
use crate::log::Log;
use crate::options::Options;
use crate::overlay::Overlay;
use crate::recover::{Recovered, RecoveredQueue, io, read_range, read_small};
use crate::recover_wal::find_files;
use crate::scan;
use crate::shard_meta;
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// What a data directory holds, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its shards, by number.
    pub shards: Vec<ShardReport>,
    /// Everything that is not as it should be.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether anything that was confirmed is lost, damaged or served under another name.
    pub fn has_loss(&self) -> bool {
        self.findings.iter().any(|f| f.kind.is_loss())
    }
}

/// What kind of fault was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// Synced bytes have changed.
    Rot,
    /// A file, or its end, is gone.
    Missing,
    /// The end of a write that was never confirmed.
    Torn,
    /// A file that nothing needs.
    Leftover,
}

impl FindingKind {
    /// Whether it can cost something that was confirmed.
    pub fn is_loss(self) -> bool {
        matches!(self, FindingKind::Rot | FindingKind::Missing)
    }

    /// As a word.
    pub fn as_str(self) -> &'static str {
        match self {
            FindingKind::Rot => "rot",
            FindingKind::Missing => "missing",
            FindingKind::Torn => "torn",
            FindingKind::Leftover => "leftover",
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of fault.
    pub kind: FindingKind,
    /// The file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub at: u64,
    /// How many bytes; 0 is unknown.
    pub bytes: u64,
    /// What was expected, and what is there.
    pub what: String,
    /// The queue that it is about, where that is known.
    pub queue: Option<Incarnation>,
    /// The queue's offsets that cannot be served.
    pub offsets: Option<Range<u64>>,
}

impl Finding {
    fn new(kind: FindingKind, file: PathBuf, what: impl Into<String>) -> Finding {
        Finding {
            kind,
            file,
            at: 0,
            bytes: 0,
            what: what.into(),
            queue: None,
            offsets: None,
        }
    }
}

/// What a shard holds.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    /// Its number.
    pub shard: u16,
    /// Bytes of each of its WAL files.
    pub file_bytes: u64,
    /// Its live WAL files, in order.
    pub wal: Vec<WalFileReport>,
    /// Files that are ready to be written.
    pub spare_files: u64,
    /// Groups that count.
    pub groups: u64,
    /// Its queues, by incarnation.
    pub queues: Vec<QueueReport>,
    /// Files in its quarantine, with their bytes.
    pub quarantine: Vec<(String, u64)>,
}

/// What a WAL file holds.
#[derive(Clone, Debug)]
pub struct WalFileReport {
    /// Its number.
    pub seq: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Position of its first byte.
    pub start: Position,
    /// Where its last whole group ends.
    pub end: Position,
    /// Whole groups.
    pub groups: u64,
    /// The opens whose groups are in it, counted from the shard's first.
    pub opens: Vec<u32>,
    /// When its first and last groups were written, ms since 1970.
    pub times_ms: Option<(u64, u64)>,
}

/// What a queue holds.
#[derive(Clone, Debug)]
pub struct QueueReport {
    /// Its identity.
    pub incarnation: Incarnation,
    /// Its name, `recovered-…` if its description is gone.
    pub name: String,
    /// Offsets from the first stored to the next that is given out.
    pub offsets: Range<u64>,
    /// Records that can be read.
    pub records: u64,
    /// Their bytes, each with its length.
    pub bytes: u64,
    /// Records that cannot be read.
    pub records_damaged: u64,
    /// Segments, and their bytes.
    pub segments: u64,
    /// Bytes of the segments.
    pub segment_bytes: u64,
    /// Bytes of message entries that are in the WAL alone.
    pub wal_bytes: u64,
    /// Whether a snapshot of its state is in the WAL.
    pub has_snapshot: bool,
    /// Entries of its journal since, messages included.
    pub journal_entries: u64,
}

/// Looks at a data directory. Refuses one that is in use, of a newer format, or not a router's.
pub fn check<V: Vfs>(vfs: &V, dir: &Path) -> Result<Report, OpenError> {
    let _held = hold_to_look(vfs, dir)?;
    let mut report = Report::default();
    if let Some(finding) = check_description(vfs, dir)? {
        report.findings.push(finding);
    }
    for (shard, path) in shard_dirs(vfs, dir)? {
        check_shard(vfs, shard, &path, &mut report)?;
    }
    Ok(report)
}

/// Takes the lock; on a file system that cannot be written nobody else holds it.
pub(crate) fn hold_to_look<V: Vfs>(vfs: &V, dir: &Path) -> Result<Option<V::Lock>, OpenError> {
    io(vfs.read_dir(dir), "list", dir)?;
    match hold(vfs, dir) {
        Err(OpenError::Io(e)) if e.source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// What is wrong with the file `format` of a directory that holds shards.
pub(crate) fn check_description<V: Vfs>(vfs: &V, dir: &Path) -> Result<Option<Finding>, OpenError> {
    let is_ours = || -> Result<bool, OpenError> {
        let shards = shard_dirs(vfs, dir)?;
        Ok(shards
            .iter()
            .any(|(_, path)| vfs.read_dir(&path.join("wal")).is_ok()))
    };
    let foreign = |reason: String| OpenError::Foreign {
        path: dir.to_owned(),
        reason,
    };
    let (kind, reason) = match check_format(vfs, dir) {
        Ok(true) => return Ok(None),
        Ok(false) => return Err(foreign("it is empty".to_owned())),
        Err(OpenError::Foreign { reason, .. }) => {
            let is_there = vfs.open(&dir.join("format"), OpenMode::Read).is_ok();
            let kind = [FindingKind::Missing, FindingKind::Rot][usize::from(is_there)];
            (kind, reason)
        }
        Err(error) => return Err(error),
    };
    if !is_ours()? {
        return Err(foreign(reason));
    }
    Ok(Some(Finding::new(kind, dir.join("format"), reason)))
}

/// Options by which a shard opens as it is.
pub(crate) fn options_of<V: Vfs>(
    vfs: &V,
    shard: u16,
    dir: &Path,
    nonce: u64,
) -> Result<Options, OpenError> {
    let file_bytes = match shard_meta::peek(vfs, dir)? {
        Some((file_bytes, _)) => Some(file_bytes),
        None => shard_meta::longest_wal_file(vfs, dir).unwrap_or_default(),
    };
    let file_bytes = file_bytes.unwrap_or(Options::default().file_bytes);
    Ok(Options::of_shard(shard, file_bytes, nonce))
}

fn check_shard<V: Vfs>(
    vfs: &V,
    shard: u16,
    dir: &Path,
    report: &mut Report,
) -> Result<(), OpenError> {
    let over = Overlay::new(vfs.clone());
    let options = options_of(vfs, shard, dir, 0)?;
    if shard_meta::peek(vfs, dir)?.is_none() {
        let path = dir.join(shard_meta::FILE_NAME);
        let what = "it is gone or damaged; an opening makes it anew from the WAL files' length";
        let finding = Finding::new(FindingKind::Leftover, path, what);
        report.findings.push(finding);
    }
    let (log, found) = Log::open(over, dir, options.clone(), 0)?;
    let mut of_shard = ShardReport {
        shard,
        file_bytes: options.file_bytes,
        groups: found.report.groups,
        quarantine: list_quarantine(vfs, dir)?,
        ..ShardReport::default()
    };
    check_wal(vfs, dir, &options, &mut of_shard, &mut report.findings)?;
    tell_recovery(vfs, dir, &of_shard, &found, &mut report.findings)?;
    for queue in &found.queues {
        let checked = check_queue(&log, queue, &mut report.findings)?;
        of_shard.queues.push(checked);
    }
    report.shards.push(of_shard);
    Ok(())
}

fn list_quarantine<V: Vfs>(vfs: &V, dir: &Path) -> Result<Vec<(String, u64)>, OpenError> {
    let quarantine = dir.join("quarantine");
    let mut files = Vec::new();
    for name in vfs.read_dir(&quarantine).unwrap_or_default() {
        let path = quarantine.join(&name);
        let file = io(vfs.open(&path, OpenMode::Read), "open", &path)?;
        files.push((name, io(file.len(), "measure", &path)?));
    }
    Ok(files)
}

/// Says what the WAL's files hold, before any judgement.
fn check_wal<V: Vfs>(
    vfs: &V,
    dir: &Path,
    options: &Options,
    report: &mut ShardReport,
    findings: &mut Vec<Finding>,
) -> Result<(), OpenError> {
    let wal = dir.join("wal");
    let Ok(names) = vfs.read_dir(&wal) else {
        let what = "the directory of the WAL is gone";
        findings.push(Finding::new(FindingKind::Missing, wal, what));
        return Ok(());
    };
    let mut buf = vec![0; usize::try_from(options.file_bytes).unwrap_or(0)];
    for (seq, path) in find_files(vfs, &wal, options.file_bytes)? {
        let file = io(vfs.open(&path, OpenMode::Read), "open", &path)?;
        let got = io(file.read_full_at(&mut buf, 0), "read", &path)?;
        let start = Position::of(seq, 0, options.file_bytes);
        let groups = scan::groups(&buf[..got], start);
        let time = |g: &scan::FoundGroup| g.header.time_ms;
        let opens: BTreeSet<u32> = groups
            .iter()
            .map(|g| scan::opens(g.header.generation))
            .collect();
        report.wal.push(WalFileReport {
            seq,
            path,
            start,
            end: groups.last().map_or(start, |g| g.header.end()),
            groups: groups.len() as u64,
            opens: opens.into_iter().collect(),
            times_ms: groups.first().map(time).zip(groups.last().map(time)),
        });
    }
    let is_live = |name: &String| report.wal.iter().any(|f| f.path.ends_with(name));
    for name in names.iter().filter(|name| !is_live(name)) {
        if name.starts_with("spare-") {
            report.spare_files += 1;
        } else {
            let what = "it is not a file of the log";
            let path = wal.join(name);
            findings.push(Finding::new(FindingKind::Leftover, path, what));
        }
    }
    Ok(())
}

/// What the recovery found, with the place in the file and what was expected there.
fn tell_recovery<V: Vfs>(
    vfs: &V,
    dir: &Path,
    shard: &ShardReport,
    found: &Recovered,
    findings: &mut Vec<Finding>,
) -> Result<(), OpenError> {
    let torn = found.report.torn.iter().map(|d| (FindingKind::Torn, d));
    let rot = found.report.rot.iter().map(|d| (FindingKind::Rot, d));
    for (kind, damage) in torn.chain(rot) {
        findings.push(place(vfs, dir, shard, kind, damage)?);
    }
    for queue in &found.report.orphans {
        let path = dir.join("queues").join(queue.hex()).join("queue.meta");
        let (kind, what) = match read_small(vfs, &path, 1 << 21)? {
            None => (
                FindingKind::Missing,
                "the queue's name and settings are gone",
            ),
            Some(bytes) => match QueueMeta::decode(&bytes) {
                None => (
                    FindingKind::Rot,
                    "the queue's name and settings do not match their CRC32C",
                ),
                Some(_) => (FindingKind::Rot, "it describes another queue"),
            },
        };
        findings.push(Finding {
            queue: Some(*queue),
            ..Finding::new(kind, path, what)
        });
    }
    for problem in &found.report.segments {
        let is_missing = vfs.open(&problem.path, OpenMode::Read).is_err();
        let kind = [FindingKind::Rot, FindingKind::Missing][usize::from(is_missing)];
        findings.push(Finding {
            queue: Some(problem.queue),
            ..Finding::new(kind, problem.path.clone(), problem.problem)
        });
    }
    Ok(())
}

fn place<V: Vfs>(
    vfs: &V,
    dir: &Path,
    shard: &ShardReport,
    kind: FindingKind,
    damage: &Damage,
) -> Result<Finding, OpenError> {
    let seq = damage.position.seq(shard.file_bytes);
    let at = damage.position.offset(shard.file_bytes);
    let file = shard.wal.iter().find(|f| f.seq == seq);
    let finding = |kind, file, what| Finding {
        at,
        bytes: damage.bytes,
        ..Finding::new(kind, file, what)
    };
    let Some(file) = file else {
        let path = dir.join("wal").join(crate::wal::wal_file_name(seq));
        let what = "the file is gone, though later ones follow it".to_owned();
        return Ok(finding(FindingKind::Missing, path, what));
    };
    let path = &file.path;
    let open = io(vfs.open(path, OpenMode::Read), "open", path)?;
    if damage.set_aside.is_none() {
        let what = format!(
            "the file ends here; WAL files of this shard have {} bytes",
            shard.file_bytes
        );
        return Ok(finding(FindingKind::Missing, path.clone(), what));
    }
    let bytes = read_range(&open, at..shard.file_bytes, path)?;
    let what = group::diagnose(&bytes, damage.position);
    Ok(finding(kind, path.clone(), what))
}

/// Reads all records of a queue.
fn check_queue<V: Vfs>(
    log: &Log<V>,
    queue: &RecoveredQueue,
    findings: &mut Vec<Finding>,
) -> Result<QueueReport, OpenError> {
    let state = log.queues.get(&queue.incarnation);
    let mut report = QueueReport {
        incarnation: queue.incarnation,
        name: queue.name.clone(),
        offsets: queue.first_offset..queue.next_offset,
        records: 0,
        bytes: 0,
        records_damaged: 0,
        segments: state.map_or(0, |q| q.segments.len() as u64),
        segment_bytes: state.map_or(0, |q| q.segments.iter().map(|s| s.bytes).sum()),
        wal_bytes: state.map_or(0, |q| q.unmoved().map(|r| u64::from(r.bytes)).sum()),
        has_snapshot: queue.snapshot.is_some(),
        journal_entries: queue.replay.len() as u64,
    };
    let mut at = queue.first_offset;
    loop {
        match log.read(queue.incarnation, at, 1 << 20) {
            Ok(batch) if batch.chunks.is_empty() => return Ok(report),
            Ok(batch) => {
                for chunk in &batch.chunks {
                    let below = at
                        .saturating_sub(chunk.first_offset)
                        .min(chunk.count.into());
                    report.records += u64::from(chunk.count) - below;
                    report.bytes += chunk.slab.len() as u64;
                }
                at = batch.next;
            }
            Err(ReadError::Damaged {
                first_offset,
                end_offset,
                file,
                at: byte,
                reason,
                ..
            }) => {
                report.records_damaged += end_offset - first_offset;
                findings.push(Finding {
                    at: byte,
                    queue: Some(queue.incarnation),
                    offsets: Some(first_offset..end_offset),
                    ..Finding::new(FindingKind::Rot, file, reason)
                });
                at = end_offset;
            }
            Err(ReadError::Io(error)) => return Err(error.into()),
            Err(ReadError::UnknownQueue(_)) => return Ok(report),
        }
    }
}
