//! The shelf: each plugin does what its tests say, is what the node says of it, and can be had by
//! its name alone.

use std::fs;

use serde_json::Value;

use super::with_a_node::{dev, drains};
use super::*;

/// The folder of the shelf's sources.
fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/shelf")
}

/// Its plugins: the folders with a manifest.
fn plugins() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("the shelf");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let is_plugin = |name: &String| folder().join(name).join("waypost-plugin.toml").exists();
    let mut names: Vec<_> = names.filter(is_plugin).collect();
    names.sort();
    names
}

/// Copies what `plugin test` reads: what it compiles is kept beside the component.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.file_name().and_then(|name| name.to_str()) {
            Some("tests") => copy(&from, &to),
            _ if from.is_file() => drop(fs::copy(&from, &to).expect("a copy")),
            _ => {}
        }
    }
}

/// Whether a project's tests expect published messages.
fn publishes(project: &Path) -> bool {
    let tests = fs::read_dir(project.join("tests")).expect("tests");
    let files = tests.map(|entry| entry.expect("an entry").path());
    let mut texts = files.map(|file| fs::read_to_string(file).expect("text"));
    texts.any(|text| text.contains("\"published\""))
}

#[test]
fn each_does_what_its_tests_say() {
    let plugins = plugins();
    assert!(plugins.len() > 5, "{plugins:?}");
    for name in plugins {
        let home = Home::new();
        let project = home.path().join(&name);
        copy(&folder().join(&name), &project);
        let project = project.display().to_string();
        let run = home.run(&["plugin", "test", "--dir", &project]);
        let said = text(&run.stdout) + &text(&run.stderr);
        assert!(run.status.success(), "{name}: {said}");
        let is_compared = !said.contains("nothing was expected");
        assert!(said.contains("0 failed") && is_compared, "{name}: {said}");
        // One call for all messages must come to the same. What is published stands with a call's
        // last message, so that it cannot be compared with what each one's was.
        if publishes(Path::new(&project)) {
            continue;
        }
        let run = home.run(&["plugin", "test", "--dir", &project, "--batch", "256"]);
        let said = text(&run.stdout) + &text(&run.stderr);
        assert!(run.status.success(), "{name} in batches: {said}");
    }
}

/// `--set` for what an example of a schema has, as the configuration would give it.
fn flat(name: String, value: &Value, settings: &mut Vec<String>) {
    let dotted = |part: &str| match name.as_str() {
        "" => part.to_owned(),
        name => format!("{name}.{part}"),
    };
    match value {
        Value::Object(members) => {
            for (part, value) in members {
                flat(dotted(part), value, settings);
            }
        }
        Value::Array(elements) => {
            for (index, value) in elements.iter().enumerate() {
                flat(dotted(&index.to_string()), value, settings);
            }
        }
        Value::String(text) => settings.push(format!("{name}={text}")),
        other => settings.push(format!("{name}={other}")),
    }
}

/// What is granted to it, or must be.
fn grants(about: &Value) -> Vec<&str> {
    let all = about["grants"].as_array().into_iter().flatten();
    let mut names: Vec<_> = all.filter_map(Value::as_str).collect();
    names.sort();
    names
}

#[test]
fn each_is_what_the_shelf_says_of_it() {
    let home = Home::new();
    let list = home.ok(&["plugin", "shelf"]);
    let lines = home.ok(&["plugin", "shelf", "--json"]);
    let all = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line));
    let (mut seen, folders) = (Vec::new(), plugins());
    for about in all {
        let name = about["builtin"].as_str().expect("a name").to_owned();
        assert!(list.contains(&name), "{list}");
        let schema = &about["settings"];
        if schema.is_null() {
            assert!(name.starts_with("quake-"), "{name}");
            continue;
        }
        let shown = home.ok(&["plugin", "shelf", &name]);
        let (component, role) = (format!("builtin:{name}"), about["roles"][0].as_str());
        let mut args = vec!["plugin", "verify", &component, "--json"];
        args.extend(["--role", role.expect("a role")]);
        let example = &schema["examples"][0];
        let mut settings = Vec::new();
        flat(String::new(), example, &mut settings);
        for setting in &settings {
            args.extend(["--set", setting]);
        }
        let to = example["to"].as_object().into_iter().flatten();
        let mut destinations: Vec<_> = to.map(|(name, _)| name.clone()).collect();
        destinations.push("queue:rest".to_owned());
        let destinations = destinations.join(",");
        args.extend(["--destinations", &destinations]);
        let verified: Value = serde_json::from_str(&home.ok(&args)).expect("JSON");
        let own = verified["schema"].as_str().expect("a schema");
        let own: Value = serde_json::from_str(own).expect("JSON");
        assert_eq!(&own, schema, "{name}: its component has another schema");
        assert_eq!(grants(&verified), grants(&about), "{name}: other grants");
        // Each setting has words, and is in what people are shown.
        for part in ["properties", "patternProperties"] {
            for (key, words) in schema[part].as_object().into_iter().flatten() {
                let key = words["title"].as_str().unwrap_or(key);
                assert!(shown.contains(key), "{name}: {key} in {shown}");
                assert!(words["description"].is_string(), "{name}: {key}");
            }
        }
        let toml = shown.split_once("[[plugin]]").expect("an example").1;
        toml.parse::<toml::Table>().expect(toml);
        assert!(toml.contains(&format!("builtin = \"{name}\"")), "{toml}");
        seen.push(name);
    }
    seen.sort();
    assert_eq!(seen, folders);
}

