//! Which messages of a group wait at which priority: one byte for each offset, so that a million
//! messages cost a megabyte however their priorities are mixed.
//!
//! ```text
//! byte := level 0..7, + 0x80 where the message does not wait (with a consumer, delayed, done)
//! ```
//!
//! Offsets from [`Levels::end`] on were not looked at yet. Nothing of this is stored: it is made
//! again from the messages. Finding the next message walks on from where the last one of its level
//! was found; a message that comes back takes the walk back to it.

use std::cell::Cell;
use std::collections::VecDeque;

use waypost_wire::data::Range;

use crate::settings::PRIORITIES_MAX;

/// Offsets of one block.
const BLOCK: u64 = 4096;
const TAKEN: u8 = 0x80;

/// The levels of a stretch of offsets.
#[derive(Debug)]
pub struct Levels {
    /// The first offset of the first block; a multiple of [`BLOCK`].
    base: u64,
    blocks: VecDeque<Box<[u8]>>,
    /// Nothing below waits.
    low: u64,
    end: u64,
    /// No message of this level waits below.
    cursors: [Cell<u64>; PRIORITIES_MAX as usize],
    /// How many wait.
    waiting: [u64; PRIORITIES_MAX as usize],
}

impl Levels {
    /// For offsets from `start` on.
    pub fn new(start: u64) -> Levels {
        Levels {
            base: start - start % BLOCK,
            blocks: VecDeque::new(),
            low: start,
            end: start,
            cursors: std::array::from_fn(|_| Cell::new(start)),
            waiting: [0; PRIORITIES_MAX as usize],
        }
    }

    /// The first offset that was not looked at.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The next offset waits at this level.
    pub fn push(&mut self, level: u8) {
        let level = level.min(PRIORITIES_MAX - 1);
        self.waiting[usize::from(level)] += 1;
        self.put(level);
    }

    /// The offsets up to `end` do not wait, and never will.
    pub fn skip_to(&mut self, end: u64) {
        while self.end < end {
            self.put(TAKEN);
        }
    }

    fn put(&mut self, byte: u8) {
        let block = (self.end - self.base) / BLOCK;
        while self.blocks.len() as u64 <= block {
            self.blocks
                .push_back(vec![TAKEN; BLOCK as usize].into_boxed_slice());
        }
        let at = self.end;
        self.end += 1;
        if let Some(slot) = self.byte(at) {
            *slot = byte;
        }
    }

    fn get(&self, offset: u64) -> Option<u8> {
        let at = offset.checked_sub(self.base)?;
        let block = self.blocks.get((at / BLOCK) as usize)?;
        block.get((at % BLOCK) as usize).copied()
    }

    fn byte(&mut self, offset: u64) -> Option<&mut u8> {
        let at = offset.checked_sub(self.base)?;
        let block = self.blocks.get_mut((at / BLOCK) as usize)?;
        block.get_mut((at % BLOCK) as usize)
    }

    /// The next messages: of the highest level of which one waits, the lowest offset and those
    /// behind it that are of the same level, `count_max` at most.
    pub fn next(&self, count_max: u64) -> Option<Range> {
        let level = (0..PRIORITIES_MAX).rfind(|level| self.waiting[usize::from(*level)] > 0)?;
        let cursor = &self.cursors[usize::from(level)];
        let first = self.find(level, cursor.get())?;
        cursor.set(first);
        let mut last = first;
        while last + 1 - first < count_max
            && last + 1 < self.end
            && self.get(last + 1) == Some(level)
        {
            last += 1;
        }
        (count_max > 0).then_some(Range { first, last })
    }

    fn find(&self, level: u8, from: u64) -> Option<u64> {
        let mut at = from.max(self.base);
        while at < self.end {
            let inside = at - self.base;
            let block = self.blocks.get((inside / BLOCK) as usize)?;
            let start = (inside % BLOCK) as usize;
            if let Some(found) = block[start..].iter().position(|byte| *byte == level) {
                return Some(at + found as u64);
            }
            at += BLOCK - start as u64;
        }
        None
    }

    /// These do not wait any more.
    pub fn take(&mut self, range: Range) {
        for offset in range.first.max(self.low)..=range.last.min(self.end.saturating_sub(1)) {
            let Some(byte) = self.byte(offset).filter(|byte| **byte & TAKEN == 0) else {
                continue;
            };
            let level = usize::from(*byte);
            *byte |= TAKEN;
            self.waiting[level] -= 1;
        }
    }

