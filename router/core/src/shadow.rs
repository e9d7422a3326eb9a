//! What two versions of a plugin said of the same messages, compared.
//!
//! Invariants: each message that is compared counts once, in the row of its two verdicts; the
//! messages that are kept with both outcomes have a bound in number, and none of the pairs of
//! verdicts takes the place of another.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use waypost_wire::RecordRef;

use crate::pipeline::{Change, Verdict, changes};
use crate::route::Destination;

/// Messages that are kept for one pair of verdicts, the newest.
pub const EXAMPLES_OF_PAIR: usize = 4;
/// Pairs of verdicts that messages are kept for.
pub const EXAMPLE_PAIRS: usize = 8;
/// Changes, and topics of messages that were made, that are kept of one outcome.
const PARTS_MAX: usize = 16;
/// Bytes of a reason.
const TEXT_BYTES_MAX: usize = 512;

/// What one version did with one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// What it said.
    pub verdict: Verdict,
    /// What it published because of it.
    pub published: Vec<Bytes>,
}

impl Judged {
    /// Bytes of the bodies that it holds.
    pub fn bytes(&self) -> usize {
        let made = match &self.verdict {
            Verdict::Replace(body) => body.len(),
            Verdict::Emit(bodies) => bodies.iter().map(Bytes::len).sum(),
            _ => 0,
        };
        made + self.published.iter().map(Bytes::len).sum::<usize>()
    }

    /// A verdict without anything beside it.
    pub fn of(verdict: Verdict) -> Judged {
        Judged {
            verdict,
            published: Vec::new(),
        }
    }
}

/// In what two outcomes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The verdicts are of different kinds.
    Verdict,
    /// What it becomes, where it goes, or when it is tried again.
    Content,
    /// What is published beside.
    Published,
    /// Only the words of the reason.
    Reason,
}

impl Difference {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Difference::Verdict => "verdict",
            Difference::Content => "content",
            Difference::Published => "published",
            Difference::Reason => "reason",
        }
    }
}

/// An edit that changes nothing lets pass.
fn word(original: &Bytes, verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Replace(body) if body == original => "pass",
        verdict => verdict.word(),
    }
}

/// In what two outcomes of a message differ, if they do. Of failures, only the kind counts.
pub fn difference(original: &Bytes, serving: &Judged, shadow: &Judged) -> Option<Difference> {
    use Verdict::{DeadLetter, Drop, Emit, Failed, Reject, Replace, Retry, To};
    if word(original, &serving.verdict) != word(original, &shadow.verdict) {
        return Some(Difference::Verdict);
    }
    let found = match (&serving.verdict, &shadow.verdict) {
        (Replace(a), Replace(b)) => (a != b).then_some(Difference::Content),
        (Emit(a), Emit(b)) => (a != b).then_some(Difference::Content),
        (To(a), To(b)) => (a != b).then_some(Difference::Content),
        (Retry(a), Retry(b)) => (a != b).then_some(Difference::Content),
        (Failed(a), Failed(b)) => (a.kind != b.kind).then_some(Difference::Content),
        (Drop(a), Drop(b)) | (DeadLetter(a), DeadLetter(b)) | (Reject(a), Reject(b)) => {
            (a != b).then_some(Difference::Reason)
        }
        _ => None,
    };
    match found {
        Some(Difference::Reason) | None if serving.published != shadow.published => {
            Some(Difference::Published)
        }
        found => found,
    }
}

/// One outcome, for people, with a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The kind of verdict.
    pub verdict: &'static str,
    /// Why, or where to.
    pub detail: String,
    /// What an edit changed.
    pub changes: Vec<Change>,
    /// Topics of the messages that go on instead.
    pub messages: Vec<String>,
    /// Topics of the messages that were published.
    pub published: Vec<String>,
    /// The topic that an edit gave it.
    pub topic: Option<String>,
}

