//! Work that takes long and that the writer's thread should not wait for.
//!
//! [`Log::next_job`] hands out one job at a time; it owns all that it needs, so it may run on any
//! thread, or at once. Its result goes back to [`Log::finish_job`]; until then nothing of it
//! counts. A job that fails, or whose process dies, leaves files that the next open tidies.
//!
//! How WAL space comes back, for the oldest file, above the low-water mark:
//!
//! 1. a *move* copies its message entries that are still needed into segments, and syncs them;
//! 2. each queue with an entry in it is wanted to append a snapshot
//!    ([`Log::wants_snapshots`]), which names its segments;
//! 3. when those are synced, nobody needs the file, and a *recycle* makes a spare of it.
//!
//! Files are recycled strictly in order, each name synced before the next is touched. So after a
//! crash the live files are always an unbroken row.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Damage, IoError, JobError};
use crate::format::segment::{self, SEGMENT_HEADER_BYTES, file_name};
use crate::format::snapshot::SegmentInfo;
use crate::ids::{Incarnation, Position};
use crate::log::Log;
use crate::queue::Run;
use crate::segments::{Step, Walk};
use crate::vfs::{OpenMode, Vfs, VfsFile};
use crate::wal::{Spare, make_zeroed};

/// A piece of work to be run anywhere, once.
pub struct Job<V: Vfs>(Work<V>);

enum Work<V: Vfs> {
    /// Make a zeroed file.
    Prepare { path: PathBuf, bytes: u64 },
    /// Make a spare of the oldest WAL file, or remove it if there are enough.
    Recycle {
        seq: u64,
        from: PathBuf,
        to: Option<PathBuf>,
        file: Arc<V::File>,
    },
    /// Copy entries from a WAL file to segments.
    Move {
        seq: u64,
        file: Arc<V::File>,
        file_bytes: u64,
        segment_bytes_max: u64,
        quarantine: PathBuf,
        queues: Vec<MoveQueue>,
    },
    /// Remove segments that are trimmed.
    DropSegments {
        queue: Incarnation,
        dir: PathBuf,
        first_offsets: Vec<u64>,
    },
    /// Remove the directory of a queue whose tombstone is synced.
    DropQueue { queue: Incarnation, queues: PathBuf },
}

struct MoveQueue {
    queue: Incarnation,
    dir: PathBuf,
    tail: Option<SegmentInfo>,
    runs: Vec<Run>,
}

/// What came of a job; for [`Log::finish_job`].
pub struct JobDone<V: Vfs>(Result<Done<V>, IoError>);

enum Done<V: Vfs> {
    Prepared(Spare<V>),
    Recycled {
        seq: u64,
        spare: Option<Spare<V>>,
    },
    Moved {
        segments: Vec<(Incarnation, Vec<SegmentInfo>)>,
        damage: Vec<Damage>,
        bytes: u64,
    },
    SegmentsDropped {
        queue: Incarnation,
        first_offsets: Vec<u64>,
    },
    QueueDropped(Incarnation),
}

/// What a finished job achieved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobReport {
    /// What was done, as a noun for logs and metrics.
    pub kind: &'static str,
    /// Bytes of entries that were copied.
    pub moved_bytes: u64,
    /// Entries of the WAL that could not be moved because they are damaged.
    pub damage: Vec<Damage>,
}

impl<V: Vfs> Job<V> {
    /// What the job does, as a noun for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match &self.0 {
            Work::Prepare { .. } => "prepare",
            Work::Recycle { .. } => "recycle",
            Work::Move { .. } => "move",
            Work::DropSegments { .. } => "drop segments",
            Work::DropQueue { .. } => "drop queue",
        }
    }

    /// Does the work. Touches no file that the log writes.
    pub fn run(self, vfs: &V) -> JobDone<V> {
        JobDone(match self.0 {
            Work::Prepare { path, bytes } => {
                make_zeroed(vfs, &path, bytes).map(|file| Done::Prepared(Spare { path, file }))
            }
            Work::Recycle {
                seq,
                from,
                to,
                file,
            } => recycle(vfs, &from, to, file).map(|spare| Done::Recycled { seq, spare }),
            Work::Move {
                seq,
                file,
                file_bytes,
                segment_bytes_max,
                quarantine,
                queues,
            } => {
                let mut mover = Mover {
                    vfs,
                    file: &*file,
                    base: Position::of(seq, 0, file_bytes),
                    segment_bytes_max,
                    quarantine: &quarantine,
                    damage: Vec::new(),
                    bytes: 0,
                };
                let moved: Result<Vec<_>, _> = queues
                    .iter()
                    .map(|q| mover.move_queue(q).map(|segments| (q.queue, segments)))
                    .collect();
                moved.map(|segments| Done::Moved {
                    segments,
                    damage: mover.damage,
                    bytes: mover.bytes,
                })
            }
            Work::DropSegments {
                queue,
                dir,
                first_offsets,
            } => first_offsets
                .iter()
                .try_for_each(|first| remove_file(vfs, &dir.join(file_name(*first))))
                .map(|()| Done::SegmentsDropped {
                    queue,
                    first_offsets,
                }),
            Work::DropQueue { queue, queues } => {
                drop_queue(vfs, &queues, queue).map(|()| Done::QueueDropped(queue))
            }
        })
    }
}

