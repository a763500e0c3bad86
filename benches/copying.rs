//! Copying: one big file, one at the pace of a hard disk, what becomes of the page cache, and many small files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Scale;
use super::measure::{self, Cost, Race};
use super::peers::{self, Peer};
use super::table::{self, Comparison, Table, Target, Unit};
use super::util::env::{contents, movie_path};
use super::world::{self, Memory, PAIRS, Pace, World, is_root, tool};

const VERIFIED: &str = "plexcache";
const ONE_LANE: &str = "plexcache with one lane";

/// Of a hard disk, in bytes a second.
const PACE: u64 = 200_000_000;
const BY_SIZE: &str = "plexcache, verify = \"size\"";
const READ_WRITE: &str = "the devices alone: read, write";
const READ_WRITE_READ: &str = "the devices alone: read, write, read";

/// One who copies the same source, by name.
enum Contestant<'a> {
    Ours { settings: &'static str },
    Devices { reads_again: bool },
    Peer(&'a Peer),
}

/// Lets plexcache, in both ways to verify, and `peers` copy `source` in turn, in so much memory.
fn race(world: &mut World, rounds: usize, source: &Path, peers: &[Peer], memory: Option<&Memory>) -> Race {
    let mut names = vec![VERIFIED, BY_SIZE];
    let mut contestants =
        vec![Contestant::Ours { settings: "" }, Contestant::Ours { settings: "[transfer]\nverify = \"size\"\n" }];
    if source.is_file() {
        names.extend([READ_WRITE_READ, READ_WRITE]);
        contestants.extend([true, false].map(|reads_again| Contestant::Devices { reads_again }));
    }
    for peer in peers.iter().filter(|peer| peer.is_there()) {
        names.push(peer.name);
        contestants.push(Contestant::Peer(peer));
    }
    // The disks' first writes to blocks that were never used are slower than all later ones.
    copy(world, source, &Contestant::Peer(&peers::CP), memory);
    Race::run(&names, rounds, |index| copy(world, source, &contestants[index], memory))
}

fn copy(world: &mut World, source: &Path, contestant: &Contestant, memory: Option<&Memory>) -> Cost {
    let others = world.others();
    world.cool(source);
    let run = |command: &Command| match memory {
        Some(memory) => measure::run(&memory.holding(command)),
        None => measure::run(command),
    };
    match contestant {
        Contestant::Ours { settings } => {
            let base = world.env.settings.clone();
            world.env.settings.push_str(settings);
            let cost = run(&world.env.command(&["sync", "--quiet"]));
            world.assert_cached(source);
            world.evict_all();
            world.env.settings = base;
            cost
        }
        Contestant::Devices { reads_again } => {
            let mut devices = Command::new(std::env::current_exe().unwrap());
            run(devices.arg("devices").arg(source).arg(others).args(reads_again.then_some("again")))
        }
        Contestant::Peer(peer) => {
            let cost = run(&peer.command(source, &others));
            world::assert_whole(&others, source);
            cost
        }
    }
}

fn pairs() -> &'static [(&'static str, &'static str)] {
    if is_root() { &PAIRS } else { &PAIRS[..1] }
}

/// One big file, in memory that holds a quarter of it, as films are to most servers.
pub fn big(table: &mut Table, scale: &Scale) {
    for &pair in pairs() {
        one_big(table, scale, pair, Memory::of(scale.file / 4).as_ref());
    }
}

/// The same in all the memory there is, where who compares afterwards compares what is in memory, and nothing that is
/// on a device.
pub fn roomy(table: &mut Table, scale: &Scale) {
    for &pair in pairs() {
        one_big(table, scale, pair, None);
    }
}

