//! A publisher's messages stand in a queue in the order in which it sent them; what a crash takes
//! away of the unconfirmed is a suffix.

use crate::invariants::Violation;
use crate::model::{Content, QueueModel};

const NAME: &str = "append_order";

/// A message was given an offset.
pub fn given(queue: &QueueModel, offset: u64, content: &Content) -> Result<(), Violation> {
    // A copy stands where an operator put it.
    let sent = |content: &Content| match content {
        Content::Published { tag, .. } => Some(*tag),
        Content::Copied(_) | Content::Dead(_) => None,
    };
    let Some(tag) = sent(content) else {
        return Ok(());
    };
    // The last few are enough: each was checked against those before it.
    let last = queue.entries.values().rev().take(64);
    let mut same = last
        .filter_map(|e| sent(&e.content))
        .filter(|t| t.publisher == tag.publisher);
    let before = same.next();
    Violation::unless(
        before.is_none_or(|b| b.sequence < tag.sequence),
        NAME,
        || {
            format!(
                "queue '{}', offset {offset}: {tag:?} stands after {before:?}",
                queue.name
            )
        },
    )
}

/// What is left of the unconfirmed after a crash, in order of offsets.
pub fn recovered(queue: &str, is_there: &[(u64, bool)]) -> Result<(), Violation> {
    let gap = is_there.windows(2).find(|w| !w[0].1 && w[1].1);
    Violation::unless(gap.is_none(), NAME, || {
        format!("queue '{queue}': of what was not confirmed, a later part survived: {gap:?}")
    })
}
