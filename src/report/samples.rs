//! Messages for the tests of the reporters.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{FileStatus, PlanContext, PoolLine, ServerLine, Status, Summary, TierStatus};
use crate::config::Placement;
use crate::exit::Exit;
use crate::history::record::{Count, Ended, Outcome, RunFinished, RunOutcome, RunStarted};
use crate::history::{Run, RunAction};
use crate::paths::MediaPath;
use crate::plan::{Action, Cached, CopyState, EvictWhy, Kind, Plan, Release, Skip, Why};
use crate::select::{Reason, Reasons, Source};

pub(super) const GIB: u64 = 1 << 30;

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn why(source: Source, users: &[&str]) -> Reasons {
    users.iter().map(|user| Reason::of_user(source, *user)).collect()
}

/// A file of `size` on `disk`, titled `title`, alone in its unit.
pub(super) fn action(kind: Kind, title: &str, path: &str, disk: &str, size: u64) -> Action {
    Action {
        kind,
        map: "/data/media".into(),
        path: MediaPath::parse(path).unwrap(),
        unit: MediaPath::parse(path).unwrap(),
        title: title.into(),
        rating_key: Some("4711".into()),
        media_id: None,
        updated_at: None,
        reasons: why(Source::OnDeck, &["anna", "ben"]),
        evict_why: (kind == Kind::Evict).then_some(EvictWhy::Watched),
        placement: Placement::Copy,
        array_root: format!("/mnt/{disk}/media").into(),
        cache_root: "/mnt/cache/media".into(),
        size,
        array: None,
        copy: None,
        checksum: None,
        left_out: false,
    }
}

/// A sidecar of `of`.
pub(super) fn beside(of: &Action, path: &str, size: u64) -> Action {
    Action { path: MediaPath::parse(path).unwrap(), size, ..of.clone() }
}

pub(super) fn skip(title: &str, path: &str, size: u64, why: Why, detail: &str) -> Skip {
    Skip {
        kind: Kind::Cache,
        map: "/data/media".into(),
        path: path.to_owned(),
        unit: path.to_owned(),
        title: title.into(),
        array_path: Some(format!("/mnt/disk1/media/{path}").into()),
        cache_path: None,
        size,
        why,
        detail: detail.to_owned(),
        reasons: Reasons::default(),
    }
}

/// Five episodes in two interleaved seasons of reasons, a film with subtitles, evictions, skips.
pub(super) fn plan() -> Plan {
    use Kind::{Cache, Evict};
    let episode =
        |n: u32| action(Cache, &format!("Severance S02E0{n}"), &format!("tv/Severance/s02e0{n}.mkv"), "disk3", 4 * GIB);
    let film = Action {
        reasons: why(Source::Watchlist, &["anna"]),
        ..action(Cache, "Dune: Part Two (2024)", "movies/Dune/Dune.mkv", "disk1", 20 * GIB)
    };
    let gone = |n: u32| {
        action(Evict, &format!("Foundation S01E0{n}"), &format!("tv/Foundation/s01e0{n}.mkv"), "disk2", 3 * GIB)
    };
    let martian = Action {
        evict_why: Some(EvictWhy::Unwanted),
        reasons: why(Source::Watchlist, &["ben"]),
        ..action(Evict, "The Martian (2015)", "movies/Martian.mkv", "disk4", 8 * GIB)
    };
    let (one, two) =
        (beside(&film, "movies/Dune/Dune.en.srt", 100 << 10), beside(&film, "movies/Dune/Dune.de.srt", 112));
    Plan {
        actions: vec![gone(1), gone(2), martian, episode(4), film, one, two, episode(5), episode(6), episode(8)],
        skipped: vec![
            skip("Oppenheimer (2023)", "movies/Oppenheimer.mkv", 61 * GIB, Why::NoRoom, "short by 16.6 GiB"),
            Skip {
                unit: "movies/Oppenheimer.mkv".to_owned(),
                ..skip("Oppenheimer (2023)", "movies/Oppenheimer.srt", 1 << 20, Why::NoRoom, "short by 16.6 GiB")
            },
            skip("", "C:\\Films\\x.mkv", 0, Why::Unmapped, ""),
        ],
        kept_files: 37,
    }
}

pub(super) fn context(command: &'static str) -> PlanContext {
    PlanContext {
        command,
        server: Some(ServerLine { version: "1.41.3".to_owned(), users: 3, playing: Some(1) }),
        pools: vec![PoolLine {
            cache_root: "/mnt/cache/media".into(),
            total: 931 * GIB,
            free: 400 * GIB,
            owned: 217 * GIB,
            owned_after: 241 * GIB,
            limit: 500 * GIB,
        }],
        undo_of: Vec::new(),
    }
}

pub(super) fn ended(result: Outcome, bytes: u64, error: Option<&str>) -> Ended {
    Ended {
        seq: 1,
        result,
        error: error.map(str::to_owned),
        why: (result == Outcome::Skipped).then_some(Why::Open),
        bytes,
        duration_ms: 23_000,
        array: None,
        copy: None,
        checksum: None,
        unmade: Vec::new(),
        settled_by: None,
    }
}

