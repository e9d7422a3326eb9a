//! Windows, confirms, sending again, closing.

use waypost_client::wire::control::{self, Opened};
use waypost_client::wire::{FrameType, data};
use waypost_client::{
    Code, Error, Exception, ExceptionKind, Level, Message, ProducerOptions, Publisher,
    PublisherOptions, RecordRef,
};

use crate::fake::{FakeNode, FakeSession, FakeStream, message, numbered, slab};

async fn open(
    client: &waypost_client::Client,
    session: &FakeSession,
    window: u64,
) -> (Publisher, FakeStream) {
    let publisher = client.publisher(Default::default());
    let (publisher, stream) = tokio::join!(publisher, session.publisher(window));
    (publisher.unwrap(), stream)
}

#[tokio::test]
async fn the_window_is_respected_and_batches_are_cut_to_it() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let (publisher, mut stream) = open(&client, &session, 3).await;
    let ticket = publisher.send_slab(&slab(1..=10)).await.unwrap();
    assert_eq!(stream.published(1, 3).await, numbered(1..=3));
    stream.confirm(2, 5, vec![]).await;
    assert_eq!(stream.published(4, 2).await, numbered(4..=5));
    // A repeated frame changes nothing: windows are totals.
    stream.confirm(2, 5, vec![]).await;
    stream.confirm(5, 10, vec![]).await;
    assert_eq!(stream.published(6, 5).await, numbered(6..=10));
    stream.confirm(10, 14, vec![]).await;
    let confirmed = ticket.await.unwrap();
    assert_eq!((confirmed.first_sequence, confirmed.count), (1, 10));
    assert_eq!(confirmed.level, Level::Stored);
}

/// A producer whose node has 40 of its messages.
async fn producer(
    client: &waypost_client::Client,
    session: &FakeSession,
    opened: &Opened,
) -> (Publisher, FakeStream) {
    let options = PublisherOptions {
        producer: Some(ProducerOptions::random()),
        ..PublisherOptions::default()
    };
    let publisher = client.publisher(options);
    let stream = session.opened(FrameType::OpenPublisher, opened.clone());
    let (publisher, stream) = tokio::join!(publisher, stream);
    (publisher.unwrap(), stream)
}

/// The producer's numbers that the next records carry.
async fn in_records(stream: &mut FakeStream) -> Vec<Option<u64>> {
    let publish = stream.publish().await;
    let records = publish.slab.iter();
    let number = |body| RecordRef::parse(body).unwrap().producer();
    let numbers = records.map(|body| number(body).map(|producer| producer.sequence));
    numbers.collect()
}

#[tokio::test]
async fn a_stream_says_the_number_of_its_first_message() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let opened = Opened {
        window_sequence: 3,
        window_bytes: 1 << 30,
        epoch: 1,
        last_sequence: 40,
        numbers: true,
        ..Opened::default()
    };
    let (publisher, mut stream) = producer(&client, &session, &opened).await;
    let first = stream.expect(FrameType::NumberFrom).await;
    assert_eq!(data::parse_number_from(&first), Ok(41));
    let _ticket = publisher.send_slab(&slab(1..=5)).await.unwrap();
    assert_eq!(in_records(&mut stream).await, [None; 3]);
    stream.confirm(2, 3, vec![]).await;
    while publisher.stats().settled < 2 {
        tokio::task::yield_now().await;
    }
    // What comes again has the numbers that it had.
    session.crash();
    let session = node.welcomed().await;
    let mut stream = session.opened(FrameType::OpenPublisher, opened).await;
    let first = stream.expect(FrameType::NumberFrom).await;
    assert_eq!(data::parse_number_from(&first), Ok(43));
    assert_eq!(stream.published(1, 3).await, numbered(3..=5));
}

#[tokio::test]
async fn a_node_that_takes_no_numbers_gets_them_in_the_records() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let opened = Opened {
        window_sequence: 100,
        window_bytes: 1 << 30,
        epoch: 1,
        last_sequence: 40,
        ..Opened::default()
    };
    let (publisher, mut stream) = producer(&client, &session, &opened).await;
    let _slab = publisher.send_slab(&slab(1..=2)).await.unwrap();
    assert_eq!(in_records(&mut stream).await, [Some(41), Some(42)]);
    let _one = publisher.send(&message(3)).await.unwrap();
    assert_eq!(in_records(&mut stream).await, [Some(43)]);
}

