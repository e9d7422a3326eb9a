//! What a run is pointed at: a floor or a node in a process of its own, made for the run and gone
//! after it, or a node that is already there.

use std::fmt::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use waypost_client::wire::control::{Durability as QueueDurability, QueueSettings};
use waypost_client::{Client, ConnectOptions, Identity, Reconnect, Source};

use super::floor::Ready;
use super::load::QUEUE;
use super::plan::{Durability, Mode, Plan};
use super::process::Process;
use crate::connect::ConnectArgs;

/// What a node says. Its alarms are part of what is measured.
const LOG: &str = "warn,waypost_node::alarms=off";
/// How long a server may take to be ready: compiling plugins the first time is the longest.
const START: Duration = Duration::from_secs(60);

/// Where the load goes.
pub struct Target {
    connect: Connect,
    /// The process that serves, where it was started for this.
    pub process: Option<Process>,
    /// The floor has no queues: consumers are subscribers there.
    pub is_floor: bool,
    /// From the start of the process to its word that it is ready.
    pub ready: Duration,
}

/// How to connect.
#[derive(Clone)]
pub enum Connect {
    /// To what was started here.
    Started(ConnectOptions),
    /// As the command line says.
    Given(ConnectArgs),
}

impl Connect {
    /// A connection that is not made anew: one that is lost makes the figures worthless.
    pub async fn connect(&self) -> Result<Client> {
        match self {
            Connect::Started(options) => Ok(Client::connect(options.clone()).await?),
            Connect::Given(args) => args.connect_once().await,
        }
    }
}

/// What a node that is started has on its route.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Plugins that every message passes, in order.
    pub through: Vec<Plugin>,
    /// Connection threads; 0: one for each core.
    pub threads: usize,
    /// More of the configuration, in TOML.
    pub more: String,
}

/// A plugin of a started node.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// `builtin = "…"` or `file = "…"`.
    pub source: String,
    /// Its `[plugin.settings]`, a line of TOML.
    pub settings: String,
}

impl Plugin {
    /// One of those that come with the node.
    pub fn builtin(name: &str) -> Plugin {
        Plugin {
            source: format!("builtin = {name:?}"),
            settings: String::new(),
        }
    }

    /// A filter in a file.
    pub fn filter(path: &Path) -> Plugin {
        Plugin {
            source: format!("file = {:?}\nrole = \"filter\"", path.display().to_string()),
            settings: String::new(),
        }
    }
}

impl Target {
    /// Starts the floor, with its files in `dir`.
    pub fn floor(dir: &Path, plan: &Plan, threads: usize) -> Result<Target> {
        let mut arguments = vec!["bench".into(), "floor".into(), "--serve".into()];
        arguments.push(dir.as_os_str().to_owned());
        arguments.extend(["--threads".into(), threads.to_string().into()]);
        if plan.is_stored() {
            arguments.push("--stored".into());
        }
        let began = Instant::now();
        let mut process = Process::start(arguments, dir, Stdio::inherit())?;
        let line = process.first_line(START).context("the floor")?;
        let ready: Ready = serde_json::from_str(&line).context("the floor's answer")?;
        let options = ConnectOptions::new(ready.address.to_string(), Source::file(ready.ca))
            .reconnect(Reconnect::Never)
            .name("bench");
        Ok(Target {
            connect: Connect::Started(options),
            process: Some(process),
            is_floor: true,
            ready: began.elapsed(),
        })
    }

    /// Starts a node with a fresh data directory in `dir`.
    pub fn node(dir: &Path, plan: &Plan, setup: &Setup) -> Result<Target> {
        let file = dir.join("bench.toml");
        std::fs::write(&file, config(plan, setup)).with_context(|| file.display().to_string())?;
        Target::run_node(dir, &file)
    }

    /// Starts a node with the configuration that [`Target::node`] left in `dir` before.
    pub fn node_again(dir: &Path) -> Result<Target> {
        Target::run_node(dir, &dir.join("bench.toml"))
    }

