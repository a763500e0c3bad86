//! What is wanted: from Plex's answers to ranked wants, and what becomes of those that nobody wants.
//!
//! Owns the sources, how their answers are laid together with the
//! last good ones, and the order of wants. Asks Plex through [`MediaServer`] and looks at no file.
//! Invariants: an answer that is failed or partial takes nothing away that was wanted before; one
//! unit is one want, whoever wants it; the same answers in any order give the same wants.

mod ask;
mod catalog;
#[cfg(test)]
mod double;
mod few;
mod lists;
mod memory;
mod next;
#[cfg(test)]
mod tests;
mod units;
mod want;
mod watchlist;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

pub use self::catalog::Catalog;
pub use self::memory::Memory;
pub use self::want::{Class, EvictWhy, FileKey, Rank, Reason, Reasons, Release, Source, Want};
pub use self::watchlist::{List, Lists};

use self::ask::{Asked, Person, Shelf};
use self::lists::Listed;
use self::memory::{Answer, later};
use self::next::{Lookahead, next, show_key};
use self::units::Finder;
use crate::config::{Evict, Override, Select};
use crate::paths::{PathMap, Unmapped};
use crate::plex::{Item, MediaServer, PlexError};
use crate::secret::Secret;
use crate::shared::Text;

/// Somebody whose wishes count.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// As Plex shows it.
    pub name: String,
    /// Reads for them. Empty when there is none at the moment: they are not asked, and what they
    /// wanted stays wanted. Who is left out altogether is taken not to count any more.
    pub token: Secret,
    pub tastes: Tastes,
}

/// What somebody likes: the settings of `[select]`, or their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tastes {
    pub on_deck: bool,
    pub next_episodes: u32,
    pub prefetch_minutes: u32,
    pub watchlist: bool,
    pub watchlist_episodes: u32,
}

impl Tastes {
    pub fn of(select: &Select, own: Option<&Override>) -> Self {
        let own = own.cloned().unwrap_or_default();
        Self {
            on_deck: own.on_deck.unwrap_or(select.on_deck),
            next_episodes: own.next_episodes.unwrap_or(select.next_episodes),
            prefetch_minutes: own.prefetch_minutes.unwrap_or(select.prefetch_minutes),
            watchlist: own.watchlist.unwrap_or(select.watchlist),
            watchlist_episodes: own.watchlist_episodes.unwrap_or(select.watchlist_episodes),
        }
    }
}

/// A unit that the history says is on the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedUnit {
    /// Its first part.
    pub unit: FileKey,
    pub rating_key: Option<Text>,
    /// Why it was cached.
    pub reasons: Reasons,
}

/// What to ask, and what the answers are laid over.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub server: &'a dyn MediaServer,
    /// The owner's token, whether or not the owner is one of the viewers.
    pub owner: &'a Secret,
    pub viewers: &'a [Viewer],
    pub lists: &'a Lists,
    /// What the libraries hold, as far as it was known before.
    pub catalog: &'a Catalog,
    /// Gives the external ids of an entry of a list, by its guid.
    pub external_ids: &'a (dyn Fn(&str) -> Result<Vec<String>, PlexError> + Sync),
    pub select: &'a Select,
    pub evict: &'a Evict,
    pub maps: &'a PathMap,
    /// The maps' names, in the order in which `maps` was made of them.
    pub map_names: &'a [String],
    pub cached: &'a [CachedUnit],
    pub now: Timestamp,
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq)]
pub struct Gathered {
    /// One for each unit, over all sources and users; best first.
    pub wants: Vec<Arc<Want>>,
    /// Wanted without a break for longer than `evict.max_age`, and therefore not in `wants`.
    pub expired: BTreeSet<FileKey>,
    /// What Plex wants but no map has; each path once.
    pub unmapped: Vec<UnmappedFile>,
    /// Titles of items without a usable file, and why.
    pub unusable: Vec<(String, &'static str)>,
    pub playing: Playing,
    /// What went wrong, a line each; the run is partial when there is any.
    pub problems: Vec<String>,
    /// What the configuration names and Plex does not know, a line each.
    pub warnings: Vec<String>,
    /// The sources and users that did not answer completely.
    pub incomplete: BTreeSet<Reason>,
    /// How many libraries of the owner are looked at.
    pub libraries: usize,
    /// What viewers have seen of the items of cached units: by name and rating key. Absent is unknown.
    watched: BTreeMap<(Text, Text), Seen>,
    viewers: BTreeSet<String>,
    answers: BTreeMap<Reason, Answer>,
    /// What the libraries hold, when more is known of it now.
    pub catalog: Option<Catalog>,
}

/// A file that has no place below any map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmappedFile {
    pub title: String,
    /// As Plex gave it.
    pub path: String,
    pub why: Unmapped,
}

