//! The sources besides on deck: what plays, play time ahead, what was added lately, playlists,
//! collections, pins. Each says why, in the plan, in the history and in `status --why`; and none of them
//! evicts because it could not be read.

use serde_json::{Value, json};

use crate::util::env::{Run, TestEnv, episode_path, file_at, movie_path};
use crate::util::fake_plex::{Fault, Faults, Matcher, Media, RatingKey};

const DAY: i64 = 86400;
const AT_ONCE: &str = "[evict]\nwatched_after = \"0\"\nunwanted_after = \"0\"\n";

/// The plan's cachings, by path.
fn wanted(env: &TestEnv) -> Vec<String> {
    cachings(&env.dry_sync())
}

/// In the order of the plan.
fn ranked(run: &Run) -> Vec<String> {
    run.planned().iter().filter_map(|line| Some(line.strip_prefix("cache ")?.to_owned())).collect()
}

fn cachings(run: &Run) -> Vec<String> {
    let mut paths = ranked(run);
    paths.sort();
    paths
}

fn episodes(show: &str, numbers: &[(i64, i64)]) -> Vec<String> {
    numbers.iter().map(|&(season, index)| episode_path(show, season, index)).collect()
}

fn films(titles: &[&str]) -> Vec<String> {
    titles.iter().map(|title| movie_path(title, 2000)).collect()
}

/// Two seasons of two episodes and a special; the keys of the show, of its first season and of all
/// episodes.
fn show(env: &TestEnv, title: &str) -> (RatingKey, RatingKey, Vec<RatingKey>) {
    let numbers = [(1, 1), (1, 2), (2, 1), (2, 2), (0, 1)];
    let keys: Vec<RatingKey> = numbers.map(|(season, index)| env.episode(title, season, index, 1000)).to_vec();
    let page = |key: &str| get(env, &format!("/library/metadata/{key}"))["Metadata"][0].clone();
    let episode = page(&keys[0]);
    let key = |name: &str| episode[name].as_str().unwrap().to_owned();
    (key("grandparentRatingKey"), key("parentRatingKey"), keys)
}

/// What Plex answers to the owner.
fn get(env: &TestEnv, path: &str) -> Value {
    let mut answer = ureq::get(format!("{}{path}", env.plex.url()))
        .header("X-Plex-Token", "owner-token")
        .header("Accept", "application/json")
        .call()
        .unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    env.plex.clear_requests();
    serde_json::from_str::<Value>(&text).unwrap()["MediaContainer"].clone()
}

fn warnings(run: &Run) -> Vec<String> {
    let lines = run.json().into_iter().filter(|line| line["type"] == "warning");
    lines.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
}

/// Expects that a file is cached for this reason alone, and that everybody is told so.
#[track_caller]
fn is_cached_because(env: &TestEnv, path: &str, reason: &Value, words: &str) {
    let run = env.run(&["sync", "--json"]).expect(0);
    let plan = run.json_of("plan");
    let row = plan["actions"].as_array().unwrap().iter().find(|row| row["path"] == path);
    let row = row.unwrap_or_else(|| panic!("{path} is not in {plan}"));
    assert_eq!(row["reasons"], json!([reason]), "the plan");
    let intents = env.history().into_iter().filter(|record| record["event"] == "intent");
    let intent = intents.into_iter().rfind(|record| record["action"]["path"] == path).unwrap();
    assert_eq!(intent["action"]["reasons"], json!([reason]), "the history");
    let why = env.run(&["status", "--why", path]).expect(0).stdout;
    for line in [format!("wanted: {words}"), format!("cached for: {words}")] {
        assert!(why.lines().any(|known| known == line), "{line}: {why}");
    }
}

