//! `--dry-run`: changes nothing, down to the system call, and shows exactly what the real run will do.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::util::env::{Run, TestEnv, binary, set_mtime};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];

/// Calls that change a file system whatever their arguments.
const CHANGING: &str = "rename renameat renameat2 unlink unlinkat rmdir mkdir mkdirat mknod mknodat link linkat symlink \
    symlinkat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat setxattr \
    lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr truncate ftruncate fallocate creat sendfile \
    copy_file_range splice pwrite64 pwritev pwritev2 mount umount2 fsync fdatasync sync syncfs";

/// Flags of an open that creates, empties or may write.
const WRITING: [&str; 6] = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"];

/// A show and two films wanted by the owner, one of them with a subtitle.
fn world(placement: &str) -> TestEnv {
    let mut env = TestEnv::with_placement(placement);
    env.settings.push_str("[evict]\nunwanted_after = \"0\"\n");
    let episodes: Vec<_> = (1..=3).map(|index| env.episode("Severance", 1, index, 2000)).collect();
    env.on_deck("owner", &episodes[0]);
    for (title, year) in [("Dune", 2021), ("Heat", 1995)] {
        let film = env.movie(title, year, 3000);
        env.on_deck("owner", &film);
    }
    env.file("Movies/Dune (2021)/Dune (2021).de.forced.srt", 100);
    env
}

/// The plan of a run, without what says that it was a dry one.
#[track_caller]
fn plan(run: &Run) -> (Value, Value) {
    let plan = run.json_of("plan");
    (plan["actions"].clone(), plan["skipped"].clone())
}

/// The first `name(` of a line of strace, after the process id.
fn call(line: &str) -> Option<&str> {
    let line = line.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ' ');
    line.split_once('(').map(|(name, _)| name)
}

/// Whether this call changes a file system. A write counts when it is to neither a standard stream, nor a
/// pipe, nor a socket: strace names the file of every descriptor (`-yy`).
fn changes(line: &str) -> bool {
    let Some(name) = call(line) else { return false };
    if CHANGING.split_whitespace().any(|changing| changing == name) {
        return true;
    }
    match name {
        "open" | "openat" | "openat2" => WRITING.iter().any(|flag| line.contains(flag)),
        "write" | "writev" => {
            let file = line.split_once('<').map_or("", |(_, file)| file);
            !["pipe:", "TCP", "UNIX", "socket:", "/dev/null", "anon_inode:"].iter().any(|kind| file.starts_with(kind))
        }
        _ => false,
    }
}

/// Runs the binary under strace; the calls that changed something. `None` where there is no strace.
fn traced(env: &TestEnv, args: &[&str]) -> Option<(Run, Vec<String>)> {
    let inner = env.command(args);
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-yy", "-e", "trace=all", "-o"]).arg(log.path());
    command.arg(binary()).args(inner.get_args()).stdin(std::process::Stdio::null()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // What is tested is the program, not the debugger's rights: no strace, or one that may not trace.
    let run = match command.output() {
        Ok(output) => Run::from(output),
        Err(_) => return None,
    };
    let text = fs::read_to_string(log.path()).unwrap();
    if !text.contains("execve(") {
        return None;
    }
    assert!(text.contains("openat(") && text.contains("connect(") || !args.contains(&"sync"), "{text}");
    Some((run, text.lines().filter(|line| changes(line)).map(str::to_owned).collect()))
}

#[test]
fn a_first_dry_run_makes_no_call_that_changes_a_file_system() {
    let env = world("symlink");
    let Some((run, calls)) = traced(&env, &["sync", "--dry-run"]) else {
        return eprintln!("skipped: there is no strace that works here");
    };
    run.expect(0);
    assert_eq!(calls, Vec::<String>::new());
    // The trace does see what a real run does.
    let (run, calls) = traced(&env, &["sync"]).unwrap();
    run.expect(0);
    for name in ["mkdir", "rename", "fsync", "openat", "write"] {
        assert!(calls.iter().any(|line| call(line).is_some_and(|call| call.starts_with(name))), "no {name}");
    }
}

#[test]
fn no_dry_run_and_nothing_that_only_looks_makes_such_a_call() {
    let env = world("hide");
    env.sync();
    env.plex.edit(|library| library.clear_on_deck("owner"));
    for args in [
        &["sync", "--dry-run", "--json"][..],
        &["evict", "--dry-run"],
        &["evict", "--all", "--dry-run"],
        &["undo", "--dry-run"],
        &["status", "--live"],
        &["history", "1"],
    ] {
        let Some((run, calls)) = traced(&env, args) else {
            return eprintln!("skipped: there is no strace that works here");
        };
        run.expect(0);
        assert_eq!(calls, Vec::<String>::new(), "{args:?}");
    }
}

#[test]
fn a_check_makes_no_such_call() {
    let env = world("copy");
    let Some((run, calls)) = traced(&env, &["check"]) else {
        return eprintln!("skipped: there is no strace that works here");
    };
    assert!(run.stdout.contains("pass  item"), "{run:?}");
    assert_eq!(calls, Vec::<String>::new());
    let (_, calls) = traced(&env, &["check", "--probe"]).unwrap();
    assert!(calls.iter().any(|line| line.contains(".plexcache-probe")), "the trace sees a probe");
}

#[test]
fn a_dry_run_leaves_neither_state_nor_marker() {
    for placement in PLACEMENTS {
        let env = world(placement);
        // Writes the configuration.
        drop(env.command(&["sync"]));
        let before = env.snapshot("");
        for args in [&["sync", "-n"][..], &["evict", "-n"], &["evict", "--all", "-n"], &["undo", "-n"], &["status"]] {
            env.run(args).expect(0);
            assert_eq!(env.snapshot(""), before, "{placement} {args:?}");
        }
        assert!(!env.path("state").exists());
    }
}

#[test]
fn a_dry_run_changes_nothing_once_there_is_something() {
    for placement in PLACEMENTS {
        let env = world(placement);
        env.sync();
        env.plex.edit(|library| library.clear_on_deck("owner"));
        let film = env.movie("Blade Runner", 1982, 1000);
        env.on_deck("owner", &film);
        let before = env.snapshot("");
        for args in [&["sync", "-n"][..], &["evict", "-n"], &["evict", "--all", "-n"], &["undo", "-n"]] {
            let run = env.run(args).expect(0);
            assert_eq!(env.snapshot(""), before, "{placement} {args:?}");
            assert!(!run.stdout.contains("Nothing to do"), "{placement} {args:?}: {}", run.stdout);
        }
    }
}

/// Runs the command dry and then for real; both say the same, and the real one does what was said.
#[track_caller]
fn same(env: &TestEnv, args: &[&str], status: i32, actions: usize) {
    let dry = env.run(&[args, &["--dry-run", "--json"]].concat()).expect(status);
    let real = env.run(&[args, &["--json"]].concat()).expect(status);
    assert_eq!(plan(&dry), plan(&real), "{args:?}");
    assert_eq!(plan(&dry).0.as_array().unwrap().len(), actions, "{args:?}: {}", dry.stdout);
    assert_eq!((&dry.json_of("plan")["dry_run"], &real.json_of("plan")["dry_run"]), (&true.into(), &false.into()));
    let count = |run: &Run| {
        let summary = run.json_of("summary");
        ["cached", "evicted", "failed", "skipped", "outcome"].map(|name| summary[name].clone())
    };
    assert_eq!(count(&dry), count(&real), "{args:?}");
    assert_eq!(dry.json_of("summary")["run"], Value::Null);
    let done = real.json().into_iter().filter(|line| line["type"] == "action").map(|mut line| {
        assert_eq!(line["result"], "done", "{line}");
        let fields = line.as_object_mut().unwrap();
        for name in ["type", "schema", "result", "why", "error", "note", "bytes", "duration_ms"] {
            fields.remove(name);
        }
        line
    });
    assert_eq!(Value::Array(done.collect()), plan(&dry).0, "{args:?}");
}

/// A test for each placement, so that they run side by side.
macro_rules! in_every_placement {
    ($($check:ident)*) => { $(
        mod $check {
            #[test]
            fn copy() {
                super::$check("copy");
            }

            #[test]
            fn hide() {
                super::$check("hide");
            }

            #[test]
            fn r#move() {
                super::$check("move");
            }

            #[test]
            fn symlink() {
                super::$check("symlink");
            }
        }
    )* };
}

