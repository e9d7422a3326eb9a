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

use hashbrown::HashTable;
use waypost_wire::data::Range;

use crate::group::ConsumerId;
use crate::pages::Pages;

/// Keyed messages of one group that may wait for their turn; at the bound the group takes nothing
/// new. About 100 B each.
pub const PARKED_MAX: usize = 1 << 16;
/// Keys of which nothing is in flight or waits that are kept whatever the others are, because they
/// are likely to come again. 48 B each.
const IDLE_MAX: usize = 1024;
/// Parts of the keys that are given to consumers: so many consumers of a group can have some.
const PARTS: usize = 1 << 12;
/// Any number, always the same: a key's messages find each other again after a restart.
const SEED: u64 = 0x7761_7970_6f73_7431;

/// A key by its hash. Two keys with the same hash are one: they wait for each other.
pub type KeyHash = u64;

/// The hash of a key.
#[inline]
pub fn hash(key: &[u8]) -> KeyHash {
    foldhash::fast::FixedState::with_seed(SEED).hash_one(key)
}

/// Numbers a key while something of it is in flight or waits. Not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(u32);

impl KeyId {
    /// The number, for [`Keys::note`].
    #[inline]
    pub fn number(self) -> u32 {
        self.0
    }

    fn index(self) -> usize {
        self.0 as usize - 1
    }
}

#[derive(Debug)]
struct Key {
    hash: KeyHash,
    /// Whose it is, if anybody's: as [`Keys::owner`] says.
    owner: Option<ConsumerId>,
    /// Who has what is in flight.
    holder: ConsumerId,
    in_flight: u32,
    parked: Option<Box<Parked>>,
}

impl Key {
    /// Nothing of it is known but its name.
    #[inline]
    fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.parked.is_none()
    }
}

/// What of a key is not with a consumer. There is some.
#[derive(Debug, Default)]
struct Parked {
    /// Offsets, and whether each is due.
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
    /// Numbers by hash.
    index: HashTable<KeyId>,
    /// By number, less one.
    keys: Vec<Key>,
    free: Vec<KeyId>,
    /// How many keys have nothing.
    idle: usize,
    /// The key's number of each message that is known.
    of: Pages,
    /// For each consumer, what it may be given now: lowest offset and key.
    ready: BTreeMap<ConsumerId, BTreeSet<(u64, KeyId)>>,
    /// Consumers for whom something became ready, or who have room again.
    woken: BTreeSet<ConsumerId>,
    waiting: usize,
}

impl Keys {
    /// Whether so many wait that nothing new may be passed over.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.waiting >= PARKED_MAX
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
        self.assign();
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
        self.assign();
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

    /// Tells all keys whose they are, and lists those of which something waits again.
    fn assign(&mut self) {
        for index in 0..self.keys.len() {
            let owner = self.owner(self.keys[index].hash);
            self.keys[index].owner = owner;
            if self.keys[index].parked.is_some() {
                self.list(KeyId(index as u32 + 1));
            }
        }
    }

