//! The proof that Plex can read what was cached, asked for once for each map in a run.
//!
//! Owns `safety.verify_with_plex`: after the first video was cached on a map, the server is asked to look
//! at its file. Only a clear no refutes a map; a server that does not answer, does not say, or no longer
//! has the item or the file proves nothing. What was cached on a refuted map goes back through the one
//! door, as evictions on record, and nothing more is cached there in the run.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Placement;
use crate::history::record::{Ended, Outcome};
use crate::household::Trouble;
use crate::paths::{PathMap, PlexPath};
use crate::plan::{Action, Kind};
use crate::plex::{MediaServer, PlexServer, RatingKey};
use crate::select::FileKey;
use crate::shared::Text;

/// Who can be asked for a proof.
pub(crate) struct Proof {
    server: PlexServer,
    maps: PathMap,
    /// The maps' names, in the order in which `maps` was made of them.
    names: Vec<String>,
}

/// What has been proved so far.
#[derive(Default)]
pub(super) struct Proved {
    /// What was cached on each map that was not asked about yet, oldest first.
    cached: BTreeMap<Text, Vec<FileKey>>,
    asked: BTreeSet<Text>,
    refuted: BTreeSet<Text>,
}

/// A map on which Plex cannot read what was cached.
pub(super) struct Refuted {
    /// As Plex says it.
    file: PlexPath,
    map: Text,
    /// All that was cached on the map in this run, newest first.
    pub(super) cached: Vec<FileKey>,
    hint: String,
}

impl Proof {
    pub(super) fn new(server: PlexServer, maps: PathMap, names: Vec<String>) -> Self {
        Self { server, maps, names }
    }

    /// Asks for the path under which Plex cannot read the file of `action`.
    pub(super) fn unreadable(&self, action: &Action) -> Option<PlexPath> {
        let item = match self.server.look_at_files(&RatingKey::new(rating_key(action)?)) {
            Ok(item) => item?,
            Err(error) => {
                tracing::debug!(path = %action.path, %error, "cannot ask Plex whether it can read the file");
                return None;
            }
        };
        let is_it = |path: &PlexPath| {
            let place = self.maps.resolve(path).ok();
            place.is_some_and(|(index, path)| {
                self.names.get(index).is_some_and(|name| *name == action.map) && path == action.path
            })
        };
        let mut parts = item.versions.into_iter().flat_map(|version| version.parts);
        let (file, readable) = parts.find_map(|part| part.file.filter(is_it).map(|file| (file, part.readable)))?;
        tracing::debug!(%file, ?readable, "Plex was asked whether it can read the file");
        (readable == Some(false)).then_some(file)
    }
}

impl Proved {
    /// Whether the action would cache something that Plex could not read.
    pub(super) fn forbids(&self, action: &Action) -> bool {
        action.kind == Kind::Cache && self.refuted.contains(&action.map)
    }

    /// Whether the action caches something on a map that Plex was not asked about yet.
    pub(super) fn is_unproved(&self, action: &Action) -> bool {
        action.kind == Kind::Cache && !self.asked.contains(&action.map)
    }

    /// Whether the server will be asked about the action once it is done.
    pub(super) fn asks_about(&self, action: &Action) -> bool {
        self.is_unproved(action) && rating_key(action).is_some()
    }

    /// Whether there were cachings, and nothing at all may be cached on any of their `maps`.
    pub(super) fn is_nothing_left_of(&self, maps: &BTreeSet<Text>) -> bool {
        !maps.is_empty() && maps.is_subset(&self.refuted)
    }

    /// Takes in what came of `actions`, and gives the first of a map that Plex knows a file of: about that one it
    /// is to be asked.
    pub(super) fn question<'a>(&mut self, actions: &'a [Action], all_ended: &[Ended]) -> Option<&'a Action> {
        let is_done = |(action, ended): &(&Action, &Ended)| self.is_unproved(action) && ended.result == Outcome::Done;
        let done: Vec<&Action> = actions.iter().zip(all_ended).filter(is_done).map(|(action, _)| action).collect();
        for action in &done {
            self.cached.entry(action.map.clone()).or_default().push(action.key());
        }
        done.into_iter().find(|action| rating_key(action).is_some())
    }

    /// Takes in the answer about `action`.
    pub(super) fn answered(&mut self, action: &Action, unreadable: Option<PlexPath>) -> Option<Refuted> {
        self.asked.insert(action.map.clone());
        let mut cached = self.cached.remove(&action.map).unwrap_or_default();
        cached.reverse();
        let file = unreadable?;
        self.refuted.insert(action.map.clone());
        Some(Refuted { file, map: action.map.clone(), cached, hint: hint(action) })
    }
}

impl Refuted {
    /// What to say of it, and of what could not be taken back.
    pub(super) fn verdict(&self, left: &[String]) -> Trouble {
        let Self { file, map, hint, .. } = self;
        let back = if left.is_empty() { "it was taken back".to_owned() } else { left.join("; ") };
        let text = format!("Plex cannot read {file} since it was cached; {back}, and nothing more is cached on {map}");
        Trouble { text, hint: Some(hint.clone()) }
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
