//! Somebody else changes names and folders while a copy runs, or between two runs.
//!
//! What Plex plays is read once, when the plan is made. Until a file is touched the kernel tells of
//! everybody who has it open at that moment, inside containers too; so a film that somebody starts
//! meanwhile is safe whether or not Plex was asked again.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::time::Duration;

use crate::util::env::{PLEX_ROOT, Run, TestEnv, contents, file_at, movie_path, set_mtime};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];

/// More than a slowed-down copy does in a second.
const SIZE: usize = (1 << 20) + 1;

/// A film on deck, its media path and its contents. `None` where copies are clones, made at once.
fn film(placement: &str) -> Option<(TestEnv, String, Vec<u8>)> {
    let env = TestEnv::with_placement(placement);
    if env.clones() {
        println!("skipped: copies are clones on this file system");
        return None;
    }
    env.on_deck("owner", &env.movie("Dune", 2021, SIZE));
    let media = movie_path("Dune", 2021);
    let bytes = fs::read(env.array(&media)).unwrap();
    Some((env, media, bytes))
}

fn end(child: std::process::Child, status: i32) -> Run {
    Run::from(child.wait_with_output().unwrap()).expect(status)
}

#[track_caller]
fn assert_no_trace_on_the_cache(env: &TestEnv, placement: &str) {
    assert_eq!(env.snapshot("cache/media").without_markers().entries.len(), 0, "{placement}");
    assert_eq!(env.leftovers(), Vec::<String>::new(), "{placement}");
}

#[test]
fn a_rewrite_that_puts_its_times_back_is_found_while_the_file_is_copied() {
    for placement in PLACEMENTS {
        let Some((env, media, mut bytes)) = film(placement) else { return };
        let meta = fs::metadata(env.array(&media)).unwrap();
        let run = env.mid_copy(&["sync", "--json"]);
        // Waits until plexcache lets go of the file.
        let writer = File::options().write(true).open(env.array(&media)).unwrap();
        writer.write_all_at(b"other", 10).unwrap();
        drop(writer);
        set_mtime(&env.array(&media), meta.mtime().try_into().unwrap(), meta.mtime_nsec().try_into().unwrap());
        bytes[10..15].copy_from_slice(b"other");
        let run = end(run, 3);
        assert_eq!(run.why_left()[&media], "changed", "{placement}");
        assert_no_trace_on_the_cache(&env, placement);
        assert!(fs::read(env.array(&media)).unwrap() == bytes, "{placement}");
        env.sync();
        assert!(env.shown(&media).as_ref() == Some(&bytes), "{placement}");
        assert!(fs::read(env.cache(&media)).unwrap() == bytes, "{placement}");
    }
}

#[test]
fn a_file_that_is_renamed_or_deleted_while_it_is_copied_leaves_no_copy() {
    for placement in PLACEMENTS {
        for renamed in [true, false] {
            let Some((env, media, bytes)) = film(placement) else { return };
            let run = env.mid_copy(&["sync", "--json"]);
            let to = env.array("Movies/Dune (2021)/Dune.mkv");
            if renamed {
                fs::rename(env.array(&media), &to).unwrap();
            } else {
                fs::remove_file(env.array(&media)).unwrap();
            }
            let run = end(run, 3);
            assert_eq!(run.why_left()[&media], "changed", "{placement}");
            assert_no_trace_on_the_cache(&env, placement);
            assert!(!env.array(&media).exists(), "{placement}: what somebody deleted stays so");
            if renamed {
                assert!(fs::read(to).unwrap() == bytes, "{placement}");
            }
        }
    }
}

