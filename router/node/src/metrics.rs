//! What the node counts, and how Prometheus reads it.
//!
//! Counters are relaxed atomics that the data path bumps once a batch. What belongs to one queue
//! or plugin is counted by its owner and comes as a snapshot ([`QueueStat`], [`PluginStat`]) when
//! somebody asks. No metric has a topic as a label: topics are clients' to invent, and each value
//! of a label costs memory for ever. The names are listed in `docs/operations.md`.

use serde::Serialize;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that grows and shrinks.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One fewer; never below zero.
    pub fn decrement(&self) {
        // Fails only where the value is zero, which then stays.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
    }

    /// This number.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// One more, unless there are `max` already; says whether there was room.
    pub fn increment_below(&self, max: u64) -> bool {
        let one_more = |n: u64| (n < max).then(|| n + 1);
        self.0.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Buckets of a [`Histogram`], beside the last one without a bound.
const BUCKETS: usize = 16;

/// How often a value fell below each of sixteen bounds, each twice the one before.
#[derive(Debug)]
pub struct Histogram {
    first_bound: u64,
    counts: [AtomicU64; BUCKETS + 1],
    sum: AtomicU64,
}

impl Histogram {
    fn new(first_bound: u64) -> Histogram {
        Histogram {
            first_bound,
            counts: Default::default(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts one value, in the histogram's unit.
    pub fn record(&self, value: u64) {
        let fits = |bucket: &usize| value <= self.first_bound << bucket;
        let bucket = (0..BUCKETS).find(fits).unwrap_or(BUCKETS);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }
}

/// Everything that is counted for the whole node.
#[derive(Debug)]
pub struct Metrics {
    /// Connections, streams.
    pub clients: ClientMetrics,
    /// What publishers sent, and what became of it.
    pub publish: PublishMetrics,
    /// What consumers and subscribers got.
    pub deliver: DeliverMetrics,
    /// The write-ahead log.
    pub wal: WalMetrics,
    /// Newest messages held for consumers at the tail, in bytes.
    pub cache_bytes: Gauge,
    /// Free bytes of the data directory's disk, as of the last second.
    pub disk_free_bytes: Gauge,
    /// 1 while publishers are refused for want of disk space.
    pub disk_full: Gauge,
}

/// Connections and what they opened.
#[derive(Debug, Default)]
pub struct ClientMetrics {
    /// Open now.
    pub connections: Gauge,
    /// Let in since the start.
    pub accepted: Counter,
    /// Not let in: no credentials, too many, draining.
    pub refused: Counter,
    /// Open publisher streams.
    pub publishers: Gauge,
    /// Open consumer streams.
    pub consumers: Gauge,
    /// Open live subscriptions.
    pub subscribers: Gauge,
}

/// Messages that came in. A message can have several outcomes only by several routes.
#[derive(Debug, Default)]
pub struct PublishMetrics {
    /// Messages read from publishers.
    pub messages: Counter,
    /// Their encoded bytes.
    pub bytes: Counter,
    /// Dropped by a plugin or a `drop` destination.
    pub dropped: Counter,
    /// Put into the dead-letter queue.
    pub dead_lettered: Counter,
    /// Taken by no route, queue or subscriber.
    pub unroutable: Counter,
    /// Stored before.
    pub duplicates: Counter,
    /// Refused to the publisher.
    pub refused: Counter,
}

/// Messages that went out.
#[derive(Debug, Default)]
pub struct DeliverMetrics {
    /// Sent to consumers, repetitions included.
    pub delivered: Counter,
    /// Encoded bytes of those.
    pub bytes: Counter,
    /// Acked by consumers.
    pub acked: Counter,
    /// Deliveries of a message that had been delivered before.
    pub redelivered: Counter,
    /// Acks and the like for messages that the consumer did not hold, or held no longer.
    pub stale: Counter,
    /// Messages that expired.
    pub expired: Counter,
    /// Messages that were older than their queue keeps them.
    pub aged: Counter,
    /// Messages that a newer one of their key replaced.
    pub replaced: Counter,
    /// Sent to live subscribers.
    pub live: Counter,
    /// Not sent to a live subscriber that read too slowly.
    pub live_lost: Counter,
}

/// The write-ahead log.
#[derive(Debug)]
pub struct WalMetrics {
    /// Groups committed.
    pub groups: Counter,
    /// Bytes written, padding included.
    pub bytes: Counter,
    /// Time of one fdatasync, in microseconds: bounds from 64 µs to 2.1 s.
    pub sync_us: Histogram,
    /// Messages in one group: bounds from 1 to 32,768.
    pub group_messages: Histogram,
}

impl WalMetrics {
    /// Counts one committed group.
    pub fn committed(&self, messages: u64, bytes: u64, sync: Duration) {
        self.groups.add(1);
        self.bytes.add(bytes);
        let us = u64::try_from(sync.as_micros()).unwrap_or(u64::MAX >> 1);
        self.sync_us.record(us);
        self.group_messages.record(messages);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            clients: ClientMetrics::default(),
            publish: PublishMetrics::default(),
            deliver: DeliverMetrics::default(),
            wal: WalMetrics {
                groups: Counter::default(),
                bytes: Counter::default(),
                sync_us: Histogram::new(64),
                group_messages: Histogram::new(1),
            },
            cache_bytes: Gauge::default(),
            disk_free_bytes: Gauge::default(),
            disk_full: Gauge::default(),
        }
    }
}

/// One queue, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct QueueStat {
    /// Its name.
    pub name: String,
    /// `sync` or `memory`.
    pub durability: String,
    /// Messages that some group has not acked.
    pub messages: u64,
    /// Their encoded bytes.
    pub bytes: u64,
    /// Where publishers are refused.
    pub bytes_max: u64,
    /// Offset of the oldest message.
    pub first_offset: u64,
    /// Offset that the next message gets.
    pub next_offset: u64,
    /// Messages that made room at its limit, since the node started.
    pub dropped: u64,
    /// Messages that went from it to the dead letters, since the node started.
    pub dead_lettered: u64,
    /// Messages that it had already, since the node started.
    pub duplicates: u64,
    /// Message ids that it remembers.
    pub dedup_ids: u64,
    /// Messages that wait for receipts, and receipts that wait to be taken.
    pub receipts: u64,
    /// Its groups.
    pub groups: Vec<GroupStat>,
}

/// One consumer group of a queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GroupStat {
    /// Its name.
    pub name: String,
    /// `shared`, `exclusive` or `key`.
    pub kind: String,
    /// The topics that it takes; none: all.
    pub filters: Vec<String>,
    /// Consumers connected now.
    pub consumers: u64,
    /// Messages not acked yet, those in flight included.
    pub lag_messages: u64,
    /// Delivered and neither acked nor given back.
    pub in_flight_messages: u64,
}

/// One plugin, since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PluginStat {
    /// Its name.
    pub name: String,
    /// `filter`, `transform`, `route`, `each`.
    pub role: String,
    /// Whether messages go through it.
    pub in_service: bool,
    /// Batches handed to it.
    pub calls: u64,
    /// Messages in them.
    pub messages: u64,
    /// Calls that ended in a trap, a deadline or a broken rule.
    pub failures: u64,
    /// CPU time in it, in microseconds.
    pub busy_us: u64,
    /// Its last failure.
    pub last_error: Option<String>,
    /// `ready`, or what it is instead and why.
    pub status: String,
    /// Its active version; 0 where the configuration names its code.
    pub version: u64,
    /// Failures that cost an instance.
    pub traps: u64,
    /// Instances alive.
    pub instances: u64,
    /// Calls by their time: upper bounds in seconds, and how many were at most that; then all.
    #[serde(skip)]
    pub call_times: (Vec<(f64, u64)>, u64),
}

