//! What is known of one consumer group: for each message, who holds it, at which attempt, and how
//! it ended.

use std::collections::BTreeMap;

use waypost_core::journal::GroupOptions;

use crate::model::Content;

/// How a message ended for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A consumer acked it.
    Acked,
    /// It was rejected or ran out of attempts: it must be a dead letter, or come again.
    Spent,
}

/// A message is with a consumer.
#[derive(Clone, Copy, Debug)]
pub struct Flight {
    /// Which.
    pub consumer: u64,
    /// Until when, on the virtual clock, in ms.
    pub deadline: u64,
}

/// A message in a group.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Who holds it.
    pub flight: Option<Flight>,
    /// The attempt under way, or the next: the highest that it may be.
    pub attempt: u32,
    /// The lowest that it may be, after a crash.
    pub attempt_min: u32,
    /// What is synced of it.
    attempt_synced: u32,
    /// It must not come before.
    pub due: Option<u64>,
    /// How it ended.
    pub end: Option<End>,
    /// Its end is synced.
    pub is_end_synced: bool,
    /// It ended, a crash came, and the end may be forgotten.
    pub is_end_in_doubt: bool,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress {
            flight: None,
            attempt: 1,
            attempt_min: 1,
            attempt_synced: 1,
            due: None,
            end: None,
            is_end_synced: false,
            is_end_in_doubt: false,
        }
    }
}

impl Progress {
    fn end(&mut self, end: End) {
        self.flight = None;
        self.end = Some(end);
        self.is_end_synced = false;
        self.is_end_in_doubt = false;
    }

    /// It was given to a consumer.
    pub fn deliver(&mut self, consumer: u64, deadline: u64, attempt: u32) {
        *self = Progress {
            flight: Some(Flight { consumer, deadline }),
            attempt,
            attempt_min: attempt,
            attempt_synced: self.attempt_synced.min(attempt),
            ..Progress::default()
        };
    }
}

/// A group.
#[derive(Clone, Debug)]
pub struct GroupModel {
    /// The first offset that it gets.
    pub start: u64,
    /// How it was made.
    pub options: GroupOptions,
    /// Whether its making is synced.
    pub is_synced: bool,
    /// Messages that were delivered at least once.
    pub progress: BTreeMap<u64, Progress>,
}

impl GroupModel {
    /// A group that was just made.
    pub fn new(start: u64, options: GroupOptions) -> GroupModel {
        GroupModel {
            start,
            options,
            is_synced: false,
            progress: BTreeMap::new(),
        }
    }

    /// The group after it was moved: all from `start` on comes, at its first attempt.
    pub fn moved(start: u64, before: &GroupModel) -> GroupModel {
        GroupModel {
            is_synced: before.is_synced,
            ..GroupModel::new(start, before.options.clone())
        }
    }

    /// Whether it gets a message, as far as is known.
    pub fn takes(&self, content: &Content) -> bool {
        let filters = &self.options.filters;
        match content.tag() {
            Some(tag) if !filters.is_empty() => filters.iter().any(|f| f.matches(tag.topic())),
            _ => true,
        }
    }

    fn held(&mut self, consumer: u64, offset: u64) -> Option<&mut Progress> {
        self.progress
            .get_mut(&offset)
            .filter(|p| p.flight.is_some_and(|f| f.consumer == consumer))
    }

    /// A consumer acked it; of what it does not hold, nothing follows.
    pub fn ack(&mut self, consumer: u64, offset: u64) {
        if let Some(progress) = self.held(consumer, offset) {
            progress.end(End::Acked);
        }
    }

    /// A consumer rejected it. Says whether it held it.
    pub fn reject(&mut self, consumer: u64, offset: u64) -> bool {
        let held = self.held(consumer, offset);
        held.map(|progress| progress.end(End::Spent)).is_some()
    }

    /// A consumer wants more time.
    pub fn extend(&mut self, consumer: u64, offset: u64, deadline: u64) {
        if let Some(progress) = self.held(consumer, offset) {
            progress.flight = Some(Flight { consumer, deadline });
        }
    }

    /// What a consumer holds.
    pub fn held_by(&self, consumer: u64) -> Vec<u64> {
        let is_its = |p: &Progress| p.flight.is_some_and(|f| f.consumer == consumer);
        self.progress
            .iter()
            .filter(|(_, p)| is_its(p))
            .map(|(offset, _)| *offset)
            .collect()
    }

    /// What is due by now.
    pub fn expired(&self, now_ms: u64) -> Vec<(u64, u64)> {
        let late = |p: &Progress| p.flight.filter(|f| f.deadline <= now_ms);
        self.progress
            .iter()
            .filter_map(|(offset, p)| Some((*offset, late(p)?.consumer)))
            .collect()
    }

    /// An attempt failed; a third one comes at `third_due`, unless `due` says otherwise. Says
    /// whether it was the last.
    pub fn fail(
        &mut self,
        consumer: u64,
        offset: u64,
        (due, third_due): (Option<u64>, u64),
        deliver_max: u32,
    ) -> bool {
        let Some(progress) = self.held(consumer, offset) else {
            return false;
        };
        if progress.attempt >= deliver_max {
            progress.end(End::Spent);
            return true;
        }
        progress.flight = None;
        progress.attempt += 1;
        progress.attempt_min = progress.attempt;
        let is_third = progress.attempt > 2;
        progress.due = due.or(is_third.then_some(third_due));
        false
    }

    /// A consumer took its leave: what it held comes again at the same attempt.
    pub fn give_back(&mut self, consumer: u64) {
        let is_its = |p: &&mut Progress| p.flight.is_some_and(|f| f.consumer == consumer);
        for progress in self.progress.values_mut().filter(is_its) {
            progress.flight = None;
        }
    }

    /// A limit took the message away: it ended, and is not owed as a dead letter of this group.
    pub(super) fn end_for_good(&mut self, offset: u64) {
        if let Some(progress) = self.progress.get_mut(&offset) {
            progress.end(End::Acked);
        }
    }

    /// Nobody holds or waits for a message.
    pub(super) fn let_go_of(&mut self, offset: u64) {
        if let Some(progress) = self.progress.get_mut(&offset) {
            progress.flight = None;
            progress.due = None;
        }
    }

    /// Nobody holds or waits for what lies below.
    pub(super) fn let_go_of_flights(&mut self, below: u64) {
        for (_, progress) in self.progress.range_mut(..below) {
            progress.flight = None;
            progress.due = None;
        }
    }

    pub(super) fn committed(&mut self) {
        self.is_synced = true;
        for progress in self.progress.values_mut() {
            if progress.attempt_min == progress.attempt {
                progress.attempt_synced = progress.attempt;
            }
            progress.is_end_synced |= progress.end.is_some() && !progress.is_end_in_doubt;
        }
    }

    pub(super) fn crashed(&mut self) {
        for progress in self.progress.values_mut() {
            progress.flight = None;
            progress.due = None;
            progress.attempt_min = progress.attempt_synced;
            progress.is_end_in_doubt |= progress.end.is_some() && !progress.is_end_synced;
        }
    }
}
