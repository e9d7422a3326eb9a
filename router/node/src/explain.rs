//! What became of single messages, for those who ask: the pipeline's traces, with the versions of
//! plugins, the routes that did not match, live subscribers, and the offsets that queues gave.
//!
//! Nothing here is done for a batch of which nobody asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use waypost_core::pipeline::{Change, Trace, TraceStep, Traced, TracedMessage};
use waypost_core::route::RouteIndex;
use waypost_shard::Place;
use waypost_wire::control::{
    self, EXPLAIN_HEADER, ExplainChange, ExplainStep, Explained, ExplainedMessage, ExplainedRoute,
    Explains,
};
use waypost_wire::{RecordRef, Slab};

use crate::clock::wall_ms;
use crate::routing::Routing;
use crate::submission::Account;

/// Messages of one stream that are being explained: with 64 KiB of text and 500 steps each, 10 MiB.
pub(crate) const EXPLAINING_MAX: usize = 64;
/// Routes that one explanation names.
const ROUTES_MAX: usize = 256;

/// The messages of a batch that ask, `room` of them at most, and how many more there are.
pub(crate) fn asked(explains: Explains, slab: &Slab, room: usize) -> (Traced, u32) {
    let is_marked = |body: &[u8]| {
        RecordRef::parse(body).is_ok_and(|record| record.header(EXPLAIN_HEADER).is_some())
    };
    let mut inputs: Vec<u32> = match explains {
        Explains::Nothing => Vec::new(),
        Explains::Everything => (0..slab.count()).collect(),
        Explains::Marked => (0..)
            .zip(slab.iter())
            .filter(|(_, body)| is_marked(body))
            .map(|(input, _)| input)
            .collect(),
    };
    let left_out = inputs.len().saturating_sub(room) as u32;
    inputs.truncate(room);
    match inputs.is_empty() {
        true => (Traced::None, left_out),
        false => (Traced::These(inputs.into()), left_out),
    }
}

/// A batch on its way of which messages are to be explained.
#[derive(Debug)]
pub(crate) struct Explaining {
    routing: Arc<Routing>,
    began: Instant,
    receive_time_ms: u64,
    /// Live subscribers, for each trace and each of its messages.
    subscribers: Vec<Vec<u32>>,
    /// How many asked.
    count: usize,
    traces: Vec<Trace>,
    pub places: Vec<Place>,
}

