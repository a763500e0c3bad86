//! Records folded to runs: what `history` shows and `undo` chooses from.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::record::{Ended, Event, Outcome, Record, RunFinished, RunOutcome, RunStarted};
use super::{HistoryError, read_all};
use crate::plan::{Action, Kind};
use crate::state::StateDir;

/// One execution that could change something.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub run: u64,
    pub started: RunStarted,
    pub at: Timestamp,
    /// `None` when it was killed.
    pub finished: Option<(Timestamp, RunFinished)>,
    pub actions: Vec<RunAction>,
    /// The undo that took it back and still stands.
    pub undone_by: Option<u64>,
}

/// One action of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunAction {
    pub seq: u32,
    pub action: Action,
    /// `None` when a crash cut it short and nothing has settled it yet.
    pub ended: Option<Ended>,
}

impl RunAction {
    pub fn is_done(&self) -> bool {
        self.ended.as_ref().is_some_and(|ended| ended.result == Outcome::Done)
    }
}

impl Run {
    /// The four counts: as recorded at the end, or of the actions when there was no end.
    pub fn summary(&self) -> RunFinished {
        if let Some((_, finished)) = &self.finished {
            return finished.clone();
        }
        let mut summary = RunFinished::failed(RunOutcome::Stopped, "cut short".to_owned());
        for RunAction { action, ended, .. } in &self.actions {
            let count = match ended.as_ref().map(|ended| ended.result) {
                Some(Outcome::Done) if action.kind == Kind::Cache => &mut summary.cached,
                Some(Outcome::Done) => &mut summary.evicted,
                Some(Outcome::Skipped) => &mut summary.skipped,
                Some(Outcome::Failed) | None => &mut summary.failed,
            };
            count.add(action.size);
        }
        summary
    }

    pub fn has_done_actions(&self) -> bool {
        self.actions.iter().any(RunAction::is_done)
    }
}

/// All runs, oldest first.
///
/// # Errors
/// The history is damaged or cannot be read.
pub fn runs(state: &StateDir) -> Result<Vec<Run>, HistoryError> {
    let mut runs = BTreeMap::new();
    read_all(state, |record| fold(&mut runs, record))?;
    Ok(finish(runs))
}

fn finish(runs: BTreeMap<u64, Run>) -> Vec<Run> {
    let mut runs: Vec<Run> = runs.into_values().collect();
    mark_undone(&mut runs);
    runs
}

/// The runs that `records` amount to.
#[cfg(any(test, fuzzing))]
pub(super) fn folded(records: impl IntoIterator<Item = Record>) -> Vec<Run> {
    let mut runs = BTreeMap::new();
    records.into_iter().for_each(|record| fold(&mut runs, record));
    finish(runs)
}

fn fold(runs: &mut BTreeMap<u64, Run>, record: Record) {
    if let Event::RunStarted(started) = record.event {
        let run = Run { run: record.run, started, at: record.t, finished: None, actions: Vec::new(), undone_by: None };
        runs.insert(record.run, run);
        return;
    }
    let Some(run) = runs.get_mut(&record.run) else { return };
    match record.event {
        Event::Intent { seq, action, .. } => run.actions.push(RunAction { seq, action, ended: None }),
        Event::Ended(ended) => {
            if let Some(action) = run.actions.iter_mut().rev().find(|action| action.seq == ended.seq) {
                action.ended = Some(ended);
            }
        }
        Event::RunFinished(finished) => run.finished = Some((record.t, finished)),
        Event::RunStarted(_) | Event::Root(_) | Event::Published { .. } | Event::Made { .. } | Event::Unknown => {}
    }
}

/// An undo counts as long as it is not itself undone, so the newest one is looked at first.
fn mark_undone(runs: &mut [Run]) {
    let mut undone = BTreeMap::new();
    for run in runs.iter_mut().rev() {
        run.undone_by = undone.get(&run.run).copied();
        if run.undone_by.is_none() && run.has_done_actions() {
            let taken_back: BTreeSet<u64> = run.started.undo_of.iter().copied().collect();
            undone.extend(taken_back.into_iter().map(|taken_back| (taken_back, run.run)));
        }
    }
}
