//! Requests about plugins and routes: what a client asks, what it is answered.
//!
//! A change is made on a thread of its own, so that nothing of it holds up the connections of its
//! lane; it goes on when the client that asked is gone. Who may ask is for `manage`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use quinn::SendStream;
use tokio::sync::mpsc;
use waypost_core::breaker::State;
use waypost_core::route::Destination;
use waypost_wire::control::{
    self, Done, LogLine, Managed, ManagedResponse, PluginDeploy, PluginDeployed, PluginDetail,
    PluginFailure, PluginListed, PluginLogged, PluginLogs, PluginState, PluginUpload,
    PluginVersion, RouteAdd, RouteListed, RouteState, Setting,
};
use waypost_wire::{CHUNK_BYTES_MAX, Code, FrameType};

use super::changes::{Deploy, Deployed};
use super::error::ChangeError;
use super::live::Plugins;
use super::logs::{Line, level_name};
use super::record::{Pair, Pause, RouteRecord};
use super::slot::{self, Slot};
use super::store::COMPONENT_BYTES_MAX;
use crate::connection::Conn;
use crate::routing::Routing;
use crate::stream_io::{FrameReader, StreamError};

/// How long the next part of a component may take.
const CHUNK_PATIENCE: Duration = Duration::from_secs(30);
/// Parts that wait for the disk.
const CHUNKS_WAITING: usize = 4;
/// How long workers may take to say what their instances hold.
const MEASURE_PATIENCE: Duration = Duration::from_millis(500);

pub(super) fn refused(error: &ChangeError) -> StreamError {
    StreamError::Refused(error.code(), error.to_string())
}

/// Work that waits for the disk or a compiler.
async fn blocking<T: Send + 'static>(
    conn: &Conn,
    work: impl FnOnce(&Plugins) -> Result<T, ChangeError> + Send + 'static,
) -> Result<T, StreamError> {
    let plugins = conn.node.plugins.clone();
    match tokio::task::spawn_blocking(move || work(&plugins)).await {
        Ok(result) => result.map_err(|error| refused(&error)),
        Err(_) => {
            let text = "the change failed, and its thread with it".to_owned();
            Err(StreamError::Refused(Code::Internal, text))
        }
    }
}

/// A change that is prepared first: one at a time.
pub(super) async fn change<T: Send + 'static>(
    conn: &Conn,
    work: impl FnOnce(&Plugins) -> Result<T, ChangeError> + Send + 'static,
) -> Result<T, StreamError> {
    let turn = conn.node.plugins.turn.clone().lock_owned().await;
    blocking(conn, move |plugins| {
        let _turn = turn;
        work(plugins)
    })
    .await
}

pub(super) fn done() -> ManagedResponse {
    ManagedResponse::Done(Done::default())
}

/// SHA-256 in hexadecimal digits, with or without `sha256:` before them.
fn digest(text: &str) -> Result<String, StreamError> {
    let named = match text.starts_with("sha256:") {
        true => text.to_owned(),
        false => format!("sha256:{text}"),
    };
    crate::config::plugins::parse_digest(&named).ok_or_else(|| {
        let text = format!("digest {text:?}: 64 hexadecimal digits expected");
        StreamError::Refused(Code::Invalid, text)
    })
}

