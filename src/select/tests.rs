//! Runs of the whole module against a server in memory: what is wanted. What is let go when is in the
//! module below.

mod lists;
mod releases;
mod watchlist;

use std::time::Duration;

use super::double::{Double, episode, library, movie, played, version, watched};
use super::*;
use crate::config::{Globs, Pins};
use crate::paths::{MediaPath, PlexPath};
use crate::plex::{Library, LibraryKind, RatingKey, Read, Session};
use crate::select::EvictWhy;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// When the first run takes place, seconds since 1970.
const START: i64 = 1_800_000_000;

fn viewer(name: &str) -> Viewer {
    let tastes = Tastes::of(&Select::default(), None);
    Viewer { name: name.to_owned(), token: Secret::new(name), tastes }
}

struct World {
    plex: Double,
    select: Select,
    evict: Evict,
    viewers: Vec<Viewer>,
    lists: Lists,
    /// What plex.tv tells of guids.
    ids: BTreeMap<String, Vec<String>>,
    cached: Vec<CachedUnit>,
    owner: Secret,
    maps: PathMap,
    map_names: Vec<String>,
    now: i64,
}

/// `owner`, `anna` and `ben`, each named as their token; library 1 has movies and 2 shows.
fn world() -> World {
    let mut plex = Double::default();
    let viewers = ["owner", "anna", "ben"].map(viewer);
    for viewer in &viewers {
        let libraries = vec![library("1", LibraryKind::Movie), library("2", LibraryKind::Show)];
        plex.libraries.insert(viewer.name.clone(), Read::Complete(libraries));
    }
    World {
        plex,
        select: Select { next_episodes: 2, ..Select::default() },
        evict: Evict::default(),
        viewers: viewers.to_vec(),
        lists: Lists::default(),
        ids: BTreeMap::new(),
        cached: Vec::new(),
        owner: Secret::new("owner"),
        maps: PathMap::new(["/data"]).unwrap(),
        map_names: vec!["/data".to_owned()],
        now: START,
    }
}

impl World {
    fn on_deck(&mut self, user: &str, library: &str, items: &[Item]) {
        self.set_on_deck(user, library, Read::Complete(items.to_vec()));
    }

    fn set_on_deck(&mut self, user: &str, library: &str, read: Read<Vec<Item>>) {
        self.plex.on_deck.insert((user.to_owned(), library.to_owned()), read);
    }

    fn set_episodes(&mut self, user: &str, read: Read<Vec<Item>>) {
        self.plex.episodes.insert((user.to_owned(), "2".to_owned()), read);
    }

    fn cache(&mut self, path: &str, rating_key: &str, users: &[&str]) {
        let reasons = users.iter().map(|user| reason(Source::OnDeck, user)).collect();
        self.cached.push(CachedUnit { unit: key(path), rating_key: Some(rating_key.into()), reasons });
    }

    fn try_run(&self, memory: &Memory) -> Result<Gathered, SelectError> {
        let tastes = Tastes::of(&self.select, None);
        let viewers: Vec<Viewer> = self.viewers.iter().map(|viewer| Viewer { tastes, ..viewer.clone() }).collect();
        let request = Request {
            server: &self.plex,
            owner: &self.owner,
            viewers: &viewers,
            lists: &self.lists,
            catalog: &Catalog::default(),
            external_ids: &|guid| {
                self.plex.note(format!("ids {guid}"));
                Ok(self.ids.get(guid).cloned().unwrap_or_default())
            },
            select: &self.select,
            evict: &self.evict,
            maps: &self.maps,
            map_names: &self.map_names,
            cached: &self.cached,
            now: time(self.now),
        };
        gather(&request, memory)
    }

    fn run(&self, memory: &Memory) -> (Gathered, Memory) {
        let gathered = self.try_run(memory).unwrap();
        let after = memory.clone().after(&gathered, &self.cached, time(self.now));
        (gathered, after)
    }

