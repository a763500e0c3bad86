//! What was added lately, playlists, collections and pinned items: whose they are, in which order they
//! are wanted, and what a read that failed leaves of them.

use super::*;
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
    assert_eq!(world.plex.calls().iter().filter(|call| call.starts_with("added_since")).count(), 2);
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

#[test]
fn a_pin_never_grows_too_old() {
    let mut world = world();
    world.evict.max_age = Some(Duration::from_secs(86_400));
    world.plex.items.insert("owner".to_owned(), Read::Complete(vec![movie("Dune")]));
    world.select.pin.rating_keys = vec!["Dune".to_owned()];
    let (_, memory) = world.run(&Memory::default());
    world.now += 2 * DAY;
    assert_eq!(titles(&world.run(&memory).0), ["Dune"]);
}

/// Each list, once it was read, then with one of its reads failing in turn.
#[test]
fn a_list_that_could_not_be_read_takes_nothing_away() {
    type Break = fn(&mut World);
    let breaks: [(&str, Break); 6] = [
        ("playlists", |world| drop(world.plex.playlists.insert("anna".into(), Read::Failed(failed())))),
        ("what is in a playlist", |world| drop(world.plex.members.insert("72".into(), Read::Failed(failed())))),
        ("collections", |world| {
            drop(world.plex.collections.insert(("owner".into(), "2".into()), Read::Failed(failed())));
        }),
        ("what is in a collection", |world| drop(world.plex.members.insert("70".into(), partly(&[])))),
        ("episodes", |world| world.set_episodes("owner", Read::Failed(failed()))),
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
        let (before, memory) = world.run(&Memory::default());
        assert_eq!((before.wants.len(), before.problems.len()), (6, 0), "{name}");
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
    let reasons = BTreeSet::from([Reason { source: Source::Collection, user: None }]);
    let unit = key("Found/s1e1.mkv");
    world.cached.push(CachedUnit { unit, rating_key: Some("Found-1-1".to_owned()), reasons });
    assert_eq!(world.releases(&mut memory), [None]);
    world.plex.members.insert("70".to_owned(), Read::Complete(Vec::new()));
    assert_eq!(world.releases(&mut memory), [Some((12, EvictWhy::Unwanted))]);
}