/// Takes in a component. The answer comes at once where it is here already.
pub(crate) async fn upload(
    conn: &Arc<Conn>,
    upload: PluginUpload,
    reader: &mut FrameReader,
) -> Result<ManagedResponse, StreamError> {
    let refuse = |code, text: String| Err(StreamError::Refused(code, text));
    let digest = digest(&upload.digest)?;
    if !(1..=COMPONENT_BYTES_MAX).contains(&upload.bytes) {
        let text = format!(
            "component of {} bytes, 1 to {COMPONENT_BYTES_MAX} expected",
            upload.bytes
        );
        return refuse(Code::TooLarge, text);
    }
    if conn.node.metrics.disk_full.get() > 0 {
        return refuse(Code::DiskFull, "no disk space for a component".to_owned());
    }
    let Ok(_place) = conn.node.plugins.uploads.try_acquire() else {
        return refuse(Code::Busy, "other components are arriving".to_owned());
    };
    let wanted = digest.clone();
    let is_here = blocking(conn, move |plugins| {
        let is_here = plugins.store.check_blob(&wanted).is_ok();
        if is_here {
            plugins.came(&wanted);
        }
        Ok(is_here)
    })
    .await?;
    if is_here {
        return Ok(done());
    }
    let (chunks, mut waiting) = mpsc::channel::<Bytes>(CHUNKS_WAITING);
    let bytes = upload.bytes;
    let writing = blocking(conn, move |plugins| {
        let mut upload = plugins.store.upload(&digest, bytes)?;
        while let Some(chunk) = waiting.blocking_recv() {
            upload.write(&chunk)?;
        }
        upload.finish()?;
        plugins.came(&digest);
        Ok(())
    });
    // What is wrong with the stream outweighs what is therefore missing on disk.
    let (written, sent) = tokio::join!(writing, receive(reader, chunks));
    sent?;
    written?;
    Ok(ManagedResponse::Done(Done {
        count: bytes,
        ..Done::default()
    }))
}

/// Passes on what arrives until the client ends its half.
async fn receive(reader: &mut FrameReader, chunks: mpsc::Sender<Bytes>) -> Result<(), StreamError> {
    loop {
        let next = tokio::time::timeout(CHUNK_PATIENCE, reader.next()).await;
        let Ok(next) = next else {
            let seconds = CHUNK_PATIENCE.as_secs();
            let text = format!("no part of the component for {seconds} s");
            return Err(StreamError::Refused(Code::Timeout, text));
        };
        let Some(frame) = next? else { return Ok(()) };
        if frame.kind != FrameType::Chunk {
            return Err(frame.unexpected("CHUNK").into());
        }
        let length = frame.payload.len();
        if length > CHUNK_BYTES_MAX {
            let text = format!(
                "CHUNK of {length} bytes at stream offset {}, limit {CHUNK_BYTES_MAX}",
                frame.offset
            );
            return Err(StreamError::Refused(Code::TooLarge, text));
        }
        if chunks.send(frame.payload).await.is_err() {
            // The other side says why.
            return Ok(());
        }
    }
}

fn pairs(settings: Vec<Setting>) -> Vec<Pair> {
    settings.into_iter().map(|s| (s.name, s.value)).collect()
}

/// Settings for people's eyes. Which of them are secret its schema says; while no component is
/// loaded nobody knows, and none is shown.
fn shown_settings(pairs: &[Pair], code: Option<&slot::Code>) -> Vec<Setting> {
    let mut shown = settings(pairs);
    for setting in &mut shown {
        match code {
            None => "(not shown while the plugin is down)".clone_into(&mut setting.value),
            Some(code) if code.secrets.contains(&setting.name) => {
                "(secret)".clone_into(&mut setting.value);
            }
            Some(_) => {}
        }
    }
    shown
}

fn settings(pairs: &[Pair]) -> Vec<Setting> {
    let setting = |(name, value): &Pair| Setting {
        name: name.clone(),
        value: value.clone(),
    };
    pairs.iter().map(setting).collect()
}

pub(super) fn deployed(deployed: Deployed) -> ManagedResponse {
    ManagedResponse::PluginDeploy(PluginDeployed {
        version: deployed.version,
        before: deployed.before,
        unchanged: deployed.is_unchanged,
    })
}

/// See `changes`.
pub(crate) async fn deploy(
    conn: &Arc<Conn>,
    request: PluginDeploy,
) -> Result<ManagedResponse, StreamError> {
    let (mut deploy, stock) = deploy_of(conn, request)?;
    let name = deploy.name.clone();
    let result = change(conn, move |plugins| {
        if let Some(stock) = stock {
            deploy.digest = plugins.take_stock(&stock)?;
        }
        plugins.deploy(&deploy)
    })
    .await;
    tell(conn, "deployed", &name, &result);
    result.map(deployed)
}

