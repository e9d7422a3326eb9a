//! The thread of a shadow: judges again what the serving version has judged, and compares.
//!
//! It has instances of its own, and where the plugin keeps state, a copy of the slot's as it was when
//! the shadow began, which from then on is the shadow's alone. It runs at the lowest priority: what
//! it cannot do in time it is not given.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use bytes::Bytes;
use waypost_core::pipeline::{Failure, Item, Verdict};
use waypost_core::route::{PluginIndex, RouteIndex};
use waypost_core::shadow::{Compared, Judged, Pair, compare};
use waypost_host::{CallErrorKind, Instance, MessageRef, Plugin};

use super::calls::{Answer, effects, parse};
use super::serial::{SlotState, States};
use super::translate::{self, kind, translate};
use super::{Surroundings, Work};
use crate::clock::{Clock, thread_cpu_ns, wall_ms};
use crate::plugins::{Job, Shadow, ShadowPort};
use crate::routing::Bound;
use crate::tap::Copy;

/// The lowest priority that the system has for a thread.
#[cfg(target_os = "linux")]
const NICE: i32 = 19;

/// A call of the serving version for the shadow of its slot, to be offered if the call counts. One
/// that failed with several messages is none: it is made again in parts.
pub(super) fn job<'a>(
    bound: &'a Bound,
    work: &Work,
    (route, plugin): (RouteIndex, PluginIndex),
    items: &[Item],
    answer: &Answer,
    cpu_ns: u64,
) -> Option<(&'a Bound, Job)> {
    let judged = match answer {
        Answer::AllPassed => vec![Judged::of(Verdict::Pass); items.len()],
        Answer::Verdicts(verdicts, published) => judged(verdicts.clone(), published),
        Answer::Failed(failure) if items.len() == 1 => {
            vec![Judged::of(Verdict::Failed(failure.clone()))]
        }
        _ => return None,
    };
    let job = Job {
        routing: work.routing.clone(),
        route,
        plugin,
        receive_time_ms: work.receive_time_ms,
        items: items.iter().map(|item| item.body.clone()).collect(),
        judged,
        cpu_ns,
    };
    Some((bound, job))
}

/// Verdicts with what was published, each with its cause; what has none stands with the first.
fn judged(verdicts: Vec<Verdict>, published: &[(u32, Bytes)]) -> Vec<Judged> {
    let mut judged: Vec<Judged> = verdicts.into_iter().map(Judged::of).collect();
    for (cause, body) in published {
        let at = if (*cause as usize) < judged.len() {
            *cause as usize
        } else {
            0
        };
        if let Some(of) = judged.get_mut(at) {
            of.published.push(body.clone());
        }
    }
    judged
}

/// Starts the thread of a shadow of this slot. It ends with the shadow.
pub(super) fn start(
    (slot, port): (Arc<str>, Arc<ShadowPort>),
    shadow: Arc<Shadow>,
    jobs: Receiver<Job>,
    surroundings: &Surroundings,
) -> std::io::Result<()> {
    let states = States::new(surroundings.shard.clone(), surroundings.clock);
    // Before the first call is chosen: what a call has written is not seen by its own judgement.
    let stateful = shadow
        .about
        .loaded
        .iter()
        .find(|(_, plugin)| plugin.uses_state());
    let state = stateful.map(|(_, plugin)| states.copy(&slot, plugin.spec().limits.state_bytes));
    let mut judge = Judge {
        state: state.transpose().map_err(std::io::Error::other)?,
        clock: surroundings.clock,
        instances: shadow.about.loaded.iter().map(|_| None).collect(),
        in_a_row: 0,
        slot,
        port,
        shadow,
    };
    std::thread::Builder::new()
        .name("waypost-shadow".to_owned())
        .stack_size(2 << 20)
        .spawn(move || judge.run(&jobs))
        .map(drop)
}

