//! Records folded to runs: what `history` shows and `undo` chooses from.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use jiff::Timestamp;

use super::HistoryError;
use super::journal::read_back;
use super::record::{Ended, Event, Outcome, Record, RunFinished, RunOutcome, RunStarted};
use crate::plan::{Action, Kind};
use crate::select::FileKey;
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

    /// The files that it moved.
    fn files(&self) -> impl Iterator<Item = FileKey> {
        self.actions.iter().filter(|action| action.is_done()).map(|action| action.action.key())
    }

    fn apply(&mut self, t: Timestamp, event: Event) {
        match event {
            Event::Intent { seq, action, .. } => self.actions.push(RunAction { seq, action, ended: None }),
            Event::Ended(ended) => {
                if let Some(action) = self.actions.iter_mut().rev().find(|action| action.seq == ended.seq) {
                    action.ended = Some(ended);
                }
            }
            Event::RunFinished(finished) => self.finished = Some((t, finished)),
            Event::RunStarted(_) | Event::Root(_) | Event::Published { .. } | Event::Made { .. } | Event::Unknown => {}
        }
    }
}

/// Hands every run to `each`, newest first, until that has enough: what is older is not read.
///
/// # Errors
/// The history is damaged, as far as it was read, or cannot be read.
pub fn newest_runs(state: &StateDir, mut each: impl FnMut(Run) -> ControlFlow<()>) -> Result<(), HistoryError> {
    let mut fold = Fold::default();
    read_back(state, |record| fold.take(record).map_or(ControlFlow::Continue(()), &mut each))
}

/// The runs that `records` amount to; both oldest first.
#[cfg(any(test, fuzzing))]
pub(super) fn folded(records: impl DoubleEndedIterator<Item = Record>) -> Vec<Run> {
    let mut fold = Fold::default();
    let mut runs: Vec<Run> = records.rev().filter_map(|record| fold.take(record)).collect();
    runs.sort_by_key(|run| run.run);
    runs
}

/// Records on their way to runs, from the newest to the oldest. A run is whole when its start is met,
/// for whatever was settled of it later stands behind that.
#[derive(Default)]
struct Fold {
    /// What follows the start of a run, newest first.
    events: BTreeMap<u64, Vec<(Timestamp, Event)>>,
    met: BTreeSet<u64>,
    undone: Undone,
}

impl Fold {
    /// The run whose start `record` is.
    fn take(&mut self, record: Record) -> Option<Run> {
        let Event::RunStarted(started) = record.event else {
            self.events.entry(record.run).or_default().push((record.t, record.event));
            return None;
        };
        let events = self.events.remove(&record.run).unwrap_or_default();
        // A number that comes twice is that of the newer one.
        if !self.met.insert(record.run) {
            return None;
        }
        let mut run =
            Run { run: record.run, started, at: record.t, finished: None, actions: Vec::new(), undone_by: None };
        for (t, event) in events.into_iter().rev() {
            run.apply(t, event);
        }
        self.undone.note(&mut run);
        Some(run)
    }
}

/// Which runs were taken back, as newer ones tell.
#[derive(Default)]
struct Undone {
    by: BTreeMap<u64, u64>,
    /// What undos that were cut short have put back of a run, and the newest of them.
    in_part: BTreeMap<u64, (u64, BTreeSet<FileKey>)>,
}

impl Undone {
    /// Says of `run` who took it back, and keeps what it took back itself. An undo counts as long as it
    /// is not itself undone; one that was cut short counts when nothing was left to do.
    fn note(&mut self, run: &mut Run) {
        let in_part = self.in_part.remove(&run.run).filter(|(_, files)| run.files().all(|file| files.contains(&file)));
        run.undone_by = self.by.get(&run.run).copied().or(in_part.map(|(by, _)| by));
        if run.undone_by.is_some() || !run.has_done_actions() {
            return;
        }
        let was_cut_short = run.finished.as_ref().is_none_or(|(_, finished)| finished.was_cut_short());
        for taken_back in run.started.undo_of.iter().filter(|taken_back| **taken_back < run.run) {
            if was_cut_short {
                let (_, files) = self.in_part.entry(*taken_back).or_insert_with(|| (run.run, BTreeSet::new()));
                files.extend(run.files());
            } else {
                self.by.insert(*taken_back, run.run);
            }
        }
    }
}
