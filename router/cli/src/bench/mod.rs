//! `waypost bench`: how fast a node is, and how near to the least that could be done.
//!
//! A [`plan`] says what to do. It is carried out by [`load`] against a [`target`]: a node or the
//! [`mod@floor`], each in a process of its own, so that what it uses can be told from what the load
//! uses. [`compare`] runs both in turn, and [`suite`] does so for every figure that the project
//! promises. Every run counts: a message that is missing or comes twice is an error.
//!
//! Left out: figures of one room alone (the log's appends, a plugin's calls); they are benches of
//! those crates.

mod compare;
mod crowd;
mod floor;
mod load;
mod machine;
mod nacked;
mod outcome;
mod pace;
mod plan;
mod platform;
mod process;
mod queues;
mod report;
mod stamp;
mod suite;
mod target;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::connect::ConnectArgs;
use crate::output::Output;
use compare::{Bench, Pair};
use machine::Machine;
use plan::{LoadArgs, Plan};
use target::{Plugin, Setup, Target};

pub use process::follow_parent;

/// Measure throughput and latency, with a bare relay beside them to compare with
#[derive(Clone, Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  waypost bench                                   live, one publisher, one subscriber
  waypost bench --consumers 4 --publishers 4 --window 256 --compare-floor
  waypost bench --mode queue --in-flight 1        how long a synced confirm takes
  waypost bench --rate 10000 --duration 10        latencies at a fixed rate
  waypost bench suite                             every promised figure, beside the floor"
)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// The same load against a bare QUIC relay with the same frames and no features
    Floor {
        #[command(flatten)]
        serve: floor::ServeArgs,
        #[command(flatten)]
        load: LoadArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Every figure that the project promises, in turn, beside what it is compared with
    Suite {
        #[command(flatten)]
        suite: suite::SuiteArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
}

#[derive(Clone, Debug, Args)]
struct CommonArgs {
    /// Write results as JSON
    #[arg(long)]
    json: bool,
    /// How often each pair of a comparison is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Where temporary data is kept; the disk that stored figures are of [default: the system's]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Threads of a server that is started, 0: one for each core
    #[arg(long, value_name = "N", default_value_t = 0)]
    server_threads: usize,
}

#[derive(Clone, Debug, Args)]
struct NodeArgs {
    /// Use a node that runs already, found as other client commands find it, instead of one that
    /// is started for the run
    #[arg(long, conflicts_with_all = ["compare_floor", "route"])]
    attach: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    /// Run the floor in turn with the node, and show ratios
    #[arg(long)]
    compare_floor: bool,
    /// Plugins of the started node's route, by the names of those that come with it
    #[arg(long, value_name = "none|pass3|PLUGIN,…", default_value = "none")]
    route: Route,
}

/// What stands on the route of a started node.
#[derive(Clone, Debug, PartialEq)]
enum Route {
    None,
    Pass3,
    Builtin(Vec<String>),
}

impl std::str::FromStr for Route {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Route, Self::Err> {
        Ok(match text {
            "none" => Route::None,
            "pass3" => Route::Pass3,
            names => Route::Builtin(names.split(',').map(str::to_owned).collect()),
        })
    }
}

/// Runs the bench.
pub fn run(args: BenchArgs) -> Result<()> {
    match args.command {
        None => one(&args.load.plan()?, &args.node, &args.common),
        Some(Command::Floor {
            serve,
            load,
            common,
        }) => match serve.run() {
            Some(served) => served,
            None => floor(&load.plan()?, &common),
        },
        Some(Command::Suite { suite, common }) => figures(&suite, &common),
    }
}

impl CommonArgs {
    fn bench(&self) -> Result<Bench> {
        if !(1..=1000).contains(&self.rounds) {
            bail!("--rounds {} is not between 1 and 1000", self.rounds);
        }
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Bench {
            dir: self.dir.clone().unwrap_or_else(std::env::temp_dir),
            threads: match self.server_threads {
                0 => cores(),
                threads => threads.min(256),
            },
            rounds: self.rounds,
        })
    }

    fn output(&self) -> Output {
        Output::new(self.json)
    }
}

fn one(plan: &Plan, args: &NodeArgs, common: &CommonArgs) -> Result<()> {
    let (bench, output) = (common.bench()?, common.output());
    let machine = Machine::here(&bench.dir);
    if args.connect.names_a_node() && !args.attach {
        bail!("a node is started for the run; to use the one that --node names, add --attach");
    }
    if args.attach {
        let target = Target::given(&args.connect, plan)?;
        let outcome = load::run(plan, &target)?;
        return show(output, plan, &machine, "node", &outcome);
    }
    let files = bench.temporary()?;
    let setup = match &args.route {
        Route::None => Setup::default(),
        Route::Pass3 => suite::pass3(files.path())?,
        Route::Builtin(names) => Setup {
            through: names.iter().map(|name| Plugin::builtin(name)).collect(),
            ..Setup::default()
        },
    };
    if !args.compare_floor {
        let outcome = bench.node(plan, &setup)?;
        return show(output, plan, &machine, "node", &outcome);
    }
    let pairs = bench.pairs(plan, &setup)?;
    if output.is_json() {
        return output.json(&json!({ "machine": machine, "plan": plan, "pairs": pairs }));
    }
    output.line(machine.describe())?;
    if let Some(Pair { node, floor }) = pairs.last() {
        report::outcome(output, &format!("node: {}", plan.describe()), node)?;
        report::outcome(output, &format!("floor: {}", plan.describe()), floor)?;
    }
    report::ratios(output, &pairs)
}

fn floor(plan: &Plan, common: &CommonArgs) -> Result<()> {
    let bench = common.bench()?;
    let machine = Machine::here(&bench.dir);
    let outcome = bench.floor(plan)?;
    show(common.output(), plan, &machine, "floor", &outcome)
}

fn show(
    output: Output,
    plan: &Plan,
    machine: &Machine,
    what: &str,
    outcome: &outcome::Outcome,
) -> Result<()> {
    if output.is_json() {
        return output.json(&json!({ "machine": machine, "plan": plan, (what): outcome }));
    }
    output.line(machine.describe())?;
    report::outcome(output, &format!("{what}: {}", plan.describe()), outcome)
}

fn figures(args: &suite::SuiteArgs, common: &CommonArgs) -> Result<()> {
    suite::check(args)?;
    let (bench, output) = (common.bench()?, common.output());
    let machine = Machine::here(&bench.dir);
    if !output.is_json() {
        output.line(machine.describe())?;
        output.line(format!(
            "{} rounds, node and what it is compared with in turn; the median of the ratios",
            bench.rounds
        ))?;
    }
    let mut all = Vec::new();
    suite::run(args, &bench, |figure| {
        all.push(figure.clone());
        match output.is_json() {
            true => Ok(()),
            false => report::figure(output, figure),
        }
    })
    .context("the suite")?;
    match output.is_json() {
        true => output.json(&json!({ "machine": machine, "figures": all })),
        false => Ok(()),
    }
}
