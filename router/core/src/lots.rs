//! Offsets in lots: what was delivered together, or waits for the same moment, and shares what is
//! said of it.
//!
//! Which lot an offset is in is a number in [`Pages`]; a lot knows how many members it has and in
//! which pages they are. So a lot of any pattern is one entry, and taking an offset out of it cuts
//! nothing.
//!
//! Invariant: a lot has as many members as offsets have its number. Whoever took the last one is
//! told, and closes it.

use std::cell::Cell;

use waypost_wire::data::Range;

use crate::pages::{PAGE, Pages};

/// Numbers a lot while it has members. Not 0.
pub(crate) type LotId = u32;

/// Pages that a lot may name twice or in vain, whatever it has.
const PAGES_SLACK: usize = 64;

/// The lots of one group.
#[derive(Debug)]
pub(crate) struct Lots<T> {
    pages: Pages,
    /// By number, less one.
    lots: Vec<Option<Lot<T>>>,
    free: Vec<LotId>,
}

#[derive(Debug)]
struct Lot<T> {
    about: T,
    members: Cell<u64>,
    /// The page of its first member, and others in which it had some.
    page: u64,
    more: Vec<u64>,
}

impl<T> Default for Lots<T> {
    fn default() -> Lots<T> {
        Lots {
            pages: Pages::default(),
            lots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Lots<T> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// As [`Pages::weight`].
    pub fn weight(&self) -> usize {
        self.pages.weight()
    }

    /// What is said of an offset, if it is in a lot.
    pub fn get(&self, offset: u64) -> Option<&T> {
        self.about(self.pages.get(offset))
    }

    /// What is said of a lot.
    pub fn about(&self, id: LotId) -> Option<&T> {
        Some(&lot(&self.lots, id)?.about)
    }

    /// A new lot of ranges that are in none.
    pub fn open(&mut self, about: T, ranges: &[Range]) -> LotId {
        let lot = Lot {
            about,
            members: Cell::new(0),
            page: ranges.first().map_or(0, |range| range.first / PAGE),
            more: Vec::new(),
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.lots[id as usize - 1] = Some(lot);
                id
            }
            None => {
                self.lots.push(Some(lot));
                self.lots.len() as LotId
            }
        };
        self.add(id, ranges);
        id
    }

    /// Adds ranges that are in none to a lot.
    pub fn add(&mut self, id: LotId, ranges: &[Range]) {
        let Some(lot) = self.lots.get_mut(id as usize - 1).and_then(Option::as_mut) else {
            return;
        };
        let count: u64 = ranges.iter().map(Range::count).sum();
        lot.members.set(lot.members.get() + count);
        for range in ranges {
            for page in range.first / PAGE..=range.last / PAGE {
                if *lot.more.last().unwrap_or(&lot.page) != page {
                    lot.more.push(page);
                }
            }
        }
        self.pages.put(ranges, id);
        if lot.more.len() > PAGES_SLACK && lot.more.len() as u64 > 2 * lot.members.get() {
            let pages = &self.pages;
            lot.more.sort_unstable();
            lot.more.dedup();
            lot.more
                .retain(|page| of_page(pages, *page, id).next().is_some());
        }
    }

    /// Takes from ranges the offsets of whose lots `wanted` says yes. Gives each run of one lot
    /// within a page, in the order of the ranges; and the lots that have no member any more.
    pub fn take(
        &mut self,
        ranges: &[Range],
        wanted: impl Fn(&T) -> bool,
        mut out: impl FnMut(Range, &T),
    ) -> Vec<LotId> {
        let (lots, mut emptied) = (&self.lots, Vec::new());
        // What lies together is mostly of one lot, or of a few in turn.
        let asked: Cell<(LotId, Option<&Lot<T>>)> = Cell::new((0, None));
        let wanted = |id: LotId| {
            if asked.get().0 != id {
                asked.set((id, lot(lots, id).filter(|lot| wanted(&lot.about))));
            }
            asked.get().1.is_some()
        };
        self.pages.take(ranges, wanted, |range, id| {
            let known = match asked.get() {
                (last, known) if last == id => known,
                _ => lot(lots, id),
            };
            let Some(lot) = known else {
                return;
            };
            let left = lot.members.get() - range.count();
            lot.members.set(left);
            if left == 0 {
                emptied.push(id);
            }
            out(range, &lot.about);
        });
        emptied
    }

    /// Ends a lot without members; what was said of it.
    pub fn close(&mut self, id: LotId) -> Option<T> {
        let lot = self.lots.get_mut(id as usize - 1)?.take()?;
        self.free.push(id);
        if self.free.len() == self.lots.len() {
            // A burst of lots leaves nothing behind.
            (self.lots, self.free) = (Vec::new(), Vec::new());
        }
        Some(lot.about)
    }

    /// The members of a lot, ascending, in runs that lie in one page.
    pub fn members(&self, id: LotId) -> Vec<Range> {
        let Some(lot) = lot(&self.lots, id) else {
            return Vec::new();
        };
        let mut pages = lot.more.clone();
        pages.push(lot.page);
        pages.sort_unstable();
        pages.dedup();
        let members = pages
            .iter()
            .flat_map(|page| of_page(&self.pages, *page, id));
        members.collect()
    }

    /// All members with what is said of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Range, &T)> + '_ {
        self.within(Range {
            first: 0,
            last: u64::MAX,
        })
    }

