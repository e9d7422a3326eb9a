//! Which consumer of a group holds which messages, until when.
//!
//! A lease is a set of offsets: what one consumer was given at once, at one attempt, whatever
//! offsets those are. Invariant: leases are disjoint, and each is in both indexes. So what a consumer
//! says of its own messages costs a look for each page that it touches and a step for each message,
//! however many others hold and however their messages lie between.

use std::collections::BTreeSet;

use waypost_wire::data::Range;

use crate::group::{Attempted, ConsumerId};
use crate::lots::{LotId, Lots};

/// What is said of the messages of a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub consumer: ConsumerId,
    pub attempt: u32,
    /// In ms of the monotonic clock.
    pub deadline: u64,
    /// No message of it has a lower offset.
    pub first: u64,
}

/// Offsets that a range may have to be looked through; a longer one is looked for in what its
/// consumer holds.
const NARROW: u64 = 4096;

/// The leases of one group.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    lots: Lots<Lease>,
    /// In order of their first offsets.
    by_consumer: BTreeSet<(ConsumerId, u64, LotId)>,
    deadlines: BTreeSet<(u64, LotId)>,
    offsets: u64,
}

impl Leases {
    /// How many offsets are leased.
    pub fn offsets(&self) -> u64 {
        self.offsets
    }

