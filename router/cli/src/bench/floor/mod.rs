//! The floor: the least that a relay over QUIC can do, so that every figure of a node can be given
//! as a ratio to it, in one run on one machine.
//!
//! It speaks enough of `waypost/1` for the same clients to drive it: HELLO and WELCOME, publishers,
//! live subscribers. A batch is read, written to whoever subscribes to the publisher's name, and
//! confirmed, cumulatively, once for each time that the stream gave bytes. With a store the bytes
//! go to a preallocated, zeroed and recycled file first, and one fdatasync a group comes before
//! the confirm. That is all: it looks at no topic, no checksum and no permission, keeps no queue,
//! loses nobody's messages and lets a slow subscriber hold up its publisher.
//!
//! The shape is the node's: current-thread runtimes, one a core, connections spread over them, one
//! UDP socket, a writer thread, the same transport settings.

mod relay;
mod serve;
mod store;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

pub use serve::Ready;
use serve::serve;

/// What `waypost bench floor --serve` is told by the process that started it.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Be the relay, with its files in this directory, until standard input ends
    #[arg(long, hide = true, value_name = "DIR")]
    serve: Option<PathBuf>,
    /// Sync before each confirm
    #[arg(long, hide = true)]
    stored: bool,
    /// Threads of the relay
    #[arg(long, hide = true, value_name = "N", default_value_t = 1)]
    threads: usize,
}

impl ServeArgs {
    /// Whether this process is the relay; runs it if so.
    pub fn run(&self) -> Option<Result<()>> {
        let dir = self.serve.as_ref()?;
        Some(serve(dir, self.stored, self.threads.clamp(1, 256)))
    }
}
