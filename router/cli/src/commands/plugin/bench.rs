//! `waypost plugin bench`: what a plugin costs, beside one that does nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use waypost_client::Message;
use waypost_host::{
    CallError, Effects, Engine, HeaderInterest, Instance, Interest, MessageRef, PayloadInterest,
    Plugin, PluginSpec, Role, Source, Verdict, Verdicts,
};
use waypost_wire::BATCH_MESSAGES_MAX;

use super::component::Component;
use super::guest::{self, SetupArgs};
use super::test;
use crate::output::{Output, note};
use crate::project::Project;
use crate::project::setup::TestSetup;
use crate::table::Table;
use crate::trial::input::{self, Input};
use crate::trial::run::{message_ref, state_of};
use crate::trial::state::Memory;
use crate::units::{self, count, counted, parse_duration};

/// Does nothing, in every role: the guest that `cargo bench -p waypost-host` measures from, too.
const NOOP: &[u8] = include_bytes!("../../../../../tests/fixtures/plugins/noop.wasm");

/// Measure what a plugin costs: time, memory, compiling, beside a plugin that does nothing
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin bench                                  the project of this folder, on its tests
  waypost plugin bench --input recorded.jsonl
  waypost plugin bench builtin:filter --input week.jsonl --set 'keep=$.temp > 30'
  waypost plugin bench quake.wasm --input week.jsonl --set min-magnitude=4.5

Time is CPU time of the thread that calls the plugin, with packing the batch and checking the
answer, as a node's worker does both. The two plugins take turns, and the median of the turns is
shown: compare ratios within one run, not times of two.")]
pub struct BenchArgs {
    /// The component, a file or builtin:NAME; without it, the project's
    #[arg(conflicts_with = "dir")]
    file: Option<Component>,
    /// The project; without it, this folder or the nearest one above with a waypost-plugin.toml
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Messages to run it on, one a line; without it, those of the project's tests, or made ones
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// How long each of the measurements takes
    #[arg(long, value_parser = parse_duration, default_value = "1s", value_name = "DURATION")]
    time: Duration,
    #[command(flatten)]
    setup: SetupArgs,
}

/// Batches that are measured.
const BATCHES: [usize; 3] = [1, 64, BATCH_MESSAGES_MAX];
/// Turns of the two plugins in a measurement.
const TURNS: u32 = 5;

/// Runs the command.
pub fn run(args: &BenchArgs, output: Output) -> anyhow::Result<()> {
    let project = match &args.file {
        Some(_) => None,
        None => Some(Project::open(args.dir.as_deref())?),
    };
    let subject = Subject::new(args, project.as_ref())?;
    let (inputs, about_inputs) = subject.inputs(args, project.as_ref())?;
    if cfg!(debug_assertions) {
        note(
            "note: this waypost was built for debugging; its own part takes several times as long",
        );
    }
    let report = subject.measure(&inputs, about_inputs, args.time)?;
    match output.is_json() {
        true => output.json(&report.to_json()),
        false => report.show(output),
    }
}

/// The plugin that is measured.
struct Subject {
    engine: Engine,
    spec: PluginSpec,
    plugin: Plugin,
    compile: Duration,
}

impl Subject {
    fn new(args: &BenchArgs, project: Option<&Project>) -> anyhow::Result<Subject> {
        // Without a cache: compiling is one of the things that are measured.
        let engine = guest::engine(None, None)?;
        let spec = match (&args.file, project) {
            (None, Some(project)) => {
                let (file, manifest) = (project.component(), &project.manifest);
                // A plugin may not start without the settings that its tests give it.
                let setup = match test::first(project)? {
                    Some((_, setup)) => setup,
                    None => manifest.test.clone(),
                };
                args.setup.spec(
                    &manifest.name,
                    &file.as_path().into(),
                    &setup,
                    Some(manifest.role),
                )?
            }
            (file, _) => {
                let file = file.clone().unwrap_or_else(|| Path::new("").into());
                let setup = TestSetup::default();
                args.setup.spec(&file.to_string(), &file, &setup, None)?
            }
        };
        let began = Instant::now();
        let plugin = engine.load(spec.clone())?;
        Ok(Subject {
            engine,
            spec,
            plugin,
            compile: began.elapsed(),
        })
    }

