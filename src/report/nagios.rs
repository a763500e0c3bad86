//! One line for Nagios, Icinga and what speaks their language; and how well things are at all.
//!
//! Pure. The line is parsed by its first `|`, and everything after it is numbers of our own: foreign
//! text (titles and paths in `health`) can neither end the line nor bring in another `|`.

use jiff::Timestamp;

use super::{Level, Status};
use crate::history::LastRun;
use crate::history::record::RunOutcome;
use crate::report::words::{age, bytes_of, count, size, visible};

/// So many problems are told in full: older agents pass on 1024 bytes of a line.
const TOLD: usize = 4;

/// The longest text of one problem, in characters.
const LONGEST: usize = 160;

/// How well things are: critical when a cache root cannot be used, or when the last run failed, was
/// refused or was cut short; a warning when anything else is wrong.
pub fn level(status: &Status) -> Level {
    let is_lost = status.tiers.iter().any(|tier| tier.total.is_none() || tier.free.is_none());
    let is_broken = status.last_run.as_ref().is_some_and(|last| match &last.finished {
        None => !status.running,
        Some((_, finished)) => match finished.outcome {
            RunOutcome::Failed | RunOutcome::Refused => true,
            RunOutcome::Ok | RunOutcome::Partial | RunOutcome::Stopped => false,
        },
    });
    if is_lost || is_broken {
        Level::Critical
    } else if status.health.is_empty() {
        Level::Ok
    } else {
        Level::Warning
    }
}

/// The line of a Nagios plugin: state, what is wrong, what there is, and after `|` the performance data
/// (`bytes` in bytes, `last_run_age` in seconds since the last run ended). No newline.
pub(super) fn nagios(status: &Status) -> String {
    let word = match level(status) {
        Level::Ok => "OK",
        Level::Warning => "WARNING",
        Level::Critical => "CRITICAL",
    };
    let (files, bytes) = (status.files.len() as u64, bytes_of(&status.files));
    let told = status.health.iter().take(TOLD).map(|problem| clean(problem));
    let untold = status.health.len().saturating_sub(TOLD);
    let untold = (untold > 0).then(|| format!("{untold} more"));
    let summary = format!("{} ({}), {}", count(files, "file"), size(bytes), last_run(status));
    let texts: Vec<String> = told.chain(untold).chain([summary]).collect();

    let since = status.last_run.as_ref().and_then(ended).map(|at| status.now.duration_since(at).as_secs().max(0));
    let since = since.map(|seconds| format!(" last_run_age={seconds}s;;;0")).unwrap_or_default();
    let problems = status.health.len();
    format!(
        "PLEXCACHE {word} - {} | files={files};;;0 bytes={bytes}B;;;0 problems={problems};;;0{since}",
        texts.join("; ")
    )
}

fn last_run(status: &Status) -> String {
    match &status.last_run {
        None => "no run yet".to_owned(),
        Some(last) => {
            let at = ended(last).unwrap_or(last.started);
            format!("last {} {}", clean(&last.command), age(status.now, at))
        }
    }
}

fn ended(last: &LastRun) -> Option<Timestamp> {
    last.finished.as_ref().map(|(at, _)| *at)
}

/// Foreign text within the line: `|` would begin the performance data.
fn clean(text: &str) -> String {
    let text = visible(text).replace('|', "/");
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::html::tests::{last_run, status};
    use super::*;

    fn healthy() -> Status {
        let mut status = status();
        status.tiers.truncate(1);
        status.health.clear();
        status.last_run = Some(last_run(Some(RunOutcome::Ok)));
        status
    }

    #[test]
    fn all_is_well_is_said_in_one_line() {
        assert_eq!(
            nagios(&healthy()),
            "PLEXCACHE OK - 5 files (57.3 GiB), last sync 1 h ago \
             | files=5;;;0 bytes=61561282901B;;;0 problems=0;;;0 last_run_age=7066s;;;0"
        );
    }

    #[test]
    fn the_level_follows_from_the_roots_the_last_run_and_health() {
        assert_eq!(level(&healthy()), Level::Ok);
        for (outcome, expected) in [
            (Some(RunOutcome::Ok), Level::Warning),
            (Some(RunOutcome::Partial), Level::Warning),
            (Some(RunOutcome::Stopped), Level::Warning),
            (Some(RunOutcome::Failed), Level::Critical),
            (Some(RunOutcome::Refused), Level::Critical),
            (None, Level::Critical),
        ] {
            let mut status = healthy();
            status.health = vec!["something".to_owned()];
            status.last_run = Some(last_run(outcome));
            assert_eq!(level(&status), expected, "{outcome:?}");
        }
        let mut status = healthy();
        status.tiers[0].total = None;
        assert_eq!(level(&status), Level::Critical);
    }

    #[test]
    fn foreign_text_neither_ends_the_line_nor_adds_performance_data() {
        let mut status = healthy();
        status.health = vec!["a | files=0\nOK\r\u{1b}[2J\u{202e}".to_owned(), "é".repeat(5000)];
        status.health.extend((0..10).map(|number| format!("problem {number}")));
        let line = nagios(&status);
        assert!(line.starts_with("PLEXCACHE WARNING - a / files=0"));
        assert!(!line.contains(char::is_control), "{line:?}");
        assert_eq!(line.matches('|').count(), 1);
        assert!(line.contains("problem 1; 8 more; 5 files"), "{line}");
        assert!(line.len() < 1024, "{}", line.len());
    }

    #[test]
    fn a_run_without_an_end_has_no_age() {
        let mut status = healthy();
        status.last_run = Some(last_run(None));
        assert!(!nagios(&status).contains("last_run_age"));
        status.last_run = None;
        assert!(nagios(&status).contains("no run yet |"));
    }
}
