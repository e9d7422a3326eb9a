use super::*;
use proptest::prelude::*;

fn r(first: u64, last: u64) -> Range {
    Range { first, last }
}

fn at(first: u64, last: u64, attempt: u32) -> Attempted {
    Attempted {
        range: r(first, last),
        attempt,
    }
}

fn deliver(
    group: &mut Group,
    consumer: u64,
    end: u64,
    max: u64,
    deadline: u64,
) -> Option<Attempted> {
    let run = group.next_run(end, max)?;
    group.lease(consumer, run, deadline);
    Some(run)
}

fn nack(group: &mut Group, consumer: u64, ranges: &[Range], due: Option<u64>) -> Vec<Attempted> {
    let taken = group.take(consumer, ranges);
    group.put_back(taken, |_| due)
}

#[test]
fn in_order_then_again() {
    let mut group = Group::new(GroupKind::Shared, 0);
    assert_eq!(deliver(&mut group, 1, 10, 4, 100), Some(at(0, 3, 1)));
    assert_eq!(deliver(&mut group, 2, 10, 9, 100), Some(at(4, 9, 1)));
    assert_eq!(deliver(&mut group, 1, 10, 9, 100), None);
    assert_eq!(group.ack(1, &[r(0, 1), r(3, 3)]), [r(0, 1), r(3, 3)]);
    assert_eq!(
        (group.floor(), group.pending(10), group.in_flight()),
        (2, 7, 7)
    );
    assert_eq!(nack(&mut group, 1, &[r(0, 9)], None), [at(2, 2, 2)]);
    assert_eq!(deliver(&mut group, 2, 10, 9, 100), Some(at(2, 2, 2)));
    assert_eq!(group.ack(2, &[r(2, 9)]), [r(2, 2), r(4, 9)]);
    assert_eq!(
        (group.floor(), group.in_flight(), group.redelivered()),
        (10, 0, 1)
    );
}

#[test]
fn nobody_acks_for_another() {
    let mut group = Group::new(GroupKind::Shared, 0);
    deliver(&mut group, 1, 5, 5, 100);
    assert_eq!(group.ack(2, &[r(0, 4)]), []);
    assert_eq!(group.ack(1, &[r(7, 9)]), []);
    assert_eq!(group.in_flight(), 5);
}

#[test]
fn deadlines_and_delays() {
    let mut group = Group::new(GroupKind::Shared, 0);
    deliver(&mut group, 1, 10, 5, 100);
    deliver(&mut group, 1, 10, 5, 200);
    group.extend(1, &[r(1, 2)], 300);
    assert_eq!(group.next_timeout(), Some(100));
    assert_eq!(group.take_expired(99), []);
    let expired = group.take_expired(150);
    assert_eq!(expired, [(1, at(0, 0, 1)), (1, at(3, 4, 1))]);
    let expired = expired.into_iter().map(|(_, e)| e).collect();
    assert_eq!(
        group.put_back(expired, |_| Some(500)),
        [at(0, 0, 2), at(3, 4, 2)]
    );
    assert_eq!(deliver(&mut group, 1, 10, 5, 900), None);
    group.wake_delayed(500);
    assert_eq!(deliver(&mut group, 1, 10, 5, 900), Some(at(0, 0, 2)));
    assert_eq!(group.take_all(1), [at(0, 0, 2), at(1, 2, 1), at(5, 9, 1)]);
}

#[test]
fn recovery_makes_gaps_due_with_their_attempts() {
    let mut acked = RangeSet::new();
    [r(0, 1), r(4, 5), r(8, 8)]
        .into_iter()
        .for_each(|x| acked.insert(x));
    let mut group = Group::recover(GroupKind::Shared, 0, acked, &[at(3, 3, 4), at(4, 4, 2)]);
    assert_eq!((group.floor(), group.fresh()), (2, 9));
    let mut runs = Vec::new();
    while let Some(run) = deliver(&mut group, 1, 12, 2, 9) {
        runs.push(run);
    }
    assert_eq!(
        runs,
        [
            at(2, 2, 1),
            at(3, 3, 4),
            at(6, 7, 1),
            at(9, 10, 1),
            at(11, 11, 1)
        ]
    );
}

