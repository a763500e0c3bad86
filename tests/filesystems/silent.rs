//! File systems that stop answering: a FUSE daemon that hangs, which is to the kernel what a dead network
//! share is.
//!
//! A daemon is stopped with SIGSTOP. One that hangs over another one that is stopped has taken the call
//! and never answers it, and the caller cannot even be killed then. Whatever a test does, its daemons go
//! on and its mounts are gone when it ends.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::util::env::{Run, TestEnv, movie_path};
use crate::util::fake_plex::Media;
use crate::{World, text, try_to};

/// Far more than any deadline of the program: who needs longer never ends.
const FOR_EVER: Duration = Duration::from_secs(90);

/// A FUSE daemon in the foreground, and what it shows.
struct Daemon {
    child: Child,
    point: PathBuf,
}

impl Daemon {
    /// Shows the folder `from` at `point`. The kernel remembers nothing of it.
    fn start(program: &str, from: &Path, point: PathBuf) -> Self {
        fs::create_dir_all(&point).unwrap();
        let options: &[&str] = match program {
            "mergerfs" => &["-f", "-o", "cache.files=off,cache.attr=0,cache.entry=0,cache.statfs=0"],
            _ => &["-f", "-o", "attr_timeout=0,entry_timeout=0,negative_timeout=0"],
        };
        let mut command = Command::new(program);
        command.args(options).args([from, &point]).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = Self { child: command.spawn().unwrap(), point };
        let begun = Instant::now();
        while !try_to("mountpoint", &["-q", text(&daemon.point)]) {
            assert!(begun.elapsed() < FOR_EVER, "{program} does not mount");
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Stops it for as long as what is returned lives, which has to be shorter than that of all that
    /// needs its answers.
    fn stop(&self) -> Stopped<'_> {
        self.signal(Signal::STOP);
        Stopped(self)
    }
}

struct Stopped<'a>(&'a Daemon);

impl Stopped<'_> {
    /// Ends a process that waits for the daemon. What the daemon had taken before it was stopped it has to answer
    /// first: nothing else wakes whoever waits for that.
    fn kills(&self, child: &mut Child) {
        child.kill().unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < FOR_EVER, "it cannot be killed");
            self.0.signal(Signal::CONT);
            std::thread::sleep(Duration::from_millis(2));
            self.0.signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let gone = try_to("umount", &[text(&self.point)]) || try_to("umount", &["-l", text(&self.point)]);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        assert!(gone || std::thread::panicking(), "{} is still mounted", self.point.display());
    }
}

/// A process that ends with its owner.
struct Reader(Child);

impl Reader {
    fn of(file: &Path) -> Self {
        Self(Command::new("sleep").arg("1000").stdin(File::open(file).unwrap()).spawn().unwrap())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A run that has begun; it goes on alone.
struct Begun<'a> {
    env: &'a TestEnv,
    args: &'a [&'a str],
    child: Child,
}

