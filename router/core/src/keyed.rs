//! Which consumer of a `key` group gets the messages of which key.
//!
//! Keys are spread over the consumers by rendezvous hashing, so that a consumer that comes or goes
//! moves only the keys that it gets or had. Invariants: of one key, messages are in flight to one
//! consumer only; what is given out next is the lowest that waits, and only if it is due; a key
//! whose assignment changed moves when nothing of it is in flight. So a key that waits holds back
//! itself and nobody else.
//!
//! Known here is every keyed message that is in flight or was passed over, and nothing of the
//! others: memory grows with what consumers may hold and [`PARKED_MAX`], not with the queue.
//! Where the messages are, and at which attempt, is the group's matter ([`crate::group`]).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;

use hashbrown::HashMap;
use waypost_wire::data::Range;

use crate::group::ConsumerId;

/// Keyed messages of one group that may wait for their turn; at the bound the group takes nothing
/// new. About 150 B each.
pub const PARKED_MAX: usize = 1 << 16;
/// Parts of the keys that are given to consumers: so many consumers of a group can have some.
const PARTS: usize = 1 << 12;
/// Any number, always the same: a key's messages find each other again after a restart.
const SEED: u64 = 0x7761_7970_6f73_7431;

/// A key by its hash. Two keys with the same hash are one: they wait for each other.
pub type KeyHash = u64;

type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// The hash of a key.
#[inline]
pub fn hash(key: &[u8]) -> KeyHash {
    foldhash::fast::FixedState::with_seed(SEED).hash_one(key)
}

#[derive(Debug, Default)]
struct Key {
    /// Who has what is in flight.
    holder: ConsumerId,
    in_flight: u32,
    /// Offsets that are not with a consumer, and whether each is due.
    waiting: BTreeMap<u64, bool>,
    /// Where it stands in [`Keys::ready`].
    listed: Option<(ConsumerId, u64)>,
}

/// The keys of one group.
#[derive(Debug, Default)]
pub struct Keys {
    consumers: BTreeSet<ConsumerId>,
    /// Whose each part is; empty with fewer than two consumers.
    owners: Vec<ConsumerId>,
    keys: Map<KeyHash, Key>,
    /// Of each message that is known.
    of: Map<u64, KeyHash>,
    /// For each consumer, what it may be given now: lowest offset and key.
    ready: BTreeMap<ConsumerId, BTreeSet<(u64, KeyHash)>>,
    /// Consumers for whom something became ready, or who have room again.
    woken: BTreeSet<ConsumerId>,
    waiting: usize,
}

impl Keys {
    /// Whether so many wait that nothing new may be passed over.
    pub fn is_full(&self) -> bool {
        self.waiting >= PARKED_MAX
    }

    /// Whether the message has a key and is in flight or waiting.
    pub fn knows(&self, offset: u64) -> bool {
        self.of.contains_key(&offset)
    }

    /// A consumer came: it gets its share of the keys.
    pub fn join(&mut self, consumer: ConsumerId) {
        if !self.consumers.insert(consumer) {
            return;
        }
        match self.owners.is_empty() {
            true => self.share_out(),
            false => {
                for (part, owner) in self.owners.iter_mut().enumerate() {
                    if weight(part, consumer) > weight(part, *owner) {
                        *owner = consumer;
                    }
                }
            }
        }
        self.list_again();
    }

    /// A consumer went: the others get its keys. What it holds is in flight until it is put back.
    pub fn leave(&mut self, consumer: ConsumerId) {
        if !self.consumers.remove(&consumer) {
            return;
        }
        self.woken.remove(&consumer);
        match self.consumers.len() {
            0 | 1 => self.owners = Vec::new(),
            _ => {
                let consumers = &self.consumers;
                let owners = self.owners.iter_mut().enumerate();
                for (part, owner) in owners.filter(|(_, owner)| **owner == consumer) {
                    *owner = best(part, consumers);
                }
            }
        }
        self.list_again();
    }

