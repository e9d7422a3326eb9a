//! Plugin workers: threads that own instances and run batches through them.
//!
//! A publisher's batches always go to the same worker, so that they leave in the order in which
//! they came. What a guest does takes this thread's time and no other's.
//!
//! - [`worker`]: the thread: which batch is next, which ones wait
//! - [`apart`]: which batches go to a thread of their own, so that others need not wait for them
//! - [`calls`]: one call of a plugin: its instance, its breaker, its numbers
//! - [`serial`]: what plugins keep, and when it counts
//! - [`shadow`]: what a version that does not serve would say
//! - [`woken`]: what plugins do when their time has come
//! - [`translate`]: what a guest says, as the pipeline understands it

mod apart;
mod calls;
mod serial;
mod shadow;
mod translate;
mod woken;
mod worker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use waypost_core::limits::Limits;
use waypost_core::pipeline::{Outcome, Traced};
use waypost_core::route::RouteIndex;
use waypost_host::Instance;
use waypost_shard::{Part, Stamp};
use waypost_wire::{RecordRef, Slab};

use crate::alarms::Alarms;
use crate::clock::{Clock, wall_ms};
use crate::live::Hub;
use crate::mailbox::Inbox;
use crate::plugins::{Job, Shadow, ShadowPort};
use crate::routing::{Bound, Routing};
use crate::shard_thread::ShardHandle;
pub(crate) use crate::shard_thread::Taken;
use crate::tap::Taps;

use apart::{Away, Ending, Place};
use calls::Kept;
use worker::{Active, Worker};

/// A batch for a worker.
pub(crate) struct Work {
    /// Whose batches must not overtake each other: a publisher's stream. 0 waits for nobody.
    pub lane: u64,
    pub routing: Arc<Routing>,
    pub slab: Slab,
    pub inputs: Inputs,
    /// Of which messages it is told what happens.
    pub traced: Traced,
    /// Nothing comes of it, and nothing waits: a plugin that asks to be called later is not.
    pub is_dry: bool,
    pub receive_time_ms: u64,
    pub done: Box<dyn Finish>,
}

/// Where what became of a batch goes.
pub(crate) trait Finish: Send {
    /// The producer's numbers of its messages, where there is one.
    fn stamp(&self) -> Option<&Stamp>;

    /// It is done. `own` is for queues of the router's own and belongs to the same set; `taken`
    /// wants to know whether the set was taken.
    fn finish(self: Box<Self>, outcome: Outcome, own: Vec<Part>, taken: Option<Taken>);
}

/// The key of the worker that serial plugins run on.
pub(crate) const SERIAL: u64 = 0;

/// Lanes of what is woken count down to here; those of publishers stay below.
pub(crate) const LANES_OF_TIMERS: u64 = 1 << 63;

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
    /// A batch that another worker began, or would have.
    Apart(Box<Active>, Away),
    /// All batches of a lane that were with the worker apart are done.
    Back(u64),
    /// An instance for batches to come.
    Adopt(u64, Kept),
    /// From here on batches come with this routing, but for some that are on their way.
    Retire(Arc<Routing>),
    /// Says what the instances take: by the id of what is bound, bytes of memory.
    Measure(mpsc::Sender<(u64, u64)>),
    Stop,
}

/// What workers share with the node.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub limits: Limits,
    pub clock: Clock,
    pub alarms: Arc<Alarms>,
    pub shard: ShardHandle,
    pub hub: Arc<Hub>,
    pub taps: Arc<Taps>,
    /// When the last plugin that is apart will be so no more, in ms on the monotonic clock; 0 while
    /// none ever was. While all is well, nobody looks any further.
    pub troubled: Arc<AtomicU64>,
    /// The workers are to end: what is apart is given up from here on.
    pub stopping: Arc<AtomicBool>,
}

/// The workers.
pub(crate) struct Workers {
    inboxes: Vec<Arc<Inbox<Task>>>,
    /// Of the one for batches that others need not wait for.
    apart: Arc<Inbox<Task>>,
    surroundings: Surroundings,
}

