//! Once and together: what a producer sends again is stored once, transactions are taken whole, and
//! what nothing takes is said.

use bytes::{Bytes, BytesMut};
use waypost_client::wire::control::{self, OpenPublisher};
use waypost_client::wire::data::{self, Confirm, ConsumerAcks, Range, Transact};
use waypost_client::wire::record::Producer;
use waypost_client::wire::{Code, FrameType};
use waypost_client::{
    Client, ConnectOptions, ExceptionKind, Identity, Level, Message, ProducerOptions, Publisher,
    PublisherOptions, Source,
};

use crate::harness::{self, Setup, TestNode};
use crate::raw::{self, Raw};

const QUEUES: &str = "[[queue]]\nname = \"q\"\nfrom = [\"q/#\"]\n\
     [[queue]]\nname = \"small\"\nfrom = [\"small/#\"]\nmessages_max = 2\n\
     [[queue]]\nname = \"m\"\nfrom = [\"m/#\"]\ndurability = \"memory\"\n";

const ID: [u8; 16] = [3; 16];

fn open(epoch: u64) -> Bytes {
    let open = OpenPublisher {
        producer: Bytes::copy_from_slice(&ID),
        epoch,
        ..OpenPublisher::default()
    };
    control::bytes_of(FrameType::OpenPublisher, &open)
}

fn numbered(topic: &str, epoch: u64, sequence: u64) -> Message {
    Message {
        producer: Some(Producer {
            id: ID,
            epoch,
            sequence,
        }),
        ..Message::new(topic, sequence.to_string())
    }
}

fn said(confirm: &Confirm) -> Vec<(u64, ExceptionKind, Code)> {
    let said = |e: &waypost_client::Exception| (e.sequence, e.kind, e.code);
    confirm.exceptions.iter().map(said).collect()
}

async fn texts(node: &TestNode, queue: &str) -> Vec<String> {
    let client = node.client().await;
    let kept = harness::peek_all(&client, queue).await;
    kept.iter().map(|(_, m)| harness::text(m)).collect()
}

#[test]
fn what_is_sent_again_is_stored_once_also_after_a_restart() {
    harness::run(async {
        let node = Setup::new(QUEUES).start().await;
        let raw = Raw::connect(&node).await;
        let (mut stream, opened) = raw.opened(&open(0)).await;
        assert_eq!((opened.epoch, opened.last_sequence), (1, 0));
        let two = [numbered("q/a", 1, 1), numbered("q/a", 1, 2)];
        stream.send(&raw::publish(1, &two)).await;
        assert_eq!(said(&stream.confirm().await), []);
        stream.send(&raw::publish(3, &two)).await;
        let confirm = stream.confirm().await;
        assert_eq!(confirm.level, Level::Stored);
        assert_eq!(
            said(&confirm),
            [
                (3, ExceptionKind::Duplicate, Code::Closed),
                (4, ExceptionKind::Duplicate, Code::Closed),
            ]
        );
        assert_eq!(confirm.exceptions[1].text, "queue q, offset 1");
        let node = node.restart().await;
        let raw = Raw::connect(&node).await;
        let (mut stream, opened) = raw.opened(&open(1)).await;
        assert_eq!((opened.epoch, opened.last_sequence), (1, 2));
        let three = [two[0].clone(), two[1].clone(), numbered("q/a", 1, 3)];
        stream.send(&raw::publish(1, &three)).await;
        assert_eq!(stream.confirm().await.exceptions.len(), 2);
        assert_eq!(texts(&node, "q").await, ["1", "2", "3"]);

        // A newer stream fences this one, and an older epoch does not come in.
        let (_newer, opened) = raw.opened(&open(0)).await;
        assert_eq!(opened.epoch, 2);
        stream
            .send(&raw::publish(4, &[numbered("q/a", 1, 4)]))
            .await;
        assert_eq!(
            said(&stream.confirm().await),
            [(4, ExceptionKind::Refused, Code::Fenced)]
        );
        let (code, _) = raw.stream(&open(1)).await.error().await;
        assert_eq!(code, Code::Fenced);
        node.stop().await;
    });
}

