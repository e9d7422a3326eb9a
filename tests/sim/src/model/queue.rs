//! What is known of one queue.

use std::collections::{BTreeMap, BTreeSet};

use waypost_core::queue::{AtLimit, DeliverWhen, Durability, Retain, Settings};

use crate::invariants::{Violation, append_order, nothing_lost, offsets};
use crate::message::{DeadLetter, Place, Tag};
use crate::model::{End, GroupModel};

/// What stands at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A message that a publisher sent.
    Published {
        /// Which.
        tag: Tag,
        /// In which publish.
        ticket: u64,
    },
    /// A dead letter, and which one when it was seen.
    Dead(Option<DeadLetter>),
    /// A copy that an operator had made: of a message in another place, or of a dead letter as it
    /// was before. Nobody waits for it, and it keeps no order.
    Copied(Tag),
}

impl Content {
    /// The message's tag, where it is known.
    pub fn tag(&self) -> Option<Tag> {
        match self {
            Content::Published { tag, .. } | Content::Copied(tag) => Some(*tag),
            Content::Dead(letter) => letter.as_ref().map(|l| l.tag),
        }
    }
}

/// A message in a queue.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it is.
    pub content: Content,
    /// Whether it was confirmed: it must not be lost.
    pub is_confirmed: bool,
}

/// A queue.
#[derive(Clone, Debug)]
pub struct QueueModel {
    /// Its name.
    pub name: String,
    /// Whether the log has it; a memory queue ends with the process.
    pub is_durable: bool,
    /// Whether a confirm promises that the message is synced.
    pub is_stored: bool,
    /// Whether messages may be delivered before they are synced.
    pub is_ahead: bool,
    /// Its settings.
    pub settings: Settings,
    /// Settings that it was to be given, when something failed: one of them may hold.
    pub maybe_settings: Vec<Settings>,
    /// Whether it holds the dead letters.
    pub is_dead_letters: bool,
    /// Its removal was asked for and not synced.
    pub is_leaving: bool,
    /// What it may hold.
    pub entries: BTreeMap<u64, Entry>,
    /// What stood at offsets that were let go of: rot may bring it back.
    past: BTreeMap<u64, Content>,
    /// Offsets below were confirmed, or delivered: they must not be given again.
    pub used_below: u64,
    /// Offsets below were purged, as far as was asked.
    pub purged_below: u64,
    /// The same, as far as it is synced.
    purged_synced: u64,
    /// Each step of it that is not synced: a crash leaves one of them.
    purges: BTreeSet<u64>,
    /// Offsets below were let go of, durably.
    pub released_below: u64,
    /// Offsets that were taken out by request, as far as it is synced.
    pub removed: BTreeSet<u64>,
    /// Those of which it is not synced.
    pub removing: BTreeSet<u64>,
    /// Offsets of messages that a limit made dead letters.
    pub moved: BTreeSet<u64>,
    /// Groups that were moved or removed by request: what they were done with may come again.
    pub moved_groups: BTreeSet<String>,
    /// Its groups.
    pub groups: BTreeMap<String, GroupModel>,
    /// A group that was moved or removed, when that is not synced.
    pub change: Option<GroupChange>,
}

/// A group was moved or removed by request, and a crash may undo it.
#[derive(Clone, Debug)]
pub struct GroupChange {
    /// Its name.
    pub group: String,
    /// What it was before.
    pub before: GroupModel,
    /// Where the log ended then.
    pub log_end: u64,
}

/// What a queue keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeps {
    /// Acked messages too.
    pub is_log: bool,
    /// Messages at most.
    pub messages_max: u64,
    /// What happens then.
    pub at_limit: AtLimit,
}

impl Keeps {
    /// What a queue keeps that was made with these settings.
    pub fn of(settings: &Settings) -> Keeps {
        Keeps {
            is_log: settings.retain == Retain::Log,
            messages_max: settings.messages_max.unwrap_or(u64::MAX),
            at_limit: settings.at_limit,
        }
    }
}

impl QueueModel {
    /// An empty queue.
    pub fn new(name: &str, settings: Settings) -> QueueModel {
        let is_durable = settings.durability.is_logged();
        QueueModel {
            name: name.to_owned(),
            is_durable,
            is_stored: settings.durability == Durability::Sync,
            is_ahead: !is_durable || settings.deliver == DeliverWhen::Received,
            settings,
            maybe_settings: Vec::new(),
            is_dead_letters: name == waypost_core::DEAD_LETTER,
            is_leaving: false,
            entries: BTreeMap::new(),
            past: BTreeMap::new(),
            used_below: 0,
            purged_below: 0,
            purged_synced: 0,
            purges: BTreeSet::new(),
            released_below: 0,
            removed: BTreeSet::new(),
            removing: BTreeSet::new(),
            moved: BTreeSet::new(),
            moved_groups: BTreeSet::new(),
            groups: BTreeMap::new(),
            change: None,
        }
    }

