//! A consumer group of kind `shared`: each message goes to one of the group's consumers.
//!
//! Invariant: every offset below `fresh` is in exactly one of four places: acked, leased (with a
//! consumer), again (to be delivered now), or delayed. Offsets from `fresh` on were never given
//! out, unless they are acked: their messages are gone. State is kept by range, so that a batch costs one entry and only the messages that were
//! settled out of order cost more.
//!
//! Deadlines run on a monotonic clock and are not durable: after a restart every message that was
//! not acked is deliverable again. Attempts that failed are durable ([`crate::journal`]).

use std::collections::{BTreeMap, BTreeSet};

use waypost_wire::data::Range;

use crate::ranges::RangeSet;

/// A consumer, unique while the node runs.
pub type ConsumerId = u64;

/// A range with the number of the attempt that it is at, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempted {
    /// Which offsets.
    pub range: Range,
    /// Which attempt: the one under way, or the next one for what waits.
    pub attempt: u32,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    last: u64,
    consumer: ConsumerId,
    attempt: u32,
    deadline: u64,
}

/// Ranges out of order that a group may have before it gets nothing new. Bounds its memory (64 B
/// each) and its snapshots (about 4 B each), whatever its consumers do.
const EXCEPTIONS_MAX: usize = 1 << 18;

/// The state of one group.
#[derive(Debug)]
pub struct Group {
    /// Every offset below is acked (or was never this group's).
    floor: u64,
    acked: RangeSet,
    fresh: u64,
    leases: BTreeMap<u64, Lease>,
    deadlines: BTreeSet<(u64, u64)>,
    again: BTreeMap<u64, (u64, u32)>,
    /// (due, first) to (last, attempt).
    delayed: BTreeMap<(u64, u64), (u64, u32)>,
    leased: u64,
    redelivered: u64,
}

impl Group {
    /// A group that begins at `start`.
    pub fn new(start: u64) -> Group {
        Group {
            floor: start,
            acked: RangeSet::new(),
            fresh: start,
            leases: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            again: BTreeMap::new(),
            delayed: BTreeMap::new(),
            leased: 0,
            redelivered: 0,
        }
    }

    /// A group as the journal tells it: acked ranges, and the attempts that unacked ones are at.
    pub fn recover(floor: u64, acked: RangeSet, attempts: &[Attempted]) -> Group {
        let mut group = Group::new(floor);
        group.acked = acked;
        group.raise_floor();
        let last_attempt = attempts.iter().map(|a| a.range.last);
        let known = group.acked.last().into_iter().chain(last_attempt).max();
        group.fresh = known.map_or(group.floor, |last| group.floor.max(last + 1));
        // Whatever lies between acks is due again; its attempt is the recorded one, or the first.
        let mut next = group.floor;
        let gaps: Vec<Range> = group
            .acked
            .iter()
            .chain([Range::one(group.fresh)])
            .filter_map(|acked| {
                let gap = (next < acked.first).then(|| Range {
                    first: next,
                    last: acked.first - 1,
                });
                next = acked.last.saturating_add(1);
                gap
            })
            .collect();
        for gap in gaps {
            group.put_again(gap, 1);
        }
        for attempted in attempts {
            group.set_attempt(*attempted);
        }
        group
    }

    /// Replaces the attempt of a waiting range, where it is still waiting.
    fn set_attempt(&mut self, attempted: Attempted) {
        for (range, _) in take_overlap(&mut self.again, attempted.range) {
            self.put_again(range, attempted.attempt);
        }
    }

    /// Every offset below this one is acked.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The first offset that was never given out.
    pub fn fresh(&self) -> u64 {
        self.fresh
    }

    /// Acked ranges above the floor.
    pub fn acked(&self) -> &RangeSet {
        &self.acked
    }

    /// How many messages are with consumers.
    pub fn in_flight(&self) -> u64 {
        self.leased
    }

    /// How many deliveries were not the first of their message, since the node started.
    pub fn redelivered(&self) -> u64 {
        self.redelivered
    }

    /// How many messages below `next_offset` are not acked.
    pub fn pending(&self, next_offset: u64) -> u64 {
        next_offset
            .saturating_sub(self.floor)
            .saturating_sub(self.acked.offsets())
    }

