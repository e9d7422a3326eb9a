//! Clients that never read, never ack, disappear, or want too much: they hurt themselves alone.

use std::time::Duration;

use waypost_client::{Code, Message};
use waypost_wire::data::{ConsumerFrame, Range};

use crate::harness::{self, Setup, ack, drain, messages, publish_all, take};
use crate::raw::{
    Dial, Raw, consumer_frame, open_consumer, open_publisher, open_subscriber, publish,
};

const QUEUE: &str = r#"
[[queue]]
name = "q"
from = ["a/#"]
"#;

#[test]
fn a_publisher_that_never_reads_its_confirms_holds_nobody() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let dial = Dial {
            stream_window: 64,
            ..Dial::default()
        };
        let raw = dial.welcomed(&node).await;
        let mut deaf = raw.publisher(0).await;
        // Up to its window, one at a time, so that there are many confirms.
        for sequence in 1..=1000 {
            deaf.send(&publish(sequence, &messages("a/deaf", 1))).await;
        }
        let client = node.client().await;
        publish_all(&client, &messages("a/b", 1000)).await;
        drain(&client, "q", "g", 2000).await;
        // Nothing of it was lost: when it reads, all is confirmed.
        while deaf.confirm().await.up_to < 1000 {}
        deaf.close().await;
        node.stop().await;
    });
}

#[test]
fn a_consumer_that_never_reads_can_still_ack_and_holds_nobody() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        let large: Vec<Message> = (0..40)
            .map(|n| Message::new("a/b", vec![n; 100_000]))
            .collect();
        publish_all(&client, &large).await;
        let dial = Dial {
            stream_window: 150_000,
            ..Dial::default()
        };
        let raw = dial.welcomed(&node).await;
        let mut deaf = raw.consumer("q", "g").await;
        deaf.credit(1000, 1 << 30).await;
        // The other group, and the same connection's other streams, go on.
        drain(&client, "q", "other", 40).await;
        raw.publisher(0).await.close().await;
        // It knows the offsets from elsewhere, and acks what it has not read.
        let first = harness::queue(&client, "q").await.first_offset;
        while harness::group(&client, "q", "g").await.in_flight < 40 {}
        let ranges = vec![Range {
            first,
            last: first + 9,
        }];
        deaf.send(&consumer_frame(&ConsumerFrame::Ack(ranges)))
            .await;
        while harness::group(&client, "q", "g").await.pending > 30 {}
        // What it never read goes to another once it is gone.
        raw.quic.close(quinn::VarInt::from_u32(0), b"");
        let again = drain(&client, "q", "g", 30).await;
        assert!(again.iter().all(|t| t.attempt == 2));
        node.stop().await;
    });
}

#[test]
fn what_a_client_that_disappears_held_goes_to_another_by_its_deadline() {
    harness::run(async {
        let queue = format!("{QUEUE}ack_deadline = \"1s\"\n");
        let node = Setup::new(&queue).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a/b", 5)).await;
        // A machine without power: its runtime ends, and no packet says goodbye.
        let (node, held) = harness::blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let (held, raw) = runtime.block_on(async {
                let raw = Raw::connect(&node).await;
                let mut consumer = raw.consumer("q", "g").await;
                consumer.credit(5, 1 << 20).await;
                let held = consumer.deliveries(5).await;
                (held.len(), (raw, consumer))
            });
            runtime.shutdown_background();
            // Dropping these would say goodbye, if somebody still sent it.
            std::mem::forget(raw);
            (node, held)
        })
        .await;
        assert!(held > 0);
        let mut other = harness::consumer(&client, "q", "g").await;
        let again = take(&mut other, 5).await;
        assert!(again.iter().all(|t| t.attempt == 2));
        ack(&other, &again);
        other.close().await.unwrap();
        assert_eq!(harness::queue(&client, "q").await.messages, 0);
        client.close().await;
        // The vanished one is cut off, not waited for.
        let setup = node.stop();
        assert_eq!(setup.await.1, 1);
    });
}

#[test]
fn what_a_client_that_closes_held_goes_to_another_at_once() {
    harness::run(async {
        // With a deadline of ten minutes, only the close can bring it again.
        let queue = format!("{QUEUE}ack_deadline = \"10m\"\n");
        let node = Setup::new(&queue).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a/b", 3)).await;
        for attempt in 1..=3 {
            let raw = Raw::connect(&node).await;
            let mut consumer = raw.consumer("q", "g").await;
            consumer.credit(3, 1 << 20).await;
            let deliver = consumer.deliveries(3).await.remove(0);
            assert_eq!(deliver.position(0).1, attempt);
            match attempt {
                1 => raw.quic.close(quinn::VarInt::from_u32(7), b"crashed"),
                2 => consumer.send.reset(quinn::VarInt::from_u32(7)).unwrap(),
                _ => consumer.close().await,
            }
        }
        // Who takes its leave has not tried in vain: the attempt stays.
        assert_eq!(drain(&client, "q", "g", 3).await[0].attempt, 3);
        node.stop().await;
    });
}

