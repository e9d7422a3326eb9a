//! Text with places in it: `site/{topic[1]}/{header unit|C}/{$.id}`.
//!
//! In braces stands a [subject](crate::subject), and after `|` what to take where it is not there.
//! `{{` and `}}` are braces.

use std::borrow::Cow;
use std::fmt;

use crate::subject::{Seen, Subject, Subjects};

/// A text with places.
#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Place {
        subject: Subject,
        /// As the configuration writes it.
        words: String,
        otherwise: Option<String>,
    },
}

/// A place for which a message has nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// As the configuration writes it.
    pub place: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message has no {}", self.place)
    }
}

impl Template {
    /// Reads one; what it looks at is added to `subjects`.
    pub fn parse(text: &str, subjects: &mut Subjects) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..at + 1];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err("a '}' without its '{'; a brace is written twice".to_owned());
            }
            let (subject, after) = subjects.split(rest)?;
            let (words, after) = (&rest[..rest.len() - after.len()], after.trim_start());
            let no_end = || format!("{{{words} has no '}}'");
            let (otherwise, after) = match after.strip_prefix('|') {
                Some(after) => {
                    let (otherwise, after) = after.split_once('}').ok_or_else(no_end)?;
                    (Some(otherwise.to_owned()), after)
                }
                None => (None, after.strip_prefix('}').ok_or_else(no_end)?),
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Place {
                subject,
                words: words.trim_end().to_owned(),
                otherwise,
            });
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Template { parts })
    }

    /// The text for a message.
    pub fn fill(&self, seen: &Seen<'_, '_>) -> Result<String, Missing> {
        self.fill_with(seen, |_, text| text)
    }

    /// The text for a message, as a topic: what comes of anything but the topic itself is one level,
    /// or a part of one. `/`, `+`, `#` and control characters in it are written as `%2F`, and so is
    /// `%`; where nothing is left, that place is missing.
    pub fn fill_topic(&self, seen: &Seen<'_, '_>) -> Result<String, Missing> {
        self.fill_with(seen, |subject, text| match subject {
            Subject::Topic | Subject::Levels(..) => text,
            _ => as_level(text),
        })
    }

    fn fill_with(
        &self,
        seen: &Seen<'_, '_>,
        shape: impl for<'t> Fn(&Subject, Cow<'t, str>) -> Cow<'t, str>,
    ) -> Result<String, Missing> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Place {
                    subject,
                    words,
                    otherwise,
                } => match (seen.first(subject), otherwise) {
                    (Some(datum), _) => filled.push_str(&shape(subject, datum.plain())),
                    (None, Some(otherwise)) => filled.push_str(otherwise),
                    (None, None) => {
                        return Err(Missing {
                            place: words.clone(),
                        });
                    }
                },
            }
        }
        Ok(filled)
    }

    /// The text, where it has no place.
    pub fn fixed(&self) -> Option<&str> {
        match &self.parts[..] {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

fn as_level(text: Cow<'_, str>) -> Cow<'_, str> {
    let is_special = |c: char| "/+#%".contains(c) || c.is_control();
    if !text.contains(is_special) {
        return text;
    }
    let mut level = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_special(c) {
            false => level.push(c),
            true => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    level.push_str(&format!("%{byte:02X}"));
                }
            }
        }
    }
    Cow::Owned(level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_plugin::testing::{self, Input};

    #[track_caller]
    fn filled(text: &str, input: Input) -> Result<String, String> {
        let mut subjects = Subjects::default();
        let template = Template::parse(text, &mut subjects)?;
        let batch = testing::batch(&subjects.interest(), [input]);
        let message = batch.get(0).expect("a message");
        let seen = subjects.look(&message).map_err(|error| error.to_string())?;
        template
            .fill_topic(&seen)
            .map_err(|missing| missing.to_string())
    }

    #[test]
    fn places_are_filled() {
        let input = || Input::new("plant/p1/temp", r#"{"id":"a/b","n":1.50,"o":{"x":[1]}}"#);
        for (text, expected) in [
            ("sites/{topic[1]}/{$.id}", "sites/p1/a%2Fb"),
            ("{topic[1..]}", "p1/temp"),
            ("{topic}/{$.n}", "plant/p1/temp/1.50"),
            ("{header unit|C}-{header unit | K }", "C- K "),
            ("{{x}}", "{x}"),
            ("{$['id']}", "a%2Fb"),
            ("x/{size}", "x/35"),
        ] {
            assert_eq!(filled(text, input()).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(
            filled("a/{$.zz}", input()),
            Err("the message has no $.zz".into())
        );
        assert_eq!(
            filled("{header u+v}", input().header("u+v", "+/#%\u{1}ü")).as_deref(),
            Ok("%2B%2F%23%25%01ü")
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("{topic", "has no '}'"),
            ("a}", "without its '{'"),
            ("{temp}", "begins with none of"),
            ("{key|x", "has no '}'"),
            ("{$.a.}", "no name after a dot"),
        ] {
            let error = filled(text, Input::new("a", "{}")).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
