//! Once and together: producers that send again what a crash left in doubt, on streams that fence
//! each other, and a worker that acks its inputs in the transaction that holds their outputs.
//!
//! Two producers publish to three queues; the worker consumes `in` and publishes to `a` and `b`; a
//! consumer empties `b`, which is small and refuses, so that numbers have to come again in order.
//! Everybody goes by the rules of a client: what was not confirmed is sent again from the first on,
//! under the same numbers; what was refused for now too. The ledger holds every queue to it:
//! each number once and in order, nothing confirmed is lost, outputs and acks both or neither.
//!
//! Left out, because [`crate::world`] has it: attempts, credit, other faults of the disk.

mod ledger;
mod producer;

use std::path::Path;

use waypost_core::journal::GroupOptions;
use waypost_core::queue::{Retain, Settings};
use waypost_log::mem::{Fault, MemVfs};
use waypost_log::{Incarnation, Log};
use waypost_shard::{Attach, Now, Options, Output, Shard, Start};
use waypost_wire::data::{ConsumerFrame, Deliver, Level, Range};

use crate::dice::Dice;
use crate::invariants::Violation;
use crate::trace::Trace;
use crate::world::disk::is_off;
use crate::world::{dir, log_options};
use ledger::Ledger;
use producer::Producer;

const QUEUES: [&str; 3] = ["in", "a", "b"];
/// Messages that `b` holds at most.
const SMALL: u64 = 12;
/// The producer that consumes `in`.
const WORKER: usize = 2;
const WALL_MS: u64 = 1_700_000_000_000;
/// Lines of a trace that a failure shows.
const KEPT_LINES: usize = 80;
/// Rounds after which everything must be settled.
const DRAIN_ROUNDS_MAX: u32 = 2000;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages confirmed.
    pub confirmed: u64,
    /// Of these, confirmed as stored before.
    pub duplicates: u64,
    /// Messages refused for now.
    pub refused: u64,
    /// Transactions taken.
    pub transactions: u64,
    /// Transactions whose acks were not held any more.
    pub conflicts: u64,
    /// Batches on streams that were fenced.
    pub fenced: u64,
    /// Processes that ended.
    pub restarts: u64,
}

/// A run that broke an invariant.
#[derive(Debug, thiserror::Error)]
#[error(
    "{trace}\nseed {seed}: {violation}\nagain: cargo run -p waypost-sim -- --once --seed {seed} --steps {steps}"
)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Its length.
    pub steps: u64,
    /// What does not hold.
    pub violation: Violation,
    /// The last lines of its trace.
    pub trace: String,
}

struct World {
    dice: Dice,
    trace: Trace,
    tally: Tally,
    disk: MemVfs,
    shard: Shard<MemVfs>,
    now_ms: u64,
    producers: Vec<Producer>,
    ledger: Ledger,
    next_ticket: u64,
    next_consumer: u64,
    /// The worker's consumer and what it holds.
    worker: Option<u64>,
    held: Vec<u64>,
    /// The consumer of `b` and what it holds.
    drainer: Option<u64>,
    to_ack: Vec<u64>,
}

/// Runs a seed.
pub fn run(seed: u64, steps: u64) -> Result<Tally, Box<Failure>> {
    let mut dice = Dice::new(seed);
    let opened = MemVfs::with_dir(Path::new("/data"))
        .map_err(|e| e.to_string())
        .and_then(|disk| Ok((disk.clone(), open(&disk, &mut dice)?)));
    let (disk, shard) = opened.map_err(|text| {
        Box::new(Failure {
            seed,
            steps,
            violation: Violation::new("progress", text),
            trace: String::new(),
        })
    })?;
    let mut world = World {
        dice,
        trace: Trace::keeping(KEPT_LINES),
        tally: Tally::default(),
        disk,
        shard,
        now_ms: 1000,
        producers: (0..3).map(Producer::new).collect(),
        ledger: Ledger::default(),
        next_ticket: 1,
        next_consumer: 1,
        worker: None,
        held: Vec::new(),
        drainer: None,
        to_ack: Vec::new(),
    };
    match world.live(steps) {
        Ok(()) => Ok(world.tally),
        Err(violation) => Err(Box::new(Failure {
            seed,
            steps,
            violation,
            trace: world.trace.text(),
        })),
    }
}

fn open(disk: &MemVfs, dice: &mut Dice) -> Result<Shard<MemVfs>, String> {
    let (log, recovered) = Log::open(disk.clone(), &dir(), log_options(dice.seed()), WALL_MS)
        .map_err(|e| e.to_string())?;
    let options = Options {
        cache_bytes: 4 << 10,
        consumer_bytes_max: 1 << 30,
        consumer_messages_max: 1 << 20,
        ack_sync_ms: 10,
    };
    let opened = Shard::open(log, recovered, options);
    match opened.alarms.is_empty() {
        true => Ok(opened.shard),
        false => Err(format!("alarms: {:?}", opened.alarms)),
    }
}

