//! What the workers of one run share: counters, the phase, and which part of it is measured.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use hdrhistogram::Histogram;
use tokio::sync::{Notify, watch};

use crate::bench::plan::{Mode, Plan};

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Phase {
    /// Connecting.
    Wait,
    /// Publishing.
    Run,
    /// Publishers finish what they have begun.
    Stop,
    /// All is published; consumers that were to wait for that begin.
    Drain,
    /// Everything was delivered, or the run failed.
    Over,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Messages handed to the client library.
    pub published: u64,
    /// Messages confirmed.
    pub confirmed: u64,
    /// Messages received.
    pub delivered: u64,
    /// Bytes of all confirmed records, with their lengths.
    pub encoded_bytes: u64,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snapshot {
            published,
            confirmed,
            delivered,
            ..
        } = self;
        write!(
            f,
            "{published} published, {confirmed} confirmed, {delivered} delivered"
        )
    }
}

/// What workers share; see the module.
pub struct Shared {
    /// What is to be done.
    pub plan: Plan,
    /// Whether receivers are consumers of a queue.
    pub consumes: bool,
    /// Time zero of stamps.
    pub clock: Instant,
    phase: watch::Sender<Phase>,
    published: AtomicU64,
    expected: AtomicU64,
    confirmed: AtomicU64,
    delivered: AtomicU64,
    encoded_bytes: AtomicU64,
    record_from_ns: AtomicU64,
    record_until_ns: AtomicU64,
    /// Wakes publishers that wait for deliveries.
    caught_up: Notify,
}

impl Shared {
    /// The state before a run.
    pub fn new(plan: Plan, consumes: bool) -> Shared {
        Shared {
            // With a number of messages all of them are measured.
            record_from_ns: AtomicU64::new(match plan.warmup.is_zero() {
                true => 0,
                false => u64::MAX,
            }),
            record_until_ns: AtomicU64::new(u64::MAX),
            plan,
            consumes,
            clock: Instant::now(),
            phase: watch::Sender::new(Phase::Wait),
            published: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            encoded_bytes: AtomicU64::new(0),
            caught_up: Notify::new(),
        }
    }

    /// Enters a phase.
    pub fn go(&self, phase: Phase) {
        self.phase.send_replace(phase);
        self.caught_up.notify_waiters();
    }

    /// The phase as it changes.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Whether publishers are to publish.
    pub fn is_running(&self) -> bool {
        *self.phase.borrow() == Phase::Run
    }

    /// The run's clock, in ns.
    pub fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Latencies count from here.
    pub fn record_from(&self, at: Instant) {
        self.record_from_ns
            .store(at.duration_since(self.clock).as_nanos() as u64, Relaxed);
    }

    /// Latencies count up to here.
    pub fn record_until(&self, at: Instant) {
        self.record_until_ns
            .store(at.duration_since(self.clock).as_nanos() as u64, Relaxed);
    }

    /// The messages whose latencies count, by when they were to leave.
    pub fn recorded(&self) -> std::ops::Range<u64> {
        self.record_from_ns.load(Relaxed)..self.record_until_ns.load(Relaxed)
    }

    /// How many receivers get each message of a publisher.
    pub fn copies(&self, publisher: usize) -> u64 {
        if self.plan.mode == Mode::Queue && self.consumes {
            return 1;
        }
        let follows = |receiver: &usize| self.plan.followed(*receiver).contains(&publisher);
        (0..self.plan.receivers).filter(follows).count() as u64
    }

    /// Counts messages that were published, each to be delivered `copies` times.
    pub fn count_published(&self, count: u64, copies: u64) {
        self.published.fetch_add(count, Relaxed);
        self.expected.fetch_add(count * copies, Relaxed);
    }

    /// Counts messages that were confirmed, with the bytes of their records.
    pub fn count_confirmed(&self, count: u64, bytes: u64) {
        self.confirmed.fetch_add(count, Relaxed);
        self.encoded_bytes.fetch_add(bytes, Relaxed);
    }

    /// Counts messages that were received.
    pub fn count_delivered(&self, count: u64) {
        self.delivered.fetch_add(count, Relaxed);
        if self.plan.lag > 0 {
            self.caught_up.notify_waiters();
        }
    }

    /// Deliveries that all messages so far will cause.
    pub fn expected(&self) -> u64 {
        self.expected.load(Relaxed)
    }

    /// Waits until so few messages are under way that a batch more keeps to the plan's lag, or the
    /// run ends.
    pub async fn room(&self) {
        if self.plan.lag == 0 {
            return;
        }
        let lag = self.plan.lag * self.plan.receivers.max(self.plan.publishers) as u64;
        loop {
            let caught_up = self.caught_up.notified();
            let mut caught_up = std::pin::pin!(caught_up);
            caught_up.as_mut().enable();
            let under_way = self.expected().saturating_sub(self.delivered.load(Relaxed));
            if under_way + u64::from(self.plan.batch) <= lag || !self.is_running() {
                return;
            }
            caught_up.await;
        }
    }

    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            published: self.published.load(Relaxed),
            confirmed: self.confirmed.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            encoded_bytes: self.encoded_bytes.load(Relaxed),
        }
    }
}

/// An empty histogram of ns up to a minute, to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(100, 60_000_000_000, 3)
        .expect("bounds and digits are constants that hdrhistogram takes")
}
