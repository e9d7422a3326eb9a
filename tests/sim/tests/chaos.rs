//! The long form, by name: `cargo test -p waypost-sim --test chaos -- --ignored`. A hundred thousand
//! crashes take about 40 minutes without optimisation on a slow core, four with `--release`; the
//! sweep about 30 without.

use waypost_log::mem::Injected;
use waypost_sim::{Faults, Plan, run, sweep};

/// Crashes that are survived in all.
const CRASHES: u64 = 100_000;

#[test]
#[ignore = "long"]
fn a_hundred_thousand_crashes() {
    let begin = getrandom::u64().expect("the system gives random numbers") >> 16;
    println!("from seed {begin}");
    let (mut crashes, mut seed) = (0, begin);
    let mut injected = Injected::default();
    while crashes < CRASHES {
        let plan = Plan {
            steps: 600,
            faults: match seed % 2 {
                0 => Faults::Crashes,
                _ => Faults::Disk,
            },
            ..Plan::default()
        };
        match run(seed, &plan) {
            Ok(report) => {
                crashes += report.tally.restarts;
                injected += report.tally.injected;
            }
            Err(failure) => panic!("{failure}"),
        }
        seed += 1;
    }
    println!("{injected}");
    println!("{crashes} crashes in {} runs", seed - begin);
}

#[test]
#[ignore = "long"]
fn power_is_lost_at_every_call_of_longer_runs() {
    for seed in 10..20 {
        if let Err(failure) = sweep(seed, 600, 1) {
            panic!("{failure}");
        }
    }
}
