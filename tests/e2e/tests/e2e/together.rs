//! Consume, transform, produce: outputs and acks in one transaction, across kills and reconnects.

use std::cell::Cell;
use std::collections::BTreeMap;

use tempfile::TempDir;
use waypost_client::wire::Code;
use waypost_client::{
    Client, Error, ExceptionKind, Level, Message, ProducerOptions, Publisher, PublisherOptions,
};

use crate::child::Child;
use crate::harness::{self, Setup};

const QUEUES: &str = "[[queue]]\nname = \"in\"\nfrom = [\"in/#\"]\n\
     [[queue]]\nname = \"out\"\nfrom = [\"out/#\"]\n\
     [[queue]]\nname = \"log\"\nfrom = [\"log/#\"]\n";
const INPUTS: usize = 600;

async fn transformer(client: &Client) -> Result<Publisher, Error> {
    let options = PublisherOptions {
        producer: Some(ProducerOptions::named("transformer")),
        ..PublisherOptions::default()
    };
    client.publisher(options).await
}

/// Takes from `in`, puts the same into `out` and `log` with the ack, until the node is gone or
/// nothing is left. Says how many were confirmed.
async fn transform(client: &Client, done: &Cell<usize>) -> Result<(), Error> {
    let publisher = transformer(client).await?;
    let mut consumer = client
        .consumer(waypost_client::ConsumerOptions::new("in", "work"))
        .await?;
    while let Some(batch) = consumer.next().await? {
        // Three at a time, so that what a kill hits is of every kind.
        let all: Vec<_> = batch.iter().collect();
        let mut tickets = Vec::new();
        for some in all.chunks(3) {
            let mut outputs = Vec::new();
            for delivery in some {
                let payload = delivery.record().unwrap().payload().to_vec();
                outputs.push(Message::new("out/a", payload.clone()));
                outputs.push(Message::new("log/a", payload));
            }
            let ranges = some
                .iter()
                .map(|d| waypost_client::Range::one(d.offset))
                .collect();
            let acks = consumer.transaction_acks_ranges(batch.session(), ranges);
            tickets.push(publisher.transact(&outputs, &[acks]).await?);
        }
        for ticket in tickets {
            let confirmed = ticket.await?;
            assert_eq!(
                (confirmed.level, confirmed.exceptions),
                (Level::Stored, vec![])
            );
            done.set(done.get() + 1);
        }
    }
    Ok(())
}

async fn counts(client: &Client, queue: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (_, message) in harness::peek_all(client, queue).await {
        *counts.entry(harness::text(&message)).or_default() += 1;
    }
    counts
}

#[test]
fn each_input_has_its_outputs_once_however_often_the_node_is_killed() {
    harness::run(async {
        let home = TempDir::with_prefix("waypost-together-").unwrap();
        let mut is_filled = false;
        for round in 0.. {
            let child = Child::start(home.path(), QUEUES).await;
            let client = child.client().await;
            if !std::mem::replace(&mut is_filled, true) {
                harness::publish_all(&client, &harness::messages("in/a", INPUTS)).await;
            }
            let (out, log) = (counts(&client, "out").await, counts(&client, "log").await);
            assert_eq!(out, log, "after kill {round}: one transaction, two queues");
            assert!(out.values().all(|count| *count == 1), "{round}: {out:?}");
            let acked = match harness::queue(&client, "in").await.groups.first() {
                Some(group) => group.acked_below as usize,
                None => 0,
            };
            let outputs = (0..).take_while(|n: &usize| out.contains_key(&n.to_string()));
            assert_eq!(
                outputs.count(),
                acked,
                "after kill {round}: outputs without ack"
            );
            if out.len() == INPUTS {
                child.stop().await;
                return;
            }
            let done = Cell::new(0);
            let enough = async {
                let left = INPUTS - out.len();
                let target = left.div_ceil(3).min(10 + round * 7);
                while done.get() < target {
                    tokio::task::yield_now().await;
                }
            };
            let worker = child.client().await;
            tokio::select! {
                result = transform(&worker, &done) => panic!("ended early: {result:?}"),
                () = enough => {}
            }
            child.kill().await;
        }
    });
}

#[test]
fn what_is_not_held_any_more_is_a_conflict() {
    harness::run(async {
        let node = Setup::new(QUEUES).start().await;
        let client = node.client().await;
        harness::publish_all(&client, &harness::messages("in/a", 3)).await;
        let publisher = transformer(&client).await.unwrap();
        let mut consumer = harness::consumer(&client, "in", "work").await;
        let taken = harness::take(&mut consumer, 3).await;
        let output = [Message::new("out/a", "x"), Message::new("log/a", "x")];
        let acks =
            |n: usize| consumer.transaction_acks_ranges(taken[n].session, vec![taken[n].range()]);
        let first = publisher.transact(&output, &[acks(0)]).await.unwrap();
        assert_eq!(first.await.unwrap().exceptions, []);
        let again = publisher
            .transact(&output, &[acks(1), acks(0)])
            .await
            .unwrap();
        let said = again.await.unwrap().exceptions;
        let said: Vec<_> = said.iter().map(|e| (e.kind, e.code)).collect();
        assert_eq!(said, [(ExceptionKind::Refused, Code::Conflict); 2]);
        assert_eq!(counts(&client, "out").await.len(), 1);
        // Not acked by what was refused.
        let second = publisher.transact(&output[..1], &[acks(1)]).await.unwrap();
        assert_eq!(second.await.unwrap().exceptions, []);

        // Another client's consumers are none of this one's connection.
        let other = node.client().await;
        let foreign = other
            .publisher(PublisherOptions {
                producer: Some(ProducerOptions::named("another")),
                ..PublisherOptions::default()
            })
            .await
            .unwrap();
        let refused = foreign.transact(&output, &[acks(2)]).await.unwrap();
        let said = refused.await.unwrap().exceptions;
        assert!(said.iter().all(|e| e.code == Code::Conflict) && said.len() == 2);

        // Without a producer nobody could tell what became of it.
        let plain = client.publisher(Default::default()).await.unwrap();
        let error = plain.transact(&output, &[]).await.unwrap_err();
        assert!(matches!(error, Error::Transaction(_)), "{error}");
        let error = publisher.transact(&[], &[acks(2)]).await.unwrap_err();
        assert!(matches!(error, Error::Transaction(_)), "{error}");

        // A consumer that closes leaves what only a transaction would have acked.
        consumer.close().await.unwrap();
        assert_eq!(harness::group(&client, "in", "work").await.acked_below, 2);
        node.stop().await;
    });
}
