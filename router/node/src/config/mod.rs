//! The configuration file: one TOML document, checked as a whole, parsed here and nowhere else.
//!
//! [`Config::load`] gives either a configuration that the node can start with or every mistake of
//! the file, each with line, column, key, what was found and what was expected. [`check`] gives
//! the warnings too. Unknown keys are errors. The file is the truth for what it names, so a name
//! that it uses must be declared in it.
//!
//! What is left out: whether a plugin is a good component (the host says so when it loads it).

mod catalogue;
mod error;
mod files;
pub(crate) mod names;
pub(crate) mod plugins;
mod queues;
mod read;
mod sections;
mod supply;
#[cfg(test)]
mod tests;
pub mod units;

pub use error::{ConfigError, ConfigErrors, Problem};
pub use plugins::PluginTextError;
pub(crate) use sections::parse_destination;
pub use supply::{CredentialsConfig, PluginsConfig, RegistryConfig};

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use waypost_core::journal::GroupOptions;
use waypost_core::queue::Settings;
use waypost_shard::Start;
use waypost_supply::{Reference, TrustedKeys};
use waypost_wire::Filter;

/// The queue for what could not be processed. It exists whether the file names it or not.
pub const DEAD_LETTER: &str = "dead-letter";
/// The longest name of a queue, plugin, route, role or token, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Everything that a node is told before it starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `[node]`
    pub node: NodeConfig,
    /// `[tls]`; without it the node makes certificates of its own in `<data_dir>/tls`.
    pub tls: Option<TlsConfig>,
    /// `[limits]`
    pub limits: LimitsConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[[queue]]`, always with [`DEAD_LETTER`].
    pub queues: Vec<QueueConfig>,
    /// `[plugins]`
    pub supply: PluginsConfig,
    /// `[[registry]]`
    pub registries: Vec<RegistryConfig>,
    /// `[[plugin]]`
    pub plugins: Vec<PluginConfig>,
    /// `[routing]`
    pub routing: RoutingConfig,
    /// `[[route]]`, in the order in which they run.
    pub routes: Vec<RouteConfig>,
    /// `[[role]]`
    pub roles: Vec<RoleConfig>,
    /// `[[token]]`
    pub tokens: Vec<TokenConfig>,
    /// `[[certificate]]`
    pub certificates: Vec<CertificateConfig>,
}

/// `[node]`: where it lives and how many threads it has.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// The node's name; peers and metrics show it.
    pub name: String,
    /// Where queues, certificates and caches are kept.
    pub data_dir: PathBuf,
    /// UDP address of `waypost/1`.
    pub listen: SocketAddr,
    /// TCP address of health, metrics and read-only JSON.
    pub admin: SocketAddr,
    /// Allows `admin` to be other than loopback; what it shows needs no credentials.
    pub admin_public: bool,
    /// Connection threads; 0 means one for each core.
    pub threads: usize,
    /// Threads that run plugins; 0 means one for each core.
    pub plugin_workers: usize,
    /// How long a stopping node waits for what is in flight.
    pub drain_timeout: Duration,
}

/// `[tls]`: PEM files. Paths are as the node opens them, already joined to the file's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The node's certificate, with its intermediates after it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Certificates of those who may sign clients; without it a client needs a token.
    pub client_ca: Option<PathBuf>,
}

/// `[limits]`: what one client may take of the node. [`LimitsConfig::memory_bytes_max`] adds up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Longest payload.
    pub payload_bytes: u64,
    /// Connections at once.
    pub connections: usize,
    /// Publishers, consumers and subscribers of one connection.
    pub streams_per_connection: u32,
    /// Messages that a publisher may have unconfirmed, or a consumer unacked.
    pub window_messages: u32,
    /// Bytes that a publisher may have unconfirmed, or a consumer unacked.
    pub window_bytes: u64,
    /// What is held for a live subscriber that reads slower than its topics are written.
    pub subscriber_buffer_bytes: u64,
    /// How long that buffer may stay full before the subscriber loses messages.
    pub subscriber_patience: Duration,
    /// Newest messages of all queues, kept in memory for consumers at the tail.
    pub cache_bytes: u64,
    /// `bytes_max` of a queue that names none.
    pub queue_bytes: u64,
}

impl LimitsConfig {
    /// The most that clients can make the node hold: a window for each stream of each connection,
    /// in or out, and a buffer beside it for each subscriber, plus the cache. A node on a small
    /// machine lowers `connections`, `streams_per_connection` or the windows.
    pub fn memory_bytes_max(&self) -> u64 {
        let stream = self.window_bytes.max(self.payload_bytes) + self.subscriber_buffer_bytes;
        (self.connections as u64)
            .saturating_mul(u64::from(self.streams_per_connection))
            .saturating_mul(stream)
            .saturating_add(self.cache_bytes)
    }
}

/// `[log]`: the write-ahead log and the segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// One file of the write-ahead log, a multiple of 4 KiB; a group must fit in it.
    pub wal_file_bytes: u64,
    /// All files of the write-ahead log.
    pub wal_bytes: u64,
    /// One segment of a queue.
    pub segment_bytes: u64,
    /// The longest that an ack waits for a group to ride with.
    pub ack_sync: Duration,
    /// Free disk space below which publishers are refused; acks still work.
    pub disk_reserve_bytes: u64,
    /// A file that holds room for the log's own needs on a full disk; 0 is none.
    pub reserve_file_bytes: u64,
}

/// `[[queue]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// The queue's name.
    pub name: String,
    /// What it is told.
    pub settings: Settings,
    /// `[[queue.group]]`: made at the start where they are not there.
    pub groups: Vec<GroupConfig>,
}

