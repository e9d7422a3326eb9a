//! A set of offsets: what acks, leases and journals speak of.
//!
//! ```text
//! offsets   0 ........ 255 | 256 ..... 511 | 512 ................. 4095 | 4096 ...
//!           partial: bits  | none          | whole: first and last window | partial
//! ```
//!
//! Offsets lie in windows of `WINDOW`. A window of which some offsets are in the set is a bitmap,
//! stretches of whole windows are one entry, and a window of which nothing is in the set is not
//! there. So single offsets side by side cost a bit each, a lone one about 60 bytes, and a range of
//! any length at most two bitmaps and an entry. What touches one window costs O(log n) in the number
//! of windows.
//!
//! Invariant: `partial` has no window that is whole or empty, `whole` has no two stretches that
//! touch, and a window is in one of them only. So equal sets are equal in memory.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::iter::Peekable;

use crate::data::Range;

mod bits;

use bits::{Bits, WINDOW};

/// The window of the highest offset.
const WINDOW_MAX: u64 = u64::MAX / WINDOW;

/// The set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// By window.
    partial: BTreeMap<u64, Bits>,
    /// First to last window.
    whole: BTreeMap<u64, u64>,
    /// How many offsets that is.
    offsets: u64,
    /// How many ranges that do not touch.
    ranges: usize,
}

