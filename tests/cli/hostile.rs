//! Everything that others write is hostile: Plex's answers, names of files, what lies on the tiers, and
//! the state's own files. Nothing panics, nothing waits for ever, and nothing outside of the tiers changes.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::util::env::{Run, TestEnv, Tree, binary, file_at, movie_path};
use crate::util::fake_plex::{Media, Part};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];
const DUNE: &str = "Movies/Dune (2021)/Dune (2021).mkv";

/// Runs the binary and expects that it ends by itself, without a panic and with a documented status.
#[track_caller]
fn survive(env: &TestEnv, args: &[&str]) -> Run {
    let (out, err) = (env.path("out.txt"), env.path("err.txt"));
    let open = |path: &Path| Stdio::from(File::create(path).unwrap());
    let mut child = env.command(args).arg("--yes").stdout(open(&out)).stderr(open(&err)).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{args:?} waits for ever: {}", fs::read_to_string(&err).unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let [stdout, stderr] = [out, err].map(|path| fs::read_to_string(path).unwrap());
    let status = status.unwrap_or_else(|| panic!("{args:?} was ended by a signal: {stderr}"));
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    assert!([0, 1, 3, 4, 69, 75, 77, 78].contains(&status), "{args:?} ended with {status}: {stderr}");
    Run { status, stdout, stderr }
}

/// A film on deck.
fn film(placement: &str) -> TestEnv {
    let env = TestEnv::with_placement(placement);
    let key = env.movie("Dune", 2021, 100_000);
    env.on_deck("owner", &key);
    assert_eq!(movie_path("Dune", 2021), DUNE);
    env
}

/// The same on the cache, as after a sync.
fn cached_film(placement: &str) -> TestEnv {
    let env = film(placement);
    env.sync();
    assert_eq!(env.cached(), [DUNE], "{placement}");
    env
}

/// A folder that is none of the program's business, with files of the names that it looks for.
fn victim(env: &TestEnv) -> Tree {
    for name in ["secret", "Dune (2021).mkv", "Dune (2021)/Dune (2021).mkv", "Movies/Dune (2021)/Dune (2021).mkv"] {
        file_at(env.path("victim").join(name), 5_000);
    }
    env.snapshot("victim")
}

/// Puts a link to the victim in the place of what is at `path`; what was there is kept beside the world.
fn plant(env: &TestEnv, path: &Path, to: &str) {
    if path.symlink_metadata().is_ok() {
        fs::rename(path, env.path("taken-away")).unwrap();
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(env.path("victim").join(to), path).unwrap();
}

#[test]
fn the_states_files_may_hold_anything() {
    let deep = "[".repeat(50_000);
    let long = "x".repeat(3 << 20);
    let bytes: [&[u8]; 7] = [
        b"",
        b"\0\xff\xfe\n",
        b"{}\n",
        b"null\n[1]\n",
        deep.as_bytes(),
        long.as_bytes(),
        b"{\"format\":1,\"cached\":[7]}",
    ];
    let env = cached_film("hide");
    let good = env.path("state");
    let before = env.snapshot("disk1/media");
    for name in ["history.jsonl", "index.json", "wants.json"] {
        let kept = fs::read(good.join(name)).unwrap();
        for (number, bytes) in bytes.into_iter().enumerate() {
            fs::write(good.join(name), bytes).unwrap();
            survive(&env, &["status", "--json"]);
            if number % 3 == 1 {
                survive(&env, &["history", "--stats"]);
                survive(&env, &["undo", "--dry-run"]);
            }
            survive(&env, &["sync", "--json"]);
            assert_eq!(env.snapshot("disk1/media"), before, "{name} {number}");
            assert_eq!(env.cached(), [DUNE], "{name} {number}");
        }
        fs::write(good.join(name), kept).unwrap();
    }
}

#[test]
fn numbers_at_the_ends_of_their_range_in_the_history_are_counted_without_overflowing() {
    let env = film("copy");
    let other = env.movie("Arrival", 2016, 100_000);
    env.on_deck("owner", &other);
    env.sync();
    let history = fs::read_to_string(env.path("state/history.jsonl")).unwrap();
    for (number, time) in [(u64::MAX, "9999-12-30T22:00:00Z"), (0, "-009999-01-02T01:59:59Z")] {
        let absurd = |line: &str| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            for place in ["/action/size", "/bytes", "/duration_ms", "/cached/bytes", "/cached/files", "/copy/size"] {
                if let Some(value) = line.pointer_mut(place) {
                    *value = number.into();
                }
            }
            if line["event"] == "run_finished" || line["event"] == "ended" {
                line["t"] = time.into();
            }
            format!("{line}\n")
        };
        let absurd: String = history.lines().map(absurd).collect();
        fs::write(env.path("state/history.jsonl"), absurd.repeat(2)).unwrap();
        drop(fs::remove_file(env.path("state/index.json")));
        let prometheus = env.path("metrics.prom");
        let html = env.path("status.html");
        for args in [
            &["status"][..],
            &["status", "--json"],
            &["status", "--nagios"],
            &["status", "--prometheus", prometheus.to_str().unwrap()],
            &["status", "--html", html.to_str().unwrap()],
            &["history"],
            &["history", "1"],
            &["history", "--stats"],
            &["history", "--csv"],
            &["undo", "--dry-run"],
            &["evict", "--all", "--dry-run", "--json"],
            &["evict", "--free", "1GB", "--dry-run"],
            &["sync", "--dry-run"],
        ] {
            survive(&env, args);
        }
    }
}