fn stuck(what: impl std::fmt::Display) -> Violation {
    Violation::new("progress", what.to_string())
}

impl World {
    fn live(&mut self, steps: u64) -> Result<(), Violation> {
        self.begin()?;
        for _ in 0..steps {
            self.now_ms += self.dice.below(20);
            match self.dice.below(100) {
                0..=29 => self.produce()?,
                30..=44 => self.transform()?,
                45..=64 => self.commit()?,
                65..=79 => self.drain_some(),
                80..=83 => self.reopen_one()?,
                84..=86 => self.zombie()?,
                87..=89 => self.worker_leaves()?,
                90..=93 => self.tidy()?,
                94..=96 => self.look()?,
                97 => self.restart()?,
                _ => {
                    let nth = self.dice.below(30);
                    self.trace.line(format!("power off at call {nth}"));
                    self.disk.fail_at(nth, Fault::PowerOff);
                }
            }
        }
        self.drain()
    }

    fn now(&self) -> Now {
        Now {
            mono_ms: self.now_ms,
            wall_ms: WALL_MS + self.now_ms,
        }
    }

    /// What a process does first.
    fn begin(&mut self) -> Result<(), Violation> {
        for (number, name) in (1..).zip(QUEUES) {
            let plain = Settings {
                ack_deadline_ms: 100_000_000,
                deliver_max: 1_000_000,
                ..Settings::default()
            };
            let settings = match name {
                "a" => Settings {
                    retain: Retain::Log,
                    ..plain
                },
                "b" => Settings {
                    messages_max: Some(SMALL),
                    ..plain
                },
                _ => plain,
            };
            let incarnation = Incarnation::new(number).ok_or_else(|| stuck("no incarnation"))?;
            let made = self.shard.ensure_queue(name, settings, incarnation, "node");
            if let Err(error) = made {
                return self.failed(error);
            }
        }
        (self.worker, self.drainer) = (None, None);
        self.held.clear();
        self.to_ack.clear();
        let Some(worker) = self.attach("in")? else {
            return Ok(());
        };
        self.worker = Some(worker);
        let Some(drainer) = self.attach("b")? else {
            return Ok(());
        };
        self.drainer = Some(drainer);
        for index in 0..self.producers.len() {
            self.reopen(index, self.producers[index].epoch)?;
        }
        Ok(())
    }

    /// A consumer; none where the process ended over it, and another has begun.
    fn attach(&mut self, queue: &str) -> Result<Option<u64>, Violation> {
        let consumer = self.next_consumer;
        self.next_consumer += 1;
        let attach = Attach {
            consumer,
            queue: queue.into(),
            group: "g".to_owned(),
            start: Start::Beginning,
            options: GroupOptions::default(),
            ack_deadline_ms: None,
            batch_bytes_max: 1 << 20,
        };
        let now = self.now();
        if let Err(error) = self.shard.attach(now, attach) {
            self.failed(error)?;
            return Ok(None);
        }
        let credit = ConsumerFrame::Credit {
            messages: 1 << 40,
            bytes: 1 << 50,
        };
        self.shard.consumer_frame(now, consumer, credit);
        Ok(Some(consumer))
    }

    /// The worker's consumer goes and another comes: what it held and did not ack comes again.
    fn worker_leaves(&mut self) -> Result<(), Violation> {
        if let Some(consumer) = self.worker.take() {
            self.trace.line(format!("consumer {consumer} leaves"));
            self.shard.detach(self.now(), consumer, true);
            self.held.clear();
        }
        if let Some(worker) = self.attach("in")? {
            self.worker = Some(worker);
        }
        Ok(())
    }

    /// Something failed: is the power off?
    fn failed(&mut self, error: impl std::fmt::Display) -> Result<(), Violation> {
        self.trace.line(format!("failed: {error}"));
        match is_off(&self.disk) {
            true => self.restart(),
            false => Err(stuck(error)),
        }
    }

    fn commit(&mut self) -> Result<(), Violation> {
        let now = self.now();
        self.shard.on_time(now);
        match self.shard.commit(now) {
            Ok(()) => {
                self.trace.line("commit".to_owned());
                self.take_outputs()
            }
            Err(error) => self.failed(error),
        }
    }

    /// Commits, answers every wanted snapshot and runs every job.
    fn tidy(&mut self) -> Result<(), Violation> {
        let restarts = self.tally.restarts;
        for _ in 0..40 {
            self.commit()?;
            self.shard.write_snapshots();
            self.commit()?;
            if self.tally.restarts != restarts {
                return Ok(());
            }
            let Some(job) = self.shard.log_mut().next_job() else {
                return Ok(());
            };
            let done = job.run(&self.disk);
            if let Err(error) = self.shard.log_mut().finish_job(done) {
                return self.failed(error);
            }
        }
        Err(stuck("jobs do not come to an end"))
    }

