//! Plugins and routes that come to a running node: live, back again, and over restarts.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use waypost_client::{Client, Error, ExceptionKind, Message};
use waypost_wire::Code;
use waypost_wire::control::{PluginDeploy, PluginDetail, RouteState, Setting};

use crate::child::Child;
use crate::harness::{
    self, Setup, TestNode, messages, peek_all, publish, publish_all, repository, route,
};

const QUEUE: &str = "[[queue]]\nname = \"q\"\n";

fn noop() -> Vec<u8> {
    std::fs::read(repository("tests/fixtures/plugins/noop.wasm")).unwrap()
}

/// A component that does the same as another and has another digest: a custom section at its end.
fn variant(number: u64) -> Bytes {
    let mut bytes = noop();
    bytes.extend([0, 10, 1, b'v']);
    bytes.extend(number.to_le_bytes());
    bytes.into()
}

fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn settings(pairs: &[(&str, &str)]) -> Vec<Setting> {
    let setting = |(name, value): &(&str, &str)| Setting {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    pairs.iter().map(setting).collect()
}

/// A transform that marks each message, or lets it pass.
fn transform(component: &[u8], answer: &str) -> PluginDeploy {
    PluginDeploy {
        plugin: "p".to_owned(),
        digest: digest(component),
        role: "transform".to_owned(),
        settings: settings(&[("answer", answer)]),
        ..PluginDeploy::default()
    }
}

async fn deploy(client: &Client, component: &Bytes, deploy: PluginDeploy) -> u64 {
    let plugins = client.plugins();
    plugins
        .upload(deploy.digest.as_str(), component.clone())
        .await
        .unwrap();
    plugins.deploy(deploy).await.unwrap().version
}

/// A node with the queue `q`, the plugin `p` and a route through it.
async fn with_plugin(answer: &str) -> (TestNode, Client) {
    let node = Setup::new(QUEUE).start().await;
    let client = node.client().await;
    let component = variant(0);
    assert_eq!(
        deploy(&client, &component, transform(&component, answer)).await,
        1
    );
    client
        .routes()
        .add(route("r", "in/#", &["p"]), None)
        .await
        .unwrap();
    (node, client)
}

/// Whether what the queue holds was marked; empties it.
async fn marks(client: &Client) -> Vec<bool> {
    let held = peek_all(client, "q").await;
    client.queue_purge("q").await.unwrap();
    let is_marked =
        |(_, message): &(u64, Message)| message.headers.iter().any(|(n, _)| n == "seen");
    held.iter().map(is_marked).collect()
}

async fn info(client: &Client) -> PluginDetail {
    client.plugins().info("p").await.unwrap()
}

fn versions(detail: &PluginDetail) -> Vec<u64> {
    detail
        .versions
        .iter()
        .map(|version| version.number)
        .collect()
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (Code, String) {
    match result {
        Err(Error::Refused { code, message, .. }) => (code, message),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_plugin_comes_live_and_goes_back() {
    harness::run(async {
        let (node, client) = with_plugin("edit").await;
        publish_all(&client, &messages("in/x", 2)).await;
        assert_eq!(marks(&client).await, [true, true]);
        // The same again is no new version; what is not named is as before.
        let component = variant(0);
        let same = PluginDeploy {
            plugin: "p".to_owned(),
            digest: digest(&component),
            ..PluginDeploy::default()
        };
        let again = client.plugins().deploy(same.clone()).await.unwrap();
        assert!(again.unchanged && again.version == 1, "{again:?}");
        let pass = transform(&component, "pass");
        assert_eq!(client.plugins().deploy(pass).await.unwrap().version, 2);
        publish_all(&client, &messages("in/x", 1)).await;
        assert_eq!(marks(&client).await, [false]);
        // Back, and forth again.
        let back = client.plugins().rollback("p", None).await.unwrap();
        assert_eq!((back.version, back.before), (1, 2));
        publish_all(&client, &messages("in/x", 1)).await;
        assert_eq!(marks(&client).await, [true]);
        let (code, text) = refusal(client.plugins().rollback("p", None).await);
        assert_eq!(code, Code::Conflict);
        assert!(
            text.contains("runs version 1 and has no an older one"),
            "{text}"
        );
        assert_eq!(
            client
                .plugins()
                .rollback("p", Some(2))
                .await
                .unwrap()
                .version,
            2
        );
        publish_all(&client, &messages("in/x", 1)).await;
        assert_eq!(marks(&client).await, [false]);
        let detail = info(&client).await;
        assert_eq!(versions(&detail), [1, 2]);
        assert_eq!(detail.settings, settings(&[("answer", "pass")]));
        assert_eq!(detail.routes, ["r"]);
        let state = detail.state.unwrap();
        assert_eq!((state.version, state.status.as_str()), (2, "ready"));
        assert!(state.memory_bytes > 0 && state.call_p99_ns > 0, "{state:?}");
        // It goes when no route needs it.
        let (code, text) = refusal(client.plugins().remove("p").await);
        assert_eq!(
            (code, text.as_str()),
            (
                Code::Conflict,
                "plugin 'p' is used by r: remove that route first"
            )
        );
        client.routes().remove("r").await.unwrap();
        client.plugins().remove("p").await.unwrap();
        assert_eq!(refusal(client.plugins().info("p").await).0, Code::NotFound);
        let blobs = node.setup.data_dir().join("plugins/blobs");
        assert_eq!(
            std::fs::read_dir(blobs).unwrap().count(),
            0,
            "no component is left"
        );
        let cache = node.setup.data_dir().join("plugin-cache");
        assert_eq!(
            std::fs::read_dir(cache).unwrap().count(),
            0,
            "nor what was made of one"
        );
        node.stop().await;
    });
}

#[test]
fn what_cannot_run_leaves_the_old_version_running() {
    harness::run(async {
        let (node, client) = with_plugin("edit").await;
        let plugins = client.plugins();
        let good = variant(0);
        let bad = Bytes::from_static(b"\0asm\x0d\0\x01\0 and then nonsense");
        let sent = plugins.upload(digest(&bad), bad.clone()).await.unwrap();
        assert_eq!(sent, bad.len() as u64);
        for (wrong, code, words) in [
            (transform(&bad, "edit"), Code::Invalid, "plugin 'p'"),
            (
                transform(b"never came", "edit"),
                Code::NotFound,
                "no component sha256:",
            ),
            (
                PluginDeploy {
                    limits: settings(&[("memory_byte", "1MiB")]),
                    ..transform(&good, "edit")
                },
                Code::Invalid,
                "unknown limit \"memory_byte\", did you mean \"memory_bytes\"?",
            ),
            (
                PluginDeploy {
                    settings: settings(&[("interest", "all of it")]),
                    ..transform(&good, "edit")
                },
                Code::Invalid,
                "setting 'interest': 'all of it' is unknown",
            ),
            (
                PluginDeploy {
                    role: "filtr".to_owned(),
                    ..transform(&good, "edit")
                },
                Code::Invalid,
                "unknown role \"filtr\", did you mean \"filter\"?",
            ),
            (
                PluginDeploy {
                    plugin: "a b".to_owned(),
                    ..transform(&good, "edit")
                },
                Code::Invalid,
                "plugin 'a b': 1 to 128 of",
            ),
        ] {
            let (got, text) = refusal(plugins.deploy(wrong).await);
            assert_eq!(got, code, "{text}");
            assert!(text.contains(words), "{text}");
        }
        assert_eq!(versions(&info(&client).await), [1]);
        publish_all(&client, &messages("in/x", 1)).await;
        assert_eq!(marks(&client).await, [true]);
        // A component that is not what was announced.
        let (code, text) = refusal(plugins.upload("ab".repeat(32), good.clone()).await);
        assert_eq!(code, Code::Invalid);
        assert!(text.contains("was announced"), "{text}");
        let (code, _) = refusal(plugins.upload("abc", good.clone()).await);
        assert_eq!(code, Code::Invalid);
        let (code, _) = refusal(plugins.upload(digest(b""), Bytes::new()).await);
        assert_eq!(code, Code::TooLarge);
        node.stop().await;
    });
}

#[test]
fn what_the_configuration_names_is_changed_there() {
    harness::run(async {
        let file = repository("tests/fixtures/plugins/noop.wasm");
        let sections = format!(
            "{QUEUE}[[plugin]]\nname = \"p\"\nrole = \"filter\"\nfile = {:?}\n\
             [[plugin]]\nname = \"d\"\nrole = \"transform\"\ndeployed = true\non_error = \"reject\"\n\
             settings = {{ answer = \"edit\" }}\n\
             [[route]]\nname = \"c\"\nfrom = \"c\"\nthrough = [\"p\"]\nto = [\"queue:q\"]\n\
             [[route]]\nname = \"d\"\nfrom = \"d\"\nthrough = [\"d\"]\nto = [\"queue:q\"]\n",
            file.display()
        );
        let node = Setup::new(&sections).start().await;
        let client = node.client().await;
        let (plugins, routes) = (client.plugins(), client.routes());
        // No code yet: its messages meet on_error, and somebody is told.
        let said = publish(&client, &[Message::new("d", "1")]).await;
        let exception = said[0].exception.clone().unwrap();
        assert_eq!(exception.kind, ExceptionKind::Refused);
        assert!(
            exception.text.contains("no component was deployed"),
            "{}",
            exception.text
        );
        assert_eq!(
            node.running.alarms().len(),
            1,
            "{:?}",
            node.running.alarms()
        );
        let component = variant(7);
        plugins
            .upload(digest(&component), component.clone())
            .await
            .unwrap();
        let of = |plugin: &str| PluginDeploy {
            plugin: plugin.to_owned(),
            digest: digest(&component),
            ..PluginDeploy::default()
        };
        let (code, text) = refusal(plugins.deploy(of("p")).await);
        assert_eq!(code, Code::Conflict);
        assert!(text.contains("noop.wasm"), "{text}");
        let more = PluginDeploy {
            settings: settings(&[("answer", "pass")]),
            ..of("d")
        };
        assert_eq!(refusal(plugins.deploy(more).await).0, Code::Conflict);
        plugins.deploy(of("d")).await.unwrap();
        publish_all(&client, &[Message::new("d", "2")]).await;
        assert_eq!(marks(&client).await, [true]);
        assert_eq!(node.running.alarms(), [""; 0]);
        assert_eq!(refusal(plugins.rollback("p", None).await).0, Code::Conflict);
        assert_eq!(refusal(plugins.remove("d").await).0, Code::Conflict);
        assert_eq!(refusal(routes.remove("c").await).0, Code::Conflict);
        assert_eq!(
            refusal(routes.add(route("c", "x", &[]), None).await).0,
            Code::Exists
        );
        // A name that is in both is an error at the start.
        plugins
            .deploy(PluginDeploy {
                role: "filter".into(),
                ..of("both")
            })
            .await
            .unwrap();
        routes
            .add(route("both", "x", &["both"]), None)
            .await
            .unwrap();
        let (setup, _) = node.stop().await;
        let mut both = setup.config.clone();
        both.plugins[0].name = "both".to_owned();
        both.routes.clear();
        let home = setup.home;
        let (setup, error) = Setup { config: both, home }.refused().await;
        assert!(
            error.starts_with("plugin 'both' is named by the configuration"),
            "{error}"
        );
        let mut both = setup.config.clone();
        both.plugins.clear();
        both.routes = vec![waypost_node::config::RouteConfig {
            name: "both".to_owned(),
            from: waypost_wire::Filter::new("y").unwrap(),
            through: Vec::new(),
            to: vec![waypost_node::config::Destination::Drop],
            is_final: false,
        }];
        let (_, error) = Setup {
            config: both,
            ..setup
        }
        .refused()
        .await;
        assert!(
            error.starts_with("route 'both' is named by the configuration"),
            "{error}"
        );
    });
}

#[test]
fn routes_stand_where_they_were_put_and_stay() {
    harness::run(async {
        let sections = format!(
            "{QUEUE}[[route]]\nname = \"one\"\nfrom = \"a\"\nto = [\"queue:q\"]\n\
             [[route]]\nname = \"two\"\nfrom = \"a\"\nto = [\"queue:q\"]\n"
        );
        let node = Setup::new(&sections).start().await;
        let client = node.client().await;
        let routes = client.routes();
        let names = async |client: &Client| -> Vec<String> {
            let listed = client.routes().list().await.unwrap();
            listed.routes.into_iter().map(|route| route.name).collect()
        };
        routes.add(route("end", "a", &[]), None).await.unwrap();
        routes
            .add(route("mid", "a", &[]), Some("two"))
            .await
            .unwrap();
        routes
            .add(route("mid-0", "a", &[]), Some("mid"))
            .await
            .unwrap();
        routes.add(route("last", "a", &[]), None).await.unwrap();
        let order = ["one", "mid-0", "mid", "two", "end", "last"];
        assert_eq!(names(&client).await, order);
        for (wrong, before, code, words) in [
            (
                route("mid", "a", &[]),
                None,
                Code::Exists,
                "route 'mid' is there already",
            ),
            (
                route("x", "a/#/b", &[]),
                None,
                Code::Invalid,
                "route 'x': filter \"a/#/b\" has '#'",
            ),
            (
                route("x", "a", &["ghost"]),
                None,
                Code::NotFound,
                "no plugin 'ghost'",
            ),
            (
                route("x", "a", &[]),
                Some("ghost"),
                Code::NotFound,
                "no route 'ghost'",
            ),
            (
                RouteState {
                    to: vec!["queue:ghost".into()],
                    ..route("x", "a", &[])
                },
                None,
                Code::NotFound,
                "route 'x': no queue 'ghost'",
            ),
            (
                RouteState {
                    to: vec!["elsewhere".into()],
                    ..route("x", "a", &[])
                },
                None,
                Code::Invalid,
                "route 'x': unknown destination \"elsewhere\"",
            ),
            (
                RouteState {
                    to: Vec::new(),
                    ..route("x", "a", &[])
                },
                None,
                Code::Invalid,
                "route 'x': names no destination",
            ),
        ] {
            let (got, text) = refusal(routes.add(wrong, before).await);
            assert_eq!(got, code, "{text}");
            assert!(text.starts_with(words), "{text}");
        }
        // A queue that one of them leads to stays.
        client.queue_add("extra", Default::default()).await.unwrap();
        let to_extra = RouteState {
            to: vec!["queue:extra".into()],
            ..route("extra", "b", &[])
        };
        routes.add(to_extra, None).await.unwrap();
        let (code, text) = refusal(client.queue_remove("extra").await);
        assert_eq!(code, Code::Conflict);
        assert!(text.contains("route 'extra'"), "{text}");
        routes.remove("extra").await.unwrap();
        client.queue_remove("extra").await.unwrap();
        let node = node.restart().await;
        let client = node.client().await;
        assert_eq!(names(&client).await, order);
        // A route that is final keeps the later ones from what it takes.
        let first = RouteState {
            is_final: true,
            ..route("first", "a", &[])
        };
        client.routes().add(first, Some("one")).await.unwrap();
        publish_all(&client, &messages("a", 1)).await;
        assert_eq!(harness::queue(&client, "q").await.messages, 1);
        client.routes().remove("first").await.unwrap();
        publish_all(&client, &messages("a", 1)).await;
        assert_eq!(harness::queue(&client, "q").await.messages, 7);
        node.stop().await;
    });
}

#[test]
fn a_pause_holds_or_diverts_and_outlives_the_node() {
    harness::run(async {
        let (node, client) = with_plugin("edit").await;
        client.plugins().pause("p", true).await.unwrap();
        let said = publish(&client, &messages("in/x", 1)).await;
        let exception = said[0].exception.clone().unwrap();
        assert_eq!(
            (exception.kind, exception.code),
            (ExceptionKind::Refused, Code::PluginUnavailable)
        );
        assert!(exception.code.is_retryable());
        let node = node.restart().await;
        let client = node.client().await;
        assert_eq!(info(&client).await.state.unwrap().status, "paused, holding");
        client.plugins().pause("p", false).await.unwrap();
        let said = publish(&client, &messages("in/x", 1)).await;
        let exception = said[0].exception.clone().unwrap();
        assert_eq!(exception.text, "route 'r', plugin 'p': paused: by a person");
        assert_eq!(exception.kind, ExceptionKind::DeadLettered);
        // A version that comes meanwhile waits too.
        let component = variant(1);
        assert_eq!(
            deploy(&client, &component, transform(&component, "pass")).await,
            2
        );
        let state = info(&client).await.state.unwrap();
        assert_eq!((state.status.as_str(), state.instances), ("paused", 0));
        client.plugins().resume("p").await.unwrap();
        publish_all(&client, &messages("in/x", 1)).await;
        assert_eq!(marks(&client).await, [false]);
        assert_eq!(info(&client).await.state.unwrap().status, "ready");
        node.stop().await;
    });
}

#[test]
fn the_lines_of_a_plugin_can_be_read_and_followed() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        let file = repository("tests/fixtures/plugins/puppet.wasm");
        let component = Bytes::from(std::fs::read(file).unwrap());
        let puppet = PluginDeploy {
            plugin: "p".to_owned(),
            digest: digest(&component),
            role: "filter".to_owned(),
            ..PluginDeploy::default()
        };
        deploy(&client, &component, puppet).await;
        client
            .routes()
            .add(route("r", "in/#", &["p"]), None)
            .await
            .unwrap();
        let say = |lines: &str| Message::new("in/x", "").with_header("do", format!("log {lines}"));
        publish_all(&client, &[say("3")]).await;
        let lines = client.plugins().logs("p", 2).await.unwrap();
        let numbers: Vec<u64> = lines.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [2, 3]);
        let mut following = client.plugins().follow("p", 1).await.unwrap();
        let mut seen = following.next().await.unwrap().unwrap();
        assert_eq!(seen.len(), 1);
        publish_all(&client, &[say("2")]).await;
        while seen.len() < 3 {
            seen.extend(following.next().await.unwrap().unwrap());
        }
        let numbers: Vec<u64> = seen.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [3, 4, 5]);
        client.routes().remove("r").await.unwrap();
        client.plugins().remove("p").await.unwrap();
        assert_eq!(following.next().await.unwrap(), None, "it was removed");
        assert_eq!(
            refusal(client.plugins().logs("p", 0).await).0,
            Code::NotFound
        );
        node.stop().await;
    });
}

