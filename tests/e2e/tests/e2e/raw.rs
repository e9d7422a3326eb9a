//! A client that writes its frames by hand: what a broken or hostile one would send.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig, VarInt,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use waypost_wire::control::{self, Hello, OpenConsumer, OpenPublisher, OpenSubscriber, Opened};
use waypost_wire::data::{Confirm, ConsumerFrame, Deliver, Publish};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Code, Frame, FrameDecoder, FrameType, Message, Slab, frame};

use crate::child::Child;
use crate::harness::TestNode;

/// A node, and where its certificates lie.
pub trait Reachable {
    fn socket(&self) -> SocketAddr;
    fn tls_dir(&self) -> PathBuf;
}

impl Reachable for TestNode {
    fn socket(&self) -> SocketAddr {
        self.address()
    }

    fn tls_dir(&self) -> PathBuf {
        self.tls("")
    }
}

impl Reachable for Child {
    fn socket(&self) -> SocketAddr {
        self.address
    }

    fn tls_dir(&self) -> PathBuf {
        self.data_dir.join("tls")
    }
}

/// How a raw client connects.
pub struct Dial {
    pub alpn: &'static [u8],
    /// Whether it shows the client certificate.
    pub certificate: bool,
    /// Unread bytes of one stream that it takes.
    pub stream_window: u32,
}

impl Default for Dial {
    fn default() -> Self {
        Dial {
            alpn: waypost_wire::ALPN,
            certificate: true,
            stream_window: 1 << 20,
        }
    }
}

impl Dial {
    /// The QUIC connection alone.
    pub async fn quic(&self, node: &impl Reachable) -> Result<Connection, ConnectionError> {
        Ok(self.endpoint(node).await?.1)
    }

    /// The same, with the endpoint that it belongs to.
    pub async fn endpoint(
        &self,
        node: &impl Reachable,
    ) -> Result<(Endpoint, Connection), ConnectionError> {
        let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        endpoint.set_default_client_config(self.config(&node.tls_dir()));
        let connecting = endpoint.connect(node.socket(), "127.0.0.1").unwrap();
        Ok((endpoint.clone(), connecting.await?))
    }

    fn config(&self, tls: &Path) -> quinn::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(tls.join("ca.pem")).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.certificate {
            true => {
                let chain = CertificateDer::pem_file_iter(tls.join("client.pem")).unwrap();
                let key = PrivateKeyDer::from_pem_file(tls.join("client.key")).unwrap();
                builder
                    .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
                    .unwrap()
            }
            false => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![self.alpn.to_vec()];
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(VarInt::from_u32(self.stream_window));
        let quic = QuicClientConfig::try_from(config).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(quic));
        config.transport_config(Arc::new(transport));
        config
    }

    /// A connection that was welcomed.
    pub async fn welcomed(&self, node: &impl Reachable) -> Raw {
        Self::greet(self.quic(node).await.unwrap()).await
    }

    /// HELLO and WELCOME on a new connection.
    pub async fn greet(quic: Connection) -> Raw {
        let mut control = RawStream::open(&quic).await;
        control.send(&hello(&[waypost_wire::VERSION], "")).await;
        let frame = control.next().await.expect("WELCOME");
        assert_eq!(frame.kind, FrameType::Welcome);
        Raw { quic, control }
    }
}

/// HELLO.
pub fn hello(versions: &[u32], token: &str) -> Bytes {
    let hello = Hello {
        versions: versions.to_vec(),
        client: "raw".to_owned(),
        token: token.to_owned(),
        frame_bytes_max: 0,
    };
    control::bytes_of(FrameType::Hello, &hello)
}

/// A connection after WELCOME.
pub struct Raw {
    pub quic: Connection,
    pub control: RawStream,
}

impl Raw {
    pub async fn connect(node: &impl Reachable) -> Raw {
        Dial::default().welcomed(node).await
    }

    /// A stream with this first frame, and what the node answers.
    pub async fn stream(&self, first: &[u8]) -> RawStream {
        let mut stream = RawStream::open(&self.quic).await;
        stream.send(first).await;
        stream
    }

    pub async fn opened(&self, first: &[u8]) -> (RawStream, Opened) {
        let mut stream = self.stream(first).await;
        let frame = stream.next().await.expect("OPENED");
        assert_eq!(frame.kind, FrameType::Opened, "{:?}", stream.said(&frame));
        let opened = control::parse(&frame).unwrap();
        (stream, opened)
    }

    pub async fn publisher(&self, window_messages: u32) -> RawStream {
        self.opened(&open_publisher(window_messages)).await.0
    }

    pub async fn consumer(&self, queue: &str, group: &str) -> RawStream {
        self.opened(&open_consumer(queue, group)).await.0
    }

    pub async fn subscriber(&self, filters: &[&str]) -> RawStream {
        self.opened(&open_subscriber(filters)).await.0
    }
}

pub fn open_publisher(window_messages: u32) -> Bytes {
    let open = OpenPublisher {
        name: String::new(),
        window_messages,
        ..OpenPublisher::default()
    };
    control::bytes_of(FrameType::OpenPublisher, &open)
}

