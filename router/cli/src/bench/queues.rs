//! The figures of queues: what they hold, how they come back, and what work beside them costs.
//!
//! These need more than a plan says: a node that is filled, killed and started again, work behind a
//! publisher's back. Each starts a node of its own.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use waypost_client::{BatchTicket, Client, ConsumerOptions, PublisherOptions, Slab, Start};

use waypost_client::wire::data::Range;

use super::compare::Bench;
use super::load::{self, QUEUE};
use super::plan::{Kind, Mode, Plan};
use super::stamp::{Shape, Source};
use super::suite::{Figure, Mark};
use super::target::{Connect, Setup, Target};

/// What a queue of the figures holds.
const MILLION: u64 = 1_000_000;
/// Messages of the figure that writes many queues, over all of them.
const SPREAD_MESSAGES: u64 = 400_000;
/// Unconfirmed messages while a queue is filled.
const FILL_WINDOW: u64 = 16_384;
/// Messages that get an ack state of their own: every other one is acked.
const OUT_OF_ORDER: u64 = 200_000;
/// After so long a node has given back what the load needed.
const AT_REST: Duration = Duration::from_secs(8);
/// Bytes of the WAL that a start reads at most.
const WAL_BYTES: usize = 64 << 20;
/// A backlog for one that catches up, far beyond the node's cache.
const BACKLOG: u64 = 4 * MILLION;
/// The rate of a publisher beside other work, messages a second.
const BESIDE_RATE: f64 = 100_000.0;

/// The groups' kinds against `shared`, with a thousand keys.
pub fn kinds(bench: &Bench, length: Duration) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (kind, receivers) in [(Kind::Exclusive, 1), (Kind::Key, 1), (Kind::Key, 4)] {
        let plan = Plan {
            keys: 1000,
            receivers,
            window: 4096,
            ..Plan::stored(1, 128, length)
        };
        let other = Plan {
            kind,
            ..plan.clone()
        };
        let (mut node, mut shared) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            for (plan, rates) in [(&other, &mut node), (&plan, &mut shared)] {
                rates.push(bench.node(plan, &Setup::default())?.rates.delivered);
            }
        }
        let name = match kind {
            Kind::Exclusive => "group 'exclusive'".to_owned(),
            _ => format!("group 'key', 1,000 keys, 1→{receivers}"),
        };
        figures.push(Figure::ratio(
            name,
            "msg/s",
            node,
            ("group 'shared'", shared),
            Mark::AtLeast(0.8),
        ));
    }
    Ok(figures)
}

/// What a producer costs: the same stored load with and without.
pub fn producer(bench: &Bench, length: Duration) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for payload_bytes in [128, 1024] {
        let plain = Plan {
            window: 4096,
            ..Plan::stored(1, payload_bytes, length)
        };
        let produced = Plan {
            producer: true,
            ..plain.clone()
        };
        let (mut node, mut without) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            for (plan, rates) in [(&produced, &mut node), (&plain, &mut without)] {
                rates.push(bench.node(plan, &Setup::default())?.rates.delivered);
            }
        }
        figures.push(Figure::ratio(
            format!("stored 1→1, {payload_bytes} B, by a producer"),
            "msg/s",
            node,
            ("without a producer", without),
            Mark::AtLeast(0.95),
        ));
    }
    Ok(figures)
}