#[test]
fn who_may_only_look_changes_nothing() {
    harness::run(async {
        let setup = Setup::new(QUEUE).change(|config| {
            config.roles[0].manage = vec![waypost_node::config::Manage::Read];
        });
        let node = setup.start().await;
        let client = node.client().await;
        let plugins = client.plugins();
        let component = variant(0);
        let refused = [
            refusal(plugins.upload(digest(&component), component.clone()).await).0,
            refusal(plugins.deploy(transform(&component, "pass")).await).0,
            refusal(plugins.rollback("p", None).await).0,
            refusal(plugins.pause("p", false).await).0,
            refusal(plugins.resume("p").await).0,
            refusal(plugins.remove("p").await).0,
            refusal(client.routes().add(route("r", "a", &[]), None).await).0,
            refusal(client.routes().remove("r").await).0,
        ];
        assert_eq!(refused, [Code::Forbidden; 8]);
        assert_eq!(plugins.list().await.unwrap().plugins, []);
        assert_eq!(client.routes().list().await.unwrap().routes, []);
        assert!(!node.setup.data_dir().join("plugins").exists());
        node.stop().await;
    });
}

/// What is kept may rot: it costs the slot that it is of, and nothing is removed for it.
#[test]
fn damage_costs_its_own_slot() {
    harness::run(async {
        let (node, client) = with_plugin("edit").await;
        let component = variant(5);
        let other = PluginDeploy {
            plugin: "other".to_owned(),
            ..transform(&component, "edit")
        };
        deploy(&client, &component, other).await;
        client
            .routes()
            .add(route("o", "other/#", &["other"]), None)
            .await
            .unwrap();
        let (setup, _) = node.stop().await;
        let directory = setup.data_dir().join("plugins");
        let slot = directory.join("slots/p.json");
        let broken = std::fs::read_to_string(&slot)
            .unwrap()
            .replacen("edit", "pass", 1);
        std::fs::write(&slot, broken).unwrap();
        let node = setup.start().await;
        let client = node.client().await;
        assert!(!node.running.alarms().is_empty());
        let said = publish(&client, &messages("in/x", 1)).await;
        assert_eq!(
            said[0].exception.clone().unwrap().kind,
            ExceptionKind::DeadLettered
        );
        publish_all(&client, &messages("other/x", 1)).await;
        assert_eq!(marks(&client).await, [true]);
        assert_eq!(
            std::fs::read_dir(directory.join("blobs")).unwrap().count(),
            2
        );
        // A deploy brings it back, and keeps what could not be read.
        let component = variant(0);
        deploy(&client, &component, transform(&component, "edit")).await;
        publish_all(&client, &messages("in/x", 1)).await;
        assert_eq!(marks(&client).await, [true]);
        assert_eq!(node.running.alarms(), [""; 0]);
        assert!(directory.join("slots/p.json.damaged").exists());
        let (setup, _) = node.stop().await;
        // A component that is another, or gone: the same.
        let blob = directory.join(format!("blobs/sha256-{}.wasm", digest(&component)));
        let mut setup = setup;
        for (other, want) in [(Some(variant(7)), "other bytes"), (None, "no component")] {
            match other {
                Some(other) => std::fs::write(&blob, other).unwrap(),
                None => std::fs::remove_file(&blob).unwrap(),
            }
            let node = setup.start().await;
            let client = node.client().await;
            let status = info(&client).await.state.unwrap().status;
            assert!(
                status.starts_with("down: ") && status.contains(want),
                "{status}"
            );
            (setup, _) = node.stop().await;
        }
    });
}

