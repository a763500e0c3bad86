//! The subcommands: each a command object, built from arguments and configuration, run synchronously.
//!
//! Owns the [`Session`] that they share, and in it the one door to the files: `Changes::apply`. A dry
//! run goes through the same code up to that door, prints the plan there and stops. Everything that
//! must hold before a file is changed (the lock, the history, the roots, nothing else at work on the
//! disks, interrupted actions settled) is seen to by `Session::begin`.

mod adopt;
mod check;
mod evict;
mod history;
mod init;
mod lanes;
mod sidecar;
mod status;
mod survey;
mod sync;
mod undo;
mod verify;

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use camino::Utf8Path;

use self::lanes::{Limit, Work};
use self::verify::Proof;
use crate::config::{self, Config, HostTask};
use crate::exit::Exit;
use crate::history::record::{Ended, Event, Outcome, RunFinished, RunOutcome, RunStarted};
use crate::history::{self as log, History, HistoryError, Index};
use crate::household::Trouble;
use crate::plan::{Action, Cached, CopyState, Kind, Plan, Pool, Why};
use crate::report::{Message, PlanContext, PoolLine, Reporter, Summary};
use crate::signal::StopFlag;
use crate::state::{Lock, LockError, StateDir};
use crate::tier::{InTurn, Leniency, MARKER, OpenFiles, Tiers, host};
use crate::transfer::{CopyOptions, MarkError, Options, Settled, Stop, Transfer, Verify};

pub use adopt::Adopt;
pub use check::Check;
pub use evict::{Evict, Selection};
pub use history::{Filter, Listing, ShowHistory};
pub use init::{Init, Setup, TokenFrom};
pub use status::ShowStatus;
pub use sync::Sync;
pub use undo::Undo;

/// One subcommand with its settings resolved.
pub trait Command {
    /// The name that the history keeps, such as `sync`.
    fn name(&self) -> &'static str;

    /// Does it.
    ///
    /// # Errors
    /// What stopped it; a [`Failure`] in the chain says with which exit status.
    fn run(&self, session: &mut Session<'_>) -> anyhow::Result<Exit>;
}

/// An error that is the end of a command, with the exit status and the way out.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    fn new(exit: Exit, message: impl Into<String>, hint: Option<&str>) -> Self {
        Self { exit, message: message.into(), hint: hint.map(str::to_owned) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<config::ConfigError> for Failure {
    fn from(error: config::ConfigError) -> Self {
        let exit = if error.is_permission_denied() { Exit::Permission } else { Exit::Config };
        Self::new(exit, error.to_string(), error.hint())
    }
}

/// What the command line says about how to run.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct RunOptions {
    pub dry_run: bool,
    pub yes: bool,
    /// Nobody can answer a question.
    pub no_input: bool,
    /// For the lock.
    pub wait: Duration,
    /// Bytes a second.
    pub bwlimit: Option<u64>,
    /// Bytes.
    pub max_transfer: Option<u64>,
    pub max_duration: Option<Duration>,
    pub exit_code: bool,
    /// As typed, for the history.
    pub typed: Vec<String>,
}

/// What every command works with.
pub struct Session<'a> {
    pub config: &'a Config,
    pub environment: &'a config::Environment,
    pub state: StateDir,
    pub reporter: &'a mut dyn Reporter,
    pub stop: StopFlag,
    pub options: RunOptions,
}

/// A command that may change something, between its beginning and its end.
pub(crate) struct Changes {
    pub(crate) tiers: Tiers,
    /// `None` in a dry run, which holds no lock and writes nothing.
    log: Option<(Lock, History)>,
    /// Of a dry run; the others have that of the history.
    index: Index,
    /// Two configurations with one cache keep each other out by these.
    root_locks: Vec<Lock>,
    started: Instant,
    /// What could not be read or done besides the actions: the run is partial.
    problems: Vec<Trouble>,
    /// Whether Plex can read what is cached; `None` where it is not to be asked.
    proof: Option<Proof>,
}

