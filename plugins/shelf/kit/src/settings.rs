//! What an operator wrote, as text with dotted names (`keep.0`, `to.queue:hot`), made into what a
//! plugin needs. Each error names the setting, what stands there, and what was expected.

use std::cell::RefCell;
use std::time::Duration;

use waypost_plugin::{Config, InitError};

/// The settings of a plugin, with a note of which were read.
pub struct Settings<'c> {
    config: &'c Config,
    asked: RefCell<Vec<String>>,
}

impl<'c> Settings<'c> {
    /// Those of this configuration.
    pub fn new(config: &'c Config) -> Settings<'c> {
        Settings {
            config,
            asked: RefCell::new(Vec::new()),
        }
    }

    /// The plugin's destinations.
    pub fn destinations(&self) -> &'c [String] {
        &self.config.destinations
    }

    /// The role that it is called in.
    pub fn role(&self) -> &'c str {
        &self.config.role
    }

    fn ask(&self, name: &str) {
        self.asked.borrow_mut().push(name.to_owned());
    }

    /// A text, if it is set.
    pub fn text(&self, name: &str) -> Option<&'c str> {
        self.ask(name);
        self.config.get(name)
    }

    /// A text that must be set.
    pub fn required(&self, name: &str, expected: &str) -> Result<&'c str, InitError> {
        self.text(name).ok_or_else(|| missing(name, expected))
    }

    /// One text, or a list of them: `name` or `name.0`, `name.1`, …, each with its own name.
    pub fn texts(&self, name: &str) -> Vec<(&'c str, &'c str)> {
        self.ask(name);
        self.ask(&format!("{name}.0"));
        let is_one = |key: &str| key == name || is_item(key, name);
        let all = self.config.settings.iter();
        all.filter(|(key, _)| is_one(key))
            .map(|(key, text)| (key.as_str(), text.as_str()))
            .collect()
    }

    /// The table `name`: what stands below it, each with the rest of its name.
    pub fn table(&self, name: &str) -> Vec<Entry<'c>> {
        self.ask(&format!("{name}.NAME"));
        let prefix = format!("{name}.");
        let all = self.config.settings.iter();
        all.filter_map(|(key, text)| {
            let rest = key.strip_prefix(&prefix)?;
            Some(Entry {
                key,
                name: rest,
                text,
            })
        })
        .collect()
    }

    /// One of a few words; the first is the default.
    pub fn choice<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<T, InitError> {
        let Some(text) = self.text(name) else {
            return Ok(words[0].1);
        };
        choose(name, text, words)
    }

    /// A time such as `90s`, `500ms`, `1h`.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, InitError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let read = duration(text);
        read.map(Some).ok_or_else(|| {
            wrong(
                name,
                text,
                "a time above 0, such as 500ms, 90s, 5m, 2h or 7d",
            )
        })
    }

    /// A whole number within bounds.
    pub fn whole(&self, name: &str, low: u64, high: u64) -> Result<Option<u64>, InitError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) if (low..=high).contains(&number) => Ok(Some(number)),
            _ => Err(wrong(
                name,
                text,
                &format!("a whole number from {low} to {high}"),
            )),
        }
    }

    /// A number within bounds.
    pub fn number(&self, name: &str, low: f64, high: f64) -> Result<Option<f64>, InitError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) if (low..=high).contains(&number) => Ok(Some(number)),
            _ => Err(wrong(name, text, &format!("a number from {low} to {high}"))),
        }
    }

    /// `true` or `false`; false where it is not set.
    pub fn flag(&self, name: &str) -> Result<bool, InitError> {
        self.choice(name, &[("false", false), ("true", true)])
    }

    /// Refuses settings that were not asked for, so that a slip of the pen is not passed over.
    pub fn finish(self) -> Result<(), InitError> {
        let asked = self.asked.borrow();
        let is_known = |key: &str| {
            asked.iter().any(|asked| match asked.strip_suffix(".NAME") {
                Some(table) => key
                    .strip_prefix(table)
                    .is_some_and(|rest| rest.starts_with('.')),
                None => match asked.strip_suffix(".0") {
                    Some(list) => is_item(key, list),
                    None => key == asked,
                },
            })
        };
        let mut keys = self.config.settings.iter().map(|(key, _)| key);
        match keys.find(|key| !is_known(key)) {
            None => Ok(()),
            Some(unknown) => {
                let mut names: Vec<_> = asked.iter().filter(|name| !name.ends_with(".0")).collect();
                names.sort();
                names.dedup();
                let names: Vec<_> = names.into_iter().map(String::as_str).collect();
                let text = format!("is unknown, expected one of {}", names.join(", "));
                Err(InitError::of(unknown, text))
            }
        }
    }
}