pub fn open_consumer(queue: &str, group: &str) -> Bytes {
    let open = OpenConsumer {
        queue: queue.to_owned(),
        group: group.to_owned(),
        ..OpenConsumer::default()
    };
    control::bytes_of(FrameType::OpenConsumer, &open)
}

pub fn open_subscriber(filters: &[&str]) -> Bytes {
    let open = OpenSubscriber {
        filters: filters.iter().map(|f| (*f).to_owned()).collect(),
        ..OpenSubscriber::default()
    };
    control::bytes_of(FrameType::OpenSubscriber, &open)
}

/// A PUBLISH of these messages.
pub fn publish(first_sequence: u64, messages: &[Message]) -> Bytes {
    publish_slab(first_sequence, &slab(messages))
}

pub fn publish_slab(first_sequence: u64, slab: &Slab) -> Bytes {
    let mut out = BytesMut::new();
    Publish::put(&mut out, first_sequence, slab);
    out.freeze()
}

pub fn slab(messages: &[Message]) -> Slab {
    let mut slab = SlabBuilder::new();
    messages.iter().for_each(|m| slab.push_message(m));
    slab.finish()
}

/// Any frame, also one that does not exist.
pub fn any_frame(kind: u64, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    waypost_wire::varint::put(&mut out, kind);
    waypost_wire::varint::put(&mut out, payload.len() as u64);
    out.extend_from_slice(payload);
    out.freeze()
}

pub fn frame(kind: FrameType, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    frame::put(&mut out, kind, payload);
    out.freeze()
}

pub fn consumer_frame(frame: &ConsumerFrame) -> Bytes {
    let mut out = BytesMut::new();
    frame.put(&mut out);
    out.freeze()
}

/// One stream, frame by frame.
pub struct RawStream {
    pub send: SendStream,
    recv: RecvStream,
    decoder: FrameDecoder,
}

impl RawStream {
    pub async fn open(quic: &Connection) -> RawStream {
        let (send, recv) = quic.open_bi().await.unwrap();
        RawStream {
            send,
            recv,
            decoder: FrameDecoder::new(64 << 20),
        }
    }

    /// Writes bytes as they are. The node may have stopped reading already.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.send.write_all(bytes).await;
    }

    /// The next frame; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            match self.recv.read_chunk(64 << 10, true).await {
                Ok(Some(chunk)) => self.decoder.buffer().extend_from_slice(&chunk.bytes),
                Ok(None) => return None,
                Err(error) => panic!("the stream broke: {error}"),
            }
        }
    }

    /// The ERROR that ends the stream; confirms before it are passed over.
    pub async fn error(&mut self) -> (Code, String) {
        loop {
            let frame = self.next().await.expect("an ERROR before the end");
            if frame.kind == FrameType::Error {
                let error: control::Error = control::parse(&frame).unwrap();
                assert!(self.next().await.is_none(), "something after ERROR");
                return (error.kind(), error.message);
            }
            assert_eq!(frame.kind, FrameType::Confirm, "instead of ERROR");
        }
    }

    pub async fn confirm(&mut self) -> Confirm {
        let frame = self.next().await.expect("CONFIRM");
        assert_eq!(frame.kind, FrameType::Confirm, "{:?}", self.said(&frame));
        Confirm::parse(&frame).unwrap()
    }

    pub async fn deliver(&mut self) -> Deliver {
        let frame = self.next().await.expect("DELIVER");
        assert_eq!(frame.kind, FrameType::Deliver, "{:?}", self.said(&frame));
        Deliver::parse(&frame).unwrap()
    }

    /// Deliveries until there are so many messages.
    pub async fn deliveries(&mut self, count: u32) -> Vec<Deliver> {
        let (mut all, mut got) = (Vec::new(), 0);
        while got < count {
            let deliver = self.deliver().await;
            got += deliver.slab.count();
            all.push(deliver);
        }
        assert_eq!(got, count);
        all
    }

    pub async fn credit(&mut self, messages: u64, bytes: u64) {
        let credit = ConsumerFrame::Credit { messages, bytes };
        self.send(&consumer_frame(&credit)).await;
    }

    /// Finishes this half and waits for CLOSED.
    pub async fn close(mut self) {
        self.send.finish().unwrap();
        loop {
            let frame = self.next().await.expect("CLOSED");
            assert_ne!(frame.kind, FrameType::Error, "{:?}", self.said(&frame));
            if frame.kind == FrameType::Closed {
                assert!(self.next().await.is_none(), "something after CLOSED");
                return;
            }
        }
    }

    fn said(&self, frame: &Frame) -> Option<control::Error> {
        (frame.kind == FrameType::Error).then(|| control::parse(frame).unwrap())
    }
}

/// Code and text that a connection was closed with.
pub async fn closed(quic: &Connection) -> (Code, String) {
    match quic.closed().await {
        ConnectionError::ApplicationClosed(close) => (
            Code::from_number(close.error_code.into_inner()),
            String::from_utf8_lossy(&close.reason).into_owned(),
        ),
        other => panic!("closed by {other}"),
    }
}