/// What a run is recorded as.
#[derive(Debug, Default)]
struct Begin {
    command: &'static str,
    undo_of: Vec<u64>,
    hold: Option<Duration>,
}

impl Session<'_> {
    pub(crate) fn warn(&mut self, text: &str) {
        self.reporter.message(&Message::Warning { text, hint: None });
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.reporter.message(&Message::Note(text));
    }

    /// What is open on this host; nothing where the configuration says that it does not matter.
    fn open_files(&self) -> OpenFiles {
        if self.config.safety.skip_open_files { OpenFiles::scan() } else { OpenFiles::default() }
    }

    /// Asks whether to go on. Nobody there to answer is an error, not a yes.
    fn confirm(&mut self, question: &str) -> anyhow::Result<bool> {
        if self.options.yes || self.options.dry_run {
            return Ok(true);
        }
        if self.options.no_input || !std::io::stdin().is_terminal() {
            let message = format!("{question} There is no terminal to ask on");
            return Err(Failure::new(Exit::Usage, message, Some("add --yes")).into());
        }
        self.note(&format!("{question} [y/N]"));
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).context("reading the answer")?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// Sees to everything that must hold before a file may be changed, and settles what an earlier run
    /// left unfinished. In a dry run only looks.
    fn begin(&mut self, begin: &Begin) -> anyhow::Result<Changes> {
        let started = Instant::now();
        let waits = self.waits();
        let mut log = None;
        let index = if self.options.dry_run {
            log::load(&self.state).map_err(history_failure)?
        } else {
            let lock = self.state.lock(&waits).map_err(|error| self.lock_failure(&error))?;
            let history = History::open(&self.state, self.run_started(begin)).map_err(history_failure)?;
            if history.torn > 0 {
                let torn = self.state.file("history.torn");
                self.warn(&format!("the last record was torn by a crash; its {} bytes are in {torn}", history.torn));
            }
            log = Some((lock, history));
            Index::default()
        };
        let leniency = Leniency { same_device: self.config.safety.allow_same_device, changed_roots: self.options.yes };
        let known = log.as_ref().map_or(&index, |(_, history)| history.index());
        let checked = Tiers::open(&self.config.maps, &known.roots, leniency)
            .map_err(|error| Failure::new(Exit::Refused, error.to_string(), Some(error.hint())))
            .and_then(|tiers| self.check_host().map(|()| tiers))
            .and_then(|tiers| self.check_vanished(&tiers, known).map(|()| tiers));
        let tiers = match checked {
            Ok(tiers) => tiers,
            Err(failure) => return Err(record_refusal(log, failure)),
        };
        let mut changes =
            Changes { tiers, log, index, root_locks: Vec::new(), started, problems: Vec::new(), proof: None };
        if let Err(failure) = self.take_roots(&mut changes, &waits) {
            return Err(record_refusal(changes.log, failure));
        }
        self.settle(&mut changes)?;
        Ok(changes)
    }

    fn run_started(&self, begin: &Begin) -> RunStarted {
        let uname = rustix::system::uname();
        RunStarted {
            command: begin.command.to_owned(),
            options: self.options.typed.clone(),
            trigger: trigger().to_owned(),
            host: uname.nodename().to_string_lossy().into_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            undo_of: begin.undo_of.clone(),
            hold_seconds: begin.hold.map(|hold| i64::try_from(hold.as_secs()).unwrap_or(i64::MAX)),
        }
    }

    fn check_host(&self) -> Result<(), Failure> {
        let (message, hint) = match host::running(&self.config.safety.refuse_while) {
            None => return Ok(()),
            Some(HostTask::Mover) => ("Unraid's mover is running", "wait for it, or schedule this at another time"),
            Some(HostTask::ParityCheck) => {
                ("a parity check is running", "wait for it, or take parity-check out of safety.refuse_while")
            }
        };
        Err(Failure::new(Exit::Refused, message, Some(hint)))
    }

    /// Many files gone at once is a disk or a mistake, never an ordinary day.
    fn check_vanished(&self, tiers: &Tiers, index: &Index) -> Result<(), Failure> {
        let mut in_turn = InTurn::default();
        let is_gone = |cached: &&Arc<Cached>| {
            let Some(root) = tiers.root(&cached.action.cache_root) else { return false };
            matches!(survey::state_in_turn(&mut in_turn, &root.folder, cached), Ok((CopyState::Gone, _)))
        };
        let (known, gone) = (index.cached.len(), index.cached.values().filter(is_gone).count());
        if gone > 10 && gone * 5 > known && !self.options.yes {
            let message = format!("{gone} of {known} cached files have vanished from the cache");
            let hint = "look at the cache disk. If they were removed on purpose, run once with --yes";
            return Err(Failure::new(Exit::Refused, message, Some(hint)));
        }
        Ok(())
    }

    /// Makes the roots known and keeps every other run away from the caches, those with another state
    /// directory too. A dry run does neither.
    fn take_roots(&self, changes: &mut Changes, waits: impl Fn() -> bool) -> Result<(), Failure> {
        let Some((_, history)) = &mut changes.log else { return Ok(()) };
        let mut transfer = Transfer::new(&changes.tiers, history, transfer_options(self.config, &self.options));
        transfer.mark_new_roots().map_err(mark_failure)?;
        for root in changes.tiers.maps.iter().map(|map| &map.cache) {
            let path = root.path.join(MARKER);
            let lock = match root.folder.open(MARKER) {
                Ok(file) => Lock::take(file, path, &waits),
                Err(source) => Err(LockError::Io { path, source }),
            };
            changes.root_locks.push(lock.map_err(|error| self.lock_failure(&error))?);
        }
        Ok(())
    }

    /// How long to wait for a lock: up to `--wait`, and not when asked to stop.
    fn waits(&self) -> impl Fn() -> bool + use<> {
        let (until, stop) = (Instant::now().checked_add(self.options.wait), self.stop.clone());
        move || !stop.is_raised() && until.is_none_or(|until| Instant::now() < until)
    }

    fn lock_failure(&self, error: &LockError) -> Failure {
        let (exit, hint) = match error {
            LockError::Held(_) => match self.stop.exit() {
                Some(exit) => (exit, None),
                None => (Exit::Locked, Some("wait for it with --wait")),
            },
            LockError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                (Exit::Permission, Some(STATE_DENIED))
            }
            LockError::Io { .. } => (Exit::Error, Some(STATE_UNWRITABLE)),
        };
        Failure::new(exit, error.to_string(), hint)
    }

    fn settle(&mut self, changes: &mut Changes) -> anyhow::Result<()> {
        let Some((_, history)) = &mut changes.log else {
            if !changes.index.open.is_empty() {
                let open = changes.index.open.len();
                self.note(&format!("{open} interrupted actions will be settled first"));
            }
            return Ok(());
        };
        let transfer = Transfer::new(&changes.tiers, history, transfer_options(self.config, &self.options));
        let stop = self.stop.clone();
        let mut watch = move |_| if stop.is_raised() { ControlFlow::Break(Stop) } else { ControlFlow::Continue(()) };
        for settled in transfer.settle(&mut watch).map_err(history_failure)? {
            self.reporter.message(&Message::Settled(&settled));
            let Settled { run, action, ended } = settled;
            if let Err(why) = ended {
                changes.problem(format!("what run {run} left of {} is not settled yet: {why}", action.path));
            }
        }
        Ok(())
    }
}

