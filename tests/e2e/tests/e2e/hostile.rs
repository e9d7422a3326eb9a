//! Hostile guests beside good ones, at load: the good ones' messages all arrive, once and in order,
//! and each guilty one is explained.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use waypost_client::wire::slab::SlabBuilder;
use waypost_client::{Client, Message};

use crate::harness::{self, Setup, peek_all, repository};

/// What the hostile guest is told to do in turn; `pass` is innocent.
const ORDERS: [&str; 12] = [
    "trap",
    "pass",
    "loop",
    "pass",
    "hog",
    "recurse",
    "emit 20 100000",
    "short",
    "log 400",
    "long",
    "topic $sys/x",
    "internal",
];
const ROUNDS: usize = 5;
/// Good messages of one batch.
const BATCH: u64 = 64;

/// A good plugin and a hostile one, each with a route and a queue of its own.
fn config() -> String {
    let file = repository("tests/fixtures/plugins/puppet.wasm");
    let each = ["good", "bad"].map(|name| {
        format!(
            "[[queue]]\nname = \"{name}\"\n\
             [[plugin]]\nname = \"{name}\"\nfile = {file:?}\nrole = \"transform\"\n\
             limits = {{ memory_bytes = \"8MiB\", output_bytes = \"1MiB\", deadline = \"20ms\" }}\n\
             breaker = {{ failures = 1000 }}\n\
             [[route]]\nname = \"by-{name}\"\nfrom = \"{name}/#\"\nthrough = [\"{name}\"]\n\
             to = [\"queue:{name}\"]\n"
        )
    });
    each.concat()
}

fn order(topic: &str, payload: String, what: &str) -> Message {
    Message::new(topic, payload).with_header("do", what.to_owned())
}

/// Publishes good batches until told to stop; gives how many messages, and how long each batch
/// took to be confirmed.
async fn good(
    client: &Client,
    first: u64,
    stop: &tokio::sync::watch::Receiver<bool>,
) -> (u64, Vec<Duration>) {
    let publisher = client.publisher(Default::default()).await.unwrap();
    let (mut sent, mut took) = (first, Vec::new());
    // As many in any case that a figure means something.
    while !*stop.borrow() || took.len() < 50 {
        let began = Instant::now();
        let mut tickets = Vec::new();
        for number in sent..sent + BATCH {
            let message = order("good/x", number.to_string(), "pass");
            tickets.push(publisher.send(&message).await.unwrap());
        }
        sent += BATCH;
        for ticket in tickets {
            assert_eq!(ticket.await.unwrap().exception, None);
        }
        took.push(began.elapsed());
    }
    publisher.close().await.unwrap();
    (sent, took)
}

/// Gives the hostile guest its orders; says how many messages.
async fn bad(client: &Client) -> u64 {
    let publisher = client.publisher(Default::default()).await.unwrap();
    let mut sent = 0;
    for _ in 0..ROUNDS {
        let mut tickets = Vec::new();
        for what in ORDERS {
            let message = order("bad/x", format!("{sent} {what}"), what);
            tickets.push(publisher.send(&message).await.unwrap());
            sent += 1;
        }
        for ticket in tickets {
            ticket.await.unwrap();
        }
    }
    publisher.close().await.unwrap();
    sent
}

fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[(took.len() * 99 / 100).min(took.len() - 1)]
}

