//! What is taken of a batch, and what is refused.

use waypost_core::queue::{Durability, Settings};
use waypost_shard::{Batch, PublishError};
use waypost_wire::Code;
use waypost_wire::data::{Exception, ExceptionKind, Level};

use crate::harness::{World, part};

fn at_most(messages: u64) -> Settings {
    Settings {
        messages_max: Some(messages),
        ..Settings::default()
    }
}

fn refused(exceptions: &[Exception]) -> Vec<(u64, Code)> {
    let refused = |e: &Exception| {
        assert_eq!(e.kind, ExceptionKind::Refused);
        (e.sequence, e.code)
    };
    exceptions.iter().map(refused).collect()
}

/// Three inputs, each into both queues, one of which has room for two: the third is in neither. A
/// fourth, which goes only where there is room, is taken, and a fifth, of
/// which one queue is not there, is not.
#[test]
fn a_refusal_refuses_all_of_one_input_and_nothing_else() {
    let mut world = World::new(&[("small", at_most(2)), ("large", Settings::default())]);
    let batch = Batch {
        ticket: 7,
        first_sequence: 11,
        count: 5,
        parts: vec![
            part("small", &[(0, "a"), (1, "b"), (2, "c")]),
            part("large", &[(0, "a"), (1, "b"), (2, "c"), (2, "C"), (3, "d")]),
            part("missing", &[(4, "e")]),
            part("large", &[(4, "e")]),
        ],
        ..Batch::default()
    };
    let accepted = world.publish(&batch);
    assert_eq!((accepted.ticket, accepted.level), (7, Level::Stored));
    assert_eq!(
        refused(&accepted.exceptions),
        [(13, Code::QueueFull), (15, Code::NotFound)]
    );
    assert_eq!(world.texts("small"), ["a", "b"]);
    assert_eq!(world.texts("large"), ["a", "b", "d"]);
    world.restart();
    assert_eq!(world.texts("small"), ["a", "b"]);
    assert_eq!(world.texts("large"), ["a", "b", "d"]);
}

/// What is too large for what is left does not keep a smaller one behind it away.
#[test]
fn bytes_count_as_they_are_taken() {
    let settings = Settings {
        bytes_max: 60,
        ..Settings::default()
    };
    let mut world = World::new(&[("q", settings)]);
    let long = "x".repeat(100);
    let batch = Batch {
        count: 4,
        parts: vec![part("q", &[(0, "a"), (1, &long), (2, "b"), (3, &long)])],
        ..Batch::default()
    };
    let accepted = world.publish(&batch);
    assert_eq!(
        refused(&accepted.exceptions),
        [(1, Code::QueueFull), (3, Code::QueueFull)]
    );
    assert_eq!(world.texts("q"), ["a", "b"]);
}

#[test]
fn a_batch_that_is_whole_is_taken_whole_or_not_at_all() {
    let mut world = World::new(&[("small", at_most(1)), ("large", Settings::default())]);
    let batch = Batch {
        count: 2,
        parts: vec![
            part("large", &[(0, "a")]),
            part("small", &[(0, "a"), (1, "b")]),
        ],
        is_whole: true,
        ..Batch::default()
    };
    let error = world.shard.publish(world.now, &batch).unwrap_err();
    assert!(matches!(error, PublishError::Refused(_)), "{error}");
    world.commit();
    assert_eq!(world.accepted(), []);
    assert_eq!(world.texts("large"), Vec::<String>::new());
}

/// Nothing waits for a sync where nothing was stored.
#[test]
fn what_is_refused_or_in_memory_is_said_at_once() {
    let memory = Settings {
        durability: Durability::Memory,
        messages_max: Some(1),
        ..Settings::default()
    };
    let mut world = World::new(&[("m", memory)]);
    let batch = Batch {
        count: 2,
        parts: vec![part("m", &[(0, "a"), (1, "b")])],
        ..Batch::default()
    };
    world.shard.publish(world.now, &batch).unwrap();
    let accepted = world.accepted().remove(0);
    assert_eq!(accepted.level, Level::Received);
    assert_eq!(refused(&accepted.exceptions), [(1, Code::QueueFull)]);
    world.commit();
    world.shard.publish(world.now, &batch).unwrap();
    let accepted = world.accepted().remove(0);
    assert_eq!(accepted.exceptions.len(), 2);
    assert!(!world.shard.wants_commit(world.now));
}
