//! Which files an undo has to put back, and to which tier. Pure.
//!
//! An undo is never a replay: for every file that the chosen runs touched it works out where the file
//! was before the first of them, and what would bring it back there. A file that a later run has
//! touched since is left alone. Whether the files themselves are still what they were is asked again
//! at the disk, by the planner of the command and by the executor.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::HistoryError;
use super::index::Index;
use super::runs::{Run, RunAction, newest_runs};
use crate::plan::{Action, EvictWhy, Kind, Skip, Why};
use crate::select::FileKey;
use crate::state::StateDir;

/// What an undo would do, before the disk is looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UndoPlan {
    /// The runs it takes back, newest first.
    pub runs: Vec<u64>,
    /// Newest first.
    pub actions: Vec<Action>,
    pub skipped: Vec<Skip>,
}

/// Why there is nothing to take back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UndoError {
    #[error("there is no run {0} in the history")]
    NoSuchRun(u64),
    #[error("run {run} was taken back by run {by} already; to do it again: plexcache undo {by}")]
    AlreadyUndone { run: u64, by: u64 },
    #[error("run {0} changed nothing")]
    NothingDone(u64),
    #[error("nothing to undo")]
    Nothing,
}

/// The runs by which [`plan_undo`] plans, oldest first: those from the end of the history back to the last
/// that it has to know.
///
/// # Errors
/// The history is damaged, as far as it was read, or cannot be read.
pub fn runs_for_undo(state: &StateDir, chosen: Option<u64>, last: usize) -> Result<Vec<Run>, HistoryError> {
    let mut reach = Reach::new(chosen, last);
    let mut runs = Vec::new();
    newest_runs(state, |run| {
        let is_far_enough = reach.covers(&run);
        runs.push(run);
        if is_far_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    runs.sort_by_key(|run: &Run| run.run);
    Ok(runs)
}

/// How far back an undo has to look: to the runs that it takes back, and to those that a newer undo took
/// back, for what they did may stand again.
pub(super) struct Reach {
    chosen: Option<u64>,
    missing: usize,
    named: u64,
}

impl Reach {
    pub(super) fn new(chosen: Option<u64>, last: usize) -> Self {
        Self { chosen, missing: if chosen.is_some() { 1 } else { last }, named: u64::MAX }
    }

    /// Whether nothing older than `run` matters. To be asked of every run, newest first.
    pub(super) fn covers(&mut self, run: &Run) -> bool {
        let is_one = self.chosen.map_or_else(|| is_standing(run), |chosen| run.run == chosen);
        self.missing = self.missing.saturating_sub(usize::from(is_one));
        self.named = run.started.undo_of.iter().copied().fold(self.named, u64::min);
        self.missing == 0 && run.run <= self.named
    }
}

/// Whether an undo that names no run may choose this one.
fn is_standing(run: &Run) -> bool {
    run.undone_by.is_none() && run.started.undo_of.is_empty() && run.has_done_actions()
}

/// Plans to take back `chosen`, or else the newest `last` runs that are not undone. An undo is only
/// taken back when it is named.
///
/// # Errors
/// [`UndoError`] says why there is nothing to do.
pub fn plan_undo(runs: &[Run], index: &Index, chosen: Option<u64>, last: usize) -> Result<UndoPlan, UndoError> {
    let taken_back: Vec<&Run> = if let Some(number) = chosen {
        let run = runs.iter().find(|run| run.run == number).ok_or(UndoError::NoSuchRun(number))?;
        if let Some(by) = run.undone_by {
            return Err(UndoError::AlreadyUndone { run: number, by });
        }
        if !run.has_done_actions() {
            return Err(UndoError::NothingDone(number));
        }
        vec![run]
    } else {
        runs.iter().rev().filter(|run| is_standing(run)).take(last).collect()
    };
    if taken_back.is_empty() {
        return Err(UndoError::Nothing);
    }
    let last_touch = last_touch(runs);
    let mut plan = UndoPlan { runs: taken_back.iter().map(|run| run.run).collect(), ..UndoPlan::default() };
    let settled = settled_since(runs, &plan.runs);
    for (key, oldest) in oldest_actions(&taken_back) {
        let Some((by, newest)) = last_touch.get(&key) else { continue };
        if !settled.contains(&key) {
            if by.started.undo_of.iter().any(|taken_back| plan.runs.contains(taken_back)) {
                // An undo that was cut short has put this one back already.
                continue;
            }
            // What the undo would have done is the opposite of what the run did.
            let kind = if oldest.action.kind == Kind::Cache { Kind::Evict } else { Kind::Cache };
            let detail = format!("run {} has touched it since", by.run);
            plan.skipped.push(Skip::of(&oldest.action, kind, Why::Changed, detail));
            continue;
        }
        match (oldest.action.kind, index.cached.get(&key)) {
            (Kind::Cache, Some(cached)) => {
                let mut action = cached.action.clone();
                action.kind = Kind::Evict;
                action.evict_why = Some(EvictWhy::Undo);
                plan.actions.push(action);
            }
            (Kind::Evict, None) => plan.actions.push(cache_again(newest)),
            // Where it was before the runs is where it is.
            (Kind::Cache, None) | (Kind::Evict, Some(_)) => {}
        }
    }
    Ok(plan)
}

/// For every file that the runs (newest first) touched, the oldest done action on it: its kind tells
/// where the file was before. In the order of the newest action on each file, newest first.
fn oldest_actions<'a>(taken_back: &[&'a Run]) -> Vec<(FileKey, &'a RunAction)> {
    let mut place = BTreeMap::new();
    let mut oldest: Vec<(FileKey, &RunAction)> = Vec::new();
    let newest_first = taken_back.iter().flat_map(|run| run.actions.iter().rev()).filter(|action| action.is_done());
    for action in newest_first {
        let key = action.action.key();
        if let Some(&at) = place.get(&key) {
            let known: &mut (FileKey, &RunAction) = &mut oldest[at];
            known.1 = action;
        } else {
            place.insert(key.clone(), oldest.len());
            oldest.push((key, action));
        }
    }
    oldest
}