    /// These wait again, at the level that they had.
    pub fn put_back(&mut self, range: Range) {
        for offset in range.first.max(self.low)..=range.last.min(self.end.saturating_sub(1)) {
            let Some(byte) = self.byte(offset).filter(|byte| **byte & TAKEN != 0) else {
                continue;
            };
            *byte &= !TAKEN;
            let level = usize::from((*byte).min(PRIORITIES_MAX - 1));
            self.waiting[level] += 1;
            let cursor = &self.cursors[level];
            cursor.set(cursor.get().min(offset));
        }
    }

    /// Nothing below `offset` is asked for any more.
    pub fn trim(&mut self, offset: u64) {
        if offset > self.end {
            *self = Levels::new(offset);
            return;
        }
        if offset > self.low {
            let (first, last) = (self.low, offset - 1);
            self.take(Range { first, last });
            self.low = offset;
        }
        while self.base + BLOCK <= offset && self.blocks.pop_front().is_some() {
            self.base += BLOCK;
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn r(first: u64, last: u64) -> Range {
        Range { first, last }
    }

    #[test]
    fn higher_levels_first_and_in_order_within_one() {
        let mut levels = Levels::new(10);
        for level in [0, 0, 7, 3, 7, 7] {
            levels.push(level);
        }
        let mut order = Vec::new();
        while let Some(run) = levels.next(2) {
            levels.take(run);
            order.push(run);
        }
        assert_eq!(order, [r(12, 12), r(14, 15), r(13, 13), r(10, 11)]);
        // What comes back competes at its level.
        levels.put_back(r(10, 10));
        levels.put_back(r(14, 14));
        assert_eq!(levels.next(9), Some(r(14, 14)));
    }

    #[test]
    fn a_million_cost_a_megabyte_and_what_is_done_costs_nothing() {
        let mut levels = Levels::new(5);
        (0..1_000_000).for_each(|n: u32| levels.push((n % 8) as u8));
        assert!(levels.bytes() <= 1_000_000 + 2 * BLOCK as usize);
        levels.trim(1_000_005);
        assert_eq!((levels.next(9), levels.end()), (None, 1_000_005));
        assert!(levels.bytes() <= BLOCK as usize);
        levels.trim(5_000_000);
        levels.push(3);
        assert_eq!(levels.next(9), Some(r(5_000_000, 5_000_000)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Skip(u64),
        Next(u64),
        Back(u64, u64),
        Take(u64, u64),
        Trim(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..8).prop_map(Step::Push),
            1 => (0u64..3000).prop_map(Step::Skip),
            4 => (1u64..9).prop_map(Step::Next),
            2 => (0u64..9000, 0u64..40).prop_map(|(a, n)| Step::Back(a, a + n)),
            2 => (0u64..9000, 0u64..40).prop_map(|(a, n)| Step::Take(a, a + n)),
            1 => (0u64..9000).prop_map(Step::Trim),
        ]
    }

    proptest! {
        /// The same as a map from offset to level, whatever is done.
        #[test]
        fn agrees_with_a_map(steps in proptest::collection::vec(step(), 1..200)) {
            let mut levels = Levels::new(0);
            // Offset to (level, waits).
            let mut model: BTreeMap<u64, (u8, bool)> = BTreeMap::new();
            let mut trimmed = 0;
            for step in steps {
                match step {
                    Step::Push(level) => {
                        model.insert(levels.end(), (level, true));
                        levels.push(level);
                    }
                    Step::Skip(n) => levels.skip_to(levels.end() + n),
                    Step::Next(n) => {
                        let best = model.values().filter(|(_, w)| *w).map(|(l, _)| *l).max();
                        let first = best.and_then(|best| {
                            model.iter().find(|(_, v)| **v == (best, true)).map(|(o, _)| *o)
                        });
                        let run = levels.next(n);
                        prop_assert_eq!(run.map(|r| r.first), first);
                        if let (Some(run), Some(best)) = (run, best) {
                            for offset in run.first..=run.last {
                                prop_assert_eq!(model.insert(offset, (best, false)), Some((best, true)));
                            }
                            prop_assert!(run.count() <= n);
                            levels.take(run);
                        }
                    }
                    Step::Back(first, last) => {
                        let last = last.min(levels.end().saturating_sub(1));
                        // Only what was pushed can come back.
                        for offset in first.max(trimmed)..=last {
                            if let Some(entry) = model.get_mut(&offset) {
                                entry.1 = true;
                                levels.put_back(r(offset, offset));
                            }
                        }
                    }
                    Step::Take(first, last) => {
                        levels.take(r(first, last));
                        model.range_mut(first..=last).for_each(|(_, e)| e.1 = false);
                    }
                    Step::Trim(below) => {
                        trimmed = trimmed.max(below);
                        levels.take(r(0, below));
                        levels.trim(below);
                        model.range_mut(..=below).for_each(|(_, e)| e.1 = false);
                        model = model.split_off(&below);
                    }
                }
            }
        }
    }
}
