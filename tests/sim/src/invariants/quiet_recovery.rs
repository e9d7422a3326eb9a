//! A crash is no damage: whatever it tore, recovery raises no alarm.

use crate::invariants::Violation;

/// What recovery, or the running shard on a disk that answers, told a person.
pub fn check(alarms: &[String]) -> Result<(), Violation> {
    Violation::unless(alarms.is_empty(), "quiet_recovery", || {
        format!("an alarm, and nothing was damaged: {alarms:?}")
    })
}
