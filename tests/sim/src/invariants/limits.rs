//! A queue holds no more than its limits, and lets go of no more than that takes.

use waypost_core::queue::AtLimit;
use waypost_shard::QueueView;

use crate::invariants::Violation;
use crate::model::QueueModel;

const NAME: &str = "limits";

/// What a queue shows after a publish that it took.
pub fn check(queue: &QueueModel, view: &QueueView) -> Result<(), Violation> {
    let max = queue.keeps().messages_max;
    let is_bounded = queue.keeps().at_limit == AtLimit::DropOldest;
    Violation::unless(view.messages <= max || !is_bounded, NAME, || {
        format!(
            "queue '{}' holds {}, its limit is {max}",
            view.name, view.messages
        )
    })
}

/// What the limit let go of had to go, as far as is known which messages were done with.
pub fn nothing_needless(queue: &QueueModel, view: &QueueView) -> Result<(), Violation> {
    let max = queue.keeps().messages_max;
    let first = view.first_offset;
    let let_go = queue.entries.range(..first);
    let missed = let_go.filter(|(offset, _)| !queue.is_done_with(**offset));
    // Nothing is lost to a limit as long as the queue is not at it. What makes place for a batch
    // that is refused later, or is larger than the limit, may leave less.
    let is_needless = view.messages < max && queue.keeps().at_limit == AtLimit::DropOldest;
    let missed = missed.count();
    Violation::unless(missed == 0 || !is_needless, NAME, || {
        format!(
            "queue '{}' let go of {missed} below {first} and holds {} of {max}",
            view.name, view.messages
        )
    })
}
