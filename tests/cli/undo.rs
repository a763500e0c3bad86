//! `undo`, and the history that it and everything else rests on.

use std::fs;
use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::util::env::{Run, TestEnv, episode_path, movie_path};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];

/// Two films on deck that a first `sync` (run 1) has put on the cache.
struct Films {
    env: TestEnv,
    keys: [String; 2],
    media: [String; 2],
}

fn films(placement: &str) -> Films {
    let env = TestEnv::with_placement(placement);
    let keys = [env.movie("Arrival", 2016, 200_000), env.movie("Dune", 2021, 300_000)];
    for key in &keys {
        env.on_deck("owner", key);
    }
    env.sync();
    let media = [movie_path("Arrival", 2016), movie_path("Dune", 2021)];
    assert_eq!(env.cached(), media, "{placement}");
    Films { env, keys, media }
}

fn undo(env: &TestEnv, more: &[&str]) -> Run {
    env.run(&[&["undo", "--yes", "--json"], more].concat())
}

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn undo_of_a_sync_puts_everything_back_as_it_was() {
    for placement in PLACEMENTS {
        let env = TestEnv::with_placement(placement);
        for (title, size) in [("Arrival", 200_000), ("Dune", 300_000)] {
            env.on_deck("owner", &env.movie(title, 2020, size));
        }
        let before = env.snapshot("disk1/media");
        env.sync();
        assert_eq!(env.cached().len(), 2, "{placement}");
        let run = undo(&env, &[]).expect(0);
        assert_eq!(run.json_of("summary")["evicted"]["files"], 2, "{placement}");
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
        assert_eq!(env.snapshot("cache/media").without_markers().entries.len(), 0, "{placement}");
    }
}

#[test]
fn undo_of_an_eviction_brings_the_same_bytes_back_with_the_same_times() {
    for placement in PLACEMENTS {
        let Films { env, .. } = films(placement);
        let tiers = || {
            let mut trees = [env.snapshot("disk1/media"), env.snapshot("cache/media")];
            for entry in trees[0].entries.values_mut().filter(|entry| entry.kind == "link") {
                entry.mtime = (0, 0);
            }
            trees
        };
        let before = tiers();
        env.run(&["evict", "--all"]).expect(0);
        assert_eq!(env.cached(), none(), "{placement}");
        undo(&env, &[]).expect(0);
        assert_eq!(tiers(), before, "{placement}");
        env.run(&["evict", "--all"]).expect(0);
        assert_eq!(env.cached(), none(), "{placement}: what an undo has cached can be evicted like anything else");
    }
}

#[test]
fn undoing_an_undo_does_it_again() {
    for placement in PLACEMENTS {
        let Films { env, media, .. } = films(placement);
        undo(&env, &[]).expect(0);
        assert_eq!(env.cached(), none(), "{placement}");
        undo(&env, &["2"]).expect(0);
        assert_eq!(env.cached(), media, "{placement}: the undo of the undo");
        undo(&env, &["1"]).expect(0);
        assert_eq!(env.cached(), none(), "{placement}: and the first run stands again, so it can be undone");
    }
}

#[test]
fn two_undos_in_a_row_go_one_run_further_back_until_nothing_is_left() {
    let Films { env, media, .. } = films("hide");
    let later = env.movie("Sicario", 2015, 100_000);
    env.on_deck("owner", &later);
    env.sync();
    assert_eq!(env.cached().len(), 3);
    undo(&env, &[]).expect(0);
    assert_eq!(env.cached(), media, "the newest run first");
    undo(&env, &[]).expect(0);
    assert_eq!(env.cached(), none());
    let history = env.history();
    let run = env.run(&["undo", "--yes"]).expect(0);
    assert!(run.stderr.contains("nothing to undo") || run.stdout.contains("nothing to undo"), "{run:?}");
    assert_eq!(env.history(), history, "a run that does nothing leaves no record");
}

#[test]
fn a_file_that_an_undo_put_back_can_be_taken_further_back() {
    for placement in PLACEMENTS {
        let Films { env, media, .. } = films(placement);
        env.run(&["evict", "--all"]).expect(0);
        undo(&env, &[]).expect(0);
        assert_eq!(env.cached(), media, "{placement}: the eviction is undone");
        undo(&env, &[]).expect(0);
        assert_eq!(env.cached(), none(), "{placement}: and so is the sync before it");
        undo(&env, &["4"]).expect(0);
        undo(&env, &["3"]).expect(0);
        assert_eq!(env.cached(), none(), "{placement}: done again, in the order of the runs");
        undo(&env, &["2"]).expect(0);
        assert_eq!(env.cached(), media, "{placement}: and the eviction undone once more");
    }
}