    /// Ranges whose attempt is known to be above the first, for a snapshot.
    pub fn attempts(&self) -> Vec<Attempted> {
        let leases = self
            .leases
            .iter()
            .map(|(&first, l)| (first, l.last, l.attempt));
        let again = self
            .again
            .iter()
            .map(|(&first, &(last, attempt))| (first, last, attempt));
        let delayed = self
            .delayed
            .iter()
            .map(|(&(_, first), &(last, attempt))| (first, last, attempt));
        let all = leases
            .chain(again)
            .chain(delayed)
            .filter(|(_, _, attempt)| *attempt > 1);
        all.map(|(first, last, attempt)| Attempted {
            range: Range { first, last },
            attempt,
        })
        .collect()
    }

    /// What would be delivered next, at most `count_max` messages below `end`: waiting ranges
    /// first, then fresh ones. Nothing changes until [`Group::lease`].
    pub fn next_run(&self, end: u64, count_max: u64) -> Option<Attempted> {
        if count_max == 0 {
            return None;
        }
        let cut = |first: u64, last: u64| Range {
            first,
            last: last.min(first.saturating_add(count_max - 1)),
        };
        if let Some((&first, &(last, attempt))) = self.again.first_key_value() {
            return Some(Attempted {
                range: cut(first, last),
                attempt,
            });
        }
        if self.again.len() + self.delayed.len() + self.acked.len() >= EXCEPTIONS_MAX {
            return None;
        }
        let (first, last) = self.next_fresh(end)?;
        Some(Attempted {
            range: cut(first, last),
            attempt: 1,
        })
    }

    /// The first stretch below `end` that was never given out and is not gone.
    fn next_fresh(&self, end: u64) -> Option<(u64, u64)> {
        let first = match self.acked.covering(self.fresh) {
            Some(gone) => gone.last.saturating_add(1),
            None => self.fresh,
        };
        let end = self
            .acked
            .next_from(first)
            .map_or(end, |next| end.min(next));
        (first < end).then(|| (first, end - 1))
    }

    /// Gives a range, which must be (the start of) the one that [`Group::next_run`] gave, to a
    /// consumer until `deadline`.
    pub fn lease(&mut self, consumer: ConsumerId, run: Attempted, deadline: u64) {
        let Range { first, last } = run.range;
        if first >= self.fresh {
            debug_assert!(
                first == self.fresh
                    || self.acked.covering(self.fresh).map(|r| r.last + 1) == Some(first)
            );
            self.fresh = last + 1;
        } else if let Some((end, attempt)) = self.again.remove(&first) {
            if end > last {
                self.again.insert(last + 1, (end, attempt));
            }
            if attempt > 1 {
                self.redelivered += run.range.count();
            }
        } else {
            debug_assert!(
                false,
                "lease of {first}, which is neither fresh nor waiting"
            );
            return;
        }
        self.put_lease(
            first,
            Lease {
                last,
                consumer,
                attempt: run.attempt,
                deadline,
            },
        );
    }

    /// Passes over a range that cannot be delivered (its data is damaged or gone): it counts as
    /// acked. The range must be the one that [`Group::next_run`] gave.
    pub fn skip(&mut self, run: Attempted) {
        self.lease(0, run, u64::MAX);
        self.ack(0, &[run.range]);
    }

    /// Marks as done what this consumer holds of `ranges`; gives what was newly done.
    pub fn ack(&mut self, consumer: ConsumerId, ranges: &[Range]) -> Vec<Range> {
        let mut done = Vec::with_capacity(ranges.len());
        for range in ranges {
            for held in self.take_held(consumer, *range) {
                self.acked.insert(held.range);
                done.push(held.range);
            }
        }
        self.raise_floor();
        done
    }

    /// Takes back what this consumer holds of `ranges`; each is due again at `due`, as the next
    /// attempt. Gives those ranges with that attempt.
    pub fn nack(
        &mut self,
        consumer: ConsumerId,
        ranges: &[Range],
        due: Option<u64>,
    ) -> Vec<Attempted> {
        let held = ranges
            .iter()
            .flat_map(|r| self.take_held(consumer, *r))
            .collect();
        self.put_back(held, due)
    }

    /// Takes back what this consumer holds of `ranges`, to be dead-lettered by the caller, who
    /// then calls [`Group::settle`] or [`Group::put_back`].
    pub fn take(&mut self, consumer: ConsumerId, ranges: &[Range]) -> Vec<Attempted> {
        ranges
            .iter()
            .flat_map(|r| self.take_held(consumer, *r))
            .collect()
    }

