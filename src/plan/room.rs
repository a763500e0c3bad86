//! What fits within the limits of the cache file systems.
//!
//! Owns the arithmetic: what a file costs, how much room the limits leave, and the reserve that keeps
//! two plans with the same answers from deciding differently. Knows bytes and pools, not units.
//!
//! **The reserve.** `max_size` counts the costs of our own files and nothing else, so it is exact.
//! `min_free` depends on what the file system says is free, and a copy takes a little more than its
//! cost there (extents, checksums, directories), while an eviction gives a little more back. A plan
//! cannot know how much. So whatever is new must leave a reserve, and so must all that is kept beside
//! it; what is there already needs none. A copy's overhead then comes out of the reserve and pushes
//! nothing out the next time. For the other direction, a plan that evicts asks for half the reserve
//! only: what its evictions give back beyond their cost never suffices for the whole reserve that
//! the next plan, which evicts nothing, asks for. Both hold as long as the overheads of one run are
//! below half the reserve: at the least 32 MiB on a file system of 6.4 GiB and more.

use std::collections::BTreeMap;

use camino::Utf8Path;

use super::Pool;

const BLOCK: u64 = 4096;
const MIB: i128 = 1 << 20;

/// What a file of `size` bytes counts towards the limits: whole blocks.
pub(super) fn cost(size: u64) -> i128 {
    i128::from(size.div_ceil(BLOCK)) * i128::from(BLOCK)
}

/// Bytes on each pool, by the pool's place in the input. Every unit has one, and most are on one pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Load(Vec<(usize, i128)>);

impl Load {
    pub(super) fn add(&mut self, pool: usize, bytes: i128) {
        match self.0.binary_search_by_key(&pool, |(pool, _)| *pool) {
            Ok(place) => self.0[place].1 += bytes,
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, (pool, bytes));
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for &(pool, bytes) in &other.0 {
            self.add(pool, bytes);
        }
    }

    fn on(&self, pool: usize) -> i128 {
        self.0.iter().find(|(other, _)| *other == pool).map_or(0, |(_, bytes)| *bytes)
    }
}

/// Which pool a cache root is on.
pub(super) struct PoolOf<'a>(BTreeMap<&'a Utf8Path, usize>);

impl<'a> PoolOf<'a> {
    pub(super) fn new(pools: &'a [Pool]) -> Self {
        let roots = |(index, pool): (usize, &'a Pool)| pool.cache_roots.iter().map(move |root| (root.as_path(), index));
        Self(pools.iter().enumerate().flat_map(roots).collect())
    }

    pub(super) fn get(&self, cache_root: &Utf8Path) -> Option<usize> {
        self.0.get(cache_root).copied()
    }
}

/// How much of the reserve new copies must leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reserve {
    /// For a plan that evicts nothing.
    Whole,
    /// For a plan that evicts.
    Half,
}

/// What is left within the limits of one pool. Below zero when what must stay exceeds them.
#[derive(Debug, Clone)]
struct Room {
    /// Towards `max_size`.
    size: i128,
    /// Towards `min_free`.
    free: i128,
    reserve: i128,
    /// Something new was taken in: from now on the reserve is kept.
    renewed: bool,
}

/// What is left within the limits while a plan is being made.
#[derive(Debug, Clone)]
pub(super) struct Rooms(Vec<Room>);

impl Rooms {
    /// The room there would be with nothing of ours on the cache; `owned` is what of ours is there now.
    pub(super) fn new(pools: &[Pool], owned: &Load, reserve: Reserve) -> Self {
        let room = |(index, pool): (usize, &Pool)| {
            let total = i128::from(pool.total);
            let whole = (total / 1024).max(64 * MIB).min(total / 100);
            Room {
                size: i128::from(pool.max_size),
                free: owned.on(index) + i128::from(pool.free) - i128::from(pool.min_free),
                reserve: if reserve == Reserve::Half { whole / 2 } else { whole },
                renewed: false,
            }
        };
        Self(pools.iter().enumerate().map(room).collect())
    }

    /// By how many bytes `load` exceeds what is left, over all its pools; 0 when it fits.
    /// `new`: not all of it is on the cache yet.
    pub(super) fn shortage(&self, load: &Load, new: bool) -> i128 {
        load.0.iter().map(|&(pool, bytes)| self.0[pool].shortage(bytes, new)).sum()
    }

    /// The pools on which `load` does not fit.
    pub(super) fn short_pools(&self, load: &Load, new: bool) -> impl Iterator<Item = usize> {
        load.0.iter().filter(move |&&(pool, bytes)| self.0[pool].shortage(bytes, new) > 0).map(|(pool, _)| *pool)
    }