/// A refused run is worth a line in the history: `status` shows it.
fn record_refusal(log: Option<(Lock, History)>, failure: Failure) -> anyhow::Error {
    if let Some((_lock, mut history)) = log {
        let finished = RunFinished::failed(RunOutcome::Refused, failure.message.clone());
        match history.record(Event::RunFinished(finished)) {
            Ok(()) => history.save_index(),
            Err(error) => return history_failure(error),
        }
    }
    failure.into()
}

impl Changes {
    pub(crate) fn index(&self) -> &Index {
        self.log.as_ref().map_or(&self.index, |(_, history)| history.index())
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.log.is_none()
    }

    pub(crate) fn prove(&mut self, proof: Proof) {
        self.proof = Some(proof);
    }

    pub(crate) fn problem(&mut self, text: impl Into<String>) {
        self.trouble(Trouble { text: text.into(), hint: None });
    }

    /// The same with a way out.
    pub(crate) fn trouble(&mut self, trouble: Trouble) {
        self.problems.push(trouble);
    }

    /// Ends a run that could not make a plan, so that the history tells of it.
    pub(crate) fn fail(mut self, error: anyhow::Error) -> anyhow::Error {
        if let Some((_, history)) = &mut self.log {
            let finished = RunFinished::failed(RunOutcome::Failed, format!("{error:#}"));
            if let Err(error) = history.record(Event::RunFinished(finished)) {
                return history_failure(error);
            }
            history.save_index();
        }
        error
    }