impl Told {
    /// All topics that it tells of.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        let made = self.messages.iter().chain(&self.published);
        made.chain(&self.topic).map(String::as_str)
    }

    fn of(original: &Bytes, judged: &Judged, to: &[Destination]) -> Told {
        let verdict = word(original, &judged.verdict);
        let mut detail = match verdict {
            "pass" => String::new(),
            _ => judged.verdict.detail(to),
        };
        detail.truncate(detail.floor_char_boundary(TEXT_BYTES_MAX));
        let changed = match &judged.verdict {
            Verdict::Replace(body) => changes(original, body),
            _ => Vec::new(),
        };
        Told {
            verdict,
            detail,
            changes: changed.into_iter().take(PARTS_MAX).collect(),
            messages: match &judged.verdict {
                Verdict::Emit(bodies) => topics(bodies),
                _ => Vec::new(),
            },
            published: topics(&judged.published),
            topic: match &judged.verdict {
                Verdict::Replace(body) => topics(std::slice::from_ref(body)).pop(),
                _ => None,
            },
        }
    }
}

fn topics(bodies: &[Bytes]) -> Vec<String> {
    let topic = |body: &Bytes| match RecordRef::parse(body) {
        Ok(record) => record.topic().to_owned(),
        Err(_) => String::new(),
    };
    bodies.iter().take(PARTS_MAX).map(topic).collect()
}

/// A message on which two versions differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// On which route.
    pub route: Arc<str>,
    /// The message, or the beginning of it, and then its length of payload.
    pub body: Bytes,
    /// See `body`.
    pub cut_from: Option<u64>,
    /// In what they differ.
    pub difference: Difference,
    /// What the serving version did.
    pub serving: Told,
    /// What the shadow did.
    pub shadow: Told,
    /// Where both edited it: what the one's is not as the other's.
    pub between: Vec<Change>,
}

/// Messages with the same two verdicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// How many.
    pub messages: u64,
    /// Of these, those that differ in something.
    pub different: u64,
}

/// Messages by the serving version's verdict and the shadow's.
pub type Rows = BTreeMap<(&'static str, &'static str), Row>;

/// What was compared so far.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    rows: Rows,
    examples: BTreeMap<(&'static str, &'static str), VecDeque<Example>>,
}

/// A message that both have judged.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// As it came to the plugin.
    pub original: &'a Bytes,
    /// What the serving version did.
    pub serving: &'a Judged,
    /// What the shadow did.
    pub shadow: &'a Judged,
}

/// What was found of one message.
#[derive(Clone, Debug)]
pub struct Compared {
    verdicts: (&'static str, &'static str),
    /// Where they differ.
    example: Option<Example>,
}

/// Compares what two versions said. Where they differ, `keep` gives what is kept of the message: its
/// time, its route, its body and what that was cut from.
pub fn compare(
    pair: Pair<'_>,
    to: &[Destination],
    keep: impl FnOnce() -> (u64, Arc<str>, Bytes, Option<u64>),
) -> Compared {
    let Pair {
        original,
        serving,
        shadow,
    } = pair;
    let verdicts = (
        word(original, &serving.verdict),
        word(original, &shadow.verdict),
    );
    let example = difference(original, serving, shadow).map(|difference| {
        let (time_ms, route, body, cut_from) = keep();
        let between = match (&serving.verdict, &shadow.verdict) {
            (Verdict::Replace(a), Verdict::Replace(b)) => changes(a, b),
            _ => Vec::new(),
        };
        Example {
            time_ms,
            route,
            body,
            cut_from,
            difference,
            serving: Told::of(original, serving, to),
            shadow: Told::of(original, shadow, to),
            between: between.into_iter().take(PARTS_MAX).collect(),
        }
    });
    Compared { verdicts, example }
}

impl Comparison {
    /// Takes in what was found of a message.
    pub fn take(&mut self, compared: Compared) {
        let Compared { verdicts, example } = compared;
        let row = self.rows.entry(verdicts).or_default();
        row.messages += 1;
        let Some(example) = example else {
            return;
        };
        row.different += 1;
        if !self.examples.contains_key(&verdicts) && self.examples.len() >= EXAMPLE_PAIRS {
            return;
        }
        let examples = self.examples.entry(verdicts).or_default();
        if examples.len() >= EXAMPLES_OF_PAIR {
            examples.pop_front();
        }
        examples.push_back(example);
    }