#[test]
fn what_was_added_lately_is_cached_and_goes_when_it_is_no_longer_new() {
    let mut env = TestEnv::new();
    env.configure(&format!("{AT_ONCE}[select]\nrecently_added = \"14d\"\n"));
    let keys = ["Old", "New"].map(|title| env.movie(title, 2000, 1000));
    let lost = env.episode("Lost", 1, 1, 1000);
    env.plex.edit(|library| {
        library.item_mut(&keys[0]).added_at = library.now - 15 * DAY;
        library.item_mut(&keys[1]).added_at = library.now - 13 * DAY;
        library.set_hidden(env.movies, 2);
    });
    let run = env.dry_sync();
    assert_eq!(ranked(&run), [episode_path("Lost", 1, 1), movie_path("New", 2000)], "the newest first");
    is_cached_because(&env, &movie_path("New", 2000), &json!({"source": "recently_added"}), "recently added");
    env.plex.edit(|library| {
        for key in [&keys[1], &lost] {
            library.item_mut(key).added_at = library.now - 15 * DAY;
        }
    });
    env.sync();
    assert_eq!(env.cached(), Vec::<String>::new());
}

#[test]
fn what_was_added_lately_ranks_below_all_else() {
    let mut env = TestEnv::new();
    env.configure("max_size = \"15KiB\"\n[select]\nrecently_added = \"14d\"\n");
    let keys = ["A", "B", "C"].map(|title| env.movie(title, 2000, 5000));
    env.plex.edit(|library| library.item_mut(&keys[0]).added_at = library.now - DAY);
    env.on_deck("owner", &keys[0]);
    assert_eq!(wanted(&env), films(&["A"]));
}

#[test]
fn playlists_are_each_users_own_and_in_their_order() {
    let mut env = TestEnv::new();
    env.add_user("ben");
    env.configure(&format!("{AT_ONCE}[select]\nplaylists = [\"Tonight\"]\n"));
    let keys = ["A", "B", "C", "D"].map(|title| env.movie(title, 2000, 1000));
    env.plex.edit(|library| {
        library.add_playlist("owner", "Tonight", &[&keys[2], &keys[0]]);
        library.add_playlist("ben", "Tonight", &[&keys[1]]);
        library.add_playlist("ben", "Tomorrow", &[&keys[3]]);
    });
    let run = env.dry_sync();
    assert_eq!(ranked(&run), films(&["B", "C", "A"]), "the first of every list, then the second");
    assert_eq!(warnings(&run), Vec::<String>::new());
    is_cached_because(&env, &movie_path("B", 2000), &json!({"source": "playlist", "user": "ben"}), "playlist: ben");
    // Ben has seen his; a playlist is what its owner makes it, so it stays until it is taken off.
    env.plex.edit(|library| library.mark_watched("ben", &keys[1], library.now - DAY));
    env.sync();
    assert_eq!(env.cached().len(), 3);
}

#[test]
fn a_playlist_reaches_no_library_that_is_not_configured() {
    let mut env = TestEnv::new();
    env.configure("[select]\nplaylists = [\"Tonight\"]\nlibraries = [\"TV Shows\"]\n");
    let (film, episode) = (env.movie("A", 2000, 1000), env.episode("Lost", 1, 1, 1000));
    env.plex.edit(|library| library.add_playlist("owner", "Tonight", &[&film, &episode]));
    assert_eq!(wanted(&env), episodes("Lost", &[(1, 1)]));
}

#[test]
fn a_collection_means_its_films_and_all_episodes_of_its_shows_the_first_ones_first() {
    let mut env = TestEnv::new();
    env.configure(&format!("{AT_ONCE}[select]\ncollections = [\"Noir\"]\n"));
    let keys = ["B", "A", "C"].map(|title| env.movie(title, 2000, 1000));
    let ((lost, ..), (found, ..)) = (show(&env, "Lost"), show(&env, "Found"));
    env.plex.edit(|library| {
        library.add_collection(env.movies, "Noir", &[&keys[0], &keys[1]]);
        library.add_collection(env.movies, "Other", &[&keys[2]]);
        library.add_collection(env.shows, "Noir", &[&lost, &found]);
    });
    let order = [(1, 1), (1, 2), (2, 1), (2, 2), (0, 1)];
    let run = env.dry_sync();
    let mut expected = films(&["B", "A"]);
    let at = |show: &str, index: usize| episode_path(show, order[index].0, order[index].1);
    for index in 0..5 {
        expected.extend([at("Found", index), at("Lost", index)]);
    }
    let (mut one, mut other) = (ranked(&run), expected.clone());
    one.sort();
    other.sort();
    assert_eq!(one, other);
    let place = |path: &String| ranked(&run).iter().position(|row| row == path).unwrap();
    let shows: Vec<usize> = expected[2..].iter().map(place).collect();
    assert!(shows.is_sorted(), "{:?}", ranked(&run));
    is_cached_because(&env, &episode_path("Lost", 2, 2), &json!({"source": "collection"}), "collection");
}