/// What plays now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Playing {
    /// By rating key, and every file of these items.
    Known { rating_keys: BTreeSet<String>, files: BTreeSet<FileKey> },
    /// It could not be read, for this reason: anything may be playing.
    Unknown(String),
}

/// What one viewer has seen of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// To the end; seconds since 1970 where Plex says when.
    Watched(Option<i64>),
    Unwatched,
    /// Plex has no such item any more.
    Gone,
}

impl Seen {
    fn of(item: &Item) -> Self {
        if item.watched() { Self::Watched(item.last_viewed_at) } else { Self::Unwatched }
    }
}

/// Why nothing can be said of what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error(transparent)]
    Plex(#[from] PlexError),
    #[error("there is no token of the server's owner")]
    NoToken,
    #[error("Plex shows no library at all")]
    NoLibraries,
    #[error("Plex has no movie or show library among the configured ones ({configured}); it shows: {visible}")]
    NoneIncluded { configured: String, visible: String },
}

impl SelectError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Plex(error) => error.hint(),
            Self::NoToken => Some("set plex.token_file; Plex keeps the token in Preferences.xml, as PlexOnlineToken"),
            Self::NoLibraries => Some(
                "nothing was touched; a server that was just restored or whose database is damaged looks like this",
            ),
            Self::NoneIncluded { .. } => Some("nothing was touched; check select.libraries"),
        }
    }
}

/// What `select.pin` keeps on the cache.
#[derive(Debug)]
pub struct Pinned<'a> {
    select: &'a Select,
    /// The parts of the pinned items, as Plex last told.
    parts: BTreeSet<&'a FileKey>,
}

impl<'a> Pinned<'a> {
    pub fn new(select: &'a Select, memory: &'a Memory) -> Self {
        let by_key = memory.answer(&PIN).filter(|_| !select.pin.rating_keys.is_empty());
        Self {
            select,
            parts: by_key.into_iter().flat_map(|answer| &answer.wants).flat_map(|want| &want.parts).collect(),
        }
    }

    /// Whether it keeps this file.
    pub fn has(&self, file: &FileKey) -> bool {
        self.parts.contains(file) || self.select.pin.paths.is_match(file.path.as_str())
    }
}

/// The reason of what is pinned by its key.
const PIN: Reason = Reason::of(Source::Pin);

/// The reason of what is pinned by this glob. Each is a source of its own, so that what one wanted that
/// is no longer in the configuration is forgotten, whatever could be read.
fn pin_by(glob: &str) -> Reason {
    Reason { detail: Some(glob.into()), ..PIN }
}

