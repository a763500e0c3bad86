//! Everybody in the house: who counts, by which token each is asked, what is kept of plex.tv's answers, and
//! that a user, or plex.tv, who does not answer costs nobody a file.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use crate::util::env::{Run, TestEnv, episode_path, movie_path};
use crate::util::fake_plex::{Fault, Faults, Matcher, Media};

const SWITCH: &str = "/switch";
const SHARES: &str = "/shared_servers";

/// A film on the deck of each of these; anna is at home, ben is a friend, and nobody has a pasted token.
/// What is unwanted goes at once.
fn house() -> TestEnv {
    let mut env = TestEnv::new();
    env.configure("[evict]\nunwanted_after = \"0\"\n");
    env.plex.edit(|library| {
        library.add_home_user("anna", "anna-token", None);
        library.add_friend("ben", "ben-token");
    });
    for (user, title, year) in [("owner", "Dune", 2021), ("anna", "Heat", 1995), ("ben", "Alien", 1979)] {
        let film = env.movie(title, year, 3000);
        env.on_deck(user, &film);
    }
    env
}

fn films() -> [String; 3] {
    [movie_path("Alien", 1979), movie_path("Dune", 2021), movie_path("Heat", 1995)]
}

/// How often plex.tv was asked for something that ends so.
fn asked(env: &TestEnv, ending: &str) -> usize {
    env.plex.outside_requests().iter().filter(|request| request.path.ends_with(ending)).count()
}

/// The warnings of a run with `--json`, each with its way out.
#[track_caller]
fn warnings(run: &Run) -> Vec<String> {
    let lines = run.json();
    let warnings = lines.iter().filter(|line| line["type"] == "warning");
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    warnings.map(|line| format!("{} | {}", text(line, "message"), text(line, "hint"))).collect()
}

fn plex_tv_fails(env: &TestEnv, fault: Fault) {
    env.plex.outside_faults(|faults| faults.add(Matcher::any(), fault));
}

fn clear_decks(env: &TestEnv) {
    env.plex.edit(|library| ["owner", "anna", "ben"].iter().for_each(|user| library.clear_on_deck(user)));
}

#[test]
fn home_users_and_those_with_whom_the_server_is_shared_are_known_without_a_pasted_token() {
    let env = house();
    env.sync();
    assert_eq!(env.cached(), films());
    assert_eq!((asked(&env, SHARES), asked(&env, "/home/users")), (1, 1));
}

