//! What the libraries hold, by ids: from an entry of a list to the film or show that is meant.
//!
//! Owns `STATE/guids.json`, so that a library is listed again only when it says that it changed, and the
//! rule of matching: Plex's own guid first, then the ids of imdb, tmdb and tvdb. A title is never looked
//! at: two films share one, and the title of a show may be part of another's. The ids of films and of
//! shows are kept apart, because tmdb numbers both from 1. The file is derived.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::plex::{Item, ItemKind, Library, Listed, ListedKind, RatingKey};
use crate::state::StateDir;

const FILE: &str = "guids.json";
/// Files of another format are not read.
const FORMAT: u32 = 1;
/// For how long a list is believed, whatever the library says.
const LIST_FOR: SignedDuration = SignedDuration::from_hours(24);
/// What the guid of an item begins with whose agent is Plex's own.
const OWN_AGENT: &str = "plex://";

/// Films and shows by library, and what plex.tv told of entries of lists.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    format: u32,
    machine_id: String,
    /// By the library's id.
    libraries: BTreeMap<String, Stock>,
    /// External ids of entries that no guid matched, by their guid.
    pub(super) ids: BTreeMap<String, Vec<String>>,
}

/// What one library held when it bore this stamp.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stock {
    /// Absent where the server gave none, or while it was scanning: then it is listed again.
    stamp: Option<String>,
    at: Timestamp,
    items: Vec<Known>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    key: RatingKey,
    kind: ListedKind,
    guid: Option<String>,
    ids: Vec<String>,
}

/// A film or show of a library.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) library: String,
    pub(super) key: RatingKey,
}

/// Where to find what is in a [`Catalog`].
pub(super) struct Finding {
    by_guid: BTreeMap<(ListedKind, String), BTreeSet<Found>>,
    by_id: BTreeMap<(ListedKind, String), BTreeSet<Found>>,
    /// Kinds of which some items have a guid that plex.tv does not know.
    foreign: BTreeSet<ListedKind>,
}

impl Catalog {
    /// Reads it; empty when the file is absent, damaged, of another format or of another server.
    pub fn load(state: &StateDir, machine_id: &str) -> Self {
        let saved = state.read::<Self>(FILE);
        let empty = || Self { format: FORMAT, machine_id: machine_id.to_owned(), ..Self::default() };
        saved.filter(|saved| saved.format == FORMAT && saved.machine_id == machine_id).unwrap_or_else(empty)
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, state: &StateDir) -> io::Result<()> {
        state.write(FILE, self)
    }

    /// Whether what is known of the library is what it holds.
    pub(super) fn is_current(&self, library: &Library, now: Timestamp) -> bool {
        let Some(stock) = self.libraries.get(&library.id) else { return false };
        let age = now.duration_since(stock.at);
        stock.stamp.is_some() && stock.stamp == library.stamp && !age.is_negative() && age < LIST_FOR
    }

    /// Takes in what a library holds. A list with holes counts now and is not believed later.
    pub(super) fn take(&mut self, library: &Library, items: Vec<Item>, is_whole: bool, now: Timestamp) {
        let known = |item: Item| {
            let kind = match item.kind {
                ItemKind::Movie | ItemKind::Clip => ListedKind::Movie,
                ItemKind::Show => ListedKind::Show,
                ItemKind::Episode | ItemKind::Season => return None,
            };
            Some(Known { key: item.rating_key, kind, guid: item.guid, ids: item.guids })
        };
        let stamp = library.stamp.clone().filter(|_| is_whole && !library.refreshing);
        let items = items.into_iter().filter_map(known).collect();
        self.libraries.insert(library.id.clone(), Stock { stamp, at: now, items });
    }

    /// Forgets libraries that are not looked at any more.
    pub(super) fn keep_only(&mut self, libraries: &[Library]) {
        self.libraries.retain(|id, _| libraries.iter().any(|library| library.id == *id));
    }

    pub(super) fn finding(&self) -> Finding {
        let mut finding = Finding { by_guid: BTreeMap::new(), by_id: BTreeMap::new(), foreign: BTreeSet::new() };
        for (library, stock) in &self.libraries {
            for known in &stock.items {
                let found = || Found { library: library.clone(), key: known.key.clone() };
                if let Some(guid) = &known.guid {
                    finding.by_guid.entry((known.kind, guid.clone())).or_default().insert(found());
                    if !guid.starts_with(OWN_AGENT) {
                        finding.foreign.insert(known.kind);
                    }
                }
                for id in known.ids.iter().chain(&known.guid).filter_map(|id| external(id)) {
                    finding.by_id.entry((known.kind, id)).or_default().insert(found());
                }
            }
        }
        finding
    }
}

impl Finding {
    /// What is meant by an entry, in whatever libraries it is; `more` are ids that the entry lacks.
    pub(super) fn find(&self, listed: &Listed, more: &[String]) -> BTreeSet<Found> {
        let by_guid = listed.guid.as_ref().and_then(|guid| self.by_guid.get(&(listed.kind, guid.clone())));
        if let Some(found) = by_guid {
            return found.clone();
        }
        let ids: BTreeSet<String> =
            listed.ids.iter().chain(more).chain(&listed.guid).filter_map(|id| external(id)).collect();
        // In the order of the alphabet, which is that of trust: imdb, tmdb, tvdb.
        ids.into_iter().find_map(|id| self.by_id.get(&(listed.kind, id))).cloned().unwrap_or_default()
    }

    /// Whether the external ids of an entry that was not found could help.
    pub(super) fn could_help(&self, listed: &Listed) -> bool {
        self.foreign.contains(&listed.kind)
            && listed.ids.is_empty()
            && listed.guid.as_ref().is_some_and(|guid| guid.starts_with(OWN_AGENT))
    }
}

