//! Something that holds of a message or does not: `$.temp > 30`, `header unit == C`,
//! `topic like plant/+/temp`, `not key exists`.
//!
//! A condition is a [subject](crate::subject), a word, and mostly a value. It holds if it holds of
//! any value of the subject; so none holds of what is not there, but `!=` and `absent`, which are
//! what `==` and `exists` are not.

use std::cmp::Ordering;

use crate::json::{Kind, path, write};
use crate::subject::{Datum, Seen, Subject, Subjects, shortened};
use crate::topic::TopicFilter;

/// A condition.
#[derive(Clone, Debug)]
pub struct Condition {
    words: String,
    subject: Subject,
    negated: bool,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Exists,
    Equals(Literal),
    Compares(&'static [Ordering], Literal),
    In(Vec<Literal>),
    Contains(Literal),
    StartsWith(String),
    EndsWith(String),
    Topic(TopicFilter),
    /// `*` is any text, `?` any character.
    Wildcard(Vec<char>),
    Is(Kind),
}

/// A value as the configuration writes it.
#[derive(Clone, Debug, PartialEq)]
struct Literal {
    text: String,
    number: Option<Number>,
    /// In quotes, so a text and nothing else.
    is_quoted: bool,
}

/// Whole numbers are compared exactly, all others as JSON readers mostly do.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Whole(i128),
    Float(f64),
}

const WORDS: &str = "==, !=, <, <=, >, >=, in, contains, starts-with, ends-with, like, is, \
                     exists or absent";

impl Condition {
    /// Reads one; what it looks at is added to `subjects`.
    pub fn parse(text: &str, subjects: &mut Subjects) -> Result<Condition, String> {
        let words = text.trim();
        let (negated, rest) = match words.strip_prefix("not ") {
            Some(rest) => (true, rest.trim_start()),
            None => (false, words),
        };
        let (subject, rest) = subjects.split(rest)?;
        let (word, value) = operator(rest.trim());
        let need = || match value {
            "" => Err(format!("'{words}' has nothing after {word}")),
            value => Ok(value),
        };
        let nothing = || match value {
            "" => Ok(()),
            more => Err(format!("'{words}' goes on with '{more}' after {word}")),
        };
        let text_of = || need().and_then(|value| Ok(literal(value)?.text));
        let (inverse, test) = match word {
            "exists" => (false, nothing().map(|()| Test::Exists)?),
            "absent" => (true, nothing().map(|()| Test::Exists)?),
            "==" => (false, Test::Equals(literal(need()?)?)),
            "!=" => (true, Test::Equals(literal(need()?)?)),
            "<" => (false, Test::Compares(&[Ordering::Less], literal(need()?)?)),
            "<=" => (
                false,
                Test::Compares(&[Ordering::Less, Ordering::Equal], literal(need()?)?),
            ),
            ">" => (
                false,
                Test::Compares(&[Ordering::Greater], literal(need()?)?),
            ),
            ">=" => (
                false,
                Test::Compares(&[Ordering::Greater, Ordering::Equal], literal(need()?)?),
            ),
            "in" => (false, Test::In(list(need()?)?)),
            "contains" => (false, Test::Contains(literal(need()?)?)),
            "starts-with" => (false, Test::StartsWith(text_of()?)),
            "ends-with" => (false, Test::EndsWith(text_of()?)),
            "like" => (false, like(&subject, &text_of()?)?),
            "is" => {
                let kind = need()?;
                let known = Kind::NAMES.iter().find(|(name, _)| *name == kind);
                let Some((_, kind)) = known else {
                    let names = Kind::NAMES.map(|(name, _)| name).join(", ");
                    return Err(format!("'{words}': is {kind}, expected one of {names}"));
                };
                (false, Test::Is(*kind))
            }
            "" => return Err(format!("'{words}' says nothing, expected {WORDS} after it")),
            other => return Err(format!("'{words}' has '{other}', expected {WORDS}")),
        };
        Ok(Condition {
            words: words.to_owned(),
            subject,
            negated: negated != inverse,
            test,
        })
    }

