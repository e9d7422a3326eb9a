//! What must always hold, one file each. Each check is told what the model knows and what the
//! shard showed, and answers with a [`Violation`] that names the two.

pub mod accepted_once;
pub mod acked_stays_acked;
pub mod append_order;
pub mod atomic_sets;
pub mod attempts;
pub mod dead_letters;
pub mod group_order;
pub mod groups_stay;
pub mod limits;
pub mod memory_bounded;
pub mod nothing_foreign;
pub mod nothing_lost;
pub mod offsets;
pub mod one_holder;
pub mod progress;
pub mod quiet_recovery;
pub mod removed_stays_removed;
pub mod settings_stay;
pub mod space_returns;
pub mod synced_first;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {what}")]
pub struct Violation {
    /// The invariant's file.
    pub invariant: &'static str,
    /// What was expected and what was found.
    pub what: String,
}

impl Violation {
    /// A violation of an invariant.
    pub fn new(invariant: &'static str, what: impl Into<String>) -> Violation {
        Violation {
            invariant,
            what: what.into(),
        }
    }

    pub(crate) fn unless(
        holds: bool,
        invariant: &'static str,
        what: impl FnOnce() -> String,
    ) -> Result<(), Violation> {
        match holds {
            true => Ok(()),
            false => Err(Violation::new(invariant, what())),
        }
    }
}
