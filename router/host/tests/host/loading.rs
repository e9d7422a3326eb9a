//! What is refused when a component is loaded, and how that is said; and the cache.

use std::fs;

use waypost_host::{CacheOptions, Engine, EngineOptions, PluginSpec, Role, Source};

use crate::support::{self, engine, fixture, load, puppet, repository, tell};

fn refusal_of(bytes: &[u8]) -> String {
    let source = Source::Bytes(bytes.to_vec().into());
    engine()
        .load(PluginSpec::new("bad", source))
        .expect_err("refused")
        .to_string()
}

fn refusal(text: &str) -> String {
    refusal_of(&wat::parse_str(text).expect("a component in text form"))
}

#[test]
fn what_is_not_a_component_is_told_apart() {
    assert_eq!(
        refusal_of(b"#!/bin/sh"),
        "plugin 'bad' (built in): is not WebAssembly: it begins with 23 21 2f 62, \
         expected 00 61 73 6d (\"\\0asm\")"
    );
    assert!(refusal("(module)").contains("is a core module, not a component; build it with"));
    assert!(refusal_of(b"\0asm\x0c\0\x01\0").contains("binary version 0c 00 01 00"));
    assert!(refusal_of(b"\0asm\x0d\0\x01\0\xff\xff").contains("cannot be compiled"));
    let whole = fs::read(repository("tests/fixtures/plugins/noop.wasm")).expect("a fixture");
    assert!(refusal_of(&whole[..whole.len() / 2]).contains("cannot be compiled"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let spec = PluginSpec::new("p", Source::File("no/such/file.wasm".into()));
    let error = engine().load(spec).expect_err("no file").to_string();
    assert!(
        error.starts_with("plugin 'p' (no/such/file.wasm): cannot be read"),
        "{error}"
    );
}

#[test]
fn missing_exports_are_named() {
    let error = refusal("(component)");
    assert!(error.contains("exports no role: expected one of waypost:plugin/filter@0.1.1,"));
    assert!(error.ends_with("it exports nothing"), "{error}");
    let instance = |name: &str| format!("(instance $i) (export \"{name}\" (instance $i))");
    let error = refusal(&format!(
        "(component {})",
        instance("waypost:plugin/filter@0.1.0")
    ));
    assert!(
        error.ends_with("does not export waypost:plugin/lifecycle@0.1.1#init"),
        "{error}"
    );
    let error = refusal(&format!(
        "(component {})",
        instance("waypost:plugin/filter@0.2.0")
    ));
    assert!(
        error.ends_with(
            "exports waypost:plugin/filter@0.2.0, but this router speaks waypost:plugin/filter@0.1.1"
        ),
        "{error}"
    );
}

#[test]
fn exports_of_other_types_are_named() {
    let error = refusal(
        r#"(component
            (core module $m (func (export "f") (result i32) i32.const 0))
            (core instance $m (instantiate $m))
            (func $f (result u32) (canon lift (core func $m "f")))
            (instance $i (export "init" (func $f)))
            (export "waypost:plugin/lifecycle@0.1.0" (instance $i))
            (instance $j (export "filter" (func $f)))
            (export "waypost:plugin/filter@0.1.0" (instance $j)))"#,
    );
    let wanted = "exports waypost:plugin/lifecycle@0.1.0#init with other types than the contract's";
    assert!(error.contains(wanted), "{error}");
}

#[test]
fn imports_that_are_not_offered_are_named() {
    let import = |name: &str, body: &str| {
        refusal(&format!(
            "(component (import \"{name}\" (instance {body})))"
        ))
    };
    let error = import("waypost:plugin/files@0.1.0", "(export \"open\" (func))");
    let wanted = "imports waypost:plugin/files@0.1.0, which this router does not offer";
    assert!(error.ends_with(wanted), "{error}");
    let error = import("waypost:plugin/log@0.2.0", "(export \"log\" (func))");
    let wanted =
        "imports waypost:plugin/log@0.2.0, but this router speaks waypost:plugin/log@0.1.1";
    assert!(error.ends_with(wanted), "{error}");
    let error = import("waypost:plugin/log@0.1.9", "(export \"shout\" (func))");
    let wanted = "imports waypost:plugin/log@0.1.9#shout, which this router does not offer";
    assert!(error.ends_with(wanted), "{error}");
    let error = import(
        "waypost:plugin/clock@0.1.0",
        "(export \"now-ms\" (func (result u32)))",
    );
    let wanted = "imports waypost:plugin/clock@0.1.0#now-ms with other types than the contract's";
    assert!(error.contains(wanted), "{error}");
    support::no_wasi(import);
}

#[test]
fn of_several_roles_one_must_be_named() {
    let mut spec = puppet(Role::Filter, &[]);
    spec.role = None;
    let error = engine().load(spec).expect_err("four roles").to_string();
    let wanted = "exports the roles filter, transform, route, each: name the one that is meant";
    assert!(error.contains(wanted), "{error}");
    let mut spec = PluginSpec::new("q", crate::support::stock("quake-magnitude"));
    assert_eq!(
        engine().load(spec.clone()).expect("one role").role(),
        Role::Filter
    );
    spec.role = Some(Role::Route);
    let error = engine().load(spec).expect_err("another role").to_string();
    assert!(
        error.ends_with("does not export waypost:plugin/route@0.1.1"),
        "{error}"
    );
}

#[test]
fn a_cached_plugin_loads_and_a_damaged_one_is_compiled_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = CacheOptions {
        directory: directory.path().join("cache"),
        key_file: directory.path().join("cache.key"),
    };
    let load = || {
        let options = EngineOptions {
            cache: Some(cache.clone()),
            instances_max: 2,
            ..EngineOptions::default()
        };
        let mut spec = PluginSpec::new("noop", fixture("noop"));
        spec.role = Some(Role::Filter);
        let plugin = Engine::new(options)
            .expect("an engine")
            .load(spec)
            .expect("loads");
        let mut instance = plugin.instantiate(None).expect("an instance");
        assert!(tell(&mut instance, &["x"]).expect("verdicts").all_pass());
    };
    let file = || {
        let mut files = fs::read_dir(&cache.directory).expect("a directory");
        let file = files.next().expect("one file").expect("readable").path();
        assert!(files.next().is_none(), "only one file");
        file
    };
    load();
    let compiled = fs::read(file()).expect("readable");
    load();
    assert_eq!(fs::read(file()).expect("readable"), compiled);

    let mut damaged = compiled.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    fs::write(file(), &damaged).expect("written");
    load();
    let rebuilt = fs::read(file()).expect("readable");
    assert_ne!(rebuilt, damaged, "it was written anew");
    fs::write(file(), b"").expect("written");
    load();
}

#[test]
fn the_digest_is_that_of_the_component() {
    let spec = PluginSpec::new("q", crate::support::stock("quake-magnitude"));
    let from_file = engine().load(spec).expect("loads");
    let bytes = fs::read(repository("plugins/prebuilt/quake-magnitude.wasm")).expect("readable");
    let built_in = Source::Bytes(bytes.into());
    let from_bytes = engine()
        .load(PluginSpec::new("q", built_in))
        .expect("loads");
    assert_eq!(from_file.digest(), from_bytes.digest());
    assert_eq!(from_file.digest().len(), 64);
}

#[test]
fn imports_are_listed_by_their_names() {
    let plugin = load(puppet(Role::Filter, &[]));
    let imports = plugin.imports();
    for expected in ["log.log", "clock.now-ms", "metrics.counter", "payload.read"] {
        assert!(imports.iter().any(|i| i == expected), "{imports:?}");
    }
    let spec = PluginSpec::new("q", crate::support::stock("quake-magnitude"));
    assert!(load(spec).imports().is_empty());
}
