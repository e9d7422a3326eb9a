//! `waypost plugin new|build|test|verify|bench`: a plugin from an empty folder, without a node.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use super::*;

const MAGNITUDE: &str = "plugins/prebuilt/quake-magnitude.wasm";
const PUPPET: &str = "tests/fixtures/plugins/puppet.wasm";

impl Home {
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        let folder = path.parent().expect("a folder");
        fs::create_dir_all(folder).expect("a folder");
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).expect(name)
    }

    /// As a developer has it: with the tools of this machine, in `dir`.
    fn with_tools(&self, dir: &str, args: &[&str]) -> Output {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let variable = |name: &str, in_home: &str| {
            let set = std::env::var_os(name).map(PathBuf::from);
            set.or_else(|| Some(home.as_ref()?.join(in_home)))
        };
        let mut command = self.command(args);
        command.current_dir(self.path().join(dir));
        for (name, in_home) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            command.envs(variable(name, in_home).map(|path| (name, path)));
        }
        for name in ["PATH", "RUSTUP_TOOLCHAIN"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.output().expect("waypost runs")
    }
}

fn quakes() -> String {
    let quake = |mag: &str| {
        format!(r#"{{"topic":"quakes/uw/raw","payload":{{"properties":{{"mag":{mag}}}}}}}"#)
    };
    [quake("2.1"), quake("4.8"), quake("null")].join("\n") + "\n"
}

#[test]
fn every_command_on_plugins_has_help_with_an_example() {
    let home = Home::new();
    for command in ["new", "build", "test", "verify", "bench"] {
        let help = home.ok(&["plugin", command, "--help"]);
        assert!(help.contains("Example"), "{command}: {help}");
    }
}

#[test]
fn mistakes_of_a_newcomer() {
    let home = Home::new();
    let messages = home.write("in.jsonl", "{\"topic\":\"a\"}\n");
    let broken = home.write("broken.jsonl", "{\"topic\":\"a\"}\n\n{\"topc\":\"a\"}\n");
    let magnitude = component(MAGNITUDE);
    home.write("full/file", "");
    home.write("bad/waypost-plugin.toml", "[plugin]\nname = \"Bad\"\n");
    for (args, expected) in [
        (
            &["plugin", "new", "Loud", "--lang", "rust"][..],
            "a name of a-z, 0-9 and dashes",
        ),
        (&["plugin", "new", "loud"], "--lang <LANGUAGE>"),
        (
            &["plugin", "new", "loud", "--lang", "cobol"],
            "[possible values: ",
        ),
        (
            &["plugin", "new", "loud", "--lang", "rust", "--role", "sieve"],
            "expected one of filter, transform, route, each",
        ),
        (
            &["plugin", "new", "loud", "--lang", "rust", "--dir", "full"],
            "full is not empty",
        ),
        (
            &["plugin", "build", "--dir", "full"],
            "no waypost-plugin.toml in",
        ),
        (
            &["plugin", "build", "--dir", "bad"],
            "waypost-plugin.toml:1:1: missing field `language`",
        ),
        (&["plugin", "test"], "no waypost-plugin.toml in"),
        (
            &["plugin", "test", &magnitude],
            "on which messages? --input FILE",
        ),
        (
            &["plugin", "test", &magnitude, "--input", &broken],
            "broken.jsonl:3: unknown field `topc`",
        ),
        (
            &[
                "plugin", "test", &magnitude, "--input", &messages, "--batch", "0",
            ],
            "0 is not in 1..=256",
        ),
        (
            &[
                "plugin",
                "test",
                &magnitude,
                "--input",
                &messages,
                "--snapshot",
                "none",
            ],
            "--update writes it",
        ),
        (
            &[
                "plugin", "test", &magnitude, "--input", &messages, "--update",
            ],
            "say --snapshot",
        ),
    ] {
        let output = home
            .command(args)
            .current_dir(home.path())
            .output()
            .expect("runs");
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    let error = home.fails(&["plugin", "test", &messages, "--input", &messages], 1);
    assert!(error.contains("is not WebAssembly"), "{error}");
    let args = [
        "plugin", "test", &magnitude, "--input", &messages, "--set", "mni=3",
    ];
    let error = home.fails(&args, 1);
    assert!(
        error.contains("refuses its settings: setting 'mni'"),
        "{error}"
    );
}

#[test]
fn a_plugin_is_tried_on_messages() {
    let home = Home::new();
    let (file, input) = (component(MAGNITUDE), home.write("in.jsonl", &quakes()));
    let test = [
        "plugin",
        "test",
        &file,
        "--input",
        &input,
        "--set",
        "min-magnitude=3",
    ];
    let shown = home.ok(&test);
    let first = shown.lines().next().expect("a line");
    assert!(
        first.contains("1  drop") && first.contains("quakes/uw/raw"),
        "{shown}"
    );
    assert!(shown.contains("2  pass"), "{shown}");
    assert!(shown.contains("3 messages: "), "{shown}");

    // What it found can be expected, whatever the size of the calls.
    let found = home.ok(&[&test[..], &["--json"]].concat());
    let expect = home.write("expect.jsonl", &found);
    for batch in ["1", "2", "256"] {
        home.ok(&[&test[..], &["--batch", batch, "--expect", &expect]].concat());
    }
    // Another setting has another result; the difference is named with the line.
    let test = [
        "plugin",
        "test",
        &file,
        "--input",
        &input,
        "--set",
        "min-magnitude=5",
    ];
    let output = home.run(&[&test[..], &["--expect", &expect]].concat());
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("expect.jsonl:2"), "{shown}");
    assert!(
        shown.contains("verdict: expected \"pass\", found \"drop\""),
        "{shown}"
    );
    let output = home.run(&[&test[..], &["--expect", &expect, "--json"]].concat());
    let line: Value =
        serde_json::from_str(text(&output.stdout).lines().nth(1).expect("a line")).expect("JSON");
    assert_eq!(line["differences"][0]["place"], "verdict");

    // Too many or too few expectations are a difference too.
    let short = home.write("short.jsonl", found.lines().next().expect("a line"));
    let output = home.run(&[
        "plugin", "test", &file, "--input", &input, "--expect", &short,
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).contains("is for 1 messages, there were 3"),
        "{output:?}"
    );
}

#[test]
fn a_snapshot_is_written_and_then_held() {
    let home = Home::new();
    let (file, input) = (component(MAGNITUDE), home.write("in.jsonl", &quakes()));
    let snapshot = home.path().join("snap.jsonl").display().to_string();
    let test = [
        "plugin",
        "test",
        &file,
        "--input",
        &input,
        "--snapshot",
        &snapshot,
    ];
    home.ok(&[&test[..], &["--update"]].concat());
    assert_eq!(home.read("snap.jsonl").lines().count(), 3);
    home.ok(&test);
    let output = home.run(&[&test[..], &["--set", "min-magnitude=9"]].concat());
    assert_eq!(output.status.code(), Some(1));
    home.ok(&[&test[..], &["--set", "min-magnitude=9", "--update"]].concat());
    home.ok(&[&test[..], &["--set", "min-magnitude=9"]].concat());
}

#[test]
fn edits_emitted_messages_logs_and_failures_are_shown() {
    let home = Home::new();
    let order = |order: &str| {
        format!("{{\"topic\":\"a/b\",\"headers\":{{\"do\":\"{order}\"}},\"payload\":\"p\"}}")
    };
    let orders = [
        "pass",
        "topic c/d",
        "emit 2 3",
        "log 1",
        "count",
        "trap",
        "loop",
        "topic $x",
        "pass",
    ];
    let input = home.write("in.jsonl", &(orders.map(order).join("\n") + "\n"));
    let test = [
        "plugin",
        "test",
        &component(PUPPET),
        "--input",
        &input,
        "--role",
        "transform",
    ];
    let output = home.run(&test);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "messages failed: {shown}");
    for expected in [
        "- topic: a/b",
        "+ topic: c/d",
        "2 messages",
        "log info: ",
        "metric seen +2",
        "6  failed",
        "trap: ",
        "deadline passed: ",
        "begins with '$'",
        "9 messages: ",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    // The messages around those at fault have verdicts, in batches too.
    let output = home.run(&[&test[..], &["--batch", "256", "--json"]].concat());
    let verdicts: Vec<String> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["verdict"].to_string())
        .collect();
    let wanted = [
        "pass", "edit", "emit", "pass", "pass", "failed", "failed", "failed", "pass",
    ];
    assert_eq!(verdicts, wanted.map(|word| format!("\"{word}\"")));
}

