//! A publish to several queues is in all of them or in none, whatever comes between.

use crate::invariants::Violation;
use crate::model::Life;

/// After a crash: which parts of an unconfirmed publish are there, as far as it can be told.
pub fn check(ticket: u64, places: &[(Life, u64)], is_there: &[bool]) -> Result<(), Violation> {
    let there = is_there.iter().filter(|there| **there).count();
    let is_whole = there == 0 || there == is_there.len();
    Violation::unless(is_whole, "atomic_sets", || {
        format!(
            "publish {ticket}: {there} of {} messages survived: {is_there:?} at {places:x?}",
            is_there.len()
        )
    })
}
