use super::*;
use waypost_plugin::testing::{self, Input};

/// What becomes of messages, in one call; a fresh instance each time, as after a restart.
fn judged(settings: &[(&str, &str)], inputs: Vec<Input>) -> Vec<Decision> {
    let (mut dedup, interest) = testing::init::<Dedup>(settings).expect("it starts");
    let batch = testing::batch(&interest, inputs);
    dedup.filter_batch(&batch).expect("decisions").each
}

fn id(id: &str) -> Input {
    Input::new("t", "").message_id(id)
}

const WINDOW: [(&str, &str); 1] = [("window", "1s")];

#[test]
fn within_a_batch_and_across_a_restart() {
    let each = judged(&WINDOW, vec![id("1"), id("2"), id("1")]);
    assert_eq!(each, [Decision::Pass, Decision::Pass, Decision::Drop]);
    assert_eq!(judged(&WINDOW, vec![id("2")]), [Decision::Drop]);
}

#[test]
fn the_edge_of_the_window() {
    assert_eq!(judged(&WINDOW, vec![id("1")]), [Decision::Pass]);
    testing::advance_ms(999);
    assert_eq!(judged(&WINDOW, vec![id("1")]), [Decision::Drop]);
    testing::advance_ms(1);
    assert_eq!(judged(&WINDOW, vec![id("1")]), [Decision::Pass]);
}

#[test]
fn the_edge_within_a_batch() {
    let at = |ms: u64| id("1").received_at_ms(5_000 + ms);
    let each = judged(
        &WINDOW,
        vec![at(0), at(999), at(1_000), at(1_999), at(2_000)],
    );
    let (pass, drop) = (Decision::Pass, Decision::Drop);
    assert_eq!(each, [pass, drop, pass, drop, pass]);
    assert_eq!(
        judged(&WINDOW, vec![at(1)]),
        [drop],
        "the clock was set back"
    );
}

#[test]
fn a_duplicate_may_extend_it() {
    let settings = [("window", "1s"), ("extend", "true")];
    assert_eq!(judged(&settings, vec![id("1")]), [Decision::Pass]);
    for _ in 0..3 {
        testing::advance_ms(999);
        assert_eq!(judged(&settings, vec![id("1")]), [Decision::Drop]);
    }
    testing::advance_ms(1_000);
    assert_eq!(judged(&settings, vec![id("1")]), [Decision::Pass]);
}

#[test]
fn the_reason_says_what_and_when() {
    let (mut dedup, interest) = testing::init::<Dedup>(&[("by", "$.n")]).expect("it starts");
    let input = |at| Input::new("t", r#"{"n":"a"}"#).received_at_ms(at);
    let batch = testing::batch(&interest, [input(5_000), input(5_020)]);
    let reasons = dedup.filter_batch(&batch).expect("decisions").reasons;
    assert_eq!(reasons, [(1, "$.n a came before, 20 ms ago".to_owned())]);
}

#[test]
fn what_has_no_key_goes_on() {
    let no_id = || Input::new("t", "");
    assert_eq!(judged(&[], vec![no_id(), no_id()]), [Decision::Pass; 2]);
    let rejecting = [("on-missing", "reject")];
    assert_eq!(judged(&rejecting, vec![no_id()]), [Decision::Reject]);
}

#[test]
fn a_full_state_is_tried_again_later() {
    testing::limit_state(60);
    let (mut dedup, interest) = testing::init::<Dedup>(&[]).expect("it starts");
    let batch = testing::batch(&interest, (0..50).map(|n| id(&n.to_string())));
    assert!(matches!(
        dedup.filter_batch(&batch),
        Err(Error::Unavailable(_))
    ));
}

#[test]
fn wrong_settings_are_named() {
    for (settings, setting) in [
        (&[("window", "0s")][..], "window"),
        (&[("by.1", "id")], "by.1"),
        (&[("extend", "1")], "extend"),
        (&[("windows", "1s")], "windows"),
    ] {
        let Err(error) = testing::init::<Dedup>(settings) else {
            panic!("{settings:?} is taken")
        };
        assert_eq!(error.setting.as_deref(), Some(setting));
    }
}
