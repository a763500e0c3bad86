//! A media server in memory, for the tests of this module. Counts what it is asked.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::paths::PlexPath;
use crate::plex::{
    Identity, Item, ItemKind, Library, LibraryKind, List, MediaServer, Part, PlexError, RatingKey, Read, Session,
    ShowRef, Version,
};
use crate::secret::Secret;

/// Answers by token, and by token and library; where none is set, an empty one.
#[derive(Default)]
pub(super) struct Double {
    pub(super) libraries: BTreeMap<String, Read<Vec<Library>>>,
    pub(super) on_deck: BTreeMap<(String, String), Read<Vec<Item>>>,
    /// By library.
    pub(super) catalog: BTreeMap<String, Read<Vec<Item>>>,
    /// All episodes there are.
    pub(super) episodes: BTreeMap<(String, String), Read<Vec<Item>>>,
    /// All items there are.
    pub(super) items: BTreeMap<String, Read<Vec<Item>>>,
    pub(super) sessions: Option<Read<Vec<Session>>>,
    /// All items there are, by token and library.
    pub(super) library: BTreeMap<(String, String), Read<Vec<Item>>>,
    pub(super) playlists: BTreeMap<String, Read<Vec<List>>>,
    pub(super) collections: BTreeMap<(String, String), Read<Vec<List>>>,
    /// By rating key of the list.
    pub(super) members: BTreeMap<String, Read<Vec<Item>>>,
    /// Every call, with its token, in the order in which they came.
    pub(super) calls: Mutex<Vec<String>>,
}

impl Double {
    pub(super) fn calls(&self) -> Vec<String> {
        let mut calls = self.calls.lock().unwrap().clone();
        calls.sort();
        calls
    }

    pub(super) fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }
}

fn select<T: Clone>(read: Option<&Read<Vec<T>>>, keep: impl Fn(&T) -> bool) -> Read<Vec<T>> {
    let keep = |value: &Vec<T>| value.iter().filter(|row| keep(row)).cloned().collect();
    match read {
        None => Read::Complete(Vec::new()),
        Some(Read::Complete(value)) => Read::Complete(keep(value)),
        Some(Read::Incomplete { value, problems }) => {
            Read::Incomplete { value: keep(value), problems: problems.clone() }
        }
        Some(Read::Failed(error)) => Read::Failed(error.clone()),
    }
}

fn keys(keys: &[RatingKey]) -> String {
    keys.iter().map(RatingKey::as_str).collect::<Vec<_>>().join(",")
}

impl MediaServer for Double {
    fn identity(&self) -> Result<Identity, PlexError> {
        Ok(Identity { machine_id: "m".to_owned(), version: "1".to_owned() })
    }

    fn owner_name(&self) -> Result<String, PlexError> {
        Ok("owner".to_owned())
    }

    fn libraries(&self, who: &Secret) -> Read<Vec<Library>> {
        self.note(format!("libraries {}", who.expose()));
        select(self.libraries.get(who.expose()), |_| true)
    }

    fn on_deck(&self, who: &Secret, library: &Library) -> Read<Vec<Item>> {
        self.note(format!("on_deck {} {}", who.expose(), library.id));
        select(self.on_deck.get(&(who.expose().to_owned(), library.id.clone())), |_| true)
    }

    fn catalog(&self, who: &Secret, library: &Library) -> Read<Vec<Item>> {
        self.note(format!("catalog {} {}", who.expose(), library.id));
        select(self.catalog.get(&library.id), |_| true)
    }

    fn episodes(&self, who: &Secret, library: &Library, shows: &[RatingKey]) -> Read<Vec<Item>> {
        self.note(format!("episodes {} {} {}", who.expose(), library.id, keys(shows)));
        let of_them = |item: &Item| {
            let key = item.show.as_ref().and_then(|show| show.rating_key.as_ref());
            key.is_some_and(|key| shows.contains(key))
        };
        select(self.episodes.get(&(who.expose().to_owned(), library.id.clone())), of_them)
    }

    fn items(&self, who: &Secret, wanted: &[RatingKey]) -> Read<Vec<Item>> {
        self.note(format!("items {} {}", who.expose(), keys(wanted)));
        select(self.items.get(who.expose()), |item| wanted.contains(&item.rating_key))
    }

    fn videos(&self, who: &Secret, library: &Library, since: Option<i64>) -> Read<Vec<Item>> {
        let what = if since.is_some() { "added lately" } else { "whole" };
        self.note(format!("videos {} {} {what}", who.expose(), library.id));
        let items = self.library.get(&(who.expose().to_owned(), library.id.clone()));
        select(items, |item| since.is_none_or(|since| item.added_at.is_some_and(|at| at >= since)))
    }

    fn playlists(&self, who: &Secret) -> Read<Vec<List>> {
        self.note(format!("playlists {}", who.expose()));
        select(self.playlists.get(who.expose()), |_| true)
    }

    fn collections(&self, who: &Secret, library: &Library) -> Read<Vec<List>> {
        self.note(format!("collections {} {}", who.expose(), library.id));
        select(self.collections.get(&(who.expose().to_owned(), library.id.clone())), |_| true)
    }

    fn members(&self, who: &Secret, list: &List) -> Read<Vec<Item>> {
        self.note(format!("members {} {}", who.expose(), list.rating_key));
        select(self.members.get(list.rating_key.as_str()), |_| true)
    }

    fn look_at_files(&self, _: &RatingKey) -> Result<Option<Item>, PlexError> {
        Ok(None)
    }

    fn sessions(&self) -> Read<Vec<Session>> {
        self.note("sessions".to_owned());
        select(self.sessions.as_ref(), |_| true)
    }
}

/// A library with this id, in `/data`.
pub(super) fn library(id: &str, kind: LibraryKind) -> Library {
    let locations = vec![PlexPath::new("/data")];
    Library { id: id.to_owned(), title: format!("Library {id}"), kind, locations, refreshing: false, stamp: None }
}

/// A version with these files.
pub(super) fn version(id: &str, files: &[&str]) -> Version {
    let part = |file: &&str| Part { file: Some(PlexPath::new(*file)), size: Some(1000), ..Part::default() };
    Version { media_id: id.to_owned(), parts: files.iter().map(part).collect(), ..Version::default() }
}

/// An unwatched episode: `Lost-1-2` of the show `Lost`, in `/data/Lost/s1e2.mkv`.
pub(super) fn episode(show: &str, season: i64, number: i64) -> Item {
    let key = RatingKey::new(format!("{show}-{season}-{number}"));
    Item {
        show: Some(ShowRef { rating_key: Some(RatingKey::new(show)), title: show.to_owned() }),
        season: Some(season),
        episode: Some(number),
        library_id: Some("2".to_owned()),
        versions: vec![version(key.as_str(), &[&format!("/data/{show}/s{season}e{number}.mkv")])],
        ..Item::new(key, ItemKind::Episode, format!("Episode {number}"))
    }
}

/// An unwatched movie in `/data/TITLE.mkv`; its key is its title.
pub(super) fn movie(title: &str) -> Item {
    Item {
        library_id: Some("1".to_owned()),
        versions: vec![version(title, &[&format!("/data/{title}.mkv")])],
        ..Item::new(RatingKey::new(title), ItemKind::Movie, title)
    }
}

/// The same, watched.
pub(super) fn watched(item: Item, last_viewed_at: Option<i64>) -> Item {
    Item { view_count: 1, last_viewed_at, ..item }
}

/// The same, last played then.
pub(super) fn played(item: Item, last_viewed_at: i64) -> Item {
    Item { last_viewed_at: Some(last_viewed_at), ..item }
}
