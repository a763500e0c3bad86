//! A tiny world to break, and what must hold in it whatever happened.
//!
//! The names of the checks say which promise they are about: no content is lost, Plex's path is whole,
//! the history can be read, nothing is left over, and a run after the repair has nothing to do.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use crate::stepper::{self, Call, Fate, Trace};
use crate::util::env::{Entry, TestEnv, Tree, episode_path};

pub const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];

/// What somebody puts in the place of the episode.
const NEWER: &str = "a better release";

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    Sync,
    Evict,
    /// Evicting a copy that was edited in place: it is the newer one.
    EvictEdited,
    Undo,
}

pub const JOBS: [Job; 4] = [Job::Sync, Job::Evict, Job::EvictEdited, Job::Undo];

impl Job {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Sync => &["sync"],
            Self::Evict | Self::EvictEdited => &["evict", "--all"],
            Self::Undo => &["undo", "--yes"],
        }
    }
}

/// On which side somebody looks first for the file to write to: on the array's disk itself, or where the
/// merged view finds it.
#[derive(Debug, Clone, Copy)]
pub enum Side {
    Array,
    Cache,
}

pub const SIDES: [Side; 2] = [Side::Array, Side::Cache];

/// Somebody who has begun to open a file for writing.
pub enum Writer {
    In(fs::File),
    /// The kernel lets it in when the lease on the file is given back, whatever it is called by then.
    Waits(JoinHandle<io::Result<fs::File>>),
}

impl Writer {
    fn begin(path: &Path) -> io::Result<Self> {
        let file = fs::File::options().read(true).custom_flags(libc::O_PATH).open(path)?;
        let same = format!("/proc/self/fd/{}", file.as_raw_fd());
        match fs::File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&same) {
            Ok(file) => Ok(Self::In(file)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Self::Waits(thread::spawn(move || {
                let _keeps_its_number = file;
                fs::File::options().write(true).open(same)
            }))),
            Err(error) => Err(error),
        }
    }

    fn into_file(self) -> fs::File {
        match self {
            Self::In(file) => file,
            Self::Waits(thread) => thread.join().unwrap().unwrap(),
        }
    }
}

/// One episode with two subtitles, wanted, in a placement. The subtitles are cached together and the episode, about
/// which Plex is asked, alone; all three are evicted together.
pub struct World {
    /// Goes before the directory that it is in.
    _mount: Option<Mount>,
    env: TestEnv,
    placement: &'static str,
    job: Job,
    /// The array as it was, and has to be at the end.
    before: Tree,
    /// The media files of it.
    media: BTreeMap<String, Entry>,
    /// For messages: what was done to it.
    story: String,
}

/// A file system of its own in memory.
struct Mount(PathBuf);

impl Mount {
    /// `None` where we may not mount.
    fn at(point: PathBuf) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m,mode=755", "plexcache-test"]).arg(&point);
        let output = mount.output().ok()?;
        output.status.success().then_some(Self(point))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmount = |more: &[&str]| Command::new("umount").args(more).arg(&self.0).status();
        // Lazily where somebody still has a file open: the directory below is removed next.
        let gone = [&[][..], &["-l"]].into_iter().any(|more| unmount(more).is_ok_and(|status| status.success()));
        assert!(gone || thread::panicking(), "{} is still mounted", self.0.display());
    }
}

impl World {
    /// A world in which `job` comes next.
    pub fn new(placement: &'static str, job: Job) -> Self {
        Self::lay_out(Self::env(placement), None, placement, job)
    }