    /// Rot took its description: from now on it has this name, and the settings of a queue that
    /// nobody gave any.
    pub fn forget_description(&mut self, name: &str) {
        name.clone_into(&mut self.name);
        self.is_dead_letters = false;
        self.settings = Settings::default();
    }

    /// What it keeps, and how much.
    pub fn keeps(&self) -> Keeps {
        Keeps::of(&self.settings)
    }

    /// A message was given an offset.
    pub fn append(&mut self, offset: u64, content: Content) -> Result<(), Violation> {
        offsets::given(self, offset)?;
        append_order::given(self, offset, &content)?;
        let entry = Entry {
            content,
            is_confirmed: false,
        };
        self.entries.insert(offset, entry);
        Ok(())
    }

    /// The offset that the next message has if nothing else is appended: one past the last.
    pub fn end(&self) -> u64 {
        let last = self.entries.keys().next_back();
        last.map_or(self.used_below, |last| self.used_below.max(last + 1))
    }

    /// A message was delivered: its offset is its own, also where it is lost.
    pub fn delivered(&mut self, offset: u64) {
        self.used_below = self.used_below.max(offset + 1);
    }

    /// A message was accepted. Where that does not promise that it is synced, a commit must tell.
    pub fn accepted(&mut self, offset: u64) {
        if self.is_stored || !self.is_durable {
            self.confirm(offset);
        }
    }

    /// A message was confirmed.
    pub fn confirm(&mut self, offset: u64) {
        self.used_below = self.used_below.max(offset + 1);
        if let Some(entry) = self.entries.get_mut(&offset) {
            entry.is_confirmed = true;
        }
    }

    /// All below `next` was purged; nobody holds it any more.
    pub fn purge(&mut self, next: u64) {
        self.purged_below = next;
        self.purges.insert(next);
        let groups = self.groups.values_mut();
        groups.for_each(|g| g.let_go_of_flights(next));
    }

    /// Its limit made everything below `first` go.
    pub fn dropped(&mut self, first: u64) {
        if first > self.purged_below {
            self.purge(first);
        }
    }

    /// Its limit made dead letters of what lies below `first` and nobody was done with. Gives what
    /// may be among them.
    pub fn dead_lettered(&mut self, first: u64) -> Vec<(Place, Tag)> {
        let left: Vec<u64> = self.entries.range(..first).map(|(o, _)| *o).collect();
        let mut moved = Vec::new();
        for offset in left {
            let is_done = self.is_done_with(offset);
            for group in self.groups.values_mut() {
                group.end_for_good(offset);
            }
            let Some(tag) = self.entries.get(&offset).and_then(|e| e.content.tag()) else {
                continue;
            };
            if !is_done {
                self.moved.insert(offset);
            }
            // Acks may have been lost in a crash; what was rejected may have waited for its place
            // among the dead letters: the shard knows.
            let place = Place {
                queue: self.name.clone(),
                group: String::new(),
                offset,
            };
            moved.push((place, tag));
        }
        let groups = self.groups.values_mut();
        groups.for_each(|g| g.let_go_of_flights(first));
        moved
    }

    /// What stands at an offset, or stood there before it was let go of.
    pub fn content(&self, offset: u64) -> Option<&Content> {
        let entry = self.entries.get(&offset).map(|e| &e.content);
        entry.or_else(|| self.past.get(&offset))
    }

    fn let_go(&mut self, first: u64) {
        let kept = self.entries.split_off(&first);
        let gone = std::mem::replace(&mut self.entries, kept);
        let gone = gone.into_iter().map(|(offset, e)| (offset, e.content));
        self.past.extend(gone);
    }

    /// Rot left only these from `first` on.
    pub fn let_go_but(&mut self, first: u64, readable: &BTreeSet<u64>) {
        self.let_go(first);
        let gone = self
            .entries
            .extract_if(.., |offset, _| !readable.contains(offset));
        self.past
            .extend(gone.map(|(offset, e)| (offset, e.content)));
    }

    /// A recovery showed where the queue begins: a purge that was not synced happened, or not.
    pub fn resolve_purge(&mut self, first: u64) {
        let asked = self.purges.range(..=first).next_back().copied();
        self.purged_below = asked.unwrap_or(0).max(self.purged_synced);
        self.purged_synced = self.purged_below;
        self.purges.clear();
        self.moved.split_off(&first);
    }

