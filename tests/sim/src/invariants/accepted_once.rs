//! A publish that was taken is accepted once, by the next commit at the latest, with the level of
//! the weakest queue that it reached.

use crate::invariants::Violation;
use crate::model::Waiting;

const NAME: &str = "accepted_once";

/// A publish is accepted.
pub fn check(ticket: u64, waiting: Option<Waiting>, is_stored: bool) -> Result<Waiting, Violation> {
    let Some(waiting) = waiting else {
        return Err(Violation::new(
            NAME,
            format!("publish {ticket} is accepted and nobody waits for it"),
        ));
    };
    Violation::unless(waiting.is_stored == is_stored, NAME, || {
        format!(
            "publish {ticket} is accepted as {}, its queues are {}",
            if is_stored { "stored" } else { "received" },
            if waiting.is_stored {
                "all synced"
            } else {
                "not all synced"
            },
        )
    })?;
    Ok(waiting)
}

/// A commit returned; nobody waits any more.
pub fn after_commit(waiting: usize) -> Result<(), Violation> {
    Violation::unless(waiting == 0, NAME, || {
        format!("{waiting} publishes still wait after a commit")
    })
}
