//! Receipts: told once what they tell of is synced, to whoever asked, whatever came between.

use waypost_core::journal::GroupOptions;
use waypost_core::queue::{AtLimit, Expired, Settings};
use waypost_core::receipts::ASKED_PER_PRODUCER_MAX;
use waypost_log::mem::Fault;
use waypost_shard::{Attach, Batch, Output, Part, Stamp, Start};
use waypost_wire::data::{ConsumerFrame, Outcome, Range, Receipts};
use waypost_wire::{Code, Filter};

use crate::harness::{World, part, slab};

const P: [u8; 16] = [8; 16];

/// The producer's stream, which wants receipts.
struct Stream {
    epoch: u64,
    session: u64,
}

impl Stream {
    fn open(world: &mut World) -> Stream {
        let opened = world.shard.open_producer(P, 0).unwrap();
        world.shard.open_receipts(P, opened.session);
        Stream {
            epoch: opened.epoch,
            session: opened.session,
        }
    }

    fn batch(&self, first: u64, count: u64, parts: Vec<Part>) -> Batch {
        Batch {
            first_sequence: 1,
            count: count as u32,
            parts,
            stamp: Some(Stamp {
                producer: P,
                epoch: self.epoch,
                session: self.session,
                sequences: (first..first + count).collect(),
            }),
            receipts: true,
            ..Batch::default()
        }
    }

    /// Messages `first..` to a queue.
    fn publish(&self, world: &mut World, queue: &str, first: u64, count: u64) {
        let texts = vec!["x"; count as usize];
        let batch = self.batch(first, count, vec![Part::new(queue.into(), slab(&texts))]);
        world.shard.publish(world.now, &batch).unwrap();
        world.commit();
    }
}

fn attach(world: &mut World, consumer: u64, queue: &str, group: &str) {
    attach_with(world, consumer, queue, group, GroupOptions::default());
}

fn attach_with(world: &mut World, consumer: u64, queue: &str, group: &str, options: GroupOptions) {
    let attach = Attach {
        consumer,
        queue: queue.into(),
        group: group.into(),
        start: Start::Beginning,
        options,
        ack_deadline_ms: None,
        batch_bytes_max: 1 << 20,
    };
    world.shard.attach(world.now, attach).unwrap();
    let credit = ConsumerFrame::Credit {
        messages: 1 << 20,
        bytes: 1 << 30,
    };
    world.shard.consumer_frame(world.now, consumer, credit);
    world.commit();
}

fn ack(world: &mut World, consumer: u64, first: u64, last: u64) {
    let ranges = vec![Range { first, last }];
    world
        .shard
        .consumer_frame(world.now, consumer, ConsumerFrame::Ack(ranges));
}

fn frames(world: &mut World) -> Vec<Receipts> {
    let receipts = |output| match output {
        Output::Receipts { receipts, .. } => Some(receipts),
        _ => None,
    };
    let outputs = world.shard.take_outputs();
    outputs.into_iter().filter_map(receipts).collect()
}

/// Queue, group, outcome, sequence, count, last.
type Said = (String, String, Outcome, u64, u64, bool);

fn told(world: &mut World) -> Vec<Said> {
    world.shard.deliver(world.now);
    let all = frames(world).into_iter().flat_map(|f| f.receipts);
    all.map(|r| (r.queue, r.group, r.outcome, r.sequence, r.count, r.is_last))
        .collect()
}

fn said(
    group: &str,
    outcome: Outcome,
    sequence: u64,
    count: u64,
    is_last: bool,
) -> (String, String, Outcome, u64, u64, bool) {
    ("q".into(), group.into(), outcome, sequence, count, is_last)
}

