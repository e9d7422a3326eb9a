//! Requests about what a queue holds: other settings, browse, remove, redrive, replay.
//!
//! Invariant: the shard does a bounded step for each, and a request ends after some of them and
//! says where to go on: a large queue holds up nobody.

use std::sync::Arc;

use tokio::sync::oneshot;
use waypost_log::RealVfs;
use waypost_shard::{Browsed, ManageError, Now, Part, Selection, Shard};
use waypost_wire::control::{
    self, Browse, Done, ManagedResponse, Peeked, PeekedMessage, QueueAdd, Redrive, Remove, Replay,
};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Code, RecordRef, record};

use crate::config;
use crate::connection::Conn;
use crate::manage;
use crate::shard_thread::Command;
use crate::stream_io::StreamError;

/// Steps of one request: some tens of milliseconds of the shard's time, with others between.
const STEPS_MAX: usize = 64;
/// Messages that one browse shows at most.
const BROWSE_MAX: u32 = 1000;

fn invalid(text: impl Into<String>) -> StreamError {
    StreamError::Refused(Code::Invalid, text.into())
}

/// Does work on the shard, and answers when what it did is durable.
async fn on_shard<T: Send + 'static>(
    conn: &Conn,
    work: impl FnOnce(&mut Shard<RealVfs>, Now) -> Result<T, ManageError> + Send + 'static,
) -> Result<T, StreamError> {
    let (reply, answer) = oneshot::channel();
    conn.node.shard.send(Command::Step {
        step: Box::new(move |shard, now| {
            let result = work(shard, now);
            Box::new(move || drop(reply.send(result)))
        }),
    });
    match answer.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(StreamError::Refused(error.code(), error.to_string())),
        Err(_) => Err(StreamError::Refused(
            Code::Draining,
            "the node stops".to_owned(),
        )),
    }
}

fn selection(select: Option<control::Select>) -> Result<Selection, StreamError> {
    Selection::from_message(&select.unwrap_or_default()).map_err(|e| invalid(e.to_string()))
}

fn may_consume(conn: &Conn, queue: &str) -> Result<(), StreamError> {
    let allowed = conn.principal.permissions.may_consume(queue);
    allowed.map_err(|denied| StreamError::Refused(denied.code(), denied.to_string()))
}

/// Gives a queue that the network made other settings.
pub(crate) async fn set(conn: &Arc<Conn>, set: QueueAdd) -> Result<ManagedResponse, StreamError> {
    conn.node.check_not_configured(&set.queue)?;
    let settings = manage::checked_settings(conn, &set.queue, set.settings)?;
    on_shard(conn, move |shard, _| shard.set_queue(&set.queue, settings)).await?;
    Ok(ManagedResponse::Done(Done::default()))
}

/// Shows selected messages, and where to go on: at the end that is where the request began, or the
/// queue's next offset, and nothing is shown.
pub(crate) async fn browse(
    conn: &Arc<Conn>,
    browse: Browse,
) -> Result<ManagedResponse, StreamError> {
    may_consume(conn, &browse.queue)?;
    let mut selection = selection(browse.select)?;
    let count = browse.count.clamp(1, BROWSE_MAX);
    let mut peeked = Peeked::default();
    for _ in 0..STEPS_MAX {
        let found = step(conn, &browse.queue, &selection, count).await?;
        peeked.next_offset = found.next_offset;
        selection.from_offset = found.next_offset;
        peeked
            .messages
            .extend(found.messages.into_iter().map(|m| PeekedMessage {
                offset: m.offset,
                receive_time_ms: m.receive_time_ms,
                record: m.body,
            }));
        if found.is_end || !peeked.messages.is_empty() {
            break;
        }
    }
    Ok(ManagedResponse::QueuePeek(peeked))
}

async fn step(
    conn: &Arc<Conn>,
    queue: &str,
    selection: &Selection,
    count: u32,
) -> Result<Browsed, StreamError> {
    let (queue, selection) = (queue.to_owned(), selection.clone());
    on_shard(conn, move |shard, _| {
        shard.browse(&queue, &selection, count)
    })
    .await
}

/// Removes selected messages.
pub(crate) async fn remove(
    conn: &Arc<Conn>,
    remove: Remove,
) -> Result<ManagedResponse, StreamError> {
    let mut selection = selection(remove.select)?;
    let mut done = Done::default();
    for _ in 0..STEPS_MAX {
        let (queue, select) = (remove.queue.clone(), selection.clone());
        let (count, next) = on_shard(conn, move |shard, now| {
            shard.remove_messages(now, &queue, &select)
        })
        .await?;
        done.count += count;
        done.next_offset = next.unwrap_or(0);
        let Some(next) = next else { break };
        selection.from_offset = next;
    }
    Ok(ManagedResponse::Done(done))
}

