//! docs/protocol.md against the codec: every `hex` block, the frame types and the error codes.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use waypost_client::wire::control::{
    self, ExplainStep, Explained, ExplainedMessage, Hello, Manage, ManageRequest, QueueList, Tap,
    Welcome,
};
use waypost_client::wire::data::{
    self, Confirm, ConsumerAcks, ConsumerFrame, Deliver, Live, Publish, Range, Transact,
};
use waypost_client::wire::slab::SlabBuilder;
use waypost_client::wire::{Code, FrameType};
use waypost_client::{Exception, ExceptionKind, Level, Message, Slab};

const DOCUMENT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/protocol.md"
));

#[test]
fn hex_blocks_are_what_the_codec_writes() {
    let written = blocks();
    let made = vectors();
    let names = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&written), names(&made));
    for (name, hex) in &made {
        assert_eq!(&written[name], hex, "block '{name}'");
    }
}

#[test]
fn frame_types_are_all_listed() {
    let (_, table) = DOCUMENT.split_once("## 2. Frames").unwrap();
    let (table, _) = table.split_once("## 3. Handshake").unwrap();
    for number in 0..0x40 {
        let row = format!("| {number:#04x} | ");
        match FrameType::from_number(number) {
            Some(kind) => assert!(
                table.contains(&format!("{row}{kind} |")),
                "{row}{kind} | is missing"
            ),
            None => assert!(!table.contains(&row), "{row} is no frame"),
        }
    }
}

#[test]
fn error_codes_are_all_listed() {
    for code in Code::ALL {
        let retry = if code.is_retryable() { "yes" } else { "no" };
        let row = format!("| {} | {code} | {retry} |", *code as u16);
        assert!(DOCUMENT.contains(&row), "{row} is missing");
    }
}

/// The blocks of the document by name, as plain hex.
fn blocks() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for part in DOCUMENT.split("```hex ").skip(1) {
        let (name, rest) = part.split_once('\n').unwrap();
        let (block, _) = rest.split_once("```").unwrap();
        let hex = block
            .lines()
            .map(|line| line.split('#').next().unwrap_or(""))
            .flat_map(str::split_whitespace)
            .collect();
        assert_eq!(found.insert(name.to_owned(), hex), None, "twice: {name}");
    }
    found
}

fn vectors() -> BTreeMap<String, String> {
    let message = Message::new("a/b", "hello");
    let mut builder = SlabBuilder::new();
    builder.push_message(&message);
    let slab = builder.finish();
    let mut all = vec![
        ("record", message.to_body()),
        ("slab", slab.bytes().clone()),
    ];
    all.extend(control_vectors());
    all.extend(batch_vectors(&slab));
    all.extend(word_vectors());
    let hex = |bytes: Bytes| bytes.iter().map(|b| format!("{b:02x}")).collect();
    all.into_iter()
        .map(|(name, bytes)| (name.to_owned(), hex(bytes)))
        .collect()
}

fn control_vectors() -> Vec<(&'static str, Bytes)> {
    let hello = Hello {
        versions: vec![1],
        client: "x".into(),
        token: "t".into(),
        frame_bytes_max: 0,
    };
    let welcome = Welcome {
        version: 1,
        node: "n".into(),
        payload_bytes_max: 1 << 20,
        ..Welcome::default()
    };
    let manage = Manage {
        request: Some(ManageRequest::QueueList(QueueList {})),
    };
    let error = control::Error::new(Code::NotFound, "q");
    let explained = Explained {
        steps: vec![ExplainStep {
            route: "r".into(),
            verdict: "to".into(),
            detail: "queue:q".into(),
            is_stored: true,
            queue: "q".into(),
            offset: 7,
            ..ExplainStep::default()
        }],
        messages: vec![ExplainedMessage {
            topic: "a".into(),
            is_new: true,
            ..ExplainedMessage::default()
        }],
        sequence: 1,
        outcome: "stored".into(),
        ..Explained::default()
    };
    let tap = Manage {
        request: Some(ManageRequest::Tap(Tap {
            plugin: "p".into(),
            sample_ppm: 100_000,
            ..Tap::default()
        })),
    };
    vec![
        (
            "explained",
            control::bytes_of(FrameType::Explained, &explained),
        ),
        ("tap", control::bytes_of(FrameType::Manage, &tap)),
        ("hello", control::bytes_of(FrameType::Hello, &hello)),
        ("welcome", control::bytes_of(FrameType::Welcome, &welcome)),
        ("manage", control::bytes_of(FrameType::Manage, &manage)),
        ("error", control::bytes_of(FrameType::Error, &error)),
    ]
}