#[test]
fn advance_cuts_everything_below() {
    let mut group = Group::new(GroupKind::Shared, 0);
    deliver(&mut group, 1, 20, 5, 100);
    deliver(&mut group, 1, 20, 5, 100);
    nack(&mut group, 1, &[r(0, 2)], None);
    nack(&mut group, 1, &[r(5, 7)], Some(50));
    group.advance(6);
    assert_eq!((group.floor(), group.in_flight()), (6, 2));
    group.wake_delayed(50);
    assert_eq!(deliver(&mut group, 1, 20, 5, 100), Some(at(6, 7, 2)));
    group.advance(30);
    assert_eq!(
        (
            group.floor(),
            group.fresh(),
            group.in_flight(),
            group.pending(20)
        ),
        (30, 30, 0, 0)
    );
}

/// Nothing is next in an exclusive group while something earlier waits for another attempt.
#[test]
fn exclusive_groups_go_on_in_order() {
    let mut group = Group::new(GroupKind::Exclusive, 0);
    assert_eq!(deliver(&mut group, 1, 20, 6, 100), Some(at(0, 5, 1)));
    nack(&mut group, 1, &[r(2, 2)], Some(50));
    assert_eq!(group.next_run(20, 9), None);
    nack(&mut group, 1, &[r(0, 0), r(4, 4)], None);
    assert_eq!(deliver(&mut group, 1, 20, 9, 100), Some(at(0, 0, 2)));
    assert_eq!(group.next_run(20, 9), None);
    group.wake_delayed(50);
    assert_eq!(deliver(&mut group, 1, 20, 9, 100), Some(at(2, 2, 2)));
    assert_eq!(deliver(&mut group, 1, 20, 9, 100), Some(at(4, 4, 2)));
    let held = group.take_all(1);
    assert_eq!(
        held,
        [
            at(0, 0, 2),
            at(1, 1, 1),
            at(2, 2, 2),
            at(3, 3, 1),
            at(4, 4, 2),
            at(5, 5, 1)
        ]
    );
    // Only the third attempts wait; the earlier offset that is due comes, and no later one.
    group.put_back(held, |attempt| (attempt > 2).then_some(80));
    assert_eq!(group.next_run(20, 9), None);
    group.wake_delayed(80);
    let mut firsts = Vec::new();
    while let Some(run) = deliver(&mut group, 2, 8, 9, 200) {
        firsts.push(run.range.first);
    }
    assert_eq!(firsts, [0, 1, 2, 3, 4, 5, 6]);
}

/// Drives a group with arbitrary calls beside the plainest model: one word a message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Fresh,
    Leased(u64),
    Again,
    Delayed(u64),
    Acked,
}

/// One delivery of interleaved offsets is one lease, and each of its messages goes its own way.
#[test]
fn a_lease_is_any_set_of_offsets() {
    let mut group = Group::new(GroupKind::Shared, 0);
    group.claim(r(0, 999));
    let part = |consumer: u64| -> Vec<Attempted> {
        let offsets = (0..1000).filter(|offset| offset % 3 == consumer);
        offsets.map(|offset| at(offset, offset, 1)).collect()
    };
    (0..3).for_each(|consumer| group.give(consumer, &part(consumer), 100 + consumer));
    assert_eq!(group.in_flight(), 1000);
    let third: Vec<Range> = part(1).iter().map(|run| run.range).collect();
    assert!(group.holds(1, third[5]) && !group.holds(1, r(1, 2)));
    // A consumer that names everything acks what is its own.
    assert_eq!(group.ack(1, &[r(0, 5000)]), third);
    assert_eq!((group.floor(), group.in_flight()), (0, 667));
    assert_eq!(nack(&mut group, 2, &[r(500, 502)], None), [at(500, 500, 2)]);
    assert_eq!(group.attempt(500), Some(2));
    group.extend(2, &[r(0, 400)], 900);
    let expired = group.take_expired(102);
    assert_eq!(expired.len(), 334 + 199);
    assert!(expired.is_sorted_by_key(|(_, run)| run.range.first));
    let expired = expired.into_iter().map(|(_, run)| run).collect();
    group.put_back(expired, |_| Some(500));
    assert_eq!((group.in_flight(), group.next_timeout()), (133, Some(500)));
    group.wake_delayed(500);
    let mut again = 0;
    while let Some(run) = deliver(&mut group, 9, 1000, 256, 1000) {
        assert_eq!(run.attempt, 2);
        again += run.range.count();
    }
    assert_eq!((again, group.ack(9, &[r(0, 999)]).len()), (534, 334));
    assert_eq!(group.ack(2, &[r(0, 999)]).len(), 133);
    assert_eq!(
        (group.floor(), group.in_flight(), group.pending(1000)),
        (1000, 0, 0)
    );
}

