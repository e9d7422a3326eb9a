//! The figures of crowds: ten thousand queues, ten thousand consumers, and what each costs.
//!
//! A node that does something for all of them where it should do it for one shows here: the same
//! messages go over a tenth of the queues, or a hundredth of the consumers, in the run that it is
//! compared with.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tokio::task::JoinSet;
use waypost_client::wire::control::QueueSettings;
use waypost_client::wire::slab::SlabBuilder;
use waypost_client::{Client, Consumer, ConsumerOptions, Message, PublisherOptions};

use super::compare::Bench;
use super::plan::Plan;
use super::queues::{block, settle};
use super::suite::{Figure, Mark};
use super::target::{Connect, Setup, Target};

/// Connections over which consumers are spread.
const CONNECTIONS: u64 = 100;
/// Messages of 128 B for each of a crowd, in the run that is measured.
const EACH: u64 = 40;
/// Of those that wait when the node is killed.
const LEFT: u64 = 10;
/// Unconfirmed messages of the publisher.
const WINDOW: u64 = 16_384;
/// Messages that all consumers of a run may hold.
const HELD: u64 = 320_000;
/// Requests under way at once.
const AT_ONCE: u64 = 16;
/// How long a node is left alone before its memory is read.
const IDLE: Duration = Duration::from_millis(500);

/// Many queues: memory, rate, and the start after a kill.
pub fn queues(bench: &Bench, many: u64) -> Result<Vec<Figure>> {
    // Still so many that each message of a batch goes to another.
    let few = (many / 10).max(1);
    let messages = many * EACH;
    let (mut memory, mut ready) = (Vec::new(), Vec::new());
    let (mut rates, mut rates_few) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let dir = bench.temporary()?;
        let target = start(bench, dir.path(), "")?;
        let idle = resident(&target)?;
        block(target.connect(), async |client| add(&client, many).await)?;
        memory.push((resident(&target)? - idle) / many as f64 / 1e3);
        rates.push(through_queues(&target, many, messages)?);
        block(target.connect(), async |client| {
            scatter(&client, many, many * LEFT).await
        })?;
        drop(target);
        let again = Target::node_again(dir.path())?;
        ready.push(again.ready.as_secs_f64() * 1e3);
        let expected = (messages + many * LEFT, many * LEFT);
        let held = block(again.connect(), async |client| held(&client).await)?;
        if held != expected {
            bail!(
                "of {} messages {} are known, of {} left {} are there",
                expected.0,
                held.0,
                expected.1,
                held.1
            );
        }

        let dir = bench.temporary()?;
        let target = start(bench, dir.path(), "")?;
        block(target.connect(), async |client| add(&client, few).await)?;
        rates_few.push(through_queues(&target, few, messages)?);
    }
    Ok(vec![
        Figure::value(
            format!("{many} queues, resident for each"),
            "KB",
            memory,
            Mark::AtMost(10.0),
        ),
        Figure::ratio(
            format!("published to and consumed from {many} queues in turn"),
            "msg/s",
            rates,
            ("a tenth of the queues", rates_few),
            Mark::AtLeast(0.5),
        ),
        Figure::value(
            format!("start after kill -9 with {many} queues, {LEFT} messages in each"),
            "ms",
            ready,
            Mark::AtMost(1000.0),
        ),
    ])
}

/// Many consumers of one group: memory while nothing happens, and the rate over all of them.
pub fn consumers(bench: &Bench, many: u64) -> Result<Vec<Figure>> {
    let few = (many / 100).max(1);
    let queue = "\n[[queue]]\nname = \"q0\"\nfrom = [\"bench/q0\"]\n";
    let (mut memory, mut rates, mut rates_few) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        for (count, rates) in [(many, &mut rates), (few, &mut rates_few)] {
            let dir = bench.temporary()?;
            let target = start(bench, dir.path(), queue)?;
            let (each, rate) = block(target.connect(), async |client| {
                let connections = connections(&target.connect()).await?;
                let before = resident(&target)?;
                let consumers = attach(&connections, count, |_| 0).await?;
                let each = (resident(&target)? - before) / count as f64 / 1e3;
                Ok((each, carry(&client, 1, many * EACH, consumers).await?))
            })?;
            rates.push(rate);
            if count == many {
                memory.push(each);
            }
        }
    }
    Ok(vec![
        Figure::value(
            format!("{many} consumers over {CONNECTIONS} connections, resident for each"),
            "KB",
            memory,
            Mark::AtMost(10.0),
        ),
        Figure::ratio(
            format!("one queue to {many} consumers of one group"),
            "msg/s",
            rates,
            ("a hundredth of the consumers", rates_few),
            Mark::AtLeast(0.5),
        ),
    ])
}

fn start(bench: &Bench, dir: &std::path::Path, more: &str) -> Result<Target> {
    let setup = Setup {
        threads: bench.threads,
        more: format!("\n[limits]\nconnections = 1024\nstreams_per_connection = 1024\n{more}"),
        ..Setup::default()
    };
    Target::node(dir, &Plan::live(128, Duration::ZERO), &setup)
}

/// Memory of a node that is left alone for a moment, in bytes.
fn resident(target: &Target) -> Result<f64> {
    std::thread::sleep(IDLE);
    let process = target.process.as_ref().context("no process")?;
    Ok(process.usage()?.rss_bytes() as f64)
}

fn topic(queue: u64) -> String {
    format!("bench/q{queue}")
}

