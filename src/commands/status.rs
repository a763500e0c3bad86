//! `status`: what is on the cache, why, and until when.
//!
//! Reads the state and the cache only, so that it answers in milliseconds and wakes no disk; `--live`
//! asks Plex and looks at the array too. Whatever cannot be looked at becomes a line of `health`, and
//! the rest is still shown.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Context;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rustix::fs::Mode;

use super::{Command, Session, evict, history_failure, survey, sync};
use crate::exit::Exit;
use crate::history::record::RunOutcome;
use crate::history::{Index, LastRun, Run, newest_runs};
use crate::paths::MediaPath;
use crate::plan::{Cached, CopyState, EvictWhy, Kind};
use crate::plex::MediaServer;
use crate::report::{self, FileStatus, Message, ServerLine, Status, TierStatus, Why};
use crate::select::{FileKey, Memory, Pinned};
use crate::state::replace_file;
use crate::tier::{self, InTurn, Leniency, Look, MARKER, Tiers};

/// After so long without a run somebody should look.
const OVERDUE: SignedDuration = SignedDuration::from_hours(48);

/// How many of the last runs the page shows.
const RUNS_ON_PAGE: usize = 30;

/// Shows what is on the cache.
#[derive(Debug)]
pub struct ShowStatus {
    pub live: bool,
    /// Explain this file instead.
    pub why: Option<String>,
    /// Write a page there instead.
    pub html: Option<Utf8PathBuf>,
    /// Write metrics there instead.
    pub prometheus: Option<Utf8PathBuf>,
    pub nagios: bool,
}

impl Command for ShowStatus {
    fn name(&self) -> &'static str {
        "status"
    }

    fn run(&self, session: &mut Session<'_>) -> anyhow::Result<Exit> {
        let Self { live, why, html, prometheus, nagios } = self;
        let now = Timestamp::now();
        let index = crate::history::load(&session.state).map_err(history_failure)?;
        let memory = Memory::load(&session.state);
        let mut status = status(session, &index, &memory, now);
        if *live {
            look_live(session, &index, &mut status);
        }
        if let Some(asked) = why {
            let why = explain(session, &index, &memory, &status, asked);
            session.reporter.message(&Message::Why(&why));
            return Ok(Exit::Ok);
        }
        if let Some(path) = prometheus {
            write(path, Mode::from_raw_mode(0o644), &report::prometheus(&status, &index.totals))?;
        }
        if let Some(path) = html {
            // Who watches what is not everybody's business.
            write(path, Mode::from_raw_mode(0o640), &report::html(&status, &last_runs(session)?))?;
        }
        if html.is_some() || prometheus.is_some() {
            return Ok(Exit::Ok);
        }
        if *nagios {
            session.reporter.message(&Message::Nagios(&status));
            return Ok(match report::level(&status) {
                report::Level::Ok => Exit::Ok,
                // The statuses of a Nagios plugin, whatever they mean elsewhere.
                report::Level::Warning => Exit::Error,
                report::Level::Critical => Exit::Usage,
            });
        }
        session.reporter.message(&Message::Status(&status));
        Ok(Exit::Ok)
    }
}

