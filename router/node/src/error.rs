//! Why a node does not start.

use std::net::SocketAddr;

use waypost_host::{EngineError, LoadError};
use waypost_log::OpenError;
use waypost_shard::ManageError;

use crate::admin::AdminError;
use crate::plugins::Untrusted;
use crate::tls::TlsError;

/// See [`crate::Node::start`].
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(OpenError),
    /// A configured queue cannot be made.
    #[error("queue '{queue}': {error}")]
    Queue {
        /// The queue.
        queue: String,
        /// Why.
        error: ManageError,
    },
    /// Certificates cannot be used or made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Plugins cannot run here at all.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A plugin's component is not signed as it must be.
    #[error(transparent)]
    Untrusted(Box<Untrusted>),
    /// A plugin cannot be loaded.
    #[error(transparent)]
    Plugin(#[from] LoadError),
    /// What came over the network before cannot be read, or is named by the configuration too.
    #[error("{0}")]
    Plugins(String),
    /// The address cannot be listened on.
    #[error("listen address {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The admin page cannot be served.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// No thread or runtime can be had.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}
