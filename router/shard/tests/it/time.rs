//! What is too old goes by itself, in bounded steps; what must wait waits.

use waypost_core::DEAD_LETTER;
use waypost_core::journal::{GroupKind, GroupOptions};
use waypost_core::queue::{Durability, Expired, Settings};
use waypost_shard::{Attach, Batch, Part, Start};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Code, Message, RecordRef};

use crate::harness::World;

fn world(settings: Settings) -> World {
    World::new(&[(DEAD_LETTER, Settings::default()), ("q", settings)])
}

fn publish(world: &mut World, texts: impl IntoIterator<Item = String>, ttl_ms: Option<u64>) {
    let mut slab = SlabBuilder::new();
    for text in texts {
        let message = Message {
            time_to_live_ms: ttl_ms,
            ..Message::new("t", text.into_bytes())
        };
        slab.push_message(&message);
    }
    let slab = slab.finish();
    let batch = Batch {
        count: slab.count(),
        parts: vec![Part::new("q".into(), slab)],
        ..Batch::default()
    };
    world.publish(&batch);
}

/// Time passes; whatever is due then happens. Gives how many steps that took.
fn pass(world: &mut World, ms: u64) -> u64 {
    let end = world.now.mono_ms + ms;
    let mut steps = 0;
    while let Some(at) = world.shard.next_timeout().filter(|at| *at <= end) {
        world.now.mono_ms = world.now.mono_ms.max(at);
        world.shard.on_time(world.now);
        world.commit();
        steps += 1;
    }
    world.now.mono_ms = end;
    steps
}

fn messages(world: &World, queue: &str) -> u64 {
    world.shard.queue(queue).unwrap().messages
}

#[test]
fn a_queue_without_consumers_lets_its_messages_expire_step_by_step() {
    let mut world = world(Settings {
        ttl_ms: Some(5000),
        ..Settings::default()
    });
    for batch in 0..10 {
        publish(&mut world, (0..200).map(|n| format!("{batch}-{n}")), None);
    }
    pass(&mut world, 4999);
    assert_eq!(messages(&world, "q"), 2000);
    let steps = pass(&mut world, 1000);
    assert_eq!(messages(&world, "q"), 0);
    assert!(steps >= 5, "2,000 messages in {steps} steps");
    let view = world.shard.queue("q").unwrap();
    assert_eq!((view.first_offset, view.next_offset), (2000, 2000));
    assert_eq!(world.shard.counters().expired, 2000);
    let (letters, _) = world.shard.peek(DEAD_LETTER, 0, 3).unwrap();
    let letter = RecordRef::parse(&letters[0].body).unwrap();
    let header = |name| String::from_utf8_lossy(letter.header(name).unwrap()).into_owned();
    assert_eq!(letter.payload(), b"0-0");
    assert_eq!(
        header("waypost-dead-reason"),
        "expired: not delivered within its time to live of 5000 ms"
    );
    assert_eq!(header("waypost-dead-queue"), "q");
    assert_eq!(header("waypost-dead-attempts"), "0");
    // They do not expire there.
    world.restart();
    pass(&mut world, 100_000);
    assert_eq!(messages(&world, DEAD_LETTER), 2000);
}

#[test]
fn the_shorter_time_to_live_counts_and_the_expired_may_just_go() {
    let mut world = world(Settings {
        ttl_ms: Some(5000),
        expired: Expired::Drop,
        ..Settings::default()
    });
    publish(&mut world, ["long".into()], Some(9000));
    publish(&mut world, ["short".into()], Some(100));
    pass(&mut world, 100);
    assert_eq!(messages(&world, "q"), 1);
    pass(&mut world, 4900);
    assert_eq!(
        (messages(&world, "q"), messages(&world, DEAD_LETTER)),
        (0, 0)
    );
}

