//! What can go wrong, and what the application may do about it: try again
//! (`is_retryable`), and whether the node may have acted already (`has_no_side_effects`).

use std::path::PathBuf;
use std::sync::Arc;

use quinn::{ConnectionError, ReadError, WriteError};
use waypost_wire::{Code, RecordError, WireError, control};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A file that the options name.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Certificates, keys or names that cannot be used; the text says which.
    #[error("{0}")]
    Options(String),
    /// The address does not resolve.
    #[error("address '{address}' does not resolve: {error}")]
    Resolve {
        /// As it was given.
        address: String,
        /// What the resolver says.
        error: std::io::Error,
    },
    /// No UDP socket.
    #[error("no UDP socket: {0}")]
    Socket(std::io::Error),
    /// Nobody answers there, or no longer.
    #[error("{address}: {error}")]
    Unreachable {
        /// The address that was tried last.
        address: String,
        /// What QUIC says.
        error: ConnectionError,
    },
    /// The two sides cannot agree: a certificate that one of them does not trust, another server
    /// name, or no `waypost/1` there.
    #[error("{address}: handshake failed: {error}")]
    Handshake {
        /// The address that was tried last.
        address: String,
        /// What TLS says.
        error: ConnectionError,
    },
    /// No WELCOME in time.
    #[error("{address}: no WELCOME within {ms} ms")]
    Timeout {
        /// The address that was tried last.
        address: String,
        /// How long the client waited, in ms.
        ms: u64,
    },
    /// The node refused the client, and says why.
    #[error("{address} refused the connection: {code}: {message}")]
    Refused {
        /// The address that was tried last.
        address: String,
        /// The node's code.
        code: Code,
        /// The node's text.
        message: String,
    },
    /// The node sent what `waypost/1` does not allow.
    #[error("{address}: {error}")]
    Protocol {
        /// The address that was tried last.
        address: String,
        /// What and where.
        error: WireError,
    },
    /// The connection ended and [`crate::Reconnect::Never`] was chosen.
    #[error("{address}: connection lost: {reason}")]
    Lost {
        /// The address that was connected to.
        address: String,
        /// Why.
        reason: String,
    },
}

