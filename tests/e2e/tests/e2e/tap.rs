//! Taps: what they show, to whom, and that nobody waits for one.

use waypost_client::{Client, Error, Identity, Message, RecordRef, Tapping};
use waypost_node::config::Manage;
use waypost_wire::control::{self, Manage as Request, ManageRequest, Tap, TappedMessage};
use waypost_wire::{Code, FrameType};

use crate::harness::{self, Setup, messages, publish, publish_all, repository, role, text};
use crate::raw::Dial;

fn sections() -> String {
    let file = repository("tests/fixtures/plugins/puppet.wasm");
    format!(
        "[[queue]]\nname = \"q\"\n[[queue]]\nname = \"plain\"\nfrom = [\"plain/#\"]\n\
         [[plugin]]\nname = \"p\"\nfile = {file:?}\nrole = \"transform\"\n\
         [[route]]\nname = \"r\"\nfrom = \"in/#\"\nthrough = [\"p\"]\n\
         to = [\"queue:q\", \"topic:again\"]\n\
         [[route]]\nname = \"s\"\nfrom = \"again\"\nto = [\"queue:q\"]\n"
    )
}

fn order(order: &str) -> Message {
    Message::new("in/x", order.to_owned()).with_header("do", order.to_owned())
}

fn message(body: &[u8]) -> Message {
    RecordRef::parse(body).unwrap().to_message()
}

/// Waits for so many messages.
async fn see(tapping: &mut Tapping, count: usize) -> Vec<TappedMessage> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let tapped = tapping.next().await.unwrap().expect("the tap goes on");
        assert_eq!(tapped.dropped, 0);
        seen.extend(tapped.messages);
    }
    assert_eq!(seen.len(), count);
    seen
}

fn refusal<T>(result: Result<T, Error>) -> (Code, String) {
    match result.err().expect("it is refused") {
        Error::Refused { code, message, .. } => (code, message),
        other => panic!("{other}"),
    }
}

#[test]
fn each_place_shows_what_passes_there() {
    harness::run(async {
        let node = Setup::new(&sections()).start().await;
        let client = node.client().await;
        let tap = |route: &str, plugin: &str, after, filter: &str| {
            client.tap(Tap {
                route: route.to_owned(),
                plugin: plugin.to_owned(),
                after,
                filter: filter.to_owned(),
                ..Tap::default()
            })
        };
        let mut topics = tap("", "", false, "plain/+").await.unwrap();
        let mut before = tap("", "p", false, "").await.unwrap();
        let mut after = tap("r", "p", true, "").await.unwrap();
        let mut enters = tap("r", "", false, "").await.unwrap();
        let mut again = tap("s", "", false, "").await.unwrap();
        publish_all(&client, &[Message::new("plain/x", "1")]).await;
        // Each in a batch of its own, so that none is called again for another.
        let all = ["pass", "drop", "edit", "trap"];
        for what in all {
            publish(&client, &[order(what)]).await;
        }
        let seen = see(&mut topics, 1).await;
        assert_eq!(text(&message(&seen[0].record)), "1");
        let what = |seen: &[TappedMessage]| -> Vec<String> {
            seen.iter().map(|s| text(&message(&s.record))).collect()
        };
        assert_eq!(what(&see(&mut enters, 4).await), all);
        let calls = see(&mut before, 4).await;
        assert_eq!(what(&calls), all);
        let place = (calls[0].route.as_str(), calls[0].plugin.as_str());
        assert_eq!((place, calls[0].verdict.as_str()), (("r", "p"), ""));
        let said = see(&mut after, 4).await;
        let verdicts: Vec<&str> = said.iter().map(|s| s.verdict.as_str()).collect();
        assert_eq!(verdicts, ["pass", "drop", "edit", "failed"]);
        assert_eq!(text(&message(&said[2].after[0])), "new payload");
        assert!(said[3].detail.starts_with("trap: "), "{}", said[3].detail);
        let came = see(&mut again, 2).await;
        assert!(came.iter().all(|m| message(&m.record).topic == "again"));
        node.stop().await;
    });
}

#[test]
fn a_tap_ends_when_it_was_asked_to_and_when_its_client_goes() {
    harness::run(async {
        let node = Setup::new(&sections()).start().await;
        let client = node.client().await;
        let counted = Tap {
            filter: "plain/#".to_owned(),
            count: 3,
            ..Tap::default()
        };
        let mut tapping = client.tap(counted).await.unwrap();
        publish_all(&client, &messages("plain/x", 5)).await;
        assert_eq!(see(&mut tapping, 3).await.len(), 3);
        assert_eq!(tapping.next().await.unwrap(), None);
        let timed = Tap {
            filter: "plain/#".to_owned(),
            for_ms: 1,
            ..Tap::default()
        };
        let mut tapping = client.tap(timed).await.unwrap();
        assert_eq!(tapping.next().await.unwrap(), None);
        // As many as there may be; those that are let go make room.
        let all = || Tap {
            filter: "#".to_owned(),
            ..Tap::default()
        };
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(client.tap(all()).await.unwrap());
        }
        let (code, said) = refusal(client.tap(all()).await);
        assert_eq!(code, Code::Busy, "{said}");
        drop(held);
        while refused_as_busy(&client, all()).await {}
        // Those of a client that is gone, too.
        let other = node.client().await;
        for _ in 0..7 {
            let tapping = other.tap(all()).await.unwrap();
            std::mem::forget(tapping);
        }
        other.close().await;
        while refused_as_busy(&client, all()).await {}
        node.stop().await;
    });
}

