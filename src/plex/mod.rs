//! What the Plex server knows: its libraries, what is on deck, the episodes, and what plays now.
//!
//! Owns the words in which the rest of the program speaks of Plex ([`Item`], [`Library`],
//! [`Session`]), the trait [`MediaServer`] behind which the server can be replaced, and the two ways
//! in which asking it can go wrong ([`Read`], [`PlexError`]). Refuses to guess: a listing that may
//! miss rows is never called complete, and a failed read is never an empty one. Only reads: no call
//! here changes anything on the server. No token appears in any value of this module.

mod account;
mod address;
mod checkup;
mod client;
mod community;
mod discover;
mod failure;
#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
mod json;
mod listing;
mod outside;
pub mod pin;
mod rss;
mod server;
#[cfg(test)]
mod stub;
mod tree;
mod wire;
mod xml;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::account::{Account, HomeUser, SharedUser};
pub use self::checkup::Settings;
pub use self::community::{Community, Friend};
pub use self::discover::Discover;
pub use self::outside::{Listed, ListedKind, Service, ServiceOptions};
pub use self::rss::{Feed, FeedEntry};
pub use self::server::{PlexServer, ServerOptions};
use crate::paths::PlexPath;
use crate::secret::Secret;
use crate::shared::Text;

/// How a read ended. The planner has to say what it does with each.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Read<T> {
    /// Everything that there is.
    Complete(T),
    /// A part of it: what came is true, what did not come proves nothing.
    Incomplete { value: T, problems: Vec<String> },
    /// Nothing came.
    Failed(PlexError),
}

impl<T> Read<T> {
    /// What came, whole or not.
    pub fn value(&self) -> Option<&T> {
        match self {
            Read::Complete(value) | Read::Incomplete { value, .. } => Some(value),
            Read::Failed(_) => None,
        }
    }

    /// Whether absence from it proves something.
    pub fn is_complete(&self) -> bool {
        matches!(self, Read::Complete(_))
    }

    /// The same read of something else.
    fn map<U>(self, of: impl FnOnce(T) -> U) -> Read<U> {
        match self {
            Read::Complete(value) => Read::Complete(of(value)),
            Read::Incomplete { value, problems } => Read::Incomplete { value: of(value), problems },
            Read::Failed(error) => Read::Failed(error),
        }
    }

    fn from_parts(value: T, problems: Vec<String>) -> Self {
        if problems.is_empty() { Read::Complete(value) } else { Read::Incomplete { value, problems } }
    }
}

/// A Plex Media Server, as far as a cache has to ask it.
///
/// `who` is the token of the user in whose name is asked: on deck, watch state and the visible
/// libraries differ by user.
pub trait MediaServer: Sync {
    /// Which server this is. Asked without a token, so that none reaches a wrong host.
    ///
    /// # Errors
    /// It cannot be reached, is no Plex server, or is not the configured one.
    fn identity(&self) -> Result<Identity, PlexError>;

    /// The owner's name as Plex shows it. Empty on a server that nobody has claimed.
    ///
    /// # Errors
    /// The call failed, or the owner's token is not the owner's.
    fn owner_name(&self) -> Result<String, PlexError>;

    /// The libraries that this user can see.
    fn libraries(&self, who: &Secret) -> Read<Vec<Library>>;

    /// What this user has on deck in one library, whether or not the library is on the home screen.
    fn on_deck(&self, who: &Secret, library: &Library) -> Read<Vec<Item>>;

    /// Every film or show of one library, with its external ids.
    fn catalog(&self, who: &Secret, library: &Library) -> Read<Vec<Item>>;

    /// Every episode of these shows, with this user's watch state, in no certain order. A show that
    /// is gone has no episodes.
    fn episodes(&self, who: &Secret, library: &Library, shows: &[RatingKey]) -> Read<Vec<Item>>;

    /// These items. One that is gone is simply absent.
    fn items(&self, who: &Secret, keys: &[RatingKey]) -> Read<Vec<Item>>;

    /// The movies or episodes of this library: all of them, or those that were added at `since`
    /// (seconds since 1970) or later.
    fn videos(&self, who: &Secret, library: &Library, since: Option<i64>) -> Read<Vec<Item>>;

    /// The video playlists of this user.
    fn playlists(&self, who: &Secret) -> Read<Vec<List>>;

