//! Producers that send again and transactions, under crashes.
//!
//! `WAYPOST_SIM_SEED=<n> cargo test -p waypost-sim --test once` runs that seed in place of the
//! random one.

use waypost_sim::once;

#[test]
fn fixed_seeds() {
    let mut total = once::Tally::default();
    for seed in 1..=200 {
        match once::run(seed, 300) {
            Ok(tally) => {
                total.confirmed += tally.confirmed;
                total.duplicates += tally.duplicates;
                total.refused += tally.refused;
                total.transactions += tally.transactions;
                total.conflicts += tally.conflicts;
                total.fenced += tally.fenced;
                total.restarts += tally.restarts;
            }
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{total:?}");
    // A world in which nothing happens would prove nothing.
    assert!(
        total.confirmed > 10_000 && total.restarts > 500,
        "{total:?}"
    );
    assert!(total.duplicates > 1000 && total.refused > 1000, "{total:?}");
    assert!(
        total.transactions > 1000 && total.conflicts > 100,
        "{total:?}"
    );
    assert!(total.fenced > 500, "{total:?}");
}

#[test]
fn a_seed_that_nobody_chose() {
    let seed = match std::env::var("WAYPOST_SIM_SEED") {
        Ok(text) => text.parse().expect("WAYPOST_SIM_SEED is a number"),
        Err(_) => getrandom::u64().expect("the system gives random numbers") >> 16,
    };
    println!("seed {seed}");
    if let Err(failure) = once::run(seed, 2000) {
        panic!("{failure}");
    }
}
