//! Live subscribers, and messages that re-enter routing.

use waypost_client::{Code, ExceptionKind, Filter, Level, Live, Message, SubscriberEvent};
use waypost_wire::FrameType;
use waypost_wire::data::parse_lost;

use crate::harness::{self, Setup, drain, messages, publish, publish_all, text};
use crate::raw::{Dial, open_subscriber};

fn filters(list: &[&str]) -> Vec<Filter> {
    list.iter().map(|f| Filter::new(*f).unwrap()).collect()
}

/// Topics and payloads of the next `count` messages.
async fn see(subscriber: &mut waypost_client::Subscriber, count: usize) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        match subscriber.next().await.unwrap() {
            Some(SubscriberEvent::Batch(live)) => {
                for body in live.slab.bodies() {
                    waypost_wire::record::verify(&body).unwrap();
                    let message = waypost_client::RecordRef::parse(&body)
                        .unwrap()
                        .to_message();
                    seen.push((message.topic.clone(), text(&message)));
                }
            }
            other => panic!("{other:?}"),
        }
    }
    seen
}

#[test]
fn a_subscriber_sees_once_what_its_filters_match() {
    harness::run(async {
        let node = Setup::new("").start().await;
        let client = node.client().await;
        let mut wide = client
            .subscriber(&filters(&["plant/#", "+/press/temp"]), "wide")
            .await
            .unwrap();
        let mut narrow = client
            .subscriber(&filters(&["plant/+/temp"]), "narrow")
            .await
            .unwrap();
        let topics = ["plant", "plant/press/temp", "shop/press/temp", "plant/temp"];
        let batch: Vec<Message> = topics.iter().map(|t| Message::new(*t, *t)).collect();
        for confirmed in publish(&client, &batch).await {
            assert_eq!(
                (confirmed.level, confirmed.exception),
                (Level::Received, None)
            );
        }
        let seen: Vec<String> = see(&mut wide, 4).await.into_iter().map(|s| s.0).collect();
        assert_eq!(seen, topics);
        publish_all(&client, &messages("plant/saw/temp", 1)).await;
        let seen: Vec<String> = see(&mut narrow, 2).await.into_iter().map(|s| s.0).collect();
        assert_eq!(seen, ["plant/press/temp", "plant/saw/temp"]);
        // Once it is gone, nobody takes the topic.
        drop((wide, narrow));
        client.close().await;
        let client = node.client().await;
        loop {
            // The node learns of the end on its own time; each answer says whether it has.
            let confirmed = publish(&client, &messages("plant", 1)).await.remove(0);
            if let Some(exception) = confirmed.exception {
                assert_eq!(exception.kind, ExceptionKind::Unroutable);
                break;
            }
        }
        node.stop().await;
    });
}

const REENTRY: &str = r#"
[[queue]]
name = "q"
from = ["out/#"]
[[route]]
name = "rename"
from = "in/#"
to = ["topic:out/renamed"]
[[route]]
name = "ring"
from = "ring"
to = ["topic:ring"]
"#;

#[test]
fn a_topic_destination_enters_routing_again_and_is_seen_live() {
    harness::run(async {
        let node = Setup::new(REENTRY).start().await;
        let client = node.client().await;
        let mut before = client.subscriber(&filters(&["in/#"]), "").await.unwrap();
        let mut after = client.subscriber(&filters(&["out/#"]), "").await.unwrap();
        let confirmed = publish(&client, &messages("in/x", 3)).await;
        for confirmed in confirmed {
            assert_eq!(
                (confirmed.level, confirmed.exception),
                (Level::Stored, None)
            );
        }
        assert_eq!(see(&mut before, 3).await[2], ("in/x".into(), "2".into()));
        let renamed = see(&mut after, 3).await;
        assert_eq!(renamed[0], ("out/renamed".into(), "0".into()));
        let stored = drain(&client, "q", "g", 3).await;
        assert_eq!(stored[1].message.topic, "out/renamed");
        node.stop().await;
    });
}

