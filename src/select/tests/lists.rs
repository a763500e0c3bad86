//! What was added lately, playlists, collections and pinned items: whose they are, in which order they
//! are wanted, and what a read that failed leaves of them.

use super::*;
use crate::config::Versions;
use crate::plex::{ItemKind, List, ListKind, ShowRef};

fn list(key: &str, title: &str, kind: ListKind) -> List {
    List { rating_key: RatingKey::new(key), title: title.to_owned(), kind }
}

fn added(item: Item, at: i64) -> Item {
    Item { added_at: Some(at), ..item }
}

fn show(key: &str) -> Item {
    Item { library_id: Some("2".to_owned()), ..Item::new(RatingKey::new(key), ItemKind::Show, key) }
}

fn season(of: &str, number: i64) -> Item {
    Item {
        show: Some(ShowRef { rating_key: Some(RatingKey::new(of)), title: of.to_owned() }),
        season: Some(number),
        library_id: Some("2".to_owned()),
        ..Item::new(RatingKey::new(format!("{of}-{number}")), ItemKind::Season, format!("Season {number}"))
    }
}

/// Lost with two seasons and a special, and Found, as the owner sees them.
fn two_shows(world: &mut World) {
    let lost = [(2, 1), (0, 1), (1, 2), (1, 1)].map(|(season, number)| episode("Lost", season, number));
    let found = [episode("Found", 1, 1), Item { versions: Vec::new(), ..episode("Found", 1, 2) }];
    world.set_episodes("owner", Read::Complete([lost.to_vec(), found.to_vec()].concat()));
}

fn collection(world: &mut World, read: Read<Vec<Item>>) {
    world.select.collections = vec!["Noir".to_owned()];
    let lists = vec![list("70", "Noir", ListKind::Collection), list("71", "Other", ListKind::Collection)];
    world.plex.collections.insert(("owner".to_owned(), "2".to_owned()), Read::Complete(lists));
    world.plex.members.insert("70".to_owned(), read);
}

#[test]
fn what_was_added_lately_is_wanted_newest_first_until_it_is_too_old() {
    let mut world = world();
    world.select.recently_added = Some(Duration::from_secs(10 * 86_400));
    let items = [("Old", 11), ("Edge", 10), ("New", 1), ("Future", -5)];
    let items = items.map(|(title, days)| added(movie(title), START - days * DAY));
    world.plex.library.insert(("owner".to_owned(), "1".to_owned()), Read::Complete(items.to_vec()));
    let (gathered, memory) = world.run(&Memory::default());
    assert_eq!(shown(&gathered), ["Future (recently added)", "New (recently added)", "Edge (recently added)"]);
    let lists: Vec<String> = world.plex.calls().into_iter().filter(|call| call.starts_with("videos")).collect();
    assert_eq!(lists, ["videos owner 1 added lately", "videos owner 2 added lately"]);
    // What cannot be read stays as it was, and grows old all the same.
    world.plex.library.insert(("owner".to_owned(), "1".to_owned()), Read::Failed(failed()));
    world.now += 2 * DAY;
    let (gathered, _) = world.run(&memory);
    assert_eq!(titles(&gathered), ["Future", "New"]);
    assert_eq!(gathered.problems.len(), 1, "{:?}", gathered.problems);
}

#[test]
fn playlists_are_each_users_own_in_their_order_and_within_the_libraries() {
    let mut world = world();
    world.select.playlists = vec!["Tonight".to_owned()];
    for (user, key, titles) in [("anna", "70", &["Heat", "Alien", "Heat"][..]), ("ben", "71", &["Dune"])] {
        world.plex.playlists.insert(user.to_owned(), Read::Complete(vec![list(key, "Tonight", ListKind::Playlist)]));
        let mut items: Vec<Item> = titles.iter().map(|title| movie(title)).collect();
        items.push(Item { library_id: Some("9".to_owned()), ..movie("Elsewhere") });
        world.plex.members.insert(key.to_owned(), Read::Complete(items));
    }
    let (gathered, _) = world.run(&Memory::default());
    assert_eq!(shown(&gathered), ["Dune (playlist: ben)", "Heat (playlist: anna)", "Alien (playlist: anna)"]);
    assert!(gathered.problems.is_empty() && gathered.warnings.is_empty(), "the owner has none of that name");
}

