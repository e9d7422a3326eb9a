//! What can be looked at in a message, by the words of a configuration, and only that.

use std::borrow::Cow;
use std::ops::Range;

use waypost_plugin::{Interest, Message};

use crate::json::{Found, NotJson, Path, Paths, Value, write};

/// One thing of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `topic`
    Topic,
    /// `topic[2]`, `topic[1..]`, `topic[1..3]`: levels of the topic, from 0.
    Levels(usize, Option<usize>),
    /// `header NAME`
    Header(String),
    /// `key`
    Key,
    /// `content-type`
    ContentType,
    /// `message-id`
    MessageId,
    /// `payload`: all of it, whatever it is.
    Payload,
    /// `size`: bytes of the payload.
    Size,
    /// `received`: when the router received it, in ms since 1970.
    Received,
    /// `$…`: by its number.
    Json(usize),
}

/// All that a plugin looks at, and so what it asks the router for.
#[derive(Debug, Default)]
pub struct Subjects {
    headers: Vec<String>,
    key: bool,
    content_type: bool,
    message_id: bool,
    payload: bool,
    paths: Paths,
    found: Vec<Found>,
}

/// What is said where something else stands.
pub const EXPECTED: &str = "$.path, topic, topic[N], header NAME, key, content-type, message-id, payload, size \
                            or received";

impl Subjects {
    /// Reads a subject that is all of `text`.
    pub fn parse(&mut self, text: &str) -> Result<Subject, String> {
        match self.split(text)? {
            (subject, "") => Ok(subject),
            (_, rest) => Err(format!("'{text}' goes on with '{}'", rest.trim())),
        }
    }

    /// Reads one that `text` begins with, and gives what comes after it.
    pub fn split<'t>(&mut self, text: &'t str) -> Result<(Subject, &'t str), String> {
        if text.starts_with('$') {
            let (path, rest) = Path::split(text)?;
            return Ok((Subject::Json(self.paths.add(path)), rest));
        }
        let end = text.find(|c: char| !(c.is_ascii_lowercase() || c == '-'));
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        let subject = match word {
            "topic" => match rest.strip_prefix('[') {
                Some(inner) => return levels(inner, text),
                None => Subject::Topic,
            },
            "header" => return self.header(rest),
            "key" => {
                self.key = true;
                Subject::Key
            }
            "content-type" => {
                self.content_type = true;
                Subject::ContentType
            }
            "message-id" => {
                self.message_id = true;
                Subject::MessageId
            }
            "payload" => {
                self.payload = true;
                Subject::Payload
            }
            "size" => Subject::Size,
            "received" => Subject::Received,
            _ => return Err(format!("'{text}' begins with none of {EXPECTED}")),
        };
        Ok((subject, rest))
    }

    fn header<'t>(&mut self, rest: &'t str) -> Result<(Subject, &'t str), String> {
        let rest = rest.trim_start();
        let (name, rest) = match rest.chars().next() {
            Some(quote @ ('\'' | '"')) => crate::json::path::quoted(&rest[1..], quote)
                .ok_or_else(|| format!("the name of a header, {rest}, has no end"))?,
            _ => {
                let is_end = |c: char| c.is_whitespace() || "|}=!<>".contains(c);
                let end = rest.find(is_end).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if name.is_empty() {
            return Err("'header' without a name, expected header NAME".into());
        }
        if !self.headers.contains(&name) {
            self.headers.push(name.clone());
        }
        Ok((Subject::Header(name), rest))
    }

    /// Also a path that is no subject of its own.
    pub fn path(&mut self, path: Path) -> usize {
        self.paths.add(path)
    }

    /// What the router must copy in.
    pub fn interest(&self) -> Interest {
        let mut interest = Interest::nothing();
        for header in &self.headers {
            interest = interest.header(header);
        }
        for (is_wanted, field) in [
            (self.key, "key"),
            (self.content_type, "content-type"),
            (self.message_id, "message-id"),
        ] {
            if is_wanted {
                interest = interest.field(field);
            }
        }
        match self.payload || !self.paths.is_empty() {
            true => interest.payload(),
            false => interest,
        }
    }

    /// Whether payloads have to be JSON.
    pub fn need_json(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Looks at a message. The error says that its payload is not JSON, where one is needed.
    pub fn look<'s, 'm>(&'s mut self, message: &Message<'m>) -> Result<Seen<'s, 'm>, NotJson> {
        self.find(message)?;
        Ok(self.seen(message))
    }

    /// The same for a payload that is not JSON: no path leads anywhere.
    pub fn look_beside<'s, 'm>(&'s mut self, message: &Message<'m>) -> Seen<'s, 'm> {
        self.found.clear();
        self.seen(message)
    }

    /// Follows the paths. What they lead to is kept for [`Subjects::seen`].
    pub(crate) fn find(&mut self, message: &Message<'_>) -> Result<(), NotJson> {
        match self.paths.is_empty() {
            true => Ok(()),
            false => self.paths.find(message.payload(), &mut self.found),
        }
    }

    pub(crate) fn seen<'s, 'm>(&'s self, message: &Message<'m>) -> Seen<'s, 'm> {
        Seen {
            message: *message,
            found: &self.found,
        }
    }
}

/// After `topic[`.
fn levels<'t>(inner: &'t str, text: &str) -> Result<(Subject, &'t str), String> {
    let wrong = || format!("'{text}', expected topic[N], topic[N..] or topic[N..M], from 0");
    let (inside, rest) = inner.split_once(']').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<usize>().map_err(|_| wrong());
    let (from, to) = match inside.split_once("..") {
        Some((from, "")) => (number(from)?, None),
        Some((from, to)) => (number(from)?, Some(number(to)?)),
        None => {
            let level = number(inside)?;
            (level, Some(level.saturating_add(1)))
        }
    };
    if to.is_some_and(|to| to <= from) {
        return Err(wrong());
    }
    Ok((Subject::Levels(from, to), rest))
}

/// A message that was looked at.
#[derive(Clone, Copy)]
pub struct Seen<'s, 'm> {
    /// The message.
    pub message: Message<'m>,
    /// What paths led to.
    pub found: &'s [Found],
}

/// One value of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datum<'m> {
    /// Of its payload.
    Json(Value<'m>),
    /// A header, the key, the topic, the payload.
    Bytes(&'m [u8]),
    /// A number of its own: its size, a time.
    Number(u64),
}

impl Datum<'_> {
    /// As JSON; what is not UTF-8 becomes U+FFFD.
    pub fn json(&self) -> String {
        match self {
            Datum::Json(value) => value.raw().to_owned(),
            Datum::Bytes(_) => write::quoted(&self.plain()),
            Datum::Number(number) => number.to_string(),
        }
    }

    /// As text, for a template; what is not UTF-8 becomes U+FFFD.
    pub fn plain(&self) -> Cow<'_, str> {
        match self {
            Datum::Json(value) => value.plain(),
            Datum::Bytes(bytes) => String::from_utf8_lossy(bytes),
            Datum::Number(number) => Cow::Owned(number.to_string()),
        }
    }
}

