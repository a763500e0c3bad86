//! The sources that are lists of Plex: what was added lately, playlists, collections, pinned items.
//!
//! Owns how such a list becomes rows in a useful order: what is in it by its place, and a show or a
//! season as all its episodes, the first ones of every show first, so that a limit cuts off the last.
//! Playlists are each user's own; all else is asked for with the owner's token, once. The libraries are
//! listed whole only while a pin is a glob: what it means is then what Plex has, in the order of the
//! paths. A list that could not be read whole says so, and a name or a glob for which Plex has nothing
//! is one warning and no failure.

use std::collections::{BTreeMap, BTreeSet};

use super::ask::{Asked, came, each};
use super::units::is_usable;
use super::{Class, PIN, Rank, Reason, Request, Source, pin_by};
use crate::paths::MediaPath;
use crate::plex::{Item, ItemKind, Library, LibraryKind, List, RatingKey, Read, Version};
use crate::secret::Secret;

/// What one source says, for one user where it is theirs.
pub(super) struct Listed {
    pub(super) reason: Reason,
    pub(super) rows: Vec<(Rank, Item)>,
    /// All of it came.
    pub(super) complete: bool,
}

/// Asks for every list that the configuration names. `now` is in seconds since 1970.
pub(super) fn ask(request: &Request<'_>, asked: &mut Asked<'_>, now: i64) -> Vec<Listed> {
    let mut listed = videos(request, asked, now);
    listed.extend(playlists(request, asked));
    listed.extend(collections(request, asked));
    listed.extend(pins_by_key(request, asked));
    listed
}

/// What was added lately, and what is pinned by a glob: from one listing of each library.
fn videos(request: &Request<'_>, asked: &mut Asked<'_>, now: i64) -> Vec<Listed> {
    let age = request.select.recently_added.map(|age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    let since = age.map(|age| now.saturating_sub(age).max(0));
    let globs = &request.select.pin.paths;
    if since.is_none() && globs.is_empty() {
        return Vec::new();
    }
    let asked_since = since.filter(|_| globs.is_empty());
    let reads = each(&asked.libraries, |library| request.server.videos(request.owner, library, asked_since));
    let mut round = Round::new(asked);
    let (mut added, mut pinned) = (Vec::new(), Vec::new());
    for (library, read) in asked.libraries.clone().iter().zip(reads) {
        let items = round.take(asked, read, || match asked_since {
            Some(_) => format!("what was added lately to {}", library.title),
            None => format!("what is in {}", library.title),
        });
        for item in items.into_iter().filter(is_usable) {
            pinned.extend(ByPath::of(request, &item));
            if let (Some(since), Some(at)) = (since, item.added_at)
                && at >= since
            {
                added.push((rank(Class::RecentlyAdded, 0, at.min(now)), item));
            }
        }
    }
    let mut listed = pins_by_glob(request, asked, pinned, round.complete);
    if since.is_some() {
        let reason = Reason::of(Source::RecentlyAdded);
        listed.push(Listed { reason, rows: added, complete: round.complete });
    }
    listed
}

/// An item with files whose paths match a glob of `select.pin`.
struct ByPath<'a> {
    /// The first of these files.
    path: MediaPath,
    item: Item,
    globs: BTreeSet<&'a str>,
}

impl<'a> ByPath<'a> {
    fn of(request: &Request<'a>, item: &Item) -> Option<Self> {
        let found: Vec<(MediaPath, &str)> =
            item.versions.iter().flat_map(|version| pinned_files(request, version)).collect();
        let path = found.iter().map(|(path, _)| path).min()?.clone();
        Some(Self { path, item: item.clone(), globs: found.into_iter().map(|(_, glob)| glob).collect() })
    }
}

/// The files of this version that match, each with every glob that it matches.
fn pinned_files<'a>(request: &Request<'a>, version: &Version) -> Vec<(MediaPath, &'a str)> {
    let files = version.parts.iter().filter_map(|part| part.file.as_ref());
    let paths = files.filter_map(|file| Some(request.maps.resolve(file).ok()?.1));
    let matching = |path: MediaPath| {
        request.select.pin.paths.matching(path.as_str()).map(|glob| (path.clone(), glob)).collect::<Vec<_>>()
    };
    paths.flat_map(matching).collect()
}

/// What each glob of `select.pin` means. Of an item with several versions those count that it matches.
fn pins_by_glob(
    request: &Request<'_>,
    asked: &mut Asked<'_>,
    mut found: Vec<ByPath<'_>>,
    complete: bool,
) -> Vec<Listed> {
    found.sort_by(|a, b| (&a.path, &a.item.rating_key).cmp(&(&b.path, &b.item.rating_key)));
    let globs: BTreeSet<&str> = request.select.pin.paths.patterns().iter().map(String::as_str).collect();
    let mut listed = Vec::new();
    for glob in globs {
        let is_meant = |version: &Version| pinned_files(request, version).iter().any(|(_, by)| *by == glob);
        let mut rows = Vec::new();
        for (place, by_path) in (0..).zip(&found).filter(|(_, by_path)| by_path.globs.contains(glob)) {
            let versions = by_path.item.versions.iter().filter(|version| is_meant(version)).cloned().collect();
            rows.push((rank(Class::Pin, place, 0), Item { versions, ..by_path.item.clone() }));
        }
        if complete && rows.is_empty() {
            asked.warnings.push(format!("Plex has no movie or episode whose path matches {glob} (select.pin)"));
        }
        listed.push(Listed { reason: pin_by(glob), rows, complete });
    }
    listed
}