    /// Messages by their two verdicts.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Messages on which they differ: of each pair of verdicts the newest.
    pub fn examples(&self) -> impl Iterator<Item = &Example> {
        self.examples.values().flatten()
    }

    /// All messages, and those on which they differ.
    pub fn total(&self) -> Row {
        self.rows.values().fold(Row::default(), |sum, row| Row {
            messages: sum.messages + row.messages,
            different: sum.different + row.different,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Failure;
    use waypost_wire::Message;

    fn body(topic: &str) -> Bytes {
        Message::new(topic, "x").to_body()
    }

    fn failed(kind: &'static str, text: &str) -> Verdict {
        Verdict::Failed(Failure {
            kind,
            text: text.to_owned(),
            backtrace: None,
        })
    }

    #[test]
    fn outcomes_differ_in_what_they_say_first() {
        let original = body("a");
        let of = |a: Verdict, b: Verdict| difference(&original, &Judged::of(a), &Judged::of(b));
        use Difference::{Content, Published, Reason};
        let drop = |text: &str| Verdict::Drop(text.to_owned());
        assert_eq!(of(Verdict::Pass, Verdict::Pass), None);
        assert_eq!(of(Verdict::Pass, Verdict::Replace(original.clone())), None);
        assert_eq!(of(Verdict::Pass, drop("")), Some(Difference::Verdict));
        assert_eq!(of(drop("x"), drop("y")), Some(Reason));
        assert_eq!(
            of(Verdict::To(vec![0]), Verdict::To(vec![1])),
            Some(Content)
        );
        let (a, b) = (Verdict::Replace(body("b")), Verdict::Replace(body("c")));
        assert_eq!(of(a.clone(), a.clone()), None);
        assert_eq!(of(a, b), Some(Content));
        assert_eq!(of(failed("trap", "at 1"), failed("trap", "at 2")), None);
        assert_eq!(
            of(failed("trap", ""), failed("deadline", "")),
            Some(Content)
        );
        let publishes = Judged {
            verdict: drop("y"),
            published: vec![body("p")],
        };
        let silent = Judged::of(drop("x"));
        assert_eq!(difference(&original, &silent, &publishes), Some(Published));
    }

    #[test]
    fn rows_count_all_and_examples_are_bounded() {
        let mut comparison = Comparison::default();
        let original = body("a");
        let mut add = |number: u64, serving: Verdict, shadow: Verdict| {
            let (serving, shadow) = (Judged::of(serving), Judged::of(shadow));
            let pair = Pair {
                original: &original,
                serving: &serving,
                shadow: &shadow,
            };
            let to = [Destination::Drop];
            let keep = || (number, "r".into(), original.clone(), None);
            comparison.take(compare(pair, &to, keep));
        };
        for number in 0..100 {
            add(number, Verdict::Pass, Verdict::Pass);
            add(number, Verdict::Pass, Verdict::Drop(format!("{number}")));
        }
        add(7, Verdict::Replace(body("b")), Verdict::Replace(body("c")));
        let total = comparison.total();
        assert_eq!((total.messages, total.different), (201, 101));
        let row = comparison.rows()[&("pass", "drop")];
        assert_eq!((row.messages, row.different), (100, 100));
        let times: Vec<u64> = comparison.examples().map(|e| e.time_ms).collect();
        assert_eq!(times, [7, 96, 97, 98, 99]);
        let edited = comparison.examples().next().unwrap();
        assert_eq!(edited.serving.changes[0].after.as_deref(), Some("b"));
        assert_eq!(edited.between[0].field, "topic");
        let dropped = comparison.examples().last().unwrap();
        assert_eq!(
            (dropped.shadow.verdict, dropped.shadow.detail.as_str()),
            ("drop", "99")
        );
    }
}
