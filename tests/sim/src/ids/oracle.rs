//! What a queue with a window of message ids may hold, and may say.
//!
//! Each record that is sent carries its id, the number of the try, and the virtual time at which the
//! shard was handed it; so whatever lies in a queue tells when it was accepted.

use std::collections::BTreeMap;

use waypost_wire::RecordRef;

use super::{LIMIT_SMALL, NO_WINDOW, QUEUES, WINDOW_MS};
use crate::invariants::Violation;

/// One try to publish a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Try {
    /// Its message id; 0 is none.
    pub id: u64,
    /// Counts tries of the whole run.
    pub number: u64,
    /// When the shard was handed it.
    pub at_ms: u64,
}

impl Try {
    pub fn payload(&self) -> Vec<u8> {
        let Try { id, number, at_ms } = self;
        format!("{id} {number} {at_ms}").into_bytes()
    }

    fn read(body: &[u8]) -> Option<Try> {
        let record = RecordRef::parse(body).ok()?;
        let text = std::str::from_utf8(record.payload()).ok()?;
        let mut numbers = text.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Try {
            id: next()?,
            number: next()?,
            at_ms: next()?,
        })
    }
}

/// Everything that was ever seen in each queue, by offset.
#[derive(Default)]
pub(super) struct Oracle {
    seen: BTreeMap<&'static str, BTreeMap<u64, Try>>,
    confirmed: Vec<(Try, &'static [&'static str])>,
}

fn broken(what: String) -> Violation {
    Violation::new("accepted_once", what)
}

impl Oracle {
    /// A queue holds this, after a sync.
    pub fn content(
        &mut self,
        queue: &'static str,
        content: &[(u64, Vec<u8>)],
    ) -> Result<(), Violation> {
        let seen = self.seen.entry(queue).or_default();
        for (offset, body) in content {
            let found = Try::read(body).ok_or_else(|| broken(format!("'{queue}' at {offset}")))?;
            let before = *seen.entry(*offset).or_insert(found);
            if before != found {
                return Err(broken(format!(
                    "'{queue}' at {offset}: {before:?}, {found:?}"
                )));
            }
        }
        let mut last: BTreeMap<u64, Try> = BTreeMap::new();
        let has_id = |found: &&Try| queue != NO_WINDOW && found.id > 0;
        for found in seen.values().filter(has_id) {
            if let Some(before) = last.insert(found.id, *found)
                && found.at_ms < before.at_ms + WINDOW_MS
            {
                return Err(broken(format!(
                    "'{queue}' stored id {} twice within its window: {before:?}, {found:?}",
                    found.id
                )));
            }
        }
        Ok(())
    }

    /// Whether a queue has this try, or its id from one within the window before it.
    fn has(&self, queue: &str, wanted: &Try, own_counts: bool) -> bool {
        let is_it = |found: &&Try| {
            let is_before = found.at_ms <= wanted.at_ms && found.number != wanted.number;
            let is_known =
                queue != NO_WINDOW && wanted.id > 0 && found.id == wanted.id && is_before;
            (own_counts && found.number == wanted.number)
                || (is_known && wanted.at_ms < found.at_ms + WINDOW_MS)
        };
        let seen = self.seen.get(queue);
        seen.is_some_and(|seen| seen.values().any(|found| is_it(&found)))
    }

    /// A try was confirmed: it must be there, or be a repeat of what is.
    pub fn confirmed(
        &mut self,
        tried: Try,
        to: &'static [&'static str],
        is_duplicate: bool,
    ) -> Result<(), Violation> {
        self.confirmed.push((tried, to));
        if is_duplicate && to.iter().any(|queue| !self.has(queue, &tried, false)) {
            return Err(broken(format!("{tried:?} to {to:?} was eaten")));
        }
        Ok(())
    }

    /// For want of room for ids: then as many must be known.
    pub fn refused(&self, tried: &Try, batch: u64) -> Result<(), Violation> {
        let seen = self.seen.get("small").into_iter().flat_map(|s| s.values());
        let known = seen.filter(|s| s.id > 0 && tried.at_ms < s.at_ms + WINDOW_MS);
        let known = known.count() as u64;
        match tried.id > 0 && known + batch > LIMIT_SMALL {
            true => Ok(()),
            false => Err(broken(format!(
                "{tried:?} was refused while {known} ids are known"
            ))),
        }
    }

    /// Nothing that was confirmed is missing.
    pub fn all_there(&self) -> Result<(), Violation> {
        for (tried, to) in &self.confirmed {
            if let Some(queue) = to.iter().find(|queue| !self.has(queue, tried, true)) {
                return Err(Violation::new(
                    "nothing_lost",
                    format!("{tried:?} was confirmed and is not in '{queue}'"),
                ));
            }
        }
        Ok(())
    }

    /// Messages seen in all queues.
    pub fn stored(&self) -> u64 {
        let of = |queue: &&str| self.seen.get(*queue).map_or(0, BTreeMap::len) as u64;
        QUEUES.iter().map(of).sum()
    }
}
