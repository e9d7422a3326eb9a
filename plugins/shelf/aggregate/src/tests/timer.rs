//! What the timer closes, and what becomes of results that are refused.

use super::*;

#[test]
fn the_timer_closes_what_no_message_does() {
    // The stand-in's clock begins at 1,000,000 ms: 16 minutes and 40 s.
    let input = |at_ms: u64| Input::new("plant/1", r#"{"t":4}"#).received_at_ms(at_ms);
    call(&MINUTES, vec![input(1_000_000)]);
    let (mut aggregate, _) = testing::init::<Aggregate>(&MINUTES).expect("it starts");
    // The 17th minute ends at 1,020,000 ms, and then there is the delay.
    assert_eq!(testing::take_timer(), Some(21_000));
    testing::advance_ms(20_999);
    aggregate.on_timer().expect("nothing is over");
    assert_eq!((published(), testing::take_timer()), (Vec::new(), Some(10)));
    testing::advance_ms(1);
    aggregate.on_timer().expect("a window is over");
    let found = published();
    assert!(
        found[0]
            .2
            .starts_with(r#"{"from":960000,"to":1020000,"count":1"#),
        "{found:?}"
    );
    assert!(testing::state().is_empty());
    assert_eq!(testing::take_timer(), Some(60_000));
    aggregate.on_timer().expect("nothing is left");
    assert_eq!(published(), []);
}

#[test]
fn the_timer_looks_at_so_many_windows_a_call() {
    let inputs = (0..600).map(|n| Input::new(format!("plant/{n}"), "{}").received_at_ms(1_000_000));
    for inputs in inputs.collect::<Vec<_>>().chunks(200) {
        call(&MINUTES, inputs.to_vec());
    }
    let (mut aggregate, _) = testing::init::<Aggregate>(&MINUTES).expect("it starts");
    // None is over, and yet all are looked at.
    for timer in [AT_ONCE_MS, 21_000] {
        aggregate.on_timer().expect("nothing is over");
        assert_eq!((published(), testing::take_timer()), (vec![], Some(timer)));
    }
    testing::advance_ms(60_000);
    aggregate.on_timer().expect("windows are over");
    let most = WINDOWS_MAX as usize;
    assert_eq!(
        (published().len(), testing::take_timer()),
        (most, Some(AT_ONCE_MS))
    );
    // While this goes on, the next minute ends: it is closed right after.
    testing::advance_ms(60_000);
    aggregate.on_timer().expect("the rest is over");
    assert_eq!(published().len(), 600 - most);
    assert_eq!(testing::take_timer(), Some(10));
}

/// After each of these, the next results are published again.
#[test]
fn a_refused_result_stops_nothing() {
    let at = |minute: u64| {
        let inputs = (1..=3).map(|plant| input(plant, minute * 60_000, "1"));
        inputs.collect::<Vec<_>>()
    };
    for refusal in [Refusal::Forbidden, Refusal::Invalid, Refusal::Full] {
        testing::reset();
        call(&MINUTES, at(0));
        let (mut aggregate, _) = testing::init::<Aggregate>(&MINUTES).expect("it starts");
        testing::take_timer();
        testing::advance_ms(START);
        testing::refuse_publish(0, Some(refusal));
        aggregate.on_timer().expect("it goes on");
        assert!(testing::take_timer().is_some(), "{refusal:?}");
        assert!(testing::state().is_empty(), "{refusal:?}");
        // A message closes a window as the timer does, and is taken.
        call(&MINUTES, at(1));
        assert_eq!(testing::state().len(), 3);
        let outcomes = call(&MINUTES, at(2));
        assert!(matches!(
            outcomes[..],
            [Outcome::Drop(_), Outcome::Drop(_), Outcome::Drop(_)]
        ));
        testing::refuse_publish(0, None);
        call(&MINUTES, at(3));
        assert_eq!(published().len(), 3, "{refusal:?}");
    }
}

#[test]
fn what_is_too_much_for_one_call_comes_in_the_next() {
    call(
        &MINUTES,
        (1..=3).map(|plant| input(plant, 0, "1")).collect(),
    );
    let (mut aggregate, interest) = testing::init::<Aggregate>(&MINUTES).expect("it starts");
    testing::advance_ms(START);
    for left in [2, 1, 0] {
        testing::refuse_publish(1, Some(Refusal::Full));
        aggregate.on_timer().expect("it goes on");
        assert_eq!((published().len(), testing::state().len()), (1, left));
        let at_once = testing::take_timer() == Some(AT_ONCE_MS);
        assert_eq!(at_once, left > 0);
    }
    // So do messages: one that cannot close its window waits.
    let threes: [Setting; 3] = [("count", "2"), ("by", "topic"), ("topic", "twos")];
    let (mut twos, _) = testing::init::<Aggregate>(&threes).expect("it starts");
    let inputs = [1, 2, 1, 2].map(|plant| input(plant, 0, "1"));
    testing::refuse_publish(1, Some(Refusal::Full));
    let outcomes = twos.transform_batch(&testing::batch(&interest, inputs.to_vec()));
    let outcomes = outcomes.expect("outcomes");
    assert!(matches!(
        outcomes[2..],
        [Outcome::Drop(_), Outcome::Retry(0)]
    ));
    testing::refuse_publish(0, None);
    call(&threes, vec![input(2, 0, "1")]);
    let found = published();
    assert!(found[1].2.contains(r#""count":2"#), "{found:?}");
    assert!(testing::state().is_empty());
}

#[test]
fn a_window_of_messages_closes_when_its_key_is_silent() {
    let settings: [Setting; 5] = [
        ("count", "3"),
        ("idle", "40s"),
        ("by", "topic[1]"),
        ("topic", "threes"),
        ("values.sum", "sum $.t"),
    ];
    let input = |at_ms: u64| Input::new("plant/1", r#"{"t":4}"#).received_at_ms(1_000_000 + at_ms);
    call(&settings, vec![input(0), input(5)]);
    let (mut aggregate, _) = testing::init::<Aggregate>(&settings).expect("it starts");
    assert_eq!(testing::take_timer(), Some(10_000), "a quarter of it");
    testing::advance_ms(40_004);
    aggregate.on_timer().expect("it is not over");
    assert_eq!(published(), []);
    testing::advance_ms(1);
    aggregate.on_timer().expect("it is over");
    let expected =
        r#"{"from":1000000,"to":1000005,"count":2,"by":{"topic[1]":"1"},"values":{"sum":8}}"#;
    assert_eq!(published(), [(0, "threes".into(), expected.to_owned())]);
    assert!(testing::state().is_empty());
    let (_, _) = testing::init::<Aggregate>(&[("count", "3"), ("topic", "t")]).expect("it starts");
    assert_eq!(testing::take_timer(), Some(20_559_995), "at 6:00 in UTC");
}

#[test]
fn other_settings_begin_anew() {
    let with = |more: &[Setting]| [&[("every", "1m"), ("topic", "t")][..], more].concat();
    let old = with(&[("values.a", "sum $.t")]);
    for new in [
        with(&[("values.a", "max $.t")]),
        with(&[("values.a", "sum $.s")]),
        with(&[("values.0", "sum $.t"), ("values.a", "sum $.t")]),
        with(&[("values.a", "sum $.t"), ("by", "$.none")]),
        vec![("every", "2m"), ("topic", "t"), ("values.a", "sum $.t")],
    ] {
        testing::reset();
        call(&old, vec![input(1, 0, "7")]);
        call(&new, vec![input(1, 1, "1")]);
        call(&new, vec![input(1, 120_000, "1")]);
        let found = published();
        assert!(found[0].2.contains(r#""count":1"#), "{new:?}: {found:?}");
        // The timer takes away what no message of its key does.
        testing::reset();
        call(&old, vec![input(1, 0, "7")]);
        let (mut aggregate, _) = testing::init::<Aggregate>(&new).expect("it starts");
        aggregate.on_timer().expect("it is another's");
        assert!(published().is_empty() && testing::state().is_empty());
    }
    testing::reset();
    call(&old, vec![input(1, 0, "7")]);
    let same = with(&[("values.a", "sum $.t"), ("delay", "2s")]);
    call(&same, vec![input(1, 60_000, "1")]);
    assert!(published()[0].2.contains(r#""a":7"#));
}
