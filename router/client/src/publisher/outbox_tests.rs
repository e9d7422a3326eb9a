use super::*;
use waypost_wire::data::ExceptionKind;
use waypost_wire::{Code, Frame, FrameDecoder};

fn slab(count: u32, bytes: usize) -> Slab {
    let mut builder = SlabBuilder::new();
    (0..count).for_each(|_| builder.push(&vec![1; bytes]));
    builder.finish()
}

fn opened(window_sequence: u64, window_bytes: u64) -> Opened {
    Opened {
        window_sequence,
        window_bytes,
        ..Opened::default()
    }
}

fn confirm(up_to: u64, window_sequence: u64) -> Confirm {
    Confirm {
        up_to,
        level: Level::Stored,
        window_sequence,
        window_bytes: 1 << 40,
        exceptions: vec![],
    }
}

/// What is taken, as (first sequence, count) of each frame.
fn taken(outbox: &mut Outbox) -> Vec<(u64, u32)> {
    let mut chunks = Vec::new();
    outbox.take(&mut chunks, usize::MAX);
    let mut decoder = FrameDecoder::new(8 << 20);
    chunks
        .iter()
        .for_each(|chunk| decoder.buffer().extend_from_slice(chunk));
    let mut frames: Vec<Frame> = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        frames.push(frame);
    }
    decoder.finish().unwrap();
    frames
        .iter()
        .map(|frame| {
            let publish = Publish::parse(frame).unwrap();
            (publish.first_sequence, publish.slab.count())
        })
        .collect()
}

#[test]
fn what_is_queued_goes_together() {
    let mut outbox = Outbox::new();
    outbox.reopen(&opened(1000, 1 << 40), 0, 0);
    for _ in 0..10 {
        let _ticket = outbox.push(b"small").unwrap();
    }
    let _ticket = outbox.push_slab(&slab(3, 10)).unwrap();
    assert_eq!(taken(&mut outbox), [(1, 13)]);
    let _ticket = outbox.push(b"lone").unwrap();
    assert_eq!(taken(&mut outbox), [(14, 1)]);
}

#[test]
fn frames_hold_256_messages_or_a_mebibyte() {
    let mut outbox = Outbox::new();
    outbox.reopen(&opened(1000, 1 << 40), 0, 0);
    let _ticket = outbox.push_slab(&slab(300, 100)).unwrap();
    assert_eq!(taken(&mut outbox), [(1, 256), (257, 44)]);
    let _ticket = outbox.push_slab(&slab(3, 500_000)).unwrap();
    let _ticket = outbox.push_slab(&slab(1, 2_000_000)).unwrap();
    assert_eq!(taken(&mut outbox), [(301, 2), (303, 1), (304, 1)]);
    for _ in 0..300 {
        let _ticket = outbox.push(b"x").unwrap();
    }
    assert_eq!(taken(&mut outbox), [(305, 256), (561, 44)]);
}

#[test]
fn a_window_of_bytes_is_kept() {
    let mut outbox = Outbox::new();
    outbox.reopen(&opened(1000, 250), 0, 0);
    // 102 bytes each with their lengths.
    let _ticket = outbox.push_slab(&slab(5, 100)).unwrap();
    assert_eq!(taken(&mut outbox), [(1, 2)]);
    let mut moved = confirm(1, 1000);
    moved.window_bytes = 306;
    outbox.settle(moved).unwrap();
    assert_eq!(taken(&mut outbox), [(3, 1)]);
}

#[test]
fn room_ends_a_batch_beyond_the_window() {
    let mut outbox = Outbox::new();
    outbox.reopen(&opened(0, 0), 0, 0);
    let mut accepted = 0;
    while outbox.has_room() {
        let _ticket = outbox.push(b"x").unwrap();
        accepted += 1;
    }
    assert_eq!(accepted, 256);
    assert_eq!(taken(&mut outbox), []);
}

#[test]
fn reopened_within_a_batch_and_within_a_ticket() {
    let mut outbox = Outbox::new();
    outbox.reopen(&opened(100, 1 << 40), 0, 0);
    let mut ticket = outbox.push_slab(&slab(100, 100)).unwrap();
    let mut small = outbox.push(b"x").unwrap();
    assert_eq!(taken(&mut outbox), [(1, 100)]);
    let mut first = confirm(30, 100);
    first.exceptions.push(Exception {
        sequence: 30,
        kind: ExceptionKind::Dropped,
        code: Code::Closed,
        text: String::new(),
    });
    outbox.settle(first).unwrap();
    outbox.reopen(&opened(50, 1 << 40), 0, 0);
    assert_eq!(taken(&mut outbox), [(1, 50)]);
    outbox.settle(confirm(50, 100)).unwrap();
    assert_eq!(taken(&mut outbox), [(51, 20), (71, 1)]);
    let mut last = confirm(71, 100);
    last.level = Level::Received;
    outbox.settle(last).unwrap();
    let confirmed = ticket.try_recv().unwrap().unwrap();
    assert_eq!(confirmed.level, Level::Received, "the weakest of three");
    assert_eq!(confirmed.exceptions[0].sequence, 30);
    assert_eq!(small.try_recv().unwrap().unwrap().first_sequence, 101);
    let stats = outbox.stats();
    assert_eq!((stats.settled, stats.resent), (101, 70));
    assert!(outbox.all_settled() && outbox.batches.is_empty());
}

