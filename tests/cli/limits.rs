//! Limits: what fits, what makes room for what, and what the command line holds back.
//!
//! Every file of a test has whole blocks, so that what it costs is its size.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::util::env::{Run, TestEnv, episode_path, movie_path, now};
use crate::util::fake_plex::RatingKey;

/// Bytes: 25 blocks.
const SIZE: usize = 102_400;

/// Eight episodes, the first on deck, and room for `max_size`.
fn eight_episodes(max_size: &str) -> TestEnv {
    episodes_and_keys(max_size).0
}

fn episodes_and_keys(max_size: &str) -> (TestEnv, Vec<RatingKey>) {
    let mut env = TestEnv::new();
    let keys: Vec<_> = (1..=8).map(|index| env.episode("Lost", 1, index, SIZE)).collect();
    env.on_deck("owner", &keys[0]);
    env.configure(&format!("max_size = \"{max_size}\"\n[select]\nnext_episodes = 7\n"));
    (env, keys)
}

fn first(count: i64) -> Vec<String> {
    (1..=count).map(|index| episode_path("Lost", 1, index)).collect()
}

/// A film on deck that was last viewed so many days ago: the fewer, the higher its rank.
fn film(env: &TestEnv, title: &str, blocks: usize, days: i64) -> RatingKey {
    let key = env.movie(title, 2000, blocks * 4096);
    env.plex.edit(|library| library.set_on_deck("owner", &key, Some(now() - days * 86400), 60_000));
    key
}

fn films(titles: &[&str]) -> Vec<String> {
    titles.iter().map(|title| movie_path(title, 2000)).collect()
}

/// Why the plan leaves the file, in the words for people.
fn detail(run: &Run, path: &str) -> String {
    let plan = run.json_of("plan");
    let row = plan["skipped"].as_array().unwrap().iter().find(|row| row["path"] == path);
    row.unwrap_or_else(|| panic!("{path} is not left: {plan}"))["detail"].as_str().unwrap().to_owned()
}

#[test]
fn a_limit_for_two_of_eight_episodes_holds_the_one_on_deck_and_the_next_in_every_run() {
    let env = eight_episodes("200KiB");
    env.sync();
    assert_eq!(env.cached(), first(2));
    let cache = env.snapshot("cache/media");
    for run in ["second", "third"] {
        assert_eq!(env.dry_sync().planned(), Vec::<String>::new(), "{run}");
        env.sync();
        assert_eq!(env.snapshot("cache/media"), cache, "{run}");
    }
}

#[test]
fn the_window_moves_on_with_the_viewer() {
    let (env, keys) = episodes_and_keys("200KiB");
    env.sync();
    env.watch("owner", &keys[0], Duration::from_secs(3600));
    env.sync();
    assert_eq!(env.cached(), first(3)[1..], "what is in its grace makes room");
}

#[test]
fn a_limit_is_given_in_bytes_units_or_percent() {
    let total = {
        let env = eight_episodes("1MB");
        env.sync();
        env.run(&["status", "--json"]).expect(0).json_of("status")["tiers"][0]["total"].as_f64().unwrap()
    };
    let percent = format!("{:.12}%", 350_000.0 / total * 100.0);
    for (limit, count) in [
        ("0", 0),
        ("102399", 0),
        ("102400", 1),
        ("307200", 3),
        ("0.4MB", 3),
        ("400KiB", 4),
        ("410kB", 4),
        (percent.as_str(), 3),
        ("100%", 8),
    ] {
        let planned = eight_episodes(limit).dry_sync().planned();
        let expected: Vec<String> = first(count).iter().map(|path| format!("cache {path}")).collect();
        assert_eq!(planned, expected, "{limit}");
    }
}

#[test]
fn what_must_stay_free_is_left_free() {
    for (limit, count) in [("100%", 0), ("900TB", 0), ("0%", 8)] {
        let mut env = eight_episodes("100%");
        env.settings = env.settings.replace("min_free = \"0\"", &format!("min_free = \"{limit}\""));
        let run = env.run(&["sync", "--json"]).expect(0);
        assert_eq!(env.cached(), first(count), "{limit}");
        assert_eq!(run.left().len(), usize::try_from(8 - count).unwrap(), "{limit}");
    }
}