fn batch_vectors(slab: &Slab) -> Vec<(&'static str, Bytes)> {
    let mut publish = BytesMut::new();
    Publish::put(&mut publish, 1, slab);
    let deliver = |detail| {
        let deliver = Deliver {
            first_offset: 7,
            receive_time_ms: 300,
            detail,
            slab: slab.clone(),
        };
        let mut out = BytesMut::new();
        deliver.put_head(&mut out);
        out.extend_from_slice(slab.bytes());
        out.freeze()
    };
    let mut live = BytesMut::new();
    Live::put_head(&mut live, 300, slab);
    live.extend_from_slice(slab.bytes());
    let mut lost = BytesMut::new();
    data::put_lost(&mut lost, 9);
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
    let mut confirmed = BytesMut::new();
    confirm.put(&mut confirmed);
    let mut receipt = BytesMut::new();
    data::Receipts {
        number: 3,
        waiting: 4,
        lost: 0,
        receipts: vec![data::Receipt {
            sequence: 5,
            count: 2,
            offset: 7,
            outcome: data::Outcome::DeadLettered,
            queue: "q".into(),
            group: "g".into(),
            node: String::new(),
            is_last: true,
        }],
    }
    .put(&mut receipt);
    let mut receipt_ack = BytesMut::new();
    data::put_receipt_ack(&mut receipt_ack, 3);
    let mut number_from = BytesMut::new();
    data::put_number_from(&mut number_from, 300);
    let mut transact = BytesMut::new();
    Transact {
        first_sequence: 1,
        acks: vec![ConsumerAcks {
            consumer: 7,
            ranges: vec![Range { first: 3, last: 5 }, Range::one(9)],
        }],
        slab: slab.clone(),
    }
    .put(&mut transact);
    vec![
        ("publish", publish.freeze()),
        ("receipt", receipt.freeze()),
        ("receipt-ack", receipt_ack.freeze()),
        ("number-from", number_from.freeze()),
        ("transact", transact.freeze()),
        ("confirm", confirmed.freeze()),
        ("deliver", deliver(vec![])),
        ("deliver-detail", deliver(vec![(9, 2)])),
        ("live", live.freeze()),
        ("lost", lost.freeze()),
    ]
}

fn word_vectors() -> Vec<(&'static str, Bytes)> {
    let one = |offset| vec![Range::one(offset)];
    let words = [
        (
            "credit",
            ConsumerFrame::Credit {
                messages: 256,
                bytes: 1 << 20,
            },
        ),
        (
            "ack",
            ConsumerFrame::Ack(vec![Range { first: 3, last: 5 }, Range::one(9)]),
        ),
        (
            "nack",
            ConsumerFrame::Nack {
                delay_ms: 50,
                ranges: one(0),
            },
        ),
        (
            "reject",
            ConsumerFrame::Reject {
                reason: "x".into(),
                ranges: one(4),
            },
        ),
        (
            "extend",
            ConsumerFrame::Extend {
                ms: 60,
                ranges: one(4),
            },
        ),
    ];
    let bytes = |word: ConsumerFrame| {
        let mut out = BytesMut::new();
        word.put(&mut out);
        out.freeze()
    };
    words.map(|(name, word)| (name, bytes(word))).into()
}
