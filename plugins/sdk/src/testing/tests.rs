use super::*;
use crate::host::{self, state};
use crate::raw::state::Refusal;

struct Probe;

impl Plugin for Probe {
    fn init(config: &Config) -> Result<(Probe, Interest), InitError> {
        assert_eq!(state::set("k", "v", 0), Err(Refusal::ReadOnly));
        host::timer::set(3);
        config.allow(&["known"])?;
        Ok((
            Probe,
            Interest::nothing()
                .header("x")
                .payload_prefix(3)
                .field("key"),
        ))
    }
}

#[test]
fn init_may_read_and_set_the_timer_but_not_write() {
    assert!(init::<Probe>(&[("known", "1")]).is_ok());
    assert_eq!((take_timer(), take_timer()), (Some(10), None));
    assert!(init::<Probe>(&[("other", "1")]).is_err());
    assert_eq!(state::set("k", "v", 0), Ok(()));
}

#[test]
fn a_batch_holds_what_was_asked_for() {
    let Ok((_, interest)) = init::<Probe>(&[]) else {
        panic!("it starts")
    };
    let input = Input::new("a/b", "payload")
        .header("y", "1")
        .header("x", "2");
    let input = input.key("k").reply_to("r").ttl_ms(5).redelivered();
    let batch = batch(&interest, [Input::new("first", ""), input]);
    let Some(message) = batch.get(1) else {
        panic!("two messages")
    };
    assert_eq!((message.topic(), message.payload()), ("a/b", &b"pay"[..]));
    assert_eq!(message.headers().collect::<Vec<_>>(), [("x", &b"2"[..])]);
    assert_eq!((message.key(), message.reply_to()), (Some(&b"k"[..]), None));
    assert_eq!(
        (message.ttl_ms(), message.receive_time_ms()),
        (None, 1_000_000)
    );
    assert!(message.redelivered() && !message.from_peer());
    assert_eq!(
        message.whole_payload().ok().as_deref(),
        Some(&b"payload"[..])
    );
}

#[test]
fn state_is_bounded_expires_and_is_read_in_order() {
    assert_eq!(state::insert("b/2", "x", 100), Ok(true));
    assert_eq!(state::insert("b/2", "y", 100), Ok(false));
    assert_eq!(state::add("b/1", 5, 0), Ok(5));
    assert_eq!(state::add("b/1", -7, 0), Ok(-2));
    assert_eq!(state::number("b/1"), Some(-2));
    assert_eq!(state::add("b/2", 1, 0), Err(Refusal::NotANumber));
    assert_eq!(state::set("a", "", 0), Ok(()));
    assert_eq!(state::text("b/2").as_deref(), Some("x"));
    let keys: Vec<_> = state::scan("b/").map(|(key, _)| key).collect();
    assert_eq!(keys, [b"b/1", b"b/2"]);
    advance_ms(100);
    assert_eq!((state::get("b/2"), state().len()), (None, 2));
    assert_eq!(
        (state::remove("a"), state::remove("a")),
        (Ok(true), Ok(false))
    );
    assert_eq!(state::set("", "", 0), Err(Refusal::TooLarge));
    limit_state(20);
    assert_eq!(
        state::set("c", [0; 8], 0),
        Ok(()),
        "b/1 and c have 20 bytes"
    );
    assert_eq!(state::set("d", "", 0), Err(Refusal::Full));
    reset();
    assert!(state().is_empty());
}

#[test]
fn a_long_scan_comes_in_parts() {
    for number in 0..2_500u32 {
        assert_eq!(state::set(number.to_be_bytes(), "", 0), Ok(()));
    }
    let keys: Vec<_> = state::scan("").map(|(key, _)| key).collect();
    let wanted: Vec<_> = (0..2_500u32).map(|number| number.to_be_bytes()).collect();
    assert_eq!(keys, wanted);
    let part = state::part(b"", Some(&wanted[9]), 3);
    let keys: Vec<_> = part.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, wanted[10..13]);
    assert!(state::part(b"", Some(&wanted[2_499]), 3).is_empty());
}

#[test]
fn publishing_can_be_refused() {
    use host::publish::{Refusal, publish};
    refuse_publish(1, Some(Refusal::Full));
    let again = || publish(0, Outgoing::new("t", "p"));
    assert_eq!((again(), again()), (Ok(()), Err(Refusal::Full)));
    refuse_publish(0, None);
    assert_eq!((again(), take_published().len()), (Ok(()), 2));
}

#[test]
fn what_was_said_can_be_looked_at() {
    let seen = host::Counter::new("seen");
    seen.add(2);
    seen.add(3);
    host::Histogram::new("size").observe(1.5);
    host::log(Level::Warn, "careful");
    assert_eq!((counter("seen"), observed("size")), (5, vec![1.5]));
    assert_eq!(take_log(), [(Level::Warn, "careful".to_owned())]);
    assert!(host::publish::publish(3, Outgoing::new("t", "p")).is_ok());
    let published = take_published();
    assert_eq!((published[0].0, published[0].1.topic.as_str()), (3, "t"));
}

#[test]
fn random_numbers_keep_within_their_bounds() {
    assert!((0..1_000).all(|_| host::random::below(7) < 7));
    assert_eq!(host::random::below(0), 0);
    assert_eq!(host::random::bytes(100_000).len(), 64 << 10);
    let hits = (0..10_000).filter(|_| host::random::chance(0.25)).count();
    assert!((2_200..2_800).contains(&hits), "{hits}");
}
