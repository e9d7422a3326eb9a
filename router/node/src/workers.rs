//! Plugin workers: threads that own instances and run batches through them.
//!
//! A publisher's batches always go to the same worker, so that they leave in the order in which
//! they came. What a guest does takes this thread's time and no other's.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use waypost_core::limits::Limits;
use waypost_core::pipeline::{Failure, Item, Outcome, Run, Step, Verdict};
use waypost_core::route::{PluginIndex, RouteIndex};
use waypost_host::{CallErrorKind, Effects, Instance, MessageRef};
use waypost_wire::record::RecordError;
use waypost_wire::{Code, Message, RecordRef, Slab};

use crate::clock::wall_ms;
use crate::mailbox::Inbox;
use crate::plugins::{Pause, PluginStats};
use crate::routing::{Bound, Routing, Service};

/// A batch for a worker.
pub(crate) struct Work {
    pub routing: Arc<Routing>,
    pub slab: Slab,
    pub inputs: Inputs,
    pub traced: bool,
    pub receive_time_ms: u64,
    pub done: Box<dyn FnOnce(Outcome) + Send>,
}

/// How a record enters the pipeline.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub routes: Arc<[RouteIndex]>,
    pub is_live: bool,
}

/// How the records of a batch enter the pipeline.
#[derive(Clone, Debug)]
pub(crate) enum Inputs {
    /// All in the same way.
    All(Input),
    /// Each in its own.
    Each(Vec<Input>),
}

impl Inputs {
    fn get(&self, index: usize) -> Option<&Input> {
        match self {
            Inputs::All(input) => Some(input),
            Inputs::Each(inputs) => inputs.get(index),
        }
    }
}

enum Task {
    Work(Work),
    /// An instance for batches to come.
    Adopt(u64, Held),
    /// From here on batches come with this routing, but for some that are on their way.
    Retire(Arc<Routing>),
    /// Says what the instances take: by the id of what is bound, bytes of memory.
    Measure(mpsc::Sender<(u64, u64)>),
    Stop,
}

/// An instance that is counted.
struct Held {
    instance: Instance,
    stats: Arc<PluginStats>,
}

impl Held {
    fn new(instance: Instance, bound: &Bound) -> Held {
        let stats = bound.stats.clone();
        stats.instances.fetch_add(1, Relaxed);
        Held { instance, stats }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stats.instances.fetch_sub(1, Relaxed);
    }
}

/// The workers.
pub(crate) struct Workers {
    inboxes: Vec<Arc<Inbox<Task>>>,
}

impl Workers {
    /// Starts `count` workers.
    pub fn start(
        count: usize,
        limits: &Limits,
    ) -> std::io::Result<(Workers, Vec<std::thread::JoinHandle<()>>)> {
        let mut inboxes = Vec::new();
        let mut joins = Vec::new();
        for index in 0..count.max(1) {
            let inbox = Arc::new(Inbox::default());
            inboxes.push(inbox.clone());
            let mut worker = Worker {
                limits: limits.clone(),
                current: HashSet::new(),
                version: 0,
                instances: HashMap::new(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("waypost-plugin-{index}"))
                .stack_size(2 << 20)
                .spawn(move || worker.run(&inbox))?;
            joins.push(thread);
        }
        Ok((Workers { inboxes }, joins))
    }

    /// Gives work to the worker of `key`.
    pub fn send(&self, key: u64, work: Work) {
        let index = (key % self.inboxes.len() as u64) as usize;
        self.inboxes[index].push(Task::Work(work));
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.inboxes.len()
    }

    /// Gives each worker an instance of what is bound, the first ones where there are fewer. To be
    /// called before the routing is replaced.
    pub fn adopt(&self, bound: &Bound, instances: Vec<Instance>) {
        for (inbox, instance) in self.inboxes.iter().zip(instances) {
            inbox.push(Task::Adopt(bound.id, Held::new(instance, bound)));
        }
    }

    /// Lets go of what only older routings need. To be called after this one replaced them.
    pub fn retire(&self, routing: &Arc<Routing>) {
        let tell = |inbox: &Arc<Inbox<Task>>| inbox.push(Task::Retire(routing.clone()));
        self.inboxes.iter().for_each(tell);
    }

    /// Bytes of memory of all instances, by what is bound, from the workers that answer in time.
    /// Blocks for as long.
    pub fn memory(&self, patience: Duration) -> HashMap<u64, u64> {
        let (reply, answers) = mpsc::channel();
        for inbox in &self.inboxes {
            inbox.push(Task::Measure(reply.clone()));
        }
        drop(reply);
        let end = Instant::now() + patience;
        let mut memory = HashMap::new();
        while let Ok((id, bytes)) =
            answers.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            *memory.entry(id).or_default() += bytes;
        }
        memory
    }

