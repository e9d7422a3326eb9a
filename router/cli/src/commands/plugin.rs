//! `waypost plugin`: the node's plugins, and whether a file would be one.

use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use waypost_client::wire::control::PluginState;

use crate::connect::ConnectArgs;
use crate::output::Output;
use crate::table::Table;
use crate::units::{self, count};

/// Look at the node's plugins, and check components
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin ls
  waypost plugin verify my-filter.wasm --setting min=3")]
pub struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    Ls(LsArgs),
    #[cfg(feature = "node")]
    Verify(super::plugin_verify::VerifyArgs),
}

/// List the node's plugins, and what they did since it started
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: waypost plugin ls --json")]
struct LsArgs {
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub fn run(args: PluginArgs, output: Output) -> anyhow::Result<()> {
    match args.command {
        PluginCommand::Ls(args) => super::block_on(async {
            let client = args.connect.connect_once().await?;
            super::with(client, async |client| {
                list(&client.plugin_list().await?.plugins, output)
            })
            .await
        }),
        #[cfg(feature = "node")]
        PluginCommand::Verify(args) => super::plugin_verify::run(&args, output),
    }
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