#[test]
fn a_pinned_item_is_cached_whatever_it_is() {
    let env = TestEnv::new();
    let ((lost, season, keys), film) = (show(&env, "Lost"), env.movie("A", 2000, 1000));
    show(&env, "Found");
    let all = [(0, 1), (1, 1), (1, 2), (2, 1), (2, 2)];
    for (key, expected) in [
        (&film, films(&["A"])),
        (&keys[2], episodes("Lost", &[(2, 1)])),
        (&season, episodes("Lost", &[(1, 1), (1, 2)])),
        (&lost, episodes("Lost", &all)),
    ] {
        let mut command = env.command(&["sync", "--dry-run", "--json"]);
        let run = Run::of(command.env("PLEXCACHE_SELECT__PIN", format!("[\"plex:{key}\"]"))).expect(0);
        assert_eq!(cachings(&run), expected, "{key}");
    }
}

#[test]
fn a_pinned_show_is_cached_from_its_first_episode_up_to_the_limit_and_gives_way_to_nothing() {
    let mut env = TestEnv::new();
    let ((lost, ..), film) = (show(&env, "Lost"), env.movie("A", 2000, 1000));
    let settings = env.settings.clone();
    env.configure(&format!("max_size = \"12KiB\"\n{AT_ONCE}[select]\npin = [\"plex:{lost}\"]\n"));
    let first = episodes("Lost", &[(1, 1), (1, 2), (2, 1)]);
    is_cached_because(&env, &first[0], &json!({"source": "pin"}), "pinned");
    assert_eq!(env.cached(), first);
    env.on_deck("owner", &film);
    let run = env.run(&["sync", "--json"]).expect(0);
    assert_eq!(run.planned(), Vec::<String>::new());
    let run = env.run(&["evict", "--all", "--json"]).expect(0);
    assert_eq!(run.left(), first.iter().map(|path| format!("pinned {path}")).collect::<Vec<_>>());
    assert!(env.run(&["status", "--why", &first[1]]).expect(0).stdout.contains("pinned: stays whatever happens"));
    // Without the pin it is like any other.
    env.settings = settings + AT_ONCE;
    env.sync();
    assert_eq!(env.cached(), films(&["A"]));
}

#[test]
fn what_a_pinned_glob_matches_is_cached_in_the_order_of_the_paths_up_to_the_limit_and_stays() {
    let mut env = TestEnv::new();
    for title in ["Coco", "Bolt", "Up"] {
        env.film_at(&format!("Kids/{title}/{title}.mkv"), 5000);
    }
    let other = env.movie("A", 2000, 5000);
    show(&env, "Lost");
    let settings = env.settings.clone();
    env.configure(&format!("max_size = \"18KiB\"\n{AT_ONCE}[select]\npin = [\"Kids/**\", \"TV/*/Specials/*\"]\n"));
    let kids = ["Bolt", "Coco", "Up"].map(|title| format!("Kids/{title}/{title}.mkv"));
    let run = env.dry_sync();
    assert_eq!(ranked(&run), kids[..2], "{}", run.stdout);
    assert_eq!(run.left(), [format!("no_room {}", kids[2])]);
    assert_eq!(warnings(&run), ["Plex has no movie or episode whose path matches TV/*/Specials/* (select.pin)"]);
    let reason = json!({"source": "pin", "detail": "Kids/**"});
    is_cached_because(&env, &kids[0], &reason, "pinned: Kids/**");
    assert_eq!(env.run(&["history", "1", "--json"]).expect(0).json_of("action")["reasons"], json!([reason]));
    // It gives way to nothing, and once more there is nothing to do.
    env.on_deck("owner", &other);
    assert_eq!(env.run(&["sync", "--json"]).expect(0).planned(), Vec::<String>::new());
    assert_eq!(env.cached(), kids[..2]);
    // Without the pin they are like any other.
    env.settings = settings + AT_ONCE;
    env.sync();
    assert_eq!(env.cached(), films(&["A"]));
}