#[test]
fn a_name_that_matches_nothing_is_one_warning_unless_it_may_be_where_nobody_could_look() {
    let mut world = world();
    world.select.playlists = vec!["Tonight".to_owned()];
    collection(&mut world, Read::Complete(Vec::new()));
    world.select.collections.push("Gone".to_owned());
    world.select.pin.rating_keys = vec!["12".to_owned()];
    let (gathered, memory) = world.run(&Memory::default());
    assert_eq!(
        gathered.warnings,
        [
            "Plex has no playlist \"Tonight\" (select.playlists)",
            "Plex has no collection \"Gone\" (select.collections)",
            "Plex has no movie, episode, season or show 12 (select.pin)",
        ]
    );
    assert!(gathered.problems.is_empty() && gathered.incomplete.is_empty());
    world.plex.playlists.insert("ben".to_owned(), Read::Failed(failed()));
    world.plex.collections.insert(("owner".to_owned(), "1".to_owned()), Read::Failed(failed()));
    world.plex.items.insert("owner".to_owned(), Read::Failed(failed()));
    let (gathered, _) = world.run(&memory);
    assert_eq!(gathered.warnings, Vec::<String>::new());
    assert_eq!(gathered.problems.len(), 3, "{:?}", gathered.problems);
}

#[test]
fn a_show_in_a_collection_means_its_episodes_the_first_of_every_show_first() {
    let mut world = world();
    two_shows(&mut world);
    collection(&mut world, Read::Complete(vec![show("Lost"), show("Found")]));
    let (gathered, _) = world.run(&Memory::default());
    let expected = ["Found S01E01", "Lost S01E01", "Lost S01E02", "Lost S02E01", "Lost S00E01"];
    assert_eq!(titles(&gathered), expected);
    assert!(gathered.wants.iter().all(|want| want.show.is_some()));
    assert_eq!(shown(&gathered)[0], "Found S01E01 (collection)");
}

#[test]
fn a_pin_by_key_is_a_movie_an_episode_a_season_or_a_show() {
    let mut world = world();
    two_shows(&mut world);
    let items = vec![movie("Dune"), episode("Found", 1, 1), season("Lost", 1), show("Lost")];
    world.plex.items.insert("owner".to_owned(), Read::Complete(items));
    let lost = ["Lost S01E01", "Lost S01E02", "Lost S02E01", "Lost S00E01"];
    for (key, expected) in
        [("Dune", &["Dune"][..]), ("Found-1-1", &["Found S01E01"]), ("Lost-1", &lost[..2]), ("Lost", &lost)]
    {
        world.select.pin.rating_keys = vec![key.to_owned()];
        world.select.libraries = vec!["1".to_owned()];
        let (gathered, memory) = world.run(&Memory::default());
        assert_eq!(titles(&gathered), expected, "{key}");
        assert!(shown(&gathered).iter().all(|want| want.ends_with("(pinned)")), "{key}");
        let pins = Pinned::new(&world.select, &memory);
        assert!(gathered.wants.iter().all(|want| pins.has(want.unit())));
        assert!(!pins.has(&super::key("other.mkv")));
        let none = Select::default();
        assert!(!Pinned::new(&none, &memory).has(gathered.wants[0].unit()), "it is no pin any more");
    }
}

fn in_library(world: &mut World, library: &str, items: &[Item]) {
    world.plex.library.insert(("owner".to_owned(), library.to_owned()), Read::Complete(items.to_vec()));
}

fn pin_paths(world: &mut World, globs: &[&str]) {
    world.select.pin = Pins { paths: Globs::new(globs.iter().copied()).unwrap(), rating_keys: Vec::new() };
}

#[test]
fn a_pin_by_glob_means_what_plex_has_there_in_the_order_of_the_paths() {
    let mut world = world();
    let at = |path: &str| Item { versions: vec![version(path, &[path])], ..movie("The same") };
    let lost = [episode("Lost", 1, 2), episode("Lost", 1, 1), Item { deleted: true, ..episode("Lost", 1, 3) }];
    in_library(&mut world, "2", &[&lost[..], &[episode("Found", 1, 1)]].concat());
    in_library(&mut world, "1", &[movie("Zulu"), movie("Alien"), movie("Dune"), at("/elsewhere/Lost/a.mkv")]);
    pin_paths(&mut world, &["Lost/*", "{Zulu,Alien}.mkv", "Al*", "Al*"]);
    let (gathered, memory) = world.run(&Memory::default());
    let expected = [
        "Alien (pinned: Al*, pinned: {Zulu,Alien}.mkv)",
        "Lost S01E01 (pinned: Lost/*)",
        "Lost S01E02 (pinned: Lost/*)",
        "Zulu (pinned: {Zulu,Alien}.mkv)",
    ];
    assert_eq!(shown(&gathered), expected);
    assert!(gathered.wants.iter().all(|want| want.rank.class == Class::Pin));
    let reason = Reason { detail: Some("Lost/*".into()), ..Reason::of(Source::Pin) };
    assert_eq!(gathered.wants[1].reasons, Reasons::from([reason]));
    assert!(gathered.unmapped.is_empty() && gathered.unusable.is_empty(), "what does not match is not spoken of");
    assert!(gathered.warnings.is_empty() && gathered.problems.is_empty() && gathered.incomplete.is_empty());
    // Another order of the answer is no other answer.
    in_library(&mut world, "1", &[movie("Dune"), movie("Alien"), movie("Zulu")]);
    assert_eq!(world.run(&memory).0.wants, gathered.wants);
    let calls = world.plex.calls();
    assert_eq!(calls.iter().filter(|call| *call == "videos owner 1 whole").count(), 2);
}

