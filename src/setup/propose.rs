//! Proposes maps: where the folders of Plex's libraries are on this machine, and on which disks.
//!
//! A folder is found by a file of it, by [`proof`](super::proof): first below the unions (Unraid's user
//! shares, mergerfs pools), because Plex usually reads through one, then below everything else. What its
//! mount is says the rest: the disks of a union, and which of them is the fast one; a folder on a plain disk
//! is the array itself. Owns these rules, and the last word on a map: it is proved when a real file, with
//! the size that Plex tells, is below one of its roots under the name that the map gives it. Looks at
//! folders and never changes one; what cannot be looked at is not proposed. A mount that does not answer in
//! time, such as a share of a server that is gone, is not touched again.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::proof::{PlexFile, Search, find, size_at};
use crate::config::{Environment, Map, Placement};
use crate::paths::{PathMap, PlexPath};
use crate::tier::{Mount, Mounts, answers, ask_all};

/// So many folders are tried as the place of a library.
const MOST_FOLDERS: usize = 4000;

/// For how long a mount is waited for: longer than a disk needs that has to spin up first.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// So many files of a folder are looked for before it counts as not found.
const TRIES: usize = 3;

/// Where people keep media on the disk of the system itself.
const USUAL: [&str; 6] = ["/mnt", "/media", "/srv", "/data", "/home", "/volume1"];

/// File systems that hold no files of anybody's.
const WITHOUT_FILES: [&str; 20] = [
    "proc",
    "sysfs",
    "tmpfs",
    "devtmpfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "securityfs",
    "debugfs",
    "tracefs",
    "mqueue",
    "bpf",
    "pstore",
    "configfs",
    "fusectl",
    "hugetlbfs",
    "autofs",
    "overlay",
    "squashfs",
    "efivarfs",
];

/// Folders of Unraid's `/mnt` that are neither a disk of the array nor a pool.
const NO_POOLS: [&str; 6] = ["user", "user0", "disks", "remotes", "rootshare", "addons"];

/// A folder of Plex and where it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub plex: String,
    /// As Plex reads it: in the union, where there is one.
    pub here: Utf8PathBuf,
    /// A file of it was found there, or somebody said so.
    pub found: bool,
}

/// Where the cached files of a folder shall be.
#[derive(Debug, Clone, Copy)]
pub enum CacheWish<'a> {
    /// In this very folder.
    Root(&'a Utf8Path),
    /// Below this folder of the fast disk, under the name that the folder has on the other disks.
    Below(&'a Utf8Path),
    /// Wherever the fast disk is.
    Any,
}

/// Why a folder gets no map.
#[derive(Debug, thiserror::Error)]
pub enum NoMap {
    #[error("{0} is not there, or on no mount that this process sees")]
    Nowhere(Utf8PathBuf),
    #[error("{0} is on a mount that does not answer")]
    Silent(Utf8PathBuf),
    #[error("{0} is all on one pool already")]
    Exclusive(Utf8PathBuf),
    #[error("which disk is the fast one is not clear")]
    NoCache,
    #[error("no disk below {0} has it")]
    NoArray(Utf8PathBuf),
    #[error("the disks of {0} are not known: {1}")]
    NoBranches(Utf8PathBuf, io::Error),
}

/// This machine, as far as its disks go.
pub struct Machine<'e> {
    environment: &'e Environment,
    mounts: Mounts,
    /// Where mounts are that did not answer in time.
    silent: BTreeSet<Utf8PathBuf>,
}

