//! Management requests: one stream each, authorised one by one.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use quinn::SendStream;
use waypost_core::pipeline::TracedMessage;
use waypost_core::queue::Settings;
use waypost_core::route::Destination;
use waypost_shard::{
    GroupView, ManageError, QueueView, from_message, group_kind, group_options, to_message,
};
use waypost_wire::control::{
    self, BackedUp, Done, Explain, Explained, GroupAdd, GroupState, Manage, ManageRequest, Managed,
    ManagedResponse, NodeState, Peeked, PeekedMessage, QueueAdd, QueueListed, QueuePeek,
    QueueSettings, QueueState,
};
use waypost_wire::{Code, FrameType, RecordRef, record};

use crate::config;
use crate::connection::Conn;
use crate::consumer::{check_group_name, place};
use crate::explain;
use crate::keeping;
use crate::node::check_not_own;
use crate::plugins::{requests, shadow};
use crate::replay;
use crate::shard_thread::Command;
use crate::stream_io::{FrameReader, StreamError};
use crate::tapping;

/// Filters that one queue may bring.
const FILTERS_MAX: usize = 256;
/// Routes in force, those that queues bring included; their index has 16 bits.
const ROUTES_MAX: usize = 60_000;
/// Messages that one peek shows at most.
const PEEK_MAX: u32 = 1000;

pub(crate) async fn serve(
    conn: &Arc<Conn>,
    manage: Manage,
    send: &mut SendStream,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    let request = manage.request.ok_or_else(|| {
        StreamError::Refused(
            Code::Unsupported,
            "MANAGE names no request that this version knows".to_owned(),
        )
    })?;
    let answer = match request {
        ManageRequest::PluginUpload(upload) => {
            need(conn, config::Manage::Plugins)?;
            requests::upload(conn, upload, reader).await?
        }
        ManageRequest::PluginLogs(logs) => {
            need(conn, config::Manage::Read)?;
            return requests::logs(conn, logs, send).await;
        }
        ManageRequest::Tap(tap) => {
            need(conn, config::Manage::Read)?;
            return tapping::serve(conn, tap, send).await;
        }
        request => answer(conn, request).await?,
    };
    let response = Managed {
        response: Some(answer),
    };
    send.write_all(&control::bytes_of(FrameType::Managed, &response))
        .await?;
    let _ = send.finish();
    Ok(())
}

fn need(conn: &Conn, part: config::Manage) -> Result<(), StreamError> {
    let allowed = conn.principal.permissions.may_manage(part);
    allowed.map_err(|denied| StreamError::Refused(denied.code(), denied.to_string()))
}