#[test]
fn each_group_is_told_of_and_not_before_the_sync() {
    let mut world = World::new(&[("q", Settings::default())]);
    let stream = Stream::open(&mut world);
    stream.publish(&mut world, "q", 1, 4);
    assert_eq!(told(&mut world), [], "nobody has acked");
    attach(&mut world, 1, "q", "a");
    attach(&mut world, 2, "q", "b");
    ack(&mut world, 1, 0, 1);
    assert_eq!(told(&mut world), [], "not synced");
    world.commit();
    assert_eq!(told(&mut world), [said("a", Outcome::Acked, 1, 2, false)]);
    ack(&mut world, 2, 1, 3);
    world.commit();
    assert_eq!(
        told(&mut world),
        [
            said("b", Outcome::Acked, 3, 2, false),
            said("b", Outcome::Acked, 2, 1, true),
        ]
    );
    ack(&mut world, 1, 2, 3);
    ack(&mut world, 2, 0, 0);
    world.commit();
    let rest = frames(&mut world);
    assert_eq!(rest[0].receipts.len(), 2);
    assert_eq!((rest[0].number, rest[0].waiting), (8, 0));
    // Who does not ask is told nothing.
    let silent = Batch {
        receipts: false,
        ..stream.batch(5, 1, vec![part("q", &[(0, "y")])])
    };
    world.publish(&silent);
    ack(&mut world, 1, 4, 4);
    world.commit();
    assert_eq!(told(&mut world), []);
}

/// Killed between ack and receipt, told and not taken, away meanwhile: it comes with the next
/// stream; what was taken does not, once that is synced.
#[test]
fn what_was_not_taken_comes_again_whatever_happened() {
    let mut world = World::new(&[("q", Settings::default())]);
    let stream = Stream::open(&mut world);
    stream.publish(&mut world, "q", 1, 6);
    attach(&mut world, 1, "q", "a");
    ack(&mut world, 1, 0, 2);
    world.commit();
    for round in 0..3 {
        match round {
            0 => world.restart(),
            1 => {
                world.shard.write_snapshots();
                world.commit();
                world.restart();
            }
            // Another stream in the same process.
            _ => {}
        }
        let stream = Stream::open(&mut world);
        assert_eq!(
            told(&mut world),
            [said("a", Outcome::Acked, 1, 3, true)],
            "round {round}"
        );
        if round == 2 {
            let session = stream.session;
            world.shard.receipts_taken(world.now, &P, session, 2);
            world.commit();
        }
    }
    world.restart();
    attach(&mut world, 2, "q", "a");
    ack(&mut world, 2, 3, 5);
    world.commit();
    // Acked while it was away.
    Stream::open(&mut world);
    assert_eq!(told(&mut world), [said("a", Outcome::Acked, 3, 4, true)]);
}

/// What no group is there for waits; and every other way for a message to go is told by its name.
#[test]
fn every_end_of_a_message_is_told() {
    let limited = Settings {
        messages_max: Some(2),
        at_limit: AtLimit::DropOldest,
        ..Settings::default()
    };
    let mut world = World::new(&[("dead-letter", Settings::default()), ("q", limited.clone())]);
    let stream = Stream::open(&mut world);
    stream.publish(&mut world, "q", 1, 3);
    assert_eq!(told(&mut world), [said("", Outcome::Dropped, 1, 1, true)]);
    attach(&mut world, 1, "q", "a");
    let reject = ConsumerFrame::Reject {
        reason: "bad".into(),
        ranges: vec![Range::one(1)],
    };
    world.shard.consumer_frame(world.now, 1, reject);
    world.commit();
    assert_eq!(
        told(&mut world),
        [said("a", Outcome::DeadLettered, 2, 1, true)]
    );
    assert_eq!(world.texts("dead-letter"), ["x"]);
    let to_dead = Settings {
        at_limit: AtLimit::DeadLetter,
        ..limited.clone()
    };
    world.shard.set_queue("q", to_dead).unwrap();
    stream.publish(&mut world, "q", 4, 2);
    assert_eq!(
        told(&mut world),
        [said("a", Outcome::DeadLettered, 3, 1, true)]
    );
    let all = world
        .shard
        .seek_group(world.now, "q", "a", Start::Offset(4));
    assert_eq!(all.unwrap(), 4);
    world.commit();
    assert_eq!(told(&mut world), [said("a", Outcome::Passed, 4, 1, true)]);
    world.shard.remove_group(world.now, "q", "a").unwrap();
    world.commit();
    assert_eq!(told(&mut world), [said("a", Outcome::Removed, 5, 1, false)]);
    world.shard.purge_queue(world.now, "q").unwrap();
    world.commit();
    assert_eq!(told(&mut world), [said("", Outcome::Removed, 5, 1, true)]);
    let short = Settings {
        ttl_ms: Some(50),
        expired: Expired::Drop,
        ..Settings::default()
    };
    world.shard.set_queue("q", short.clone()).unwrap();
    stream.publish(&mut world, "q", 6, 2);
    world.now.mono_ms += 60;
    world.shard.on_time(world.now);
    world.commit();
    assert_eq!(told(&mut world), [said("", Outcome::Expired, 6, 2, true)]);
    // What a group's filters leave to others is no ack.
    world.shard.set_queue("q", Settings::default()).unwrap();
    let picky = GroupOptions {
        filters: vec![Filter::new("else/#").unwrap()],
        ..GroupOptions::default()
    };
    attach_with(&mut world, 2, "q", "picky", picky);
    stream.publish(&mut world, "q", 8, 1);
    world.commit();
    assert_eq!(
        told(&mut world),
        [said("picky", Outcome::Passed, 8, 1, true)]
    );
    let kept = Settings {
        last_value: true,
        ..Settings::default()
    };
    world.add("other", kept);
    stream.publish(&mut world, "other", 9, 1);
    world.shard.remove_queue("other").unwrap();
    world.commit();
    let gone = told(&mut world);
    assert_eq!(gone[0].0, "other");
    assert_eq!((gone[0].2, gone[0].5), (Outcome::Removed, true));
}