/// An id of imdb, tmdb or tvdb in one form, from an id as plex.tv gives it or the guid of an older agent,
/// such as `com.plexapp.agents.imdb://tt0133093?lang=en`.
fn external(id: &str) -> Option<String> {
    let (scheme, rest) = id.split_once("://")?;
    let name = scheme.rsplit('.').next()?;
    let (name, rest) = match name {
        "imdb" => ("imdb", rest),
        "tmdb" | "themoviedb" => ("tmdb", rest),
        "tvdb" | "thetvdb" => ("tvdb", rest),
        "hama" => rest.split_once('-').filter(|(name, _)| matches!(*name, "tvdb" | "tmdb" | "imdb"))?,
        _ => return None,
    };
    let value = rest.split(['?', '/']).next().filter(|value| !value.is_empty())?;
    value.bytes().all(|byte| byte.is_ascii_alphanumeric()).then(|| format!("{name}://{value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, kind: ItemKind, guid: &str, ids: &[&str]) -> Item {
        Item {
            guid: Some(guid.to_owned()),
            guids: ids.iter().map(|&id| id.to_owned()).collect(),
            ..Item::new(RatingKey::new(key), kind, "The same title")
        }
    }

    fn library(id: &str, stamp: Option<&str>) -> Library {
        let stamp = stamp.map(str::to_owned);
        Library { stamp, ..super::super::double::library(id, crate::plex::LibraryKind::Movie) }
    }

    fn keys(found: &BTreeSet<Found>) -> Vec<&str> {
        found.iter().map(|found| found.key.as_str()).collect()
    }

    #[test]
    fn an_entry_is_matched_by_guid_then_by_ids_and_never_over_kinds() {
        let mut catalog = Catalog::default();
        let films = vec![
            item("1", ItemKind::Movie, "plex://movie/a", &["imdb://tt1", "tmdb://9"]),
            item("2", ItemKind::Movie, "plex://movie/b", &["imdb://tt2"]),
            item("3", ItemKind::Movie, "com.plexapp.agents.imdb://tt3?lang=en", &[]),
            item("4", ItemKind::Movie, "local://4", &[]),
        ];
        let shows = vec![
            item("5", ItemKind::Show, "plex://show/c", &["tvdb://7", "tmdb://9"]),
            item("6", ItemKind::Show, "com.plexapp.agents.thetvdb://74205?lang=en", &[]),
            item("7", ItemKind::Show, "com.plexapp.agents.hama://tvdb-81797?lang=en", &[]),
        ];
        catalog.take(&library("1", None), films, true, Timestamp::UNIX_EPOCH);
        catalog.take(&library("2", None), shows, true, Timestamp::UNIX_EPOCH);
        let copy = item("8", ItemKind::Movie, "plex://movie/a", &[]);
        catalog.take(&library("3", None), vec![copy], true, Timestamp::UNIX_EPOCH);
        let finding = catalog.finding();
        for (kind, guid, ids, found) in [
            (ListedKind::Movie, Some("plex://movie/a"), &[][..], &["1", "8"][..]),
            (ListedKind::Movie, Some("plex://movie/b"), &["imdb://tt1"], &["2"]),
            (ListedKind::Movie, Some("plex://movie/z"), &["tmdb://9"], &["1"]),
            (ListedKind::Movie, None, &["tvdb://7"], &[]),
            (ListedKind::Movie, None, &["imdb://tt3"], &["3"]),
            (ListedKind::Movie, None, &["tmdb://9", "imdb://tt2"], &["2"]),
            (ListedKind::Show, None, &["tmdb://9"], &["5"]),
            (ListedKind::Show, None, &["tvdb://74205"], &["6"]),
            (ListedKind::Show, None, &["imdb://tt404", "tvdb://81797"], &["7"]),
            (ListedKind::Show, Some("plex://movie/a"), &[], &[]),
            (ListedKind::Movie, None, &["local://4"], &[]),
        ] {
            let ids: Vec<String> = ids.iter().map(|&id| id.to_owned()).collect();
            let listed = Listed { kind, guid: guid.map(str::to_owned), ids: Vec::new() };
            assert_eq!(keys(&finding.find(&listed, &ids)), found, "{kind:?} {guid:?} {ids:?}");
            assert_eq!(keys(&finding.find(&Listed { ids, ..listed }, &[])), found);
        }
    }

    #[test]
    fn a_library_is_listed_again_when_it_changed_or_the_list_had_holes() {
        let at = |hour: i64| Timestamp::from_second(hour * 3600).unwrap();
        let take = |library: &Library, is_whole| {
            let mut catalog = Catalog::default();
            catalog.take(library, Vec::new(), is_whole, at(10));
            catalog
        };
        let one = library("1", Some("1-2-3"));
        for (catalog, library, hour, is_current) in [
            (take(&one, true), one.clone(), 11, true),
            (take(&one, true), one.clone(), 33, true),
            (take(&one, true), one.clone(), 34, false),
            (take(&one, true), one.clone(), 9, false),
            (take(&one, false), one.clone(), 11, false),
            (take(&one, true), library("1", Some("1-2-4")), 11, false),
            (take(&one, true), library("2", Some("1-2-3")), 11, false),
            (take(&library("1", None), true), library("1", None), 11, false),
            (take(&Library { refreshing: true, ..one.clone() }, true), one.clone(), 11, false),
        ] {
            assert_eq!(catalog.is_current(&library, at(hour)), is_current, "{catalog:?} {library:?} {hour}");
        }
    }
}
