//! What a plugin did with one message: the form that `plugin test --json` writes, that snapshots
//! keep and that expectations are compared with.
//!
//! ```json
//! {"verdict":"pass"}
//! {"verdict":"edit","message":{"topic":"a/b","headers":{"unit":"C"},"payload":"21"}}
//! {"verdict":"to","destinations":["queue:a"],"log":[{"level":"info","text":"…"}]}
//! ```
//!
//! With a time of its own (`--time`), each ring of the plugin's timer has an entry too, with the
//! verdict `timer` and the time `at_ms`, between those of the messages before and after it.
//!
//! `message` and `messages` are what goes on, whole, in the form of `pub --json-lines`. What a call
//! did beside its answer (`log`, `metrics`, `state`, `published`, `timer_ms`) stands with the last
//! message of that call.

use serde::Serialize;
use serde_json::{Map, Value, json};
use waypost_client::{Message, RecordRef};
use waypost_host::{CallError, Level, Published, Sample, Verdict};

use super::input::Input;
use super::state::Write;
use crate::messages;

/// The keys that an entry can have.
pub const KEYS: [&str; 14] = [
    "verdict",
    "at_ms",
    "reason",
    "message",
    "messages",
    "destinations",
    "delay_ms",
    "error",
    "log",
    "log_dropped",
    "metrics",
    "state",
    "published",
    "timer_ms",
];

/// What a call did beside its answer.
#[derive(Debug, Default)]
pub struct Effects {
    /// Lines for the router's log.
    pub log: Vec<(Level, String)>,
    /// Lines over the plugin's limit.
    pub log_dropped: u64,
    /// Changes of metrics.
    pub metrics: Vec<(String, Sample)>,
    /// What it wrote to its state, in order.
    pub state: Vec<Write>,
    /// What it published beside its answer.
    pub published: Vec<Published>,
    /// When it asked to be woken.
    pub timer_ms: Option<u32>,
}

impl Effects {
    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        let told = self.log.is_empty() && self.log_dropped == 0 && self.metrics.is_empty();
        told && self.state.is_empty() && self.published.is_empty() && self.timer_ms.is_none()
    }
}

/// What the plugin was called for.
#[derive(Clone, Copy, Debug)]
pub enum Cause<'a> {
    /// A message.
    Message(&'a Input),
    /// Its timer, at this time.
    Timer {
        /// In ms since 1970.
        at_ms: u64,
    },
}

/// What became of one message, or of a ring of the timer.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The message.
    pub cause: Cause<'a>,
    /// What the plugin said, or how the call failed; for a timer, to pass is to be done.
    pub verdict: Result<Verdict, CallError>,
    /// What the call did beside, with its last message.
    pub effects: Effects,
}

/// A verdict's word. `failed` is what meets the plugin's `on_error`.
fn word(verdict: &Result<Verdict, CallError>) -> &'static str {
    match verdict {
        Ok(Verdict::Pass) => "pass",
        Ok(Verdict::Drop(_)) => "drop",
        Ok(Verdict::Edit(_)) => "edit",
        Ok(Verdict::Emit(_)) => "emit",
        Ok(Verdict::To(_)) => "to",
        Ok(Verdict::Reject(_)) => "reject",
        Ok(Verdict::Retry { .. }) => "retry",
        Ok(Verdict::DeadLetter(_)) => "dead-letter",
        Ok(Verdict::Failed(_) | Verdict::Violation(_)) | Err(_) => "failed",
    }
}