/// One setting below a table.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'c> {
    /// Its whole name.
    pub key: &'c str,
    /// Its name in the table.
    pub name: &'c str,
    /// What it is set to.
    pub text: &'c str,
}

impl<'c> Entry<'c> {
    /// The name without the number that it has where it is one of a list.
    pub fn list_name(&self) -> &'c str {
        match self.name.rsplit_once('.') {
            Some((name, number)) if is_number(number) => name,
            _ => self.name,
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_item(key: &str, list: &str) -> bool {
    let number = key
        .strip_prefix(list)
        .and_then(|rest| rest.strip_prefix('.'));
    number.is_some_and(is_number)
}

/// A setting has to be there.
pub fn missing(name: &str, expected: &str) -> InitError {
    InitError::of(name, format!("is missing, expected {expected}"))
}

/// A setting has a value that it cannot have.
pub fn wrong(name: &str, found: &str, expected: &str) -> InitError {
    InitError::of(name, format!("'{found}', expected {expected}"))
}

/// One of a few words.
pub fn choose<T: Copy>(name: &str, text: &str, words: &[(&str, T)]) -> Result<T, InitError> {
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            Err(wrong(name, text, &format!("one of {}", words.join(", "))))
        }
    }
}

/// `500ms`, `90s`, `5m`, `2h`, `7d`; above 0, and at most ten thousand days.
pub fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let ms = number.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    (1..=864_000_000_000)
        .contains(&ms)
        .then(|| Duration::from_millis(ms))
}

/// A configuration with these settings.
#[cfg(test)]
pub(crate) fn config(settings: &[(&str, &str)]) -> Config {
    let text = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    Config {
        plugin: "test".into(),
        role: "filter".into(),
        instance: 0,
        settings: settings.iter().map(text).collect(),
        destinations: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: InitError) -> String {
        format!("{}: {}", error.setting.unwrap_or_default(), error.message)
    }

    #[test]
    fn lists_and_tables() {
        let config = config(&[
            ("keep", "a"),
            ("to.queue:a.b", "x"),
            ("to.queue:c.0", "y"),
            ("keep.1", "b"),
        ]);
        let settings = Settings::new(&config);
        assert_eq!(settings.texts("keep"), [("keep", "a"), ("keep.1", "b")]);
        let table = settings.table("to");
        let names: Vec<_> = table.iter().map(|entry| entry.list_name()).collect();
        assert_eq!(names, ["queue:a.b", "queue:c"]);
        assert!(settings.finish().is_ok());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let config = config(&[("kep", "a")]);
        let settings = Settings::new(&config);
        settings.texts("keep");
        settings.table("to");
        let error = settings.finish().expect_err("unknown");
        assert_eq!(
            said(error),
            "kep: is unknown, expected one of keep, to.NAME"
        );
    }

    #[test]
    fn numbers_times_and_words() {
        let config = config(&[("n", "0"), ("t", "5 m"), ("w", "red"), ("x", "nan")]);
        let settings = Settings::new(&config);
        for (error, expected) in [
            (
                settings.whole("n", 1, 9).map(drop),
                "n: '0', expected a whole number from 1 to 9",
            ),
            (
                settings.number("x", 0.0, 1.0).map(drop),
                "x: 'nan', expected a number from 0 to 1",
            ),
            (
                settings.duration("t").map(drop),
                "t: '5 m', expected a time above 0, such as 500ms, 90s, 5m, 2h or 7d",
            ),
            (
                settings.choice("w", &[("blue", ()), ("green", ())]),
                "w: 'red', expected one of blue, green",
            ),
        ] {
            assert_eq!(said(error.expect_err(expected)), expected);
        }
        assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
        for wrong in [
            "",
            "s",
            "0s",
            "5",
            "1w",
            "99999999999999999999d",
            "1000000d",
            "1.5h",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
