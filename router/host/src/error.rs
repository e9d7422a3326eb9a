//! What can go wrong, by the step in which it does.

use std::io;
use std::path::PathBuf;

use crate::plugin::Role;
use crate::schema::SettingsError;

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refuses the configuration, or the address space for the instances is not there.
    #[error("cannot set up the Wasm engine for {instances} instances: {source}")]
    Setup {
        /// How many instances were asked for.
        instances: u32,
        /// What wasmtime says.
        source: wasmtime::Error,
    },
    /// No thread for the deadlines.
    #[error("cannot start the deadline thread: {0}")]
    Thread(io::Error),
    /// The cache's directory or key.
    #[error("plugin cache, {path}: {source}", path = path.display())]
    Cache {
        /// The directory, or the key file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Why a plugin cannot be loaded. Each names the file (or the plugin, if it came as bytes) and the
/// item at fault.
#[derive(Debug, thiserror::Error)]
#[error("plugin '{plugin}' ({origin}): {kind}")]
pub struct LoadError {
    /// The plugin's name.
    pub plugin: String,
    /// Its file, or `bytes`.
    pub origin: String,
    /// What is wrong.
    pub kind: LoadErrorKind,
}

/// What is wrong with a plugin that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadErrorKind {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// Over the limit of the compiler's input.
    #[error("has more than {limit} bytes, the limit")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// It does not begin as WebAssembly does.
    #[error("is not WebAssembly: it begins with {found}, expected 00 61 73 6d (\"\\0asm\")")]
    NotWasm {
        /// Its first bytes in hex, or that there are none.
        found: String,
    },
    /// A core module.
    #[error(
        "is a core module, not a component; build it with `linker = \"wasm-component-ld\"` or \
         convert it with `wasm-tools component new`"
    )]
    CoreModule,
    /// A component of another version of the binary format.
    #[error("is a component of binary version {found}, expected 0d 00 01 00")]
    ComponentVersion {
        /// Bytes 4 to 8, in hex.
        found: String,
    },
    /// It exports no role.
    #[error("exports no role: expected one of {expected}; it exports {found}")]
    NoRole {
        /// The exports that would do.
        expected: String,
        /// Those that are there.
        found: String,
    },
    /// It exports several roles and the configuration names none.
    #[error("exports the roles {found}: name the one that is meant with `role`")]
    AmbiguousRole {
        /// Those that are there.
        found: String,
    },
    /// An export is missing.
    #[error("does not export {item}")]
    MissingExport {
        /// Interface and function.
        item: String,
    },
    /// It imports what this host does not have.
    #[error("imports {item}, which this router does not offer{hint}")]
    UnknownImport {
        /// Interface, and function where only that is unknown.
        item: String,
        /// What to do, where that is known.
        hint: &'static str,
    },
    /// It imports what the configuration does not let it use.
    #[error("imports {item}, which needs the grant '{grant}', and it was not granted that")]
    NotGranted {
        /// Interface and version.
        item: String,
        /// The grant that is missing.
        grant: &'static str,
    },
    /// It imports something that only makes sense beside an export that it has not.
    #[error("imports {import}, but does not export {export}, which that calls")]
    NeedsExport {
        /// The import.
        import: String,
        /// The export.
        export: String,
    },
    /// Its export `schema` fails, or what it gives cannot be used.
    #[error("its settings schema cannot be used: {detail}")]
    Schema {
        /// What is wrong with it, and where.
        detail: String,
    },
    /// A guest of `wasi:messaging` in a role that is not its.
    #[error("exports {item}, which runs in the role filter, and the role {asked} was asked for")]
    MessagingRole {
        /// The export.
        item: String,
        /// The role that was asked for.
        asked: Role,
    },
    /// An import or export at a version that does not fit.
    #[error("{direction} {item}, but this router speaks {offered}")]
    Version {
        /// `imports` or `exports`.
        direction: &'static str,
        /// Interface and version.
        item: String,
        /// The version that fits.
        offered: String,
    },
    /// An import or export with other types.
    #[error("{direction} {item} with other types than the contract's: {detail}")]
    TypeMismatch {
        /// `imports` or `exports`.
        direction: &'static str,
        /// Interface and function.
        item: String,
        /// Where the types differ.
        detail: String,
    },
    /// The compiler refuses it.
    #[error("cannot be compiled: {detail}")]
    Compile {
        /// What the compiler says.
        detail: String,
    },
    /// The compiler took too long, too much memory, or gave too much.
    #[error("cannot be compiled within the limits: {detail}")]
    CompileLimit {
        /// Which limit, and how much it is.
        detail: String,
    },
    /// The compiler's process cannot be run.
    #[error("cannot run the compiler {program}: {source}")]
    CompilerProcess {
        /// The program.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// A limit that the engine cannot keep.
    #[error("memory limit {asked} bytes is over the engine's {limit}")]
    MemoryLimit {
        /// What the plugin's limits say.
        asked: usize,
        /// What the engine has room for.
        limit: usize,
    },
}

