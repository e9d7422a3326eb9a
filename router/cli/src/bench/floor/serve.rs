//! The floor's process: certificate, socket, threads.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, Incoming, MtuDiscoveryConfig, TransportConfig, VarInt};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use waypost_client::wire::LOOPBACK_UDP_PAYLOAD_MAX;

use super::relay::Relay;
use super::store;

/// As the node and its clients have them.
const SOCKET_BYTES: usize = 4 << 20;
const STREAM_WINDOW: u32 = 2 << 20;
const RECEIVE_WINDOW: u32 = 8 << 20;
const SEND_WINDOW: u64 = 8 << 20;

/// What the relay says of itself, one line of JSON on standard output.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {
    /// Where it listens.
    pub address: SocketAddr,
    /// The certificate to trust, PEM.
    pub ca: PathBuf,
}

/// Serves until standard input ends.
pub fn serve(dir: &Path, stored: bool, threads: usize) -> Result<()> {
    let store = match stored {
        true => Some(store::start(dir)?),
        false => None,
    };
    let relay = Arc::new(Relay::new(store));
    let (config, ca) = server_config(dir)?;
    let socket = socket()?;
    let address = socket.local_addr().context("socket")?;
    let mut others = Vec::new();
    for index in 1..threads {
        let (sender, incoming) = unbounded_channel();
        let relay = relay.clone();
        std::thread::Builder::new()
            .name(format!("floor-{index}"))
            .spawn(move || match runtime() {
                Ok(runtime) => runtime.block_on(accept(relay, incoming)),
                Err(error) => eprintln!("floor: {error:#}"),
            })
            .context("starting a thread")?;
        others.push(sender);
    }
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    runtime()?.block_on(async {
        let mut settings = EndpointConfig::default();
        settings
            .max_udp_payload_size(LOOPBACK_UDP_PAYLOAD_MAX)
            .context("endpoint")?;
        let endpoint = Endpoint::new(
            settings,
            Some(config),
            socket,
            Arc::new(quinn::TokioRuntime),
        )
        .context("endpoint")?;
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &Ready { address, ca }).context("standard output")?;
        out.write_all(b"\n").context("standard output")?;
        out.flush().context("standard output")?;
        let mut next = 0;
        while let Some(incoming) = endpoint.accept().await {
            // Round robin, this thread first.
            match next {
                0 => greet(&relay, incoming),
                other => others[other - 1]
                    .send(incoming)
                    .map_err(|_| anyhow!("a thread of the floor ended"))?,
            }
            next = (next + 1) % threads;
        }
        Ok(())
    })
}

async fn accept(relay: Arc<Relay>, mut incoming: UnboundedReceiver<Incoming>) {
    while let Some(incoming) = incoming.recv().await {
        greet(&relay, incoming);
    }
}

/// Takes a connection in on this thread: quinn drives it where it is accepted.
fn greet(relay: &Arc<Relay>, incoming: Incoming) {
    let relay = relay.clone();
    tokio::spawn(async move {
        let ended = async { relay.connection(incoming.accept()?.await?).await };
        if let Err(error) = ended.await {
            tracing::debug!(%error, "connection ended");
        }
    });
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")
}

fn socket() -> Result<UdpSocket> {
    let bind = || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        // The system may grant less.
        let _ = socket.set_recv_buffer_size(SOCKET_BYTES);
        let _ = socket.set_send_buffer_size(SOCKET_BYTES);
        std::io::Result::Ok(socket.into())
    };
    bind().context("UDP socket on 127.0.0.1")
}

fn server_config(dir: &Path) -> Result<(quinn::ServerConfig, PathBuf)> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
        .context("certificate")?;
    let ca = dir.join("floor.pem");
    std::fs::write(&ca, made.cert.pem()).with_context(|| ca.display().to_string())?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("TLS")?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .context("TLS")?;
    tls.alpn_protocols = vec![waypost_client::wire::ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).context("TLS")?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(LOOPBACK_UDP_PAYLOAD_MAX);
    // As the node has it.
    let mut cubic = quinn::congestion::CubicConfig::default();
    cubic.initial_window(10 * u64::from(LOOPBACK_UDP_PAYLOAD_MAX));
    transport
        .mtu_discovery_config(Some(discovery))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .congestion_controller_factory(Arc::new(cubic));
    config.transport_config(Arc::new(transport));
    Ok((config, ca))
}