    /// What it is run on, and what that is.
    fn inputs(
        &self,
        args: &BenchArgs,
        project: Option<&Project>,
    ) -> anyhow::Result<(Vec<Input>, String)> {
        let first = project.map(test::first).transpose()?.flatten();
        let file = args.input.clone().or(first.map(|(file, _)| file));
        let (inputs, about) = match file {
            Some(file) => (input::read(&file)?.messages, file.display().to_string()),
            None => (
                made()?,
                "made: 37 B of topic, 4 headers, 128 B of payload".into(),
            ),
        };
        let mut guest = Guest::start(&self.plugin)?;
        let total = inputs.len();
        let mut fit = Vec::new();
        let mut refused = None;
        for input in inputs {
            if guest.instance.is_lost() {
                guest = Guest::start(&self.plugin)?;
            }
            let refs: Vec<_> = message_ref(&input).into_iter().collect();
            match guest.call(&refs) {
                Ok(_) => fit.push(input),
                Err(error) => refused = Some((input.line, error)),
            }
        }
        match refused {
            Some((line, error)) if args.input.is_some() || fit.is_empty() => {
                Err(anyhow::anyhow!("{about}:{line}: the call fails: {error}"))
            }
            Some(_) => {
                let about = format!("{about}, without {} that fail", total - fit.len());
                Ok((fit, about))
            }
            None => Ok((fit, about)),
        }
    }

    fn measure(
        &self,
        inputs: &[Input],
        about_inputs: String,
        time: Duration,
    ) -> anyhow::Result<Report> {
        let noop = self.noop()?;
        let (mut guest, mut floor) = (Guest::start(&self.plugin)?, Guest::start(&noop)?);
        let memory_start = guest.instance.memory_bytes();
        let mut rows = Vec::new();
        let mut calls = 0;
        for batch in BATCHES {
            let refs: Vec<MessageRef<'_>> = inputs.iter().filter_map(message_ref).collect();
            let refs: Vec<_> = refs
                .iter()
                .copied()
                .cycle()
                .take(batch.max(refs.len()))
                .collect();
            let mut turns = Vec::new();
            let turn = time / (TURNS * 2);
            for _ in 0..TURNS {
                let plugin = turn_of(&mut guest, &refs, batch, turn)?;
                let noop = turn_of(&mut floor, &refs, batch, turn)?;
                calls += plugin.calls;
                turns.push((plugin, noop));
            }
            rows.push(Row::of(batch, &turns));
        }
        let (bytes_in, bytes_out) = traffic(&mut guest, inputs)?;
        Ok(Report {
            name: self.plugin.name().to_owned(),
            role: self.plugin.role(),
            inputs: inputs.len(),
            about_inputs,
            bytes_in,
            bytes_out,
            compile: self.compile,
            instantiate: self.instantiate_time()?,
            memory_start,
            memory_end: guest.instance.memory_bytes(),
            calls,
            rows,
        })
    }

    /// A plugin in the same role, that asks for about as much and does nothing.
    fn noop(&self) -> anyhow::Result<Plugin> {
        let guest = Guest::start(&self.plugin)?;
        let interest = guest.instance.interest();
        let asks = match (&interest.headers, interest.payload) {
            (HeaderInterest::Nothing, PayloadInterest::Nothing) => "topic",
            (HeaderInterest::Only(_), PayloadInterest::Nothing) => "header",
            _ => "everything",
        };
        let mut spec = PluginSpec::new("no-op", Source::Bytes(Bytes::from_static(NOOP)));
        spec.role = Some(self.plugin.role());
        spec.settings = vec![("interest".into(), asks.into())];
        spec.destinations = match self.plugin.role() {
            Role::Route => vec!["queue:a".into(), "queue:b".into()],
            _ => self.spec.destinations.clone(),
        };
        Ok(self.engine.load(spec)?)
    }

    /// A fresh instance, `init` included: the median of several.
    fn instantiate_time(&self) -> anyhow::Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..INSTANTIATED {
            let began = Instant::now();
            let guest = Guest::start(&self.plugin)?;
            times.push(began.elapsed());
            drop(guest);
        }
        times.sort();
        Ok(times[times.len() / 2])
    }
}

const INSTANTIATED: usize = 21;

