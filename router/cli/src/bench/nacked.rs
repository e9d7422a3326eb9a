//! A message that is nacked whenever it comes, again and again, beside good ones of its group: what
//! the good ones feel of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use waypost_client::{Client, Consumer, ConsumerOptions, GroupKind, Message, PublisherOptions};

use super::compare::Bench;
use super::load::histogram;
use super::outcome::Latency;
use super::pace::{Pace, Schedule};
use super::plan::Plan;
use super::queues::{block, settle};
use super::stamp::{Shape, Source, Stamp, Tally};
use super::suite::{Figure, Mark};
use super::target::{Setup, Target};

/// Good messages a second.
const RATE: f64 = 10_000.0;
/// Their keys.
const KEYS: u32 = 1000;
const CONSUMERS: usize = 2;
/// Without a limit of attempts, without a wait between them.
const QUEUE: &str = "\n[[queue]]\nname = \"q\"\nfrom = [\"q\"]\ndeliver_max = 0\n";
/// The publisher that the nacked message says it is of.
const NACKED: u32 = u32::MAX;
/// It must have come so often, or nothing was measured.
const TIMES_MIN: u64 = 100;
/// How long the last messages may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The good messages' latency with and without one that is nacked at once whenever it comes.
pub fn nacked(bench: &Bench, length: Duration) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (kind, name) in [(GroupKind::Shared, "shared"), (GroupKind::Key, "key")] {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            without.push(run(bench, length, kind, false)?);
            with.push(run(bench, length, kind, true)?);
        }
        figures.push(Figure::ratio(
            format!("end to end p99 at 10,000 msg/s beside a message always nacked, '{name}'"),
            "µs",
            with,
            ("without it", without),
            Mark::AtMost(2.0),
        ));
    }
    Ok(figures)
}

/// One run; the good messages' p99 in µs.
fn run(bench: &Bench, length: Duration, kind: GroupKind, is_nacked: bool) -> Result<f64> {
    let dir = bench.temporary()?;
    let setup = Setup {
        threads: bench.threads,
        more: QUEUE.to_owned(),
        ..Setup::default()
    };
    let target = Target::node(dir.path(), &Plan::live(128, length), &setup)?;
    let clock = Instant::now();
    block(target.connect(), async |client| {
        let mut tasks = JoinSet::new();
        let stop = tokio::sync::watch::Sender::new(false);
        for _ in 0..CONSUMERS {
            let options = ConsumerOptions {
                kind,
                ..ConsumerOptions::new("q", "g")
            };
            let consumer = client.consumer(options).await?;
            tasks.spawn(take(consumer, clock, stop.subscribe()));
        }
        if is_nacked {
            let publisher = client.publisher(PublisherOptions::default()).await?;
            // Its stamp says the publisher that it is known by.
            let message = Message::new("q", vec![0xff; 128]).with_key("nacked");
            publisher.send(&message).await?.await?;
        }
        let made = publish(&client, length, clock).await?;
        let mut taken = Taken::default();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        // What is under way comes first; the group says when nothing good is left.
        while left(&client, is_nacked).await? {
            if tokio::time::Instant::now() > deadline {
                bail!("messages are held back beside one that is nacked");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let _ = stop.send(true);
        while let Some(done) = tasks.join_next().await {
            taken.merge(done??)?;
        }
        if let Some(fault) = taken.tally.fault(made, 1) {
            bail!("{fault}");
        }
        if is_nacked && taken.nacked < TIMES_MIN {
            bail!("the nacked message came {} times", taken.nacked);
        }
        Ok(Latency::of(&taken.latency).p99_us)
    })
}

/// Whether good messages are not acked yet.
async fn left(client: &Client, is_nacked: bool) -> Result<bool> {
    let state = client.queue_info("q").await?;
    let pending = state.groups.first().map_or(0, |group| group.pending);
    Ok(pending > u64::from(is_nacked))
}

async fn publish(client: &Client, length: Duration, clock: Instant) -> Result<u64> {
    let publisher = client.publisher(PublisherOptions::default()).await?;
    let mut source = Source::keyed(Shape::Binary, "q", 0, 128, KEYS);
    let schedule = Schedule::new(clock.elapsed().as_nanos() as u64, RATE);
    let pace = Pace::new(schedule, clock)?;
    let count = (length.as_secs_f64() * RATE) as u64;
    let mut under_way = VecDeque::new();
    while source.made() < count {
        pace.until(source.made()).await?;
        let due = schedule
            .due_by(clock.elapsed().as_nanos() as u64)
            .min(count);
        let due = (due - source.made()).min(256) as u32;
        let slab = source.slab(due, |sequence| schedule.due_ns(sequence));
        under_way.push_back(publisher.send_slab(&slab).await?);
        while under_way.len() > 256 {
            settle(&mut under_way).await?;
        }
    }
    while !under_way.is_empty() {
        settle(&mut under_way).await?;
    }
    publisher.close().await?;
    Ok(count)
}

/// What one consumer saw.
struct Taken {
    latency: Histogram<u64>,
    tally: Tally,
    nacked: u64,
}

impl Default for Taken {
    fn default() -> Self {
        Taken {
            latency: histogram(),
            tally: Tally::default(),
            nacked: 0,
        }
    }
}

impl Taken {
    fn merge(&mut self, other: Taken) -> Result<()> {
        self.latency.add(&other.latency)?;
        self.tally.merge(&other.tally);
        self.nacked += other.nacked;
        Ok(())
    }
}

/// Acks what is good and nacks what is not.
async fn take(
    mut consumer: Consumer,
    clock: Instant,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> Result<Taken> {
    let mut seen = Taken::default();
    loop {
        let batch = tokio::select! {
            batch = consumer.next() => batch?,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let batch = batch.ok_or_else(|| anyhow!("a consumer was closed"))?;
        let now = clock.elapsed().as_nanos() as u64;
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for delivery in batch.iter() {
            let range = waypost_client::Range::one(delivery.offset);
            match Stamp::read(Shape::Binary, delivery.body) {
                Some(stamp) if stamp.publisher != NACKED => {
                    let passed = now.saturating_sub(stamp.meant_ns);
                    seen.latency.saturating_record(passed);
                    seen.tally.add(stamp.sequence);
                    good.push(range);
                }
                _ => bad.push(range),
            }
        }
        seen.nacked += bad.len() as u64;
        if !bad.is_empty() {
            consumer.nack(batch.session(), bad, Duration::ZERO)?;
        }
        if !good.is_empty() {
            consumer.ack_ranges(batch.session(), good)?;
        }
    }
    consumer.close().await?;
    Ok(seen)
}
