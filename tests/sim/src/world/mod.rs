//! One run: a shard on a disk in memory, actors that use it, faults that hit it, and the model
//! that judges it. Everything is drawn from the seed, in one thread, in virtual time.

mod consume;
pub(crate) mod disk;
mod drain;
mod groups;
mod keeping;
mod manage;
mod operate;
mod outputs;
mod publish;
mod restart;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use waypost_log::mem::{Fault, Injected, MemVfs};
use waypost_log::{DataDir, Job, JobDone, Options as LogOptions};
use waypost_shard::{Now, Options, Shard};

use crate::dice::Dice;
use crate::invariants::Violation;
use crate::model::{Life, Model};
use crate::trace::Trace;

/// Messages that a consumer may hold in a run: few, so that the limit is met.
const HELD_MAX: u64 = 60;
/// Bytes of recent messages that the shard may keep: few, so that segments are read.
const CACHE_BYTES: usize = 24 << 10;
/// Where the wall clock begins, in ms since 1970.
const WALL_MS: u64 = 1_700_000_000_000;

/// Which faults a run meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Faults {
    /// None.
    None,
    /// Power losses and killed processes, at any call to the disk.
    #[default]
    Crashes,
    /// Those, and a disk that is full, fails, or answers by halves.
    Disk,
}

/// What a run is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Actions of actors.
    pub steps: u64,
    /// Faults that the run draws.
    pub faults: Faults,
    /// The power goes at this call to the disk, counted from 0, whatever is drawn.
    pub power_off_at: Option<u64>,
    /// Lines of the trace that are kept.
    pub trace_lines: usize,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            steps: 600,
            faults: Faults::Crashes,
            power_off_at: None,
            trace_lines: 60,
        }
    }
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Actions of actors.
    pub steps: u64,
    /// Messages published and taken.
    pub published: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Dead letters seen.
    pub dead_letters: u64,
    /// Restarts, after a power loss or a failure.
    pub restarts: u64,
    /// Faults armed.
    pub faults: u64,
    /// Faults that came to pass.
    pub injected: Injected,
    /// Times that the wall clock was set.
    pub jumps: u64,
    /// Groups that were moved.
    pub seeks: u64,
    /// Groups that were removed.
    pub groups_removed: u64,
    /// Times that a queue got other settings.
    pub settings: u64,
    /// Messages that were looked at, taken out, copied, and sent back from the dead letters.
    pub browsed: u64,
    /// See there.
    pub taken_out: u64,
    /// See there.
    pub replayed: u64,
    /// See there.
    pub redriven: u64,
    /// Jobs finished.
    pub jobs: u64,
    /// Calls to the disk, over all restarts.
    pub calls: u64,
}

/// A consumer as its application sees it.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub life: Life,
    pub group: String,
    pub deadline_ms: u64,
    pub credit_messages: u64,
    pub credit_bytes: u64,
    pub sent: u64,
    pub unwritten: u64,
}

/// A run in progress.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) dice: Dice,
    pub(crate) trace: Trace,
    pub(crate) tally: Tally,
    pub(crate) disk: MemVfs,
    /// The data directory that the process holds.
    pub(crate) held: DataDir<MemVfs>,
    pub(crate) shard: Shard<MemVfs>,
    pub(crate) model: Model,
    pub(crate) consumers: BTreeMap<u64, Consumer>,
    pub(crate) next_consumer: u64,
    pub(crate) next_ticket: u64,
    /// Groups that this run has.
    pub(crate) groups: Vec<&'static str>,
    /// The next sequence of each publisher.
    pub(crate) publishers: [u64; 4],
    /// The clock of deadlines, which begins anew with each process.
    pub(crate) now_ms: u64,
    /// The clock on the wall, which is set at random.
    pub(crate) wall_ms: u64,
    /// The next offset of the dead-letter queue, as last seen.
    pub(crate) dead_next: u64,
    /// A job that was taken and not run, or run and not finished.
    pub(crate) job: Option<Job<MemVfs>>,
    pub(crate) job_done: Option<JobDone<MemVfs>>,
    /// Something failed: the power may be off.
    pub(crate) is_suspect: bool,
    /// Alarms, and confirmed messages that were not found, since rot was made.
    pub(crate) told: Vec<String>,
    pub(crate) lost: Vec<String>,
    /// The log said that it takes nothing any more.
    pub(crate) is_poisoned: bool,
}

/// Where the node's data is.
pub(crate) const DATA: &str = "/data";

/// Where the shard is.
pub(crate) fn dir() -> PathBuf {
    Path::new(DATA).join("shard-0000")
}

