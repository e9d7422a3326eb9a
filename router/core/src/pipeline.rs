//! A batch's way through routes and plugins, as a conversation: [`Run::step`] says which plugin is
//! to be called with which messages, the caller calls it and tells the verdicts or the failure,
//! until the outcome is there. Nothing is called from here.
//!
//! A plugin may ask for a message to be tried again later: the run then says [`Step::Hold`], and
//! goes on with that message when it is asked again, so that nothing of the batch overtakes it.
//!
//! Invariants: what comes out for a queue stands in the order of the input, whatever routes led
//! there, and within one message in the order of its routes; a message that is refused leaves nothing behind; a plugin that fails hurts only the
//! messages on which it fails: a failed call is split in halves until the culprit stands alone.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use waypost_wire::data::{Exception, ExceptionKind};
use waypost_wire::{Code, Message, RecordRef};

use crate::limits::Limits;
use crate::route::{Destination, OnError, PluginIndex, RouteIndex, RouteTable};

/// A message on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Which message of the batch it came from.
    pub input: u32,
    /// Its body.
    pub body: Bytes,
    /// What a route plugin chose, as indexes into the route's destinations.
    to: Option<Vec<u32>>,
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
    /// Call this plugin with these messages, then [`Run::verdicts`] or [`Run::failed`].
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
    /// Take the outcome with [`Run::finish`].
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
    /// What was decided, where it was asked for.
    pub trace: Vec<Trace>,
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

/// One decision about one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Which message of the batch.
    pub input: u32,
    /// On which route.
    pub route: Arc<str>,
    /// By which plugin; none for the route's own destinations.
    pub plugin: Option<Arc<str>>,
    /// A word such as `pass`.
    pub verdict: &'static str,
    /// Why, or where to.
    pub detail: String,
    /// How long the call took that this was decided in, in ns; 0 where no plugin was called.
    pub ns: u64,
}

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

/// Failed calls of one stage after which messages go one by one: twice what it takes to find one
/// culprit among 256, so that many culprits do not cost a split each.
const SPLITS_MAX: u32 = 16;

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
    traced: bool,
    call_ns: u64,
    hold: Option<u64>,
}