impl<V: Vfs> Log<V> {
    /// The most urgent work, if there is any and no other job is out.
    pub fn next_job(&mut self) -> Option<Job<V>> {
        if self.has_job || self.poisoned.is_some() {
            return None;
        }
        let work = self
            .recycle_job()
            .or_else(|| self.prepare_job(1))
            .or_else(|| self.drop_job())
            .or_else(|| self.move_job())
            .or_else(|| self.prepare_job(self.options.spare_files_max))?;
        self.has_job = true;
        Some(Job(work))
    }

    /// Takes a job's result. After an error other than `Poisoned` the same work is offered again:
    /// wait before taking it.
    pub fn finish_job(&mut self, done: JobDone<V>) -> Result<JobReport, JobError> {
        self.has_job = false;
        let done = match done.0 {
            Ok(done) => done,
            Err(error) if error.is_no_space() => return Err(JobError::NoSpace(error)),
            Err(error) if error.is_sync() => {
                self.poisoned.get_or_insert_with(|| error.to_string());
                return Err(JobError::Poisoned(error.to_string()));
            }
            Err(error) => return Err(JobError::Io(error)),
        };
        let mut report = JobReport::default();
        report.kind = match done {
            Done::Prepared(spare) => {
                self.wal.spares.push(spare);
                "prepare"
            }
            Done::Recycled { seq, spare } => {
                self.wal.files.remove(&seq);
                self.wal.spares.extend(spare);
                "recycle"
            }
            Done::Moved {
                segments,
                damage,
                bytes,
            } => {
                for (queue, moved) in segments {
                    self.note_moved(queue, moved);
                }
                report.damage = damage;
                report.moved_bytes = bytes;
                "move"
            }
            Done::SegmentsDropped {
                queue,
                first_offsets,
            } => {
                let cache = self.segment_cache.get_mut();
                let cache = cache.unwrap_or_else(|e| e.into_inner());
                for first in &first_offsets {
                    cache.forget(queue, *first);
                }
                if let Some(state) = self.queues.get_mut(&queue) {
                    state
                        .segments
                        .retain(|s| !first_offsets.contains(&s.first_offset));
                }
                "drop segments"
            }
            Done::QueueDropped(queue) => {
                self.queues.remove(&queue);
                "drop queue"
            }
        };
        Ok(report)
    }

    /// Queues whose snapshots hold up the oldest WAL files. Answer each with
    /// [`append_snapshot`](Self::append_snapshot), commit, and ask for jobs again.
    pub fn wants_snapshots(&self) -> Vec<Incarnation> {
        let Some(cutoff) = self.cutoff() else {
            return Vec::new();
        };
        let mut wanted: Vec<_> = self
            .queues
            .iter()
            .filter(|(_, q)| !q.is_removed && !q.has_pending_snapshot)
            .filter(|(_, q)| q.pin().is_some_and(|p| p < cutoff))
            // What is only in the WAL must be moved first, or the snapshot frees nothing.
            .filter(|(_, q)| q.unmoved().next().is_none_or(|r| r.position >= cutoff))
            .map(|(queue, _)| *queue)
            .collect();
        wanted.sort();
        wanted
    }

    /// The end of the files that are to be emptied: those above the low-water mark.
    fn cutoff(&self) -> Option<Position> {
        let excess = (self.wal.files.len() as u64).checked_sub(self.options.files_low())?;
        let oldest = *self.wal.files.keys().next()?;
        (excess > 0).then(|| Position::of(oldest + excess, 0, self.wal.file_bytes()))
    }

