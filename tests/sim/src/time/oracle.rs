//! What may and must become of each message, as far as anybody can know its age.

use std::collections::{BTreeMap, BTreeSet};

use waypost_core::queue::{Expired, Settings};
use waypost_shard::Now;

use crate::dice::Dice;
use crate::invariants::Violation;

/// The true time, and what clocks show of it.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    /// The true time, in ms, over all processes.
    pub real: i64,
    /// What the wall clock shows beyond the true time.
    pub skew: i64,
    /// When this process began.
    pub born: i64,
    /// Counts the processes.
    pub life: u64,
    mono_start: i64,
    /// The highest skew of this life.
    skew_max: i64,
    skew_at_start: i64,
    /// The highest time that the wall clock showed to a shard.
    seen: i64,
    /// Whether the wall clock could be believed when this process began.
    is_anchored: bool,
}

impl Clocks {
    pub fn new(wall_ms: i64, mono_start: i64) -> Clocks {
        Clocks {
            real: 0,
            skew: wall_ms,
            born: 0,
            life: 0,
            mono_start,
            skew_max: wall_ms,
            skew_at_start: wall_ms,
            seen: 0,
            is_anchored: true,
        }
    }

    pub fn now(&self) -> Now {
        Now {
            mono_ms: (self.real - self.born + self.mono_start).max(0) as u64,
            wall_ms: self.wall().max(0) as u64,
        }
    }

    /// A shard is told the time.
    pub fn note(&mut self) {
        self.seen = self.seen.max(self.wall());
    }

    fn wall(&self) -> i64 {
        self.real + self.skew
    }

    pub fn pass(&mut self, ms: i64) {
        self.real += ms;
    }

    pub fn set_wall(&mut self, by: i64) {
        self.skew += by;
        self.skew_max = self.skew_max.max(self.skew);
    }

    pub fn restart(&mut self, mono_start: i64) {
        self.life += 1;
        self.born = self.real;
        self.mono_start = mono_start;
        self.skew_max = self.skew;
        self.skew_at_start = self.skew;
        self.is_anchored = self.wall() >= self.seen;
    }
}

/// What a message asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Want {
    pub not_before_ms: Option<u64>,
    pub ttl_ms: Option<u64>,
    pub level: Option<u8>,
    pub key: Option<u8>,
}

impl Want {
    pub fn draw(dice: &mut Dice, settings: &Settings) -> Want {
        Want {
            not_before_ms: dice.once_in(4).then(|| dice.between(1, 4000)),
            ttl_ms: dice.once_in(4).then(|| dice.between(1, 6000)),
            level: dice.once_in(2).then(|| dice.below(8) as u8),
            key: (settings.last_value && !dice.once_in(6)).then(|| dice.below(5) as u8),
        }
    }
}

/// Identifies a message by its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known(u64);

