//! What belongs together, and what may not be touched.
//!
//! Owns the grouping of wanted and cached files into units, and the reasons for which a unit stays on
//! the cache whatever the limits say. Every file belongs to exactly one unit: to the best-ranked want
//! that names it; else, cached, to the unit it was cached with, wanted or not. What protects one file
//! protects its unit.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Action, CachedFile, Candidate, CandidateFile, CopyState, EvictWhy, Kind, Release, Skip, Why};
use crate::paths::MediaPath;
use crate::select::FileKey;
use crate::shared::Text;

/// All files that are cached, kept and evicted together.
#[derive(Debug)]
pub(super) struct Unit<'a> {
    pub(super) key: FileKey,
    /// The want, when somebody wants it.
    pub(super) candidate: Option<&'a Candidate>,
    /// The files of the want that are this unit's, parts first.
    pub(super) files: Vec<&'a CandidateFile>,
    /// Those whose copy is there, by key.
    pub(super) present: Vec<&'a CachedFile>,
    /// Those whose copy is gone, by key.
    pub(super) gone: Vec<&'a CachedFile>,
}

/// Groups all files to units: wanted ones by rank, then the others by key.
pub(super) fn group<'a>(candidates: &'a [Candidate], cached: &'a BTreeMap<FileKey, CachedFile>) -> Vec<Unit<'a>> {
    let mut ranked: Vec<&Candidate> = candidates.iter().collect();
    // A server may list one file under two items; which of them counts must not depend on the order.
    ranked.sort_by(|a, b| {
        let item = |c: &'a Candidate| (&c.want.rating_key, &c.want.media_id, &c.want.parts);
        a.want.cmp_rank(&b.want).then_with(|| item(a).cmp(&item(b)))
    });
    let mut units: Vec<Unit> = Vec::with_capacity(ranked.len());
    let mut owner: BTreeMap<&FileKey, usize> = BTreeMap::new();
    let mut named: BTreeSet<&FileKey> = BTreeSet::new();
    for candidate in ranked {
        if !named.insert(candidate.want.unit()) {
            continue;
        }
        let index = units.len();
        for part in &candidate.want.parts {
            owner.entry(part).or_insert(index);
        }
        let mut seen = BTreeSet::new();
        let own =
            |file: &&'a CandidateFile| *owner.entry(&file.key).or_insert(index) == index && seen.insert(&file.key);
        let files = candidate.files.iter().filter(own).collect();
        let key = candidate.want.unit().clone();
        units.push(Unit { key, candidate: Some(candidate), files, present: Vec::new(), gone: Vec::new() });
    }
    let mut unwanted: BTreeMap<FileKey, Unit> = BTreeMap::new();
    for (key, file) in cached {
        let action = &file.cached.action;
        let home = action.unit_key();
        let unit = match owner.get(key).or_else(|| owner.get(&home)) {
            Some(&index) => &mut units[index],
            None => unwanted.entry(home).or_insert_with_key(|home| Unit {
                key: home.clone(),
                candidate: None,
                files: Vec::new(),
                present: Vec::new(),
                gone: Vec::new(),
            }),
        };
        let list = if file.state == CopyState::Gone { &mut unit.gone } else { &mut unit.present };
        list.push(file);
    }
    units.extend(unwanted.into_values());
    units
}

