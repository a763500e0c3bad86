//! The last words of a run: one line when it went well, and every failure when it did not.

use std::fmt::Write as _;

use super::text::{Look, Paint};
use crate::exit::Exit;
use crate::history::record::{Count, RunOutcome};
use crate::report::Summary;
use crate::report::words::{count, duration, size, visible};

/// `Done  7 cached (33.2 GiB) · 4 evicted (18.2 GiB) in 3m52s      run 214, undo: plexcache undo 214`
pub(super) fn render(summary: &Summary, look: &Look) -> String {
    let run = &summary.finished;
    let (head, paint) = match run.outcome {
        RunOutcome::Ok => ("Done", Paint::Good),
        RunOutcome::Partial => ("Done", Paint::Caution),
        RunOutcome::Failed => ("Failed", Paint::Bad),
        RunOutcome::Stopped => ("Stopped", Paint::Caution),
        RunOutcome::Refused => ("Refused", Paint::Bad),
    };
    let counted = |count: Count, what: &str| {
        let size = if count.bytes == 0 { String::new() } else { format!(" ({})", size(count.bytes)) };
        (count.files > 0).then(|| format!("{} {what}{size}", count.files))
    };
    let not_started = Count { files: summary.not_started as u64, bytes: 0 };
    let parts: Vec<String> = [
        counted(run.cached, "cached"),
        counted(run.evicted, "evicted"),
        counted(Count { bytes: 0, ..run.failed }, "failed"),
        counted(Count { bytes: 0, ..run.skipped }, "skipped"),
        counted(not_started, "not started"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let parts = if parts.is_empty() { "nothing changed".to_owned() } else { look.join(&parts) };
    let mut text = format!("{}  {parts} in {}", look.paint(paint, head), duration(summary.elapsed));
    if let Some(number) = summary.run {
        let _ = write!(text, "      run {number}");
        if run.cached.files + run.evicted.files > 0 {
            let undo = if summary.command == "undo" { "redo" } else { "undo" };
            let _ = write!(text, ", {undo}: plexcache undo {number}");
        }
    }
    text.push('\n');
    text.push_str(&troubles(summary));
    text
}

/// The block that cron mails: nothing unless something is wrong.
///
/// `plexcache: 1 of 7 files failed (exit 3, run 215)`
pub(super) fn render_quiet(summary: &Summary) -> String {
    if matches!(summary.exit, Exit::Ok | Exit::Changes) {
        return String::new();
    }
    let run = &summary.finished;
    let tried = run.cached.files + run.evicted.files + run.failed.files;
    let what = match run.outcome {
        RunOutcome::Stopped => format!("stopped, {} not started", count(summary.not_started as u64, "file")),
        RunOutcome::Refused => "refused".to_owned(),
        _ if run.failed.files > 0 => format!("{} of {} failed", run.failed.files, count(tried, "file")),
        RunOutcome::Failed => "failed".to_owned(),
        RunOutcome::Ok | RunOutcome::Partial => "not everything could be done".to_owned(),
    };
    let number = summary.run.map_or_else(String::new, |run| format!(", run {run}"));
    format!("plexcache: {what} (exit {}{number})\n{}", summary.exit.code(), troubles(summary))
}

fn troubles(summary: &Summary) -> String {
    let mut text = String::new();
    if let Some(error) = &summary.finished.error {
        let _ = writeln!(text, "  {}", visible(error));
    }
    for (title, why) in &summary.failures {
        let _ = writeln!(text, "  {}: {}", visible(title), visible(why));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::look;
    use super::*;
    use crate::report::samples;

    fn failed() -> Summary {
        let finished = samples::finished(RunOutcome::Partial, 5, 1, 1);
        let failures = vec![("Severance S02E06".to_owned(), "changed while copying".to_owned())];
        Summary { failures, ..samples::summary(finished, Exit::Partial) }
    }

    fn stopped() -> Summary {
        let finished = samples::finished(RunOutcome::Stopped, 1, 0, 0);
        Summary { not_started: 7, ..samples::summary(finished, Exit::Interrupted) }
    }

    #[test]
    fn a_run_ends_with_one_line_and_its_failures() {
        let ok = samples::summary(samples::finished(RunOutcome::Ok, 7, 4, 0), Exit::Ok);
        let undo = Summary { command: "undo", ..ok.clone() };
        let texts = [ok, undo, failed(), stopped()].map(|summary| render(&summary, &look()));
        let expected = "\
Done  7 cached (28.0 GiB) · 4 evicted (16.0 GiB) in 3m52s      run 214, undo: plexcache undo 214
Done  7 cached (28.0 GiB) · 4 evicted (16.0 GiB) in 3m52s      run 214, redo: plexcache undo 214
Done  5 cached (20.0 GiB) · 1 evicted (4.0 GiB) · 1 failed in 3m52s      run 214, undo: plexcache undo 214
  Severance S02E06: changed while copying
Stopped  1 cached (4.0 GiB) · 7 not started in 3m52s      run 214, undo: plexcache undo 214
";
        assert_eq!(texts.concat(), expected);
    }

    #[test]
    fn a_quiet_run_speaks_only_of_trouble() {
        let ok = samples::summary(samples::finished(RunOutcome::Ok, 7, 4, 0), Exit::Ok);
        assert_eq!(render_quiet(&ok), "");
        let failed = "plexcache: 1 of 7 files failed (exit 3, run 214)\n  Severance S02E06: changed while copying\n";
        assert_eq!(render_quiet(&self::failed()), failed);
        assert_eq!(render_quiet(&stopped()), "plexcache: stopped, 7 files not started (exit 130, run 214)\n");
        let mut source = samples::summary(samples::finished(RunOutcome::Partial, 0, 0, 0), Exit::Partial);
        source.finished.error = Some("the watchlist of ben could not be read".to_owned());
        let expected = "\
plexcache: not everything could be done (exit 3, run 214)
  the watchlist of ben could not be read
";
        assert_eq!(render_quiet(&source), expected);
    }
}
