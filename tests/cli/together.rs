//! Several runs at once, runs that are stopped at any moment, and a host that changes between two runs:
//! its clock, its name, its state directory.

use std::fs;
use std::process::Child;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::util::env::{Run, TestEnv, episode_path, movie_path};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];

/// More than a slowed-down copy does in a second, so that there is a middle.
const SIZE: usize = (1 << 20) + 1;

/// A small film on the cache, and a large one that the next `sync` will cache.
fn two_films(placement: &str) -> (TestEnv, [String; 2]) {
    let env = TestEnv::with_placement(placement);
    let small = env.movie("Small", 2020, 1000);
    env.on_deck("owner", &small);
    env.sync();
    env.on_deck("owner", &env.movie("Large", 2020, SIZE));
    (env, [movie_path("Large", 2020), movie_path("Small", 2020)])
}

fn end(child: Child) -> Run {
    Run::from(child.wait_with_output().unwrap())
}

fn terminate(child: &Child) {
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    // It may have ended by itself.
    let _gone = kill_process(pid, Signal::TERM);
}

#[test]
fn while_one_run_changes_files_every_other_waits_or_is_turned_away() {
    for placement in PLACEMENTS {
        let (env, films) = two_films(placement);
        if env.clones() {
            println!("skipped: copies are clones on this file system");
            return;
        }
        let first = env.mid_copy(&["sync"]);
        for args in [&["sync"][..], &["evict", "--all"], &["undo", "--yes"]] {
            let run = env.run(args).expect(75);
            assert!(run.stderr.contains("another run") && run.stderr.contains("--wait"), "{args:?}: {}", run.stderr);
        }
        let status = env.run(&["status"]).expect(0);
        assert!(status.stdout.contains("under way"), "{placement}: {}", status.stdout);
        env.run(&["history"]).expect(0);
        env.run(&["sync", "--dry-run"]).expect(0);
        let waiting = env.spawn(&["sync", "--wait=60s"]);
        let first = end(first).expect(0);
        assert!(first.stdout.contains("Large"), "{placement}: {}", first.stdout);
        let second = end(waiting).expect(0);
        assert!(second.stdout.contains("Nothing to do"), "{placement}: {}", second.stdout);
        assert_eq!(env.cached(), films, "{placement}");
    }
}

#[test]
fn an_undo_that_waited_for_a_run_does_not_take_back_another_one_than_it_was_asked_for() {
    let (env, films) = two_films("move");
    if env.clones() {
        return;
    }
    let first = env.mid_copy(&["sync"]);
    let undo = env.spawn(&["undo", "--yes", "--wait=60s"]);
    // Chosen before it waits: it says so on the way in, by nothing; so give it the time to choose.
    std::thread::sleep(Duration::from_millis(300));
    end(first).expect(0);
    let undo = end(undo).expect(1);
    assert!(undo.stderr.contains("another run has come in between"), "{}", undo.stderr);
    assert_eq!(env.cached(), films);
}

#[test]
fn a_signal_ends_the_waiting_for_another_run() {
    let (env, _) = two_films("copy");
    if env.clones() {
        return;
    }
    let first = env.mid_copy(&["sync"]);
    let waiting = env.spawn(&["sync", "--wait=1h"]);
    std::thread::sleep(Duration::from_millis(300));
    terminate(&waiting);
    end(waiting).expect(143);
    end(first).expect(0);
}

#[test]
fn two_state_directories_with_one_cache_keep_each_other_out() {
    for placement in PLACEMENTS {
        let (env, films) = two_films(placement);
        if env.clones() {
            return;
        }
        let state = env.path("other-state").display().to_string();
        let other = |args: &[&str]| env.run(&[&["--state-dir", &state][..], args].concat());
        let run = other(&["sync"]).expect(4);
        assert!(run.stderr.contains("another state directory"), "{}", run.stderr);
        // Accepted on purpose, as by somebody who has moved the state and kept the old one.
        let first = env.mid_copy(&["sync"]);
        let run = other(&["sync", "--yes"]).expect(75);
        assert!(run.stderr.contains("cache/media/.plexcache-root"), "{}", run.stderr);
        let status = other(&["status"]).expect(0);
        assert!(!status.stdout.contains("cut short"), "{placement}: it ended in order: {}", status.stdout);
        let waiting = env.spawn(&["--state-dir", &state, "sync", "--yes", "--wait=60s"]);
        end(first).expect(0);
        // What the first one did is not the second one's, which therefore leaves it alone.
        let waited = end(waiting);
        assert!([0, 3].contains(&waited.status), "{placement}: {waited:?}");
        assert_eq!(env.cached(), films, "{placement}");
        for film in &films {
            let size = if *film == films[0] { SIZE } else { 1000 };
            assert_eq!(env.shown(film).map(|bytes| bytes.len()), Some(size), "{placement}");
        }
    }
}