/// Asks Plex and ranks what is wanted.
///
/// # Errors
/// The server cannot be reached, refuses the owner's token, or shows none of the libraries. Whatever
/// else fails is in [`Gathered::problems`] and leaves the last good answers in force.
pub fn gather(request: &Request<'_>, memory: &Memory) -> Result<Gathered, SelectError> {
    let scope = Scope { request, memory, now: request.now.as_second() };
    let mut asked = Asked::start(request)?;
    asked.on_deck(request);
    asked.episodes(request, |item| item.last_viewed_at.is_none_or(|at| scope.is_recent(at)));
    let listed = lists::ask(request, &mut asked, scope.now);

    let mut finder = Finder::new(request.maps, request.map_names, request.select);
    let mut answers = BTreeMap::new();
    for person in asked.people.iter().filter(|person| person.viewer.tastes.on_deck) {
        scope.answer(person, &asked, &mut finder, &mut answers);
    }
    for Listed { reason, rows, complete } in listed {
        // Each is let go of as soon as it is a want: there may be very many.
        let came = rows.into_iter().flat_map(|(rank, item)| wants_of(&mut finder, &item, rank, &reason)).collect();
        let answer = scope.over_last(&reason, came, complete, &finder);
        answers.insert(reason, answer);
    }
    let catalog = scope.lists(&mut asked, &mut finder, &mut answers);
    let (wants, expired) = scope.merge(&answers);
    let watched = scope.watched(&mut asked, &answers);
    let playing = playing(request, &asked);
    match (&playing, &asked.played_trouble) {
        (Playing::Unknown(why), _) => {
            asked.problems.push(format!("what plays now is not known, so nothing is evicted: {why}"));
        }
        (Playing::Known { .. }, Some(why)) => asked.problems.push(format!("what plays now: {why}")),
        (Playing::Known { .. }, None) => {}
    }
    Ok(Gathered {
        wants,
        expired,
        unmapped: finder.unmapped.into_iter().map(|(path, (title, why))| UnmappedFile { title, path, why }).collect(),
        unusable: finder.unusable.into_iter().collect(),
        playing,
        problems: asked.problems,
        warnings: asked.warnings,
        incomplete: answers.iter().filter(|(_, answer)| !answer.complete).map(|(reason, _)| reason.clone()).collect(),
        libraries: asked.libraries.len(),
        watched,
        viewers: request.viewers.iter().map(|viewer| viewer.name.clone()).collect(),
        answers,
        catalog,
    })
}

/// What all steps from answers to wants refer to.
struct Scope<'a> {
    request: &'a Request<'a>,
    memory: &'a Memory,
    /// Seconds since 1970.
    now: i64,
}