/// Acks up to an offset look at nothing behind it, whatever their consumer holds there.
#[test]
fn acks_up_to_an_offset_in_order_of_single_deliveries() {
    let mut group = Group::new(GroupKind::Shared, 0);
    for consumer in (0..20_000).map(|n| n % 2) {
        deliver(&mut group, consumer, 20_000, 1, 100).unwrap();
    }
    for last in 0..20_000 {
        assert_eq!(group.ack(last % 2, &[r(0, last)]), [r(last, last)]);
    }
    assert_eq!((group.floor(), group.in_flight()), (20_000, 0));
}

proptest! {
    #[test]
    fn like_a_table_of_messages(ops in proptest::collection::vec((0u8..8, 1u64..4, 0u64..700, 0u64..8), 0..120), wide in 1u64..60) {
        const N: u64 = 700;
        let mut group = Group::new(GroupKind::Shared, 0);
        let mut model = vec![Place::Fresh; N as usize];
        let mut now = 0;
        for (op, consumer, first, extra) in ops {
            let range = r(first, (first + extra * wide).min(N - 1));
            let held = |model: &[Place]| (range.first..=range.last).filter(|o| model[*o as usize] == Place::Leased(consumer)).collect::<Vec<_>>();
            now += 1;
            match op {
                0..=2 => if let Some(run) = deliver(&mut group, consumer, N, extra * wide + 1, now + 20) {
                    for o in run.range.first..=run.range.last {
                        prop_assert!(matches!(model[o as usize], Place::Fresh | Place::Again), "{o}");
                        model[o as usize] = Place::Leased(consumer);
                    }
                } else {
                    prop_assert!(!model.iter().any(|p| matches!(p, Place::Fresh | Place::Again)));
                },
                3 => { for o in held(&model) { model[o as usize] = Place::Acked; } group.ack(consumer, &[range]); }
                4 => { for o in held(&model) { model[o as usize] = Place::Again; } nack(&mut group, consumer, &[range], None); }
                5 => { for o in held(&model) { model[o as usize] = Place::Delayed(now + 5); } nack(&mut group, consumer, &[range], Some(now + 5)); }
                6 => {
                    group.wake_delayed(now);
                    for p in &mut model { if matches!(p, Place::Delayed(due) if *due <= now) { *p = Place::Again; } }
                }
                _ => {
                    for p in &mut model { if *p == Place::Leased(consumer) { *p = Place::Again; } }
                    let taken = group.take_all(consumer);
                    group.put_back(taken, |_| None);
                }
            }
            let leased = model.iter().filter(|p| matches!(p, Place::Leased(_))).count() as u64;
            let acked = model.iter().filter(|p| **p == Place::Acked).count() as u64;
            let floor = model.iter().position(|p| *p != Place::Acked).unwrap_or(model.len()) as u64;
            prop_assert_eq!((group.in_flight(), group.pending(N), group.floor()), (leased, N - acked, floor));
        }
    }
}