impl<'e> Machine<'e> {
    /// Reads the mount table, and finds out which mounts answer.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn look(environment: &'e Environment) -> io::Result<Self> {
        Self::looked(environment, ANSWER_WITHIN, |point| answers(&point))
    }

    fn looked(
        environment: &'e Environment,
        within: Duration,
        ask: fn(Utf8PathBuf) -> io::Result<()>,
    ) -> io::Result<Self> {
        let table = environment.system_path("/proc/self/mountinfo");
        let mounts = if table.is_file() { Mounts::read_from(&table)? } else { Mounts::read()? };
        let has_files = |mount: &&Mount| !WITHOUT_FILES.contains(&mount.fs_type.as_str());
        let points: Vec<Utf8PathBuf> = mounts.all().iter().filter(has_files).map(|mount| mount.point.clone()).collect();
        let answered = ask_all(points.clone(), within, ask);
        let is_silent = |said: &io::Result<()>| matches!(said, Err(error) if error.kind() == io::ErrorKind::TimedOut);
        let silent = points.into_iter().zip(answered).filter(|(_, said)| is_silent(said)).map(|(point, _)| point);
        Ok(Self { environment, mounts, silent: silent.collect() })
    }

    /// Where mounts are that did not answer.
    pub fn silent(&self) -> impl Iterator<Item = &Utf8Path> {
        self.silent.iter().map(Utf8PathBuf::as_path)
    }

    /// Whether what is there can be looked at without waiting for ever.
    fn is_silent(&self, path: &Utf8Path) -> bool {
        self.silent.iter().any(|point| path.starts_with(point))
    }

    /// The bytes of the file at `path`, if that can be told in time.
    fn size_at(&self, path: &Utf8Path) -> io::Result<Option<u64>> {
        if self.is_silent(path) { Err(io::ErrorKind::TimedOut.into()) } else { size_at(path) }
    }

    /// Where each of the libraries' folders is. `files` are some of Plex's files. Folders that are not found
    /// are left out; those beside each other on both sides become one.
    pub fn places(&self, locations: &[PlexPath], files: &[PlexFile]) -> Vec<Place> {
        let unions = self.unions();
        let others = OnceCell::new();
        let mut places: Vec<Place> = Vec::new();
        let mut without_files = Vec::new();
        for location in locations {
            let mut own = files_below(location.as_str(), files).take(TRIES).peekable();
            if own.peek().is_none() {
                without_files.push(location);
            }
            let here = own.find_map(|file| {
                let known = places.iter().map(|place| place.here.clone()).collect::<Vec<_>>();
                let below = |roots: &[Utf8PathBuf]| {
                    let search = find(file, roots, |at| self.size_at(at)).ok()?;
                    search.best()?.root_for(location.as_str())
                };
                // The whole machine only when nothing else helps.
                below(&known).or_else(|| below(&unions)).or_else(|| below(others.get_or_init(|| self.others())))
            });
            let plex = location.as_str().to_owned();
            places.extend(here.map(|here| Place { plex, here, found: true }));
        }
        // One without files is where its neighbour says, when there is such a folder.
        for location in without_files {
            let beside = places.iter().find_map(|place| beside(place, location.as_str()));
            places.extend(beside.filter(|place| !self.is_silent(&place.here) && place.here.is_dir()));
        }
        self.joined(&places)
    }

    /// The map of a folder of Plex that is `here`.
    ///
    /// # Errors
    /// Why there is none.
    pub fn map(&self, place: &Place, cache: CacheWish<'_>) -> Result<Map, NoMap> {
        let nowhere = || NoMap::Nowhere(place.here.clone());
        if self.is_silent(&place.here) {
            return Err(NoMap::Silent(place.here.clone()));
        }
        let mount = self.mounts.of(&place.here).filter(|_| place.here.is_dir()).ok_or_else(nowhere)?;
        let is_link =
            place.here.canonicalize_utf8().is_ok_and(|real| real != place.here && !real.starts_with(&mount.point));
        if mount.is_union() && is_link {
            // Unraid shows a share that lies on one pool alone as a link to it.
            return Err(NoMap::Exclusive(place.here.clone()));
        }
        let below = place.here.strip_prefix(&mount.point).map_err(|_| nowhere())?;
        let (merged, array, cache) = if mount.is_union() {
            let branches = self.branches(mount).map_err(|error| NoMap::NoBranches(mount.point.clone(), error))?;
            let cache = match cache {
                CacheWish::Root(root) => root.to_owned(),
                CacheWish::Below(fast) => fast.join(below),
                CacheWish::Any => self.fast_branch(mount, &branches, below).ok_or(NoMap::NoCache)?.join(below),
            };
            let roots = branches.iter().filter(|branch| !branch.is_pool).map(|branch| branch.path.join(below));
            let roots: Vec<Utf8PathBuf> = roots.collect();
            if let Some(root) = roots.iter().find(|root| self.is_silent(root)) {
                // It may hold a part of the folder.
                return Err(NoMap::Silent(root.clone()));
            }
            let array: Vec<_> =
                roots.into_iter().filter(|root| !cache.starts_with(root) && has_something(root)).collect();
            (Some(place.here.clone()), array, cache)
        } else {
            let name = place.here.file_name().ok_or_else(nowhere)?;
            let cache = match cache {
                CacheWish::Root(root) => root.to_owned(),
                CacheWish::Below(fast) => fast.join(name),
                CacheWish::Any => return Err(NoMap::NoCache),
            };
            (None, vec![place.here.clone()], cache)
        };
        if self.is_silent(&cache) {
            return Err(NoMap::Silent(cache));
        }
        if array.is_empty() {
            return Err(NoMap::NoArray(mount.point.clone()));
        }
        let placement = if merged.is_some() { Placement::Copy } else { Placement::Symlink };
        let array = array.into_iter().map(as_pattern).collect();
        Ok(Map { plex: place.plex.clone(), array, cache, merged, placement, cacheable: true })
    }

    /// The first of Plex's files that is where the map says, with the size that Plex tells.
    pub fn proof_of<'f>(&self, map: &Map, files: &'f [PlexFile]) -> Option<&'f PlexFile> {
        let mut roots = map.array_roots().unwrap_or_default();
        roots.push(map.cache.clone());
        files_below(&map.plex, files).take(TRIES * 4).find(|file| {
            let search: Search = find(file, &roots, |at| self.size_at(at)).unwrap_or_default();
            search.best().and_then(|found| found.root_for(&map.plex)).is_some_and(|root| roots.contains(&root))
        })
    }

    /// A folder on a pool for what has to outlive a reboot, where the system's own disk does not.
    pub fn lasting_folder(&self, maps: &[Map]) -> Option<Utf8PathBuf> {
        let cache = &maps.first()?.cache;
        self.environment.on_unraid().then(|| Some(self.mounts.of(cache)?.point.join("appdata/plexcache")))?
    }

    /// Two or more folders that are beside each other, for Plex and here, are shown by their parent.
    fn joined(&self, places: &[Place]) -> Vec<Place> {
        let parent = |place: &Place| {
            let plex = place.plex.rsplit_once(['/', '\\']).map(|(parent, _)| parent.to_owned())?;
            let here = place.here.parent()?.to_owned();
            let is_below_mount = self.mounts.of(&here).is_some_and(|mount| mount.point != here);
            let is_folder = PathMap::new([plex.as_str()]).is_ok() && !plex.trim_matches('/').is_empty();
            (is_below_mount && is_folder && ends_alike(place)).then_some((plex, here))
        };
        let mut joined: Vec<Place> = Vec::new();
        for place in places {
            let own = parent(place);
            let siblings: Vec<&Place> = places.iter().filter(|other| own.is_some() && parent(other) == own).collect();
            let place = match own {
                Some((plex, here)) if siblings.len() > 1 => {
                    Place { plex, here, found: siblings.iter().any(|sibling| sibling.found) }
                }
                _ => place.clone(),
            };
            if !joined.contains(&place) {
                joined.push(place);
            }
        }
        // A folder in another one needs no map of its own.
        let is_within = |inner: &Place, outer: &Place| {
            let below = PathMap::new([outer.plex.as_str()]).ok().map(|map| map.resolve(&PlexPath::new(&inner.plex)));
            matches!(below, Some(Ok((_, below))) if outer.here.join(below.as_path()) == inner.here)
        };
        let all = joined.clone();
        joined.retain(|inner| !all.iter().any(|outer| is_within(inner, outer)));
        joined
    }

    fn unions(&self) -> Vec<Utf8PathBuf> {
        let points = self.mounts.all().iter().filter(|mount| mount.is_union()).map(|mount| mount.point.clone());
        // Unraid's second view leaves the pools out.
        self.folders_below(points.filter(|point| point.file_name() != Some("user0")))
    }

    fn others(&self) -> Vec<Utf8PathBuf> {
        let has_files = |mount: &&Mount| !mount.is_union() && !WITHOUT_FILES.contains(&mount.fs_type.as_str());
        let usual = USUAL.iter().map(|folder| self.environment.system_path(folder));
        let root = self.environment.system_path("/");
        let points = self.mounts.all().iter().filter(has_files).map(|mount| mount.point.clone());
        let points = points.filter(|point| point != "/" && !point.starts_with("/boot"));
        // Without a container Plex's name for a file is its name here.
        [root].into_iter().chain(self.folders_below(usual.chain(points))).collect()
    }

    /// These folders, and what is in them, two deep, without hidden ones.
    fn folders_below(&self, tops: impl Iterator<Item = Utf8PathBuf>) -> Vec<Utf8PathBuf> {
        let mut all: Vec<Utf8PathBuf> = Vec::new();
        let mut level: Vec<Utf8PathBuf> = tops.filter(|top| !self.is_silent(top) && top.is_dir()).collect();
        for depth in 0..=2 {
            let mut next = Vec::new();
            for folder in level {
                if self.is_silent(&folder) || all.contains(&folder) || all.len() >= MOST_FOLDERS {
                    continue;
                }
                if depth < 2
                    && let Ok(entries) = folder.read_dir_utf8()
                {
                    let entries = entries.flatten().filter(|entry| !entry.file_name().starts_with('.'));
                    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                    next.extend(folders.map(|entry| entry.path().to_owned()));
                }
                all.push(folder);
            }
            next.sort();
            level = next;
        }
        all
    }

    fn branches(&self, mount: &Mount) -> io::Result<Vec<Branch>> {
        if mount.fs_type == "fuse.shfs" { self.unraid_disks(mount) } else { Ok(pool_branches(mount)) }
    }

    /// The disks and pools beside `/mnt/user`.
    fn unraid_disks(&self, mount: &Mount) -> io::Result<Vec<Branch>> {
        let above = mount.point.parent().unwrap_or(Utf8Path::new("/mnt"));
        let points: BTreeSet<&Utf8Path> = self.mounts.all().iter().map(|mount| mount.point.as_path()).collect();
        let mut branches = Vec::new();
        for entry in above.read_dir_utf8()? {
            let entry = entry?;
            let (path, name) = (entry.path().to_owned(), entry.file_name().to_owned());
            let number = name.strip_prefix("disk").and_then(|number| number.parse::<u32>().ok());
            if !points.contains(path.as_path()) || NO_POOLS.contains(&name.as_str()) {
                continue;
            }
            branches.push((number, Branch { path, is_pool: number.is_none(), takes_new_files: true }));
        }
        branches.sort_by_key(|(number, branch)| (*number, branch.path.clone()));
        Ok(branches.into_iter().map(|(_, branch)| branch).collect())
    }

    /// Where new files of the union go first, or what is no rotating disk; `None` when that is not one.
    fn fast_branch(&self, mount: &Mount, branches: &[Branch], below: &Utf8Path) -> Option<Utf8PathBuf> {
        if mount.fs_type == "fuse.shfs" {
            let pools: Vec<&Branch> = branches.iter().filter(|branch| branch.is_pool).collect();
            let share = below.components().next().map(|share| share.as_str().to_owned()).unwrap_or_default();
            let settings = self.environment.system_path(&format!("/boot/config/shares/{share}.cfg"));
            let named = std::fs::read_to_string(settings).ok().and_then(|text| share_pool(&text));
            let by_name = |name: &str| pools.iter().find(|pool| pool.path.file_name() == Some(name));
            let chosen = named.as_deref().and_then(by_name).or_else(|| by_name("cache"));
            return chosen.or(pools.first().filter(|_| pools.len() == 1)).map(|pool| pool.path.clone());
        }
        let only = |mut of: Vec<&Branch>| of.pop().filter(|_| of.is_empty()).map(|branch| branch.path.clone());
        let closed = branches.iter().filter(|branch| !branch.takes_new_files).collect();
        let still = branches.iter().filter(|branch| self.rotates(&branch.path) == Some(false)).collect();
        only(closed).or_else(|| only(still))
    }

    /// Whether the disk below a folder rotates; `None` where the kernel does not tell.
    fn rotates(&self, folder: &Utf8Path) -> Option<bool> {
        let dev = std::fs::metadata(Some(folder).filter(|folder| !self.is_silent(folder))?).ok()?.dev();
        let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
        let device = self.environment.system_path(&format!("/sys/dev/block/{major}:{minor}"));
        // A partition has its disk above it.
        let said = ["queue/rotational", "../queue/rotational"].iter().find_map(|file| {
            let real = device.canonicalize_utf8().ok()?;
            std::fs::read_to_string(real.join(file)).ok()
        })?;
        Some(said.trim() != "0")
    }
}

