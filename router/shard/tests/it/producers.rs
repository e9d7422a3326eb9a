//! Messages that are sent again: stored once, whatever happened between.

use waypost_core::queue::Settings;
use waypost_shard::{Accepted, Batch, Part, PublishError, Stamp};
use waypost_wire::Code;
use waypost_wire::data::{ExceptionKind, Level};

use crate::harness::{World, part};

const P: [u8; 16] = [9; 16];

/// A stream of the producer: what it sends is stamped.
struct Stream {
    session: u64,
    epoch: u64,
}

impl Stream {
    fn open(world: &mut World, epoch: u64) -> Stream {
        let opened = world.shard.open_producer(P, epoch).unwrap();
        Stream {
            session: opened.session,
            epoch: opened.epoch,
        }
    }

    fn batch(&self, sequences: &[u64], parts: Vec<Part>) -> Batch {
        Batch {
            first_sequence: 1,
            count: sequences.len() as u32,
            parts,
            stamp: Some(Stamp {
                producer: P,
                epoch: self.epoch,
                session: self.session,
                sequences: sequences.to_vec(),
            }),
            ..Batch::default()
        }
    }
}

/// Sequence, kind, code, and text of each exception.
fn said(accepted: &Accepted) -> Vec<(u64, ExceptionKind, Code, &str)> {
    accepted
        .exceptions
        .iter()
        .map(|e| (e.sequence, e.kind, e.code, e.text.as_str()))
        .collect()
}

const REFUSED: ExceptionKind = ExceptionKind::Refused;
const DUPLICATE: ExceptionKind = ExceptionKind::Duplicate;

#[test]
fn a_repeat_is_confirmed_with_the_first_offset_also_after_a_restart() {
    let mut world = World::new(&[("q", Settings::default()), ("r", Settings::default())]);
    let stream = Stream::open(&mut world, 0);
    assert_eq!(stream.epoch, 1);
    let first = stream.batch(
        &[1, 2, 3, 4],
        vec![
            part("q", &[(0, "a"), (1, "b"), (1, "B"), (3, "d")]),
            part("r", &[(1, "b"), (2, "c")]),
        ],
    );
    assert_eq!(said(&world.publish(&first)), []);
    for round in 0..3 {
        match round {
            0 => {}
            1 => world.restart(),
            _ => {
                world.shard.write_snapshots();
                world.commit();
                world.restart();
            }
        }
        let opened = world.shard.open_producer(P, 1).unwrap();
        assert_eq!((opened.epoch, opened.last_sequence), (1, 4 + round));
        let stream = Stream {
            session: opened.session,
            epoch: 1,
        };
        let again = stream.batch(
            &[1, 2, 3, 4, 5 + round],
            vec![
                part("q", &[(0, "a"), (1, "b"), (1, "B"), (3, "d"), (4, "e")]),
                part("r", &[(1, "b"), (2, "c")]),
            ],
        );
        let accepted = world.publish(&again);
        assert_eq!(accepted.level, Level::Stored);
        assert_eq!(
            said(&accepted),
            [
                (1, DUPLICATE, Code::Closed, "queue q, offset 0"),
                (2, DUPLICATE, Code::Closed, "queue q, offset 1"),
                (3, DUPLICATE, Code::Closed, "queue r, offset 1"),
                (4, DUPLICATE, Code::Closed, "queue q, offset 3"),
            ]
        );
    }
    assert_eq!(world.texts("q"), ["a", "b", "B", "d", "e", "e", "e"]);
    assert_eq!(world.texts("r"), ["b", "c"]);
}

/// The confirm of a repeat waits for the sync of the first.
#[test]
fn a_repeat_is_not_confirmed_before_the_first_is_synced() {
    let mut world = World::new(&[("q", Settings::default())]);
    let stream = Stream::open(&mut world, 0);
    let batch = stream.batch(&[1], vec![part("q", &[(0, "a")])]);
    world.shard.publish(world.now, &batch).unwrap();
    world.shard.publish(world.now, &batch).unwrap();
    assert_eq!(world.accepted(), []);
    world.commit();
    let accepted = world.accepted();
    assert_eq!(said(&accepted[0]), []);
    assert_eq!(accepted[1].exceptions[0].kind, DUPLICATE);
}

/// Where a route was added between, the new queue gets what is sent again, and the old one not.
#[test]
fn each_queue_takes_each_message_once() {
    let mut world = World::new(&[("q", Settings::default()), ("r", Settings::default())]);
    let stream = Stream::open(&mut world, 0);
    world.publish(&stream.batch(&[1, 2], vec![part("q", &[(0, "a"), (1, "b")])]));
    let accepted = world.publish(&stream.batch(
        &[1, 2],
        vec![
            part("q", &[(0, "a"), (1, "b")]),
            part("r", &[(0, "a"), (1, "b")]),
        ],
    ));
    assert_eq!(said(&accepted), []);
    assert_eq!(world.texts("q"), ["a", "b"]);
    assert_eq!(world.texts("r"), ["a", "b"]);
}