impl RangeSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a range, which may overlap what is there.
    pub fn insert(&mut self, range: Range) {
        self.change(range, true);
    }

    /// Adds ranges; those of one window side by side cost one look.
    pub fn insert_all(&mut self, ranges: &[Range]) {
        self.change_all(ranges, true);
    }

    /// Takes out what of a range is in the set.
    pub fn remove(&mut self, range: Range) {
        if !self.is_empty() {
            self.change(range, false);
        }
    }

    /// Takes out what of ranges is in the set, at the same cost as [`RangeSet::insert_all`].
    pub fn remove_all(&mut self, ranges: &[Range]) {
        if !self.is_empty() {
            self.change_all(ranges, false);
        }
    }

    /// Forgets everything below `offset`.
    pub fn remove_below(&mut self, offset: u64) {
        if let Some(last) = offset.checked_sub(1) {
            self.remove(Range { first: 0, last });
        }
    }

    /// Removes and gives the first range if it begins at or below `offset`.
    pub fn pop_from(&mut self, offset: u64) -> Option<Range> {
        let first = self.first().filter(|first| *first <= offset)?;
        let range = self.covering(first)?;
        self.remove(range);
        Some(range)
    }

    /// Whether `offset` is in the set.
    pub fn contains(&self, offset: u64) -> bool {
        let window = offset / WINDOW;
        match self.partial.get(&window) {
            Some(bits) => bits.has(offset % WINDOW),
            None => self.is_whole(window),
        }
    }

    /// The range that `offset` is in.
    pub fn covering(&self, offset: u64) -> Option<Range> {
        self.contains(offset).then(|| Range {
            first: self.start_of(offset),
            last: self.end_of(offset),
        })
    }

    /// The lowest offset of the set that is not below `offset`.
    pub fn next_from(&self, offset: u64) -> Option<u64> {
        let window = offset / WINDOW;
        let here = self.bits(window).first_from(offset % WINDOW);
        if let Some(at) = here {
            return Some(window * WINDOW + at);
        }
        let behind = window.checked_add(1)?;
        let partial = self.partial.range(behind..).next();
        let partial = partial.and_then(|(w, bits)| Some(w * WINDOW + bits.first_from(0)?));
        let whole = self.whole.range(behind..).next().map(|(w, _)| w * WINDOW);
        partial.into_iter().chain(whole).min()
    }

    /// The ranges in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Range> + '_ {
        Ranges {
            pieces: self.pieces(0, WINDOW_MAX).peekable(),
            window: 0,
            left: Bits::NONE,
            pending: None,
        }
    }

    /// What of a range is in the set, in ascending order.
    pub fn within(&self, range: Range) -> impl Iterator<Item = Range> + '_ {
        let mut from = Some(range.first);
        std::iter::from_fn(move || {
            let first = self.next_from(from?).filter(|first| *first <= range.last)?;
            let last = self.end_of(first).min(range.last);
            from = last.checked_add(1);
            Some(Range { first, last })
        })
    }

    /// The lowest offset.
    pub fn first(&self) -> Option<u64> {
        self.next_from(0)
    }

    /// The highest offset.
    pub fn last(&self) -> Option<u64> {
        let partial = self.partial.last_key_value();
        let partial = partial.and_then(|(w, bits)| Some(w * WINDOW + bits.last_to(WINDOW - 1)?));
        let whole = self.whole.last_key_value();
        let whole = whole.map(|(_, last)| last * WINDOW + (WINDOW - 1));
        partial.into_iter().chain(whole).max()
    }

    /// How many ranges that do not touch it has.
    pub fn len(&self) -> usize {
        self.ranges
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.offsets == 0
    }

    /// How many offsets are in it.
    pub fn offsets(&self) -> u64 {
        self.offsets
    }

    fn is_whole(&self, window: u64) -> bool {
        let before = self.whole.range(..=window).next_back();
        before.is_some_and(|(_, last)| *last >= window)
    }

    fn bits(&self, window: u64) -> Bits {
        match self.partial.get(&window) {
            Some(bits) => *bits,
            None if self.is_whole(window) => Bits::ALL,
            None => Bits::NONE,
        }
    }

    /// The lowest offset of the range that `offset`, which is in the set, is in.
    fn start_of(&self, offset: u64) -> u64 {
        let mut at = offset;
        loop {
            let window = at / WINDOW;
            let start = match self.whole.range(..=window).next_back() {
                Some((first, last)) if *last >= window => first * WINDOW,
                _ => match self.bits(window).not().last_to(at % WINDOW) {
                    Some(gap) => return window * WINDOW + gap + 1,
                    None => window * WINDOW,
                },
            };
            if start == 0 || !self.contains(start - 1) {
                return start;
            }
            at = start - 1;
        }
    }

    /// The highest offset of the range that `offset`, which is in the set, is in.
    fn end_of(&self, offset: u64) -> u64 {
        let mut at = offset;
        loop {
            let window = at / WINDOW;
            let last = match self.whole.range(..=window).next_back() {
                Some((_, last)) if *last >= window => *last,
                _ => match self.bits(window).not().first_from(at % WINDOW) {
                    Some(gap) => return window * WINDOW + gap - 1,
                    None => window,
                },
            };
            let end = last * WINDOW + (WINDOW - 1);
            if end == u64::MAX || !self.contains(end + 1) {
                return end;
            }
            at = end + 1;
        }
    }

    fn change_all(&mut self, ranges: &[Range], is_in: bool) {
        let mut ranges = ranges.iter().peekable();
        while let Some(range) = ranges.next() {
            let window = range.first / WINDOW;
            if range.last / WINDOW != window {
                self.change(*range, is_in);
                continue;
            }
            let mut bits = Bits::of(window, *range);
            while let Some(next) = ranges.next_if(|next| is_within(window, next)) {
                bits.set(window, *next);
            }
            self.change_bits(window, bits, is_in);
        }
    }

    fn change_bits(&mut self, window: u64, bits: Bits, is_in: bool) {
        let old = self.bits(window);
        let new = match is_in {
            true => old.or(bits),
            false => old.without(bits),
        };
        self.write(window, old, new);
    }

    fn change(&mut self, range: Range, is_in: bool) {
        let (first, last) = (range.first / WINDOW, range.last / WINDOW);
        self.change_bits(first, Bits::of(first, range), is_in);
        if first < last {
            self.change_bits(last, Bits::of(last, range), is_in);
        }
        if first + 1 < last {
            self.fill(first + 1, last - 1, is_in);
        }
    }

    /// Gives one window other bits, and counts.
    fn write(&mut self, window: u64, old: Bits, new: Bits) {
        if old == new {
            return;
        }
        let base = window * WINDOW;
        // A range that goes on over a border is one.
        let mut joins = 0;
        let low = new.has(0) as isize - old.has(0) as isize;
        if low != 0 && base > 0 && self.contains(base - 1) {
            joins += low;
        }
        let top = new.has(WINDOW - 1) as isize - old.has(WINDOW - 1) as isize;
        if top != 0 && window < WINDOW_MAX && self.contains(base + WINDOW) {
            joins += top;
        }
        let more = new.runs() as isize - old.runs() as isize - joins;
        self.ranges = self.ranges.saturating_add_signed(more);
        self.offsets = self.offsets - old.count() + new.count();
        if old == Bits::ALL {
            self.cut_whole(window, window);
        }
        match new {
            Bits::NONE => drop(self.partial.remove(&window)),
            Bits::ALL => {
                self.partial.remove(&window);
                self.add_whole(window, window);
            }
            new => drop(self.partial.insert(window, new)),
        }
    }

    /// Puts all offsets of a stretch of windows in, or takes them out.
    fn fill(&mut self, first: u64, last: u64, is_in: bool) {
        let (start, end) = (first * WINDOW, last * WINDOW + (WINDOW - 1));
        let mut ranges = self.ranges as isize;
        let (mut offsets, mut before) = (0, None);
        for (low, high, bits) in self.pieces(first, last) {
            let joins = bits.has(0) && before.is_some_and(|end| end + 1 == low);
            ranges -= bits.runs() as isize - isize::from(joins);
            offsets += (high - low + 1) * bits.count();
            before = bits.has(WINDOW - 1).then_some(high);
        }
        let is_left = start > 0 && self.contains(start - 1);
        let is_right = end < u64::MAX && self.contains(end + 1);
        ranges += isize::from(is_left && self.contains(start));
        ranges += isize::from(is_right && self.contains(end));
        if offsets > 0 {
            self.partial
                .extract_if(first..=last, |_, _| true)
                .for_each(drop);
            self.cut_whole(first, last);
            self.offsets -= offsets;
        }
        if is_in {
            ranges += 1 - isize::from(is_left) - isize::from(is_right);
            self.offsets += (last - first + 1) * WINDOW;
            self.add_whole(first, last);
        }
        self.ranges = usize::try_from(ranges).unwrap_or(0);
    }

    fn add_whole(&mut self, mut first: u64, mut last: u64) {
        if let Some((&before, end)) = self.whole.range_mut(..first).next_back()
            && *end + 1 == first
        {
            if !self.whole.contains_key(&(last + 1)) {
                // Most stretches grow at their end.
                self.whole.insert(before, last);
                return;
            }
            first = before;
        }
        if let Some(end) = self.whole.remove(&(last + 1)) {
            last = end;
        }
        self.whole.insert(first, last);
    }

    fn cut_whole(&mut self, first: u64, last: u64) {
        let before = self.whole.range(..first).next_back();
        if let Some((&before, &end)) = before.filter(|(_, end)| **end >= first) {
            self.whole.insert(before, first - 1);
            if end > last {
                self.whole.insert(last + 1, end);
                return;
            }
        }
        let inside = self.whole.extract_if(first..=last, |_, _| true);
        if let Some((_, end)) = inside.last().filter(|(_, end)| *end > last) {
            self.whole.insert(last + 1, end);
        }
    }

    /// What of a stretch of windows is in the set, in order: windows that are alike.
    fn pieces(&self, first: u64, last: u64) -> Pieces<'_> {
        let begun = self.whole.range(..first).next_back();
        let begun = begun.filter(|(_, end)| **end >= first).map(|(_, end)| *end);
        Pieces {
            begun: begun.map(|end| (first, end.min(last))),
            partial: self.partial.range(first..=last).peekable(),
            whole: self.whole.range(first..=last).peekable(),
            last,
        }
    }
}

