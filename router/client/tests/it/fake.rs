//! A node that does what the test says: it accepts connections and streams, and reads and writes
//! frames.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use waypost_client::wire::control::{self, Hello, Opened, Welcome};
use waypost_client::wire::data::{Confirm, ConsumerFrame, Deliver, Exception, Publish};
use waypost_client::wire::slab::SlabBuilder;
use waypost_client::wire::{ALPN, Frame, FrameDecoder, FrameType};
use waypost_client::{Client, ConnectOptions, Level, Message, Reconnect, Slab, Source};

pub struct FakeNode {
    endpoint: Endpoint,
    pub address: SocketAddr,
    ca: String,
}

impl FakeNode {
    pub fn start() -> FakeNode {
        Self::with_alpn(ALPN)
    }

    pub fn with_alpn(alpn: &[u8]) -> FakeNode {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key))
        .unwrap();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let crypto = QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        FakeNode {
            address: endpoint.local_addr().unwrap(),
            endpoint,
            ca: made.cert.pem(),
        }
    }

    pub fn options(&self) -> ConnectOptions {
        self.options_at(self.address.to_string())
    }

    pub fn options_at(&self, address: String) -> ConnectOptions {
        ConnectOptions::new(address, Source::pem(self.ca.clone()))
            .server_name("localhost")
            .reconnect(Reconnect::Backoff {
                first: Duration::from_millis(1),
                max: Duration::from_millis(10),
            })
    }

    /// A connection whose HELLO was read; the test answers.
    pub async fn greeted(&self) -> (FakeSession, Hello) {
        let quic = self.endpoint.accept().await.unwrap().await.unwrap();
        let (send, recv) = quic.accept_bi().await.unwrap();
        let mut control = FakeStream::new(send, recv);
        let hello = control.expect(FrameType::Hello).await;
        (
            FakeSession { quic, control },
            control::parse(&hello).unwrap(),
        )
    }

    /// Waits for a connection whose handshake fails.
    pub async fn failed(&self) {
        let accepted = self.endpoint.accept().await.unwrap().await;
        if let Ok(connection) = accepted {
            connection.closed().await;
        }
    }

    /// A connection that was welcomed.
    pub async fn welcomed(&self) -> FakeSession {
        let (mut session, _) = self.greeted().await;
        session
            .control
            .put(control::bytes_of(FrameType::Welcome, &welcome()))
            .await;
        session
    }

    /// A connected client and the node's end of it.
    pub async fn pair(&self, options: ConnectOptions) -> (Client, FakeSession) {
        let (client, session) = tokio::join!(Client::connect(options), self.welcomed());
        (client.unwrap(), session)
    }
}

pub fn welcome() -> Welcome {
    Welcome {
        version: 1,
        node: "fake".into(),
        payload_bytes_max: 1 << 20,
        batch_messages_max: 256,
        batch_bytes_max: 1 << 20,
        frame_bytes_max: 2 << 20,
        streams_max: 100,
        ..Welcome::default()
    }
}

pub struct FakeSession {
    pub quic: Connection,
    pub control: FakeStream,
}

impl FakeSession {
    /// The next stream and its first frame.
    pub async fn stream(&self) -> (FakeStream, Frame) {
        let (send, recv) = self.quic.accept_bi().await.unwrap();
        let mut stream = FakeStream::new(send, recv);
        let first = stream.frame().await.expect("a first frame");
        (stream, first)
    }

    /// The next stream, of this kind, answered with OPENED.
    pub async fn opened(&self, kind: FrameType, opened: Opened) -> FakeStream {
        let (mut stream, first) = self.stream().await;
        assert_eq!(first.kind, kind);
        stream
            .put(control::bytes_of(FrameType::Opened, &opened))
            .await;
        stream
    }

    /// A publisher with a window.
    pub async fn publisher(&self, window_sequence: u64) -> FakeStream {
        let opened = Opened {
            window_sequence,
            window_bytes: 1 << 30,
            ..Opened::default()
        };
        self.opened(FrameType::OpenPublisher, opened).await
    }

