//! Keys and signatures on the command line: where they lie, and how passwords are had.

use std::fs;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use waypost_supply::{PublicKey, SIGNATURE_BYTES_MAX, SIGNATURE_SUFFIX, Signature, TrustedKeys};

use crate::failure::usage;

/// The longest file of a key.
const KEY_FILE_BYTES_MAX: u64 = 16 << 10;

/// Where a key's password comes from.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PasswordArgs {
    /// The key's password is the first line of this file; without it, it is asked for
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// Whether a file was named.
    pub fn is_given(&self) -> bool {
        self.password_file.is_some()
    }

    /// The password; `None` has it asked for.
    pub fn password(&self) -> anyhow::Result<Option<String>> {
        let Some(file) = &self.password_file else {
            return match std::io::stdin().is_terminal() {
                true => Ok(None),
                false => Err(usage(
                    "the key has a password, and nobody is there to be asked for it: say \
                     --password-file",
                )),
            };
        };
        let text = read_text(file, KEY_FILE_BYTES_MAX)?;
        let first = text.lines().next().unwrap_or_default();
        match first.is_empty() {
            true => Err(anyhow!("{}: its first line is empty", file.display())),
            false => Ok(Some(first.to_owned())),
        }
    }
}

/// A file that is text, and not longer than it may be.
pub fn read_text(path: &Path, bytes_max: u64) -> anyhow::Result<String> {
    let name = || path.display().to_string();
    let mut text = String::new();
    let file = fs::File::open(path).with_context(name)?;
    file.take(bytes_max + 1)
        .read_to_string(&mut text)
        .with_context(name)?;
    match text.len() as u64 > bytes_max {
        true => Err(anyhow!("{}: has more than {bytes_max} bytes", name())),
        false => Ok(text),
    }
}

/// A component's signature: the file that is named, or the one beside it, if it is there.
pub fn signature_of(component: &Path, named: Option<&Path>) -> anyhow::Result<Option<Signature>> {
    let path = named.map_or_else(|| beside(component), Path::to_path_buf);
    if named.is_none() && !path.exists() {
        return Ok(None);
    }
    let text = read_text(&path, SIGNATURE_BYTES_MAX as u64)?;
    let signature = Signature::parse(text.as_bytes());
    let signature = signature.map_err(|error| anyhow!("{}: {error}", path.display()))?;
    Ok(Some(signature))
}

/// Where the signature of a component lies.
pub fn beside(component: &Path) -> PathBuf {
    let mut path = component.as_os_str().to_owned();
    path.push(SIGNATURE_SUFFIX);
    path.into()
}

/// Keys from the command line: `RW…`, or files that hold one.
pub fn keys(texts: &[String]) -> anyhow::Result<TrustedKeys> {
    let mut keys = Vec::new();
    for text in texts {
        let key = match PublicKey::parse(text) {
            Ok(key) => key,
            Err(waypost_supply::KeyError::Damaged) => {
                let error = waypost_supply::KeyError::Damaged;
                return Err(usage(format!("--key: {text:?} {error}")));
            }
            Err(_) => {
                let file = read_text(Path::new(text), KEY_FILE_BYTES_MAX)
                    .context("--key: expected \"RW…\", or a file with it")?;
                PublicKey::parse(&file).map_err(|error| usage(format!("--key: {text} {error}")))?
            }
        };
        keys.push(key);
    }
    Ok(TrustedKeys::new(keys))
}
