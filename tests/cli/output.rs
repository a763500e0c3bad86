//! What is printed, and where: quiet runs, JSON lines field by field, tables, metrics; nothing foreign
//! reaches a terminal raw, and no secret reaches anything.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};

use crate::util::env::{Run, TestEnv, episode_path, file_at, movie_path};
use crate::util::fake_plex::{FakePlex, Fault, Faults, Library, Matcher, Media};

const TOKENS: [&str; 2] = ["owner-token", "ben-token"];

/// A film with a subtitle on the deck of the owner.
fn world() -> TestEnv {
    let env = TestEnv::new();
    let film = env.movie("Dune", 2021, 5000);
    env.file("Movies/Dune (2021)/Dune (2021).en.srt", 300);
    env.on_deck("owner", &film);
    env
}

fn fields(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[track_caller]
fn has(value: &Value, wanted: &[&str]) {
    let missing: Vec<_> = wanted.iter().filter(|field| !fields(value).contains(**field)).collect();
    assert!(missing.is_empty(), "{missing:?} in {value}");
}

/// RFC 3339 in UTC, as text: `2026-11-23T12:20:00.123Z`.
#[track_caller]
fn is_utc(value: &Value) {
    let text = value.as_str().unwrap_or_default();
    assert!(text.ends_with('Z') && text.get(10..11) == Some("T"), "{value}");
    text.parse::<jiff::Timestamp>().unwrap();
}

/// What an eviction without Plex tells a user who may not see everybody's open files.
const NOT_ROOT: &str = "not every process could be looked into";

fn history(env: &TestEnv, args: &[&str]) -> Vec<Value> {
    let all = [&["history", "--json"], args].concat();
    env.run(&all).expect(0).json()
}

fn numbers(runs: &[Value]) -> Vec<u64> {
    runs.iter().map(|run| run["run"].as_u64().unwrap()).collect()
}

#[test]
fn a_quiet_run_prints_nothing_when_all_is_well() {
    let env = world();
    for args in [&["sync"][..], &["sync"], &["evict", "--all"], &["undo", "--yes"], &["status"]] {
        let run = env.run(&[args, &["--quiet"]].concat()).expect(0);
        let stderr: Vec<_> = run.stderr.lines().filter(|line| !line.contains(NOT_ROOT)).collect();
        assert_eq!((run.stdout.as_str(), stderr), ("", Vec::new()), "{args:?}");
    }
    assert_eq!(env.cached().len(), 2);
}

#[test]
fn a_quiet_run_says_shortly_what_is_wrong() {
    let env = world();
    file_at(env.cache(&movie_path("Dune", 2021)), 10);
    let run = env.run(&["sync", "--quiet"]).expect(3);
    assert_eq!(run.stdout, "");
    assert!(run.stderr.contains("exit 3") && run.stderr.contains("Dune"), "{}", run.stderr);
    assert!(run.stderr.lines().count() <= 4, "{}", run.stderr);
    env.plex.faults(|faults| faults.add(Matcher::any(), Fault::Status(401)));
    let run = env.run(&["sync", "--quiet"]);
    assert_eq!(run.stdout, "");
    assert!(run.stderr.starts_with("error: ") && run.stderr.lines().count() <= 2, "{}", run.stderr);
    let run = env.run(&["status", "--quiet"]).expect(0);
    assert!(run.stdout.contains("Health") && run.stdout.lines().count() <= 3, "{}", run.stdout);
}

#[test]
fn a_sync_in_json_is_a_plan_its_actions_and_a_summary() {
    let env = world();
    let occupied = env.movie("Heat", 1995, 1000);
    env.on_deck("owner", &occupied);
    file_at(env.cache(&movie_path("Heat", 1995)), 10);
    let run = env.run(&["sync", "--json"]).expect(3);
    assert_eq!(run.stderr, "");
    let lines = run.json();
    let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["plan", "action", "action", "summary"]);
    assert!(lines.iter().all(|line| line["schema"] == 1));

    has(&lines[0], &["dry_run", "actions", "skipped"]);
    assert_eq!(lines[0]["dry_run"], false);
    let root = env.path("").display().to_string();
    let root = root.trim_end_matches('/');
    let unit = movie_path("Dune", 2021);
    for (index, (path, size)) in
        [("Movies/Dune (2021)/Dune (2021).en.srt".to_owned(), 300), (unit.clone(), 5000)].into_iter().enumerate()
    {
        let mut expected = json!({
            "kind": "cache",
            "unit": unit,
            "map": "/data/media",
            "path": path,
            "array_path": format!("{root}/disk1/media/{path}"),
            "cache_path": format!("{root}/cache/media/{path}"),
            "size": size,
            "title": "Dune (2021)",
            "reasons": [{"source": "on_deck", "user": "owner"}],
        });
        let subset = |of: &Value, like: &Value| {
            let like = like.as_object().unwrap();
            Value::Object(
                of.as_object().unwrap().clone().into_iter().filter(|(key, _)| like.contains_key(key)).collect(),
            )
        };
        let planned = &lines[0]["actions"][index];
        assert_eq!(subset(planned, &expected), expected);
        expected["result"] = json!("done");
        expected["error"] = json!(null);
        expected["bytes"] = json!(size);
        assert_eq!(subset(&lines[1 + index], &expected), expected);
        assert!(lines[1 + index]["duration_ms"].is_u64());
    }
    let skip = &lines[0]["skipped"][0];
    has(skip, &["kind", "unit", "map", "path", "array_path", "cache_path", "size", "title", "reasons", "detail"]);
    assert_eq!((&skip["why"], &skip["path"]), (&json!("conflict"), &json!(movie_path("Heat", 1995))));

    let count = |files: u64, bytes: u64| json!({"files": files, "bytes": bytes});
    let expected = json!({
        "schema": 1, "type": "summary", "run": 1, "outcome": "partial", "cached": count(2, 5300),
        "evicted": count(0, 0), "failed": count(0, 0), "skipped": count(1, skip["size"].as_u64().unwrap()),
    });
    assert_eq!(lines[3], expected);
}

