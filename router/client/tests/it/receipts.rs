//! Receipts: taken is acked, what was not taken comes again on the next stream.

use waypost_client::wire::control::{self, OpenPublisher, Opened};
use waypost_client::wire::{Code, FrameType, data};
use waypost_client::{Client, Error, Outcome, ProducerOptions, Publisher, PublisherOptions};

use crate::fake::{FakeNode, FakeSession, FakeStream, message};

async fn opened(session: &FakeSession) -> FakeStream {
    let (mut stream, first) = session.stream().await;
    let open: OpenPublisher = control::parse(&first).unwrap();
    assert!(open.receipts);
    let opened = Opened {
        window_sequence: 100,
        window_bytes: 1 << 20,
        epoch: 1,
        last_sequence: 40,
        numbers: true,
        ..Opened::default()
    };
    stream
        .put(control::bytes_of(FrameType::Opened, &opened))
        .await;
    // Nothing was settled in between: the first message is the same on each stream.
    let numbers = stream.expect(FrameType::NumberFrom).await;
    assert_eq!(data::parse_number_from(&numbers), Ok(41));
    stream
}

async fn publisher(client: &Client) -> Publisher {
    let options = PublisherOptions {
        producer: Some(ProducerOptions::random()),
        receipts: true,
        ..PublisherOptions::default()
    };
    client.publisher(options).await.unwrap()
}

async fn tell(stream: &mut FakeStream, number: u64, waiting: u64, sequence: u64, count: u64) {
    let mut out = bytes::BytesMut::new();
    data::Receipts {
        number,
        waiting,
        lost: 0,
        receipts: vec![data::Receipt {
            sequence,
            count,
            offset: 7,
            outcome: Outcome::Acked,
            queue: "q".into(),
            group: "g".into(),
            node: String::new(),
            is_last: true,
        }],
    }
    .put(&mut out);
    stream.put(out.freeze()).await;
}

#[tokio::test]
async fn what_was_taken_is_acked_and_what_was_not_comes_again() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let (publisher, mut stream) = tokio::join!(publisher(&client), opened(&session));
    // A message of an earlier publisher, and one of this.
    tell(&mut stream, 2, 1, 40, 2).await;
    let first = publisher.receipt().await.unwrap();
    assert_eq!((first.sequence, first.number, first.offset), (None, 40, 7));
    assert_eq!(publisher.receipts_waiting(), Some(2));
    let acked = stream.expect(FrameType::ReceiptAck).await;
    assert_eq!(data::parse_receipt_ack(&acked), Ok(1));
    // The second is here, and was not taken when the connection went.
    session.crash();
    let session = node.welcomed().await;
    let mut stream = opened(&session).await;
    // What comes after OPENED shows that the client is on the new stream.
    let ticket = publisher.send(&message(1)).await.unwrap();
    stream.published(1, 1).await;
    tell(&mut stream, 1, 0, 41, 1).await;
    let second = publisher.receipt().await.unwrap();
    assert_eq!((second.sequence, second.offset), (Some(1), 7));
    let acked = stream.expect(FrameType::ReceiptAck).await;
    assert_eq!(data::parse_receipt_ack(&acked), Ok(1));
    assert_eq!(publisher.receipts_waiting(), Some(0));
    // Who waits learns that no more will come.
    let (waiting, closed) = tokio::join!(publisher.receipt(), async {
        let mut out = bytes::BytesMut::new();
        let error = control::Error {
            code: Code::Fenced as u32,
            message: "another".to_owned(),
            ..Default::default()
        };
        out.extend_from_slice(&control::bytes_of(FrameType::Error, &error));
        stream.put(out.freeze()).await;
    });
    let () = closed;
    assert!(matches!(
        waiting,
        Err(Error::Refused {
            code: Code::Fenced,
            ..
        })
    ));
    assert!(ticket.await.is_err());
    assert!(publisher.try_send(&message(1)).is_err());
}

/// Who did not ask is told nothing: a node that does is wrong.
#[tokio::test]
async fn a_receipt_that_was_not_asked_for_is_a_mistake() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let publisher = client.publisher(Default::default());
    let (publisher, mut stream) = tokio::join!(publisher, session.publisher(10));
    let ticket = publisher.unwrap().send(&message(1)).await.unwrap();
    stream.published(1, 1).await;
    tell(&mut stream, 1, 0, 1, 1).await;
    let error = ticket.await.unwrap_err();
    assert!(error.to_string().contains("RECEIPT"), "{error}");
}