#[test]
fn a_copy_whose_folder_is_moved_away_and_becomes_a_link_is_not_counted_as_one() {
    for placement in PLACEMENTS {
        let Some((env, media, bytes)) = film(placement) else { return };
        let run = env.mid_copy(&["sync", "--json"]);
        let elsewhere = env.path("elsewhere");
        fs::rename(env.cache("Movies"), &elsewhere).unwrap();
        symlink(&elsewhere, env.cache("Movies")).unwrap();
        let run = end(run, 3);
        assert!(run.why_left().contains_key(&media), "{placement}: {}", run.stdout);
        assert!(fs::read(env.array(&media)).unwrap() == bytes, "{placement}: {}", run.stdout);
        assert!(fs::symlink_metadata(env.array(&media)).unwrap().is_file(), "{placement}");
        let tree = env.snapshot("elsewhere").entries;
        assert!(tree.values().all(|entry| entry.kind == "folder"), "{placement}: {tree:?}");
        fs::remove_file(env.cache("Movies")).unwrap();
        env.sync();
        assert_eq!(env.cached(), [media.as_str()], "{placement}");
        assert!(env.shown(&media) == Some(bytes), "{placement}");
    }
}

#[test]
fn a_folder_that_is_renamed_while_a_file_is_copied_back_into_it_does_not_cost_the_copy() {
    let Some((env, media, bytes)) = film("move") else { return };
    env.sync();
    let run = env.mid_copy(&["evict", "--all", "--json"]);
    fs::rename(env.array("Movies/Dune (2021)"), env.array("Movies/Dune")).unwrap();
    end(run, 3);
    assert!(fs::read(env.cache(&media)).unwrap() == bytes, "the history knows this name, and no other");
    env.run(&["evict", "--all"]).expect(0);
    assert!(fs::read(env.array(&media)).unwrap() == bytes);
    assert_eq!((env.cached(), env.leftovers()), (Vec::new(), Vec::new()));
}

#[test]
fn whoever_starts_to_play_the_file_that_is_being_copied_reads_it_to_its_end() {
    for placement in PLACEMENTS {
        let Some((env, media, bytes)) = film(placement) else { return };
        let run = env.mid_copy(&["sync", "--json"]);
        let mut player = File::open(env.array(&media)).unwrap();
        let mut read = vec![0; 1000];
        player.read_exact(&mut read).unwrap();
        end(run, 0);
        player.read_to_end(&mut read).unwrap();
        assert!(read == bytes, "{placement}");
        assert!(env.shown(&media) == Some(bytes), "{placement}");
        assert_eq!(env.leftovers(), Vec::<String>::new(), "{placement}");
    }
}

#[test]
fn a_film_that_somebody_starts_while_another_one_is_evicted_stays() {
    let Some((env, large, bytes)) = film("move") else { return };
    let (key, small) = (env.movie("Zardoz", 1974, 1000), movie_path("Zardoz", 1974));
    env.on_deck("owner", &key);
    env.sync();
    let order = env.run(&["evict", "--all", "--dry-run", "--json"]).expect(0).planned();
    assert!(order[0].contains("Dune"), "only what has not had its turn yet can be started in between: {order:?}");
    let run = env.mid_copy(&["evict", "--all", "--json"]);
    let player = File::open(env.cache(&small)).unwrap();
    let run = end(run, 0);
    assert_eq!(run.why_left()[&small], "open", "{}", run.stdout);
    assert_eq!(env.cached(), [small.as_str()]);
    drop(player);
    env.run(&["evict", "--all"]).expect(0);
    assert_eq!(env.cached(), Vec::<String>::new());
    assert!(fs::read(env.array(&large)).unwrap() == bytes);
}

/// Takes a copy away as Unraid's mover does: to the array, times included.
fn mover(env: &TestEnv, media: &str) {
    let meta = fs::metadata(env.cache(media)).unwrap();
    fs::create_dir_all(env.array(media).parent().unwrap()).unwrap();
    fs::copy(env.cache(media), env.array(media)).unwrap();
    set_mtime(&env.array(media), meta.mtime().try_into().unwrap(), meta.mtime_nsec().try_into().unwrap());
    fs::remove_file(env.cache(media)).unwrap();
}

