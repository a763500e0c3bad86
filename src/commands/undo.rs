//! `undo`: takes back a run, newest action first, each re-checked.
//!
//! An undo is a run like any other, with a plan, intents and outcomes; so undoing it is redo. Plex is
//! not asked: what the host has open stands in for what Plex plays.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};

use super::survey::{Survey, copy_state};
use super::{Begin, Changes, Command, Failure, Session, history_failure, pool_lines};
use crate::exit::Exit;
use crate::history::{UndoError, plan_undo, runs_for_undo};
use crate::plan::{Action, CopyState, Kind, Plan, Skip, Why};
use crate::report::PlanContext;
use crate::select::Playing;
use crate::tier::OpenFiles;

/// Takes back runs.
#[derive(Debug)]
pub struct Undo {
    /// `None`: the newest ones not yet undone.
    pub run: Option<u64>,
    /// How many of them.
    pub last: usize,
}

impl Command for Undo {
    fn name(&self) -> &'static str {
        "undo"
    }

    fn run(&self, session: &mut Session<'_>) -> anyhow::Result<Exit> {
        let Self { run, last } = self;
        // What is undone is known before anything is begun, because the record of the run says so. The
        // history is read once more below, under the lock.
        let choose = |index: &crate::history::Index, state| -> anyhow::Result<_> {
            let runs = runs_for_undo(state, *run, *last).map_err(history_failure)?;
            Ok(plan_undo(&runs, index, *run, *last))
        };
        let state = session.state.clone();
        let index = crate::history::load(&state).map_err(history_failure)?;
        let chosen = match choose(&index, &state)? {
            Ok(undo) => undo.runs,
            Err(error @ UndoError::Nothing) => {
                session.note(&format!("{error}."));
                return Ok(Exit::Ok);
            }
            Err(error) => return Err(Failure::new(Exit::Error, error.to_string(), None).into()),
        };
        let hold = Some(session.config.evict.undo_hold);
        let mut changes = session.begin(&Begin { command: self.name(), undo_of: chosen.clone(), hold })?;
        let undo = match choose(changes.index(), &state)? {
            Ok(undo) if undo.runs == chosen => undo,
            _ => {
                let failure =
                    Failure::new(Exit::Error, "another run has come in between", Some("look at it, and try again"));
                return Err(changes.fail(failure.into()));
            }
        };
        session.note("Plex is not asked: what is open on this host is left alone, and nothing else is.");
        let mut plan = Plan { skipped: undo.skipped, ..Plan::default() };
        let open = session.open_files();
        for action in undo.actions {
            match obstacle(&changes, &open, &action) {
                None => plan.actions.push(action),
                Some((why, detail)) => plan.skipped.push(Skip::of(&action, action.kind, why, detail)),
            }
        }
        plan.kept_files = u64::try_from(changes.index().cached.len()).unwrap_or(u64::MAX);
        let conflicts = plan.skipped.iter().filter(|skip| matches!(skip.why, Why::Changed | Why::Conflict)).count();
        if conflicts > 0 {
            changes.problem(format!("{conflicts} files have changed since and are left alone"));
        }
        let context = context(session, &changes, &plan, &chosen)?;
        let question = format!("Undo {} of {} actions?", plan.actions.len(), plan.actions.len() + plan.skipped.len());
        changes.apply(session, plan, &context, Some(&question))
    }
}

fn context(session: &Session<'_>, changes: &Changes, plan: &Plan, chosen: &[u64]) -> anyhow::Result<PlanContext> {
    let playing = Playing::Known { rating_keys: BTreeSet::new(), files: BTreeSet::new() };
    let survey = Survey {
        tiers: &changes.tiers,
        index: changes.index(),
        open: &OpenFiles::default(),
        playing: &playing,
        sidecars: session.config.select.sidecars,
        min_file_age: SignedDuration::ZERO,
        now: Timestamp::now(),
    };
    let cached = survey.cached(&BTreeMap::new(), |_| false);
    let pools = survey.pools(&session.config.limits).context("asking the cache for free space")?;
    let pools = pool_lines(&pools, &cached, plan);
    Ok(PlanContext { command: "undo", server: None, pools, undo_of: chosen.to_vec() })
}

/// Why an action cannot be taken back now: the same checks as when it is carried out, so that a dry run
/// shows what the real one will do.
fn obstacle(changes: &Changes, open: &OpenFiles, action: &Action) -> Option<(Why, String)> {
    let unavailable = || Some((Why::Unavailable, "its disk is not among the configured ones".to_owned()));
    let (Some(array), Some(cache)) = (changes.tiers.root(&action.array_root), changes.tiers.root(&action.cache_root))
    else {
        return unavailable();
    };
    let holder =
        |stat: &crate::tier::Stat| open.holder(stat.dev, stat.ino).map(|who| (Why::Open, format!("open in {who}")));
    match action.kind {
        Kind::Evict => {
            let cached = changes.index().cached.get(&action.key())?;
            match copy_state(cache, cached) {
                Ok((CopyState::Unchanged, Some(stat))) => holder(&stat),
                Ok((CopyState::Unchanged | CopyState::Gone, _)) => None,
                Ok((CopyState::Changed, _)) => Some((Why::Changed, "the cached copy was changed since".to_owned())),
                Err(error) => Some((Why::Unavailable, format!("cannot look at it: {error}"))),
            }
        }
        Kind::Cache => match (array.folder.stat_below(&action.path), cache.folder.stat_below(&action.path)) {
            (Err(error), _) | (_, Err(error)) => Some((Why::Unavailable, format!("cannot look at it: {error}"))),
            (Ok(None), _) => Some((Why::Changed, "the original is gone".to_owned())),
            (Ok(Some(stat)), _) if Some(stat.fingerprint()) != action.array => {
                Some((Why::Changed, "the original was replaced since".to_owned()))
            }
            (_, Ok(Some(_))) => Some((Why::Conflict, "there is another file on the cache".to_owned())),
            (Ok(Some(_)), Ok(None)) => None,
        },
    }
}
