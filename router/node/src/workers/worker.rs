//! A worker's thread: runs batches, and keeps those that wait for a plugin.
//!
//! Invariants: batches of one lane leave in the order in which they came, whatever waits; a batch
//! that waits holds up its own lane and no other; every batch has an outcome, unless the node
//! stops. What waits is bounded by the windows of the publishers whose it is.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use waypost_core::pipeline::{Failure, Outcome, Run, Step};
use waypost_core::route::Destination;
use waypost_shard::Stamp;
use waypost_wire::Code;
use waypost_wire::data::ExceptionKind;

use super::apart::{Away, Place, Where};
use super::calls::{Answer, Calls, parse};
use super::{Surroundings, Task, Work, shadow};
use crate::mailbox::Inbox;

/// A batch under way.
pub(super) struct Active {
    pub work: Work,
    pub run: Run,
    /// How often it began anew, because what it had written must not wait with it.
    pub restarts: u32,
    /// The slots with state that it came to before it had to wait.
    touched: Vec<Arc<str>>,
    /// It came from another worker, which waits for it.
    pub away: Option<Away>,
}

impl Active {
    fn new(work: Work, surroundings: &Surroundings) -> Active {
        let run = new_run(&work, surroundings);
        Active::with(work, run)
    }

    /// A batch that is to go this way.
    pub fn with(work: Work, run: Run) -> Active {
        Active {
            work,
            run,
            restarts: 0,
            touched: Vec::new(),
            away: None,
        }
    }
}

/// The worker apart lets go of its instances when it had nothing to do for so long.
const APART_IDLE: Duration = Duration::from_secs(30);
/// A batch that began anew so often meets the plugin's `on_error` where it would again.
const RESTARTS_MAX: u32 = 20;
/// The longest pause of such a batch, in ms.
const RESTART_PAUSE_MS_MAX: u64 = 30_000;

/// A lane whose first batch waits: for a plugin, or for those before it that are elsewhere.
struct Held {
    due: u64,
    /// For those that are elsewhere.
    is_for_others: bool,
    active: Active,
    behind: VecDeque<Behind>,
}

/// What comes after a batch that waits.
pub(super) enum Behind {
    Work(Work),
    /// From another worker.
    Apart(Box<Active>),
}

impl Behind {
    fn active(self, surroundings: &Surroundings) -> Active {
        match self {
            Behind::Work(work) => Active::new(work, surroundings),
            Behind::Apart(active) => *active,
        }
    }

    fn lane(&self) -> u64 {
        match self {
            Behind::Work(work) => work.lane,
            Behind::Apart(active) => active.work.lane,
        }
    }
}

enum Progress {
    Done(Outcome),
    /// A plugin is to be called later.
    Hold(u64),
    /// Those before it must be done.
    Wait(u64),
    /// It is for the worker apart from here on.
    Leave,
    /// The node ends.
    GiveUp,
}

pub(super) struct Worker {
    pub(super) surroundings: Surroundings,
    pub(super) calls: Calls,
    place: Place,
    held: HashMap<u64, Held>,
    /// When the first batch of which lane goes on, on the monotonic clock.
    due: BTreeSet<(u64, u64)>,
}

impl Worker {
    pub fn new(is_first: bool, place: Place, surroundings: Surroundings) -> Worker {
        Worker {
            calls: Calls::new(is_first, &surroundings),
            place,
            surroundings,
            held: HashMap::new(),
            due: BTreeSet::new(),
        }
    }

    pub fn run(&mut self, inbox: &Inbox<Task>) {
        let mut tasks = Vec::new();
        self.place.enter();
        loop {
            inbox.take(&mut tasks, self.patience());
            if tasks.is_empty() && self.held.is_empty() && self.place.is_apart() {
                // Whoever misbehaved is elsewhere again.
                self.calls.forget_instances();
            }
            for task in tasks.drain(..) {
                match task {
                    Task::Work(work) => self.take(Behind::Work(work)),
                    Task::Apart(mut active, away) => {
                        active.away = Some(away);
                        self.take(Behind::Apart(active));
                    }
                    Task::Back(lane) => self.back(lane),
                    Task::Adopt(id, kept) => self.calls.adopt(id, kept),
                    Task::Retire(routing) => self.calls.retire(&routing),
                    Task::Measure(reply) => self.calls.measure(&reply),
                    Task::Stop => return,
                }
            }
            self.go_on();
            self.wake();
        }
    }

    /// How long nothing is due.
    fn patience(&self) -> Option<Duration> {
        let held = self.due.first().map(|(at, _)| *at);
        let at = held.into_iter().chain(self.calls.next_wake()).min();
        let Some(at) = at else {
            let is_full = self.place.is_apart() && self.calls.has_instances();
            return is_full.then_some(APART_IDLE);
        };
        let now = self.surroundings.clock.mono_ms();
        Some(Duration::from_millis(at.saturating_sub(now)))
    }

