//! Watchlists and feeds: what they amount to, in whose name they are read, and what their silence means.

use super::*;
use crate::plex::{ItemKind, Listed, ListedKind};

/// The show of [`episode`]s, as a row of its own.
fn show(title: &str) -> Item {
    Item { guid: Some(format!("plex://show/{title}")), ..Item::new(RatingKey::new(title), ItemKind::Show, title) }
}

fn film(title: &str) -> Item {
    Item { guid: Some(format!("plex://movie/{title}")), ..movie(title) }
}

fn entry(kind: ListedKind, id: &str) -> Listed {
    let word = if kind == ListedKind::Movie { "movie" } else { "show" };
    Listed { kind, guid: Some(format!("plex://{word}/{id}")), ids: Vec::new() }
}

fn list(source: Source, user: Option<&str>, entries: &[Listed]) -> List {
    let user = user.map(str::to_owned);
    List {
        reason: Reason { user: user.as_deref().map(Into::into), ..Reason::of(source) },
        viewer: user,
        entries: entries.to_vec(),
        complete: true,
    }
}

/// Films `Dune` and `Heat` and the show `Lost` of two seasons of four episodes.
fn stocked() -> World {
    let mut world = world();
    world.plex.catalog.insert("1".to_owned(), Read::Complete(vec![film("Dune"), film("Heat")]));
    world.plex.catalog.insert("2".to_owned(), Read::Complete(vec![show("Lost"), show("Lost in Space")]));
    for user in ["owner", "anna", "ben"] {
        world.plex.items.insert(user.to_owned(), Read::Complete(vec![film("Dune"), film("Heat")]));
        let episodes = [1, 2].into_iter().flat_map(|season| (1..=4).map(move |number| episode("Lost", season, number)));
        let other = (1..=4).map(|number| episode("Lost in Space", 1, number));
        world.plex.episodes.insert((user.to_owned(), "2".to_owned()), Read::Complete(episodes.chain(other).collect()));
    }
    world
}

fn titles(gathered: &Gathered) -> Vec<&str> {
    gathered.wants.iter().map(|want| want.rating_key.as_deref().unwrap()).collect()
}

#[test]
fn a_watchlist_gives_films_and_the_next_episodes_of_that_user_in_its_order() {
    let mut world = stocked();
    world.select.watchlist_episodes = 2;
    let seen = |season, number, at| watched(episode("Lost", season, number), at);
    let mut episodes: Vec<Item> = (1..=4).map(|number| seen(1, number, Some(START - DAY))).collect();
    episodes.extend([
        seen(2, 1, Some(START - HOUR)),
        episode("Lost", 2, 2),
        episode("Lost", 2, 3),
        episode("Lost", 2, 4),
    ]);
    world.plex.episodes.insert(("anna".to_owned(), "2".to_owned()), Read::Complete(episodes));
    let entries = [entry(ListedKind::Movie, "Heat"), entry(ListedKind::Show, "Lost"), entry(ListedKind::Movie, "None")];
    world.lists.lists = vec![list(Source::Watchlist, Some("anna"), &entries)];
    let (gathered, _) = world.run(&Memory::default());
    assert_eq!(titles(&gathered), ["Heat", "Lost-2-2", "Lost-2-3"]);
    assert!(gathered.incomplete.is_empty() && gathered.problems.is_empty(), "{:?}", gathered.problems);

    world.lists.lists = vec![list(Source::Watchlist, Some("ben"), &entries)];
    assert_eq!(titles(&world.run(&Memory::default()).0), ["Heat", "Lost-1-1", "Lost-1-2"], "ben is at the beginning");
}

#[test]
fn the_list_of_somebody_who_is_no_user_begins_at_the_beginning() {
    let mut world = stocked();
    world.select.watchlist_episodes = 1;
    let seen: Vec<Item> = (1..=2).map(|number| watched(episode("Lost", 1, number), Some(START - DAY))).collect();
    let all = seen.into_iter().chain((3..=4).map(|number| episode("Lost", 1, number))).collect();
    world.plex.episodes.insert(("owner".to_owned(), "2".to_owned()), Read::Complete(all));
    let entries = [entry(ListedKind::Show, "Lost")];
    let stranger = List { viewer: None, ..list(Source::FriendWatchlist, Some("carl"), &entries) };
    world.lists.lists = vec![stranger.clone()];
    assert_eq!(titles(&world.run(&Memory::default()).0), ["Lost-1-1"]);
    // The owner is in the middle, and both are read at once.
    world.lists.lists.push(list(Source::Watchlist, Some("owner"), &entries));
    let (gathered, _) = world.run(&Memory::default());
    assert_eq!(titles(&gathered), ["Lost-1-1", "Lost-1-3"]);
    let reads = world.plex.calls().into_iter().filter(|call| call.starts_with("episodes owner")).count();
    assert_eq!(reads, 2, "one in each run");
}

