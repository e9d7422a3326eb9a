//! `waypost plugin test`: a plugin on messages, without a node.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use waypost_host::{Engine, Plugin, Role};

use super::component::Component;
use super::guest::{self, SetupArgs};
use super::replay::{self, ReplayArgs};
use crate::failure::{FAILED, Shown, usage};
use crate::output::{Output, note};
use crate::project::Project;
use crate::project::setup::TestSetup;
use crate::project::watch::{Seen, TESTS};
use crate::trial::expect::{Expected, Kind};
use crate::trial::input::{self, Inputs};
use crate::trial::judge::{Judge, Outcome, Report};
use crate::trial::run::{Notebook, Trial};
use crate::trial::time::TrialClock;

/// Try a plugin on messages, without a node and with a node's limits
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin test                                 all tests of the project of this folder
  waypost plugin test --input recorded.jsonl          show what its plugin says of each message
  waypost plugin test quake.wasm --input week.jsonl --set min-magnitude=4.5
  waypost plugin test builtin:redact --input week.jsonl --set 'remove=$.user.email'
  waypost plugin test --input week.jsonl --snapshot week.snapshot.jsonl --update
  waypost plugin test --input minutes.jsonl --time --grant clock --grant timer --grant state
  waypost plugin test --replay queue:orders --from 2h   messages of a running node, looked at only
  waypost plugin test --replay queue:orders --route eu --config waypost.toml