#[tokio::test]
async fn try_send_says_when_the_window_is_full() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let (publisher, mut stream) = open(&client, &session, 1).await;
    let mut sent = 0;
    let refused = loop {
        match publisher.try_send(&message(sent)) {
            Ok(_ticket) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::WindowFull));
    assert!(
        sent <= 256 + 1,
        "accepted {sent}: a batch beyond the window"
    );
    stream.published(1, 1).await;
    let late = message(sent);
    let waiting = publisher.send(&late);
    let (ticket, ()) = tokio::join!(waiting, stream.confirm(1, 1000, vec![]));
    stream.published(2, sent).await;
    stream.confirm(u64::from(sent) + 1, 1000, vec![]).await;
    assert_eq!(ticket.unwrap().await.unwrap().sequence, u64::from(sent) + 1);
}

#[tokio::test]
async fn exceptions_reach_their_tickets() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let (publisher, mut stream) = open(&client, &session, 100).await;
    let batch = publisher.send_slab(&slab(1..=3)).await.unwrap();
    let one = publisher.send(&message(4)).await.unwrap();
    let fine = publisher.send(&message(5)).await.unwrap();
    stream.published(1, 5).await;
    let exception = |sequence, kind, code| Exception {
        sequence,
        kind,
        code,
        text: "r".into(),
    };
    let exceptions = vec![
        exception(2, ExceptionKind::Dropped, Code::Closed),
        exception(4, ExceptionKind::Refused, Code::QueueFull),
    ];
    stream.confirm(5, 100, exceptions.clone()).await;
    assert_eq!(batch.await.unwrap().exceptions, exceptions[..1]);
    let one = one.await.unwrap();
    assert_eq!(
        (one.sequence, one.exception.as_ref()),
        (4, Some(&exceptions[1]))
    );
    assert_eq!(fine.await.unwrap().exception, None);
    assert_eq!(publisher.stats().exceptions, 2);
}

#[tokio::test]
async fn what_is_unsettled_is_sent_again_in_order() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let (publisher, mut stream) = open(&client, &session, 100).await;
    let all = publisher.send_slab(&slab(1..=200)).await.unwrap();
    let last = publisher.send(&message(201)).await.unwrap();
    stream.published(1, 100).await;
    stream.confirm(40, 100, vec![]).await;
    // The confirm was seen once the publisher counts it.
    while publisher.stats().settled < 40 {
        tokio::task::yield_now().await;
    }
    session.crash();
    let session = node.welcomed().await;
    let mut stream = session.publisher(500).await;
    assert_eq!(stream.published(1, 161).await, numbered(41..=201));
    let exception = Exception {
        sequence: 161,
        kind: ExceptionKind::Unroutable,
        code: Code::Unroutable,
        text: String::new(),
    };
    stream.confirm(161, 500, vec![exception]).await;
    let all = all.await.unwrap();
    assert_eq!((all.first_sequence, all.count), (1, 200));
    let last = last.await.unwrap();
    assert_eq!(last.exception.unwrap().sequence, 201);
    assert_eq!(publisher.stats().resent, 60);
}

#[tokio::test]
async fn close_waits_for_closed() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let (publisher, mut stream) = open(&client, &session, 100).await;
    let ticket = publisher.send(&message(1)).await.unwrap();
    let node_side = async {
        stream.published(1, 1).await;
        stream.confirm(1, 100, vec![]).await;
        stream.close().await;
    };
    let (closed, ()) = tokio::join!(publisher.close(), node_side);
    closed.unwrap();
    ticket.await.unwrap();
}

