//! SIGKILL under load, again and again: nothing confirmed is lost, order holds, nothing comes twice
//! but what its publisher sent twice, and an ack that was synced stays.
//!
//! The short form is part of every test run; the long one is `--ignored`. `WAYPOST_SEED` repeats
//! the choices of a run (how much is sent in which batches before the kill), not its timing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tempfile::TempDir;
use tokio::sync::Notify;
use waypost_client::wire::slab::SlabBuilder;
use waypost_client::{Client, Level, Message};

use crate::child::Child;
use crate::harness::{self, Dice, consumer, peek_all, text};

const SECTIONS: &str = r#"
[[queue]]
name = "q"
from = ["load/#"]
ack_deadline = "1m"
deliver_max = 0
"#;
const PRODUCERS: usize = 2;
/// After so many rounds the queue is emptied, so that a long run stays quick.
const PURGE_ROUNDS: u32 = 20;

#[test]
fn kill_short() {
    rounds(50);
}

/// `cargo test -p waypost-e2e kill_long -- --ignored`: four minutes.
#[test]
#[ignore = "takes minutes"]
fn kill_long() {
    rounds(1000);
}

fn rounds(count: u32) {
    let dice = Dice::of_environment();
    let home = TempDir::with_prefix("waypost-kill-").unwrap();
    let model = Rc::new(RefCell::new(Model::new(dice)));
    for round in 0..count {
        harness::run(one_round(home.path(), &model, round));
    }
    harness::run(last_look(home.path(), &model));
}

/// What a producer knows.
#[derive(Default)]
struct Producer {
    /// All below are confirmed.
    confirmed: u64,
    /// Where its streams began: only from there may anything come a second time.
    starts: BTreeSet<u64>,
}

/// Everything that the clients remember over all rounds.
struct Model {
    dice: Dice,
    producers: Vec<Producer>,
    confirmed_in_round: u64,
    /// Offsets whose acks the node has said to be synced.
    settled: BTreeSet<u64>,
    /// What came at each offset.
    delivered: BTreeMap<u64, String>,
    /// Nothing below comes any more.
    purged: u64,
}

impl Model {
    fn new(dice: Dice) -> Model {
        Model {
            dice,
            producers: (0..PRODUCERS).map(|_| Producer::default()).collect(),
            confirmed_in_round: 0,
            settled: BTreeSet::new(),
            delivered: BTreeMap::new(),
            purged: 0,
        }
    }

    fn on_delivery(&mut self, offset: u64, payload: String) {
        assert!(
            !self.settled.contains(&offset),
            "offset {offset} came again after its ack was synced"
        );
        assert!(offset >= self.purged, "offset {offset} was purged");
        let before = self.delivered.insert(offset, payload.clone());
        assert!(
            before.as_ref().is_none_or(|b| *b == payload),
            "offset {offset} was {before:?} and is {payload:?}"
        );
    }

    /// The queue's content after a kill against what was confirmed.
    fn check(&self, content: &[(u64, Message)]) {
        let mut last: Vec<Option<u64>> = vec![None; PRODUCERS];
        for (offset, message) in content {
            assert!(*offset >= self.purged, "offset {offset} was purged");
            let (producer, n) = parse(&text(message));
            let starts = &self.producers[producer].starts;
            let follows = match last[producer] {
                Some(before) => n == before + 1 || (n <= before && starts.contains(&n)),
                None => starts.contains(&n),
            };
            assert!(
                follows,
                "producer {producer}: {n} after {:?} at offset {offset}; streams began at {starts:?}",
                last[producer]
            );
            last[producer] = Some(n);
            if let Some(seen) = self.delivered.get(offset) {
                assert_eq!(seen, &text(message), "offset {offset} has changed");
            }
        }
        for (index, producer) in self.producers.iter().enumerate() {
            // Without gaps, the highest stands for all.
            let highest = content
                .iter()
                .map(|(_, message)| parse(&text(message)))
                .filter(|(from, _)| *from == index)
                .map(|(_, n)| n + 1)
                .max()
                .unwrap_or_else(|| producer.starts.last().copied().unwrap_or_default());
            assert!(
                highest >= producer.confirmed,
                "producer {index}: confirmed below {}, there below {highest}",
                producer.confirmed
            );
        }
    }
}

fn parse(payload: &str) -> (usize, u64) {
    let (producer, n) = payload.split_once(':').unwrap();
    (producer.parse().unwrap(), n.parse().unwrap())
}

type Shared = Rc<RefCell<Model>>;

