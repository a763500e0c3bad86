//! The command line: every exit status, each reached the way a user would reach it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use crate::util::env::{Run, TestEnv, file_at, movie_path};
use crate::util::fake_plex::{Fault, Matcher};

/// A film on deck, and nothing else.
fn world() -> TestEnv {
    let env = TestEnv::new();
    let film = env.movie("Dune", 2021, 3000);
    env.on_deck("owner", &film);
    env
}

/// The `error` line of a run with `--json`.
#[track_caller]
fn error(run: &Run) -> (String, String) {
    let line = run.json_of("error");
    assert_eq!(line["exit"], run.status, "{line}");
    (line["message"].as_str().unwrap().to_owned(), line["hint"].as_str().unwrap_or_default().to_owned())
}

/// Waits until the stand-in server was asked for something.
fn wait_for_a_request(env: &TestEnv) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while env.plex.requests().is_empty() {
        assert!(std::time::Instant::now() < deadline, "nobody asked");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn done_and_nothing_to_do_are_both_0() {
    let env = world();
    env.run(&["sync"]).expect(0);
    assert_eq!(env.cached(), [movie_path("Dune", 2021)]);
    for args in [&["sync"][..], &["evict"], &["status"], &["history"], &["evict", "no/such/file.mkv"]] {
        env.run(args).expect(0);
    }
    env.run(&["undo", "--yes"]).expect(0);
    let (message, _) = error(&env.run(&["undo", "1", "--yes", "--json"]).expect(1));
    assert!(message.contains("to do it again: plexcache undo"), "how to do it again: {message}");
}

#[test]
fn nothing_to_undo_is_0_and_says_so() {
    let run = world().run(&["undo", "--yes"]).expect(0);
    assert!(run.stderr.to_lowercase().contains("nothing"), "{}", run.stderr);
    assert_eq!(run.stdout, "");
}

#[test]
fn an_error_is_1_and_names_what_was_asked_for() {
    let env = world();
    env.sync();
    let run = env.run(&["history", "99", "--json"]).expect(1);
    let (message, hint) = error(&run);
    assert!(message.contains("99") && hint.contains("plexcache history"), "{message} {hint}");

    let history = env.path("state/history.jsonl");
    let text = fs::read_to_string(&history).unwrap();
    fs::write(&history, text.replacen('{', "[", 1)).unwrap();
    fs::remove_file(env.path("state/index.json")).unwrap();
    let before = env.snapshot("cache/media");
    for command in ["sync", "evict", "undo", "status", "history"] {
        let (message, _) = error(&env.run(&[command, "--json"]).expect(1));
        assert!(message.contains("history.jsonl") && message.contains("byte 0"), "{command}: {message}");
    }
    assert_eq!(env.snapshot("cache/media"), before);
}

#[test]
fn a_wrong_command_line_is_2_and_does_nothing() {
    let env = world();
    for args in [
        &["sink"][..],
        &[],
        &["sync", "--quickly"],
        &["sync", "--quiet", "-v"],
        &["evict", "--all", "--older-than", "30d"],
        &["evict", "--pinned"],
        &["evict", "--older-than", "soon"],
        &["evict", "--free", "lots"],
        &["undo", "1", "--last", "2"],
        &["undo", "--last", "0"],
        &["history", "--since", "when pigs fly"],
        &["history", "--csv", "--json"],
        &["status", "--nagios", "--json"],
        &["sync", "--color", "sometimes"],
    ] {
        let run = env.run(args).expect(2);
        assert_eq!(run.stdout, "", "{args:?}");
        assert!(run.stderr.contains("Usage") || run.stderr.contains("--help"), "{args:?}: {}", run.stderr);
    }
    assert!(!env.path("state").exists());
    assert!(env.plex.requests().is_empty());
}

#[test]
fn an_undo_that_nobody_can_confirm_is_2_and_changes_nothing() {
    let env = world();
    env.sync();
    let before = (env.snapshot("disk1"), env.snapshot("cache"), env.history());
    let run = env.run(&["undo"]).expect(2);
    assert!(run.stderr.contains("--yes"), "{}", run.stderr);
    assert_eq!((env.snapshot("disk1"), env.snapshot("cache"), env.history()), before);
    assert_eq!(env.run(&["status", "--json"]).expect(0).json_of("status")["health"], serde_json::json!([]));
}

#[test]
fn an_occupied_destination_is_3_and_the_rest_is_done() {
    let env = world();
    let other = env.movie("Heat", 1995, 3000);
    env.on_deck("owner", &other);
    let occupied = file_at(env.cache(&movie_path("Heat", 1995)), 2000);
    let before = fs::read(&occupied).unwrap();
    env.run(&["sync"]).expect(3);
    assert_eq!(fs::read(&occupied).unwrap(), before);
    assert!(env.cached().contains(&movie_path("Dune", 2021)));
}

#[test]
fn a_root_without_its_marker_is_4_and_nothing_is_touched() {
    let env = world();
    env.sync();
    for marker in ["cache/media/.plexcache-root", "disk2/media/.plexcache-root"] {
        let contents = fs::read(env.path(marker)).unwrap();
        fs::remove_file(env.path(marker)).unwrap();
        let before = (env.snapshot("disk1"), env.snapshot("cache"));
        for args in [&["sync", "--json"][..], &["sync", "--dry-run", "--json"], &["evict", "--all", "--json"]] {
            let (message, hint) = error(&env.run(args).expect(4));
            let root = marker.trim_end_matches("/.plexcache-root");
            assert!(message.contains(root) && !hint.is_empty(), "{message} {hint}");
        }
        assert_eq!((env.snapshot("disk1"), env.snapshot("cache")), before);
        fs::write(env.path(marker), contents).unwrap();
    }
    env.sync();
}

#[test]
fn exit_code_makes_a_dry_run_10_only_when_there_is_something_to_do() {
    let env = world();
    env.run(&["sync", "--dry-run"]).expect(0);
    env.run(&["sync", "--dry-run", "--exit-code"]).expect(10);
    env.run(&["sync", "--exit-code"]).expect(0);
    env.run(&["sync", "--dry-run", "--exit-code"]).expect(0);
    env.run(&["evict", "--all", "--dry-run", "--exit-code"]).expect(10);
    env.run(&["undo", "--dry-run", "--exit-code"]).expect(10);
}

#[test]
fn a_server_that_is_not_there_is_69() {
    let env = world();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = Run::of(env.command(&["sync", "--json"]).env("PLEXCACHE_PLEX__URL", format!("http://{free}")));
    let (message, hint) = error(&run.expect(69));
    assert!(message.contains(&free.to_string()) && hint.contains("plex.url"), "{message} {hint}");
}

#[test]
fn a_server_in_maintenance_is_69() {
    let env = world();
    env.sync();
    env.plex.faults(|faults| faults.add(Matcher::any(), Fault::Maintenance));
    let before = env.snapshot("cache");
    let run = env.run(&["sync", "--json"]).expect(69);
    assert!(error(&run).0.contains("database migrations"), "{}", run.stdout);
    assert_eq!(env.snapshot("cache"), before);
    // What does not need Plex goes on.
    env.run(&["evict", "--all"]).expect(0);
    assert!(env.cached().is_empty());
}

#[test]
fn a_server_that_hangs_is_69_after_plex_timeout() {
    let env = world();
    env.plex.faults(|faults| faults.add(Matcher::path("/identity"), Fault::Hang));
    let run = Run::of(env.command(&["sync", "--json"]).env("PLEXCACHE_PLEX__TIMEOUT", "1s"));
    let (message, hint) = error(&run.expect(69));
    assert!(message.contains("within 1 s") && hint.contains("plex.timeout"), "{message} {hint}");
}

#[test]
fn a_second_run_is_75_and_what_only_looks_is_let_in() {
    let env = world();
    let for_ever = Duration::from_secs(3600);
    env.plex.faults(|faults| faults.add(Matcher::path("/identity").times(1), Fault::Delay(for_ever)));
    let mut first = env.spawn(&["sync"]);
    wait_for_a_request(&env);
    for command in [&["sync", "--json"][..], &["evict", "--all", "--json"]] {
        let (message, hint) = error(&env.run(command).expect(75));
        assert!(message.contains("state/lock") && hint.contains("--wait"), "{message} {hint}");
    }
    let quiet = env.run(&["sync", "--quiet"]).expect(75);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.lines().count()), ("", 2), "{}", quiet.stderr);
    for args in [&["status"][..], &["history"], &["sync", "--dry-run"]] {
        env.run(args).expect(0);
    }
    // The lock goes with its holder, however that ends.
    first.kill().unwrap();
    first.wait().unwrap();
    env.run(&["sync"]).expect(0);
    assert_eq!(env.cached().len(), 1);
}

