//! A Plex that fails, lies or stutters: a failed read is never an empty one, odd spellings still give the
//! right wants, and nothing is ever written to the server or told to another.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::util::env::{Run, TestEnv, episode_path, movie_path};
use crate::util::fake_plex::{FakePlex, Fault, Faults, Library, Matcher, SectionKind};

/// A film and a show of three episodes on the deck of the owner, another film on ben's, all of it cached.
/// Nothing but the answers of Plex keeps a file: what is unwanted goes at once.
struct House {
    env: TestEnv,
    all: Vec<String>,
}

impl House {
    fn new() -> Self {
        let mut env = TestEnv::new();
        env.settings.push_str("[evict]\nunwanted_after = \"0\"\n[users.tokens]\nben = \"ben-token\"\n");
        env.plex.edit(|library| library.add_user("ben", "ben-token"));
        let dune = env.movie("Dune", 2021, 3000);
        let heat = env.movie("Heat", 1995, 4000);
        let episodes: Vec<_> = (1..=3).map(|index| env.episode("Severance", 1, index, 2000)).collect();
        env.on_deck("owner", &dune);
        env.on_deck("owner", &episodes[0]);
        env.on_deck("ben", &heat);
        env.sync();
        let mut all = vec![movie_path("Dune", 2021), movie_path("Heat", 1995)];
        all.extend((1..=3).map(|index| episode_path("Severance", 1, index)));
        assert_eq!(env.cached(), all);
        env.plex.clear_requests();
        Self { env, all }
    }

    /// Nobody has anything on deck any more.
    fn empty_decks(&self) {
        self.env.plex.edit(|library| {
            library.clear_on_deck("owner");
            library.clear_on_deck("ben");
        });
    }

    fn fault(&self, matcher: Matcher, fault: Fault) {
        self.env.plex.faults(|faults| faults.add(matcher, fault));
    }

    /// The media paths that `status` calls wanted.
    fn wanted(&self) -> Vec<String> {
        let status = self.env.run(&["status", "--json"]).expect(0).json_of("status");
        let wanted = status["files"].as_array().unwrap().iter().filter(|file| file["wanted"] == true);
        wanted.map(|file| file["path"].as_str().unwrap().to_owned()).collect()
    }

    fn section(id: i64) -> Matcher {
        Matcher::exact_path(&format!("/library/sections/{id}/onDeck"))
    }
}

fn paths(run: &Run, list: &str) -> BTreeSet<String> {
    let plan = run.json_of("plan");
    let text = |action: &Value| action["path"].as_str().unwrap().to_owned();
    plan[list].as_array().unwrap().iter().map(text).collect()
}

