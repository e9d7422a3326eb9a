//! Frames that are malformed, truncated, too large, unknown or out of order. Each ends its own
//! stream with the code and the place, and nothing else.

use bytes::Bytes;
use waypost_client::{Code, ExceptionKind, Level, Message};
use waypost_wire::FrameType;
use waypost_wire::data::ConsumerFrame;
use waypost_wire::slab::SlabBuilder;

use crate::harness::{self, Setup, TestNode, messages, publish, publish_all};
use crate::raw::{
    self, Raw, RawStream, any_frame, consumer_frame, frame, open_consumer, open_publisher,
    publish_slab, slab,
};

const QUEUE: &str = r##"
[limits]
payload_bytes = "64KiB"
[[queue]]
name = "q"
from = ["#"]
"##;

async fn start() -> (TestNode, Raw) {
    let node = Setup::new(QUEUE).start().await;
    let raw = Raw::connect(&node).await;
    (node, raw)
}

/// The node is as it was: a client publishes and finds only what was accepted.
async fn still_works(node: TestNode) {
    let client = node.client().await;
    publish_all(&client, &messages("fine", 3)).await;
    assert_eq!(node.running.alarms(), Vec::<String>::new());
    node.stop().await;
}

#[test]
fn a_publishers_stream_ends_with_the_place_of_the_mistake() {
    harness::run(async {
        let (node, raw) = start().await;
        // What follows OPEN_PUBLISHER; its own length moves the offsets.
        let at = open_publisher(0).len();
        let case = async |bytes: Bytes, finish: bool| {
            let mut stream = raw.publisher(0).await;
            stream.send(&bytes).await;
            if finish {
                stream.send.finish().unwrap();
            }
            stream.error().await
        };
        let one = slab(&messages("a", 1));
        let head = |bytes: &[u8]| Bytes::copy_from_slice(bytes);

        let said = case(any_frame(0x77, b"abc"), false).await;
        let text = format!("unknown frame type 0x77 at stream offset {at}");
        assert_eq!(said, (Code::Protocol, text));

        let said = case(frame(FrameType::Deliver, b""), false).await;
        let text = format!("frame DELIVER at stream offset {at}, expected PUBLISH or TRANSACT");
        assert_eq!(said, (Code::Protocol, text));

        let publish = publish_slab(1, &one);
        let said = case(publish.slice(..publish.len() - 2), true).await;
        let text = format!(
            "stream ended at offset {} inside a frame (2 more bytes expected)",
            at + publish.len() - 2
        );
        assert_eq!(said, (Code::Protocol, text));

        // PUBLISH of 1 GiB: refused by its head, before a byte of it is kept.
        let said = case(head(&[0x10, 0xc0, 0, 0, 0, 0x40, 0, 0, 0]), false).await;
        assert_eq!(said.0, Code::TooLarge);
        let text = format!("frame type 0x10 at stream offset {at} has 1073741824 bytes, limit ");
        assert!(said.1.starts_with(&text), "{}", said.1);

        for payload in [&b""[..], &[1], &[1, 2], &[1, 0]] {
            let said = case(frame(FrameType::Publish, payload), false).await;
            assert_eq!(said.0, Code::Protocol, "{payload:?}: {}", said.1);
        }
        // One record, and a head that says two.
        let lying = [&[1, 2][..], one.bytes()].concat();
        let said = case(frame(FrameType::Publish, &lying), false).await;
        assert_eq!(said.0, Code::Protocol);
        let text = format!("PUBLISH frame at stream offset {at}");
        assert!(said.1.starts_with(&text), "{}", said.1);

        // A frame of an extension is no mistake.
        let mut stream = raw.publisher(0).await;
        stream.send(&any_frame(0x3f, b"future")).await;
        stream.send(&publish_slab(1, &one)).await;
        assert_eq!(stream.confirm().await.up_to, 1);
        stream.close().await;
        still_works(node).await;
    });
}

