use super::*;
use crate::route::{OnError, PluginEntry, Retry, Route};
use waypost_wire::{Filter, Message, RecordRef};

fn body(topic: &str, payload: &str) -> Bytes {
    Message::new(topic, Bytes::copy_from_slice(payload.as_bytes())).to_body()
}

fn payload(body: &Bytes) -> String {
    String::from_utf8(RecordRef::parse(body).unwrap().payload().to_vec()).unwrap()
}

fn plugin(name: &str, on_error: OnError) -> PluginEntry {
    PluginEntry {
        name: name.into(),
        on_error,
        batch_max: 256,
        retry: Retry {
            attempts: 3,
            pause_ms: 100,
            pause_ms_max: 300,
        },
        is_serial: false,
    }
}

fn route(name: &str, from: &str, through: &[u16], to: &[&str]) -> Route {
    let to = to
        .iter()
        .map(|t| match t.split_once(':') {
            Some(("queue", name)) => Destination::Queue(name.into()),
            Some(("topic", name)) => Destination::Topic(name.into()),
            _ => Destination::Drop,
        })
        .collect();
    Route {
        name: name.into(),
        from: Filter::new(from).unwrap(),
        through: through.to_vec(),
        to,
        is_final: false,
    }
}

/// Runs a batch; `call` plays the plugins.
fn run(
    table: RouteTable,
    inputs: &[Bytes],
    mut call: impl FnMut(u16, Vec<String>) -> Result<Vec<Verdict>, Failure>,
) -> Outcome {
    let table = Arc::new(table);
    let routes: Vec<Vec<u16>> = inputs
        .iter()
        .map(|b| table.matching(RecordRef::parse(b).unwrap().topic()))
        .collect();
    let inputs = inputs
        .iter()
        .zip(&routes)
        .map(|(b, r)| (b.clone(), r.as_slice(), false));
    let mut run = Run::new(table.clone(), Limits::default(), inputs, &Traced::All);
    let mut calls = 0;
    loop {
        let answer = match run.step() {
            Step::Done => return run.finish(),
            Step::Hold { .. } => continue,
            Step::Call { plugin, items, .. } => {
                call(plugin, items.iter().map(|i| payload(&i.body)).collect())
            }
        };
        calls += 1;
        assert!(calls < 10_000, "no end");
        match answer {
            Ok(verdicts) if verdicts.iter().all(|v| *v == Verdict::Pass) && verdicts.len() == 1 => {
                run.all_passed()
            }
            Ok(verdicts) => drop(run.verdicts(verdicts, Vec::new())),
            Err(failure) => run.failed(failure),
        }
    }
}

fn trap() -> Failure {
    Failure {
        kind: "trap",
        text: "unreachable".into(),
        backtrace: Some("at f".into()),
    }
}

fn queue(outcome: &Outcome, name: &str) -> Vec<String> {
    let found = outcome.queues.iter().find(|(n, _)| &**n == name);
    found
        .map(|(_, o)| o.iter().map(|o| payload(&o.body)).collect())
        .unwrap_or_default()
}

#[test]
fn filter_edit_choose() {
    let table = RouteTable::new(
        vec![
            route("r", "a/#", &[0, 1, 2], &["queue:x", "queue:y"]),
            route("all", "#", &[], &["queue:all"]),
        ],
        vec![
            plugin("f", OnError::DeadLetter),
            plugin("t", OnError::DeadLetter),
            plugin("r", OnError::DeadLetter),
        ],
    );
    let inputs = [
        body("a/1", "1"),
        body("b", "2"),
        body("a/3", "3"),
        body("a/4", "4"),
    ];
    let outcome = run(table, &inputs, |plugin, items| {
        let verdict = |item: &String| match (plugin, item.as_str()) {
            (0, "3") => Verdict::Drop("odd".into()),
            (0, _) => Verdict::Pass,
            (1, item) => Verdict::Replace(body("a/new", &format!("{item}!"))),
            (_, "1!") => Verdict::To(vec![1]),
            _ => Verdict::To(vec![0, 1]),
        };
        Ok(items.iter().map(verdict).collect())
    });
    assert_eq!(queue(&outcome, "x"), ["4!"]);
    assert_eq!(queue(&outcome, "y"), ["1!", "4!"]);
    assert_eq!(queue(&outcome, "all"), ["1", "2", "3", "4"]);
    assert_eq!(outcome.exceptions, []);
    let steps = |input: usize| -> Vec<(&str, &str)> {
        let steps = outcome.traces[input].steps.iter();
        steps.map(|s| (s.verdict, s.detail.as_str())).collect()
    };
    assert_eq!(
        steps(0),
        [
            ("pass", ""),
            ("edit", "16 bytes"),
            ("to", "queue:y"),
            ("to", "queue:y"),
            ("to", "queue:all"),
        ]
    );
    assert_eq!(steps(1), [("to", "queue:all")]);
    assert_eq!(steps(2)[0], ("drop", "odd"));
    let edit = &outcome.traces[3].steps[1];
    let changed: Vec<&str> = edit.changes.iter().map(|c| c.field.as_str()).collect();
    assert_eq!(changed, ["topic", "payload"]);
    assert_eq!((edit.plugin.as_deref(), edit.batch), (Some("t"), 2));
}

