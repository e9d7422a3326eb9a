//! What a plugin keeps: keys and values, bounded, some of which expire.
//!
//! A [`Table`] is what counts; a [`Pending`] is what the batch at work wrote over it, and becomes
//! part of it only when the batch was taken ([`Table::apply`]). A call that failed is taken back to
//! a [`Mark`]. The log has a record for each write, by key; [`Table::oldest`] says which values
//! must be written again, so that the log can give back what lies before them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

/// What an entry costs in memory beside its key and value: two trees' nodes, two handles.
const ENTRY_BYTES: u64 = 160;
/// The log may hold so many times what lives, and [`SLACK_BYTES`], before values move.
const SPAN_FACTOR: u64 = 4;
const SLACK_BYTES: u64 = 1 << 20;

/// The table has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plugin's state is full: {bytes} bytes of {limit}")]
pub struct Full {
    /// What it would have.
    pub bytes: u64,
    /// What it may have.
    pub limit: u64,
}

/// A value, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: Bytes,
    /// The value; none removes it.
    pub value: Option<Bytes>,
    /// When it expires, in ms of the monotonic clock.
    pub expires: Option<u64>,
}

#[derive(Clone, Debug)]
struct Value {
    bytes: Bytes,
    expires: Option<u64>,
    /// Where the log has it: bytes written before it.
    position: u64,
}

/// What counts.
#[derive(Debug)]
pub struct Table {
    values: BTreeMap<Bytes, Value>,
    expiries: BTreeSet<(u64, Bytes)>,
    positions: BTreeMap<u64, Bytes>,
    bytes: u64,
    limit: u64,
    written: u64,
}

fn cost(key: &Bytes, value: &Bytes) -> u64 {
    key.len() as u64 + value.len() as u64 + ENTRY_BYTES
}

impl Table {
    /// An empty one that may have so many bytes.
    pub fn new(limit: u64) -> Table {
        Table {
            values: BTreeMap::new(),
            expiries: BTreeSet::new(),
            positions: BTreeMap::new(),
            bytes: 0,
            limit,
            written: 0,
        }
    }

    /// Its bytes: keys, values, and 160 for each entry.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Another bound. What is there stays.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// These writes count, in this order.
    pub fn apply(&mut self, writes: impl IntoIterator<Item = Write>) {
        for Write {
            key,
            value,
            expires,
        } in writes
        {
            self.take(&key);
            let position = self.written;
            self.written += key.len() as u64 + value.as_ref().map_or(0, Bytes::len) as u64 + 32;
            let Some(bytes) = value else { continue };
            self.bytes += cost(&key, &bytes);
            self.positions.insert(position, key.clone());
            if let Some(at) = expires {
                self.expiries.insert((at, key.clone()));
            }
            let value = Value {
                bytes,
                expires,
                position,
            };
            self.values.insert(key, value);
        }
    }

    fn take(&mut self, key: &Bytes) {
        let Some(value) = self.values.remove(key) else {
            return;
        };
        self.bytes -= cost(key, &value.bytes);
        self.positions.remove(&value.position);
        if let Some(at) = value.expires {
            self.expiries.remove(&(at, key.clone()));
        }
    }

    /// Lets go of what has expired. The log does so by itself.
    pub fn expire(&mut self, now: u64) {
        while let Some((at, key)) = self.expiries.first()
            && *at <= now
        {
            let key = key.clone();
            self.take(&key);
        }
    }

    /// Up to `count` values that have lain in the log for so long that they hold up more than four
    /// times what lives: as writes that change nothing but their place.
    pub fn oldest(&self, count: usize) -> Vec<Write> {
        let Some((first, _)) = self.positions.first_key_value() else {
            return Vec::new();
        };
        let live = self.bytes - self.values.len() as u64 * ENTRY_BYTES;
        if self.written - first <= live * SPAN_FACTOR + SLACK_BYTES {
            return Vec::new();
        }
        let keys = self.positions.values().take(count);
        let again = keys.filter_map(|key| {
            let value = self.values.get(key)?;
            Some(Write {
                key: key.clone(),
                value: Some(value.bytes.clone()),
                expires: value.expires,
            })
        });
        again.collect()
    }
}

/// A written value, or that the key is gone, with when it expires.
type Written = (Option<Bytes>, Option<u64>);

