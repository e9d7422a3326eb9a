//! A queue: offsets, limits and its groups. Where the messages lie (memory, WAL, segment) is the
//! caller's matter; this decides which offsets exist, who gets them, and what must be written.
//! What happens at a queue's limits is in `queue/keeping.rs`, what publishers are told of in
//! `queue/receipts.rs`.
//!
//! Invariants: offsets are given once and never again, whatever is purged; `first` never passes a
//! message that some group still needs, unless a limit or a person said so; what consumers get is
//! below `visible`, which the caller raises when a sync has returned.

mod keeping;
mod receipts;

use std::collections::BTreeMap;

use waypost_wire::Code;
use waypost_wire::data::Range;
use waypost_wire::ranges::RangeSet;

use crate::dedup::Dedup;
use crate::group::{Attempted, ConsumerId, Group};
use crate::journal::{Entry, GroupId, GroupKind, GroupOptions, GroupSnapshot, Snapshot};
use crate::message_ids::MessageIds;
use crate::receipts::Book;

pub use keeping::{Over, Truncated};

pub use crate::settings::{
    AtLimit, DeliverWhen, Durability, Expired, PRIORITIES_MAX, Retain, Settings, SlowGroup,
};

/// Why a queue does not take messages, or a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// At its limit in bytes.
    #[error("queue '{queue}' holds {held} bytes, {more} more would pass its limit of {limit}")]
    FullBytes {
        /// Its name.
        queue: String,
        /// Bytes that it holds.
        held: u64,
        /// Bytes asked for.
        more: u64,
        /// Its limit.
        limit: u64,
    },
    /// At its limit in messages.
    #[error("queue '{queue}' holds {held} messages, {more} more would pass its limit of {limit}")]
    FullMessages {
        /// Its name.
        queue: String,
        /// Messages that it holds.
        held: u64,
        /// Messages asked for.
        more: u64,
        /// Its limit.
        limit: u64,
    },
    /// A group is so far behind that its publishers are held.
    #[error(
        "queue '{queue}' takes no more while group '{group}' is {behind} messages behind; its limit is {limit}"
    )]
    Behind {
        /// Its name.
        queue: String,
        /// The group.
        group: String,
        /// Messages that the group has not acked.
        behind: u64,
        /// How many it may be behind.
        limit: u64,
    },
    /// As many message ids are remembered as may be.
    #[error(
        "queue '{queue}' remembers {known} message ids, {more} more would pass its limit of {limit}; the oldest leaves in {leaves_in_ms} ms"
    )]
    Ids {
        /// Its name.
        queue: String,
        /// Ids that it remembers.
        known: u64,
        /// Ids that would come to them.
        more: u64,
        /// Its limit.
        limit: u64,
        /// When there is room for one, in ms.
        leaves_in_ms: u64,
    },
    /// One message is larger than all that the queue may hold.
    #[error("queue '{queue}' holds {limit} bytes at most, a message has {bytes}")]
    TooLarge {
        /// Its name.
        queue: String,
        /// The message's bytes.
        bytes: u64,
        /// Its limit.
        limit: u64,
    },
}

impl Refusal {
    /// The code to answer with.
    pub fn code(&self) -> Code {
        match self {
            Refusal::TooLarge { .. } => Code::TooLarge,
            Refusal::FullBytes { .. }
            | Refusal::FullMessages { .. }
            | Refusal::Behind { .. }
            | Refusal::Ids { .. } => Code::QueueFull,
        }
    }
}

/// A named group of a queue.
#[derive(Debug)]
pub struct NamedGroup {
    /// Its number.
    pub id: GroupId,
    /// Its state.
    pub group: Group,
    /// What it was made with.
    pub options: GroupOptions,
}

