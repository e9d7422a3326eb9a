//! Copies of what a queue holds: into a queue, or to a topic through the routes.
//!
//! Invariants: a request copies only what the queue held when it began, so that copies that come
//! back to it are not copied again. The shard looks at a bounded stretch for each step, and to a
//! topic one batch is on its way at a time, like a publisher's: whoever else publishes has turns
//! between.

use std::sync::Arc;

use bytes::Bytes;
use waypost_shard::{Browsed, Part, Peeked, Selection};
use waypost_wire::control::{Done, ManagedResponse, Replay};
use waypost_wire::data::{Exception, ExceptionKind};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::topic::parse_topic;
use waypost_wire::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, Code, RecordRef, Slab, record};

use crate::config;
use crate::connection::Conn;
use crate::keeping::{STEPS_MAX, invalid, may_consume, on_shard, selection};
use crate::publisher::Republisher;
use crate::stream_io::StreamError;

/// Publishes copies of selected messages; of what the queue holds when a request begins.
pub(crate) async fn replay(
    conn: &Arc<Conn>,
    replay: Replay,
) -> Result<ManagedResponse, StreamError> {
    may_consume(conn, &replay.queue)?;
    let mut selection = selection(replay.select)?;
    let name = replay.queue.clone();
    let end = on_shard(conn, move |shard, _| shard.queue(&name))
        .await?
        .next_offset;
    selection.to_offset = Some(selection.to_offset.map_or(end, |to| to.min(end)));
    let done = match (replay.to_topic, replay.to_queue.as_str()) {
        (true, "") => {
            let topic = Some(replay.topic).filter(|topic| !topic.is_empty());
            to_topic(conn, &replay.queue, selection, topic).await?
        }
        (false, queue) if config::names::is_name(queue) => {
            into_queue(conn, &replay.queue, selection, queue).await?
        }
        _ => {
            let text = "replay: name one destination, a queue as to_queue or to_topic = true";
            return Err(invalid(text));
        }
    };
    Ok(ManagedResponse::Done(done))
}

