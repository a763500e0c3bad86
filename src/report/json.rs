//! JSON lines, for scripts.
//!
//! A promise to every later release: each line has `"schema":1` and a `"type"`; fields are added, never
//! renamed, and a field that has no value is `null`, not absent (except the `user` of a reason). `path`
//! has no leading slash, times are RFC 3339 in UTC, sizes are bytes. The lines are made from views of
//! their own, so that the program's structures may change without the promise. Errors are lines too.

use std::fmt::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use serde::Serialize;

use super::sink::Sink;
use super::{FileStatus, Finding, Message, Reporter, ServerLine, Stats, Status, Summary, TierStatus};
use crate::config::Placement;
use crate::history::record::{Count, Ended, Outcome, RunFinished};
use crate::history::{LastRun, Run, RunAction};
use crate::plan::{Action, CopyState, EvictWhy, Kind, Plan, Skip, Why};
use crate::select::Reasons;
use crate::transfer::Settled;

/// The version of the lines.
const SCHEMA: u32 = 1;

/// The reporter for scripts.
pub struct Json {
    out: Sink,
    /// What was said before the first line of the result, which a script expects to come first.
    held: Option<String>,
}

impl Json {
    /// Prints to standard output.
    pub fn new() -> Self {
        Self { out: Sink::stdout(), held: Some(String::new()) }
    }

    /// A line of the result; after the first one comes what was held back.
    fn line(&mut self, line: impl Serialize) {
        self.out.write(&text_of(line));
        if let Some(held) = self.held.take() {
            self.out.write(&held);
        }
    }

    /// A line beside the result.
    fn aside(&mut self, line: impl Serialize) {
        match &mut self.held {
            Some(held) => held.push_str(&text_of(line)),
            None => self.out.write(&text_of(line)),
        }
    }
}

fn text_of(line: impl Serialize) -> String {
    let text = serde_json::to_string(&Line { schema: SCHEMA, line }).expect("views have only text keys");
    harmless(&text) + "\n"
}

impl Drop for Json {
    /// A command without a result, such as an undo of nothing, has said what it had to say.
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.out.write(&held);
        }
    }
}

/// JSON leaves raw what can steer a terminal or turn the direction of its text: DEL, the C1 controls
/// (U+009B is an escape sequence's beginning in one character) and the bidirectional marks. They only
/// occur within strings, where an escape says the same.
fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text
}

impl Default for Json {
    fn default() -> Self {
        Self::new()
    }
}

impl Reporter for Json {
    fn message(&mut self, message: &Message<'_>) {
        match message {
            Message::Plan { plan, dry_run, context: _ } => self.line(View::plan(plan, *dry_run)),
            // Neither CSV nor Nagios' line is asked for together with JSON; the command line says so. The
            // lines of the findings count themselves.
            Message::Started { .. }
            | Message::Progress { .. }
            | Message::Csv(_)
            | Message::Nagios(_)
            | Message::Checked(_) => {}
            Message::Checks { about, findings } => {
                for Finding { name, verdict, detail, advice } in *findings {
                    let (result, advice) = (verdict.word(), advice.as_deref());
                    self.line(View::Check { name, about, result, detail, advice });
                }
            }
            Message::Ended { action, ended } => self.line(View::ended(action, Some(ended))),
            Message::Settled(settled) => self.aside(View::settled(settled)),
            Message::Warning { text, hint } => self.aside(View::Warning { message: text, hint: *hint }),
            Message::Note(text) => self.aside(View::Note { message: text }),
            Message::Summary(summary) => self.line(View::summary(summary)),
            Message::Status(status) => self.line(View::status(status)),
            Message::Why(why) => {
                self.line(View::Why {
                    asked: &why.asked,
                    file: why.file.as_ref().map(FileView::of),
                    lines: &why.lines,
                });
            }
            Message::Runs(runs) => runs.iter().for_each(|run| self.line(View::run(run))),
            Message::Run(run) => {
                self.line(View::run(run));
                for RunAction { action, ended, .. } in &run.actions {
                    self.line(View::ended(action, ended.as_ref()));
                }
            }
            Message::Stats(stats) => self.line(View::stats(stats)),
            Message::Configuration { file, text } => self.line(View::Configuration { file, text }),
            Message::Error { message, hint, exit } => {
                self.line(View::Error { message, hint: *hint, exit: exit.code() });
            }
        }
    }
}

