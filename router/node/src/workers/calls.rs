//! One call of a plugin: its instance, its breaker, what it costs.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use waypost_core::breaker::Admit;
use waypost_core::pipeline::{Failure, Item, Verdict};
use waypost_core::route::{Destination, PluginIndex};
use waypost_core::state::Mark;
use waypost_host::{CallErrorKind, Effects, Instance, MessageRef, Plugin, State};
use waypost_wire::{Code, RecordRef};

use super::serial::{Lent, States};
use super::translate::{kind, translate};
use super::{Surroundings, Work};
use crate::alarms::{AlarmKind, Alarms};
use crate::clock::{Clock, thread_cpu_ns, wall_ms};
use crate::plugins::{Pause, PluginStats};
use crate::routing::{Bound, Routing, Service};
use crate::tap::Said;

/// What came of a call.
pub(super) enum Answer {
    AllPassed,
    /// And what was published, each with the position of its cause.
    Verdicts(Vec<Verdict>, Vec<(u32, Bytes)>),
    Failed(Failure),
    /// Not now.
    Unavailable(String),
    /// It was not made: the messages meet `on_error`, or are refused.
    NotCalled(Failure),
    Refused(Code, &'static str),
    /// Ask again with a single message.
    OneByOne,
    /// Ask again after so many ms.
    Wait(u64),
    /// What these inputs cause is there already.
    LeaveOut(Vec<u32>),
}

impl Answer {
    /// Whether messages met a plugin, and not only a reason to ask again.
    pub fn is_of_a_call(&self) -> bool {
        !matches!(
            self,
            Answer::OneByOne | Answer::Wait(_) | Answer::LeaveOut(_)
        )
    }

