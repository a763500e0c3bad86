//! Where the bench's files are: file systems of their own on loop devices as root, plain directories otherwise.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::Advice;

use super::util::env::TestEnv;

/// File systems of the array and of the cache.
pub const PAIRS: [(&str, &str); 2] = [("ext4", "ext4"), ("xfs", "btrfs")];

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

static STOPPED: std::sync::OnceLock<Arc<AtomicBool>> = std::sync::OnceLock::new();

/// From now on Ctrl-C is an error like any other, so that everything is unmounted and removed.
pub fn fail_on_signals() {
    let stopped = STOPPED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(stopped)).unwrap();
    }
}

/// Runs a tool and returns what it says.
pub fn tool(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output().unwrap_or_else(|error| panic!("{command}: {error}"));
    assert!(output.status.success(), "{command} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(!STOPPED.get().is_some_and(|stopped| stopped.load(Ordering::Relaxed)), "stopped by a signal");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A throw-away directory beside the build, which is on a disk where `/tmp` may be memory. `BENCH_DIR` names another.
fn scratch() -> tempfile::TempDir {
    let beside = || std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let parent = std::env::var_os("BENCH_DIR").map_or_else(beside, PathBuf::from);
    tempfile::Builder::new().prefix("plexcache-bench-").tempdir_in(parent).unwrap()
}

/// A world, and the file systems that it is on. They go before the directory that they are in.
pub struct World {
    mounts: Vec<PathBuf>,
    pub env: TestEnv,
    /// `ext4 → ext4`
    pub name: String,
}

impl World {
    /// Plain directories, one file system.
    pub fn plain() -> Self {
        Self { mounts: Vec::new(), env: TestEnv::at(scratch(), "copy"), name: "plain directories".to_owned() }
    }

    /// With room for `bytes` on either tier.
    pub fn on((array, cache): (&str, &str), bytes: u64) -> Self {
        Self::with((array, cache), &[("disk1", array), ("cache", cache)], bytes)
    }

    /// The same with a second disk in the array, of its own.
    pub fn with_two_disks((array, cache): (&str, &str), bytes: u64) -> Self {
        let mut world = Self::with((array, cache), &[("disk1", array), ("disk2", array), ("cache", cache)], bytes);
        world.env.settings = world.env.settings.replace("allow_same_device = true", "verify_with_plex = false");
        world
    }

    fn with((array, cache): (&str, &str), disks: &[(&str, &str)], bytes: u64) -> Self {
        if !is_root() {
            return Self::plain();
        }
        let dir = scratch();
        let mut mounts = Vec::new();
        for (name, kind) in disks {
            let (point, image) = (dir.path().join(name), dir.path().join(format!("{name}.img")));
            fs::create_dir(&point).unwrap();
            File::create(&image).unwrap().set_len(bytes + bytes / 8 + (1 << 30)).unwrap();
            tool(&format!("mkfs.{kind}"), &["-q", text(&image)]);
            // Past the page cache of the file system below: it is a disk that is played here.
            let device = tool("losetup", &["--find", "--show", "--direct-io=on", text(&image)]);
            tool("mount", &[&device, text(&point)]);
            mounts.push(point);
            // Goes with its mount.
            tool("losetup", &["--detach", &device]);
        }
        Self { mounts, env: TestEnv::at(dir, "copy"), name: format!("{array} → {cache}") }
    }

    /// Makes a file of so many bytes that no file system can shorten, on the array.
    pub fn big_film(&self, title: &str, bytes: u64) -> PathBuf {
        let key = self.env.movie(title, 2000, 0);
        let path = self.env.array(&super::util::env::movie_path(title, 2000));
        let mut noise = File::open("/dev/urandom").unwrap();
        std::io::copy(&mut std::io::Read::take(&mut noise, bytes), &mut File::create(&path).unwrap()).unwrap();
        self.env.plex.edit(|library| library.resize_file(&self.plex_path(&path), bytes.try_into().unwrap()));
        self.env.on_deck("owner", &key);
        path
    }

    /// Puts a file of the first disk on the second one.
    pub fn to_second_disk(&self, path: &Path) -> PathBuf {
        let second = self.env.path("disk2/media").join(path.strip_prefix(self.env.path("disk1/media")).unwrap());
        fs::create_dir_all(second.parent().unwrap()).unwrap();
        fs::copy(path, &second).unwrap();
        fs::remove_file(path).unwrap();
        second
    }

    fn plex_path(&self, path: &Path) -> String {
        let media = path.strip_prefix(self.env.path("disk1/media")).unwrap();
        format!("{}/{}", super::util::env::PLEX_ROOT, media.display())
    }

    /// Where others put what they copy. Empty.
    pub fn others(&self) -> PathBuf {
        let folder = self.env.path("cache/others");
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir(&folder).unwrap();
        folder
    }

    /// Has everything on disk and nothing of `source` in memory.
    pub fn cool(&self, source: &Path) {
        for tier in ["disk1", "cache"] {
            tool("sync", &["-f", text(&self.env.path(tier))]);
        }
        let mut paths = vec![source.to_owned()];
        while let Some(path) = paths.pop() {
            if path.is_dir() {
                paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                rustix::fs::fadvise(File::open(path).unwrap(), 0, None, Advice::DontNeed).unwrap();
            }
        }
    }

    /// All of `source`, which is on one of the disks, is on the cache too.
    pub fn assert_cached(&self, source: &Path) {
        let media =
            ["disk1/media", "disk2/media"].iter().find_map(|disk| source.strip_prefix(self.env.path(disk)).ok());
        assert_whole(&self.env.path("cache/media").join(media.unwrap()), source);
    }

    /// What the cache holds goes, without being measured.
    pub fn evict_all(&self) {
        let run = self.env.run(&["evict", "--all", "--yes", "--quiet"]);
        assert_eq!(run.status, 0, "{run:?}");
        assert_eq!(self.env.run(&["status", "--json"]).json_of("status")["files"].as_array().map_or(0, Vec::len), 0);
    }
}

/// Whoever copied less than all of `source` to `copy` has not won.
pub fn assert_whole(copy: &Path, source: &Path) {
    assert_eq!(extent(copy), extent(source), "{} is not all of {}", copy.display(), source.display());
}

/// How many files there are, and their bytes.
fn extent(path: &Path) -> (usize, u64) {
    let files = walkdir::WalkDir::new(path).into_iter().map(|entry| entry.unwrap().metadata().unwrap());
    files.filter(fs::Metadata::is_file).fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.len()))
}