#[derive(Serialize)]
struct Line<T> {
    schema: u32,
    #[serde(flatten)]
    line: T,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum View<'a> {
    Plan {
        dry_run: bool,
        actions: Vec<ActionView<'a>>,
        skipped: Vec<SkipView<'a>>,
    },
    Action {
        #[serde(flatten)]
        action: ActionView<'a>,
        #[serde(flatten)]
        ended: EndedView<'a>,
    },
    Settled {
        run: u64,
        #[serde(flatten)]
        action: ActionView<'a>,
        #[serde(flatten)]
        ended: EndedView<'a>,
    },
    Summary {
        run: Option<u64>,
        outcome: &'static str,
        cached: Count,
        evicted: Count,
        failed: Count,
        skipped: Count,
    },
    Run {
        run: u64,
        command: &'a str,
        trigger: &'a str,
        started: Timestamp,
        finished: Option<Timestamp>,
        outcome: &'static str,
        undo_of: &'a [u64],
        undone_by: Option<u64>,
        cached: Count,
        evicted: Count,
        failed: Count,
        skipped: Count,
    },
    Status {
        tiers: Vec<TierView<'a>>,
        files: Vec<FileView<'a>>,
        last_run: Option<LastRunView<'a>>,
        health: &'a [String],
        live: Option<LiveView<'a>>,
    },
    Why {
        asked: &'a str,
        file: Option<FileView<'a>>,
        lines: &'a [String],
    },
    Stats {
        runs: u64,
        outcomes: Vec<OutcomeView<'a>>,
        cached: Count,
        evicted: Count,
        failed: Count,
        first: Option<Timestamp>,
        last: Option<Timestamp>,
        copied_bytes: u64,
        copy_ms: u64,
    },
    Check {
        name: &'a str,
        about: &'a str,
        result: &'a str,
        detail: &'a str,
        advice: Option<&'a str>,
    },
    Warning {
        message: &'a str,
        hint: Option<&'a str>,
    },
    Note {
        message: &'a str,
    },
    Configuration {
        file: &'a Utf8Path,
        text: &'a str,
    },
    Error {
        message: &'a str,
        hint: Option<&'a str>,
        exit: u8,
    },
}

#[derive(Serialize)]
struct ActionView<'a> {
    kind: Kind,
    unit: &'a str,
    map: &'a str,
    path: &'a str,
    array_path: Utf8PathBuf,
    cache_path: Utf8PathBuf,
    size: u64,
    title: &'a str,
    reasons: &'a Reasons,
    evict_why: Option<EvictWhy>,
    placement: Placement,
    rating_key: Option<&'a str>,
}

/// All `null` for what a crash cut short and nothing has settled yet.
#[derive(Serialize)]
struct EndedView<'a> {
    result: Option<Outcome>,
    why: Option<Why>,
    error: Option<&'a str>,
    /// What is worth knowing of an action that is done.
    note: Option<&'a str>,
    bytes: Option<u64>,
    duration_ms: Option<u64>,
}

#[derive(Serialize)]
struct SkipView<'a> {
    kind: Kind,
    unit: &'a str,
    map: &'a str,
    path: &'a str,
    array_path: Option<&'a Utf8Path>,
    cache_path: Option<&'a Utf8Path>,
    size: u64,
    title: &'a str,
    reasons: &'a Reasons,
    why: Why,
    detail: &'a str,
}

#[derive(Serialize)]
struct TierView<'a> {
    map: &'a str,
    cache_root: &'a Utf8Path,
    total: Option<u64>,
    free: Option<u64>,
    owned: u64,
    limit: Option<u64>,
}