impl Scope<'_> {
    /// Whether what was last played then still counts as on deck.
    fn is_recent(&self, at: i64) -> bool {
        let max_age = i64::try_from(self.request.select.on_deck_max_age.as_secs()).unwrap_or(i64::MAX);
        at >= self.now.saturating_sub(max_age)
    }

    /// Whether a want of an earlier run is still one, as far as time goes.
    fn still_counts(&self, source: Source, want: &Want) -> bool {
        let at = want.rank.recency.0;
        match source {
            Source::OnDeck | Source::NextEpisode | Source::Playing => self.is_recent(at),
            Source::RecentlyAdded => self
                .request
                .select
                .recently_added
                .is_some_and(|age| at >= self.now.saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX))),
            _ => true,
        }
    }

    /// What one person wants, by source.
    fn answer(
        &self,
        person: &Person<'_>,
        asked: &Asked<'_>,
        finder: &mut Finder<'_>,
        answers: &mut BTreeMap<Reason, Answer>,
    ) {
        let reason = |source| Reason::of_user(source, &person.viewer.name);
        let (on_deck, following, playing) =
            (reason(Source::OnDeck), reason(Source::NextEpisode), reason(Source::Playing));
        let ahead = Lookahead::of(&person.viewer.tastes);
        let (mut first, mut then, mut now) = (Vec::new(), Vec::new(), Vec::new());
        for shelf in person.shelves.iter().filter(|_| !person.dropped) {
            for item in &shelf.on_deck {
                let rank = Rank { class: Class::OnDeck, step: 0, recency: self.recency(item, shelf) };
                first.extend(wants_of(finder, item, rank, &on_deck));
            }
            for seed in &shelf.on_deck {
                let recency = self.recency(seed, shelf);
                for (step, item) in next(seed, &shelf.episodes, ahead) {
                    then.extend(wants_of(finder, item, Rank { class: Class::Next, step, recency }, &following));
                }
            }
            let on_deck_too = shelf.on_deck.iter().filter(|item| person.plays.contains(&item.rating_key));
            for seed in shelf.playing.iter().chain(on_deck_too) {
                for (step, item) in next(seed, &shelf.episodes, ahead) {
                    let rank = Rank { class: Class::Playing, step, recency: Reverse(self.now) };
                    now.extend(wants_of(finder, item, rank, &playing));
                }
            }
        }
        let first = self.over_last(&on_deck, first, person.on_deck_complete && !person.dropped, finder);
        answers.insert(on_deck, first);
        if !ahead.is_off() {
            let complete = person.next_complete && !person.dropped;
            let then = self.over_last(&following, then, complete, finder);
            answers.insert(following, then);
            let sessions = asked.sessions_trouble.is_none() && asked.played_trouble.is_none();
            let now = self.over_last(&playing, now, complete && sessions, finder);
            answers.insert(playing, now);
        }
    }

    /// When the item, or its show, was last watched; what is not known to have been watched is recent.
    fn recency(&self, item: &Item, siblings: &Shelf) -> Reverse<i64> {
        let same_show = |other: &&Item| show_key(item).is_some() && show_key(other) == show_key(item);
        let seen = siblings.episodes.iter().filter(same_show).filter_map(|other| other.last_viewed_at);
        Reverse(seen.chain(item.last_viewed_at).max().map_or(self.now, |at| at.min(self.now)))
    }

    /// The answer that counts: the new one when it is complete, else what came over the last good one.
    fn over_last(&self, reason: &Reason, came: Vec<Want>, complete: bool, finder: &Finder<'_>) -> Answer {
        let mut wants: BTreeMap<(FileKey, Option<Text>), Arc<Want>> = BTreeMap::new();
        for want in came {
            join(&mut wants, (want.unit().clone(), want.rating_key.clone()), Arc::new(want));
        }
        let last = self.memory.answer(reason);
        if !complete {
            let units: BTreeSet<FileKey> = wants.keys().map(|(unit, _)| unit.clone()).collect();
            for want in last.into_iter().flat_map(|last| &last.wants) {
                // The configuration may have changed since, and nothing stays recent for ever.
                let has_place = |part: &FileKey| {
                    self.request.map_names.iter().any(|name| part.map == *name) && !finder.excludes(part)
                };
                let counts = want.parts.iter().all(has_place) && self.still_counts(reason.source, want);
                if counts && !units.contains(want.unit()) {
                    let mut want = Arc::clone(want);
                    if want.rank.class == Class::Playing {
                        Arc::make_mut(&mut want).rank.class = Class::Next;
                    }
                    join(&mut wants, (want.unit().clone(), want.rating_key.clone()), want);
                }
            }
        }
        let grounded = complete || last.is_some_and(|last| last.grounded);
        Answer { complete, grounded, wants: wants.into_values().collect() }
    }

    /// All answers as one list by rank, without what has been wanted for too long.
    fn merge(&self, answers: &BTreeMap<Reason, Answer>) -> (Vec<Arc<Want>>, BTreeSet<FileKey>) {
        let mut merged = BTreeMap::new();
        for want in answers.values().flat_map(|answer| &answer.wants) {
            join(&mut merged, want.unit().clone(), Arc::clone(want));
        }
        let mut expired = BTreeSet::new();
        let mut wants = Vec::new();
        for (unit, mut want) in merged {
            // What another source wants is pinned too, though the listing may not have come.
            let globs = want.parts.iter().flat_map(|part| self.request.select.pin.paths.matching(part.path.as_str()));
            let by_glob: Vec<Reason> = globs.map(pin_by).filter(|reason| !want.reasons.contains(reason)).collect();
            if !by_glob.is_empty() {
                Arc::make_mut(&mut want).reasons.extend(by_glob);
            }
            if want.reasons.iter().any(|reason| reason.source == Source::Pin) {
                if want.rank.class != Class::Pin {
                    let want = Arc::make_mut(&mut want);
                    want.rank = Rank { class: Class::Pin, step: 0, ..want.rank };
                }
            } else if let (Some(age), Some(since)) = (self.request.evict.max_age, self.memory.wanted_since(&unit))
                && later(since, age) <= self.request.now
            {
                expired.insert(unit);
                continue;
            }
            wants.push(want);
        }
        wants.sort_by(|a: &Arc<Want>, b| a.cmp_rank(b));
        (wants, expired)
    }

    /// What the viewers have seen of the cached units: from the answers that came anyway, and of those
    /// units that nobody wants any more from a question of its own.
    fn watched(&self, asked: &mut Asked<'_>, answers: &BTreeMap<Reason, Answer>) -> BTreeMap<(Text, Text), Seen> {
        let wanted: BTreeSet<&FileKey> =
            answers.values().flat_map(|answer| &answer.wants).map(|want| want.unit()).collect();
        let mut of_interest: BTreeMap<Text, BTreeSet<Text>> = BTreeMap::new();
        let mut unwanted: BTreeMap<Text, BTreeSet<Text>> = BTreeMap::new();
        for cached in self.request.cached {
            for (user, key) in self.memory.items_of(cached) {
                if !wanted.contains(&cached.unit) {
                    unwanted.entry(user.clone()).or_default().insert(key.clone());
                }
                of_interest.entry(user).or_default().insert(key);
            }
        }
        let mut seen = BTreeMap::new();
        for person in asked.people.iter().filter(|person| !person.dropped) {
            let name = &person.viewer.name;
            let Some((name, keys)) = of_interest.get_key_value(name.as_str()) else { continue };
            let shelved = person.shelves.iter().flat_map(|shelf| shelf.on_deck.iter().chain(&shelf.episodes));
            for item in shelved.chain(&person.listed) {
                if keys.contains(item.rating_key.as_str()) {
                    seen.insert((name.clone(), item.rating_key.text().clone()), Seen::of(item));
                }
            }
        }
        asked.watched(self.request, &unwanted, &mut seen);
        seen
    }
}

