//! What makes messages count as the same: the values of some subjects, as a key for the state.

use std::borrow::Cow;

use waypost_plugin::InitError;

use crate::base64::hex;
use crate::settings::Settings;
use crate::subject::{Datum, Seen, Subject, Subjects};

/// The setting `by`.
#[derive(Clone, Debug)]
pub struct By {
    subjects: Vec<(String, Subject)>,
}

/// A key that is longer than this is kept as its SHA-256: the state takes 512 bytes, and bounds the
/// sum of all keys.
const KEY_BYTES_MAX: usize = 64;

impl By {
    /// Reads it; `default` where it is not set.
    pub fn of(
        settings: &Settings<'_>,
        subjects: &mut Subjects,
        default: &[&str],
    ) -> Result<By, InitError> {
        let mut texts = settings.texts("by");
        if texts.is_empty() {
            texts = default.iter().map(|text| ("by", *text)).collect();
        }
        let mut all = Vec::new();
        for (key, text) in texts {
            let subject = subjects
                .parse(text.trim())
                .map_err(|error| InitError::of(key, error))?;
            all.push((text.trim().to_owned(), subject));
        }
        Ok(By { subjects: all })
    }

    /// As the configuration writes it.
    pub fn words(&self) -> String {
        let words: Vec<_> = self
            .subjects
            .iter()
            .map(|(words, _)| words.as_str())
            .collect();
        words.join(", ")
    }

    /// Each of its subjects, as the configuration writes it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.subjects.iter().map(|(words, _)| words.as_str())
    }

    /// What each of them has in a message, as JSON.
    pub fn values(&self, seen: &Seen<'_, '_>) -> Vec<String> {
        let one = |(_, subject): &(String, Subject)| match seen.first(subject) {
            Some(datum) => datum.json(),
            None => "null".to_owned(),
        };
        self.subjects.iter().map(one).collect()
    }

    /// The key of a message: the first value of each subject, nothing where there is none. Two
    /// messages have the same one only if all values are the same. `None` if all are missing.
    pub fn key(&self, seen: &Seen<'_, '_>) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        let mut is_there = self.subjects.is_empty();
        for (_, subject) in &self.subjects {
            match seen.first(subject) {
                None => key.push(0),
                Some(datum) => {
                    is_there = true;
                    let (kind, bytes) = bytes_of(&datum);
                    key.push(kind);
                    key.extend((bytes.len() as u32).to_le_bytes());
                    key.extend_from_slice(&bytes);
                }
            }
        }
        if key.len() > KEY_BYTES_MAX {
            key = hmac_sha256::Hash::hash(&key).to_vec();
        }
        is_there.then_some(key)
    }

    /// What a person knows it by.
    pub fn shown(&self, seen: &Seen<'_, '_>) -> String {
        let one = |(words, subject): &(String, Subject)| match seen.first(subject) {
            Some(datum) => format!("{words} {}", crate::subject::shortened(&datum.plain())),
            None => format!("no {words}"),
        };
        let all: Vec<_> = self.subjects.iter().map(one).collect();
        all.join(", ")
    }
}

/// A short text that other texts do not have: 16 hexadecimal digits of the SHA-256.
pub fn digest(text: &str) -> String {
    hex(&hmac_sha256::Hash::hash(text.as_bytes())[..8])
}

/// What a value is, and its bytes: both are the same only where the values are. `5` and `"5"` are
/// not.
fn bytes_of<'d>(datum: &Datum<'d>) -> (u8, Cow<'d, [u8]>) {
    const TEXT: u8 = 1;
    const OTHER: u8 = 2;
    match *datum {
        Datum::Bytes(bytes) => (TEXT, Cow::Borrowed(bytes)),
        Datum::Number(number) => (OTHER, Cow::Owned(number.to_string().into_bytes())),
        Datum::Json(value) => match value.text_bytes() {
            Some(text) => (TEXT, text),
            None => (OTHER, Cow::Borrowed(value.0)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_plugin::testing::{self, Input};

    fn key(by: &[&str], input: Input) -> Option<Vec<u8>> {
        let mut subjects = Subjects::default();
        let parse = |text: &&str| ((*text).to_owned(), subjects.parse(text).expect(text));
        let by = By {
            subjects: by.iter().map(parse).collect(),
        };
        let batch = testing::batch(&subjects.interest(), [input]);
        let message = batch.get(0).expect("a message");
        by.key(&subjects.look(&message).expect("JSON"))
    }

    #[test]
    fn other_values_are_another_key() {
        let by = ["header a", "header b"];
        let input = |a: &str, b: &str| Input::new("t", "").header("a", a).header("b", b);
        assert_ne!(key(&by, input("x", "yz")), key(&by, input("xy", "z")));
        assert_eq!(key(&by, input("x", "y")), key(&by, input("x", "y")));
        let long = "x".repeat(300);
        assert_eq!(key(&by, input(&long, "y")).map(|key| key.len()), Some(32));
        assert_ne!(
            key(&["key"], Input::new("t", "").key([0xff])),
            key(&["key"], Input::new("t", "").key([0xfe]))
        );
    }

    #[test]
    fn values_of_other_kinds_are_other_keys() {
        let of = |value: &str| key(&["$.a"], Input::new("t", format!("{{\"a\":{value}}}")));
        let values = [
            "5",
            "\"5\"",
            "null",
            "\"null\"",
            "true",
            "\"\\ud800\"",
            "\"\\udbff\"",
            "\"\u{fffd}\"",
        ];
        for (index, one) in values.iter().enumerate() {
            for other in &values[index + 1..] {
                assert_ne!(of(one), of(other), "{one}, {other}");
            }
        }
        assert_eq!(of("\"a\""), of("\"\\u0061\""));
    }

    #[test]
    fn digests() {
        assert_eq!(digest(""), "e3b0c44298fc1c14");
        assert_ne!(digest("a"), digest("b"));
    }

    #[test]
    fn nothing_is_no_key() {
        assert_eq!(key(&["key", "message-id"], Input::new("t", "")), None);
        assert_ne!(
            key(&["key", "message-id"], Input::new("t", "").key("")),
            None
        );
        assert_eq!(key(&[], Input::new("t", "")), Some(Vec::new()));
    }
}