#[test]
fn what_is_older_than_a_queue_keeps_goes_and_what_is_younger_stays() {
    let mut world = world(Settings {
        age_max_ms: Some(1000),
        ..Settings::default()
    });
    publish(&mut world, (0..300).map(|n| n.to_string()), None);
    pass(&mut world, 600);
    publish(&mut world, ["young".into()], None);
    pass(&mut world, 400);
    assert_eq!(world.texts("q"), ["young"]);
    assert_eq!(world.shard.counters().aged, 300);
    // Its age goes on where the process ends, by the wall clock.
    world.now.wall_ms += 1000;
    world.restart();
    world.now.mono_ms = 1;
    world.now.wall_ms += 600;
    world.shard.on_time(world.now);
    pass(&mut world, 1);
    assert_eq!(messages(&world, "q"), 0);
    assert_eq!(messages(&world, DEAD_LETTER), 0);
}

#[test]
fn times_to_live_are_found_after_a_restart() {
    let mut world = world(Settings::default());
    publish(&mut world, ["a".into()], Some(100));
    world.restart();
    world.now.mono_ms = 1;
    world.shard.on_time(world.now);
    // The log has nothing newer than the wall clock shows; the time since the start counts.
    pass(&mut world, 99);
    assert_eq!(messages(&world, "q"), 1);
    pass(&mut world, 2);
    assert_eq!(
        (messages(&world, "q"), messages(&world, DEAD_LETTER)),
        (0, 1)
    );
}

fn put(world: &mut World, pairs: &[(&str, &str)]) {
    let mut slab = SlabBuilder::new();
    for (key, text) in pairs {
        let message = Message::new("t", text.as_bytes().to_vec());
        slab.push_message(&match key.is_empty() {
            true => message,
            false => message.with_key(key.as_bytes().to_vec()),
        });
    }
    let batch = Batch {
        count: pairs.len() as u32,
        parts: vec![Part::new("q".into(), slab.finish()).timed(false)],
        ..Batch::default()
    };
    world.publish(&batch);
}

#[test]
fn only_the_last_value_of_each_key_is_kept() {
    for durability in [Durability::Sync, Durability::Memory] {
        let mut world = world(Settings {
            last_value: true,
            durability,
            ..Settings::default()
        });
        put(&mut world, &[("a", "1"), ("b", "2"), ("", "3"), ("a", "4")]);
        assert_eq!(messages(&world, "q"), 3);
        put(&mut world, &[("b", "5"), ("", "6")]);
        assert_eq!(messages(&world, "q"), 4);
        assert_eq!(world.shard.counters().replaced, 2);
        // "1" and "2" were at the head.
        assert_eq!(world.shard.queue("q").unwrap().first_offset, 2);
    }
}

#[test]
fn last_values_are_known_again_after_a_restart() {
    let mut world = world(Settings {
        last_value: true,
        ..Settings::default()
    });
    for round in 0..3 {
        let texts: Vec<(String, String)> = (0..200)
            .map(|n| (format!("k{n}"), format!("{round}-{n}")))
            .collect();
        let pairs: Vec<(&str, &str)> = texts.iter().map(|(k, t)| (&k[..], &t[..])).collect();
        put(&mut world, &pairs);
    }
    assert_eq!(messages(&world, "q"), 200);
    world.restart();
    world.now.mono_ms = 1;
    // Before anything was looked at: the older one is found when it is.
    put(&mut world, &[("k7", "new")]);
    assert_eq!(messages(&world, "q"), 201);
    pass(&mut world, 50);
    assert_eq!(messages(&world, "q"), 200);
    put(&mut world, &[("k8", "new")]);
    assert_eq!(messages(&world, "q"), 200);
}

#[test]
fn a_group_ordered_by_key_has_no_priorities() {
    let mut world = world(Settings {
        priorities: 4,
        ..Settings::default()
    });
    let attach = |kind| Attach {
        consumer: 1,
        queue: "q".into(),
        group: format!("{kind:?}"),
        start: Start::Beginning,
        options: GroupOptions {
            kind,
            ..GroupOptions::default()
        },
        ack_deadline_ms: None,
        batch_bytes_max: 1 << 20,
    };
    let error = world
        .shard
        .attach(world.now, attach(GroupKind::Key))
        .unwrap_err();
    assert_eq!(error.code(), Code::Unsupported);
    assert_eq!(
        error.to_string(),
        "queue 'q' has priorities, which a group that is ordered by key cannot keep"
    );
    let exclusive = world.shard.attach(world.now, attach(GroupKind::Exclusive));
    assert_eq!(exclusive.unwrap(), 30_000);
}
