//! Both halves at once: a node that keeps one queue in memory and a client that fills and empties
//! it. The rate is printed, not asserted: `cargo test --release -p waypost-client --test it rate
//! -- --ignored --nocapture`.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::Notify;
use waypost_client::wire::data::{self, ConsumerFrame, Publish};
use waypost_client::wire::slab::SlabBuilder;
use waypost_client::wire::{Frame, FrameType, control};
use waypost_client::{Client, ConnectOptions, ConsumerOptions, Message, PublisherOptions, Slab};

use crate::fake::{FakeNode, FakeSession, FakeStream, slab};

#[derive(Default)]
struct Queue {
    /// Batches with the offset of their first record.
    batches: Mutex<Vec<(u64, Slab)>>,
    more: Notify,
    acked: Mutex<u64>,
}

impl Queue {
    fn append(&self, slab: Slab) {
        let mut batches = self.batches.lock().unwrap();
        let next = batches
            .last()
            .map_or(0, |(first, slab)| first + u64::from(slab.count()));
        batches.push((next, slab));
        self.more.notify_one();
    }
}

/// Serves one connection until the client closes it. `keep` is false where only the rate counts.
async fn serve(session: FakeSession, window: u64, keep: bool) -> Arc<Queue> {
    let queue = Arc::new(Queue::default());
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let (stream, first) = tokio::select! {
            _ = session.quic.closed() => break,
            accepted = session.quic.accept_bi() => match accepted {
                Ok((send, recv)) => {
                    let mut stream = FakeStream::new(send, recv);
                    let first = stream.frame().await.unwrap();
                    (stream, first)
                }
                Err(_) => break,
            },
        };
        match first.kind {
            FrameType::OpenPublisher => {
                tasks.spawn(publisher(stream, queue.clone(), window, keep));
            }
            FrameType::OpenConsumer => {
                tasks.spawn(consumer(stream, queue.clone()));
            }
            kind => panic!("{kind}"),
        }
    }
    tasks.shutdown().await;
    queue
}

async fn publisher(mut stream: FakeStream, queue: Arc<Queue>, window: u64, keep: bool) {
    let opened = control::Opened {
        window_sequence: window,
        window_bytes: 1 << 40,
        ..Default::default()
    };
    stream
        .put(control::bytes_of(FrameType::Opened, &opened))
        .await;
    let mut settled = 0;
    let mut next = stream.frame().await;
    while let Some(frame) = next {
        let mut frame: Frame = frame;
        loop {
            let publish = Publish::parse(&frame).unwrap();
            assert_eq!(publish.first_sequence, settled + 1);
            settled += u64::from(publish.slab.count());
            if keep {
                queue.append(publish.slab);
            }
            // One confirm for all that is here.
            match stream.ready() {
                Some(more) => frame = more,
                None => break,
            }
        }
        stream.confirm(settled, settled + window, vec![]).await;
        next = stream.frame().await;
    }
    stream.put(data::bytes_of(FrameType::Closed, &[])).await;
    stream.send.finish().unwrap();
    let _ = stream.send.stopped().await;
}

async fn consumer(mut stream: FakeStream, queue: Arc<Queue>) {
    let opened = control::Opened::default();
    stream
        .put(control::bytes_of(FrameType::Opened, &opened))
        .await;
    let (mut granted, mut given, mut at, mut done) = (0, 0, 0, 0u32);
    loop {
        let next = queue.batches.lock().unwrap().get(at).cloned();
        if let Some((first, slab)) = next.filter(|_| given < granted) {
            let left = slab.count() - done;
            let count = left.min((granted - given) as u32);
            stream
                .deliver(first + u64::from(done), slab.slice(done, count))
                .await;
            given += u64::from(count);
            (at, done) = match count == left {
                true => (at + 1, 0),
                false => (at, done + count),
            };
            continue;
        }
        let frame = tokio::select! {
            frame = stream.frame() => frame,
            () = queue.more.notified() => continue,
        };
        match frame.map(|frame| ConsumerFrame::parse(&frame).unwrap()) {
            Some(ConsumerFrame::Credit { messages, .. }) => granted = messages,
            Some(ConsumerFrame::Ack(ranges)) => {
                *queue.acked.lock().unwrap() += ranges.iter().map(|r| r.count()).sum::<u64>();
            }
            Some(other) => panic!("{other:?}"),
            None => break,
        }
    }
    stream.put(data::bytes_of(FrameType::Closed, &[])).await;
    stream.send.finish().unwrap();
    let _ = stream.send.stopped().await;
}

