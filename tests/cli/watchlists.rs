//! Watchlists and feeds: what is found in the libraries for an entry, how long it is wanted, and that a list
//! which cannot be read, or hides something, is not an empty one.

use crate::util::env::{Run, TestEnv, episode_path, movie_path};
use crate::util::fake_plex::{Fault, Faults, Kind, Matcher, RatingKey, Wish, account_uuid};

/// What is unwanted goes at once.
fn world() -> TestEnv {
    let mut env = TestEnv::new();
    env.configure("[evict]\nunwanted_after = \"0\"\n");
    env
}

fn wish(env: &TestEnv, user: &str, key: &RatingKey) {
    env.plex.edit(|library| {
        let wish = library.wish(key);
        library.add_wish(user, wish);
    });
}

/// The episodes of a new show, `count` in each season.
fn show(env: &TestEnv, title: &str, seasons: i64, count: i64) -> Vec<RatingKey> {
    (1..=seasons)
        .flat_map(|season| (1..=count).map(move |index| (season, index)))
        .map(|(season, index)| env.episode(title, season, index, 1000))
        .collect()
}

/// Puts the show of an episode on somebody's watchlist.
fn show_wish(env: &TestEnv, user: &str, episode: &RatingKey) {
    env.plex.edit(|library| {
        let show = library.show_of(episode);
        let wish = library.wish(&show);
        library.add_wish(user, wish);
    });
}

fn cachings(run: &Run) -> Vec<String> {
    let mut planned: Vec<String> =
        run.planned().iter().filter_map(|line| Some(line.strip_prefix("cache ")?.to_owned())).collect();
    planned.sort();
    planned
}

