//! `waypost plugin new`: a project from a template.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde_json::json;
use waypost_host::Role;

use super::guest::parse_role;
use crate::failure::usage;
use crate::output::{Output, note};
use crate::project::manifest::{NAME_RULE, is_plugin_name};
use crate::project::template::{Filling, Template};
use crate::project::{Project, needs};

/// Begin a plugin: write a project that builds and passes its tests
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin new loud --lang rust
  waypost plugin new redact --lang python --role transform
  waypost plugin new by-hall --lang go --role route --dir plugins/by-hall

Then, in its folder:
  waypost plugin build
  waypost plugin test

Roles: a filter says which messages go on, a transform what they become, a route where they go;
`each` may do all of it, one message at a time, at twenty times the cost.")]
pub struct NewArgs {
    /// Its name: a-z, 0-9 and dashes
    #[arg(value_parser = parse_name)]
    name: String,
    /// The language
    #[arg(long, value_name = "LANGUAGE", value_parser = language())]
    lang: &'static Template,
    /// What it does with messages: filter, transform, route or each
    #[arg(long, value_parser = parse_role, default_value = "filter")]
    role: Role,
    /// The project's folder; without it, NAME here
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Rust: use the SDK in this folder instead of bringing it along
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

fn parse_name(text: &str) -> Result<String, String> {
    match is_plugin_name(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected {NAME_RULE}")),
    }
}

fn language() -> impl TypedValueParser<Value = &'static Template> {
    let value =
        |template: &Template| PossibleValue::new(template.language).aliases(template.aliases());
    PossibleValuesParser::new(Template::all().iter().map(value))
        .try_map(|name| Template::of(&name).ok_or("there is no such template"))
}

/// Runs the command.
pub fn run(args: &NewArgs, output: Output) -> anyhow::Result<()> {
    let NewArgs {
        name, lang, role, ..
    } = args;
    let roles = lang.roles();
    if !roles.contains(role) {
        let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
        return Err(usage(format!(
            "there is no {role} in {}, expected {}",
            lang.language,
            names.join(", ")
        )));
    }
    let sdk = args
        .sdk
        .as_deref()
        .map(|sdk| sdk_folder(lang, sdk))
        .transpose()?;
    let shown = args.dir.clone().unwrap_or_else(|| PathBuf::from(name));
    check_empty(&shown)?;
    let filling = Filling {
        name,
        role: *role,
        sdk: sdk.as_deref(),
    };
    let files = lang.write(&shown, &filling)?;
    let project = Project::open(Some(&shown))?;
    let missing = needs::missing(&project.manifest.needs);
    if output.is_json() {
        return output.json(&json!({
            "name": name,
            "language": lang.language,
            "role": role.name(),
            "dir": project.dir,
            "files": files,
            "missing": missing,
        }));
    }
    let style = output.style();
    output.line(format!(
        "{} {}, a {role} in {}: {} files",
        style.green("wrote"),
        style.bold(&format!("{}/", shown.display())),
        lang.language,
        files.len()
    ))?;
    output.line("\nnext:")?;
    if shown != Path::new(".") {
        output.line(format!("  cd {}", shown.display()))?;
    }
    output.line("  waypost plugin build")?;
    output.line("  waypost plugin test")?;
    if !missing.is_empty() {
        note(format!(
            "\nbefore it can be built here:\n  {}",
            missing.join("\n  ")
        ));
    }
    Ok(())
}

/// Nothing that is there is written over.
fn check_empty(dir: &Path) -> anyhow::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let mut entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let is_git = |entry: &fs::DirEntry| entry.file_name() == ".git";
    match entries.find(|entry| !entry.as_ref().is_ok_and(is_git)) {
        None => Ok(()),
        Some(_) => Err(usage(format!(
            "{} is not empty: --dir says where the project goes",
            dir.display()
        ))),
    }
}

/// An absolute path, since the project may lie anywhere.
fn sdk_folder(template: &Template, sdk: &Path) -> anyhow::Result<String> {
    if !template.takes_sdk() {
        return Err(usage(format!(
            "--sdk is for rust; a project in {} brings what it needs",
            template.language
        )));
    }
    let sdk = sdk
        .canonicalize()
        .with_context(|| sdk.display().to_string())?;
    if !sdk.join("Cargo.toml").is_file() {
        return Err(usage(format!(
            "no Cargo.toml in {}: expected plugins/sdk of Waypost's repository",
            sdk.display()
        )));
    }
    Ok(sdk.display().to_string())
}
