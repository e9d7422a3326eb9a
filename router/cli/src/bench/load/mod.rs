//! Carries a plan out against a node or the floor, and measures.
//!
//! Publishers and receivers are tasks on current-thread runtimes, each with a connection of its
//! own. The calling thread decides: when all are connected it lets them go, reads the counters at
//! the beginning and the end of the time that is measured, ends the publishers, waits until
//! everything was delivered, and only then believes any figure: each message must have arrived
//! once, or the run is an error.

mod publish;
mod receive;
mod shared;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::outcome::{Latency, Outcome, Rates};
use super::plan::{Length, Mode, Plan};
use super::process::{Process, Usage};
use super::stamp::Tally;
use super::target::{Connect, Target};
pub use shared::histogram;
use shared::{Phase, Shared, Snapshot};

/// The queue that a plan with [`Mode::Queue`] uses.
pub const QUEUE: &str = "bench";

/// How long nothing may move before the run is given up.
const STALL: Duration = Duration::from_secs(10);

/// What a worker says at its end.
enum Report {
    Published {
        publisher: usize,
        made: u64,
        confirm: Histogram<u64>,
    },
    Received {
        tallies: Vec<Tally>,
        end_to_end: Histogram<u64>,
    },
}

/// From the thread of a worker to the one that decides.
enum Said {
    Ready,
    Done(Result<Report>),
}

#[derive(Clone, Copy)]
enum Role {
    Publisher(usize),
    Receiver(usize),
}

/// Runs the plan.
pub fn run(plan: &Plan, target: &Target) -> Result<Outcome> {
    let consumes = plan.mode == Mode::Queue && !target.is_floor;
    let shared = Arc::new(Shared::new(plan.clone(), consumes));
    let (sender, said) = channel();
    for thread in 0..plan.client_threads {
        let roles = roles(plan, thread);
        if !roles.is_empty() {
            spawn(thread, roles, &shared, &target.connect(), &sender)?;
        }
    }
    drop(sender);
    let result = Conductor {
        plan,
        target,
        shared: &shared,
        said,
        reports: Vec::new(),
    }
    .run();
    shared.go(Phase::Over);
    result
}

/// The workers of a thread: publishers first, then receivers, dealt out in turn.
fn roles(plan: &Plan, thread: usize) -> Vec<Role> {
    let publishers = (0..plan.publishers).map(Role::Publisher);
    let all = publishers.chain((0..plan.receivers).map(Role::Receiver));
    all.skip(thread).step_by(plan.client_threads).collect()
}

fn spawn(
    thread: usize,
    roles: Vec<Role>,
    shared: &Arc<Shared>,
    connect: &Connect,
    said: &Sender<Said>,
) -> Result<()> {
    let (shared, connect, said) = (shared.clone(), connect.clone(), said.clone());
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = said.send(Said::Done(Err(error.into())));
                return;
            }
        };
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for role in roles {
                tasks.spawn(work(role, shared.clone(), connect.clone(), said.clone()));
            }
            while let Some(report) = tasks.join_next().await {
                let report = report.unwrap_or_else(|error| Err(anyhow!("worker: {error}")));
                // The other end is gone when another worker failed.
                let _ = said.send(Said::Done(report));
            }
        });
    };
    std::thread::Builder::new()
        .name(format!("bench-{thread}"))
        .spawn(body)
        .map(drop)
        .context("starting a thread")
}

async fn work(
    role: Role,
    shared: Arc<Shared>,
    connect: Connect,
    said: Sender<Said>,
) -> Result<Report> {
    let client = connect.connect().await.context("connecting")?;
    let ready = || {
        // The other end is gone when another worker failed.
        let _ = said.send(Said::Ready);
    };
    let report = match role {
        Role::Publisher(index) => publish::run(index, &client, &shared, ready)
            .await
            .with_context(|| format!("publisher {index}")),
        Role::Receiver(index) => receive::run(index, &client, &shared, ready)
            .await
            .with_context(|| format!("receiver {index}")),
    };
    client.close().await;
    report
}

/// The calling thread's side.
struct Conductor<'a> {
    plan: &'a Plan,
    target: &'a Target,
    shared: &'a Shared,
    said: Receiver<Said>,
    reports: Vec<Report>,
}

/// Counters and the server's use of the machine at one moment.
struct Moment {
    at: Instant,
    counters: Snapshot,
    usage: Option<Usage>,
}

