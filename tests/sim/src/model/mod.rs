//! The oracle: what a shard must hold, told by what was asked of it and what it answered.
//!
//! What is not known is not absent: a publish that was not accepted before a crash may be there or
//! not, an ack that was not synced may count or not. The model keeps such facts in doubt until the
//! shard shows what became of them, and from then on holds it to that.

mod group;
mod queue;

use std::collections::{BTreeMap, BTreeSet};

use crate::invariants::{Violation, accepted_once, atomic_sets};
use crate::message::{DeadLetter, Place, Tag};

pub use group::{End, Flight, GroupModel, Progress};
pub use queue::{Content, Entry, GroupChange, Keeps, QueueModel};

/// Identifies a queue over its whole life: its incarnation.
pub type Life = u64;

/// A publish that was not accepted yet.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Where its messages are: queue and offset.
    pub places: Vec<(Life, u64)>,
    /// Whether all its queues promise that what they confirm is synced.
    pub is_stored: bool,
}

/// All that is known.
#[derive(Default)]
pub struct Model {
    /// Queues that are there, and durable ones whose removal was not synced.
    pub queues: BTreeMap<Life, QueueModel>,
    /// Queues whose making failed: they may be found after a restart.
    pub maybe: BTreeMap<Life, QueueModel>,
    /// Queues whose removal was synced: rot may bring them back.
    removed: BTreeMap<Life, QueueModel>,
    /// Publishes that wait for their acceptance.
    pub waiting: BTreeMap<u64, Waiting>,
    /// Messages that ran out of attempts or were rejected, at any time: what may be a dead letter.
    pub spent: BTreeSet<(Place, Tag)>,
    /// Dead letters that went back, when that is not synced: each, and its copy.
    pub redriven: Vec<[(Life, u64); 2]>,
    /// Dead letters that were seen in their queue, synced.
    pub dead: BTreeSet<(Place, Tag)>,
    /// Those of them that did not go back to the same place: offsets of a queue in memory begin
    /// anew with each start, and so does a queue that was removed.
    pub gone: BTreeSet<(Place, Tag)>,
    /// Synced bytes were changed on purpose: losses are told by alarms, and only what is served
    /// is still checked.
    pub is_rotten: bool,
}

impl Model {
    /// The queue of this name that can be used.
    pub fn live(&self, name: &str) -> Option<Life> {
        self.queues
            .iter()
            .find(|(_, q)| q.name == name && !q.is_leaving)
            .map(|(life, _)| *life)
    }

    /// The names of queues that can be used.
    pub fn names(&self) -> Vec<String> {
        self.queues
            .values()
            .filter(|q| !q.is_leaving)
            .map(|q| q.name.clone())
            .collect()
    }

    /// A publish was taken: its messages stand at these places until they are accepted.
    pub fn published(
        &mut self,
        ticket: u64,
        messages: &[(Life, u64, Tag)],
    ) -> Result<(), Violation> {
        let mut waiting = Waiting {
            places: Vec::with_capacity(messages.len()),
            is_stored: true,
        };
        for (life, offset, tag) in messages {
            let Some(queue) = self.queues.get_mut(life) else {
                continue;
            };
            waiting.is_stored &= queue.is_stored;
            queue.append(*offset, Content::Published { tag: *tag, ticket })?;
            waiting.places.push((*life, *offset));
        }
        self.waiting.insert(ticket, waiting);
        Ok(())
    }

    /// A publish was accepted: from now on its messages must not be lost.
    pub fn accepted(&mut self, ticket: u64, is_stored: bool) -> Result<(), Violation> {
        let waiting = self.waiting.remove(&ticket);
        let waiting = accepted_once::check(ticket, waiting, is_stored)?;
        for (life, offset) in waiting.places {
            if let Some(queue) = self.queues.get_mut(&life) {
                queue.accepted(offset);
            }
        }
        Ok(())
    }

    /// A commit returned: everything that was said before it is durable.
    pub fn committed(&mut self) {
        let is_gone = |_: &Life, q: &mut QueueModel| q.is_leaving;
        self.removed.extend(self.queues.extract_if(.., is_gone));
        self.redriven.clear();
        self.queues.values_mut().for_each(QueueModel::committed);
    }

    /// A queue was found that had been removed: where rot took its tombstone, it is one again.
    pub fn returned(&mut self, life: Life) -> Option<&QueueModel> {
        if !self.is_rotten || self.queues.contains_key(&life) {
            return None;
        }
        let queue = self.removed.remove(&life)?;
        Some(self.queues.entry(life).or_insert(queue))
    }

    /// A dead letter was seen.
    pub fn learn(&mut self, life: Life, offset: u64, letter: &DeadLetter) {
        let fact = (letter.place.clone(), letter.tag);
        self.dead.insert(fact.clone());
        self.gone.insert(fact);
        let entry = self
            .queues
            .get_mut(&life)
            .and_then(|q| q.entries.get_mut(&offset));
        if let Some(entry) = entry {
            entry.content = Content::Dead(Some(letter.clone()));
        }
    }

    /// The process ended: memory queues and leases are gone, what was not synced is in doubt.
    pub fn crashed(&mut self) {
        self.queues.retain(|_, q| q.is_durable);
        self.maybe.retain(|_, q| q.is_durable);
        self.queues.values_mut().for_each(QueueModel::crashed);
    }

    /// After a recovery showed which of the waiting messages are there: each publish must be there
    /// as a whole or not at all.
    pub fn resolve_waiting(
        &mut self,
        is_there: &BTreeMap<(Life, u64), bool>,
    ) -> Result<(), Violation> {
        for (ticket, waiting) in std::mem::take(&mut self.waiting) {
            let known: Vec<bool> = waiting
                .places
                .iter()
                .filter_map(|place| is_there.get(place).copied())
                .collect();
            if !self.is_rotten {
                atomic_sets::check(ticket, &waiting.places, &known)?;
            }
        }
        Ok(())
    }

    /// The same of dead letters that went back: each is in one place, and not in both.
    pub fn resolve_redriven(
        &mut self,
        is_there: &BTreeMap<(Life, u64), bool>,
        is_gone: &BTreeMap<(Life, u64), bool>,
    ) -> Result<(), Violation> {
        for [letter, copy] in std::mem::take(&mut self.redriven) {
            if let (Some(there), Some(gone)) = (is_there.get(&copy), is_gone.get(&letter)) {
                atomic_sets::check_redriven(letter, copy, *there, *gone)?;
            }
        }
        Ok(())
    }
}
