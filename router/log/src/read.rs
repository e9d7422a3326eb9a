//! Reading a queue's records back, from the WAL or from its segments.
//!
//! Invariant: nothing is served that is not what was appended for that queue and offset. Each
//! entry's header and payload are checked; where a payload is not intact, its records are judged
//! one by one ([`crate::format::slab::salvage`]), the good ones served and the bad ones named.

use std::path::PathBuf;

use bytes::Bytes;

use crate::error::{IoError, ReadError};
use crate::format::entry::EntryHeader;
use crate::format::segment::file_name;
use crate::format::slab;
use crate::format::snapshot::SegmentInfo;
use crate::ids::Incarnation;
use crate::log::Log;
use crate::queue::{Queue, Run};
use crate::segments::{Step, Walk};
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// Records that were appended together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Offset of the first record.
    pub first_offset: u64,
    /// Records in the slab; their offsets follow one another.
    pub count: u32,
    /// When they were received, ms since 1970.
    pub time_ms: u64,
    /// The reign in whose name they were appended.
    pub epoch: u32,
    /// Each record's varint length and body.
    pub slab: Bytes,
}

impl Chunk {
    /// One past the last offset.
    pub fn end_offset(&self) -> u64 {
        self.first_offset + u64::from(self.count)
    }

    /// The records with their offsets.
    pub fn records(&self) -> impl Iterator<Item = (u64, &[u8])> {
        (self.first_offset..).zip(slab::bodies(&self.slab))
    }
}

/// What a read found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadBatch {
    /// In order of offsets. The first may begin below the offset asked for.
    pub chunks: Vec<Chunk>,
    /// Where to go on. Nothing is stored at or after it if `chunks` is empty.
    pub next: u64,
}

/// A stretch of a file that is read for one queue.
struct Stretch<'a> {
    queue: Incarnation,
    /// One past the last offset that the stretch should hold.
    end_offset: u64,
    path: &'a dyn Fn() -> PathBuf,
}

/// A read in progress.
struct Reading {
    cursor: u64,
    bytes_left: u64,
    chunks: Vec<Chunk>,
}

impl Reading {
    fn is_full(&self) -> bool {
        !self.chunks.is_empty() && self.bytes_left == 0
    }

    fn push(&mut self, chunk: Chunk) {
        self.cursor = chunk.end_offset();
        self.bytes_left = self.bytes_left.saturating_sub(chunk.slab.len() as u64);
        self.chunks.push(chunk);
    }
}

impl<V: Vfs> Log<V> {
    /// Reads about `max_bytes` of slabs, at least one chunk if there is one, from the first stored
    /// offset at or after `from`. Sees what was committed and not trimmed.
    ///
    /// [`ReadError::Damaged`] names offsets that are lost; a read from its `end_offset` goes on.
    pub fn read(
        &self,
        queue: Incarnation,
        from: u64,
        max_bytes: u64,
    ) -> Result<ReadBatch, ReadError> {
        let state = self
            .queues
            .get(&queue)
            .filter(|q| !q.is_removed)
            .ok_or(ReadError::UnknownQueue(queue))?;
        let mut reading = Reading {
            cursor: from.max(state.trimmed),
            bytes_left: max_bytes,
            chunks: Vec::new(),
        };
        while !reading.is_full() {
            let before = reading.cursor;
            let result = match locate(state, reading.cursor) {
                Some(Place::Wal(run)) => {
                    let result = self.read_run(queue, run, &mut reading);
                    self.or_segment(result, queue, state, &mut reading)
                }
                Some(Place::Segment(info)) => self.read_segment(queue, info, &mut reading),
                None => break,
            };
            match result {
                // What was read so far is served first; the error comes again.
                Err(_) if !reading.chunks.is_empty() => break,
                Err(error) => return Err(error),
                Ok(()) if reading.cursor == before => break,
                Ok(()) => {}
            }
        }
        Ok(ReadBatch {
            chunks: reading.chunks,
            next: reading.cursor,
        })
    }

    fn read_run(
        &self,
        queue: Incarnation,
        run: &Run,
        reading: &mut Reading,
    ) -> Result<(), ReadError> {
        let file_bytes = self.wal.file_bytes();
        let seq = run.position.seq(file_bytes);
        let at = run.position.offset(file_bytes);
        let path = || self.wal.path(seq);
        let stretch = Stretch {
            queue,
            end_offset: run.end_offset,
            path: &path,
        };
        let Some(file) = self.wal.files.get(&seq) else {
            let error = damaged(&stretch, reading.cursor, run.end_offset, at, "no such file");
            return Err(error);
        };
        let mut walk =
            Walk::new(&**file, queue, at, at + u64::from(run.bytes)).reading(run.bytes as usize);
        read_stretch(&mut walk, &stretch, reading)
    }

    /// What was moved a moment ago is in the WAL and in a segment: where one copy is damaged, the
    /// other is served.
    fn or_segment(
        &self,
        result: Result<(), ReadError>,
        queue: Incarnation,
        state: &Queue,
        reading: &mut Reading,
    ) -> Result<(), ReadError> {
        let Err(error @ ReadError::Damaged { .. }) = result else {
            return result;
        };
        let after = state
            .segments
            .partition_point(|s| s.end_offset <= reading.cursor);
        match state.segments.get(after) {
            Some(info) if info.first_offset <= reading.cursor => {
                let before = reading.cursor;
                match self.read_segment(queue, info, reading) {
                    Ok(()) if reading.cursor > before => Ok(()),
                    _ => Err(error),
                }
            }
            _ => Err(error),
        }
    }

