//! The sections of the configuration, as the rest of the program sees them.
//!
//! Owns every key's name, type and default; nothing else states one. A section is read straight
//! from TOML and refuses unknown keys; what one section alone cannot tell is checked in the parent.

use std::collections::BTreeMap;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::Deserialize;

use super::globs::{Globs, Pins};
use super::values::{
    self, HostTask, Rate, Sidecars, Size, Verify, Versions, duration, duration_or_off, jobs, optional_path,
    optional_url, rate_or_off,
};
use crate::secret::Secret;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The Plex server.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plex {
    /// Its address, `http` or `https`, without a trailing slash.
    #[serde(deserialize_with = "values::url")]
    pub url: String,
    /// The file that holds the token, when it is set; see [`super::token`] for the default.
    #[serde(deserialize_with = "optional_path")]
    pub token_file: Option<Utf8PathBuf>,
    /// The token itself; see [`super::token`].
    pub token: Option<Secret>,
    /// Certificates (PEM) to trust besides the usual ones.
    #[serde(deserialize_with = "optional_path")]
    pub ca_file: Option<Utf8PathBuf>,
    /// Take any certificate.
    pub insecure_tls: bool,
    /// How long one answer may take. More than 0.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// The only server to talk to, by its machine identifier.
    pub machine_id: Option<String>,
    /// Where the services of plex.tv are.
    pub endpoints: Endpoints,
}

impl Default for Plex {
    fn default() -> Self {
        Self {
            url: String::new(),
            token_file: None,
            token: None,
            ca_file: None,
            insecure_tls: false,
            timeout: Duration::from_secs(30),
            machine_id: None,
            endpoints: Endpoints::default(),
        }
    }
}

/// Base addresses that stand in for those of plex.tv.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoints {
    #[serde(deserialize_with = "optional_url")]
    pub account: Option<String>,
    #[serde(deserialize_with = "optional_url")]
    pub discover: Option<String>,
    #[serde(deserialize_with = "optional_url")]
    pub metadata: Option<String>,
    #[serde(deserialize_with = "optional_url")]
    pub community: Option<String>,
    #[serde(deserialize_with = "optional_url")]
    pub rss: Option<String>,
}

/// For whom files are cached.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Users {
    /// Names as Plex shows them; `*` is everybody. See [`Users::includes`].
    pub include: Vec<String>,
    /// Names, or `*`; stronger than `include`.
    pub exclude: Vec<String>,
    /// Tokens by name, which beat those that plex.tv gives.
    pub tokens: BTreeMap<String, Secret>,
    /// Files that hold the PIN of a home user, by name.
    #[serde(deserialize_with = "values::paths")]
    pub pin_files: BTreeMap<String, Utf8PathBuf>,
    /// What differs for one user, by name.
    #[serde(rename = "override")]
    pub overrides: BTreeMap<String, Override>,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            include: everything(),
            exclude: Vec::new(),
            tokens: BTreeMap::new(),
            pin_files: BTreeMap::new(),
            overrides: BTreeMap::new(),
        }
    }
}

impl Users {
    /// Whether the user of this name counts.
    pub fn includes(&self, name: &str) -> bool {
        let lists = |list: &[String]| list.iter().any(|entry| entry == "*" || entry == name);
        lists(&self.include) && !lists(&self.exclude)
    }
}

/// What one user has instead of the keys of the same names in [`Select`].
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Override {
    pub on_deck: Option<bool>,
    pub next_episodes: Option<u32>,
    pub prefetch_minutes: Option<u32>,
    pub watchlist: Option<bool>,
    pub watchlist_episodes: Option<u32>,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Select {
    /// Titles or ids of libraries; `*` is all. See [`Select::includes_library`].
    pub libraries: Vec<String>,
    /// Media paths that are never wanted.
    pub exclude: Globs,
    pub on_deck: bool,
    /// Items last played longer ago do not count as on deck.
    #[serde(deserialize_with = "duration")]
    pub on_deck_max_age: Duration,
    /// Episodes after the one on deck.
    pub next_episodes: u32,
    /// And go on until this many minutes of play time are ahead.
    pub prefetch_minutes: u32,
    pub watchlist: bool,
    /// Episodes of a show on a watchlist.
    pub watchlist_episodes: u32,
    pub friends_watchlists: bool,
    /// Addresses of feeds.
    pub rss: Vec<String>,
    /// How long a want seen in a feed lasts.
    #[serde(deserialize_with = "duration")]
    pub rss_keep: Duration,
    /// Items added within this time; `None` is off.
    #[serde(deserialize_with = "duration_or_off")]
    pub recently_added: Option<Duration>,
    pub pin: Pins,
    pub playlists: Vec<String>,
    pub collections: Vec<String>,
    pub versions: Versions,
    pub sidecars: Sidecars,
}

impl Default for Select {
    fn default() -> Self {
        Self {
            libraries: everything(),
            exclude: Globs::default(),
            on_deck: true,
            on_deck_max_age: Duration::from_secs(180 * DAY),
            next_episodes: 5,
            prefetch_minutes: 0,
            watchlist: true,
            watchlist_episodes: 3,
            friends_watchlists: false,
            rss: Vec::new(),
            rss_keep: Duration::from_secs(30 * DAY),
            recently_added: None,
            pin: Pins::default(),
            playlists: Vec::new(),
            collections: Vec::new(),
            versions: Versions::All,
            sidecars: Sidecars::Subtitles,
        }
    }
}

impl Select {
    /// Whether the library with this title and id (the key of its section) counts.
    pub fn includes_library(&self, title: &str, id: &str) -> bool {
        self.libraries.iter().any(|entry| entry == "*" || entry == title || entry == id)
    }
}

/// How much of the cache may be used.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// What plexcache may own there.
    pub max_size: Size,
    /// What it leaves free of the file system.
    pub min_free: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_size: Size::Bytes(500_000_000_000), min_free: Size::Percent(10.0) }
    }
}

