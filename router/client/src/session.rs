//! One QUIC connection after WELCOME: opening streams on it, counting them, and draining it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quinn::{SendStream, VarInt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use waypost_wire::control::{self, Hello, Welcome};
use waypost_wire::{Code, FrameType};

use crate::error::{ConnectError, Error};
use crate::options::{ConnectOptions, Identity};
use crate::stream::{self, FrameReader};
use crate::transport;

/// How long after one of a host's addresses the next is tried beside it (as RFC 8305 has it).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A connection that both sides agreed on.
pub(crate) struct Session {
    pub(crate) quic: quinn::Connection,
    pub(crate) welcome: Welcome,
    /// Counts the sessions of a client, from 1.
    pub(crate) number: u64,
    /// Names it among all sessions of this process.
    pub(crate) id: u64,
    frame_bytes_max: usize,
    draining: watch::Sender<bool>,
    streams: watch::Sender<usize>,
    subscribers: std::sync::Mutex<u32>,
}

/// Held by whoever has a stream open; a draining session waits for all of them.
pub(crate) struct StreamGuard {
    session: Arc<Session>,
    subscriber: bool,
}

/// A stream that the node has not answered yet.
pub(crate) struct Stream {
    pub(crate) send: SendStream,
    pub(crate) reader: FrameReader,
    pub(crate) guard: StreamGuard,
}

impl Session {
    /// Connects, shakes hands and exchanges HELLO and WELCOME; gives the session and its control
    /// stream, which must be kept open.
    pub(crate) async fn connect(
        endpoint: &quinn::Endpoint,
        options: &ConnectOptions,
        number: u64,
    ) -> Result<(Arc<Session>, Control), ConnectError> {
        let timeout = options.handshake_timeout;
        match tokio::time::timeout(timeout, Self::connect_now(endpoint, options, number)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Timeout {
                address: options.address.clone(),
                ms: timeout.as_millis() as u64,
            }),
        }
    }

    async fn connect_now(
        endpoint: &quinn::Endpoint,
        options: &ConnectOptions,
        number: u64,
    ) -> Result<(Arc<Session>, Control), ConnectError> {
        let config = transport::client_config(options)?;
        let mut attempts = JoinSet::new();
        for (index, address) in resolve(&options.address).await?.into_iter().enumerate() {
            // `localhost` is two addresses, of which a node may serve one.
            let wait = match address.ip().is_loopback() {
                true => Duration::ZERO,
                false => NEXT_ADDRESS * index as u32,
            };
            let (endpoint, config) = (endpoint.clone(), config.of(address));
            let (name, given) = (options.expected_name().to_owned(), options.address.clone());
            attempts.spawn(async move {
                tokio::time::sleep(wait).await;
                let connecting = endpoint
                    .connect_with(config, address, &name)
                    .map_err(|error| ConnectError::Options(format!("{address}: {error}")))?;
                connecting
                    .await
                    .map_err(|error| ConnectError::from_quinn(&given, error))
            });
        }
        let mut last = None;
        while let Some(result) = attempts.join_next().await {
            match result {
                Ok(Ok(quic)) => {
                    attempts.abort_all();
                    return Self::greet(quic, options, number).await;
                }
                // A node that answers and refuses is the node; another address is no remedy.
                Ok(Err(
                    error @ (ConnectError::Refused { .. } | ConnectError::Handshake { .. }),
                )) => return Err(error),
                Ok(Err(error @ ConnectError::Unreachable { .. })) => last = Some(error),
                Ok(Err(error)) => last = last.or(Some(error)),
                Err(_) => {}
            }
        }
        Err(last.unwrap_or_else(|| ConnectError::Resolve {
            address: options.address.clone(),
            error: std::io::Error::other("no address"),
        }))
    }

    async fn greet(
        quic: quinn::Connection,
        options: &ConnectOptions,
        number: u64,
    ) -> Result<(Arc<Session>, Control), ConnectError> {
        match Self::exchange(&quic, options).await {
            Ok((control, welcome)) => {
                let session = Session {
                    quic,
                    welcome,
                    number,
                    id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                    frame_bytes_max: options.frame_bytes_max,
                    draining: watch::Sender::new(false),
                    streams: watch::Sender::new(0),
                    subscribers: std::sync::Mutex::new(0),
                };
                Ok((Arc::new(session), control))
            }
            Err(error) => {
                let code = match &error {
                    Error::Protocol(error) => error.code(),
                    _ => Code::Closed,
                };
                quic.close(VarInt::from_u32(code as u32), error.to_string().as_bytes());
                Err(ConnectError::from_stream(&options.address, error))
            }
        }
    }

    async fn exchange(
        quic: &quinn::Connection,
        options: &ConnectOptions,
    ) -> Result<(Control, Welcome), Error> {
        let (mut send, recv) = quic.open_bi().await?;
        let hello = Hello {
            versions: vec![waypost_wire::VERSION],
            client: match options.name.as_str() {
                "" => concat!("waypost-client/", env!("CARGO_PKG_VERSION")).to_owned(),
                name => format!("{name} (waypost-client/{})", env!("CARGO_PKG_VERSION")),
            },
            token: match &options.identity {
                Identity::Token(token) => token.clone(),
                Identity::None | Identity::Certificate { .. } => String::new(),
            },
            frame_bytes_max: options.frame_bytes_max as u64,
        };
        let mut reader = FrameReader::new(recv, options.frame_bytes_max);
        // A node that refuses may stop reading before HELLO is written; its answer says why.
        let _ = stream::begin(&mut send, control::bytes_of(FrameType::Hello, &hello)).await;
        let frame = reader
            .expect(FrameType::Welcome, "WELCOME or ERROR")
            .await?;
        let welcome: Welcome = control::parse(&frame)?;
        if welcome.version != waypost_wire::VERSION {
            let what = format!("version {}, of which HELLO did not speak", welcome.version);
            return Err(frame.malformed(what).into());
        }
        Ok((
            Control {
                reader,
                _send: send,
            },
            welcome,
        ))
    }

    /// Opens a stream with its first frame.
    pub(crate) async fn open(self: &Arc<Self>, first: Bytes) -> Result<Stream, Error> {
        self.open_as(first, false).await
    }

    /// Opens a stream that may stay unread, and makes the connection's window larger by it.
    pub(crate) async fn open_subscriber(self: &Arc<Self>, first: Bytes) -> Result<Stream, Error> {
        self.open_as(first, true).await
    }

    async fn open_as(self: &Arc<Self>, first: Bytes, subscriber: bool) -> Result<Stream, Error> {
        let guard = StreamGuard::new(self, subscriber);
        let (mut send, recv) = self.quic.open_bi().await?;
        let reader = FrameReader::new(recv, self.frame_bytes_max);
        stream::begin(&mut send, first).await?;
        Ok(Stream {
            send,
            reader,
            guard,
        })
    }

    /// Tells everybody with a stream to finish it.
    pub(crate) fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Ready once the session drains.
    pub(crate) async fn drained(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self
            .draining
            .subscribe()
            .wait_for(|draining| *draining)
            .await;
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Ready once no stream is open.
    pub(crate) async fn idle(&self) {
        let _ = self.streams.subscribe().wait_for(|count| *count == 0).await;
    }

    pub(crate) fn close(&self, code: Code, reason: &str) {
        self.quic
            .close(VarInt::from_u32(code as u32), reason.as_bytes());
    }
}