async fn answer(conn: &Arc<Conn>, request: ManageRequest) -> Result<ManagedResponse, StreamError> {
    use config::Manage::{Queues, Read};
    let need = |part| need(conn, part);
    let node = &conn.node;
    Ok(match request {
        ManageRequest::QueueList(_) => {
            need(Read)?;
            let views = ask(conn, |reply| Command::QueueList { reply }).await?;
            let queues = views.into_iter().map(queue_state).collect();
            ManagedResponse::QueueList(QueueListed { queues })
        }
        ManageRequest::QueueAdd(add) => {
            need(Queues)?;
            queue_add(conn, add).await?
        }
        ManageRequest::QueueInfo(info) => {
            need(Read)?;
            let view = ask(conn, |reply| Command::QueueInfo {
                name: info.queue,
                reply,
            })
            .await?;
            ManagedResponse::QueueInfo(queue_state(view))
        }
        ManageRequest::QueuePeek(peek) => {
            need(Read)?;
            let allowed = conn.principal.permissions.may_consume(&peek.queue);
            allowed.map_err(|denied| StreamError::Refused(denied.code(), denied.to_string()))?;
            queue_peek(conn, peek).await?
        }
        ManageRequest::QueuePurge(purge) => {
            need(Queues)?;
            check_not_own(&purge.queue)?;
            let count = ask(conn, |reply| Command::QueuePurge {
                name: purge.queue,
                reply,
            })
            .await?;
            ManagedResponse::Done(Done {
                count,
                ..Done::default()
            })
        }
        ManageRequest::QueueRemove(remove) => {
            need(Queues)?;
            node.check_not_configured(&remove.queue)?;
            check_unused(conn, &remove.queue)?;
            let count = ask(conn, |reply| Command::QueueRemove {
                name: remove.queue,
                reply,
            })
            .await?;
            refresh_routes(conn).await?;
            ManagedResponse::Done(Done {
                count,
                ..Done::default()
            })
        }
        ManageRequest::PluginList(_) => {
            need(Read)?;
            requests::list(conn)
        }
        request @ (ManageRequest::PluginDeploy(_)
        | ManageRequest::PluginInfo(_)
        | ManageRequest::PluginPause(_)
        | ManageRequest::PluginResume(_)
        | ManageRequest::PluginRollback(_)
        | ManageRequest::PluginRemove(_)
        | ManageRequest::PluginShadow(_)
        | ManageRequest::PluginDiff(_)
        | ManageRequest::PluginPromote(_)
        | ManageRequest::PluginDiscard(_)
        | ManageRequest::PluginUpload(_)
        | ManageRequest::PluginLogs(_)
        | ManageRequest::Tap(_)
        | ManageRequest::RouteList(_)
        | ManageRequest::RouteAdd(_)
        | ManageRequest::RouteRemove(_)) => of_plugins(conn, request).await?,
        ManageRequest::NodeInfo(_) => {
            need(Read)?;
            ManagedResponse::NodeInfo(node_state(conn).await?)
        }
        ManageRequest::Backup(backup) => {
            need(config::Manage::Node)?;
            ManagedResponse::Backup(back_up(conn, backup.name).await?)
        }
        ManageRequest::Explain(request) => {
            need(Read)?;
            ManagedResponse::Explain(explained(conn, request).await?)
        }
        ManageRequest::QueueSet(set) => {
            need(Queues)?;
            let answer = keeping::set(conn, set).await?;
            refresh_routes(conn).await?;
            answer
        }
        ManageRequest::Browse(browse) => {
            need(Read)?;
            keeping::browse(conn, browse).await?
        }
        ManageRequest::Remove(remove) => {
            need(Queues)?;
            check_not_own(&remove.queue)?;
            keeping::remove(conn, remove).await?
        }
        ManageRequest::Redrive(redrive) => {
            need(Queues)?;
            check_not_own(&redrive.queue)?;
            keeping::redrive(conn, redrive).await?
        }
        ManageRequest::Replay(request) => {
            need(Queues)?;
            replay::replay(conn, request).await?
        }
        ManageRequest::GroupAdd(add) => {
            need(Queues)?;
            check_not_own(&add.queue)?;
            group_add(conn, add).await?
        }
        ManageRequest::GroupSeek(seek) => {
            need(Queues)?;
            let to = place(seek.start(), seek.start_offset, seek.start_time_ms);
            let count = ask(conn, |reply| Command::GroupSeek {
                queue: seek.queue,
                group: seek.group,
                to,
                reply,
            })
            .await?;
            ManagedResponse::Done(Done {
                count,
                ..Done::default()
            })
        }
        ManageRequest::GroupRemove(remove) => {
            need(Queues)?;
            let count = ask(conn, |reply| Command::GroupRemove {
                queue: remove.queue,
                group: remove.group,
                reply,
            })
            .await?;
            ManagedResponse::Done(Done {
                count,
                ..Done::default()
            })
        }
    })
}

