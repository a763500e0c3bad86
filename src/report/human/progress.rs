//! What a run shows while it works: a line for every file that is done, and what is going on.
//!
//! On a terminal that is a bar for every file that is copied now and one for all of them, below the finished
//! lines; elsewhere, or where bars cannot be drawn (`TERM=dumb`), at most one line a minute. Lines and bars share
//! standard error, so every line has to go through [`Progress::aside`] while bars are drawn.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use jiff::{SignedDuration, Timestamp};

use super::text::{Look, Paint, columns_of, rate};
use super::titles::of_file;
use crate::config::Placement;
use crate::history::record::{Ended, Outcome};
use crate::plan::{Action, Kind, Plan, Why};
use crate::report::words::{duration, size, size_of, visible, why_words};
use crate::select::FileKey;

/// The most columns that a bar takes besides its title.
const BESIDE_TITLE: usize = 84;

const MINUTE: SignedDuration = SignedDuration::from_secs(60);

/// How far a run is.
pub(super) struct Progress {
    bars: Option<Bars>,
    /// Plain lines in place of bars.
    lines: bool,
    /// Bytes of the whole plan that will be copied, and of those what is behind us.
    total: u64,
    done: u64,
    /// The actions that were started and have not ended, oldest first.
    current: Vec<Current>,
    /// When the last plain line was due.
    last: Option<Timestamp>,
}

struct Current {
    key: FileKey,
    title: String,
    /// Bytes to copy, and those that are done.
    size: u64,
    done: u64,
    number: usize,
    total: usize,
    /// Hidden where there is nothing to show.
    bar: ProgressBar,
}

struct Bars {
    multi: MultiProgress,
    all: ProgressBar,
}

impl Progress {
    /// Nothing but what [`ended`] says.
    pub(super) fn none() -> Self {
        Self { bars: None, lines: false, total: 0, done: 0, current: Vec::new(), last: None }
    }

    /// At most one line a minute.
    pub(super) fn lines() -> Self {
        Self { lines: true, ..Self::none() }
    }

    /// Bars on standard error; lines where it cannot show any.
    pub(super) fn bars() -> Self {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        if multi.is_hidden() {
            return Self::lines();
        }
        Self { bars: Some(Bars { multi, all: ProgressBar::hidden() }), ..Self::none() }
    }

    pub(super) fn plan(&mut self, plan: &Plan) {
        self.total = plan.actions.iter().map(to_copy).fold(0, u64::saturating_add);
        self.done = 0;
    }

    pub(super) fn started(&mut self, action: &Action, number: usize, total: usize, look: &Look) {
        let (key, title, size) = (action.key(), of_file(action), to_copy(action));
        let mut current = Current { key, title, size, done: 0, number, total, bar: ProgressBar::hidden() };
        if let Some(bars) = &mut self.bars {
            current.bar = bars.start(&current, self.total, look);
        }
        self.last.get_or_insert(look.now);
        self.current.push(current);
        self.show_all();
    }

    /// `done` bytes of an action are done. Gives the line that is due, if any.
    pub(super) fn advanced(&mut self, action: &Action, done: u64, look: &Look) -> Option<String> {
        let key = action.key();
        let current = self.current.iter_mut().find(|current| current.key == key)?;
        current.done = done.min(current.size);
        current.bar.set_position(current.done);
        let parts = [size_of(current.done, current.size), format!("file {} of {}", current.number, current.total)];
        let title = current.title.clone();
        let all = self.show_all();
        let is_due = self.last.is_none_or(|last| look.now.duration_since(last) >= MINUTE);
        if !self.lines || !is_due {
            return None;
        }
        self.last = Some(look.now);
        let [part, whole] = parts;
        let parts = [part, whole, format!("{} in all", size_of(all, self.total))];
        Some(format!("  {title}  {}\n", look.join(&parts)))
    }

    pub(super) fn ended(&mut self, action: &Action) {
        let key = action.key();
        self.done = self.done.saturating_add(to_copy(action));
        if let Some(place) = self.current.iter().position(|current| current.key == key) {
            self.current.remove(place).bar.finish_and_clear();
        }
        self.show_all();
    }

