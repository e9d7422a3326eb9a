//! A batch at the door: every record is checked, and every topic's way looked up once.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use waypost_core::dedup::ProducerId;
use waypost_core::route::RouteIndex;
use waypost_wire::data::{Exception, ExceptionKind};
use waypost_wire::record::{self, RecordError};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Code, RecordRef, Slab, WireError};

use crate::connection::Conn;
use crate::live::Subscriber;
use crate::routing::Routing;

/// Topics whose way is remembered for one publisher; beyond, all are forgotten and begin anew.
const PLANS_MAX: usize = 4096;

/// Where the messages of one topic go.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Why they go nowhere: the publisher may not, or must not.
    pub refused: Option<(Code, String)>,
    pub routes: Arc<[RouteIndex]>,
    /// The queues that they reach without any plugin; `None` where the pipeline is needed.
    pub direct: Option<Vec<Arc<str>>>,
    pub live: Vec<Arc<Subscriber>>,
}

impl Plan {
    /// What is to be said of a message that neither a queue nor a live subscriber takes.
    pub fn nowhere(&self) -> (ExceptionKind, Code, &'static str) {
        match self.routes.is_empty() {
            true => (
                ExceptionKind::Unroutable,
                Code::Unroutable,
                "no route, queue or subscriber takes this topic",
            ),
            false => (
                ExceptionKind::Dropped,
                Code::Closed,
                "its routes lead to drop",
            ),
        }
    }
}

/// The ways of the topics that one publisher uses, as of one routing and one set of subscribers.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    by_topic: HashMap<Box<str>, Arc<Plan>, foldhash::fast::RandomState>,
    /// Not held: a publisher that is idle must not keep what was replaced.
    routing: Weak<Routing>,
    hub_version: u64,
}

impl Plans {
    /// Forgets what is no longer so. Gives the routing in force.
    pub fn refresh(&mut self, conn: &Conn) -> Arc<Routing> {
        let hub_version = conn.node.hub.version();
        let version = conn.node.routing.version();
        if let Some(routing) = self.routing.upgrade()
            && routing.version == version
            && self.hub_version == hub_version
            && self.by_topic.len() < PLANS_MAX
        {
            return routing;
        }
        self.by_topic.clear();
        self.hub_version = hub_version;
        let routing = conn.node.routing.load();
        self.routing = Arc::downgrade(&routing);
        routing
    }

    /// The way of a topic.
    pub fn get(&mut self, conn: &Conn, routing: &Routing, topic: &str) -> Arc<Plan> {
        if let Some(plan) = self.by_topic.get(topic) {
            return plan.clone();
        }
        let denied = conn.principal.permissions.may_publish(topic).err();
        let mut routes = routing.table.matching(topic);
        let live = conn.node.hub.matching(topic);
        if routes.is_empty() && live.is_empty() {
            routes.extend(routing.table.unroutable());
        }
        let plan = Arc::new(Plan {
            refused: denied.map(|denied| (denied.code(), denied.to_string())),
            direct: routing.table.direct(&routes),
            routes: routes.into(),
            live,
        });
        self.by_topic.insert(topic.into(), plan.clone());
        plan
    }
}

/// A batch whose records are sound.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub slab: Slab,
    /// Whether some record says when it may be delivered, or until when.
    pub is_timed: bool,
    /// One plan for all records, or one for each.
    pub plans: PlanOf,
    /// Records that are refused for themselves, in ascending order.
    pub refused: Vec<(u32, Code, String)>,
    /// The producer's number of each record, where the stream has a producer.
    pub sequences: Vec<u64>,
}

/// See [`Admitted::plans`].
#[derive(Debug)]
pub(crate) enum PlanOf {
    All(Arc<Plan>),
    Each(Vec<Arc<Plan>>),
}

impl PlanOf {
    pub fn get(&self, index: usize) -> &Arc<Plan> {
        match self {
            PlanOf::All(plan) => plan,
            PlanOf::Each(plans) => &plans[index],
        }
    }
}

/// Where the numbers of a producer's messages come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Numbers {
    /// There is no producer.
    None,
    /// Each record has its own, of this producer and epoch.
    InRecords(ProducerId, u64),
    /// They count up from this one.
    From(u64),
}

