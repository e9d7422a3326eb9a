//! The UDP socket, TLS and QUIC's settings of a client.
//!
//! Worst case in memory for one connection, by these settings:
//!
//! ```text
//! received, unread:  RECEIVE_WINDOW + subscribers * STREAM_WINDOW    8 MiB + 2 MiB each
//! sent, unacked:     SEND_WINDOW                                     8 MiB
//! socket:            2 * SOCKET_BYTES, in the kernel                 8 MiB
//! ```
//!
//! Only a subscriber leaves bytes unread; the drivers of publishers and consumers always read.
//! The connection's window grows by a whole stream window with each subscriber, so that no number
//! of slow ones can hold back a confirm or a delivery.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{Domain, Protocol, Socket, Type};
use waypost_wire::LOOPBACK_UDP_PAYLOAD_MAX;

use crate::error::ConnectError;
use crate::options::{ConnectOptions, Identity, Source};

/// Received bytes of one stream that may lie unread: a batch and the next, 8 Gbit/s at 2 ms.
pub(crate) const STREAM_WINDOW: u32 = 2 << 20;
/// Received bytes of all streams but subscribers' that may lie unread.
pub(crate) const RECEIVE_WINDOW: u32 = 8 << 20;
/// Bytes written and not yet acknowledged by the other side.
const SEND_WINDOW: u64 = 8 << 20;
/// Receive and send buffer of the socket; the system may grant less.
const SOCKET_BYTES: usize = 4 << 20;
/// What may be in flight at first on loopback: ten datagrams, as elsewhere.
const LOOPBACK_WINDOW: u64 = 10 * LOOPBACK_UDP_PAYLOAD_MAX as u64;
/// With this a NAT's mapping stays, and a dead node is seen within [`IDLE_TIMEOUT_MS`].
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Six keep-alives.
const IDLE_TIMEOUT_MS: u32 = 30_000;

/// QUIC's settings by the kind of path.
#[derive(Clone)]
pub(crate) struct ClientConfigs {
    network: quinn::ClientConfig,
    loopback: quinn::ClientConfig,
}

impl ClientConfigs {
    /// The settings for a connection to `address`.
    pub(crate) fn of(&self, address: SocketAddr) -> quinn::ClientConfig {
        match address.ip().to_canonical().is_loopback() {
            true => self.loopback.clone(),
            false => self.network.clone(),
        }
    }
}

/// One UDP socket for all connections of a client: both IP versions where the system has them.
pub(crate) fn endpoint() -> Result<quinn::Endpoint, ConnectError> {
    let socket = socket().map_err(ConnectError::Socket)?;
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(LOOPBACK_UDP_PAYLOAD_MAX)
        .map_err(|error| ConnectError::Options(error.to_string()))?;
    quinn::Endpoint::new(config, None, socket, Arc::new(quinn::TokioRuntime))
        .map_err(ConnectError::Socket)
}

fn socket() -> std::io::Result<UdpSocket> {
    let both = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP)).and_then(|socket| {
        socket.set_only_v6(false)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
        Ok(socket)
    });
    let socket = match both {
        Ok(socket) => socket,
        Err(_) => {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
            socket
        }
    };
    // Smaller buffers lose datagrams at high rates and nothing else.
    if let Err(error) = socket
        .set_recv_buffer_size(SOCKET_BYTES)
        .and_then(|()| socket.set_send_buffer_size(SOCKET_BYTES))
    {
        tracing::debug!(%error, bytes = SOCKET_BYTES, "socket buffers keep the system's size");
    }
    Ok(socket.into())
}

/// QUIC's settings with the certificates of `options`.
pub(crate) fn client_config(options: &ConnectOptions) -> Result<ClientConfigs, ConnectError> {
    let crypto = QuicClientConfig::try_from(tls(options)?)
        .map_err(|error| ConnectError::Options(error.to_string()))?;
    let mut network = quinn::ClientConfig::new(Arc::new(crypto));
    let mut loopback = network.clone();
    network.transport_config(Arc::new(transport()));
    let mut large = transport();
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(LOOPBACK_UDP_PAYLOAD_MAX);
    large.mtu_discovery_config(Some(discovery));
    // Probes of that size count as in flight: with the usual window, one of them and nothing else
    // would hold back the word that closes a young connection.
    let mut cubic = quinn::congestion::CubicConfig::default();
    cubic.initial_window(LOOPBACK_WINDOW);
    large.congestion_controller_factory(Arc::new(cubic));
    loopback.transport_config(Arc::new(large));
    Ok(ClientConfigs { network, loopback })
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()))
        // A node opens no streams and sends no datagrams.
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(quinn::congestion::CubicConfig::default()));
    transport
}

fn tls(options: &ConnectOptions) -> Result<rustls::ClientConfig, ConnectError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&options.trust, "trusted certificates")? {
        roots.add(certificate).map_err(|error| {
            ConnectError::Options(format!("{}: {error}", options.trust.describe()))
        })?;
    }
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| ConnectError::Options(error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match &options.identity {
        Identity::Certificate { chain, key } => {
            let certificates = certificates(chain, "client certificate")?;
            let private = PrivateKeyDer::from_pem_slice(&key.read()?).map_err(|error| {
                ConnectError::Options(format!("{}: private key: {error}", key.describe()))
            })?;
            builder
                .with_client_auth_cert(certificates, private)
                .map_err(|error| {
                    let chain = chain.describe();
                    ConnectError::Options(format!("{chain} and {}: {error}", key.describe()))
                })?
        }
        Identity::None | Identity::Token(_) => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![waypost_wire::ALPN.to_vec()];
    Ok(config)
}

fn certificates(source: &Source, what: &str) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let text = source.read()?;
    let bad =
        |error: String| ConnectError::Options(format!("{}: {what}: {error}", source.describe()));
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(error.to_string()))?;
    match certificates.is_empty() {
        true => Err(bad("no CERTIFICATE section found".to_owned())),
        false => Ok(certificates),
    }
}
