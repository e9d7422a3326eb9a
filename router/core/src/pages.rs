//! A number for each of some offsets: with whom they are, or which key they have.
//!
//! ```text
//! page  := 256 offsets, as runs (first u8, last u8, number u32; at most 16) or as a table of 256 u32
//! ```
//!
//! Offsets that lie close together cost 4 bytes each, however their numbers are mixed; a run of one
//! number costs 8 bytes a page, and a page of its own about 100. Reading or changing one offset is a
//! look for its page, O(log n), and an index or a short walk in it; many of one page cost one look.
//!
//! Invariant: no page is empty; a page is a table only while it holds more than [`SPARSE_MAX`]
//! offsets, so that what is left of many costs no more than 130 bytes each.

use std::collections::BTreeMap;

use waypost_wire::data::Range;

/// Offsets of a page.
pub(crate) const PAGE: u64 = 256;
/// Runs of a page beyond which it becomes a table.
const RUNS_MAX: usize = 16;
/// Offsets of a table at which it becomes runs.
const SPARSE_MAX: u32 = 8;

/// Numbers by offset. A number is not 0: that stands for none.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pages: BTreeMap<u64, Page>,
    weight: usize,
}

impl Pages {
    /// Whether no offset has a number.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// How many runs of one number there are, where those of a table count one for each offset.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// The number of an offset; 0 if it has none.
    pub fn get(&self, offset: u64) -> u32 {
        let page = self.pages.get(&(offset / PAGE));
        page.map_or(0, |page| page.get(at(offset)))
    }

    /// Gives ranges that have none a number.
    pub fn put(&mut self, ranges: &[Range], number: u32) {
        self.visit(ranges, true, |_, page, parts| page.put_all(parts, number));
    }

    /// Gives offsets from `first` on these numbers; they have none, and 0 leaves it so.
    pub fn put_each(&mut self, first: u64, numbers: &[u32]) {
        let (mut offset, mut rest) = (first, numbers);
        while !rest.is_empty() {
            let here = (PAGE - offset % PAGE).min(rest.len() as u64) as usize;
            let (these, later) = rest.split_at(here);
            if these.iter().any(|number| *number != 0) {
                let page = self.pages.entry(offset / PAGE).or_default();
                self.weight -= page.weight();
                page.put_each(at(offset), these);
                self.weight += page.weight();
            }
            (offset, rest) = (offset + here as u64, later);
        }
    }

    /// Takes the numbers that `wanted` says yes to from ranges. Gives each run of one number within
    /// a page, in the order of the ranges.
    pub fn take(
        &mut self,
        ranges: &[Range],
        mut wanted: impl FnMut(u32) -> bool,
        mut out: impl FnMut(Range, u32),
    ) {
        self.visit(ranges, false, |base, page, parts| {
            page.take(parts, &mut wanted, &mut |run: Run| {
                out(run.range(base), run.number);
            });
        });
    }

    /// Takes all numbers from ranges. Gives each offset's by itself.
    pub fn drain(&mut self, ranges: &[Range], mut out: impl FnMut(u64, u32)) {
        self.visit(ranges, false, |base, page, parts| {
            page.drain(parts, &mut |at, number| out(base + u64::from(at), number));
        });
    }

    /// The runs of one number within a page, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Range, u32)> + '_ {
        self.within(Range {
            first: 0,
            last: u64::MAX,
        })
    }

    /// The runs of one number within a page that touch a range, cut to it.
    pub fn within(&self, range: Range) -> impl Iterator<Item = (Range, u32)> + '_ {
        let pages = self.pages.range(range.first / PAGE..=range.last / PAGE);
        pages.flat_map(move |(number, page)| {
            let base = number * PAGE;
            let first = at(range.first.max(base));
            let last = at(range.last.min(base + (PAGE - 1)));
            page.runs(first, last)
                .map(move |run| (run.range(base), run.number))
        })
    }

    /// Calls `visit` for each page that ranges touch with the parts that it has of them: for all
    /// pages, or only for those that are there. Ranges of one page side by side cost one look.
    fn visit(
        &mut self,
        ranges: &[Range],
        is_made: bool,
        mut visit: impl FnMut(u64, &mut Page, &[Range]),
    ) {
        let mut rest = ranges;
        while let Some(range) = rest.first() {
            let (first, last) = (range.first / PAGE, range.last / PAGE);
            let is_here =
                |range: &&Range| range.first / PAGE == first && range.last / PAGE == first;
            let here = rest.iter().take_while(is_here).count();
            if here > 0 {
                self.visit_page(first, &rest[..here], is_made, &mut visit);
                rest = &rest[here..];
                continue;
            }
            let there = self.pages.range(first..=last).map(|(number, _)| *number);
            let numbers: Vec<u64> = match is_made {
                true => (first..=last).collect(),
                false => there.collect(),
            };
            for number in numbers {
                let base = number * PAGE;
                let part = Range {
                    first: range.first.max(base),
                    last: range.last.min(base + (PAGE - 1)),
                };
                self.visit_page(number, &[part], is_made, &mut visit);
            }
            rest = &rest[1..];
        }
    }

    fn visit_page(
        &mut self,
        number: u64,
        parts: &[Range],
        is_made: bool,
        visit: &mut impl FnMut(u64, &mut Page, &[Range]),
    ) {
        let page = match is_made {
            true => self.pages.entry(number).or_default(),
            false => match self.pages.get_mut(&number) {
                Some(page) => page,
                None => return,
            },
        };
        self.weight -= page.weight();
        visit(number * PAGE, page, parts);
        self.weight += page.weight();
        if page.used == 0 {
            self.pages.remove(&number);
        }
    }
}

