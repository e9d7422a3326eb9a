//! Requests about plugins and routes, and their answers: `proto/waypost.proto`, one struct each,
//! with the same names and numbers.

/// A component's digest and length; CHUNK frames with its bytes follow on the same stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginUpload {
    /// SHA-256, in hexadecimal digits.
    #[prost(string, tag = "1")]
    pub digest: String,
    /// Its length.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
}

/// See `PluginName` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginName {
    /// The slot.
    #[prost(string, tag = "1")]
    pub plugin: String,
}

/// See `Setting` in the protocol.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Setting {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value, as text.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Makes a component that was uploaded the active version of a slot.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginDeploy {
    /// The slot; made where it is not there.
    #[prost(string, tag = "1")]
    pub plugin: String,
    /// SHA-256 of the component, in hexadecimal digits; or `builtin:NAME` for one that the node
    /// brings with it, which needs no upload.
    #[prost(string, tag = "2")]
    pub digest: String,
    /// Needed only where the component exports several.
    #[prost(string, tag = "3")]
    pub role: String,
    /// What the plugin is told at its start.
    #[prost(message, repeated, tag = "4")]
    pub settings: Vec<Setting>,
    /// What it may import.
    #[prost(string, repeated, tag = "5")]
    pub grants: Vec<String>,
    /// Grants are those, also where there are none.
    #[prost(bool, tag = "6")]
    pub set_grants: bool,
    /// Filters of topics, with the grant `publish`.
    #[prost(string, repeated, tag = "7")]
    pub publish: Vec<String>,
    /// As the configuration has them: `memory_bytes`, `breaker.pause`, `retry.attempts`,
    /// `state_bytes`.
    #[prost(message, repeated, tag = "8")]
    pub limits: Vec<Setting>,
    /// `dead-letter`, `reject` or `pass`.
    #[prost(string, tag = "9")]
    pub on_error: String,
    /// What is not named is the default; otherwise it is that of the active version.
    #[prost(bool, tag = "10")]
    pub fresh: bool,
    /// The component's signature, as minisign writes it; empty: none.
    #[prost(string, tag = "11")]
    pub signature: String,
}

/// See `PluginPause` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginPause {
    /// The slot.
    #[prost(string, tag = "1")]
    pub plugin: String,
    /// Messages are refused, for their publisher to try again; otherwise they meet `on_error`.
    #[prost(bool, tag = "2")]
    pub hold: bool,
}

/// See `PluginRollback` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginRollback {
    /// The slot.
    #[prost(string, tag = "1")]
    pub plugin: String,
    /// The version; 0: the one before.
    #[prost(uint64, tag = "2")]
    pub to: u64,
}

/// See `PluginLogs` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginLogs {
    /// The slot.
    #[prost(string, tag = "1")]
    pub plugin: String,
    /// The last so many; 0: all that are kept.
    #[prost(uint32, tag = "2")]
    pub lines: u32,
    /// Only those with a higher number.
    #[prost(uint64, tag = "3")]
    pub after: u64,
    /// More MANAGED frames follow as lines come.
    #[prost(bool, tag = "4")]
    pub follow: bool,
}

/// See `RouteList` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RouteList {}

/// See `RouteName` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RouteName {
    /// The route.
    #[prost(string, tag = "1")]
    pub route: String,
}

/// See `RouteAdd` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RouteAdd {
    /// The route.
    #[prost(message, optional, tag = "1")]
    pub route: Option<RouteState>,
    /// The route that it runs before; empty: after all others but those of queues.
    #[prost(string, tag = "2")]
    pub before: String,
}

/// See `RouteState` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RouteState {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// A filter.
    #[prost(string, tag = "2")]
    pub from: String,
    /// Plugins, in order.
    #[prost(string, repeated, tag = "3")]
    pub through: Vec<String>,
    /// Destinations: `queue:NAME`, `topic:NAME`, `drop`.
    #[prost(string, repeated, tag = "4")]
    pub to: Vec<String>,
    /// Later routes are skipped for what this one took.
    #[prost(bool, tag = "5")]
    pub is_final: bool,
    /// In answers: `config`, `network` or `queue`.
    #[prost(string, tag = "6")]
    pub source: String,
}

/// See `RouteListed` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RouteListed {
    /// In the order in which they run.
    #[prost(message, repeated, tag = "1")]
    pub routes: Vec<RouteState>,
}

/// See `PluginDeployed` in the protocol.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PluginDeployed {
    /// The version that is active now.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// The one before; 0: none.
    #[prost(uint64, tag = "2")]
    pub before: u64,
    /// The active version was the same, and runs on.
    #[prost(bool, tag = "3")]
    pub unchanged: bool,
}

