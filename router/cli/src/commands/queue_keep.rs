//! `waypost queue browse`, `rm-messages` and `replay`: selected messages of a queue.

use serde_json::json;
use waypost_client::Client;
use waypost_client::wire::control::{Done, HeaderIs, Select};
use waypost_client::wire::topic;

use super::look::{self, Part};
use super::queue_settings::parse_filter;
use crate::failure::usage;
use crate::output::{Output, note};
use crate::times::parse_time;
use crate::units::counted;

/// Messages of one look.
const LOOK: u32 = 200;

/// Which messages: all conditions hold.
#[derive(Debug, clap::Args)]
pub struct SelectArgs {
    /// The first offset
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: u64,
    /// Offsets below this one
    #[arg(
        long,
        value_name = "OFFSET",
        default_value_t = 0,
        hide_default_value = true
    )]
    to: u64,
    /// Received at this time or later: 2026-05-01T06:00:00Z, or how long ago
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<u64>,
    /// Received before this time, or longer ago
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<u64>,
    /// Topics that match; may be given several times
    #[arg(long, value_name = "FILTER", value_parser = parse_filter)]
    filter: Vec<String>,
    /// Those with this key
    #[arg(long, value_name = "KEY", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key: Option<String>,
    /// Those with this header; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_header)]
    header: Vec<(String, String)>,
}

/// A header: a name and a value, which may be empty.
pub fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

impl SelectArgs {
    /// Whether that is every message.
    fn is_empty(&self) -> bool {
        let SelectArgs {
            from,
            to,
            since,
            until,
            filter,
            key,
            header,
        } = self;
        *from == 0
            && *to == 0
            && [since, until].iter().all(|time| time.is_none())
            && filter.is_empty()
            && key.is_none()
            && header.is_empty()
    }

    fn select(self) -> Select {
        let header = |(name, value)| HeaderIs { name, value };
        Select {
            from_offset: self.from,
            to_offset: self.to,
            from_time_ms: self.since.unwrap_or(0),
            to_time_ms: self.until.unwrap_or(0),
            filters: self.filter,
            key: self.key.map(String::into_bytes).unwrap_or_default().into(),
            headers: self.header.into_iter().map(header).collect(),
            dead_queue: String::new(),
        }
    }
}

/// Look at selected messages without taking them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost queue browse orders --filter 'orders/eu/#' --count 20
  waypost queue browse orders --since 2h --until 1h --key 4711 --payload
  waypost queue browse dead-letter --header waypost-dead-queue=orders --json")]
pub struct BrowseArgs {
    /// The queue
    name: String,
    #[command(flatten)]
    select: SelectArgs,
    /// How many messages at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    count: u64,
    /// Show whole payloads, each below its message
    #[arg(long)]
    payload: bool,
}

/// Remove selected messages, whoever may still want them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost queue rm-messages orders --key 4711
  waypost queue rm-messages orders --from 1000 --to 1001
  waypost queue rm-messages readings --until 1d
  waypost queue rm-messages readings --all")]
pub struct RemoveArgs {
    /// The queue
    name: String,
    #[command(flatten)]
    select: SelectArgs,
    /// All of them
    #[arg(long)]
    all: bool,
}

impl RemoveArgs {
    /// That all are to go must be said, and only where it is meant.
    pub fn check(&self) -> anyhow::Result<()> {
        match (self.all, self.select.is_empty()) {
            (false, true) => Err(usage(
                "which messages? Select some (--key, --filter, --from, …), or say --all",
            )),
            (true, false) => Err(usage("--all and a selection exclude each other")),
            _ => Ok(()),
        }
    }
}

/// Publish copies of selected messages: into a queue, or to a topic, through its routes and plugins
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("destination").required(true),
    after_help = "\
Examples:
  waypost queue replay history --from 1000 --to 2000 --into orders
  waypost queue replay history --since 2026-05-01T06:00:00Z --filter 'orders/eu/#' --into orders
  waypost queue replay history --since 2h --into topic:orders/again
  waypost queue replay history --key 4711 --republish"
)]
pub struct ReplayArgs {
    /// The queue
    name: String,
    #[command(flatten)]
    select: SelectArgs,
    /// What takes the copies: a queue, or topic:TOPIC
    #[arg(long, value_name = "DESTINATION", group = "destination", value_parser = parse_destination)]
    into: Option<Destination>,
    /// Publish each again under its own topic
    #[arg(long, group = "destination")]
    republish: bool,
}

/// What takes the copies of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Destination {
    Queue(String),
    Topic(String),
}

fn parse_destination(text: &str) -> Result<Destination, String> {
    match text.split_once(':') {
        None if !text.is_empty() => Ok(Destination::Queue(text.to_owned())),
        Some(("queue", name)) if !name.is_empty() => Ok(Destination::Queue(name.to_owned())),
        Some(("topic", topic)) => match topic::parse_topic(topic.as_bytes()) {
            Ok(topic) => Ok(Destination::Topic(topic.to_owned())),
            Err(error) => Err(error.to_string()),
        },
        _ => Err("expected the name of a queue, or topic:TOPIC".to_owned()),
    }
}

