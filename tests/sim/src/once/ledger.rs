//! What is known of every message: where it was seen durably, what was said of it.

use std::collections::{BTreeMap, BTreeSet};

use waypost_wire::RecordRef;

use crate::invariants::Violation;

/// A message of a producer: whose, its number, and the input that it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub producer: usize,
    pub number: u64,
}

/// What a payload says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    pub key: Key,
    pub input: Option<u64>,
}

impl Content {
    pub fn payload(self) -> String {
        let input = self.input.map_or_else(String::new, |o| o.to_string());
        format!("{}:{}:{input}", self.key.producer, self.key.number)
    }

    fn parse(body: &[u8]) -> Option<Content> {
        let record = RecordRef::parse(body).ok()?;
        let text = std::str::from_utf8(record.payload()).ok()?;
        let mut parts = text.split(':');
        let (producer, number) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Content {
            key: Key { producer, number },
            input: parts.next()?.parse().ok(),
        })
    }
}

/// Facts that no crash may change.
#[derive(Default)]
pub(super) struct Ledger {
    seen: BTreeMap<(&'static str, Key), u64>,
    outputs: BTreeMap<(&'static str, u64), u64>,
    confirmed: BTreeSet<(&'static str, Key)>,
    refused: BTreeSet<Key>,
    acked: BTreeSet<(&'static str, u64)>,
}

fn violation(what: String) -> Violation {
    Violation::new("once", what)
}

impl Ledger {
    /// A message was shown, and it is durable.
    pub fn sighted(
        &mut self,
        queue: &'static str,
        offset: u64,
        body: &[u8],
    ) -> Result<Content, Violation> {
        let content = Content::parse(body)
            .ok_or_else(|| violation(format!("queue '{queue}', offset {offset}: foreign")))?;
        let key = content.key;
        let first = *self.seen.entry((queue, key)).or_insert(offset);
        if first != offset {
            let what = format!("queue '{queue}' has {key:?} at offsets {first} and {offset}");
            return Err(violation(what));
        }
        if self.refused.contains(&key) {
            let what = format!("queue '{queue}', offset {offset}: {key:?} was refused for good");
            return Err(violation(what));
        }
        if let Some(input) = content.input {
            let first = *self.outputs.entry((queue, input)).or_insert(offset);
            if first != offset {
                let what =
                    format!("queue '{queue}' has the output of {input} twice: {first}, {offset}");
                return Err(violation(what));
            }
        }
        Ok(content)
    }

    /// Its producer was told that it is stored, now or before.
    pub fn confirmed(&mut self, queue: &'static str, key: Key) {
        self.confirmed.insert((queue, key));
    }

    /// Its producer was told that it is not stored, and gave it up.
    pub fn refused(&mut self, key: Key) {
        self.refused.insert(key);
    }

    /// A consumer of the queue acked it, on its stream.
    pub fn acked(&mut self, queue: &'static str, offset: u64) {
        self.acked.insert((queue, offset));
    }

    /// An input was delivered: its output must not be there, for both came together.
    pub fn delivered(&self, input: u64) -> Result<(), Violation> {
        match self.outputs.keys().find(|(_, of)| *of == input) {
            None => Ok(()),
            Some((queue, _)) => Err(violation(format!(
                "input {input} comes again, and its output is in '{queue}'"
            ))),
        }
    }

    /// A queue's whole content, after a commit or an opening.
    pub fn content(
        &mut self,
        queue: &'static str,
        first: u64,
        content: &[(u64, Vec<u8>)],
    ) -> Result<(), Violation> {
        let mut last: BTreeMap<usize, u64> = BTreeMap::new();
        for (offset, body) in content {
            let Key { producer, number } = self.sighted(queue, *offset, body)?.key;
            if let Some(before) = last.insert(producer, number)
                && before >= number
            {
                let what =
                    format!("queue '{queue}': producer {producer} has {number} after {before}");
                return Err(violation(what));
            }
        }
        let there: BTreeSet<u64> = content.iter().map(|(offset, _)| *offset).collect();
        for (of, key) in self.confirmed.iter().filter(|(of, _)| *of == queue) {
            let offset = self.seen.get(&(*of, *key)).copied();
            let is_well = offset.is_some_and(|offset| {
                offset < first || there.contains(&offset) || self.acked.contains(&(queue, offset))
            });
            if !is_well {
                let what =
                    format!("queue '{queue}': {key:?} was confirmed and is gone ({offset:?})");
                return Err(violation(what));
            }
        }
        Ok(())
    }

    /// Outputs of one transaction and its acks are there together. Inputs below `acked_below` are
    /// done with.
    pub fn together(&self, acked_below: u64) -> Result<(), Violation> {
        let of = |queue: &'static str| -> BTreeSet<u64> {
            let outputs = self.outputs.keys().filter(|(of, _)| *of == queue);
            outputs.map(|(_, input)| *input).collect()
        };
        let (a, b) = (of("a"), of("b"));
        if a != b {
            let odd: Vec<_> = a.symmetric_difference(&b).collect();
            return Err(violation(format!(
                "outputs of {odd:?} are in one queue of two"
            )));
        }
        match (0..acked_below).find(|input| !a.contains(input)) {
            None => Ok(()),
            Some(input) => Err(violation(format!(
                "input {input} is acked and has no output"
            ))),
        }
    }
}