#[tokio::test]
async fn a_nodes_error_answers_every_ticket() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let (publisher, mut stream) = open(&client, &session, 1).await;
    let sent = publisher.send_slab(&slab(1..=1)).await.unwrap();
    stream.published(1, 1).await;
    let unsent = publisher.send_slab(&slab(2..=2)).await.unwrap();
    let error = control::Error::new(Code::Forbidden, "role 'r' lacks publish on a/b");
    stream
        .put(control::bytes_of(FrameType::Error, &error))
        .await;
    let error = sent.await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Forbidden));
    assert!(!error.has_no_side_effects());
    let error = unsent.await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Forbidden));
    assert!(error.has_no_side_effects(), "{error}");
    let error = publisher.send(&message(3)).await.unwrap_err();
    assert!(error.has_no_side_effects(), "{error}");
    assert!(publisher.close().await.is_err());
}

#[tokio::test]
async fn a_refused_open_is_the_callers_error() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let refuse = async {
        let (mut stream, _) = session.stream().await;
        let error = control::Error::new(Code::Busy, "64 streams");
        stream
            .put(control::bytes_of(FrameType::Error, &error))
            .await;
        stream
    };
    let (publisher, _stream) = tokio::join!(client.publisher(Default::default()), refuse);
    let error = publisher.err().unwrap();
    assert!(
        error.is_retryable() && error.code() == Some(Code::Busy),
        "{error}"
    );
}

#[tokio::test]
async fn bad_confirms_are_precise_errors() {
    for (bytes, want) in [
        (
            data::bytes_of(FrameType::Confirm, &[9, 1, 10, 10, 0]),
            "CONFIRM frame at stream offset 10: confirms up to 9, but only 2 were sent",
        ),
        (
            data::bytes_of(FrameType::Confirm, &[1, 1, 10, 10, 1, 2, 0, 0, 0]),
            "CONFIRM frame at stream offset 10: exception for sequence 2, which this frame does \
             not settle",
        ),
        (
            data::bytes_of(FrameType::Confirm, &[1, 7, 10, 10, 0]),
            "CONFIRM frame at stream offset 10: cut off, or an unknown level",
        ),
        (
            data::bytes_of(FrameType::Lost, &[1]),
            "frame LOST at stream offset 10, expected CONFIRM, EXPLAINED, RECEIPT, CLOSED or ERROR",
        ),
        (
            data::bytes_of(FrameType::Closed, &[]),
            "CLOSED frame at stream offset 10: 2 messages were not settled before it",
        ),
    ] {
        let node = FakeNode::start();
        let (client, session) = node.pair(node.options()).await;
        let (publisher, mut stream) = open(&client, &session, 100).await;
        let ticket = publisher.send_slab(&slab(1..=2)).await.unwrap();
        stream.published(1, 2).await;
        stream.put(bytes).await;
        let error = ticket.await.unwrap_err().to_string();
        assert_eq!(error, format!("the node broke the protocol: {want}"));
    }
}

#[tokio::test]
async fn messages_that_are_no_records_stay_here() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let (publisher, _stream) = open(&client, &session, 100).await;
    let refuse = async |message: Message| publisher.send(&message).await.unwrap_err();
    let error = refuse(Message::new("a/+", "x")).await;
    assert!(
        error.to_string().contains("wildcard '+' at byte 2"),
        "{error}"
    );
    assert!(error.has_no_side_effects());
    let error = refuse(Message::new("a", vec![0; (1 << 20) + 1])).await;
    assert!(error.to_string().contains("limit 1048576"), "{error}");
    assert_eq!(publisher.stats().accepted, 0);
}

#[tokio::test]
async fn a_window_of_bytes_lets_one_large_message_through_and_no_second() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let opened = Opened {
        window_sequence: 100,
        window_bytes: 100,
        ..Opened::default()
    };
    let publisher = client.publisher(Default::default());
    let (publisher, mut stream) =
        tokio::join!(publisher, session.opened(FrameType::OpenPublisher, opened));
    let publisher = publisher.unwrap();
    let large = Message::new("a", vec![1; 5000]);
    let first = publisher.send(&large).await.unwrap();
    let second = publisher.send(&large).await.unwrap();
    assert_eq!(stream.publish().await.slab.count(), 1);
    stream.confirm(1, 100, vec![]).await;
    first.await.unwrap();
    assert_eq!(stream.publish().await.first_sequence, 2);
    drop(second);
}
