//! A group of a queue with priorities: an index says which message is next.
//!
//! With the index, every message that was looked at counts as given out once (it is below `fresh`);
//! what waits at its first attempt stands in the index alone.

use super::{Attempted, Group, Levels, Range};

impl Group {
    /// The first offset whose priority is not known; `None` where nothing is known.
    pub fn levels_end(&self) -> Option<u64> {
        self.levels.as_ref().map(|levels| levels.end())
    }

    /// Begins to go by priorities. Nothing is next until [`Group::push_levels`] was told about it.
    pub fn use_levels(&mut self) {
        let floor = self.floor;
        self.levels
            .get_or_insert_with(|| Box::new(Levels::new(floor)));
    }

    /// The priorities of the next messages that the index does not know. They may be delivered.
    pub fn push_levels(&mut self, priorities: impl Iterator<Item = u8>) {
        let Some(mut levels) = self.levels.take() else {
            return;
        };
        for level in priorities {
            let offset = levels.end();
            levels.push(level);
            if !self.is_due(offset) {
                levels.take(Range::one(offset));
            }
        }
        self.fresh = self.fresh.max(levels.end());
        self.levels = Some(levels);
    }

    /// The queue has no messages before `end` that the index does not know.
    pub fn skip_levels(&mut self, end: u64) {
        if let Some(levels) = &mut self.levels {
            levels.skip_to(end);
            self.fresh = self.fresh.max(end);
        }
    }

    /// Goes by offsets again.
    pub fn drop_levels(&mut self) {
        let Some(mut levels) = self.levels.take() else {
            return;
        };
        while let Some(range) = levels.next(u64::MAX) {
            levels.take(range);
            let mut rest = range;
            while rest.first <= rest.last {
                let run = self.waiting.attempt_of(rest);
                self.waiting.take(run.range);
                self.waiting.put(run, None);
                rest.first = run.range.last + 1;
            }
        }
    }

    /// Whether a message may be next: it is with nobody, waits for nothing, and is not done.
    fn is_due(&self, offset: u64) -> bool {
        if self.is_done(offset) {
            return false;
        }
        let is_fresh = offset >= self.fresh;
        is_fresh || !(self.held_until(offset).is_some() || self.waiting.is_delayed(offset))
    }

    pub(super) fn wait(&mut self, attempted: Attempted, due: Option<u64>) {
        if let (Some(levels), None) = (&mut self.levels, due) {
            levels.put_back(attempted.range);
        }
        self.waiting.put(attempted, due);
    }

    pub(super) fn take_level(&mut self, range: Range) {
        if let Some(levels) = &mut self.levels {
            levels.take(range);
        }
    }

    pub(super) fn trim_levels(&mut self) {
        if let Some(levels) = &mut self.levels {
            levels.trim(self.floor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::GroupKind;

    fn r(first: u64, last: u64) -> Range {
        Range { first, last }
    }

    fn next(group: &Group) -> Option<(Range, u32)> {
        group
            .next_run(u64::MAX, 9)
            .map(|run| (run.range, run.attempt))
    }

    fn lease(group: &mut Group) -> Range {
        let run = group.next_run(u64::MAX, 9).unwrap();
        group.lease(1, run, 90);
        run.range
    }

    #[test]
    fn higher_first_also_when_it_comes_again() {
        let mut group = Group::new(GroupKind::Shared, 0);
        group.use_levels();
        assert_eq!(next(&group), None);
        group.push_levels([0, 5, 5, 0, 5].into_iter());
        assert_eq!(lease(&mut group), r(1, 2));
        assert_eq!(lease(&mut group), r(4, 4));
        let failed = group.take(1, &[r(2, 2)]);
        group.put_back(failed, |_| None);
        assert_eq!(next(&group), Some((r(2, 2), 2)));
        let failed = group.take(1, &[r(4, 4)]);
        group.put_back(failed, |_| Some(70));
        assert_eq!(lease(&mut group), r(2, 2));
        assert_eq!(group.redelivered(), 1);
        assert_eq!(next(&group), Some((r(0, 0), 1)));
        group.wake_delayed(70);
        assert_eq!(next(&group), Some((r(4, 4), 2)));
        group.remove(&[r(4, 4)]);
        assert_eq!(lease(&mut group), r(0, 0));
        group.ack(1, &[r(0, 2)]);
        assert_eq!((group.floor(), next(&group)), (3, Some((r(3, 3), 1))));
    }

    #[test]
    fn an_index_that_is_made_later_knows_what_is_held_delayed_and_done() {
        let mut group = Group::new(GroupKind::Shared, 0);
        for _ in 0..4 {
            let run = group.next_run(9, 2).unwrap();
            group.lease(1, run, 90);
        }
        group.ack(1, &[r(1, 2)]);
        let failed = group.take(1, &[r(3, 3), r(6, 6)]);
        group.put_back(failed, |_| Some(70));
        let failed = group.take(1, &[r(4, 4)]);
        group.put_back(failed, |_| None);
        group.use_levels();
        group.push_levels([7; 10].into_iter());
        // 0, 5 and 7 are held, 1 and 2 done, 3 and 6 delayed.
        assert_eq!(next(&group), Some((r(4, 4), 2)));
        group.lease(1, group.next_run(9, 9).unwrap(), 90);
        assert_eq!(next(&group), Some((r(8, 9), 1)));
        group.wake_delayed(70);
        assert_eq!(next(&group), Some((r(3, 3), 2)));
        // And back to the order of offsets.
        group.drop_levels();
        let order: Vec<(Range, u32)> = std::iter::from_fn(|| {
            let run = group.next_run(9, 9)?;
            group.lease(1, run, 90);
            Some((run.range, run.attempt))
        })
        .collect();
        assert_eq!(order, [(r(3, 3), 2), (r(6, 6), 2), (r(8, 9), 1)]);
    }
}