/// The state of one queue.
#[derive(Debug)]
pub struct Queue {
    name: String,
    settings: Settings,
    first: u64,
    next: u64,
    visible: u64,
    bytes: u64,
    /// Offsets from `first` on whose messages are gone: expired, dropped, removed.
    gone: RangeSet,
    /// Some message says when it may be delivered, or until when.
    is_timed: bool,
    groups: BTreeMap<String, NamedGroup>,
    next_group: GroupId,
    dedup: Dedup,
    ids: MessageIds,
    receipts: Book,
}

impl Queue {
    /// An empty queue.
    pub fn new(name: impl Into<String>, settings: Settings) -> Queue {
        Queue {
            name: name.into(),
            settings,
            first: 0,
            next: 0,
            visible: 0,
            bytes: 0,
            gone: RangeSet::new(),
            is_timed: false,
            groups: BTreeMap::new(),
            next_group: 1,
            dedup: Dedup::default(),
            ids: MessageIds::default(),
            receipts: Book::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes other settings; they hold from the next message on.
    pub fn set_settings(&mut self, settings: Settings) {
        if settings.dedup_window_ms.is_none() {
            self.ids.clear();
        }
        self.settings = settings;
    }

    /// The first offset that some group may still need.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The offset of the next message.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Offsets below this one may be delivered.
    pub fn visible(&self) -> u64 {
        self.visible
    }

    /// Slab bytes held, as told by [`Queue::append`] and [`Queue::freed`].
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Messages held.
    pub fn messages(&self) -> u64 {
        self.next - self.first - self.gone.offsets()
    }

    /// Offsets from the first on whose messages are gone.
    pub fn gone(&self) -> &RangeSet {
        &self.gone
    }

    /// Whether a message was ever appended that says when it may be delivered, or until when.
    pub fn is_timed(&self) -> bool {
        self.is_timed
    }

    /// Whether some group is not done with a message; without groups, one that may come is not.
    pub fn needs(&self, offset: u64) -> bool {
        let is_there = offset >= self.first && !self.gone.contains(offset);
        let mut groups = self.groups.values();
        is_there && (self.groups.is_empty() || groups.any(|g| !g.group.is_done(offset)))
    }

    /// Whether a consumer of some group holds a message.
    pub fn is_held(&self, offset: u64) -> bool {
        self.groups.values().any(|g| g.group.is_held(offset))
    }

    /// The last offset of the stretch from `offset` on that a consumer of some group holds, if one
    /// holds this one.
    pub fn held_until(&self, offset: u64) -> Option<u64> {
        let groups = self.groups.values();
        groups.filter_map(|g| g.group.held_until(offset)).max()
    }

    /// The groups by name.
    pub fn groups(&self) -> &BTreeMap<String, NamedGroup> {
        &self.groups
    }

    /// One group.
    pub fn group_mut(&mut self, name: &str) -> Option<&mut NamedGroup> {
        self.groups.get_mut(name)
    }

    /// What it remembers of its producers.
    pub fn dedup(&self) -> &Dedup {
        &self.dedup
    }

    /// The same, to be told what was appended.
    pub fn dedup_mut(&mut self) -> &mut Dedup {
        &mut self.dedup
    }

    /// The message ids that it remembers.
    pub fn ids(&self) -> &MessageIds {
        &self.ids
    }

    /// The same, to be told what was accepted.
    pub fn ids_mut(&mut self) -> &mut MessageIds {
        &mut self.ids
    }

    /// Gives offsets to `count` messages; the first of them. Call [`Queue::admit`] before.
    pub fn append(&mut self, count: u64, bytes: u64) -> u64 {
        let first = self.next;
        self.next += count;
        self.bytes += bytes;
        first
    }

    /// Everything appended so far may be delivered.
    pub fn set_visible(&mut self) {
        self.visible = self.next;
    }

    /// The caller has freed space.
    pub fn freed(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Sets the bytes held, when the log says how many after a restart.
    pub fn set_bytes(&mut self, bytes: u64) {
        self.bytes = bytes;
    }

    /// Makes a group, unless it is there. Gives the entry to write.
    pub fn add_group(&mut self, name: &str, start: u64, options: GroupOptions) -> Option<Entry> {
        if self.groups.contains_key(name) {
            return None;
        }
        let entry = Entry::GroupAdded {
            id: self.next_group,
            name: name.to_owned(),
            start: start.clamp(self.first, self.next),
            options,
        };
        self.apply(&entry);
        Some(entry)
    }

    /// Removes messages, whoever may still want them; for a group they count as acked. Gives the
    /// entry to write, if any of them was there, and how many went.
    pub fn remove(&mut self, ranges: &[Range]) -> Option<(Entry, u64)> {
        let before = self.gone.offsets();
        let mut there: Vec<Range> = Vec::with_capacity(ranges.len());
        for range in ranges {
            let range = Range {
                first: range.first.max(self.first),
                last: range.last.min(self.next.saturating_sub(1)),
            };
            if self.next > self.first && range.first <= range.last {
                self.gone.insert(range);
                there.push(range);
            }
        }
        let count = self.gone.offsets() - before;
        if count == 0 {
            return None;
        }
        there.sort_unstable();
        there.dedup();
        for named in self.groups.values_mut() {
            named.group.remove(&there);
            named.group.set_holes(self.gone.len());
        }
        Some((
            Entry::Removed {
                ranges: merged(&there),
            },
            count,
        ))
    }

    /// Moves a group: what is below `to` counts as acked, all from there on is due (again). Gives
    /// the entry to write.
    pub fn seek_group(&mut self, name: &str, to: u64) -> Option<Entry> {
        let to = to.clamp(self.first, self.next);
        let id = self.groups.get(name)?.id;
        let entry = Entry::GroupMoved { id, to };
        self.apply(&entry);
        Some(entry)
    }

    /// Removes a group. Gives the entry to write.
    pub fn remove_group(&mut self, name: &str) -> Option<Entry> {
        let id = self.groups.get(name)?.id;
        let entry = Entry::GroupRemoved { id };
        self.apply(&entry);
        Some(entry)
    }

    /// Drops everything that was appended. Gives the entry to write and how many messages went.
    pub fn purge(&mut self) -> (Entry, u64) {
        let gone = self.messages();
        let entry = Entry::Truncated { below: self.next };
        self.apply(&entry);
        (entry, gone)
    }

    /// Applies an entry that this queue did not make itself: at recovery.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::GroupAdded {
                id,
                name,
                start,
                options,
            } => {
                let group = NamedGroup {
                    id: *id,
                    group: self.group_from(options.kind, *start),
                    options: options.clone(),
                };
                self.groups.insert(name.clone(), group);
                self.next_group = self.next_group.max(id + 1);
            }
            Entry::GroupRemoved { id } => self.groups.retain(|_, g| g.id != *id),
            Entry::GroupMoved { id, to } => {
                let kind = self.groups.values().find(|g| g.id == *id);
                let kind = kind.map(|named| named.group.kind()).unwrap_or_default();
                let group = self.group_from(kind, *to);
                if let Some(named) = self.groups.values_mut().find(|g| g.id == *id) {
                    named.group = group;
                }
            }
            Entry::Truncated { below } => {
                self.first = self.first.max(*below);
                self.next = self.next.max(self.first);
                self.visible = self.visible.max(self.first);
                self.groups
                    .values_mut()
                    .for_each(|g| g.group.advance(*below));
                self.gone.remove_below(self.first);
            }
            Entry::Timed => self.is_timed = true,
            Entry::Produced {
                producer,
                epoch,
                runs,
            } => self.dedup.stored(*producer, *epoch, runs),
            Entry::Identified(ids) => self.ids.recovered(ids.clone()),
            Entry::Asked { producer, runs } => self.receipts.ask(*producer, runs),
            Entry::Settled {
                group,
                outcome,
                is_last,
                ranges,
            } => self.receipts.settle(group, ranges, *outcome, *is_last),
            Entry::Told { producer, below } => self.receipts.told(producer, *below),
            Entry::Forgotten { producer } => self.receipts.forget(producer),
            Entry::Acked { .. } | Entry::Attempts { .. } | Entry::Removed { .. } => {}
        }
    }

