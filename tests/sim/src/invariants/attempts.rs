//! Each delivery names its attempt: one more than those that failed, never more than the queue's
//! limit; a failed attempt that was synced is not forgotten by a crash. What was nacked with a
//! delay does not come before it has passed.

use crate::invariants::Violation;
use crate::model::Progress;

const NAME: &str = "attempts";

/// A message is delivered to a group.
pub fn check(
    progress: &Progress,
    offset: u64,
    attempt: u32,
    deliver_max: u32,
    now_ms: u64,
) -> Result<(), Violation> {
    let (low, high) = (progress.attempt_min, progress.attempt);
    Violation::unless((low..=high).contains(&attempt), NAME, || {
        format!("offset {offset} comes as attempt {attempt}, expected {low} to {high}")
    })?;
    Violation::unless(attempt <= deliver_max, NAME, || {
        format!("offset {offset} comes as attempt {attempt} of {deliver_max}")
    })?;
    Violation::unless(progress.due.is_none_or(|due| due <= now_ms), NAME, || {
        format!(
            "offset {offset} comes at {now_ms} ms, delayed until {:?}",
            progress.due
        )
    })
}
