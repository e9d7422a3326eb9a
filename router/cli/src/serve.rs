//! A node inside this process, from its start to its drained end.

use std::process::exit;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use waypost_host::Compiler;
use waypost_node::config::Config;
use waypost_node::{Node, Running, StartOptions};

use crate::commands::{interrupted, runtime};
use crate::failure::FAILED;
use crate::output::note;

/// How often is looked whether Ctrl-C was pressed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Starts a node. It runs on threads of its own.
pub fn start(config: Config) -> anyhow::Result<Running> {
    let options = StartOptions {
        compiler: Compiler::this_program().context("this program's own path")?,
        ..StartOptions::default()
    };
    Ok(Node::start(config, options)?)
}

/// Waits for Ctrl-C (or SIGTERM), or for a fault that the node cannot live with, then drains: no
/// new clients, what is in flight is finished, everything is synced. A second Ctrl-C ends the
/// process at once.
pub fn until_interrupted(running: Running) -> anyhow::Result<()> {
    let interrupts = interrupts()?;
    loop {
        if let Some(fault) = running.wait_fatal(LOOK_EVERY) {
            // What was confirmed is on disk; nothing more can be put there.
            anyhow::bail!("the node stops: {fault}");
        }
        match interrupts.try_recv() {
            Ok(()) => break,
            Err(mpsc::TryRecvError::Empty) => {}
            Err(mpsc::TryRecvError::Disconnected) => anyhow::bail!("signals are not heard"),
        }
    }
    note("draining; Ctrl-C again ends at once");
    match running.shutdown() {
        0 => note("drained"),
        cut_off => note(format!("drained; {cut_off} connections had to be cut off")),
    }
    Ok(())
}

/// A thread that tells of the first Ctrl-C, and ends the process at the second.
fn interrupts() -> anyhow::Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::channel();
    let runtime = runtime()?;
    let listen = move || {
        runtime.block_on(async {
            if interrupted().await.is_ok() && sender.send(()).is_ok() && interrupted().await.is_ok()
            {
                note("ended without draining");
                exit(i32::from(FAILED));
            }
        });
    };
    let thread = std::thread::Builder::new().name("signals".into());
    thread.spawn(listen).context("no thread")?;
    Ok(receiver)
}
