//! Small files that go through their steps together: each still has an end of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use crate::util::env::{Run, TestEnv, episode_path};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];

/// An episode with `count` subtitles of 300 bytes, wanted.
fn world(placement: &str, count: usize) -> TestEnv {
    // So many syncs are quick in memory only.
    let memory = Path::new("/dev/shm");
    let mut dir = tempfile::Builder::new();
    dir.prefix("plexcache-test-");
    let dir = if memory.is_dir() { dir.tempdir_in(memory) } else { dir.tempdir() };
    let mut env = TestEnv::at(dir.unwrap(), placement);
    env.settings.push_str("[select]\nnext_episodes = 0\n");
    let key = env.episode("Lost", 1, 1, 5000);
    env.on_deck("owner", &key);
    for number in 0..count {
        env.file(&subtitle(number), 300);
    }
    env
}

fn subtitle(number: usize) -> String {
    episode_path("Lost", 1, 1).replace(".mkv", &format!(".{number:03}.srt"))
}

/// What the history tells of the actions of run `run`: events in their order, each with its number.
fn events(env: &TestEnv, run: u64) -> Vec<String> {
    let of = |record: &Value| Some(format!("{} {}", record["event"].as_str()?, record["seq"].as_u64()?));
    env.history().iter().filter(|record| record["run"] == run).filter_map(of).collect()
}

/// The files of the lines of type `action`, with what came of them.
fn outcomes(run: &Run) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let actions = run.json().into_iter().filter(|line| line["type"] == "action");
    let outcome = |line: Value| (text(&line["path"]), text(&line["result"]));
    actions.map(outcome).filter(|(_, result)| !result.is_empty()).collect()
}

#[test]
fn small_files_are_announced_together_and_each_is_published_and_ended() {
    let env = world("move", 3);
    env.sync();
    let expected = "intent 1,intent 2,intent 3,made 1,made 2,made 3,published 1,published 2,published 3,\
                    ended 1,ended 2,ended 3,intent 4,published 4,ended 4";
    assert_eq!(events(&env, 1).join(","), expected);
    env.run(&["evict", "--all"]).expect(0);
    let expected = "intent 1,intent 2,intent 3,intent 4,published 1,published 2,published 3,published 4,\
                    ended 1,ended 2,ended 3,ended 4";
    assert_eq!(events(&env, 2).join(","), expected);
}

#[test]
fn more_files_than_a_batch_holds_come_and_go_and_leave_all_as_it_was() {
    for placement in PLACEMENTS {
        let env = world(placement, 140);
        let before = env.snapshot("disk1/media/TV");
        let run = env.run(&["sync", "--json"]).expect(0);
        let done: Vec<_> = outcomes(&run).into_iter().map(|(path, _)| path).collect();
        assert_eq!((done.len(), done.is_sorted()), (141, true), "{placement}: in the order of the plan, {done:?}");
        assert_eq!(env.cached().len(), 141, "{placement}");
        let season = fs::metadata(env.cache(&subtitle(0)).parent().unwrap()).unwrap();
        let like = fs::metadata(env.array(&subtitle(0)).parent().unwrap()).unwrap();
        assert_eq!((season.mtime(), season.mtime_nsec()), (like.mtime(), like.mtime_nsec()), "{placement}");
        env.run(&["evict", "--all"]).expect(0);
        assert_eq!(env.cached(), [""; 0], "{placement}");
        // Names, contents, owners, modes and times, those of the folders too.
        assert_eq!(env.snapshot("disk1/media/TV"), before, "{placement}");
        assert_eq!(env.leftovers(), [""; 0], "{placement}");
    }
}

#[test]
fn a_file_that_somebody_writes_to_ends_its_own_action_only() {
    // In the other placements the plan leaves it out, because somebody has it open.
    let env = world("copy", 4);
    let writer = fs::OpenOptions::new().append(true).open(env.array(&subtitle(1))).unwrap();
    let run = env.run(&["sync", "--json"]);
    let skipped: Vec<_> = outcomes(&run).into_iter().filter(|(_, result)| result != "done").collect();
    assert_eq!(skipped, [(subtitle(1), "skipped".to_owned())], "{run:?}");
    assert_eq!(events(&env, 1)[..4], ["intent 1", "intent 2", "intent 3", "intent 4"]);
    assert_eq!(events(&env, 1).iter().filter(|event| event.starts_with("ended")).count(), 5);
    assert_eq!(env.cached().len(), 4);
    assert!(!env.cache(&subtitle(1)).exists());
    assert_eq!(env.leftovers(), [""; 0]);
    drop(writer);
}

#[test]
fn two_names_of_one_file_do_not_take_each_other_for_a_reader() {
    for placement in ["copy", "hide", "symlink"] {
        let env = world(placement, 2);
        fs::hard_link(env.array(&subtitle(0)), env.array(&subtitle(2))).unwrap();
        env.sync();
        assert_eq!(env.cached().len(), 4, "{placement}");
    }
}

