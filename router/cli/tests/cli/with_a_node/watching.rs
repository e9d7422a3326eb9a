//! What became of a message, what passes, and what a version in the shadow would do.

use std::io::Read;

use serde_json::json;

use super::*;

/// A node with a queue and a route through the plugin `p`, which does as it is told.
fn with_plugin(home: &Home, component: &str, role: &str) -> Running {
    let node = dev(home);
    home.ok(&["queue", "add", "q"]);
    home.ok(&["plugin", "deploy", "p", &fixture(component), "--role", role]);
    let route = ["route", "add", "r", "--from", "in/#", "--through", "p"];
    home.ok(&[&route[..], &["--to", "queue:q"]].concat());
    node
}

#[test]
fn a_message_is_explained() {
    let home = Home::new();
    let node = with_plugin(&home, "puppet", "transform");
    let edit = ["pub", "in/x", "hello", "-H", "do=edit", "--explain"];
    let text = home.ok(&edit);
    for words in [
        "in/x 5 B\n  route r from in/#\n    p v1 edit: ",
        "topic: in/x → edited/topic",
        "→ queue:q (offset 0)",
        "\nstored after ",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let shown = home.json(&[&edit[..], &["--json"]].concat());
    assert_eq!(shown["published"], 1);
    let explained = &shown["explained"];
    assert_eq!(explained["outcome"], "stored");
    let steps = &explained["message"]["routes"][0]["steps"];
    assert_eq!(steps[0]["changes"][0]["field"], "topic");
    assert_eq!(
        (&steps[1]["queue"], &steps[1]["offset"]),
        (&json!("q"), &json!(1))
    );
    // Nothing is published.
    let text = home.ok(&[&edit[..], &["--dry-run"]].concat());
    assert!(text.contains("would end: queue:q (1)"), "{text}");
    assert_eq!(
        home.json(&["queue", "info", "q", "--json"])["next_offset"],
        2
    );
    // One that is refused is shown, and fails.
    let refused = ["pub", "in/x", "x", "-H", "do=reject", "--explain"];
    let output = home.run(&refused);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        super::text(&output.stdout).contains("p v1 reject"),
        "{output:?}"
    );
    drains(&home, node);
}

#[test]
fn live_messages_are_tapped() {
    let home = Home::new();
    let node = with_plugin(&home, "puppet", "transform");
    let mut tap = home.command(&["tap", "p", "--count", "2", "--json"]);
    tap.stderr(Stdio::null());
    let mut tap = Running::start(tap);
    // It is attached when it shows something: publishing goes on until then.
    let mut line = String::new();
    let is_seen = &std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let home = &home;
        scope.spawn(move || {
            while !is_seen.load(std::sync::atomic::Ordering::Relaxed) {
                home.ok(&["pub", "in/x", "x", "-H", "do=edit"]);
            }
        });
        line = tap.line();
        is_seen.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    // One more, where all that was published came before the tap.
    home.ok(&["pub", "in/x", "x", "-H", "do=edit"]);
    let seen: Value = serde_json::from_str(&line).expect(&line);
    assert_eq!(seen["verdict"], "edit");
    assert_eq!(seen["after"][0]["topic"], "edited/topic");
    let mut rest = String::new();
    tap.stdout.read_to_string(&mut rest).expect("its end");
    assert_eq!(rest.lines().count(), 1, "two in all: {rest}");
    let error = home.fails(&["tap", "nosuch"], 2);
    assert!(error.contains("no route or plugin 'nosuch'"), "{error}");
    drains(&home, node);
}

#[test]
fn a_version_is_tried_in_the_shadow() {
    let home = Home::new();
    let node = with_plugin(&home, "noop", "transform");
    let error = home.fails(&["plugin", "diff", "p"], 1);
    assert!(error.contains("plugin 'p' has no shadow"), "{error}");
    let deploy = [
        "plugin",
        "deploy",
        "p",
        &fixture("noop"),
        "--set",
        "answer=edit",
    ];
    let error = home.fails(&[&deploy[..], &["--sample", "0.5"]].concat(), 2);
    assert!(error.contains("--shadow"), "{error}");
    let text = home.ok(&[&deploy[..], &["--shadow"]].concat());
    assert!(text.contains("`waypost plugin diff p` shows"), "{text}");
    home.ok(&["pub", "in/x", "hello"]);
    let diff = loop {
        let diff = home.json(&["plugin", "diff", "p", "--json"]);
        if diff["compared"] == 1 {
            break diff;
        }
    };
    assert_eq!(diff["rows"][0]["shadow"], "edit");
    assert_eq!(diff["examples"][0]["message"]["payload"], "hello");
    let text = home.ok(&["plugin", "diff", "p"]);
    for words in [
        "p judges: ",
        "1 of them different",
        "serving  pass",
        "header seen: none → yes",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let shown = home.json(&["plugin", "show", "p", "--json"]);
    assert_eq!(shown["breaker"]["state"], "closed");
    assert_eq!(shown["shadow"]["digest"], diff["digest"]);
    assert!(
        home.ok(&["plugin", "show", "p"])
            .contains("see `waypost plugin diff p`")
    );
    assert!(
        home.ok(&["plugin", "promote", "p"])
            .contains("runs version 2, before it 1")
    );
    home.ok(&["pub", "in/x", "--explain", "hello"]);
    assert_eq!(
        home.json(&["plugin", "rollback", "p", "--json"])["version"],
        1
    );
    home.ok(&[&deploy[..], &["--shadow"]].concat());
    assert!(
        home.ok(&["plugin", "discard", "p"])
            .contains("has no shadow any more")
    );
    drains(&home, node);
}
