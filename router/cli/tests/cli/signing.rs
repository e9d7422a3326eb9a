//! `waypost plugin keygen` and `sign`, and what `verify` says of their work.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn path(home: &Home, name: &str) -> String {
    home.path().join(name).display().to_string()
}

/// `team.key`, `team.pub` and a file to sign.
fn with_key(home: &Home) -> [String; 3] {
    let name = path(home, "team");
    home.ok(&["plugin", "keygen", &name, "--no-password"]);
    let component = path(home, "c.wasm");
    fs::copy(repository("tests/fixtures/plugins/noop.wasm"), &component).expect("a component");
    [format!("{name}.key"), format!("{name}.pub"), component]
}

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

fn repository(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(file)
}

#[test]
fn keys_are_made_once_and_the_secret_one_is_the_users_alone() {
    let home = Home::new();
    let name = path(&home, "team");
    let said = home.ok(&["plugin", "keygen", &name, "--no-password"]);
    assert!(said.contains("trusted_keys = [\"RW"), "{said}");
    let mode = |name: &str| {
        let about = fs::metadata(path(&home, name)).expect("written");
        about.permissions().mode() & 0o777
    };
    assert_eq!(mode("team.key"), 0o600);
    assert_eq!(mode("team.pub") & 0o444, 0o444);
    let said = home.fails(&["plugin", "keygen", &name, "--no-password"], 2);
    assert!(said.contains("team.key is there already"), "{said}");
    let said = home.fails(&["plugin", "keygen", &path(&home, "other")], 2);
    assert!(
        said.contains("say --password-file, or --no-password"),
        "{said}"
    );
    assert!(!home.path().join("other.key").exists());
}

#[test]
fn a_key_with_a_password_signs_with_it_alone() {
    let home = Home::new();
    let name = path(&home, "team");
    let (right, wrong) = (path(&home, "right"), path(&home, "wrong"));
    fs::write(&right, "open sesame\nand more\n").expect("written");
    fs::write(&wrong, "open barley\n").expect("written");
    home.ok(&["plugin", "keygen", &name, "--password-file", &right]);
    let key = format!("{name}.key");
    let file = path(&home, "c.wasm");
    fs::write(&file, "anything").expect("written");
    let sign = ["plugin", "sign", &file, "--key", &key];
    let said = home.fails(&sign, 2);
    assert!(said.contains("nobody is there to be asked"), "{said}");
    let said = home.fails(&[&sign[..], &["--password-file", &wrong]].concat(), 1);
    assert!(said.contains("has another password"), "{said}");
    let said = home.ok(&[&sign[..], &["--password-file", &right, "--json"]].concat());
    assert!(said.contains("c.wasm.minisig"), "{said}");
    for (file, expected) in [
        (path(&home, "team.pub"), "is no secret key of minisign"),
        (path(&home, "none"), "none"),
        (right, "is no secret key of minisign"),
    ] {
        let said = home.fails(&["plugin", "sign", sign[2], "--key", &file], 1);
        assert!(said.contains(expected), "{said}");
    }
}

#[cfg(feature = "node")]
#[test]
fn verify_says_who_signed() {
    let home = Home::new();
    let [key, public, component] = with_key(&home);
    let verify = |more: &[&str]| -> Vec<String> {
        let args = ["plugin", "verify", &component, "--role", "filter"];
        let args = args.iter().chain(more);
        args.map(|arg| (*arg).to_owned()).collect()
    };
    let said = home.ok(&strs(&verify(&[])));
    assert!(said.contains("signed       no"), "{said}");
    let said = home.fails(&strs(&verify(&["--key", &public])), 1);
    assert!(
        said.contains("is not signed: expected a signature by the key"),
        "{said}"
    );
    home.ok(&[
        "plugin",
        "sign",
        &component,
        "--key",
        &key,
        "--comment",
        "build 7\nnot two",
    ]);
    let said = home.ok(&strs(&verify(&[])));
    assert!(
        said.contains("not checked without --key: build 7 not two"),
        "{said}"
    );
    let said = home.ok(&strs(&verify(&["--key", &public])));
    assert!(said.contains("signed       by the key "), "{said}");
    assert!(said.contains("contract     0.1."), "{said}");
    assert!(said.contains("waypost:plugin/filter@0.1."), "{said}");
    let line = fs::read_to_string(&public).expect("a key");
    let line = line.lines().nth(1).expect("its line");
    let json: serde_json::Value =
        serde_json::from_str(&home.ok(&strs(&verify(&["--key", line, "--json"])))).expect("JSON");
    assert_eq!(json["signature"]["checked"], true);
    // Another key, other bytes, nonsense.
    home.ok(&["plugin", "keygen", &path(&home, "other"), "--no-password"]);
    let said = home.fails(&strs(&verify(&["--key", &path(&home, "other.pub")])), 1);
    assert!(said.contains("which is not trusted"), "{said}");
    home.ok(&strs(&verify(&[
        "--key",
        &path(&home, "other.pub"),
        "--key",
        &public,
    ])));
    let said = home.fails(&strs(&verify(&["--key", "RWnonsense"])), 2);
    assert!(
        said.contains("begins as a minisign public key does"),
        "{said}"
    );
    let mut bytes = fs::read(&component).expect("a component");
    bytes.extend([0, 2, 1, b'v']);
    fs::write(&component, bytes).expect("written");
    let said = home.fails(&strs(&verify(&["--key", &public])), 1);
    assert!(said.contains("is not what the trusted key"), "{said}");
}
