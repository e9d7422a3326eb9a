//! `plugin test --replay`: a range of a queue of a running node as the messages of a test. The node
//! is looked at and nothing of it changes; the plugins run here.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde_json::{Value, json};
use waypost_client::wire::control::Select;
use waypost_client::{RecordRef, Start};
use waypost_host::Engine;
use waypost_node::config::{Config, RouteConfig};

use crate::commands;
use crate::connect::ConnectArgs;
use crate::failure::{FAILED, Shown, usage};
use crate::output::{Output, note};
use crate::times::Place;
use crate::trial::input::{self, Input, Inputs};
use crate::trial::route::{Followed, RouteTrial};
use crate::trial::run::Notebook;
use crate::units::counted;

/// Messages of one look.
const LOOK: u32 = 200;

/// Which messages of which queue, and through what.
#[derive(Debug, Default, clap::Args)]
pub struct ReplayArgs {
    /// Messages of this queue of a running node, as queue:NAME; it keeps them
    #[arg(long, value_name = "QUEUE", conflicts_with_all = ["input", "update"], value_parser = parse_queue)]
    pub replay: Option<String>,
    /// From here on: beginning, an offset, a time, or how long ago
    #[arg(long, value_name = "PLACE", requires = "replay")]
    from: Option<Place>,
    /// Up to here, without it: end, an offset, a time, or how long ago
    #[arg(long, value_name = "PLACE", requires = "replay")]
    to: Option<Place>,
    /// Topics that match; may be given several times
    #[arg(long, value_name = "FILTER", requires = "replay")]
    filter: Vec<String>,
    /// How many at most
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        requires = "replay",
        default_value_t = 1000
    )]
    count: u64,
    /// Through all plugins of this route of --config, instead of one plugin
    #[arg(
        long,
        value_name = "NAME",
        requires_all = ["replay", "config"],
        // The configuration says all of this.
        conflicts_with_all = [
            "settings", "settings_files", "destinations", "grants", "publish", "role", "batch", "time",
        ]
    )]
    pub route: Option<String>,
    /// The configuration that has the route
    #[arg(long, value_name = "FILE", requires = "route")]
    config: Option<PathBuf>,
    #[command(flatten)]
    connect: ConnectArgs,
}

fn parse_queue(text: &str) -> Result<String, String> {
    match text.strip_prefix("queue:") {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err("expected queue:NAME".to_owned()),
    }
}

impl ReplayArgs {
    /// The messages, in order; their lines are their offsets.
    pub fn fetch(&self, queue: &str) -> anyhow::Result<Inputs> {
        let mut select = self.select()?;
        let mut messages: Vec<Input> = Vec::new();
        commands::block_on(async {
            let client = self.connect.connect_once().await?;
            commands::with(client, async |client| {
                loop {
                    let left = self.count.saturating_sub(messages.len() as u64);
                    let count = left.min(u64::from(LOOK)) as u32;
                    if count == 0 {
                        note(format!(
                            "the first {} are taken; -n says how many",
                            self.count
                        ));
                        return Ok(());
                    }
                    let found = client.browse(queue, select.clone(), count).await?;
                    for found in &found.messages {
                        let record = RecordRef::parse(&found.record)
                            .with_context(|| format!("queue {queue}, offset {}", found.offset))?;
                        let (message, time) = (record.to_message(), found.receive_time_ms);
                        let line = usize::try_from(found.offset).unwrap_or(usize::MAX);
                        let input = input::from_message(message, line, false, time);
                        messages.push(input.map_err(|error| anyhow!("{queue}: {error}"))?);
                    }
                    if found.next_offset <= select.from_offset {
                        return Ok(());
                    }
                    select.from_offset = found.next_offset;
                }
            })
            .await
        })?;
        match messages.iter().map(|input| input.receive_time_ms).max() {
            None => Err(usage(format!("queue {queue} has no such message"))),
            Some(end_ms) => Ok(Inputs { messages, end_ms }),
        }
    }

    fn select(&self) -> anyhow::Result<Select> {
        let mut select = Select {
            filters: self.filter.clone(),
            ..Select::default()
        };
        let from = self.from.unwrap_or(Place::BEGINNING);
        match from.start {
            Start::Beginning => {}
            Start::Offset => select.from_offset = from.offset,
            Start::Time => select.from_time_ms = from.time_ms,
            Start::End => return Err(usage("--from end: there is nothing after it")),
        }
        let to = self.to.unwrap_or(Place::END);
        match to.start {
            Start::End => {}
            // An offset of 0 means none.
            Start::Offset if to.offset > 0 => select.to_offset = to.offset,
            Start::Time => select.to_time_ms = to.time_ms,
            Start::Beginning | Start::Offset => {
                return Err(usage("--to: there is nothing before the beginning"));
            }
        }
        Ok(select)
    }

    /// The route, and the configuration that it is of.
    fn route(&self) -> anyhow::Result<(Config, RouteConfig)> {
        // The command line has both.
        let file = self.config.as_deref().unwrap_or(Path::new(""));
        let name = self.route.as_deref().unwrap_or_default();
        let config = commands::check::load(file)?;
        let found = config.routes.iter().find(|route| route.name == name);
        let Some(route) = found.cloned() else {
            let names: Vec<&str> = config.routes.iter().map(|r| r.name.as_str()).collect();
            return Err(usage(format!(
                "{}: no route {name:?}, expected one of {}",
                file.display(),
                names.join(", ")
            )));
        };
        Ok((config, route))
    }
}

/// Runs messages through a whole route, and shows what each plugin made of each.
pub fn route(
    args: &ReplayArgs,
    queue: &str,
    engine: &Engine,
    notebook: &std::sync::Arc<Notebook>,
    output: Output,
) -> anyhow::Result<()> {
    let (config, route) = args.route()?;
    let mut trial = RouteTrial::start(&config, &route, engine, notebook)?;
    let inputs = args.fetch(queue)?;
    let (mut taken, mut failed) = (0_u64, 0_u64);
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for input in &inputs.messages {
        if !route.from.matches(&input.message.topic) {
            continue;
        }
        taken += 1;
        let followed = trial.follow(input, output.style())?;
        failed += u64::from(followed.is_failed);
        for end in &followed.ends {
            *counts.entry(end.clone()).or_default() += 1;
        }
        show(input, &followed, output)?;
    }
    let others = inputs.messages.len() as u64 - taken;
    if output.is_json() {
        output.json(&json!({
            "messages": taken, "not_taken": others, "failed": failed, "ends": counts,
        }))?;
    } else {
        let ends: Vec<String> = counts.iter().map(|(end, n)| format!("{n} {end}")).collect();
        output.line(format!(
            "{}: {}",
            counted(taken, "message"),
            ends.join(", ")
        ))?;
        if others > 0 {
            let filter = route.from.as_str();
            output.line(format!(
                "{} not taken by {filter}",
                counted(others, "message")
            ))?;
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(Shown(FAILED).into()),
    }
}

fn show(input: &Input, followed: &Followed, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        let steps: Vec<Value> = followed
            .steps
            .iter()
            .map(|step| step.json.clone())
            .collect();
        return output.json(&json!({
            "offset": input.line,
            "topic": input.message.topic,
            "steps": steps,
            "ends": followed.ends,
        }));
    }
    let style = output.style();
    let topic = crate::messages::printable(&input.message.topic);
    output.line(format!("{:>6}  {}", input.line, style.cyan(&topic)))?;
    for step in &followed.steps {
        output.lines(step.lines.iter().map(|line| format!("  {line}")))?;
    }
    output.line(format!("         → {}", followed.ends.join(", ")))
}
