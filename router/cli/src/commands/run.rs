//! `waypost run`: a node, as its configuration file says.

use std::path::PathBuf;

use serde_json::json;

use crate::commands::check;
use crate::output::{Output, note};
use crate::serve;
use crate::units;

/// Run a node
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: waypost run --config /etc/waypost/waypost.toml

Ctrl-C (or SIGTERM) drains: no new clients, what is in flight is finished, everything is synced.
A second Ctrl-C ends at once. docs/operations.md describes the file; `waypost check` checks it.")]
pub struct RunArgs {
    /// The configuration
    #[arg(short, long, env = "WAYPOST_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command.
pub fn run(args: RunArgs, output: Output) -> anyhow::Result<()> {
    let config = check::load(&args.config)?;
    let name = config.node.name.clone();
    let running = serve::start(config)?;
    let (local, admin) = (running.local_addr(), running.admin_addr());
    if output.is_json() {
        output.json(&json!({
            "node": name,
            "listen": local.to_string(),
            "admin": admin.map(|a| a.to_string()),
            "ready_ms": running.ready_in().as_secs_f64() * 1e3,
        }))?;
    } else {
        let ready = units::duration(running.ready_in());
        note(format!("{name} is ready on {local} after {ready}"));
        if let Some(admin) = admin {
            note(format!("health and metrics on http://{admin}"));
        }
    }
    serve::until_interrupted(running)
}