    /// The collections of this library.
    fn collections(&self, who: &Secret, library: &Library) -> Read<Vec<List>>;

    /// What is in a playlist or a collection, in its order.
    fn members(&self, who: &Secret, list: &List) -> Read<Vec<Item>>;

    /// This item, with what the server finds now where its files should be. `None` when it is gone.
    /// Asked with the owner's token.
    ///
    /// # Errors
    /// The call failed.
    fn look_at_files(&self, key: &RatingKey) -> Result<Option<Item>, PlexError>;

    /// What plays now, whoever plays it. Asked with the owner's token.
    fn sessions(&self) -> Read<Vec<Session>>;
}

/// Plex's key of an item: opaque, and not the same again after an item was removed and re-added.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RatingKey(Text);

impl RatingKey {
    pub fn new(text: impl Into<Text>) -> Self {
        Self(text.into())
    }

    pub fn text(&self) -> &Text {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RatingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// 40 hexadecimal digits that stay the same over updates and moves.
    pub machine_id: String,
    /// Such as `1.43.3.10861-cd85035e7`; empty when the server does not say.
    pub version: String,
}

/// A library ("section") of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    pub id: String,
    pub title: String,
    pub kind: LibraryKind,
    /// Its folders in the server's words.
    pub locations: Vec<PlexPath>,
    /// Whether it is being scanned now: a bad moment to move its files.
    pub refreshing: bool,
    /// Changes when anything in it does; absent where the server does not say.
    pub stamp: Option<String>,
}

/// What a library holds. "Other videos" and home videos are `Movie`, as Plex has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LibraryKind {
    Movie,
    Show,
    Music,
    Photo,
    /// A kind this program does not know.
    Other,
}

/// A playlist of a user, or a collection of a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    pub rating_key: RatingKey,
    pub title: String,
    pub kind: ListKind,
}

/// Which of the two a [`List`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    Playlist,
    Collection,
}

/// A row of a listing, with the watch state of the user who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub rating_key: RatingKey,
    pub kind: ItemKind,
    pub title: String,
    /// The show of an episode or a season.
    pub show: Option<ShowRef>,
    /// The number of the season; 0 are the specials.
    pub season: Option<i64>,
    /// The number of the episode in its season; absent where Plex could not match it.
    pub episode: Option<i64>,
    pub year: Option<i64>,
    pub library_id: Option<String>,
    /// Such as `plex://episode/5ea7…`.
    pub guid: Option<String>,
    /// Such as `imdb://tt0133093`; only where the server was asked for them.
    pub guids: Vec<String>,
    /// Milliseconds.
    pub duration_ms: Option<i64>,
    /// Milliseconds; present only while it is partly watched.
    pub view_offset_ms: Option<i64>,
    pub view_count: i64,
    /// Seconds since 1970. Absent for what was never started, such as a next episode.
    pub last_viewed_at: Option<i64>,
    /// Seconds since 1970.
    pub added_at: Option<i64>,
    /// Seconds since 1970.
    pub updated_at: Option<i64>,
    /// How many episodes a show or season has, and how many of them this user watched.
    pub leaf_count: Option<i64>,
    pub viewed_leaf_count: Option<i64>,
    /// In the trash: Plex found no file any more.
    pub deleted: bool,
    /// None for shows and seasons.
    pub versions: Vec<Version>,
}

impl Item {
    /// An item of which nothing is known but what it is.
    pub fn new(rating_key: RatingKey, kind: ItemKind, title: impl Into<String>) -> Self {
        Self {
            rating_key,
            kind,
            title: title.into(),
            show: None,
            season: None,
            episode: None,
            year: None,
            library_id: None,
            guid: None,
            guids: Vec::new(),
            duration_ms: None,
            view_offset_ms: None,
            view_count: 0,
            last_viewed_at: None,
            added_at: None,
            updated_at: None,
            leaf_count: None,
            viewed_leaf_count: None,
            deleted: false,
            versions: Vec::new(),
        }
    }

    /// Whether this user has watched it to the end: all of it, for a show or season. One that is
    /// being watched again is watched and has a `view_offset_ms`.
    pub fn watched(&self) -> bool {
        match (self.kind, self.leaf_count, self.viewed_leaf_count) {
            (ItemKind::Show | ItemKind::Season, Some(all), Some(viewed)) => all > 0 && viewed >= all,
            _ => self.view_count > 0,
        }
    }