Messages are lines of JSON, as `sub --json` and `consume --json` write them:
  {\"topic\":\"a/b\",\"key\":\"k\",\"headers\":{\"h\":\"v\"},\"payload\":\"text\"}
An expectation has a line for each of them and says what must be there:
  {\"verdict\":\"drop\"}
  {\"verdict\":\"edit\",\"message\":{\"headers\":{\"unit\":\"C\"}}}
--json writes such lines, whole; a snapshot is a file of them.

A project's tests are tests/NAME.jsonl, each with tests/NAME.expect.jsonl or
tests/NAME.snapshot.jsonl, and with tests/NAME.toml where it needs settings of its own.

Exit codes: 0 all as expected, 1 something differs or a message failed, 2 a mistake in a file.")]
pub struct TestArgs {
    /// The component, a file or builtin:NAME; without it, the project's
    #[arg(conflicts_with = "dir")]
    file: Option<Component>,
    /// The project; without it, this folder or the nearest one above with a waypost-plugin.toml
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Messages to try it on, one a line; - is standard input
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// What is expected of each message
    #[arg(long, value_name = "FILE", requires = "input", conflicts_with_all = ["snapshot", "update"])]
    expect: Option<PathBuf>,
    /// All that was found at an earlier time
    #[arg(long, value_name = "FILE", requires = "input")]
    snapshot: Option<PathBuf>,
    /// Write the snapshot instead of comparing with it
    #[arg(long)]
    update: bool,
    /// Messages in one call, 1 to 256; without it, one, so that effects have one cause
    #[arg(long, value_name = "MESSAGES", value_parser = clap::value_parser!(u16).range(1..=256))]
    batch: Option<u16>,
    /// In the time of the messages: `clock` says when the message came, and the timer rings between
    /// messages; a line {"wait_ms":60000} lets time pass
    #[arg(long)]
    time: bool,
    /// Which messages to show; without it, all with --input, else those that failed
    #[arg(long, value_enum)]
    show: Option<ShowWhich>,
    #[command(flatten)]
    setup: SetupArgs,
    #[command(flatten)]
    replay: ReplayArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ShowWhich {
    /// Each
    All,
    /// Those that are not as expected, or failed
    Failed,
}

/// One file of messages, and what is expected of them.
#[derive(Debug)]
struct Case {
    name: String,
    input: PathBuf,
    expected: Option<(PathBuf, Kind)>,
    /// The snapshot to be written.
    update: Option<PathBuf>,
    setup: TestSetup,
}

/// Runs the command.
pub fn run(args: &TestArgs, output: Output) -> anyhow::Result<()> {
    if let (Some(queue), Some(_)) = (&args.replay.replay, &args.replay.route) {
        if args.file.is_some() {
            return Err(usage("--route names the plugins: no component beside it"));
        }
        let (notebook, clock) = surroundings();
        let engine = guest::engine(Some((notebook.clone(), clock)), None)?;
        return replay::route(&args.replay, queue, &engine, &notebook, output);
    }
    let trials = Trials::new(args)?;
    match (&args.input, &args.replay.replay) {
        (Some(input), _) => trials.one(args, input, output),
        (None, Some(queue)) => trials.replay(args, queue, output),
        (None, None) if args.file.is_some() => Err(usage(
            "on which messages? --input FILE, or --replay queue:NAME",
        )),
        (None, None) => trials.all(args, output),
    }
}

/// Runs all tests of a project, as after a build.
pub fn of_project(project: Project, output: Output) -> anyhow::Result<()> {
    let args = TestArgs {
        file: None,
        dir: None,
        input: None,
        expect: None,
        snapshot: None,
        update: false,
        batch: None,
        time: false,
        show: None,
        setup: SetupArgs::default(),
        replay: ReplayArgs::default(),
    };
    Trials::of_project(project)?.all(&args, output)
}

/// What tests are run on.
struct Trials {
    component: Component,
    name: String,
    role: Option<Role>,
    setup: TestSetup,
    project: Option<Project>,
    notebook: Arc<Notebook>,
    clock: Arc<TrialClock>,
    engine: Engine,
}

fn surroundings() -> (Arc<Notebook>, Arc<TrialClock>) {
    (Arc::default(), Arc::default())
}

impl Trials {
    fn new(args: &TestArgs) -> anyhow::Result<Trials> {
        let Some(file) = &args.file else {
            return Trials::of_project(Project::open(args.dir.as_deref())?);
        };
        let (notebook, clock) = surroundings();
        Ok(Trials {
            component: file.clone(),
            name: file.to_string(),
            role: None,
            setup: TestSetup::default(),
            project: None,
            engine: guest::engine(Some((notebook.clone(), clock.clone())), None)?,
            notebook,
            clock,
        })
    }

    fn of_project(project: Project) -> anyhow::Result<Trials> {
        let file = project.component();
        let Ok(about) = fs::metadata(&file) else {
            return Err(usage(format!(
                "no {}: `waypost plugin build` makes it",
                file.display()
            )));
        };
        if let Ok(built) = about.modified()
            && let Some(source) = Seen::now(&project).newer_than(built)
        {
            note(format!("note: {source} is newer than the component"));
        }
        let (notebook, clock) = surroundings();
        Ok(Trials {
            component: file.as_path().into(),
            name: project.manifest.name.clone(),
            role: Some(project.manifest.role),
            setup: project.manifest.test.clone(),
            engine: guest::engine(Some((notebook.clone(), clock.clone())), Some(&project))?,
            project: Some(project),
            notebook,
            clock,
        })
    }

    fn load(&self, args: &TestArgs, setup: &TestSetup) -> anyhow::Result<Plugin> {
        let spec = args
            .setup
            .spec(&self.name, &self.component, setup, self.role)?;
        Ok(self.engine.load(spec)?)
    }

    /// `--input`.
    fn one(&self, args: &TestArgs, input: &Path, output: Output) -> anyhow::Result<()> {
        if args.update && args.snapshot.is_none() {
            return Err(usage("--update writes a snapshot: say --snapshot FILE"));
        }
        let (expected, update) = match (&args.expect, &args.snapshot) {
            (Some(expect), _) => (Some((expect.clone(), Kind::Expectation)), None),
            (None, Some(snapshot)) if args.update => (None, Some(snapshot.clone())),
            (None, Some(snapshot)) if !snapshot.exists() => {
                let file = snapshot.display();
                return Err(usage(format!("no {file}: --update writes it")));
            }
            (None, Some(snapshot)) => (Some((snapshot.clone(), Kind::Snapshot)), None),
            (None, None) => (None, None),
        };
        let case = Case {
            name: self.name.clone(),
            input: input.to_owned(),
            expected,
            update,
            setup: self.setup.clone(),
        };
        let report = Report {
            all: args.show != Some(ShowWhich::Failed),
            json_lines: true,
        };
        shown(&self.run_case(args, &case, report, output)?, output)
    }

    /// `--replay`.
    fn replay(&self, args: &TestArgs, queue: &str, output: Output) -> anyhow::Result<()> {
        let case = Case {
            name: self.name.clone(),
            input: PathBuf::new(),
            expected: None,
            update: None,
            setup: self.setup.clone(),
        };
        let report = Report {
            all: args.show != Some(ShowWhich::Failed),
            json_lines: true,
        };
        let inputs = args.replay.fetch(queue)?;
        shown(&self.run_on(args, &case, &inputs, report, output)?, output)
    }

    /// All tests of the project.
    fn all(&self, args: &TestArgs, output: Output) -> anyhow::Result<()> {
        let Some(project) = &self.project else {
            return Err(usage("--input says on which messages to try it"));
        };
        let cases = cases(project, args.update)?;
        let report = Report {
            all: args.show == Some(ShowWhich::All),
            json_lines: false,
        };
        let (mut passed, mut failed) = (0, 0);
        for case in &cases {
            let outcome = self
                .run_case(args, case, report, output)
                .with_context(|| format!("test {}", case.name))?;
            match outcome.is_good() {
                true => passed += 1,
                false => failed += 1,
            }
            show(&outcome, case, output)?;
        }
        if !output.is_json() {
            output.line(format!("{passed} passed, {failed} failed"))?;
        }
        match failed {
            0 => Ok(()),
            _ => Err(Shown(FAILED).into()),
        }
    }

    fn run_case(
        &self,
        args: &TestArgs,
        case: &Case,
        report: Report,
        output: Output,
    ) -> anyhow::Result<Outcome> {
        let inputs = input::read(&case.input)?;
        self.run_on(args, case, &inputs, report, output)
    }

    fn run_on(
        &self,
        args: &TestArgs,
        case: &Case,
        inputs: &Inputs,
        report: Report,
        output: Output,
    ) -> anyhow::Result<Outcome> {
        let expected = case.expected.as_ref();
        let expected = expected
            .map(|(file, kind)| Expected::read(file, *kind))
            .transpose()?;
        let plugin = self.load(args, &case.setup)?;
        let has_time = args.time || case.setup.time.unwrap_or(false);
        let first_ms = inputs.messages.first().map(|input| input.receive_time_ms);
        let from_ms = first_ms.filter(|_| has_time);
        let (mut trial, init) = Trial::start(plugin, self.notebook.clone(), &self.clock, from_ms)?;
        let mut judge = Judge::new(trial.destinations(), expected, report, output);
        judge.begin(&init)?;
        let batch = args.batch.map(usize::from).or(case.setup.batch);
        trial.run(inputs, batch.unwrap_or(1), |entry| judge.take(&entry))?;
        let (outcome, found) = judge.finish()?;
        if let Some(file) = &case.update {
            let text = found.join("\n") + "\n";
            fs::write(file, text).with_context(|| file.display().to_string())?;
            note(format!("wrote {}", file.display()));
        }
        Ok(outcome)
    }
}

/// The end of a test that was asked for alone.
fn shown(outcome: &Outcome, output: Output) -> anyhow::Result<()> {
    if !output.is_json() {
        output.line(outcome.summary().text())?;
    }
    match outcome.is_good() {
        true => Ok(()),
        false => Err(Shown(FAILED).into()),
    }
}

fn show(outcome: &Outcome, case: &Case, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        let mut about = outcome.to_json();
        about["test"] = case.name.as_str().into();
        return output.json(&about);
    }
    let style = output.style();
    let word = match outcome.is_good() {
        true => style.green("ok    "),
        false => style.red("FAILED"),
    };
    let open = match outcome.is_compared() {
        true => "",
        false => "; nothing was expected",
    };
    output.line(format!(
        "{word}  {}  {}",
        style.bold(&case.name),
        style.dim(&format!("{}{open}", outcome.summary().text()))
    ))
}

/// The tests of a project, by name.
fn cases(project: &Project, update: bool) -> anyhow::Result<Vec<Case>> {
    let folder = project.dir.join(TESTS);
    let none = || {
        usage(format!(
            "no tests: {} has no NAME.jsonl; --input tries the plugin on a file",
            folder.display()
        ))
    };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(none()),
        Err(error) => return Err(error).with_context(|| folder.display().to_string()),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| folder.display().to_string())?;
        let file = entry.file_name().to_string_lossy().into_owned();
        if let Some(name) = file.strip_suffix(".jsonl")
            && !name.ends_with(".expect")
            && !name.ends_with(".snapshot")
        {
            names.push(name.to_owned());
        }
    }
    if names.is_empty() {
        return Err(none());
    }
    names.sort();
    names
        .into_iter()
        .map(|name| case(project, &folder, name, update))
        .collect()
}

fn case(project: &Project, folder: &Path, name: String, update: bool) -> anyhow::Result<Case> {
    let input = folder.join(format!("{name}.jsonl"));
    let expect = folder.join(format!("{name}.expect.jsonl"));
    let snapshot = folder.join(format!("{name}.snapshot.jsonl"));
    let own_setup = folder.join(format!("{name}.toml"));
    let (expected, update) = match (expect.exists(), snapshot.exists()) {
        (true, true) => {
            return Err(usage(format!(
                "tests/{name}: has both .expect.jsonl and .snapshot.jsonl, expected one of them"
            )));
        }
        (true, false) => (Some((expect, Kind::Expectation)), None),
        (false, _) if update => (None, Some(snapshot)),
        (false, true) => (Some((snapshot, Kind::Snapshot)), None),
        (false, false) => (None, None),
    };
    let setup = match own_setup.exists() {
        true => project.manifest.test.read(&own_setup)?,
        false => project.manifest.test.clone(),
    };
    Ok(Case {
        name,
        input,
        expected,
        update,
        setup,
    })
}

/// Whether a project has tests.
pub fn has_tests(project: &Project) -> bool {
    cases(project, false).is_ok_and(|cases| !cases.is_empty())
}

/// The messages of a project's first test, and what it is run with.
pub fn first(project: &Project) -> anyhow::Result<Option<(PathBuf, TestSetup)>> {
    if !has_tests(project) {
        return Ok(None);
    }
    let first = cases(project, false)?.into_iter().next();
    Ok(first.map(|case| (case.input, case.setup)))
}
