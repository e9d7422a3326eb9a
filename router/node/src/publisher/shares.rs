//! Who gets what of an admitted batch: queues, live subscribers, the plugins.

use std::sync::Arc;

use waypost_shard::Part;
use waypost_wire::Slab;
use waypost_wire::data::{Exception, Level};

use crate::admission::{Admitted, Gather, Plan, PlanOf};
use crate::live::Subscriber;
use crate::routing::Routing;
use crate::submission::Account;
use crate::workers::{Input, Inputs};

/// Records for one live subscriber, and which input of the batch each is, as in [`Part::inputs`].
pub(super) struct ForLive {
    pub subscriber: Arc<Subscriber>,
    pub slab: Slab,
    pub inputs: Vec<u32>,
}

impl ForLive {
    /// Takes out the records of inputs that were not taken.
    pub fn without(&mut self, left_out: &[u32]) {
        let input = |index: u32| self.inputs.get(index as usize).copied().unwrap_or(index);
        let stays = |index: u32| left_out.binary_search(&input(index)).is_err();
        let slab = self.slab.keep(stays);
        self.inputs = (0..self.slab.count())
            .filter(|index| stays(*index))
            .map(input)
            .collect();
        self.slab = slab;
    }
}

/// What goes to which queue, where each message has a way of its own.
pub(super) fn gather_direct(account: &mut Account, admitted: &Admitted, parts: &mut Vec<Part>) {
    let mut queues: Vec<(Arc<str>, Gather)> = Vec::new();
    let mut own = Vec::new();
    let mut refused = account.exceptions.iter().map(|e| e.sequence).peekable();
    for index in 0..admitted.slab.count() {
        let sequence = account.first_sequence + u64::from(index);
        if refused.next_if_eq(&sequence).is_some() {
            continue;
        }
        let plan = admitted.plans.get(index as usize);
        let direct = plan.direct.as_deref().unwrap_or_default();
        for queue in direct {
            slot(&mut queues, |q| q == queue, || queue.clone()).take(index);
        }
        if direct.is_empty() && plan.live.is_empty() {
            let (kind, code, text) = plan.nowhere();
            own.push(Exception {
                sequence,
                kind,
                code,
                text: text.to_owned(),
            });
        } else if direct.is_empty() {
            account.level = Level::Received;
        }
    }
    parts.extend(queues.into_iter().map(|(queue, gather)| {
        let (slab, inputs) = gather.finish(&admitted.slab);
        Part {
            queue,
            slab,
            inputs,
            is_timed: admitted.is_timed,
        }
    }));
    account.exceptions.append(&mut own);
    account.exceptions.sort_unstable_by_key(|e| e.sequence);
}

/// Whether a plugin may be called that wants to be called alone.
pub(super) fn needs_serial(routing: &Routing, admitted: &Admitted) -> bool {
    let is_serial = |plan: &Plan| plan.routes.iter().any(|r| routing.table.is_serial(*r));
    match &admitted.plans {
        PlanOf::All(plan) => is_serial(plan),
        PlanOf::Each(plans) => plans.iter().any(|plan| is_serial(plan)),
    }
}

pub(super) fn needs_pipeline(admitted: &Admitted) -> bool {
    match &admitted.plans {
        PlanOf::All(plan) => plan.direct.is_none(),
        PlanOf::Each(plans) => plans.iter().any(|plan| plan.direct.is_none()),
    }
}

/// How the records of a batch enter the pipeline.
pub(super) fn inputs(account: &Account, admitted: &Admitted) -> Inputs {
    let planned = |plan: &Plan| Input {
        routes: plan.routes.clone(),
        is_live: !plan.live.is_empty(),
    };
    if let PlanOf::All(plan) = &admitted.plans
        && account.exceptions.is_empty()
    {
        return Inputs::All(planned(plan));
    }
    let mut left_out = account
        .exceptions
        .iter()
        .map(|e| e.sequence - account.first_sequence)
        .peekable();
    let none: Arc<[u16]> = Arc::new([]);
    let input = |index: u32| match left_out.next_if_eq(&u64::from(index)) {
        // Already refused: it takes no route, and that is not to be reported again.
        Some(_) => Input {
            routes: none.clone(),
            is_live: true,
        },
        None => planned(admitted.plans.get(index as usize)),
    };
    Inputs::Each((0..admitted.slab.count()).map(input).collect())
}

/// What the live subscribers of the messages' own topics get: all but what was refused.
pub(super) fn gather_live(account: &Account, admitted: &Admitted) -> Vec<ForLive> {
    if let PlanOf::All(plan) = &admitted.plans
        && plan.live.is_empty()
    {
        return Vec::new();
    }
    let mut refused = account.refused().peekable();
    let mut found: Vec<(Arc<Subscriber>, Gather)> = Vec::new();
    for index in 0..admitted.slab.count() {
        if refused.next_if_eq(&u64::from(index)).is_some() {
            continue;
        }
        for subscriber in &admitted.plans.get(index as usize).live {
            slot(
                &mut found,
                |s| Arc::ptr_eq(s, subscriber),
                || subscriber.clone(),
            )
            .take(index);
        }
    }
    found
        .into_iter()
        .map(|(subscriber, gather)| {
            let (slab, inputs) = gather.finish(&admitted.slab);
            ForLive {
                subscriber,
                slab,
                inputs,
            }
        })
        .collect()
}

/// The entry of a short list, made where it is missing.
fn slot<K>(
    list: &mut Vec<(K, Gather)>,
    is: impl Fn(&K) -> bool,
    make: impl Fn() -> K,
) -> &mut Gather {
    let index = list.iter().position(|(key, _)| is(key)).unwrap_or_else(|| {
        list.push((make(), Gather::default()));
        list.len() - 1
    });
    &mut list[index].1
}