/// A version as it is asked for, and the stock plugin whose component it is to have.
pub(super) fn deploy_of(
    conn: &Conn,
    request: PluginDeploy,
) -> Result<(Deploy, Option<String>), StreamError> {
    let has_grants = request.set_grants || !request.grants.is_empty();
    let stock = request.digest.strip_prefix(crate::shelf::PREFIX);
    let stock = stock.map(str::to_owned);
    let deploy = Deploy {
        name: request.plugin,
        digest: match stock {
            Some(_) => String::new(),
            None => digest(&request.digest)?,
        },
        signature: request.signature,
        by: conn.principal.name.to_string(),
        inherit: !request.fresh,
        role: Some(request.role).filter(|role| !role.is_empty()),
        settings: pairs(request.settings),
        grants: has_grants.then_some(request.grants),
        publish: request.publish,
        limits: pairs(request.limits),
        on_error: request.on_error,
    };
    Ok((deploy, stock))
}

/// See `changes`.
pub(crate) async fn roll_back(
    conn: &Arc<Conn>,
    request: control::PluginRollback,
) -> Result<ManagedResponse, StreamError> {
    let name = request.plugin.clone();
    let to = Some(request.to).filter(|to| *to > 0);
    let result = change(conn, move |plugins| plugins.roll_back(&request.plugin, to)).await;
    tell(conn, "rolled back", &name, &result);
    result.map(deployed)
}

/// See `changes`.
pub(crate) async fn pause(
    conn: &Arc<Conn>,
    request: control::PluginPause,
) -> Result<ManagedResponse, StreamError> {
    let pause = if request.hold {
        Pause::Hold
    } else {
        Pause::OnError
    };
    let name = request.plugin.clone();
    let result = blocking(conn, move |plugins| plugins.pause(&request.plugin, pause)).await;
    tell(conn, "paused", &name, &result);
    result.map(|()| done())
}

/// See `changes`.
pub(crate) async fn resume(conn: &Arc<Conn>, name: String) -> Result<ManagedResponse, StreamError> {
    let plugin = name.clone();
    let result = change(conn, move |plugins| plugins.resume(&plugin)).await;
    tell(conn, "resumed", &name, &result);
    result.map(|()| done())
}

/// See `changes`.
pub(crate) async fn remove(conn: &Arc<Conn>, name: String) -> Result<ManagedResponse, StreamError> {
    let plugin = name.clone();
    let result = change(conn, move |plugins| plugins.remove(&plugin)).await;
    tell(conn, "removed", &name, &result);
    result.map(|()| done())
}

pub(super) fn tell<T>(conn: &Conn, what: &str, plugin: &str, result: &Result<T, StreamError>) {
    let by = &conn.principal.name;
    match result {
        Ok(_) => tracing::info!(plugin, %by, "plugin {what}"),
        Err(error) => tracing::warn!(plugin, %by, %error, "plugin not {what}"),
    }
}

/// Adds a route whose queues are there.
pub(crate) async fn add_route(
    conn: &Arc<Conn>,
    request: RouteAdd,
    queues: &[String],
) -> Result<ManagedResponse, StreamError> {
    let Some(route) = request.route else {
        let text = "names no route".to_owned();
        return Err(StreamError::Refused(Code::Invalid, text));
    };
    let record = RouteRecord {
        name: route.name,
        from: route.from,
        through: route.through,
        to: route.to,
        is_final: route.is_final,
        before: None,
    };
    let mut named = record.to.iter().filter_map(|to| to.strip_prefix("queue:"));
    if let Some(missing) = named.find(|name| !queues.iter().any(|queue| queue == name)) {
        let text = format!("route '{}': no queue '{missing}'", record.name);
        return Err(StreamError::Refused(Code::NotFound, text));
    }
    let before = Some(request.before).filter(|before| !before.is_empty());
    change(conn, move |plugins| {
        plugins.add_route(record, before.as_deref())
    })
    .await?;
    Ok(done())
}

/// Removes a route that the network made.
pub(crate) async fn remove_route(
    conn: &Arc<Conn>,
    name: String,
) -> Result<ManagedResponse, StreamError> {
    change(conn, move |plugins| plugins.remove_route(&name)).await?;
    Ok(done())
}

