//! A live subscriber's stream.

use std::sync::Arc;

use quinn::{SendStream, VarInt};
use waypost_wire::control::{self, OpenSubscriber, Opened, Slow};
use waypost_wire::data::{Live, put_lost};
use waypost_wire::{Code, Filter, FrameType, Slab};

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
    let is_strict = is_strict(open.slow)?;
    let filters = check(conn, open.filters)?;
    let node = &conn.node;
    let buffer_bytes = node.limits.subscriber_buffer_bytes;
    let membership = node.hub.join(filters, buffer_bytes, is_strict);
    send.write_all(&control::bytes_of(FrameType::Opened, &Opened::default()))
        .await?;
    let mut events = Vec::new();
    let mut out = Outgoing::default();
    loop {
        tokio::select! {
            () = membership.subscriber.take(WRITE_BYTES, &mut events) => {}
            () = membership.subscriber.cut() => return Err(cut_off(send)),
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
                    for slab in frames(&slab, conn.client_frame_bytes_max)? {
                        live += u64::from(slab.count());
                        Live::put_head(out.buffer(), receive_time_ms, &slab);
                        out.push(slab.bytes());
                    }
                }
                LiveEvent::Lost(count) => {
                    lost += count;
                    put_lost(out.buffer(), count);
                }
            }
        }
        tokio::select! {
            written = out.write(send) => written?,
            () = membership.subscriber.cut() => return Err(cut_off(send)),
        }
        node.metrics.deliver.live.add(live);
        node.metrics.deliver.live_lost.add(lost);
    }
}

/// Whether a subscriber is to be cut off rather than to lose messages.
fn is_strict(slow: i32) -> Result<bool, StreamError> {
    match Slow::try_from(slow) {
        Ok(Slow::Lose) => Ok(false),
        Ok(Slow::Disconnect) => Ok(true),
        Err(_) => Err(StreamError::Refused(
            Code::Invalid,
            format!("slow {slow} is unknown to this version"),
        )),
    }
}

/// Ends the stream of a subscriber that does not read: what is on its way may end in the middle of
/// a frame, so there is no ERROR behind it.
fn cut_off(send: &mut SendStream) -> StreamError {
    let _ = send.reset(VarInt::from_u32(Code::Slow as u32));
    StreamError::Refused(Code::Slow, "the subscriber reads too slowly".to_owned())
}

/// What a LIVE has beside its slab at most: two varints.
const HEAD_BYTES_MAX: u64 = 16;

/// A batch in as many parts as the client's frames need; one message that fits none ends the
/// stream, as it ends a consumer's.
fn frames(slab: &Slab, frame_bytes_max: u64) -> Result<Vec<Slab>, StreamError> {
    let bytes_max = frame_bytes_max.saturating_sub(HEAD_BYTES_MAX);
    if slab.bytes().len() as u64 <= bytes_max {
        return Ok(vec![slab.clone()]);
    }
    let mut frames = Vec::new();
    let mut rest = slab.clone();
    while !rest.is_empty() {
        let fitting = rest.fitting(0, usize::try_from(bytes_max).unwrap_or(usize::MAX));
        let part = rest.slice(0, fitting);
        let bytes = part.bytes().len();
        if bytes as u64 > bytes_max {
            let text = format!(
                "a message has {bytes} bytes, more than the client's frames may have \
                 ({frame_bytes_max})"
            );
            return Err(StreamError::Refused(Code::TooLarge, text));
        }
        rest = rest.slice(fitting, u32::MAX);
        frames.push(part);
    }
    Ok(frames)
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

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_wire::slab::SlabBuilder;

    fn slab(lengths: &[usize]) -> Slab {
        let mut builder = SlabBuilder::new();
        lengths.iter().for_each(|n| builder.push(&vec![7; *n]));
        builder.finish()
    }

    #[test]
    fn what_a_slow_subscriber_asks_for_is_done_or_refused() {
        let asked: Vec<_> = (0..3).map(|n| is_strict(n).map_err(|e| e.code())).collect();
        assert_eq!(asked, [Ok(false), Ok(true), Err(Code::Invalid)]);
    }

    #[test]
    fn a_batch_is_split_into_frames_that_the_client_takes() {
        // A record of 40 bytes takes 41; of 100 bytes, 102.
        let batch = slab(&[40, 40, 40, 100, 40]);
        let limit = 102 + HEAD_BYTES_MAX;
        let parts = frames(&batch, limit).unwrap();
        let counts: Vec<u32> = parts.iter().map(Slab::count).collect();
        assert_eq!(counts, [2, 1, 1, 1]);
        let bytes: Vec<u8> = parts.iter().flat_map(|p| p.bytes().to_vec()).collect();
        assert_eq!(bytes, batch.bytes()[..]);
        assert_eq!(
            frames(&batch, 1 << 20).unwrap(),
            std::slice::from_ref(&batch)
        );

        let error = frames(&batch, limit - 1).unwrap_err();
        assert_eq!(error.code(), Code::TooLarge);
        assert!(
            error.to_string().contains("a message has 102 bytes"),
            "{error}"
        );
    }
}
