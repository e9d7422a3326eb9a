//! `waypost node`: the node itself.

use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use waypost_client::wire::control::{NodeState, Welcome};

use crate::connect::ConnectArgs;
use crate::output::Output;
use crate::units;

/// Look at the node
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: waypost node info")]
pub struct NodeArgs {
    #[command(subcommand)]
    command: NodeCommand,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Show the node, its limits, its alarms, and whom it takes you for
    #[command(after_help = "Example: waypost node info --json")]
    Info,
}

/// Runs the command.
pub fn run(args: NodeArgs, output: Output) -> anyhow::Result<()> {
    super::block_on(async {
        let NodeCommand::Info = args.command;
        let client = args.connect.connect_once().await?;
        super::with(client, async |client| {
            let welcome = client.welcome().await?;
            show(&client.node_info().await?, &welcome, output)
        })
        .await
    })
}

fn show(node: &NodeState, welcome: &Welcome, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(&json!({
            "name": node.name,
            "server": node.server,
            "uptime_ms": node.uptime_ms,
            "connections": node.connections,
            "queues": node.queues,
            "plugins": node.plugins,
            "routes": node.routes,
            "data_dir": node.data_dir,
            "alarms": node.alarms,
            "principal": welcome.principal,
            "roles": welcome.roles,
            "protocol_version": welcome.version,
            "payload_bytes_max": welcome.payload_bytes_max,
            "batch_messages_max": welcome.batch_messages_max,
            "batch_bytes_max": welcome.batch_bytes_max,
            "streams_max": welcome.streams_max,
        }));
    }
    let style = output.style();
    let fact =
        |name: &str, value: String| format!("  {}  {value}", style.dim(&format!("{name:<11}")));
    output.line(style.bold(&node.name))?;
    output.lines([
        fact("server", node.server.clone()),
        fact(
            "up for",
            units::duration(Duration::from_millis(node.uptime_ms)),
        ),
        fact("data", node.data_dir.clone()),
        fact(
            "it has",
            format!(
                "{}, {}, {}, {}",
                units::counted(node.connections.into(), "connection"),
                units::counted(node.queues.into(), "queue"),
                units::counted(node.routes.into(), "route"),
                units::counted(node.plugins.into(), "plugin")
            ),
        ),
        fact(
            "you are",
            format!("{} ({})", welcome.principal, welcome.roles.join(", ")),
        ),
        fact(
            "limits",
            format!(
                "payload {}, batch {} messages or {}, {} streams",
                units::size(welcome.payload_bytes_max),
                welcome.batch_messages_max,
                units::size(welcome.batch_bytes_max),
                welcome.streams_max
            ),
        ),
    ])?;
    match &node.alarms[..] {
        [] => output.line(fact("alarms", style.green("none"))),
        alarms => output.lines(alarms.iter().map(|alarm| fact("alarm", style.red(alarm)))),
    }
}
