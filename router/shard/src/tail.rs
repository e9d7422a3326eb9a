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
    /// Stretches, in order.
    marks: VecDeque<Mark>,
    is_storage: bool,
}

/// Bytes of a stretch of offsets; what a part of it has is taken as its share of the offsets.
#[derive(Clone, Copy, Debug)]
struct Mark {
    first: u64,
    end: u64,
    bytes: u64,
}

impl Mark {
    /// The bytes of its first `offsets`.
    fn share(&self, offsets: u64) -> u64 {
        let all = u128::from(self.end - self.first).max(1);
        (u128::from(self.bytes) * u128::from(offsets) / all) as u64
    }
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
        self.mark(first_offset, end, slab.bytes().len() as u64);
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
    pub fn mark(&mut self, first: u64, end: u64, bytes: u64) {
        match self.marks.back_mut() {
            Some(last) if last.end == first && last.bytes + bytes <= MARK_BYTES => {
                last.end = end;
                last.bytes += bytes;
            }
            _ => self.marks.push_back(Mark { first, end, bytes }),
        }
    }

    /// All bytes that the marks count.
    pub fn marked_bytes(&self) -> u64 {
        self.marks.iter().map(|mark| mark.bytes).sum()
    }

    /// The offset below which this many bytes lie, as far as the marks tell.
    pub fn end_of_bytes(&self, bytes: u64) -> u64 {
        let mut left = bytes;
        let mut end = 0;
        for mark in &self.marks {
            if left == 0 {
                return end;
            }
            end = mark.end;
            if left < mark.bytes {
                let offsets = u128::from(mark.end - mark.first);
                let share = (u128::from(left) * offsets).div_ceil(u128::from(mark.bytes));
                return mark.first + share as u64;
            }
            left -= mark.bytes;
        }
        end
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
        while let Some(mark) = self.marks.front_mut()
            && mark.first < first
        {
            let part = mark.share(first.min(mark.end) - mark.first);
            freed += part;
            if mark.end <= first {
                self.marks.pop_front();
            } else {
                mark.first = first;
                mark.bytes -= part;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is let go of bit by bit adds up, and a limit in bytes finds its offset.
    #[test]
    fn bytes_follow_offsets() {
        let mut budget = Budget::new(0);
        let mut tail = Tail::new(false);
        tail.mark(0, 100, 40_000);
        tail.mark(100, 200, 60_000);
        tail.mark(250, 260, 7);
        assert_eq!(tail.marked_bytes(), 100_007);
        assert_eq!(tail.end_of_bytes(0), 0);
        assert_eq!(tail.end_of_bytes(400), 1);
        assert_eq!(tail.end_of_bytes(401), 2);
        assert_eq!(tail.end_of_bytes(40_001), 101);
        assert_eq!(tail.end_of_bytes(1 << 40), 260);
        let steps = [0, 1, 50, 150, 150, 220, 255, 300];
        let freed = steps.map(|first| tail.trim(first, &mut budget));
        assert_eq!(freed.iter().sum::<u64>(), 100_007);
        assert_eq!(freed[..4], [0, 400, 19_600, 50_000]);
    }
}
