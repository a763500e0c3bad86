//! Text for people.
//!
//! Owns what goes where: the result of a command on standard output, all else on standard error, and of
//! a quiet run nothing unless something is wrong. The texts themselves are made by pure functions of
//! the modules below, from a message and a [`Look`]; this module looks at terminal, environment and clock.

mod check;
mod history;
mod plan;
mod progress;
mod status;
mod summary;
mod table;
mod text;
mod titles;

use std::env;
use std::io;

use console::Term;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::nagios::nagios;
use super::sink::Sink;
use super::{Message, Reporter};
use crate::history::record::{Ended, Outcome};
use crate::plan::{Action, Plan};
use crate::report::words::visible;
use crate::transfer::Settled;
use progress::Progress;
use text::{Look, Paint};

/// `--color`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`; anywhere with `CLICOLOR_FORCE`.
    #[default]
    Auto,
    Always,
    Never,
}

/// How much to say, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct HumanOptions {
    pub color: Color,
    pub quiet: bool,
    pub verbose: u8,
    /// Bars, or a line a minute; false with `--no-progress`.
    pub progress: bool,
}

/// The reporter for people.
pub struct Human {
    out: Sink,
    err: Sink,
    out_look: Look,
    err_look: Look,
    volume: Volume,
    clock: Box<dyn Fn() -> Timestamp + Send>,
    /// Standard error is the journal, which takes a level in front of each line.
    journal: bool,
    progress: Progress,
    /// The plan had nothing to do, and that has been said.
    was_idle: bool,
    /// Failures of a quiet run, kept for the block at its end.
    held: String,
}

/// How much to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Volume {
    Quiet,
    Usual,
    Verbose,
}

/// How serious a line on standard error is, as syslog(3) counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Error = 3,
    Warning = 4,
    Info = 6,
}

impl Human {
    /// Looks at the terminal and the environment.
    pub fn new(options: HumanOptions) -> Self {
        let HumanOptions { color, quiet, verbose, progress } = options;
        let variables = Variables::read(|name| env::var_os(name).and_then(|value| value.into_string().ok()));
        let look = |terminal: &Term| Look {
            color: variables.colors(color, terminal.is_term()),
            utf8: variables.utf8,
            width: terminal.size_checked().filter(|_| terminal.is_term()).map(|(_, columns)| columns.max(20).into()),
            now: Timestamp::now(),
            zone: TimeZone::system(),
        };
        let stderr = Term::stderr();
        Self {
            out: Sink::stdout(),
            err: Sink::stderr(),
            out_look: look(&Term::stdout()),
            err_look: look(&stderr),
            volume: match (quiet, verbose) {
                (true, _) => Volume::Quiet,
                (false, 0) => Volume::Usual,
                (false, _) => Volume::Verbose,
            },
            clock: Box::new(Timestamp::now),
            journal: is_journal(variables.journal.as_deref()),
            progress: match progress && !quiet {
                false => Progress::none(),
                true if stderr.is_term() && !variables.dumb => Progress::bars(),
                true => Progress::lines(),
            },
            was_idle: false,
            held: String::new(),
        }
    }

    fn is_quiet(&self) -> bool {
        self.volume == Volume::Quiet
    }

    fn print(&mut self, text: &str) {
        let Self { out, progress, .. } = self;
        progress.aside(|| out.write(text));
    }

    fn tell(&mut self, level: Level, text: &str) {
        let prefix = if self.journal { format!("<{}>", level as u8) } else { String::new() };
        let text: String = text.lines().flat_map(|line| [prefix.as_str(), line, "\n"]).collect();
        let Self { err, progress, .. } = self;
        progress.aside(|| err.write(&text));
    }

    fn tell_with_hint(&mut self, level: Level, paint: Paint, word: &str, text: &str, hint: Option<&str>) {
        let look = &self.err_look;
        let mut lines = format!("{} {}\n", look.paint(paint, word), paragraph(text));
        lines.extend(hint.map(|hint| format!("{} {}\n", look.paint(Paint::Strong, "hint:"), paragraph(hint))));
        self.tell(level, &lines);
    }

    fn plan(&mut self, plan: &Plan, dry_run: bool, context: &super::PlanContext) {
        self.was_idle = plan.actions.is_empty();
        self.progress.plan(plan);
        if !self.is_quiet() || dry_run {
            let text = plan::render(plan, dry_run, context, self.volume == Volume::Verbose, &self.out_look);
            self.print(&text);
        }
    }

