//! Why a check ended before its end.

use std::fmt;

/// A value that does not fit, or that cannot be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It does not fit. Without words where nobody reads them: in `anyOf`, `not` and the like.
    Misfit(Option<Box<Misfit>>),
    /// Whether it fits is not known, so nothing around may take it for an answer: `not` of it is
    /// the same.
    Unchecked(&'static str),
}

/// Where a value does not fit, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// A JSON pointer.
    pub place: String,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Misfit(Some(misfit)) => {
                let place = match misfit.place.as_str() {
                    "" => "/",
                    place => place,
                };
                write!(f, "does not fit the schema at {place}: {}", misfit.problem)
            }
            Stop::Misfit(None) => f.write_str("does not fit the schema"),
            Stop::Unchecked(why) => write!(f, "cannot be checked: {why}"),
        }
    }
}

/// A number that cannot be held against others.
pub const EXPONENT: Stop = Stop::Unchecked("a number has an exponent that is too large");
/// Schemas that lead into each other.
pub const DEPTH: Stop = Stop::Unchecked("schemas are applied too deep inside each other");
/// Work that grows faster than the payload does.
pub const STEPS: Stop = Stop::Unchecked("the schema takes too many steps for it");