#[test]
fn with_wait_a_run_waits_for_the_other_one_and_succeeds() {
    let env = world();
    env.run(&["evict"]).expect(0);
    let lock = fs::File::open(env.path("state/lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    env.plex.clear_requests();
    let mut waiting = env.spawn(&["sync", "--wait=60s"]);
    env.run(&["sync", "--wait=1s"]).expect(75);
    assert!(waiting.try_wait().unwrap().is_none() && env.plex.requests().is_empty());
    drop(lock);
    Run::from(waiting.wait_with_output().unwrap()).expect(0);
    assert_eq!(env.cached().len(), 1);
    env.run(&["sync", "--wait"]).expect(0);
}

#[test]
fn a_rejected_token_of_the_owner_is_77() {
    let env = world();
    env.sync();
    env.plex.edit(|library| {
        library.set_token("owner", "another-token");
        library.clear_on_deck("owner");
    });
    let before = env.snapshot("cache");
    for args in [&["sync", "--json"][..], &["sync", "--dry-run", "--json"], &["evict", "--json"]] {
        let (message, hint) = error(&env.run(args).expect(77));
        assert!(message.contains("token") && !hint.is_empty(), "{message} {hint}");
    }
    assert_eq!(env.snapshot("cache"), before);
}

/// Root may read everything, so there the binary is run as somebody else.
#[test]
fn a_state_directory_that_may_not_be_read_is_77() {
    let env = world();
    env.sync();
    let is_root = rustix::process::geteuid().is_root();
    fs::set_permissions(env.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let run = |args: &[&str]| {
        let mut command = env.command(args);
        fs::set_permissions(env.path("config.toml"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(env.path("state"), fs::Permissions::from_mode(0o000)).unwrap();
        if is_root {
            command.uid(65534).gid(65534);
        }
        let output = command.output();
        fs::set_permissions(env.path("state"), fs::Permissions::from_mode(0o700)).unwrap();
        output.map(Run::from)
    };
    for command in ["sync", "status", "history", "evict"] {
        match run(&[command, "--json"]) {
            Ok(run) => {
                let (message, hint) = error(&run.expect(77));
                assert!(message.contains("/state") && !hint.is_empty(), "{message} {hint}");
            }
            // The build directory is not everybody's.
            Err(failure) if is_root => return eprintln!("skipped: {failure}"),
            Err(failure) => panic!("{failure}"),
        }
    }
}

#[test]
fn a_configuration_that_may_not_be_read_is_77_and_one_that_is_missing_is_78() {
    let env = world();
    let mut command = env.command(&["status", "--json"]);
    fs::remove_file(env.path("config.toml")).unwrap();
    let (message, hint) = error(&Run::of(&mut command).expect(78));
    assert!(message.contains("config.toml") && hint.contains("examples/config.toml"), "{message} {hint}");
    // Root may read it whatever its mode.
    if !rustix::process::geteuid().is_root() {
        let mut command = env.command(&["status", "--json"]);
        fs::set_permissions(env.path("config.toml"), fs::Permissions::from_mode(0o000)).unwrap();
        Run::of(&mut command).expect(77);
    }
}

#[test]
fn help_and_version_are_0_and_go_to_standard_output() {
    let env = world();
    for args in [&["--help"][..], &["--version"], &["sync", "--help"], &["help", "undo"]] {
        let run = env.run(args).expect(0);
        assert!(run.stdout.contains("plexcache") && run.stderr.is_empty(), "{args:?}");
    }
}