    fn ended(&mut self, action: &Action, ended: &Ended) {
        self.progress.ended(action);
        let is_trouble = progress::is_trouble(ended);
        let line = progress::ended(action, ended, &self.err_look);
        match (self.is_quiet(), is_trouble) {
            (false, true) => self.tell(Level::Warning, &line),
            (false, false) => self.tell(Level::Info, &line),
            (true, true) => self.held.push_str(&line),
            (true, false) => {}
        }
    }

    fn settled(&mut self, settled: &Settled) {
        let what = format!("what run {} left unfinished: {}", settled.run, titles::of_file(&settled.action));
        let is_well = settled.ended.is_ok();
        if is_well && self.is_quiet() {
            return;
        }
        let outcome = match &settled.ended {
            Err(why) => visible(why),
            Ok(ended) => match (ended.result, ended.error.as_deref().map(visible)) {
                (Outcome::Done, None) => "finished".to_owned(),
                (Outcome::Done, Some(note)) => format!("finished ({note})"),
                (_, Some(error)) => error,
                (_, None) => "taken back".to_owned(),
            },
        };
        if is_well {
            self.tell(Level::Info, &format!("settled {what}: {outcome}"));
        } else {
            self.tell(Level::Warning, &format!("cannot settle {what}: {outcome}"));
        }
    }

    fn summary(&mut self, summary: &super::Summary) {
        self.progress.finish();
        let held = std::mem::take(&mut self.held);
        let is_news = !summary.failures.is_empty() || summary.finished.error.is_some();
        let is_idle = self.was_idle && summary.exit == crate::exit::Exit::Ok;
        if self.is_quiet() {
            let text = summary::render_quiet(summary);
            self.tell(Level::Warning, if text.is_empty() { &held } else { &text });
        } else if is_news || !(summary.dry_run || is_idle) {
            let text = summary::render(summary, &self.out_look);
            self.print(&text);
        }
    }

    /// What a run that ends without a summary owes its reader.
    fn give_up_held(&mut self) {
        self.progress.finish();
        let held = std::mem::take(&mut self.held);
        self.tell(Level::Warning, &held);
    }
}

impl Reporter for Human {
    fn message(&mut self, message: &Message<'_>) {
        let now = (self.clock)();
        self.out_look.now = now;
        self.err_look.now = now;
        let look = self.out_look.clone();
        match message {
            Message::Plan { plan, dry_run, context } => self.plan(plan, *dry_run, context),
            Message::Started { action, number, total } => {
                self.progress.started(action, *number, *total, &self.err_look);
            }
            Message::Progress { action, done } => {
                if let Some(line) = self.progress.advanced(action, *done, &self.err_look) {
                    self.tell(Level::Info, &line);
                }
            }
            Message::Ended { action, ended } => self.ended(action, ended),
            Message::Settled(settled) => self.settled(settled),
            Message::Warning { text, hint } => {
                self.tell_with_hint(Level::Warning, Paint::Caution, "warning:", text, *hint);
            }
            Message::Note(_) | Message::Checked(_) if self.is_quiet() => {}
            Message::Note(text) => self.tell(Level::Info, &paragraph(text)),
            Message::Summary(summary) => self.summary(summary),
            Message::Status(status) if self.is_quiet() => self.print(&status::health(status, &look)),
            Message::Status(status) => self.print(&status::render(status, &look)),
            Message::Why(why) => {
                let lines: Vec<String> = why.lines.iter().map(|line| visible(line) + "\n").collect();
                self.print(&lines.concat());
            }
            Message::Runs(runs) => self.print(&history::runs(runs, &look)),
            Message::Run(run) => self.print(&history::run(run, &look)),
            Message::Csv(runs) => self.print(&history::csv(runs)),
            Message::Stats(stats) => self.print(&history::stats(stats, &look)),
            Message::Nagios(status) => self.print(&(nagios(status) + "\n")),
            Message::Checks { about, findings } => {
                let quiet = self.is_quiet();
                self.print(&check::group(about, findings, quiet, &look));
            }
            Message::Checked(checked) => self.print(&check::counts(*checked, &look)),
            Message::Configuration { file, text } => {
                self.tell(Level::Info, &visible(&format!("This would be {file}:")));
                self.print(&(paragraph(text) + "\n"));
            }
            Message::Error { message, hint, exit: _ } => {
                self.give_up_held();
                self.tell_with_hint(Level::Error, Paint::Bad, "error:", message, *hint);
            }
        }
    }
}

impl Drop for Human {
    fn drop(&mut self) {
        self.give_up_held();
    }
}

