//! `waypost plugin diff`: what a version in the shadow would do otherwise than the one that serves.

use std::time::Duration;

use serde_json::{Value, json};
use waypost_client::RecordRef;
use waypost_client::wire::control::{DiffExample, DiffRow, DiffSide, PluginDiff};

use crate::commands;
use crate::commands::explained::{change_json, changed};
use crate::connect::ConnectArgs;
use crate::messages::{self, printable};
use crate::output::{Output, Style};
use crate::table::Table;
use crate::units::{self, count};

/// Show on which messages a plugin's shadow differs from the version that serves, and what it costs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin deploy loud new.wasm --shadow --sample 0.1
  waypost plugin diff loud
  waypost plugin diff loud --json | jq '.examples[] | select(.what == \"verdict\")'
  waypost plugin promote loud          or: waypost plugin discard loud

Messages are counted by the two verdicts, the serving version's first; four messages are kept of
each pair that differs, the newest. Times are CPU time. A shadow ends when another version serves,
when as many calls in a row fail as its breaker allows, and with the node.")]
pub struct DiffArgs {
    /// The slot
    name: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub fn run(args: &DiffArgs, output: Output) -> anyhow::Result<()> {
    commands::block_on(async {
        let client = args.connect.connect_once().await?;
        commands::with(client, async |client| {
            let diff = client.plugins().diff(&args.name).await?;
            match output.is_json() {
                true => output.json(&to_json(&diff)?),
                false => output.lines(lines(&diff, output.style())?),
            }
        })
        .await
    })
}

/// CPU time of one message in ns, where there was one.
fn each(ns: u64, diff: &PluginDiff) -> Option<u64> {
    ns.checked_div(diff.compared)
}

fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "–".to_owned(),
        _ => format!("{:.2} %", part as f64 * 100.0 / whole as f64),
    }
}

fn lines(diff: &PluginDiff, style: Style) -> anyhow::Result<Vec<String>> {
    let digest: String = diff.digest.chars().take(12).collect();
    let state = match diff.ended.as_str() {
        "" => style.green("judges"),
        why => format!("{}: {}", style.red("ended"), printable(why)),
    };
    let beside = match diff.version {
        0 => "the configured one".to_owned(),
        version => format!("version {version}"),
    };
    let mut lines = vec![format!(
        "{} {state}: sha256:{digest} beside {beside}, {} of the calls, since {}",
        style.bold(&diff.plugin),
        share(u64::from(diff.sample_ppm), 1_000_000),
        messages::age(diff.since_ms),
    )];
    let fact =
        |name: &str, value: String| format!("  {}  {value}", style.dim(&format!("{name:<11}")));
    lines.push(fact(
        "compared",
        format!(
            "{} messages, {} of them different ({})",
            count(diff.compared),
            count(diff.different),
            share(diff.different, diff.compared)
        ),
    ));
    if diff.dropped > 0 {
        let text = format!(
            "{} of {} that were chosen: it was behind, or had used its CPU time",
            count(diff.dropped),
            count(diff.offered)
        );
        lines.push(fact("left out", text));
    }
    let time = |ns: u64| units::duration(Duration::from_nanos(ns));
    if let (Some(serving), Some(shadow)) = (each(diff.serving_ns, diff), each(diff.shadow_ns, diff))
    {
        let text = format!(
            "{} a message, the serving version {}",
            time(shadow),
            time(serving)
        );
        lines.push(fact("cost", text));
        let text = format!(
            "p50 {}, p99 {}; memory {}",
            time(diff.call_p50_ns),
            time(diff.call_p99_ns),
            units::size(diff.memory_bytes)
        );
        lines.push(fact("a call", text));
    }
    if diff.failures > 0 {
        let text = format!(
            "{} calls, {} of them cost an instance, {} passed the deadline",
            count(diff.failures),
            count(diff.traps),
            count(diff.deadlines)
        );
        lines.push(fact("failed", text));
        for error in &diff.errors {
            lines.push(fact("", style.red(&printable(&error.text))));
        }
    }
    if !diff.rows.is_empty() {
        let mut table = Table::new(&["serving", "shadow", "messages#", "different#"]);
        for row in &diff.rows {
            table.row([
                row.serving.clone(),
                row.shadow.clone(),
                count(row.messages),
                count(row.different),
            ]);
        }
        lines.push(String::new());
        lines.extend(table.lines(2, style));
    }
    for example in &diff.examples {
        lines.push(String::new());
        lines.extend(example_lines(example, style)?);
    }
    if diff.hidden > 0 {
        let text = format!(
            "{} more are of topics that you may not subscribe to",
            diff.hidden
        );
        lines.push(style.dim(&text));
    }
    Ok(lines)
}

