//! What a `sync` caches and evicts.
//!
//! Owns the order in which units compete for room: first what must stay, then what is wanted by rank
//! and without gaps in a show, then what of the wanted is on the cache already, then what is in its
//! grace. Refuses to evict what is in use, held, pinned or of unknown standing, and to evict a changed
//! copy only for room. `evict` without arguments is the same plan without its copies.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8Path;

use super::room::{self, Load, PoolOf, Reserve, Rooms, cost};
use super::units::{Evictions, Unit, group};
use super::{Action, CachedFile, CandidateFile, EvictWhy, FileState, Input, Kind, Plan, Skip, Why};
use crate::config::Placement;
use crate::select::{FileKey, Want};

/// Plans `sync` (`cache` and `evict` set), `sync --no-evict`, or `evict` without arguments (`cache`
/// not set: all that `sync` would evict, also to make room for what it would cache).
pub fn plan_sync(input: &Input) -> Plan {
    let items = items(input);
    let mut walk = Walk::new(input, &items, Reserve::Whole);
    if walk.evicts(&items) {
        walk = Walk::new(input, &items, Reserve::Half);
    }
    assemble(input, &items, walk)
}

/// A unit and all that decides about it.
struct Item<'a> {
    unit: Unit<'a>,
    standing: Standing,
    /// What is on the cache.
    present: Load,
    lacks: Lacks<'a>,
    /// Why nothing of it can be cached. Known of what is cached already, too: should it have to make
    /// room, then what follows must be decided as it will be when it is not there any more.
    hindrance: Option<(Why, String)>,
}

/// What is to become of that part of a unit which is on the cache.
enum Standing {
    /// Stays, without a word.
    Stays,
    /// Stays, for this reason, although it is due to go.
    Spared((Why, String)),
    /// Must not make room, for this reason.
    Protected((Why, String)),
    /// Stays while there is room.
    Loose,
    /// Goes, because nobody wants it any more, or because it is not what is wanted any more.
    Due(EvictWhy),
}

/// What a wanted unit has not on the cache.
#[derive(Default)]
struct Lacks<'a> {
    any: bool,
    /// To be cached now. Room is needed for these, and for `later`.
    now: Vec<&'a CandidateFile>,
    /// To be cached by the next run, once this one has repaired what is left of them.
    later: Vec<&'a CandidateFile>,
    /// Sidecars that cannot be cached; the unit does without.
    blocked: Vec<(&'a CandidateFile, Why, &'a str)>,
    load: Load,
}

/// All units: wanted ones by rank, then the others, those that may go last first.
fn items<'a>(input: &Input<'a>) -> Vec<Item<'a>> {
    let pools = PoolOf::new(input.pools);
    let mut items: Vec<Item> = group(input.candidates, input.cached)
        .into_iter()
        .map(|unit| {
            let mut present = Load::default();
            for file in &unit.present {
                // A root of no pool has no limit that could be kept.
                if let Some(pool) = pools.get(&file.cached.action.cache_root) {
                    present.add(pool, cost(file.cached.action.size));
                }
            }
            let standing = standing(&unit, input);
            // A wanted unit that goes is cached anew by the next run, whole.
            let (lacks, hindrance) =
                if matches!(standing, Standing::Due(_)) { Default::default() } else { lacks(&unit, input, &pools) };
            Item { unit, standing, present, lacks, hindrance }
        })
        .collect();
    let wanted = items.iter().take_while(|item| item.unit.candidate.is_some()).count();
    // Stable: what may go at the same time stays in the order of its keys.
    items[wanted..].sort_by_key(|item| std::cmp::Reverse(item.unit.release().map(|release| release.at)));
    items
}

fn standing(unit: &Unit, input: &Input) -> Standing {
    if unit.present.is_empty() || !input.evict {
        return Standing::Stays;
    }
    if unit.superseded() && unit.in_use().is_none() && !input.sessions_unknown {
        return Standing::Due(EvictWhy::Replaced);
    }
    let blocked = unit.candidate.and_then(|candidate| candidate.blocked.clone());
    let untouchable = unit
        .in_use()
        .or_else(|| unit.held(input.now))
        .or_else(|| unit.pinned())
        .or_else(|| blocked.filter(|(why, _)| matches!(why, Why::Playing | Why::Unknown)))
        .or_else(|| input.sessions_unknown.then(|| (Why::Unknown, "what Plex plays now could not be read".into())));
    let release = unit.release();
    let wanted = unit.candidate.is_some();
    match (untouchable, release) {
        (Some(why), Some(release)) if !wanted && release.at <= input.now => Standing::Spared(why),
        (None, Some(release)) if !wanted && release.at <= input.now => Standing::Due(release.why),
        (Some(why), _) => Standing::Protected(why),
        (None, None) if !wanted => {
            Standing::Protected((Why::Unknown, "not all who wanted it have answered completely".into()))
        }
        (None, _) => unit.changed().map_or(Standing::Loose, Standing::Protected),
    }
}

