//! The engine: what all plugins of a node share, and how a file becomes a plugin.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{Component, Linker};
use wasmtime::{InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::cache::{self, Cache, CacheKey, CacheOptions};
use crate::clock::{Clock, SystemClock};
use crate::compile::{CompileLimits, Compiler, base_config, compile};
use crate::error::{EngineError, LoadError, LoadErrorKind};
use crate::imports::{self, HostState};
use crate::plugin::{Checked, Plugin, PluginSpec, Role, Source};
use crate::sink::{NoSink, Sink};
use crate::ticker::Ticker;
use crate::{Limits, messaging, verify};

/// How an engine is set up.
///
/// Address space: each instance has 4 GiB and a guard reserved, so that compiled code needs no
/// bounds checks: `instances_max` of 64 reserve 260 GiB, which fits the 512 GiB that a small ARM
/// kernel gives. Nothing of it is memory until a guest touches it.
#[derive(Clone)]
pub struct EngineOptions {
    /// Instances alive at once. Default 64.
    pub instances_max: u32,
    /// The most that [`Limits::memory_bytes`] of a plugin can be. Default 512 MiB.
    pub memory_bytes_max: usize,
    /// Bytes of native stack that a guest may use, beside its own in its memory. Default 256 KiB.
    /// Threads that run plugins need that much and 64 KiB more.
    pub stack_bytes: usize,
    /// Where plugins are compiled. Default: in this process.
    pub compiler: Compiler,
    /// Where compiled plugins are kept; `None` compiles at every start.
    pub cache: Option<CacheOptions>,
    /// Where log lines and metrics of plugins go.
    pub sink: Arc<dyn Sink>,
    /// What time it is for plugins.
    pub clock: Arc<dyn Clock>,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            instances_max: 64,
            memory_bytes_max: 512 << 20,
            stack_bytes: 256 << 10,
            compiler: Compiler::InProcess,
            cache: None,
            sink: Arc::new(NoSink),
            clock: Arc::new(SystemClock::new()),
        }
    }
}

impl fmt::Debug for EngineOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineOptions")
            .field("instances_max", &self.instances_max)
            .field("memory_bytes_max", &self.memory_bytes_max)
            .field("stack_bytes", &self.stack_bytes)
            .field("compiler", &self.compiler)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// Loads plugins and keeps their time. Cheap to clone; all clones are the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) ticker: Ticker,
    pub(crate) wasm: wasmtime::Engine,
    linker: Linker<HostState>,
    pub(crate) options: EngineOptions,
    cache: Option<Cache>,
    pub(crate) start: Instant,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Engine").field(&self.0.options).finish()
    }
}

impl Engine {
    /// Sets up an engine: reserves address space, opens the cache, starts the deadline thread.
    pub fn new(options: EngineOptions) -> Result<Engine, EngineError> {
        let setup = |source| EngineError::Setup {
            instances: options.instances_max,
            source,
        };
        let wasm = wasmtime::Engine::new(&config(&options)).map_err(setup)?;
        let mut linker = Linker::new(&wasm);
        imports::link(&mut linker).map_err(setup)?;
        let cache = options.cache.as_ref().map(Cache::open).transpose()?;
        let ticker = Ticker::start(wasm.weak()).map_err(EngineError::Thread)?;
        let start = Instant::now();
        Ok(Engine(Arc::new(Shared {
            ticker,
            wasm,
            linker,
            options,
            cache,
            start,
        })))
    }

    /// Loads a plugin: reads it, checks it, compiles it or takes it from the cache.
    pub fn load(&self, spec: PluginSpec) -> Result<Plugin, LoadError> {
        let origin = spec.source.to_string();
        let plugin = spec.name.clone();
        self.try_load(spec).map_err(|kind| LoadError {
            plugin,
            origin,
            kind,
        })
    }

    /// Removes what was compiled from the component with this digest (SHA-256, hexadecimal) from
    /// the cache: it will not be loaded any more.
    pub fn forget(&self, digest: &str) {
        if let Some(cache) = &self.0.cache {
            cache.remove(CacheKey::new(digest, &self.0.wasm));
        }
    }

