//! `waypost queue ls` and `info`: a queue's numbers, settings and groups, for people and programs.

use serde_json::{Value, json};
use waypost_client::GroupKind;
use waypost_client::wire::control::{GroupState, QueueState};

use super::queue_settings::{self, Shown};
use crate::output::Output;
use crate::table::Table;
use crate::units::{count, size};

/// All queues.
pub fn list(queues: &[QueueState], output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(&queues.iter().map(to_json).collect::<Vec<_>>());
    }
    let mut table = Table::new(&[
        "queue",
        "durability",
        "messages#",
        "size#",
        "published#",
        "acked#",
        "groups#",
        "consumers#",
        "source",
    ]);
    for queue in queues {
        let consumers: u64 = queue.groups.iter().map(|g| u64::from(g.consumers)).sum();
        let settings = queue.settings.as_ref();
        table.row([
            queue.name.clone(),
            settings.map_or("", queue_settings::durability).into(),
            count(queue.messages),
            size(queue.bytes),
            count(queue.published),
            count(queue.acked),
            count(queue.groups.len() as u64),
            count(consumers),
            queue.source.clone(),
        ]);
    }
    output.lines(table.lines(0, output.style()))
}

/// One queue: what it holds, which settings are not the default, and its groups.
pub fn info(queue: &QueueState, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(&to_json(queue));
    }
    let style = output.style();
    let fact =
        |name: &str, value: String| format!("  {}  {value}", style.dim(&format!("{name:<13}")));
    output.line(style.bold(&queue.name))?;
    output.lines([
        fact(
            "messages",
            format!("{} ({})", count(queue.messages), size(queue.bytes)),
        ),
        fact(
            "offsets",
            format!("{} to {}", queue.first_offset, queue.next_offset),
        ),
        fact("source", queue.source.clone()),
        fact("incarnation", queue.incarnation.clone()),
        fact(
            "since start",
            format!(
                "{} published, {} delivered, {} acked, {} expired, {} dropped, {} dead-lettered",
                count(queue.published),
                count(queue.delivered),
                count(queue.acked),
                count(queue.expired),
                count(queue.dropped),
                count(queue.dead_lettered)
            ),
        ),
    ])?;
    let settings = queue.settings.clone().unwrap_or_default();
    let is_told = |shown: &Shown| !shown.is_default || shown.name == "durability";
    let told = queue_settings::shown(&settings).into_iter().filter(is_told);
    output.lines(told.map(|shown| fact(&shown.name.replace('_', " "), shown.text)))?;
    if queue.groups.is_empty() {
        return output.line("\n  no group yet: the first `waypost consume` makes one");
    }
    output.line("")?;
    output.lines(groups_table(&queue.groups).lines(2, style))
}

/// The groups of a queue.
pub fn groups(queue: &QueueState, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        let groups: Vec<Value> = queue.groups.iter().map(group_to_json).collect();
        return output.json(&groups);
    }
    output.lines(groups_table(&queue.groups).lines(0, output.style()))
}

fn groups_table(groups: &[GroupState]) -> Table {
    let mut table = Table::new(&[
        "group",
        "kind",
        "pending#",
        "in flight#",
        "acked below#",
        "next offset#",
        "consumers#",
        "redelivered#",
        "filters",
    ]);
    for group in groups {
        table.row([
            group.name.clone(),
            kind(group).into(),
            count(group.pending),
            count(group.in_flight),
            group.acked_below.to_string(),
            group.next_offset.to_string(),
            group.consumers.to_string(),
            count(group.redelivered),
            group.filters.join(", "),
        ]);
    }
    table
}

fn kind(group: &GroupState) -> &'static str {
    match GroupKind::try_from(group.kind) {
        Ok(GroupKind::Shared) => "shared",
        Ok(GroupKind::Exclusive) => "exclusive",
        Ok(GroupKind::Key) => "key",
        Err(_) => "unknown",
    }
}

fn group_to_json(group: &GroupState) -> Value {
    json!({
        "name": group.name,
        "kind": kind(group),
        "filters": group.filters,
        "acked_below": group.acked_below,
        "next_offset": group.next_offset,
        "pending": group.pending,
        "in_flight": group.in_flight,
        "consumers": group.consumers,
        "redelivered": group.redelivered,
    })
}

fn to_json(queue: &QueueState) -> Value {
    let settings = queue.settings.clone().unwrap_or_default();
    let groups: Vec<Value> = queue.groups.iter().map(group_to_json).collect();
    let mut object = queue_settings::to_json(&settings);
    for (name, value) in [
        ("name", json!(queue.name)),
        ("first_offset", json!(queue.first_offset)),
        ("next_offset", json!(queue.next_offset)),
        ("messages", json!(queue.messages)),
        ("bytes", json!(queue.bytes)),
        ("first_time_ms", json!(queue.first_time_ms)),
        ("groups", groups.into()),
        ("source", json!(queue.source)),
        ("incarnation", json!(queue.incarnation)),
        ("published", json!(queue.published)),
        ("delivered", json!(queue.delivered)),
        ("acked", json!(queue.acked)),
        ("expired", json!(queue.expired)),
        ("dropped", json!(queue.dropped)),
        ("dead_lettered", json!(queue.dead_lettered)),
    ] {
        object.insert(name.to_owned(), value);
    }
    object.into()
}
