//! What a group was given back, or passed over, and will deliver: at once, or when its time has
//! come.
//!
//! What is due is a set; attempts are kept of what is above its first. What waits for the same
//! moment and attempt is one lot. Invariant: no offset is due and delayed, and each lot of `delayed`
//! is in `dues` under what is said of it.

use std::collections::BTreeMap;

use waypost_wire::data::Range;
use waypost_wire::ranges::RangeSet;

use crate::group::Attempted;
use crate::lots::{LotId, Lots};
use crate::pages::Pages;

/// When a delayed message is due, and its next attempt.
type Delayed = (u64, u32);

/// The waiting messages of one group.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Due now.
    due: RangeSet,
    /// The next attempt of what is due now, or was passed over in a `key` group, where it is not the
    /// first.
    attempts: Pages,
    delayed: Lots<Delayed>,
    dues: BTreeMap<Delayed, LotId>,
    /// What is delayed and was delivered before.
    retries: RangeSet,
}

impl Waiting {
    /// How many entries it takes, of about 64 bytes at most; those for attempts of what is due are
    /// not counted.
    pub fn len(&self) -> usize {
        self.due.len() + self.delayed.weight()
    }

    /// Runs of messages whose next attempt is not the first.
    pub fn retried(&self) -> impl Iterator<Item = Attempted> + '_ {
        let due = self.attempts.iter();
        let due = due.map(|(range, attempt)| Attempted { range, attempt });
        let delayed = self.delayed.iter().map(|(range, (_, attempt))| Attempted {
            range,
            attempt: *attempt,
        });
        due.chain(delayed.filter(|delayed| delayed.attempt > 1))
    }

    /// Adds a message whose turn comes with its key's.
    pub fn park(&mut self, offset: u64, attempt: u32) {
        if attempt > 1 {
            self.attempts.put(&[Range::one(offset)], attempt);
        }
    }

    /// The first messages that are due now, at one attempt.
    pub fn first(&self) -> Option<Attempted> {
        let first = self.due.first()?;
        Some(self.attempt_of(self.due.covering(first)?))
    }

    /// What of a range is due now.
    pub fn due_within(&self, range: Range) -> Vec<Range> {
        self.due.within(range).collect()
    }

    /// The lowest offset that was delivered before and waits for its time.
    pub fn first_retry(&self) -> Option<u64> {
        self.retries.first()
    }

    /// Adds a range that is due now, or at `due`.
    pub fn put(&mut self, waiting: Attempted, due: Option<u64>) {
        let Attempted { range, attempt } = waiting;
        let Some(due) = due else {
            self.due.insert(range);
            if attempt > 1 {
                self.attempts.put(&[range], attempt);
            }
            return;
        };
        if attempt > 1 {
            self.retries.insert(range);
        }
        let delayed = (due, attempt);
        match self.dues.get(&delayed) {
            Some(id) => self.delayed.add(*id, &[range]),
            None => {
                let id = self.delayed.open(delayed, &[range]);
                self.dues.insert(delayed, id);
            }
        }
    }

    /// The next attempt of a message that is due now or was passed over.
    pub fn attempt(&self, offset: u64) -> u32 {
        self.attempts.get(offset).max(1)
    }

    /// The next attempt of any message that waits and was tried before.
    pub fn retry(&self, offset: u64) -> Option<u32> {
        let delayed = self.delayed.get(offset).map(|(_, attempt)| *attempt);
        delayed.or_else(|| Some(self.attempts.get(offset)).filter(|attempt| *attempt > 0))
    }

    /// Takes out what is due now in `range`, parked or not.
    pub fn take(&mut self, range: Range) {
        self.due.remove(range);
        if !self.attempts.is_empty() {
            self.attempts.take(&[range], |_| true, |_, _| {});
        }
    }

    /// The start of `range` that is at one attempt: what is due here, or at the first otherwise.
    pub fn attempt_of(&self, range: Range) -> Attempted {
        let Range { first, last } = range;
        let until = |last| Range { first, last };
        match self.attempts.within(range).next() {
            None => Attempted { range, attempt: 1 },
            Some((run, attempt)) if run.first == first => Attempted {
                range: until(run.last.min(last)),
                attempt,
            },
            Some((run, _)) => Attempted {
                range: until(run.first - 1),
                attempt: 1,
            },
        }
    }

    /// Whether an offset waits for its time.
    pub fn is_delayed(&self, offset: u64) -> bool {
        self.delayed.get(offset).is_some()
    }

    /// Forgets everything in ranges, due or not.
    pub fn forget(&mut self, ranges: &[Range]) {
        ranges.iter().for_each(|range| self.take(*range));
        if !self.delayed.is_empty() {
            self.take_delayed(ranges);
        }
    }

    fn take_delayed(&mut self, ranges: &[Range]) -> Vec<Attempted> {
        let mut taken = Vec::new();
        let emptied = self.delayed.take(
            ranges,
            |_| true,
            |range, (_, attempt)| {
                let attempt = *attempt;
                taken.push(Attempted { range, attempt });
            },
        );
        for id in emptied {
            if let Some(delayed) = self.delayed.close(id) {
                self.dues.remove(&delayed);
            }
        }
        let retries = taken.iter().filter(|taken| taken.attempt > 1);
        retries.for_each(|taken| self.retries.remove(taken.range));
        taken
    }

    /// Takes out what was delayed until now.
    pub fn take_due(&mut self, now: u64) -> Vec<Attempted> {
        let mut taken = Vec::new();
        while let Some(entry) = self.dues.first_entry()
            && entry.key().0 <= now
        {
            let members = self.delayed.members(entry.remove());
            taken.extend(self.take_delayed(&members));
        }
        taken
    }

    /// When [`Waiting::take_due`] has something next.
    pub fn next_due(&self) -> Option<u64> {
        self.dues.first_key_value().map(|((due, _), _)| *due)
    }
}
