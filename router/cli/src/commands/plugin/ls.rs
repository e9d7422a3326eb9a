//! `waypost plugin ls`: the node's plugins, and what they did.

use std::time::Duration;

use serde_json::json;
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
        let plugin = |plugin: &PluginState| {
            json!({
                "name": plugin.name,
                "role": plugin.role,
                "source": plugin.source,
                "digest": plugin.digest,
                "bytes": plugin.bytes,
                "calls": plugin.calls,
                "messages": plugin.messages,
                "failures": plugin.failures,
                "busy_ns": plugin.busy_ns,
                "instances": plugin.instances,
                "status": plugin.status,
            })
        };
        return output.json(&plugins.iter().map(plugin).collect::<Vec<_>>());
    }
    let mut table = Table::new(&[
        "plugin",
        "role",
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
            count(plugin.calls),
            count(plugin.messages),
            each.map_or(String::new(), |ns| {
                units::duration(Duration::from_nanos(ns))
            }),
            count(plugin.failures),
            units::size(plugin.bytes),
            plugin.source.clone(),
            plugin.status.clone(),
        ]);
    }
    output.lines(table.lines(0, output.style()))
}