impl Known {
    pub fn of(number: u64) -> Known {
        Known(number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It can come when the monotonic clock shows this.
    Waits {
        due_mono: u64,
    },
    Held,
    Acked,
}

#[derive(Clone, Debug)]
struct Entry {
    want: Want,
    ttl_ms: Option<u64>,
    level: u8,
    received: i64,
    skew: i64,
    life: u64,
    is_committed: bool,
    /// At some time it could be taken for expired, or for older than the queue keeps.
    may_expire: bool,
    may_age: bool,
    groups: [State; 2],
    /// A newer one of its key was appended, in this life.
    replaced_in: Option<u64>,
}

/// All that is known.
#[derive(Clone, Debug)]
pub(super) struct Oracle {
    settings: Settings,
    /// The next offset.
    pub next: u64,
    entries: BTreeMap<u64, Entry>,
    dead: BTreeSet<u64>,
    /// Where each group began, once it was made.
    starts: [Option<u64>; 2],
    /// The monotonic clock when the shard was last told the time.
    woken: u64,
}

impl Oracle {
    pub fn new(settings: &Settings) -> Oracle {
        Oracle {
            settings: settings.clone(),
            next: 0,
            entries: BTreeMap::new(),
            dead: BTreeSet::new(),
            starts: [None; 2],
            woken: 0,
        }
    }

    pub fn published(&mut self, want: Want, clocks: &Clocks) {
        let levels = self.settings.priorities;
        if let Some(key) = want.key {
            let older = self.entries.values_mut();
            for entry in older.filter(|e| e.want.key == Some(key)) {
                entry.replaced_in.get_or_insert(clocks.life);
            }
        }
        let entry = Entry {
            ttl_ms: [want.ttl_ms, self.settings.ttl_ms]
                .into_iter()
                .flatten()
                .min(),
            level: want.level.unwrap_or(0).min(levels - 1),
            received: clocks.real,
            skew: clocks.skew,
            life: clocks.life,
            is_committed: false,
            may_expire: false,
            may_age: false,
            groups: [State::Waits { due_mono: 0 }; 2],
            replaced_in: None,
            want,
        };
        self.entries.insert(self.next, entry);
        self.next += 1;
    }

    pub fn committed(&mut self, clocks: &Clocks) {
        self.grow_old(clocks);
        self.entries
            .values_mut()
            .for_each(|e| e.is_committed = true);
    }

    pub fn restarted(&mut self) {
        self.woken = 0;
        for entry in self.entries.values_mut() {
            for state in &mut entry.groups {
                if *state != State::Acked {
                    *state = State::Waits { due_mono: 0 };
                }
            }
        }
    }

    pub fn woken(&mut self, clocks: &Clocks) {
        self.woken = clocks.now().mono_ms;
        self.grow_old(clocks);
    }

    fn grow_old(&mut self, clocks: &Clocks) {
        let mut entries = std::mem::take(&mut self.entries);
        for entry in entries.values_mut() {
            let (_, most) = self.age(entry, clocks);
            let age_max_ms = self.settings.age_max_ms;
            entry.may_expire |= entry.ttl_ms.is_some_and(|ttl| most >= ttl as i64);
            entry.may_age |= age_max_ms.is_some_and(|max| most >= max as i64);
        }
        self.entries = entries;
    }

    /// The lowest and the highest age that can be known of a message, in ms.
    fn age(&self, entry: &Entry, clocks: &Clocks) -> (i64, i64) {
        let age = clocks.real - entry.received;
        if entry.life == clocks.life {
            return (age, age);
        }
        let least = clocks.real - clocks.born;
        if clocks.is_anchored {
            let believed = age + clocks.skew_at_start - entry.skew;
            return (believed.max(least), believed.max(least));
        }
        (least, (age + clocks.skew_max - entry.skew).max(least))
    }

    pub fn attached(&mut self, group: usize, first: u64) {
        self.starts[group].get_or_insert(first);
    }

    /// Whether every group that was made is done with a message.
    fn is_done(&self, offset: u64, entry: &Entry) -> bool {
        let groups = self.starts.iter().zip(&entry.groups);
        let mut made = groups
            .filter_map(|(start, state)| Some((offset, (*start)?, state)))
            .peekable();
        made.peek().is_some()
            && made.all(|(offset, start, state)| offset < start || *state == State::Acked)
    }

    pub fn held(&self, group: usize) -> Vec<u64> {
        let held = self.entries.iter();
        held.filter(|(_, e)| e.groups[group] == State::Held)
            .map(|(offset, _)| *offset)
            .collect()
    }

    pub fn all_held_none(&self) -> bool {
        (0..2).all(|group| self.held(group).is_empty())
    }

    fn set(&mut self, group: usize, offset: u64, state: State) {
        if let Some(entry) = self.entries.get_mut(&offset) {
            entry.groups[group] = state;
        }
    }

    pub fn acked(&mut self, group: usize, offset: u64) {
        self.set(group, offset, State::Acked);
    }

    pub fn nacked(&mut self, group: usize, offset: u64, mono: u64, delay: u64) {
        let due_mono = if delay == 0 { 0 } else { mono + delay };
        self.set(group, offset, State::Waits { due_mono });
    }

    pub fn left(&mut self, group: usize) {
        for offset in self.held(group) {
            self.set(group, offset, State::Waits { due_mono: 0 });
        }
    }

    pub fn delivered(
        &mut self,
        group: usize,
        offset: u64,
        number: u64,
        clocks: &Clocks,
    ) -> Result<(), Violation> {
        let fail = |invariant, what: String| Err(Violation::new(invariant, what));
        let Some(entry) = self.entries.get(&offset).filter(|_| number == offset) else {
            return fail("nothing_foreign", format!("offset {offset} is {number}"));
        };
        let (least, most) = self.age(entry, clocks);
        if entry.ttl_ms.is_some_and(|ttl| least >= ttl as i64) {
            return fail("expiry", format!("{offset} comes at {least} ms: {entry:?}"));
        }
        if entry
            .want
            .not_before_ms
            .is_some_and(|wait| most < wait as i64)
        {
            return fail("delay", format!("{offset} comes at {most} ms: {entry:?}"));
        }
        if self.dead.contains(&offset) {
            return fail("expiry", format!("{offset} is a dead letter and comes"));
        }
        match entry.groups[group] {
            State::Waits { due_mono } if due_mono <= clocks.now().mono_ms => {}
            other => return fail("delay", format!("{offset} comes while {other:?}")),
        }
        // What was there before the process began is found step by step.
        if entry
            .replaced_in
            .is_some_and(|life| life == entry.life || life < clocks.life)
        {
            return fail("last_value", format!("{offset} comes and was replaced"));
        }
        self.in_turn(group, offset, entry, clocks)?;
        self.set(group, offset, State::Held);
        Ok(())
    }

    /// Nothing that should come before can have come.
    fn in_turn(
        &self,
        group: usize,
        offset: u64,
        entry: &Entry,
        clocks: &Clocks,
    ) -> Result<(), Violation> {
        if self.settings.priorities == 1 {
            return Ok(());
        }
        let start = self.starts[group].unwrap_or(0);
        let told = self.woken as i64 - clocks.now().mono_ms as i64;
        let before = self.entries.iter().find(|(other, e)| {
            let goes_first = e.level > entry.level || (e.level == entry.level && **other < offset);
            let (least, _) = self.age(e, clocks);
            let is_due = e
                .want
                .not_before_ms
                .is_none_or(|wait| least + told >= wait as i64);
            let lives = !e.may_expire && !e.may_age;
            let waits = e.groups[group] == State::Waits { due_mono: 0 };
            **other >= start
                && goes_first
                && waits
                && e.is_committed
                && is_due
                && lives
                && !self.dead.contains(other)
        });
        match before {
            None => Ok(()),
            Some((other, first)) => Err(Violation::new(
                "priority",
                format!("{offset} {entry:?} comes before {other} {first:?}"),
            )),
        }
    }

    /// A dead letter was found.
    pub fn dead(
        &mut self,
        offset: u64,
        reason: &str,
        is_plain: bool,
        clocks: &Clocks,
    ) -> Result<Known, Violation> {
        let fail = |what: String| Err(Violation::new("expiry", what));
        let Some(entry) = self.entries.get(&offset) else {
            return fail(format!("a dead letter of {offset}, which never was"));
        };
        let (_, most) = self.age(entry, clocks);
        if !reason.starts_with("expired") || !is_plain {
            return fail(format!("the dead letter of {offset} says '{reason}'"));
        }
        if self.settings.expired == Expired::Drop {
            return fail(format!("{offset} is a dead letter and should be dropped"));
        }
        if entry.ttl_ms.is_none_or(|ttl| most < ttl as i64) {
            return fail(format!("{offset} expired at {most} ms: {entry:?}"));
        }
        if entry.groups.contains(&State::Held) {
            return fail(format!("{offset} expired and is held: {entry:?}"));
        }
        if self.is_done(offset, entry) {
            return fail(format!("{offset} was acked and expired: {entry:?}"));
        }
        match self.dead.insert(offset) {
            true => Ok(Known(offset)),
            false => fail(format!("{offset} is a dead letter twice")),
        }
    }

    /// Everything came or went: each message must have a reason to be gone.
    pub fn at_the_end(&self) -> Result<(), Violation> {
        for (offset, entry) in &self.entries {
            let is_dropped = entry.may_expire && self.settings.expired == Expired::Drop;
            let is_replaced = entry.replaced_in.is_some();
            let is_told = self.is_done(*offset, entry) || self.dead.contains(offset);
            if !(is_told || is_dropped || entry.may_age || is_replaced) {
                return Err(Violation::new(
                    "nothing_lost",
                    format!("{offset} is gone: {entry:?}"),
                ));
            }
        }
        Ok(())
    }
}
