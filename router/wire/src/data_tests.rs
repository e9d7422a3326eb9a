use super::*;
use crate::record::Message;
use crate::slab::SlabBuilder;
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn slab_of_one() -> Slab {
    let mut builder = SlabBuilder::new();
    builder.push_message(&Message::new("a/b", Bytes::from_static(b"hello")));
    builder.finish()
}

const SLAB: &str = "1101192c25f40303612f623c0568656c6c6f";

/// Golden bytes: they stand in docs/protocol.md too.
#[test]
fn golden_receipts() {
    let receipts = Receipts {
        number: 3,
        waiting: 4,
        lost: 0,
        receipts: vec![Receipt {
            sequence: 5,
            count: 2,
            offset: 7,
            outcome: Outcome::DeadLettered,
            queue: "q".into(),
            group: "g".into(),
            node: String::new(),
            is_last: true,
        }],
    };
    let mut out = BytesMut::new();
    receipts.put(&mut out);
    assert_eq!(hex(&out), "1b0e0304000105020701010171016700");
    assert_eq!(Receipts::parse(&frame_of(&out).unwrap()).unwrap(), receipts);
    for length in 2..out.len() {
        let cut = bytes_of(FrameType::Receipt, &out[2..length]);
        assert!(Receipts::parse(&frame_of(&cut).unwrap()).is_err());
    }
    let mut unknown = out.clone();
    unknown[9] = 6;
    assert!(Receipts::parse(&frame_of(&unknown).unwrap()).is_err());
    let mut out = BytesMut::new();
    put_receipt_ack(&mut out, 3);
    assert_eq!(hex(&out), "1e0103");
    assert_eq!(parse_receipt_ack(&frame_of(&out).unwrap()), Ok(3));
    let mut out = BytesMut::new();
    put_number_from(&mut out, 300);
    assert_eq!(hex(&out), "1f02412c");
    assert_eq!(parse_number_from(&frame_of(&out).unwrap()), Ok(300));
    for wrong in [&b""[..], b"\x01\x01"] {
        let frame = bytes_of(FrameType::NumberFrom, wrong);
        assert!(parse_number_from(&frame_of(&frame).unwrap()).is_err());
    }
}

/// Golden bytes: they stand in docs/protocol.md too.
#[test]
fn golden_batches() {
    let mut out = BytesMut::new();
    Publish::put(&mut out, 1, &slab_of_one());
    assert_eq!(hex(&out), format!("10140101{SLAB}"));
    let publish = Publish::parse(&frame_of(&out).unwrap()).unwrap();
    assert_eq!(
        publish,
        Publish {
            first_sequence: 1,
            slab: slab_of_one()
        }
    );

    let mut out = BytesMut::new();
    let mut deliver = Deliver {
        first_offset: 7,
        receive_time_ms: 300,
        detail: vec![],
        slab: slab_of_one(),
    };
    deliver.put_head(&mut out);
    out.extend_from_slice(deliver.slab.bytes());
    assert_eq!(hex(&out), format!("1217000107412c{SLAB}"));
    assert_eq!(Deliver::parse(&frame_of(&out).unwrap()).unwrap(), deliver);

    let mut out = BytesMut::new();
    deliver.detail = vec![(9, 2)];
    deliver.put_head(&mut out);
    out.extend_from_slice(deliver.slab.bytes());
    assert_eq!(hex(&out), format!("1219010107412c0202{SLAB}"));
    let parsed = Deliver::parse(&frame_of(&out).unwrap()).unwrap();
    assert_eq!(parsed.position(0), (9, 2));

    let mut out = BytesMut::new();
    let transact = Transact {
        first_sequence: 1,
        acks: vec![ConsumerAcks {
            consumer: 7,
            ranges: vec![Range { first: 3, last: 5 }, Range::one(9)],
        }],
        slab: slab_of_one(),
    };
    transact.put(&mut out);
    assert_eq!(hex(&out), format!("1a1b010107020302030001{SLAB}"));
    let parsed = Transact::parse(&frame_of(&out).unwrap()).unwrap();
    assert_eq!(parsed, transact);
    for cut in 1..9 {
        let short = bytes_of(FrameType::Transact, &out[2..2 + cut]);
        assert!(
            Transact::parse(&frame_of(&short).unwrap()).is_err(),
            "{cut}"
        );
    }

    let mut out = BytesMut::new();
    Live::put_head(&mut out, 300, &slab_of_one());
    out.extend_from_slice(slab_of_one().bytes());
    assert_eq!(hex(&out), format!("1815412c01{SLAB}"));
}

