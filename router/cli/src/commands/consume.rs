//! `waypost consume`: messages from a queue's group, each with a word said of it.

use std::time::Duration;

use serde_json::json;
use waypost_client::{Batch, Client, Code, Consumer, ConsumerOptions, Delivery, Filter, Range};

use super::queue_group::GroupArgs;
use crate::connect::ConnectArgs;
use crate::messages;
use crate::output::{Output, note};
use crate::times::{Place, millis};
use crate::units::{counted, parse_duration};

/// Take messages from a queue, show them, and ack them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost consume orders --group packers                    until Ctrl-C
  waypost consume orders --group packers --count 10
  waypost consume orders --group packers --idle 2s          until nothing came for 2 s
  waypost consume orders --group look --no-ack --count 1    look; it will come again
  waypost consume orders --group new --start end            only what comes from now on
  waypost consume orders --group late --start 2h            what came in the last two hours, and on
  waypost consume orders --group audit --kind exclusive --filter 'orders/eu/#'
  waypost consume orders --group packers --nack 30s         again in 30 s
  waypost consume orders --group packers --reject 'too old' --count 1    to the dead letters

Consumers of one group share its messages; each group gets all of them. A group is made when
its first consumer comes, with the kind, the filters and the start that this one says; later they
need not be said.")]
pub struct ConsumeArgs {
    /// The queue
    queue: String,
    /// The group whose position it is
    #[arg(short, long)]
    group: String,
    /// End after so many messages
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// End when nothing came for so long
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    idle: Option<Duration>,
    /// Where a new group begins: beginning, end, an offset, a time, or how long ago
    #[arg(long, value_name = "WHERE", default_value = "beginning")]
    start: Place,
    #[command(flatten)]
    group_options: GroupArgs,
    /// Do not ack: the messages go back to the group when this ends
    #[arg(long, group = "word")]
    no_ack: bool,
    /// Do not ack: have the messages delivered again after this time
    #[arg(long, value_name = "DELAY", value_parser = parse_duration, group = "word")]
    nack: Option<Duration>,
    /// Do not ack: send the messages to the dead letters, for this reason
    #[arg(long, value_name = "REASON", group = "word")]
    reject: Option<String>,
    /// How long a message may stay unacked; without it, what the queue says
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    ack_deadline: Option<Duration>,
    /// Write payloads only, as they are, each with a line feed
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// What is said of each message that was shown.
#[derive(Clone, Debug)]
enum Word {
    Ack,
    Nothing,
    Nack(Duration),
    Reject(String),
}

impl ConsumeArgs {
    fn word(&self) -> Word {
        match (&self.nack, &self.reject) {
            (Some(delay), _) => Word::Nack(*delay),
            (_, Some(reason)) => Word::Reject(reason.clone()),
            _ if self.no_ack => Word::Nothing,
            _ => Word::Ack,
        }
    }

