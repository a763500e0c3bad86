//! What plexcache costs, beside what others cost for the same work, on the machine that it runs on.
//!
//! `make bench` runs all of it and prints one table. Every figure is measured in that run: the contestants take
//! turns, a ratio is the median of the rounds' ratios. What is not installed is named as missing. As root the files
//! are on loop devices (ext4 to ext4, xfs to btrfs) in a mount namespace of the bench's own, so that nothing stays
//! mounted however it ends; without root they are in plain directories.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]
#![allow(unreachable_pub, reason = "the modules of one program")]
#![allow(clippy::cast_precision_loss, reason = "seconds and mebibytes are far from 2^52")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench lays out its own files and may fail loudly"
)]

#[path = "../tests/util/mod.rs"]
mod util;

mod copying;
mod growth;
mod library;
mod measure;
mod peers;
mod records;
mod table;
mod world;

use std::process::{Command, ExitCode};

use table::Table;

/// How large the work is.
pub struct Scale {
    pub rounds: usize,
    /// Bytes of the one big file.
    pub file: u64,
    /// Bytes of each of the twenty files whose moving must not disturb the page cache.
    pub batch_file: u64,
    /// Films that have twenty sidecars each.
    pub films: usize,
    /// Cached units: a lot, and more than anybody has.
    pub units: [usize; 2],
    /// Records of a long history.
    pub records: usize,
}

impl Scale {
    const FULL: Self = Self {
        rounds: 5,
        file: 4 << 30,
        batch_file: 500 << 20,
        films: 100,
        units: [10_000, 100_000],
        records: 1_000_000,
    };
    const QUICK: Self =
        Self { rounds: 3, file: 256 << 20, batch_file: 25 << 20, films: 20, units: [1000, 5000], records: 50_000 };

    /// `BENCH_SIZE` (such as `2GiB`) and `BENCH_ROUNDS` change it.
    fn chosen(quick: bool) -> Self {
        let mut scale = if quick { Self::QUICK } else { Self::FULL };
        if let Ok(size) = std::env::var("BENCH_SIZE") {
            scale.file = table::bytes(&size).unwrap_or_else(|| panic!("BENCH_SIZE={size}: try 2GiB or 500MiB"));
        }
        if let Ok(rounds) = std::env::var("BENCH_ROUNDS") {
            scale.rounds = rounds.parse().expect("BENCH_ROUNDS is a number");
        }
        scale
    }
}

/// The parts of the bench, by the name that chooses one.
type Part = fn(&mut Table, &Scale);
const PARTS: [(&str, Part); 10] = [
    ("big", copying::big),
    ("roomy", copying::roomy),
    ("paced", copying::paced),
    ("lanes", copying::lanes),
    ("pages", copying::pages),
    ("small", copying::small),
    ("noop", library::noop),
    ("units", library::many_units),
    ("history", library::long_history),
    ("start", library::start),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("account") => return measure::account(&args[1..]),
        Some("devices") => {
            measure::devices(args[1].as_ref(), args[2].as_ref(), args.len() > 3);
            return ExitCode::SUCCESS;
        }
        Some("plan") => return growth::plan(args[1].parse().unwrap()),
        _ => {}
    }
    // `cargo test` must not run it.
    if !args.iter().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "growth") {
        return growth::check();
    }
    if let Some(status) = in_own_namespace(&args) {
        return status;
    }
    world::fail_on_signals();
    let chosen: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let scale = Scale::chosen(args.iter().any(|arg| arg == "--quick"));
    for part in &chosen {
        assert!(
            PARTS.iter().any(|(name, _)| name == part),
            "no part {part}; there are {:?}",
            PARTS.map(|(name, _)| name)
        );
    }
    let mut table = Table::default();
    peers::say_what_is_missing(&mut table);
    for (name, run) in PARTS {
        if chosen.is_empty() || chosen.iter().any(|part| *part == name) {
            run(&mut table, &scale);
        }
    }
    println!("{table}");
    ExitCode::SUCCESS
}

/// Starts this program once more where its mounts are nobody else's and go with it. Root only.
fn in_own_namespace(args: &[String]) -> Option<ExitCode> {
    const INSIDE: &str = "PLEXCACHE_BENCH_INSIDE";
    if !world::is_root() || std::env::var_os(INSIDE).is_some() {
        return None;
    }
    let me = std::env::current_exe().unwrap();
    let status = Command::new("unshare").arg("--mount").arg(me).args(args).env(INSIDE, "1").status();
    Some(if status.expect("unshare(1) of util-linux is needed").success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
