//! `waypost dev`: a node for one machine, without a configuration.
//!
//! Everything it keeps lies in one directory: `data`, certificates of its own making in `tls`, and
//! `client.toml`, by which client commands on this machine find it.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;
use waypost_node::StartError;
use waypost_node::config::{Config, TlsConfig};
use waypost_node::tls::{self, Made};

use crate::connect::{self, CLIENT_FILE, ClientFile};
use crate::failure::usage;
use crate::output::Output;
use crate::{serve, units};

/// Run a node on this machine, without a configuration
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost dev
  waypost dev --dir ./scratch --listen 127.0.0.1:0

Then, in another terminal, without any flags:
  waypost sub '#'
  waypost pub a/b hello

The node keeps its queues, and makes its own certificates, in the directory, which is
$XDG_STATE_HOME/waypost (~/.local/state/waypost) unless --dir says otherwise; with another one,
tell client commands with --node-dir or WAYPOST_DIR.")]
pub struct DevArgs {
    /// Where its data, its certificates and client.toml are kept
    #[arg(long, env = "WAYPOST_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The UDP address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9297")]
    listen: SocketAddr,
    /// The TCP address of health and metrics; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9298")]
    admin: SocketAddr,
}

/// Runs the command.
pub fn run(args: DevArgs, output: Output) -> anyhow::Result<()> {
    let is_default = args.dir.is_none();
    let dir = args.dir.or_else(connect::state_dir).ok_or_else(|| {
        usage("neither XDG_STATE_HOME nor HOME is set: say with --dir where data is kept")
    })?;
    let dir = std::path::absolute(&dir).with_context(|| dir.display().to_string())?;
    make_dir(&dir)?;
    let data = dir.join("data");
    let made = tls::make(&dir.join("tls"))?;
    let mut config = Config::dev(&data, made.token_sha256);
    config.tls = Some(tls_config(&made));
    config.node.listen = args.listen;
    config.node.admin = args.admin;
    let running = serve::start(config).map_err(|error| match is_in_use(&error) {
        true => error.context("another node may run here; --listen 127.0.0.1:0 takes a free port"),
        false => error,
    })?;
    let file = ClientFile {
        node: running.local_addr().to_string(),
        ca: made.ca.clone(),
        cert: made.client_cert.clone(),
        cert_key: made.client_key.clone(),
        pid: std::process::id(),
    };
    write_client_file(&dir, &file)?;
    if output.is_json() {
        output.json(&json!({
            "node": file.node,
            "admin": running.admin_addr().map(|a| a.to_string()),
            "dir": dir,
            "ca": file.ca,
            "cert": file.cert,
            "cert_key": file.cert_key,
            "token_file": made.token_file,
            "ready_ms": running.ready_in().as_secs_f64() * 1e3,
        }))?;
    } else {
        let ready = units::duration(running.ready_in());
        let admin = running.admin_addr();
        show(
            &Greeting {
                dir: &dir,
                is_default,
                file: &file,
                admin,
                ready,
            },
            output,
        )?;
    }
    serve::until_interrupted(running)
}

fn is_in_use(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(StartError::Listen { error, .. }) if error.kind() == io::ErrorKind::AddrInUse
    )
}

/// What the node is told of certificates that were made.
pub fn tls_config(made: &Made) -> TlsConfig {
    TlsConfig {
        cert: made.node.cert.clone(),
        key: made.node.key.clone(),
        client_ca: made.node.client_ca.clone(),
    }
}

/// Makes a directory that only its owner can look into.
pub fn make_dir(dir: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| dir.display().to_string())
}

/// Tells the client commands of this machine where the node is. Renamed into place, so that none
/// reads half of it.
pub fn write_client_file(dir: &Path, file: &ClientFile) -> anyhow::Result<()> {
    let path = dir.join(CLIENT_FILE);
    let beside = dir.join(format!("{CLIENT_FILE}.new"));
    let text = toml::to_string(file).context("client.toml")?;
    let text =
        format!("# Written by a node when it was ready, for clients on this machine.\n{text}");
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, &path))
        .with_context(|| path.display().to_string())
}

struct Greeting<'a> {
    dir: &'a Path,
    is_default: bool,
    file: &'a ClientFile,
    admin: Option<SocketAddr>,
    ready: String,
}

fn show(greeting: &Greeting<'_>, output: Output) -> anyhow::Result<()> {
    let style = output.style();
    let fact =
        |name: &str, value: String| format!("  {}  {value}", style.dim(&format!("{name:<12}")));
    let Greeting {
        dir,
        is_default,
        file,
        admin,
        ready,
    } = greeting;
    let title = style.bold("waypost dev");
    output.line(format!("{title} is ready on {} after {ready}", file.node))?;
    output.line("")?;
    output.line(fact("data", dir.display().to_string()))?;
    if let Some(admin) = admin {
        output.line(fact("metrics", format!("http://{admin}/metrics")))?;
    }
    output.line(fact("certificates", format!("--ca {}", file.ca.display())))?;
    output.line(fact("", format!("--cert {}", file.cert.display())))?;
    output.line(fact("", format!("--cert-key {}", file.cert_key.display())))?;
    output.line("")?;
    output.line("Try, in another terminal:")?;
    output.line("")?;
    if !is_default {
        output.line(format!("  export WAYPOST_DIR={}", quoted(dir)))?;
    }
    output.lines([
        "  waypost queue add orders --from 'orders/#'",
        "  waypost sub '#'",
        "  waypost pub orders/7 'two bolts'",
        "  waypost consume orders --group packers",
        "",
        "Ctrl-C drains and ends.",
    ])
}

/// A path as a word of a shell.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    match text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
