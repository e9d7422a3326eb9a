//! Credit, words, reopening, closing.

use std::time::Duration;

use waypost_client::wire::FrameType;
use waypost_client::wire::control::{self, OpenConsumer};
use waypost_client::wire::data::{ConsumerFrame, Range};
use waypost_client::{Code, Consumer, ConsumerOptions, Error};

use crate::fake::{FakeNode, FakeSession, FakeStream, slab};

async fn open(
    client: &waypost_client::Client,
    session: &FakeSession,
    window_messages: u64,
) -> (Consumer, FakeStream) {
    let options = ConsumerOptions {
        window_messages,
        window_bytes: 1000,
        ..ConsumerOptions::new("q", "g")
    };
    let (consumer, stream) = tokio::join!(client.consumer(options), session.consumer());
    (consumer.unwrap(), stream)
}

fn credit(messages: u64, bytes: u64) -> ConsumerFrame {
    ConsumerFrame::Credit { messages, bytes }
}

#[tokio::test]
async fn credit_is_totals_and_renewed_at_half() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let (mut consumer, mut stream) = open(&client, &session, 10).await;
    assert_eq!(stream.said().await, credit(10, 1000));
    let four = slab(1..=4);
    let bytes = four.bytes().len() as u64;
    stream.deliver(0, four).await;
    stream.deliver(4, slab(5..=5)).await;
    let first = consumer.next().await.unwrap().unwrap();
    consumer.ack(&first).unwrap();
    let four_acked = ConsumerFrame::Ack(vec![Range { first: 0, last: 3 }]);
    // Four of ten taken: an ack goes, credit does not.
    assert_eq!(stream.said().await, four_acked);
    let second = consumer.next().await.unwrap().unwrap();
    let taken = bytes + second.bytes() as u64;
    assert_eq!(stream.said().await, credit(15, 1000 + taken));
    let delivery = second.iter().next().unwrap();
    assert_eq!((delivery.offset, delivery.attempt), (4, 1));
    assert_eq!(delivery.record().unwrap().payload(), b"m5");
}

#[tokio::test]
async fn words_are_joined_and_in_their_order() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let (mut consumer, mut stream) = open(&client, &session, 100).await;
    stream.said().await;
    stream.deliver(7, slab(0..9)).await;
    let batch = consumer.next().await.unwrap().unwrap();
    let of = batch.session();
    let range = |first, last| Range { first, last };
    // On one thread the driver runs only once this test waits.
    consumer.ack_ranges(of, vec![range(9, 9)]).unwrap();
    consumer.ack_ranges(of, vec![range(7, 8)]).unwrap();
    consumer.ack_ranges(of, vec![range(11, 11)]).unwrap();
    let delay = Duration::from_millis(50);
    consumer.nack(of, vec![range(12, 12)], delay).unwrap();
    consumer.reject(of, vec![range(13, 13)], "why").unwrap();
    consumer.extend(of, vec![range(14, 15)], delay).unwrap();
    let acked = vec![range(7, 9), range(11, 11)];
    assert_eq!(stream.said().await, ConsumerFrame::Ack(acked));
    let nack = ConsumerFrame::Nack {
        delay_ms: 50,
        ranges: vec![range(12, 12)],
    };
    assert_eq!(stream.said().await, nack);
    let reject = ConsumerFrame::Reject {
        reason: "why".into(),
        ranges: vec![range(13, 13)],
    };
    assert_eq!(stream.said().await, reject);
    let extend = ConsumerFrame::Extend {
        ms: 50,
        ranges: vec![range(14, 15)],
    };
    assert_eq!(stream.said().await, extend);
}

#[tokio::test]
async fn over_the_credit_is_the_nodes_fault() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let (mut consumer, mut stream) = open(&client, &session, 2).await;
    stream.said().await;
    stream.deliver(0, slab(0..3)).await;
    let error = consumer.next().await.unwrap_err().to_string();
    assert_eq!(
        error,
        "the node broke the protocol: DELIVER frame at stream offset 2: 0 messages and 0 bytes \
         before this batch of 3, credit is 2 and 1000"
    );
}

#[tokio::test]
async fn reopened_after_a_lost_connection_and_old_words_are_stale() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let (mut consumer, mut stream) = open(&client, &session, 10).await;
    stream.said().await;
    stream.deliver(0, slab(0..2)).await;
    let old = consumer.next().await.unwrap().unwrap();
    session.crash();
    let session = node.welcomed().await;
    let (mut stream, first) = session.stream().await;
    let opening: OpenConsumer = control::parse(&first).unwrap();
    assert_eq!((opening.queue, opening.group), ("q".into(), "g".into()));
    let opened = control::Opened::default();
    stream
        .put(control::bytes_of(FrameType::Opened, &opened))
        .await;
    assert_eq!(stream.said().await, credit(10, 1000), "totals start anew");
    consumer.ack(&old).unwrap();
    assert_eq!(consumer.stats().stale, 2);
    stream.deliver(0, slab(0..2)).await;
    let again = consumer.next().await.unwrap().unwrap();
    assert_ne!(again.session(), old.session());
    consumer.ack(&again).unwrap();
    let acked = vec![Range { first: 0, last: 1 }];
    assert_eq!(stream.said().await, ConsumerFrame::Ack(acked));
}

#[tokio::test]
async fn close_sends_what_was_said_and_waits_for_closed() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let (mut consumer, mut stream) = open(&client, &session, 10).await;
    stream.said().await;
    stream.deliver(3, slab(0..1)).await;
    let batch = consumer.next().await.unwrap().unwrap();
    consumer.ack(&batch).unwrap();
    let node_side = async {
        let acked = vec![Range::one(3)];
        assert_eq!(stream.said().await, ConsumerFrame::Ack(acked));
        stream.close().await;
    };
    let (closed, ()) = tokio::join!(consumer.close(), node_side);
    closed.unwrap();
}

#[tokio::test]
async fn draining_lets_the_application_settle_what_it_holds() {
    let node = FakeNode::start();
    let (client, mut session) = node.pair(node.options()).await;
    let (mut consumer, mut stream) = open(&client, &session, 2).await;
    stream.said().await;
    stream.deliver(0, slab(0..2)).await;
    let batch = consumer.next().await.unwrap().unwrap();
    assert!(matches!(stream.said().await, ConsumerFrame::Credit { .. }));
    let goaway = control::GoAway {
        reason: "upgrade".into(),
        grace_ms: 60_000,
    };
    let mut events = client.events();
    session
        .control
        .put(control::bytes_of(FrameType::GoAway, &goaway))
        .await;
    events.recv().await.unwrap();
    consumer.ack(&batch).unwrap();
    let acked = vec![Range { first: 0, last: 1 }];
    assert_eq!(stream.said().await, ConsumerFrame::Ack(acked));
    stream.close().await;
    let session = node.welcomed().await;
    let mut stream = session.consumer().await;
    assert_eq!(stream.said().await, credit(2, 1000));
}

#[tokio::test]
async fn gone_is_an_error_with_its_code() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let (mut consumer, mut stream) = open(&client, &session, 10).await;
    stream.said().await;
    let error = control::Error::new(Code::Gone, "queue 'q' was removed");
    stream
        .put(control::bytes_of(FrameType::Error, &error))
        .await;
    let error: Error = consumer.next().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Gone));
    assert!(consumer.close().await.is_err());
}
