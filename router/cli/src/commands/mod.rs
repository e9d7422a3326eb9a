//! The commands, a file each: its arguments, what it does with them, and what it shows.

pub mod backup;
#[cfg(feature = "node")]
pub mod check;
pub mod consume;
pub mod dead;
#[cfg(feature = "node")]
pub mod dev;
mod explained;
#[cfg(feature = "node")]
pub mod log;
mod look;
pub mod node;
pub mod plugin;
pub mod publish;
pub mod queue;
mod queue_group;
mod queue_keep;
mod queue_settings;
mod queue_show;
#[cfg(feature = "node")]
pub mod restore;
pub mod route;
#[cfg(feature = "node")]
pub mod run;
pub mod subscribe;
pub mod tap;

use std::future::Future;
use std::time::Duration;

use anyhow::Context;
use waypost_client::Client;

/// Runs a client command's work on a runtime of one thread.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    runtime()?.block_on(work)
}

/// How long a command may take to say goodbye. The node needs no answer to it: what matters was
/// confirmed before.
const GOODBYE_WITHIN: Duration = Duration::from_millis(20);

/// Does `work` with a client, and closes the connection however that ends, so that the node need
/// not find out by a timeout that it is gone.
async fn with<T>(
    client: Client,
    work: impl AsyncFnOnce(&Client) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let result = work(&client).await;
    // Closing waits until no answer can come any more; the word itself goes out at once.
    let _ = tokio::time::timeout(GOODBYE_WITHIN, client.close()).await;
    result
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
