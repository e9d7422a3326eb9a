//! One connection of the floor: streams by their first frame, batches from a publisher to its
//! subscribers.

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use bytes::{Bytes, BytesMut};
use quinn::{Connection, RecvStream, SendStream};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use waypost_client::wire::control::{self, Hello, OpenPublisher, OpenSubscriber, Opened, Welcome};
use waypost_client::wire::data::Confirm;
use waypost_client::wire::frame;
use waypost_client::wire::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, Frame, FrameDecoder, FrameType};
use waypost_client::wire::{PAYLOAD_BYTES_DEFAULT, VERSION, varint};
use waypost_client::{FRAME_BYTES_DEFAULT, Level};

use super::store::{Job, SLABS_MAX};

/// Room made at once for received bytes; many datagrams are taken in one go.
const READ_BYTES: usize = 256 << 10;
/// Frames below this are copied together: quinn's send buffer is slow with small pieces.
const COPY_BYTES: usize = 8 << 10;
/// Messages and bytes that a publisher may have unconfirmed. The load keeps to its own window.
const WINDOW: (u64, u64) = (1 << 20, 64 << 20);

type Subscribers = Arc<Vec<Arc<tokio::sync::Mutex<SendStream>>>>;

/// What all connections share.
pub struct Relay {
    /// Subscribers by filter, which must equal a publisher's name.
    subscribers: Mutex<HashMap<String, Subscribers>>,
    store: Option<Sender<Job>>,
}

/// What one read of a publisher's stream brought.
#[derive(Default)]
pub struct Batch {
    /// LIVE frames for the subscribers.
    live: Vec<Bytes>,
    /// The last sequence and all slab bytes up to it.
    up_to: u64,
    bytes: u64,
}

impl Relay {
    /// A relay; with a store, confirms wait for it.
    pub fn new(store: Option<Sender<Job>>) -> Relay {
        Relay {
            subscribers: Mutex::default(),
            store,
        }
    }

    /// Serves a connection until it ends.
    pub async fn connection(self: Arc<Self>, quic: Connection) -> Result<()> {
        loop {
            let (send, recv) = quic.accept_bi().await?;
            let relay = self.clone();
            tokio::spawn(async move {
                if let Err(error) = relay.stream(send, recv).await {
                    tracing::debug!(%error, "stream ended");
                }
            });
        }
    }

    async fn stream(&self, mut send: SendStream, recv: RecvStream) -> Result<()> {
        let mut reader = Reader::new(recv);
        let Some(first) = reader.next().await? else {
            return Ok(());
        };
        match first.kind {
            FrameType::Hello => {
                control::parse::<Hello>(&first)?;
                let welcome = control::bytes_of(FrameType::Welcome, &welcome());
                send.write_chunk(welcome).await?;
                // Open until the client goes.
                reader.next().await.map(drop)
            }
            FrameType::OpenPublisher => {
                let name = control::parse::<OpenPublisher>(&first)?.name;
                send.write_chunk(opened()).await?;
                self.publisher(&name, reader, send).await
            }
            FrameType::OpenSubscriber => {
                let filters = control::parse::<OpenSubscriber>(&first)?.filters;
                send.write_chunk(opened()).await?;
                self.subscribe(&filters, send);
                reader.next().await.map(drop)
            }
            _ => bail!("the floor knows no {}", first.kind),
        }
    }

    fn subscribe(&self, filters: &[String], send: SendStream) {
        let stream = Arc::new(tokio::sync::Mutex::new(send));
        let mut all = self
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for filter in filters {
            let known = all.entry(filter.clone()).or_default();
            Arc::make_mut(known).push(stream.clone());
        }
    }

    fn subscribers(&self, name: &str) -> Subscribers {
        let all = self
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned().unwrap_or_default()
    }

    async fn publisher(&self, name: &str, mut reader: Reader, mut send: SendStream) -> Result<()> {
        // Subscribers are there before the first batch; the load sees to that.
        if !reader.fill().await? {
            return closed(&mut send).await;
        }
        let subscribers = self.subscribers(name);
        let Some(store) = &self.store else {
            let mut bytes = 0;
            loop {
                let (batch, _) = reader.batch(bytes, usize::MAX)?;
                bytes = batch.bytes;
                forward(&subscribers, batch, &mut send, Level::Received).await?;
                if !reader.fill().await? {
                    return closed(&mut send).await;
                }
            }
        };
        let (synced, batches) = unbounded_channel();
        let read = async move {
            let mut bytes = 0;
            loop {
                let (batch, slabs) = reader.batch(bytes, SLABS_MAX)?;
                if slabs.is_empty() {
                    if !reader.fill().await? {
                        return anyhow::Ok(());
                    }
                    continue;
                }
                bytes = batch.bytes;
                let synced = synced.clone();
                // The writer ends the process before it ends itself.
                let _ = store.send(Job {
                    slabs,
                    batch,
                    synced,
                });
            }
        };
        tokio::try_join!(read, confirm(&subscribers, batches, &mut send))?;
        closed(&mut send).await
    }
}