    /// One more run, and what it says of when each cached unit may go: hours from the start.
    fn releases(&self, memory: &mut Memory) -> Vec<Option<(i64, EvictWhy)>> {
        let (gathered, after) = self.run(memory);
        *memory = after;
        let wanted = gathered.wants.iter().map(|want| want.unit().clone()).collect();
        let releases = memory.releases(&self.cached, &wanted, &self.evict, time(self.now));
        let show = |Release { at, why }| ((at.as_second() - START).div_euclid(HOUR), why);
        self.cached.iter().map(|cached| releases[&cached.unit].map(show)).collect()
    }
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn key(path: &str) -> FileKey {
    FileKey { map: "/data".into(), path: MediaPath::parse(path).unwrap() }
}

fn reason(source: Source, user: &str) -> Reason {
    Reason::of_user(source, user)
}

fn failed() -> PlexError {
    PlexError::Status { endpoint: "/x".to_owned(), status: 500 }
}

fn rejected() -> PlexError {
    PlexError::Unauthorized { endpoint: "/x".to_owned() }
}

fn partly(items: &[Item]) -> Read<Vec<Item>> {
    Read::Incomplete { value: items.to_vec(), problems: vec!["row 3 has no key".to_owned(), "row 4".to_owned()] }
}

/// `TITLE (reasons)` in the order of wants.
fn shown(gathered: &Gathered) -> Vec<String> {
    let show = |want: &Arc<Want>| {
        let reasons: Vec<String> = want.reasons.iter().map(ToString::to_string).collect();
        format!("{} ({})", want.title, reasons.join(", "))
    };
    gathered.wants.iter().map(show).collect()
}

fn titles(gathered: &Gathered) -> Vec<&str> {
    gathered.wants.iter().map(|want| want.title.as_str()).collect()
}

fn lost() -> Vec<Item> {
    (1..=6).map(|number| episode("Lost", 1, number)).collect()
}

#[test]
fn the_next_episode_of_everybody_comes_before_the_second_next_of_anybody() {
    let mut world = world();
    let mut office: Vec<Item> = (1..=9).map(|number| episode("Office", 5, number)).collect();
    office[1] = watched(office[1].clone(), Some(START - DAY));
    world.on_deck("anna", "2", &[played(episode("Lost", 1, 1), START - HOUR)]);
    world.on_deck("ben", "2", &[episode("Office", 5, 3), played(episode("Lost", 1, 4), START - 2 * HOUR)]);
    world.on_deck("owner", "1", &[played(movie("Dune"), START - 3 * HOUR)]);
    world.set_episodes("anna", Read::Complete(lost()));
    world.set_episodes("ben", Read::Complete([office, lost()].concat()));
    let (gathered, _) = world.run(&Memory::default());
    assert_eq!(
        shown(&gathered),
        [
            "Lost S01E01 (on deck: anna)",
            "Lost S01E04 (on deck: ben)",
            "Dune (on deck: owner)",
            "Office S05E03 (on deck: ben)",
            "Lost S01E02 (next episode: anna)",
            "Lost S01E05 (next episode: ben)",
            "Office S05E04 (next episode: ben)",
            "Lost S01E03 (next episode: anna)",
            "Lost S01E06 (next episode: ben)",
            "Office S05E05 (next episode: ben)",
        ]
    );
    assert!(gathered.problems.is_empty() && gathered.incomplete.is_empty());
    let mut expected = vec!["sessions".to_owned(), "episodes anna 2 Lost".into(), "episodes ben 2 Lost,Office".into()];
    for user in ["owner", "anna", "ben"] {
        expected.extend([format!("libraries {user}"), format!("on_deck {user} 1"), format!("on_deck {user} 2")]);
    }
    expected.sort();
    assert_eq!(world.plex.calls(), expected, "each read is made once");
}

#[test]
fn what_was_played_too_long_ago_is_not_on_deck_and_what_never_was_is() {
    let mut world = world();
    world.select.on_deck_max_age = Duration::from_secs(10 * 86_400);
    let items = [
        played(movie("Old"), START - 10 * DAY - 1),
        played(movie("Edge"), START - 10 * DAY),
        played(movie("Future"), START + 900 * DAY),
        movie("Never"),
        played(movie("Odd"), i64::MIN),
    ];
    world.on_deck("anna", "1", &items);
    let (gathered, _) = world.run(&Memory::default());
    assert_eq!(titles(&gathered), ["Future", "Never", "Edge"]);
}

#[test]
fn only_the_chosen_movie_and_show_libraries_are_read_each_once() {
    let mut world = world();
    let kinds = [LibraryKind::Movie, LibraryKind::Show, LibraryKind::Music, LibraryKind::Photo, LibraryKind::Movie];
    let mut libraries: Vec<Library> = (1..).zip(kinds).map(|(id, kind)| library(&id.to_string(), kind)).collect();
    libraries.push(library("1", LibraryKind::Movie));
    world.plex.libraries.insert("owner".to_owned(), Read::Complete(libraries));
    world.viewers.truncate(1);
    world.viewers.push(world.viewers[0].clone());
    world.select.libraries = ["2", "Library 1", "1", "3"].map(str::to_owned).to_vec();
    let (gathered, _) = world.run(&Memory::default());
    assert_eq!(world.plex.calls(), ["libraries owner", "on_deck owner 1", "on_deck owner 2", "sessions"]);
    assert_eq!((gathered.libraries, gathered.problems), (2, Vec::new()));
}

/// What a run makes of each way in which anna's on deck can end, after a run that knew `Known` or
/// nothing; `Cached` is on the cache for her and not on deck any more.
#[test]
fn a_failed_or_partial_answer_takes_nothing_away() {
    let whole = Read::Complete(vec![movie("New")]);
    let part = partly(&[movie("New")]);
    let nothing = Read::Failed(failed());
    let no_token = Read::Failed(rejected());
    let gone = Some((12, EvictWhy::Unwanted));
    // Without an answer from before nobody can say whether she still wants it; with one, it is the
    // watch state that decides, which cannot be read with a rejected token.
    for (name, read, with_last, wants, release) in [
        ("complete", &whole, false, &["New"][..], gone),
        ("complete after a good one", &whole, true, &["New"], gone),
        ("partial", &part, false, &["New"], None),
        ("partial after a good one", &part, true, &["Known", "New"], gone),
        ("failed", &nothing, false, &[], None),
        ("failed after a good one", &nothing, true, &["Known"], gone),
        ("rejected", &no_token, false, &[], None),
        ("rejected after a good one", &no_token, true, &["Known"], None),
    ] {
        let mut world = world();
        world.cache("Cached.mkv", "Cached", &["anna"]);
        world.plex.items.insert("anna".to_owned(), Read::Complete(vec![movie("Cached")]));
        let mut memory = Memory::default();
        if with_last {
            world.on_deck("anna", "1", &[movie("Known")]);
            memory = world.run(&memory).1;
        }
        world.set_on_deck("anna", "1", read.clone());
        let (gathered, _) = world.run(&memory);
        assert_eq!(titles(&gathered), wants, "{name}");
        assert_eq!(gathered.problems.is_empty(), read.is_complete(), "{name}");
        let incomplete = gathered.incomplete.contains(&reason(Source::OnDeck, "anna"));
        assert_eq!(incomplete, !read.is_complete(), "{name}");
        assert!(!gathered.incomplete.contains(&reason(Source::OnDeck, "ben")), "{name}");
        assert_eq!(world.releases(&mut memory), [release], "{name}");
        // It stays so however often it fails.
        let (gathered, _) = world.run(&memory);
        assert_eq!(titles(&gathered), wants, "{name}");
        assert_eq!(world.releases(&mut memory), [release], "{name}");
    }
}

#[test]
fn episodes_that_cannot_be_read_leave_the_last_ones_wanted() {
    let mut world = world();
    world.on_deck("anna", "2", &[played(episode("Lost", 1, 1), START)]);
    world.set_episodes("anna", Read::Complete(lost()));
    let (_, memory) = world.run(&Memory::default());
    world.set_episodes("anna", Read::Failed(failed()));
    world.on_deck("anna", "2", &[played(episode("Lost", 1, 2), START)]);
    let (gathered, _) = world.run(&memory);
    assert_eq!(
        shown(&gathered),
        ["Lost S01E02 (on deck: anna, next episode: anna)", "Lost S01E03 (next episode: anna)"]
    );
    let incomplete = [Source::NextEpisode, Source::Playing].map(|source| reason(source, "anna"));
    assert_eq!(gathered.incomplete, BTreeSet::from(incomplete));
    let line = "episodes for anna in Library 2: Plex answers /x with status 500";
    assert_eq!(gathered.problems, [line]);
}

#[test]
fn a_rejected_token_drops_its_user_for_the_run_with_one_line() {
    let mut world = world();
    world.on_deck("anna", "1", &[movie("Dune")]);
    world.on_deck("ben", "1", &[movie("Heat")]);
    world.set_on_deck("anna", "2", Read::Failed(rejected()));
    let (gathered, _) = world.run(&Memory::default());
    assert_eq!(titles(&gathered), ["Heat"]);
    assert_eq!(gathered.problems.len(), 1, "{:?}", gathered.problems);
    assert!(gathered.problems[0].starts_with("anna: "));
    world.plex.libraries.insert("anna".to_owned(), Read::Failed(rejected()));
    let (gathered, _) = world.run(&Memory::default());
    assert_eq!(gathered.problems.len(), 1, "{:?}", gathered.problems);
}

#[test]
fn without_the_owners_libraries_nothing_can_be_said() {
    let movies = || vec![library("1", LibraryKind::Movie)];
    for (name, read, libraries, expected) in [
        ("rejected", Read::Failed(rejected()), "*", SelectError::Plex(rejected())),
        ("failed", Read::Failed(failed()), "*", SelectError::Plex(failed())),
        ("none", Read::Complete(Vec::new()), "*", SelectError::NoLibraries),
        (
            "all of the configured ones gone",
            Read::Complete(movies()),
            "Films",
            SelectError::NoneIncluded { configured: "Films".into(), visible: "Library 1".into() },
        ),
    ] {
        let mut world = world();
        world.plex.libraries.insert("owner".to_owned(), read);
        world.select.libraries = vec![libraries.to_owned()];
        // The owner need not be somebody whose wishes count.
        for first in [0, 1] {
            world.viewers = world.viewers.split_off(first);
            assert_eq!(world.try_run(&Memory::default()).unwrap_err(), expected, "{name}");
        }
    }
    let mut world = world();
    world.owner = Secret::new("");
    assert_eq!(world.try_run(&Memory::default()).unwrap_err(), SelectError::NoToken);
}

#[test]
fn a_configured_library_that_is_gone_makes_every_answer_incomplete() {
    let mut world = world();
    world.on_deck("anna", "2", &[episode("Lost", 1, 1)]);
    let (_, memory) = world.run(&Memory::default());
    world.select.libraries = vec!["1".to_owned(), "2".to_owned()];
    for viewer in &world.viewers {
        world.plex.libraries.insert(viewer.name.clone(), Read::Complete(vec![library("1", LibraryKind::Movie)]));
    }
    let (gathered, _) = world.run(&memory);
    assert_eq!(titles(&gathered), ["Lost S01E01"]);
    assert_eq!(gathered.incomplete.len(), 9);
    assert_eq!(gathered.problems.len(), 1);
}

#[test]
fn a_file_of_two_episodes_and_two_users_is_one_want_with_its_best_rank() {
    let mut world = world();
    let mut episodes = lost();
    for episode in &mut episodes[1..3] {
        episode.versions = vec![version("m", &["/data/Lost/s1e2-e3.mkv"])];
    }
    world.on_deck("anna", "2", &[played(episodes[0].clone(), START)]);
    world.on_deck("ben", "2", &[played(episodes[2].clone(), START - HOUR)]);
    world.set_episodes("anna", Read::Complete(episodes));
    let (gathered, _) = world.run(&Memory::default());
    assert_eq!(shown(&gathered), ["Lost S01E01 (on deck: anna)", "Lost S01E03 (on deck: ben, next episode: anna)"]);
    assert_eq!(gathered.wants[1].parts, [key("Lost/s1e2-e3.mkv")]);
}

#[test]
fn an_unmapped_file_is_listed_once_and_stops_nothing() {
    let mut world = world();
    let elsewhere = Item { versions: vec![version("1", &["/other/a.mkv"])], ..movie("A") };
    world.on_deck("anna", "1", &[elsewhere.clone(), movie("Dune")]);
    world.on_deck("ben", "1", &[elsewhere, Item { deleted: true, ..movie("Trash") }]);
    let (gathered, _) = world.run(&Memory::default());
    assert_eq!(titles(&gathered), ["Dune"]);
    let why = Unmapped::NoMap(PlexPath::new("/other/a.mkv"));
    assert_eq!(gathered.unmapped, [UnmappedFile { title: "A".into(), path: "/other/a.mkv".into(), why }]);
    assert_eq!(gathered.unusable, [("Trash".to_owned(), "in Plex's trash: its file is gone")]);
    assert!(gathered.problems.is_empty());
}

#[test]
fn a_pinned_want_comes_first_and_never_grows_too_old() {
    let mut world = world();
    world.select.pin = Pins { paths: Globs::new(["Du*"]).unwrap(), rating_keys: Vec::new() };
    world.evict.max_age = Some(Duration::from_secs(86_400));
    world.on_deck("anna", "1", &[movie("Alien"), movie("Dune")]);
    let (gathered, memory) = world.run(&Memory::default());
    assert_eq!(shown(&gathered), ["Dune (on deck: anna, pinned: Du*)", "Alien (on deck: anna)"]);
    world.now += 2 * DAY;
    let (gathered, _) = world.run(&memory);
    assert_eq!(titles(&gathered), ["Dune"]);
    assert_eq!(gathered.expired, BTreeSet::from([key("Alien.mkv")]));
}

#[test]
fn what_plays_is_known_with_all_its_files_and_its_next_episodes_come_first() {
    let mut world = world();
    let session = |key: &str, user: &str| Session {
        rating_key: Some(RatingKey::new(key)),
        user: Some(user.to_owned()),
        ..Session::default()
    };
    let live = Session { live: true, ..session("live", "anna") };
    let trailer = Session { files: vec![PlexPath::new("/data/trailer.mkv")], ..Session::default() };
    let owners = Session { user_id: Some("1".to_owned()), ..session("Office-1-1", "somebody") };
    world.plex.sessions = Some(Read::Complete(vec![session("Lost-1-2", "ben"), live, trailer, owners]));
    let two_versions = Item {
        versions: vec![version("1", &["/data/a.mkv"]), version("2", &["/data/b.mkv", "/data/c.mkv"])],
        ..episode("Lost", 1, 2)
    };
    world.plex.items.insert("owner".to_owned(), Read::Complete(vec![two_versions, episode("Office", 1, 1)]));
    world.on_deck("anna", "2", &[played(episode("Lost", 1, 4), START)]);
    world.on_deck("ben", "2", &[played(episode("Lost", 1, 2), START - DAY)]);
    for user in ["anna", "ben", "owner"] {
        world.set_episodes(user, Read::Complete([lost(), vec![episode("Office", 1, 2)]].concat()));
    }
    let (gathered, _) = world.run(&Memory::default());
    let keys = ["Lost-1-2", "Office-1-1"].map(str::to_owned).into();
    let files = ["a.mkv", "b.mkv", "c.mkv", "trailer.mkv", "Office/s1e1.mkv"].map(key).into();
    assert_eq!(gathered.playing, Playing::Known { rating_keys: keys, files });
    assert_eq!(
        shown(&gathered),
        [
            "Lost S01E03 (next episode: ben, next of what plays: ben)",
            "Office S01E02 (next of what plays: owner)",
            "Lost S01E04 (on deck: anna, next episode: ben, next of what plays: ben)",
            "Lost S01E02 (on deck: ben)",
            "Lost S01E05 (next episode: anna)",
            "Lost S01E06 (next episode: anna)",
        ]
    );
}

#[test]
fn what_plays_is_unknown_unless_every_session_and_its_files_could_be_read() {
    let named = Session { files: vec![PlexPath::new("/data/a.mkv")], ..Session::default() };
    let keyed = Session { rating_key: Some(RatingKey::new("Dune")), ..Session::default() };
    let both = Session { files: named.files.clone(), ..keyed.clone() };
    let sessions = |session: &Session| Read::Complete(vec![session.clone()]);
    let half = Read::Incomplete { value: vec![named.clone()], problems: vec!["row 2".to_owned()] };
    for (name, sessions, items, known) in [
        ("idle", Read::Complete(Vec::new()), Read::Failed(failed()), true),
        ("failed", Read::Failed(failed()), Read::Complete(Vec::new()), false),
        ("partial", half, Read::Complete(Vec::new()), false),
        ("named", sessions(&named), Read::Failed(failed()), true),
        ("a key that is gone", sessions(&keyed), Read::Complete(Vec::new()), true),
        ("a key that cannot be read", sessions(&keyed), Read::Failed(failed()), false),
        ("a key that cannot be read, but its file", sessions(&both), Read::Failed(failed()), true),
    ] {
        let mut world = world();
        world.plex.sessions = Some(sessions);
        world.plex.items.insert("owner".to_owned(), items);
        world.on_deck("anna", "1", &[movie("Heat")]);
        let (gathered, _) = world.run(&Memory::default());
        assert_eq!(matches!(gathered.playing, Playing::Known { .. }), known, "{name}");
        assert!(known || !gathered.problems.is_empty(), "{name}");
        assert_eq!(titles(&gathered), ["Heat"], "{name}: caching goes on");
    }
}

#[test]
fn stale_wants_follow_the_configuration() {
    let mut world = world();
    world.on_deck("anna", "1", &[movie("Dune"), played(movie("Old"), START - 5 * DAY), movie("Kids")]);
    let (_, memory) = world.run(&Memory::default());
    world.set_on_deck("anna", "1", Read::Failed(failed()));
    world.select.exclude = Globs::new(["Kids*"]).unwrap();
    world.select.on_deck_max_age = Duration::from_secs(4 * 86_400);
    assert_eq!(titles(&world.run(&memory).0), ["Dune"]);
    world.map_names = vec!["/other".to_owned()];
    assert!(world.run(&memory).0.wants.is_empty(), "its map is gone");
    world.map_names = vec!["/data".to_owned()];
    world.select.on_deck = false;
    assert!(world.run(&memory).0.wants.is_empty(), "the source is off");
}

#[test]
fn a_stale_want_is_not_taken_for_the_next_of_what_plays() {
    let mut world = world();
    let session =
        Session { rating_key: Some(RatingKey::new("Lost-1-1")), user: Some("anna".into()), ..Session::default() };
    world.plex.sessions = Some(Read::Complete(vec![session]));
    world.on_deck("anna", "2", &[played(episode("Lost", 1, 1), START)]);
    world.set_episodes("anna", Read::Complete(lost()));
    let (gathered, memory) = world.run(&Memory::default());
    assert_eq!(titles(&gathered), ["Lost S01E02", "Lost S01E03", "Lost S01E01"]);
    world.plex.sessions = None;
    world.set_episodes("anna", Read::Failed(failed()));
    assert_eq!(titles(&world.run(&memory).0), ["Lost S01E01", "Lost S01E02", "Lost S01E03"]);
}

#[test]
fn what_plays_and_is_on_deck_leads_on_though_its_item_cannot_be_read() {
    let mut world = world();
    let session =
        Session { rating_key: Some(RatingKey::new("Lost-1-1")), user: Some("anna".into()), ..Session::default() };
    world.plex.sessions = Some(Read::Complete(vec![session]));
    world.plex.items.insert("owner".to_owned(), Read::Failed(failed()));
    world.on_deck("anna", "2", &[played(episode("Lost", 1, 1), START)]);
    world.set_episodes("anna", Read::Complete(lost()));
    assert_eq!(titles(&world.run(&Memory::default()).0), ["Lost S01E02", "Lost S01E03", "Lost S01E01"]);
}