    /// A group that begins at `start`, and gets nothing that is gone.
    fn group_from(&self, kind: GroupKind, start: u64) -> Group {
        let mut group = Group::new(kind, start);
        let gone: Vec<Range> = self.gone.iter().collect();
        group.remove(&gone);
        group.set_holes(gone.len());
        group
    }

    /// What is due next for a group of this queue; see [`Group::next_run`].
    pub fn next_run(&self, group: &str, count_max: u64) -> Option<Attempted> {
        self.groups
            .get(group)?
            .group
            .next_run(self.visible, count_max)
    }

    /// Splits what failed into what may be tried again and what has had its attempts.
    pub fn split_spent(&self, failed: Vec<Attempted>) -> (Vec<Attempted>, Vec<Attempted>) {
        failed
            .into_iter()
            .partition(|f| f.attempt < self.settings.deliver_max)
    }

    /// When some group has something to do next.
    pub fn next_timeout(&self) -> Option<u64> {
        self.groups
            .values()
            .filter_map(|g| g.group.next_timeout())
            .min()
    }

    /// The whole state, so that the journal before it may go; the newest receive time is the
    /// caller's to say.
    pub fn snapshot(&self) -> Snapshot {
        let group = |(name, named): (&String, &NamedGroup)| GroupSnapshot {
            id: named.id,
            name: name.clone(),
            options: named.options.clone(),
            floor: named.group.floor(),
            acked: named.group.acked().clone(),
            attempts: named.group.attempts(),
        };
        let (next_receipt, receipts) = self.receipts.snapshot();
        Snapshot {
            first: self.first,
            next: self.next,
            next_group: self.next_group,
            gone: self.gone.clone(),
            is_timed: self.is_timed,
            newest_ms: 0,
            groups: self.groups.iter().map(group).collect(),
            producers: self.dedup.snapshot(),
            ids: self.ids.snapshot(),
            next_receipt,
            receipts,
        }
    }

