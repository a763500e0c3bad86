//! What must hold of any bytes in place of the state's files.
//!
//! Owns the checks that the properties here and the fuzzer share: whatever the history and the index
//! say, reading, folding and planning an undo are total, and an index is what it was when it was
//! saved. Only built for tests and the fuzzer.

use super::index::{Index, Saved};
use super::plan_undo;
use super::record::Record;
use super::runs::{Run, folded};
use super::undo::Reach;

/// Reads `text` as the lines of a history; those that are none are passed over.
pub(crate) fn check_lines(text: &[u8]) {
    let lines = text.split(|byte| *byte == b'\n');
    let records: Vec<Record> = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let mut index = Index::default();
    for record in &records {
        index.apply(record);
        assert!(index.next_run > record.run || record.run == u64::MAX);
    }
    check_undo(records, &index);
    let saved = serde_json::to_vec(&Saved::from(&index)).expect("an index is made of texts and numbers only");
    let again: Saved = serde_json::from_slice(&saved).expect("what was saved can be read");
    assert_eq!(again.restore().as_ref(), Some(&index));
}

/// Reads `text` as a saved index.
pub(crate) fn check_index(text: &[u8]) {
    if let Some(index) = serde_json::from_slice::<Saved>(text).ok().and_then(Saved::restore) {
        check_undo(Vec::new(), &index);
    }
}

fn check_undo(records: Vec<Record>, index: &Index) {
    let runs = folded(records.into_iter());
    for run in runs.iter().take(16) {
        drop(run.summary());
        check_reach(&runs, index, Some(run.run), 1);
    }
    for last in [0, 1, 2, usize::MAX] {
        check_reach(&runs, index, None, last);
        let Ok(plan) = plan_undo(&runs, index, None, last) else { continue };
        assert!(plan.runs.iter().all(|number| runs.iter().any(|run| run.run == *number)));
        assert!(plan.runs.is_sorted_by(|newer, older| newer > older), "newest first, each once");
    }
}

