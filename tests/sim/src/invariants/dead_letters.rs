//! What was rejected, ran out of attempts, or made room at a limit, and nothing else, is in the
//! dead-letter queue, with its reason; and once it is there, the original does not come again: copy
//! and ack are one set.

use std::collections::BTreeSet;

use crate::invariants::Violation;
use crate::message::{DeadLetter, Place, Tag};

const NAME: &str = "dead_letters";

/// A dead letter is seen.
pub fn justified(letter: &DeadLetter, spent: &BTreeSet<(Place, Tag)>) -> Result<(), Violation> {
    let fact = (letter.place.clone(), letter.tag);
    Violation::unless(spent.contains(&fact), NAME, || {
        format!("{letter:?} was neither rejected nor out of attempts")
    })?;
    let was_tried = letter.attempts > 0 || letter.place.group.is_empty();
    Violation::unless(!letter.reason.is_empty() && was_tried, NAME, || {
        format!("{letter:?} does not say why")
    })
}

/// An original is delivered.
pub fn not_again(dead: &BTreeSet<(Place, Tag)>, place: Place, tag: Tag) -> Result<(), Violation> {
    let fact = (place, tag);
    Violation::unless(!dead.contains(&fact), NAME, || {
        format!("{fact:?} is a dead letter already and comes again")
    })
}

/// Messages were let go of that can only be dead letters.
pub fn owed(dead: &BTreeSet<(Place, Tag)>, owed: &[(Place, Tag)]) -> Result<(), Violation> {
    let missing = owed.iter().find(|fact| !dead.contains(fact));
    Violation::unless(missing.is_none(), NAME, || {
        format!("{missing:?} was let go of and is no dead letter")
    })
}
