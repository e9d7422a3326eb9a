//! Destinations of a route, as plugins that route have them in their settings.

use waypost_plugin::{Choice, InitError};

use crate::settings::{self, Entry, Settings};

/// The number of the destination that `name` is; `key` is the setting that names it.
fn destination(settings: &Settings<'_>, key: &str, name: &str) -> Result<u32, InitError> {
    let known = settings.destinations();
    let at = known.iter().position(|known| known == name);
    at.map(|at| at as u32).ok_or_else(|| {
        let expected = format!("a destination of the route: {}", known.join(", "));
        settings::wrong(key, name, &expected)
    })
}

/// The settings `to.DESTINATION`, each of which may be a list, with their destinations' numbers.
pub fn ways<'c>(settings: &Settings<'c>) -> Result<Vec<(u32, Entry<'c>)>, InitError> {
    let mut ways = Vec::new();
    for entry in settings.table("to") {
        // A destination's name may end like an element of a list.
        let is_whole = settings
            .destinations()
            .iter()
            .any(|name| name == entry.name);
        let name = if is_whole {
            entry.name
        } else {
            entry.list_name()
        };
        ways.push((destination(settings, entry.key, name)?, entry));
    }
    Ok(ways)
}

/// There is none of them. To be said when all settings are known, since one may be a slip of the pen.
pub fn nowhere(expected: &str) -> InitError {
    InitError::new(format!(
        "nothing says where messages go: set to.\"queue:NAME\" to {expected}"
    ))
}

/// The setting `otherwise`: destinations of messages that have no other.
pub fn otherwise(settings: &Settings<'_>) -> Result<Vec<u32>, InitError> {
    let mut all = Vec::new();
    for (key, name) in settings.texts("otherwise") {
        all.push(destination(settings, key, name)?);
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// To `to`, or else to `otherwise`, or else nowhere, for this reason.
pub fn choice(to: Vec<u32>, otherwise: &[u32], reason: impl FnOnce() -> String) -> Choice {
    match (&to[..], otherwise) {
        ([one], _) | ([], [one]) => Choice::One(*one),
        ([], []) => Choice::Drop(Some(reason())),
        ([], otherwise) => Choice::To(otherwise.to_vec()),
        _ => Choice::To(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_plugin::Config;

    fn config(settings: &[(&str, &str)]) -> Config {
        Config {
            destinations: vec!["queue:a".into(), "queue:b.1".into()],
            ..settings::config(settings)
        }
    }

    #[test]
    fn destinations_have_numbers() {
        let config = config(&[
            ("to.queue:a.0", "x"),
            ("to.queue:a.1", "y"),
            ("to.queue:b.1", "z"),
            ("otherwise.0", "queue:b.1"),
            ("otherwise.1", "queue:b.1"),
        ]);
        let settings = Settings::new(&config);
        let found = ways(&settings).expect("ways");
        let found: Vec<_> = found.iter().map(|(to, entry)| (*to, entry.text)).collect();
        assert_eq!(found, [(0, "x"), (0, "y"), (1, "z")]);
        assert_eq!(otherwise(&settings).ok(), Some(vec![1]));
    }

    #[test]
    fn mistakes_are_named() {
        let config = config(&[("to.queue:c", "v"), ("otherwise", "queue:b")]);
        let settings = Settings::new(&config);
        let errors = [ways(&settings).map(drop), otherwise(&settings).map(drop)];
        for error in errors {
            let error = error.expect_err("no destination");
            assert!(
                error.message.contains("queue:a, queue:b.1"),
                "{}",
                error.message
            );
        }
    }

    #[test]
    fn choices() {
        let choice = |to: &[u32], otherwise: &[u32]| choice(to.to_vec(), otherwise, || "no".into());
        assert!(matches!(choice(&[3], &[1]), Choice::One(3)));
        assert!(matches!(choice(&[], &[1]), Choice::One(1)));
        assert!(matches!(choice(&[1, 2], &[3]), Choice::To(to) if to == [1, 2]));
        assert!(matches!(choice(&[], &[3, 4]), Choice::To(to) if to == [3, 4]));
        assert!(matches!(choice(&[], &[]), Choice::Drop(Some(reason)) if reason == "no"));
    }
}
