//! What is told of single messages that somebody asked about: each decision, by whom and why.
//!
//! A [`Trace`] is a tree: the message that was published, and each one that came of it (emitted by
//! a plugin, published by one, or under the topic of a destination), with its steps in the order in
//! which they were made. It is bounded in steps and bytes, and says where it was cut. A batch that
//! nobody asks about pays for the question whether a list is empty.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use waypost_wire::{Message, RecordRef};

use super::{Item, Run, Verdict};
use crate::route::RouteIndex;

/// Messages of one trace, and steps.
pub const TRACE_STEPS_MAX: usize = 500;
/// Bytes of text of one trace.
pub const TRACE_BYTES_MAX: usize = 64 << 10;
/// Bytes of one text.
const TEXT_BYTES_MAX: usize = 1 << 10;
/// Bytes of one value that changed.
const VALUE_BYTES_MAX: usize = 256;

/// Which messages of a batch are traced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Traced {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those with these indexes, ascending.
    These(Arc<[u32]>),
}

impl Traced {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Traced::None
    }

    pub(super) fn has(&self, input: u32) -> bool {
        match self {
            Traced::None => false,
            Traced::All => true,
            Traced::These(inputs) => inputs.binary_search(&input).is_ok(),
        }
    }
}

/// All that was decided about one message of a batch, and about what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Which message of the batch.
    pub input: u32,
    /// The first is the message itself; of the others, each stands after the one that it came of.
    pub messages: Vec<TracedMessage>,
    /// In the order in which they were made.
    pub steps: Vec<TraceStep>,
    /// It was too long: what is missing came after what is there.
    pub is_cut: bool,
    bytes: usize,
}

/// A message of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedMessage {
    /// The message that it came of, and how; none for what was published.
    pub origin: Option<Origin>,
    /// Its topic.
    pub topic: String,
    /// Bytes of its payload.
    pub payload_bytes: u64,
    /// How often it, or what it came of, re-entered routing.
    pub depth: u8,
}

/// Where a message of a trace came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Index of the message that it came of.
    pub parent: u32,
    /// On which route.
    pub route: Arc<str>,
    /// By which plugin; none for a `topic:` destination.
    pub plugin: Option<Arc<str>>,
    /// Whether it entered routing anew, or goes on along its route.
    pub is_new: bool,
}

/// One decision about one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStep {
    /// Index of the message.
    pub message: u32,
    /// On which route.
    pub route: Arc<str>,
    /// By which plugin; none for the route's own destinations.
    pub plugin: Option<Arc<str>>,
    /// A word such as `pass`.
    pub verdict: &'static str,
    /// Why, or where to.
    pub detail: String,
    /// CPU time of the call that this was decided in, in ns; 0 where no plugin was called.
    pub cpu_ns: u64,
    /// Messages of that call.
    pub batch: u32,
    /// What an edit changed.
    pub changes: Vec<Change>,
}

/// A field that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `topic`, `key`, `content-type`, `ttl`, `payload`, `header NAME` and the like.
    pub field: String,
    /// What it was; none where there was none.
    pub before: Option<String>,
    /// What it is; none where it is gone.
    pub after: Option<String>,
}

impl Change {
    fn bytes(&self) -> usize {
        let length = |value: &Option<String>| value.as_ref().map_or(0, String::len);
        self.field.len() + length(&self.before) + length(&self.after)
    }
}

/// A message of a batch, and which one of its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub input: u32,
    pub message: u32,
}

impl Item {
    pub(super) fn at(&self) -> At {
        At {
            input: self.input,
            message: self.message,
        }
    }
}

impl Trace {
    pub(super) fn new(input: u32, body: &[u8]) -> Trace {
        let mut trace = Trace {
            input,
            ..Trace::default()
        };
        trace.message(None, body, 0);
        trace
    }

    fn message(&mut self, origin: Option<Origin>, body: &[u8], depth: u8) -> u32 {
        let record = RecordRef::parse(body).ok();
        let topic = record.as_ref().map_or("", RecordRef::topic).to_owned();
        let payload_bytes = record.map_or(0, |record| record.payload().len() as u64);
        if !self.takes(topic.len(), self.messages.len()) {
            // What is to be said of it would be said of what it came of, and is cut.
            return origin.map_or(0, |origin| origin.parent);
        }
        self.messages.push(TracedMessage {
            origin,
            topic,
            payload_bytes,
            depth,
        });
        self.messages.len() as u32 - 1
    }