    pub async fn consumer(&self) -> FakeStream {
        self.opened(FrameType::OpenConsumer, Opened::default())
            .await
    }

    pub fn crash(self) {
        self.quic.close(VarInt::from_u32(0), b"crash");
    }
}

pub struct FakeStream {
    pub send: SendStream,
    recv: RecvStream,
    decoder: FrameDecoder,
}

impl FakeStream {
    pub fn new(send: SendStream, recv: RecvStream) -> FakeStream {
        FakeStream {
            send,
            recv,
            decoder: FrameDecoder::new(2 << 20),
        }
    }

    /// The next frame; `None` at the end of the stream.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            match self.recv.read_chunk(1 << 16, true).await.unwrap() {
                Some(chunk) => self.decoder.buffer().extend_from_slice(&chunk.bytes),
                None => return None,
            }
        }
    }

    /// A frame that is here already.
    pub fn ready(&mut self) -> Option<Frame> {
        self.decoder.next_frame().unwrap()
    }

    pub async fn expect(&mut self, kind: FrameType) -> Frame {
        let frame = self.frame().await.expect("a frame");
        assert_eq!(frame.kind, kind);
        frame
    }

    pub async fn put(&mut self, bytes: impl Into<Bytes>) {
        self.send.write_chunk(bytes.into()).await.unwrap();
    }

    pub async fn publish(&mut self) -> Publish {
        Publish::parse(&self.expect(FrameType::Publish).await).unwrap()
    }

    /// Reads until so many messages came; gives the payloads.
    pub async fn published(&mut self, first: u64, count: u32) -> Vec<String> {
        let mut payloads = Vec::new();
        while payloads.len() < count as usize {
            let publish = self.publish().await;
            assert_eq!(publish.first_sequence, first + payloads.len() as u64);
            payloads.extend(texts(&publish.slab));
        }
        payloads
    }

    pub async fn confirm(&mut self, up_to: u64, window: u64, exceptions: Vec<Exception>) {
        let confirm = Confirm {
            up_to,
            level: Level::Stored,
            window_sequence: window,
            window_bytes: 1 << 30,
            exceptions,
        };
        let mut out = BytesMut::new();
        confirm.put(&mut out);
        self.put(out).await;
    }

    pub async fn said(&mut self) -> ConsumerFrame {
        ConsumerFrame::parse(&self.frame().await.expect("a word")).unwrap()
    }

    pub async fn deliver(&mut self, first_offset: u64, slab: Slab) {
        let deliver = Deliver {
            first_offset,
            receive_time_ms: 5,
            detail: vec![],
            slab,
        };
        let mut out = BytesMut::new();
        deliver.put_head(&mut out);
        out.extend_from_slice(deliver.slab.bytes());
        self.put(out).await;
    }

    /// Reads to the client's FIN, then CLOSED and FIN.
    pub async fn close(&mut self) {
        assert_eq!(self.frame().await, None);
        self.put(waypost_client::wire::data::bytes_of(FrameType::Closed, &[]))
            .await;
        self.send.finish().unwrap();
    }
}

pub fn message(n: u32) -> Message {
    Message::new("a/b", format!("m{n}"))
}

pub fn slab(numbers: impl IntoIterator<Item = u32>) -> Slab {
    let mut builder = SlabBuilder::new();
    numbers
        .into_iter()
        .for_each(|n| builder.push_message(&message(n)));
    builder.finish()
}

pub fn texts(slab: &Slab) -> Vec<String> {
    let payload = |body| {
        let record = waypost_client::RecordRef::parse(body).unwrap();
        String::from_utf8(record.payload().to_vec()).unwrap()
    };
    slab.iter().map(payload).collect()
}

pub fn numbered(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    numbers.into_iter().map(|n| format!("m{n}")).collect()
}
