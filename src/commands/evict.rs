//! `evict`: what `sync` would evict, or what the command line names.
//!
//! With a selection of its own it does not ask Plex: what the host has open stands in for what Plex
//! plays, and the output says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use camino::Utf8Path;
use jiff::{SignedDuration, Timestamp};

use super::survey::Survey;
use super::{Begin, Command, Session, pool_lines, sync};
use crate::config::Config;
use crate::exit::Exit;
use crate::plan::{Cached, Choice, plan_evict};
use crate::report::PlanContext;
use crate::select::{FileKey, Memory, Pinned, Playing};

/// Takes files off the cache.
#[derive(Debug)]
pub struct Evict {
    pub selection: Selection,
}

/// What to evict.
#[derive(Debug)]
pub enum Selection {
    /// What `sync` would.
    Unwanted,
    /// Files and folders by any of their paths.
    Paths(Vec<String>),
    All {
        pinned: bool,
    },
    OlderThan(Duration),
    /// Bytes.
    Free(u64),
}

impl Command for Evict {
    fn name(&self) -> &'static str {
        "evict"
    }

    fn run(&self, session: &mut Session<'_>) -> anyhow::Result<Exit> {
        let Self { selection } = self;
        if matches!(selection, Selection::Unwanted) {
            return sync::by_wants(session, self.name(), false, true);
        }
        let now = Timestamp::now();
        let changes = session.begin(&Begin { command: self.name(), ..Begin::default() })?;
        session.note("Plex is not asked: what is open on this host is left alone, and nothing else is.");
        let open = session.open_files();
        if open.incomplete {
            session.warn("not every process could be looked into; run as root to see all open files");
        }
        let config = session.config;
        let playing = Playing::Known { rating_keys: BTreeSet::new(), files: BTreeSet::new() };
        let survey = Survey {
            tiers: &changes.tiers,
            index: changes.index(),
            open: &open,
            playing: &playing,
            sidecars: config.select.sidecars,
            min_file_age: SignedDuration::ZERO,
            now,
        };
        let memory = Memory::load(&session.state);
        let wants = memory.wants();
        let wanted = wants.iter().map(|want| want.unit().clone()).collect();
        let releases = memory.releases(&sync::cached_units(&changes), &wanted, &config.evict, now);
        let pins = Pinned::new(&config.select, &memory);
        let cached = survey.cached(&releases, |key| pins.has(key));
        // Nothing of it is needed any more, and of many units it is as much as the plan.
        drop(pins);
        drop((wanted, releases, memory));
        let mut candidates = Vec::new();
        let keys;
        let choice = match selection {
            Selection::Paths(paths) => {
                let (found, unknown) = find(config, &changes.index().cached, paths);
                for path in unknown {
                    session.note(&format!("{path} is not on the cache, or not by plexcache"));
                }
                keys = found;
                Choice::Paths(&keys)
            }
            Selection::All { pinned } => Choice::All { pinned: *pinned },
            Selection::OlderThan(age) => {
                let age = SignedDuration::try_from(*age).context("reading --older-than")?;
                Choice::OlderThan(now.checked_sub(age).unwrap_or(Timestamp::MIN))
            }
            Selection::Free(bytes) => {
                candidates = survey.candidates(&wants, &cached);
                Choice::Free(*bytes)
            }
            Selection::Unwanted => unreachable!("asked for above"),
        };
        let plan = plan_evict(&choice, &candidates, &cached);
        let pools = survey.pools(&config.limits).context("asking the cache for free space")?;
        let context = PlanContext {
            command: self.name(),
            server: None,
            pools: pool_lines(&pools, &cached, &plan),
            undo_of: Vec::new(),
        };
        changes.apply(session, plan, &context, None)
    }
}

/// The cached files at or below `paths`, each of which may be any of a file's paths; and the paths that
/// stand for nothing that is cached.
pub(super) fn find<'p>(
    config: &Config,
    cached: &BTreeMap<FileKey, Arc<Cached>>,
    paths: &'p [String],
) -> (BTreeSet<FileKey>, Vec<&'p str>) {
    let mut keys = BTreeSet::new();
    let mut unknown = Vec::new();
    for path in paths {
        let before = keys.len();
        let asked = Utf8Path::new(path);
        // An empty text is a variable that was not set; every path would begin with it.
        let named = cached.iter().filter(|(key, cached)| !path.is_empty() && names(config, key, cached, asked));
        keys.extend(named.map(|(key, _)| key.clone()));
        if keys.len() == before {
            unknown.push(path.as_str());
        }
    }
    (keys, unknown)
}

/// Whether `asked` is one of the paths of the file, or a folder above it.
fn names(config: &Config, key: &FileKey, cached: &Cached, asked: &Utf8Path) -> bool {
    let action = &cached.action;
    let below = |root: &str| Utf8Path::new(root).join(key.path.as_path()).starts_with(asked);
    let map = config.maps.iter().find(|map| map.plex == key.map);
    key.path.as_path().starts_with(asked)
        || (asked.is_absolute()
            && (action.array_path().starts_with(asked)
                || action.cache_path().starts_with(asked)
                || below(&key.map)
                || map.and_then(|map| map.merged.as_ref()).is_some_and(|merged| below(merged.as_str()))))
}