/// Where an offset stands in its page.
fn at(offset: u64) -> u8 {
    (offset % PAGE) as u8
}

#[derive(Debug)]
struct Page {
    /// Offsets that have a number.
    used: u32,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// Ascending; those of one number may touch.
    Runs(Vec<Run>),
    Table(Box<[u32; PAGE as usize]>),
}

#[derive(Clone, Copy, Debug)]
struct Run {
    first: u8,
    last: u8,
    number: u32,
}

impl Run {
    fn count(self) -> u32 {
        u32::from(self.last - self.first) + 1
    }

    fn range(self, base: u64) -> Range {
        Range {
            first: base + u64::from(self.first),
            last: base + u64::from(self.last),
        }
    }
}

impl Default for Page {
    fn default() -> Page {
        Page {
            used: 0,
            form: Form::Runs(Vec::new()),
        }
    }
}

impl Page {
    fn weight(&self) -> usize {
        match &self.form {
            Form::Runs(runs) => runs.len(),
            Form::Table(_) => self.used as usize,
        }
    }

    fn get(&self, at: u8) -> u32 {
        match &self.form {
            Form::Runs(runs) => {
                let run = runs.iter().find(|run| run.last >= at);
                run.filter(|run| run.first <= at).map_or(0, |r| r.number)
            }
            Form::Table(table) => table[usize::from(at)],
        }
    }

    fn put_all(&mut self, parts: &[Range], number: u32) {
        if parts.len() > RUNS_MAX {
            self.make_table();
        }
        let Form::Table(table) = &mut self.form else {
            for part in parts {
                self.put(at(part.first), at(part.last), number);
            }
            return;
        };
        for part in parts {
            let (first, last) = (usize::from(at(part.first)), usize::from(at(part.last)));
            if first == last {
                table[first] = number;
                self.used += 1;
                continue;
            }
            table[first..=last].fill(number);
            self.used += (last - first) as u32 + 1;
        }
        self.settle();
    }

    fn put(&mut self, first: u8, last: u8, number: u32) {
        let run = Run {
            first,
            last,
            number,
        };
        self.used += run.count();
        match &mut self.form {
            Form::Table(table) => table[usize::from(first)..=usize::from(last)].fill(number),
            Form::Runs(runs) => {
                let place = match runs.last() {
                    Some(end) if end.first > first => runs.partition_point(|r| r.first < first),
                    _ => runs.len(),
                };
                runs.insert(place, run);
                self.settle();
            }
        }
    }

    fn put_each(&mut self, from: u8, numbers: &[u32]) {
        if numbers.len() > 2 * RUNS_MAX {
            self.make_table();
        }
        if let Form::Table(table) = &mut self.form {
            let from = usize::from(from);
            for (slot, number) in table[from..].iter_mut().zip(numbers) {
                *slot |= number;
            }
            self.used += numbers.iter().filter(|number| **number != 0).count() as u32;
            return self.settle();
        }
        for (at, number) in (from..=u8::MAX).zip(numbers).filter(|(_, n)| **n != 0) {
            self.put(at, at, *number);
        }
    }

