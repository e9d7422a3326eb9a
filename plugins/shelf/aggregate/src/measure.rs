//! What is measured of messages: `mean $.temp`, `max $.temp`, `count`, `last $.state`.

use shelf_kit::json::write;
use shelf_kit::subject::{Datum, Seen, Subject, Subjects};

/// One value of a result.
#[derive(Debug)]
pub struct Measure {
    /// Its name in the result.
    pub name: String,
    kind: Kind,
    /// None for `count` alone.
    subject: Option<Subject>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Count,
    Sum,
    Mean,
    Min,
    Max,
    First,
    Last,
}

const WORDS: [(&str, Kind); 7] = [
    ("count", Kind::Count),
    ("sum", Kind::Sum),
    ("mean", Kind::Mean),
    ("min", Kind::Min),
    ("max", Kind::Max),
    ("first", Kind::First),
    ("last", Kind::Last),
];

/// What came of a measure so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sum {
    /// Values that were taken.
    pub count: u64,
    /// A sum, a smallest or a greatest number.
    pub number: f64,
    /// What a sum of numbers has lost, each time a small one was added to a large one.
    pub lost: f64,
    /// The first or last value, as JSON.
    pub json: String,
}

/// Bytes of a first or last value: the state takes 256 KiB for a window.
const JSON_BYTES_MAX: usize = 4_096;

impl Measure {
    /// Reads one; what it looks at is added to `subjects`.
    pub fn parse(name: &str, text: &str, subjects: &mut Subjects) -> Result<Measure, String> {
        let (word, rest) = match text.trim().split_once(char::is_whitespace) {
            Some((word, rest)) => (word, rest.trim()),
            None => (text.trim(), ""),
        };
        let known = WORDS.into_iter().find(|(known, _)| *known == word);
        let Some((_, kind)) = known else {
            let words = WORDS.map(|(word, _)| word).join(", ");
            return Err(format!(
                "'{text}', expected one of {words}, and what of, such as mean $.temp"
            ));
        };
        let subject = match (rest, kind) {
            ("", Kind::Count) => None,
            ("", _) => {
                return Err(format!(
                    "'{text}' does not say what of, such as {word} $.temp"
                ));
            }
            (rest, _) => Some(subjects.parse(rest)?),
        };
        Ok(Measure {
            name: name.to_owned(),
            kind,
            subject,
        })
    }

    /// Takes the values of a message: all that there are, of numbers only those that are some.
    pub fn take(&self, sum: &mut Sum, seen: &Seen<'_, '_>) {
        let Some(subject) = &self.subject else {
            sum.count += 1;
            return;
        };
        seen.any(subject, |datum| {
            self.take_one(sum, &datum);
            false
        });
    }

    fn take_one(&self, sum: &mut Sum, datum: &Datum<'_>) {
        match self.kind {
            Kind::Count => sum.count += 1,
            Kind::First if sum.count > 0 => sum.count += 1,
            Kind::First | Kind::Last => {
                let json = datum.json();
                if json.len() <= JSON_BYTES_MAX {
                    sum.count += 1;
                    sum.json = json;
                }
            }
            Kind::Sum | Kind::Mean | Kind::Min | Kind::Max => {
                if let Some(number) = number_of(datum) {
                    sum.count += 1;
                    self.add(sum, number);
                }
            }
        }
    }

    fn add(&self, sum: &mut Sum, number: f64) {
        let is_first = sum.count == 1;
        match self.kind {
            Kind::Min if !is_first => sum.number = sum.number.min(number),
            Kind::Max if !is_first => sum.number = sum.number.max(number),
            Kind::Min | Kind::Max => sum.number = number,
            _ => {
                // Neumaier's: exact to the last digit also over a million messages.
                let next = sum.number + number;
                sum.lost += match sum.number.abs() >= number.abs() {
                    true => (sum.number - next) + number,
                    false => (number - next) + sum.number,
                };
                sum.number = next;
            }
        }
    }

    /// What it comes to, as JSON; `null` where there was nothing.
    pub fn result(&self, sum: &Sum) -> String {
        let total = sum.number + sum.lost;
        match self.kind {
            Kind::Count => sum.count.to_string(),
            Kind::Sum => write::number(total),
            _ if sum.count == 0 => "null".to_owned(),
            Kind::Mean => write::number(total / sum.count as f64),
            Kind::Min | Kind::Max => write::number(sum.number),
            Kind::First | Kind::Last => sum.json.clone(),
        }
    }
}

/// A number of the payload, or one that a header has as text.
fn number_of(datum: &Datum<'_>) -> Option<f64> {
    let number = match datum {
        Datum::Json(value) => value.number(),
        other => {
            let plain = other.plain();
            let text = plain.trim();
            write::is_number(text).then(|| text.parse().ok()).flatten()
        }
    };
    number.filter(|number| number.is_finite())
}
