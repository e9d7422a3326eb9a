//! Uses what must be granted, as each message's headers say: for tests of state, publish, timer and
//! schema.
//!
//! The header `do` holds orders for its message, separated by `;`:
//!
//! | order | what happens |
//! |---|---|
//! | `get K`, `set K V TTL`, `remove K`, `add K N TTL`, `swap K OLD NEW`, `scan PREFIX AFTER LIMIT` | that call of `state`; `-` is none, `@N` is a text of N bytes, TTL may be left out |
//! | `fill PREFIX N B` | sets N keys of B bytes each, until one is refused |
//! | `publish TOPIC N B` | publishes N messages of B bytes to it, until one is refused |
//! | `because POSITION TOPIC` | publishes one message for that cause |
//! | `timer MS` | sets the timer; 0 stops it |
//! | `random N` | asks for N bytes and for a number |
//! | `calls N` | looks at the clock N times |
//! | `trap`, `loop`, `invalid`, `unavailable` | the call ends so |
//! | `reject`, `retry`, `drop` | that verdict |
//! | `emit N B` | emits N messages of B bytes |
//! | `wake ORDER` | what `on-timer` does when it is called next |
//!
//! The verdict is pass, and the header `answers` is set to what the orders gave, separated by `;`
//! (a filter dead-letters with it as the reason). Settings: `init` holds orders for `init`, whose
//! answers are logged; `wake` those for `on-timer`;
//! `max-batch`.

use std::hint::black_box;

use waypost_plugin::host::{self, Level, publish, random, state, timer};
use waypost_plugin::{
    Answer, Config, Decision, Each, EachOutcome, Edit, Error, Filter, InitError, Interest, Message,
    Outcome, Outgoing, OwnMessage, Plugin, Transform,
};

struct Puppet {
    wake: String,
}

/// What the orders of one message came to.
enum Told {
    Answers(String),
    Drop,
    Reject,
    Retry,
    Emit(Vec<Outgoing>),
}

impl Plugin for Puppet {
    fn init(config: &Config) -> Result<(Puppet, Interest), InitError> {
        let wake = config.get("wake").unwrap_or_default().to_owned();
        let mut puppet = Puppet { wake };
        if let Some(orders) = config.get("init") {
            match puppet.obey(0, orders) {
                Ok(Told::Answers(answers)) => host::log(Level::Info, &answers),
                Ok(_) => return Err(InitError::of("init", "no verdict is possible")),
                Err(error) => return Err(InitError::of("init", format!("{error:?}"))),
            }
        }
        let interest = Interest::nothing().header("do");
        Ok((
            puppet,
            interest.max_batch(config.parsed("max-batch")?.unwrap_or(0)),
        ))
    }

    fn on_timer(&mut self) -> Result<(), Error> {
        let orders = self.wake.clone();
        if let Told::Answers(answers) = self.obey(0, &orders)? {
            host::log(Level::Info, &answers);
        }
        Ok(())
    }

    fn settings_schema() -> String {
        r#"{
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "init": {"type": "string", "description": "orders for init"},
                "wake": {"type": "string", "description": "orders for on-timer"},
                "max-batch": {"type": "integer", "minimum": 0, "maximum": 256}
            },
            "additionalProperties": false
        }"#
        .into()
    }
}

impl Puppet {
    fn obey(&mut self, position: u32, orders: &str) -> Result<Told, Error> {
        let mut answers = Vec::new();
        for order in orders.split(';').map(str::trim).filter(|o| !o.is_empty()) {
            let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
            match verb {
                "trap" => panic!("told to"),
                "loop" => loop {
                    black_box(());
                },
                "invalid" => return Err(Error::Invalid("told to".into())),
                "unavailable" => return Err(Error::Unavailable("told to".into())),
                "drop" => return Ok(Told::Drop),
                "reject" => return Ok(Told::Reject),
                "retry" => return Ok(Told::Retry),
                "wake" => self.wake = rest.to_owned(),
                "emit" => {
                    let [count, bytes] = numbers(rest);
                    let message = Outgoing::new("made/here", vec![b'x'; bytes as usize]);
                    return Ok(Told::Emit(vec![message; count as usize]));
                }
                _ => answers.push(act(position, verb, rest)),
            }
        }
        Ok(Told::Answers(answers.join(";")))
    }
}

