//! What plugins say of messages, as the rest of the router sees it: one type for all roles.

use bytes::Bytes;
use waypost_wire::record::Message;

/// What a plugin says of one message.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It goes on as it is; from a route plugin, to all destinations of the route.
    Pass,
    /// It ends here, with the reason if the plugin gave one.
    Drop(Option<Box<str>>),
    /// It goes on, changed.
    Edit(Box<Edit>),
    /// These go on instead of it, in this order. May be empty.
    Emit(Vec<Outgoing>),
    /// It goes to these destinations.
    To(Destinations),
    /// It is refused, and the publisher hears so.
    Reject(Option<Box<str>>),
    /// It is tried again, after so many ms or when the router thinks best.
    Retry {
        /// What the plugin asked for.
        delay_ms: Option<u32>,
    },
    /// It goes to the dead-letter queue.
    DeadLetter(Option<Box<str>>),
    /// The plugin says that it failed on this message, and how: treat it as the plugin's `on_error`
    /// says. What it published for this message is gone; others of the call are not touched.
    Failed(Box<str>),
    /// The plugin's answer for this message breaks a rule: treat it as the plugin's `on_error` says.
    Violation(Box<Violation>),
}

/// Indexes into the plugin's destinations; each is in range and there at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destinations {
    /// One.
    One(u32),
    /// Several, in the plugin's order.
    Several(Vec<u32>),
}

impl Destinations {
    /// The indexes.
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Destinations::One(index) => std::slice::from_ref(index),
            Destinations::Several(indexes) => indexes,
        }
    }
}

/// An answer that breaks a rule of the contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("answer for message {position}: {rule}")]
pub struct Violation {
    /// The message's place in the call, from 0.
    pub position: usize,
    /// Which rule, and how.
    pub rule: Rule,
}

/// A rule that an answer can break.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// A topic or reply-to that the grammar does not allow.
    #[error("{field} '{value}' {error}")]
    Topic {
        /// `topic` or `reply-to`.
        field: &'static str,
        /// What the plugin said, at most 128 characters of it.
        value: Box<str>,
        /// What is wrong with it.
        error: waypost_wire::TopicError,
    },
    /// Topics that begin with `$` are the router's own.
    #[error("topic '{0}' begins with '$', which is the router's own")]
    ReservedTopic(Box<str>),
    /// No destination has this index.
    #[error("destination {index}, but there are {count}")]
    Destination {
        /// What the plugin said.
        index: u32,
        /// How many there are.
        count: usize,
    },
    /// The same destination twice.
    #[error("destination {0} is there twice")]
    DestinationTwice(u32),
    /// A list of destinations without any.
    #[error("no destination; 'drop' says so")]
    NoDestination,
    /// Over [`Limits::payload_bytes`](crate::Limits::payload_bytes).
    #[error("payload of {bytes} bytes, limit {limit}")]
    PayloadTooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More headers than a message may have.
    #[error("{count} headers, limit {limit}")]
    TooManyHeaders {
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A header without a name.
    #[error("a header without a name")]
    HeaderName,
}

/// Changes to a message; what is `None` or empty stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edit {
    /// A valid topic that is not the router's own.
    pub topic: Option<Box<str>>,
    /// An empty one removes the key.
    pub key: Option<Bytes>,
    /// An empty one removes the content type.
    pub content_type: Option<Box<str>>,
    /// Names of headers to remove, before the others are set.
    pub remove_headers: Box<[Box<str>]>,
    /// Headers to set; each replaces all of its name.
    pub set_headers: Vec<(String, Bytes)>,
    /// The new payload.
    pub payload: Option<Bytes>,
    /// The new time-to-live in ms; 0 removes it.
    pub ttl_ms: Option<u64>,
}

impl Edit {
    /// Applies the changes. Unknown fields of the record stay.
    pub fn apply(self, message: &mut Message) {
        if let Some(topic) = self.topic {
            message.topic = topic.into();
        }
        if let Some(key) = self.key {
            message.key = Some(key).filter(|key| !key.is_empty());
        }
        if let Some(content_type) = self.content_type {
            message.content_type = Some(String::from(content_type)).filter(|c| !c.is_empty());
        }
        let removed = |name: &str| self.remove_headers.iter().any(|remove| **remove == *name);
        let set = |name: &str| self.set_headers.iter().any(|(set, _)| set == name);
        message
            .headers
            .retain(|(name, _)| !removed(name) && !set(name));
        message.headers.extend(self.set_headers);
        if let Some(payload) = self.payload {
            message.payload = payload;
        }
        if let Some(ttl_ms) = self.ttl_ms {
            message.time_to_live_ms = Some(ttl_ms).filter(|ttl_ms| *ttl_ms > 0);
        }
    }
}

/// A message that a plugin made.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// A valid topic that is not the router's own.
    pub topic: Box<str>,
    /// The key.
    pub key: Option<Bytes>,
    /// The content type.
    pub content_type: Option<Box<str>>,
    /// A valid topic.
    pub reply_to: Option<Box<str>>,
    /// Names and values.
    pub headers: Vec<(String, Bytes)>,
    /// The payload.
    pub payload: Bytes,
    /// The time-to-live in ms, of which 0 is none.
    pub ttl_ms: Option<u64>,
}