#[test]
fn a_stream_carries_its_own_producer_only() {
    harness::run(async {
        let node = Setup::new(QUEUES).start().await;
        let raw = Raw::connect(&node).await;
        let (mut stream, _) = raw.opened(&open(0)).await;
        let batch = [numbered("q/a", 1, 1), Message::new("q/a", "anonymous")];
        stream.send(&raw::publish(1, &batch)).await;
        let (code, text) = stream.error().await;
        assert_eq!(code, Code::BadRecord);
        assert!(text.contains("is not that of the stream"), "{text}");
        let short = OpenPublisher {
            producer: Bytes::from_static(b"short"),
            ..OpenPublisher::default()
        };
        let short = control::bytes_of(FrameType::OpenPublisher, &short);
        let (code, text) = raw.stream(&short).await.error().await;
        assert_eq!(code, Code::Invalid);
        assert_eq!(text, "a producer id of 5 bytes, 16 expected");
        node.stop().await;
    });
}

fn number_from(number: u64) -> Bytes {
    let mut out = BytesMut::new();
    data::put_number_from(&mut out, number);
    out.freeze()
}

/// Records that carry no numbers: the stream says that of its first message.
#[test]
fn a_stream_says_its_numbers_once() {
    harness::run(async {
        let node = Setup::new(QUEUES).start().await;
        let raw = Raw::connect(&node).await;
        let plain = |numbers: std::ops::Range<u64>| {
            let message = |n: u64| Message::new("q/a", n.to_string());
            numbers.map(message).collect::<Vec<_>>()
        };
        let (mut stream, _) = raw.opened(&open(0)).await;
        stream.send(&number_from(1)).await;
        stream.send(&raw::publish(1, &plain(1..4))).await;
        assert_eq!(said(&stream.confirm().await), []);
        let (mut again, opened) = raw.opened(&open(1)).await;
        assert_eq!(opened.last_sequence, 3);
        again.send(&number_from(2)).await;
        again.send(&raw::publish(1, &plain(2..4))).await;
        again.send(&raw::publish(3, &plain(4..6))).await;
        let duplicate = |sequence| (sequence, ExceptionKind::Duplicate, Code::Closed);
        let mut heard = Vec::new();
        while heard.len() < 2 {
            heard.extend(said(&again.confirm().await));
        }
        assert_eq!(heard, [duplicate(1), duplicate(2)]);
        // Numbers in records go on from there, and the other way round.
        let (mut stream, _) = raw.opened(&open(1)).await;
        let batch = [numbered("q/a", 1, 5), numbered("q/a", 1, 6)];
        stream.send(&raw::publish(1, &batch)).await;
        assert_eq!(said(&stream.confirm().await), [duplicate(1)]);
        assert_eq!(texts(&node, "q").await, ["1", "2", "3", "4", "5", "6"]);

        for (frames, code, text) in [
            (
                vec![number_from(0), raw::publish(1, &plain(0..1))],
                Code::Invalid,
                "numbers from 0 on, in the frame at stream offset",
            ),
            (
                vec![number_from((1 << 62) - 1), raw::publish(1, &plain(0..2))],
                Code::Invalid,
                "expected 1 to 2^62-1",
            ),
            (vec![number_from(7); 2], Code::Protocol, "NUMBER_FROM"),
            (
                vec![raw::publish(1, &[numbered("q/a", 1, 7)]), number_from(8)],
                Code::Protocol,
                "NUMBER_FROM",
            ),
        ] {
            let (mut stream, _) = raw.opened(&open(1)).await;
            for frame in frames {
                stream.send(&frame).await;
            }
            let (found, said) = stream.error().await;
            assert!(found == code && said.contains(text), "{found:?} {said}");
        }
        let mut nobody = raw.publisher(0).await;
        nobody.send(&number_from(1)).await;
        assert_eq!(nobody.error().await.0, Code::Protocol);
        node.stop().await;
    });
}