#[test]
fn evict_and_undo_print_the_same_lines() {
    let env = world();
    env.sync();
    for (args, kind) in [(&["evict", "--all", "--json"][..], "evict"), (&["undo", "--yes", "--json"], "cache")] {
        let run = env.run(args).expect(0);
        let is_aside = |line: &Value| line["type"] == "note" || line.to_string().contains(NOT_ROOT);
        let lines: Vec<Value> = run.json().into_iter().filter(|line| !is_aside(line)).collect();
        let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["plan", "action", "action", "summary"]);
        assert!(lines[1..3].iter().all(|line| line["kind"] == kind && line["result"] == "done"), "{}", run.stdout);
        // That Plex was not asked is said.
        assert!(
            run.json().iter().any(|line| line["message"].as_str().is_some_and(|m| m.contains("Plex is not asked")))
        );
    }
}

#[test]
fn an_error_is_a_line_too() {
    let env = world();
    let run = env.run(&["history", "7", "--json"]).expect(1);
    let lines = run.json();
    assert_eq!(lines.len(), 1);
    assert_eq!(fields(&lines[0]), BTreeSet::from(["schema", "type", "message", "hint", "exit"]));
    assert_eq!(run.stderr, "");
}

#[test]
fn results_go_to_standard_output_and_the_rest_to_standard_error() {
    let env = world();
    let run = env.run(&["sync"]).expect(0);
    assert!(run.stdout.contains("Dune") && run.stdout.contains("undo: plexcache undo 1"), "{}", run.stdout);
    let evict = env.run(&["evict", "--all"]).expect(0);
    assert!(evict.stderr.contains("Plex is not asked") && !evict.stdout.contains("Plex is not asked"));
    let error = env.run(&["history", "7"]).expect(1);
    assert_eq!(error.stdout, "");
    assert!(error.stderr.contains("error: ") && error.stderr.contains("hint: "), "{}", error.stderr);
}

