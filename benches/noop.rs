//! What a `sync` with nothing to do costs: 200 shows of 30 episodes, 300 films, three users with 40
//! items on deck each, against the stand-in Plex on loopback.
//!
//! `cargo bench --bench noop`. Prints medians of whole processes: wall, CPU, peak memory, requests.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "milliseconds and mebibytes are far from 2^52")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench lays out its own files and may fail loudly"
)]

#[path = "../tests/util/mod.rs"]
mod util;

use std::process::{Command, Stdio};
use std::time::Instant;

use util::env::TestEnv;

const ROUNDS: usize = 11;
const USERS: [(&str, &str); 2] = [("anna", "anna-token"), ("ben", "ben-token")];

fn main() {
    let mut env = TestEnv::new();
    env.settings = format!("{}[users.tokens]\nanna = \"anna-token\"\nben = \"ben-token\"\n", env.settings);
    env.plex.edit(|library| {
        for (name, token) in USERS {
            library.add_user(name, token);
        }
    });
    let mut decks: Vec<String> = Vec::new();
    for show in 0..200 {
        for index in 1..=30 {
            let key = env.episode(&format!("Show {show:03}"), (index - 1) / 10 + 1, (index - 1) % 10 + 1, 1000);
            if index == 3 {
                decks.push(key);
            }
        }
    }
    let films: Vec<String> = (0..300).map(|film| env.movie(&format!("Film {film:03}"), 2000, 1000)).collect();
    for (user, name) in ["owner", "anna", "ben"].into_iter().enumerate() {
        for item in 0..30 {
            env.on_deck(name, &decks[user * 40 + item]);
        }
        for item in 0..10 {
            env.on_deck(name, &films[user * 40 + item]);
        }
    }
    let first = Instant::now();
    env.sync();
    let cached = env.cached().len();
    println!("first sync: {cached} files cached in {:.2} s", first.elapsed().as_secs_f64());
    let mut figures = Vec::new();
    for _ in 0..ROUNDS {
        env.plex.clear_requests();
        figures.push((measure(&env), env.plex.requests().len()));
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let of = |pick: fn(&Figures) -> f64| median(figures.iter().map(|(figures, _)| pick(figures)).collect());
    println!("no-op sync, medians of {ROUNDS} runs:");
    println!("  wall       {:7.1} ms", of(|f| f.wall_ms));
    println!("  CPU        {:7.1} ms", of(|f| f.cpu_ms));
    println!("  peak       {:7.1} MiB", of(|f| f.peak_mib));
    println!("  requests   {:7}", figures[0].1);
}

struct Figures {
    wall_ms: f64,
    cpu_ms: f64,
    peak_mib: f64,
}

/// Runs the binary and takes the kernel's own account of the finished child.
#[expect(unsafe_code, reason = "std has no call that reaps a child with its account")]
fn measure(env: &TestEnv) -> Figures {
    let mut command: Command = env.command(&["sync", "--quiet"]);
    let started = Instant::now();
    #[expect(clippy::zombie_processes, reason = "wait4 reaps it")]
    let child = command.stdout(Stdio::null()).spawn().unwrap();
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: both pointers are valid for the call, and the child is waited for only here.
    let reaped = unsafe { libc::wait4(child.id().try_into().unwrap(), &raw mut status, 0, usage.as_mut_ptr()) };
    let wall_ms = started.elapsed().as_secs_f64() * 1000.0;
    assert!(reaped > 0 && status == 0, "status {status}");
    // SAFETY: wait4 has filled it, and zeros are valid too.
    let usage = unsafe { usage.assume_init() };
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1000.0 + time.tv_usec as f64 / 1000.0;
    Figures { wall_ms, cpu_ms: ms(usage.ru_utime) + ms(usage.ru_stime), peak_mib: usage.ru_maxrss as f64 / 1024.0 }
}
