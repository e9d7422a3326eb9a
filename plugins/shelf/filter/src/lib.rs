//! Keeps or drops messages by topic, headers, key or values of their JSON. The settings are
//! described in `settings.json`, the words of conditions in `docs/shelf.md`.

use shelf_kit::{Condition, Fate, OnInvalid, Seen, Settings, Subjects};
use waypost_plugin::{Answer, Config, Decision, Filter, InitError, Interest, Message, Plugin};

struct Sieve {
    subjects: Subjects,
    /// None of these may hold.
    drop: Vec<Condition>,
    /// All of these must.
    keep: Vec<Condition>,
    /// One of these must, where there are any.
    keep_any: Vec<Condition>,
    otherwise: Fate,
    on_invalid: OnInvalid,
}

impl Plugin for Sieve {
    fn init(config: &Config) -> Result<(Sieve, Interest), InitError> {
        let settings = Settings::new(config);
        let mut subjects = Subjects::default();
        let mut conditions = |name: &str| {
            let all = settings.texts(name).into_iter();
            all.map(|(key, text)| {
                Condition::parse(text, &mut subjects).map_err(|error| InitError::of(key, error))
            })
            .collect::<Result<Vec<_>, _>>()
        };
        let (drop, keep) = (conditions("drop")?, conditions("keep")?);
        let keep_any = conditions("keep-any")?;
        let otherwise = Fate::of(&settings, "otherwise", Fate::Drop)?;
        let on_invalid = OnInvalid::of(&settings)?;
        settings.finish()?;
        if drop.is_empty() && keep.is_empty() && keep_any.is_empty() {
            return Err(InitError::new(
                "nothing says what to keep: set keep, keep-any or drop to a condition, such as \
                 keep = \"$.temp > 30\"",
            ));
        }
        let interest = subjects.interest();
        let sieve = Sieve {
            subjects,
            drop,
            keep,
            keep_any,
            otherwise,
            on_invalid,
        };
        Ok((sieve, interest))
    }

    fn settings_schema() -> String {
        include_str!("../settings.json").into()
    }
}

impl Sieve {
    /// Why a message does not go on.
    fn verdict(
        (drop, keep, keep_any): (&[Condition], &[Condition], &[Condition]),
        seen: &Seen<'_, '_>,
    ) -> Result<(), String> {
        if let Some(condition) = drop.iter().find(|condition| condition.holds(seen)) {
            return Err(format!("dropped by {}", condition.with_found(seen)));
        }
        if let Some(condition) = keep.iter().find(|condition| !condition.holds(seen)) {
            return Err(format!("kept is {}", condition.with_found(seen)));
        }
        if keep_any.is_empty() || keep_any.iter().any(|condition| condition.holds(seen)) {
            return Ok(());
        }
        let all: Vec<_> = keep_any.iter().map(|one| one.with_found(seen)).collect();
        Err(format!("kept is {}", all.join(" or ")))
    }
}

impl Filter for Sieve {
    fn filter(&mut self, message: &Message<'_>) -> Answer {
        let conditions = (&self.drop[..], &self.keep[..], &self.keep_any[..]);
        let verdict = match self.on_invalid.look(&mut self.subjects, message) {
            Ok(seen) => Sieve::verdict(conditions, &seen),
            Err(unread) => return unread.answer(),
        };
        match verdict {
            Ok(()) => Decision::Pass.into(),
            Err(reason) => self.otherwise.answer(reason),
        }
    }
}

waypost_plugin::export!(Sieve: filter, schema);

#[cfg(test)]
mod tests;
