//! `waypost plugin sign`: a signature beside a component.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use serde_json::json;
use waypost_supply::SecretKey;

use super::signed::{PasswordArgs, beside, read_text};
use crate::output::Output;

/// Sign a component: for nodes that run only what a key of theirs signed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  waypost plugin sign loud.wasm --key team.key               loud.wasm.minisig
  waypost plugin sign loud.wasm --key ci.key --comment 'loud 1.4, build 77'
  waypost plugin verify loud.wasm --key team.pub

`plugin deploy` and `plugin push` take the signature along; a node that names the component in its
configuration looks for it beside the file. `waypost plugin keygen` makes keys. The signature is one
of minisign (prehashed), so `minisign -Vm loud.wasm -p team.pub` checks it too.")]
pub struct SignArgs {
    /// The component
    file: PathBuf,
    /// The secret key, from `plugin keygen` or minisign
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What is signed along, for people; without it the time and the file's name
    #[arg(long)]
    comment: Option<String>,
    #[command(flatten)]
    password: PasswordArgs,
}

/// Runs the command.
pub fn run(args: &SignArgs, output: Output) -> anyhow::Result<()> {
    let file = args.file.display().to_string();
    let component = std::fs::read(&args.file).with_context(|| file.clone())?;
    let key = secret_key(args)?;
    let comment = match &args.comment {
        Some(comment) => comment.replace(['\r', '\n'], " "),
        None => {
            let name = args.file.file_name().unwrap_or_default().to_string_lossy();
            let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            format!("timestamp:{}\tfile:{name}\thashed", since.as_secs())
        }
    };
    let signature = key.sign(&component, &comment);
    let signature = signature.ok_or_else(|| anyhow!("--comment: has more than 16 KiB"))?;
    let text = signature.as_str();
    let path = beside(&args.file);
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    if output.is_json() {
        return output.json(&json!({
            "file": args.file,
            "signature": path,
            "key": signature.key_id().to_string(),
            "comment": signature.comment(),
        }));
    }
    let style = output.style();
    output.line(format!(
        "{} {}, by the key {}",
        style.green("wrote"),
        style.bold(&path.display().to_string()),
        signature.key_id()
    ))
}

fn secret_key(args: &SignArgs) -> anyhow::Result<SecretKey> {
    let name = args.key.display();
    let text = read_text(&args.key, 16 << 10)?;
    let password = match SecretKey::has_password(&text) {
        false => None,
        true => Some(match args.password.password()? {
            Some(password) => password,
            None => rpassword::prompt_password(format!("password of {name}: "))
                .context("the password")?,
        }),
    };
    SecretKey::parse(&text, password.as_deref()).map_err(|error| anyhow!("{name}: {error}"))
}
