//! `waypost plugin`: a file for each of its commands.

mod ls;
#[cfg(feature = "node")]
pub mod verify;

use clap::Subcommand;

use crate::output::Output;

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
    Ls(ls::LsArgs),
    #[cfg(feature = "node")]
    Verify(verify::VerifyArgs),
}

/// Runs the command.
pub fn run(args: PluginArgs, output: Output) -> anyhow::Result<()> {
    match args.command {
        PluginCommand::Ls(args) => ls::run(&args, output),
        #[cfg(feature = "node")]
        PluginCommand::Verify(args) => verify::run(&args, output),
    }
}
