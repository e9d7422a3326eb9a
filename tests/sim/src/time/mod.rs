//! Time: a queue whose messages wait, expire, have priorities or replace each other, in a world
//! whose wall clock is set forwards and backwards, and whose process ends now and then.
//!
//! One publisher, two groups, one consumer each. The true time only this world knows; the shard
//! sees a monotonic clock that begins anew with each process, and the wall clock. The oracle
//! (the oracle) says for each message between which bounds its age can be known, and holds every
//! delivery and every dead letter to them.
//!
//! Left out, because [`crate::world`] has it: faults of the disk, attempts, credit, several queues.

mod oracle;

use std::path::Path;

use waypost_core::DEAD_LETTER;
use waypost_core::journal::GroupOptions;
use waypost_core::queue::{Expired, Settings};
use waypost_log::mem::MemVfs;
use waypost_log::{Incarnation, Log};
use waypost_shard::{Attach, Batch, Now, Options, Output, Part, Shard, Start};
use waypost_wire::data::{ConsumerFrame, Range};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Message, RecordRef};

use crate::dice::Dice;
use crate::invariants::Violation;
use crate::trace::Trace;
use crate::world::{dir, log_options};
use oracle::{Clocks, Known, Oracle, Want};

const QUEUE: &str = "t";
const GROUPS: [&str; 2] = ["g1", "g2"];
/// The wall clock when the world begins, in ms since 1970.
const WALL_MS: i64 = 1_700_000_000_000;
/// A monotonic clock does not begin at 0.
const MONO_MS: i64 = 5000;
/// Rounds after which everything must have come or gone.
/// Lines of a trace that a failure shows.
const KEPT_LINES: usize = 80;
const DRAIN_ROUNDS_MAX: u32 = 600;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages published.
    pub published: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Messages that expired into the dead letters.
    pub expired: u64,
    /// Times that the wall clock was set.
    pub jumps: u64,
    /// Processes that ended.
    pub restarts: u64,
}

/// A run that broke an invariant.
#[derive(Debug, thiserror::Error)]
#[error(
    "{trace}\nseed {seed}: {violation}\nagain: cargo run -p waypost-sim -- --time --seed {seed} --steps {steps}"
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
    settings: Settings,
    oracle: Oracle,
    /// The oracle as of the last commit: what a crash leaves.
    synced: Oracle,
    clocks: Clocks,
    next_consumer: u64,
    /// The consumer of each group, if there is one.
    consumers: [Option<u64>; 2],
    next_ticket: u64,
    dead_next: u64,
}

