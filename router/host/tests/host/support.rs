//! Guests from the fixtures, messages for them, and a sink that remembers.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use waypost_host::{
    CacheOptions, Effects, Engine, EngineOptions, Instance, Level, MessageRef, Plugin, PluginSpec,
    Role, Sample, Sink, Source, Verdicts,
};
use waypost_wire::record::{Message, RecordRef};

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// A guest for tests.
pub fn fixture(name: &str) -> Source {
    Source::File(repository(&format!("tests/fixtures/plugins/{name}.wasm")))
}

/// A stock plugin.
pub fn stock(name: &str) -> Source {
    Source::File(repository(&format!("plugins/prebuilt/{name}.wasm")))
}

/// WASI is refused, with what to do instead; `refusal` is why an import of these items is.
pub fn no_wasi(refusal: impl FnOnce(&str, &str) -> String) {
    let error = refusal(
        "wasi:cli/environment@0.2.0",
        "(export \"get-arguments\" (func))",
    );
    for wanted in [
        "imports wasi:cli/environment@0.2.0, which",
        "build for wasm32-unknown-unknown",
    ] {
        assert!(error.contains(wanted), "{error}");
    }
}

/// One engine for all tests that need nothing special of it: compiled plugins are shared too.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let options = EngineOptions {
            cache: Some(cache()),
            ..EngineOptions::default()
        };
        Engine::new(options).expect("an engine")
    })
}

/// A cache that the tests share, so that each guest is compiled once.
fn cache() -> CacheOptions {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    CacheOptions {
        directory: directory.join("plugins"),
        key_file: directory.join("plugins.key"),
    }
}

/// The puppet in a role, with settings. It has three destinations.
pub fn puppet(role: Role, settings: &[(&str, &str)]) -> PluginSpec {
    let mut spec = PluginSpec::new("puppet", fixture("puppet"));
    spec.role = Some(role);
    spec.settings = settings
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    spec.destinations = ["queue:a", "queue:b", "topic:c"]
        .map(str::to_owned)
        .to_vec();
    spec
}

/// Loads a plugin into the shared engine. Each is compiled once.
pub fn load(spec: PluginSpec) -> Plugin {
    engine().load(spec).expect("a plugin that loads")
}

/// An instance of the puppet.
pub fn start(role: Role, settings: &[(&str, &str)]) -> Instance {
    load(puppet(role, settings))
        .instantiate(None)
        .expect("an instance")
}

/// A message that tells the puppet what to do.
pub fn order(order: &str) -> Message {
    Message::new("test/topic", "payload").with_header("do", order.to_owned())
}

/// Calls an instance with messages.
pub fn call(
    instance: &mut Instance,
    messages: &[Message],
) -> Result<Verdicts, waypost_host::CallError> {
    let bodies: Vec<_> = messages.iter().map(Message::to_body).collect();
    let batch: Vec<_> = bodies
        .iter()
        .map(|body| MessageRef::new(RecordRef::parse(body).expect("a valid body"), 1_000))
        .collect();
    instance.call(&batch, &mut Effects::default())
}

/// Calls an instance with one order for each message.
pub fn tell(instance: &mut Instance, orders: &[&str]) -> Result<Verdicts, waypost_host::CallError> {
    call(
        instance,
        &orders.iter().map(|text| order(text)).collect::<Vec<_>>(),
    )
}

/// Remembers all that it is given.
#[derive(Default)]
pub struct Memory {
    pub lines: Mutex<Vec<(Level, String)>>,
    pub dropped: Mutex<u64>,
    pub samples: Mutex<Vec<(String, Sample)>>,
}

impl Sink for Memory {
    fn log(&self, _: &str, level: Level, line: &str) {
        self.lines
            .lock()
            .expect("no panic")
            .push((level, line.to_owned()));
    }

    fn log_dropped(&self, _: &str, lines: u64) {
        *self.dropped.lock().expect("no panic") += lines;
    }

    fn metric(&self, _: &str, name: &str, sample: Sample) {
        self.samples
            .lock()
            .expect("no panic")
            .push((name.to_owned(), sample));
    }
}

/// An engine with a memory.
pub fn remembering() -> (Engine, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    let options = EngineOptions {
        sink: memory.clone(),
        instances_max: 4,
        cache: Some(cache()),
        ..EngineOptions::default()
    };
    (Engine::new(options).expect("an engine"), memory)
}
