//! Keys and values that the router keeps for this plugin on its node: durable, bounded, in order of
//! the keys' bytes. Needs the grant `state`.
//!
//! What a call writes, it reads at once. It is there for good when the router has taken the batch;
//! when the batch is refused, or the call fails, it is gone as if it had never been. `init` may read,
//! not write.
//!
//! Keys have 1 to 512 bytes, values at most 256 KiB. `ttl_ms` counts from the call; 0 means that the
//! value stays.

use super::imported::state as imported;
use crate::Error;

pub use crate::raw::state::Refusal;

/// The value of a key.
pub fn get(key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    imported::get(key.as_ref())
}

/// The value of a key as text; `None` also where it is not UTF-8.
pub fn text(key: impl AsRef<[u8]>) -> Option<String> {
    String::from_utf8(get(key)?).ok()
}

/// The value of a key as the number that [`add`] keeps there; `None` also where it is not one.
pub fn number(key: impl AsRef<[u8]>) -> Option<i64> {
    Some(i64::from_le_bytes(get(key)?.try_into().ok()?))
}

/// Sets a key.
pub fn set(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, ttl_ms: u64) -> Result<(), Refusal> {
    imported::set(key.as_ref(), value.as_ref(), ttl_ms)
}

/// Sets a key to a number, as [`number`] and [`add`] read it.
pub fn set_number(key: impl AsRef<[u8]>, value: i64, ttl_ms: u64) -> Result<(), Refusal> {
    set(key, value.to_le_bytes(), ttl_ms)
}

/// Removes a key; says whether it was there.
pub fn remove(key: impl AsRef<[u8]>) -> Result<bool, Refusal> {
    imported::remove(key.as_ref())
}

/// Adds to a number and gives the sum. A key that is not there counts as 0.
pub fn add(key: impl AsRef<[u8]>, delta: i64, ttl_ms: u64) -> Result<i64, Refusal> {
    imported::add(key.as_ref(), delta, ttl_ms)
}

/// Sets a key, or removes it with `None`, if its value is as expected; says whether it was.
pub fn swap(
    key: impl AsRef<[u8]>,
    expected: Option<&[u8]>,
    value: Option<&[u8]>,
    ttl_ms: u64,
) -> Result<bool, Refusal> {
    imported::swap(key.as_ref(), expected, value, ttl_ms)
}

/// Sets a key if it is not there; says whether it was not. What dedup is made of.
pub fn insert(
    key: impl AsRef<[u8]>,
    value: impl AsRef<[u8]>,
    ttl_ms: u64,
) -> Result<bool, Refusal> {
    swap(key, None, Some(value.as_ref()), ttl_ms)
}

/// All keys that begin with `prefix`, in order, with their values; fetched in parts of up to 256
/// KiB as the iterator goes on. What is written meanwhile to keys that are still to come is seen.
pub fn scan(prefix: impl Into<Vec<u8>>) -> Scan {
    Scan {
        prefix: prefix.into(),
        after: None,
        part: Vec::new().into_iter(),
        is_done: false,
    }
}

/// One part of a [`scan`], for what goes on in a later call: keys that begin with `prefix` and come
/// after `after`, with their values; at most `pairs` (and 8,192) and 256 KiB, but one where there is
/// one.
pub fn part(prefix: &[u8], after: Option<&[u8]>, pairs: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
    imported::scan(prefix, after, pairs)
}

/// Keys and values; see [`scan`].
#[derive(Debug)]
pub struct Scan {
    prefix: Vec<u8>,
    after: Option<Vec<u8>>,
    part: std::vec::IntoIter<(Vec<u8>, Vec<u8>)>,
    is_done: bool,
}

/// Pairs that one import call asks for.
const SCAN_PAIRS: u32 = 1_024;

impl Iterator for Scan {
    type Item = (Vec<u8>, Vec<u8>);

    fn next(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        if let Some(pair) = self.part.next() {
            return Some(pair);
        }
        if self.is_done {
            return None;
        }
        let part = imported::scan(&self.prefix, self.after.as_deref(), SCAN_PAIRS);
        match part.last() {
            Some((key, _)) => self.after = Some(key.clone()),
            None => self.is_done = true,
        }
        self.part = part.into_iter();
        self.part.next()
    }
}

impl From<Refusal> for Error {
    /// [`Error::Unavailable`] where the state is full, since values expire; else
    /// [`Error::Invalid`], as the same input would be refused again.
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::Full => Error::Unavailable("the plugin's state is full".into()),
            Refusal::TooLarge => Error::Invalid("a key or value is too long for the state".into()),
            Refusal::ReadOnly => Error::Invalid("the state cannot be written in init".into()),
            Refusal::NotANumber => Error::Invalid("a value of the state is not a number".into()),
        }
    }
}
