//! A plugin's own schema of its settings, and settings held against it.
//!
//! Settings are text. So of JSON Schema (2020-12) this reads what can be said of one object of
//! texts, and refuses the rest by name when the plugin is loaded: a keyword that was passed over
//! would be a promise that nobody keeps. For the object these are `type`, `properties`,
//! `patternProperties`, `additionalProperties` and `required`; for a setting `type`, `enum`,
//! `const`, `pattern`, `minLength`, `maxLength`, `minimum`, `maximum`, `exclusiveMinimum` and
//! `exclusiveMaximum`; and everywhere what only describes, such as `description` and `default`.
//!
//! A setting's text is read as the type that its schema names: with `"type": "number"` the text
//! `4.5` is a number. A limit of numbers asks for a number even where no type is named.

mod read;

use regex_lite::Regex;

/// What settings a plugin takes, in its own words.
#[derive(Clone, Debug)]
pub struct SettingsSchema {
    text: String,
    named: Vec<(String, Setting)>,
    by_pattern: Vec<(Regex, Setting)>,
    others: Others,
    required: Vec<String>,
}

/// Settings that neither a name nor a pattern covers.
#[derive(Clone, Debug)]
enum Others {
    Allowed,
    Refused,
    Like(Setting),
}

/// What one setting may be.
#[derive(Clone, Debug, Default)]
struct Setting {
    kind: Option<Kind>,
    one_of: Option<Vec<String>>,
    pattern: Option<Regex>,
    length_min: Option<u64>,
    length_max: Option<u64>,
    /// `writeOnly`: nobody is shown what it is.
    is_secret: bool,
    bounds: Vec<(Bound, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Integer,
    Boolean,
}

/// In the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bound {
    Minimum,
    ExclusiveMinimum,
    Maximum,
    ExclusiveMaximum,
}

/// Why settings do not fit a plugin's schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A setting has a value that it may not have.
    #[error("setting '{setting}': '{value}', expected {expected}")]
    Value {
        /// Its name.
        setting: String,
        /// What it is set to; at most 128 characters of it.
        value: String,
        /// What would do.
        expected: String,
    },
    /// A setting that must be there is not.
    #[error("setting '{setting}' is missing, expected {expected}")]
    Missing {
        /// Its name.
        setting: String,
        /// What would do.
        expected: String,
    },
    /// A setting that the plugin does not know.
    #[error("setting '{setting}' is unknown, expected {expected}")]
    Unknown {
        /// Its name.
        setting: String,
        /// The names that it knows.
        expected: String,
    },
}

impl SettingsSchema {
    /// Reads a schema. The error names the place, as a JSON pointer, and what is wrong there.
    pub fn parse(text: &str) -> Result<SettingsSchema, String> {
        read::schema(text)
    }

    /// The schema, as the plugin gave it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Holds settings against it. Of several faults, the first setting's is told.
    pub fn check(&self, settings: &[(String, String)]) -> Result<(), SettingsError> {
        for (name, value) in settings {
            self.check_one(name, value)?;
        }
        let is_there = |name: &String| settings.iter().any(|(found, _)| found == name);
        match self.required.iter().find(|name| !is_there(name)) {
            None => Ok(()),
            Some(name) => Err(SettingsError::Missing {
                setting: name.clone(),
                expected: self
                    .setting(name)
                    .map_or_else(|| "any text".into(), Setting::expected),
            }),
        }
    }

    /// Whether what a setting is must not be shown: it is `writeOnly`.
    pub fn is_secret(&self, name: &str) -> bool {
        let mut covering = self.covering(name).peekable();
        match &self.others {
            Others::Like(setting) if covering.peek().is_none() => setting.is_secret,
            _ => covering.any(|setting| setting.is_secret),
        }
    }

    /// What is said of a setting by its name, and by patterns that match it.
    fn covering<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Setting> {
        let matching = self.by_pattern.iter().filter(|(p, _)| p.is_match(name));
        let named = self.setting(name).into_iter();
        named.chain(matching.map(|(_, setting)| setting))
    }

    fn setting(&self, name: &str) -> Option<&Setting> {
        let named = self.named.iter().find(|(known, _)| known == name);
        named.map(|(_, setting)| setting)
    }

