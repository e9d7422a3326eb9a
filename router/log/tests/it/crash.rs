//! Power lost at every call to the disk: all that was committed is there, what was pending is
//! there whole or not at all, and a crash is never taken for rot.
//!
//! `WAYPOST_SEED=<n> cargo test -p waypost-log crash` repeats one run.

use waypost_log::mem::{Fault, MemVfs, Rng};

use crate::harness::{Died, Harness, new_disk};

const STEPS: u64 = 600;

fn seeds() -> Vec<u64> {
    match std::env::var("WAYPOST_SEED") {
        Ok(seed) => vec![seed.parse().expect("WAYPOST_SEED is a number")],
        Err(_) => vec![1, 2, 3],
    }
}

/// Runs the script until it ends or the disk dies.
fn run(vfs: &MemVfs, seed: u64) -> (Option<Harness>, Result<(), Died>) {
    let mut harness = match Harness::new(vfs.clone()) {
        Ok(harness) => harness,
        Err(e) => return (None, Err(e)),
    };
    let mut rng = Rng(seed);
    for _ in 0..STEPS {
        if let Err(e) = harness.step(&mut rng) {
            return (Some(harness), Err(e));
        }
    }
    (Some(harness), Ok(()))
}

#[test]
fn power_is_lost_at_every_call() {
    for seed in seeds() {
        let vfs = new_disk();
        let (harness, result) = run(&vfs, seed);
        result.unwrap_or_else(|e| panic!("seed {seed}: without a fault: {e:?}"));
        drop(harness);
        let calls = vfs.calls();
        assert!(calls > 500, "seed {seed}: the script does too little");
        // The first seed at every call, the others here and there.
        let stride = if seed == 1 { 1 } else { 7 };
        for nth in (0..calls).step_by(stride) {
            crash_once(seed, nth);
        }
    }
}

fn crash_once(seed: u64, nth: u64) {
    let what = format!("seed {seed}, power lost at call {nth}");
    let vfs = new_disk();
    vfs.fail_at(nth, Fault::PowerOff);
    let (harness, result) = run(&vfs, seed);
    if result.is_ok() {
        return;
    }
    let crashed = vfs.crash(seed ^ nth << 16);
    let Some(harness) = harness else {
        // It died while it was made: it must open.
        Harness::new(crashed).unwrap_or_else(|e| panic!("{what}: {e:?}"));
        return;
    };
    // The power may go again while the log is opened.
    let mut rng = Rng(nth);
    crashed.fail_at(rng.below(80), Fault::PowerOff);
    let disk = match Harness::reopen(crashed.clone(), harness.expected(), &what) {
        Ok(_) => crashed.kill(),
        Err(_) => crashed.crash(rng.next_u64()),
    };
    let mut harness = Harness::reopen(disk, harness.expected(), &what)
        .unwrap_or_else(|e| panic!("{what}: {e:?}"));
    for _ in 0..40 {
        harness
            .step(&mut rng)
            .unwrap_or_else(|e| panic!("{what}, after it: {e:?}"));
    }
    let disk = harness.vfs.crash(rng.next_u64());
    Harness::reopen(disk, harness.expected(), &format!("{what}, and again"))
        .unwrap_or_else(|e| panic!("{what}, and again: {e:?}"));
}

#[test]
fn a_process_is_killed_after_every_step() {
    for seed in seeds() {
        let mut harness = Harness::new(new_disk()).unwrap();
        let mut rng = Rng(seed);
        for step in 0..2 * STEPS {
            harness.step(&mut rng).unwrap();
            if rng.below(4) == 0 {
                let what = format!("seed {seed}, killed after step {step}");
                let disk = harness.vfs.kill();
                harness = Harness::reopen(disk, harness.expected(), &what).unwrap();
            }
        }
    }
}

#[test]
fn a_long_run_stays_within_its_files() {
    let mut harness = Harness::new(new_disk()).unwrap();
    let mut rng = Rng(7);
    for _ in 0..20_000 {
        harness.step(&mut rng).unwrap();
    }
    harness.jobs().unwrap();
    let used = harness.log.space_used();
    assert!(used.wal_files <= 7, "{used:?}");
    assert!(used.spare_files <= 2, "{used:?}");
    let files = harness.vfs.files();
    assert!(files.len() < 80, "files are left behind: {files:?}");
}
