//! Offsets that were confirmed or delivered are never given again, and only grow.

use crate::invariants::Violation;
use crate::model::QueueModel;

const NAME: &str = "offsets";

/// A message is given an offset.
pub fn given(queue: &QueueModel, offset: u64) -> Result<(), Violation> {
    Violation::unless(offset >= queue.end(), NAME, || {
        format!(
            "queue '{}' gives offset {offset}; all below {} were used",
            queue.name,
            queue.end()
        )
    })
}

/// After a recovery: the next offset.
pub fn recovered(queue: &QueueModel, next_offset: u64) -> Result<(), Violation> {
    Violation::unless(next_offset >= queue.used_below, NAME, || {
        format!(
            "queue '{}' would give offset {next_offset} next; all below {} were used",
            queue.name, queue.used_below
        )
    })
}
