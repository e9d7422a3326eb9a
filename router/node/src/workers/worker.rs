//! A worker's thread: runs batches, and keeps those that wait for a plugin.
//!
//! Invariants: batches of one lane leave in the order in which they came, whatever waits; a batch
//! that waits holds up its own lane and no other; every batch has an outcome, unless the node
//! stops. What waits is bounded by the windows of the publishers whose it is.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use waypost_core::pipeline::{Failure, Outcome, Run, Step};
use waypost_wire::Code;

use super::calls::{Answer, Calls, parse};
use super::{Surroundings, Task, Work};
use crate::mailbox::Inbox;

/// A batch under way.
struct Active {
    work: Work,
    run: Run,
}

/// A lane whose first batch waits for a plugin.
struct Held {
    due: u64,
    active: Active,
    behind: VecDeque<Work>,
}

enum Progress {
    Done(Outcome),
    Hold(u64),
}

pub(super) struct Worker {
    surroundings: Surroundings,
    calls: Calls,
    held: HashMap<u64, Held>,
    /// When the first batch of which lane goes on, on the monotonic clock.
    due: BTreeSet<(u64, u64)>,
}

impl Worker {
    pub fn new(surroundings: Surroundings) -> Worker {
        Worker {
            calls: Calls::new(&surroundings),
            surroundings,
            held: HashMap::new(),
            due: BTreeSet::new(),
        }
    }

    pub fn run(&mut self, inbox: &Inbox<Task>) {
        let mut tasks = Vec::new();
        loop {
            inbox.take(&mut tasks, self.patience());
            for task in tasks.drain(..) {
                match task {
                    Task::Work(work) => self.take(work),
                    Task::Adopt(id, kept) => self.calls.adopt(id, kept),
                    Task::Retire(routing) => self.calls.retire(&routing),
                    Task::Measure(reply) => self.calls.measure(&reply),
                    Task::Stop => return,
                }
            }
            self.go_on();
        }
    }

    /// How long nothing is due.
    fn patience(&self) -> Option<Duration> {
        let (at, _) = self.due.first()?;
        let now = self.surroundings.clock.mono_ms();
        Some(Duration::from_millis(at.saturating_sub(now)))
    }

    fn take(&mut self, work: Work) {
        if let Some(held) = self.held.get_mut(&work.lane) {
            return held.behind.push_back(work);
        }
        self.begin(work, VecDeque::new());
    }

    /// Runs a batch of a lane in which nothing waits, and then those behind it.
    fn begin(&mut self, work: Work, behind: VecDeque<Work>) {
        let run = new_run(&work, &self.surroundings);
        self.drive(Active { work, run }, behind);
    }

    fn drive(&mut self, mut active: Active, mut behind: VecDeque<Work>) {
        loop {
            match self.guarded(&mut active) {
                Progress::Hold(ms) => {
                    let lane = active.work.lane;
                    let due = self.surroundings.clock.mono_ms().saturating_add(ms);
                    self.due.insert((due, lane));
                    let held = Held {
                        due,
                        active,
                        behind,
                    };
                    self.held.insert(lane, held);
                    return;
                }
                Progress::Done(outcome) => {
                    self.calls.forget_old(&active.work.routing);
                    active.work.done.finish(outcome, Vec::new(), None);
                }
            }
            let Some(work) = behind.pop_front() else {
                return;
            };
            let run = new_run(&work, &self.surroundings);
            active = Active { work, run };
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
            let text = "the plugin worker failed";
            Progress::Done(Outcome::refused(count, Code::Internal, text))
        })
    }

    /// Runs a batch until it is done or must wait.
    fn work(&mut self, active: &mut Active) -> Progress {
        let Active { work, run } = active;
        // The batch as it came, parsed once: most plugins change little or nothing.
        let mut original = Vec::new();
        loop {
            let before = work.traced.then(Instant::now);
            let answer = match run.step() {
                Step::Done => break,
                Step::Hold { .. } if work.traced => {
                    run.not_called(&Failure {
                        kind: "retry",
                        text: "asked to be called later".to_owned(),
                        backtrace: None,
                    });
                    continue;
                }
                Step::Hold { ms } => return Progress::Hold(ms),
                Step::Call { plugin, items, .. } => {
                    if original.is_empty() {
                        original = parse(work.slab.iter(), work.receive_time_ms);
                    }
                    self.calls.call(work, &original, plugin, items)
                }
            };
            if let Some(before) = before {
                run.took(before.elapsed().as_nanos() as u64);
            }
            match answer {
                Answer::AllPassed => run.all_passed(),
                Answer::Verdicts(verdicts) => drop(run.verdicts(verdicts, Vec::new())),
                Answer::Failed(failure) => run.failed(failure),
                Answer::Unavailable(why) => run.unavailable(&why),
                Answer::NotCalled(failure) => run.not_called(&failure),
                Answer::Refused(code, why) => run.refused(code, why),
                Answer::OneByOne => run.one_by_one(),
            }
        }
        let placeholder = Run::of_published(work.routing.table.clone(), self.limits(), Vec::new());
        Progress::Done(std::mem::replace(run, placeholder).finish())
    }

    fn limits(&self) -> waypost_core::limits::Limits {
        self.surroundings.limits.clone()
    }
}

fn new_run(work: &Work, surroundings: &Surroundings) -> Run {
    let inputs = work.slab.bodies().enumerate().map(|(index, body)| {
        let input = work.inputs.get(index);
        let routes = input.map_or(&[][..], |input| &input.routes);
        (body, routes, input.is_some_and(|input| input.is_live))
    });
    let (table, limits) = (work.routing.table.clone(), surroundings.limits.clone());
    Run::new(table, limits, inputs, work.traced)
}
