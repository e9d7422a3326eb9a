//! What a group was given back, or passed over, and will deliver: at once, or when its time has
//! come.
//!
//! Invariant: all ranges are disjoint, and the indexes of `delayed` are its own.

use std::collections::{BTreeMap, BTreeSet};

use waypost_wire::data::Range;

use crate::group::Attempted;

#[derive(Clone, Copy, Debug)]
struct Delayed {
    last: u64,
    attempt: u32,
    due: u64,
}

/// The waiting messages of one group.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// First offset to (last, attempt): due now.
    again: BTreeMap<u64, (u64, u32)>,
    /// Offset to attempt: passed over in a `key` group; their turn comes with their key's.
    parked: BTreeMap<u64, u32>,
    /// By first offset.
    delayed: BTreeMap<u64, Delayed>,
    /// (due, first).
    dues: BTreeSet<(u64, u64)>,
    /// The firsts of what is delayed and was delivered before.
    retries: BTreeSet<u64>,
}

impl Waiting {
    /// How many ranges wait.
    pub fn len(&self) -> usize {
        self.again.len() + self.delayed.len()
    }

    /// Each range and its next attempt.
    pub fn iter(&self) -> impl Iterator<Item = Attempted> + '_ {
        let again = self
            .again
            .iter()
            .map(|(&first, &(last, attempt))| attempted(first, last, attempt));
        let delayed = self
            .delayed
            .iter()
            .map(|(&first, d)| attempted(first, d.last, d.attempt));
        let parked = self
            .parked
            .iter()
            .map(|(&offset, &attempt)| attempted(offset, offset, attempt));
        again.chain(delayed).chain(parked)
    }

    /// Adds a message whose turn comes with its key's.
    pub fn park(&mut self, offset: u64, attempt: u32) {
        self.parked.insert(offset, attempt);
    }

    /// The first range that is due now.
    pub fn first(&self) -> Option<Attempted> {
        let (&first, &(last, attempt)) = self.again.first_key_value()?;
        Some(attempted(first, last, attempt))
    }

    /// The lowest offset that was delivered before and waits for its time.
    pub fn first_retry(&self) -> Option<u64> {
        self.retries.first().copied()
    }

    /// Adds a range that is due now, or at `due`.
    pub fn put(&mut self, waiting: Attempted, due: Option<u64>) {
        let Attempted {
            range: Range { first, last },
            attempt,
        } = waiting;
        match due {
            None => drop(self.again.insert(first, (last, attempt))),
            Some(due) => self.put_delayed(first, Delayed { last, attempt, due }),
        }
    }

    fn put_delayed(&mut self, first: u64, delayed: Delayed) {
        self.dues.insert((delayed.due, first));
        if delayed.attempt > 1 {
            self.retries.insert(first);
        }
        self.delayed.insert(first, delayed);
    }

    fn remove_delayed(&mut self, first: u64) -> Option<Delayed> {
        let delayed = self.delayed.remove(&first)?;
        self.dues.remove(&(delayed.due, first));
        self.retries.remove(&first);
        Some(delayed)
    }

    /// The attempt that a parked message is at.
    pub fn parked_attempt(&self, offset: u64) -> u32 {
        self.parked.get(&offset).copied().unwrap_or(1)
    }

    /// Takes out what is due now in `range`, parked or not.
    pub fn take(&mut self, range: Range) -> Vec<Attempted> {
        let mut taken = self.take_again(range);
        if !self.parked.is_empty() {
            let parked = self
                .parked
                .extract_if(range.first..=range.last, |_, _| true);
            taken.extend(parked.map(|(offset, attempt)| attempted(offset, offset, attempt)));
        }
        taken
    }

    fn take_again(&mut self, range: Range) -> Vec<Attempted> {
        let start = start_of(&self.again, range);
        let firsts: Vec<u64> = self
            .again
            .range(start..=range.last)
            .filter(|(_, (last, _))| *last >= range.first)
            .map(|(first, _)| *first)
            .collect();
        let mut taken = Vec::with_capacity(firsts.len());
        for first in firsts {
            let Some((last, attempt)) = self.again.remove(&first) else {
                continue;
            };
            let part = attempted(first.max(range.first), last.min(range.last), attempt);
            if first < part.range.first {
                self.again.insert(first, (part.range.first - 1, attempt));
            }
            if part.range.last < last {
                self.again.insert(part.range.last + 1, (last, attempt));
            }
            taken.push(part);
        }
        taken
    }

    /// The start of `range` that is at one attempt: what is due here, or at the first otherwise.
    pub fn attempt_of(&self, range: Range) -> Attempted {
        let Range { first, last } = range;
        let here = self.again.range(..=first).next_back();
        if let Some((_, (end, attempt))) = here.filter(|(_, (end, _))| *end >= first) {
            return attempted(first, last.min(*end), *attempt);
        }
        let next = self
            .again
            .range(first..=last)
            .next()
            .map(|(next, _)| next - 1);
        attempted(first, next.unwrap_or(last), 1)
    }

    /// Whether an offset waits for its time.
    pub fn is_delayed(&self, offset: u64) -> bool {
        let before = self.delayed.range(..=offset).next_back();
        before.is_some_and(|(_, delayed)| delayed.last >= offset)
    }

    /// Forgets everything in `range`, due or not.
    pub fn forget(&mut self, range: Range) {
        self.take(range);
        let start = start_of(&self.delayed, range);
        let firsts: Vec<u64> = self
            .delayed
            .range(start..=range.last)
            .filter(|(_, delayed)| delayed.last >= range.first)
            .map(|(first, _)| *first)
            .collect();
        for first in firsts {
            let Some(delayed) = self.remove_delayed(first) else {
                continue;
            };
            if first < range.first {
                let last = range.first - 1;
                self.put_delayed(first, Delayed { last, ..delayed });
            }
            if delayed.last > range.last {
                self.put_delayed(range.last + 1, delayed);
            }
        }
    }

    /// Takes out what was delayed until now.
    pub fn take_due(&mut self, now: u64) -> Vec<Attempted> {
        let mut taken = Vec::new();
        while let Some(&(due, first)) = self.dues.first()
            && due <= now
        {
            if let Some(delayed) = self.remove_delayed(first) {
                taken.push(attempted(first, delayed.last, delayed.attempt));
            }
        }
        taken
    }

    /// When [`Waiting::take_due`] has something next.
    pub fn next_due(&self) -> Option<u64> {
        self.dues.first().map(|(at, _)| *at)
    }
}

/// Where a walk over what overlaps `range` begins.
fn start_of<T>(map: &BTreeMap<u64, T>, range: Range) -> u64 {
    map.range(..=range.first)
        .next_back()
        .map_or(range.first, |(first, _)| *first)
}

fn attempted(first: u64, last: u64, attempt: u32) -> Attempted {
    Attempted {
        range: Range { first, last },
        attempt,
    }
}
