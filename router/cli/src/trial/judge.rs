//! Takes what became of each message: compares it with what was expected, shows it, counts it.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::entry::{Effects, Entry, to_line};
use super::expect::{Difference, Expected};
use super::show::{self, Summary};
use crate::output::Output;

/// What is shown while a test runs.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Every message, not only those that are not as expected or failed.
    pub all: bool,
    /// With `--json`, a line for each message.
    pub json_lines: bool,
}

/// Judges one test.
pub struct Judge {
    destinations: Vec<String>,
    expected: Option<Expected>,
    report: Report,
    output: Output,
    outcome: Outcome,
    found: Vec<String>,
}

/// How a test ended.
#[derive(Debug, Default)]
pub struct Outcome {
    summary: Summary,
    /// Each with the line of its message.
    differences: Vec<(usize, Difference)>,
    problem: Option<String>,
    is_compared: bool,
}

/// An entry that is not as expected: where that stands, and how it differs.
struct Differs {
    file: PathBuf,
    line: usize,
    differences: Vec<Difference>,
}

impl Judge {
    /// For a plugin with these destinations.
    pub fn new(
        destinations: &[String],
        expected: Option<Expected>,
        report: Report,
        output: Output,
    ) -> Judge {
        let outcome = Outcome {
            is_compared: expected.is_some(),
            ..Outcome::default()
        };
        Judge {
            destinations: destinations.to_vec(),
            expected,
            report,
            output,
            outcome,
            found: Vec::new(),
        }
    }

    /// What the plugin did in `init`.
    pub fn begin(&self, init: &Effects) -> anyhow::Result<()> {
        if self.output.is_json() || !self.report.all || init.is_empty() {
            return Ok(());
        }
        let style = self.output.style();
        self.output.line(style.dim("       init"))?;
        self.output.lines(show::effects(init, style))
    }

    /// What became of the next message.
    pub fn take(&mut self, entry: &Entry<'_>) -> anyhow::Result<()> {
        let found = entry.to_json(&self.destinations);
        let differs = self.compare(&found);
        self.found.push(to_line(&found));
        self.outcome.summary.add(entry);
        if let Some(Differs { differences, .. }) = &differs {
            let line = entry.line().unwrap_or_default();
            let differences = differences.iter().map(|d| (line, d.clone()));
            self.outcome.differences.extend(differences);
        }
        match self.output.is_json() {
            true => self.show_json(found, differs.as_ref()),
            false => self.show(entry, differs.as_ref()),
        }
    }

    fn compare(&self, found: &Value) -> Option<Differs> {
        let expected = self.expected.as_ref()?;
        let (line, differences) = expected.compare(self.found.len(), found)?;
        (!differences.is_empty()).then(|| Differs {
            file: expected.file().to_owned(),
            line,
            differences,
        })
    }

    fn show_json(&self, mut found: Value, differs: Option<&Differs>) -> anyhow::Result<()> {
        if !self.report.json_lines {
            return Ok(());
        }
        if let Some(Differs { differences, .. }) = differs {
            found["differences"] = differences.iter().map(difference_json).collect();
        }
        self.output.line(to_line(&found))
    }

    fn show(&self, entry: &Entry<'_>, differs: Option<&Differs>) -> anyhow::Result<()> {
        let style = self.output.style();
        // Where something is expected, a failure may be it.
        let failed = differs.is_some() || (self.expected.is_none() && entry.is_failed());
        if self.report.all || failed {
            let lines = show::entry(entry, &self.destinations, style);
            self.output.lines(lines)?;
        }
        let Some(Differs {
            file,
            line,
            differences,
        }) = differs
        else {
            return Ok(());
        };
        let place = format!("         not as {}:{line}", file.display());
        self.output.line(style.red(&place))?;
        let lines = differences.iter().map(|d| show::difference(d, style));
        self.output.lines(lines)
    }

    /// The end: how it went, and all that was found.
    pub fn finish(mut self) -> anyhow::Result<(Outcome, Vec<String>)> {
        if let Some(expected) = &self.expected
            && expected.len() != self.found.len()
        {
            let problem = format!(
                "{} is for {} messages, there were {}",
                expected.file().display(),
                expected.len(),
                self.found.len()
            );
            if !self.output.is_json() {
                self.output.line(self.output.style().red(&problem))?;
            }
            self.outcome.problem = Some(problem);
        }
        Ok((self.outcome, self.found))
    }
}

impl Outcome {
    /// All as expected; where nothing was, no message failed.
    pub fn is_good(&self) -> bool {
        let as_expected = self.differences.is_empty() && self.problem.is_none();
        as_expected && (self.is_compared || self.summary.failed() == 0)
    }

    /// Whether something was expected.
    pub fn is_compared(&self) -> bool {
        self.is_compared
    }

    /// Which verdicts there were.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let differences = self.differences.iter().map(|(line, difference)| {
            let mut value = difference_json(difference);
            value["line"] = (*line).into();
            value
        });
        json!({
            "passed": self.is_good(),
            "compared": self.is_compared,
            "messages": self.summary.messages(),
            "verdicts": self.summary.counts(),
            "differences": differences.collect::<Vec<_>>(),
            "problem": self.problem,
        })
    }
}

fn difference_json(difference: &Difference) -> Value {
    json!({
        "place": difference.place,
        "expected": difference.expected,
        "found": difference.found,
    })
}