#[test]
fn a_shrunken_limit_takes_off_the_lowest_ranks() {
    let mut env = eight_episodes("100%");
    env.sync();
    assert_eq!(env.cached(), first(8));
    env.settings = env.settings.replace("100%", "300KiB");
    env.sync();
    assert_eq!(env.cached(), first(3));
}

#[test]
fn what_does_not_fit_is_reported_with_what_it_is_short_by() {
    let env = eight_episodes("240KiB");
    let run = env.dry_sync();
    assert_eq!(detail(&run, &first(3)[2]), "short by 60.0 KiB");
    for later in &first(8)[3..] {
        assert_eq!(detail(&run, later), "after Lost S01E03, which does not fit");
    }
    let human = env.run(&["sync", "--dry-run"]).expect(0);
    assert!(human.stdout.contains("short by 60.0 KiB"), "{}", human.stdout);
}

#[test]
fn a_show_has_no_gaps_even_where_a_later_episode_would_fit() {
    let mut env = TestEnv::new();
    let keys: Vec<_> =
        [1, 5, 1].iter().zip(1..).map(|(times, index)| env.episode("Lost", 1, index, times * SIZE)).collect();
    env.on_deck("owner", &keys[0]);
    film(&env, "Alien", 25, 9);
    env.configure("max_size = \"300KiB\"\n");
    env.sync();
    assert_eq!(env.cached(), [films(&["Alien"]), first(1)].concat(), "and what is no part of it may follow");
}

#[test]
fn a_film_that_does_not_fit_does_not_stop_smaller_ones() {
    let mut env = TestEnv::new();
    for (title, blocks, days) in [("Big", 50, 1), ("Small", 10, 2), ("Middle", 20, 3), ("Last", 5, 4)] {
        film(&env, title, blocks, days);
    }
    env.configure(&format!("max_size = \"{}\"\n", 29 * 4096));
    let run = env.dry_sync();
    env.sync();
    assert_eq!(env.cached(), films(&["Last", "Small"]));
    assert_eq!(detail(&run, &films(&["Big"])[0]), "short by 84.0 KiB");
    assert_eq!(detail(&run, &films(&["Middle"])[0]), "short by 4.0 KiB");
}

#[test]
fn a_unit_fits_with_its_sidecars_or_not_at_all() {
    let mut env = TestEnv::new();
    film(&env, "Alien", 10, 1);
    env.file("Movies/Alien (2000)/Alien (2000).srt", 4096);
    let before = env.settings.clone();
    for (blocks, count) in [(10, 0), (11, 2)] {
        env.settings = format!("{before}max_size = \"{}\"\n", blocks * 4096);
        env.sync();
        assert_eq!(env.cached().len(), count, "{blocks}");
    }
}

#[test]
fn a_higher_rank_pushes_out_a_lower_one_and_only_where_it_may() {
    for make_room in [true, false] {
        let mut env = TestEnv::new();
        env.configure(&format!("max_size = \"80KiB\"\n[evict]\nmake_room = {make_room}\n"));
        film(&env, "Low", 10, 5);
        film(&env, "Middle", 10, 3);
        env.sync();
        assert_eq!(env.cached(), films(&["Low", "Middle"]));
        film(&env, "High", 10, 1);
        let run = env.run(&["sync", "--json"]).expect(0);
        let plan: Vec<String> = run.planned();
        if make_room {
            let expected = [format!("evict {}", films(&["Low"])[0]), format!("cache {}", films(&["High"])[0])];
            assert_eq!(plan, expected);
            assert_eq!(run.json_of("plan")["actions"][0]["evict_why"], "make_room");
            assert_eq!(env.cached(), films(&["High", "Middle"]));
            assert_eq!(env.dry_sync().planned(), Vec::<String>::new(), "and it does not come back");
        } else {
            assert_eq!(plan, Vec::<String>::new());
            assert_eq!(run.left(), [format!("no_room {}", films(&["High"])[0])]);
        }
    }
}

#[test]
fn a_lower_rank_pushes_out_nothing_that_is_wanted() {
    let mut env = TestEnv::new();
    env.configure("max_size = \"40KiB\"\n");
    film(&env, "High", 10, 1);
    env.sync();
    film(&env, "Low", 1, 5);
    let run = env.run(&["sync", "--json"]).expect(0);
    assert_eq!((run.planned(), run.left()), (Vec::new(), vec![format!("no_room {}", films(&["Low"])[0])]));
}

