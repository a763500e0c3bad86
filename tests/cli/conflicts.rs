//! Somebody else works on the same files: before a run, between two runs, and in the middle of one.
//!
//! Whatever happens, the newest content stays complete, nothing is overwritten, and what was left as it
//! is is reported.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;

use crate::util::env::{Run, TestEnv, file_at, movie_path, set_mtime};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];

/// A film on deck that nothing was done with yet, and its media path.
fn film(placement: &str, size: usize) -> (TestEnv, String) {
    let env = TestEnv::with_placement(placement);
    let key = env.movie("Dune", 2021, size);
    env.on_deck("owner", &key);
    (env, movie_path("Dune", 2021))
}

/// The same, on the cache; and its contents.
fn cached_film(placement: &str) -> (TestEnv, String, Vec<u8>) {
    let (env, media) = film(placement, 300_000);
    let bytes = fs::read(env.array(&media)).unwrap();
    env.sync();
    assert_eq!(env.cached(), [media.as_str()], "{placement}");
    (env, media, bytes)
}

fn evict_all(env: &TestEnv) -> Run {
    env.run(&["evict", "--all", "--json"])
}

fn kept(media: &str) -> String {
    format!("{media}.plexcached")
}

/// Puts another file under the array's name, as Sonarr does: written beside it, then renamed over it.
fn replace_original(env: &TestEnv, media: &str) -> Vec<u8> {
    let new = file_at(env.path("disk1/media/better.tmp"), 200_000);
    fs::rename(new, env.array(media)).unwrap();
    fs::read(env.array(media)).unwrap()
}

/// Writes into the cached copy without replacing it, as a program does through the union.
fn edit_copy(env: &TestEnv, media: &str) -> Vec<u8> {
    File::options().append(true).open(env.cache(media)).unwrap().write_all(b"edited in place").unwrap();
    fs::read(env.cache(media)).unwrap()
}

#[track_caller]
fn assert_nothing_is_left_but_the_original(env: &TestEnv, media: &str, bytes: &[u8], placement: &str) {
    assert_eq!(env.cached(), Vec::<String>::new(), "{placement}");
    assert!(fs::read(env.array(media)).unwrap() == bytes, "{placement}");
    assert!(fs::symlink_metadata(env.array(media)).unwrap().is_file(), "{placement}");
    assert!(!env.array(&kept(media)).exists(), "{placement}");
    assert_eq!(env.leftovers(), Vec::<String>::new(), "{placement}");
}

#[test]
fn a_file_that_is_written_to_while_it_is_copied_waits_for_the_next_run() {
    for placement in ["copy", "move"] {
        let (env, media) = film(placement, 3 << 20);
        if env.clones() {
            println!("skipped: copies are clones on this file system");
            return;
        }
        let run = env.mid_copy(&["sync", "--json"]);
        // Waits until plexcache lets go of the file.
        File::options().append(true).open(env.array(&media)).unwrap().write_all(b"more").unwrap();
        let run = Run::from(run.wait_with_output().unwrap()).expect(3);
        assert_eq!(run.why_left()[&media], "changed", "{placement}");
        let bytes = fs::read(env.array(&media)).unwrap();
        assert_eq!(bytes.len(), (3 << 20) + 4);
        assert_nothing_is_left_but_the_original(&env, &media, &bytes, placement);
        assert!(!env.cache("Movies").exists(), "{placement}: no folder is left either");
        env.sync();
        assert!(fs::read(env.cache(&media)).unwrap() == bytes, "{placement}");
    }
}

#[test]
fn a_file_that_is_replaced_while_it_is_copied_stays_the_new_one() {
    for placement in ["copy", "symlink"] {
        let (env, media) = film(placement, (1 << 20) + 1);
        if env.clones() {
            println!("skipped: copies are clones on this file system");
            return;
        }
        let run = env.mid_copy(&["sync", "--json"]);
        let bytes = replace_original(&env, &media);
        let run = Run::from(run.wait_with_output().unwrap()).expect(3);
        assert_eq!(run.why_left()[&media], "changed", "{placement}");
        let published = env.history().iter().filter(|record| record["event"] == "published").count();
        assert_eq!(published, 0, "{placement}: what is older than the original is no copy of it");
        assert_nothing_is_left_but_the_original(&env, &media, &bytes, placement);
    }
}

#[test]
fn a_file_that_appears_at_the_destination_meanwhile_is_not_touched() {
    for placement in ["copy", "move"] {
        let (env, media) = film(placement, (1 << 20) + 1);
        if env.clones() {
            println!("skipped: copies are clones on this file system");
            return;
        }
        let before = env.snapshot("disk1/media");
        let run = env.mid_copy(&["sync", "--json"]);
        let theirs = file_at(env.cache(&media), 1000);
        let facts = fs::metadata(&theirs).unwrap();
        let run = Run::from(run.wait_with_output().unwrap()).expect(3);
        assert_eq!(run.why_left()[&media], "conflict", "{placement}");
        let now = fs::metadata(&theirs).unwrap();
        assert_eq!((now.ino(), now.len(), now.mtime()), (facts.ino(), 1000, facts.mtime()), "{placement}");
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
        assert_eq!(env.leftovers(), Vec::<String>::new(), "{placement}");
    }
}

