//! A running node: started from a configuration, drained on demand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::time::{Duration, Instant};

use quinn::{Endpoint, VarInt};
use tokio::sync::watch;
use waypost_core::limits::Limits;
use waypost_core::queue::Settings;
use waypost_host::Compiler;
use waypost_log::{DataDir, Log, OpenError, RealVfs};
use waypost_shard::{ManageError, Now, Shard};
use waypost_wire::Code;

use crate::admin;
use crate::alarms::{AlarmKind, Alarms};
use crate::clock::{Clock, wall_ms};
use crate::config::{Config, QueueConfig};
use crate::connection::{self, Admission, Conn};
use crate::disk::{self, Disk};
use crate::error::StartError;
use crate::identity::Identities;
use crate::lanes::{Lanes, Spread};
use crate::live::Hub;
use crate::memory;
use crate::metrics::Metrics;
use crate::plugins::{self, Opening, Plugins};
use crate::routing::CurrentRouting;
use crate::shard_thread::{self, Command, ShardHandle};
use crate::stream_io::StreamError;
use crate::tap::Taps;
use crate::tls::{self, TlsFiles};
use crate::transport::{self, ServerConfigs};
use crate::view::View;
use crate::workers::{Surroundings, Workers};

/// How long connections may take to end once they were closed.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// What a node is started with beside its configuration.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// Where plugins are compiled. A program that is not `waypost` must say
    /// [`Compiler::InProcess`] or name one that is.
    pub compiler: Compiler,
    /// Whether the admin page is served.
    pub admin: bool,
}

impl Default for StartOptions {
    fn default() -> Self {
        StartOptions {
            compiler: Compiler::InProcess,
            admin: true,
        }
    }
}

/// Turns of those who changed queues and wait for the routes to follow.
///
/// Invariant: a change was made before it was asked for, so whoever looks at all queues serves all
/// that have asked by then.
#[derive(Default)]
pub(crate) struct RouteTurns {
    /// How many have asked.
    pub asked: AtomicU64,
    /// How many of them the routes in force follow.
    pub served: tokio::sync::Mutex<u64>,
}

/// What all tasks of a node share.
pub(crate) struct Shared {
    pub name: String,
    pub clock: Clock,
    pub limits: Limits,
    pub streams_max: u32,
    pub connections_max: usize,
    pub drain_timeout: Duration,
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub identities: Identities,
    pub metrics: Arc<Metrics>,
    pub alarms: Arc<Alarms>,
    pub shard: ShardHandle,
    pub routing: Arc<CurrentRouting>,
    pub plugins: Arc<Plugins>,
    /// Whose turn it is to bring the routes in line with the queues.
    pub route_turns: RouteTurns,
    pub workers: Arc<Workers>,
    pub hub: Arc<Hub>,
    pub taps: Arc<Taps>,
    pub connections: Connections,
    /// Connections that have not said who they are.
    pub greeting: AtomicUsize,
    pub next_consumer: AtomicU64,
    /// See [`crate::workers::Work::lane`].
    pub next_lane: AtomicU64,
    pub draining: watch::Sender<bool>,
    pub configured_queues: Vec<String>,
}

/// Queues of the router's own, such as the state of plugins, are nobody else's to change.
pub(crate) fn check_not_own(queue: &str) -> Result<(), StreamError> {
    match queue.starts_with('$') {
        false => Ok(()),
        true => Err(StreamError::Refused(
            Code::Forbidden,
            format!("queue '{queue}' is the router's own"),
        )),
    }
}

impl Shared {
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// A queue that the configuration names is not changed over the network.
    pub fn check_not_configured(&self, queue: &str) -> Result<(), StreamError> {
        check_not_own(queue)?;
        match self.configured_queues.iter().any(|name| name == queue) {
            false => Ok(()),
            true => Err(StreamError::Refused(
                Code::Exists,
                format!("queue '{queue}' is named by the configuration, which is the truth for it"),
            )),
        }
    }
}

