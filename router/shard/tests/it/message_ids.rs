//! Message ids within a queue's window: stored once, whoever sends them and whatever happened
//! between; and nothing else is eaten.

use waypost_core::queue::{AtLimit, Settings};
use waypost_shard::{Accepted, Attach, Batch, Part, Selection, Stamp, Start};
use waypost_wire::data::{ConsumerAcks, ConsumerFrame, ExceptionKind, Range};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Code, Message};

use crate::harness::World;

const WINDOW_MS: u64 = 10_000;

fn window() -> Settings {
    Settings {
        dedup_window_ms: Some(WINDOW_MS),
        ..Settings::default()
    }
}

/// A part: for each record the input, its message id ("" for none) and its payload.
fn part(queue: &str, records: &[(u32, &str, &str)]) -> Part {
    let mut slab = SlabBuilder::new();
    for (_, id, text) in records {
        let mut message = Message::new("t", text.as_bytes().to_vec());
        message.message_id = (!id.is_empty()).then(|| id.as_bytes().to_vec().into());
        slab.push_message(&message);
    }
    Part {
        queue: queue.into(),
        slab: slab.finish(),
        inputs: records.iter().map(|(input, ..)| *input).collect(),
        is_timed: false,
    }
}

fn batch(parts: Vec<Part>) -> Batch {
    let inputs = parts.iter().flat_map(|part| part.inputs.iter());
    Batch {
        first_sequence: 1,
        count: inputs.max().map_or(0, |last| last + 1),
        parts,
        ..Batch::default()
    }
}

/// Sequence and text of the duplicates; anything else is a mistake.
fn duplicates(accepted: &Accepted) -> Vec<(u64, &str)> {
    let each = accepted.exceptions.iter().map(|e| {
        assert_eq!(e.kind, ExceptionKind::Duplicate, "{e:?}");
        (e.sequence, e.text.as_str())
    });
    each.collect()
}

impl World {
    fn sleep(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
    }
}

#[test]
fn an_id_is_stored_once_within_the_window_and_again_after_it() {
    let mut world = World::new(&[("q", window())]);
    let first = batch(vec![part(
        "q",
        &[(0, "a", "1"), (1, "", "2"), (2, "b", "3"), (3, "a", "4")],
    )]);
    let accepted = world.publish(&first);
    assert_eq!(duplicates(&accepted), [(4, "queue q")]);
    assert_eq!(world.texts("q"), ["1", "2", "3"]);
    world.sleep(WINDOW_MS - 1);
    let again = batch(vec![part(
        "q",
        &[(0, "b", "5"), (1, "", "6"), (2, "c", "7")],
    )]);
    let accepted = world.publish(&again);
    assert_eq!(duplicates(&accepted), [(1, "queue q, offset 2")]);
    assert_eq!(world.texts("q"), ["1", "2", "3", "6", "7"]);
    world.sleep(1);
    // The repeat did not make it last longer.
    let accepted = world.publish(&batch(vec![part("q", &[(0, "b", "8"), (1, "c", "9")])]));
    assert_eq!(duplicates(&accepted), [(2, "queue q, offset 4")]);
    let view = world.shard.queue("q").unwrap();
    assert_eq!((view.duplicates, view.dedup_ids), (3, 2));
}

/// Killed after the sync, after a snapshot, after the messages were acked and their space freed.
#[test]
fn the_window_survives_a_crash_a_snapshot_and_the_messages_themselves() {
    let mut world = World::new(&[("q", window()), ("filler", Settings::default())]);
    world.publish(&batch(vec![part("q", &[(0, "a", "1"), (1, "b", "2")])]));
    for round in 0..4 {
        match round {
            0 => {}
            1 => {
                world.shard.write_snapshots();
                world.commit();
            }
            2 => {
                let purged = world.shard.purge_queue(world.now, "q").unwrap();
                assert_eq!(purged, 4);
                world.commit();
            }
            // Files are filled, moved and recycled until only a snapshot can tell.
            _ => recycle(&mut world),
        }
        world.restart();
        world.sleep(1000);
        let again = batch(vec![part(
            "q",
            &[(0, "b", "x"), (1, "", "y"), (2, "a", "z")],
        )]);
        let accepted = world.publish(&again);
        assert_eq!(
            duplicates(&accepted),
            [(1, "queue q, offset 1"), (3, "queue q, offset 0")],
            "round {round}"
        );
    }
    // After a restart the wall clock counts: the node was off for longer than the window.
    world.restart();
    world.now.wall_ms += WINDOW_MS;
    let accepted = world.publish(&batch(vec![part("q", &[(0, "a", "new")])]));
    assert_eq!(duplicates(&accepted), []);
}

