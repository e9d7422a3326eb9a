//! Who gets a message next: in an exclusive group one consumer, by offset; in a key group the same
//! for each key. What comes again comes before anything later that was not given out yet. And a
//! group with filters gets what they match, and nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;
use waypost_core::journal::GroupKind;

use crate::invariants::Violation;
use crate::model::{Content, Entry, GroupModel, QueueModel};

const NAME: &str = "group_order";

/// A message is delivered to a consumer of a group, of which `active` came first.
pub fn check(
    queue: &QueueModel,
    group: &GroupModel,
    offset: u64,
    consumer: u64,
    active: Option<u64>,
) -> Result<(), Violation> {
    let content = queue.entries.get(&offset).map(|e| &e.content);
    let is_taken = content.is_none_or(|c| group.takes(c));
    Violation::unless(is_taken, NAME, || {
        format!("offset {offset} comes to a group whose filters do not match it: {content:?}")
    })?;
    match group.options.kind {
        GroupKind::Shared => Ok(()),
        GroupKind::Exclusive => {
            Violation::unless(active == Some(consumer), NAME, || {
                format!("offset {offset} goes to consumer {consumer}, the active one is {active:?}")
            })?;
            in_order(queue, group, offset, consumer, |_| true)
        }
        GroupKind::Key => match content.and_then(key) {
            None => Ok(()),
            Some(own) => in_order(queue, group, offset, consumer, |other| {
                key(other).as_ref() == Some(&own)
            }),
        },
    }
}

fn key(content: &Content) -> Option<Bytes> {
    content.tag()?.key()
}

/// Of the messages that `is_bound` to this one, nobody else holds any, and none that is earlier
/// waits.
fn in_order(
    queue: &QueueModel,
    group: &GroupModel,
    offset: u64,
    consumer: u64,
    is_bound: impl Fn(&Content) -> bool,
) -> Result<(), Violation> {
    let moved_below = queue.moved.last().map_or(0, |last| last + 1);
    let begin = group
        .start
        .max(moved_below)
        .max(queue.purged_below)
        .max(queue.released_below);
    // What a dead letter is may not be known yet.
    let is_known = |content: &Content| group.options.filters.is_empty() || content.tag().is_some();
    let is_known_to_come = |content: &Content| is_known(content) && group.takes(content);
    let bound = |entries: &BTreeMap<u64, Entry>| -> Vec<u64> {
        entries
            .range(begin..)
            .filter(|(at, _)| !queue.is_taken_out(**at))
            .filter(|(_, e)| is_bound(&e.content) && is_known_to_come(&e.content))
            .map(|(at, _)| *at)
            .collect()
    };
    for other in bound(&queue.entries) {
        let progress = group.progress.get(&other).copied().unwrap_or_default();
        if let Some(flight) = progress.flight {
            Violation::unless(flight.consumer == consumer, NAME, || {
                format!("offset {offset} goes to {consumer} while {flight:?} holds {other}")
            })?;
        }
        let is_waiting = progress.flight.is_none() && progress.end.is_none();
        Violation::unless(other >= offset || !is_waiting, NAME, || {
            format!("offset {offset} goes to {consumer} while {other} waits: {progress:?}")
        })?;
    }
    Ok(())
}
