//! `history`: the runs, newest first, or the actions of one. Reads only.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::{Command, Failure, Session, history_failure};
use crate::exit::Exit;
use crate::history::record::{Outcome, RunOutcome};
use crate::history::{Run, newest_runs};
use crate::plan::Kind;
use crate::report::{Message, Stats};

/// Shows runs.
#[derive(Debug)]
pub struct ShowHistory {
    pub listing: Listing,
    pub filter: Filter,
}

/// How to show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    Runs,
    /// The actions of this run.
    Run(u64),
    Stats,
    Csv,
}

/// Which runs.
#[derive(Debug, Default)]
pub struct Filter {
    /// A part of the path of a file that the run touched.
    pub path: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub failed: bool,
    pub command: Option<String>,
    pub limit: usize,
}

impl Filter {
    fn takes(&self, run: &Run) -> bool {
        let Self { path, since, until, failed, command, limit: _ } = self;
        since.is_none_or(|since| run.at >= since)
            && until.is_none_or(|until| run.at <= until)
            && command.as_ref().is_none_or(|command| run.started.command == *command)
            && (!failed || has_failed(run))
            && path
                .as_ref()
                .is_none_or(|part| run.actions.iter().any(|a| a.action.path.as_str().contains(part.as_str())))
    }
}

fn has_failed(run: &Run) -> bool {
    let summary = run.summary();
    summary.failed.files > 0 || !matches!(summary.outcome, RunOutcome::Ok)
}

impl Command for ShowHistory {
    fn name(&self) -> &'static str {
        "history"
    }

    fn run(&self, session: &mut Session<'_>) -> anyhow::Result<Exit> {
        let Self { listing, filter } = self;
        if let Listing::Run(number) = listing {
            let Some(run) = find(session, *number)? else {
                let message = format!("there is no run {number} in the history");
                return Err(Failure::new(Exit::Error, message, Some("plexcache history lists them")).into());
            };
            session.reporter.message(&Message::Run(&run));
            return Ok(Exit::Ok);
        }
        if *listing == Listing::Stats {
            let mut stats = Stats::default();
            self.each(session, usize::MAX, |run| add(&mut stats, &run))?;
            session.reporter.message(&Message::Stats(&stats));
            return Ok(Exit::Ok);
        }
        let mut chosen = Vec::new();
        self.each(session, filter.limit, |run| chosen.push(run))?;
        session.reporter.message(&match listing {
            Listing::Csv => Message::Csv(&chosen),
            _ => Message::Runs(&chosen),
        });
        Ok(Exit::Ok)
    }
}

impl ShowHistory {
    /// Hands the newest `limit` runs that the filter takes to `each`, newest first.
    fn each(&self, session: &Session<'_>, limit: usize, mut each: impl FnMut(Run)) -> anyhow::Result<()> {
        let mut missing = limit;
        newest_runs(&session.state, |run| {
            if missing > 0 && self.filter.takes(&run) {
                each(run);
                missing -= 1;
            }
            if missing == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .map_err(history_failure)
    }
}

fn find(session: &Session<'_>, number: u64) -> anyhow::Result<Option<Run>> {
    let mut found = None;
    newest_runs(&session.state, |run| {
        if run.run != number {
            return ControlFlow::Continue(());
        }
        found = Some(run);
        ControlFlow::Break(())
    })
    .map_err(history_failure)?;
    Ok(found)
}

fn add(stats: &mut Stats, run: &Run) {
    stats.runs += 1;
    *stats.outcomes.entry(run.summary().outcome.word().to_owned()).or_insert(0) += 1;
    stats.first = Some(stats.first.map_or(run.at, |at| at.min(run.at)));
    stats.last = Some(stats.last.map_or(run.at, |at| at.max(run.at)));
    for action in &run.actions {
        let Some(ended) = &action.ended else { continue };
        match (ended.result, action.action.kind) {
            (Outcome::Done, Kind::Cache) => stats.cached.add(action.action.size),
            (Outcome::Done, Kind::Evict) => stats.evicted.add(action.action.size),
            (Outcome::Failed, _) => stats.failed.add(action.action.size),
            (Outcome::Skipped, _) => {}
        }
        if ended.bytes > 0 {
            stats.copied_bytes = stats.copied_bytes.saturating_add(ended.bytes);
            stats.copy_ms = stats.copy_ms.saturating_add(ended.duration_ms);
        }
    }
}
