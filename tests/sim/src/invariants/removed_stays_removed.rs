//! A message that an operator took out is served to nobody again: not from the moment on at which it
//! was done, and after a crash not if it was synced.

use crate::invariants::Violation;
use crate::model::QueueModel;

const NAME: &str = "removed_stays_removed";

/// A message is delivered.
pub fn delivered(queue: &QueueModel, offset: u64) -> Result<(), Violation> {
    Violation::unless(!queue.is_taken_out(offset), NAME, || {
        format!(
            "queue '{}' delivers offset {offset}, which was taken out",
            queue.name
        )
    })
}

/// A message is shown, perhaps by a recovery.
pub fn shown(queue: &QueueModel, offset: u64) -> Result<(), Violation> {
    Violation::unless(!queue.removed.contains(&offset), NAME, || {
        format!(
            "queue '{}' shows offset {offset}; that it was taken out was synced",
            queue.name
        )
    })
}
