//! Versions in the shadow: what they find, that nobody feels them, and how they come to serve.

use bytes::Bytes;
use waypost_client::{Client, Error, Identity, Message};
use waypost_node::config::Manage;
use waypost_wire::Code;
use waypost_wire::control::{PluginDeploy, PluginDiff, Setting};

use crate::harness::{
    self, Setup, TestNode, messages, peek_all, publish_all, repository, role, route, text,
};

const QUEUE: &str = "[[queue]]\nname = \"q\"\n[[queue]]\nname = \"other\"\nfrom = [\"other/#\"]\n";

fn component(name: &str) -> Bytes {
    let file = repository(&format!("tests/fixtures/plugins/{name}.wasm"));
    std::fs::read(file).unwrap().into()
}

fn settings(pairs: &[(&str, &str)]) -> Vec<Setting> {
    let setting = |(name, value): &(&str, &str)| Setting {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    pairs.iter().map(setting).collect()
}

/// A version of the slot `p`, brought to the node.
async fn version(client: &Client, name: &str, role: &str, pairs: &[(&str, &str)]) -> PluginDeploy {
    let component = component(name);
    let digest = ring::digest::digest(&ring::digest::SHA256, &component);
    let digest: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    client
        .plugins()
        .upload(digest.as_str(), component)
        .await
        .unwrap();
    PluginDeploy {
        plugin: "p".to_owned(),
        digest,
        role: role.to_owned(),
        settings: settings(pairs),
        ..PluginDeploy::default()
    }
}

/// A node with the queue `q` and a route through `p`, which is that guest.
async fn with_plugin(serving: &str, role: &str, grants: &[&str]) -> (TestNode, Client) {
    let node = Setup::new(QUEUE).start().await;
    let client = node.client().await;
    let mut deploy = version(&client, serving, role, &[]).await;
    if !grants.is_empty() {
        deploy.set_grants = true;
        deploy.grants = grants.iter().map(|grant| (*grant).to_owned()).collect();
        deploy.publish = vec!["other/#".to_owned()];
    }
    client.plugins().deploy(deploy).await.unwrap();
    let route = route("r", "in/#", &["p"]);
    client.routes().add(route, None).await.unwrap();
    (node, client)
}

fn order(order: &str) -> Message {
    Message::new("in/x", order.to_owned()).with_header("do", order.to_owned())
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (Code, String) {
    match result {
        Err(Error::Refused { code, message, .. }) => (code, message),
        other => panic!("not refused: {other:?}"),
    }
}

/// What was found, once `is_enough` says so.
async fn found(client: &Client, is_enough: impl Fn(&PluginDiff) -> bool) -> PluginDiff {
    loop {
        let diff = client.plugins().diff("p").await.unwrap();
        if is_enough(&diff) {
            return diff;
        }
    }
}

fn rows(diff: &PluginDiff) -> Vec<(&str, &str, u64, u64)> {
    let row = diff.rows.iter();
    row.map(|r| {
        (
            r.serving.as_str(),
            r.shadow.as_str(),
            r.messages,
            r.different,
        )
    })
    .collect()
}

#[test]
fn a_shadow_is_compared_and_promoted_and_gone_back_from() {
    harness::run(async {
        let (node, client) = with_plugin("noop", "transform", &[]).await;
        let plugins = client.plugins();
        let edits = version(&client, "noop", "transform", &[("answer", "edit")]).await;
        plugins.shadow(edits, 0).await.unwrap();
        publish_all(&client, &messages("in/x", 20)).await;
        let diff = found(&client, |d| d.compared + d.dropped >= 20).await;
        assert_eq!((diff.offered, diff.dropped, diff.different), (20, 0, 20));
        assert_eq!(rows(&diff), [("pass", "edit", 20, 20)]);
        assert_eq!((diff.version, diff.ended.as_str()), (1, ""));
        assert!(diff.serving_ns > 0 && diff.shadow_ns > 0, "{diff:?}");
        assert_eq!(diff.examples.len(), 4);
        let example = &diff.examples[3];
        assert_eq!(
            (example.what.as_str(), example.route.as_str()),
            ("verdict", "r")
        );
        let (serving, shadow) = (
            example.serving.clone().unwrap(),
            example.shadow.clone().unwrap(),
        );
        assert_eq!(
            (serving.verdict.as_str(), serving.changes),
            ("pass", vec![])
        );
        assert_eq!(shadow.changes[0].field, "header seen");
        let is_marked =
            |(_, message): &(u64, Message)| message.headers.iter().any(|(n, _)| n == "seen");
        let held = peek_all(&client, "q").await;
        assert_eq!(
            (held.len(), held.iter().filter(|m| is_marked(m)).count()),
            (20, 0)
        );
        let detail = plugins.info("p").await.unwrap();
        assert_eq!(
            (detail.shadow, detail.shadow_ended.as_str()),
            (diff.digest, "")
        );
        assert_eq!(detail.breaker, "closed");

        let promoted = plugins.promote("p").await.unwrap();
        assert_eq!((promoted.version, promoted.before), (2, 1));
        publish_all(&client, &messages("in/x", 1)).await;
        assert!(is_marked(peek_all(&client, "q").await.last().unwrap()));
        let (code, said) = refusal(plugins.diff("p").await);
        assert_eq!(
            (code, said.as_str()),
            (Code::Conflict, "plugin 'p' has no shadow")
        );
        assert_eq!(plugins.rollback("p", None).await.unwrap().version, 1);
        publish_all(&client, &messages("in/x", 1)).await;
        assert!(!is_marked(peek_all(&client, "q").await.last().unwrap()));
        node.stop().await;
    });
}

#[test]
fn one_that_loops_or_traps_hurts_nobody_and_ends() {
    harness::run(async {
        let (node, client) = with_plugin("noop", "filter", &[]).await;
        let plugins = client.plugins();
        let mut puppet = version(&client, "puppet", "filter", &[]).await;
        puppet.limits = settings(&[("breaker.failures", "3"), ("deadline", "5ms")]);
        // A trap now and then is a difference.
        plugins.shadow(puppet.clone(), 0).await.unwrap();
        for what in ["trap", "pass", "drop", "trap", "pass"] {
            publish_all(&client, &[order(what)]).await;
        }
        let diff = found(&client, |d| d.compared >= 5).await;
        let wanted = [
            ("pass", "drop", 1, 1),
            ("pass", "failed", 2, 2),
            ("pass", "pass", 2, 0),
        ];
        assert_eq!(rows(&diff), wanted);
        assert_eq!((diff.failures, diff.traps, diff.deadlines), (2, 2, 0));
        assert!(diff.errors[0].text.contains("trap"), "{:?}", diff.errors);
        assert_eq!(diff.ended, "");
        // Nothing but failures ends it.
        for _ in 0..3 {
            publish_all(&client, &[order("loop")]).await;
        }
        let diff = found(&client, |d| !d.ended.is_empty()).await;
        let words = "3 calls in a row failed, last with deadline: ";
        assert!(diff.ended.starts_with(words), "{}", diff.ended);
        assert_eq!(diff.deadlines, 3);
        let before = diff.offered;
        publish_all(&client, &messages("in/x", 50)).await;
        assert_eq!(plugins.diff("p").await.unwrap().offered, before);
        let (code, said) = refusal(plugins.promote("p").await);
        assert_eq!(code, Code::Conflict);
        assert!(
            said.contains("its shadow ended (3 calls in a row"),
            "{said}"
        );
        let detail = plugins.info("p").await.unwrap();
        let state = detail.state.unwrap();
        assert_eq!((state.status.as_str(), state.failures), ("ready", 0));
        assert!(
            detail.shadow_ended.starts_with(words),
            "{}",
            detail.shadow_ended
        );
        assert_eq!(node.running.alarms(), Vec::<String>::new());
        assert_eq!(harness::queue(&client, "q").await.messages, 58);
        plugins.discard("p").await.unwrap();
        assert_eq!(refusal(plugins.discard("p").await).0, Code::Conflict);
        // A batch that all loops, beside publishers that go on.
        // Its component went with it.
        let again = version(&client, "puppet", "filter", &[]).await;
        assert_eq!(again.digest, puppet.digest);
        plugins.shadow(puppet, 0).await.unwrap();
        publish_all(&client, &vec![order("loop"); 500]).await;
        found(&client, |d| !d.ended.is_empty()).await;
        node.stop().await;
    });
}

#[test]
fn what_it_writes_and_publishes_is_nobodys() {
    harness::run(async {
        let grants = [
            "log", "clock", "random", "metrics", "state", "publish", "timer",
        ];
        let (node, client) = with_plugin("puppet-effects", "transform", &grants).await;
        let plugins = client.plugins();
        for _ in 0..3 {
            publish_all(&client, &[order("add k 1")]).await;
        }
        let same = version(&client, "puppet-effects", "transform", &[]).await;
        plugins.shadow(same, 0).await.unwrap();
        // It begins with what the slot has, and goes on by itself.
        for _ in 0..2 {
            publish_all(&client, &[order("add k 1")]).await;
        }
        publish_all(&client, &[order("publish other/x 2 1")]).await;
        let diff = found(&client, |d| d.compared >= 3).await;
        assert_eq!(diff.different, 0, "{:?}", diff.examples);
        assert_eq!(harness::queue(&client, "other").await.messages, 2);
        publish_all(&client, &[order("get k")]).await;
        let last = peek_all(&client, "q").await.pop().unwrap().1;
        let answer = last.headers.iter().find(|(n, _)| n == "answers").unwrap();
        assert!(answer.1.windows(1).any(|b| b == b"5"), "{:?}", answer.1);
        // When it serves, it goes on with what the slot has, and not with what it had in the shadow.
        plugins.promote("p").await.unwrap();
        publish_all(&client, &[order("add k 1")]).await;
        let last = peek_all(&client, "q").await.pop().unwrap().1;
        let answer = last.headers.iter().find(|(n, _)| n == "answers").unwrap();
        assert_eq!(&*answer.1, b"Ok(6)");
        node.stop().await;
    });
}

#[test]
fn a_promotion_under_load_loses_doubles_and_reorders_nothing() {
    const COUNT: usize = 6_000;
    harness::run(async {
        let (node, client) = with_plugin("noop", "transform", &[]).await;
        let publisher = client.publisher(Default::default()).await.unwrap();
        let publishing = async {
            let mut tickets = Vec::new();
            for n in 0..COUNT {
                let message = Message::new("in/x", n.to_string());
                tickets.push(publisher.send(&message).await.unwrap());
            }
            for ticket in tickets {
                assert_eq!(ticket.await.unwrap().exception, None);
            }
        };
        let changing = async {
            let other = node.client().await;
            let edits = version(&other, "noop", "transform", &[("answer", "edit")]).await;
            other.plugins().shadow(edits, 0).await.unwrap();
            found(&other, |d| d.compared > 0).await;
            other.plugins().promote("p").await.unwrap();
            other.plugins().rollback("p", None).await.unwrap();
        };
        tokio::join!(publishing, changing);
        let held = peek_all(&client, "q").await;
        let numbers: Vec<usize> = held.iter().map(|(_, m)| text(m).parse().unwrap()).collect();
        assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
        node.stop().await;
    });
}

#[test]
fn what_cannot_be_is_refused_and_what_ends_a_shadow_says_so() {
    harness::run(async {
        let file = repository("tests/fixtures/plugins/noop.wasm");
        let names = ["a", "b", "c", "d"];
        let slots: String = names
            .iter()
            .map(|name| {
                format!("[[plugin]]\nname = {name:?}\nfile = {file:?}\nrole = \"filter\"\n")
            })
            .collect();
        let looks = role("looks", &[], &["out"], &[Manage::Read]);
        let setup = Setup::new(&format!("{QUEUE}{slots}")).role(looks);
        let node = setup.start().await;
        let client = node.client().await;
        let plugins = client.plugins();
        let noop = version(&client, "noop", "transform", &[]).await;
        let (code, said) = refusal(plugins.shadow(noop.clone(), 0).await);
        assert_eq!((code, said.as_str()), (Code::NotFound, "no plugin 'p'"));
        plugins.deploy(noop.clone()).await.unwrap();
        let (code, said) = refusal(plugins.shadow(noop.clone(), 1_000_001).await);
        assert_eq!(code, Code::Invalid, "{said}");
        let missing = PluginDeploy {
            digest: "ab".repeat(32),
            ..noop.clone()
        };
        assert_eq!(refusal(plugins.shadow(missing, 0).await).0, Code::NotFound);
        let wrong = version(&client, "noop", "transform", &[("answr", "edit")]).await;
        let (code, said) = refusal(plugins.shadow(wrong, 0).await);
        assert_eq!(code, Code::Invalid);
        assert!(said.contains("'answr'"), "{said}");
        assert_eq!(refusal(plugins.promote("p").await).0, Code::Conflict);
        // What a role does not allow.
        let looks = node
            .connect(Identity::Token("looks".to_owned()))
            .await
            .unwrap();
        for result in [
            looks.plugins().shadow(noop.clone(), 0).await,
            looks.plugins().promote("p").await.map(drop),
            looks.plugins().discard("p").await,
        ] {
            assert_eq!(refusal(result).0, Code::Forbidden);
        }
        // As many as may be; that of a slot takes the place of its own.
        plugins.shadow(noop.clone(), 1).await.unwrap();
        plugins.shadow(noop.clone(), 0).await.unwrap();
        for name in &names[..3] {
            let mut of = version(&client, "noop", "filter", &[]).await;
            of.plugin = (*name).to_owned();
            plugins.shadow(of, 0).await.unwrap();
        }
        let mut of = version(&client, "noop", "filter", &[]).await;
        of.plugin = "d".to_owned();
        let (code, said) = refusal(plugins.shadow(of, 0).await);
        assert_eq!(code, Code::Busy, "{said}");
        let (code, said) = refusal(plugins.promote("a").await);
        assert_eq!(code, Code::Conflict);
        assert!(said.contains("the configuration says its code"), "{said}");
        // Examples are for those who may see their topics.
        let edits = version(&client, "noop", "transform", &[("answer", "edit")]).await;
        plugins.shadow(edits, 0).await.unwrap();
        client
            .routes()
            .add(route("r", "in/#", &["p"]), None)
            .await
            .unwrap();
        publish_all(&client, &messages("in/x", 3)).await;
        while plugins.diff("p").await.unwrap().compared < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(plugins.diff("p").await.unwrap().examples.len(), 3);
        let found = looks.plugins().diff("p").await.unwrap();
        assert_eq!((found.examples.len(), found.hidden), (0, 3));
        // Another version serves: what it is compared with is gone.
        let edits = version(&client, "noop", "transform", &[("answer", "edit")]).await;
        plugins.deploy(edits).await.unwrap();
        assert_eq!(
            plugins.diff("p").await.unwrap().ended,
            "version 2 serves now"
        );
        // It does not outlive the node.
        let node = node.restart().await;
        let client = node.client().await;
        let (code, said) = refusal(client.plugins().diff("p").await);
        assert_eq!(
            (code, said.as_str()),
            (Code::Conflict, "plugin 'p' has no shadow")
        );
        node.stop().await;
    });
}
