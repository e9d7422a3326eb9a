//! `waypost plugin build`: runs a project's build, and checks what came out.

use std::path::PathBuf;

use super::guest;
use super::test;
use super::verify::Verified;
use crate::failure::{report, usage};
use crate::output::{Output, note};
use crate::project::watch::Seen;
use crate::project::{Project, steps};
use crate::units;

/// Build the project of this folder, and check the component
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin build
  waypost plugin build --dir plugins/loud
  waypost plugin build --watch              again at each change, with the project's tests

Runs the commands of `waypost-plugin.toml`, in order. What they print goes to standard error.")]
pub struct BuildArgs {
    /// The project; without it, this folder or the nearest one above with a waypost-plugin.toml
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Build again whenever a source changes, until interrupted
    #[arg(long)]
    watch: bool,
}

/// Runs the command.
pub fn run(args: &BuildArgs, output: Output) -> anyhow::Result<()> {
    if !args.watch {
        return build(&Project::open(args.dir.as_deref())?, output);
    }
    if output.is_json() {
        return Err(usage("--watch never ends: there is no --json of it"));
    }
    let mut project = Project::open(args.dir.as_deref())?;
    loop {
        let seen = Seen::now(&project);
        if let Err(error) = build_and_test(&project, output) {
            let _ = report(&error);
        }
        note(format!("watching {}; Ctrl-C ends", project.dir.display()));
        let mut changed = seen.wait(&project);
        // The manifest itself may have changed.
        loop {
            match Project::open(Some(&project.dir)) {
                Ok(now) => break project = now,
                Err(error) => {
                    let _ = report(&error);
                    changed = Seen::now(&project).wait(&project);
                }
            }
        }
        note(format!("\n{changed} changed"));
    }
}

fn build_and_test(project: &Project, output: Output) -> anyhow::Result<()> {
    build(project, output)?;
    match test::has_tests(project) {
        true => test::of_project(Project::open(Some(&project.dir))?, output),
        false => Ok(()),
    }
}

/// Builds, and checks what came out.
fn build(project: &Project, output: Output) -> anyhow::Result<()> {
    steps::run(project)?;
    let manifest = &project.manifest;
    let file = project.component();
    let spec = guest::SetupArgs::default().spec(
        &manifest.name,
        &file.as_path().into(),
        &manifest.test,
        Some(manifest.role),
    )?;
    let verified = Verified::load(&guest::engine(None, Some(project))?, spec)?;
    // It may well refuse to start without the settings that a router would give it.
    let started = verified.start();
    if output.is_json() {
        return output.json(&verified.to_json(&file.as_path().into(), started.as_ref().ok()));
    }
    let about = std::fs::metadata(&file)?;
    let style = output.style();
    output.line(format!(
        "{} {}  {} in {}, {}  {}",
        style.green("built"),
        style.bold(&file.display().to_string()),
        manifest.role,
        manifest.language,
        units::size(about.len()),
        style.dim(&format!("sha256:{}", verified.plugin.digest()))
    ))?;
    if let Err(error) = started {
        note(format!("it does not start as `[test]` sets it up: {error}"));
    }
    Ok(())
}
