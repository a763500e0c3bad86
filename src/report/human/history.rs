//! Runs and their actions: the tables of `history`, its totals, and its CSV.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use super::progress::ended;
use super::table::{Align, Cell, Table};
use super::text::{Look, Paint, rate};
use super::titles::of_file;
use crate::history::record::{Count, RunOutcome};
use crate::history::{Run, RunAction};
use crate::report::Stats;
use crate::report::words::{count, duration, size, visible};

/// The table of `history`.
pub(super) fn runs(runs: &[Run], look: &Look) -> String {
    use Align::{Left, Right};
    let mut table = Table::new(&[Right, Left, Left, Left, Right, Right, Right, Right], None);
    let heads = ["RUN", "WHEN", "COMMAND", "RESULT", "CACHED", "EVICTED", "FAILED", "TOOK"];
    table.row(heads.map(|head| Cell::painted(Paint::Strong, head)));
    let Some(newest) = runs.first() else { return "No runs.\n".to_owned() };
    for run in runs {
        let summary = run.summary();
        let (result, paint) = result(run);
        table.row([
            run.run.to_string().into(),
            look.when(run.at).into(),
            command(run).into(),
            Cell::painted(paint, result),
            counted(summary.cached).into(),
            counted(summary.evicted).into(),
            if summary.failed.files == 0 { "-".to_owned() } else { summary.failed.files.to_string() }.into(),
            took(run).map_or("-".to_owned(), duration).into(),
        ]);
    }
    let mut text = table.render(look, 1);
    if look.width.is_some() {
        let hint = format!("plexcache history {} shows its files", newest.run);
        text.push_str(&look.join(&[hint, "--since 7d".to_owned(), "--json".to_owned()]));
        text.push('\n');
    }
    text
}

/// One run and what it did to every file.
pub(super) fn run(run: &Run, look: &Look) -> String {
    let (result, paint) = result(run);
    let head = look.paint(Paint::Strong, &format!("Run {}", run.run));
    let took = took(run).map_or_else(String::new, |took| format!("  {}", duration(took)));
    let mut text = format!("{head}  {}  {}  {}{took}\n", command(run), look.when(run.at), look.paint(paint, &result));
    let started = &run.started;
    let about = [
        ("started by", visible(&started.trigger)),
        ("on", visible(&started.host)),
        ("version", visible(&started.version)),
        ("options", visible(&started.options.join(" "))),
    ];
    let about: Vec<String> =
        about.into_iter().filter(|(_, is)| !is.is_empty()).map(|(what, is)| format!("{what} {is}")).collect();
    if !about.is_empty() {
        let _ = writeln!(text, "  {}", look.join(&about));
    }
    if let Some(error) = run.summary().error {
        let _ = writeln!(text, "  {}", visible(&error));
    }
    if run.actions.is_empty() {
        text.push_str("\n  No file was touched.\n");
        return text;
    }
    text.push('\n');
    for RunAction { action, ended: end, .. } in &run.actions {
        match end {
            Some(end) => text.extend(["  ", &ended(action, end, look)]),
            None => text.extend(["  ! cut short, the next run settles it: ", &of_file(action), "\n"]),
        }
    }
    text
}

/// `history --stats`.
pub(super) fn stats(stats: &Stats, look: &Look) -> String {
    let outcomes: Vec<String> = stats.outcomes.iter().map(|(word, runs)| format!("{runs} {}", visible(word))).collect();
    let mut text = format!("Runs     {}", stats.runs);
    if !outcomes.is_empty() {
        let _ = write!(text, " ({})", look.join(&outcomes));
    }
    if let (Some(first), Some(last)) = (stats.first, stats.last) {
        let _ = write!(text, ", from {} to {}", look.when(first), look.when(last));
    }
    text.push('\n');
    for (what, Count { files, bytes }) in
        [("Cached", stats.cached), ("Evicted", stats.evicted), ("Failed", stats.failed)]
    {
        let _ = writeln!(text, "{what:<7}  {} ({})", count(files, "file"), size(bytes));
    }
    let taken = Duration::from_millis(stats.copy_ms);
    if let Some(rate) = rate(stats.copied_bytes, taken) {
        let _ = writeln!(text, "Copied   {} in {}, {rate}", size(stats.copied_bytes), duration(taken));
    }
    text
}

/// `history --csv`: RFC 4180 with a header line, times in UTC, one line a run.
///
/// A cell that a spreadsheet would take for a formula is prefixed by an apostrophe.
pub(super) fn csv(runs: &[Run]) -> String {
    const HEAD: [&str; 18] = [
        "run",
        "command",
        "options",
        "trigger",
        "started",
        "finished",
        "outcome",
        "undo_of",
        "undone_by",
        "cached_files",
        "cached_bytes",
        "evicted_files",
        "evicted_bytes",
        "failed_files",
        "failed_bytes",
        "skipped_files",
        "skipped_bytes",
        "error",
    ];
    let mut csv = csv_line(HEAD.map(str::to_owned));
    for run in runs {
        let summary = run.summary();
        let undo_of: Vec<String> = run.started.undo_of.iter().map(u64::to_string).collect();
        csv.push_str(&csv_line([
            run.run.to_string(),
            run.started.command.clone(),
            run.started.options.join(" "),
            run.started.trigger.clone(),
            run.at.to_string(),
            run.finished.as_ref().map_or_else(String::new, |(end, _)| end.to_string()),
            summary.outcome.word().to_owned(),
            undo_of.join(" "),
            run.undone_by.map_or_else(String::new, |run| run.to_string()),
            summary.cached.files.to_string(),
            summary.cached.bytes.to_string(),
            summary.evicted.files.to_string(),
            summary.evicted.bytes.to_string(),
            summary.failed.files.to_string(),
            summary.failed.bytes.to_string(),
            summary.skipped.files.to_string(),
            summary.skipped.bytes.to_string(),
            summary.error.unwrap_or_default(),
        ]));
    }
    csv
}