/// Requests about plugins and routes.
async fn of_plugins(
    conn: &Arc<Conn>,
    request: ManageRequest,
) -> Result<ManagedResponse, StreamError> {
    use config::Manage::{Plugins, Read, Routes};
    match request {
        ManageRequest::PluginDeploy(deploy) => {
            need(conn, Plugins)?;
            requests::deploy(conn, deploy).await
        }
        ManageRequest::PluginShadow(begin) => {
            need(conn, Plugins)?;
            shadow::requests::begin(conn, begin).await
        }
        ManageRequest::PluginDiff(diff) => {
            need(conn, Read)?;
            shadow::requests::diff(conn, &diff.plugin)
        }
        ManageRequest::PluginPromote(promote) => {
            need(conn, Plugins)?;
            shadow::requests::promote(conn, promote).await
        }
        ManageRequest::PluginDiscard(discard) => {
            need(conn, Plugins)?;
            shadow::requests::discard(conn, discard).await
        }
        ManageRequest::PluginInfo(info) => {
            need(conn, Read)?;
            requests::show(conn, &info.plugin).await
        }
        ManageRequest::PluginPause(pause) => {
            need(conn, Plugins)?;
            requests::pause(conn, pause).await
        }
        ManageRequest::PluginResume(resume) => {
            need(conn, Plugins)?;
            requests::resume(conn, resume.plugin).await
        }
        ManageRequest::PluginRollback(rollback) => {
            need(conn, Plugins)?;
            requests::roll_back(conn, rollback).await
        }
        ManageRequest::PluginRemove(remove) => {
            need(conn, Plugins)?;
            requests::remove(conn, remove.plugin).await
        }
        ManageRequest::RouteList(_) => {
            need(conn, Read)?;
            Ok(requests::routes(conn))
        }
        ManageRequest::RouteAdd(add) => {
            need(conn, Routes)?;
            let views = ask(conn, |reply| Command::QueueList { reply }).await?;
            let queues: Vec<String> = views.into_iter().map(|queue| queue.name).collect();
            requests::add_route(conn, add, &queues).await
        }
        ManageRequest::RouteRemove(remove) => {
            need(conn, Routes)?;
            requests::remove_route(conn, remove.route).await
        }
        _ => Err(StreamError::Refused(
            Code::Unsupported,
            "this request has a stream of its own".to_owned(),
        )),
    }
}

/// A queue that a route of the network leads to is not removed under it.
fn check_unused(conn: &Conn, queue: &str) -> Result<(), StreamError> {
    let routing = conn.node.routing.load();
    let leads = |to: &Destination| matches!(to, Destination::Queue(name) if **name == *queue);
    match routing
        .planned
        .iter()
        .find(|route| route.to.iter().any(leads))
    {
        None => Ok(()),
        Some(route) => Err(StreamError::Refused(
            Code::Conflict,
            format!(
                "queue '{queue}': route '{}' leads to it, remove that first",
                route.name
            ),
        )),
    }
}

async fn back_up(conn: &Conn, name: String) -> Result<BackedUp, StreamError> {
    let (reply, answer) = tokio::sync::oneshot::channel();
    conn.node.shard.send(Command::Backup { name, reply });
    match answer.await {
        Ok(Ok((path, done))) => Ok(BackedUp {
            path: path.display().to_string(),
            bytes: done.bytes,
            files: done.files,
        }),
        Ok(Err(error)) => Err(StreamError::Refused(error.code(), error.to_string())),
        Err(_) => Err(StreamError::Refused(
            Code::Draining,
            "the node stops".to_owned(),
        )),
    }
}

async fn group_add(conn: &Conn, add: GroupAdd) -> Result<ManagedResponse, StreamError> {
    let invalid = |text: String| StreamError::Refused(Code::Invalid, text);
    check_group_name(&add.group).map_err(invalid)?;
    let options = group_options(add.kind, &add.filters).map_err(|e| invalid(e.to_string()))?;
    let start = place(add.start(), add.start_offset, add.start_time_ms);
    ask(conn, |reply| Command::GroupAdd {
        queue: add.queue,
        group: add.group,
        start,
        options,
        reply,
    })
    .await?;
    Ok(ManagedResponse::Done(Done::default()))
}

