//! A batch's way through routes and plugins, as a conversation: [`Run::step`] says which plugin is
//! to be called with which messages, the caller calls it and tells the verdicts or the failure,
//! until the outcome is there. Nothing is called from here.
//!
//! A plugin may ask for a message to be tried again later: the run then says [`Step::Hold`], and
//! goes on with that message when it is asked again, so that nothing of the batch overtakes it.
//!
//! Invariants: what comes out for a queue stands in the order of the input, whatever routes led
//! there, and within one message in the order of its routes; a message that is refused leaves
//! nothing behind; a plugin that fails hurts only the messages on which it fails: a failed call is
//! split in halves until the culprit stands alone.
//!
//! - `outcome`: what goes in and what comes out
//! - `failing`: calls that fail, or are to be made later
//! - `reenter`: what comes back into routing
//! - `trace`: what is told of single messages

mod failing;
mod outcome;
mod reenter;
mod trace;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use waypost_wire::Code;
use waypost_wire::data::ExceptionKind;

use crate::limits::Limits;
use crate::route::{Destination, RouteIndex, RouteTable};

use trace::At;

pub use failing::with_reasons;
pub use outcome::{DeadLetter, Failure, Item, Outcome, Output, Step, Verdict};
pub use trace::{
    Change, Origin, TRACE_BYTES_MAX, TRACE_STEPS_MAX, Trace, TraceStep, Traced, TracedMessage,
    changes,
};

/// A part of a stage that waits for its call.
type Part = Vec<Item>;

#[derive(Debug)]
struct Stage {
    route: RouteIndex,
    /// Index into the route's plugins.
    plugin: usize,
    parts: VecDeque<Part>,
    done: Vec<Item>,
    depth: u8,
    /// Calls that failed and were split.
    splits: u32,
    /// How often the first message that waits was tried again.
    tries: u32,
    /// What the plugin lacks did not come: calls that miss it fail.
    gave_up: bool,
}

