//! Requests about what a queue holds: other settings, browse, remove, redrive.
//!
//! Invariant: the shard does a bounded step for each, and a request ends after some of them and
//! says where to go on: a large queue holds up nobody.

use std::sync::Arc;

use tokio::sync::oneshot;
use waypost_log::RealVfs;
use waypost_shard::{Browsed, ManageError, Now, Selection, Shard};
use waypost_wire::control::{
    self, Browse, Done, ManagedResponse, Peeked, PeekedMessage, QueueAdd, Redrive, Remove,
};
use waypost_wire::{Code, record};

use crate::connection::Conn;
use crate::manage;
use crate::shard_thread::Command;
use crate::stream_io::StreamError;

/// Steps of one request: some tens of milliseconds of the shard's time, with others between.
pub(crate) const STEPS_MAX: usize = 64;
/// Messages that one browse shows at most.
const BROWSE_MAX: u32 = 1000;

pub(crate) fn invalid(text: impl Into<String>) -> StreamError {
    StreamError::Refused(Code::Invalid, text.into())
}

/// Does work on the shard, and answers when what it did is durable.
pub(crate) async fn on_shard<T: Send + 'static>(
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

pub(crate) fn selection(select: Option<control::Select>) -> Result<Selection, StreamError> {
    Selection::from_message(&select.unwrap_or_default()).map_err(|e| invalid(e.to_string()))
}

pub(crate) fn may_consume(conn: &Conn, queue: &str) -> Result<(), StreamError> {
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
