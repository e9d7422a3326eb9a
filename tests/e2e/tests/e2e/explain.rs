//! What became of single messages: told to whom it may be, before the confirm, as it was.

use waypost_client::{
    Client, Confirmed, Error, Explain, Filter, Identity, Message, PublisherOptions,
};
use waypost_node::config::Manage;
use waypost_wire::Code;
use waypost_wire::control::{EXPLAIN_HEADER, ExplainStep, Explained};

use crate::harness::{self, Setup, messages, peek_all, publish, publish_with, repository, role};

/// Two routes for `in/#`, one of them through a guest that does what it is told, and one that does
/// not match; what the first emits under `again` goes on to `late`.
fn sections(more: &str) -> String {
    let file = repository("tests/fixtures/plugins/puppet.wasm");
    format!(
        "[[queue]]\nname = \"q\"\n[[queue]]\nname = \"copies\"\n[[queue]]\nname = \"late\"\n\
         [[plugin]]\nname = \"p\"\nfile = {file:?}\nrole = \"transform\"\n{more}\n\
         [[route]]\nname = \"first\"\nfrom = \"in/#\"\nthrough = [\"p\"]\n\
         to = [\"queue:q\", \"topic:again\"]\n\
         [[route]]\nname = \"copy\"\nfrom = \"in/x\"\nto = [\"queue:copies\"]\n\
         [[route]]\nname = \"elsewhere\"\nfrom = \"out/#\"\nto = [\"queue:q\"]\n\
         [[route]]\nname = \"later\"\nfrom = \"again\"\nto = [\"queue:late\"]\n"
    )
}

fn order(order: &str) -> Message {
    Message::new("in/x", "old payload").with_header("do", order.to_owned())
}

async fn explained(client: &Client, explain: Explain, messages: &[Message]) -> Vec<Confirmed> {
    let options = PublisherOptions {
        explain,
        ..PublisherOptions::default()
    };
    publish_with(client, options, messages).await
}

async fn one(client: &Client, message: Message) -> Explained {
    let confirmed = explained(client, Explain::Everything, &[message]).await;
    *confirmed[0].explained.clone().expect("it was asked for")
}

/// Message, route, plugin, verdict, detail, and where it is stored.
type Told<'a> = (u32, &'a str, &'a str, &'a str, &'a str, Option<u64>);

fn told(step: &ExplainStep) -> Told<'_> {
    (
        step.message,
        &step.route,
        &step.plugin,
        &step.verdict,
        &step.detail,
        step.is_stored.then_some(step.offset),
    )
}

#[test]
fn each_route_plugin_and_destination_says_what_it_did() {
    harness::run(async {
        let node = Setup::new(&sections("")).start().await;
        let client = node.client().await;
        let filters = [Filter::new("again").unwrap()];
        let _live = client.subscriber(&filters, "").await.unwrap();
        publish(&client, &messages("in/x", 3)).await;
        let explained = one(&client, order("edit")).await;
        assert_eq!((explained.outcome.as_str(), explained.code), ("stored", 0));
        assert!(explained.took_ns > 0 && !explained.is_cut, "{explained:?}");
        let steps: Vec<Told<'_>> = explained.steps.iter().map(told).collect();
        let edit = &explained.steps[0];
        assert_eq!(
            steps,
            [
                (0, "first", "p", "edit", edit.detail.as_str(), None),
                (0, "first", "", "to", "queue:q", Some(3)),
                (0, "first", "", "to", "topic:again", None),
                (0, "copy", "", "to", "queue:copies", Some(3)),
                (1, "later", "", "to", "queue:late", Some(3)),
            ]
        );
        assert!(edit.ns > 0 && edit.batch == 1, "{edit:?}");
        let changes: Vec<(&str, &str, &str)> = edit
            .changes
            .iter()
            .map(|c| (c.field.as_str(), c.before.as_str(), c.after.as_str()))
            .collect();
        assert_eq!(
            changes,
            [
                ("topic", "in/x", "edited/topic"),
                ("key", "", "new-key"),
                ("content-type", "", "text/new"),
                ("ttl", "", "7 ms"),
                ("header added", "", "yes"),
                ("payload", "11 bytes", "11 bytes"),
            ]
        );
        let came: Vec<_> = explained
            .messages
            .iter()
            .map(|m| (m.topic.as_str(), m.depth, m.subscribers))
            .collect();
        assert_eq!(came, [("in/x", 0, 0), ("again", 1, 1)]);
        let met: Vec<_> = explained
            .routes
            .iter()
            .map(|r| (r.message, r.name.as_str(), r.from.as_str(), r.matched))
            .collect();
        assert_eq!(
            met,
            [
                (0, "first", "in/#", true),
                (0, "copy", "in/x", true),
                (0, "elsewhere", "out/#", false),
                (0, "later", "again", false),
                (1, "later", "again", true),
            ]
        );
        // It was published, as any other.
        assert_eq!(harness::queue(&client, "late").await.next_offset, 4);
        node.stop().await;
    });
}