    /// Takes `load` in, whether it fits or not.
    pub(super) fn take(&mut self, load: &Load, new: bool) {
        for &(pool, bytes) in &load.0 {
            let room = &mut self.0[pool];
            room.size -= bytes;
            room.free -= bytes;
            room.renewed |= new;
        }
    }
}

impl Room {
    fn shortage(&self, bytes: i128, new: bool) -> i128 {
        if bytes == 0 && !new {
            return 0;
        }
        let reserve = if new || self.renewed { self.reserve } else { 0 };
        (bytes - self.size).max(bytes + reserve - self.free).max(0)
    }
}

/// The pools that hold some of `load`.
pub(super) fn pools(load: &Load) -> impl Iterator<Item = usize> {
    load.0.iter().map(|(pool, _)| *pool)
}

/// An amount for people, rounded up so that a shortage never reads as none.
pub(super) fn words(bytes: i128) -> String {
    let (unit, name) = match bytes {
        b if b >= 1024 * MIB => (1024 * MIB, "GiB"),
        b if b >= MIB => (MIB, "MiB"),
        _ => (1024, "KiB"),
    };
    let tenths = (bytes * 10 + unit - 1) / unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_costs_whole_blocks_whatever_size_is_claimed() {
        for (size, expected) in [(0, 0), (1, 4096), (4096, 4096), (4097, 8192), (u64::MAX, 1 << 64)] {
            assert_eq!(cost(size), expected, "{size}");
        }
    }

    #[test]
    fn an_amount_has_one_decimal_and_is_rounded_up() {
        let cases = [
            (1, "0.1 KiB"),
            (4096, "4.0 KiB"),
            (3 * MIB + 1, "3.1 MiB"),
            (3 << 30, "3.0 GiB"),
            (1 << 64, "17179869184.0 GiB"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(words(bytes), expected);
        }
    }

    fn pool(total: u64, free: u64, max_size: u64, min_free: u64) -> Pool {
        Pool { cache_roots: std::iter::once("/cache".into()).collect(), total, free, max_size, min_free }
    }

    fn load(bytes: i128) -> Load {
        Load([(0, bytes)].into())
    }

    #[test]
    fn the_smaller_of_both_limits_counts() {
        // (free, max_size, min_free, owned) and what is left for what is there already
        let cases = [
            ((500, 300, 100, 0), 300),
            ((500, 900, 100, 0), 400),
            ((50, 900, 100, 200), 150),
            ((0, 900, 100, 0), -100),
        ];
        for ((free, max_size, min_free, owned), left) in cases {
            let rooms = Rooms::new(&[pool(1000, free, max_size, min_free)], &load(owned), Reserve::Whole);
            assert_eq!(rooms.shortage(&load(1000), false), 1000 - left);
        }
    }

    #[test]
    fn what_is_new_leaves_a_reserve_towards_min_free_but_not_towards_max_size() {
        let gib = 1 << 30;
        let reserve = 100 * i128::from(gib) / 1024;
        let by_free = Rooms::new(&[pool(100 * gib, 10 * gib, 90 * gib, 0)], &Load::default(), Reserve::Whole);
        assert_eq!(by_free.shortage(&load(10 << 30), false), 0);
        assert_eq!(by_free.shortage(&load(10 << 30), true), reserve);
        let by_size = Rooms::new(&[pool(100 * gib, 90 * gib, 10 * gib, 0)], &Load::default(), Reserve::Whole);
        assert_eq!(by_size.shortage(&load(10 << 30), true), 0);
    }

    #[test]
    fn what_stays_beside_something_new_leaves_the_reserve_too() {
        let pools = [pool(1 << 40, 10 << 30, u64::MAX, 0)];
        let mut rooms = Rooms::new(&pools, &Load::default(), Reserve::Half);
        assert_eq!(rooms.shortage(&load(5 << 30), false), 0);
        rooms.take(&load(5 << 30), true);
        assert_eq!(rooms.shortage(&load(5 << 30), false), 512 * MIB);
        assert_eq!(rooms.shortage(&load(0), false), 0);
    }

    #[test]
    fn the_reserve_is_a_hundredth_of_a_tiny_file_system() {
        let rooms = Rooms::new(&[pool(1000 << 20, 1000 << 20, u64::MAX, 0)], &Load::default(), Reserve::Whole);
        assert_eq!(rooms.shortage(&load(990 * MIB), true), 0);
        assert_eq!(rooms.shortage(&load(991 * MIB), true), MIB);
    }
}