#[test]
fn the_last_runs_are_undone_together_and_only_once() {
    let Films { env, keys, .. } = films("symlink");
    let before = env.snapshot("disk1/media");
    env.run(&["evict", &movie_path("Dune", 2021)]).expect(0);
    let run = undo(&env, &["--last", "2"]).expect(0);
    assert_eq!(env.cached(), none());
    let plan = run.json_of("plan");
    assert_eq!(plan["actions"].as_array().unwrap().len(), 1, "a file that is where it was needs nothing: {plan}");
    undo(&env, &["3"]).expect(0);
    assert_eq!(env.cached(), [movie_path("Arrival", 2016)], "what the undo did is taken back, and no more");
    assert_ne!(env.snapshot("disk1/media"), before);
    assert_eq!(keys.len(), 2);
}

#[test]
fn a_run_is_undone_by_its_number() {
    let Films { env, media, .. } = films("copy");
    let later = env.movie("Sicario", 2015, 100_000);
    env.on_deck("owner", &later);
    env.sync();
    undo(&env, &["1"]).expect(0);
    assert_eq!(env.cached(), [movie_path("Sicario", 2015)]);
    let run = undo(&env, &["1"]).expect(1);
    assert!(run.json_of("error")["message"].as_str().unwrap().contains("taken back by run 3"), "{run:?}");
    let run = undo(&env, &["99"]).expect(1);
    assert!(run.json_of("error")["message"].as_str().unwrap().contains("no run 99"), "{run:?}");
    assert!(!media.contains(&env.cached()[0]));
}

#[test]
fn without_a_terminal_an_undo_asks_for_yes_and_changes_nothing() {
    let Films { env, media, .. } = films("move");
    let before = (env.snapshot("disk1"), env.snapshot("cache"), env.history());
    let run = env.run(&["undo"]).expect(2);
    assert!(run.stderr.contains("--yes"), "{run:?}");
    assert_eq!((env.snapshot("disk1"), env.snapshot("cache"), env.history()), before);
    env.run(&["undo", "--dry-run"]).expect(0);
    assert_eq!((env.snapshot("disk1"), env.snapshot("cache"), env.history()), before);
    assert_eq!(env.cached(), media);
}

#[test]
fn a_file_that_was_changed_since_is_left_alone_and_the_rest_is_undone() {
    for placement in PLACEMENTS {
        let Films { env, media: [arrival, dune], .. } = films(placement);
        fs::File::options().append(true).open(env.cache(&dune)).unwrap().write_all(b"new").unwrap();
        let run = undo(&env, &[]).expect(3);
        assert_eq!(run.why_left()[&dune], "changed", "{placement}");
        assert_eq!(env.cached(), [dune.as_str()], "{placement}");
        assert!(env.shown(&dune).unwrap().ends_with(b"new"), "{placement}");
        assert!(!env.cache(&arrival).exists(), "{placement}");
    }
}

#[test]
fn an_original_that_was_changed_since_is_not_cached_again_by_an_undo() {
    for placement in PLACEMENTS {
        let Films { env, media: [arrival, dune], .. } = films(placement);
        env.run(&["evict", "--all"]).expect(0);
        fs::File::options().append(true).open(env.array(&dune)).unwrap().write_all(b"new").unwrap();
        let run = undo(&env, &[]).expect(3);
        assert_eq!(run.why_left()[&dune], "changed", "{placement}");
        assert_eq!(env.cached(), [arrival.as_str()], "{placement}");
        assert!(fs::read(env.array(&dune)).unwrap().ends_with(b"new"), "{placement}");
    }
}

#[test]
fn what_a_later_run_has_touched_is_not_undone() {
    let Films { env, media: [arrival, dune], .. } = films("hide");
    env.run(&["evict", &dune]).expect(0);
    let run = undo(&env, &["1"]).expect(3);
    assert_eq!(run.why_left()[&dune], "changed");
    assert!(run.stdout.contains("run 2 has touched it since"), "{}", run.stdout);
    assert_eq!(env.cached(), none(), "{arrival} is undone, {dune} was not there any more");
}