    /// The same with two more episodes, one of them in the folder of the first, and two lanes to cache on. `None`
    /// where we may not give the cache a file system of its own.
    pub fn with_two_lanes(placement: &'static str, job: Job) -> Option<Self> {
        let mut env = Self::env(placement);
        let Some(mount) = Mount::at(env.path("cache")) else {
            println!("skipped: only root may mount");
            return None;
        };
        fs::create_dir(env.path("cache/media")).unwrap();
        // Until Plex was asked, one lane is all there is.
        env.settings = env.settings.replace("[safety]\n", "[safety]\nverify_with_plex = false\n");
        env.settings = env.settings.replace("next_episodes = 0", "next_episodes = 1");
        env.settings.push_str("[transfer]\njobs = 2\n");
        // Too large to go with others, which would leave nothing for the second lane.
        env.episode("Lost", 1, 2, (1 << 20) + 1);
        env.on_deck("owner", &env.episode("Fargo", 1, 1, (1 << 20) + 1));
        Some(Self::lay_out(env, Some(mount), placement, job))
    }

    /// The same with episodes of three shows, each with subtitles, which go together and so do the folders that they need.
    pub fn with_several_units(placement: &'static str, job: Job) -> Self {
        let mut env = Self::env(placement);
        env.settings = env.settings.replace("[safety]\n", "[safety]\nverify_with_plex = false\n");
        for show in ["Fargo", "Monk"] {
            env.on_deck("owner", &env.episode(show, 1, 1, 400));
            env.file(&episode_path(show, 1, 1).replace(".mkv", ".srt"), 100);
        }
        Self::lay_out(env, None, placement, job)
    }

    /// The same with a film-sized episode of another show, on a real disk: it is copied by threads, past the page cache
    /// where the file system of the temporary directory is one of those.
    pub fn with_large_file(placement: &'static str, job: Job) -> Self {
        let env = Self::env_in(&std::env::temp_dir(), placement);
        env.on_deck("owner", &env.episode("Fargo", 1, 1, (66 << 20) + 5));
        Self::lay_out(env, None, placement, job)
    }

    fn env(placement: &str) -> TestEnv {
        // Kills and errors try the logic, not the disk, so memory will do, and it is quick.
        let memory = Path::new("/dev/shm");
        Self::env_in(if memory.is_dir() { memory } else { Path::new("/tmp") }, placement)
    }

    fn env_in(parent: &Path, placement: &str) -> TestEnv {
        let dir = tempfile::Builder::new().prefix("plexcache-faults-").tempdir_in(parent).unwrap();
        let mut env = TestEnv::at(dir, placement);
        env.settings.push_str("[select]\nnext_episodes = 0\n");
        env
    }

    fn lay_out(env: TestEnv, mount: Option<Mount>, placement: &'static str, job: Job) -> Self {
        let key = env.episode("Lost", 1, 1, 5000);
        env.on_deck("owner", &key);
        for (ending, size) in [(".de.srt", 200), (".en.srt", 300)] {
            env.file(&episode_path("Lost", 1, 1).replace(".mkv", ending), size);
        }
        let before = env.snapshot("disk1/media");
        let mut world =
            Self { _mount: mount, env, placement, job, before, media: BTreeMap::new(), story: String::new() };
        world.story = format!("{placement} {job:?}");
        if job != Job::Sync {
            world.env.sync();
        }
        if job == Job::EvictEdited {
            let copy = world.env.cache(&episode_path("Lost", 1, 1));
            fs::write(&copy, "edited").unwrap();
            let (path, entry) = (episode_path("Lost", 1, 1), Tree::of(&world.env.path("cache/media")));
            world.before.entries.insert(path.clone(), entry.entries[&path].clone());
        }
        let is_media = |(name, entry): &(&String, &Entry)| entry.kind == "file" && name.starts_with("TV/");
        world.media = world.before.entries.iter().filter(is_media).map(|(n, e)| (n.clone(), e.clone())).collect();
        assert!(world.media.len() >= 3);
        world
    }

    /// Runs the job with the fates that are given to its calls.
    pub fn run(&mut self, fate: impl FnMut(usize, &Call) -> Fate) -> Trace {
        self.step(self.job.arguments(), fate)
    }

    /// Runs the next `sync` in the same way.
    pub fn run_sync(&mut self, fate: impl FnMut(usize, &Call) -> Fate) -> Trace {
        self.step(&["sync"], fate)
    }

