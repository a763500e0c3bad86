//! Maps and roots: where a path of Plex leads, and the roots with which nothing is begun.
//!
//! A refusal is held against snapshots of every tree and of what the state knows.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::util::env::{Run, TestEnv, Tree, episode_path, file_at, movie_path};
use crate::util::fake_plex::{Media, RatingKey, SectionKind};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];

/// Runs the binary with `change` done to the text of its configuration.
fn run_with(env: &TestEnv, change: impl FnOnce(String) -> String, args: &[&str]) -> Run {
    let mut command = env.command(args);
    fs::write(env.path("config.toml"), change(env.config())).unwrap();
    command.output().unwrap().into()
}

/// The same with other roots on the array.
fn run_with_array(env: &TestEnv, roots: &[&str], args: &[&str]) -> Run {
    let list: Vec<String> = roots.iter().map(|root| format!("\"{}\"", env.path(root).display())).collect();
    run_with(env, |text| replace_line(&text, "array = ", &format!("array = [{}]", list.join(", "))), args)
}

fn replace_line(text: &str, start: &str, by: &str) -> String {
    assert!(text.lines().any(|line| line.starts_with(start)), "{text}");
    let lines: Vec<&str> = text.lines().map(|line| if line.starts_with(start) { by } else { line }).collect();
    lines.join("\n")
}

/// A `[[map]]` with a root on `disk1` and one on the cache, both called `name`, which are made.
fn map(env: &TestEnv, plex: &str, name: &str, more: &str) -> String {
    let (array, cache) = (env.path("disk1").join(name), env.path("cache").join(name));
    for root in [&array, &cache] {
        fs::create_dir_all(root).unwrap();
    }
    fs::write(array.join("notes.txt"), "one").unwrap();
    env.plex.edit(|library| [&cache, &array].map(|root| library.map_local(plex, root)));
    let (array, cache) = (array.display(), cache.display());
    format!("[[map]]\nplex = '{plex}'\narray = [\"{array}\"]\ncache = \"{cache}\"\nplacement = \"copy\"\n{more}\n")
}

/// A film that has this file as Plex sees it, on deck.
fn film_at(env: &TestEnv, title: &str, file: &str) -> RatingKey {
    let key = env.plex.edit(|library| library.add_movie(env.movies, title, 2000, &[Media::file(file, 1000)]));
    env.on_deck("owner", &key);
    key
}

/// Everything but the state directory and the configuration.
fn trees(env: &TestEnv) -> Tree {
    let mut tree = env.snapshot("");
    tree.entries.retain(|name, _| !name.starts_with("state") && name != "config.toml");
    tree
}

/// What is below each root, markers left out.
fn roots(env: &TestEnv) -> [Tree; 3] {
    ["disk1/media", "disk2/media", "cache/media"].map(|root| env.snapshot(root).without_markers())
}

/// All that the history tells but for the beginnings and ends of runs: a refused run has these alone.
fn deeds(env: &TestEnv) -> Vec<serde_json::Value> {
    let frames = ["run_started", "run_finished"];
    env.history().into_iter().filter(|record| !frames.contains(&record["event"].as_str().unwrap())).collect()
}

/// Expects that a run is refused: with 4, these words, and nothing changed. A dry run leaves even the
/// state as it is.
#[track_caller]
fn refused(env: &TestEnv, words: &str, run: impl Fn(&[&str]) -> Run) {
    let (before, known) = (trees(env), deeds(env));
    let state = || env.path("state").exists().then(|| env.snapshot("state"));
    let state_before = state();
    let dry = run(&["sync", "--dry-run"]).expect(4);
    assert!(dry.stderr.contains(words), "{}", dry.stderr);
    assert_eq!(state(), state_before);
    assert_eq!(trees(env), before);
    for command in [&["sync"][..], &["evict", "--all"]] {
        let real = run(command).expect(4);
        assert!(real.stderr.contains(words), "{}", real.stderr);
        assert_eq!(trees(env), before, "{command:?}");
        assert_eq!(deeds(env), known, "{command:?}");
    }
}

/// A film on deck that is cached already.
fn cached_film(placement: &str) -> TestEnv {
    let env = TestEnv::with_placement(placement);
    let film = env.movie("Dune", 2021, 1000);
    env.on_deck("owner", &film);
    env.sync();
    env
}

