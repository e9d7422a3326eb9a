//! What a client needs to know before it connects.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use crate::error::ConnectError;

/// How to reach a node and as whom.
///
/// ```
/// use waypost_client::{ConnectOptions, Identity, Source};
/// let options = ConnectOptions::new("node-7.plant:9297", Source::file("ca.pem"))
///     .identity(Identity::Token("s3cret".into()))
///     .name("press-4");
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub(crate) address: String,
    pub(crate) server_name: Option<String>,
    pub(crate) trust: Source,
    pub(crate) identity: Identity,
    pub(crate) name: String,
    pub(crate) reconnect: Reconnect,
    pub(crate) handshake_timeout: Duration,
    pub(crate) frame_bytes_max: usize,
}

/// Longest frame payload that a client takes where it says nothing else: 2 MiB, which is a batch
/// of 1 MiB, or one message with the default payload limit of 1 MiB and all its headers.
pub const FRAME_BYTES_DEFAULT: usize = 2 << 20;

impl ConnectOptions {
    /// Options for the node at `address` (`host:port`), whose certificate `trust` (PEM, one or
    /// more CA certificates) must vouch for. No identity; reconnects for ever.
    pub fn new(address: impl Into<String>, trust: Source) -> Self {
        Self {
            address: address.into(),
            server_name: None,
            trust,
            identity: Identity::None,
            name: String::new(),
            reconnect: Reconnect::default(),
            handshake_timeout: Duration::from_secs(10),
            frame_bytes_max: FRAME_BYTES_DEFAULT,
        }
    }

    /// The name that the node's certificate must carry, where it is not the address's host.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Who the client is.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// A name for people; the node shows it.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What happens when the connection is lost.
    #[must_use]
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// How long resolving, QUIC's handshake and WELCOME may take in all; 10 s if not set.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// The longest frame payload to take, in bytes; [`FRAME_BYTES_DEFAULT`] if not set. A node
    /// with a higher payload limit cannot deliver its largest messages below it.
    #[must_use]
    pub fn frame_bytes_max(mut self, bytes: usize) -> Self {
        self.frame_bytes_max = bytes.max(1 << 16);
        self
    }

    /// The host part of the address, or the name that was set.
    pub(crate) fn expected_name(&self) -> &str {
        if let Some(name) = &self.server_name {
            return name;
        }
        let host = match self.address.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => &self.address,
        };
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// PEM text and where it comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, read at each connection, so that renewed certificates are seen.
    File(PathBuf),
    /// The text itself.
    Pem(Bytes),
}

impl Source {
    /// A file.
    pub fn file(path: impl Into<PathBuf>) -> Source {
        Source::File(path.into())
    }

    /// The text itself.
    pub fn pem(text: impl Into<Bytes>) -> Source {
        Source::Pem(text.into())
    }

    pub(crate) fn read(&self) -> Result<Bytes, ConnectError> {
        match self {
            Source::Pem(text) => Ok(text.clone()),
            Source::File(path) => match std::fs::read(path) {
                Ok(text) => Ok(text.into()),
                Err(error) => Err(ConnectError::File {
                    path: path.clone(),
                    error,
                }),
            },
        }
    }

    pub(crate) fn describe(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Pem(_) => "PEM given".to_owned(),
        }
    }
}

/// Who the client is.
#[derive(Clone, Default)]
pub enum Identity {
    /// Nobody; a node refuses that unless it is told otherwise.
    #[default]
    None,
    /// A certificate chain and its private key.
    Certificate {
        /// The chain, the client's own certificate first.
        chain: Source,
        /// The key.
        key: Source,
    },
    /// A token, shown inside TLS.
    Token(String),
}

impl std::fmt::Debug for Identity {
    /// Shows the kind and never the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Identity::None => f.write_str("None"),
            Identity::Certificate { chain, .. } => write!(f, "Certificate({})", chain.describe()),
            Identity::Token(_) => f.write_str("Token(…)"),
        }
    }
}

/// What happens when the connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// Everything ends with an error.
    Never,
    /// Try again for ever, after `first`, then twice as long each time up to `max`; each wait is
    /// shortened by up to half, at random, so that a thousand clients do not come at once.
    Backoff {
        /// The first wait.
        first: Duration,
        /// The longest.
        max: Duration,
    },
}

impl Default for Reconnect {
    /// 100 ms to 10 s.
    fn default() -> Self {
        Reconnect::Backoff {
            first: Duration::from_millis(100),
            max: Duration::from_secs(10),
        }
    }
}

impl Reconnect {
    /// The wait before attempt `attempt` (from 0) with `random` in 0..=u64::MAX as the die.
    pub(crate) fn delay(&self, attempt: u32, random: u64) -> Option<Duration> {
        let Reconnect::Backoff { first, max } = self else {
            return None;
        };
        let full = first.saturating_mul(1 << attempt.min(20)).min(*max);
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        Some(full.mul_f64(1.0 - share / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_address() {
        let name = |address: &str| {
            ConnectOptions::new(address, Source::pem(""))
                .expected_name()
                .to_owned()
        };
        assert_eq!(name("localhost:9297"), "localhost");
        assert_eq!(name("[::1]:9297"), "::1");
        assert_eq!(name("10.0.0.1"), "10.0.0.1");
    }

    #[test]
    fn backoff_doubles_to_its_limit_and_jitter_only_shortens() {
        let backoff = Reconnect::default();
        let ms = |attempt, random| backoff.delay(attempt, random).unwrap().as_millis();
        assert_eq!([ms(0, 0), ms(1, 0), ms(3, 0)], [100, 200, 800]);
        assert_eq!(ms(30, 0), 10_000);
        assert_eq!(ms(0, u64::MAX), 50);
        assert_eq!(Reconnect::Never.delay(0, 0), None);
    }

    #[test]
    fn debug_hides_the_token() {
        assert!(!format!("{:?}", Identity::Token("abc".into())).contains("abc"));
    }
}
