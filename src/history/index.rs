//! What the history amounts to: what is cached now, what was cut short, what the runs did last.
//!
//! Derived from the records alone and made again from them when the saved copy is absent, damaged or
//! not of this history. Applying a record is total: whatever a damaged or foreign history says, the
//! index follows without panicking, and nothing that it says is believed without a look at the disk.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::Utf8PathBuf;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::journal::Mark;
use super::record::{Ended, Event, MadeFolder, Outcome, Published, Record, RunFinished, RunStarted};
use super::totals::{FinishedRun, Totals};
use crate::paths::MediaPath;
use crate::plan::{Action, Cached, Kind};
use crate::select::FileKey;
use crate::tier::KnownRoot;

/// The saved form carries this number; another one means: make it again.
const FORMAT: u32 = 3;

/// What all records so far amount to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Index {
    /// How far into the history it reaches.
    pub mark: Mark,
    pub cached: BTreeMap<FileKey, Arc<Cached>>,
    /// Begun and not ended, by run and sequence.
    pub open: BTreeMap<(u64, u32), OpenAction>,
    /// Files that an undo moved a while ago, and until when they stay where it put them.
    pub holds: BTreeMap<FileKey, Hold>,
    pub roots: BTreeMap<Utf8PathBuf, KnownRoot>,
    pub made: BTreeSet<(Utf8PathBuf, MediaPath)>,
    pub next_run: u64,
    pub last_run: Option<LastRun>,
    pub totals: Totals,
}

/// An action that a crash cut short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenAction {
    pub temp: String,
    pub action: Action,
    pub published: Option<Published>,
    /// For how many seconds what it moves is held: an undo's promise outlives the crash of the undo.
    #[serde(default)]
    pub(super) hold_seconds: Option<i64>,
}

/// Where an undo put a file, and until when it stays there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub kind: Kind,
    pub until: Timestamp,
    /// How long it was when it was made.
    pub(super) seconds: i64,
}

/// The newest run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastRun {
    pub run: u64,
    pub command: String,
    pub started: Timestamp,
    /// `None` when it was killed.
    pub finished: Option<(Timestamp, RunFinished)>,
    /// Until when what it moves is held, counted from its actions.
    pub(super) hold_seconds: Option<i64>,
}

impl Index {
    /// Takes one more record into account.
    pub fn apply(&mut self, record: &Record) {
        self.next_run = self.next_run.max(record.run.saturating_add(1));
        match &record.event {
            Event::RunStarted(started) => self.start(record, started),
            Event::Root(root) => {
                self.roots.insert(root.path.clone(), root.clone());
            }
            Event::Intent { seq, temp, action } => {
                let hold_seconds =
                    self.last_run.as_ref().filter(|last| last.run == record.run).and_then(|last| last.hold_seconds);
                let open = OpenAction { temp: temp.clone(), action: action.clone(), published: None, hold_seconds };
                self.open.insert((record.run, *seq), open);
            }
            Event::Published { seq, published } => {
                if let Some(open) = self.open.get_mut(&(record.run, *seq)) {
                    open.published = Some(*published);
                }
            }
            Event::Made { folders, .. } => {
                self.made.extend(folders.iter().map(|MadeFolder { root, path }| (root.clone(), path.clone())));
            }
            Event::Ended(ended) => self.end(record, ended),
            Event::RunFinished(finished) => {
                if let Some(last) = self.last_run.as_mut().filter(|last| last.run == record.run) {
                    last.finished = Some((record.t, finished.clone()));
                    let finished = FinishedRun { started: last.started, at: record.t, what: finished.clone() };
                    self.totals.finished(&last.command, finished);
                }
            }
            Event::Unknown => {}
        }
    }

    /// Lets go of what no longer holds, so that the index does not grow with the years. A hold that was
    /// made while the clock was ahead begins now, and does not last until it is that late again.
    pub(super) fn shorten_holds(&mut self, now: Timestamp) {
        self.holds.retain(|_, hold| hold.until > now);
        for hold in self.holds.values_mut() {
            if let Ok(until) = now.checked_add(SignedDuration::from_secs(hold.seconds)) {
                hold.until = hold.until.min(until);
            }
        }
    }