    fn read_segment(
        &self,
        queue: Incarnation,
        info: &SegmentInfo,
        reading: &mut Reading,
    ) -> Result<(), ReadError> {
        let dir = self.queue_dir(queue);
        let path = || dir.join(file_name(info.first_offset));
        let open = || {
            let path = path();
            self.vfs
                .open(&path, OpenMode::Read)
                .map_err(IoError::at("open", &path))
        };
        let stretch = Stretch {
            queue,
            end_offset: info.end_offset,
            path: &path,
        };
        let cached = self
            .segment_cache
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .get(queue, info, open);
        let segment = match cached {
            Ok(segment) => segment,
            Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => {
                let reason = "the segment is missing";
                return Err(damaged(
                    &stretch,
                    reading.cursor,
                    info.end_offset,
                    0,
                    reason,
                ));
            }
            Err(e) => return Err(e.into()),
        };
        let mut segment = segment.lock().unwrap_or_else(|e| e.into_inner());
        let mark = segment
            .seek(queue, reading.cursor, info)
            .map_err(IoError::at("read", &path()))?;
        let want = usize::try_from(reading.bytes_left).unwrap_or(usize::MAX);
        let mut walk = Walk::new(&segment.file, queue, mark.at, info.bytes)
            .reading(want.saturating_add(64 << 10));
        read_stretch(&mut walk, &stretch, reading)
    }

    pub(crate) fn queue_dir(&self, queue: Incarnation) -> PathBuf {
        self.dir.join("queues").join(queue.hex())
    }
}

enum Place<'a> {
    Wal(&'a Run),
    Segment(&'a SegmentInfo),
}

/// Where the first stored offset at or after `offset` is. The WAL comes first: it was just written
/// and a reader near the tail finds it in the page cache.
fn locate(queue: &Queue, offset: u64) -> Option<Place<'_>> {
    let run = queue
        .runs
        .get(queue.runs.partition_point(|r| r.end_offset <= offset));
    if let Some(run) = run
        && run.first_offset <= offset
    {
        return Some(Place::Wal(run));
    }
    let segment = queue
        .segments
        .get(queue.segments.partition_point(|s| s.end_offset <= offset));
    match (segment, run) {
        (Some(segment), Some(run)) if run.first_offset <= segment.first_offset => {
            Some(Place::Wal(run))
        }
        (Some(segment), _) => Some(Place::Segment(segment)),
        (None, run) => run.map(Place::Wal),
    }
}

/// Serves what the walk finds at or after the cursor. At the end the cursor is past the stretch,
/// or the reading is full.
fn read_stretch<F: VfsFile>(
    walk: &mut Walk<'_, F>,
    stretch: &Stretch<'_>,
    reading: &mut Reading,
) -> Result<(), ReadError> {
    while !reading.is_full() {
        let at = walk.at;
        let step = walk
            .step()
            .map_err(IoError::at("read", &(stretch.path)()))?;
        match step {
            Step::Entry(header, payload) => {
                if header.end_offset() > reading.cursor {
                    read_entry(stretch, &header, payload, at, reading)?;
                }
            }
            Step::End => {
                reading.cursor = reading.cursor.max(stretch.end_offset);
                return Ok(());
            }
            Step::Lost(reason) => {
                let found = walk
                    .resync(stretch.end_offset)
                    .map_err(IoError::at("read", &(stretch.path)()))?;
                let end = found.unwrap_or(stretch.end_offset);
                if end > reading.cursor {
                    return Err(damaged(stretch, reading.cursor, end, at, reason));
                }
                if found.is_none() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn read_entry(
    stretch: &Stretch<'_>,
    header: &EntryHeader,
    payload: Bytes,
    at: u64,
    reading: &mut Reading,
) -> Result<(), ReadError> {
    let chunk = Chunk {
        first_offset: header.first_offset,
        count: header.count,
        time_ms: header.time_ms,
        epoch: header.epoch,
        slab: payload,
    };
    if crc32c::crc32c(&chunk.slab) == header.payload_crc {
        reading.push(chunk);
        return Ok(());
    }
    for piece in slab::salvage(&chunk.slab, header.count) {
        let first = header.first_offset + u64::from(piece.records.start);
        let end = header.first_offset + u64::from(piece.records.end);
        if end <= reading.cursor {
            continue;
        }
        if !piece.intact {
            let reason = "the record does not match its checksum";
            let first = first.max(reading.cursor);
            let byte = at + crate::format::entry::ENTRY_HEADER_BYTES as u64;
            let at = byte + piece.bytes.start as u64;
            return Err(damaged(stretch, first, end, at, reason));
        }
        reading.push(Chunk {
            first_offset: first,
            count: piece.records.end - piece.records.start,
            slab: chunk.slab.slice(piece.bytes),
            ..chunk
        });
    }
    Ok(())
}

fn damaged(
    stretch: &Stretch<'_>,
    first_offset: u64,
    end_offset: u64,
    at: u64,
    reason: &'static str,
) -> ReadError {
    ReadError::Damaged {
        queue: stretch.queue,
        first_offset,
        end_offset,
        file: (stretch.path)(),
        at,
        reason,
    }
}
