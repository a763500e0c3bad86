//! Each rule of `sync` in a small case. What holds for every case is in `properties`.

use super::testing::{GIB, World, hours, key, lines, on_array};
use super::*;

#[test]
fn wants_fill_the_room_in_the_order_of_their_rank() {
    let mut world = World::with_room_for(5);
    world.want("b", 3);
    world.want("a", 3);
    world.want("c", 2);
    assert_eq!(world.plan(), ["cache b", "cache c", "no cache a: NoRoom, short by 1.0 GiB"]);
    world.candidates.reverse();
    assert_eq!(world.plan()[0], "cache b", "whatever order they come in");
}

#[test]
fn a_show_is_cached_without_gaps_and_others_may_follow() {
    let mut world = World::with_room_for(6);
    for (name, gib) in [("Show S01E01", 2), ("Show S01E02", 5), ("Show S01E03", 1), ("Film", 1), ("Other S01E01", 1)] {
        world.want(name, gib);
    }
    assert_eq!(
        world.plan(),
        [
            "cache Show S01E01",
            "cache Film",
            "cache Other S01E01",
            "no cache Show S01E02: NoRoom, short by 1.0 GiB",
            "no cache Show S01E03: NoRoom, after Show S01E02, which does not fit",
        ]
    );
}

#[test]
fn a_limit_that_fits_two_of_eight_episodes_holds_the_first_two_in_every_run() {
    let mut world = World::with_room_for(2);
    for episode in 4..12 {
        world.want(&format!("Show S01E{episode:02}"), 1);
    }
    let cachings = |world: &World| world.plan().into_iter().filter(|line| !line.starts_with("no ")).collect::<Vec<_>>();
    assert_eq!(cachings(&world), ["cache Show S01E04", "cache Show S01E05"]);
    world.cached("Show S01E04", 1);
    world.cached("Show S01E05", 1);
    for _ in 0..2 {
        assert_eq!(cachings(&world), [""; 0]);
    }
}

#[test]
fn parts_and_sidecars_go_together_and_only_what_is_missing_is_cached() {
    let mut world = World::with_room_for(5);
    let film = world.want("cd1", 2);
    Arc::make_mut(&mut film.want).parts.push(key("cd2"));
    film.files.extend([on_array("cd2", 2 * GIB), on_array("cd1.en.srt", 4000)]);
    assert_eq!(world.plan(), ["cache cd1.en.srt", "cache cd1", "cache cd2"]);
    assert_eq!(plan_sync(&world.input()).actions[0].unit, key("cd1").path);
    world.cached("cd1", 2);
    assert_eq!(world.plan(), ["cache cd1.en.srt", "cache cd2"]);
    world.pools[0].max_size = 4 * GIB;
    assert_eq!(world.plan(), ["no cache cd1: NoRoom, short by 4.0 KiB"], "all of it or nothing");
}

#[test]
fn a_unit_stays_together_whichever_disks_its_files_are_on() {
    let mut world = World::with_room_for(10);
    let on_another = |name: &str| CandidateFile { array_root: "/other".into(), ..on_array(name, 1) };
    world.want("a", 1).files[0] = on_another("a");
    world.want("b", 1).files.push(on_another("b.srt"));
    assert_eq!(world.plan(), ["cache a", "cache b.srt", "cache b"]);
}

#[test]
fn a_blocked_sidecar_is_left_out_and_a_blocked_part_blocks_its_unit() {
    let blocked = || FileState::Blocked { why: Why::Conflict, detail: "other content".into() };
    let mut world = World::with_room_for(9);
    let mut sidecar = on_array("a.srt", 1);
    sidecar.state = blocked();
    world.want("a", 1).files.push(sidecar);
    world.want("b", 1).files[0].state = blocked();
    assert_eq!(
        world.plan(),
        ["cache a", "no cache a.srt: Conflict, other content", "no cache b: Conflict, other content"]
    );
}

#[test]
fn what_was_cached_together_stays_together_when_nobody_wants_it() {
    let mut world = World::with_room_for(9);
    world.cached("a", 1);
    Arc::make_mut(&mut world.cached("a.srt", 0).cached).action.unit = key("a").path;
    assert_eq!(world.plan(), ["evict a.srt: Watched", "evict a: Watched"]);
    world.cached.get_mut(&key("a.srt")).unwrap().release = Some(Release { at: hours(1), why: EvictWhy::Unwanted });
    assert_eq!(world.plan(), [""; 0], "the last one decides");
    world.cached.get_mut(&key("a.srt")).unwrap().release = None;
    assert_eq!(world.plan(), [""; 0], "and so does one of unknown standing");
}

