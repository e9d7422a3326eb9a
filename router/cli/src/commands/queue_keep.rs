//! `waypost queue browse`, `rm-messages`, `replay` and `set`: what a queue holds, and keeps.

use anyhow::Context;
use clap::ValueEnum;
use serde_json::json;
use waypost_client::wire::control::{AtLimit, HeaderIs, Retain, Select};
use waypost_client::{Client, RecordRef};

use crate::messages;
use crate::output::{Output, note};
use crate::units::{counted, parse_size};

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
    /// Received at this time or later, in ms since 1970
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 0,
        hide_default_value = true
    )]
    since: u64,
    /// Received before this time, in ms since 1970
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 0,
        hide_default_value = true
    )]
    until: u64,
    /// Topics that match; may be given several times
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Those with this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Those with this header; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    header: Vec<String>,
}

impl SelectArgs {
    fn select(self) -> Select {
        let header = |text: String| {
            let (name, value) = text.split_once('=').unwrap_or((&text, ""));
            HeaderIs {
                name: name.to_owned(),
                value: value.to_owned(),
            }
        };
        Select {
            from_offset: self.from,
            to_offset: self.to,
            from_time_ms: self.since,
            to_time_ms: self.until,
            filters: self.filter,
            key: self.key.map(String::into_bytes).unwrap_or_default().into(),
            headers: self.header.into_iter().map(header).collect(),
            dead_queue: String::new(),
        }
    }
}

/// Look at selected messages without taking them
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: waypost queue browse orders --filter 'orders/eu/#' --count 20")]
pub struct BrowseArgs {
    /// The queue
    name: String,
    #[command(flatten)]
    select: SelectArgs,
    /// How many messages at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    count: u64,
}

/// Remove selected messages, whoever may still want them
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: waypost queue rm-messages orders --key 4711")]
pub struct RemoveArgs {
    /// The queue
    name: String,
    #[command(flatten)]
    select: SelectArgs,
}

/// Copy selected messages into another queue, or the same one
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: waypost queue replay history --from 1000 --to 2000 --into orders")]
pub struct ReplayArgs {
    /// The queue
    name: String,
    #[command(flatten)]
    select: SelectArgs,
    /// The queue that takes the copies
    #[arg(long, value_name = "QUEUE")]
    into: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RetainArg {
    UntilAcked,
    Log,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AtLimitArg {
    Refuse,
    DropOldest,
    DeadLetter,
}

/// Change what a queue keeps; one that the configuration file names is changed there
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: waypost queue set readings --messages-max 10000 --at-limit drop-oldest"
)]
pub struct SetArgs {
    /// The queue
    name: String,
    /// Bytes in it at most
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    bytes_max: Option<u64>,
    /// Messages in it at most; 0: no limit
    #[arg(long, value_name = "N")]
    messages_max: Option<u64>,
    /// What happens at these limits
    #[arg(long, value_enum)]
    at_limit: Option<AtLimitArg>,
    /// How long messages are kept
    #[arg(long, value_enum)]
    retain: Option<RetainArg>,
    /// The queue that its dead letters go to
    #[arg(long, value_name = "QUEUE")]
    dead_letter: Option<String>,
}

pub async fn set(client: &Client, args: SetArgs, output: Output) -> anyhow::Result<()> {
    let state = client.queue_info(&args.name).await?;
    let mut settings = state.settings.unwrap_or_default();
    settings.bytes_max = args.bytes_max.unwrap_or(settings.bytes_max);
    settings.messages_max = args.messages_max.unwrap_or(settings.messages_max);
    if let Some(at_limit) = args.at_limit {
        settings.at_limit = match at_limit {
            AtLimitArg::Refuse => AtLimit::Refuse,
            AtLimitArg::DropOldest => AtLimit::DropOldest,
            AtLimitArg::DeadLetter => AtLimit::DeadLetter,
        } as i32;
    }
    if let Some(retain) = args.retain {
        settings.retain = match retain {
            RetainArg::UntilAcked => Retain::UntilAcked,
            RetainArg::Log => Retain::Log,
        } as i32;
    }
    settings.dead_letter = args.dead_letter.unwrap_or(settings.dead_letter);
    client.queue_set(&args.name, settings).await?;
    match output.is_json() {
        true => output.json(&json!({"queue": args.name, "set": true})),
        false => output.line(format!("queue {} is set", args.name)),
    }
}

pub async fn browse(client: &Client, args: BrowseArgs, output: Output) -> anyhow::Result<()> {
    let (queue, mut select, mut left) = (args.name, args.select.select(), args.count);
    loop {
        let count = left.min(u64::from(LOOK)) as u32;
        let found = client.browse(&queue, select.clone(), count).await?;
        for message in &found.messages {
            let record = RecordRef::parse(&message.record)
                .with_context(|| format!("queue {queue}, offset {}", message.offset))?;
            if output.is_json() {
                let about = [
                    ("queue", json!(queue)),
                    ("offset", json!(message.offset)),
                    ("receive_time_ms", json!(message.receive_time_ms)),
                ];
                output.json(&messages::to_json(&record, &about))?;
            } else {
                let age = messages::age(message.receive_time_ms);
                let about = format!("{:>6}  {age}", message.offset);
                output.line(messages::to_line(&record, &about, output.style()))?;
            }
        }
        left = left.saturating_sub(found.messages.len() as u64);
        if left == 0 || found.next_offset <= select.from_offset {
            return Ok(());
        }
        select.from_offset = found.next_offset;
    }
}

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

pub async fn replay(client: &Client, args: ReplayArgs, output: Output) -> anyhow::Result<()> {
    let (mut select, mut count) = (args.select.select(), 0);
    if select.to_offset == 0 {
        // What the copies add is not copied again.
        select.to_offset = client.queue_info(&args.name).await?.next_offset.max(1);
    }
    loop {
        let done = client
            .replay(&args.name, select.clone(), &args.into)
            .await?;
        count += done.count;
        if !done.why.is_empty() {
            told(output, "copied", count)?;
            anyhow::bail!("stopped at offset {}: {}", select.from_offset, done.why);
        }
        if done.next_offset == 0 {
            return told(output, "copied", count);
        }
        select.from_offset = done.next_offset;
        note(format!("{count} copied"));
    }
}

fn told(output: Output, what: &str, count: u64) -> anyhow::Result<()> {
    match output.is_json() {
        true => output.json(&json!({"messages": count})),
        false => output.line(format!("{what}: {}", counted(count, "message"))),
    }
}
