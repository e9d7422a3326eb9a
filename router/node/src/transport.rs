//! QUIC's settings, and the arithmetic behind them.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicServerConfig};
use quinn::{
    ConfigError, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig,
    VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};
use waypost_wire::LOOPBACK_UDP_PAYLOAD_MAX;

use crate::config::LimitsConfig;

/// The kernel's buffers for the one UDP socket: 4 MiB are 30 ms of 1 Gbit/s.
const UDP_BUFFER_BYTES: usize = 4 << 20;
/// What a client may have sent on a stream before the node has read it: eight reads of 64 KiB,
/// several round trips of a link of 100 Mbit/s and 50 ms.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// What the node may have sent and not yet been told of, per connection.
const SEND_WINDOW_BYTES: u64 = 8 << 20;
/// What may be in flight at first on loopback: ten datagrams, as elsewhere.
const LOOPBACK_WINDOW: u64 = 10 * LOOPBACK_UDP_PAYLOAD_MAX as u64;
/// Both sides end a connection that was silent for so long; clients send keep-alives every 5 s.
const IDLE: Duration = Duration::from_secs(30);

/// The UDP socket.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    // What the kernel grants is what there is; a smaller buffer only costs speed.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The endpoint's settings. Worst case of what quinn buffers for one connection:
/// `streams * STREAM_WINDOW_BYTES + SEND_WINDOW_BYTES`. The connection's own receive window is not
/// limited beside that: a publisher that the node holds back must not hold back another stream's
/// acks.
pub(crate) fn server_config(
    tls: rustls::ServerConfig,
    limits: &LimitsConfig,
) -> Result<ServerConfigs, NoInitialCipherSuite> {
    let mut network = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let mut loopback = network.clone();
    network.transport_config(Arc::new(transport(limits)));
    let mut large = transport(limits);
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(LOOPBACK_UDP_PAYLOAD_MAX);
    large.mtu_discovery_config(Some(discovery));
    // Probes of that size count as in flight: with the usual window, one of them and nothing else
    // would hold back the word that closes a young connection.
    let mut cubic = quinn::congestion::CubicConfig::default();
    cubic.initial_window(LOOPBACK_WINDOW);
    large.congestion_controller_factory(Arc::new(cubic));
    loopback.transport_config(Arc::new(large));
    Ok(ServerConfigs {
        network: Arc::new(network),
        loopback: Arc::new(loopback),
    })
}

/// What the endpoint takes from the network at all.
pub(crate) fn endpoint_config() -> Result<EndpointConfig, ConfigError> {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(LOOPBACK_UDP_PAYLOAD_MAX)?;
    Ok(config)
}

/// QUIC's settings by the kind of path.
pub(crate) struct ServerConfigs {
    network: Arc<ServerConfig>,
    loopback: Arc<ServerConfig>,
}

impl ServerConfigs {
    /// The settings for a connection from `address`.
    pub(crate) fn of(&self, address: SocketAddr) -> Arc<ServerConfig> {
        match address.ip().to_canonical().is_loopback() {
            true => self.loopback.clone(),
            false => self.network.clone(),
        }
    }
}

fn transport(limits: &LimitsConfig) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(
            limits.streams_per_connection.saturating_add(8),
        ))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::MAX)
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok());
    transport
}
