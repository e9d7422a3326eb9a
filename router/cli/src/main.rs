//! The `waypost` binary: runs a node, and talks to one.
//!
//! This file turns a command line into one call and its result into an exit code: 0 done,
//! 1 failed, 2 the command line or a configuration is wrong. Errors go to standard error, results
//! to standard output. Each command has a file in `commands`; what they share is named after what
//! it holds: `connect`, `messages`, `output`, `times`, `units`.
//!
//! Without the feature `node` the binary is a client: it links no Wasm engine, and `run`, `dev`,
//! `demo`, `check` and the commands that work on a plugin's code are absent.

mod args;
#[cfg(feature = "node")]
mod bench;
mod commands;
mod connect;
#[cfg(feature = "node")]
mod demo;
mod failure;
mod logging;
mod messages;
mod output;
#[cfg(feature = "node")]
mod project;
#[cfg(feature = "node")]
mod serve;
mod table;
mod times;
#[cfg(feature = "node")]
mod trial;
mod units;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    #[cfg(feature = "node")]
    if let Some(code) = compile_child() {
        return code;
    }
    #[cfg(feature = "node")]
    bench::follow_parent();
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help goes to standard output, a mistake to standard error; neither may be closed.
            let _ = error.print();
            let code = error.exit_code();
            return ExitCode::from(u8::try_from(code).unwrap_or(failure::USAGE));
        }
    };
    match args.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

/// Plugins are compiled by this program in a process of its own: see [`waypost_host::Compiler`].
/// Looked at before the command line is parsed, because its caller clears the environment.
#[cfg(feature = "node")]
fn compile_child() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    (args.next()? == waypost_host::COMPILE_SUBCOMMAND)
        .then(|| waypost_host::compile_child_main(args))
}
