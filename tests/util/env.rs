//! [`TestEnv`]: two array disks, a cache, a state directory, a stand-in Plex with a small library whose
//! files are really there, a configuration, and the real binary to run in it all.
//!
//! Nothing of the host's environment reaches the binary. A snapshot compares whole trees: names, kinds,
//! contents, owners, modes, times to the nanosecond, links and extended attributes.
#![allow(dead_code, unreachable_pub, reason = "every test binary and the demo use a part of it")]
#![allow(clippy::cast_possible_wrap, reason = "sizes of test files")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::fake_plex::{FakePlex, Library, RatingKey, SectionId, SectionKind};

/// Plex's name of the media folder.
pub const PLEX_ROOT: &str = "/data/media";

/// A world of its own, gone when dropped.
pub struct TestEnv {
    dir: tempfile::TempDir,
    pub plex: FakePlex,
    pub shows: SectionId,
    pub movies: SectionId,
    show_keys: RefCell<BTreeMap<String, RatingKey>>,
    /// Lines of `[[map]]`, without `plex`, `array` and `cache`.
    pub map: String,
    /// Everything else of the configuration.
    pub settings: String,
}

/// What came of a run of the binary.
#[derive(Debug)]
pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        command.output().unwrap().into()
    }

    /// The run, when its exit status is `status`.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The JSON lines of standard output.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}\n{}", self.stderr));
        self.stdout.lines().map(parse).collect()
    }

    /// The first JSON line of a type.
    #[track_caller]
    pub fn json_of(&self, kind: &str) -> serde_json::Value {
        let found = self.json().into_iter().find(|line| line["type"] == kind);
        found.unwrap_or_else(|| panic!("no {kind} in {}{}", self.stdout, self.stderr))
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        Self {
            status: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl TestEnv {
    /// A world in which files are cached in placement `copy`.
    pub fn new() -> Self {
        Self::with_placement("copy")
    }

    pub fn with_placement(placement: &str) -> Self {
        Self::at(tempfile::Builder::new().prefix("plexcache-test-").tempdir().unwrap(), placement)
    }

    /// The same in a directory of the caller's, such as one with mounts in it.
    pub fn at(dir: tempfile::TempDir, placement: &str) -> Self {
        for folder in ["disk1/media", "disk2/media", "cache/media"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("disk1/media/notes.txt"), "one").unwrap();
        fs::write(dir.path().join("disk2/media/notes2.txt"), "two").unwrap();
        let mut library = Library::new();
        let movies = library.add_section("Movies", SectionKind::Movie, &[&format!("{PLEX_ROOT}/Movies")]);
        let shows = library.add_section("TV Shows", SectionKind::Show, &[&format!("{PLEX_ROOT}/TV")]);
        // Plex reads the union of the tiers, the cache first.
        for tier in ["cache/media", "disk1/media", "disk2/media"] {
            library.map_local(PLEX_ROOT, dir.path().join(tier));
        }
        let env = Self {
            plex: FakePlex::start(library),
            dir,
            shows,
            movies,
            show_keys: RefCell::default(),
            map: format!("placement = \"{placement}\"\n"),
            settings: "[safety]\nallow_same_device = true\nmin_file_age = \"0\"\n[limits]\nmin_free = \"0\"\n"
                .to_owned(),
        };
        fs::write(env.path("token"), "owner-token\n").unwrap();
        fs::set_permissions(env.path("token"), fs::Permissions::from_mode(0o600)).unwrap();
        env
    }

    /// A path in the world.
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Where a media path is on the first array disk.
    pub fn array(&self, media: &str) -> PathBuf {
        self.path("disk1/media").join(media)
    }

    /// Where a media path is on the cache.
    pub fn cache(&self, media: &str) -> PathBuf {
        self.path("cache/media").join(media)
    }

    /// The configuration as it will be written for the next run.
    pub fn config(&self) -> String {
        let root = self.dir.path().display();
        format!(
            "version = 1\n[plex]\nurl = \"{}\"\ntoken_file = \"{root}/token\"\n{}[state]\ndir = \"{root}/state\"\n\
             [[map]]\nplex = \"{PLEX_ROOT}\"\narray = [\"{root}/disk1/media\", \"{root}/disk2/media\"]\n\
             cache = \"{root}/cache/media\"\n{}\n{}",
            self.plex.url(),
            self.endpoints(),
            self.map,
            self.settings
        )
    }

    /// The binary with `args`, ready to run.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let config = self.config();
        // Another run may be reading it now.
        if fs::read(self.path("config.toml")).ok().as_deref() != Some(config.as_bytes()) {
            fs::write(self.path("config.toml"), config).unwrap();
        }
        fs::set_permissions(self.path("config.toml"), fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = Command::new(binary());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
        command.env("PLEXCACHE_TEST_PAUSE_MS", "10");
        command.arg("--config").arg(self.path("config.toml")).args(args).stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        self.command(args).output().unwrap().into()
    }

    /// Starts the binary and leaves it running.
    pub fn spawn<S: AsRef<OsStr>>(&self, args: &[S]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs `sync` and expects that it ends well.
    #[track_caller]
    pub fn sync(&self) -> Run {
        self.run(&["sync"]).expect(0)
    }

    /// Makes a file on the first array disk: contents that tell it from every other, and an old time.
    pub fn file(&self, media: &str, size: usize) -> PathBuf {
        file_at(self.array(media), size)
    }

    /// An episode with its file: `TV/SHOW/Season SS/SHOW - SssEee.mkv`. The show is made when it is new.
    pub fn episode(&self, show: &str, season: i64, index: i64, size: usize) -> RatingKey {
        let media = episode_path(show, season, index);
        self.file(&media, size);
        let mut keys = self.show_keys.borrow_mut();
        self.plex.edit(|library| {
            let key = keys.entry(show.to_owned()).or_insert_with(|| library.add_show(self.shows, show));
            let path = format!("{PLEX_ROOT}/{media}");
            library.add_episode(key, season, index, &format!("Episode {index}"), &path, size as i64)
        })
    }

    /// A film with its file: `Movies/TITLE (YEAR)/TITLE (YEAR).mkv`.
    pub fn movie(&self, title: &str, year: i64, size: usize) -> RatingKey {
        let media = movie_path(title, year);
        self.file(&media, size);
        let path = format!("{PLEX_ROOT}/{media}");
        self.plex.edit(|library| {
            library.add_movie(self.movies, title, year, &[super::fake_plex::Media::file(&path, size as i64)])
        })
    }

    /// Puts an item on somebody's deck, last viewed an hour ago.
    pub fn on_deck(&self, user: &str, key: &str) {
        self.plex.edit(|library| {
            let at = library.now - 3600;
            library.set_on_deck(user, key, Some(at), 60_000);
        });
    }

    /// Sees the item to its end, `ago` before now.
    pub fn watch(&self, user: &str, key: &str, ago: Duration) {
        let at = now() - i64::try_from(ago.as_secs()).unwrap();
        self.plex.edit(|library| library.mark_watched(user, key, at));
    }

    /// All that is below a folder of the world.
    pub fn snapshot(&self, below: &str) -> Tree {
        Tree::of(&self.path(below))
    }

    /// Names of regular files on the cache, markers left out.
    pub fn cached(&self) -> Vec<String> {
        let tree = self.snapshot("cache/media");
        let is_media = |(name, entry): &(&String, &Entry)| entry.kind == "file" && !name.ends_with(".plexcache-root");
        tree.entries.iter().filter(is_media).map(|(name, _)| name.clone()).collect()
    }

    /// A film in a file of any name below the media folder. Name and title may be anything.
    pub fn film_at(&self, media: &str, size: usize) -> RatingKey {
        self.file(media, size);
        let part = super::fake_plex::Media::file(&format!("{PLEX_ROOT}/{media}"), size as i64);
        self.plex.edit(|library| library.add_movie(self.movies, media, 2020, &[part]))
    }

    /// What Plex reads under its path: by the name on the array in `symlink`, else in the union of the
    /// tiers, the cache first.
    pub fn shown(&self, media: &str) -> Option<Vec<u8>> {
        let mut roots = vec!["cache/media", "disk1/media", "disk2/media"];
        if self.map.contains("symlink") {
            roots.remove(0);
        }
        roots.iter().find_map(|root| fs::read(self.path(root).join(media)).ok())
    }

    /// Names below a folder that nobody but plexcache makes and that are gone when it is done.
    pub fn leftovers(&self) -> Vec<String> {
        let is_temporary = |name: &String| name.contains(".plexcache-") && !name.ends_with(".plexcache-root");
        let trees = ["disk1/media", "disk2/media", "cache/media"].map(|below| self.snapshot(below).entries);
        trees.into_iter().flat_map(BTreeMap::into_keys).filter(is_temporary).collect()
    }

    /// Whether a copy on this file system is a clone, made at once, that nothing can come in between of.
    pub fn clones(&self) -> bool {
        let file = |name: &str| fs::File::create(self.path(name)).unwrap();
        let (one, other) = (file_at(self.path("clone-from"), 4096), file("clone-to"));
        rustix::fs::ioctl_ficlone(&other, fs::File::open(one).unwrap()).is_ok()
    }

    /// Starts the binary, slowed down to a megabyte a second, and returns when it is in the middle of its
    /// first copy. Files have to be larger than that.
    #[track_caller]
    pub fn mid_copy(&self, args: &[&str]) -> Child {
        let mut child = self.spawn(&[args, &["--bwlimit=1MB/s"]].concat());
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !self.is_copying() {
            if child.try_wait().unwrap().is_some() || std::time::Instant::now() > deadline {
                let run = Run::from(child.wait_with_output().unwrap());
                panic!("no copy was ever under way: {run:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        child
    }

    fn is_copying(&self) -> bool {
        let mut folders = ["disk1", "disk2", "cache"].map(|tier| self.path(tier).join("media")).to_vec();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                if meta.is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name().as_bytes().ends_with(b".part") && meta.len() > 0 {
                    return true;
                }
            }
        }
        false
    }

    /// The records of the history.
    pub fn history(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.path("state/history.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The binary under test: cargo names it for tests; the demo finds it beside itself. `PLEXCACHE_BINARY`
/// names another one, such as the static build.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PLEXCACHE_BINARY") {
        return fs::canonicalize(path).unwrap();
    }
    if let Some(path) = option_env!("CARGO_BIN_EXE_plexcache") {
        return path.into();
    }
    let here = std::env::current_exe().unwrap();
    here.ancestors().nth(2).unwrap().join("plexcache")
}

pub fn episode_path(show: &str, season: i64, index: i64) -> String {
    format!("TV/{show}/Season {season:02}/{show} - S{season:02}E{index:02}.mkv")
}

pub fn movie_path(title: &str, year: i64) -> String {
    format!("Movies/{title} ({year})/{title} ({year}).mkv")
}

/// Bytes that depend on the name, so that no two files are the same.
pub fn contents(path: &Path, size: usize) -> Vec<u8> {
    let seed = path.file_name().unwrap().as_bytes().iter().fold(0_u64, |a, b| a.wrapping_mul(31) + u64::from(*b));
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Makes a file with contents that tell it from every other, and an old time.
pub fn file_at(path: PathBuf, size: usize) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, contents(&path, size)).unwrap();
    set_mtime(&path, 1_600_000_000, 123_456_789);
    path
}

pub fn set_mtime(path: &Path, seconds: u64, nanos: u32) {
    let time = UNIX_EPOCH + Duration::new(seconds, nanos);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// Seconds since the epoch.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// Everything below a folder, by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    pub entries: BTreeMap<String, Entry>,
}

/// One name of a [`Tree`].
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: &'static str,
    pub mode: u32,
    pub owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    pub links: u64,
    /// Contents, or the target of a link.
    pub contents: Vec<u8>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, mode, owner, mtime, links, contents } = self;
        let sum = contents.iter().fold(0_u64, |a, b| a.wrapping_mul(31) + u64::from(*b));
        write!(f, "{kind} {mode:o} {owner:?} {mtime:?} links {links} {} bytes {sum:x}", contents.len())
    }
}

/// The value, or `None` where the name went away while somebody else was at work.
fn unless_gone<T>(result: std::io::Result<T>) -> Option<T> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        result => Some(result.unwrap()),
    }
}