    /// Takes all numbers of parts, each by itself.
    fn drain(&mut self, parts: &[Range], out: &mut impl FnMut(u8, u32)) {
        let Form::Table(table) = &mut self.form else {
            return self.take(parts, &mut |_| true, &mut |run| {
                (run.first..=run.last).for_each(|at| out(at, run.number));
            });
        };
        let mut taken = 0;
        for part in parts {
            let (first, last) = (usize::from(at(part.first)), usize::from(at(part.last)));
            for (more, slot) in table[first..=last].iter_mut().enumerate() {
                let number = std::mem::take(slot);
                if number != 0 {
                    taken += 1;
                    out((first + more) as u8, number);
                }
            }
        }
        self.used -= taken;
        self.settle();
    }

    fn take(
        &mut self,
        parts: &[Range],
        wanted: &mut impl FnMut(u32) -> bool,
        out: &mut impl FnMut(Run),
    ) {
        let before = self.used;
        match &mut self.form {
            Form::Runs(_) => {
                for part in parts {
                    self.take_runs(at(part.first), at(part.last), wanted, out);
                }
            }
            Form::Table(table) => {
                for part in parts {
                    self.used -= take_slots(table, at(part.first), at(part.last), wanted, out);
                }
            }
        }
        if self.used != before {
            self.settle();
        }
    }

    /// Takes from a page that is not a table.
    fn take_runs(
        &mut self,
        first: u8,
        last: u8,
        wanted: &mut impl FnMut(u32) -> bool,
        out: &mut impl FnMut(Run),
    ) {
        let Form::Runs(runs) = &mut self.form else {
            return;
        };
        let mut index = runs.partition_point(|run| run.last < first);
        while let Some(run) = runs.get(index).copied().filter(|run| run.first <= last) {
            if !wanted(run.number) {
                index += 1;
                continue;
            }
            let cut = Run {
                first: run.first.max(first),
                last: run.last.min(last),
                ..run
            };
            runs.remove(index);
            if cut.last < run.last {
                let first = cut.last + 1;
                runs.insert(index, Run { first, ..run });
            }
            if run.first < cut.first {
                let last = cut.first - 1;
                runs.insert(index, Run { last, ..run });
                index += 1;
            }
            self.used -= cut.count();
            out(cut);
        }
    }

    /// The form that what it holds asks for.
    fn settle(&mut self) {
        match &self.form {
            Form::Runs(runs) if runs.len() > RUNS_MAX => self.make_table(),
            Form::Table(_) if self.used <= SPARSE_MAX => {
                self.form = Form::Runs(self.runs(0, u8::MAX).collect());
            }
            _ => {}
        }
    }

    fn make_table(&mut self) {
        if let Form::Runs(runs) = &self.form {
            let mut table = Box::new([0; PAGE as usize]);
            for run in runs {
                table[usize::from(run.first)..=usize::from(run.last)].fill(run.number);
            }
            self.form = Form::Table(table);
        }
    }

    /// The runs of one number that touch a part, cut to it.
    fn runs(&self, first: u8, last: u8) -> impl Iterator<Item = Run> + '_ {
        let mut from = u32::from(first);
        std::iter::from_fn(move || {
            let start = u8::try_from(from).ok().filter(|start| *start <= last)?;
            let run = self.next_run(start, last)?;
            from = u32::from(run.last) + 1;
            Some(run)
        })
    }

    fn next_run(&self, first: u8, last: u8) -> Option<Run> {
        match &self.form {
            Form::Runs(runs) => {
                let index = runs.partition_point(|run| run.last < first);
                let run = runs.get(index).filter(|run| run.first <= last)?;
                Some(Run {
                    first: run.first.max(first),
                    last: run.last.min(last),
                    ..*run
                })
            }
            Form::Table(table) => {
                let first = (first..=last).find(|at| table[usize::from(*at)] != 0)?;
                let number = table[usize::from(first)];
                let other = (first..=last).find(|at| table[usize::from(*at)] != number);
                Some(Run {
                    first,
                    last: other.map_or(last, |other| other - 1),
                    number,
                })
            }
        }
    }
}