/// The text that Prometheus reads (exposition format 0.0.4).
pub fn render(metrics: &Metrics, queues: &[QueueStat], plugins: &[PluginStat]) -> String {
    let mut text = Text(String::with_capacity(8 << 10));
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    text.metric("waypost_build_info", "gauge", "The running version.");
    text.sample("waypost_build_info", &version, 1);
    render_node(&mut text, metrics);
    render_wal(&mut text, &metrics.wal);
    render_queues(&mut text, queues);
    render_plugins(&mut text, plugins);
    if let Some(bytes) = resident_bytes() {
        text.gauge(
            "process_resident_memory_bytes",
            "Memory of the process that is in RAM.",
            bytes,
        );
    }
    text.0
}

fn render_node(text: &mut Text, metrics: &Metrics) {
    let clients = &metrics.clients;
    for (name, help, gauge) in [
        ("connections", "Open connections.", &clients.connections),
        ("publishers", "Open publisher streams.", &clients.publishers),
        ("consumers", "Open consumer streams.", &clients.consumers),
        (
            "subscribers",
            "Open live subscriptions.",
            &clients.subscribers,
        ),
        (
            "cache_bytes",
            "Newest messages held in memory for consumers at the tail.",
            &metrics.cache_bytes,
        ),
        (
            "disk_free_bytes",
            "Free bytes of the data directory's disk.",
            &metrics.disk_free_bytes,
        ),
        (
            "disk_full",
            "1 while publishers are refused for want of disk space.",
            &metrics.disk_full,
        ),
    ] {
        text.gauge(&format!("waypost_{name}"), help, gauge.get());
    }
    render_traffic(text, metrics);
    render_outcomes(text, &metrics.publish);
}

