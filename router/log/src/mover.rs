//! Moving: message entries of one WAL file, copied to the segments of their queues.
//!
//! Entries are copied as they are. A header that cannot be read hides where its entry ends, so the
//! bytes up to the next entry are set aside and reported; a payload that is damaged is moved and
//! judged when it is read. Nothing counts until the segment, and its name, are synced.

use std::path::{Path, PathBuf};

use crate::error::{Damage, IoError};
use crate::format::segment::{self, SEGMENT_HEADER_BYTES, file_name};
use crate::format::snapshot::SegmentInfo;
use crate::ids::{Incarnation, Position};
use crate::queue::Run;
use crate::segments::{Step, Walk};
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// What is to be moved of one queue.
pub(crate) struct MoveQueue {
    pub queue: Incarnation,
    pub dir: PathBuf,
    /// The segment to continue, if there is one.
    pub tail: Option<SegmentInfo>,
    pub runs: Vec<Run>,
}

/// A move in progress.
pub(crate) struct Mover<'a, V: Vfs> {
    pub vfs: &'a V,
    pub file: &'a V::File,
    /// Where the WAL file begins.
    pub base: Position,
    pub segment_bytes_max: u64,
    pub quarantine: &'a Path,
    pub damage: Vec<Damage>,
    pub bytes: u64,
}

/// A segment that is appended to; nothing counts until it is synced.
struct OpenTail<F> {
    info: SegmentInfo,
    path: PathBuf,
    file: F,
    buf: Vec<u8>,
    is_new: bool,
}

/// Queues whose segments are written before any of them is synced: the file system then has all of
/// them on their way together, and one commit of its own journal serves many. Bounds open files.
const SYNCED_TOGETHER: usize = 64;

/// The segments that a queue got or that grew.
pub(crate) type Moved = Vec<(Incarnation, Vec<SegmentInfo>)>;

/// A queue's segments, written and not synced.
struct Written<F> {
    tails: Vec<OpenTail<F>>,
    is_dir_changed: bool,
}

impl<V: Vfs> Mover<'_, V> {
    /// Moves what is to be moved of each queue; all of it is synced when this returns.
    pub fn move_all(&mut self, queues: &[MoveQueue]) -> Result<Moved, IoError> {
        let mut moved = Vec::with_capacity(queues.len());
        for some in queues.chunks(SYNCED_TOGETHER) {
            let mut written = Vec::with_capacity(some.len());
            for work in some {
                written.push((work, self.write_queue(work)?));
            }
            let mut queues_dir = None;
            for (work, queue) in written {
                queue.tails.last().map_or(Ok(()), sync)?;
                if queue.is_dir_changed {
                    self.sync_dir(&work.dir)?;
                    queues_dir = work.dir.parent();
                }
                let infos = queue.tails.into_iter().map(|tail| tail.info);
                moved.push((work.queue, infos.collect()));
            }
            if let Some(dir) = queues_dir {
                self.sync_dir(dir)?;
            }
        }
        Ok(moved)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        self.vfs.sync_dir(dir).map_err(IoError::at("sync", dir))
    }

    fn write_queue(&mut self, work: &MoveQueue) -> Result<Written<V::File>, IoError> {
        let mut done = Vec::new();
        let mut tail: Option<OpenTail<V::File>> = None;
        let mut last_info = work.tail;
        let mut is_dir_changed = false;
        let moved_end = work.tail.map_or(0, |info| info.end_offset);
        for run in &work.runs {
            let run = &self.rest(work.queue, run, moved_end)?;
            let is_full = |info: &SegmentInfo| info.bytes >= self.segment_bytes_max;
            if let Some(full) = tail.take_if(|t| is_full(&t.info)) {
                last_info = None;
                // Only a queue's last segment may have an end that a crash leaves half written.
                let full = written(full)?;
                sync(&full)?;
                done.push(full);
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
            done.push(written(open)?);
        }
        Ok(Written {
            tails: done,
            is_dir_changed,
        })
    }

    /// What of a run is not in a segment yet. A move that a crash cut short may have left the
    /// segment's end between two entries of a run; an entry must not be in segments twice.
    fn rest(&self, queue: Incarnation, run: &Run, moved_end: u64) -> Result<Run, IoError> {
        let mut rest = *run;
        if run.first_offset >= moved_end {
            return Ok(rest);
        }
        let at = run.position.0 - self.base.0;
        let end = at + u64::from(run.bytes);
        let mut walk = Walk::new(self.file, queue, at, end).reading(run.bytes as usize);
        loop {
            rest.position = Position(self.base.0 + walk.at);
            rest.bytes = (end - walk.at) as u32;
            let wal = self.quarantine.with_file_name("wal");
            match walk.step().map_err(IoError::at("read", &wal))? {
                Step::Entry(header, _) if header.first_offset < moved_end => {}
                Step::Entry(header, _) => {
                    rest.first_offset = header.first_offset;
                    return Ok(rest);
                }
                Step::Lost(_) | Step::End => {
                    rest.first_offset = moved_end;
                    return Ok(rest);
                }
            }
        }
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
}

fn written<F: VfsFile>(mut tail: OpenTail<F>) -> Result<OpenTail<F>, IoError> {
    flush(&mut tail)?;
    tail.buf = Vec::new();
    Ok(tail)
}

fn sync<F: VfsFile>(tail: &OpenTail<F>) -> Result<(), IoError> {
    tail.file
        .sync_data()
        .map_err(IoError::at("sync", &tail.path))
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
        // A process that was killed may have left a name that is not durable yet.
        return match vfs.sync_dir(quarantine) {
            Err(e) => Err(IoError::at("sync", quarantine)(e)),
            Ok(()) => Ok(damage),
        };
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
