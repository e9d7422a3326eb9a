//! Message ids within a window, under crashes.
//!
//! `WAYPOST_SIM_SEED=<n> cargo test -p waypost-sim --test ids` runs that seed in place of the
//! random one.

use waypost_sim::ids;

#[test]
fn fixed_seeds() {
    let mut total = ids::Tally::default();
    for seed in 1..=40 {
        match ids::run(seed, 300) {
            Ok(tally) => {
                total.confirmed += tally.confirmed;
                total.duplicates += tally.duplicates;
                total.refused += tally.refused;
                total.stored += tally.stored;
                total.restarts += tally.restarts;
            }
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{total:?}");
    // A world in which nothing happens would prove nothing.
    assert!(total.confirmed > 5000 && total.restarts > 500, "{total:?}");
    assert!(total.duplicates > 1000 && total.refused > 100, "{total:?}");
    assert!(total.stored > 5000, "{total:?}");
}

#[test]
fn a_seed_that_nobody_chose() {
    let seed = match std::env::var("WAYPOST_SIM_SEED") {
        Ok(text) => text.parse().expect("WAYPOST_SIM_SEED is a number"),
        Err(_) => getrandom::u64().expect("the system gives random numbers") >> 16,
    };
    println!("seed {seed}");
    if let Err(failure) = ids::run(seed, 1000) {
        panic!("{failure}");
    }
}