#[test]
fn libraries_are_listed_only_for_what_needs_it_and_then_once() {
    for (globs, recently_added, expected) in [
        (&[][..], None, &[][..]),
        (&[], Some(86_400), &["videos owner 1 added lately", "videos owner 2 added lately"]),
        (&["D*"], None, &["videos owner 1 whole", "videos owner 2 whole"]),
        (&["D*"], Some(86_400), &["videos owner 1 whole", "videos owner 2 whole"]),
    ] {
        let mut world = world();
        pin_paths(&mut world, globs);
        world.select.recently_added = recently_added.map(Duration::from_secs);
        let items = [("New", START), ("Dune", START - 9 * DAY), ("Old", START - 9 * DAY)];
        in_library(&mut world, "1", &items.map(|(title, at)| added(movie(title), at)));
        let (gathered, _) = world.run(&Memory::default());
        let calls: Vec<String> = world.plex.calls().into_iter().filter(|call| call.starts_with("videos")).collect();
        assert_eq!(calls, expected);
        let pinned = (!globs.is_empty()).then_some("Dune (pinned: D*)");
        let new = recently_added.map(|_| "New (recently added)");
        assert_eq!(shown(&gathered), pinned.into_iter().chain(new).collect::<Vec<_>>());
    }
}

#[test]
fn a_pin_by_glob_chooses_among_the_versions_that_it_matches() {
    let mut world = world();
    let versions = vec![
        version("1", &["/data/HD/Dune.mkv"]),
        version("2", &["/data/UHD/Dune cd1.mkv", "/data/UHD/Dune cd2.mkv"]),
        version("3", &["/data/Kids/Dune.mkv"]),
    ];
    in_library(&mut world, "1", &[Item { versions, ..movie("Dune") }]);
    world.select.exclude = Globs::new(["Kids/*"]).unwrap();
    for choice in [Versions::All, Versions::Smallest, Versions::Largest] {
        world.select.versions = choice;
        for (glob, units) in [
            ("UHD/*", &["UHD/Dune cd1.mkv"][..]),
            ("**/*cd2*", &["UHD/Dune cd1.mkv"]),
            ("HD/*", &["HD/Dune.mkv"]),
            ("Kids/*", &[]),
        ] {
            pin_paths(&mut world, &[glob]);
            let (gathered, _) = world.run(&Memory::default());
            let found: Vec<&str> = gathered.wants.iter().map(|want| want.unit().path.as_str()).collect();
            assert_eq!(found, units, "{glob} {choice:?}");
            assert!(gathered.warnings.is_empty(), "there is something of it");
        }
    }
}

#[test]
fn a_pin_by_glob_speaks_of_media_paths_whatever_the_server_calls_them() {
    let mut world = world();
    world.maps = PathMap::new([r"D:\Media"]).unwrap();
    let file = r"d:\media\Kids\Up\Up.mkv";
    let up = Item { versions: vec![version("1", &[file])], ..movie("Up") };
    in_library(&mut world, "1", &[up, movie("Dune")]);
    pin_paths(&mut world, &["Kids/**"]);
    let (gathered, _) = world.run(&Memory::default());
    assert_eq!(shown(&gathered), ["Up (pinned: Kids/**)"]);
    assert_eq!(gathered.wants[0].unit(), &key("Kids/Up/Up.mkv"));
}

#[test]
fn a_glob_that_matches_nothing_is_one_warning_unless_it_may_be_where_nobody_could_look() {
    let mut world = world();
    in_library(&mut world, "1", &[movie("Dune")]);
    pin_paths(&mut world, &["Du*", "Gone*"]);
    let (gathered, memory) = world.run(&Memory::default());
    assert_eq!(gathered.warnings, ["Plex has no movie or episode whose path matches Gone* (select.pin)"]);
    assert!(gathered.problems.is_empty() && gathered.incomplete.is_empty());
    for read in [Read::Failed(failed()), partly(&[])] {
        world.plex.library.insert(("owner".to_owned(), "2".to_owned()), read);
        let (gathered, _) = world.run(&memory);
        assert_eq!((gathered.warnings.len(), gathered.problems.len()), (0, 1), "{:?}", gathered.problems);
        assert_eq!(shown(&gathered), ["Dune (pinned: Du*)"]);
        assert_eq!(gathered.incomplete.len(), 2);
    }
}

