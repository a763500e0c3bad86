//! What Plex's answers amount to: who wants which files, and what is left out.
//!
//! Most of it is told from the plan of a dry run; that a plan is what is done, `sync` and `limits` show.

use std::fs;

use crate::util::env::{Run, TestEnv, episode_path, movie_path, now};
use crate::util::fake_plex::{Extra, Media, RatingKey, SectionKind};

const DAY: i64 = 86400;

/// The plan's cachings, by path.
fn wanted(env: &TestEnv) -> Vec<String> {
    cachings(&env.dry_sync())
}

fn cachings(run: &Run) -> Vec<String> {
    let mut paths: Vec<String> =
        run.planned().iter().filter_map(|line| Some(line.strip_prefix("cache ")?.to_owned())).collect();
    paths.sort();
    paths
}

/// Media paths of episodes of one show.
fn episodes(show: &str, numbers: &[(i64, i64)]) -> Vec<String> {
    numbers.iter().map(|&(season, index)| episode_path(show, season, index)).collect()
}

/// A film of several versions, each in one file of that size on the array.
fn film_of_versions(env: &TestEnv, versions: &[(&str, usize)]) -> RatingKey {
    let media: Vec<Media> = versions
        .iter()
        .map(|(name, size)| {
            env.file(&format!("Movies/{name}"), *size);
            Media::file(&format!("/data/media/Movies/{name}"), i64::try_from(*size).unwrap())
        })
        .collect();
    env.plex.edit(|library| library.add_movie(env.movies, "Dune", 2021, &media))
}

/// A file that is two episodes, and the keys of these.
fn double_episode(env: &TestEnv) -> (&'static str, [RatingKey; 2]) {
    let file = "TV/Lost/Season 01/Lost - S01E01E02.mkv";
    env.file(file, 1000);
    let keys = env.plex.edit(|library| {
        let show = library.add_show(env.shows, "Lost");
        let path = format!("/data/media/{file}");
        [1, 2].map(|index| library.add_episode(&show, 1, index, &format!("Part {index}"), &path, 1000))
    });
    (file, keys)
}

