use super::*;
use waypost_plugin::PayloadInterest;
use waypost_plugin::testing::{self, Input};

const TABLE: &str = "sensor,site,floor\ns-1,Ulm,2\ns-2,Bonn,\n";
const BASE: [(&str, &str); 2] = [("match", "{$.sensor}"), ("table", TABLE)];

fn enriched(more: &[(&str, &str)], payload: &str) -> Outcome {
    let (mut enrich, interest) =
        testing::init::<Enrich>(&[&BASE[..], more].concat()).expect("it starts");
    let batch = testing::batch(&interest, [Input::new("t", payload)]);
    enrich.transform(&batch.get(0).expect("a message"))
}

fn payload(outcome: Outcome) -> String {
    match outcome {
        Outcome::Edit(edit) => String::from_utf8(edit.payload.expect("a payload")).expect("UTF-8"),
        Outcome::DeadLetter(reason) => panic!("{reason}"),
        _ => panic!("not edited"),
    }
}

#[test]
fn members_are_added_and_replaced() {
    let text = r#"{ "sensor": "s-1", "site": "?", "t": 1.50 }"#;
    assert_eq!(
        payload(enriched(&[], text)),
        r#"{ "sensor": "s-1", "site": "Ulm", "t": 1.50 ,"floor":2}"#
    );
    let into = [("into", "place")];
    assert_eq!(
        payload(enriched(&into, r#"{"sensor":"s-2"}"#)),
        r#"{"sensor":"s-2","place":{"site":"Bonn","floor":null}}"#
    );
    let one = [("columns", "site")];
    assert_eq!(
        payload(enriched(&one, r#"{"sensor":"s-2"}"#)),
        r#"{"sensor":"s-2","site":"Bonn"}"#
    );
}

#[test]
fn headers_alone_need_no_payload() {
    let settings = [
        ("match", "{topic[1]}"),
        ("table", TABLE),
        ("headers.floor", "floor"),
    ];
    let (mut enrich, interest) = testing::init::<Enrich>(&settings).expect("it starts");
    assert!(matches!(interest.payload, PayloadInterest::Nothing));
    let batch = testing::batch(&interest, [Input::new("plant/s-1/t", "x")]);
    let Outcome::Edit(edit) = enrich.transform(&batch.get(0).expect("a message")) else {
        panic!("not edited")
    };
    assert_eq!(edit.set_headers, [("floor".to_owned(), b"2".to_vec())]);
    assert_eq!(edit.payload, None);
}

#[test]
fn what_is_not_in_the_table() {
    let text = r#"{"sensor":"s-9"}"#;
    assert!(matches!(enriched(&[], text), Outcome::Pass));
    let Outcome::Reject(reason) = enriched(&[("on-missing", "reject")], text) else {
        panic!("unknown")
    };
    assert_eq!(reason, "the table has no 's-9'");
    assert!(matches!(
        enriched(&[("on-missing", "drop")], "{}"),
        Outcome::Drop(Some(_))
    ));
    assert!(matches!(enriched(&[], "x"), Outcome::DeadLetter(_)));
}

#[test]
fn wrong_settings_are_named() {
    for (settings, setting, word) in [
        (&[("match", "{$.a}")][..], "table", "is missing"),
        (&[("match", "a"), ("table", "a\n")], "match", "in braces"),
        (
            &[("match", "{a}"), ("table", "a\n")],
            "match",
            "begins with none",
        ),
        (
            &[("match", "{key}"), ("table", "a,b\n1\n")],
            "table",
            "line 2",
        ),
        (
            &[("match", "{key}"), ("table", "a,b\n"), ("columns.0", "c")],
            "columns.0",
            "a, b",
        ),
        (
            &[("match", "{key}"), ("table", "a,b\n"), ("headers.x", "c")],
            "headers.x",
            "a, b",
        ),
        (
            &[("match", "{key}"), ("table", "a\n"), ("file", "c")],
            "file",
            "is unknown",
        ),
    ] {
        let Err(error) = testing::init::<Enrich>(settings) else {
            panic!("{settings:?} is taken")
        };
        assert_eq!(error.setting.as_deref(), Some(setting));
        assert!(error.message.contains(word), "{}", error.message);
    }
}
