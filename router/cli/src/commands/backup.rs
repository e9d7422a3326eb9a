//! `waypost backup`: a copy of a running node's queues and plugins, on the node's disk.

use serde_json::json;

use crate::connect::ConnectArgs;
use crate::output::Output;
use crate::units::{counted, size};

/// Make a backup of a running node's queues and plugins, on the node's own disk
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: waypost backup before-upgrade

The backup is in `backups/NAME` of the node's data directory, and holds all that was confirmed
before, and the plugins and routes that came over the network. It shares large files with the node: copy it elsewhere before you need it. `waypost restore`
makes a data directory of it. Certificates, tokens and the configuration are not in it.")]
pub struct BackupArgs {
    /// Its name; one that exists is not written over
    name: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub fn run(args: BackupArgs, output: Output) -> anyhow::Result<()> {
    super::block_on(async {
        let client = args.connect.connect_once().await?;
        super::with(client, async |client| {
            let done = client.backup(&args.name).await?;
            if output.is_json() {
                return output.json(&json!({
                    "path": done.path,
                    "bytes": done.bytes,
                    "files": done.files,
                }));
            }
            let files = counted(done.files, "file");
            output.line(format!("{}: {files}, {}", done.path, size(done.bytes)))
        })
        .await
    })
}