    fn try_load(&self, spec: PluginSpec) -> Result<Plugin, LoadErrorKind> {
        let Shared { wasm, options, .. } = &*self.0;
        check_limits(&spec.limits, options)?;
        let bytes = self.read(&spec.source)?;
        verify::check_magic(&bytes)?;
        let digest = cache::digest_hex(&bytes);
        let component = self.component(&bytes, &digest)?;
        let is_messaging = messaging::is_guest(wasm, &component)?;
        verify::check_imports(wasm, &component, &spec.grants, is_messaging)?;
        let (role, exports) = if is_messaging {
            let role = messaging::role(spec.role)?;
            (role, verify::check_handler(wasm, &component)?)
        } else {
            let role = choose_role(&verify::roles(wasm, &component)?, spec.role)?;
            (role, verify::check_exports(wasm, &component, role)?)
        };
        let refuse = |error: wasmtime::Error| match is_messaging {
            true => messaging::wrong_imports(&error),
            false => LoadErrorKind::Compile {
                detail: format!("{error:#}"),
            },
        };
        let instance_pre = self.0.linker.instantiate_pre(&component).map_err(refuse)?;
        let checked = Checked {
            component,
            role,
            is_messaging,
            digest,
            exports,
            instance_pre,
        };
        Plugin::new(self.0.clone(), spec, checked)
    }

    fn read(&self, source: &Source) -> Result<Vec<u8>, LoadErrorKind> {
        let limit = match &self.0.options.compiler {
            Compiler::Child { limits, .. } => limits.input_bytes,
            Compiler::InProcess => CompileLimits::default().input_bytes,
        };
        let bytes = match source {
            Source::Bytes(bytes) | Source::Read { bytes, .. } => bytes.to_vec(),
            Source::File(path) => {
                let mut bytes = Vec::new();
                File::open(path)
                    .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
                    .map_err(LoadErrorKind::Read)?;
                bytes
            }
        };
        match bytes.len() as u64 {
            length if length > limit => Err(LoadErrorKind::TooLarge { limit }),
            _ => Ok(bytes),
        }
    }

    /// Compiled code of a component, from the cache if it has it.
    fn component(&self, bytes: &[u8], digest: &str) -> Result<Component, LoadErrorKind> {
        let Shared {
            wasm,
            options,
            cache,
            ..
        } = &*self.0;
        let key = CacheKey::new(digest, wasm);
        if let Some(code) = cache.as_ref().and_then(|cache| cache.get(key)) {
            // SAFETY: the MAC says that this node wrote these bytes into its cache, and it writes
            // only what its compiler gave for an engine of this configuration and version.
            match unsafe { Component::deserialize(wasm, &code) } {
                Ok(component) => return Ok(component),
                Err(error) => tracing::warn!(%error, "cached plugin does not fit, compiling anew"),
            }
        }
        let code = compile(&options.compiler, wasm, bytes)?;
        // SAFETY: these bytes come from the compiler, in this process or in a child that is this
        // program, through a pipe that nobody else has.
        let component = unsafe { Component::deserialize(wasm, &code) }.map_err(|error| {
            LoadErrorKind::Compile {
                detail: format!("{error:#}"),
            }
        })?;
        if let Some(cache) = cache {
            cache.put(key, &code);
        }
        Ok(component)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) | Source::Read { path, .. } => path.display().fmt(f),
            Source::Bytes(_) => f.write_str("built in"),
        }
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Source {
        Source::File(path)
    }
}

fn config(options: &EngineOptions) -> wasmtime::Config {
    let mut pool = PoolingAllocationConfig::new();
    let instances = options.instances_max;
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .total_memories(instances)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .total_tables(instances.saturating_mul(TABLES_PER_COMPONENT))
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_memory_size(options.memory_bytes_max);
    let mut config = base_config();
    config
        .max_wasm_stack(options.stack_bytes)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// A Rust guest has 3 core instances (itself, a shim, its fixup), a Python one 30.
const CORE_INSTANCES_PER_COMPONENT: u32 = 64;
const MEMORIES_PER_COMPONENT: u32 = 4;
const TABLES_PER_COMPONENT: u32 = 16;

fn check_limits(limits: &Limits, options: &EngineOptions) -> Result<(), LoadErrorKind> {
    let (asked, limit) = (limits.memory_bytes, options.memory_bytes_max);
    if asked > limit {
        Err(LoadErrorKind::MemoryLimit { asked, limit })
    } else {
        Ok(())
    }
}

fn choose_role(exported: &[Role], asked: Option<Role>) -> Result<Role, LoadErrorKind> {
    match (exported, asked) {
        (_, Some(role)) if exported.contains(&role) => Ok(role),
        (_, Some(role)) => Err(LoadErrorKind::MissingExport {
            item: verify::versioned(role.name()),
        }),
        ([role], None) => Ok(*role),
        (_, None) => Err(LoadErrorKind::AmbiguousRole {
            found: exported
                .iter()
                .map(|role| role.name())
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}
