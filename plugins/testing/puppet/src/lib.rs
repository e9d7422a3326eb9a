//! Does to each message what its headers say, good and bad: for tests of the host.
//!
//! The header `do` holds one order for its message:
//!
//! | order | what happens |
//! |---|---|
//! | `pass`, `drop`, `reject`, `retry`, `dead-letter` | that verdict, with the header `why` as reason |
//! | `edit` | every part of an edit, see [`edit`] |
//! | `topic T` | the topic becomes `T` |
//! | `emit N B` | N messages of B bytes |
//! | `to I,J` | those destinations |
//! | `trap` | a panic |
//! | `loop` | an endless loop |
//! | `recurse` | until the stack is gone |
//! | `hog` | memory, until there is none |
//! | `log N` | N lines of 100 bytes |
//! | `read` | pulls the payload; dead-letters its length and sum as reason |
//! | `fields` | dead-letters all fields as reason |
//! | `count` | adds 2 to the counter `seen`, sets the gauge, observes a value |
//! | `clock` | passes if the clocks make sense |
//! | `invalid`, `unavailable`, `internal` | the call fails with that error |
//! | `short`, `long` | the whole answer has one verdict too few, or too many |
//!
//! Settings: `interest` = `all` (default) or `none`; `max-batch`; `field` asks for a field by
//! name; `init` = `refuse`, `trap`, `loop` or `hog`.

use std::hint::black_box;

use waypost_plugin::host::{self, Counter, Gauge, Histogram, Level};
use waypost_plugin::{
    Answer, Batch, Choice, Config, Decision, Decisions, Each, EachOutcome, Edit, Error, Filter,
    InitError, Interest, Message, Outcome, Outgoing, OwnMessage, Plugin, Route, Transform,
};

struct Puppet {
    counter: Counter,
    gauge: Gauge,
    histogram: Histogram,
}

/// One verdict, before it takes the form of a role.
enum Told {
    Pass,
    Drop(Option<String>),
    Reject(String),
    Retry,
    DeadLetter(String),
    Edit(Edit),
    Emit(Vec<Outgoing>),
    To(Vec<u32>),
}

impl Plugin for Puppet {
    fn init(config: &Config) -> Result<(Puppet, Interest), InitError> {
        match config.get("init") {
            Some("refuse") => return Err(InitError::of("init", "'refuse' is not for me")),
            Some("trap") => panic!("told to"),
            Some("loop") => spin(),
            Some("hog") => hog(),
            _ => {}
        }
        let mut interest = match config.get("interest") {
            Some("none") => Interest::nothing().header("do").header("why"),
            _ => ["key", "content-type", "message-id", "reply-to", "ttl"]
                .iter()
                .fold(Interest::nothing().all_headers().payload(), |i, field| {
                    i.field(field)
                }),
        };
        if let Some(field) = config.get("field") {
            interest = interest.field(field);
        }
        let puppet = Puppet {
            counter: Counter::new("seen"),
            gauge: Gauge::new("level"),
            histogram: Histogram::new("size"),
        };
        Ok((
            puppet,
            interest.max_batch(config.parsed("max-batch")?.unwrap_or(0)),
        ))
    }
}

impl Puppet {
    fn obey(&self, message: &Message<'_>) -> Result<Told, Error> {
        let order = message.header_str("do").unwrap_or("pass");
        let why = message.header_str("why").map(str::to_owned);
        match order {
            "read" => {
                let payload = message.whole_payload()?;
                let sum: u64 = payload.iter().map(|byte| u64::from(*byte)).sum();
                Ok(Told::DeadLetter(format!(
                    "{} bytes, sum {sum}",
                    payload.len()
                )))
            }
            "fields" => Ok(Told::DeadLetter(format!(
                "{} {:?} {:?} {:?} {:?} {:?} {} {} {} {}",
                message.topic(),
                message.key().map(text),
                message.content_type(),
                message.message_id().map(text),
                message.reply_to(),
                message.ttl_ms(),
                message.receive_time_ms(),
                message.redelivered(),
                message.from_peer(),
                text(message.payload()),
            ))),
            _ => self.order(order, why),
        }
    }

    fn order(&self, order: &str, why: Option<String>) -> Result<Told, Error> {
        let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
        let reason = || why.clone().unwrap_or_default();
        Ok(match verb {
            "drop" => Told::Drop(why),
            "reject" => Told::Reject(reason()),
            "retry" => Told::Retry,
            "dead-letter" => Told::DeadLetter(reason()),
            "edit" => Told::Edit(edit()),
            "topic" => Told::Edit(Edit::new().topic(rest)),
            "emit" => {
                let (count, bytes) = rest.split_once(' ').unwrap_or((rest, "1"));
                let payload = vec![b'x'; number(bytes)];
                Told::Emit(vec![Outgoing::new("made/here", payload); number(count)])
            }
            "to" => Told::To(rest.split(',').filter_map(|i| i.parse().ok()).collect()),
            "trap" => panic!("told to"),
            "loop" => spin(),
            "recurse" => Told::DeadLetter(recurse(1).to_string()),
            "hog" => hog(),
            "log" => {
                (0..number(rest)).for_each(|i| host::log(Level::Info, &format!("{i:0100}")));
                Told::Pass
            }
            "count" => {
                self.counter.add(2);
                self.gauge.set(0.5);
                self.histogram.observe(1.5);
                Told::Pass
            }
            "clock" => {
                let (start, wall) = (host::monotonic_ns(), host::now_ms());
                let sane = host::monotonic_ns() >= start && wall > 1_700_000_000_000;
                if sane {
                    Told::Pass
                } else {
                    Told::Reject("the clocks".into())
                }
            }
            "invalid" => return Err(Error::Invalid(reason())),
            "unavailable" => return Err(Error::Unavailable(reason())),
            "internal" => return Err(Error::Internal(reason())),
            _ => Told::Pass,
        })
    }
}

