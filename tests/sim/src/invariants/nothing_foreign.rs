//! What is served at an offset is, byte for byte, what was published there: nothing damaged,
//! nothing of another queue, nothing that was never sent.

use crate::invariants::Violation;
use crate::message::Identity;
use crate::model::{Content, QueueModel};

/// A message is served.
pub fn check(queue: &QueueModel, offset: u64, found: &Identity) -> Result<(), Violation> {
    let expected = queue.content(offset);
    let is_right = match (expected, found) {
        (Some(Content::Published { tag, .. }), Identity::Published(found))
        | (Some(Content::Copied(tag)), Identity::Published(found)) => tag == found,
        (Some(Content::Dead(None)), Identity::Dead(_)) => true,
        (Some(Content::Dead(Some(letter))), Identity::Dead(found)) => letter == found,
        _ => false,
    };
    Violation::unless(is_right, "nothing_foreign", || {
        format!(
            "queue '{}', offset {offset}: expected {expected:?}, found {found:?}",
            queue.name
        )
    })
}
