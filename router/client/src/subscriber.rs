//! Live subscriptions: what is published from now on and matches, as long as one keeps up.
//!
//! There is no driver and no buffer of our own: [`Subscriber::next`] reads the stream, and QUIC's
//! window bounds what waits. A subscriber that reads too slowly loses messages at the node and is
//! told how many, at the place where they are missing; a strict one ends there instead.

use std::sync::Arc;

use bytes::Bytes;
use waypost_wire::control::{self, OpenSubscriber, Slow};
use waypost_wire::data::{self, Live};
use waypost_wire::{Code, Filter, FrameType};

use crate::client::{Client, Handle};
use crate::error::Error;
use crate::session::{Session, Stream};
use crate::stream;

/// What a subscriber is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriberEvent {
    /// Messages that the node received at the same time.
    Batch(Live),
    /// So many messages are missing here, because this side read too slowly.
    Lost(u64),
    /// The connection was lost and is back; an unknown number of messages is missing here.
    Reconnected,
}

/// Sees messages as they pass; nothing is kept for it. See [`Client::subscriber`].
pub struct Subscriber {
    handle: Arc<Handle>,
    first: Bytes,
    open: Option<(Arc<Session>, Stream)>,
    failures: u32,
    is_strict: bool,
}

impl Client {
    /// Subscribes to all topics that match one of `filters`. `name` is for people.
    pub async fn subscriber(
        &self,
        filters: &[Filter],
        name: impl Into<String>,
    ) -> Result<Subscriber, Error> {
        self.subscribe(filters, name.into(), Slow::Lose).await
    }

    /// The same, but where it would lose messages because it reads too slowly,
    /// [`Subscriber::next`] gives an error with [`Code::Slow`].
    pub async fn strict_subscriber(
        &self,
        filters: &[Filter],
        name: impl Into<String>,
    ) -> Result<Subscriber, Error> {
        self.subscribe(filters, name.into(), Slow::Disconnect).await
    }

    async fn subscribe(
        &self,
        filters: &[Filter],
        name: String,
        slow: Slow,
    ) -> Result<Subscriber, Error> {
        let first = OpenSubscriber {
            filters: filters.iter().map(|f| f.as_str().to_owned()).collect(),
            name,
            slow: slow as i32,
        };
        let mut subscriber = Subscriber {
            handle: self.inner.clone(),
            first: control::bytes_of(FrameType::OpenSubscriber, &first),
            open: None,
            failures: 0,
            is_strict: slow == Slow::Disconnect,
        };
        subscriber.open = Some(subscriber.reopen().await?);
        Ok(subscriber)
    }
}

impl Subscriber {
    /// The next event; `None` once the client is closed. Nothing is lost when the future is
    /// dropped. After an error with [`Code::Slow`] it may be called again: it subscribes anew.
    pub async fn next(&mut self) -> Result<Option<SubscriberEvent>, Error> {
        loop {
            let result = match &mut self.open {
                Some((session, stream)) => tokio::select! {
                    biased;
                    event = read(stream) => event,
                    // The node drains and has nothing more for us: go with it.
                    () = session.drained() => Ok(None),
                },
                None => match self.reopen().await {
                    Ok(open) => {
                        self.open = Some(open);
                        return Ok(Some(SubscriberEvent::Reconnected));
                    }
                    Err(error) => Err(error),
                },
            };
            match result {
                Ok(Some(event)) => {
                    self.failures = 0;
                    return Ok(Some(event));
                }
                Ok(None) => self.open = None,
                Err(Error::Closed) => return Ok(None),
                Err(error) if self.is_strict && error.code() == Some(Code::Slow) => {
                    self.open = None;
                    return Err(error);
                }
                Err(error) => {
                    self.open = None;
                    self.handle.pause(error, &mut self.failures).await?;
                }
            }
        }
    }

    async fn reopen(&self) -> Result<(Arc<Session>, Stream), Error> {
        let session = self.handle.session().await?;
        let mut stream = session.open_subscriber(self.first.clone()).await?;
        stream.reader.opened().await?;
        Ok((session, stream))
    }
}

/// The next event of one stream; `None` where the node closed it.
async fn read(stream: &mut Stream) -> Result<Option<SubscriberEvent>, Error> {
    const EXPECTED: &str = "LIVE, LOST, CLOSED or ERROR";
    let Some(frame) = stream.reader.next().await? else {
        return Err(stream::ended(EXPECTED));
    };
    match frame.kind {
        FrameType::Live => Ok(Some(SubscriberEvent::Batch(Live::parse(&frame)?))),
        FrameType::Lost => Ok(Some(SubscriberEvent::Lost(data::parse_lost(&frame)?))),
        FrameType::Closed => Ok(None),
        _ => Err(frame.unexpected(EXPECTED).into()),
    }
}
