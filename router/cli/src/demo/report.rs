//! What the demo shows at its end: what was counted, by whom, and whether all agree.

use std::time::Duration;

use serde_json::{Map, Value, json};
use waypost_client::wire::control::{PluginState, QueueState};

use super::events::Expected;
use super::week::{CONSUMERS, Tally};
use crate::output::Style;
use crate::table::Table;
use crate::units::{self, count};

/// A count of the router's, and the same count of the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    what: String,
    router: u64,
    file: u64,
}

impl Check {
    fn new(what: impl Into<String>, router: u64, file: u64) -> Check {
        let what = what.into();
        Check { what, router, file }
    }

    /// Whether the two agree.
    pub fn agrees(&self) -> bool {
        self.router == self.file
    }
}

/// What the node itself says after a pass.
pub struct NodeCounts {
    /// Its queues.
    pub queues: Vec<QueueState>,
    /// Its plugins.
    pub plugins: Vec<PluginState>,
}

/// Compares the counts of a pass. The node counts since it started, so its counts are compared
/// with `passes` weeks.
pub fn checks(tally: &Tally, node: &NodeCounts, expected: &Expected, passes: u64) -> Vec<Check> {
    let plugin = |name: &str| {
        let plugin = node.plugins.iter().find(|plugin| plugin.name == name);
        plugin.map_or(0, |plugin| plugin.messages)
    };
    let mut checks = vec![
        Check::new("published", tally.confirms.len() as u64, expected.published),
        Check::new(
            "kept (magnitude ≥ 3), by confirms",
            tally.kept(),
            expected.kept,
        ),
        Check::new("dropped, by confirms", tally.dropped(), expected.dropped()),
        Check::new(
            "route quakes: into plugin strong",
            plugin("strong"),
            passes * expected.published,
        ),
        Check::new(
            "route quakes: into plugin alert",
            plugin("alert"),
            passes * expected.kept,
        ),
        Check::new(
            "route quakes: into plugin dispatch",
            plugin("dispatch"),
            passes * expected.kept,
        ),
    ];
    for (name, messages) in &expected.queues {
        let queue = node.queues.iter().find(|queue| queue.name == *name);
        let published = queue.map_or(0, |queue| queue.published);
        let route = if *name == "major" { "major" } else { "quakes" };
        let what = format!("route {route}: into queue {name}");
        checks.push(Check::new(what, published, passes * messages));
    }
    for (topic, messages) in &expected.live {
        let seen = tally.live.get(*topic).copied().unwrap_or(0);
        checks.push(Check::new(format!("live on {topic}"), seen, *messages));
    }
    let pacific = expected.queues.get("pacific").copied().unwrap_or(0);
    for (group, names) in [("duty", "duty-1 + duty-2"), ("archive", "archive-1")] {
        let of_group = CONSUMERS.iter().zip(&tally.consumed);
        let consumed = of_group
            .filter(|((_, g, _), _)| *g == group)
            .map(|(_, n)| n)
            .sum();
        let what = format!("consumed by {names}");
        checks.push(Check::new(what, consumed, pacific + tally.redelivered));
        let state = node.queues.iter().flat_map(|queue| &queue.groups);
        let pending = state.filter(|g| g.name == group).map(|g| g.pending).sum();
        checks.push(Check::new(
            format!("not acked in group {group}"),
            pending,
            0,
        ));
    }
    checks
}

/// The counts, side by side.
pub fn check_lines(checks: &[Check], style: Style) -> Vec<String> {
    let mut table = Table::new(&["count", "router#", "file#", ""]);
    for check in checks {
        let word = match check.agrees() {
            true => "✓",
            false => "✗ differs",
        };
        table.row([
            check.what.clone(),
            count(check.router),
            count(check.file),
            word.into(),
        ]);
    }
    let lines = table.lines(1, style);
    let colored = lines
        .into_iter()
        .map(|line| match line.ends_with("✗ differs") {
            true => style.red(&line),
            false => line.replace('✓', &style.green("✓")),
        });
    colored.collect()
}

