//! `waypost queue group` and `queue seek`: groups are looked at, made, moved and removed.

use clap::{Subcommand, ValueEnum};
use serde_json::json;
use waypost_client::wire::control::{GroupAdd, GroupSeek};
use waypost_client::{Client, GroupKind};

use super::queue::confirm;
use super::queue_settings::parse_filter;
use super::queue_show;
use crate::output::Output;
use crate::times::{Place, parse_time};
use crate::units::counted;

/// List, make and remove the groups of a queue
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  waypost queue group ls orders
  waypost queue group add orders packers --kind key
  waypost queue group rm orders packers --yes")]
pub enum GroupCommand {
    /// List the groups of a queue
    #[command(after_help = "Example: waypost queue group ls orders")]
    Ls {
        /// The queue
        queue: String,
    },
    Add(AddArgs),
    Rm(RmArgs),
}

/// Make a group before its first consumer comes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost queue group add orders audit --start end
  waypost queue group add orders packers --kind key --filter 'orders/eu/#'
  waypost queue group add orders late --start 2h            what came in the last two hours

A group that is there with the same kind and filters is left as it is; with others it is an error.")]
pub struct AddArgs {
    /// The queue
    queue: String,
    /// The group: 1 to 128 letters, digits, '.', '_' or '-'
    group: String,
    #[command(flatten)]
    options: GroupArgs,
    /// Where it begins: beginning, end, an offset, a time, or how long ago
    #[arg(long, value_name = "WHERE", default_value = "beginning")]
    start: Place,
}

/// How a group shares its messages out, and which it takes.
#[derive(Clone, Debug, clap::Args)]
pub struct GroupArgs {
    /// Who of its consumers gets a message [default: shared]
    #[arg(long, value_enum)]
    kind: Option<KindArg>,
    /// Take only messages with these topics; may be given several times
    #[arg(long, value_name = "FILTER", value_parser = parse_filter)]
    filter: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindArg {
    /// Any of them
    Shared,
    /// One of them, in order; the next in line when it leaves
    Exclusive,
    /// The one that has the message's key, in order within the key
    Key,
}

impl GroupArgs {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.kind.is_none() && self.filter.is_empty()
    }

    /// The kind.
    pub fn kind(&self) -> GroupKind {
        match self.kind {
            None | Some(KindArg::Shared) => GroupKind::Shared,
            Some(KindArg::Exclusive) => GroupKind::Exclusive,
            Some(KindArg::Key) => GroupKind::Key,
        }
    }

    /// The filters; none: all messages.
    pub fn filters(&self) -> &[String] {
        &self.filter
    }
}

/// Remove a group; its consumers are closed
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: waypost queue group rm orders packers --yes")]
pub struct RmArgs {
    /// The queue
    queue: String,
    /// The group
    group: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Move a group: what is before the place counts as acked, what is behind it comes (again)
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost queue seek orders packers --time 5m               what came in the last five minutes, again
  waypost queue seek orders packers --time 2026-05-01T06:00:00Z
  waypost queue seek orders packers --end                   skip all that is there
  waypost queue seek history reader --offset 1000

What its consumers hold is taken back. A queue gives space back when all groups have acked: what is
gone does not come again, unless the queue keeps it (--retain log).")]
pub struct SeekArgs {
    /// The queue
    queue: String,
    /// The group
    group: String,
    #[command(flatten)]
    to: To,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct To {
    /// To the oldest message
    #[arg(long)]
    beginning: bool,
    /// Behind the newest message
    #[arg(long)]
    end: bool,
    /// To this offset
    #[arg(long, value_name = "N")]
    offset: Option<u64>,
    /// To the first message received at this time or later, or so long ago
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    time: Option<u64>,
}

impl To {
    fn place(&self) -> Place {
        match (self.offset, self.time) {
            (Some(offset), _) => Place::offset(offset),
            (_, Some(time_ms)) => Place::time(time_ms),
            _ if self.end => Place::END,
            _ => Place::BEGINNING,
        }
    }
}

/// Runs `queue group`.
pub async fn run(client: &Client, command: GroupCommand, output: Output) -> anyhow::Result<()> {
    match command {
        GroupCommand::Ls { queue } => queue_show::groups(&client.queue_info(queue).await?, output),
        GroupCommand::Add(args) => add(client, args, output).await,
        GroupCommand::Rm(args) => remove(client, args, output).await,
    }
}

async fn add(client: &Client, args: AddArgs, output: Output) -> anyhow::Result<()> {
    let (queue, group) = (args.queue, args.group);
    let request = GroupAdd {
        queue: queue.clone(),
        group: group.clone(),
        kind: args.options.kind() as i32,
        filters: args.options.filter,
        start: args.start.start as i32,
        start_offset: args.start.offset,
        start_time_ms: args.start.time_ms,
    };
    client.group_add(request).await?;
    match output.is_json() {
        true => output.json(&json!({"queue": queue, "group": group, "added": true})),
        false => output.line(format!("group {group} of queue {queue} is there")),
    }
}

async fn remove(client: &Client, args: RmArgs, output: Output) -> anyhow::Result<()> {
    let RmArgs { queue, group, yes } = args;
    let state = client.queue_info(&queue).await?;
    let pending = state.groups.iter().find(|g| g.name == group);
    // Where it is not there, the node says so.
    if let Some(pending) = pending.map(|g| g.pending) {
        let pending = counted(pending, "message");
        let what = format!("remove group {group} with {pending} not acked from queue {queue}");
        confirm(&what, yes).await?;
    }
    let pending = client.group_remove(&queue, &group).await?;
    match output.is_json() {
        true => output.json(&json!({
            "queue": queue,
            "group": group,
            "removed": true,
            "messages": pending,
        })),
        false => output.line(format!(
            "removed group {group} of queue {queue}: {} not acked",
            counted(pending, "message")
        )),
    }
}

/// Runs `queue seek`.
pub async fn seek(client: &Client, args: SeekArgs, output: Output) -> anyhow::Result<()> {
    let place = args.to.place();
    let (queue, group) = (args.queue, args.group);
    let request = GroupSeek {
        queue: queue.clone(),
        group: group.clone(),
        start: place.start as i32,
        start_offset: place.offset,
        start_time_ms: place.time_ms,
    };
    let offset = client.group_seek(request).await?;
    match output.is_json() {
        true => output.json(&json!({"queue": queue, "group": group, "offset": offset})),
        false => output.line(format!(
            "group {group} of queue {queue} goes on at offset {offset}"
        )),
    }
}