    /// Lets every worker finish what it has and end.
    pub fn stop(&self) {
        self.inboxes.iter().for_each(|inbox| inbox.push(Task::Stop));
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Worker {
    limits: Limits,
    /// What the newest routing binds, and its version.
    current: HashSet<u64>,
    version: u64,
    /// By the id of what is bound.
    instances: HashMap<u64, Held>,
}

impl Worker {
    fn run(&mut self, inbox: &Inbox<Task>) {
        let mut tasks = Vec::new();
        loop {
            inbox.take(&mut tasks, None);
            for task in tasks.drain(..) {
                match task {
                    Task::Work(work) => self.guarded(work),
                    Task::Adopt(id, held) => drop(self.instances.insert(id, held)),
                    Task::Retire(routing) => self.retire(&routing),
                    Task::Measure(reply) => self.measure(&reply),
                    Task::Stop => return,
                }
            }
        }
    }

    fn retire(&mut self, routing: &Routing) {
        self.version = routing.version;
        self.current = routing.bound.iter().map(|bound| bound.id).collect();
        self.instances.retain(|id, _| self.current.contains(id));
    }

    /// A batch that was on its way when its routing was replaced may have made an instance that
    /// nothing needs any more.
    fn forget_old(&mut self, routing: &Routing) {
        if routing.version < self.version {
            for bound in &routing.bound {
                if !self.current.contains(&bound.id) {
                    self.instances.remove(&bound.id);
                }
            }
        }
    }

    fn measure(&self, reply: &mpsc::Sender<(u64, u64)>) {
        for (id, held) in &self.instances {
            // Nobody waits any more, perhaps.
            let _ = reply.send((*id, held.instance.memory_bytes() as u64));
        }
    }

    /// Whatever happens, the batch has an outcome: its publisher waits for it.
    fn guarded(&mut self, mut work: Work) {
        let done = std::mem::replace(&mut work.done, Box::new(drop));
        let count = work.slab.count();
        let run = AssertUnwindSafe(|| self.work(&work));
        let outcome = std::panic::catch_unwind(run).unwrap_or_else(|_| {
            self.instances.clear();
            Outcome::refused(count, Code::Internal, "the plugin worker failed")
        });
        done(outcome);
        self.forget_old(&work.routing);
    }

    fn work(&mut self, work: &Work) -> Outcome {
        let inputs = work.slab.bodies().enumerate().map(|(index, body)| {
            let input = work.inputs.get(index);
            let routes = input.map_or(&[][..], |input| &input.routes);
            (body, routes, input.is_some_and(|input| input.is_live))
        });
        let mut run = Run::new(
            work.routing.table.clone(),
            self.limits.clone(),
            inputs,
            work.traced,
        );
        // The batch as it came, parsed once: most plugins change little or nothing.
        let mut original = Vec::new();
        loop {
            let before = work.traced.then(Instant::now);
            let answer = match run.step() {
                Step::Done => break,
                Step::Call { plugin, items, .. } => {
                    if original.is_empty() {
                        original = parse(work.slab.iter(), work.receive_time_ms);
                    }
                    self.call(work, &original, plugin, items)
                }
            };
            if let Some(before) = before {
                run.took(before.elapsed().as_nanos() as u64);
            }
            match answer {
                Answer::AllPassed => run.all_passed(),
                Answer::Verdicts(verdicts) => run.verdicts(verdicts),
                Answer::Failed(failure) => run.failed(failure),
                Answer::NotCalled(failure) => run.not_called(&failure),
                Answer::Refused(code, why) => run.refused(code, why),
            }
        }
        run.finish()
    }

    fn call(
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
        let held = match self.instances.entry(bound.id) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => match plugin.instantiate(None) {
                Ok(instance) => entry.insert(Held::new(instance, bound)),
                Err(error) => {
                    bound.stats.failed(error.to_string(), false);
                    return Answer::failed("start", error.to_string());
                }
            },
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
        let before = Instant::now();
        let result = held.instance.call(batch, &mut Effects::default());
        let stats = &bound.stats;
        stats.called(before.elapsed(), items.len() as u64);
        match result {
            Ok(verdicts) if verdicts.all_pass() => Answer::AllPassed,
            Ok(verdicts) => {
                let each = verdicts.into_iter().zip(batch);
                Answer::Verdicts(
                    each.map(|(verdict, message)| translate(verdict, message))
                        .collect(),
                )
            }
            Err(error) => {
                stats.failed(error.to_string(), error.instance_lost);
                if error.instance_lost {
                    self.instances.remove(&bound.id);
                }
                let text = error.message.clone();
                Answer::Failed(Failure {
                    kind: kind(error.kind),
                    text,
                    backtrace: error.backtrace,
                })
            }
        }
    }
}

/// Parses bodies up to the first that is no record; admission and the host let none through.
fn parse<'a>(bodies: impl Iterator<Item = &'a [u8]>, received: u64) -> Vec<MessageRef<'a>> {
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

enum Answer {
    AllPassed,
    Verdicts(Vec<Verdict>),
    Failed(Failure),
    /// The plugin is not called: the messages meet `on_error`, or are refused.
    NotCalled(Failure),
    Refused(Code, &'static str),
}

impl Answer {
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

fn kind(kind: CallErrorKind) -> &'static str {
    match kind {
        CallErrorKind::Trap => "trap",
        CallErrorKind::Deadline => "deadline",
        CallErrorKind::Memory => "memory",
        CallErrorKind::HostCalls => "host-calls",
        CallErrorKind::Output => "output",
        CallErrorKind::Invalid => "invalid",
        CallErrorKind::Unavailable => "unavailable",
        CallErrorKind::Internal => "internal",
    }
}

/// A guest's verdict as the pipeline's.
fn translate(verdict: waypost_host::Verdict, of: &MessageRef<'_>) -> Verdict {
    use waypost_host::Verdict as Guest;
    let text = |reason: Option<Box<str>>| reason.map(String::from).unwrap_or_default();
    match verdict {
        Guest::Pass => Verdict::Pass,
        Guest::Drop(reason) => Verdict::Drop(text(reason)),
        Guest::Edit(edit) => {
            let mut message = of.record.to_message();
            edit.apply(&mut message);
            match bounded(&message) {
                Ok(body) => Verdict::Replace(body),
                Err(failure) => Verdict::Failed(failure),
            }
        }
        Guest::Emit(outgoing) => {
            let emitted = outgoing
                .into_iter()
                .map(|out| bounded(&inherit(out.into_message(), of)));
            match emitted.collect() {
                Ok(emitted) => Verdict::Emit(emitted),
                Err(failure) => Verdict::Failed(failure),
            }
        }
        Guest::To(destinations) => Verdict::To(destinations.as_slice().to_vec()),
        Guest::Reject(reason) => Verdict::Reject(text(reason)),
        // Held back and tried again is not offered yet; the message is not lost meanwhile.
        Guest::Retry { .. } => Verdict::DeadLetter("the plugin asked for a retry".to_owned()),
        Guest::DeadLetter(reason) => Verdict::DeadLetter(text(reason)),
        Guest::Violation(violation) => Verdict::Failed(Failure {
            kind: "output",
            text: violation.to_string(),
            backtrace: None,
        }),
    }
}

/// The body of a message that a plugin made or changed. The host has checked its payload; what it
/// has beside that has the bound that a publisher's has.
fn bounded(message: &Message) -> Result<Bytes, Failure> {
    let length = message.encoded_len() - message.payload.len();
    if length <= waypost_wire::record::FIELDS_BYTES_MAX {
        return Ok(message.to_body());
    }
    Err(Failure {
        kind: "output",
        text: RecordError::FieldsTooLarge { length }.to_string(),
        backtrace: None,
    })
}

/// What a message that a plugin made takes over from the one that it was made from.
fn inherit(mut made: Message, of: &MessageRef<'_>) -> Message {
    let from = of.record.to_message();
    made.namespace = from.namespace;
    made.traceparent = from.traceparent;
    made.correlation = from.correlation;
    made.message_id = made.message_id.or(from.message_id);
    made
}

/// Runs one message through the routes without effects; for `explain`.
pub(crate) fn explain(
    workers: &Workers,
    routing: Arc<Routing>,
    body: Bytes,
    is_live: bool,
) -> tokio::sync::oneshot::Receiver<Outcome> {
    let (done, outcome) = tokio::sync::oneshot::channel();
    let topic = RecordRef::parse(&body)
        .map(|record| record.topic().to_owned())
        .unwrap_or_default();
    let routes: Arc<[RouteIndex]> = routing.table.matching(&topic).into();
    let mut slab = waypost_wire::slab::SlabBuilder::new();
    slab.push(&body);
    let work = Work {
        routing,
        slab: slab.finish(),
        inputs: Inputs::All(Input { routes, is_live }),
        traced: true,
        receive_time_ms: wall_ms(),
        done: Box::new(move |outcome| drop(done.send(outcome))),
    };
    workers.send(0, work);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_wire::record::FIELDS_BYTES_MAX;

    #[test]
    fn what_a_plugin_makes_has_the_bound_of_what_is_published() {
        let message = |bytes| Message::new("a", "payload").with_header("h", vec![0; bytes]);
        let fits = bounded(&message(FIELDS_BYTES_MAX - 100)).unwrap();
        assert!(RecordRef::parse(&fits).unwrap().check_size(7).is_ok());
        let failure = bounded(&message(FIELDS_BYTES_MAX)).unwrap_err();
        assert_eq!(failure.kind, "output");
        assert!(failure.text.contains("limit 65536"), "{failure:?}");
    }
}
