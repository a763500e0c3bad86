//! Stopped and killed in the middle: at every stage Plex reads a complete file, and the next run settles
//! the rest.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::util::env::{Run, TestEnv, Tree, movie_path};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];

/// More than a slowed-down copy does in a second, and no more: killed copies are made once more.
const SIZE: usize = (1 << 20) + 1;

/// A film on deck, what Plex reads of it, and the array as it was.
struct Film {
    env: TestEnv,
    key: String,
    media: String,
    bytes: Vec<u8>,
    before: Tree,
}

impl Film {
    /// `None` where copies are clones, made at once: there is no middle, and the tests here pass over it.
    fn new(placement: &str) -> Option<Self> {
        let env = TestEnv::with_placement(placement);
        if env.clones() {
            return None;
        }
        let key = env.movie("Dune", 2021, SIZE);
        env.on_deck("owner", &key);
        let media = movie_path("Dune", 2021);
        let bytes = fs::read(env.array(&media)).unwrap();
        let before = env.snapshot("disk1/media");
        Some(Self { env, key, media, bytes, before })
    }

    #[track_caller]
    fn assert_complete(&self, stage: &str) {
        assert!(self.env.shown(&self.media).as_ref() == Some(&self.bytes), "{stage}: {:?}", self.env.snapshot(""));
    }

