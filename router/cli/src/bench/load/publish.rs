//! One publisher: as fast as its window lets it, or at the pace of an open loop.

use std::collections::VecDeque;

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use waypost_client::{BatchTicket, Client, ProducerOptions, Publisher, PublisherOptions};

use super::Report;
use super::shared::{Phase, Shared, histogram};
use crate::bench::pace::{Pace, Schedule};
use crate::bench::plan::{Length, Mode};
use crate::bench::stamp::Source;

/// The first message of an open loop leaves so long after the start.
const HEAD_START_NS: u64 = 1_000_000;

/// Publishes until the phase or the plan says that it is enough, then waits for all confirms.
pub(super) async fn run(
    index: usize,
    client: &Client,
    shared: &Shared,
    ready: impl FnOnce(),
) -> Result<Report> {
    let plan = &shared.plan;
    let options = PublisherOptions {
        // The floor forwards by name.
        name: plan.topic(index),
        window_messages: plan.window,
        producer: plan
            .producer
            .then(|| ProducerOptions::named(&plan.topic(index))),
        ..PublisherOptions::default()
    };
    let publisher = client.publisher(options).await?;
    let topic = plan.topic(index);
    let source = match plan.keys {
        0 => Source::new(plan.shape, &topic, index as u32, plan.payload_bytes),
        keys => Source::keyed(plan.shape, &topic, index as u32, plan.payload_bytes, keys),
    };
    let mut load = Load {
        shared,
        copies: shared.copies(index),
        made_max: match plan.length {
            Length::Messages(count) => count,
            Length::Time(_) => u64::MAX,
        },
        source,
        publisher,
        under_way: VecDeque::new(),
        unconfirmed: 0,
        confirm: histogram(),
    };
    ready();
    let mut phase = shared.phase();
    phase.wait_for(|phase| *phase != Phase::Wait).await?;
    match plan.rate {
        None => load.closed_loop().await?,
        Some(rate) => {
            // Publishers take turns.
            let rate = rate / plan.publishers as f64;
            let offset = 1e9 / rate * index as f64 / plan.publishers as f64;
            let start = shared.now_ns() + HEAD_START_NS + offset as u64;
            let pace = Pace::new(Schedule::new(start, rate), shared.clock)?;
            load.open_loop(&pace).await?;
        }
    }
    while !load.under_way.is_empty() {
        load.settle().await?;
    }
    load.publisher.close().await?;
    Ok(Report::Published {
        publisher: index,
        made: load.source.made(),
        confirm: load.confirm,
    })
}

struct Load<'a> {
    shared: &'a Shared,
    copies: u64,
    made_max: u64,
    source: Source,
    publisher: Publisher,
    under_way: VecDeque<UnderWay>,
    unconfirmed: u32,
    confirm: Histogram<u64>,
}

/// A batch that was handed to the client library.
struct UnderWay {
    ticket: BatchTicket,
    count: u32,
    /// When its messages were to leave: one moment, or a schedule from this sequence on.
    first_ns: u64,
    scheduled: Option<(Schedule, u64)>,
}

impl Load<'_> {
    async fn closed_loop(&mut self) -> Result<()> {
        let plan = &self.shared.plan;
        let shared = self.shared;
        loop {
            let left = self.made_max - self.source.made();
            let count = u64::from(plan.batch).min(left) as u32;
            if count == 0 || !shared.is_running() {
                return Ok(());
            }
            while self.unconfirmed + count > plan.window {
                self.settle().await?;
            }
            if plan.mode == Mode::Live {
                shared.room().await;
            }
            let now = shared.now_ns();
            let slab = self.source.slab(count, |_| now);
            let ticket = self.publisher.send_slab(&slab).await?;
            self.sent(UnderWay {
                ticket,
                count,
                first_ns: now,
                scheduled: None,
            });
        }
    }

    async fn open_loop(&mut self, pace: &Pace) -> Result<()> {
        let plan = &self.shared.plan;
        let schedule = pace.schedule();
        let mut phase = self.shared.phase();
        loop {
            let next = self.source.made();
            if next == self.made_max || !self.shared.is_running() {
                return Ok(());
            }
            if self.unconfirmed >= plan.window {
                self.settle().await?;
                continue;
            }
            tokio::select! {
                biased;
                settled = self.settle(), if !self.under_way.is_empty() => settled?,
                due = pace.until(next) => {
                    due?;
                    let due = schedule.due_by(self.shared.now_ns()).min(self.made_max) - next;
                    let count = due
                        .min(u64::from(plan.batch))
                        .min(u64::from(plan.window - self.unconfirmed)) as u32;
                    let slab = self.source.slab(count, |sequence| schedule.due_ns(sequence));
                    let ticket = self.publisher.send_slab(&slab).await?;
                    self.sent(UnderWay {
                        ticket,
                        count,
                        first_ns: schedule.due_ns(next),
                        scheduled: Some((schedule, next)),
                    });
                }
                _ = phase.changed() => {}
            }
        }
    }

    fn sent(&mut self, batch: UnderWay) {
        self.unconfirmed += batch.count;
        self.shared
            .count_published(u64::from(batch.count), self.copies);
        self.under_way.push_back(batch);
    }

    /// Waits for the oldest batch's confirm. Nothing is lost when the future is dropped.
    async fn settle(&mut self) -> Result<()> {
        let Some(batch) = self.under_way.front_mut() else {
            return Ok(());
        };
        let confirmed = (&mut batch.ticket).await?;
        if let Some(exception) = confirmed.exceptions.first() {
            bail!(
                "message {} was {}: {}",
                exception.sequence,
                exception.kind.as_str(),
                exception.text
            );
        }
        let now = self.shared.now_ns();
        let recorded = self.shared.recorded();
        let mut record = |meant_ns: u64, count: u32| {
            if recorded.contains(&meant_ns) {
                let passed = now.saturating_sub(meant_ns);
                self.confirm.saturating_record_n(passed, u64::from(count));
            }
        };
        match batch.scheduled {
            None => record(batch.first_ns, batch.count),
            Some((schedule, first)) => (first..first + u64::from(batch.count))
                .for_each(|sequence| record(schedule.due_ns(sequence), 1)),
        }
        let count = batch.count;
        self.under_way.pop_front();
        self.unconfirmed -= count;
        let bytes = self.source.record_bytes() as u64 * u64::from(count);
        self.shared.count_confirmed(u64::from(count), bytes);
        Ok(())
    }
}