#[test]
fn only_the_guilty_message_is_hurt() {
    for (on_error, kept) in [
        (OnError::DeadLetter, 255),
        (OnError::Reject, 255),
        (OnError::Pass, 256),
    ] {
        let table = RouteTable::new(
            vec![route("r", "#", &[0], &["queue:q"])],
            vec![plugin("p", on_error)],
        );
        let inputs: Vec<Bytes> = (0..256).map(|i| body("t", &i.to_string())).collect();
        let mut traps = 0;
        let outcome = run(table, &inputs, |_, items| {
            if items.contains(&"77".to_owned()) {
                traps += 1;
                return Err(trap());
            }
            Ok(vec![Verdict::Pass; items.len()])
        });
        let got = queue(&outcome, "q");
        assert_eq!(got.len(), kept);
        assert!(
            got.windows(2)
                .all(|w| w[0].parse::<u32>().unwrap() < w[1].parse().unwrap())
        );
        assert_eq!(traps, 9, "256 halved to 1");
        match on_error {
            OnError::DeadLetter => {
                assert_eq!(outcome.exceptions[0].1, ExceptionKind::DeadLettered);
                let record = RecordRef::parse(&outcome.dead[0].body).unwrap();
                assert_eq!(record.header("waypost-dead-plugin"), Some(&b"p"[..]));
                assert_eq!(
                    record.header("waypost-dead-reason"),
                    Some(&b"trap: unreachable"[..])
                );
                assert_eq!(record.header("waypost-dead-backtrace"), Some(&b"at f"[..]));
            }
            OnError::Reject => assert_eq!(
                outcome.exceptions,
                [(
                    77,
                    ExceptionKind::Refused,
                    Code::PluginFailed,
                    "route 'r', plugin 'p': trap: unreachable".into()
                )]
            ),
            OnError::Pass => assert_eq!(outcome.exceptions, []),
        }
    }
}

/// A batch whose plugin is not called, and what `tell` says instead.
fn not_called(on_error: OnError, tell: impl Fn(&mut Run)) -> Outcome {
    let table = RouteTable::new(
        vec![route("r", "#", &[0], &["queue:q"])],
        vec![plugin("p", on_error)],
    );
    let inputs = (0..3).map(|i| (body("t", &i.to_string()), &[0u16][..], false));
    let mut run = Run::new(Arc::new(table), Limits::default(), inputs, &Traced::None);
    assert!(matches!(run.step(), Step::Call { .. }));
    tell(&mut run);
    assert!(matches!(run.step(), Step::Done));
    run.finish()
}

#[test]
fn what_a_plugin_is_not_called_with_meets_on_error_or_is_refused() {
    let paused = Failure {
        kind: "paused",
        text: "by desk".into(),
        backtrace: None,
    };
    let outcome = not_called(OnError::DeadLetter, |run| run.not_called(&paused));
    let reasons: Vec<&str> = outcome.dead.iter().map(|d| d.reason.as_str()).collect();
    assert_eq!(reasons, ["route 'r', plugin 'p': paused: by desk"; 3]);
    assert_eq!(outcome.queues, [], "nothing is left for the queue");
    let outcome = not_called(OnError::Pass, |run| run.not_called(&paused));
    assert_eq!(queue(&outcome, "q"), ["0", "1", "2"]);
    let code = Code::PluginUnavailable;
    let outcome = not_called(OnError::Pass, |run| run.refused(code, "paused"));
    assert_eq!(queue(&outcome, "q"), [""; 0]);
    let said: Vec<_> = outcome.exceptions.iter().map(|e| (e.0, e.1, e.2)).collect();
    let refused = |input| (input, ExceptionKind::Refused, code);
    assert_eq!(said, [refused(0), refused(1), refused(2)]);
}

