//! `waypost plugin verify`: loads a component as a node would, and says what it is.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use serde_json::json;
use waypost_host::{
    Compiler, Engine, EngineOptions, HeaderInterest, Interest, PayloadInterest, Plugin, PluginSpec,
    Role, Source,
};

use crate::output::Output;
use crate::units;

/// Check that a file is a plugin that this router can run
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin verify my-filter.wasm
  waypost plugin verify quake-magnitude.wasm --setting min-magnitude=4.5
  waypost plugin verify my-route.wasm --destination queue:a --destination queue:b

Reads the file, checks that it is a component with a role and with no import that this router
does not offer, compiles it in a process of its own, makes an instance, and calls its `init`
with the settings.")]
pub struct VerifyArgs {
    /// The component
    file: PathBuf,
    /// A setting, as in [plugin.settings]; may be given several times
    #[arg(long = "setting", value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,
    /// A destination of the route, for a route plugin; may be given several times
    #[arg(long = "destination", value_name = "DESTINATION")]
    destinations: Vec<String>,
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

fn parse_role(text: &str) -> Result<Role, String> {
    let names = Role::ALL.map(Role::name).join(", ");
    Role::from_name(text).ok_or_else(|| format!("expected one of {names}"))
}

/// An engine for looking at plugins: compiled in a child process, never cached.
pub fn engine() -> anyhow::Result<Engine> {
    let options = EngineOptions {
        instances_max: 1,
        compiler: Compiler::this_program().context("this program's own path")?,
        ..EngineOptions::default()
    };
    Ok(Engine::new(options)?)
}

/// Runs the command.
pub fn run(args: &VerifyArgs, output: Output) -> anyhow::Result<()> {
    let file = args.file.display().to_string();
    let mut spec = PluginSpec::new(&file, Source::File(args.file.clone()));
    spec.role = args.role;
    spec.settings = args.settings.clone();
    spec.destinations = args.destinations.clone();
    let engine = engine()?;
    let started = Instant::now();
    let plugin = engine.load(spec)?;
    let load = started.elapsed();
    let started = Instant::now();
    let instance = plugin.instantiate()?;
    let init = started.elapsed();
    let bytes = std::fs::read(&args.file).with_context(|| file.clone())?;
    let digest = hex(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref());
    let interest = instance.interest();
    if output.is_json() {
        return output.json(&json!({
            "file": file,
            "role": plugin.role().name(),
            "bytes": bytes.len(),
            "sha256": digest,
            "headers": headers(interest),
            "payload": payload(interest),
            "imports": plugin.imports(),
            "compile_ms": load.as_secs_f64() * 1e3,
            "init_ms": init.as_secs_f64() * 1e3,
            "memory_bytes": instance.memory_bytes(),
        }));
    }
    show(&Verified {
        plugin: &plugin,
        interest,
        facts: [
            ("size", units::size(bytes.len() as u64)),
            ("sha256", digest),
            ("compiled in", units::duration(load)),
            ("init took", units::duration(init)),
            ("memory", units::size(instance.memory_bytes() as u64)),
        ],
        output,
    })
}

struct Verified<'a> {
    plugin: &'a Plugin,
    interest: &'a Interest,
    facts: [(&'static str, String); 5],
    output: Output,
}

fn show(verified: &Verified<'_>) -> anyhow::Result<()> {
    let Verified { plugin, output, .. } = verified;
    let style = output.style();
    let fact =
        |name: &str, value: &str| format!("  {}  {value}", style.dim(&format!("{name:<11}")));
    let ok = style.green("is a plugin that this router can run");
    output.line(format!("{} {ok}", style.bold(plugin.name())))?;
    output.line(fact("role", plugin.role().name()))?;
    output.line(fact("reads", &reads(verified.interest)))?;
    let imports = match plugin.imports() {
        [] => "nothing".to_owned(),
        imports => imports.join(", "),
    };
    output.line(fact("imports", &imports))?;
    for (name, value) in &verified.facts {
        output.line(fact(name, value))?;
    }
    Ok(())
}

fn headers(interest: &Interest) -> String {
    match &interest.headers {
        HeaderInterest::Nothing => "none".into(),
        HeaderInterest::Only(names) => names.join(", "),
        HeaderInterest::Everything => "all".into(),
    }
}

fn payload(interest: &Interest) -> String {
    match interest.payload {
        PayloadInterest::Nothing => "none".into(),
        PayloadInterest::Prefix(bytes) => format!("first {bytes} bytes"),
        PayloadInterest::Everything => "all".into(),
    }
}

fn reads(interest: &Interest) -> String {
    format!(
        "headers: {}; payload: {}",
        headers(interest),
        payload(interest)
    )
}

/// Bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