fn playlists(request: &Request<'_>, asked: &mut Asked<'_>) -> Vec<Listed> {
    if request.select.playlists.is_empty() {
        return Vec::new();
    }
    let mut names = Names::new("playlist", "select.playlists", &request.select.playlists);
    let people: Vec<(String, &Secret, bool)> =
        asked.people.iter().map(|person| (person.viewer.name.clone(), &person.viewer.token, person.dropped)).collect();
    let reads = each(&people, |(_, token, dropped)| (!dropped).then(|| request.server.playlists(token)));
    let mut listed = Vec::new();
    for ((user, token, _), read) in people.into_iter().zip(reads) {
        let mut round = Round::new(asked);
        let mut rows = Vec::new();
        match read {
            None => round.complete = false,
            Some(read) => {
                let lists = round.take(asked, read, || format!("the playlists of {user}"));
                let members = members(request, asked, &mut round, token, &names.chosen(lists));
                rows = expand(request, asked, &mut round, Class::Playlist, members);
            }
        }
        names.all_known &= round.complete;
        let reason = Reason::of_user(Source::Playlist, user);
        listed.push(Listed { reason, rows, complete: round.complete });
    }
    names.warn_of_unknown(asked);
    listed
}

fn collections(request: &Request<'_>, asked: &mut Asked<'_>) -> Option<Listed> {
    if request.select.collections.is_empty() {
        return None;
    }
    let mut names = Names::new("collection", "select.collections", &request.select.collections);
    let reads = each(&asked.libraries, |library| request.server.collections(request.owner, library));
    let mut round = Round::new(asked);
    let mut chosen = Vec::new();
    for (library, read) in asked.libraries.clone().iter().zip(reads) {
        let lists = round.take(asked, read, || format!("the collections of {}", library.title));
        chosen.extend(names.chosen(lists));
    }
    names.all_known &= round.complete;
    names.warn_of_unknown(asked);
    let members = members(request, asked, &mut round, request.owner, &chosen);
    let rows = expand(request, asked, &mut round, Class::Collection, members);
    Some(Listed { reason: Reason::of(Source::Collection), rows, complete: round.complete })
}

/// What `select.pin` names by rating key, in whichever library it is.
fn pins_by_key(request: &Request<'_>, asked: &mut Asked<'_>) -> Option<Listed> {
    let keys: Vec<RatingKey> = request.select.pin.rating_keys.iter().map(RatingKey::new).collect();
    if keys.is_empty() {
        return None;
    }
    let mut round = Round { complete: true };
    let items = round.take(asked, request.server.items(request.owner, &keys), || "what is pinned".to_owned());
    if round.complete {
        let there: BTreeSet<&RatingKey> = items.iter().map(|item| &item.rating_key).collect();
        for key in keys.iter().filter(|key| !there.contains(key)) {
            asked.warnings.push(format!("Plex has no movie, episode, season or show {key} (select.pin)"));
        }
    }
    let rows = expand(request, asked, &mut round, Class::Pin, items);
    Some(Listed { reason: PIN, rows, complete: round.complete })
}

/// What is in these lists, as far as the configured libraries hold it; each item once.
fn members(
    request: &Request<'_>,
    asked: &mut Asked<'_>,
    round: &mut Round,
    token: &Secret,
    lists: &[List],
) -> Vec<Item> {
    let reads = each(lists, |list| request.server.members(token, list));
    let libraries: BTreeSet<String> = asked.libraries.iter().map(|library| library.id.clone()).collect();
    let counts = |item: &Item| item.library_id.as_ref().is_none_or(|id| libraries.contains(id));
    let mut seen = BTreeSet::new();
    let mut items = Vec::new();
    for (list, read) in lists.iter().zip(reads) {
        let mut came = round.take(asked, read, || format!("what is in \"{}\"", list.title));
        came.retain(|item| counts(item) && seen.insert(item.rating_key.clone()));
        if items.is_empty() {
            // Mostly there is one list, and it may be a long one.
            items = came;
        } else {
            items.append(&mut came);
        }
    }
    items
}