    /// Whether it holds.
    pub fn holds(&self, seen: &Seen<'_, '_>) -> bool {
        seen.any(&self.subject, |datum| self.test.holds(&datum)) != self.negated
    }

    /// As the configuration writes it.
    pub fn words(&self) -> &str {
        &self.words
    }

    /// Why it does not hold, or does: the condition, and what was found.
    pub fn with_found(&self, seen: &Seen<'_, '_>) -> String {
        let found = match seen.first(&self.subject) {
            Some(datum) => format!("found {}", shortened(&datum.plain())),
            None => "found nothing".to_owned(),
        };
        format!("{} ({found})", self.words)
    }
}

/// Cuts off the word, or the sign, that says what is compared.
fn operator(rest: &str) -> (&str, &str) {
    for sign in ["==", "!=", "<=", ">=", "<", ">"] {
        if let Some(value) = rest.strip_prefix(sign) {
            return (sign, value.trim());
        }
    }
    match rest.split_once(char::is_whitespace) {
        Some((word, value)) => (word, value.trim()),
        None => (rest, ""),
    }
}

/// A text in quotes, a number, `true`, `false`, `null`, or a text without quotes.
fn literal(text: &str) -> Result<Literal, String> {
    let is_quoted = text.starts_with(['"', '\'']);
    let plain = match is_quoted {
        false => text.to_owned(),
        true => match path::quoted(&text[1..], if text.starts_with('"') { '"' } else { '\'' }) {
            Some((plain, "")) => plain,
            _ => return Err(format!("{text} is not one text in quotes")),
        },
    };
    Ok(Literal {
        number: if is_quoted {
            None
        } else {
            Number::parse(&plain)
        },
        text: plain,
        is_quoted,
    })
}

/// `[a, "b c", 3]`, with or without the brackets.
fn list(text: &str) -> Result<Vec<Literal>, String> {
    let inner = match text.strip_prefix('[') {
        Some(inner) => inner
            .strip_suffix(']')
            .ok_or_else(|| format!("{text} has no ']'"))?,
        None => text,
    };
    let mut all = Vec::new();
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let end = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let (_, after) = path::quoted(&rest[1..], quote)
                    .ok_or_else(|| format!("{rest} has no closing {quote}"))?;
                rest.len() - after.len()
            }
            _ => rest.find(',').unwrap_or(rest.len()),
        };
        all.push(literal(rest[..end].trim())?);
        let after = rest[end..].trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if after.is_empty() => "",
            None => return Err(format!("'{after}' stands where a ',' is expected")),
        };
    }
    match all.is_empty() {
        true => Err("'in' has no values, expected [a, b, c]".into()),
        false => Ok(all),
    }
}

fn like(subject: &Subject, pattern: &str) -> Result<Test, String> {
    if !matches!(subject, Subject::Topic) {
        return Ok(Test::Wildcard(pattern.chars().collect()));
    }
    TopicFilter::parse(pattern).map(Test::Topic)
}

impl Test {
    fn holds(&self, datum: &Datum<'_>) -> bool {
        match self {
            Test::Exists => true,
            Test::Equals(literal) => literal.equals(datum),
            Test::Compares(wanted, literal) => literal
                .order(datum)
                .is_some_and(|order| wanted.contains(&order)),
            Test::In(all) => all.iter().any(|literal| literal.equals(datum)),
            Test::Contains(literal) => literal.is_in(datum),
            Test::StartsWith(start) => datum.plain().starts_with(start.as_str()),
            Test::EndsWith(end) => datum.plain().ends_with(end.as_str()),
            Test::Topic(filter) => filter.matches(&datum.plain()),
            Test::Wildcard(pattern) => {
                let text: Vec<char> = datum.plain().chars().collect();
                fits(pattern, &text)
            }
            Test::Is(kind) => match datum {
                Datum::Json(value) => value.kind() == *kind,
                Datum::Bytes(bytes) => match kind {
                    Kind::Number => Number::of(bytes).is_some(),
                    kind => *kind == Kind::Text && std::str::from_utf8(bytes).is_ok(),
                },
                Datum::Number(_) => *kind == Kind::Number,
            },
        }
    }
}

