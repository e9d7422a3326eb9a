//! Settings that were given hold, also after a crash; where giving them failed, the old ones or the
//! new.

use waypost_core::queue::Settings;

use crate::invariants::Violation;
use crate::model::QueueModel;

/// A recovery showed a queue's settings.
pub fn recovered(queue: &QueueModel, found: &Settings) -> Result<(), Violation> {
    let is_known = *found == queue.settings || queue.maybe_settings.contains(found);
    Violation::unless(is_known, "settings_stay", || {
        format!(
            "queue '{}' has {found:?}, expected {:?} or one of {:?}",
            queue.name, queue.settings, queue.maybe_settings
        )
    })
}
