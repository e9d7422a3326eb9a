//! What was expected of each message, and how what was found differs.
//!
//! An expectation is an object for each message, in order. It says what must be there and leaves
//! open what it does not name; a snapshot is all that was there, and leaves nothing open.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::entry::KEYS;
use crate::failure::usage;

/// How exactly something is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What is named must be there.
    Expectation,
    /// All is named.
    Snapshot,
}

/// The lines of an expectation or a snapshot, in order.
#[derive(Debug)]
pub struct Expected {
    file: PathBuf,
    kind: Kind,
    lines: Vec<(usize, Value)>,
}

/// One difference of one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Such as `message.headers.unit`.
    pub place: String,
    /// What was expected; `None` if nothing was.
    pub expected: Option<Value>,
    /// What was found; `None` if nothing was.
    pub found: Option<Value>,
}

impl Expected {
    /// Reads a file.
    pub fn read(file: &Path, kind: Kind) -> anyhow::Result<Expected> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let lines = parse(&text)
            .map_err(|(line, problem)| usage(format!("{}:{line}: {problem}", file.display())))?;
        Ok(Expected {
            file: file.to_owned(),
            kind,
            lines,
        })
    }

    /// Where it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// How many messages it is for.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// The line of the file that is for message `index`, and the differences.
    pub fn compare(&self, index: usize, found: &Value) -> Option<(usize, Vec<Difference>)> {
        let (line, expected) = self.lines.get(index)?;
        let mut differences = Vec::new();
        compare("", expected, found, self.kind, &mut differences);
        Some((*line, differences))
    }
}

/// The objects of a file, with their lines; or the line that is wrong, and how.
fn parse(text: &str) -> Result<Vec<(usize, Value)>, (usize, String)> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let at = |problem: String| (index + 1, problem);
        let value: Value = serde_json::from_str(line).map_err(|error| at(error.to_string()))?;
        let Some(object) = value.as_object() else {
            return Err(at(
                "expected an object such as {\"verdict\":\"pass\"}".into()
            ));
        };
        if let Some(unknown) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let known = KEYS.join(", ");
            return Err(at(format!("unknown {unknown:?}, expected some of {known}")));
        }
        lines.push((index + 1, value));
    }
    Ok(lines)
}

fn compare(
    place: &str,
    expected: &Value,
    found: &Value,
    kind: Kind,
    differences: &mut Vec<Difference>,
) {
    match (expected, found) {
        (Value::Object(wanted), Value::Object(there)) => {
            let below = |key: &str| match place {
                "" => key.to_owned(),
                place => format!("{place}.{key}"),
            };
            for (key, wanted) in wanted {
                match there.get(key) {
                    Some(found) => compare(&below(key), wanted, found, kind, differences),
                    None => differences.push(Difference {
                        place: below(key),
                        expected: Some(wanted.clone()),
                        found: None,
                    }),
                }
            }
            let unnamed = there.iter().filter(|(key, _)| !wanted.contains_key(*key));
            if kind == Kind::Snapshot {
                differences.extend(unnamed.map(|(key, found)| Difference {
                    place: below(key),
                    expected: None,
                    found: Some(found.clone()),
                }));
            }
        }
        (Value::Array(wanted), Value::Array(there)) if wanted.len() == there.len() => {
            for (index, (wanted, found)) in wanted.iter().zip(there).enumerate() {
                compare(
                    &format!("{place}[{index}]"),
                    wanted,
                    found,
                    kind,
                    differences,
                );
            }
        }
        _ if is_equal(place, expected, found) => {}
        _ => differences.push(Difference {
            place: place.to_owned(),
            expected: Some(expected.clone()),
            found: Some(found.clone()),
        }),
    }
}

/// A line of the log may be expected by its text, and a payload of JSON as that JSON.
fn is_equal(place: &str, expected: &Value, found: &Value) -> bool {
    if expected == found {
        return true;
    }
    if place.starts_with("log[") {
        return expected.is_string() && found.get("text") == Some(expected);
    }
    let is_payload = place.ends_with("payload") && !expected.is_string();
    let parsed = found.as_str().filter(|_| is_payload);
    parsed.is_some_and(|text| serde_json::from_str(text).ok().as_ref() == Some(expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn differences(expected: Value, found: Value, kind: Kind) -> Vec<String> {
        let expected = Expected {
            file: PathBuf::new(),
            kind,
            lines: parse(&expected.to_string()).unwrap(),
        };
        let (_, differences) = expected.compare(0, &found).unwrap();
        let text = |d: &Difference| {
            let side = |v: &Option<Value>| v.as_ref().map_or("nothing".into(), Value::to_string);
            format!("{}: {} {}", d.place, side(&d.expected), side(&d.found))
        };
        differences.iter().map(text).collect()
    }

    #[test]
    fn an_expectation_leaves_open_what_it_does_not_name() {
        let found = json!({"verdict": "edit", "message": {"topic": "a", "headers": {"x": "1", "y": "2"}, "payload": "{\"n\":1.0}"}, "log": [{"level": "info", "text": "hello"}]});
        for expected in [
            json!({}),
            json!({"verdict": "edit"}),
            json!({"message": {"headers": {"y": "2"}}}),
            json!({"message": {"payload": {"n": 1.0}}}),
            json!({"log": ["hello"]}),
            json!({"log": [{"level": "info"}]}),
        ] {
            assert!(
                differences(expected.clone(), found.clone(), Kind::Expectation).is_empty(),
                "{expected}"
            );
        }
        for (expected, difference) in [
            (json!({"verdict": "drop"}), "verdict: \"drop\" \"edit\""),
            (json!({"reason": "r"}), "reason: \"r\" nothing"),
            (
                json!({"message": {"headers": {"y": "3"}}}),
                "message.headers.y: \"3\" \"2\"",
            ),
            (
                json!({"message": {"payload": {"n": 2}}}),
                "message.payload: {\"n\":2} \"{\\\"n\\\":1.0}\"",
            ),
            (
                json!({"log": ["bye"]}),
                "log[0]: \"bye\" {\"level\":\"info\",\"text\":\"hello\"}",
            ),
            (
                json!({"log": []}),
                "log: [] [{\"level\":\"info\",\"text\":\"hello\"}]",
            ),
        ] {
            let got = differences(expected, found.clone(), Kind::Expectation);
            assert_eq!(got, [difference]);
        }
    }

    #[test]
    fn a_snapshot_leaves_nothing_open() {
        let found = json!({"verdict": "drop", "reason": "r"});
        let got = differences(json!({"verdict": "drop"}), found.clone(), Kind::Snapshot);
        assert_eq!(got, ["reason: nothing \"r\""]);
        assert!(differences(found.clone(), found, Kind::Snapshot).is_empty());
    }

    #[test]
    fn a_slip_of_the_pen_is_no_expectation() {
        for (text, line, expected) in [
            (
                "{\"verdict\":\"pass\"}\n\n{\"verdct\":\"pass\"}",
                3,
                "unknown \"verdct\"",
            ),
            ("[]", 1, "expected an object"),
            ("{", 1, "EOF"),
        ] {
            let (at, problem) = parse(text).unwrap_err();
            assert_eq!(at, line);
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
