//! What was confirmed stays until every group is done with it: after a crash it is there, and
//! space is given back only below it.

use std::collections::BTreeSet;

use crate::invariants::Violation;
use crate::model::QueueModel;

const NAME: &str = "nothing_lost";

/// The queue holds nothing below `first`.
pub fn let_go(queue: &QueueModel, first: u64) -> Result<(), Violation> {
    let lost = queue
        .entries
        .range(..first)
        .find(|(offset, e)| e.is_confirmed && !queue.is_done_with(**offset));
    Violation::unless(lost.is_none(), NAME, || {
        let groups: Vec<_> = queue
            .groups
            .iter()
            .map(|(name, g)| (name, g.start, lost.and_then(|(o, _)| g.progress.get(o))))
            .collect();
        format!(
            "queue '{}' let go of all below {first}, but this was not done with: {lost:?}; groups {groups:?}",
            queue.name
        )
    })
}

/// After a recovery: these offsets can be read, from `first` on.
pub fn recovered(
    queue: &QueueModel,
    first: u64,
    readable: &BTreeSet<u64>,
) -> Result<(), Violation> {
    let lost = queue
        .entries
        .range(first..)
        .filter(|(offset, e)| e.is_confirmed && !queue.is_taken_out(**offset))
        .find(|(offset, _)| !readable.contains(offset));
    Violation::unless(lost.is_none(), NAME, || {
        format!(
            "queue '{}': confirmed, and gone after a crash: {lost:?}",
            queue.name
        )
    })
}

/// A queue or group that was durable is not there.
pub fn missing(what: &str, name: &str) -> Violation {
    Violation::new(NAME, format!("{what} '{name}' was durable and is gone"))
}