#[test]
fn after_the_highest_number_of_a_run_nothing_is_changed() {
    let env = cached_film("move");
    let history = env.path("state/history.jsonl");
    let last =
        format!(r#"{{"v":1,"run":{},"t":"2026-01-01T00:00:00Z","event":"run_started","command":"sync"}}"#, u64::MAX);
    fs::write(&history, format!("{}{last}\n", fs::read_to_string(&history).unwrap())).unwrap();
    let (array, cache) = (env.snapshot("disk1"), env.snapshot("cache"));
    for args in [&["evict", "--all"][..], &["undo", "1"], &["sync"]] {
        let run = survive(&env, args).expect(1);
        assert!(run.stderr.contains("highest number"), "{args:?}: {}", run.stderr);
    }
    survive(&env, &["history"]).expect(0);
    survive(&env, &["status"]).expect(0);
    assert_eq!((env.snapshot("disk1"), env.snapshot("cache")), (array, cache));
}

#[test]
fn a_configuration_of_any_bytes_is_refused_by_name() {
    let env = TestEnv::new();
    let deep = format!("a = {}", "[".repeat(100_000));
    let config = env.path("hostile.toml");
    for bytes in [&b""[..], b"\0", b"[plex]\nurl = \"", b"version = 9223372036854775808", deep.as_bytes(), b"\xff\xfe["]
    {
        fs::write(&config, bytes).unwrap();
        let mut command = std::process::Command::new(binary());
        let run = Run::of(command.env_clear().arg("--config").arg(&config).arg("status"));
        assert_eq!(run.status, 78, "{}", run.stderr);
        assert!(run.stderr.contains("hostile.toml") && !run.stderr.contains("panicked"), "{}", run.stderr);
    }
}

#[test]
fn absurd_numbers_in_plexs_answers_do_no_harm() {
    let env = cached_film("symlink");
    let before = env.snapshot("disk1/media");
    for number in [i64::MIN, -5, 0, 253_402_300_799, i64::MAX] {
        env.plex.edit(|library| {
            let key = library.add_movie(env.movies, "Absurd", number, &[Media::file("/data/media/gone.mkv", number)]);
            let item = library.item_mut(&key);
            (item.index, item.duration, item.added_at, item.updated_at) = (Some(number), number, number, number);
            library.set_on_deck("owner", &key, Some(number), number);
        });
        survive(&env, &["sync", "--json"]);
        assert_eq!(env.cached(), [DUNE], "{number}");
        assert_eq!(env.snapshot("disk1/media"), before, "{number}");
    }
}

#[test]
fn an_item_of_very_many_parts_and_a_title_without_end_are_borne() {
    let env = film("copy");
    let part = |id: i64| Part { id, file: Some(format!("/data/media/part{id}.mkv")), size: Some(1) };
    let media = Media { parts: (0..1_000).map(part).collect(), ..Media::file("x", 1) };
    let many = env.plex.edit(|library| library.add_movie(env.movies, "Many", 2000, &[media]));
    let long = env.film_at("Movies/long.mkv", 1000);
    env.plex.edit(|library| library.item_mut(&long).title = "\u{1f4a5}".repeat(500_000));
    for key in [&many, &long] {
        env.on_deck("owner", key);
    }
    survive(&env, &["sync"]);
    assert_eq!(env.cached(), [DUNE, "Movies/long.mkv"]);
    survive(&env, &["sync"]);
    survive(&env, &["evict", "--all"]).expect(0);
    assert_eq!(env.cached(), Vec::<String>::new());
}

#[test]
fn files_of_any_name_are_cached_and_come_back_as_they_were() {
    let longest = format!("Movies/{}.mkv", "n".repeat(251));
    for placement in PLACEMENTS {
        let env = TestEnv::with_placement(placement);
        let mut names = vec![
            "Movies/new\nline.mkv",
            "Movies/\u{1b}[2J\u{1b}]0;x\u{7}.mkv",
            "Movies/\"quo'ted\".mkv",
            "Movies/$(touch pwned)`id`;&|.mkv",
            "--yes/-rf.mkv",
            "Movies/Caf\u{e9}.mkv",
            "Movies/Cafe\u{301}.mkv",
            " /  .mkv",
            "Movies/\u{202e}vkm.mkv",
            r"Movies/AC\DC.mkv",
            "Movies/*?[a].mkv",
        ];
        // Beside the longest name there is no room for the name of its original.
        if matches!(placement, "copy" | "move") {
            names.push(&longest);
        }
        for name in &names {
            let key = env.film_at(name, 3_000);
            env.on_deck("owner", &key);
        }
        let before = env.snapshot("disk1/media");
        let run = survive(&env, &["sync"]).expect(0);
        names.sort_unstable();
        assert_eq!(env.cached(), names, "{placement}");
        let status = survive(&env, &["status"]).expect(0);
        let history = survive(&env, &["history", "1"]).expect(0);
        let evicted = survive(&env, &["evict", "--all"]).expect(0);
        for text in [&run, &status, &history, &evicted].map(|run| format!("{}{}", run.stdout, run.stderr)) {
            assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{placement}: {text:?}");
            assert!(!text.contains("new\nline"), "{placement}: {text:?}");
        }
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
        assert_eq!(env.cached(), Vec::<String>::new(), "{placement}");
    }
}

#[test]
fn paths_of_plex_that_lead_elsewhere_touch_nothing() {
    for placement in PLACEMENTS {
        let env = film(placement);
        let before = victim(&env);
        let elsewhere = env.path("victim/secret");
        for path in [
            "/data/media/../../victim/secret",
            "/data/media/../victim/secret",
            "/data/media//Movies/../../../victim/secret",
            "/data/media/./secret",
            "/data/media/secret\0.mkv",
            "/data/media/",
            "data/media/secret",
            r"C:\victim\secret",
            "/data/mediavictim/secret",
            elsewhere.to_str().unwrap(),
        ] {
            let key = env.plex.edit(|library| library.add_movie(env.movies, path, 2020, &[Media::file(path, 5_000)]));
            env.on_deck("owner", &key);
        }
        survive(&env, &["sync"]);
        assert_eq!(env.cached(), [DUNE], "{placement}");
        survive(&env, &["evict", "--all"]).expect(0);
        assert_eq!(env.snapshot("victim"), before, "{placement}");
    }
}

/// Where a link can stand, and what of the victim's it names.
const LINKS: [(&str, &str); 6] = [
    ("disk1/media/Movies", "Movies"),
    ("disk1/media/Movies/Dune (2021)", "Dune (2021)"),
    ("disk1/media/Movies/Dune (2021)/Dune (2021).mkv", "secret"),
    ("cache/media/Movies", "Movies"),
    ("cache/media/Movies/Dune (2021)", "Dune (2021)"),
    ("cache/media/Movies/Dune (2021)/Dune (2021).mkv", "secret"),
];

#[test]
fn a_link_on_the_way_is_not_followed_when_a_file_is_cached() {
    for placement in PLACEMENTS {
        for (place, to) in LINKS {
            let env = film(placement);
            let before = victim(&env);
            plant(&env, &env.path(place), to);
            let run = survive(&env, &["sync"]);
            assert_eq!(env.snapshot("victim"), before, "{placement} {place}");
            assert!(env.path(place).is_symlink(), "{placement} {place}");
            assert!([0, 3].contains(&run.status), "{placement} {place}: {} {}", run.status, run.stderr);
            assert!(!env.cached().contains(&DUNE.to_owned()), "{placement} {place}");
        }
    }
}

#[test]
fn a_link_on_the_way_is_not_followed_when_a_file_is_evicted() {
    for placement in PLACEMENTS {
        for (place, to) in LINKS {
            let env = cached_film(placement);
            let before = victim(&env);
            plant(&env, &env.path(place), to);
            survive(&env, &["evict", "--all"]);
            survive(&env, &["undo"]);
            assert_eq!(env.snapshot("victim"), before, "{placement} {place}");
            // One whole copy is left: on a tier or where this test has moved it.
            let wanted = crate::util::env::contents(Path::new(DUNE), 100_000);
            let places = ["disk1", "disk2", "cache", "taken-away"].map(|below| env.path(below));
            let is_it = |contents: &[u8]| contents == wanted;
            let whole = |path: &std::path::PathBuf| {
                fs::read(path).is_ok_and(|bytes| is_it(&bytes))
                    || Tree::of(path).entries.values().any(|entry| entry.kind == "file" && is_it(&entry.contents))
            };
            assert!(places.iter().any(whole), "{placement} {place}");
        }
    }
}

#[test]
fn links_in_the_state_directory_are_never_written_through() {
    for name in
        ["lock", "history.jsonl", "history.torn", "index.json.new", "wants.json.new", "index.json", "wants.json"]
    {
        let env = film("copy");
        let before = victim(&env);
        plant(&env, &env.path("state").join(name), "secret");
        let run = survive(&env, &["sync"]);
        assert_eq!(env.snapshot("victim"), before, "{name}: {}", run.stderr);
        let refused = matches!(name, "lock" | "history.jsonl");
        assert_eq!((run.status, env.cached().is_empty()), (i32::from(refused), refused), "{name}: {}", run.stderr);
        for derived in ["index.json", "wants.json"].iter().filter(|_| !refused) {
            assert!(env.path("state").join(derived).symlink_metadata().unwrap().is_file(), "{name} {derived}");
        }
    }
}

/// Makes a pipe, or a device where the test may.
fn node(path: &Path, kind: FileType) -> bool {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // The device of /dev/zero, which never ends.
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), rustix::fs::makedev(1, 5)).is_ok()
}