    /// Bytes of all actions that are done, which the last bar shows.
    fn show_all(&self) -> u64 {
        let all = self.current.iter().fold(self.done, |sum, current| sum.saturating_add(current.done));
        if let Some(bars) = &self.bars {
            bars.all.set_position(all);
        }
        all
    }

    /// Runs `write`, which may write to the terminal, with the bars out of its way.
    pub(super) fn aside(&self, write: impl FnOnce()) {
        match &self.bars {
            Some(bars) => bars.multi.suspend(write),
            None => write(),
        }
    }

    /// Takes the bars away.
    pub(super) fn finish(&mut self) {
        for current in self.current.drain(..) {
            current.bar.finish_and_clear();
        }
        if let Some(bars) = &self.bars {
            bars.all.finish_and_clear();
        }
    }
}

impl Bars {
    /// The bar of one more file.
    fn start(&mut self, current: &Current, total: u64, look: &Look) -> ProgressBar {
        // A bar that wraps leaves its second line behind when it is redrawn.
        let width = title_width(look).min(look.columns().saturating_sub(BESIDE_TITLE));
        if self.all.is_hidden() {
            self.all = self.multi.add(ProgressBar::new(total).with_style(style()));
            self.all.set_prefix(pad("All files", width));
        }
        self.all.set_message(format!("{} of {}", current.number, current.total));
        if current.size == 0 {
            return ProgressBar::hidden();
        }
        let bar = self.multi.insert_before(&self.all, ProgressBar::new(current.size).with_style(style()));
        bar.set_prefix(pad(&look.fit(&current.title, width), width));
        bar.tick();
        bar
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("  {prefix}  [{bar:20}]  {done}  {rate}  ETA {left}  {msg}")
        .expect("the template is well-formed")
        .progress_chars("#>.")
        .with_key("done", |state: &ProgressState, to: &mut dyn std::fmt::Write| {
            let _ = to.write_str(&size_of(state.pos(), state.len().unwrap_or(0)));
        })
        .with_key("rate", |state: &ProgressState, to: &mut dyn std::fmt::Write| {
            let rate = rate(state.pos(), state.elapsed()).unwrap_or_default();
            let _ = to.write_str(&rate);
        })
        .with_key("left", |state: &ProgressState, to: &mut dyn std::fmt::Write| {
            let _ = to.write_str(&duration(Duration::from_secs(state.eta().as_secs())));
        })
}

/// What carrying out `action` will copy, as far as that can be told before. Bytes.
fn to_copy(action: &Action) -> u64 {
    match (action.kind, action.placement) {
        (Kind::Cache, _) | (Kind::Evict, Placement::Move) => action.size,
        (Kind::Evict, _) => 0,
    }
}

/// Whether an end is trouble, about which even a quiet run speaks. What was left alone because somebody
/// has it open is none.
pub(super) fn is_trouble(ended: &Ended) -> bool {
    match ended.result {
        Outcome::Done => false,
        Outcome::Failed => true,
        Outcome::Skipped => ended.why == Some(Why::Conflict),
    }
}

/// The line of one action that has ended:
/// `+ cached   Severance S02E04    4.3 GiB  23s  187 MiB/s`.
pub(super) fn ended(action: &Action, ended: &Ended, look: &Look) -> String {
    let (sign, verb, paint) = match (ended.result, action.kind) {
        (Outcome::Done, Kind::Cache) => ("+", "cached", Paint::Good),
        (Outcome::Done, Kind::Evict) => ("-", "evicted", Paint::Leaving),
        (Outcome::Failed, _) => ("!", "failed", Paint::Bad),
        (Outcome::Skipped, _) => ("!", "skipped", Paint::Caution),
    };
    let width = title_width(look);
    let title = of_file(action);
    let title = if look.width.is_some() { look.fit(&title, width) } else { title };
    let verb = look.paint(paint, &format!("{sign} {verb:<7}"));
    let mut line = format!("{verb}  {}  {:>9}", pad(&title, width), size(action.size));
    let error = ended.error.as_deref().map(visible);
    if ended.result == Outcome::Done {
        let taken = Duration::from_millis(ended.duration_ms);
        if ended.bytes > 0 {
            let _ = write!(line, "  {}", duration(taken));
            line.extend(rate(ended.bytes, taken).map(|rate| format!("  {rate}")));
        } else if action.kind == Kind::Cache {
            line.push_str("  was there already");
        }
        line.extend(error.map(|note| format!("  ({note})")));
    } else {
        let why = ended.why.map(|why| why_words(why).to_owned());
        let words: Vec<String> = why.into_iter().chain(error).collect();
        let _ = write!(line, "  {}", words.join(": "));
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// `6 cached, 1 failed`; what there is none of is left out.
pub(super) fn counts(counts: &[(u64, &str)]) -> String {
    let words: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if words.is_empty() { "nothing changed".to_owned() } else { words.join(", ") }
}

fn title_width(look: &Look) -> usize {
    (look.columns() * 2 / 5).clamp(16, 36)
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns_of(text))))
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::look;
    use super::*;
    use crate::report::samples::{self, GIB, action, beside};

