//! The week, once through the router: a client publishes it, three consumers take and ack, a
//! subscriber watches.
//!
//! Everybody is a task on one thread and writes into one [`Tally`]. Latencies are taken with one
//! clock, from just before a message is handed to the client until its confirm, or its delivery,
//! is in the application's hands.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::ProgressBar;
use tokio::sync::{Notify, mpsc};
use waypost_client::{
    Client, Confirmed, Consumer, ConsumerOptions, ExceptionKind, Filter, RecordRef, Subscriber,
    SubscriberEvent, Ticket,
};

use super::events::{Event, Expected};

/// How long after the last confirm a delivery may take before the demo says that it is missing.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who consumes: queue, group, consumer.
pub const CONSUMERS: [(&str, &str, &str); 3] = [
    ("pacific", "duty", "duty-1"),
    ("pacific", "duty", "duty-2"),
    ("pacific", "archive", "archive-1"),
];

/// Where a message was seen by a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which of [`CONSUMERS`].
    pub consumer: usize,
    /// Its offset in the queue.
    pub offset: u64,
    /// From 1.
    pub attempt: u32,
    /// Since it was published.
    pub after: Duration,
}

/// What was seen of one pass.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// When each message was published, by its id.
    sent: HashMap<Vec<u8>, Instant>,
    /// Confirms without an exception, by level.
    pub levels: BTreeMap<&'static str, u64>,
    /// Exceptions, by kind.
    pub exceptions: BTreeMap<&'static str, u64>,
    /// What became of each message, in the order of the events.
    pub confirms: Vec<Confirmed>,
    /// Publish to confirm.
    pub confirm_times: Vec<Duration>,
    /// Publish to delivery.
    pub deliver_times: Vec<Duration>,
    /// Publish to a live subscriber.
    pub live_times: Vec<Duration>,
    /// Deliveries of each of [`CONSUMERS`].
    pub consumed: [u64; CONSUMERS.len()],
    /// Deliveries that were not the first.
    pub redelivered: u64,
    /// What consumers saw, by message id.
    pub seen: HashMap<Vec<u8>, Vec<Seen>>,
    /// Live messages by topic.
    pub live: BTreeMap<String, u64>,
    /// What the subscriber saw: topics by message id.
    pub watched: HashMap<Vec<u8>, Vec<(String, Duration)>>,
    /// Live messages that the subscriber was too slow for.
    pub lost: u64,
    /// From the first publish to the last confirm.
    pub publishing: Duration,
}

impl Tally {
    fn since_sent(&self, record: &RecordRef<'_>) -> (Vec<u8>, Duration) {
        let id = record.message_id().unwrap_or_default().to_vec();
        let sent = self.sent.get(&id).map(Instant::elapsed);
        (id, sent.unwrap_or_default())
    }

    fn confirmed(&mut self, confirmed: Confirmed, after: Duration) {
        match &confirmed.exception {
            None => *self.levels.entry(confirmed.level.as_str()).or_default() += 1,
            Some(e) => *self.exceptions.entry(e.kind.as_str()).or_default() += 1,
        }
        self.confirm_times.push(after);
        self.confirms.push(confirmed);
    }

    /// Messages that the router took on, by its confirms.
    pub fn kept(&self) -> u64 {
        self.levels.values().sum()
    }

    /// Messages that the router dropped, by its confirms.
    pub fn dropped(&self) -> u64 {
        let dropped = ExceptionKind::Dropped.as_str();
        self.exceptions.get(dropped).copied().unwrap_or(0)
    }

    /// Whether everybody has what there is for them.
    fn is_complete(&self, expected: &Expected) -> bool {
        let live: u64 = self.live.values().sum::<u64>() + self.lost;
        let consumed = |group: &str| -> u64 {
            let of_group = CONSUMERS.iter().zip(&self.consumed);
            of_group
                .filter(|((_, g, _), _)| *g == group)
                .map(|(_, n)| n)
                .sum()
        };
        let pacific = expected.queues.get("pacific").copied().unwrap_or(0);
        consumed("duty") >= pacific
            && consumed("archive") >= pacific
            && live >= expected.live.values().sum()
    }
}

/// Shared by the tasks.
#[derive(Default)]
struct Desk {
    tally: Mutex<Tally>,
    changed: Notify,
}

impl Desk {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clients and what they have open.
pub struct Week {
    network: Client,
    desk: Arc<Desk>,
    failed: mpsc::UnboundedReceiver<anyhow::Error>,
}

impl Week {
    /// Opens consumers and subscriber on one connection; the publisher has another.
    pub async fn open(network: Client, office: &Client, bar: ProgressBar) -> anyhow::Result<Week> {
        let desk = Arc::new(Desk::default());
        let (sender, failed) = mpsc::unbounded_channel();
        for (index, (queue, group, name)) in CONSUMERS.into_iter().enumerate() {
            let mut options = ConsumerOptions::new(queue, group);
            options.name = name.into();
            // Small, so that two consumers of a group take turns.
            options.window_messages = 8;
            let consumer = office.consumer(options).await.context(name)?;
            let (desk, sender) = (desk.clone(), sender.clone());
            tokio::spawn(async move {
                if let Err(error) = consume(consumer, index, &desk).await {
                    // The receiver is gone when the demo is over.
                    let _ = sender.send(error.context(name));
                }
            });
        }
        let filter = Filter::new("alerts/+").context("alerts/+")?;
        let subscriber = office.subscriber(&[filter], "watcher").await?;
        let watcher = desk.clone();
        tokio::spawn(async move {
            if let Err(error) = watch(subscriber, &watcher, &bar).await {
                let _ = sender.send(error.context("watcher"));
            }
        });
        Ok(Week {
            network,
            desk,
            failed,
        })
    }