impl Tree {
    pub fn of(root: &Path) -> Self {
        let mut tree = Self::default();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            let Some(names) = unless_gone(fs::read_dir(&folder)) else { continue };
            let mut names: Vec<PathBuf> = names.map(|entry| entry.unwrap().path()).collect();
            names.sort();
            for path in names {
                let Some(meta) = unless_gone(fs::symlink_metadata(&path)) else { continue };
                let (kind, contents) = if meta.is_dir() {
                    folders.push(path.clone());
                    ("folder", Some(Vec::new()))
                } else if meta.is_symlink() {
                    ("link", unless_gone(fs::read_link(&path)).map(|to| to.as_os_str().as_bytes().to_vec()))
                } else {
                    ("file", unless_gone(fs::read(&path)))
                };
                let Some(contents) = contents else { continue };
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                let entry = Entry {
                    kind,
                    mode: meta.mode() & 0o7777,
                    owner: (meta.uid(), meta.gid()),
                    mtime: (meta.mtime(), meta.mtime_nsec()),
                    links: if kind == "folder" { 0 } else { meta.nlink() },
                    contents,
                };
                tree.entries.insert(name, entry);
            }
        }
        tree
    }

    /// Without the markers of roots, which the first run adds.
    pub fn without_markers(mut self) -> Self {
        self.entries.retain(|name, _| !name.ends_with(".plexcache-root"));
        self
    }

    /// Without the times of folders, which a killed run cannot put back, and of links, which nobody reads.
    pub fn without_folder_times(mut self) -> Self {
        for entry in self.entries.values_mut().filter(|entry| entry.kind != "file") {
            entry.mtime = (0, 0);
        }
        self
    }
}