    /// The members in a range with what is said of them, ascending.
    pub fn within(&self, range: Range) -> impl Iterator<Item = (Range, &T)> + '_ {
        let runs = self.pages.within(range);
        runs.filter_map(|(run, id)| Some((run, self.about(id)?)))
    }
}

fn lot<T>(lots: &[Option<Lot<T>>], id: LotId) -> Option<&Lot<T>> {
    lots.get((id as usize).wrapping_sub(1))?.as_ref()
}

/// The members of a lot in a page.
fn of_page(pages: &Pages, page: u64, id: LotId) -> impl Iterator<Item = Range> + '_ {
    let first = page * PAGE;
    let last = first + (PAGE - 1);
    let runs = pages.within(Range { first, last });
    runs.filter(move |(_, number)| *number == id)
        .map(|(run, _)| run)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The members of all lots, from the lots' own side.
    fn all(lots: &Lots<u64>, open: &BTreeMap<LotId, u64>) -> BTreeMap<u64, u64> {
        let members = open.iter().flat_map(|(id, name)| {
            let runs = lots.members(*id).into_iter();
            runs.flat_map(|run| run.first..=run.last)
                .map(|offset| (offset, *name))
        });
        members.collect()
    }

    proptest! {
        /// The same as a map from offset to lot, whatever is added and taken.
        #[test]
        fn like_a_map(steps in proptest::collection::vec((0u8..6, 0u64..3000, 1u64..40, 1u64..9), 1..60)) {
            let mut lots: Lots<u64> = Lots::default();
            let mut open: BTreeMap<LotId, u64> = BTreeMap::new();
            let mut model: BTreeMap<u64, u64> = BTreeMap::new();
            for (turn, (what, first, count, stride)) in (0u64..).zip(steps) {
                let offsets = (0..count).map(|n| first + n * stride);
                let free = |offset: &u64| !model.contains_key(offset);
                let fresh: Vec<Range> = offsets.clone().filter(free).map(Range::one).collect();
                match what {
                    0..=2 if !fresh.is_empty() => {
                        // Into a lot that is there, or a new one.
                        let known = open.iter().next().map(|(id, name)| (*id, *name));
                        let name = match known.filter(|_| what == 0) {
                            Some((id, name)) => {
                                lots.add(id, &fresh);
                                name
                            }
                            None => {
                                open.insert(lots.open(turn, &fresh), turn);
                                turn
                            }
                        };
                        model.extend(fresh.iter().map(|range| (range.first, name)));
                    }
                    _ => {
                        let range = Range { first, last: first + count * stride };
                        let mut taken = BTreeMap::new();
                        let emptied = lots.take(&[range], |name| name % 3 != 0, |run, name| {
                            taken.extend((run.first..=run.last).map(|offset| (offset, *name)));
                        });
                        for id in emptied {
                            prop_assert_eq!(lots.close(id), open.remove(&id));
                        }
                        let gone: BTreeMap<u64, u64> =
                            model.extract_if(first..=range.last, |_, name| *name % 3 != 0).collect();
                        prop_assert_eq!(taken, gone);
                    }
                }
                prop_assert_eq!(&all(&lots, &open), &model);
                prop_assert!(open.values().all(|name| model.values().any(|n| n == name)));
                prop_assert_eq!(lots.get(first).copied(), model.get(&first).copied());
            }
        }
    }

    /// A lot that lives long names no more pages than it has members, and some.
    #[test]
    fn pages_of_a_lot_are_bounded() {
        let mut lots: Lots<()> = Lots::default();
        let id = lots.open((), &[Range::one(0)]);
        for turn in 0..100_000u64 {
            let offset = (turn % 1000 + 1) * PAGE;
            lots.add(id, &[Range::one(offset)]);
            assert!(
                lots.take(&[Range::one(offset)], |()| true, |_, ()| {})
                    .is_empty()
            );
        }
        let named = lots.lots[0].as_ref().unwrap().more.len();
        assert!(named <= PAGES_SLACK + 1, "{named}");
        assert_eq!(lots.members(id), [Range::one(0)]);
    }
}
