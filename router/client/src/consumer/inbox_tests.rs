use super::*;
use waypost_wire::Slab;
use waypost_wire::slab::SlabBuilder;

fn slab(count: u32, bytes: usize) -> Slab {
    let mut builder = SlabBuilder::new();
    (0..count).for_each(|_| builder.push(&vec![1; bytes]));
    builder.finish()
}

fn deliver(first_offset: u64, count: u32) -> Deliver {
    Deliver {
        first_offset,
        receive_time_ms: 0,
        detail: vec![],
        slab: slab(count, 9),
    }
}

fn opened(messages: u64, bytes: u64) -> Inbox {
    let mut inbox = Inbox::new(messages, bytes);
    inbox.reopen(At::default());
    inbox.put(&mut BytesMut::new());
    inbox
}

#[test]
fn a_record_larger_than_the_window_is_taken() {
    let mut inbox = opened(10, 50);
    let mut large = deliver(0, 1);
    large.slab = slab(1, 500);
    inbox.deliver(large.clone()).unwrap();
    assert!(
        inbox.deliver(large).is_err(),
        "no second one before new credit"
    );
    inbox.take().unwrap();
    assert!(inbox.credit_is_due());
    inbox.put(&mut BytesMut::new());
    assert!(inbox.granted.1 > 500);
}

#[test]
fn credit_never_goes_back() {
    let mut inbox = opened(4, 1000);
    for offset in 0..50 {
        let before = inbox.granted;
        inbox.deliver(deliver(offset, 1)).unwrap();
        inbox.take().unwrap();
        inbox.put(&mut BytesMut::new());
        assert!(inbox.granted.0 >= before.0 && inbox.granted.1 >= before.1);
    }
    assert_eq!(inbox.granted.0, 54);
}

#[test]
fn draining_waits_for_words_and_gives_no_credit() {
    let mut inbox = opened(4, 1000);
    inbox.deliver(deliver(0, 3)).unwrap();
    let batch = inbox.take().unwrap();
    inbox.draining = true;
    assert!(!inbox.credit_is_due());
    assert!(!inbox.put(&mut BytesMut::new()));
    let all = ConsumerFrame::Ack(batch.ranges());
    assert!(inbox.say(batch.session(), all).unwrap());
    assert!(inbox.put(&mut BytesMut::new()));
}

#[test]
fn ranges_are_joined_where_they_touch_or_overlap() {
    let range = |first, last| Range { first, last };
    let mut ranges = vec![
        range(9, 9),
        range(3, 5),
        range(6, 7),
        range(4, 4),
        range(9, 12),
    ];
    merge(&mut ranges);
    assert_eq!(ranges, [range(3, 7), range(9, 12)]);
    merge(&mut Vec::new());
}

#[test]
fn ranges_of_a_batch_follow_its_detail() {
    let mut gaps = deliver(5, 3);
    gaps.detail = vec![(5, 1), (6, 2), (9, 1)];
    let batch = Batch::new(SessionId(1), gaps);
    let range = |first, last| Range { first, last };
    assert_eq!(batch.ranges(), [range(5, 6), range(9, 9)]);
    let attempts: Vec<_> = batch.iter().map(|d| (d.offset, d.attempt)).collect();
    assert_eq!(attempts, [(5, 1), (6, 2), (9, 1)]);
}

#[test]
fn an_ack_up_to_an_offset_is_done_with_what_lies_below() {
    let mut inbox = opened(100, 10_000);
    inbox.deliver(deliver(10, 5)).unwrap();
    inbox.deliver(deliver(3, 2)).unwrap();
    let session = inbox.take().unwrap().session();
    assert!(inbox.say(session, ConsumerFrame::AckUpTo(11)).unwrap());
    assert_eq!((inbox.held.offsets(), inbox.stats().acked), (3, 4));
    inbox.deliver(deliver(14, 2)).unwrap();
    assert_eq!(inbox.held.offsets(), 4);
    inbox.draining = true;
    assert!(!inbox.put(&mut BytesMut::new()));
    inbox.say(session, ConsumerFrame::AckUpTo(15)).unwrap();
    assert!(inbox.put(&mut BytesMut::new()));
}
