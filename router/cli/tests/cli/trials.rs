//! `waypost plugin test` in a time of its own, with few grants, and on what a node has.

use std::fs;

use serde_json::Value;

use super::with_a_node::{dev, drains};
use super::*;

fn verdicts(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .filter_map(|line| line["verdict"].as_str())
        .collect()
}

#[test]
fn timers_ring_in_the_time_of_the_messages() {
    let home = Home::new();
    let order = |order: &str| format!("{{\"topic\":\"a\",\"headers\":{{\"do\":\"{order}\"}}}}\n");
    let input = home.path().join("in.jsonl");
    let text =
        order("timer 1000") + "{\"wait_ms\":2500}\n" + &order("get w") + "{\"wait_ms\":600}\n";
    fs::write(&input, text).expect("written");
    let (puppet, input) = (fixture("puppet-effects"), input.display().to_string());
    let test = [
        "plugin",
        "test",
        &puppet,
        "--input",
        &input,
        "--role",
        "transform",
    ];
    let wakes = ["--set", "wake=set w rang;timer 1000"];
    let found = json_lines(&home.ok(&[&test[..], &wakes, &["--time", "--json"]].concat()));
    assert_eq!(
        verdicts(&found),
        ["edit", "timer", "timer", "edit", "timer"],
        "{found:#?}"
    );
    let start_ms = 1_767_225_600_000_u64;
    let at: Vec<u64> = found
        .iter()
        .filter_map(|line| line["at_ms"].as_u64())
        .collect();
    assert_eq!(at, [start_ms + 1_000, start_ms + 2_000, start_ms + 3_000]);
    assert_eq!(found[1]["state"][0]["value"], "rang");
    let answers = found[3]["message"]["headers"]["answers"].to_string();
    assert!(answers.contains("rang"), "{answers}");
    // An expectation has a line for each ring too.
    let expect = home.path().join("expect.jsonl");
    let timer = "{\"verdict\":\"timer\",\"state\":[{\"key\":\"w\"}]}\n";
    fs::write(&expect, format!("{{}}\n{timer}{timer}{{}}\n{timer}")).expect("written");
    let expect = expect.display().to_string();
    let said = home.ok(&[&test[..], &wakes, &["--time", "--expect", &expect]].concat());
    assert!(said.contains("2026-01-01T00:00:01.000Z"), "{said}");
    assert!(said.contains("2 messages: 2 edit, 3 timer"), "{said}");
    // Without a time of its own nothing rings; a timer that fails is a failure.
    let found = json_lines(&home.ok(&[&test[..], &wakes, &["--json"]].concat()));
    assert_eq!(verdicts(&found), ["edit", "edit"]);
    let output = home.run(&[&test[..], &["--set", "wake=trap", "--time", "--json"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let found = json_lines(&super::text(&output.stdout));
    assert_eq!(verdicts(&found), ["edit", "failed", "edit"], "{found:#?}");
    let said = home.fails(&[&test[..], &["--grant", "log"]].concat(), 1);
    assert!(said.contains("needs the grant"), "{said}");
    let all = [
        "log", "clock", "random", "metrics", "state", "publish", "timer",
    ];
    let grants: Vec<&str> = all.iter().flat_map(|grant| ["--grant", grant]).collect();
    home.ok(&[&test[..], &grants].concat());
    let said = home.fails(&[&test[..], &["--grant", "logs"]].concat(), 2);
    assert!(said.contains("found \"logs\""), "{said}");
}

#[test]
fn a_range_of_a_queue_is_tried_and_stays_there() {
    let home = Home::new();
    let node = dev(&home);
    home.ok(&["queue", "add", "q", "--from", "in/#"]);
    for number in ["1", "2", "3"] {
        home.ok(&["pub", &format!("in/{number}"), number]);
    }
    let noop = fixture("noop");
    let test = [
        "plugin",
        "test",
        &noop,
        "--role",
        "transform",
        "--set",
        "answer=edit",
    ];
    let replay = |more: &[&str]| -> Vec<Value> {
        let args = [&test[..], &["--replay", "queue:q", "--json"], more].concat();
        json_lines(&home.ok(&args))
    };
    assert_eq!(verdicts(&replay(&[])), ["edit", "edit", "edit"]);
    let part = replay(&["--from", "1", "--to", "2"]);
    assert_eq!(part.len(), 1, "{part:?}");
    assert_eq!(part[0]["message"]["topic"], "in/2");
    assert_eq!(replay(&["--filter", "in/3"])[0]["message"]["payload"], "3");
    assert_eq!(replay(&["--from", "5m"]).len(), 3);
    for (more, code, want) in [
        (&["--replay", "q"][..], 2, "expected queue:NAME"),
        (&["--replay", "queue:none"], 1, "none"),
        (
            &["--replay", "queue:q", "--from", "9"],
            2,
            "has no such message",
        ),
        (&["--replay", "queue:q", "--route", "r"], 2, "--role"),
    ] {
        let said = home.fails(&[&test[..], more].concat(), code);
        assert!(said.contains(want), "{more:?}: {said}");
    }
    let said = home.fails(
        &["plugin", "test", "--replay", "queue:q", "--route", "r"],
        2,
    );
    assert!(said.contains("--config"), "{said}");
    // Through a whole route: one edits, the next drops what it says.
    let config = home.path().join("w.toml");
    let text = format!(
        "[[queue]]\nname = \"out\"\n\
         [[plugin]]\nname = \"mark\"\nfile = {noop:?}\nrole = \"transform\"\n\
         [plugin.settings]\nanswer = \"edit\"\n\
         [[plugin]]\nname = \"keep\"\nfile = {noop:?}\nrole = \"filter\"\n\
         [[route]]\nname = \"r\"\nfrom = \"in/+\"\nthrough = [\"mark\", \"keep\"]\n\
         to = [\"queue:out\"]\n"
    );
    fs::write(&config, text).expect("written");
    let config = config.display().to_string();
    let route = [
        "plugin", "test", "--replay", "queue:q", "--route", "r", "--config", &config,
    ];
    let found = json_lines(&home.ok(&[&route[..], &["--json"]].concat()));
    assert_eq!(found.len(), 4, "{found:#?}");
    assert_eq!(found[0]["steps"][0]["plugin"], "mark");
    assert_eq!(found[0]["steps"][0]["verdict"], "edit");
    assert_eq!(found[0]["steps"][1]["plugin"], "keep");
    assert_eq!(found[0]["ends"][0], "queue:out");
    assert_eq!(found[3]["ends"]["queue:out"], 3, "{found:#?}");
    let said = home.ok(&route);
    assert!(
        said.contains("→ queue:out") && said.contains("3 messages: 3 queue:out"),
        "{said}"
    );
    let wrong = [&route[..5], &["nope", "--config", &config]].concat();
    let said = home.fails(&wrong, 2);
    assert!(
        said.contains("no route \"nope\", expected one of r"),
        "{said}"
    );
    // The queue has what it had.
    let info: Value =
        serde_json::from_str(&home.ok(&["queue", "info", "q", "--json"])).expect("JSON");
    assert_eq!(info["messages"], 3, "{info}");
    drains(&home, node);
}
