//! `waypost consume`: messages from a queue's group, each with a word said of it.

use std::str::FromStr;
use std::time::Duration;

use serde_json::json;
use waypost_client::{Batch, Client, Consumer, ConsumerOptions, Delivery, Range, Start};

use crate::connect::ConnectArgs;
use crate::messages;
use crate::output::{Output, note};
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
  waypost consume orders --group packers --nack 30s         again in 30 s
  waypost consume orders --group packers --reject 'too old' --count 1    to the dead letters

Consumers of one group share its messages; each group gets all of them. A group is made when
its first consumer comes.")]
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
    /// Where a new group begins: beginning, end or an offset
    #[arg(long, value_name = "WHERE", default_value = "beginning")]
    start: From,
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

#[derive(Clone, Copy, Debug)]
struct From(Start, u64);

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<From, String> {
        match (text, text.parse()) {
            ("beginning", _) => Ok(From(Start::Beginning, 0)),
            ("end", _) => Ok(From(Start::End, 0)),
            (_, Ok(offset)) => Ok(From(Start::Offset, offset)),
            _ => Err("expected beginning, end or an offset such as 42".into()),
        }
    }
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
        options.start = self.start.0;
        options.start_offset = self.start.1;
        if let Some(deadline) = self.ack_deadline {
            options.ack_deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX >> 2);
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
    let mut consumer = client.consumer(args.options()).await?;
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