#[test]
fn what_a_glob_wanted_is_forgotten_with_the_glob_whatever_can_be_read() {
    let mut world = world();
    in_library(&mut world, "1", &[movie("Dune"), movie("Alien")]);
    pin_paths(&mut world, &["Du*", "Al*"]);
    let (gathered, mut memory) = world.run(&Memory::default());
    let reasons = gathered.wants.iter().find(|want| want.title == "Dune").unwrap().reasons.clone();
    world.cached.push(CachedUnit { unit: key("Dune.mkv"), rating_key: Some("Dune".into()), reasons });
    world.plex.library.insert(("owner".to_owned(), "1".to_owned()), Read::Failed(failed()));
    assert_eq!(world.releases(&mut memory), [None]);
    pin_paths(&mut world, &["Al*"]);
    let (gathered, _) = world.run(&memory);
    assert_eq!(titles(&gathered), ["Alien"]);
    assert_eq!(world.releases(&mut memory), [Some((12, EvictWhy::Unwanted))]);
}

#[test]
fn a_pin_never_grows_too_old() {
    let mut world = world();
    world.evict.max_age = Some(Duration::from_secs(86_400));
    world.plex.items.insert("owner".to_owned(), Read::Complete(vec![movie("Dune")]));
    world.select.pin.rating_keys = vec!["Dune".to_owned()];
    in_library(&mut world, "1", &[movie("Alien")]);
    world.select.pin.paths = Globs::new(["Al*"]).unwrap();
    let (_, memory) = world.run(&Memory::default());
    world.now += 2 * DAY;
    assert_eq!(titles(&world.run(&memory).0), ["Alien", "Dune"]);
}

/// Each list, once it was read, then with one of its reads failing in turn.
#[test]
fn a_list_that_could_not_be_read_takes_nothing_away() {
    type Break = fn(&mut World);
    let breaks: [(&str, Break); 7] = [
        ("playlists", |world| drop(world.plex.playlists.insert("anna".into(), Read::Failed(failed())))),
        ("what is in a playlist", |world| drop(world.plex.members.insert("72".into(), Read::Failed(failed())))),
        ("collections", |world| {
            drop(world.plex.collections.insert(("owner".into(), "2".into()), Read::Failed(failed())));
        }),
        ("what is in a collection", |world| drop(world.plex.members.insert("70".into(), partly(&[])))),
        ("episodes", |world| world.set_episodes("owner", Read::Failed(failed()))),
        ("what is in a library", |world| drop(world.plex.library.insert(("owner".into(), "1".into()), partly(&[])))),
        ("pinned items", |world| drop(world.plex.items.insert("owner".into(), Read::Failed(failed())))),
    ];
    for (name, broken) in breaks {
        let mut world = world();
        two_shows(&mut world);
        collection(&mut world, Read::Complete(vec![show("Lost")]));
        world.select.playlists = vec!["Tonight".to_owned()];
        world.plex.playlists.insert("anna".into(), Read::Complete(vec![list("72", "Tonight", ListKind::Playlist)]));
        world.plex.members.insert("72".into(), Read::Complete(vec![movie("Heat")]));
        world.plex.items.insert("owner".into(), Read::Complete(vec![movie("Dune")]));
        world.select.pin.rating_keys = vec!["Dune".to_owned()];
        in_library(&mut world, "1", &[movie("Pinned")]);
        world.select.pin.paths = Globs::new(["Pin*"]).unwrap();
        let (before, memory) = world.run(&Memory::default());
        assert_eq!((before.wants.len(), before.problems.len()), (7, 0), "{name}");
        broken(&mut world);
        // Longer than anything counts as on deck.
        world.now += 400 * DAY;
        let (after, memory) = world.run(&memory);
        assert_eq!(titles(&after), titles(&before), "{name}");
        assert_eq!(after.problems.len(), 1, "{name}: {:?}", after.problems);
        assert_eq!(titles(&world.run(&memory).0), titles(&before), "{name}: however often");
    }
}

#[test]
fn what_a_list_wanted_is_released_when_nobody_wants_it_any_more() {
    let mut world = world();
    two_shows(&mut world);
    collection(&mut world, Read::Complete(vec![show("Found")]));
    let (_, mut memory) = world.run(&Memory::default());
    let reasons = Reasons::from([Reason::of(Source::Collection)]);
    let unit = key("Found/s1e1.mkv");
    world.cached.push(CachedUnit { unit, rating_key: Some("Found-1-1".into()), reasons });
    assert_eq!(world.releases(&mut memory), [None]);
    world.plex.members.insert("70".to_owned(), Read::Complete(Vec::new()));
    assert_eq!(world.releases(&mut memory), [Some((12, EvictWhy::Unwanted))]);
}