/// Makes durable queues over the network, each with a route of its own.
async fn add(client: &Client, count: u64) -> Result<()> {
    let next = AtomicU64::new(0);
    let work = async || -> Result<()> {
        loop {
            let queue = next.fetch_add(1, Relaxed);
            if queue >= count {
                return Ok(());
            }
            let settings = QueueSettings {
                from: vec![topic(queue)],
                ..QueueSettings::default()
            };
            client.queue_add(format!("q{queue}"), settings).await?;
        }
    };
    all((0..AT_ONCE).map(|_| work())).await
}

/// Awaits all in turn; all run meanwhile, for each waits for the node most of its time.
async fn all<F: Future<Output = Result<()>>>(work: impl Iterator<Item = F>) -> Result<()> {
    let mut work: Vec<_> = work.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        let mut failed = None;
        work.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(Ok(())) => false,
            std::task::Poll::Ready(Err(error)) => {
                failed = Some(error);
                false
            }
        });
        match failed {
            Some(error) => std::task::Poll::Ready(Err(error)),
            None if work.is_empty() => std::task::Poll::Ready(Ok(())),
            None => std::task::Poll::Pending,
        }
    })
    .await
}

/// Publishes `count` messages, each to the next of `queues` queues, as fast as it goes.
async fn scatter(client: &Client, queues: u64, count: u64) -> Result<()> {
    let bodies: Vec<_> = (0..queues)
        .map(|queue| Message::new(topic(queue), vec![0x5a; 128]).to_body())
        .collect();
    let options = PublisherOptions {
        window_messages: WINDOW as u32,
        ..PublisherOptions::default()
    };
    let publisher = client.publisher(options).await?;
    let mut under_way = VecDeque::new();
    let mut bodies = bodies.iter().cycle();
    let mut made = 0;
    while made < count {
        while under_way.len() as u64 * 256 >= WINDOW {
            settle(&mut under_way).await?;
        }
        let batch = (count - made).min(256);
        let mut slab = SlabBuilder::new();
        bodies
            .by_ref()
            .take(batch as usize)
            .for_each(|body| slab.push(body));
        under_way.push_back(publisher.send_slab(&slab.finish()).await?);
        made += batch;
    }
    while !under_way.is_empty() {
        settle(&mut under_way).await?;
    }
    publisher.close().await?;
    Ok(())
}

async fn connections(connect: &Connect) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(connect.connect().await?);
    }
    Ok(clients)
}

/// Opens `count` consumers, spread over the connections; the one with this number on this queue.
async fn attach(
    clients: &[Client],
    count: u64,
    queue: impl Fn(u64) -> u64,
) -> Result<Vec<Consumer>> {
    let mut consumers = Vec::new();
    for number in 0..count {
        let client = &clients[(number % clients.len() as u64) as usize];
        let options = ConsumerOptions {
            window_messages: (HELD / count).max(1),
            ..ConsumerOptions::new(format!("q{}", queue(number)), "g")
        };
        consumers.push(client.consumer(options).await?);
    }
    Ok(consumers)
}

/// Publishes `count` messages over `queues` queues to these consumers; messages a second until the
/// last was taken. Each must come once.
async fn carry(client: &Client, queues: u64, count: u64, consumers: Vec<Consumer>) -> Result<f64> {
    let taken = Arc::new(AtomicU64::new(0));
    let all_taken = Arc::new(tokio::sync::Notify::new());
    let mut tasks: JoinSet<Result<Consumer>> = JoinSet::new();
    let stop = tokio::sync::watch::Sender::new(false);
    for mut consumer in consumers {
        let (taken, all_taken) = (taken.clone(), all_taken.clone());
        let mut stop = stop.subscribe();
        tasks.spawn(async move {
            loop {
                let batch = tokio::select! {
                    batch = consumer.next() => batch?,
                    _ = stop.wait_for(|stop| *stop) => return Ok(consumer),
                };
                let batch = batch.ok_or_else(|| anyhow!("a consumer was closed"))?;
                consumer.ack(&batch)?;
                let here = u64::from(batch.len());
                if taken.fetch_add(here, Relaxed) + here >= count {
                    all_taken.notify_one();
                }
            }
        });
    }
    let began = Instant::now();
    scatter(client, queues, count).await?;
    tokio::time::timeout(Duration::from_secs(120), all_taken.notified())
        .await
        .with_context(|| format!("{} of {count} messages came", taken.load(Relaxed)))?;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    let _ = stop.send(true);
    while let Some(consumer) = tasks.join_next().await {
        consumer??.close().await?;
    }
    match taken.load(Relaxed) {
        all if all == count => Ok(rate),
        more => bail!("{more} deliveries of {count} messages"),
    }
}

/// A consumer on each queue, then messages through all of them.
fn through_queues(target: &Target, queues: u64, messages: u64) -> Result<f64> {
    block(target.connect(), async |client| {
        let connections = connections(&target.connect()).await?;
        let consumers = attach(&connections, queues, |number| number).await?;
        carry(&client, queues, messages, consumers).await
    })
}

/// Messages that all queues were ever given, and those that they hold.
async fn held(client: &Client) -> Result<(u64, u64)> {
    let queues = client.queue_list().await?.queues;
    let sum = |number: fn(&waypost_client::wire::control::QueueState) -> u64| {
        queues.iter().map(number).sum()
    };
    Ok((sum(|q| q.next_offset), sum(|q| q.messages)))
}