/// Takes from a table; says how many offsets.
fn take_slots(
    table: &mut [u32; PAGE as usize],
    first: u8,
    last: u8,
    wanted: &mut impl FnMut(u32) -> bool,
    out: &mut impl FnMut(Run),
) -> u32 {
    if first == last {
        // What lies between others is mostly alone.
        let number = table[usize::from(first)];
        let is_taken = number != 0 && wanted(number);
        if is_taken {
            table[usize::from(first)] = 0;
            out(Run {
                first,
                last,
                number,
            });
        }
        return u32::from(is_taken);
    }
    let (mut count, mut taken): (u32, Option<Run>) = (0, None);
    let slots = &mut table[usize::from(first)..=usize::from(last)];
    for (more, slot) in slots.iter_mut().enumerate() {
        let at = first + more as u8;
        let number = *slot;
        if number == 0 || !wanted(number) {
            continue;
        }
        *slot = 0;
        count += 1;
        match &mut taken {
            Some(run) if run.number == number && run.last + 1 == at => run.last = at,
            _ => {
                let run = Run {
                    first: at,
                    last: at,
                    number,
                };
                if let Some(run) = taken.replace(run) {
                    out(run);
                }
            }
        }
    }
    if let Some(run) = taken {
        out(run);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Put(u64, u64, u32),
        Each(u64, Vec<u32>),
        Take(u64, u64, u32),
        TakeMany(u64, u64, u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        let first = 0u64..1200;
        let length = prop_oneof![4 => 0u64..5, 1 => 0u64..700];
        let numbers = proptest::collection::vec(0u32..5, 0..400);
        prop_oneof![
            3 => (first.clone(), length.clone(), 1u32..5).prop_map(|(a, n, v)| Step::Put(a, n, v)),
            1 => (first.clone(), numbers).prop_map(|(a, v)| Step::Each(a, v)),
            2 => (first.clone(), length, 1u32..6).prop_map(|(a, n, v)| Step::Take(a, n, v)),
            1 => (first, 1u64..60, 1u32..6).prop_map(|(a, n, v)| Step::TakeMany(a, n, v)),
        ]
    }

    proptest! {
        /// The same as a map from offset to number, and no larger than is said.
        #[test]
        fn like_a_map(steps in proptest::collection::vec(step(), 0..40), probe in 0u64..1900) {
            let mut pages = Pages::default();
            let mut model: BTreeMap<u64, u32> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Put(first, more, number) => {
                        // Only what has none.
                        let free = |offset: &u64| !model.contains_key(offset);
                        let free: Vec<Range> =
                            (first..=first + more).filter(free).map(Range::one).collect();
                        model.extend(free.iter().map(|range| (range.first, number)));
                        pages.put(&free, number);
                        let far = Range { first: first + 2000, last: first + 2000 + more };
                        pages.put(&[far], number);
                        pages.take(&[far], |_| true, |_, got| assert_eq!(got, number));
                    }
                    Step::Each(first, mut numbers) => {
                        for (offset, number) in (first..).zip(&mut numbers) {
                            match model.contains_key(&offset) {
                                true => *number = 0,
                                false if *number != 0 => drop(model.insert(offset, *number)),
                                false => {}
                            }
                        }
                        pages.put_each(first, &numbers);
                    }
                    Step::Take(first, more, number) => {
                        let (range, mut taken) = (Range { first, last: first + more }, BTreeMap::new());
                        pages.take(&[range], |n| n <= number, |run, n| {
                            taken.extend((run.first..=run.last).map(|offset| (offset, n)));
                        });
                        let gone: BTreeMap<u64, u32> =
                            model.extract_if(first..=first + more, |_, n| *n <= number).collect();
                        prop_assert_eq!(taken, gone);
                    }
                    Step::TakeMany(first, count, number) => {
                        let ranges: Vec<Range> = (0..count).map(|n| Range::one(first + 3 * n)).collect();
                        let mut taken = BTreeMap::new();
                        pages.take(&ranges, |n| n == number, |run, n| taken.extend([(run.first, n)]));
                        let wanted = |o: &u64| *o >= first && (o - first).is_multiple_of(3) && o - first < 3 * count;
                        let gone: BTreeMap<u64, u32> =
                            model.extract_if(.., |o, n| wanted(o) && *n == number).collect();
                        prop_assert_eq!(taken, gone);
                    }
                }
                let each = |(run, n): (Range, u32)| (run.first..=run.last).map(move |offset| (offset, n));
                let all: BTreeMap<u64, u32> = pages.iter().flat_map(each).collect();
                prop_assert_eq!(&all, &model);
                let some: BTreeMap<u64, u32> =
                    pages.within(Range { first: probe, last: probe + 300 }).flat_map(each).collect();
                let expected: BTreeMap<u64, u32> = model.range(probe..=probe + 300).map(|(o, n)| (*o, *n)).collect();
                prop_assert_eq!(some, expected);
                prop_assert_eq!(pages.get(probe), model.get(&probe).copied().unwrap_or(0));
                prop_assert_eq!(pages.weight(), pages.pages.values().map(Page::weight).sum::<usize>());
                for page in pages.pages.values() {
                    let is_small = matches!(&page.form, Form::Runs(runs) if runs.len() <= RUNS_MAX);
                    prop_assert!(page.used > 0 && (is_small || page.used > SPARSE_MAX));
                }
            }
        }
    }
}