    /// Runs of messages that are at another attempt than the first.
    pub fn retried(&self) -> impl Iterator<Item = Attempted> + '_ {
        let retried = self.lots.iter().filter(|(_, lease)| lease.attempt > 1);
        retried.map(|(range, lease)| attempted(range, lease))
    }

    /// The attempt that a message is at, if somebody holds it.
    pub fn attempt(&self, offset: u64) -> Option<u32> {
        Some(self.lots.get(offset)?.attempt)
    }

    /// Whether somebody holds a message.
    pub fn is_held(&self, offset: u64) -> bool {
        self.lots.get(offset).is_some()
    }

    /// The last offset of those from `offset` on that its holder holds, as far as they lie together.
    /// It may hold more than [`NARROW`] behind them.
    pub fn held_until(&self, offset: u64) -> Option<u64> {
        let holder = self.lots.get(offset)?.consumer;
        let last = offset.saturating_add(NARROW);
        let mut until = offset;
        for (run, lease) in self.lots.within(Range {
            first: offset,
            last,
        }) {
            if run.first > until.saturating_add(1) || lease.consumer != holder {
                break;
            }
            until = run.last;
        }
        Some(until)
    }

    /// Who holds how many offsets of a range.
    pub fn holders(&self, range: Range) -> Vec<(ConsumerId, u64)> {
        let mut holders: Vec<(ConsumerId, u64)> = Vec::new();
        for (run, lease) in self.lots.within(range) {
            match holders.last_mut() {
                Some((consumer, count)) if *consumer == lease.consumer => *count += run.count(),
                _ => holders.push((lease.consumer, run.count())),
            }
        }
        holders
    }

    /// Adds leases of offsets that are in none; what is at one attempt side by side is one lease.
    pub fn put(&mut self, consumer: ConsumerId, runs: &[Attempted], deadline: u64) {
        let mut rest = runs;
        while let Some(Attempted { attempt, .. }) = rest.first().copied() {
            let alike = rest.iter().take_while(|run| run.attempt == attempt).count();
            let (these, later) = rest.split_at(alike);
            let ranges: Vec<Range> = these.iter().map(|run| run.range).collect();
            let first = ranges.iter().map(|range| range.first).min().unwrap_or(0);
            let lease = Lease {
                consumer,
                attempt,
                deadline,
                first,
            };
            self.offsets += ranges.iter().map(Range::count).sum::<u64>();
            let id = self.lots.open(lease, &ranges);
            self.by_consumer.insert((consumer, first, id));
            self.deadlines.insert((deadline, id));
            rest = later;
        }
    }

    /// Ends what `consumer` holds of ranges; gives it, in their order.
    pub fn take(&mut self, consumer: ConsumerId, ranges: &[Range]) -> Vec<Attempted> {
        let is_wide = |range: &Range| range.last - range.first >= NARROW;
        if !ranges.iter().any(is_wide) {
            return self.take_if(ranges, |lease| lease.consumer == consumer);
        }
        // Others may hold far more of it; what it holds behind it is not looked at.
        let last = ranges.iter().map(|range| range.last).max().unwrap_or(0);
        let lots = (consumer, 0, 0)..=(consumer, last, LotId::MAX);
        let lots = self.by_consumer.range(lots);
        let mut held: Vec<Range> = lots.flat_map(|(.., id)| self.lots.members(*id)).collect();
        held.sort_unstable();
        let mut taken = Vec::new();
        for range in ranges {
            let from = held.partition_point(|held| held.last < range.first);
            let upto = held.partition_point(|held| held.first <= range.last);
            let cut = |held: &Range| Range {
                first: held.first.max(range.first),
                last: held.last.min(range.last),
            };
            let parts: Vec<Range> = held
                .get(from..upto)
                .into_iter()
                .flatten()
                .map(cut)
                .collect();
            taken.extend(self.take_if(&parts, |lease| lease.consumer == consumer));
        }
        taken
    }

    /// Ends what anybody holds of ranges.
    pub fn end(&mut self, ranges: &[Range]) {
        if !self.lots.is_empty() {
            self.take_if(ranges, |_| true);
        }
    }

    fn take_if(&mut self, ranges: &[Range], wanted: impl Fn(&Lease) -> bool) -> Vec<Attempted> {
        let mut taken = Vec::with_capacity(ranges.len());
        let emptied = self.lots.take(ranges, wanted, |range, lease| {
            push(&mut taken, attempted(range, lease));
        });
        self.close(&emptied);
        self.offsets -= taken.iter().map(|taken| taken.range.count()).sum::<u64>();
        taken
    }

    fn close(&mut self, emptied: &[LotId]) {
        for id in emptied {
            if let Some(lease) = self.lots.close(*id) {
                let its = (lease.consumer, lease.first, *id);
                self.by_consumer.remove(&its);
                self.deadlines.remove(&(lease.deadline, *id));
            }
        }
    }

    /// Ends every lease whose deadline has passed; says who held it. In order of offsets.
    pub fn take_expired(&mut self, now: u64) -> Vec<(ConsumerId, Attempted)> {
        let mut expired = Vec::new();
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let Some(lease) = self.lots.about(id).copied() else {
                continue;
            };
            let members = self.lots.members(id);
            let mut taken = Vec::new();
            let emptied = self.lots.take(
                &members,
                |_| true,
                |range, lease| {
                    push(&mut taken, attempted(range, lease));
                },
            );
            self.close(&emptied);
            self.offsets -= taken.iter().map(|taken| taken.range.count()).sum::<u64>();
            expired.extend(taken.into_iter().map(|taken| (lease.consumer, taken)));
        }
        expired.sort_unstable_by_key(|(_, taken)| taken.range);
        expired
    }

    /// When the first deadline passes, if one does.
    pub fn next_deadline(&self) -> Option<u64> {
        let first = self.deadlines.first().map(|(at, _)| *at);
        first.filter(|at| *at != u64::MAX)
    }
}

fn attempted(range: Range, lease: &Lease) -> Attempted {
    Attempted {
        range,
        attempt: lease.attempt,
    }
}

/// Appends what lies behind what is there; as one with it, where they touch and are alike.
pub(crate) fn push(all: &mut Vec<Attempted>, next: Attempted) {
    match all.last_mut() {
        Some(last) if last.range.last + 1 == next.range.first && last.attempt == next.attempt => {
            last.range.last = next.range.last;
        }
        _ => all.push(next),
    }
}