fn one_big(table: &mut Table, scale: &Scale, pair: (&'static str, &'static str), memory: Option<&Memory>) {
    let mut world = World::on(pair, 2 * scale.file);
    let source = world.big_film("Big", scale.file);
    let room = if memory.is_some() { "with memory for a quarter of it" } else { "with memory for all of it" };
    let what = format!("{}, {}, {room}", table::size(scale.file), world.name);
    eprintln!("one file of {what}");
    let mut peers = vec![
        peers::CP,
        peers::CP_CMP,
        peers::RSYNC,
        peers::RSYNC_CHECK,
        peers::RCLONE_MOVE,
        peers::RCLONE,
        peers::SHUTIL,
        peers::PLEXCACHE_D,
    ];
    if memory.is_none() {
        // Where memory is short the kernel kills it.
        peers.push(peers::XCP);
    }
    let race = race(&mut world, scale.rounds, &source, &peers, memory);
    // What memory spares the others is no measure of ours.
    let if_it_is_short = |target| if memory.is_some() { target } else { Target::None };
    let mut compare = |work, pick, ours, theirs, target| {
        let target = if_it_is_short(target);
        let work = &format!("{work}, {what}");
        table.compare(&race, &Comparison { work, pick, unit: Unit::Seconds, ours, theirs, target });
    };
    let verified = "one file, verified";
    compare(verified, |cost| cost.wall, VERIFIED, READ_WRITE_READ, Target::None);
    compare(verified, |cost| cost.wall, VERIFIED, peers::CP_CMP.name, Target::AtMost(0.65));
    compare(verified, |cost| cost.wall, VERIFIED, peers::RSYNC_CHECK.name, Target::AtMost(0.5));
    compare(verified, |cost| cost.wall, VERIFIED, peers::RCLONE_MOVE.name, Target::AtMost(0.5));
    let by_size = "one file, by size";
    compare(by_size, |cost| cost.wall, BY_SIZE, READ_WRITE, Target::None);
    compare(by_size, |cost| cost.wall, BY_SIZE, peers::CP.name, Target::AtMost(0.9));
    compare(by_size, |cost| cost.wall, BY_SIZE, peers::RSYNC.name, Target::AtMost(0.4));
    for peer in [peers::RCLONE, peers::XCP, peers::SHUTIL, peers::PLEXCACHE_D] {
        compare(by_size, |cost| cost.wall, BY_SIZE, peer.name, Target::None);
    }
    compare("its CPU, verified", |cost| cost.cpu, VERIFIED, peers::CP_CMP.name, Target::AtMost(0.3));
    let peak = race.median(VERIFIED, |cost| cost.peak).unwrap();
    table.figure(&format!("its peak memory, {what}"), peak, Unit::Mebibytes, Target::AtMost(40.0));
}

/// Two files on two disks that are each as slow as a hard disk, with a lane for each and with one for both.
pub fn lanes(table: &mut Table, scale: &Scale) {
    let bytes = (scale.file / 8).max(128 << 20);
    let work = format!("two files of {} on two disks at 200 MB/s, verified", table::size(bytes));
    if !is_root() {
        return table.missing(&work, "only root has two disks here");
    }
    let world = World::with_two_disks(PAIRS[0], 3 * bytes);
    let first = world.big_film("One", bytes);
    let second = world.to_second_disk(&world.big_film("Other", bytes));
    let paces = ["disk1", "disk2"].map(|disk| Pace::set(&world.env.path(disk), PACE));
    if paces.iter().any(Option::is_none) {
        return table.missing(&work, "no disk can be slowed down here");
    }
    let race = Race::run(&[VERIFIED, ONE_LANE], scale.rounds.min(3), |index| {
        world.cool(&first);
        world.cool(&second);
        let pace: &[&str] = if index == 0 { &[] } else { &["--bwlimit=100GB/s"] };
        let cost = measure::run(&world.env.command(&[&["sync", "--quiet"], pace].concat()));
        for film in [&first, &second] {
            world.assert_cached(film);
        }
        world.evict_all();
        cost
    });
    drop(paces);
    let (ours, theirs, target) = (VERIFIED, ONE_LANE, Target::AtMost(0.6));
    table
        .compare(&race, &Comparison { work: &work, pick: |cost| cost.wall, unit: Unit::Seconds, ours, theirs, target });
    let peak = race.median(VERIFIED, |cost| cost.peak).unwrap();
    table.figure("its peak memory", peak, Unit::Mebibytes, Target::AtMost(40.0));
}

/// One file when one of the disks is as slow as a hard disk. The other contestant is that disk itself.
pub fn paced(table: &mut Table, scale: &Scale) {
    let bytes = (scale.file / 2).max(256 << 20);
    let mut world = World::on(PAIRS[0], 3 * bytes);
    let source = world.big_film("Paced", bytes);
    for (tier, other) in [("disk1", "dd from the array, O_DIRECT"), ("cache", "dd to the cache, O_DIRECT")] {
        let work = format!("one file, verified, the {} at 200 MB/s", if tier == "cache" { "cache" } else { "array" });
        let Some(pace) = Pace::set(&world.env.path(tier), PACE) else {
            table.missing(&work, "no disk can be slowed down here");
            continue;
        };
        let target = world.env.path("cache/dd");
        let race = Race::run(&[VERIFIED, other], scale.rounds.min(3), |index| {
            if index == 0 {
                return copy(&mut world, &source, &Contestant::Ours { settings: "" }, None);
            }
            world.cool(&source);
            let mut dd = Command::new("dd");
            dd.arg("bs=4M").arg("status=none");
            if tier == "cache" {
                dd.arg("if=/dev/zero").arg(format!("of={}", target.display())).arg("oflag=direct");
                dd.arg(format!("count={}", bytes >> 22));
            } else {
                dd.arg(format!("if={}", source.display())).arg("of=/dev/null").arg("iflag=direct");
            }
            measure::run(&dd)
        });
        drop(pace);
        let (ours, theirs, target) = (VERIFIED, other, Target::AtMost(1.08));
        let comparison = Comparison { work: &work, pick: |cost| cost.wall, unit: Unit::Seconds, ours, theirs, target };
        table.compare(&race, &comparison);
    }
}

