//! What was done, on disk: the truth of the program.
//!
//! Owns `history.jsonl` (append-only, see [`record`]) and the index derived from it. The order of
//! every change rests on this module: an intent is on disk before a file is touched, an outcome only
//! after the effect is durable. When a record cannot be written, nothing more is changed.

#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
mod index;
mod journal;
pub mod record;
mod runs;
mod totals;
mod undo;

use jiff::Timestamp;

use index::Saved;
pub use index::{Hold, Index, LastRun, OpenAction};
pub use journal::HistoryError;
use journal::{Journal, Mark};
use record::{Event, Record, VERSION};
pub use runs::{Run, RunAction, newest_runs};
pub use totals::{CommandTotals, FinishedRun, Totals};
pub use undo::{UndoError, UndoPlan, plan_undo, runs_for_undo};

use crate::state::StateDir;

/// The name of the saved index.
const INDEX: &str = "index.json";

/// So many bytes of records are read faster than an index of many files is written.
const FEW: u64 = 1 << 16;

/// Reads what the history amounts to now, without changing anything.
///
/// # Errors
/// The history is damaged or cannot be read.
pub fn load(state: &StateDir) -> Result<Index, HistoryError> {
    Ok(load_behind(state)?.0)
}

/// The same, and how far into the history the saved index reaches.
fn load_behind(state: &StateDir) -> Result<(Index, u64), HistoryError> {
    let (mut index, saved) = fold(state)?;
    index.shorten_holds(Timestamp::now());
    Ok((index, saved))
}

/// What the records amount to, by the saved index and what follows it or by all of them.
fn fold(state: &StateDir) -> Result<(Index, u64), HistoryError> {
    // One that covers nothing of the history has nothing to tell.
    let saved = state.read::<Saved>(INDEX).and_then(Saved::restore).filter(|index| index.mark.offset > 0);
    let mut index = saved.unwrap_or_default();
    let mark = index.mark;
    if let Some(end) = journal::read(state, mark, |record| index.apply(&record))? {
        index.mark = end;
        return Ok((index, mark.offset));
    }
    tracing::debug!("the index is not of this history; reading all of it");
    let mut index = Index::default();
    let end = journal::read(state, Mark::default(), |record| index.apply(&record))?;
    index.mark = end.unwrap_or_default();
    Ok((index, 0))
}

/// The history of a changing run. The caller holds the state's lock.
#[derive(Debug)]
pub struct History {
    state: StateDir,
    journal: Journal,
    index: Index,
    /// How far into the history the saved index reaches; 0 when there is none.
    saved: u64,
    run: u64,
    /// Written with the first record that matters, so that a run is never recorded without its start.
    start: Option<Event>,
    /// Bytes of a torn last line that were put aside.
    pub torn: u64,
}

impl History {
    /// Opens the history for a new run, which is recorded once it records something.
    ///
    /// # Errors
    /// The history is damaged, or cannot be read or written.
    pub fn open(state: &StateDir, start: record::RunStarted) -> Result<Self, HistoryError> {
        let (journal, torn) = Journal::open(state)?;
        let (index, saved) = load_behind(state)?;
        let run = index.next_run.max(1);
        if run == u64::MAX {
            // Saturated: a second run of that number would hide the first.
            return Err(HistoryError::NoNumber(state.file("history.jsonl")));
        }
        Ok(Self { state: state.clone(), journal, index, saved, run, start: Some(Event::RunStarted(start)), torn })
    }

    /// The number of this run.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Whether anything of this run is on disk.
    pub fn is_recorded(&self) -> bool {
        self.start.is_none()
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Records `event` for this run; on disk when it returns.
    ///
    /// # Errors
    /// Nothing may be changed any more.
    pub fn record(&mut self, event: Event) -> Result<(), HistoryError> {
        self.record_for(self.run, event)
    }

    /// Records `event` for `run`, which may be an earlier one that is being settled.
    ///
    /// # Errors
    /// Nothing may be changed any more.
    pub fn record_for(&mut self, run: u64, event: Event) -> Result<(), HistoryError> {
        self.record_all([(run, event)])
    }

    /// Records several events, each with the run that it is of. All of them are on disk when it returns, and cost
    /// no more than one.
    ///
    /// # Errors
    /// Nothing may be changed any more: not one of them is promised.
    pub fn record_all(&mut self, events: impl IntoIterator<Item = (u64, Event)>) -> Result<(), HistoryError> {
        let t = Timestamp::now();
        let start = self.start.take().map(|event| (self.run, event));
        let events = start.into_iter().chain(events);
        let records: Vec<Record> = events.map(|(run, event)| Record { v: VERSION, run, t, event }).collect();
        self.index.mark = self.journal.append(&records)?;
        for record in &records {
            self.index.apply(record);
        }
        Ok(())
    }

    /// Saves the index, unless the next run has read the little that is behind the saved one sooner. Losing it
    /// costs time, nothing else.
    pub fn save_index(&self) {
        let behind = self.index.mark.offset.saturating_sub(self.saved);
        // A hold is counted from a clock that may have been wrong, so what was made of it is kept.
        if self.saved > 0 && behind <= FEW && self.index.holds.is_empty() {
            return;
        }
        if let Err(error) = self.state.write(INDEX, &Saved::from(&self.index)) {
            tracing::warn!("cannot save {}: {error}; it will be made again", self.state.file(INDEX));
        }
    }
}