/// The files that a folder of Plex holds and that Plex knows the size of.
pub fn files_below<'f>(folder: &str, files: &'f [PlexFile]) -> impl Iterator<Item = &'f PlexFile> {
    let map = PathMap::new([folder]).ok();
    let is_below = move |file: &&PlexFile| map.as_ref().is_some_and(|map| map.resolve(&file.path).is_ok());
    files.iter().filter(|file| file.size.is_some()).filter(is_below)
}

/// Where the folder of `place` is explained by its neighbour: with the same parent, under its own name.
fn beside(place: &Place, plex: &str) -> Option<Place> {
    let (parent, name) = plex.rsplit_once(['/', '\\'])?;
    let (beside, _) = place.plex.rsplit_once(['/', '\\'])?;
    let here = place.here.parent()?.join(name);
    let is_beside = place.found && parent == beside && ends_alike(place) && !name.is_empty() && name != "..";
    is_beside.then(|| Place { plex: plex.to_owned(), here, found: false })
}

/// Whether the folder has one name for Plex and here.
fn ends_alike(place: &Place) -> bool {
    place.plex.rsplit(['/', '\\']).next() == place.here.file_name()
}

/// One of the disks that a union shows.
struct Branch {
    path: Utf8PathBuf,
    /// A pool of Unraid: what lies there is no array.
    is_pool: bool,
    /// The union makes new files there.
    takes_new_files: bool,
}