async fn refused_as_busy(client: &Client, tap: Tap) -> bool {
    match client.tap(tap).await {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(refusal::<()>(Err(error)).0, Code::Busy);
            true
        }
    }
}

#[test]
fn what_cannot_be_tapped_is_said_precisely() {
    harness::run(async {
        let node = Setup::new(&sections()).start().await;
        let client = node.client().await;
        let named = |route: &str, plugin: &str| Tap {
            route: route.to_owned(),
            plugin: plugin.to_owned(),
            ..Tap::default()
        };
        for (tap, code, words) in [
            (named("nowhere", ""), Code::NotFound, "no route 'nowhere'"),
            (named("", "nobody"), Code::NotFound, "no plugin 'nobody'"),
            (
                named("s", "p"),
                Code::Invalid,
                "route 's' does not go through plugin 'p'",
            ),
            (
                Tap {
                    after: true,
                    ..named("r", "")
                },
                Code::Invalid,
                "after which plugin?",
            ),
            (
                Tap {
                    filter: "a/#/b".to_owned(),
                    ..Tap::default()
                },
                Code::BadTopic,
                "filter 'a/#/b' ",
            ),
            (
                Tap {
                    sample_ppm: 1_000_001,
                    ..Tap::default()
                },
                Code::Invalid,
                "1000001 in a million",
            ),
        ] {
            let (got, text) = refusal(client.tap(tap).await);
            assert_eq!(got, code, "{text}");
            assert!(text.contains(words), "{text}");
        }
        node.stop().await;
    });
}

#[test]
fn a_client_sees_the_topics_that_it_may_subscribe_to() {
    harness::run(async {
        let may = |name, manage| role(name, &[], &["plain/open"], manage);
        let setup = Setup::new(&sections())
            .role(may("blind", &[]))
            .role(may("seeing", &[Manage::Read]));
        let node = setup.start().await;
        let as_token = |name: &str| node.connect(Identity::Token(name.to_owned()));
        let all = || Tap {
            filter: "#".to_owned(),
            ..Tap::default()
        };
        let blind = as_token("blind").await.unwrap();
        let (code, said) = refusal(blind.tap(all()).await);
        assert_eq!(code, Code::Forbidden, "{said}");
        let seeing = as_token("seeing").await.unwrap();
        let mut tapping = seeing.tap(all()).await.unwrap();
        let client = node.client().await;
        publish_all(&client, &messages("plain/secret", 3)).await;
        publish_all(&client, &messages("plain/open", 1)).await;
        let (mut seen, mut hidden) = (Vec::new(), 0);
        while seen.is_empty() || hidden < 3 {
            let tapped = tapping.next().await.unwrap().expect("it goes on");
            hidden = tapped.hidden;
            seen.extend(tapped.messages);
        }
        assert_eq!((seen.len(), hidden), (1, 3));
        assert_eq!(message(&seen[0].record).topic, "plain/open");
        node.stop().await;
    });
}

#[test]
fn nobody_waits_for_a_reader_that_does_not_read() {
    const COUNT: usize = 4_000;
    harness::run(async {
        let node = Setup::new(&sections()).start().await;
        let dial = Dial {
            stream_window: 16 << 10,
            ..Dial::default()
        };
        let raw = dial.welcomed(&node).await;
        let request = Request {
            request: Some(ManageRequest::Tap(Tap {
                filter: "#".to_owned(),
                ..Tap::default()
            })),
        };
        let mut unread = raw
            .stream(&control::bytes_of(FrameType::Manage, &request))
            .await;
        let first = unread.next().await.expect("it is attached");
        assert_eq!(first.kind, FrameType::Managed);
        // Nothing more is read. All is confirmed, through a plugin and past it.
        let client = node.client().await;
        let payload = "x".repeat(1_000);
        for topic in ["in/x", "plain/x"] {
            let batch = vec![Message::new(topic, payload.clone()); COUNT];
            publish_all(&client, &batch).await;
        }
        assert_eq!(
            harness::queue(&client, "plain").await.messages,
            COUNT as u64
        );
        // Who reads at last learns that the rest is gone: far more than its window and the ring hold.
        let mut dropped = 0;
        while dropped <= 1_000 {
            let frame = unread.next().await.expect("it goes on");
            let managed: control::Managed = control::parse(&frame).unwrap();
            let Some(control::ManagedResponse::Tap(tapped)) = managed.response else {
                panic!("{managed:?}");
            };
            assert!(tapped.dropped >= dropped, "a total");
            dropped = tapped.dropped;
        }
        node.stop().await;
    });
}