#[test]
fn too_many_streams_are_busy() {
    harness::run(async {
        let setup = Setup::new(QUEUE).change(|c| c.limits.streams_per_connection = 2);
        let node = setup.start().await;
        let raw = Raw::connect(&node).await;
        let one = raw.publisher(0).await;
        let two = raw.consumer("q", "g").await;
        let third = [
            open_publisher(0),
            open_consumer("q", "g"),
            open_subscriber(&["a"]),
        ];
        for first in third {
            let (code, said) = raw.stream(&first).await.error().await;
            assert_eq!((code, said.as_str()), (Code::Busy, "2 streams are open"));
        }
        one.close().await;
        raw.publisher(0).await.close().await;
        two.close().await;
        node.stop().await;
    });
}

#[test]
fn too_many_connections_are_refused_until_one_ends() {
    harness::run(async {
        let setup = Setup::new(QUEUE).change(|c| c.limits.connections = 2);
        let node = setup.start().await;
        let one = Raw::connect(&node).await;
        let client = node.client().await;
        let refused = node
            .connect(harness::certificate(node.setup.data_dir()))
            .await;
        let error = refused.err().unwrap();
        assert!(error.is_retryable(), "{error}");
        let text = "2 connections are open, which is as many as may be";
        assert!(error.to_string().contains(text), "{error}");
        publish_all(&client, &messages("a/b", 1)).await;
        one.quic.close(quinn::VarInt::from_u32(0), b"");
        while client.node_info().await.unwrap().connections > 1 {}
        let again = node
            .connect(harness::certificate(node.setup.data_dir()))
            .await
            .unwrap();
        again.close().await;
        client.close().await;
        node.stop().await;
    });
}

#[test]
fn a_consumer_of_a_queue_that_is_removed_is_told() {
    harness::run(async {
        let node = Setup::new("").start().await;
        let client = node.client().await;
        client.queue_add("q", Default::default()).await.unwrap();
        let raw = Raw::connect(&node).await;
        let mut consumer = raw.consumer("q", "g").await;
        client.queue_remove("q").await.unwrap();
        let (code, said) = consumer.error().await;
        assert_eq!((code, said.as_str()), (Code::Gone, "queue 'q' was removed"));
        node.stop().await;
    });
}

#[test]
fn many_clients_come_and_go_while_others_work() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let steady = async {
            let client = node.client().await;
            for _ in 0..20 {
                publish_all(&client, &messages("a/steady", 50)).await;
            }
            drain(&client, "q", "steady", 1000).await.len()
        };
        let restless = async {
            for round in 0..40 {
                let raw = Raw::connect(&node).await;
                let mut consumer = raw.consumer("q", "restless").await;
                consumer.credit(100, 1 << 20).await;
                let mut publisher = raw.publisher(0).await;
                publisher
                    .send(&publish(1, &messages("b", 3))[..round % 20])
                    .await;
                raw.quic.close(quinn::VarInt::from_u32(round as u32), b"");
            }
        };
        let (steady, ()) = tokio::join!(steady, restless);
        assert_eq!(steady, 1000);
        let client = node.client().await;
        while client.node_info().await.unwrap().connections > 1 {}
        client.close().await;
        let began = std::time::Instant::now();
        assert_eq!(node.stop().await.1, 0);
        assert!(began.elapsed() < Duration::from_secs(60));
    });
}

/// QUIC connections outlive their addresses, on whichever thread the node keeps them.
#[test]
fn a_client_that_changes_its_address_goes_on() {
    harness::run(async {
        let node = Setup::new(QUEUE)
            .change(|c| c.node.threads = 3)
            .start()
            .await;
        for _ in 0..3 {
            let (endpoint, quic) = Dial::default().endpoint(&node).await.unwrap();
            let raw = Dial::greet(quic).await;
            let mut publisher = raw.publisher(0).await;
            publisher
                .send(&crate::raw::publish(1, &messages("a/b", 1)))
                .await;
            assert_eq!(publisher.confirm().await.up_to, 1);
            let before = endpoint.local_addr().unwrap();
            let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            endpoint.rebind(other).unwrap();
            assert_ne!(endpoint.local_addr().unwrap(), before);
            publisher
                .send(&crate::raw::publish(2, &messages("a/b", 1)))
                .await;
            assert_eq!(publisher.confirm().await.up_to, 2);
            raw.quic.close(quinn::VarInt::from_u32(0), b"");
        }
        node.stop().await;
    });
}
