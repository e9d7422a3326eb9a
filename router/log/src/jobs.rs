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

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backup::{Copying, Linking};
use crate::error::{Damage, IoError, JobError};
use crate::format::segment::file_name;
use crate::format::snapshot::SegmentInfo;
use crate::ids::{Incarnation, Position};
use crate::log::Log;
use crate::mover::{MoveQueue, Mover};
use crate::queue::Run;
use crate::vfs::Vfs;
use crate::wal::{Spare, make_zeroed, name_file};

/// A piece of work to be run anywhere, once.
pub struct Job<V: Vfs>(Work<V>);

enum Work<V: Vfs> {
    /// Make a zeroed file.
    Prepare { path: PathBuf, bytes: u64 },
    /// Give a live file its own name.
    Name {
        seq: u64,
        from: PathBuf,
        to: PathBuf,
    },
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
    /// Link all files into a backup.
    Link(Linking),
}

/// What came of a job; for [`Log::finish_job`].
pub struct JobDone<V: Vfs>(Result<Done<V>, IoError>);

enum Done<V: Vfs> {
    Prepared(Spare<V>),
    Named(u64),
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
    Linked(Copying),
    NotLinked(IoError),
}

/// What a finished job achieved.
#[derive(Debug, Default)]
pub struct JobReport {
    /// What was done, as a noun for logs and metrics.
    pub kind: &'static str,
    /// Bytes of entries that were copied.
    pub moved_bytes: u64,
    /// Entries of the WAL that could not be moved because they are damaged.
    pub damage: Vec<Damage>,
    /// A backup's links are made, and this is left to be done; or they could not be made, and the
    /// backup has ended.
    pub backup: Option<Result<Copying, IoError>>,
}

impl<V: Vfs> Job<V> {
    /// What the job does, as a noun for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match &self.0 {
            Work::Prepare { .. } => "prepare",
            Work::Name { .. } => "name",
            Work::Recycle { .. } => "recycle",
            Work::Move { .. } => "move",
            Work::DropSegments { .. } => "drop segments",
            Work::DropQueue { .. } => "drop queue",
            Work::Link(_) => "link",
        }
    }

    /// Does the work. Touches no file that the log writes.
    pub fn run(self, vfs: &V) -> JobDone<V> {
        JobDone(match self.0 {
            Work::Prepare { path, bytes } => {
                prepare(vfs, &path, bytes).map(|file| Done::Prepared(Spare { path, file }))
            }
            Work::Name { seq, from, to } => name_file(vfs, &from, &to).map(|()| Done::Named(seq)),
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
                mover.move_all(&queues).map(|segments| Done::Moved {
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
            // That a backup fails is not the log's concern, whatever failed.
            Work::Link(linking) => Ok(match linking.run(vfs) {
                Ok(copying) => Done::Linked(copying),
                Err(error) => Done::NotLinked(error),
            }),
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
            .name_job()
            .or_else(|| self.linking().map(Work::Link))
            .or_else(|| self.recycle_job())
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
            Done::Named(seq) => {
                self.wal.unnamed.remove(&seq);
                "name"
            }
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
            Done::Linked(copying) => {
                report.backup = Some(Ok(copying));
                "link"
            }
            Done::NotLinked(error) => {
                self.end_backup();
                report.backup = Some(Err(error));
                "link"
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

    /// Comes first, so that no other job meets a file under two names.
    fn name_job(&self) -> Option<Work<V>> {
        let (seq, from) = self.wal.unnamed.first_key_value()?;
        Some(Work::Name {
            seq: *seq,
            from: from.clone(),
            to: self.wal.own_path(*seq),
        })
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
        // A backup that is being copied still reads it.
        let is_pinned = self.pinned_seq.is_some_and(|pinned| seq <= pinned);
        let keep = !is_pinned && self.wal.spares.len() < self.options.spare_files_max;
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
        // Of several the same one each time, so that a run can be repeated.
        let buried = self.queues.iter().filter(|(_, q)| q.is_buried);
        if let Some((queue, _)) = buried.min_by_key(|(queue, _)| queue.get()) {
            return Some(Work::DropQueue {
                queue: *queue,
                queues: self.dir.join("queues"),
            });
        }
        let (queue, state) = self
            .queues
            .iter()
            .filter(|(_, q)| !q.is_removed && q.has_trimmed_segment())
            .min_by_key(|(queue, _)| queue.get())?;
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

/// A spare may hold groups under its spare's name, so that name must be durable.
fn prepare<V: Vfs>(vfs: &V, path: &Path, bytes: u64) -> Result<Arc<V::File>, IoError> {
    let file = make_zeroed(vfs, path, bytes)?;
    if let Some(dir) = path.parent() {
        vfs.sync_dir(dir).map_err(IoError::at("sync", dir))?;
    }
    Ok(file)
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
        // The file has its new name, so this cannot be tried again: whatever the sync says, it
        // must not be taken for a want of space.
        vfs.sync_dir(dir)
            .map_err(std::io::Error::other)
            .map_err(IoError::at("sync", dir))?;
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