fn render_traffic(text: &mut Text, metrics: &Metrics) {
    let Metrics {
        clients,
        publish,
        deliver,
        ..
    } = metrics;
    for (name, help, counter) in [
        (
            "connections_accepted",
            "Connections let in.",
            &clients.accepted,
        ),
        (
            "connections_refused",
            "Connections not let in.",
            &clients.refused,
        ),
        (
            "received_messages",
            "Messages from publishers.",
            &publish.messages,
        ),
        (
            "received_bytes",
            "Encoded bytes from publishers.",
            &publish.bytes,
        ),
        (
            "delivered_messages",
            "Messages sent to consumers.",
            &deliver.delivered,
        ),
        (
            "delivered_bytes",
            "Encoded bytes sent to consumers.",
            &deliver.bytes,
        ),
        (
            "acked_messages",
            "Messages acked by consumers.",
            &deliver.acked,
        ),
        (
            "redelivered_messages",
            "Deliveries of messages that had been delivered before.",
            &deliver.redelivered,
        ),
        (
            "stale_acks",
            "Acks and the like for messages that the consumer did not hold.",
            &deliver.stale,
        ),
        (
            "expired_messages",
            "Messages that expired before they were delivered.",
            &deliver.expired,
        ),
        (
            "aged_messages",
            "Messages that were older than their queue keeps them.",
            &deliver.aged,
        ),
        (
            "replaced_messages",
            "Messages that a newer one of their key replaced.",
            &deliver.replaced,
        ),
        (
            "live_delivered_messages",
            "Messages sent to live subscribers.",
            &deliver.live,
        ),
        (
            "live_lost_messages",
            "Messages that live subscribers lost by reading too slowly.",
            &deliver.live_lost,
        ),
    ] {
        text.counter(&format!("waypost_{name}_total"), help, counter.get());
    }
}

fn render_outcomes(text: &mut Text, publish: &PublishMetrics) {
    let name = "waypost_outcome_messages_total";
    let help = "Messages that did not reach a destination as sent, by what became of them.";
    text.metric(name, "counter", help);
    for (outcome, counter) in [
        ("dropped", &publish.dropped),
        ("dead_lettered", &publish.dead_lettered),
        ("unroutable", &publish.unroutable),
        ("duplicate", &publish.duplicates),
        ("refused", &publish.refused),
    ] {
        text.sample(name, &[("outcome", outcome)], counter.get());
    }
}

fn render_wal(text: &mut Text, wal: &WalMetrics) {
    let groups = wal.groups.get();
    text.counter("waypost_wal_groups_total", "Groups committed.", groups);
    let help = "Bytes written to the write-ahead log, padding included.";
    text.counter("waypost_wal_bytes_total", help, wal.bytes.get());
    let help = "Time of one fdatasync.";
    text.histogram("waypost_wal_sync_seconds", help, &wal.sync_us, 1e-6);
    let help = "Messages in one committed group.";
    text.histogram("waypost_wal_group_messages", help, &wal.group_messages, 1.0);
}

fn render_queues(text: &mut Text, queues: &[QueueStat]) {
    type Read = fn(&QueueStat) -> u64;
    let of_queues: [(&str, &str, Read); 5] = [
        ("waypost_queue_messages", "Messages in the queue.", |q| {
            q.messages
        }),
        ("waypost_queue_bytes", "Encoded bytes in the queue.", |q| {
            q.bytes
        }),
        (
            "waypost_queue_limit_bytes",
            "Bytes above which publishers are refused.",
            |q| q.bytes_max,
        ),
        (
            "waypost_queue_dedup_ids",
            "Message ids that the queue remembers.",
            |q| q.dedup_ids,
        ),
        (
            "waypost_queue_receipts_waiting",
            "Messages that wait for receipts, and receipts that wait to be taken.",
            |q| q.receipts,
        ),
    ];
    for (name, help, read) in of_queues {
        text.metric(name, "gauge", help);
        for queue in queues {
            text.sample(name, &[("queue", &queue.name)], read(queue));
        }
    }
    let totals: [(&str, &str, Read); 3] = [
        (
            "waypost_queue_dropped_messages_total",
            "Messages that made room at the queue's limit.",
            |q| q.dropped,
        ),
        (
            "waypost_queue_dead_lettered_messages_total",
            "Messages that went from the queue to the dead letters.",
            |q| q.dead_lettered,
        ),
        (
            "waypost_queue_duplicate_messages_total",
            "Messages that the queue had already.",
            |q| q.duplicates,
        ),
    ];
    for (name, help, read) in totals {
        text.metric(name, "counter", help);
        for queue in queues {
            text.sample(name, &[("queue", &queue.name)], read(queue));
        }
    }
    type ReadGroup = fn(&GroupStat) -> u64;
    let of_groups: [(&str, &str, ReadGroup); 3] = [
        ("waypost_group_consumers", "Consumers connected.", |g| {
            g.consumers
        }),
        (
            "waypost_group_lag_messages",
            "Messages not acked yet.",
            |g| g.lag_messages,
        ),
        (
            "waypost_group_in_flight_messages",
            "Messages delivered and not settled.",
            |g| g.in_flight_messages,
        ),
    ];
    for (name, help, read) in of_groups {
        text.metric(name, "gauge", help);
        for queue in queues {
            for group in &queue.groups {
                let labels = [("queue", queue.name.as_str()), ("group", &group.name)];
                text.sample(name, &labels, read(group));
            }
        }
    }
}