/// See `PluginState` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginState {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Role.
    #[prost(string, tag = "2")]
    pub role: String,
    /// Sha256, hex.
    #[prost(string, tag = "3")]
    pub digest: String,
    /// File, builtin:NAME or sha256:HEX.
    #[prost(string, tag = "4")]
    pub source: String,
    /// Bytes.
    #[prost(uint64, tag = "5")]
    pub bytes: u64,
    /// Calls.
    #[prost(uint64, tag = "6")]
    pub calls: u64,
    /// Messages.
    #[prost(uint64, tag = "7")]
    pub messages: u64,
    /// Failures.
    #[prost(uint64, tag = "8")]
    pub failures: u64,
    /// Thread time inside the guest.
    #[prost(uint64, tag = "9")]
    pub busy_ns: u64,
    /// Instances.
    #[prost(uint32, tag = "10")]
    pub instances: u32,
    /// Ready, or what it is instead and why.
    #[prost(string, tag = "11")]
    pub status: String,
    /// The active version; 0: the configuration names the code.
    #[prost(uint64, tag = "12")]
    pub version: u64,
    /// Who says what it is: `config`, `config, deployed` or `network`.
    #[prost(string, tag = "13")]
    pub origin: String,
    /// Failures that cost the instance.
    #[prost(uint64, tag = "14")]
    pub traps: u64,
    /// Over the last ten seconds.
    #[prost(uint64, tag = "15")]
    pub messages_per_second: u64,
    /// Time below which half of the calls of the active version were.
    #[prost(uint64, tag = "16")]
    pub call_p50_ns: u64,
    /// And 99 of 100.
    #[prost(uint64, tag = "17")]
    pub call_p99_ns: u64,
    /// Memories of its instances; 0 where not asked for.
    #[prost(uint64, tag = "18")]
    pub memory_bytes: u64,
    /// When the active version began to run here.
    #[prost(uint64, tag = "19")]
    pub since_ms: u64,
}

/// See `PluginListed` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginListed {
    /// Plugins.
    #[prost(message, repeated, tag = "1")]
    pub plugins: Vec<PluginState>,
}

/// See `PluginVersion` in the protocol.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PluginVersion {
    /// Number.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Sha256, hex.
    #[prost(string, tag = "2")]
    pub digest: String,
    /// Bytes.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// When it was deployed.
    #[prost(uint64, tag = "4")]
    pub deployed_ms: u64,
    /// By whom.
    #[prost(string, tag = "5")]
    pub by: String,
    /// It runs.
    #[prost(bool, tag = "6")]
    pub active: bool,
    /// A rollback left it, and none leads back to it.
    #[prost(bool, tag = "7")]
    pub withdrawn: bool,
}

/// See `PluginFailure` in the protocol.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PluginFailure {
    /// The last time.
    #[prost(uint64, tag = "1")]
    pub time_ms: u64,
    /// What happened.
    #[prost(string, tag = "2")]
    pub text: String,
    /// How often in a row.
    #[prost(uint64, tag = "3")]
    pub times: u64,
}

/// See `PluginDetail` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginDetail {
    /// As in the list, with memory.
    #[prost(message, optional, tag = "1")]
    pub state: Option<PluginState>,
    /// Settings.
    #[prost(message, repeated, tag = "2")]
    pub settings: Vec<Setting>,
    /// Grants.
    #[prost(string, repeated, tag = "3")]
    pub grants: Vec<String>,
    /// Publish.
    #[prost(string, repeated, tag = "4")]
    pub publish: Vec<String>,
    /// Those that differ from the default.
    #[prost(message, repeated, tag = "5")]
    pub limits: Vec<Setting>,
    /// On error.
    #[prost(string, tag = "6")]
    pub on_error: String,
    /// Oldest first.
    #[prost(message, repeated, tag = "7")]
    pub versions: Vec<PluginVersion>,
    /// The last ones, oldest first.
    #[prost(message, repeated, tag = "8")]
    pub errors: Vec<PluginFailure>,
    /// Functions that the component imports.
    #[prost(string, repeated, tag = "9")]
    pub imports: Vec<String>,
    /// Routes that go through it.
    #[prost(string, repeated, tag = "10")]
    pub routes: Vec<String>,
    /// Of the active version.
    #[prost(uint64, tag = "11")]
    pub version_calls: u64,
    /// Of the active version.
    #[prost(uint64, tag = "12")]
    pub version_messages: u64,
    /// Of the active version.
    #[prost(uint64, tag = "13")]
    pub version_failures: u64,
    /// The number of the key that signed its component; empty where none must.
    #[prost(string, tag = "14")]
    pub signed_by: String,
    /// `closed`: in service; `open`: out of it; `probing`: one message is tried.
    #[prost(string, tag = "15")]
    pub breaker: String,
    /// Of calls.
    #[prost(uint32, tag = "16")]
    pub failures_in_a_row: u32,
    /// Until a message is tried, where it is open.
    #[prost(uint64, tag = "17")]
    pub next_try_ms: u64,
    /// How often this version went out of service.
    #[prost(uint64, tag = "18")]
    pub trips: u64,
    /// In a row, that open it.
    #[prost(uint64, tag = "19")]
    pub breaker_failures: u64,
    /// Digest of the version in its shadow; empty: there is none.
    #[prost(string, tag = "20")]
    pub shadow: String,
    /// Why that one judges no more; empty: it does.
    #[prost(string, tag = "21")]
    pub shadow_ended: String,
    /// How long yet its messages run on a thread of their own, for its failed calls took long.
    #[prost(uint64, tag = "22")]
    pub apart_ms: u64,
}

/// See `LogLine` in the protocol.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LogLine {
    /// From 1 in its slot, since the node's start; a gap is lines that were not kept.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// When.
    #[prost(uint64, tag = "2")]
    pub time_ms: u64,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    #[prost(string, tag = "3")]
    pub level: String,
    /// What.
    #[prost(string, tag = "4")]
    pub text: String,
}

/// See `PluginLogged` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginLogged {
    /// Oldest first.
    #[prost(message, repeated, tag = "1")]
    pub lines: Vec<LogLine>,
}