impl Conductor<'_> {
    fn run(mut self) -> Result<Outcome> {
        let workers = self.plan.publishers + self.plan.receivers;
        for _ in 0..workers {
            self.wait_ready()?;
        }
        self.shared.go(Phase::Run);
        let (first, last) = match self.plan.length {
            Length::Time(length) => {
                self.rest(self.plan.warmup)?;
                let first = self.moment()?;
                self.shared.record_from(first.at);
                self.rest(length)?;
                let mut last = self.moment()?;
                self.shared.record_until(last.at);
                self.shared.go(Phase::Stop);
                self.wait_reports(self.plan.publishers)?;
                if self.plan.backlog {
                    self.shared.go(Phase::Drain);
                }
                self.wait_delivered()?;
                if self.plan.backlog {
                    last = self.moment()?;
                }
                (first, last)
            }
            Length::Messages(_) => {
                let first = self.moment()?;
                self.wait_reports(self.plan.publishers)?;
                self.shared.go(Phase::Drain);
                self.wait_delivered()?;
                (first, self.moment()?)
            }
        };
        self.shared.go(Phase::Over);
        self.wait_reports(workers)?;
        self.outcome(&first, &last)
    }

    fn wait_ready(&mut self) -> Result<()> {
        match self.said.recv_timeout(STALL + STALL) {
            Ok(Said::Ready) => Ok(()),
            Ok(Said::Done(Err(error))) => Err(error),
            Ok(Said::Done(Ok(_))) => bail!("a worker ended before it began"),
            Err(_) => bail!("not all could connect within {} s", 2 * STALL.as_secs()),
        }
    }

    /// Sleeps, and wakes for a worker that failed.
    fn rest(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(said) => self.take(said)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => bail!("the workers are gone"),
            }
        }
    }

    fn take(&mut self, said: Said) -> Result<()> {
        if let Said::Done(report) = said {
            self.reports.push(report?);
        }
        Ok(())
    }

    /// Waits until `count` workers have reported.
    fn wait_reports(&mut self, count: usize) -> Result<()> {
        let mut seen = self.shared.snapshot();
        let mut moved = Instant::now();
        while self.reports.len() < count {
            match self.said.recv_timeout(Duration::from_millis(100)) {
                Ok(said) => self.take(said)?,
                Err(RecvTimeoutError::Timeout) => {
                    let now = self.shared.snapshot();
                    if now != seen {
                        (seen, moved) = (now, Instant::now());
                    } else if moved.elapsed() > STALL {
                        bail!("nothing moved for {} s: {now}", STALL.as_secs());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the workers are gone"),
            }
        }
        Ok(())
    }

    fn wait_delivered(&mut self) -> Result<()> {
        let mut seen = 0;
        let mut moved = Instant::now();
        loop {
            let now = self.shared.snapshot();
            if now.delivered >= self.shared.expected() {
                return Ok(());
            }
            if now.delivered != seen {
                (seen, moved) = (now.delivered, Instant::now());
            } else if moved.elapsed() > STALL {
                bail!(
                    "{} messages were never delivered: {now}",
                    self.shared.expected() - now.delivered
                );
            }
            self.rest(Duration::from_millis(1))?;
        }
    }

    fn moment(&self) -> Result<Moment> {
        let process = self.target.process.as_ref();
        Ok(Moment {
            at: Instant::now(),
            counters: self.shared.snapshot(),
            usage: process.map(Process::usage).transpose()?,
        })
    }

    fn outcome(self, first: &Moment, last: &Moment) -> Result<Outcome> {
        let mut confirm = histogram();
        let mut end_to_end = histogram();
        let mut made = vec![0; self.plan.publishers];
        let mut tallies = vec![Tally::default(); self.plan.publishers];
        for report in &self.reports {
            match report {
                Report::Published {
                    publisher,
                    made: count,
                    confirm: histogram,
                } => {
                    made[*publisher] = *count;
                    confirm.add(histogram).context("latencies")?;
                }
                Report::Received {
                    tallies: received,
                    end_to_end: histogram,
                } => {
                    for (all, one) in tallies.iter_mut().zip(received) {
                        all.merge(one);
                    }
                    end_to_end.add(histogram).context("latencies")?;
                }
            }
        }
        for (publisher, tally) in tallies.iter().enumerate() {
            let copies = self.shared.copies(publisher);
            if let Some(fault) = tally.fault(made[publisher], copies) {
                bail!("publisher {publisher}: {fault}");
            }
        }
        let seconds = (last.at - first.at).as_secs_f64();
        let (a, b) = (&first.counters, &last.counters);
        let rate = |a: u64, b: u64| (b - a) as f64 / seconds;
        Ok(Outcome {
            seconds,
            rates: Rates {
                published: rate(a.published, b.published),
                confirmed: rate(a.confirmed, b.confirmed),
                delivered: rate(a.delivered, b.delivered),
                delivered_megabytes: rate(a.delivered, b.delivered)
                    * self.plan.payload_bytes as f64
                    / 1e6,
            },
            confirm: Latency::of(&confirm),
            end_to_end: Latency::of(&end_to_end),
            messages: made.iter().sum(),
            reordered: tallies.iter().map(|tally| tally.reordered).sum(),
            server: match (&first.usage, &last.usage) {
                (Some(a), Some(b)) => {
                    let (first, last) = (&first.counters, &last.counters);
                    Some(b.since(a, seconds, last.encoded_bytes - first.encoded_bytes))
                }
                _ => None,
            },
        })
    }
}