#[test]
fn a_ring_of_routes_ends_in_the_dead_letters() {
    harness::run(async {
        let node = Setup::new(REENTRY).start().await;
        let client = node.client().await;
        let confirmed = publish(&client, &messages("ring", 1)).await.remove(0);
        let exception = confirmed.exception.unwrap();
        assert_eq!(
            (exception.kind, exception.code),
            (ExceptionKind::DeadLettered, Code::Loop)
        );
        assert_eq!(
            exception.text,
            "route 'ring': re-entered routing more than 8 times, last as 'ring'"
        );
        assert_eq!(confirmed.level, Level::Stored);
        let dead = drain(&client, "dead-letter", "desk", 1).await.remove(0);
        assert_eq!(dead.header("waypost-dead-route").unwrap(), "ring");
        node.stop().await;
    });
}

#[test]
fn a_subscriber_that_does_not_read_loses_and_is_told_how_many_and_where() {
    const COUNT: u64 = 400;
    harness::run(async {
        let setup = Setup::new("").change(|config| {
            config.limits.subscriber_buffer_bytes = 64 << 10;
            config.limits.subscriber_patience = std::time::Duration::from_millis(20);
        });
        let node = setup.start().await;
        let dial = Dial {
            stream_window: 16 << 10,
            ..Dial::default()
        };
        let slow = dial.welcomed(&node).await;
        let mut slow = slow.subscriber(&["a"]).await;
        let client = node.client().await;
        let mut quick = client.subscriber(&filters(&["a"]), "").await.unwrap();
        // Small windows, so that the messages come in many batches.
        let publisher = client
            .publisher(waypost_client::PublisherOptions {
                window_messages: 8,
                ..Default::default()
            })
            .await
            .unwrap();
        let mut tickets = Vec::new();
        for n in 0..COUNT {
            let payload = format!("{n:01000}");
            tickets.push(publisher.send(&Message::new("a", payload)).await.unwrap());
            if n % 50 == 49 {
                see(&mut quick, 50).await;
            }
        }
        for ticket in tickets {
            assert_eq!(ticket.await.unwrap().exception, None);
        }
        let (mut next, mut lost) = (0, 0);
        while next < COUNT {
            let frame = slow.next().await.unwrap();
            if frame.kind == FrameType::Lost {
                let count = parse_lost(&frame).unwrap();
                lost += count;
                next += count;
                continue;
            }
            for body in Live::parse(&frame).unwrap().slab.bodies() {
                let message = waypost_client::RecordRef::parse(&body)
                    .unwrap()
                    .to_message();
                assert_eq!(
                    text(&message).parse::<u64>().unwrap(),
                    next,
                    "after {lost} lost"
                );
                next += 1;
            }
        }
        assert_eq!(next, COUNT);
        assert!(lost > 0, "a buffer of 64 KiB held {COUNT} KB");
        // It reads again: nothing more is lost.
        publish_all(&client, &messages("a", 1)).await;
        let frame = slow.next().await.unwrap();
        assert_eq!(frame.kind, FrameType::Live);
        node.stop().await;
    });
}

#[test]
fn subscriptions_that_cannot_be_are_refused_precisely() {
    harness::run(async {
        let node = Setup::new("").start().await;
        let raw = crate::raw::Raw::connect(&node).await;
        let refused = async |list: &[&str]| raw.stream(&open_subscriber(list)).await.error().await;
        let (code, said) = refused(&[]).await;
        assert_eq!(
            (code, said.as_str()),
            (Code::Invalid, "0 filters, 1 to 256 expected")
        );
        let (code, said) = refused(&["a", "b/#/c"]).await;
        assert_eq!(code, Code::BadTopic);
        assert!(said.starts_with("filter 'b/#/c' "), "{said}");
        let (code, _) = refused(&["a+"]).await;
        assert_eq!(code, Code::BadTopic);
        let mut one = raw.subscriber(&["a"]).await;
        one.send(&crate::raw::publish(1, &messages("a", 1))).await;
        let (code, said) = one.error().await;
        assert_eq!(code, Code::Protocol);
        assert!(
            said.contains("expected nothing more from a subscriber"),
            "{said}"
        );
        node.stop().await;
    });
}
