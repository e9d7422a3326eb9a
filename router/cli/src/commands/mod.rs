//! The commands, a file each: its arguments, what it does with them, and what it shows.

#[cfg(feature = "node")]
pub mod check;
pub mod consume;
#[cfg(feature = "node")]
pub mod dev;
pub mod node;
pub mod plugin;
#[cfg(feature = "node")]
mod plugin_verify;
pub mod publish;
pub mod queue;
#[cfg(feature = "node")]
pub mod run;
pub mod subscribe;

use std::future::Future;

use anyhow::Context;

/// Runs a client command's work on a runtime of one thread, until it is done or Ctrl-C is pressed.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    runtime()?.block_on(work)
}

/// A runtime of one thread.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")
}

/// Resolves when Ctrl-C is pressed or the process is told to end.
pub async fn interrupted() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("signals")?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.context("signals"),
        _ = terminate.recv() => Ok(()),
    }
}