    fn film() -> Action {
        action(Kind::Cache, "Dune: Part Two (2024)", "movies/Dune/Dune.mkv", "disk1", 20 * GIB)
    }

    #[test]
    fn every_end_of_an_action_has_its_line() {
        let look = look();
        let film = film();
        let evict = action(Kind::Evict, "Severance S02E04", "tv/s02e04.mkv", "disk3", 4 * GIB);
        let sidecar = beside(&film, "movies/Dune/Dune.en.srt", 112 << 10);
        let ended = |action, result, bytes, error| super::ended(action, &samples::ended(result, bytes, error), &look);
        let lines = [
            ended(&film, Outcome::Done, 20 * GIB, None),
            ended(&sidecar, Outcome::Done, 0, None),
            ended(&evict, Outcome::Done, 0, Some("the owner could not be kept")),
            ended(&film, Outcome::Failed, 0, Some("reading: Input/output\nerror")),
            ended(&evict, Outcome::Skipped, 0, Some("pid 7 (ffmpeg)")),
        ];
        let expected = r"
+ cached   Dune: Part Two (2024)                  20.0 GiB  23s  890 MiB/s
+ cached   Dune: Part Two (2024) .en.srt           112 KiB  was there already
- evicted  Severance S02E04                        4.0 GiB  (the owner could not be kept)
! failed   Dune: Part Two (2024)                  20.0 GiB  reading: Input/output\u{a}error
! skipped  Severance S02E04                        4.0 GiB  open: pid 7 (ffmpeg)
";
        assert_eq!(lines.concat(), expected.trim_start());
    }

    #[test]
    fn plain_progress_is_at_most_one_line_a_minute() {
        let mut look = look();
        let mut progress = Progress::lines();
        let plan = Plan { actions: vec![film(), film()], ..Plan::default() };
        progress.plan(&plan);
        progress.started(&plan.actions[0], 1, 2, &look);
        let start = look.now;
        let mut after = |seconds: i64, done: u64| {
            look.now = start + SignedDuration::from_secs(seconds);
            progress.advanced(&plan.actions[0], done, &look)
        };
        assert_eq!(after(59, GIB), None);
        let line = "  Dune: Part Two (2024)  5.0 of 20.0 GiB · file 1 of 2 · 5.0 of 40.0 GiB in all\n";
        assert_eq!(after(60, 5 * GIB).as_deref(), Some(line));
        assert_eq!(after(61, 6 * GIB), None);
        assert_eq!(after(119, 7 * GIB), None);
        assert!(after(120, 8 * GIB).is_some());
    }

    #[test]
    fn without_progress_there_are_no_lines_and_what_ended_counts_as_done() {
        let mut look = look();
        let mut progress = Progress::none();
        let plan = Plan { actions: vec![film()], ..Plan::default() };
        progress.plan(&plan);
        progress.started(&plan.actions[0], 1, 1, &look);
        look.now += MINUTE * 2;
        assert_eq!(progress.advanced(&plan.actions[0], GIB, &look), None);
        progress.ended(&plan.actions[0]);
        assert_eq!((progress.done, progress.total), (20 * GIB, 20 * GIB));
    }
}