/// What a queue refuses holds all that its producer sends behind it, until it comes again: taken
/// before it, a later one would make it look like a repeat.
#[test]
fn nothing_is_taken_behind_what_was_refused() {
    let few = Settings {
        messages_max: Some(2),
        ..Settings::default()
    };
    let mut world = World::new(&[("q", few), ("r", Settings::default())]);
    let stream = Stream::open(&mut world, 0);
    let batch = |sequences: &[u64], parts| stream.batch(sequences, parts);
    let accepted = world.publish(&batch(
        &[1, 2, 3, 4, 5],
        vec![
            part("q", &[(0, "1"), (1, "2"), (2, "3"), (3, "4")]),
            part("r", &[(2, "3"), (4, "5")]),
        ],
    ));
    let codes: Vec<_> = said(&accepted).iter().map(|s| (s.0, s.1, s.2)).collect();
    assert_eq!(
        codes,
        [
            (3, REFUSED, Code::QueueFull),
            (4, REFUSED, Code::QueueFull),
            (5, REFUSED, Code::QueueFull),
        ]
    );
    world.shard.purge_queue(world.now, "q").unwrap();
    // There is room, but number 3 has not come again.
    let accepted = world.publish(&batch(&[6], vec![part("r", &[(0, "6")])]));
    assert_eq!(
        said(&accepted)[0].3,
        "queue 'r' waits for message 3 of this producer, which it refused"
    );
    let accepted = world.publish(&batch(
        &[3, 4, 5, 6],
        vec![
            part("q", &[(0, "3"), (1, "4")]),
            part("r", &[(0, "3"), (2, "5"), (3, "6")]),
        ],
    ));
    assert_eq!(said(&accepted), []);
    assert_eq!(world.texts("r"), ["3", "5", "6"]);
    let accepted = world.publish(&batch(&[5], vec![part("q", &[(0, "5")])]));
    assert_eq!(said(&accepted)[0].2, Code::QueueFull);
    world
        .shard
        .refused(&batch(&[7], vec![part("r", &[(0, "7")])]), Code::DiskFull);
    let accepted = world.publish(&batch(&[8], vec![part("r", &[(0, "8")])]));
    assert_eq!(said(&accepted)[0].2, Code::DiskFull);
    // A new stream begins where it likes.
    let stream = Stream::open(&mut world, 0);
    let accepted = world.publish(&stream.batch(&[8], vec![part("r", &[(0, "8")])]));
    assert_eq!(said(&accepted), []);
    let accepted = world.publish(&stream.batch(&[7], vec![part("r", &[(0, "7")])]));
    assert_eq!(
        said(&accepted),
        [(
            1,
            REFUSED,
            Code::OutOfOrder,
            "queue 'r' has later messages of this producer, but not this one"
        )]
    );
}

#[test]
fn an_older_stream_is_fenced() {
    let mut world = World::new(&[("q", Settings::default())]);
    let old = Stream::open(&mut world, 0);
    world.publish(&old.batch(&[1], vec![part("q", &[(0, "1")])]));
    let new = Stream::open(&mut world, 0);
    assert_eq!((old.epoch, new.epoch), (1, 2));
    let batch = old.batch(&[2], vec![part("q", &[(0, "2")])]);
    let error = world.shard.publish(world.now, &batch).unwrap_err();
    assert!(matches!(error, PublishError::Fenced));
    assert_eq!(error.code(), Code::Fenced);
    world.publish(&new.batch(&[2], vec![part("q", &[(0, "2")])]));
    world.restart();
    let fenced = world.shard.open_producer(P, 1).unwrap_err();
    assert_eq!((fenced.asked, fenced.current), (1, 2));
    world.shard.open_producer(P, 2).unwrap();
    assert_eq!(world.texts("q"), ["1", "2"]);
}

/// A repeat within a batch, and numbers that fall.
#[test]
fn numbers_of_one_batch_count_too() {
    let mut world = World::new(&[("q", Settings::default())]);
    let stream = Stream::open(&mut world, 0);
    let accepted = world.publish(&stream.batch(
        &[5, 5, 4, 6],
        vec![part("q", &[(0, "5"), (1, "5"), (2, "4"), (3, "6")])],
    ));
    let codes: Vec<_> = said(&accepted).iter().map(|s| (s.0, s.1, s.2)).collect();
    assert_eq!(
        codes,
        [(2, DUPLICATE, Code::Closed), (3, REFUSED, Code::OutOfOrder)]
    );
    assert_eq!(world.texts("q"), ["5", "6"]);
}

/// Whole batches: a repeat is a success; a part of one too, but a conflict with a transaction's.
#[test]
fn a_whole_batch_is_a_repeat_as_a_whole() {
    let mut world = World::new(&[("q", Settings::default())]);
    let stream = Stream::open(&mut world, 0);
    let whole = |sequences: &[u64], records: &[(u32, &str)]| Batch {
        is_whole: true,
        ..stream.batch(sequences, vec![part("q", records)])
    };
    world.publish(&whole(&[1, 2], &[(0, "1"), (1, "2")]));
    let accepted = world.publish(&whole(&[1, 2], &[(0, "1"), (1, "2")]));
    assert_eq!(accepted.exceptions.len(), 2);
    let part = whole(&[2, 3], &[(0, "2"), (1, "3")]);
    let transaction = Batch {
        transaction: Some(Vec::new()),
        ..part.clone()
    };
    let error = world.shard.publish(world.now, &transaction).unwrap_err();
    assert_eq!(error.code(), Code::Conflict);
    assert_eq!(world.texts("q"), ["1", "2"]);
    // Frames may be cut in other places when they come again.
    let accepted = world.publish(&part);
    assert_eq!(accepted.exceptions.len(), 1);
    assert_eq!(world.texts("q"), ["1", "2", "3"]);
}