impl Outgoing {
    /// As a message. It has no producer and no message id: the node gives it what it inherits.
    pub fn into_message(self) -> Message {
        let mut message = Message::new(self.topic, self.payload);
        message.key = self.key.filter(|key| !key.is_empty());
        message.content_type = self
            .content_type
            .map(String::from)
            .filter(|c| !c.is_empty());
        message.reply_to = self.reply_to.map(String::from);
        message.headers = self.headers;
        message.time_to_live_ms = self.ttl_ms.filter(|ttl_ms| *ttl_ms > 0);
        message
    }
}

/// What a plugin says of the messages of one call: one verdict for each, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdicts(Repr);

#[derive(Clone, Debug, PartialEq)]
enum Repr {
    AllPass(usize),
    Each(Vec<Verdict>),
}

impl Verdicts {
    pub(crate) fn all_passed(count: usize) -> Verdicts {
        Verdicts(Repr::AllPass(count))
    }

    pub(crate) fn each(verdicts: Vec<Verdict>) -> Verdicts {
        Verdicts(Repr::Each(verdicts))
    }

    pub(crate) fn append(&mut self, more: Verdicts) {
        let count = self.len();
        match (&mut self.0, more.0) {
            (Repr::AllPass(count), Repr::AllPass(more)) => *count += more,
            (Repr::Each(verdicts), more) => verdicts.extend(Verdicts(more)),
            (Repr::AllPass(_), Repr::Each(more)) => {
                let passed = std::iter::repeat_n(Verdict::Pass, count);
                *self = Verdicts::each(passed.chain(more).collect());
            }
        }
    }

    /// Whether all messages go on as they are. Known without looking at each.
    #[inline]
    pub fn all_pass(&self) -> bool {
        matches!(self.0, Repr::AllPass(_))
    }

    /// How many messages the call had.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::AllPass(count) => *count,
            Repr::Each(verdicts) => verdicts.len(),
        }
    }

    /// Whether it had none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The verdict of the message at `position`.
    pub fn get(&self, position: usize) -> Option<&Verdict> {
        const PASS: &Verdict = &Verdict::Pass;
        match &self.0 {
            Repr::AllPass(count) => (position < *count).then_some(PASS),
            Repr::Each(verdicts) => verdicts.get(position),
        }
    }

    /// All verdicts, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Verdict> {
        (0..self.len()).filter_map(|position| self.get(position))
    }
}

/// Verdicts by value.
#[derive(Debug)]
pub struct IntoIter {
    passed: usize,
    each: std::vec::IntoIter<Verdict>,
}

impl Iterator for IntoIter {
    type Item = Verdict;

    #[inline]
    fn next(&mut self) -> Option<Verdict> {
        match self.passed.checked_sub(1) {
            Some(left) => {
                self.passed = left;
                Some(Verdict::Pass)
            }
            None => self.each.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.passed + self.each.len();
        (left, Some(left))
    }
}

impl ExactSizeIterator for IntoIter {}

impl IntoIterator for Verdicts {
    type Item = Verdict;
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        match self.0 {
            Repr::AllPass(passed) => IntoIter {
                passed,
                each: Vec::new().into_iter(),
            },
            Repr::Each(verdicts) => IntoIter {
                passed: 0,
                each: verdicts.into_iter(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_removes_then_sets_and_keeps_the_rest() {
        let mut message = Message::new("a", "old")
            .with_header("x", "1")
            .with_header("y", "2");
        message = message
            .with_header("x", "3")
            .with_key("k")
            .with_content_type("t");
        let edit = Edit {
            topic: Some("b".into()),
            key: Some(Bytes::new()),
            remove_headers: ["y".into()].into(),
            set_headers: vec![("x".into(), "4".into()), ("z".into(), "5".into())],
            ttl_ms: Some(7),
            ..Edit::default()
        };
        edit.apply(&mut message);
        assert_eq!(
            (message.topic.as_str(), message.key, message.time_to_live_ms),
            ("b", None, Some(7))
        );
        assert_eq!(message.content_type.as_deref(), Some("t"));
        assert_eq!(message.payload, "old");
        let headers: Vec<_> = message
            .headers
            .iter()
            .map(|(n, v)| (n.as_str(), &v[..]))
            .collect();
        assert_eq!(headers, [("x", &b"4"[..]), ("z", b"5")]);
    }

    #[test]
    fn chunks_append_in_order() {
        let mut verdicts = Verdicts::all_passed(1);
        verdicts.append(Verdicts::all_passed(1));
        assert!(verdicts.all_pass());
        verdicts.append(Verdicts::each(vec![Verdict::Drop(None)]));
        verdicts.append(Verdicts::all_passed(1));
        let wanted = [
            Verdict::Pass,
            Verdict::Pass,
            Verdict::Drop(None),
            Verdict::Pass,
        ];
        assert!(verdicts.iter().eq(&wanted));
        assert_eq!(verdicts.into_iter().collect::<Vec<_>>(), wanted);
    }
}
