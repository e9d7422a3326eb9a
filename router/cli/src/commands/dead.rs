//! `waypost dead`: what could not be processed, and what to do with it.

use anyhow::Context;
use clap::Subcommand;
use serde_json::json;
use waypost_client::wire::control::{Done, PeekedMessage, Select};
use waypost_client::{Client, RecordRef};

use super::look::{self, Part};
use super::queue_keep::parse_header;
use super::queue_settings::parse_filter;
use crate::connect::ConnectArgs;
use crate::failure::{FAILED, Shown, usage};
use crate::messages;
use crate::output::{Output, note};
use crate::units::counted;

/// Messages of one look.
const LOOK: u32 = 200;

/// Look at dead letters, put them back, remove them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost dead ls --from-queue orders
  waypost dead show 17
  waypost dead retry 17
  waypost dead retry --all --to orders-slow
  waypost dead edit 17 --payload '{\"amount\": 12}'")]
pub struct DeadArgs {
    #[command(subcommand)]
    command: DeadCommand,
    /// The queue that holds them
    #[arg(
        long,
        global = true,
        value_name = "QUEUE",
        default_value = "dead-letter"
    )]
    queue: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Which dead letters.
#[derive(Debug, clap::Args)]
struct Which {
    /// One, by its offset
    #[arg(value_name = "OFFSET", conflicts_with_all = ["all", "from_queue", "filter"])]
    offset: Option<u64>,
    /// All of them
    #[arg(long, conflicts_with_all = ["from_queue", "filter"])]
    all: bool,
    /// Those that came from this queue
    #[arg(long, value_name = "QUEUE")]
    from_queue: Option<String>,
    /// Those whose topic matches; may be given several times
    #[arg(long, value_name = "FILTER", value_parser = parse_filter)]
    filter: Vec<String>,
}

impl Which {
    /// That all are meant must be said.
    fn check(&self) -> anyhow::Result<()> {
        let says_which = self.offset.is_some()
            || self.all
            || self.from_queue.is_some()
            || !self.filter.is_empty();
        match says_which {
            true => Ok(()),
            false => Err(usage(
                "which dead letters? Say an offset, --from-queue, --filter, or --all",
            )),
        }
    }

    fn select(self) -> Select {
        Select {
            from_offset: self.offset.unwrap_or(0),
            to_offset: self.offset.map_or(0, |offset| offset.saturating_add(1)),
            filters: self.filter,
            dead_queue: self.from_queue.unwrap_or_default(),
            ..Select::default()
        }
    }
}

#[derive(Debug, Subcommand)]
enum DeadCommand {
    /// List them: offset, reason, where they come from
    #[command(after_help = "Example: waypost dead ls --from-queue orders")]
    Ls {
        /// Those that came from this queue
        #[arg(long, value_name = "QUEUE")]
        from_queue: Option<String>,
        /// Those whose topic matches; may be given several times
        #[arg(long, value_name = "FILTER", value_parser = parse_filter)]
        filter: Vec<String>,
    },
    /// Show one with its headers and payload
    #[command(after_help = "Example: waypost dead show 17")]
    Show {
        /// Its offset
        offset: u64,
    },
    /// Put them back into the queues that they came from
    #[command(after_help = "\
Examples:
  waypost dead retry 17
  waypost dead retry --from-queue orders --filter 'orders/eu/#'
  waypost dead retry --all --to orders-slow")]
    Retry {
        #[command(flatten)]
        which: Which,
        /// Into this queue instead
        #[arg(long, value_name = "QUEUE")]
        to: Option<String>,
    },
    /// Put one back with another payload, or other headers
    #[command(after_help = "\
Examples:
  waypost dead edit 17 --payload '{\"amount\": 12}'
  waypost dead edit 17 --payload-file fixed.json --header unit=mm")]
    Edit {
        /// Its offset
        offset: u64,
        /// The payload
        #[arg(long, conflicts_with = "payload_file")]
        payload: Option<String>,
        /// A file with the payload
        #[arg(long, value_name = "FILE")]
        payload_file: Option<std::path::PathBuf>,
        /// A header to set; an empty value removes it
        #[arg(long, value_name = "NAME=VALUE", value_parser = parse_header)]
        header: Vec<(String, String)>,
        /// Into this queue instead
        #[arg(long, value_name = "QUEUE")]
        to: Option<String>,
    },
    /// Remove them for good
    #[command(after_help = "\
Examples:
  waypost dead purge 17
  waypost dead purge --from-queue orders
  waypost dead purge --all")]
    Purge {
        #[command(flatten)]
        which: Which,
    },
}

/// Runs the command.
pub fn run(args: DeadArgs, output: Output) -> anyhow::Result<()> {
    if let DeadCommand::Retry { which, .. } | DeadCommand::Purge { which } = &args.command {
        which.check()?;
    }
    super::block_on(async {
        let client = args.connect.connect_once().await?;
        super::with(client, async |client| {
            manage(client, &args.queue, args.command, output).await
        })
        .await
    })
}