#[test]
fn a_list_that_failed_keeps_what_it_wanted_and_one_that_is_empty_does_not() {
    let mut world = stocked();
    world.lists.lists = vec![list(Source::Watchlist, Some("anna"), &[entry(ListedKind::Movie, "Dune")])];
    let (_, memory) = world.run(&Memory::default());
    world.lists.lists = vec![List { complete: false, ..list(Source::Watchlist, Some("anna"), &[]) }];
    let (gathered, after) = world.run(&memory);
    assert_eq!(titles(&gathered), ["Dune"]);
    assert_eq!(gathered.incomplete.len(), 1);
    world.lists.lists = vec![list(Source::Watchlist, Some("anna"), &[])];
    assert_eq!(titles(&world.run(&after).0), [""; 0]);
}

#[test]
fn whose_lists_there_are_not_known_of_want_what_they_wanted() {
    let mut world = stocked();
    world.lists.lists = vec![list(Source::FriendWatchlist, Some("carl"), &[entry(ListedKind::Movie, "Dune")])];
    let (_, memory) = world.run(&Memory::default());
    world.lists = Lists { lists: Vec::new(), unknown: BTreeSet::from([Source::FriendWatchlist]) };
    assert_eq!(titles(&world.run(&memory).0), ["Dune"]);
    world.lists = Lists::default();
    assert_eq!(titles(&world.run(&memory).0), [""; 0], "carl is no friend any more");
}

#[test]
fn what_the_libraries_hold_and_cannot_be_read_is_no_proof_of_absence() {
    let mut world = stocked();
    world.lists.lists = vec![list(Source::Watchlist, Some("anna"), &[entry(ListedKind::Movie, "Dune")])];
    let (_, memory) = world.run(&Memory::default());
    let broken = || Read::Failed(PlexError::Status { endpoint: "/x".to_owned(), status: 500 });
    world.plex.catalog.insert("1".to_owned(), broken());
    let (gathered, _) = world.run(&memory);
    assert_eq!(titles(&gathered), ["Dune"]);
    assert_eq!(gathered.problems.len(), 1, "{:?}", gathered.problems);
    world.plex.catalog.insert("1".to_owned(), Read::Complete(vec![film("Dune")]));
    world.plex.items.insert("anna".to_owned(), broken());
    assert_eq!(titles(&world.run(&memory).0), ["Dune"]);
}

/// Each way in which a library may be missing although it is there.
#[test]
fn a_library_that_is_not_shown_is_no_proof_that_its_films_and_shows_are_gone() {
    type Break = fn(&mut World);
    let breaks: [(&str, Break); 4] = [
        ("the viewer's own list fails", |world| {
            let read = Read::Failed(PlexError::Status { endpoint: "/x".to_owned(), status: 500 });
            world.plex.libraries.insert("anna".to_owned(), read);
        }),
        ("the viewer's own list came in part", |world| {
            let problems = vec!["a row has no key".to_owned()];
            let read = Read::Incomplete { value: vec![library("1", LibraryKind::Movie)], problems };
            world.plex.libraries.insert("anna".to_owned(), read);
        }),
        ("the owner's list came in part", |world| {
            let problems = vec!["a row has no key".to_owned()];
            let read = Read::Incomplete { value: vec![library("1", LibraryKind::Movie)], problems };
            world.plex.libraries.insert("owner".to_owned(), read);
        }),
        ("a configured library is not there", |world| {
            for user in ["owner", "anna", "ben"] {
                let read = Read::Complete(vec![library("1", LibraryKind::Movie)]);
                world.plex.libraries.insert(user.to_owned(), read);
            }
        }),
    ];
    for (name, broken) in breaks {
        let mut world = stocked();
        world.select.watchlist_episodes = 1;
        world.select.libraries = vec!["Library 1".to_owned(), "Library 2".to_owned()];
        let entries = [entry(ListedKind::Show, "Lost"), entry(ListedKind::Movie, "Dune")];
        let stranger = List { viewer: None, ..list(Source::FriendWatchlist, Some("carl"), &entries) };
        world.lists.lists = vec![list(Source::Watchlist, Some("anna"), &entries), stranger];
        let (before, memory) = world.run(&Memory::default());
        assert_eq!(titles(&before), ["Lost-1-1", "Dune"], "{name}");
        broken(&mut world);
        let (after, _) = world.run(&memory);
        assert_eq!(titles(&after), titles(&before), "{name}");
        let reason = Reason::of_user(Source::Watchlist, "anna");
        assert!(after.incomplete.contains(&reason), "{name}: {:?}", after.incomplete);
        assert!(!after.problems.is_empty(), "{name}");
    }
}