#[test]
fn the_same_file_at_the_destination_is_taken_as_the_copy_and_another_one_is_left_alone() {
    for placement in PLACEMENTS {
        let (env, media) = film(placement, 300_000);
        file_at(env.cache(&media), 300_000);
        let adopted = fs::metadata(env.cache(&media)).unwrap().ino();
        env.sync();
        assert_eq!(fs::metadata(env.cache(&media)).unwrap().ino(), adopted, "{placement}");
        let last = env.history().into_iter().rfind(|record| record["event"] == "ended").unwrap();
        assert_eq!((&last["result"], &last["bytes"]), (&"done".into(), &0.into()), "{placement}: nothing was copied");

        let (env, media) = film(placement, 300_000);
        fs::write(file_at(env.cache(&media), 0), vec![1; 300_000]).unwrap();
        let before = (env.snapshot("disk1/media"), env.snapshot("cache/media"));
        let run = env.run(&["sync", "--json"]).expect(3);
        assert_eq!(run.why_left()[&media], "conflict", "{placement}");
        let after = (env.snapshot("disk1/media").without_markers(), env.snapshot("cache/media").without_markers());
        assert_eq!(after, before, "{placement}");
    }
}

#[test]
fn an_original_that_was_replaced_wins_over_its_copy() {
    for placement in ["copy", "hide", "symlink"] {
        let (env, media, _) = cached_film(placement);
        let bytes = replace_original(&env, &media);
        evict_all(&env).expect(0);
        assert_eq!(env.cached(), Vec::<String>::new(), "{placement}");
        assert!(fs::read(env.array(&media)).unwrap() == bytes, "{placement}");
        assert!(fs::symlink_metadata(env.array(&media)).unwrap().is_file(), "{placement}");
    }
}

#[test]
fn in_move_a_file_that_took_the_originals_name_and_the_copy_both_stay() {
    let (env, media, copied) = cached_film("move");
    let bytes = replace_original(&env, &media);
    let run = evict_all(&env).expect(3);
    assert_eq!(run.why_left()[&media], "conflict");
    assert!(fs::read(env.array(&media)).unwrap() == bytes);
    assert!(fs::read(env.cache(&media)).unwrap() == copied);
}

#[test]
fn a_copy_that_was_edited_in_place_is_written_back_first() {
    for placement in PLACEMENTS {
        let (env, media, _) = cached_film(placement);
        let mode = fs::metadata(env.cache(&media)).unwrap().mode();
        let bytes = edit_copy(&env, &media);
        set_mtime(&env.cache(&media), 1_650_000_000, 42);
        evict_all(&env).expect(0);
        assert_nothing_is_left_but_the_original(&env, &media, &bytes, placement);
        let meta = fs::metadata(env.array(&media)).unwrap();
        assert_eq!((meta.mode(), meta.mtime(), meta.mtime_nsec()), (mode, 1_650_000_000, 42), "{placement}");
    }
}

#[test]
fn a_copy_whose_original_is_gone_is_moved_back() {
    for placement in PLACEMENTS {
        let (env, media, bytes) = cached_film(placement);
        for name in [&media, &kept(&media)] {
            let _absent = fs::remove_file(env.array(name));
        }
        evict_all(&env).expect(0);
        assert_nothing_is_left_but_the_original(&env, &media, &bytes, placement);
    }
}

#[test]
fn a_copy_whose_folder_on_the_array_is_gone_is_moved_back() {
    for placement in PLACEMENTS {
        let (env, media, bytes) = cached_film(placement);
        fs::remove_dir_all(env.array("Movies")).unwrap();
        evict_all(&env).expect(0);
        assert_nothing_is_left_but_the_original(&env, &media, &bytes, placement);
    }
}

#[test]
fn when_both_were_changed_both_stay() {
    for placement in PLACEMENTS {
        let (env, media, _) = cached_film(placement);
        let on_array = replace_original(&env, &media);
        let on_cache = edit_copy(&env, &media);
        let run = evict_all(&env).expect(3);
        assert_eq!(run.why_left()[&media], "conflict", "{placement}");
        assert!(fs::read(env.array(&media)).unwrap() == on_array, "{placement}");
        assert!(fs::read(env.cache(&media)).unwrap() == on_cache, "{placement}");
        assert_eq!(env.leftovers(), Vec::<String>::new(), "{placement}");
    }
}

#[test]
fn what_a_copy_that_is_gone_left_behind_is_put_in_order() {
    for placement in ["copy", "hide", "symlink"] {
        let (env, media, bytes) = cached_film(placement);
        fs::remove_file(env.cache(&media)).unwrap();
        env.run(&["evict", "--all"]).expect(0);
        assert_nothing_is_left_but_the_original(&env, &media, &bytes, placement);
        env.sync();
        assert_eq!(env.cached(), [media.as_str()], "{placement}: cached once more");
        fs::remove_file(env.cache(&media)).unwrap();
        let run = env.run(&["sync", "--json"]).expect(0);
        assert!(run.why_left().is_empty(), "{placement}: {}", run.stdout);
        assert_eq!(env.shown(&media).as_ref(), Some(&bytes), "{placement}");
        env.sync();
        assert_eq!(env.cached(), [media.as_str()], "{placement}: repaired by a sync too");
        assert_eq!(env.shown(&media), Some(bytes), "{placement}");
    }
}

