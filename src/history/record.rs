//! The lines of `history.jsonl`.
//!
//! A promise to every later release: fields are added with a default, never renamed, and a line of an
//! unknown kind is kept and passed over. Order is the order of the lines, never the clock. No secret
//! is ever in a record: options are those of the command line, and no secret can be one.

use camino::Utf8PathBuf;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::checksum::Checksum;
use crate::paths::MediaPath;
use crate::plan::{Action, Why};
use crate::tier::{Fingerprint, KnownRoot};

/// The version of the lines that this release writes.
pub const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub v: u32,
    /// The number of the run that the line belongs to.
    pub run: u64,
    /// When it was written; for people only.
    pub t: Timestamp,
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    RunStarted(RunStarted),
    /// A root was used for the first time: from now on it has to be the same one.
    Root(KnownRoot),
    /// On disk before the first change for the action.
    Intent {
        /// Counts the actions of a run from 1.
        seq: u32,
        /// Names every temporary file of the action: `.plexcache-TEMP.part`, `.old`, `.lnk`.
        temp: String,
        action: Action,
    },
    /// The second copy is complete, durable and under its final name; the first is still untouched.
    Published {
        seq: u32,
        #[serde(flatten)]
        published: Published,
    },
    /// Folders that the action made, written before they are filled.
    Made {
        seq: u32,
        folders: Vec<MadeFolder>,
    },
    /// On disk after everything the action did is durable.
    Ended(Ended),
    RunFinished(RunFinished),
    /// A line of a later release: kept, not understood.
    #[serde(other)]
    Unknown,
}

/// A second copy that is complete, durable and under its final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// What it was made from.
    pub from: Fingerprint,
    pub copy: Fingerprint,
    pub checksum: Checksum,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    pub command: String,
    /// As typed.
    #[serde(default)]
    pub options: Vec<String>,
    /// `timer`, `cron`, `user_script` or `shell`.
    #[serde(default)]
    pub trigger: String,
    #[serde(default)]
    pub host: String,
    #[serde(default)]
    pub version: String,
    /// The runs that this one takes back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo_of: Vec<u64>,
    /// For how many seconds what this undo moved stays where it put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_seconds: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeFolder {
    pub root: Utf8PathBuf,
    pub path: MediaPath,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub seq: u32,
    pub result: Outcome,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// Bytes copied; 0 when nothing had to be.
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub duration_ms: u64,
    /// The array's file afterwards, under whichever name the placement keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<Fingerprint>,
    /// The cached copy afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<Fingerprint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// Folders of ours that were empty and are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmade: Vec<MadeFolder>,
    /// The later run that settled what this one left unfinished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_by: Option<u64>,
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    /// Something went wrong; everything is as it was before.
    Failed,
    /// Left alone for a reason that is no fault: changed, open, in conflict.
    Skipped,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunFinished {
    pub outcome: RunOutcome,
    #[serde(default)]
    pub cached: Count,
    #[serde(default)]
    pub evicted: Count,
    #[serde(default)]
    pub failed: Count,
    #[serde(default)]
    pub skipped: Count,
    /// Actions that were never begun, because of a limit or a signal.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_started: u64,
    /// What went wrong as a whole, one line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl RunFinished {
    /// Whether it ended before it had tried everything.
    pub fn was_cut_short(&self) -> bool {
        self.outcome == RunOutcome::Stopped || self.not_started > 0
    }

    /// The end of a run that got no further than its beginning.
    pub fn failed(outcome: RunOutcome, error: String) -> Self {
        Self { outcome, error: Some(error), ..Self::default() }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    #[default]
    Ok,
    Partial,
    Failed,
    Stopped,
    Refused,
}

impl RunOutcome {
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Refused => "refused",
        }
    }
}

/// So many files, so many bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub files: u64,
    pub bytes: u64,
}

impl Count {
    pub fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}