in_every_placement! {
    the_plan_of_a_dry_sync_is_that_of_the_real_one
    the_plan_of_a_dry_evict_is_that_of_the_real_one
    the_plan_of_a_dry_undo_is_that_of_the_real_one
}

fn the_plan_of_a_dry_sync_is_that_of_the_real_one(placement: &str) {
    let env = world(placement);
    same(&env, &["sync"], 0, 6);
    same(&env, &["sync"], 0, 0);
    // Some leave, some come, and one that should come is in the way.
    env.plex.edit(|library| {
        library.clear_on_deck("owner");
        library.set_on_deck("owner", "102", None, 0);
    });
    let blade = env.movie("Blade Runner", 1982, 1000);
    let alien = env.movie("Alien", 1979, 1000);
    env.on_deck("owner", &blade);
    env.on_deck("owner", &alien);
    let occupied = env.cache("Movies/Alien (1979)/Alien (1979).mkv");
    fs::create_dir_all(occupied.parent().unwrap()).unwrap();
    fs::write(&occupied, "another").unwrap();
    let run = env.run(&["sync", "--dry-run", "--json"]).expect(3);
    let actions = plan(&run).0.as_array().unwrap().len();
    assert!(actions >= 4, "{placement}: {}", run.stdout);
    same(&env, &["sync"], 3, actions);
}

#[test]
fn the_plan_of_a_limited_sync_is_that_of_the_real_one() {
    let mut env = world("copy");
    env.settings = env.settings.replace("[limits]\n", "[limits]\nmax_size = 10000\n");
    same(&env, &["sync"], 0, 2);
    let run = env.run(&["sync", "--dry-run", "--json"]).expect(0);
    assert!(!plan(&run).1.as_array().unwrap().is_empty(), "{}", run.stdout);
}

fn the_plan_of_a_dry_evict_is_that_of_the_real_one(placement: &str) {
    let env = world(placement);
    env.sync();
    same(&env, &["evict", "Movies/Dune (2021)"], 0, 2);
    same(&env, &["evict", "--free", "1"], 0, 1);
    same(&env, &["evict", "--older-than", "1d"], 0, 0);
    same(&env, &["evict", "--all"], 0, 3);
    assert!(env.cached().is_empty());
}

fn the_plan_of_a_dry_undo_is_that_of_the_real_one(placement: &str) {
    let env = world(placement);
    env.sync();
    env.run(&["evict", "--all"]).expect(0);
    // Taken back: the eviction; then that, but for one file that was edited since.
    same(&env, &["undo", "--yes"], 0, 6);
    let copy = env.cache("Movies/Heat (1995)/Heat (1995).mkv");
    fs::write(&copy, "edited in place").unwrap();
    set_mtime(&copy, 1_700_000_000, 0);
    same(&env, &["undo", "--yes", "3"], 3, 5);
}
