//! A live subscriber's stream.

use std::sync::Arc;

use quinn::SendStream;
use waypost_wire::control::{self, OpenSubscriber, Opened};
use waypost_wire::data::{Live, put_lost};
use waypost_wire::{Code, Filter, FrameType};

use crate::connection::Conn;
use crate::live::LiveEvent;
use crate::stream_io::{FrameReader, Outgoing, StreamError, end_well};

/// Filters of one subscription at most.
const FILTERS_MAX: usize = 256;
/// What is taken from the buffer for one write.
const WRITE_BYTES: usize = 256 << 10;

pub(crate) async fn serve(
    conn: &Arc<Conn>,
    open: OpenSubscriber,
    send: &mut SendStream,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    let filters = check(conn, open.filters)?;
    let node = &conn.node;
    let membership = node.hub.join(filters, node.limits.subscriber_buffer_bytes);
    send.write_all(&control::bytes_of(FrameType::Opened, &Opened::default()))
        .await?;
    let mut events = Vec::new();
    let mut out = Outgoing::default();
    loop {
        tokio::select! {
            () = membership.subscriber.take(WRITE_BYTES, &mut events) => {}
            frame = reader.next() => return match frame? {
                Some(frame) => Err(frame.unexpected("nothing more from a subscriber").into()),
                None => end_well(send).await,
            },
        }
        let (mut live, mut lost) = (0, 0);
        for event in events.drain(..) {
            match event {
                LiveEvent::Batch {
                    receive_time_ms,
                    slab,
                } => {
                    live += u64::from(slab.count());
                    Live::put_head(out.buffer(), receive_time_ms, &slab);
                    out.push(slab.bytes());
                }
                LiveEvent::Lost(count) => {
                    lost += count;
                    put_lost(out.buffer(), count);
                }
            }
        }
        out.write(send).await?;
        node.metrics.deliver.live.add(live);
        node.metrics.deliver.live_lost.add(lost);
    }
}

fn check(conn: &Conn, filters: Vec<String>) -> Result<Vec<Filter>, StreamError> {
    if filters.is_empty() || filters.len() > FILTERS_MAX {
        let text = format!("{} filters, 1 to {FILTERS_MAX} expected", filters.len());
        return Err(StreamError::Refused(Code::Invalid, text));
    }
    let check = |text: String| {
        let filter = Filter::new(text.as_str()).map_err(|error| {
            StreamError::Refused(Code::BadTopic, format!("filter '{text}' {error}"))
        })?;
        match conn.principal.permissions.may_subscribe(&filter) {
            Ok(()) => Ok(filter),
            Err(denied) => Err(StreamError::Refused(denied.code(), denied.to_string())),
        }
    };
    filters.into_iter().map(check).collect()
}