/// The movies and episodes that `items` are or hold, with their ranks.
fn expand(
    request: &Request<'_>,
    asked: &mut Asked<'_>,
    round: &mut Round,
    class: Class,
    items: Vec<Item>,
) -> Vec<(Rank, Item)> {
    let mut shows: BTreeMap<String, BTreeSet<RatingKey>> = BTreeMap::new();
    for item in items.iter().filter(|item| holds_episodes(item)) {
        if let (Some(show), Some(library)) = (show_of(item), &item.library_id) {
            shows.entry(library.clone()).or_default().insert(show.clone());
        } else {
            round.complete = false;
            asked.problems.push(format!("the episodes of {}: Plex does not say where they are", item.label()));
        }
    }
    let shows: Vec<(Library, Vec<RatingKey>)> =
        shows.into_iter().map(|(id, shows)| (library(asked, &id), shows.into_iter().collect())).collect();
    let reads = each(&shows, |(library, shows)| request.server.episodes(request.owner, library, shows));
    let mut episodes: BTreeMap<RatingKey, Vec<Item>> = BTreeMap::new();
    for ((library, _), read) in shows.iter().zip(reads) {
        for item in round.take(asked, read, || format!("episodes in {}", library.title)) {
            if let Some(show) = item.show.as_ref().and_then(|show| show.rating_key.clone()) {
                episodes.entry(show).or_default().push(item);
            }
        }
    }
    for episodes in episodes.values_mut() {
        // Specials come last: nobody begins with them.
        episodes.sort_by_key(|item| {
            let season = item.season.map_or((2, 0), |season| (i64::from(season == 0), season));
            (season, item.episode.unwrap_or(i64::MAX), item.rating_key.clone())
        });
    }
    let mut rows = Vec::with_capacity(items.len());
    for (place, item) in (0..).zip(items) {
        if !holds_episodes(&item) {
            rows.push((rank(class, place, 0), item));
            continue;
        }
        let all = show_of(&item).and_then(|show| episodes.get(show)).into_iter().flatten();
        let is_in = |episode: &&Item| item.kind == ItemKind::Show || episode.season == item.season;
        let own = all.filter(is_in).filter(|episode| is_usable(episode));
        rows.extend((0..).zip(own).map(|(place, episode)| (rank(class, place, 0), episode.clone())));
    }
    rows
}

fn holds_episodes(item: &Item) -> bool {
    matches!(item.kind, ItemKind::Show | ItemKind::Season)
}

/// The show that has the episodes of a show or a season, where it is known which these are.
fn show_of(item: &Item) -> Option<&RatingKey> {
    match item.kind {
        ItemKind::Season => item.show.as_ref()?.rating_key.as_ref().filter(|_| item.season.is_some()),
        _ => Some(&item.rating_key),
    }
}

/// The library with this id, which need not be among the configured ones.
fn library(asked: &Asked<'_>, id: &str) -> Library {
    asked.libraries.iter().find(|library| library.id == id).cloned().unwrap_or_else(|| Library {
        id: id.to_owned(),
        title: format!("library {id}"),
        kind: LibraryKind::Show,
        locations: Vec::new(),
        refreshing: false,
        stamp: None,
    })
}

/// `recency` in seconds since 1970.
fn rank(class: Class, step: u32, recency: i64) -> Rank {
    Rank { class, step, recency: std::cmp::Reverse(recency) }
}

/// The reads behind one answer.
struct Round {
    /// All of them came, whole, from all configured libraries.
    complete: bool,
}

impl Round {
    fn new(asked: &Asked<'_>) -> Self {
        Self { complete: asked.libraries_complete }
    }

    /// What came of a read; what did not is noted.
    fn take<T>(&mut self, asked: &mut Asked<'_>, read: Read<Vec<T>>, what: impl Fn() -> String) -> Vec<T> {
        let (value, trouble) = came(read);
        if let Some(trouble) = trouble {
            self.complete = false;
            asked.problems.push(format!("{}: {trouble}", what()));
        }
        value
    }
}

/// The titles that the configuration names, and which of them Plex knows.
struct Names<'a> {
    what: &'static str,
    key: &'static str,
    unknown: BTreeSet<&'a str>,
    titles: &'a [String],
    /// Every list of titles came whole, so that one that is in none of them is nowhere.
    all_known: bool,
}

impl<'a> Names<'a> {
    fn new(what: &'static str, key: &'static str, titles: &'a [String]) -> Self {
        Self { what, key, unknown: titles.iter().map(String::as_str).collect(), titles, all_known: true }
    }

    /// Those of `lists` that are named, in the order of the configuration.
    fn chosen(&mut self, lists: Vec<List>) -> Vec<List> {
        let mut chosen: Vec<(usize, List)> = Vec::new();
        for list in lists {
            if let Some(place) = self.titles.iter().position(|title| *title == list.title) {
                self.unknown.remove(list.title.as_str());
                chosen.push((place, list));
            }
        }
        chosen.sort_by(|(a, one), (b, other)| (a, &one.rating_key).cmp(&(b, &other.rating_key)));
        chosen.into_iter().map(|(_, list)| list).collect()
    }

    fn warn_of_unknown(&self, asked: &mut Asked<'_>) {
        for title in self.unknown.iter().filter(|_| self.all_known) {
            asked.warnings.push(format!("Plex has no {} \"{title}\" ({})", self.what, self.key));
        }
    }
}
