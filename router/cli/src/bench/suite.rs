//! `waypost bench suite`: every figure that the project promises, in turn, each beside what it is
//! compared with.
//!
//! A figure that misses its mark is shown as such and is no error: a busy machine misses many. A
//! run that loses a message is one.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::compare::{Bench, Pair, median};
use super::crowd;
use super::machine;
use super::nacked;
use super::outcome::Outcome;
use super::plan::{Durability, Length, Mode, Plan};
use super::platform;
use super::process::{Process, this_binary};
use super::queues;
use super::stamp::Shape;
use super::target::{Plugin, Setup, Target};
use crate::failure::usage;

/// A guest that passes everything and looks at nothing.
pub(super) const NOOP: &[u8] = include_bytes!("../../../../tests/fixtures/plugins/noop.wasm");
/// Payload of the runs with plugins.
const JSON_BYTES: usize = 700;
/// How long an idle node is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(1);

/// Options of the suite.
#[derive(Clone, Debug, Args)]
pub struct SuiteArgs {
    /// Only figures whose names contain this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// How long each run measures, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    seconds: f64,
    /// Queues and consumers of the figures about many of them
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(100..=50_000))]
    many: u64,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// What the values count.
    pub unit: &'static str,
    /// The node's values, one for each round.
    pub node: Vec<f64>,
    /// What it is compared with, and its values; none where the value itself is the figure.
    pub other: Option<(&'static str, Vec<f64>)>,
    /// The median of the rounds' ratios, or of the values.
    pub figure: f64,
    /// What it is to reach.
    pub mark: Mark,
    /// Whether it does.
    pub met: bool,
}

/// What a figure is to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// So much or more.
    AtLeast(f64),
    /// So much or less.
    AtMost(f64),
}

impl Mark {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Mark::AtLeast(mark) => figure >= mark,
            Mark::AtMost(mark) => figure <= mark,
        }
    }
}