/// An instance, and the state that it may use: kept in memory, so that a write costs what the
/// plugin's part of it does.
struct Guest {
    plugin: Plugin,
    instance: Instance,
    memory: Memory,
}

impl Guest {
    fn start(plugin: &Plugin) -> anyhow::Result<Guest> {
        let mut memory = Memory::new(plugin.spec().limits.state_bytes);
        Ok(Guest {
            instance: plugin.instantiate(state_of(plugin, &mut memory))?,
            plugin: plugin.clone(),
            memory,
        })
    }

    fn call(&mut self, batch: &[MessageRef<'_>]) -> Result<Verdicts, CallError> {
        let mut effects = Effects {
            state: state_of(&self.plugin, &mut self.memory),
            published: Vec::new(),
        };
        let verdicts = self.instance.call(batch, &mut effects);
        drop(effects);
        self.memory.keep();
        verdicts
    }
}

/// What one turn took.
struct Turn {
    messages: u64,
    calls: u64,
    cpu: Duration,
}

impl Turn {
    fn ns_per_message(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.messages.max(1) as f64
    }
}

fn turn_of(
    guest: &mut Guest,
    messages: &[MessageRef<'_>],
    batch: usize,
    time: Duration,
) -> anyhow::Result<Turn> {
    let (began, cpu) = (Instant::now(), thread_cpu_time());
    let mut turn = Turn {
        messages: 0,
        calls: 0,
        cpu: Duration::ZERO,
    };
    loop {
        for batch in messages.chunks_exact(batch) {
            let verdicts = guest.call(batch).context("the call fails")?;
            turn.messages += verdicts.len() as u64;
            turn.calls += 1;
        }
        if began.elapsed() >= time {
            turn.cpu = thread_cpu_time().saturating_sub(cpu);
            return Ok(turn);
        }
    }
}

fn thread_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// Bytes that cross the boundary for a message, in and out, in the mean.
fn traffic(guest: &mut Guest, inputs: &[Input]) -> anyhow::Result<(u64, u64)> {
    let (mut bytes_in, mut bytes_out) = (0, 0);
    for input in inputs {
        bytes_in += packed_bytes(&input.message, guest.instance.interest());
        let refs: Vec<_> = message_ref(input).into_iter().collect();
        let verdicts = guest.call(&refs).context("the call fails")?;
        bytes_out += verdicts.iter().map(verdict_bytes).sum::<usize>();
    }
    let messages = inputs.len().max(1);
    Ok(((bytes_in / messages) as u64, (bytes_out / messages) as u64))
}

/// As `wit/plugin.wit` draws a batch: 20 words for each message, and what was asked for.
fn packed_bytes(message: &Message, interest: &Interest) -> usize {
    let headers = message
        .headers
        .iter()
        .filter(|(name, _)| match &interest.headers {
            HeaderInterest::Nothing => false,
            HeaderInterest::Only(names) => names.contains(name),
            HeaderInterest::Everything => true,
        });
    let headers: usize = headers
        .map(|(name, value)| 8 + name.len() + value.len())
        .sum();
    let payload = match interest.payload {
        PayloadInterest::Nothing => 0,
        PayloadInterest::Prefix(bytes) => message.payload.len().min(bytes as usize),
        PayloadInterest::Everything => message.payload.len(),
    };
    80 + message.topic.len() + headers + payload
}

/// Text and bytes of an answer, and one for the answer itself.
fn verdict_bytes(verdict: &Verdict) -> usize {
    let headers = |headers: &[(String, Bytes)]| -> usize {
        headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    };
    1 + match verdict {
        Verdict::Drop(reason) | Verdict::Reject(reason) | Verdict::DeadLetter(reason) => {
            reason.as_deref().map_or(0, str::len)
        }
        Verdict::Edit(edit) => {
            edit.topic.as_deref().map_or(0, str::len)
                + edit.payload.as_ref().map_or(0, Bytes::len)
                + headers(&edit.set_headers)
        }
        Verdict::Emit(emitted) => emitted
            .iter()
            .map(|message| message.topic.len() + message.payload.len() + headers(&message.headers))
            .sum(),
        Verdict::To(to) => 4 * to.as_slice().len(),
        Verdict::Pass | Verdict::Retry { .. } | Verdict::Failed(_) | Verdict::Violation(_) => 0,
    }
}

/// Messages where none were given: as `cargo bench -p waypost-host` makes them.
fn made() -> anyhow::Result<Vec<Input>> {
    let lines: Vec<String> = (0..BATCH_MESSAGES_MAX)
        .map(|n| {
            let message = json!({
                "topic": format!("plant/hall-{}/press-{:04}/temperature", n % 8, n),
                "headers": {"kind": "measurement", "unit": "celsius", "site": "north", "seq": n.to_string()},
                "payload": format!("{{\"value\":{}.5,\"pad\":\"{}\"}}", n, "x".repeat(105)),
            });
            message.to_string()
        })
        .collect();
    input::from_lines(&lines)
}

/// One batch size.
struct Row {
    batch: usize,
    plugin_ns: f64,
    noop_ns: f64,
}

impl Row {
    fn of(batch: usize, turns: &[(Turn, Turn)]) -> Row {
        let median = |ns: &mut Vec<f64>| {
            ns.sort_by(f64::total_cmp);
            ns[ns.len() / 2]
        };
        let mut plugin: Vec<f64> = turns.iter().map(|(p, _)| p.ns_per_message()).collect();
        let mut noop: Vec<f64> = turns.iter().map(|(_, n)| n.ns_per_message()).collect();
        Row {
            batch,
            plugin_ns: median(&mut plugin),
            noop_ns: median(&mut noop),
        }
    }

    fn ratio(&self) -> f64 {
        self.plugin_ns / self.noop_ns.max(f64::MIN_POSITIVE)
    }
}

/// What was measured.
struct Report {
    name: String,
    role: Role,
    inputs: usize,
    about_inputs: String,
    bytes_in: u64,
    bytes_out: u64,
    compile: Duration,
    instantiate: Duration,
    memory_start: usize,
    memory_end: usize,
    calls: u64,
    rows: Vec<Row>,
}

impl Report {
    fn to_json(&self) -> serde_json::Value {
        let row = |row: &Row| {
            json!({
                "batch": row.batch,
                "ns_per_message": row.plugin_ns.round(),
                "noop_ns_per_message": row.noop_ns.round(),
                "ratio": (row.ratio() * 100.0).round() / 100.0,
            })
        };
        json!({
            "plugin": self.name,
            "role": self.role.name(),
            "input": self.about_inputs,
            "messages": self.inputs,
            "batches": self.rows.iter().map(row).collect::<Vec<_>>(),
            "bytes_in_per_message": self.bytes_in,
            "bytes_out_per_message": self.bytes_out,
            "compile_ms": self.compile.as_secs_f64() * 1e3,
            "instantiate_us": self.instantiate.as_secs_f64() * 1e6,
            "memory_bytes": self.memory_start,
            "memory_bytes_after": self.memory_end,
            "calls": self.calls,
        })
    }

    fn show(&self, output: Output) -> anyhow::Result<()> {
        let style = output.style();
        output.line(format!(
            "{}, a {}, on {} ({})\n",
            style.bold(&self.name),
            self.role,
            counted(self.inputs as u64, "message"),
            self.about_inputs
        ))?;
        let mut table = Table::new(&["batch#", "CPU/message#", "no-op#", "ratio#", "messages/s#"]);
        let time = |ns: f64| match ns < 1_000.0 {
            true => format!("{ns:.0} ns"),
            false => units::duration(Duration::from_nanos(ns as u64)),
        };
        for row in &self.rows {
            table.row([
                row.batch.to_string(),
                time(row.plugin_ns),
                time(row.noop_ns),
                format!("{:.1}", row.ratio()),
                count((1e9 / row.plugin_ns.max(1.0)) as u64),
            ]);
        }
        output.lines(table.lines(2, style))?;
        let fact = |name: &str, value: String| {
            output.line(format!("  {}  {value}", style.dim(&format!("{name:<16}"))))
        };
        output.line("")?;
        fact("in, a message", format!("{} B", count(self.bytes_in)))?;
        fact("out, a message", format!("{} B", count(self.bytes_out)))?;
        fact("compiled in", units::duration(self.compile))?;
        fact("a fresh instance", units::duration(self.instantiate))?;
        fact("its memory", units::size(self.memory_start as u64))?;
        let after = format!(
            "{} after {}",
            units::size(self.memory_end as u64),
            counted(self.calls, "call")
        );
        fact("", after)
    }
}