/// Connections that are open.
#[derive(Default)]
pub(crate) struct Connections(RwLock<BTreeMap<u64, Arc<Conn>>>);

impl Connections {
    pub fn insert(&self, conn: &Arc<Conn>) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(conn.id, conn.clone());
    }

    pub fn remove(&self, id: u64) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
    }

    pub fn list(&self) -> Vec<Arc<Conn>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}

/// A node.
#[derive(Debug)]
pub struct Node;

impl Node {
    /// Starts a node on threads of its own: opens the data directory, loads the plugins, listens.
    /// Blocks until it serves. Must not be called inside an asynchronous runtime.
    pub fn start(config: Config, options: StartOptions) -> Result<Running, StartError> {
        let began = Instant::now();
        Starting::new(config, options)?.run(began)
    }
}

/// What is needed until the node runs.
struct Starting {
    config: Config,
    options: StartOptions,
    data: Arc<DataDir<RealVfs>>,
    clock: Clock,
    alarms: Arc<Alarms>,
    metrics: Arc<Metrics>,
}

impl Starting {
    fn new(config: Config, options: StartOptions) -> Result<Starting, StartError> {
        let data_dir = &config.node.data_dir;
        let data = DataDir::open(&RealVfs, data_dir).map_err(StartError::Data)?;
        Ok(Starting {
            data: Arc::new(data),
            options,
            clock: Clock::new(),
            alarms: Arc::new(Alarms::default()),
            metrics: Arc::new(Metrics::default()),
            config,
        })
    }

    fn run(self, began: Instant) -> Result<Running, StartError> {
        let identities = Identities::new(&self.config);
        let tls = self.tls()?;
        let shard = self.open_shard()?;
        let limits = limits(&self.config);
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let or_cores = |count: usize| if count == 0 { cores } else { count };
        let node = &self.config.node;
        let handle = ShardHandle::default();
        let abandoned = Abandoned(handle.clone());
        let hub = Arc::new(Hub::default());
        let taps = Arc::new(Taps::default());
        let surroundings = Surroundings {
            limits: limits.clone(),
            clock: self.clock,
            alarms: self.alarms.clone(),
            shard: handle.clone(),
            hub: hub.clone(),
            taps: taps.clone(),
            troubled: Arc::default(),
            stopping: Arc::default(),
        };
        let (workers, mut joins) = Workers::start(or_cores(node.plugin_workers), &surroundings)
            .map_err(StartError::Thread)?;
        let workers = Arc::new(workers);
        let queues = shard.queues().into_iter();
        let (plugins, routing) = Plugins::open(Opening {
            config: &self.config,
            compiler: self.options.compiler.clone(),
            alarms: self.alarms.clone(),
            workers: workers.clone(),
            queues: queues.map(|q| (q.name, q.settings.from)).collect(),
        })?;
        let plugins = Arc::new(plugins);

        let (fatal_send, fatal) = mpsc::channel();
        let metrics = self.metrics.clone();
        let log = &self.config.log;
        let disk = Arc::new(Disk::new(
            &self.config.node.data_dir,
            log.disk_reserve_bytes,
            log.reserve_file_bytes,
            metrics.clone(),
        ));
        disk.tell(&self.alarms);
        let shard_join = shard_thread::start(
            handle.clone(),
            shard,
            shard_thread::Around {
                clock: self.clock,
                alarms: self.alarms.clone(),
                metrics,
                disk: disk.clone(),
                plugins: plugins.clone(),
            },
            self.data.clone(),
            move |why| {
                tracing::error!(why, "nothing can be stored any more");
                let _ = fatal_send.send(why);
            },
        )
        .map_err(StartError::Thread)?;
        let shard = handle;
        joins.push(shard_join);
        let lanes = Lanes::start(or_cores(node.threads)).map_err(StartError::Thread)?;
        let spread = Spread::new(&lanes);
        let (endpoint, configs) = self.listen(&lanes, spread.clone(), tls)?;
        let listen = endpoint.local_addr().map_err(|error| StartError::Listen {
            address: node.listen,
            error,
        })?;
        let shared = Arc::new(Shared {
            name: node.name.clone(),
            clock: self.clock,
            limits,
            streams_max: self.config.limits.streams_per_connection,
            connections_max: self.config.limits.connections,
            drain_timeout: node.drain_timeout,
            data_dir: node.data_dir.clone(),
            listen,
            identities,
            metrics: self.metrics.clone(),
            alarms: self.alarms.clone(),
            shard,
            routing,
            plugins,
            route_turns: RouteTurns::default(),
            workers,
            hub,
            taps,
            connections: Connections::default(),
            greeting: AtomicUsize::new(0),
            next_consumer: AtomicU64::new(1),
            next_lane: AtomicU64::new(1),
            draining: watch::Sender::new(false),
            configured_queues: self
                .config
                .queues
                .iter()
                .map(|queue| queue.name.clone())
                .collect(),
        });
        let admin = self.serve_admin(&shared)?;
        lanes
            .handle(0)
            .spawn(accept(shared.clone(), endpoint.clone(), configs, spread));
        let watch = disk::watch(disk, self.alarms.clone());
        lanes.handle(0).spawn(watch);
        let again = plugins::pull_again(shared.plugins.clone());
        lanes.handle(0).spawn(again);
        // Recovery reads whole files of the log: 16 MB that an idle node would hold for ever.
        memory::give_back();
        Ok(Running {
            shared,
            endpoint,
            lanes,
            joins,
            admin,
            fatal: Mutex::new(fatal),
            ready_in: began.elapsed(),
            _abandoned: abandoned,
        })
    }