#[test]
fn state_published_messages_and_timers_are_shown_and_undone() {
    let home = Home::new();
    let order = |order: &str| format!("{{\"topic\":\"a/b\",\"headers\":{{\"do\":\"{order}\"}}}}");
    let orders = [
        "set k v;publish counts/x 1 2;timer 50",
        "set k gone;trap",
        "get k;remove k",
    ];
    let input = home.write("in.jsonl", &(orders.map(order).join("\n") + "\n"));
    let puppet = fixture("puppet-effects");
    let test = [
        "plugin",
        "test",
        &puppet,
        "--input",
        &input,
        "--role",
        "transform",
    ];
    let output = home.run(&[&test[..], &["--json"]].concat());
    let lines = json_lines(&text(&output.stdout));
    assert_eq!(lines.len(), 3, "{output:?}");
    assert_eq!(lines[0]["state"][0]["key"], "k", "{output:?}");
    assert_eq!(lines[0]["state"][0]["value"], "v", "{output:?}");
    assert_eq!(lines[0]["published"][0]["topic"], "counts/x", "{output:?}");
    assert_eq!(lines[0]["timer_ms"], 50, "{output:?}");
    // What a call that trapped wrote is gone.
    assert_eq!(lines[1]["verdict"], "failed", "{output:?}");
    assert!(lines[1].get("state").is_none(), "{output:?}");
    let answers = lines[2]["message"]["headers"]["answers"].to_string();
    assert!(
        answers.contains('v') && !answers.contains("gone"),
        "{output:?}"
    );
    assert_eq!(lines[2]["state"][0]["removed"], true, "{output:?}");
    let shown = text(&home.run(&test).stdout);
    for expected in [
        "state k = v",
        "published counts/x",
        "timer in 50 ms",
        "state k removed",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let verified = home.ok(&["plugin", "verify", &puppet, "--role", "transform"]);
    assert!(
        verified.contains("state") && verified.contains("on-timer"),
        "{verified}"
    );
}

#[test]
fn a_guest_of_wasi_messaging_is_verified_and_tested_as_others_are() {
    let home = Home::new();
    let guest = fixture("puppet-messaging");
    let verified = home.ok(&["plugin", "verify", &guest]);
    for expected in [
        "is a plugin that this router can run",
        "wasi:messaging@0.2.0-draft",
        "wasi:messaging/incoming-handler@0.2.0-draft",
        "wasi:messaging/producer.send",
    ] {
        assert!(verified.contains(expected), "{expected}: {verified}");
    }
    let said = home.ok(&["plugin", "verify", &guest, "--json"]);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["role"], "filter");
    assert_eq!(said["contract"], "wasi:messaging@0.2.0-draft");
    assert_eq!(said["grants"], serde_json::json!(["publish"]));
    let error = home.fails(&["plugin", "verify", &guest, "--role", "route"], 1);
    assert!(
        error.contains("runs in the role filter, and the role route was asked for"),
        "{error}"
    );
    let error = home.fails(&["plugin", "verify", &guest, "--set", "limit=1"], 1);
    assert!(error.contains("setting 'limit' is unknown"), "{error}");

    let message = |orders: &str| {
        format!(
            "{{\"topic\":\"a/b\",\"payload\":\"loud\",\
             \"headers\":{{\"do\":\"{orders}\",\"to\":\"out/x\"}}}}"
        )
    };
    let orders = ["", "upper", "upper;fail other why", "trap"];
    let input = home.write("in.jsonl", &(orders.map(message).join("\n") + "\n"));
    let test = ["plugin", "test", &guest, "--input", &input];
    let output = home.run(&[&test[..], &["--json"]].concat());
    let lines = json_lines(&text(&output.stdout));
    let verdicts: Vec<_> = lines.iter().map(|line| &line["verdict"]).collect();
    assert_eq!(verdicts, ["pass", "pass", "failed", "failed"], "{output:?}");
    assert_eq!(lines[1]["published"][0]["topic"], "out/x", "{output:?}");
    assert_eq!(lines[1]["published"][0]["payload"], "LOUD", "{output:?}");
    assert_eq!(lines[2]["error"], "other: why", "{output:?}");
    assert!(lines[2].get("published").is_none(), "{output:?}");
    let shown = text(&home.run(&test).stdout);
    for expected in ["published out/x", "other: why", "trap: "] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
}