/// Characters of a value that a reason shows.
const SHOWN_MAX: usize = 60;

/// A value as a reason shows it.
pub fn shortened(plain: &str) -> Cow<'_, str> {
    match plain.char_indices().nth(SHOWN_MAX) {
        None => Cow::Borrowed(plain),
        Some((end, _)) => Cow::Owned(format!("{}…", &plain[..end])),
    }
}

impl<'m> Seen<'_, 'm> {
    /// Calls `is_it` with the values of a subject, until it says yes; whether it did.
    pub fn any(&self, subject: &Subject, mut is_it: impl FnMut(Datum<'m>) -> bool) -> bool {
        let message = &self.message;
        let mut is_bytes = |bytes: &'m [u8]| is_it(Datum::Bytes(bytes));
        match subject {
            Subject::Json(path) => {
                let mut found = self.found.iter().filter(|found| found.path == *path);
                found.any(|found| is_it(Datum::Json(self.value(found.value.clone()))))
            }
            Subject::Topic => is_bytes(message.topic().as_bytes()),
            Subject::Levels(from, to) => {
                cut(message.topic(), *from, *to).is_some_and(|part| is_bytes(part.as_bytes()))
            }
            Subject::Header(name) => message
                .headers()
                .any(|(found, value)| found == name && is_bytes(value)),
            Subject::Key => message.key().is_some_and(is_bytes),
            Subject::ContentType => message
                .content_type()
                .is_some_and(|text| is_bytes(text.as_bytes())),
            Subject::MessageId => message.message_id().is_some_and(is_bytes),
            Subject::Payload => is_bytes(message.payload()),
            Subject::Size => is_it(Datum::Number(message.payload_len() as u64)),
            Subject::Received => is_it(Datum::Number(message.receive_time_ms())),
        }
    }

    /// The first value of a subject.
    pub fn first(&self, subject: &Subject) -> Option<Datum<'m>> {
        let mut first = None;
        self.any(subject, |datum| {
            first = Some(datum);
            true
        });
        first
    }

    /// A value of the payload.
    pub fn value(&self, place: Range<usize>) -> Value<'m> {
        Value(self.message.payload().get(place).unwrap_or_default())
    }
}

/// Levels of a topic; `None` where it has not so many.
fn cut(topic: &str, from: usize, to: Option<usize>) -> Option<&str> {
    let nth = |levels: usize| match levels {
        0 => Some(0),
        _ => topic
            .match_indices('/')
            .nth(levels - 1)
            .map(|(at, _)| at + 1),
    };
    let start = nth(from)?;
    let end = match to {
        None => topic.len(),
        Some(to) => match nth(to) {
            Some(after) => after - 1,
            // The last level that is wanted is the topic's last.
            None if topic.split('/').count() == to => topic.len(),
            None => return None,
        },
    };
    topic.get(start..end)
}

#[cfg(test)]
mod tests;
