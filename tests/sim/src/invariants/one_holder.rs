//! A message is with one consumer of a group at a time, until its deadline passes or it is given
//! back.

use crate::invariants::Violation;
use crate::model::Progress;

/// A message is delivered to a consumer.
pub fn check(
    progress: &Progress,
    offset: u64,
    consumer: u64,
    now_ms: u64,
) -> Result<(), Violation> {
    let held = progress.flight.filter(|f| f.deadline > now_ms);
    Violation::unless(held.is_none(), "one_holder", || {
        format!("offset {offset} goes to consumer {consumer} at {now_ms} ms and is held: {held:?}")
    })
}