impl Unit<'_> {
    /// Whether the copy of `key` is there.
    pub(super) fn has(&self, key: &FileKey) -> bool {
        let compare = |file: &&CachedFile| {
            let action = &file.cached.action;
            (&action.map, &action.path).cmp(&(&key.map, &key.path))
        };
        self.present.binary_search_by(compare).is_ok()
    }

    /// When the unit may go, were nobody to want it: when the last of its files may. `None` while
    /// that is not known of one of them.
    pub(super) fn release(&self) -> Option<Release> {
        let releases: Option<Vec<Release>> = self.present.iter().map(|file| file.release).collect();
        releases?.into_iter().max_by_key(|release| (release.at, release.why))
    }

    /// Somebody plays it or has it open: it is not touched, whoever asks.
    pub(super) fn in_use(&self) -> Option<(Why, String)> {
        if self.present.iter().any(|file| file.playing) {
            return Some((Why::Playing, "plays now".into()));
        }
        self.present.iter().find_map(|file| Some((Why::Open, file.open.clone()?)))
    }

    /// An undo put it on the cache and holds it there.
    pub(super) fn held(&self, now: Timestamp) -> Option<(Why, String)> {
        let until = self.present.iter().filter_map(|file| file.held_until).max()?;
        (until > now).then(|| (Why::Held, format!("by an undo, until {until}")))
    }

    pub(super) fn pinned(&self) -> Option<(Why, String)> {
        self.present.iter().any(|file| file.pinned).then(|| (Why::Pinned, "matches a pin".into()))
    }

    /// A copy was written to since it was made: evicting it means writing it back.
    pub(super) fn changed(&self) -> Option<(Why, String)> {
        let changed = self.present.iter().any(|file| file.state == CopyState::Changed);
        changed.then(|| (Why::Changed, "the cached copy was changed".into()))
    }

    /// The array has something newer than one of the copies.
    pub(super) fn superseded(&self) -> bool {
        self.present.iter().any(|file| file.superseded)
    }

    /// Says that the unit stays on the cache although it should leave it.
    ///
    /// Only for units of which something is on the cache.
    pub(super) fn stays(&self, (why, detail): (Why, String)) -> Skip {
        let first = self.present.iter().find(|file| file.cached.action.path == self.key.path);
        let action = &first.or(self.present.first()).expect("only what is on the cache stays there").cached.action;
        Skip {
            kind: Kind::Evict,
            map: action.map.clone(),
            path: action.path.as_str().into(),
            unit: self.key.path.as_str().into(),
            title: action.title.clone(),
            array_path: Some(action.array_path()),
            cache_path: Some(action.cache_path()),
            size: self.present.iter().fold(0, |sum, file| sum.saturating_add(file.cached.action.size)),
            why,
            detail,
            reasons: action.reasons.clone(),
        }
    }
}

/// Evictions in the making, put in order at the end.
#[derive(Debug, Default)]
pub(super) struct Evictions<'a>(Vec<Eviction<'a>>);

#[derive(Debug)]
struct Eviction<'a> {
    /// When the unit might have gone.
    at: Option<Timestamp>,
    unit: FileKey,
    file: &'a CachedFile,
    why: EvictWhy,
}

/// What evictions are ordered by.
type Place<'e> = (bool, bool, Option<Timestamp>, &'e MediaPath, &'e Text, bool, &'e MediaPath);

impl Eviction<'_> {
    fn place(&self) -> Place<'_> {
        let Self { at, unit, file, why } = self;
        let path = &file.cached.action.path;
        (*why != EvictWhy::Gone, at.is_none(), *at, &unit.path, &unit.map, *path == unit.path, path)
    }
}

impl<'a> Evictions<'a> {
    /// Evicts `files` of the unit; those whose copy is gone for that reason.
    pub(super) fn push(&mut self, unit: &Unit, files: &[&'a CachedFile], why: EvictWhy) {
        let at = if unit.candidate.is_none() { unit.release().map(|release| release.at) } else { None };
        for &file in files {
            let why = if file.state == CopyState::Gone { EvictWhy::Gone } else { why };
            self.0.push(Eviction { at, unit: unit.key.clone(), file, why });
        }
    }

    /// How many copies that are there will leave the cache.
    pub(super) fn leaving(&self) -> usize {
        self.0.iter().filter(|eviction| eviction.why != EvictWhy::Gone).count()
    }

    /// First what is gone already, then by the time at which it might have gone, then by path. Within
    /// a unit its first part comes last: should the run be cut short, what plays is still there.
    pub(super) fn actions(mut self) -> Vec<Action> {
        self.0.sort_by(|one, other| one.place().cmp(&other.place()));
        let action = |Eviction { file, why, .. }: Eviction| Action {
            kind: Kind::Evict,
            evict_why: Some(why),
            ..file.cached.action.clone()
        };
        self.0.into_iter().map(action).collect()
    }
}