/// Moves dead letters back.
pub(crate) async fn redrive(
    conn: &Arc<Conn>,
    redrive: Redrive,
) -> Result<ManagedResponse, StreamError> {
    let mut selection = selection(redrive.select)?;
    let record = (!redrive.record.is_empty()).then_some(redrive.record);
    if let Some(body) = &record {
        record::verify(body).map_err(|e| StreamError::Refused(e.code(), format!("record: {e}")))?;
        let from = selection.from_offset;
        if selection.to_offset != from.checked_add(1) {
            return Err(invalid(
                "a record takes the place of one message: select one",
            ));
        }
    }
    let to = (!redrive.to_queue.is_empty()).then_some(redrive.to_queue);
    let mut done = Done::default();
    for _ in 0..STEPS_MAX {
        let (queue, select) = (redrive.queue.clone(), selection.clone());
        let (to, record) = (to.clone(), record.clone());
        let moved = on_shard(conn, move |shard, now| {
            shard.redrive(now, &queue, &select, to.as_deref(), record.as_ref())
        })
        .await?;
        done.count += moved.count;
        done.skipped += moved.stayed;
        if !moved.why.is_empty() {
            done.why = moved.why;
        }
        done.next_offset = moved.next_offset.unwrap_or(0);
        let Some(next) = moved.next_offset else { break };
        selection.from_offset = next;
    }
    Ok(ManagedResponse::Done(done))
}

/// Publishes copies of selected messages into a queue; what the queue holds when a request begins.
pub(crate) async fn replay(
    conn: &Arc<Conn>,
    replay: Replay,
) -> Result<ManagedResponse, StreamError> {
    may_consume(conn, &replay.queue)?;
    if replay.to_topic || !config::names::is_name(&replay.to_queue) {
        let text = "this node replays into queues: name one as to_queue";
        return Err(StreamError::Refused(Code::Unsupported, text.to_owned()));
    }
    let mut selection = selection(replay.select)?;
    let name = replay.queue.clone();
    let end = on_shard(conn, move |shard, _| shard.queue(&name))
        .await?
        .next_offset;
    selection.to_offset = Some(selection.to_offset.map_or(end, |to| to.min(end)));
    let mut done = Done::default();
    for _ in 0..STEPS_MAX {
        let (from, select) = (replay.queue.clone(), selection.clone());
        let to: Arc<str> = replay.to_queue.as_str().into();
        let copied = on_shard(conn, move |shard, now| {
            let found = shard.browse(&from, &select, waypost_wire::BATCH_MESSAGES_MAX as u32)?;
            let mut slab = SlabBuilder::new();
            for message in &found.messages {
                slab.push(&copy(&from, message));
            }
            let count = found.messages.len() as u64;
            let refused = match count {
                0 => None,
                _ => shard.replay(now, Part::new(to, slab.finish())).err(),
            };
            Ok((count, found, refused.map(|e| (e.code(), e.to_string()))))
        })
        .await?;
        let (count, found, refused) = copied;
        if let Some((code, text)) = refused {
            if done.count == 0 {
                return Err(StreamError::Refused(code, text));
            }
            done.why = text;
            break;
        }
        done.count += count;
        done.next_offset = if found.is_end { 0 } else { found.next_offset };
        if found.is_end {
            break;
        }
        selection.from_offset = found.next_offset;
    }
    Ok(ManagedResponse::Done(done))
}

/// A message again, which says where it is from. It is a new one: its producer's sequence would
/// make it a repeat.
fn copy(queue: &str, message: &waypost_shard::Peeked) -> bytes::Bytes {
    let Ok(record) = RecordRef::parse(&message.body) else {
        return message.body.clone();
    };
    let mut copy = record.to_message();
    copy.producer = None;
    copy.headers
        .retain(|(name, _)| !name.starts_with("waypost-replay-"));
    if copy.headers.len() + 2 <= record::HEADERS_MAX {
        let offset = message.offset.to_string();
        for (name, value) in [("queue", queue), ("offset", offset.as_str())] {
            let value = bytes::Bytes::copy_from_slice(value.as_bytes());
            copy.headers.push((format!("waypost-replay-{name}"), value));
        }
    }
    copy.to_body()
}
