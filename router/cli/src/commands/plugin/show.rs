//! `waypost plugin show`: all that a node knows of a plugin.

use std::time::Duration;

use serde_json::{Value, json};
use waypost_client::wire::control::{PluginDetail, PluginVersion, Setting};

use crate::commands;
use crate::connect::ConnectArgs;
use crate::messages;
use crate::output::Output;
use crate::table::Table;
use crate::units::{self, count, size};

/// Show a plugin: versions, settings, grants, times, memory, last failures
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin show loud
  waypost plugin show loud --json | jq .versions

Times and counts are those of the active version; p50 and p99 are the time of a call into the
plugin, with a batch of messages each.")]
pub struct ShowArgs {
    /// The slot
    name: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub fn run(args: &ShowArgs, output: Output) -> anyhow::Result<()> {
    commands::block_on(async {
        let client = args.connect.connect_once().await?;
        commands::with(client, async |client| {
            show(&client.plugins().info(&args.name).await?, output)
        })
        .await
    })
}

fn object(pairs: &[Setting]) -> Value {
    let pair = |s: &Setting| (s.name.clone(), Value::from(s.value.clone()));
    Value::Object(pairs.iter().map(pair).collect())
}

fn to_json(detail: &PluginDetail) -> Value {
    let state = detail.state.clone().unwrap_or_default();
    let version = |v: &PluginVersion| {
        json!({
            "number": v.number, "digest": v.digest, "bytes": v.bytes, "by": v.by,
            "deployed_ms": v.deployed_ms, "active": v.active, "withdrawn": v.withdrawn,
        })
    };
    let mut shown = super::ls::to_json(&state);
    let more = json!({
        "memory_bytes": state.memory_bytes,
        "settings": object(&detail.settings),
        "grants": detail.grants,
        "publish": detail.publish,
        "limits": object(&detail.limits),
        "on_error": detail.on_error,
        "signed_by": Some(&detail.signed_by).filter(|key| !key.is_empty()),
        "imports": detail.imports,
        "routes": detail.routes,
        "versions": detail.versions.iter().map(version).collect::<Vec<_>>(),
        "version_calls": detail.version_calls,
        "version_messages": detail.version_messages,
        "version_failures": detail.version_failures,
        "breaker": {
            "state": detail.breaker,
            "failures_in_a_row": detail.failures_in_a_row,
            "opens_at": detail.breaker_failures,
            "next_try_ms": Some(detail.next_try_ms).filter(|_| detail.breaker == "open"),
            "trips": detail.trips,
        },
        "apart_ms": Some(detail.apart_ms).filter(|ms| *ms > 0),
        "shadow": (!detail.shadow.is_empty()).then(|| json!({
            "digest": detail.shadow,
            "ended": Some(&detail.shadow_ended).filter(|why| !why.is_empty()),
        })),
        "errors": detail.errors.iter().map(|e| json!({
            "time_ms": e.time_ms, "text": e.text, "times": e.times,
        })).collect::<Vec<_>>(),
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    shown
}

fn breaker(detail: &PluginDetail) -> String {
    let mut text = match (detail.breaker.as_str(), detail.failures_in_a_row) {
        ("open", _) => {
            let wait = units::duration(Duration::from_millis(detail.next_try_ms));
            format!("open: out of service, a message is tried in {wait}")
        }
        ("closed", failed) if failed > 0 => format!(
            "closed, {failed} of {} failures in a row",
            detail.breaker_failures
        ),
        (state, _) => state.to_owned(),
    };
    if detail.apart_ms > 0 {
        let wait = units::duration(Duration::from_millis(detail.apart_ms));
        text.push_str(&format!(
            "; for {wait} its messages run apart from others', for failed calls took long"
        ));
    }
    if detail.trips > 0 {
        text.push_str(&format!(
            "; opened {}",
            units::counted(detail.trips, "time")
        ));
    }
    text
}

fn shadow(name: &str, detail: &PluginDetail) -> String {
    let digest: String = detail.shadow.chars().take(12).collect();
    match (digest.as_str(), detail.shadow_ended.as_str()) {
        ("", _) => String::new(),
        (digest, "") => format!("sha256:{digest}, see `waypost plugin diff {name}`"),
        (digest, why) => format!("sha256:{digest}, ended: {}", messages::printable(why)),
    }
}

fn show(detail: &PluginDetail, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(&to_json(detail));
    }
    let state = detail.state.clone().unwrap_or_default();
    let style = output.style();
    let fact =
        |name: &str, value: String| format!("  {}  {value}", style.dim(&format!("{name:<11}")));
    let ns = |ns: u64| units::duration(Duration::from_nanos(ns));
    output.line(format!("{} {}", style.bold(&state.name), state.status))?;
    let pairs = |pairs: &[Setting]| {
        let pair = |s: &Setting| format!("{} = {}", s.name, s.value);
        pairs.iter().map(pair).collect::<Vec<_>>().join(", ")
    };
    let mut facts = vec![
        ("role", state.role.clone()),
        ("source", format!("{} ({})", state.source, state.origin)),
        ("digest", format!("sha256:{}", state.digest)),
        ("signed by", detail.signed_by.clone()),
        ("size", size(state.bytes)),
        ("grants", detail.grants.join(", ")),
        ("publish", detail.publish.join(", ")),
        ("imports", detail.imports.join(", ")),
        ("settings", pairs(&detail.settings)),
        ("limits", pairs(&detail.limits)),
        ("on error", detail.on_error.clone()),
        ("routes", detail.routes.join(", ")),
        (
            "instances",
            format!("{} ({})", state.instances, size(state.memory_bytes)),
        ),
        (
            "messages",
            format!(
                "{} in {} calls, {}/s now",
                count(detail.version_messages),
                count(detail.version_calls),
                count(state.messages_per_second)
            ),
        ),
    ];
    if detail.version_calls > 0 {
        let text = format!(
            "p50 {}, p99 {}",
            ns(state.call_p50_ns),
            ns(state.call_p99_ns)
        );
        facts.push(("call time", text));
    }
    let failures = format!(
        "{} of this version; since the start {}, {} of them cost an instance",
        count(detail.version_failures),
        count(state.failures),
        count(state.traps)
    );
    facts.push(("failures", failures));
    facts.push(("breaker", breaker(detail)));
    facts.push(("shadow", shadow(&state.name, detail)));
    let told = facts.into_iter().filter(|(_, value)| !value.is_empty());
    output.lines(told.map(|(name, value)| fact(name, value)))?;
    for error in &detail.errors {
        let times = if error.times > 1 {
            format!(" ({} times)", error.times)
        } else {
            String::new()
        };
        output.line(fact("", format!("{}{times}", style.red(&error.text))))?;
    }
    if detail.versions.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["version#", "size#", "digest", "by", ""]);
    for version in &detail.versions {
        let mark = match (version.active, version.withdrawn) {
            (true, _) => "active",
            (false, true) => "left",
            (false, false) => "",
        };
        table.row([
            version.number.to_string(),
            size(version.bytes),
            version.digest.chars().take(12).collect(),
            version.by.clone(),
            mark.to_owned(),
        ]);
    }
    output.line("")?;
    output.lines(table.lines(2, style))
}