#[test]
fn what_ends_early_is_told_with_its_reason() {
    harness::run(async {
        let node = Setup::new(&sections("")).start().await;
        let client = node.client().await;
        let why = |text: &str| order(text).with_header("why", "because");
        let dropped = one(&client, why("drop")).await;
        let steps: Vec<Told<'_>> = dropped.steps.iter().map(told).collect();
        assert_eq!(steps[0], (0, "first", "p", "drop", "because", None));
        assert_eq!(dropped.outcome, "stored", "its copy was");

        let trapped = one(&client, order("trap")).await;
        let steps: Vec<Told<'_>> = trapped.steps.iter().map(told).collect();
        assert_eq!((steps[0].2, steps[0].3), ("p", "failed"));
        assert!(steps[0].4.starts_with("trap: "), "{steps:?}");
        assert_eq!((steps[1].3, steps[1].5), ("dead-letter", Some(0)));
        assert_eq!(trapped.steps[1].queue, "dead-letter");
        assert_eq!(trapped.outcome, "dead-lettered");

        let rejected = one(&client, why("reject")).await;
        assert_eq!(rejected.outcome, "refused");
        assert_eq!(rejected.code, Code::PluginRejected as u32);
        assert!(rejected.text.contains("because"), "{}", rejected.text);
        assert!(rejected.steps.iter().all(|s| !s.is_stored), "{rejected:?}");

        let nowhere = one(&client, Message::new("nowhere", "")).await;
        assert_eq!(nowhere.outcome, "unroutable");
        assert_eq!(nowhere.steps, []);
        assert!(nowhere.routes.iter().all(|r| !r.matched), "{nowhere:?}");

        let emitted = one(&client, order("emit 2 5")).await;
        let came: Vec<_> = emitted
            .messages
            .iter()
            .map(|m| (m.parent, m.is_new))
            .collect();
        let along = (0, false);
        assert_eq!(came, [(0, true), along, along, (1, true), (2, true)]);
        let stored: Vec<_> = emitted
            .steps
            .iter()
            .map(told)
            .filter(|s| s.5.is_some())
            .collect();
        let places: Vec<_> = stored.iter().map(|s| (s.0, s.4)).collect();
        let first = [(1, "queue:q"), (2, "queue:q"), (0, "queue:copies")];
        assert_eq!(places[..3], first);
        let offset = |step: &Told<'_>| step.5.unwrap_or_default();
        assert_eq!(offset(&stored[1]), offset(&stored[0]) + 1);
        let held = peek_all(&client, "q").await;
        assert_eq!(held.last().unwrap().0, offset(&stored[1]));
        node.stop().await;
    });
}

#[test]
fn a_ring_of_routes_is_a_chain_with_an_end() {
    harness::run(async {
        let ring = "[[route]]\nname = \"ring\"\nfrom = \"ring\"\nto = [\"topic:ring\"]\n";
        let node = Setup::new(ring).start().await;
        let client = node.client().await;
        let explained = one(&client, Message::new("ring", "")).await;
        let depths: Vec<u32> = explained.messages.iter().map(|m| m.depth).collect();
        assert_eq!(depths, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let last = explained.steps.last().unwrap();
        assert_eq!((last.verdict.as_str(), last.offset), ("dead-letter", 0));
        assert!(last.detail.contains("more than 8 times"), "{last:?}");
        node.stop().await;
    });
}

#[test]
fn marked_messages_alone_and_no_more_than_fit() {
    harness::run(async {
        let node = Setup::new(&sections("")).start().await;
        let client = node.client().await;
        let marked = order("pass").with_header(EXPLAIN_HEADER, "");
        let batch = [order("pass"), marked.clone(), order("drop"), marked];
        let confirmed = explained(&client, Explain::Marked, &batch).await;
        let which: Vec<bool> = confirmed.iter().map(|c| c.explained.is_some()).collect();
        assert_eq!(which, [false, true, false, true]);
        let sequence = |c: &Confirmed| c.explained.as_ref().map(|e| e.sequence);
        assert_eq!(sequence(&confirmed[3]), Some(4));
        // Nobody asks, nobody is told.
        let confirmed = explained(&client, Explain::Nothing, &batch).await;
        assert!(confirmed.iter().all(|c| c.explained.is_none()));
        // As many as may be under way, and how many were not.
        let many: Vec<Message> = (0..1_000).map(|_| order("pass")).collect();
        let confirmed = explained(&client, Explain::Everything, &many).await;
        let found = confirmed.iter().filter_map(|c| c.explained.as_ref());
        let (mut number, mut left_out) = (0, 0);
        for explained in found {
            number += 1;
            left_out += explained.left_out as usize;
            assert_eq!(told(&explained.steps[0]).3, "pass");
        }
        let all = number + left_out;
        assert!(number >= 64 && left_out > 0, "{number} and {left_out}");
        assert!(all <= 1_000, "{number} and {left_out}");
        node.stop().await;
    });
}

#[test]
fn only_who_may_look_at_the_node_is_told() {
    harness::run(async {
        let may = |name, manage| role(name, &["in/#"], &["in/x"], manage);
        let setup = Setup::new(&sections(""))
            .role(may("blind", &[]))
            .role(may("seeing", &[Manage::Read]));
        let node = setup.start().await;
        let as_token = |name: &str| node.connect(Identity::Token(name.to_owned()));
        let blind = as_token("blind").await.unwrap();
        let options = PublisherOptions {
            explain: Explain::Marked,
            ..PublisherOptions::default()
        };
        match blind.publisher(options).await {
            Err(Error::Refused { code, message, .. }) => {
                assert_eq!(code, Code::Forbidden, "{message}");
            }
            other => panic!("{:?}", other.map(|_| "a publisher")),
        }
        // What it publishes without asking goes on as ever.
        publish(&blind, &[order("pass")]).await;
        let seeing = as_token("seeing").await.unwrap();
        assert_eq!(one(&seeing, order("pass")).await.outcome, "stored");
        node.stop().await;
    });
}
