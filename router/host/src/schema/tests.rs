use super::*;

const SCHEMA: &str = r#"{
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "window": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$", "default": "1m"},
        "min": {"type": "number", "minimum": 0, "exclusiveMaximum": 10.5, "description": "x"},
        "count": {"type": "integer", "minimum": 1},
        "mode": {"enum": ["first", "last", 3]},
        "strict": {"type": "boolean"},
        "name": {"minLength": 2, "maxLength": 4},
        "loose": {"maximum": 7},
        "any": true
    },
    "patternProperties": {"^rule-": {"type": "string", "minLength": 1}},
    "required": ["window"],
    "additionalProperties": false
}"#;

fn check(settings: &[(&str, &str)]) -> String {
    let schema = SettingsSchema::parse(SCHEMA).expect("a schema");
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    match schema.check(&settings) {
        Ok(()) => "fits".into(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_fits_passes() {
    let window = ("window", "10s");
    for setting in [
        ("min", "0"),
        ("min", "1e1"),
        ("count", "3"),
        ("count", "3.0"),
        ("mode", "last"),
        ("mode", "3"),
        ("strict", "false"),
        ("name", "äöüß"),
        ("loose", "-7.5"),
        ("any", ""),
        ("rule-1", "x"),
    ] {
        assert_eq!(check(&[window, setting]), "fits", "{setting:?}");
    }
}

#[test]
fn errors_name_the_setting_and_what_was_expected() {
    let text = "a text, that matches ^[0-9]+(ms|s|m|h)$";
    for (setting, wanted) in [
        (("window", "1 m"), format!("setting 'window': '1 m', expected {text}")),
        (("min", "abc"), "setting 'min': 'abc', expected a number, at least 0, less than 10.5".into()),
        (("min", "10.5"), "setting 'min': '10.5', expected a number, at least 0, less than 10.5".into()),
        (("min", "inf"), "setting 'min': 'inf', expected a number, at least 0, less than 10.5".into()),
        (("count", "1.5"), "setting 'count': '1.5', expected a whole number, at least 1".into()),
        (("mode", "middle"), "setting 'mode': 'middle', expected one of first, last, 3".into()),
        (("strict", "yes"), "setting 'strict': 'yes', expected true or false".into()),
        (("loose", "x"), "setting 'loose': 'x', expected a number, at most 7".into()),
        (
            ("name", "a"),
            "setting 'name': 'a', expected a text, of at least 2 characters, of at most 4 characters".into(),
        ),
        (
            ("rule-1", ""),
            "setting 'rule-1': '', expected a text, of at least 1 characters".into(),
        ),
    ] {
        assert_eq!(check(&[("window", "1s"), setting][usize::from(setting.0 == "window")..]), wanted);
    }
    assert_eq!(
        check(&[]),
        format!("setting 'window' is missing, expected {text}")
    );
    let error = check(&[("window", "1s"), ("windw", "2s")]);
    assert!(
        error.starts_with("setting 'windw' is unknown, expected one of any, count,"),
        "{error}"
    );
    assert!(error.ends_with("names like ^rule-"), "{error}");
}

#[test]
fn others_may_have_a_schema_of_their_own() {
    let schema = r#"{"additionalProperties": {"type": "integer"}}"#;
    let schema = SettingsSchema::parse(schema).expect("a schema");
    let settings = |value: &str| [("x".to_owned(), value.to_owned())];
    assert_eq!(schema.check(&settings("7")), Ok(()));
    assert!(schema.check(&settings("seven")).is_err());
}

#[test]
fn a_secret_is_told_to_nobody() {
    let schema = r#"{
        "properties": {"key": {"writeOnly": true, "minLength": 4}, "open": {"maxLength": 3}},
        "patternProperties": {"^token": {"writeOnly": true}},
        "additionalProperties": {"writeOnly": true}
    }"#;
    let schema = SettingsSchema::parse(schema).expect("a schema");
    for (name, is_secret) in [
        ("key", true),
        ("token.1", true),
        ("open", false),
        ("x", true),
    ] {
        assert_eq!(schema.is_secret(name), is_secret, "{name}");
    }
    let error = |name: &str, value: &str| {
        let found = schema.check(&[(name.to_owned(), value.to_owned())]);
        found.expect_err(name).to_string()
    };
    assert_eq!(
        error("key", "abc"),
        "setting 'key': '(secret)', expected a text, of at least 4 characters"
    );
    assert!(error("open", "abcd").contains("'abcd'"));
}

#[test]
fn a_schema_that_cannot_be_kept_is_refused_where_it_is_wrong() {
    for (schema, wanted) in [
        ("", "it is not JSON: EOF"),
        ("[]", "/: not an object"),
        (
            r#"{"type": "array"}"#,
            r#"/type: "array", expected "object""#,
        ),
        (
            r#"{"oneOf": []}"#,
            "/oneOf: a keyword that settings cannot be checked by",
        ),
        (
            r#"{"properties": {"a": {"$ref": "x"}}}"#,
            "/properties/a/$ref: a keyword that a setting cannot be checked by",
        ),
        (
            r#"{"properties": {"a": {"type": "null"}}}"#,
            "/properties/a/type: \"null\", expected",
        ),
        (
            r#"{"properties": {"a": {"type": ["string"]}}}"#,
            "/properties/a/type: [\"string\"], expected",
        ),
        (
            r#"{"properties": {"a": {"pattern": "("}}}"#,
            "/properties/a/pattern: the pattern '(' cannot be used",
        ),
        (
            r#"{"properties": {"a": {"pattern": "((a{99}){99}){99}"}}}"#,
            "/properties/a/pattern: the pattern '((a{99}){99}){99}' cannot be used",
        ),
        (
            r#"{"properties": {"a": {"minimum": "1"}}}"#,
            "/properties/a/minimum: \"1\", expected a number",
        ),
        (
            r#"{"properties": {"a": {"enum": []}}}"#,
            "/properties/a/enum: [], expected a list",
        ),
        (
            r#"{"required": [1]}"#,
            "/required: [1], expected a list of names",
        ),
    ] {
        let error = SettingsSchema::parse(schema).expect_err(schema);
        assert!(error.starts_with(wanted), "{schema}: {error}");
    }
    let deep = "[".repeat(100_000);
    assert!(SettingsSchema::parse(&deep).is_err(), "no stack overflow");
    let long = format!("{}{}", "{}", " ".repeat(256 << 10));
    assert!(SettingsSchema::parse(&long).is_err());
}
