//! What a file system can be besides large and ordinary: full of other files, without case, with short links.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::util::env::{Run, TestEnv, Tree, binary};
use crate::{Mounts, PLACEMENTS, World, text, tool, try_to};

/// Fills a folder with folders full of names. They are links, which cost no inode each.
fn fill(folder: &Path, files: usize) {
    // A folder of few names is quick to add to, and no file system counts more links than this.
    const MANY: usize = 10_000;
    for (index, first) in (0..files).step_by(MANY).enumerate() {
        let folder = folder.join(format!("Other {index}"));
        fs::create_dir_all(&folder).unwrap();
        let one = folder.join("0.nfo");
        File::create(&one).unwrap();
        for number in 1..MANY.min(files - first) {
            fs::hard_link(&one, folder.join(format!("{number}.nfo"))).unwrap();
        }
    }
}

/// How many system calls of each kind a run makes. Which thread does what is of no matter.
fn calls(env: &TestEnv, args: &[&str]) -> std::collections::BTreeMap<String, u64> {
    let told = env.path("strace");
    // The configuration is written by this.
    drop(env.command(args));
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-U", "calls,name", "-o", text(&told)]).arg(binary());
    command.arg("--config").arg(env.path("config.toml")).args(args);
    command.env("PLEXCACHE_TEST_PAUSE_MS", "10").env("TZ", "UTC");
    Run::of(&mut command).expect(0);
    let table = fs::read_to_string(told).unwrap();
    let row = |line: &str| {
        let mut fields = line.split_whitespace();
        let calls = fields.next()?.parse().ok()?;
        Some((fields.next()?.to_owned(), calls)).filter(|(name, _)| name != "total")
    };
    table.lines().filter_map(row).collect()
}