fn is_within(window: u64, range: &Range) -> bool {
    range.first / WINDOW == window && range.last / WINDOW == window
}

/// See [`RangeSet::pieces`].
struct Pieces<'a> {
    /// A stretch that began before.
    begun: Option<(u64, u64)>,
    partial: Peekable<btree_map::Range<'a, u64, Bits>>,
    whole: Peekable<btree_map::Range<'a, u64, u64>>,
    last: u64,
}

impl Iterator for Pieces<'_> {
    /// First and last window, and the bits of each of them.
    type Item = (u64, u64, Bits);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((first, last)) = self.begun.take() {
            return Some((first, last, Bits::ALL));
        }
        let whole = self.whole.peek().map(|(first, _)| **first);
        match self.partial.peek() {
            Some((window, _)) if whole.is_none_or(|first| **window < first) => {
                let (window, bits) = self.partial.next()?;
                Some((*window, *window, *bits))
            }
            _ => {
                let (first, last) = self.whole.next()?;
                Some((*first, (*last).min(self.last), Bits::ALL))
            }
        }
    }
}

/// See [`RangeSet::iter`].
struct Ranges<'a> {
    pieces: Peekable<Pieces<'a>>,
    /// Of the piece that is looked at: its first window, and what is left of its bits.
    window: u64,
    left: Bits,
    /// A range that may go on in what follows.
    pending: Option<Range>,
}

