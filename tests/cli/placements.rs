//! The four placements: what Plex reads, what a file keeps besides its contents, and what is left alone.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use crate::util::env::{Run, TestEnv, contents, file_at, movie_path, set_mtime};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];

/// A film on deck that nothing was done with yet, and its media path.
fn film(placement: &str, size: usize) -> (TestEnv, String) {
    let env = TestEnv::with_placement(placement);
    let key = env.movie("Dune", 2021, size);
    env.on_deck("owner", &key);
    (env, movie_path("Dune", 2021))
}

fn evict_all(env: &TestEnv) -> Run {
    env.run(&["evict", "--all", "--json"])
}

fn kept(media: &str) -> String {
    format!("{media}.plexcached")
}

/// The names of all files and links on an array disk or the cache.
fn names(env: &TestEnv, below: &str) -> Vec<String> {
    let tree = env.snapshot(below).without_markers();
    tree.entries.into_iter().filter(|(_, entry)| entry.kind != "folder").map(|(name, _)| name).collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn plex_reads_the_same_bytes_before_while_and_after_a_file_is_cached() {
    for placement in PLACEMENTS {
        let (env, media) = film(placement, 300_000);
        let original = env.shown(&media).unwrap();
        let before = env.snapshot("disk1/media");
        env.sync();
        assert_eq!(env.shown(&media).as_ref(), Some(&original), "{placement}");
        let expected: Vec<String> = match placement {
            "copy" => vec![media.clone()],
            "hide" => vec![kept(&media)],
            "move" => vec![],
            _ => vec![media.clone(), kept(&media)],
        };
        let array = names(&env, "disk1/media");
        assert_eq!(array, [expected, vec!["notes.txt".to_owned()]].concat(), "{placement}");
        let now = env.snapshot("disk1/media").without_markers();
        match placement {
            "copy" => assert_eq!(now, before, "the original is not touched at all"),
            "symlink" => assert_eq!(fs::read_link(env.array(&media)).unwrap(), env.cache(&media)),
            _ => assert!(!env.array(&media).exists()),
        }
        if placement == "hide" || placement == "symlink" {
            assert_eq!(now.entries[&kept(&media)], before.entries[&media], "{placement}");
        }
        evict_all(&env).expect(0);
        assert_eq!(env.shown(&media), Some(original), "{placement}");
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
        assert_eq!(names(&env, "cache/media"), Vec::<String>::new(), "{placement}");
        assert_eq!(env.leftovers(), Vec::<String>::new(), "{placement}");
    }
}

/// An access ACL as Linux keeps it (acl(5)): read for the user 4711 besides the usual three.
fn acl() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 4, 4711), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    value
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::getxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn owner_mode_times_attributes_and_acls_go_with_a_file_to_the_cache_and_back() {
    const ACL: &str = "system.posix_acl_access";
    for placement in PLACEMENTS {
        let (env, media) = film(placement, 300_000);
        let original = env.array(&media);
        if is_root() {
            std::os::unix::fs::chown(&original, Some(4321), Some(1234)).unwrap();
        }
        fs::set_permissions(&original, fs::Permissions::from_mode(0o6640)).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        // Not every file system has them; then both sides have none.
        let _unsupported = rustix::fs::setxattr(&original, "user.comment", b"a\0b\xff", flags);
        let _unsupported = rustix::fs::setxattr(&original, ACL, &acl(), flags);
        set_mtime(&original, 981_173_106, 7);
        let facts = |path: &Path| {
            let meta = fs::metadata(path).unwrap();
            let owner = (meta.uid(), meta.gid(), meta.mode(), meta.mtime(), meta.mtime_nsec());
            (owner, attribute(path, "user.comment"), attribute(path, ACL))
        };
        let before = facts(&original);
        assert_eq!((before.0.2 & 0o7000, before.0.4), (0o6000, 7), "the test has set what it compares");
        env.sync();
        assert_eq!(facts(&env.cache(&media)), before, "{placement}: on the cache");
        evict_all(&env).expect(0);
        assert_eq!(facts(&original), before, "{placement}: back on the array");
    }
}

