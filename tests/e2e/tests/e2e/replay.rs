//! Copies of what a queue holds, published again through the routes.

use std::collections::HashSet;

use waypost_client::wire::control::{Done, Select};
use waypost_client::{Client, Code, Error, Filter, Message, RecordRef, SubscriberEvent};
use waypost_node::config::RoleConfig;
use waypost_wire::control::{Manage, ManageRequest, Replay};

use crate::harness::{
    self, Setup, Taken, drain, messages, peek_all, publish_all, queue, repository, text,
};

/// A history of what was published below `a`, and what else may become of a message.
fn sections() -> String {
    let puppet = repository("tests/fixtures/plugins/puppet.wasm");
    format!(
        r##"
[[plugin]]
name = "puppet"
file = {puppet:?}
role = "transform"
[[queue]]
name = "history"
from = ["a/#"]
retain = "log"
[[queue]]
name = "again"
[[route]]
name = "puppets"
from = "b/#"
through = ["puppet"]
to = ["queue:again"]
[[route]]
name = "ring"
from = "ring"
to = ["topic:ring"]
[[route]]
name = "back"
from = "back"
to = ["queue:history"]
"##
    )
}

fn from(offset: u64) -> Select {
    Select {
        from_offset: offset,
        ..Select::default()
    }
}

async fn to_topic(client: &Client, select: Select, topic: &str) -> Done {
    let topic = Some(topic);
    client
        .replay_to_topic("history", select, topic)
        .await
        .unwrap()
}

fn refusal(result: Result<Done, Error>) -> (Code, String) {
    match result.expect_err("it is refused") {
        Error::Refused { code, message, .. } => (code, message),
        other => panic!("{other}"),
    }
}

#[test]
fn copies_pass_routes_and_plugins_and_live_subscribers_see_them() {
    const COUNT: usize = 600;
    harness::run(async {
        let node = Setup::new(&sections()).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a/x", COUNT)).await;
        let filter = [Filter::new("b/#").unwrap()];
        let mut live = client.subscriber(&filter, "").await.unwrap();
        let select = Select {
            to_offset: 550,
            ..from(10)
        };
        let done = to_topic(&client, select, "b/late").await;
        assert_eq!((done.count, done.next_offset, done.refused), (540, 0, 0));

        let mut seen = Vec::new();
        while seen.len() < 540 {
            let Some(SubscriberEvent::Batch(batch)) = live.next().await.unwrap() else {
                panic!("a subscriber that reads loses nothing");
            };
            for body in batch.slab.bodies() {
                seen.push(text(&RecordRef::parse(&body).unwrap().to_message()));
            }
        }
        let expected: Vec<String> = (10..550).map(|n| n.to_string()).collect();
        assert_eq!(seen, expected);
        let taken = drain(&client, "again", "g", 540).await;
        assert_eq!(
            taken.iter().map(Taken::text).collect::<Vec<_>>(),
            expected,
            "in their order"
        );
        let first = &taken[0];
        assert_eq!(first.message.topic, "b/late");
        assert_eq!(first.header("waypost-replay-queue").unwrap(), "history");
        assert_eq!(first.header("waypost-replay-offset").unwrap(), "10");
        node.stop().await;
    });
}

#[test]
fn copies_that_come_back_are_not_copied_again() {
    const COUNT: u64 = 300;
    harness::run(async {
        let node = Setup::new(&sections()).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a/x", COUNT as usize)).await;
        assert_eq!(to_topic(&client, from(0), "back").await.count, COUNT);
        assert_eq!(queue(&client, "history").await.messages, 2 * COUNT);
        // Each under its own topic: `back` too leads into the queue.
        let done = client.replay_to_topic("history", from(0), None).await;
        assert_eq!(done.unwrap().count, 2 * COUNT);
        let all = peek_all(&client, "history").await;
        assert_eq!(all.len() as u64, 4 * COUNT);
        let headers = |message: &Message| {
            let names = message.headers.iter().map(|(name, _)| name.clone());
            names.collect::<Vec<String>>()
        };
        // A copy of a copy says where it is from, once.
        let last = &all.last().unwrap().1;
        assert_eq!(
            headers(last),
            ["waypost-replay-queue", "waypost-replay-offset"]
        );
        node.stop().await;
    });
}

