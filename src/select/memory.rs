//! What is remembered from run to run, and when a cached unit may go.
//!
//! Owns `STATE/wants.json`: the last good answer of every source and user, and of each unit that is
//! cached or wanted who wanted it, since when it is (not) wanted, and who has watched it. A failed or
//! partial read takes nothing away: what a user wanted before stays wanted, and where nothing is
//! known from before, no release is given. The same answers once more give the same releases.
//! The file is derived; without it, grace periods begin anew and nothing goes too early.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::few::Few;
use super::want::{EvictWhy, FileKey, Reason, Reasons, Release, Want};
use super::{CachedUnit, Gathered, Seen, join};
use crate::config::Evict;
use crate::shared::Text;
use crate::state::StateDir;

const FILE: &str = "wants.json";
/// Files of another format are not read.
const FORMAT: u32 = 1;

/// What the runs so far have learnt of wishes and of what was watched.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// The machine id of the server whose answers these are; empty when it is not known.
    server: String,
    /// One for each source and user that was asked in the last run, whether it answered or not.
    answers: BTreeMap<Reason, Answer>,
    /// Who counted in the last run.
    viewers: BTreeSet<String>,
    units: BTreeMap<FileKey, Known>,
}

/// What one source wants for one user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// The last run got all of it.
    pub(super) complete: bool,
    /// There was a complete answer once: absence from `wants` means something.
    pub(super) grounded: bool,
    pub(super) wants: Vec<Arc<Want>>,
}

/// What is known of one unit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Known {
    /// Everything it was wanted for since it was cached or first wanted.
    reasons: Reasons,
    wanted: bool,
    /// Since when it has been `wanted`, or not, without a break; `None` as long as nobody could say.
    since: Option<Timestamp>,
    viewings: Few<Viewing>,
}

/// What one user, who wanted the unit, has seen of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Viewing {
    /// The items for which the user wanted it last, and the ones watched.
    items: Few<Option<Watched>>,
    /// The last run could read the watch state of all of them.
    known: bool,
}

impl Viewing {
    /// When the last of the items was watched; `None` unless all of them were.
    fn watched(&self) -> Option<Timestamp> {
        let all: Option<Vec<Timestamp>> = self.items.iter().map(|(_, item)| Some(item.as_ref()?.at)).collect();
        all?.into_iter().max()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Watched {
    /// Never later than when it was first seen watched.
    at: Timestamp,
    /// What Plex said, seconds since 1970: as long as it says the same, `at` stays the same.
    said: Option<i64>,
}

/// The file: JSON has no maps by structures.
#[derive(Deserialize)]
struct Saved {
    format: u32,
    #[serde(default)]
    server: String,
    answers: Vec<(Reason, Answer)>,
    viewers: BTreeSet<String>,
    units: Vec<(FileKey, Known)>,
}

/// The same, to be written.
#[derive(Serialize)]
struct Saving<'a> {
    format: u32,
    server: &'a str,
    answers: Vec<(&'a Reason, &'a Answer)>,
    viewers: &'a BTreeSet<String>,
    units: Vec<(&'a FileKey, &'a Known)>,
}

impl Memory {
    /// Reads it; empty when the file is absent, damaged or of another format.
    pub fn load(state: &StateDir) -> Self {
        let Some(saved) = state.read::<Saved>(FILE).filter(|saved| saved.format == FORMAT) else {
            return Self::default();
        };
        let mut answers: BTreeMap<Reason, Answer> = saved.answers.into_iter().collect();
        for answer in answers.values_mut() {
            // A want without files names no unit.
            answer.wants.retain(|want| !want.parts.is_empty());
        }
        Self { server: saved.server, answers, viewers: saved.viewers, units: saved.units.into_iter().collect() }
    }

    /// Takes it for what the server `machine_id` has said, and says whether it can be: what another one
    /// does not want, and perhaps does not have, tells nothing of what was wanted before.
    pub fn belongs_to(&mut self, machine_id: &str) -> bool {
        if self.server.is_empty() {
            machine_id.clone_into(&mut self.server);
        }
        self.server == machine_id
    }