#[derive(Serialize)]
struct FileView<'a> {
    unit: &'a str,
    map: &'a str,
    path: &'a str,
    array_path: Utf8PathBuf,
    cache_path: Utf8PathBuf,
    size: u64,
    title: &'a str,
    cached_at: Timestamp,
    run: u64,
    reasons: &'a Reasons,
    state: Option<&'static str>,
    wanted: bool,
    pinned: bool,
    held_until: Option<Timestamp>,
    evict_after: Option<Timestamp>,
    evict_why: Option<EvictWhy>,
}

#[derive(Serialize)]
struct LastRunView<'a> {
    run: u64,
    command: &'a str,
    started: Timestamp,
    finished: Option<Timestamp>,
    outcome: &'static str,
    /// `null` for a run that was cut short: what it did is in its actions.
    cached: Option<Count>,
    evicted: Option<Count>,
    failed: Option<Count>,
    skipped: Option<Count>,
}

#[derive(Serialize)]
struct LiveView<'a> {
    version: &'a str,
    users: usize,
    playing: Option<usize>,
}

#[derive(Serialize)]
struct OutcomeView<'a> {
    outcome: &'a str,
    runs: u64,
}

impl<'a> View<'a> {
    fn plan(plan: &'a Plan, dry_run: bool) -> Self {
        let actions = plan.actions.iter().map(ActionView::of).collect();
        Self::Plan { dry_run, actions, skipped: plan.skipped.iter().map(SkipView::of).collect() }
    }

    fn ended(action: &'a Action, ended: Option<&'a Ended>) -> Self {
        Self::Action { action: ActionView::of(action), ended: EndedView::of(ended) }
    }

    fn settled(settled: &'a Settled) -> Self {
        let Settled { run, action, ended } = settled;
        Self::Settled { run: *run, action: ActionView::of(action), ended: EndedView::of(ended.as_ref().ok()) }
    }

    fn summary(summary: &Summary) -> Self {
        let RunFinished { outcome, cached, evicted, failed, skipped, not_started: _, error: _ } = summary.finished;
        Self::Summary { run: summary.run, outcome: outcome.word(), cached, evicted, failed, skipped }
    }

    fn run(run: &'a Run) -> Self {
        let RunFinished { outcome, cached, evicted, failed, skipped, not_started: _, error: _ } = run.summary();
        Self::Run {
            run: run.run,
            command: &run.started.command,
            trigger: &run.started.trigger,
            started: run.at,
            finished: run.finished.as_ref().map(|(end, _)| *end),
            outcome: outcome.word(),
            undo_of: &run.started.undo_of,
            undone_by: run.undone_by,
            cached,
            evicted,
            failed,
            skipped,
        }
    }

    fn status(status: &'a Status) -> Self {
        Self::Status {
            tiers: status.tiers.iter().map(TierView::of).collect(),
            files: status.files.iter().map(FileView::of).collect(),
            last_run: status.last_run.as_ref().map(LastRunView::of),
            health: &status.health,
            live: status.live.as_ref().map(|ServerLine { version, users, playing }| LiveView {
                version,
                users: *users,
                playing: *playing,
            }),
        }
    }

    fn stats(stats: &'a Stats) -> Self {
        Self::Stats {
            runs: stats.runs,
            outcomes: stats.outcomes.iter().map(|(outcome, runs)| OutcomeView { outcome, runs: *runs }).collect(),
            cached: stats.cached,
            evicted: stats.evicted,
            failed: stats.failed,
            first: stats.first,
            last: stats.last,
            copied_bytes: stats.copied_bytes,
            copy_ms: stats.copy_ms,
        }
    }
}

impl<'a> ActionView<'a> {
    fn of(action: &'a Action) -> Self {
        Self {
            kind: action.kind,
            unit: action.unit.as_str(),
            map: &action.map,
            path: action.path.as_str(),
            array_path: action.array_path(),
            cache_path: action.cache_path(),
            size: action.size,
            title: &action.title,
            reasons: &action.reasons,
            evict_why: action.evict_why,
            placement: action.placement,
            rating_key: action.rating_key.as_deref(),
        }
    }
}

