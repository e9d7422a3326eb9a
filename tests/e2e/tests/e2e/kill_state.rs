//! SIGKILL while a plugin counts: what it keeps, what it publishes and what it passes on come from
//! the same messages, each once, however often their producer sends them.
//!
//! `WAYPOST_SEED` repeats the choices of a run (how much is confirmed before a kill, how far back a
//! producer begins again), not its timing.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use tempfile::TempDir;
use waypost_client::wire::control::{self, OpenPublisher};
use waypost_client::wire::{FrameType, data};
use waypost_client::{Client, ExceptionKind, Message};

use crate::child::Child;
use crate::harness::{self, Dice, peek_all, repository, text};
use crate::raw::{self, Raw};

const ID: [u8; 16] = [9; 16];
/// Messages of a batch at most, and messages under way.
const BATCH: u64 = 9;
const AHEAD: u64 = 42;
/// Every so many messages go past the plugin.
const PLAIN: u64 = 3;

#[test]
fn state_survives_kills_with_what_caused_it() {
    rounds(12);
}

/// `cargo test -p waypost-e2e kill_state -- --ignored`: minutes.
#[test]
#[ignore = "takes minutes"]
fn kill_state_long() {
    rounds(300);
}

/// Messages of `in` count one up each and make one more; the answer goes on in their header. Those of
/// `plain` meet no plugin.
fn sections() -> String {
    let file = repository("tests/fixtures/plugins/puppet-effects.wasm");
    format!(
        "[[queue]]\nname = \"q\"\n[[queue]]\nname = \"other\"\nfrom = [\"other/#\"]\n\
         [[plugin]]\nname = \"p\"\nfile = {file:?}\nrole = \"transform\"\n\
         grants = [\"log\", \"clock\", \"random\", \"state\", \"publish\", \"timer\"]\n\
         publish = [\"other/#\"]\n\
         [[queue]]\nname = \"plain\"\nfrom = [\"plain/#\"]\n\
         [[route]]\nname = \"r\"\nfrom = \"in/#\"\nthrough = [\"p\"]\nto = [\"queue:q\"]\n"
    )
}

struct Model {
    dice: Dice,
    /// All numbers up to this one are confirmed.
    confirmed: u64,
}

fn rounds(count: u32) {
    let home = TempDir::with_prefix("waypost-kill-state-").unwrap();
    let mut model = Model {
        dice: Dice::of_environment(),
        confirmed: 0,
    };
    for _ in 0..count {
        harness::run(one_round(home.path(), &mut model));
    }
    harness::run(async {
        let child = Child::start(home.path(), &sections()).await;
        look(&child.client().await, &model).await;
        child.stop().await;
    });
}

fn message(number: u64) -> Message {
    match number % PLAIN {
        0 => Message::new("plain/x", number.to_string()),
        _ => Message::new("in/x", number.to_string())
            .with_header("do", "add n 1;publish other/x 1 8"),
    }
}

async fn one_round(home: &Path, model: &mut Model) {
    let child = Child::start(home, &sections()).await;
    look(&child.client().await, model).await;
    let raw = Raw::connect(&child).await;
    let open = OpenPublisher {
        producer: Bytes::from_static(&ID),
        ..OpenPublisher::default()
    };
    let open = control::bytes_of(FrameType::OpenPublisher, &open);
    let (mut stream, opened) = raw.opened(&open).await;
    assert!(opened.last_sequence >= model.confirmed);
    // From a number that was confirmed before, or the first that was not.
    let first = (model.confirmed + 2)
        .saturating_sub(model.dice.pick(20))
        .max(1);
    let mut numbers = BytesMut::new();
    data::put_number_from(&mut numbers, first);
    stream.send(&numbers).await;
    let target = model.confirmed + model.dice.pick(250);
    let (mut sent, mut settled) = (0, 0);
    while first + settled <= target {
        while sent < settled + AHEAD {
            // Cut in other places whenever they come again.
            let count = model.dice.pick(BATCH);
            let batch = (sent..sent + count).map(|before| message(first + before));
            let frame = raw::publish(sent + 1, &batch.collect::<Vec<_>>());
            stream.send(&frame).await;
            sent += count;
        }
        let confirm = stream.confirm().await;
        for exception in &confirm.exceptions {
            assert_eq!(exception.kind, ExceptionKind::Duplicate, "{exception:?}");
            let number = first + exception.sequence - 1;
            assert!(number <= opened.last_sequence, "{number} is new");
        }
        settled = confirm.up_to;
        model.confirmed = model.confirmed.max(first + settled - 1);
    }
    child.kill().await;
}

/// Each message is there once, in its order, with the count that it made, and so is what it caused.
async fn look(client: &Client, model: &Model) {
    let held = peek_all(client, "q").await;
    let numbers = (1..).filter(|number| number % PLAIN != 0);
    for (place, ((_, message), number)) in held.iter().zip(numbers).enumerate() {
        assert_eq!(text(message), number.to_string(), "at place {place}");
        let answers = message.headers.iter().find(|(name, _)| name == "answers");
        let (_, answers) = answers.expect("the header 'answers'");
        let counted = format!("Ok({});", place + 1);
        assert!(
            answers.starts_with(counted.as_bytes()),
            "{answers:?} at {number}"
        );
    }
    let plain = peek_all(client, "plain").await;
    for (place, (_, message)) in plain.iter().enumerate() {
        let number = (place as u64 + 1) * PLAIN;
        assert_eq!(text(message), number.to_string(), "at place {place}");
    }
    assert!(plain.len() as u64 >= model.confirmed / PLAIN);
    assert!(held.len() as u64 >= model.confirmed - model.confirmed / PLAIN);
    let caused = harness::queue(client, "other").await.messages;
    assert_eq!(caused, held.len() as u64);
    assert_eq!(harness::queue(client, "dead-letter").await.messages, 0);
}
