//! Message ids within a window: publishers without an identity that send again whatever they have
//! no confirm of, under crashes, snapshots and recycled files.
//!
//! Two queues with a window, one of them with room for few ids, and one without. The oracle holds
//! them to it: within the window no id is stored twice; what is confirmed as a repeat was stored
//! within the window before; nothing that is confirmed is missing; ids are refused only where as
//! many are known as may be. Messages are purged now and then, so that ids outlive them.
//!
//! Left out: jumps of the wall clock, which after a restart make an id last longer
//! (`core::message_ids` tests them); producers and transactions together with ids
//! (`router/shard/tests/it/message_ids.rs`).

mod oracle;

use std::collections::BTreeMap;
use std::path::Path;

use waypost_core::queue::{Retain, Settings};
use waypost_log::mem::{Fault, MemVfs};
use waypost_log::{Incarnation, Log};
use waypost_shard::{Batch, Now, Options, Output, Part, PublishError, Shard};
use waypost_wire::data::{Exception, ExceptionKind};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Code, Message};

use crate::dice::Dice;
use crate::invariants::Violation;
use crate::trace::Trace;
use crate::world::disk::is_off;
use crate::world::{dir, log_options};
use oracle::{Oracle, Try};

const NO_WINDOW: &str = "none";
const QUEUES: [&str; 3] = ["wide", "small", NO_WINDOW];
const TARGETS: [&[&str]; 4] = [&["wide"], &["wide"], &["small"], &["wide", NO_WINDOW]];
const WINDOW_MS: u64 = 3000;
/// Ids that `small` remembers.
const LIMIT_SMALL: u64 = 10;
/// Ids that are in use at a time, so that they meet.
const IDS: u64 = 40;
const WALL_MS: u64 = 1_700_000_000_000;
const KEPT_LINES: usize = 80;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages confirmed.
    pub confirmed: u64,
    /// Of these, as stored before.
    pub duplicates: u64,
    /// Messages refused because too many ids are remembered.
    pub refused: u64,
    /// Messages found in queues.
    pub stored: u64,
    /// Processes that ended.
    pub restarts: u64,
}

/// A run that broke an invariant.
#[derive(Debug, thiserror::Error)]
#[error(
    "{trace}\nseed {seed}: {violation}\nagain: cargo run -p waypost-sim -- --ids --seed {seed} --steps {steps}"
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

/// A message that its publisher wants stored.
#[derive(Clone, Copy)]
struct Wanted {
    id: u64,
    to: &'static [&'static str],
}

struct World {
    dice: Dice,
    trace: Trace,
    tally: Tally,
    disk: MemVfs,
    shard: Shard<MemVfs>,
    now_ms: u64,
    oracle: Oracle,
    /// By ticket, what was sent and not answered.
    flights: BTreeMap<u64, Vec<(Try, Wanted)>>,
    /// What is to be sent again.
    again: Vec<Wanted>,
    next_number: u64,
}

/// Runs a seed.
pub fn run(seed: u64, steps: u64) -> Result<Tally, Box<Failure>> {
    let failure = |violation, trace| {
        Box::new(Failure {
            seed,
            steps,
            violation,
            trace,
        })
    };
    let mut dice = Dice::new(seed);
    let opened = MemVfs::with_dir(Path::new("/data"))
        .map_err(stuck)
        .and_then(|disk| Ok((open(&disk, &mut dice)?, disk)));
    let (shard, disk) = opened.map_err(|violation| failure(violation, String::new()))?;
    let mut world = World {
        shard,
        dice,
        trace: Trace::keeping(KEPT_LINES),
        tally: Tally::default(),
        disk,
        now_ms: 1000,
        oracle: Oracle::default(),
        flights: BTreeMap::new(),
        again: Vec::new(),
        next_number: 1,
    };
    match world.live(steps) {
        Ok(()) => {
            world.tally.stored = world.oracle.stored();
            Ok(world.tally)
        }
        Err(violation) => Err(failure(violation, world.trace.text())),
    }
}

fn open(disk: &MemVfs, dice: &mut Dice) -> Result<Shard<MemVfs>, Violation> {
    let (log, recovered) =
        Log::open(disk.clone(), &dir(), log_options(dice.seed()), WALL_MS).map_err(stuck)?;
    let options = Options {
        cache_bytes: 4 << 10,
        consumer_bytes_max: 1 << 30,
        consumer_messages_max: 1 << 20,
        ack_sync_ms: 10,
    };
    let opened = Shard::open(log, recovered, options);
    match opened.alarms.is_empty() {
        true => Ok(opened.shard),
        false => Err(stuck(format!("alarms: {:?}", opened.alarms))),
    }
}

