//! Everything that reaches a person or a script: the only module that prints.
//!
//! Owns the [`Message`]s in which commands speak, and the [`Reporter`]s that show them: human text,
//! JSON lines. Results go to standard output, progress and warnings to standard error. Names of files
//! and titles are foreign text: control characters in them never reach a terminal.

mod html;
mod human;
mod json;
mod nagios;
mod prometheus;
#[cfg(test)]
mod samples;
mod sink;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;

use crate::exit::Exit;
use crate::history::record::{Ended, RunFinished};
use crate::history::{LastRun, Run};
use crate::plan::{Action, Cached, CopyState, Plan, Release};
use crate::transfer::Settled;

pub use html::html;
pub use human::{Color, Human, HumanOptions};
pub use json::Json;
pub use nagios::level;
pub use prometheus::prometheus;
pub(crate) use words::size as byte_size;

/// Something that happened, or that was asked for.
#[derive(Debug)]
pub enum Message<'a> {
    /// First of `sync`, `evict` and `undo`.
    Plan {
        plan: &'a Plan,
        dry_run: bool,
        context: &'a PlanContext,
    },
    /// An action begins; `number` counts from 1 to `total`.
    Started {
        action: &'a Action,
        number: usize,
        total: usize,
    },
    /// Bytes of an action, one of those that were started and have not ended, that are done.
    Progress {
        action: &'a Action,
        done: u64,
    },
    /// An action has ended.
    Ended {
        action: &'a Action,
        ended: &'a Ended,
    },
    /// What an earlier run left unfinished has been settled.
    Settled(&'a Settled),
    /// Something is wrong, and the run goes on.
    Warning {
        text: &'a str,
        hint: Option<&'a str>,
    },
    /// Something worth knowing that is not wrong; not shown with `--quiet`.
    Note(&'a str),
    /// Last of `sync`, `evict` and `undo`.
    Summary(&'a Summary),
    Status(&'a Status),
    /// `status --nagios`: one line.
    Nagios(&'a Status),
    /// `status --why`.
    Why(&'a Why),
    /// `history`: newest first.
    Runs(&'a [Run]),
    /// `history RUN`.
    Run(&'a Run),
    /// `history --csv`.
    Csv(&'a [Run]),
    /// `history --stats`.
    Stats(&'a Stats),
    /// `check`: what was found out of one thing, which `about` names.
    Checks {
        about: &'a str,
        findings: &'a [Finding],
    },
    /// Last of `check`.
    Checked(Checked),
    /// `init --dry-run`: what would be written where, without any secret.
    Configuration {
        file: &'a Utf8Path,
        text: &'a str,
    },
    /// The end of a command that could not go on.
    Error {
        message: &'a str,
        hint: Option<&'a str>,
        exit: Exit,
    },
}

/// What stands above and below a plan.
#[derive(Debug, Clone, Default)]
pub struct PlanContext {
    /// `sync`, `evict` or `undo`.
    pub command: &'static str,
    /// Name and version of the server, users and sessions; `None` when Plex was not asked.
    pub server: Option<ServerLine>,
    pub pools: Vec<PoolLine>,
    /// The runs that an undo takes back.
    pub undo_of: Vec<u64>,
}

#[derive(Debug, Clone)]
pub struct ServerLine {
    pub version: String,
    pub users: usize,
    /// `None` when the sessions could not be read.
    pub playing: Option<usize>,
}

/// One cache file system before and after the plan. All in bytes.
#[derive(Debug, Clone)]
pub struct PoolLine {
    pub cache_root: Utf8PathBuf,
    pub total: u64,
    pub free: u64,
    pub owned: u64,
    pub owned_after: u64,
    /// What plexcache may own there.
    pub limit: u64,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Summary {
    /// `None` for a dry run.
    pub run: Option<u64>,
    pub command: &'static str,
    pub dry_run: bool,
    pub finished: RunFinished,
    /// What failed or was in conflict: title or path, and why.
    pub failures: Vec<(String, String)>,
    pub elapsed: Duration,
    /// Stopped by a signal or a limit before these many actions were begun.
    pub not_started: usize,
    pub exit: Exit,
}

/// What is on the cache, why, and until when.
#[derive(Debug, Clone)]
pub struct Status {
    pub now: Timestamp,
    pub tiers: Vec<TierStatus>,
    pub files: Vec<FileStatus>,
    pub last_run: Option<LastRun>,
    /// A run is under way; it is `last_run` when that has no end.
    pub running: bool,
    /// Empty when well.
    pub health: Vec<String>,
    /// `status --live`: what the server said.
    pub live: Option<ServerLine>,
}

/// One map. Bytes; `None` where the cache root cannot be looked at.
#[derive(Debug, Clone)]
pub struct TierStatus {
    pub map: String,
    pub cache_root: Utf8PathBuf,
    pub total: Option<u64>,
    pub free: Option<u64>,
    pub owned: u64,
    pub limit: Option<u64>,
}

/// One file on the cache.
#[derive(Debug, Clone)]
pub struct FileStatus {
    pub cached: Arc<Cached>,
    /// `None` where the cache root cannot be looked at.
    pub state: Option<CopyState>,
    /// When it may go and why; `None` while it is wanted, or while that is not known.
    pub release: Option<Release>,
    pub wanted: bool,
    pub pinned: bool,
    /// Held on the cache by an undo until then.
    pub held_until: Option<Timestamp>,
}

/// `status --why`: all that is known of one file.
#[derive(Debug, Clone)]
pub struct Why {
    /// As it was asked for.
    pub asked: String,
    pub file: Option<FileStatus>,
    /// Lines for people: who wants it, since when, what would evict it and when; or why it is not there.
    pub lines: Vec<String>,
}

/// One thing that `check` looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a word or two that stay the same; a script may look for it.
    pub name: &'static str,
    pub verdict: Verdict,
    pub detail: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Pass,
    Warn,
    Fail,
    /// It could not be told, because something else that it needs is not there.
    Skip,
}

impl Verdict {
    /// As it is printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

/// How many findings there were of each verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    pub passed: usize,
    pub warnings: usize,
    pub failed: usize,
    pub skipped: usize,
}

/// `history --stats`.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    pub runs: u64,
    /// Runs by outcome word.
    pub outcomes: BTreeMap<String, u64>,
    pub cached: crate::history::record::Count,
    pub evicted: crate::history::record::Count,
    pub failed: crate::history::record::Count,
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
    /// Bytes copied, and the time that took.
    pub copied_bytes: u64,
    pub copy_ms: u64,
}

/// How well things are, for monitoring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    Warning,
    Critical,
}

/// Shows messages, whichever thread they come from.
pub trait Reporter: Send {
    fn message(&mut self, message: &Message<'_>);
}