    fn recycle_job(&mut self) -> Option<Work<V>> {
        let cutoff = self.cutoff()?;
        let (seq, file) = self.wal.files.first_key_value()?;
        let (seq, file) = (*seq, Arc::clone(file));
        let end = Position::of(seq + 1, 0, self.wal.file_bytes());
        let is_needed = self
            .queues
            .values()
            .any(|q| q.pin().is_some_and(|p| p < end));
        if is_needed || end > cutoff {
            return None;
        }
        let keep = self.wal.spares.len() < self.options.spare_files_max;
        Some(Work::Recycle {
            seq,
            from: self.wal.path(seq),
            to: keep.then(|| self.wal.new_spare_path()),
            file,
        })
    }

    fn prepare_job(&mut self, wanted: usize) -> Option<Work<V>> {
        let files = self.wal.files.len() + self.wal.spares.len();
        let is_wanted = self.wal.spares.len() < wanted && (files as u64) < self.options.files_max();
        is_wanted.then(|| Work::Prepare {
            path: self.wal.new_spare_path(),
            bytes: self.wal.file_bytes(),
        })
    }

    fn drop_job(&mut self) -> Option<Work<V>> {
        if let Some((queue, _)) = self.queues.iter().find(|(_, q)| q.is_buried) {
            return Some(Work::DropQueue {
                queue: *queue,
                queues: self.dir.join("queues"),
            });
        }
        let (queue, state) = self
            .queues
            .iter()
            .find(|(_, q)| !q.is_removed && q.has_trimmed_segment())?;
        let first_offsets = state
            .segments
            .iter()
            .take_while(|s| s.end_offset <= state.trimmed)
            .map(|s| s.first_offset)
            .collect();
        Some(Work::DropSegments {
            queue: *queue,
            dir: self.queue_dir(*queue),
            first_offsets,
        })
    }

    fn move_job(&mut self) -> Option<Work<V>> {
        let cutoff = self.cutoff()?;
        let file_bytes = self.wal.file_bytes();
        let seq = self
            .queues
            .values()
            .filter_map(|q| q.unmoved().next())
            .map(|run| run.position)
            .min()
            .filter(|position| *position < cutoff)?
            .seq(file_bytes);
        let mut queues: Vec<_> = self
            .queues
            .iter()
            .filter(|(_, q)| !q.is_removed)
            .filter_map(|(queue, state)| {
                let runs: Vec<Run> = state
                    .unmoved()
                    .take_while(|r| r.position.seq(file_bytes) == seq)
                    .copied()
                    .collect();
                (!runs.is_empty()).then(|| MoveQueue {
                    queue: *queue,
                    dir: self.queue_dir(*queue),
                    tail: state.segments.last().copied(),
                    runs,
                })
            })
            .collect();
        queues.sort_by_key(|q| q.queue);
        Some(Work::Move {
            seq,
            file: Arc::clone(self.wal.files.get(&seq)?),
            file_bytes,
            segment_bytes_max: self.options.segment_bytes_max,
            quarantine: self.dir.join("quarantine"),
            queues,
        })
    }

    /// `moved` replaces the queue's last segment (if it was continued) and adds new ones.
    fn note_moved(&mut self, queue: Incarnation, moved: Vec<SegmentInfo>) {
        let Some(state) = self.queues.get_mut(&queue) else {
            return;
        };
        for info in moved {
            match state.segments.last_mut() {
                Some(last) if last.first_offset == info.first_offset => *last = info,
                _ => state.segments.push(info),
            }
        }
        state.release_runs();
    }
}

fn recycle<V: Vfs>(
    vfs: &V,
    from: &Path,
    to: Option<PathBuf>,
    file: Arc<V::File>,
) -> Result<Option<Spare<V>>, IoError> {
    match &to {
        Some(to) => vfs.rename(from, to).map_err(IoError::at("rename", from))?,
        None => remove_file(vfs, from)?,
    }
    if let Some(dir) = from.parent() {
        vfs.sync_dir(dir).map_err(IoError::at("sync", dir))?;
    }
    Ok(to.map(|path| Spare { path, file }))
}

/// Removes a file that may be gone already.
pub(crate) fn remove_file<V: Vfs>(vfs: &V, path: &Path) -> Result<(), IoError> {
    match vfs.remove_file(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(IoError::at("remove", path)),
    }
}