/// All routes, in the order in which they run.
pub(crate) fn routes(conn: &Conn) -> ManagedResponse {
    let routing = conn.node.routing.load();
    let table = &routing.table;
    let of_queue = table.routes().iter().skip(routing.planned.len());
    let of_queue = of_queue.filter(|route| route.name.starts_with("queue:"));
    let destinations = |to: &[Destination]| to.iter().map(ToString::to_string).collect();
    let planned = routing.planned.iter().map(|route| RouteState {
        name: route.name.to_string(),
        from: route.from.as_str().to_owned(),
        through: route.through.iter().map(ToString::to_string).collect(),
        to: destinations(&route.to),
        is_final: route.is_final,
        source: if route.is_configured {
            "config"
        } else {
            "network"
        }
        .to_owned(),
    });
    let of_queues = of_queue.map(|route| RouteState {
        name: route.name.to_string(),
        from: route.from.as_str().to_owned(),
        through: Vec::new(),
        to: destinations(&route.to),
        is_final: route.is_final,
        source: "queue".to_owned(),
    });
    ManagedResponse::RouteList(RouteListed {
        routes: planned.chain(of_queues).collect(),
    })
}

/// All slots.
pub(crate) fn list(conn: &Conn) -> ManagedResponse {
    let routing = conn.node.routing.load();
    let plugins = routing.slots.iter().map(|slot| state(slot)).collect();
    ManagedResponse::PluginList(PluginListed { plugins })
}

pub(super) fn find(routing: &Routing, name: &str) -> Result<Arc<Slot>, StreamError> {
    let slot = routing
        .slots
        .iter()
        .find(|slot| &*slot.name == name)
        .cloned();
    slot.ok_or_else(|| StreamError::Refused(Code::NotFound, format!("no plugin '{name}'")))
}

fn state(slot: &Slot) -> PluginState {
    let (code, stats) = (slot.code.as_ref().ok(), &slot.stats);
    let version = stats.snapshot().since(&slot.began);
    PluginState {
        name: slot.name.to_string(),
        role: code.map_or(String::new(), |code| code.role.name().to_owned()),
        digest: code.map_or(String::new(), |code| code.digest.clone()),
        source: slot.source(),
        bytes: code.map_or(0, |code| code.bytes),
        calls: stats.calls.load(Relaxed),
        messages: stats.messages.load(Relaxed),
        failures: stats.failures.load(Relaxed),
        busy_ns: stats.busy_ns.load(Relaxed),
        instances: stats.instances.load(Relaxed) as u32,
        status: slot.status(),
        version: slot.version(),
        origin: slot.origin.as_str().to_owned(),
        traps: stats.traps.load(Relaxed),
        messages_per_second: stats.messages_per_second(),
        call_p50_ns: version.quantile_ns(0.5),
        call_p99_ns: version.quantile_ns(0.99),
        memory_bytes: 0,
        since_ms: slot.since_ms,
    }
}

