//! Receipts under crashes: a producer that asks, comes and goes, and two groups whose consumers ack,
//! reject, and vanish.
//!
//! Held to: a receipt tells of what the group did, and after it that group never gets the message
//! again, whatever crashes; in the end every message that was confirmed has a receipt of each group,
//! and one of them is the last. What was told and not taken, or taken and not synced, may come twice.
//!
//! A group is moved to the end now and then, and the queue purged: what that settles is told in the
//! same way.
//!
//! Left out: other ends of a message (`router/shard/tests/it/receipts.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use waypost_core::journal::GroupOptions;
use waypost_core::queue::Settings;
use waypost_log::mem::{Fault, MemVfs};
use waypost_log::{Incarnation, Log};
use waypost_shard::{Attach, Batch, Now, Options, Output, Part, PublishError, Shard, Stamp, Start};
use waypost_wire::Message;
use waypost_wire::data::{ConsumerFrame, Deliver, ExceptionKind, Outcome, Range, Receipts};
use waypost_wire::record;
use waypost_wire::slab::SlabBuilder;

use crate::dice::Dice;
use crate::invariants::Violation;
use crate::trace::Trace;
use crate::world::disk::is_off;
use crate::world::{dir, log_options};

const GROUPS: [&str; 2] = ["a", "b"];
const PRODUCER: [u8; 16] = [6; 16];
const WALL_MS: u64 = 1_700_000_000_000;
const KEPT_LINES: usize = 80;
const DRAIN_ROUNDS_MAX: u32 = 1000;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages confirmed.
    pub confirmed: u64,
    /// Receipts told, repeated ones too.
    pub told: u64,
    /// Of these, told before.
    pub again: u64,
    /// Processes that ended.
    pub restarts: u64,
}

