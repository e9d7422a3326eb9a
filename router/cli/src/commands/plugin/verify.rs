//! `waypost plugin verify`: loads a component as a node would, and says what it is.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use waypost_host::{
    Engine, HeaderInterest, Instance, InstanceError, Interest, PayloadInterest, Plugin, PluginSpec,
    Source,
};

use super::component::Component;
use super::guest::{self, SetupArgs};
use crate::output::{Output, Style};
use crate::project::setup::TestSetup;
use crate::trial::run::state_of;
use crate::trial::state::Memory;
use crate::units;

/// Check that a file is a plugin that this router can run
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin verify my-filter.wasm
  waypost plugin verify quake-magnitude.wasm --set min-magnitude=4.5
  waypost plugin verify builtin:filter --set 'keep=$.temp > 30'
  waypost plugin verify my-route.wasm --destinations queue:a,queue:b

Reads the file, checks that it is a component with a role and with no import that this router
does not offer, compiles it in a process of its own, makes an instance, and calls its `init`
with the settings.")]
pub struct VerifyArgs {
    /// The component: a file, or builtin:NAME
    file: Component,
    #[command(flatten)]
    setup: SetupArgs,
}

/// Runs the command.
pub fn run(args: &VerifyArgs, output: Output) -> anyhow::Result<()> {
    let name = args.file.to_string();
    let spec = args
        .setup
        .spec(&name, &args.file, &TestSetup::default(), None)?;
    let verified = Verified::load(&guest::engine(None, None)?, spec)?;
    let started = verified.start()?;
    match output.is_json() {
        true => output.json(&verified.to_json(&args.file, Some(&started))),
        false => output.lines(verified.lines(output.style(), Some(&started))),
    }
}

/// A component that a node could load.
#[derive(Debug)]
pub struct Verified {
    /// What was loaded.
    pub plugin: Plugin,
    bytes: u64,
    compiled_in: Duration,
}

/// An instance of it that accepted its settings.
#[derive(Debug)]
pub struct Started {
    instance: Instance,
    within: Duration,
}

impl Verified {
    /// Checks and compiles it.
    pub fn load(engine: &Engine, spec: PluginSpec) -> anyhow::Result<Verified> {
        let bytes = match &spec.source {
            Source::File(file) => std::fs::metadata(file).map_or(0, |about| about.len()),
            Source::Bytes(bytes) => bytes.len() as u64,
        };
        let started = Instant::now();
        let plugin = engine.load(spec)?;
        Ok(Verified {
            plugin,
            compiled_in: started.elapsed(),
            bytes,
        })
    }

    /// Makes an instance.
    pub fn start(&self) -> Result<Started, InstanceError> {
        let began = Instant::now();
        let mut memory = Memory::new(self.plugin.spec().limits.state_bytes);
        let state = state_of(&self.plugin, &mut memory);
        let instance = self.plugin.instantiate(state)?;
        Ok(Started {
            instance,
            within: began.elapsed(),
        })
    }

    /// The grants that a router's configuration has to name, and those that it gives anyway.
    fn grants(&self) -> Vec<String> {
        let mut grants: Vec<String> = Vec::new();
        for import in self.plugin.imports() {
            let interface = import.split('.').next().unwrap_or_default();
            let needs_none = interface == "payload";
            if !needs_none && !grants.iter().any(|grant| grant == interface) {
                grants.push(interface.to_owned());
            }
        }
        grants
    }

    /// As JSON.
    pub fn to_json(&self, file: &Component, started: Option<&Started>) -> Value {
        let interest = started.map(|started| started.instance.interest());
        json!({
            "file": file.to_string(),
            "role": self.plugin.role().name(),
            "bytes": self.bytes,
            "sha256": self.plugin.digest(),
            "headers": interest.map(headers),
            "payload": interest.map(payload),
            "fields": interest.map(fields),
            "imports": self.plugin.imports(),
            "grants": self.grants(),
            "schema": self.plugin.settings_schema().map(|schema| schema.as_str()),
            "wakes": self.plugin.wakes(),
            "compile_ms": self.compiled_in.as_secs_f64() * 1e3,
            "init_ms": started.map(|started| started.within.as_secs_f64() * 1e3),
            "memory_bytes": started.map(|started| started.instance.memory_bytes()),
        })
    }

    /// For people.
    pub fn lines(&self, style: Style, started: Option<&Started>) -> Vec<String> {
        let fact =
            |name: &str, value: &str| format!("  {}  {value}", style.dim(&format!("{name:<11}")));
        let or_nothing = |list: &[String]| match list {
            [] => "nothing".to_owned(),
            list => list.join(", "),
        };
        let ok = style.green("is a plugin that this router can run");
        let mut lines = vec![
            format!("{} {ok}", style.bold(self.plugin.name())),
            fact("role", self.plugin.role().name()),
        ];
        if let Some(started) = started {
            lines.push(fact("reads", &reads(started.instance.interest())));
        }
        lines.extend([
            fact("imports", &or_nothing(self.plugin.imports())),
            fact("grants", &or_nothing(&self.grants())),
            fact("on-timer", if self.plugin.wakes() { "yes" } else { "no" }),
            fact("size", &units::size(self.bytes)),
            fact("sha256", self.plugin.digest()),
            fact("compiled in", &units::duration(self.compiled_in)),
        ]);
        if let Some(schema) = self.plugin.settings_schema() {
            lines.push(fact("settings", schema.as_str().trim()));
        }
        if let Some(started) = started {
            let memory = started.instance.memory_bytes() as u64;
            lines.push(fact("init took", &units::duration(started.within)));
            lines.push(fact("memory", &units::size(memory)));
        }
        lines
    }
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

fn fields(interest: &Interest) -> Vec<&'static str> {
    let fields = interest.fields;
    [
        ("key", fields.key),
        ("content-type", fields.content_type),
        ("message-id", fields.message_id),
        ("reply-to", fields.reply_to),
        ("ttl", fields.ttl),
    ]
    .into_iter()
    .filter_map(|(name, wanted)| wanted.then_some(name))
    .collect()
}

fn reads(interest: &Interest) -> String {
    let mut text = format!(
        "headers: {}; payload: {}",
        headers(interest),
        payload(interest)
    );
    let fields = fields(interest);
    if !fields.is_empty() {
        text.push_str(&format!("; {}", fields.join(", ")));
    }
    text
}