fn transact(first_sequence: u64, acks: Vec<ConsumerAcks>, messages: &[Message]) -> Bytes {
    let mut out = BytesMut::new();
    Transact {
        first_sequence,
        acks,
        slab: raw::slab(messages),
    }
    .put(&mut out);
    out.freeze()
}

fn acks(consumer: u64, first: u64, last: u64) -> Vec<ConsumerAcks> {
    let ranges = vec![Range { first, last }];
    vec![ConsumerAcks { consumer, ranges }]
}

#[test]
fn transactions_are_taken_whole_or_not_at_all() {
    harness::run(async {
        let node = Setup::new(QUEUES).start().await;
        let client = node.client().await;
        harness::publish_all(&client, &harness::messages("q/in", 3)).await;
        let raw = Raw::connect(&node).await;
        let (mut consumer, opened) = raw.opened(&raw::open_consumer("q", "g")).await;
        let number = opened.consumer;
        consumer.credit(100, 1 << 20).await;
        consumer.deliveries(3).await;

        let mut stream = raw.publisher(0).await;
        let pair = [Message::new("small/a", "x"), Message::new("q/out", "y")];
        let frame = transact(1, acks(number, 0, 1), &pair);
        stream.send(&frame).await;
        let confirm = stream.confirm().await;
        assert_eq!((said(&confirm), confirm.level), (vec![], Level::Stored));
        let group = harness::group(&client, "q", "g").await;
        assert_eq!(group.acked_below, 2);

        // Acked already; then too much for one of two queues; then one of another connection; then
        // a queue in memory.
        let refused = [ExceptionKind::Refused; 2];
        let both = |confirm: &Confirm, code| {
            let kinds: Vec<_> = confirm.exceptions.iter().map(|e| e.kind).collect();
            assert_eq!(kinds, refused);
            assert!(
                confirm.exceptions.iter().all(|e| e.code == code),
                "{confirm:?}"
            );
        };
        stream.send(&transact(3, acks(number, 1, 2), &pair)).await;
        both(&stream.confirm().await, Code::Conflict);
        let full = [Message::new("small/a", "2"), Message::new("small/a", "3")];
        stream.send(&transact(5, acks(number, 2, 2), &full)).await;
        both(&stream.confirm().await, Code::QueueFull);
        let other = Raw::connect(&node).await;
        let mut foreign = other.publisher(0).await;
        foreign.send(&transact(1, acks(number, 2, 2), &pair)).await;
        both(&foreign.confirm().await, Code::Conflict);
        let memory = [Message::new("m/a", "1"), Message::new("q/out", "z")];
        stream.send(&transact(7, acks(number, 2, 2), &memory)).await;
        both(&stream.confirm().await, Code::Unsupported);
        let forbidden = [Message::new("q/out", "z"), Message::new("$sys/a", "z")];
        stream.send(&transact(9, vec![], &forbidden)).await;
        both(&stream.confirm().await, Code::BadTopic);

        assert_eq!(texts(&node, "small").await, ["x"]);
        let group = harness::group(&client, "q", "g").await;
        assert_eq!(group.acked_below, 2, "nothing of what was refused");
        node.stop().await;
    });
}

async fn producer(client: &Client, name: &str) -> Publisher {
    let options = PublisherOptions {
        producer: Some(ProducerOptions::named(name)),
        ..PublisherOptions::default()
    };
    client.publisher(options).await.unwrap()
}