/// A million messages in a queue, a tenth of them acked out of order: memory, and the time of a
/// start after the process was killed.
pub fn million(bench: &Bench) -> Result<Vec<Figure>> {
    let plan = Plan::stored(1, 128, Duration::ZERO);
    let (mut memory, mut acked, mut reopened) = (Vec::new(), Vec::new(), Vec::new());
    let (mut scans, mut empty_ms) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let dir = bench.temporary()?;
        drop(Target::node(dir.path(), &plan, &Setup::default())?);
        let target = Target::node_again(dir.path())?;
        let empty = target.ready.as_secs_f64() * 1e3;
        std::thread::sleep(Duration::from_millis(500));
        let rss = |target: &Target| -> Result<f64> {
            let process = target.process.as_ref().context("no process")?;
            Ok(process.usage()?.rss_bytes() as f64 / 1e6)
        };
        let idle = rss(&target)?;
        block(target.connect(), async |client| {
            let group = ConsumerOptions::new(QUEUE, "g");
            client.consumer(group).await?.close().await?;
            fill(&client, MILLION, |_| "bench/0".to_owned(), 1).await?;
            Ok(())
        })?;
        std::thread::sleep(AT_REST);
        memory.push(rss(&target)? - idle);
        block(target.connect(), async |client| {
            ack_every_other(&client, OUT_OF_ORDER).await
        })?;
        std::thread::sleep(AT_REST);
        acked.push(rss(&target)? - idle);
        drop(target);
        let again = Target::node_again(dir.path())?;
        reopened.push(again.ready.as_secs_f64() * 1e3);
        let state = block(again.connect(), async |client| {
            Ok(client.queue_info(QUEUE).await?)
        })?;
        if state.next_offset != MILLION {
            bail!("{} of a million messages are there", state.next_offset);
        }
        empty_ms.push(empty);
        scans.push(scan_ms());
    }
    let scan = super::compare::median(scans.iter().copied());
    let beyond = reopened
        .iter()
        .zip(&empty_ms)
        .map(|(full, empty)| full - empty);
    Ok(vec![
        Figure::value(
            "a million queued messages of 128 B, resident over idle",
            "MB",
            memory,
            Mark::AtMost(20.0),
        ),
        Figure::value(
            "the same with 100,000 of them acked out of order",
            "MB",
            acked,
            Mark::AtMost(20.0),
        ),
        Figure::value(
            format!(
                "start after kill -9 with them, beyond that of an empty node (64 MiB are scanned in {scan:.0} ms)"
            ),
            "ms",
            beyond.collect(),
            Mark::AtMost(50.0 + scan),
        ),
    ])
}

/// A hundred queues that are written in turn, against one, by the time that it takes.
pub fn spread(bench: &Bench) -> Result<Vec<Figure>> {
    let time = |queues: u64| -> Result<f64> {
        let dir = bench.temporary()?;
        let mut more = String::new();
        for queue in 0..queues {
            let _ = write!(
                more,
                "\n[[queue]]\nname = \"q{queue}\"\nfrom = [\"bench/q{queue}\"]\n"
            );
        }
        let setup = Setup {
            threads: bench.threads,
            more,
            ..Setup::default()
        };
        let plan = Plan {
            mode: Mode::Live,
            ..Plan::live(128, Duration::ZERO)
        };
        let target = Target::node(dir.path(), &plan, &setup)?;
        block(target.connect(), async |client| {
            let topic = |index: u64| format!("bench/q{index}");
            let took = fill(&client, SPREAD_MESSAGES, topic, queues).await?;
            Ok(took.as_secs_f64() * 1e3)
        })
    };
    let (mut many, mut one) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        many.push(time(100)?);
        one.push(time(1)?);
    }
    Ok(vec![Figure::ratio(
        "100 queues written in turn, time for 400,000 messages",
        "ms",
        many,
        ("one queue", one),
        Mark::AtMost(1.3),
    )])
}

/// One that catches up with a backlog far beyond the cache, against the floor's rate; and what a
/// publisher to another queue feels of it.
pub fn catch_up(bench: &Bench, length: Duration) -> Result<Vec<Figure>> {
    let (mut rates, mut floor) = (Vec::new(), Vec::new());
    let (mut beside, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let dir = bench.temporary()?;
        let setup = Setup {
            threads: bench.threads,
            more: "\n[[queue]]\nname = \"behind\"\nfrom = [\"behind\"]\nbytes_max = \"16GiB\"\n\n\
                   [limits]\ncache_bytes = \"8MiB\"\n"
                .to_owned(),
            ..Setup::default()
        };
        let plan = Plan {
            rate: Some(BESIDE_RATE),
            window: 65_536,
            ..Plan::stored(1, 128, length)
        };
        let target = Target::node(dir.path(), &plan, &setup)?;
        block(target.connect(), async |client| {
            let group = ConsumerOptions::new("behind", "g");
            client.consumer(group).await?.close().await?;
            fill(&client, BACKLOG, |_| "behind".to_owned(), 1).await?;
            Ok(())
        })?;
        alone.push(load::run(&plan, &target)?.confirm.p99_us);
        let rate = block(target.connect(), async |client| {
            take(&client, "behind", BACKLOG / 2, None).await
        })?;
        rates.push(rate);
        let worker = Beside::start(target.connect(), async |client, stop| {
            take(&client, "behind", BACKLOG / 2, Some(stop)).await?;
            Ok(())
        })?;
        beside.push(load::run(&plan, &target)?.confirm.p99_us);
        worker.stop()?;
        drop(target);
        floor.push(bench.floor(&Plan::live(128, length))?.rates.delivered);
    }
    Ok(vec![
        Figure::ratio(
            "catching up with 4 million messages, cache of 8 MiB",
            "msg/s",
            rates,
            ("floor, live", floor),
            Mark::AtLeast(0.7),
        ),
        Figure::ratio(
            "confirm p99 at 100,000 msg/s beside one that catches up",
            "µs",
            beside,
            ("without it", alone),
            Mark::AtMost(2.0),
        ),
    ])
}

