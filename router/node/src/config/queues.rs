//! `[[queue]]` and its `[[queue.group]]`: from tables to settings and groups.

use super::names::{Kind, Names};
use super::read::Table;
use super::sections::{MIB, TIB, declared_name, filters};
use super::*;
use waypost_core::journal::GroupKind;
use waypost_core::message_ids::DEDUP_IDS_LIMIT;
use waypost_core::queue::{
    AtLimit, DeliverWhen, Durability, Expired, PRIORITIES_MAX, Retain, SlowGroup,
};
use waypost_shard::{GROUP_FILTERS_MAX, GROUPS_MAX, Start};

/// `[[queue]]`
pub(super) fn queue(
    mut table: Table<'_, '_>,
    limits: &LimitsConfig,
    names: &mut Names,
) -> Option<QueueConfig> {
    let name = declared_name(&mut table, "name", Kind::Queue, names);
    let default = QueueConfig::new("", limits).settings;
    let mut settings = queue_settings(&mut table, default);
    if let Some(found) = table.string("dead_letter") {
        settings.dead_letter.clone_from(&found.value);
        names.dead_letter(name.as_ref(), found);
    }
    let mut groups_declared = Names::default();
    if let Err(error) = waypost_shard::check_settings(&settings) {
        table.error(table.at, Problem::Other(error.to_string()));
    }
    let name_is = |wanted| name.as_ref().is_some_and(|n| n.value == wanted);
    if name_is(DEAD_LETTER) && settings.durability != Durability::Sync {
        let text = "the dead-letter queue must be \"sync\": it holds what was confirmed";
        table.error(table.at, Problem::Other(text.to_owned()));
    }
    let mut groups = Vec::new();
    for table in table.tables("group", "name") {
        groups.extend(group(table, &settings, &mut groups_declared));
    }
    if groups.len() > GROUPS_MAX {
        let text = format!("{} groups, limit {GROUPS_MAX}", groups.len());
        table.error(table.at, Problem::Other(text));
    }
    table.finish();
    Some(QueueConfig {
        name: name?.value,
        settings,
        groups,
    })
}

fn queue_settings(table: &mut Table<'_, '_>, default: Settings) -> Settings {
    const YEAR: Duration = Duration::from_secs(366 * 86_400);
    const ZERO: Duration = Duration::ZERO;
    let ms = |time: Duration| time.as_millis() as u64;
    let some = |value: u64| (value > 0).then_some(value);
    let durability = [
        ("sync", Durability::Sync),
        ("interval", Durability::Interval),
        ("memory", Durability::Memory),
    ];
    let retain = [("until-acked", Retain::UntilAcked), ("log", Retain::Log)];
    let at_limit = [
        ("refuse", AtLimit::Refuse),
        ("drop-oldest", AtLimit::DropOldest),
        ("dead-letter", AtLimit::DeadLetter),
    ];
    let expired = [
        ("dead-letter", Expired::DeadLetter),
        ("drop", Expired::Drop),
    ];
    let deliver = [
        ("synced", DeliverWhen::Synced),
        ("received", DeliverWhen::Received),
    ];
    let slow = [
        ("spill", SlowGroup::Spill),
        ("pause", SlowGroup::Hold),
        ("disconnect", SlowGroup::Close),
    ];
    let deadline = Duration::from_millis(default.ack_deadline_ms);
    let deadlines = Duration::from_millis(100)..=Duration::from_secs(86_400);
    let interval = Duration::from_millis(default.interval_ms);
    let intervals = Duration::from_millis(1)..=Duration::from_secs(60);
    let backoff_max = Duration::from_millis(default.backoff_max_ms);
    let attempts = table.number("deliver_max", default.deliver_max.into(), 0..=1_000_000);
    let mut duration = |key, default, range| ms(table.duration(key, default, range));
    let times = Settings {
        ack_deadline_ms: duration("ack_deadline", deadline, deadlines),
        age_max_ms: some(duration("age_max", ZERO, ZERO..=100 * YEAR)),
        ttl_ms: some(duration("ttl", ZERO, ZERO..=100 * YEAR)),
        backoff_ms: duration("backoff", ZERO, ZERO..=Duration::from_secs(86_400)),
        backoff_max_ms: duration("backoff_max", backoff_max, interval..=7 * YEAR / 366),
        dedup_window_ms: some(duration("dedup_window", ZERO, ZERO..=YEAR)),
        interval_ms: duration("interval", interval, intervals),
        ..Settings::default()
    };
    Settings {
        from: filters(table, "from"),
        durability: table.choice("durability", default.durability, &durability),
        bytes_max: table.size("bytes_max", default.bytes_max, MIB..=1024 * TIB),
        messages_max: some(table.number("messages_max", 0, 0..=u64::MAX >> 2)),
        deliver_max: match attempts {
            0 => u32::MAX,
            attempts => attempts as u32,
        },
        retain: table.choice("retain", default.retain, &retain),
        at_limit: table.choice("at_limit", default.at_limit, &at_limit),
        expired: table.choice("expired", default.expired, &expired),
        priorities: table.number("priorities", 1, 1..=PRIORITIES_MAX.into()) as u8,
        dedup_ids_max: table.number(
            "dedup_ids_max",
            default.dedup_ids_max.into(),
            1..=DEDUP_IDS_LIMIT.into(),
        ) as u32,
        last_value: table.boolean("last_value", false),
        deliver: table.choice("deliver", default.deliver, &deliver),
        slow: table.choice("slow", default.slow, &slow),
        slow_messages: some(table.number("slow_messages", 0, 0..=u64::MAX >> 2)),
        ..times
    }
}

/// `[[queue.group]]`
fn group(mut table: Table<'_, '_>, queue: &Settings, declared: &mut Names) -> Option<GroupConfig> {
    let name = declared_name(&mut table, "name", Kind::Group, declared);
    let kinds = [GroupKind::Shared, GroupKind::Exclusive, GroupKind::Key];
    let starts = [("beginning", Start::Beginning), ("end", Start::End)];
    let options = GroupOptions {
        kind: table.choice(
            "kind",
            GroupKind::Shared,
            &kinds.map(|kind| (kind.as_str(), kind)),
        ),
        filters: filters(&mut table, "filters"),
    };
    let start = table.choice("start", Start::Beginning, &starts);
    if options.kind == GroupKind::Key && queue.priorities > 1 {
        let text = "the order of a key and the queue's priorities exclude each other";
        table.error(table.at, Problem::Other(text.to_owned()));
    }
    if options.filters.len() > GROUP_FILTERS_MAX {
        let text = format!(
            "{} filters, limit {GROUP_FILTERS_MAX}",
            options.filters.len()
        );
        table.error(table.at, Problem::Other(text));
    }
    table.finish();
    Some(GroupConfig {
        name: name?.value,
        options,
        start,
    })
}