#[test]
fn a_pinned_glob_says_why_though_it_is_on_deck_too_and_the_library_cannot_be_listed() {
    let mut env = TestEnv::new();
    env.configure(&format!("{AT_ONCE}[select]\npin = [\"Movies/A*/*\"]\n"));
    let keys = ["A", "B"].map(|title| env.movie(title, 2000, 1000));
    for key in &keys {
        env.on_deck("owner", key);
    }
    let listing = format!("/library/sections/{}/all", env.movies);
    for fault in [Fault::Status(500), Fault::LostRows] {
        env.plex.faults(|faults| faults.add(Matcher::exact_path(&listing), fault.clone()));
        let run = env.run(&["sync", "--dry-run", "--json"]).expect(3);
        assert_eq!(ranked(&run), films(&["A", "B"]), "the pin comes first");
        let plan = run.json_of("plan");
        let on_deck = json!({"source": "on_deck", "user": "owner"});
        let pin = json!({"source": "pin", "detail": "Movies/A*/*"});
        assert_eq!(plan["actions"][0]["reasons"], json!([on_deck, pin]));
        assert_eq!(plan["actions"][1]["reasons"], json!([on_deck]));
        assert_eq!(warnings(&run).iter().filter(|line| line.contains("matches")).count(), 0);
        env.plex.faults(Faults::clear);
    }
}

#[test]
fn a_pinned_glob_speaks_of_the_media_paths_of_a_windows_server() {
    let mut env = TestEnv::new();
    env.configure("[select]\npin = [\"Kids/**\"]\n");
    let root = env.path("").display().to_string();
    let map = format!(
        "[[map]]\nplex = 'D:\\Media'\narray = [\"{root}disk1/windows\"]\ncache = \"{root}cache/windows\"\n\
         placement = \"copy\"\n"
    );
    env.settings.push_str(&map);
    env.plex.edit(|library| "Windows".clone_into(&mut library.platform));
    for folder in ["Kids", "Films"] {
        file_at(env.path(format!("disk1/windows/{folder}/Up.mkv")), 1000);
        let part = Media::file(&format!(r"d:\media\{folder}\Up.mkv"), 1000);
        env.plex.edit(|library| library.add_movie(env.movies, folder, 2009, &[part]));
    }
    std::fs::create_dir_all(env.path("cache/windows")).unwrap();
    assert_eq!(ranked(&env.dry_sync()), ["Kids/Up.mkv"]);
}

#[test]
fn what_follows_what_plays_says_so_and_stays_when_it_has_become_the_next_on_deck() {
    let mut env = TestEnv::new();
    env.configure(&format!("{AT_ONCE}[select]\nnext_episodes = 2\n"));
    let (_, _, keys) = show(&env, "Lost");
    let session = env.plex.edit(|library| library.start_session("owner", &keys[0], false));
    is_cached_because(
        &env,
        &episode_path("Lost", 1, 2),
        &json!({"source": "playing", "user": "owner"}),
        "next of what plays: owner",
    );
    assert_eq!(env.cached(), episodes("Lost", &[(1, 2), (2, 1)]));
    env.plex.edit(|library| {
        library.stop_session(&session);
        library.mark_watched("owner", &keys[0], library.now);
    });
    let run = env.run(&["sync", "--json"]).expect(0);
    assert_eq!(run.planned(), [format!("cache {}", episode_path("Lost", 2, 2))]);
    env.plex.edit(|library| library.clear_on_deck("owner"));
    env.sync();
    assert_eq!(env.cached(), Vec::<String>::new());
}