impl<'a> EndedView<'a> {
    fn of(ended: Option<&'a Ended>) -> Self {
        let is_done = ended.is_some_and(|ended| ended.result == Outcome::Done);
        let text = ended.and_then(|ended| ended.error.as_deref());
        Self {
            result: ended.map(|ended| ended.result),
            why: ended.and_then(|ended| ended.why),
            error: text.filter(|_| !is_done),
            note: text.filter(|_| is_done),
            bytes: ended.map(|ended| ended.bytes),
            duration_ms: ended.map(|ended| ended.duration_ms),
        }
    }
}

impl<'a> SkipView<'a> {
    fn of(skip: &'a Skip) -> Self {
        Self {
            kind: skip.kind,
            // A skipped path may be an unmapped one, which Plex says with its leading slash.
            unit: skip.unit.trim_start_matches('/'),
            map: &skip.map,
            path: skip.path.trim_start_matches('/'),
            array_path: skip.array_path.as_deref(),
            cache_path: skip.cache_path.as_deref(),
            size: skip.size,
            title: &skip.title,
            reasons: &skip.reasons,
            why: skip.why,
            detail: &skip.detail,
        }
    }
}

impl<'a> TierView<'a> {
    fn of(tier: &'a TierStatus) -> Self {
        let TierStatus { map, cache_root, total, free, owned, limit } = tier;
        Self { map, cache_root, total: *total, free: *free, owned: *owned, limit: *limit }
    }
}

impl<'a> FileView<'a> {
    fn of(file: &'a FileStatus) -> Self {
        let action = &file.cached.action;
        Self {
            unit: action.unit.as_str(),
            map: &action.map,
            path: action.path.as_str(),
            array_path: action.array_path(),
            cache_path: action.cache_path(),
            size: action.size,
            title: &action.title,
            cached_at: file.cached.at,
            run: file.cached.run,
            reasons: &action.reasons,
            state: file.state.map(|state| match state {
                CopyState::Unchanged => "unchanged",
                CopyState::Changed => "changed",
                CopyState::Gone => "gone",
            }),
            wanted: file.wanted,
            pinned: file.pinned,
            held_until: file.held_until,
            evict_after: file.release.map(|release| release.at),
            evict_why: file.release.map(|release| release.why),
        }
    }
}