    fn take_outputs(&mut self) -> Result<(), Violation> {
        for output in self.shard.take_outputs() {
            match output {
                Output::Accepted(accepted) => {
                    if accepted.level < Level::Stored {
                        return Err(stuck(format!("{accepted:?} in queues that are synced")));
                    }
                    self.confirmed(accepted.ticket, &accepted.exceptions)?;
                }
                Output::Deliver { consumer, deliver } => self.delivered(consumer, &deliver)?,
                Output::Alarm { text, .. } if !is_off(&self.disk) => {
                    return Err(stuck(format!("alarm: {text}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn delivered(&mut self, consumer: u64, deliver: &Deliver) -> Result<(), Violation> {
        let is_worker = self.worker == Some(consumer);
        for (index, body) in deliver.slab.iter().enumerate() {
            let offset = match deliver.detail.get(index) {
                Some((offset, _)) => *offset,
                None => deliver.first_offset + index as u64,
            };
            if is_worker {
                self.ledger.sighted("in", offset, body)?;
                self.ledger.delivered(offset)?;
                self.held.push(offset);
            } else if self.drainer == Some(consumer) {
                self.ledger.sighted("b", offset, body)?;
                self.to_ack.push(offset);
            }
        }
        let bytes = deliver.slab.bytes().len() as u64;
        self.shard.written(consumer, bytes);
        Ok(())
    }

    /// The consumer of `b` acks some.
    fn drain_some(&mut self) {
        let Some(consumer) = self.drainer else {
            return;
        };
        let count = self.dice.between(1, 8).min(self.to_ack.len() as u64) as usize;
        let mut offsets: Vec<u64> = self.to_ack.drain(..count).collect();
        offsets.sort_unstable();
        offsets.iter().for_each(|o| self.ledger.acked("b", *o));
        let ranges = offsets.into_iter().map(Range::one).collect();
        let now = self.now();
        self.shard
            .consumer_frame(now, consumer, ConsumerFrame::Ack(ranges));
    }

    fn restart(&mut self) -> Result<(), Violation> {
        self.tally.restarts += 1;
        self.disk = match is_off(&self.disk) || self.dice.once_in(2) {
            true => self.disk.crash(self.dice.seed()),
            false => self.disk.kill(),
        };
        self.trace.line("RESTART".to_owned());
        self.disk.clear_fault();
        self.shard = open(&self.disk, &mut self.dice).map_err(stuck)?;
        self.begin()?;
        self.look()
    }

    /// Reads every queue after a commit, and holds it to the ledger.
    fn look(&mut self) -> Result<(), Violation> {
        let restarts = self.tally.restarts;
        self.commit()?;
        if self.tally.restarts != restarts {
            return Ok(());
        }
        for queue in QUEUES {
            let view = self.shard.queue(queue).map_err(stuck)?;
            let (mut content, mut from) = (Vec::new(), view.first_offset);
            while from < view.next_offset {
                let (peeked, next) = match self.shard.peek(queue, from, 100) {
                    Ok(peeked) => peeked,
                    Err(error) => return self.failed(error),
                };
                content.extend(peeked.iter().map(|m| (m.offset, m.body.to_vec())));
                if next <= from {
                    return self.failed(format!("'{queue}' cannot be read at {from}"));
                }
                from = next;
            }
            self.ledger.content(queue, view.first_offset, &content)?;
        }
        let view = self.shard.queue("in").map_err(stuck)?;
        let acked_below = view.groups.first().map_or(0, |group| group.acked_below);
        self.ledger.together(acked_below)
    }

    /// Everything is settled in the end, and every input has its outputs.
    fn drain(&mut self) -> Result<(), Violation> {
        // A read that met the end of the power may have stopped a queue: only a start helps it.
        if is_off(&self.disk) {
            self.restart()?;
        }
        self.disk.clear_fault();
        for round in 0..DRAIN_ROUNDS_MAX {
            self.now_ms += 20;
            match round % 16 {
                0 => self.tidy()?,
                _ => self.commit()?,
            }
            (0..WORKER).try_for_each(|index| self.send(index))?;
            self.transform()?;
            self.drain_some();
            let view = self.shard.queue("in").map_err(stuck)?;
            let acked_below = view.groups.first().map_or(0, |group| group.acked_below);
            let is_settled = self.producers.iter().all(Producer::is_settled);
            if is_settled && acked_below == view.next_offset && view.next_offset > 0 {
                return self.look();
            }
        }
        let left: Vec<String> = self.producers.iter().map(Producer::show).collect();
        Err(stuck(format!(
            "not settled: {left:?}, worker {:?} holds {:?}, {:?}",
            self.worker,
            self.held,
            self.shard.queue("in")
        )))
    }
}
