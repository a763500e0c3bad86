//! What an explicit `evict` takes off the cache.
//!
//! Owns the choice by path, by age, by amount, or of everything. A person asked, so nothing is in
//! grace and no undo holds a file; but what plays or is open stays, and so does what is pinned, unless
//! it was named or pins were included. Units are whole here too: a path takes its unit along.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::room::cost;
use super::units::{Evictions, Unit, group};
use super::{CachedFile, Candidate, EvictWhy, Plan, Why};
use crate::select::FileKey;

/// What is to leave the cache.
#[derive(Debug, Clone, Copy)]
pub enum Choice<'a> {
    /// The units of these files, pinned or not: they were named.
    Paths(&'a BTreeSet<FileKey>),
    /// Everything; what is pinned only when it says so.
    All { pinned: bool },
    /// Units of which nothing was cached at this time or later.
    OlderThan(Timestamp),
    /// The lowest ranks, until this many bytes would be free.
    Free(u64),
}

/// Plans an explicit `evict`. `candidates` are the wants last known, for the ranks only; there may
/// be none.
pub fn plan_evict(choice: &Choice, candidates: &[Candidate], cached: &BTreeMap<FileKey, CachedFile>) -> Plan {
    let mut units = group(candidates, cached);
    units.retain(|unit| !unit.present.is_empty() || !unit.gone.is_empty());
    let present: usize = units.iter().map(|unit| unit.present.len()).sum();
    if let Choice::Free(_) = choice {
        lowest_first(&mut units);
    }
    let mut evictions = Evictions::default();
    let mut skipped = Vec::new();
    let mut freed = 0;
    for unit in &units {
        let chosen = match choice {
            Choice::Paths(keys) => files(unit).any(|file| keys.contains(&file.cached.action.key())),
            Choice::All { .. } => true,
            Choice::OlderThan(time) => files(unit).all(|file| file.cached.at < *time),
            Choice::Free(bytes) => freed < i128::from(*bytes) && !unit.present.is_empty(),
        };
        if !chosen {
            continue;
        }
        evictions.push(unit, &unit.gone, EvictWhy::Gone);
        if let Some(protection) = protection(unit, choice) {
            skipped.push(unit.stays(protection));
            continue;
        }
        evictions.push(unit, &unit.present, EvictWhy::Asked);
        freed += unit.present.iter().map(|file| cost(file.cached.action.size)).sum::<i128>();
    }
    let kept = present - evictions.leaving();
    Plan { actions: evictions.actions(), skipped, kept_files: kept.try_into().unwrap_or(u64::MAX) }
}

fn files<'u, 'a>(unit: &'u Unit<'a>) -> impl Iterator<Item = &'u &'a CachedFile> {
    unit.present.iter().chain(&unit.gone)
}

fn protection(unit: &Unit, choice: &Choice) -> Option<(Why, String)> {
    let pins_too = matches!(choice, Choice::Paths(_) | Choice::All { pinned: true });
    unit.in_use().or_else(|| if pins_too { None } else { unit.pinned() })
}

/// What nobody wants first, by the time at which it may go (those where that is not known last);
/// then from the lowest rank up.
fn lowest_first(units: &mut Vec<Unit>) {
    let mut ranked: Vec<(usize, Unit)> = units.drain(..).enumerate().collect();
    ranked.sort_by_cached_key(|(index, unit)| match (unit.candidate, unit.release()) {
        (None, Some(release)) => (0, Some(release.at), Reverse(0), unit.key.clone()),
        (None, None) => (1, None, Reverse(0), unit.key.clone()),
        (Some(_), _) => (2, None, Reverse(*index), unit.key.clone()),
    });
    units.extend(ranked.into_iter().map(|(_, unit)| unit));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{GIB, World, hours, key, lines};
    use super::*;
    use crate::plan::CopyState;

    fn plan(world: &World, choice: Choice) -> Vec<String> {
        lines(&plan_evict(&choice, &world.candidates, &world.cached))
    }

    fn world() -> World {
        World::with_room_for(99)
    }

    #[test]
    fn a_named_path_takes_its_unit_along_pinned_or_held() {
        let mut world = world();
        world.cached("a", 1).pinned = true;
        let sidecar = world.cached("a.srt", 1);
        Arc::make_mut(&mut sidecar.cached).action.unit = key("a").path;
        sidecar.held_until = Some(hours(1));
        world.cached("b", 1);
        let named = BTreeSet::from([key("a.srt"), key("never cached")]);
        assert_eq!(plan(&world, Choice::Paths(&named)), ["evict a.srt: Asked", "evict a: Asked"]);
        assert_eq!(plan_evict(&Choice::Paths(&named), &[], &world.cached).kept_files, 1);
    }

    #[test]
    fn what_plays_or_is_open_stays_even_when_named() {
        let mut world = world();
        world.cached("a", 1).playing = true;
        world.cached("b", 1).open = Some("open in pid 1 (cat)".into());
        let named = BTreeSet::from([key("a"), key("b")]);
        let expected = ["no evict a: Playing, plays now", "no evict b: Open, open in pid 1 (cat)"];
        assert_eq!(plan(&world, Choice::Paths(&named)), expected);
        assert_eq!(plan(&world, Choice::All { pinned: true }), expected);
    }

    #[test]
    fn all_leaves_pins_alone_unless_told() {
        let mut world = world();
        world.cached("a", 1).pinned = true;
        world.cached("b", 1).state = CopyState::Changed;
        world.cached("c", 1).state = CopyState::Gone;
        let expected = ["evict c: Gone", "evict b: Asked", "no evict a: Pinned, matches a pin"];
        assert_eq!(plan(&world, Choice::All { pinned: false }), expected);
        assert_eq!(plan(&world, Choice::All { pinned: true }), ["evict c: Gone", "evict a: Asked", "evict b: Asked"]);
    }

    #[test]
    fn the_newest_file_of_a_unit_says_how_old_it_is() {
        let mut world = world();
        Arc::make_mut(&mut world.cached("old", 1).cached).at = hours(-9);
        Arc::make_mut(&mut world.cached("edge", 1).cached).at = hours(-5);
        Arc::make_mut(&mut world.cached("mixed", 1).cached).at = hours(-9);
        let sidecar = world.cached("mixed.srt", 1);
        Arc::make_mut(&mut sidecar.cached).action.unit = key("mixed").path;
        Arc::make_mut(&mut sidecar.cached).at = hours(-1);
        assert_eq!(plan(&world, Choice::OlderThan(hours(-5))), ["evict old: Asked"]);
    }

    #[test]
    fn room_is_freed_from_the_lowest_rank_up_and_no_further_than_asked() {
        let mut world = world();
        world.wanted_and_cached("first", 1);
        world.wanted_and_cached("second", 1);
        world.cached("unknown", 1).release = None;
        world.in_grace("late", 1, 9);
        world.in_grace("pinned", 1, 8).pinned = true;
        world.in_grace("early", 1, 1);
        // In the order in which they are chosen.
        let order = ["early", "late", "unknown", "second", "first"];
        for (count, bytes) in [(0, 0), (1, 1), (1, GIB), (2, GIB + 1), (3, 3 * GIB), (4, 4 * GIB), (5, 99 * GIB)] {
            let actions = plan_evict(&Choice::Free(bytes), &world.candidates, &world.cached).actions;
            let chosen: BTreeSet<String> = actions.iter().map(|action| action.path.as_str().into()).collect();
            assert_eq!(chosen, order[..count].iter().map(|&path| path.into()).collect(), "{bytes}");
        }
    }
}
