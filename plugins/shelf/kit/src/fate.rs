//! What becomes of a message that a plugin cannot or will not let through, in each role.

use waypost_plugin::{Answer, Choice, Decision, InitError, Message, Outcome};

use crate::settings::{self, Settings};
use crate::subject::{Seen, Subjects};

/// A word of the configuration for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// To the dead letters, with the reason.
    DeadLetter,
    /// Refused: the publisher hears so, with the reason.
    Reject,
    /// It ends here.
    Drop,
    /// It goes on as it is.
    Pass,
}

impl Fate {
    /// All, with their words.
    pub const WORDS: [(&'static str, Fate); 4] = [
        ("dead-letter", Fate::DeadLetter),
        ("reject", Fate::Reject),
        ("drop", Fate::Drop),
        ("pass", Fate::Pass),
    ];

    /// The setting `name`, one of the first three; `default` where it is not set.
    pub fn of(settings: &Settings<'_>, name: &str, default: Fate) -> Result<Fate, InitError> {
        Fate::one_of(settings, name, default, &Fate::WORDS[..3])
    }

    /// The setting `name`, which may be `pass` too.
    pub fn or_pass(settings: &Settings<'_>, name: &str, default: Fate) -> Result<Fate, InitError> {
        Fate::one_of(settings, name, default, &Fate::WORDS)
    }

    fn one_of(
        settings: &Settings<'_>,
        name: &str,
        default: Fate,
        words: &[(&str, Fate)],
    ) -> Result<Fate, InitError> {
        match settings.text(name) {
            None => Ok(default),
            Some(text) => settings::choose(name, text, words),
        }
    }

    /// As a filter says it.
    pub fn answer(self, reason: impl Into<String>) -> Answer {
        match self {
            Fate::DeadLetter => Decision::DeadLetter.because(reason),
            Fate::Reject => Decision::Reject.because(reason),
            Fate::Drop => Decision::Drop.because(reason),
            Fate::Pass => Decision::Pass.into(),
        }
    }

    /// As a transform says it.
    pub fn outcome(self, reason: impl Into<String>) -> Outcome {
        match self {
            Fate::DeadLetter => Outcome::DeadLetter(reason.into()),
            Fate::Reject => Outcome::Reject(reason.into()),
            Fate::Drop => Outcome::Drop(Some(reason.into())),
            Fate::Pass => Outcome::Pass,
        }
    }

    /// As a route says it; `pass` is to all destinations.
    pub fn choice(self, reason: impl Into<String>) -> Choice {
        match self {
            Fate::DeadLetter => Choice::DeadLetter(reason.into()),
            Fate::Reject => Choice::Reject(reason.into()),
            Fate::Drop => Choice::Drop(Some(reason.into())),
            Fate::Pass => Choice::Pass,
        }
    }
}

/// The setting `on-invalid` of plugins that look into payloads: what becomes of a message whose
/// payload is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnInvalid {
    /// This.
    Fate(Fate),
    /// It is taken for one in which no path leads anywhere.
    Ignore,
}

impl OnInvalid {
    /// Reads it; `dead-letter` where it is not set.
    pub fn of(settings: &Settings<'_>) -> Result<OnInvalid, InitError> {
        let [a, b, c, d] = Fate::WORDS.map(|(word, fate)| (word, OnInvalid::Fate(fate)));
        settings.choice("on-invalid", &[a, b, c, d, ("ignore", OnInvalid::Ignore)])
    }

    /// Looks at a message. The error is for one whose payload is not JSON.
    pub fn look<'s, 'm>(
        self,
        subjects: &'s mut Subjects,
        message: &Message<'m>,
    ) -> Result<Seen<'s, 'm>, Unread> {
        match (subjects.find(message), self) {
            (Ok(()), _) => Ok(subjects.seen(message)),
            (Err(_), OnInvalid::Ignore) => Ok(subjects.look_beside(message)),
            (Err(not_json), OnInvalid::Fate(fate)) => Err(Unread {
                fate,
                reason: not_json.to_string(),
            }),
        }
    }
}

/// A message that cannot be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// What becomes of it.
    pub fate: Fate,
    /// Why.
    pub reason: String,
}

impl Unread {
    /// As a filter says it.
    pub fn answer(self) -> Answer {
        self.fate.answer(self.reason)
    }

    /// As a transform says it.
    pub fn outcome(self) -> Outcome {
        self.fate.outcome(self.reason)
    }

    /// As a route says it.
    pub fn choice(self) -> Choice {
        self.fate.choice(self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_plugin::testing::{self, Input};

    #[test]
    fn a_payload_that_is_not_json() {
        let mut subjects = Subjects::default();
        let subject = subjects.parse("$.a").expect("a path");
        let inputs = [r#"{"a":1}"#, r#"{"a":1"#].map(|payload| Input::new("t", payload));
        let batch = testing::batch(&subjects.interest(), inputs);
        let [good, bad] = [0, 1].map(|at| batch.get(at).expect("a message"));
        let found = |seen: Seen<'_, '_>| seen.first(&subject).is_some();
        for on_invalid in [OnInvalid::Ignore, OnInvalid::Fate(Fate::Drop)] {
            assert_eq!(on_invalid.look(&mut subjects, &good).map(found), Ok(true));
        }
        let beside = OnInvalid::Ignore.look(&mut subjects, &bad);
        assert_eq!(beside.map(found), Ok(false));
        let unread = OnInvalid::Fate(Fate::Drop).look(&mut subjects, &bad);
        let unread = unread.map(found).expect_err("not JSON");
        assert_eq!(unread.fate, Fate::Drop);
        assert!(unread.reason.contains("at byte 6"), "{}", unread.reason);
    }
}
