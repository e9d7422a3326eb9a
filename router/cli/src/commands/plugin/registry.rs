//! How `push` and `pull` reach a registry: the flags, and where credentials come from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use waypost_supply::{Credentials, Reference, RegistryOptions};

use super::signed::read_text;
use crate::failure::usage;
use crate::units::parse_duration;

/// The longest component, as on a node.
pub const COMPONENT_BYTES_MAX: u64 = 64 << 20;
/// The longest file of a secret, an authority, a docker configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The flags. Credentials are never among them: other users see a command line.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Registry")]
pub struct RegistryArgs {
    /// Without TLS: for a registry on this machine
    #[arg(long, conflicts_with = "ca")]
    insecure_http: bool,
    /// The certificate authority that vouches for the registry, instead of the system's (PEM)
    #[arg(long = "registry-ca", id = "ca", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The user; the password is in --password-file or WAYPOST_REGISTRY_PASSWORD
    #[arg(long, value_name = "USER", env = "WAYPOST_REGISTRY_USER")]
    user: Option<String>,
    /// A file whose first line is the password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// A file whose first line is a token that the registry takes as it is
    /// [env: WAYPOST_REGISTRY_TOKEN has the token itself]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "password_file"])]
    token_file: Option<PathBuf>,
    /// What `docker login` or `podman login` left [default: config.json of $DOCKER_CONFIG, or of
    /// ~/.docker]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "password_file", "token_file"])]
    docker_config: Option<PathBuf>,
    /// How long all of it may take
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "2m")]
    timeout: Duration,
}

/// `HOST[:PORT]/REPOSITORY:TAG`, on the command line.
pub fn parse_reference(text: &str) -> Result<Reference, String> {
    Reference::parse(text).map_err(|error| error.to_string())
}

impl RegistryArgs {
    /// How the registry of `reference` is reached.
    pub fn options(&self, reference: &Reference) -> anyhow::Result<RegistryOptions> {
        let ca = self.ca.as_deref();
        let ca = ca.map(|ca| read_text(ca, FILE_BYTES_MAX)).transpose()?;
        Ok(RegistryOptions {
            insecure_http: self.insecure_http,
            ca: ca.map(String::into_bytes),
            credentials: self.credentials(reference.host())?,
            timeout: self.timeout,
        })
    }

    /// What is named, then what the environment has, then what a login left.
    fn credentials(&self, host: &str) -> anyhow::Result<Credentials> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(file) = &self.token_file {
            return Ok(Credentials::Token(first_line(file)?));
        }
        if let Some(user) = &self.user {
            let password = match &self.password_file {
                Some(file) => first_line(file)?,
                None => variable("WAYPOST_REGISTRY_PASSWORD").ok_or_else(|| {
                    usage("the user's password: --password-file, or WAYPOST_REGISTRY_PASSWORD")
                })?,
            };
            let user = user.clone();
            return Ok(Credentials::Basic { user, password });
        }
        if self.docker_config.is_none()
            && let Some(token) = variable("WAYPOST_REGISTRY_TOKEN")
        {
            return Ok(Credentials::Token(token));
        }
        let named = self.docker_config.clone();
        let usual = || {
            let directory = variable("DOCKER_CONFIG").map(PathBuf::from);
            let home = || Some(PathBuf::from(variable("HOME")?).join(".docker"));
            Some(directory.or_else(home)?.join("config.json"))
        };
        let Some(file) = named.clone().or_else(usual) else {
            return Ok(Credentials::None);
        };
        if named.is_none() && !file.exists() {
            return Ok(Credentials::None);
        }
        let text = read_text(&file, FILE_BYTES_MAX)?;
        let found = Credentials::from_docker(&text, host);
        found.map_err(|error| anyhow!("{}: {error}", file.display()))
    }
}

fn first_line(file: &Path) -> anyhow::Result<String> {
    let text = read_text(file, FILE_BYTES_MAX)?;
    let line = text.lines().next().unwrap_or_default().trim();
    match line.is_empty() {
        true => Err(anyhow!("its first line is empty")).context(file.display().to_string()),
        false => Ok(line.to_owned()),
    }
}
