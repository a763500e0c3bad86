//! What all runs together amount to, for those who count: metrics.
//!
//! Kept with the index, so that nobody has to read years of history for a handful of numbers. They only
//! ever grow, and they are no basis for any decision.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::{Count, RunFinished, RunOutcome};
use crate::plan::Kind;

/// Sums over the whole history.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Totals {
    pub commands: BTreeMap<String, CommandTotals>,
    pub cached: Count,
    pub evicted: Count,
    pub failed: Count,
    pub skipped: Count,
}

/// The finished runs of one command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandTotals {
    pub last: FinishedRun,
    /// When the last one without any trouble ended.
    pub last_success: Option<Timestamp>,
    pub ended: BTreeMap<RunOutcome, u64>,
}

/// One run that came to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinishedRun {
    pub started: Timestamp,
    pub at: Timestamp,
    pub what: RunFinished,
}

impl Totals {
    /// Counts a file that was moved, whatever becomes of its run.
    pub(super) fn moved(&mut self, kind: Kind, size: u64) {
        match kind {
            Kind::Cache => self.cached.add(size),
            Kind::Evict => self.evicted.add(size),
        }
    }

    /// Counts a run, and what it left alone or failed at.
    pub(super) fn finished(&mut self, command: &str, last: FinishedRun) {
        add(&mut self.failed, last.what.failed);
        add(&mut self.skipped, last.what.skipped);
        let before = self.commands.remove(command);
        let (mut ended, success) = before.map_or_else(Default::default, |before| (before.ended, before.last_success));
        let number = ended.entry(last.what.outcome).or_insert(0_u64);
        *number = number.saturating_add(1);
        let last_success = if last.what.outcome == RunOutcome::Ok { Some(last.at) } else { success };
        self.commands.insert(command.to_owned(), CommandTotals { last, last_success, ended });
    }

    /// The sums of what `runs`, oldest first, did.
    #[cfg(test)]
    pub(crate) fn of(runs: &[super::Run]) -> Self {
        let mut totals = Self::default();
        for run in runs {
            let RunFinished { cached, evicted, .. } = run.summary();
            add(&mut totals.cached, cached);
            add(&mut totals.evicted, evicted);
            if let Some((at, what)) = &run.finished {
                let last = FinishedRun { started: run.at, at: *at, what: what.clone() };
                totals.finished(&run.started.command, last);
            }
        }
        totals
    }
}

fn add(sum: &mut Count, more: Count) {
    sum.files = sum.files.saturating_add(more.files);
    sum.bytes = sum.bytes.saturating_add(more.bytes);
}
