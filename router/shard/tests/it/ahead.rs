//! What goes out before a commit, what forces one, and groups that fall behind.

use waypost_core::journal::GroupOptions;
use waypost_core::queue::{DeliverWhen, Durability, Settings, SlowGroup};
use waypost_shard::{Attach, Batch, Output, PublishError, Start};
use waypost_wire::Code;
use waypost_wire::data::{ConsumerFrame, Level, Range};

use crate::harness::{World, part};

fn interval() -> Settings {
    Settings {
        durability: Durability::Interval,
        interval_ms: 50,
        ..Settings::default()
    }
}

fn on_receipt(durability: Durability) -> Settings {
    Settings {
        durability,
        deliver: DeliverWhen::Received,
        ..Settings::default()
    }
}

fn batch(queue: &str, text: &str) -> Batch {
    Batch {
        count: 1,
        parts: vec![part(queue, &[(0, text)])],
        ..Batch::default()
    }
}

impl World {
    fn send(&mut self, queue: &str, text: &str) {
        let batch = batch(queue, text);
        self.shard.publish(self.now, &batch).unwrap();
    }

    fn consumer(&mut self, consumer: u64, queue: &str) {
        let attach = Attach {
            consumer,
            queue: queue.into(),
            group: "g".to_owned(),
            start: Start::Beginning,
            options: GroupOptions::default(),
            ack_deadline_ms: None,
            batch_bytes_max: 1 << 20,
        };
        self.shard.attach(self.now, attach).unwrap();
        let credit = ConsumerFrame::Credit {
            messages: 1000,
            bytes: 1 << 20,
        };
        self.shard.consumer_frame(self.now, consumer, credit);
        self.commit();
        self.shard.take_outputs();
    }

    /// Offsets that are delivered without a commit.
    fn delivered(&mut self) -> Vec<u64> {
        self.shard.deliver(self.now);
        let outputs = self.shard.take_outputs();
        let offset = |output: &Output| match output {
            Output::Deliver { deliver, .. } => Some(deliver.first_offset),
            _ => None,
        };
        outputs.iter().filter_map(offset).collect()
    }
}

#[test]
fn an_interval_queue_forces_no_sync_before_its_interval_is_over() {
    let mut world = World::new(&[("i", interval()), ("s", Settings::default())]);
    world.consumer(1, "i");
    world.send("i", "a");
    let accepted = world.accepted();
    assert_eq!(accepted[0].level, Level::Received);
    assert!(!world.shard.wants_commit(world.now));
    assert_eq!(world.delivered(), [], "not synced");
    assert_eq!(world.shard.next_timeout(), Some(world.now.mono_ms + 50));
    world.now.mono_ms += 49;
    assert!(!world.shard.wants_commit(world.now));
    world.now.mono_ms += 1;
    assert!(world.shard.wants_commit(world.now));
    world.shard.commit(world.now).unwrap();
    let outputs = world.shard.take_outputs();
    assert!(matches!(outputs[..], [Output::Deliver { .. }]));
    // So does an ack, and a consumer that leaves.
    let ack = ConsumerFrame::Ack(vec![Range { first: 0, last: 0 }]);
    world.shard.consumer_frame(world.now, 1, ack);
    world.shard.detach(world.now, 1, true);
    let outputs = world.shard.take_outputs();
    assert_eq!(outputs, [Output::Detached { consumer: 1 }]);
    assert!(!world.shard.wants_commit(world.now));
    assert_eq!(world.shard.next_timeout(), Some(0), "somebody may deliver");
    world.shard.deliver(world.now);
    assert_eq!(world.shard.next_timeout(), Some(world.now.mono_ms + 50));
    // Another queue's sync carries it along.
    world.send("i", "b");
    world.send("s", "c");
    assert!(world.shard.wants_commit(world.now));
    world.commit();
    assert_eq!(world.shard.next_timeout(), None);
    world.restart();
    assert_eq!(world.texts("i"), ["b"]);
}

#[test]
fn what_was_not_synced_is_lost_and_what_was_is_not() {
    let mut world = World::new(&[("i", interval())]);
    world.send("i", "a");
    world.commit();
    world.send("i", "b");
    world.restart();
    assert_eq!(world.texts("i"), ["a"]);
}