#[test]
fn tokens_are_kept_for_the_owner_alone_and_never_shown() {
    let env = house();
    let run = env.run(&["sync", "-vv"]).expect(0);
    let file = env.path("state/tokens.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let kept = fs::read_to_string(&file).unwrap();
    let secrets = ["anna-token", "ben-token", "anna-account-1"];
    assert!(secrets.iter().all(|secret| kept.contains(secret)), "{kept}");
    for (name, entry) in env.snapshot("state").entries {
        let text = String::from_utf8_lossy(&entry.contents).into_owned();
        let is_clean = secrets.iter().chain(&["owner-token"]).all(|secret| !text.contains(secret));
        assert!(is_clean || name == "tokens.json", "{name}: {text}");
    }
    let said = format!("{}{}", run.stdout, run.stderr);
    assert!(secrets.iter().chain(&["owner-token"]).all(|secret| !said.contains(secret)), "{said}");
    for request in env.plex.outside_requests() {
        assert!(secrets.iter().chain(&["owner-token"]).all(|s| !request.target.contains(s)), "{}", request.target);
    }
}

#[test]
fn a_dry_run_asks_and_keeps_nothing() {
    let env = house();
    assert_eq!(env.dry_sync().planned().len(), 3);
    assert!(!env.path("state").exists());
}

#[test]
fn the_second_run_asks_plex_tv_for_watchlists_alone() {
    let env = house();
    env.sync();
    assert_eq!(asked(&env, SWITCH), 1);
    env.plex.clear_requests();
    env.sync();
    let paths: Vec<String> = env.plex.outside_requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/discover/library/sections/watchlist/all"; 2], "the owner's and anna's");
}

/// The list of users is asked for again after a day. plex.tv says that there is no home where there was
/// one, or names fewer than it says: nobody has left because of that.
#[test]
fn a_home_that_was_there_and_a_list_that_lost_somebody_evict_nothing() {
    let env = house();
    env.sync();
    assert_eq!(env.cached(), films());
    let file = env.path("state/tokens.json");
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let fewer = "<MediaContainer size=\"2\"><SharedServer id=\"1\" userID=\"9\"/></MediaContainer>";
    let (home, shares) = ("/plex.tv/api/v2/home/users", "/plex.tv/api/servers/");
    for (path, fault) in [
        (home, Fault::Status(403)),
        (home, Fault::Status(404)),
        (home, Fault::Says("{\"id\": 1}")),
        (shares, Fault::Says(fewer)),
    ] {
        let mut old = kept.clone();
        old["listed_at"] = "2001-01-01T00:00:00Z".into();
        fs::write(&file, old.to_string()).unwrap();
        env.plex.clear_requests();
        env.plex.outside_faults(|faults| faults.add(Matcher::path(path), fault.clone()));
        let run = env.run(&["sync", "--json"]).expect(3);
        assert_eq!(asked(&env, SHARES), 1);
        assert_eq!(run.planned(), Vec::<String>::new(), "{path} {fault:?}");
        assert_eq!(warnings(&run).len(), 1, "{:?}", warnings(&run));
        env.plex.outside_faults(Faults::clear);
    }
}

#[test]
fn nobody_asks_plex_tv_when_every_user_is_named_and_has_a_token() {
    let mut env = house();
    env.configure(
        "[users]\ninclude = [\"owner\", \"ben\"]\n[users.tokens]\nben = \"ben-token\"\n[select]\nwatchlist = false\n",
    );
    env.sync();
    assert_eq!(env.cached(), films()[..2]);
    assert!(env.plex.outside_requests().is_empty());
}

#[test]
fn a_pasted_token_beats_that_of_plex_tv_which_is_not_asked_about_that_user() {
    let mut env = house();
    env.configure("[users]\ninclude = [\"anna\"]\n[users.tokens]\nanna = \"anna-token\"\n");
    env.sync();
    assert_eq!(env.cached(), films()[2..]);
    assert!(env.plex.outside_requests().is_empty());
}

#[test]
fn users_are_included_and_excluded_by_name() {
    let mut env = house();
    let before = env.settings.clone();
    for (users, expected) in [
        ("include = [\"anna\"]", vec![2]),
        ("exclude = [\"ben\", \"owner\"]", vec![2]),
        ("include = [\"*\"]\nexclude = [\"anna\"]", vec![0, 1]),
    ] {
        env.settings = format!("{before}[users]\n{users}\n");
        let expected: Vec<String> =
            expected.into_iter().map(|film: usize| format!("cache {}", films()[film])).collect();
        let mut planned = env.dry_sync().planned();
        planned.sort();
        assert_eq!(planned, expected, "{users}");
    }
}

#[test]
fn what_is_set_for_one_user_holds_for_that_user_alone() {
    let mut env = TestEnv::new();
    env.plex.edit(|library| {
        library.add_home_user("anna", "anna-token", None);
        library.add_home_user("ben", "ben-token", None);
    });
    let keys: Vec<_> = (1..=40).map(|index| env.episode("Lost", 1, index, 1000)).collect();
    for (user, at) in [("owner", 0), ("anna", 9), ("ben", 29)] {
        env.on_deck(user, &keys[at]);
    }
    env.configure(
        "[select]\nnext_episodes = 1\n[users.override.anna]\nnext_episodes = 3\n[users.override.ben]\non_deck = false\n",
    );
    let mut planned = env.dry_sync().planned();
    planned.sort();
    let expected = [1, 2, 10, 11, 12, 13].map(|index| format!("cache {}", episode_path("Lost", 1, index)));
    assert_eq!(planned, expected);
}

#[test]
fn two_users_twenty_episodes_apart_want_nothing_of_what_lies_between_them() {
    let mut env = TestEnv::new();
    env.configure("[select]\nnext_episodes = 2\n");
    env.plex.edit(|library| library.add_home_user("anna", "anna-token", None));
    let keys: Vec<_> = (1..=24).map(|index| env.episode("Lost", 1, index, 1000)).collect();
    env.on_deck("owner", &keys[0]);
    env.on_deck("anna", &keys[20]);
    let mut planned = env.dry_sync().planned();
    planned.sort();
    let expected = [1, 2, 3, 21, 22, 23].map(|index| format!("cache {}", episode_path("Lost", 1, index)));
    assert_eq!(planned, expected);
}

#[test]
fn one_user_who_cannot_be_asked_keeps_the_files_and_the_others_are_handled() {
    for (fault, name) in [
        (Fault::Status(401), "accept the token"),
        (Fault::Status(500), "status 500"),
        (Fault::Hang, "no answer within 1 s"),
    ] {
        let mut env = house();
        env.settings = env.settings.replace("[evict]", "[select]\nlibraries = [\"Movies\"]\n[evict]");
        env.sync();
        clear_decks(&env);
        env.plex.faults(|faults| faults.add(Matcher::path("/library/").user("anna"), fault));
        let run = env.command(&["sync", "--json"]).env("PLEXCACHE_PLEX__TIMEOUT", "1s").output().unwrap();
        let run = Run::from(run).expect(3);
        assert_eq!(env.cached(), films()[2..], "{name}");
        let said = warnings(&run);
        assert!(said.iter().any(|line| line.contains("anna") && line.contains(name)), "{said:?}");
        assert!(!said.iter().any(|line| line.contains("ben") || line.contains("owner")), "{said:?}");
    }
}

#[test]
fn without_plex_tv_what_is_local_goes_on_with_one_warning_and_its_way_out() {
    for fault in [Fault::Reset, Fault::Status(503), Fault::TooManyRequests { retry_after: Some(600) }, Fault::LoginPage]
    {
        let env = house();
        plex_tv_fails(&env, fault.clone());
        let run = env.run(&["sync", "--json"]).expect(3);
        assert_eq!(env.cached(), films()[1..2], "{fault:?}");
        let said = warnings(&run);
        assert_eq!(said.len(), 1, "{fault:?}: {said:?}");
        assert!(said[0].contains("plex.tv") && said[0].contains("household"), "{said:?}");
        if fault == Fault::Reset {
            assert!(said[0].contains("select.watchlist = false"), "{said:?}");
        }
    }
}

#[test]
fn a_token_without_rights_at_plex_tv_is_named_once_and_the_rest_is_done() {
    let env = house();
    plex_tv_fails(&env, Fault::Status(401));
    let run = env.run(&["sync", "--json"]).expect(3);
    let said = warnings(&run);
    assert!(said.len() == 1 && said[0].contains("PlexOnlineToken"), "{said:?}");
    assert_eq!(env.cached(), films()[1..2]);
}

#[test]
fn when_plex_tv_is_down_the_tokens_that_were_kept_are_used_and_nothing_is_evicted_for_it() {
    let env = house();
    let wished = env.movie("Blade Runner", 1982, 3000);
    env.plex.edit(|library| {
        let wish = library.wish(&wished);
        library.add_wish("anna", wish);
    });
    env.sync();
    assert_eq!(env.cached().len(), 4);
    let other = env.movie("Tenet", 2020, 3000);
    clear_decks(&env);
    env.on_deck("anna", &other);
    plex_tv_fails(&env, Fault::TooManyRequests { retry_after: None });
    let run = env.run(&["sync", "--json"]).expect(3);
    assert_eq!(env.cached(), [movie_path("Blade Runner", 1982), movie_path("Tenet", 2020)]);
    assert_eq!(warnings(&run).len(), 1, "{}", run.stdout);
}

#[test]
fn who_is_not_known_because_plex_tv_is_down_has_not_left() {
    let env = house();
    env.sync();
    fs::remove_file(env.path("state/tokens.json")).unwrap();
    plex_tv_fails(&env, Fault::Reset);
    clear_decks(&env);
    let run = env.run(&["sync", "--json"]).expect(3);
    assert_eq!(env.cached(), [movie_path("Alien", 1979), movie_path("Heat", 1995)]);
    assert_eq!(warnings(&run).len(), 1, "{}", run.stdout);
    // They are known again, and want nothing.
    env.plex.outside_faults(Faults::clear);
    env.sync();
    assert_eq!(env.cached(), Vec::<String>::new());
}

#[test]
fn a_user_who_has_left_does_not_count_any_more() {
    let env = house();
    env.sync();
    env.plex.edit(|library| library.leave("anna"));
    fs::remove_file(env.path("state/tokens.json")).unwrap();
    env.sync();
    assert_eq!(env.cached(), films()[..2]);
}

#[test]
fn a_user_whose_token_plex_tv_does_not_give_is_named_once_with_the_way_out() {
    let env = house();
    env.plex.edit(|library| library.withhold_token("ben", true));
    let run = env.run(&["sync", "--json"]).expect(3);
    let said = warnings(&run);
    assert!(said.len() == 1 && said[0].contains("ben") && said[0].contains("users.tokens"), "{said:?}");
    assert_eq!(env.cached(), films()[1..]);
}

#[test]
fn a_home_user_whose_token_is_not_among_the_shares_gets_one_by_switching() {
    let env = house();
    env.plex.edit(|library| library.withhold_token("anna", true));
    env.sync();
    assert_eq!(env.cached(), films());
    assert_eq!((asked(&env, SWITCH), asked(&env, "/resources")), (1, 1));
    env.plex.clear_requests();
    env.sync();
    assert_eq!((asked(&env, SWITCH), asked(&env, "/resources")), (0, 0), "both tokens were kept");
}

#[test]
fn a_home_user_whom_plex_tv_lists_no_server_for_keeps_what_was_wanted_and_is_named() {
    let env = house();
    env.plex.edit(|library| library.withhold_token("anna", true));
    env.sync();
    env.plex.edit(|library| library.make_outsider("anna", true));
    fs::remove_file(env.path("state/tokens.json")).unwrap();
    for _ in 0..2 {
        let run = env.run(&["sync", "--json"]).expect(3);
        let said = warnings(&run);
        assert!(said.len() == 1 && said[0].contains("anna") && said[0].contains("users.exclude"), "{said:?}");
        assert_eq!(env.cached(), films());
    }
    env.plex.edit(|library| library.make_outsider("anna", false));
    env.sync();
    assert_eq!(env.cached(), films());
}

#[test]
fn a_token_is_renewed_when_the_server_rejects_it_and_at_no_other_time() {
    for withheld in [false, true] {
        let env = house();
        env.plex.edit(|library| library.withhold_token("anna", withheld));
        env.sync();
        // No other failure makes a new one.
        env.plex.clear_requests();
        env.plex.faults(|faults| faults.add(Matcher::path("/library/sections/").user("anna"), Fault::Status(500)));
        env.run(&["sync"]).expect(3);
        assert_eq!((asked(&env, SHARES), asked(&env, SWITCH)), (0, 0));
        env.plex.faults(Faults::clear);

        env.plex.edit(|library| library.set_token("anna", "anna-token-2"));
        env.plex.clear_requests();
        env.sync();
        assert_eq!(env.cached(), films(), "withheld: {withheld}");
        assert_eq!((asked(&env, SHARES), asked(&env, SWITCH)), (1, 0), "the account's token is still good");
        assert!(fs::read_to_string(env.path("state/tokens.json")).unwrap().contains("anna-token-2"));
        env.plex.clear_requests();
        env.sync();
        assert_eq!((asked(&env, SHARES), asked(&env, SWITCH)), (0, 0));
    }
}

#[test]
fn an_account_token_is_renewed_when_plex_tv_rejects_it() {
    let env = house();
    let wished = env.movie("Blade Runner", 1982, 3000);
    env.sync();
    env.plex.edit(|library| {
        let wish = library.wish(&wished);
        library.add_wish("anna", wish);
        library.revoke_accounts();
    });
    env.plex.clear_requests();
    env.sync();
    assert!(env.cached().contains(&movie_path("Blade Runner", 1982)));
    assert_eq!(asked(&env, SWITCH), 1);
}

#[test]
fn a_pin_comes_from_a_file_and_without_it_only_the_watchlist_is_missing() {
    let mut env = house();
    let wished = env.movie("Blade Runner", 1982, 3000);
    env.plex.edit(|library| {
        library.join_home("anna", Some("1234"));
        let wish = library.wish(&wished);
        library.add_wish("anna", wish);
    });
    let before = env.settings.clone();
    let said = warnings(&env.run(&["sync", "--json"]).expect(3));
    assert!(said.len() == 1 && said[0].contains("anna") && said[0].contains("users.pin_files"), "{said:?}");
    assert_eq!((env.cached(), asked(&env, SWITCH)), (films().to_vec(), 0));

    env.settings = format!("{before}[users.pin_files]\nanna = \"{}\"\n", env.path("pin").display());
    let pin_file = env.path("pin");
    rustix::fs::mknodat(rustix::fs::CWD, &pin_file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let said = warnings(&env.run(&["sync", "--json"]).expect(3));
    assert!(said.len() == 1 && said[0].contains("not a regular file"), "a pipe would never answer: {said:?}");
    fs::remove_file(&pin_file).unwrap();
    fs::write(&pin_file, "1234").unwrap();
    File::options().write(true).open(&pin_file).unwrap().set_len(1 << 40).unwrap();
    let said = warnings(&env.run(&["sync", "--json"]).expect(3));
    assert!(said.len() == 1 && said[0].contains("more than 64 bytes"), "{said:?}");
    for (pin, status, name) in [("", 3, "holds no PIN"), ("9999\n", 3, "does not accept the PIN"), ("1234\n", 0, "")] {
        fs::write(env.path("pin"), pin).unwrap();
        let run = env.run(&["sync", "--json"]).expect(status);
        let said = warnings(&run);
        assert_eq!(said.len(), usize::from(status == 3), "{said:?}");
        assert!(said.iter().all(|line| line.contains(name) && !line.contains("9999")), "{said:?}");
    }
    assert!(env.cached().contains(&movie_path("Blade Runner", 1982)));
    let said = env.run(&["sync", "-vv"]).expect(0).stderr;
    assert!(!said.contains("1234"), "{said}");
}

#[test]
fn a_home_user_whose_watchlist_is_off_is_asked_for_the_deck_alone() {
    let mut env = house();
    let wished = env.movie("Blade Runner", 1982, 3000);
    env.plex.edit(|library| {
        let wish = library.wish(&wished);
        library.add_wish("anna", wish);
    });
    env.configure("[users.override.anna]\nwatchlist = false\n");
    env.sync();
    assert_eq!(env.cached(), films());
    assert_eq!(asked(&env, SWITCH), 0);
}

/// Redirects are not followed, whoever sends them.
#[test]
fn nobody_else_is_ever_told_a_token() {
    let env = house();
    let other = TestEnv::new();
    plex_tv_fails(&env, Fault::Redirect(other.plex.url()));
    env.run(&["sync"]).expect(3);
    assert!(other.plex.requests().is_empty());
}

/// The world of `benches/noop.rs`, with lists.
#[test]
fn a_run_of_a_large_house_asks_little_and_the_next_one_less() {
    let mut env = TestEnv::new();
    env.settings.push_str("[select]\nrss = [\"https://rss.plex.tv/house\"]\n");
    env.plex.edit(|library| {
        for name in ["anna", "ben"] {
            library.add_home_user(name, &format!("{name}-token"), None);
        }
        let (mut starts, mut shows, mut films) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..200 {
            let show = library.add_show(env.shows, &format!("Show {number:03}"));
            for index in 1..=30 {
                let file = format!("/data/media/TV/{number}/{index}.mkv");
                let key = library.add_episode(&show, (index - 1) / 10 + 1, (index - 1) % 10 + 1, "E", &file, 1000);
                if index == 3 {
                    starts.push(key);
                }
            }
            shows.push(show);
        }
        for number in 0..300 {
            let media = [Media::file(&format!("/data/media/Movies/{number}.mkv"), 1000)];
            let film = library.add_movie(env.movies, &format!("Film {number:03}"), 2000, &media);
            library.item_mut(&film).external_guids = vec![format!("imdb://tt{number:07}")];
            films.push(film);
        }
        let at = library.now - 3600;
        for (user, name) in ["owner", "anna", "ben"].into_iter().enumerate() {
            for key in starts[user * 40..user * 40 + 30].iter().chain(&films[user * 40..user * 40 + 10]) {
                library.set_on_deck(name, key, Some(at), 60_000);
            }
            let wishes = shows[user * 20..].iter().take(30).chain(films[100..].iter().take(30));
            for wish in wishes.map(|key| library.wish(key)).collect::<Vec<_>>() {
                library.add_wish(name, wish);
            }
        }
        let feed = shows[150..160].iter().chain(&films[250..260]).map(|key| (library.wish(key), None)).collect();
        library.set_feed("house", feed);
    });
    let mut figures = Vec::new();
    for most in [60, 30] {
        env.plex.clear_requests();
        env.run(&["sync", "--json"]).expect(0);
        let (server, outside) = (env.plex.requests().len(), env.plex.outside_requests().len());
        figures.push((server, outside));
        assert!(server + outside <= most, "{figures:?}");
    }
    println!("requests to the server and to plex.tv, first and second run: {figures:?}");
    assert!(figures[1].0 > 0 && figures[1].1 == 4, "three watchlists and a feed: {figures:?}");
}
