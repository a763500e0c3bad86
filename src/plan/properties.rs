//! What holds for every plan: the limits, whole units, one order, and nothing left to do.
//!
//! Each case is a random library on two pools whose limits lie within a few blocks of where they begin
//! to matter. Plans are carried out by arithmetic: a copy takes up to 16 KiB and 0.01 % more than its
//! cost, an eviction gives back as much.

use proptest::prelude::*;
use proptest::sample::select;

use super::room::cost;
use super::testing::{GIB, NOW, World, hours, key, on_array};
use super::*;

/// How one unit comes into the world.
#[derive(Debug, Clone)]
struct Seed {
    wanted: bool,
    show: Option<u8>,
    pool: usize,
    disk: u8,
    /// Of its files, the first part and, where there are any, another part and a sidecar: GiB.
    sizes: Vec<u64>,
    /// Which of them are cached.
    cached: Vec<bool>,
    /// Hours, from now on.
    release: Option<i64>,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Plain,
    Playing,
    Open,
    Held,
    Pinned,
    Changed,
    Gone,
    HeldOff,
    BlockedPlaying,
    BlockedConflict,
    BlockedSidecar,
}

fn seed() -> impl Strategy<Value = Seed> {
    use Fate::{
        BlockedConflict, BlockedPlaying, BlockedSidecar, Changed, Gone, Held, HeldOff, Open, Pinned, Plain, Playing,
    };
    let rare =
        vec![Playing, Open, Held, Pinned, Changed, Gone, HeldOff, BlockedPlaying, BlockedConflict, BlockedSidecar];
    let fate = prop_oneof![4 => Just(Plain), 1 => select(rare)];
    let cached = prop_oneof![
        3 => Just(vec![false; 3]),
        3 => Just(vec![true; 3]),
        1 => prop::collection::vec(any::<bool>(), 3)
    ];
    let sizes = prop::collection::vec(1..6_u64, 1..4);
    let release = prop::option::weighted(0.8, -3..4_i64);
    let show = prop::option::of(0..3_u8);
    (prop::bool::weighted(0.7), show, 0..2_usize, 0..3_u8, sizes, cached, release, fate).prop_map(
        |(wanted, show, pool, disk, sizes, cached, release, fate)| Seed {
            wanted,
            show,
            pool,
            disk,
            sizes,
            cached,
            release,
            fate,
        },
    )
}

/// A world, and what each file takes beyond its cost.
fn world() -> impl Strategy<Value = (World, Vec<u16>)> {
    let limit = || (4..60_u64, 0..30_u64, 0..3_u64, -48..48_i64);
    let switches = (prop::bool::weighted(0.7), prop::bool::weighted(0.85), prop::bool::weighted(0.1));
    let overheads = prop::collection::vec(any::<u16>(), 1..40);
    (prop::collection::vec(seed(), 1..16), limit(), limit(), switches, overheads).prop_map(
        |(seeds, first, second, (make_room, evict, sessions_unknown), overheads)| {
            let mut world = World::with_room_for(0);
            (world.make_room, world.evict, world.sessions_unknown) = (make_room, evict, sessions_unknown);
            world.pools = [first, second].into_iter().enumerate().map(|(index, limit)| pool(index, limit)).collect();
            for (index, seed) in seeds.iter().enumerate() {
                plant(&mut world, index, seed);
            }
            (world, overheads)
        },
    )
}

fn pool(index: usize, (max_size, free, reserves, blocks): (u64, u64, u64, i64)) -> Pool {
    let total = 100 * GIB;
    let near = free * GIB + reserves * (total / 1024 / 2);
    Pool {
        cache_roots: [format!("/cache{index}").into()].into(),
        total,
        free: (50 * GIB + near).checked_add_signed(blocks * 1024).unwrap(),
        max_size: max_size * GIB,
        min_free: 50 * GIB,
    }
}