/// A consumer that crashes has told nothing; its message comes again, and then it is told.
#[test]
fn a_lost_consumer_acks_nothing() {
    let mut world = World::new(&[("q", Settings::default())]);
    let stream = Stream::open(&mut world);
    stream.publish(&mut world, "q", 1, 1);
    attach(&mut world, 1, "q", "a");
    world.shard.detach(world.now, 1, false);
    world.commit();
    assert_eq!(told(&mut world), []);
    attach(&mut world, 2, "q", "a");
    ack(&mut world, 2, 0, 0);
    world.commit();
    assert_eq!(told(&mut world), [said("a", Outcome::Acked, 1, 1, true)]);
}

/// Two queues, several records of one input, and a transaction's acks.
#[test]
fn every_queue_and_copy_is_told_of() {
    let mut world = World::new(&[("q", Settings::default()), ("r", Settings::default())]);
    let stream = Stream::open(&mut world);
    let batch = stream.batch(
        7,
        2,
        vec![
            part("q", &[(0, "1"), (1, "2"), (1, "2 again")]),
            part("r", &[(1, "2")]),
        ],
    );
    world.publish(&batch);
    attach(&mut world, 1, "q", "a");
    attach(&mut world, 2, "r", "a");
    let acks = [(1, Range { first: 0, last: 2 }), (2, Range::one(0))];
    let acks = acks.map(|(consumer, range)| waypost_wire::data::ConsumerAcks {
        consumer,
        ranges: vec![range],
    });
    let transaction = Batch {
        count: 1,
        parts: vec![part("r", &[(0, "out")])],
        is_whole: true,
        transaction: Some(acks.to_vec()),
        ..Batch::default()
    };
    world.shard.publish(world.now, &transaction).unwrap();
    assert_eq!(told(&mut world), []);
    world.commit();
    let mut all = told(&mut world);
    all.sort();
    let of_r = ("r".into(), "a".into(), Outcome::Acked, 8, 1, true);
    assert_eq!(
        all,
        [
            said("a", Outcome::Acked, 7, 2, true),
            said("a", Outcome::Acked, 8, 1, true),
            of_r,
        ]
    );
}

#[test]
fn what_waits_is_bounded_and_refused_beyond() {
    let mut world = World::new(&[("q", Settings::default())]);
    let stream = Stream::open(&mut world);
    let step = 256;
    for n in 0..ASKED_PER_PRODUCER_MAX / step {
        stream.publish(&mut world, "q", n * step + 1, step);
    }
    let next = ASKED_PER_PRODUCER_MAX + 1;
    let more = stream.batch(next, 1, vec![part("q", &[(0, "x")])]);
    let error = world.shard.publish(world.now, &more).unwrap_err();
    assert_eq!(error.code(), Code::Busy);
    assert!(error.code().is_retryable());
    assert_eq!(
        error.to_string(),
        "this producer has 16384 messages and receipts that are not settled, 1 more would pass the \
         limit of 16384"
    );
    // A receipt counts until it is taken.
    attach(&mut world, 1, "q", "a");
    ack(&mut world, 1, 0, 9);
    world.commit();
    assert_eq!(told(&mut world), [said("a", Outcome::Acked, 1, 10, true)]);
    assert!(world.shard.publish(world.now, &more).is_err());
    world
        .shard
        .receipts_taken(world.now, &P, stream.session, 10);
    world.publish(&more);
}