/// Removes a queue's directory: first its name, so that a crash leaves a directory that says what
/// it is, or none.
pub(crate) fn drop_queue<V: Vfs>(
    vfs: &V,
    queues: &Path,
    queue: Incarnation,
) -> Result<(), IoError> {
    let doomed = queues.join(format!("{}.removed", queue.hex()));
    let dir = queues.join(queue.hex());
    match vfs.rename(&dir, &doomed) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        other => other.map_err(IoError::at("rename", &dir))?,
    }
    vfs.sync_dir(queues).map_err(IoError::at("sync", queues))?;
    remove_tree(vfs, &doomed)?;
    vfs.sync_dir(queues).map_err(IoError::at("sync", queues))
}

/// Removes a directory of files; one that is gone is no error.
pub(crate) fn remove_tree<V: Vfs>(vfs: &V, dir: &Path) -> Result<(), IoError> {
    let names = match vfs.read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(IoError::at("list", dir))?,
    };
    for name in names {
        remove_file(vfs, &dir.join(name))?;
    }
    vfs.remove_dir(dir).map_err(IoError::at("remove", dir))
}

/// A move in progress.
struct Mover<'a, V: Vfs> {
    vfs: &'a V,
    file: &'a V::File,
    /// Where the WAL file begins.
    base: Position,
    segment_bytes_max: u64,
    quarantine: &'a Path,
    damage: Vec<Damage>,
    bytes: u64,
}

/// A segment that is appended to; nothing counts until it is synced.
struct OpenTail<F> {
    info: SegmentInfo,
    path: PathBuf,
    file: F,
    buf: Vec<u8>,
    is_new: bool,
}

impl<V: Vfs> Mover<'_, V> {
    fn move_queue(&mut self, work: &MoveQueue) -> Result<Vec<SegmentInfo>, IoError> {
        let mut done = Vec::new();
        let mut tail: Option<OpenTail<V::File>> = None;
        let mut last_info = work.tail;
        let mut is_dir_changed = false;
        for run in &work.runs {
            let is_full = |info: &SegmentInfo| info.bytes >= self.segment_bytes_max;
            if let Some(full) = tail.take_if(|t| is_full(&t.info)) {
                last_info = None;
                done.push(self.close(full)?);
            }
            let open = match &mut tail {
                Some(open) => open,
                None => {
                    let continued = last_info.take().filter(|info| !is_full(info));
                    let open = self.open(work, continued, run.first_offset)?;
                    is_dir_changed |= open.is_new;
                    tail.insert(open)
                }
            };
            self.copy_run(work.queue, run, open)?;
        }
        if let Some(open) = tail {
            done.push(self.close(open)?);
        }
        if is_dir_changed {
            self.vfs
                .sync_dir(&work.dir)
                .map_err(IoError::at("sync", &work.dir))?;
            if let Some(queues) = work.dir.parent() {
                self.vfs
                    .sync_dir(queues)
                    .map_err(IoError::at("sync", queues))?;
            }
        }
        Ok(done)
    }

    fn open(
        &self,
        work: &MoveQueue,
        continued: Option<SegmentInfo>,
        first_offset: u64,
    ) -> Result<OpenTail<V::File>, IoError> {
        if let Some(info) = continued {
            let path = work.dir.join(file_name(info.first_offset));
            let file = self
                .vfs
                .open(&path, OpenMode::ReadWrite)
                .map_err(IoError::at("open", &path))?;
            return Ok(OpenTail {
                info,
                path,
                file,
                buf: Vec::new(),
                is_new: false,
            });
        }
        // A queue that is served without its description may have no directory.
        self.vfs
            .create_dir(&work.dir)
            .map_err(IoError::at("make", &work.dir))?;
        let path = work.dir.join(file_name(first_offset));
        let file = self
            .vfs
            .open(&path, OpenMode::Create)
            .map_err(IoError::at("make", &path))?;
        file.write_all_at(&segment::encode(work.queue, first_offset), 0)
            .map_err(IoError::at("write", &path))?;
        Ok(OpenTail {
            info: SegmentInfo {
                first_offset,
                end_offset: first_offset,
                bytes: SEGMENT_HEADER_BYTES as u64,
                records: 0,
            },
            path,
            file,
            buf: Vec::new(),
            is_new: true,
        })
    }

    /// Copies a run's entries as they are: a payload that is damaged is judged when it is read.
    fn copy_run(
        &mut self,
        queue: Incarnation,
        run: &Run,
        tail: &mut OpenTail<V::File>,
    ) -> Result<(), IoError> {
        const FLUSH_BYTES: usize = 1 << 20;
        let at = run.position.0 - self.base.0;
        let end = at + u64::from(run.bytes);
        let mut walk = Walk::new(self.file, queue, at, end).reading(run.bytes as usize);
        loop {
            let from = walk.at;
            let wal = self.quarantine.with_file_name("wal");
            match walk.step().map_err(IoError::at("read", &wal))? {
                Step::Entry(header, payload) => {
                    tail.buf.extend_from_slice(&header.encode());
                    tail.buf.extend_from_slice(&payload);
                    tail.info.records += u64::from(header.count);
                    tail.info.end_offset = tail.info.end_offset.max(header.end_offset());
                    self.bytes += header.total_bytes();
                }
                Step::End => break,
                Step::Lost(_) => {
                    let position = Position(self.base.0 + from);
                    let resumed = walk
                        .resync(run.end_offset)
                        .map_err(IoError::at("read", &wal))?;
                    let end = if resumed.is_some() { walk.at } else { end };
                    let damage = set_aside(
                        self.vfs,
                        self.quarantine,
                        "move",
                        position,
                        self.file,
                        from..end,
                    )?;
                    self.damage.push(damage);
                    if resumed.is_none() {
                        break;
                    }
                }
            }
            if tail.buf.len() >= FLUSH_BYTES {
                flush(tail)?;
            }
        }
        tail.info.end_offset = tail.info.end_offset.max(run.end_offset);
        Ok(())
    }

    fn close(&self, mut tail: OpenTail<V::File>) -> Result<SegmentInfo, IoError> {
        flush(&mut tail)?;
        tail.file
            .sync_data()
            .map_err(IoError::at("sync", &tail.path))?;
        Ok(tail.info)
    }
}

