//! `waypost plugin pull`: a component out of a registry.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use serde_json::json;
use waypost_supply::{Reference, Registry, Signature};

use super::registry::{COMPONENT_BYTES_MAX, RegistryArgs, parse_reference};
use super::signed;
use crate::failure::usage;
use crate::output::Output;
use crate::units;

/// Fetch a component from an OCI registry, with its signature
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin pull registry.example/team/loud:1.4             loud.wasm, loud.wasm.minisig
  waypost plugin pull registry.example/team/loud:1.4 -o l.wasm --key team.pub
  waypost plugin pull registry.example/team/loud@sha256:…        exactly this one

Length and digest of all that comes are checked. With --key it must be signed by one of the keys,
and nothing is written if it is not. A file that is there is not written over, but with --force.")]
pub struct PullArgs {
    /// What: `HOST[:PORT]/REPOSITORY:TAG` or `…@sha256:DIGEST`
    #[arg(value_name = "REFERENCE", value_parser = parse_reference)]
    reference: Reference,
    /// Where to; without it the last part of the repository's name, and .wasm
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A public key that may have signed it: RW…, or a file; may be given several times
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// Write over files that are there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Runs the command.
pub fn run(args: &PullArgs, output: Output) -> anyhow::Result<()> {
    let reference = &args.reference;
    let keys = signed::keys(&args.keys)?;
    let usual = || {
        let name = reference
            .repository()
            .rsplit('/')
            .next()
            .unwrap_or("plugin");
        PathBuf::from(format!("{name}.wasm"))
    };
    let file = args.output.clone().unwrap_or_else(usual);
    let beside = signed::beside(&file);
    let mut both = [&file, &beside].into_iter();
    if !args.force
        && let Some(there) = both.find(|path| path.exists())
    {
        let there = there.display();
        return Err(usage(format!(
            "{there} is there already: -o FILE, or --force"
        )));
    }
    let options = args.registry.options(reference)?;
    let registry = Registry::of(reference, &options, COMPONENT_BYTES_MAX)?;
    let found = registry.find()?;
    let component = registry.component(&found)?;
    let text = found.signature.as_deref().map(str::as_bytes);
    keys.check(&component, text, "beside it in the registry")
        .map_err(|error| anyhow!("{reference}: {error}"))?;
    let signature = match text.map(Signature::parse) {
        Some(Ok(signature)) => Some(signature),
        Some(Err(error)) => return Err(anyhow!("{reference}: its signature {error}")),
        None => None,
    };
    std::fs::write(&file, &component).with_context(|| file.display().to_string())?;
    match &signature {
        Some(signature) => std::fs::write(&beside, signature.as_str())
            .with_context(|| beside.display().to_string())?,
        // One of other bytes.
        None if beside.exists() => {
            std::fs::remove_file(&beside).with_context(|| beside.display().to_string())?
        }
        None => {}
    }
    let key = signature.map(|signature| signature.key_id().to_string());
    if output.is_json() {
        return output.json(&json!({
            "reference": reference.at(&found.manifest).to_string(),
            "file": file,
            "component": found.component,
            "bytes": found.bytes,
            "signed_by": key,
            "checked": !keys.is_empty(),
        }));
    }
    let style = output.style();
    let signed = match (key, keys.is_empty()) {
        (None, _) => "not signed".to_owned(),
        (Some(key), true) => format!("signed by {key}, not checked without --key"),
        (Some(key), false) => format!("signed by {key}"),
    };
    output.line(format!(
        "{} {} ({}, {signed})",
        style.green("pulled"),
        style.bold(&file.display().to_string()),
        units::size(found.bytes)
    ))?;
    output.line(format!(
        "  {}",
        style.dim(&reference.at(&found.manifest).to_string())
    ))
}