    /// What was said of one message of the call; `to` are the destinations of its route.
    pub fn said(&self, index: usize, to: &[Destination]) -> Said {
        let (verdict, detail) = match self {
            Answer::AllPassed => ("pass", String::new()),
            Answer::Verdicts(verdicts, _) => match verdicts.get(index) {
                Some(verdict) => (verdict.word(), verdict.detail(to)),
                None => ("failed", "no verdict".to_owned()),
            },
            Answer::Failed(failure) => ("failed", format!("{}: {}", failure.kind, failure.text)),
            Answer::Unavailable(why) => ("unavailable", why.clone()),
            Answer::NotCalled(failure) => {
                ("not called", format!("{}: {}", failure.kind, failure.text))
            }
            Answer::Refused(_, why) => ("refused", (*why).to_owned()),
            Answer::OneByOne | Answer::Wait(_) | Answer::LeaveOut(_) => ("", String::new()),
        };
        let after = match self {
            Answer::Verdicts(verdicts, _) => match verdicts.get(index) {
                Some(Verdict::Replace(body)) => vec![body.clone()],
                Some(Verdict::Emit(bodies)) => bodies.clone(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        Said {
            verdict,
            detail,
            after,
        }
    }

    fn not_called(kind: &'static str, why: &str) -> Answer {
        Answer::NotCalled(Failure {
            kind,
            text: why.to_owned(),
            backtrace: None,
        })
    }

    fn failed(kind: &'static str, text: String) -> Answer {
        Answer::Failed(Failure {
            kind,
            text,
            backtrace: None,
        })
    }
}

/// The shortest time of a timer.
const TIMER_MS_MIN: u32 = 10;

/// An instance that is counted.
pub(super) struct Kept {
    instance: Instance,
    stats: Arc<PluginStats>,
    /// When it wants to be woken, on the monotonic clock.
    due: Option<u64>,
}

impl Kept {
    pub fn new(instance: Instance, bound: &Bound) -> Kept {
        let stats = bound.stats.clone();
        stats.instances.fetch_add(1, Relaxed);
        Kept {
            instance,
            stats,
            due: None,
        }
    }

    /// What the guest said of its timer.
    fn follow_timer(&mut self, now: u64) {
        if let Some(ms) = self.instance.take_timer() {
            self.due = (ms > 0).then(|| now + u64::from(ms.max(TIMER_MS_MIN)));
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stats.instances.fetch_sub(1, Relaxed);
    }
}

/// The instances of one worker.
pub(super) struct Calls {
    /// What the newest routing binds, and its version.
    current: HashSet<u64>,
    version: u64,
    /// The newest routing.
    routing: Option<Arc<Routing>>,
    /// By the id of what is bound.
    instances: HashMap<u64, Kept>,
    /// Serial plugins run here, and timers.
    is_first: bool,
    pub states: States,
    /// The slot that the last call was of, and where it began to write.
    last: Option<(Arc<str>, Mark)>,
    /// CPU time of the guest's code in the last call; where it is to be measured.
    pub cpu_ns: Option<u64>,
    clock: Clock,
    alarms: Arc<Alarms>,
    /// As [`Surroundings::troubled`].
    troubled: Arc<AtomicU64>,
}

impl Calls {
    pub fn new(is_first: bool, surroundings: &Surroundings) -> Calls {
        Calls {
            is_first,
            routing: None,
            states: States::new(surroundings.shard.clone(), surroundings.clock),
            last: None,
            cpu_ns: None,
            current: HashSet::new(),
            version: 0,
            instances: HashMap::new(),
            clock: surroundings.clock,
            alarms: surroundings.alarms.clone(),
            troubled: surroundings.troubled.clone(),
        }
    }

    /// What a guest was in the middle of is not to be gone on with.
    pub fn forget_instances(&mut self) {
        self.instances.clear();
    }

    pub fn has_instances(&self) -> bool {
        !self.instances.is_empty()
    }

    pub fn adopt(&mut self, id: u64, mut kept: Kept) {
        if self.is_first {
            kept.follow_timer(self.clock.mono_ms());
        }
        self.instances.insert(id, kept);
    }

    /// Batches come with this routing now. What wants to be woken must be there.
    pub fn retire(&mut self, routing: &Arc<Routing>) {
        self.version = routing.version;
        self.current = routing.bound.iter().map(|bound| bound.id).collect();
        self.instances.retain(|id, _| self.current.contains(id));
        self.routing = Some(routing.clone());
        for bound in routing.bound.iter() {
            if let Service::Running(plugin) = &bound.service
                && self.is_first
                && plugin.wakes()
                && let Err(error) = self.instance(bound, plugin)
            {
                bound.stats.failed(error, false);
            }
        }
    }

    /// When the first plugin is to be woken.
    pub fn next_wake(&self) -> Option<u64> {
        self.instances.values().filter_map(|kept| kept.due).min()
    }

    /// What is to be woken now, with the routing in force.
    pub fn due(&mut self, now: u64) -> Option<(Arc<Routing>, Arc<Bound>)> {
        let is_due = |kept: &Kept| kept.due.is_some_and(|due| due <= now);
        let (id, kept) = self.instances.iter_mut().find(|(_, kept)| is_due(kept))?;
        kept.due = None;
        let routing = self.routing.as_ref()?;
        let bound = routing.bound.iter().find(|bound| bound.id == *id)?;
        Some((routing.clone(), bound.clone()))
    }

    /// Puts off what could not be woken.
    pub fn put_off(&mut self, id: u64, until: u64) {
        if let Some(kept) = self.instances.get_mut(&id) {
            kept.due.get_or_insert(until);
        }
    }

    /// Wakes a plugin: gives what it published.
    pub fn wake(&mut self, bound: &Bound) -> Result<Vec<Bytes>, String> {
        let Service::Running(plugin) = &bound.service else {
            return Ok(Vec::new());
        };
        if bound.guard.admit(self.clock.mono_ms()) == Admit::Refuse {
            return Err("out of service".to_owned());
        }
        self.instance(bound, plugin)?;
        let Some(kept) = self.instances.get_mut(&bound.id) else {
            return Ok(Vec::new());
        };
        self.last = None;
        let mut lent = None;
        if plugin.uses_state() {
            let limit = plugin.spec().limits.state_bytes;
            let (state, mark) = self.states.of(&bound.slot, limit)?.begin(&self.clock);
            self.last = Some((bound.slot.clone(), mark));
            lent = Some(state);
        }
        let mut effects = effects(&mut lent);
        let before = Instant::now();
        let result = kept.instance.wake(&mut effects);
        bound.stats.called(before.elapsed(), 0);
        let published = std::mem::take(&mut effects.published);
        kept.follow_timer(self.clock.mono_ms());
        let failure = match result {
            Ok(()) => match super::translate::published(published, &[]) {
                Ok(bodies) => {
                    self.tell(bound, &Answer::AllPassed);
                    return Ok(bodies.into_iter().map(|(_, body)| body).collect());
                }
                Err(failure) => failure,
            },
            Err(error) => {
                bound.stats.failed(error.to_string(), error.instance_lost);
                if error.instance_lost {
                    self.instances.remove(&bound.id);
                }
                Failure {
                    kind: kind(error.kind),
                    text: error.message,
                    backtrace: error.backtrace,
                }
            }
        };
        self.undo();
        let text = format!("{}: {}", failure.kind, failure.text);
        self.tell(bound, &Answer::Failed(failure));
        Err(text)
    }

    /// What the last call wrote does not count.
    pub fn undo(&mut self) {
        if let Some((slot, mark)) = self.last.take() {
            self.states.rollback(&slot, mark);
        }
    }

    /// Makes the instance of what is bound, where there is none.
    fn instance(&mut self, bound: &Bound, plugin: &Plugin) -> Result<(), String> {
        if self.instances.contains_key(&bound.id) {
            return Ok(());
        }
        let made = if plugin.uses_state() {
            let limit = plugin.spec().limits.state_bytes;
            let (mut lent, _) = self.states.of(&bound.slot, limit)?.begin(&self.clock);
            plugin.instantiate(Some(&mut lent))
        } else {
            plugin.instantiate(None)
        };
        let instance = made.map_err(|error| error.to_string())?;
        let mut kept = Kept::new(instance, bound);
        if self.is_first {
            kept.follow_timer(self.clock.mono_ms());
        }
        self.instances.insert(bound.id, kept);
        Ok(())
    }

    /// A batch that was on its way when its routing was replaced may have made an instance that
    /// nothing needs any more.
    pub fn forget_old(&mut self, routing: &Routing) {
        if routing.version < self.version {
            for bound in &routing.bound {
                if !self.current.contains(&bound.id) {
                    self.instances.remove(&bound.id);
                }
            }
        }
    }

    pub fn measure(&self, reply: &mpsc::Sender<(u64, u64)>) {
        for (id, kept) in &self.instances {
            // Nobody waits any more, perhaps.
            let _ = reply.send((*id, kept.instance.memory_bytes() as u64));
        }
    }

    /// Calls a plugin with messages of a batch, of which `original` is how it came.
    pub fn call(
        &mut self,
        work: &Work,
        original: &[MessageRef<'_>],
        index: PluginIndex,
        items: &[Item],
    ) -> Answer {
        let Some(bound) = work.routing.bound.get(index as usize) else {
            return Answer::failed("internal", "the plugin is not loaded".to_owned());
        };
        let plugin = match &bound.service {
            Service::Running(plugin) => plugin,
            Service::Paused(Pause::OnError) => return Answer::not_called("paused", "by a person"),
            Service::Paused(Pause::Hold) => {
                return Answer::Refused(Code::PluginUnavailable, "paused by a person");
            }
            Service::Down(why) => return Answer::not_called("down", why),
        };
        match bound.guard.admit(self.clock.mono_ms()) {
            Admit::Call => {}
            // What is only tried leaves the one probe to a message that counts.
            Admit::Probe if work.is_dry => bound.guard.put_back_probe(),
            Admit::Probe if items.len() > 1 => {
                // The breaker gives one probe: it is for the single message that follows.
                bound.guard.put_back_probe();
                return Answer::OneByOne;
            }
            Admit::Probe => {}
            Admit::Refuse => {
                let why = bound.stats.last_error().unwrap_or_default();
                return Answer::not_called("out of service", &why);
            }
        }
        if !work.is_dry
            && let Err(spent) = plugin.admit(Instant::now())
        {
            return Answer::Wait(spent.wait.as_millis() as u64);
        }
        let again = self.there_already(bound, plugin, work, items);
        if !again.is_empty() {
            return Answer::LeaveOut(again);
        }
        let answer = self.call_instance(bound, plugin, work, original, items);
        // What is only tried says nothing of how it serves.
        if !work.is_dry {
            self.tell(bound, &answer);
        }
        answer
    }

    /// Inputs of which a plugin's state holds the effects: their producer sends them again.
    fn there_already(
        &mut self,
        bound: &Bound,
        plugin: &Plugin,
        work: &Work,
        items: &[Item],
    ) -> Vec<u32> {
        let Some(stamp) = work.done.stamp().filter(|_| plugin.uses_state()) else {
            return Vec::new();
        };
        let limit = plugin.spec().limits.state_bytes;
        if self.states.of(&bound.slot, limit).is_err() {
            return Vec::new();
        }
        let Some(known) = self.states.known(&bound.slot, stamp.producer) else {
            return Vec::new();
        };
        let number = |input: u32| stamp.sequences.get(input as usize).copied();
        let inputs = items.iter().map(|item| item.input);
        let mut again: Vec<u32> = inputs
            .filter(|input| number(*input).is_some_and(|number| number <= known))
            .collect();
        again.dedup();
        again
    }

    /// Keeps the breaker, and what people see of it.
    fn tell(&self, bound: &Bound, answer: &Answer) {
        let kind = AlarmKind::PluginOutOfService;
        let failure = match answer {
            Answer::Failed(failure) => Some(failure),
            Answer::Verdicts(verdicts, _) => all_failed(verdicts),
            _ => None,
        };
        match (failure, answer) {
            (Some(failure), _) if bound.guard.failed(self.clock.mono_ms()) => {
                let text = format!(
                    "it failed too often, last with {}: {}; its messages meet on_error until one \
                     that is tried passes",
                    failure.kind, failure.text
                );
                self.alarms.raise(kind, &bound.slot, text, wall_ms());
            }
            (None, Answer::AllPassed | Answer::Verdicts(..)) if bound.guard.passed() => {
                self.alarms.clear(kind, &bound.slot);
            }
            _ => {}
        }
    }

    /// A call failed: others waited for it, as far as this thread worked for it. A machine that
    /// stalls is nobody's fault.
    fn charge(&self, bound: &Bound, work: &Work, began: u64) {
        let took = Duration::from_nanos(thread_cpu_ns().saturating_sub(began));
        if !work.is_dry
            && let Some(until) = bound.guard.took(self.clock.mono_ms(), took)
        {
            self.troubled.fetch_max(until, Relaxed);
        }
    }

    fn call_instance(
        &mut self,
        bound: &Bound,
        plugin: &Plugin,
        work: &Work,
        original: &[MessageRef<'_>],
        items: &[Item],
    ) -> Answer {
        let stats = &bound.stats;
        self.last = None;
        // A new instance is a part of what a call costs: after a trap each needs one.
        let began = thread_cpu_ns();
        if let Err(error) = self.instance(bound, plugin) {
            stats.failed(error.as_str(), false);
            self.charge(bound, work, began);
            return Answer::failed("start", error);
        }
        let Some(kept) = self.instances.get_mut(&bound.id) else {
            return Answer::failed("internal", "the instance is gone".to_owned());
        };
        let parsed: Vec<MessageRef<'_>>;
        let batch = match unchanged(items, original) {
            Some(batch) => batch,
            None => {
                let bodies = items.iter().map(|item| &*item.body);
                parsed = parse(bodies, work.receive_time_ms);
                &parsed
            }
        };
        if batch.len() != items.len() {
            return Answer::failed("record", "a record of the batch does not parse".to_owned());
        }
        let mut lent = None;
        if plugin.uses_state() {
            match self
                .states
                .of(&bound.slot, plugin.spec().limits.state_bytes)
            {
                Ok(state) => {
                    let (state, mark) = state.begin_batch(&self.clock);
                    self.last = Some((bound.slot.clone(), mark));
                    lent = Some(state);
                }
                Err(why) => return Answer::Unavailable(format!("its state: {why}")),
            }
        }
        let mut effects = effects(&mut lent);
        let (before, entered) = (Instant::now(), self.cpu_ns.map(|_| thread_cpu_ns()));
        let result = kept.instance.call(batch, &mut effects);
        self.cpu_ns = entered.map(|entered| thread_cpu_ns().saturating_sub(entered));
        stats.called(before.elapsed(), items.len() as u64);
        let published = std::mem::take(&mut effects.published);
        if work.is_dry {
            let _ = kept.instance.take_timer();
        } else if plugin.wakes() && self.is_first {
            kept.follow_timer(self.clock.mono_ms());
        }
        let answer = match result {
            Ok(verdicts) => match super::translate::published(published, batch) {
                Ok(published) if verdicts.all_pass() && published.is_empty() => {
                    return Answer::AllPassed;
                }
                Ok(published) => {
                    let each = verdicts.into_iter().zip(batch);
                    let each = each.map(|(verdict, message)| translate(verdict, message));
                    let verdicts: Vec<_> = each.collect();
                    let is_failed = |verdict: &&Verdict| matches!(verdict, Verdict::Failed(_));
                    if let Some(Verdict::Failed(failure)) = verdicts.iter().find(is_failed) {
                        let text = format!("{}: {}", failure.kind, failure.text);
                        stats.failed(text, false);
                    }
                    return Answer::Verdicts(verdicts, published);
                }
                Err(failure) => Answer::Failed(failure),
            },
            Err(error) => {
                if error.kind != CallErrorKind::Unavailable {
                    stats.failed(error.to_string(), error.instance_lost);
                    self.charge(bound, work, began);
                }
                if error.instance_lost {
                    self.instances.remove(&bound.id);
                }
                match error.kind {
                    CallErrorKind::Unavailable => Answer::Unavailable(error.message),
                    other => Answer::Failed(Failure {
                        kind: kind(other),
                        text: error.message,
                        backtrace: error.backtrace,
                    }),
                }
            }
        };
        self.undo();
        answer
    }
}

/// The last failure of a call that gave nothing but failures.
fn all_failed(verdicts: &[Verdict]) -> Option<&Failure> {
    let mut last = None;
    for verdict in verdicts {
        match verdict {
            Verdict::Failed(failure) => last = Some(failure),
            _ => return None,
        }
    }
    last
}

/// What a call may touch: the state that was lent for it, if one was.
pub(super) fn effects<'a>(lent: &'a mut Option<Lent<'_>>) -> Effects<'a> {
    Effects {
        state: lent.as_mut().map(|lent| lent as &mut dyn State),
        published: Vec::new(),
    }
}

/// Parses bodies up to the first that is no record; admission and the host let none through.
pub(super) fn parse<'a>(
    bodies: impl Iterator<Item = &'a [u8]>,
    received: u64,
) -> Vec<MessageRef<'a>> {
    bodies
        .map_while(|body| RecordRef::parse(body).ok())
        .map(|record| MessageRef::new(record, received))
        .collect()
}

/// The part of the batch as it came that these items are, if they are one and nothing changed them.
fn unchanged<'a, 'b>(
    items: &[Item],
    original: &'a [MessageRef<'b>],
) -> Option<&'a [MessageRef<'b>]> {
    let first = items.first()?.input as usize;
    let part = original.get(first..first + items.len())?;
    let is_same = |(index, (item, message)): (usize, (&Item, &MessageRef<'_>))| {
        item.input as usize == first + index && std::ptr::eq(&*item.body, message.record.body())
    };
    let mut pairs = items.iter().zip(part).enumerate();
    pairs.all(is_same).then_some(part)
}