    /// The key with this hash. It keeps its number only while something of it is in flight or waits.
    #[inline]
    pub fn find(&mut self, hash: KeyHash) -> KeyId {
        let keys = &self.keys;
        let is_it = |id: &KeyId| keys[id.index()].hash == hash;
        if let Some(id) = self.index.find(hash, is_it) {
            return *id;
        }
        if self.idle > IDLE_MAX && 2 * self.idle > self.index.len() {
            self.forget_idle();
        }
        let key = Key {
            hash,
            owner: self.owner(hash),
            holder: 0,
            in_flight: 0,
            parked: None,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.keys[id.index()] = key;
                id
            }
            None => {
                self.keys.push(key);
                KeyId(self.keys.len() as u32)
            }
        };
        self.idle += 1;
        let keys = &self.keys;
        let hash_of = |id: &KeyId| keys[id.index()].hash;
        self.index.insert_unique(hash, id, hash_of);
        id
    }

    fn forget_idle(&mut self) {
        let (keys, free) = (&self.keys, &mut self.free);
        self.index.retain(|id| {
            let is_idle = keys[id.index()].is_idle();
            if is_idle {
                free.push(*id);
            }
            !is_idle
        });
        self.idle = 0;
        if self.index.is_empty() {
            (self.index, self.keys, self.free) = (HashTable::new(), Vec::new(), Vec::new());
        }
    }

    /// Who gets the next message of a key, if somebody may now and nothing of it waits.
    #[inline]
    pub fn taker(&self, id: KeyId) -> Option<ConsumerId> {
        let key = &self.keys[id.index()];
        let owner = key.owner?;
        let may = key.parked.is_none() && (key.in_flight == 0 || key.holder == owner);
        may.then_some(owner)
    }

    /// A message that nobody looked at before goes to a consumer; [`Keys::note`] must follow.
    #[inline]
    pub fn given(&mut self, id: KeyId, consumer: ConsumerId) {
        let key = &mut self.keys[id.index()];
        self.idle -= usize::from(key.is_idle());
        key.holder = consumer;
        key.in_flight += 1;
    }

    /// A message waits that nobody looked at before; [`Keys::note`] must follow.
    pub fn park(&mut self, offset: u64, id: KeyId) {
        self.wait(offset, id, true);
    }

    /// The keys of messages from `first` on that were given or parked, by number; 0 for the others.
    #[inline]
    pub fn note(&mut self, first: u64, keys: &[u32]) {
        self.of.put_each(first, keys);
    }

    /// A message that waits goes to a consumer.
    pub fn unpark(&mut self, offset: u64, id: KeyId, consumer: ConsumerId) {
        let key = &mut self.keys[id.index()];
        if let Some(parked) = &mut key.parked
            && parked.waiting.remove(&offset).is_some()
        {
            self.waiting -= 1;
            key.holder = consumer;
            key.in_flight += 1;
            self.list(id);
        }
    }

    fn wait(&mut self, offset: u64, id: KeyId, is_due: bool) {
        let key = &mut self.keys[id.index()];
        self.idle -= usize::from(key.is_idle());
        let parked = key.parked.get_or_insert_default();
        if parked.waiting.insert(offset, is_due).is_none() {
            self.waiting += 1;
        }
        self.list(id);
    }

    /// A message is not in flight any more and comes again: now, or when it is said to be due. Says
    /// whether it is known to have a key.
    pub fn back(&mut self, offset: u64, is_due: bool) -> bool {
        let id = KeyId(self.of.get(offset));
        if id.0 == 0 {
            return false;
        }
        let key = &mut self.keys[id.index()];
        let parked = key.parked.get_or_insert_default();
        if !parked.waiting.contains_key(&offset) {
            key.in_flight = key.in_flight.saturating_sub(1);
        }
        self.wait(offset, id, is_due);
        true
    }

    /// Messages are done with, whoever had them.
    pub fn forget(&mut self, ranges: &[Range]) {
        if self.of.is_empty() {
            return;
        }
        let (keys, idle, waiting) = (&mut self.keys, &mut self.idle, &mut self.waiting);
        let mut touched = Vec::new();
        self.of.drain(ranges, |offset, number| {
            let id = KeyId(number);
            let key = &mut keys[id.index()];
            let is_waiting = match &mut key.parked {
                Some(parked) => {
                    touched.push(id);
                    parked.waiting.remove(&offset).is_some()
                }
                None => false,
            };
            if is_waiting {
                *waiting -= 1;
                return;
            }
            key.in_flight = key.in_flight.saturating_sub(1);
            *idle += usize::from(key.is_idle());
        });
        // One that is touched twice may be idle by the second time.
        touched.sort_unstable();
        touched.dedup();
        touched.into_iter().for_each(|id| self.list(id));
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
    pub fn ready(&self, consumer: ConsumerId) -> Option<(u64, KeyId)> {
        self.ready.get(&consumer)?.first().copied()
    }

    /// Puts a key of which something waits where it belongs among what is ready. Where nothing waits
    /// any more, it is one like the others again.
    fn list(&mut self, id: KeyId) {
        let key = &mut self.keys[id.index()];
        let owner = key.owner;
        let Some(parked) = &mut key.parked else {
            return;
        };
        let head = parked.waiting.first_key_value();
        let due = head.filter(|(_, is_due)| **is_due).map(|(at, _)| *at);
        let taker = owner.filter(|owner| key.in_flight == 0 || key.holder == *owner);
        let place = taker.zip(due);
        if parked.listed != place {
            let before = std::mem::replace(&mut parked.listed, place);
            if let Some((consumer, offset)) = before
                && let Some(ready) = self.ready.get_mut(&consumer)
            {
                ready.remove(&(offset, id));
                if ready.is_empty() {
                    self.ready.remove(&consumer);
                }
            }
            if let Some((consumer, offset)) = place {
                self.ready.entry(consumer).or_default().insert((offset, id));
                self.woken.insert(consumer);
            }
        }
        if parked.waiting.is_empty() {
            key.parked = None;
            self.idle += usize::from(key.in_flight == 0);
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

    fn given(keys: &mut Keys, offset: u64, key: KeyHash, consumer: ConsumerId) {
        let id = keys.find(key);
        keys.given(id, consumer);
        keys.note(offset, &[id.number()]);
    }

    fn park(keys: &mut Keys, offset: u64, key: KeyHash) {
        let id = keys.find(key);
        keys.park(offset, id);
        keys.note(offset, &[id.number()]);
    }

    fn taker(keys: &mut Keys, key: KeyHash) -> Option<ConsumerId> {
        let id = keys.find(key);
        keys.taker(id)
    }

    #[test]
    fn a_key_waits_for_itself_and_moves_when_nothing_of_it_is_in_flight() {
        let mut keys = Keys::default();
        keys.join(1);
        let key = (0..).find(|k| best(*k as usize % PARTS, &[1, 2].into()) == 2);
        let key = key.unwrap();
        assert_eq!(taker(&mut keys, key), Some(1));
        given(&mut keys, 10, key, 1);
        assert_eq!(taker(&mut keys, key), Some(1));
        keys.join(2);
        assert_eq!(taker(&mut keys, key), None);
        park(&mut keys, 11, key);
        assert_eq!((keys.ready(1), keys.ready(2)), (None, None));
        keys.back(10, false);
        assert_eq!(keys.ready(2), None);
        keys.back(10, true);
        let id = keys.find(key);
        assert_eq!(
            (keys.ready(2), keys.take_woken()),
            (Some((10, id)), Some(2))
        );
        keys.unpark(10, id, 2);
        assert_eq!(keys.ready(2), Some((11, id)));
        keys.unpark(11, id, 2);
        keys.forget(&[Range { first: 0, last: 10 }]);
        assert_eq!((taker(&mut keys, key), keys.waiting), (Some(2), 0));
        keys.leave(2);
        assert!(keys.back(11, true) && !keys.back(12, true));
        assert_eq!(keys.ready(1), Some((11, id)));
        keys.forget(&[Range {
            first: 11,
            last: 99,
        }]);
        assert!(keys.of.is_empty() && keys.ready.is_empty());
        assert_eq!((keys.idle, keys.waiting), (1, 0));
    }

    /// Memory goes with what is in flight, not with the keys that there ever were.
    #[test]
    fn keys_with_nothing_are_forgotten() {
        let mut keys = Keys::default();
        keys.join(1);
        for offset in 0..100_000 {
            given(&mut keys, offset, hash(&offset.to_le_bytes()), 1);
            if offset >= 10 {
                keys.forget(&[Range::one(offset - 10)]);
            }
            assert!(keys.keys.len() <= IDLE_MAX + 20, "{}", keys.keys.len());
        }
        // Many at once stay as long as they are in flight.
        for offset in 100_000..150_000 {
            given(&mut keys, offset, hash(&offset.to_le_bytes()), 1);
        }
        let busy = keys.keys.iter().filter(|key| !key.is_idle()).count();
        assert_eq!((busy, keys.index.len() - keys.idle), (50_010, 50_010));
        let all = Range {
            first: 0,
            last: 200_000,
        };
        keys.forget(&[all]);
        assert_eq!(keys.idle, keys.index.len());
        keys.find(1);
        assert_eq!(keys.keys.len(), 1);
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
