//! What a message costs in a plugin: ns of the thread's CPU time, packing and checking included.
//!
//! `cargo bench -p waypost-host` prints one line for each shape: the median of 41 rounds, and the
//! fastest. Compare ratios within one run. Messages have a topic of 37 bytes, 4 headers and the
//! payload that the line names; the stock plugins get a GeoJSON feature of 700 bytes.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use waypost_host::{
    Effects, Engine, EngineOptions, Instance, MessageRef, PluginSpec, Role, Source, Verdicts,
};
use waypost_wire::record::{Message, RecordRef};

const ROUNDS: usize = 41;
/// CPU time of one round: long enough for the clock, short enough for 41 of them.
const ROUND: Duration = Duration::from_millis(10);

fn main() {
    // `cargo test --benches` passes --test: then one round shows that it works.
    let quick = std::env::args().any(|arg| arg == "--test");
    let engine = Engine::new(EngineOptions::default()).expect("an engine");
    let bench = Bench {
        engine,
        rounds: if quick { 1 } else { ROUNDS },
    };
    println!(
        "{:<44} {:>6} {:>12} {:>12}",
        "shape", "batch", "median ns", "fastest ns"
    );
    for batch in [1, 64, 256] {
        let small = messages(batch, 128);
        bench.report(
            "bare: parse the record",
            batch,
            |bodies| drop(black_box(parse(bodies))),
            &small,
        );
        bench.noop("filter, topic only", Role::Filter, "topic", "pass", &small);
        bench.noop("filter, one header", Role::Filter, "header", "pass", &small);
        bench.noop(
            "filter, everything",
            Role::Filter,
            "everything",
            "pass",
            &small,
        );
        bench.noop("transform, pass", Role::Transform, "topic", "pass", &small);
        bench.noop(
            "transform, edit one header",
            Role::Transform,
            "topic",
            "edit",
            &small,
        );
        bench.noop(
            "route, one header, one destination",
            Role::Route,
            "header",
            "pass",
            &small,
        );
        bench.noop(
            "each, everything, pass",
            Role::Each,
            "everything",
            "pass",
            &small,
        );
        bench.noop(
            "each, everything, edit",
            Role::Each,
            "everything",
            "edit",
            &small,
        );
    }
    for payload in [1 << 10, 64 << 10] {
        let large = messages(16, payload);
        bench.noop("filter, one header", Role::Filter, "header", "pass", &large);
        bench.noop(
            "filter, everything",
            Role::Filter,
            "everything",
            "pass",
            &large,
        );
    }
    let quakes: Vec<Bytes> = (0..256).map(|_| feature()).collect();
    bench.stock("quake-magnitude", &[], &quakes);
    bench.stock("quake-alert", &[], &quakes);
    bench.stock(
        "quake-route",
        &[("rule-1", "mag >= 5 -> queue:major")],
        &quakes,
    );
}

struct Bench {
    engine: Engine,
    rounds: usize,
}

impl Bench {
    fn noop(&self, name: &str, role: Role, interest: &str, answer: &str, bodies: &[Bytes]) {
        let mut spec = PluginSpec::new("noop", file("tests/fixtures/plugins/noop.wasm"));
        spec.role = Some(role);
        spec.settings = vec![
            ("interest".into(), interest.into()),
            ("answer".into(), answer.into()),
        ];
        self.plugin(name, spec, bodies);
    }

    fn stock(&self, name: &str, settings: &[(&str, &str)], bodies: &[Bytes]) {
        let mut spec = PluginSpec::new(name, file(&format!("plugins/prebuilt/{name}.wasm")));
        spec.settings = settings
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        self.plugin(name, spec, bodies);
    }

    fn plugin(&self, name: &str, mut spec: PluginSpec, bodies: &[Bytes]) {
        spec.destinations = vec!["queue:major".into(), "queue:minor".into()];
        let plugin = self.engine.load(spec).expect("loads");
        let mut instance = plugin.instantiate(None).expect("an instance");
        let payload = RecordRef::parse(&bodies[0]).expect("valid").payload().len();
        let name = format!("{name}, {payload} B");
        let parsed = parse(bodies);
        self.report(
            &name,
            bodies.len(),
            |_| drop(black_box(call(&mut instance, &parsed))),
            bodies,
        );
    }

    /// Measures `work` on one batch.
    fn report(&self, name: &str, batch: usize, mut work: impl FnMut(&[Bytes]), bodies: &[Bytes]) {
        let mut calls = 1u32;
        let mut time = |calls: u32| {
            let start = cpu_time();
            (0..calls).for_each(|_| work(bodies));
            cpu_time() - start
        };
        while self.rounds > 1 && time(calls) < ROUND {
            calls *= 2;
        }
        let mut rounds: Vec<f64> = (0..self.rounds)
            .map(|_| time(calls).as_nanos() as f64 / f64::from(calls) / batch as f64)
            .collect();
        rounds.sort_by(f64::total_cmp);
        let (median, fastest) = (rounds[rounds.len() / 2], rounds[0]);
        println!("{name:<44} {batch:>6} {median:>12.1} {fastest:>12.1}");
    }
}

fn call(instance: &mut Instance, batch: &[MessageRef<'_>]) -> Verdicts {
    instance
        .call(batch, &mut Effects::default())
        .expect("verdicts")
}

fn parse(bodies: &[Bytes]) -> Vec<MessageRef<'_>> {
    let record = |body| RecordRef::parse(body).expect("a valid body");
    bodies
        .iter()
        .map(|body| MessageRef::new(record(body), 1_700_000_000_000))
        .collect()
}

fn file(path: &str) -> Source {
    Source::File(
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(path),
    )
}

fn messages(count: usize, payload: usize) -> Vec<Bytes> {
    let message = Message::new("plants/berlin/line-3/press-17/telemet", vec![b'x'; payload])
        .with_header("source", "press-17")
        .with_header("kind", "temperature")
        .with_header("unit", "celsius")
        .with_header("trace", "00-0af7651916cd43dd8448eb211c80319c");
    (0..count).map(|_| message.to_body()).collect()
}

fn feature() -> Bytes {
    let json = concat!(
        r#"{"type":"Feature","properties":{"mag":4.8,"place":"37km NNE of Amboy, Washington","#,
        r#""time":1517363399650,"updated":1517942380200,"tz":-480,"#,
        r#""url":"https://earthquake.usgs.gov/earthquakes/eventpage/uw61345682","#,
        r#""detail":"https://earthquake.usgs.gov/earthquakes/feed/v1.0/detail/uw61345682.geojson","#,
        r#""felt":null,"cdi":null,"mmi":null,"alert":null,"status":"reviewed","tsunami":0,"sig":1,"#,
        r#""net":"uw","code":"61345682","ids":",uw61345682,","sources":",uw,","#,
        r#""types":",geoserve,origin,phase-data,","nst":7,"dmin":0.012,"rms":0.11,"gap":108,"#,
        r#""magType":"ml","type":"earthquake","title":"M 4.8 - 37km NNE of Amboy, Washington"},"#,
        r#""geometry":{"type":"Point","coordinates":[-122.197,46.2035,3.28]},"id":"uw61345682"}"#
    );
    Message::new("quakes/uw/raw", json).to_body()
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}