fn stuck(what: impl std::fmt::Display) -> Violation {
    Violation::new("progress", what.to_string())
}

impl World {
    fn live(&mut self, steps: u64) -> Result<(), Violation> {
        self.begin()?;
        for _ in 0..steps {
            self.now_ms += self.dice.below(60);
            match self.dice.below(100) {
                0..=54 => self.send()?,
                55..=79 => self.commit()?,
                80..=84 => self.tidy()?,
                85..=90 => self.look()?,
                91 => self.purge()?,
                // Longer than any id lives.
                92 => self.now_ms += WINDOW_MS,
                93..=95 => self.restart()?,
                _ => {
                    let nth = self.dice.below(30);
                    self.trace.line(format!("power off at call {nth}"));
                    self.disk.fail_at(nth, Fault::PowerOff);
                }
            }
        }
        if is_off(&self.disk) {
            self.restart()?;
        }
        self.disk.clear_fault();
        self.look()
    }

    fn now(&self) -> Now {
        Now {
            mono_ms: self.now_ms,
            wall_ms: WALL_MS + self.now_ms,
        }
    }

    fn begin(&mut self) -> Result<(), Violation> {
        for (number, name) in (1..).zip(QUEUES) {
            let mut settings = Settings {
                retain: Retain::Log,
                dedup_window_ms: Some(WINDOW_MS),
                ..Settings::default()
            };
            match name {
                "small" => settings.dedup_ids_max = LIMIT_SMALL as u32,
                NO_WINDOW => settings.dedup_window_ms = None,
                _ => {}
            }
            let incarnation = Incarnation::new(number).ok_or_else(|| stuck("no incarnation"))?;
            let made = self.shard.ensure_queue(name, settings, incarnation, "node");
            if let Err(error) = made {
                return self.failed(error);
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: impl std::fmt::Display) -> Result<(), Violation> {
        self.trace.line(format!("failed: {error}"));
        match is_off(&self.disk) {
            true => self.restart(),
            false => Err(stuck(error)),
        }
    }

    /// A batch of new messages and of such as are sent again.
    fn send(&mut self) -> Result<(), Violation> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for _ in 0..self.dice.between(1, 5) {
            let to = self.dice.pick(&TARGETS).copied().unwrap_or(TARGETS[0]);
            // Some have no id; a few are chosen again soon.
            let id = match self.dice.once_in(8) {
                true => 0,
                false => 1 + self.dice.below(IDS),
            };
            let is_again = self.dice.once_in(2);
            let old = self.again.pop().filter(|_| is_again);
            wanted.push(old.unwrap_or(Wanted { id, to }));
        }
        let (first, at_ms) = (self.next_number, self.now_ms);
        self.next_number += wanted.len() as u64;
        let tries = (first..).zip(wanted).map(|(number, wanted)| {
            let id = wanted.id;
            (Try { id, number, at_ms }, wanted)
        });
        let tries: Vec<(Try, Wanted)> = tries.collect();
        let batch = batch(first, &tries);
        self.trace.line(format!(
            "send {tries:?} as {first}",
            tries = tries.iter().map(|(t, _)| t).collect::<Vec<_>>()
        ));
        self.flights.insert(first, tries);
        let restarts = self.tally.restarts;
        let mut result = self.shard.publish(self.now(), &batch);
        if let Err(PublishError::NoRoom(_)) = result {
            self.tidy()?;
            if self.tally.restarts != restarts {
                return Ok(());
            }
            result = self.shard.publish(self.now(), &batch);
        }
        match result {
            Ok(()) => Ok(()),
            Err(error) => self.failed(error),
        }
    }

    fn commit(&mut self) -> Result<(), Violation> {
        let now = self.now();
        self.shard.on_time(now);
        match self.shard.commit(now) {
            Ok(()) => {
                self.trace.line("commit".to_owned());
                self.answered()
            }
            Err(error) => self.failed(error),
        }
    }

    /// What the shard said of batches; the queues are read first, for the oracle to judge it.
    fn answered(&mut self) -> Result<(), Violation> {
        let outputs = self.shard.take_outputs();
        if outputs.is_empty() || !self.read()? {
            return Ok(());
        }
        for output in outputs {
            match output {
                Output::Accepted(accepted) => {
                    let tries = self.flights.remove(&accepted.ticket).unwrap_or_default();
                    self.trace.line(format!(
                        "said {}: {:?}",
                        accepted.ticket, accepted.exceptions
                    ));
                    let batch = tries.len() as u64;
                    for (number, (tried, wanted)) in (accepted.ticket..).zip(tries) {
                        let said = accepted.exceptions.iter().find(|e| e.sequence == number);
                        self.judge(tried, wanted, said, batch)?;
                    }
                }
                Output::Alarm { text, .. } if !is_off(&self.disk) => {
                    return Err(stuck(format!("alarm: {text}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn judge(
        &mut self,
        tried: Try,
        wanted: Wanted,
        said: Option<&Exception>,
        batch: u64,
    ) -> Result<(), Violation> {
        match said.map(|e| (e.kind, e.code)) {
            None | Some((ExceptionKind::Duplicate, _)) => {
                self.tally.confirmed += 1;
                self.tally.duplicates += u64::from(said.is_some());
                // Some publishers lose the confirm, and send again.
                if self.dice.once_in(3) {
                    self.again.push(wanted);
                }
                self.oracle.confirmed(tried, wanted.to, said.is_some())
            }
            Some((ExceptionKind::Refused, Code::QueueFull)) if wanted.to == ["small"] => {
                self.tally.refused += 1;
                self.oracle.refused(&tried, batch)
            }
            other => Err(stuck(format!("{tried:?}: {other:?}"))),
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

    /// Messages go; their ids stay.
    fn purge(&mut self) -> Result<(), Violation> {
        self.look()?;
        let queue = self.dice.pick(&QUEUES).copied().unwrap_or(QUEUES[0]);
        self.trace.line(format!("purge {queue}"));
        let now = self.now();
        match self.shard.purge_queue(now, queue) {
            Ok(_) => self.commit(),
            Err(error) => self.failed(error),
        }
    }

    fn restart(&mut self) -> Result<(), Violation> {
        self.tally.restarts += 1;
        self.disk = match is_off(&self.disk) || self.dice.once_in(2) {
            true => self.disk.crash(self.dice.seed()),
            false => self.disk.kill(),
        };
        self.trace.line("RESTART".to_owned());
        self.disk.clear_fault();
        self.shard = open(&self.disk, &mut self.dice)?;
        // Who has no confirm sends again.
        let flights = std::mem::take(&mut self.flights).into_values().flatten();
        self.again.extend(flights.map(|(_, wanted)| wanted));
        self.begin()?;
        self.look()
    }

    fn look(&mut self) -> Result<(), Violation> {
        let restarts = self.tally.restarts;
        self.commit()?;
        if self.tally.restarts != restarts || !self.read()? {
            return Ok(());
        }
        self.oracle.all_there()
    }

    /// Reads all queues. Says whether that succeeded; if not, the process was another since.
    fn read(&mut self) -> Result<bool, Violation> {
        for queue in QUEUES {
            let view = self.shard.queue(queue).map_err(stuck)?;
            let (mut content, mut from) = (Vec::new(), view.first_offset);
            while from < view.next_offset {
                let (peeked, next) = self.shard.peek(queue, from, 100).map_err(stuck)?;
                content.extend(peeked.iter().map(|m| (m.offset, m.body.to_vec())));
                if next <= from {
                    self.failed(format!("'{queue}' cannot be read at {from}"))?;
                    return Ok(false);
                }
                from = next;
            }
            self.oracle.content(queue, &content)?;
        }
        Ok(true)
    }
}

fn batch(ticket: u64, tries: &[(Try, Wanted)]) -> Batch {
    let mut parts = Vec::new();
    for queue in QUEUES {
        let (mut slab, mut inputs) = (SlabBuilder::new(), Vec::new());
        for (input, (tried, wanted)) in (0..).zip(tries) {
            if !wanted.to.contains(&queue) {
                continue;
            }
            let id = (tried.id > 0).then(|| format!("order-{:08}", tried.id).into());
            slab.push_message(&Message {
                message_id: id,
                ..Message::new("t", tried.payload())
            });
            inputs.push(input);
        }
        if !inputs.is_empty() {
            parts.push(Part {
                inputs,
                ..Part::new(queue.into(), slab.finish()).timed(false)
            });
        }
    }
    Batch {
        ticket,
        first_sequence: ticket,
        count: tries.len() as u32,
        parts,
        ..Batch::default()
    }
}