    fn take(&mut self, next: Behind) {
        if let Some(held) = self.held.get_mut(&next.lane()) {
            return held.behind.push_back(next);
        }
        let active = next.active(&self.surroundings);
        self.drive(active, VecDeque::new());
    }

    /// Whether a batch of this lane waits.
    pub(super) fn is_held(&self, lane: u64) -> bool {
        self.held.contains_key(&lane)
    }

    /// Runs a batch of a lane in which nothing waits, and then those behind it.
    pub(super) fn drive(&mut self, mut active: Active, mut behind: VecDeque<Behind>) {
        loop {
            let now = || self.surroundings.clock.mono_ms();
            let progress = match self.place.of(&active.work, now) {
                Where::Here => self.guarded(&mut active),
                Where::Apart => Progress::Leave,
                Where::Later(ms) => Progress::Wait(ms),
            };
            match progress {
                Progress::GiveUp => return,
                Progress::Leave => {
                    self.calls.forget_old(&active.work.routing);
                    self.place.send(active);
                }
                Progress::Hold(ms) | Progress::Wait(ms) => {
                    let lane = active.work.lane;
                    let due = self.surroundings.clock.mono_ms().saturating_add(ms);
                    self.due.insert((due, lane));
                    let held = Held {
                        due,
                        is_for_others: matches!(progress, Progress::Wait(_)),
                        active,
                        behind,
                    };
                    self.held.insert(lane, held);
                    return;
                }
                Progress::Done(outcome) => {
                    self.calls.forget_old(&active.work.routing);
                    self.finish(active.work, outcome);
                    // Only now may the next of its lane go its way elsewhere.
                    drop(active.away);
                }
            }
            let Some(next) = behind.pop_front() else {
                return;
            };
            active = next.active(&self.surroundings);
        }
    }

    /// Hands over what became of a batch. What it wrote to states goes with it, and counts when
    /// the shard has taken it: until then nothing else is called that could see it.
    fn finish(&mut self, work: Work, outcome: Outcome) {
        if work.is_dry {
            self.calls.states.discard();
            return work.done.finish(outcome, Vec::new(), None);
        }
        if self.surroundings.taps.is_active() {
            self.surroundings
                .taps
                .reentered(&work.routing, &outcome.live);
        }
        let stamp = work.done.stamp();
        let last = work.slab.count().saturating_sub(1);
        let highest = |stamp: &Stamp| {
            let numbers = stamp.sequences.iter().enumerate();
            let highest = numbers.max_by_key(|(_, number)| **number);
            highest.map(|(input, _)| input as u32)
        };
        let input = stamp.and_then(highest).unwrap_or(last);
        let producer = stamp.map(|stamp| stamp.producer);
        let own = self.calls.states.parts(input, producer);
        if own.is_empty() {
            return work.done.finish(outcome, own, None);
        }
        let (said, taken) = mpsc::sync_channel(1);
        let taken_by = Box::new(move |is_taken| {
            // This thread waits for it.
            let _ = said.send(is_taken);
        });
        work.done.finish(outcome, own, Some(taken_by));
        // A shard that has ended takes nothing.
        let is_taken = taken.recv().unwrap_or(false);
        self.calls.states.settle(is_taken);
    }

    /// A lane that waits for those of its batches that were apart need not any longer.
    fn back(&mut self, lane: u64) {
        self.place.back(lane);
        if self.held.get(&lane).is_some_and(|held| held.is_for_others)
            && let Some(held) = self.held.remove(&lane)
        {
            self.due.remove(&(held.due, lane));
            self.drive(held.active, held.behind);
        }
    }

    /// Goes on with the lanes whose pause is over.
    fn go_on(&mut self) {
        if self.due.is_empty() {
            return;
        }
        let now = self.surroundings.clock.mono_ms();
        while let Some(&(at, lane)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            if let Some(held) = self.held.remove(&lane) {
                debug_assert_eq!(held.due, at);
                self.drive(held.active, held.behind);
            }
        }
    }

    /// Whatever happens, the batch has an outcome: its publisher waits for it.
    fn guarded(&mut self, active: &mut Active) -> Progress {
        let count = active.work.slab.count();
        let work = AssertUnwindSafe(|| self.work(active));
        std::panic::catch_unwind(work).unwrap_or_else(|_| {
            self.calls.forget_instances();
            self.calls.states.discard();
            let text = "the plugin worker failed";
            Progress::Done(Outcome::refused(count, Code::Internal, text))
        })
    }