/// Five runs: cached, watched, evicted, one refused, one undone.
fn lived_in() -> TestEnv {
    let env = world();
    env.sync();
    let heat = env.movie("Heat", 1995, 1000);
    env.on_deck("owner", &heat);
    env.sync();
    env.run(&["evict", &movie_path("Heat", 1995)]).expect(0);
    env.run(&["undo", "--yes"]).expect(0);
    let marker = env.path("cache/media/.plexcache-root");
    let contents = fs::read(&marker).unwrap();
    fs::remove_file(&marker).unwrap();
    env.run(&["sync"]).expect(4);
    fs::write(&marker, contents).unwrap();
    env
}

#[test]
fn the_history_lists_runs_newest_first_and_filters_them() {
    let env = lived_in();
    let runs = history(&env, &[]);
    assert_eq!(numbers(&runs), [5, 4, 3, 2, 1]);
    for run in &runs {
        has(run, &["run", "command", "trigger", "started", "finished", "outcome", "undo_of", "undone_by"]);
        has(run, &["cached", "evicted", "failed", "skipped"]);
        is_utc(&run["started"]);
        is_utc(&run["finished"]);
    }
    let outcomes: Vec<_> = runs.iter().map(|run| run["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["refused", "ok", "ok", "ok", "ok"]);
    assert_eq!((&runs[1]["undo_of"], &runs[2]["undone_by"]), (&json!([3]), &json!(4)));
    assert_eq!(runs[4]["cached"], json!({"files": 2, "bytes": 5300}));

    for (args, expected) in [
        (&["--path", "Heat"][..], &[4, 3, 2][..]),
        (&["--path", "Dune (2021).en.srt"], &[1]),
        (&["--path", "absent"], &[]),
        (&["--failed"], &[5]),
        (&["--command", "sync"], &[5, 2, 1]),
        (&["--command", "undo"], &[4]),
        (&["--limit", "2"], &[5, 4]),
        (&["--limit", "1", "--command", "evict"], &[3]),
        (&["--since", "1h"], &[5, 4, 3, 2, 1]),
        (&["--until", "1h"], &[]),
        (&["--since", "2100-01-01"], &[]),
        (&["--until", "2100-01-01T00:00:00"], &[5, 4, 3, 2, 1]),
        (&["--since", "2000-01-01T00:00:00Z", "--until", "2001-01-01"], &[]),
    ] {
        assert_eq!(numbers(&history(&env, args)), expected, "{args:?}");
    }
    let since = runs[2]["started"].as_str().unwrap();
    assert_eq!(numbers(&history(&env, &["--since", since])), [5, 4, 3]);
    assert_eq!(numbers(&history(&env, &["--until", since])), [3, 2, 1]);
}

#[test]
fn one_run_is_told_with_its_actions() {
    let env = lived_in();
    let lines = history(&env, &["1"]);
    let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["run", "action", "action"]);
    assert!(lines[1..].iter().all(|line| line["result"] == "done" && line["kind"] == "cache"));
    let human = env.run(&["history", "1"]).expect(0);
    assert!(human.stdout.contains("Dune"), "{}", human.stdout);
    let refused = env.run(&["history", "5"]).expect(0);
    assert!(refused.stdout.contains(".plexcache-root"), "says why: {}", refused.stdout);
}

#[test]
fn totals_and_csv_tell_the_same() {
    let env = lived_in();
    let stats = &history(&env, &["--stats"])[0];
    assert_eq!((&stats["type"], &stats["runs"]), (&json!("stats"), &json!(5)));
    assert_eq!(stats["cached"], json!({"files": 4, "bytes": 7300}));
    assert_eq!(stats["evicted"], json!({"files": 1, "bytes": 1000}));
    let human = env.run(&["history", "--stats"]).expect(0);
    assert!(human.stdout.contains('5'), "{}", human.stdout);
    let csv = env.run(&["history", "--csv"]).expect(0);
    let lines: Vec<_> = csv.stdout.split("\r\n").collect();
    assert_eq!(lines.len(), 7, "a head, five runs and the end: {}", csv.stdout);
    assert!(lines[0].starts_with("run,command,") && lines[1].starts_with("5,sync,") && lines[5].starts_with("1,sync,"));
    assert_eq!(env.run(&["history", "--csv", "--failed"]).expect(0).stdout.split("\r\n").count(), 3);
}

#[test]
fn the_status_in_json_has_the_fields_of_the_contract() {
    let env = world();
    env.sync();
    let status = env.run(&["status", "--json"]).expect(0).json_of("status");
    has(&status, &["tiers", "files", "last_run", "health"]);
    has(&status["tiers"][0], &["cache_root", "total", "free", "owned", "limit"]);
    assert_eq!(status["tiers"][0]["owned"], 5300);
    assert_eq!(status["health"], json!([]));
    let file = &status["files"][1];
    has(file, &["path", "array_path", "cache_path", "size", "cached_at", "reasons", "evict_after", "evict_why"]);
    assert_eq!((&file["path"], &file["evict_after"]), (&json!(movie_path("Dune", 2021)), &json!(null)));
    is_utc(&file["cached_at"]);
    is_utc(&status["last_run"]["started"]);
    // Once nobody wants it, it is said until when it stays.
    env.plex.edit(|library| library.clear_on_deck("owner"));
    env.sync();
    let status = env.run(&["status", "--json"]).expect(0).json_of("status");
    assert_eq!(status["files"][0]["evict_why"], "unwanted");
    is_utc(&status["files"][0]["evict_after"]);
}

#[test]
fn status_needs_neither_plex_nor_the_array() {
    let mut env = world();
    env.sync();
    for disk in ["disk1", "disk2"] {
        fs::rename(env.path(disk), env.path(format!("{disk}.off"))).unwrap();
    }
    let media = movie_path("Dune", 2021);
    let config = env.config();
    env.plex = FakePlex::start(Library::new());
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["status", "--why", &media],
        &["status", "--nagios"],
        &["status", "--quiet"],
        &["history"],
    ] {
        let mut command = env.command(args);
        // The old address, where nobody listens any more.
        fs::write(env.path("config.toml"), &config).unwrap();
        let run = Run::of(&mut command).expect(0);
        assert_eq!(run.stderr, "", "{args:?}");
        assert!(!run.stdout.contains("cannot"), "{args:?}: {}", run.stdout);
    }
    assert!(env.plex.requests().is_empty());
}

