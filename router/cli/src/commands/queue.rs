//! `waypost queue`: make, look at and remove queues.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use waypost_client::wire::control::{Durability, GroupState, Peeked, QueueSettings, QueueState};
use waypost_client::{Client, Filter, RecordRef};

use super::queue_keep;
use crate::commands::queue_time::TimeArgs;
use crate::connect::ConnectArgs;
use crate::failure::{FAILED, Shown, usage};
use crate::messages;
use crate::output::{Output, note};
use crate::table::Table;
use crate::units::{self, count, counted, parse_duration, parse_size};

/// Make, look at and remove queues
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost queue add orders --from 'orders/#'
  waypost queue ls
  waypost queue peek orders --count 3")]
pub struct QueueArgs {
    #[command(subcommand)]
    command: QueueCommand,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    Add(AddArgs),
    /// List all queues
    #[command(after_help = "Example: waypost queue ls --json")]
    Ls,
    Info(InfoArgs),
    Peek(PeekArgs),
    Browse(queue_keep::BrowseArgs),
    RmMessages(queue_keep::RemoveArgs),
    Replay(queue_keep::ReplayArgs),
    Set(queue_keep::SetArgs),
    Purge(PurgeArgs),
    Rm(RmArgs),
}

/// Make a queue; the node keeps it until `queue rm`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost queue add orders --from 'orders/#'
  waypost queue add readings --durability memory --bytes-max 64MiB --from 'plant/+/temperature'

