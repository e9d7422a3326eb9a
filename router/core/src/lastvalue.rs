//! The newest message of each key of a queue that keeps nothing else.
//!
//! The index holds every key that the queue has a message of (about 64 B and the key's bytes each);
//! nothing of it is stored. After a restart it is made again from the messages, in steps
//! ([`LastValues::found`]), while new ones come already: an older message that is found later knows
//! that it was replaced.

use std::collections::HashMap;

/// Keys of messages that are gone may be kept up to this many, and as many as there are messages,
/// before they are dropped.
const STALE_MAX: u64 = 1024;

/// The index of one queue.
#[derive(Clone, Debug, Default)]
pub struct LastValues {
    newest: HashMap<Box<[u8]>, u64, foldhash::fast::RandomState>,
    /// Offsets from here to `end` were there before and have not been looked at.
    next: u64,
    end: u64,
}

impl LastValues {
    /// For a queue that has messages at `first..end` already.
    pub fn new(first: u64, end: u64) -> LastValues {
        LastValues {
            next: first,
            end,
            ..LastValues::default()
        }
    }

    /// Where to look next among the messages that were there before, and where they end.
    pub fn unseen(&self) -> Option<(u64, u64)> {
        (self.next < self.end).then_some((self.next, self.end))
    }

    /// All before `offset` have been looked at.
    pub fn seen(&mut self, offset: u64) {
        self.next = self.next.max(offset);
    }

    /// A message is appended. Gives the one that it replaces.
    pub fn put(&mut self, key: &[u8], offset: u64) -> Option<u64> {
        match self.newest.get_mut(key) {
            Some(newest) => Some(std::mem::replace(newest, offset)),
            None => {
                self.newest.insert(key.into(), offset);
                None
            }
        }
    }

    /// Takes back a [`LastValues::put`] that came to nothing.
    pub fn undo(&mut self, key: &[u8], before: Option<u64>) {
        match before {
            Some(offset) => drop(self.newest.insert(key.into(), offset)),
            None => drop(self.newest.remove(key)),
        }
    }

    /// A message that was there before. Gives the older one of the two that have its key.
    pub fn found(&mut self, key: &[u8], offset: u64) -> Option<u64> {
        match self.newest.get(key) {
            Some(newest) if *newest > offset => Some(offset),
            Some(newest) if *newest == offset => None,
            _ => self.put(key, offset),
        }
    }

    /// Drops keys whose message is gone, if they may be many; the queue holds `messages`.
    pub fn prune(&mut self, messages: u64, is_there: impl Fn(u64) -> bool) {
        if self.newest.len() as u64 > 2 * messages + STALE_MAX {
            self.newest.retain(|_, offset| is_there(*offset));
        }
    }

    /// How many keys it knows.
    pub fn len(&self) -> usize {
        self.newest.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_replaces_whatever_is_found_first() {
        let mut values = LastValues::new(10, 14);
        // New ones come before the old ones were looked at.
        assert_eq!(values.put(b"a", 14), None);
        assert_eq!(values.unseen(), Some((10, 14)));
        assert_eq!(values.found(b"a", 10), Some(10));
        assert_eq!(values.found(b"b", 11), None);
        assert_eq!(values.found(b"b", 12), Some(11));
        assert_eq!(values.found(b"b", 12), None);
        values.seen(14);
        assert_eq!(values.unseen(), None);
        assert_eq!(values.put(b"b", 15), Some(12));
        assert_eq!(values.put(b"b", 16), Some(15));
        values.undo(b"b", Some(15));
        assert_eq!(values.put(b"c", 17), None);
        values.undo(b"c", None);
        assert_eq!(values.put(b"b", 18), Some(15));
        assert_eq!(values.len(), 2);
    }

    #[test]
    fn keys_of_what_is_gone_do_not_pile_up() {
        let mut values = LastValues::new(0, 0);
        for offset in 0..100_000u64 {
            values.put(&offset.to_le_bytes(), offset);
            values.prune(10, |o| o + 10 > offset);
        }
        assert!(values.len() <= 1024 + 20 + 10, "{}", values.len());
    }
}
