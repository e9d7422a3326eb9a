//! `waypost plugin push`: a component into a registry.

use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;
use waypost_supply::{Reference, Registry};

use super::registry::{COMPONENT_BYTES_MAX, RegistryArgs, parse_reference};
use super::signed;
use crate::output::Output;
use crate::times;
use crate::units;

/// Put a component into an OCI registry, with its signature
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin push build/loud.wasm registry.example/team/loud:1.4
  waypost plugin push loud.wasm localhost:5000/loud:dev --insecure-http

The artifact has the layout of the CNCF's Wasm working group, so that other tools read it too. A
signature that `waypost plugin sign` made beside the component goes with it, as an annotation. As
whom: --user, --token-file, the variables that they name, or what `docker login` left.

A node runs it with `oci = \"registry.example/team/loud:1.4\"` in its [[plugin]]; the digest that
is printed, instead of the tag, names exactly these bytes for ever.")]
pub struct PushArgs {
    /// The component
    file: PathBuf,
    /// Where to: `HOST[:PORT]/REPOSITORY:TAG`
    #[arg(value_name = "REFERENCE", value_parser = parse_reference)]
    reference: Reference,
    /// Its signature; without it FILE.minisig, where that is there
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Runs the command.
pub fn run(args: &PushArgs, output: Output) -> anyhow::Result<()> {
    let file = args.file.display().to_string();
    let component = std::fs::read(&args.file).with_context(|| file.clone())?;
    let signature = signed::signature_of(&args.file, args.signature.as_deref())?;
    // The same file gives the same artifact.
    let about = std::fs::metadata(&args.file).with_context(|| file.clone())?;
    let changed = about.modified().with_context(|| file)?;
    let since = changed.duration_since(std::time::UNIX_EPOCH);
    let created = times::format_rfc3339(since.unwrap_or_default().as_secs());
    let options = args.registry.options(&args.reference)?;
    let registry = Registry::of(&args.reference, &options, COMPONENT_BYTES_MAX)?;
    let text = signature.as_ref().map(|signature| signature.as_str());
    let digest = registry.push(&component, text, &created)?;
    let key = signature.map(|signature| signature.key_id().to_string());
    if output.is_json() {
        return output.json(&json!({
            "reference": args.reference.to_string(),
            "digest": digest,
            "bytes": component.len(),
            "signed_by": key,
        }));
    }
    let style = output.style();
    output.line(format!(
        "{} {} ({}, {})",
        style.green("pushed"),
        style.bold(&args.reference.to_string()),
        units::size(component.len() as u64),
        key.map_or("not signed".to_owned(), |key| format!("signed by {key}"))
    ))?;
    output.line(format!("  {}", style.dim(&digest)))
}