fn example_lines(example: &DiffExample, style: Style) -> anyhow::Result<Vec<String>> {
    let record = RecordRef::parse(&example.record)?;
    let route = format!("  {} differs, route {}", example.what, example.route);
    let mut lines = vec![style.dim(&route), messages::to_line(&record, "   ", style)];
    for (name, side) in [("serving", &example.serving), ("shadow", &example.shadow)] {
        let side = side.clone().unwrap_or_default();
        lines.push(format!(
            "    {}  {}",
            style.cyan(&format!("{name:<7}")),
            said(&side)
        ));
        lines.extend(
            side.changes
                .iter()
                .map(|change| format!("             {}", changed(change))),
        );
    }
    if !example.between.is_empty() {
        lines.push(format!(
            "    {}",
            style.dim("from the serving version's to the shadow's:")
        ));
        let between = example.between.iter();
        lines.extend(between.map(|change| format!("             {}", changed(change))));
    }
    Ok(lines)
}

fn said(side: &DiffSide) -> String {
    let mut text = match side.detail.as_str() {
        "" => side.verdict.clone(),
        detail => format!("{}: {}", side.verdict, printable(detail)),
    };
    for (what, topics) in [("to", &side.messages), ("publishes", &side.published)] {
        if !topics.is_empty() {
            text.push_str(&format!(", {what} {}", printable(&topics.join(", "))));
        }
    }
    text
}

fn to_json(diff: &PluginDiff) -> anyhow::Result<Value> {
    let row = |row: &DiffRow| {
        json!({
            "serving": row.serving,
            "shadow": row.shadow,
            "messages": row.messages,
            "different": row.different,
        })
    };
    let examples: anyhow::Result<Vec<Value>> = diff.examples.iter().map(example_json).collect();
    let errors = diff
        .errors
        .iter()
        .map(|e| json!({ "time_ms": e.time_ms, "text": e.text, "times": e.times }));
    Ok(json!({
        "plugin": diff.plugin,
        "version": diff.version,
        "digest": diff.digest,
        "since_ms": diff.since_ms,
        "by": diff.by,
        "sample": f64::from(diff.sample_ppm) / 1e6,
        "ended": Some(&diff.ended).filter(|why| !why.is_empty()),
        "offered": diff.offered,
        "compared": diff.compared,
        "different": diff.different,
        "dropped": diff.dropped,
        "rows": diff.rows.iter().map(row).collect::<Vec<_>>(),
        "examples": examples?,
        "hidden": diff.hidden,
        "serving_ns_per_message": each(diff.serving_ns, diff),
        "shadow_ns_per_message": each(diff.shadow_ns, diff),
        "call_p50_ns": diff.call_p50_ns,
        "call_p99_ns": diff.call_p99_ns,
        "memory_bytes": diff.memory_bytes,
        "failures": diff.failures,
        "traps": diff.traps,
        "deadlines": diff.deadlines,
        "errors": errors.collect::<Vec<_>>(),
    }))
}

fn example_json(example: &DiffExample) -> anyhow::Result<Value> {
    let record = RecordRef::parse(&example.record)?;
    let side = |side: &Option<DiffSide>| {
        let side = side.clone().unwrap_or_default();
        json!({
            "verdict": side.verdict,
            "detail": side.detail,
            "changes": side.changes.iter().map(change_json).collect::<Vec<_>>(),
            "messages": side.messages,
            "published": side.published,
        })
    };
    Ok(json!({
        "time_ms": example.time_ms,
        "route": example.route,
        "what": example.what,
        "message": messages::to_json(&record, &[]),
        "payload_bytes": Some(example.payload_bytes).filter(|bytes| *bytes > 0),
        "serving": side(&example.serving),
        "shadow": side(&example.shadow),
        "between": example.between.iter().map(change_json).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_client::Message;

    #[test]
    fn both_sides_stand_below_the_message() {
        let side = |verdict: &str, detail: &str| {
            Some(DiffSide {
                verdict: verdict.into(),
                detail: detail.into(),
                ..DiffSide::default()
            })
        };
        let diff = PluginDiff {
            plugin: "p".into(),
            digest: "ab".repeat(32),
            version: 3,
            sample_ppm: 100_000,
            offered: 12,
            compared: 10,
            different: 1,
            dropped: 2,
            serving_ns: 10_000,
            shadow_ns: 20_000,
            rows: vec![DiffRow {
                serving: "pass".into(),
                shadow: "drop".into(),
                messages: 1,
                different: 1,
            }],
            examples: vec![DiffExample {
                record: Message::new("a/b", "x").to_body(),
                route: "r".into(),
                what: "verdict".into(),
                serving: side("pass", ""),
                shadow: side("drop", "too \u{1b}loud"),
                ..DiffExample::default()
            }],
            ..PluginDiff::default()
        };
        let text = lines(&diff, Style::plain()).unwrap().join("\n");
        assert!(
            text.contains("beside version 3, 10.00 % of the calls"),
            "{text}"
        );
        assert!(
            text.contains("10 messages, 1 of them different (10.00 %)"),
            "{text}"
        );
        assert!(
            text.contains("2.00 µs a message, the serving version 1.00 µs"),
            "{text}"
        );
        assert!(
            text.contains("serving  pass\n    shadow   drop: too "),
            "{text}"
        );
        assert!(
            !text.contains('\u{1b}'),
            "words of a guest move no cursor: {text:?}"
        );
        let shown = to_json(&diff).unwrap();
        assert_eq!(shown["shadow_ns_per_message"], 2_000);
        assert_eq!(shown["examples"][0]["shadow"]["verdict"], "drop");
    }
}