#[test]
fn a_live_status_tells_of_a_server_and_of_originals_that_are_gone() {
    let env = world();
    env.sync();
    let health = |args: &[&str]| env.run(args).expect(0).json_of("status")["health"].to_string();
    assert_eq!(health(&["status", "--live", "--json"]), "[]");
    env.plex.faults(|faults| faults.add(Matcher::any(), Fault::Maintenance));
    fs::remove_file(env.array(&movie_path("Dune", 2021))).unwrap();
    let live = health(&["status", "--live", "--json"]);
    assert!(live.contains("database migrations") && live.contains("Dune (2021).mkv is gone"), "{live}");
    assert_eq!(health(&["status", "--json"]), "[]");
}

#[test]
fn why_explains_a_file_by_any_of_its_paths() {
    let mut env = world();
    writeln!(env.map, "merged = \"{}\"", env.path("merged").display()).unwrap();
    let episodes: Vec<_> = (1..=2).map(|index| env.episode("Severance", 1, index, 1000)).collect();
    env.on_deck("owner", &episodes[0]);
    env.sync();
    let media = episode_path("Severance", 1, 2);
    let shapes = [
        media.clone(),
        format!("/data/media/{media}"),
        env.array(&media).display().to_string(),
        env.cache(&media).display().to_string(),
        env.path("merged").join(&media).display().to_string(),
    ];
    for path in &shapes {
        let run = env.run(&["status", "--why", path]).expect(0);
        for part in ["wanted: next", "cached by run 1", "stays while it is wanted"] {
            assert!(run.stdout.contains(part), "{path}: no {part} in {}", run.stdout);
        }
        let why = env.run(&["status", "--json", "--why", path]).expect(0).json_of("why");
        assert_eq!((&why["asked"], &why["file"]["path"]), (&json!(path), &json!(media)));
    }
    env.run(&["evict", &media]).expect(0);
    let run = env.run(&["status", "--why", &media]).expect(0);
    assert!(run.stdout.contains("wanted: ") && run.stdout.contains("not on the cache"), "{}", run.stdout);
    let run = env.run(&["status", "--why", "Movies/absent.mkv"]).expect(0);
    assert!(run.stdout.contains("wanted by nobody") && run.stdout.contains("not on the cache"), "{}", run.stdout);
}