    /// The one door: shows the plan, and unless this is a dry run carries it out.
    ///
    /// # Errors
    /// Only when the history cannot be written. Trouble with single files is in the summary.
    pub(crate) fn apply(
        mut self,
        session: &mut Session<'_>,
        plan: Plan,
        context: &PlanContext,
        question: Option<&str>,
    ) -> anyhow::Result<Exit> {
        session.reporter.message(&Message::Plan { plan: &plan, dry_run: self.is_dry_run(), context });
        for Trouble { text, hint } in &self.problems {
            session.reporter.message(&Message::Warning { text, hint: hint.as_deref() });
        }
        let mut tally = Tally::new(&plan, !self.problems.is_empty());
        let Some((_lock, mut history)) = self.log.take() else {
            let exit = match tally.exit() {
                Exit::Ok if session.options.exit_code && !plan.actions.is_empty() => Exit::Changes,
                exit => exit,
            };
            // What would be done, so that a dry run and the real one end with the same figures.
            for action in &plan.actions {
                tally.count(action, Outcome::Done);
            }
            let summary = tally.summary(None, context.command, self.started, exit, 0);
            session.reporter.message(&Message::Summary(&summary));
            return Ok(exit);
        };
        if let Some(question) = question.filter(|_| !plan.actions.is_empty()) {
            let answer = session.confirm(question);
            if !matches!(answer, Ok(true)) {
                // What was settled at the beginning is on record, and so is the run.
                if history.is_recorded() {
                    let finished = RunFinished::failed(RunOutcome::Stopped, "nobody said yes".to_owned());
                    history.record(Event::RunFinished(finished)).map_err(history_failure)?;
                    history.save_index();
                }
                answer?;
                session.note("Nothing was changed.");
                return Ok(Exit::Ok);
            }
        }
        let not_started = self.carry_out(session, &mut history, plan.actions, &mut tally)?;
        let exit = session.stop.exit().unwrap_or(tally.exit());
        let summary = tally.summary(Some(history.run()), context.command, self.started, exit, not_started);
        // The reader has seen the problems as warnings; the history has to tell them later.
        let finished = RunFinished { error: in_short(&self.problems), ..summary.finished.clone() };
        history.record(Event::RunFinished(finished)).map_err(history_failure)?;
        history.save_index();
        session.reporter.message(&Message::Summary(&summary));
        Ok(exit)
    }

