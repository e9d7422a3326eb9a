//! A tap's stream: what is asked, who may, and the copies on their way to the client.
//!
//! The ring is looked at now and then, so that no thread on the messages' way wakes anybody. A
//! client that does not read holds up this stream alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use quinn::{SendStream, VarInt};
use tokio::time::Instant;
use waypost_wire::control::{
    self, Managed, ManagedResponse, Tap as Request, Tapped, TappedMessage,
};
use waypost_wire::{Code, Filter, FrameType, RecordRef};

use crate::connection::Conn;
use crate::identity::Permissions;
use crate::routing::Routing;
use crate::stream_io::StreamError;
use crate::tap::{Seen, TAPS_MAX, Where};

/// How often the ring is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the client may leave a frame unread.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of records in a frame: what is longer than a tap's copy is cut before.
const FRAME_BYTES: usize = 256 << 10;
/// Topics whose rights are remembered.
const TOPICS_MAX: usize = 1_024;

/// Shows copies of messages until the client goes, the node drains, or what was asked for is over.
pub(crate) async fn serve(
    conn: &Arc<Conn>,
    request: Request,
    send: &mut SendStream,
) -> Result<(), StreamError> {
    let at = place(&conn.node.routing.load(), &request)?;
    let Some(attached) = conn.node.taps.attach(at) else {
        let text = format!("{TAPS_MAX} taps are attached, which is as many as may be");
        return Err(StreamError::Refused(Code::Busy, text));
    };
    let mut showing = Showing {
        permissions: conn.principal.permissions.clone(),
        frame_bytes_max: FRAME_BYTES.min(conn.client_frame_bytes_max as usize / 2),
        topics: HashMap::new(),
        left: Some(request.count).filter(|count| *count > 0),
        told: Tapped::default(),
    };
    let end = Some(request.for_ms).filter(|ms| *ms > 0);
    let end = end.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
    let mut draining = conn.node.draining.subscribe();
    let mut look = tokio::time::interval(LOOK_EVERY);
    // The first says that nothing is missed from here on.
    let (mut frames, mut seen) = (vec![Tapped::default()], Vec::new());
    loop {
        for tapped in frames {
            let bytes = frame(tapped);
            let written = tokio::select! {
                written = send.write_all(&bytes) => Some(written),
                () = tokio::time::sleep(PATIENCE) => None,
                _ = draining.wait_for(|draining| *draining) => {
                    // In the middle of a frame: nothing can follow it.
                    let _ = send.reset(VarInt::from_u32(Code::Draining as u32));
                    return Ok(());
                }
            };
            match written {
                Some(written) => written?,
                None => return Err(cut_off(send)),
            }
        }
        let is_over = end.is_some_and(|end| Instant::now() >= end);
        if is_over || showing.left == Some(0) {
            break;
        }
        tokio::select! {
            _ = look.tick() => {}
            _ = send.stopped() => return Ok(()),
            _ = draining.wait_for(|draining| *draining) => break,
        }
        let dropped = attached.tap.take(&mut seen);
        frames = showing.frames(&mut seen, dropped);
    }
    let _ = send.finish();
    Ok(())
}

/// Ends a stream that nobody reads: it may be in the middle of a frame, so no ERROR can follow.
fn cut_off(send: &mut SendStream) -> StreamError {
    let _ = send.reset(VarInt::from_u32(Code::Slow as u32));
    StreamError::Refused(Code::Slow, "nobody reads the tap".to_owned())
}

fn frame(tapped: Tapped) -> bytes::Bytes {
    let response = Managed {
        response: Some(ManagedResponse::Tap(tapped)),
    };
    control::bytes_of(FrameType::Managed, &response)
}

