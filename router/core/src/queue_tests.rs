use super::*;

fn shared() -> GroupOptions {
    GroupOptions::default()
}

fn r(first: u64, last: u64) -> Range {
    Range { first, last }
}

#[test]
fn limits_refuse_and_name_themselves() {
    let settings = Settings {
        bytes_max: 100,
        messages_max: Some(3),
        ..Settings::default()
    };
    let mut queue = Queue::new("q", settings);
    assert_eq!(queue.append(2, 90), 0);
    let error = queue.admit(1, 11).unwrap_err();
    assert_eq!(
        error.to_string(),
        "queue 'q' holds 90 bytes, 11 more would pass its limit of 100"
    );
    assert_eq!(queue.admit(2, 1).unwrap_err().code(), Code::QueueFull);
    queue.freed(90);
    assert_eq!(queue.admit(1, 11), Ok(()));
}

#[test]
fn only_synced_messages_are_due() {
    let mut queue = Queue::new("q", Settings::default());
    queue.add_group("g", 0, shared());
    queue.append(5, 5);
    assert_eq!(queue.next_run("g", 9), None);
    queue.set_visible();
    assert_eq!(queue.next_run("g", 9).map(|a| a.range), Some(r(0, 4)));
}

#[test]
fn the_slowest_group_holds_the_messages() {
    let mut queue = Queue::new("q", Settings::default());
    queue.append(9, 9);
    queue.set_visible();
    assert!(!queue.raise_first());
    queue.add_group("a", 0, shared());
    queue.add_group("b", 3, shared());
    for (group, last) in [("a", 5), ("b", 8)] {
        let run = queue.next_run(group, 6).unwrap();
        assert_eq!(run.range.last, last);
        queue.group_mut(group).unwrap().group.lease(1, run, 9);
    }
    queue.ack("a", 1, &[r(0, 5)]).unwrap();
    assert!(queue.raise_first());
    assert_eq!(queue.first(), 3);
    queue.remove_group("b");
    assert!(queue.raise_first());
    assert_eq!((queue.first(), queue.messages()), (6, 3));
}

/// The journal of a life, replayed, gives the same state: from its start and from a snapshot.
#[test]
fn replay_gives_the_same_state() {
    let mut queue = Queue::new("q", Settings::default());
    let mut from_start = Recovering::new("q", Settings::default());
    queue.append(10, 10);
    queue.set_visible();
    from_start.messages(0, 10);
    from_start.entry(queue.add_group("g", 0, shared()).unwrap());
    let run = queue.next_run("g", 8).unwrap();
    queue.group_mut("g").unwrap().group.lease(1, run, 9);
    from_start.entry(queue.ack("g", 1, &[r(0, 1), r(4, 4)]).unwrap());
    let named = queue.group_mut("g").unwrap();
    let taken = named.group.take(1, &[r(5, 6)]);
    let attempts = named.group.put_back(taken, |_| None);
    from_start.entry(Entry::Attempts {
        id: named.id,
        attempts,
    });
    queue.raise_first();
    let mut from_snapshot = Recovering::new("q", Settings::default());
    from_snapshot.snapshot(Snapshot::decode(&queue.snapshot().encode()).unwrap());
    for recovered in [from_start.finish(), from_snapshot.finish()] {
        assert_eq!(recovered.snapshot(), queue.snapshot());
        assert_eq!(recovered.visible(), 10);
        let first = recovered.next_run("g", 9).unwrap();
        assert_eq!((first.range, first.attempt), (r(2, 3), 1));
    }
}