impl Literal {
    fn equals(&self, datum: &Datum<'_>) -> bool {
        match datum {
            Datum::Json(value) => match value.kind() {
                Kind::Text => {
                    (self.is_quoted || !self.is_word())
                        && value.text().is_some_and(|text| text == self.text)
                }
                Kind::Number => self.order(datum) == Some(Ordering::Equal),
                Kind::Boolean | Kind::Null => !self.is_quoted && value.raw() == self.text,
                Kind::Array | Kind::Object => false,
            },
            Datum::Bytes(bytes) if self.number.is_none() => *bytes == self.text.as_bytes(),
            _ => self.order(datum) == Some(Ordering::Equal),
        }
    }

    /// Without quotes these are values of JSON, not texts; so is a number.
    fn is_word(&self) -> bool {
        self.number.is_some() || matches!(self.text.as_str(), "true" | "false" | "null")
    }

    /// How `datum` stands to this: a number to a number, a text to a text.
    fn order(&self, datum: &Datum<'_>) -> Option<Ordering> {
        let found = match datum {
            Datum::Json(value) => match value.kind() {
                Kind::Number => Number::parse(value.raw()),
                Kind::Text if self.number.is_none() => {
                    return Some(value.text()?.as_ref().cmp(&self.text));
                }
                _ => return None,
            },
            Datum::Bytes(bytes) => match self.number {
                None => return Some((*bytes).cmp(self.text.as_bytes())),
                Some(_) => Number::of(bytes),
            },
            Datum::Number(number) => Some(Number::Whole(i128::from(*number))),
        };
        found?.order(self.number?)
    }

    /// Part of a text, or an element of an array.
    fn is_in(&self, datum: &Datum<'_>) -> bool {
        let Datum::Json(value) = datum else {
            return datum.plain().contains(&self.text);
        };
        match value.kind() {
            Kind::Text => value.text().is_some_and(|text| text.contains(&self.text)),
            Kind::Array => value
                .elements()
                .any(|element| self.equals(&Datum::Json(element))),
            _ => false,
        }
    }
}

impl Number {
    /// A header, a key: blanks around it do not matter.
    fn of(bytes: &[u8]) -> Option<Number> {
        Number::parse(std::str::from_utf8(bytes).ok()?.trim())
    }

    fn parse(text: &str) -> Option<Number> {
        if !write::is_number(text) {
            return None;
        }
        match text.parse::<i64>() {
            Ok(whole) => Some(Number::Whole(whole.into())),
            Err(_) => match text.parse::<u64>() {
                Ok(whole) => Some(Number::Whole(whole.into())),
                Err(_) => text.parse().ok().map(Number::Float),
            },
        }
    }

    fn order(self, other: Number) -> Option<Ordering> {
        let float = |number| match number {
            Number::Whole(whole) => whole as f64,
            Number::Float(float) => float,
        };
        match (self, other) {
            (Number::Whole(one), Number::Whole(other)) => Some(one.cmp(&other)),
            (one, other) => float(one).partial_cmp(&float(other)),
        }
    }
}

