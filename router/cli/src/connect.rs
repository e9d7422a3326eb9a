//! Which node a client command talks to, and as whom.
//!
//! What the command line (or a `WAYPOST_*` variable) names comes first. What it does not name comes
//! from `client.toml`, which `waypost dev` and `waypost demo --keep` write in their directory when
//! they are ready: so `waypost pub a/b hello` works beside them without a flag. Such a file is only
//! used while the process that wrote it lives.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use waypost_client::{Client, ConnectOptions, Identity, Reconnect, Source};

use crate::failure::usage;
use crate::units::parse_duration;

/// What a running node on this machine tells clients.
pub const CLIENT_FILE: &str = "client.toml";

/// The flags, as they are written.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// The node; without it, the `waypost dev` or `waypost demo --keep` of this machine
    #[arg(long, global = true, env = "WAYPOST_NODE", value_name = "HOST:PORT")]
    node: Option<String>,
    /// The certificate authority that vouches for the node (PEM)
    #[arg(long, global = true, env = "WAYPOST_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    // The variables of the identity count only where no other identity is given, which clap
    // cannot express: `with_variables` reads them.
    /// The client's certificate (PEM); with --cert-key [env: WAYPOST_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The certificate's private key (PEM) [env: WAYPOST_CERT_KEY]
    // Named apart: `pub` has a --key that is the message's.
    #[arg(long = "cert-key", global = true, value_name = "FILE")]
    cert_key: Option<PathBuf>,
    /// A token instead of a certificate; other users see it in the process list, so rather use
    /// --token-file [env: WAYPOST_TOKEN]
    #[arg(long, global = true, value_name = "TOKEN")]
    token: Option<String>,
    /// A file whose first line is the token [env: WAYPOST_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The name that the node's certificate must carry, where it is not HOST
    #[arg(long, global = true, env = "WAYPOST_SERVER_NAME", value_name = "NAME")]
    server_name: Option<String>,
    /// The directory of a `waypost dev` or `waypost demo --keep`
    #[arg(
        long = "node-dir",
        global = true,
        env = "WAYPOST_DIR",
        value_name = "DIR"
    )]
    node_dir: Option<PathBuf>,
    /// How long connecting may take
    #[arg(
        long,
        global = true,
        env = "WAYPOST_CONNECT_TIMEOUT",
        value_name = "TIME",
        value_parser = parse_duration,
        default_value = "5s"
    )]
    connect_timeout: Duration,
}

/// `client.toml`: how to reach a node of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientFile {
    /// `host:port`
    pub node: String,
    /// The certificate authority.
    pub ca: PathBuf,
    /// The client's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub cert_key: PathBuf,
    /// The process that runs the node.
    pub pid: u32,
}

impl ClientFile {
    fn read(path: &Path) -> anyhow::Result<ClientFile> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).map_err(|error| usage(format!("{}: {error}", path.display())))
    }

    /// Whether the process that wrote it is there.
    fn is_alive(&self) -> bool {
        Path::new("/proc").join(self.pid.to_string()).exists()
    }
}

/// Where `dev` keeps its node unless it is told otherwise: `$XDG_STATE_HOME/waypost`, or
/// `~/.local/state/waypost`.
pub fn state_dir() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(state?.join("waypost"))
}

/// Where a `demo --keep` leaves word.
pub fn demo_dir(state: &Path) -> PathBuf {
    state.join("demo")
}

/// The nodes of this machine that live, in the order in which they are looked for.
pub fn find_local() -> Option<ClientFile> {
    let state = state_dir()?;
    let directories = [state.clone(), demo_dir(&state)];
    directories
        .iter()
        .filter_map(|dir| ClientFile::read(&dir.join(CLIENT_FILE)).ok())
        .find(ClientFile::is_alive)
}

