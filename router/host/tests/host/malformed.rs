//! Guests that break the binary interface itself: pointers outside their memory, tags that do not
//! exist, text that is not text. No compiler writes such a guest, so these are written by hand.

use waypost_host::{CallErrorKind, PluginSpec, Source};

use crate::support::{engine, tell};
use crate::written::Written;

/// A filter whose answer is the bytes at 256 of its memory, and which gives `allocated` as the
/// place for its arguments. `data` has escapes as the text format has them.
fn filter(data: &[(u32, &str)], allocated: i32) -> Vec<u8> {
    let data: String = data
        .iter()
        .map(|(at, bytes)| format!("(data (i32.const {at}) \"{bytes}\")"))
        .collect();
    let written = Written {
        realloc: &format!("i32.const {allocated}"),
        items: &data,
        ..Written::default()
    };
    written.component()
}

fn load(component: Vec<u8>) -> waypost_host::Plugin {
    let source = Source::Bytes(component.into());
    engine()
        .load(PluginSpec::new("malformed", source))
        .expect("loads")
}

#[test]
fn answers_that_break_the_binary_interface_cost_the_call() {
    // Tag of the result, list of decisions, list of reasons; little endian.
    for (what, data) in [
        ("a tag that no result has", vec![(256, r"\07")]),
        (
            "a list that ends outside",
            vec![(260, r"\f0\ff\00\00\20\00\00\00")],
        ),
        (
            "a list that wraps around",
            vec![(260, r"\f0\ff\ff\ff\20\00\00\00")],
        ),
        (
            "a list without end",
            vec![(260, r"\00\04\00\00\ff\ff\ff\ff")],
        ),
        (
            "a decision that there is not",
            vec![(260, r"\00\04\00\00\01\00\00\00"), (1024, r"\05")],
        ),
        (
            "a list that is not aligned",
            vec![(260, r"\00\04\00\00\01\00\00\00\01\04\00\00\01\00\00\00")],
        ),
        (
            "a message that is not UTF-8",
            vec![
                (256, r"\01"),
                (264, r"\00\04\00\00\02\00\00\00"),
                (1024, r"\ff\fe"),
            ],
        ),
    ] {
        let mut instance = load(filter(&data, 4096))
            .instantiate(None)
            .expect("an instance");
        let error = tell(&mut instance, &["x"]).expect_err(what);
        assert_eq!(
            (error.kind, error.instance_lost),
            (CallErrorKind::Output, true),
            "{what}: {error}"
        );
        assert!(instance.is_lost(), "{what}");
    }
}

#[test]
fn a_right_answer_from_the_same_guest_is_taken() {
    let data = [(260, r"\00\04\00\00\01\00\00\00"), (1024, r"\00")];
    let mut instance = load(filter(&data, 4096))
        .instantiate(None)
        .expect("an instance");
    assert!(tell(&mut instance, &["x"]).expect("verdicts").all_pass());
}

#[test]
fn an_allocator_that_points_outside_costs_the_instance() {
    for outside in [65_536, 65_535, -16, 4097] {
        let error = load(filter(&[], outside))
            .instantiate(None)
            .expect_err("no place for settings");
        assert!(
            error.to_string().contains("fails in init: bad output"),
            "{outside}: {error}"
        );
    }
}
