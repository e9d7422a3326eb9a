//! Compiling, in a process of its own.
//!
//! A compiler takes hundreds of megabytes for a large guest and gives them back to nobody, and its
//! input comes from outside. So the program runs itself with a hidden subcommand, which reads a
//! component from standard input and writes code to standard output, within limits of memory, CPU
//! time, wall time and output. [`compile_child_main`] is that subcommand.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use wasmtime::{Config, Engine, WasmBacktraceDetails};

use crate::error::LoadErrorKind;

/// The hidden subcommand.
pub const COMPILE_SUBCOMMAND: &str = "__compile-plugin";

/// Where plugins are compiled.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// In a child process: `program` with [`COMPILE_SUBCOMMAND`] and what
    /// [`compile_child_main`] then expects.
    Child {
        /// The program; it must call [`compile_child_main`].
        program: PathBuf,
        /// Its limits.
        limits: CompileLimits,
    },
    /// In this process, without limits: for tests and tools.
    InProcess,
}

impl Compiler {
    /// This program again, with the default limits.
    pub fn this_program() -> io::Result<Compiler> {
        let program = std::env::current_exe()?;
        Ok(Compiler::Child {
            program,
            limits: CompileLimits::default(),
        })
    }
}

/// Limits of the compiler's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes of a component. Default 64 MiB; one in Python has 18.
    pub input_bytes: u64,
    /// Bytes of memory. Default 2 GiB; a component in Python takes 500 MB.
    pub memory_bytes: u64,
    /// CPU time, and half of the wall time. Default 120 s; a component in Python takes 7 s of a
    /// fast core.
    pub cpu: Duration,
    /// Bytes of code. Default 512 MiB.
    pub output_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> CompileLimits {
        CompileLimits {
            input_bytes: 64 << 20,
            memory_bytes: 2 << 30,
            cpu: Duration::from_secs(120),
            output_bytes: 512 << 20,
        }
    }
}

/// What makes compiled code fit an engine: the same here, in the engine that runs it and in the
/// child that compiles for it.
pub(crate) fn base_config() -> Config {
    let mut config = Config::new();
    // The first costs every call 0.5 µs when it is on, as it is by default; memories of 64 bits and
    // relaxed SIMD (which gives other results on other machines) are what no plugin needs. Several
    // memories stay allowed: what joins the components within a component reads one and writes
    // another, and an interpreter's guest has its stubs of WASI in a component of their own.
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable);
    config
}

pub(crate) fn compile(
    compiler: &Compiler,
    engine: &Engine,
    component: &[u8],
) -> Result<Vec<u8>, LoadErrorKind> {
    match compiler {
        Compiler::InProcess => {
            engine
                .precompile_component(component)
                .map_err(|error| LoadErrorKind::Compile {
                    detail: format!("{error:#}"),
                })
        }
        Compiler::Child { program, limits } => compile_in_child(program, limits, component),
    }
}

/// How far behind the router itself the compiler stands in the queue for the processor.
const COMPILE_NICE: i32 = 10;

/// How the child's work ended.
const EXIT_REFUSED: u8 = 3;
const EXIT_SETUP: u8 = 4;

/// The hidden subcommand: `args` is what follows it on the command line. The caller's `main` ends
/// with what this returns.
pub fn compile_child_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut numbers = args
        .into_iter()
        .map(|arg| arg.to_str().and_then(|a| a.parse::<u64>().ok()));
    let (Some(Some(memory_bytes)), Some(Some(cpu_seconds))) = (numbers.next(), numbers.next())
    else {
        eprintln!("{COMPILE_SUBCOMMAND} is for the router itself: <memory bytes> <CPU seconds>");
        return ExitCode::from(EXIT_SETUP);
    };
    match compile_here(memory_bytes, cpu_seconds) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, detail)) => {
            eprint!("{detail}");
            ExitCode::from(code)
        }
    }
}

