//! The bytes: golden ones, round trips, and any bytes at all.

use proptest::prelude::*;
use waypost_log::Position;
use waypost_log::format::entry::{EntryHeader, EntryKind, entries};
use waypost_log::format::group::GroupHeader;
use waypost_log::format::meta::QueueMeta;
use waypost_log::format::slab::{check, salvage};
use waypost_log::format::snapshot::{SegmentInfo, SnapshotHead};
use waypost_log::{Incarnation, Log, scan};

use crate::harness::{NOW_MS, body, dir, messages, new_disk, queue, slab, small_options};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A group as docs/log-format.md prints it. If this fails, the format has changed: then the data
/// directory's version must change too.
#[test]
fn a_group_has_these_bytes() {
    let vfs = new_disk();
    let (mut log, _) = Log::open(vfs.clone(), &dir(), small_options(), NOW_MS).unwrap();
    log.create_queue(queue(0), "q", b"").unwrap();
    log.append_messages(queue(0), messages(7, 1), &[slab(&[body(1, 3)])])
        .unwrap();
    log.append_state(queue(0), b"acked").unwrap();
    let at = log.commit(NOW_MS).unwrap().position;
    assert_eq!(at, Position(0x5000));
    let file = vfs
        .contents(&dir().join("wal/0000000000000001.wal"))
        .unwrap();
    let golden = include_str!("group.hex");
    let found: String = hex(&file[0x1000..0x1000 + 175])
        .as_bytes()
        .chunks(32)
        .map(|line| format!("{}\n", String::from_utf8_lossy(line)))
        .collect();
    assert_eq!(found, golden);
}

fn entry_headers() -> impl Strategy<Value = EntryHeader> {
    let kinds = prop_oneof![
        Just(EntryKind::Messages),
        Just(EntryKind::State),
        Just(EntryKind::Snapshot),
        Just(EntryKind::Removed),
        Just(EntryKind::Opened),
        Just(EntryKind::Trimmed),
    ];
    let numbers = any::<(u32, u32, u64, u64, u64, u32, u32)>();
    (kinds, numbers).prop_map(|(kind, n)| EntryHeader {
        kind,
        length: n.0,
        payload_crc: n.1,
        incarnation: n.2,
        first_offset: n.3,
        time_ms: n.4,
        epoch: n.5,
        count: n.6,
    })
}

proptest! {
    #[test]
    fn an_entry_header_survives_and_a_flipped_bit_does_not(
        header in entry_headers(),
        bit in 0usize..48 * 8,
    ) {
        let mut bytes = header.encode();
        prop_assert_eq!(EntryHeader::decode(&bytes), Some(header));
        prop_assert_eq!(EntryHeader::decode(&bytes[..47]), None);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(EntryHeader::decode(&bytes), None);
    }

    #[test]
    fn a_snapshot_survives(
        gaps in prop::collection::vec((0u64..9, 1u64..99), 0..20),
        own in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let mut at = 0;
        let segments = gaps
            .into_iter()
            .map(|(gap, records)| {
                let first_offset = at + gap;
                at = first_offset + records;
                SegmentInfo { first_offset, end_offset: at, bytes: records * 10, records }
            })
            .collect();
        let head = SnapshotHead { next_offset: at, trimmed: 1, epoch: 2, segments };
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), head.encoded_bytes());
        bytes.extend_from_slice(&own);
        prop_assert_eq!(SnapshotHead::decode(&bytes), Some((head, &own[..])));
    }

    #[test]
    fn a_queue_description_survives_and_a_flipped_bit_does_not(
        name in ".{0,40}",
        settings in prop::collection::vec(any::<u8>(), 0..50),
        bit in any::<usize>(),
    ) {
        let meta = QueueMeta {
            incarnation: Incarnation::new(5).unwrap(),
            name,
            settings: settings.into(),
        };
        let mut bytes = meta.encode();
        prop_assert_eq!(QueueMeta::decode(&bytes), Some(meta));
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(QueueMeta::decode(&bytes), None);
    }

    #[test]
    fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        let groups = scan::groups(&bytes, Position(16384));
        prop_assert!(groups.is_empty());
        let _ = entries(&bytes, 0, bytes.len()).count();
        let _ = GroupHeader::peek(&bytes);
        let _ = SnapshotHead::decode(&bytes);
        let _ = check(&bytes, 3);
    }

    #[test]
    fn salvage_serves_only_what_was_there(
        sizes in prop::collection::vec(0usize..40, 1..8),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let bodies: Vec<_> = (0u64..).zip(&sizes).map(|(n, len)| body(n, *len)).collect();
        let mut bytes = slab(&bodies);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] ^= value;
        }
        let mut next = 0;
        for piece in salvage(&bytes, bodies.len() as u32) {
            prop_assert_eq!(piece.records.start, next);
            next = piece.records.end;
            if piece.intact {
                let part = &bytes[piece.bytes.clone()];
                let found: Vec<_> =
                    waypost_log::format::slab::bodies(part).collect();
                let range = piece.records.start as usize..piece.records.end as usize;
                // The version byte is not under the checksum.
                let tails: Vec<_> = bodies[range].iter().map(|b| &b[1..]).collect();
                let found_tails: Vec<_> = found.iter().map(|b| &b[1..]).collect();
                prop_assert_eq!(found_tails, tails);
            }
        }
        prop_assert_eq!(next, bodies.len() as u32);
    }
}
