//! Consumers get nothing of a durable queue that a crash could take back: no delivery before the
//! sync, except from queues that deliver on receipt.

use crate::invariants::Violation;
use crate::model::{Entry, QueueModel};

/// A message is delivered.
pub fn check(queue: &QueueModel, offset: u64, entry: &Entry) -> Result<(), Violation> {
    let is_safe = entry.is_confirmed || queue.is_ahead;
    Violation::unless(is_safe, "synced_first", || {
        format!(
            "queue '{}' delivers offset {offset} before its commit returned",
            queue.name
        )
    })
}
