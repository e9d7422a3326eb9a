//! Health, metrics and read-only JSON over HTTP/1.1, for probes, Prometheus and people.
//!
//! Nothing can be changed here, and nothing asks for credentials; so the address is loopback
//! unless the configuration says `admin_public = true`. Management goes over `waypost/1`. The
//! server knows the node only as a [`NodeView`], whose answers are snapshots.
//!
//! Bounds: [`CONNECTIONS_MAX`] at once (others wait in the kernel's backlog), [`HEAD_BYTES_MAX`]
//! of request line and headers within [`REQUEST_TIMEOUT`], [`CONNECTION_TIMEOUT`] in all. Request
//! bodies are never read.

use crate::alarms::Alarm;
use crate::config::NodeConfig;
use crate::metrics::{self, Metrics, PluginStat, QueueStat};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 64;
/// Request line and headers.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long a request's head may take to arrive, and a kept connection may be idle.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one connection may last, so that one that never reads frees its place.
pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

const PATHS: [&str; 10] = [
    "/livez",
    "/readyz",
    "/metrics",
    "/v1/node",
    "/v1/queues",
    "/v1/queues/NAME",
    "/v1/plugins",
    "/v1/routes",
    "/v1/alarms",
    "/v1/connections",
];

/// What the server asks the node. Every answer is a snapshot and comes without waiting for disk
/// or network.
pub trait NodeView: Send + Sync + 'static {
    /// Where the node is in its life.
    fn phase(&self) -> Phase;
    /// The node's counters.
    fn metrics(&self) -> &Metrics;
    /// The node itself.
    fn node(&self) -> NodeStat;
    /// All queues.
    fn queues(&self) -> Vec<QueueStat>;
    /// All plugins.
    fn plugins(&self) -> Vec<PluginStat>;
    /// All routes, in the order in which they run.
    fn routes(&self) -> Vec<RouteStat>;
    /// All alarms.
    fn alarms(&self) -> Vec<Alarm>;
    /// All connections.
    fn connections(&self) -> Vec<ConnectionStat>;
}

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The log is read, plugins are compiled.
    Starting,
    /// Clients are served.
    Running,
    /// What is in flight is finished; no client is let in.
    Draining,
}

/// The node itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeStat {
    /// Its name.
    pub name: String,
    /// Version of the software.
    pub version: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// UDP address of `waypost/1`.
    pub listen: String,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Memory in RAM.
    pub resident_bytes: Option<u64>,
}

/// One route.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RouteStat {
    /// Its name.
    pub name: String,
    /// Its filter.
    pub from: String,
    /// Its plugins, in order.
    pub through: Vec<String>,
    /// Its destinations.
    pub to: Vec<String>,
    /// Whether later routes are skipped for what it took.
    #[serde(rename = "final")]
    pub is_final: bool,
}

/// One connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ConnectionStat {
    /// Its number since the start.
    pub id: u64,
    /// Whom the node takes the client for.
    pub principal: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// Where it comes from now.
    pub address: String,
    /// Name and version that the client gives.
    pub client: String,
    /// Milliseconds since it was let in.
    pub age_ms: u64,
    /// Open publisher streams.
    pub publishers: u64,
    /// Open consumer streams.
    pub consumers: u64,
    /// Open live subscriptions.
    pub subscribers: u64,
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address can be reached from elsewhere, and nobody said that this is meant.
    #[error(
        "admin address {0} is not loopback, and what it shows needs no credentials: \
         set [node] admin_public = true if that is meant"
    )]
    Public(SocketAddr),
    /// The address cannot be listened on.
    #[error("admin address {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

/// Listens on the configured address. Must be called in a tokio runtime.
pub async fn bind(config: &NodeConfig) -> Result<TcpListener, AdminError> {
    let address = config.admin;
    if !address.ip().is_loopback() && !config.admin_public {
        return Err(AdminError::Public(address));
    }
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| AdminError::Bind { address, error })
}

/// Serves until dropped. Connections are tasks of the runtime that this runs on.
pub async fn serve(listener: TcpListener, view: Arc<dyn NodeView>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let view = view.clone();
                tokio::spawn(async move {
                    let connection = connection(stream, view);
                    // At its time limit a connection is dropped, which closes it.
                    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: a loop without a pause would only burn.
                tracing::warn!(%error, "admin: accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, view: Arc<dyn NodeView>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &*view);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin: connection ended");
    }
}

fn respond(method: &Method, path: &str, view: &dyn NodeView) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let text = format!("{method} is not offered: this address is read-only");
        let mut response = error(StatusCode::METHOD_NOT_ALLOWED, json!({ "error": text }));
        let allow = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allow);
        return response;
    }
    match path {
        "/livez" => json_response(StatusCode::OK, &json!({ "live": true })),
        "/readyz" => ready(view),
        "/metrics" => {
            let text = metrics::render(view.metrics(), &view.queues(), &view.plugins());
            response(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                text,
            )
        }
        "/v1/node" => json_response(StatusCode::OK, &view.node()),
        "/v1/queues" => list("queues", view.queues()),
        "/v1/plugins" => list("plugins", view.plugins()),
        "/v1/routes" => list("routes", view.routes()),
        "/v1/alarms" => list("alarms", view.alarms()),
        "/v1/connections" => list("connections", view.connections()),
        _ => match path.strip_prefix("/v1/queues/") {
            Some(name) => queue(name, view),
            None => {
                let text = format!("no such path {path:?}");
                error(
                    StatusCode::NOT_FOUND,
                    json!({ "error": text, "paths": PATHS }),
                )
            }
        },
    }
}

fn ready(view: &dyn NodeView) -> Response<Full<Bytes>> {
    let phase = view.phase();
    let shown = |alarm: &Alarm| format!("{}: {}", alarm.subject, alarm.text);
    let (unready, details): (Vec<Alarm>, Vec<Alarm>) = view
        .alarms()
        .into_iter()
        .partition(|a| a.kind.makes_unready());
    let mut reasons: Vec<String> = unready.iter().map(shown).collect();
    match phase {
        Phase::Starting => reasons.insert(0, "starting".to_owned()),
        Phase::Draining => reasons.insert(0, "draining".to_owned()),
        Phase::Running => {}
    }
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let details: Vec<String> = details.iter().map(shown).collect();
    let body = json!({
        "ready": reasons.is_empty(),
        "phase": phase,
        "reasons": reasons,
        "details": details,
    });
    json_response(status, &body)
}

/// Names have no character that a URL would escape.
fn queue(name: &str, view: &dyn NodeView) -> Response<Full<Bytes>> {
    match view.queues().into_iter().find(|queue| queue.name == name) {
        Some(queue) => json_response(StatusCode::OK, &queue),
        None => {
            let text = format!("no queue {name:?}");
            error(StatusCode::NOT_FOUND, json!({ "error": text }))
        }
    }
}

fn list(key: &str, items: Vec<impl Serialize>) -> Response<Full<Bytes>> {
    json_response(StatusCode::OK, &json!({ key: items }))
}

fn error(status: StatusCode, body: Value) -> Response<Full<Bytes>> {
    json_response(status, &body)
}

fn json_response(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string(body) {
        Ok(text) => response(status, "application/json", text + "\n"),
        Err(error) => response(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain",
            format!("the answer cannot be encoded: {error}\n"),
        ),
    }
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