/// What the unit lacks, and why nothing of it can be cached, if so.
fn lacks<'a>(unit: &Unit<'a>, input: &Input, pools: &PoolOf) -> (Lacks<'a>, Option<(Why, String)>) {
    let mut lacks = Lacks::default();
    let Some(candidate) = unit.candidate else {
        return (lacks, None);
    };
    let gone: BTreeMap<FileKey, &CachedFile> = unit.gone.iter().map(|&file| (file.cached.action.key(), file)).collect();
    let parts: BTreeSet<&FileKey> = candidate.want.parts.iter().collect();
    let mut hindrance = candidate.blocked.clone();
    lacks.any = hindrance.is_some() && candidate.want.parts.iter().any(|part| !unit.has(part));
    for &file in unit.files.iter().filter(|file| !unit.has(&file.key)) {
        match (&file.state, gone.get(&file.key)) {
            (FileState::Blocked { why, detail }, _) if parts.contains(&file.key) => {
                lacks.any = true;
                hindrance = hindrance.or_else(|| Some((*why, detail.clone())));
            }
            (FileState::Blocked { why, detail }, _) => lacks.blocked.push((file, *why, detail)),
            (FileState::OnArray { .. }, None) => lacks.now.push(file),
            // Cached as the caller sees it, and nothing that we know of: nothing to do.
            (FileState::Cached, None) => {}
            // What is left of it is repaired by an eviction, so not in a run without any.
            (_, Some(_)) if !input.evict => {}
            // In `copy` that repair touches nothing but the records.
            (FileState::OnArray { .. }, Some(gone))
                if file.placement == Placement::Copy && gone.cached.action.placement == Placement::Copy =>
            {
                lacks.now.push(file);
            }
            (_, Some(_)) => lacks.later.push(file),
        }
    }
    for file in lacks.now.iter().chain(&lacks.later) {
        lacks.any = true;
        if let Some(pool) = pools.get(&file.cache_root) {
            lacks.load.add(pool, cost(file.size));
        } else {
            let unlimited = || (Why::Unavailable, format!("no limits are known for {}", file.cache_root));
            hindrance = hindrance.or_else(|| Some(unlimited()));
        }
    }
    let hindrance = hindrance.or_else(|| held_off(unit, input));
    (lacks, hindrance)
}

fn held_off(unit: &Unit, input: &Input) -> Option<(Why, String)> {
    if input.held_off.is_empty() {
        return None;
    }
    let parts = unit.candidate.iter().flat_map(|candidate| &candidate.want.parts);
    let keys = parts.chain(unit.files.iter().map(|file| &file.key));
    let until = keys.filter_map(|key| input.held_off.get(key)).max()?;
    (*until > input.now).then(|| (Why::Held, format!("evicted by an undo, held off until {until}")))
}

/// One pass over all units: what finds room, and what does not. Its vectors go by item.
struct Walk {
    rooms: Rooms,
    /// What is on the cache of it stays.
    stays: Vec<bool>,
    /// What it lacks is cached.
    selected: Vec<bool>,
    /// It stays for a reason, but would have had to make room.
    spared: Vec<bool>,
    /// Why what it lacks is not cached.
    refused: Vec<Option<(Why, String)>>,
    /// By pool, the best-ranked item that found no room there.
    first_short: BTreeMap<usize, usize>,
}