impl Workers {
    /// Starts `count` workers.
    pub fn start(
        count: usize,
        surroundings: &Surroundings,
    ) -> std::io::Result<(Workers, Vec<std::thread::JoinHandle<()>>)> {
        let mut inboxes = Vec::new();
        let mut joins = Vec::new();
        let mut start = |name: String, mut worker: Worker, inbox: Arc<Inbox<Task>>| {
            let thread = std::thread::Builder::new().name(name).stack_size(2 << 20);
            joins.push(thread.spawn(move || {
                // What comes after its end, however it ends, is dropped: nobody would take it.
                let inbox = Closing(inbox);
                worker.run(&inbox.0);
            })?);
            Ok::<_, std::io::Error>(())
        };
        let count = count.max(1);
        let apart = Arc::new(Inbox::default());
        let worker = Worker::new(false, Place::Apart, surroundings.clone());
        start("waypost-plugin-apart".into(), worker, apart.clone())?;
        let ending = Arc::new(Ending(apart.clone()));
        for index in 0..count {
            let inbox = Arc::new(Inbox::default());
            inboxes.push(inbox.clone());
            let place = Place::beside(inbox.clone(), ending.clone(), count, surroundings);
            let worker = Worker::new(index == SERIAL as usize, place, surroundings.clone());
            start(format!("waypost-plugin-{index}"), worker, inbox)?;
        }
        let workers = Workers {
            inboxes,
            apart,
            surroundings: surroundings.clone(),
        };
        Ok((workers, joins))
    }

    /// Gives work to the worker of `key`.
    pub fn send(&self, key: u64, work: Work) {
        let index = (key % self.inboxes.len() as u64) as usize;
        self.inboxes[index].push(Task::Work(work));
    }

    /// Starts the thread of a shadow of this slot.
    pub fn judge(
        &self,
        of: (Arc<str>, Arc<ShadowPort>),
        shadow: Arc<Shadow>,
        jobs: mpsc::Receiver<Job>,
    ) -> std::io::Result<()> {
        shadow::start(of, shadow, jobs, &self.surroundings)
    }

    /// How many there are that batches are given to.
    pub fn count(&self) -> usize {
        self.inboxes.len()
    }

    /// Gives each worker an instance of what is bound, the first ones where there are fewer. To be
    /// called before the routing is replaced.
    pub fn adopt(&self, bound: &Bound, instances: Vec<Instance>) {
        for (inbox, instance) in self.inboxes.iter().zip(instances) {
            inbox.push(Task::Adopt(bound.id, Kept::new(instance, bound)));
        }
    }

    /// Lets go of what only older routings need. To be called after this one replaced them.
    pub fn retire(&self, routing: &Arc<Routing>) {
        let tell = |inbox: &Arc<Inbox<Task>>| inbox.push(Task::Retire(routing.clone()));
        self.all().for_each(tell);
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Inbox<Task>>> {
        self.inboxes.iter().chain([&self.apart])
    }

    /// Bytes of memory of all instances, by what is bound, from the workers that answer in time.
    /// Blocks for as long.
    pub fn memory(&self, patience: Duration) -> HashMap<u64, u64> {
        let (reply, answers) = mpsc::channel();
        for inbox in self.all() {
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

    /// Lets every worker finish what it has and end. Batches that wait for a plugin, or are apart, are
    /// given up: their publishers have no confirm, and send them again.
    pub fn stop(&self) {
        // The one apart ends after them. It may be slow, for it has what nobody else wants.
        self.surroundings.stopping.store(true, Ordering::Relaxed);
        self.inboxes.iter().for_each(|inbox| inbox.push(Task::Stop));
    }
}

/// The inbox of a worker, while it lives.
struct Closing(Arc<Inbox<Task>>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs one message through the routes without effects; for `explain`.
pub(crate) fn explain(
    workers: &Workers,
    routing: Arc<Routing>,
    body: Bytes,
    is_live: bool,
) -> tokio::sync::oneshot::Receiver<Outcome> {
    struct Explained(tokio::sync::oneshot::Sender<Outcome>);

    impl Finish for Explained {
        fn stamp(&self) -> Option<&Stamp> {
            None
        }

        fn finish(self: Box<Self>, outcome: Outcome, _: Vec<Part>, taken: Option<Taken>) {
            taken.into_iter().for_each(|taken| taken(false));
            // Who asked may be gone.
            drop(self.0.send(outcome));
        }
    }

    let (done, outcome) = tokio::sync::oneshot::channel();
    let topic = RecordRef::parse(&body)
        .map(|record| record.topic().to_owned())
        .unwrap_or_default();
    let routes: Arc<[RouteIndex]> = routing.table.matching(&topic).into();
    let mut slab = waypost_wire::slab::SlabBuilder::new();
    slab.push(&body);
    let work = Work {
        lane: 0,
        routing,
        slab: slab.finish(),
        inputs: Inputs::All(Input { routes, is_live }),
        traced: Traced::All,
        is_dry: true,
        receive_time_ms: wall_ms(),
        done: Box::new(Explained(done)),
    };
    workers.send(SERIAL, work);
    outcome
}