/// Opens what the last kill left, checks it, loads it, kills it.
async fn one_round(home: &std::path::Path, model: &Shared, round: u32) {
    let child = Child::start(home, SECTIONS).await;
    let client = child.client().await;
    // A group that never acks holds everything for the check.
    consumer(&client, "q", "audit").await.close().await.unwrap();
    look(&client, model).await;
    if round % PURGE_ROUNDS == PURGE_ROUNDS - 1 {
        client.queue_purge("q").await.unwrap();
        let next = harness::queue(&client, "q").await.next_offset;
        model.borrow_mut().purged = next;
    }
    model.borrow_mut().confirmed_in_round = 0;
    let target = model.borrow_mut().dice.pick(600);
    let progress = Rc::new(Notify::new());
    let local = tokio::task::LocalSet::new();
    for producer in 0..PRODUCERS {
        let client = child.client().await;
        local.spawn_local(produce(client, model.clone(), producer, progress.clone()));
    }
    let client = child.client().await;
    local.spawn_local(consume(client.clone(), model.clone(), 1000));
    local.spawn_local(consume(client, model.clone(), 3));
    let until_target = async {
        while model.borrow().confirmed_in_round < target {
            progress.notified().await;
        }
    };
    local.run_until(until_target).await;
    // What the clients still learn while it dies is as true as what they learned before. Then they
    // go too: without a goodbye they would wait for the dead node until QUIC's idle timeout.
    local.run_until(child.kill()).await;
    drop(local);
}

async fn look(client: &Client, model: &Shared) {
    let content = peek_all(client, "q").await;
    model.borrow().check(&content);
}

/// Publishes from the first unconfirmed on, until the connection is gone.
async fn produce(client: Client, model: Shared, index: usize, progress: Rc<Notify>) {
    let mut next = {
        let mut model = model.borrow_mut();
        let producer = &mut model.producers[index];
        let start = producer.confirmed;
        producer.starts.insert(start);
        start
    };
    let Ok(publisher) = client.publisher(Default::default()).await else {
        return;
    };
    let (tickets, mut confirms) = tokio::sync::mpsc::unbounded_channel();
    let confirmed = async {
        while let Some((ticket, end)) = confirms.recv().await {
            let ticket: waypost_client::BatchTicket = ticket;
            let Ok(confirmed) = ticket.await else { return };
            assert_eq!(confirmed.level, Level::Stored);
            assert_eq!(confirmed.exceptions, []);
            let mut model = model.borrow_mut();
            model.confirmed_in_round += end - model.producers[index].confirmed;
            model.producers[index].confirmed = end;
            progress.notify_one();
        }
    };
    let send = async {
        loop {
            let count = model.borrow_mut().dice.pick(12);
            let mut slab = SlabBuilder::new();
            for n in next..next + count {
                let topic = format!("load/{index}");
                slab.push_message(&Message::new(topic, format!("{index}:{n}")));
            }
            next += count;
            match publisher.send_slab(&slab.finish()).await {
                Ok(ticket) => drop(tickets.send((ticket, next))),
                Err(_) => return,
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(send, confirmed);
}

/// Takes and acks; after so many batches it closes, which makes sure of its acks, and begins anew.
async fn consume(client: Client, model: Shared, batches: u32) {
    loop {
        let Ok(mut consumer) = client
            .consumer(waypost_client::ConsumerOptions::new("q", "work"))
            .await
        else {
            return;
        };
        let mut acked = Vec::new();
        for _ in 0..batches {
            let Ok(Some(batch)) = consumer.next().await else {
                return;
            };
            for delivery in batch.iter() {
                let message = delivery.record().unwrap().to_message();
                model
                    .borrow_mut()
                    .on_delivery(delivery.offset, text(&message));
                acked.push(delivery.offset);
            }
            if consumer.ack(&batch).is_err() {
                return;
            }
        }
        if consumer.close().await.is_err() {
            return;
        }
        model.borrow_mut().settled.extend(acked);
    }
}

/// After the last kill: everything that is there reaches a consumer.
async fn last_look(home: &std::path::Path, model: &Shared) {
    let child = Child::start(home, SECTIONS).await;
    let client = child.client().await;
    look(&client, model).await;
    let content = peek_all(&client, "q").await;
    let mut work = consumer(&client, "q", "work").await;
    let mut pending = harness::group(&client, "q", "work").await.pending;
    while pending > 0 {
        for taken in harness::take(&mut work, 1).await {
            model.borrow_mut().on_delivery(taken.offset, taken.text());
            harness::ack(&work, &[taken]);
            pending -= 1;
        }
    }
    work.close().await.unwrap();
    client.close().await;
    child.stop().await;
    let model = model.borrow();
    for (offset, _) in &content {
        assert!(
            model.delivered.contains_key(offset),
            "offset {offset} never reached a consumer"
        );
    }
    assert!(content.len() as u64 >= model.confirmed_in_round);
}
