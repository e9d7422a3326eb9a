//! Something that holds of a message or does not: `$.temp > 30`, `header unit == C`,
//! `topic like plant/+/temp`, `not key exists`.
//!
//! A condition is a [subject](crate::subject), a word, and mostly a value. It holds if it holds of
//! any value of the subject; so none holds of what is not there, but `!=` and `absent`, which are
//! what `==` and `exists` are not.

use std::cmp::Ordering;

use crate::json::{Kind, Number, path, write};
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
    number: Option<Number<'static>>,
    /// In quotes, so a text and nothing else.
    is_quoted: bool,
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
        test.may_hold_of(&subject)
            .map_err(|problem| format!("'{words}' {problem}"))?;
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
    let is_number = !is_quoted && write::is_number(&plain);
    let number = match is_number {
        false => None,
        true => match Number::parse(&plain) {
            Some(number) => Some(number.into_owned()),
            None => return Err(format!("{plain} has an exponent that is too large")),
        },
    };
    Ok(Literal {
        number,
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
    /// Refuses what holds of no message: a condition that is always false, or with `not` always
    /// true, is a slip of the pen.
    fn may_hold_of(&self, subject: &Subject) -> Result<(), String> {
        let is_number = match subject {
            Subject::Json(_) => return Ok(()),
            Subject::Size | Subject::Received => true,
            _ => false,
        };
        let literals = match self {
            Test::Equals(literal) | Test::Compares(_, literal) => std::slice::from_ref(literal),
            Test::In(all) => &all[..],
            Test::Is(Kind::Number) => return Ok(()),
            Test::Is(Kind::Text) if !is_number => return Ok(()),
            Test::Is(_) if is_number => return Err("never holds: it is a number".into()),
            Test::Is(_) => return Err("never holds: it is a text, or a number".into()),
            _ => return Ok(()),
        };
        match literals.iter().find(|literal| literal.number.is_none()) {
            Some(literal) if is_number => Err(format!(
                "compares a number with the text '{}', expected a number",
                literal.text
            )),
            _ => Ok(()),
        }
    }

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
                    Kind::Number => number_of(bytes).is_some(),
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
            Datum::Bytes(bytes) => match &self.number {
                None => return Some((*bytes).cmp(self.text.as_bytes())),
                Some(_) => number_of(bytes),
            },
            Datum::Number(number) => Some(Number::from(*number)),
        };
        Some(found?.cmp(self.number.as_ref()?))
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

/// The number that a header or a key is: blanks around it do not matter.
fn number_of(bytes: &[u8]) -> Option<Number<'_>> {
    Number::parse(std::str::from_utf8(bytes).ok()?.trim())
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
mod tests;
