//! `waypost plugin keygen`: a pair of keys to sign components with.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;
use waypost_supply::{PublicKey, SecretKey};

use super::signed::PasswordArgs;
use crate::failure::usage;
use crate::output::Output;

/// Make a pair of keys: one that signs components, one that nodes check them with
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin keygen team                         team.key and team.pub, asks for a password
  waypost plugin keygen ci --no-password             for a machine: guard the file instead

NAME.key signs and stays secret; the line in NAME.pub goes into `trusted_keys` of [plugins] in the
configuration of a node. Both are files of minisign, which can use them too. A file that is there is
not written over.")]
pub struct KeygenArgs {
    /// The files' name, without .key and .pub
    name: PathBuf,
    /// Anybody who has the file may sign
    #[arg(long, conflicts_with = "password_file")]
    no_password: bool,
    #[command(flatten)]
    password: PasswordArgs,
}

/// Runs the command.
pub fn run(args: &KeygenArgs, output: Output) -> anyhow::Result<()> {
    let (secret, public) = (with(&args.name, ".key"), with(&args.name, ".pub"));
    for path in [&secret, &public] {
        if path.exists() {
            return Err(usage(format!("{} is there already", path.display())));
        }
    }
    let password = match args.no_password {
        true => None,
        false => Some(new_password(&args.password)?),
    };
    let pair = SecretKey::generate()?;
    let (secret_text, public_text) = (pair.to_text(password.as_deref())?, pair.public_text());
    let key = PublicKey::parse(&public_text)?;
    write(&secret, 0o600, &secret_text)?;
    write(&public, 0o644, &public_text)?;
    if output.is_json() {
        return output.json(&json!({
            "secret": secret,
            "public": public,
            "key": key.as_str(),
            "id": key.id().to_string(),
        }));
    }
    let style = output.style();
    output.line(format!(
        "{} {} and {}, key {}",
        style.green("wrote"),
        style.bold(&secret.display().to_string()),
        style.bold(&public.display().to_string()),
        key.id()
    ))?;
    output.line("\nnodes that are to run only what it signed say so in their configuration:")?;
    output.line(format!(
        "  [plugins]\n  trusted_keys = [\"{}\"]",
        key.as_str()
    ))
}

fn with(name: &Path, ending: &str) -> PathBuf {
    let mut path = name.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

fn new_password(args: &PasswordArgs) -> anyhow::Result<String> {
    let given = match args.is_given() {
        true => args.password()?,
        false => args.password().map_err(|_| {
            usage(
                "nobody is there to be asked for a password: say --password-file, or --no-password",
            )
        })?,
    };
    if let Some(password) = given {
        return Ok(password);
    }
    let ask = |prompt: &str| rpassword::prompt_password(prompt).context("the password");
    let (first, again) = (ask("password for the key: ")?, ask("once more: ")?);
    match (first.is_empty(), first == again) {
        (true, _) => Err(usage(
            "an empty password: --no-password says that none is meant",
        )),
        (_, false) => Err(usage("the two differ: no keys were made")),
        (_, true) => Ok(first),
    }
}

fn write(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let name = || path.display().to_string();
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(name)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(name)
}