/// The caching that takes an eviction back: from where the eviction left the file, and only if it is
/// still what the eviction left.
fn cache_again(evicted: &RunAction) -> Action {
    let mut action = evicted.action.clone();
    action.kind = Kind::Cache;
    action.evict_why = None;
    action.copy = None;
    action.checksum = None;
    if let Some(ended) = &evicted.ended {
        action.array = ended.array.or(action.array);
    }
    if let Some(array) = action.array {
        action.size = array.size;
    }
    action
}

/// The newest done action on each file, and its run.
fn last_touch(runs: &[Run]) -> BTreeMap<FileKey, (&Run, &RunAction)> {
    let actions = runs.iter().flat_map(|run| run.actions.iter().map(move |action| (run, action)));
    actions.filter(|(_, action)| action.is_done()).map(|(run, action)| (action.action.key(), (run, action))).collect()
}

/// The files that `chosen` touched and that are where the newest of those runs has put them, as far as
/// the other runs tell: later ones have either not touched them, or an undo took that back.
fn settled_since(runs: &[Run], chosen: &[u64]) -> BTreeSet<FileKey> {
    // The runs by which a file is where it is, newest last. An undo takes away those that it undoes and
    // does not count itself; an undo of that undo brings them back.
    let mut causes: BTreeMap<FileKey, Vec<u64>> = BTreeMap::new();
    let mut taken_away: BTreeMap<(u64, FileKey), Vec<u64>> = BTreeMap::new();
    let mut after_chosen: BTreeMap<FileKey, Vec<u64>> = BTreeMap::new();
    for run in runs {
        let undo_of = &run.started.undo_of;
        for action in run.actions.iter().filter(|action| action.is_done()) {
            let key = action.action.key();
            let causes = causes.entry(key.clone()).or_default();
            let kept = causes.iter().rposition(|cause| !undo_of.contains(cause)).map_or(0, |last| last + 1);
            let away = causes.split_off(kept);
            let back = undo_of.iter().filter_map(|undone| taken_away.remove(&(*undone, key.clone())));
            let back: Vec<u64> = back.flatten().collect();
            if away.is_empty() && back.is_empty() {
                causes.push(run.run);
            }
            causes.extend(back);
            if chosen.contains(&run.run) {
                after_chosen.insert(key.clone(), causes.clone());
            }
            if !away.is_empty() {
                taken_away.insert((run.run, key), away);
            }
        }
    }
    after_chosen.into_iter().filter(|(key, after)| causes.get(key) == Some(after)).map(|(key, _)| key).collect()
}