#[test]
fn sequences_windows_and_batches_have_bounds() {
    harness::run(async {
        let (node, raw) = start().await;
        let at = open_publisher(4).len();
        let case = async |bytes: Bytes| {
            let mut stream = raw.publisher(4).await;
            stream.send(&bytes).await;
            stream.error().await
        };
        let few = |count| slab(&messages("a", count));
        let place = format!(", in the frame at stream offset {at}");

        let said = case(publish_slab(3, &few(1))).await;
        let text = format!("batch begins at sequence 3, expected 1{place}");
        assert_eq!(said, (Code::OutOfOrder, text));
        let said = case(publish_slab(0, &few(1))).await;
        assert_eq!(said.0, Code::OutOfOrder);
        let said = case(publish_slab(1, &few(5))).await;
        let text = format!("sequence 5 is beyond the window, which ends at 4{place}");
        assert_eq!(said, (Code::OverWindow, text));
        let said = case(publish_slab(1, &few(257))).await;
        assert_eq!(said.0, Code::TooLarge);
        assert!(said.1.starts_with("batch of 257 messages"), "{}", said.1);

        // A repeated batch is out of order; what came before it counts.
        let mut stream = raw.publisher(4).await;
        stream.send(&publish_slab(1, &few(2))).await;
        assert_eq!(stream.confirm().await.up_to, 2);
        stream.send(&publish_slab(1, &few(2))).await;
        let (code, said) = stream.error().await;
        assert_eq!(code, Code::OutOfOrder);
        assert!(
            said.starts_with("batch begins at sequence 1, expected 3"),
            "{said}"
        );

        // Two records of more than a batch may have.
        let mut large = SlabBuilder::new();
        for _ in 0..20 {
            large.push_message(&Message::new("a", vec![0; 60 << 10]));
        }
        let mut stream = raw.publisher(0).await;
        stream.send(&publish_slab(1, &large.finish())).await;
        let (code, said) = stream.error().await;
        assert_eq!(code, Code::TooLarge);
        assert!(said.starts_with("batch of 20 messages and "), "{said}");
        still_works(node).await;
    });
}

#[test]
fn a_record_that_is_not_what_it_says_is_named() {
    harness::run(async {
        let (node, raw) = start().await;
        let at = open_publisher(0).len();
        let place = format!("of the batch at stream offset {at}: ");
        let case = async |second: &[u8]| {
            let mut slab = SlabBuilder::new();
            slab.push_message(&Message::new("a", "fine"));
            slab.push(second);
            let mut stream = raw.publisher(0).await;
            stream.send(&publish_slab(1, &slab.finish())).await;
            let (code, said) = stream.error().await;
            assert!(said.starts_with(&format!("record 1 {place}")), "{said}");
            code
        };
        let good = Message::new("topic/of/it", "payload").to_body();
        let mut flipped = good.to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(case(&flipped).await, Code::BadRecord);
        assert_eq!(case(&good[..4]).await, Code::BadRecord);
        assert_eq!(case(b"").await, Code::BadRecord);
        let mut version = good.to_vec();
        version[0] = 9;
        assert_eq!(case(&version).await, Code::BadRecord);
        for topic in ["a/+/b", "a/#", "", "a\u{1}b"] {
            let code = case(&Message::new(topic, "").to_body()).await;
            assert_eq!(code, Code::BadTopic, "{topic:?}");
        }
        assert_eq!(
            case(&Message::new("x".repeat(1025), "").to_body()).await,
            Code::BadTopic
        );
        // Field 15, critical, empty, after the topic: `1f 00`.
        let mut unknown = Message::new("a", "").to_body().to_vec();
        unknown.extend_from_slice(&[0x1f, 0x00]);
        let crc = crc32c(&unknown[5..]);
        unknown[1..5].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(case(&unknown).await, Code::UnknownField);
        still_works(node).await;
    });
}

/// CRC32C, bit by bit: the document's definition, not the implementation's table.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn a_message_that_may_not_be_published_is_refused_alone() {
    harness::run(async {
        let (node, raw) = start().await;
        let batch = [
            Message::new("fine", "1"),
            Message::new("fine", vec![0; (64 << 10) + 1]),
            Message::new("$sys/mine", "3"),
            Message::new("fine", "4"),
        ];
        let mut stream = raw.publisher(0).await;
        stream.send(&raw::publish(1, &batch)).await;
        let confirm = stream.confirm().await;
        assert_eq!((confirm.up_to, confirm.level), (4, Level::Stored));
        let said: Vec<(u64, ExceptionKind, Code)> = confirm
            .exceptions
            .iter()
            .map(|e| (e.sequence, e.kind, e.code))
            .collect();
        assert_eq!(
            said,
            [
                (2, ExceptionKind::Refused, Code::TooLarge),
                (3, ExceptionKind::Refused, Code::BadTopic),
            ]
        );
        assert_eq!(
            confirm.exceptions[1].text,
            "may not publish to \"$sys/mine\": topics that begin with '$' are the router's own"
        );
        assert!(
            confirm.exceptions[0].text.contains("65537"),
            "{}",
            confirm.exceptions[0].text
        );
        stream.close().await;
        let client = node.client().await;
        let kept = harness::peek_all(&client, "q").await;
        let texts: Vec<String> = kept.iter().map(|(_, m)| harness::text(m)).collect();
        assert_eq!(texts, ["1", "4"]);
        // The client says so before it sends.
        let publisher = client.publisher(Default::default()).await.unwrap();
        let large = Message::new("fine", vec![0; (64 << 10) + 1]);
        let error = publisher.send(&large).await.unwrap_err();
        assert!(error.has_no_side_effects(), "{error}");
        drop(publisher);
        client.close().await;
        still_works(node).await;
    });
}