#[test]
fn offsets_that_went_ahead_and_were_lost_are_never_given_again() {
    for durability in [Durability::Sync, Durability::Interval] {
        let mut world = World::new(&[("r", on_receipt(durability))]);
        let mut seen = Vec::new();
        for round in 0..4 {
            world.consumer(1, "r");
            // Nothing goes ahead before the log holds what was given up, which it does by now.
            world.send("r", "x");
            assert!(world.shard.is_ahead());
            let delivered = world.delivered();
            assert_eq!(delivered.len(), 1, "round {round}");
            assert!(seen.iter().all(|offset| *offset < delivered[0]), "{seen:?}");
            seen.extend(delivered);
            world.restart();
            assert_eq!(world.texts("r"), Vec::<String>::new());
        }
        // What is committed stays, and what comes after it is given.
        world.consumer(1, "r");
        world.send("r", "y");
        world.commit();
        world.restart();
        assert_eq!(world.texts("r"), ["y"]);
        let view = world.shard.queue("r").unwrap();
        assert_eq!((view.messages, view.groups[0].pending), (1, 1));
    }
}

#[test]
fn nothing_goes_ahead_before_the_log_holds_what_was_given_up() {
    let mut world = World::new(&[("r", on_receipt(Durability::Sync))]);
    world.consumer(1, "r");
    world.restart();
    assert!(world.shard.wants_commit(world.now));
    world.send("r", "x");
    assert_eq!(world.texts("r"), Vec::<String>::new());
    world.commit();
    world.send("r", "y");
    assert_eq!(world.texts("r"), ["x", "y"]);
}

/// What is visible now under the old settings is on the disk before the new ones are.
#[test]
fn a_queue_that_stops_delivering_on_receipt_syncs_first() {
    let mut world = World::new(&[("r", on_receipt(Durability::Interval))]);
    world.send("r", "x");
    world.shard.set_queue("r", interval()).unwrap();
    world.restart();
    assert_eq!(world.texts("r"), ["x"]);
}

#[test]
fn a_memory_queue_needs_no_commit() {
    let settings = Settings {
        durability: Durability::Memory,
        messages_max: Some(1),
        ..Settings::default()
    };
    let mut world = World::new(&[("m", settings), ("i", interval())]);
    world.consumer(1, "m");
    for offset in 0..3 {
        world.send("i", "beside");
        world.send("m", "x");
        assert_eq!(world.delivered(), [offset]);
        let ack = ConsumerFrame::Ack(vec![Range {
            first: offset,
            last: offset,
        }]);
        world.shard.consumer_frame(world.now, 1, ack);
        world.shard.deliver(world.now);
        assert!(!world.shard.wants_commit(world.now));
    }
}

#[test]
fn publishers_are_held_while_a_group_is_behind() {
    let settings = Settings {
        slow: SlowGroup::Hold,
        slow_messages: Some(2),
        ..Settings::default()
    };
    let mut world = World::new(&[("q", settings), ("other", Settings::default())]);
    world.send("q", "without a group nobody is behind");
    world.send("q", "nor here");
    world.send("q", "nor here");
    world.commit();
    world.consumer(1, "q");
    let refused = Batch {
        is_whole: true,
        ..batch("q", "x")
    };
    let error = world.shard.publish(world.now, &refused).unwrap_err();
    assert!(matches!(error, PublishError::Refused(_)), "{error}");
    assert_eq!(error.code(), Code::QueueFull);
    let text = error.to_string();
    assert!(text.contains("group 'g' is 3 messages behind"), "{text}");
    world.send("other", "x");
    world.commit();
    let ack = ConsumerFrame::AckUpTo(1);
    world.shard.consumer_frame(world.now, 1, ack);
    world.shard.publish(world.now, &refused).unwrap();
}

#[test]
fn consumers_of_a_group_that_falls_behind_are_closed_once() {
    let settings = Settings {
        slow: SlowGroup::Close,
        slow_messages: Some(2),
        ..Settings::default()
    };
    let mut world = World::new(&[("q", settings)]);
    world.consumer(1, "q");
    world.send("q", "a");
    world.commit();
    assert!(closed(&mut world).is_empty());
    world.send("q", "b");
    world.commit();
    assert_eq!(closed(&mut world), [(1, Code::Slow)]);
    assert_eq!(world.shard.queue("q").unwrap().groups[0].in_flight, 0);
    // Whoever comes may catch up.
    world.consumer(2, "q");
    world.send("q", "c");
    world.commit();
    assert!(closed(&mut world).is_empty());
    world
        .shard
        .consumer_frame(world.now, 2, ConsumerFrame::AckUpTo(2));
    world.send("q", "d");
    world.send("q", "e");
    assert_eq!(closed(&mut world), [(2, Code::Slow)]);
}

fn closed(world: &mut World) -> Vec<(u64, Code)> {
    let closed = |output| match output {
        Output::ConsumerClosed { consumer, code, .. } => Some((consumer, code)),
        _ => None,
    };
    let outputs = world.shard.take_outputs();
    outputs.into_iter().filter_map(closed).collect()
}