/// Foreign text that may have line ends of its own (a list of what is wrong): these stay.
fn paragraph(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(visible).collect();
    lines.join("\n")
}

/// What the environment says about the output.
struct Variables {
    /// `NO_COLOR` set to anything (no-color.org) says no, else `CLICOLOR_FORCE` set to anything but 0
    /// (bixense.com/clicolors) says yes.
    color: Option<bool>,
    /// `TERM` is `dumb` or absent.
    dumb: bool,
    /// The locale is one of UTF-8.
    utf8: bool,
    /// `JOURNAL_STREAM`.
    journal: Option<String>,
}

impl Variables {
    fn read(get: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        // The first of these that is set decides (locale(7)).
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| get(name)).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        Self {
            color: match get("NO_COLOR") {
                Some(_) => Some(false),
                None => get("CLICOLOR_FORCE").filter(|value| value != "0").map(|_| true),
            },
            dumb: get("TERM").is_none_or(|term| term == "dumb"),
            utf8: locale.contains("utf-8") || locale.contains("utf8"),
            journal: get("JOURNAL_STREAM"),
        }
    }

    fn colors(&self, color: Color, is_terminal: bool) -> bool {
        match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => self.color.unwrap_or(is_terminal && !self.dumb),
        }
    }
}

/// Whether standard error is what systemd connected to the journal: `JOURNAL_STREAM` is then its device
/// and inode number, `8:4711` (systemd.exec(5)).
fn is_journal(variable: Option<&str>) -> bool {
    let Some(variable) = variable else { return false };
    rustix::fs::fstat(io::stderr()).is_ok_and(|stat| variable == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::text::tests::look;
    use super::*;
    use crate::exit::Exit;
    use crate::history::record::RunOutcome;
    use crate::plan::{Kind, Why};
    use crate::report::samples::{self, GIB, action, context, plan};
    use crate::report::{PlanContext, Summary};

    type Pairs = &'static [(&'static str, &'static str)];

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What came out on standard output and standard error.
    fn said(quiet: bool, messages: &[Message<'_>]) -> (String, String) {
        said_by(|human| human.volume = if quiet { Volume::Quiet } else { Volume::Usual }, messages)
    }

    fn said_by(set: impl FnOnce(&mut Human), messages: &[Message<'_>]) -> (String, String) {
        let (out, err) = (Written::default(), Written::default());
        let mut human = Human {
            out: Sink::new(Box::new(out.clone()), "out"),
            err: Sink::new(Box::new(err.clone()), "err"),
            out_look: look(),
            err_look: look(),
            volume: Volume::Usual,
            clock: Box::new(|| look().now),
            journal: false,
            progress: Progress::none(),
            was_idle: false,
            held: String::new(),
        };
        set(&mut human);
        for message in messages {
            human.message(message);
        }
        drop(human);
        (out.text(), err.text())
    }

    fn planned<'a>(plan: &'a Plan, dry_run: bool, context: &'a PlanContext) -> Message<'a> {
        Message::Plan { plan, dry_run, context }
    }

    #[test]
    fn a_preview_is_for_standard_output_and_a_quiet_run_has_none() {
        let (plan, context) = (plan(), context("sync"));
        let messages = [planned(&plan, false, &context)];
        let expected = plan::render(&plan, false, &context, false, &look());
        assert_eq!(said(false, &messages), (expected, String::new()));
        assert_eq!(said(true, &messages), (String::new(), String::new()));
        let expected = plan::render(&plan, false, &context, true, &look());
        assert_eq!(said_by(|human| human.volume = Volume::Verbose, &messages).0, expected);
    }

    #[test]
    fn a_dry_run_is_a_result_which_a_quiet_run_shows_too() {
        let (plan, context) = (plan(), context("sync"));
        let mut summary = samples::summary(samples::finished(RunOutcome::Ok, 0, 0, 0), Exit::Changes);
        (summary.run, summary.dry_run) = (None, true);
        let messages = [planned(&plan, true, &context), Message::Summary(&summary)];
        let expected = plan::render(&plan, true, &context, false, &look());
        assert_eq!(said(false, &messages), (expected.clone(), String::new()));
        assert_eq!(said(true, &messages), (expected, String::new()));
    }

    #[test]
    fn with_nothing_to_do_one_line_is_all() {
        let plan = Plan { kept_files: 37, ..Plan::default() };
        let context = PlanContext { server: None, ..context("sync") };
        let summary = samples::summary(samples::finished(RunOutcome::Ok, 0, 0, 0), Exit::Ok);
        let messages = [planned(&plan, false, &context), Message::Summary(&summary)];
        let expected = "Nothing to do: 37 files (217.0 GiB) are on the cache and wanted.\n";
        assert_eq!(said(false, &messages), (expected.to_owned(), String::new()));
        assert_eq!(said(true, &messages), (String::new(), String::new()));
    }

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        let mut hostile = action(Kind::Cache, "\u{1b}[2JEvil\u{202e}", "a\u{7}/\nb.mkv", "disk1\u{1b}", GIB);
        hostile.reasons = samples::why(crate::select::Source::OnDeck, &["an\rna"]);
        let mut context = context("sync");
        context.server.as_mut().unwrap().version.push('\u{9b}');
        context.pools[0].cache_root = "/mnt/\u{1b}c".into();
        let plan = Plan {
            actions: vec![hostile.clone()],
            skipped: vec![samples::skip("t\u{2066}", "x", 1, Why::Open, "pid 1 (\u{1b}]0;x\u{7})")],
            kept_files: 0,
        };
        let failed = samples::ended(Outcome::Failed, 0, Some("no\u{8}"));
        let nameless = Action { title: " ".into(), ..hostile.clone() };
        let mut summary = samples::summary(samples::finished(RunOutcome::Partial, 0, 0, 1), Exit::Partial);
        summary.failures = vec![("\u{1b}".to_owned(), "\u{85}".to_owned())];
        let mut status = samples::status();
        Arc::make_mut(&mut status.files[0].cached).action = hostile.clone();
        status.tiers[0].cache_root = "\u{1b}".into();
        let mut runs = samples::runs();
        runs[1].started.command = "\u{1b}".to_owned();
        runs[1].started.options = vec!["\u{1b}".to_owned()];
        runs[1].actions[0].action = hostile.clone();
        let why = crate::report::Why { asked: String::new(), file: None, lines: vec!["\u{1b}".to_owned()] };
        let (out, err) = said(
            false,
            &[
                planned(&plan, false, &context),
                Message::Ended { action: &hostile, ended: &failed },
                Message::Ended { action: &nameless, ended: &failed },
                Message::Warning { text: "\u{1b}", hint: Some("\u{202e}") },
                Message::Note("\u{1b}"),
                Message::Summary(&summary),
                Message::Status(&status),
                Message::Runs(&runs),
                Message::Run(&runs[1]),
                Message::Why(&why),
                Message::Error { message: "\u{1b}", hint: None, exit: Exit::Error },
            ],
        );
        let steers = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2066}".contains(c);
        assert!(!out.contains(steers), "{out}");
        assert!(!err.contains(steers), "{err}");
        let row = r"  + cache  \u{1b}[2JEvil\u{202e}  1.0 GiB  on deck: an\u{d}na  disk1\u{1b}";
        assert!(out.lines().any(|line| line == row), "{out}");
        assert!(err.contains(r"! failed   a\u{7}/\u{a}b.mkv "), "{err}");
    }

    fn failing() -> (Action, Ended, Summary) {
        let action = action(Kind::Cache, "Severance S02E06", "tv/s02e06.mkv", "disk3", 4 * GIB);
        let ended = samples::ended(Outcome::Failed, 0, Some("changed while copying"));
        let mut summary = samples::summary(samples::finished(RunOutcome::Partial, 6, 0, 1), Exit::Partial);
        summary.failures = vec![("Severance S02E06".to_owned(), "changed while copying".to_owned())];
        (action, ended, summary)
    }

    #[test]
    fn a_quiet_run_tells_each_failure_once_on_standard_error() {
        let (action, ended, summary) = failing();
        let open = samples::ended(Outcome::Skipped, 0, Some("pid 1"));
        let messages = [
            Message::Ended { action: &action, ended: &ended },
            Message::Ended { action: &action, ended: &open },
            Message::Note("all is well"),
            Message::Summary(&summary),
        ];
        let expected = "\
plexcache: 1 of 7 files failed (exit 3, run 214)
  Severance S02E06: changed while copying
";
        assert_eq!(said(true, &messages), (String::new(), expected.to_owned()));
    }

    #[test]
    fn a_quiet_run_without_an_end_still_tells_its_failures() {
        let (action, ended, _) = failing();
        let ended = Message::Ended { action: &action, ended: &ended };
        let line = "! failed   Severance S02E06                        4.0 GiB  changed while copying\n";
        assert_eq!(said(true, &[ended]), (String::new(), line.to_owned()));
    }

    #[test]
    fn without_a_terminal_every_end_is_a_line_on_standard_error() {
        let (action, _, summary) = failing();
        let done = samples::ended(Outcome::Done, 4 * GIB, None);
        let (out, err) = said(false, &[Message::Ended { action: &action, ended: &done }, Message::Summary(&summary)]);
        assert_eq!(err, "+ cached   Severance S02E06                        4.0 GiB  23s  178 MiB/s\n");
        let done = "\
Done  6 cached (24.0 GiB) · 1 failed in 3m52s      run 214, undo: plexcache undo 214
  Severance S02E06: changed while copying
";
        assert_eq!(out, done);
    }

    #[test]
    fn warnings_and_errors_go_to_standard_error_even_when_quiet() {
        let messages = [
            Message::Warning { text: "the feed is slow", hint: Some("raise timeout") },
            Message::Error { message: "two things:\n  one", hint: Some("try again"), exit: Exit::Error },
        ];
        let expected = "\
warning: the feed is slow
hint: raise timeout
error: two things:
  one
hint: try again
";
        assert_eq!(said(true, &messages), (String::new(), expected.to_owned()));
        let (_, journal) = said_by(|human| human.journal = true, &messages);
        let expected = "\
<4>warning: the feed is slow
<4>hint: raise timeout
<3>error: two things:
<3>  one
<3>hint: try again
";
        assert_eq!(journal, expected);
    }

    #[test]
    fn what_was_settled_is_news_unless_it_failed_and_then_it_is_a_warning() {
        let (action, failed, _) = failing();
        let settled = |ended| Settled { run: 213, action: action.clone(), ended };
        let done = settled(Ok(samples::ended(Outcome::Done, 0, None)));
        let back = settled(Ok(Ended { result: Outcome::Skipped, ..failed }));
        let lost = settled(Err("its disk is not among the configured ones".to_owned()));
        let messages = [Message::Settled(&done), Message::Settled(&back), Message::Settled(&lost)];
        let expected = "\
settled what run 213 left unfinished: Severance S02E06: finished
settled what run 213 left unfinished: Severance S02E06: changed while copying
cannot settle what run 213 left unfinished: Severance S02E06: its disk is not among the configured ones
";
        assert_eq!(said(false, &messages).1, expected);
        assert_eq!(said(true, &messages).1.lines().count(), 1);
    }

    #[test]
    fn a_quiet_status_is_what_is_wrong() {
        let mut status = samples::status();
        assert_eq!(said(true, &[Message::Status(&status)]), (String::new(), String::new()));
        status.health.push("no run for 3 days".to_owned());
        assert_eq!(said(true, &[Message::Status(&status)]).0, "Health  no run for 3 days\n");
    }

    #[test]
    fn the_environment_and_the_flag_decide_on_colours() {
        let variables = |pairs: Pairs| {
            Variables::read(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        let auto: &[(Pairs, bool, bool)] = &[
            (&[("TERM", "xterm")], true, true),
            (&[("TERM", "xterm")], false, false),
            (&[("TERM", "dumb")], true, false),
            (&[], true, false),
            (&[("TERM", "xterm"), ("NO_COLOR", "1")], true, false),
            (&[("TERM", "xterm"), ("NO_COLOR", "")], true, true),
            (&[("CLICOLOR_FORCE", "1")], false, true),
            (&[("CLICOLOR_FORCE", "0")], false, false),
            (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false, false),
        ];
        for (pairs, is_terminal, expected) in auto {
            assert_eq!(variables(pairs).colors(Color::Auto, *is_terminal), *expected, "{pairs:?}");
            assert!(variables(pairs).colors(Color::Always, *is_terminal));
            assert!(!variables(pairs).colors(Color::Never, *is_terminal));
        }
    }

    #[test]
    fn the_first_locale_variable_that_is_set_decides_on_utf8() {
        let table: &[(Pairs, bool)] = &[
            (&[], false),
            (&[("LANG", "de_DE.UTF-8")], true),
            (&[("LANG", "C.utf8")], true),
            (&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")], false),
            (&[("LC_ALL", ""), ("LC_CTYPE", "en_US.UTF-8"), ("LANG", "C")], true),
        ];
        for (pairs, utf8) in table {
            let get = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(Variables::read(get).utf8, *utf8, "{pairs:?}");
        }
    }

    #[test]
    fn only_the_very_stream_of_the_journal_is_the_journal() {
        let stat = rustix::fs::fstat(io::stderr()).unwrap();
        let own = format!("{}:{}", stat.st_dev, stat.st_ino);
        assert!(is_journal(Some(&own)));
        assert!(!is_journal(Some(&format!("{own}1"))));
        assert!(!is_journal(None));
    }
}
