//! Components from a registry: one that is well, one that fails or lies, one that is away.

use std::sync::Arc;
use std::time::Duration;

use waypost_client::Client;
use waypost_supply::{
    Credentials, Reference, Registry as Asking, RegistryError, RegistryOptions, SecretKey,
    TrustedKeys, sha256,
};

use crate::harness::{self, Setup, messages, publish_all, repository};
use crate::registry::{Auth, Fault, Registry};

const CREATED: &str = "2026-01-01T00:00:00Z";
/// `me:secret`
const USER: &str = "bWU6c2VjcmV0";
const BYTES_MAX: u64 = 1 << 20;

/// A component; those with different numbers have different digests.
fn component(number: u8) -> Vec<u8> {
    let mut bytes = std::fs::read(repository("tests/fixtures/plugins/noop.wasm")).unwrap();
    bytes.extend([0, 3, 1, b'v', number]);
    bytes
}

fn plain() -> RegistryOptions {
    RegistryOptions {
        insecure_http: true,
        ..RegistryOptions::default()
    }
}

fn asking(name: &str, options: &RegistryOptions) -> Asking {
    Asking::of(&Reference::parse(name).unwrap(), options, BYTES_MAX).unwrap()
}

/// Gives the manifest's digest.
fn push(registry: &Registry, number: u8, signature: Option<&str>) -> String {
    let asking = asking(&registry.name("team/p:1"), &plain());
    asking.push(&component(number), signature, CREATED).unwrap()
}

fn pull(name: &str, options: &RegistryOptions) -> Result<Vec<u8>, RegistryError> {
    let asking = asking(name, options);
    let found = asking.find()?;
    asking.component(&found)
}

#[test]
fn what_was_pushed_is_pulled_by_whoever_may() {
    for (auth, credentials) in [
        (Auth::None, Credentials::None),
        (Auth::Basic(USER), me("secret")),
        (Auth::Token(USER), me("secret")),
        (Auth::Token(USER), Credentials::Token("good".to_owned())),
    ] {
        let registry = Registry::start();
        registry.inside().auth = auth.clone();
        let options = RegistryOptions {
            credentials,
            ..plain()
        };
        let name = registry.name("team/p:1");
        let component = component(1);
        let digest = asking(&name, &options).push(&component, Some("s"), CREATED);
        let digest = digest.unwrap();
        let asking = asking(&name, &options);
        let found = asking.find().unwrap();
        assert_eq!(found.manifest, digest, "{auth:?}");
        assert_eq!(found.component, sha256(&component));
        assert_eq!(found.signature.as_deref(), Some("s"));
        assert_eq!(asking.component(&found).unwrap(), component);
        // Once more: nothing is sent again but the manifest.
        let before = registry.count("POST", "/blobs/uploads/");
        let again = crate::pulls::asking(&name, &options);
        assert_eq!(again.push(&component, Some("s"), CREATED).unwrap(), digest);
        assert_eq!(registry.count("POST", "/blobs/uploads/"), before);
        // A redirect to a store of blobs carries no credentials: the registry looks.
        registry.inside().fault = Fault::Redirect;
        assert_eq!(pull(&name, &options).unwrap(), component);
    }
}

fn me(password: &str) -> Credentials {
    Credentials::Basic {
        user: "me".to_owned(),
        password: password.to_owned(),
    }
}