/// Why an instance does not start.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The component cannot be instantiated: no room in the pool, too much memory at the start, or
    /// a trap in its start function.
    #[error("plugin '{plugin}' cannot be instantiated: {detail}")]
    Instantiate {
        /// The plugin's name.
        plugin: String,
        /// What happened.
        detail: String,
    },
    /// As many instances as the plugin may have are alive.
    #[error("plugin '{plugin}' has {limit} instances, the limit")]
    Instances {
        /// The plugin's name.
        plugin: String,
        /// [`Limits::instances`](crate::Limits::instances).
        limit: u32,
    },
    /// The settings do not fit the plugin's own schema.
    #[error("plugin '{plugin}': {error}")]
    Settings {
        /// The plugin's name.
        plugin: String,
        /// Which setting, and what was expected.
        error: SettingsError,
    },
    /// `init` refuses, in the plugin's own words.
    #[error("plugin '{plugin}' refuses its settings: {}{message}", setting_prefix(.setting))]
    Refused {
        /// The plugin's name.
        plugin: String,
        /// The setting at fault, if it is one.
        setting: Option<String>,
        /// What the plugin says.
        message: String,
    },
    /// `init` trapped or took too long.
    #[error("plugin '{plugin}' fails in init: {error}")]
    Init {
        /// The plugin's name.
        plugin: String,
        /// How.
        error: CallError,
    },
    /// `init` asked for what does not exist.
    #[error("plugin '{plugin}' asks for an interest that does not exist: {detail}")]
    Interest {
        /// The plugin's name.
        plugin: String,
        /// What.
        detail: String,
    },
}

fn setting_prefix(setting: &Option<String>) -> String {
    setting
        .as_ref()
        .map(|setting| format!("setting '{setting}': "))
        .unwrap_or_default()
}

/// Why a call failed. None of its messages has a verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct CallError {
    /// What kind of failure.
    pub kind: CallErrorKind,
    /// What happened, or what the plugin said.
    pub message: String,
    /// Where in the guest, one frame a line, innermost first.
    pub backtrace: Option<String>,
    /// The instance cannot be called again: make another.
    pub instance_lost: bool,
}

/// Kinds of failures of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CallErrorKind {
    /// The guest trapped: a panic, a division by zero, no stack left.
    #[error("trap")]
    Trap,
    /// It used more CPU time than it may.
    #[error("deadline passed")]
    Deadline,
    /// It trapped after it was refused memory, or holds more of `wasi:messaging` than it may.
    #[error("out of memory")]
    Memory,
    /// It called imports more often than it may.
    #[error("too many host calls")]
    HostCalls,
    /// Its answer breaks the contract as a whole: malformed, of another length, too large.
    #[error("bad output")]
    Output,
    /// It answered `invalid`: the input is at fault, whenever it is tried.
    #[error("invalid input")]
    Invalid,
    /// It answered `unavailable`: the same input may be tried again later.
    #[error("unavailable")]
    Unavailable,
    /// It answered `internal`, or the host cannot make the call.
    #[error("internal")]
    Internal,
}

impl CallError {
    /// Whether the same messages may be tried again, later, with hope.
    pub fn is_retryable(&self) -> bool {
        self.kind == CallErrorKind::Unavailable
    }

    /// Whether one message of several may be at fault, so that splitting the batch finds it.
    pub fn is_splittable(&self) -> bool {
        self.kind != CallErrorKind::Unavailable
    }
}