#[test]
fn minutes_ahead_add_episodes_until_that_much_can_be_played() {
    let mut env = TestEnv::new();
    let keys: Vec<_> = (1..=9).map(|index| env.episode("Lost", 1, index, 1000)).collect();
    env.plex.edit(|library| {
        for key in &keys {
            library.item_mut(key).duration = 25 * 60_000;
        }
    });
    env.on_deck("owner", &keys[0]);
    let before = env.settings.clone();
    for (episodes, minutes, ahead) in [(1, 0, 1), (1, 60, 3), (1, 75, 3), (1, 76, 4), (4, 60, 4), (0, 60, 3), (0, 0, 0)]
    {
        env.settings = format!("{before}[select]\nnext_episodes = {episodes}\nprefetch_minutes = {minutes}\n");
        assert_eq!(wanted(&env).len(), 1 + ahead, "{episodes} {minutes}");
    }
}

#[test]
fn a_name_that_plex_does_not_know_is_one_warning_and_no_failure() {
    let mut env = TestEnv::new();
    env.add_user("ben");
    env.configure("[select]\nplaylists = [\"Gone\"]\ncollections = [\"Lost\"]\npin = [\"plex:999\"]\n");
    let film = env.movie("A", 2000, 1000);
    env.on_deck("owner", &film);
    let run = env.run(&["sync", "--json"]).expect(0);
    assert_eq!(
        warnings(&run),
        [
            "Plex has no playlist \"Gone\" (select.playlists)",
            "Plex has no collection \"Lost\" (select.collections)",
            "Plex has no movie, episode, season or show 999 (select.pin)",
        ]
    );
    assert_eq!(env.cached(), films(&["A"]));
}

#[test]
fn a_list_that_could_not_be_read_evicts_nothing() {
    let mut env = TestEnv::new();
    let keys = ["A", "B", "C", "D", "E"].map(|title| env.movie(title, 2000, 1000));
    let (lost, ..) = show(&env, "Lost");
    let [playlist, collection, _] = env.plex.edit(|library| {
        library.item_mut(&keys[0]).added_at = library.now - DAY;
        for key in &keys[1..] {
            library.item_mut(key).added_at = library.now - 99 * DAY;
        }
        [
            library.add_playlist("owner", "Tonight", &[&keys[1]]),
            library.add_collection(env.movies, "Noir", &[&keys[2]]),
            library.add_collection(env.shows, "Noir", &[&lost]),
        ]
    });
    env.configure(&format!(
        "{AT_ONCE}[select]\nrecently_added = \"14d\"\nplaylists = [\"Tonight\"]\ncollections = [\"Noir\"]\n\
         pin = [\"plex:{}\", \"Movies/E*/*\"]\n",
        keys[3]
    ));
    env.sync();
    assert_eq!(env.cached().len(), 10);
    let section = |what: &str| format!("/library/sections/{}/{what}", env.movies);
    for path in [
        section("all"),
        "/playlists".to_owned(),
        format!("/playlists/{playlist}/items"),
        section("collections"),
        format!("/library/collections/{collection}/children"),
        format!("/library/metadata/{}", keys[3]),
    ] {
        for fault in [Fault::Status(500), Fault::LostRows, Fault::BadRow(0)] {
            env.plex.faults(|faults| faults.add(Matcher::exact_path(&path), fault.clone()));
            let run = env.run(&["sync", "--json"]).expect(3);
            assert_eq!(run.planned(), Vec::<String>::new(), "{path} {fault:?}");
            env.plex.faults(Faults::clear);
        }
    }
    env.plex.edit(|library| {
        for key in &keys {
            library.remove(key);
        }
    });
    env.sync();
    let stay = episodes("Lost", &[(0, 1), (1, 1), (1, 2), (2, 1), (2, 2)]);
    assert_eq!(env.cached(), [films(&["E"]), stay].concat(), "but an empty one does, save what a glob pins");
}
