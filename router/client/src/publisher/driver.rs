//! Carries an outbox to the node, over as many streams as it takes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quinn::SendStream;
use waypost_wire::FrameType;
use waypost_wire::control::{self, Explains, OpenPublisher, Opened};
use waypost_wire::data::{self, Confirm, Receipts};

use super::{Explain, PublisherOptions, Shared};
use crate::client::Handle;
use crate::error::Error;
use crate::session::{Session, Stream};
use crate::stream::{self, FrameReader};

/// Bytes that are taken under one lock and written at once.
const WRITE_BYTES: usize = 256 << 10;

/// A publisher stream that the node has opened.
pub(super) struct Open {
    session: Arc<Session>,
    stream: Stream,
    opened: Opened,
}

impl Open {
    pub(super) fn opened(&self) -> &Opened {
        &self.opened
    }
}

pub(super) async fn open(handle: &Handle, options: &PublisherOptions) -> Result<Open, Error> {
    let first = OpenPublisher {
        name: options.name.clone(),
        window_messages: options.window_messages,
        producer: options
            .producer
            .map_or_else(Bytes::new, |p| Bytes::copy_from_slice(&p.id)),
        epoch: options.producer.map_or(0, |p| p.epoch),
        mandatory: options.mandatory,
        receipts: options.receipts,
        explains: explains(options.explain) as i32,
    };
    let session = handle.session().await?;
    let mut stream = session
        .open(control::bytes_of(FrameType::OpenPublisher, &first))
        .await?;
    let opened = stream.reader.opened().await?;
    Ok(Open {
        session,
        stream,
        opened,
    })
}

fn explains(explain: Explain) -> Explains {
    match explain {
        Explain::Nothing => Explains::Nothing,
        Explain::Marked => Explains::Marked,
        Explain::Everything => Explains::Everything,
    }
}

/// Runs until the publisher is closed and settled, or cannot go on.
pub(super) async fn drive(
    handle: Arc<Handle>,
    shared: Arc<Shared>,
    options: PublisherOptions,
    first: Open,
) {
    let error = match run(&handle, &shared, &options, first).await {
        Ok(()) => Error::Closed,
        Err(error) => {
            tracing::debug!(%error, publisher = options.name, "publisher ended");
            error
        }
    };
    shared.outbox().end(error);
    shared.room.notify_waiters();
    shared.told.notify_waiters();
    shared.closed.send_replace(true);
}

async fn run(
    handle: &Handle,
    shared: &Shared,
    options: &PublisherOptions,
    first: Open,
) -> Result<(), Error> {
    let mut next = Some(first);
    let mut failures = 0;
    let mut settled = 0;
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
        let now = shared.outbox().stats().settled;
        if now > settled {
            (settled, failures) = (now, 0);
        }
        match result {
            Ok(()) => {
                let outbox = shared.outbox();
                if outbox.closing && outbox.all_settled() {
                    return Ok(());
                }
            }
            Err(error) => handle.pause(error, &mut failures).await?,
        }
    }
}

async fn one_stream(shared: &Shared, open: Open) -> Result<(), Error> {
    let Open {
        session,
        stream,
        opened,
    } = open;
    let Stream {
        mut send,
        mut reader,
        guard: _guard,
    } = stream;
    let welcome = &session.welcome;
    shared
        .outbox()
        .reopen(&opened, welcome.batch_messages_max, welcome.batch_bytes_max);
    shared.outbox().connection = session.id;
    shared.receipts().reopen();
    let result = tokio::select! {
        result = read(shared, &mut reader) => result,
        result = write(shared, &session, &mut send) => match result {
            // What the node says on the other half is the better reason.
            Err(Error::Refused { .. }) => read(shared, &mut reader).await,
            result => result,
        },
    };
    if let Err(Error::Protocol(error)) = &result {
        let code = quinn::VarInt::from_u32(error.code() as u32);
        let _ = send.reset(code);
    }
    result
}

/// Writes what is queued; returns only with an error.
async fn write(shared: &Shared, session: &Session, send: &mut SendStream) -> Result<(), Error> {
    let mut chunks: Vec<Bytes> = Vec::new();
    let number_from = shared.outbox().number_from();
    if let Some(number) = number_from {
        let mut frame = BytesMut::new();
        data::put_number_from(&mut frame, number);
        chunks.push(frame.freeze());
    }
    loop {
        let done = session.is_draining() || {
            let mut outbox = shared.outbox();
            outbox.take(&mut chunks, WRITE_BYTES);
            outbox.closing && outbox.all_sent()
        };
        // Bound to a name: the guard must not live as long as the block.
        let taken = shared.receipts().take_ack();
        if let Some(number) = taken {
            let mut ack = BytesMut::new();
            data::put_receipt_ack(&mut ack, number);
            chunks.push(ack.freeze());
        }
        if !chunks.is_empty() {
            shared.room.notify_waiters();
            send.write_all_chunks(&mut chunks).await?;
            chunks.clear();
            continue;
        }
        if done {
            stream::finish(send);
            return std::future::pending().await;
        }
        tokio::select! {
            () = shared.work.notified() => {}
            () = session.drained() => {}
        }
    }
}

/// Reads confirms until CLOSED.
async fn read(shared: &Shared, reader: &mut FrameReader) -> Result<(), Error> {
    const EXPECTED: &str = "CONFIRM, EXPLAINED, RECEIPT, CLOSED or ERROR";
    loop {
        let Some(frame) = reader.next().await? else {
            return Err(stream::ended(EXPECTED));
        };
        match frame.kind {
            FrameType::Confirm => {
                let confirm = Confirm::parse(&frame)?;
                let (confirm, again) = shared.outbox().before_refusal(confirm);
                let settled = shared.outbox().settle(confirm);
                settled.map_err(|what| frame.malformed(what))?;
                shared.work.notify_one();
                if let Some(refused) = again {
                    // A new stream begins with what was refused.
                    return Err(Error::Refused {
                        code: refused.code,
                        message: refused.text,
                        retryable: true,
                    });
                }
            }
            FrameType::Explained if shared.explains => {
                let explained = control::parse(&frame)?;
                let taken = shared.outbox().explained(explained);
                taken.map_err(|what| frame.malformed(what))?;
            }
            FrameType::Receipt if shared.receipts().is_wanted => {
                let receipts = Receipts::parse(&frame)?;
                shared.receipts().put(receipts);
                shared.told.notify_waiters();
            }
            FrameType::Closed => {
                let outbox = shared.outbox();
                return match outbox.sent_unsettled() {
                    0 => Ok(()),
                    left => Err(frame
                        .malformed(format!("{left} messages were not settled before it"))
                        .into()),
                };
            }
            _ => return Err(frame.unexpected(EXPECTED).into()),
        }
    }
}