    fn step(&mut self, step: TraceStep) {
        let changes: usize = step.changes.iter().map(Change::bytes).sum();
        if self.takes(step.detail.len() + changes, self.steps.len()) {
            self.steps.push(step);
        }
    }

    fn takes(&mut self, bytes: usize, count: usize) -> bool {
        self.bytes += bytes;
        self.is_cut |= self.bytes > TRACE_BYTES_MAX || count >= TRACE_STEPS_MAX;
        !self.is_cut
    }
}

impl Run {
    /// CPU time in ns of the call that is answered next; for the trace.
    pub fn took(&mut self, cpu_ns: u64) {
        self.call_ns = cpu_ns;
    }

    /// Whether some message of the batch is traced.
    pub fn is_traced(&self) -> bool {
        !self.traces.is_empty()
    }

    fn trace_of(&mut self, input: u32) -> Option<&mut Trace> {
        let at = self.traces.binary_search_by_key(&input, |t| t.input).ok()?;
        self.traces.get_mut(at)
    }

    /// A message came of another: its place in the trace, if there is one.
    pub(super) fn came_of(
        &mut self,
        at: At,
        route: Option<RouteIndex>,
        plugin: Option<usize>,
        (is_new, depth): (bool, u8),
        body: &[u8],
    ) -> u32 {
        if self.traces.is_empty() {
            return 0;
        }
        let route = route.unwrap_or(RouteIndex::MAX);
        let origin = Origin {
            parent: at.message,
            route: self.route_name(route),
            plugin: self.named_plugin(route, plugin),
            is_new,
        };
        let trace = self.trace_of(at.input);
        trace.map_or(0, |trace| trace.message(Some(origin), body, depth))
    }

    fn named_plugin(&self, route: RouteIndex, plugin: Option<usize>) -> Option<Arc<str>> {
        plugin
            .map(|plugin| self.plugin_name(route, plugin))
            .filter(|name| !name.is_empty())
    }

    pub(super) fn trace(
        &mut self,
        at: At,
        route: RouteIndex,
        plugin: Option<usize>,
        verdict: &'static str,
        detail: impl FnOnce(&Run) -> String,
    ) {
        self.trace_changes(at, route, plugin, verdict, detail, Vec::new);
    }

    pub(super) fn trace_changes(
        &mut self,
        at: At,
        route: RouteIndex,
        plugin: Option<usize>,
        verdict: &'static str,
        detail: impl FnOnce(&Run) -> String,
        changes: impl FnOnce() -> Vec<Change>,
    ) {
        if self.traces.is_empty() || self.trace_of(at.input).is_none() {
            return;
        }
        let mut detail = detail(self);
        detail.truncate(detail.floor_char_boundary(TEXT_BYTES_MAX));
        let plugin = self.named_plugin(route, plugin);
        let is_called = plugin.is_some();
        let step = TraceStep {
            message: at.message,
            route: self.route_name(route),
            plugin,
            verdict,
            detail,
            cpu_ns: if is_called { self.call_ns } else { 0 },
            batch: if is_called { self.call_messages } else { 0 },
            changes: changes(),
        };
        if let Some(trace) = self.trace_of(at.input) {
            trace.step(step);
        }
    }

    pub(super) fn trace_verdict(
        &mut self,
        item: &Item,
        route: RouteIndex,
        plugin: usize,
        verdict: &Verdict,
    ) {
        let (at, word) = (item.at(), verdict.word());
        let detail = |run: &Run| verdict.detail(&run.table.routes()[route as usize].to);
        self.trace_changes(at, route, Some(plugin), word, detail, || match verdict {
            Verdict::Replace(body) => changes(&item.body, body),
            _ => Vec::new(),
        });
    }
}