#[test]
fn a_refused_message_leaves_nothing_behind() {
    let table = RouteTable::new(
        vec![
            route("a", "t", &[], &["queue:a", "topic:b/c"]),
            route("r", "t", &[0], &["queue:r"]),
        ],
        vec![plugin("p", OnError::DeadLetter)],
    );
    let outcome = run(table, &[body("t", "1"), body("t", "2")], |_, items| {
        Ok(items
            .iter()
            .map(|i| {
                if i == "1" {
                    Verdict::Reject("no".into())
                } else {
                    Verdict::Pass
                }
            })
            .collect())
    });
    assert_eq!(queue(&outcome, "r"), ["2"]);
    assert!(!queue(&outcome, "a").contains(&"1".to_owned()));
    assert!(outcome.live.iter().all(|o| o.input == 1));
    assert_eq!(outcome.exceptions.len(), 1);
}

#[test]
fn emissions_re_enter_and_loops_end() {
    let table = RouteTable::new(
        vec![
            route("in", "in", &[0], &["topic:loop"]),
            route("loop", "loop", &[], &["topic:loop", "queue:q"]),
        ],
        vec![plugin("split", OnError::DeadLetter)],
    );
    let outcome = run(table, &[body("in", "x")], |_, _| {
        Ok(vec![Verdict::Emit(vec![body("in", "1"), body("in", "2")])])
    });
    // Eight re-entries each: the first by `in`, seven by `loop`, which fills the queue each time.
    assert_eq!(outcome.live.len(), 16);
    assert_eq!(queue(&outcome, "q").len(), 16);
    assert_eq!(outcome.dead.len(), 2);
    assert!(
        outcome.dead[0]
            .reason
            .contains("re-entered routing more than 8 times"),
        "{}",
        outcome.dead[0].reason
    );
}

#[test]
fn order_holds_in_a_queue_that_several_routes_lead_to() {
    let table = RouteTable::new(
        vec![
            route("late", "late", &[], &["queue:q"]),
            route("early", "early", &[], &["queue:q"]),
            route("both", "#", &[], &["topic:again"]),
            route("again", "again", &[], &["queue:q"]),
        ],
        vec![],
    );
    let inputs = [body("early", "1"), body("late", "2"), body("early", "3")];
    let outcome = run(table, &inputs, |_, _| unreachable!("there is no plugin"));
    assert_eq!(
        outcome.dead.len(),
        3,
        "`again` is taken by `both` too, for ever"
    );
    let copies = queue(&outcome, "q");
    assert!(copies.is_sorted(), "{copies:?}");
    assert_eq!(copies.iter().filter(|copy| *copy == "2").count(), 9);
}

#[test]
fn nothing_takes_it() {
    let table = RouteTable::new(vec![route("d", "d", &[], &["drop"])], vec![]);
    let outcome = run(
        table,
        &[body("x", ""), body("d", "")],
        |_, _| unreachable!(),
    );
    let kinds: Vec<_> = outcome
        .exceptions
        .iter()
        .map(|(i, kind, ..)| (*i, *kind))
        .collect();
    assert_eq!(
        kinds,
        [(0, ExceptionKind::Unroutable), (1, ExceptionKind::Dropped)]
    );
}

#[test]
fn a_wrong_number_of_verdicts_is_a_failure() {
    let table = RouteTable::new(
        vec![route("r", "#", &[0], &["queue:q"])],
        vec![plugin("p", OnError::Reject)],
    );
    let outcome = run(table, &[body("t", "1"), body("t", "2")], |_, _| Ok(vec![]));
    assert_eq!(outcome.exceptions.len(), 2);
    assert!(
        outcome.exceptions[0]
            .3
            .contains("0 verdicts for 1 messages"),
        "{}",
        outcome.exceptions[0].3
    );
}