#[test]
fn external_ids_are_asked_for_only_where_they_can_help_and_few_at_once() {
    let mut world = stocked();
    let old = Item { guid: Some("com.plexapp.agents.imdb://tt1?lang=en".to_owned()), ..movie("Alien") };
    let entries: Vec<Listed> = (0..30).map(|number| entry(ListedKind::Movie, &format!("{number:02}"))).collect();
    world.lists.lists = vec![list(Source::Watchlist, Some("anna"), &entries)];
    let asked = |world: &World| world.plex.calls().into_iter().filter(|call| call.starts_with("ids ")).count();
    let (gathered, _) = world.run(&Memory::default());
    assert_eq!((asked(&world), gathered.incomplete.len()), (0, 0));

    world.plex.catalog.insert("1".to_owned(), Read::Complete(vec![old.clone()]));
    world.plex.items.insert("anna".to_owned(), Read::Complete(vec![old]));
    world.ids.insert("plex://movie/07".to_owned(), vec!["imdb://tt1".to_owned()]);
    let (gathered, _) = world.run(&Memory::default());
    assert_eq!(titles(&gathered), ["Alien"]);
    assert_eq!((asked(&world), gathered.incomplete.len()), (20, 1), "the rest is for the next run");
    assert!(gathered.catalog.is_some());
}

#[test]
fn an_entry_of_a_feed_is_wanted_by_nobody_in_particular() {
    let mut world = stocked();
    let entries = [Listed { kind: ListedKind::Movie, guid: None, ids: vec!["imdb://tt5".to_owned()] }];
    let dune = Item { guids: vec!["imdb://tt5".to_owned()], ..film("Dune") };
    world.plex.catalog.insert("1".to_owned(), Read::Complete(vec![dune]));
    world.lists.lists = vec![list(Source::Rss, None, &entries)];
    let (gathered, _) = world.run(&Memory::default());
    let reasons: Vec<String> = gathered.wants[0].reasons.iter().map(ToString::to_string).collect();
    assert_eq!((titles(&gathered), reasons), (vec!["Dune"], vec!["feed".to_owned()]));
}

#[test]
fn what_a_user_cannot_see_is_not_wanted_for_them() {
    let mut world = stocked();
    world.plex.libraries.insert("anna".to_owned(), Read::Complete(vec![library("1", LibraryKind::Movie)]));
    let entries = [entry(ListedKind::Show, "Lost"), entry(ListedKind::Movie, "Dune")];
    world.plex.items.insert("anna".to_owned(), Read::Complete(Vec::new()));
    world.lists.lists = vec![list(Source::Watchlist, Some("anna"), &entries)];
    let (gathered, _) = world.run(&Memory::default());
    assert_eq!(titles(&gathered), [""; 0]);
    assert!(gathered.incomplete.is_empty());
}

#[test]
fn a_user_without_a_token_keeps_what_the_watchlist_wanted() {
    let mut world = stocked();
    world.lists.lists = vec![list(Source::Watchlist, Some("anna"), &[entry(ListedKind::Movie, "Dune")])];
    let (_, memory) = world.run(&Memory::default());
    world.viewers[1].token = Secret::new("");
    assert_eq!(titles(&world.run(&memory).0), ["Dune"]);
}