/// What is different in a record that took the place of another.
pub fn changes(before: &[u8], after: &[u8]) -> Vec<Change> {
    let (Ok(before), Ok(after)) = (RecordRef::parse(before), RecordRef::parse(after)) else {
        return Vec::new();
    };
    let (before, after) = (before.to_message(), after.to_message());
    let mut changes = Vec::new();
    let mut compare = |field: &str, before: Option<String>, after: Option<String>| {
        if before != after {
            changes.push(Change {
                field: field.to_owned(),
                before: before.map(cut),
                after: after.map(cut),
            });
        }
    };
    let ms = |ms: Option<u64>| ms.map(|ms| format!("{ms} ms"));
    let bytes = |value: &Option<Bytes>| value.as_deref().map(shown);
    let topic = |message: &Message| Some(message.topic.clone());
    compare("topic", topic(&before), topic(&after));
    compare("key", bytes(&before.key), bytes(&after.key));
    let content_type = |message: &Message| message.content_type.clone();
    compare("content-type", content_type(&before), content_type(&after));
    compare("reply-to", before.reply_to.clone(), after.reply_to.clone());
    compare("ttl", ms(before.time_to_live_ms), ms(after.time_to_live_ms));
    compare("delay", ms(before.not_before_ms), ms(after.not_before_ms));
    let id = |message: &Message| bytes(&message.message_id);
    compare("message-id", id(&before), id(&after));
    let (old, new) = (headers(&before), headers(&after));
    let names = old
        .keys()
        .chain(new.keys().filter(|name| !old.contains_key(*name)));
    for name in names {
        let field = format!("header {name}");
        compare(&field, old.get(name).cloned(), new.get(name).cloned());
    }
    if before.payload != after.payload {
        let size = |message: &Message| Some(format!("{} bytes", message.payload.len()));
        changes.push(Change {
            field: "payload".to_owned(),
            before: size(&before),
            after: size(&after),
        });
    }
    changes
}

fn headers(message: &Message) -> BTreeMap<&str, String> {
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in &message.headers {
        let text = headers.entry(name).or_default();
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&shown(value));
    }
    headers
}

/// Bytes for people.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let hex = bytes.iter().take(VALUE_BYTES_MAX / 2);
            std::iter::once("0x".to_owned())
                .chain(hex.map(|byte| format!("{byte:02x}")))
                .collect()
        }
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(VALUE_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(field: &str, before: Option<&str>, after: Option<&str>) -> Change {
        Change {
            field: field.to_owned(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        }
    }

    #[test]
    fn each_field_that_changed_is_named() {
        let mut before = Message::new("a", "old").with_header("x", "1").with_key("k");
        before = before.with_header("y", "2").with_header("y", vec![0xff]);
        let mut after = Message::new("b", "newer").with_header("x", "3");
        after.time_to_live_ms = Some(5);
        let found = changes(&before.to_body(), &after.to_body());
        let wanted = [
            change("topic", Some("a"), Some("b")),
            change("key", Some("k"), None),
            change("ttl", None, Some("5 ms")),
            change("header x", Some("1"), Some("3")),
            change("header y", Some("2, 0xff"), None),
            change("payload", Some("3 bytes"), Some("5 bytes")),
        ];
        assert_eq!(found, wanted);
        assert_eq!(changes(&before.to_body(), &before.to_body()), []);
        let long = before.clone().with_header("z", "ü".repeat(VALUE_BYTES_MAX));
        let found = changes(&before.to_body(), &long.to_body());
        assert!(found[0].after.as_ref().unwrap().len() <= VALUE_BYTES_MAX);
    }

    #[test]
    fn a_trace_has_an_end() {
        let body = Message::new("a", "x").to_body();
        let step = |detail: String| TraceStep {
            message: 0,
            route: "r".into(),
            plugin: None,
            verdict: "to",
            detail,
            cpu_ns: 0,
            batch: 0,
            changes: Vec::new(),
        };
        let mut long = Trace::new(0, &body);
        (0..2 * TRACE_STEPS_MAX).for_each(|_| long.step(step("x".to_owned())));
        assert_eq!((long.steps.len(), long.is_cut), (TRACE_STEPS_MAX, true));
        let mut wide = Trace::new(0, &body);
        (0..500).for_each(|_| wide.step(step("x".repeat(TEXT_BYTES_MAX))));
        assert!(wide.is_cut && wide.steps.len() < 70, "{}", wide.steps.len());
    }
}