/// Writes until every file of the log was used again.
fn recycle(world: &mut World) {
    let filler = "f".repeat(60_000);
    for _ in 0..60 {
        let records: Vec<_> = (0..8).map(|n| (n, "", filler.as_str())).collect();
        world.publish(&batch(vec![part("filler", &records)]));
        world.shard.purge_queue(world.now, "filler").unwrap();
        world.shard.write_snapshots();
        world.commit();
        while let Some(job) = world.shard.log_mut().next_job() {
            let done = job.run(&world.disk);
            world.shard.log_mut().finish_job(done).unwrap();
        }
    }
}

/// Copies by two routes and several outputs of a plugin belong together; what another input
/// brings under the same id does not.
#[test]
fn what_one_input_brings_is_no_repeat_of_itself() {
    let mut world = World::new(&[("q", window()), ("r", Settings::default())]);
    let copies = || {
        batch(vec![
            part("q", &[(0, "a", "1"), (0, "a", "1b"), (1, "own", "2")]),
            part("q", &[(0, "a", "1 by the other route")]),
            part("r", &[(0, "a", "1"), (1, "own", "2")]),
        ])
    };
    assert_eq!(duplicates(&world.publish(&copies())), []);
    assert_eq!(world.texts("q").len(), 4);
    // The queue without a window takes it again, so nothing is to be said of it.
    assert_eq!(duplicates(&world.publish(&copies())), []);
    assert_eq!(world.texts("q").len(), 4);
    assert_eq!(world.texts("r").len(), 4);
    // Outputs with ids of their own are judged one by one.
    let accepted = world.publish(&batch(vec![part(
        "q",
        &[(0, "own", "again"), (0, "other", "3"), (1, "a", "again")],
    )]));
    assert_eq!(duplicates(&accepted), [(2, "queue q, offset 0")]);
    assert_eq!(world.texts("q").last().unwrap(), "3");
}

#[test]
fn at_the_bound_new_ids_are_refused_until_the_oldest_leave() {
    let few = Settings {
        dedup_ids_max: 3,
        ..window()
    };
    let mut world = World::new(&[("q", few)]);
    world.publish(&batch(vec![part("q", &[(0, "a", "1"), (1, "b", "2")])]));
    world.sleep(4000);
    let more = batch(vec![part(
        "q",
        &[(0, "c", "3"), (1, "d", "4"), (2, "", "5"), (3, "a", "6")],
    )]);
    let accepted = world.publish(&more);
    let said: Vec<_> = accepted.exceptions.iter().collect();
    assert_eq!((said[0].sequence, said[0].code), (2, Code::QueueFull));
    assert_eq!(
        said[0].text,
        "queue 'q' remembers 2 message ids, 2 more would pass its limit of 3; the oldest leaves \
         in 6000 ms"
    );
    assert_eq!(
        (said[1].sequence, said[1].kind),
        (4, ExceptionKind::Duplicate)
    );
    assert_eq!(world.texts("q"), ["1", "2", "3", "5"]);
    world.sleep(6000);
    let accepted = world.publish(&batch(vec![part("q", &[(0, "d", "4"), (1, "e", "7")])]));
    assert_eq!(duplicates(&accepted), []);
}

/// A producer's number whose message the queue has by its id counts as stored, so that what comes
/// after it and is sent again is not out of order.
#[test]
fn a_producer_may_send_again_what_another_brought() {
    let mut world = World::new(&[("q", window())]);
    world.publish(&batch(vec![part("q", &[(0, "b", "other's")])]));
    let opened = world.shard.open_producer([4; 16], 0).unwrap();
    let stamped = |sequences: &[u64], records: &[(u32, &str, &str)]| Batch {
        stamp: Some(Stamp {
            producer: [4; 16],
            epoch: opened.epoch,
            session: opened.session,
            sequences: sequences.to_vec(),
        }),
        count: sequences.len() as u32,
        ..batch(vec![part("q", records)])
    };
    let all = [
        (0, "a", "1"),
        (1, "b", "2"),
        (2, "c", "3"),
        (3, "c", "4"),
        (4, "d", "5"),
    ];
    let accepted = world.publish(&stamped(&[1, 2, 3, 4, 5], &all));
    assert_eq!(
        duplicates(&accepted),
        [(2, "queue q, offset 0"), (4, "queue q")]
    );
    world.sleep(2 * WINDOW_MS);
    let accepted = world.publish(&stamped(&[1, 2, 3, 4, 5], &all));
    assert_eq!(
        duplicates(&accepted),
        [
            (1, "queue q, offset 1"),
            (2, "queue q, offset 0"),
            (3, "queue q, offset 2"),
            (4, "queue q, offset 2"),
            (5, "queue q, offset 3"),
        ]
    );
    assert_eq!(world.texts("q"), ["other's", "1", "3", "5"]);
}