/// One order that has an answer.
fn act(position: u32, verb: &str, rest: &str) -> String {
    let words: Vec<&str> = rest.split(' ').collect();
    let word = |at: usize| sized(words.get(at).copied().unwrap_or_default());
    let maybe = |at: usize| Some(word(at)).filter(|word| word != b"-");
    let ttl_ms = || words.get(2).and_then(|ttl| ttl.parse().ok()).unwrap_or(0);
    match verb {
        "get" => state::get(word(0)).map_or("none".into(), |value| shown(&value)),
        "set" => format!("{:?}", state::set(word(0), word(1), ttl_ms())),
        "remove" => format!("{:?}", state::remove(word(0))),
        "add" => {
            let delta = words.get(1).and_then(|n| n.parse().ok()).unwrap_or(0);
            format!("{:?}", state::add(word(0), delta, ttl_ms()))
        }
        "swap" => {
            let (expected, value) = (maybe(1), maybe(2));
            let swapped = state::swap(word(0), expected.as_deref(), value.as_deref(), 0);
            format!("{swapped:?}")
        }
        "scan" => {
            let found = waypost_plugin::raw::state::scan(
                &maybe(0).unwrap_or_default(),
                maybe(1).as_deref(),
                words
                    .get(2)
                    .and_then(|limit| limit.parse().ok())
                    .unwrap_or(0),
            );
            let bytes: usize = found.iter().map(|(k, v)| k.len() + v.len()).sum();
            match found.len() {
                0..=4 => found
                    .iter()
                    .map(|(k, v)| format!("{}={} ", shown(k), shown(v)))
                    .collect(),
                count => format!("{count} of {bytes} bytes"),
            }
        }
        "fill" => {
            let [count, bytes] = numbers(rest.split_once(' ').map_or("", |(_, rest)| rest));
            let value = vec![b'v'; bytes as usize];
            let set = |number: &u64| {
                let key = format!("{}{number:08}", shown(&word(0)));
                state::set(key, &value, 0).is_ok()
            };
            (0..count).take_while(set).count().to_string()
        }
        "publish" => {
            let [count, bytes] = numbers(rest.split_once(' ').map_or("", |(_, rest)| rest));
            let topic = String::from_utf8_lossy(&word(0)).into_owned();
            let message = Outgoing::new(topic, vec![b'x'; bytes as usize]);
            for done in 0..count {
                if let Err(refusal) = publish::publish(position, message.clone()) {
                    return format!("{done} {refusal:?}");
                }
            }
            count.to_string()
        }
        "because" => {
            let cause = words[0].parse().unwrap_or(0);
            let topic = String::from_utf8_lossy(&word(1)).into_owned();
            format!(
                "{:?}",
                publish::publish(cause, Outgoing::new(topic, "because"))
            )
        }
        "timer" => {
            match words[0].parse().unwrap_or(0) {
                0 => timer::stop(),
                after_ms => timer::set(after_ms),
            }
            String::new()
        }
        "random" => {
            let bytes = random::bytes(words[0].parse().unwrap_or(0));
            let differ = bytes.len() < 8 || bytes != random::bytes(bytes.len() as u32);
            format!(
                "{} {}",
                bytes.len(),
                differ && random::number() != random::number()
            )
        }
        "calls" => {
            let [count, _] = numbers(rest);
            for _ in 0..count {
                black_box(host::now_ms());
            }
            count.to_string()
        }
        _ => format!("no such order: {verb}"),
    }
}

/// A word, or a text of so many bytes.
fn sized(word: &str) -> Vec<u8> {
    match word.strip_prefix('@').and_then(|count| count.parse().ok()) {
        Some(count) => vec![b'k'; count],
        None => word.into(),
    }
}

fn shown(bytes: &[u8]) -> String {
    match <[u8; 8]>::try_from(bytes) {
        Ok(number) if bytes.contains(&0) || bytes[7] == 255 => {
            i64::from_le_bytes(number).to_string()
        }
        _ if bytes.len() > 64 => format!("{} bytes", bytes.len()),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn numbers(text: &str) -> [u64; 2] {
    let mut words = text.split(' ').map(|word| word.parse().unwrap_or(1));
    [words.next().unwrap_or(1), words.next().unwrap_or(1)]
}

impl Filter for Puppet {
    fn filter(&mut self, message: &Message<'_>) -> Answer {
        let orders = message.header_str("do").unwrap_or_default();
        match self.obey(message.position(), orders) {
            Ok(Told::Answers(answers)) => Decision::DeadLetter.because(answers),
            Ok(Told::Drop) => Decision::Drop.into(),
            Ok(Told::Reject) => Decision::Reject.into(),
            Ok(Told::Retry) => Decision::Retry.into(),
            Ok(Told::Emit(_)) => Decision::Pass.into(),
            Err(error) => Decision::Reject.because(format!("{error:?}")),
        }
    }
}

impl Transform for Puppet {
    fn transform(&mut self, _: &Message<'_>) -> Outcome {
        Outcome::Pass
    }

    fn transform_batch(&mut self, batch: &waypost_plugin::Batch) -> Result<Vec<Outcome>, Error> {
        batch
            .iter()
            .map(|message| {
                let orders = message.header_str("do").unwrap_or_default();
                Ok(match self.obey(message.position(), orders)? {
                    Told::Answers(answers) => Outcome::Edit(Edit::new().header("answers", answers)),
                    Told::Drop => Outcome::Drop(None),
                    Told::Reject => Outcome::Reject("told to".into()),
                    Told::Retry => Outcome::Retry(20),
                    Told::Emit(messages) => Outcome::Emit(messages),
                })
            })
            .collect()
    }
}

impl Each for Puppet {
    fn on_message(&mut self, message: OwnMessage) -> Result<EachOutcome, Error> {
        let orders = message.headers.first().map(|(_, value)| value.clone());
        let orders = String::from_utf8(orders.unwrap_or_default()).unwrap_or_default();
        Ok(match self.obey(0, &orders)? {
            Told::Answers(answers) => EachOutcome::Edit(Edit::new().header("answers", answers)),
            Told::Drop => EachOutcome::Drop(None),
            Told::Reject => EachOutcome::Reject("told to".into()),
            Told::Retry => EachOutcome::Retry(20),
            Told::Emit(messages) => EachOutcome::Emit(messages),
        })
    }
}

waypost_plugin::export!(Puppet: filter, transform, each, wakes, schema);