impl TestEnv {
    /// Adds a user of the server and pastes the token into the configuration.
    pub fn add_user(&mut self, name: &str) {
        let token = format!("{name}-token");
        self.plex.edit(|library| library.add_user(name, &token));
        self.configure(&format!("[users.tokens]\n{name} = \"{token}\"\n"));
    }

    /// Where the services of plex.tv are: nothing here ever asks the real ones.
    fn services(&self) -> [(&'static str, String); 5] {
        let services = [
            ("account", "plex.tv"),
            ("discover", "discover"),
            ("metadata", "metadata"),
            ("community", "community"),
            ("rss", "rss"),
        ];
        services.map(|(key, path)| (key, format!("{}/{path}", self.plex.outside_url())))
    }

    fn endpoints(&self) -> String {
        let pairs = self.services().map(|(key, url)| format!("{key} = \"{url}\""));
        format!("endpoints = {{ {} }}\n", pairs.join(", "))
    }

    /// The same as variables, for configurations that are not [`TestEnv::config`].
    pub fn endpoint_variables(&self) -> impl Iterator<Item = (String, String)> {
        let variable = |(key, url): (&str, _)| (format!("PLEXCACHE_PLEX__ENDPOINTS__{}", key.to_uppercase()), url);
        self.services().into_iter().map(variable)
    }

    /// Adds lines to the configuration. They go on in its last section.
    pub fn configure(&mut self, lines: &str) {
        self.settings.push_str(lines);
    }

    /// What a `sync` would do, without doing it. Expects that it would end well.
    #[track_caller]
    pub fn dry_sync(&self) -> Run {
        self.run(&["sync", "--dry-run", "--json"]).expect(0)
    }
}

impl Run {
    /// The plan of a run with `--json`: `cache PATH` and `evict PATH`, in its order.
    #[track_caller]
    pub fn planned(&self) -> Vec<String> {
        let line = |row: &serde_json::Value| format!("{} {}", word(&row["kind"]), word(&row["path"]));
        self.json_of("plan")["actions"].as_array().unwrap().iter().map(line).collect()
    }

    /// What the plan of a run with `--json` leaves alone: `WHY PATH`.
    #[track_caller]
    pub fn left(&self) -> Vec<String> {
        let line = |row: &serde_json::Value| format!("{} {}", word(&row["why"]), word(&row["path"]));
        self.json_of("plan")["skipped"].as_array().unwrap().iter().map(line).collect()
    }

    /// Why files were left as they are, by path: the words of the plan and of what came of it.
    #[track_caller]
    pub fn why_left(&self) -> BTreeMap<String, String> {
        let (plan, mut left) = (self.json_of("plan"), BTreeMap::new());
        let skipped = plan["skipped"].as_array().unwrap().clone();
        let ended = self.json().into_iter().filter(|line| line["type"] == "action" && line["result"] != "done");
        for line in skipped.into_iter().chain(ended) {
            let why = line["why"].as_str().or(line["error"].as_str()).unwrap_or_default();
            left.insert(line["path"].as_str().unwrap().to_owned(), why.to_owned());
        }
        left
    }
}

fn word(value: &serde_json::Value) -> &str {
    value.as_str().unwrap()
}