#[track_caller]
fn warnings(run: &Run) -> Vec<String> {
    let lines = run.json();
    let warnings = lines.iter().filter(|line| line["type"] == "warning");
    warnings.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_on_deck_that_could_not_be_read_evicts_nothing_and_is_3() {
    let house = House::new();
    // The first three concern rows, and need some.
    for (number, fault) in [
        Fault::LostRows,
        Fault::LostRow,
        Fault::BadRow(0),
        Fault::Reset,
        Fault::Truncated,
        Fault::Status(500),
        Fault::Status(404),
        Fault::Status(403),
        Fault::TooManyRequests { retry_after: Some(3600) },
        Fault::LoginPage,
        Fault::EmptyBody,
        Fault::AlwaysXml,
        Fault::Redirect("http://127.0.0.1:9".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        if number == 3 {
            house.empty_decks();
        }
        house.env.plex.faults(Faults::clear);
        for id in [house.env.movies, house.env.shows] {
            house.fault(House::section(id), fault.clone());
        }
        let run = house.env.run(&["sync", "--json"]).expect(3);
        assert_eq!(paths(&run, "actions"), BTreeSet::new(), "{fault:?}");
        for user in ["owner", "ben"] {
            let about = format!("on deck of {user}");
            assert!(warnings(&run).iter().any(|line| line.contains(&about)), "{fault:?}: {}", run.stdout);
        }
        assert_eq!(run.json_of("summary")["outcome"], "partial");
        assert_eq!(house.env.cached(), house.all, "{fault:?}");
        assert_eq!(house.wanted(), house.all, "{fault:?}");
    }
    // The history and the status still know why.
    for args in [&["history", "2"][..], &["status"]] {
        let run = house.env.run(args).expect(0);
        let about = if args[0] == "status" { "redirected" } else { "on deck of owner" };
        assert!(run.stdout.contains(about), "{args:?}: {}", run.stdout);
    }
    // The same decks, read well: now it is known that nobody wants it.
    house.env.plex.faults(Faults::clear);
    house.env.sync();
    assert_eq!(house.env.cached(), Vec::<String>::new());
}

#[test]
fn one_section_that_fails_leaves_the_other_handled() {
    let house = House::new();
    let blade = house.env.movie("Blade Runner", 1982, 2000);
    house.empty_decks();
    house.env.on_deck("ben", &blade);
    house.fault(House::section(house.env.shows), Fault::LoginPage);
    house.env.run(&["sync"]).expect(3);
    let mut expected = house.all.clone();
    expected.push(movie_path("Blade Runner", 1982));
    expected.sort();
    assert_eq!(house.env.cached(), expected, "cached what is new, and took away nothing");
    house.env.plex.faults(Faults::clear);
    house.env.sync();
    assert_eq!(house.env.cached(), [movie_path("Blade Runner", 1982)]);
}

#[test]
fn the_401_of_one_user_leaves_the_files_of_that_user_and_no_others() {
    let house = House::new();
    house.empty_decks();
    house.env.plex.edit(|library| library.set_token("ben", "revoked"));
    let run = house.env.run(&["sync", "--json"]).expect(3);
    assert!(warnings(&run).iter().any(|line| line.starts_with("ben:") && line.contains("401")), "{}", run.stdout);
    assert_eq!(house.env.cached(), [movie_path("Heat", 1995)]);
    assert_eq!(house.wanted(), [movie_path("Heat", 1995)]);
}

#[test]
fn episodes_that_could_not_be_read_stay() {
    let house = House::new();
    house.fault(Matcher::path(&format!("/library/sections/{}/all", house.env.shows)), Fault::LostRows);
    house.fault(Matcher::path("/library/metadata/"), Fault::LostRows);
    let run = house.env.run(&["sync", "--json"]).expect(3);
    assert_eq!(paths(&run, "actions"), BTreeSet::new());
    assert_eq!(house.wanted(), house.all);
}

#[test]
fn unreadable_sessions_stop_evictions_and_not_cachings() {
    let house = House::new();
    let blade = house.env.movie("Blade Runner", 1982, 2000);
    house.empty_decks();
    house.env.on_deck("owner", &blade);
    for fault in [Fault::Status(403), Fault::EmptyBody, Fault::LoginPage] {
        house.env.plex.faults(Faults::clear);
        house.fault(Matcher::exact_path("/status/sessions"), fault.clone());
        let run = house.env.run(&["sync", "--json"]).expect(3);
        let about = warnings(&run).into_iter().filter(|line| line.contains("nothing is evicted")).count();
        assert_eq!(about, 1, "said once, {fault:?}: {}", run.stdout);
        assert_eq!(house.env.cached().len(), house.all.len() + 1, "{fault:?}");
        let evict = house.env.run(&["evict", "--json"]).expect(3);
        assert_eq!(paths(&evict, "actions"), BTreeSet::new());
    }
    house.env.plex.faults(Faults::clear);
    house.env.sync();
    assert_eq!(house.env.cached(), [movie_path("Blade Runner", 1982)]);
}

#[test]
fn a_server_that_shows_no_library_is_4_and_nothing_is_evicted() {
    for all_gone in [true, false] {
        let mut house = House::new();
        if all_gone {
            house.env.plex.edit(|library| library.share_only("owner", &[]));
        } else {
            house.env.settings.push_str("[select]\nlibraries = [\"Anime\", \"99\"]\n");
        }
        for command in ["sync", "evict"] {
            let run = house.env.run(&[command, "--json"]).expect(4);
            let error = run.json_of("error");
            assert!(error["message"].as_str().unwrap().contains("librar"), "{error}");
        }
        assert_eq!(house.env.cached(), house.all);
        assert_eq!(house.wanted(), house.all);
    }
}

#[test]
fn one_configured_library_that_is_gone_is_3_and_what_was_wanted_stays() {
    let mut house = House::new();
    house.empty_decks();
    let settings = house.env.settings.clone();
    house.env.settings.push_str("[select]\nlibraries = [\"Movies\", \"TV Shows\", \"Anime\"]\n");
    let run = house.env.run(&["sync", "--json"]).expect(3);
    assert!(warnings(&run).iter().any(|line| line.contains("\"Anime\"")), "{}", run.stdout);
    assert_eq!(house.env.cached(), house.all);
    house.env.settings = settings;
    house.env.sync();
    assert!(house.env.cached().is_empty());
}

#[test]
fn a_redirect_is_not_followed_and_the_token_goes_nowhere_else() {
    let house = House::new();
    let mut library = Library::new();
    library.add_section("Movies", SectionKind::Movie, &["/data/media/Movies"]);
    let other = FakePlex::start(library);
    for path in ["/library/sections", "/status"] {
        house.env.plex.faults(Faults::clear);
        house.fault(Matcher::path(path), Fault::Redirect(other.url()));
        let run = house.env.run(&["sync", "--json"]);
        assert!(matches!(run.status, 1 | 3), "{path}: {}", run.stdout);
        assert!(run.stdout.contains("redirected to"), "{}", run.stdout);
        assert_eq!(house.env.cached(), house.all, "{path}");
    }
    house.fault(Matcher::any(), Fault::Redirect(other.url()));
    let error = house.env.run(&["sync", "--json"]).expect(1).json_of("error");
    assert!(error["message"].as_str().unwrap().contains(&other.url()), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("plex.url"), "{error}");
    assert!(other.requests().is_empty());
}

#[test]
fn a_pause_that_plex_asks_for_is_made_and_the_run_goes_well() {
    let house = House::new();
    house.fault(Matcher::path("/library/sections").times(2), Fault::TooManyRequests { retry_after: Some(2) });
    house.fault(Matcher::path("/status").times(1), Fault::TooManyRequests { retry_after: None });
    house.empty_decks();
    house.env.sync();
    assert!(house.env.cached().is_empty());
    house.env.plex.faults(Faults::clear);
    house.fault(Matcher::path("/identity"), Fault::TooManyRequests { retry_after: Some(3600) });
    house.env.run(&["sync"]).expect(69);
    house.env.plex.faults(Faults::clear);
    house.fault(Matcher::path("/identity").times(1), Fault::Maintenance);
    house.fault(Matcher::path("/library").times(1), Fault::Status(502));
    house.env.sync();
}

#[test]
fn odd_spellings_of_an_answer_give_the_same_wants() {
    let env = TestEnv::new();
    let film = env.movie("Amélie", 2001, 3000);
    let episodes: Vec<_> = (1..=3).map(|index| env.episode("Severance", 1, index, 2000)).collect();
    env.on_deck("owner", &film);
    env.on_deck("owner", &episodes[0]);
    let plan = |faults: &[Fault]| {
        env.plex.faults(Faults::clear);
        // Lists that are not paged are not cut, and one large answer is enough.
        let decks = ["/library/sections/1/", "/library/sections/2/"].map(Matcher::path);
        for fault in faults {
            let matchers = match fault {
                Fault::PageCap(_) => decks.to_vec(),
                Fault::HugeBody(_) => vec![House::section(env.movies)],
                _ => vec![Matcher::any()],
            };
            env.plex.faults(|rules| matchers.into_iter().for_each(|matcher| rules.add(matcher, fault.clone())));
        }
        env.run(&["sync", "--dry-run", "--json"]).expect(0).json_of("plan")
    };
    let usual = plan(&[]);
    assert_eq!(usual["actions"].as_array().unwrap().len(), 4);
    for faults in [
        &[Fault::NumbersAsStrings][..],
        &[Fault::ByteOrderMark],
        &[Fault::NullLists],
        &[Fault::EmptyLists],
        &[Fault::SingleObjects],
        &[Fault::DuplicateKeys],
        &[Fault::Chunked],
        &[Fault::Closed],
        &[Fault::HugeBody(12 << 20)],
        &[Fault::PageCap(1)],
        &[Fault::NumbersAsStrings, Fault::ByteOrderMark, Fault::NullLists, Fault::PageCap(2), Fault::Chunked],
    ] {
        assert_eq!(plan(faults), usual, "{faults:?}");
    }
}

#[test]
fn spoilt_titles_still_give_the_right_files() {
    for fault in [Fault::ControlCharacters, Fault::InvalidUtf8, Fault::LoneSurrogates, Fault::Latin1] {
        let house = House::new();
        house.empty_decks();
        let blade = house.env.movie("Blade Runner", 1982, 2000);
        house.env.on_deck("owner", &blade);
        house.fault(Matcher::any(), fault.clone());
        let run = house.env.run(&["sync"]).expect(0);
        assert_eq!(house.env.cached(), [movie_path("Blade Runner", 1982)], "{fault:?}");
        assert!(!run.stdout.contains('\u{1}') && !run.stderr.contains('\u{1}'), "{fault:?}");
    }
}

#[test]
fn a_path_that_came_broken_is_no_other_file() {
    let env = TestEnv::new();
    let film = env.movie("Amélie", 2001, 3000);
    // What the path looks like when each byte that is no UTF-8 is replaced.
    env.file("Movies/Am\u{fffd}lie (2001)/Am\u{fffd}lie (2001).mkv", 2500);
    env.on_deck("owner", &film);
    env.plex.faults(|faults| faults.add(Matcher::any(), Fault::Latin1));
    let run = env.run(&["sync", "--json"]);
    assert_eq!(env.cached(), Vec::<String>::new(), "{}", run.stdout);
    assert_eq!(paths(&run, "skipped").len(), 1, "{}", run.stdout);
}

#[test]
fn pages_that_shift_while_they_are_read_are_no_proof_of_absence() {
    // A row that came in front pushes the others back, one that went away lets them slip: either way
    // somebody was not seen.
    for shift in [1, -1] {
        let mut env = TestEnv::new();
        env.settings.push_str("[evict]\nunwanted_after = \"0\"\n");
        for number in 0..6 {
            let film = env.movie(&format!("Film {number}"), 2000, 1000);
            env.on_deck("owner", &film);
        }
        env.sync();
        env.plex.faults(|faults| {
            faults.add(House::section(env.movies), Fault::PageCap(2));
            faults.add(House::section(env.movies), Fault::ShiftedPages(shift));
        });
        let run = env.run(&["sync", "--json"]).expect(3);
        assert_eq!(env.cached().len(), 6, "{shift}: {}", run.stdout);
    }
}

#[test]
fn another_server_than_the_configured_one_is_refused() {
    let house = House::new();
    house.empty_decks();
    let sync = |id: &str| Run::of(house.env.command(&["sync", "--json"]).env("PLEXCACHE_PLEX__MACHINE_ID", id));
    let error = sync("0123456789abcdef0123456789abcdef01234567").expect(4).json_of("error");
    assert!(error["message"].as_str().unwrap().contains("5ca1ab1e"), "{error}");
    assert_eq!(house.env.cached(), house.all);
    sync("5CA1AB1E00000000000000000000000000000001").expect(0);
    assert!(house.env.cached().is_empty());
}

/// One that was set up anew, or another one at the address: it wants nothing of what is cached.
#[test]
fn another_server_than_that_of_the_last_runs_releases_nothing_until_somebody_says_so() {
    let house = House::new();
    house.empty_decks();
    house.env.plex.edit(|library| library.machine_id = "0123456789abcdef0123456789abcdef01234567".to_owned());
    for args in [&["sync", "--json"][..], &["evict", "--json"], &["sync", "--dry-run", "--json"]] {
        let error = house.env.run(args).expect(4).json_of("error");
        assert!(error["message"].as_str().unwrap().contains("another Plex server"), "{error}");
        assert_eq!(house.env.cached(), house.all);
    }
    house.env.run(&["sync", "--yes"]).expect(0);
    house.env.run(&["sync"]).expect(0);
}

/// A stranger at the address of the server must not learn the token.
#[test]
fn another_server_than_the_configured_one_is_never_shown_the_token() {
    let house = House::new();
    let mut command = house.env.command(&["sync"]);
    Run::of(command.env("PLEXCACHE_PLEX__MACHINE_ID", "0123456789abcdef0123456789abcdef01234567")).expect(4);
    let requests = house.env.plex.requests();
    assert!(!requests.is_empty());
    for request in requests {
        assert_eq!(request.header("x-plex-token"), None, "{}", request.target);
    }
}

#[test]
fn requests_only_read_and_carry_the_token_as_a_header_alone() {
    let house = House::new();
    house.env.plex.edit(|library| {
        let episode = library.episode("105", 1, 1);
        library.start_session("owner", &episode, true);
    });
    for args in [&["sync", "--dry-run"][..], &["sync"], &["evict"], &["status", "--live"], &["undo", "--yes"]] {
        house.env.run(args).expect(0);
    }
    let requests = house.env.plex.requests();
    assert!(requests.len() > 10);
    for request in requests {
        assert_eq!(request.method, "GET", "{}", request.target);
        assert!(!request.path.contains("refresh") && !request.path.starts_with("/:/"), "{}", request.target);
        assert!(!request.target.to_lowercase().contains("token"), "{}", request.target);
        assert!(request.user.is_some() || request.path == "/identity", "{}", request.target);
        assert!(request.body.is_empty());
    }
    assert!(house.env.plex.edit(|library| library.refreshes().is_empty()));
}