#[test]
fn folders_are_made_like_their_counterparts_and_all_folder_times_are_put_back() {
    for placement in PLACEMENTS {
        let (env, media) = film(placement, 300_000);
        let other = env.film_at("Movies/Box (2020)/Disc 1/Box.mkv", 300_000);
        env.on_deck("owner", &other);
        // The first run puts markers into the roots.
        let folders = ["Movies/Box (2020)/Disc 1", "Movies/Box (2020)", "Movies/Dune (2021)", "Movies", ""];
        let modes = [0o2775, 0o1777, 0o2750, 0o755, 0o755];
        env.run(&["evict", "--all"]).expect(0);
        for (index, (folder, mode)) in folders.iter().zip(modes).enumerate() {
            let path = env.array(folder);
            if is_root() {
                std::os::unix::fs::chown(&path, Some(4321), Some(1234)).unwrap();
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_500_000_000 + index as u64, 5);
            File::open(&path).unwrap().set_modified(time).unwrap();
        }
        let (array, cache) = (env.snapshot("disk1/media"), fs::metadata(env.cache("")).unwrap());
        env.sync();
        let (after, made) = (env.snapshot("disk1/media"), env.snapshot("cache/media"));
        assert!(made.entries.contains_key(&media), "{placement}");
        for folder in &folders[..4] {
            assert_eq!(made.entries[*folder], array.entries[*folder], "{placement}: {folder} on the cache");
            assert_eq!(after.entries[*folder], array.entries[*folder], "{placement}: {folder} on the array");
        }
        evict_all(&env).expect(0);
        assert_eq!(env.snapshot("disk1/media"), array, "{placement}");
        assert_eq!(names(&env, "cache/media"), Vec::<String>::new(), "{placement}");
        assert!(!env.cache("Movies").exists(), "{placement}: only folders that were made are gone, and all of them");
        let now = fs::metadata(env.cache("")).unwrap();
        assert_eq!((now.mtime(), now.mtime_nsec()), (cache.mtime(), cache.mtime_nsec()), "{placement}");
    }
}

#[test]
fn a_folder_on_the_cache_that_was_there_before_stays_when_it_is_empty() {
    let (env, media) = film("hide", 300_000);
    fs::create_dir_all(env.cache("Movies")).unwrap();
    env.sync();
    assert!(env.cache(&media).exists());
    evict_all(&env).expect(0);
    assert!(env.cache("Movies").exists() && !env.cache("Movies/Dune (2021)").exists());
}

#[test]
fn sparse_files_stay_sparse() {
    for placement in PLACEMENTS {
        let (env, media) = film(placement, 0);
        let original = env.array(&media);
        let mut file = File::options().write(true).open(&original).unwrap();
        file.set_len(3 << 20).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(3 << 20)).unwrap();
        file.write_all(&contents(&original, 100_000)).unwrap();
        file.set_len(8 << 20).unwrap();
        drop(file);
        let bytes = fs::read(&original).unwrap();
        if fs::metadata(&original).unwrap().blocks() > 2048 {
            println!("skipped: no holes on this file system");
            return;
        }
        env.sync();
        let copy = env.cache(&media);
        assert!(fs::read(&copy).unwrap() == bytes, "{placement}");
        assert!(fs::metadata(&copy).unwrap().blocks() < 2048, "{placement}");
        evict_all(&env).expect(0);
        assert!(fs::read(&original).unwrap() == bytes, "{placement}");
        assert!(fs::metadata(&original).unwrap().blocks() < 2048, "{placement}");
    }
}

#[test]
fn hard_linked_originals_keep_their_links_and_are_left_alone_in_move() {
    for placement in PLACEMENTS {
        let (env, media) = film(placement, 300_000);
        let seed = env.path("disk1/seed.mkv");
        fs::hard_link(env.array(&media), &seed).unwrap();
        // The root's own time is changed by its marker, once.
        let disk = || {
            let mut tree = env.snapshot("disk1").without_markers();
            tree.entries.remove("media");
            tree
        };
        let before = disk();
        let run = env.run(&["sync", "--json"]).expect(0);
        if placement == "move" {
            assert_eq!(run.why_left()[&media], "hard_linked");
            assert_eq!(env.cached(), Vec::<String>::new());
            assert_eq!(disk(), before);
            continue;
        }
        assert_eq!(env.cached(), [media.as_str()], "{placement}");
        assert_eq!(fs::metadata(&seed).unwrap().nlink(), 2, "{placement}");
        assert_eq!(fs::metadata(env.cache(&media)).unwrap().nlink(), 1, "{placement}");
        evict_all(&env).expect(0);
        assert_eq!(disk(), before, "{placement}");
        assert_eq!(fs::metadata(env.array(&media)).unwrap().ino(), fs::metadata(&seed).unwrap().ino(), "{placement}");
    }
}