    fn start(&mut self, record: &Record, started: &RunStarted) {
        self.shorten_holds(record.t);
        self.last_run = Some(LastRun {
            run: record.run,
            command: started.command.clone(),
            started: record.t,
            finished: None,
            hold_seconds: started.hold_seconds,
        });
    }

    fn end(&mut self, record: &Record, ended: &Ended) {
        for folder in &ended.unmade {
            self.made.remove(&(folder.root.clone(), folder.path.clone()));
        }
        let Some(open) = self.open.remove(&(record.run, ended.seq)) else { return };
        if ended.result != Outcome::Done {
            return;
        }
        let mut action = open.action;
        self.totals.moved(action.kind, action.size);
        let key = action.key();
        let until = |seconds| Some((seconds, record.t.checked_add(SignedDuration::from_secs(seconds)).ok()?));
        match open.hold_seconds.and_then(until) {
            Some((seconds, until)) => self.holds.insert(key.clone(), Hold { kind: action.kind, until, seconds }),
            None => self.holds.remove(&key),
        };
        match action.kind {
            Kind::Evict => {
                self.cached.remove(&key);
            }
            Kind::Cache => {
                action.array = ended.array.or(action.array);
                action.copy = ended.copy;
                action.checksum = ended.checksum;
                self.cached.insert(key, Arc::new(Cached { action, run: record.run, at: record.t }));
            }
        }
    }
}

/// How an index is saved: JSON has no maps by structures. What is written is lent.
#[derive(Serialize, Deserialize)]
pub(super) struct Saved<'a> {
    format: u32,
    mark: Mark,
    cached: Vec<Cow<'a, Arc<Cached>>>,
    open: Vec<(u64, u32, Cow<'a, OpenAction>)>,
    holds: Vec<(Cow<'a, FileKey>, Hold)>,
    roots: Vec<Cow<'a, KnownRoot>>,
    made: Vec<Cow<'a, (Utf8PathBuf, MediaPath)>>,
    next_run: u64,
    last_run: Option<Cow<'a, LastRun>>,
    totals: Cow<'a, Totals>,
}

impl<'a> From<&'a Index> for Saved<'a> {
    fn from(index: &'a Index) -> Self {
        Self {
            format: FORMAT,
            mark: index.mark,
            cached: index.cached.values().map(Cow::Borrowed).collect(),
            open: index.open.iter().map(|((run, seq), open)| (*run, *seq, Cow::Borrowed(open))).collect(),
            holds: index.holds.iter().map(|(key, hold)| (Cow::Borrowed(key), *hold)).collect(),
            roots: index.roots.values().map(Cow::Borrowed).collect(),
            made: index.made.iter().map(Cow::Borrowed).collect(),
            next_run: index.next_run,
            last_run: index.last_run.as_ref().map(Cow::Borrowed),
            totals: Cow::Borrowed(&index.totals),
        }
    }
}

impl Saved<'_> {
    /// The index, when it was saved by a release that means the same by it.
    pub(super) fn restore(self) -> Option<Index> {
        let cached = |cached: Cow<'_, Arc<Cached>>| (cached.action.key(), cached.into_owned());
        (self.format == FORMAT).then(|| Index {
            mark: self.mark,
            cached: self.cached.into_iter().map(cached).collect(),
            open: self.open.into_iter().map(|(run, seq, open)| ((run, seq), open.into_owned())).collect(),
            holds: self.holds.into_iter().map(|(key, hold)| (key.into_owned(), hold)).collect(),
            roots: self.roots.into_iter().map(|root| (root.path.clone(), root.into_owned())).collect(),
            made: self.made.into_iter().map(Cow::into_owned).collect(),
            next_run: self.next_run,
            last_run: self.last_run.map(Cow::into_owned),
            totals: self.totals.into_owned(),
        })
    }
}
