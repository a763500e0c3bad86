//! From the lists of the household to wants: films whole, and of a show the next episodes of that user.
//!
//! Asks in each user's own name, so that what a user cannot see is not cached for them and a show goes on
//! where that user is. An entry whose owner is no user of the server is read in the name of the server's
//! owner, but not with the owner's watch state: it begins at the beginning. What is asked for twice by one
//! token is read once. An answer is complete only when the list, the libraries and the items all came.

use std::collections::{BTreeMap, BTreeSet};

use super::ask::{Asked, came, each};
use super::catalog::{Catalog, Finding, Found};
use super::memory::Answer;
use super::next::{show_key, upcoming};
use super::units::Finder;
use super::want::{Class, Rank, Reason, Source, Want};
use super::{Scope, wants_of};
use crate::plex::{Item, Library, Listed, ListedKind, RatingKey};
use crate::secret::Secret;

/// How many external ids one run asks for. They are kept, so the next run goes on.
const LOOKUPS: usize = 20;

/// Everything that was read of lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lists {
    pub lists: Vec<List>,
    /// Sources of which it is not known whose lists there are.
    pub unknown: BTreeSet<Source>,
}

/// A list, and what it amounts to.
#[derive(Debug, Clone, PartialEq)]
pub struct List {
    pub reason: Reason,
    /// Whose watch state says where a show goes on; `None` for somebody who is no user of the server.
    pub viewer: Option<String>,
    /// The first is the most urgent.
    pub entries: Vec<Listed>,
    /// All of it came.
    pub complete: bool,
}

/// An entry that the server has: its place in the list, what it is, and where it is.
struct Hit {
    place: u32,
    kind: ListedKind,
    found: Found,
}

/// What was read in one name.
#[derive(Default)]
struct Shelved {
    films: BTreeMap<RatingKey, Item>,
    episodes: Vec<Item>,
    has_failed: bool,
}

