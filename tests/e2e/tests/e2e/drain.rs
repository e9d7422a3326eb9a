//! Stopping while publishers and consumers are at work.

use std::collections::BTreeSet;

use waypost_client::{Code, Event, Message};

use crate::harness::{self, Setup, peek_all, publish_all, text};

const QUEUE: &str = r#"
[[queue]]
name = "q"
from = ["a/#"]
"#;

/// A node that waits longer for its clients than a test may take.
fn patient() -> Setup {
    Setup::new(QUEUE).change(|config| {
        config.node.drain_timeout = std::time::Duration::from_secs(600);
    })
}

#[test]
fn a_drain_tells_the_clients_and_keeps_what_was_confirmed() {
    harness::run(async {
        let node = patient().start().await;
        let mut running = Vec::new();
        let mut told = Vec::new();
        let begun = std::rc::Rc::new(tokio::sync::Semaphore::new(0));
        for producer in 0..3 {
            let client = node.client().await;
            told.push(client.events());
            let begun = begun.clone();
            running.push(async move {
                let publisher = client.publisher(Default::default()).await.unwrap();
                let mut tickets = Vec::new();
                let mut n = 0;
                loop {
                    let message = Message::new("a/b", format!("{producer}:{n}"));
                    match publisher.send(&message).await {
                        Ok(ticket) => tickets.push((n, ticket)),
                        Err(_) => break,
                    }
                    n += 1;
                    if n == 500 {
                        begun.add_permits(1);
                    }
                    tokio::task::yield_now().await;
                }
                let mut confirmed = Vec::new();
                for (n, ticket) in tickets {
                    if ticket.await.is_ok_and(|c| c.exception.is_none()) {
                        confirmed.push(format!("{producer}:{n}"));
                    }
                }
                confirmed
            });
        }
        let client = node.client().await;
        let mut consumer = harness::consumer(&client, "q", "g").await;
        let consume = async {
            while let Ok(Some(batch)) = consumer.next().await {
                let _ = consumer.ack(&batch);
            }
        };
        let stop = async {
            let _begun = begun.acquire_many(3).await.unwrap();
            node.stop().await
        };
        let mut running = running.into_iter();
        let mut next = || running.next().unwrap();
        let (one, two, three, (), (setup, cut_off)) =
            tokio::join!(next(), next(), next(), consume, stop);
        assert_eq!(cut_off, 0, "clients that follow GOAWAY are not cut off");
        for mut events in told {
            let first = events.recv().await.unwrap();
            assert!(matches!(first, Event::GoAway { .. }), "{first:?}");
        }

        let confirmed: Vec<String> = [one, two, three].concat();
        assert!(confirmed.len() >= 1500);
        let node = setup.start().await;
        let client = node.client().await;
        let mut there: BTreeSet<String> = BTreeSet::new();
        // The group has acked some; what it did not is peeked at.
        let state = harness::queue(&client, "q").await;
        for (_, message) in peek_all(&client, "q").await {
            there.insert(text(&message));
        }
        let acked = state.first_offset;
        assert_eq!(state.next_offset - acked, there.len() as u64);
        assert!(
            state.next_offset >= confirmed.len() as u64,
            "{} confirmed, {} stored",
            confirmed.len(),
            state.next_offset
        );
        node.stop().await;
    });
}

#[test]
fn a_draining_node_lets_nobody_in_and_finishes_what_it_has() {
    harness::run(async {
        let node = patient().start().await;
        let address = node.address();
        let data_dir = node.setup.data_dir().to_path_buf();
        let mut raw = crate::raw::Raw::connect(&node).await;
        let mut publisher = raw.publisher(0).await;
        let stop = tokio::spawn(node.stop());
        let goaway = raw.control.next().await.unwrap();
        assert_eq!(goaway.kind, waypost_wire::FrameType::GoAway);
        // A stream that is open goes on; a new one is refused; so is a new connection.
        publisher
            .send(&crate::raw::publish(1, &harness::messages("a/b", 2)))
            .await;
        assert_eq!(publisher.confirm().await.up_to, 2);
        let (code, said) = raw
            .stream(&crate::raw::open_publisher(0))
            .await
            .error()
            .await;
        assert_eq!(
            (code, said.as_str()),
            (Code::Draining, "the node is about to stop")
        );
        let identity = harness::certificate(&data_dir);
        let refused = harness::connect(address, &data_dir, identity).await;
        assert!(refused.err().unwrap().is_retryable());
        publisher.close().await;
        raw.quic.close(quinn::VarInt::from_u32(0), b"");
        let (setup, cut_off) = stop.await.unwrap();
        assert_eq!(cut_off, 0);
        let node = setup.start().await;
        let client = node.client().await;
        assert_eq!(harness::queue(&client, "q").await.messages, 2);
        publish_all(&client, &harness::messages("a/b", 1)).await;
        node.stop().await;
    });
}

#[test]
fn a_client_that_ignores_goaway_is_cut_off_with_the_reason() {
    harness::run(async {
        let setup = Setup::new(QUEUE).change(|config| {
            config.node.drain_timeout = std::time::Duration::from_millis(100);
        });
        let node = setup.start().await;
        let raw = crate::raw::Raw::connect(&node).await;
        let _stream = raw.publisher(0).await;
        let stop = tokio::spawn(node.stop());
        let (code, said) = crate::raw::closed(&raw.quic).await;
        assert_eq!((code, said.as_str()), (Code::Draining, "the node stops"));
        assert_eq!(stop.await.unwrap().1, 1);
    });
}