    /// A commit returned. Messages that a publisher waits for are confirmed when it is told.
    pub fn committed(&mut self) {
        let is_told = |e: &Entry| self.is_stored && matches!(e.content, Content::Published { .. });
        let synced: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, e)| !e.is_confirmed && !is_told(e))
            .map(|(offset, _)| *offset)
            .collect();
        synced.into_iter().for_each(|offset| self.confirm(offset));
        self.purged_synced = self.purged_below;
        self.purges.clear();
        self.removed.append(&mut self.removing);
        self.change = None;
        self.groups.values_mut().for_each(GroupModel::committed);
    }

    /// The process ended.
    pub fn crashed(&mut self) {
        let before = self.change.iter_mut().map(|c| &mut c.before);
        let groups = self.groups.values_mut().chain(before);
        groups.for_each(GroupModel::crashed);
    }

    /// Offsets were taken out by request: nobody holds or gets them any more.
    pub fn take_out(&mut self, offsets: &[u64]) {
        for group in self.groups.values_mut() {
            offsets.iter().for_each(|o| group.let_go_of(*o));
        }
        self.removing.extend(offsets);
    }

    /// Whether an offset was taken out by request, as far as was said.
    pub fn is_taken_out(&self, offset: u64) -> bool {
        self.removed.contains(&offset) || self.removing.contains(&offset)
    }

    /// A recovery showed what can be read from `first` on: what was to be taken out is, or is not.
    /// Gives which, as far as that can be told.
    pub fn resolve_taken_out(
        &mut self,
        (first, next): (u64, u64),
        readable: &BTreeSet<u64>,
    ) -> Vec<(u64, bool)> {
        let asked = std::mem::take(&mut self.removing);
        // What is missing at the front of the queue is gone by this, where nothing else ended it.
        let below = asked.range(..first).filter(|o| !self.is_done_with(**o));
        let from = asked.range(first..next.max(first));
        let told = below.map(|o| (*o, true));
        let told = told.chain(from.map(|o| (*o, !readable.contains(o))));
        let told: Vec<(u64, bool)> = told.collect();
        let gone = told.iter().filter(|(_, is_gone)| *is_gone);
        self.removed.extend(gone.map(|(offset, _)| *offset));
        told
    }

    /// A recovery showed whether a group's change was synced.
    pub fn resolve_change(&mut self, is_synced: bool) {
        if let Some(change) = self.change.take()
            && !is_synced
        {
            self.groups.insert(change.group, change.before);
        }
    }

    /// Whether every group is done with an offset, as far as was said. Without groups, nothing is
    /// done but what was purged.
    pub fn is_done_with(&self, offset: u64) -> bool {
        let content = self.entries.get(&offset).map(|e| &e.content);
        let is_done = |group: &GroupModel| {
            offset < group.start
                || content.is_some_and(|content| !group.takes(content))
                || group.progress.get(&offset).is_some_and(|p| p.end.is_some())
        };
        let is_let_go =
            offset < self.purged_below || self.moved.contains(&offset) || self.is_taken_out(offset);
        is_let_go
            || (!self.keeps().is_log
                && !self.groups.is_empty()
                && self.groups.values().all(is_done))
    }

    /// The queue durably holds nothing below `first`. Gives the places of messages that must
    /// therefore be dead letters.
    pub fn release(&mut self, first: u64) -> Result<Vec<(Place, Tag)>, Violation> {
        nothing_lost::let_go(self, first)?;
        let place = |group: &str, offset: u64| Place {
            queue: self.name.clone(),
            group: group.to_owned(),
            offset,
        };
        let tag = |offset: u64| self.entries.get(&offset).and_then(|e| e.content.tag());
        let moved = self
            .moved
            .range(self.purged_below..first.max(self.purged_below));
        // What an operator took out is owed to nobody.
        let is_there = |offset: &u64| !self.is_taken_out(*offset);
        let mut owed: Vec<(Place, Tag)> = moved
            .filter(|offset| is_there(offset))
            .filter_map(|offset| Some((place("", *offset), tag(*offset)?)))
            .collect();
        for (name, group) in &self.groups {
            for (offset, progress) in group.progress.range(..first) {
                let is_spent = progress.end == Some(End::Spent) && *offset >= self.purged_below;
                let is_owed = is_spent && is_there(offset);
                if let (true, Some(tag)) = (is_owed, tag(*offset)) {
                    owed.push((place(name, *offset), tag));
                }
            }
        }
        self.let_go(first);
        self.moved = self.moved.split_off(&first);
        self.removed = self.removed.split_off(&first);
        for group in self.groups.values_mut() {
            group.progress = group.progress.split_off(&first);
        }
        self.released_below = self.released_below.max(first);
        Ok(owed)
    }
}
