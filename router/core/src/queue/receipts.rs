//! What a queue's producers are told of: by group, and when a message goes away.
//!
//! A message is done with, for its producer, when it is gone or every group that is there is done
//! with it, and some group was. Nothing changes here: the entries that are given back are written in
//! one set with what they tell of, and applied then.

use std::collections::BTreeMap;

use waypost_wire::data::{Outcome, Range};
use waypost_wire::ranges::RangeSet;

use crate::journal::Entry;
use crate::queue::{NamedGroup, Queue};
use crate::receipts::Book;

impl Queue {
    /// The receipts of its messages.
    pub fn receipts(&self) -> &Book {
        &self.receipts
    }

    /// The same, to be told what was asked for and what was told.
    pub fn receipts_mut(&mut self) -> &mut Book {
        &mut self.receipts
    }

    /// A group is, or will be, done with these offsets; `too` is what groups are done with in the
    /// same set. Gives the entries to write.
    pub fn receipts_settled(
        &self,
        group: &str,
        ranges: &[Range],
        outcome: Outcome,
        too: &[(&str, &[Range])],
    ) -> Vec<Entry> {
        if self.receipts.is_empty() {
            return Vec::new();
        }
        let asked = offsets(&self.receipts.asked_in(ranges));
        let is_other = |(name, _): &(&String, &NamedGroup)| *name != group;
        let is_last = |offset: &u64| {
            let mut others = self.groups.iter().filter(is_other);
            others.all(|(name, named)| named.group.is_done(*offset) || is_in(too, name, *offset))
        };
        let (last, others) = asked.into_iter().partition(is_last);
        let entries = [
            settled(group, others, outcome, false),
            settled(group, last, outcome, true),
        ];
        entries.into_iter().flatten().collect()
    }

    /// A group goes, or is moved to `to`: what lies below and it is not done with. Gives the
    /// entries to write. What no group is left for waits for the next one.
    pub fn receipts_left(&self, group: &str, to: u64, outcome: Outcome) -> Vec<Entry> {
        let below = to.checked_sub(1).map(|last| Range { first: 0, last });
        let (Some(below), Some(named)) = (below, self.groups.get(group)) else {
            return Vec::new();
        };
        let mut left = offsets(&self.receipts.asked_in(&[below]));
        left.retain(|offset| !named.group.is_done(*offset));
        match outcome == Outcome::Removed && self.groups.len() == 1 {
            true => Vec::from_iter(settled(group, left, outcome, false)),
            false => self.receipts_settled(group, &ranges(left), outcome, &[]),
        }
    }

    /// These offsets are about to be gone for all groups. Gives the entries to write.
    pub fn receipts_lost(&self, gone: &[Range], outcome: Outcome) -> Vec<Entry> {
        if self.receipts.is_empty() {
            return Vec::new();
        }
        let asked = offsets(&self.receipts.asked_in(gone));
        // For each group what it misses; what no group behind it does comes after all else, since it
        // closes.
        let mut missed: BTreeMap<(bool, String), Vec<u64>> = BTreeMap::new();
        for offset in asked {
            let misses = |(_, named): &(&String, &NamedGroup)| !named.group.is_done(offset);
            let mut groups = self.groups.iter().filter(misses).peekable();
            if groups.peek().is_none() {
                let nobody = (true, String::new());
                missed.entry(nobody).or_default().push(offset);
            }
            while let Some((name, _)) = groups.next() {
                let key = (groups.peek().is_none(), name.clone());
                missed.entry(key).or_default().push(offset);
            }
        }
        let each = missed.into_iter();
        each.filter_map(|((is_last, group), offsets)| settled(&group, offsets, outcome, is_last))
            .collect()
    }
}

fn settled(group: &str, offsets: Vec<u64>, outcome: Outcome, is_last: bool) -> Option<Entry> {
    (!offsets.is_empty()).then(|| Entry::Settled {
        group: group.into(),
        outcome,
        is_last,
        ranges: ranges(offsets),
    })
}

fn is_in(sets: &[(&str, &[Range])], group: &str, offset: u64) -> bool {
    let mut of_group = sets.iter().filter(|(name, _)| *name == group);
    of_group.any(|(_, ranges)| ranges.iter().any(|r| r.first <= offset && offset <= r.last))
}

fn offsets(ranges: &[Range]) -> Vec<u64> {
    ranges.iter().flat_map(|r| r.first..=r.last).collect()
}