#[test]
fn a_registry_that_fails_or_lies_is_told_from_one_that_does_not() {
    let registry = Registry::start();
    let digest = push(&registry, 1, None);
    registry.pin("team/p", "1", &digest);
    let tag = registry.name("team/p:1");
    let pinned = registry.name(&format!("team/p@{digest}"));
    let options = RegistryOptions {
        timeout: Duration::from_secs(5),
        ..plain()
    };
    let length = component(1).len();
    for (fault, name, want, is_retryable) in [
        (
            Fault::WrongBlob,
            &tag,
            ": the bytes have sha256:".to_owned(),
            false,
        ),
        (
            Fault::WrongManifest,
            &pinned,
            format!(", expected {digest}"),
            false,
        ),
        (
            Fault::Truncated,
            &tag,
            format!("bytes came, expected {length}"),
            true,
        ),
        (
            Fault::Endless,
            &tag,
            format!("{} bytes came, expected {length}", length + 1),
            true,
        ),
        (
            Fault::EndlessManifest,
            &tag,
            "the answer has more than 262144 bytes".into(),
            false,
        ),
        (
            Fault::Status(500),
            &tag,
            "manifest 1: the registry answered 500: as the test wants it".into(),
            true,
        ),
        (Fault::Status(429), &tag, "answered 429".into(), true),
        (
            Fault::Status(404),
            &tag,
            "manifest 1: there is none: as the test".into(),
            false,
        ),
        (
            Fault::Status(403),
            &tag,
            "refuses that to one who says nothing of himself".into(),
            false,
        ),
        (Fault::Status(204), &tag, "answered 204".into(), false),
    ] {
        registry.inside().fault = fault;
        let error = pull(name, &options).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(name.as_str()) && text.contains(&want),
            "{fault:?}: {text}"
        );
        assert_eq!(error.kind.is_retryable(), is_retryable, "{fault:?}: {text}");
    }
    // One that says nothing costs no more than the time that was given.
    registry.inside().fault = Fault::Silent;
    let short = RegistryOptions {
        timeout: Duration::from_millis(300),
        ..plain()
    };
    let error = pull(&tag, &short).unwrap_err();
    assert!(
        error.to_string().contains("not done within 0.3 s"),
        "{error}"
    );
    assert!(error.kind.is_retryable());
    // And it is well again.
    registry.inside().fault = Fault::None;
    assert_eq!(pull(&pinned, &options).unwrap(), component(1));
}

#[test]
fn whoever_may_not_is_told_so() {
    let registry = Registry::start();
    push(&registry, 1, None);
    let name = registry.name("team/p:1");
    for auth in [Auth::Basic(USER), Auth::Token(USER)] {
        registry.inside().auth = auth.clone();
        for (credentials, want) in [
            (me("wrong"), "the user \"me\""),
            (Credentials::None, "one who says nothing of himself"),
            (Credentials::Token("bad".into()), "the holder of this token"),
        ] {
            let options = RegistryOptions {
                credentials,
                ..plain()
            };
            let error = pull(&name, &options).unwrap_err().to_string();
            assert!(
                error.contains(&format!("refuses that to {want}")),
                "{auth:?}: {error}"
            );
            assert!(
                !error.contains("wrong") && !error.contains("bad"),
                "{error}"
            );
        }
    }
    let error = pull(
        &registry.name("team/none:1"),
        &RegistryOptions {
            credentials: me("secret"),
            ..plain()
        },
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("manifest 1: there is none")
    );
    // Nobody there.
    let address = registry.address;
    drop(registry);
    let error = pull(&format!("{address}/team/p:1"), &plain()).unwrap_err();
    assert!(error.kind.is_retryable(), "{error}");
}

#[test]
fn tls_needs_somebody_who_vouches_for_the_registry() {
    let home = tempfile::TempDir::new().unwrap();
    let files = waypost_node::tls::make(home.path()).unwrap();
    let config = waypost_node::tls::server_config(&files.node, &[b"http/1.1"]).unwrap();
    let config = Arc::new(config);
    let registry = Registry::start_with(
        Arc::new(move |stream| {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            Box::new(rustls::StreamOwned::new(connection, stream))
        }),
        "https",
    );
    registry.inside().auth = Auth::Token(USER);
    let name = registry.name("team/p:1");
    let trusting = RegistryOptions {
        ca: Some(std::fs::read(home.path().join("ca.pem")).unwrap()),
        credentials: me("secret"),
        ..RegistryOptions::default()
    };
    let component = component(1);
    asking(&name, &trusting)
        .push(&component, None, CREATED)
        .unwrap();
    assert_eq!(pull(&name, &trusting).unwrap(), component);
    // Nobody vouches for it; or it is asked without TLS.
    let other = waypost_node::tls::make(&home.path().join("other")).unwrap();
    drop(other);
    let stranger = RegistryOptions {
        ca: Some(std::fs::read(home.path().join("other/ca.pem")).unwrap()),
        ..RegistryOptions::default()
    };
    let error = pull(&name, &stranger).unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    assert!(pull(&name, &plain()).is_err());
    let empty = RegistryOptions {
        ca: Some(b"no certificate".to_vec()),
        ..RegistryOptions::default()
    };
    let reference = Reference::parse(&name).unwrap();
    let error = Asking::of(&reference, &empty, BYTES_MAX)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no certificate in the file"), "{error}");
}