    /// What people call it: `Severance S02E04`, `Dune: Part Two (2024)`.
    pub fn label(&self) -> String {
        let show = self.show.as_ref().map(|show| show.title.as_str()).filter(|title| !title.is_empty());
        let text = match (self.kind, show, self.season, self.episode) {
            (ItemKind::Episode, Some(show), Some(season), Some(episode)) => {
                format!("{show} S{season:02}E{episode:02}")
            }
            (ItemKind::Season, Some(show), Some(season), _) => format!("{show} S{season:02}"),
            (ItemKind::Episode | ItemKind::Season, Some(show), ..) if self.title.is_empty() => show.to_owned(),
            (ItemKind::Episode | ItemKind::Season, Some(show), ..) => format!("{show}: {}", self.title),
            _ => match self.year.filter(|_| !self.title.is_empty()) {
                Some(year) => format!("{} ({year})", self.title),
                None => self.title.clone(),
            },
        };
        if text.is_empty() { format!("item {}", self.rating_key) } else { text }
    }
}

/// What an item is. Everything else that Plex lists (music, photos, collections) is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ItemKind {
    Movie,
    Episode,
    /// Another video: a home video, an extra.
    Clip,
    Show,
    Season,
}

/// The show to which an episode or season belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShowRef {
    pub rating_key: Option<RatingKey>,
    /// Empty when the server does not say.
    pub title: String,
}

/// One version of an item ("Media"): 1080p beside 4K, or an optimized copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    /// Empty when the server does not say.
    pub media_id: String,
    /// Made by Plex itself ("Optimized", "Plex Versions"), not part of the collection.
    pub optimized: bool,
    /// In the trash: Plex found no file any more.
    pub deleted: bool,
    /// Lines of the picture.
    pub height: Option<i64>,
    /// As Plex names it: `4k`, `1080`, `sd`.
    pub resolution: Option<String>,
    /// Kilobits a second.
    pub bitrate: Option<i64>,
    /// All are needed to play it; more than one for stacked files (cd1, cd2).
    pub parts: Vec<Part>,
}

/// One file of a version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// Empty when the server does not say.
    pub part_id: String,
    /// Absent for live TV and what Plex does not store. What could not be decoded is U+FFFD in it,
    /// which [`crate::paths::PathMap`] refuses, so that no other file is taken for it.
    pub file: Option<PlexPath>,
    /// Bytes; absent while a recording is under way.
    pub size: Option<u64>,
    /// Whether the server finds the file and can open it; only where it was asked to look.
    pub readable: Option<bool>,
}

/// Something that plays now: a video of a library, live TV, a trailer, music.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    pub rating_key: Option<RatingKey>,
    pub title: String,
    /// The name of who plays it.
    pub user: Option<String>,
    /// `1` for the owner, the id at plex.tv for others.
    pub user_id: Option<String>,
    pub player: Option<String>,
    /// `playing`, `paused` or `buffering`.
    pub state: Option<String>,
    pub media_ids: Vec<String>,
    pub part_ids: Vec<String>,
    /// Only what is a path: a session that is transcoded names no file, or a bare file name, and
    /// the item has to be asked for. May be empty for live TV, trailers and music.
    pub files: Vec<PlexPath>,
    pub transcoding: bool,
    pub live: bool,
}

