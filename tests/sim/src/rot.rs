//! Synced bytes change on the disk. What they held may be lost, but nothing damaged is served,
//! nothing panics, the shard opens and goes on, and a loss is told by an alarm.
//!
//! Left out: that acks survive. Rot may take them, and messages then come again.

use waypost_log::mem::MemVfs;

use crate::dice::Dice;
use crate::invariants::Violation;
use crate::runner::Failure;
use crate::world::{Faults, Plan, Tally, World};

/// Bits flipped at once, at most.
const FLIPS_MAX: u64 = 6;

/// Fills a shard, and then, `rounds` times, flips bits while it is down, opens it, reads all that
/// it serves and uses it further. Of a plan, the steps and the lines of the trace count.
pub fn run(seed: u64, plan: &Plan, rounds: u64) -> Result<Tally, Box<Failure>> {
    let steps = plan.steps;
    let plan = Plan {
        faults: Faults::None,
        power_off_at: None,
        ..plan.clone()
    };
    let failure = |violation, step, trace| {
        Box::new(Failure {
            seed,
            step,
            violation,
            trace,
            command: format!(
                "cargo run -p waypost-sim -- --seed {seed} --steps {steps} --rot {rounds}"
            ),
        })
    };
    let mut world = World::new(seed, plan).map_err(|v| failure(v, 0, String::new()))?;
    match spoil(&mut world, seed, steps, rounds) {
        Ok(()) => Ok(world.tally()),
        Err(violation) => Err(failure(violation, world.tally.steps, world.trace().text())),
    }
}

fn spoil(world: &mut World, seed: u64, steps: u64, rounds: u64) -> Result<(), Violation> {
    world.steps(steps)?;
    let mut dice = Dice::new(!seed);
    for _ in 0..rounds {
        // The last group cannot be told from a torn write unless another proves it.
        world.idle_sync()?;
        world.rot(|disk| flip(disk, &mut dice))?;
        world.steps(steps / 4)?;
    }
    Ok(())
}

/// Flips bits in one file or several; gives how many. Only bytes that hold something: zeros that
/// nobody wrote are no data.
fn flip(disk: &MemVfs, dice: &mut Dice) -> u64 {
    let files: Vec<_> = disk
        .files()
        .into_iter()
        .filter(|path| {
            let name = path.to_string_lossy();
            name.ends_with(".wal") || name.ends_with(".seg") || name.ends_with("queue.meta")
        })
        .collect();
    let flips = dice.between(1, FLIPS_MAX);
    for _ in 0..flips {
        let Some(path) = dice.pick(&files) else {
            return 0;
        };
        let bytes = disk.contents(path).unwrap_or_default();
        let held: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        if let Some(at) = dice.pick(&held) {
            disk.flip_bit(path, at * 8 + dice.below(8) as usize);
        }
    }
    flips
}
