//! `waypost plugin ls`: the node's plugins, and what they did.

use std::time::Duration;

use serde_json::{Value, json};
use waypost_client::wire::control::PluginState;

use crate::commands;
use crate::connect::ConnectArgs;
use crate::output::Output;
use crate::table::Table;
use crate::units::{self, count};

/// List the node's plugins, and what they did since it started
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: waypost plugin ls --json")]
pub struct LsArgs {
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub fn run(args: &LsArgs, output: Output) -> anyhow::Result<()> {
    commands::block_on(async {
        let client = args.connect.connect_once().await?;
        commands::with(client, async |client| {
            list(&client.plugin_list().await?.plugins, output)
        })
        .await
    })
}

fn list(plugins: &[PluginState], output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(&plugins.iter().map(to_json).collect::<Vec<_>>());
    }
    let mut table = Table::new(&[
        "plugin",
        "role",
        "version#",
        "calls#",
        "messages#",
        "time/message#",
        "failures#",
        "size#",
        "source",
        "status",
    ]);
    for plugin in plugins {
        let each = plugin.busy_ns.checked_div(plugin.messages);
        table.row([
            plugin.name.clone(),
            plugin.role.clone(),
            match plugin.version {
                0 => String::new(),
                version => version.to_string(),
            },
            count(plugin.calls),
            count(plugin.messages),
            each.map_or(String::new(), |ns| {
                units::duration(Duration::from_nanos(ns))
            }),
            count(plugin.failures),
            units::size(plugin.bytes),
            source(plugin),
            plugin.status.clone(),
        ]);
    }
    output.lines(table.lines(0, output.style()))
}

/// A digest is told apart by its first digits.
fn source(plugin: &PluginState) -> String {
    match plugin.source.split_at_checked(19) {
        Some((short, _)) if short.starts_with("sha256:") => short.to_owned(),
        _ => plugin.source.clone(),
    }
}

/// A plugin as a program reads it.
pub fn to_json(plugin: &PluginState) -> Value {
    json!({
        "name": plugin.name,
        "role": plugin.role,
        "version": plugin.version,
        "origin": plugin.origin,
        "source": plugin.source,
        "digest": plugin.digest,
        "bytes": plugin.bytes,
        "calls": plugin.calls,
        "messages": plugin.messages,
        "messages_per_second": plugin.messages_per_second,
        "failures": plugin.failures,
        "traps": plugin.traps,
        "busy_ns": plugin.busy_ns,
        "call_p50_ns": plugin.call_p50_ns,
        "call_p99_ns": plugin.call_p99_ns,
        "instances": plugin.instances,
        "since_ms": plugin.since_ms,
        "status": plugin.status,
    })
}
