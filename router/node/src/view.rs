//! What the admin page sees of a node.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use waypost_shard::QueueView;

use crate::admin::{ConnectionStat, NodeStat, NodeView, Phase, RouteStat};
use crate::alarms::Alarm;
use crate::metrics::{GroupStat, Metrics, PluginStat, QueueStat, resident_bytes};
use crate::node::Shared;
use crate::plugins::Slot;
use crate::shard_thread::Command;

/// How long the page waits for the shard: some commits.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct View {
    node: Arc<Shared>,
}

impl View {
    pub fn new(node: Arc<Shared>) -> View {
        View { node }
    }
}

impl NodeView for View {
    fn phase(&self) -> Phase {
        if self.node.is_draining() {
            Phase::Draining
        } else {
            Phase::Running
        }
    }

    fn metrics(&self) -> &Metrics {
        &self.node.metrics
    }

    fn node(&self) -> NodeStat {
        NodeStat {
            name: self.node.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase: self.phase(),
            listen: self.node.listen.to_string(),
            uptime_ms: self.node.clock.mono_ms(),
            resident_bytes: resident_bytes(),
        }
    }

    /// Blocks the admin page's own thread for as long as the shard commits.
    fn queues(&self) -> Vec<QueueStat> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.node.shard.send(Command::QueueList { reply });
        let (done, views) = std::sync::mpsc::channel();
        let wait = std::thread::spawn(move || drop(done.send(answer.blocking_recv())));
        let views = views.recv_timeout(PATIENCE);
        drop(wait);
        match views {
            Ok(Ok(Ok(views))) => views.into_iter().map(queue).collect(),
            _ => Vec::new(),
        }
    }

    fn plugins(&self) -> Vec<PluginStat> {
        let routing = self.node.routing.load();
        let stat = |slot: &Arc<Slot>| PluginStat {
            name: slot.name.to_string(),
            role: match &slot.code {
                Ok(code) => code.role.name().to_owned(),
                Err(_) => String::new(),
            },
            in_service: slot.code.is_ok() && slot.paused.is_none() && slot.guard.is_in_service(),
            calls: slot.stats.calls.load(Relaxed),
            messages: slot.stats.messages.load(Relaxed),
            failures: slot.stats.failures.load(Relaxed),
            busy_us: slot.stats.busy_ns.load(Relaxed) / 1000,
            last_error: slot.stats.last_error(),
            status: slot.status(),
            version: slot.version(),
            traps: slot.stats.traps.load(Relaxed),
            instances: slot.stats.instances.load(Relaxed),
            call_times: slot.stats.times.cumulative(),
        };
        routing.slots.iter().map(stat).collect()
    }

    fn routes(&self) -> Vec<RouteStat> {
        let routing = self.node.routing.load();
        let table = &routing.table;
        let stat = |route: &waypost_core::route::Route| RouteStat {
            name: route.name.to_string(),
            from: route.from.as_str().to_owned(),
            through: route
                .through
                .iter()
                .map(|p| table.plugins()[*p as usize].name.to_string())
                .collect(),
            to: route.to.iter().map(|to| to.to_string()).collect(),
            is_final: route.is_final,
        };
        table.routes().iter().map(stat).collect()
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.node.alarms.list()
    }

    fn connections(&self) -> Vec<ConnectionStat> {
        let now = self.node.clock.mono_ms();
        let stat = |conn: &Arc<crate::connection::Conn>| ConnectionStat {
            id: conn.id,
            principal: conn.principal.name.to_string(),
            roles: conn.principal.roles().map(str::to_owned).collect(),
            address: conn.address().to_string(),
            client: conn.client.clone(),
            age_ms: now.saturating_sub(conn.since_ms),
            publishers: conn.publishers.get(),
            consumers: conn.consumers.get(),
            subscribers: conn.subscribers.get(),
        };
        self.node.connections.list().iter().map(stat).collect()
    }
}

fn queue(view: QueueView) -> QueueStat {
    use waypost_core::queue::Durability;
    let durability = match view.settings.durability {
        Durability::Sync => "sync",
        Durability::Interval => "interval",
        Durability::Memory => "memory",
    };
    let groups = view.groups.into_iter().map(|group| GroupStat {
        name: group.name,
        kind: group.options.kind.as_str().to_owned(),
        filters: {
            let filters = group.options.filters.iter();
            filters.map(|f| f.as_str().to_owned()).collect()
        },
        consumers: u64::from(group.consumers),
        lag_messages: group.pending,
        in_flight_messages: group.in_flight,
    });
    QueueStat {
        name: view.name,
        durability: durability.to_owned(),
        messages: view.messages,
        bytes: view.bytes,
        bytes_max: view.settings.bytes_max,
        first_offset: view.first_offset,
        next_offset: view.next_offset,
        dropped: view.dropped,
        dead_lettered: view.dead_lettered,
        duplicates: view.duplicates,
        dedup_ids: view.dedup_ids,
        receipts: view.receipts,
        groups: groups.collect(),
    }
}
