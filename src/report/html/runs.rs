//! The last runs on the page: a chart, and a table with what went wrong.

use std::fmt::{self, Write as _};

use super::{Page, Text};
use crate::history::Run;
use crate::history::record::{Count, Outcome, RunOutcome};
use crate::report::words::{count, duration, or_path, size};

/// So many failures are named for each run; the history has all of them.
const FAILURES: usize = 3;

impl Page<'_> {
    /// A bar for each run: what it cached above the line, what it evicted below.
    pub(super) fn chart(&self, out: &mut String) -> fmt::Result {
        const SLOT: u64 = 20;
        const UP: u64 = 80;
        const DOWN: u64 = 60;
        out.write_str("<section>\n<h2>Last runs</h2>\n")?;
        let summaries: Vec<_> = self.runs.iter().map(|run| (run, run.summary())).collect();
        let most_cached = summaries.iter().map(|(_, sum)| sum.cached.bytes).max().unwrap_or(0);
        let most_evicted = summaries.iter().map(|(_, sum)| sum.evicted.bytes).max().unwrap_or(0);
        if summaries.is_empty() {
            return out.write_str("<p class=\"soft\">None yet.</p>\n</section>\n");
        }
        // One scale for both directions, so that heights can be compared.
        let per_unit = most_cached.div_ceil(UP).max(most_evicted.div_ceil(DOWN)).max(1);
        let height = |bytes: u64| bytes.div_ceil(per_unit);
        let (up, down) = (height(most_cached).max(8), height(most_evicted).max(4));
        let width = SLOT * summaries.len().max(30) as u64;
        let label = format!("{}: cached above the line, evicted below", count(summaries.len() as u64, "run"));
        writeln!(
            out,
            "<figure>\n<svg viewBox=\"0 0 {width} {}\" role=\"img\" aria-label=\"{label}\">",
            up + down + 16
        )?;
        writeln!(out, "<rect class=\"l\" y=\"{up}\" width=\"{width}\" height=\"1\"/>")?;
        for (slot, (run, sum)) in summaries.iter().enumerate() {
            let x = SLOT * slot as u64 + 4;
            let (cached, evicted) = (height(sum.cached.bytes), height(sum.evicted.bytes));
            let outcome = run.finished.as_ref().map(|(_, finished)| finished.outcome);
            write!(
                out,
                "<g><title>run {}, {}, {}: {}, cached {}, evicted {}</title>\
                 <rect x=\"{x}\" y=\"{up}\" width=\"12\" height=\"1\" class=\"e\"/>",
                run.run,
                Text(&run.started.command),
                run.at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M"),
                outcome.map_or("no end", RunOutcome::word),
                size(sum.cached.bytes),
                size(sum.evicted.bytes),
            )?;
            if cached > 0 {
                write!(out, "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"{cached}\" class=\"c\"/>", up - cached)?;
            }
            if evicted > 0 {
                write!(out, "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"{evicted}\" class=\"e\"/>", up + 1)?;
            }
            if outcome != Some(RunOutcome::Ok) {
                let (left, top, right, bottom) = (x, up + down + 5, x + 12, up + down + 15);
                write!(out, "<path d=\"M{left} {bottom}H{right}L{} {top}z\" class=\"b\"/>", x + 6)?;
            }
            out.write_str("</g>\n")?;
        }
        writeln!(
            out,
            "</svg>\n<figcaption>Oldest on the left. Above the line what a run cached (at most {}), below what it evicted \
             (at most {}). ▲ marks runs that were not ok.</figcaption>\n</figure>\n</section>",
            size(most_cached),
            size(most_evicted),
        )
    }

    pub(super) fn run_table(&self, out: &mut String) -> fmt::Result {
        if self.runs.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "<table class=\"runs\">\n<caption>Last {}, newest first</caption>\n<thead>\n<tr><th scope=\"col\">Run</th>\
             <th scope=\"col\">Began</th><th scope=\"col\">Command</th><th scope=\"col\">Result</th>\
             <th scope=\"col\" class=\"n\">Cached</th><th scope=\"col\" class=\"n\">Evicted</th>\
             <th scope=\"col\" class=\"n\">Failed</th><th scope=\"col\" class=\"n\">Took</th></tr>\n</thead>\n<tbody>",
            count(self.runs.len() as u64, "run"),
        )?;
        for run in self.runs.iter().rev() {
            self.run(out, run)?;
        }
        out.write_str("</tbody>\n</table>\n")
    }

    fn run(&self, out: &mut String, run: &Run) -> fmt::Result {
        let sum = run.summary();
        let undo_of: Vec<String> = run.started.undo_of.iter().map(|run| format!(" {run}")).collect();
        let undone = run.undone_by.map(|by| format!(", undone by {by}")).unwrap_or_default();
        let took = run
            .finished
            .as_ref()
            .map(|(ended, _)| duration(ended.duration_since(run.at).try_into().unwrap_or_default()))
            .unwrap_or_default();
        let cell = |count: Count| {
            if count.files == 0 { String::new() } else { format!("{} · {}", count.files, size(count.bytes)) }
        };
        writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}{}</td><td>{}{undone}</td>\
             <td class=\"n\" data-l=\"cached\">{}</td><td class=\"n\" data-l=\"evicted\">{}</td>\
             <td class=\"n\" data-l=\"failed\">{}</td><td class=\"n\">{took}</td></tr>",
            run.run,
            self.time(run.at, "%Y-%m-%d %H:%M"),
            Text(&run.started.command),
            undo_of.join(","),
            outcome(run.finished.as_ref().map(|(_, finished)| finished.outcome)),
            cell(sum.cached),
            cell(sum.evicted),
            cell(sum.failed),
        )?;
        failures(out, run)
    }
}

/// What went wrong in a run, below its row.
fn failures(out: &mut String, run: &Run) -> fmt::Result {
    let whole = run.finished.as_ref().and_then(|(_, finished)| finished.error.as_deref());
    let failed: Vec<_> = run
        .actions
        .iter()
        .filter_map(|action| Some((&action.action, action.ended.as_ref()?)))
        .filter(|(_, ended)| ended.result == Outcome::Failed)
        .collect();
    if whole.is_none() && failed.is_empty() {
        return Ok(());
    }
    out.write_str("<tr class=\"why\"><td></td><td colspan=\"7\"><ul>\n")?;
    if let Some(whole) = whole {
        writeln!(out, "<li>{}</li>", Text(whole))?;
    }
    for (action, ended) in failed.iter().take(FAILURES) {
        let error = ended.error.as_deref().unwrap_or("failed");
        writeln!(out, "<li>{}: {}</li>", Text(or_path(&action.title, action.path.as_str())), Text(error))?;
    }
    let more = failed.len().saturating_sub(FAILURES);
    if more > 0 {
        writeln!(out, "<li>{more} more: <code>plexcache history {}</code></li>", run.run)?;
    }
    out.write_str("</ul></td></tr>\n")
}

/// How a run ended, in word, sign and colour.
pub(super) fn outcome(outcome: Option<RunOutcome>) -> String {
    let (class, sign) = match outcome {
        Some(RunOutcome::Ok) => ("good", "✓"),
        Some(RunOutcome::Partial | RunOutcome::Stopped) => ("warn", "!"),
        Some(RunOutcome::Failed | RunOutcome::Refused) | None => ("bad", "✗"),
    };
    format!("<span class=\"{class}\">{sign} {}</span>", outcome.map_or("no end", RunOutcome::word))
}