/// What a publisher feels of messages that are taken away in masses from other queues.
pub fn stalls(bench: &Bench, length: Duration) -> Result<Vec<Figure>> {
    let kinds: [(&str, &str); 3] = [
        ("purge", ""),
        ("expiry", "ttl = \"1s\"\nexpired = \"drop\"\n"),
        (
            "drop-oldest",
            "messages_max = 100000\nat_limit = \"drop-oldest\"\n",
        ),
    ];
    let mut figures = Vec::new();
    for (what, settings) in kinds {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            let plan = Plan {
                rate: Some(10_000.0),
                window: 65_536,
                ..Plan::stored(1, 128, length)
            };
            let setup = Setup {
                threads: bench.threads,
                more: format!(
                    "\n[[queue]]\nname = \"other\"\nfrom = [\"other\"]\nbytes_max = \"16GiB\"\n{settings}"
                ),
                ..Setup::default()
            };
            // The same messages come in both runs; only what becomes of them differs.
            let kept = Setup {
                more: setup.more.replace(settings, ""),
                ..setup.clone()
            };
            for (setup, is_purged, latencies) in [
                (&kept, false, &mut without),
                (&setup, what == "purge", &mut with),
            ] {
                let dir = bench.temporary()?;
                let target = Target::node(dir.path(), &plan, setup)?;
                let worker = Beside::start(target.connect(), async move |client, stop| {
                    while !stop.load(Relaxed) {
                        pour(&client, "other", 100_000.0, Duration::from_millis(500)).await?;
                        if is_purged {
                            client.queue_purge("other").await?;
                        }
                    }
                    Ok(())
                })?;
                latencies.push(load::run(&plan, &target)?.confirm.p999_us);
                worker.stop()?;
            }
        }
        figures.push(Figure::ratio(
            format!("confirm p99.9 at 10,000 msg/s beside {what} of 100,000 msg/s"),
            "µs",
            with,
            ("the same messages, kept", without),
            Mark::AtMost(2.0),
        ));
    }
    Ok(figures)
}

/// Runs something with a client on a runtime of its own.
pub(super) fn block<T>(connect: Connect, body: impl AsyncFnOnce(Client) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")?;
    runtime.block_on(async {
        let client = connect.connect().await.context("connecting")?;
        body(client).await
    })
}

/// Work on a thread of its own while something else is measured.
pub(super) struct Beside {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<()>>,
}

impl Beside {
    pub(super) fn start(
        connect: Connect,
        body: impl AsyncFnOnce(Client, Arc<AtomicBool>) -> Result<()> + Send + 'static,
    ) -> Result<Beside> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("bench-beside".into())
            .spawn(move || block(connect, async |client| body(client, stopped).await))
            .context("starting a thread")?;
        Ok(Beside { stop, thread })
    }

    pub(super) fn stop(self) -> Result<()> {
        self.stop.store(true, Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the thread beside panicked"))?
    }
}

/// Publishes `count` messages of 128 B as fast as it goes, a batch to each of `topics` topics in
/// turn, and waits for all confirms; how long it took.
async fn fill(
    client: &Client,
    count: u64,
    topic: impl Fn(u64) -> String,
    topics: u64,
) -> Result<Duration> {
    let options = PublisherOptions {
        name: "bench".to_owned(),
        window_messages: FILL_WINDOW as u32,
        ..PublisherOptions::default()
    };
    let publisher = client.publisher(options).await?;
    let mut sources: Vec<Source> = (0..topics)
        .map(|index| Source::new(Shape::Binary, &topic(index), index as u32, 128))
        .collect();
    let began = Instant::now();
    let mut under_way = VecDeque::new();
    let (mut made, mut turn) = (0, 0);
    while made < count {
        let batch = (count - made).min(256) as u32;
        while under_way.len() as u64 * 256 >= FILL_WINDOW {
            settle(&mut under_way).await?;
        }
        let slab: Slab = sources[turn].slab(batch, |_| 0);
        turn = (turn + 1) % sources.len();
        under_way.push_back(publisher.send_slab(&slab).await?);
        made += u64::from(batch);
    }
    while !under_way.is_empty() {
        settle(&mut under_way).await?;
    }
    let took = began.elapsed();
    publisher.close().await?;
    Ok(took)
}