impl Scope<'_> {
    /// What the lists want. Gives the catalog where more is known of the libraries now.
    pub(super) fn lists(
        &self,
        asked: &mut Asked<'_>,
        finder: &mut Finder<'_>,
        answers: &mut BTreeMap<Reason, Answer>,
    ) -> Option<Catalog> {
        let lists = &self.request.lists.lists;
        let mut catalog = None;
        let mut is_known = true;
        let mut hits: Vec<Vec<Hit>> = lists.iter().map(|_| Vec::new()).collect();
        if lists.iter().any(|list| !list.entries.is_empty()) {
            let (new, is_whole) = self.catalog(asked);
            is_known = is_whole;
            (hits, catalog) = self.hits(new, asked, &mut is_known);
        }
        let tokens = self.read(asked, &hits);
        let mut wants: BTreeMap<&Reason, (Vec<Want>, bool)> = BTreeMap::new();
        for (list, hits) in lists.iter().zip(&hits) {
            let (came, complete) = wants.entry(&list.reason).or_insert((Vec::new(), true));
            let Some(token) = token_of(self, asked, list) else {
                *complete = false;
                continue;
            };
            let shelved = &tokens[&token];
            *complete &= list.complete && is_known && !shelved.has_failed;
            let is_own = is_own(asked, list);
            for hit in hits {
                came.extend(self.wants_of_hit(finder, list, hit, shelved, is_own));
            }
        }
        for (reason, (came, complete)) in wants {
            answers.insert(reason.clone(), self.over_last(reason, came, complete, finder));
        }
        // Of whom there may be lists, nobody knows: what they wanted before stays wanted.
        let remembered = self.memory.reasons().chain(self.request.cached.iter().flat_map(|cached| &cached.reasons));
        let unknown: BTreeSet<&Reason> =
            remembered.filter(|reason| self.request.lists.unknown.contains(&reason.source)).collect();
        for reason in unknown {
            if !answers.contains_key(reason) {
                answers.insert(reason.clone(), self.over_last(reason, Vec::new(), false, finder));
            }
        }
        for person in &mut asked.people {
            if let Some(shelved) = tokens.get(&person.viewer.token).filter(|_| !person.dropped) {
                person.listed = shelved.films.values().chain(&shelved.episodes).cloned().collect();
            }
        }
        catalog.filter(|catalog| catalog != self.request.catalog)
    }

    /// What the owner's libraries hold, and whether all of it is known.
    fn catalog(&self, asked: &mut Asked<'_>) -> (Catalog, bool) {
        let mut catalog = self.request.catalog.clone();
        catalog.keep_only(&asked.libraries);
        let now = self.request.now;
        let changed: Vec<&Library> =
            asked.libraries.iter().filter(|library| !catalog.is_current(library, now)).collect();
        let reads = each(&changed, |library| self.request.server.catalog(self.request.owner, library));
        // A library that is not shown may hold what is not found in the others.
        let mut is_whole = asked.libraries_complete;
        let mut problems = Vec::new();
        for (library, read) in changed.into_iter().zip(reads) {
            let has_come = read.value().is_some();
            let (items, trouble) = came(read);
            if has_come {
                catalog.take(library, items, trouble.is_none(), now);
            }
            if let Some(trouble) = trouble {
                is_whole = false;
                problems.push(format!("what is in {}, for the watchlists: {trouble}", library.title));
            }
        }
        asked.problems.extend(problems);
        (catalog, is_whole)
    }

    /// What the server has of the entries of each list. Clears `is_known` when an entry may be there and
    /// could not be looked up.
    fn hits(
        &self,
        mut catalog: Catalog,
        asked: &mut Asked<'_>,
        is_known: &mut bool,
    ) -> (Vec<Vec<Hit>>, Option<Catalog>) {
        let lists = &self.request.lists.lists;
        let finding = catalog.finding();
        let mut lost: BTreeSet<&str> = BTreeSet::new();
        let is_lost = |listed: &&Listed| finding.could_help(listed) && finding.find(listed, &[]).is_empty();
        for listed in lists.iter().flat_map(|list| &list.entries).filter(is_lost) {
            lost.extend(listed.guid.as_deref().filter(|guid| !catalog.ids.contains_key(*guid)));
        }
        *is_known &= lost.len() <= LOOKUPS;
        for guid in lost.into_iter().take(LOOKUPS) {
            match (self.request.external_ids)(guid) {
                Ok(ids) => {
                    catalog.ids.insert(guid.to_owned(), ids);
                }
                Err(error) => {
                    *is_known = false;
                    asked.problems.push(format!("plex.tv: what an entry of a watchlist is: {error}"));
                    break;
                }
            }
        }
        let hits = lists.iter().map(|list| hits_of(list, &finding, &catalog)).collect();
        (hits, Some(catalog))
    }

    /// Reads the films and the episodes that are hit, once for each token.
    fn read(&self, asked: &mut Asked<'_>, hits: &[Vec<Hit>]) -> BTreeMap<Secret, Shelved> {
        let mut films: BTreeMap<Secret, BTreeSet<RatingKey>> = BTreeMap::new();
        let mut shows: BTreeMap<(Secret, String), BTreeSet<RatingKey>> = BTreeMap::new();
        let mut tokens: BTreeMap<Secret, Shelved> = BTreeMap::new();
        for (list, hits) in self.request.lists.lists.iter().zip(hits) {
            let Some(token) = token_of(self, asked, list) else { continue };
            let shelved = tokens.entry(token.clone()).or_default();
            for Hit { kind, found, .. } in hits {
                match kind {
                    ListedKind::Movie => {
                        films.entry(token.clone()).or_default().insert(found.key.clone());
                    }
                    ListedKind::Show if !take_shelved(asked, &token, found, shelved) => {
                        shows.entry((token.clone(), found.library.clone())).or_default().insert(found.key.clone());
                    }
                    ListedKind::Show => {}
                }
            }
        }
        let server = self.request.server;
        let films: Vec<(Secret, Vec<RatingKey>)> =
            films.into_iter().map(|(token, keys)| (token, keys.into_iter().collect())).collect();
        let shows: Vec<(Secret, &Library, Vec<RatingKey>)> = shows
            .into_iter()
            .filter_map(|((token, id), keys)| {
                let library = visible(asked, self, &token).find(|library| library.id == id);
                if library.is_none() && asked.shortsighted.contains(&token) {
                    tokens.entry(token.clone()).or_default().has_failed = true;
                }
                Some((token, library?, keys.into_iter().collect()))
            })
            .collect();
        let mut troubles = Vec::new();
        let mut note = |shelved: &mut Shelved, trouble: Option<String>| {
            if let Some(trouble) = trouble {
                shelved.has_failed = true;
                troubles.push(format!("what is on a watchlist: {trouble}"));
            }
        };
        for ((token, _), read) in films.iter().zip(each(&films, |(token, keys)| server.items(token, keys))) {
            let shelved = tokens.entry(token.clone()).or_default();
            let (items, trouble) = came(read);
            shelved.films.extend(items.into_iter().map(|item| (item.rating_key.clone(), item)));
            note(shelved, trouble);
        }
        let reads = each(&shows, |(token, library, keys)| server.episodes(token, library, keys));
        for ((token, ..), read) in shows.iter().zip(reads) {
            let shelved = tokens.entry(token.clone()).or_default();
            let (items, trouble) = came(read);
            shelved.episodes.extend(items);
            note(shelved, trouble);
        }
        asked.problems.extend(troubles);
        tokens
    }

    fn wants_of_hit(
        &self,
        finder: &mut Finder<'_>,
        list: &List,
        hit: &Hit,
        shelved: &Shelved,
        is_own: bool,
    ) -> Vec<Want> {
        let key = &hit.found.key;
        let rank = |step: u32| Rank {
            class: Class::Watchlist,
            step: hit.place.saturating_add(step),
            recency: std::cmp::Reverse(self.now),
        };
        if hit.kind == ListedKind::Movie {
            let film = shelved.films.get(key);
            return film.map(|film| wants_of(finder, film, rank(0), &list.reason)).unwrap_or_default();
        }
        let mut episodes: Vec<Item> =
            shelved.episodes.iter().filter(|item| show_key(item) == Some(key)).cloned().collect();
        if !is_own {
            for episode in &mut episodes {
                (episode.view_count, episode.view_offset_ms, episode.last_viewed_at) = (0, None, None);
            }
        }
        let named = list.viewer.as_deref().or(list.reason.user.as_deref());
        let viewer = self.request.viewers.iter().find(|viewer| Some(viewer.name.as_str()) == named);
        let count = viewer.map_or(self.request.select.watchlist_episodes, |viewer| viewer.tastes.watchlist_episodes);
        let upcoming = upcoming(key, &episodes, count);
        upcoming.into_iter().flat_map(|(step, item)| wants_of(finder, item, rank(step - 1), &list.reason)).collect()
    }
}

