//! The proof that Plex can read what was cached, asked for once for each map in a run.
//!
//! Owns `safety.verify_with_plex`: after the first video was cached on a map, the server is asked to look
//! at its file. Only a clear no refutes a map; a server that does not answer, does not say, or no longer
//! has the item or the file proves nothing. What was cached on a refuted map goes back through the one
//! door, as evictions on record, and nothing more is cached there in the run.

use std::collections::{BTreeMap, BTreeSet};

use super::{Session, Tally, perform};
use crate::config::Placement;
use crate::history::record::{Ended, Outcome};
use crate::household::Trouble;
use crate::paths::{PathMap, PlexPath};
use crate::plan::{Action, EvictWhy, Kind};
use crate::plex::{MediaServer, PlexServer, RatingKey};
use crate::report::Message;
use crate::transfer::Transfer;

/// What has to be proved, and what came of it so far.
pub(crate) struct Proof {
    server: PlexServer,
    maps: PathMap,
    /// The maps' names, in the order in which `maps` was made of them.
    names: Vec<String>,
    /// What was cached on each map that was not asked about yet, oldest first.
    cached: BTreeMap<String, Vec<Action>>,
    asked: BTreeSet<String>,
    refuted: BTreeSet<String>,
}

/// A map on which Plex cannot read what was cached.
pub(super) struct Refuted {
    /// As Plex says it.
    file: PlexPath,
    map: String,
    /// All that was cached on the map in this run, newest first.
    cached: Vec<Action>,
    hint: String,
}

impl Proof {
    pub(super) fn new(server: PlexServer, maps: PathMap, names: Vec<String>) -> Self {
        Self { server, maps, names, cached: BTreeMap::new(), asked: BTreeSet::new(), refuted: BTreeSet::new() }
    }

    /// Whether the action would cache something that Plex could not read.
    pub(super) fn forbids(&self, action: &Action) -> bool {
        action.kind == Kind::Cache && self.refuted.contains(action.map.as_str())
    }

    /// Whether the server will be asked about the action once it is done.
    pub(super) fn asks_about(&self, action: &Action) -> bool {
        action.kind == Kind::Cache && !self.asked.contains(action.map.as_str()) && rating_key(action).is_some()
    }

    /// Whether nothing at all may be cached of what `actions` would.
    pub(super) fn forbids_all(&self, actions: &[Action]) -> bool {
        let mut cachings = actions.iter().filter(|action| action.kind == Kind::Cache).peekable();
        cachings.peek().is_some() && cachings.all(|action| self.forbids(action))
    }

    /// Takes in what came of an action, and asks about it when it is the first of its map that Plex
    /// knows a file of.
    pub(super) fn after(&mut self, action: &Action, ended: &Ended) -> Option<Refuted> {
        if (action.kind, ended.result) != (Kind::Cache, Outcome::Done) || self.asked.contains(action.map.as_str()) {
            return None;
        }
        self.cached.entry(action.map.to_string()).or_default().push(action.clone());
        let key = rating_key(action)?;
        self.asked.insert(action.map.to_string());
        let mut cached = self.cached.remove(action.map.as_str()).unwrap_or_default();
        cached.reverse();
        let file = self.unreadable(action, key)?;
        self.refuted.insert(action.map.to_string());
        Some(Refuted { file, map: action.map.to_string(), cached, hint: hint(action) })
    }

    /// The path under which Plex cannot read the file of `action`.
    fn unreadable(&self, action: &Action, key: &str) -> Option<PlexPath> {
        let item = match self.server.look_at_files(&RatingKey::new(key)) {
            Ok(item) => item?,
            Err(error) => {
                tracing::debug!(path = %action.path, %error, "cannot ask Plex whether it can read the file");
                return None;
            }
        };
        let is_it = |path: &PlexPath| {
            let place = self.maps.resolve(path).ok();
            place.is_some_and(|(index, path)| {
                self.names.get(index).is_some_and(|name| action.map == *name) && path == action.path
            })
        };
        let mut parts = item.versions.into_iter().flat_map(|version| version.parts);
        let (file, readable) = parts.find_map(|part| part.file.filter(is_it).map(|file| (file, part.readable)))?;
        tracing::debug!(%file, ?readable, "Plex was asked whether it can read the file");
        (readable == Some(false)).then_some(file)
    }
}

impl Refuted {
    /// Evicts what was cached on the map, and says what came of it.
    ///
    /// # Errors
    /// Only when the history cannot be written: the run has to stop.
    pub(super) fn take_back(
        &self,
        session: &mut Session<'_>,
        transfer: &mut Transfer<'_>,
        tally: &mut Tally,
    ) -> anyhow::Result<Trouble> {
        let mut left = Vec::new();
        for cached in &self.cached {
            let Some(known) = transfer.history().index().cached.get(&cached.key()) else { continue };
            let eviction = Action { kind: Kind::Evict, evict_why: Some(EvictWhy::Unreadable), ..known.action.clone() };
            let Some(ended) = perform(session, transfer, std::slice::from_ref(&eviction))?.pop() else { continue };
            session.reporter.message(&Message::Ended { action: &eviction, ended: &ended });
            tally.ended(&eviction, &ended);
            if ended.result != Outcome::Done {
                left.push(format!("{} stays: {}", eviction.path, ended.error.unwrap_or_default()));
            }
        }
        let back = if left.is_empty() { "it was taken back".to_owned() } else { left.join("; ") };
        let Self { file, map, hint, .. } = self;
        let text = format!("Plex cannot read {file} since it was cached; {back}, and nothing more is cached on {map}");
        session.reporter.message(&Message::Warning { text: &text, hint: Some(hint) });
        tally.partial = true;
        Ok(Trouble { text, hint: Some(hint.clone()) })
    }
}

/// By which the server knows the file of `action`; it knows none of a sidecar.
fn rating_key(action: &Action) -> Option<&str> {
    action.rating_key.as_deref().filter(|_| action.path == action.unit)
}

/// What may be wrong with a map on which Plex cannot read the file of `action`.
fn hint(action: &Action) -> String {
    let Action { map, cache_root, .. } = action;
    match action.placement {
        Placement::Symlink => format!(
            "the link on the array leads to {cache_root}, which Plex has to see under the same path: if it runs in a \
             container, mount that folder there; or choose another placement"
        ),
        Placement::Copy | Placement::Hide | Placement::Move => format!(
            "Plex's {map} has to be a union that shows {cache_root} too, and Plex has to be allowed to read there; \
             placement = \"symlink\" needs no union"
        ),
    }
}
