//! Browsing, removing and moving back dead letters, on a disk whose power goes.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use waypost_core::DEAD_LETTER;
use waypost_core::journal::GroupOptions;
use waypost_core::queue::{AtLimit, Settings};
use waypost_log::mem::MemVfs;
use waypost_log::{Incarnation, Log, Options as LogOptions};
use waypost_shard::{Attach, Batch, Now, Options, Part, QueueView, Selection, Shard, Start};
use waypost_wire::data::{ConsumerFrame, Range};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Filter, Message, RecordRef};

const NOW: Now = Now {
    mono_ms: 1000,
    wall_ms: 1_700_000_000_000,
};

fn open(disk: &MemVfs) -> Shard<MemVfs> {
    let options = LogOptions {
        nonce: 7,
        ..LogOptions::default()
    };
    let (log, recovered) =
        Log::open(disk.clone(), Path::new("/data/shard"), options, NOW.wall_ms).unwrap();
    let options = Options {
        cache_bytes: 1 << 20,
        consumer_bytes_max: 1 << 20,
        consumer_messages_max: 1000,
        ack_sync_ms: 10,
    };
    Shard::open(log, recovered, options).shard
}

fn new() -> (MemVfs, Shard<MemVfs>) {
    let disk = MemVfs::with_dir(Path::new("/data")).unwrap();
    let mut shard = open(&disk);
    for (number, name) in [(1, DEAD_LETTER), (3, "orders"), (5, "late")] {
        let incarnation = Incarnation::new(number).unwrap();
        shard
            .ensure_queue(name, Settings::default(), incarnation, "node")
            .unwrap();
    }
    (disk, shard)
}

fn publish(shard: &mut Shard<MemVfs>, count: u32) {
    publish_to(shard, "orders", count);
}

fn publish_to(shard: &mut Shard<MemVfs>, queue: &str, count: u32) {
    let mut slab = SlabBuilder::new();
    for number in 0..count {
        let topic = format!("orders/{}", number % 2);
        let mut message = Message::new(topic, number.to_string().into_bytes());
        message.headers.push(("shop".to_owned(), "7".into()));
        slab.push(&message.to_body());
    }
    let batch = Batch {
        ticket: 1,
        count,
        parts: vec![Part::new(queue.into(), slab.finish())],
        ..Batch::default()
    };
    shard.publish(NOW, &batch).unwrap();
    shard.commit(NOW).unwrap();
}

/// All that is delivered is rejected.
fn reject_all(shard: &mut Shard<MemVfs>, count: u64) {
    reject_all_of(shard, 1, "orders", count);
}

fn reject_all_of(shard: &mut Shard<MemVfs>, consumer: u64, queue: &str, count: u64) {
    let attach = Attach {
        consumer,
        queue: queue.into(),
        group: "g".to_owned(),
        start: Start::Beginning,
        options: GroupOptions::default(),
        ack_deadline_ms: None,
        batch_bytes_max: 1 << 20,
    };
    shard.attach(NOW, attach).unwrap();
    let credit = ConsumerFrame::Credit {
        messages: count,
        bytes: 1 << 20,
    };
    shard.consumer_frame(NOW, consumer, credit);
    shard.deliver(NOW);
    let ranges = vec![Range {
        first: 0,
        last: count - 1,
    }];
    let reason = "bad".to_owned();
    shard.consumer_frame(NOW, consumer, ConsumerFrame::Reject { reason, ranges });
    shard.commit(NOW).unwrap();
}

fn view(shard: &Shard<MemVfs>, name: &str) -> QueueView {
    shard.queue(name).unwrap()
}

#[test]
fn a_browse_shows_what_is_selected_and_where_to_go_on() {
    let (_disk, mut shard) = new();
    publish(&mut shard, 100);
    let selection = Selection {
        from_offset: 10,
        to_offset: Some(50),
        filters: vec![Filter::new("orders/1").unwrap()],
        headers: vec![("shop".to_owned(), "7".to_owned())],
        ..Selection::default()
    };
    let found = shard.browse("orders", &selection, 5).unwrap();
    let offsets: Vec<u64> = found.messages.iter().map(|m| m.offset).collect();
    assert_eq!(offsets, [11, 13, 15, 17, 19]);
    assert_eq!((found.next_offset, found.is_end), (20, false));
    let rest = Selection {
        from_offset: found.next_offset,
        ..selection.clone()
    };
    let found = shard.browse("orders", &rest, 1000).unwrap();
    assert_eq!((found.messages.len(), found.is_end), (15, true));
    let other = Selection {
        headers: vec![("shop".to_owned(), "8".to_owned())],
        ..selection
    };
    let found = shard.browse("orders", &other, 5).unwrap();
    assert_eq!((found.messages.len(), found.is_end), (0, true));
    let later = Selection {
        from_time_ms: Some(NOW.wall_ms + 1),
        ..Selection::default()
    };
    assert!(
        shard
            .browse("orders", &later, 5)
            .unwrap()
            .messages
            .is_empty()
    );
}

#[test]
fn removed_messages_stay_removed() {
    let (disk, mut shard) = new();
    publish(&mut shard, 100);
    let selection = Selection {
        filters: vec![Filter::new("orders/1").unwrap()],
        ..Selection::default()
    };
    assert_eq!(
        shard.remove_messages(NOW, "orders", &selection).unwrap(),
        (50, None)
    );
    shard.commit(NOW).unwrap();
    let first = Selection {
        to_offset: Some(10),
        ..Selection::default()
    };
    shard.remove_messages(NOW, "orders", &first).unwrap();
    shard.commit(NOW).unwrap();
    drop(shard);
    let mut shard = open(&disk.crash(3));
    assert_eq!(view(&shard, "orders").messages, 45);
    let found = shard.browse("orders", &Selection::default(), 3).unwrap();
    let offsets: Vec<u64> = found.messages.iter().map(|m| m.offset).collect();
    assert_eq!(offsets, [10, 12, 14]);
}