/// What a run asks for, step by step: calls with their payloads, and pauses.
struct Scripted {
    run: Run,
}

impl Scripted {
    fn new(plugin: PluginEntry, payloads: &[&str]) -> Scripted {
        let routes = vec![
            route("r", "in", &[0], &["queue:q"]),
            route("o", "out", &[], &["queue:o"]),
        ];
        let table = Arc::new(RouteTable::new(routes, vec![plugin]));
        let inputs = payloads.iter().map(|p| (body("in", p), &[0u16][..], false));
        let run = Run::new(
            table,
            Limits::default(),
            inputs.collect::<Vec<_>>(),
            &Traced::None,
        );
        Scripted { run }
    }

    fn call(&mut self) -> Vec<String> {
        match self.run.step() {
            Step::Call { items, .. } => items.iter().map(|i| payload(&i.body)).collect(),
            other => panic!("a call expected, not {other:?}"),
        }
    }

    fn hold(&mut self) -> u64 {
        match self.run.step() {
            Step::Hold { ms } => ms,
            other => panic!("a pause expected, not {other:?}"),
        }
    }

    fn end(mut self) -> Vec<(String, Vec<String>)> {
        assert!(matches!(self.run.step(), Step::Done));
        let outcome = self.run.finish();
        let dead = outcome.dead.iter().map(|d| d.reason.clone()).collect();
        let queue = |(name, outputs): &(Arc<str>, Vec<Output>)| {
            (
                name.to_string(),
                outputs.iter().map(|o| payload(&o.body)).collect(),
            )
        };
        let mut all: Vec<_> = outcome.queues.iter().map(queue).collect();
        all.push(("dead".to_owned(), dead));
        all
    }
}

#[test]
fn a_message_that_is_tried_again_is_overtaken_by_none() {
    let mut script = Scripted::new(plugin("p", OnError::DeadLetter), &["a", "b", "c"]);
    assert_eq!(script.call(), ["a", "b", "c"]);
    let later = vec![Verdict::Pass, Verdict::Retry(0), Verdict::Pass];
    assert!(!script.run.verdicts(later, vec![]));
    assert_eq!(script.hold(), 100);
    assert_eq!(script.call(), ["b", "c"], "what passed is not called again");
    let later = vec![Verdict::Retry(7), Verdict::Pass];
    assert!(!script.run.verdicts(later, vec![]));
    assert_eq!(script.hold(), 7, "as the plugin asked");
    assert_eq!(script.call(), ["b", "c"]);
    script.run.all_passed();
    let queues = [("q".to_owned(), vec!["a".into(), "b".into(), "c".into()])];
    assert_eq!(script.end()[..1], queues);
}

#[test]
fn a_message_that_is_tried_too_often_meets_on_error_alone() {
    let mut script = Scripted::new(plugin("p", OnError::DeadLetter), &["a", "b"]);
    let mut pauses = Vec::new();
    for _ in 0..3 {
        assert_eq!(script.call(), ["a", "b"]);
        let later = vec![Verdict::Retry(0), Verdict::Pass];
        assert!(!script.run.verdicts(later, vec![]));
        pauses.push(script.hold());
    }
    assert_eq!(pauses, [100, 200, 300], "doubled, bounded");
    script.call();
    assert!(
        !script
            .run
            .verdicts(vec![Verdict::Retry(0), Verdict::Pass], vec![])
    );
    assert_eq!(script.call(), ["b"]);
    script.run.all_passed();
    let end = script.end();
    assert_eq!(end[0], ("q".to_owned(), vec!["b".to_owned()]));
    assert_eq!(
        end[1].1,
        ["route 'r', plugin 'p': retry: asked to be called later, 4 times"]
    );
}