#[test]
fn of_several_maps_the_longest_prefix_on_component_boundaries_wins() {
    let mut env = TestEnv::new();
    env.configure(&map(&env, "/data", "data", ""));
    env.configure(&map(&env, "/data/media/TV", "tv", ""));
    for (root, file) in [
        ("tv", "Lost/a.mkv"),
        ("media", "TVs/b.mkv"),
        ("data", "media2/c.mkv"),
        // Were the prefixes compared in another way, these would be found instead.
        ("media", "TV/Lost/a.mkv"),
        ("data", "media/TVs/b.mkv"),
    ] {
        file_at(env.path("disk1").join(root).join(file), 1000);
    }
    film_at(&env, "A", "/data/media/TV/Lost/a.mkv");
    film_at(&env, "B", "/data/media/TVs/b.mkv");
    film_at(&env, "C", "/data/media2/c.mkv");
    env.sync();
    let mut cached: Vec<String> = env.snapshot("cache").without_markers().entries.into_keys().collect();
    cached.retain(|name| Path::new(name).extension().is_some());
    assert_eq!(cached, ["data/media2/c.mkv", "media/TVs/b.mkv", "tv/Lost/a.mkv"]);
}

#[test]
fn files_are_found_on_whichever_disk_they_are_and_go_back_to_it() {
    for placement in PLACEMENTS {
        let env = TestEnv::with_placement(placement);
        let keys: Vec<_> = (1..=2).map(|index| env.episode("Lost", 1, index, 1000)).collect();
        let second = episode_path("Lost", 1, 2);
        let on_second = env.path("disk2/media").join(&second);
        fs::create_dir_all(on_second.parent().unwrap()).unwrap();
        fs::remove_file(env.array(&second)).unwrap();
        file_at(on_second, 1000);
        let before = [env.snapshot("disk1/media"), env.snapshot("disk2/media")];
        env.on_deck("owner", &keys[0]);
        env.sync();
        assert_eq!(env.cached(), [episode_path("Lost", 1, 1), second], "{placement}");
        env.run(&["evict", "--all"]).expect(0);
        let after = ["disk1/media", "disk2/media"].map(|disk| env.snapshot(disk).without_markers());
        assert_eq!(after, before, "{placement}");
    }
}

#[test]
fn the_paths_of_a_windows_server_are_mapped_by_a_windows_prefix() {
    let mut env = TestEnv::new();
    env.plex.edit(|library| "Windows".clone_into(&mut library.platform));
    env.configure(&map(&env, r"D:\Media", "windows", ""));
    file_at(env.path("disk1/windows/Films/Dune/Dune.mkv"), 1000);
    film_at(&env, "Dune", r"d:\media\Films\Dune\Dune.mkv");
    film_at(&env, "Alien", r"E:\Media\Films\Alien.mkv");
    film_at(&env, "Up", r"D:\Media\..\Films\Up.mkv");
    let run = env.run(&["sync", "--json"]).expect(0);
    assert_eq!(run.planned(), ["cache Films/Dune/Dune.mkv"]);
    assert_eq!(run.left(), [r"unmapped D:\Media\..\Films\Up.mkv", r"unmapped E:\Media\Films\Alien.mkv"]);
    assert!(env.path("cache/windows/Films/Dune/Dune.mkv").is_file());
}

#[test]
fn paths_that_lead_out_of_every_map_touch_nothing_and_are_reported() {
    for placement in PLACEMENTS {
        let env = TestEnv::with_placement(placement);
        let outside = file_at(env.path("disk1/secret.mkv"), 1000);
        file_at(env.path("disk1/media2/a.mkv"), 1000);
        let paths = [
            "/data/media/../secret.mkv",
            "/data/media/Movies/../../secret.mkv",
            "/data/media/./Movies/a.mkv",
            "/data/media//Movies/a.mkv",
            "/data/media2/a.mkv",
            "/data/medi/a.mkv",
            "/elsewhere/a.mkv",
            "data/media/Movies/a.mkv",
            "Movies/a.mkv",
            "/data/media",
            r"C:\media\a.mkv",
        ];
        env.file("Movies/a.mkv", 1000);
        for (index, path) in paths.iter().enumerate() {
            film_at(&env, &format!("Film {index:02}"), path);
        }
        let absolute = format!("/data/media/..{}", outside.display());
        film_at(&env, "Absolute", &absolute);
        let good = env.movie("Dune", 2021, 1000);
        env.on_deck("owner", &good);
        let before = (roots(&env), env.snapshot("disk1/media2"), fs::read(&outside).unwrap());
        let run = env.run(&["sync", "--json"]).expect(0);
        assert_eq!(run.planned(), [format!("cache {}", movie_path("Dune", 2021))], "{placement}");
        let left = run.left();
        for path in paths.iter().copied().chain([absolute.as_str()]) {
            let line = format!("unmapped {}", path.trim_start_matches('/'));
            assert_eq!(left.iter().filter(|row| **row == line).count(), 1, "{placement} {path}: {left:?}");
        }
        assert_eq!(left.len(), paths.len() + 1, "{placement}: {left:?}");
        env.run(&["evict", "--all"]).expect(0);
        assert_eq!((roots(&env), env.snapshot("disk1/media2"), fs::read(&outside).unwrap()), before, "{placement}");
    }
}