fn warnings(run: &Run) -> Vec<String> {
    let lines = run.json();
    let warnings = lines.iter().filter(|line| line["type"] == "warning");
    warnings.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_watchlist_is_cached_and_what_leaves_it_is_let_go() {
    let mut env = world();
    env.configure("[select]\nwatchlist_episodes = 2\n");
    let film = env.movie("Dune", 2021, 1000);
    let episodes = show(&env, "Lost", 1, 4);
    wish(&env, "owner", &film);
    show_wish(&env, "owner", &episodes[0]);
    let run = env.run(&["sync", "--json"]).expect(0);
    let expected = [movie_path("Dune", 2021), episode_path("Lost", 1, 1), episode_path("Lost", 1, 2)];
    assert_eq!(env.cached(), expected);
    assert_eq!(run.json_of("plan")["actions"][0]["reasons"].to_string(), r#"[{"source":"watchlist","user":"owner"}]"#);
    env.plex.edit(|library| library.clear_wishes("owner"));
    env.sync();
    assert_eq!(env.cached(), Vec::<String>::new());
}

#[test]
fn of_two_films_of_one_title_the_one_that_is_meant_is_cached() {
    let env = world();
    let (old, new) = (env.movie("Dune", 1984, 1000), env.movie("Dune", 2021, 1000));
    wish(&env, "owner", &old);
    assert_eq!(cachings(&env.dry_sync()), [movie_path("Dune", 1984)]);
    // By an id of another service alone, as the library was matched by an older agent.
    env.plex.edit(|library| {
        library.clear_wishes("owner");
        let mut meant = library.wish(&new);
        meant.ids = vec!["imdb://tt1160419".to_owned()];
        library.add_wish("owner", meant);
        library.item_mut(&new).guid = "com.plexapp.agents.imdb://tt1160419?lang=en".to_owned();
        library.item_mut(&old).guid = "com.plexapp.agents.imdb://tt0087182?lang=en".to_owned();
    });
    assert_eq!(cachings(&env.dry_sync()), [movie_path("Dune", 2021)]);
}

#[test]
fn of_two_shows_of_which_one_has_the_others_title_in_its_own_the_one_that_is_meant_is_cached() {
    for meant in ["Lost", "Lost in Space", "The Lost"] {
        let mut env = world();
        env.configure("[select]\nwatchlist_episodes = 1\n");
        for title in ["Lost", "Lost in Space", "The Lost"] {
            let episodes = show(&env, title, 1, 2);
            if title == meant {
                show_wish(&env, "owner", &episodes[0]);
            }
        }
        assert_eq!(cachings(&env.dry_sync()), [episode_path(meant, 1, 1)]);
    }
}

#[test]
fn a_show_goes_on_where_that_user_is_and_not_where_the_owner_is() {
    let mut env = world();
    env.configure("[select]\nwatchlist_episodes = 2\n");
    env.plex.edit(|library| library.add_home_user("anna", "anna-token", None));
    let episodes = show(&env, "Lost", 3, 3);
    env.plex.edit(|library| {
        let at = library.now - 86400;
        // Most of the first season was passed over.
        for key in [&episodes[0], &episodes[3]] {
            library.set_seen("anna", key, 1, Some(at), 0);
        }
        library.set_seen("owner", &episodes[0], 1, Some(at), 0);
    });
    show_wish(&env, "anna", &episodes[0]);
    let expected = [episode_path("Lost", 2, 2), episode_path("Lost", 2, 3)];
    assert_eq!(cachings(&env.dry_sync()), expected, "anna is in season two");
    show_wish(&env, "owner", &episodes[0]);
    let both = [episode_path("Lost", 1, 2), episode_path("Lost", 1, 3)].into_iter().chain(expected);
    assert_eq!(cachings(&env.dry_sync()), both.collect::<Vec<_>>());
}

#[test]
fn a_watchlist_of_many_pages_is_read_whole() {
    let env = world();
    for number in 0..250 {
        env.plex.edit(|library| library.add_wish("owner", Wish::absent(Kind::Movie, number)));
    }
    let film = env.movie("Dune", 2021, 1000);
    wish(&env, "owner", &film);
    env.sync();
    assert_eq!(env.cached(), [movie_path("Dune", 2021)]);
    let starts: Vec<Option<String>> = env
        .plex
        .outside_requests()
        .iter()
        .filter(|request| request.path.starts_with("/discover"))
        .map(|request| request.header("X-Plex-Container-Start").map(str::to_owned))
        .collect();
    assert_eq!(starts, [Some("0".to_owned()), Some("100".to_owned()), Some("200".to_owned())]);
}

#[test]
fn one_page_that_does_not_come_takes_nothing_away() {
    let env = world();
    let (first, last) = (env.movie("Dune", 2021, 1000), env.movie("Heat", 1995, 1000));
    wish(&env, "owner", &first);
    for number in 0..110 {
        env.plex.edit(|library| library.add_wish("owner", Wish::absent(Kind::Show, number)));
    }
    wish(&env, "owner", &last);
    env.sync();
    assert_eq!(env.cached().len(), 2);
    // The first film leaves the list while the second page cannot be read: neither may go.
    env.plex.edit(|library| {
        library.clear_wishes("owner");
        for number in 0..112 {
            library.add_wish("owner", Wish::absent(Kind::Show, number));
        }
    });
    let page = Matcher::path("/discover").with("X-Plex-Container-Start", "100");
    env.plex.outside_faults(|faults| faults.add(page, Fault::Status(503)));
    let run = env.run(&["sync", "--json"]).expect(3);
    assert_eq!(env.cached().len(), 2);
    assert!(warnings(&run).len() == 1 && warnings(&run)[0].contains("watchlist of owner"), "{}", run.stdout);
    env.plex.outside_faults(Faults::clear);
    env.sync();
    assert_eq!(env.cached(), Vec::<String>::new());
}

#[test]
fn what_a_friend_wishes_is_cached_and_a_private_list_is_an_answer() {
    let mut env = world();
    env.configure("[select]\nfriends_watchlists = true\nwatchlist_episodes = 1\n");
    env.plex.edit(|library| {
        library.add_friend("ben", "ben-token");
        library.add_stranger("carl");
    });
    let (film, other) = (env.movie("Dune", 2021, 1000), env.movie("Heat", 1995, 1000));
    let episodes = show(&env, "Lost", 1, 3);
    env.plex.edit(|library| {
        let at = library.now - 86400;
        library.set_seen("ben", &episodes[0], 1, Some(at), 0);
        library.set_seen("owner", &episodes[1], 1, Some(at), 0);
        for number in 0..120 {
            library.add_wish("ben", Wish::absent(Kind::Movie, number));
        }
    });
    wish(&env, "ben", &film);
    show_wish(&env, "ben", &episodes[0]);
    wish(&env, "carl", &other);
    show_wish(&env, "carl", &episodes[0]);
    let run = env.run(&["sync", "--json"]).expect(0);
    let lost = [1, 2].map(|index| episode_path("Lost", 1, index));
    let films = [movie_path("Dune", 2021), movie_path("Heat", 1995)];
    assert_eq!(env.cached(), [&films[..], &lost[..]].concat(), "ben goes on at 2, and carl begins");
    let reasons = run.json_of("plan")["actions"].to_string();
    assert!(reasons.contains(r#"{"source":"friend_watchlist","user":"carl"}"#), "{reasons}");
    assert!(env.plex.outside_requests().iter().all(|request| request.body.len() < 1000));

    env.plex.edit(|library| library.set_private("carl", true));
    env.sync();
    assert_eq!(env.cached(), [&films[..1], &lost[1..]].concat(), "carl's wishes are not known to exist any more");
}

#[test]
fn friends_who_cannot_be_asked_keep_what_they_wanted() {
    let mut env = world();
    env.configure("[select]\nfriends_watchlists = true\n");
    env.plex.edit(|library| library.add_stranger("carl"));
    let film = env.movie("Dune", 2021, 1000);
    wish(&env, "carl", &film);
    env.sync();
    env.plex.edit(|library| library.clear_wishes("carl"));
    // Of the friends, and of the list of one of them.
    for skip in [0, 1] {
        let matcher = Matcher::path("/community").skip(skip);
        env.plex.outside_faults(|faults| faults.add(matcher, Fault::TooManyRequests { retry_after: Some(600) }));
        env.run(&["sync"]).expect(3);
        assert_eq!(env.cached(), [movie_path("Dune", 2021)]);
        env.plex.outside_faults(Faults::clear);
    }
    env.sync();
    assert_eq!(env.cached(), Vec::<String>::new());
}

/// Both forms of a feed, with an entry of the show that the owner is in the middle of.
#[test]
fn a_feed_is_read_in_both_forms_and_without_a_token() {
    for form in ["", "?format=json"] {
        let mut env = world();
        env.configure(&format!("[select]\nwatchlist_episodes = 1\nrss = [\"https://rss.plex.tv/s3cret{form}\"]\n"));
        let film = env.movie("Dune & Co", 2021, 1000);
        let episodes = show(&env, "Lost", 1, 3);
        env.plex.edit(|library| {
            let show = library.show_of(&episodes[0]);
            library.item_mut(&film).external_guids = vec!["imdb://tt1".to_owned(), "tmdb://2".to_owned()];
            library.item_mut(&show).external_guids = vec!["tvdb://2".to_owned()];
            library.set_seen("owner", &episodes[0], 1, Some(library.now - 86400), 0);
            let feed =
                vec![(library.wish(&film), None), (library.wish(&show), None), (Wish::absent(Kind::Movie, 1), None)];
            library.set_feed("s3cret", feed);
        });
        let run = env.run(&["sync", "-vv"]).expect(0);
        assert_eq!(env.cached(), [movie_path("Dune & Co", 2021), episode_path("Lost", 1, 2)], "{form}");
        let requests = env.plex.outside_requests();
        let of_feed: Vec<_> = requests.iter().filter(|request| request.path.starts_with("/rss")).collect();
        assert!(of_feed.len() == 1 && of_feed[0].header("X-Plex-Token").is_none());
        let state: String = env
            .snapshot("state")
            .entries
            .into_values()
            .map(|entry| String::from_utf8_lossy(&entry.contents).into_owned())
            .collect();
        let said = format!("{}{}{state}", run.stdout, run.stderr);
        assert!(!said.contains("s3cret"), "the address of a feed is as good as a password: {said}");
    }
}

#[test]
fn a_show_in_a_feed_goes_on_where_the_author_of_the_entry_is() {
    let mut env = world();
    env.configure("[select]\nwatchlist_episodes = 1\nrss = [\"https://rss.plex.tv/house\"]\n");
    env.plex.edit(|library| library.add_home_user("anna", "anna-token", None));
    let episodes = show(&env, "Lost", 1, 4);
    let authors = [Some(account_uuid("anna")), Some(account_uuid("owner")), Some("somebody-else".to_owned())];
    for (author, next) in authors.into_iter().zip([3, 2, 1]) {
        env.plex.edit(|library| {
            let at = library.now - 86400;
            for (user, key) in [("anna", 0), ("anna", 1), ("owner", 0)] {
                library.set_seen(user, &episodes[key], 1, Some(at), 0);
            }
            let show = library.show_of(&episodes[0]);
            library.item_mut(&show).external_guids = vec!["tvdb://2".to_owned()];
            let feed = vec![(library.wish(&show), author)];
            library.set_feed("house", feed);
        });
        assert_eq!(cachings(&env.dry_sync()), [episode_path("Lost", 1, next)]);
    }
}

#[test]
fn what_leaves_a_feed_is_wanted_until_rss_keep_is_over() {
    let mut env = world();
    env.configure("[select]\nrss = [\"https://rss.plex.tv/house\"]\n");
    let film = env.movie("Dune", 2021, 1000);
    env.plex.edit(|library| {
        library.item_mut(&film).external_guids = vec!["imdb://tt1".to_owned()];
        let feed = vec![(library.wish(&film), None)];
        library.set_feed("house", feed);
    });
    env.sync();
    env.plex.edit(|library| library.set_feed("house", Vec::new()));
    env.sync();
    assert_eq!(env.cached(), [movie_path("Dune", 2021)]);
    env.settings = env.settings.replace("[select]", "[select]\nrss_keep = \"0\"");
    env.sync();
    assert_eq!(env.cached(), Vec::<String>::new());
}

#[test]
fn a_feed_that_is_down_takes_nothing_away_with_a_last_copy_or_without() {
    for with_copy in [true, false] {
        let mut env = world();
        env.configure("[select]\nrss = [\"https://rss.plex.tv/house\"]\n");
        let film = env.movie("Dune", 2021, 1000);
        env.plex.edit(|library| {
            library.item_mut(&film).external_guids = vec!["imdb://tt1".to_owned()];
            let feed = vec![(library.wish(&film), None)];
            library.set_feed("house", feed);
        });
        env.sync();
        if !with_copy {
            for name in ["feeds.json", "wants.json"] {
                std::fs::remove_file(env.path("state").join(name)).unwrap();
            }
        }
        for fault in [Fault::Status(502), Fault::LoginPage, Fault::Truncated, Fault::EmptyBody, Fault::Reset] {
            env.plex.outside_faults(|faults| faults.add(Matcher::path("/rss"), fault.clone()));
            let run = env.run(&["sync", "--json"]).expect(3);
            assert_eq!(env.cached(), [movie_path("Dune", 2021)], "{fault:?}, with a copy: {with_copy}");
            assert!(warnings(&run).len() == 1 && warnings(&run)[0].contains("feed 1"), "{}", run.stdout);
            env.plex.outside_faults(Faults::clear);
        }
        // Without anything known from before, only an answer can tell that nobody wants it.
        env.plex.edit(|library| library.set_feed("house", Vec::new()));
        env.settings = env.settings.replace("[select]", "[select]\nrss_keep = \"0\"");
        env.sync();
        assert_eq!(env.cached(), Vec::<String>::new());
    }
}

#[test]
fn a_film_that_is_new_in_the_library_is_found_for_an_old_wish() {
    let env = world();
    let wished = env.plex.edit(|library| {
        let wish = Wish::absent(Kind::Movie, 7);
        library.add_wish("owner", wish.clone());
        wish
    });
    env.sync();
    assert_eq!(env.cached(), Vec::<String>::new());
    let film = env.movie("Dune", 2021, 1000);
    env.plex.edit(|library| library.item_mut(&film).guid = format!("plex://movie/{}", wished.id));
    env.sync();
    assert_eq!(env.cached(), [movie_path("Dune", 2021)]);
}
