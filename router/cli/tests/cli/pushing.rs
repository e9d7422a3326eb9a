//! `waypost plugin push` and `pull`, with a registry of the test's own.

use std::fs;

use super::registry::{Auth, Fault, Registry};
use super::*;

/// `me:secret`
const USER: &str = "bWU6c2VjcmV0";

fn noop() -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read(root.join("tests/fixtures/plugins/noop.wasm")).expect("a component")
}

impl Home {
    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, bytes).expect("written");
        path.display().to_string()
    }
}

#[test]
fn a_component_goes_to_a_registry_and_comes_back_with_its_signature() {
    let home = Home::new();
    let registry = Registry::start();
    let component = home.put("loud.wasm", noop());
    let key = home.path().join("team").display().to_string();
    home.ok(&["plugin", "keygen", &key, "--no-password"]);
    home.ok(&["plugin", "sign", &component, "--key", &format!("{key}.key")]);
    let name = registry.name("team/loud:1.4");
    let http = ["--insecure-http", "--json"];
    let push = [&["plugin", "push", &component, &name][..], &http].concat();
    let pushed: serde_json::Value = serde_json::from_str(&home.ok(&push)).expect("JSON");
    let digest = pushed["digest"].as_str().expect("a digest").to_owned();
    assert!(
        digest.starts_with("sha256:") && pushed["signed_by"].is_string(),
        "{pushed}"
    );
    // The same again is the same artifact.
    let again: serde_json::Value = serde_json::from_str(&home.ok(&push)).expect("JSON");
    assert_eq!(again, pushed);
    registry.pin("team/loud", "1.4", &digest);
    for name in [name.clone(), registry.name(&format!("team/loud@{digest}"))] {
        let back = home.path().join("back.wasm").display().to_string();
        let pull = ["plugin", "pull", &name, "--insecure-http", "-o", &back];
        let said = home.ok(&[&pull[..], &["--key", &format!("{key}.pub"), "--force"]].concat());
        assert!(
            said.contains("pulled") && said.contains("signed by"),
            "{said}"
        );
        assert!(said.contains(&format!("@{digest}")), "{said}");
        assert_eq!(fs::read(&back).expect("written"), noop());
        assert!(fs::read(format!("{back}.minisig")).is_ok());
        let said = home.fails(&pull, 2);
        assert!(said.contains("back.wasm is there already"), "{said}");
    }
    // Another key is not enough, and then nothing is written.
    let other = home.path().join("other").display().to_string();
    home.ok(&["plugin", "keygen", &other, "--no-password"]);
    let new = home.path().join("new.wasm").display().to_string();
    let pull = ["plugin", "pull", &name, "--insecure-http", "-o", &new];
    let said = home.fails(
        &[&pull[..], &["--key", &format!("{other}.pub")]].concat(),
        1,
    );
    assert!(said.contains("which is not trusted"), "{said}");
    assert!(!Path::new(&new).exists());
    registry.inside().fault = Fault::WrongBlob;
    let said = home.fails(&pull, 1);
    assert!(said.contains("the bytes have sha256:"), "{said}");
    assert!(!Path::new(&new).exists());
}

#[test]
fn credentials_come_from_where_a_login_or_the_environment_left_them() {
    let home = Home::new();
    let registry = Registry::start();
    registry.inside().auth = Auth::Token(USER);
    let component = home.put("p.wasm", noop());
    let name = registry.name("p:1");
    let push = ["plugin", "push", &component, &name, "--insecure-http"];
    let said = home.fails(&push, 1);
    assert!(
        said.contains("refuses that to one who says nothing of himself"),
        "{said}"
    );
    let said = home.fails(&[&push[..], &["--user", "me"]].concat(), 2);
    assert!(said.contains("WAYPOST_REGISTRY_PASSWORD"), "{said}");
    let right = home.put("password", "secret\n");
    home.ok(&[&push[..], &["--user", "me", "--password-file", &right]].concat());
    let with = |variables: &[(&str, &str)]| {
        let mut command = home.command(&push);
        command.envs(variables.iter().copied());
        command.output().expect("waypost runs")
    };
    let output = with(&[
        ("WAYPOST_REGISTRY_USER", "me"),
        ("WAYPOST_REGISTRY_PASSWORD", "secret"),
    ]);
    assert!(output.status.success(), "{output:?}");
    let output = with(&[("WAYPOST_REGISTRY_TOKEN", "good")]);
    assert!(output.status.success(), "{output:?}");
    let output = with(&[("WAYPOST_REGISTRY_TOKEN", "hidden")]);
    assert!(
        !output.status.success() && !text(&output.stderr).contains("hidden"),
        "{output:?}"
    );
    let login = format!(
        r#"{{"auths":{{"{}":{{"auth":"{USER}"}}}}}}"#,
        registry.address
    );
    home.put(".docker/config.json", &login);
    home.ok(&push);
    let helped = format!(r#"{{"credHelpers":{{"{}":"desktop"}}}}"#, registry.address);
    home.put(".docker/config.json", helped);
    let said = home.fails(&push, 1);
    assert!(said.contains("docker-credential-desktop"), "{said}");
    let elsewhere = home.put("login.json", &login);
    home.ok(&[&push[..], &["--docker-config", &elsewhere]].concat());
}

#[test]
fn mistakes_with_a_registry() {
    let home = Home::new();
    let registry = Registry::start();
    let component = home.put("p.wasm", noop());
    let text = home.put("text.wasm", "no component");
    let name = registry.name("p:1");
    let pinned = registry.name(&format!("p@sha256:{}", "0".repeat(64)));
    for (args, code, want) in [
        (
            &["plugin", "push", &component, "p:1"][..],
            2,
            "names no registry",
        ),
        (
            &["plugin", "push", &component, &registry.name("p")],
            2,
            "names no version",
        ),
        (
            &["plugin", "push", &text, &name, "--insecure-http"],
            1,
            "is not a component",
        ),
        (
            &["plugin", "push", &component, &pinned, "--insecure-http"],
            1,
            "a tag is needed",
        ),
        (
            &["plugin", "pull", &name, "--insecure-http"],
            1,
            "manifest 1: there is none",
        ),
        (
            &["plugin", "pull", "localhost:1/p:1", "--insecure-http"],
            1,
            "localhost:1/p:1: manifest 1",
        ),
        (
            &["plugin", "pull", &name, "--registry-ca", &text],
            1,
            "no certificate in the file",
        ),
    ] {
        let said = home.fails(args, code);
        assert!(said.contains(want), "{args:?}: {said}");
    }
}
