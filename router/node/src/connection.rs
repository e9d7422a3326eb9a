//! One connection: who it is, and a task for each of its streams.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::{Connection, Incoming, RecvStream, SendStream, VarInt};
use rustls_pki_types::CertificateDer;
use waypost_core::group::ConsumerId;
use waypost_wire::control::{self, GoAway, Hello, Welcome};
use waypost_wire::{Code, FrameType};

use crate::identity::Principal;
use crate::metrics::Gauge;
use crate::node::{Greeting, Shared};
use crate::stream_io::{FrameReader, StreamError, end_with_error};
use crate::{consumer, manage, publisher, subscriber};

/// How long a client may take for its HELLO, and for the first frame of a stream.
const FIRST_FRAME: Duration = Duration::from_secs(10);
/// How long the last words of a connection may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What a client takes that says nothing of it.
const FRAME_BYTES_DEFAULT: u64 = 2 << 20;
/// The longest first frame: control messages are small.
const CONTROL_BYTES_MAX: usize = 64 << 10;

/// What the streams of a connection share.
pub(crate) struct Conn {
    pub id: u64,
    pub node: Arc<Shared>,
    pub principal: Principal,
    pub client: String,
    /// The longest frame payload that the client takes.
    pub client_frame_bytes_max: u64,
    pub quic: Connection,
    pub since_ms: u64,
    pub publishers: Gauge,
    pub consumers: Gauge,
    pub subscribers: Gauge,
    pub own_consumers: OwnConsumers,
    streams: AtomicU64,
}

/// The consumers of a connection, for which its publishers may ack.
#[derive(Debug, Default)]
pub(crate) struct OwnConsumers(Mutex<BTreeSet<ConsumerId>>);

impl OwnConsumers {
    fn set(&self) -> MutexGuard<'_, BTreeSet<ConsumerId>> {
        // Nothing panics while it is locked; if it did, the set would still be one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn has(&self, consumer: ConsumerId) -> bool {
        self.set().contains(&consumer)
    }

    pub fn add(&self, consumer: ConsumerId) {
        self.set().insert(consumer);
    }

    pub fn remove(&self, consumer: ConsumerId) {
        self.set().remove(&consumer);
    }
}

impl Conn {
    pub fn address(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    /// The longest frame that the node reads on a data stream: a batch, or one larger message
    /// with its other fields.
    pub fn frame_bytes_max(&self) -> usize {
        frame_bytes_max(&self.node)
    }
}

fn frame_bytes_max(node: &Shared) -> usize {
    waypost_wire::BATCH_BYTES_MAX.max(node.limits.payload_bytes) + (1 << 20)
}

/// Serves a connection until it ends.
pub(crate) async fn serve(
    node: Arc<Shared>,
    incoming: quinn::Connecting,
    id: u64,
    greeting: Greeting,
) {
    let Ok(quic) = incoming.await else {
        node.metrics.clients.refused.add(1);
        return;
    };
    let accepted = tokio::time::timeout(FIRST_FRAME, quic.accept_bi()).await;
    let (mut send, recv) = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return,
        Err(_) => return close(&quic, Code::Timeout, "no HELLO"),
    };
    let mut control = FrameReader::new(recv, CONTROL_BYTES_MAX);
    let greeted = tokio::time::timeout(FIRST_FRAME, greet(&node, &quic, &mut control)).await;
    let greeted = greeted.unwrap_or_else(|_| {
        Err(StreamError::Refused(
            Code::Timeout,
            format!("no HELLO within {} s", FIRST_FRAME.as_secs()),
        ))
    });
    let greeted = greeted.and_then(|greeted| seat(&node).map(|()| greeted));
    let (principal, hello) = match greeted {
        Ok(greeted) => greeted,
        Err(error) => {
            node.metrics.clients.refused.add(1);
            tracing::info!(address = %quic.remote_address(), %error, "connection refused");
            end_with_error(&mut send, &error).await;
            let _ = tokio::time::timeout(LAST_WORDS, send.stopped()).await;
            return close(&quic, error.code(), &error.to_string());
        }
    };
    let welcome = welcome(&node, &principal);
    if send
        .write_all(&control::bytes_of(FrameType::Welcome, &welcome))
        .await
        .is_err()
    {
        return node.metrics.clients.connections.decrement();
    }
    node.metrics.clients.accepted.add(1);
    let conn = Arc::new(Conn {
        id,
        principal,
        client: hello.client,
        client_frame_bytes_max: match hello.frame_bytes_max {
            0 => FRAME_BYTES_DEFAULT,
            bytes => bytes,
        },
        quic,
        since_ms: node.clock.mono_ms(),
        publishers: Gauge::default(),
        consumers: Gauge::default(),
        subscribers: Gauge::default(),
        own_consumers: OwnConsumers::default(),
        streams: AtomicU64::new(0),
        node,
    });
    tracing::debug!(id, principal = %conn.principal.name, address = %conn.address(), "connected");
    conn.node.connections.insert(&conn);
    // It has its seat among the connections.
    drop(greeting);
    live(&conn, &mut send, &mut control).await;
    conn.node.metrics.clients.connections.decrement();
    conn.node.connections.remove(id);
    tracing::debug!(id, "disconnected");
}