/// A node whose route goes through `name` of the registry.
fn with_plugin(registry: &Registry, name: &str) -> Setup {
    Setup::new(&format!(
        "[plugins]\npull_timeout = \"2s\"\n\
         [[registry]]\nhost = \"{}\"\ninsecure_http = true\n\
         [[plugin]]\nname = \"p\"\noci = \"{}\"\nrole = \"filter\"\n\
         [[queue]]\nname = \"q\"\n\
         [[route]]\nname = \"r\"\nfrom = \"in/#\"\nthrough = [\"p\"]\nto = [\"queue:q\"]\n",
        registry.address,
        registry.name(name),
    ))
}

/// Status and digest of the plugin.
async fn plugin(client: &Client) -> (String, String) {
    let detail = client.plugins().info("p").await.unwrap();
    let state = detail.state.unwrap();
    (state.status, state.digest)
}

fn hex(number: u8) -> String {
    sha256(&component(number))
        .trim_start_matches("sha256:")
        .to_owned()
}

#[test]
fn a_node_pulls_by_tag_and_starts_without_the_registry() {
    harness::run(async {
        let registry = Registry::start();
        push(&registry, 1, None);
        let node = with_plugin(&registry, "team/p:1").start().await;
        let client = node.client().await;
        assert_eq!(plugin(&client).await, ("ready".to_owned(), hex(1)));
        publish_all(&client, &messages("in/x", 3)).await;
        // The tag moves; a start sees it. What it was before is not thrown away for another name.
        push(&registry, 2, None);
        let node = node.restart().await;
        let client = node.client().await;
        assert_eq!(plugin(&client).await, ("ready".to_owned(), hex(2)));
        // The registry says nothing, fails, lies, is gone: what the tag meant runs.
        let mut node = node;
        for fault in [Fault::Silent, Fault::Status(503), Fault::WrongManifest] {
            registry.inside().fault = fault;
            if fault == Fault::WrongManifest {
                push_other_blob(&registry);
            }
            node = node.restart().await;
            let client = node.client().await;
            assert_eq!(
                plugin(&client).await,
                ("ready".to_owned(), hex(2)),
                "{fault:?}"
            );
            publish_all(&client, &messages("in/x", 1)).await;
        }
        drop(registry);
        let node = node.restart().await;
        let client = node.client().await;
        assert_eq!(plugin(&client).await, ("ready".to_owned(), hex(2)));
        assert!(node.running.alarms().is_empty());
        // A deploy makes the node look for components that nobody needs: this one is not among them.
        let blob = format!("plugins/blobs/sha256-{}.wasm", hex(2));
        assert!(node.setup.data_dir().join(blob).exists());
        node.stop().await;
    });
}

/// A manifest whose blob has other bytes than it says.
fn push_other_blob(registry: &Registry) {
    registry.inside().fault = Fault::None;
    push(registry, 3, None);
    let digest = sha256(&component(3));
    let mut inside = registry.inside();
    inside.blobs.insert(digest, component(4));
}

#[test]
fn a_signature_that_was_lost_is_fetched_again() {
    harness::run(async {
        let secret = SecretKey::generate().unwrap();
        let signature = secret.sign(&component(1), "").unwrap();
        let registry = Registry::start();
        let digest = push(&registry, 1, Some(signature.as_str()));
        registry.pin("team/p", "1", &digest);
        let keys = TrustedKeys::new(vec![secret.public().unwrap()]);
        let setup = with_plugin(&registry, &format!("team/p@{digest}"));
        let setup = setup.change(|config| config.supply.trusted_keys = keys);
        let node = setup.start().await;
        assert_eq!(plugin(&node.client().await).await.0, "ready");
        let (setup, _) = node.stop().await;
        let blobs = std::fs::read_dir(setup.data_dir().join("plugins/blobs")).unwrap();
        let paths = blobs.map(|entry| entry.unwrap().path());
        let is_signature = |path: &std::path::PathBuf| path.extension().unwrap() == "minisig";
        let lost: Vec<_> = paths.filter(is_signature).collect();
        assert_eq!(lost.len(), 1);
        std::fs::remove_file(&lost[0]).unwrap();
        let node = setup.start().await;
        assert_eq!(plugin(&node.client().await).await.0, "ready");
        node.stop().await;
    });
}