impl StreamGuard {
    fn new(session: &Arc<Session>, subscriber: bool) -> StreamGuard {
        session.streams.send_modify(|count| *count += 1);
        let guard = StreamGuard {
            session: session.clone(),
            subscriber,
        };
        guard.count_subscriber(1);
        guard
    }

    fn count_subscriber(&self, change: i32) {
        if !self.subscriber {
            return;
        }
        let mut count = match self.session.subscribers.lock() {
            Ok(count) => count,
            Err(poisoned) => poisoned.into_inner(),
        };
        *count = count.saturating_add_signed(change);
        let window = transport::RECEIVE_WINDOW
            .saturating_add(transport::STREAM_WINDOW.saturating_mul(*count))
            .min(1 << 30);
        self.session
            .quic
            .set_receive_window(VarInt::from_u32(window));
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.count_subscriber(-1);
        self.session.streams.send_modify(|count| *count -= 1);
    }
}

/// The control stream; closing either half ends the connection.
pub(crate) struct Control {
    pub(crate) reader: FrameReader,
    _send: SendStream,
}

async fn resolve(address: &str) -> Result<Vec<SocketAddr>, ConnectError> {
    let with_port = match address.parse::<std::net::IpAddr>() {
        Ok(ip) => SocketAddr::from((ip, waypost_wire::PORT)).to_string(),
        Err(_) if address.contains(':') => address.to_owned(),
        Err(_) => format!("{address}:{}", waypost_wire::PORT),
    };
    match tokio::net::lookup_host(&with_port).await {
        Ok(found) => Ok(found.collect()),
        Err(error) => Err(ConnectError::Resolve {
            address: address.to_owned(),
            error,
        }),
    }
}