impl Ranges<'_> {
    /// The next range within a piece.
    fn next_part(&mut self) -> Option<Range> {
        loop {
            if let Some(first) = self.left.first_from(0) {
                let last = self.left.not().first_from(first).unwrap_or(WINDOW) - 1;
                self.left = self.left.without(Bits::span(first, last));
                let base = self.window * WINDOW;
                return Some(Range {
                    first: base + first,
                    last: base + last,
                });
            }
            match self.pieces.next()? {
                (first, last, Bits::ALL) => {
                    return Some(Range {
                        first: first * WINDOW,
                        last: last * WINDOW + (WINDOW - 1),
                    });
                }
                (window, _, bits) => (self.window, self.left) = (window, bits),
            }
        }
    }
}

impl Iterator for Ranges<'_> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        loop {
            let part = self.next_part();
            match (&mut self.pending, part) {
                (Some(pending), Some(part)) if pending.last + 1 == part.first => {
                    pending.last = part.last;
                }
                (pending, part) => {
                    let done = std::mem::replace(pending, part);
                    if done.is_some() || part.is_none() {
                        return done;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn r(first: u64, last: u64) -> Range {
        Range { first, last }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64, u64),
        All(bool, Vec<(u64, u64)>),
        Remove(u64, u64),
        Below(u64),
        Pop(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let first = 0u64..2000;
        let length = prop_oneof![4 => 0u64..4, 1 => 0u64..1200];
        let singles = proptest::collection::vec((1u64..4, 0u64..3), 0..300);
        prop_oneof![
            4 => (first.clone(), length.clone()).prop_map(|(a, n)| Step::Insert(a, a + n)),
            1 => (any::<bool>(), singles).prop_map(|(is_in, gaps)| Step::All(is_in, gaps)),
            3 => (first.clone(), length).prop_map(|(a, n)| Step::Remove(a, a + n)),
            1 => first.clone().prop_map(Step::Below),
            1 => first.prop_map(Step::Pop),
        ]
    }

    fn apply(set: &mut RangeSet, model: &mut BTreeSet<u64>, step: Step) {
        match step {
            Step::Insert(first, last) => {
                set.insert(r(first, last));
                model.extend(first..=last);
            }
            Step::All(is_in, gaps) => {
                let mut at = 0;
                let range = |(gap, more): (u64, u64)| {
                    let first = at + gap;
                    at = first + more + 1;
                    r(first, first + more)
                };
                let ranges: Vec<Range> = gaps.into_iter().map(range).collect();
                let offsets = ranges.iter().flat_map(|r| r.first..=r.last);
                match is_in {
                    true => model.extend(offsets),
                    false => model.retain(|offset| !offsets.clone().any(|o| o == *offset)),
                }
                match is_in {
                    true => set.insert_all(&ranges),
                    false => set.remove_all(&ranges),
                }
            }
            Step::Remove(first, last) => {
                set.remove(r(first, last));
                model.retain(|o| !(first..=last).contains(o));
            }
            Step::Below(below) => {
                set.remove_below(below);
                model.retain(|o| *o >= below);
            }
            Step::Pop(from) => {
                let first = model.first().copied().filter(|first| *first <= from);
                let popped = set.pop_from(from);
                assert_eq!(popped.map(|range| range.first), first);
                if let Some(popped) = popped {
                    assert!((popped.first..=popped.last).all(|o| model.remove(&o)));
                    assert!(!model.contains(&(popped.last + 1)));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn like_a_set_of_offsets(steps in proptest::collection::vec(step(), 0..40), at in 0u64..3300) {
            let (mut set, mut model) = (RangeSet::new(), BTreeSet::new());
            for step in steps {
                apply(&mut set, &mut model, step);
                let all: Vec<Range> = set.iter().collect();
                let flat: BTreeSet<u64> = all.iter().flat_map(|r| r.first..=r.last).collect();
                prop_assert_eq!(&flat, &model);
                prop_assert!(all.windows(2).all(|w| w[0].last + 1 < w[1].first));
                prop_assert_eq!((set.len(), set.offsets()), (all.len(), model.len() as u64));
                prop_assert_eq!((set.first(), set.last()), (model.first().copied(), model.last().copied()));
                prop_assert_eq!(set.contains(at), model.contains(&at));
                prop_assert_eq!(set.next_from(at), model.range(at..).next().copied());
                let covering = all.iter().copied().find(|r| (r.first..=r.last).contains(&at));
                prop_assert_eq!(set.covering(at), covering);
                let within: BTreeSet<u64> = set.within(r(at, at + 500)).flat_map(|r| r.first..=r.last).collect();
                prop_assert_eq!(within, model.range(at..=at + 500).copied().collect::<BTreeSet<u64>>());
                // What is in it says how it is kept.
                let mut again = RangeSet::new();
                all.iter().rev().for_each(|range| again.insert(*range));
                prop_assert_eq!(&again, &set);
            }
        }
    }

    #[test]
    fn the_ends_of_what_an_offset_can_be() {
        let mut set = RangeSet::new();
        set.insert(r(0, u64::MAX - 1));
        assert_eq!(
            (set.len(), set.offsets(), set.last()),
            (1, u64::MAX, Some(u64::MAX - 1))
        );
        set.remove(r(5, u64::MAX));
        set.insert(r(u64::MAX, u64::MAX));
        assert_eq!(
            set.iter().collect::<Vec<_>>(),
            [r(0, 4), r(u64::MAX, u64::MAX)]
        );
        assert_eq!(set.covering(u64::MAX), Some(r(u64::MAX, u64::MAX)));
        assert_eq!(set.within(r(3, u64::MAX)).count(), 2);
        assert_eq!(set.next_from(5), Some(u64::MAX));
    }

    #[test]
    fn every_other_of_a_hundred_thousand_costs_bits() {
        let mut set = RangeSet::new();
        (0..100_000).for_each(|n| set.insert(Range::one(2 * n)));
        assert_eq!((set.len(), set.partial.len()), (100_000, 782));
        (0..100_000).for_each(|n| set.insert(Range::one(2 * n + 1)));
        assert_eq!((set.len(), set.partial.len(), set.whole.len()), (1, 1, 1));
    }
}