/// `*` and `?`, in time that grows with the product of the lengths at worst.
fn fits(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    p = after;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_plugin::testing::{self, Input};

    const QUAKE: &str = r#"{"mag":4.5,"place":"12 km N of Alaska","net":"ak","tags":["a",2,null],
        "big":9007199254740993,"ok":true,"none":null,"list":[{"x":1},{"x":5}],"o":{}}"#;

    #[track_caller]
    fn holds(condition: &str) -> bool {
        let mut subjects = Subjects::default();
        let condition =
            Condition::parse(condition, &mut subjects).unwrap_or_else(|error| panic!("{error}"));
        let input = Input::new("quakes/ak/raw", QUAKE)
            .header("unit", "C")
            .header("level", "12.5")
            .key("k-1");
        let batch = testing::batch(&subjects.interest(), [input]);
        let message = batch.get(0).expect("a message");
        condition.holds(&subjects.look(&message).expect("JSON"))
    }

    #[test]
    fn what_holds() {
        for condition in [
            "$.mag > 4",
            "$.mag>=4.5",
            "$.mag == 4.50",
            "$.mag < 1e2",
            "$.place contains Alaska",
            "$.place starts-with \"12 km\"",
            "$.place ends-with 'Alaska'",
            "$.place like '* N of *'",
            "$.net == ak",
            "$.net in [us, ak]",
            "$.net in us, 'ak'",
            "$.tags contains 2",
            "$.tags contains null",
            "$.tags contains a",
            "$.big == 9007199254740993",
            "$.big > 9007199254740992",
            "$.ok == true",
            "$.none == null",
            "$.none exists",
            "$.list[*].x == 5",
            "$.list[*].x > 4",
            "$.zz absent",
            "$.zz != 3",
            "$.net != us",
            "not $.mag > 5",
            "not $.zz exists",
            "$.o is object",
            "$.tags is array",
            "$.net >= aj",
            "header unit == C",
            "header level > 12",
            "header level is number",
            "header 'unit' in [C, K]",
            "topic like quakes/+/raw",
            "topic like quakes/#",
            "topic[1] == ak",
            "topic == quakes/ak/raw",
            "key like k-?",
            "size > 10",
            "received == 1000000",
        ] {
            assert!(holds(condition), "{condition}");
        }
    }

    #[test]
    fn what_does_not_hold() {
        for condition in [
            "$.mag > 4.5",
            "$.zz == null",
            "$.zz > 0",
            "$.zz < 0",
            "$.zz exists",
            "$.net > 5",
            "$.mag == \"4.5\"",
            "$.ok == \"true\"",
            "$.big == 9007199254740992",
            "$.big == 9007199254740994",
            "$.tags contains \"2\"",
            "$.list[*].x != 5",
            "$.o == {}",
            "$.none is text",
            "$.net == AK",
            "header level > 13",
            "header unit > 1",
            "header zz exists",
            "header unit absent",
            "topic like quakes/+",
            "topic like +",
            "key == k",
            "not size > 10",
            "content-type exists",
        ] {
            assert!(!holds(condition), "{condition}");
        }
    }

    #[test]
    fn texts_in_quotes_are_texts() {
        let mut subjects = Subjects::default();
        let mut check = |condition: &str, payload: &str| {
            let condition = Condition::parse(condition, &mut subjects).expect("a condition");
            let batch = testing::batch(&subjects.interest(), [Input::new("a", payload)]);
            let message = batch.get(0).expect("a message");
            condition.holds(&subjects.look(&message).expect("JSON"))
        };
        assert!(check("$ == \"5\"", "\"5\"") && !check("$ == 5", "\"5\""));
        assert!(check("$ == 5", "5.0") && !check("$ == \"5\"", "5"));
        assert!(check("$ == true", "true") && !check("$ == true", "\"true\""));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("$.a", "says nothing, expected ==, !="),
            ("$.a =", "has '=', expected ==, !="),
            ("$.a >", "nothing after >"),
            ("$.a exists now", "goes on with 'now'"),
            ("$.a is nice", "expected one of null, boolean"),
            ("$.a == \"x", "is not one text in quotes"),
            ("$.a in []", "has no values"),
            ("$.a in [a", "has no ']'"),
            ("$.a in ['a' b]", "where a ',' is expected"),
            ("topic like a/#/b", "is not a filter of topics"),
            ("temp > 3", "begins with none of"),
            ("", "begins with none of"),
        ] {
            let error = Condition::parse(text, &mut Subjects::default()).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn wildcards_end() {
        let text: Vec<char> = "a".repeat(2_000).chars().collect();
        let pattern: Vec<char> = "*a*a*a*a*b".chars().collect();
        assert!(!fits(&pattern, &text));
        assert!(fits(&['*'], &[]) && fits(&[], &[]) && !fits(&['?'], &[]));
    }
}