#[test]
fn a_build_says_what_is_missing_and_where_it_failed() {
    let home = Home::new();
    let manifest = |steps: &str, needs: &str| {
        let text = format!(
            "[plugin]\nname = \"p\"\nlanguage = \"c\"\nrole = \"filter\"\ncomponent = \"build/p.wasm\"\n\
             [build]\nsteps = {steps}\n{needs}"
        );
        home.write("p/waypost-plugin.toml", &text);
    };
    let build = |home: &Home| {
        let output = home.with_tools("p", &["plugin", "build"]);
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    manifest(
        "[[\"touch\", \"ran\"]]",
        "[[build.needs]]\ncommand = \"no-such-cc\"\ninstall = \"apt-get install it\"",
    );
    let (code, shown) = build(&home);
    assert_eq!(code, Some(1));
    assert!(
        shown.contains("no-such-cc is not on this machine: apt-get install it"),
        "{shown}"
    );
    assert!(
        !home.path().join("p/ran").exists(),
        "nothing runs before all needs are met"
    );
    manifest("[[\"false\"], [\"touch\", \"ran\"]]", "");
    let (code, shown) = build(&home);
    assert_eq!(code, Some(1));
    assert!(
        shown.contains("$ false") && shown.contains("step `false` failed: exit status: 1"),
        "{shown}"
    );
    assert!(
        !home.path().join("p/ran").exists(),
        "a failed step is the last one"
    );
    manifest("[[\"no-such-program\"]]", "");
    assert!(
        build(&home)
            .1
            .contains("step `no-such-program` of waypost-plugin.toml")
    );
    manifest("[[\"true\"]]", "");
    let (_, shown) = build(&home);
    assert!(shown.contains("ended well, but there is no"), "{shown}");
    // What comes out must be a plugin of the role that is named.
    let copy = |from: &str| format!("[[\"cp\", \"{}\", \"{{component}}\"]]", component(from));
    manifest(&copy("wit/plugin.wit"), "");
    assert!(build(&home).1.contains("is not WebAssembly"));
    manifest(&copy("plugins/prebuilt/quake-alert.wasm"), "");
    assert!(
        build(&home)
            .1
            .contains("does not export waypost:plugin/filter")
    );
    manifest(&copy(MAGNITUDE), "");
    let (code, shown) = build(&home);
    assert_eq!(code, Some(0), "{shown}");
    assert!(
        shown.contains("built") && shown.contains("sha256:"),
        "{shown}"
    );
}

/// Lines of a process that goes on, from both of its outputs.
struct Said {
    child: std::process::Child,
    lines: mpsc::Receiver<String>,
}

impl Said {
    fn start(mut command: Command) -> Said {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("waypost starts");
        let (send, lines) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("it was piped")),
            Box::new(child.stderr.take().expect("it was piped")),
        ];
        for output in outputs {
            let send = send.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = send.send(line);
                }
            });
        }
        Said { child, lines }
    }

    /// Reads on until one line has this.
    fn until(&self, wanted: &str) {
        let mut seen = Vec::new();
        while !seen
            .last()
            .is_some_and(|line: &String| line.contains(wanted))
        {
            let line = self.lines.recv_timeout(Duration::from_secs(60));
            seen.push(line.unwrap_or_else(|_| panic!("no {wanted:?} in {seen:#?}")));
        }
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_project_is_built_again_at_each_change() {
    let home = Home::new();
    let manifest = |steps: &str| {
        let text = format!(
            "[plugin]\nname = \"p\"\nlanguage = \"c\"\nrole = \"filter\"\n\
             component = \"build/p.wasm\"\n[build]\nsteps = {steps}\n"
        );
        home.write("p/waypost-plugin.toml", &text);
    };
    let copy = format!(
        "[[\"cp\", \"{}\", \"{{component}}\"]]",
        component(MAGNITUDE)
    );
    manifest(&copy);
    home.write("p/src/filter.c", "1");
    home.write("p/tests/strong.jsonl", &quakes());
    let mut command = home.command(&["plugin", "build", "--watch"]);
    command.current_dir(home.path().join("p"));
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    let mut watching = Said::start(command);
    // Each time it is built, its tests run.
    let built = |watching: &Said| {
        watching.until("built");
        watching.until("watching");
    };
    built(&watching);
    home.write("p/src/filter.c", "22");
    watching.until("src/filter.c changed");
    built(&watching);
    // What is wrong is told, and does not end it.
    manifest("[[\"false\"]]");
    watching.until("step `false` failed");
    watching.until("watching");
    manifest("[[");
    watching.until("waypost-plugin.toml");
    manifest(&copy);
    built(&watching);
    let pid = rustix::process::Pid::from_child(&watching.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it lives");
    let ended = watching.child.wait().expect("it ends");
    assert!(!ended.success());
    let still: Vec<String> = watching.lines.iter().collect();
    assert!(
        still.iter().all(|line| !line.contains("panicked")),
        "{still:?}"
    );
}

#[test]
fn what_a_plugin_costs_is_measured_beside_one_that_does_nothing() {
    let home = Home::new();
    let input = home.write("in.jsonl", &quakes());
    let bench = [
        "plugin",
        "bench",
        &component(MAGNITUDE),
        "--input",
        &input,
        "--time",
        "30ms",
    ];
    let report: Value =
        serde_json::from_str(&home.ok(&[&bench[..], &["--json"]].concat())).expect("JSON");
    let batches: Vec<_> = report["batches"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|b| b["batch"].as_u64())
        .collect();
    assert_eq!(batches, [Some(1), Some(64), Some(256)]);
    for batch in report["batches"].as_array().expect("a list") {
        assert!(batch["ns_per_message"].as_f64() > Some(0.0), "{report}");
        assert!(
            batch["noop_ns_per_message"].as_f64() > Some(0.0),
            "{report}"
        );
    }
    assert!(
        report["compile_ms"].as_f64() > Some(0.0) && report["memory_bytes"].as_u64() > Some(0),
        "{report}"
    );
    let shown = home.ok(&bench);
    assert!(
        shown.contains("CPU/message") && shown.contains("a fresh instance"),
        "{shown}"
    );
}

/// The walk of docs/plugins.md, with a real compiler: three commands to a tested plugin.
#[test]
fn from_an_empty_folder_to_a_tested_plugin() {
    let home = Home::new();
    let rust = ["--lang", "rust"];
    let made = home.with_tools("", &[&["plugin", "new", "loud"], &rust[..]].concat());
    assert!(made.status.success(), "{made:?}");
    let notes = text(&made.stderr);
    if notes.contains("before it can be built here") {
        println!("SKIPPED: no Rust plugin can be built on this machine: {notes}");
        return;
    }
    // Built in a folder that stays, so that the SDK's dependencies are compiled once.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("loud");
    fs::create_dir_all(&target).expect("a folder");
    for role in ["filter", "transform", "route", "each"] {
        let name = format!("loud-{role}");
        let args = [
            &["plugin", "new", "loud", "--role", role, "--dir", &name],
            &rust[..],
        ]
        .concat();
        assert!(home.with_tools("", &args).status.success());
        symlink(&target, home.path().join(&name).join("target")).expect("a link");
        let built = home.with_tools(&name, &["plugin", "build"]);
        assert!(built.status.success(), "{role}: {built:?}");
        let tested = home.with_tools(&name, &["plugin", "test"]);
        let shown = text(&tested.stdout);
        assert!(
            tested.status.success() && shown.contains("1 passed, 0 failed"),
            "{role}: {shown}"
        );
        let format = Command::new("cargo")
            .args(["fmt", "--check"])
            .current_dir(home.path().join(&name))
            .output();
        let format = format.expect("cargo fmt");
        assert!(format.status.success(), "{role}: {}", text(&format.stdout));
    }
    // A test that expects something else fails, and says what.
    let expect = home
        .read("loud-filter/tests/loud.expect.jsonl")
        .replacen("pass", "drop", 1);
    home.write("loud-filter/tests/loud.expect.jsonl", &expect);
    let tested = home.with_tools("loud-filter/src", &["plugin", "test"]);
    let shown = text(&tested.stdout);
    assert_eq!(tested.status.code(), Some(1), "{shown}");
    assert!(
        shown.contains("verdict: expected \"drop\", found \"pass\""),
        "{shown}"
    );
    assert!(shown.contains("0 passed, 1 failed"), "{shown}");
}