/// What the batch at work wrote, in a form that can be taken back to a [`Mark`].
#[derive(Debug, Default)]
pub struct Pending {
    writes: BTreeMap<Bytes, Written>,
    undo: Vec<(Bytes, Option<Written>)>,
    /// Bytes that it adds to the table, or takes from it.
    delta: i64,
    deltas: Vec<i64>,
}

/// A moment of a [`Pending`].
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize);

impl Pending {
    /// Now.
    pub fn mark(&self) -> Mark {
        Mark(self.undo.len())
    }

    /// What was written since is undone.
    pub fn rollback(&mut self, mark: Mark) {
        while self.undo.len() > mark.0 {
            if let Some(delta) = self.deltas.pop() {
                self.delta = delta;
            }
            match self.undo.pop() {
                Some((key, Some(before))) => drop(self.writes.insert(key, before)),
                Some((key, None)) => drop(self.writes.remove(&key)),
                None => return,
            }
        }
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The last write of each key, by key; nothing is pending then.
    pub fn take(&mut self) -> Vec<Write> {
        let pending = std::mem::take(self);
        let write = |(key, (value, expires))| Write {
            key,
            value,
            expires,
        };
        pending.writes.into_iter().map(write).collect()
    }
}

/// A table with what is pending over it, at one moment.
#[derive(Debug)]
pub struct View<'a> {
    /// What counts.
    pub table: &'a Table,
    /// What may count.
    pub pending: &'a mut Pending,
    /// On the monotonic clock, in ms.
    pub now: u64,
}

impl View<'_> {
    fn is_alive(&self, expires: Option<u64>) -> bool {
        expires.is_none_or(|at| self.now < at)
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        if let Some((value, expires)) = self.pending.writes.get(key) {
            return value.clone().filter(|_| self.is_alive(*expires));
        }
        let value = self.table.values.get(key)?;
        self.is_alive(value.expires).then(|| value.bytes.clone())
    }

    /// Sets a value, or removes it; `ttl_ms` of 0 means that it stays.
    pub fn set(&mut self, key: &[u8], value: Option<Bytes>, ttl_ms: u64) -> Result<(), Full> {
        let key = Bytes::copy_from_slice(key);
        let before = match self.pending.writes.get(&key) {
            Some((value, _)) => value.as_ref().map_or(0, |v| cost(&key, v)),
            None => {
                let value = self.table.values.get(&key);
                value.map_or(0, |v| cost(&key, &v.bytes))
            }
        };
        let after = value.as_ref().map_or(0, |v| cost(&key, v));
        let delta = self.pending.delta + after as i64 - before as i64;
        let bytes = self.table.bytes.saturating_add_signed(delta);
        if after > before && bytes > self.table.limit {
            let limit = self.table.limit;
            return Err(Full { bytes, limit });
        }
        self.pending.deltas.push(self.pending.delta);
        self.pending.delta = delta;
        let expires = (ttl_ms > 0).then(|| self.now.saturating_add(ttl_ms));
        let before = self.pending.writes.insert(key.clone(), (value, expires));
        self.pending.undo.push((key, before));
        Ok(())
    }

    /// Keys that begin with `prefix` and come after `after`, with their values.
    pub fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        bytes_max: usize,
    ) -> Vec<(Bytes, Bytes)> {
        let from = match after.filter(|after| *after >= prefix) {
            Some(after) => Bound::Excluded(Bytes::copy_from_slice(after)),
            None => Bound::Included(Bytes::copy_from_slice(prefix)),
        };
        let range = (from, Bound::Unbounded);
        let mut below = self.table.values.range(range.clone()).peekable();
        let mut above = self.pending.writes.range(range).peekable();
        let (mut found, mut bytes) = (Vec::new(), 0);
        while found.len() < limit {
            let is_above = match (below.peek(), above.peek()) {
                (None, None) => break,
                (Some(_), None) => false,
                (None, Some(_)) => true,
                (Some((below, _)), Some((above, _))) => above <= below,
            };
            let next = if is_above {
                let Some((key, (value, expires))) = above.next() else {
                    break;
                };
                below.next_if(|(other, _)| *other == key);
                (key, value.clone(), *expires)
            } else {
                let Some((key, value)) = below.next() else {
                    break;
                };
                (key, Some(value.bytes.clone()), value.expires)
            };
            let (key, value, expires) = next;
            if !key.starts_with(prefix) {
                break;
            }
            let Some(value) = value.filter(|_| self.is_alive(expires)) else {
                continue;
            };
            bytes += key.len() + value.len();
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push((key.clone(), value));
        }
        found
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