impl Walk {
    fn new(input: &Input, items: &[Item], reserve: Reserve) -> Self {
        let mut owned = Load::default();
        for item in items {
            owned.merge(&item.present);
        }
        let mut walk = Self {
            rooms: Rooms::new(input.pools, &owned, reserve),
            stays: vec![false; items.len()],
            selected: vec![false; items.len()],
            spared: vec![false; items.len()],
            refused: vec![None; items.len()],
            first_short: BTreeMap::new(),
        };
        walk.settle_what_must_stay(items);
        if input.make_room {
            walk.select(items);
            walk.keep_what_fits(items);
        } else {
            walk.keep_what_fits(items);
            walk.select(items);
        }
        if input.make_room {
            walk.spare_what_would_have_made_room(items);
        }
        walk
    }

    /// These occupy their room first, even beyond the limits.
    fn settle_what_must_stay(&mut self, items: &[Item]) {
        for (index, item) in items.iter().enumerate() {
            match &item.standing {
                Standing::Stays | Standing::Spared(_) => {}
                Standing::Protected(_) => self.spared[index] = self.rooms.shortage(&item.present, false) > 0,
                Standing::Loose | Standing::Due(_) => continue,
            }
            self.stays[index] = true;
            self.rooms.take(&item.present, false);
        }
    }

    /// Keeps, in their order, the loose units for which there is room.
    fn keep_what_fits(&mut self, items: &[Item]) {
        for (index, item) in items.iter().enumerate() {
            if matches!(item.standing, Standing::Loose) && !self.stays[index] {
                self.keep_if_it_fits(index, item);
            }
        }
    }

    fn keep_if_it_fits(&mut self, index: usize, item: &Item) {
        if self.rooms.shortage(&item.present, false) == 0 {
            self.stays[index] = true;
            self.rooms.take(&item.present, false);
        }
    }

    /// Gives room to the wanted units by rank. After the first episode of a show that finds none, its
    /// later ones are passed over: they would be of no use before it.
    fn select(&mut self, items: &[Item]) {
        let mut gaps: BTreeMap<&str, &str> = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            let Some(Want { show, title, .. }) = item.unit.candidate.map(|candidate| &*candidate.want) else {
                break;
            };
            if let Some(hindrance) = &item.hindrance {
                if item.lacks.any {
                    self.refused[index] = Some(hindrance.clone());
                }
                if !self.stays[index] {
                    self.keep_if_it_fits(index, item);
                }
                if let (Why::NoRoom, Some(show)) = (hindrance.0, show) {
                    gaps.entry(show).or_insert(title);
                }
                continue;
            }
            if let Some(first) = show.as_deref().and_then(|show| gaps.get(show)) {
                if item.lacks.any {
                    self.refused[index] = Some((Why::NoRoom, format!("after {first}, which does not fit")));
                }
                continue;
            }
            let mut load = item.lacks.load.clone();
            if !self.stays[index] {
                load.merge(&item.present);
            }
            let shortage = self.rooms.shortage(&load, item.lacks.any);
            if shortage == 0 {
                self.rooms.take(&load, item.lacks.any);
                self.stays[index] = true;
                self.selected[index] = true;
                continue;
            }
            for pool in self.rooms.short_pools(&load, item.lacks.any) {
                self.first_short.entry(pool).or_insert(index);
            }
            if item.lacks.any {
                self.refused[index] = Some((Why::NoRoom, format!("short by {}", room::words(shortage))));
            }
            if let Some(show) = show {
                gaps.insert(show, title);
            }
        }
    }

    /// Finds the protected units that something of higher rank would have pushed out.
    fn spare_what_would_have_made_room(&mut self, items: &[Item]) {
        for (index, item) in items.iter().enumerate() {
            if matches!(item.standing, Standing::Protected(_)) {
                let first_short = room::pools(&item.present).filter_map(|pool| self.first_short.get(&pool)).min();
                self.spared[index] |= first_short.is_some_and(|&first| first < index);
            }
        }
    }

    /// Whether any copy leaves the cache.
    fn evicts(&self, items: &[Item]) -> bool {
        items.iter().zip(&self.stays).any(|(item, stays)| !stays && !item.unit.present.is_empty())
    }
}

