//! The main job, shown: a small library on two directories, a stand-in Plex on loopback, and the real
//! binary run against them. Prints a transcript, leaves nothing behind.
//!
//! `cargo run --release --example demo`
#![allow(clippy::print_stdout, reason = "a demo talks to whoever runs it")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a demo lays out its own files and may fail loudly")]

#[path = "../tests/util/mod.rs"]
mod util;

use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

use util::env::{TestEnv, binary};

/// Bytes of an episode; small enough that the demo ends at once, large enough to see.
const EPISODE: usize = 6 << 20;

fn main() {
    build();
    let started = Instant::now();
    let env = TestEnv::new();
    let root = env.path("").display().to_string();
    let severance: Vec<String> = (1..=6).map(|index| env.episode("Severance", 2, index, EPISODE)).collect();
    let andor: Vec<String> = (1..=3).map(|index| env.episode("Andor", 1, index, EPISODE)).collect();
    let dune = env.movie("Dune Part Two", 2024, 3 * EPISODE);
    env.file("Movies/Dune Part Two (2024)/Dune Part Two (2024).en.srt", 40_000);
    env.movie("Oppenheimer", 2023, 3 * EPISODE);
    env.on_deck("owner", &severance[1]);
    env.on_deck("owner", &dune);
    env.on_deck("owner", &andor[0]);
    let total = fs_extra::dir::get_size(env.path("disk1")).unwrap() >> 20;
    say(&format!("A library of {total} MiB on a slow disk, an empty SSD, and a Plex on which somebody is in"));
    say("Severance S02E02, has started Dune, and has Andor on deck. What would a run do?");
    let originals = env.snapshot("disk1/media");

    run(&env, &root, &["sync", "--dry-run"]);
    say("Nothing has changed. Now in earnest; cron or a systemd timer would do this a few times a day:");
    run(&env, &root, &["sync"]);
    assert_eq!(env.cached().len(), 10, "what is on deck, the next episodes and the subtitles are on the cache");

    say("What is on the SSD, why, and until when; read from the state alone, without waking a disk:");
    run(&env, &root, &["status"]);
    let film = env.cache("Movies/Dune Part Two (2024)/Dune Part Two (2024).mkv");
    run(&env, &root, &["status", "--why", film.to_str().unwrap()]);

    say("Three days later Dune has been watched. It leaves the SSD; Plex's path never changed:");
    env.watch("owner", &dune, Duration::from_secs(3 * 86400));
    run(&env, &root, &["evict"]);
    assert!(!film.exists(), "the film has left the cache");

    say("On second thoughts. An undo is a run like any other, and every file is checked again first:");
    run(&env, &root, &["undo", "--yes"]);
    assert!(film.exists(), "the undo has brought it back");

    say("Everything that was ever done:");
    run(&env, &root, &["history"]);

    let now = env.snapshot("disk1/media").without_markers();
    assert!(now == originals, "every original is byte for byte what it was");
    say("The disk's files are what they were: contents, times, owners and modes compared.");
    println!("The demo took {:.1} s and has removed its files.", started.elapsed().as_secs_f64());
}

/// Makes sure that the binary is there and is of this source; one that was named is taken as it is.
fn build() {
    if std::env::var_os("PLEXCACHE_BINARY").is_some() {
        return;
    }
    let profile: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--bin", "plexcache"]).args(profile).current_dir(env!("CARGO_MANIFEST_DIR"));
    if let Some(target) = binary().parent().and_then(|profile| profile.parent()) {
        cargo.arg("--target-dir").arg(target);
    }
    assert!(cargo.status().unwrap().success(), "building plexcache");
}

fn say(text: &str) {
    println!("# {text}");
}

/// Shows a command and runs it; the throw-away directory is shown as `/demo`.
fn run(env: &TestEnv, root: &str, args: &[&str]) {
    println!("\n$ plexcache {}", args.join(" ").replace(root.trim_end_matches('/'), "/demo"));
    // One pipe for both streams, so that they come in the order in which a terminal would show them.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = env.command(args);
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    print!("{}", text.replace(root.trim_end_matches('/'), "/demo"));
    let status = child.wait().unwrap();
    println!();
    assert!(status.success(), "plexcache {args:?}: {status}");
}