#[test]
fn a_file_of_two_units_goes_with_the_better_ranked() {
    let mut world = World::with_room_for(9);
    world.want("a", 1).files.push(on_array("Subs/en.srt", 1));
    world.want("b", 1).files.push(on_array("Subs/en.srt", 1));
    assert_eq!(world.plan(), ["cache Subs/en.srt", "cache a", "cache b"]);
    world.candidates.remove(0);
    Arc::make_mut(&mut world.cached("Subs/en.srt", 0).cached).action.unit = key("a").path;
    assert_eq!(world.plan(), ["cache b"], "it is b's now");
}

#[test]
fn new_copies_leave_a_reserve_towards_min_free() {
    let mut world = World::with_room_for(999);
    world.pools[0].free = 10 * GIB;
    world.pools[0].min_free = 5 * GIB;
    world.want("a", 5);
    assert_eq!(world.plan(), ["no cache a: NoRoom, short by 1000.0 MiB"]);
    world.pools[0].free = 11 * GIB;
    assert_eq!(world.plan(), ["cache a"]);
    world.wanted_and_cached("a", 5);
    world.pools[0].free = 5 * GIB;
    assert_eq!(world.plan(), [""; 0], "what is there needs no reserve");
}

#[test]
fn what_stays_beside_a_new_copy_leaves_the_reserve_or_its_overhead_would_push_it_out_next_time() {
    let mut world = World::with_room_for(999);
    world.want("new", 1);
    world.wanted_and_cached("second", 3);
    // Together with the 3 GiB that are owned: 4 GiB and a little, of the reserve of almost 1 GiB.
    world.pools[0].free = GIB + (1 << 20);
    assert_eq!(world.plan(), ["evict second: MakeRoom", "cache new"]);
}

#[test]
fn what_an_eviction_gives_back_beyond_its_cost_admits_nothing_more_the_next_time() {
    let reserve = 1000 * GIB / 1024;
    // Short of the whole reserve by 8 KiB, of the half by 8 KiB; the eviction gives back 16 KiB.
    let cases =
        [(reserve - 8192, vec!["evict old: Watched", "cache new"]), (reserve / 2 - 8192, vec!["evict old: Watched"])];
    for (left, expected) in cases {
        let mut world = World::with_room_for(999);
        world.cached("old", 2);
        world.want("new", 2);
        world.pools[0].free = left;
        let is_action = |line: &String| !line.starts_with("no ");
        assert_eq!(world.plan().into_iter().filter(is_action).collect::<Vec<_>>(), expected);
        world.cached.clear();
        world.pools[0].free = left + 16384;
        if expected.len() == 2 {
            world.cached("new", 2);
        } else {
            world.pools[0].free += 2 * GIB;
        }
        assert_eq!(world.plan().into_iter().filter(is_action).collect::<Vec<_>>(), [""; 0]);
    }
}

#[test]
fn a_better_want_makes_room_and_only_as_much_as_it_needs() {
    let mut world = World::with_room_for(4);
    world.want("new", 2);
    world.wanted_and_cached("second", 1);
    world.wanted_and_cached("third", 2);
    world.wanted_and_cached("fourth", 1);
    assert_eq!(world.plan(), ["evict third: MakeRoom", "cache new"]);
    world.cache = false;
    assert_eq!(world.plan(), ["evict third: MakeRoom"], "`evict` says the same of what is to go");
    world.cache = true;
    world.evict = false;
    assert_eq!(world.plan(), ["no cache new: NoRoom, short by 2.0 GiB"]);
}

#[test]
fn cached_episodes_after_a_gap_stay_while_there_is_room() {
    let mut world = World::with_room_for(5);
    world.want("Show S01E01", 9);
    world.wanted_and_cached("Show S01E02", 3);
    world.want("Film", 2);
    assert_eq!(world.plan(), ["cache Film", "no cache Show S01E01: NoRoom, short by 4.0 GiB"]);
    world.want("Film 2", 1);
    assert_eq!(world.plan()[..3], ["evict Show S01E02: MakeRoom", "cache Film", "cache Film 2"]);
}

#[test]
fn without_make_room_what_is_cached_comes_first_unless_the_limits_shrank() {
    let mut world = World::with_room_for(4);
    world.make_room = false;
    world.want("new", 1);
    world.wanted_and_cached("second", 1);
    world.wanted_and_cached("third", 2);
    world.in_grace("grace", 1, 5);
    assert_eq!(world.plan(), ["no cache new: NoRoom, short by 1.0 GiB"]);
    world.pools[0].max_size = 3 * GIB;
    assert_eq!(world.plan(), ["evict grace: MakeRoom", "no cache new: NoRoom, short by 1.0 GiB"]);
    world.pools[0].max_size = GIB;
    assert_eq!(world.plan()[..2], ["evict grace: MakeRoom", "evict third: MakeRoom"]);
}

