//! A group that was moved or removed is where the log says: the change was synced, or it was not.

use waypost_shard::GroupView;

use crate::invariants::Violation;
use crate::model::QueueModel;

const NAME: &str = "groups_stay";

/// A recovery showed the groups of a queue, of which the model knows by now what became of each.
pub fn recovered(queue: &QueueModel, found: &[GroupView]) -> Result<(), Violation> {
    for view in found {
        let Some(model) = queue.groups.get(&view.name) else {
            let what = format!(
                "group '{}/{}' was never made, or removed",
                queue.name, view.name
            );
            return Err(Violation::new(NAME, what));
        };
        Violation::unless(view.acked_below >= model.start, NAME, || {
            format!(
                "group '{}/{}' begins at {}, expected {} or above",
                queue.name, view.name, view.acked_below, model.start
            )
        })?;
        Violation::unless(view.options == model.options, NAME, || {
            format!(
                "group '{}/{}' has {:?}",
                queue.name, view.name, view.options
            )
        })?;
    }
    Ok(())
}