/// `[[queue.group]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// The group's name, one of its queue.
    pub name: String,
    /// How it shares messages out, and which it takes.
    pub options: GroupOptions,
    /// Where it begins.
    pub start: Start,
}

impl QueueConfig {
    /// A `sync` queue with the defaults of `limits`.
    pub fn new(name: impl Into<String>, limits: &LimitsConfig) -> QueueConfig {
        QueueConfig {
            name: name.into(),
            settings: Settings {
                bytes_max: limits.queue_bytes,
                ..Settings::default()
            },
            groups: Vec::new(),
        }
    }
}

/// Where a plugin's component comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginSource {
    /// A file, already joined to the configuration file's directory.
    File(PathBuf),
    /// One of [`SHELF`](crate::shelf::SHELF), by its name.
    Builtin(String),
    /// A component that came over the network before, by the 64 hexadecimal digits of its SHA-256.
    Digest(String),
    /// It comes over the network (`deployed = true`); the file says all else.
    Deployed,
    /// From a registry.
    Oci {
        /// Its name there.
        reference: Reference,
        /// What was pulled under it: the hexadecimal digits of the component's SHA-256.
        digest: Option<String>,
    },
}

impl PluginSource {
    /// The digest under which the component lies in the data directory, if it is one that does.
    pub fn digest(&self) -> Option<&str> {
        match self {
            PluginSource::Digest(digest) => Some(digest),
            PluginSource::Oci { digest, .. } => digest.as_deref(),
            PluginSource::File(_) | PluginSource::Builtin(_) | PluginSource::Deployed => None,
        }
    }
}

/// An import that a plugin may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// Lines in the log.
    Log,
    /// The time.
    Clock,
    /// Unpredictable bits.
    Random,
    /// Counters, gauges and histograms of its own.
    Metrics,
    /// A key-value store of its own.
    State,
    /// Messages to the topics of [`PluginConfig::publish`].
    Publish,
    /// Being called when a time has come.
    Timer,
}

impl Grant {
    /// All of them.
    pub const ALL: [Grant; 7] = [
        Grant::Log,
        Grant::Clock,
        Grant::Random,
        Grant::Metrics,
        Grant::State,
        Grant::Publish,
        Grant::Timer,
    ];

