//! Wants, what is cached and the limits, to a plan.
//!
//! Owns the words of a plan ([`Action`], [`Skip`], [`Plan`]) and of what it is made from ([`Input`]);
//! `sync` and `evict` decide, `units` says what belongs together and may not be touched, `room` what
//! fits. Pure: nothing here looks at a file, a clock or a server, and the same input, in whatever
//! order it comes, gives the same plan. Refuses to do by halves: a unit is cached, kept or evicted
//! whole. The invariant that the properties prove: once a plan is carried out, the same answers give
//! a plan with nothing to do.

mod evict;
#[cfg(test)]
mod properties;
mod room;
#[cfg(test)]
mod rules;
mod sync;
#[cfg(test)]
mod testing;
mod units;

pub use evict::{Choice, plan_evict};
pub use sync::plan_sync;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::Utf8PathBuf;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::checksum::Checksum;
use crate::config::Placement;
use crate::paths::MediaPath;
pub use crate::select::{EvictWhy, Release};
use crate::select::{FileKey, Reasons, Want};
use crate::shared::{SharedPath, Text};
use crate::tier::Fingerprint;

/// Whether a file goes to the cache or leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Cache,
    Evict,
}

/// One file to be cached or evicted, with all that is needed to do it, to settle it after a crash,
/// and to explain it. Written to the history as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub kind: Kind,
    pub map: Text,
    pub path: MediaPath,
    /// The path of the unit's first part; what belongs together shares it.
    pub unit: MediaPath,
    pub title: Text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating_key: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_id: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<i64>,
    /// Why it is wanted; for an eviction, why it was.
    #[serde(default)]
    pub reasons: Reasons,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evict_why: Option<EvictWhy>,
    pub placement: Placement,
    /// The root on the array that holds (or held, and will hold again) the file.
    pub array_root: SharedPath,
    pub cache_root: SharedPath,
    /// Bytes.
    pub size: u64,
    /// What the array's file was when planned (caching), or when it was cached (evicting).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<Fingerprint>,
    /// What the cached copy was when it was made (evicting), or what is there to adopt (caching).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<Fingerprint>,
    /// The checksum of the cached copy, for evictions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// Some sidecar of the unit could not be cached with it, so it is worth looking for again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left_out: bool,
}

impl Action {
    pub fn key(&self) -> FileKey {
        FileKey { map: self.map.clone(), path: self.path.clone() }
    }

    /// The unit that it belongs to.
    pub fn unit_key(&self) -> FileKey {
        FileKey { map: self.map.clone(), path: self.unit.clone() }
    }

    pub fn array_path(&self) -> Utf8PathBuf {
        self.array_root.join(self.path.as_path())
    }

    pub fn cache_path(&self) -> Utf8PathBuf {
        self.cache_root.join(self.path.as_path())
    }
}

/// Why something is left as it is. The words are part of the JSON output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It does not fit within the limits.
    NoRoom,
    /// Plex plays it now.
    Playing,
    /// Somebody has it open.
    Open,
    /// An undo evicted or cached it a short while ago.
    Held,
    /// A pin keeps it.
    Pinned,
    /// It was changed since, or while it was being copied.
    Changed,
    /// Plex's path has no place below any map.
    Unmapped,
    /// More than one name on the array, in placement `move`.
    HardLinked,
    /// Written to less than `safety.min_file_age` ago.
    TooYoung,
    /// Something else is in its place.
    Conflict,
    /// Neither array nor cache has it.
    Missing,
    /// It lies on the cache already and is not ours to manage (new downloads, the mover's files).
    NotOurs,
    /// Its map says `cacheable = false`.
    NotCacheable,
    /// Not known whether somebody still wants or plays it: a source could not be read.
    Unknown,
    /// It was there when the plan was made and is gone, or the disk it is on cannot be used.
    Unavailable,
    /// The run was stopped, or a limit of the command line was reached, before its turn.
    NotReached,
}

