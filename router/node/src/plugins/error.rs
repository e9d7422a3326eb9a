//! Why a change of plugins or routes is refused.

use waypost_host::{InstanceError, LoadError};
use waypost_wire::Code;

use super::pull::PullError;
use super::store::StoreError;
use super::trust::Untrusted;
use crate::config::PluginTextError;

/// See the variants. Whatever it is, all is as it was before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// No slot or route has this name.
    #[error("no {what} '{name}'")]
    NotFound { what: &'static str, name: String },
    /// What is there, or what the configuration says, does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// A name that is taken.
    #[error("{0}")]
    Exists(String),
    /// A word, a number or a name that is none.
    #[error("{0}")]
    Invalid(String),
    /// A number, a word or a filter of a plugin.
    #[error("plugin '{plugin}': {error}")]
    Text {
        plugin: String,
        error: PluginTextError,
    },
    /// The component is not signed as it must be.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The component does not come from its registry.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The component is not one that this node can run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An instance of it does not start.
    #[error(transparent)]
    Start(#[from] InstanceError),
    /// The Wasm engine cannot be had.
    #[error(transparent)]
    Engine(#[from] waypost_host::EngineError),
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node is about to end.
    #[error("the node stops")]
    Closed,
    /// As many as there may be.
    #[error("{0}")]
    Busy(String),
}

impl ChangeError {
    pub fn code(&self) -> Code {
        use waypost_host::LoadErrorKind as Kind;
        match self {
            ChangeError::NotFound { .. } => Code::NotFound,
            ChangeError::Store(StoreError::NoComponent { .. }) => Code::NotFound,
            ChangeError::Store(
                StoreError::Length { .. }
                | StoreError::Digest { .. }
                | StoreError::Signatures { .. },
            ) => Code::Invalid,
            ChangeError::Store(StoreError::Damaged { .. }) => Code::Damaged,
            ChangeError::Store(StoreError::Io { error, .. })
                if error.kind() == std::io::ErrorKind::StorageFull =>
            {
                Code::DiskFull
            }
            ChangeError::Store(_) | ChangeError::Engine(_) => Code::Internal,
            ChangeError::Conflict(_) => Code::Conflict,
            ChangeError::Pull(_) => Code::Internal,
            ChangeError::Exists(_) => Code::Exists,
            ChangeError::Busy(_) => Code::Busy,
            ChangeError::Closed => Code::Draining,
            ChangeError::Untrusted(Untrusted::Trust { .. }) => Code::Invalid,
            ChangeError::Untrusted(Untrusted::Signature { .. }) => Code::Internal,
            ChangeError::Load(LoadError { kind, .. })
            | ChangeError::Untrusted(Untrusted::Load(LoadError { kind, .. })) => match kind {
                Kind::Read(_) | Kind::CompilerProcess { .. } => Code::Internal,
                Kind::TooLarge { .. } => Code::TooLarge,
                _ => Code::Invalid,
            },
            ChangeError::Invalid(_) | ChangeError::Text { .. } | ChangeError::Start(_) => {
                Code::Invalid
            }
        }
    }
}
