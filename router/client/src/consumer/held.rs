//! The offsets that a stream delivered and of which nothing final was said, as ranges.

use std::collections::BTreeMap;

use waypost_wire::data::Range;

/// The set. Invariant: ranges are disjoint.
#[derive(Default)]
pub(super) struct Held {
    /// First to last.
    ranges: BTreeMap<u64, u64>,
    count: u64,
}

impl Held {
    /// How many offsets are held.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds a range; what of it was held already is held once.
    pub fn put(&mut self, range: Range) {
        self.take(range);
        self.count += range.count();
        self.ranges.insert(range.first, range.last);
    }

    /// Takes out what is held of a range; says how many offsets that was.
    pub fn take(&mut self, range: Range) -> u64 {
        let before = self.ranges.range(..=range.first).next_back();
        let start = before.map_or(range.first, |(first, _)| *first);
        let touched: Vec<(u64, u64)> = self
            .ranges
            .range(start..=range.last)
            .filter(|(_, last)| **last >= range.first)
            .map(|(first, last)| (*first, *last))
            .collect();
        let mut taken = 0;
        for (first, last) in touched {
            self.ranges.remove(&first);
            if first < range.first {
                self.ranges.insert(first, range.first - 1);
            }
            if last > range.last {
                self.ranges.insert(range.last + 1, last);
            }
            taken += last.min(range.last) - first.max(range.first) + 1;
        }
        self.count -= taken;
        taken
    }

    /// Holds nothing any more.
    pub fn clear(&mut self) {
        *self = Held::default();
    }
}