fn plant(world: &mut World, index: usize, seed: &Seed) {
    let title = match seed.show {
        Some(show) => format!("Show{show} S01E{index:02}"),
        None => format!("Film{index:02}"),
    };
    let names = [title.clone(), format!("{title}.cd2"), format!("{title}.srt")];
    let root = |file: &mut CandidateFile| {
        file.cache_root = format!("/cache{}", seed.pool).into();
        file.array_root = format!("/disk{}", seed.disk).into();
    };
    for ((name, &gib), cached) in names.iter().zip(&seed.sizes).zip(&seed.cached) {
        if !cached {
            continue;
        }
        let file = world.cached(name, gib);
        Arc::make_mut(&mut file.cached).action.unit = key(&title).path;
        Arc::make_mut(&mut file.cached).action.cache_root = format!("/cache{}", seed.pool).into();
        file.release = seed.release.map(|at| Release { at: hours(at), why: EvictWhy::Unwanted });
        match seed.fate {
            Fate::Playing => file.playing = true,
            Fate::Open => file.open = Some("open".into()),
            Fate::Held => file.held_until = Some(hours(1)),
            Fate::Pinned => file.pinned = true,
            Fate::Changed => file.state = CopyState::Changed,
            Fate::Gone => file.state = CopyState::Gone,
            _ => {}
        }
    }
    if seed.fate == Fate::HeldOff {
        world.held_off.insert(key(&title), hours(1));
    }
    if !seed.wanted {
        return;
    }
    let candidate = world.want(&title, 0);
    candidate.files = names.iter().zip(&seed.sizes).map(|(name, &gib)| on_array(name, gib * GIB)).collect();
    candidate.files.iter_mut().for_each(root);
    Arc::make_mut(&mut candidate.want).parts = candidate.files.iter().take(2).map(|file| file.key.clone()).collect();
    match seed.fate {
        Fate::BlockedPlaying => candidate.blocked = Some((Why::Playing, "plays now".into())),
        Fate::BlockedConflict => candidate.blocked = Some((Why::Conflict, "other content".into())),
        Fate::BlockedSidecar if !seed.cached[2] => {
            for file in candidate.files.iter_mut().skip(2) {
                file.state = FileState::Blocked { why: Why::Conflict, detail: "other content".into() };
            }
        }
        _ => {}
    }
    if candidate.blocked.is_some() {
        candidate.files.clear();
    }
}

/// Carries a plan out.
fn apply(world: &mut World, plan: &Plan, overheads: &[u16]) {
    for action in &plan.actions {
        let cost = u64::try_from(cost(action.size)).unwrap();
        // The same for a file whenever it comes or goes.
        let dice = action.path.as_str().bytes().fold(0, |sum: usize, byte| sum * 31 % 65_521 + usize::from(byte));
        let most = 16 * 1024 + cost / 10_000;
        let overhead = most * u64::from(overheads[dice % overheads.len()]) / u64::from(u16::MAX);
        let pool = world.pools.iter_mut().find(|pool| pool.cache_roots.contains(action.cache_root.as_path())).unwrap();
        match (action.kind, action.evict_why) {
            (Kind::Evict, why) => {
                if why != Some(EvictWhy::Gone) {
                    pool.free += cost + overhead;
                }
                world.cached.remove(&action.key()).unwrap();
            }
            (Kind::Cache, _) => {
                pool.free -= cost + overhead;
                let file = CachedFile {
                    cached: Arc::new(Cached { action: action.clone(), run: 2, at: NOW }),
                    state: CopyState::Unchanged,
                    open: None,
                    playing: false,
                    release: None,
                    held_until: None,
                    pinned: false,
                    superseded: false,
                };
                assert!(world.cached.insert(action.key(), file).is_none(), "cached twice");
            }
        }
    }
}