struct Judge {
    slot: Arc<str>,
    port: Arc<ShadowPort>,
    shadow: Arc<Shadow>,
    /// Where the plugin keeps state.
    state: Option<SlotState>,
    /// As [`Shadow::loaded`].
    instances: Vec<Option<Instance>>,
    /// Calls that failed without a good one between.
    in_a_row: u32,
    clock: Clock,
}

impl Judge {
    fn run(&mut self, jobs: &Receiver<Job>) {
        // A thread's alone; elsewhere it would be the whole process's. Where it is not allowed, the
        // bounds hold all the same.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(NICE);
        while let Ok(job) = jobs.recv() {
            self.shadow.begins(&job);
            if self.shadow.ended().is_some() {
                return;
            }
            let judge = AssertUnwindSafe(|| self.judge(&job));
            if std::panic::catch_unwind(judge).is_err() {
                return self.port.end_of(&self.shadow, "its thread failed");
            }
        }
    }

    /// Judges the messages of a call, and compares.
    fn judge(&mut self, job: &Job) {
        let dropped = &self.shadow.numbers.dropped;
        let count = job.items.len();
        let Some((index, plugin)) = self.loaded(job) else {
            dropped.fetch_add(count as u64, Relaxed);
            return;
        };
        if plugin.admit(Instant::now()).is_err() {
            dropped.fetch_add(count as u64, Relaxed);
            return;
        }
        let batch = parse(job.items.iter().map(|body| &body[..]), job.receive_time_ms);
        if batch.len() != count || job.judged.len() != count {
            return;
        }
        let judged = match self.call(index, &plugin, &batch) {
            Ok(judged) => judged,
            Err(failure) if count == 1 => vec![Judged::of(Verdict::Failed(failure))],
            // Which message is at fault shows when each is judged by itself.
            Err(_) => {
                let mut judged = Vec::new();
                for message in &batch {
                    if self.shadow.ended().is_some() {
                        break;
                    }
                    judged.push(
                        match self.call(index, &plugin, std::slice::from_ref(message)) {
                            Ok(mut one) if one.len() == 1 => one.remove(0),
                            Ok(_) => Judged::of(Verdict::Failed(lengths())),
                            Err(failure) => Judged::of(Verdict::Failed(failure)),
                        },
                    );
                }
                judged
            }
        };
        let numbers = &self.shadow.numbers;
        if judged.is_empty() {
            return;
        }
        // Of what was judged, the serving version's cost is its part of the call.
        let part = job.cpu_ns.saturating_mul(judged.len() as u64) / count as u64;
        numbers.serving_ns.fetch_add(part, Relaxed);
        self.compare(job, &judged);
        let memory: usize = self
            .instances
            .iter()
            .flatten()
            .map(Instance::memory_bytes)
            .sum();
        numbers.memory_bytes.store(memory as u64, Relaxed);
    }

    fn compare(&self, job: &Job, judged: &[Judged]) {
        let Some(route) = job.routing.table.routes().get(job.route as usize) else {
            return;
        };
        let pairs = job.items.iter().zip(&job.judged).zip(judged);
        let compared = pairs.map(|((original, serving), shadow)| {
            let pair = Pair {
                original,
                serving,
                shadow,
            };
            compare(pair, &route.to, || {
                let copy = Copy::of(original);
                (wall_ms(), route.name.clone(), copy.record, copy.cut_from)
            })
        });
        // Not under the lock, which others must not wait for: this thread has the lowest priority.
        let compared: Vec<Compared> = compared.collect();
        let mut comparison = self.shadow.comparison();
        compared.into_iter().for_each(|one| comparison.take(one));
    }

    /// Which of the loaded ones a call is for. A route that came after the shadow began has none of
    /// its own, which only matters where the plugin chooses destinations.
    fn loaded(&self, job: &Job) -> Option<(usize, Plugin)> {
        let bound = job.routing.bound.get(job.plugin as usize)?;
        let loaded = &self.shadow.about.loaded;
        let own = loaded.iter().position(|(to, _)| *to == bound.destinations);
        let any = || {
            let role = loaded.first()?.1.role();
            let is_any = !matches!(role, waypost_host::Role::Route | waypost_host::Role::Each);
            is_any.then_some(0)
        };
        let index = own.or_else(any)?;
        Some((index, loaded[index].1.clone()))
    }