#[test]
fn of_a_path_with_a_windows_separator_on_a_unix_server_the_backslash_is_part_of_the_name() {
    let env = TestEnv::new();
    env.file(r"Movies/AC\DC.mkv", 1000);
    film_at(&env, "Live", r"/data/media/Movies/AC\DC.mkv");
    env.sync();
    assert_eq!(env.cached(), [r"Movies/AC\DC.mkv"]);
}

#[test]
fn a_map_that_is_not_cacheable_is_known_and_left_alone() {
    let mut env = TestEnv::new();
    env.configure(&map(&env, "/data/kids", "kids", "cacheable = false"));
    file_at(env.path("disk1/kids/a.mkv"), 1000);
    film_at(&env, "A", "/data/kids/a.mkv");
    let run = env.run(&["sync", "--json"]).expect(0);
    assert_eq!(run.planned(), Vec::<String>::new());
    assert_eq!(run.left(), ["not_cacheable a.mkv"]);
    assert_eq!(env.snapshot("cache/kids").without_markers().entries.len(), 0);
}

#[test]
fn array_roots_may_be_globs() {
    let env = TestEnv::new();
    fs::create_dir_all(env.path("disk3")).unwrap();
    file_at(env.path("disk10/media/Movies/a.mkv"), 1000);
    film_at(&env, "A", "/data/media/Movies/a.mkv");
    run_with_array(&env, &["disk*/media"], &["sync"]).expect(0);
    assert_eq!(env.cached(), ["Movies/a.mkv"]);
    for disk in ["disk1", "disk2", "disk10"] {
        assert!(env.path(disk).join("media/.plexcache-root").is_file(), "{disk}");
    }
}

#[test]
fn a_disk_of_a_glob_that_has_vanished_stops_the_run() {
    for placement in PLACEMENTS {
        let env = TestEnv::with_placement(placement);
        let film = env.movie("Dune", 2021, 1000);
        env.on_deck("owner", &film);
        run_with_array(&env, &["disk*/media"], &["sync"]).expect(0);
        fs::rename(env.path("disk2"), env.path("away2")).unwrap();
        refused(&env, "disk2/media", |args| run_with_array(&env, &["disk*/media"], args));
        run_with_array(&env, &["disk*/media"], &["evict", "--all", "--yes"]).expect(0);
        assert_eq!(env.cached(), Vec::<String>::new(), "{placement}: told that it is gone for good");
    }
}

#[test]
fn a_glob_that_matches_nothing_stops_the_run() {
    let env = TestEnv::new();
    refused(&env, "platter*/media", |args| run_with_array(&env, &["platter*/media"], args));
}

#[test]
fn an_array_root_that_is_an_empty_folder_on_first_use_stops_the_run() {
    let env = TestEnv::new();
    let film = env.movie("Dune", 2021, 1000);
    env.on_deck("owner", &film);
    fs::remove_file(env.path("disk2/media/notes2.txt")).unwrap();
    refused(&env, "disk2/media is empty", |args| env.run(args));
}

#[test]
fn a_root_whose_marker_is_gone_stops_the_run() {
    for placement in PLACEMENTS {
        let env = cached_film(placement);
        for root in ["disk1/media", "disk2/media", "cache/media"] {
            let (marker, away) = (env.path(root).join(".plexcache-root"), env.path("away"));
            fs::rename(&marker, &away).unwrap();
            refused(&env, &format!("{root} has been used before"), |args| env.run(args));
            fs::rename(&away, &marker).unwrap();
        }
        env.run(&["sync"]).expect(0);
    }
}