/// A run that broke an invariant.
#[derive(Debug, thiserror::Error)]
#[error(
    "{trace}\nseed {seed}: {violation}\nagain: cargo run -p waypost-sim -- --receipts --seed {seed} --steps {steps}"
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
    next_ticket: u64,
    next_consumer: u64,
    /// The producer's stream, if it has one: epoch, session, number of the last receipt.
    stream: Option<(u64, u64, u64)>,
    /// Messages with these numbers were or will be sent; those below `sent` on this stream.
    numbers: u64,
    sent: u64,
    /// By ticket, the first number and how many.
    flights: BTreeMap<u64, (u64, u64)>,
    confirmed: BTreeSet<u64>,
    /// By consumer: its group, and what it holds.
    consumers: BTreeMap<u64, (usize, Vec<u64>)>,
    /// What consumers said, by group and offset.
    said: BTreeSet<(usize, u64, Outcome)>,
    /// Receipts that the application has, by number and group; and whether one was the last.
    has: BTreeMap<(u64, usize), Outcome>,
    last: BTreeSet<u64>,
    /// Told of by group and offset: must not be delivered again.
    done: BTreeSet<(usize, u64)>,
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
        next_ticket: 1,
        next_consumer: 1,
        stream: None,
        numbers: 1,
        sent: 1,
        flights: BTreeMap::new(),
        confirmed: BTreeSet::new(),
        consumers: BTreeMap::new(),
        said: BTreeSet::new(),
        has: BTreeMap::new(),
        last: BTreeSet::new(),
        done: BTreeSet::new(),
    };
    match world.live(steps) {
        Ok(()) => Ok(world.tally),
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

fn broken(what: String) -> Violation {
    Violation::new("receipts", what)
}

impl World {
    fn live(&mut self, steps: u64) -> Result<(), Violation> {
        self.begin()?;
        for _ in 0..steps {
            self.now_ms += self.dice.below(20);
            match self.dice.below(100) {
                0..=24 => self.send()?,
                25..=49 => self.consume(),
                50..=74 => self.commit()?,
                75..=80 => self.tidy()?,
                81..=84 => self.leave()?,
                85..=89 => self.come_or_go()?,
                90 => self.settle_all()?,
                91..=94 => self.restart()?,
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

    fn begin(&mut self) -> Result<(), Violation> {
        self.stream = None;
        self.flights.clear();
        self.consumers.clear();
        let settings = Settings {
            ack_deadline_ms: 100_000_000,
            deliver_max: 1_000_000,
            ..Settings::default()
        };
        for (number, name) in [(1, waypost_core::DEAD_LETTER), (2, "q")] {
            let incarnation = Incarnation::new(number).ok_or_else(|| stuck("no incarnation"))?;
            let made = self
                .shard
                .ensure_queue(name, settings.clone(), incarnation, "node");
            if let Err(error) = made {
                return self.failed(error);
            }
        }
        (0..GROUPS.len()).try_for_each(|group| self.attach(group))
    }

    fn failed(&mut self, error: impl std::fmt::Display) -> Result<(), Violation> {
        self.trace.line(format!("failed: {error}"));
        match is_off(&self.disk) {
            true => self.restart(),
            false => Err(stuck(error)),
        }
    }

    fn attach(&mut self, group: usize) -> Result<(), Violation> {
        let consumer = self.next_consumer;
        self.next_consumer += 1;
        let attach = Attach {
            consumer,
            queue: "q".into(),
            group: GROUPS[group].to_owned(),
            start: Start::Beginning,
            options: GroupOptions::default(),
            ack_deadline_ms: None,
            batch_bytes_max: 1 << 20,
        };
        let now = self.now();
        if let Err(error) = self.shard.attach(now, attach) {
            return self.failed(error);
        }
        let credit = ConsumerFrame::Credit {
            messages: 1 << 40,
            bytes: 1 << 50,
        };
        self.shard.consumer_frame(now, consumer, credit);
        self.consumers.insert(consumer, (group, Vec::new()));
        Ok(())
    }

    /// A consumer vanishes, and another comes.
    fn leave(&mut self) -> Result<(), Violation> {
        let ids: Vec<u64> = self.consumers.keys().copied().collect();
        let Some(consumer) = self.dice.pick(&ids).copied() else {
            return Ok(());
        };
        let Some((group, _)) = self.consumers.remove(&consumer) else {
            return Ok(());
        };
        self.trace.line(format!("consumer {consumer} vanishes"));
        let now = self.now();
        self.shard.detach(now, consumer, false);
        self.attach(group)
    }

    /// A consumer acks or rejects some of what it holds.
    fn consume(&mut self) {
        let ids: Vec<u64> = self.consumers.keys().copied().collect();
        let Some(consumer) = self.dice.pick(&ids).copied() else {
            return;
        };
        let Some((group, held)) = self.consumers.get_mut(&consumer) else {
            return;
        };
        let count = self.dice.between(1, 6).min(held.len() as u64) as usize;
        if count == 0 {
            return;
        }
        let from = self.dice.below((held.len() - count) as u64 + 1) as usize;
        let mut offsets: Vec<u64> = held.drain(from..from + count).collect();
        offsets.sort_unstable();
        let outcome = match self.dice.once_in(5) {
            true => Outcome::DeadLettered,
            false => Outcome::Acked,
        };
        let each = offsets.iter().map(|offset| (*group, *offset, outcome));
        self.said.extend(each);
        self.trace
            .line(format!("consumer {consumer} {outcome:?} {offsets:?}"));
        let ranges = offsets.into_iter().map(Range::one).collect();
        let frame = match outcome {
            Outcome::DeadLettered => ConsumerFrame::Reject {
                reason: "no".to_owned(),
                ranges,
            },
            _ => ConsumerFrame::Ack(ranges),
        };
        let now = self.now();
        self.shard.consumer_frame(now, consumer, frame);
    }

    /// A group is moved to the end, or the queue is purged.
    fn settle_all(&mut self) -> Result<(), Violation> {
        let now = self.now();
        let end = self.shard.queue("q").map_err(stuck)?.next_offset;
        let group = self.dice.below(GROUPS.len() as u64 + 1) as usize;
        let (groups, outcome) = match GROUPS.get(group) {
            Some(_) => (group..group + 1, Outcome::Passed),
            None => (0..GROUPS.len(), Outcome::Removed),
        };
        for group in groups {
            // It may be told of what is there, and of nothing that comes later.
            self.said
                .extend((0..end).map(|offset| (group, offset, outcome)));
            let consumers = self.consumers.values_mut();
            consumers
                .filter(|(of, _)| *of == group)
                .for_each(|(_, held)| held.clear());
        }
        let done = match GROUPS.get(group) {
            Some(name) => {
                self.trace.line(format!("group {name} to the end"));
                let sought = self.shard.seek_group(now, "q", name, Start::End);
                sought.map(|_| ())
            }
            None => {
                self.trace.line("purge".to_owned());
                self.shard.purge_queue(now, "q").map(|_| ())
            }
        };
        match done {
            Ok(()) => Ok(()),
            Err(error) => self.failed(error),
        }
    }

    /// The producer's process ends, or begins.
    fn come_or_go(&mut self) -> Result<(), Violation> {
        self.flights.clear();
        match self.stream.take() {
            Some((_, session, _)) => {
                self.trace.line("producer goes".to_owned());
                self.shard.close_producer(&PRODUCER, session);
            }
            None => {
                let opened = self.shard.open_producer(PRODUCER, 0).map_err(stuck)?;
                self.trace.line(format!("producer comes: {opened:?}"));
                self.shard.open_receipts(PRODUCER, opened.session);
                self.stream = Some((opened.epoch, opened.session, 0));
                // What has no confirm is sent again, in order.
                let open = (1..self.numbers).find(|n| !self.confirmed.contains(n));
                self.sent = open.unwrap_or(self.numbers);
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Violation> {
        let Some((epoch, session, _)) = self.stream else {
            return Ok(());
        };
        let (first, count) = (self.sent, self.dice.between(1, 6));
        let mut slab = SlabBuilder::new();
        for sequence in first..first + count {
            let producer = record::Producer {
                id: PRODUCER,
                epoch,
                sequence,
            };
            slab.push_message(&Message {
                producer: Some(producer),
                ..Message::new("t", sequence.to_string())
            });
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let batch = Batch {
            ticket,
            first_sequence: 1,
            count: count as u32,
            parts: vec![Part::new("q".into(), slab.finish()).timed(false)],
            stamp: Some(Stamp {
                producer: PRODUCER,
                epoch,
                session,
                sequences: (first..first + count).collect(),
            }),
            receipts: true,
            ..Batch::default()
        };
        self.sent = first + count;
        self.numbers = self.numbers.max(self.sent);
        self.trace
            .line(format!("send {first}, {count} as {ticket}"));
        self.flights.insert(ticket, (first, count));
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
                self.take_outputs()
            }
            Err(error) => self.failed(error),
        }
    }

    fn take_outputs(&mut self) -> Result<(), Violation> {
        for output in self.shard.take_outputs() {
            match output {
                Output::Accepted(accepted) => {
                    let flight = self.flights.remove(&accepted.ticket);
                    let is_taken =
                        |e: &waypost_wire::data::Exception| e.kind == ExceptionKind::Duplicate;
                    if !accepted.exceptions.iter().all(is_taken) {
                        return Err(stuck(format!("{accepted:?}")));
                    }
                    if let Some((first, count)) = flight {
                        self.tally.confirmed += count;
                        self.confirmed.extend(first..first + count);
                    }
                }
                Output::Deliver { consumer, deliver } => self.delivered(consumer, &deliver)?,
                Output::Receipts {
                    session, receipts, ..
                } => self.told(session, receipts)?,
                Output::Alarm { text, .. } if !is_off(&self.disk) => {
                    return Err(stuck(format!("alarm: {text}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn delivered(&mut self, consumer: u64, deliver: &Deliver) -> Result<(), Violation> {
        let Some((group, held)) = self.consumers.get_mut(&consumer) else {
            return Ok(());
        };
        for index in 0..deliver.slab.count() as usize {
            let offset = match deliver.detail.get(index) {
                Some((offset, _)) => *offset,
                None => deliver.first_offset + index as u64,
            };
            if self.done.contains(&(*group, offset)) {
                return Err(broken(format!(
                    "group {} gets {offset} after a receipt for it",
                    GROUPS[*group]
                )));
            }
            held.push(offset);
        }
        let bytes = deliver.slab.bytes().len() as u64;
        self.shard.written(consumer, bytes);
        Ok(())
    }

    fn told(&mut self, session: u64, receipts: Receipts) -> Result<(), Violation> {
        let Some((_, own, number)) = &mut self.stream else {
            return Ok(());
        };
        if session != *own {
            return Ok(());
        }
        if receipts.lost > 0 {
            return Err(broken(format!("{} receipts were forgotten", receipts.lost)));
        }
        self.trace.line(format!("told {receipts:?}"));
        for receipt in &receipts.receipts {
            *number += receipt.count;
            let group = GROUPS.iter().position(|g| *g == receipt.group);
            let group = group.ok_or_else(|| broken(format!("of no group: {receipt:?}")))?;
            for n in 0..receipt.count {
                let (sequence, offset) = (receipt.sequence + n, receipt.offset + n);
                if !self.said.contains(&(group, offset, receipt.outcome)) {
                    return Err(broken(format!("nobody said so: {receipt:?}")));
                }
                self.tally.told += 1;
                let before = self.has.insert((sequence, group), receipt.outcome);
                self.tally.again += u64::from(before.is_some());
                self.done.insert((group, offset));
                if receipt.is_last {
                    self.last.insert(sequence);
                }
            }
        }
        if *number != receipts.number {
            let (own, said) = (*number, receipts.number);
            return Err(broken(format!("number {said} after {own} receipts")));
        }
        // The application takes all of it, or some, or ends before it does.
        let taken = match self.dice.below(3) {
            0 => return Ok(()),
            1 => receipts.number,
            _ => self.dice.below(receipts.number + 1),
        };
        let now = self.now();
        self.shard.receipts_taken(now, &PRODUCER, session, taken);
        Ok(())
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

    fn restart(&mut self) -> Result<(), Violation> {
        self.tally.restarts += 1;
        self.disk = match is_off(&self.disk) || self.dice.once_in(2) {
            true => self.disk.crash(self.dice.seed()),
            false => self.disk.kill(),
        };
        self.trace.line("RESTART".to_owned());
        self.disk.clear_fault();
        self.shard = open(&self.disk, &mut self.dice)?;
        self.begin()
    }

    /// All is acked and told in the end.
    fn drain(&mut self) -> Result<(), Violation> {
        if is_off(&self.disk) {
            self.restart()?;
        }
        self.disk.clear_fault();
        let mut missing = None;
        for round in 0..DRAIN_ROUNDS_MAX {
            self.now_ms += 20;
            match round % 16 {
                // What was told and not taken comes again on another stream.
                0 => self.come_or_go()?,
                1 => self.tidy()?,
                _ => self.commit()?,
            }
            (0..8).for_each(|_| self.consume());
            let all = self.confirmed.iter();
            let mut all = all.flat_map(|n| (0..GROUPS.len()).map(|group| (*n, group)));
            missing = all.find(|one| !self.has.contains_key(one));
            if missing.is_none() && self.confirmed.iter().all(|n| self.last.contains(n)) {
                return Ok(());
            }
        }
        Err(broken(format!(
            "no receipt of {missing:?}, or no last one: {} of {}",
            self.last.len(),
            self.confirmed.len()
        )))
    }
}
