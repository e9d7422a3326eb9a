//! The client: one connection to a node that is made anew when it is lost.
//!
//! A task, the keeper, owns the control stream. Everybody else asks for the current session and
//! waits where there is none. Invariant: at most one session is offered at a time, and never one
//! that drains.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use waypost_wire::control::{self, GoAway, Welcome};
use waypost_wire::{Code, FrameType};

use crate::error::{ConnectError, Error};
use crate::options::ConnectOptions;
use crate::session::{Control, Session};
use crate::stream;
use crate::transport;

/// Events that a slow listener may be behind; older ones are left out.
const EVENTS_KEPT: usize = 64;

/// A connection to a node. Cheap to clone; it is closed when the last clone, publisher, consumer
/// and subscriber are gone, or by [`Client::close`].
///
/// Must be used inside a tokio runtime with time and I/O enabled; a current-thread one is best.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Handle>,
}

/// Ends the keeper when the last user is gone.
pub(crate) struct Handle {
    shared: Arc<Shared>,
    keeper: tokio::task::AbortHandle,
}

struct Shared {
    options: ConnectOptions,
    endpoint: quinn::Endpoint,
    state: watch::Sender<State>,
    events: broadcast::Sender<Event>,
}

enum State {
    Connecting,
    Up(Arc<Session>),
    Failed(Arc<ConnectError>),
    Closed,
}

/// What happened to the connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Connected again, after the first time; streams are being opened anew.
    Connected {
        /// The node's name.
        node: String,
    },
    /// The node drains; what is under way is finished, then the client connects again.
    GoAway {
        /// Why, in the node's words.
        reason: String,
        /// How long the node waits.
        grace: Duration,
    },
    /// The connection was lost.
    Disconnected {
        /// Why.
        error: Error,
    },
    /// Connecting again failed, or is about to be tried.
    Retry {
        /// From 1.
        attempt: u32,
        /// The wait before it.
        delay: Duration,
        /// What became of the attempt before, if there was one.
        error: Option<Arc<ConnectError>>,
    },
    /// The client gave up; every operation fails with this.
    Failed {
        /// Why.
        error: Arc<ConnectError>,
    },
}

impl Client {
    /// Connects. Tries once: whether to try again is the caller's to decide, by
    /// [`ConnectError::is_retryable`].
    pub async fn connect(options: ConnectOptions) -> Result<Client, ConnectError> {
        let endpoint = transport::endpoint()?;
        let (session, control) = Session::connect(&endpoint, &options, 1).await?;
        let shared = Arc::new(Shared {
            options,
            endpoint,
            state: watch::Sender::new(State::Up(session.clone())),
            events: broadcast::Sender::new(EVENTS_KEPT),
        });
        let keeper = tokio::spawn(keep(shared.clone(), session, control)).abort_handle();
        Ok(Client {
            inner: Arc::new(Handle { shared, keeper }),
        })
    }

    /// What the node said of itself and its limits; waits while there is no connection.
    pub async fn welcome(&self) -> Result<Welcome, Error> {
        Ok(self.inner.session().await?.welcome.clone())
    }

    /// The round trip time that QUIC estimates; `None` while there is no connection.
    pub fn rtt(&self) -> Option<Duration> {
        self.quic().map(|quic| quic.rtt())
    }

    /// What QUIC counts: datagrams, losses, the path's MTU and window; `None` while there is no
    /// connection.
    pub fn quic_stats(&self) -> Option<quinn::ConnectionStats> {
        self.quic().map(|quic| quic.stats())
    }

    fn quic(&self) -> Option<quinn::Connection> {
        match &*self.inner.shared.state.borrow() {
            State::Up(session) => Some(session.quic.clone()),
            State::Connecting | State::Failed(_) | State::Closed => None,
        }
    }

    /// Events from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.shared.events.subscribe()
    }

    /// Closes the connection at once; what is not settled fails with [`Error::Closed`]. Close
    /// publishers and consumers first to settle it.
    pub async fn close(self) {
        self.inner.close();
        self.inner.shared.endpoint.wait_idle().await;
    }
}

impl Handle {
    /// The session in force; waits for one.
    pub(crate) async fn session(&self) -> Result<Arc<Session>, Error> {
        let mut state = self.shared.state.subscribe();
        loop {
            match &*state.borrow_and_update() {
                // A session that has just been lost stays here until the keeper sees it.
                State::Up(session) if session.quic.close_reason().is_none() => {
                    return Ok(session.clone());
                }
                State::Up(_) | State::Connecting => {}
                State::Failed(error) => return Err(Error::NotConnected(error.clone())),
                State::Closed => return Err(Error::Closed),
            }
            if state.changed().await.is_err() {
                return Err(Error::Closed);
            }
        }
    }