    fn step(&mut self, arguments: &[&str], mut fate: impl FnMut(usize, &Call) -> Fate) -> Trace {
        let mut command: Command = self.env.command(arguments);
        let output = fs::File::create(self.env.path("output")).unwrap();
        command.stdout(Stdio::from(output.try_clone().unwrap())).stderr(Stdio::from(output));
        let mut met = Vec::new();
        let trace = stepper::run(command, &self.env.path(""), |number, call| {
            let fate = fate(number, call);
            if fate != Fate::Happens && met.len() < 3 {
                met.push(format!("{fate:?} at {number}: {} {} {}", call.name, call.place, call.names));
            }
            fate
        });
        self.story = format!("{}; {arguments:?} {met:?} -> {:?}", self.story, trace.status);
        trace
    }

    /// Whether the job has reached what it is for.
    pub fn is_done(&self) -> bool {
        let is_cached = |path: &String| self.env.cache(path).is_file();
        match self.job {
            Job::Sync => self.media.keys().all(is_cached),
            _ => !self.media.keys().any(is_cached) && self.array_is_as_it_was().is_ok(),
        }
    }

    /// What was done to it.
    pub fn story(&self) -> &str {
        &self.story
    }

    /// Where it is.
    pub fn root(&self) -> PathBuf {
        self.env.path("")
    }