    /// Runs a batch until it is done or must wait.
    fn work(&mut self, active: &mut Active) -> Progress {
        let Active {
            work,
            run,
            restarts,
            touched,
            ..
        } = active;
        self.calls.states.resume(std::mem::take(touched));
        // The batch as it came, parsed once: most plugins change little or nothing.
        let mut original = Vec::new();
        loop {
            let is_traced = run.is_traced();
            self.calls.cpu_ns = is_traced.then_some(0);
            // For the shadow of the version that is called, if the call counts.
            let mut offered = None;
            let answer = match run.step() {
                Step::Done => break,
                Step::Hold { .. } if work.is_dry => {
                    run.not_called(&later());
                    continue;
                }
                Step::Hold { ms } if self.calls.states.is_dirty() => {
                    if *restarts >= RESTARTS_MAX {
                        run.not_called(&later());
                        continue;
                    }
                    // What it wrote must not be seen by others while it waits: all of it is done
                    // again, from the beginning.
                    self.calls.states.discard();
                    let doubled = 100u64 << (*restarts).min(16);
                    *restarts += 1;
                    *run = new_run(work, &self.surroundings);
                    return Progress::Hold(ms.max(doubled.min(RESTART_PAUSE_MS_MAX)));
                }
                Step::Hold { ms } => {
                    *touched = self.calls.states.pause();
                    return Progress::Hold(ms);
                }
                Step::Call {
                    plugin,
                    route,
                    items,
                } => {
                    if original.is_empty() {
                        original = parse(work.slab.iter(), work.receive_time_ms);
                    }
                    let bound = work.routing.bound.get(plugin as usize);
                    if self.place.is_apart() && self.surroundings.stopping.load(Relaxed) {
                        return Progress::GiveUp;
                    }
                    let now = || self.surroundings.clock.mono_ms();
                    if bound.is_some_and(|bound| self.place.leaves(work, bound, now)) {
                        return Progress::Leave;
                    }
                    // Most slots have no shadow, and most calls are not for it.
                    let shadowed = bound.filter(|b| b.shadow.samples() && !work.is_dry);
                    self.calls.cpu_ns = (is_traced || shadowed.is_some()).then_some(0);
                    let answer = self.calls.call(work, &original, plugin, items);
                    if let Some(bound) = shadowed {
                        let (place, cpu_ns) = ((route, plugin), self.calls.cpu_ns.unwrap_or(0));
                        offered = shadow::job(bound, work, place, items, &answer, cpu_ns);
                    }
                    let taps = &self.surroundings.taps;
                    if taps.is_active() && !work.is_dry && answer.is_of_a_call() {
                        let said = |index: usize, to: &[Destination]| answer.said(index, to);
                        taps.called(&work.routing, (route, plugin), items, said);
                    }
                    answer
                }
            };
            if is_traced {
                run.took(self.calls.cpu_ns.unwrap_or(0));
            }
            match answer {
                Answer::AllPassed => run.all_passed(),
                Answer::Verdicts(verdicts, published) => {
                    if !run.verdicts(verdicts, published) {
                        self.calls.undo();
                        offered = None;
                    }
                }
                Answer::Failed(failure) => run.failed(failure),
                Answer::Unavailable(why) => run.unavailable(&why),
                Answer::NotCalled(failure) => run.not_called(&failure),
                Answer::Refused(code, why) => run.refused(code, why),
                Answer::OneByOne => run.one_by_one(),
                Answer::Wait(ms) => run.wait(ms),
                Answer::LeaveOut(inputs) => {
                    run.leave_out(&inputs, ExceptionKind::Duplicate, "taken before");
                }
            }
            if let Some((bound, job)) = offered {
                bound.shadow.offer(job);
            }
        }
        let placeholder = Run::of_published(work.routing.table.clone(), self.limits(), Vec::new());
        Progress::Done(std::mem::replace(run, placeholder).finish())
    }

    fn limits(&self) -> waypost_core::limits::Limits {
        self.surroundings.limits.clone()
    }
}

fn later() -> Failure {
    Failure {
        kind: "retry",
        text: "asked to be called later".to_owned(),
        backtrace: None,
    }
}

fn new_run(work: &Work, surroundings: &Surroundings) -> Run {
    let inputs = work.slab.bodies().enumerate().map(|(index, body)| {
        let input = work.inputs.get(index);
        let routes = input.map_or(&[][..], |input| &input.routes);
        (body, routes, input.is_some_and(|input| input.is_live))
    });
    let (table, limits) = (work.routing.table.clone(), surroundings.limits.clone());
    Run::new(table, limits, inputs, &work.traced)
}