/// The wants that one row amounts to: one for each version.
fn wants_of(finder: &mut Finder<'_>, item: &Item, rank: Rank, reason: &Reason) -> Vec<Want> {
    let want = |unit: units::Unit| Want {
        parts: unit.parts,
        title: item.label().into(),
        rating_key: Some(item.rating_key.text().clone()),
        media_id: unit.media_id.map(Text::from),
        updated_at: item.updated_at,
        show: show_key(item).map(|show| show.text().clone()),
        rank,
        reasons: Reasons::from([reason.clone()]),
    };
    finder.units(item).into_iter().map(want).collect()
}

/// Adds a want to those under the same key: reasons and parts of all, all else from the best one.
fn join<K: Ord>(wants: &mut BTreeMap<K, Arc<Want>>, key: K, want: Arc<Want>) {
    let Some(best) = wants.get_mut(&key) else {
        wants.insert(key, want);
        return;
    };
    let order = |a: &Want, b: &Want| {
        a.cmp_rank(b).then_with(|| (&a.rating_key, &a.media_id, &a.parts).cmp(&(&b.rating_key, &b.media_id, &b.parts)))
    };
    let mut other = want;
    if order(&other, best).is_lt() {
        std::mem::swap(best, &mut other);
    }
    let known: BTreeSet<FileKey> = best.parts.iter().cloned().collect();
    let best = Arc::make_mut(best);
    best.reasons.extend(other.reasons.iter().cloned());
    best.parts.extend(other.parts.iter().filter(|part| !known.contains(part)).cloned());
}

/// What plays, with every file that could be meant: a session that is transcoded does not say which.
fn playing(request: &Request<'_>, asked: &Asked<'_>) -> Playing {
    if let Some(why) = &asked.sessions_trouble {
        return Playing::Unknown(why.clone());
    }
    let mut rating_keys = BTreeSet::new();
    let mut files = BTreeSet::new();
    let place = |path| {
        let (index, path) = request.maps.resolve(path).ok()?;
        Some(FileKey { map: request.map_names.get(index)?.into(), path })
    };
    for session in asked.sessions.iter().filter(|session| !session.live) {
        let named: Vec<FileKey> = session.files.iter().filter_map(place).collect();
        if let Some(key) = &session.rating_key {
            let item = asked.played.iter().find(|item| item.rating_key == *key);
            if let (None, true, Some(why)) = (item, named.is_empty(), &asked.played_trouble) {
                return Playing::Unknown(format!("the files of \"{}\": {why}", session.title));
            }
            let parts = item.into_iter().flat_map(|item| &item.versions).flat_map(|version| &version.parts);
            files.extend(parts.filter_map(|part| part.file.as_ref()).filter_map(place));
            rating_keys.insert(key.to_string());
        }
        files.extend(named);
    }
    Playing::Known { rating_keys, files }
}