/// Numbers that look random and are the same in every run of the tests.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// `PLEXCACHE_STORM=100` sends a hundred signals in each placement, `PLEXCACHE_SEED` sends others.
#[test]
fn runs_that_are_stopped_at_any_moment_leave_every_file_complete_and_nothing_behind() {
    let commands = [&["sync"][..], &["evict", "--all"], &["undo", "--yes"], &["sync", "--no-evict"]];
    let mut random = Random(number("PLEXCACHE_SEED", 0x9e37_79b9_7f4a_7c15));
    let mut statuses = std::collections::BTreeMap::new();
    for placement in PLACEMENTS {
        let mut env = TestEnv::with_placement(placement);
        env.configure("[evict]\nundo_hold = \"0\"\n");
        let mut media = Vec::new();
        for index in 1..=3 {
            env.on_deck(
                "owner",
                &env.movie(&format!("Film {index}"), 2020, 400_000 * usize::from(index == 2) + 30_000),
            );
            media.push(movie_path(&format!("Film {index}"), 2020));
            let episode = env.episode("Severance", 1, index, 50_000);
            media.push(episode_path("Severance", 1, index));
            if index == 1 {
                env.on_deck("owner", &episode);
            }
        }
        let before = env.snapshot("disk1/media");
        for step in 0..number("PLEXCACHE_STORM", 6) {
            let mut pick = || commands[usize::try_from(random.below(commands.len() as u64)).unwrap()];
            let (one, two) = (pick(), pick());
            let two_at_once = step % 3 == 2;
            let mut children = vec![env.spawn(one)];
            if two_at_once {
                children.push(env.spawn(two));
            }
            std::thread::sleep(Duration::from_micros(random.below(70_000)));
            children.iter().for_each(terminate);
            for child in children {
                let run = end(child);
                *statuses.entry(run.status).or_insert(0) += 1;
                let expected: &[i32] = if two_at_once { &[0, 1, 75, 143] } else { &[0, 143] };
                // An undo that is stopped has taken its run back as far as it came, so that the next one
                // goes to the run before, and leaves what was touched since.
                let is_told = run.status == 3 && run.stdout.contains("has touched it since");
                assert!(
                    is_told || expected.contains(&run.status),
                    "{placement}, step {step}, {one:?} {two:?}: {run:?}"
                );
            }
            for name in &media {
                let original = &before.entries[name].contents;
                assert!(env.shown(name).as_ref() == Some(original), "{placement}, step {step}, {one:?}: {name}");
            }
            // Parses every line.
            env.history();
        }
        env.sync();
        assert!(env.sync().stdout.contains("Nothing to do"), "{placement}");
        assert_eq!((env.leftovers(), env.cached().len()), (Vec::new(), media.len()), "{placement}");
        env.run(&["evict", "--all"]).expect(0);
        env.run(&["evict", "--all"]).expect(0);
        let after = env.snapshot("disk1/media").without_markers().without_folder_times();
        assert_eq!(after, before.without_folder_times(), "{placement}");
        assert_eq!(env.snapshot("cache/media").without_markers().entries.len(), 0, "{placement}");
    }
    println!("exit statuses: {statuses:?}");
}

/// Moves every time in the state by so much, as if the clock had been wrong when it was written.
fn shift_state(env: &TestEnv, by: SignedDuration) {
    fn shift(value: &mut Value, by: SignedDuration) {
        match value {
            Value::String(text) => {
                if let Ok(at) = text.parse::<Timestamp>() {
                    *text = at.checked_add(by).unwrap().to_string();
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| shift(value, by)),
            Value::Object(fields) => fields.values_mut().for_each(|value| shift(value, by)),
            _ => {}
        }
    }
    for name in ["history.jsonl", "wants.json", "index.json"] {
        let path = env.path("state").join(name);
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| {
            let mut value = serde_json::from_str(line).unwrap();
            shift(&mut value, by);
            format!("{value}\n")
        });
        let shifted: String = lines.collect();
        assert_ne!(shifted, text, "{name} has times in it");
        fs::write(path, shifted).unwrap();
    }
}