    fn tls(&self) -> Result<rustls::ServerConfig, StartError> {
        let files = match &self.config.tls {
            Some(tls) => TlsFiles {
                cert: tls.cert.clone(),
                key: tls.key.clone(),
                client_ca: tls.client_ca.clone(),
            },
            None => tls::make(&self.config.node.data_dir.join("tls"))?.node,
        };
        Ok(tls::server_config(&files, &[waypost_wire::ALPN])?)
    }

    fn open_shard(&self) -> Result<Shard<RealVfs>, StartError> {
        let log = &self.config.log;
        // A group must hold the largest message, with room for what else one input may cause.
        let largest = (self.config.limits.payload_bytes + (1 << 20)).next_multiple_of(4096);
        let file_bytes = log.wal_file_bytes.max(largest * 2);
        let options = waypost_log::Options {
            shard: 0,
            file_bytes,
            wal_bytes_max: log.wal_bytes.max(4 * file_bytes),
            wal_bytes_low: log.wal_bytes.max(4 * file_bytes) / 2,
            group_bytes_max: file_bytes.min((8 << 20u64).max(largest * 2)),
            segment_bytes_max: log.segment_bytes,
            nonce: crate::random_u64(),
            ..waypost_log::Options::default()
        };
        let dir = self.data.shard_dir(0);
        let open = || Log::open(RealVfs, &dir, options.clone(), wall_ms());
        let opened = match open() {
            Err(OpenError::Io(error))
                if error.is_no_space() && disk::give_up(&self.config.node.data_dir) =>
            {
                open()
            }
            opened => opened,
        };
        let (log, recovered) = opened.map_err(StartError::Data)?;
        for torn in &recovered.report.torn {
            tracing::warn!(
                ?torn,
                "an unfinished write was cut; nothing of it was confirmed"
            );
        }
        let limits = limits(&self.config);
        let mut shard_options = waypost_shard::Options::from_limits(&limits);
        shard_options.ack_sync_ms = self.config.log.ack_sync.as_millis() as u64;
        let opened = Shard::open(log, recovered, shard_options);
        for text in opened.alarms {
            self.alarms
                .raise(AlarmKind::QuarantinedData, "log", text, wall_ms());
        }
        let mut shard = opened.shard;
        for queue in &self.config.queues {
            let settings = queue.settings.clone();
            self.ensure(&mut shard, &queue.name, settings, "config")?;
            self.ensure_groups(&mut shard, queue)?;
        }
        let dead_letter = waypost_core::DEAD_LETTER;
        if !self
            .config
            .queues
            .iter()
            .any(|queue| queue.name == dead_letter)
        {
            let settings = Settings {
                bytes_max: limits.queue_bytes,
                ..Settings::default()
            };
            self.ensure(&mut shard, dead_letter, settings, "node")?;
        }
        Ok(shard)
    }

