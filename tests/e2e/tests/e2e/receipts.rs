//! Receipts: what each group did, told to whoever published it, across lost consumers, publishers
//! and nodes.

use waypost_client::wire::control::{self, OpenPublisher};
use waypost_client::wire::{Code, FrameType};
use waypost_client::{
    Client, Message, Outcome, ProducerOptions, Publisher, PublisherOptions, Receipt,
};

use crate::child::Child;
use crate::harness::{self, Setup, ack, messages, publish_all, take};
use crate::raw::Raw;

const QUEUE: &str = r##"
[[queue]]
name = "q"
from = ["a/#"]
[[queue.group]]
name = "g"
"##;

async fn publisher(client: &Client, producer: ProducerOptions) -> Publisher {
    let options = PublisherOptions {
        producer: Some(producer),
        receipts: true,
        ..PublisherOptions::default()
    };
    client.publisher(options).await.unwrap()
}

async fn send(publisher: &Publisher, messages: &[Message]) {
    for message in messages {
        let confirmed = publisher.send(message).await.unwrap().await.unwrap();
        assert_eq!(confirmed.exception, None);
    }
}

/// Receipts until no more are to come.
async fn all(publisher: &Publisher) -> Vec<Receipt> {
    let mut found = vec![publisher.receipt().await.unwrap()];
    while publisher.receipts_waiting() != Some(0) {
        found.push(publisher.receipt().await.unwrap());
    }
    found
}

/// Group, message, outcome; in this order.
fn said(receipts: &[Receipt]) -> Vec<(&str, u64, Outcome)> {
    let each = receipts.iter();
    let mut said: Vec<_> = each
        .map(|r| (r.group.as_str(), r.number, r.outcome))
        .collect();
    said.sort();
    said
}

#[test]
fn each_group_is_told_of_by_what_it_did() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        let mut first = harness::consumer(&client, "q", "g").await;
        let mut second = harness::consumer(&client, "q", "h").await;
        let publisher = publisher(&client, ProducerOptions::random()).await;
        // Others' messages are others' matter.
        publish_all(&client, &messages("a", 1)).await;
        send(&publisher, &messages("a", 3)).await;
        let taken = take(&mut first, 4).await;
        ack(&first, &taken[..2]);
        let (session, range) = (taken[2].session, taken[2].range());
        first.reject(session, vec![range], "no").unwrap();
        ack(&first, &taken[3..]);
        let taken = take(&mut second, 4).await;
        ack(&second, &taken);
        let receipts = all(&publisher).await;
        assert_eq!(
            said(&receipts),
            [
                ("g", 1, Outcome::Acked),
                ("g", 2, Outcome::DeadLettered),
                ("g", 3, Outcome::Acked),
                ("h", 1, Outcome::Acked),
                ("h", 2, Outcome::Acked),
                ("h", 3, Outcome::Acked),
            ]
        );
        let last = receipts.iter().filter(|r| r.is_last).count();
        assert_eq!(last, 3);
        for receipt in &receipts {
            assert_eq!(receipt.sequence, Some(receipt.number));
            assert_eq!(
                (receipt.queue.as_str(), receipt.offset),
                ("q", receipt.number)
            );
        }
        publisher.close().await.unwrap();
        node.stop().await;
    });
}

#[test]
fn what_expires_is_told_without_any_consumer() {
    harness::run(async {
        let config = QUEUE.replace("[[queue.group]]", "ttl = \"100ms\"\n[[queue.group]]");
        let node = Setup::new(&config).start().await;
        let client = node.client().await;
        let publisher = publisher(&client, ProducerOptions::random()).await;
        send(&publisher, &messages("a", 2)).await;
        let receipts = all(&publisher).await;
        let expected = [("g", 1, Outcome::Expired), ("g", 2, Outcome::Expired)];
        assert_eq!(said(&receipts), expected);
        node.stop().await;
    });
}

/// A consumer that vanishes with a message has not acked it.
#[test]
fn a_lost_consumer_is_no_receipt() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        let publisher = publisher(&client, ProducerOptions::random()).await;
        send(&publisher, &messages("a", 1)).await;
        let other = node.client().await;
        let mut lost = harness::consumer(&other, "q", "g").await;
        take(&mut lost, 1).await;
        other.close().await;
        let mut consumer = harness::consumer(&client, "q", "g").await;
        let taken = take(&mut consumer, 1).await;
        ack(&consumer, &taken);
        assert_eq!(said(&all(&publisher).await), [("g", 1, Outcome::Acked)]);
        node.stop().await;
    });
}

/// SIGKILL between the ack and the receipt; the publisher was away, and comes back as another
/// process would.
#[test]
fn a_receipt_survives_the_node_and_the_publisher() {
    harness::run(async {
        let home = tempfile::TempDir::with_prefix("waypost-e2e-").unwrap();
        let node = Child::start(home.path(), QUEUE).await;
        let client = node.client().await;
        let producer = ProducerOptions::random();
        let first = publisher(&client, producer).await;
        send(&first, &messages("a", 20)).await;
        first.close().await.unwrap();
        harness::drain(&client, "q", "g", 20).await;
        node.kill().await;

        let node = Child::start(home.path(), QUEUE).await;
        let client = node.client().await;
        let second = publisher(&client, producer).await;
        let receipts = all(&second).await;
        let expected: Vec<_> = (1..=20).map(|n| ("g", n, Outcome::Acked)).collect();
        assert_eq!(said(&receipts), expected);
        assert_eq!(receipts[0].sequence, None, "another publisher sent it");
        second.close().await.unwrap();

        // What was taken does not come again.
        let third = publisher(&client, producer).await;
        send(&third, &messages("a", 1)).await;
        harness::drain(&client, "q", "g", 1).await;
        assert_eq!(said(&all(&third).await), [("g", 21, Outcome::Acked)]);
        // And also not after the node was killed, once something was synced behind it.
        third.close().await.unwrap();
        publish_all(&client, &messages("a", 1)).await;
        node.kill().await;
        let node = Child::start(home.path(), QUEUE).await;
        let client = node.client().await;
        let fourth = publisher(&client, producer).await;
        send(&fourth, &messages("a", 1)).await;
        harness::drain(&client, "q", "g", 2).await;
        let receipts = all(&fourth).await;
        assert_eq!(said(&receipts), [("g", 22, Outcome::Acked)]);
        assert_eq!(receipts[0].sequence, Some(1));
        node.stop().await;
    });
}

#[test]
fn receipts_need_a_producer() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let raw = Raw::connect(&node).await;
        let open = OpenPublisher {
            receipts: true,
            ..OpenPublisher::default()
        };
        let open = control::bytes_of(FrameType::OpenPublisher, &open);
        let (code, text) = raw.stream(&open).await.error().await;
        assert_eq!(code, Code::Invalid);
        assert_eq!(text, "receipts need a producer: they outlive the stream");
        node.stop().await;
    });
}