/// The newest runs, oldest first.
fn last_runs(session: &Session<'_>) -> anyhow::Result<Vec<Run>> {
    let mut runs = Vec::with_capacity(RUNS_ON_PAGE);
    newest_runs(&session.state, |run| {
        runs.push(run);
        if runs.len() < RUNS_ON_PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .map_err(history_failure)?;
    runs.reverse();
    Ok(runs)
}

fn write(path: &Utf8Path, mode: Mode, text: &str) -> anyhow::Result<()> {
    replace_file(path, mode, text.as_bytes()).with_context(|| format!("writing {path}"))
}

/// A cache root as `status` sees it.
struct CacheRoot<'a> {
    map: &'a crate::config::Map,
    look: Option<Look>,
}

fn status(session: &Session<'_>, index: &Index, memory: &Memory, now: Timestamp) -> Status {
    let config = session.config;
    let mut health = Vec::new();
    let looks = tier::look(config.maps.iter().map(|map| map.cache.clone()));
    let mut roots = Vec::with_capacity(config.maps.len());
    for (map, look) in config.maps.iter().zip(looks) {
        let look = match checked(look, &map.cache, index) {
            Ok(look) => Some(look),
            Err(why) => {
                health.push(format!("the cache root {} cannot be used: {why}", map.cache));
                None
            }
        };
        roots.push(CacheRoot { map, look });
    }
    let wanted: BTreeSet<FileKey> = memory.wants().iter().map(|want| want.unit().clone()).collect();
    let releases = memory.releases(&sync::units_of(index), &wanted, &config.evict, now);
    let pins = Pinned::new(&config.select, memory);
    let mut in_turn = InTurn::default();
    let file = |(key, cached): (&FileKey, &Arc<Cached>)| {
        let unit = cached.action.unit_key();
        let root = roots.iter().find(|root| root.map.cache == cached.action.cache_root);
        let folder = root.and_then(|root| root.look.as_ref()).map(|look| &look.folder);
        FileStatus {
            state: folder
                .and_then(|folder| survey::state_in_turn(&mut in_turn, folder, cached).ok())
                .map(|(state, _)| state),
            release: releases.get(&unit).copied().flatten(),
            wanted: wanted.contains(&unit),
            pinned: pins.has(key) || pins.has(&unit),
            held_until: index
                .holds
                .get(key)
                .filter(|hold| hold.kind == Kind::Cache && hold.until > now)
                .map(|h| h.until),
            cached: Arc::clone(cached),
        }
    };
    let files: Vec<FileStatus> = index.cached.iter().map(file).collect();
    let tiers = roots.iter().map(|root| tier_status(root, &files, config)).collect();
    let running = session.state.is_locked();
    health.extend(health_of(index, &files, running, now));
    Status { now, tiers, files, last_run: index.last_run.clone(), running, health, live: None }
}

/// Makes sure that a cache root is the one that the history knows.
fn checked(look: std::io::Result<Look>, path: &Utf8Path, index: &Index) -> Result<Look, String> {
    let look = look.map_err(|error| error.to_string())?;
    let is_known = index.roots.get(path).is_some_and(|known| known.id.is_some() && known.marked);
    if is_known && !look.has_marker {
        return Err(format!("its marker {MARKER} is missing; is it mounted?"));
    }
    Ok(look)
}

fn tier_status(root: &CacheRoot<'_>, files: &[FileStatus], config: &crate::config::Config) -> TierStatus {
    let space = root.look.as_ref().map(|look| look.space);
    let here = files.iter().map(|file| &file.cached.action).filter(|action| action.cache_root == root.map.cache);
    TierStatus {
        map: root.map.plex.clone(),
        cache_root: root.map.cache.clone(),
        total: space.map(|space| space.total),
        free: space.map(|space| space.free),
        owned: here.fold(0, |sum: u64, action| sum.saturating_add(action.size)),
        limit: space.map(|space| config.limits.max_size.of(space.total)),
    }
}

fn health_of(index: &Index, files: &[FileStatus], running: bool, now: Timestamp) -> Vec<String> {
    let mut health = Vec::new();
    let count = |state| files.iter().filter(|file| file.state == Some(state)).count();
    let (gone, changed) = (count(CopyState::Gone), count(CopyState::Changed));
    if gone > 0 {
        health.push(format!("cached copies gone from the cache: {gone}; the next run puts that in order"));
    }
    if changed > 0 {
        health.push(format!("cached copies changed by somebody since they were made: {changed}"));
    }
    if !running && !index.open.is_empty() {
        health.push(format!("interrupted actions: {}; the next run settles them", index.open.len()));
    }
    match &index.last_run {
        None => health.push("there has been no run yet".to_owned()),
        Some(LastRun { finished: None, .. }) if running => {}
        Some(LastRun { run, finished: None, .. }) => health.push(format!("run {run} was cut short")),
        Some(LastRun { run, finished: Some((at, finished)), .. }) => {
            let trouble = match finished.outcome {
                RunOutcome::Ok | RunOutcome::Stopped => None,
                RunOutcome::Partial => Some("was partial".to_owned()),
                RunOutcome::Failed | RunOutcome::Refused => Some(finished.outcome.word().to_owned()),
            };
            if let Some(trouble) = trouble {
                let why = finished.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
                health.push(format!("run {run} {trouble}{why} (plexcache history {run})"));
            }
            if now.duration_since(*at) > OVERDUE {
                health.push(format!("the last run was {} hours ago", now.duration_since(*at).as_hours()));
            }
        }
    }
    health
}

/// Asks Plex, and looks for the originals on the array.
fn look_live(session: &mut Session<'_>, index: &Index, status: &mut Status) {
    match sync::Server::connect(session) {
        Err(error) => status.health.push(format!("Plex: {error:#}")),
        Ok(server) => {
            let sessions = server.plex.sessions();
            let playing = sessions.value().map(Vec::len);
            if !sessions.is_complete() {
                status.health.push("what plays now cannot be read".to_owned());
            }
            status.live =
                Some(ServerLine { version: server.version().to_owned(), users: server.users(session), playing });
        }
    }
    let leniency = Leniency { same_device: session.config.safety.allow_same_device, changed_roots: false };
    let tiers = match Tiers::open(&session.config.maps, &index.roots, leniency) {
        Ok(tiers) => tiers,
        Err(error) => {
            status.health.push(error.to_string());
            return;
        }
    };
    for cached in index.cached.values() {
        let action = &cached.action;
        let Some(root) = tiers.root(&action.array_root) else { continue };
        let name = match action.placement {
            crate::config::Placement::Move => continue,
            crate::config::Placement::Copy => Ok(action.path.clone()),
            crate::config::Placement::Hide | crate::config::Placement::Symlink => {
                action.path.sibling(&format!("{}{}", action.path.file_name(), crate::transfer::KEPT))
            }
        };
        let stat = name.map_err(std::io::Error::other).and_then(|name: MediaPath| root.folder.stat_below(&name));
        match stat {
            Ok(Some(stat)) if Some(stat.fingerprint()) == action.array => {}
            Ok(Some(_)) => status.health.push(format!("the original of {} was replaced", action.path)),
            Ok(None) => status.health.push(format!("the original of {} is gone", action.path)),
            Err(error) => status.health.push(format!("the original of {} cannot be looked at: {error}", action.path)),
        }
    }
}

/// `--why`: what is known of one file.
fn explain(session: &Session<'_>, index: &Index, memory: &Memory, status: &Status, asked: &str) -> Why {
    let asked_for = [asked.to_owned()];
    let (keys, _) = evict::find(session.config, &index.cached, &asked_for);
    let file = keys.first().and_then(|key| status.files.iter().find(|file| file.cached.action.key() == *key).cloned());
    let mut lines = Vec::new();
    let wants = memory.wants();
    let matching = |parts: &[FileKey]| {
        parts.iter().any(|part| {
            keys.contains(part) || part.path.as_str() == asked || asked.ends_with(&format!("/{}", part.path))
        })
    };
    let want = wants.iter().find(|want| matching(&want.parts)).or_else(|| {
        let unit = file.as_ref().map(|file| &file.cached.action.unit)?;
        wants.iter().find(|want| want.unit().path == *unit)
    });
    if keys.len() > 1 {
        lines.push(format!("{} files are on the cache there; this is the first", keys.len()));
    }
    match want {
        Some(want) => {
            let reasons: Vec<String> = want.reasons.iter().map(ToString::to_string).collect();
            lines.push(format!("wanted: {}", reasons.join(", ")));
        }
        None => lines.push("wanted by nobody, as far as the last answers tell".to_owned()),
    }
    match &file {
        None => lines.push("not on the cache by plexcache".to_owned()),
        Some(file) => lines.extend(lines_of(file)),
    }
    Why { asked: asked.to_owned(), file, lines }
}

/// A time as the clock on the wall shows it.
fn local(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}

fn lines_of(file: &FileStatus) -> Vec<String> {
    let action = &file.cached.action;
    let reasons: Vec<String> = action.reasons.iter().map(ToString::to_string).collect();
    let mut lines = vec![
        format!("cached by run {} at {} ({})", file.cached.run, local(file.cached.at), action.placement),
        format!("cached for: {}", if reasons.is_empty() { "an undo".to_owned() } else { reasons.join(", ") }),
    ];
    match file.state {
        Some(CopyState::Unchanged) => {}
        Some(CopyState::Changed) => lines.push("the cached copy was changed since; it will be written back".to_owned()),
        Some(CopyState::Gone) => lines.push("the cached copy is gone".to_owned()),
        None => lines.push("the cache cannot be looked at".to_owned()),
    }
    if file.pinned {
        lines.push("pinned: stays whatever happens".to_owned());
    }
    if let Some(until) = file.held_until {
        lines.push(format!("held by an undo until {}", local(until)));
    }
    lines.push(match (&file.release, file.wanted) {
        (Some(release), _) => {
            let why = match release.why {
                EvictWhy::Watched => "everybody who wanted it has watched it",
                EvictWhy::Unwanted => "nobody wants it any more",
                EvictWhy::MaxAge => "it has been wanted for longer than evict.max_age",
                EvictWhy::MakeRoom
                | EvictWhy::Asked
                | EvictWhy::Undo
                | EvictWhy::Gone
                | EvictWhy::Unreadable
                | EvictWhy::Replaced => "of its own",
            };
            format!("evicted after {}, because {why}", local(release.at))
        }
        (None, true) => "stays while it is wanted, unless something of higher rank needs the room".to_owned(),
        (None, false) => "stays until everybody who wanted it has answered completely".to_owned(),
    });
    lines
}