#[test]
fn what_a_plugin_lacks_holds_the_whole_call() {
    let mut script = Scripted::new(plugin("p", OnError::Reject), &["a", "b"]);
    for pause in [100, 200, 300] {
        assert_eq!(script.call(), ["a", "b"]);
        script.run.unavailable("no table");
        assert_eq!(script.hold(), pause);
    }
    script.call();
    script.run.unavailable("no table");
    assert_eq!(
        script.call(),
        ["a"],
        "then it is split, without more pauses"
    );
    script.run.unavailable("no table");
    assert_eq!(script.call(), ["b"]);
    script.run.all_passed();
    assert!(matches!(script.run.step(), Step::Done));
    let texts: Vec<String> = script
        .run
        .finish()
        .exceptions
        .into_iter()
        .map(|e| e.3)
        .collect();
    assert_eq!(
        texts,
        ["route 'r', plugin 'p': unavailable: no table, 4 times"]
    );
}

#[test]
fn a_serial_plugin_s_call_counts_whole_or_not_at_all() {
    let serial = PluginEntry {
        is_serial: true,
        ..plugin("p", OnError::DeadLetter)
    };
    let mut script = Scripted::new(serial, &["a", "b", "c"]);
    script.call();
    let later = || vec![Verdict::Pass, Verdict::Retry(0), Verdict::Pass];
    assert!(!script.run.verdicts(later(), vec![(0, body("out", "no"))]));
    assert_eq!(
        script.call(),
        ["a"],
        "what passed is called again, by itself"
    );
    assert!(
        script
            .run
            .verdicts(vec![Verdict::Pass], vec![(0, body("out", "of a"))])
    );
    assert_eq!(script.call(), ["b", "c"]);
    assert!(!script.run.verdicts(later()[1..].to_vec(), vec![]));
    assert_eq!(script.call(), ["b"]);
    assert!(
        !script
            .run
            .verdicts(vec![Verdict::Retry(0)], vec![(0, body("out", "no"))])
    );
    assert_eq!(script.hold(), 100);
    assert_eq!(script.call(), ["b"]);
    assert!(script.run.verdicts(
        vec![Verdict::Drop(String::new())],
        vec![(0, body("out", "of b"))]
    ));
    assert_eq!(script.call(), ["c"]);
    script.run.all_passed();
    let end = script.end();
    assert_eq!(
        end[0],
        ("q".to_owned(), vec!["a".to_owned(), "c".to_owned()])
    );
    assert_eq!(
        end[1],
        ("o".to_owned(), vec!["of a".to_owned(), "of b".to_owned()])
    );
}

#[test]
fn what_is_published_for_a_refused_message_goes_with_it() {
    let mut script = Scripted::new(plugin("p", OnError::DeadLetter), &["a", "b"]);
    script.call();
    let verdicts = vec![Verdict::Reject("no".into()), Verdict::Pass];
    let published = vec![(0, body("out", "of a")), (1, body("out", "of b"))];
    assert!(script.run.verdicts(verdicts, published));
    let end = script.end();
    assert_eq!(end[0].1, ["b"]);
    assert_eq!(end[1].1, ["of b"]);
}

#[test]
fn what_is_published_in_a_ring_ends_in_the_dead_letters() {
    let mut script = Scripted::new(plugin("p", OnError::DeadLetter), &["a"]);
    for _ in 0..=8 {
        assert_eq!(script.call(), ["a"]);
        let again = vec![(0, body("in", "a"))];
        assert!(
            script
                .run
                .verdicts(vec![Verdict::Drop(String::new())], again)
        );
    }
    let end = script.end();
    assert_eq!(
        end[0].1,
        ["route 'r': re-entered routing more than 8 times, last as 'in'"]
    );
}

#[test]
fn what_a_timer_publishes_is_routed() {
    let routes = vec![route("o", "out", &[], &["queue:o"])];
    let table = Arc::new(RouteTable::new(routes, vec![]));
    let bodies = vec![body("out", "1"), body("elsewhere", "2")];
    let mut run = Run::of_published(table, Limits::default(), bodies);
    assert!(matches!(run.step(), Step::Done));
    let outcome = run.finish();
    assert_eq!((outcome.queues.len(), outcome.live.len()), (1, 2));
    assert!(outcome.exceptions.is_empty());
}

#[test]
fn many_culprits_do_not_cost_a_split_each() {
    let payloads: Vec<String> = (0..256).map(|i| i.to_string()).collect();
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    let mut script = Scripted::new(plugin("p", OnError::Pass), &payloads);
    let mut calls = 0;
    while let Step::Call { .. } = script.run.step() {
        calls += 1;
        script.run.failed(trap());
    }
    // 16 splits that halve, then those that break what is left into single messages.
    assert!(calls < 256 + 32, "{calls} calls");
}