fn hits_of(list: &List, finding: &Finding, catalog: &Catalog) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (place, listed) in (0..).zip(&list.entries) {
        let more = listed.guid.as_ref().and_then(|guid| catalog.ids.get(guid));
        let found = finding.find(listed, more.map_or(&[], Vec::as_slice));
        hits.extend(found.into_iter().map(|found| Hit { place, kind: listed.kind, found }));
    }
    hits
}

/// Whether the list is that of somebody who is asked in their own name.
fn is_own(asked: &Asked<'_>, list: &List) -> bool {
    asked.people.iter().any(|person| Some(&person.viewer.name) == list.viewer.as_ref())
}

/// In whose name the entries are read; `None` when theirs cannot be.
fn token_of(scope: &Scope<'_>, asked: &Asked<'_>, list: &List) -> Option<Secret> {
    match asked.people.iter().find(|person| Some(&person.viewer.name) == list.viewer.as_ref()) {
        Some(person) => (!person.dropped).then(|| person.viewer.token.clone()),
        None => Some(scope.request.owner.clone()),
    }
}

/// The libraries that the user of this token sees.
fn visible<'a>(asked: &'a Asked<'_>, scope: &Scope<'_>, token: &Secret) -> Box<dyn Iterator<Item = &'a Library> + 'a> {
    match asked.people.iter().find(|person| person.viewer.token == *token) {
        Some(person) => Box::new(person.shelves.iter().map(|shelf| &shelf.library)),
        None if token == scope.request.owner => Box::new(asked.libraries.iter()),
        None => Box::new(std::iter::empty()),
    }
}

/// Takes the episodes of a show that were read already, because it is on deck. Says whether they were.
fn take_shelved(asked: &Asked<'_>, token: &Secret, found: &Found, shelved: &mut Shelved) -> bool {
    let person = asked.people.iter().find(|person| person.viewer.token == *token && person.next_complete);
    let Some(person) = person else { return false };
    let of_show = |item: &&Item| show_key(item) == Some(&found.key);
    let shelf = person.shelves.iter().find(|shelf| shelf.library.id == found.library);
    let episodes: Vec<&Item> = shelf.into_iter().flat_map(|shelf| &shelf.episodes).filter(of_show).collect();
    if !shelved.episodes.iter().any(|item| show_key(item) == Some(&found.key)) {
        shelved.episodes.extend(episodes.iter().copied().cloned());
    }
    !episodes.is_empty()
}