    /// The word in the configuration; the import's interface has the same name.
    pub fn name(self) -> &'static str {
        match self {
            Grant::Log => "log",
            Grant::Clock => "clock",
            Grant::Random => "random",
            Grant::Metrics => "metrics",
            Grant::State => "state",
            Grant::Publish => "publish",
            Grant::Timer => "timer",
        }
    }

    /// The grant with this name.
    pub fn from_name(name: &str) -> Option<Grant> {
        Grant::ALL.into_iter().find(|grant| grant.name() == name)
    }
}

/// Where a message goes that a plugin failed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// To [`DEAD_LETTER`], with the reason.
    DeadLetter,
    /// Back to its publisher, as refused.
    Reject,
    /// On, as if the plugin had not been there.
    Pass,
}

impl OnError {
    /// All of them.
    pub const ALL: [OnError; 3] = [OnError::DeadLetter, OnError::Reject, OnError::Pass];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            OnError::DeadLetter => "dead-letter",
            OnError::Reject => "reject",
            OnError::Pass => "pass",
        }
    }
}

/// `[[plugin]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginConfig {
    /// The plugin's name in routes, metrics and dead-letters.
    pub name: String,
    /// Its component.
    pub source: PluginSource,
    /// Who must have signed its component, instead of those of [`PluginsConfig`].
    pub trusted_keys: Option<TrustedKeys>,
    /// Which of its roles is meant; needed only where the component exports several.
    pub role: Option<waypost_host::Role>,
    /// What it is told at its start, in the order of the file: scalars, with tables and arrays
    /// flattened to `a.b`, `list.0`.
    pub settings: Vec<(String, String)>,
    /// What it may import. By default `log`, `clock`, `random` and `metrics`.
    pub grants: Vec<Grant>,
    /// With [`Grant::Publish`]: the topics that it may publish to.
    pub publish: Vec<Filter>,
    /// With [`Grant::State`]: keys and values together.
    pub state_bytes: u64,
    /// What it may use.
    pub limits: PluginLimits,
    /// When it is taken out of service, and tried again.
    pub breaker: BreakerConfig,
    /// How often and when a message is tried again that it put off.
    pub retry: RetryConfig,
    /// Where a message goes that it failed on.
    pub on_error: OnError,
    /// The line of its section in the file, from 1: for whoever says what is wrong with it.
    pub line: usize,
}

/// `[plugin.limits]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginLimits {
    /// Memories of one instance together.
    pub memory_bytes: u64,
    /// Entries of all tables of one instance together.
    pub table_elements: u32,
    /// CPU time of one call, beside `deadline_per_message`.
    pub deadline: Duration,
    /// CPU time that each message of the batch adds.
    pub deadline_per_message: Duration,
    /// CPU time of instantiation and of `init`, each.
    pub init_deadline: Duration,
    /// CPU time of all its instances together in one second.
    pub cpu_per_second: Duration,
    /// Instances alive at once.
    pub instances: u32,
    /// Calls of imports in one call into it.
    pub host_calls: u32,
    /// What one call may give back or emit; 16 MiB is as much as the host takes at once.
    pub output_bytes: u64,
    /// Messages that one call may emit.
    pub emitted_messages: u32,
    /// Log text in one second; more is cut and counted.
    pub log_bytes_per_second: u64,
}

/// `[plugin.breaker]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failed calls in a row, with no good one between, that take the plugin out of service.
    pub failures: u32,
    /// How long until one message is tried.
    pub pause: Duration,
    /// The pause doubles after each try that failed, up to this.
    pub pause_max: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        BreakerConfig {
            failures: 10,
            pause: Duration::from_secs(5),
            pause_max: Duration::from_secs(300),
        }
    }
}

