//! How the planner's work grows, in instructions, which are the same however busy the machine is.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use plexcache::config::Placement;
use plexcache::paths::MediaPath;
use plexcache::plan::{
    Action, Cached, CachedFile, Candidate, CandidateFile, CopyState, EvictWhy, FileState, Input, Kind, Pool, Release,
    plan_sync,
};
use plexcache::select::{Class, FileKey, Rank, Reason, Reasons, Source, Want};
use plexcache::tier::Fingerprint;

use super::peers;

/// What n log n allows is exceeded by no more than this.
const MARGIN: f64 = 1.1;

/// Fails when planning ten times as many units takes more than n log n allows.
pub fn check() -> ExitCode {
    let me = std::env::current_exe().unwrap();
    let count = |units: usize| instructions(Command::new(&me).arg("plan").arg(units.to_string()));
    let (few, many) = (2000_usize, 20_000_usize);
    // The start of the program, which no number of units changes.
    let (Some(start), Some(of_few), Some(of_many)) = (count(0), count(few), count(many)) else {
        eprintln!("valgrind is missing");
        return ExitCode::FAILURE;
    };
    let ratio = (of_many - start) / (of_few - start);
    let n_log_n = |n: usize| n as f64 * (n as f64).ln();
    let limit = n_log_n(many) / n_log_n(few) * MARGIN;
    println!(
        "planning {few} units: {:.1} million instructions; {many}: {:.1} million; {ratio:.2} times, at most {limit:.2}",
        (of_few - start) / 1e6,
        (of_many - start) / 1e6
    );
    if ratio <= limit { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The instructions of a run to its end, by callgrind. `None` without valgrind.
pub fn instructions(command: &Command) -> Option<f64> {
    if !peers::is_there("valgrind") {
        return None;
    }
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(command.get_program()).args(command.get_args());
    valgrind.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = valgrind.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count.trim());
    Some(collected.unwrap_or_else(|| panic!("no count in {said}")).parse().unwrap())
}

/// Plans a `sync` of so many units, once: a third is wanted and cached, a third wanted, a third no longer wanted,
/// and the cache has room for a half of them.
pub fn plan(units: usize) -> ExitCode {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let mut candidates = Vec::new();
    let mut cached = BTreeMap::new();
    for unit in 0..units {
        // Neither in the order of paths nor of ranks.
        let turn = (unit * 7919) % units.max(1);
        let (is_wanted, is_cached) = (turn % 3 != 2, turn % 3 != 1);
        let key = FileKey {
            map: "/media".into(),
            path: MediaPath::parse(&format!("TV/Show {:04}/Show {:04} S01E{unit:06}.mkv", unit / 30, unit / 30))
                .unwrap(),
        };
        if is_cached {
            cached.insert(key.clone(), cached_file(&key, now));
        }
        if is_wanted {
            candidates.push(candidate(key, turn, unit / 30, is_cached));
        }
    }
    let half = (units as u64 / 2) << 30;
    let pools =
        [Pool { cache_roots: ["/cache".into()].into(), total: half * 2, free: half, max_size: half, min_free: 0 }];
    let plan = plan_sync(&Input {
        now,
        candidates: &candidates,
        cached: &cached,
        pools: &pools,
        held_off: &BTreeMap::new(),
        sessions_unknown: false,
        make_room: true,
        evict: true,
        cache: true,
    });
    println!("{} actions, {} skipped, {} kept", plan.actions.len(), plan.skipped.len(), plan.kept_files);
    ExitCode::SUCCESS
}

const PRINT: Fingerprint = Fingerprint { ino: 7, size: 1 << 30, mtime_ns: 1 };

fn reasons() -> Reasons {
    [Reason::of_user(Source::OnDeck, "owner")].into()
}

fn candidate(key: FileKey, turn: usize, show: usize, is_cached: bool) -> Candidate {
    let want = Want {
        parts: vec![key.clone()],
        title: key.path.as_str().into(),
        rating_key: None,
        media_id: None,
        updated_at: None,
        show: Some(format!("Show {show}").into()),
        rank: Rank { class: Class::Next, step: u32::try_from(turn).unwrap(), recency: std::cmp::Reverse(0) },
        reasons: reasons(),
    };
    let state = if is_cached { FileState::Cached } else { FileState::OnArray { array: PRINT, adopt: None } };
    let (placement, size) = (Placement::Copy, PRINT.size);
    let file = CandidateFile { key, size, placement, array_root: "/array".into(), cache_root: "/cache".into(), state };
    Candidate { want: Arc::new(want), files: vec![file], blocked: None }
}

fn cached_file(key: &FileKey, now: Timestamp) -> CachedFile {
    let action = Action {
        kind: Kind::Cache,
        map: key.map.clone(),
        path: key.path.clone(),
        unit: key.path.clone(),
        title: key.path.as_str().into(),
        rating_key: None,
        media_id: None,
        updated_at: None,
        reasons: reasons(),
        evict_why: None,
        placement: Placement::Copy,
        array_root: "/array".into(),
        cache_root: "/cache".into(),
        size: PRINT.size,
        array: Some(PRINT),
        copy: Some(PRINT),
        checksum: None,
        left_out: false,
    };
    CachedFile {
        cached: Arc::new(Cached { action, run: 1, at: now - SignedDuration::from_hours(48) }),
        state: CopyState::Unchanged,
        open: None,
        playing: false,
        release: Some(Release { at: now - SignedDuration::from_hours(1), why: EvictWhy::Watched }),
        held_until: None,
        pinned: false,
        superseded: false,
    }
}