    /// The names of all that is on the disks, below the world.
    pub fn names(&self) -> Vec<(String, Entry)> {
        let names = |below: &'static str| {
            let entries = self.env.snapshot(below).entries.into_iter();
            entries.map(move |(name, entry)| (format!("{below}/{name}"), entry))
        };
        ["disk1", "disk2", "cache"].into_iter().flat_map(names).collect()
    }

    pub fn output(&self) -> String {
        fs::read_to_string(self.env.path("output")).unwrap_or_default()
    }

    /// All that follows a fault: two runs, then everything off the cache; checked at each step.
    #[track_caller]
    pub fn repairs_itself(mut self) {
        self.check();
        self.sync("the run that repairs");
        self.nothing_is_left_over();
        for path in self.undone() {
            self.claim(!self.env.cache(&path).exists(), &format!("{path} was put straight back after the undo"));
        }
        let (events, trees) = (self.events(), self.trees());
        self.sync("the second run");
        self.claim(self.events() == events, &format!("the second run did something: {events:?} {:?}", self.events()));
        self.claim(self.trees() == trees, "the second run changed a file");
        self.claim(self.open_actions().is_empty(), "an action is still open");
        let run = self.env.run(&["evict", "--all"]);
        self.claim(run.status == 0, &format!("evict ended with {}: {}", run.status, run.stderr));
        self.check();
        self.nothing_is_left_over();
        if let Err(difference) = self.array_is_as_it_was() {
            self.claim(false, &difference);
        }
        let cache = self.env.snapshot("cache/media").without_markers();
        self.claim(cache.entries.is_empty(), &format!("left on the cache: {cache:?}"));
    }

    /// Puts another file in the place of the episode on the array, in one step.
    pub fn replacement(&self) -> impl Fn() + use<> {
        let (new, path) = (self.env.path("new"), self.env.array(&episode_path("Lost", 1, 1)));
        move || {
            fs::write(&new, NEWER).unwrap();
            fs::rename(&new, &path).unwrap();
        }
    }

    /// Begins to write to the episode: to the file on `first` if there is one, otherwise to the other.
    pub fn writer(&self, first: Side) -> impl Fn() -> Option<Writer> + use<> {
        let path = episode_path("Lost", 1, 1);
        let (array, cache) = (self.env.array(&path), self.env.cache(&path));
        let order = match first {
            Side::Array => [array, cache],
            Side::Cache => [cache, array],
        };
        move || order.iter().find(|path| path.is_file()).and_then(|path| Writer::begin(path).ok())
    }

    /// What the writer wrote is in the array's file when all is evicted.
    #[track_caller]
    pub fn keeps_what_was_written(self, writer: Writer) {
        let mut file = writer.into_file();
        file.write_all(NEWER.as_bytes()).unwrap();
        drop(file);
        for command in [&["sync"][..], &["sync"], &["evict", "--all"]] {
            let run = self.env.run(command);
            self.claim([0, 3].contains(&run.status), &format!("{command:?} ended with {}: {}", run.status, run.stderr));
        }
        let now = fs::read(self.env.array(&episode_path("Lost", 1, 1))).unwrap_or_default();
        self.claim(now.starts_with(NEWER.as_bytes()), "what was written is gone");
    }

    /// Whatever else comes of it, the newer file is in its place in the end, and the other one is whole.
    #[track_caller]
    pub fn keeps_the_replacement(mut self) {
        let path = episode_path("Lost", 1, 1);
        let mut newer = self.media.remove(&path).unwrap();
        newer.contents = NEWER.as_bytes().to_vec();
        for command in [&["sync"][..], &["sync"], &["evict", "--all"]] {
            self.check();
            let run = self.env.run(command);
            self.claim([0, 3].contains(&run.status), &format!("{command:?} ended with {}: {}", run.status, run.stderr));
            self.a_complete_copy_exists(&path, &newer);
        }
        let is_there = fs::read(self.env.array(&path)).is_ok_and(|bytes| bytes == NEWER.as_bytes());
        self.claim(is_there, "the newer file is not in its place");
        self.check();
    }

    #[track_caller]
    fn sync(&mut self, what: &str) {
        let run = self.env.run(&["sync"]);
        self.claim(run.status == 0, &format!("{what} ended with {}:\n{}\n{}", run.status, run.stdout, run.stderr));
        self.check();
    }

    /// What holds at every instant.
    #[track_caller]
    pub fn check(&self) {
        self.history_can_be_read();
        for (path, entry) in &self.media {
            self.a_complete_copy_exists(path, entry);
            self.plex_sees_it_whole(path, entry);
        }
        self.folders_can_be_entered();
    }

    #[track_caller]
    fn a_complete_copy_exists(&self, path: &str, entry: &Entry) {
        let temps = self.temps();
        let mut places =
            vec![self.env.array(path), self.env.array(&format!("{path}.plexcached")), self.env.cache(path)];
        for folder in [self.env.array(path), self.env.cache(path)].iter().filter_map(|path| path.parent()) {
            for ending in ["part", "old", "lnk"] {
                places.extend(temps.iter().map(|temp| folder.join(format!(".plexcache-{temp}.{ending}"))));
            }
        }
        let is_whole = |path: &PathBuf| {
            fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
                && fs::read(path).is_ok_and(|bytes| bytes == entry.contents)
        };
        self.claim(places.iter().any(is_whole), &format!("{path} is lost"));
    }

    /// In the merged view the cache comes first; in `copy` and `symlink` the array's path is whole by itself.
    /// Of an edited file the older content is whole, too, until it is replaced.
    #[track_caller]
    fn plex_sees_it_whole(&self, path: &str, entry: &Entry) {
        let (array, cache) = (self.env.array(path), self.env.cache(path));
        let merged = if fs::symlink_metadata(&cache).is_ok() { &cache } else { &array };
        let seen = fs::read(merged);
        self.claim(seen.is_ok_and(|bytes| bytes == entry.contents), &format!("Plex does not see {path} whole"));
        if matches!(self.placement, "copy" | "symlink") {
            let older = crate::util::env::contents(&array, 5000);
            let seen = fs::read(&array);
            let is_whole =
                seen.is_ok_and(|bytes| bytes == entry.contents || (self.job == Job::EvictEdited && bytes == older));
            self.claim(is_whole, &format!("{path} on the array is not whole"));
        }
    }

    /// The merged view takes a folder's owner and mode from the cache.
    #[track_caller]
    fn folders_can_be_entered(&self) {
        let array = &self.before.entries;
        for (name, folder) in self.env.snapshot("cache/media").entries {
            if let Some(like) = array.get(&name).filter(|like| like.kind == "folder") {
                self.claim((folder.mode, folder.owner) == (like.mode, like.owner), &format!("{name} is {folder:?}"));
            }
        }
    }

    #[track_caller]
    fn history_can_be_read(&self) {
        let text = fs::read_to_string(self.env.path("state/history.jsonl")).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(lines, _torn)| lines);
        for line in whole.lines() {
            self.claim(serde_json::from_str::<serde_json::Value>(line).is_ok(), &format!("damaged: {line}"));
        }
    }

    #[track_caller]
    pub fn nothing_is_left_over(&self) {
        for below in ["disk1", "disk2", "cache"] {
            for name in self.env.snapshot(below).entries.keys() {
                let file = name.rsplit('/').next().unwrap();
                let is_stray = file.starts_with(".plexcache-") && file != ".plexcache-root";
                self.claim(!is_stray, &format!("left over: {below}/{name}"));
            }
        }
    }

    /// Contents, owners, modes, times, links. The times of folders may have moved when a kill came between
    /// a change in them and the putting back.
    fn array_is_as_it_was(&self) -> Result<(), String> {
        let now = self.env.snapshot("disk1/media").without_markers().entries;
        let forgive = |entries: &BTreeMap<String, Entry>| -> BTreeMap<String, Entry> {
            let forgive = |(name, entry): (&String, &Entry)| {
                let mut entry = entry.clone();
                if entry.kind == "folder" {
                    entry.mtime = (0, 0);
                }
                (name.clone(), entry)
            };
            entries.iter().map(forgive).collect()
        };
        let (now, before) = (forgive(&now), forgive(&self.before.entries));
        if now == before { Ok(()) } else { Err(format!("the array is\n{now:#?}\nand was\n{before:#?}")) }
    }

    fn trees(&self) -> [Tree; 3] {
        ["disk1", "disk2", "cache"].map(|below| self.env.snapshot(below))
    }

    /// Lines of the history up to a torn tail.
    fn history(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.env.path("state/history.jsonl")).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(lines, _torn)| lines);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How many records there are of things done to files.
    fn events(&self) -> usize {
        let history = self.history();
        history
            .iter()
            .filter(|record| !matches!(record["event"].as_str(), Some("run_started" | "run_finished")))
            .count()
    }

    /// What an undo has evicted, also when only the next run finished that.
    fn undone(&self) -> Vec<String> {
        let history = self.history();
        let of = |event: &'static str| history.iter().filter(move |record| record["event"] == event);
        let is_undo =
            |run: &serde_json::Value| of("run_started").any(|start| start["run"] == *run && start["command"] == "undo");
        let is_done = |intent: &serde_json::Value| {
            let same = |ended: &&serde_json::Value| (&ended["run"], &ended["seq"]) == (&intent["run"], &intent["seq"]);
            of("ended").find(same).is_some_and(|ended| ended["result"] == "done")
        };
        let undone = of("intent").filter(|intent| is_undo(&intent["run"]) && is_done(intent));
        undone.map(|intent| intent["action"]["path"].as_str().unwrap().to_owned()).collect()
    }

    fn temps(&self) -> Vec<String> {
        self.history().iter().filter_map(|record| record["temp"].as_str().map(str::to_owned)).collect()
    }

    pub fn open_actions(&self) -> Vec<(u64, u64)> {
        let mut open = Vec::new();
        for record in self.history() {
            let Some(id) = record["run"].as_u64().zip(record["seq"].as_u64()) else { continue };
            match record["event"].as_str() {
                Some("intent") => open.push(id),
                Some("ended") => open.retain(|other| *other != id),
                _ => {}
            }
        }
        open
    }

    #[track_caller]
    pub fn claim(&self, holds: bool, what: &str) {
        if !holds {
            let history = fs::read_to_string(self.env.path("state/history.jsonl")).unwrap_or_default();
            let trees = self.trees();
            panic!("{}: {what}\n{trees:#?}\n{history}\n{}", self.story, self.output());
        }
    }
}

/// Every how many calls one is tried.
pub fn stride(usual: usize) -> usize {
    std::env::var("PLEXCACHE_FAULT_STRIDE").ok().and_then(|text| text.parse().ok()).unwrap_or(usual).max(1)
}