    fn run_node(dir: &Path, config: &Path) -> Result<Target> {
        let arguments = ["run", "--json", "--log", LOG, "--config"];
        let mut arguments: Vec<_> = arguments.map(std::ffi::OsString::from).into();
        arguments.push(config.as_os_str().to_owned());
        let began = Instant::now();
        let mut process = Process::start(arguments, dir, Stdio::inherit())?;
        let line = process.first_line(START).context("the node")?;
        let ready = began.elapsed();
        #[derive(Deserialize)]
        struct Said {
            listen: String,
        }
        let Ok(said) = serde_json::from_str::<Said>(&line) else {
            bail!("the node did not start; it said {line:?}");
        };
        let tls = dir.join("data/tls");
        let identity = Identity::Certificate {
            chain: Source::file(tls.join("client.pem")),
            key: Source::file(tls.join("client.key")),
        };
        let options = ConnectOptions::new(said.listen, Source::file(tls.join("ca.pem")))
            .identity(identity)
            .reconnect(Reconnect::Never)
            .name("bench");
        Ok(Target {
            connect: Connect::Started(options),
            process: Some(process),
            is_floor: false,
            ready,
        })
    }

    /// A node that runs already; makes the queue there.
    pub fn given(args: &ConnectArgs, plan: &Plan) -> Result<Target> {
        let target = Target {
            connect: Connect::Given(args.clone()),
            process: None,
            is_floor: false,
            ready: Duration::ZERO,
        };
        if plan.mode == Mode::Queue {
            let durability = match plan.durability {
                Durability::Sync => QueueDurability::Sync,
                Durability::Memory => QueueDurability::Memory,
            };
            let settings = QueueSettings {
                durability: durability as i32,
                from: vec!["bench/#".to_owned()],
                ..QueueSettings::default()
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("runtime")?;
            runtime.block_on(async {
                let client = target.connect.connect().await?;
                client.queue_add(QUEUE, settings).await?;
                client.queue_purge(QUEUE).await?;
                client.close().await;
                anyhow::Ok(())
            })?;
        }
        Ok(target)
    }

    /// How to connect.
    pub fn connect(&self) -> Connect {
        self.connect.clone()
    }
}

/// The configuration of a node for one run.
fn config(plan: &Plan, setup: &Setup) -> String {
    let mut text = format!(
        "[node]\nname = \"bench\"\ndata_dir = \"data\"\nlisten = \"127.0.0.1:0\"\n\
         admin = \"127.0.0.1:0\"\nthreads = {}\n\n\
         [[role]]\nname = \"bench\"\npublish = [\"#\"]\nsubscribe = [\"#\"]\nconsume = [\"*\"]\n\
         manage = true\n\n\
         [[certificate]]\ncommon_name = \"waypost-dev\"\nroles = [\"bench\"]\n",
        setup.threads
    );
    let mut names = Vec::new();
    for (index, plugin) in setup.through.iter().enumerate() {
        let Plugin { source, settings } = plugin;
        let _ = write!(text, "\n[[plugin]]\nname = \"p{index}\"\n{source}\n");
        if !settings.is_empty() {
            let _ = write!(text, "[plugin.settings]\n{settings}\n");
        }
        names.push(format!("\"p{index}\""));
    }
    if plan.mode == Mode::Queue || !names.is_empty() {
        let durability = match plan.durability {
            Durability::Sync => "sync",
            Durability::Memory => "memory",
        };
        let _ = write!(
            text,
            "\n[[queue]]\nname = \"{QUEUE}\"\ndurability = \"{durability}\"\n\
             bytes_max = \"16GiB\"\n\n\
             [[route]]\nname = \"bench\"\nfrom = \"bench/#\"\nthrough = [{}]\n\
             to = [\"queue:{QUEUE}\"]\n",
            names.join(", ")
        );
    }
    text.push_str(&setup.more);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_node::config::Config;

    #[test]
    fn configurations_are_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bench.toml");
        let mut magnitude = Plugin::builtin("quake-magnitude");
        magnitude.settings = "min-magnitude = \"0\"".to_owned();
        let through = vec![magnitude, Plugin::builtin("quake-alert")];
        for (plan, through) in [
            (Plan::live(128, Duration::ZERO), Vec::new()),
            (Plan::stored(4, 128, Duration::ZERO), through),
        ] {
            let setup = Setup {
                through,
                threads: 2,
                more: "\n[limits]\ncache_bytes = \"8MiB\"\n".to_owned(),
            };
            std::fs::write(&file, config(&plan, &setup)).unwrap();
            Config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
        }
    }
}
