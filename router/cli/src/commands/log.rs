//! `waypost log`: a data directory that no node uses, looked at, shown and repaired.
//!
//! The work is [`waypost_log::inspect`]'s, [`waypost_log::dump`]'s and [`waypost_log::repair`]'s;
//! this file prints it.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Subcommand;
use serde_json::{Map, Value, json};
use waypost_client::RecordRef;
use waypost_log::RealVfs;
use waypost_log::dump::{Named, Select, Shown as Entry, dump};
use waypost_log::format::entry::EntryKind;
use waypost_log::format::slab;
use waypost_log::inspect::{self, Finding, QueueReport, Report, ShardReport, WalFileReport};
use waypost_log::repair::{Repair, repair};

use crate::failure::{FAILED, Shown, usage};
use crate::messages;
use crate::output::Output;
use crate::table::Table;
use crate::units::{counted, size};

/// Look at, or repair, the data directory of a node that does not run
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: waypost log check /var/lib/waypost

The node must not run: a directory that is in use is refused. docs/log-format.md describes what is
in one.")]
pub struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Read everything, and say what is there and what is wrong
    #[command(after_help = "\
Example: waypost log check /var/lib/waypost --json

Exit code 0 where nothing that was confirmed is lost or damaged, 1 where something is. A torn tail
is what an unfinished write left when the power went: nothing of it was confirmed, and it is 0.")]
    Check {
        /// The node's data directory
        dir: PathBuf,
    },
    /// Show the log's entries, one a line, and one for each message
    #[command(after_help = "\
Examples:
  waypost log dump /var/lib/waypost --queue orders --from 100 --to 200
  waypost log dump /var/lib/waypost --json --payload")]
    Dump(DumpArgs),
    /// Cut torn tails, and put right what an opening cannot; nothing is deleted
    #[command(after_help = "\
Examples:
  waypost log repair /var/lib/waypost --dry-run
  waypost log repair /var/lib/waypost

What is replaced goes to shard-0000/quarantine first, with a note of what was done. What no longer
exists cannot be brought back: `waypost log check` names it.")]
    Repair {
        /// The node's data directory
        dir: PathBuf,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, clap::Args)]
struct DumpArgs {
    /// The node's data directory
    dir: PathBuf,
    /// Only this queue, by its name or incarnation: its segments too
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// The first offset of the queue; without --queue, the first position of the WAL
    #[arg(long, value_name = "NUMBER")]
    from: Option<u64>,
    /// One past the last
    #[arg(long, value_name = "NUMBER")]
    to: Option<u64>,
    /// Show payloads too
    #[arg(long)]
    payload: bool,
}

/// Runs the command.
pub fn run(args: LogArgs, output: Output) -> anyhow::Result<()> {
    match args.command {
        LogCommand::Check { dir } => check(&dir, output),
        LogCommand::Dump(args) => dump_entries(args, output),
        LogCommand::Repair { dir, dry_run } => repair_dir(&dir, dry_run, output),
    }
}

fn check(dir: &Path, output: Output) -> anyhow::Result<()> {
    let report = inspect::check(&RealVfs, dir)?;
    show_report(dir, &report, output)?;
    match report.has_loss() {
        true => Err(Shown(FAILED).into()),
        false => Ok(()),
    }
}

/// Shows what a check found.
pub fn show_report(dir: &Path, report: &Report, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(&json!({
            "dir": dir,
            "ok": !report.has_loss(),
            "shards": report.shards.iter().map(shard_json).collect::<Vec<_>>(),
            "findings": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
        }));
    }
    let style = output.style();
    for shard in &report.shards {
        output.line(format!(
            "shard {}: {}, {} of {}, {} ready, {}",
            shard.shard,
            counted(shard.groups, "group"),
            counted(shard.wal.len() as u64, "WAL file"),
            size(shard.file_bytes),
            shard.spare_files,
            counted(shard.queues.len() as u64, "queue"),
        ))?;
        output.lines(wal_table(shard).lines(2, style))?;
        output.lines(queue_table(&shard.queues).lines(2, style))?;
        for (name, bytes) in &shard.quarantine {
            output.line(style.dim(&format!("  quarantine/{name}: {}", size(*bytes))))?;
        }
    }
    for finding in &report.findings {
        let kind = finding.kind.as_str();
        let kind = match finding.kind.is_loss() {
            true => style.red(kind),
            false => style.bold(kind),
        };
        output.line(format!("{kind}: {}", finding_text(finding)))?;
    }
    let verdict = match report.has_loss() {
        true => style.red("damaged: `waypost log repair` puts right what can be"),
        false => style.green("good"),
    };
    output.line(format!("{}: {verdict}", dir.display()))
}

