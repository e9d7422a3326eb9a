//! A publish to several queues is in all of them or in none, whatever comes between; a dead letter
//! that went back is in one place.

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

/// After a crash: whether the copy of a dead letter is there, and whether the letter is gone.
pub fn check_redriven(
    letter: (Life, u64),
    copy: (Life, u64),
    is_there: bool,
    is_gone: bool,
) -> Result<(), Violation> {
    Violation::unless(is_there == is_gone, "atomic_sets", || {
        let where_is = if is_there { "both places" } else { "neither" };
        format!("dead letter {letter:x?} went back to {copy:x?} and is in {where_is}")
    })
}
