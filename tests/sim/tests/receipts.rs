//! Receipts under crashes.
//!
//! `WAYPOST_SIM_SEED=<n> cargo test -p waypost-sim --test receipts` runs that seed in place of the
//! random one.

use waypost_sim::receipts;

#[test]
fn fixed_seeds() {
    let mut total = receipts::Tally::default();
    for seed in 1..=40 {
        match receipts::run(seed, 300) {
            Ok(tally) => {
                total.confirmed += tally.confirmed;
                total.told += tally.told;
                total.again += tally.again;
                total.restarts += tally.restarts;
            }
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{total:?}");
    // A world in which nothing happens would prove nothing.
    assert!(total.confirmed > 2000 && total.restarts > 300, "{total:?}");
    assert!(total.told > 5000 && total.again > 100, "{total:?}");
}

#[test]
fn a_seed_that_nobody_chose() {
    let seed = match std::env::var("WAYPOST_SIM_SEED") {
        Ok(text) => text.parse().expect("WAYPOST_SIM_SEED is a number"),
        Err(_) => getrandom::u64().expect("the system gives random numbers") >> 16,
    };
    println!("seed {seed}");
    if let Err(failure) = receipts::run(seed, 1000) {
        panic!("{failure}");
    }
}
