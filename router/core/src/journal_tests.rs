use super::*;
use crate::message_ids::IdHash;
use crate::receipts::OwedRun;
use proptest::prelude::*;

fn r(first: u64, last: u64) -> Range {
    Range { first, last }
}

#[test]
fn round_trips() {
    let attempts = vec![
        Attempted {
            range: r(3, 3),
            attempt: 2,
        },
        Attempted {
            range: r(9, 12),
            attempt: 7,
        },
    ];
    let options = GroupOptions {
        kind: GroupKind::Key,
        filters: vec![Filter::new("a/+").unwrap(), Filter::new("b/#").unwrap()],
    };
    let run = |first, last, offset| SequenceRun {
        first,
        last,
        offset,
    };
    let asked = vec![
        AskedRun {
            range: r(1, 1),
            sequence: 90,
        },
        AskedRun {
            range: r(3, 1 << 50),
            sequence: 3,
        },
    ];
    let receipts = ReceiptSnapshot {
        producer: [5; 16],
        lost: 4,
        asked: asked.clone(),
        owed: vec![OwedRun {
            number: 7,
            count: 2,
            sequence: 9,
            offset: 0,
            outcome: Outcome::Passed,
            is_last: true,
            group: "".into(),
        }],
    };
    let ids = AcceptedIds {
        time_ms: 1 << 40,
        ids: vec![(IdHash([7; 16]), 0), (IdHash([8; 16]), 9)],
    };
    let produced = vec![run(1, 1, 90), run(2, 9, 3), run(1 << 50, 1 << 51, 4)];
    for entry in [
        Entry::GroupAdded {
            id: 3,
            name: "billing".into(),
            start: 1 << 40,
            options: GroupOptions::default(),
        },
        Entry::GroupAdded {
            id: 4,
            name: "audit".into(),
            start: 0,
            options: options.clone(),
        },
        Entry::GroupMoved { id: 4, to: 9 },
        Entry::Timed,
        Entry::Removed {
            ranges: vec![r(2, 2), r(4, 8)],
        },
        Entry::GroupRemoved { id: 3 },
        Entry::Acked {
            id: 1,
            ranges: vec![r(0, 0), r(5, 900)],
        },
        Entry::Attempts {
            id: 1,
            attempts: attempts.clone(),
        },
        Entry::Truncated { below: 77 },
        Entry::Produced {
            producer: [5; 16],
            epoch: 3,
            runs: produced.clone(),
        },
        Entry::Identified(ids.clone()),
        Entry::Asked {
            producer: [5; 16],
            runs: asked.clone(),
        },
        Entry::Settled {
            group: "g".into(),
            outcome: Outcome::Expired,
            is_last: true,
            ranges: vec![r(2, 2), r(4, 8)],
        },
        Entry::Told {
            producer: [5; 16],
            below: 1 << 40,
        },
        Entry::Forgotten { producer: [5; 16] },
    ] {
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes), Ok(entry));
        assert!(Entry::decode(&bytes[..bytes.len() - 1]).is_err());
    }
    let mut acked = RangeSet::new();
    acked.insert(r(7, 9));
    let group = GroupSnapshot {
        id: 1,
        name: "g".into(),
        options,
        floor: 5,
        acked: acked.clone(),
        attempts,
    };
    let snapshot = Snapshot {
        first: 5,
        next: 90,
        next_group: 2,
        gone: acked,
        is_timed: true,
        newest_ms: 1 << 40,
        groups: vec![group],
        producers: vec![ProducerSnapshot {
            id: [5; 16],
            epoch: 3,
            floor: 0,
            runs: produced,
        }],
        ids: vec![ids],
        next_receipt: 9,
        receipts: vec![receipts],
    };
    assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
}

/// A snapshot as the first version wrote it.
#[test]
fn the_first_version_is_read() {
    let bytes = b"\x01\x05\x1e\x02\x01\x01\x01g\x05\x01\x07\x02\x01\x03\x00\x02";
    let snapshot = Snapshot::decode(bytes).unwrap();
    assert_eq!(
        (snapshot.first, snapshot.next, snapshot.next_group),
        (5, 30, 2)
    );
    let group = &snapshot.groups[0];
    assert_eq!((group.name.as_str(), group.floor), ("g", 5));
    assert_eq!(group.acked.iter().collect::<Vec<_>>(), [r(7, 9)]);
    assert_eq!(group.attempts[0].range, r(3, 3));
    assert_eq!(group.options, GroupOptions::default());
    assert!(snapshot.is_timed, "nobody had looked");
    let mut newer = snapshot.encode();
    newer.extend([60, 1, 0]);
    assert!(Snapshot::decode(&newer).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = Entry::decode(&bytes);
        let _ = Snapshot::decode(&bytes);
    }
}