    /// Performs the actions of the plan, and says how many were never begun.
    fn carry_out(
        &mut self,
        session: &mut Session<'_>,
        history: &mut History,
        actions: Vec<Action>,
        tally: &mut Tally,
    ) -> anyhow::Result<usize> {
        let options = transfer_options(session.config, &session.options);
        let work = Work {
            tiers: &self.tiers,
            transfer: &Transfer::new(&self.tiers, history, options),
            stop: &session.stop,
            proof: self.proof.as_ref(),
            // One lane keeps a pace by itself.
            jobs: options.copy.bytes_per_second.is_none().then_some(session.config.transfer.jobs.into()),
        };
        let limit = Limit::new(&session.options, self.started);
        let done = lanes::carry_out(&work, actions, limit, session.reporter, tally).map_err(history_failure)?;
        self.problems.extend(done.problems);
        Ok(done.not_started)
    }
}

/// The problems of a run as one text, the first of many.
fn in_short(problems: &[Trouble]) -> Option<String> {
    const TOLD: usize = 5;
    let more = problems.len().saturating_sub(TOLD);
    let more = (more > 0).then(|| format!("and {more} more"));
    let told: Vec<String> = problems.iter().take(TOLD).map(|problem| problem.text.clone()).chain(more).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Counts what came of a plan.
struct Tally {
    finished: RunFinished,
    failures: Vec<(String, String)>,
    partial: bool,
    /// Plex could read nothing of what was cached.
    refused: bool,
}

impl Tally {
    fn new(plan: &Plan, partial: bool) -> Self {
        let mut finished = RunFinished::default();
        let mut failures = Vec::new();
        for skip in &plan.skipped {
            finished.skipped.add(skip.size);
            if is_trouble(skip.why) {
                failures.push((skip.path.clone(), skip.detail.clone()));
            }
        }
        Self { partial: partial || !failures.is_empty(), finished, failures, refused: false }
    }

    fn count(&mut self, action: &Action, outcome: Outcome) {
        let count = match (outcome, action.kind) {
            (Outcome::Done, Kind::Cache) => &mut self.finished.cached,
            (Outcome::Done, Kind::Evict) => &mut self.finished.evicted,
            (Outcome::Failed, _) => &mut self.finished.failed,
            (Outcome::Skipped, _) => &mut self.finished.skipped,
        };
        count.add(action.size);
    }

    fn ended(&mut self, action: &Action, ended: &Ended) {
        self.count(action, ended.result);
        let is_trouble = match ended.result {
            Outcome::Done => false,
            Outcome::Failed => true,
            Outcome::Skipped => ended.why.is_some_and(|why| is_trouble(why) || why == Why::Changed),
        };
        if is_trouble {
            self.partial = true;
            self.failures.push((action.path.as_str().to_owned(), ended.error.clone().unwrap_or_default()));
        }
    }

    fn exit(&self) -> Exit {
        match (self.refused, self.partial) {
            (true, _) => Exit::Refused,
            (false, true) => Exit::Partial,
            (false, false) => Exit::Ok,
        }
    }

    fn summary(
        self,
        run: Option<u64>,
        command: &'static str,
        started: Instant,
        exit: Exit,
        not_started: usize,
    ) -> Summary {
        let Self { mut finished, failures, partial, .. } = self;
        finished.outcome = match exit {
            Exit::Interrupted | Exit::Terminated => RunOutcome::Stopped,
            Exit::Refused => RunOutcome::Refused,
            _ if partial => RunOutcome::Partial,
            _ => RunOutcome::Ok,
        };
        finished.not_started = u64::try_from(not_started).unwrap_or(u64::MAX);
        let dry_run = run.is_none();
        Summary { run, command, dry_run, finished, failures, elapsed: started.elapsed(), not_started, exit }
    }
}

/// Whether leaving a file for this reason makes a run partial: somebody has to look.
fn is_trouble(why: Why) -> bool {
    match why {
        Why::Conflict | Why::Unknown | Why::Unavailable => true,
        Why::NoRoom
        | Why::Playing
        | Why::Open
        | Why::Held
        | Why::Pinned
        | Why::Changed
        | Why::Unmapped
        | Why::HardLinked
        | Why::TooYoung
        | Why::Missing
        | Why::NotOurs
        | Why::NotCacheable
        | Why::NotReached => false,
    }
}

fn transfer_options(config: &Config, options: &RunOptions) -> Options {
    let verify = match config.transfer.verify {
        config::Verify::Checksum => Verify::Checksum,
        config::Verify::Size => Verify::Size,
    };
    let bytes_per_second = options.bwlimit.or(config.transfer.bwlimit.map(config::Rate::bytes_per_second));
    Options { copy: CopyOptions { verify, bytes_per_second }, skip_open_files: config.safety.skip_open_files }
}

/// The cache file systems as they are, and as they will be after `plan`.
fn pool_lines(
    pools: &[Pool],
    cached: &BTreeMap<crate::select::FileKey, crate::plan::CachedFile>,
    plan: &Plan,
) -> Vec<PoolLine> {
    let line = |pool: &Pool| {
        let is_here = |root: &Utf8Path| pool.cache_roots.contains(root);
        let here = cached.values().map(|file| &file.cached.action).filter(|a| is_here(&a.cache_root));
        let owned = here.fold(0_u64, |sum, action| sum.saturating_add(action.size));
        let (mut more, mut less) = (0_u64, 0_u64);
        for action in plan.actions.iter().filter(|action| is_here(&action.cache_root)) {
            match action.kind {
                Kind::Cache => more = more.saturating_add(action.size),
                Kind::Evict => less = less.saturating_add(action.size),
            }
        }
        PoolLine {
            cache_root: pool.cache_roots.first().cloned().unwrap_or_default(),
            total: pool.total,
            free: pool.free,
            owned,
            owned_after: owned.saturating_add(more).saturating_sub(less),
            limit: pool.max_size,
        }
    };
    pools.iter().map(line).collect()
}

/// What started this process, as far as the environment tells.
fn trigger() -> &'static str {
    let has = |name| std::env::var_os(name).is_some();
    if has("INVOCATION_ID") {
        "timer"
    } else if std::env::current_exe().is_ok() && parent_name().is_some_and(|name| name == "cron" || name == "crond") {
        "cron"
    } else if has("PLEXCACHE_USER_SCRIPT") {
        "user_script"
    } else {
        "shell"
    }
}