/// A stream gets so many ahead, and the rest when it has taken some.
#[test]
fn a_stream_that_takes_nothing_is_sent_a_bounded_number() {
    let mut world = World::new(&[("q", Settings::default())]);
    let stream = Stream::open(&mut world);
    attach(&mut world, 1, "q", "a");
    for n in 0..20 {
        stream.publish(&mut world, "q", n * 256 + 1, 256);
    }
    ack(&mut world, 1, 0, 5119);
    world.commit();
    let all = frames(&mut world);
    let last = all.last().unwrap();
    assert_eq!((last.number, last.waiting), (4096, 1024));
    world
        .shard
        .receipts_taken(world.now, &P, stream.session, 1000);
    world.shard.deliver(world.now);
    let more = frames(&mut world);
    assert_eq!((more[0].number, more[0].waiting), (5096, 24));
}

/// What there is after a commit that lost its power.
struct Left {
    /// What filled the group that the ack was to be in.
    is_filled: bool,
    is_acked: bool,
    told: Vec<Said>,
}

/// An ack comes when so many bytes are in the log's group, and the power goes at a call to the disk.
fn ack_and_crash(payload_bytes: usize, call: u64) -> Option<Left> {
    let mut world = World::new(&[("q", Settings::default()), ("fill", Settings::default())]);
    let stream = Stream::open(&mut world);
    stream.publish(&mut world, "q", 1, 4);
    attach(&mut world, 1, "q", "a");
    attach(&mut world, 2, "q", "b");
    let payload = "x".repeat(payload_bytes);
    let filler = Batch {
        first_sequence: 1,
        count: 1,
        parts: vec![part("fill", &[(0, &payload)])],
        ..Batch::default()
    };
    world.shard.publish(world.now, &filler).ok()?;
    ack(&mut world, 1, 0, 3);
    world.disk.fail_at(call, Fault::PowerOff);
    let is_committed = world.shard.commit(world.now).is_ok();
    world.disk.clear_fault();
    world.disk = world.disk.crash(1);
    world.restart();
    let is_filled = !world.texts("fill").is_empty();
    Stream::open(&mut world);
    attach(&mut world, 3, "q", "a");
    world.shard.deliver(world.now);
    let outputs = world.shard.take_outputs();
    let is_acked = !outputs.iter().any(|o| matches!(o, Output::Deliver { .. }));
    assert!(is_acked || !is_committed, "{payload_bytes} {call}");
    let told = outputs.into_iter().filter_map(|output| match output {
        Output::Receipts { receipts, .. } => Some(receipts.receipts),
        _ => None,
    });
    let told = told.flatten().map(|r| {
        let (queue, group, outcome) = (r.queue, r.group, r.outcome);
        (queue, group, outcome, r.sequence, r.count, r.is_last)
    });
    Some(Left {
        is_filled,
        is_acked,
        told: told.collect(),
    })
}

#[test]
fn the_log_has_an_ack_and_its_receipt_or_neither() {
    let group = 1 << 20;
    let (mut with, mut without) = (0, 0);
    let sizes = (group - 200..group).step_by(8);
    for (payload_bytes, call) in sizes.flat_map(|size| (0..12).map(move |call| (size, call))) {
        // More does not fit a group.
        let Some(left) = ack_and_crash(payload_bytes, call) else {
            break;
        };
        match left.is_acked {
            true => with += 1,
            false if left.is_filled => without += 1,
            false => {}
        }
        let receipt = said("a", Outcome::Acked, 1, 4, false);
        let expected = Vec::from_iter(left.is_acked.then_some(receipt));
        assert_eq!(left.told, expected, "{payload_bytes} {call}");
    }
    assert!(with > 0 && without > 0, "{with} {without}");
}