/// Numbers of messages as they are in the queue, which are each and in order.
async fn check_order(client: &Client, count: usize) {
    let held = peek_all(client, "q").await;
    assert_eq!(held.len(), count, "each once");
    for (n, (_, message)) in held.iter().enumerate() {
        assert_eq!(message.payload, n.to_string(), "at place {n}");
    }
}

/// As [`harness::run`], without an end where more was asked for.
fn run<F: Future>(test: F) -> F::Output {
    if std::env::var_os("WAYPOST_DEPLOYS").is_none() {
        return harness::run(test);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test)
}

/// How often the tests below change what runs; `WAYPOST_DEPLOYS` asks for more.
fn rounds(default: u64) -> u64 {
    let more = std::env::var("WAYPOST_DEPLOYS").ok();
    more.and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn under_load_nothing_is_lost_doubled_or_out_of_order() {
    run(async {
        let (node, client) = with_plugin("edit").await;
        let publisher_client = node.client().await;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let publishing = async {
            let publisher = publisher_client
                .publisher(Default::default())
                .await
                .unwrap();
            let (mut tickets, mut sent) = (Vec::new(), 0u64);
            while !*stopped.borrow() {
                for _ in 0..64 {
                    let message = Message::new("in/x", sent.to_string());
                    tickets.push(publisher.send(&message).await.unwrap());
                    sent += 1;
                }
                if tickets.len() >= 1024 {
                    for ticket in tickets.drain(..) {
                        assert_eq!(ticket.await.unwrap().exception, None);
                    }
                }
            }
            for ticket in tickets {
                assert_eq!(ticket.await.unwrap().exception, None);
            }
            publisher.close().await.unwrap();
            sent
        };
        let changing = async {
            for round in 0..rounds(30) {
                match round % 6 {
                    5 => {
                        client.plugins().rollback("p", None).await.unwrap();
                    }
                    n => {
                        // Few components, so that hardly any has to be compiled.
                        let component = variant(round % 4);
                        let answer = if n % 2 == 0 { "pass" } else { "edit" };
                        deploy(&client, &component, transform(&component, answer)).await;
                    }
                }
            }
            stop.send_replace(true);
        };
        let (sent, ()) = tokio::join!(publishing, changing);
        check_order(&client, sent as usize).await;
        assert_eq!(harness::queue(&client, "dead-letter").await.messages, 0);
        let state = info(&client).await.state.unwrap();
        assert_eq!(state.messages, sent);
        assert_eq!(state.instances, 1, "the old ones are gone");
        node.stop().await;
    });
}

fn resident() -> u64 {
    waypost_node::metrics::resident_bytes().unwrap_or(0)
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[test]
fn many_deploys_leave_nothing_behind() {
    run(async {
        let (node, client) = with_plugin("edit").await;
        let change = async |from: u64, to: u64| {
            for number in from..to {
                let component = variant(number);
                deploy(&client, &component, transform(&component, "edit")).await;
                publish_all(&client, &messages("in/x", 1)).await;
            }
        };
        let count = rounds(12);
        change(1, count / 4).await;
        let (memory, files) = (resident(), open_files());
        change(count / 4, count).await;
        let grown = resident().saturating_sub(memory);
        eprintln!(
            "{count} deploys: {} KiB more, {} threads, {} files",
            grown >> 10,
            threads(),
            open_files()
        );
        // Other tests run beside this one; a leak of each component's code would be far more.
        assert!(
            grown < (count * (100 << 10)).max(64 << 20),
            "{grown} bytes more"
        );
        assert!(
            open_files() <= files + 64,
            "{} files were open, now {}",
            files,
            open_files()
        );
        let state = info(&client).await.state.unwrap();
        assert_eq!((state.instances, state.version), (1, count));
        let directory = node.setup.data_dir();
        let names = |path: &str| -> BTreeSet<String> {
            let entries = std::fs::read_dir(directory.join(path)).unwrap();
            entries
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect()
        };
        let kept: BTreeSet<String> = (count - 5..count)
            .map(|number| format!("sha256-{}.wasm", digest(&variant(number))))
            .collect();
        assert_eq!(names("plugins/blobs"), kept);
        assert_eq!(names("plugin-cache").len(), 5);
        assert_eq!(names("plugins/slots").len(), 1);
        node.stop().await;
    });
}

/// A kill at any moment leaves the version before or the one that was asked for, and it runs.
#[test]
fn a_kill_during_a_deploy_leaves_the_old_or_the_new() {
    run(async {
        let home = tempfile::TempDir::with_prefix("waypost-deploy-kill-").unwrap();
        let mut number = 0;
        for round in 0..rounds(8).min(200) {
            let child = Child::start(home.path(), QUEUE).await;
            let client = child.client().await;
            if round == 0 {
                let component = variant(0);
                deploy(&client, &component, transform(&component, "edit")).await;
                client
                    .routes()
                    .add(route("r", "in/#", &["p"]), None)
                    .await
                    .unwrap();
            }
            let before = info(&client).await.state.unwrap().digest;
            let known: BTreeSet<String> = (0..=number).map(|n| digest(&variant(n))).collect();
            assert!(known.contains(&before), "round {round}");
            publish_all(&client, &messages("in/x", 1)).await;
            assert_eq!(marks(&client).await, [true], "round {round}");
            let begun = Instant::now();
            let killed_after = Duration::from_micros(300 * (round * round % 97));
            let deploying = async {
                loop {
                    number += 1;
                    let component = variant(number);
                    let plugins = client.plugins();
                    let sent = plugins.upload(digest(&component), component.clone()).await;
                    let deployed = match sent {
                        Ok(_) => plugins
                            .deploy(transform(&component, "edit"))
                            .await
                            .map(drop),
                        Err(error) => Err(error),
                    };
                    if deployed.is_err() {
                        break;
                    }
                }
            };
            tokio::select! {
                () = deploying => {}
                () = tokio::time::sleep(killed_after) => {}
            }
            assert!(begun.elapsed() < harness::PATIENCE);
            child.kill().await;
        }
        let child = Child::start(home.path(), QUEUE).await;
        let client = child.client().await;
        let detail = info(&client).await;
        assert_eq!(detail.state.unwrap().status, "ready");
        publish_all(&client, &messages("in/x", 1)).await;
        assert_eq!(marks(&client).await, [true]);
        let parts = child.data_dir.join("plugins/blobs");
        let left = std::fs::read_dir(parts).unwrap().map(|e| e.unwrap().path());
        let named: BTreeSet<String> = detail.versions.iter().map(|v| v.digest.clone()).collect();
        for path in left {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            assert!(
                named.contains(name.trim_start_matches("sha256-")),
                "{name} is left over"
            );
        }
        child.kill().await;
    });
}
