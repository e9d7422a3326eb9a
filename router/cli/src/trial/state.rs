//! What the import `state` reads and writes in a trial: in memory, empty at the start, within the
//! plugin's bound, and as it was before a call that failed. Time is that of the messages.

use std::collections::BTreeMap;

use bytes::Bytes;
use waypost_host::{State, StateFull};

/// What a key counts beside its bytes, as in a router.
const KEY_OVERHEAD: u64 = 64;

/// A write that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The key.
    pub key: Bytes,
    /// The value; `None` where it was removed.
    pub value: Option<Bytes>,
    /// How long it stays; 0 for good.
    pub ttl_ms: u64,
}

#[derive(Clone, Debug)]
struct Kept {
    value: Bytes,
    /// When it is gone.
    until_ms: Option<u64>,
}

/// Keys and values.
#[derive(Debug, Default)]
pub struct Memory {
    kept: BTreeMap<Bytes, Kept>,
    now_ms: u64,
    bytes: u64,
    bytes_max: u64,
    writes: Vec<Write>,
    /// What each write of this call replaced, in order.
    before: Vec<(Bytes, Option<Kept>)>,
}

impl Memory {
    /// Empty, with room for so many bytes.
    pub fn new(bytes_max: u64) -> Memory {
        Memory {
            bytes_max,
            ..Memory::default()
        }
    }

    /// A call begins: what is too old by `now_ms` is gone.
    pub fn begin(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        let now_ms = self.now_ms;
        self.kept
            .retain(|_, kept| kept.until_ms.is_none_or(|until_ms| until_ms > now_ms));
        let size = |(key, kept): (&Bytes, &Kept)| size(key, &kept.value);
        self.bytes = self.kept.iter().map(size).sum();
    }

    /// The call was good: its writes stay.
    pub fn keep(&mut self) -> Vec<Write> {
        self.before.clear();
        std::mem::take(&mut self.writes)
    }

    /// The call failed: as if it had not been.
    pub fn undo(&mut self) {
        self.writes.clear();
        while let Some((key, before)) = self.before.pop() {
            self.put(key, before);
        }
    }

    fn put(&mut self, key: Bytes, kept: Option<Kept>) -> Option<Kept> {
        let added = kept.as_ref().map_or(0, |kept| size(&key, &kept.value));
        let replaced = match kept {
            Some(kept) => self.kept.insert(key.clone(), kept),
            None => self.kept.remove(&key),
        };
        let gone = replaced.as_ref().map_or(0, |kept| size(&key, &kept.value));
        self.bytes = self.bytes + added - gone;
        replaced
    }
}

fn size(key: &Bytes, value: &Bytes) -> u64 {
    KEY_OVERHEAD + key.len() as u64 + value.len() as u64
}

impl State for Memory {
    fn get(&mut self, key: &[u8]) -> Option<Bytes> {
        self.kept.get(key).map(|kept| kept.value.clone())
    }

    fn set(&mut self, key: &[u8], value: Option<Bytes>, ttl_ms: u64) -> Result<(), StateFull> {
        let key = Bytes::copy_from_slice(key);
        if let Some(value) = &value {
            let there = self.kept.get(&key);
            let there = there.map_or(0, |kept| size(&key, &kept.value));
            if self.bytes - there + size(&key, value) > self.bytes_max {
                return Err(StateFull);
            }
        }
        let until_ms = (ttl_ms > 0).then(|| self.now_ms.saturating_add(ttl_ms));
        let kept = value.clone().map(|value| Kept { value, until_ms });
        let before = self.put(key.clone(), kept);
        self.before.push((key.clone(), before));
        self.writes.push(Write { key, value, ttl_ms });
        Ok(())
    }

    fn scan(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        bytes_max: usize,
    ) -> Vec<(Bytes, Bytes)> {
        let mut found: Vec<(Bytes, Bytes)> = Vec::new();
        let mut bytes = 0;
        let is_after = |key: &Bytes| after.is_none_or(|after| &key[..] > after);
        let there = self.kept.iter();
        for (key, kept) in there.filter(|(key, _)| key.starts_with(prefix) && is_after(key)) {
            bytes += key.len() + kept.value.len();
            if found.len() >= limit || (bytes > bytes_max && !found.is_empty()) {
                break;
            }
            found.push((key.clone(), kept.value.clone()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(memory: &mut Memory, key: &str, value: &str, ttl_ms: u64) -> Result<(), StateFull> {
        let value = Bytes::copy_from_slice(value.as_bytes());
        memory.set(key.as_bytes(), Some(value), ttl_ms)
    }

    #[test]
    fn a_failed_call_leaves_nothing_and_a_good_one_its_writes() {
        let mut memory = Memory::new(1 << 20);
        set(&mut memory, "a", "1", 0).unwrap();
        assert_eq!(memory.keep().len(), 1);
        set(&mut memory, "a", "2", 0).unwrap();
        set(&mut memory, "b", "3", 0).unwrap();
        memory.set(b"a", None, 0).unwrap();
        memory.undo();
        assert_eq!(memory.get(b"a").as_deref(), Some(&b"1"[..]));
        assert_eq!((memory.get(b"b"), memory.keep()), (None, Vec::new()));
    }

    #[test]
    fn values_go_when_their_time_is_over() {
        let mut memory = Memory::new(1 << 20);
        memory.begin(1_000);
        set(&mut memory, "a", "1", 10).unwrap();
        memory.keep();
        memory.begin(1_009);
        assert!(memory.get(b"a").is_some());
        memory.begin(1_010);
        assert!(memory.get(b"a").is_none());
    }

    #[test]
    fn it_is_bounded() {
        let mut memory = Memory::new(2 * (KEY_OVERHEAD + 2));
        set(&mut memory, "a", "1", 0).unwrap();
        set(&mut memory, "b", "1", 0).unwrap();
        assert_eq!(set(&mut memory, "c", "1", 0), Err(StateFull));
        assert_eq!(set(&mut memory, "a", "22", 0), Err(StateFull));
        set(&mut memory, "a", "2", 0).unwrap();
        memory.set(b"b", None, 0).unwrap();
        set(&mut memory, "c", "1", 0).unwrap();
    }

    #[test]
    fn a_scan_is_in_order_and_goes_on_after_a_key() {
        let mut memory = Memory::new(1 << 20);
        for key in ["b/2", "a", "b/1", "b/3"] {
            set(&mut memory, key, "v", 0).unwrap();
        }
        let mut keys = |after: Option<&[u8]>, limit, bytes_max| -> Vec<String> {
            let found = memory.scan(b"b/", after, limit, bytes_max);
            let key = |(key, _): &(Bytes, Bytes)| String::from_utf8_lossy(key).into_owned();
            found.iter().map(key).collect()
        };
        assert_eq!(keys(None, 2, 100), ["b/1", "b/2"]);
        assert_eq!(keys(Some(b"b/2"), 2, 100), ["b/3"]);
        assert_eq!(keys(None, 9, 1), ["b/1"]);
    }
}