    /// Publishes the week within `time`, as it happened, or at full speed where that is zero;
    /// waits until everybody has what `expected` says; gives what was seen.
    pub async fn pass(
        &mut self,
        events: &[Event],
        time: Duration,
        expected: &Expected,
        bar: &ProgressBar,
    ) -> anyhow::Result<Tally> {
        *self.desk.tally() = Tally::default();
        let publish = publish(&self.network, events, time, &self.desk, bar);
        tokio::select! {
            result = publish => result?,
            failed = self.failed.recv() => return Err(or_gone(failed)),
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let changed = self.desk.changed.notified();
            if self.desk.tally().is_complete(expected) {
                break;
            }
            tokio::select! {
                () = changed => {}
                failed = self.failed.recv() => return Err(or_gone(failed)),
                // What is missing shows in the counts.
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        Ok(self.desk.tally().clone())
    }
}

fn or_gone(error: Option<anyhow::Error>) -> anyhow::Error {
    error.unwrap_or_else(|| anyhow::anyhow!("all consumers are gone"))
}

async fn publish(
    network: &Client,
    events: &[Event],
    time: Duration,
    desk: &Arc<Desk>,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let publisher = network.publisher(Default::default()).await?;
    let (tickets, waiting) = mpsc::unbounded_channel();
    let confirms = tokio::spawn(confirms(waiting, desk.clone()));
    let first_ms = events.first().map_or(0, |event| event.time_ms);
    let last_ms = events.last().map_or(0, |event| event.time_ms);
    let span_ms = (last_ms - first_ms).max(1) as f64;
    let began = Instant::now();
    for event in events {
        if !time.is_zero() {
            let due = time.mul_f64((event.time_ms - first_ms) as f64 / span_ms);
            tokio::time::sleep_until((began + due).into()).await;
        }
        let message = event.message();
        let now = Instant::now();
        desk.tally().sent.insert(event.id.clone().into_bytes(), now);
        let ticket = publisher.send(&message).await?;
        if tickets.send((now, ticket)).is_err() {
            break;
        }
        bar.inc(1);
    }
    drop(tickets);
    confirms.await.context("confirms")??;
    desk.tally().publishing = began.elapsed();
    publisher.close().await?;
    Ok(())
}

async fn confirms(
    mut tickets: mpsc::UnboundedReceiver<(Instant, Ticket)>,
    desk: Arc<Desk>,
) -> anyhow::Result<()> {
    // Confirms come in the order of the messages.
    while let Some((sent, ticket)) = tickets.recv().await {
        let confirmed = ticket.await?;
        desk.tally().confirmed(confirmed, sent.elapsed());
    }
    Ok(())
}

async fn consume(mut consumer: Consumer, index: usize, desk: &Desk) -> anyhow::Result<()> {
    while let Some(batch) = consumer.next().await? {
        {
            let mut tally = desk.tally();
            for delivery in batch.iter() {
                let (id, after) = tally.since_sent(&delivery.record()?);
                tally.consumed[index] += 1;
                tally.redelivered += u64::from(delivery.attempt > 1);
                tally.deliver_times.push(after);
                tally.seen.entry(id).or_default().push(Seen {
                    consumer: index,
                    offset: delivery.offset,
                    attempt: delivery.attempt,
                    after,
                });
            }
        }
        consumer.ack(&batch)?;
        desk.changed.notify_waiters();
    }
    Ok(())
}

async fn watch(mut subscriber: Subscriber, desk: &Desk, bar: &ProgressBar) -> anyhow::Result<()> {
    while let Some(event) = subscriber.next().await? {
        match event {
            SubscriberEvent::Batch(live) => {
                let mut tally = desk.tally();
                for body in live.slab.iter() {
                    let record = RecordRef::parse(body)?;
                    let (id, after) = tally.since_sent(&record);
                    *tally.live.entry(record.topic().to_owned()).or_default() += 1;
                    tally.live_times.push(after);
                    let topics = tally.watched.entry(id).or_default();
                    topics.push((record.topic().to_owned(), after));
                    if let Some(headline) = headline(&record) {
                        bar.set_message(headline);
                    }
                }
            }
            SubscriberEvent::Lost(lost) => desk.tally().lost += lost,
            _ => {}
        }
        desk.changed.notify_waiters();
    }
    Ok(())
}

/// An alert in a few words.
fn headline(record: &RecordRef<'_>) -> Option<String> {
    let alert: serde_json::Value = serde_json::from_slice(record.payload()).ok()?;
    let (magnitude, place) = (alert["mag"].as_f64()?, alert["place"].as_str()?);
    Some(format!("M {magnitude:.1}  {place}"))
}