#[test]
fn a_clock_that_jumps_back_by_a_year_evicts_nothing_early_and_mixes_nothing_up() {
    for placement in PLACEMENTS {
        let env = TestEnv::with_placement(placement);
        let episodes: Vec<String> = (1..=3).map(|index| env.episode("Severance", 1, index, 1000)).collect();
        let film = env.movie("Dune", 2021, 1000);
        env.on_deck("owner", &episodes[0]);
        env.on_deck("owner", &film);
        env.sync();
        // Watched a moment ago, and nobody wants it: both are in their grace.
        env.watch("owner", &episodes[0], Duration::from_secs(60));
        env.plex.edit(|library| library.set_seen("owner", &film, 0, None, 0));
        env.sync();
        let cached = env.cached();
        assert_eq!(cached.len(), 4, "{placement}: {cached:?}");
        let runs = env.history().last().unwrap()["run"].as_u64().unwrap();

        shift_state(&env, SignedDuration::from_hours(365 * 24));
        for args in
            [&["status"][..], &["status", "--why", &cached[0]], &["status", "--nagios"], &["history", "--stats"]]
        {
            let run = env.run(args);
            assert!([0, 1].contains(&run.status) && !run.stderr.contains("panic"), "{placement} {args:?}: {run:?}");
        }
        for _ in 0..2 {
            env.sync();
            assert_eq!(env.cached(), cached, "{placement}: nothing goes early");
        }
        env.on_deck("owner", &env.movie("Alien", 1979, 1000));
        env.sync();
        assert_eq!(env.cached().len(), 5, "{placement}");
        let history = env.run(&["history", "--json"]).expect(0);
        let numbers: Vec<u64> = history.json().iter().filter_map(|line| line["run"].as_u64()).collect();
        assert!(numbers.is_sorted_by(|a, b| a > b) && numbers[0] > runs, "{placement}: {numbers:?}");
        // The last run by the file, although the clock says that it was the first.
        env.run(&["undo", "--yes"]).expect(0);
        assert_eq!(env.cached(), cached, "{placement}");
    }
}

#[test]
fn what_was_undone_while_the_clock_was_a_year_ahead_is_held_for_a_day_and_not_for_a_year() {
    let env = TestEnv::new();
    env.on_deck("owner", &env.movie("Dune", 2021, 1000));
    env.sync();
    env.run(&["undo", "--yes"]).expect(0);
    shift_state(&env, SignedDuration::from_hours(365 * 24));
    let held = env.dry_sync();
    assert_eq!(held.left(), [format!("held {}", movie_path("Dune", 2021))]);
    env.sync();
    assert_eq!(env.cached(), Vec::<String>::new(), "it is held all the same");
    // A while later: the clock has been right since that run, which is no year ahead of anything now.
    let later = |hours| {
        let path = env.path("state/history.jsonl");
        let lines = env.history().into_iter().map(|mut record| {
            let at: Timestamp = record["t"].as_str().unwrap().parse().unwrap();
            record["t"] = at.checked_sub(SignedDuration::from_hours(hours)).unwrap().to_string().into();
            format!("{record}\n")
        });
        fs::write(path, lines.collect::<String>()).unwrap();
        fs::remove_file(env.path("state/index.json")).unwrap();
    };
    later(20);
    env.sync();
    assert_eq!(env.cached(), Vec::<String>::new(), "the day is not over");
    later(5);
    env.sync();
    assert_eq!(env.cached().len(), 1, "the day is over");
}

#[test]
fn a_host_that_has_got_another_name_goes_on_where_it_was() {
    for placement in PLACEMENTS {
        let (env, _) = two_films(placement);
        let path = env.path("state/history.jsonl");
        let lines = env.history().into_iter().map(|mut record| {
            if let Some(host) = record.get_mut("host") {
                *host = "tower-before".into();
            }
            format!("{record}\n")
        });
        let text: String = lines.collect();
        assert!(text.contains("tower-before"));
        fs::write(path, text).unwrap();
        env.sync();
        assert!(env.sync().stdout.contains("Nothing to do"), "{placement}");
        env.run(&["evict", "--all"]).expect(0);
        assert_eq!(env.cached(), Vec::<String>::new(), "{placement}");
    }
}

#[test]
fn where_the_state_cannot_be_written_nothing_is_changed() {
    for placement in PLACEMENTS {
        let env = TestEnv::with_placement(placement);
        env.on_deck("owner", &env.movie("Dune", 2021, 1000));
        fs::write(env.path("state"), "a file where the directory should be").unwrap();
        let before = env.snapshot("");
        for args in [&["sync"][..], &["evict", "--all"]] {
            let run = env.run(args).expect(1);
            assert!(run.stderr.contains("state"), "{placement} {args:?}: {}", run.stderr);
        }
        let mut after = env.snapshot("");
        after.entries.remove("config.toml");
        assert_eq!(after, before, "{placement}");
        fs::remove_file(env.path("state")).unwrap();
        env.sync();
        assert_eq!(env.cached().len(), 1, "{placement}");
    }
}