/// `[plugin.retry]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// Tries of one message; then it meets `on_error`.
    pub attempts: u32,
    /// How long until the second try, where the plugin says nothing.
    pub pause: Duration,
    /// The pause doubles after each try, up to this.
    pub pause_max: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        RetryConfig {
            attempts: 20,
            pause: Duration::from_millis(100),
            pause_max: Duration::from_secs(30),
        }
    }
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// `queue:NAME`
    Queue(String),
    /// `topic:NAME`: live subscribers, and routes again.
    Topic(String),
    /// `drop`: away, counted.
    Drop,
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Destination::Queue(name) => write!(f, "queue:{name}"),
            Destination::Topic(topic) => write!(f, "topic:{topic}"),
            Destination::Drop => f.write_str("drop"),
        }
    }
}

/// `[routing]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutingConfig {
    /// What becomes of a message that no route, queue or subscriber takes.
    pub unroutable: Unroutable,
}

/// See [`RoutingConfig::unroutable`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Unroutable {
    /// It is confirmed with a word, and not kept; refused where its publisher asked for that.
    #[default]
    Accept,
    /// It is refused.
    Refuse,
    /// It goes into this queue.
    Queue(String),
}

/// `[[route]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// The route's name in metrics and explanations.
    pub name: String,
    /// Which topics it takes.
    pub from: Filter,
    /// Names of plugins, in order.
    pub through: Vec<String>,
    /// Destinations. Where a route plugin is the last of `through` it chooses among them.
    pub to: Vec<Destination>,
    /// Whether later routes are skipped for what this one took.
    pub is_final: bool,
}

/// What `manage` of a role allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Manage {
    /// Look at queues, groups, plugins, routes and connections; peek at messages.
    Read,
    /// Create, change, purge and remove queues and groups.
    Queues,
    /// Load, replace, pause and remove plugins.
    Plugins,
    /// Add and remove routes.
    Routes,
    /// Drain or stop the node; disconnect clients.
    Node,
}

impl Manage {
    /// All of them.
    pub const ALL: [Manage; 5] = [
        Manage::Read,
        Manage::Queues,
        Manage::Plugins,
        Manage::Routes,
        Manage::Node,
    ];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Manage::Read => "read",
            Manage::Queues => "queues",
            Manage::Plugins => "plugins",
            Manage::Routes => "routes",
            Manage::Node => "node",
        }
    }
}

/// `[[role]]`: what its holders may do; what no role allows is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleConfig {
    /// The role's name.
    pub name: String,
    /// Topics that may be published to.
    pub publish: Vec<Filter>,
    /// Topics that may be subscribed to; a subscription must lie within one of them.
    pub subscribe: Vec<Filter>,
    /// Queues that may be consumed; `*` stands for any run of characters.
    pub consume: Vec<String>,
    /// What may be managed.
    pub manage: Vec<Manage>,
}

impl RoleConfig {
    /// A role that may do everything but publish to the router's own topics.
    pub fn everything(name: impl Into<String>) -> RoleConfig {
        let all = || vec![Filter::new("#").expect("`#` is a filter")];
        RoleConfig {
            name: name.into(),
            publish: all(),
            subscribe: all(),
            consume: vec!["*".to_owned()],
            manage: Manage::ALL.to_vec(),
        }
    }
}

/// `[[token]]`: who may connect by a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenConfig {
    /// The holder's name.
    pub name: String,
    /// SHA-256 of the secret; the secret itself is not kept.
    pub sha256: [u8; 32],
    /// Names of roles.
    pub roles: Vec<String>,
}

/// `[[certificate]]`: who may connect by a certificate that `[tls] client_ca` signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateConfig {
    /// Common name of the certificate's subject, and the holder's name.
    pub common_name: String,
    /// Names of roles.
    pub roles: Vec<String>,
}

/// What [`check`] found.
#[derive(Debug)]
pub struct Checked {
    /// The configuration, where there are no errors.
    pub config: Option<Config>,
    /// In the order of the file.
    pub errors: Vec<ConfigError>,
    /// What works but is hardly meant, in the order of the file.
    pub warnings: Vec<ConfigError>,
}