/// Where a tap is to sit.
fn place(routing: &Routing, request: &Request) -> Result<Where, StreamError> {
    let refuse = |code, text: String| Err(StreamError::Refused(code, text));
    let Request {
        route,
        plugin,
        filter,
        ..
    } = request;
    let table = &routing.table;
    let found = table.routes().iter().find(|known| *known.name == **route);
    if !route.is_empty() && found.is_none() {
        return refuse(Code::NotFound, format!("no route '{route}'"));
    }
    if !plugin.is_empty() {
        if !routing.slots.iter().any(|slot| *slot.name == **plugin) {
            return refuse(Code::NotFound, format!("no plugin '{plugin}'"));
        }
        let is_it = |index: &u16| *table.plugins()[*index as usize].name == **plugin;
        if let Some(found) = found
            && !found.through.iter().any(is_it)
        {
            let text = format!("route '{route}' does not go through plugin '{plugin}'");
            return refuse(Code::Invalid, text);
        }
    } else if request.after {
        return refuse(Code::Invalid, "after which plugin?".to_owned());
    }
    let filter = match filter.as_str() {
        "" => None,
        text => match Filter::new(text) {
            Ok(filter) => Some(filter),
            Err(error) => return refuse(Code::BadTopic, format!("filter '{text}' {error}")),
        },
    };
    const MILLION: u32 = 1_000_000;
    if request.sample_ppm > MILLION {
        let text = format!("sample of {} in a million", request.sample_ppm);
        return refuse(Code::Invalid, text);
    }
    let named = |name: &String| Some(name.as_str().into()).filter(|_| !name.is_empty());
    Ok(Where {
        route: named(route),
        plugin: named(plugin),
        is_after: request.after,
        filter,
        sample_ppm: match request.sample_ppm {
            0 => MILLION,
            ppm => ppm,
        },
        per_second: Some(request.per_second).filter(|rate| *rate > 0),
    })
}

/// What of the copies this client gets.
struct Showing {
    permissions: Permissions,
    frame_bytes_max: usize,
    /// Whether it may see a topic.
    topics: HashMap<String, bool>,
    /// Messages still to be shown; none: without end.
    left: Option<u64>,
    /// The numbers that it was told last.
    told: Tapped,
}

impl Showing {
    /// The copies as frames; none where there is nothing new to tell.
    fn frames(&mut self, seen: &mut Vec<Seen>, dropped: u64) -> Vec<Tapped> {
        let mut frames = Vec::new();
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let mut hidden = self.told.hidden;
        for seen in seen.drain(..) {
            if self.left == Some(0) {
                break;
            }
            if !self.may_see(&seen) {
                hidden += 1;
                continue;
            }
            self.left = self.left.map(|left| left - 1);
            let message = message(seen);
            let length = control::length_of(&message) + 8;
            if bytes + length > self.frame_bytes_max && !messages.is_empty() {
                frames.push(std::mem::take(&mut messages));
                bytes = 0;
            }
            bytes += length;
            messages.push(message);
        }
        if !messages.is_empty() || (dropped, hidden) != (self.told.dropped, self.told.hidden) {
            frames.push(messages);
        }
        (self.told.dropped, self.told.hidden) = (dropped, hidden);
        let tapped = |messages| Tapped {
            messages,
            dropped,
            hidden,
        };
        frames.into_iter().map(tapped).collect()
    }

    /// All topics of a message and of what came of it must be open to the client.
    fn may_see(&mut self, seen: &Seen) -> bool {
        let records = std::iter::once(&seen.message).chain(&seen.after);
        let mut records = records.map(|copy| RecordRef::parse(&copy.record));
        records.all(|record| record.is_ok_and(|record| self.may_see_topic(record.topic())))
    }

    fn may_see_topic(&mut self, topic: &str) -> bool {
        if let Some(known) = self.topics.get(topic) {
            return *known;
        }
        let filter = Filter::new(topic);
        let may = filter.is_ok_and(|f| self.permissions.may_subscribe(&f).is_ok());
        if self.topics.len() >= TOPICS_MAX {
            self.topics.clear();
        }
        self.topics.insert(topic.to_owned(), may);
        may
    }
}

fn message(seen: Seen) -> TappedMessage {
    let after = || seen.after.iter();
    TappedMessage {
        record: seen.message.record,
        time_ms: seen.time_ms,
        route: seen.route.to_string(),
        plugin: seen.plugin.to_string(),
        verdict: seen.verdict.to_owned(),
        detail: seen.detail,
        after_payload_bytes: after().map(|copy| copy.cut_from.unwrap_or(0)).collect(),
        after: after().map(|copy| copy.record.clone()).collect(),
        after_left_out: seen.after_left_out,
        payload_bytes: seen.message.cut_from.unwrap_or(0),
    }
}