    fn ensure(
        &self,
        shard: &mut Shard<RealVfs>,
        name: &str,
        settings: Settings,
        source: &'static str,
    ) -> Result<(), StartError> {
        let incarnation = shard_thread::new_incarnation();
        shard
            .ensure_queue(name, settings, incarnation, source)
            .map_err(|error: ManageError| StartError::Queue {
                queue: name.to_owned(),
                error,
            })
    }

    /// Makes the groups that the configuration names. One that was made otherwise stays as it is:
    /// what it has acked is worth more, and only a node that runs can remove it.
    fn ensure_groups(
        &self,
        shard: &mut Shard<RealVfs>,
        queue: &QueueConfig,
    ) -> Result<(), StartError> {
        let now = Now {
            mono_ms: self.clock.mono_ms(),
            wall_ms: wall_ms(),
        };
        for group in &queue.groups {
            let options = group.options.clone();
            match shard.add_group(now, &queue.name, &group.name, group.start, options) {
                Ok(()) => {}
                Err(error @ ManageError::OtherGroup { .. }) => {
                    let subject = format!("{}/{}", queue.name, group.name);
                    let text = format!(
                        "{error} than the configuration says: remove the group, and start again"
                    );
                    self.alarms
                        .raise(AlarmKind::NameConflict, &subject, text, now.wall_ms);
                }
                Err(error) => {
                    return Err(StartError::Queue {
                        queue: queue.name.clone(),
                        error,
                    });
                }
            }
        }
        Ok(())
    }

    fn listen(
        &self,
        lanes: &Lanes,
        spread: Arc<Spread>,
        tls: rustls::ServerConfig,
    ) -> Result<(Endpoint, ServerConfigs), StartError> {
        let address = self.config.node.listen;
        let failed = |error| StartError::Listen { address, error };
        let socket = transport::bind(address).map_err(failed)?;
        let configs = transport::server_config(tls, &self.config.limits)
            .map_err(|error| failed(std::io::Error::other(error)))?;
        let settings =
            transport::endpoint_config().map_err(|error| failed(std::io::Error::other(error)))?;
        let server = Some((*configs.of(address)).clone());
        let _on_lane = lanes.handle(0).enter();
        let endpoint = Endpoint::new(settings, server, socket, spread).map_err(failed)?;
        Ok((endpoint, configs))
    }

    fn serve_admin(&self, shared: &Arc<Shared>) -> Result<Option<SocketAddr>, StartError> {
        if !self.options.admin {
            return Ok(None);
        }
        let node = self.config.node.clone();
        let view = Arc::new(View::new(shared.clone()));
        let (bound, address) = mpsc::channel();
        std::thread::Builder::new()
            .name("waypost-admin".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let Ok(runtime) = runtime else { return };
                runtime.block_on(async move {
                    let listener = match admin::bind(&node).await {
                        Ok(listener) => listener,
                        Err(error) => return drop(bound.send(Err(error))),
                    };
                    let _ = bound.send(Ok(listener.local_addr().unwrap_or(node.admin)));
                    admin::serve(listener, view).await;
                });
            })
            .map_err(StartError::Thread)?;
        match address.recv() {
            Ok(address) => Ok(Some(address?)),
            Err(_) => Err(StartError::Thread(std::io::Error::other(
                "the admin thread did not start",
            ))),
        }
    }
}

fn limits(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        payload_bytes: limits.payload_bytes as usize,
        window_messages: limits.window_messages,
        window_bytes: limits.window_bytes.max(limits.payload_bytes),
        subscriber_buffer_bytes: limits.subscriber_buffer_bytes as usize,
        subscriber_patience_ms: limits.subscriber_patience.as_millis() as u64,
        cache_bytes: limits.cache_bytes as usize,
        queue_bytes: limits.queue_bytes,
        ..Limits::default()
    }
}