#[test]
fn in_move_a_copy_that_was_deleted_is_gone_and_forgotten() {
    let (env, media, _) = cached_film("move");
    fs::remove_file(env.cache(&media)).unwrap();
    let run = evict_all(&env).expect(0);
    assert!(run.stdout.contains("neither tier has it any more"), "{}", run.stdout);
    assert!(run.json_of("summary")["outcome"] == "ok");
    assert_eq!(env.run(&["evict", "--all", "--json"]).expect(0).json_of("plan")["actions"], serde_json::json!([]));
}

#[test]
fn a_file_that_was_just_written_waits_until_it_is_old_enough() {
    for placement in PLACEMENTS {
        let (mut env, media) = film(placement, 300_000);
        env.settings = env.settings.replace("min_file_age = \"0\"", "min_file_age = \"10m\"");
        // An old time of modification does not make it old: it was written a moment ago.
        let run = env.run(&["sync", "--json"]).expect(0);
        assert_eq!(run.why_left()[&media], "too_young", "{placement}");
        assert_eq!(env.cached(), Vec::<String>::new(), "{placement}");
        env.settings = env.settings.replace("min_file_age = \"10m\"", "min_file_age = \"0\"");
        env.sync();
        assert_eq!(env.cached(), [media], "{placement}");
    }
}

#[test]
fn a_file_that_somebody_writes_to_is_not_cached() {
    for placement in PLACEMENTS {
        let (env, media) = film(placement, 300_000);
        let before = env.snapshot("disk1/media");
        let writer = File::options().append(true).open(env.array(&media)).unwrap();
        let run = env.run(&["sync", "--json"]).expect(0);
        assert_eq!(run.why_left()[&media], "open", "{placement}");
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
        assert_eq!(env.snapshot("cache/media").without_markers().entries.len(), 0, "{placement}");
        drop(writer);
        env.sync();
        assert_eq!(env.cached(), [media], "{placement}");
    }
}

#[test]
fn a_copy_that_somebody_reads_stays() {
    for placement in PLACEMENTS {
        let (env, media, bytes) = cached_film(placement);
        let reader = File::open(env.cache(&media)).unwrap();
        let run = evict_all(&env).expect(0);
        assert_eq!(run.why_left()[&media], "open", "{placement}");
        assert_eq!(env.cached(), [media.as_str()], "{placement}");
        drop(reader);
        evict_all(&env).expect(0);
        assert_nothing_is_left_but_the_original(&env, &media, &bytes, placement);
    }
}

#[test]
fn what_is_only_read_is_moved_when_the_configuration_says_so_and_what_is_written_is_not() {
    for placement in PLACEMENTS {
        let (mut env, media) = film(placement, 300_000);
        env.settings = env.settings.replace("[safety]", "[safety]\nskip_open_files = false");
        let bytes = fs::read(env.array(&media)).unwrap();
        let writer = File::options().append(true).open(env.array(&media)).unwrap();
        assert_eq!(env.run(&["sync", "--json"]).expect(0).why_left()[&media], "open", "{placement}");
        drop(writer);
        let reader = File::open(env.array(&media)).unwrap();
        env.sync();
        assert_eq!(env.cached(), [media.as_str()], "{placement}");
        let other_reader = File::open(env.cache(&media)).unwrap();
        evict_all(&env).expect(0);
        assert_nothing_is_left_but_the_original(&env, &media, &bytes, placement);
        for mut open in [reader, other_reader] {
            let mut read = Vec::new();
            open.read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{placement}: whoever had it open reads on");
        }
    }
}

#[test]
fn where_there_is_a_plexcached_file_already_nothing_is_done() {
    for placement in ["hide", "symlink"] {
        let (env, media) = film(placement, 300_000);
        env.file(&kept(&media), 100);
        let before = env.snapshot("disk1/media");
        for args in [&["sync", "--json", "--dry-run"][..], &["sync", "--json"]] {
            let run = env.run(args).expect(3);
            assert_eq!(run.json_of("plan")["actions"], serde_json::json!([]), "{placement}");
            assert_eq!(run.why_left()[&media], "conflict", "{placement}");
        }
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
        assert_eq!(env.snapshot("cache/media").without_markers().entries.len(), 0, "{placement}");
    }
}

#[test]
fn a_kept_original_that_somebody_removed_does_not_matter() {
    for placement in ["hide", "symlink"] {
        let (env, media, bytes) = cached_film(placement);
        fs::remove_file(env.array(&kept(&media))).unwrap();
        evict_all(&env).expect(0);
        assert_nothing_is_left_but_the_original(&env, &media, &bytes, placement);
    }
}