#[test]
fn the_next_sync_does_not_put_back_what_an_undo_evicted() {
    for placement in PLACEMENTS {
        let Films { mut env, media, .. } = films(placement);
        undo(&env, &[]).expect(0);
        let run = env.run(&["sync", "--json"]).expect(0);
        assert_eq!(run.why_left()[&media[1]], "held", "{placement}");
        assert_eq!(env.cached(), none(), "{placement}");
        fs::remove_file(env.path("state/index.json")).unwrap();
        assert_eq!(
            env.run(&["sync", "--json"]).expect(0).why_left()[&media[1]],
            "held",
            "{placement}: from the records"
        );
        // An undo without a hold of its own ends the one before.
        env.settings += "[evict]\nundo_hold = \"0\"\n";
        undo(&env, &["2"]).expect(0);
        undo(&env, &["1"]).expect(0);
        assert_eq!(env.cached(), none(), "{placement}");
        env.sync();
        assert_eq!(env.cached(), media, "{placement}");
    }
}

#[test]
fn the_next_sync_does_not_evict_what_an_undo_put_back() {
    let Films { mut env, keys, media } = films("copy");
    env.settings += "[evict]\nwatched_after = \"0\"\nundo_hold = \"1h\"\n";
    env.watch("owner", &keys[1], Duration::from_secs(3600));
    env.sync();
    assert_eq!(env.cached(), media[..1]);
    undo(&env, &[]).expect(0);
    assert_eq!(env.cached(), media);
    let run = env.run(&["sync", "--json"]).expect(0);
    assert_eq!(run.why_left()[&media[1]], "held");
    assert_eq!(env.cached(), media);
    env.run(&["evict", &media[1]]).expect(0);
    assert_eq!(env.cached(), media[..1], "a person who asks for it is not held");
}

/// What `status` says, but for the moment at which it says it.
fn status(env: &TestEnv) -> Value {
    let mut status = env.run(&["status", "--json"]).expect(0).json_of("status");
    for tier in status["tiers"].as_array_mut().unwrap() {
        tier["free"] = Value::Null;
    }
    status
}

#[test]
fn the_index_is_made_again_from_the_history_when_it_is_gone_damaged_or_of_another_one() {
    type Spoil = fn(&TestEnv);
    let spoils: [(&str, Spoil); 5] = [
        ("gone", |env| fs::remove_file(env.path("state/index.json")).unwrap()),
        ("empty", |env| fs::write(env.path("state/index.json"), "").unwrap()),
        ("damaged", |env| fs::write(env.path("state/index.json"), "{\"format\":1,\"mark\"").unwrap()),
        ("of another format", |env| fs::write(env.path("state/index.json"), "{\"format\":99}").unwrap()),
        ("of another history", |env| {
            let Films { env: other, .. } = films("move");
            fs::copy(other.path("state/index.json"), env.path("state/index.json")).unwrap();
        }),
    ];
    for (what, spoil) in spoils {
        let Films { env, media, .. } = films("hide");
        let before = status(&env);
        assert_eq!(before["files"].as_array().unwrap().len(), 2);
        spoil(&env);
        assert_eq!(status(&env), before, "{what}");
        let run = env.run(&["sync", "--json"]).expect(0);
        assert_eq!(run.json_of("plan")["actions"], json!([]), "{what}: nothing to do");
        spoil(&env);
        undo(&env, &[]).expect(0);
        assert_eq!(env.cached(), none(), "{what}");
        assert!(env.array(&media[0]).exists(), "{what}");
    }
}

#[test]
fn a_torn_last_record_is_put_aside_and_reported() {
    let Films { env, media, .. } = films("symlink");
    let history = fs::read(env.path("state/history.jsonl")).unwrap();
    let torn = b"{\"v\":1,\"run\":2,\"t\":\"2026-";
    fs::write(env.path("state/history.jsonl"), [&history[..], torn].concat()).unwrap();
    env.run(&["sync", "--dry-run"]).expect(0);
    env.run(&["status"]).expect(0);
    assert!(!env.path("state/history.torn").exists(), "looking changes nothing");
    let run = env.run(&["evict", "--all"]).expect(0);
    assert!(run.stderr.contains("history.torn"), "{}", run.stderr);
    assert_eq!(fs::read(env.path("state/history.torn")).unwrap(), [&torn[..], b"\n"].concat());
    assert!(fs::read(env.path("state/history.jsonl")).unwrap().starts_with(&history), "nothing is rewritten");
    assert_eq!(env.history().last().unwrap()["event"], "run_finished");
    assert_eq!(env.cached(), none());
    assert!(env.array(&media[0]).exists());
    let run = env.run(&["sync"]);
    assert!(!run.stderr.contains("torn"), "it is told once: {}", run.stderr);
}

