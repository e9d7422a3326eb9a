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
    compile_bombs_cost_the_child();
    a_program_that_is_no_compiler_is_named();
    nothing_leaks();
    a_hundred_plugins_are_small_and_start_fast();
    println!("child: 7 passed");
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
    compiled.instantiate(None).expect("an instance");
    // A compiler that does not exist shows that the cache was used.
    let nobody = Compiler::Child {
        program: "/nonexistent".into(),
        limits: CompileLimits::default(),
    };
    let cached = load(nobody, Some(cache), plugin()).expect("loads from the cache");
    cached.instantiate(None).expect("an instance");
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

/// A component of some 100 KB that asks the compiler for far more than it may have.
fn compile_bombs_cost_the_child() {
    let many = "(func (result i32) (i32.const 1))".repeat(20_000);
    let adds = "local.get 0 i32.add ".repeat(60_000);
    let huge = format!("(func (param i32) (result i32) i32.const 1 {adds})");
    let branches = format!(
        "(func {} {})",
        "(block ".repeat(2_000),
        "(br 0))".repeat(2_000)
    );
    let short_of_time = CompileLimits {
        cpu: Duration::from_secs(1),
        ..CompileLimits::default()
    };
    let short_of_memory = CompileLimits {
        memory_bytes: 48 << 20,
        ..CompileLimits::default()
    };
    for (what, functions) in [("many", many), ("huge", huge), ("nested", branches)] {
        let text = format!("(component (core module {functions}))");
        let bomb = wat::parse_str(text).expect("a component in text form");
        for limits in [short_of_memory, short_of_time] {
            let source = Source::Bytes(bomb.clone().into());
            let error = load(child(limits), None, source).expect_err("no plugin in any case");
            // One that is compiled after all is refused for what it exports.
            let is_told = error.contains("cannot be compiled within the limits")
                || error.contains("exports no role");
            assert!(is_told, "{what}: {error}");
            if limits == short_of_memory && what != "nested" {
                assert!(error.contains("within the limits"), "{what}: {error}");
            }
        }
    }
}

/// A thousand instances, and a thousand loads from the cache, leave the process as large as it was
/// after the first hundred.
fn nothing_leaks() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = CacheOptions {
        directory: directory.path().join("cache"),
        key_file: directory.path().join("key"),
    };
    let options = EngineOptions {
        compiler: Compiler::this_program().expect("this program"),
        cache: Some(cache),
        instances_max: 4,
        ..EngineOptions::default()
    };
    let engine = Engine::new(options).expect("an engine");
    let load = || engine.load(PluginSpec::new("p", plugin())).expect("loads");
    let kept = load();
    steady("instances", || {
        drop(kept.instantiate(None).expect("an instance"))
    });
    steady("loads", || {
        drop(load().instantiate(None).expect("an instance"))
    });
}

/// 100 plugins with an instance each: memory beyond the guests' own, and CPU time of a start from
/// the cache.
fn a_hundred_plugins_are_small_and_start_fast() {
    const COUNT: usize = 100;
    let directory = tempfile::tempdir().expect("a directory");
    let options = EngineOptions {
        compiler: Compiler::this_program().expect("this program"),
        cache: Some(CacheOptions {
            directory: directory.path().join("cache"),
            key_file: directory.path().join("key"),
        }),
        instances_max: 2 * COUNT as u32,
        ..EngineOptions::default()
    };
    let engine = Engine::new(options).expect("an engine");
    let load = || engine.load(PluginSpec::new("p", plugin())).expect("loads");
    let first = load();
    let before = resident_bytes();
    let mut starts = Vec::new();
    let mut held = Vec::new();
    for _ in 0..COUNT {
        let start = cpu_time();
        let plugin = load();
        let instance = plugin.instantiate(None).expect("an instance");
        starts.push(cpu_time() - start);
        held.push((plugin, instance));
    }
    let grown = resident_bytes().saturating_sub(before);
    starts.sort();
    let middle = starts[COUNT / 2];
    println!("child: 100 plugins with an instance each take {grown} bytes");
    println!("child: a start from the cache takes {middle:?} of CPU time");
    assert!(grown <= 60 << 20, "100 plugins take {grown} bytes");
    assert!(
        middle <= Duration::from_millis(5),
        "a start takes {middle:?}"
    );

    let before = resident_bytes();
    let more: Vec<_> = (0..16)
        .map(|_| first.instantiate(None).expect("an instance"))
        .collect();
    let each = resident_bytes().saturating_sub(before) / more.len();
    println!("child: an instance takes {each} bytes, with what it has touched of its memory");
    assert!(each <= 200_000, "an instance takes {each} bytes");
}

fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

fn steady(what: &str, mut work: impl FnMut()) {
    (0..100).for_each(|_| work());
    let before = resident_bytes();
    (0..1_000).for_each(|_| work());
    let grown = resident_bytes().saturating_sub(before);
    println!("child: 1000 {what} grew the process by {grown} bytes");
    assert!(grown < 4 << 20, "1000 {what} leak {grown} bytes");
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("a number") * 4_096
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
