//! The same plan against a node and the floor, in turn, in one run.
//!
//! A machine's speed changes from minute to minute, so a figure is only compared with one that was
//! measured right beside it: node, floor, node, floor, each in a process of its own, and the
//! median of the ratios of the pairs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::load;
use super::outcome::Outcome;
use super::plan::Plan;
use super::target::{Setup, Target};

/// Where runs put their files, and how servers are started.
#[derive(Clone, Debug)]
pub struct Bench {
    /// A directory for temporary ones.
    pub dir: PathBuf,
    /// Threads of a server.
    pub threads: usize,
    /// How often each pair is measured.
    pub rounds: usize,
}

/// A node's run and the floor's beside it.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// The node's.
    pub node: Outcome,
    /// The floor's.
    pub floor: Outcome,
}

impl Bench {
    /// A node's run.
    pub fn node(&self, plan: &Plan, setup: &Setup) -> Result<Outcome> {
        let dir = self.temporary()?;
        let setup = Setup {
            threads: self.threads,
            ..setup.clone()
        };
        let target = Target::node(dir.path(), plan, &setup)?;
        load::run(plan, &target).with_context(|| format!("node: {}", plan.describe()))
    }

    /// The floor's run.
    pub fn floor(&self, plan: &Plan) -> Result<Outcome> {
        let plan = &Plan {
            backlog: false,
            ..plan.clone()
        };
        let dir = self.temporary()?;
        let target = Target::floor(dir.path(), plan, self.threads)?;
        load::run(plan, &target).with_context(|| format!("floor: {}", plan.describe()))
    }

    /// As many pairs as there are rounds.
    pub fn pairs(&self, plan: &Plan, setup: &Setup) -> Result<Vec<Pair>> {
        let pair = |_| {
            Ok(Pair {
                node: self.node(plan, setup)?,
                floor: self.floor(plan)?,
            })
        };
        (0..self.rounds).map(pair).collect()
    }

    /// A directory that is removed when it is dropped.
    pub fn temporary(&self) -> Result<tempfile::TempDir> {
        temporary(&self.dir)
    }
}

fn temporary(dir: &Path) -> Result<tempfile::TempDir> {
    let prefix = "waypost-bench-";
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(dir)
        .with_context(|| format!("{}: a directory for data", dir.display()))
}

/// The middle value; the mean of both where there are two. 0 of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (length, middle) if length % 2 == 1 => values[middle],
        (_, middle) => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }
}