#[test]
fn on_deck_is_read_by_library_for_the_owner_and_everybody_with_a_token() {
    let mut env = TestEnv::new();
    env.add_user("ben");
    let (film, episode) = (env.movie("Dune", 2021, 1000), env.episode("Lost", 1, 1, 1000));
    env.on_deck("owner", &film);
    env.on_deck("ben", &episode);
    let run = env.dry_sync();
    assert_eq!(cachings(&run), [movie_path("Dune", 2021), episode_path("Lost", 1, 1)]);
    let reasons = |path: &str| {
        let plan = run.json_of("plan");
        let row = plan["actions"].as_array().unwrap().iter().find(|row| row["path"] == path).unwrap().clone();
        row["reasons"].to_string()
    };
    assert_eq!(reasons(&movie_path("Dune", 2021)), r#"[{"source":"on_deck","user":"owner"}]"#);
    assert_eq!(reasons(&episode_path("Lost", 1, 1)), r#"[{"source":"on_deck","user":"ben"}]"#);
    let asked = env.plex.requests();
    for user in ["owner", "ben"] {
        for section in [env.movies, env.shows] {
            let path = format!("/library/sections/{section}/onDeck");
            let count = asked.iter().filter(|r| r.path == path && r.user.as_deref() == Some(user)).count();
            assert_eq!(count, 1, "{user} {path}");
        }
    }
}

#[test]
fn users_are_included_and_excluded_by_name() {
    let mut env = TestEnv::new();
    env.add_user("ben");
    let (his, hers) = (env.movie("Dune", 2021, 1000), env.movie("Alien", 1979, 1000));
    env.on_deck("ben", &his);
    env.on_deck("owner", &hers);
    let (dune, alien) = (movie_path("Dune", 2021), movie_path("Alien", 1979));
    let before = env.settings.clone();
    for (users, expected) in [
        ("", vec![&alien, &dune]),
        ("exclude = [\"ben\"]", vec![&alien]),
        ("exclude = [\"owner\"]", vec![&dune]),
        ("include = [\"ben\"]", vec![&dune]),
        ("include = [\"owner\", \"ben\"]\nexclude = [\"ben\"]", vec![&alien]),
    ] {
        env.settings = before.replace("[users.tokens]", &format!("[users]\n{users}\n[users.tokens]"));
        assert_eq!(wanted(&env).iter().collect::<Vec<_>>(), expected, "{users}");
    }
}

#[test]
fn libraries_are_included_by_title_and_by_id() {
    let mut env = TestEnv::new();
    let (film, episode) = (env.movie("Dune", 2021, 1000), env.episode("Lost", 1, 1, 1000));
    env.on_deck("owner", &film);
    env.on_deck("owner", &episode);
    let (dune, lost) = (movie_path("Dune", 2021), episode_path("Lost", 1, 1));
    let before = env.settings.clone();
    let by_id = format!("\"{}\"", env.shows);
    for (libraries, expected) in [
        ("\"*\"", vec![&dune, &lost]),
        ("\"Movies\"", vec![&dune]),
        (by_id.as_str(), vec![&lost]),
        ("\"TV Shows\", \"Movies\"", vec![&dune, &lost]),
    ] {
        env.settings = format!("{before}[select]\nlibraries = [{libraries}]\n");
        assert_eq!(wanted(&env).iter().collect::<Vec<_>>(), expected, "{libraries}");
    }
}

#[test]
fn a_configured_library_that_is_gone_is_reported_and_the_last_one_that_is_stops_the_run() {
    let mut env = TestEnv::new();
    let film = env.movie("Dune", 2021, 1000);
    env.on_deck("owner", &film);
    let before = env.settings.clone();
    env.settings = format!("{before}[select]\nlibraries = [\"Gone\", \"Movies\"]\n");
    let run = env.run(&["sync", "--json"]).expect(3);
    assert_eq!(cachings(&run), [movie_path("Dune", 2021)]);
    env.settings = format!("{before}[select]\nlibraries = [\"Gone\"]\n");
    let tree = env.snapshot("cache/media");
    let run = env.run(&["sync"]).expect(4);
    assert!(run.stderr.contains("Gone") && run.stderr.contains("Movies"), "{}", run.stderr);
    assert_eq!(env.snapshot("cache/media"), tree);
}

#[test]
fn a_user_who_sees_one_library_only_does_no_harm_to_the_others() {
    let mut env = TestEnv::new();
    env.add_user("ben");
    let (film, episode) = (env.movie("Dune", 2021, 1000), env.episode("Lost", 1, 1, 1000));
    env.plex.edit(|library| library.share_only("ben", &[env.shows]));
    for key in [&film, &episode] {
        env.on_deck("ben", key);
    }
    assert_eq!(wanted(&env), episodes("Lost", &[(1, 1)]));
    env.on_deck("owner", &film);
    assert_eq!(wanted(&env), [movie_path("Dune", 2021), episode_path("Lost", 1, 1)]);
}

#[test]
fn the_next_episodes_go_over_the_end_of_a_season_past_watched_ones_specials_and_gaps() {
    let mut env = TestEnv::new();
    let numbers = [(0, 1), (0, 9), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 4), (2, 5), (2, 6)];
    let keys = numbers.map(|(season, index)| env.episode("Lost", season, index, 1000));
    env.configure("[select]\nnext_episodes = 3\n");
    env.plex.edit(|library| {
        library.set_seen("owner", &keys[4], 1, Some(library.now - DAY), 0);
        library.set_seen("owner", &keys[6], 2, Some(library.now - DAY), 0);
    });
    env.on_deck("owner", &keys[3]);
    assert_eq!(wanted(&env), episodes("Lost", &[(1, 2), (2, 1), (2, 4), (2, 5)]));
}

#[test]
fn of_an_episode_without_a_number_only_itself_is_wanted() {
    let env = TestEnv::new();
    let keys: Vec<_> = (1..=3).map(|index| env.episode("News", 1, index, 1000)).collect();
    env.plex.edit(|library| library.item_mut(&keys[0]).index = None);
    env.on_deck("owner", &keys[0]);
    assert_eq!(wanted(&env), episodes("News", &[(1, 1)]));
    env.on_deck("owner", &keys[1]);
    assert_eq!(wanted(&env), episodes("News", &[(1, 2), (1, 3)]), "and it follows nothing");
}

#[test]
fn two_users_far_apart_want_nothing_of_what_lies_between_them() {
    let mut env = TestEnv::new();
    env.add_user("ben");
    env.configure("[select]\nnext_episodes = 1\n");
    let mut keys = Vec::new();
    for season in 1..=3 {
        keys.extend((1..=4).map(|index| env.episode("Lost", season, index, 1000)));
    }
    env.on_deck("owner", &keys[0]);
    env.on_deck("ben", &keys[9]);
    assert_eq!(wanted(&env), episodes("Lost", &[(1, 1), (1, 2), (3, 2), (3, 3)]));
}

#[test]
fn what_one_user_has_watched_is_still_next_for_another() {
    let mut env = TestEnv::new();
    env.add_user("ben");
    env.configure("[select]\nnext_episodes = 1\n");
    let keys: Vec<_> = (1..=3).map(|index| env.episode("Lost", 1, index, 1000)).collect();
    env.plex.edit(|library| library.set_seen("owner", &keys[1], 1, Some(library.now - DAY), 0));
    env.on_deck("ben", &keys[0]);
    assert_eq!(wanted(&env), episodes("Lost", &[(1, 1), (1, 2)]));
    env.plex.edit(|library| library.clear_on_deck("ben"));
    env.on_deck("owner", &keys[0]);
    assert_eq!(wanted(&env), episodes("Lost", &[(1, 1), (1, 3)]));
}

#[test]
fn what_was_last_viewed_too_long_ago_is_not_on_deck_and_what_was_never_viewed_is() {
    let mut env = TestEnv::new();
    env.configure("[select]\non_deck_max_age = \"7d\"\n");
    let lost: Vec<_> = (1..=2).map(|index| env.episode("Lost", 1, index, 1000)).collect();
    let found = env.episode("Found", 1, 1, 1000);
    let film = env.movie("Dune", 2021, 1000);
    env.plex.edit(|library| {
        library.set_on_deck("owner", &lost[0], Some(now() - 8 * DAY), 60_000);
        library.set_on_deck("owner", &film, Some(now() - 6 * DAY), 60_000);
        library.set_on_deck("owner", &found, None, 0);
    });
    assert_eq!(wanted(&env), [movie_path("Dune", 2021), episode_path("Found", 1, 1)]);
    env.settings = env.settings.replace("7d", "9d");
    assert_eq!(wanted(&env).len(), 4, "with it comes what follows it");
}

#[test]
fn all_versions_are_wanted_or_the_largest_or_the_smallest() {
    let mut env = TestEnv::new();
    let film = film_of_versions(&env, &[("Dune 1080.mkv", 2000), ("Dune 4k.mkv", 9000), ("Dune SD.mkv", 1000)]);
    env.on_deck("owner", &film);
    let before = env.settings.clone();
    let all = ["Movies/Dune 1080.mkv", "Movies/Dune 4k.mkv", "Movies/Dune SD.mkv"];
    for (versions, expected) in [("all", &all[..]), ("largest", &all[1..2]), ("smallest", &all[2..])] {
        env.settings = format!("{before}[select]\nversions = \"{versions}\"\n");
        assert_eq!(wanted(&env), expected, "{versions}");
    }
}

#[test]
fn the_parts_of_a_stacked_version_count_together_and_come_together() {
    let mut env = TestEnv::new();
    for name in ["Movies/cd1.avi", "Movies/cd2.avi", "Movies/one.mkv"] {
        env.file(name, 1000);
    }
    let stacked = Media::stacked(&[("/data/media/Movies/cd1.avi", 1000), ("/data/media/Movies/cd2.avi", 1000)]);
    let media = [Media::file("/data/media/Movies/one.mkv", 1500), stacked];
    let film = env.plex.edit(|library| library.add_movie(env.movies, "Dune", 2021, &media));
    env.on_deck("owner", &film);
    let before = env.settings.clone();
    for (versions, expected) in
        [("largest", &["Movies/cd1.avi", "Movies/cd2.avi"][..]), ("smallest", &["Movies/one.mkv"])]
    {
        env.settings = format!("{before}[select]\nversions = \"{versions}\"\n");
        assert_eq!(wanted(&env), expected, "{versions}");
    }
}

#[test]
fn a_film_in_two_libraries_is_one_file() {
    let env = TestEnv::new();
    let film = env.movie("Dune", 2021, 1000);
    let twin = env.plex.edit(|library| {
        let other = library.add_section("Favourites", SectionKind::Movie, &["/data/media/Movies"]);
        let path = format!("/data/media/{}", movie_path("Dune", 2021));
        library.add_movie(other, "Dune", 2021, &[Media::file(&path, 1000)])
    });
    for key in [&film, &twin] {
        env.on_deck("owner", key);
    }
    let run = env.run(&["sync", "--json"]).expect(0);
    assert_eq!(run.planned(), [format!("cache {}", movie_path("Dune", 2021))]);
    assert_eq!(env.run(&["sync", "--json"]).expect(0).planned(), Vec::<String>::new());
}

#[test]
fn versions_that_the_server_optimised_are_left_alone() {
    let mut env = TestEnv::new();
    env.file("Movies/Dune.mkv", 9000);
    env.file("Movies/Plex Versions/TV/Dune.mp4", 100);
    let media = [
        Media::file("/data/media/Movies/Dune.mkv", 9000),
        Media::file("/data/media/Movies/Plex Versions/TV/Dune.mp4", 100).optimized(),
    ];
    let film = env.plex.edit(|library| library.add_movie(env.movies, "Dune", 2021, &media));
    env.on_deck("owner", &film);
    assert_eq!(wanted(&env), ["Movies/Dune.mkv"]);
    env.configure("[select]\nversions = \"smallest\"\n");
    assert_eq!(wanted(&env), ["Movies/Dune.mkv"]);
}

#[test]
fn stacked_parts_are_cached_whole_or_not_at_all() {
    let env = TestEnv::new();
    let names = ["Movies/Dune cd1.avi", "Movies/Dune cd2.avi"];
    let files = names.map(|name| env.file(name, 1000));
    let plex_names = names.map(|name| format!("/data/media/{name}"));
    let media = [Media::stacked(&[(&plex_names[0], 1000), (&plex_names[1], 1000)])];
    let film = env.plex.edit(|library| library.add_movie(env.movies, "Dune", 2021, &media));
    env.on_deck("owner", &film);
    fs::remove_file(&files[1]).unwrap();
    let run = env.dry_sync();
    assert_eq!(run.planned(), Vec::<String>::new());
    assert_eq!(run.left(), ["missing Movies/Dune cd1.avi"]);
    env.file(names[1], 1000);
    env.sync();
    assert_eq!(env.cached(), names);
}

#[test]
fn a_file_of_two_episodes_counts_once_and_stays_while_one_of_them_is_wanted() {
    let mut env = TestEnv::new();
    env.configure("[evict]\nwatched_after = \"0\"\nunwanted_after = \"0\"\n");
    let (file, keys) = double_episode(&env);
    env.on_deck("owner", &keys[0]);
    let run = env.run(&["sync", "--json"]).expect(0);
    assert_eq!(run.planned(), [format!("cache {file}")]);
    env.plex.edit(|library| library.mark_watched("owner", &keys[0], library.now - DAY));
    env.sync();
    assert_eq!(env.cached(), [file], "the second episode is on deck now");
    env.plex.edit(|library| library.mark_watched("owner", &keys[1], library.now - DAY));
    env.sync();
    assert_eq!(env.cached(), Vec::<String>::new());
}

#[test]
fn what_matches_an_exclusion_is_never_wanted() {
    let mut env = TestEnv::new();
    let keys: Vec<_> = ["Lost", "Kids"].iter().map(|show| env.episode(show, 1, 1, 1000)).collect();
    let film = env.movie("Dune", 2021, 1000);
    for key in keys.iter().chain([&film]) {
        env.on_deck("owner", key);
    }
    env.configure("[select]\nexclude = [\"**/Kids/**\", \"Movies/*/*.mkv\", \"Lost*\"]\n");
    assert_eq!(wanted(&env), episodes("Lost", &[(1, 1)]), "a glob matches the whole path");
}

#[test]
fn what_plays_now_is_not_copied_and_what_follows_it_is() {
    for on_deck in [true, false] {
        let mut env = TestEnv::new();
        env.configure("[select]\nnext_episodes = 2\n");
        let keys: Vec<_> = (1..=4).map(|index| env.episode("Lost", 1, index, 1000)).collect();
        if on_deck {
            env.on_deck("owner", &keys[0]);
        }
        env.plex.edit(|library| library.start_session("owner", &keys[0], false));
        let run = env.dry_sync();
        assert_eq!(cachings(&run), episodes("Lost", &[(1, 2), (1, 3)]), "on deck: {on_deck}");
        let playing = format!("playing {}", episode_path("Lost", 1, 1));
        assert_eq!(run.left(), if on_deck { vec![playing] } else { Vec::new() });
    }
}

#[test]
fn a_transcoded_session_without_a_path_protects_every_version_of_its_item() {
    let mut env = TestEnv::new();
    env.configure("[evict]\nunwanted_after = \"0\"\n");
    let film = film_of_versions(&env, &[("Dune 1080.mkv", 2000), ("Dune 4k.mkv", 9000)]);
    let other = env.movie("Alien", 1979, 1000);
    env.on_deck("owner", &film);
    env.on_deck("owner", &other);
    env.sync();
    assert_eq!(env.cached().len(), 3);
    let session = env.plex.edit(|library| {
        library.clear_on_deck("owner");
        library.start_session("owner", &film, true)
    });
    let run = env.run(&["sync", "--json"]).expect(0);
    assert_eq!(run.planned(), [format!("evict {}", movie_path("Alien", 1979))]);
    assert_eq!(run.left(), ["playing Movies/Dune 1080.mkv", "playing Movies/Dune 4k.mkv"]);
    env.plex.edit(|library| library.stop_session(&session));
    env.sync();
    assert_eq!(env.cached(), Vec::<String>::new());
}

#[test]
fn a_session_protects_the_file_that_was_cached_for_another_item() {
    let mut env = TestEnv::new();
    env.configure("[evict]\nunwanted_after = \"0\"\n");
    let (file, keys) = double_episode(&env);
    env.on_deck("owner", &keys[0]);
    env.sync();
    env.plex.edit(|library| {
        library.clear_on_deck("owner");
        library.start_session("owner", &keys[1], true);
    });
    env.sync();
    assert_eq!(env.cached(), [file]);
}

#[test]
fn a_session_protects_the_file_that_its_item_no_longer_has() {
    let mut env = TestEnv::new();
    env.configure("[evict]\nunwanted_after = \"0\"\n");
    let film = env.movie("Dune", 2021, 1000);
    env.on_deck("owner", &film);
    env.sync();
    env.plex.edit(|library| {
        library.clear_on_deck("owner");
        library.start_session("owner", &film, true);
        library.set_media(&film, &[Media::file("/data/media/Movies/Dune 4k.mkv", 9000)]);
    });
    env.sync();
    assert_eq!(env.cached(), [movie_path("Dune", 2021)]);
}

#[test]
fn live_television_and_trailers_that_play_do_no_harm() {
    let mut env = TestEnv::new();
    env.configure("[evict]\nunwanted_after = \"0\"\n");
    let (dune, alien) = (env.movie("Dune", 2021, 1000), env.movie("Alien", 1979, 1000));
    env.on_deck("owner", &dune);
    env.sync();
    env.plex.edit(|library| {
        library.start_extra_session("owner", Extra::LiveTv);
        library.start_extra_session("owner", Extra::Trailer);
        library.clear_on_deck("owner");
    });
    env.on_deck("owner", &alien);
    env.sync();
    assert_eq!(env.cached(), [movie_path("Alien", 1979)]);
}

#[test]
fn an_item_of_live_television_on_deck_does_no_harm() {
    let env = TestEnv::new();
    let media = [Media::without_file()];
    let recording = env.plex.edit(|library| library.add_movie(env.movies, "Recording", 2026, &media));
    let film = env.movie("Dune", 2021, 1000);
    env.on_deck("owner", &recording);
    env.on_deck("owner", &film);
    assert_eq!(wanted(&env), [movie_path("Dune", 2021)]);
}

#[test]
fn a_library_that_is_hidden_from_the_home_screen_counts() {
    let env = TestEnv::new();
    let film = env.movie("Dune", 2021, 1000);
    env.on_deck("owner", &film);
    for hidden in [1, 2] {
        env.plex.edit(|library| library.set_hidden(env.movies, hidden));
        assert_eq!(wanted(&env), [movie_path("Dune", 2021)], "{hidden}");
    }
}

#[test]
fn a_pin_keeps_what_is_cached() {
    let mut env = TestEnv::new();
    env.configure("[evict]\nunwanted_after = \"0\"\n");
    let (film, episode) = (env.movie("Dune", 2021, 1000), env.episode("Lost", 1, 1, 1000));
    env.on_deck("owner", &film);
    env.on_deck("owner", &episode);
    env.sync();
    env.plex.edit(|library| library.clear_on_deck("owner"));
    let before = env.settings.clone();
    env.configure("[select]\npin = [\"Movies/Dune*/**\"]\n");
    env.sync();
    assert_eq!(env.cached(), [movie_path("Dune", 2021)]);
    env.settings = before;
    env.sync();
    assert_eq!(env.cached(), Vec::<String>::new(), "without the pin it goes");
}