#[test]
fn damage_in_the_middle_of_the_history_refuses_every_change() {
    let Films { env, .. } = films("hide");
    let path = env.path("state/history.jsonl");
    let mut lines: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    lines[2].truncate(40);
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    fs::remove_file(env.path("state/index.json")).unwrap();
    let before = (env.snapshot("disk1"), env.snapshot("cache"), fs::read(&path).unwrap());
    for args in [&["sync"][..], &["evict", "--all"], &["undo", "--yes"], &["sync", "--dry-run"]] {
        let run = env.run(args).expect(1);
        assert!(run.stderr.contains("history.jsonl") && run.stderr.contains("damaged"), "{args:?}: {}", run.stderr);
        assert_eq!((env.snapshot("disk1"), env.snapshot("cache"), fs::read(&path).unwrap()), before, "{args:?}");
    }
}

#[test]
fn lines_and_fields_of_a_later_release_are_passed_over() {
    let Films { env, .. } = films("move");
    let before = status(&env);
    let path = env.path("state/history.jsonl");
    let mut text = String::new();
    for mut record in env.history() {
        record["colour"] = json!("mauve");
        let later = json!({"v": 7, "run": 1, "t": record["t"], "event": "sang", "verse": [1]});
        text.extend([record.to_string(), later.to_string()].map(|line| line + "\n"));
    }
    fs::write(&path, &text).unwrap();
    fs::remove_file(env.path("state/index.json")).unwrap();
    assert_eq!(status(&env), before);
    undo(&env, &[]).expect(0);
    assert_eq!(env.cached(), none());
    assert!(fs::read_to_string(&path).unwrap().starts_with(&text), "what is not understood is kept");
}

#[test]
fn the_intent_is_recorded_before_and_the_outcome_after_and_the_run_around_them() {
    for placement in PLACEMENTS {
        let Films { env, .. } = films(placement);
        env.run(&["evict", "--all"]).expect(0);
        for run in [1, 2] {
            let records: Vec<Value> = env.history().into_iter().filter(|record| record["run"] == run).collect();
            let events: Vec<&str> = records.iter().map(|record| record["event"].as_str().unwrap()).collect();
            assert_eq!((events[0], *events.last().unwrap()), ("run_started", "run_finished"), "{placement} {run}");
            for seq in [1, 2] {
                let of_action: Vec<&str> = records
                    .iter()
                    .filter(|record| record["seq"] == seq && record["event"] != "made")
                    .map(|record| record["event"].as_str().unwrap())
                    .collect();
                let copied = run == 1 || placement == "move";
                let expected: &[&str] = if copied { &["intent", "published", "ended"] } else { &["intent", "ended"] };
                assert_eq!(of_action, expected, "{placement} {run} {seq}");
            }
            let finished = records.last().unwrap();
            let count = if run == 1 { &finished["cached"] } else { &finished["evicted"] };
            assert_eq!((&finished["outcome"], count), (&json!("ok"), &json!({"files": 2, "bytes": 500_000})));
        }
    }
}

#[test]
fn a_run_records_who_started_it_and_how_and_no_secret() {
    let env = TestEnv::new();
    let show = env.episode("Severance", 1, 1, 1000);
    env.on_deck("owner", &show);
    let output = env.command(&["sync", "-vv", "--bwlimit=50MB/s"]).env("INVOCATION_ID", "4711").output().unwrap();
    let run = Run::from(output).expect(0);
    assert_eq!(env.cached(), [episode_path("Severance", 1, 1)]);
    let started = env.history().remove(0);
    assert_eq!(started["event"], "run_started");
    assert_eq!((&started["command"], &started["trigger"]), (&json!("sync"), &json!("timer")));
    assert_eq!(started["version"], env!("CARGO_PKG_VERSION"));
    assert!(started["options"].as_array().unwrap().contains(&json!("--bwlimit=50MB/s")), "{started}");
    assert!(!started["host"].as_str().unwrap().is_empty());
    for entry in fs::read_dir(env.path("state")).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains("owner-token"), "{}", path.display());
    }
    assert!(!run.stdout.contains("owner-token") && !run.stderr.contains("owner-token"), "{run:?}");
    let mode = |name: &str| {
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(env.path(name)).unwrap().permissions()) & 0o7777
    };
    assert_eq!((mode("state"), mode("state/history.jsonl"), mode("state/wants.json")), (0o700, 0o600, 0o600));
}

#[test]
fn an_undo_that_a_limit_ended_is_gone_on_with_by_the_next_one() {
    let Films { env, .. } = films("copy");
    let cached = env.cached();
    env.run(&["evict", "--all"]).expect(0);
    undo(&env, &["--max-transfer", "350000"]);
    assert!((1..cached.len()).contains(&env.cached().len()), "{:?}", env.cached());
    undo(&env, &["2"]);
    assert_eq!(env.cached(), cached);
}
