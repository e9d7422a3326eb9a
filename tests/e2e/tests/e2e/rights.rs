//! What a role does not allow is refused with the role that would, and names that do not exist are
//! named.

use waypost_client::{
    Client, Code, ConsumerOptions, Error, ExceptionKind, Filter, Identity, Message,
};
use waypost_node::config::{RoleConfig, TokenConfig};
use waypost_node::identity::token_sha256;
use waypost_wire::control::QueueSettings;

use crate::harness::{self, Setup, TestNode, publish};

async fn start() -> (TestNode, Client) {
    let queues = r#"
[[queue]]
name = "q"
from = ["in/#"]
[[queue]]
name = "secret"
"#;
    let setup = Setup::new(queues).change(|config| {
        config.roles.push(RoleConfig {
            name: "sensor".to_owned(),
            publish: vec![Filter::new("in/+").unwrap()],
            subscribe: vec![Filter::new("in/+").unwrap()],
            consume: vec!["q*".to_owned()],
            manage: vec![waypost_node::config::Manage::Read],
        });
        config.tokens.push(TokenConfig {
            name: "probe-7".to_owned(),
            sha256: token_sha256("s3cret"),
            roles: vec!["sensor".to_owned()],
        });
    });
    let node = setup.start().await;
    let identity = Identity::Token("s3cret".to_owned());
    let client = node.connect(identity).await.unwrap();
    (node, client)
}

fn refusal<T>(result: Result<T, Error>) -> (Code, String) {
    match result.err().expect("it is refused") {
        Error::Refused { code, message, .. } => (code, message),
        other => panic!("{other}"),
    }
}

#[test]
fn a_role_is_what_one_may_do_and_no_more() {
    harness::run(async {
        let (node, client) = start().await;
        let welcome = client.welcome().await.unwrap();
        assert_eq!(
            (welcome.principal.as_str(), welcome.roles),
            ("probe-7", vec!["sensor".to_owned()])
        );
        let batch = ["in/1", "in/1/deep", "out"].map(|topic| Message::new(topic, "x"));
        let confirmed = publish(&client, &batch).await;
        assert_eq!(confirmed[0].exception, None);
        for (confirmed, topic) in confirmed[1..].iter().zip(["in/1/deep", "out"]) {
            let exception = confirmed.exception.clone().unwrap();
            assert_eq!(
                (exception.kind, exception.code),
                (ExceptionKind::Refused, Code::Forbidden)
            );
            assert_eq!(
                exception.text,
                format!("may not publish to \"{topic}\": needs role \"all\"")
            );
        }
        assert_eq!(harness::queue(&client, "q").await.messages, 1);

        let subscribe = async |filter| client.subscriber(&[Filter::new(filter).unwrap()], "").await;
        subscribe("in/1").await.unwrap();
        assert_eq!(
            refusal(subscribe("in/#").await),
            (
                Code::Forbidden,
                "may not subscribe to \"in/#\": needs role \"all\"".to_owned()
            )
        );
        let consume = async |queue| client.consumer(ConsumerOptions::new(queue, "g")).await;
        consume("q").await.unwrap();
        assert_eq!(
            refusal(consume("secret").await),
            (
                Code::Forbidden,
                "may not consume \"secret\": needs role \"all\"".to_owned()
            )
        );
        assert_eq!(
            refusal(client.queue_add("mine", QueueSettings::default()).await),
            (
                Code::Forbidden,
                "may not manage \"queues\": needs role \"all\"".to_owned()
            )
        );
        client.queue_list().await.unwrap();
        node.stop().await;
    });
}

#[test]
fn names_that_do_not_exist_are_named() {
    harness::run(async {
        let (node, limited) = start().await;
        let client = node.client().await;
        let consume = async |queue: &str, group: &str| {
            refusal(client.consumer(ConsumerOptions::new(queue, group)).await)
        };
        let missing = (Code::NotFound, "queue 'nope' does not exist".to_owned());
        assert_eq!(consume("nope", "g").await, missing);
        assert_eq!(refusal(client.queue_info("nope").await), missing);
        assert_eq!(refusal(client.queue_peek("nope", 0, 1).await), missing);
        assert_eq!(refusal(client.queue_purge("nope").await), missing);
        assert_eq!(refusal(client.queue_remove("nope").await), missing);
        for group in ["", "a b", "ü", &"x".repeat(129)] {
            let (code, said) = consume("q", group).await;
            assert_eq!(code, Code::Invalid);
            assert_eq!(
                said,
                format!("group '{group}': 1 to 128 of a-z, A-Z, 0-9, '.', '_' and '-' expected")
            );
        }
        // One who may not consume it does not learn whether it exists.
        let hidden = limited.consumer(ConsumerOptions::new("other", "g")).await;
        assert_eq!(refusal(hidden).0, Code::Forbidden);
        node.stop().await;
    });
}
