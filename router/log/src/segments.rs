//! Segments at rest: finding an offset in one, and the entries in a stretch of a file.
//!
//! A segment is not indexed on disk. The first read builds a sparse index of it in memory (a mark
//! for each 64 KiB), which is dropped again, least recently used first, under a bound.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};

use crate::error::IoError;
use crate::format::entry::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind};
use crate::format::segment::SEGMENT_HEADER_BYTES;
use crate::format::snapshot::SegmentInfo;
use crate::ids::Incarnation;
use crate::vfs::{Vfs, VfsFile};

/// Distance between two marks of a sparse index.
const MARK_BYTES: u64 = 64 << 10;
/// Bytes that a walk reads at once.
const BLOCK_BYTES: usize = 128 << 10;

/// Walks message entries in `[at, end)` of a file, checking headers and queue but not payloads.
pub(crate) struct Walk<'a, F: VfsFile> {
    file: &'a F,
    queue: Incarnation,
    /// Where the next entry begins.
    pub at: u64,
    end: u64,
    block: Bytes,
    block_at: u64,
    want_bytes: usize,
}

/// What a walk found.
pub(crate) enum Step {
    Entry(EntryHeader, Bytes),
    End,
    /// No entry of this queue begins here; the walk cannot go on.
    Lost(&'static str),
}

impl<'a, F: VfsFile> Walk<'a, F> {
    pub fn new(file: &'a F, queue: Incarnation, at: u64, end: u64) -> Self {
        Walk {
            file,
            queue,
            at,
            end,
            block: Bytes::new(),
            block_at: at,
            want_bytes: BLOCK_BYTES,
        }
    }

    /// Reads about this many bytes at once.
    pub fn reading(mut self, bytes: usize) -> Self {
        self.want_bytes = bytes.clamp(4096, 1 << 20);
        self
    }

    /// The `len` bytes at `at`, or `None` if they pass the end.
    fn bytes(&mut self, at: u64, len: usize) -> std::io::Result<Option<Bytes>> {
        if at + len as u64 > self.end {
            return Ok(None);
        }
        // A resync goes back behind the block that was read last.
        if let Some(from) = at.checked_sub(self.block_at)
            && let Ok(from) = usize::try_from(from)
            && let Some(end) = from.checked_add(len)
            && end <= self.block.len()
        {
            return Ok(Some(self.block.slice(from..end)));
        }
        let want = (self.end - at).min(len.max(self.want_bytes) as u64) as usize;
        let mut block = BytesMut::zeroed(want);
        let got = self.file.read_full_at(&mut block, at)?;
        block.truncate(got);
        self.block = block.freeze();
        self.block_at = at;
        Ok((got >= len).then(|| self.block.slice(..len)))
    }

    /// After `Lost`: goes to the next place where an entry of this queue begins with an offset
    /// below `offset_end`; returns its offset. Looks at every byte, for lengths cannot be trusted.
    pub fn resync(&mut self, offset_end: u64) -> std::io::Result<Option<u64>> {
        const STEP_BYTES: usize = 64 << 10;
        let queue = self.queue.get().to_le_bytes();
        let mut from = self.at + 1;
        while from + ENTRY_HEADER_BYTES as u64 <= self.end {
            let len = (self.end - from).min((STEP_BYTES + ENTRY_HEADER_BYTES) as u64) as usize;
            let Some(block) = self.bytes(from, len)? else {
                return Ok(None);
            };
            for (i, window) in block.windows(ENTRY_HEADER_BYTES).enumerate() {
                if window[16..24] == queue
                    && let Some(header) = EntryHeader::decode(window)
                    && header.kind == EntryKind::Messages
                    && header.first_offset < offset_end
                {
                    self.at = from + i as u64;
                    return Ok(Some(header.first_offset));
                }
            }
            from += (len - ENTRY_HEADER_BYTES + 1) as u64;
        }
        Ok(None)
    }

    pub fn step(&mut self) -> std::io::Result<Step> {
        if self.at >= self.end {
            return Ok(Step::End);
        }
        let Some(head) = self.bytes(self.at, ENTRY_HEADER_BYTES)? else {
            return Ok(Step::Lost("it ends inside an entry's header"));
        };
        let Some(header) = EntryHeader::decode_or_mend(&head) else {
            return Ok(Step::Lost("an entry's header does not match its checksum"));
        };
        if header.incarnation != self.queue.get() || header.kind != EntryKind::Messages {
            return Ok(Step::Lost("the entry is not this queue's"));
        }
        let from = self.at + ENTRY_HEADER_BYTES as u64;
        let Some(payload) = self.bytes(from, header.length as usize)? else {
            return Ok(Step::Lost("it ends inside an entry"));
        };
        self.at = from + u64::from(header.length);
        Ok(Step::Entry(header, payload))
    }
}

/// Where an offset can be found in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentMark {
    pub first_offset: u64,
    pub at: u64,
}