#[test]
fn the_page_and_the_metrics_are_written_whole_and_print_nothing() {
    let env = world();
    env.sync();
    let (page, metrics) = (env.path("page.html"), env.path("plexcache.prom"));
    let args = ["status", "--html", page.to_str().unwrap(), "--prometheus", metrics.to_str().unwrap()];
    let run = env.run(&args).expect(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!") && page.trim_end().ends_with("</html>") && page.contains("Dune (2021)"));
    assert!(!page.contains("http://") && !page.contains("<script src"), "it needs nothing from elsewhere");
    let metrics = fs::read_to_string(metrics).unwrap();
    for line in metrics.lines() {
        let sample = line.starts_with("# HELP plexcache_") || line.starts_with("# TYPE plexcache_");
        let value = line.rsplit(' ').next().unwrap().parse::<f64>();
        assert!(sample || (line.starts_with("plexcache_") && value.is_ok()), "{line}");
    }
    assert!(metrics.ends_with('\n'));
    let names: BTreeSet<_> = fs::read_dir(env.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().ends_with(".new")), "{names:?}");
    let missing = env.run(&["status", "--html", env.path("absent/page.html").to_str().unwrap()]).expect(1);
    assert!(missing.stderr.contains("absent/page.html"), "{}", missing.stderr);
}

#[test]
fn nagios_gets_one_line_and_its_own_statuses() {
    let env = world();
    let line = |status: i32, word: &str| {
        let run = env.run(&["status", "--nagios"]).expect(status);
        assert!(run.stdout.starts_with(&format!("PLEXCACHE {word} - ")), "{}", run.stdout);
        assert!(run.stdout.ends_with('\n') && run.stdout.lines().count() == 1, "{:?}", run.stdout);
        assert_eq!(run.stdout.matches('|').count(), 1);
    };
    line(1, "WARNING");
    env.sync();
    line(0, "OK");
    fs::remove_file(env.cache(&movie_path("Dune", 2021))).unwrap();
    line(1, "WARNING");
    fs::rename(env.path("cache"), env.path("cache.off")).unwrap();
    line(2, "CRITICAL");
}

/// An escape sequence, CSI as one character, a bell, a newline, and text turned around.
const HOSTILE: &str = "x\u{1b}]0;pwned\u{7}\u{1b}[2J\u{9b}31m\r\n\u{202e}y\u{7f}";