impl Explaining {
    /// A batch of which these are to be explained, if there are any.
    pub fn of(traced: &Traced, routing: &Arc<Routing>) -> Option<Explaining> {
        let Traced::These(inputs) = traced else {
            return None;
        };
        Some(Explaining {
            routing: routing.clone(),
            count: inputs.len(),
            began: Instant::now(),
            receive_time_ms: wall_ms(),
            subscribers: Vec::new(),
            traces: Vec::new(),
            places: Vec::new(),
        })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes in what the plugins did; `subscribers` says how many a topic has.
    pub fn routed(&mut self, traces: Vec<Trace>, mut subscribers: impl FnMut(&str) -> usize) {
        let mut of_message = |message: &TracedMessage| match &message.origin {
            Some(origin) if !origin.is_new => 0,
            _ => subscribers(&message.topic) as u32,
        };
        self.subscribers = traces
            .iter()
            .map(|trace| trace.messages.iter().map(&mut of_message).collect())
            .collect();
        self.traces = traces;
    }

    /// All is settled: what is to be said of each message, within `bytes_max` each.
    pub fn told(self, account: &Account, bytes_max: u64) -> Vec<Explained> {
        let took_ns = self.began.elapsed().as_nanos() as u64;
        let mut told = Vec::new();
        for (trace, subscribers) in self.traces.iter().zip(&self.subscribers) {
            let sequence = account.first_sequence + u64::from(trace.input);
            let exception = account.exceptions.iter().find(|e| e.sequence == sequence);
            let is_refused =
                exception.is_some_and(|e| e.kind == waypost_wire::data::ExceptionKind::Refused);
            let mut explained = Explained {
                sequence,
                outcome: exception
                    .map_or(account.level.as_str(), |e| e.kind.as_str())
                    .to_owned(),
                code: exception.map_or(0, |e| e.code as u32),
                text: exception.map_or(String::new(), |e| e.text.clone()),
                receive_time_ms: self.receive_time_ms,
                took_ns,
                ..tree(&self.routing, trace, subscribers)
            };
            if is_refused {
                explained
                    .messages
                    .iter_mut()
                    .for_each(|m| m.subscribers = 0);
            }
            place(&mut explained.steps, trace.input, &self.places);
            fit(&mut explained, bytes_max);
            told.push(explained);
        }
        told
    }
}

/// A trace as it is told, before anybody knows where messages were stored.
pub(crate) fn tree(routing: &Routing, trace: &Trace, subscribers: &[u32]) -> Explained {
    let messages = trace.messages.iter().enumerate().map(|(index, message)| {
        let origin = message.origin.as_ref();
        ExplainedMessage {
            topic: message.topic.clone(),
            payload_bytes: message.payload_bytes,
            depth: u32::from(message.depth),
            parent: origin.map_or(0, |o| o.parent),
            route: origin.map_or(String::new(), |o| o.route.to_string()),
            plugin: origin
                .and_then(|o| o.plugin.as_ref())
                .map_or(String::new(), ToString::to_string),
            is_new: origin.is_none_or(|o| o.is_new),
            subscribers: subscribers.get(index).copied().unwrap_or(0),
        }
    });
    let mut routes = Vec::new();
    for (index, message) in trace.messages.iter().enumerate() {
        let is_first = message.origin.is_none();
        let is_entry = is_first || message.origin.as_ref().is_some_and(|o| o.is_new);
        if is_entry && routes.len() <= ROUTES_MAX {
            let has_live = subscribers.get(index).is_some_and(|count| *count > 0);
            met(
                routing,
                index as u32,
                &message.topic,
                is_first,
                has_live,
                &mut routes,
            );
        }
    }
    let is_cut = trace.is_cut || routes.len() > ROUTES_MAX;
    routes.truncate(ROUTES_MAX);
    Explained {
        messages: messages.collect(),
        routes,
        steps: trace.steps.iter().map(|s| step(routing, s)).collect(),
        is_cut,
        ..Explained::default()
    }
}

/// The routes that a topic meets: those that take it, and, where `is_first`, the planned ones that
/// do not.
fn met(
    routing: &Routing,
    message: u32,
    topic: &str,
    is_first: bool,
    has_live: bool,
    into: &mut Vec<ExplainedRoute>,
) {
    let table = &routing.table;
    let mut taken: BTreeSet<RouteIndex> = table.matching(topic).into_iter().collect();
    if is_first && taken.is_empty() && !has_live {
        taken.extend(table.unroutable());
    }
    let others = (0..routing.planned.len() as RouteIndex).filter(|_| is_first);
    let others = others
        .filter(|index| !taken.contains(index))
        .take(ROUTES_MAX);
    let all: BTreeSet<RouteIndex> = taken.iter().copied().chain(others).collect();
    for index in all {
        let route = &table.routes()[index as usize];
        let matched = taken.contains(&index);
        into.push(ExplainedRoute {
            message,
            name: route.name.to_string(),
            from: route.from.as_str().to_owned(),
            matched,
            hidden: !matched && route.from.matches(topic),
        });
    }
}

fn step(routing: &Routing, step: &TraceStep) -> ExplainStep {
    let plugin = step.plugin.as_deref().unwrap_or_default();
    let slot = routing.slots.iter().find(|slot| &*slot.name == plugin);
    ExplainStep {
        route: step.route.to_string(),
        plugin: plugin.to_owned(),
        verdict: step.verdict.to_owned(),
        detail: step.detail.clone(),
        ns: step.cpu_ns,
        message: step.message,
        version: slot.map_or(0, |slot| slot.version()),
        batch: step.batch,
        changes: step.changes.iter().map(change).collect(),
        ..ExplainStep::default()
    }
}

pub(crate) fn change(change: &Change) -> ExplainChange {
    ExplainChange {
        field: change.field.clone(),
        before: change.before.clone().unwrap_or_default(),
        after: change.after.clone().unwrap_or_default(),
        was_absent: change.before.is_none(),
        is_absent: change.after.is_none(),
    }
}

/// Says of the steps that led into queues where there: a queue has an input's records in the order
/// of its steps, its dead letters after the others. Where some were left out as repeats, that is
/// not known of any.
fn place(steps: &mut [ExplainStep], input: u32, places: &[Place]) {
    let mut offsets: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for place in places {
        let own = (place.first_offset..)
            .zip(&place.inputs)
            .filter(|(_, of)| **of == input);
        let own = own.map(|(offset, _)| offset);
        offsets.entry(&place.queue).or_default().extend(own);
    }
    let mut leading: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut dead = Vec::new();
    for (index, step) in steps
        .iter()
        .enumerate()
        .filter(|(_, s)| s.plugin.is_empty())
    {
        match (step.verdict.as_str(), step.detail.strip_prefix("queue:")) {
            ("to", Some(queue)) => leading.entry(queue.to_owned()).or_default().push(index),
            ("dead-letter", _) => dead.push(index),
            _ => {}
        }
    }
    leading
        .entry(waypost_core::DEAD_LETTER.to_owned())
        .or_default()
        .extend(dead);
    for (queue, indexes) in leading {
        let offsets = offsets
            .get(queue.as_str())
            .filter(|o| o.len() == indexes.len());
        for (index, offset) in indexes.iter().zip(offsets.into_iter().flatten()) {
            let step = &mut steps[*index];
            (step.is_stored, step.queue, step.offset) = (true, queue.clone(), *offset);
        }
    }
}

/// Cuts an explanation to what a frame may hold.
fn fit(explained: &mut Explained, bytes_max: u64) {
    let is_over = |e: &Explained| control::length_of(e) as u64 > bytes_max;
    // What was done says more than what was met.
    while is_over(explained) && !explained.routes.is_empty() {
        explained.routes.truncate(explained.routes.len() / 2);
        explained.is_cut = true;
    }
    while is_over(explained) && !explained.steps.is_empty() {
        explained.steps.truncate(explained.steps.len() / 2);
        explained.is_cut = true;
    }
    if is_over(explained) {
        explained.messages.truncate(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_wire::Message;
    use waypost_wire::slab::SlabBuilder;

    fn to(queue: &str) -> ExplainStep {
        ExplainStep {
            verdict: "to".to_owned(),
            detail: format!("queue:{queue}"),
            ..ExplainStep::default()
        }
    }

    #[test]
    fn steps_find_their_offsets() {
        let at = |queue: &str, first_offset, inputs: &[u32]| Place {
            queue: queue.into(),
            first_offset,
            inputs: inputs.to_vec(),
        };
        let dead = ExplainStep {
            verdict: "dead-letter".to_owned(),
            ..ExplainStep::default()
        };
        let mut steps = vec![to("a"), to("b"), dead, to("a"), to("dead-letter"), to("c")];
        let places = [
            at("a", 10, &[0, 1, 1, 2]),
            at("b", 5, &[1, 1]),
            at("dead-letter", 0, &[1]),
            at("dead-letter", 1, &[0, 1]),
        ];
        place(&mut steps, 1, &places);
        let found: Vec<_> = steps
            .iter()
            .map(|s| s.is_stored.then_some(s.offset))
            .collect();
        // b has two, but one step leads there: which one is it?
        assert_eq!(found, [Some(11), None, Some(2), Some(12), Some(0), None]);
        assert_eq!(steps[2].queue, "dead-letter");
    }

    #[test]
    fn those_that_ask_are_found_and_bounded() {
        let mut slab = SlabBuilder::new();
        for n in 0..4 {
            let message = Message::new("a", "x");
            let message = match n % 2 {
                0 => message,
                _ => message.with_header(EXPLAIN_HEADER, ""),
            };
            slab.push_message(&message);
        }
        let slab = slab.finish();
        let these = |inputs: &[u32]| Traced::These(inputs.into());
        assert_eq!(asked(Explains::Marked, &slab, 9), (these(&[1, 3]), 0));
        assert_eq!(asked(Explains::Marked, &slab, 1), (these(&[1]), 1));
        assert_eq!(
            asked(Explains::Everything, &slab, 3),
            (these(&[0, 1, 2]), 1)
        );
        assert_eq!(asked(Explains::Everything, &slab, 0), (Traced::None, 4));
        assert_eq!(asked(Explains::Nothing, &slab, 9), (Traced::None, 0));
    }

    #[test]
    fn an_explanation_fits_its_frame() {
        let mut explained = Explained {
            steps: vec![to("a"); 100],
            ..Explained::default()
        };
        fit(&mut explained, 400);
        assert!(control::length_of(&explained) <= 400);
        assert!(explained.is_cut && !explained.steps.is_empty());
    }
}
