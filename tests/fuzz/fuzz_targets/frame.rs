//! Whatever bytes a peer sends, in whatever pieces: no panic, the same frames however they were
//! cut, and what parses can be written and parsed again as the same.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use waypost_wire::control;
use waypost_wire::data::{Confirm, ConsumerFrame, Deliver, Live, Publish, parse_lost};
use waypost_wire::{Frame, FrameDecoder, Slab};

const LENGTH_MAX: usize = 1 << 16;

/// All frames of the pieces, and whether the decoder gave up.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, bool) {
    let mut decoder = FrameDecoder::new(LENGTH_MAX);
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.buffer().extend_from_slice(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    let _ = decoder.finish();
    (frames, false)
}

/// The one frame of these bytes.
fn again(bytes: &BytesMut) -> Frame {
    let (mut frames, is_bad) = decode([&bytes[..]]);
    assert!(!is_bad && frames.len() == 1, "what was written is no frame");
    frames.remove(0)
}

fn parse(frame: &Frame) {
    let mut out = BytesMut::new();
    if let Ok(publish) = Publish::parse(frame) {
        Publish::put(&mut out, publish.first_sequence, &publish.slab);
        assert_eq!(Publish::parse(&again(&out.split())), Ok(publish));
    }
    if let Ok(confirm) = Confirm::parse(frame) {
        confirm.put(&mut out);
        assert_eq!(Confirm::parse(&again(&out.split())), Ok(confirm));
    }
    if let Ok(said) = ConsumerFrame::parse(frame) {
        said.put(&mut out);
        assert_eq!(ConsumerFrame::parse(&again(&out.split())), Ok(said));
    }
    if let Ok(deliver) = Deliver::parse(frame) {
        deliver.put_head(&mut out);
        out.extend_from_slice(deliver.slab.bytes());
        assert_eq!(Deliver::parse(&again(&out.split())), Ok(deliver));
    }
    let _ = Live::parse(frame);
    let _ = parse_lost(frame);
    let _ = control::parse::<control::QueueSettings>(frame);
    let _ = Slab::parse(frame.payload.clone());
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, data)) = data.split_first() else {
        return;
    };
    let whole = decode([data]);
    let (left, right) = data.split_at(usize::from(cut).min(data.len()));
    assert_eq!(decode([left, right]), whole, "a cut at {cut} changes frames");
    whole.0.iter().for_each(parse);
    let _ = Slab::parse(Bytes::copy_from_slice(data));
});