pub(crate) struct OpenSegment<V: Vfs> {
    pub file: V::File,
    /// In order; the first is the segment's first entry.
    pub marks: Vec<SegmentMark>,
    /// Bytes of the file that the marks cover.
    covered: u64,
    last_end: u64,
}

impl<V: Vfs> OpenSegment<V> {
    pub fn new(file: V::File, info: &SegmentInfo) -> Self {
        OpenSegment {
            file,
            marks: vec![SegmentMark {
                first_offset: info.first_offset,
                at: SEGMENT_HEADER_BYTES as u64,
            }],
            covered: SEGMENT_HEADER_BYTES as u64,
            last_end: info.first_offset,
        }
    }

    /// Extends the marks until they cover `offset`, or until the walk is lost.
    fn cover(
        &mut self,
        queue: Incarnation,
        offset: u64,
        info: &SegmentInfo,
    ) -> std::io::Result<()> {
        if offset < self.last_end {
            return Ok(());
        }
        let mut walk = Walk::new(&self.file, queue, self.covered, info.bytes).reading(1 << 20);
        loop {
            let at = walk.at;
            let header = match walk.step()? {
                Step::Entry(header, _) => header,
                Step::Lost(_) if walk.resync(info.end_offset)?.is_some() => continue,
                Step::Lost(_) | Step::End => return Ok(()),
            };
            let is_due = self
                .marks
                .last()
                .is_none_or(|mark| at >= mark.at + MARK_BYTES);
            if is_due {
                self.marks.push(SegmentMark {
                    first_offset: header.first_offset,
                    at,
                });
            }
            self.covered = walk.at;
            self.last_end = header.end_offset();
            if offset < self.last_end {
                return Ok(());
            }
        }
    }

    /// Where to begin looking for `offset`.
    pub fn seek(
        &mut self,
        queue: Incarnation,
        offset: u64,
        info: &SegmentInfo,
    ) -> std::io::Result<SegmentMark> {
        self.cover(queue, offset, info)?;
        let after = self.marks.partition_point(|m| m.first_offset <= offset);
        Ok(self.marks[after.saturating_sub(1)])
    }
}

type SharedSegment<V> = Arc<Mutex<OpenSegment<V>>>;

/// Open segments and their indexes, bounded.
pub(crate) struct SegmentCache<V: Vfs> {
    /// By queue and first offset, with the time of its last use.
    open: HashMap<(Incarnation, u64), (SharedSegment<V>, u64)>,
    clock: u64,
    bytes_max: usize,
}

/// Files that the cache keeps open.
const OPEN_SEGMENTS_MAX: usize = 64;

impl<V: Vfs> SegmentCache<V> {
    pub fn new(bytes_max: usize) -> Self {
        SegmentCache {
            open: HashMap::new(),
            clock: 0,
            bytes_max,
        }
    }

    pub fn get(
        &mut self,
        queue: Incarnation,
        info: &SegmentInfo,
        open: impl FnOnce() -> Result<V::File, IoError>,
    ) -> Result<SharedSegment<V>, IoError> {
        self.clock += 1;
        let clock = self.clock;
        let key = (queue, info.first_offset);
        if let Some((segment, used)) = self.open.get_mut(&key) {
            *used = clock;
            return Ok(Arc::clone(segment));
        }
        let segment = Arc::new(Mutex::new(OpenSegment::new(open()?, info)));
        self.open.insert(key, (Arc::clone(&segment), clock));
        self.shrink(key);
        Ok(segment)
    }

    /// Forgets the least recently used until the bounds hold; never `kept`.
    fn shrink(&mut self, kept: (Incarnation, u64)) {
        while self.open.len() > 1
            && (self.open.len() > OPEN_SEGMENTS_MAX || self.marks_bytes() > self.bytes_max)
        {
            let oldest = self
                .open
                .iter()
                .filter(|(key, _)| **key != kept)
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| *key);
            let Some(key) = oldest else { return };
            self.open.remove(&key);
        }
    }

    fn marks_bytes(&self) -> usize {
        self.open
            .values()
            .map(|(segment, _)| {
                let segment = segment.lock().unwrap_or_else(|e| e.into_inner());
                segment.marks.capacity() * size_of::<SegmentMark>()
            })
            .sum()
    }

    pub fn forget(&mut self, queue: Incarnation, first_offset: u64) {
        self.open.remove(&(queue, first_offset));
    }
}