impl Figure {
    /// A ratio to something else.
    pub(super) fn ratio(
        name: impl Into<String>,
        unit: &'static str,
        node: Vec<f64>,
        other: (&'static str, Vec<f64>),
        mark: Mark,
    ) -> Figure {
        let figure = median(node.iter().zip(&other.1).map(|(a, b)| a / b));
        Figure {
            name: name.into(),
            unit,
            node,
            other: Some(other),
            figure,
            mark,
            met: mark.is_met(figure),
        }
    }

    /// A value that stands for itself.
    pub(super) fn value(
        name: impl Into<String>,
        unit: &'static str,
        node: Vec<f64>,
        mark: Mark,
    ) -> Figure {
        let figure = median(node.iter().copied());
        Figure {
            name: name.into(),
            unit,
            node,
            other: None,
            figure,
            mark,
            met: mark.is_met(figure),
        }
    }
}

type Runner = fn(&Suite<'_>) -> Result<Vec<Figure>>;

/// The figures, by names that `--only` is matched with.
const FIGURES: &[(&str, Runner)] = &[
    ("live 128 B", |suite| suite.live(128)),
    ("live 1 KiB", |suite| suite.live(1024)),
    ("stored 1→1", |suite| suite.stored(1)),
    ("stored 4→4", |suite| suite.stored(4)),
    ("confirm", |suite| suite.confirm()),
    ("open loop live", |suite| suite.open_loop(Mode::Live)),
    ("open loop stored", |suite| suite.open_loop(Mode::Queue)),
    ("backlog", |suite| suite.backlog()),
    ("plugins", |suite| suite.plugins()),
    ("idle", |suite| suite.idle()),
    ("ready", |suite| suite.ready()),
    ("binary", |_| binary()),
    ("queue kinds", |suite| {
        queues::kinds(suite.bench, suite.length)
    }),
    ("queue producer", |suite| {
        queues::producer(suite.bench, suite.length)
    }),
    ("queue million", |suite| queues::million(suite.bench)),
    ("queue spread", |suite| queues::spread(suite.bench)),
    ("queue catch-up", |suite| {
        queues::catch_up(suite.bench, suite.length)
    }),
    ("queue stalls", |suite| {
        queues::stalls(suite.bench, suite.length)
    }),
    ("queue nacked", |suite| {
        nacked::nacked(suite.bench, suite.length)
    }),
    ("plugin deploys", |suite| {
        platform::deploys(suite.bench, suite.length)
    }),
    ("plugin watched", |suite| {
        platform::watched(suite.bench, suite.length)
    }),
    ("plugin hostile", |suite| {
        platform::hostile(suite.bench, suite.length)
    }),
    ("many queues", |suite| {
        crowd::queues(suite.bench, suite.many)
    }),
    ("many consumers", |suite| {
        crowd::consumers(suite.bench, suite.many)
    }),
];

/// Whether there is something to measure.
pub fn check(args: &SuiteArgs) -> Result<()> {
    let Some(only) = &args.only else {
        return Ok(());
    };
    if FIGURES.iter().any(|(name, _)| name.contains(only.as_str())) {
        return Ok(());
    }
    let names: Vec<_> = FIGURES.iter().map(|(name, _)| *name).collect();
    Err(usage(format!(
        "no figure has {only:?} in its name, expected a part of one of: {}",
        names.join(", ")
    )))
}

/// Measures every figure and gives each to `seen` as it is known.
pub fn run(
    args: &SuiteArgs,
    bench: &Bench,
    mut seen: impl FnMut(&Figure) -> Result<()>,
) -> Result<()> {
    let length = Duration::try_from_secs_f64(args.seconds).context("--seconds")?;
    let suite = Suite {
        bench,
        length,
        many: args.many,
    };
    let only = args.only.as_deref().unwrap_or("");
    for (_, runner) in FIGURES.iter().filter(|(name, _)| name.contains(only)) {
        for figure in runner(&suite)? {
            seen(&figure)?;
        }
    }
    Ok(())
}

struct Suite<'a> {
    bench: &'a Bench,
    length: Duration,
    many: u64,
}

fn each(pairs: &[Pair], value: impl Fn(&Outcome) -> f64) -> (Vec<f64>, Vec<f64>) {
    pairs
        .iter()
        .map(|pair| (value(&pair.node), value(&pair.floor)))
        .unzip()
}

fn delivered(outcome: &Outcome) -> f64 {
    outcome.rates.delivered
}

fn written(outcome: &Outcome) -> f64 {
    let server = outcome.server.as_ref();
    server.map_or(0.0, |server| server.written_per_encoded)
}

impl Suite<'_> {
    fn pairs(&self, plan: &Plan) -> Result<Vec<Pair>> {
        self.bench.pairs(plan, &Setup::default())
    }

    fn live(&self, payload_bytes: usize) -> Result<Vec<Figure>> {
        let pairs = self.pairs(&Plan::live(payload_bytes, self.length))?;
        let (node, floor) = each(&pairs, delivered);
        let name = format!("live 1→1, {payload_bytes} B");
        let other = ("floor", floor);
        Ok(vec![Figure::ratio(
            name,
            "msg/s",
            node,
            other,
            Mark::AtLeast(0.6),
        )])
    }

    fn stored(&self, count: usize) -> Result<Vec<Figure>> {
        let pairs = self.pairs(&Plan::stored(count, 128, self.length))?;
        let (node, floor) = each(&pairs, delivered);
        let name = format!("queue stored {count}→{count}, 128 B, window 256");
        let other = ("floor with fdatasync", floor);
        let mut figures = vec![Figure::ratio(
            name,
            "msg/s",
            node,
            other,
            Mark::AtLeast(0.6),
        )];
        if count == 1 {
            let (node, _) = each(&pairs, written);
            figures.push(Figure::value(
                "bytes written over bytes encoded, consumers keep up",
                "",
                node,
                Mark::AtMost(1.2),
            ));
        }
        Ok(figures)
    }