async fn manage(
    client: &Client,
    queue: &str,
    command: DeadCommand,
    output: Output,
) -> anyhow::Result<()> {
    match command {
        DeadCommand::Ls { from_queue, filter } => {
            let select = Select {
                filters: filter,
                dead_queue: from_queue.unwrap_or_default(),
                ..Select::default()
            };
            list(client, queue, select, output).await
        }
        DeadCommand::Show { offset } => {
            let message = one(client, queue, offset).await?;
            look::show(queue, &message, Part::All, output)
        }
        DeadCommand::Retry { which, to } => {
            let offset = which.offset;
            let moved = each(which.select(), async |select| {
                client.redrive(queue, select, to.as_deref(), None).await
            });
            let moved = moved.await?;
            found(queue, offset, &moved)?;
            told(&moved, "put back", output)
        }
        DeadCommand::Edit {
            offset,
            payload,
            payload_file,
            header,
            to,
        } => {
            let found = one(client, queue, offset).await?;
            let record = RecordRef::parse(&found.record)?;
            let mut message = record.to_message();
            message.producer = None;
            let is_reason = |name: &str| name.starts_with("waypost-dead-");
            message.headers.retain(|(name, _)| !is_reason(name));
            if let Some(path) = payload_file {
                let read = std::fs::read(&path);
                message.payload = read.with_context(|| path.display().to_string())?.into();
            } else if let Some(payload) = payload {
                message.payload = payload.into();
            }
            for (name, value) in header {
                message.headers.retain(|(other, _)| *other != name);
                if !value.is_empty() {
                    message.headers.push((name, value.into_bytes().into()));
                }
            }
            let origin = record.header("waypost-dead-queue").unwrap_or_default();
            let origin = String::from_utf8_lossy(origin).into_owned();
            let to = to.unwrap_or(origin);
            let select = Select {
                from_offset: offset,
                to_offset: offset.saturating_add(1),
                ..Select::default()
            };
            let moved = client.redrive(queue, select, Some(&to), Some(&message));
            told(&moved.await?, "put back", output)
        }
        DeadCommand::Purge { which } => {
            let offset = which.offset;
            let removed = each(which.select(), async |select| {
                client.remove_messages(queue, select).await
            });
            let removed = removed.await?;
            found(queue, offset, &removed)?;
            told(&removed, "removed", output)
        }
    }
}

/// Asks until all is done; gives the sum.
async fn each(
    mut select: Select,
    ask: impl AsyncFn(Select) -> Result<Done, waypost_client::Error>,
) -> anyhow::Result<Done> {
    let mut sum = Done::default();
    loop {
        let done = ask(select.clone()).await?;
        sum.count += done.count;
        sum.skipped += done.skipped;
        if !done.why.is_empty() {
            sum.why = done.why;
        }
        if done.next_offset == 0 {
            return Ok(sum);
        }
        select.from_offset = done.next_offset;
    }
}

/// Whoever names one must hear that it is not there.
fn found(queue: &str, offset: Option<u64>, done: &Done) -> anyhow::Result<()> {
    match offset {
        Some(offset) if done.count == 0 && done.why.is_empty() => {
            anyhow::bail!("queue {queue} has no message at offset {offset}")
        }
        _ => Ok(()),
    }
}

fn told(done: &Done, what: &str, output: Output) -> anyhow::Result<()> {
    match output.is_json() {
        true => output.json(&json!({
            "messages": done.count,
            "stayed": done.skipped,
            "why": done.why,
        }))?,
        false => output.line(format!("{what}: {}", counted(done.count, "message")))?,
    }
    if done.why.is_empty() {
        return Ok(());
    }
    note(format!("{} stayed: {}", done.skipped, done.why));
    Err(Shown(FAILED).into())
}

async fn one(client: &Client, queue: &str, offset: u64) -> anyhow::Result<PeekedMessage> {
    let select = Select {
        from_offset: offset,
        to_offset: offset.saturating_add(1),
        ..Select::default()
    };
    let found = client.browse(queue, select, 1).await?;
    let message = found.messages.into_iter().next();
    message.with_context(|| format!("queue {queue} has no message at offset {offset}"))
}

async fn list(
    client: &Client,
    queue: &str,
    mut select: Select,
    output: Output,
) -> anyhow::Result<()> {
    let mut shown = 0;
    loop {
        let found = client.browse(queue, select.clone(), LOOK).await?;
        shown += found.messages.len();
        for message in &found.messages {
            line(queue, message, output)?;
        }
        if found.next_offset <= select.from_offset {
            break;
        }
        select.from_offset = found.next_offset;
    }
    if shown == 0 && !output.is_json() {
        note("no dead letter");
    }
    Ok(())
}

fn line(queue: &str, message: &PeekedMessage, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return look::show(queue, message, Part::All, output);
    }
    let record = RecordRef::parse(&message.record)?;
    let header = |name: &str| {
        let value = record.header(name).unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    };
    output.line(format!(
        "{:>6}  {}  {}:{}  {}",
        message.offset,
        messages::age(message.receive_time_ms),
        header("waypost-dead-queue"),
        header("waypost-dead-offset"),
        header("waypost-dead-reason"),
    ))
}