    fn share_out(&mut self) {
        if self.consumers.len() > 1 {
            let consumers = &self.consumers;
            self.owners = (0..PARTS).map(|part| best(part, consumers)).collect();
        }
    }

    fn owner(&self, key: KeyHash) -> Option<ConsumerId> {
        match self.owners.is_empty() {
            true => self.consumers.first().copied(),
            false => self.owners.get(key as usize % PARTS).copied(),
        }
    }

    /// Who gets the next message of a key, if somebody may now and nothing of it waits.
    pub fn taker(&self, key: KeyHash) -> Option<ConsumerId> {
        let owner = self.owner(key);
        match self.keys.get(&key) {
            Some(known) if !known.waiting.is_empty() => None,
            Some(known) if known.in_flight > 0 => owner.filter(|owner| *owner == known.holder),
            _ => owner,
        }
    }

    /// A message goes to a consumer.
    pub fn given(&mut self, offset: u64, key: KeyHash, consumer: ConsumerId) {
        self.of.insert(offset, key);
        let known = self.keys.entry(key).or_default();
        known.holder = consumer;
        known.in_flight += 1;
        if known.waiting.remove(&offset).is_some() {
            self.waiting -= 1;
            self.list(key);
        }
    }

    /// A message waits that is not in flight.
    pub fn park(&mut self, offset: u64, key: KeyHash) {
        self.of.insert(offset, key);
        self.wait(offset, key, true);
    }

    fn wait(&mut self, offset: u64, key: KeyHash, is_due: bool) {
        let known = self.keys.entry(key).or_default();
        if known.waiting.insert(offset, is_due).is_none() {
            self.waiting += 1;
        }
        self.list(key);
    }

    /// A known message is not in flight any more and comes again: now, or when it is said to be due.
    pub fn back(&mut self, offset: u64, is_due: bool) {
        let Some(&key) = self.of.get(&offset) else {
            return;
        };
        if let Some(known) = self.keys.get_mut(&key)
            && !known.waiting.contains_key(&offset)
        {
            known.in_flight = known.in_flight.saturating_sub(1);
        }
        self.wait(offset, key, is_due);
    }

    /// Messages are done with, whoever had them.
    pub fn forget(&mut self, range: Range) {
        if range.count() as usize <= self.of.len() {
            return (range.first..=range.last).for_each(|offset| self.forget_one(offset));
        }
        let is_in = |offset: &u64| (range.first..=range.last).contains(offset);
        let all: Vec<u64> = self.of.keys().copied().filter(is_in).collect();
        all.into_iter().for_each(|offset| self.forget_one(offset));
    }

    fn forget_one(&mut self, offset: u64) {
        let Some(key) = self.of.remove(&offset) else {
            return;
        };
        let Some(known) = self.keys.get_mut(&key) else {
            return;
        };
        match known.waiting.remove(&offset) {
            Some(_) => self.waiting -= 1,
            None => known.in_flight = known.in_flight.saturating_sub(1),
        }
        if known.in_flight == 0 && known.waiting.is_empty() && known.listed.is_none() {
            self.keys.remove(&key);
        } else if !known.waiting.is_empty() || known.listed.is_some() {
            self.list(key);
        }
    }

    /// A consumer has room again.
    pub fn wake(&mut self, consumer: ConsumerId) {
        if self.ready.contains_key(&consumer) {
            self.woken.insert(consumer);
        }
    }

    /// A consumer for whom something is ready and who may have room.
    pub fn take_woken(&mut self) -> Option<ConsumerId> {
        self.woken.pop_first()
    }

    /// The lowest message that a consumer may be given now, and its key.
    pub fn ready(&self, consumer: ConsumerId) -> Option<(u64, KeyHash)> {
        self.ready.get(&consumer)?.first().copied()
    }

    fn list_again(&mut self) {
        let waiting = self.keys.iter().filter(|(_, key)| !key.waiting.is_empty());
        let mut keys: Vec<KeyHash> = waiting.map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys.into_iter().for_each(|key| self.list(key));
    }

