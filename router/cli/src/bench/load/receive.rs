//! One receiver: a live subscriber, or a consumer that acks each batch.

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use waypost_client::{Client, ConsumerOptions, Filter, GroupKind, SubscriberEvent};

use super::shared::{Phase, Shared, histogram};
use super::{QUEUE, Report};
use crate::bench::plan::Kind;
use crate::bench::stamp::{Stamp, Tally};

/// The group of all consumers.
const GROUP: &str = "bench";

/// Receives until everything was delivered.
pub(super) async fn run(
    index: usize,
    client: &Client,
    shared: &Shared,
    ready: impl FnOnce(),
) -> Result<Report> {
    let mut received = Received {
        shared,
        tallies: vec![Tally::default(); shared.plan.publishers],
        end_to_end: histogram(),
    };
    match shared.consumes {
        true => consume(client, shared, ready, &mut received).await?,
        false => subscribe(index, client, shared, ready, &mut received).await?,
    }
    Ok(Report::Received {
        tallies: received.tallies,
        end_to_end: received.end_to_end,
    })
}

async fn subscribe(
    index: usize,
    client: &Client,
    shared: &Shared,
    ready: impl FnOnce(),
    received: &mut Received<'_>,
) -> Result<()> {
    let topics = shared.plan.followed(index);
    let filters = topics
        .iter()
        .map(|publisher| Filter::new(shared.plan.topic(*publisher)))
        .collect::<Result<Vec<_>, _>>()
        .context("filter")?;
    let mut subscriber = client.subscriber(&filters, "bench").await?;
    ready();
    let mut phase = shared.phase();
    loop {
        let event = tokio::select! {
            biased;
            event = subscriber.next() => event?,
            _ = phase.wait_for(|phase| *phase == Phase::Over) => return Ok(()),
        };
        match event {
            Some(SubscriberEvent::Batch(live)) => received.take(live.slab.iter())?,
            Some(SubscriberEvent::Lost(count)) => {
                bail!("{count} messages were lost: this side read too slowly")
            }
            Some(_) => bail!("the connection was lost"),
            None => bail!("the subscription was closed"),
        }
    }
}

async fn consume(
    client: &Client,
    shared: &Shared,
    ready: impl FnOnce(),
    received: &mut Received<'_>,
) -> Result<()> {
    let options = ConsumerOptions {
        window_messages: 4096,
        kind: match shared.plan.kind {
            Kind::Shared => GroupKind::Shared,
            Kind::Exclusive => GroupKind::Exclusive,
            Kind::Key => GroupKind::Key,
        },
        ..ConsumerOptions::new(QUEUE, GROUP)
    };
    let mut consumer = client.consumer(options).await?;
    ready();
    let mut phase = shared.phase();
    if shared.plan.backlog {
        phase.wait_for(|phase| *phase >= Phase::Drain).await?;
    }
    loop {
        let batch = tokio::select! {
            biased;
            batch = consumer.next() => batch?,
            _ = phase.wait_for(|phase| *phase == Phase::Over) => break,
        };
        let Some(batch) = batch else {
            bail!("the consumer was closed");
        };
        received.take(batch.iter().map(|delivery| delivery.body))?;
        consumer.ack(&batch)?;
    }
    consumer.close().await?;
    Ok(())
}

struct Received<'a> {
    shared: &'a Shared,
    tallies: Vec<Tally>,
    end_to_end: Histogram<u64>,
}

impl Received<'_> {
    fn take<'b>(&mut self, bodies: impl Iterator<Item = &'b [u8]>) -> Result<()> {
        let plan = &self.shared.plan;
        let now = self.shared.now_ns();
        let recorded = self.shared.recorded();
        let mut count = 0;
        // Messages that were to leave together are recorded together.
        let mut same = (0, 0);
        for body in bodies {
            let stamp = Stamp::read(plan.shape, body);
            let tally = stamp.and_then(|stamp| self.tallies.get_mut(stamp.publisher as usize));
            let (Some(stamp), Some(tally)) = (stamp, tally) else {
                bail!("a message arrived that this run did not publish");
            };
            tally.add(stamp.sequence);
            count += 1;
            if stamp.meant_ns != same.0 {
                record(&mut self.end_to_end, now, same, &recorded);
                same = (stamp.meant_ns, 0);
            }
            same.1 += 1;
        }
        record(&mut self.end_to_end, now, same, &recorded);
        self.shared.count_delivered(count);
        Ok(())
    }
}

fn record(
    histogram: &mut Histogram<u64>,
    now: u64,
    (meant_ns, count): (u64, u64),
    recorded: &std::ops::Range<u64>,
) {
    if count > 0 && recorded.contains(&meant_ns) {
        histogram.saturating_record_n(now.saturating_sub(meant_ns), count);
    }
}