/// A transaction whose output is there already acks all the same; without what it acks it is a
/// conflict, and neither its new messages nor their ids are taken.
#[test]
fn a_transaction_acks_though_its_output_is_there() {
    let mut world = World::new(&[("in", Settings::default()), ("out", window())]);
    world.publish(&batch(vec![part("in", &[(0, "", "i"), (1, "", "j")])]));
    let attach = Attach {
        consumer: 5,
        queue: "in".into(),
        group: "g".into(),
        start: Start::Beginning,
        options: Default::default(),
        ack_deadline_ms: None,
        batch_bytes_max: 1 << 20,
    };
    world.shard.attach(world.now, attach).unwrap();
    let credit = ConsumerFrame::Credit {
        messages: 2,
        bytes: 1 << 20,
    };
    world.shard.consumer_frame(world.now, 5, credit);
    world.commit();
    world.shard.take_outputs();
    world.publish(&batch(vec![part("out", &[(0, "r", "result")])]));
    let transaction = |offset, records: &[(u32, &str, &str)]| Batch {
        is_whole: true,
        transaction: Some(vec![ConsumerAcks {
            consumer: 5,
            ranges: vec![Range::one(offset)],
        }]),
        ..batch(vec![part("out", records)])
    };
    let accepted = world.publish(&transaction(0, &[(0, "r", "again"), (1, "s", "new")]));
    assert_eq!(duplicates(&accepted), [(1, "queue out, offset 0")]);
    let refused = world
        .shard
        .publish(world.now, &transaction(0, &[(0, "s", "x"), (1, "t", "y")]));
    assert_eq!(refused.unwrap_err().code(), Code::Conflict);
    let accepted = world.publish(&transaction(1, &[(0, "t", "kept"), (1, "s", "again")]));
    assert_eq!(duplicates(&accepted), [(2, "queue out, offset 1")]);
    world.restart();
    assert_eq!(world.texts("out"), ["result", "new", "kept"]);
    assert_eq!(world.shard.queue("in").unwrap().groups[0].acked_below, 2);
}

/// What a person puts back or replays was accepted before, and is stored again on purpose.
#[test]
fn redrive_and_replay_are_not_eaten() {
    let small = Settings {
        messages_max: Some(1),
        at_limit: AtLimit::DeadLetter,
        ..window()
    };
    let mut world = World::new(&[("dead-letter", Settings::default()), ("q", small)]);
    world.publish(&batch(vec![part("q", &[(0, "a", "1")])]));
    world.publish(&batch(vec![part("q", &[(0, "b", "2")])]));
    assert_eq!(world.texts("dead-letter"), ["1"]);
    world.shard.purge_queue(world.now, "q").unwrap();
    let redriven = world
        .shard
        .redrive(world.now, "dead-letter", &Selection::default(), None, None)
        .unwrap();
    assert_eq!((redriven.count, redriven.stayed), (1, 0));
    world.commit();
    assert_eq!(world.texts("q"), ["1"]);
    world.shard.purge_queue(world.now, "q").unwrap();
    world
        .shard
        .replay(world.now, part("q", &[(0, "b", "replayed")]))
        .unwrap();
    world.commit();
    assert_eq!(world.texts("q"), ["replayed"]);
    // To a topic, as a publisher's batch.
    world.shard.purge_queue(world.now, "q").unwrap();
    let again = Batch {
        is_replay: true,
        ..batch(vec![part("q", &[(0, "b", "by topic")])])
    };
    assert_eq!(duplicates(&world.publish(&again)), []);
    assert_eq!(world.texts("q"), ["by topic"]);
    // And what was accepted before still counts.
    let accepted = world.publish(&batch(vec![part("q", &[(0, "a", "x"), (1, "b", "y")])]));
    assert_eq!(duplicates(&accepted).len(), 2);
}

/// A queue that is told to remember nothing forgets; refused messages are not remembered.
#[test]
fn what_is_not_stored_is_not_remembered() {
    let full = Settings {
        messages_max: Some(1),
        ..window()
    };
    let mut world = World::new(&[("q", full.clone())]);
    let both = batch(vec![part("q", &[(0, "a", "1"), (1, "b", "2")])]);
    let accepted = world.publish(&both);
    assert_eq!(accepted.exceptions[0].code, Code::QueueFull);
    world.shard.purge_queue(world.now, "q").unwrap();
    let accepted = world.publish(&both);
    assert_eq!(duplicates(&accepted), [(1, "queue q, offset 0")]);
    assert_eq!(world.texts("q"), ["2"]);
    let none = Settings {
        dedup_window_ms: None,
        ..full.clone()
    };
    world.shard.set_queue("q", none).unwrap();
    world.shard.set_queue("q", full).unwrap();
    world.shard.purge_queue(world.now, "q").unwrap();
    let accepted = world.publish(&batch(vec![part("q", &[(0, "a", "1")])]));
    assert_eq!(duplicates(&accepted), []);
}