fn finding_text(finding: &Finding) -> String {
    let mut text = format!("{} at byte {}", finding.file.display(), finding.at);
    if finding.bytes > 0 {
        text += &format!(", {} bytes", finding.bytes);
    }
    if let Some(queue) = finding.queue {
        text += &format!(", queue {queue}");
    }
    if let Some(offsets) = &finding.offsets {
        text += &format!(", offsets {}..{}", offsets.start, offsets.end);
    }
    format!("{text}: {}", finding.what)
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "kind": finding.kind.as_str(),
        "is_loss": finding.kind.is_loss(),
        "file": finding.file,
        "at": finding.at,
        "bytes": finding.bytes,
        "what": finding.what,
        "queue": finding.queue.map(|q| q.hex()),
        "first_offset": finding.offsets.as_ref().map(|o| o.start),
        "end_offset": finding.offsets.as_ref().map(|o| o.end),
    })
}

fn wal_table(shard: &ShardReport) -> Table {
    let mut table = Table::new(&["WAL file", "start#", "end#", "groups#", "opens"]);
    for file in &shard.wal {
        let opens: Vec<String> = file.opens.iter().map(u32::to_string).collect();
        table.row([
            file_name(&file.path),
            file.start.0.to_string(),
            file.end.0.to_string(),
            file.groups.to_string(),
            opens.join(" "),
        ]);
    }
    table
}

fn queue_table(queues: &[QueueReport]) -> Table {
    let mut table = Table::new(&[
        "queue",
        "incarnation",
        "first#",
        "next#",
        "messages#",
        "damaged#",
        "segments#",
        "in them#",
        "in WAL alone#",
    ]);
    for queue in queues {
        table.row([
            messages::printable(&queue.name),
            queue.incarnation.hex(),
            queue.offsets.start.to_string(),
            queue.offsets.end.to_string(),
            queue.records.to_string(),
            queue.records_damaged.to_string(),
            queue.segments.to_string(),
            size(queue.segment_bytes),
            size(queue.wal_bytes),
        ]);
    }
    table
}

fn shard_json(shard: &ShardReport) -> Value {
    let wal = |file: &WalFileReport| {
        json!({
            "file": file.path,
            "start": file.start.0,
            "end": file.end.0,
            "groups": file.groups,
            "opens": file.opens,
            "first_time_ms": file.times_ms.map(|t| t.0),
            "last_time_ms": file.times_ms.map(|t| t.1),
        })
    };
    let queue = |queue: &QueueReport| {
        json!({
            "name": queue.name,
            "incarnation": queue.incarnation.hex(),
            "first_offset": queue.offsets.start,
            "next_offset": queue.offsets.end,
            "messages": queue.records,
            "bytes": queue.bytes,
            "messages_damaged": queue.records_damaged,
            "segments": queue.segments,
            "segment_bytes": queue.segment_bytes,
            "wal_bytes": queue.wal_bytes,
            "has_snapshot": queue.has_snapshot,
            "journal_entries": queue.journal_entries,
        })
    };
    json!({
        "shard": shard.shard,
        "wal_file_bytes": shard.file_bytes,
        "groups": shard.groups,
        "spare_files": shard.spare_files,
        "wal": shard.wal.iter().map(wal).collect::<Vec<_>>(),
        "queues": shard.queues.iter().map(queue).collect::<Vec<_>>(),
        "quarantine": shard.quarantine.iter().map(|q| json!({"file": q.0, "bytes": q.1}))
            .collect::<Vec<_>>(),
    })
}

fn dump_entries(args: DumpArgs, output: Output) -> anyhow::Result<()> {
    let select = Select {
        queue: args.queue.clone(),
        range: args.from.unwrap_or(0)..args.to.unwrap_or(u64::MAX),
    };
    let mut result = Ok(());
    let matches = dump(&RealVfs, &args.dir, &select, &mut |entry, names| {
        result = show_entry(entry, names, &select, args.payload, output);
        result.is_ok()
    })?;
    result?;
    match args.queue {
        Some(queue) if matches == 0 => Err(usage(format!(
            "no queue '{queue}' in {}; `waypost log check` shows those that are there",
            args.dir.display()
        ))),
        _ => Ok(()),
    }
}