fn render_plugins(text: &mut Text, plugins: &[PluginStat]) {
    type Read = fn(&PluginStat) -> f64;
    let of_plugins: [(&str, &str, &str, Read); 8] = [
        (
            "waypost_plugin_calls_total",
            "counter",
            "Batches handed to the plugin.",
            |p| p.calls as f64,
        ),
        (
            "waypost_plugin_messages_total",
            "counter",
            "Messages in those batches.",
            |p| p.messages as f64,
        ),
        (
            "waypost_plugin_failures_total",
            "counter",
            "Calls that failed.",
            |p| p.failures as f64,
        ),
        (
            "waypost_plugin_busy_seconds_total",
            "counter",
            "CPU time in the plugin.",
            |p| p.busy_us as f64 / 1e6,
        ),
        (
            "waypost_plugin_in_service",
            "gauge",
            "1 while messages go through it.",
            |p| f64::from(u8::from(p.in_service)),
        ),
        (
            "waypost_plugin_traps_total",
            "counter",
            "Failed calls that cost the instance: traps, deadlines, memory.",
            |p| p.traps as f64,
        ),
        (
            "waypost_plugin_instances",
            "gauge",
            "Instances alive, of all versions.",
            |p| p.instances as f64,
        ),
        (
            "waypost_plugin_version",
            "gauge",
            "The active version; 0 where the configuration names the code.",
            |p| p.version as f64,
        ),
    ];
    for (name, kind, help, read) in of_plugins {
        text.metric(name, kind, help);
        for plugin in plugins {
            text.sample(name, &[("plugin", &plugin.name)], read(plugin));
        }
    }
    let name = "waypost_plugin_call_seconds";
    text.metric(
        name,
        "histogram",
        "Time of a call, with a batch of messages.",
    );
    for plugin in plugins {
        let (bounds, total) = &plugin.call_times;
        let of_plugin = ("plugin", plugin.name.as_str());
        let bucket = format!("{name}_bucket");
        for (bound, count) in bounds {
            text.sample(&bucket, &[of_plugin, ("le", &bound.to_string())], count);
        }
        text.sample(&bucket, &[of_plugin, ("le", "+Inf")], total);
        let sum = plugin.busy_us as f64 / 1e6;
        text.sample(&format!("{name}_sum"), &[of_plugin], sum);
        text.sample(&format!("{name}_count"), &[of_plugin], total);
    }
}

struct Text(String);

impl Text {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let mut shown = String::new();
        for (key, value) in labels {
            let comma = if shown.is_empty() { "" } else { "," };
            shown += &format!("{comma}{key}=\"{}\"", escape(value));
        }
        if shown.is_empty() {
            self.line(format_args!("{name} {value}"));
        } else {
            self.line(format_args!("{name}{{{shown}}} {value}"));
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.metric(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.metric(name, "counter", help);
        self.sample(name, &[], value);
    }

    /// `unit` turns the histogram's unit into the metric's.
    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram, unit: f64) {
        self.metric(name, "histogram", help);
        let bucket_name = format!("{name}_bucket");
        let mut count = 0;
        for bucket in 0..BUCKETS {
            count += histogram.counts[bucket].load(Relaxed);
            let bound = (histogram.first_bound << bucket) as f64 * unit;
            self.sample(&bucket_name, &[("le", &bound.to_string())], count);
        }
        count += histogram.counts[BUCKETS].load(Relaxed);
        self.sample(&bucket_name, &[("le", "+Inf")], count);
        let sum = histogram.sum.load(Relaxed) as f64 * unit;
        self.sample(&format!("{name}_sum"), &[], sum);
        self.sample(&format!("{name}_count"), &[], count);
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Resident memory of this process in bytes, where the system says it.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