/// Reads and checks a file, and the certificates, tokens and plugins that it names.
pub fn check(path: &Path) -> Checked {
    match std::fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => check_text(path, &text),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let text = format!("is not UTF-8 at byte {at}");
                Checked::failed(path, Problem::Read(text))
            }
        },
        Err(error) => Checked::failed(path, Problem::Read(format!("cannot be read: {error}"))),
    }
}

/// Checks `text` as the content of `path`, from whose directory relative paths start.
pub fn check_text(path: &Path, text: &str) -> Checked {
    let (config, errors, warnings) = sections::read(path, text);
    Checked {
        config: errors.is_empty().then_some(config),
        errors,
        warnings,
    }
}

impl Checked {
    fn failed(path: &Path, problem: Problem) -> Checked {
        let error = ConfigError {
            file: path.to_path_buf(),
            line: 0,
            column: 0,
            key: String::new(),
            problem,
        };
        Checked {
            config: None,
            errors: vec![error],
            warnings: Vec::new(),
        }
    }
}

impl Config {
    /// The configuration in the file at `path`, or all that is wrong with it. Warnings are
    /// dropped; [`check`] shows them.
    pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
        let checked = check(path);
        checked.config.ok_or(ConfigErrors(checked.errors))
    }

    /// A node for one machine: loopback, data in `data_dir`, certificates of its own making, and
    /// one role `dev` that may do everything, for the holder of the client certificate and of the
    /// token with this SHA-256 (both made by [`crate::tls::make`]).
    pub fn dev(data_dir: &Path, token_sha256: [u8; 32]) -> Config {
        let mut config = Config::default();
        config.node.name = "dev".to_owned();
        config.node.data_dir = data_dir.to_path_buf();
        let dead_letter = QueueConfig::new(DEAD_LETTER, &config.limits);
        config.queues.push(dead_letter);
        config.roles.push(RoleConfig::everything("dev"));
        config.tokens.push(TokenConfig {
            name: "dev".to_owned(),
            sha256: token_sha256,
            roles: vec!["dev".to_owned()],
        });
        config.certificates.push(CertificateConfig {
            common_name: crate::tls::DEV_CLIENT_NAME.to_owned(),
            roles: vec!["dev".to_owned()],
        });
        config
    }

    /// The plugin with this name.
    pub fn plugin(&self, name: &str) -> Option<&PluginConfig> {
        self.plugins.iter().find(|plugin| plugin.name == name)
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        NodeConfig {
            name: "waypost".to_owned(),
            data_dir: PathBuf::from("waypost-data"),
            listen: SocketAddr::new(loopback, waypost_wire::PORT),
            admin: SocketAddr::new(loopback, waypost_wire::PORT + 1),
            admin_public: false,
            threads: 0,
            plugin_workers: 0,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig {
            payload_bytes: waypost_wire::PAYLOAD_BYTES_DEFAULT as u64,
            connections: 1024,
            streams_per_connection: 64,
            window_messages: 4096,
            window_bytes: 4 << 20,
            subscriber_buffer_bytes: 4 << 20,
            subscriber_patience: Duration::from_secs(1),
            cache_bytes: 8 << 20,
            queue_bytes: 1 << 30,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            wal_file_bytes: 16 << 20,
            wal_bytes: 64 << 20,
            segment_bytes: 64 << 20,
            ack_sync: Duration::from_millis(10),
            disk_reserve_bytes: 64 << 20,
            reserve_file_bytes: 32 << 20,
        }
    }
}

impl Default for PluginLimits {
    fn default() -> Self {
        PluginLimits {
            memory_bytes: 64 << 20,
            table_elements: 20_000,
            deadline: Duration::from_millis(10),
            deadline_per_message: Duration::from_millis(1),
            init_deadline: Duration::from_secs(2),
            cpu_per_second: Duration::from_secs(1),
            instances: 16,
            host_calls: 16_384,
            output_bytes: 8 << 20,
            emitted_messages: 1_024,
            log_bytes_per_second: 64 << 10,
        }
    }
}