    /// Acks for a consumer of a group. Gives the entry to write, if any of them was its own.
    pub fn ack(&mut self, group: &str, consumer: ConsumerId, ranges: &[Range]) -> Option<Entry> {
        let named = self.groups.get_mut(group)?;
        let done = named.group.ack(consumer, ranges);
        (!done.is_empty()).then_some(Entry::Acked {
            id: named.id,
            ranges: done,
        })
    }
}

/// A queue while its journal is read: entries in order, then [`Recovering::finish`].
#[derive(Debug)]
pub struct Recovering {
    queue: Queue,
    groups: BTreeMap<GroupId, GroupSnapshot>,
}

impl Recovering {
    /// Begins with an empty queue.
    pub fn new(name: impl Into<String>, settings: Settings) -> Recovering {
        Recovering {
            queue: Queue::new(name, settings),
            groups: BTreeMap::new(),
        }
    }

    /// A snapshot replaces everything before it.
    pub fn snapshot(&mut self, snapshot: Snapshot) {
        self.queue.first = snapshot.first;
        self.queue.next = snapshot.next;
        self.queue.next_group = snapshot.next_group;
        self.queue.gone = snapshot.gone;
        self.queue.is_timed = snapshot.is_timed;
        self.queue.dedup = Dedup::recover(snapshot.producers);
        self.queue.ids = MessageIds::recover(snapshot.ids);
        self.queue.receipts = Book::recover(snapshot.next_receipt, snapshot.receipts);
        self.groups = snapshot.groups.into_iter().map(|g| (g.id, g)).collect();
    }

    /// Messages were appended.
    pub fn messages(&mut self, first: u64, count: u64) {
        self.queue.next = self.queue.next.max(first + count);
    }

    /// Everything below was let go of, because every group had acked it.
    pub fn trimmed(&mut self, below: u64) {
        self.entry(Entry::Truncated { below });
    }

