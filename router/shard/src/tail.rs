//! The newest messages of a queue, in memory, so that consumers at the tail never touch the disk;
//! and how many bytes lie up to which offset, so that a queue knows what it holds.
//!
//! A memory queue has nothing else: its tail is never evicted, its own limit bounds it.

use std::collections::VecDeque;

use waypost_wire::Slab;

use crate::slot::{Chunk, detached};

/// Bytes after which a new mark begins: a queue's byte count is right to within this much.
const MARK_BYTES: u64 = 64 << 10;

/// What all tails of a shard hold together.
#[derive(Debug)]
pub(crate) struct Budget {
    max: usize,
    used: usize,
    /// Order of arrival over all queues: (queue, first offset).
    order: VecDeque<(u32, u64)>,
}

impl Budget {
    pub fn new(max: usize) -> Budget {
        Budget {
            max,
            used: 0,
            order: VecDeque::new(),
        }
    }

    pub fn used(&self) -> usize {
        self.used
    }

    /// Notes a chunk of a durable queue.
    pub fn note(&mut self, queue: u32, first_offset: u64) {
        self.order.push_back((queue, first_offset));
    }

    /// The oldest chunk, if something must go.
    pub fn over(&mut self) -> Option<(u32, u64)> {
        // Chunks that were trimmed leave their place in the order behind; drop those too before
        // the order itself grows beyond what the budget can mean.
        if self.used <= self.max && self.order.len() < 1 << 16 {
            return None;
        }
        self.order.pop_front()
    }
}

/// The tail of one queue.
#[derive(Debug)]
pub(crate) struct Tail {
    chunks: VecDeque<Chunk>,
    /// (end offset, bytes) of stretches, in order.
    marks: VecDeque<(u64, u64)>,
    is_storage: bool,
}

impl Tail {
    pub fn new(is_storage: bool) -> Tail {
        Tail {
            chunks: VecDeque::new(),
            marks: VecDeque::new(),
            is_storage,
        }
    }

    /// Appends what was just given offsets.
    pub fn push(
        &mut self,
        first_offset: u64,
        time_ms: u64,
        slab: &Slab,
        is_timed: bool,
        budget: &mut Budget,
    ) {
        let slab = detached(slab);
        let end = first_offset + u64::from(slab.count());
        self.mark(end, slab.bytes().len() as u64);
        if !self.is_storage {
            budget.used += slab.bytes().len();
        }
        self.chunks.push_back(Chunk {
            first_offset,
            time_ms,
            slab,
            is_timed,
        });
    }

    /// Counts bytes that lie elsewhere: found at recovery.
    pub fn mark(&mut self, end: u64, bytes: u64) {
        match self.marks.back_mut() {
            Some((last_end, held)) if *held + bytes <= MARK_BYTES => {
                *last_end = end;
                *held += bytes;
            }
            _ => self.marks.push_back((end, bytes)),
        }
    }

    /// All bytes that the marks count.
    pub fn marked_bytes(&self) -> u64 {
        self.marks.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Whether it can hold messages from `budget`'s point of view.
    pub fn evict(&mut self, first_offset: u64, budget: &mut Budget) {
        if self.is_storage {
            return;
        }
        while let Some(chunk) = self.chunks.front()
            && chunk.first_offset <= first_offset
        {
            budget.used -= chunk.slab.bytes().len();
            self.chunks.pop_front();
        }
    }

    /// Lets go of everything below `first`; gives the bytes that the queue no longer holds.
    pub fn trim(&mut self, first: u64, budget: &mut Budget) -> u64 {
        while let Some(chunk) = self.chunks.front()
            && chunk.end() <= first
        {
            if !self.is_storage {
                budget.used -= chunk.slab.bytes().len();
            }
            self.chunks.pop_front();
        }
        let mut freed = 0;
        while let Some((end, bytes)) = self.marks.front()
            && *end <= first
        {
            freed += bytes;
            self.marks.pop_front();
        }
        freed
    }

    /// Forgets everything.
    pub fn clear(&mut self, budget: &mut Budget) {
        self.trim(u64::MAX, budget);
    }

    /// The chunk that holds `offset`, if it is here.
    pub fn find(&self, offset: u64) -> Option<&Chunk> {
        let after = self.chunks.partition_point(|c| c.first_offset <= offset);
        self.chunks
            .get(after.checked_sub(1)?)
            .filter(|c| c.end() > offset)
    }

    /// The first chunk at or after `offset`, for a memory queue with gaps.
    pub fn first_from(&self, offset: u64) -> Option<&Chunk> {
        self.chunks
            .get(self.chunks.partition_point(|c| c.end() <= offset))
    }
}
