//! What is wanted, and why: the words that selection, plan, history and report share.
//!
//! Pure data. A [`Want`] names the files of one unit by map and media path, never by title, and
//! carries every reason for it; its [`Rank`] orders wants totally, so that the same answers of Plex
//! always give the same order.

use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::paths::MediaPath;
use crate::shared::{Pool, Text};

/// A file on any tier: the map (by its `plex` folder) and the path below the map's roots.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileKey {
    pub map: Text,
    pub path: MediaPath,
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path.as_str())
    }
}

/// Where a want comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    OnDeck,
    NextEpisode,
    /// The next episodes of what plays now.
    Playing,
    Watchlist,
    FriendWatchlist,
    Rss,
    RecentlyAdded,
    Playlist,
    Collection,
    Pin,
}

impl Source {
    /// As a person reads it.
    pub fn words(self) -> &'static str {
        match self {
            Self::OnDeck => "on deck",
            Self::NextEpisode => "next episode",
            Self::Playing => "next of what plays",
            Self::Watchlist => "watchlist",
            Self::FriendWatchlist => "friend's watchlist",
            Self::Rss => "feed",
            Self::RecentlyAdded => "recently added",
            Self::Playlist => "playlist",
            Self::Collection => "collection",
            Self::Pin => "pinned",
        }
    }
}

/// One source, and the user it was read for where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reason {
    pub source: Source,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Text>,
    /// What in the configuration it goes back to, where that says more: the glob of a pin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Text>,
}

impl Reason {
    /// A source that is nobody's own.
    pub const fn of(source: Source) -> Self {
        Self { source, user: None, detail: None }
    }

    pub fn of_user(source: Source, user: impl Into<Text>) -> Self {
        Self { user: Some(user.into()), ..Self::of(source) }
    }

    /// What follows the source where a person reads it.
    pub fn of_what(&self) -> Option<&str> {
        self.user.as_deref().or(self.detail.as_deref())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of_what() {
            Some(what) => write!(f, "{}: {what}", self.source.words()),
            None => f.write_str(self.source.words()),
        }
    }
}

/// All reasons for one unit, in order and each once. There are a great many units, and most are wanted for the same.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<Reason>")]
pub struct Reasons(Arc<[Reason]>);

static REASONS: Pool<[Reason]> = Pool::new();

impl Reasons {
    pub fn contains(&self, reason: &Reason) -> bool {
        self.0.binary_search(reason).is_ok()
    }

    pub fn insert(&mut self, reason: Reason) {
        self.extend([reason]);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Reason> {
        self.0.iter()
    }
}

impl From<Vec<Reason>> for Reasons {
    fn from(mut reasons: Vec<Reason>) -> Self {
        reasons.sort_unstable();
        reasons.dedup();
        Self(REASONS.share(&reasons))
    }
}

impl Default for Reasons {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl Serialize for Reasons {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<const N: usize> From<[Reason; N]> for Reasons {
    fn from(reasons: [Reason; N]) -> Self {
        Vec::from(reasons).into()
    }
}

impl FromIterator<Reason> for Reasons {
    fn from_iter<I: IntoIterator<Item = Reason>>(reasons: I) -> Self {
        Vec::from_iter(reasons).into()
    }
}

impl Extend<Reason> for Reasons {
    fn extend<I: IntoIterator<Item = Reason>>(&mut self, reasons: I) {
        let more: Vec<Reason> = reasons.into_iter().filter(|reason| !self.contains(reason)).collect();
        if !more.is_empty() {
            *self = self.iter().cloned().chain(more).collect();
        }
    }
}

impl<'a> IntoIterator for &'a Reasons {
    type Item = &'a Reason;
    type IntoIter = std::slice::Iter<'a, Reason>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// How urgently a unit is wanted. The smaller, the sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rank {
    pub class: Class,
    /// How many episodes ahead, or the position in a list.
    pub step: u32,
    /// When it, or its show, was last watched (seconds since the epoch); the more recent, the sooner.
    pub recency: Reverse<i64>,
}

/// The coarse order of wants; see design notes, "Rank".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Pin,
    /// The next episodes of what is playing now.
    Playing,
    OnDeck,
    /// Next +1, next +2, … of every user and show; `step` says which.
    Next,
    Watchlist,
    Playlist,
    Collection,
    RecentlyAdded,
}

/// What one read from Plex wants of one unit: all parts of one version of a movie or an episode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// All parts in the order of play, at least one. The first one names the unit.
    #[serde(deserialize_with = "without_spare_room")]
    pub parts: Vec<FileKey>,
    /// As people know it: `Severance S02E04`, `Dune: Part Two (2024)`.
    pub title: Text,
    /// Plex's name of the item; `None` for a pinned path that Plex was not asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating_key: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_id: Option<Text>,
    /// When Plex last changed what it knows of the item, seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<i64>,
    /// The show an episode belongs to: episodes of one show are cached without gaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub show: Option<Text>,
    pub rank: Rank,
    pub reasons: Reasons,
}

/// There is mostly one part, of very many wants.
fn without_spare_room<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<FileKey>, D::Error> {
    let mut parts = Vec::deserialize(deserializer)?;
    parts.shrink_to_fit();
    Ok(parts)
}

impl Want {
    /// What names the unit: its first part.
    pub fn unit(&self) -> &FileKey {
        self.parts.first().expect("a want has at least one part")
    }

    /// Total order: rank, then title, then path.
    pub fn cmp_rank(&self, other: &Self) -> Ordering {
        (self.rank, &self.title, self.unit()).cmp(&(other.rank, &other.title, other.unit()))
    }
}

/// Why a file leaves the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvictWhy {
    /// Everybody who wanted it has watched it, long enough ago.
    Watched,
    /// Nobody has wanted it for long enough.
    Unwanted,
    /// Wanted without a break for longer than `evict.max_age`.
    MaxAge,
    /// Something of higher rank needs the room, or the limits shrank.
    MakeRoom,
    /// Told to on the command line.
    Asked,
    /// An undo takes the caching back.
    Undo,
    /// The cached copy is not there any more; what it left behind is put in order.
    Gone,
    /// Plex said that it cannot read what was cached.
    Unreadable,
    /// The array has something newer than the copy.
    Replaced,
}

/// When a unit that nobody wants any more may go, and by which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub at: Timestamp,
    pub why: EvictWhy,
}