#[test]
fn a_root_that_is_an_unmounted_disk_stops_the_run() {
    for placement in ["copy", "symlink"] {
        for (root, words) in [("disk1/media", "has been used before"), ("cache/media", "has been used before")] {
            let env = cached_film(placement);
            fs::rename(env.path(root), env.path("away")).unwrap();
            fs::create_dir(env.path(root)).unwrap();
            refused(&env, words, |args| env.run(args));
        }
    }
}

#[test]
fn a_root_with_the_marker_of_another_state_stops_the_run_unless_told() {
    let env = cached_film("copy");
    fs::rename(env.path("state"), env.path("lost-state")).unwrap();
    refused(&env, "marker of another state", |args| env.run(args));
    let known = [env.snapshot("disk1/media"), env.snapshot("cache/media")];
    env.run(&["sync", "--yes"]).expect(0);
    env.run(&["sync"]).expect(0);
    assert_eq!(
        [env.snapshot("disk1/media"), env.snapshot("cache/media")].map(Tree::without_markers),
        known.map(Tree::without_markers)
    );
}

#[test]
fn a_root_with_a_damaged_marker_stops_the_run() {
    let env = cached_film("copy");
    fs::write(env.path("disk2/media/.plexcache-root"), "not a marker").unwrap();
    refused(&env, "disk2/media", |args| env.run(args));
}

#[test]
fn a_root_that_is_missing_stops_the_run() {
    for root in ["cache/media", "disk1/media", "disk2/media"] {
        let env = TestEnv::new();
        fs::rename(env.path(root), env.path("away")).unwrap();
        refused(&env, root, |args| env.run(args));
        fs::write(env.path(root), "a file in its place").unwrap();
        refused(&env, root, |args| env.run(args));
    }
}

#[test]
fn both_roots_on_one_device_stop_the_run_unless_allowed() {
    let mut env = TestEnv::new();
    let film = env.movie("Dune", 2021, 1000);
    env.on_deck("owner", &film);
    env.settings = env.settings.replace("allow_same_device = true", "allow_same_device = false");
    refused(&env, "on the same file system", |args| env.run(args));
}

#[test]
fn roots_that_contain_each_other_stop_the_run_however_they_are_named() {
    let env = TestEnv::new();
    let film = env.movie("Dune", 2021, 1000);
    env.on_deck("owner", &film);
    for cache in ["disk1/media", "disk1/media/cache", "disk1"] {
        fs::create_dir_all(env.path(cache)).unwrap();
        let line = format!("cache = \"{}\"", env.path(cache).display());
        let before = trees(&env);
        let run = run_with(&env, |text| replace_line(&text, "cache = ", &line), &["sync"]);
        assert_eq!(run.status, 78, "{cache}: {}", run.stderr);
        assert_eq!(trees(&env), before);
    }
    // Behind a link only the file system can tell.
    symlink(env.path("disk1"), env.path("ssd")).unwrap();
    let line = format!("cache = \"{}\"", env.path("ssd/media/cache").display());
    refused(&env, "contain", |args| run_with(&env, |text| replace_line(&text, "cache = ", &line), args));
    let line = format!("cache = \"{}\"", env.path("ssd/media").display());
    refused(&env, "the same folder", |args| run_with(&env, |text| replace_line(&text, "cache = ", &line), args));
}

/// A folder outside all roots with something in it, and what it looks like.
fn outside(env: &TestEnv) -> (PathBuf, Tree) {
    let folder = env.path("outside");
    file_at(folder.join("Dune (2021)/Dune (2021).mkv"), 4000);
    file_at(folder.join("precious.mkv"), 4000);
    let tree = Tree::of(&folder);
    (folder, tree)
}

#[test]
fn a_folder_of_the_cache_that_is_a_link_is_not_followed() {
    for placement in PLACEMENTS {
        let env = TestEnv::with_placement(placement);
        let (film, other) = (env.movie("Dune", 2021, 1000), env.episode("Lost", 1, 1, 1000));
        env.on_deck("owner", &film);
        env.on_deck("owner", &other);
        let (folder, before) = outside(&env);
        symlink(&folder, env.cache("Movies")).unwrap();
        let array = env.snapshot("disk1/media/Movies");
        let run = env.run(&["sync", "--json"]).expect(3);
        assert_eq!(run.left(), [format!("unavailable {}", movie_path("Dune", 2021))], "{placement}");
        assert_eq!(Tree::of(&folder), before, "{placement}");
        assert_eq!(env.snapshot("disk1/media/Movies"), array, "{placement}");
        assert!(env.cache(&episode_path("Lost", 1, 1)).is_file(), "{placement}: the others go on");
        assert_eq!(fs::read_link(env.cache("Movies")).unwrap(), folder);
    }
}