#[test]
fn what_nobody_wants_goes_after_its_grace() {
    let mut world = World::with_room_for(9);
    world.cached("due", 1);
    world.in_grace("now", 1, 0);
    world.in_grace("later", 1, 1);
    world.cached("unknown", 1).release = None;
    assert_eq!(world.plan(), ["evict due: Watched", "evict now: Unwanted"]);
    assert_eq!(plan_sync(&world.input()).kept_files, 2);
    world.evict = false;
    assert_eq!(world.plan(), [""; 0]);
    assert_eq!(plan_sync(&world.input()).kept_files, 4);
}

#[test]
fn in_grace_what_may_go_first_makes_room_first() {
    let mut world = World::with_room_for(3);
    world.in_grace("soon", 1, 1);
    world.in_grace("last", 1, 9);
    world.in_grace("middle", 1, 5);
    world.want("new", 1);
    assert_eq!(world.plan(), ["evict soon: MakeRoom", "cache new"]);
}

#[test]
fn what_is_of_unknown_standing_makes_no_room_and_that_is_said() {
    let mut world = World::with_room_for(3);
    world.cached("unknown", 2).release = None;
    assert_eq!(world.plan(), [""; 0]);
    world.want("new", 2);
    let why = "Unknown, not all who wanted it have answered completely";
    assert_eq!(world.plan(), ["no cache new: NoRoom, short by 1.0 GiB".into(), format!("no evict unknown: {why}")]);
}

#[test]
fn what_is_in_use_held_or_pinned_stays_with_its_unit_though_it_is_due() {
    type Protect = fn(&mut CachedFile);
    let cases: [(Protect, &str); 4] = [
        (|file| file.playing = true, "Playing, plays now"),
        (|file| file.open = Some("open in pid 4711 (ffmpeg)".into()), "Open, open in pid 4711 (ffmpeg)"),
        (|file| file.held_until = Some(hours(1)), "Held, by an undo, until 2027-01-15T09:00:00Z"),
        (|file| file.pinned = true, "Pinned, matches a pin"),
    ];
    for (protect, expected) in cases {
        let mut world = World::with_room_for(9);
        world.cached("a", 1);
        let sidecar = world.cached("a.srt", 1);
        Arc::make_mut(&mut sidecar.cached).action.unit = key("a").path;
        protect(sidecar);
        assert_eq!(world.plan(), [format!("no evict a: {expected}")]);
        world
            .cached
            .values_mut()
            .for_each(|file| file.release = Some(Release { at: hours(9), why: EvictWhy::Unwanted }));
        assert_eq!(world.plan(), [""; 0], "nothing to say while it is not due");
        world.want("new", 8);
        assert_eq!(world.plan()[1], format!("no evict a: {expected}"));
    }
    let mut world = World::with_room_for(9);
    world.cached("a", 1).held_until = Some(hours(0));
    assert_eq!(world.plan(), ["evict a: Watched"], "held no more");
}

#[test]
fn a_changed_copy_goes_when_due_but_not_for_room() {
    let mut world = World::with_room_for(3);
    world.cached("a", 2).state = CopyState::Changed;
    assert_eq!(world.plan(), ["evict a: Watched"]);
    world.in_grace("a", 2, 5).state = CopyState::Changed;
    world.want("new", 2);
    assert_eq!(
        world.plan(),
        ["no cache new: NoRoom, short by 1.0 GiB", "no evict a: Changed, the cached copy was changed"]
    );
}

#[test]
fn nothing_is_evicted_while_sessions_are_unknown_but_caching_goes_on() {
    let mut world = World::with_room_for(3);
    world.sessions_unknown = true;
    world.cached("due", 1);
    world.in_grace("grace", 1, 5);
    world.want("a", 1);
    world.want("b", 1);
    let why = "Unknown, what Plex plays now could not be read";
    let expected = [
        "no cache b: NoRoom, short by 1.0 GiB".into(),
        format!("no evict grace: {why}"),
        format!("no evict due: {why}"),
    ];
    assert_eq!(world.plan(), [vec!["cache a".into()], expected.to_vec()].concat());
}

#[test]
fn protected_units_beyond_the_limits_stay_and_leave_no_room() {
    let mut world = World::with_room_for(3);
    world.wanted_and_cached("a", 2).pinned = true;
    world.wanted_and_cached("b", 2).pinned = true;
    world.wanted_and_cached("c", 1);
    world.want("d", 1);
    assert_eq!(
        world.plan(),
        ["evict c: MakeRoom", "no evict b: Pinned, matches a pin", "no cache d: NoRoom, short by 2.0 GiB"]
    );
}

