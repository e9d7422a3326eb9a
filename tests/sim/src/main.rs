//! Repeats one run of the simulator, or runs many.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use waypost_log::mem::Injected;
use waypost_sim::{Faults, Plan, ids, once, receipts, rot, run, sweep, time};

#[derive(Clone, Copy, ValueEnum)]
enum FaultsArg {
    None,
    Crashes,
    Disk,
}

/// Runs the simulator; a failing run prints its trace and how to repeat it.
#[derive(Parser)]
struct Args {
    /// The seed; a random one if absent.
    #[arg(long, env = "WAYPOST_SIM_SEED")]
    seed: Option<u64>,
    /// Actions of actors.
    #[arg(long, default_value_t = 600)]
    steps: u64,
    /// Faults to draw.
    #[arg(long, value_enum, default_value_t = FaultsArg::Crashes)]
    faults: FaultsArg,
    /// The power goes at this call to the disk.
    #[arg(long)]
    power_off_at: Option<u64>,
    /// Runs so many seeds, each one more than the last.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Loses power at every call of the run, one after the other.
    #[arg(long)]
    sweep: bool,
    /// Flips bits so many times, instead of other faults.
    #[arg(long)]
    rot: Option<u64>,
    /// Runs the world of expiry, delay, priority and last values instead.
    #[arg(long)]
    time: bool,
    /// Runs the world of producers and transactions instead.
    #[arg(long)]
    once: bool,
    /// Runs the world of message ids instead.
    #[arg(long)]
    ids: bool,
    /// Runs the world of receipts instead.
    #[arg(long)]
    receipts: bool,
    /// Prints the whole trace.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    match repeat(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn repeat(args: &Args) -> anyhow::Result<()> {
    let seed = match args.seed {
        Some(seed) => seed,
        None => getrandom::u64().map_err(|e| anyhow::anyhow!("no randomness: {e}"))? >> 16,
    };
    let plan = Plan {
        steps: args.steps,
        faults: match args.faults {
            FaultsArg::None => Faults::None,
            FaultsArg::Crashes => Faults::Crashes,
            FaultsArg::Disk => Faults::Disk,
        },
        power_off_at: args.power_off_at,
        trace_lines: if args.trace { usize::MAX } else { 60 },
    };
    let begin = Instant::now();
    let (mut restarts, mut delivered) = (0, 0);
    let mut injected = Injected::default();
    for seed in seed..seed.saturating_add(args.runs) {
        if args.time {
            let tally = time::run(seed, args.steps)?;
            restarts += tally.restarts;
            delivered += tally.delivered;
            continue;
        }
        if args.once {
            let tally = once::run(seed, args.steps)?;
            restarts += tally.restarts;
            delivered += tally.confirmed;
            continue;
        }
        if args.ids {
            let tally = ids::run(seed, args.steps)?;
            restarts += tally.restarts;
            delivered += tally.confirmed;
            continue;
        }
        if args.receipts {
            let tally = receipts::run(seed, args.steps)?;
            restarts += tally.restarts;
            delivered += tally.told;
            continue;
        }
        if args.sweep {
            restarts += sweep(seed, args.steps, 1)?;
            continue;
        }
        if let Some(rounds) = args.rot {
            let tally = rot::run(seed, &plan, rounds)?;
            restarts += tally.restarts;
            injected += tally.injected;
            continue;
        }
        let report = run(seed, &plan)?;
        restarts += report.tally.restarts;
        injected += report.tally.injected;
        delivered += report.tally.delivered;
        if args.trace {
            print!("{}", report.trace);
        }
        if args.runs == 1 {
            println!("seed {seed}: {:?}", report.tally);
            println!("digest {:016x}, {} lines", report.digest.0, report.digest.1);
        }
    }
    println!(
        "{} runs from seed {seed}: {restarts} restarts, {delivered} deliveries, {:.1} s",
        args.runs,
        begin.elapsed().as_secs_f64()
    );
    if injected != Injected::default() {
        println!("faults: {injected}");
    }
    Ok(())
}