fn ranges(offsets: Vec<u64>) -> Vec<Range> {
    let mut set = RangeSet::new();
    offsets.into_iter().for_each(|o| set.insert(Range::one(o)));
    set.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::GroupOptions;
    use crate::queue::Recovering;
    use crate::receipts::AskedRun;
    use crate::settings::Settings;

    const P: [u8; 16] = [1; 16];

    /// Ten messages of which all were asked for, and these groups.
    fn queue(groups: &[&str]) -> (Queue, Vec<Entry>) {
        let mut queue = Queue::new("q", Settings::default());
        let mut entries: Vec<Entry> = Vec::new();
        for group in groups {
            entries.extend(queue.add_group(group, 0, GroupOptions::default()));
        }
        queue.append(10, 10);
        queue.set_visible();
        let range = Range { first: 0, last: 9 };
        let asked = Entry::Asked {
            producer: P,
            runs: vec![AskedRun { range, sequence: 1 }],
        };
        queue.apply(&asked);
        entries.push(asked);
        (queue, entries)
    }

    fn apply(queue: &mut Queue, entries: Vec<Entry>) -> Vec<Entry> {
        entries.iter().for_each(|entry| queue.apply(entry));
        entries
    }

    fn said(queue: &mut Queue) -> Vec<(String, Outcome, u64, u64)> {
        queue.receipts.set_synced();
        let runs = queue.receipts.untold(&P, 0, u64::MAX);
        let each = runs.into_iter();
        each.map(|o| (o.group.to_string(), o.outcome, o.sequence, o.count))
            .collect()
    }

    fn done(queue: &mut Queue, group: &str, range: Range) {
        let run = queue.next_run(group, range.count()).unwrap();
        queue.group_mut(group).unwrap().group.lease(1, run, 9);
        queue.ack(group, 1, &[range]).unwrap();
    }

    #[test]
    fn each_group_is_told_of_and_the_last_one_closes() {
        let (mut queue, mut entries) = queue(&["a", "b"]);
        let range = Range { first: 0, last: 3 };
        done(&mut queue, "a", range);
        let settled = queue.receipts_settled("a", &[range], Outcome::Acked, &[]);
        entries.extend(apply(&mut queue, settled));
        let more = Range { first: 2, last: 9 };
        done(&mut queue, "b", Range { first: 0, last: 9 });
        let settled = queue.receipts_settled("b", &[more], Outcome::DeadLettered, &[]);
        entries.extend(apply(&mut queue, settled));
        let all = Range { first: 0, last: 99 };
        let left = [Range { first: 0, last: 1 }, Range { first: 4, last: 9 }];
        assert_eq!(
            ranges(offsets(&queue.receipts.asked_in(&[all]))),
            left,
            "a is not done with what lies behind, b was not told of the first"
        );
        let lost = queue.receipts_lost(&[Range { first: 5, last: 6 }], Outcome::Expired);
        entries.extend(apply(&mut queue, lost));
        let expected = [
            ("a".to_owned(), Outcome::Acked, 1, 4),
            ("b".to_owned(), Outcome::DeadLettered, 5, 6),
            ("b".to_owned(), Outcome::DeadLettered, 3, 2),
            ("a".to_owned(), Outcome::Expired, 6, 2),
        ];
        assert_eq!(said(&mut queue), expected);
        // The journal says the same.
        let mut again = Recovering::new("q", Settings::default());
        again.messages(0, 10);
        for entry in entries {
            let bytes = entry.encode();
            again.entry(Entry::decode(&bytes).unwrap());
        }
        let mut again = again.finish();
        assert_eq!(again.receipts.snapshot(), queue.receipts.snapshot());
        assert_eq!(said(&mut again), expected);
    }

    #[test]
    fn groups_that_are_done_in_one_set_close_it_once() {
        let (mut queue, _) = queue(&["a", "b"]);
        let range = [Range { first: 0, last: 1 }];
        let first = queue.receipts_settled("a", &range, Outcome::Acked, &[]);
        let too: [(&str, &[Range]); 1] = [("a", &range)];
        let second = queue.receipts_settled("b", &range, Outcome::Acked, &too);
        apply(&mut queue, [first, second].concat());
        assert_eq!(queue.receipts.asked(&P), 8);
        let runs = queue.receipts.snapshot().1[0].owed.clone();
        let last: Vec<(&str, bool)> = runs.iter().map(|o| (&*o.group, o.is_last)).collect();
        assert_eq!(last, [("a", false), ("b", true)]);
    }

    #[test]
    fn without_groups_nothing_is_told_until_one_comes_or_the_message_goes() {
        let (mut queue, _) = queue(&[]);
        let lost = queue.receipts_lost(&[Range::one(0)], Outcome::Dropped);
        apply(&mut queue, lost);
        queue.add_group("g", 0, GroupOptions::default());
        let left = queue.receipts_left("g", 3, Outcome::Passed);
        assert_eq!(apply(&mut queue, left).len(), 1);
        let left = queue.receipts_left("g", 10, Outcome::Removed);
        apply(&mut queue, left);
        queue.remove_group("g");
        assert_eq!(
            queue.receipts.outstanding(&P),
            7 + 10,
            "they wait for another"
        );
        assert_eq!(
            said(&mut queue),
            [
                (String::new(), Outcome::Dropped, 1, 1),
                ("g".to_owned(), Outcome::Passed, 2, 2),
                ("g".to_owned(), Outcome::Removed, 4, 7),
            ]
        );
    }
}