#[test]
fn a_batch_ends_where_max_transfer_does() {
    let env = world("copy", 5);
    let run = env.run(&["sync", "--json", "--max-transfer", "5650"]).expect(0);
    let done: Vec<_> = outcomes(&run).into_iter().map(|(path, _)| path).collect();
    assert_eq!(done, (0..5).map(subtitle).collect::<Vec<_>>());
    let run = env.run(&["sync", "--json", "--max-transfer", "5000"]).expect(0);
    let done: Vec<_> = outcomes(&run).into_iter().map(|(path, _)| path).collect();
    assert_eq!(done, [episode_path("Lost", 1, 1)]);
}

/// Three episodes with two subtitles each, all wanted in this order, of which Plex proves nothing.
fn three_units() -> TestEnv {
    let mut env = world("copy", 2);
    env.settings = env.settings.replacen("[safety]\n", "[safety]\nverify_with_plex = false\n", 1);
    for show in ["Monk", "Numbers"] {
        let key = env.episode(show, 1, 1, 5000);
        env.on_deck("owner", &key);
        for number in 0..2 {
            env.file(&subtitle_of(show, number), 300);
        }
    }
    env
}

fn subtitle_of(show: &str, number: usize) -> String {
    subtitle(number).replace("Lost", show)
}

#[test]
fn sidecars_of_several_units_go_together_and_each_video_after_its_own() {
    let env = three_units();
    let writer = fs::OpenOptions::new().append(true).open(env.array(&subtitle_of("Monk", 1))).unwrap();
    let run = env.run(&["sync", "--json"]);
    let shows = ["Lost", "Monk", "Numbers"];
    let subtitles = shows.iter().flat_map(|show| [0, 1].map(|number| subtitle_of(show, number)));
    let expected: Vec<String> = subtitles.chain(shows.map(|show| episode_path(show, 1, 1))).collect();
    let order: Vec<String> = outcomes(&run).into_iter().map(|(path, _)| path).collect();
    assert_eq!(order, expected, "{run:?}");
    let all = events(&env, 1);
    let place = |event: &str| all.iter().rposition(|other| other == event);
    assert!(place("intent 6") < place("made 1") && place("ended 6") < place("intent 7"), "{all:?}");
    assert!(place("intent 9") < place("published 7"), "{all:?}");
    // Which video has a sidecar to look for is known before it is begun.
    let history = env.history();
    let intents = history.iter().map(|record| &record["action"]);
    let left_out: Vec<_> = intents.filter(|action| action["left_out"] == true).map(|action| &action["path"]).collect();
    assert_eq!(left_out, [&episode_path("Monk", 1, 1)]);
    drop(writer);
}

#[test]
fn a_video_that_is_passed_over_keeps_its_room() {
    for (most, files) in [("599", 1), ("600", 2), ("5600", 3), ("5899", 3), ("6199", 4), ("11200", 6)] {
        let env = three_units();
        env.run(&["sync", "--max-transfer", most]).expect(0);
        assert_eq!(env.cached().len(), files, "{most}: {:?}", env.cached());
        assert_eq!(env.cache(&episode_path("Lost", 1, 1)).exists(), files > 2, "{most}");
    }
}

#[test]
fn what_somebody_writes_to_a_copy_before_it_is_on_record_is_not_taken_for_ours() {
    for placement in ["copy", "hide"] {
        let env = world(placement, 90);
        let path = env.cache(&subtitle(0));
        let watcher = std::thread::spawn(move || {
            while !path.exists() {
                std::thread::yield_now();
            }
            fs::write(&path, "better lines").unwrap();
        });
        // Whenever that was, nobody calls it well that it was overwritten.
        env.run(&["sync"]);
        watcher.join().unwrap();
        env.run(&["evict", "--all"]);
        let is_there = [env.array(&subtitle(0)), env.cache(&subtitle(0))]
            .iter()
            .any(|path| fs::read(path).is_ok_and(|bytes| bytes == b"better lines"));
        assert!(is_there, "{placement}: {:?}", env.history());
    }
}

#[test]
fn what_was_copied_back_and_edited_at_once_is_a_conflict_and_not_open_for_ever() {
    let env = world("move", 90);
    env.sync();
    let path = env.array(&subtitle(0));
    let watcher = std::thread::spawn(move || {
        while !path.exists() {
            std::thread::yield_now();
        }
        fs::write(&path, "better lines").unwrap();
    });
    env.run(&["evict", "--all"]);
    watcher.join().unwrap();
    assert_eq!(fs::read(env.array(&subtitle(0))).unwrap(), b"better lines");
    for _ in 0..2 {
        let run = env.run(&["evict", "--all"]);
        assert!(!run.stdout.contains("not settled") && !run.stderr.contains("not settled"), "{run:?}");
        assert_eq!(fs::read(env.array(&subtitle(0))).unwrap(), b"better lines");
    }
}
