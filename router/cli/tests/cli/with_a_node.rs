//! Commands that run a node, and clients beside one.

mod watching;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use super::*;

const ANY_PORT: &str = "127.0.0.1:0";

/// A `waypost dev` that is ready, with its standard error in `home/dev.log`.
pub(super) fn dev(home: &Home) -> Running {
    let args = ["dev", "--json", "--listen", ANY_PORT, "--admin", ANY_PORT];
    let mut command = home.command(&args);
    command.stderr(File::create(home.path().join("dev.log")).expect("a log"));
    let mut running = Running::start(command);
    let ready = running.line();
    assert!(ready.contains("\"node\":\"127.0.0.1:"), "{ready}");
    running
}

/// Presses Ctrl-C: the node must drain, and find that all clients have said goodbye.
pub(super) fn drains(home: &Home, node: Running) {
    let code = node.interrupt();
    let log = std::fs::read_to_string(home.path().join("dev.log")).expect("a log");
    assert_eq!(code, Some(0), "{log}");
    assert!(log.ends_with("\ndrained\n"), "{log}");
}

impl Home {
    fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(args);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }
}

/// A child process that is killed when the test ends, however it ends.
pub(super) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("waypost starts");
        let stdout = child.stdout.take().expect("it was piped");
        Running {
            child,
            stdout: BufReader::new(stdout),
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        line
    }

    /// As Ctrl-C does; gives the exit code.
    fn interrupt(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it lives");
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_node_command_has_help_with_an_example() {
    let home = Home::new();
    for command in [
        &["run"][..],
        &["dev"],
        &["demo"],
        &["check"],
        &["plugin", "verify"],
    ] {
        let args: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        assert!(home.ok(&args).contains("Example"), "{command:?}");
    }
}

#[test]
fn check_names_file_line_and_column() {
    let home = Home::new();
    let file = home.path().join("waypost.toml");
    let path = file.to_str().expect("text");
    std::fs::write(
        &file,
        "[node]\nnam = \"x\"\n\n[[route]]\nname = \"r\"\nfrom = \"a/#\"\nto = [\"queue:q\"]\n",
    )
    .expect("written");
    for command in ["check", "run"] {
        let output = home.run(&[command, "--config", path]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(said.contains("waypost.toml:2:1:"), "{said}");
        assert!(said.contains("did you mean \"name\"?"), "{said}");
        assert!(said.contains("waypost.toml:7:7:"), "{said}");
    }
    let output = home.run(&["check", "--json", "--config", path]);
    let checked: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(checked["ok"], false);
    assert_eq!(checked["errors"][0]["line"], 2);
}

#[test]
fn check_starts_the_plugins() {
    let home = Home::new();
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/quakes/waypost.toml"
    );
    let checked = home.json(&["check", "--json", "--config", example]);
    assert_eq!(checked["ok"], true, "{checked}");

    let wrong = std::fs::read_to_string(example).expect("the example");
    let wrong = wrong.replace("min-magnitude = 3", "min-magnitude = \"strong\"");
    let file = home.path().join("waypost.toml");
    std::fs::write(&file, wrong).expect("written");
    let example = std::fs::read_to_string(&file).expect("written");
    let line = example.lines().position(|line| line == "[[plugin]]");
    let line = line.expect("a plugin") + 1;
    let output = home.run(&["check", "--config", file.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains(&format!("waypost.toml:{line}: ")), "{said}");
    assert!(
        said.contains("'strong'") && said.contains("min-magnitude"),
        "{said}"
    );
}

#[test]
fn verify_says_what_a_file_is() {
    let home = Home::new();
    let plugins = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/prebuilt");
    let filter = format!("{plugins}/quake-magnitude.wasm");
    let verified = home.json(&["plugin", "verify", "--json", &filter]);
    assert_eq!(verified["role"], "filter");
    assert_eq!(verified["payload"], "all");
    assert_eq!(verified["imports"], serde_json::json!([]));
    let error = home.fails(&["plugin", "verify", &filter, "--setting", "min=1"], 1);
    assert!(error.contains("min"), "{error}");
    let error = home.fails(&["plugin", "verify", file!()], 1);
    assert!(
        error.contains("No such file") || error.contains("not WebAssembly"),
        "{error}"
    );
}

#[test]
fn publish_watch_and_consume_beside_dev() {
    let home = Home::new();
    let node = dev(&home);
    home.ok(&["queue", "add", "orders", "--from", "orders/#"]);

    let mut watcher = Running::start(home.command(&["sub", "orders/+", "--json", "--count", "1"]));
    // Its connection and subscription are there once the node counts them.
    let probe = |home: &Home| home.json(&["pub", "orders/probe", "x", "--json"]);
    wait_until_seen(&home, &mut watcher, probe);

    home.ok(&["queue", "purge", "orders", "--yes"]);
    let confirmed = home.json(&[
        "pub",
        "orders/7",
        "two bolts",
        "--key",
        "k",
        "-H",
        "unit=mm",
        "--id",
        "m-1",
        "--json",
    ]);
    assert_eq!(confirmed["levels"]["stored"], 1, "{confirmed}");
    let peeked = json_lines(&home.ok(&["queue", "peek", "orders", "--json"]));
    assert_eq!(peeked.len(), 1);
    assert_eq!(peeked[0]["payload"], "two bolts");
    assert_eq!(peeked[0]["headers"]["unit"], "mm");

    let take = |word: &[&str]| {
        let args = [
            "consume", "orders", "--group", "packers", "--count", "1", "--json",
        ];
        json_lines(&home.ok(&[&args[..], word].concat()))
    };
    let first = take(&["--no-ack"]);
    assert_eq!(
        (&first[0]["id"], &first[0]["attempt"]),
        (&"m-1".into(), &1.into())
    );
    // Looked at and given back in order: that was no attempt.
    let second = take(&[]);
    assert_eq!(
        (&second[0]["id"], &second[0]["attempt"]),
        (&"m-1".into(), &1.into())
    );
    let state = home.json(&["queue", "info", "orders", "--json"]);
    assert_eq!(state["groups"][0]["pending"], 0, "{state}");

    let error = home.fails(&["queue", "info", "nowhere"], 1);
    assert!(error.contains("not-found"), "{error}");
    let error = home.fails(&["queue", "rm", "orders"], 2);
    assert!(error.contains("--yes"), "{error}");
    home.ok(&["queue", "rm", "orders", "--yes"]);
    drains(&home, node);
}

#[test]
fn receipts_are_waited_for() {
    let home = Home::new();
    let node = dev(&home);
    home.ok(&[
        "queue",
        "add",
        "jobs",
        "--from",
        "jobs/#",
        "--dedup-window",
        "1m",
    ]);
    home.ok(&["queue", "group", "add", "jobs", "crew"]);
    let args = [
        "consume", "jobs", "--group", "crew", "--count", "2", "--json",
    ];
    let mut crew = Running::start(home.command(&args));
    let report = home.json(&["pub", "jobs/1", "dig", "--receipt", "--json", "--id", "j-1"]);
    let receipt = &report["receipts"][0];
    assert_eq!(receipt["outcome"], "acked", "{report}");
    assert_eq!(receipt["queue"], "jobs");
    assert_eq!(receipt["group"], "crew");
    assert_eq!(
        (&receipt["last"], &receipt["sequence"]),
        (&true.into(), &1.into())
    );
    // A duplicate has none, and nothing waits for it.
    let again = home.json(&["pub", "jobs/1", "dig", "--receipt", "--json", "--id", "j-1"]);
    assert_eq!(again["exceptions"][0]["kind"], "duplicate", "{again}");
    let text = home.ok(&["pub", "jobs/2", "fill", "--receipt"]);
    assert!(
        text.starts_with("message 1: acked (queue jobs, group crew, offset 1)\n"),
        "{text}"
    );
    crew.child.wait().expect("it has taken two");
    drains(&home, node);
}

/// Publishes until the subscriber has seen one: only then it is certain to be there.
fn wait_until_seen(home: &Home, watcher: &mut Running, probe: impl Fn(&Home) -> Value) {
    let seen = std::thread::scope(|scope| {
        let line = scope.spawn(|| watcher.line());
        while !line.is_finished() {
            probe(home);
        }
        line.join().expect("a line")
    });
    let seen: Value = serde_json::from_str(&seen).expect("JSON");
    assert_eq!(seen["topic"], "orders/probe");
}

#[test]
fn lines_come_back_as_they_were() {
    let home = Home::new();
    let node = dev(&home);
    home.ok(&["queue", "add", "lines", "--from", "lines/#"]);
    let mut command = home.command(&["pub", "--json-lines", "lines/default", "--json"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("pub");
    let mut stdin = child.stdin.take().expect("piped");
    let line = |n: u32| format!("{{\"payload\":\"{n}\",\"key\":\"k{n}\"}}\n");
    for number in 0..1000 {
        stdin.write_all(line(number).as_bytes()).expect("written");
    }
    drop(stdin);
    let mut report = String::new();
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_to_string(&mut report).expect("read");
    assert!(child.wait().expect("ended").success());
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["levels"]["stored"], 1000, "{report}");
    let taken = home.ok(&["consume", "lines", "-g", "g", "--count", "1000", "--json"]);
    let payloads: Vec<Value> = json_lines(&taken)
        .iter()
        .map(|l| l["payload"].clone())
        .collect();
    let expected: Vec<Value> = (0..1000).map(|n: u32| n.to_string().into()).collect();
    assert_eq!(payloads, expected);
    drains(&home, node);
}

#[test]
fn time_priority_and_last_values_are_said_on_the_command_line() {
    let home = Home::new();
    let node = dev(&home);
    let taken = |queue: &str, count: &str| {
        let text = home.ok(&["consume", queue, "-g", "g", "--count", count, "--json"]);
        let lines = json_lines(&text);
        let payload = |line: &Value| line["payload"].as_str().unwrap_or_default().to_owned();
        lines.iter().map(payload).collect::<Vec<String>>()
    };
    home.ok(&["queue", "add", "u", "--from", "u", "--priorities", "3"]);
    home.ok(&["pub", "u", "later", "--priority", "7", "--delay", "1d"]);
    home.ok(&["pub", "u", "low"]);
    home.ok(&["pub", "u", "high", "--priority", "7"]);
    assert_eq!(taken("u", "2"), ["high", "low"]);
    home.ok(&["queue", "add", "l", "--from", "l", "--last-value"]);
    home.ok(&["pub", "l", "one", "--key", "k"]);
    home.ok(&["pub", "l", "two", "--key", "k"]);
    assert_eq!(taken("l", "1"), ["two"]);
    home.ok(&["queue", "add", "t", "--from", "t", "--ttl", "1ms"]);
    home.ok(&["pub", "t", "late"]);
    assert_eq!(taken("dead-letter", "1"), ["late"]);
    drains(&home, node);
}

#[test]
fn groups_settings_and_dead_letters_are_in_the_hand() {
    let home = Home::new();
    let node = dev(&home);
    home.ok(&["queue", "add", "o", "--from", "o/#", "--retain", "log"]);
    for topic in ["o/eu/1", "o/us/1", "o/eu/2"] {
        home.ok(&["pub", topic, topic, "--key", "k"]);
    }
    let add = ["queue", "group", "add", "o", "g", "--kind", "exclusive"];
    home.ok(&[&add[..], &["--filter", "o/eu/#"]].concat());
    let error = home.fails(&add, 1);
    assert!(error.contains("other filters"), "{error}");
    let groups = home.json(&["queue", "group", "ls", "o", "--json"]);
    assert_eq!(groups[0]["kind"], "exclusive", "{groups}");
    assert_eq!(groups[0]["filters"][0], "o/eu/#", "{groups}");

    // The group is taken as it is where nothing is said of it.
    let take = ["consume", "o", "-g", "g", "--count", "2", "--json"];
    let reject = home.ok(&[&take[..], &["--reject", "torn"]].concat());
    let topics: Vec<Value> = json_lines(&reject)
        .iter()
        .map(|l| l["topic"].clone())
        .collect();
    assert_eq!(topics, ["o/eu/1", "o/eu/2"]);
    let seek = home.json(&["queue", "seek", "o", "g", "--time", "1h", "--json"]);
    assert_eq!(seek["offset"], 0);
    assert_eq!(json_lines(&home.ok(&take)).len(), 2);

    let dead = home.ok(&["dead", "show", "0"]);
    assert!(dead.contains("rejected by its consumer: torn"), "{dead}");
    home.ok(&["dead", "edit", "0", "--payload", "whole"]);
    home.ok(&["dead", "retry", "1"]);
    let error = home.fails(&["dead", "retry", "1"], 1);
    assert!(error.contains("no message at offset 1"), "{error}");
    let again = json_lines(&home.ok(&take));
    assert_eq!(again[0]["payload"], "whole");

    home.ok(&[
        "queue",
        "set",
        "o",
        "--at-limit",
        "drop-oldest",
        "--ttl",
        "2h",
    ]);
    let info = home.ok(&["queue", "info", "o"]);
    for said in ["drop-oldest", "2 h 0 m", "log", "exclusive"] {
        assert!(info.contains(said), "{info}");
    }
    assert!(!info.contains("deliver max"), "{info}");
    let browsed = home.ok(&["queue", "browse", "o", "--filter", "o/us/#", "--payload"]);
    assert!(browsed.ends_with("\no/us/1\n"), "{browsed}");
    home.ok(&["queue", "add", "p", "--from", "p/#"]);
    let replay = ["queue", "replay", "o", "--to", "3", "--json"];
    let replay = |more: &[&str]| home.json(&[&replay[..], more].concat());
    let copied = replay(&["--into", "topic:p/again"]);
    assert_eq!(copied["messages"], 3, "{copied}");
    let copied = replay(&["--filter", "o/us/#", "--into", "topic:nobody"]);
    assert_eq!(copied["unroutable"], 1, "{copied}");
    let copied = replay(&["--into", "queue:p"]);
    assert_eq!(copied["messages"], 3, "{copied}");
    assert_eq!(home.json(&["queue", "info", "p", "--json"])["messages"], 6);
    home.fails(&["queue", "replay", "o"], 2);
    let removed = home.json(&["queue", "rm-messages", "o", "--until", "0s", "--json"]);
    assert_eq!(removed["messages"], 5, "{removed}");
    home.ok(&["queue", "group", "rm", "o", "g", "--yes"]);
    drains(&home, node);
}

#[test]
fn the_demo_counts_what_the_file_says() {
    let home = Home::new();
    let demo = home.json(&["demo", "--json", "--time", "500ms"]);
    assert_eq!(demo["agrees"], true, "{demo:#}");
    assert_eq!(demo["paced"]["published"], 1707);
    assert_eq!(demo["paced"]["kept"], 217);
    assert_eq!(demo["paced"]["dropped"], 1490);
    assert_eq!(demo["paced"]["levels"]["stored"], 217);
    assert_eq!(demo["followed"]["id"], "us1000chhc");
    let steps = demo["followed"]["steps"].as_array().expect("steps");
    let plugins: Vec<&str> = steps.iter().filter_map(|s| s["plugin"].as_str()).collect();
    for plugin in ["strong", "alert", "dispatch"] {
        assert!(plugins.contains(&plugin), "{plugins:?}");
    }
}

#[test]
fn a_plugin_and_a_route_over_the_network() {
    let home = Home::new();
    let node = dev(&home);
    let (noop, puppet) = (fixture("noop"), fixture("puppet"));
    home.ok(&["queue", "add", "q"]);
    let role = ["--role", "transform"];
    let deploy = ["plugin", "deploy", "p", &noop, role[0], role[1]];
    let with = |more: &[&'static str]| -> Vec<String> {
        let all = deploy.iter().chain(more).chain(&["--json"]);
        all.map(|text| (*text).to_owned()).collect()
    };
    let run = |args: &[String]| home.json(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let first = run(&with(&[
        "--set",
        "answer=edit",
        "--limit",
        "memory_bytes=8MiB",
    ]));
    assert_eq!(first["version"], 1);
    assert_eq!(first["before"], 0);
    let same = run(&with(&[]));
    assert_eq!(same["unchanged"], true, "{same}");
    let second = run(&with(&["--set", "answer=pass"]));
    assert_eq!(second["version"], 2);
    assert_eq!(second["before"], 1);
    home.ok(&[
        "route",
        "add",
        "r",
        "--from",
        "in/#",
        "--through",
        "p",
        "--to",
        "queue:q,drop",
    ]);
    let routes = home.json(&["route", "ls", "--json"]);
    assert_eq!(
        routes[0]["to"],
        serde_json::json!(["queue:q", "drop"]),
        "{routes}"
    );
    assert_eq!(routes[0]["source"], "network");
    home.ok(&["pub", "in/x", "hello"]);
    let shown = home.json(&["plugin", "show", "p", "--json"]);
    assert_eq!(shown["version"], 2);
    assert_eq!(shown["version_messages"], 1, "{shown}");
    assert_eq!(
        shown["limits"],
        serde_json::json!({ "memory_bytes": "8MiB" })
    );
    assert_eq!(shown["settings"], serde_json::json!({ "answer": "pass" }));
    assert_eq!(shown["versions"].as_array().map(Vec::len), Some(2));
    let text = home.ok(&["plugin", "show", "p"]);
    assert!(
        text.contains("p ready") && text.contains("answer = pass"),
        "{text}"
    );
    assert_eq!(
        home.json(&["plugin", "rollback", "p", "--json"])["version"],
        1
    );
    home.ok(&["plugin", "pause", "p", "--hold"]);
    assert!(home.ok(&["plugin", "ls"]).contains("paused, holding"));
    home.ok(&["plugin", "resume", "p"]);
    // What is refused says why, and is exit code 1; a wrong word in the command is 2.
    let failed = |args: &[&str], code: i32, words: &str| {
        let output = home.run(args);
        let said = super::text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    };
    failed(&["plugin", "rm", "p"], 1, "plugin 'p' is used by r");
    failed(
        &["plugin", "deploy", "p", &noop, "--limit", "deadline=5"],
        1,
        "expected a duration",
    );
    failed(
        &["plugin", "deploy", "p", "no-such.wasm"],
        1,
        "no-such.wasm",
    );
    failed(
        &["plugin", "deploy", "p", &noop, "--set", "answer"],
        2,
        "NAME=VALUE",
    );
    failed(
        &["plugin", "rollback", "p", "--to", "9"],
        1,
        "has no version 9",
    );
    failed(
        &["route", "add", "s", "--from", "a", "--to", "queue:none"],
        1,
        "no queue 'none'",
    );
    // Log lines, with and without following them.
    home.ok(&["plugin", "deploy", "loud", &puppet, "--role", "filter"]);
    home.ok(&[
        "route",
        "add",
        "l",
        "--from",
        "loud",
        "--through",
        "loud",
        "--to",
        "queue:q",
    ]);
    home.ok(&["pub", "loud", "x", "--header", "do=log 3"]);
    let lines = json_lines(&home.ok(&["plugin", "logs", "loud", "-n", "2", "--json"]));
    assert_eq!(lines.len(), 2);
    let mut follow = Running::start(home.command(&["plugin", "logs", "loud", "-f", "--json"]));
    assert!(follow.line().contains("\"number\":1"));
    assert_eq!(follow.interrupt(), Some(0));
    home.ok(&["route", "rm", "r"]);
    home.ok(&["route", "rm", "l"]);
    home.ok(&["plugin", "rm", "p"]);
    home.ok(&["plugin", "rm", "loud"]);
    assert_eq!(
        home.json(&["plugin", "ls", "--json"]),
        serde_json::json!([])
    );
    drains(&home, node);
}

#[test]
fn a_bench_names_its_figures() {
    let home = Home::new();
    let said = home.fails(&["bench", "suite", "--only", "nothing"], 2);
    assert!(
        said.contains("no figure has \"nothing\" in its name") && said.contains("queue million"),
        "{said}"
    );
}

/// The servers that a bench starts end with it, also where it had no time to end them.
#[cfg(target_os = "linux")]
#[test]
fn a_bench_that_is_killed_leaves_nothing_running() {
    let home = Home::new();
    let mut bench = home.command(&["bench", "--duration", "60"]);
    let bench = bench.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut bench = bench.spawn().expect("waypost starts");
    let children = format!("/proc/{0}/task/{0}/children", bench.id());
    let threads = |process: &str| std::fs::read_dir(format!("/proc/{process}/task")).ok();
    let is_running = |process: &str| threads(process).is_some_and(|all| all.count() > 1);
    loop {
        let text = std::fs::read_to_string(&children).expect("it lives");
        if text.split_whitespace().next().is_some_and(is_running) {
            break;
        }
        std::thread::yield_now();
    }
    bench.kill().expect("it lives");
    bench.wait().expect("it ends");
    // The node has the other end as well, and lets go of it when it is gone.
    let mut stderr = bench.stderr.take().expect("it was piped");
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = stderr.read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    let end = end.recv_timeout(Duration::from_secs(20));
    assert!(end.is_ok(), "the node lives on");
}
