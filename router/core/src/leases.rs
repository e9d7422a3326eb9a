//! Which consumer of a group holds which messages, until when.
//!
//! Invariant: leases are disjoint ranges, and each is in all three indexes. So everything that a
//! consumer says of its own messages costs O(log n) for each lease that it touches, however many
//! others hold; ranges out of order only split what they cut.

use std::collections::{BTreeMap, BTreeSet};

use waypost_wire::data::Range;

use crate::group::{Attempted, ConsumerId};

/// A range that is with a consumer; its first offset is its key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub last: u64,
    pub consumer: ConsumerId,
    pub attempt: u32,
    /// In ms of the monotonic clock.
    pub deadline: u64,
}

/// The leases of one group.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    by_offset: BTreeMap<u64, Lease>,
    by_consumer: BTreeSet<(ConsumerId, u64)>,
    deadlines: BTreeMap<u64, Bucket>,
    offsets: u64,
}

/// Leases that end at the same moment: what is delivered together does.
#[derive(Debug, Default)]
struct Bucket {
    /// Where they begin; also such as are gone, or end at another moment by now.
    firsts: Vec<u64>,
    /// How many of them are neither.
    live: usize,
}

/// Dead entries that a bucket may have whatever it holds; beyond, they are at most three in four.
const BUCKET_SLACK: usize = 64;

impl Leases {
    /// How many offsets are leased.
    pub fn offsets(&self) -> u64 {
        self.offsets
    }

    /// Each range and the attempt that it is at.
    pub fn iter(&self) -> impl Iterator<Item = Attempted> + '_ {
        self.by_offset
            .iter()
            .map(|(&first, lease)| attempted(first, lease.last, lease.attempt))
    }

    /// The last offset of the lease that `offset` is in.
    pub fn held_until(&self, offset: u64) -> Option<u64> {
        let (_, lease) = self.by_offset.range(..=offset).next_back()?;
        (lease.last >= offset).then_some(lease.last)
    }

    /// Who holds how many offsets of a range.
    pub fn holders(&self, range: Range) -> Vec<(ConsumerId, u64)> {
        let part = |(&first, lease): (&u64, &Lease)| {
            let (from, to) = (first.max(range.first), lease.last.min(range.last));
            (from <= to).then(|| (lease.consumer, to - from + 1))
        };
        self.by_offset
            .range(self.start_of(range)..=range.last)
            .filter_map(part)
            .collect()
    }

    /// Where a walk over the leases that overlap a range begins.
    fn start_of(&self, range: Range) -> u64 {
        let before = self.by_offset.range(..=range.first).next_back();
        before.map_or(range.first, |(first, _)| *first)
    }

    /// Adds a lease of offsets that are in none.
    pub fn put(&mut self, first: u64, lease: Lease) {
        self.offsets += lease.last - first + 1;
        let bucket = self.deadlines.entry(lease.deadline).or_default();
        bucket.firsts.push(first);
        bucket.live += 1;
        self.by_consumer.insert((lease.consumer, first));
        self.by_offset.insert(first, lease);
    }

    fn remove(&mut self, first: u64) -> Option<Lease> {
        let lease = self.by_offset.remove(&first)?;
        self.leave_bucket(lease.deadline);
        self.by_consumer.remove(&(lease.consumer, first));
        self.offsets -= lease.last - first + 1;
        Some(lease)
    }

    /// One of a bucket's leases is gone, from [`Leases::by_offset`] too.
    fn leave_bucket(&mut self, deadline: u64) {
        let Some(bucket) = self.deadlines.get_mut(&deadline) else {
            return;
        };
        bucket.live -= 1;
        if bucket.live == 0 {
            self.deadlines.remove(&deadline);
        } else if bucket.firsts.len() > 4 * bucket.live + BUCKET_SLACK {
            // One that was cut and put back stands there twice.
            let by_offset = &self.by_offset;
            let ends_here =
                |first: &u64| by_offset.get(first).is_some_and(|l| l.deadline == deadline);
            bucket.firsts.retain(ends_here);
            bucket.firsts.sort_unstable();
            bucket.firsts.dedup();
        }
    }

    /// Ends what `consumer` holds of `range`; gives it, in order.
    pub fn take(&mut self, consumer: ConsumerId, range: Range) -> Vec<Attempted> {
        // Most words are of messages that one lease holds.
        if let Some((&first, lease)) = self.by_offset.range(..=range.first).next_back()
            && lease.last >= range.last
        {
            return match lease.consumer == consumer {
                true => self.cut_out(&[first], range),
                false => Vec::new(),
            };
        }
        let start = self
            .by_consumer
            .range((consumer, 0)..=(consumer, range.first))
            .next_back()
            .map_or(range.first, |(_, first)| *first);
        let firsts: Vec<u64> = self
            .by_consumer
            .range((consumer, start)..=(consumer, range.last))
            .map(|(_, first)| *first)
            .collect();
        self.cut_out(&firsts, range)
    }

    /// Ends what anybody holds of `range`; gives it, in order.
    pub fn take_from_all(&mut self, range: Range) -> Vec<Attempted> {
        let firsts: Vec<u64> = self
            .by_offset
            .range(self.start_of(range)..=range.last)
            .map(|(first, _)| *first)
            .collect();
        self.cut_out(&firsts, range)
    }

    fn cut_out(&mut self, firsts: &[u64], range: Range) -> Vec<Attempted> {
        let mut taken = Vec::with_capacity(firsts.len());
        for &first in firsts {
            let is_touched = |lease: &Lease| lease.last >= range.first;
            if !self.by_offset.get(&first).is_some_and(is_touched) {
                continue;
            }
            let Some(lease) = self.remove(first) else {
                continue;
            };
            let cut = attempted(
                first.max(range.first),
                lease.last.min(range.last),
                lease.attempt,
            );
            if first < cut.range.first {
                let last = cut.range.first - 1;
                self.put(first, Lease { last, ..lease });
            }
            if cut.range.last < lease.last {
                self.put(cut.range.last + 1, lease);
            }
            taken.push(cut);
        }
        taken
    }

    /// Ends every lease whose deadline has passed; says who held it.
    pub fn take_expired(&mut self, now: u64) -> Vec<(ConsumerId, Attempted)> {
        let mut expired = Vec::new();
        while let Some((&deadline, bucket)) = self.deadlines.first_key_value()
            && deadline <= now
        {
            let mut firsts = bucket.firsts.clone();
            firsts.sort_unstable();
            firsts.dedup();
            for first in firsts {
                let ends_now = |lease: &Lease| lease.deadline == deadline;
                if self.by_offset.get(&first).is_some_and(ends_now)
                    && let Some(lease) = self.remove(first)
                {
                    let range = attempted(first, lease.last, lease.attempt);
                    expired.push((lease.consumer, range));
                }
            }
            // All of them are gone, and the bucket with the last.
            self.deadlines.remove(&deadline);
        }
        expired
    }

    /// When the first deadline passes, if one does.
    pub fn next_deadline(&self) -> Option<u64> {
        let first = self.deadlines.first_key_value().map(|(at, _)| *at);
        first.filter(|at| *at != u64::MAX)
    }
}

fn attempted(first: u64, last: u64, attempt: u32) -> Attempted {
    Attempted {
        range: Range { first, last },
        attempt,
    }
}