A queue that is there with the same settings is left as it is; with others it is an error.
A queue that the configuration file names is changed there.")]
struct AddArgs {
    /// Its name: 1 to 128 letters, digits, '.', '_' or '-'
    name: String,
    /// Topics that reach it without a route; may be given several times
    #[arg(long, value_name = "FILTER", value_parser = parse_filter)]
    from: Vec<String>,
    /// When messages are confirmed: after they are synced to disk, or at once
    #[arg(long, value_enum, default_value_t)]
    durability: DurabilityArg,
    /// Bytes in it at most; above, publishers are refused [default: the node's]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "0", hide_default_value = true)]
    bytes_max: u64,
    /// Messages in it at most [default: no limit]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    messages_max: u64,
    /// How long a consumer has to ack before a message is delivered again [default: the node's]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    ack_deadline: Option<Duration>,
    /// Deliveries of a message before it goes to the dead letters [default: the node's]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    deliver_max: u32,
    #[command(flatten)]
    time: TimeArgs,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum DurabilityArg {
    /// After fdatasync
    #[default]
    Sync,
    /// At once; a restart empties the queue
    Memory,
}

fn parse_filter(text: &str) -> Result<String, String> {
    let filter = Filter::new(text).map_err(|error| format!("the filter {error}"))?;
    Ok(filter.as_str().to_owned())
}

/// Show a queue and its groups
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: waypost queue info orders")]
struct InfoArgs {
    /// The queue
    name: String,
}

/// Look at messages without taking them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost queue peek orders
  waypost queue peek orders --from-offset 1000 --count 50 --json
  waypost queue peek dead-letter                                 why: see its headers")]
struct PeekArgs {
    /// The queue
    name: String,
    /// The first offset
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from_offset: u64,
    /// How many messages at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    count: u32,
}

/// Delete all messages of a queue
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: waypost queue purge orders --yes")]
struct PurgeArgs {
    /// The queue
    name: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Remove a queue with its messages and groups
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: waypost queue rm orders --yes")]
struct RmArgs {
    /// The queue
    name: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Runs the command.
pub fn run(args: QueueArgs, output: Output) -> anyhow::Result<()> {
    super::block_on(async {
        let client = args.connect.connect_once().await?;
        super::with(client, async |client| {
            manage(client, args.command, output).await
        })
        .await
    })
}

async fn manage(client: &Client, command: QueueCommand, output: Output) -> anyhow::Result<()> {
    match command {
        QueueCommand::Add(args) => add(client, args, output).await,
        QueueCommand::Ls => list(&client.queue_list().await?.queues, output),
        QueueCommand::Info(args) => info(&client.queue_info(args.name).await?, output),
        QueueCommand::Peek(args) => peek(client, args, output).await,
        QueueCommand::Browse(args) => queue_keep::browse(client, args, output).await,
        QueueCommand::RmMessages(args) => queue_keep::remove(client, args, output).await,
        QueueCommand::Replay(args) => queue_keep::replay(client, args, output).await,
        QueueCommand::Set(args) => queue_keep::set(client, args, output).await,
        QueueCommand::Purge(PurgeArgs { name, yes }) => {
            let state = client.queue_info(&name).await?;
            let what = format!("delete {} of", counted(state.messages, "message"));
            confirm(&what, &name, yes).await?;
            done(output, "purged", &name, client.queue_purge(&name).await?)
        }
        QueueCommand::Rm(RmArgs { name, yes }) => {
            let state = client.queue_info(&name).await?;
            let groups = state.groups.len() as u64;
            let what = format!(
                "remove with {} and {}",
                counted(state.messages, "message"),
                counted(groups, "group")
            );
            confirm(&what, &name, yes).await?;
            done(output, "removed", &name, client.queue_remove(&name).await?)
        }
    }
}

async fn add(client: &Client, args: AddArgs, output: Output) -> anyhow::Result<()> {
    let durability = match args.durability {
        DurabilityArg::Sync => Durability::Sync,
        DurabilityArg::Memory => Durability::Memory,
    };
    let deadline = args.ack_deadline.unwrap_or_default();
    let mut settings = QueueSettings {
        durability: durability as i32,
        bytes_max: args.bytes_max,
        messages_max: args.messages_max,
        ack_deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX >> 2),
        deliver_max: args.deliver_max,
        from: args.from,
        ..QueueSettings::default()
    };
    args.time.apply(&mut settings);
    client.queue_add(&args.name, settings).await?;
    match output.is_json() {
        true => output.json(&json!({"queue": args.name, "added": true})),
        false => output.line(format!("queue {} is there", args.name)),
    }
}

/// Asks whether that is meant; without a terminal to ask on, `--yes` must say so.
async fn confirm(what: &str, name: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(usage(format!(
            "{what} queue {name}: say --yes if that is meant"
        )));
    }
    let question = format!("{what} queue {name}? [y/N] ");
    // On a thread of its own, so that the connection lives while a person thinks.
    let answer = tokio::task::spawn_blocking(move || ask(&question));
    if matches!(answer.await.context("asking")??.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    note("nothing was done");
    Err(Shown(FAILED).into())
}

fn ask(question: &str) -> anyhow::Result<String> {
    let mut stderr = io::stderr().lock();
    let asked = stderr.write_all(question.as_bytes());
    asked
        .and_then(|()| stderr.flush())
        .context("standard error")?;
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.context("standard input")?;
    Ok(answer)
}

fn done(output: Output, what: &str, name: &str, messages: u64) -> anyhow::Result<()> {
    match output.is_json() {
        true => output.json(&json!({"queue": name, what: true, "messages": messages})),
        false => output.line(format!(
            "{what} queue {name}: {}",
            counted(messages, "message")
        )),
    }
}

fn durability_name(settings: &QueueSettings) -> &'static str {
    match Durability::try_from(settings.durability) {
        Ok(Durability::Sync) => "sync",
        Ok(Durability::Interval) => "interval",
        Ok(Durability::Memory) => "memory",
        Err(_) => "unknown",
    }
}

fn list(queues: &[QueueState], output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(&queues.iter().map(to_json).collect::<Vec<_>>());
    }
    let mut table = Table::new(&[
        "queue",
        "durability",
        "messages#",
        "size#",
        "published#",
        "acked#",
        "groups#",
        "consumers#",
        "source",
    ]);
    for queue in queues {
        let consumers: u64 = queue.groups.iter().map(|g| u64::from(g.consumers)).sum();
        table.row([
            queue.name.clone(),
            queue.settings.as_ref().map_or("", durability_name).into(),
            count(queue.messages),
            units::size(queue.bytes),
            count(queue.published),
            count(queue.acked),
            count(queue.groups.len() as u64),
            count(consumers),
            queue.source.clone(),
        ]);
    }
    output.lines(table.lines(0, output.style()))
}