    fn options(&self) -> ConsumerOptions {
        let mut options = ConsumerOptions::new(&self.queue, &self.group);
        options.name = "waypost consume".into();
        options.start = self.start.start;
        options.start_offset = self.start.offset;
        options.start_time_ms = self.start.time_ms;
        options.kind = self.group_options.kind();
        options.filters = filters(self.group_options.filters());
        if let Some(deadline) = self.ack_deadline {
            options.ack_deadline_ms = millis(deadline);
        }
        if let Some(count) = self.count {
            // No more than is shown, so that other consumers get the rest at once.
            options.window_messages = count.clamp(1, options.window_messages);
        }
        options
    }
}

/// Runs the command.
pub fn run(args: ConsumeArgs, output: Output) -> anyhow::Result<()> {
    super::block_on(async {
        let client = args.connect.connect_for_long().await?;
        super::with(client, async |client| consume(client, &args, output).await).await
    })
}

async fn consume(client: &Client, args: &ConsumeArgs, output: Output) -> anyhow::Result<()> {
    let mut consumer = open(client, args).await?;
    let mut taker = Taker {
        word: args.word(),
        queue: args.queue.clone(),
        left: args.count,
        raw: args.raw,
        output,
        taken: 0,
    };
    let ended = tokio::select! {
        result = taker.take(&mut consumer, args.idle) => result,
        result = super::interrupted() => result,
    };
    // What was said must reach the node, whatever ended the loop.
    let closed = consumer.close().await;
    ended?;
    closed?;
    if !output.is_json() && !args.raw {
        note(format!(
            "{} {}",
            counted(taker.taken, "message"),
            taker.word.said()
        ));
    }
    Ok(())
}

/// Opens a consumer. Where the group is there and was made otherwise, and nothing was said of how
/// it is to be, it is taken as it is.
async fn open(client: &Client, args: &ConsumeArgs) -> anyhow::Result<Consumer> {
    let mut options = args.options();
    let refused = match client.consumer(options.clone()).await {
        Err(error) if error.code() == Some(Code::Exists) && args.group_options.is_empty() => error,
        opened => return Ok(opened?),
    };
    // Without the right to look at the queue, what the node said first tells more.
    let Ok(state) = client.queue_info(&args.queue).await else {
        return Err(refused.into());
    };
    let Some(group) = state.groups.into_iter().find(|g| g.name == args.group) else {
        return Err(refused.into());
    };
    options.kind = group.kind();
    options.filters = filters(&group.filters);
    Ok(client.consumer(options).await?)
}

fn filters(texts: &[String]) -> Vec<Filter> {
    // They were checked when they were said, here or to the node.
    let filters = texts.iter().map(|text| Filter::new(text.as_str()));
    filters.filter_map(Result::ok).collect()
}

impl Word {
    fn said(&self) -> &'static str {
        match self {
            Word::Ack => "acked",
            Word::Nothing => "shown and given back",
            Word::Nack(_) => "nacked",
            Word::Reject(_) => "rejected",
        }
    }
}

struct Taker {
    word: Word,
    queue: String,
    /// Messages still to be taken; `None` is without end.
    left: Option<u64>,
    raw: bool,
    output: Output,
    taken: u64,
}

impl Taker {
    async fn take(
        &mut self,
        consumer: &mut Consumer,
        idle: Option<Duration>,
    ) -> anyhow::Result<()> {
        while self.left != Some(0) {
            let next = match idle {
                None => consumer.next().await,
                Some(idle) => match tokio::time::timeout(idle, consumer.next()).await {
                    Ok(next) => next,
                    Err(_) => return Ok(()),
                },
            };
            let Some(batch) = next? else { break };
            self.on_batch(consumer, &batch)?;
        }
        Ok(())
    }

    fn on_batch(&mut self, consumer: &Consumer, batch: &Batch) -> anyhow::Result<()> {
        let mut shown = Vec::new();
        let mut result = Ok(());
        for delivery in batch.iter() {
            if self.left == Some(0) {
                break;
            }
            result = self.show(&delivery);
            if result.is_err() {
                break;
            }
            shown.push(Range::one(delivery.offset));
            self.taken += 1;
            self.left = self.left.map(|left| left - 1);
        }
        // Also where a closed pipe ended it: what was shown was shown.
        let session = batch.session();
        match &self.word {
            Word::Ack => consumer.ack_ranges(session, shown)?,
            Word::Nack(delay) => consumer.nack(session, shown, *delay)?,
            Word::Reject(reason) => consumer.reject(session, shown, reason.as_str())?,
            Word::Nothing => {}
        }
        result
    }

    fn show(&self, delivery: &Delivery<'_>) -> anyhow::Result<()> {
        let record = delivery.record()?;
        if self.raw {
            return self.output.bytes(record.payload());
        }
        if self.output.is_json() {
            let about = [
                ("queue", json!(self.queue)),
                ("offset", json!(delivery.offset)),
                ("attempt", json!(delivery.attempt)),
                ("receive_time_ms", json!(delivery.receive_time_ms)),
            ];
            return self.output.json(&messages::to_json(&record, &about));
        }
        let mut about = format!("{:>6}", delivery.offset);
        if delivery.attempt > 1 {
            about.push_str(&format!(" (attempt {})", delivery.attempt));
        }
        let style = self.output.style();
        self.output.line(messages::to_line(&record, &about, style))
    }
}