/// Runs `queue browse`.
pub async fn browse(client: &Client, args: BrowseArgs, output: Output) -> anyhow::Result<()> {
    let part = if args.payload {
        Part::Payload
    } else {
        Part::Line
    };
    let (queue, mut select, mut left) = (args.name, args.select.select(), args.count);
    loop {
        let count = left.min(u64::from(LOOK)) as u32;
        let found = client.browse(&queue, select.clone(), count).await?;
        for message in &found.messages {
            look::show(&queue, message, part, output)?;
        }
        left = left.saturating_sub(found.messages.len() as u64);
        if left == 0 || found.next_offset <= select.from_offset {
            if left == args.count && !output.is_json() {
                note("no such message");
            }
            return Ok(());
        }
        select.from_offset = found.next_offset;
    }
}

/// Runs `queue rm-messages`.
pub async fn remove(client: &Client, args: RemoveArgs, output: Output) -> anyhow::Result<()> {
    let (mut select, mut count) = (args.select.select(), 0);
    loop {
        let done = client.remove_messages(&args.name, select.clone()).await?;
        count += done.count;
        if done.next_offset == 0 {
            return told(output, "removed", count);
        }
        select.from_offset = done.next_offset;
    }
}

/// Runs `queue replay`.
pub async fn replay(client: &Client, args: ReplayArgs, output: Output) -> anyhow::Result<()> {
    let (mut select, mut sum) = (args.select.select(), Done::default());
    if select.to_offset == 0 {
        // What the copies add is not copied again.
        select.to_offset = client.queue_info(&args.name).await?.next_offset.max(1);
    }
    loop {
        let part = select.clone();
        let done = match &args.into {
            Some(Destination::Queue(queue)) => client.replay(&args.name, part, queue).await,
            Some(Destination::Topic(topic)) => {
                client.replay_to_topic(&args.name, part, Some(topic)).await
            }
            None => client.replay_to_topic(&args.name, part, None).await,
        };
        let done = match done {
            Ok(done) => done,
            Err(error) if sum == Done::default() => return Err(error.into()),
            Err(error) => {
                copied(output, &sum)?;
                let at = select.from_offset;
                return Err(anyhow::Error::new(error).context(format!("stopped at offset {at}")));
            }
        };
        let is_stopped = !done.why.is_empty() && left_out(&done).is_empty();
        add(&mut sum, &done);
        if is_stopped {
            copied(output, &sum)?;
            anyhow::bail!("stopped at offset {}: {}", done.next_offset, done.why);
        }
        if done.next_offset == 0 {
            return copied(output, &sum);
        }
        select.from_offset = done.next_offset;
        note(format!("{} copied", sum.count));
    }
}

fn add(sum: &mut Done, done: &Done) {
    sum.count += done.count;
    sum.dropped += done.dropped;
    sum.dead_lettered += done.dead_lettered;
    sum.unroutable += done.unroutable;
    sum.refused += done.refused;
    sum.duplicates += done.duplicates;
    sum.next_offset = done.next_offset;
    if !done.why.is_empty() {
        sum.why.clone_from(&done.why);
    }
}

/// What was not taken, in words.
fn left_out(done: &Done) -> Vec<String> {
    let numbers = [
        ("dropped", done.dropped),
        ("dead-lettered", done.dead_lettered),
        ("unroutable", done.unroutable),
        ("refused", done.refused),
        ("duplicate", done.duplicates),
    ];
    let some = numbers.iter().filter(|(_, number)| *number > 0);
    some.map(|(what, number)| format!("{number} {what}"))
        .collect()
}

/// Tells what became of a replay.
fn copied(output: Output, sum: &Done) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(&json!({
            "messages": sum.count,
            "dropped": sum.dropped,
            "dead_lettered": sum.dead_lettered,
            "unroutable": sum.unroutable,
            "refused": sum.refused,
            "duplicates": sum.duplicates,
            "why": sum.why,
        }));
    }
    let left_out = left_out(sum);
    output.line(match left_out.is_empty() {
        true => format!("copied: {}", counted(sum.count, "message")),
        false => format!(
            "copied: {}; {} (the last: {})",
            counted(sum.count, "message"),
            left_out.join(", "),
            sum.why
        ),
    })
}

fn told(output: Output, what: &str, count: u64) -> anyhow::Result<()> {
    match output.is_json() {
        true => output.json(&json!({"messages": count})),
        false => output.line(format!("{what}: {}", counted(count, "message"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_of_a_replay() {
        let queue = |name: &str| Ok(Destination::Queue(name.to_owned()));
        assert_eq!(parse_destination("orders"), queue("orders"));
        assert_eq!(parse_destination("queue:orders"), queue("orders"));
        assert_eq!(
            parse_destination("topic:a/b"),
            Ok(Destination::Topic("a/b".to_owned()))
        );
        for wrong in ["", "queue:", "topic:", "topic:a/#", "peer:x"] {
            assert!(parse_destination(wrong).is_err(), "{wrong}");
        }
    }
}