/// A producer's publisher sends again what was refused for now, in order, until it is taken; one
/// that starts anew counts on.
#[test]
fn a_producer_waits_for_a_full_queue_and_keeps_its_order() {
    harness::run(async {
        let node = Setup::new(QUEUES).start().await;
        let trust = Source::file(node.tls("ca.pem"));
        let identity = Identity::Certificate {
            chain: Source::file(node.tls("client.pem")),
            key: Source::file(node.tls("client.key")),
        };
        // One that tries again.
        let options = ConnectOptions::new(node.address().to_string(), trust).identity(identity);
        let client = Client::connect(options).await.unwrap();
        let publisher = producer(&client, "importer").await;
        let mut tickets = Vec::new();
        for index in 0..8 {
            let topic = if index % 2 == 0 { "small/a" } else { "q/a" };
            let message = Message::new(topic, index.to_string());
            tickets.push(publisher.send(&message).await.unwrap());
        }
        let mut taken = Vec::new();
        let mut consumer = harness::consumer(&client, "small", "g").await;
        while taken.len() < 4 {
            let next = harness::take(&mut consumer, 1).await;
            harness::ack(&consumer, &next);
            taken.extend(next.iter().map(|t| t.text()));
        }
        assert_eq!(taken, ["0", "2", "4", "6"]);
        for ticket in tickets {
            let confirmed = ticket.await.unwrap();
            let kind = confirmed.exception.map(|e| e.kind);
            assert!(matches!(kind, None | Some(ExceptionKind::Duplicate)));
        }
        assert_eq!(texts(&node, "q").await, ["1", "3", "5", "7"]);
        publisher.close().await.unwrap();
        // One whose records say who made them counts on.
        let again = PublisherOptions {
            producer: Some(ProducerOptions {
                in_records: true,
                ..ProducerOptions::named("importer")
            }),
            ..PublisherOptions::default()
        };
        let again = client.publisher(again).await.unwrap();
        let confirmed = again.send(&Message::new("q/a", "8")).await.unwrap();
        assert_eq!(confirmed.await.unwrap().exception, None);
        let kept = harness::peek_all(&client, "q").await;
        assert_eq!(kept[0].1.producer, None, "the stream said it");
        let last = kept.last().unwrap().1.producer.unwrap();
        assert_eq!((last.epoch, last.sequence), (2, 9));
        node.stop().await;
    });
}

/// After a reconnect the consumers of a transaction are gone: a producer learns all the same whether
/// it was taken.
#[test]
fn a_transaction_that_is_sent_again_is_a_duplicate_or_a_conflict() {
    harness::run(async {
        let node = Setup::new(QUEUES).start().await;
        let client = node.client().await;
        harness::publish_all(&client, &harness::messages("q/in", 2)).await;
        let raw = Raw::connect(&node).await;
        let (mut consumer, opened) = raw.opened(&raw::open_consumer("q", "g")).await;
        consumer.credit(100, 1 << 20).await;
        consumer.deliveries(2).await;
        let (mut stream, _) = raw.opened(&open(0)).await;
        let frame = |n| {
            transact(
                1,
                acks(opened.consumer, n - 1, n - 1),
                &[numbered("q/a", 1, n)],
            )
        };
        stream.send(&frame(1)).await;
        assert_eq!(said(&stream.confirm().await), []);
        let other = Raw::connect(&node).await;
        for (number, kind, code) in [
            (1, ExceptionKind::Duplicate, Code::Closed),
            (2, ExceptionKind::Refused, Code::Conflict),
        ] {
            let (mut again, _) = other.opened(&open(1)).await;
            again.send(&frame(number)).await;
            assert_eq!(said(&again.confirm().await), [(1, kind, code)]);
        }
        assert_eq!(harness::group(&client, "q", "g").await.acked_below, 1);
        node.stop().await;
    });
}