impl Entry<'_> {
    /// Its word: the verdict's, or `timer`.
    pub fn word(&self) -> &'static str {
        match (self.cause, &self.verdict) {
            (Cause::Timer { .. }, Ok(_)) => "timer",
            (_, verdict) => word(verdict),
        }
    }

    /// The line of its message, where it has one.
    pub fn line(&self) -> Option<usize> {
        match self.cause {
            Cause::Message(input) => Some(input.line),
            Cause::Timer { .. } => None,
        }
    }

    /// Whether it meets the plugin's `on_error`.
    pub fn is_failed(&self) -> bool {
        matches!(
            self.verdict,
            Ok(Verdict::Failed(_) | Verdict::Violation(_)) | Err(_)
        )
    }

    /// The message as it goes on, where it does so changed.
    pub fn edited(&self) -> Option<Message> {
        let (Ok(Verdict::Edit(edit)), Cause::Message(input)) = (&self.verdict, self.cause) else {
            return None;
        };
        let mut message = input.message.clone();
        edit.as_ref().clone().apply(&mut message);
        Some(message)
    }

    /// As JSON; `destinations` are the plugin's.
    pub fn to_json(&self, destinations: &[String]) -> Value {
        let mut object = Map::new();
        object.insert("verdict".into(), self.word().into());
        if let Cause::Timer { at_ms } = self.cause {
            object.insert("at_ms".into(), at_ms.into());
        }
        self.put_verdict(&mut object, destinations);
        self.put_effects(&mut object);
        Value::Object(object)
    }

    fn put_verdict(&self, object: &mut Map<String, Value>, destinations: &[String]) {
        match &self.verdict {
            Ok(Verdict::Pass) => {}
            Ok(Verdict::Drop(reason) | Verdict::Reject(reason) | Verdict::DeadLetter(reason)) => {
                if let Some(reason) = reason {
                    object.insert("reason".into(), reason.as_ref().into());
                }
            }
            Ok(Verdict::Edit(_)) => {
                let message = self.edited().unwrap_or_default();
                object.insert("message".into(), message_json(&message));
            }
            Ok(Verdict::Emit(emitted)) => {
                let messages = emitted.iter().cloned();
                let messages = messages.map(|outgoing| message_json(&outgoing.into_message()));
                object.insert("messages".into(), messages.collect());
            }
            Ok(Verdict::To(to)) => {
                let names = to.as_slice().iter().map(|index| {
                    let name = destinations.get(*index as usize);
                    name.map_or_else(|| index.to_string(), String::clone)
                });
                object.insert("destinations".into(), names.collect());
            }
            Ok(Verdict::Retry { delay_ms }) => {
                if let Some(delay_ms) = delay_ms {
                    object.insert("delay_ms".into(), (*delay_ms).into());
                }
            }
            Ok(Verdict::Failed(text)) => {
                object.insert("error".into(), text.as_ref().into());
            }
            Ok(Verdict::Violation(violation)) => {
                object.insert("error".into(), violation.rule.to_string().into());
            }
            Err(error) => {
                object.insert("error".into(), error.to_string().into());
            }
        }
    }

    fn put_effects(&self, object: &mut Map<String, Value>) {
        let Effects {
            log,
            log_dropped,
            metrics,
            state,
            published,
            timer_ms,
        } = &self.effects;
        if !log.is_empty() {
            let lines = log
                .iter()
                .map(|(level, text)| json!({"level": level_name(*level), "text": text}));
            object.insert("log".into(), lines.collect());
        }
        if *log_dropped > 0 {
            object.insert("log_dropped".into(), (*log_dropped).into());
        }
        if !metrics.is_empty() {
            let samples = metrics.iter().map(|(name, sample)| match sample {
                Sample::Add(delta) => json!({"name": name, "add": delta}),
                Sample::Set(value) => json!({"name": name, "set": value}),
                Sample::Observe(value) => json!({"name": name, "observe": value}),
            });
            object.insert("metrics".into(), samples.collect());
        }
        if !state.is_empty() {
            object.insert("state".into(), state.iter().map(write_json).collect());
        }
        if !published.is_empty() {
            let message = |one: &Published| message_json(&one.message.clone().into_message());
            let published = published.iter().map(message);
            object.insert("published".into(), published.collect());
        }
        if let Some(ms) = timer_ms {
            object.insert("timer_ms".into(), (*ms).into());
        }
    }
}

/// Keys and values as text, or in base64 with that said in the name.
fn write_json(write: &Write) -> Value {
    let mut object = Map::new();
    messages::put_bytes(&mut object, "key", &write.key);
    match &write.value {
        Some(value) => messages::put_bytes(&mut object, "value", value),
        None => drop(object.insert("removed".into(), true.into())),
    }
    if write.ttl_ms > 0 {
        object.insert("ttl_ms".into(), write.ttl_ms.into());
    }
    Value::Object(object)
}

/// An entry on a line of its own: the verdict first, for whoever reads it.
pub fn to_line(entry: &Value) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        verdict: &'a Value,
        #[serde(flatten)]
        rest: Map<String, Value>,
    }
    let mut rest = entry.as_object().cloned().unwrap_or_default();
    rest.remove("verdict");
    let line = Line {
        verdict: &entry["verdict"],
        rest,
    };
    // A map with text as its keys is always JSON.
    serde_json::to_string(&line).unwrap_or_else(|_| entry.to_string())
}

/// A message in the form of `pub --json-lines`.
pub fn message_json(message: &Message) -> Value {
    let body = message.to_body();
    match RecordRef::parse(&body) {
        Ok(record) => messages::to_json(&record, &[]),
        // The host has checked every field that a plugin can set.
        Err(error) => json!({"topic": message.topic, "error": error.to_string()}),
    }
}

/// A level's name.
pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}