    /// Nothing is known yet of what the server `machine_id` says.
    pub fn anew(machine_id: &str) -> Self {
        Self { server: machine_id.to_owned(), ..Self::default() }
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, state: &StateDir) -> io::Result<()> {
        let saved = Saving {
            format: FORMAT,
            server: &self.server,
            answers: self.answers.iter().collect(),
            viewers: &self.viewers,
            units: self.units.iter().collect(),
        };
        state.write(FILE, &saved)
    }

    /// What this source wanted for this user, as far as it was ever known.
    pub(super) fn answer(&self, reason: &Reason) -> Option<&Answer> {
        self.answers.get(reason)
    }

    /// Every source and user that was ever asked.
    pub(super) fn reasons(&self) -> impl Iterator<Item = &Reason> {
        self.answers.keys()
    }

    /// Everybody who counted in the last run.
    pub fn viewers(&self) -> &BTreeSet<String> {
        &self.viewers
    }

    /// Since when the unit has been wanted without a break.
    pub(super) fn wanted_since(&self, unit: &FileKey) -> Option<Timestamp> {
        self.units.get(unit).filter(|known| known.wanted)?.since
    }

    /// The items whose watch state decides about `cached`, each with its user.
    pub(super) fn items_of(&self, cached: &CachedUnit) -> Vec<(Text, Text)> {
        let mut known = self.units.get(&cached.unit).cloned().unwrap_or_default();
        known.is_cached(cached);
        let viewings = known.viewings.iter();
        viewings.flat_map(|(user, viewing)| viewing.items.iter().map(|(key, _)| (user.clone(), key.clone()))).collect()
    }

    /// What was wanted when Plex was last asked, one for each unit, best first.
    pub fn wants(&self) -> Vec<Arc<Want>> {
        let mut merged = BTreeMap::new();
        for want in self.answers.values().flat_map(|answer| &answer.wants) {
            join(&mut merged, want.unit().clone(), Arc::clone(want));
        }
        let mut wants: Vec<Arc<Want>> = merged.into_values().collect();
        wants.sort_by(|a, b| a.cmp_rank(b));
        wants
    }

    /// What is known after a run that gathered this while `cached` was on the cache.
    #[must_use]
    pub fn after(mut self, gathered: &Gathered, cached: &[CachedUnit], now: Timestamp) -> Self {
        self.answers.clone_from(&gathered.answers);
        self.viewers.clone_from(&gathered.viewers);
        let answered = gathered.answers.iter();
        let mut wishes: Vec<(&Reason, &Want)> =
            answered.flat_map(|(reason, answer)| answer.wants.iter().map(move |want| (reason, &**want))).collect();
        wishes.sort_by_key(|(_, want)| want.unit());
        let is_wanted = |unit: &FileKey| wishes.binary_search_by_key(&unit, |(_, want)| want.unit()).is_ok();
        let is_cached: BTreeSet<&FileKey> = cached.iter().map(|cached| &cached.unit).collect();
        // What is neither wanted nor cached is forgotten here.
        self.units.retain(|unit, _| is_cached.contains(unit) || is_wanted(unit));
        for cached in cached {
            self.units.entry(cached.unit.clone()).or_default().is_cached(cached);
        }
        for wishes in wishes.chunk_by(|(_, a), (_, b)| a.unit() == b.unit()) {
            self.units.entry(wishes[0].1.unit().clone()).or_default().wish(wishes);
        }
        let undecided: BTreeSet<FileKey> =
            self.units.iter().filter(|(_, known)| self.is_undecided(known)).map(|(unit, _)| unit.clone()).collect();
        for (unit, known) in &mut self.units {
            known.learn(&gathered.watched, now);
            let is_wanted = is_wanted(unit);
            if is_wanted || !undecided.contains(unit) {
                let held = known.since.filter(|_| known.wanted == is_wanted);
                // A clock that went back must not make what began "later" last for ever.
                known.since = Some(held.map_or(now, |since| since.min(now)));
                known.wanted = is_wanted;
            }
        }
        self
    }