#[test]
fn mistakes_with_names() {
    let home = Home::new();
    let error = home.fails(&["plugin", "shelf", "redactt"], 2);
    assert!(
        error.contains("no builtin \"redactt\"") && error.contains("redact,"),
        "{error}"
    );
    let error = home.fails(&["plugin", "verify", "redact"], 2);
    assert!(error.contains("builtin:redact"), "{error}");
    let error = home.fails(&["plugin", "verify", "builtin:nothing"], 2);
    assert!(error.contains("no builtin"), "{error}");
    let error = home.fails(
        &["plugin", "verify", "builtin:filter", "--set", "kep=$.a > 1"],
        1,
    );
    assert!(error.contains("kep") && error.contains("keep"), "{error}");
}

#[test]
fn a_node_runs_one_by_its_name() {
    let home = Home::new();
    let node = dev(&home);
    let error = home.fails(&["plugin", "deploy", "x", "builtin:nothing"], 1);
    assert!(error.contains("there is no builtin \"nothing\""), "{error}");
    let error = home.fails(&["plugin", "deploy", "x", "dedup"], 2);
    assert!(error.contains("builtin:dedup"), "{error}");
    let error = home.fails(&["plugin", "deploy", "once", "builtin:dedup"], 1);
    assert!(error.contains("needs the grant 'state'"), "{error}");
    let args = [
        "plugin",
        "deploy",
        "hot",
        "builtin:filter",
        "--set",
        "keep=$.t > 30",
    ];
    assert!(home.ok(&args).contains("runs version 1 (builtin:filter)"));
    assert!(home.ok(&args).contains("runs this already"));
    home.ok(&["queue", "add", "hot"]);
    let route = [
        "route",
        "add",
        "hot",
        "--from",
        "t/#",
        "--through",
        "hot",
        "--to",
        "queue:hot",
    ];
    home.ok(&route);
    home.ok(&["pub", "t/1", "{\"t\": 31}"]);
    home.ok(&["pub", "t/1", "{\"t\": 29}"]);
    let kept = home.ok(&["queue", "peek", "hot", "--json"]);
    assert!(kept.contains("31") && !kept.contains("29"), "{kept}");
    let shown = home.ok(&["plugin", "show", "hot"]);
    assert!(shown.contains("builtin:filter"), "{shown}");
    drains(&home, node);
}

#[test]
fn a_window_closes_though_no_other_message_comes() {
    let home = Home::new();
    let node = dev(&home);
    let component = ["plugin", "deploy", "seconds", "builtin:aggregate"];
    let grants = ["state", "timer", "clock", "publish"].map(|grant| ["--grant", grant]);
    let mut deploy = component.to_vec();
    deploy.extend(grants.as_flattened());
    deploy.extend(["--publish", "seconds"]);
    for setting in [
        "every=1s",
        "delay=200ms",
        "topic=seconds",
        "values.mean=mean $.t",
    ] {
        deploy.extend(["--set", setting]);
    }
    home.ok(&deploy);
    home.ok(&["queue", "add", "results", "--from", "seconds"]);
    let route = [
        "route",
        "add",
        "in",
        "--from",
        "t/#",
        "--through",
        "seconds",
    ];
    home.ok(&[&route[..], &["--to", "drop"]].concat());
    home.ok(&["pub", "t/1", "{\"t\": 4}"]);
    let take = ["consume", "results", "-g", "g", "--count", "1", "--raw"];
    let result: Value = serde_json::from_str(&home.ok(&take)).expect("JSON");
    assert_eq!(result["count"], 1);
    assert_eq!(result["values"]["mean"], 4);
    let (from, to) = (&result["from"], &result["to"]);
    assert_eq!(from.as_u64().map(|from| from + 1_000), to.as_u64());
    drains(&home, node);
}