fn show_entry(
    entry: &Entry<'_>,
    names: &[Named],
    select: &Select,
    payload: bool,
    output: Output,
) -> anyhow::Result<()> {
    let header = &entry.header;
    let line = about(entry, names);
    if header.kind != EntryKind::Messages {
        return show_line(&line, output);
    }
    let mut offset = header.first_offset;
    for piece in slab::salvage(entry.payload, header.count) {
        let bytes = &entry.payload[piece.bytes.clone()];
        if !piece.intact {
            let mut line = line.clone();
            let end = header.first_offset + u64::from(piece.records.end);
            line.insert("offset".into(), offset.into());
            line.insert("end_offset".into(), end.into());
            line.insert("damaged".into(), true.into());
            show_line(&line, output)?;
            offset = end;
            continue;
        }
        for body in slab::bodies(bytes) {
            let is_chosen = select.queue.is_none() || select.range.contains(&offset);
            if is_chosen {
                let mut line = line.clone();
                line.insert("offset".into(), offset.into());
                describe_record(body, payload, &mut line);
                show_line(&line, output)?;
            }
            offset += 1;
        }
    }
    Ok(())
}

/// What all lines of an entry have in common.
fn about(entry: &Entry<'_>, names: &[Named]) -> Map<String, Value> {
    let header = &entry.header;
    let mut line = Map::new();
    if let Some(position) = entry.position {
        line.insert("position".into(), position.0.into());
    }
    line.insert("file".into(), file_name(entry.file).into());
    line.insert("at".into(), entry.at.into());
    let named = names
        .iter()
        .find(|n| n.incarnation.get() == header.incarnation);
    if header.incarnation != 0 {
        let hex = format!("{:016x}", header.incarnation);
        let name = named.and_then(|n| n.name.clone());
        line.insert("queue".into(), name.unwrap_or_else(|| hex.clone()).into());
        line.insert("incarnation".into(), hex.into());
    }
    line.insert("kind".into(), kind(header.kind).into());
    match header.kind {
        EntryKind::Messages => drop(line.insert("time_ms".into(), header.time_ms.into())),
        kind => {
            if kind == EntryKind::Trimmed {
                line.insert("trimmed_to".into(), header.first_offset.into());
            }
            line.insert("time_ms".into(), entry.group_time_ms.into());
            line.insert("bytes".into(), header.length.into());
        }
    }
    if header.epoch > 0 {
        line.insert("epoch".into(), header.epoch.into());
    }
    if !entry.intact {
        line.insert("entry_damaged".into(), true.into());
    }
    line
}

fn describe_record(body: &[u8], payload: bool, line: &mut Map<String, Value>) {
    let Ok(record) = RecordRef::parse(body) else {
        line.insert("bytes".into(), body.len().into());
        line.insert("unreadable".into(), true.into());
        return;
    };
    line.insert("topic".into(), record.topic().into());
    line.insert("bytes".into(), record.payload().len().into());
    if payload {
        match std::str::from_utf8(record.payload()) {
            Ok(text) => line.insert("payload".into(), text.into()),
            Err(_) => line.insert(
                "payload_base64".into(),
                BASE64.encode(record.payload()).into(),
            ),
        };
    }
}

fn show_line(line: &Map<String, Value>, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(line);
    }
    let field = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name}={}", messages::printable(text)),
        value => format!("{name}={value}"),
    };
    let fields: Vec<String> = line.iter().map(field).collect();
    output.line(fields.join(" "))
}

fn kind(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Messages => "messages",
        EntryKind::State => "state",
        EntryKind::Snapshot => "snapshot",
        EntryKind::Removed => "removed",
        EntryKind::Opened => "opened",
        EntryKind::Trimmed => "trimmed",
    }
}

fn repair_dir(dir: &Path, is_dry: bool, output: Output) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let how = Repair {
        is_dry,
        nonce: random()?,
        now_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
    };
    let actions = repair(&RealVfs, dir, how)?;
    if output.is_json() {
        let action = |a: &waypost_log::repair::Action| json!({"file": a.file, "what": a.what});
        return output.json(&json!({
            "dir": dir,
            "dry_run": is_dry,
            "actions": actions.iter().map(action).collect::<Vec<_>>(),
        }));
    }
    for action in &actions {
        output.line(format!("{}: {}", action.file.display(), action.what))?;
    }
    let did = match (actions.is_empty(), is_dry) {
        (true, _) => "nothing is to be repaired",
        (false, true) => "that is what would be done; nothing was",
        (false, false) => "repaired; `waypost log check` shows what is left",
    };
    output.line(format!("{}: {did}", dir.display()))
}

/// An unpredictable number.
pub fn random() -> anyhow::Result<u64> {
    ring::rand::generate::<[u8; 8]>(&ring::rand::SystemRandom::new())
        .map(|random| u64::from_le_bytes(random.expose()))
        .map_err(|_| anyhow::anyhow!("the operating system gives no randomness"))
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}