impl Run {
    /// Begins with the bodies of a batch, and for each the routes that its topic takes. `live` says
    /// whether its own topic has live subscribers, which the caller serves.
    pub fn new<'a>(
        table: Arc<RouteTable>,
        limits: Limits,
        inputs: impl IntoIterator<Item = (Bytes, &'a [RouteIndex], bool)>,
        traced: bool,
    ) -> Run {
        let mut run = Run::empty(table, limits, traced);
        let mut entries = Vec::new();
        for (index, (body, routes, live)) in inputs.into_iter().enumerate() {
            let fate = if live { Fate::Reached } else { Fate::Nothing };
            run.fates.push((fate, Code::Closed, String::new()));
            run.emitted.push(0);
            let item = Item {
                input: index as u32,
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

    /// Begins with what a plugin published without a message that caused it. All of it counts as
    /// one input.
    pub fn of_published(table: Arc<RouteTable>, limits: Limits, bodies: Vec<Bytes>) -> Run {
        let mut run = Run::empty(table, limits, false);
        run.fates.push((Fate::Reached, Code::Closed, String::new()));
        run.emitted.push(0);
        let published = bodies.into_iter().map(|body| (0, body)).collect();
        run.reenter_published(None, 0, published);
        run
    }

    fn empty(table: Arc<RouteTable>, limits: Limits, traced: bool) -> Run {
        Run {
            table,
            limits,
            waiting: VecDeque::new(),
            stage: None,
            emitted: Vec::new(),
            fates: Vec::new(),
            outcome: Outcome::default(),
            traced,
            call_ns: 0,
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

    /// How long the call took that is answered next; for the trace.
    pub fn took(&mut self, ns: u64) {
        self.call_ns = ns;
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
        let causes: Vec<u32> = published
            .iter()
            .filter_map(|(cause, _)| items.get(*cause as usize).or(items.first()))
            .map(|item| item.input)
            .collect();
        for (item, verdict) in items.into_iter().zip(verdicts) {
            self.apply(&mut stage, item, verdict);
        }
        let (route, depth) = (stage.route, stage.depth);
        self.stage = Some(stage);
        let bodies = published.into_iter().map(|(_, body)| body);
        self.reenter_published(Some(route), depth, causes.into_iter().zip(bodies).collect());
        true
    }

    /// What plugins published, by the inputs that caused it.
    fn reenter_published(
        &mut self,
        route: Option<RouteIndex>,
        depth: u8,
        published: Vec<(u32, Bytes)>,
    ) {
        let mut entries = Vec::new();
        for (input, body) in published {
            let Ok(record) = RecordRef::parse(&body) else {
                continue;
            };
            let topic: Arc<str> = record.topic().into();
            let item = Item {
                input,
                body,
                to: None,
            };
            self.reenter(route, depth, &item, &topic, &mut entries);
        }
        self.enqueue(depth + 1, entries);
    }

    /// The first message that waits is to be tried again, or meets `on_error` when it was tried too
    /// often.
    fn retry(&mut self, mut stage: Stage, asked_ms: u64) {
        if self.tries_again(&mut stage, asked_ms) {
            self.stage = Some(stage);
            return;
        }
        let failure = Failure {
            kind: "retry",
            text: format!("asked to be called later, {} times", stage.tries),
            backtrace: None,
        };
        stage.tries = 0;
        if let Some(mut items) = stage.parts.pop_front() {
            let rest = items.split_off(1.min(items.len()));
            if !rest.is_empty() {
                stage.parts.push_front(rest);
            }
            for item in items {
                self.fail_one(&mut stage, item, &failure);
            }
        }
        self.stage = Some(stage);
    }

    /// Whether there is one more attempt; then the run is held.
    fn tries_again(&mut self, stage: &mut Stage, asked_ms: u64) -> bool {
        let retry = self.plugin_of(stage).retry;
        stage.tries += 1;
        let is_left = stage.tries <= retry.attempts;
        if is_left {
            self.hold = Some(retry.pause(stage.tries, asked_ms));
        }
        is_left
    }

    /// The plugin lacks something that may be there later: the same call is to be made again. When
    /// that was done too often, the call has failed and is split: some messages may not need it.
    pub fn unavailable(&mut self, why: &str) {
        let Some(mut stage) = self.stage.take() else {
            return;
        };
        if !stage.gave_up && self.tries_again(&mut stage, 0) {
            self.stage = Some(stage);
            return;
        }
        stage.gave_up = true;
        let times = self.plugin_of(&stage).retry.attempts + 1;
        self.stage = Some(stage);
        let why = if why.is_empty() {
            "something is missing"
        } else {
            why
        };
        self.failed(Failure {
            kind: "unavailable",
            text: format!("{why}, {times} times"),
            backtrace: None,
        });
    }

    /// Only the first message of the next call is wanted; the others make a call of their own.
    pub fn one_by_one(&mut self) {
        if let Some(stage) = &mut self.stage
            && let Some(first) = stage.parts.front_mut()
            && first.len() > 1
        {
            let rest = first.split_off(1);
            stage.parts.insert(1, rest);
        }
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
        if self.traced {
            let (route, plugin) = (stage.route, stage.plugin);
            for item in &items {
                self.trace(item.input, route, Some(plugin), "pass", String::new());
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
        let (input, at) = (item.input, Some(stage.plugin));
        let word = match &verdict {
            Verdict::Pass => "pass",
            Verdict::Drop(_) => "drop",
            Verdict::Replace(_) => "edit",
            Verdict::Emit(_) => "emit",
            Verdict::To(_) => "to",
            Verdict::DeadLetter(_) => "dead-letter",
            Verdict::Reject(_) => "reject",
            Verdict::Retry(_) => "retry",
            Verdict::Failed(_) => "failed",
        };
        if self.traced {
            let detail = self.detail(stage.route, &verdict);
            self.trace(input, stage.route, at, word, detail);
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
                stage.done.extend(bodies.into_iter().map(|body| Item {
                    input,
                    body,
                    to: None,
                }));
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

    /// The call failed. It is split, or its only message meets the plugin's `on_error`.
    pub fn failed(&mut self, failure: Failure) {
        let Some(mut stage) = self.stage.take() else {
            return;
        };
        let Some(mut items) = stage.parts.pop_front() else {
            return;
        };
        stage.tries = 0;
        if items.len() > 1 {
            stage.splits += 1;
            if stage.splits > SPLITS_MAX {
                let alone = items.into_iter().rev().map(|item| vec![item]);
                alone.for_each(|part| stage.parts.push_front(part));
            } else {
                let second = items.split_off(items.len() / 2);
                stage.parts.push_front(second);
                stage.parts.push_front(items);
            }
            self.stage = Some(stage);
            return;
        }
        for item in items {
            self.fail_one(&mut stage, item, &failure);
        }
        self.stage = Some(stage);
    }

    /// The call is not made now, for no fault of a message: it is made after so many ms.
    pub fn wait(&mut self, ms: u64) {
        self.hold = Some(ms.max(1));
    }

    /// The plugin is not called: each message of the call meets `on_error`.
    pub fn not_called(&mut self, failure: &Failure) {
        let Some(mut stage) = self.stage.take() else {
            return;
        };
        for item in stage.parts.pop_front().unwrap_or_default() {
            self.fail_one(&mut stage, item, failure);
        }
        self.stage = Some(stage);
    }

    /// The plugin is not called: each message of the call is refused.
    pub fn refused(&mut self, code: Code, why: &str) {
        let Some(mut stage) = self.stage.take() else {
            return;
        };
        let text = self.blame(&stage, why);
        for item in stage.parts.pop_front().unwrap_or_default() {
            let (route, at) = (stage.route, Some(stage.plugin));
            self.trace(item.input, route, at, "refused", why.to_owned());
            self.fate(item.input, Fate::Refused, code, text.clone());
        }
        self.stage = Some(stage);
    }

    /// What `on_error` says of a message on which the plugin failed.
    fn fail_one(&mut self, stage: &mut Stage, item: Item, failure: &Failure) {
        let plugin = self.table.routes()[stage.route as usize].through[stage.plugin];
        let reason = format!("{}: {}", failure.kind, failure.text);
        let (route, at) = (stage.route, Some(stage.plugin));
        match self.table.plugins()[plugin as usize].on_error {
            OnError::DeadLetter => {
                self.dead_letter(stage, item, &reason, failure.backtrace.as_deref())
            }
            OnError::Pass => {
                self.trace(item.input, route, at, "failed, passed", reason);
                stage.done.push(item);
            }
            OnError::Reject => {
                let text = self.blame(stage, &reason);
                self.trace(item.input, route, at, "failed, rejected", reason);
                self.fate(item.input, Fate::Refused, Code::PluginFailed, text);
            }
        }
    }

    fn dead_letter(&mut self, stage: &Stage, item: Item, reason: &str, backtrace: Option<&str>) {
        let route = self.route_name(stage.route);
        let plugin = self.plugin_name(stage.route, stage.plugin);
        let text = self.blame(stage, reason);
        let mut reasons = vec![
            ("waypost-dead-route", &*route),
            ("waypost-dead-reason", reason),
        ];
        reasons.push(("waypost-dead-plugin", &plugin));
        reasons.extend(backtrace.map(|b| ("waypost-dead-backtrace", b)));
        let body = with_reasons(&item.body, &reasons);
        self.trace(
            item.input,
            stage.route,
            Some(stage.plugin),
            "dead-letter",
            reason.to_owned(),
        );
        self.fate(item.input, Fate::Dead, Code::PluginFailed, text.clone());
        self.outcome.dead.push(DeadLetter {
            input: item.input,
            body,
            reason: text,
        });
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
            && !self.traced
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
                let text = "no destination chosen".into();
                self.fate(item.input, Fate::Dropped, Code::Closed, text);
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
        if self.traced {
            self.trace(item.input, route, None, "to", destination.to_string());
        }
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
            Destination::Topic(topic) => self.reenter(Some(route), depth, item, topic, entries),
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

    fn reenter(
        &mut self,
        route: Option<RouteIndex>,
        depth: u8,
        item: &Item,
        topic: &Arc<str>,
        entries: &mut Vec<(RouteIndex, Item)>,
    ) {
        let emitted = &mut self.emitted[item.input as usize];
        *emitted += 1;
        let (emitted, emissions) = (*emitted, self.limits.emissions);
        if depth >= self.limits.reentries {
            let times = self.limits.reentries;
            let reason = format!("re-entered routing more than {times} times, last as '{topic}'");
            return self.end_loop(route, depth, item, &reason);
        }
        if emitted > emissions {
            // Told once; what else this message would have become is the same story.
            if emitted == emissions + 1 {
                let reason = format!("became more than {emissions} messages, last as '{topic}'");
                self.end_loop(route, depth, item, &reason);
            }
            return;
        }
        let Some(body) = with_topic(&item.body, topic) else {
            return;
        };
        self.fate(item.input, Fate::Reached, Code::Closed, String::new());
        self.outcome.live.push(Output {
            input: item.input,
            body: body.clone(),
        });
        let item = Item {
            input: item.input,
            body,
            to: None,
        };
        entries.extend(
            self.table
                .matching(topic)
                .into_iter()
                .map(|r| (r, item.clone())),
        );
    }

    fn end_loop(&mut self, route: Option<RouteIndex>, depth: u8, item: &Item, reason: &str) {
        // What was published without a route ends where the route of its loop would.
        let stage = Stage::new(route.unwrap_or(RouteIndex::MAX), usize::MAX, depth);
        let before = self.fates[item.input as usize].0;
        self.dead_letter(&stage, item.clone(), reason, None);
        let fate = &mut self.fates[item.input as usize];
        if fate.0 == Fate::Dead && before != Fate::Dead {
            // It is the configuration's fault and no plugin's.
            fate.1 = Code::Loop;
        }
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

    fn detail(&self, route: RouteIndex, verdict: &Verdict) -> String {
        match verdict {
            Verdict::Pass => String::new(),
            Verdict::Drop(text) | Verdict::DeadLetter(text) | Verdict::Reject(text) => text.clone(),
            Verdict::Failed(failure) => failure.text.clone(),
            Verdict::Retry(ms) => format!("after {ms} ms"),
            Verdict::Replace(body) => format!("{} bytes", body.len()),
            Verdict::Emit(bodies) => format!("{} messages", bodies.len()),
            Verdict::To(indexes) => {
                let to = &self.table.routes()[route as usize].to;
                let names: Vec<String> = indexes
                    .iter()
                    .filter_map(|i| to.get(*i as usize))
                    .map(|d| d.to_string())
                    .collect();
                names.join(", ")
            }
        }
    }

    fn trace(
        &mut self,
        input: u32,
        route: RouteIndex,
        plugin: Option<usize>,
        verdict: &'static str,
        detail: String,
    ) {
        if !self.traced {
            return;
        }
        let plugin = plugin
            .map(|p| self.plugin_name(route, p))
            .filter(|name| !name.is_empty());
        let route = self.route_name(route);
        let ns = if plugin.is_some() { self.call_ns } else { 0 };
        self.outcome.trace.push(Trace {
            input,
            route,
            plugin,
            verdict,
            detail,
            ns,
        });
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
        self.outcome
    }
}

/// Bytes of one reason that a dead letter keeps.
const REASON_BYTES_MAX: usize = 4096;

/// A body with headers added that say why it is in the dead letters. A body that does not parse
/// (which admission rules out) is kept as it is.
pub fn with_reasons(body: &Bytes, reasons: &[(&'static str, &str)]) -> Bytes {
    let Ok(record) = RecordRef::parse(body) else {
        return body.clone();
    };
    let mut message = record.to_message();
    // It stays until somebody looks at it.
    message.not_before_ms = None;
    message.time_to_live_ms = None;
    message
        .headers
        .retain(|(name, _)| !name.starts_with("waypost-dead-"));
    // Room is made for the reasons: a dead letter must stay a valid record.
    message
        .headers
        .truncate(waypost_wire::record::HEADERS_MAX - reasons.len().min(16));
    for (name, value) in reasons.iter().filter(|(_, value)| !value.is_empty()) {
        let value = &value[..value.floor_char_boundary(REASON_BYTES_MAX)];
        message
            .headers
            .push(((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes())));
    }
    message.to_body()
}

fn with_topic(body: &Bytes, topic: &str) -> Option<Bytes> {
    let record = RecordRef::parse(body).ok()?;
    if record.topic() == topic {
        return Some(body.clone());
    }
    Some(
        Message {
            topic: topic.to_owned(),
            ..record.to_message()
        }
        .to_body(),
    )
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