#[test]
fn a_file_of_the_cache_that_is_a_link_is_not_followed() {
    for placement in PLACEMENTS {
        let env = TestEnv::with_placement(placement);
        let film = env.movie("Dune", 2021, 1000);
        env.on_deck("owner", &film);
        let (folder, before) = outside(&env);
        let name = movie_path("Dune", 2021);
        // The same contents, so that following it would find a file to adopt.
        for target in [folder.join("precious.mkv"), env.array(&name), folder.join("missing.mkv")] {
            let link = env.cache(&name);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            if link.is_symlink() {
                fs::remove_file(&link).unwrap();
            }
            symlink(&target, &link).unwrap();
            let array = env.snapshot("disk1/media").without_markers();
            let run = env.run(&["sync", "--json"]).expect(3);
            assert_eq!(run.left(), [format!("conflict {name}")], "{placement}");
            assert_eq!(fs::read_link(&link).unwrap(), target, "{placement}");
            assert_eq!(Tree::of(&folder), before, "{placement}");
            assert_eq!(env.snapshot("disk1/media").without_markers(), array, "{placement}");
        }
    }
}

#[test]
fn a_cached_copy_that_was_replaced_by_a_link_is_not_followed() {
    for placement in PLACEMENTS {
        let mut env = cached_film(placement);
        env.configure("[evict]\nunwanted_after = \"0\"\n");
        let (folder, before) = outside(&env);
        let name = movie_path("Dune", 2021);
        fs::rename(env.cache(&name), env.path("kept.mkv")).unwrap();
        symlink(folder.join("precious.mkv"), env.cache(&name)).unwrap();
        env.plex.edit(|library| library.clear_on_deck("owner"));
        let array = env.snapshot("disk1/media");
        let run = env.run(&["sync", "--json"]);
        assert_eq!(Tree::of(&folder), before, "{placement}: {}", run.stdout);
        assert!(env.cache(&name).is_symlink(), "{placement}: {}", run.stdout);
        assert_eq!(env.snapshot("disk1/media"), array, "{placement}: {}", run.stdout);
        assert_eq!(run.status, 3, "{placement}: {}", run.stdout);
        // The copy comes back, and all is well.
        fs::remove_file(env.cache(&name)).unwrap();
        fs::rename(env.path("kept.mkv"), env.cache(&name)).unwrap();
        env.run(&["evict", "--all"]).expect(0);
        assert_eq!(env.cached(), Vec::<String>::new());
        assert!(env.array(&name).is_file() && !env.array(&name).is_symlink(), "{placement}");
    }
}

#[test]
fn links_on_the_array_are_not_followed() {
    for placement in PLACEMENTS {
        let env = TestEnv::with_placement(placement);
        let (folder, before) = outside(&env);
        fs::create_dir_all(env.array("Linked")).unwrap();
        symlink(&folder, env.array("Films")).unwrap();
        symlink(folder.join("precious.mkv"), env.array("Linked/b.mkv")).unwrap();
        film_at(&env, "A", "/data/media/Films/precious.mkv");
        film_at(&env, "B", "/data/media/Linked/b.mkv");
        let run = env.run(&["sync", "--json"]).expect(3);
        assert_eq!(run.planned(), Vec::<String>::new(), "{placement}");
        assert_eq!(run.left(), ["unavailable Films/precious.mkv", "conflict Linked/b.mkv"], "{placement}");
        assert_eq!(Tree::of(&folder), before, "{placement}");
        assert_eq!(env.snapshot("cache/media").without_markers().entries.len(), 0, "{placement}");
        assert!(env.array("Films").is_symlink() && env.array("Linked/b.mkv").is_symlink());
    }
}