#[test]
fn what_is_in_its_grace_makes_room_before_what_is_wanted() {
    let mut env = TestEnv::new();
    env.configure("max_size = \"80KiB\"\n[evict]\nunwanted_after = \"12h\"\n");
    film(&env, "Low", 10, 5);
    let gone = film(&env, "Grace", 10, 1);
    env.sync();
    env.plex.edit(|library| library.remove_from_deck("owner", &gone));
    env.sync();
    assert_eq!(env.cached(), films(&["Grace", "Low"]), "in its grace it stays while there is room");
    film(&env, "New", 10, 9);
    env.sync();
    assert_eq!(env.cached(), films(&["Low", "New"]));
}

#[test]
fn what_no_eviction_may_touch_makes_no_room() {
    let mut env = TestEnv::new();
    env.configure("max_size = \"40KiB\"\n");
    film(&env, "Low", 10, 5);
    env.sync();
    film(&env, "High", 10, 1);
    let run = env.run(&["sync", "--no-evict", "--json"]).expect(0);
    assert_eq!(run.planned(), Vec::<String>::new());
    assert_eq!(env.cached(), films(&["Low"]));
    let settings = env.settings.clone();
    env.configure("[select]\npin = [\"**/Low*\"]\n");
    env.sync();
    assert_eq!(env.cached(), films(&["Low"]), "a pin is above all ranks");
    env.settings = settings;
    env.sync();
    assert_eq!(env.cached(), films(&["High"]));
}

#[test]
fn no_file_is_begun_beyond_max_transfer_and_the_next_run_goes_on() {
    let env = eight_episodes("100%");
    let run = env.run(&["sync", "--max-transfer", "250KiB", "--json"]).expect(0);
    assert_eq!(env.cached(), first(2));
    assert_eq!(run.planned().len(), 8, "the plan is all of it");
    assert_eq!(run.json_of("summary")["cached"]["files"], 2);
    env.run(&["sync", "--max-transfer=300KiB"]).expect(0);
    assert_eq!(env.cached(), first(5));
    env.run(&["sync", "--max-transfer", "1"]).expect(0);
    assert_eq!(env.cached(), first(5));
    env.sync();
    assert_eq!(env.cached(), first(8));
}

#[test]
fn evictions_are_not_held_back_by_max_transfer() {
    let env = eight_episodes("100%");
    env.sync();
    env.run(&["evict", "--all", "--max-transfer", "1"]).expect(0);
    assert_eq!(env.cached(), Vec::<String>::new());
}

#[test]
fn no_file_is_begun_after_max_duration() {
    let env = eight_episodes("100%");
    env.run(&["sync", "--max-duration", "0"]).expect(0);
    assert_eq!(env.cached(), Vec::<String>::new());
    env.run(&["sync", "--max-duration", "1h"]).expect(0);
    assert_eq!(env.cached(), first(8));
}

#[test]
fn bwlimit_holds_the_copy_back_and_a_generous_one_does_not() {
    let env = eight_episodes("100%");
    // At that rate the first file alone takes more than a day: it cannot be done when its copy is seen
    // to have begun.
    let mut child = env.spawn(&["sync", "--bwlimit", "1B/s"]);
    let part = |name: &String| Path::new(name).extension().is_some_and(|end| end == "part");
    while !env.snapshot("cache/media").entries.keys().any(part) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before a copy began");
        std::thread::yield_now();
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(env.cached(), Vec::<String>::new(), "{errors}");
    env.run(&["sync", "--bwlimit", "1GB/s"]).expect(0);
    assert_eq!(env.cached(), first(8));
}

#[test]
fn limits_of_the_command_line_that_mean_nothing_are_usage_errors() {
    let env = eight_episodes("100%");
    for args in [["--max-transfer", "much"], ["--max-duration", "late"], ["--bwlimit", "fast"], ["--bwlimit", "0"]] {
        env.run(&["sync", args[0], args[1]]).expect(2);
    }
    assert!(!env.path("state").exists());
    assert!(fs::read_dir(env.path("cache/media")).unwrap().next().is_none());
}
