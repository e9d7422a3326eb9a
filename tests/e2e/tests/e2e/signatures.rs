//! Components that a node runs only if one of its keys signed them.

use bytes::Bytes;
use waypost_client::{Client, Error};
use waypost_node::check_deployed_trust;
use waypost_supply::{PublicKey, SecretKey, TrustedKeys};
use waypost_wire::Code;
use waypost_wire::control::{PluginDeploy, PluginDetail};

use crate::harness::{self, Setup, publish_all, repository};

/// A key that signs.
struct Signer {
    secret: SecretKey,
    key: PublicKey,
}

impl Signer {
    fn new() -> Signer {
        let secret = SecretKey::generate().unwrap();
        let key = secret.public().unwrap();
        Signer { secret, key }
    }

    fn sign(&self, component: &[u8]) -> String {
        let signature = self.secret.sign(component, "a test").unwrap();
        signature.as_str().to_owned()
    }

    fn id(&self) -> String {
        self.key.id().to_string()
    }

    fn alone(&self) -> TrustedKeys {
        TrustedKeys::new(vec![self.key.clone()])
    }
}

fn noop() -> Vec<u8> {
    std::fs::read(repository("tests/fixtures/plugins/noop.wasm")).unwrap()
}

/// The same with another digest: a custom section at its end.
fn variant(number: u8) -> Bytes {
    let mut bytes = noop();
    bytes.extend([0, 3, 1, b'v', number]);
    bytes.into()
}

fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A node whose route goes through `p.wasm`, beside the configuration.
fn with_file(signer: &Signer, per_plugin: bool) -> Setup {
    let keys = format!("trusted_keys = [\"{}\"]\n", signer.key.as_str());
    let (of_node, of_plugin) = match per_plugin {
        true => (String::new(), keys),
        false => (format!("[plugins]\n{keys}"), String::new()),
    };
    let sections = format!(
        "{of_node}[[plugin]]\nname = \"b\"\nbuiltin = \"quake-magnitude\"\n\
         [[plugin]]\nname = \"p\"\nfile = \"p.wasm\"\nrole = \"filter\"\n{of_plugin}\
         [[route]]\nname = \"r\"\nfrom = \"in/#\"\nthrough = [\"p\"]\nto = [\"queue:dead-letter\"]\n"
    );
    let home = tempfile::TempDir::with_prefix("waypost-e2e-").unwrap();
    std::fs::write(home.path().join("p.wasm"), noop()).unwrap();
    Setup {
        config: harness::parse(home.path(), &sections),
        home: Some(home),
    }
}

fn put(setup: &Setup, name: &str, bytes: impl AsRef<[u8]>) {
    let home = setup.home.as_ref().unwrap().path();
    std::fs::write(home.join(name), bytes).unwrap();
}

#[test]
fn a_file_must_be_signed_by_a_key_of_the_node_or_of_the_plugin() {
    harness::run(async {
        for per_plugin in [false, true] {
            let (signer, other) = (Signer::new(), Signer::new());
            let setup = with_file(&signer, per_plugin);
            let (setup, why) = setup.refused().await;
            let expected = format!(
                "p.wasm): is not signed: expected a signature by the key {} in ",
                signer.id()
            );
            assert!(
                why.starts_with("plugin 'p' (") && why.contains(&expected),
                "{why}"
            );
            assert!(why.ends_with("p.wasm.minisig"), "{why}");
            put(&setup, "p.wasm.minisig", other.sign(&noop()));
            let (setup, why) = setup.refused().await;
            let expected = format!("is signed by the key {}, which is not trusted", other.id());
            assert!(why.contains(&expected), "{why}");
            put(&setup, "p.wasm.minisig", signer.sign(&variant(1)));
            let (setup, why) = setup.refused().await;
            let expected = format!("is not what the trusted key {} signed", signer.id());
            assert!(why.contains(&expected), "{why}");
            put(&setup, "p.wasm.minisig", "signed, I promise");
            let (setup, why) = setup.refused().await;
            assert!(why.contains("has 1 lines, expected 4"), "{why}");
            put(&setup, "p.wasm.minisig", signer.sign(&noop()));
            let node = setup.start().await;
            let client = node.client().await;
            let detail = client.plugins().info("p").await.unwrap();
            assert_eq!(detail.signed_by, signer.id());
            // What is built in is a part of the program.
            let detail = client.plugins().info("b").await.unwrap();
            assert_eq!(detail.signed_by, "");
            publish_all(&client, &harness::messages("in/x", 2)).await;
            // A component that is changed afterwards is not taken at the next start.
            let (setup, _) = node.stop().await;
            put(&setup, "p.wasm", variant(2));
            let (_, why) = setup.refused().await;
            assert!(why.contains("is not what the trusted key"), "{why}");
        }
    });
}

async fn deploy(client: &Client, component: &Bytes, signature: String) -> Result<u64, Error> {
    let digest = digest(component);
    let plugins = client.plugins();
    plugins.upload(digest.as_str(), component.clone()).await?;
    let deploy = PluginDeploy {
        plugin: "p".to_owned(),
        digest,
        role: "filter".to_owned(),
        signature,
        ..PluginDeploy::default()
    };
    Ok(plugins.deploy(deploy).await?.version)
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Refused {
            code: Code::Invalid,
            message,
            ..
        }) => message,
        other => panic!("not refused as invalid: {other:?}"),
    }
}

