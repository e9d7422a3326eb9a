//! Compiling in a child process. Without the usual harness: the child is this program again, and
//! what it writes to standard output must be code alone.

use std::process::ExitCode;
use std::time::Duration;

use waypost_host::{
    COMPILE_SUBCOMMAND, CacheOptions, CompileLimits, Compiler, Engine, EngineOptions, Plugin,
    PluginSpec, Source, compile_child_main,
};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.peek().is_some_and(|arg| arg == COMPILE_SUBCOMMAND) {
        args.next();
        return compile_child_main(args);
    }
    if args.any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    compiles_and_caches();
    refusals_come_from_the_child();
    limits_hold();
    a_program_that_is_no_compiler_is_named();
    println!("child: 4 passed");
    ExitCode::SUCCESS
}

fn plugin() -> Source {
    let path = "../../plugins/prebuilt/quake-magnitude.wasm";
    Source::File(std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path))
}

fn load(compiler: Compiler, cache: Option<CacheOptions>, source: Source) -> Result<Plugin, String> {
    let options = EngineOptions {
        compiler,
        cache,
        instances_max: 2,
        ..EngineOptions::default()
    };
    let engine = Engine::new(options).expect("an engine");
    engine
        .load(PluginSpec::new("p", source))
        .map_err(|error| error.to_string())
}

fn child(limits: CompileLimits) -> Compiler {
    Compiler::Child {
        program: std::env::current_exe().expect("this program"),
        limits,
    }
}

fn compiles_and_caches() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = CacheOptions {
        directory: directory.path().join("cache"),
        key_file: directory.path().join("key"),
    };
    let this = Compiler::this_program().expect("this program");
    let compiled = load(this, Some(cache.clone()), plugin()).expect("loads");
    compiled.instantiate().expect("an instance");
    // A compiler that does not exist shows that the cache was used.
    let nobody = Compiler::Child {
        program: "/nonexistent".into(),
        limits: CompileLimits::default(),
    };
    let cached = load(nobody, Some(cache), plugin()).expect("loads from the cache");
    cached.instantiate().expect("an instance");
}

fn refusals_come_from_the_child() {
    let broken = Source::Bytes(b"\0asm\x0d\0\x01\0\xff\xff".to_vec().into());
    let error = load(child(CompileLimits::default()), None, broken).expect_err("broken");
    assert!(error.contains("cannot be compiled: "), "{error}");
}

fn limits_hold() {
    let default = CompileLimits::default();
    for (limits, wanted) in [
        (
            CompileLimits {
                input_bytes: 1_000,
                ..default
            },
            "has more than 1000 bytes, the limit",
        ),
        (
            CompileLimits {
                output_bytes: 1_000,
                ..default
            },
            "more than 1000 bytes of code",
        ),
        (
            CompileLimits {
                memory_bytes: 4 << 20,
                ..default
            },
            "cannot be compiled within the limits",
        ),
    ] {
        let error = load(child(limits), None, plugin()).expect_err("a limit");
        assert!(error.contains(wanted), "{error}");
    }
}

fn a_program_that_is_no_compiler_is_named() {
    let compiler = |program: &str| Compiler::Child {
        program: program.into(),
        limits: CompileLimits {
            cpu: Duration::from_secs(1),
            ..CompileLimits::default()
        },
    };
    let error = load(compiler("/nonexistent"), None, plugin()).expect_err("no program");
    assert!(
        error.contains("cannot run the compiler /nonexistent"),
        "{error}"
    );
}