fn compile_here(memory_bytes: u64, cpu_seconds: u64) -> Result<(), (u8, String)> {
    let setup = |error: &dyn std::fmt::Display| (EXIT_SETUP, error.to_string());
    for (resource, limit) in [
        (Resource::Data, memory_bytes),
        (Resource::Cpu, cpu_seconds),
        // A crash of the compiler must not leave the plugin's bytes in a core file.
        (Resource::Core, 0),
    ] {
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        setrlimit(resource, limit).map_err(|error| setup(&error))?;
    }
    // Messages of the node that waits for this go first.
    // Where that is refused, it is merely less polite.
    let _ = rustix::process::nice(COMPILE_NICE);
    let mut component = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut component)
        .map_err(|error| setup(&error))?;
    let engine = Engine::new(&base_config()).map_err(|error| setup(&error))?;
    let code = engine
        .precompile_component(&component)
        .map_err(|error| (EXIT_REFUSED, format!("{error:#}")))?;
    io::stdout()
        .lock()
        .write_all(&code)
        .map_err(|error| setup(&error))
}

fn compile_in_child(
    program: &std::path::Path,
    limits: &CompileLimits,
    component: &[u8],
) -> Result<Vec<u8>, LoadErrorKind> {
    let process = |source| LoadErrorKind::CompilerProcess {
        program: program.display().to_string(),
        source,
    };
    let mut child = Command::new(program)
        .arg(COMPILE_SUBCOMMAND)
        .arg(limits.memory_bytes.to_string())
        .arg(limits.cpu.as_secs().max(1).to_string())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(process)?;
    let outcome = talk(&mut child, limits, component);
    if outcome.is_none() {
        // It has passed a limit; the kill also ends the threads that read from it.
        child.kill().map_err(process)?;
    }
    let status = child.wait().map_err(process)?;
    let Some(Outcome { code, complaint }) = outcome else {
        return Err(LoadErrorKind::CompileLimit {
            detail: format!("more than {} s of time", wall(limits).as_secs()),
        });
    };
    // The pipe breaks where the limit is passed, so the child has failed too.
    if code.len() as u64 > limits.output_bytes {
        return Err(LoadErrorKind::CompileLimit {
            detail: format!("more than {} bytes of code", limits.output_bytes),
        });
    }
    match status.code() {
        Some(0) => Ok(code),
        Some(code) if code == i32::from(EXIT_REFUSED) => {
            Err(LoadErrorKind::Compile { detail: complaint })
        }
        Some(_) => Err(process(io::Error::other(complaint))),
        // Killed: out of memory ends a process with SIGABRT, out of CPU time with SIGXCPU.
        None => Err(LoadErrorKind::CompileLimit {
            detail: format!(
                "{status}, with {} bytes of memory and {} s of CPU time allowed",
                limits.memory_bytes,
                limits.cpu.as_secs()
            ),
        }),
    }
}

struct Outcome {
    code: Vec<u8>,
    complaint: String,
}

/// Wall time that the child may take: twice its CPU time, since the machine has other work.
fn wall(limits: &CompileLimits) -> Duration {
    limits.cpu.max(Duration::from_secs(1)).saturating_mul(2)
}

/// Writes the component and reads the code; `None` if that takes too long.
fn talk(child: &mut Child, limits: &CompileLimits, component: &[u8]) -> Option<Outcome> {
    let (mut stdin, stdout, stderr) = (
        child.stdin.take()?,
        child.stdout.take()?,
        child.stderr.take()?,
    );
    let (sender, receiver) = mpsc::channel();
    let component = component.to_vec();
    // A child that ends early breaks the pipe; its exit code and its words say why.
    thread::spawn(move || stdin.write_all(&component));
    let complaints = sender.clone();
    let complaint = thread::spawn(move || {
        let mut text = Vec::new();
        drop(stderr.take(COMPLAINT_BYTES_MAX).read_to_end(&mut text));
        drop(complaints);
        String::from_utf8_lossy(&text).into_owned()
    });
    let output_bytes = limits.output_bytes;
    thread::spawn(move || {
        let mut code = Vec::new();
        // One byte more than allowed, so that the limit is seen to be passed.
        let read = stdout
            .take(output_bytes.saturating_add(1))
            .read_to_end(&mut code);
        // The receiver is gone only if the time is up.
        drop(sender.send(read.map(|_| code).unwrap_or_default()));
    });
    let code = receiver.recv_timeout(wall(limits)).ok()?;
    let complaint = complaint.join().unwrap_or_default();
    Some(Outcome { code, complaint })
}

const COMPLAINT_BYTES_MAX: u64 = 64 << 10;