/// Message ids: two publishers without an identity, a plugin-free route that copies, another node
/// process in between; what is put back from the dead letters is not eaten.
#[test]
fn a_message_id_is_stored_once_within_its_window() {
    harness::run(async {
        let config = "[[queue]]\nname = \"q\"\nfrom = [\"q/#\"]\ndedup_window = \"1h\"\n\
             dedup_ids_max = 4\n\
             [[queue]]\nname = \"all\"\nfrom = [\"q/all\"]\n\
             [[route]]\nname = \"copy\"\nfrom = \"q/#\"\nto = [\"queue:q\"]\n";
        let node = Setup::new(config).start().await;
        let with_id = |topic: &str, id: &str, text: &str| Message {
            message_id: Some(Bytes::copy_from_slice(id.as_bytes())),
            ..Message::new(topic, text.to_owned())
        };
        let client = node.client().await;
        let batch = [
            with_id("q/a", "x", "1"),
            Message::new("q/a", "2"),
            with_id("q/all", "y", "3"),
        ];
        harness::publish_all(&client, &batch).await;
        let node = node.restart().await;
        let client = node.client().await;
        let again = [
            with_id("q/b", "x", "again"),
            with_id("q/all", "y", "again"),
            with_id("q/a", "z", "4"),
            with_id("q/a", "w", "5"),
            with_id("q/a", "v", "6"),
        ];
        let confirmed = harness::publish(&client, &again).await;
        let said: Vec<_> = confirmed
            .iter()
            .map(|c| c.exception.as_ref().map(|e| (e.kind, e.code)))
            .collect();
        assert_eq!(
            said,
            [
                Some((ExceptionKind::Duplicate, Code::Closed)),
                // The other queue has it again.
                None,
                None,
                None,
                Some((ExceptionKind::Refused, Code::QueueFull)),
            ]
        );
        let first = confirmed[0].exception.as_ref().unwrap();
        assert_eq!(first.text, "queue q, offset 0");
        assert_eq!(
            texts(&node, "q").await,
            ["1", "1", "2", "2", "3", "3", "4", "4", "5", "5"]
        );
        assert_eq!(texts(&node, "all").await, ["3", "again"]);
        node.stop().await;
    });
}

/// A node may keep in a queue what nothing takes, or refuse it whoever publishes.
#[test]
fn what_nothing_takes_goes_where_the_node_says() {
    harness::run(async {
        let rest = format!("{QUEUES}[[queue]]\nname = \"rest\"\n");
        let kept = format!("{rest}[routing]\nunroutable = \"queue:rest\"\n");
        let node = Setup::new(&kept).start().await;
        let client = node.client().await;
        let batch = [
            Message::new("x", "1"),
            Message::new("q/a", "2"),
            Message::new("y", "3"),
        ];
        harness::publish_all(&client, &batch).await;
        // Routes that come with a queue leave it as it is.
        let add = waypost_client::wire::control::QueueSettings {
            from: vec!["x".to_owned()],
            ..Default::default()
        };
        client.queue_add("late", add).await.unwrap();
        harness::publish_all(&client, &batch).await;
        assert_eq!(texts(&node, "rest").await, ["1", "3", "3"]);
        assert_eq!(texts(&node, "late").await, ["1"]);
        assert_eq!(texts(&node, "q").await, ["2", "2"]);
        node.stop().await;

        let refuse = format!("{QUEUES}[routing]\nunroutable = \"refuse\"\n");
        let node = Setup::new(&refuse).start().await;
        let client = node.client().await;
        let confirmed = harness::publish(&client, &batch).await;
        let said: Vec<_> = confirmed
            .iter()
            .map(|c| c.exception.as_ref().map(|e| (e.kind, e.code)))
            .collect();
        let refused = Some((ExceptionKind::Refused, Code::Unroutable));
        assert_eq!(said, [refused, None, refused]);
        node.stop().await;
    });
}

#[test]
fn mandatory_refuses_what_nothing_takes() {
    harness::run(async {
        let node = Setup::new(QUEUES).start().await;
        let client = node.client().await;
        for (mandatory, kind) in [
            (false, ExceptionKind::Unroutable),
            (true, ExceptionKind::Refused),
        ] {
            let options = PublisherOptions {
                mandatory,
                ..PublisherOptions::default()
            };
            let publisher = client.publisher(options).await.unwrap();
            let nowhere = publisher.send(&Message::new("x", "1")).await.unwrap();
            let exception = nowhere.await.unwrap().exception.unwrap();
            assert_eq!((exception.kind, exception.code), (kind, Code::Unroutable));
        }
        node.stop().await;
    });
}