#[test]
fn no_control_character_of_others_reaches_standard_output() {
    let env = TestEnv::new();
    let film = env.movie("Dune", 2021, 1000);
    // A slash would make it another file.
    let media = format!("Movies/{HOSTILE}/{HOSTILE}.mkv");
    env.file(&media, 2000);
    env.file(&format!("Movies/{HOSTILE}/{HOSTILE}.en.srt"), 20);
    let hostile = env.plex.edit(|library| {
        let mapped = Media::file(&format!("/data/media/{media}"), 2000);
        let unmapped = Media::file(&format!("/elsewhere/{HOSTILE}"), 9);
        let key = library.add_movie(env.movies, HOSTILE, 2000, &[mapped, unmapped]);
        library.add_user(HOSTILE, "ben-token");
        key
    });
    env.on_deck("owner", &hostile);
    env.on_deck("owner", &film);
    env.file(&format!("{}.{HOSTILE}.srt", movie_path("Dune", 2021).trim_end_matches(".mkv")), 10);
    let page = env.path("page.html");
    let runs = [
        &["sync", "--dry-run", "-v"][..],
        &["sync", "--dry-run", "--json"],
        &["sync", "-v"],
        &["sync", "--json"],
        &["status"],
        &["status", "--json"],
        &["status", "--nagios"],
        &["status", "--why", &media],
        &["status", "--why", &media, "--json"],
        &["status", "--prometheus", page.to_str().unwrap()],
        &["history"],
        &["history", "1"],
        &["history", "1", "--json"],
        &["history", "--csv"],
        &["history", "--stats"],
        &["evict", "--all", "--dry-run"],
        &["evict", "--all"],
        &["undo", "--yes", "--json"],
    ];
    let is_raw = |letter: char| (letter.is_control() && letter != '\n') || matches!(letter, '\u{202a}'..='\u{202e}');
    for args in runs {
        let run = env.run(args);
        let text = if args.contains(&"--csv") { run.stdout.replace("\r\n", "\n") } else { run.stdout.clone() };
        assert!(matches!(run.status, 0 | 3), "{args:?}: {}", run.stderr);
        assert!(!text.contains(is_raw), "{args:?}: {text:?}");
        assert!(!run.stderr.contains(is_raw), "{args:?}: {:?}", run.stderr);
        if args.contains(&"--json") {
            run.json();
        }
    }
    assert_eq!(env.cached().iter().filter(|name| name.contains("pwned")).count(), 3, "it was cached all the same");
    env.run(&["status", "--html", page.to_str().unwrap()]).expect(0);
    assert!(!fs::read_to_string(page).unwrap().contains(is_raw));
}

#[test]
fn no_secret_is_printed_or_kept() {
    let mut env = world();
    env.settings.push_str("[users.tokens]\nben = \"ben-token\"\n");
    env.plex.edit(|library| library.add_user("ben", "ben-token"));
    let heat = env.movie("Heat", 1995, 1000);
    env.on_deck("ben", &heat);
    let page = env.path("page.html");
    let page = page.to_str().unwrap();
    let check = |args: &[&str]| {
        let mut command = env.command(args);
        let run = Run::of(command.env("PLEXCACHE_LOG", "trace").env("RUST_LOG", "trace"));
        let text = format!("{}{}", run.stdout, run.stderr);
        for token in TOKENS {
            assert!(!text.contains(token), "{args:?}: {text}");
        }
    };
    check(&["sync", "--dry-run", "-vvv"]);
    check(&["sync", "-vvv"]);
    check(&["status", "--live", "--json"]);
    check(&["status", "--html", page, "--prometheus", page]);
    for token in TOKENS {
        let elsewhere = format!("http://127.0.0.1:9/?X-Plex-Token={token}&x={token}");
        for fault in [Fault::Redirect(elsewhere), Fault::Status(401), Fault::LoginPage, Fault::Truncated] {
            env.plex.faults(Faults::clear);
            let matcher = Matcher::path("/library").with("X-Plex-Token", token);
            env.plex.faults(|faults| faults.add(matcher, fault));
            check(&["sync", "-vvv"]);
        }
    }
    env.plex.faults(Faults::clear);
    check(&["sync", "--json"]);
    check(&["evict", "--all", "-vvv"]);
    check(&["undo", "--yes", "--json"]);
    check(&["history", "--csv"]);
    let mut kept = 0;
    for (name, entry) in env.snapshot("").entries {
        if entry.kind == "file" && name != "token" && name != "config.toml" {
            kept += 1;
            let text = String::from_utf8_lossy(&entry.contents);
            assert!(TOKENS.iter().all(|token| !text.contains(token)), "{name}");
        }
    }
    assert!(kept > 8);
}
