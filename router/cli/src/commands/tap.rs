//! `waypost tap`: sampled live messages, where they enter or at a plugin.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use waypost_client::wire::control::{Tap, Tapped, TappedMessage};
use waypost_client::{Client, Filter, RecordRef};

use crate::connect::ConnectArgs;
use crate::failure::usage;
use crate::messages::{self, printable};
use crate::output::{Output, Style, note};
use crate::times::{clock, millis};
use crate::units::{count, counted, parse_duration};

/// Messages a second where nothing is said of a sample.
const PER_SECOND: u32 = 100;
const MILLION: f64 = 1e6;

/// See sampled live messages, before or after a plugin, without slowing anybody
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost tap 'plant/+/temperature'            messages of these topics, as they come in
  waypost tap quakes                           messages that take route quakes
  waypost tap strong                           what plugin strong says of its messages
  waypost tap --before strong --sample 0.01    one in a hundred of those that it is called with
  waypost tap quakes --after alert --topic 'quakes/us/#' --json | jq .after
  waypost tap strong --sample 5/s --for 30s

Without --sample, at most 100 a second are shown. What comes faster than it can be shown is left
out, and counted: a tap holds 1,024 messages and 1 MiB, and copies 10,000 messages and 8 MiB a
second at most. Long payloads are cut. It needs the right to look at the node, and shows only
topics that you may subscribe to. A message comes again where its plugin is called again.")]
pub struct TapArgs {
    /// A route, a plugin, or topics
    #[arg(value_name = "ROUTE|PLUGIN|TOPIC-FILTER", required_unless_present_any = ["before", "after", "route", "topic"])]
    subject: Option<String>,
    /// Messages that this plugin is called with
    #[arg(long, value_name = "PLUGIN", conflicts_with = "after")]
    before: Option<String>,
    /// What this plugin says of its messages, and what it makes of them
    #[arg(long, value_name = "PLUGIN")]
    after: Option<String>,
    /// Only on this route, where the name is that of a plugin too
    #[arg(long, value_name = "ROUTE", conflicts_with = "subject")]
    route: Option<String>,
    /// Only these topics
    #[arg(long, value_name = "FILTER", value_parser = parse_filter)]
    topic: Option<Filter>,
    /// A share of the messages, such as 0.01, or so many a second, such as 5/s
    #[arg(long, value_name = "SHARE|N/s", value_parser = parse_sample)]
    sample: Option<Sample>,
    /// End after so long
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// End after so many messages
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    connect: ConnectArgs,
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    Filter::new(text).map_err(|error| format!("the filter {error}"))
}

/// Which messages are shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// Of a million.
    Ppm(u32),
    /// A second.
    PerSecond(u32),
}

/// Reads a share or a rate.
pub fn parse_sample(text: &str) -> Result<Sample, String> {
    if let Some(rate) = text.strip_suffix("/s") {
        return match rate.trim().parse() {
            Ok(rate) if rate > 0 => Ok(Sample::PerSecond(rate)),
            _ => Err("expected a whole number above 0 before /s".into()),
        };
    }
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => {
            Ok(Sample::Ppm(((share * MILLION).round() as u32).max(1)))
        }
        _ => {
            Err("expected a share above 0 and up to 1, such as 0.01, or a rate, such as 5/s".into())
        }
    }
}

/// Runs the command.
pub fn run(args: TapArgs, output: Output) -> anyhow::Result<()> {
    super::block_on(async {
        let client = args.connect.connect_once().await?;
        super::with(client, async |client| {
            tokio::select! {
                result = watch(client, &args, output) => result,
                result = super::interrupted() => result,
            }
        })
        .await
    })
}

async fn watch(client: &Client, args: &TapArgs, output: Output) -> anyhow::Result<()> {
    let tap = request(client, args).await?;
    let place = describe(&tap);
    let mut tapping = client.tap(tap).await?;
    if !output.is_json() {
        note(format!("tapping {place}; Ctrl-C ends"));
    }
    let (mut seen, mut last) = (0, Tapped::default());
    while let Some(tapped) = tapping.next().await? {
        for message in &tapped.messages {
            seen += 1;
            show(message, output)?;
        }
        lost(&tapped, &last, output)?;
        last = Tapped {
            messages: Vec::new(),
            ..tapped
        };
    }
    if !output.is_json() {
        let seen = counted(seen, "message");
        note(format!("{seen}, {} left out", count(last.dropped)));
    }
    Ok(())
}

/// What is to be tapped. A name is looked up: whoever mistypes one should not wait for messages.
async fn request(client: &Client, args: &TapArgs) -> anyhow::Result<Tap> {
    let mut tap = Tap {
        route: args.route.clone().unwrap_or_default(),
        plugin: args
            .before
            .clone()
            .or(args.after.clone())
            .unwrap_or_default(),
        after: args.after.is_some(),
        filter: args
            .topic
            .as_ref()
            .map_or(String::new(), |f| f.as_str().to_owned()),
        for_ms: args.duration.map_or(0, millis),
        count: args.count.unwrap_or(0),
        ..Tap::default()
    };
    match args.sample {
        None => tap.per_second = PER_SECOND,
        Some(Sample::Ppm(ppm)) => tap.sample_ppm = ppm,
        Some(Sample::PerSecond(rate)) => tap.per_second = rate,
    }
    let Some(subject) = &args.subject else {
        return Ok(tap);
    };
    if subject.contains(['/', '+', '#', '$']) {
        if args.topic.is_some() {
            return Err(usage("topics are named twice: by --topic too"));
        }
        let filter = parse_filter(subject).map_err(usage)?;
        tap.filter = filter.as_str().to_owned();
        return Ok(tap);
    }
    let is_route = client
        .routes()
        .list()
        .await?
        .routes
        .iter()
        .any(|r| r.name == *subject);
    let is_plugin = tap.plugin.is_empty()
        && client
            .plugins()
            .list()
            .await?
            .plugins
            .iter()
            .any(|p| p.name == *subject);
    match (is_route, is_plugin) {
        (true, true) => {
            return Err(usage(format!(
                "'{subject}' is a route and a plugin: say --route {subject}, --before {subject} or \
                 --after {subject}"
            )));
        }
        (true, false) => tap.route.clone_from(subject),
        (false, true) => (tap.plugin, tap.after) = (subject.clone(), true),
        (false, false) => {
            let what = if args.before.is_some() || args.after.is_some() {
                "route"
            } else {
                "route or plugin"
            };
            return Err(usage(format!(
                "no {what} '{subject}' is on this node; for a topic of that name say --topic {subject}"
            )));
        }
    }
    Ok(tap)
}

