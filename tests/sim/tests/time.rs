//! Expiry, delay, priority and last values under restarts and a wall clock that is set at random.
//!
//! `WAYPOST_SIM_SEED=<n> cargo test -p waypost-sim --test time` runs that seed in place of the
//! random one.

use waypost_sim::time;

#[test]
fn fixed_seeds() {
    let mut total = time::Tally::default();
    for seed in 1..=300 {
        match time::run(seed, 300) {
            Ok(tally) => {
                total.delivered += tally.delivered;
                total.expired += tally.expired;
                total.jumps += tally.jumps;
                total.restarts += tally.restarts;
            }
            Err(failure) => panic!("{failure}"),
        }
    }
    // A world in which nothing happens would prove nothing.
    assert!(
        total.delivered > 10_000 && total.expired > 3000,
        "{total:?}"
    );
    assert!(total.jumps > 1000 && total.restarts > 500, "{total:?}");
}

#[test]
fn a_seed_that_nobody_chose() {
    let seed = match std::env::var("WAYPOST_SIM_SEED") {
        Ok(text) => text.parse().expect("WAYPOST_SIM_SEED is a number"),
        Err(_) => getrandom::u64().expect("the system gives random numbers") >> 16,
    };
    println!("seed {seed}");
    if let Err(failure) = time::run(seed, 2000) {
        panic!("{failure}");
    }
}