impl ConnectError {
    /// Whether the same options can succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            ConnectError::Resolve { .. }
            | ConnectError::Socket(_)
            | ConnectError::Unreachable { .. }
            | ConnectError::Timeout { .. }
            | ConnectError::Lost { .. } => true,
            ConnectError::Refused { code, .. } => code.is_retryable(),
            ConnectError::File { .. }
            | ConnectError::Options(_)
            | ConnectError::Handshake { .. }
            | ConnectError::Protocol { .. } => false,
        }
    }

    /// The node's code, where it was the node that refused.
    pub fn code(&self) -> Option<Code> {
        match self {
            ConnectError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(crate) fn from_quinn(address: &str, error: ConnectionError) -> ConnectError {
        let address = address.to_owned();
        match error {
            ConnectionError::ApplicationClosed(close) => ConnectError::Refused {
                address,
                code: Code::from_number(close.error_code.into_inner()),
                message: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            // RFC 9001, section 4.8: 0x100 to 0x1ff are TLS alerts.
            ConnectionError::TransportError(ref e)
                if (0x100..0x200).contains(&u64::from(e.code)) =>
            {
                ConnectError::Handshake { address, error }
            }
            ConnectionError::ConnectionClosed(ref close)
                if (0x100..0x200).contains(&u64::from(close.error_code)) =>
            {
                ConnectError::Handshake { address, error }
            }
            error => ConnectError::Unreachable { address, error },
        }
    }

    pub(crate) fn from_stream(address: &str, error: Error) -> ConnectError {
        let address = address.to_owned();
        match error {
            Error::Refused { code, message, .. } => ConnectError::Refused {
                address,
                code,
                message,
            },
            Error::Protocol(error) => ConnectError::Protocol { address, error },
            Error::Lost(error) => ConnectError::from_quinn(&address, error),
            other => ConnectError::Lost {
                address,
                reason: other.to_string(),
            },
        }
    }
}

/// Why an operation on a connection failed. Cheap to clone: one failure may answer many tickets.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no connection and there will be none.
    #[error("not connected: {0}")]
    NotConnected(Arc<ConnectError>),
    /// The connection was lost while the node may have been at work on this.
    #[error("connection lost: {0}")]
    Lost(ConnectionError),
    /// The node says no.
    #[error("refused: {code}: {message}")]
    Refused {
        /// The node's code.
        code: Code,
        /// What, where, what was expected.
        message: String,
        /// Whether the node says that it can succeed later.
        retryable: bool,
    },
    /// The node sent what `waypost/1` does not allow.
    #[error("the node broke the protocol: {0}")]
    Protocol(WireError),
    /// A message that cannot be a record; nothing was sent.
    #[error("message not accepted: {0}")]
    Record(RecordError),
    /// A message or batch over the node's limit; nothing was sent.
    #[error("{what} has {length} bytes, the node's limit is {limit}")]
    TooLarge {
        /// `record`, `request` or `transaction`.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// A transaction of a publisher that is no producer, or of nothing; nothing was sent.
    #[error("a transaction {0}")]
    Transaction(&'static str),
    /// The publisher holds as much as it may; only `try_send` says so.
    #[error("the window is full")]
    WindowFull,
    /// It was closed here.
    #[error("closed")]
    Closed,
    /// It never left this client, because of what is inside.
    #[error("not sent: {0}")]
    NotSent(Arc<Error>),
}

impl Error {
    /// Whether the same operation can succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::NotConnected(error) => error.is_retryable(),
            Error::Lost(_) | Error::WindowFull => true,
            Error::Refused { retryable, .. } => *retryable,
            Error::NotSent(error) => error.is_retryable(),
            Error::Protocol(_)
            | Error::Record(_)
            | Error::TooLarge { .. }
            | Error::Transaction(_)
            | Error::Closed => false,
        }
    }

    /// Whether it is certain that the node did nothing. A message whose error says `false` may
    /// have been stored; publishing it again may double it.
    pub fn has_no_side_effects(&self) -> bool {
        match self {
            Error::Record(_)
            | Error::TooLarge { .. }
            | Error::Transaction(_)
            | Error::WindowFull
            | Error::NotSent(_) => true,
            Error::NotConnected(_)
            | Error::Lost(_)
            | Error::Refused { .. }
            | Error::Protocol(_)
            | Error::Closed => false,
        }
    }

    /// The node's code, where it was the node that refused.
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::Refused { code, .. } => Some(*code),
            Error::NotConnected(error) => error.code(),
            Error::NotSent(error) => error.code(),
            _ => None,
        }
    }

    /// Whether opening the stream anew is the answer.
    pub(crate) fn reopens(&self) -> bool {
        matches!(self, Error::Lost(_))
            || matches!(
                self,
                Error::Refused {
                    retryable: true,
                    ..
                }
            )
    }

    pub(crate) fn not_sent(self) -> Error {
        match self {
            error if error.has_no_side_effects() => error,
            error => Error::NotSent(Arc::new(error)),
        }
    }

    fn refused(code: Code, message: String) -> Error {
        Error::Refused {
            code,
            message,
            retryable: code.is_retryable(),
        }
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        Error::Protocol(error)
    }
}

impl From<control::Error> for Error {
    fn from(error: control::Error) -> Self {
        Error::Refused {
            code: error.kind(),
            retryable: error.retryable,
            message: error.message,
        }
    }
}

impl From<ConnectionError> for Error {
    fn from(error: ConnectionError) -> Self {
        match &error {
            ConnectionError::ApplicationClosed(close) => {
                match Code::from_number(close.error_code.into_inner()) {
                    Code::Closed | Code::Draining => Error::Lost(error),
                    code => {
                        Error::refused(code, String::from_utf8_lossy(&close.reason).into_owned())
                    }
                }
            }
            _ => Error::Lost(error),
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Error::refused(
                Code::from_number(code.into_inner()),
                "the node reset the stream".to_owned(),
            ),
            ReadError::ConnectionLost(error) => error.into(),
            ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Error::Closed,
        }
    }
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Error::refused(
                Code::from_number(code.into_inner()),
                "the node stopped reading the stream".to_owned(),
            ),
            WriteError::ConnectionLost(error) => error.into(),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Error::Closed,
        }
    }
}
