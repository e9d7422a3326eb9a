//! Outputs and acks together: all of it or nothing.

use waypost_core::queue::{AtLimit, Durability, Settings};
use waypost_shard::{Attach, Batch, Start};
use waypost_wire::Code;
use waypost_wire::data::{ConsumerAcks, ConsumerFrame, Range};

use crate::harness::{World, part};

/// A consumer of "in" that holds the first three of four messages.
fn world() -> World {
    let memory = Settings {
        durability: Durability::Memory,
        ..Settings::default()
    };
    let mut world = World::new(&[
        ("in", Settings::default()),
        ("out", Settings::default()),
        ("m", memory),
    ]);
    world.publish(&Batch {
        count: 4,
        parts: vec![part("in", &[(0, "0"), (1, "1"), (2, "2"), (3, "3")])],
        ..Batch::default()
    });
    attach(&mut world, 5, 3);
    world
}

fn attach(world: &mut World, consumer: u64, messages: u64) {
    let attach = Attach {
        consumer,
        queue: "in".into(),
        group: "g".into(),
        start: Start::Beginning,
        options: Default::default(),
        ack_deadline_ms: None,
        batch_bytes_max: 1 << 20,
    };
    world.shard.attach(world.now, attach).unwrap();
    let credit = ConsumerFrame::Credit {
        messages,
        bytes: 1 << 20,
    };
    world.shard.consumer_frame(world.now, consumer, credit);
    world.commit();
    world.shard.take_outputs();
}

fn transaction(queue: &str, consumer: u64, first: u64, last: u64) -> Batch {
    let acks = ConsumerAcks {
        consumer,
        ranges: vec![Range { first, last }],
    };
    Batch {
        count: 1,
        parts: vec![part(queue, &[(0, "result")])],
        is_whole: true,
        transaction: Some(vec![acks]),
        ..Batch::default()
    }
}

fn acked_below(world: &World) -> u64 {
    world.shard.queue("in").unwrap().groups[0].acked_below
}

#[test]
fn outputs_and_acks_survive_together() {
    let mut world = world();
    world
        .shard
        .publish(world.now, &transaction("out", 5, 0, 1))
        .unwrap();
    assert_eq!(world.accepted(), [], "not before it is synced");
    world.commit();
    assert_eq!(world.accepted()[0].exceptions, []);
    world.restart();
    assert_eq!(world.texts("out"), ["result"]);
    assert_eq!(acked_below(&world), 2);
}

/// Killed before the sync, neither is there.
#[test]
fn a_crash_before_the_sync_leaves_neither() {
    let mut world = world();
    world
        .shard
        .publish(world.now, &transaction("out", 5, 0, 1))
        .unwrap();
    world.restart();
    assert_eq!(world.texts("out"), Vec::<String>::new());
    assert_eq!(acked_below(&world), 0);
}

#[test]
fn what_is_not_held_is_a_conflict_and_leaves_nothing() {
    let mut world = world();
    let refused = |world: &mut World, batch: &Batch| {
        let error = world.shard.publish(world.now, batch).unwrap_err();
        (error.code(), error.to_string())
    };
    let (code, text) = refused(&mut world, &transaction("out", 5, 2, 3));
    assert_eq!(code, Code::Conflict);
    assert_eq!(text, "consumer 5 does not hold offsets 2 to 3 (any more)");
    assert_eq!(
        refused(&mut world, &transaction("out", 6, 0, 0)).0,
        Code::Conflict
    );
    assert_eq!(
        refused(&mut world, &transaction("m", 5, 0, 0)).0,
        Code::Unsupported
    );
    world.publish(&transaction("out", 5, 0, 0));
    assert_eq!(
        refused(&mut world, &transaction("out", 5, 0, 0)).0,
        Code::Conflict
    );
    // What it gives back goes to another.
    world.shard.detach(world.now, 5, false);
    attach(&mut world, 6, 9);
    assert_eq!(
        refused(&mut world, &transaction("out", 5, 1, 1)).0,
        Code::Conflict
    );
    world.publish(&transaction("out", 6, 1, 3));
    assert_eq!(world.texts("out"), ["result", "result"]);
    assert_eq!(acked_below(&world), 4);
}

/// A queue at its limit makes dead letters for what it takes, not for what it refuses.
#[test]
fn a_conflict_makes_no_place() {
    let mut world = world();
    let full = Settings {
        messages_max: Some(1),
        at_limit: AtLimit::DeadLetter,
        ..Settings::default()
    };
    world.add("dead-letter", Settings::default());
    world.add("full", full);
    world.publish(&transaction("full", 5, 0, 0));
    let refused = world
        .shard
        .publish(world.now, &transaction("full", 5, 0, 0));
    assert_eq!(refused.unwrap_err().code(), Code::Conflict);
    world.commit();
    assert_eq!(world.texts("dead-letter"), Vec::<String>::new());
    world.publish(&transaction("full", 5, 1, 1));
    assert_eq!(world.texts("dead-letter"), ["result"]);
    assert_eq!(acked_below(&world), 2);
}

/// Acks alone, where all messages were dropped on their way, wait for the sync too.
#[test]
fn acks_alone_are_synced() {
    let mut world = world();
    let batch = Batch {
        parts: Vec::new(),
        ..transaction("out", 5, 0, 2)
    };
    world.shard.publish(world.now, &batch).unwrap();
    assert_eq!(world.accepted(), []);
    world.commit();
    assert_eq!(world.accepted().len(), 1);
    world.restart();
    assert_eq!(acked_below(&world), 3);
}