impl<'a> Begun<'a> {
    fn new(env: &'a TestEnv, args: &'a [&'a str]) -> Self {
        // A file, because whoever is left behind may have inherited a pipe.
        let file = |of: &str| File::create(env.path(format!("{of} {}", args.join(" ")))).unwrap();
        let child = env.command(args).stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap();
        Self { env, args, child }
    }

    /// What came of it, if it ends at all; one that does not is killed.
    #[track_caller]
    fn ends(mut self) -> Run {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > FOR_EVER {
                let threads = threads(self.child.id());
                self.child.kill().unwrap();
                panic!("{:?} does not end:\n{threads}", self.args);
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let read = |of: &str| fs::read_to_string(self.env.path(format!("{of} {}", self.args.join(" ")))).unwrap();
        Run { status: status.code().unwrap_or(-1), stdout: read("stdout"), stderr: read("stderr") }
    }
}

#[track_caller]
fn ends(env: &TestEnv, args: &[&str]) -> Run {
    Begun::new(env, args).ends()
}

/// Runs that go on side by side, so that their deadlines do not add up.
#[track_caller]
fn end_together<const N: usize>(env: &TestEnv, all: [&[&str]; N]) -> [Run; N] {
    all.map(|args| Begun::new(env, args)).map(Begun::ends)
}

/// What each thread of a process waits for.
fn threads(pid: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let line = |task: fs::DirEntry| {
        let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        format!("{} {}\n{}", task.file_name().display(), read("wchan"), read("stack"))
    };
    tasks.map(line).collect()
}

/// A world with a second map, one tier of which a daemon shows; a film of each map on deck. The daemon
/// has to go first.
fn with_a_share(tier: &str) -> (World, Daemon, [String; 2]) {
    let mut world = World::new("copy", "ext4", &[]);
    let env = &mut world.env;
    for tier in ["disk1", "cache"] {
        fs::create_dir(env.path(tier).join("other")).unwrap();
    }
    // A share of its own: two roots on one file system are another matter.
    let share = Daemon::start("bindfs", &env.path(tier).join("other"), env.path("share"));
    let root = |of: &str| if of == tier { env.path("share") } else { env.path(of).join("other") };
    let (array, cache) = (root("disk1"), root("cache"));
    let more = format!(
        "[[map]]\nplex = \"/data/other\"\narray = [\"{}\"]\ncache = \"{}\"\nplacement = \"copy\"\n",
        array.display(),
        cache.display()
    );
    env.map.push_str(&more);
    let path = movie_path("Far", 2020);
    crate::util::env::file_at(env.path("disk1/other").join(&path), 70_000);
    let part = Media::file(&format!("/data/other/{path}"), 70_000);
    let far = env.plex.edit(|library| library.add_movie(env.movies, "Far", 2020, &[part]));
    env.on_deck("owner", &far);
    let (near, _) = world.film("Near", 80_000);
    (world, share, [path, near])
}

fn cached(env: &TestEnv, [far, near]: &[String; 2]) -> [bool; 2] {
    [env.path("cache/other").join(far).exists(), env.cache(near).exists()]
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_cache_that_stops_answering_stops_every_run_and_status_still_tells_of_the_others() {
    let (world, share, films) = with_a_share("cache");
    let env = &world.env;
    env.sync();
    assert_eq!(cached(env, &films), [true, true]);
    let before = [env.snapshot("disk1"), env.snapshot("disk2")];
    let stopped = share.stop();
    let [status, nagios, sync, dry] =
        end_together(env, [&["status", "--json"], &["status", "--nagios"], &["sync"], &["sync", "--dry-run"]]);
    let told = status.expect(0).json_of("status");
    assert!(told["health"].to_string().contains("no answer within 5 s"), "{told}");
    assert_eq!(told["tiers"].as_array().unwrap().len(), 2, "{told}");
    let answered = |tier: &serde_json::Value| tier["total"].is_number();
    assert_eq!(told["tiers"].as_array().unwrap().iter().filter(|tier| answered(tier)).count(), 1, "{told}");
    assert_eq!((nagios.status, nagios.stdout.lines().count()), (2, 1), "{nagios:?}");
    for run in [sync, dry] {
        let run = run.expect(4);
        assert!(run.stderr.contains("share") && run.stderr.contains("no answer within"), "{}", run.stderr);
    }
    drop(stopped);
    assert_eq!([env.snapshot("disk1"), env.snapshot("disk2")], before);
    assert_eq!(cached(env, &films), [true, true]);
    env.sync();
    world.evict_all().expect(0);
    assert_eq!(cached(env, &films), [false, false]);
}

#[test]
#[ignore = "needs root and loop devices"]
fn an_array_that_stops_answering_stops_every_run() {
    let (world, share, films) = with_a_share("disk1");
    let env = &world.env;
    let stopped = share.stop();
    let [sync, dry, live] = end_together(env, [&["sync"], &["sync", "--dry-run"], &["status", "--live", "--json"]]);
    for run in [sync, dry] {
        let run = run.expect(4);
        assert!(run.stderr.contains("share") && run.stderr.contains("no answer within"), "{}", run.stderr);
    }
    let live = live.expect(0).json_of("status");
    assert!(live["health"].to_string().contains("no answer within 20 s"), "{live}");
    assert_eq!(cached(env, &films), [false, false]);
    drop(stopped);
    env.sync();
    assert_eq!(cached(env, &films), [true, true]);
}

/// The daemon has taken the call and never answers: not even SIGKILL ends the caller.
#[test]
#[ignore = "needs root and loop devices"]
fn a_share_that_takes_a_call_and_never_answers_it_does_not_keep_the_run() {
    let (mut world, share, films) = with_a_share("cache");
    let env = &mut world.env;
    env.sync();
    // The same folder, shown by a daemon that asks the one that will be stopped.
    let over = Daemon::start("bindfs", &env.path("share"), env.path("over"));
    let share_root = format!("cache = \"{}\"", env.path("share").display());
    env.map = env.map.replace(&share_root, &format!("cache = \"{}\"", env.path("over").display()));
    env.run(&["sync", "--yes"]).expect(0);
    let stopped = share.stop();
    let [status, first] = end_together(env, [&["status", "--json"], &["sync"]]);
    let second = ends(env, &["sync"]);
    drop(stopped);
    let told = status.expect(0).json_of("status");
    assert!(told["health"].to_string().contains("no answer within 5 s"), "{told}");
    // Nobody keeps the lock of the run that has ended.
    assert_eq!((first.status, second.status), (4, 4), "{first:?} {second:?}");
    env.sync();
    assert_eq!(cached(env, &films), [true, true]);
    drop(over);
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_dead_share_that_is_no_root_keeps_no_run_though_somebody_has_a_file_of_it_open() {
    let mut world = World::new("move", "ext4", &[]);
    let (media, bytes) = world.film("Dune", 200_000);
    let env = &mut world.env;
    fs::create_dir(env.path("far")).unwrap();
    fs::write(env.path("far/file"), "x").unwrap();
    for program in ["mergerfs", "bindfs"] {
        let share = Daemon::start(program, &env.path("far"), env.path("share"));
        let over = Daemon::start("bindfs", &env.path("share"), env.path("over"));
        let readers = [Reader::of(&env.path("share/file")), Reader::of(&env.path("over/file"))];
        let stopped = share.stop();
        for (args, cached) in [(&["sync"][..], true), (&["status"], true), (&["evict", "--all"], false)] {
            ends(env, args).expect(0);
            assert_eq!(env.cache(&media).exists(), cached, "{program} {args:?}");
        }
        drop(stopped);
        drop((readers, over));
    }
    assert!(env.shown(&media) == Some(bytes));
}

/// Who closes a file of the share in the middle of an `execve` waits there, and keeps everybody waiting
/// who looks at what it has open.
#[test]
#[ignore = "needs root and loop devices"]
fn a_process_that_hangs_in_the_middle_of_an_execve_keeps_no_run() {
    let world = World::new("move", "ext4", &[]);
    let (media, _) = world.film("Dune", 200_000);
    let env = &world.env;
    fs::create_dir(env.path("far")).unwrap();
    fs::write(env.path("far/file"), "x").unwrap();
    let share = Daemon::start("bindfs", &env.path("far"), env.path("share"));
    // What Python opens is closed by an execve.
    let script =
        "import os, sys; os.open(sys.argv[1], 0); print(flush=True); input(); os.execlp('sleep', 'sleep', '1000')";
    let mut python = Command::new("python3");
    python.args(["-c", script, text(&env.path("share/file"))]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut hanging = Reader(python.spawn().unwrap());
    assert_eq!(hanging.0.stdout.take().unwrap().read(&mut [0]).unwrap(), 1);
    let stopped = share.stop();
    hanging.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    let begun = Instant::now();
    // Not even this test may look at it itself.
    let link = format!("/proc/{}/fd/0", hanging.0.id());
    while try_to("timeout", &["0.5", "readlink", &link]) {
        assert!(begun.elapsed() < FOR_EVER, "it does not hang");
    }
    for (args, cached) in [(&["sync"][..], true), (&["evict", "--all"], false)] {
        ends(env, args).expect(0);
        assert_eq!(env.cache(&media).exists(), cached, "{args:?}");
    }
    drop(stopped);
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_share_that_stops_in_the_middle_of_a_copy_is_settled_by_the_next_run() {
    let (world, share, [far, near]) = with_a_share("cache");
    let env = &world.env;
    let large = env.path("disk1/other").join(&far);
    fs::remove_file(&large).unwrap();
    crate::util::env::file_at(large.clone(), 3 << 20);
    let before = fs::read(&large).unwrap();
    let mut child = env.spawn(&["sync", "--bwlimit=1MB/s"]);
    let folder = env.path("cache/other").join(&far).parent().unwrap().to_owned();
    let begun = Instant::now();
    while !fs::read_dir(&folder).is_ok_and(|mut names| names.next().is_some()) {
        assert!(begun.elapsed() < FOR_EVER && child.try_wait().unwrap().is_none(), "no copy was under way");
        std::thread::sleep(Duration::from_millis(2));
    }
    let stopped = share.stop();
    // It waits, as everybody does who writes to a dead share; another run is turned away meanwhile.
    assert_eq!(ends(env, &["sync"]).status, 75);
    ends(env, &["status"]).expect(0);
    stopped.kills(&mut child);
    ends(env, &["sync"]).expect(4);
    drop(stopped);
    env.sync();
    assert_eq!(fs::read(env.path("cache/other").join(&far)).unwrap(), before);
    assert!(fs::read(&large).unwrap() == before && env.cache(&near).exists());
    assert_eq!(env.leftovers(), Vec::<String>::new());
}
