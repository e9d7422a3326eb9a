//! `waypost plugin pause`, `resume`, `rollback`, `rm`: what changes a slot without a component.

use serde_json::json;
use waypost_client::Client;
use waypost_client::wire::control::PluginDeployed;

use crate::commands;
use crate::connect::ConnectArgs;
use crate::output::Output;

/// Take a plugin out of use until `resume`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin pause loud          its messages meet on_error, with the reason 'paused'
  waypost plugin pause loud --hold   they are refused, and publishers try again

A plugin that was deployed stays paused when the node starts again; one that the configuration
names does not.")]
pub struct PauseArgs {
    /// The slot
    name: String,
    /// Refuse its messages, so that their publishers try again
    #[arg(long)]
    hold: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Take a paused plugin into use again
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: waypost plugin resume loud")]
pub struct ResumeArgs {
    /// The slot
    name: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Go back to an older version of a plugin
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin rollback loud          to the version before the active one
  waypost plugin rollback loud --to 3   to that one, or forth to it

`waypost plugin show` lists the versions that the node keeps. A version that a rollback left is
not gone back to, unless it is named.")]
pub struct RollbackArgs {
    /// The slot
    name: String,
    /// The version
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Remove a plugin that no route uses, with all its versions
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  waypost route rm loud && waypost plugin rm loud

A plugin that the configuration names is removed there.")]
pub struct RmArgs {
    /// The slot
    name: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Make a plugin's shadow the version that serves
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: waypost plugin diff loud && waypost plugin promote loud

It takes effect as a deploy does: between two batches, and the version before stays for
`waypost plugin rollback`. A shadow that has ended is not promoted; deploy its component.")]
pub struct PromoteArgs {
    /// The slot
    name: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// End a plugin's shadow, and forget what it found
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: waypost plugin discard loud")]
pub struct DiscardArgs {
    /// The slot
    name: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

fn with<T>(
    connect: &ConnectArgs,
    work: impl AsyncFnOnce(&Client) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    commands::block_on(async {
        let client = connect.connect_once().await?;
        commands::with(client, work).await
    })
}

fn said(name: &str, what: &str, output: Output) -> anyhow::Result<()> {
    match output.is_json() {
        true => output.json(&json!({ "plugin": name, "status": what })),
        false => output.line(format!("{} {what}", output.style().bold(name))),
    }
}

/// Runs `pause`.
pub fn pause(args: &PauseArgs, output: Output) -> anyhow::Result<()> {
    with(&args.connect, async |client| {
        client.plugins().pause(&args.name, args.hold).await?;
        Ok(())
    })?;
    let what = if args.hold {
        "paused, holding"
    } else {
        "paused"
    };
    said(&args.name, what, output)
}

/// Runs `resume`.
pub fn resume(args: &ResumeArgs, output: Output) -> anyhow::Result<()> {
    with(&args.connect, async |client| {
        client.plugins().resume(&args.name).await?;
        Ok(())
    })?;
    said(&args.name, "resumed", output)
}

/// Runs `rollback`.
pub fn rollback(args: &RollbackArgs, output: Output) -> anyhow::Result<()> {
    let deployed = with(&args.connect, async |client| {
        Ok(client.plugins().rollback(&args.name, args.to).await?)
    })?;
    runs(&args.name, &deployed, output)
}

/// Runs `promote`.
pub fn promote(args: &PromoteArgs, output: Output) -> anyhow::Result<()> {
    let deployed = with(&args.connect, async |client| {
        Ok(client.plugins().promote(&args.name).await?)
    })?;
    runs(&args.name, &deployed, output)
}

/// Runs `discard`.
pub fn discard(args: &DiscardArgs, output: Output) -> anyhow::Result<()> {
    with(&args.connect, async |client| {
        client.plugins().discard(&args.name).await?;
        Ok(())
    })?;
    said(&args.name, "has no shadow any more", output)
}

/// Says which version serves now.
fn runs(name: &str, deployed: &PluginDeployed, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(&json!({
            "plugin": name,
            "version": deployed.version,
            "before": deployed.before,
            "unchanged": deployed.unchanged,
        }));
    }
    let name = output.style().bold(name);
    let (version, before) = (deployed.version, deployed.before);
    output.line(match deployed.unchanged {
        true => format!("{name} runs version {version} already"),
        false => format!("{name} runs version {version}, before it {before}"),
    })
}

/// Runs `rm`.
pub fn remove(args: &RmArgs, output: Output) -> anyhow::Result<()> {
    with(&args.connect, async |client| {
        client.plugins().remove(&args.name).await?;
        Ok(())
    })?;
    said(&args.name, "removed", output)
}