/// Checks all records of a batch, which came in the frame at stream offset `at`. A record that is
/// not what it says ends the stream; one that may not be published is refused alone.
pub(crate) fn admit(
    conn: &Conn,
    plans: &mut Plans,
    routing: &Routing,
    at: u64,
    slab: Slab,
    numbers: Numbers,
) -> Result<Admitted, WireError> {
    let limit = conn.node.limits.payload_bytes;
    let mut sequences = Vec::new();
    let mut refused = Vec::new();
    let mut each: Vec<Arc<Plan>> = Vec::new();
    let mut last: Option<(&str, Arc<Plan>)> = None;
    let mut is_timed = false;
    for (index, body) in slab.iter().enumerate() {
        let bad = |error: RecordError| WireError::Record {
            index: index as u32,
            offset: at,
            error,
        };
        record::verify(body).map_err(bad)?;
        let record = RecordRef::parse(body).map_err(bad)?;
        is_timed |= record.is_timed();
        match numbers {
            Numbers::None => {}
            Numbers::InRecords(id, epoch) => {
                sequences.push(sequence(&record, (id, epoch)).map_err(bad)?);
            }
            Numbers::From(first) => sequences.push(first + index as u64),
        }
        let size = record.check_size(limit);
        if let Err(error) = &size {
            refused.push((index as u32, error.code(), error.to_string()));
        }
        let topic = record.topic();
        let is_same = last.as_ref().is_some_and(|(before, _)| *before == topic);
        if !is_same {
            let plan = plans.get(conn, routing, topic);
            if let Some((_, before)) = &last
                && each.is_empty()
            {
                each.reserve(slab.count() as usize);
                each.extend(std::iter::repeat_n(before, index).cloned());
            }
            last = Some((topic, plan));
        }
        let Some((_, plan)) = &last else { continue };
        if let (Some((code, text)), true) = (&plan.refused, size.is_ok()) {
            refused.push((index as u32, *code, text.clone()));
        }
        if !each.is_empty() {
            each.push(plan.clone());
        }
    }
    let last = last.map(|(_, plan)| plan);
    let plans = match last {
        Some(plan) if each.is_empty() => PlanOf::All(plan),
        _ => PlanOf::Each(each),
    };
    Ok(Admitted {
        slab,
        is_timed,
        plans,
        refused,
        sequences,
    })
}

/// The producer's number of a record that must be of the stream's producer and epoch.
fn sequence(record: &RecordRef<'_>, of_stream: (ProducerId, u64)) -> Result<u64, RecordError> {
    match record.producer() {
        Some(producer) if (producer.id, producer.epoch) == of_stream => Ok(producer.sequence),
        _ => Err(RecordError::Field {
            field: "producer",
            what: "is not that of the stream",
        }),
    }
}

/// The exceptions for records that are refused for themselves.
pub(crate) fn refusals(first_sequence: u64, refused: Vec<(u32, Code, String)>) -> Vec<Exception> {
    let exception = |(index, code, text)| Exception {
        sequence: first_sequence + u64::from(index),
        kind: ExceptionKind::Refused,
        code,
        text,
    };
    refused.into_iter().map(exception).collect()
}

/// Collects records of one slab for one taker: the slab itself where all are taken.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    taken: Vec<u32>,
}

impl Gather {
    /// Takes the record at `index`; indexes do not descend. A record that several routes lead to
    /// one place is there as often.
    pub fn take(&mut self, index: u32) {
        self.taken.push(index);
    }

    /// The taken records as a slab of their own, and the index of each.
    pub fn finish(self, slab: &Slab) -> (Slab, Vec<u32>) {
        let Some(first) = self.taken.first() else {
            return (Slab::default(), self.taken);
        };
        if self.taken.windows(2).all(|pair| pair[1] == pair[0] + 1) {
            return (slab.slice(*first, self.taken.len() as u32), self.taken);
        }
        let mut builder = SlabBuilder::new();
        let mut wanted = self.taken.iter().peekable();
        for (index, body) in slab.iter().enumerate() {
            while wanted.next_if(|w| **w as usize == index).is_some() {
                builder.push(body);
            }
        }
        (builder.finish(), self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathering_keeps_order_gaps_and_repeats() {
        let mut builder = SlabBuilder::new();
        (0..5u8).for_each(|n| builder.push(&[n]));
        let slab = builder.finish();
        for taken in [
            &[][..],
            &[0, 1, 2, 3, 4],
            &[1, 2],
            &[0, 2, 4],
            &[0, 0, 2],
            &[0, 0, 1, 1, 4],
        ] {
            let mut gather = Gather::default();
            taken.iter().for_each(|index| gather.take(*index));
            let (got, inputs) = gather.finish(&slab);
            let got: Vec<u32> = got.iter().map(|b| u32::from(b[0])).collect();
            assert_eq!((got, inputs), (taken.to_vec(), taken.to_vec()));
        }
    }
}
