//! `waypost queue`: make, look at, change and remove queues and their groups. This file has the
//! commands and the short ones among them; the others are in `queue_…`.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::Context;
use clap::Subcommand;
use serde_json::json;
use waypost_client::Client;
use waypost_client::wire::control::QueueSettings;

use super::look::{self, Part};
use super::queue_settings::SettingArgs;
use super::{queue_group, queue_keep, queue_show};
use crate::connect::ConnectArgs;
use crate::failure::{FAILED, Shown, usage};
use crate::output::{Output, note};
use crate::units::counted;

/// Make, look at, change and remove queues
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost queue add orders --from 'orders/#'
  waypost queue ls
  waypost queue peek orders --count 3
  waypost queue set orders --at-limit drop-oldest --messages-max 10000
  waypost queue seek orders packers --time 5m")]
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
    #[command(visible_alias = "show")]
    Info(InfoArgs),
    Peek(PeekArgs),
    Browse(queue_keep::BrowseArgs),
    RmMessages(queue_keep::RemoveArgs),
    Replay(queue_keep::ReplayArgs),
    Set(SetArgs),
    #[command(subcommand)]
    Group(queue_group::GroupCommand),
    Seek(queue_group::SeekArgs),
    Purge(PurgeArgs),
    Rm(RmArgs),
}

/// Make a queue; the node keeps it until `queue rm`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost queue add orders --from 'orders/#'
  waypost queue add readings --durability memory --bytes-max 64MiB --from 'plant/+/temperature'
  waypost queue add latest --last-value --from 'plant/#'
  waypost queue add history --retain log --age-max 7d --from 'orders/#'

A queue that is there with the same settings is left as it is; with others it is an error.
A queue that the configuration file names is changed there.")]
struct AddArgs {
    /// Its name: 1 to 128 letters, digits, '.', '_' or '-'
    name: String,
    #[command(flatten)]
    settings: SettingArgs,
}

/// Change settings of a queue; one that the configuration file names is changed there
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost queue set readings --messages-max 10000 --at-limit drop-oldest
  waypost queue set orders --ack-deadline 2m --backoff 1s
  waypost queue set orders --from ''                        no topic reaches it without a route

What is not named stays. The durability of a queue stays in any case.")]
struct SetArgs {
    /// The queue
    name: String,
    #[command(flatten)]
    settings: SettingArgs,
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
    /// Show whole payloads, each below its message
    #[arg(long)]
    payload: bool,
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
    args.command.check()?;
    super::block_on(async {
        let client = args.connect.connect_once().await?;
        super::with(client, async |client| {
            manage(client, args.command, output).await
        })
        .await
    })
}

impl QueueCommand {
    /// What the definition of the command line cannot say.
    fn check(&self) -> anyhow::Result<()> {
        match self {
            QueueCommand::RmMessages(args) => args.check(),
            QueueCommand::Set(args) if args.settings.is_empty() => {
                Err(usage("which setting? See waypost queue set --help"))
            }
            _ => Ok(()),
        }
    }
}

async fn manage(client: &Client, command: QueueCommand, output: Output) -> anyhow::Result<()> {
    match command {
        QueueCommand::Add(args) => add(client, args, output).await,
        QueueCommand::Ls => queue_show::list(&client.queue_list().await?.queues, output),
        QueueCommand::Info(args) => queue_show::info(&client.queue_info(args.name).await?, output),
        QueueCommand::Peek(args) => peek(client, args, output).await,
        QueueCommand::Browse(args) => queue_keep::browse(client, args, output).await,
        QueueCommand::RmMessages(args) => queue_keep::remove(client, args, output).await,
        QueueCommand::Replay(args) => queue_keep::replay(client, args, output).await,
        QueueCommand::Set(args) => set(client, args, output).await,
        QueueCommand::Group(command) => queue_group::run(client, command, output).await,
        QueueCommand::Seek(args) => queue_group::seek(client, args, output).await,
        QueueCommand::Purge(PurgeArgs { name, yes }) => {
            let state = client.queue_info(&name).await?;
            let messages = counted(state.messages, "message");
            confirm(&format!("delete {messages} of queue {name}"), yes).await?;
            done(output, "purged", &name, client.queue_purge(&name).await?)
        }
        QueueCommand::Rm(RmArgs { name, yes }) => {
            let state = client.queue_info(&name).await?;
            let groups = state.groups.len() as u64;
            let what = format!(
                "remove queue {name} with {} and {}",
                counted(state.messages, "message"),
                counted(groups, "group")
            );
            confirm(&what, yes).await?;
            done(output, "removed", &name, client.queue_remove(&name).await?)
        }
    }
}

async fn add(client: &Client, args: AddArgs, output: Output) -> anyhow::Result<()> {
    let mut settings = QueueSettings::default();
    args.settings.apply(&mut settings);
    client.queue_add(&args.name, settings).await?;
    match output.is_json() {
        true => output.json(&json!({"queue": args.name, "added": true})),
        false => output.line(format!("queue {} is there", args.name)),
    }
}

async fn set(client: &Client, args: SetArgs, output: Output) -> anyhow::Result<()> {
    let state = client.queue_info(&args.name).await?;
    let mut settings = state.settings.unwrap_or_default();
    args.settings.apply(&mut settings);
    client.queue_set(&args.name, settings).await?;
    match output.is_json() {
        true => output.json(&json!({"queue": args.name, "set": true})),
        false => output.line(format!("queue {} is set", args.name)),
    }
}

/// Asks whether that is meant; without a terminal to ask on, `--yes` must say so.
pub async fn confirm(what: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(usage(format!("{what}: say --yes if that is meant")));
    }
    let question = format!("{what}? [y/N] ");
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

async fn peek(client: &Client, args: PeekArgs, output: Output) -> anyhow::Result<()> {
    let peeked = client
        .queue_peek(&args.name, args.from_offset, args.count)
        .await?;
    if peeked.messages.is_empty() && !output.is_json() {
        note("no message from that offset on");
    }
    let part = if args.payload {
        Part::Payload
    } else {
        Part::Line
    };
    let mut messages = peeked.messages.iter();
    messages.try_for_each(|message| look::show(&args.name, message, part, output))
}