/// When a file leaves the cache.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evict {
    /// After the last of those who wanted it watched it.
    #[serde(deserialize_with = "duration")]
    pub watched_after: Duration,
    /// After nobody wants it any more.
    #[serde(deserialize_with = "duration")]
    pub unwanted_after: Duration,
    /// After it was cached, wanted or not; `None` is off.
    #[serde(deserialize_with = "duration_or_off")]
    pub max_age: Option<Duration>,
    /// A higher-ranked want may push out a lower-ranked one.
    pub make_room: bool,
    /// How long what `undo` evicted is not cached again.
    #[serde(deserialize_with = "duration")]
    pub undo_hold: Duration,
}

impl Default for Evict {
    fn default() -> Self {
        Self {
            watched_after: Duration::from_secs(48 * HOUR),
            unwanted_after: Duration::from_secs(12 * HOUR),
            max_age: None,
            make_room: true,
            undo_hold: Duration::from_secs(24 * HOUR),
        }
    }
}

/// How files are copied.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Transfer {
    pub verify: Verify,
    /// The most that copying reads; `None` is off.
    #[serde(deserialize_with = "rate_or_off")]
    pub bwlimit: Option<Rate>,
    /// How many files are cached at the same time from one disk of the array.
    #[serde(deserialize_with = "jobs")]
    pub jobs: u8,
}

impl Default for Transfer {
    fn default() -> Self {
        Self { verify: Verify::Checksum, bwlimit: None, jobs: 1 }
    }
}

/// What holds a run back.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Safety {
    pub skip_open_files: bool,
    /// Files changed within this time wait for the next run.
    #[serde(deserialize_with = "duration")]
    pub min_file_age: Duration,
    /// Both roots of a map may be on one file system.
    pub allow_same_device: bool,
    pub refuse_while: Vec<HostTask>,
    /// Ask Plex whether it can read the first cached file of a map.
    pub verify_with_plex: bool,
}

impl Default for Safety {
    fn default() -> Self {
        Self {
            skip_open_files: true,
            min_file_age: Duration::from_secs(10 * MINUTE),
            allow_same_device: false,
            refuse_while: vec![HostTask::Mover, HostTask::ParityCheck],
            verify_with_plex: true,
        }
    }
}

/// Where plexcache keeps what it knows.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// The directory, when it is set; see [`super::state_dir`] for the default.
    #[serde(deserialize_with = "optional_path")]
    pub dir: Option<Utf8PathBuf>,
}

fn everything() -> Vec<String> {
    vec!["*".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclude_is_stronger_than_include() {
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect();
        for (include, exclude, name, expected) in [
            (&["*"][..], &[][..], "anna", true),
            (&["*"], &["anna"], "anna", false),
            (&["anna"], &["*"], "anna", false),
            (&["ben"], &[], "anna", false),
            (&["Anna"], &[], "anna", false),
            (&[], &[], "anna", false),
        ] {
            let users = Users { include: names(include), exclude: names(exclude), ..Users::default() };
            assert_eq!(users.includes(name), expected, "{include:?} {exclude:?}");
        }
    }

    #[test]
    fn a_library_is_named_by_its_title_or_its_id() {
        let select = Select { libraries: vec!["Films".to_owned(), "2".to_owned()], ..Select::default() };
        assert!(select.includes_library("Films", "1"));
        assert!(select.includes_library("Series", "2"));
        assert!(!select.includes_library("Music", "3"));
        assert!(Select::default().includes_library("Music", "3"));
    }
}
