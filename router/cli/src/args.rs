//! The command line: which commands there are, and what all of them share.

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands;
use crate::failure::usage;
use crate::logging::{self, LogFormat};
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  waypost demo                                  see it work: a seismic network's week
  waypost dev                                   a node on this machine, without a configuration
  waypost sub 'plant/#'                         watch topics live
  waypost queue add orders --from 'orders/#'    keep what is published to them
  waypost pub orders/7 'two bolts'              publish a message
  waypost consume orders --group packers        take messages from a queue, and ack them

Exit codes: 0 done, 1 failed, 2 the command line or a configuration is wrong";

/// A message router for the edge that you program in WebAssembly
#[derive(Debug, Parser)]
#[command(name = "waypost", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Write results as JSON, one object a line where there may be many
    #[arg(long, global = true, help_heading = "Output")]
    json: bool,
    /// What to log to standard error: a level, or directives such as waypost_node=debug,warn
    #[arg(
        long,
        global = true,
        env = "WAYPOST_LOG",
        value_name = "FILTER",
        help_heading = "Output"
    )]
    log: Option<String>,
    /// The form of log lines
    #[arg(
        long,
        global = true,
        env = "WAYPOST_LOG_FORMAT",
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Output"
    )]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "node")]
    Demo(crate::demo::DemoArgs),
    #[cfg(feature = "node")]
    Dev(commands::dev::DevArgs),
    #[cfg(feature = "node")]
    Run(commands::run::RunArgs),
    #[cfg(feature = "node")]
    Check(commands::check::CheckArgs),
    Pub(commands::publish::PubArgs),
    Sub(commands::subscribe::SubArgs),
    Tap(commands::tap::TapArgs),
    Consume(commands::consume::ConsumeArgs),
    Queue(commands::queue::QueueArgs),
    Dead(commands::dead::DeadArgs),
    Plugin(commands::plugin::PluginArgs),
    Route(commands::route::RouteArgs),
    Node(commands::node::NodeArgs),
    Backup(commands::backup::BackupArgs),
    #[cfg(feature = "node")]
    Restore(commands::restore::RestoreArgs),
    #[cfg(feature = "node")]
    Log(commands::log::LogArgs),
    #[cfg(feature = "node")]
    Bench(Box<crate::bench::BenchArgs>),
    Completions(CompletionsArgs),
}

/// Write the completions of a shell to standard output
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost completions bash > ~/.local/share/bash-completion/completions/waypost
  waypost completions zsh > \"${fpath[1]}/_waypost\"
  waypost completions fish > ~/.config/fish/completions/waypost.fish")]
struct CompletionsArgs {
    /// Which shell
    shell: clap_complete::Shell,
}

impl Args {
    /// Does what the command line says.
    pub fn run(self) -> anyhow::Result<()> {
        logging::start(
            self.log.as_deref(),
            self.command.log_default(),
            self.log_format,
        )?;
        let output = Output::new(self.json);
        match self.command {
            #[cfg(feature = "node")]
            Command::Demo(args) => crate::demo::run(args, output),
            #[cfg(feature = "node")]
            Command::Dev(args) => commands::dev::run(args, output),
            #[cfg(feature = "node")]
            Command::Run(args) => commands::run::run(args, output),
            #[cfg(feature = "node")]
            Command::Check(args) => commands::check::run(args, output),
            Command::Pub(args) => commands::publish::run(args, output),
            Command::Sub(args) => commands::subscribe::run(args, output),
            Command::Tap(args) => commands::tap::run(args, output),
            Command::Consume(args) => commands::consume::run(args, output),
            Command::Queue(args) => commands::queue::run(args, output),
            Command::Dead(args) => commands::dead::run(args, output),
            Command::Plugin(args) => commands::plugin::run(args, output),
            Command::Route(args) => commands::route::run(args, output),
            Command::Node(args) => commands::node::run(args, output),
            Command::Backup(args) => commands::backup::run(args, output),
            #[cfg(feature = "node")]
            Command::Restore(args) => commands::restore::run(args, output),
            #[cfg(feature = "node")]
            Command::Log(args) => commands::log::run(args, output),
            #[cfg(feature = "node")]
            Command::Bench(args) => crate::bench::run(*args),
            Command::Completions(args) => completions(&args, output),
        }
    }
}

impl Command {
    /// What is logged where nothing else was asked for. A node tells what it does; a client's
    /// result is its output.
    fn log_default(&self) -> &'static str {
        match self {
            #[cfg(feature = "node")]
            Command::Run(_) => "info",
            #[cfg(feature = "node")]
            Command::Dev(_) => "info",
            _ => "warn",
        }
    }
}

fn completions(args: &CompletionsArgs, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return Err(usage(
            "completions are a script for a shell: there is no --json of them",
        ));
    }
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "waypost", &mut script);
    output.bytes(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        let words = line.split_whitespace();
        Args::try_parse_from(words).map_err(|error| error.to_string())
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn json_may_stand_anywhere() {
        for line in [
            "waypost --json queue ls",
            "waypost queue --json ls",
            "waypost queue ls --json",
        ] {
            assert!(parse(line).unwrap().json, "{line}");
        }
        assert!(!parse("waypost queue ls").unwrap().json);
    }

    #[test]
    fn mistakes_say_what_was_expected() {
        for (line, expected) in [
            ("waypost", "Usage: waypost"),
            ("waypost plug", "unrecognized subcommand 'plug'"),
            ("waypost pub", "required arguments were not provided"),
            ("waypost backup", "required arguments were not provided"),
            ("waypost restore b", "required arguments were not provided"),
            ("waypost log dump d --from x", "invalid digit"),
            ("waypost sub", "required arguments were not provided"),
            ("waypost sub a/#/b", "'#' must fill the last"),
            ("waypost pub a/+ x", "wildcard '+'"),
            ("waypost consume q", "--group"),
            (
                "waypost consume q --group g --start middle",
                "beginning, end, an offset",
            ),
            (
                "waypost consume q --group g --nack 1",
                "expected a duration",
            ),
            ("waypost queue add q --bytes-max lots", "expected a size"),
            ("waypost queue seek q g", "--beginning|--end|--offset <N>"),
            (
                "waypost queue seek q g --end --offset 1",
                "cannot be used with",
            ),
            ("waypost queue seek q g --time 5", "how long ago"),
            (
                "waypost queue group add q g --kind odd",
                "shared, exclusive, key",
            ),
            ("waypost queue browse q --header unit", "NAME=VALUE"),
            ("waypost queue browse q --since 42", "expected a time"),
            ("waypost dead purge 1 --all", "cannot be used with"),
            (
                "waypost queue add q --durability none",
                "possible values: sync, interval, memory",
            ),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