fn owned(world: &World, index: usize, counts: impl Fn(&CachedFile) -> bool) -> i128 {
    let here = |file: &&CachedFile| world.pools[index].cache_roots.contains(file.cached.action.cache_root.as_path());
    let files = world.cached.values().filter(here).filter(|file| file.state != CopyState::Gone && counts(file));
    files.map(|file| cost(file.cached.action.size)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_runs_with_the_same_answers_plan_nothing_the_second_time((mut world, overheads) in world(), cache in prop::bool::weighted(0.8)) {
        world.cache = cache;
        let first = plan_sync(&world.input());
        apply(&mut world, &first, &overheads);
        for _ in 0..2 {
            let again = plan_sync(&world.input());
            prop_assert_eq!(&again.actions, &[], "after {:?}", super::testing::lines(&first));
        }
    }

    #[test]
    fn the_limits_are_kept_unless_what_must_stay_exceeds_them((mut world, overheads) in world()) {
        let capacity: Vec<i128> = (0..2).map(|index| {
            let pool = &world.pools[index];
            let by_free = owned(&world, index, |_| true) + i128::from(pool.free) - i128::from(pool.min_free);
            by_free.min(i128::from(pool.max_size))
        }).collect();
        let plan = plan_sync(&world.input());
        let touched: BTreeSet<FileKey> = plan.actions.iter().map(Action::key).collect();
        let before: BTreeSet<FileKey> = world.cached.keys().cloned().collect();
        apply(&mut world, &plan, &overheads);
        for (index, &capacity) in capacity.iter().enumerate() {
            let after = owned(&world, index, |_| true);
            if after <= capacity {
                continue;
            }
            // Then nothing is there but what was there, and of that only what has a reason to stay.
            prop_assert_eq!(owned(&world, index, |file| touched.contains(&file.cached.action.key())), 0);
            for file in world.cached.values().filter(|file| file.cached.action.cache_root.as_str() == format!("/cache{index}")) {
                prop_assert!(before.contains(&file.cached.action.key()));
                let unit = &file.cached.action.unit;
                let reason = |file: &CachedFile| {
                    file.playing || file.open.is_some() || file.held_until.is_some() || file.pinned
                        || file.release.is_none() || file.state != CopyState::Unchanged
                };
                let blocked = world.candidates.iter().any(|c| c.want.unit().path == *unit && c.blocked.is_some());
                let protected = world.cached.values().any(|other| other.cached.action.unit == *unit && reason(other));
                prop_assert!(!world.evict || world.sessions_unknown || blocked || protected, "{:?}", file);
            }
        }
    }

    #[test]
    fn min_free_is_free_after_a_run_that_cached((mut world, overheads) in world()) {
        let plan = plan_sync(&world.input());
        apply(&mut world, &plan, &overheads);
        for pool in &world.pools {
            let cached = plan.actions.iter().any(|a| a.kind == Kind::Cache && pool.cache_roots.contains(a.cache_root.as_path()));
            prop_assert!(!cached || pool.free >= pool.min_free);
        }
    }

    #[test]
    fn the_order_of_the_input_does_not_matter((mut world, _) in world(), rotate in 0..16_usize) {
        let plan = plan_sync(&world.input());
        let len = world.candidates.len();
        if len > 0 {
            world.candidates.rotate_left(rotate % len);
            world.candidates[rotate % len..].reverse();
        }
        prop_assert_eq!(plan_sync(&world.input()), plan);
    }

    #[test]
    fn units_are_whole_and_nothing_both_comes_and_goes((world, _) in world()) {
        let plan = plan_sync(&world.input());
        let units = |kind| plan.actions.iter()
            .filter(move |action| action.kind == kind && action.evict_why != Some(EvictWhy::Gone))
            .map(|action| &action.unit).collect::<BTreeSet<_>>();
        let leaving = units(Kind::Evict);
        prop_assert!(leaving.is_disjoint(&units(Kind::Cache)));
        let keys: BTreeSet<(Kind, FileKey)> = plan.actions.iter().map(|action| (action.kind, action.key())).collect();
        prop_assert_eq!(keys.len(), plan.actions.len());
        for (key, file) in &world.cached {
            let leaves = keys.contains(&(Kind::Evict, key.clone()));
            if file.state != CopyState::Gone {
                prop_assert_eq!(leaves, leaving.contains(&file.cached.action.unit));
            }
        }
        let gone = plan.actions.iter().filter(|action| action.evict_why == Some(EvictWhy::Gone)).count();
        let there = world.cached.values().filter(|file| file.state != CopyState::Gone).count();
        let evicted = plan.actions.iter().filter(|action| action.kind == Kind::Evict).count() - gone;
        prop_assert_eq!(plan.kept_files, u64::try_from(there - evicted).unwrap());
    }

    #[test]
    fn what_is_in_use_or_of_unknown_standing_never_leaves((world, _) in world()) {
        let plan = plan_sync(&world.input());
        for action in plan.actions.iter().filter(|action| action.kind == Kind::Evict) {
            let file = &world.cached[&action.key()];
            prop_assert!(world.evict);
            if file.state == CopyState::Gone {
                continue;
            }
            prop_assert!(!file.playing && file.open.is_none() && file.held_until.is_none() && !file.pinned);
            prop_assert!(!world.sessions_unknown);
            prop_assert!(file.state == CopyState::Unchanged || action.evict_why != Some(EvictWhy::MakeRoom));
            let wanted = world.candidates.iter().any(|candidate| candidate.want.unit().path == action.unit);
            prop_assert!(file.release.is_some() || wanted);
            prop_assert!(world.make_room || action.evict_why != Some(EvictWhy::MakeRoom) || over_its_limits(&world, action));
        }
    }

    #[test]
    fn an_eviction_alone_is_the_evictions_of_the_whole_plan((mut world, _) in world()) {
        let whole = plan_sync(&world.input());
        world.cache = false;
        let alone = plan_sync(&world.input());
        let evictions: Vec<Action> = whole.actions.into_iter().filter(|action| action.kind == Kind::Evict).collect();
        let skipped: Vec<Skip> = whole.skipped.into_iter().filter(|skip| skip.kind == Kind::Evict).collect();
        prop_assert_eq!(alone.actions, evictions);
        prop_assert_eq!(alone.skipped, skipped);
    }
}

fn over_its_limits(world: &World, action: &Action) -> bool {
    let index = world.pools.iter().position(|pool| pool.cache_roots.contains(action.cache_root.as_path())).unwrap();
    let pool = &world.pools[index];
    owned(world, index, |_| true) > i128::from(pool.max_size) || pool.free < pool.min_free
}

#[test]
fn a_hundred_thousand_units_are_planned_in_their_order() {
    let mut world = World::with_room_for(50_000);
    world.pools[0].free = u64::MAX / 4;
    for index in 0..100_000 {
        if index % 3 == 0 {
            world.in_grace(&format!("Film{index:06}"), 1, 1);
        } else {
            world.want(&format!("Film{index:06}"), 1);
        }
    }
    let plan = plan_sync(&world.input());
    assert_eq!(plan.actions.len(), 33_334 + 50_000);
    assert_eq!(plan.skipped.len(), 66_666 - 50_000);
}