#[test]
fn a_hostile_guest_hurts_only_its_own_messages_at_load() {
    harness::run(async {
        let node = Setup::new(&config()).start().await;
        let (quick, hostile) = (node.client().await, node.client().await);
        let (stop, stopped) = tokio::sync::watch::channel(true);
        let (alone, before) = good(&quick, 0, &stopped).await;
        stop.send_replace(false);
        let attack = async {
            let sent = bad(&hostile).await;
            stop.send_replace(true);
            sent
        };
        let ((all, beside), attacks) = tokio::join!(good(&quick, alone, &stopped), attack);
        println!(
            "a good batch confirmed, p99: {:?} alone, {:?} beside {attacks} orders",
            p99(before),
            p99(beside)
        );

        let held = peek_all(&quick, "good").await;
        assert_eq!(held.len() as u64, all, "each once");
        for (n, (_, message)) in held.iter().enumerate() {
            assert_eq!(message.payload, n.to_string(), "in order");
        }
        // Of the others, each is in its queue or explained.
        let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
        let dead = peek_all(&quick, "dead-letter").await;
        for (_, message) in &dead {
            let header = |name: &str| {
                let found = message.headers.iter().find(|(n, _)| n == name);
                found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            };
            assert_eq!(header("waypost-dead-plugin").as_deref(), Some("bad"));
            let reason = header("waypost-dead-reason").unwrap_or_default();
            let kind = reason.split(':').next().unwrap_or_default().to_owned();
            assert!(!kind.is_empty(), "{message:?}");
            *reasons.entry(kind).or_default() += 1;
        }
        println!("dead letters: {reasons:?}");
        let kept = harness::queue(&quick, "bad").await.messages;
        assert_eq!(kept + dead.len() as u64, attacks);
        for kind in ["trap", "deadline"] {
            assert!(reasons.contains_key(kind), "{reasons:?}");
        }
        node.stop().await;
    });
}

/// Two routes to one queue, of which one leads through a plugin that has orders to obey.
fn mixed() -> String {
    let file = repository("tests/fixtures/plugins/puppet.wasm");
    format!(
        "[[queue]]\nname = \"q\"\nfrom = [\"plain/#\"]\n\
         [[plugin]]\nname = \"good\"\nfile = {file:?}\nrole = \"transform\"\n\
         [[plugin]]\nname = \"bad\"\nfile = {file:?}\nrole = \"transform\"\n\
         limits = {{ deadline = \"20ms\" }}\nbreaker = {{ failures = 1000 }}\n\
         [[route]]\nname = \"by-good\"\nfrom = \"good/#\"\nthrough = [\"good\"]\n\
         to = [\"queue:q\"]\n\
         [[route]]\nname = \"by-bad\"\nfrom = \"bad/#\"\nthrough = [\"bad\"]\nto = [\"queue:q\"]\n"
    )
}

/// How long the bad slot is apart yet, and how many instances it has.
async fn apart(client: &Client) -> (u64, u32) {
    let detail = client.plugins().info("bad").await.unwrap();
    (detail.apart_ms, detail.state.unwrap().instances)
}

#[test]
fn batches_that_go_apart_and_come_back_keep_their_order() {
    harness::run(async {
        let node = Setup::new(&mixed()).start().await;
        let client = node.client().await;
        let publisher = client.publisher(Default::default()).await.unwrap();
        let mut sent = 0;
        let mut send_some = async |is_first: bool| {
            let mut tickets = Vec::new();
            if is_first {
                let looping = order("bad/x", "loop".into(), "loop");
                tickets.push(publisher.send(&looping).await.unwrap());
            }
            for topic in ["good/x", "bad/x", "plain/x"].iter().cycle().take(30) {
                let message = order(topic, sent.to_string(), "pass");
                sent += 1;
                tickets.push(publisher.send(&message).await.unwrap());
            }
            tickets
        };
        let mut tickets = send_some(true).await;
        let confirmed = tickets.remove(0).await.unwrap();
        assert!(confirmed.exception.is_some(), "the loop is dead-lettered");
        let (ms, instances) = apart(&client).await;
        assert!(ms > 0, "it took more than its share");
        assert_eq!(instances, 1, "its own worker has none any more");
        // On and on with some always under way, over the moment at which its batches come back, and
        // further.
        let mut tickets = VecDeque::from(tickets);
        let mut after = 0;
        while after < 20 {
            tickets.extend(send_some(false).await);
            after += u32::from(apart(&client).await == (0, 2));
            while tickets.len() > 300 {
                let ticket = tickets.pop_front().unwrap();
                assert_eq!(ticket.await.unwrap().exception, None);
            }
        }
        for ticket in tickets {
            assert_eq!(ticket.await.unwrap().exception, None);
        }
        let held = peek_all(&client, "q").await;
        assert_eq!(held.len(), sent);
        for (n, (_, message)) in held.iter().enumerate() {
            assert_eq!(message.payload, n.to_string(), "in order");
        }
        node.stop().await;
    });
}