    /// Waits before a stream that ended with `error` is opened again; gives the error back where
    /// that is no use. `failures` counts refusals in a row.
    pub(crate) async fn pause(&self, error: Error, failures: &mut u32) -> Result<(), Error> {
        // The keeper decides what follows a lost connection; `session` waits for it.
        if matches!(error, Error::Lost(_)) {
            return Ok(());
        }
        match self.shared.options.reconnect.delay(*failures, random()) {
            Some(delay) if error.reopens() => {
                *failures += 1;
                tokio::time::sleep(delay).await;
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn close(&self) {
        self.keeper.abort();
        if let State::Up(session) = self.shared.state.send_replace(State::Closed) {
            session.close(Code::Closed, "client closed");
        }
        self.shared.endpoint.close(
            quinn::VarInt::from_u32(Code::Closed as u32),
            b"client closed",
        );
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

/// How a session came to its end.
enum End {
    GoAway(GoAway),
    Lost(Error),
}

async fn keep(shared: Arc<Shared>, mut session: Arc<Session>, mut control: Control) {
    let mut number = session.number;
    loop {
        let end = watch_control(&session, &mut control).await;
        if !shared.step(State::Connecting) {
            return;
        }
        let reason = match end {
            End::GoAway(goaway) => {
                drain(&shared, &session, &mut control, &goaway).await;
                goaway.reason
            }
            End::Lost(error) => {
                let text = error.to_string();
                tracing::info!(error = text, "connection lost");
                shared.tell(Event::Disconnected {
                    error: error.clone(),
                });
                if !error.reopens() {
                    session.close(Code::Protocol, &text);
                    shared.fail(ConnectError::from_stream(&shared.options.address, error));
                    return;
                }
                text
            }
        };
        session.close(Code::Closed, "session ended");
        number += 1;
        match reconnect(&shared, number, reason).await {
            Ok(next) => (session, control) = next,
            Err(error) => return shared.fail(error),
        }
        if !shared.step(State::Up(session.clone())) {
            return session.close(Code::Closed, "client closed");
        }
        shared.tell(Event::Connected {
            node: session.welcome.node.clone(),
        });
    }
}

/// Reads the control stream until the session ends or drains.
async fn watch_control(session: &Session, control: &mut Control) -> End {
    tokio::select! {
        error = session.quic.closed() => End::Lost(error.into()),
        frame = control.reader.next() => match frame {
            Ok(Some(frame)) if frame.kind == FrameType::GoAway => {
                match control::parse::<GoAway>(&frame) {
                    Ok(goaway) => End::GoAway(goaway),
                    Err(error) => End::Lost(error.into()),
                }
            }
            Ok(Some(frame)) => End::Lost(frame.unexpected("GOAWAY or ERROR").into()),
            Ok(None) => End::Lost(stream::ended("an open control stream")),
            Err(error) => End::Lost(error),
        },
    }
}

/// Lets everybody finish, for as long as the node waits.
async fn drain(shared: &Shared, session: &Session, control: &mut Control, goaway: &GoAway) {
    let grace = Duration::from_millis(goaway.grace_ms);
    tracing::info!(reason = goaway.reason, ?grace, "the node drains");
    shared.tell(Event::GoAway {
        reason: goaway.reason.clone(),
        grace,
    });
    session.drain();
    tokio::select! {
        () = session.idle() => {}
        _ = session.quic.closed() => {}
        _ = control.reader.next() => {}
        () = tokio::time::sleep(grace) => {}
    }
}

async fn reconnect(
    shared: &Shared,
    number: u64,
    reason: String,
) -> Result<(Arc<Session>, Control), ConnectError> {
    let mut attempt = 0;
    let mut error = None;
    loop {
        let Some(delay) = shared.options.reconnect.delay(attempt, random()) else {
            return Err(ConnectError::Lost {
                address: shared.options.address.clone(),
                reason,
            });
        };
        attempt += 1;
        shared.tell(Event::Retry {
            attempt,
            delay,
            error: error.take(),
        });
        tokio::time::sleep(delay).await;
        match Session::connect(&shared.endpoint, &shared.options, number).await {
            Ok(session) => return Ok(session),
            Err(failed) if failed.is_retryable() => {
                tracing::debug!(error = %failed, attempt, "connecting again failed");
                error = Some(Arc::new(failed));
            }
            Err(failed) => return Err(failed),
        }
    }
}

impl Shared {
    fn tell(&self, event: Event) {
        // Nobody listens: that is no fault.
        let _ = self.events.send(event);
    }

    fn fail(&self, error: ConnectError) {
        let error = Arc::new(error);
        tracing::warn!(%error, "not connected any more");
        self.tell(Event::Failed {
            error: error.clone(),
        });
        self.step(State::Failed(error));
    }

    /// Changes the state; `false` where the client was closed meanwhile.
    fn step(&self, next: State) -> bool {
        self.state.send_if_modified(|state| {
            let open = !matches!(state, State::Closed);
            if open {
                *state = next;
            }
            open
        })
    }
}

/// A die for jitter; nothing secret depends on it.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0)
}
