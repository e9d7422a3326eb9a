//! What a message costs in the reference filter of each language: ns of the thread's CPU time.
//!
//! `cargo run --release -p waypost-languages --example cost -- c=PATH go=PATH …` measures the
//! components that it is given, and always those that are committed. Batches of 256, payloads of
//! 128 bytes, four headers of which the plugin asks for one and compares its number; all pass. The
//! languages take turns, so that a busy machine is busy for all of them: compare ratios within one
//! run.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use waypost_host::{
    Effects, Engine, EngineOptions, Instance, MessageRef, PluginSpec, Role, Source,
};
use waypost_languages::committed;
use waypost_wire::record::{Message, RecordRef};

const ROUNDS: usize = 21;
const MESSAGES: usize = 256;
/// CPU time of one round.
const ROUND: Duration = Duration::from_millis(10);

struct Measured {
    name: String,
    instance: Instance,
    calls: u32,
    rounds: Vec<f64>,
}

fn main() {
    let mut components: Vec<(String, PathBuf)> = ["rust", "c", "zig"]
        .map(|language| (language.to_owned(), committed(language)))
        .into();
    for arg in std::env::args().skip(1) {
        match arg.split_once('=') {
            Some((name, path)) => components.push((name.to_owned(), path.into())),
            None => return eprintln!("'{arg}' is not LANGUAGE=PATH"),
        }
    }
    let engine = Engine::new(EngineOptions::default()).expect("an engine");
    let bodies: Vec<Bytes> = (0..MESSAGES).map(|_| body()).collect();
    let batch: Vec<_> = bodies
        .iter()
        .map(|body| MessageRef::new(RecordRef::parse(body).expect("a valid body"), 1_000))
        .collect();
    let mut measured: Vec<_> = components
        .into_iter()
        .map(|(name, path)| start(&engine, name, path, &batch))
        .collect();
    for _ in 0..ROUNDS {
        for one in &mut measured {
            let time = time(&mut one.instance, &batch, one.calls);
            let messages = f64::from(one.calls) * MESSAGES as f64;
            one.rounds.push(time.as_nanos() as f64 / messages);
        }
    }
    println!(
        "{:<10} {:>12} {:>12}",
        "language", "median ns", "fastest ns"
    );
    for mut one in measured {
        one.rounds.sort_by(f64::total_cmp);
        let (median, fastest) = (one.rounds[ROUNDS / 2], one.rounds[0]);
        println!("{:<10} {median:>12.1} {fastest:>12.1}", one.name);
    }
}

/// An instance that is warm, and how many calls make a round.
fn start(engine: &Engine, name: String, path: PathBuf, batch: &[MessageRef<'_>]) -> Measured {
    let mut spec = PluginSpec::new(name.clone(), Source::File(path));
    spec.role = Some(Role::Filter);
    spec.settings = vec![("header".into(), "magnitude".into())];
    spec.limits.call_cpu = Duration::from_secs(60);
    spec.limits.init_cpu = Duration::from_secs(60);
    let plugin = engine
        .load(spec)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut instance = plugin
        .instantiate(None)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut calls = 1;
    while time(&mut instance, batch, calls) < ROUND {
        calls *= 2;
    }
    Measured {
        name,
        instance,
        calls,
        rounds: Vec::new(),
    }
}

fn time(instance: &mut Instance, batch: &[MessageRef<'_>], calls: u32) -> Duration {
    let start = cpu_time();
    for _ in 0..calls {
        let verdicts = black_box(
            instance
                .call(batch, &mut Effects::default())
                .expect("verdicts"),
        );
        assert!(verdicts.all_pass());
    }
    cpu_time() - start
}

fn body() -> Bytes {
    Message::new("plants/berlin/line-3/press-17/telemet", vec![b'x'; 128])
        .with_header("source", "press-17")
        .with_header("kind", "temperature")
        .with_header("magnitude", "4.8")
        .with_header("trace", "00-0af7651916cd43dd8448eb211c80319c")
        .to_body()
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}
