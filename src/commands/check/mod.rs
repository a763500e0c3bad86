//! `check`: the doctor. Proves what a run relies on and says what to mend, without changing anything.
//!
//! Every finding stands for itself: one that fails stops no other, and what cannot be looked at, a root
//! that never answers among it, is said as that. Only `--probe` changes something, through
//! [`crate::transfer::probe`]. Takes no lock, so it may run beside a run.

mod host;
mod item;
mod roots;
mod search;
mod server;
mod union;

use std::time::Duration;

use super::{Command, Session};
use crate::exit::Exit;
use crate::history::{self as log, Index};
use crate::report::{Checked, Finding, Message, Verdict};

/// How long a root may take to answer one question. Disks that sleep need some ten seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);

/// Looks at everything.
#[derive(Debug)]
pub struct Check {
    /// `--strict`: warnings count.
    pub strict: bool,
    /// `--probe`: makes and removes two tiny files in the roots of each map.
    pub probe: bool,
}

impl Command for Check {
    fn name(&self) -> &'static str {
        "check"
    }

    fn run(&self, session: &mut Session<'_>) -> anyhow::Result<Exit> {
        let mut tally = Tally::default();
        let index = log::load(&session.state);
        let own = host::own(session, &index);
        tally.show(session, "plexcache", &own);
        // What cannot be known of earlier runs is told above; the rest is looked at as on the first day.
        let index: Index = index.unwrap_or_default();

        let (findings, asked) = server::ask(session);
        tally.show(session, &format!("Plex at {}", session.config.plex.url), &findings);
        if let Some(exit) = session.stop.exit() {
            return Ok(exit);
        }
        let opened = roots::open(session.config, &index);
        let items = item::look(session.config, &index, &opened, asked.as_ref());
        for (number, map) in session.config.maps.iter().enumerate() {
            if let Some(exit) = session.stop.exit() {
                return Ok(exit);
            }
            let opened = &opened[number];
            let mut findings = roots::findings(session.config, number, opened, &index);
            // A dry run changes nothing, whatever else is asked for.
            let probe = self.probe && !session.options.dry_run;
            findings.extend(union::findings(session.config, number, opened, &index, probe));
            findings.extend(items.of_map(number));
            tally.show(session, &format!("[[map]] {}: {}", number + 1, map.plex), &findings);
        }
        tally.show(session, "Libraries without a map", &items.unmapped);
        tally.show(session, "This host", &host::others(session.config));
        session.reporter.message(&Message::Checked(tally.checked));
        Ok(match tally.checked {
            Checked { failed: 1.., .. } => Exit::Error,
            Checked { warnings: 1.., .. } if self.strict => Exit::Partial,
            _ => Exit::Ok,
        })
    }
}

/// Shows findings and counts them.
#[derive(Default)]
struct Tally {
    checked: Checked,
}

impl Tally {
    fn show(&mut self, session: &mut Session<'_>, about: &str, findings: &[Finding]) {
        for finding in findings {
            let count = match finding.verdict {
                Verdict::Pass => &mut self.checked.passed,
                Verdict::Warn => &mut self.checked.warnings,
                Verdict::Fail => &mut self.checked.failed,
                Verdict::Skip => &mut self.checked.skipped,
            };
            *count += 1;
        }
        if !findings.is_empty() {
            session.reporter.message(&Message::Checks { about, findings });
        }
    }
}

/// Makes findings.
fn pass(name: &'static str, detail: impl Into<String>) -> Finding {
    Finding { name, verdict: Verdict::Pass, detail: detail.into(), advice: None }
}

fn skip(name: &'static str, detail: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Skip, ..pass(name, detail) }
}

fn warn(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::Warn,
        advice: Some(advice.into()).filter(|text| !text.is_empty()),
        ..pass(name, detail)
    }
}

fn fail(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Fail, ..warn(name, detail, advice) }
}
