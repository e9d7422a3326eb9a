//! What becomes of a message that a plugin cannot or will not let through, in each role.

use waypost_plugin::{Answer, Choice, Decision, InitError, Outcome};

use crate::settings::{self, Settings};

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
}
