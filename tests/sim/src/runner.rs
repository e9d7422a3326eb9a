//! From a seed to a report.

use crate::invariants::Violation;
use crate::world::{Faults, Plan, Tally, World};

/// What a run gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it did.
    pub tally: Tally,
    /// A hash of every line of its trace, and their number: the same for the same seed.
    pub digest: (u64, u64),
    /// The lines that were kept.
    pub trace: String,
}

/// A run that broke an invariant.
#[derive(Debug, thiserror::Error)]
#[error("{trace}\nseed {seed}, step {step}: {violation}\nagain: {command}")]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// The step at which it ended.
    pub step: u64,
    /// What does not hold.
    pub violation: Violation,
    /// The last lines of its trace.
    pub trace: String,
    /// The command that repeats it.
    pub command: String,
}

/// Runs a seed.
pub fn run(seed: u64, plan: &Plan) -> Result<Report, Box<Failure>> {
    let failure = |violation, step, trace| {
        Box::new(Failure {
            seed,
            step,
            violation,
            trace,
            command: command(seed, plan),
        })
    };
    let _note = PanicNote(command(seed, plan));
    let mut world =
        World::new(seed, plan.clone()).map_err(|violation| failure(violation, 0, String::new()))?;
    match world.run() {
        Ok(tally) => Ok(Report {
            tally,
            digest: world.trace().digest(),
            trace: world.trace().text(),
        }),
        Err(violation) => {
            let step = world.tally.steps;
            Err(failure(violation, step, world.trace().text()))
        }
    }
}

/// Runs a seed once without faults, then once for each call that it made to the disk, with the
/// power lost at that call. Gives the number of runs. `stride` above 1 takes every so many calls.
pub fn sweep(seed: u64, steps: u64, stride: u64) -> Result<u64, Box<Failure>> {
    let quiet = Plan {
        steps,
        faults: Faults::None,
        ..Plan::default()
    };
    let calls = run(seed, &quiet)?.tally.calls;
    let mut runs = 1;
    for nth in (0..calls).step_by(stride.max(1) as usize) {
        let plan = Plan {
            power_off_at: Some(nth),
            ..quiet.clone()
        };
        run(seed, &plan)?;
        runs += 1;
    }
    Ok(runs)
}

/// The command that repeats a run.
fn command(seed: u64, plan: &Plan) -> String {
    let faults = match plan.faults {
        Faults::None => "none",
        Faults::Crashes => "crashes",
        Faults::Disk => "disk",
    };
    let mut command = format!(
        "cargo run -p waypost-sim -- --seed {seed} --steps {} --faults {faults}",
        plan.steps
    );
    if let Some(nth) = plan.power_off_at {
        command += &format!(" --power-off-at {nth}");
    }
    command
}

/// Says how to repeat a run that panics.
struct PanicNote(String);

impl Drop for PanicNote {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the run panicked; again: {}", self.0);
        }
    }
}