impl ConnectArgs {
    /// Whether a node's address was given.
    #[cfg_attr(
        not(feature = "node"),
        expect(dead_code, reason = "trials are the node's")
    )]
    pub fn names_a_node(&self) -> bool {
        self.node.is_some()
    }

    /// Connects for one request: an error is an error.
    pub async fn connect_once(&self) -> anyhow::Result<Client> {
        self.connect(Reconnect::Never).await
    }

    /// Connects, and later connects again whenever the connection is lost.
    pub async fn connect_for_long(&self) -> anyhow::Result<Client> {
        self.connect(Reconnect::default()).await
    }

    async fn connect(&self, reconnect: Reconnect) -> anyhow::Result<Client> {
        let options = self.resolve(find_local, variable)?.reconnect(reconnect);
        Ok(Client::connect(options).await?)
    }

    /// Checks the flags, and adds what `client.toml` knows.
    fn resolve(
        &self,
        local: impl Fn() -> Option<ClientFile>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<ConnectOptions> {
        let found = match (&self.node_dir, &self.node) {
            (Some(dir), _) => Some(ClientFile::read(&dir.join(CLIENT_FILE))?),
            (None, None) => Some(local().ok_or_else(|| {
                usage(
                    "no node given, and none found on this machine: start `waypost dev` in \
                     another terminal, or give --node HOST:PORT",
                )
            })?),
            // The same node, named: its certificates are known.
            (None, Some(node)) => local().filter(|file| file.node == *node),
        };
        let file = found.as_ref();
        let node = self.node.clone().or_else(|| Some(file?.node.clone()));
        let node = node.ok_or_else(|| usage("no node given"))?;
        let has_port = node.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.ends_with(':') && port.parse::<u16>().is_ok()
        });
        if !has_port {
            return Err(usage(format!(
                "--node {node:?}: expected HOST:PORT, such as {node}:{}",
                waypost_wire::PORT
            )));
        }
        let ca = self.ca.clone().or_else(|| Some(file?.ca.clone()));
        let ca = ca.ok_or_else(|| {
            usage("--node needs --ca: the certificate authority that vouches for the node")
        })?;
        let mut options = ConnectOptions::new(node, Source::file(ca))
            .identity(self.with_variables(variable).identity(file)?)
            .name(concat!("waypost-cli/", env!("CARGO_PKG_VERSION")))
            .handshake_timeout(self.connect_timeout)
            .frame_bytes_max(FRAME_BYTES_MAX);
        if let Some(name) = &self.server_name {
            options = options.server_name(name);
        }
        Ok(options)
    }

    /// An identity on the command line wins over the environment's; a half of one is completed.
    fn with_variables(&self, variable: impl Fn(&str) -> Option<String>) -> ConnectArgs {
        let mut args = self.clone();
        let has_token = self.token.is_some() || self.token_file.is_some();
        let has_certificate = self.cert.is_some() || self.cert_key.is_some();
        if !has_token {
            let path = |name| variable(name).map(PathBuf::from);
            args.cert = args.cert.or_else(|| path("WAYPOST_CERT"));
            args.cert_key = args.cert_key.or_else(|| path("WAYPOST_CERT_KEY"));
        }
        if !has_token && !has_certificate {
            args.token = variable("WAYPOST_TOKEN");
            args.token_file = variable("WAYPOST_TOKEN_FILE").map(PathBuf::from);
        }
        args
    }

    fn identity(&self, file: Option<&ClientFile>) -> anyhow::Result<Identity> {
        let certificate = |chain: &Path, key: &Path| Identity::Certificate {
            chain: Source::file(chain),
            key: Source::file(key),
        };
        let token = match (&self.token, &self.token_file) {
            (Some(_), Some(_)) => {
                return Err(usage("--token and --token-file exclude each other"));
            }
            (Some(token), None) => Some(token.clone()),
            (None, Some(path)) => Some(first_line(path)?),
            (None, None) => None,
        };
        match (&self.cert, &self.cert_key, token) {
            (None, None, Some(token)) => Ok(Identity::Token(token)),
            (Some(cert), Some(key), None) => Ok(certificate(cert, key)),
            (Some(_), None, _) => Err(usage("--cert needs --cert-key")),
            (None, Some(_), _) => Err(usage("--cert-key needs --cert")),
            (Some(_), Some(_), Some(_)) => Err(usage(
                "a certificate and a token exclude each other: give one of them",
            )),
            (None, None, None) => match file {
                Some(file) => Ok(certificate(&file.cert, &file.cert_key)),
                None => Err(usage(
                    "no identity given: --cert and --cert-key, or --token-file",
                )),
            },
        }
    }
}