fn csv_line<const N: usize>(cells: [String; N]) -> String {
    let mut line = cells.map(|cell| csv_cell(&cell)).join(",");
    line.push_str("\r\n");
    line
}

fn csv_cell(text: &str) -> String {
    // Spreadsheets pass over a leading tab or line end before they look for a formula.
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

fn command(run: &Run) -> String {
    let words = [visible(&run.started.command)].into_iter().chain(run.started.undo_of.iter().map(u64::to_string));
    words.collect::<Vec<_>>().join(" ")
}

fn result(run: &Run) -> (String, Paint) {
    let outcome = run.finished.as_ref().map(|(_, finished)| finished.outcome);
    let (word, paint) = match outcome {
        None => ("cut short", Paint::Bad),
        Some(outcome @ RunOutcome::Ok) => (outcome.word(), Paint::Good),
        Some(outcome @ (RunOutcome::Partial | RunOutcome::Stopped)) => (outcome.word(), Paint::Caution),
        Some(outcome @ (RunOutcome::Failed | RunOutcome::Refused)) => (outcome.word(), Paint::Bad),
    };
    match run.undone_by {
        Some(undo) => (format!("{word}, undone by {undo}"), paint),
        None => (word.to_owned(), paint),
    }
}

fn counted(count: Count) -> String {
    if count.files == 0 { "-".to_owned() } else { format!("{} {:>9}", count.files, size(count.bytes)) }
}

/// `None` for a run without an end; never negative, whatever the clock did meanwhile.
fn took(run: &Run) -> Option<Duration> {
    let end: Timestamp = run.finished.as_ref()?.0;
    Some(end.duration_since(run.at).try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::look;
    use super::*;
    use crate::report::samples;

    #[test]
    fn runs_are_a_table_in_local_time() {
        let expected = "
 RUN  WHEN              COMMAND   RESULT                  CACHED       EVICTED  FAILED   TOOK
 215  today 18:20       sync      partial            6  24.0 GiB             -       1  2m14s
 214  today 12:20       sync      cut short                    -   1   4.0 GiB       2      -
 213  yesterday 18:20   undo 212  ok                           -   3  12.0 GiB       -     1s
 212  2026-11-02 12:20  evict     ok, undone by 213            -  12  48.0 GiB       -     1s
";
        assert_eq!(runs(&samples::runs(), &look()), &expected[1..]);
        assert_eq!(runs(&[], &look()), "No runs.\n");
    }

    #[test]
    fn a_terminal_is_told_how_to_go_on() {
        let text = runs(&samples::runs(), &Look { width: Some(120), ..look() });
        assert_eq!(text.lines().last(), Some("plexcache history 215 shows its files · --since 7d · --json"));
    }

    #[test]
    fn one_run_shows_every_file_and_what_came_of_it() {
        let expected = "\
Run 214  sync  today 12:20  cut short
  started by timer · on tower · version 0.1.0 · options --quiet
  cut short

  - evicted  Severance S02E04                        4.0 GiB
  ! failed   Dune: Part Two (2024)                  20.0 GiB  reading: Input/output error
  ! cut short, the next run settles it: Andor S02E03
";
        assert_eq!(run(&samples::runs()[1], &look()), expected);
    }

    #[test]
    fn totals_are_said_in_a_few_lines() {
        let totals = Stats {
            runs: 12,
            outcomes: [("ok".to_owned(), 11), ("partial".to_owned(), 1)].into(),
            cached: Count { files: 40, bytes: 100 * samples::GIB },
            evicted: Count { files: 1, bytes: samples::GIB },
            failed: Count::default(),
            first: Some(samples::at("2026-11-02T11:20:00Z")),
            last: Some(samples::at("2026-11-23T11:20:00Z")),
            copied_bytes: 100 * samples::GIB,
            copy_ms: 1_000_000,
        };
        let expected = "\
Runs     12 (11 ok · 1 partial), from 2026-11-02 12:20 to today 12:20
Cached   40 files (100.0 GiB)
Evicted  1 file (1.0 GiB)
Failed   0 files (0 B)
Copied   100.0 GiB in 16m40s, 102 MiB/s
";
        assert_eq!(stats(&totals, &look()), expected);
    }

    #[test]
    fn csv_is_quoted_and_never_a_formula() {
        let table = [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("+1", "'+1"),
            ("-n", "'-n"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
        ];
        for (text, cell) in table {
            assert_eq!(csv_cell(text), cell);
        }
    }

    #[test]
    fn csv_has_a_header_and_a_line_for_every_run() {
        let expected = "\
run,command,options,trigger,started,finished,outcome,undo_of,undone_by,cached_files,cached_bytes,\
evicted_files,evicted_bytes,failed_files,failed_bytes,skipped_files,skipped_bytes,error\r
212,evict,'--quiet,timer,2026-11-02T11:20:00Z,2026-11-02T11:20:01Z,ok,,213,0,0,12,51539607552,0,0,0,0,\r
";
        assert_eq!(csv(&samples::runs()[3..]), expected);
    }
}
