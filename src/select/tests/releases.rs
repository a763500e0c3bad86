//! When cached units may go, what is remembered for that, and the properties of runs as a whole.

use camino::Utf8PathBuf;
use proptest::prelude::*;

use super::*;
use crate::state::StateDir;

#[test]
fn what_has_been_wanted_for_too_long_stays_dropped_until_it_is_seen_unwanted() {
    let mut world = world();
    world.evict.max_age = Some(Duration::from_secs(86_400));
    world.cache("Dune.mkv", "Dune", &["anna"]);
    world.on_deck("anna", "1", &[movie("Dune")]);
    let mut memory = Memory::default();
    assert_eq!(world.releases(&mut memory), [None]);
    world.now += DAY;
    for read in [Read::Complete(vec![movie("Dune")]), Read::Failed(failed())] {
        world.set_on_deck("anna", "1", read);
        assert_eq!(world.releases(&mut memory), [Some((24, EvictWhy::MaxAge))]);
        assert!(world.try_run(&memory).unwrap().wants.is_empty());
    }
    world.on_deck("anna", "1", &[]);
    memory = world.run(&memory).1;
    world.on_deck("anna", "1", &[movie("Dune")]);
    assert_eq!(titles(&world.run(&memory).0), ["Dune"]);
    assert_eq!(world.releases(&mut memory), [None]);
}

#[test]
fn a_unit_goes_when_the_last_who_wanted_it_has_watched_it_or_it_is_unwanted_for_long_enough() {
    let ago = |hours: i64| Some(START - hours * HOUR);
    let seen = |at| Some(watched(movie("Dune"), at));
    let unseen = || Some(movie("Dune"));
    let watched_at = |hours| Some((hours, EvictWhy::Watched));
    let unwanted_at = |hours| Some((hours, EvictWhy::Unwanted));
    for (name, anna, ben, expected) in [
        ("watched", seen(ago(10)), None, watched_at(38)),
        ("watched long ago", seen(ago(100)), None, watched_at(-52)),
        ("watched, not known when", seen(None), None, watched_at(48)),
        ("watched in the future", seen(Some(START + 900 * DAY)), None, watched_at(48)),
        ("not watched", unseen(), None, unwanted_at(12)),
        ("by one of two", seen(ago(100)), Some(unseen()), unwanted_at(12)),
        ("by one of two just now", seen(ago(1)), Some(unseen()), unwanted_at(47)),
        ("by both", seen(ago(10)), Some(seen(ago(5))), watched_at(43)),
        ("not there any more", None, None, unwanted_at(12)),
    ] {
        let mut world = world();
        world.cache("Dune.mkv", "Dune", if ben.is_some() { &["anna", "ben"] } else { &["anna"] });
        for (user, item) in [("anna", anna), ("ben", ben.flatten())] {
            world.plex.items.insert(user.to_owned(), Read::Complete(item.into_iter().collect()));
        }
        let mut memory = Memory::default();
        assert_eq!(world.releases(&mut memory), [expected], "{name}");
        world.now += 5 * HOUR;
        assert_eq!(world.releases(&mut memory), [expected], "{name}: the same answers later");
    }
}

#[test]
fn what_cannot_be_read_of_a_watcher_keeps_the_unit() {
    let mut world = world();
    world.cache("Dune.mkv", "Dune", &["anna", "ben"]);
    let mut memory = Memory::default();
    world.plex.items.insert("ben".to_owned(), Read::Failed(failed()));
    assert_eq!(world.releases(&mut memory), [None]);
    world.plex.items.insert("ben".to_owned(), partly(&[]));
    assert_eq!(world.releases(&mut memory), [None]);
    world.viewers[2].token = Secret::new("");
    assert_eq!(world.releases(&mut memory), [None], "ben has no token at the moment");
    world.viewers.pop();
    world.now += HOUR;
    assert_eq!(world.releases(&mut memory), [Some((12, EvictWhy::Unwanted))], "ben does not count any more");
}

#[test]
fn the_grace_begins_when_it_is_first_known_to_be_unwanted() {
    let mut world = world();
    world.cache("Dune.mkv", "Dune", &["anna"]);
    world.set_on_deck("anna", "1", Read::Failed(failed()));
    let mut memory = Memory::default();
    assert_eq!(world.releases(&mut memory), [None]);
    world.now += 20 * HOUR;
    world.on_deck("anna", "1", &[]);
    assert_eq!(world.releases(&mut memory), [Some((20 + 12, EvictWhy::Unwanted))]);
}