/// Who did how much.
pub fn work_lines(tally: &Tally, node: &NodeCounts, style: Style) -> Vec<String> {
    let mut table = Table::new(&["plugin", "role", "messages#", "calls#", "time/message#"]);
    for plugin in &node.plugins {
        let each = plugin.busy_ns.checked_div(plugin.messages).unwrap_or(0);
        table.row([
            plugin.name.clone(),
            plugin.role.clone(),
            count(plugin.messages),
            count(plugin.calls),
            units::duration(Duration::from_nanos(each)),
        ]);
    }
    let mut lines = table.lines(1, style);
    lines.push(String::new());
    let mut table = Table::new(&["consumer", "queue", "group", "messages#"]);
    for ((queue, group, name), consumed) in CONSUMERS.iter().zip(tally.consumed) {
        let text = |text: &&str| (*text).to_owned();
        table.row([text(name), text(queue), text(group), count(consumed)]);
    }
    lines.extend(table.lines(1, style));
    lines
}

/// Percentiles of the three ways.
pub fn latency_lines(tally: &Tally, style: Style) -> Vec<String> {
    let mut table = Table::new(&["latency", "p50#", "p90#", "p99#", "max#"]);
    for (name, times) in latencies(tally) {
        let times = Percentiles::of(times);
        let at = |permille| units::duration(times.at(permille));
        table.row([
            name.replace("_to_", " → "),
            at(500),
            at(900),
            at(990),
            at(1000),
        ]);
    }
    table.lines(1, style)
}

fn latencies(tally: &Tally) -> [(&'static str, &[Duration]); 3] {
    [
        ("publish_to_confirm", &tally.confirm_times),
        ("publish_to_deliver", &tally.deliver_times),
        ("publish_to_live", &tally.live_times),
    ]
}

/// Exact percentiles: there are few enough samples to sort them.
struct Percentiles(Vec<Duration>);

impl Percentiles {
    fn of(times: &[Duration]) -> Percentiles {
        let mut times = times.to_vec();
        times.sort_unstable();
        Percentiles(times)
    }

    /// The smallest time that so many of a thousand do not exceed.
    fn at(&self, permille: usize) -> Duration {
        let rank = (self.0.len() * permille).div_ceil(1000);
        self.0
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }
}

/// Messages in a second.
pub fn rate(messages: usize, time: Duration) -> u64 {
    (messages as f64 / time.as_secs_f64().max(1e-9)).round() as u64
}

/// Everything of a pass, for programs.
pub fn to_json(tally: &Tally, node: &NodeCounts, checks: &[Check]) -> Value {
    let check = |c: &Check| json!({"what": c.what, "router": c.router, "file": c.file, "agrees": c.agrees()});
    let mut latency = Map::new();
    for (name, times) in latencies(tally) {
        let times = Percentiles::of(times);
        let us = |permille| times.at(permille).as_micros() as u64;
        let value = json!({"p50": us(500), "p90": us(900), "p99": us(990), "max": us(1000)});
        latency.insert(format!("{name}_us"), value);
    }
    let consumer = |((queue, group, name), consumed): (&(&str, &str, &str), &u64)| json!({"queue": queue, "group": group, "consumer": name, "messages": consumed});
    let plugin = |p: &PluginState| json!({"plugin": p.name, "role": p.role, "messages": p.messages, "calls": p.calls, "busy_ns": p.busy_ns});
    let queue = |q: &QueueState| json!({"queue": q.name, "published": q.published});
    json!({
        "published": tally.confirms.len(),
        "kept": tally.kept(),
        "dropped": tally.dropped(),
        "levels": tally.levels,
        "exceptions": tally.exceptions,
        "queues": node.queues.iter().map(queue).collect::<Vec<_>>(),
        "plugins": node.plugins.iter().map(plugin).collect::<Vec<_>>(),
        "consumers": CONSUMERS.iter().zip(&tally.consumed).map(consumer).collect::<Vec<_>>(),
        "live": tally.live,
        "lost": tally.lost,
        "redelivered": tally.redelivered,
        "publishing_ms": tally.publishing.as_secs_f64() * 1e3,
        "rate_per_second": rate(tally.confirms.len(), tally.publishing),
        "latency": latency,
        "checks": checks.iter().map(check).collect::<Vec<_>>(),
        "agrees": checks.iter().all(Check::agrees),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let times = Percentiles::of(&times);
        let ms = [500, 990, 1000].map(|permille| times.at(permille).as_millis());
        assert_eq!(ms, [100, 198, 200]);
        assert_eq!(Percentiles::of(&[]).at(500), Duration::ZERO);
    }

    #[test]
    fn a_difference_shows() {
        let checks = [
            Check::new("kept", 216, 217),
            Check::new("published", 1707, 1707),
        ];
        let lines = check_lines(&checks, Style::plain());
        assert!(lines[2].contains("216     217   ✗ differs"), "{lines:?}");
        assert!(lines[3].ends_with('✓') && !checks[0].agrees());
    }
}
