//! Queues that the file names and that were made over the network too: the node refuses to start
//! with one, so a check says it before.
//!
//! The data directory is only looked into, so a node may be running on it.

use waypost_log::{OpenError, RealVfs, describe};
use waypost_shard::{ManageError, is_made_over_network};

use super::names::{Kind, Names};
use super::read::Document;
use super::{NodeConfig, Problem};

/// Reports them. A directory that the node would refuse is an error too, one that this user cannot
/// read a warning: the node may be another's.
pub(super) fn check(doc: &Document<'_>, node: &NodeConfig, at: usize, names: &Names) {
    let queues = match describe::queues(&RealVfs, &node.data_dir) {
        Ok(queues) => queues,
        Err(error @ OpenError::Io(_)) => {
            let text = format!("{error}; whether a queue was made over the network is not known");
            return doc.warn("[node] data_dir", at, text);
        }
        Err(error) => {
            return doc.error("[node] data_dir", at, Problem::Other(error.to_string()));
        }
    };
    for queue in queues.iter().filter(|q| is_made_over_network(&q.settings)) {
        if let Some(declared) = names.declared(Kind::Queue, &queue.name) {
            let claimed = ManageError::Claimed(queue.name.as_str().into());
            let problem = Problem::Other(claimed.to_string());
            doc.error(&declared.place, declared.at, problem);
        }
    }
}