/// The branches of a mergerfs pool, as it says itself, else as it was mounted.
fn pool_branches(mount: &Mount) -> Vec<Branch> {
    let mut value = vec![0; 64 << 10];
    let control = mount.point.join(".mergerfs");
    let said = rustix::fs::getxattr(control.as_std_path(), "user.mergerfs.branches", &mut value[..]);
    let text = match said {
        Ok(length) => String::from_utf8_lossy(&value[..length]).into_owned(),
        Err(_) => mount.source.clone(),
    };
    let branch = |text: &str| {
        let (path, mode) = text.split_once('=').unwrap_or((text, "RW"));
        let takes_new_files = mode.split(',').next() == Some("RW");
        Branch { path: Utf8PathBuf::from(path), is_pool: false, takes_new_files }
    };
    text.trim_end_matches('\0').split(':').map(branch).filter(|branch| branch.path.is_absolute()).collect()
}

/// `shareCachePool` of a share's settings, which may have line ends of DOS.
fn share_pool(settings: &str) -> Option<String> {
    let values = settings.lines().filter_map(|line| line.trim().strip_prefix("shareCachePool="));
    values.map(|value| value.trim_matches('"').to_owned()).find(|pool| !pool.is_empty())
}

/// A root in the words of the configuration, which has patterns there.
fn as_pattern(root: Utf8PathBuf) -> Utf8PathBuf {
    if root.as_str().contains(['*', '?', '[', '{']) { globset::escape(root.as_str()).into() } else { root }
}

