//! The real binary on real file systems: two array disks with xfs, caches with btrfs, ext4 and tmpfs, a
//! mergerfs pool over them. Every disk is a loop device on a file in a throw-away directory.
//!
//! `make test-fs` runs them, as root. Whatever a test does, its mounts are gone when it ends.
#![allow(clippy::unwrap_used, reason = "the helpers of a test fail as it does, by a panic")]
#![allow(clippy::disallowed_methods, reason = "a test lays out its own files")]

mod util;

#[path = "filesystems/lanes.rs"]
mod lanes;
#[path = "filesystems/shapes.rs"]
mod shapes;
#[path = "filesystems/silent.rs"]
mod silent;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use util::env::{Run, TestEnv, contents, movie_path};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];

/// Runs a tool; `false` when it failed.
fn try_to(command: &str, arguments: &[&str]) -> bool {
    let output = Command::new(command).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

#[track_caller]
fn tool(command: &str, arguments: &[&str]) {
    let output = Command::new(command).args(arguments).output().unwrap_or_else(|error| panic!("{command}: {error}"));
    assert!(output.status.success(), "{command} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Mount points, the last one made first to go.
#[derive(Default)]
struct Mounts(Vec<PathBuf>);

impl Mounts {
    /// Makes a file system and mounts it. Its folder is there and empty below the mount, too, with a
    /// folder `media` in it, as a prudent administrator would not have it.
    fn make(&mut self, dir: &Path, name: &str, kind: &str, more: &[&str]) {
        let (point, image) = (dir.join(name), dir.join(format!("{name}.img")));
        fs::create_dir_all(point.join("media")).unwrap();
        if kind == "tmpfs" {
            tool("mount", &["-t", "tmpfs", "-o", more[0], "none", text(&point)]);
        } else {
            File::create(&image).unwrap().set_len(320 << 20).unwrap();
            tool(&format!("mkfs.{kind}"), &[&["-q"], more, &[text(&image)]].concat());
            tool("mount", &["-o", "loop", text(&image), text(&point)]);
        }
        self.0.push(point);
    }

    fn unmount(&mut self, point: &Path) {
        tool("umount", &[text(point)]);
        self.0.retain(|other| other != point);
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        while let Some(point) = self.0.pop() {
            // Lazily where somebody still has a file open: the directory below is removed next.
            let gone = try_to("umount", &[text(&point)]) || try_to("umount", &["-l", text(&point)]);
            assert!(gone || thread::panicking(), "{} is still mounted", point.display());
        }
    }
}

/// A world on file systems of its own. The mounts go before the directory that they are in.
struct World {
    mounts: Mounts,
    env: TestEnv,
}

impl World {
    fn new(placement: &str, cache: &str, more: &[&str]) -> Self {
        // Not in `/tmp`, which may be in memory: disks of files would be, too.
        let dir = tempfile::Builder::new().prefix("plexcache-test-").tempdir_in("/var/tmp").unwrap();
        let mut mounts = Mounts::default();
        mounts.make(dir.path(), "disk1", "xfs", &[]);
        mounts.make(dir.path(), "disk2", "xfs", &[]);
        mounts.make(dir.path(), "cache", cache, more);
        let mut env = TestEnv::at(dir, placement);
        // The stand-in sees nothing of these disks unless it is told of them.
        let safety = "verify_with_plex = false\nallow_same_device = false";
        env.settings = env.settings.replace("allow_same_device = true", safety);
        Self { mounts, env }
    }

    /// A mergerfs pool over the three, the cache first, as the merged view of the map.
    fn with_pool(placement: &str) -> Self {
        let mut world = Self::new(placement, "btrfs", &[]);
        let path = |name: &str| world.env.path(name).display().to_string();
        let branches = format!("{}=NC:{}:{}", path("cache"), path("disk1"), path("disk2"));
        let pool = world.env.path("pool");
        fs::create_dir(&pool).unwrap();
        let options = "category.create=epmfs,func.getattr=newest,cache.files=off,cache.attr=0,cache.entry=0";
        tool("mergerfs", &["-o", options, &branches, text(&pool)]);
        writeln!(world.env.map, "merged = \"{}/media\"", pool.display()).unwrap();
        world.mounts.0.push(pool);
        world
    }

    /// A film on deck, its media path and its contents.
    fn film(&self, title: &str, size: usize) -> (String, Vec<u8>) {
        self.env.on_deck("owner", &self.env.movie(title, 2020, size));
        let media = movie_path(title, 2020);
        let bytes = fs::read(self.env.array(&media)).unwrap();
        (media, bytes)
    }

    fn evict_all(&self) -> Run {
        self.env.run(&["evict", "--all", "--json"])
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn files_go_between_file_systems_and_come_back_as_they_were() {
    for cache in ["btrfs", "ext4"] {
        for placement in PLACEMENTS {
            let world = World::new(placement, cache, &[]);
            let env = &world.env;
            let (dune, _) = world.film("Dune", 5_000_001);
            let (sparse, _) = world.film("Sparse", 0);
            let mut file = File::options().write(true).open(env.array(&sparse)).unwrap();
            file.seek(SeekFrom::Start(3 << 20)).unwrap();
            file.write_all(&contents(Path::new("sparse"), 100_000)).unwrap();
            file.set_len(32 << 20).unwrap();
            drop(file);
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(env.array(&dune), "user.comment", b"seen", flags).unwrap();
            tool("setfacl", &["-m", "u:4711:r", text(&env.array(&dune))]);
            std::os::unix::fs::chown(env.array(&dune), Some(99), Some(100)).unwrap();
            let acl = |path: &Path| Command::new("getfacl").args(["-cn", text(path)]).output().unwrap().stdout;
            let (before, before_acl) = (env.snapshot("disk1/media"), acl(&env.array(&dune)));
            assert_ne!(fs::metadata(env.path("disk1")).unwrap().dev(), fs::metadata(env.path("cache")).unwrap().dev());

            env.sync();
            let copies = env.snapshot("cache/media");
            for media in [&dune, &sparse] {
                assert_eq!(copies.entries[media], before.entries[media], "{cache} {placement}");
            }
            let mut value = [0_u8; 16];
            let length = rustix::fs::getxattr(env.cache(&dune), "user.comment", &mut value[..]).unwrap();
            assert_eq!(&value[..length], b"seen", "{cache} {placement}");
            assert_eq!(acl(&env.cache(&dune)), before_acl, "{cache} {placement}");
            assert!(fs::metadata(env.cache(&sparse)).unwrap().blocks() < 4096, "{cache} {placement}");

            world.evict_all().expect(0);
            assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{cache} {placement}");
            assert_eq!(acl(&env.array(&dune)), before_acl, "{cache} {placement}");
            assert!(fs::metadata(env.array(&sparse)).unwrap().blocks() < 4096, "{cache} {placement}");
            assert_eq!(env.cached(), Vec::<String>::new(), "{cache} {placement}");
        }
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn through_the_pool_the_file_is_complete_at_every_moment() {
    for placement in ["copy", "hide", "move"] {
        let mut world = World::with_pool(placement);
        // Somebody reads it all the time, and it is cached and evicted all the same.
        world.env.settings = world.env.settings.replace("[safety]", "[safety]\nskip_open_files = false");
        let (media, bytes) = world.film("Dune", 3_000_000);
        let shown = world.env.path("pool/media").join(&media);
        let done = AtomicBool::new(false);
        let (runs, reads) = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut reads = 0;
                while !done.load(Ordering::Relaxed) {
                    assert!(fs::read(&shown).unwrap() == bytes, "{placement}: after {reads} good reads");
                    reads += 1;
                }
                reads
            });
            let round = |_| (world.env.run(&["sync"]), world.env.cached(), world.env.run(&["evict", "--all"]));
            let runs: Vec<_> = (0..3).map(round).collect();
            done.store(true, Ordering::Relaxed);
            (runs, reader.join().unwrap())
        });
        for (sync, cached, evict) in runs {
            assert_eq!((sync.status, evict.status), (0, 0), "{placement}: {sync:?} {evict:?}");
            assert_eq!(cached, [media.as_str()], "{placement}: {sync:?}");
        }
        assert!(reads > 0);
        assert_eq!(world.env.cached(), Vec::<String>::new(), "{placement}");
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_copy_that_is_read_through_the_pool_stays() {
    let world = World::with_pool("hide");
    let (media, bytes) = world.film("Dune", 1_000_000);
    world.env.sync();
    let reader = File::open(world.env.path("pool/media").join(&media)).unwrap();
    let run = world.evict_all().expect(0);
    assert_eq!(run.why_left()[&media], "open");
    assert_eq!(world.env.cached(), [media.as_str()]);
    drop(reader);
    world.evict_all().expect(0);
    assert_eq!(world.env.cached(), Vec::<String>::new());
    assert!(fs::read(world.env.array(&media)).unwrap() == bytes);
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_root_on_the_pool_itself_is_refused() {
    let mut world = World::with_pool("hide");
    world.film("Dune", 1000);
    let before = world.env.snapshot("disk1");
    let pool = world.env.path("pool/media").display().to_string();
    let other = world.env.path("cache/other").display().to_string();
    world.env.map = format!(
        "placement = \"copy\"\n[[map]]\nplex = \"/x\"\narray = [\"{pool}\"]\ncache = \"{other}\"\nplacement = \"copy\"\n"
    );
    fs::create_dir(other).unwrap();
    let run = world.env.run(&["sync"]).expect(4);
    assert!(run.stderr.contains("mergerfs"), "{}", run.stderr);
    assert_eq!(world.env.snapshot("disk1"), before);
    assert_eq!(world.env.cached(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root and loop devices"]
fn what_does_not_fit_is_left_alone_and_the_rest_is_cached() {
    for placement in PLACEMENTS {
        let world = World::new(placement, "tmpfs", &["size=40M"]);
        let (large, bytes) = world.film("Large", 41 << 20);
        let (small, _) = world.film("Small", 1 << 20);
        let run = world.env.run(&["sync", "--json"]).expect(0);
        assert_eq!(run.why_left()[&large], "no_room", "{placement}");
        assert_eq!(world.env.cached(), [small], "{placement}: {}", run.stdout);
        assert!(fs::read(world.env.array(&large)).unwrap() == bytes, "{placement}");
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_cache_that_fills_up_in_the_middle_of_a_copy_loses_nothing() {
    for placement in PLACEMENTS {
        let world = World::new(placement, "tmpfs", &["size=40M"]);
        let env = &world.env;
        // A file with holes, for which no room is claimed beforehand.
        let (media, _) = world.film("Dune", 0);
        let mut file = File::options().write(true).open(env.array(&media)).unwrap();
        file.write_all(&contents(Path::new("dune"), 4 << 20)).unwrap();
        file.set_len(8 << 20).unwrap();
        drop(file);
        let (other, _) = world.film("Other", 1000);
        let before = env.snapshot("disk1/media");
        let run = env.mid_copy(&["sync", "--json"]);
        let mut filler = File::create(env.path("cache/filler")).unwrap();
        let block = vec![1; 1 << 20];
        let full = (0..100).find_map(|_| filler.write_all(&block).err()).unwrap();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        let run = Run::from(run.wait_with_output().unwrap()).expect(3);
        assert!(run.stdout.contains("No space left"), "{placement}: {}", run.stdout);
        assert_eq!(run.json_of("summary")["failed"]["files"], 1, "{placement}");
        assert_eq!(run.why_left()[&other], "no_room", "{placement}: the run goes on with what follows");
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
        assert_eq!((env.leftovers(), env.cached()), (Vec::new(), Vec::new()), "{placement}");
        drop(filler);
        fs::remove_file(env.path("cache/filler")).unwrap();
        env.sync();
        assert_eq!(env.cached(), [media, other], "{placement}");
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_cache_that_is_not_mounted_stops_every_run_and_nothing_is_written_in_its_place() {
    for placement in PLACEMENTS {
        let mut world = World::new(placement, "ext4", &[]);
        let (media, bytes) = world.film("Dune", 300_000);
        world.env.sync();
        assert_eq!(world.env.cached(), [media.as_str()], "{placement}");
        world.film("Another", 300_000);
        let point = world.env.path("cache");
        world.mounts.unmount(&point);
        let before = (world.env.snapshot("disk1"), world.env.snapshot("disk2"));
        for args in [&["sync"][..], &["evict", "--all"], &["undo"], &["sync", "--dry-run"]] {
            let run = world.env.run(args).expect(4);
            assert!(run.stderr.contains("cache/media"), "{placement} {args:?}: {}", run.stderr);
            assert_eq!((world.env.snapshot("disk1"), world.env.snapshot("disk2")), before, "{placement} {args:?}");
            assert_eq!(world.env.snapshot("cache").entries.len(), 1, "{placement} {args:?}: only the folder media");
        }
        tool("mount", &["-o", "loop", text(&world.env.path("cache.img")), text(&point)]);
        world.mounts.0.push(point);
        world.evict_all().expect(0);
        assert!(fs::read(world.env.array(&media)).unwrap() == bytes, "{placement}");
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn an_array_disk_that_is_not_mounted_stops_every_run_from_the_first_one_on() {
    for synced_before in [false, true] {
        let mut world = World::new("move", "ext4", &[]);
        world.film("Dune", 300_000);
        if synced_before {
            world.env.sync();
        }
        let before = world.env.snapshot("cache");
        for disk in ["disk1", "disk2"] {
            world.mounts.unmount(&world.env.path(disk));
            for args in [&["sync"][..], &["evict", "--all"]] {
                let run = world.env.run(args).expect(4);
                assert!(run.stderr.contains(disk), "{args:?}: {}", run.stderr);
                assert_eq!(world.env.snapshot("cache"), before, "{args:?}");
                assert_eq!(world.env.snapshot(disk).entries.len(), 1, "{args:?}: only the folder media");
            }
            let point = world.env.path(disk);
            tool("mount", &["-o", "loop", text(&world.env.path(format!("{disk}.img"))), text(&point)]);
            world.mounts.0.push(point);
        }
        world.env.sync();
        assert_eq!(world.env.cached().len(), 1);
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn an_array_that_is_shared_read_only_can_be_copied_from() {
    let world = World::new("copy", "btrfs", &[]);
    let (media, bytes) = world.film("Dune", 300_000);
    let before = (world.env.snapshot("disk1"), world.env.snapshot("disk2"));
    for disk in ["disk1", "disk2"] {
        tool("mount", &["-o", "remount,ro", text(&world.env.path(disk))]);
    }
    world.env.sync();
    assert_eq!(world.env.cached(), [media.as_str()]);
    let run = world.env.run(&["sync", "--json"]).expect(0);
    assert_eq!(run.json_of("plan")["actions"], serde_json::json!([]));
    world.evict_all().expect(0);
    assert_eq!(world.env.cached(), Vec::<String>::new());
    world.env.run(&["undo", "--yes"]).expect(0);
    assert!(fs::read(world.env.cache(&media)).unwrap() == bytes);
    assert_eq!((world.env.snapshot("disk1"), world.env.snapshot("disk2")), before, "without a marker");
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_cache_that_is_unmounted_in_the_middle_of_a_copy_takes_nothing_along() {
    for placement in PLACEMENTS {
        let mut world = World::new(placement, "ext4", &[]);
        let (media, bytes) = world.film("Dune", (1 << 20) + 1);
        let run = world.env.mid_copy(&["sync", "--json"]);
        let point = world.env.path("cache");
        tool("umount", &["-l", text(&point)]);
        world.mounts.0.retain(|other| *other != point);
        // The disk stays until the run lets go of it; whether the run calls that a success is its affair.
        let run = Run::from(run.wait_with_output().unwrap());
        assert!([0, 3].contains(&run.status), "{placement}: {run:?}");
        assert_eq!(world.env.snapshot("cache").entries.len(), 1, "{placement}: nothing is below the mount point");
        world.env.run(&["sync"]).expect(4);
        // The loop device goes with the last open file, a moment after the process.
        let remounts = (0..100).any(|_| {
            thread::sleep(std::time::Duration::from_millis(20));
            try_to("mount", &["-o", "loop", text(&world.env.path("cache.img")), text(&point)])
        });
        assert!(remounts, "{placement}");
        world.mounts.0.push(point);
        assert!(world.env.shown(&media).as_ref() == Some(&bytes), "{placement}");
        world.env.sync();
        assert!(world.env.shown(&media).as_ref() == Some(&bytes), "{placement}");
        assert_eq!(world.env.leftovers(), Vec::<String>::new(), "{placement}");
        assert_eq!(world.env.cached(), [media], "{placement}");
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn names_that_differ_in_case_only_do_not_overwrite_each_other_on_a_cache_that_folds_case() {
    for placement in PLACEMENTS {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("probe.img");
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let folding = ["-q", "-O", "casefold", "-E", "encoding=utf8", text(&image)];
        let point = dir.path().join("probe");
        fs::create_dir(&point).unwrap();
        if !try_to("mkfs.ext4", &folding) || !try_to("mount", &["-o", "loop", text(&image), text(&point)]) {
            println!("skipped: no case folding in this kernel");
            return;
        }
        tool("umount", &[text(&point)]);
        let world = World::new(placement, "ext4", &["-O", "casefold", "-E", "encoding=utf8"]);
        let env = &world.env;
        tool("chattr", &["+F", text(&env.path("cache/media"))]);
        let media = ["Movies/Film/FILM.mkv", "Movies/Film/film.mkv"];
        for (index, path) in media.iter().enumerate() {
            env.on_deck("owner", &env.film_at(path, 200_000 + index));
        }
        let before = env.snapshot("disk1/media");
        let run = env.run(&["sync", "--json"]).expect(3);
        assert_eq!(run.why_left().into_values().collect::<Vec<_>>(), ["conflict"], "{placement}");
        assert_eq!(env.cached().len(), 1, "{placement}");
        world.evict_all().expect(0);
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn two_roots_on_one_file_system_are_refused_unless_allowed() {
    let mut world = World::new("move", "ext4", &[]);
    world.film("Dune", 1000);
    fs::create_dir(world.env.path("disk1/cache")).unwrap();
    let config = |env: &TestEnv| env.config().replace(text(&env.path("cache/media")), text(&env.path("disk1/cache")));
    let sync = |env: &TestEnv| {
        let mut command = env.command(&["sync"]);
        fs::write(env.path("config.toml"), config(env)).unwrap();
        Run::from(command.output().unwrap())
    };
    let run = sync(&world.env).expect(4);
    assert!(run.stderr.contains("same file system"), "{}", run.stderr);
    world.env.settings = world.env.settings.replace("allow_same_device = false", "allow_same_device = true");
    sync(&world.env).expect(0);
    // Within one xfs the copy is a clone.
    assert!(world.env.path("disk1/cache").join(movie_path("Dune", 2020)).exists());
}

/// Mounts a small file system as the state directory.
fn small_state(world: &mut World) -> PathBuf {
    let point = world.env.path("state");
    fs::create_dir(&point).unwrap();
    tool("mount", &["-t", "tmpfs", "-o", "size=3M", "none", text(&point)]);
    world.mounts.0.push(point.clone());
    point
}

fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let block = [1; 4096];
    while file.write_all(&block).is_ok() {}
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_full_or_read_only_state_directory_stops_every_run_before_anything_is_touched() {
    for placement in PLACEMENTS {
        for how in ["full at first", "full later", "read-only"] {
            let mut world = World::new(placement, "ext4", &[]);
            let state = small_state(&mut world);
            let (dune, _) = world.film("Dune", 300_000);
            if how != "full at first" {
                world.env.sync();
                world.film("Another", 300_000);
            }
            let filler = state.join("filler");
            match how {
                "read-only" => tool("mount", &["-o", "remount,ro", text(&state)]),
                _ => fill(&filler),
            }
            let media = |env: &TestEnv| ["disk1/media", "disk2/media", "cache/media"].map(|tier| env.snapshot(tier));
            let before = media(&world.env);
            for args in [&["sync"][..], &["evict", "--all"], &["sync", "--no-evict"]] {
                let run = world.env.run(args).expect(1);
                let why = if how == "read-only" { "Read-only file system" } else { "No space left" };
                assert!(run.stderr.contains(why), "{placement}, {how}, {args:?}: {}", run.stderr);
                assert!(run.stderr.contains("state directory full or read-only"), "{how}, {args:?}: {}", run.stderr);
                assert_eq!(media(&world.env), before, "{placement}, {how}, {args:?}");
            }
            for args in [&["status"][..], &["history"], &["sync", "--dry-run"]] {
                world.env.run(args).expect(0);
            }
            match how {
                "read-only" => tool("mount", &["-o", "remount,rw", text(&state)]),
                _ => fs::remove_file(filler).unwrap(),
            }
            world.env.sync();
            assert!(world.env.sync().stdout.contains("Nothing to do"), "{placement}, {how}");
            assert!(world.env.cached().contains(&dune), "{placement}, {how}");
        }
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_state_directory_that_fills_up_in_the_middle_of_a_run_still_takes_what_was_done() {
    for placement in PLACEMENTS {
        let mut world = World::new(placement, "ext4", &[]);
        let state = small_state(&mut world);
        let (dune, bytes) = world.film("Dune", (1 << 20) + 1);
        let (other, _) = world.film("Other", 1000);
        let run = world.env.mid_copy(&["sync"]);
        fill(&state.join("filler"));
        let run = Run::from(run.wait_with_output().unwrap()).expect(0);
        assert_eq!(world.env.cached(), [dune.as_str(), &other], "{placement}: {run:?}");
        assert!(world.env.shown(&dune) == Some(bytes), "{placement}");
        assert_eq!(world.env.history().last().unwrap()["event"], "run_finished", "{placement}");
        world.env.run(&["sync"]).expect(1);
        fs::remove_file(state.join("filler")).unwrap();
        assert!(world.env.sync().stdout.contains("Nothing to do"), "{placement}");
    }
}

/// `RESULT NAME: DETAIL ADVICE` of every finding of `check`.
fn findings(run: &Run) -> Vec<String> {
    let word = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let all = run.json();
    let lines = all.iter().map(|line| ["result", "name", "detail", "advice"].map(|key| word(line, key)));
    lines.map(|[result, name, detail, advice]| format!("{result} {name}: {detail} {advice}")).collect()
}

/// The finding that begins so.
#[track_caller]
fn finding(run: &Run, start: &str) -> String {
    let all = findings(run);
    let found = all.iter().find(|finding| finding.starts_with(start));
    found.unwrap_or_else(|| panic!("no {start} in {all:#?}")).clone()
}

/// A pool over the three with the branches in this order, and a Plex that reads through it.
fn pool_of(placement: &str, order: [&str; 3], options: &str) -> World {
    let mut world = World::new(placement, "btrfs", &[]);
    let branches = order.map(|name| text(&world.env.path(name)).to_owned()).join(":");
    let pool = world.env.path("pool");
    fs::create_dir(&pool).unwrap();
    tool("mergerfs", &["-o", options, &branches, text(&pool)]);
    writeln!(world.env.map, "merged = \"{}/media\"", pool.display()).unwrap();
    world.env.plex.edit(|library| library.map_local(util::env::PLEX_ROOT, pool.join("media")));
    world.mounts.0.push(pool);
    world.film("Dune", 3000);
    world
}

const FRESH: &str = "func.getattr=newest,cache.files=off,cache.attr=0,cache.entry=0";

#[test]
#[ignore = "needs root and loop devices"]
fn check_passes_a_pool_that_serves_the_cache_first_and_proves_it() {
    let world = pool_of("copy", ["cache", "disk1", "disk2"], FRESH);
    let everything = || ["disk1", "disk2", "cache"].map(|below| world.env.snapshot(below));
    let before = everything();
    for args in [&["check", "--json", "--strict"][..], &["check", "--json", "--strict", "--probe"]] {
        let run = world.env.run(args).expect(0);
        for name in ["merged view", "branch order", "roots", "merged item", "seen by Plex"] {
            finding(&run, &format!("pass {name}"));
        }
        let served = if args.contains(&"--probe") { "pass served copy: the cache's" } else { "skip served copy" };
        finding(&run, served);
        assert_eq!(everything(), before, "{args:?}");
    }
    world.env.sync();
    finding(&world.env.run(&["check", "--json"]).expect(0), "pass served copy: the cache's");
}

#[test]
#[ignore = "needs root and loop devices"]
fn check_finds_a_pool_that_serves_the_slow_branch_first() {
    let world = pool_of("copy", ["disk1", "disk2", "cache"], FRESH);
    let run = world.env.run(&["check", "--json", "--probe"]).expect(1);
    let order = finding(&run, "fail branch order");
    assert!(order.contains("never served") && order.contains("put the cache's branch first"), "{order}");
    let served = finding(&run, "fail served copy: the array's");
    assert!(served.contains("func.open=ff"), "{served}");
    world.env.sync();
    let run = world.env.run(&["check", "--json"]).expect(1);
    assert!(finding(&run, "fail served copy").contains("disk1"), "{run:?}");
    // `hide` leaves the pool no choice.
    let world = pool_of("hide", ["disk1", "disk2", "cache"], FRESH);
    world.env.run(&["check", "--json"]).expect(0);
    let world = pool_of("copy", ["cache", "disk1", "disk2"], &format!("{FRESH},func.open=rand"));
    let run = world.env.run(&["check", "--json"]).expect(0);
    assert!(finding(&run, "warn branch order").contains("func.open=rand"), "{run:?}");
}

#[test]
#[ignore = "needs root and loop devices"]
fn check_finds_a_pool_in_place_of_a_disk_and_names_the_disks() {
    let world = pool_of("copy", ["cache", "disk1", "disk2"], FRESH);
    let path = |name: &str| world.env.path(name).display().to_string();
    let array = format!("array = [\"{}\", \"{}\"]", path("disk1/media"), path("disk2/media"));
    let config = world.env.config().replace(&array, &format!("array = [\"{}\"]", path("pool/media")));
    let config = config.replace(&format!("merged = \"{}\"", path("pool/media")), "");
    let mut command = world.env.command(&["check", "--json"]);
    fs::write(world.env.path("config.toml"), config).unwrap();
    let roots = finding(&Run::of(&mut command).expect(1), "fail roots");
    assert!(roots.contains("fuse.mergerfs") && roots.contains(&array), "{roots}");
    assert!(roots.contains(&format!("merged = \"{}\"", path("pool/media"))), "{roots}");
}

#[test]
#[ignore = "needs root and loop devices"]
fn check_finds_a_pool_without_the_cache_and_one_that_shows_another_folder() {
    let world = pool_of("copy", ["disk2", "disk1", "disk1/media"], FRESH);
    let run = world.env.run(&["check", "--json"]).expect(1);
    assert!(finding(&run, "fail merged view").contains("has no branch for"), "{run:?}");
    let mut world = pool_of("copy", ["cache", "disk1", "disk2"], FRESH);
    world.env.map = world.env.map.replace("pool/media", "pool");
    let run = world.env.run(&["check", "--json"]).expect(1);
    let right = format!("[[map]] 1: merged = \"{}\"", world.env.path("pool/media").display());
    assert!(finding(&run, "fail merged view").contains(&right), "{run:?}");
    assert!(finding(&run, "fail merged item").contains(&right), "{run:?}");
}

#[test]
#[ignore = "needs root and loop devices"]
fn check_ends_and_tells_the_rest_when_a_union_never_answers() {
    let world = pool_of("copy", ["cache", "disk1", "disk2"], FRESH);
    let pid = fs::read_dir("/proc").unwrap().flatten().find_map(|process| {
        let line = fs::read_to_string(process.path().join("cmdline")).ok()?;
        let is_it = line.starts_with("mergerfs\0") && line.contains(text(&world.env.path("pool")));
        is_it.then(|| process.file_name().into_string().unwrap())
    });
    let pid = pid.expect("the pool has a daemon");
    tool("kill", &["-STOP", &pid]);
    let run = world.env.run(&["check", "--json"]);
    tool("kill", &["-CONT", &pid]);
    let run = run.expect(1);
    assert!(finding(&run, "fail merged view").contains("no answer within"), "{run:?}");
    for name in ["pass roots", "pass space", "pass item", "fail merged item", "pass mover"] {
        finding(&run, name);
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn init_finds_the_branches_of_a_pool_and_what_it_writes_works() {
    let world = World::with_pool("copy");
    let env = &world.env;
    // A name that no other pool of this machine has.
    let title = format!("Found {}", std::process::id());
    let (media, bytes) = world.film(&title, 700_001);
    env.episode(&title, 1, 1, 300_001);
    let path = |name: &str| text(&env.path(name)).to_owned();
    let command = |args: &[&str]| {
        let mut command = Command::new(util::env::binary());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("PLEXCACHE_SAFETY__MIN_FILE_AGE", "0");
        command.envs(env.endpoint_variables());
        Run::of(command.args(["--config", &path("own.toml"), "--state-dir", &path("own")]).args(args))
    };
    command(&["init", "--no-input", "--url", &env.plex.url(), "--token-file", &path("token")]).expect(0);
    let config: toml::Table = fs::read_to_string(env.path("own.toml")).unwrap().parse().unwrap();
    let map = &config["map"].as_array().unwrap()[0];
    let folders = |key: &str| serde_json::to_string(&map[key]).unwrap().replace(&path(""), "");
    let found = ["plex", "array", "cache", "merged", "placement"].map(folders);
    let expected =
        ["\"/data/media\"", "[\"disk1/media\",\"disk2/media\"]", "\"cache/media\"", "\"pool/media\"", "\"copy\""];
    assert_eq!(found, expected);
    command(&["check"]).expect(0);
    command(&["sync"]).expect(0);
    assert!(env.cached().contains(&media), "{:?}", env.cached());
    assert!(fs::read(env.path("pool/media").join(&media)).unwrap() == bytes);
}