fn flush<F: VfsFile>(tail: &mut OpenTail<F>) -> Result<(), IoError> {
    tail.file
        .write_all_at(&tail.buf, tail.info.bytes)
        .map_err(IoError::at("write", &tail.path))?;
    tail.info.bytes += tail.buf.len() as u64;
    tail.buf.clear();
    Ok(())
}

/// Copies damaged bytes to `quarantine/<why>-<position>`, synced, unless they are there already.
pub(crate) fn set_aside<V: Vfs>(
    vfs: &V,
    quarantine: &Path,
    why: &str,
    position: Position,
    file: &V::File,
    range: std::ops::Range<u64>,
) -> Result<Damage, IoError> {
    let path = quarantine.join(format!("{why}-{:016x}", position.0));
    let bytes = range.end - range.start;
    let damage = Damage {
        position,
        bytes,
        set_aside: Some(path.clone()),
    };
    if vfs.open(&path, OpenMode::Read).is_ok() {
        return Ok(damage);
    }
    let mut copy = vec![0; usize::try_from(bytes).unwrap_or(0)];
    let got = file
        .read_full_at(&mut copy, range.start)
        .map_err(IoError::at("read", quarantine))?;
    copy.truncate(got);
    let name = format!("{why}-{:016x}", position.0);
    crate::log::replace_file(vfs, quarantine, &name, &copy)?;
    Ok(damage)
}

/// Live WAL files and spares, for tests and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceUsed {
    /// WAL files that hold entries that may be needed, the one being written included.
    pub wal_files: u64,
    /// Files that are ready to be written.
    pub spare_files: u64,
    /// Bytes of all segments.
    pub segment_bytes: u64,
    /// Bytes of memory that the index of the live WAL takes.
    pub index_bytes: u64,
}

impl<V: Vfs> Log<V> {
    /// Counts files, segments and index memory. Walks over all queues.
    pub fn space_used(&self) -> SpaceUsed {
        let queues: &HashMap<_, _> = &self.queues;
        SpaceUsed {
            wal_files: self.wal.files.len() as u64,
            spare_files: self.wal.spares.len() as u64,
            segment_bytes: queues
                .values()
                .flat_map(|q| &q.segments)
                .map(|s| s.bytes)
                .sum(),
            index_bytes: queues
                .values()
                .map(|q| (q.runs.capacity() * size_of::<Run>()) as u64)
                .sum(),
        }
    }
}
