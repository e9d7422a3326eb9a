//! Logs: to standard error, as text or JSON, filtered by `--log` or `WAYPOST_LOG`.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::failure::usage;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// Starts logging. `filter` is a level (`warn`) or directives (`waypost_node=debug,warn`);
/// `default` counts where none was given.
pub fn start(filter: Option<&str>, default: &str, format: LogFormat) -> anyhow::Result<()> {
    let text = filter.unwrap_or(default);
    let filter = EnvFilter::try_new(text).map_err(|error| {
        usage(format!(
            "--log {text:?}: {error}; expected a level such as info, or directives such as \
             waypost_node=debug,warn"
        ))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging: {error}"))
}