/// A file that is left as it is, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    pub kind: Kind,
    pub map: Text,
    /// A media path; for an unmapped file the text that Plex gave.
    pub path: String,
    pub unit: String,
    pub title: Text,
    pub array_path: Option<Utf8PathBuf>,
    pub cache_path: Option<Utf8PathBuf>,
    /// Bytes; 0 where not known.
    pub size: u64,
    pub why: Why,
    /// One line for people: `short by 3.1 GiB`, `open in pid 4711 (ffmpeg)`.
    pub detail: String,
    pub reasons: Reasons,
}

impl Skip {
    /// The file of `action` is left as it is: it is not cached, or not evicted, as `kind` says.
    pub fn of(action: &Action, kind: Kind, why: Why, detail: String) -> Self {
        Self {
            kind,
            map: action.map.clone(),
            path: action.path.as_str().to_owned(),
            unit: action.unit.as_str().to_owned(),
            title: action.title.clone(),
            array_path: Some(action.array_path()),
            cache_path: Some(action.cache_path()),
            size: action.size,
            why,
            detail,
            reasons: action.reasons.clone(),
        }
    }
}

/// What a run will do, in the order in which it will be done, and what it will leave and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub skipped: Vec<Skip>,
    /// Files that are on the cache and stay.
    pub kept_files: u64,
}

/// A file that the cache holds for us, as the history tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cached {
    /// The action that put it there; `array` and `copy` are what both files were afterwards.
    pub action: Action,
    pub run: u64,
    pub at: Timestamp,
}

/// A wanted unit after its files were looked for on the tiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub want: Arc<Want>,
    /// Parts first, then sidecars; empty when `blocked`.
    pub files: Vec<CandidateFile>,
    /// Why the unit as a whole cannot be cached now. Files of it that are cached already stay.
    pub blocked: Option<(Why, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateFile {
    pub key: FileKey,
    /// Bytes.
    pub size: u64,
    pub placement: Placement,
    pub array_root: SharedPath,
    pub cache_root: SharedPath,
    pub state: FileState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// The history says that we cached it, and the copy is there.
    Cached,
    /// On the array; to be copied, or adopted when `adopt` is what lies at the destination already.
    OnArray { array: Fingerprint, adopt: Option<Fingerprint> },
    /// Cannot be cached, for a reason of its own. A sidecar that is blocked does not block its unit.
    Blocked { why: Why, detail: String },
}

/// A cached file as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedFile {
    pub cached: Arc<Cached>,
    pub state: CopyState,
    /// Who has it open, when somebody has.
    pub open: Option<String>,
    /// Plex plays it now.
    pub playing: bool,
    /// From when on it may be evicted, had nobody wanted it; `None` while that is not known (a source
    /// or user that wanted it has not answered completely).
    pub release: Option<Release>,
    /// Held on the cache by an undo until then.
    pub held_until: Option<Timestamp>,
    /// Matches a pin.
    pub pinned: bool,
    /// The array has something newer than the copy, which must go whoever wants it.
    pub superseded: bool,
}

/// What became of the cached copy since we made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyState {
    Unchanged,
    Changed,
    Gone,
}

/// What plexcache may own on one cache file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The cache roots on this file system.
    pub cache_roots: BTreeSet<Utf8PathBuf>,
    /// Bytes: size of the file system.
    pub total: u64,
    /// Bytes free now.
    pub free: u64,
    /// Bytes, from `limits.max_size`.
    pub max_size: u64,
    /// Bytes, from `limits.min_free`.
    pub min_free: u64,
}

/// Everything a plan of `sync` or `evict` depends on.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of configuration and command line")]
pub struct Input<'a> {
    pub now: Timestamp,
    /// By rank, best first.
    pub candidates: &'a [Candidate],
    pub cached: &'a BTreeMap<FileKey, CachedFile>,
    pub pools: &'a [Pool],
    /// Units that an undo evicted, and until when they are held off the cache.
    pub held_off: &'a BTreeMap<FileKey, Timestamp>,
    /// The sessions could not be read: nothing may be evicted.
    pub sessions_unknown: bool,
    pub make_room: bool,
    pub evict: bool,
    pub cache: bool,
}