async fn into_queue(
    conn: &Conn,
    queue: &str,
    mut selection: Selection,
    into: &str,
) -> Result<Done, StreamError> {
    let mut done = Done::default();
    for _ in 0..STEPS_MAX {
        let (from, select) = (queue.to_owned(), selection.clone());
        let to: Arc<str> = into.into();
        let copied = on_shard(conn, move |shard, now| {
            let found = shard.browse(&from, &select, BATCH_MESSAGES_MAX as u32)?;
            let mut slab = SlabBuilder::new();
            for message in &found.messages {
                slab.push(&copy(&from, message, None));
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
    Ok(done)
}

/// Through the routes under `topic`, or each under its own.
async fn to_topic(
    conn: &Arc<Conn>,
    queue: &str,
    mut selection: Selection,
    topic: Option<String>,
) -> Result<Done, StreamError> {
    if let Some(topic) = &topic {
        let refused = |code, text| StreamError::Refused(code, text);
        parse_topic(topic.as_bytes())
            .map_err(|error| refused(Code::BadTopic, format!("topic {topic:?}: {error}")))?;
        let allowed = conn.principal.permissions.may_publish(topic);
        allowed.map_err(|denied| refused(denied.code(), denied.to_string()))?;
    }
    let mut done = Done::default();
    let mut republisher = Republisher::new(conn);
    for _ in 0..STEPS_MAX {
        let (from, select) = (queue.to_owned(), selection.clone());
        let browse = move |shard: &mut waypost_shard::Shard<_>, _| {
            shard.browse(&from, &select, BATCH_MESSAGES_MAX as u32)
        };
        let found: Browsed = on_shard(conn, browse).await?;
        for (offsets, slab) in batches(queue, &found.messages, topic.as_deref()) {
            let mut said = republisher.batch(slab).await?;
            let rest = said.split_off(refused_for_now(&said, offsets.len()));
            let taken = offsets.len() - rest.len();
            add(&mut done, taken, said);
            if let Some(first) = rest.first() {
                // Nothing of these is anywhere: whoever asks goes on with them.
                if done == Done::default() {
                    return Err(StreamError::Refused(first.code, first.text.clone()));
                }
                done.next_offset = offsets[taken];
                return Ok(done);
            }
        }
        if found.is_end {
            done.next_offset = 0;
            break;
        }
        done.next_offset = found.next_offset;
        selection.from_offset = found.next_offset;
    }
    Ok(done)
}

/// What is said of a batch of `count` messages, whose sequences are their places: from which word
/// on it is about a whole end of the batch that can be taken later.
fn refused_for_now(said: &[Exception], count: usize) -> usize {
    let is_for_now = |e: &Exception| e.kind == ExceptionKind::Refused && e.code.is_retryable();
    let places = (0..count as u64).rev();
    let end = said.iter().rev().zip(places);
    let rest = end.take_while(|(e, place)| e.sequence == *place && is_for_now(e));
    said.len() - rest.count()
}

/// Counts what became of a batch.
fn add(done: &mut Done, count: usize, said: Vec<Exception>) {
    done.count += (count - said.len()) as u64;
    for exception in said {
        let number = match exception.kind {
            ExceptionKind::Dropped => &mut done.dropped,
            ExceptionKind::DeadLettered => &mut done.dead_lettered,
            ExceptionKind::Unroutable => &mut done.unroutable,
            ExceptionKind::Refused => &mut done.refused,
            ExceptionKind::Duplicate => &mut done.duplicates,
        };
        *number += 1;
        done.why = exception.text;
    }
}

/// Copies in batches as a publisher may send them, each with the offsets of what it copies.
fn batches(queue: &str, messages: &[Peeked], topic: Option<&str>) -> Vec<(Vec<u64>, Slab)> {
    let mut batches = Vec::new();
    let (mut offsets, mut slab) = (Vec::new(), SlabBuilder::new());
    for message in messages {
        let copy = copy(queue, message, topic);
        let is_full =
            offsets.len() >= BATCH_MESSAGES_MAX || slab.len() + copy.len() + 8 > BATCH_BYTES_MAX;
        if is_full && !offsets.is_empty() {
            batches.push((
                std::mem::take(&mut offsets),
                std::mem::take(&mut slab).finish(),
            ));
        }
        offsets.push(message.offset);
        slab.push(&copy);
    }
    if !offsets.is_empty() {
        batches.push((offsets, slab.finish()));
    }
    batches
}

/// A message again, which says where it is from. It is a new one: its producer's sequence would
/// make it a repeat.
fn copy(queue: &str, message: &Peeked, topic: Option<&str>) -> Bytes {
    let Ok(record) = RecordRef::parse(&message.body) else {
        return message.body.clone();
    };
    let mut copy = record.to_message();
    copy.producer = None;
    if let Some(topic) = topic {
        copy.topic = topic.to_owned();
    }
    copy.headers
        .retain(|(name, _)| !name.starts_with("waypost-replay-"));
    if copy.headers.len() + 2 <= record::HEADERS_MAX {
        let offset = message.offset.to_string();
        for (name, value) in [("queue", queue), ("offset", offset.as_str())] {
            let value = Bytes::copy_from_slice(value.as_bytes());
            copy.headers.push((format!("waypost-replay-{name}"), value));
        }
    }
    copy.to_body()
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_wire::Message;

    #[test]
    fn copies_go_in_batches_that_a_publisher_may_send() {
        let peeked = |offset: u64, bytes: usize| Peeked {
            offset,
            receive_time_ms: 0,
            body: Message::new("a", vec![0; bytes]).to_body(),
        };
        let shape = |messages: &[Peeked]| -> Vec<(u64, u32)> {
            let batches = batches("q", messages, None);
            let small = |slab: &Slab| slab.count() == 1 || slab.bytes().len() <= BATCH_BYTES_MAX;
            assert!(batches.iter().all(|(_, slab)| small(slab)));
            let first = |(offsets, slab): &(Vec<u64>, Slab)| (offsets[0], slab.count());
            batches.iter().map(first).collect()
        };
        assert_eq!(shape(&[]), []);
        let many: Vec<Peeked> = (0..300).map(|n| peeked(n * 2, 1)).collect();
        assert_eq!(shape(&many), [(0, 256), (512, 44)]);
        // As a queue holds them they fill a batch; with what a copy says besides, they do not fit.
        let full: Vec<Peeked> = (0..4).map(|n| peeked(n, (256 << 10) - 30)).collect();
        assert_eq!(shape(&full), [(0, 3), (3, 1)]);
        let large = [peeked(7, 3 << 20), peeked(8, 1)];
        assert_eq!(shape(&large), [(7, 1), (8, 1)]);
    }

    #[test]
    fn what_can_be_taken_later_is_the_end_of_a_batch() {
        let said = |sequence, kind, code| Exception {
            sequence,
            kind,
            code,
            text: String::new(),
        };
        let full = |sequence| said(sequence, ExceptionKind::Refused, Code::QueueFull);
        let never = |sequence| said(sequence, ExceptionKind::Refused, Code::Forbidden);
        assert_eq!(refused_for_now(&[], 3), 0);
        assert_eq!(refused_for_now(&[full(0), full(1), full(2)], 3), 0);
        assert_eq!(refused_for_now(&[never(0), full(1), full(2)], 3), 1);
        // Others were taken after these.
        assert_eq!(refused_for_now(&[full(0), full(1)], 3), 2);
        assert_eq!(refused_for_now(&[full(0), full(2)], 3), 1);
        assert_eq!(refused_for_now(&[full(1), never(2)], 3), 2);
    }
}