    /// The log has messages up to here (exclusive), whatever the journal says.
    pub fn at_least(&mut self, next: u64) {
        self.queue.next = self.queue.next.max(next);
    }

    /// Gives up the next `count` offsets: messages that were lost may have been delivered there.
    /// Gives the entry to write.
    pub fn give_up(&mut self, count: u64) -> Entry {
        let first = self.next_offset();
        let last = first.saturating_add(count).saturating_sub(1);
        let entry = Entry::Removed {
            ranges: vec![Range { first, last }],
        };
        self.entry(entry.clone());
        entry
    }

    /// One past all that was given out, let go of, or given up before it was given out.
    fn next_offset(&self) -> u64 {
        let given_up = self.queue.gone.last().map_or(0, |last| last + 1);
        self.queue.next.max(self.queue.first).max(given_up)
    }

    /// An entry was written.
    pub fn entry(&mut self, entry: Entry) {
        match entry {
            Entry::GroupAdded {
                id,
                name,
                start,
                options,
            } => {
                self.queue.next_group = self.queue.next_group.max(id + 1);
                let group = GroupSnapshot {
                    id,
                    name,
                    options,
                    floor: start,
                    ..GroupSnapshot::default()
                };
                self.groups.insert(id, group);
            }
            Entry::GroupRemoved { id } => drop(self.groups.remove(&id)),
            Entry::GroupMoved { id, to } => {
                if let Some(group) = self.groups.get_mut(&id) {
                    group.floor = to;
                    group.acked = RangeSet::new();
                    group.attempts.clear();
                }
            }
            Entry::Timed => self.queue.is_timed = true,
            Entry::Removed { ranges } => {
                ranges
                    .into_iter()
                    .for_each(|range| self.queue.gone.insert(range));
            }
            Entry::Acked { id, ranges } => {
                if let Some(group) = self.groups.get_mut(&id) {
                    ranges
                        .into_iter()
                        .for_each(|range| group.acked.insert(range));
                }
            }
            Entry::Attempts { id, attempts } => {
                if let Some(group) = self.groups.get_mut(&id) {
                    group.attempts.extend(attempts);
                }
            }
            Entry::Produced {
                producer,
                epoch,
                runs,
            } => self.queue.dedup.stored(producer, epoch, &runs),
            entry @ (Entry::Identified(_)
            | Entry::Asked { .. }
            | Entry::Settled { .. }
            | Entry::Told { .. }
            | Entry::Forgotten { .. }) => self.queue.apply(&entry),
            Entry::Truncated { below } => {
                self.queue.first = self.queue.first.max(below);
                self.queue.next = self.queue.next.max(below);
                for group in self.groups.values_mut() {
                    group.floor = group.floor.max(below);
                }
            }
        }
    }

    /// The queue as it was. Everything that was found is synced, so all of it is visible.
    pub fn finish(mut self) -> Queue {
        let next = self.next_offset();
        for (id, mut group) in self.groups {
            group.acked.remove_below(group.floor);
            let mut state = Group::recover(
                group.options.kind,
                group.floor,
                group.acked,
                &group.attempts,
            );
            state.advance(self.queue.first);
            let gone: Vec<Range> = self.queue.gone.iter().collect();
            state.remove(&gone);
            state.set_holes(gone.len());
            let named = NamedGroup {
                id,
                group: state,
                options: group.options,
            };
            self.queue.groups.insert(group.name, named);
        }
        if self.queue.settings.dedup_window_ms.is_none() {
            self.queue.ids.clear();
        }
        self.queue.gone.remove_below(self.queue.first);
        self.queue.next = next;
        self.queue.raise_first();
        self.queue.visible = self.queue.next;
        self.queue.receipts.set_synced();
        self.queue
    }
}

/// Ascending ranges, joined where they overlap or touch.
fn merged(ranges: &[Range]) -> Vec<Range> {
    let mut set = RangeSet::new();
    ranges.iter().for_each(|range| set.insert(*range));
    set.iter().collect()
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
