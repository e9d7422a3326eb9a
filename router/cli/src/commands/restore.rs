//! `waypost restore`: a data directory from a backup.

use std::path::PathBuf;

use serde_json::json;
use waypost_log::{RealVfs, inspect, restore};

use super::log::{random, show_report};
use crate::failure::{FAILED, Shown};
use crate::output::{Output, note};
use crate::units::counted;

/// Make a data directory from a backup, and check it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: waypost restore /mnt/backups/before-upgrade /var/lib/waypost

The directory must be empty or not exist. Each queue gets a new incarnation: what the node gave out
after the backup and the restored queue will give out again must not be taken for one another.
Plugins and routes that came over the network are in it too, with their components and signatures.
Certificates, tokens and the configuration are not in a backup: put your own beside it. Exit code 1
where the backup is damaged; what could be read of it is restored.")]
pub struct RestoreArgs {
    /// The backup's directory
    backup: PathBuf,
    /// The data directory to be made
    dir: PathBuf,
}

/// Runs the command.
pub fn run(args: RestoreArgs, output: Output) -> anyhow::Result<()> {
    // One unpredictable number makes all of them so, and no two alike.
    let mut state = random()?;
    let mut number = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state
    };
    let renamed = restore::restore(&RealVfs, &args.backup, &args.dir, &mut number)?;
    let plugins = waypost_node::restore_plugins(&args.backup, &args.dir)?;
    let report = inspect::check(&RealVfs, &args.dir)?;
    // A queue that was removed has a number in the log still.
    let queues: usize = report.shards.iter().map(|s| s.queues.len()).sum();
    if output.is_json() {
        let queue = |(old, new): (&waypost_log::Incarnation, &waypost_log::Incarnation)| json!({"was": old.hex(), "is": new.hex()});
        output.json(&json!({
            "backup": args.backup,
            "dir": args.dir,
            "ok": !report.has_loss() && plugins.faults.is_empty(),
            "plugins": plugins.slots,
            "routes": plugins.routes,
            "plugin_faults": plugins.faults,
            "queues": renamed.iter().map(queue).collect::<Vec<_>>(),
        }))?;
    } else {
        note(format!(
            "{}, {} and {} of the network restored from {}",
            counted(queues as u64, "queue"),
            counted(plugins.slots as u64, "plugin"),
            counted(plugins.routes as u64, "route"),
            args.backup.display()
        ));
        for fault in &plugins.faults {
            output.line(format!("{} {fault}", output.style().red("plugins:")))?;
        }
        show_report(&args.dir, &report, output)?;
    }
    match report.has_loss() || !plugins.faults.is_empty() {
        true => Err(Shown(FAILED).into()),
        false => Ok(()),
    }
}