impl Stage {
    fn new(route: RouteIndex, plugin: usize, depth: u8) -> Stage {
        Stage {
            route,
            plugin,
            parts: VecDeque::new(),
            done: Vec::new(),
            depth,
            splits: 0,
            tries: 0,
            gave_up: false,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    Nothing,
    Reached,
    Dropped,
    Dead,
    Refused,
    LeftOut(ExceptionKind),
}

/// One batch under way.
#[derive(Debug)]
pub struct Run {
    table: Arc<RouteTable>,
    limits: Limits,
    /// Routes that wait, with their messages, the deepest re-entry last.
    waiting: VecDeque<(RouteIndex, u8, Vec<Item>)>,
    stage: Option<Stage>,
    emitted: Vec<usize>,
    fates: Vec<(Fate, Code, String)>,
    outcome: Outcome,
    /// Of messages that are traced, by input.
    traces: Vec<Trace>,
    /// Of the call that is answered next.
    call_ns: u64,
    call_messages: u32,
    hold: Option<u64>,
}

impl Run {
    /// Begins with the bodies of a batch, and for each the routes that its topic takes. `live` says
    /// whether its own topic has live subscribers, which the caller serves.
    pub fn new<'a>(
        table: Arc<RouteTable>,
        limits: Limits,
        inputs: impl IntoIterator<Item = (Bytes, &'a [RouteIndex], bool)>,
        traced: &Traced,
    ) -> Run {
        let mut run = Run::empty(table, limits);
        let mut entries = Vec::new();
        for (index, (body, routes, live)) in inputs.into_iter().enumerate() {
            let fate = if live { Fate::Reached } else { Fate::Nothing };
            run.fates.push((fate, Code::Closed, String::new()));
            run.emitted.push(0);
            if traced.has(index as u32) {
                run.traces.push(Trace::new(index as u32, &body));
            }
            let item = Item {
                input: index as u32,
                message: 0,
                body,
                to: None,
            };
            let Some((last, others)) = routes.split_last() else {
                continue;
            };
            entries.extend(others.iter().map(|route| (*route, item.clone())));
            entries.push((*last, item));
        }
        run.enqueue(0, entries);
        run
    }

    fn empty(table: Arc<RouteTable>, limits: Limits) -> Run {
        Run {
            table,
            limits,
            waiting: VecDeque::new(),
            stage: None,
            emitted: Vec::new(),
            fates: Vec::new(),
            outcome: Outcome::default(),
            traces: Vec::new(),
            call_ns: 0,
            call_messages: 0,
            hold: None,
        }
    }

    /// Groups messages by route, in the order of the configuration.
    fn enqueue(&mut self, depth: u8, entries: Vec<(RouteIndex, Item)>) {
        if let Some((route, _)) = entries.first()
            && entries.iter().all(|(other, _)| other == route)
        {
            let route = *route;
            let items = entries.into_iter().map(|(_, item)| item).collect();
            return self.waiting.push_back((route, depth, items));
        }
        let mut by_route: Vec<(RouteIndex, Vec<Item>)> = Vec::new();
        for (route, item) in entries {
            match by_route.binary_search_by_key(&route, |(r, _)| *r) {
                Ok(at) => by_route[at].1.push(item),
                Err(at) => by_route.insert(at, (route, vec![item])),
            }
        }
        for (route, items) in by_route {
            self.waiting.push_back((route, depth, items));
        }
    }

    /// What to do next.
    pub fn step(&mut self) -> Step<'_> {
        if let Some(ms) = self.hold.take() {
            return Step::Hold { ms };
        }
        while self.stage.as_ref().is_none_or(|s| s.parts.is_empty()) {
            match self.stage.take() {
                Some(stage) => self.next_stage(stage),
                None => match self.waiting.pop_front() {
                    Some((route, depth, items)) => self.begin_stage(route, 0, depth, items),
                    None => return Step::Done,
                },
            }
        }
        let Some(stage) = &self.stage else {
            return Step::Done;
        };
        let Some(items) = stage.parts.front() else {
            return Step::Done;
        };
        let plugin = self.table.routes()[stage.route as usize].through[stage.plugin];
        self.call_messages = items.len() as u32;
        Step::Call {
            plugin,
            route: stage.route,
            items,
        }
    }

    fn begin_stage(&mut self, route: RouteIndex, plugin: usize, depth: u8, mut items: Vec<Item>) {
        let table = self.table.clone();
        items.retain(|item| {
            let (fate, ..) = &self.fates[item.input as usize];
            !matches!(fate, Fate::Refused | Fate::LeftOut(_))
        });
        let Some(index) = table.routes()[route as usize].through.get(plugin) else {
            return self.arrive(route, depth, items);
        };
        let batch_max = table.plugins()[*index as usize].batch_max.max(1);
        let mut parts = VecDeque::new();
        while items.len() > batch_max {
            let rest = items.split_off(batch_max);
            parts.push_back(std::mem::replace(&mut items, rest));
        }
        if !items.is_empty() {
            parts.push_back(items);
        }
        self.stage = Some(Stage {
            parts,
            ..Stage::new(route, plugin, depth)
        });
    }

    fn next_stage(&mut self, stage: Stage) {
        self.begin_stage(stage.route, stage.plugin + 1, stage.depth, stage.done);
    }

    /// The called plugin's verdicts, one for each message of the call, in order, and what it
    /// published, each with the position of the message that caused it. A list of another length is
    /// a failure of the plugin.
    ///
    /// Says whether the call counts. Where it does not, the plugin will be called with the same
    /// messages again, and whatever else the call did must be undone.
    #[must_use]
    pub fn verdicts(&mut self, verdicts: Vec<Verdict>, published: Vec<(u32, Bytes)>) -> bool {
        let Some(mut stage) = self.stage.take() else {
            return false;
        };
        let Some(mut items) = stage.parts.pop_front() else {
            return false;
        };
        if verdicts.len() != items.len() {
            let text = format!("{} verdicts for {} messages", verdicts.len(), items.len());
            stage.parts.push_front(items);
            self.stage = Some(stage);
            self.failed(Failure {
                kind: "output",
                text,
                backtrace: None,
            });
            return false;
        }
        let retry = verdicts.iter().position(|v| matches!(v, Verdict::Retry(_)));
        if let Some(at) = retry {
            let is_serial = self.plugin_of(&stage).is_serial;
            if is_serial && items.len() > 1 {
                // Its effects are those of the whole call: what passes goes by itself, with effects
                // of its own.
                let rest = items.split_off(at.max(1));
                stage.parts.push_front(rest);
                stage.parts.push_front(items);
                self.stage = Some(stage);
                return false;
            }
            let rest = items.split_off(at);
            if let (Some(first), Some(verdict)) = (rest.first(), verdicts.get(at)) {
                self.trace_verdict(first, stage.route, stage.plugin, verdict);
            }
            stage.parts.push_front(rest);
            if !items.is_empty() {
                stage.tries = 0;
            }
            for (item, verdict) in items.into_iter().zip(verdicts.iter().cloned()) {
                self.apply(&mut stage, item, verdict);
            }
            let asked = match verdicts.get(at) {
                Some(Verdict::Retry(ms)) => *ms,
                _ => 0,
            };
            self.retry(stage, asked);
            return false;
        }
        stage.tries = 0;
        let causes: Vec<At> = published
            .iter()
            .filter_map(|(cause, _)| items.get(*cause as usize).or(items.first()))
            .map(Item::at)
            .collect();
        for (item, verdict) in items.into_iter().zip(verdicts) {
            self.apply(&mut stage, item, verdict);
        }
        let (by, depth) = (Some((stage.route, stage.plugin)), stage.depth);
        self.stage = Some(stage);
        let bodies = published.into_iter().map(|(_, body)| body);
        self.reenter_published(by, depth, causes.into_iter().zip(bodies).collect());
        true
    }

    /// What these inputs cause is there already: they are left out, with this word.
    pub fn leave_out(&mut self, inputs: &[u32], kind: ExceptionKind, text: &str) {
        for input in inputs {
            if let Some(fate) = self.fates.get_mut(*input as usize) {
                *fate = (Fate::LeftOut(kind), Code::Closed, text.to_owned());
            }
        }
        let is_out = |item: &Item| inputs.contains(&item.input);
        for (_, _, items) in &mut self.waiting {
            items.retain(|item| !is_out(item));
        }
        if let Some(stage) = &mut self.stage {
            stage.done.retain(|item| !is_out(item));
            for part in &mut stage.parts {
                part.retain(|item| !is_out(item));
            }
            stage.parts.retain(|part| !part.is_empty());
        }
    }

    fn plugin_of(&self, stage: &Stage) -> &crate::route::PluginEntry {
        let index = self.table.routes()[stage.route as usize].through[stage.plugin];
        &self.table.plugins()[index as usize]
    }

    /// Every message of the call passed: the cheap form of [`Run::verdicts`].
    pub fn all_passed(&mut self) {
        let Some(stage) = &mut self.stage else { return };
        let Some(mut items) = stage.parts.pop_front() else {
            return;
        };
        if !self.traces.is_empty() {
            let (route, plugin) = (stage.route, stage.plugin);
            for item in &items {
                self.trace_verdict(item, route, plugin, &Verdict::Pass);
            }
        }
        if let Some(stage) = &mut self.stage {
            stage.tries = 0;
            match stage.done.is_empty() {
                true => stage.done = items,
                false => stage.done.append(&mut items),
            }
        }
    }

    fn apply(&mut self, stage: &mut Stage, item: Item, verdict: Verdict) {
        let input = item.input;
        // A failure is told with what `on_error` made of it.
        if !self.traces.is_empty() && !matches!(verdict, Verdict::Failed(_)) {
            self.trace_verdict(&item, stage.route, stage.plugin, &verdict);
        }
        match verdict {
            Verdict::Pass => stage.done.push(item),
            Verdict::Replace(body) => stage.done.push(Item { body, ..item }),
            Verdict::To(to) => stage.done.push(Item {
                to: Some(to),
                ..item
            }),
            Verdict::Drop(reason) => {
                let text = self.blame(stage, &reason);
                self.fate(input, Fate::Dropped, Code::Closed, text);
            }
            Verdict::Emit(bodies) => {
                let emitted = &mut self.emitted[input as usize];
                *emitted += bodies.len();
                if *emitted > self.limits.emissions {
                    let reason = format!("became more than {} messages", self.limits.emissions);
                    return self.dead_letter(stage, item, &reason, None);
                }
                if bodies.is_empty() {
                    let text = self.blame(stage, "emitted nothing");
                    self.fate(input, Fate::Dropped, Code::Closed, text);
                }
                let (route, plugin) = (Some(stage.route), Some(stage.plugin));
                for body in bodies {
                    let how = (false, stage.depth);
                    stage.done.push(Item {
                        input,
                        message: self.came_of(item.at(), route, plugin, how, &body),
                        body,
                        to: None,
                    });
                }
            }
            Verdict::DeadLetter(reason) => self.dead_letter(stage, item, &reason, None),
            Verdict::Reject(reason) => {
                let text = self.blame(stage, &reason);
                self.fate(input, Fate::Refused, Code::PluginRejected, text);
            }
            // The call did not count from here on; see `verdicts`.
            Verdict::Retry(_) => {}
            Verdict::Failed(failure) => self.fail_one(stage, item, &failure),
        }
    }

    /// Messages have passed all plugins of a route.
    fn arrive(&mut self, route: RouteIndex, depth: u8, items: Vec<Item>) {
        if items.is_empty() {
            // A queue that gets nothing is not reached: an empty batch for it would be refused.
            return;
        }
        let table = self.table.clone();
        let to = &table.routes()[route as usize].to;
        if let [Destination::Queue(name)] = &to[..]
            && self.traces.is_empty()
            && items.iter().all(|item| item.to.is_none())
        {
            return self.arrive_in(name, items);
        }
        let mut entries = Vec::new();
        for item in items {
            let mut is_chosen = false;
            let mut arrive_at = |destination: &Destination| {
                is_chosen = true;
                self.arrive_at(destination, route, depth, &item, &mut entries);
            };
            match &item.to {
                None => to.iter().for_each(&mut arrive_at),
                Some(indexes) => indexes
                    .iter()
                    .filter_map(|i| to.get(*i as usize))
                    .for_each(&mut arrive_at),
            }
            if !is_chosen {
                let text = "no destination chosen";
                self.trace(item.at(), route, None, "drop", |_| text.to_owned());
                self.fate(item.input, Fate::Dropped, Code::Closed, text.to_owned());
            }
        }
        self.enqueue(depth + 1, entries);
    }

    /// The most frequent way: one queue, and all that there is goes to it.
    fn arrive_in(&mut self, name: &Arc<str>, items: Vec<Item>) {
        for item in &items {
            self.fate(item.input, Fate::Reached, Code::Closed, String::new());
        }
        let outputs = items
            .into_iter()
            .map(|Item { input, body, .. }| Output { input, body });
        self.outputs(name).extend(outputs);
    }

    fn arrive_at(
        &mut self,
        destination: &Destination,
        route: RouteIndex,
        depth: u8,
        item: &Item,
        entries: &mut Vec<(RouteIndex, Item)>,
    ) {
        self.trace(item.at(), route, None, "to", |_| destination.to_string());
        match destination {
            Destination::Drop => {
                let name = &self.table.routes()[route as usize].name;
                let text = format!("route '{name}' drops it");
                self.fate(item.input, Fate::Dropped, Code::Closed, text);
            }
            Destination::Queue(name) => {
                self.fate(item.input, Fate::Reached, Code::Closed, String::new());
                let output = Output {
                    input: item.input,
                    body: item.body.clone(),
                };
                self.outputs(name).push(output);
            }
            Destination::Topic(topic) => {
                self.reenter(Some((route, usize::MAX)), depth, item, topic, entries)
            }
        }
    }

    fn outputs(&mut self, queue: &Arc<str>) -> &mut Vec<Output> {
        let queues = &mut self.outcome.queues;
        let at = queues.iter().position(|(name, _)| name == queue);
        let at = at.unwrap_or_else(|| {
            queues.push((queue.clone(), Vec::new()));
            queues.len() - 1
        });
        &mut queues[at].1
    }

    /// What was reached outweighs what was dropped; a refusal outweighs everything.
    fn fate(&mut self, input: u32, fate: Fate, code: Code, text: String) {
        let slot = &mut self.fates[input as usize];
        let rank = |fate| match fate {
            Fate::Nothing => 0,
            Fate::Dropped => 1,
            Fate::Reached => 2,
            Fate::Dead => 3,
            Fate::Refused => 4,
            Fate::LeftOut(_) => 5,
        };
        if rank(fate) > rank(slot.0) {
            *slot = (fate, code, text);
        }
    }

    fn route_name(&self, route: RouteIndex) -> Arc<str> {
        let found = self.table.routes().get(route as usize);
        found.map_or_else(|| "".into(), |route| route.name.clone())
    }

    fn plugin_name(&self, route: RouteIndex, plugin: usize) -> Arc<str> {
        let found = self.table.routes().get(route as usize);
        match found.and_then(|route| route.through.get(plugin)) {
            Some(index) => self.table.plugins()[*index as usize].name.clone(),
            None => "".into(),
        }
    }

    fn blame(&self, stage: &Stage, reason: &str) -> String {
        let route = self.route_name(stage.route);
        match &*self.plugin_name(stage.route, stage.plugin) {
            "" => format!("route '{route}': {reason}"),
            plugin if reason.is_empty() => format!("route '{route}', plugin '{plugin}'"),
            plugin => format!("route '{route}', plugin '{plugin}': {reason}"),
        }
    }

    /// The outcome, once [`Run::step`] said done.
    pub fn finish(mut self) -> Outcome {
        // Routes ran one after the other; a publisher's order holds across them.
        for (_, outputs) in &mut self.outcome.queues {
            outputs.sort_by_key(|output| output.input);
        }
        self.outcome.live.sort_by_key(|output| output.input);
        self.outcome.dead.sort_by_key(|dead| dead.input);
        let is_out = |fate: &Fate| matches!(fate, Fate::Refused | Fate::LeftOut(_));
        let refused = |input: u32| is_out(&self.fates[input as usize].0);
        if self.fates.iter().any(|(fate, ..)| is_out(fate)) {
            for (_, outputs) in &mut self.outcome.queues {
                outputs.retain(|o| !refused(o.input));
            }
            self.outcome
                .queues
                .retain(|(_, outputs)| !outputs.is_empty());
            self.outcome.live.retain(|o| !refused(o.input));
            self.outcome.dead.retain(|d| !refused(d.input));
        }
        for (input, (fate, code, text)) in self.fates.into_iter().enumerate() {
            let (kind, code) = match fate {
                Fate::Reached => continue,
                Fate::Nothing => (ExceptionKind::Unroutable, Code::Unroutable),
                Fate::Dropped => (ExceptionKind::Dropped, code),
                Fate::Dead => (ExceptionKind::DeadLettered, code),
                Fate::Refused => (ExceptionKind::Refused, code),
                Fate::LeftOut(kind) => (kind, code),
            };
            self.outcome
                .exceptions
                .push((input as u32, kind, code, text));
        }
        self.outcome.traces = self.traces;
        self.outcome
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