pub(super) fn finished(outcome: RunOutcome, cached: u64, evicted: u64, failed: u64) -> RunFinished {
    let count = |files: u64| Count { files, bytes: files * 4 * GIB };
    RunFinished {
        outcome,
        cached: count(cached),
        evicted: count(evicted),
        failed: count(failed),
        skipped: count(0),
        not_started: 0,
        error: None,
    }
}

pub(super) fn summary(finished: RunFinished, exit: Exit) -> Summary {
    Summary {
        run: Some(214),
        command: "sync",
        dry_run: false,
        finished,
        failures: Vec::new(),
        elapsed: Duration::from_secs(232),
        not_started: 0,
        exit,
    }
}

pub(super) fn run(number: u64, command: &str, started: &str, finished: Option<(&str, RunFinished)>) -> Run {
    Run {
        run: number,
        started: RunStarted {
            command: command.to_owned(),
            options: vec!["--quiet".to_owned()],
            trigger: "timer".to_owned(),
            host: "tower".to_owned(),
            version: "0.1.0".to_owned(),
            undo_of: Vec::new(),
            hold_seconds: None,
        },
        at: at(started),
        finished: finished.map(|(end, finished)| (at(end), finished)),
        actions: Vec::new(),
        undone_by: None,
    }
}

/// Newest first: partial, cut short by a crash, an undo, an undone eviction.
pub(super) fn runs() -> Vec<Run> {
    let partial = Some(("2026-11-23T17:22:14Z", finished(RunOutcome::Partial, 6, 0, 1)));
    let undo = Some(("2026-11-22T17:20:01Z", finished(RunOutcome::Ok, 0, 3, 0)));
    let evict = Some(("2026-11-02T11:20:01Z", finished(RunOutcome::Ok, 0, 12, 0)));
    let mut runs = vec![
        run(215, "sync", "2026-11-23T17:20:00Z", partial),
        run(214, "sync", "2026-11-23T11:20:00Z", None),
        run(213, "undo", "2026-11-22T17:20:00Z", undo),
        run(212, "evict", "2026-11-02T11:20:00Z", evict),
    ];
    runs[2].started.undo_of = vec![212];
    runs[3].undone_by = Some(213);
    let of_run = |seq, action, ended| RunAction { seq, action, ended };
    let film = action(Kind::Cache, "Dune: Part Two (2024)", "movies/Dune/Dune.mkv", "disk1", 20 * GIB);
    let episode = action(Kind::Evict, "Severance S02E04", "tv/Severance/s02e04.mkv", "disk3", 4 * GIB);
    let part = action(Kind::Cache, "Andor S02E03", "tv/Andor/s02e03.mkv", "disk1", 6 * GIB);
    runs[1].actions = vec![
        of_run(1, episode, Some(ended(Outcome::Done, 0, None))),
        of_run(2, film, Some(ended(Outcome::Failed, 0, Some("reading: Input/output error")))),
        of_run(3, part, None),
    ];
    runs
}

pub(super) fn status() -> Status {
    let cached = |title: &str, path: &str, size: u64, when: &str| FileStatus {
        cached: Arc::new(Cached { action: action(Kind::Cache, title, path, "disk3", size), run: 210, at: at(when) }),
        state: Some(CopyState::Unchanged),
        release: None,
        wanted: true,
        pinned: false,
        held_until: None,
    };
    let film = cached("Dune: Part Two (2024)", "movies/Dune/Dune.mkv", 20 * GIB, "2026-11-23T05:00:00Z");
    let old = cached("Foundation S01E01", "tv/Foundation/s01e01.mkv", 3 * GIB, "2026-11-15T05:00:00Z");
    let release = Release { at: at("2026-11-25T20:00:00Z"), why: EvictWhy::Watched };
    Status {
        now: at("2026-11-23T19:00:00Z"),
        tiers: vec![
            TierStatus {
                map: "/data/media".into(),
                cache_root: "/mnt/cache/media".into(),
                total: Some(931 * GIB),
                free: Some(380 * GIB),
                owned: 241 * GIB,
                limit: Some(500 * GIB),
            },
            TierStatus {
                map: "/data/music".to_owned(),
                cache_root: "/mnt/gone/music".into(),
                total: None,
                free: None,
                owned: 0,
                limit: None,
            },
        ],
        files: vec![
            cached("Severance S02E05", "tv/Severance/s02e05.mkv", 4 * GIB, "2026-11-21T05:00:00Z"),
            FileStatus { wanted: false, release: Some(release), ..old },
            cached("Severance S02E04", "tv/Severance/s02e04.mkv", 4 * GIB, "2026-11-20T05:00:00Z"),
            film,
        ],
        last_run: None,
        health: Vec::new(),
        live: None,
        running: false,
    }
}