#[test]
fn flush_and_end() {
    let mut outbox = Outbox::new();
    outbox.reopen(&opened(1, 1 << 40), 0, 0);
    assert!(outbox.flush().try_recv().unwrap().is_ok());
    let mut sent = outbox.push_slab(&slab(1, 9000)).unwrap();
    let mut unsent = outbox.push_slab(&slab(1, 9000)).unwrap();
    let mut flush = outbox.flush();
    assert_eq!(taken(&mut outbox), [(1, 1)]);
    outbox.end(Error::Closed);
    let error = |ticket: &mut oneshot::Receiver<Answer>| ticket.try_recv().unwrap().unwrap_err();
    assert!(!error(&mut sent).has_no_side_effects());
    assert!(error(&mut unsent).has_no_side_effects());
    assert!(matches!(error(&mut flush), Error::Closed));
    assert!(outbox.has_room(), "nobody waits for an outbox that ended");
    assert!(outbox.push(b"x").unwrap_err().has_no_side_effects());
}

/// A node that may lose its connection at any moment: it stores what it reads, and settles a prefix
/// of it. Whatever happens, each message is settled once, in order, and stored at least once.
#[test]
fn any_interleaving_settles_everything_once_and_in_order() {
    for seed in 0..200 {
        println!("seed {seed}");
        interleave(seed);
    }
}

fn interleave(seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut die = |sides: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % sides
    };
    let mut outbox = Outbox::new();
    outbox.reopen(&opened(5, 1 << 40), 0, 0);
    let (mut next, mut stored, mut settled) = (0u64, Vec::<u64>::new(), Vec::<u64>::new());
    let mut tickets = Vec::new();
    for step in 0..400 {
        match if step < 300 { die(6) } else { 2 + die(2) } {
            0 if outbox.has_room() => {
                tickets.push((1, outbox.push(&next.to_be_bytes()).unwrap()));
                next += 1;
            }
            1 if outbox.has_room() => {
                let mut builder = SlabBuilder::new();
                // Now and then so large that it is shared, not copied.
                let count = if die(2) == 0 { 3 } else { 700 };
                (0..count).for_each(|n| builder.push(&(next + n).to_be_bytes()));
                tickets.push((count, outbox.push_slab(&builder.finish()).unwrap()));
                next += count;
            }
            2 | 4 => read(&mut outbox, &mut stored, 1 + die(4000) as usize),
            3 if !stored.is_empty() => {
                let done = 1 + die(stored.len() as u64);
                settled.extend(stored.drain(..done as usize));
                let up_to = settled.len() as u64 - outbox.base;
                outbox.settle(confirm(up_to, up_to + 1 + die(600))).unwrap();
            }
            5 if die(8) == 0 => {
                stored.clear();
                outbox.reopen(&opened(1 + die(300), 1 << 40), 0, 0);
            }
            _ => {}
        }
    }
    while !outbox.all_settled() {
        read(&mut outbox, &mut stored, usize::MAX);
        settled.append(&mut stored);
        let up_to = settled.len() as u64 - outbox.base;
        outbox.settle(confirm(up_to, up_to + 1000)).unwrap();
    }
    assert_eq!(settled, (0..next).collect::<Vec<_>>());
    let mut first = 1;
    for (count, mut ticket) in tickets {
        let confirmed = ticket.try_recv().unwrap().unwrap();
        assert_eq!(
            (confirmed.first_sequence, u64::from(confirmed.count)),
            (first, count)
        );
        first += count;
    }
}

/// Reads some frames as a node does, and checks that sequences follow each other and keep to the
/// window.
fn read(outbox: &mut Outbox, stored: &mut Vec<u64>, bytes_max: usize) {
    let mut expected = outbox.sent - outbox.base + 1;
    let mut chunks = Vec::new();
    outbox.take(&mut chunks, bytes_max);
    let mut decoder = FrameDecoder::new(8 << 20);
    chunks
        .iter()
        .for_each(|chunk| decoder.buffer().extend_from_slice(chunk));
    while let Some(frame) = decoder.next_frame().unwrap() {
        let publish = Publish::parse(&frame).unwrap();
        assert_eq!(publish.first_sequence, expected);
        assert!(publish.slab.count() <= 256);
        for body in publish.slab.iter() {
            stored.push(u64::from_be_bytes(body.try_into().unwrap()));
            expected += 1;
        }
        assert!(expected - 1 <= outbox.window_sequence);
    }
}