/// A variable of the environment; an empty one is none.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A payload of 64 MiB, which no node exceeds, and its headers.
const FRAME_BYTES_MAX: usize = waypost_wire::PAYLOAD_BYTES_MAX + (2 << 20);

fn first_line(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(usage(format!(
            "{}: its first line is empty",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Option<ClientFile> {
        Some(ClientFile {
            node: "127.0.0.1:9297".into(),
            ca: "/d/ca.pem".into(),
            cert: "/d/client.pem".into(),
            cert_key: "/d/client.key".into(),
            pid: std::process::id(),
        })
    }

    fn resolved(args: &ConnectArgs, local: fn() -> Option<ClientFile>) -> String {
        resolved_in(args, local, |_| None)
    }

    fn resolved_in(
        args: &ConnectArgs,
        local: fn() -> Option<ClientFile>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> String {
        match args.resolve(local, variable) {
            Ok(options) => format!("{options:?}"),
            Err(error) => format!("error: {error:#}"),
        }
    }

    #[test]
    fn without_flags_the_local_node_is_used() {
        let options = resolved(&ConnectArgs::default(), file);
        for part in ["127.0.0.1:9297", "/d/ca.pem", "Certificate(/d/client.pem)"] {
            assert!(options.contains(part), "{options}");
        }
        assert!(resolved(&ConnectArgs::default(), || None).contains("start `waypost dev`"));
    }

    #[test]
    fn flags_come_first_and_must_fit() {
        let args = |node: &str, token: &str, cert: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            ConnectArgs {
                node: some(node),
                token: some(token),
                cert: some(cert).map(PathBuf::from),
                ..ConnectArgs::default()
            }
        };
        let same = resolved(&args("127.0.0.1:9297", "t", ""), file);
        assert!(
            same.contains("/d/ca.pem") && same.contains("Token"),
            "{same}"
        );
        for (args, expected) in [
            (args("10.0.0.1:9297", "t", ""), "--node needs --ca"),
            (args("10.0.0.1", "t", ""), "expected HOST:PORT"),
            (args("::1", "t", ""), "expected HOST:PORT"),
            (args("", "", "a.pem"), "--cert needs --cert-key"),
        ] {
            let found = resolved(&args, file);
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn an_identity_on_the_command_line_wins_over_the_environment() {
        let everything = |name: &str| {
            ["WAYPOST_TOKEN", "WAYPOST_CERT", "WAYPOST_CERT_KEY"]
                .contains(&name)
                .then(|| format!("of-{name}"))
        };
        let token = |name: &str| everything(name).filter(|_| name == "WAYPOST_TOKEN");
        let certificate = ConnectArgs {
            cert: Some("a.pem".into()),
            cert_key: Some("a.key".into()),
            ..ConnectArgs::default()
        };
        let found = resolved_in(&certificate, file, everything);
        assert!(found.contains("Certificate(a.pem)"), "{found}");
        let half = ConnectArgs {
            cert_key: None,
            ..certificate
        };
        let found = resolved_in(&half, file, everything);
        assert!(found.contains("Certificate(a.pem)"), "{found}");
        let given = ConnectArgs {
            token: Some("t".into()),
            ..ConnectArgs::default()
        };
        let found = resolved_in(&given, file, everything);
        assert!(found.contains("Token"), "{found}");
        let none = ConnectArgs::default();
        assert!(resolved_in(&none, file, token).contains("Token"));
        let found = resolved_in(&none, file, everything);
        assert!(found.contains("exclude each other"), "{found}");
    }

    #[test]
    fn a_client_file_comes_back() {
        let text = toml::to_string(&file().unwrap()).unwrap();
        assert_eq!(toml::from_str(&text), Ok(file().unwrap()));
        assert!(file().unwrap().is_alive());
    }
}
