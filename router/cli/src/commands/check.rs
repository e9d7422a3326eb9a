//! `waypost check`: everything that can be wrong with a configuration, before it is run.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use waypost_host::Engine;
use waypost_node::config::{self, Config, ConfigError, PluginConfig};

use super::plugin::guest;
use crate::failure::{Shown, USAGE, usage};
use crate::output::Output;
use crate::units::counted;

/// Check a configuration, its certificates and its plugins, without running it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: waypost check waypost.toml

Shows all mistakes at once, each with file, line, column, and what was expected. Plugins are
compiled and started with their settings, as the node would. Exit code 2 where anything is wrong;
warnings alone are exit code 0.")]
pub struct CheckArgs {
    /// The configuration
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    /// The same, as for `run`
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Reads a configuration that is about to be run.
pub fn load(path: &Path) -> anyhow::Result<Config> {
    let checked = config::check(path);
    for warning in &checked.warnings {
        tracing::warn!("{warning}");
    }
    checked.config.ok_or_else(|| {
        let errors: Vec<String> = checked.errors.iter().map(ToString::to_string).collect();
        usage(errors.join("\n       "))
    })
}

/// Runs the command.
pub fn run(args: CheckArgs, output: Output) -> anyhow::Result<()> {
    let path = args.file.or(args.config);
    let path = path.ok_or_else(|| usage("which configuration? `waypost check FILE`"))?;
    let checked = config::check(&path);
    let plugins = match &checked.config {
        Some(config) => {
            let mut errors = check_plugins(&path, config)?;
            let conflicts = waypost_node::check_conflicts(config);
            let untrusted = waypost_node::check_deployed_trust(config);
            errors.extend(untrusted.iter().map(|e| format!("{}: {e}", path.display())));
            errors.extend(conflicts.iter().map(|e| format!("{}: {e}", path.display())));
            errors
        }
        None => Vec::new(),
    };
    let errors = checked.errors.len() + plugins.len();
    if output.is_json() {
        output.json(&json!({
            "file": path,
            "ok": errors == 0,
            "errors": checked.errors.iter().map(to_json).collect::<Vec<_>>(),
            "warnings": checked.warnings.iter().map(to_json).collect::<Vec<_>>(),
            "plugin_errors": plugins,
        }))?;
    } else {
        show(&path, &checked, &plugins, output)?;
    }
    match errors {
        0 => Ok(()),
        _ => Err(Shown(USAGE).into()),
    }
}

fn to_json(error: &ConfigError) -> Value {
    json!({
        "file": error.file,
        "line": error.line,
        "column": error.column,
        "key": error.key,
        "message": error.problem.to_string(),
    })
}

fn show(
    path: &Path,
    checked: &config::Checked,
    plugins: &[String],
    output: Output,
) -> anyhow::Result<()> {
    let style = output.style();
    for warning in &checked.warnings {
        output.line(format!("{} {warning}", style.bold("warning:")))?;
    }
    let errors = checked.errors.iter().map(ToString::to_string);
    for error in errors.chain(plugins.iter().cloned()) {
        output.line(format!("{} {error}", style.red("error:")))?;
    }
    let Some(config) = checked.config.as_ref().filter(|_| plugins.is_empty()) else {
        return Ok(());
    };
    let tls = match config.tls {
        Some(_) => "certificates are good",
        None => "the node will make its own certificates",
    };
    output.line(format!(
        "{}: {}: {}, {}, {} loaded; {tls}",
        path.display(),
        style.green("good"),
        counted(config.queues.len() as u64, "queue"),
        counted(config.routes.len() as u64, "route"),
        counted(config.plugins.len() as u64, "plugin"),
    ))
}

/// Loads and starts each plugin as its routes would; gives what is wrong.
fn check_plugins(path: &Path, config: &Config) -> anyhow::Result<Vec<String>> {
    let mut errors = Vec::new();
    if config.plugins.is_empty() {
        return Ok(errors);
    }
    let engine = guest::engine(None, None)?;
    for plugin in &config.plugins {
        let routes = config
            .routes
            .iter()
            .filter(|r| r.through.contains(&plugin.name));
        let mut used_by: Vec<Vec<String>> = routes
            .map(|route| route.to.iter().map(ToString::to_string).collect())
            .collect();
        used_by.dedup();
        if used_by.is_empty() {
            used_by.push(Vec::new());
        }
        for destinations in used_by {
            let error = check_plugin(&engine, config, plugin, destinations);
            errors.extend(error.map(|e| format!("{}:{}: {e}", path.display(), plugin.line)));
        }
    }
    Ok(errors)
}

/// `None` where nothing is wrong, or nothing is here to be looked at.
fn check_plugin(
    engine: &Engine,
    config: &Config,
    plugin: &PluginConfig,
    destinations: Vec<String>,
) -> Option<String> {
    let spec = match waypost_node::plugin_spec(config, plugin, destinations) {
        Ok(spec) => spec?,
        Err(error) => return Some(error.to_string()),
    };
    let loaded = match engine.load(spec) {
        Ok(loaded) => loaded,
        Err(error) => return Some(error.to_string()),
    };
    let started = loaded.instantiate(None);
    started.err().map(|error| error.to_string())
}