/// How much of another file's page cache is left after twenty files were copied, in as much memory as a small
/// machine has.
pub fn pages(table: &mut Table, scale: &Scale) {
    const FILES: u64 = 20;
    let total = FILES * scale.batch_file;
    let Some(memory) = Memory::of(scale.file + scale.file / 2) else {
        return table.missing("another file's page cache left", "no cgroup limits the memory here");
    };
    let work = format!("another file's page cache left, {} copied", table::size(total));
    if !peers::is_there("fincore") {
        return table.missing(&work, "fincore of util-linux is missing");
    }
    let world = World::on(PAIRS[0], scale.file + total);
    let watched = world.env.path("disk1/watched");
    drop(world.big_film("Watched", scale.file));
    fs::rename(world.env.array(&movie_path("Watched", 2000)), &watched).unwrap();
    world.env.plex.edit(|library| library.clear_on_deck("owner"));
    let films: Vec<PathBuf> =
        (0..FILES).map(|film| world.big_film(&format!("Moved {film}"), scale.batch_file)).collect();
    let left = |name: &str, run: &dyn Fn(&Path) -> f64| {
        let others = world.others();
        films.iter().chain([&watched]).for_each(|path| world.cool(path));
        let mut read = Command::new("cat");
        measure::run(&memory.holding(read.arg(&watched)));
        let before = resident(&watched);
        let seconds = run(&others);
        let left = resident(&watched) as f64 / scale.file as f64 * 100.0;
        eprintln!("  {name:<34} {left:5.1} % left of {:.0} MiB, {seconds:.1} s", before as f64 / f64::from(1 << 20));
        (left, seconds)
    };
    let (ours, seconds) =
        left(VERIFIED, &|_| measure::run(&memory.holding(&world.env.command(&["sync", "--quiet"]))).wall);
    for film in &films {
        world.assert_cached(film);
    }
    world.evict_all();
    // Some kernels take away what is idle, whoever does whatever.
    let (idle, _) = left("nobody", &|_| {
        std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
        seconds
    });
    if idle < 90.0 {
        let why = format!("this kernel takes idle pages away by itself: {idle:.0} % left after doing nothing");
        return table.missing(&work, &why);
    }
    for peer in [peers::CP, peers::RSYNC, peers::RCLONE, peers::XCP, peers::SHUTIL, peers::PLEXCACHE_D] {
        if peer.is_there() {
            let copy = |film: &PathBuf, others: &Path| measure::run(&memory.holding(&peer.command(film, others))).wall;
            let (theirs, _) = left(peer.name, &|others| films.iter().map(|film| copy(film, others)).sum());
            table.beside(&work, ours, (peer.name, theirs), Unit::Percent, Target::AtLeast(90.0));
        }
    }
}

/// Bytes of a file that are in memory.
fn resident(path: &Path) -> u64 {
    tool("fincore", &["--bytes", "--noheadings", "--output", "RES", path.to_str().unwrap()]).parse().unwrap()
}

/// Films of 40 KB with twenty sidecars of 40 KB each.
pub fn small(table: &mut Table, scale: &Scale) {
    for &pair in pairs() {
        let mut world = World::on(pair, 1 << 30);
        world.env.configure("[select]\nplaylists = [\"All\"]\n");
        let mut films = Vec::new();
        for film in 0..scale.films {
            let key = world.env.movie(&format!("Film {film:03}"), 2000, 40_000);
            for sidecar in 0..20 {
                let path = movie_path(&format!("Film {film:03}"), 2000).replace(".mkv", &format!(".{sidecar}.srt"));
                fs::write(world.env.array(&path), contents(Path::new(&path), 40_000)).unwrap();
            }
            films.push(key);
        }
        // On deck Plex has 40 at most.
        let films: Vec<&str> = films.iter().map(String::as_str).collect();
        world.env.plex.edit(|library| library.add_playlist("owner", "All", &films));
        let source = world.env.array("Movies");
        let what = format!("{} files of 40 KB, {}", scale.films * 21, world.name);
        eprintln!("{what}");
        let peers = [peers::CP, peers::RSYNC, peers::RCLONE, peers::XCP, peers::SHUTIL];
        let race = race(&mut world, scale.rounds, &source, &peers, None);
        for (peer, target) in peers.iter().zip([Target::AtMost(1.5)].into_iter().chain([Target::None; 4])) {
            let (pick, unit, ours, theirs) = (|cost: &Cost| cost.wall, Unit::Seconds, VERIFIED, peer.name);
            table.compare(&race, &Comparison { work: &what, pick, unit, ours, theirs, target });
        }
    }
}