#[test]
fn what_becomes_of_each_copy_is_counted() {
    harness::run(async {
        let node = Setup::new(&sections()).start().await;
        let client = node.client().await;
        let orders = ["pass", "pass", "drop", "reject", "dead-letter", "emit 2 1"];
        let batch: Vec<Message> = orders
            .iter()
            .map(|order| Message::new("a/x", *order).with_header("do", *order))
            .collect();
        publish_all(&client, &batch).await;
        let done = to_topic(&client, from(0), "b/x").await;
        assert_eq!(
            (done.count, done.dropped, done.refused, done.dead_lettered),
            (3, 1, 1, 1),
            "{done:?}"
        );
        assert!(done.why.contains("puppet"), "{done:?}");
        assert_eq!(queue(&client, "again").await.messages, 4);

        let done = to_topic(&client, from(0), "nobody/wants/it").await;
        assert_eq!((done.count, done.unroutable), (0, 6), "{done:?}");
        let done = to_topic(&client, from(5), "ring").await;
        assert_eq!((done.count, done.dead_lettered), (0, 1));
        assert!(done.why.contains("more than 8 times"), "{done:?}");
        node.stop().await;
    });
}

#[test]
fn a_full_queue_ends_a_replay_where_it_can_go_on() {
    const COUNT: usize = 1000;
    harness::run(async {
        let full = r##"
[[queue]]
name = "history"
from = ["a/#"]
retain = "log"
[[queue]]
name = "small"
from = ["s/#"]
messages_max = 600
"##;
        let node = Setup::new(full).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a/x", COUNT)).await;
        let (mut at, mut copied, mut seen) = (0, 0, HashSet::new());
        loop {
            let topic = Some("s/x");
            match client.replay_to_topic("history", from(at), topic).await {
                Ok(done) => {
                    copied += done.count;
                    at = done.next_offset;
                    assert_eq!((done.refused, done.unroutable), (0, 0), "{done:?}");
                    if at == 0 {
                        break;
                    }
                }
                Err(Error::Refused { code, .. }) => {
                    assert_eq!(code, Code::QueueFull);
                    let there = queue(&client, "small").await.messages as usize;
                    for taken in drain(&client, "small", "g", there).await {
                        assert!(seen.insert(taken.text()), "{} twice", taken.text());
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        let there = queue(&client, "small").await.messages as usize;
        let rest = drain(&client, "small", "g", there).await;
        seen.extend(rest.iter().map(Taken::text));
        assert_eq!((copied as usize, seen.len()), (COUNT, COUNT));
        node.stop().await;
    });
}

#[test]
fn what_cannot_be_replayed_is_refused_precisely() {
    harness::run(async {
        let setup = Setup::new(&sections()).change(|config| {
            config.roles[0].publish = vec![Filter::new("a/#").unwrap()];
            config.roles.push(RoleConfig {
                name: "other".to_owned(),
                publish: vec![Filter::new("b/#").unwrap()],
                subscribe: Vec::new(),
                consume: Vec::new(),
                manage: Vec::new(),
            });
        });
        let node = setup.start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a/x", 3)).await;
        let replay = async |topic| {
            let topic = Some(topic);
            refusal(client.replay_to_topic("history", from(0), topic).await)
        };
        assert_eq!(
            replay("b/x").await,
            (
                Code::Forbidden,
                "may not publish to \"b/x\": needs role \"other\"".to_owned()
            )
        );
        let (code, said) = replay("a/#").await;
        assert_eq!(code, Code::BadTopic);
        assert!(said.starts_with("topic \"a/#\": "), "{said}");
        assert_eq!(replay("$node/x").await.0, Code::BadTopic);
        let nothing = client.replay_to_topic("nope", from(0), None).await;
        assert_eq!(refusal(nothing).0, Code::NotFound);
        let both = Manage {
            request: Some(ManageRequest::Replay(Replay {
                queue: "history".into(),
                to_queue: "again".into(),
                to_topic: true,
                ..Replay::default()
            })),
        };
        let raw = crate::raw::Raw::connect(&node).await;
        let first = waypost_wire::control::bytes_of(waypost_wire::FrameType::Manage, &both);
        let (code, said) = raw.stream(&first).await.error().await;
        assert_eq!(code, Code::Invalid);
        assert!(said.contains("name one destination"), "{said}");
        node.stop().await;
    });
}
