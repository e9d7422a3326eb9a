//! `waypost demo`: a seismic network's week through a real router.
//!
//! A node with a certificate of its own making and a data directory that is removed at the end;
//! real QUIC on loopback; the events of `examples/quakes`; the stock plugins as `quakes.toml`
//! says. What the router counts is compared with what the file says ([`events::Expected`]): where
//! they differ, the demo fails.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tempfile::TempDir;
use waypost_client::{Client, ConnectOptions, Identity, Source};
use waypost_node::Running;
use waypost_node::config::{self, Config};
use waypost_node::tls::{self, Made};

use crate::commands::{dev, interrupted, runtime};
use crate::connect::{self, CLIENT_FILE, ClientFile};
use crate::failure::{FAILED, Shown, usage};
use crate::output::{Output, note};
use crate::serve;
use crate::units::{self, count, parse_duration};

mod events;
mod follow;
mod report;
mod week;

use events::{Event, Expected};
use follow::Followed;
use report::{Check, NodeCounts};
use week::{Tally, Week};

/// The node's configuration; the same text as `examples/quakes/waypost.toml`.
const CONFIG: &str = include_str!("quakes.toml");

/// How long acks may take to be synced before they count as missing.
const ACKS_WITHIN: Duration = Duration::from_secs(5);

/// How long the node waits for clients at the end; its own have gone before, so this is for those
/// of a visitor.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);

/// See it work: a seismic network's week through a real router on this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost demo
  waypost demo --time 10s
  waypost demo --keep                      leave the node up, and play with it
  waypost demo --follow uw61345682         follow another message
  waypost demo --json | jq .paced.latency

Starts a node with a certificate and a data directory of its own, on free ports of 127.0.0.1,
publishes 1,707 real earthquakes, runs them through three WebAssembly plugins into durable
queues, consumes and acks them, compares all counts with the file, and removes everything.")]
pub struct DemoArgs {
    /// How long the week takes before it is run again at full speed
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "3s")]
    time: Duration,
    /// Leave the node up until Ctrl-C, and show what to try
    #[arg(long, conflicts_with = "json")]
    keep: bool,
    /// The id of the message to follow [default: the strongest earthquake]
    #[arg(long, value_name = "ID")]
    follow: Option<String>,
}

/// Runs the command.
pub fn run(args: DemoArgs, output: Output) -> anyhow::Result<()> {
    let events = events::week()?;
    let followed = choose(&events, args.follow.as_deref())?;
    let home = TempDir::with_prefix("waypost-demo-").context("a temporary directory")?;
    let (config, made) = configuration(home.path())?;
    let running = serve::start(config)?;
    let demo = Demo {
        events,
        followed,
        running,
        made,
        home,
        output,
    };
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = demo.play(args.time) => outcome,
            result = interrupted() => {
                result?;
                note("interrupted");
                Err(Shown(FAILED).into())
            }
        }
    });
    // Its tasks hold connections, which the node would wait for.
    drop(runtime);
    let agrees = match outcome {
        Ok(outcome) => {
            demo.show(&outcome)?;
            outcome.agrees()
        }
        Err(error) => {
            demo.running.shutdown();
            return Err(error);
        }
    };
    if args.keep {
        demo.keep()?;
    } else {
        demo.running.shutdown();
    }
    match agrees {
        true => Ok(()),
        false => Err(Shown(FAILED).into()),
    }
}

/// The index of the event to follow.
fn choose(events: &[Event], id: Option<&str>) -> anyhow::Result<usize> {
    if let Some(id) = id {
        let found = events.iter().position(|event| event.id == id);
        return found
            .ok_or_else(|| usage(format!("--follow {id}: no event of the week has this id")));
    }
    let magnitude = |event: &Event| event.magnitude.unwrap_or(f64::MIN);
    let strongest = events.iter().enumerate();
    let strongest = strongest.max_by(|(_, a), (_, b)| magnitude(a).total_cmp(&magnitude(b)));
    strongest
        .map(|(index, _)| index)
        .context("the week has no event")
}

/// The embedded configuration, with its data in `home` and free ports.
fn configuration(home: &Path) -> anyhow::Result<(Config, Made)> {
    let checked = config::check_text(Path::new("quakes.toml"), CONFIG);
    let mut config = checked.config.ok_or_else(|| {
        let errors: Vec<String> = checked.errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", errors.join("\n"))
    })?;
    config.node.data_dir = home.join("data");
    config.node.listen.set_port(0);
    config.node.admin.set_port(0);
    config.node.drain_timeout = DRAIN_WITHIN;
    let made = tls::make(&home.join("tls"))?;
    config.tls = Some(dev::tls_config(&made));
    Ok((config, made))
}