/// Confirms and forwards what was synced, until the reader ended and all of it was.
async fn confirm(
    subscribers: &Subscribers,
    mut batches: UnboundedReceiver<Batch>,
    send: &mut SendStream,
) -> Result<()> {
    while let Some(mut batch) = batches.recv().await {
        while let Ok(next) = batches.try_recv() {
            batch.live.extend(next.live);
            (batch.up_to, batch.bytes) = (next.up_to, next.bytes);
        }
        forward(subscribers, batch, send, Level::Stored).await?;
    }
    Ok(())
}

async fn forward(
    subscribers: &Subscribers,
    batch: Batch,
    send: &mut SendStream,
    level: Level,
) -> Result<()> {
    if batch.live.is_empty() {
        return Ok(());
    }
    let mut out = BytesMut::with_capacity(48);
    let confirm = Confirm {
        up_to: batch.up_to,
        level,
        window_sequence: batch.up_to + WINDOW.0,
        window_bytes: batch.bytes + WINDOW.1,
        exceptions: Vec::new(),
    };
    confirm.put(&mut out);
    send.write_chunk(out.freeze()).await?;
    let mut live = batch.live;
    if let [only] = subscribers.as_slice() {
        only.lock().await.write_all_chunks(&mut live).await?;
        return Ok(());
    }
    for subscriber in subscribers.iter() {
        let mut live = live.clone();
        subscriber.lock().await.write_all_chunks(&mut live).await?;
    }
    Ok(())
}

async fn closed(send: &mut SendStream) -> Result<()> {
    let mut out = BytesMut::new();
    frame::put(&mut out, FrameType::Closed, b"");
    send.write_chunk(out.freeze()).await?;
    send.finish()?;
    Ok(())
}

/// The receiving half of a stream.
struct Reader {
    recv: RecvStream,
    decoder: FrameDecoder,
}

impl Reader {
    fn new(recv: RecvStream) -> Reader {
        Reader {
            recv,
            decoder: FrameDecoder::new(FRAME_BYTES_DEFAULT),
        }
    }

    async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// Takes what has arrived; `false` at the end.
    async fn fill(&mut self) -> Result<bool> {
        let buffer = self.decoder.buffer();
        if buffer.capacity() - buffer.len() < READ_BYTES / 4 {
            buffer.reserve(READ_BYTES);
        }
        Ok(self.recv.read_buf(buffer).await? > 0)
    }

    /// The frames that are here, up to `frames_max`, as LIVE frames, and the slabs in them; `bytes`
    /// were before.
    fn batch(&mut self, bytes: u64, frames_max: usize) -> Result<(Batch, Vec<Bytes>)> {
        let mut batch = Batch {
            bytes,
            ..Batch::default()
        };
        let mut slabs = Vec::new();
        let mut copied = BytesMut::new();
        let now = now_ms();
        while slabs.len() < frames_max
            && let Some(frame) = self.decoder.next_frame()?
        {
            let (first_sequence, count, slab) = publish(&frame)?;
            let length = varint::len(now) + varint::len(count) + slab.len();
            frame::put_head(&mut copied, FrameType::Live, length);
            varint::put(&mut copied, now);
            varint::put(&mut copied, count);
            if slab.len() < COPY_BYTES {
                copied.extend_from_slice(&slab);
            } else {
                batch.live.push(copied.split().freeze());
                batch.live.push(slab.clone());
            }
            batch.up_to = first_sequence.saturating_add(count.saturating_sub(1));
            batch.bytes += slab.len() as u64;
            slabs.push(slab);
        }
        if !copied.is_empty() {
            batch.live.push(copied.freeze());
        }
        Ok((batch, slabs))
    }
}

/// The head of a PUBLISH frame and its slab, which is not walked.
fn publish(frame: &Frame) -> Result<(u64, u64, Bytes)> {
    let mut reader = varint::Reader::new(&frame.payload);
    match (frame.kind, reader.varint(), reader.varint()) {
        (FrameType::Publish, Some(first_sequence), Some(count)) => Ok((
            first_sequence,
            count,
            frame.payload.slice(reader.position()..),
        )),
        (kind, ..) => bail!("{kind} where a PUBLISH was expected"),
    }
}

fn welcome() -> Welcome {
    Welcome {
        version: VERSION,
        node: "floor".into(),
        server: "waypost bench floor".into(),
        principal: "anybody".into(),
        roles: Vec::new(),
        payload_bytes_max: PAYLOAD_BYTES_DEFAULT as u64,
        batch_messages_max: BATCH_MESSAGES_MAX as u32,
        batch_bytes_max: BATCH_BYTES_MAX as u64,
        frame_bytes_max: FRAME_BYTES_DEFAULT as u64,
        streams_max: 1024,
    }
}

fn opened() -> Bytes {
    let opened = Opened {
        window_sequence: WINDOW.0,
        window_bytes: WINDOW.1,
        ..Opened::default()
    };
    control::bytes_of(FrameType::Opened, &opened)
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}