fn assemble(input: &Input, items: &[Item], walk: Walk) -> Plan {
    let mut evictions = Evictions::default();
    let mut skipped = Vec::new();
    let mut roots: BTreeMap<&Utf8Path, usize> = BTreeMap::new();
    let mut cachings = Vec::new();
    for (index, (item, refused)) in items.iter().zip(walk.refused).enumerate() {
        let unit = &item.unit;
        if input.evict {
            evictions.push(unit, &unit.gone, EvictWhy::Gone);
        }
        match &item.standing {
            Standing::Due(why) => evictions.push(unit, &unit.present, *why),
            Standing::Loose if !walk.stays[index] => evictions.push(unit, &unit.present, EvictWhy::MakeRoom),
            Standing::Spared(why) => skipped.push(unit.stays(why.clone())),
            Standing::Protected(why) if walk.spared[index] => skipped.push(unit.stays(why.clone())),
            Standing::Stays | Standing::Protected(_) | Standing::Loose => {}
        }
        let Some(want) = unit.candidate.map(|candidate| &candidate.want).filter(|_| input.cache) else {
            continue;
        };
        if let Some((why, detail)) = refused {
            skipped.push(left_out(item, want, why, detail));
        }
        if walk.selected[index] {
            for &(file, why, detail) in &item.lacks.blocked {
                skipped.push(left_out_sidecar(file, want, why, detail));
            }
            // Sidecars first: a run that is cut short then leaves a unit that lacks a part, and such a unit is
            // looked at again, while nobody looks for the sidecars of one whose parts are all there.
            let is_part: BTreeSet<&FileKey> = want.parts.iter().collect();
            let (parts, sidecars): (Vec<&CandidateFile>, Vec<&CandidateFile>) =
                item.lacks.now.iter().partition(|file| is_part.contains(&file.key));
            // A sidecar on another disk than its video goes with it all the same.
            let Some(home) = parts.first().or(sidecars.first()) else { continue };
            let next = roots.len();
            let root = *roots.entry(&home.array_root).or_insert(next);
            for file in sidecars.into_iter().chain(parts) {
                cachings.push((root, caching(file, want, !item.lacks.blocked.is_empty())));
            }
        }
    }
    // Stable: within a root they stay by rank, parts after their sidecars.
    cachings.sort_by_key(|(root, _)| *root);
    let present: usize = items.iter().map(|item| item.unit.present.len()).sum();
    let kept = present - evictions.leaving();
    let mut actions = evictions.actions();
    actions.extend(cachings.into_iter().map(|(_, action)| action));
    Plan { actions, skipped, kept_files: kept.try_into().unwrap_or(u64::MAX) }
}

fn caching(file: &CandidateFile, want: &Want, left_out: bool) -> Action {
    let FileState::OnArray { array, adopt } = file.state else {
        unreachable!("only what is on the array is chosen to be cached")
    };
    Action {
        kind: Kind::Cache,
        map: file.key.map.clone(),
        path: file.key.path.clone(),
        unit: want.unit().path.clone(),
        title: want.title.clone(),
        rating_key: want.rating_key.clone(),
        media_id: want.media_id.clone(),
        updated_at: want.updated_at,
        reasons: want.reasons.clone(),
        evict_why: None,
        placement: file.placement,
        array_root: file.array_root.clone(),
        cache_root: file.cache_root.clone(),
        size: file.size,
        array: Some(array),
        copy: adopt,
        checksum: None,
        left_out,
    }
}

/// The skip of all that a wanted unit lacks.
fn left_out(item: &Item, want: &Want, why: Why, detail: String) -> Skip {
    let first = item.unit.files.iter().find(|file| file.key == item.unit.key);
    let lacks = item.lacks.now.iter().chain(&item.lacks.later);
    Skip {
        kind: Kind::Cache,
        map: item.unit.key.map.clone(),
        path: item.unit.key.path.as_str().into(),
        unit: item.unit.key.path.as_str().into(),
        title: want.title.clone(),
        array_path: first.map(|file| file.array_root.join(file.key.path.as_path())),
        cache_path: first.map(|file| file.cache_root.join(file.key.path.as_path())),
        size: lacks.fold(0, |sum, file| sum.saturating_add(file.size)),
        why,
        detail,
        reasons: want.reasons.clone(),
    }
}

fn left_out_sidecar(file: &CandidateFile, want: &Want, why: Why, detail: &str) -> Skip {
    Skip {
        kind: Kind::Cache,
        map: file.key.map.clone(),
        path: file.key.path.as_str().into(),
        unit: want.unit().path.as_str().into(),
        title: want.title.clone(),
        array_path: Some(file.array_root.join(file.key.path.as_path())),
        cache_path: Some(file.cache_root.join(file.key.path.as_path())),
        size: file.size,
        why,
        detail: detail.into(),
        reasons: want.reasons.clone(),
    }
}