/// Lets connections in, one lane after the other.
async fn accept(
    node: Arc<Shared>,
    endpoint: Endpoint,
    configs: ServerConfigs,
    spread: Arc<Spread>,
) {
    let mut next_id = 1;
    while let Some(incoming) = endpoint.accept().await {
        match connection::admit(&node, &incoming) {
            Admission::Refuse => {
                node.metrics.clients.refused.add(1);
                incoming.refuse();
            }
            Admission::Retry => drop(incoming.retry()),
            Admission::Accept => {
                let id = next_id;
                next_id += 1;
                let lane = spread.aim(id as usize);
                let config = configs.of(incoming.remote_address());
                let Ok(connecting) = incoming.accept_with(config) else {
                    continue;
                };
                let greeting = Greeting::begin(&node);
                lane.spawn(connection::serve(node.clone(), connecting, id, greeting));
            }
        }
    }
}

/// Counts a connection that has not said who it is, until it is dropped.
pub(crate) struct Greeting(Arc<Shared>);

impl Greeting {
    fn begin(node: &Arc<Shared>) -> Greeting {
        node.greeting.fetch_add(1, Relaxed);
        Greeting(node.clone())
    }
}

impl Drop for Greeting {
    fn drop(&mut self) {
        self.0.greeting.fetch_sub(1, Relaxed);
    }
}

/// A node that serves. Dropping it without [`Running::shutdown`] ends it as a crash would: what
/// was confirmed is safe, clients find the connection gone.
pub struct Running {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    lanes: Lanes,
    joins: Vec<std::thread::JoinHandle<()>>,
    admin: Option<SocketAddr>,
    fatal: Mutex<mpsc::Receiver<String>>,
    ready_in: Duration,
    _abandoned: Abandoned,
}

/// Ends the shard's thread, which holds the data directory, when a node is dropped without being
/// shut down or does not start after all. After a shutdown it says nothing new.
struct Abandoned(ShardHandle);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.send(Command::Stop);
    }
}

impl Running {
    /// Where clients connect (UDP).
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.listen
    }

    /// Where health and metrics are served (TCP).
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// How long the start took.
    pub fn ready_in(&self) -> Duration {
        self.ready_in
    }

    /// Where the data is.
    pub fn data_dir(&self) -> &Path {
        &self.shared.data_dir
    }

    /// What a person should look at, one sentence each.
    pub fn alarms(&self) -> Vec<String> {
        self.shared
            .alarms
            .list()
            .into_iter()
            .map(|a| format!("{}: {}", a.subject, a.text))
            .collect()
    }

    /// Waits until nothing can be stored any more, and says why; or for `timeout`.
    pub fn wait_fatal(&self, timeout: Duration) -> Option<String> {
        let fatal = self.fatal.lock().unwrap_or_else(PoisonError::into_inner);
        match fatal.recv_timeout(timeout) {
            Ok(why) => Some(why),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Some("the shard's thread has ended".to_owned())
            }
        }
    }

    /// Drains and ends: no client is let in, those that are there are told and may finish what is
    /// in flight, for `drain_timeout`; then all is synced. Says how many had to be cut off.
    pub fn shutdown(self) -> usize {
        let node = &self.shared;
        let _ = node.draining.send(true);
        let is_empty = || node.connections.list().is_empty() && node.greeting.load(Relaxed) == 0;
        wait_for(node.drain_timeout, is_empty);
        let cut_off = node.connections.list().len();
        self.endpoint
            .close(VarInt::from_u32(Code::Draining as u32), b"the node stops");
        wait_for(CLOSE_TIME, is_empty);
        node.plugins.close();
        node.workers.stop();
        node.shard.send(Command::Stop);
        for join in self.joins {
            let _ = join.join();
        }
        self.lanes.stop();
        cut_off
    }
}

fn wait_for(limit: Duration, is_done: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_done() && began.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(2));
    }
}