    fn confirm(&self) -> Result<Vec<Figure>> {
        let plan = Plan {
            batch: 1,
            window: 1,
            ..Plan::stored(1, 128, self.length)
        };
        // A confirm without a disk is one round trip.
        let trip = Plan {
            mode: Mode::Live,
            ..plan.clone()
        };
        let (mut node, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..self.bench.rounds {
            node.push(self.bench.node(&plan, &Setup::default())?.confirm.p50_us);
            let trip = self.bench.floor(&trip)?.confirm.p50_us;
            bare.push(trip + machine::sync_latency(self.bench.temporary()?.path())?.p50_us);
        }
        let other = ("QUIC round trip + fdatasync", bare);
        Ok(vec![Figure::ratio(
            "confirm stored, one in flight, p50",
            "µs",
            node,
            other,
            Mark::AtMost(1.5),
        )])
    }

    fn open_loop(&self, mode: Mode) -> Result<Vec<Figure>> {
        let plan = Plan {
            mode,
            rate: Some(10_000.0),
            window: 4096,
            ..Plan::live(128, self.length)
        };
        let pairs = self.pairs(&plan)?;
        let (node, floor) = each(&pairs, |outcome| outcome.end_to_end.p99_us);
        let (kind, other) = match mode {
            Mode::Live => ("live", "floor"),
            Mode::Queue => ("queue stored", "floor with fdatasync"),
        };
        Ok(vec![Figure::ratio(
            format!("end to end {kind}, 10,000 msg/s open loop, p99"),
            "µs",
            node,
            (other, floor),
            Mark::AtMost(1.5),
        )])
    }

    fn backlog(&self) -> Result<Vec<Figure>> {
        let plan = Plan {
            backlog: true,
            window: 4096,
            ..Plan::stored(1, 128, self.length)
        };
        let mut values = Vec::new();
        for _ in 0..self.bench.rounds {
            values.push(written(&self.bench.node(&plan, &Setup::default())?));
        }
        Ok(vec![Figure::value(
            "bytes written over bytes encoded, with a backlog",
            "",
            values,
            Mark::AtMost(2.3),
        )])
    }

    fn plugins(&self) -> Result<Vec<Figure>> {
        let plan = Plan {
            mode: Mode::Queue,
            durability: Durability::Memory,
            shape: Shape::Json,
            lag: 16_384,
            ..Plan::live(JSON_BYTES, self.length)
        };
        let dir = self.bench.temporary()?;
        let small = Plan {
            shape: Shape::Binary,
            payload_bytes: 128,
            ..plan.clone()
        };
        let parsing = "three plugins that pass everything, 700 B of JSON";
        let plain = "three plugins in Rust that pass everything, 128 B";
        let mut figures = Vec::new();
        for (name, plan, setup, least) in [
            (parsing, &plan, pass3(dir.path())?, 0.4),
            (plain, &small, plain3(dir.path())?, 0.6),
        ] {
            let (mut with, mut without) = (Vec::new(), Vec::new());
            for _ in 0..self.bench.rounds {
                with.push(delivered(&self.bench.node(plan, &setup)?));
                without.push(delivered(&self.bench.node(plan, &Setup::default())?));
            }
            figures.push(Figure::ratio(
                name,
                "msg/s",
                with,
                ("the same route without them", without),
                Mark::AtLeast(least),
            ));
        }
        Ok(figures)
    }

    /// A node with the stock guests, started twice in one directory: the second time finds them
    /// compiled.
    fn idle(&self) -> Result<Vec<Figure>> {
        let plan = Plan {
            length: Length::Messages(0),
            ..Plan::stored(1, 128, self.length)
        };
        let guests = ["quake-magnitude", "quake-alert", "quake-route"];
        let setup = Setup {
            through: guests.map(Plugin::builtin).into(),
            threads: self.bench.threads,
            ..Setup::default()
        };
        let dir = self.bench.temporary()?;
        drop(Target::node(dir.path(), &plan, &setup)?);
        let (mut memory, mut ready) = (Vec::new(), Vec::new());
        for _ in 0..self.bench.rounds {
            let target = Target::node_again(dir.path())?;
            ready.push(target.ready.as_secs_f64() * 1e3);
            std::thread::sleep(IDLE);
            let process = target.process.as_ref().context("no process")?;
            memory.push(process.usage()?.rss_bytes() as f64 / 1e6);
        }
        Ok(vec![
            Figure::value(
                "idle node with the three stock guests, resident",
                "MB",
                memory,
                Mark::AtMost(25.0),
            ),
            Figure::value(
                "run with cached guests, ready after",
                "ms",
                ready,
                Mark::AtMost(300.0),
            ),
        ])
    }

    /// From the start of the process to its word that it is ready, in a directory that was used
    /// before.
    fn ready(&self) -> Result<Vec<Figure>> {
        let dir = self.bench.temporary()?;
        let start = || -> Result<f64> {
            let mut arguments: Vec<std::ffi::OsString> = vec!["dev".into(), "--json".into()];
            arguments.extend(["--log".into(), "warn".into()]);
            arguments.extend(["--listen".into(), "127.0.0.1:0".into()]);
            arguments.extend(["--admin".into(), "127.0.0.1:0".into()]);
            arguments.extend(["--dir".into(), dir.path().as_os_str().to_owned()]);
            let began = Instant::now();
            let mut process = Process::start(arguments, dir.path(), Stdio::inherit())?;
            let line = process.first_line(Duration::from_secs(60)).context("dev")?;
            let took = began.elapsed();
            serde_json::from_str::<serde_json::Value>(&line)
                .with_context(|| format!("dev said {line:?}"))?;
            Ok(took.as_secs_f64() * 1e3)
        };
        start()?;
        let values = (0..self.bench.rounds)
            .map(|_| start())
            .collect::<Result<_>>()?;
        Ok(vec![Figure::value(
            "dev, ready after",
            "ms",
            values,
            Mark::AtMost(300.0),
        )])
    }
}

/// Three plugins that let everything pass, one of which parses it; `dir` must outlive the node.
pub fn pass3(dir: &std::path::Path) -> Result<Setup> {
    let noop = dir.join("noop.wasm");
    std::fs::write(&noop, NOOP).with_context(|| noop.display().to_string())?;
    let parses = Plugin {
        settings: "min-magnitude = \"-10\"".to_owned(),
        ..Plugin::builtin("quake-magnitude")
    };
    Ok(Setup {
        through: vec![Plugin::filter(&noop), parses, Plugin::filter(&noop)],
        ..Setup::default()
    })
}

/// Three that ask for one header, for everything, and again for everything, as a transform.
fn plain3(dir: &std::path::Path) -> Result<Setup> {
    let noop = dir.join("noop.wasm");
    std::fs::write(&noop, NOOP).with_context(|| noop.display().to_string())?;
    let file = noop.display().to_string();
    let plugin = |(role, interest): (&str, &str)| Plugin {
        source: format!("file = {file:?}\nrole = {role:?}"),
        settings: format!("interest = {interest:?}"),
    };
    let three = [
        ("filter", "header"),
        ("filter", "everything"),
        ("transform", "everything"),
    ];
    Ok(Setup {
        through: three.map(plugin).into(),
        ..Setup::default()
    })
}

fn binary() -> Result<Vec<Figure>> {
    let path = this_binary()?;
    let bytes = std::fs::metadata(&path)
        .with_context(|| path.display().to_string())?
        .len();
    Ok(vec![Figure::value(
        "this binary",
        "MB",
        vec![bytes as f64 / 1e6],
        Mark::AtMost(35.0),
    )])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_of_pairs_and_not_of_medians() {
        let figure = Figure::ratio(
            "",
            "",
            vec![1.0, 10.0, 6.0],
            ("", vec![2.0, 10.0, 6.0]),
            Mark::AtLeast(1.0),
        );
        assert_eq!((figure.figure, figure.met), (1.0, true));
        assert!(!Mark::AtMost(1.0).is_met(1.1));
    }
}