#[test]
fn names_of_255_bytes_work_and_where_the_kept_name_would_be_too_long_nothing_is_done() {
    for placement in PLACEMENTS {
        let env = TestEnv::with_placement(placement);
        let media = format!("Movies/{}.mkv", "ä".repeat(125) + "x");
        assert_eq!(media.len(), "Movies/".len() + 255);
        env.on_deck("owner", &env.film_at(&media, 300_000));
        let before = env.snapshot("disk1/media");
        let run = env.run(&["sync", "--json"]);
        if placement == "hide" || placement == "symlink" {
            let plan = run.expect(3).json_of("plan");
            assert!(plan["skipped"][0]["detail"].as_str().unwrap().contains("too long"), "{placement}: {plan}");
            assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
            assert_eq!(env.snapshot("cache/media").without_markers().entries.len(), 0, "{placement}");
            continue;
        }
        run.expect(0);
        assert_eq!(env.cached(), [media], "{placement}");
        evict_all(&env).expect(0);
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
    }
}

#[test]
fn the_longest_name_that_can_be_kept_is_kept() {
    for placement in ["hide", "symlink"] {
        let env = TestEnv::with_placement(placement);
        let media = format!("Movies/{}.mkv", "x".repeat(240));
        env.on_deck("owner", &env.film_at(&media, 300_000));
        let before = env.snapshot("disk1/media");
        env.sync();
        assert_eq!(env.cached(), [media], "{placement}");
        evict_all(&env).expect(0);
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
    }
}

#[test]
fn names_may_be_anything_that_a_file_system_takes() {
    let files = [
        "-rf.mkv",
        "two\nlines.mkv",
        "$(touch oops) `x` ${HOME}.mkv",
        "it's \"quoted\" & <tagged>;.mkv",
        "back\\slash\ttab.mkv",
        "e\u{301} decomposed.mkv",
        "\u{e9} composed.mkv",
        "\u{202e}gpj.mkv",
        "日本語 🎬.mkv",
        "* ? [a-z] %20 #1.mkv",
        " leading and trailing .mkv",
    ];
    for placement in PLACEMENTS {
        let env = TestEnv::with_placement(placement);
        let mut media: Vec<String> = files.iter().map(|file| format!("Movies/-{file}/{file}")).collect();
        for path in &media {
            env.on_deck("owner", &env.film_at(path, 5000));
        }
        let before = env.snapshot("disk1/media");
        let run = env.sync();
        media.sort();
        assert_eq!(env.cached(), media, "{placement}: {}", run.stdout);
        assert!(media.iter().all(|path| env.shown(path).as_ref() == Some(&before.entries[path].contents)));
        evict_all(&env).expect(0);
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
    }
}

#[test]
fn an_empty_file_is_a_file() {
    for placement in PLACEMENTS {
        let (env, media) = film(placement, 0);
        let before = env.snapshot("disk1/media");
        env.sync();
        assert_eq!(env.cached(), [media], "{placement}");
        evict_all(&env).expect(0);
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
    }
}

#[test]
fn verified_by_size_alone_the_copy_is_the_same() {
    for placement in PLACEMENTS {
        let (mut env, media) = film(placement, 3_000_001);
        env.settings += "[transfer]\nverify = \"size\"\n";
        let before = env.snapshot("disk1/media");
        env.sync();
        assert_eq!(env.snapshot("cache/media").entries[&media], before.entries[&media], "{placement}");
        evict_all(&env).expect(0);
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
    }
}

#[test]
fn a_file_goes_back_to_the_disk_that_it_came_from() {
    for placement in PLACEMENTS {
        let (env, media) = film(placement, 300_000);
        fs::create_dir_all(env.path("disk2/media/Movies/Dune (2021)")).unwrap();
        fs::rename(env.array(&media), env.path("disk2/media").join(&media)).unwrap();
        let before = (env.snapshot("disk1/media"), env.snapshot("disk2/media"));
        env.sync();
        assert_eq!(env.cached(), [media], "{placement}");
        evict_all(&env).expect(0);
        let after = (env.snapshot("disk1/media").without_markers(), env.snapshot("disk2/media").without_markers());
        assert_eq!(after, before, "{placement}");
    }
}

#[test]
fn a_link_to_a_file_is_not_followed() {
    for placement in PLACEMENTS {
        let (env, media) = film(placement, 300_000);
        let outside = file_at(env.path("secret.mkv"), 300_000);
        fs::remove_file(env.array(&media)).unwrap();
        symlink(&outside, env.array(&media)).unwrap();
        let run = env.run(&["sync", "--json"]).expect(3);
        assert_eq!(run.why_left()[&media], "conflict", "{placement}");
        assert_eq!(env.cached(), Vec::<String>::new(), "{placement}");
        assert_eq!(fs::read_link(env.array(&media)).unwrap(), outside, "{placement}");
    }
}