/// Removed messages count as acked for every group, from memory and from the journal.
#[test]
fn removed_messages_are_gone_for_every_group() {
    let mut queue = Queue::new("q", Settings::default());
    let mut journal = Recovering::new("q", Settings::default());
    queue.append(10, 10);
    queue.set_visible();
    journal.messages(0, 10);
    journal.entry(queue.add_group("g", 0, shared()).unwrap());
    let run = queue.next_run("g", 4).unwrap();
    queue.group_mut("g").unwrap().group.lease(1, run, 9);
    let (entry, count) = queue.remove(&[r(2, 5), r(8, 40)]).unwrap();
    assert_eq!(count, 6);
    assert_eq!(queue.remove(&[r(3, 4)]), None);
    journal.entry(Entry::decode(&entry.encode()).unwrap());
    assert_eq!(queue.messages(), 4);
    journal.entry(queue.ack("g", 1, &[r(0, 3)]).unwrap());
    for mut queue in [queue, journal.finish()] {
        queue.raise_first();
        assert_eq!((queue.first(), queue.messages()), (6, 2));
        let run = queue.next_run("g", 9).unwrap();
        assert_eq!(run.range, r(6, 7));
        queue.group_mut("g").unwrap().group.lease(1, run, 9);
        queue.ack("g", 1, &[r(6, 7)]).unwrap();
        assert!(queue.raise_first());
        assert_eq!((queue.first(), queue.messages()), (10, 0));
    }
}

/// However many holes last values make in a queue, its groups go on.
#[test]
fn holes_of_the_queue_do_not_hold_a_group_up() {
    let mut queue = Queue::new("q", Settings::default());
    queue.add_group("g", 0, shared());
    queue.append(600_000, 1);
    queue.set_visible();
    let holes: Vec<Range> = (1..600_000).step_by(2).map(Range::one).collect();
    queue.remove(&holes).unwrap();
    for _ in 0..300_000 {
        let run = queue.next_run("g", 9).unwrap();
        queue.group_mut("g").unwrap().group.lease(1, run, 9);
    }
    assert_eq!(queue.next_run("g", 9), None);
}

/// Groups that are made or moved later do not get what is gone either, and without any group the
/// queue's head passes over it.
#[test]
fn later_groups_do_not_get_what_is_gone() {
    let mut queue = Queue::new("q", Settings::default());
    queue.append(10, 10);
    queue.set_visible();
    queue.remove(&[r(0, 1), r(4, 5)]).unwrap();
    assert!(queue.raise_first());
    assert_eq!((queue.first(), queue.messages()), (2, 6));
    queue.add_group("g", 0, shared());
    let run = queue.next_run("g", 9).unwrap();
    assert_eq!(run.range, r(2, 3));
    assert!(queue.needs(3) && !queue.needs(4));
    queue.seek_group("g", 4).unwrap();
    assert_eq!(queue.next_run("g", 9).unwrap().range, r(6, 9));
}

#[test]
fn a_group_that_is_moved_gets_everything_from_there() {
    let mut queue = Queue::new("q", Settings::default());
    queue.append(10, 10);
    queue.set_visible();
    queue.add_group("g", 0, shared());
    let run = queue.next_run("g", 9).unwrap();
    queue.group_mut("g").unwrap().group.lease(1, run, 9);
    queue.seek_group("g", 5).unwrap();
    assert_eq!(queue.ack("g", 1, &[r(0, 8)]), None);
    assert_eq!(queue.next_run("g", 9).unwrap().range, r(5, 9));
    queue.seek_group("g", 99).unwrap();
    assert_eq!(queue.next_run("g", 9), None);
}

#[test]
fn purge_leaves_offsets_used() {
    let mut queue = Queue::new("q", Settings::default());
    queue.add_group("g", 0, shared());
    queue.append(4, 4);
    queue.set_visible();
    let run = queue.next_run("g", 2).unwrap();
    queue.group_mut("g").unwrap().group.lease(1, run, 9);
    assert_eq!(queue.purge(), (Entry::Truncated { below: 4 }, 4));
    assert_eq!(queue.ack("g", 1, &[r(0, 1)]), None);
    assert_eq!((queue.messages(), queue.append(1, 1)), (0, 4));
}