fn info(queue: &QueueState, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(&to_json(queue));
    }
    let style = output.style();
    let fact =
        |name: &str, value: String| format!("  {}  {value}", style.dim(&format!("{name:<13}")));
    let settings = queue.settings.clone().unwrap_or_default();
    let limit = |text: String, value: u64| if value == 0 { "no limit".into() } else { text };
    output.line(style.bold(&queue.name))?;
    output.lines([
        fact(
            "messages",
            format!("{} ({})", count(queue.messages), units::size(queue.bytes)),
        ),
        fact(
            "offsets",
            format!("{} to {}", queue.first_offset, queue.next_offset),
        ),
        fact("durability", durability_name(&settings).into()),
        fact(
            "bytes max",
            limit(units::size(settings.bytes_max), settings.bytes_max),
        ),
        fact(
            "messages max",
            limit(count(settings.messages_max), settings.messages_max),
        ),
        fact(
            "ack deadline",
            units::duration(Duration::from_millis(settings.ack_deadline_ms)),
        ),
        fact(
            "deliver max",
            limit(
                count(settings.deliver_max.into()),
                settings.deliver_max.into(),
            ),
        ),
        fact("from", settings.from.join(", ")),
        fact("source", queue.source.clone()),
        fact("incarnation", queue.incarnation.clone()),
        fact(
            "since start",
            format!(
                "{} published, {} delivered, {} acked",
                count(queue.published),
                count(queue.delivered),
                count(queue.acked)
            ),
        ),
    ])?;
    if queue.groups.is_empty() {
        return output.line("\n  no group yet: the first `waypost consume` makes one");
    }
    output.line("")?;
    output.lines(groups(&queue.groups).lines(2, style))
}

fn groups(groups: &[GroupState]) -> Table {
    let mut table = Table::new(&[
        "group",
        "pending#",
        "in flight#",
        "acked below#",
        "next offset#",
        "consumers#",
        "redelivered#",
    ]);
    for group in groups {
        table.row([
            group.name.clone(),
            count(group.pending),
            count(group.in_flight),
            group.acked_below.to_string(),
            group.next_offset.to_string(),
            group.consumers.to_string(),
            count(group.redelivered),
        ]);
    }
    table
}

fn to_json(queue: &QueueState) -> Value {
    let settings = queue.settings.clone().unwrap_or_default();
    let group = |group: &GroupState| {
        json!({
            "name": group.name,
            "acked_below": group.acked_below,
            "next_offset": group.next_offset,
            "pending": group.pending,
            "in_flight": group.in_flight,
            "consumers": group.consumers,
            "redelivered": group.redelivered,
        })
    };
    json!({
        "name": queue.name,
        "durability": durability_name(&settings),
        "bytes_max": settings.bytes_max,
        "messages_max": settings.messages_max,
        "ack_deadline_ms": settings.ack_deadline_ms,
        "deliver_max": settings.deliver_max,
        "from": settings.from,
        "first_offset": queue.first_offset,
        "next_offset": queue.next_offset,
        "messages": queue.messages,
        "bytes": queue.bytes,
        "groups": queue.groups.iter().map(group).collect::<Vec<_>>(),
        "source": queue.source,
        "incarnation": queue.incarnation,
        "published": queue.published,
        "delivered": queue.delivered,
        "acked": queue.acked,
    })
}

async fn peek(client: &Client, args: PeekArgs, output: Output) -> anyhow::Result<()> {
    let peeked = client
        .queue_peek(&args.name, args.from_offset, args.count)
        .await?;
    if peeked.messages.is_empty() && !output.is_json() {
        note("no message from that offset on");
    }
    show_peeked(&args.name, &peeked, output)
}

fn show_peeked(queue: &str, peeked: &Peeked, output: Output) -> anyhow::Result<()> {
    for message in &peeked.messages {
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
    Ok(())
}
