//! `waypost plugin`: a file for each of its commands.

#[cfg(feature = "node")]
mod bench;
#[cfg(feature = "node")]
mod build;
#[cfg(feature = "node")]
pub mod guest;
mod ls;
#[cfg(feature = "node")]
mod new;
#[cfg(feature = "node")]
mod test;
#[cfg(feature = "node")]
mod verify;

use clap::Subcommand;

use crate::output::Output;

/// Write plugins, try them, and look at the node's
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin new loud --lang rust       a project
  waypost plugin build                      its component
  waypost plugin test                       its tests, without a node
  waypost plugin ls                         what a node runs")]
pub struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    #[cfg(feature = "node")]
    New(new::NewArgs),
    #[cfg(feature = "node")]
    Build(build::BuildArgs),
    #[cfg(feature = "node")]
    Test(test::TestArgs),
    #[cfg(feature = "node")]
    Bench(bench::BenchArgs),
    #[cfg(feature = "node")]
    Verify(verify::VerifyArgs),
    Ls(ls::LsArgs),
}

/// Runs the command.
pub fn run(args: PluginArgs, output: Output) -> anyhow::Result<()> {
    match args.command {
        #[cfg(feature = "node")]
        PluginCommand::New(args) => new::run(&args, output),
        #[cfg(feature = "node")]
        PluginCommand::Build(args) => build::run(&args, output),
        #[cfg(feature = "node")]
        PluginCommand::Test(args) => test::run(&args, output),
        #[cfg(feature = "node")]
        PluginCommand::Bench(args) => bench::run(&args, output),
        #[cfg(feature = "node")]
        PluginCommand::Verify(args) => verify::run(&args, output),
        PluginCommand::Ls(args) => ls::run(&args, output),
    }
}
