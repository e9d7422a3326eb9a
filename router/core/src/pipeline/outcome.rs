//! What goes through a pipeline, what plugins say of it, and what comes out.

use std::sync::Arc;

use bytes::Bytes;
use waypost_wire::Code;
use waypost_wire::data::{Exception, ExceptionKind};

use super::trace::Trace;
use crate::route::{Destination, PluginIndex, RouteIndex};

/// A message on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Which message of the batch it came from.
    pub input: u32,
    /// Which message of that one's trace it is; 0 where there is none.
    pub(super) message: u32,
    /// Its body.
    pub body: Bytes,
    /// What a route plugin chose, as indexes into the route's destinations.
    pub(super) to: Option<Vec<u32>>,
}

/// What a plugin says of one message.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It goes on unchanged.
    Pass,
    /// It ends here.
    Drop(String),
    /// It goes on with this body.
    Replace(Bytes),
    /// These go on in its place.
    Emit(Vec<Bytes>),
    /// It goes on, in the end to these of the route's destinations.
    To(Vec<u32>),
    /// It goes to the dead letters.
    DeadLetter(String),
    /// Its publisher gets it back.
    Reject(String),
    /// Not now: it is tried again after so many ms; 0 leaves the pause to the router.
    Retry(u64),
    /// The plugin's word for it breaks the contract: the plugin's `on_error` decides.
    Failed(Failure),
}

impl Verdict {
    /// A word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Drop(_) => "drop",
            Verdict::Replace(_) => "edit",
            Verdict::Emit(_) => "emit",
            Verdict::To(_) => "to",
            Verdict::DeadLetter(_) => "dead-letter",
            Verdict::Reject(_) => "reject",
            Verdict::Retry(_) => "retry",
            Verdict::Failed(_) => "failed",
        }
    }

    /// Why, or where to; `to` are the destinations of its route.
    pub fn detail(&self, to: &[Destination]) -> String {
        match self {
            Verdict::Pass => String::new(),
            Verdict::Drop(text) | Verdict::DeadLetter(text) | Verdict::Reject(text) => text.clone(),
            Verdict::Failed(failure) => format!("{}: {}", failure.kind, failure.text),
            Verdict::Retry(0) => String::new(),
            Verdict::Retry(ms) => format!("after {ms} ms"),
            Verdict::Replace(body) => format!("{} bytes", body.len()),
            Verdict::Emit(bodies) => format!("{} messages", bodies.len()),
            Verdict::To(indexes) => {
                let chosen = indexes.iter().filter_map(|i| to.get(*i as usize));
                let names: Vec<String> = chosen.map(ToString::to_string).collect();
                names.join(", ")
            }
        }
    }
}

/// Why a call failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A word such as `trap` or `deadline`.
    pub kind: &'static str,
    /// What the host or the guest says.
    pub text: String,
    /// The guest's backtrace, where there is one.
    pub backtrace: Option<String>,
}

/// What to do next.
#[derive(Debug)]
pub enum Step<'a> {
    /// Call this plugin with these messages, then [`Run::verdicts`](super::Run::verdicts) or [`Run::failed`](super::Run::failed).
    Call {
        /// Which plugin.
        plugin: PluginIndex,
        /// For which route.
        route: RouteIndex,
        /// With which messages.
        items: &'a [Item],
    },
    /// Let so many ms pass, then ask again: a plugin wants to be called later. Batches of the same
    /// publisher wait meanwhile.
    Hold {
        /// The pause.
        ms: u64,
    },
    /// Take the outcome with [`Run::finish`](super::Run::finish).
    Done,
}

/// Where one output goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Which message of the batch it came from.
    pub input: u32,
    /// Its body.
    pub body: Bytes,
}

/// A message for the dead letters.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Which message of the batch it came from.
    pub input: u32,
    /// The message with its reasons as headers.
    pub body: Bytes,
    /// Why, for the confirm and the log.
    pub reason: String,
}

/// Everything that a batch caused.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// For each queue, in the order in which they were reached, its messages.
    pub queues: Vec<(Arc<str>, Vec<Output>)>,
    /// For live subscribers: what `topic:` destinations emitted.
    pub live: Vec<Output>,
    /// For the dead letters.
    pub dead: Vec<DeadLetter>,
    /// Messages that need a word in the confirm, in order of the input.
    pub exceptions: Vec<(u32, ExceptionKind, Code, String)>,
    /// What was decided about messages that are traced, in order of the input.
    pub traces: Vec<Trace>,
}

impl Outcome {
    /// Nothing of `count` messages was taken, for this reason.
    pub fn refused(count: u32, code: Code, text: &str) -> Outcome {
        let refuse = |input| (input, ExceptionKind::Refused, code, text.to_owned());
        Outcome {
            exceptions: (0..count).map(refuse).collect(),
            ..Outcome::default()
        }
    }

    /// The exceptions for a batch whose first message has this sequence.
    pub fn exceptions_from(&self, first_sequence: u64) -> Vec<Exception> {
        let exception =
            |(input, kind, code, text): &(u32, ExceptionKind, Code, String)| Exception {
                sequence: first_sequence + u64::from(*input),
                kind: *kind,
                code: *code,
                text: text.clone(),
            };
        self.exceptions.iter().map(exception).collect()
    }
}