impl Drop for World {
    fn drop(&mut self) {
        for point in self.mounts.drain(..).rev() {
            let gone = Command::new("umount").arg(&point).status().is_ok_and(|status| status.success())
                || Command::new("umount").arg("-l").arg(&point).status().is_ok_and(|status| status.success());
            assert!(gone || std::thread::panicking(), "{} is still mounted", point.display());
        }
    }
}

/// Keeps a loop device at so many bytes a second, reading and writing each, by the block layer's own throttle.
pub struct Pace(String);

impl Pace {
    const FILES: [&str; 2] = ["read_bps_device", "write_bps_device"];

    fn file(name: &str) -> String {
        format!("/sys/fs/cgroup/blkio/blkio.throttle.{name}")
    }

    /// `None` where the kernel has no such throttle for whole devices (cgroup v1's) or we may not set it.
    pub fn set(path: &Path, bytes_per_second: u64) -> Option<Self> {
        let dev = fs::metadata(path).ok()?.dev();
        let device = format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
        let pace = Self(device);
        is_root().then_some(())?;
        for name in Self::FILES {
            fs::write(Self::file(name), format!("{} {bytes_per_second}\n", pace.0)).ok()?;
        }
        Some(pace)
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        for name in Self::FILES {
            let lifted = fs::write(Self::file(name), format!("{} 0\n", self.0));
            assert!(lifted.is_ok() || std::thread::panicking(), "device {} is still throttled", self.0);
        }
    }
}

/// A group of processes that have only so much memory, page cache included.
pub struct Memory(PathBuf);

impl Memory {
    /// `None` where there is no memory controller that we may use (cgroup v1's or v2's).
    pub fn of(bytes: u64) -> Option<Self> {
        let name = format!("plexcache-bench-{}", std::process::id());
        let roots = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        roots.into_iter().find_map(|(root, limit)| {
            let group = Path::new(root).join(&name);
            fs::create_dir(&group).ok()?;
            let group = Self(group);
            fs::write(group.0.join(limit), bytes.to_string()).ok().map(|()| group)
        })
    }

    /// The command as one of the group.
    pub fn holding(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside.args(["-euc", "echo $$ >\"$0/cgroup.procs\"; exec \"$@\""]).arg(&self.0);
        inside.arg(command.get_program()).args(command.get_args());
        if command.get_envs().len() > 0 {
            inside.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        }
        inside
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let gone = fs::remove_dir(&self.0);
        assert!(gone.is_ok() || std::thread::panicking(), "{} is still there", self.0.display());
    }
}