#[test]
fn a_plugin_out_of_service_is_not_called_and_not_split() {
    let mut script = Scripted::new(plugin("p", OnError::DeadLetter), &["a", "b"]);
    script.call();
    script.run.one_by_one();
    assert_eq!(script.call(), ["a"], "to probe with");
    script.run.not_called(&trap());
    assert_eq!(script.call(), ["b"]);
    script.run.all_passed();
    assert_eq!(script.end()[1].1.len(), 1);
}

#[test]
fn what_is_left_out_goes_nowhere_and_is_said() {
    let mut script = Scripted::new(plugin("p", OnError::DeadLetter), &["a", "b"]);
    script
        .run
        .leave_out(&[0], ExceptionKind::Duplicate, "taken before");
    assert_eq!(script.call(), ["b"]);
    script.run.all_passed();
    assert!(matches!(script.run.step(), Step::Done));
    let outcome = script.run.finish();
    assert_eq!(outcome.exceptions.len(), 1);
    assert_eq!(
        (outcome.exceptions[0].0, outcome.exceptions[0].1),
        (0, ExceptionKind::Duplicate)
    );
}

#[test]
fn a_trace_is_a_tree_of_what_came_of_a_message() {
    let table = RouteTable::new(
        vec![
            route("split", "a", &[0, 1], &["topic:b", "queue:x"]),
            route("again", "b", &[], &["queue:y"]),
        ],
        vec![
            plugin("emits", OnError::DeadLetter),
            plugin("fails", OnError::DeadLetter),
        ],
    );
    let inputs = [body("a", "1"), body("a", "2")];
    let outcome = run(table, &inputs, |plugin, items| {
        let verdict = |item: &String| match (plugin, item.as_str()) {
            (0, "2") => Verdict::Emit(vec![body("a", "2a"), body("a", "2b")]),
            (1, "2b") => Verdict::Failed(trap()),
            _ => Verdict::Pass,
        };
        Ok(items.iter().map(verdict).collect())
    });
    let trace = &outcome.traces[1];
    let came: Vec<_> = trace
        .messages
        .iter()
        .map(|m| {
            let origin = m.origin.as_ref();
            let by = origin.map(|o| (o.parent, o.plugin.as_deref(), o.is_new));
            (m.topic.as_str(), m.depth, by)
        })
        .collect();
    assert_eq!(
        came,
        [
            ("a", 0, None),
            ("a", 0, Some((0, Some("emits"), false))),
            ("a", 0, Some((0, Some("emits"), false))),
            ("b", 1, Some((1, None, true))),
        ]
    );
    let steps: Vec<_> = trace
        .steps
        .iter()
        .map(|s| (s.message, &*s.route, s.verdict, s.detail.as_str()))
        .collect();
    assert_eq!(
        steps,
        [
            (0, "split", "emit", "2 messages"),
            (1, "split", "pass", ""),
            (2, "split", "failed", "trap: unreachable"),
            (2, "split", "dead-letter", "trap: unreachable"),
            (1, "split", "to", "topic:b"),
            (1, "split", "to", "queue:x"),
            (3, "again", "to", "queue:y"),
        ]
    );
    assert!(!trace.is_cut);
}

#[test]
fn what_a_plugin_asks_for_later_is_told_each_time() {
    let table = RouteTable::new(
        vec![route("r", "a", &[0], &["queue:x"])],
        vec![plugin("p", OnError::DeadLetter)],
    );
    let mut calls = 0;
    let outcome = run(table, &[body("a", "1"), body("a", "2")], |_, items| {
        calls += 1;
        let verdict = if calls < 3 {
            Verdict::Retry(7)
        } else {
            Verdict::Drop("at last".into())
        };
        Ok(vec![verdict; items.len()])
    });
    let steps = outcome.traces[0].steps.iter();
    let steps: Vec<_> = steps.map(|s| (s.verdict, s.detail.as_str())).collect();
    assert_eq!(
        steps,
        [
            ("retry", "after 7 ms"),
            ("retry", "after 7 ms"),
            ("drop", "at last")
        ]
    );
}
