//! Why an artifact does not come, or does not go.

use std::time::Duration;

use crate::artifact::ArtifactError;
use crate::reference::Reference;

/// Each names the artifact.
#[derive(Debug, thiserror::Error)]
#[error("{reference}: {kind}")]
pub struct RegistryError {
    /// What was asked for.
    pub reference: Box<Reference>,
    /// What is wrong.
    pub kind: Box<RegistryErrorKind>,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum RegistryErrorKind {
    /// The registry cannot be reached, or the connection broke.
    #[error("{what}: {error}")]
    Connection {
        /// The request.
        what: String,
        /// What the network says.
        error: String,
    },
    /// It took too long.
    #[error("{what}: not done within {} s", .limit.as_secs_f64())]
    Timeout {
        /// The request.
        what: String,
        /// All that the whole may take.
        limit: Duration,
    },
    /// An answer that is none of those that the protocol has here.
    #[error("{what}: the registry answered {status}{detail}")]
    Status {
        /// The request.
        what: String,
        /// HTTP's number.
        status: u16,
        /// The registry's own words.
        detail: String,
    },
    /// There is no such thing.
    #[error("{what}: there is none{detail}")]
    NotFound {
        /// The request.
        what: String,
        /// The registry's own words.
        detail: String,
    },
    /// Who asks may not.
    #[error("{what}: the registry refuses that to {who}{detail}")]
    Forbidden {
        /// The request.
        what: String,
        /// As whom.
        who: String,
        /// The registry's own words.
        detail: String,
    },
    /// A way to say who one is that is not known here, or not safe.
    #[error("the registry asks who we are, but {0}")]
    Challenge(String),
    /// Fewer or more bytes than the manifest says.
    #[error("{what}: {found} bytes came, expected {expected}")]
    Length {
        /// The request.
        what: String,
        /// What came; more than expected where it did not end.
        found: u64,
        /// What should.
        expected: u64,
    },
    /// An answer without an end, or longer than it may be.
    #[error("{what}: the answer has more than {limit} bytes")]
    TooLong {
        /// The request.
        what: String,
        /// How many it may have.
        limit: u64,
    },
    /// Other bytes than were named.
    #[error("{what}: the bytes have {found}, expected {expected}")]
    Digest {
        /// The request.
        what: String,
        /// `sha256:…`
        found: String,
        /// `sha256:…`
        expected: String,
    },
    /// The artifact is not one of a component.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// What this machine has to say beforehand.
    #[error("{0}")]
    Setup(String),
}

impl RegistryErrorKind {
    /// Whether the same may go well later, as far as one can tell.
    pub fn is_retryable(&self) -> bool {
        match self {
            RegistryErrorKind::Connection { .. }
            | RegistryErrorKind::Timeout { .. }
            | RegistryErrorKind::Length { .. } => true,
            RegistryErrorKind::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}