#[test]
fn a_pipe_a_device_or_a_folder_in_place_of_a_file_is_left_alone() {
    let mut turn = PLACEMENTS.iter().cycle();
    for (tier, is_cached) in [("disk1", false), ("cache", false), ("disk1", true), ("cache", true)] {
        for kind in [FileType::Fifo, FileType::CharacterDevice, FileType::Directory] {
            let placement = turn.next().unwrap();
            let env = if is_cached { cached_film(placement) } else { film(placement) };
            let path = env.path(tier).join("media").join(DUNE);
            if path.symlink_metadata().is_ok() {
                fs::rename(&path, env.path("taken-away")).unwrap();
            }
            if kind == FileType::Directory {
                fs::create_dir_all(&path).unwrap();
            } else if !node(&path, kind) {
                continue;
            }
            survive(&env, &["sync"]);
            survive(&env, &["evict", "--all"]);
            let found = path.symlink_metadata().unwrap();
            assert!(!found.is_file() && !found.is_symlink(), "{placement} {tier} {kind:?} {is_cached}");
        }
        // So that every kind meets every placement.
        turn.next();
    }
}

#[test]
fn a_pipe_in_place_of_a_file_of_the_state_is_not_waited_on() {
    for name in ["history.jsonl", "index.json", "wants.json", "lock"] {
        let env = film("copy");
        assert!(node(&env.path("state").join(name), FileType::Fifo));
        for args in [&["status"][..], &["history"], &["sync"]] {
            survive(&env, args);
        }
    }
}