fn has_something(folder: &Utf8Path) -> bool {
    folder.read_dir_utf8().is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(plex: &str, here: &str) -> Place {
        Place { plex: plex.to_owned(), here: here.into(), found: true }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test lays out its own tree")]
    fn a_mount_that_does_not_answer_is_left_alone_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        for path in ["mnt/dead/media/Films", "mnt/disk/media/Films", "mnt/fast", "proc/self"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        std::fs::write(root.join("mnt/dead/media/Films/a.mkv"), "four").unwrap();
        let line =
            |number: u32, name: &str| format!("{number} 1 0:{number} / {root}/mnt/{name} rw - ext4 /dev/{name} rw\n");
        let table = line(7, "dead") + &line(8, "disk") + &line(9, "fast");
        std::fs::write(root.join("proc/self/mountinfo"), table).unwrap();
        let environment = Environment::new([], false, false).with_system(root);
        let silent = |point: Utf8PathBuf| match point.file_name() {
            Some("dead") => loop {
                std::thread::park();
            },
            Some("fast") => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Ok(()),
        };
        let machine = |ask| Machine::looked(&environment, Duration::from_millis(300), ask).unwrap();
        let files = [PlexFile { path: PlexPath::new("/data/Films/a.mkv"), size: Some(4) }];
        let locations = [PlexPath::new("/data/Films")];
        let dead = root.join("mnt/dead/media/Films");
        let answering = machine(|_| Ok(()));
        assert_eq!(answering.silent().count(), 0);
        assert_eq!(answering.places(&locations, &files)[0].here, dead);
        let (place, cache) = (place("/data/Films", dead.as_str()), root.join("mnt/fast/Films"));
        let map = answering.map(&place, CacheWish::Root(&cache)).unwrap();
        assert!(answering.proof_of(&map, &files).is_some());

        let machine = machine(silent);
        assert_eq!(machine.silent().collect::<Vec<_>>(), [root.join("mnt/dead")], "an error is an answer");
        assert_eq!(machine.places(&locations, &files), [], "it is not looked into");
        assert!(matches!(machine.map(&place, CacheWish::Root(&cache)), Err(NoMap::Silent(_))));
        assert!(machine.proof_of(&map, &files).is_none());
        let cache = root.join("mnt/dead/cache");
        let living = Place { here: root.join("mnt/disk/media/Films"), ..place };
        assert!(matches!(machine.map(&living, CacheWish::Root(&cache)), Err(NoMap::Silent(path)) if path == cache));
    }

    #[test]
    fn the_pool_of_a_share_is_read_from_files_of_any_editor() {
        for (text, pool) in [
            ("shareUseCache=\"yes\"\r\nshareCachePool=\"nvme\"\r\n", Some("nvme")),
            ("shareCachePool=fast\n", Some("fast")),
            ("shareCachePool=\"\"\nshareCachePool2=\"x\"\n", None),
            ("", None),
        ] {
            assert_eq!(share_pool(text).as_deref(), pool, "{text:?}");
        }
    }

    #[test]
    fn a_folder_without_files_is_explained_by_a_neighbour_of_the_same_names_only() {
        for (plex, here, asked, expected) in [
            ("/data/Movies", "/mnt/a/Movies", "/data/TV", Some("/mnt/a/TV")),
            ("/data/Movies", "/mnt/a/Films", "/data/TV", None),
            ("/data/Movies", "/mnt/a/Movies", "/other/TV", None),
            ("/data/Movies", "/mnt/a/Movies", "/data/..", None),
        ] {
            let found = beside(&place(plex, here), asked).map(|place| place.here.into_string());
            assert_eq!(found.as_deref(), expected, "{plex} {here} {asked}");
        }
    }

    #[test]
    fn a_name_that_looks_like_a_pattern_stands_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap().join("media [hd]");
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o755).create(&root).unwrap();
        let map = Map {
            plex: "/data".to_owned(),
            array: vec![as_pattern(root.clone())],
            cache: "/cache".into(),
            merged: None,
            placement: Placement::Symlink,
            cacheable: true,
        };
        assert_eq!(map.array_roots().unwrap(), [root]);
    }
}
