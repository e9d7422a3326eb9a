//! `waypost plugin verify`: loads a component as a node would, and says what it is.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use serde_json::{Value, json};
use waypost_host::{
    Engine, Grants, HeaderInterest, Instance, InstanceError, Interest, PayloadInterest, Plugin,
    PluginSpec, Source,
};
use waypost_supply::{KeyId, Signature, TrustedKeys};

use super::component::Component;
use super::guest::{self, SetupArgs};
use super::signed;
use crate::failure::usage;
use crate::messages::printable;
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
  waypost plugin verify my-filter.wasm --key team.pub

Reads the file, checks that it is a component with a role and with no import that this router
does not offer, compiles it in a process of its own, makes an instance, and calls its `init`
with the settings. With --key it must be signed by one of the keys, as on a node with
`trusted_keys`; without, FILE.minisig is read and not checked.")]
pub struct VerifyArgs {
    /// The component: a file, or builtin:NAME
    file: Component,
    /// A public key that may have signed it: RW…, or a file; may be given several times
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// Its signature; without it FILE.minisig
    #[arg(long, value_name = "FILE")]
    signature: Option<std::path::PathBuf>,
    #[command(flatten)]
    setup: SetupArgs,
}

/// Runs the command.
pub fn run(args: &VerifyArgs, output: Output) -> anyhow::Result<()> {
    let name = args.file.to_string();
    let keys = signed::keys(&args.keys)?;
    let signature = match &args.file {
        Component::File(file) => signed::signature_of(file, args.signature.as_deref())?,
        Component::Builtin(_) => None,
    };
    let checked = check(args, &keys, signature.as_ref())?;
    let spec = args
        .setup
        .spec(&name, &args.file, &TestSetup::default(), None)?;
    let mut verified = Verified::load(&guest::engine(None, None)?, spec)?;
    verified.signature = signature.map(|signature| (signature, checked.is_some()));
    let started = verified.start()?;
    match output.is_json() {
        true => output.json(&verified.to_json(&args.file, Some(&started))),
        false => output.lines(verified.lines(output.style(), Some(&started))),
    }
}

/// Whether one of the keys, if there are any, signed the file.
fn check(
    args: &VerifyArgs,
    keys: &TrustedKeys,
    signature: Option<&Signature>,
) -> anyhow::Result<Option<KeyId>> {
    if keys.is_empty() {
        return Ok(None);
    }
    let name = args.file.to_string();
    let Component::File(file) = &args.file else {
        return Err(usage(
            "--key: what is built in is a part of the program, and not signed",
        ));
    };
    let component = std::fs::read(file).with_context(|| name.clone())?;
    let at = args.signature.clone();
    let at = at.unwrap_or_else(|| signed::beside(file));
    let text = signature.map(|signature| signature.as_str().as_bytes());
    keys.check(&component, text, &format!("in {}", at.display()))
        .map_err(|error| anyhow!("{name}: {error}"))
}

/// A component that a node could load.
#[derive(Debug)]
pub struct Verified {
    /// What was loaded.
    pub plugin: Plugin,
    bytes: u64,
    compiled_in: Duration,
    /// Its signature, where there is one, and whether it was checked.
    signature: Option<(Signature, bool)>,
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
            Source::Bytes(bytes) | Source::Read { bytes, .. } => bytes.len() as u64,
        };
        let started = Instant::now();
        let plugin = engine.load(spec)?;
        Ok(Verified {
            plugin,
            compiled_in: started.elapsed(),
            bytes,
            signature: None,
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
            if let Some(grant) = Grants::needed_by(import)
                && !grants.iter().any(|known| known == grant)
            {
                grants.push(grant.to_owned());
            }
        }
        grants
    }

    /// By whom, for people.
    fn signed(&self) -> String {
        let Some((signature, is_checked)) = &self.signature else {
            return "no".to_owned();
        };
        let (key, comment) = (signature.key_id(), printable(signature.comment()));
        match is_checked {
            true => format!("by the key {key}: {comment}"),
            false => format!("by the key {key}, not checked without --key: {comment}"),
        }
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
            "contract": self.plugin.contract(),
            "exports": self.plugin.exports(),
            "imports": self.plugin.imports(),
            "signature": self.signature.as_ref().map(|(signature, checked)| json!({
                "key": signature.key_id().to_string(),
                "comment": signature.comment(),
                "checked": checked,
            })),
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
            fact("contract", self.plugin.contract()),
            fact("exports", &self.plugin.exports().join(", ")),
            fact("imports", &or_nothing(self.plugin.imports())),
            fact("grants", &or_nothing(&self.grants())),
            fact("on-timer", if self.plugin.wakes() { "yes" } else { "no" }),
            fact("size", &units::size(self.bytes)),
            fact("sha256", self.plugin.digest()),
            fact("signed", &self.signed()),
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