#[test]
fn another_file_at_the_destination_survives_and_is_reported() {
    for placement in PLACEMENTS {
        for size in [1000, 999] {
            let env = TestEnv::with_placement(placement);
            let (film, other) = (env.movie("Dune", 2021, 1000), env.movie("Alien", 1979, 1000));
            env.on_deck("owner", &film);
            env.on_deck("owner", &other);
            let name = movie_path("Dune", 2021);
            let there = file_at(env.cache(&name), size);
            let mut bytes = fs::read(&there).unwrap();
            bytes[500] ^= 1;
            fs::write(&there, &bytes).unwrap();
            let before = (env.snapshot("cache/media"), env.snapshot("disk1/media"));
            let run = env.run(&["sync", "--json"]).expect(3);
            assert_eq!(run.left(), [format!("conflict {name}")], "{placement}");
            let after = (env.snapshot("cache/media"), env.snapshot("disk1/media"));
            assert_eq!(after.0.entries[&name], before.0.entries[&name], "{placement}");
            assert_eq!(after.1.entries[&name], before.1.entries[&name], "{placement}");
            assert!(env.cached().contains(&movie_path("Alien", 1979)), "{placement}: the others go on");
        }
    }
}

#[test]
fn the_same_file_at_the_destination_is_adopted() {
    for placement in PLACEMENTS {
        let env = TestEnv::with_placement(placement);
        let film = env.movie("Dune", 2021, 1000);
        env.on_deck("owner", &film);
        let before = env.snapshot("disk1/media");
        let name = movie_path("Dune", 2021);
        file_at(env.cache(&name), 1000);
        let there = env.snapshot("cache/media").entries[&name].clone();
        env.sync();
        assert_eq!(env.snapshot("cache/media").entries[&name], there, "{placement}");
        let again = env.sync();
        assert!(again.stdout.contains("Nothing to do"), "{placement}: {}", again.stdout);
        env.run(&["evict", "--all"]).expect(0);
        assert_eq!(env.cached(), Vec::<String>::new(), "{placement}: it is ours from then on");
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
    }
}

#[test]
fn a_file_that_is_on_the_cache_alone_is_not_ours_and_left_alone() {
    for placement in PLACEMENTS {
        let mut env = TestEnv::with_placement(placement);
        let film = env.movie("Dune", 2021, 1000);
        env.on_deck("owner", &film);
        let name = movie_path("Dune", 2021);
        fs::remove_file(env.array(&name)).unwrap();
        file_at(env.cache(&name), 1000);
        let before = roots(&env);
        let run = env.run(&["sync", "--json"]).expect(0);
        assert_eq!(run.left(), [format!("not_ours {name}")], "{placement}");
        env.plex.edit(|library| library.clear_on_deck("owner"));
        env.configure("[evict]\nunwanted_after = \"0\"\n");
        env.sync();
        env.run(&["evict", "--all"]).expect(0);
        env.run(&["evict", &name]).expect(0);
        assert_eq!(roots(&env), before, "{placement}");
    }
}

#[test]
fn many_copies_gone_at_once_stop_the_run_unless_told() {
    for placement in PLACEMENTS {
        let (env, before) = twelve_cached(placement);
        remove_copies(&env, 11);
        refused(&env, "11 of 12 cached files have vanished", |args| env.run(args));
        if placement == "move" {
            continue; // Those were the only copies: nothing can bring them back.
        }
        env.run(&["evict", "--all", "--yes"]).expect(0);
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
    }
}

#[test]
fn ten_copies_gone_are_cached_again() {
    let (env, _) = twelve_cached("copy");
    remove_copies(&env, 10);
    env.sync();
    assert_eq!(env.cached().len(), 12);
}

/// Twelve episodes that are cached, and what the array was before.
fn twelve_cached(placement: &str) -> (TestEnv, Tree) {
    let mut env = TestEnv::with_placement(placement);
    env.configure("[select]\nnext_episodes = 20\n");
    let keys: Vec<_> = (1..=12).map(|index| env.episode("Lost", 1, index, 100)).collect();
    env.on_deck("owner", &keys[0]);
    let before = env.snapshot("disk1/media");
    env.sync();
    (env, before)
}

/// Removes the copies of the first so many.
fn remove_copies(env: &TestEnv, count: i64) {
    for index in 1..=count {
        fs::remove_file(env.cache(&episode_path("Lost", 1, index))).unwrap();
    }
}

#[test]
fn a_library_of_music_is_passed_over() {
    let env = TestEnv::new();
    env.plex.edit(|library| library.add_section("Music", SectionKind::Artist, &["/data/media/Music"]));
    let film = env.movie("Dune", 2021, 1000);
    env.on_deck("owner", &film);
    env.sync();
    assert_eq!(env.cached(), [movie_path("Dune", 2021)]);
    assert!(!env.cache("Music").exists());
}
