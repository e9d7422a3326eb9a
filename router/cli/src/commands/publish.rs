//! `waypost pub`: messages from the command line, standard input or a file, and what became of
//! them.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use waypost_client::wire::control::Explained;
use waypost_client::{
    Client, Confirmed, Exception, ExceptionKind, Explain, Message, ProducerOptions, Publisher,
    PublisherOptions, Receipt, Ticket,
};

use crate::commands::explained;
use crate::connect::ConnectArgs;
use crate::failure::{FAILED, Shown, usage};
use crate::messages;
use crate::output::{Output, note};
use crate::times::millis;
use crate::units::{count, parse_duration};

/// Exceptions that are shown one by one to people.
const EXCEPTIONS_SHOWN: usize = 10;

/// Publish messages, and show what became of them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost pub plant/press-4/temperature 71.5
  waypost pub plant/press-4/photo --file photo.jpg --content-type image/jpeg
  tail -f events.log | waypost pub plant/log --lines
  waypost consume orders --group g --json | waypost pub --json-lines     each line an object:
      {\"topic\":\"a/b\",\"key\":\"k\",\"headers\":{\"h\":\"v\"},\"payload\":\"text\"}
      with \"id\", \"content_type\", \"reply_to\", \"ttl_ms\", \"delay_ms\", \"priority\", \"payload_base64\"
  waypost pub plant/press-4/temperature 71.5 --explain              what each route and plugin did
  waypost pub plant/press-4/temperature 71.5 --explain --dry-run    what they would do
  waypost pub --json-lines --producer importer < orders.jsonl    what is sent again is stored once
  waypost pub orders/new --file order.json --receipt    waits until every group is done with it

A confirm says `stored` once the message is synced to disk, `received` where only live
subscribers or memory queues took it. Dropped, dead-lettered and unroutable messages are
shown; refused ones make the command fail.")]
pub struct PubArgs {
    /// The topic; with --json-lines, of lines that name none
    #[arg(value_parser = parse_topic, required_unless_present = "json_lines")]
    topic: Option<String>,
    /// The payload; without it and without --file, standard input
    #[arg(conflicts_with_all = ["file", "lines", "json_lines"])]
    payload: Option<String>,
    /// Read the payload, or the lines, from a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Publish each line as a message
    #[arg(long, conflicts_with = "json_lines")]
    lines: bool,
    /// Publish each line, a JSON object, as a message
    #[arg(long)]
    json_lines: bool,
    /// A header; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// The message's key: what it is about, such as an order or a machine
    #[arg(short, long)]
    key: Option<String>,
    /// The message's id, 1 to 64 bytes
    #[arg(long, conflicts_with_all = ["lines", "json_lines"])]
    id: Option<String>,
    /// The MIME type of the payload
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// How long the message is of use
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// How long it waits before it is delivered
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    delay: Option<Duration>,
    /// 0 to 7; in a queue with priorities, higher ones are delivered first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=7))]
    priority: Option<u8>,
    /// The topic for an answer
    #[arg(long, value_name = "TOPIC", value_parser = parse_topic)]
    reply_to: Option<String>,
    /// Publish as the producer of this name: what is sent again is stored once
    #[arg(long, value_name = "NAME")]
    producer: Option<String>,
    /// Wait until every group of the queues that they reach is done with the messages, and show
    /// what each did; Ctrl-C ends the wait. With --producer, what is missed then comes the next time
    #[arg(long)]
    receipt: bool,
    /// Fail for messages that no route, queue or subscriber takes
    #[arg(long)]
    mandatory: bool,
    /// Show what each route and plugin did with the message, and where it went; needs the right to
    /// look at the node
    #[arg(long, conflicts_with_all = ["lines", "json_lines"])]
    explain: bool,
    /// With --explain, do not publish: show what would become of the message
    #[arg(long, requires = "explain", conflicts_with_all = ["receipt", "producer", "mandatory"])]
    dry_run: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

fn parse_topic(text: &str) -> Result<String, String> {
    let topic = waypost_wire::topic::parse_topic(text.as_bytes());
    topic
        .map(str::to_owned)
        .map_err(|error| format!("the topic {error}"))
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

/// Runs the command.
pub fn run(args: PubArgs, output: Output) -> anyhow::Result<()> {
    let template = template(&args);
    if args.dry_run {
        let message = whole(&args, template)?;
        let explained = super::block_on(async {
            let client = args.connect.connect_once().await?;
            super::with(client, async |client| Ok(client.explain(&message).await?)).await
        })?;
        return explained::show(&explained, true, output);
    }
    let options = PublisherOptions {
        producer: producer(&args),
        mandatory: args.mandatory,
        receipts: args.receipt,
        explain: match args.explain {
            true => Explain::Everything,
            false => Explain::Nothing,
        },
        ..PublisherOptions::default()
    };
    let report = super::block_on(async {
        if args.lines || args.json_lines {
            let input = open(args.file.as_deref())?;
            let client = args.connect.connect_once().await?;
            super::with(client, async |client| {
                publish_lines(client, options, input, args.json_lines, &template, output).await
            })
            .await
        } else {
            let message = whole(&args, template)?;
            let client = args.connect.connect_once().await?;
            super::with(client, async |client| {
                let mut pending = Pending::open(client, options).await?;
                pending.publish(&message).await?;
                pending.finish(output).await
            })
            .await
        }
    })?;
    report.show(output)
}

/// Who publishes; receipts need somebody.
fn producer(args: &PubArgs) -> Option<ProducerOptions> {
    let named = args.producer.as_deref().map(ProducerOptions::named);
    named.or_else(|| args.receipt.then(ProducerOptions::random))
}

/// What all messages of the command line have in common.
fn template(args: &PubArgs) -> Message {
    let mut message = Message::new(args.topic.clone().unwrap_or_default(), "");
    message.key = args.key.clone().map(Into::into);
    message.message_id = args.id.clone().map(Into::into);
    message.content_type = args.content_type.clone();
    message.reply_to = args.reply_to.clone();
    message.time_to_live_ms = args.ttl.map(millis);
    message.not_before_ms = args.delay.map(millis);
    message.priority = args.priority;
    let headers = args.headers.iter().cloned();
    message.headers = headers.map(|(name, value)| (name, value.into())).collect();
    message
}

/// The one message whose payload is an argument, a file, or all of standard input.
fn whole(args: &PubArgs, mut message: Message) -> anyhow::Result<Message> {
    if let Some(payload) = &args.payload {
        message.payload = payload.clone().into();
        return Ok(message);
    }
    if args.file.is_none() && io::stdin().is_terminal() {
        note("reading the payload from standard input; end it with Ctrl-D");
    }
    let (mut input, name) = open(args.file.as_deref())?;
    let mut payload = Vec::new();
    // One byte more than any node takes, so that a payload that is too long is seen to be.
    let limit = waypost_wire::PAYLOAD_BYTES_MAX as u64 + 1;
    let read = input.by_ref().take(limit).read_to_end(&mut payload);
    read.with_context(|| name)?;
    message.payload = payload.into();
    Ok(message)
}

fn open(file: Option<&Path>) -> anyhow::Result<(Box<dyn BufRead + Send>, String)> {
    match file {
        None => Ok((
            Box::new(BufReader::new(io::stdin())),
            "standard input".into(),
        )),
        Some(path) => {
            let name = path.display().to_string();
            let file = File::open(path).with_context(|| name.clone())?;
            Ok((Box::new(BufReader::new(file)), name))
        }
    }
}

/// Lines that may wait between the thread that reads them and the publisher.
const LINES_AHEAD: usize = 256;

async fn publish_lines(
    client: &Client,
    options: PublisherOptions,
    (input, name): (Box<dyn BufRead + Send>, String),
    is_json: bool,
    template: &Message,
    output: Output,
) -> anyhow::Result<Report> {
    let mut pending = Pending::open(client, options).await?;
    let (sender, mut lines) = tokio::sync::mpsc::channel(LINES_AHEAD);
    // A read from a terminal or pipe cannot be given up, so it has a thread that nobody waits for.
    std::thread::spawn(move || {
        for line in input.split(b'\n') {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let mut interrupted = std::pin::pin!(super::interrupted());
    let mut number = 0u64;
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            // What was read is published and confirmed; the rest is not read.
            result = &mut interrupted => {
                result?;
                None
            }
        };
        let Some(line) = line else { break };
        let line = line.with_context(|| name.clone())?;
        number += 1;
        if is_json {
            let text = String::from_utf8_lossy(&line);
            if text.trim().is_empty() {
                continue;
            }
            let message = messages::from_json_line(&text, template)
                .map_err(|error| usage(format!("{name}:{number}: {error}")));
            match message {
                Ok(message) => pending.publish(&message).await?,
                Err(error) => {
                    let report = pending.finish(output).await?;
                    note(format!(
                        "{} messages before it were published",
                        report.published
                    ));
                    return Err(error);
                }
            }
        } else {
            let mut message = template.clone();
            let end = line.strip_suffix(b"\r").map_or(line.len(), <[u8]>::len);
            message.payload = line[..end].to_vec().into();
            pending.publish(&message).await?;
        }
    }
    pending.finish(output).await
}

/// A publisher and the tickets whose answers are not in.
struct Pending {
    wants_receipts: bool,
    publisher: Publisher,
    tickets: VecDeque<Ticket>,
    report: Report,
}

/// Tickets that may wait for their answers; the node's window is smaller.
const TICKETS_MAX: usize = 8192;

impl Pending {
    async fn open(client: &Client, options: PublisherOptions) -> anyhow::Result<Pending> {
        Ok(Pending {
            wants_receipts: options.receipts,
            publisher: client.publisher(options).await?,
            tickets: VecDeque::new(),
            report: Report::default(),
        })
    }

    async fn publish(&mut self, message: &Message) -> anyhow::Result<()> {
        let ticket = self.publisher.send(message).await?;
        self.tickets.push_back(ticket);
        if self.tickets.len() >= TICKETS_MAX
            && let Some(ticket) = self.tickets.pop_front()
        {
            self.report.add(ticket.await?);
        }
        Ok(())
    }

    async fn finish(mut self, output: Output) -> anyhow::Result<Report> {
        for ticket in std::mem::take(&mut self.tickets) {
            self.report.add(ticket.await?);
        }
        if self.wants_receipts {
            self.receipts(output).await?;
        }
        self.publisher.close().await?;
        Ok(self.report)
    }

    /// Shows receipts until no more are to come.
    async fn receipts(&mut self, output: Output) -> anyhow::Result<()> {
        // What reached no queue, or was there before, may have none at all.
        let stored = self.report.levels.values().sum::<u64>();
        let is_done = |publisher: &Publisher| match publisher.receipts_waiting() {
            Some(waiting) => waiting == 0,
            None => stored == 0,
        };
        let mut interrupted = std::pin::pin!(super::interrupted());
        while !is_done(&self.publisher) {
            tokio::select! {
                receipt = self.publisher.receipt() => {
                    self.report.receipts.push(show_receipt(receipt?, output)?);
                }
                result = &mut interrupted => {
                    result?;
                    note("receipts are missing");
                    break;
                }
            }
        }
        match self.publisher.receipts_lost() {
            0 => {}
            lost => note(format!(
                "{} receipts were forgotten by the node",
                count(lost)
            )),
        }
        Ok(())
    }
}

/// What became of all messages.
#[derive(Default)]
struct Report {
    published: u64,
    levels: BTreeMap<&'static str, u64>,
    exceptions: Vec<Exception>,
    explained: Option<Box<Explained>>,
    /// With `--json`.
    receipts: Vec<Value>,
}

/// Shows a receipt to people at once, and keeps it for programs.
fn show_receipt(receipt: Receipt, output: Output) -> anyhow::Result<Value> {
    let Receipt {
        sequence,
        number,
        queue,
        group,
        offset,
        outcome,
        is_last,
        node: _,
    } = receipt;
    if !output.is_json() {
        let which = sequence.map_or_else(|| format!("number {number}"), |s| format!("message {s}"));
        let who = match group.as_str() {
            "" => format!("queue {queue}"),
            group => format!("queue {queue}, group {group}"),
        };
        output.line(format!(
            "{which}: {outcome} ({who}, offset {offset})",
            outcome = outcome.as_str()
        ))?;
    }
    Ok(json!({
        "sequence": sequence,
        "number": number,
        "queue": queue,
        "group": group,
        "offset": offset,
        "outcome": outcome.as_str(),
        "last": is_last,
    }))
}

impl Report {
    fn add(&mut self, confirmed: Confirmed) {
        self.published += 1;
        self.explained = confirmed.explained.or(self.explained.take());
        match confirmed.exception {
            None => *self.levels.entry(confirmed.level.as_str()).or_default() += 1,
            Some(exception) => self.exceptions.push(exception),
        }
    }

    fn show(&self, output: Output) -> anyhow::Result<()> {
        if output.is_json() {
            let exception = |e: &Exception| {
                json!({
                    "sequence": e.sequence,
                    "kind": e.kind.as_str(),
                    "code": e.code.as_str(),
                    "text": e.text,
                })
            };
            let exceptions: Vec<_> = self.exceptions.iter().map(exception).collect();
            let mut report = json!({
                "published": self.published,
                "levels": self.levels,
                "exceptions": exceptions,
            });
            if let Some(explained) = &self.explained {
                report["explained"] = explained::to_json(explained);
            }
            if !self.receipts.is_empty() {
                report["receipts"] = json!(self.receipts);
            }
            output.json(&report)?;
        } else if let Some(explained) = &self.explained {
            explained::show(explained, false, output)?;
        } else {
            self.show_lines(output)?;
        }
        let refused = |e: &Exception| e.kind == ExceptionKind::Refused;
        match self.exceptions.iter().any(refused) {
            true => Err(Shown(FAILED).into()),
            false => Ok(()),
        }
    }

    fn show_lines(&self, output: Output) -> anyhow::Result<()> {
        let mut parts: BTreeMap<&str, u64> = self.levels.clone();
        for exception in &self.exceptions {
            *parts.entry(exception.kind.as_str()).or_default() += 1;
        }
        match &self.exceptions[..] {
            [one] if self.published == 1 => {
                return output.line(describe(one));
            }
            _ if self.published == 1 => {
                return output.line(parts.keys().copied().collect::<String>());
            }
            _ => {}
        }
        let parts: Vec<String> = parts
            .iter()
            .map(|(kind, number)| format!("{} {kind}", count(*number)))
            .collect();
        output.line(format!(
            "{} published: {}",
            count(self.published),
            parts.join(", ")
        ))?;
        for exception in self.exceptions.iter().take(EXCEPTIONS_SHOWN) {
            output.line(format!(
                "  message {}: {}",
                exception.sequence,
                describe(exception)
            ))?;
        }
        let more = self.exceptions.len().saturating_sub(EXCEPTIONS_SHOWN);
        if more > 0 {
            output.line(format!(
                "  … and {} more; --json shows all",
                count(more as u64)
            ))?;
        }
        Ok(())
    }
}

fn describe(exception: &Exception) -> String {
    let kind = exception.kind.as_str();
    match (exception.kind, exception.text.as_str()) {
        (ExceptionKind::Unroutable, "") => {
            format!("{kind}: no route, queue or subscriber takes this topic")
        }
        (_, "") => format!("{kind} ({})", exception.code),
        (ExceptionKind::Refused, text) => format!("{kind} ({}): {text}", exception.code),
        (_, text) => format!("{kind}: {text}"),
    }
}
