//! A consumer's stream: deliveries down, credit and acks up. Each direction has its own task, so
//! that a consumer that does not read can still ack.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use quinn::SendStream;
use waypost_core::group::ConsumerId;
use waypost_shard::{Attach, Start, group_options};
use waypost_wire::control::{self, OpenConsumer, Opened};
use waypost_wire::data::{ConsumerFrame, Deliver};
use waypost_wire::{Code, FrameType};

use crate::connection::Conn;
use crate::mailbox::Mailbox;
use crate::shard_thread::{Command, ConsumerEvent, ShardHandle};
use crate::stream_io::{FrameReader, Outgoing, StreamError, end_well};

/// The shard is told of written bytes in steps of this size.
const WRITTEN_STEP: u64 = 256 << 10;
/// Bytes of frames that may wait for the shard before the stream is read on.
const AHEAD_BYTES: usize = 64 << 10;
/// What a DELIVER has beside its slab at most: its head, and the detail of a whole batch.
const HEAD_BYTES_MAX: u64 = 8 << 10;
/// The longest name of a group.
const NAME_BYTES_MAX: usize = 128;

pub(crate) async fn serve(
    conn: &Arc<Conn>,
    open: OpenConsumer,
    send: &mut SendStream,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    check(conn, &open)?;
    let shard = &conn.node.shard;
    let consumer = conn.node.next_consumer.fetch_add(1, Relaxed);
    let mailbox = Arc::new(Mailbox::default());
    let start = place(open.start(), open.start_offset, open.start_time_ms);
    let options = group_options(open.kind, &open.filters)
        .map_err(|error| StreamError::Refused(Code::Invalid, error.to_string()))?;
    let attach = Attach {
        options,
        consumer,
        queue: open.queue.as_str().into(),
        group: open.group.clone(),
        start,
        ack_deadline_ms: Some(open.ack_deadline_ms).filter(|ms| *ms > 0),
        batch_bytes_max: conn.client_frame_bytes_max.saturating_sub(HEAD_BYTES_MAX),
    };
    let attached = shard
        .ask(|reply| Command::Attach {
            attach,
            mailbox: mailbox.clone(),
            reply,
        })
        .await;
    // From here on the shard knows the consumer, however this ends.
    conn.own_consumers.add(consumer);
    let _leave = Leave {
        conn: conn.clone(),
        consumer,
    };
    let ack_deadline_ms = match attached {
        Some(Ok(ms)) => ms,
        Some(Err(error)) => return Err(StreamError::Refused(error.code(), error.to_string())),
        None => {
            return Err(StreamError::Refused(
                Code::Draining,
                "the node stops".to_owned(),
            ));
        }
    };
    let opened = Opened {
        ack_deadline_ms,
        group: open.group,
        consumer,
        ..Opened::default()
    };
    send.write_all(&control::bytes_of(FrameType::Opened, &opened))
        .await?;

    {
        let read = read_frames(shard, consumer, reader);
        let write = write_deliveries(conn, consumer, &mailbox, send);
        tokio::pin!(read, write);
        tokio::select! {
            // At the client's end the shard is told, and answers through the mailbox.
            result = &mut read => {
                let is_clean = result.is_ok();
                match result {
                    Err(StreamError::Lost) => return Err(StreamError::Lost),
                    // The frame that is being written ends before the reason is told.
                    Err(error) => mailbox.push(ConsumerEvent::Closed(error.code(), error.to_string())),
                    Ok(()) => {}
                }
                shard.send(Command::Detach { consumer, is_clean });
                write.await?;
            }
            result = &mut write => result?,
        }
    }
    end_well(send).await
}

/// A place in a queue, as requests name it.
pub(crate) fn place(start: control::Start, offset: u64, time_ms: u64) -> Start {
    match start {
        control::Start::Beginning => Start::Beginning,
        control::Start::End => Start::End,
        control::Start::Offset => Start::Offset(offset),
        control::Start::Time => Start::Time(time_ms),
    }
}

struct Leave {
    conn: Arc<Conn>,
    consumer: ConsumerId,
}

impl Drop for Leave {
    fn drop(&mut self) {
        // A second time says nothing new.
        self.conn.own_consumers.remove(self.consumer);
        self.conn.node.shard.send(Command::Detach {
            consumer: self.consumer,
            is_clean: false,
        });
    }
}

async fn read_frames(
    shard: &ShardHandle,
    consumer: ConsumerId,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    let mut ahead = 0;
    while let Some(frame) = reader.next().await? {
        ahead += frame.payload.len() + 64;
        let frame = ConsumerFrame::parse(&frame)?;
        shard.send(Command::Frame { consumer, frame });
        if ahead >= AHEAD_BYTES {
            ahead = 0;
            shard.reached().await;
        }
    }
    Ok(())
}

/// Writes until the shard says that the consumer is detached.
async fn write_deliveries(
    conn: &Conn,
    consumer: ConsumerId,
    mailbox: &Mailbox<ConsumerEvent>,
    send: &mut SendStream,
) -> Result<(), StreamError> {
    let mut events = Vec::new();
    let mut out = Outgoing::default();
    let mut written = 0;
    loop {
        mailbox.take(&mut events).await;
        let mut end = None;
        for event in events.drain(..) {
            match event {
                ConsumerEvent::Deliver(deliver) if too_large(conn, &deliver) => {
                    let text = format!(
                        "message {} has {} bytes, more than the client's frames may have ({})",
                        deliver.first_offset,
                        deliver.slab.bytes().len(),
                        conn.client_frame_bytes_max
                    );
                    end = end.or(Some(Err(StreamError::Refused(Code::TooLarge, text))));
                }
                ConsumerEvent::Deliver(deliver) => {
                    deliver.put_head(out.buffer());
                    out.push(deliver.slab.bytes());
                    written += deliver.slab.bytes().len() as u64;
                }
                ConsumerEvent::Closed(code, text) => {
                    end = Some(Err(StreamError::Refused(code, text)))
                }
                ConsumerEvent::Detached => end = end.or(Some(Ok(()))),
            }
        }
        out.write(send).await?;
        if written >= WRITTEN_STEP {
            conn.node.shard.send(Command::Written {
                consumer,
                bytes: std::mem::take(&mut written),
            });
        }
        if let Some(end) = end {
            return end;
        }
    }
}

/// One message alone may pass what the client's frames hold.
fn too_large(conn: &Conn, deliver: &Deliver) -> bool {
    deliver.slab.bytes().len() as u64 + HEAD_BYTES_MAX > conn.client_frame_bytes_max
}

fn check(conn: &Conn, open: &OpenConsumer) -> Result<(), StreamError> {
    if let Err(denied) = conn.principal.permissions.may_consume(&open.queue) {
        return Err(StreamError::Refused(denied.code(), denied.to_string()));
    }
    check_group_name(&open.group).map_err(|text| StreamError::Refused(Code::Invalid, text))
}

/// Says what is wrong with a group's name.
pub(crate) fn check_group_name(group: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=NAME_BYTES_MAX).contains(&group.len()) && group.chars().all(is_allowed) {
        return Ok(());
    }
    Err(format!(
        "group '{group}': 1 to {NAME_BYTES_MAX} of a-z, A-Z, 0-9, '.', '_' and '-' expected"
    ))
}
