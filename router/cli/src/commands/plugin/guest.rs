//! What `verify`, `test` and `bench` share: how a component is given its settings, and loaded as a
//! node would load it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use waypost_host::{CacheOptions, Compiler, Engine, EngineOptions, Grants, PluginSpec, Role};
use waypost_wire::Filter;

use super::component::Component;
use crate::connect::state_dir;
use crate::failure::usage;
use crate::project::Project;
use crate::project::setup::TestSetup;
use crate::trial::run::Notebook;
use crate::trial::time::TrialClock;

/// What a router's configuration would say of the plugin.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SetupArgs {
    /// A setting, as in [plugin.settings]; may be given several times
    #[arg(long = "set", alias = "setting", value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,
    /// A setting that is the text of a file; may be given several times
    #[arg(long = "set-file", value_name = "NAME=FILE", value_parser = parse_file)]
    settings_files: Vec<(String, PathBuf)>,
    /// Destinations of the route, for a route plugin: queue:a,queue:b
    #[arg(
        long,
        alias = "destination",
        value_name = "DESTINATION,…",
        value_delimiter = ','
    )]
    destinations: Vec<String>,
    /// What it may import, and nothing else: log, state, …; may be given several times. Without it, as
    /// the project says, else everything
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// Topics of the grant publish; may be given several times
    #[arg(long = "publish", value_name = "FILTER")]
    publish: Vec<String>,
    /// Which role, where it exports several: filter, transform, route or each
    #[arg(long, value_parser = parse_role)]
    role: Option<Role>,
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

fn parse_file(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = parse_setting(text).map_err(|_| "expected NAME=FILE")?;
    Ok((name, file.into()))
}

/// A role by its name.
pub fn parse_role(text: &str) -> Result<Role, String> {
    let names = Role::ALL.map(Role::name).join(", ");
    Role::from_name(text).ok_or_else(|| format!("expected one of {names}"))
}

impl SetupArgs {
    /// The plugin that `component` is; what the command line says stands over `setup` and `role`.
    pub fn spec(
        &self,
        name: &str,
        component: &Component,
        setup: &TestSetup,
        role: Option<Role>,
    ) -> anyhow::Result<PluginSpec> {
        let mut setup = setup.clone();
        setup.set(self.settings.iter().cloned());
        for (name, file) in &self.settings_files {
            let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
            setup.set([(name.clone(), text)]);
        }
        if !self.grants.is_empty() {
            setup.grants = Some(self.grants.clone());
        }
        if !self.publish.is_empty() {
            setup.publish.clone_from(&self.publish);
        }
        let mut spec = PluginSpec::new(name, component.source()?);
        spec.role = self.role.or(setup.role).or(role);
        spec.grants = grants(&setup)?;
        spec.settings = setup.settings;
        spec.destinations = match self.destinations.is_empty() {
            true => setup.destinations,
            false => self.destinations.clone(),
        };
        Ok(spec)
    }
}

/// What a setup grants. Where it does not say, all: what a plugin needs is then shown, not refused.
fn grants(setup: &TestSetup) -> anyhow::Result<Grants> {
    let mut grants = match &setup.grants {
        None => Grants::all(),
        Some(_) => Grants::none(),
    };
    let mut topics = Vec::new();
    for text in &setup.publish {
        let filter = Filter::new(text.as_str());
        topics.push(filter.map_err(|error| usage(format!("publish: {text:?} {error}")))?);
    }
    if !topics.is_empty() && setup.grants.is_none() {
        grants.publish = Some(topics.clone());
    }
    for name in setup.grants.iter().flatten() {
        match name.as_str() {
            "log" => grants.log = true,
            "clock" => grants.clock = true,
            "random" => grants.random = true,
            "metrics" => grants.metrics = true,
            "state" => grants.state = true,
            // As the project's file has it: without topics, all that are not the router's own.
            "publish" if topics.is_empty() => grants.publish = Grants::all().publish,
            "publish" => grants.publish = Some(topics.clone()),
            "timer" => grants.timer = true,
            other => {
                let known = Grants::NAMES.join(", ");
                let text = format!("grants: found {other:?}, expected some of {known}");
                return Err(usage(text));
            }
        }
    }
    Ok(grants)
}

/// An engine for looking at plugins: compiled in a child process. What a project's component
/// compiled to is kept beside it, so that the next test need not wait for the compiler.
pub fn engine(
    around: Option<(Arc<Notebook>, Arc<TrialClock>)>,
    project: Option<&Project>,
) -> anyhow::Result<Engine> {
    let mut options = EngineOptions {
        instances_max: INSTANCES_MAX,
        compiler: Compiler::this_program().context("this program's own path")?,
        cache: project.and_then(cache),
        ..EngineOptions::default()
    };
    if let Some((notebook, clock)) = around {
        options.sink = notebook;
        options.clock = clock;
    }
    Ok(Engine::new(options)?)
}

/// One that is called, one that replaces it, and those that `bench` makes to see what one takes.
const INSTANCES_MAX: u32 = 16;

/// The key lies with the user's other state: whoever can write the project's folder cannot make
/// code that is run from it.
fn cache(project: &Project) -> Option<CacheOptions> {
    let directory = project.component().parent()?.join(".compiled");
    forget_old(&directory);
    Some(CacheOptions {
        directory,
        key_file: state_dir()?.join("plugin-cache.key"),
    })
}

/// Compiled components that are kept: the last build's and the one before it.
const KEPT: usize = 2;

fn forget_old(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    let age = |entry: fs::DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()));
    let mut files: Vec<_> = entries.flatten().filter_map(age).collect();
    files.sort();
    files.reverse();
    for (_, file) in files.iter().skip(KEPT) {
        // What stays is a few megabytes too many, and is looked at the next time.
        let _ = fs::remove_file(file);
    }
}
