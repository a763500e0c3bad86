//! Two disks, each with a lane of its own: both are read at the same time, and what holds for one lane holds for all.

use std::collections::BTreeSet;
use std::fs;

use crate::util::env::{Run, episode_path, file_at};
use crate::{PLACEMENTS, World};

/// Takes longer to copy than a lane takes to begin.
const SIZE: usize = 16 << 20;

/// A film of that size on either disk, and one more on the second.
fn three_films(placement: &str) -> (World, [String; 3]) {
    let mut world = World::new(placement, "btrfs", &[]);
    let films = ["Alien", "Brazil", "Clue"].map(|title| world.film(title, SIZE).0);
    for film in &films[1..] {
        to_second_disk(&world, film);
    }
    world.env.configure("[select]\nnext_episodes = 0\n");
    (world, films)
}

/// Has a file of the first disk on the second one instead.
fn to_second_disk(world: &World, media: &str) {
    let first = world.env.array(media);
    let size = usize::try_from(first.metadata().unwrap().len()).unwrap();
    fs::remove_file(first).unwrap();
    file_at(world.env.path("disk2/media").join(media), size);
}

/// The disks of the files that were begun before the first of them was done.
fn side_by_side(world: &World) -> BTreeSet<String> {
    let history = world.env.history();
    let before = history.iter().take_while(|record| record["event"] != "ended");
    let roots = before.filter(|record| record["event"] == "intent");
    roots.map(|record| record["action"]["array_root"].as_str().unwrap().to_owned()).collect()
}

#[test]
#[ignore = "needs root and loop devices"]
fn two_disks_are_read_at_the_same_time_and_all_comes_back_as_it_was() {
    for placement in PLACEMENTS {
        let (world, films) = three_films(placement);
        let env = &world.env;
        let disks = || ["disk1/media", "disk2/media"].map(|disk| env.snapshot(disk).without_markers());
        let before = disks();
        let run = env.sync();
        assert_eq!(side_by_side(&world).len(), 2, "{placement}: {run:?}");
        assert_eq!(env.cached(), films, "{placement}");
        assert!(env.sync().stdout.contains("Nothing to do"), "{placement}");
        env.run(&["evict", "--all"]).expect(0);
        assert_eq!(disks(), before, "{placement}");
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_pace_is_kept_by_one_lane() {
    let (world, films) = three_films("copy");
    world.env.run(&["sync", "--bwlimit=10GB/s"]).expect(0);
    assert_eq!(side_by_side(&world).len(), 1);
    assert_eq!(world.env.cached(), films);
}

#[test]
#[ignore = "needs root and loop devices"]
fn lanes_together_copy_no_more_than_they_may() {
    let (world, _) = three_films("copy");
    let limit = format!("--max-transfer={}", SIZE * 2 - 1);
    for cached in 1..=3 {
        world.env.run(&["sync", &limit]).expect(0);
        assert_eq!(world.env.cached().len(), cached);
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn where_plex_cannot_read_the_first_file_no_lane_caches_another() {
    for placement in ["hide", "move", "symlink"] {
        let (mut world, _) = three_films(placement);
        let env = &mut world.env;
        env.settings = env.settings.replace("verify_with_plex = false\n", "");
        let cache = env.path("cache").canonicalize().unwrap();
        env.plex.edit(|library| library.hide_local(cache));
        let before = env.snapshot("disk1/media");
        let run = env.run(&["sync", "--json"]).expect(4);
        assert_eq!(run.json_of("summary")["cached"]["files"], 1, "{placement}: {}", run.stdout);
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
        assert_eq!((env.leftovers(), env.cached()), (Vec::new(), Vec::new()), "{placement}");
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_season_on_two_disks_gets_one_folder_which_goes_with_its_last_file() {
    for placement in PLACEMENTS {
        let world = World::new(placement, "ext4", &[]);
        let env = &world.env;
        for index in 1..=6 {
            let key = env.episode("Severance", 1, index, SIZE / 10);
            if index == 1 {
                env.on_deck("owner", &key);
            }
            if index % 2 == 0 {
                to_second_disk(&world, &episode_path("Severance", 1, index));
            }
        }
        let folder = |tier: &str| env.snapshot(tier).entries["TV/Severance/Season 01"].clone();
        let times = ["disk1/media", "disk2/media"].map(|disk| folder(disk).mtime);
        env.sync();
        assert_eq!(env.cached().len(), 6, "{placement}");
        // Of whichever disk's folder it was made like.
        assert!(times.contains(&folder("cache/media").mtime), "{placement}");
        assert_eq!(["disk1/media", "disk2/media"].map(|disk| folder(disk).mtime), times, "{placement}");
        env.run(&["evict", "--all"]).expect(0);
        assert_eq!(env.snapshot("cache/media").without_markers().entries.len(), 0, "{placement}");
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn lanes_that_are_asked_to_stop_leave_nothing_and_the_next_run_goes_on() {
    for placement in PLACEMENTS {
        let (world, films) = three_films(placement);
        let env = &world.env;
        let before = ["disk1/media", "disk2/media"].map(|disk| env.snapshot(disk));
        let mut child = env.spawn(&["sync"]);
        let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        // Names alone: whoever reads the files keeps the disks from their work.
        let films_begun = || fs::read_dir(env.cache("Movies")).into_iter().flatten().count();
        while films_begun() < 2 && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(films_begun() >= 2, "{placement}: no two lanes were at work");
        // It may have ended by itself.
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let run = Run::from(child.wait_with_output().unwrap());
        assert!([0, 143].contains(&run.status), "{placement}: {run:?}");
        assert_eq!(env.leftovers(), Vec::<String>::new(), "{placement}");
        env.sync();
        assert_eq!(env.cached(), films, "{placement}");
        env.run(&["evict", "--all"]).expect(0);
        let after = ["disk1/media", "disk2/media"].map(|disk| env.snapshot(disk).without_markers());
        assert_eq!(after, before, "{placement}");
    }
}