fn describe(tap: &Tap) -> String {
    let mut text = match (tap.plugin.as_str(), tap.after) {
        ("", _) => String::new(),
        (plugin, true) => format!("after plugin {plugin}"),
        (plugin, false) => format!("before plugin {plugin}"),
    };
    for (what, name) in [("route", &tap.route), ("topics", &tap.filter)] {
        if !name.is_empty() {
            let divider = if text.is_empty() { "" } else { ", " };
            text.push_str(&format!("{divider}{what} {name}"));
        }
    }
    text
}

/// The records that a plugin made of a message, each with the length of the payload that it was cut
/// from; 0: it is whole.
fn after(message: &TappedMessage) -> impl Iterator<Item = (&Bytes, u64)> {
    let bytes = message.after_payload_bytes.iter().copied();
    message.after.iter().zip(bytes.chain(std::iter::repeat(0)))
}

fn cut_from(bytes: u64, style: Style) -> String {
    match bytes {
        0 => String::new(),
        bytes => style.dim(&format!("  … of {}", crate::units::size(bytes))),
    }
}

fn show(message: &TappedMessage, output: Output) -> anyhow::Result<()> {
    let record = RecordRef::parse(&message.record)?;
    if output.is_json() {
        return output.json(&to_json(message, &record)?);
    }
    let style = output.style();
    let mut line = messages::to_line(&record, &clock(message.time_ms), style);
    line.push_str(&cut_from(message.payload_bytes, style));
    output.line(line)?;
    if message.verdict.is_empty() {
        return Ok(());
    }
    let said = match message.detail.as_str() {
        "" => message.verdict.clone(),
        detail => format!("{}: {}", message.verdict, printable(detail)),
    };
    output.line(format!("    {} {said}", style.cyan(&message.plugin)))?;
    for (after, bytes) in after(message) {
        let record = RecordRef::parse(after)?;
        let mut line = messages::to_line(&record, "    →", style);
        line.push_str(&cut_from(bytes, style));
        output.line(line)?;
    }
    if message.after_left_out > 0 {
        let more = format!("    → {} more", message.after_left_out);
        output.line(style.dim(&more))?;
    }
    Ok(())
}

fn to_json(message: &TappedMessage, record: &RecordRef<'_>) -> anyhow::Result<Value> {
    let mut about = vec![("time_ms", json!(message.time_ms))];
    if !message.route.is_empty() {
        about.push(("route", json!(message.route)));
    }
    if !message.plugin.is_empty() {
        about.push(("plugin", json!(message.plugin)));
    }
    if !message.verdict.is_empty() {
        about.push(("verdict", json!(message.verdict)));
        about.push(("detail", json!(message.detail)));
    }
    if message.payload_bytes > 0 {
        about.push(("payload_bytes", json!(message.payload_bytes)));
    }
    if !message.after.is_empty() {
        let after = after(message).map(|(after, bytes)| {
            let record = RecordRef::parse(after)?;
            let cut = (bytes > 0).then(|| ("payload_bytes", json!(bytes)));
            let about: Vec<(&str, Value)> = cut.into_iter().collect();
            Ok(messages::to_json(&record, &about))
        });
        let after: anyhow::Result<Vec<Value>> = after.collect();
        about.push(("after", Value::Array(after?)));
    }
    if message.after_left_out > 0 {
        about.push(("after_left_out", json!(message.after_left_out)));
    }
    Ok(messages::to_json(record, &about))
}

/// Says what was left out since the last time.
fn lost(tapped: &Tapped, last: &Tapped, output: Output) -> anyhow::Result<()> {
    let dropped = tapped.dropped.saturating_sub(last.dropped);
    let hidden = tapped.hidden.saturating_sub(last.hidden);
    if output.is_json() {
        return match (dropped, hidden) {
            (0, 0) => Ok(()),
            _ => output.json(&json!({ "dropped": dropped, "hidden": hidden })),
        };
    }
    if dropped > 0 {
        let many = counted(dropped, "message");
        note(format!("-- {many} left out here: they came too fast"));
    }
    if hidden > 0 {
        let many = counted(hidden, "message");
        note(format!("-- {many} of topics that you may not subscribe to"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_rates() {
        assert_eq!(parse_sample("0.01"), Ok(Sample::Ppm(10_000)));
        assert_eq!(parse_sample("1"), Ok(Sample::Ppm(1_000_000)));
        assert_eq!(parse_sample("1e-9"), Ok(Sample::Ppm(1)));
        assert_eq!(parse_sample("25/s"), Ok(Sample::PerSecond(25)));
        for wrong in ["0", "1.5", "-1", "NaN", "0/s", "x/s", "10%", ""] {
            assert!(parse_sample(wrong).is_err(), "{wrong}");
        }
    }
}