/// One slot, with all that is known of it.
pub(crate) async fn show(conn: &Arc<Conn>, name: &str) -> Result<ManagedResponse, StreamError> {
    let routing = conn.node.routing.load();
    let slot = find(&routing, name)?;
    let memory = blocking(conn, |plugins| Ok(plugins.workers.memory(MEASURE_PATIENCE))).await?;
    let own = routing.bound.iter().filter(|bound| bound.slot == slot.name);
    let memory_bytes = own.filter_map(|bound| memory.get(&bound.id)).sum();
    let version = slot.stats.snapshot().since(&slot.began);
    let (config, code) = (&slot.config, slot.code.as_ref().ok());
    let through = |route: &&crate::routing::PlannedRoute| route.through.contains(&slot.name);
    let users = routing.planned.iter().filter(through);
    let shadow = slot.shadow.current();
    let (breaker, failures_in_a_row, trips) = slot.guard.view();
    let (breaker, next_try_ms) = match breaker {
        State::Closed => ("closed", 0),
        State::Open { until } => ("open", until.saturating_sub(conn.node.clock.mono_ms())),
        State::Probing => ("probing", 0),
    };
    let versions = slot.record.iter().flat_map(|record| {
        record.versions.iter().map(|v| PluginVersion {
            number: v.number,
            digest: v.digest.clone(),
            bytes: v.bytes,
            deployed_ms: v.deployed_ms,
            by: v.by.clone(),
            active: v.number == record.active,
            withdrawn: v.withdrawn,
        })
    });
    let errors = slot
        .stats
        .last_errors()
        .into_iter()
        .map(|failed| PluginFailure {
            time_ms: failed.time_ms,
            text: failed.text,
            times: failed.times,
        });
    Ok(ManagedResponse::PluginInfo(Box::new(PluginDetail {
        state: Some(PluginState {
            memory_bytes,
            ..state(&slot)
        }),
        settings: shown_settings(&config.settings, code),
        grants: config.grants.iter().map(|g| g.name().to_owned()).collect(),
        publish: config
            .publish
            .iter()
            .map(|f| f.as_str().to_owned())
            .collect(),
        limits: settings(&config.limits_set()),
        on_error: config.on_error.as_str().to_owned(),
        versions: versions.collect(),
        errors: errors.collect(),
        imports: code.map_or(Vec::new(), |code| code.imports.clone()),
        routes: users.map(|route| route.name.to_string()).collect(),
        version_calls: version.calls,
        version_messages: version.messages,
        version_failures: version.failures,
        signed_by: code
            .and_then(|code| code.signed_by)
            .map(|key| key.to_string())
            .unwrap_or_default(),
        breaker: breaker.to_owned(),
        failures_in_a_row,
        next_try_ms,
        trips,
        breaker_failures: u64::from(config.breaker.failures),
        apart_ms: slot.guard.apart_ms(conn.node.clock.mono_ms()),
        shadow: shadow
            .as_ref()
            .map_or(String::new(), |s| s.about.digest.clone()),
        shadow_ended: shadow.and_then(|s| s.ended()).unwrap_or_default(),
    })))
}

fn logged(lines: Vec<Line>) -> Bytes {
    let line = |line: Line| LogLine {
        number: line.number,
        time_ms: line.time_ms,
        level: level_name(line.level).to_owned(),
        text: line.text,
    };
    let lines = lines.into_iter().map(line).collect();
    let response = Managed {
        response: Some(ManagedResponse::PluginLogs(PluginLogged { lines })),
    };
    control::bytes_of(FrameType::Managed, &response)
}

/// The last lines of a slot, and those that come, until the client, the node or the slot ends.
pub(crate) async fn logs(
    conn: &Arc<Conn>,
    request: PluginLogs,
    send: &mut SendStream,
) -> Result<(), StreamError> {
    let name = request.plugin;
    let logs = &conn.node.plugins.logs;
    let Some(known) = logs.get(&name) else {
        let text = format!("no plugin '{name}'");
        return Err(StreamError::Refused(Code::NotFound, text));
    };
    // Before the lines are looked at: none falls between. The lines themselves are not held, so
    // that it shows when they are gone.
    let mut more = known.watch();
    more.mark_unchanged();
    let count = match request.lines {
        0 => usize::MAX,
        lines => lines as usize,
    };
    let lines = known.after(request.after, count);
    drop(known);
    let mut last = lines.last().map_or(request.after, |line| line.number);
    send.write_all(&logged(lines)).await?;
    let mut draining = conn.node.draining.subscribe();
    loop {
        tokio::select! {
            changed = more.changed(), if request.follow => if changed.is_err() {
                break;
            },
            _ = send.stopped(), if request.follow => break,
            _ = draining.wait_for(|draining| *draining), if request.follow => break,
            else => break,
        }
        let lines = logs
            .get(&name)
            .map_or(Vec::new(), |known| known.after(last, usize::MAX));
        if let Some(line) = lines.last() {
            last = line.number;
            send.write_all(&logged(lines)).await?;
        }
    }
    let _ = send.finish();
    Ok(())
}
