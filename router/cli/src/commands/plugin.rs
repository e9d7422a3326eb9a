//! `waypost plugin`: a file for each of its commands.

#[cfg(feature = "node")]
mod bench;
#[cfg(feature = "node")]
mod build;
mod change;
mod component;
mod deploy;
mod diff;
#[cfg(feature = "node")]
pub mod guest;
mod keygen;
mod logs;
mod ls;
#[cfg(feature = "node")]
mod new;
mod pull;
mod push;
mod registry;
#[cfg(feature = "node")]
mod replay;
#[cfg(feature = "node")]
mod shelf;
mod show;
mod sign;
mod signed;
#[cfg(feature = "node")]
mod test;
#[cfg(feature = "node")]
mod verify;

use clap::Subcommand;

use crate::output::Output;

/// Take plugins from the shelf or write them, try them, deploy them, and look at the node's
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin shelf                                plugins that need no code
  waypost plugin deploy hot builtin:filter --set 'keep=$.temp > 30'
  waypost plugin new loud --lang rust                 a project
  waypost plugin build                                its component
  waypost plugin test                                 its tests, without a node
  waypost plugin deploy loud build/loud.wasm --set min=3
  waypost plugin show loud
  waypost plugin rollback loud
  waypost plugin deploy loud new.wasm --shadow        beside the version that serves, without effects
  waypost plugin diff loud                            on which messages they differ, and its cost
  waypost plugin promote loud")]
pub struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    #[cfg(feature = "node")]
    Shelf(shelf::ShelfArgs),
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
    Keygen(keygen::KeygenArgs),
    Sign(sign::SignArgs),
    Push(push::PushArgs),
    Pull(pull::PullArgs),
    Deploy(deploy::DeployArgs),
    Diff(diff::DiffArgs),
    Promote(change::PromoteArgs),
    Discard(change::DiscardArgs),
    Ls(ls::LsArgs),
    Show(show::ShowArgs),
    Logs(logs::LogsArgs),
    Pause(change::PauseArgs),
    Resume(change::ResumeArgs),
    Rollback(change::RollbackArgs),
    Rm(change::RmArgs),
}

/// Runs the command.
pub fn run(args: PluginArgs, output: Output) -> anyhow::Result<()> {
    match args.command {
        #[cfg(feature = "node")]
        PluginCommand::Shelf(args) => shelf::run(&args, output),
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
        PluginCommand::Keygen(args) => keygen::run(&args, output),
        PluginCommand::Sign(args) => sign::run(&args, output),
        PluginCommand::Push(args) => push::run(&args, output),
        PluginCommand::Pull(args) => pull::run(&args, output),
        PluginCommand::Deploy(args) => deploy::run(args, output),
        PluginCommand::Diff(args) => diff::run(&args, output),
        PluginCommand::Promote(args) => change::promote(&args, output),
        PluginCommand::Discard(args) => change::discard(&args, output),
        PluginCommand::Ls(args) => ls::run(&args, output),
        PluginCommand::Show(args) => show::run(&args, output),
        PluginCommand::Logs(args) => logs::run(&args, output),
        PluginCommand::Pause(args) => change::pause(&args, output),
        PluginCommand::Resume(args) => change::resume(&args, output),
        PluginCommand::Rollback(args) => change::rollback(&args, output),
        PluginCommand::Rm(args) => change::remove(&args, output),
    }
}