#[test]
fn golden_confirms_and_acks() {
    let confirm = Confirm {
        up_to: 3,
        level: Level::Stored,
        window_sequence: 259,
        window_bytes: 100,
        exceptions: vec![Exception {
            sequence: 2,
            kind: ExceptionKind::Dropped,
            code: Code::Closed,
            text: "f".into(),
        }],
    };
    let mut out = BytesMut::new();
    confirm.put(&mut out);
    assert_eq!(hex(&out), "110c03014103406401020000".to_owned() + "0166");
    assert_eq!(Confirm::parse(&frame_of(&out).unwrap()).unwrap(), confirm);

    for (frame, want) in [
        (
            ConsumerFrame::Credit {
                messages: 256,
                bytes: 1 << 20,
            },
            "1306410080100000",
        ),
        (
            ConsumerFrame::Ack(vec![Range { first: 3, last: 5 }, Range::one(9)]),
            "1405020302 0300",
        ),
        (ConsumerFrame::AckUpTo(66), "1c024042"),
        (
            ConsumerFrame::Nack {
                delay_ms: 50,
                ranges: vec![Range::one(0)],
            },
            "150432010000",
        ),
        (
            ConsumerFrame::Reject {
                reason: "x".into(),
                ranges: vec![Range::one(4)],
            },
            "16050178010400",
        ),
        (
            ConsumerFrame::Extend {
                ms: 60,
                ranges: vec![Range::one(4)],
            },
            "17043c010400",
        ),
    ] {
        let mut out = BytesMut::new();
        frame.put(&mut out);
        assert_eq!(hex(&out), want.replace(' ', ""));
        assert_eq!(
            ConsumerFrame::parse(&frame_of(&out).unwrap()).unwrap(),
            frame
        );
    }
}

#[test]
fn precise_errors() {
    let parse = |payload: &[u8]| {
        Publish::parse(&frame_of(&bytes_of(FrameType::Publish, payload)).unwrap())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        parse(&[1]),
        "PUBLISH frame at stream offset 0: cut off before its slab"
    );
    assert_eq!(
        parse(&[1, 2, 0]),
        "PUBLISH frame at stream offset 0: says 2 records and holds 1"
    );
    assert_eq!(
        parse(&[1, 1, 9, 0]),
        "PUBLISH frame at stream offset 0: record 0 at byte 0 of the batch is cut off"
    );
    let ack = frame_of(&bytes_of(FrameType::Ack, &[1, 0, 0, 0])).unwrap();
    assert_eq!(
        ConsumerFrame::parse(&ack).unwrap_err().to_string(),
        "ACK frame at stream offset 0: 1 bytes after its end"
    );
}

proptest! {
    #[test]
    fn arbitrary_payloads_never_panic(
        kind in 0x10u64..0x1a,
        payload in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let kind = FrameType::from_number(kind).unwrap();
        let frame = Frame { kind, offset: 0, payload: payload.into() };
        let _ = Publish::parse(&frame);
        let _ = Confirm::parse(&frame);
        let _ = Deliver::parse(&frame);
        let _ = Live::parse(&frame);
        let _ = ConsumerFrame::parse(&frame);
        let _ = parse_lost(&frame);
    }
}