#[test]
fn what_is_named_by_its_digest_is_asked_for_once() {
    harness::run(async {
        let registry = Registry::start();
        let digest = push(&registry, 1, None);
        registry.pin("team/p", "1", &digest);
        let node = with_plugin(&registry, &format!("team/p@{digest}"))
            .start()
            .await;
        let client = node.client().await;
        assert_eq!(plugin(&client).await, ("ready".to_owned(), hex(1)));
        let asked = registry.inside().asked.len();
        let node = node.restart().await;
        let client = node.client().await;
        assert_eq!(plugin(&client).await, ("ready".to_owned(), hex(1)));
        assert_eq!(
            registry.inside().asked.len(),
            asked,
            "nothing is asked again"
        );
        // Rot on this disk: the registry has it still.
        let (setup, _) = node.stop().await;
        let path = format!("plugins/blobs/sha256-{}.wasm", hex(1));
        let path = setup.data_dir().join(path);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[500] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        std::fs::write(setup.data_dir().join("plugins/pulled.json"), "{}").unwrap();
        let node = setup.start().await;
        let client = node.client().await;
        assert_eq!(plugin(&client).await, ("ready".to_owned(), hex(1)));
        let aside = node.setup.data_dir().join("plugins/pulled.json.damaged");
        assert!(aside.exists(), "what cannot be read is set aside");
        node.stop().await;
    });
}

#[test]
fn what_did_not_come_at_the_start_comes_later_by_itself() {
    harness::run(async {
        let registry = Registry::start();
        push(&registry, 1, None);
        registry.inside().fault = Fault::Status(500);
        let node = with_plugin(&registry, "team/p:1").start().await;
        let client = node.client().await;
        let (status, _) = plugin(&client).await;
        assert!(
            status.starts_with("down: ") && status.contains("answered 500"),
            "{status}"
        );
        let alarms = node.running.alarms();
        assert!(
            alarms.len() == 1 && alarms[0].contains("answered 500"),
            "{alarms:?}"
        );
        registry.inside().fault = Fault::None;
        while plugin(&client).await.0 != "ready" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(node.running.alarms().is_empty());
        publish_all(&client, &messages("in/x", 2)).await;
        node.stop().await;
    });
}

#[test]
fn what_is_pulled_must_be_signed_as_all_else() {
    harness::run(async {
        let secret = SecretKey::generate().unwrap();
        let key = secret.public().unwrap();
        let sign = |number: u8| {
            let signature = secret.sign(&component(number), "").unwrap();
            signature.as_str().to_owned()
        };
        let registry = Registry::start();
        push(&registry, 1, None);
        let keys = TrustedKeys::new(vec![key.clone()]);
        let setup = with_plugin(&registry, "team/p:1");
        let setup = setup.change(|config| config.supply.trusted_keys = keys);
        let mut node = setup.start().await;
        for (number, signature, want) in [
            (1, None, "is not signed: expected a signature by the key"),
            (1, Some(sign(2)), "is not what the trusted key"),
            (
                3,
                Some("nonsense".to_owned()),
                "its signature as sent has 1 lines",
            ),
            (4, Some(sign(4)), "ready"),
        ] {
            push(&registry, number, signature.as_deref());
            node = node.restart().await;
            let client = node.client().await;
            let (status, _) = plugin(&client).await;
            // A signature that is none is as a registry that fails: what was there runs, or not.
            let is_it = status.contains(want) || (number == 3 && status.contains("trusted key"));
            assert!(is_it, "{number}: {status}");
        }
        let client = node.client().await;
        let detail = client.plugins().info("p").await.unwrap();
        assert_eq!(detail.signed_by, key.id().to_string());
        node.stop().await;
    });
}