#[test]
fn somebody_who_still_wants_it_keeps_it_and_is_remembered_when_done() {
    let mut world = world();
    world.cache("Dune.mkv", "Dune", &["anna"]);
    world.on_deck("ben", "1", &[movie("Dune")]);
    world.plex.items.insert("anna".to_owned(), Read::Complete(vec![watched(movie("Dune"), Some(START))]));
    world.plex.items.insert("ben".to_owned(), Read::Complete(vec![watched(movie("Dune"), Some(START + 30 * HOUR))]));
    let mut memory = Memory::default();
    assert_eq!(world.releases(&mut memory), [None]);
    world.now += 31 * HOUR;
    world.on_deck("ben", "1", &[]);
    assert_eq!(world.releases(&mut memory), [Some((78, EvictWhy::Watched))]);
}

#[test]
fn both_episodes_of_one_file_must_be_watched() {
    let mut world = world();
    let double =
        |number| Item { versions: vec![version("m", &["/data/Lost/s1e2-e3.mkv"])], ..episode("Lost", 1, number) };
    world.on_deck("anna", "2", &[episode("Lost", 1, 1)]);
    world.set_episodes("anna", Read::Complete(vec![episode("Lost", 1, 1), double(2), double(3)]));
    let mut memory = world.run(&Memory::default()).1;
    world.cache("Lost/s1e2-e3.mkv", "Lost-1-2", &["anna"]);
    world.on_deck("anna", "2", &[]);
    let seen = watched(double(2), Some(START));
    world.plex.items.insert("anna".to_owned(), Read::Complete(vec![seen.clone(), double(3)]));
    assert_eq!(world.releases(&mut memory.clone()), [Some((12, EvictWhy::Unwanted))]);
    world.plex.items.insert("anna".to_owned(), Read::Complete(vec![seen, watched(double(3), Some(START - HOUR))]));
    assert_eq!(world.releases(&mut memory), [Some((48, EvictWhy::Watched))]);
}

#[test]
fn the_watch_state_in_the_list_of_episodes_is_not_asked_for_again() {
    let mut world = world();
    let mut episodes = lost();
    episodes[0] = watched(episodes[0].clone(), Some(START - HOUR));
    world.on_deck("anna", "2", &[played(episodes[1].clone(), START - HOUR)]);
    world.set_episodes("anna", Read::Complete(episodes));
    world.cache("Lost/s1e1.mkv", "Lost-1-1", &["anna"]);
    assert_eq!(world.releases(&mut Memory::default()), [Some((47, EvictWhy::Watched))]);
    assert!(!world.plex.calls().iter().any(|call| call.starts_with("items")));
}

#[test]
fn a_clock_that_went_back_makes_nothing_last_for_ever_and_nothing_go_early() {
    let mut world = world();
    world.cache("Dune.mkv", "Dune", &["anna"]);
    let mut memory = Memory::default();
    world.now = START + 9000 * DAY;
    world.releases(&mut memory);
    world.now = START;
    assert_eq!(world.releases(&mut memory), [Some((12, EvictWhy::Unwanted))]);
    world.now = START + HOUR;
    assert_eq!(world.releases(&mut memory), [Some((12, EvictWhy::Unwanted))]);
}

#[test]
fn a_unit_that_is_neither_wanted_nor_cached_is_forgotten() {
    let mut world = world();
    world.on_deck("anna", "1", &[movie("Dune")]);
    let (_, memory) = world.run(&Memory::default());
    assert!(memory.wanted_since(&key("Dune.mkv")).is_some());
    world.on_deck("anna", "1", &[]);
    let (_, memory) = world.run(&memory);
    assert_eq!(memory, world.run(&Memory::default()).1);
}