/// Why Plex did not answer as it should. Never holds a token; `endpoint` is the path that was asked
/// for, without its query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlexError {
    #[error("cannot reach Plex at {server}: {why}")]
    Unreachable { server: String, why: String, hint: &'static str },
    #[error("Plex is busy: {why}")]
    Busy { why: String },
    #[error("Plex does not accept the token ({endpoint}: 401)")]
    Unauthorized { endpoint: String },
    #[error("Plex does not allow {endpoint} with this token (403)")]
    Forbidden { endpoint: String },
    #[error("Plex has no {endpoint} (404)")]
    NotFound { endpoint: String },
    #[error("Plex answers {endpoint} with status {status}")]
    Status { endpoint: String, status: u16 },
    /// `retry_after` is in seconds.
    #[error("Plex asks for a pause ({endpoint}: 429)")]
    RateLimited { endpoint: String, retry_after: Option<u64> },
    /// Never followed: the token would go along. `to` has no path.
    #[error("{endpoint} is redirected to {to}")]
    Redirected { endpoint: String, to: String },
    #[error("what answers {endpoint} is not Plex: {what}")]
    NotPlex { endpoint: String, what: String },
    /// `offset` counts the bytes of the answer after decoding.
    #[error("the answer to {endpoint} cannot be read from byte {offset} on: {why}")]
    Body { endpoint: String, offset: usize, why: String },
    /// It can be read, but what must be there is not.
    #[error("the answer to {endpoint} {what}")]
    Lacks { endpoint: String, what: String },
    /// `limit` is in bytes.
    #[error("the answer to {endpoint} is larger than {limit} bytes")]
    TooLarge { endpoint: String, limit: u64 },
    #[error("this is the Plex server {found}, not {expected}")]
    WrongServer { expected: String, found: String },
    #[error("no secure connection to {server}: {why}")]
    Tls { server: String, why: String, hint: &'static str },
    #[error("{what}")]
    Config { what: String, hint: &'static str },
}

impl PlexError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        let hint = match self {
            Self::Unreachable { hint, .. } | Self::Tls { hint, .. } | Self::Config { hint, .. } => hint,
            Self::Busy { .. } => "it starts, or its database is being migrated; the next run will ask again",
            Self::Unauthorized { .. } => {
                "the token was revoked or belongs to another server; take the PlexOnlineToken of its Preferences.xml"
            }
            Self::Forbidden { .. } => "only the token of the server's owner may ask this",
            Self::Redirected { .. } => {
                "redirects are not followed, so that the token stays here; if that is your server, set plex.url to it"
            }
            Self::NotPlex { .. } => "check plex.url: host, port (32400 unless you changed it) and path prefix",
            Self::WrongServer { .. } => "check plex.url, and plex.machine_id if the server was set up anew",
            Self::NotFound { .. }
            | Self::Status { .. }
            | Self::RateLimited { .. }
            | Self::Body { .. }
            | Self::Lacks { .. }
            | Self::TooLarge { .. } => "",
        };
        Some(hint).filter(|hint| !hint.is_empty())
    }

    /// Whether the same call may well succeed later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } | Self::RateLimited { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(kind: ItemKind, title: &str) -> Item {
        Item::new(RatingKey::new("7"), kind, title)
    }

    #[test]
    fn a_label_is_what_people_call_it() {
        let show = |title: &str| Some(ShowRef { rating_key: None, title: title.to_owned() });
        let episode = Item { show: show("Severance"), ..item(ItemKind::Episode, "Woe's Hollow") };
        for (item, label) in [
            (Item { season: Some(2), episode: Some(4), ..episode.clone() }, "Severance S02E04"),
            (Item { season: Some(0), episode: Some(104), ..episode.clone() }, "Severance S00E104"),
            (Item { season: Some(2), ..episode.clone() }, "Severance: Woe's Hollow"),
            (Item { title: String::new(), ..episode.clone() }, "Severance"),
            (Item { show: show(""), season: Some(2), episode: Some(4), ..episode }, "Woe's Hollow"),
            (Item { show: show("Severance"), season: Some(2), ..item(ItemKind::Season, "Season 2") }, "Severance S02"),
            (Item { year: Some(2024), ..item(ItemKind::Movie, "Dune: Part Two") }, "Dune: Part Two (2024)"),
            (item(ItemKind::Movie, "Dune: Part Two"), "Dune: Part Two"),
            (Item { year: Some(2024), ..item(ItemKind::Movie, "") }, "item 7"),
        ] {
            assert_eq!(item.label(), label);
        }
    }

    #[test]
    fn a_show_is_watched_when_all_its_episodes_are() {
        let show = |all, viewed| Item {
            leaf_count: Some(all),
            viewed_leaf_count: Some(viewed),
            view_count: 3,
            ..item(ItemKind::Show, "Bluey")
        };
        assert!(show(10, 10).watched());
        assert!(!show(10, 9).watched());
        assert!(!show(0, 0).watched());
        assert!(!item(ItemKind::Movie, "Dune").watched());
        assert!(Item { view_count: 1, view_offset_ms: Some(5), ..item(ItemKind::Movie, "Dune") }.watched());
    }
}