/// Runs a seed.
pub fn run(seed: u64, steps: u64) -> Result<Tally, Box<Failure>> {
    let mut dice = Dice::new(seed);
    let settings = draw_settings(&mut dice);
    let mut trace = Trace::keeping(KEPT_LINES);
    trace.line(format!("{settings:?}"));
    let clocks = Clocks::new(WALL_MS, MONO_MS);
    let opened = MemVfs::with_dir(Path::new("/data"))
        .map_err(|e| e.to_string())
        .and_then(|disk| Ok((disk.clone(), open(&disk, &mut dice, clocks.now())?)));
    let (disk, shard) = opened.map_err(|text| {
        Box::new(Failure {
            seed,
            steps,
            violation: Violation::new("progress", text),
            trace: String::new(),
        })
    })?;
    let oracle = Oracle::new(&settings);
    let mut world = World {
        dice,
        trace,
        tally: Tally::default(),
        disk,
        shard,
        settings,
        synced: oracle.clone(),
        oracle,
        clocks,
        next_consumer: 1,
        consumers: [None; 2],
        next_ticket: 1,
        dead_next: 0,
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

fn draw_settings(dice: &mut Dice) -> Settings {
    let ttl_ms = dice.once_in(2).then(|| dice.between(200, 6000));
    let kind = dice.below(5);
    let age_max_ms = dice.once_in(5).then(|| dice.between(3000, 20_000));
    Settings {
        ttl_ms,
        age_max_ms,
        last_value: kind == 0,
        priorities: match kind {
            1 | 2 => dice.between(2, 8) as u8,
            _ => 1,
        },
        expired: match dice.once_in(4) {
            true => Expired::Drop,
            false => Expired::DeadLetter,
        },
        ack_deadline_ms: 100_000_000,
        deliver_max: 1_000_000,
        ..Settings::default()
    }
}

fn open(disk: &MemVfs, dice: &mut Dice, now: Now) -> Result<Shard<MemVfs>, String> {
    let (log, recovered) = Log::open(disk.clone(), &dir(), log_options(dice.seed()), now.wall_ms)
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
        self.make_queues()?;
        for _ in 0..steps {
            match self.dice.below(100) {
                0..=34 => self.publish()?,
                35..=49 => self.commit()?,
                50..=69 => self.pass_time()?,
                70..=89 => self.consumer_acts()?,
                90..=92 => self.jump(),
                93..=95 => self.tidy()?,
                96..=97 => self.come_or_go()?,
                _ => self.restart()?,
            }
        }
        self.drain()
    }

    fn make_queues(&mut self) -> Result<(), Violation> {
        for (name, number) in [(DEAD_LETTER, 1), (QUEUE, 2)] {
            let settings = match name {
                QUEUE => self.settings.clone(),
                _ => Settings::default(),
            };
            let incarnation = Incarnation::new(number).ok_or_else(|| stuck("no incarnation"))?;
            self.shard
                .ensure_queue(name, settings, incarnation, "node")
                .map_err(stuck)?;
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<(), Violation> {
        let count = self.dice.between(1, 6);
        let mut slab = SlabBuilder::new();
        let mut wants = Vec::new();
        for _ in 0..count {
            let want = Want::draw(&mut self.dice, &self.settings);
            let number = self.oracle.next + wants.len() as u64;
            let mut message = Message::new("t", number.to_le_bytes().to_vec());
            message.not_before_ms = want.not_before_ms;
            message.time_to_live_ms = want.ttl_ms;
            message.priority = want.level;
            message.key = want.key.map(|key| vec![key].into());
            slab.push_message(&message);
            wants.push(want);
        }
        let is_timed = wants
            .iter()
            .any(|w| w.not_before_ms.is_some() || w.ttl_ms.is_some());
        // Sometimes nobody has looked.
        let is_timed = is_timed || self.dice.once_in(3);
        self.clocks.note();
        let now = self.clocks.now();
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let batch = Batch {
            ticket,
            count: count as u32,
            parts: vec![Part::new(QUEUE.into(), slab.finish()).timed(is_timed)],
            ..Batch::default()
        };
        while let Err(error) = self.shard.publish(now, &batch) {
            self.trace.line(format!("no room: {error}"));
            self.tidy()?;
        }
        self.tally.published += count;
        for want in wants {
            self.trace
                .line(format!("publish {} {want:?}", self.oracle.next));
            self.oracle.published(want, &self.clocks);
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Violation> {
        self.clocks.note();
        let now = self.clocks.now();
        self.shard.commit(now).map_err(stuck)?;
        self.trace.line("commit".to_owned());
        self.oracle.committed(&self.clocks);
        self.read_dead_letters()?;
        self.synced = self.oracle.clone();
        self.take_outputs()
    }

    /// True time passes, and the shard is told.
    fn pass_time(&mut self) -> Result<(), Violation> {
        let step = match self.dice.below(8) {
            0 => self.dice.between(500, 3000),
            1 => {
                let mono = self.clocks.now().mono_ms;
                let next = self.shard.next_timeout().unwrap_or(mono);
                next.saturating_sub(mono).min(30_000)
            }
            _ => self.dice.below(60),
        };
        self.move_clock(step)
    }

    fn move_clock(&mut self, step_ms: u64) -> Result<(), Violation> {
        self.clocks.note();
        self.clocks.pass(step_ms as i64);
        self.clocks.note();
        let now = self.clocks.now();
        self.trace.line(format!("now {now:?}"));
        self.shard.on_time(now);
        self.oracle.woken(&self.clocks);
        if self.shard.wants_commit(now) {
            return self.commit();
        }
        self.shard.deliver(now);
        self.take_outputs()
    }

    fn jump(&mut self) {
        self.tally.jumps += 1;
        let far = match self.dice.below(3) {
            0 => 100,
            1 => 10_000,
            _ => 100_000_000,
        };
        let by = self.dice.between(1, far) as i64;
        let by = if self.dice.once_in(2) { by } else { -by };
        self.trace.line(format!("the wall clock is set by {by} ms"));
        self.clocks.set_wall(by);
    }

    /// Commits, answers every wanted snapshot and runs every job.
    fn tidy(&mut self) -> Result<(), Violation> {
        for _ in 0..40 {
            self.commit()?;
            self.shard.write_snapshots();
            self.commit()?;
            let Some(job) = self.shard.log_mut().next_job() else {
                return Ok(());
            };
            let done = job.run(&self.disk);
            self.shard.log_mut().finish_job(done).map_err(stuck)?;
        }
        Err(stuck("jobs do not come to an end"))
    }

    fn come_or_go(&mut self) -> Result<(), Violation> {
        let group = self.dice.below(2) as usize;
        match self.consumers[group].take() {
            Some(consumer) => {
                let is_clean = self.dice.once_in(2);
                self.trace.line(format!("consumer {consumer} leaves"));
                self.shard.detach(self.clocks.now(), consumer, is_clean);
                self.oracle.left(group);
                Ok(())
            }
            None => self.attach(group),
        }
    }

    fn attach(&mut self, group: usize) -> Result<(), Violation> {
        let consumer = self.next_consumer;
        self.next_consumer += 1;
        let attach = Attach {
            consumer,
            queue: QUEUE.into(),
            group: GROUPS[group].to_owned(),
            start: Start::Beginning,
            options: GroupOptions::default(),
            ack_deadline_ms: None,
            batch_bytes_max: 1 << 20,
        };
        let now = self.clocks.now();
        self.shard.attach(now, attach).map_err(stuck)?;
        self.consumers[group] = Some(consumer);
        let first = self.shard.queue(QUEUE).map_err(stuck)?.first_offset;
        self.oracle.attached(group, first);
        self.trace
            .line(format!("consumer {consumer} joins {}", GROUPS[group]));
        let credit = ConsumerFrame::Credit {
            messages: 1 << 40,
            bytes: 1 << 50,
        };
        self.shard.consumer_frame(now, consumer, credit);
        Ok(())
    }

    fn consumer_acts(&mut self) -> Result<(), Violation> {
        let group = self.dice.below(2) as usize;
        let Some(consumer) = self.consumers[group] else {
            return Ok(());
        };
        let held = self.oracle.held(group);
        let Some(offset) = self.dice.pick(&held).copied() else {
            return Ok(());
        };
        let now = self.clocks.now();
        if self.dice.once_in(4) {
            let delay_ms = if self.dice.once_in(2) {
                0
            } else {
                self.dice.between(1, 900)
            };
            self.trace
                .line(format!("nack {consumer} {offset}, {delay_ms} ms"));
            let ranges = vec![Range::one(offset)];
            let frame = ConsumerFrame::Nack { delay_ms, ranges };
            self.shard.consumer_frame(now, consumer, frame);
            self.oracle.nacked(group, offset, now.mono_ms, delay_ms);
            return Ok(());
        }
        let some: Vec<u64> = held.into_iter().filter(|o| *o <= offset).collect();
        self.ack(group, &some);
        Ok(())
    }

    fn ack(&mut self, group: usize, offsets: &[u64]) {
        let Some(consumer) = self.consumers[group] else {
            return;
        };
        self.trace.line(format!("ack {consumer} {offsets:?}"));
        let ranges = offsets.iter().map(|o| Range::one(*o)).collect();
        let now = self.clocks.now();
        self.shard
            .consumer_frame(now, consumer, ConsumerFrame::Ack(ranges));
        offsets.iter().for_each(|o| self.oracle.acked(group, *o));
    }

    fn restart(&mut self) -> Result<(), Violation> {
        self.tally.restarts += 1;
        self.clocks.note();
        self.disk = match self.dice.once_in(2) {
            true => self.disk.crash(self.dice.seed()),
            false => self.disk.kill(),
        };
        self.consumers = [None; 2];
        self.oracle = self.synced.clone();
        let down = self.dice.below(4000) as i64;
        self.clocks.pass(down);
        if self.dice.once_in(2) {
            self.jump();
        }
        self.clocks.restart(MONO_MS);
        self.oracle.restarted();
        self.trace
            .line(format!("RESTART after {down} ms: {:?}", self.clocks.now()));
        self.shard = open(&self.disk, &mut self.dice, self.clocks.now()).map_err(stuck)?;
        self.make_queues()?;
        self.shard.on_time(self.clocks.now());
        self.clocks.note();
        let next = self.shard.queue(QUEUE).map_err(stuck)?.next_offset;
        match next == self.oracle.next {
            true => Ok(()),
            false => Err(Violation::new(
                "nothing_lost",
                format!("next offset {next}, expected {}", self.oracle.next),
            )),
        }
    }

    fn take_outputs(&mut self) -> Result<(), Violation> {
        for output in self.shard.take_outputs() {
            match output {
                Output::Deliver { consumer, deliver } => {
                    let group = self.consumers.iter().position(|c| *c == Some(consumer));
                    let group = group.ok_or_else(|| stuck("a delivery to nobody"))?;
                    for (index, body) in deliver.slab.iter().enumerate() {
                        let offset = match deliver.detail.get(index) {
                            Some((offset, _)) => *offset,
                            None => deliver.first_offset + index as u64,
                        };
                        self.tally.delivered += 1;
                        self.trace
                            .line(format!("deliver {offset} to {}", GROUPS[group]));
                        self.oracle
                            .delivered(group, offset, number_of(body), &self.clocks)?;
                    }
                    let bytes = deliver.slab.bytes().len() as u64;
                    self.shard.written(consumer, bytes);
                }
                Output::Alarm { text, .. } => return Err(stuck(format!("alarm: {text}"))),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_dead_letters(&mut self) -> Result<(), Violation> {
        loop {
            let (letters, next) = self
                .shard
                .peek(DEAD_LETTER, self.dead_next, 64)
                .map_err(stuck)?;
            for letter in &letters {
                let record = RecordRef::parse(&letter.body).map_err(stuck)?;
                let header = |name| {
                    let value = record.header(name).unwrap_or_default();
                    String::from_utf8_lossy(value).into_owned()
                };
                let offset: u64 = header("waypost-dead-offset").parse().map_err(stuck)?;
                let reason = header("waypost-dead-reason");
                self.trace
                    .line(format!("dead letter of {offset}: {reason}"));
                let is_plain = !record.is_timed();
                let known = self.oracle.dead(offset, &reason, is_plain, &self.clocks)?;
                if known != Known::of(number_of(&letter.body)) {
                    return Err(Violation::new(
                        "nothing_foreign",
                        format!("the dead letter of {offset} is another message"),
                    ));
                }
                self.tally.expired += 1;
            }
            self.dead_next = self.dead_next.max(next);
            if letters.is_empty() {
                return Ok(());
            }
        }
    }

    /// Everything comes or goes in the end; then the oracle is asked what became of each message.
    fn drain(&mut self) -> Result<(), Violation> {
        for group in 0..2 {
            if self.consumers[group].is_none() {
                self.attach(group)?;
            }
        }
        for round in 0..DRAIN_ROUNDS_MAX {
            match round % 16 {
                0 => self.tidy()?,
                _ => self.commit()?,
            }
            self.move_clock(100)?;
            for group in 0..2 {
                let held = self.oracle.held(group);
                self.ack(group, &held);
            }
            let view = self.shard.queue(QUEUE).map_err(stuck)?;
            if view.messages == 0 && self.oracle.all_held_none() {
                self.tidy()?;
                return self.oracle.at_the_end();
            }
        }
        Err(stuck(format!(
            "the queue does not empty: {:?}",
            self.shard.queue(QUEUE)
        )))
    }
}

fn number_of(body: &[u8]) -> u64 {
    let payload = RecordRef::parse(body)
        .map(|r| r.payload())
        .unwrap_or_default();
    payload.try_into().map_or(u64::MAX, u64::from_le_bytes)
}