fn edit() -> Edit {
    Edit::new()
        .topic("edited/topic")
        .key("new-key")
        .content_type("text/new")
        .without_header("gone")
        .header("added", "yes")
        .payload("new payload")
        .ttl_ms(7)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or(1)
}

fn spin() -> ! {
    loop {
        black_box(());
    }
}

fn hog() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1u8; 1 << 20]));
    }
}

#[allow(unconditional_recursion, reason = "that is what is asked for")]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth) + 1)) + depth
}

/// Makes a whole answer too short or too long, if a message says so.
fn resize<T>(batch: &Batch, answer: &mut Vec<T>, one_more: T) {
    let told = |order| {
        batch
            .iter()
            .any(|message| message.header_str("do") == Some(order))
    };
    if told("short") {
        answer.pop();
    } else if told("long") {
        answer.push(one_more);
    }
}

impl Filter for Puppet {
    fn filter(&mut self, _: &Message<'_>) -> Answer {
        Decision::Pass.into()
    }

    fn filter_batch(&mut self, batch: &Batch) -> Result<Decisions, Error> {
        let (mut each, mut reasons) = (Vec::new(), Vec::new());
        for message in batch {
            let (decision, reason) = match self.obey(&message)? {
                Told::Drop(why) => (Decision::Drop, why),
                Told::Reject(why) => (Decision::Reject, Some(why)),
                Told::Retry => (Decision::Retry, None),
                Told::DeadLetter(why) => (Decision::DeadLetter, Some(why)),
                _ => (Decision::Pass, None),
            };
            each.push(decision);
            reasons.extend(reason.map(|why| (message.position(), why)));
        }
        resize(batch, &mut each, Decision::Pass);
        Ok(Decisions { each, reasons })
    }
}

impl Transform for Puppet {
    fn transform(&mut self, _: &Message<'_>) -> Outcome {
        Outcome::Pass
    }

    fn transform_batch(&mut self, batch: &Batch) -> Result<Vec<Outcome>, Error> {
        let mut answer = Vec::new();
        for message in batch {
            answer.push(match self.obey(&message)? {
                Told::Pass | Told::To(_) => Outcome::Pass,
                Told::Drop(why) => Outcome::Drop(why),
                Told::Reject(why) => Outcome::Reject(why),
                Told::Retry => Outcome::Retry(5),
                Told::DeadLetter(why) => Outcome::DeadLetter(why),
                Told::Edit(edit) => Outcome::Edit(edit),
                Told::Emit(messages) => Outcome::Emit(messages),
            });
        }
        resize(batch, &mut answer, Outcome::Pass);
        Ok(answer)
    }
}

impl Route for Puppet {
    fn route(&mut self, _: &Message<'_>) -> Choice {
        Choice::Pass
    }

    fn route_batch(&mut self, batch: &Batch) -> Result<Vec<Choice>, Error> {
        let mut answer = Vec::new();
        for message in batch {
            answer.push(match self.obey(&message)? {
                Told::Pass | Told::Edit(_) | Told::Emit(_) => Choice::Pass,
                Told::Drop(why) => Choice::Drop(why),
                Told::Reject(why) => Choice::Reject(why),
                Told::Retry => Choice::Retry(5),
                Told::DeadLetter(why) => Choice::DeadLetter(why),
                Told::To(to) => match to[..] {
                    [one] => Choice::One(one),
                    _ => Choice::To(to),
                },
            });
        }
        resize(batch, &mut answer, Choice::Pass);
        Ok(answer)
    }
}

impl Each for Puppet {
    fn on_message(&mut self, message: OwnMessage) -> Result<EachOutcome, Error> {
        let header = |name: &str| {
            message
                .headers
                .iter()
                .find(|(found, _)| found == name)
                .map(|(_, value)| text(value))
        };
        let order = header("do").unwrap_or_default();
        if order == "fields" {
            return Ok(EachOutcome::DeadLetter(format!(
                "{} {:?} {:?} {:?} {:?} {:?} {} {} {}",
                message.topic,
                message.key.as_deref().map(text),
                message.content_type,
                message.message_id.as_deref().map(text),
                message.reply_to,
                message.ttl_ms,
                message.receive_time_ms,
                message.marks,
                text(&message.payload),
            )));
        }
        Ok(match self.order(&order, header("why"))? {
            Told::Pass => EachOutcome::Pass,
            Told::Drop(why) => EachOutcome::Drop(why),
            Told::Reject(why) => EachOutcome::Reject(why),
            Told::Retry => EachOutcome::Retry(5),
            Told::DeadLetter(why) => EachOutcome::DeadLetter(why),
            Told::Edit(edit) => EachOutcome::Edit(edit),
            Told::Emit(messages) => EachOutcome::Emit(messages),
            Told::To(to) => EachOutcome::To(to),
        })
    }
}

waypost_plugin::export!(Puppet: filter, transform, route, each);
