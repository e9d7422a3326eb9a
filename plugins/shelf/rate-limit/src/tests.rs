use super::*;
use waypost_plugin::testing::{self, Input};

/// How many of messages at these times pass; a fresh instance each time, as after a restart.
fn passed(settings: &[(&str, &str)], times_ms: &[u64]) -> usize {
    let inputs = times_ms
        .iter()
        .map(|at| Input::new("t", "").key("k").received_at_ms(*at));
    judged(settings, inputs.collect())
        .into_iter()
        .filter(|decision| *decision == Decision::Pass)
        .count()
}

fn judged(settings: &[(&str, &str)], inputs: Vec<Input>) -> Vec<Decision> {
    let (mut limiter, interest) = testing::init::<Limiter>(settings).expect("it starts");
    let batch = testing::batch(&interest, inputs);
    limiter.filter_batch(&batch).expect("decisions").each
}

const TEN: [(&str, &str); 2] = [("limit", "10/1s"), ("by", "key")];

#[test]
fn a_burst_and_then_the_rate() {
    assert_eq!(passed(&TEN, &[5_000; 15]), 10);
    assert_eq!(passed(&TEN, &[5_099]), 0, "a message is worth 100 ms");
    assert_eq!(passed(&TEN, &[5_100, 5_100]), 1);
    assert_eq!(passed(&TEN, &[5_400; 5]), 3);
    assert_eq!(
        passed(&TEN, &[9_000; 15]),
        10,
        "no more than a burst is saved up"
    );
}

#[test]
fn over_a_long_time_it_is_the_rate() {
    let times: Vec<_> = (0..10_000).map(|n| 1_000 + n * 10).collect();
    let passed: usize = times.chunks(64).map(|times| passed(&TEN, times)).sum();
    assert!(
        (1_009..=1_011).contains(&passed),
        "100 s at 10/s and a burst: {passed}"
    );
}

#[test]
fn a_smaller_burst() {
    let settings = [TEN[0], TEN[1], ("burst", "2")];
    assert_eq!(passed(&settings, &[5_000; 15]), 2);
    assert_eq!(passed(&settings, &[5_100; 15]), 1);
}

#[test]
fn each_key_has_its_own() {
    let input = |key: &str| Input::new("t", "").key(key).received_at_ms(5_000);
    let settings = [("limit", "1/1h"), ("by", "key"), ("otherwise", "reject")];
    let inputs = vec![
        input("a"),
        input("b"),
        input("a"),
        Input::new("t", ""),
        Input::new("t", ""),
    ];
    let expected = [
        Decision::Pass,
        Decision::Pass,
        Decision::Reject,
        Decision::Pass,
        Decision::Reject,
    ];
    assert_eq!(judged(&settings, inputs), expected);
}

#[test]
fn a_clock_that_was_set_back() {
    assert_eq!(passed(&TEN, &[90_000_000; 15]), 10);
    assert_eq!(
        passed(&TEN, &[89_999_990, 89_960_000]),
        0,
        "not by a little"
    );
    assert_eq!(passed(&TEN, &[5_000; 15]), 10, "by hours: it begins anew");
}

#[test]
fn what_is_used_up_is_forgotten() {
    assert_eq!(passed(&TEN, &[5_000; 3]), 3);
    assert_eq!(testing::state().len(), 1);
    testing::advance_ms(300);
    assert_eq!(testing::state().len(), 0);
}

#[test]
fn the_reason_names_the_limit_and_the_key() {
    let (mut limiter, interest) =
        testing::init::<Limiter>(&[("limit", "1/m"), ("by", "key")]).expect("it starts");
    let input = || Input::new("t", "").key("press-1");
    let batch = testing::batch(&interest, [input(), input()]);
    let reasons = limiter.filter_batch(&batch).expect("decisions").reasons;
    assert_eq!(reasons, [(1, "more than 1/m of key press-1".to_owned())]);
}

#[test]
fn wrong_settings_are_named() {
    for (settings, setting) in [
        (&[][..], "limit"),
        (&[("limit", "100")], "limit"),
        (&[("limit", "0/1s")], "limit"),
        (&[("limit", "5/1w")], "limit"),
        (&[("limit", "5/999d")], "limit"),
        (&[("limit", "5/1s"), ("burst", "0")], "burst"),
        (&[("limit", "5/1s"), ("by", "tenant")], "by"),
        (&[("limit", "5/1s"), ("on-limit", "drop")], "on-limit"),
    ] {
        let Err(error) = testing::init::<Limiter>(settings) else {
            panic!("{settings:?} is taken")
        };
        assert_eq!(error.setting.as_deref(), Some(setting));
    }
}