async fn ask<T>(
    conn: &Conn,
    make: impl FnOnce(tokio::sync::oneshot::Sender<Result<T, ManageError>>) -> Command,
) -> Result<T, StreamError> {
    match conn.node.shard.ask(make).await {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) => Err(StreamError::Refused(error.code(), error.to_string())),
        None => Err(StreamError::Refused(
            Code::Draining,
            "the node stops".to_owned(),
        )),
    }
}

async fn queue_add(conn: &Arc<Conn>, add: QueueAdd) -> Result<ManagedResponse, StreamError> {
    let node = &conn.node;
    let invalid = |text: String| StreamError::Refused(Code::Invalid, text);
    if !config::names::is_name(&add.queue) {
        let text = format!(
            "queue '{}': 1 to 128 of a-z, A-Z, 0-9, '.', '_' and '-' expected",
            add.queue
        );
        return Err(invalid(text));
    }
    node.check_not_configured(&add.queue)?;
    let settings = checked_settings(conn, &add.queue, add.settings)?;
    ask(conn, |reply| Command::QueueAdd {
        name: add.queue,
        settings,
        reply,
    })
    .await?;
    refresh_routes(conn).await?;
    Ok(ManagedResponse::Done(Done::default()))
}

/// A queue's settings from a request.
pub(crate) fn checked_settings(
    conn: &Conn,
    queue: &str,
    settings: Option<QueueSettings>,
) -> Result<Settings, StreamError> {
    let node = &conn.node;
    let invalid = |text: String| StreamError::Refused(Code::Invalid, text);
    let settings = from_message(&settings.unwrap_or_default(), node.limits.queue_bytes)
        .map_err(|error| invalid(format!("queue '{queue}': {error}")))?;
    let filters = settings.from.len();
    if filters > FILTERS_MAX {
        let text = format!("queue '{queue}': {filters} filters, limit {FILTERS_MAX}");
        return Err(invalid(text));
    }
    if node.routing.load().table.routes().len() + filters > ROUTES_MAX {
        let text = format!("queue '{queue}': more than {ROUTES_MAX} routes in all");
        return Err(StreamError::Refused(Code::Busy, text));
    }
    Ok(settings)
}

/// Queues may bring routes of their own.
async fn refresh_routes(conn: &Arc<Conn>) -> Result<(), StreamError> {
    // Who comes while others wait for their turn is served by one of them: many queues that come
    // together cost few looks at all routes.
    let turns = &conn.node.route_turns;
    let asked = turns.asked.fetch_add(1, SeqCst) + 1;
    let mut served = turns.served.lock().await;
    if *served >= asked {
        return Ok(());
    }
    let covers = turns.asked.load(SeqCst);
    let views = ask(conn, |reply| Command::QueueList { reply }).await?;
    let queues = views.into_iter().map(|q| (q.name, q.settings.from));
    let (queues, plugins) = (queues.collect(), conn.node.plugins.clone());
    // It may wait until a change of a plugin is on disk.
    let done = tokio::task::spawn_blocking(move || plugins.set_queue_routes(queues)).await;
    done.map_err(|_| {
        StreamError::Refused(Code::Internal, "the routes stay as they were".to_owned())
    })?;
    *served = covers;
    Ok(())
}

async fn queue_peek(conn: &Arc<Conn>, peek: QueuePeek) -> Result<ManagedResponse, StreamError> {
    let (name, from, count) = (peek.queue, peek.from_offset, peek.count.clamp(1, PEEK_MAX));
    let (found, next_offset) = ask(conn, |reply| Command::QueuePeek {
        name,
        from,
        count,
        reply,
    })
    .await?;
    let messages = found
        .into_iter()
        .map(|m| PeekedMessage {
            offset: m.offset,
            receive_time_ms: m.receive_time_ms,
            record: m.body,
        })
        .collect();
    Ok(ManagedResponse::QueuePeek(Peeked {
        messages,
        next_offset,
    }))
}

