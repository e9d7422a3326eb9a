//! A consumer group: which messages are next, with whom they are, and what became of them.
//!
//! Invariant: every offset below `fresh` is in exactly one of three places: acked, leased (with a
//! consumer), or waiting (for its time, or to be delivered now). Offsets from `fresh` on were never
//! given out, unless they are acked: their messages are gone. What was delivered together is one
//! lease, whatever offsets it has, and what is acked or due is a set with a bit for each offset where
//! they lie close together: messages that are settled out of order cost a few bytes each.
//!
//! Who gets a message is the caller's matter. In an `exclusive` group nothing is next while
//! something earlier was delivered before and waits for its time.
//!
//! Deadlines run on a monotonic clock and are not durable: after a restart every message that was
//! not acked is deliverable again. Attempts that failed are durable ([`crate::journal`]).

use waypost_wire::data::Range;
use waypost_wire::ranges::RangeSet;

use crate::journal::GroupKind;
use crate::keyed::Keys;
use crate::leases::{Leases, push};
use crate::levels::Levels;
use crate::waiting::Waiting;

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

/// Ranges out of order that a group may have before it gets nothing new. Bounds its memory (64 B
/// each) and its snapshots (about 4 B each), whatever its consumers do.
const EXCEPTIONS_MAX: usize = 1 << 18;

/// Messages of one level that are looked for at once.
const LEVEL_RUN_MAX: u64 = 256;

/// The state of one group.
#[derive(Debug)]
pub struct Group {
    kind: GroupKind,
    /// Every offset below is acked (or was never this group's).
    floor: u64,
    acked: RangeSet,
    fresh: u64,
    leases: Leases,
    waiting: Waiting,
    /// What waits at which priority, where the queue has several.
    levels: Option<Box<Levels>>,
    redelivered: u64,
    /// How many of the acked ranges the queue itself made: its own limits bound them.
    holes: usize,
    /// In a `key` group.
    keys: Option<Box<Keys>>,
}

impl Group {
    /// A group that begins at `start`.
    pub fn new(kind: GroupKind, start: u64) -> Group {
        Group {
            kind,
            floor: start,
            acked: RangeSet::new(),
            fresh: start,
            leases: Leases::default(),
            waiting: Waiting::default(),
            levels: None,
            redelivered: 0,
            holes: 0,
            keys: (kind == GroupKind::Key).then(Box::default),
        }
    }

    /// A group as the journal tells it: acked ranges, and the attempts that unacked ones are at.
    pub fn recover(kind: GroupKind, floor: u64, acked: RangeSet, attempts: &[Attempted]) -> Group {
        let mut group = Group::new(kind, floor);
        group.acked = acked;
        group.raise_floor();
        let last_attempt = attempts.iter().map(|a| a.range.last);
        let known = group.acked.last().into_iter().chain(last_attempt).max();
        group.fresh = known.map_or(group.floor, |last| group.floor.max(last + 1));
        // Whatever lies between acks is due again; its attempt is the recorded one, or the first.
        let mut next = group.floor;
        for acked in group.acked.iter().chain([Range::one(group.fresh)]) {
            if next < acked.first {
                let range = Range {
                    first: next,
                    last: acked.first - 1,
                };
                group.waiting.put(Attempted { range, attempt: 1 }, None);
            }
            next = acked.last.saturating_add(1);
        }
        for attempted in attempts {
            group.set_attempt(*attempted);
        }
        group
    }

    /// Replaces the attempt of a waiting range, where it is still waiting.
    fn set_attempt(&mut self, attempted: Attempted) {
        for range in self.waiting.due_within(attempted.range) {
            let attempt = attempted.attempt;
            self.waiting.take(range);
            self.waiting.put(Attempted { range, attempt }, None);
        }
    }