#[test]
fn a_consumers_stream_ends_with_the_place_of_the_mistake() {
    harness::run(async {
        let (node, raw) = start().await;
        let at = open_consumer("q", "g").len();
        let case = async |bytes: Bytes| {
            let mut stream = raw.consumer("q", "g").await;
            stream.send(&bytes).await;
            stream.error().await
        };
        let (code, said) = case(raw::publish(1, &messages("a", 1))).await;
        assert_eq!(code, Code::Protocol);
        let text = format!("frame PUBLISH at stream offset {at}, expected ");
        assert!(said.starts_with(&text), "{said}");
        for payload in [&b""[..], &[9][..], &[1, 0xff][..], &[1, 0, 0, 0][..]] {
            let (code, said) = case(frame(FrameType::Ack, payload)).await;
            assert_eq!(code, Code::Protocol, "{payload:?}");
            let text = format!("ACK frame at stream offset {at}");
            assert!(said.starts_with(&text), "{said}");
        }
        let (code, _) = case(any_frame(0x00, b"")).await;
        assert_eq!(code, Code::Protocol);
        assert_eq!(
            harness::group(&node.client().await, "q", "g")
                .await
                .consumers,
            0
        );
        still_works(node).await;
    });
}

#[test]
fn words_for_what_is_not_held_are_ignored() {
    harness::run(async {
        let (node, raw) = start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a", 4)).await;
        let mut one = raw.consumer("q", "g").await;
        one.credit(2, 1 << 20).await;
        let first = one.deliveries(2).await[0].position(0).0;
        let range = |from: u64, to: u64| waypost_wire::data::Range {
            first: first + from,
            last: first + to,
        };
        let mut other = raw.consumer("q", "g").await;
        // Nothing of this is its own, and some of it does not exist.
        for frame in [
            ConsumerFrame::Ack(vec![range(0, 3), range(1000, 1 << 60)]),
            ConsumerFrame::Nack {
                delay_ms: 0,
                ranges: vec![range(0, 3)],
            },
            ConsumerFrame::Reject {
                reason: "x".to_owned(),
                ranges: vec![range(0, 1)],
            },
            ConsumerFrame::Extend {
                ms: u64::MAX >> 2,
                ranges: vec![range(0, 1 << 60)],
            },
        ] {
            other.send(&consumer_frame(&frame)).await;
        }
        other.credit(2, 1 << 20).await;
        let got = other.deliveries(2).await;
        assert_eq!(got[0].position(0).0, first + 2);
        let group = harness::group(&client, "q", "g").await;
        assert_eq!((group.pending, group.in_flight), (4, 4));
        // Twice the same ack is one ack.
        for _ in 0..2 {
            let ack = ConsumerFrame::Ack(vec![range(2, 3)]);
            other.send(&consumer_frame(&ack)).await;
        }
        other.close().await;
        assert_eq!(harness::group(&client, "q", "g").await.pending, 2);
        assert_eq!(harness::queue(&client, "dead-letter").await.messages, 0);
        one.close().await;
        still_works(node).await;
    });
}

#[test]
fn a_stream_must_begin_with_what_it_is() {
    harness::run(async {
        let (node, raw) = start().await;
        let (code, said) = raw
            .stream(&raw::publish(1, &messages("a", 1)))
            .await
            .error()
            .await;
        assert_eq!(
            (code, said.as_str()),
            (
                Code::Protocol,
                "frame PUBLISH at stream offset 0, expected OPEN_PUBLISHER, OPEN_CONSUMER, \
                 OPEN_SUBSCRIBER or MANAGE"
            )
        );
        let (code, said) = raw
            .stream(&frame(FrameType::Manage, b""))
            .await
            .error()
            .await;
        assert_eq!(
            (code, said.as_str()),
            (
                Code::Unsupported,
                "MANAGE names no request that this version knows"
            )
        );
        let (code, _) = raw
            .stream(&frame(FrameType::OpenConsumer, &[0xff]))
            .await
            .error()
            .await;
        assert_eq!(code, Code::Protocol);
        // A stream that is finished or reset at once leaves nothing behind.
        for _ in 0..100 {
            let mut stream = RawStream::open(&raw.quic).await;
            stream.send(&[0x04]).await;
            let _ = stream.send.reset(quinn::VarInt::from_u32(0));
        }
        raw.publisher(0).await.close().await;
        still_works(node).await;
    });
}

#[test]
fn a_large_message_passes_a_window_smaller_than_itself() {
    harness::run(async {
        let setup = Setup::new(QUEUE).change(|config| {
            config.limits.payload_bytes = 3 << 19;
            config.limits.window_bytes = 1 << 20;
        });
        let node = setup.start().await;
        let client = node.client().await;
        let large = Message::new("a", vec![7; 3 << 19]);
        for confirmed in publish(&client, &[large.clone(), large]).await {
            assert_eq!(
                (confirmed.exception, confirmed.level),
                (None, Level::Stored)
            );
        }
        let taken = harness::drain(&client, "q", "g", 2).await;
        assert!(taken.iter().all(|t| t.message.payload.len() == 3 << 19));
        node.stop().await;
    });
}