/// The name of the grandparent that is not a shell, one level up at most: cron starts `sh -c`.
fn parent_name() -> Option<String> {
    let mut pid = rustix::process::getppid()?.as_raw_nonzero().get();
    for _ in 0..2 {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let name = name.trim();
        if !matches!(name, "sh" | "bash" | "dash" | "flock" | "ash") {
            return Some(name.to_owned());
        }
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        pid = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
    }
    None
}

#[expect(clippy::needless_pass_by_value, reason = "it is the end of the error")]
fn history_failure(error: HistoryError) -> anyhow::Error {
    history_trouble(&error).into()
}

fn history_trouble(error: &HistoryError) -> Failure {
    let (exit, hint) = match error {
        HistoryError::Damaged { .. } => {
            (Exit::Error, "the history is not trusted until this line is mended; nothing was changed")
        }
        HistoryError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            (Exit::Permission, STATE_DENIED)
        }
        HistoryError::Io { .. } | HistoryError::Closed(_) => (Exit::Error, STATE_UNWRITABLE),
        HistoryError::NoNumber(_) => (Exit::Error, "put the history aside to begin a new one; nothing was changed"),
    };
    Failure::new(exit, error.to_string(), Some(hint))
}

/// What to look at when the state directory cannot be written.
const STATE_UNWRITABLE: &str = "is the disk of the state directory full or read-only? No further file was touched";

/// What to do about a state directory of somebody else's.
const STATE_DENIED: &str = "run it as root, or name another --state-dir";

fn mark_failure(error: MarkError) -> Failure {
    match error {
        MarkError::History(error) => history_trouble(&error),
        MarkError::Mark { .. } => Failure::new(
            Exit::Permission,
            error.to_string(),
            Some("plexcache has to be able to write there: run it as root, on a file system with owners and links"),
        ),
    }
}