#[test]
fn memory_survives_its_file_and_a_damaged_file_is_an_empty_one() {
    let tree = tempfile::tempdir().unwrap();
    let state = StateDir::new(Utf8PathBuf::from_path_buf(tree.path().to_owned()).unwrap());
    assert_eq!(Memory::load(&state), Memory::default());
    let mut world = world();
    world.on_deck("anna", "2", &[played(episode("Lost", 1, 1), START)]);
    world.set_episodes("anna", Read::Complete(lost()));
    world.cache("Dune.mkv", "Dune", &["ben"]);
    world.plex.items.insert("ben".to_owned(), Read::Complete(vec![watched(movie("Dune"), None)]));
    let (_, memory) = world.run(&Memory::default());
    memory.save(&state).unwrap();
    assert_eq!(Memory::load(&state), memory);

    let mut saved: serde_json::Value = state.read("wants.json").unwrap();
    saved["answers"][0][1]["wants"][0]["parts"] = serde_json::json!([]);
    state.write("wants.json", &saved).unwrap();
    world.set_on_deck("anna", "2", Read::Failed(failed()));
    world.run(&Memory::load(&state));
    saved["format"] = 2.into();
    state.write("wants.json", &saved).unwrap();
    assert_eq!(Memory::load(&state), Memory::default());
    state.write("wants.json", &"?").unwrap();
    assert_eq!(Memory::load(&state), Memory::default());
}

/// What one user may have: on deck by show and number, and which episodes are watched.
type Deck = Vec<(u8, i64, Option<i64>)>;

fn decks() -> impl Strategy<Value = Vec<Deck>> {
    let row = (0_u8..3, 1_i64..7, proptest::option::of(START - 3 * DAY..START + DAY));
    proptest::collection::vec(proptest::collection::vec(row, 0..5), 3)
}

/// A world with these decks; rows are turned by `turn` places, users' order too.
fn world_of(decks: &[Deck], turn: usize) -> World {
    let mut world = world();
    let shows = ["Lost", "Office", "Wire"];
    for (at, deck) in decks.iter().enumerate() {
        let user = world.viewers[at].name.clone();
        let row = |&(show, number, seen): &(u8, i64, Option<i64>)| Item {
            last_viewed_at: seen,
            ..episode(shows[usize::from(show)], 1, number)
        };
        let mut items: Vec<Item> = deck.iter().map(row).collect();
        let mut all: Vec<Item> = shows.iter().flat_map(|show| (1..8).map(|number| episode(show, 1, number))).collect();
        for (&(_, number, seen), item) in deck.iter().zip(&mut all) {
            if number % 2 == 0 {
                *item = watched(item.clone(), seen);
            }
        }
        world.plex.items.insert(user.clone(), Read::Complete(all.clone()));
        if !items.is_empty() {
            let by = turn % items.len();
            items.rotate_left(by);
        }
        all.rotate_left(turn % 21);
        world.on_deck(&user, "2", &items);
        world.set_episodes(&user, Read::Complete(all));
    }
    world.viewers.rotate_left(turn % 3);
    for show in shows {
        for number in 1..8 {
            world.cache(&format!("{show}/s1e{number}.mkv"), &format!("{show}-1-{number}"), &["anna", "ben"]);
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_answers_in_any_order_give_the_same_wants_and_memory(decks in decks(), turn in 0_usize..40) {
        let (straight, memory) = world_of(&decks, 0).run(&Memory::default());
        let (turned, turned_memory) = world_of(&decks, turn).run(&Memory::default());
        prop_assert_eq!(straight.wants, turned.wants);
        prop_assert_eq!(memory, turned_memory);
    }

    #[test]
    fn the_same_answers_once_more_give_the_same_releases(decks in decks(), after in 0_i64..3 * DAY) {
        let mut world = world_of(&decks, 0);
        let mut memory = Memory::default();
        let first = world.releases(&mut memory);
        world.now += after;
        prop_assert_eq!(first, world.releases(&mut memory));
    }

    #[test]
    fn a_failure_never_makes_anything_unwanted(decks in decks(), broken in 0_usize..3, how in 0_usize..4) {
        let mut world = world_of(&decks, 0);
        let (before, mut memory) = world.run(&Memory::default());
        let user = world.viewers[broken].name.clone();
        match how {
            0 => world.set_on_deck(&user, "2", Read::Failed(failed())),
            1 => world.set_on_deck(&user, "2", partly(&[])),
            2 => world.set_episodes(&user, Read::Failed(failed())),
            _ => world.viewers[broken].token = Secret::new(""),
        }
        world.now += HOUR;
        let (after, _) = world.run(&memory);
        let units = |gathered: &Gathered| gathered.wants.iter().map(|want| want.unit().clone()).collect::<BTreeSet<_>>();
        prop_assert!(units(&after).is_superset(&units(&before)));
        let wanted = units(&before);
        for (cached, release) in world.cached.clone().iter().zip(world.releases(&mut memory)) {
            prop_assert!(release.is_none() || !wanted.contains(&cached.unit));
        }
    }
}