#[test]
fn a_copy_that_the_mover_has_taken_to_the_array_is_cached_again_or_let_go() {
    // In the other two the name on the array is taken, and the mover leaves the file alone.
    for placement in ["hide", "move"] {
        for edited in [false, true] {
            let Some((env, media, mut bytes)) = film(placement) else { return };
            env.sync();
            if edited {
                File::options().append(true).open(env.cache(&media)).unwrap().write_all(b"edited").unwrap();
                bytes.extend(b"edited");
            }
            mover(&env, &media);
            for _ in 0..2 {
                let run = env.run(&["sync", "--json"]);
                assert!([0, 3].contains(&run.status), "{placement}: {run:?}");
                assert!(env.shown(&media).as_ref() == Some(&bytes), "{placement}: {}", run.stdout);
            }
            env.run(&["evict", "--all"]);
            assert!(env.shown(&media).as_ref() == Some(&bytes), "{placement}, edited {edited}");
            assert_eq!(env.leftovers(), Vec::<String>::new(), "{placement}");
            if !edited {
                assert!(fs::read(env.array(&media)).unwrap() == bytes, "{placement}");
                assert!(!env.array(&format!("{media}.plexcached")).exists(), "{placement}");
            }
        }
    }
}

#[test]
fn a_kept_original_beside_what_the_mover_brought_stays_while_somebody_writes_to_either() {
    let Some((env, media, bytes)) = film("hide") else { return };
    env.sync();
    mover(&env, &media);
    let kept = env.array(&format!("{media}.plexcached"));
    for written in [&env.array(&media), &kept] {
        let writer = File::options().append(true).open(written).unwrap();
        let run = env.run(&["evict", "--all", "--json"]);
        assert!([0, 3].contains(&run.status), "{run:?}");
        assert!(fs::read(&kept).unwrap() == bytes, "{written:?}: {}", run.stdout);
        drop(writer);
    }
    env.run(&["evict", "--all"]).expect(0);
    assert!(fs::read(env.array(&media)).unwrap() == bytes);
    assert!(!kept.exists());
    assert_eq!((env.cached(), env.leftovers()), (Vec::new(), Vec::new()));
}

#[test]
fn a_copy_that_the_mover_takes_while_it_is_copied_back_is_there_once_in_the_end() {
    let Some((env, media, bytes)) = film("move") else { return };
    env.sync();
    let run = env.mid_copy(&["evict", "--all", "--json"]);
    mover(&env, &media);
    let run = Run::from(run.wait_with_output().unwrap());
    assert!([0, 3].contains(&run.status), "{run:?}");
    assert!(fs::read(env.array(&media)).unwrap() == bytes, "{}", run.stdout);
    env.run(&["evict", "--all"]).expect(0);
    assert!(fs::read(env.array(&media)).unwrap() == bytes);
    assert_eq!((env.cached(), env.leftovers()), (Vec::new(), Vec::new()));
}

#[test]
fn an_upgrade_under_a_new_name_is_what_is_cached_next() {
    for placement in PLACEMENTS {
        let env = TestEnv::with_placement(placement);
        let key = env.episode("Severance", 1, 1, 1000);
        env.on_deck("owner", &key);
        env.sync();
        let old = env.cached().remove(0);
        let new = old.replace(".mkv", " [2160p].mkv");
        // Deleted in the merged view, which goes on until the name is gone.
        for name in [env.cache(&old), env.array(&old)] {
            let _absent = fs::remove_file(name);
        }
        file_at(env.array(&new), 5000);
        env.plex.edit(|library| {
            library.rename_file(&format!("{PLEX_ROOT}/{old}"), &format!("{PLEX_ROOT}/{new}"));
            library.resize_file(&format!("{PLEX_ROOT}/{new}"), 5000);
        });
        let run = env.run(&["sync", "--json"]);
        assert!([0, 3].contains(&run.status), "{placement}: {run:?}");
        assert_eq!(env.cached(), [new.as_str()], "{placement}: {}", run.stdout);
        let bytes = contents(&env.array(&new), 5000);
        assert!(env.shown(&new) == Some(bytes.clone()), "{placement}");
        let again = env.run(&["sync", "--json"]).expect(0);
        assert_eq!(again.planned(), Vec::<String>::new(), "{placement}");
        env.watch("owner", &key, Duration::from_secs(3 * 86400));
        env.run(&["evict", "--all"]).expect(0);
        assert!(fs::read(env.array(&new)).unwrap() == bytes, "{placement}");
        assert_eq!((env.cached(), env.leftovers()), (Vec::new(), Vec::new()), "{placement}");
    }
}