struct Demo {
    events: Vec<Event>,
    followed: usize,
    running: Running,
    made: Made,
    home: TempDir,
    output: Output,
}

/// What the demo found out.
struct Outcome {
    paced: Pass,
    full: Pass,
    followed: Followed,
}

/// The week once through the router.
struct Pass {
    tally: Tally,
    node: NodeCounts,
    checks: Vec<Check>,
}

impl Outcome {
    fn agrees(&self) -> bool {
        let mut checks = self.paced.checks.iter().chain(&self.full.checks);
        checks.all(Check::agrees)
    }
}

impl Demo {
    async fn play(&self, time: Duration) -> anyhow::Result<Outcome> {
        let network = self.connect("seismic network").await?;
        let office = self.connect("warning office").await?;
        let outcome = self.play_with(network.clone(), &office, time).await;
        // Said to the node, so that it does not wait for them when it drains.
        network.close().await;
        office.close().await;
        outcome
    }

    async fn play_with(
        &self,
        network: Client,
        office: &Client,
        time: Duration,
    ) -> anyhow::Result<Outcome> {
        let bar = self.progress_bar();
        let expected = Expected::count(&self.events);
        let mut week = Week::open(network, office, bar.clone()).await?;
        let tally = week.pass(&self.events, time, &expected, &bar).await?;
        let paced = self.counted(office, tally, &expected, 1).await?;
        bar.finish_and_clear();
        let hidden = ProgressBar::hidden();
        let tally = week
            .pass(&self.events, Duration::ZERO, &expected, &hidden)
            .await?;
        let full = self.counted(office, tally, &expected, 2).await?;
        let event = &self.events[self.followed];
        let followed = follow::follow(office, event, self.followed, &paced.tally).await?;
        Ok(Outcome {
            paced,
            full,
            followed,
        })
    }

    async fn connect(&self, name: &str) -> anyhow::Result<Client> {
        let identity = Identity::Certificate {
            chain: Source::file(&self.made.client_cert),
            key: Source::file(&self.made.client_key),
        };
        let address = self.running.local_addr().to_string();
        let options = ConnectOptions::new(address, Source::file(&self.made.ca))
            .identity(identity)
            .name(name);
        Ok(Client::connect(options).await?)
    }

    fn progress_bar(&self) -> ProgressBar {
        if self.output.is_json() {
            return ProgressBar::hidden();
        }
        // Draws nothing where standard error is no terminal.
        let target = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(Some(self.events.len() as u64), target);
        let template = "  {bar:40.cyan/dim} {human_pos}/{human_len}  {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar
    }