    #[track_caller]
    fn assert_as_before(&self, stage: &str) {
        let now = self.env.snapshot("disk1/media").without_markers();
        assert_eq!(now.without_folder_times(), self.before.clone().without_folder_times(), "{stage}");
        assert_eq!(self.env.snapshot("cache/media").without_markers().entries.len(), 0, "{stage}");
    }
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Ends a process that was started here at once, as a power cut would.
fn kill(mut child: Child) {
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

#[test]
fn a_signal_ends_a_copy_cleanly_and_the_next_run_makes_it() {
    for (placement, signal, status) in [
        ("copy", Signal::TERM, 143),
        ("hide", Signal::INT, 130),
        ("move", Signal::TERM, 143),
        ("symlink", Signal::INT, 130),
    ] {
        let Some(film) = Film::new(placement) else { return };
        let child = film.env.mid_copy(&["sync", "--json"]);
        send(&child, signal);
        let run = Run::from(child.wait_with_output().unwrap()).expect(status);
        assert_eq!(run.json_of("summary")["outcome"], "stopped", "{placement}");
        film.assert_as_before(placement);
        assert_eq!(film.env.snapshot("disk1/media").without_markers(), film.before, "{placement}: folder times too");
        let last = film.env.history().pop().unwrap();
        assert_eq!((&last["event"], &last["outcome"]), (&"run_finished".into(), &"stopped".into()), "{placement}");
        film.env.sync();
        assert_eq!(film.env.cached(), [film.media.as_str()], "{placement}");
        film.assert_complete(placement);
    }
}

#[test]
fn an_undo_that_was_stopped_is_gone_on_with_by_the_next_one() {
    let Some(film) = Film::new("copy") else { return };
    let env = &film.env;
    let small = env.movie("Zulu", 1964, 100);
    env.on_deck("owner", &small);
    env.sync();
    env.run(&["evict", "--all"]).expect(0);
    assert_eq!(env.cached().len(), 0);
    let child = env.spawn(&["undo", "--yes", "--json", "--bwlimit=100kB/s"]);
    while !env.history().iter().any(|record| record["run"] == 3 && record["event"] == "ended") {
        std::thread::sleep(Duration::from_millis(2));
    }
    send(&child, Signal::TERM);
    let run = Run::from(child.wait_with_output().unwrap()).expect(143);
    assert_eq!(run.json_of("summary")["cached"]["files"], 1, "one of two");
    let run = env.run(&["undo", "--yes", "--json"]).expect(0);
    assert_eq!(run.json_of("summary")["cached"]["files"], 1, "the other one");
    assert_eq!(env.cached().len(), 2);
    let undone = env.run(&["undo", "2", "--yes"]).expect(1);
    assert!(undone.stderr.contains("run 2 was taken back by run 4 already"), "{}", undone.stderr);
    env.run(&["undo", "--yes"]).expect(0);
    assert_eq!(env.cached().len(), 0, "the sync before it was taken back");
}

#[test]
fn a_second_signal_ends_it_at_once_and_the_next_run_settles() {
    let Some(film) = Film::new("symlink") else { return };
    let child = film.env.mid_copy(&["sync"]);
    // Stopped, so that both are there before either is acted upon.
    send(&child, Signal::STOP);
    send(&child, Signal::TERM);
    send(&child, Signal::INT);
    send(&child, Signal::CONT);
    let status = child.wait_with_output().unwrap().status;
    assert!(status.signal().is_some(), "killed, not ended: {status}");
    film.assert_complete("after the second signal");
    assert_ne!(film.env.history().pop().unwrap()["event"], "run_finished");
    film.env.sync();
    film.assert_complete("after the next run");
    assert_eq!(film.env.leftovers(), Vec::<String>::new());
}

#[test]
fn after_a_kill_in_the_middle_of_caching_the_next_runs_settle_it() {
    for placement in PLACEMENTS {
        let Some(film) = Film::new(placement) else { return };
        kill(film.env.mid_copy(&["sync"]));
        assert_eq!(film.env.leftovers().len(), 1, "{placement}: the test has cut a copy short");
        film.assert_complete(placement);
        let run = film.env.run(&["sync", "--dry-run"]).expect(0);
        assert!(run.stderr.contains("interrupted") || run.stdout.contains("interrupted"), "{placement}: {run:?}");
        for round in ["first", "second"] {
            film.env.sync();
            film.assert_complete(&format!("{placement}: after the {round} run"));
            assert_eq!(film.env.leftovers(), Vec::<String>::new(), "{placement}");
            assert_eq!(film.env.cached(), [film.media.as_str()], "{placement}");
        }
        film.env.watch("owner", &film.key, Duration::from_secs(3 * 86400));
        film.env.sync();
        film.assert_complete(placement);
        film.assert_as_before(placement);
    }
}

#[test]
fn after_a_kill_in_the_middle_of_an_eviction_the_next_runs_settle_it() {
    for placement in PLACEMENTS {
        let Some(mut film) = Film::new(placement) else { return };
        film.env.sync();
        // So that every placement has to copy.
        fs::File::options().append(true).open(film.env.cache(&film.media)).unwrap().write_all(b"edited").unwrap();
        film.bytes.extend(b"edited");
        film.assert_complete(placement);
        kill(film.env.mid_copy(&["evict", "--all"]));
        assert_eq!(film.env.leftovers().len(), 1, "{placement}: the test has cut a copy short");
        film.assert_complete(placement);
        for round in ["first", "second"] {
            film.env.run(&["evict", "--all"]).expect(0);
            film.assert_complete(&format!("{placement}: after the {round} run"));
            assert_eq!(film.env.leftovers(), Vec::<String>::new(), "{placement}");
        }
        assert_eq!(film.env.cached(), Vec::<String>::new(), "{placement}");
        assert!(fs::symlink_metadata(film.env.array(&film.media)).unwrap().is_file(), "{placement}");
        assert!(!film.env.array(&format!("{}.plexcached", film.media)).exists(), "{placement}");
    }
}

#[test]
fn after_a_kill_in_the_middle_of_an_undo_the_next_runs_settle_it() {
    for placement in PLACEMENTS {
        let Some(film) = Film::new(placement) else { return };
        film.env.sync();
        film.env.run(&["evict", "--all"]).expect(0);
        kill(film.env.mid_copy(&["undo", "--yes"]));
        assert_eq!(film.env.leftovers().len(), 1, "{placement}: the test has cut a copy short");
        film.assert_complete(placement);
        // Nothing came of that undo, so the eviction still stands and can be undone.
        film.env.run(&["undo", "--yes"]).expect(0);
        film.assert_complete(placement);
        assert_eq!(film.env.leftovers(), Vec::<String>::new(), "{placement}");
        assert_eq!(film.env.cached(), [film.media.as_str()], "{placement}");
        film.env.run(&["evict", "--all"]).expect(0);
        film.assert_as_before(placement);
    }
}

#[test]
fn in_move_a_kill_in_the_middle_of_copying_back_leaves_the_copy_on_the_cache() {
    let Some(film) = Film::new("move") else { return };
    film.env.sync();
    kill(film.env.mid_copy(&["undo", "--yes"]));
    assert!(fs::read(film.env.cache(&film.media)).unwrap() == film.bytes);
    film.env.run(&["evict", "--all"]).expect(0);
    film.assert_as_before("evicted");
}

#[test]
fn a_kill_at_any_moment_leaves_a_complete_file_and_the_next_run_mends_the_rest() {
    for placement in PLACEMENTS {
        let Some(mut film) = Film::new(placement) else { return };
        film.env.settings += "[evict]\nundo_hold = \"0\"\n";
        for step in 0..12 {
            let mut child = film.env.spawn(if step % 2 == 0 { &["sync"][..] } else { &["evict", "--all"] });
            std::thread::sleep(Duration::from_millis(4 * step));
            child.kill().unwrap();
            child.wait().unwrap();
            film.assert_complete(&format!("{placement}: killed after {} ms", 4 * step));
        }
        film.env.sync();
        film.assert_complete(placement);
        assert_eq!(film.env.leftovers(), Vec::<String>::new(), "{placement}");
        film.env.run(&["evict", "--all"]).expect(0);
        film.assert_as_before(placement);
    }
}