/// What a plugin with state may see stays with its worker: batches for it wait for those of their
/// publisher that are apart.
#[test]
fn batches_for_a_plugin_with_state_wait_for_those_that_are_apart() {
    harness::run(async {
        let file = repository("tests/fixtures/plugins/puppet-effects.wasm");
        let config = format!(
            "{}[[plugin]]\nname = \"counts\"\nfile = {file:?}\nrole = \"transform\"\n\
             grants = [\"log\", \"clock\", \"random\", \"state\", \"publish\", \"timer\"]\n\
             publish = [\"none\"]\n\
             [[route]]\nname = \"by-count\"\nfrom = \"count/#\"\nthrough = [\"counts\"]\n\
             to = [\"queue:q\"]\n",
            mixed()
        );
        let node = Setup::new(&config).start().await;
        let client = node.client().await;
        let publisher = client.publisher(Default::default()).await.unwrap();
        let (mut tickets, mut sent) = (Vec::new(), 0);
        for round in 0..200 {
            // A batch of its own for each topic, so that some may go apart.
            for (topic, what) in [
                ("bad/x", "pass"),
                ("good/x", "pass"),
                ("count/x", "add n 1"),
            ] {
                let what = match (topic, round % 50) {
                    ("bad/x", 0) => "loop",
                    _ => what,
                };
                let mut slab = SlabBuilder::new();
                for _ in 0..40 {
                    slab.push_message(&order(topic, sent.to_string(), what));
                    sent += 1;
                    if what == "loop" {
                        break;
                    }
                }
                tickets.push(publisher.send_slab(&slab.finish()).await.unwrap());
            }
        }
        for ticket in tickets {
            ticket.await.unwrap();
        }
        let held = peek_all(&client, "q").await;
        let dead = harness::queue(&client, "dead-letter").await.messages;
        assert_eq!(dead, 4, "the loops");
        assert_eq!(held.len() as u64 + dead, sent);
        let numbers = held.iter().map(|(_, message)| harness::text(message));
        let numbers: Vec<u64> = numbers.map(|text| text.parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "in order");
        node.stop().await;
    });
}

#[test]
fn others_do_not_wait_while_a_batch_runs_into_its_limits() {
    harness::run(async {
        let node = Setup::new(&mixed()).start().await;
        let (quick, hostile) = (node.client().await, node.client().await);
        let attacker = hostile.publisher(Default::default()).await.unwrap();
        let mut tickets = Vec::new();
        for n in 0..50 {
            let message = order("bad/x", n.to_string(), "loop");
            tickets.push(attacker.send(&message).await.unwrap());
        }
        let attack = async {
            for ticket in tickets {
                ticket.await.unwrap();
            }
        };
        let publisher = quick.publisher(Default::default()).await.unwrap();
        let mut confirmed = 0;
        let good = async {
            // More would not say more; the looping goes on only where nobody else wants the core.
            while confirmed < 100 {
                let message = order("good/x", String::new(), "pass");
                let ticket = publisher.send(&message).await.unwrap();
                assert_eq!(ticket.await.unwrap().exception, None);
                confirmed += 1;
            }
        };
        tokio::select! {
            () = attack => {}
            () = good => {}
        }
        // They share the one worker: one by one, no more than a few could have been.
        assert!(confirmed >= 10, "{confirmed} while a second was looped");
        node.stop().await;
    });
}
