//! Requests about shadows: what a client asks, what it is answered.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use waypost_core::shadow::{Example, Told};
use waypost_wire::control::{
    self, DiffExample, DiffRow, DiffSide, ManagedResponse, PluginDiff, PluginFailure, PluginName,
    PluginShadow,
};
use waypost_wire::{Code, Filter, RecordRef};

use super::changes::shadow_of;
use super::{MILLION, Shadow};
use crate::connection::Conn;
use crate::explain;
use crate::plugins::requests::{change, deploy_of, deployed, done, find, refused, tell};
use crate::stream_io::StreamError;

/// See `changes`.
pub(crate) async fn begin(
    conn: &Arc<Conn>,
    request: PluginShadow,
) -> Result<ManagedResponse, StreamError> {
    let invalid = |text: String| StreamError::Refused(Code::Invalid, text);
    let deploy = request
        .deploy
        .ok_or_else(|| invalid("names no component".to_owned()))?;
    let sample_ppm = match request.sample_ppm {
        0 => MILLION,
        ppm if ppm <= MILLION => ppm,
        ppm => return Err(invalid(format!("sample of {ppm} in a million"))),
    };
    let (mut deploy, stock) = deploy_of(conn, deploy)?;
    let name = deploy.name.clone();
    let result = change(conn, move |plugins| {
        if let Some(stock) = stock {
            deploy.digest = plugins.take_stock(&stock)?;
        }
        plugins.begin_shadow(&deploy, sample_ppm)
    })
    .await;
    tell(conn, "shadowed", &name, &result);
    result.map(|()| done())
}

/// See `changes`.
pub(crate) async fn promote(
    conn: &Arc<Conn>,
    PluginName { plugin }: PluginName,
) -> Result<ManagedResponse, StreamError> {
    let (name, by) = (plugin.clone(), conn.principal.name.to_string());
    let result = change(conn, move |plugins| plugins.promote(&plugin, &by)).await;
    tell(conn, "promoted", &name, &result);
    result.map(deployed)
}

/// See `changes`.
pub(crate) async fn discard(
    conn: &Arc<Conn>,
    PluginName { plugin }: PluginName,
) -> Result<ManagedResponse, StreamError> {
    let name = plugin.clone();
    let result = change(conn, move |plugins| plugins.discard(&plugin)).await;
    tell(conn, "freed of its shadow", &name, &result);
    result.map(|()| done())
}

/// What a shadow found. Messages are shown to those who may subscribe to their topics, and to the
/// topics of what came of them.
pub(crate) fn diff(conn: &Conn, name: &str) -> Result<ManagedResponse, StreamError> {
    let slot = find(&conn.node.routing.load(), name)?;
    let shadow = shadow_of(&slot).map_err(|error| refused(&error))?;
    let may_see_topic = |topic: &str| {
        let filter = Filter::new(topic);
        filter.is_ok_and(|filter| conn.principal.permissions.may_subscribe(&filter).is_ok())
    };
    // Its own topic, and those of all that came of it.
    let may_see = |example: &&Example| {
        let record = RecordRef::parse(&example.body);
        let made = example.serving.topics().chain(example.shadow.topics());
        record.is_ok_and(|record| may_see_topic(record.topic())) && { made }.all(may_see_topic)
    };
    let numbers = &shadow.numbers;
    let comparison = shadow.comparison().clone();
    let examples: Vec<&Example> = comparison.examples().collect();
    let shown: Vec<DiffExample> = examples
        .iter()
        .copied()
        .filter(may_see)
        .map(example)
        .collect();
    let rows = comparison
        .rows()
        .iter()
        .map(|((serving, shadow), row)| DiffRow {
            serving: (*serving).to_owned(),
            shadow: (*shadow).to_owned(),
            messages: row.messages,
            different: row.different,
        });
    let mut bytes = 0;
    let bytes_max = conn.client_frame_bytes_max as usize / 2;
    let shown: Vec<DiffExample> = shown
        .into_iter()
        .take_while(|example| {
            bytes += control::length_of(example);
            bytes <= bytes_max
        })
        .collect();
    let total = comparison.total();
    let stats = shadow.stats.snapshot();
    Ok(ManagedResponse::PluginDiff(Box::new(PluginDiff {
        plugin: name.to_owned(),
        version: shadow.about.beside,
        digest: shadow.about.digest.clone(),
        since_ms: shadow.about.since_ms,
        by: shadow.about.by.clone(),
        sample_ppm: shadow.about.sample_ppm,
        ended: shadow.ended().unwrap_or_default(),
        offered: numbers.offered.load(Relaxed),
        compared: total.messages,
        different: total.different,
        dropped: numbers.dropped.load(Relaxed),
        rows: rows.collect(),
        hidden: (examples.len() - shown.len()) as u64,
        examples: shown,
        serving_ns: numbers.serving_ns.load(Relaxed),
        shadow_ns: numbers.shadow_ns.load(Relaxed),
        failures: stats.failures,
        traps: stats.traps,
        deadlines: numbers.deadlines.load(Relaxed),
        memory_bytes: numbers.memory_bytes.load(Relaxed),
        call_p50_ns: stats.quantile_ns(0.5),
        call_p99_ns: stats.quantile_ns(0.99),
        errors: errors(&shadow),
    })))
}

fn errors(shadow: &Shadow) -> Vec<PluginFailure> {
    let failed = shadow.stats.last_errors().into_iter();
    failed
        .map(|failed| PluginFailure {
            time_ms: failed.time_ms,
            text: failed.text,
            times: failed.times,
        })
        .collect()
}

fn example(example: &Example) -> DiffExample {
    DiffExample {
        record: example.body.clone(),
        time_ms: example.time_ms,
        route: example.route.to_string(),
        what: example.difference.as_str().to_owned(),
        serving: Some(side(&example.serving)),
        shadow: Some(side(&example.shadow)),
        between: example.between.iter().map(explain::change).collect(),
        payload_bytes: example.cut_from.unwrap_or(0),
    }
}

fn side(told: &Told) -> DiffSide {
    DiffSide {
        verdict: told.verdict.to_owned(),
        detail: told.detail.clone(),
        changes: told.changes.iter().map(explain::change).collect(),
        messages: told.messages.clone(),
        published: told.published.clone(),
    }
}