/// `PLEXCACHE_BIG_TREE=1000000` puts a million files beside the media instead.
#[test]
#[ignore = "needs root, loop devices and strace"]
fn what_is_beside_the_media_is_not_walked() {
    let files = std::env::var("PLEXCACHE_BIG_TREE").map_or(20_000, |text| text.parse().unwrap());
    let world = World::new("move", "ext4", &[]);
    let env = &world.env;
    world.film("Dune", 100_000);
    env.sync();
    let commands = [&["sync"][..], &["sync", "--dry-run"], &["status"], &["status", "--live"]];
    let look = || commands.map(|args| calls(env, args));
    look();
    let before = look();
    let begun = std::time::Instant::now();
    for root in ["disk1/media", "disk2/media/Movies", "cache/media"] {
        fill(&env.path(root), files / 3 + 1);
    }
    println!("{files} files made in {:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    env.sync();
    println!("sync beside them in {:?}", begun.elapsed());
    let after = look();
    for ((args, before), after) in commands.iter().zip(before).zip(after) {
        println!("{args:?}: {} calls before, {} after", before.values().sum::<u64>(), after.values().sum::<u64>());
        for call in ["getdents64", "statx", "newfstatat", "fstat", "openat", "openat2", "open", "read"] {
            let count = |calls: &std::collections::BTreeMap<String, u64>| calls.get(call).copied().unwrap_or(0);
            // A root's own folder is looked into, to see whether it is empty; /proc changes with the host.
            let slack = 100 + count(&before) / 4;
            assert!(count(&after) <= count(&before) + slack, "{args:?} {call}: {before:?} {after:?}");
        }
    }
    // And a new film, though the folders beside it are full.
    let (media, _) = world.film("Alien", 100_000);
    env.sync();
    assert!(env.cache(&media).exists());
    world.evict_all().expect(0);
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_link_that_the_disk_cannot_hold_is_not_begun() {
    let mut world = World::new("symlink", "ext4", &[]);
    // The disks of the array are xfs, where a link has a KiB at most.
    let fits = format!("{}/{}/{}/Film.mkv", "a".repeat(255), "b".repeat(255), "c".repeat(255));
    let room = 1023 - env_length(&world.env) - fits.len();
    let fits = format!("{}/{fits}", "d".repeat(room - 2));
    let too_long = fits.replace("/Film", "/Film 2");
    for (media, size) in [(&fits, 50_000), (&too_long, 60_000)] {
        world.env.on_deck("owner", &world.env.film_at(media, size));
    }
    let env = &mut world.env;
    let before = env.snapshot("disk1/media");
    let run = env.run(&["sync", "--json"]).expect(3);
    let plan = run.json_of("plan");
    assert!(plan["skipped"][0]["detail"].as_str().unwrap().contains("too long for a link"), "{plan}");
    assert_eq!(env.cached(), [fits.as_str()]);
    assert!(fs::symlink_metadata(env.array(&fits)).unwrap().is_symlink());
    world.evict_all().expect(0);
    assert_eq!(world.env.snapshot("disk1/media").without_markers(), before);
}

fn env_length(env: &TestEnv) -> usize {
    env.path("cache/media").as_os_str().len()
}

/// A loop device, which goes with it.
struct Loop(String);

impl Loop {
    fn on(image: &Path) -> Self {
        let told = Command::new("losetup").args(["--find", "--show", text(image)]).output().unwrap();
        assert!(told.status.success(), "{told:?}");
        Self(String::from_utf8(told.stdout).unwrap().trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        assert!(try_to("losetup", &["--detach", &self.0]) || std::thread::panicking(), "{} is left", self.0);
    }
}

/// A world whose cache is on a file system that a FUSE daemon answers for. In the order in which it goes:
/// the mounts before the directory that they are in.
struct Foreign {
    _mounts: Mounts,
    _device: Loop,
    env: TestEnv,
}

impl Foreign {
    /// `None` where the tools are not installed.
    fn new(placement: &str, make: &[&str], mount: &[&str]) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("plexcache-test-").tempdir().unwrap();
        let (image, point) = (dir.path().join("cache.img"), dir.path().join("cache"));
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let device = Loop::on(&image);
        if !try_to(make[0], &[&make[1..], &[&device.0]].concat()) {
            return None;
        }
        fs::create_dir(&point).unwrap();
        let mut mounts = Mounts::default();
        tool(mount[0], &[&mount[1..], &[&device.0, text(&point)]].concat());
        mounts.0.push(point);
        Some(Self { _mounts: mounts, _device: device, env: TestEnv::at(dir, placement) })
    }
}

const FILMS: [&str; 2] = ["Movies/Film/FILM.mkv", "Movies/Film/film.mkv"];

fn two_films_that_differ_in_case(env: &TestEnv) {
    for (index, media) in FILMS.into_iter().enumerate() {
        env.on_deck("owner", &env.film_at(media, 200_000 + index));
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_cache_without_owners_and_links_is_refused() {
    for placement in PLACEMENTS {
        let Some(world) = Foreign::new(placement, &["mkfs.exfat"], &["mount.exfat-fuse"]) else {
            println!("skipped: no mkfs.exfat");
            return;
        };
        let env = &world.env;
        two_films_that_differ_in_case(env);
        let before = env.snapshot("disk1/media");
        for args in [&["sync"][..], &["evict", "--all"]] {
            let run = env.run(args).expect(77);
            assert!(run.stderr.contains("owners and links"), "{placement}: {}", run.stderr);
            assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
            assert_eq!(env.snapshot("cache/media").entries.len(), 0, "{placement}");
        }
    }
}

/// NTFS counts time in steps of 100 ns.
fn in_steps(mut tree: Tree) -> Tree {
    for entry in tree.entries.values_mut() {
        entry.mtime.1 -= entry.mtime.1 % 100;
    }
    tree
}

#[test]
#[ignore = "needs root and loop devices"]
fn names_that_differ_in_case_only_do_not_overwrite_each_other_on_ntfs() {
    for placement in PLACEMENTS {
        let mount = ["lowntfs-3g", "-o", "ignore_case,permissions"];
        let Some(world) = Foreign::new(placement, &["mkntfs", "-F", "-Q", "-q"], &mount) else {
            println!("skipped: no mkntfs");
            return;
        };
        let env = &world.env;
        two_films_that_differ_in_case(env);
        let before = env.snapshot("disk1/media");
        assert!(env.path("cache/MEDIA").exists(), "it tells names by case");
        let run = env.run(&["sync", "--json"]).expect(3);
        assert_eq!(run.why_left().into_values().collect::<Vec<_>>(), ["conflict"], "{placement}");
        assert_eq!(env.cached().len(), 1, "{placement}");
        for (name, film) in FILMS.iter().map(|name| (name, &before.entries[*name])) {
            let kept = fs::read(env.array(&format!("{name}.plexcached")));
            let copy = [fs::read(env.array(name)), kept, fs::read(env.cache(name))];
            assert!(copy.iter().flatten().any(|bytes| *bytes == film.contents), "{placement}: {name}");
        }
        env.run(&["evict", "--all", "--json"]).expect(0);
        assert_eq!(in_steps(env.snapshot("disk1/media").without_markers()), in_steps(before), "{placement}");
        assert_eq!(env.snapshot("cache/media").without_markers().entries.len(), 0, "{placement}");
    }
}