#[test]
fn what_is_left_of_a_copy_that_is_gone_is_repaired_whatever_protects_it() {
    let mut world = World::with_room_for(9);
    world.sessions_unknown = true;
    let gone = world.cached("a", 5);
    (gone.state, gone.playing, gone.pinned) = (CopyState::Gone, true, true);
    assert_eq!(world.plan(), ["evict a: Gone"]);
    world.want("a", 5);
    assert_eq!(world.plan(), ["evict a: Gone", "cache a"], "in placement copy nothing is in the way");
    Arc::make_mut(&mut world.cached.get_mut(&key("a")).unwrap().cached).action.placement = Placement::Hide;
    world.want("b", 5);
    assert_eq!(
        world.plan(),
        ["evict a: Gone", "no cache b: NoRoom, short by 1.0 GiB"],
        "else the next run caches it, and its room is kept"
    );
    world.evict = false;
    assert_eq!(world.plan(), ["cache b"], "no repair and so no second caching");
}

#[test]
fn a_copy_of_something_older_goes_though_it_is_wanted_and_the_next_run_caches_the_new_one() {
    let mut world = World::with_room_for(9);
    let file = world.wanted_and_cached("a", 5);
    (file.superseded, file.pinned, file.held_until) = (true, true, Some(hours(1)));
    // A sidecar that is new would come alone.
    world.candidates[0].files.push(on_array("a.srt", GIB));
    world.want("b", 5);
    let expected = ["evict a: Replaced", "no cache b: NoRoom, short by 1.0 GiB"];
    assert_eq!(world.plan(), expected, "the room of the new one is kept");
    world.evict = false;
    assert_eq!(world.plan(), ["cache a.srt", "no cache b: NoRoom, short by 2.0 GiB"]);
    world.evict = true;
    world.cached.get_mut(&key("a")).unwrap().playing = true;
    assert_eq!(world.plan()[0], "cache a.srt", "but not while it plays");
}

#[test]
fn a_unit_that_an_undo_evicted_is_held_off() {
    let mut world = World::with_room_for(9);
    world.want("a", 1).files.push(on_array("a.srt", 1));
    world.held_off.insert(key("a.srt"), hours(1));
    assert_eq!(world.plan(), ["no cache a: Held, evicted by an undo, held off until 2027-01-15T09:00:00Z"]);
    world.held_off.insert(key("a.srt"), hours(0));
    assert_eq!(world.plan(), ["cache a.srt", "cache a"]);
}

#[test]
fn of_a_blocked_unit_nothing_more_is_cached_and_what_is_keeps_its_rank() {
    let mut world = World::with_room_for(2);
    world.want("new", 1);
    let playing = world.want("cd1", 1);
    playing.files.clear();
    Arc::make_mut(&mut playing.want).parts.push(key("cd2"));
    playing.blocked = Some((Why::Playing, "plays now".into()));
    world.cached("cd1", 2);
    assert_eq!(
        world.plan(),
        [
            "no cache new: NoRoom, short by 1.0 GiB",
            "no evict cd1: Playing, plays now",
            "no cache cd1: Playing, plays now"
        ],
        "its rank alone would not have kept it"
    );
    world.candidates[1].blocked = Some((Why::Conflict, "other content".into()));
    assert_eq!(world.plan(), ["evict cd1: MakeRoom", "cache new", "no cache cd1: Conflict, other content"]);
    Arc::make_mut(&mut world.candidates[1].want).parts.pop();
    world.pools[0].max_size = 3 * GIB;
    assert_eq!(world.plan(), ["cache new"], "nothing is missing of it");
}

#[test]
fn evictions_come_first_and_cachings_go_disk_by_disk() {
    let mut world = World::with_room_for(9);
    for (name, disk) in [("a", "/disk2"), ("b", "/disk1"), ("c", "/disk2"), ("d", "/disk1")] {
        world.want(name, 1).files[0].array_root = disk.into();
    }
    world.cached("x", 1);
    world.cached("y", 1).release = Some(Release { at: hours(-2), why: EvictWhy::Unwanted });
    world.cached("z", 1).state = CopyState::Gone;
    assert_eq!(
        world.plan(),
        ["evict z: Gone", "evict y: Unwanted", "evict x: Watched", "cache a", "cache c", "cache b", "cache d"]
    );
}

#[test]
fn a_root_without_limits_takes_nothing() {
    let mut world = World::with_room_for(9);
    world.want("a", 1).files[0].cache_root = "/elsewhere".into();
    assert_eq!(world.plan(), ["no cache a: Unavailable, no limits are known for /elsewhere"]);
}

#[test]
fn absurd_sizes_do_not_overflow() {
    let mut world = World::with_room_for(9);
    world.want("a", 1).files[0].size = u64::MAX;
    world.want("b", 1).files[0].size = u64::MAX;
    Arc::make_mut(&mut world.cached("c", 1).cached).action.size = u64::MAX;
    world.pools[0].min_free = u64::MAX;
    let plan = plan_sync(&world.input());
    assert_eq!(lines(&plan)[0], "evict c: Watched");
    assert_eq!(plan.skipped.len(), 2);
}