/// The runs that an undo reads are enough to plan it as if it had read them all.
fn check_reach(runs: &[Run], index: &Index, chosen: Option<u64>, last: usize) {
    let mut reach = Reach::new(chosen, last);
    let covered = runs.iter().rposition(|run| reach.covers(run)).unwrap_or(0);
    let by_all = plan_undo(runs, index, chosen, last);
    let by_some = plan_undo(runs.get(covered..).unwrap_or_default(), index, chosen, last);
    assert_eq!(by_some, by_all, "{chosen:?} {last}: {covered} of {runs:?}");
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use camino::Utf8PathBuf;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::journal::{self, Mark};
    use super::super::record::{Event, RunFinished, RunOutcome, RunStarted};
    use super::super::{History, HistoryError, load, newest_runs};
    use super::*;
    use crate::paths::MediaPath;
    use crate::plan::{Action, Kind};
    use crate::select::Memory;
    use crate::state::StateDir;

    fn runs(state: &StateDir) -> Result<Vec<Run>, HistoryError> {
        let mut runs = Vec::new();
        newest_runs(state, |run| {
            runs.push(run);
            ControlFlow::Continue(())
        })?;
        Ok(runs)
    }

    /// A history of two runs, the second an undo of the first, and of one that was killed.
    fn lines() -> Vec<Value> {
        let at = |run: u64, event: &str, more: Value| {
            let mut line = json!({"v": 1, "run": run, "t": "2026-01-02T03:04:05.000000006Z", "event": event});
            line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            line
        };
        let print = |ino: u64| json!({"ino": ino, "size": 5_000_000, "mtime_ns": 1_600_000_000_123_456_789_i64});
        let action = |kind: &str, path: &str| {
            json!({"kind": kind, "map": "/data", "path": path, "unit": "a/b.mkv", "title": "B", "rating_key": "7",
                "reasons": [{"source": "on_deck", "user": "anna"}], "placement": "hide", "array_root": "/mnt/disk1",
                "cache_root": "/mnt/cache", "size": 5_000_000, "array": print(7)})
        };
        let intent = |run, seq: u32, kind, path| {
            at(run, "intent", json!({"seq": seq, "temp": "ab12", "action": action(kind, path)}))
        };
        let ended = |run, seq: u32| {
            at(
                run,
                "ended",
                json!({"seq": seq, "result": "done", "bytes": 5_000_000, "duration_ms": 9, "array": print(7),
                "copy": print(8), "unmade": [{"root": "/mnt/cache", "path": "a"}]}),
            )
        };
        let root = json!({"tier": "cache", "path": "/mnt/cache", "id": "x", "mount": "ext4", "marked": true});
        vec![
            at(1, "run_started", json!({"command": "sync", "trigger": "cron"})),
            at(1, "root", root),
            intent(1, 1, "cache", "a/b.mkv"),
            at(1, "made", json!({"seq": 1, "folders": [{"root": "/mnt/cache", "path": "a"}]})),
            at(
                1,
                "published",
                json!({"seq": 1, "from": print(7), "copy": print(8), "checksum": "xxh3:0123456789abcdef0123456789abcdef"}),
            ),
            ended(1, 1),
            at(1, "run_finished", json!({"outcome": "ok", "cached": {"files": 1, "bytes": 5_000_000}})),
            at(2, "run_started", json!({"command": "undo", "undo_of": [1], "hold_seconds": 86_400})),
            intent(2, 1, "evict", "a/b.mkv"),
            ended(2, 1),
            at(3, "run_started", json!({"command": "sync"})),
            intent(3, 1, "cache", "a/b.en.srt"),
        ]
    }

    fn absurd() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(u64::from(u32::MAX)), Just(1 << 63)]
                .prop_map(Value::from),
            prop_oneof![Just(i64::MIN), Just(-1), Just(i64::MAX)].prop_map(Value::from),
            proptest::sample::select(&[
                "",
                "../..",
                "/etc/passwd",
                "cache",
                "evict",
                "done",
                "\u{1b}[2J\n",
                "9999-12-31T23:59:59Z",
                "-009999-01-02T01:59:59Z",
                "0000-01-01T00:00:00Z",
                "a/b.mkv",
                "intent",
                "run_started",
                "ended",
                "new_event",
            ])
            .prop_map(Value::from),
            Just(json!([1, 1, 2, u64::MAX])),
            Just(json!([])),
            Just(json!({})),
        ]
    }

    #[derive(Debug, Clone)]
    enum Change {
        Drop,
        Repeat,
        Swap(proptest::sample::Index),
        Set(proptest::sample::Index, Value),
        Number(u64),
        Cut(proptest::sample::Index),
        Byte(proptest::sample::Index, u8),
    }

    fn change() -> impl Strategy<Value = (proptest::sample::Index, Change)> {
        let index = any::<proptest::sample::Index>;
        let change = prop_oneof![
            2 => Just(Change::Drop),
            2 => Just(Change::Repeat),
            2 => index().prop_map(Change::Swap),
            6 => (index(), absurd()).prop_map(|(at, value)| Change::Set(at, value)),
            2 => prop_oneof![Just(u64::MAX), Just(0), Just(1), Just(2)].prop_map(Change::Number),
            1 => index().prop_map(Change::Cut),
            1 => (index(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        ];
        (index(), change)
    }

    /// Every field of the line, those of its action too.
    fn fields(value: &Value, at: &str, found: &mut Vec<String>) {
        for (key, inner) in value.as_object().into_iter().flatten() {
            let at = format!("{at}/{key}");
            fields(inner, &at, found);
            found.push(at);
        }
    }

    fn changed(changes: Vec<(proptest::sample::Index, Change)>) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = lines().iter().map(|line| line.to_string().into_bytes()).collect();
        for (at, change) in changes {
            let at = at.index(lines.len());
            let edit = |line: &mut Vec<u8>, path: Option<proptest::sample::Index>, with: Value| {
                let Ok(mut value) = serde_json::from_slice::<Value>(line) else { return };
                let mut all = Vec::new();
                fields(&value, "", &mut all);
                // What earlier changes cut may have no field left.
                let path = path.filter(|_| !all.is_empty()).map_or("/run", |path| &all[path.index(all.len())]);
                let Some(field) = value.pointer_mut(path) else { return };
                *field = with;
                *line = value.to_string().into_bytes();
            };
            match change {
                Change::Drop if lines.len() > 1 => drop(lines.remove(at)),
                Change::Repeat => lines.insert(at, lines[at].clone()),
                Change::Swap(other) => {
                    let other = other.index(lines.len());
                    lines.swap(at, other);
                }
                Change::Set(path, value) => edit(&mut lines[at], Some(path), value),
                Change::Number(run) => edit(&mut lines[at], None, run.into()),
                Change::Cut(end) => {
                    let end = end.index(lines[at].len() + 1);
                    lines[at].truncate(end);
                }
                Change::Byte(place, byte) if !lines[at].is_empty() => {
                    let place = place.index(lines[at].len());
                    lines[at][place] = byte;
                }
                Change::Drop | Change::Byte(..) => {}
            }
        }
        lines.join(&b'\n')
    }

    fn state() -> (tempfile::TempDir, StateDir) {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap());
        (folder, state)
    }

    #[expect(clippy::disallowed_methods, reason = "a test lays out its own files")]
    fn put(state: &StateDir, name: &str, bytes: &[u8]) {
        std::fs::write(state.file(name), bytes).unwrap();
    }

    #[test]
    fn the_history_that_is_mutated_here_is_a_good_one() {
        let text: Vec<String> = lines().iter().map(Value::to_string).collect();
        let records: Vec<Record> = text.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(records.iter().all(|record| record.event != super::super::record::Event::Unknown));
        check_lines(text.join("\n").as_bytes());
    }

    #[test]
    fn after_the_highest_number_no_run_begins() {
        let (_folder, state) = state();
        let mut line = lines().remove(0);
        line["run"] = u64::MAX.into();
        put(&state, "history.jsonl", format!("{line}\n").as_bytes());
        let started = serde_json::from_value(json!({"command": "sync"})).unwrap();
        assert!(matches!(History::open(&state, started), Err(HistoryError::NoNumber(_))));
        assert_eq!(runs(&state).unwrap().len(), 1);
    }

    #[test]
    fn an_index_that_covers_nothing_tells_nothing() {
        let (_folder, state) = state();
        let text: Vec<String> = lines().iter().take(6).map(Value::to_string).collect();
        put(&state, "history.jsonl", (text.join("\n") + "\n").as_bytes());
        let mut index = load(&state).unwrap();
        assert_eq!(index.cached.len(), 1);
        index.mark = Mark::default();
        state.write("index.json", &Saved::from(&index)).unwrap();
        put(&state, "history.jsonl", b"");
        assert_eq!(load(&state).unwrap(), Index::default());
    }

    /// One run: the files that it moves if they are not there yet, to which tier, whether it takes an earlier
    /// run back instead, and whether it is stopped half-way.
    type Move = (u8, Kind, Option<proptest::sample::Index>, bool);

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let kind = prop_oneof![Just(Kind::Cache), Just(Kind::Evict)];
        let undo = proptest::option::weighted(0.5, any::<proptest::sample::Index>());
        proptest::collection::vec((0..8_u8, kind, undo, any::<bool>()), 1..12)
    }

    /// The records of such runs, as the program writes them.
    fn written(moves: &[Move]) -> (Vec<Record>, Index) {
        let record = |run, event| Record { v: 1, run, t: Timestamp::UNIX_EPOCH, event };
        let sample: Record = serde_json::from_value(lines().remove(2)).unwrap();
        let Event::Intent { action: sample, .. } = sample.event else { panic!("an intent") };
        let (mut records, mut index) = (Vec::new(), Index::default());
        for (run, (files, kind, undo, stops)) in (1..).zip(moves) {
            let runs = folded(records.clone().into_iter());
            let undo = undo.filter(|_| !runs.is_empty()).map(|at| runs[at.index(runs.len())].run);
            let plan = undo.map(|number| plan_undo(&runs, &index, Some(number), 1));
            let mut actions = plan.map_or_else(
                || {
                    let path = |file: u8| MediaPath::parse(&format!("TV/{file}.mkv")).unwrap();
                    let chosen = (0..3).filter(|file| files & (1 << file) != 0);
                    chosen.map(|file| Action { kind: *kind, path: path(file), ..sample.clone() }).collect()
                },
                |plan| plan.map(|plan| plan.actions).unwrap_or_default(),
            );
            actions.retain(|action| index.cached.contains_key(&action.key()) == (action.kind == Kind::Evict));
            if *stops {
                actions.truncate(actions.len().div_ceil(2));
            }
            let mut started: RunStarted = serde_json::from_value(json!({"command": "sync"})).unwrap();
            started.undo_of.extend(undo);
            let mut new = vec![record(run, Event::RunStarted(started))];
            for (seq, action) in (1..).zip(actions) {
                let temp = String::new();
                new.push(record(run, Event::Intent { seq, temp, action }));
                let ended = serde_json::from_value(json!({"seq": seq, "result": "done"})).unwrap();
                new.push(record(run, Event::Ended(ended)));
            }
            let outcome = if *stops { RunOutcome::Stopped } else { RunOutcome::Ok };
            new.push(record(run, Event::RunFinished(RunFinished::failed(outcome, String::new()))));
            for record in &new {
                index.apply(record);
            }
            records.extend(new);
        }
        (records, index)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn any_history_is_folded_without_panicking(changes in proptest::collection::vec(change(), 0..12)) {
            check_lines(&changed(changes));
        }

        #[test]
        fn an_undo_reads_as_far_back_as_it_has_to(moves in moves()) {
            let (records, index) = written(&moves);
            check_undo(records, &index);
        }

        #[test]
        fn any_history_file_is_read_or_refused(
            changes in proptest::collection::vec(change(), 0..5),
            index in proptest::collection::vec((any::<proptest::sample::Index>(), absurd()), 0..3),
            torn in any::<bool>(),
        ) {
            let (_folder, state) = state();
            let good: Vec<String> = lines().iter().map(Value::to_string).collect();
            put(&state, "history.jsonl", (good.join("\n") + "\n").as_bytes());
            let mut saved = serde_json::to_value(Saved::from(&load(&state).unwrap())).unwrap();
            for (at, with) in index {
                let mut all = Vec::new();
                fields(&saved, "", &mut all);
                *saved.pointer_mut(&all[at.index(all.len())]).unwrap() = with;
            }
            let text = saved.to_string();
            check_index(text.as_bytes());
            put(&state, "index.json", text.as_bytes());
            put(&state, "wants.json", text.as_bytes());
            let mut bytes = changed(changes);
            if !torn {
                bytes.push(b'\n');
            }
            put(&state, "history.jsonl", &bytes);
            let mut records = Vec::new();
            let forwards = journal::read(&state, Mark::default(), |record| records.push(record));
            let mut back = Vec::new();
            let backwards = journal::read_back(&state, |record| {
                back.push(record);
                ControlFlow::Continue(())
            });
            prop_assert_eq!(forwards.is_ok(), backwards.is_ok());
            if forwards.is_ok() {
                back.reverse();
                prop_assert_eq!(back, records);
            }
            prop_assert_eq!(Memory::load(&state), Memory::default());
            if let Ok(index) = load(&state) {
                let started = serde_json::from_value(json!({"command": "sync"})).unwrap();
                if let Ok(history) = History::open(&state, started) {
                    prop_assert!(history.run() >= index.next_run);
                }
            }
        }
    }
}