    /// Whether somebody who wanted the unit may still do so without our knowing.
    fn is_undecided(&self, known: &Known) -> bool {
        self.answers.iter().any(|(reason, answer)| {
            let wished = known
                .reasons
                .iter()
                .any(|before| before == reason || before.user.is_some() && before.user == reason.user);
            wished && !answer.complete && !answer.grounded
        })
    }

    /// When each cached unit may go.
    ///
    /// `None` means that it may not: somebody wants it, or it is not known whether somebody does, or
    /// whether somebody who did has watched it. `wanted` are the units that are wanted now.
    pub fn releases(
        &self,
        cached: &[CachedUnit],
        wanted: &BTreeSet<FileKey>,
        evict: &Evict,
        now: Timestamp,
    ) -> BTreeMap<FileKey, Option<Release>> {
        cached
            .iter()
            .map(|cached| {
                let free = !wanted.contains(&cached.unit);
                (cached.unit.clone(), free.then(|| self.release(&cached.unit, evict, now)).flatten())
            })
            .collect()
    }

    fn release(&self, unit: &FileKey, evict: &Evict, now: Timestamp) -> Option<Release> {
        let known = self.units.get(unit)?;
        let since = known.since?.min(now);
        if known.wanted {
            let at = later(since, evict.max_age?);
            return (at <= now).then_some(Release { at, why: EvictWhy::MaxAge });
        }
        if self.is_undecided(known) {
            return None;
        }
        let mut at = None;
        let mut all_watched = true;
        for reason in &known.reasons {
            let viewing = match &reason.user {
                Some(user) if self.viewers.contains(user.as_str()) => Some(known.viewings.get(user)?),
                // A pin or a feed watches nothing, and who does not count any more is not asked.
                _ => None,
            };
            if viewing.is_some_and(|viewing| !viewing.known) {
                return None;
            }
            let watched = viewing.and_then(Viewing::watched);
            all_watched &= watched.is_some();
            at = at.max(watched.map(|watched| later(watched.min(now), evict.watched_after)));
        }
        if all_watched && let Some(at) = at {
            return Some(Release { at, why: EvictWhy::Watched });
        }
        Some(Release { at: at.max(Some(later(since, evict.unwanted_after)))?, why: EvictWhy::Unwanted })
    }
}

impl Known {
    /// Takes in what the history tells of the unit.
    fn is_cached(&mut self, cached: &CachedUnit) {
        self.reasons.extend(cached.reasons.iter().cloned());
        for user in cached.reasons.iter().filter_map(|reason| reason.user.as_ref()) {
            let viewing = self.viewings.entry(user);
            if viewing.items.is_empty() {
                viewing.items = cached.rating_key.iter().map(|key| (key.clone(), None)).collect();
            }
        }
    }

    /// Takes in who wants it now, and for which items.
    fn wish(&mut self, wishes: &[(&Reason, &Want)]) {
        let mut items: BTreeMap<&Text, BTreeSet<&Text>> = BTreeMap::new();
        for (reason, want) in wishes {
            self.reasons.insert((*reason).clone());
            if let Some(user) = &reason.user {
                items.entry(user).or_default().extend(&want.rating_key);
            }
        }
        for (user, keys) in items {
            let viewing = self.viewings.entry(user);
            let mut before = std::mem::take(&mut viewing.items);
            viewing.items = keys.into_iter().map(|key| (key.clone(), before.remove(key).flatten())).collect();
        }
    }

    /// Takes in what this run has learnt of who watched what.
    fn learn(&mut self, watched: &BTreeMap<(Text, Text), Seen>, now: Timestamp) {
        for (user, viewing) in self.viewings.iter_mut() {
            viewing.known = true;
            for (key, item) in viewing.items.iter_mut() {
                match watched.get(&(user.clone(), key.clone())) {
                    Some(Seen::Watched(said)) => {
                        let same = item.as_ref().filter(|before| before.said == *said).map(|before| before.at);
                        let at = same
                            .unwrap_or_else(|| said.and_then(|said| Timestamp::from_second(said).ok()).unwrap_or(now));
                        *item = Some(Watched { at: at.min(now), said: *said });
                    }
                    Some(Seen::Unwatched | Seen::Gone) => *item = None,
                    None => viewing.known = false,
                }
            }
        }
    }
}

/// So much later, or the end of time.
pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
