//! A set of offsets as ranges that do not touch. Insertion and lookup are O(log n) in the number
//! of ranges, whatever their length.

use std::collections::BTreeMap;

use waypost_wire::data::Range;

/// The set. Invariant: ranges are disjoint, and neither adjacent nor empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// First offset to last offset.
    ranges: BTreeMap<u64, u64>,
    /// How many offsets that is.
    offsets: u64,
}

impl RangeSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a range, which may overlap what is there.
    pub fn insert(&mut self, range: Range) {
        let (mut first, mut last) = (range.first, range.last);
        let after = self.next_from(first);
        if let Some((&before, end)) = self.ranges.range_mut(..=first).next_back()
            && end.saturating_add(1) >= first
        {
            // Most ranges go on where the one before ends, and touch nothing behind.
            if after.is_none_or(|after| after > last.saturating_add(1)) {
                self.offsets += last.saturating_sub(*end);
                *end = last.max(*end);
                return;
            }
            first = before;
            last = last.max(*end);
            self.offsets -= *end - before + 1;
            self.ranges.remove(&before);
        }
        while let Some((&next, &end)) = self.ranges.range(first..).next()
            && next <= last.saturating_add(1)
        {
            last = last.max(end);
            self.ranges.remove(&next);
            self.offsets -= end - next + 1;
        }
        self.ranges.insert(first, last);
        self.offsets += last - first + 1;
    }

    /// Removes and gives the first range if it begins at or below `offset`.
    pub fn pop_from(&mut self, offset: u64) -> Option<Range> {
        let entry = self.ranges.first_entry()?;
        if *entry.key() > offset {
            return None;
        }
        let (first, last) = entry.remove_entry();
        self.offsets -= last - first + 1;
        Some(Range { first, last })
    }

    /// Forgets everything below `offset`.
    pub fn remove_below(&mut self, offset: u64) {
        while let Some(entry) = self.ranges.first_entry() {
            if *entry.key() >= offset {
                break;
            }
            let (first, last) = entry.remove_entry();
            self.offsets -= last - first + 1;
            if last >= offset {
                self.ranges.insert(offset, last);
                self.offsets += last - offset + 1;
                break;
            }
        }
    }

    /// Whether `offset` is in the set.
    pub fn contains(&self, offset: u64) -> bool {
        self.ranges
            .range(..=offset)
            .next_back()
            .is_some_and(|(_, last)| *last >= offset)
    }

    /// The range that `offset` is in.
    pub fn covering(&self, offset: u64) -> Option<Range> {
        let (&first, &last) = self.ranges.range(..=offset).next_back()?;
        (last >= offset).then_some(Range { first, last })
    }

    /// Where the first range begins that begins at or above `offset`.
    pub fn next_from(&self, offset: u64) -> Option<u64> {
        self.ranges.range(offset..).next().map(|(first, _)| *first)
    }

    /// The ranges in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Range> + '_ {
        self.ranges
            .iter()
            .map(|(&first, &last)| Range { first, last })
    }

    /// The highest offset.
    pub fn last(&self) -> Option<u64> {
        self.ranges.last_key_value().map(|(_, last)| *last)
    }

    /// How many ranges it takes.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many offsets are in it.
    pub fn offsets(&self) -> u64 {
        self.offsets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn like_a_set_of_offsets(ranges in proptest::collection::vec((0u64..60, 0u64..9), 0..40), cut in 0u64..60) {
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for (first, extra) in ranges {
                set.insert(Range { first, last: first + extra });
                model.extend(first..=first + extra);
            }
            set.remove_below(cut);
            model.retain(|o| *o >= cut);
            let flat: BTreeSet<u64> = set.iter().flat_map(|r| r.first..=r.last).collect();
            prop_assert_eq!(&flat, &model);
            let all: Vec<Range> = set.iter().collect();
            prop_assert!(all.windows(2).all(|w| w[0].last + 1 < w[1].first));
            prop_assert_eq!(set.offsets(), model.len() as u64);
            for offset in 0..70 {
                prop_assert_eq!(set.contains(offset), model.contains(&offset));
            }
        }
    }
}
