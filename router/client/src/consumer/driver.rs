//! Carries deliveries in and words out, over as many streams as it takes.

use std::sync::Arc;

use bytes::BytesMut;
use quinn::SendStream;
use waypost_wire::FrameType;
use waypost_wire::control::{self, OpenConsumer};
use waypost_wire::data::Deliver;

use super::inbox::At;
use super::{ConsumerOptions, Shared};
use crate::client::Handle;
use crate::error::Error;
use crate::session::{Session, Stream};
use crate::stream::{self, FrameReader};

/// A consumer stream that the node has opened.
pub(super) struct Open {
    session: Arc<Session>,
    stream: Stream,
    /// The number that the node knows the consumer by.
    number: u64,
}

pub(super) async fn open(handle: &Handle, options: &ConsumerOptions) -> Result<Open, Error> {
    let first = OpenConsumer {
        queue: options.queue.clone(),
        group: options.group.clone(),
        name: options.name.clone(),
        start: options.start as i32,
        start_offset: options.start_offset,
        ack_deadline_ms: options.ack_deadline_ms,
        kind: options.kind as i32,
        filters: options
            .filters
            .iter()
            .map(|f| f.as_str().to_owned())
            .collect(),
        start_time_ms: options.start_time_ms,
    };
    let session = handle.session().await?;
    let mut stream = session
        .open(control::bytes_of(FrameType::OpenConsumer, &first))
        .await?;
    let number = stream.reader.opened().await?.consumer;
    Ok(Open {
        session,
        stream,
        number,
    })
}

/// Runs until the consumer is closed, or cannot go on.
pub(super) async fn drive(
    handle: Arc<Handle>,
    shared: Arc<Shared>,
    options: ConsumerOptions,
    first: Open,
) {
    let error = match run(&handle, &shared, &options, first).await {
        Ok(()) => Error::Closed,
        Err(error) => {
            tracing::debug!(%error, queue = options.queue, group = options.group, "consumer ended");
            error
        }
    };
    let mut inbox = shared.inbox();
    inbox.ended = Some(error);
    inbox.closed = None;
    drop(inbox);
    shared.ready.notify_one();
}

async fn run(
    handle: &Handle,
    shared: &Shared,
    options: &ConsumerOptions,
    first: Open,
) -> Result<(), Error> {
    let mut next = Some(first);
    let mut failures = 0;
    let mut delivered = 0;
    loop {
        let result = match next.take() {
            Some(open) => one_stream(shared, open).await,
            None => match open(handle, options).await {
                Ok(open) => {
                    next = Some(open);
                    continue;
                }
                Err(error) => Err(error),
            },
        };
        let now = shared.inbox().stats().delivered;
        if now > delivered {
            (delivered, failures) = (now, 0);
        }
        match result {
            Ok(()) if shared.inbox().closing => return Ok(()),
            Ok(()) => {}
            // What was said and not synced comes again; who is closing must know.
            Err(error) if shared.inbox().closing => return Err(error),
            Err(error) => handle.pause(error, &mut failures).await?,
        }
    }
}

async fn one_stream(shared: &Shared, open: Open) -> Result<(), Error> {
    let Open {
        session,
        stream,
        number,
    } = open;
    let Stream {
        mut send,
        mut reader,
        guard: _guard,
    } = stream;
    shared.inbox().reopen(At {
        connection: session.id,
        consumer: number,
    });
    let result = tokio::select! {
        result = read(shared, &mut reader) => result,
        result = write(shared, &session, &mut send) => match result {
            // What the node says on the other half is the better reason.
            Err(Error::Refused { .. }) => read(shared, &mut reader).await,
            result => result,
        },
    };
    if let Err(Error::Protocol(error)) = &result {
        let _ = send.reset(quinn::VarInt::from_u32(error.code() as u32));
    }
    result
}

/// Writes words and credit; returns only with an error.
async fn write(shared: &Shared, session: &Session, send: &mut SendStream) -> Result<(), Error> {
    let mut buffer = BytesMut::new();
    loop {
        let done = shared.inbox().put(&mut buffer);
        if !buffer.is_empty() {
            send.write_chunk(buffer.split().freeze()).await?;
        }
        if done {
            stream::finish(send);
            return std::future::pending().await;
        }
        tokio::select! {
            () = shared.work.notified() => {}
            () = session.drained(), if !shared.inbox().draining => {
                shared.inbox().draining = true;
            }
        }
    }
}

/// Reads deliveries until CLOSED.
async fn read(shared: &Shared, reader: &mut FrameReader) -> Result<(), Error> {
    const EXPECTED: &str = "DELIVER, CLOSED or ERROR";
    loop {
        let Some(frame) = reader.next().await? else {
            return Err(stream::ended(EXPECTED));
        };
        match frame.kind {
            FrameType::Deliver => {
                let delivered = shared.inbox().deliver(Deliver::parse(&frame)?);
                delivered.map_err(|what| frame.malformed(what))?;
                shared.ready.notify_one();
            }
            FrameType::Closed => return Ok(()),
            _ => return Err(frame.unexpected(EXPECTED).into()),
        }
    }
}