    /// How its messages are shared out.
    pub fn kind(&self) -> GroupKind {
        self.kind
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
        self.leases.offsets()
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

    /// Ranges whose attempt is known to be above the first, for a snapshot; ascending.
    pub fn attempts(&self) -> Vec<Attempted> {
        let retried = self.leases.retried().chain(self.waiting.retried());
        let mut runs: Vec<Attempted> = retried.collect();
        runs.sort_unstable_by_key(|run| run.range);
        let mut attempts = Vec::new();
        runs.into_iter().for_each(|run| push(&mut attempts, run));
        attempts
    }

    /// The attempt that a message is at, or waits for; `None` where it was not tried yet or is done
    /// with.
    pub fn attempt(&self, offset: u64) -> Option<u32> {
        let held = self.leases.attempt(offset);
        held.or_else(|| self.waiting.retry(offset))
    }

    /// What would be delivered next, at most `count_max` messages below `end`: waiting ranges
    /// first, then fresh ones. Nothing changes until [`Group::lease`].
    pub fn next_run(&self, end: u64, count_max: u64) -> Option<Attempted> {
        let mut run = self.next_of_all(end)?;
        if self.kind == GroupKind::Exclusive
            && let Some(held_back_from) = self.waiting.first_retry()
        {
            if held_back_from <= run.range.first {
                return None;
            }
            run.range.last = run.range.last.min(held_back_from - 1);
        }
        let most = run.range.first.saturating_add(count_max.checked_sub(1)?);
        run.range.last = run.range.last.min(most);
        Some(run)
    }

    fn next_of_all(&self, end: u64) -> Option<Attempted> {
        if let Some(levels) = &self.levels {
            return levels
                .next(LEVEL_RUN_MAX)
                .map(|r| self.waiting.attempt_of(r));
        }
        if let Some(waiting) = self.waiting.first() {
            return Some(waiting);
        }
        if self.waiting.len() + self.acked.len() >= EXCEPTIONS_MAX + self.holes {
            return None;
        }
        let (first, last) = self.next_fresh(end)?;
        Some(Attempted {
            range: Range { first, last },
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
        self.claim(run.range);
        self.give(consumer, &[run], deadline);
    }

    /// Gives claimed ranges to a consumer until `deadline`.
    pub fn give(&mut self, consumer: ConsumerId, runs: &[Attempted], deadline: u64) {
        let again = runs.iter().filter(|run| run.attempt > 1);
        self.redelivered += again.map(|run| run.range.count()).sum::<u64>();
        self.leases.put(consumer, runs, deadline);
    }

    /// Takes a range, all at one attempt, from where it was next; at once it must be given, parked or
    /// skipped. Gives the attempt that it is at.
    pub fn claim(&mut self, range: Range) -> u32 {
        if let Some(levels) = &mut self.levels {
            levels.take(range);
        } else if range.first >= self.fresh {
            debug_assert!(
                range.first == self.fresh
                    || self.acked.covering(self.fresh).map(|r| r.last + 1) == Some(range.first)
            );
            self.fresh = range.last + 1;
            return 1;
        }
        let attempt = self.waiting.attempt(range.first);
        self.waiting.take(range);
        attempt
    }

    /// The keys of a `key` group.
    pub fn keys_mut(&mut self) -> Option<&mut Keys> {
        self.keys.as_deref_mut()
    }

    /// Passes over a claimed message until the turn of its key comes, which [`Keys`] says.
    pub fn park(&mut self, offset: u64, attempt: u32) {
        self.waiting.park(offset, attempt);
    }

    /// The attempt that a parked message is at.
    pub fn parked_attempt(&self, offset: u64) -> u32 {
        self.waiting.attempt(offset)
    }

    /// A range that is with nobody waits. In a `key` group each message of a key waits for its turn.
    fn put_waiting(&mut self, waiting: Attempted, due: Option<u64>) {
        let Some(keys) = &mut self.keys else {
            return self.wait(waiting, due);
        };
        for offset in waiting.range.first..=waiting.range.last {
            let (range, attempt) = (Range::one(offset), waiting.attempt);
            match (keys.back(offset, due.is_none()), due) {
                (true, None) => self.waiting.park(offset, attempt),
                (_, due) => self.waiting.put(Attempted { range, attempt }, due),
            }
        }
    }

    /// Counts ranges as acked; [`Group::raise_floor`] must follow.
    fn settled(&mut self, ranges: &[Range]) {
        // Most are the next that are missing.
        let mut rest = ranges;
        while let [next, later @ ..] = rest
            && next.first <= self.floor
            && self.acked.is_empty()
        {
            self.floor = self.floor.max(next.last + 1);
            rest = later;
        }
        self.acked.insert_all(rest);
        if let Some(keys) = &mut self.keys {
            keys.forget(ranges);
        }
    }

    /// Whether this consumer holds all of a range.
    pub fn holds(&self, consumer: ConsumerId, range: Range) -> bool {
        let holders = self.leases.holders(range);
        let its = holders.iter().filter(|(holder, _)| *holder == consumer);
        its.map(|(_, count)| count).sum::<u64>() == range.count()
    }

    /// Marks as done what this consumer holds of `ranges`; gives what was newly done.
    pub fn ack(&mut self, consumer: ConsumerId, ranges: &[Range]) -> Vec<Range> {
        let mut done: Vec<Range> = Vec::with_capacity(ranges.len());
        for Attempted { range, .. } in self.leases.take(consumer, ranges) {
            match done.last_mut() {
                Some(last) if last.last + 1 == range.first => last.last = range.last,
                _ => done.push(range),
            }
        }
        self.settled(&done);
        self.raise_floor();
        done
    }

    /// Takes back what this consumer holds of `ranges`, to be dead-lettered by the caller, who
    /// then calls [`Group::settle`] or [`Group::put_back`].
    pub fn take(&mut self, consumer: ConsumerId, ranges: &[Range]) -> Vec<Attempted> {
        self.leases.take(consumer, ranges)
    }

    /// Counts ranges that were taken as acked.
    pub fn settle(&mut self, taken: &[Attempted]) {
        let ranges: Vec<Range> = taken.iter().map(|taken| taken.range).collect();
        self.settled(&ranges);
        self.raise_floor();
    }

    /// Makes ranges that were taken due again as their next attempt: each when `due` says for its
    /// attempt, or now. Gives them with that attempt.
    pub fn put_back(
        &mut self,
        taken: Vec<Attempted>,
        due: impl Fn(u32) -> Option<u64>,
    ) -> Vec<Attempted> {
        let next = |t: Attempted| Attempted {
            attempt: t.attempt.saturating_add(1),
            ..t
        };
        let next: Vec<Attempted> = taken.into_iter().map(next).collect();
        for attempted in &next {
            self.put_waiting(*attempted, due(attempted.attempt));
        }
        next
    }

    /// Gives what this consumer holds of `ranges` a new deadline.
    pub fn extend(&mut self, consumer: ConsumerId, ranges: &[Range], deadline: u64) {
        let held = self.leases.take(consumer, ranges);
        self.leases.put(consumer, &held, deadline);
    }

    /// A consumer came.
    pub fn join(&mut self, consumer: ConsumerId) {
        if let Some(keys) = &mut self.keys {
            keys.join(consumer);
        }
    }

    /// A consumer went. Gives everything that it held, to be put back by the caller.
    pub fn leave(&mut self, consumer: ConsumerId) -> Vec<Attempted> {
        if let Some(keys) = &mut self.keys {
            keys.leave(consumer);
        }
        self.take_all(consumer)
    }

    /// Takes back everything that a consumer holds.
    pub fn take_all(&mut self, consumer: ConsumerId) -> Vec<Attempted> {
        let all = Range {
            first: 0,
            last: u64::MAX,
        };
        self.leases.take(consumer, &[all])
    }

    /// Takes back every lease whose deadline has passed; says who held it.
    pub fn take_expired(&mut self, now: u64) -> Vec<(ConsumerId, Attempted)> {
        self.leases.take_expired(now)
    }

    /// Makes due what was delayed until now.
    pub fn wake_delayed(&mut self, now: u64) {
        for due in self.waiting.take_due(now) {
            self.put_waiting(due, None);
        }
    }

    /// When [`Group::take_expired`] or [`Group::wake_delayed`] has something to do next.
    pub fn next_timeout(&self) -> Option<u64> {
        let deadline = self.leases.next_deadline();
        deadline.into_iter().chain(self.waiting.next_due()).min()
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
        self.leases.end(&[below]);
        self.waiting.forget(&[below]);
        self.take_level(below);
        if let Some(keys) = &mut self.keys {
            keys.forget(&[below]);
        }
        self.acked.remove_below(offset);
        self.floor = offset;
        self.fresh = self.fresh.max(offset);
        self.raise_floor();
    }

    /// Counts ranges as acked, whoever holds them: their messages are gone. What was never given out
    /// is passed over when its turn comes, because acked ranges are.
    pub fn remove(&mut self, ranges: &[Range]) {
        self.leases.end(ranges);
        self.waiting.forget(ranges);
        ranges.iter().for_each(|range| self.take_level(*range));
        self.settled(ranges);
        self.raise_floor();
    }

    fn raise_floor(&mut self) {
        while let Some(range) = self.acked.pop_from(self.floor) {
            self.floor = self.floor.max(range.last + 1);
        }
        self.fresh = self.fresh.max(self.floor);
        self.trim_levels();
    }
}

#[path = "group_levels.rs"]
mod priorities;

#[path = "group_time.rs"]
mod time;

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