pub(crate) fn queue_state(view: QueueView) -> QueueState {
    QueueState {
        settings: Some(to_message(&view.settings)),
        first_offset: view.first_offset,
        next_offset: view.next_offset,
        messages: view.messages,
        bytes: view.bytes,
        groups: view.groups.into_iter().map(group_state).collect(),
        source: view.source.to_owned(),
        incarnation: view.incarnation.map(|i| i.hex()).unwrap_or_default(),
        published: view.published,
        delivered: view.delivered,
        acked: view.acked,
        dropped: view.dropped,
        dead_lettered: view.dead_lettered,
        expired: view.expired,
        first_time_ms: view.first_time_ms,
        name: view.name,
    }
}

fn group_state(group: GroupView) -> GroupState {
    GroupState {
        name: group.name,
        acked_below: group.acked_below,
        next_offset: group.next_offset,
        pending: group.pending,
        in_flight: group.in_flight,
        consumers: group.consumers,
        redelivered: group.redelivered,
        kind: group_kind(group.options.kind) as i32,
        filters: group
            .options
            .filters
            .iter()
            .map(|f| f.as_str().to_owned())
            .collect(),
        ..GroupState::default()
    }
}

async fn node_state(conn: &Arc<Conn>) -> Result<NodeState, StreamError> {
    let node = &conn.node;
    let queues = ask(conn, |reply| Command::QueueList { reply }).await?.len() as u32;
    let routing = node.routing.load();
    Ok(NodeState {
        name: node.name.clone(),
        server: format!("waypost/{}", env!("CARGO_PKG_VERSION")),
        uptime_ms: node.clock.mono_ms(),
        connections: node.metrics.clients.connections.get() as u32,
        queues,
        plugins: routing.slots.len() as u32,
        routes: routing.table.routes().len() as u32,
        data_dir: node.data_dir.display().to_string(),
        alarms: node
            .alarms
            .list()
            .into_iter()
            .map(|a| format!("{}: {}", a.subject, a.text))
            .collect(),
    })
}

async fn explained(conn: &Arc<Conn>, request: Explain) -> Result<Explained, StreamError> {
    let node = &conn.node;
    let bad =
        |error: record::RecordError| StreamError::Refused(error.code(), format!("record: {error}"));
    record::verify(&request.record).map_err(bad)?;
    let body: Bytes = request.record;
    let topic = RecordRef::parse(&body).map_err(bad)?.topic().to_owned();
    if let Err(denied) = conn.principal.permissions.may_publish(&topic) {
        return Err(StreamError::Refused(denied.code(), denied.to_string()));
    }
    let live = node.hub.matching(&topic).len();
    let routing = node.routing.load();
    let outcome = crate::workers::explain(&node.workers, routing.clone(), body, live > 0).await;
    let outcome =
        outcome.map_err(|_| StreamError::Refused(Code::Draining, "the node stops".to_owned()))?;
    let subscribers = |message: &TracedMessage| match &message.origin {
        Some(origin) if !origin.is_new => 0,
        _ => node.hub.matching(&message.topic).len() as u32,
    };
    let told = outcome.traces.first().map(|trace| {
        let subscribers: Vec<u32> = trace.messages.iter().map(subscribers).collect();
        explain::tree(&routing, trace, &subscribers)
    });
    let mut destinations: Vec<String> = outcome
        .queues
        .iter()
        .map(|(queue, outputs)| format!("queue:{queue} ({})", outputs.len()))
        .collect();
    if live > 0 {
        destinations.push(format!("live subscribers ({live})"));
    }
    destinations.extend(
        outcome
            .dead
            .iter()
            .map(|dead| format!("queue:dead-letter, {}", dead.reason)),
    );
    destinations.extend(
        outcome
            .exceptions
            .into_iter()
            .map(|(_, kind, _, text)| format!("{}: {text}", kind.as_str())),
    );
    Ok(Explained {
        destinations,
        ..told.unwrap_or_default()
    })
}