/// Each is in its queue again, or a dead letter, whenever the power goes; never both.
#[test]
fn dead_letters_go_back_as_one() {
    for is_committed in [false, true] {
        let (disk, mut shard) = new();
        publish(&mut shard, 20);
        reject_all(&mut shard, 20);
        assert_eq!(view(&shard, DEAD_LETTER).messages, 20);
        let selection = Selection {
            dead_queue: Some("orders".to_owned()),
            filters: vec![Filter::new("orders/1").unwrap()],
            ..Selection::default()
        };
        let moved = shard
            .redrive(NOW, DEAD_LETTER, &selection, None, None)
            .unwrap();
        assert_eq!(
            (moved.count, moved.stayed, moved.next_offset),
            (10, 0, None)
        );
        if is_committed {
            shard.commit(NOW).unwrap();
        }
        drop(shard);
        let mut shard = open(&disk.crash(5));
        let back = if is_committed { 10 } else { 0 };
        assert_eq!(view(&shard, DEAD_LETTER).messages, 20 - back);
        assert_eq!(view(&shard, "orders").messages, back);
        let found = shard.browse("orders", &Selection::default(), 1).unwrap();
        for message in &found.messages {
            let record = RecordRef::parse(&message.body).unwrap();
            assert_eq!((record.topic(), record.payload()), ("orders/1", &b"1"[..]));
            let names: Vec<&str> = record.headers().map(|(name, _)| name).collect();
            assert_eq!(names, ["shop"]);
        }
    }
}

#[test]
fn a_dead_letter_stays_where_its_queue_is_gone() {
    let (_disk, mut shard) = new();
    publish(&mut shard, 2);
    reject_all(&mut shard, 2);
    shard.remove_queue("orders").unwrap();
    let all = Selection::default();
    let moved = shard.redrive(NOW, DEAD_LETTER, &all, None, None).unwrap();
    assert_eq!((moved.count, moved.stayed), (0, 2));
    assert!(
        moved.why.starts_with("offset 1: the queue"),
        "{}",
        moved.why
    );
    let one = Selection {
        to_offset: Some(1),
        ..Selection::default()
    };
    let edited = Message::new("orders/9", &b"edited"[..]).to_body();
    let moved = shard.redrive(NOW, DEAD_LETTER, &one, Some("late"), Some(&edited));
    assert_eq!(moved.unwrap().count, 1);
    shard.commit(NOW).unwrap();
    assert_eq!(view(&shard, DEAD_LETTER).messages, 1);
    let found = shard.browse("late", &all, 9).unwrap();
    assert_eq!(found.messages[0].body, edited);
}

#[test]
fn a_queue_may_have_its_own_dead_letters() {
    let (_disk, mut shard) = new();
    let to = |queue: &str| Settings {
        dead_letter: queue.to_owned(),
        ..Settings::default()
    };
    let error = shard.set_queue("orders", to("missing")).unwrap_err();
    assert!(error.to_string().contains("'missing'"), "{error}");
    assert!(shard.set_queue("orders", to("orders")).is_err());
    shard.set_queue("orders", to("late")).unwrap();
    publish(&mut shard, 3);
    reject_all(&mut shard, 3);
    assert_eq!(view(&shard, "late").messages, 3);
    assert_eq!(view(&shard, DEAD_LETTER).messages, 0);
}

/// Dead letters that cannot go back, after the oldest of their queue made room for them: that room
/// was made, and is told to the log, whatever became of the rest.
#[test]
fn what_made_room_for_dead_letters_is_not_taken_back_with_them() {
    let (disk, mut shard) = new();
    publish(&mut shard, 2);
    publish_to(&mut shard, "late", 1);
    reject_all_of(&mut shard, 1, "orders", 2);
    reject_all_of(&mut shard, 2, "late", 1);
    let limit = |most, at_limit| Settings {
        messages_max: Some(most),
        at_limit,
        ..Settings::default()
    };
    let makes_room = limit(3, AtLimit::DeadLetter);
    shard.set_queue("orders", makes_room).unwrap();
    shard.set_queue("late", limit(1, AtLimit::Refuse)).unwrap();
    publish(&mut shard, 3);
    publish_to(&mut shard, "late", 1);
    let all = Selection::default();
    let moved = shard.redrive(NOW, DEAD_LETTER, &all, None, None).unwrap();
    assert_eq!((moved.count, moved.stayed), (0, 3), "{}", moved.why);
    shard.commit(NOW).unwrap();
    let told = [DEAD_LETTER, "orders", "late"].map(|name| {
        let view = view(&shard, name);
        (view.messages, view.first_offset, view.next_offset)
    });
    assert_eq!(told[0], (5, 0, 5), "two of 'orders' made room");
    drop(shard);
    let mut shard = open(&disk.crash(1));
    let found = shard.browse(DEAD_LETTER, &all, 9).unwrap();
    assert_eq!(found.messages.len(), 5);
    for (name, told) in [DEAD_LETTER, "orders", "late"].iter().zip(told) {
        let view = view(&shard, name);
        let found = (view.messages, view.first_offset, view.next_offset);
        assert_eq!(found, told, "'{name}' after a crash");
    }
}
