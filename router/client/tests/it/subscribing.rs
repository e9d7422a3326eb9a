//! Live batches, losses, and subscribing again.

use bytes::BytesMut;
use waypost_client::wire::FrameType;
use waypost_client::wire::control::{self, OpenSubscriber, Opened};
use waypost_client::wire::data::{self, Live};
use waypost_client::{Code, Filter, SubscriberEvent};

use crate::fake::{FakeNode, FakeStream, slab, texts};

async fn live(stream: &mut FakeStream, numbers: std::ops::Range<u32>) {
    let slab = slab(numbers);
    let mut out = BytesMut::new();
    Live::put_head(&mut out, 77, &slab);
    out.extend_from_slice(slab.bytes());
    stream.put(out).await;
}

#[tokio::test]
async fn batches_losses_and_reconnects_in_their_order() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let filters = [Filter::new("a/#").unwrap()];
    let opened = session.opened(FrameType::OpenSubscriber, Opened::default());
    let (subscriber, mut stream) = tokio::join!(client.subscriber(&filters, "s"), opened);
    let mut subscriber = subscriber.unwrap();
    live(&mut stream, 0..2).await;
    let mut lost = BytesMut::new();
    data::put_lost(&mut lost, 9);
    stream.put(lost).await;
    let Some(SubscriberEvent::Batch(batch)) = subscriber.next().await.unwrap() else {
        panic!("a batch comes first");
    };
    assert_eq!((batch.receive_time_ms, texts(&batch.slab).len()), (77, 2));
    assert_eq!(
        subscriber.next().await.unwrap(),
        Some(SubscriberEvent::Lost(9))
    );
    session.crash();
    let again = async {
        let session = node.welcomed().await;
        let (mut stream, first) = session.stream().await;
        let opening: OpenSubscriber = control::parse(&first).unwrap();
        assert_eq!(opening.filters, ["a/#"]);
        let opened = Opened::default();
        stream
            .put(control::bytes_of(FrameType::Opened, &opened))
            .await;
        live(&mut stream, 5..6).await;
        (session, stream)
    };
    let (event, kept) = tokio::join!(subscriber.next(), again);
    assert_eq!(event.unwrap(), Some(SubscriberEvent::Reconnected));
    let Some(SubscriberEvent::Batch(batch)) = subscriber.next().await.unwrap() else {
        panic!("a batch");
    };
    assert_eq!(texts(&batch.slab), ["m5"]);
    client.close().await;
    assert_eq!(subscriber.next().await.unwrap(), None);
    drop(kept);
}

#[tokio::test]
async fn a_strict_one_is_told_that_it_was_cut_off_and_may_come_again() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let filters = [Filter::new("a/#").unwrap()];
    let asked = async || {
        let (mut stream, first) = session.stream().await;
        let opening: OpenSubscriber = control::parse(&first).unwrap();
        assert_eq!(opening.slow(), control::Slow::Disconnect);
        let opened = control::bytes_of(FrameType::Opened, &Opened::default());
        stream.put(opened).await;
        stream
    };
    let (subscriber, stream) = tokio::join!(client.strict_subscriber(&filters, "s"), asked());
    let mut subscriber = subscriber.unwrap();
    let FakeStream { mut send, .. } = stream;
    send.reset((Code::Slow as u32).into()).unwrap();
    let error = subscriber.next().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Slow), "{error}");
    let (event, kept) = tokio::join!(subscriber.next(), asked());
    assert_eq!(event.unwrap(), Some(SubscriberEvent::Reconnected));
    client.close().await;
    drop(kept);
}