async fn info(client: &Client) -> PluginDetail {
    client.plugins().info("p").await.unwrap()
}

fn status(detail: &PluginDetail) -> String {
    detail.state.clone().unwrap().status
}

#[test]
fn what_is_deployed_must_be_signed_and_stays_so_over_restarts_and_rollbacks() {
    harness::run(async {
        let (first, second) = (Signer::new(), Signer::new());
        let trusting = |signer: &Signer| {
            let keys = signer.alone();
            move |config: &mut waypost_node::config::Config| config.supply.trusted_keys = keys
        };
        let setup = Setup::new("").change(trusting(&first));
        let node = setup.start().await;
        let client = node.client().await;
        let component = variant(1);
        let why = refusal(deploy(&client, &component, String::new()).await);
        assert!(
            why.contains("is not signed") && why.contains("sent with it by `plugin deploy`"),
            "{why}"
        );
        let why = refusal(deploy(&client, &component, second.sign(&component)).await);
        assert!(
            why.contains("which is not trusted: expected the key"),
            "{why}"
        );
        let why = refusal(deploy(&client, &component, first.sign(&variant(2))).await);
        assert!(why.contains("is not what the trusted key"), "{why}");
        let why = refusal(deploy(&client, &component, "x".to_owned()).await);
        assert!(why.contains("its signature as sent has 1 lines"), "{why}");
        let why = refusal(deploy(&client, &component, "x".repeat(20_000)).await);
        assert!(why.contains("no signature has more than"), "{why}");
        assert!(client.plugins().list().await.unwrap().plugins.is_empty());
        let signature = first.sign(&component);
        assert_eq!(deploy(&client, &component, signature).await.unwrap(), 1);
        assert_eq!(info(&client).await.signed_by, first.id());
        // It is kept, and looked at again.
        let node = node.restart().await;
        let client = node.client().await;
        let detail = info(&client).await;
        assert_eq!(
            (status(&detail).as_str(), detail.signed_by),
            ("ready", first.id())
        );
        // Another key: what the old one signed runs no more, and no rollback leads to it.
        let (setup, _) = node.stop().await;
        let setup = setup.change(trusting(&second));
        let found = check_deployed_trust(&setup.config);
        assert!(
            found[0].contains("not trusted") && found[0].contains("version 1"),
            "{found:?}"
        );
        let node = setup.start().await;
        let client = node.client().await;
        let detail = info(&client).await;
        let why = status(&detail);
        assert!(
            why.starts_with("down: ") && why.contains("which is not trusted"),
            "{why}"
        );
        assert_eq!(
            node.running.alarms().len(),
            1,
            "{:?}",
            node.running.alarms()
        );
        let component = variant(2);
        let signature = second.sign(&component);
        assert_eq!(deploy(&client, &component, signature).await.unwrap(), 2);
        assert_eq!(info(&client).await.signed_by, second.id());
        assert!(node.running.alarms().is_empty());
        let why = refusal(client.plugins().rollback("p", None).await);
        assert!(
            why.contains(&format!("signed by the key {}", first.id())),
            "{why}"
        );
        assert_eq!(info(&client).await.signed_by, second.id());
        // Removed with its signatures.
        client.plugins().remove("p").await.unwrap();
        let blobs = node.setup.data_dir().join("plugins/blobs");
        assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0);
        node.stop().await;
    });
}

#[test]
fn a_signature_is_kept_also_where_nobody_asks_and_rot_of_it_is_seen() {
    harness::run(async {
        let signer = Signer::new();
        let node = Setup::new("").start().await;
        let client = node.client().await;
        let component = variant(1);
        // What is not even a signature is refused, whoever asks.
        let why = refusal(deploy(&client, &component, "x".to_owned()).await);
        assert!(why.contains("has 1 lines"), "{why}");
        let signature = signer.sign(&component);
        assert_eq!(deploy(&client, &component, signature).await.unwrap(), 1);
        assert_eq!(info(&client).await.signed_by, "");
        let (setup, _) = node.stop().await;
        let keys = signer.alone();
        let setup = setup.change(|config| config.supply.trusted_keys = keys);
        let node = setup.start().await;
        let client = node.client().await;
        assert_eq!(info(&client).await.signed_by, signer.id());
        let (setup, _) = node.stop().await;
        let name = format!("sha256-{}.{}.minisig", digest(&component), signer.id());
        let path = setup.data_dir().join("plugins/blobs").join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() - 20;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let node = setup.start().await;
        let client = node.client().await;
        let why = status(&info(&client).await);
        assert!(
            why.contains("down: ") && why.contains(&signer.id()),
            "{why}"
        );
        // Sent again, it is whole again.
        let signature = signer.sign(&component);
        deploy(&client, &component, signature).await.unwrap();
        assert_eq!(status(&info(&client).await), "ready");
        node.stop().await;
    });
}