/// One of the seats that `connections_max` allows; the connection's end gives it back.
fn seat(node: &Shared) -> Result<(), StreamError> {
    let max = node.connections_max as u64;
    match node.metrics.clients.connections.increment_below(max) {
        true => Ok(()),
        false => {
            let text = format!("{max} connections are open, which is as many as may be");
            Err(StreamError::Refused(Code::Busy, text))
        }
    }
}

fn close(quic: &Connection, code: Code, text: &str) {
    quic.close(VarInt::from_u32(code as u32), text.as_bytes());
}

/// Reads HELLO and finds out who it is.
async fn greet(
    node: &Shared,
    quic: &Connection,
    control: &mut FrameReader,
) -> Result<(Principal, Hello), StreamError> {
    let frame = control.next().await?.ok_or(StreamError::Lost)?;
    if frame.kind != FrameType::Hello {
        return Err(frame.unexpected("HELLO").into());
    }
    let hello: Hello = control::parse(&frame)?;
    if !hello.versions.contains(&waypost_wire::VERSION) {
        let text = format!(
            "versions {:?} offered, this node speaks {}",
            hello.versions,
            waypost_wire::VERSION
        );
        return Err(StreamError::Refused(Code::Version, text));
    }
    if node.is_draining() {
        return Err(StreamError::Refused(
            Code::Draining,
            "the node is about to stop".to_owned(),
        ));
    }
    let identity = quic.peer_identity();
    let chain = identity
        .as_ref()
        .and_then(|any| any.downcast_ref::<Vec<CertificateDer<'static>>>());
    let token = Some(hello.token.as_str()).filter(|token| !token.is_empty());
    let principal = node
        .identities
        .authenticate(chain.map(Vec::as_slice), token)
        .map_err(|error| StreamError::Refused(error.code(), error.to_string()))?;
    Ok((principal, hello))
}

fn welcome(node: &Shared, principal: &Principal) -> Welcome {
    Welcome {
        version: waypost_wire::VERSION,
        node: node.name.clone(),
        server: format!("waypost/{}", env!("CARGO_PKG_VERSION")),
        principal: principal.name.to_string(),
        roles: principal.roles().map(str::to_owned).collect(),
        payload_bytes_max: node.limits.payload_bytes as u64,
        batch_messages_max: waypost_wire::BATCH_MESSAGES_MAX as u32,
        batch_bytes_max: waypost_wire::BATCH_BYTES_MAX as u64,
        frame_bytes_max: frame_bytes_max(node) as u64,
        streams_max: node.streams_max,
    }
}

/// The connection's life after WELCOME.
async fn live(conn: &Arc<Conn>, control_send: &mut SendStream, control: &mut FrameReader) {
    let mut draining = conn.node.draining.subscribe();
    let mut was_told = false;
    loop {
        tokio::select! {
            stream = conn.quic.accept_bi() => match stream {
                Ok((send, recv)) => {
                    let conn = conn.clone();
                    tokio::spawn(async move { serve_stream(conn, send, recv).await });
                }
                Err(_) => return,
            },
            frame = control.next() => {
                let error = match frame {
                    Ok(None) | Err(StreamError::Lost) => return close(&conn.quic, Code::Closed, ""),
                    Ok(Some(frame)) => frame.unexpected("nothing more on the control stream").into(),
                    Err(error) => error,
                };
                end_with_error(control_send, &error).await;
                let _ = tokio::time::timeout(LAST_WORDS, control_send.stopped()).await;
                return close(&conn.quic, error.code(), &error.to_string());
            }
            is_draining = told(&mut draining), if !was_told => {
                was_told = true;
                if is_draining {
                    let grace_ms = conn.node.drain_timeout.as_millis() as u64;
                    let go_away = GoAway { reason: "the node is about to stop".to_owned(), grace_ms };
                    let frame = control::bytes_of(FrameType::GoAway, &go_away);
                    if control_send.write_all(&frame).await.is_err() {
                        return close(&conn.quic, Code::Closed, "");
                    }
                }
            }
        }
    }
}

/// Waits until the node drains; false if it ends without.
async fn told(draining: &mut tokio::sync::watch::Receiver<bool>) -> bool {
    draining.wait_for(|draining| *draining).await.is_ok()
}

async fn serve_stream(conn: Arc<Conn>, mut send: SendStream, recv: RecvStream) {
    let mut reader = FrameReader::new(recv, conn.frame_bytes_max());
    let open = conn.streams.fetch_add(1, Relaxed);
    let result = match open >= u64::from(conn.node.streams_max) {
        true => Err(StreamError::Refused(
            Code::Busy,
            format!("{open} streams are open"),
        )),
        false => dispatch(&conn, &mut send, &mut reader).await,
    };
    conn.streams.fetch_sub(1, Relaxed);
    if let Err(error) = result {
        if !matches!(error, StreamError::Lost) {
            tracing::info!(connection = conn.id, principal = %conn.principal.name, %error, "stream ended");
        }
        end_with_error(&mut send, &error).await;
        reader.stop(error.code());
    }
}

async fn dispatch(
    conn: &Arc<Conn>,
    send: &mut SendStream,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    let first = tokio::time::timeout(FIRST_FRAME, reader.next()).await;
    let frame = match first {
        Ok(frame) => frame?.ok_or(StreamError::Lost)?,
        Err(_) => {
            return Err(StreamError::Refused(
                Code::Timeout,
                "the stream says nothing".to_owned(),
            ));
        }
    };
    if conn.node.is_draining() {
        return Err(StreamError::Refused(
            Code::Draining,
            "the node is about to stop".to_owned(),
        ));
    }
    let clients = &conn.node.metrics.clients;
    match frame.kind {
        FrameType::OpenPublisher => {
            let open = control::parse(&frame)?;
            counted(
                [&clients.publishers, &conn.publishers],
                publisher::serve(conn, open, send, reader),
            )
            .await
        }
        FrameType::OpenConsumer => {
            let open = control::parse(&frame)?;
            counted(
                [&clients.consumers, &conn.consumers],
                consumer::serve(conn, open, send, reader),
            )
            .await
        }
        FrameType::OpenSubscriber => {
            let open = control::parse(&frame)?;
            counted(
                [&clients.subscribers, &conn.subscribers],
                subscriber::serve(conn, open, send, reader),
            )
            .await
        }
        FrameType::Manage => manage::serve(conn, control::parse(&frame)?, send, reader).await,
        _ => Err(frame
            .unexpected("OPEN_PUBLISHER, OPEN_CONSUMER, OPEN_SUBSCRIBER or MANAGE")
            .into()),
    }
}

async fn counted<T>(gauges: [&Gauge; 2], work: impl Future<Output = T>) -> T {
    gauges.iter().for_each(|gauge| gauge.increment());
    let result = work.await;
    gauges.iter().for_each(|gauge| gauge.decrement());
    result
}

/// Connections over the limit that are let in as far as being told `busy`, which QUIC cannot say
/// before the handshake. What is more is refused without a word, so that a crowd costs little.
const TOLD_BUSY_MAX: usize = 16;

/// Whether a new connection is let in, must prove its address first, or is turned away.
pub(crate) fn admit(node: &Shared, incoming: &Incoming) -> Admission {
    let open = node.metrics.clients.connections.get() as usize;
    let greeting = node.greeting.load(Relaxed);
    let room = (node.connections_max + TOLD_BUSY_MAX).saturating_sub(open);
    if node.is_draining() || greeting >= room {
        Admission::Refuse
    } else if greeting > 32 && !incoming.remote_address_validated() {
        Admission::Retry
    } else {
        Admission::Accept
    }
}

/// See [`admit`].
pub(crate) enum Admission {
    Accept,
    Retry,
    Refuse,
}