    /// Asks the node for its counts, once the last acks are synced, and compares.
    async fn counted(
        &self,
        client: &Client,
        tally: Tally,
        expected: &Expected,
        passes: u64,
    ) -> anyhow::Result<Pass> {
        let deadline = tokio::time::Instant::now() + ACKS_WITHIN;
        let queues = loop {
            let queues = client.queue_list().await?.queues;
            let pending: u64 = queues
                .iter()
                .flat_map(|q| &q.groups)
                .map(|g| g.pending)
                .sum();
            if pending == 0 || tokio::time::Instant::now() > deadline {
                break queues;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let plugins = client.plugin_list().await?.plugins;
        let node = NodeCounts { queues, plugins };
        let checks = report::checks(&tally, &node, expected, passes);
        Ok(Pass {
            tally,
            node,
            checks,
        })
    }

    fn show(&self, outcome: &Outcome) -> anyhow::Result<()> {
        let output = self.output;
        let Outcome {
            paced,
            full,
            followed,
        } = outcome;
        if output.is_json() {
            return output.json(&json!({
                "node": self.running.local_addr().to_string(),
                "ready_ms": self.running.ready_in().as_secs_f64() * 1e3,
                "published": paced.tally.confirms.len(),
                "kept": paced.tally.kept(),
                "dropped": paced.tally.dropped(),
                "paced": report::to_json(&paced.tally, &paced.node, &paced.checks),
                "full_speed": report::to_json(&full.tally, &full.node, &full.checks),
                "followed": followed.to_json(),
                "agrees": outcome.agrees(),
            }));
        }
        let style = output.style();
        output.lines([
            String::new(),
            format!(
                " {}",
                style.bold("A week of earthquakes, 31 January to 7 February 2018")
            ),
            style.dim(&format!(
                " through a node on {} (QUIC, TLS 1.3), ready after {}",
                self.running.local_addr(),
                units::duration(self.running.ready_in())
            )),
            String::new(),
        ])?;
        output.lines(report::check_lines(&paced.checks, style))?;
        output.line("")?;
        output.lines(report::work_lines(&paced.tally, &paced.node, style))?;
        output.line("")?;
        output.lines(report::latency_lines(&paced.tally, style))?;
        output.line("")?;
        output.lines(self.rate_lines(outcome))?;
        output.line("")?;
        output.lines(followed.lines(style))?;
        output.line("")
    }

    fn rate_lines(&self, outcome: &Outcome) -> Vec<String> {
        let style = self.output.style();
        let Outcome { paced, full, .. } = outcome;
        let rate = |pass: &Pass| {
            let messages = pass.tally.confirms.len();
            count(report::rate(messages, pass.tally.publishing))
        };
        let mut lines = vec![
            format!(
                " The week in {}: {} messages/s.",
                units::duration(paced.tally.publishing),
                rate(paced)
            ),
            format!(
                " Then again at full speed, in {}: {} messages/s, each kept one synced to disk before its confirm.",
                units::duration(full.tally.publishing),
                style.bold(&rate(full))
            ),
        ];
        let differ = full.checks.iter().filter(|check| !check.agrees()).cloned();
        let differ: Vec<Check> = differ.collect();
        if outcome.agrees() {
            lines.push(style.green(" All counts agree with the file, both times."));
        } else {
            lines.push(style.red(" The router's counts differ from the file's."));
            if !differ.is_empty() {
                lines.push(" At full speed:".into());
                lines.extend(report::check_lines(&differ, style));
            }
        }
        lines
    }

    /// Leaves the node up, findable by client commands, until Ctrl-C.
    fn keep(self) -> anyhow::Result<()> {
        let file = ClientFile {
            node: self.running.local_addr().to_string(),
            ca: self.made.ca.clone(),
            cert: self.made.client_cert.clone(),
            cert_key: self.made.client_key.clone(),
            pid: std::process::id(),
        };
        dev::write_client_file(self.home.path(), &file)?;
        let shared = announce(&file);
        let is_found = connect::find_local().is_some_and(|found| found == file);
        self.show_tries(is_found)?;
        let result = serve::until_interrupted(self.running);
        if let Some(path) = shared {
            // Left behind, it would be passed over: its process is gone.
            drop(std::fs::remove_file(path));
        }
        drop(self.home);
        result
    }

    fn show_tries(&self, is_found: bool) -> anyhow::Result<()> {
        let (output, style) = (self.output, self.output.style());
        let waypost = program();
        output.line(format!(
            " {} The node is up, and has each event of the two weeks. In another terminal:",
            style.bold("Try.")
        ))?;
        output.line("")?;
        if !is_found {
            output.line(format!(
                "  export WAYPOST_DIR={}",
                dev::quoted(self.home.path())
            ))?;
        }
        output.lines([
            format!("  {waypost} queue ls"),
            format!("  {waypost} consume major --group me --idle 1s"),
            format!("  {waypost} sub 'alerts/#'"),
            format!("  {waypost} pub quakes/us/raw '{TRY}'"),
            format!("  {waypost} pub quakes/us/raw '{TRY}' --explain"),
            format!("  {waypost} plugin ls"),
            String::new(),
        ])?;
        output.line(" Ctrl-C drains and removes everything.")
    }
}

/// An event that all three plugins have something to say about.
const TRY: &str = r#"{"id":"try1","properties":{"mag":5.5,"place":"Alaska","time":0,"net":"us"}}"#;

/// Lets client commands find the node without a flag, where this user has a home.
fn announce(file: &ClientFile) -> Option<PathBuf> {
    let dir = connect::demo_dir(&connect::state_dir()?);
    dev::make_dir(&dir).ok()?;
    dev::write_client_file(&dir, file).ok()?;
    Some(dir.join(CLIENT_FILE))
}

/// How this program is called from here.
fn program() -> String {
    let Ok(path) = std::env::current_exe() else {
        return "waypost".into();
    };
    let on_path = std::env::var_os("PATH")
        .is_some_and(|paths| std::env::split_paths(&paths).any(|dir| dir.join("waypost") == path));
    if on_path {
        return "waypost".into();
    }
    let here = std::env::current_dir().ok();
    let relative = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf));
    dev::quoted(&relative.unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_good_and_the_same_as_the_example() {
        let checked = config::check_text(Path::new("quakes.toml"), CONFIG);
        assert!(checked.errors.is_empty(), "{:?}", checked.errors);
        assert!(checked.warnings.is_empty(), "{:?}", checked.warnings);
        let example = include_str!("../../../../examples/quakes/waypost.toml");
        assert_eq!(CONFIG, example);
    }

    #[test]
    fn the_strongest_is_followed_unless_another_is_named() {
        let events = events::week().unwrap();
        assert_eq!(events[choose(&events, None).unwrap()].id, "us1000chhc");
        assert_eq!(choose(&events, Some(&events[7].id)).unwrap(), 7);
        assert!(choose(&events, Some("nowhere")).is_err());
    }
}