    /// Puts a key where it belongs among what is ready, and forgets it when nothing is left of it.
    fn list(&mut self, hash: KeyHash) {
        let owner = self.owner(hash);
        let Some(key) = self.keys.get_mut(&hash) else {
            return;
        };
        let head = key.waiting.first_key_value();
        let due = head.filter(|(_, is_due)| **is_due).map(|(at, _)| *at);
        let taker = owner.filter(|owner| key.in_flight == 0 || key.holder == *owner);
        let place = taker.zip(due);
        if key.listed != place {
            let before = std::mem::replace(&mut key.listed, place);
            if let Some((consumer, offset)) = before
                && let Some(ready) = self.ready.get_mut(&consumer)
            {
                ready.remove(&(offset, hash));
                if ready.is_empty() {
                    self.ready.remove(&consumer);
                }
            }
            if let Some((consumer, offset)) = place {
                self.ready
                    .entry(consumer)
                    .or_default()
                    .insert((offset, hash));
                self.woken.insert(consumer);
            }
        }
        if key.in_flight == 0 && key.waiting.is_empty() {
            self.keys.remove(&hash);
        }
    }
}

/// The consumer that a part prefers.
fn best(part: usize, consumers: &BTreeSet<ConsumerId>) -> ConsumerId {
    let by_weight = |consumer: &&ConsumerId| weight(part, **consumer);
    consumers.iter().max_by_key(by_weight).copied().unwrap_or(0)
}

/// SplitMix64's finish over both, so that no consumer is like its neighbour.
fn weight(part: usize, consumer: ConsumerId) -> u64 {
    let mut mixed = (part as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(consumer.wrapping_mul(0xd1b5_4a32_d192_ed03));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_waits_for_itself_and_moves_when_nothing_of_it_is_in_flight() {
        let mut keys = Keys::default();
        keys.join(1);
        let key = (0..).find(|k| best(*k as usize % PARTS, &[1, 2].into()) == 2);
        let key = key.unwrap();
        assert_eq!(keys.taker(key), Some(1));
        keys.given(10, key, 1);
        assert_eq!(keys.taker(key), Some(1));
        keys.join(2);
        assert_eq!(keys.taker(key), None);
        keys.park(11, key);
        assert_eq!((keys.ready(1), keys.ready(2)), (None, None));
        keys.back(10, false);
        assert_eq!(keys.ready(2), None);
        keys.back(10, true);
        assert_eq!(
            (keys.ready(2), keys.take_woken()),
            (Some((10, key)), Some(2))
        );
        keys.given(10, key, 2);
        assert_eq!(keys.ready(2), Some((11, key)));
        keys.given(11, key, 2);
        keys.forget(Range { first: 0, last: 10 });
        assert_eq!((keys.taker(key), keys.waiting), (Some(2), 0));
        keys.leave(2);
        keys.back(11, true);
        assert_eq!(keys.ready(1), Some((11, key)));
        keys.forget(Range {
            first: 11,
            last: 99,
        });
        assert!(keys.keys.is_empty() && keys.of.is_empty() && keys.ready.is_empty());
    }

    #[test]
    fn a_consumer_that_comes_or_goes_moves_only_its_share() {
        let mut keys = Keys::default();
        (1..=8).for_each(|consumer| keys.join(consumer));
        let before = keys.owners.clone();
        for consumer in 1..=8 {
            let share = before.iter().filter(|owner| **owner == consumer).count();
            assert!((PARTS / 16..PARTS / 4).contains(&share), "{share}");
        }
        keys.leave(3);
        let moved = |after: &[u64]| before.iter().zip(after).filter(|(a, b)| a != b).count();
        let share = before.iter().filter(|owner| **owner == 3).count();
        assert_eq!(moved(&keys.owners), share);
        keys.join(3);
        assert_eq!(moved(&keys.owners), 0);
    }
}