    /// Counts ranges that were taken as acked.
    pub fn settle(&mut self, taken: &[Attempted]) {
        taken.iter().for_each(|t| self.acked.insert(t.range));
        self.raise_floor();
    }

    /// Makes ranges that were taken due again, now or at `due`, as their next attempt.
    pub fn put_back(&mut self, taken: Vec<Attempted>, due: Option<u64>) -> Vec<Attempted> {
        let next = |t: Attempted| Attempted {
            attempt: t.attempt.saturating_add(1),
            ..t
        };
        let next: Vec<Attempted> = taken.into_iter().map(next).collect();
        for Attempted { range, attempt } in &next {
            match due {
                None => self.put_again(*range, *attempt),
                Some(due) => drop(
                    self.delayed
                        .insert((due, range.first), (range.last, *attempt)),
                ),
            }
        }
        next
    }

    /// Gives what this consumer holds of `ranges` a new deadline.
    pub fn extend(&mut self, consumer: ConsumerId, ranges: &[Range], deadline: u64) {
        for range in ranges {
            for held in self.take_held(consumer, *range) {
                let lease = Lease {
                    last: held.range.last,
                    consumer,
                    attempt: held.attempt,
                    deadline,
                };
                self.put_lease(held.range.first, lease);
            }
        }
    }

    /// Takes back everything that a consumer holds.
    pub fn take_all(&mut self, consumer: ConsumerId) -> Vec<Attempted> {
        let all = Range {
            first: 0,
            last: u64::MAX,
        };
        self.take_held(consumer, all)
    }

    /// Takes back every lease whose deadline has passed; says who held it.
    pub fn take_expired(&mut self, now: u64) -> Vec<(ConsumerId, Attempted)> {
        let mut expired = Vec::new();
        while let Some(&(deadline, first)) = self.deadlines.first()
            && deadline <= now
        {
            if let Some(lease) = self.remove_lease(first) {
                let range = Range {
                    first,
                    last: lease.last,
                };
                expired.push((
                    lease.consumer,
                    Attempted {
                        range,
                        attempt: lease.attempt,
                    },
                ));
            }
        }
        expired
    }

