//! A message whose end was synced (a commit returned after its ack) is never delivered to that
//! group again; one whose end was said and not synced comes again only after a crash.

use crate::invariants::Violation;
use crate::model::{End, Progress};

/// A message is delivered to a group.
pub fn check(progress: &Progress, offset: u64) -> Result<(), Violation> {
    let may_come = match progress.end {
        None => true,
        Some(End::Acked) => progress.is_end_in_doubt,
        // Its dead letter may have been refused; `dead_letters` has the rest.
        Some(End::Spent) => true,
    };
    Violation::unless(may_come, "acked_stays_acked", || {
        format!(
            "offset {offset} was acked ({}) and comes again",
            if progress.is_end_synced {
                "synced"
            } else {
                "not synced, and no crash came"
            },
        )
    })
}

/// A message below what was durably let go of is delivered.
pub fn check_released(released_below: u64, offset: u64) -> Result<(), Violation> {
    Violation::unless(offset >= released_below, "acked_stays_acked", || {
        format!("offset {offset} comes again; all below {released_below} was done with")
    })
}