    /// Calls the shadow; what it writes to its state counts for itself if the call goes well.
    fn call(
        &mut self,
        index: usize,
        plugin: &Plugin,
        batch: &[MessageRef<'_>],
    ) -> Result<Vec<Judged>, Failure> {
        let result = self.try_call(index, plugin, batch);
        match &result {
            Ok(_) => self.in_a_row = 0,
            // As with the version that serves: what waits for something does not fail.
            Err(failure) if failure.kind == kind(CallErrorKind::Unavailable) => {}
            Err(failure) => {
                self.in_a_row += 1;
                if failure.kind == "deadline" {
                    self.shadow.numbers.deadlines.fetch_add(1, Relaxed);
                }
                if self.in_a_row >= self.shadow.about.config.breaker.failures {
                    let why = format!(
                        "{} calls in a row failed, last with {}: {}",
                        self.in_a_row, failure.kind, failure.text
                    );
                    tracing::warn!(plugin = &*self.slot, why, "a shadow ended");
                    self.port.end_of(&self.shadow, &why);
                }
            }
        }
        result
    }

    fn try_call(
        &mut self,
        index: usize,
        plugin: &Plugin,
        batch: &[MessageRef<'_>],
    ) -> Result<Vec<Judged>, Failure> {
        let failed = |kind: &'static str, text: String| Failure {
            kind,
            text,
            backtrace: None,
        };
        if self.instances[index].is_none() {
            let mut lent = self.state.as_mut().map(|state| state.begin(&self.clock).0);
            let lent = lent
                .as_mut()
                .map(|lent| lent as &mut dyn waypost_host::State);
            let made = plugin.instantiate(lent).map_err(|error| {
                self.shadow.stats.failed(error.to_string(), false);
                failed("start", error.to_string())
            })?;
            self.instances[index] = Some(made);
        }
        let Some(instance) = &mut self.instances[index] else {
            return Err(failed("internal", "no instance".to_owned()));
        };
        let (mut lent, mark) = match self.state.as_mut().map(|state| state.begin(&self.clock)) {
            Some((lent, mark)) => (Some(lent), Some(mark)),
            None => (None, None),
        };
        let mut effects = effects(&mut lent);
        let before = thread_cpu_ns();
        let result = instance.call(batch, &mut effects);
        let cpu_ns = thread_cpu_ns().saturating_sub(before);
        let published = std::mem::take(&mut effects.published);
        // It rings for nobody.
        let _ = instance.take_timer();
        let (numbers, stats) = (&self.shadow.numbers, &self.shadow.stats);
        numbers.shadow_ns.fetch_add(cpu_ns, Relaxed);
        stats.called(Duration::from_nanos(cpu_ns), batch.len() as u64);
        let judged = match result {
            Ok(verdicts) if verdicts.len() != batch.len() => Err(lengths()),
            Ok(verdicts) => translate::published(published, batch).map(|published| {
                let each = verdicts.into_iter().zip(batch);
                let each = each.map(|(verdict, message)| translate(verdict, message));
                judged(each.collect(), &published)
            }),
            Err(error) => {
                if error.kind != CallErrorKind::Unavailable {
                    stats.failed(error.to_string(), error.instance_lost);
                }
                if error.instance_lost {
                    self.instances[index] = None;
                }
                Err(failed(kind(error.kind), error.message))
            }
        };
        if let (Some(state), Some(mark)) = (&mut self.state, mark) {
            match judged.is_ok() {
                true => state.keep(),
                false => state.undo(mark),
            }
        }
        judged
    }
}

fn lengths() -> Failure {
    Failure {
        kind: "output",
        text: "not one verdict for each message".to_owned(),
        backtrace: None,
    }
}