    /// Makes due what was delayed until now.
    pub fn wake_delayed(&mut self, now: u64) {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            let ((_, first), (last, attempt)) = entry.remove_entry();
            self.put_again(Range { first, last }, attempt);
        }
    }

    /// When [`Group::take_expired`] or [`Group::wake_delayed`] has something to do next.
    pub fn next_timeout(&self) -> Option<u64> {
        let deadline = self
            .deadlines
            .first()
            .map(|(at, _)| *at)
            .filter(|at| *at != u64::MAX);
        let due = self.delayed.first_key_value().map(|((at, _), _)| *at);
        deadline.into_iter().chain(due).min()
    }

    /// Counts everything below `offset` as acked: purged, or dropped by a limit.
    pub fn advance(&mut self, offset: u64) {
        if offset <= self.floor {
            return;
        }
        let below = Range {
            first: 0,
            last: offset - 1,
        };
        let firsts: Vec<u64> = self
            .leases
            .range(..offset)
            .map(|(first, _)| *first)
            .collect();
        for first in firsts {
            if let Some(lease) = self.remove_lease(first)
                && lease.last >= offset
            {
                self.put_lease(offset, lease);
            }
        }
        take_overlap(&mut self.again, below);
        let delayed = std::mem::take(&mut self.delayed);
        self.delayed = delayed
            .into_iter()
            .filter(|(_, (last, _))| *last >= offset)
            .map(|((due, first), value)| ((due, first.max(offset)), value))
            .collect();
        self.acked.remove_below(offset);
        self.floor = offset;
        self.fresh = self.fresh.max(offset);
        self.raise_floor();
    }

    /// Counts ranges as acked, whoever holds them: their messages are gone. What was never given out
    /// is passed over when its turn comes, because acked ranges are.
    pub fn remove(&mut self, ranges: &[Range]) {
        for range in ranges {
            let all: Vec<u64> = self.overlapping(*range);
            for first in all {
                let Some(lease) = self.remove_lease(first) else {
                    continue;
                };
                if first < range.first {
                    let last = range.first - 1;
                    self.put_lease(first, Lease { last, ..lease });
                }
                if lease.last > range.last {
                    self.put_lease(range.last + 1, lease);
                }
            }
            take_overlap(&mut self.again, *range);
            self.cut_delayed(*range);
            self.acked.insert(*range);
        }
        self.raise_floor();
    }

    /// The starts of leases that overlap a range.
    fn overlapping(&self, range: Range) -> Vec<u64> {
        let start = self
            .leases
            .range(..=range.first)
            .next_back()
            .map_or(range.first, |(first, _)| *first);
        let touched =
            |(first, lease): (&u64, &Lease)| (lease.last >= range.first).then_some(*first);
        self.leases
            .range(start..=range.last)
            .filter_map(touched)
            .collect()
    }

    fn cut_delayed(&mut self, cut: Range) {
        let touched: Vec<(u64, u64)> = self
            .delayed
            .iter()
            .filter(|((_, first), (last, _))| *first <= cut.last && *last >= cut.first)
            .map(|(key, _)| *key)
            .collect();
        for (due, first) in touched {
            let Some((last, attempt)) = self.delayed.remove(&(due, first)) else {
                continue;
            };
            if first < cut.first {
                self.delayed.insert((due, first), (cut.first - 1, attempt));
            }
            if last > cut.last {
                self.delayed.insert((due, cut.last + 1), (last, attempt));
            }
        }
    }

    fn put_lease(&mut self, first: u64, lease: Lease) {
        self.leased += lease.last - first + 1;
        self.deadlines.insert((lease.deadline, first));
        self.leases.insert(first, lease);
    }

    fn remove_lease(&mut self, first: u64) -> Option<Lease> {
        let lease = self.leases.remove(&first)?;
        self.deadlines.remove(&(lease.deadline, first));
        self.leased -= lease.last - first + 1;
        Some(lease)
    }

    /// Cuts out of the leases what `consumer` holds of `range`.
    fn take_held(&mut self, consumer: ConsumerId, range: Range) -> Vec<Attempted> {
        let start = self
            .leases
            .range(..=range.first)
            .next_back()
            .map_or(range.first, |(f, _)| *f);
        let touched = |(first, lease): (&u64, &Lease)| {
            (lease.consumer == consumer && lease.last >= range.first).then_some(*first)
        };
        let firsts: Vec<u64> = self
            .leases
            .range(start..=range.last)
            .filter_map(touched)
            .collect();
        let mut taken = Vec::with_capacity(firsts.len());
        for first in firsts {
            let Some(lease) = self.remove_lease(first) else {
                continue;
            };
            let cut = Range {
                first: first.max(range.first),
                last: lease.last.min(range.last),
            };
            if first < cut.first {
                self.put_lease(
                    first,
                    Lease {
                        last: cut.first - 1,
                        ..lease
                    },
                );
            }
            if cut.last < lease.last {
                self.put_lease(cut.last + 1, lease);
            }
            taken.push(Attempted {
                range: cut,
                attempt: lease.attempt,
            });
        }
        taken
    }

    fn put_again(&mut self, range: Range, attempt: u32) {
        self.again.insert(range.first, (range.last, attempt));
    }

    fn raise_floor(&mut self) {
        while let Some(range) = self.acked.pop_from(self.floor) {
            self.floor = self.floor.max(range.last + 1);
        }
        self.fresh = self.fresh.max(self.floor);
    }
}

/// Cuts what lies in `cut` out of a map of disjoint ranges; gives it.
fn take_overlap(map: &mut BTreeMap<u64, (u64, u32)>, cut: Range) -> Vec<(Range, u32)> {
    let start = map
        .range(..=cut.first)
        .next_back()
        .map_or(cut.first, |(first, _)| *first);
    let firsts: Vec<u64> = map
        .range(start..=cut.last)
        .filter(|(_, v)| v.0 >= cut.first)
        .map(|(f, _)| *f)
        .collect();
    let mut taken = Vec::with_capacity(firsts.len());
    for first in firsts {
        let Some((last, attempt)) = map.remove(&first) else {
            continue;
        };
        let part = Range {
            first: first.max(cut.first),
            last: last.min(cut.last),
        };
        if first < part.first {
            map.insert(first, (part.first - 1, attempt));
        }
        if part.last < last {
            map.insert(part.last + 1, (last, attempt));
        }
        taken.push((part, attempt));
    }
    taken
}

#[path = "group_time.rs"]
mod time;

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