/// Waits for the oldest batch, of which all must have been accepted.
pub(super) async fn settle(under_way: &mut VecDeque<BatchTicket>) -> Result<()> {
    if let Some(ticket) = under_way.pop_front()
        && let Some(exception) = ticket.await?.exceptions.first()
    {
        bail!(
            "a message was {}: {}",
            exception.kind.as_str(),
            exception.text
        );
    }
    Ok(())
}

/// Publishes at a rate for a time, in batches of 256, late ones at once.
async fn pour(client: &Client, topic: &str, rate: f64, time: Duration) -> Result<()> {
    let publisher = client.publisher(PublisherOptions::default()).await?;
    let mut source = Source::new(Shape::Binary, topic, 0, 128);
    let began = Instant::now();
    let mut under_way = VecDeque::new();
    while began.elapsed() < time {
        let due = began.elapsed().as_secs_f64() * rate;
        if (source.made() as f64) < due {
            under_way.push_back(publisher.send_slab(&source.slab(256, |_| 0)).await?);
            if under_way.len() > 64 {
                settle(&mut under_way).await?;
            }
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    while !under_way.is_empty() {
        settle(&mut under_way).await?;
    }
    publisher.close().await?;
    Ok(())
}

/// Consumes and acks `count` messages, or until told to stop; messages a second.
async fn take(
    client: &Client,
    queue: &str,
    count: u64,
    stop: Option<Arc<AtomicBool>>,
) -> Result<f64> {
    let options = ConsumerOptions {
        window_messages: 16_384,
        ..ConsumerOptions::new(queue, "g")
    };
    let mut consumer = client.consumer(options).await?;
    let began = Instant::now();
    let mut taken = 0;
    while taken < count && !stop.as_ref().is_some_and(|stop| stop.load(Relaxed)) {
        // It may be told to stop where nothing comes any more.
        let next = tokio::time::timeout(Duration::from_millis(100), consumer.next());
        let Ok(next) = next.await else {
            continue;
        };
        let Some(batch) = next? else {
            bail!("the consumer was closed");
        };
        taken += batch.iter().count() as u64;
        consumer.ack(&batch)?;
    }
    let rate = taken as f64 / began.elapsed().as_secs_f64();
    consumer.close().await?;
    Ok(rate)
}

/// Takes `count` messages and acks every other one, so that each has a state of its own.
async fn ack_every_other(client: &Client, count: u64) -> Result<()> {
    let options = ConsumerOptions {
        start: Start::Beginning,
        window_messages: 16_384,
        ..ConsumerOptions::new(QUEUE, "g")
    };
    let mut consumer = client.consumer(options).await?;
    let mut taken = 0;
    while taken < count {
        let batch = consumer.next().await?.context("the consumer was closed")?;
        let offsets: Vec<u64> = batch.iter().map(|delivery| delivery.offset).collect();
        let ranges = |offsets: &[u64], skip: usize| -> Vec<Range> {
            let every_other = offsets.iter().skip(skip).step_by(2);
            every_other.map(|offset| Range::one(*offset)).collect()
        };
        consumer.ack_ranges(batch.session(), ranges(&offsets, 0))?;
        let hour = Duration::from_secs(3600);
        consumer.nack(batch.session(), ranges(&offsets, 1), hour)?;
        taken += offsets.len() as u64;
    }
    consumer.close().await?;
    Ok(())
}

/// How long the checksums of as many bytes take as a start reads of the WAL.
fn scan_ms() -> f64 {
    let bytes = vec![0x5a_u8; WAL_BYTES];
    let began = Instant::now();
    std::hint::black_box(crc32c::crc32c(std::hint::black_box(&bytes)));
    began.elapsed().as_secs_f64() * 1e3
}
