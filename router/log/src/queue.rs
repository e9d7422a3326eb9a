//! What the log remembers of a queue: where its records lie, and what of the WAL it still needs.
//!
//! Message entries in the WAL are known by runs: entries of one queue that stand side by side in a
//! group. Runs stay known until a synced snapshot names the segment that has taken them over, or
//! until they are trimmed; only then does the queue need their WAL file no more.

use std::collections::VecDeque;

use crate::format::snapshot::{SegmentInfo, SnapshotHead};
use crate::ids::Position;

/// Message entries that stand side by side in the WAL, 32 bytes in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where the first entry's header is.
    pub position: Position,
    pub first_offset: u64,
    pub end_offset: u64,
    pub bytes: u32,
    /// Records, for the segment's count.
    pub records: u32,
}

impl Run {
    /// Takes in `next` if it stands right behind this run; says whether it did.
    fn merge(&mut self, next: &Run) -> bool {
        let (Some(bytes), Some(records)) = (
            self.bytes.checked_add(next.bytes),
            self.records.checked_add(next.records),
        ) else {
            return false;
        };
        // Bounds the search inside a run; what is moved is moved in whole runs.
        const RUN_BYTES_MAX: u32 = 256 << 10;
        if self.position.0 + u64::from(self.bytes) != next.position.0 || bytes > RUN_BYTES_MAX {
            return false;
        }
        self.end_offset = next.end_offset;
        self.bytes = bytes;
        self.records = records;
        true
    }
}

/// A queue's place on disk.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Runs in the WAL, in order of offsets and of positions.
    pub runs: VecDeque<Run>,
    /// Segments, in order of offsets.
    pub segments: Vec<SegmentInfo>,
    /// The last synced snapshot, or the first entry if there is none.
    pub base: Option<Position>,
    /// Offsets below are in the segments that a synced snapshot names.
    pub listed_end: u64,
    /// Offsets below are synced as no longer needed.
    pub trimmed: u64,
    /// Next offset, pending appends included.
    pub next_offset: u64,
    /// Highest epoch, pending appends included.
    pub epoch: u32,
    /// A snapshot of it is in the pending group.
    pub has_pending_snapshot: bool,
    /// Its tombstone is pending or synced.
    pub is_removed: bool,
    /// Its tombstone is synced.
    pub is_buried: bool,
}

impl Queue {
    /// Offsets below were moved to synced segments.
    pub fn moved_end(&self) -> u64 {
        self.segments.last().map_or(0, |s| s.end_offset)
    }

    /// The oldest byte of the WAL that recovery of this queue needs.
    pub fn pin(&self) -> Option<Position> {
        match (self.base, self.runs.front()) {
            (Some(base), Some(run)) => Some(base.min(run.position)),
            (base, run) => base.or(run.map(|r| r.position)),
        }
    }

    /// The runs that are only in the WAL.
    pub fn unmoved(&self) -> impl Iterator<Item = &Run> {
        let moved_end = self.moved_end();
        let from = self.runs.partition_point(|r| r.end_offset <= moved_end);
        self.runs.range(from..)
    }

    /// An entry that must stay was synced at `position`.
    pub fn note_entry(&mut self, position: Position) {
        self.base.get_or_insert(position);
    }

    pub fn push_run(&mut self, run: Run) {
        if !self.runs.back_mut().is_some_and(|last| last.merge(&run)) {
            self.runs.push_back(run);
        }
    }

    /// A snapshot was synced at `position` that names segments up to `listed_end`.
    pub fn note_snapshot(&mut self, position: Position, listed_end: u64) {
        self.base = Some(position);
        self.listed_end = self.listed_end.max(listed_end);
        self.release_runs();
    }

    /// Offsets below `up_to` are synced as no longer needed.
    pub fn note_trimmed(&mut self, up_to: u64) {
        self.trimmed = self.trimmed.max(up_to);
        self.release_runs();
    }

    /// Forgets the runs that neither recovery nor a read needs in the WAL.
    pub fn release_runs(&mut self) {
        let needless = self.trimmed.max(self.listed_end);
        while self.runs.front().is_some_and(|r| r.end_offset <= needless) {
            self.runs.pop_front();
        }
    }

    /// Whether some segment is wholly trimmed.
    pub fn has_trimmed_segment(&self) -> bool {
        self.segments
            .first()
            .is_some_and(|s| s.end_offset <= self.trimmed)
    }

    pub fn snapshot_head(&self) -> SnapshotHead {
        SnapshotHead {
            next_offset: self.next_offset,
            trimmed: self.trimmed,
            epoch: self.epoch,
            segments: self.segments.clone(),
        }
    }
}
