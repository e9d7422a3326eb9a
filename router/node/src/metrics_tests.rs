//! What Prometheus reads, held against what was counted and against the document.

use super::*;

fn example() -> String {
    let metrics = Metrics::default();
    metrics.clients.connections.increment();
    metrics.clients.consumers.decrement();
    metrics.publish.messages.add(300);
    metrics.publish.refused.add(2);
    metrics
        .wal
        .committed(256, 40_960, Duration::from_micros(200));
    metrics
        .wal
        .committed(40_000, 4_096, Duration::from_secs(60));
    let queue = QueueStat {
        name: "a\"b\\".to_owned(),
        messages: 7,
        groups: vec![GroupStat {
            name: "g".to_owned(),
            lag_messages: 5,
            ..GroupStat::default()
        }],
        ..QueueStat::default()
    };
    let plugin = PluginStat {
        name: "p".to_owned(),
        busy_us: 1_500_000,
        in_service: true,
        version: 3,
        call_times: (vec![(0.001, 5)], 7),
        ..PluginStat::default()
    };
    render(&metrics, &[queue], &[plugin])
}

#[test]
fn samples() {
    let text = example();
    for line in [
        "waypost_connections 1",
        "waypost_consumers 0",
        "waypost_received_messages_total 300",
        "waypost_outcome_messages_total{outcome=\"refused\"} 2",
        "waypost_wal_groups_total 2",
        "waypost_wal_sync_seconds_bucket{le=\"0.000128\"} 0",
        "waypost_wal_sync_seconds_bucket{le=\"0.000256\"} 1",
        "waypost_wal_sync_seconds_bucket{le=\"+Inf\"} 2",
        "waypost_wal_sync_seconds_sum 60.0002",
        "waypost_wal_group_messages_bucket{le=\"256\"} 1",
        "waypost_wal_group_messages_count 2",
        "waypost_queue_messages{queue=\"a\\\"b\\\\\"} 7",
        "waypost_group_lag_messages{queue=\"a\\\"b\\\\\",group=\"g\"} 5",
        "waypost_plugin_busy_seconds_total{plugin=\"p\"} 1.5",
        "waypost_plugin_in_service{plugin=\"p\"} 1",
        "waypost_plugin_version{plugin=\"p\"} 3",
        "waypost_plugin_call_seconds_bucket{plugin=\"p\",le=\"0.001\"} 5",
        "waypost_plugin_call_seconds_bucket{plugin=\"p\",le=\"+Inf\"} 7",
        "waypost_plugin_call_seconds_sum{plugin=\"p\"} 1.5",
    ] {
        assert!(text.lines().any(|l| l == line), "no line {line} in\n{text}");
    }
}

#[test]
fn every_sample_has_help_and_type_and_no_topic() {
    let text = example();
    let mut families = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            families.push(rest.split(' ').next().unwrap());
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let of = |f: &&&str| name.strip_prefix(**f).is_some_and(is_suffix);
            assert!(families.iter().find(of).is_some(), "{line}");
            assert!(!line.contains("topic="), "{line}");
        }
    }
    let count = families.len();
    families.sort_unstable();
    families.dedup();
    assert_eq!(families.len(), count, "a family twice");
}

#[test]
fn every_metric_is_documented() {
    let operations = include_str!("../../../docs/operations.md");
    for line in example().lines() {
        let Some(rest) = line.strip_prefix("# TYPE ") else {
            continue;
        };
        let name = rest.split(' ').next().unwrap();
        let documented = operations.contains(&format!("`{name}`"));
        assert!(documented, "{name} is not in docs/operations.md");
    }
}

fn is_suffix(rest: &str) -> bool {
    ["", "_bucket", "_sum", "_count"].contains(&rest)
}
