//! `waypost plugin deploy`: a component to a running node, live.

use std::path::PathBuf;

use anyhow::Context;
use bytes::Bytes;
use serde_json::json;
use waypost_client::wire::control::{PluginDeploy, PluginDeployed, Setting};

use super::component::Component;
use super::signed;
use crate::commands;
use crate::commands::tap::Sample;
use crate::connect::ConnectArgs;
use crate::failure::usage;
use crate::output::Output;
use crate::units;

/// Run a component on a node, in a new slot or as the next version of one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin deploy loud loud.wasm --set limit=80
  waypost plugin deploy hot builtin:filter --set 'keep=$.temp > 30'
  waypost plugin deploy counts counts.wasm --grant state --grant publish --publish 'counts/#' \\
      --limit memory_bytes=8MiB --limit breaker.failures=3
  waypost plugin deploy loud loud.wasm --fresh            no settings of the version before
  waypost plugin deploy loud new.wasm --shadow --sample 0.1    tried on live traffic, see below
  waypost route add loud --from 'noise/#' --through loud --to queue:alerts

The node checks and compiles the component, starts it, and only then gives it messages, between
two batches. If any of that fails, the old version runs on and the exit code is 1. What is not
named here is as in the active version, unless --fresh. The last five versions stay for
`waypost plugin rollback`. A signature that `waypost plugin sign` made beside the component goes
with it. --limit takes the names of [plugin.limits], and breaker.…, retry.…,
state_bytes.

With --shadow the version does not serve: it is called beside the one that does, with the same
messages, on a thread of its own, and all that it says, writes and publishes is thrown away once
`waypost plugin diff` has compared it. Then `waypost plugin promote` makes it the serving version,
and `waypost plugin discard` ends it; so do another deploy, its breaker, and the node's end.")]
pub struct DeployArgs {
    /// The slot: what routes name in `through`
    name: String,
    /// The component: a file, or builtin:NAME, which the node has already
    file: Component,
    /// Its signature; without it FILE.minisig, where that is there
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// filter, transform, route or each; needed only where the component exports several
    #[arg(long)]
    role: Option<String>,
    /// A setting; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    settings: Vec<Setting>,
    /// A setting that is the text of a file; may be given several times
    #[arg(long = "set-file", value_name = "NAME=FILE", value_parser = file_pair)]
    settings_files: Vec<(String, PathBuf)>,
    /// What it may import, instead of log, clock, random and metrics; may be given several times
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// Topics that it may publish to, with the grant publish; may be given several times
    #[arg(long = "publish", value_name = "FILTER")]
    publish: Vec<String>,
    /// A limit; may be given several times
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = pair)]
    limits: Vec<Setting>,
    /// dead-letter, reject or pass: where a message goes that it failed on
    #[arg(long)]
    on_error: Option<String>,
    /// What is not named is the default
    #[arg(long)]
    fresh: bool,
    /// Do not serve: judge the same messages, without effects, for `waypost plugin diff`
    #[arg(long)]
    shadow: bool,
    /// With --shadow, the share of the calls that it judges too; without it, all
    #[arg(long, value_name = "SHARE", requires = "shadow", value_parser = parse_share)]
    sample: Option<u32>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A share as calls in a million.
fn parse_share(text: &str) -> Result<u32, String> {
    match crate::commands::tap::parse_sample(text) {
        Ok(Sample::Ppm(ppm)) => Ok(ppm),
        _ => Err("expected a share above 0 and up to 1, such as 0.1".into()),
    }
}

fn pair(text: &str) -> Result<Setting, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Setting {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
        _ => Err("expected NAME=VALUE".into()),
    }
}

fn file_pair(text: &str) -> Result<(String, PathBuf), String> {
    let Setting { name, value } = pair(text).map_err(|_| "expected NAME=FILE")?;
    Ok((name, value.into()))
}

/// Runs the command.
pub fn run(args: DeployArgs, output: Output) -> anyhow::Result<()> {
    let code = Code::read(&args.file)?;
    let mut settings = args.settings;
    for (name, file) in args.settings_files {
        let value = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        settings.push(Setting { name, value });
    }
    let signature = match &args.file {
        Component::File(file) => signed::signature_of(file, args.signature.as_deref())?,
        Component::Builtin(_) => None,
    };
    let request = PluginDeploy {
        plugin: args.name.clone(),
        digest: code.digest.clone(),
        role: args.role.unwrap_or_default(),
        settings,
        set_grants: !args.grants.is_empty(),
        grants: args.grants,
        publish: args.publish,
        limits: args.limits,
        on_error: args.on_error.unwrap_or_default(),
        fresh: args.fresh,
        signature: signature.map_or(String::new(), |signature| signature.as_str().to_owned()),
    };
    commands::block_on(async {
        let client = args.connect.connect_once().await?;
        commands::with(client, async |client| {
            let plugins = client.plugins();
            if let Some(bytes) = &code.bytes {
                plugins.upload(code.digest.as_str(), bytes.clone()).await?;
            }
            if args.shadow {
                plugins.shadow(request, args.sample.unwrap_or(0)).await?;
                return show_shadow(&args.name, &code, output);
            }
            let deployed = plugins.deploy(request).await?;
            show(&args.name, &code, &deployed, output)
        })
        .await
    })
}

/// What is deployed.
struct Code {
    /// As the node knows it: a digest, or `builtin:NAME`.
    digest: String,
    /// What is sent; nothing of what the node has already.
    bytes: Option<Bytes>,
}

impl Code {
    /// For people: its size, or its name.
    fn what(&self) -> String {
        match &self.bytes {
            Some(bytes) => units::size(bytes.len() as u64),
            None => self.digest.clone(),
        }
    }

    fn read(component: &Component) -> anyhow::Result<Code> {
        let Component::File(file) = component else {
            return Ok(Code {
                digest: component.to_string(),
                bytes: None,
            });
        };
        if let Some(text) = component.missing() {
            return Err(usage(text));
        }
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        Ok(Code {
            digest: digest.as_ref().iter().map(|b| format!("{b:02x}")).collect(),
            bytes: Some(bytes.into()),
        })
    }
}

fn show_shadow(name: &str, code: &Code, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(&json!({
            "plugin": name,
            "digest": code.digest,
            "bytes": code.bytes.as_ref().map(Bytes::len),
            "shadow": true,
        }));
    }
    let (bold, what) = (output.style().bold(name), code.what());
    output.line(format!(
        "{bold} has a shadow ({what}); `waypost plugin diff {name}` shows what it would do"
    ))
}

fn show(name: &str, code: &Code, deployed: &PluginDeployed, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(&json!({
            "plugin": name,
            "digest": code.digest,
            "bytes": code.bytes.as_ref().map(Bytes::len),
            "version": deployed.version,
            "before": deployed.before,
            "unchanged": deployed.unchanged,
        }));
    }
    let style = output.style();
    let name = style.bold(name);
    let what = code.what();
    let PluginDeployed {
        version, before, ..
    } = deployed;
    output.line(match (deployed.unchanged, before) {
        (true, _) => format!("{name} runs this already, as version {version}"),
        (false, 0) => format!("{name} runs version {version} ({what})"),
        (false, before) => format!("{name} runs version {version} ({what}), before it {before}"),
    })
}