impl<'a> LastRunView<'a> {
    fn of(last: &'a LastRun) -> Self {
        let run = last.finished.as_ref().map(|(_, run)| run);
        Self {
            run: last.run,
            command: &last.command,
            started: last.started,
            finished: last.finished.as_ref().map(|(end, _)| *end),
            outcome: run.map_or("stopped", |run| run.outcome.word()),
            cached: run.map(|run| run.cached),
            evicted: run.map(|run| run.evicted),
            failed: run.map(|run| run.failed),
            skipped: run.map(|run| run.skipped),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;
    use crate::exit::Exit;
    use crate::history::record::RunOutcome;
    use crate::report::samples::{self, GIB};

    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(message: &Message<'_>) -> Vec<Value> {
        lines_of(&[message])
    }

    fn lines_of(messages: &[&Message<'_>]) -> Vec<Value> {
        let written = Arc::default();
        let out = Sink::new(Box::new(Written(Arc::clone(&written))), "a test");
        let mut json = Json { out, held: Some(String::new()) };
        for message in messages {
            json.message(message);
        }
        drop(json);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn the_result_comes_first_and_what_was_said_before_it_follows() {
        let plan = Plan::default();
        let context = crate::report::PlanContext::default();
        let plan = Message::Plan { plan: &plan, dry_run: true, context: &context };
        let messages = [&Message::Note("one"), &plan, &Message::Warning { text: "two", hint: None }];
        let types: Vec<Value> = lines_of(&messages).into_iter().map(|mut line| line["type"].take()).collect();
        assert_eq!(types, ["plan", "note", "warning"]);
    }

    fn line(message: &Message<'_>) -> Value {
        let mut lines = lines(message);
        assert_eq!(lines.len(), 1);
        lines.remove(0)
    }

    fn fields(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    const ACTION: &[&str] = &[
        "array_path",
        "cache_path",
        "evict_why",
        "kind",
        "map",
        "path",
        "placement",
        "rating_key",
        "reasons",
        "size",
        "title",
        "unit",
    ];

    #[test]
    fn a_plan_has_an_action_for_every_file_and_every_skip() {
        let plan = samples::plan();
        let line = line(&Message::Plan { plan: &plan, dry_run: true, context: &samples::context("sync") });
        assert_eq!(fields(&line), ["actions", "dry_run", "schema", "skipped", "type"]);
        assert_eq!((&line["schema"], &line["type"], &line["dry_run"]), (&json!(1), &json!("plan"), &json!(true)));
        let actions = line["actions"].as_array().unwrap();
        assert_eq!(actions.len(), plan.actions.len());
        assert!(actions.iter().all(|action| fields(action) == ACTION));
        let expected = json!({
            "kind": "cache",
            "unit": "movies/Dune/Dune.mkv",
            "map": "/data/media",
            "path": "movies/Dune/Dune.en.srt",
            "array_path": "/mnt/disk1/media/movies/Dune/Dune.en.srt",
            "cache_path": "/mnt/cache/media/movies/Dune/Dune.en.srt",
            "size": 102_400,
            "title": "Dune: Part Two (2024)",
            "reasons": [{"source": "watchlist", "user": "anna"}],
            "evict_why": null,
            "placement": "copy",
            "rating_key": "4711",
        });
        assert_eq!(actions[5], expected);
        let expected = json!({
            "kind": "cache",
            "unit": "movies/Oppenheimer.mkv",
            "map": "/data/media",
            "path": "movies/Oppenheimer.srt",
            "array_path": "/mnt/disk1/media/movies/Oppenheimer.srt",
            "cache_path": null,
            "size": 1_048_576,
            "title": "Oppenheimer (2023)",
            "reasons": [],
            "why": "no_room",
            "detail": "short by 16.6 GiB",
        });
        assert_eq!(line["skipped"][1], expected);
    }

    #[test]
    fn an_ended_action_says_what_came_of_it_and_a_note_is_no_error() {
        let action = &samples::plan().actions[0];
        let failed = samples::ended(Outcome::Failed, 0, Some("reading: \u{1b}[1m\u{202e}"));
        let line = super::tests::line(&Message::Ended { action, ended: &failed });
        let mut expected: Vec<&str> = ACTION.to_vec();
        expected.extend(["bytes", "duration_ms", "error", "note", "result", "schema", "type", "why"]);
        expected.sort_unstable();
        assert_eq!(fields(&line), expected);
        assert_eq!((&line["type"], &line["result"]), (&json!("action"), &json!("failed")));
        assert_eq!((&line["bytes"], &line["duration_ms"]), (&json!(0), &json!(23_000)));
        assert_eq!((&line["error"], &line["note"]), (&json!("reading: \u{1b}[1m\u{202e}"), &json!(null)));

        let done = samples::ended(Outcome::Done, GIB, Some("the owner was not kept"));
        let line = super::tests::line(&Message::Ended { action, ended: &done });
        assert_eq!((&line["error"], &line["note"]), (&json!(null), &json!("the owner was not kept")));
        assert_eq!(line["result"], "done");
    }

    #[test]
    fn a_summary_has_the_run_its_outcome_and_four_counts() {
        let summary = samples::summary(samples::finished(RunOutcome::Partial, 6, 4, 1), Exit::Partial);
        let count = |files: u64| json!({"files": files, "bytes": files * 4 * GIB});
        let expected = json!({
            "schema": 1, "type": "summary", "run": 214, "outcome": "partial",
            "cached": count(6), "evicted": count(4), "failed": count(1), "skipped": count(0),
        });
        assert_eq!(line(&Message::Summary(&summary)), expected);
    }

    #[test]
    fn runs_are_one_line_each_and_one_run_is_followed_by_its_actions() {
        let runs = samples::runs();
        let all = lines(&Message::Runs(&runs));
        assert_eq!(all.len(), 4);
        let count = |files: u64| json!({"files": files, "bytes": files * 4 * GIB});
        let expected = json!({
            "schema": 1, "type": "run", "run": 213, "command": "undo", "trigger": "timer",
            "started": "2026-11-22T17:20:00Z", "finished": "2026-11-22T17:20:01Z", "outcome": "ok",
            "undo_of": [212], "undone_by": null,
            "cached": count(0), "evicted": count(3), "failed": count(0), "skipped": count(0),
        });
        assert_eq!(all[2], expected);
        assert_eq!((&all[3]["undo_of"], &all[3]["undone_by"]), (&json!([]), &json!(213)));

        let one = lines(&Message::Run(&runs[1]));
        let types: Vec<_> = one.iter().map(|line| &line["type"]).collect();
        assert_eq!(types, ["run", "action", "action", "action"]);
        assert_eq!((&one[0]["finished"], &one[0]["outcome"]), (&json!(null), &json!("stopped")));
        let results: Vec<_> = one[1..].iter().map(|line| &line["result"]).collect();
        assert_eq!(results, [&json!("done"), &json!("failed"), &json!(null)]);
    }

    #[test]
    fn a_status_is_one_line() {
        let line = line(&Message::Status(&samples::status()));
        assert_eq!(fields(&line), ["files", "health", "last_run", "live", "schema", "tiers", "type"]);
        assert_eq!((&line["health"], &line["last_run"]), (&json!([]), &json!(null)));
        let expected = json!({
            "map": "/data/media", "cache_root": "/mnt/cache/media", "total": 931 * GIB, "free": 380 * GIB,
            "owned": 241 * GIB, "limit": 500 * GIB,
        });
        assert_eq!(line["tiers"][0], expected);
        let expected = json!({
            "unit": "tv/Foundation/s01e01.mkv",
            "map": "/data/media",
            "path": "tv/Foundation/s01e01.mkv",
            "array_path": "/mnt/disk3/media/tv/Foundation/s01e01.mkv",
            "cache_path": "/mnt/cache/media/tv/Foundation/s01e01.mkv",
            "size": 3 * GIB,
            "title": "Foundation S01E01",
            "cached_at": "2026-11-15T05:00:00Z",
            "run": 210,
            "reasons": [{"source": "on_deck", "user": "anna"}, {"source": "on_deck", "user": "ben"}],
            "state": "unchanged",
            "wanted": false,
            "pinned": false,
            "held_until": null,
            "evict_after": "2026-11-25T20:00:00Z",
            "evict_why": "watched",
        });
        assert_eq!(line["files"][1], expected);
    }

    #[test]
    fn errors_warnings_and_notes_are_lines() {
        let error = Message::Error { message: "Plex is down", hint: None, exit: Exit::Unreachable };
        let expected = json!({"schema": 1, "type": "error", "message": "Plex is down", "hint": null, "exit": 69});
        assert_eq!(line(&error), expected);
        let warning = Message::Warning { text: "slow", hint: Some("wait") };
        assert_eq!(line(&warning), json!({"schema": 1, "type": "warning", "message": "slow", "hint": "wait"}));
        assert_eq!(line(&Message::Note("x")), json!({"schema": 1, "type": "note", "message": "x"}));
    }

    #[test]
    fn what_steers_a_terminal_is_escaped_and_means_the_same() {
        let hostile = "a\u{1b}\u{7f}\u{9b}31m\u{202e}\u{2069}\u{2028}\u{e9}\"\\z";
        let json = harmless(&serde_json::to_string(hostile).unwrap());
        assert_eq!(json, r#""a\u001b\u007f\u009b31m\u202e\u2069\u2028é\"\\z""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile);
    }

    #[test]
    fn what_only_a_person_watches_prints_nothing() {
        let action = &samples::plan().actions[0];
        assert_eq!(lines(&Message::Started { action, number: 1, total: 1 }), [Value::Null; 0]);
        assert_eq!(lines(&Message::Progress { action, done: 1 }), [Value::Null; 0]);
    }
}