/// Files so small that a short run rolls, moves, snapshots and recycles.
pub(crate) fn log_options(nonce: u64) -> LogOptions {
    LogOptions {
        file_bytes: 64 << 10,
        wal_bytes_max: 6 * (64 << 10),
        wal_bytes_low: 2 * (64 << 10),
        group_bytes_max: 32 << 10,
        segment_bytes_max: 24 << 10,
        spare_files_max: 1,
        segment_index_bytes_max: 512,
        nonce,
        ..LogOptions::default()
    }
}

pub(crate) fn shard_options() -> Options {
    Options {
        cache_bytes: CACHE_BYTES,
        consumer_bytes_max: 16 << 10,
        consumer_messages_max: HELD_MAX,
        ack_sync_ms: 10,
    }
}

impl World {
    /// Makes a disk and opens a shard on it, however often the power goes meanwhile.
    pub fn new(seed: u64, plan: Plan) -> Result<World, Violation> {
        let disk = MemVfs::new();
        if let Some(nth) = plan.power_off_at {
            disk.fail_at(nth, Fault::PowerOff);
        }
        let mut dice = Dice::new(seed);
        let mut trace = Trace::keeping(plan.trace_lines);
        let mut tally = Tally::default();
        let opened = restart::open(disk, &mut dice, &mut trace, &mut tally, Faults::None)?;
        let groups = (0..3).filter_map(|_| dice.pick(&consume::GROUPS).copied());
        let groups = groups.collect();
        let mut world = World {
            plan,
            dice,
            trace,
            tally,
            disk: opened.disk,
            held: opened.held,
            shard: opened.shard.shard,
            model: Model::default(),
            consumers: BTreeMap::new(),
            next_consumer: 1,
            next_ticket: 1,
            groups,
            publishers: [0; 4],
            now_ms: 1000,
            wall_ms: WALL_MS,
            dead_next: 0,
            job: None,
            job_done: None,
            is_suspect: false,
            told: Vec::new(),
            lost: Vec::new(),
            is_poisoned: false,
        };
        world.restore_queues()?;
        Ok(world)
    }

    /// Runs all steps, then drains every queue and looks at what is left.
    pub fn run(&mut self) -> Result<Tally, Violation> {
        self.steps(self.plan.steps)?;
        self.drain()?;
        self.tally.calls += self.disk.calls();
        Ok(self.tally())
    }

    /// Runs some steps.
    pub fn steps(&mut self, count: u64) -> Result<(), Violation> {
        for _ in 0..count {
            self.tally.steps += 1;
            self.draw_fault()?;
            if self.dice.once_in(50) {
                self.set_wall_clock();
            }
            self.step()?;
            self.check_up()?;
        }
        Ok(())
    }

    /// What was done, and what was suffered.
    pub fn tally(&self) -> Tally {
        Tally {
            injected: self.disk.injected(),
            ..self.tally
        }
    }

    /// What happened.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    fn step(&mut self) -> Result<(), Violation> {
        match self.dice.below(100) {
            0..=25 => self.publish(),
            26 | 27 => self.manage(),
            28..=57 => self.consumer_acts(),
            58..=72 => self.commit(),
            73..=77 => self.deliver(),
            78..=84 => self.pass_time(),
            85..=91 => self.job_moves(),
            92..=93 => self.snapshots(),
            94..=96 => self.attach(),
            97 => self.detach(),
            98 => self.manage(),
            _ => self.idle_sync(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            mono_ms: self.now_ms,
            wall_ms: self.wall_ms,
        }
    }

    /// After something failed: is the process over?
    pub(crate) fn check_up(&mut self) -> Result<(), Violation> {
        if !std::mem::take(&mut self.is_suspect) {
            return Ok(());
        }
        if disk::is_off(&self.disk) {
            self.restart(true)
        } else if self.is_poisoned {
            let is_power_loss = self.dice.once_in(2);
            self.restart(is_power_loss)
        } else {
            Ok(())
        }
    }

    /// Notes an error that a fault may explain; without faults it is one of its own.
    pub(crate) fn failed(
        &mut self,
        what: &str,
        error: &dyn std::fmt::Display,
    ) -> Result<(), Violation> {
        self.trace.line(format!("{what} failed: {error}"));
        self.is_suspect = true;
        let is_explained = self.tally.faults > 0 || self.plan.power_off_at.is_some();
        if is_explained || self.model.is_rotten {
            return Ok(());
        }
        Err(Violation::new(
            "progress",
            format!("{what} fails on a disk that works: {error}"),
        ))
    }
}