    fn check_one(&self, name: &str, value: &str) -> Result<(), SettingsError> {
        let mut is_covered = false;
        for setting in self.covering(name) {
            setting.check(name, value)?;
            is_covered = true;
        }
        match &self.others {
            _ if is_covered => Ok(()),
            Others::Allowed => Ok(()),
            Others::Like(setting) => setting.check(name, value),
            Others::Refused => Err(SettingsError::Unknown {
                setting: shortened(name),
                expected: self.names(),
            }),
        }
    }

    fn names(&self) -> String {
        let named = self.named.iter().map(|(name, _)| name.clone());
        let patterns = self.by_pattern.iter();
        let names: Vec<_> = named
            .chain(patterns.map(|(pattern, _)| format!("names like {pattern}")))
            .collect();
        match &names[..] {
            [] => "no settings".into(),
            [one] => one.clone(),
            _ => format!("one of {}", names.join(", ")),
        }
    }
}

impl Setting {
    fn check(&self, name: &str, value: &str) -> Result<(), SettingsError> {
        if self.accepts(value) {
            return Ok(());
        }
        Err(SettingsError::Value {
            setting: shortened(name),
            value: match self.is_secret {
                true => "(secret)".to_owned(),
                false => shortened(value),
            },
            expected: self.expected(),
        })
    }

    fn accepts(&self, value: &str) -> bool {
        let length = value.chars().count() as u64;
        let number = || number(value);
        let fits_kind = match self.kind {
            None | Some(Kind::Text) => true,
            Some(Kind::Number) => number().is_some(),
            Some(Kind::Integer) => number().is_some_and(|number| number.fract() == 0.0),
            Some(Kind::Boolean) => matches!(value, "true" | "false"),
        };
        let fits_bound = |(bound, limit): &(Bound, f64)| {
            number().is_some_and(|number| match bound {
                Bound::Minimum => number >= *limit,
                Bound::Maximum => number <= *limit,
                Bound::ExclusiveMinimum => number > *limit,
                Bound::ExclusiveMaximum => number < *limit,
            })
        };
        fits_kind
            && self
                .one_of
                .as_ref()
                .is_none_or(|all| all.iter().any(|one| one == value))
            && self.pattern.as_ref().is_none_or(|p| p.is_match(value))
            && self.length_min.is_none_or(|least| length >= least)
            && self.length_max.is_none_or(|most| length <= most)
            && self.bounds.iter().all(fits_bound)
    }

    /// What the setting may be, in words.
    fn expected(&self) -> String {
        let mut parts = Vec::new();
        match (&self.one_of, self.kind) {
            (Some(all), _) => parts.push(match &all[..] {
                [one] => format!("'{one}'"),
                _ => format!("one of {}", all.join(", ")),
            }),
            (None, Some(Kind::Integer)) => parts.push("a whole number".into()),
            (None, Some(Kind::Boolean)) => parts.push("true or false".into()),
            (None, Some(Kind::Number)) => parts.push("a number".into()),
            (None, _) if !self.bounds.is_empty() => parts.push("a number".into()),
            (None, _) => parts.push("a text".into()),
        }
        for (bound, limit) in &self.bounds {
            let word = match bound {
                Bound::Minimum => "at least",
                Bound::Maximum => "at most",
                Bound::ExclusiveMinimum => "more than",
                Bound::ExclusiveMaximum => "less than",
            };
            parts.push(format!("{word} {limit}"));
        }
        if let Some(pattern) = &self.pattern {
            parts.push(format!("that matches {pattern}"));
        }
        if let Some(least) = self.length_min {
            parts.push(format!("of at least {least} characters"));
        }
        if let Some(most) = self.length_max {
            parts.push(format!("of at most {most} characters"));
        }
        parts.join(", ")
    }
}

/// A text as JSON would have a number: no `inf`, no `NaN`, no blanks.
fn number(text: &str) -> Option<f64> {
    let parsed: f64 = text.parse().ok()?;
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    (is_plain && parsed.is_finite()).then_some(parsed)
}

pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(128).collect()
}

#[cfg(test)]
mod tests;