#[tokio::test]
async fn everything_published_is_consumed_once_and_in_order() {
    let node = FakeNode::start();
    let options = node.options();
    let node_side = async { serve(node.welcomed().await, 64, true).await };
    let client_side = async {
        let client = Client::connect(options).await.unwrap();
        let publisher = client.publisher(Default::default()).await.unwrap();
        let mut consumer = {
            let options = ConsumerOptions {
                window_messages: 50,
                ..ConsumerOptions::new("q", "g")
            };
            client.consumer(options).await.unwrap()
        };
        let publishing = async {
            for start in (0..3000).step_by(30) {
                let ticket = publisher.send_slab(&slab(start..start + 30)).await.unwrap();
                drop(ticket);
            }
            publisher.flush().await.unwrap();
            publisher.close().await.unwrap();
        };
        let consuming = async {
            let mut seen = 0;
            while seen < 3000 {
                let batch = consumer.next().await.unwrap().unwrap();
                for delivery in batch.iter() {
                    assert_eq!(delivery.offset, seen);
                    let want = format!("m{seen}");
                    assert_eq!(delivery.record().unwrap().payload(), want.as_bytes());
                    seen += 1;
                }
                consumer.ack(&batch).unwrap();
            }
            consumer.close().await.unwrap();
        };
        tokio::join!(publishing, consuming);
        client.close().await;
    };
    let (queue, ()) = tokio::join!(node_side, client_side);
    assert_eq!(*queue.acked.lock().unwrap(), 3000);
}

#[test]
#[ignore = "prints a rate; nothing to assert"]
fn rate_of_one_publisher() {
    const WINDOW: u64 = 4096;
    const MESSAGES: u64 = 8_000_000;
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let (tell, told) = std::sync::mpsc::channel::<ConnectOptions>();
    let server = std::thread::spawn(move || {
        runtime().block_on(async {
            let node = FakeNode::start();
            tell.send(node.options()).unwrap();
            serve(node.welcomed().await, WINDOW, false).await;
        });
    });
    let options = told.recv().unwrap();
    runtime().block_on(async {
        let mut builder = SlabBuilder::new();
        let message = Message::new("bench/topic", vec![7; 128]);
        (0..256).for_each(|_| builder.push_message(&message));
        let slab = builder.finish();
        let client = Client::connect(options).await.unwrap();
        let publisher = client.publisher(PublisherOptions::default()).await.unwrap();
        let (start, start_cpu) = (Instant::now(), thread_seconds());
        for _ in 0..MESSAGES / 256 {
            drop(publisher.send_slab(&slab).await.unwrap());
        }
        publisher.flush().await.unwrap();
        let rate = |seconds: f64| MESSAGES as f64 / seconds / 1e6;
        println!(
            "{:.2} M msg/s; {:.2} M per second of the client's CPU (128 B, batches of 256, window \
             {WINDOW})",
            rate(start.elapsed().as_secs_f64()),
            rate(thread_seconds() - start_cpu),
        );
        publisher.close().await.unwrap();
        client.close().await;
    });
    server.join().unwrap();
}

/// CPU time of this thread, where Linux says it.
fn thread_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = text.split(' ').next().and_then(|ns| ns.parse().ok());
    ns.unwrap_or(0.0f64) / 1e9
}
