//! The reference plugin of every language behaves as `plugins/languages/conformance` says.
//!
//! Tested is what is committed, `plugins/languages/*/prebuilt/reference.wasm`, and each component
//! in the folder that `WAYPOST_LANGUAGES` names: `plugins/languages/build` puts there what is too
//! large to be committed. Each is run by the router's own host, with the router's own limits but
//! for CPU time, which this build of the host would use up itself.

mod cases;
mod compare;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use cases::{Case, Expect};
use waypost_host::{
    CacheOptions, Effects, Engine, EngineOptions, InstanceError, MessageRef, PluginSpec, Source,
};
use waypost_languages::{committed, languages};
use waypost_wire::record::{Message, RecordRef};

/// Small enough to be committed.
const COMMITTED: &[&str] = &["c", "rust", "zig"];

/// What is shown of what fails.
const SHOWN_BYTES: usize = 8 << 10;

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let options = EngineOptions {
            cache: Some(CacheOptions {
                directory: directory.join("languages"),
                key_file: directory.join("languages.key"),
            }),
            ..EngineOptions::default()
        };
        Engine::new(options).expect("an engine")
    })
}

/// What differs from what the case says, if anything does.
fn differs(component: &Path, case: &Case) -> Option<String> {
    let mut spec = PluginSpec::new("reference", Source::File(component.to_owned()));
    spec.role = Some(case.role);
    spec.settings = case.settings.clone();
    spec.destinations = case.destinations.clone();
    spec.limits.call_cpu = Duration::from_secs(5);
    spec.limits.init_cpu = Duration::from_secs(20);
    let plugin = match engine().load(spec) {
        Ok(plugin) => plugin,
        Err(error) => return Some(format!("does not load: {error}")),
    };
    let instance = plugin.instantiate(None);
    let (sent, expected) = match &case.expect {
        Expect::Refusal { setting, message } => {
            return match instance {
                Err(InstanceError::Refused {
                    setting: found,
                    message: words,
                    ..
                }) if found == *setting && words == *message => None,
                other => Some(format!("init: {other:?}, expected {:?}", case.expect)),
            };
        }
        Expect::Verdicts { sent, expected } => (sent, expected),
    };
    let mut instance = match instance {
        Ok(instance) => instance,
        Err(error) => return Some(format!("does not start: {error}")),
    };
    let bodies: Vec<_> = sent.iter().map(Message::to_body).collect();
    let batch: Vec<_> = bodies
        .iter()
        .map(|body| MessageRef::new(RecordRef::parse(body).expect("a valid body"), 1_000))
        .collect();
    // Twice: an instance is used again, and what the first call left must not be seen.
    for _ in 0..2 {
        let verdicts = match instance.call(&batch, &mut Effects::default()) {
            Ok(verdicts) => verdicts,
            Err(error) => return Some(format!("the call failed: {error:?}")),
        };
        if verdicts.len() != expected.len() {
            return Some(format!(
                "{} verdicts, {} expected",
                verdicts.len(),
                expected.len()
            ));
        }
        let wrong =
            verdicts
                .iter()
                .zip(expected)
                .enumerate()
                .find_map(|(i, (verdict, expected))| {
                    compare::verdict(verdict, expected, &sent[i])
                        .map(|wrong| format!("message {i}: {wrong}"))
                });
        if wrong.is_some() {
            return wrong;
        }
    }
    None
}

/// All cases on one component; says which fail.
fn run(component: &Path) -> Result<usize, String> {
    let cases = cases::read(&languages().join("conformance"));
    let mut failed = String::new();
    for case in &cases {
        if let Some(wrong) = differs(component, case) {
            let _ = writeln!(failed, "{} \"{}\": {wrong}", case.place, case.name);
        }
        if failed.len() > SHOWN_BYTES {
            failed.push_str("and so on\n");
            break;
        }
    }
    match failed.is_empty() {
        true => Ok(cases.len()),
        false => Err(format!("{}:\n{failed}", component.display())),
    }
}

#[test]
fn what_is_committed_conforms() {
    for language in COMMITTED {
        match run(&committed(language)) {
            Ok(cases) => assert!(cases > 70, "{cases} cases"),
            Err(failed) => panic!("{failed}"),
        }
    }
}

#[test]
fn what_was_built_conforms() {
    let Some(folder) = std::env::var_os("WAYPOST_LANGUAGES") else {
        eprintln!("WAYPOST_LANGUAGES names no folder: only what is committed is tested");
        return;
    };
    let mut tested = 0;
    for entry in std::fs::read_dir(folder).expect("a folder with components") {
        let path = entry.expect("a folder can be read to its end").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "wasm")
        {
            match run(&path) {
                Ok(cases) => println!("{}: {cases} cases", path.display()),
                Err(failed) => panic!("{failed}"),
            }
            tested += 1;
        }
    }
    assert!(tested > 0, "WAYPOST_LANGUAGES holds no component");
}

/// The suite can fail: each expectation, exchanged for another one of its kind, is not met.
#[test]
fn a_wrong_expectation_is_not_met() {
    let cases = cases::read(&languages().join("conformance"));
    let component = committed("rust");
    let mut exchanged = 0;
    for case in cases {
        let place = case.place.clone();
        for wrong in case.mistaken() {
            assert!(
                differs(&component, &wrong).is_some(),
                "{place}: {:?}",
                wrong.expect
            );
            exchanged += 1;
        }
    }
    assert!(exchanged > 70, "{exchanged}");
}
