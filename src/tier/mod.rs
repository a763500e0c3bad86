//! The tiers: the roots of every map, checked before anything is done with them.
//!
//! Owns the refusal that protects a library more than anything else: a root that is not there, is not
//! the mount it was, or has lost its marker stops the run, because an unmounted disk looks like an
//! empty one. Roots are opened once and everything goes through those descriptors, so a disk that
//! goes away in mid-run cannot turn into the folder below its mount point.

mod folder;
pub mod host;
mod mount;
mod open_files;
mod probe;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use globset::GlobBuilder;
use serde::{Deserialize, Serialize};

use crate::config::{Map, Placement};
use crate::paths::MediaPath;
pub use folder::{Fingerprint, Folder, Kind, Space, Stat};
pub(crate) use folder::{InTurn, MAX_NAME};
pub use mount::{Mount, Mounts};
pub use open_files::OpenFiles;
pub use probe::has_scouted;
pub(crate) use probe::{answers, ask_all, wait_for};

/// The name of the file by which a root is known again.
pub const MARKER: &str = ".plexcache-root";

/// How long a run waits for the roots to answer: a disk that sleeps has to spin up, a dead network share
/// never answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// How long a look at the caches waits for them; they do not sleep, and whoever watches over the host
/// (Nagios waits 10 s) wants to hear which one is dead.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// One of the two sides of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    Array,
    Cache,
}

impl Tier {
    pub fn word(self) -> &'static str {
        match self {
            Self::Array => "array",
            Self::Cache => "cache",
        }
    }
}

/// How a root is known again, as the history keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRoot {
    pub tier: Tier,
    pub path: Utf8PathBuf,
    /// The id in its marker; `None` for a root that cannot be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// File system type, source and root of its mount; what knows a root without a marker.
    pub mount: String,
    /// The marker is on disk. While it is being written this is `false`.
    #[serde(default)]
    pub marked: bool,
}

/// What stands in a marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    pub id: String,
}

/// A root that was opened and found to be what it should be.
#[derive(Debug)]
pub struct Root {
    pub tier: Tier,
    pub path: Utf8PathBuf,
    pub folder: Folder,
    pub dev: u64,
    pub mount: Mount,
    /// The id in the marker; `None` while there is none.
    pub id: Option<String>,
    /// The history does not know it yet: it has to be recorded, and marked when it has no marker.
    pub is_new: bool,
    /// Where `path` leads without links.
    real: Utf8PathBuf,
}

/// The roots of one map.
#[derive(Debug)]
pub struct MapTiers {
    /// Plex's folder; the name of the map.
    pub name: String,
    pub array: Vec<Root>,
    pub cache: Root,
    pub merged: Option<Utf8PathBuf>,
    pub placement: Placement,
    pub cacheable: bool,
}

impl MapTiers {
    /// Where on the array `path` is: every root that has it, in the order of the configuration.
    pub fn find(&self, path: &MediaPath) -> io::Result<Vec<(&Root, Stat)>> {
        let mut found = Vec::new();
        for root in &self.array {
            if let Some(stat) = root.folder.stat_below(path)? {
                found.push((root, stat));
            }
        }
        Ok(found)
    }
}

/// The roots of all maps.
#[derive(Debug)]
pub struct Tiers {
    pub maps: Vec<MapTiers>,
}

/// Why the roots cannot be used. Every one means: stop, change nothing.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error("{tier} root {path} cannot be used: {source}", tier = tier.word())]
    Open { tier: Tier, path: Utf8PathBuf, source: io::Error },
    #[error("{tier} root {path} is on {fs_type}, a union of the disks", tier = tier.word())]
    Union { tier: Tier, path: Utf8PathBuf, fs_type: String },
    #[error("array root {array} and cache root {cache} are on the same file system")]
    SameDevice { array: Utf8PathBuf, cache: Utf8PathBuf },
    #[error("{one} and {other} are, or contain, the same folder")]
    Overlap { one: Utf8PathBuf, other: Utf8PathBuf },
    #[error("{path} is not mounted: /etc/fstab lists {point}, and nothing is mounted there")]
    NotMounted { path: Utf8PathBuf, point: Utf8PathBuf },
    #[error("array root {0} is empty and not a mount point")]
    Empty(Utf8PathBuf),
    #[error("{path} has been used before and is not what it was: {found}")]
    NotTheSame { path: Utf8PathBuf, found: String },
    #[error("{path} carries the marker of another state directory")]
    ForeignMarker { path: Utf8PathBuf },
    #[error("{path} matches no folder", path = .0)]
    NoArrayRoot(Utf8PathBuf),
    #[error("array root {0} has been used before and is gone")]
    Vanished(Utf8PathBuf),
    #[error("cannot read the mount table: {0}")]
    Mounts(io::Error),
}

impl RootError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Open { .. } | Self::NotMounted { .. } | Self::Empty(_) | Self::NoArrayRoot(_) => {
                "mount the disk, or correct [[map]]; nothing was changed"
            }
            Self::Union { .. } => {
                "name the folders on the physical disks, such as /mnt/disk1/media, not the merged view"
            }
            Self::SameDevice { .. } => {
                "is the cache mounted? If both are meant to be on one disk, set safety.allow_same_device = true"
            }
            Self::Overlap { .. } => "roots must not contain each other, and no two maps may share one",
            Self::NotTheSame { .. } => {
                "mount the right disk. If it was replaced or reformatted on purpose, run once with --yes"
            }
            Self::ForeignMarker { .. } => {
                "is the state directory mounted? If its history was lost on purpose, run once with --yes"
            }
            Self::Vanished(_) => "mount the disk. If it was taken out for good, run once with --yes",
            Self::Mounts(_) => "plexcache needs /proc",
        }
    }
}

/// What the checks of [`Tiers::open`] may overlook because the administrator said so.
#[derive(Debug, Clone, Copy, Default)]
pub struct Leniency {
    /// `safety.allow_same_device`.
    pub same_device: bool,
    /// `--yes`: accept that a known root was replaced or removed, and roots of a lost state.
    pub changed_roots: bool,
}

impl Tiers {
    /// Opens and checks the roots of all maps. `known` are the roots that the history has seen.
    ///
    /// # Errors
    /// The first root that cannot be used.
    pub fn open(maps: &[Map], known: &BTreeMap<Utf8PathBuf, KnownRoot>, leniency: Leniency) -> Result<Self, RootError> {
        let mounts = Mounts::read().map_err(RootError::Mounts)?;
        let fstab = std::fs::read_to_string("/etc/fstab").unwrap_or_default();
        let opener = Opener { mounts: &mounts, fstab: &fstab, known, leniency };
        let answers = ask_roots(maps)?;
        let maps = maps.iter().zip(answers).map(|(map, answers)| opener.map(map, answers));
        let tiers = Self { maps: maps.collect::<Result<_, _>>()? };
        tiers.check_overlaps()?;
        Ok(tiers)
    }

    pub fn map(&self, name: &str) -> Option<&MapTiers> {
        self.maps.iter().find(|map| map.name == name)
    }

    pub fn roots(&self) -> impl Iterator<Item = &Root> {
        self.maps.iter().flat_map(|map| map.array.iter().chain([&map.cache]))
    }

    /// The root at `path`, as the history names it.
    pub fn root(&self, path: &Utf8Path) -> Option<&Root> {
        // By the text first: it is asked for every cached file, and a path is compared by its components.
        let is_same = |root: &&Root| root.path.as_str() == path.as_str();
        self.roots().find(is_same).or_else(|| self.roots().find(|root| root.path == path))
    }

    /// No root may be another one, or lie in it, whatever the paths look like.
    fn check_overlaps(&self) -> Result<(), RootError> {
        let mut seen: Vec<&Root> = Vec::new();
        for root in self.roots() {
            for other in &seen {
                if root.real.starts_with(&other.real) || other.real.starts_with(&root.real) {
                    return Err(RootError::Overlap { one: other.path.clone(), other: root.path.clone() });
                }
            }
            seen.push(root);
        }
        let mut ids = BTreeSet::new();
        for root in seen {
            let stat = root.folder.stat_self().map_err(|source| RootError::Open {
                tier: root.tier,
                path: root.path.clone(),
                source,
            })?;
            if !ids.insert((stat.dev, stat.ino)) {
                // The same folder under two mounts.
                return Err(RootError::Overlap { one: root.path.clone(), other: root.path.clone() });
            }
        }
        Ok(())
    }
}

struct Opener<'a> {
    mounts: &'a Mounts,
    fstab: &'a str,
    known: &'a BTreeMap<Utf8PathBuf, KnownRoot>,
    leniency: Leniency,
}

impl Opener<'_> {
    fn map(&self, map: &Map, Answers { array: paths, cache }: Answers) -> Result<MapTiers, RootError> {
        if paths.is_empty() {
            return Err(RootError::NoArrayRoot(map.array.first().cloned().unwrap_or_default()));
        }
        self.check_vanished(map, &paths)?;
        let cache = self.root(Tier::Cache, map.cache.clone(), cache)?;
        let mut array = Vec::with_capacity(paths.len());
        for (path, probed) in paths {
            let root = self.root(Tier::Array, path, probed)?;
            if root.dev == cache.dev && !self.leniency.same_device {
                return Err(RootError::SameDevice { array: root.path, cache: cache.path });
            }
            array.push(root);
        }
        Ok(MapTiers {
            name: map.plex.clone(),
            array,
            cache,
            merged: map.merged.clone(),
            placement: map.placement,
            cacheable: map.cacheable,
        })
    }

    /// A pattern such as `/mnt/disk*/media` simply does not match a disk that is not mounted.
    fn check_vanished(&self, map: &Map, found: &[(Utf8PathBuf, io::Result<Probed>)]) -> Result<(), RootError> {
        if self.leniency.changed_roots {
            return Ok(());
        }
        for pattern in &map.array {
            let glob = GlobBuilder::new(pattern.as_str()).literal_separator(true).build();
            let Ok(matcher) = glob.map(|glob| glob.compile_matcher()) else { continue };
            let gone = self.known.values().find(|known| {
                let is_found = || found.iter().any(|(path, _)| *path == known.path);
                known.tier == Tier::Array && matcher.is_match(&known.path) && !is_found()
            });
            if let Some(gone) = gone {
                return Err(RootError::Vanished(gone.path.clone()));
            }
        }
        Ok(())
    }

    fn root(&self, tier: Tier, path: Utf8PathBuf, probed: io::Result<Probed>) -> Result<Root, RootError> {
        let Probed { folder, stat, marker, is_empty, is_mount_point, real } =
            probed.map_err(|source| RootError::Open { tier, path: path.clone(), source })?;
        let mount = self.mounts.of(&real).cloned().ok_or_else(|| RootError::Open {
            tier,
            path: path.clone(),
            source: io::Error::other("it is on no mount that /proc/self/mountinfo lists"),
        })?;
        if mount.is_union() {
            return Err(RootError::Union { tier, path, fs_type: mount.fs_type });
        }
        let known = self.known.get(&path);
        let not_the_same = |found: &str| Err(RootError::NotTheSame { path: path.clone(), found: found.to_owned() });
        let is_new = match (known.map(|known| &known.id), &marker) {
            // A crash while the marker was being written.
            (Some(Some(id)), None) if known.is_some_and(|known| !known.marked) && !id.is_empty() => true,
            (Some(Some(id)), Some(marker)) if *id == marker.id => known.is_some_and(|known| !known.marked),
            // Another disk on purpose, but still a disk: an empty mount point is none.
            _ if self.leniency.changed_roots => {
                self.check_new(tier, &path, &real, is_empty && !is_mount_point)?;
                true
            }
            (Some(Some(_)), Some(_)) => return not_the_same("its marker is another one"),
            (Some(Some(_)), None) => return not_the_same("its marker .plexcache-root is missing"),
            (Some(None), _) if known.is_some_and(|known| known.mount == mount.identity()) => false,
            (Some(None), _) => return not_the_same(&format!("it is now on {}", mount.identity())),
            (None, Some(_)) => return Err(RootError::ForeignMarker { path }),
            (None, None) => {
                self.check_new(tier, &path, &real, is_empty && !is_mount_point)?;
                true
            }
        };
        Ok(Root { tier, path, folder, dev: stat.dev, mount, id: marker.map(|marker| marker.id), is_new, real })
    }

    /// A root that is taken for the first time must not look like a disk that is not mounted.
    fn check_new(&self, tier: Tier, path: &Utf8Path, real: &Utf8Path, looks_bare: bool) -> Result<(), RootError> {
        if let Some(point) = self.mounts.promised(real, self.fstab) {
            return Err(RootError::NotMounted { path: path.to_owned(), point });
        }
        if tier == Tier::Array && looks_bare {
            return Err(RootError::Empty(path.to_owned()));
        }
        Ok(())
    }
}

/// What a root says of itself.
#[derive(Debug)]
struct Probed {
    folder: Folder,
    stat: Stat,
    marker: Option<Marker>,
    is_empty: bool,
    is_mount_point: bool,
    real: Utf8PathBuf,
}

/// What the roots of one map said, or why they did not.
struct Answers {
    array: Vec<(Utf8PathBuf, io::Result<Probed>)>,
    cache: io::Result<Probed>,
}

/// Asks the roots of all maps at once.
fn ask_roots(maps: &[Map]) -> Result<Vec<Answers>, RootError> {
    // The folders in which a pattern is looked up may be dead, too.
    let found = probe::ask_all(maps.to_vec(), ANSWER_WITHIN, |map| map.array_roots());
    let found = maps.iter().zip(found).map(|(map, found)| {
        let path = map.array.first().cloned().unwrap_or_default();
        found.map_err(|source| RootError::Open { tier: Tier::Array, path, source })
    });
    let arrays = found.collect::<Result<Vec<_>, _>>()?;
    let caches = maps.iter().map(|map| &map.cache);
    let paths = arrays.iter().flatten().chain(caches).cloned();
    let mut probed = probe::ask_all(paths, ANSWER_WITHIN, |path| probe_here(&path));
    let caches = probed.split_off(probed.len() - maps.len());
    let mut probed = probed.into_iter();
    // In the order in which they were asked.
    let answers = arrays.into_iter().zip(caches);
    Ok(answers
        .map(|(array, cache)| Answers { array: array.into_iter().zip(probed.by_ref()).collect(), cache })
        .collect())
}

/// A cache root as somebody sees it who only looks.
#[derive(Debug)]
pub struct Look {
    pub folder: Folder,
    pub has_marker: bool,
    pub space: Space,
}

/// Looks at cache roots, whatever state they are in; the answers are in their order. One that does not
/// answer in time has failed.
pub fn look(caches: impl IntoIterator<Item = Utf8PathBuf>) -> Vec<io::Result<Look>> {
    probe::ask_all(caches, LOOK_WITHIN, |path| {
        probe::wait_for(&path)?;
        let folder = Folder::open_root(&path)?;
        let (has_marker, space) = (folder.stat(MARKER)?.is_some(), folder.space()?);
        Ok(Look { folder, has_marker, space })
    })
}

fn probe_here(path: &Utf8Path) -> io::Result<Probed> {
    probe::wait_for(path)?;
    let folder = Folder::open_root(path)?;
    let stat = folder.stat_self()?;
    let names = folder.names()?;
    let is_mount_point = match path.parent() {
        Some(parent) => Folder::open_root(parent)?.stat_self()?.dev != stat.dev,
        None => true,
    };
    let marker = read_marker(&folder)?;
    let is_empty = names.iter().all(|name| name == MARKER || name == "lost+found");
    let real = path.canonicalize_utf8()?;
    Ok(Probed { folder, stat, marker, is_empty, is_mount_point, real })
}

/// Reads the marker of a root. `None` when there is none.
fn read_marker(folder: &Folder) -> io::Result<Option<Marker>> {
    let Some(stat) = folder.stat(MARKER)? else { return Ok(None) };
    if !stat.is_file() || stat.size > 4096 {
        return Err(io::Error::other(format!("{MARKER} is not a marker")));
    }
    let marker = serde_json::from_reader(folder.open(MARKER)?)
        .map_err(|error| io::Error::other(format!("{MARKER} is damaged: {error}")))?;
    Ok(Some(marker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test lays out its own tree")]
    fn a_new_root_where_fstab_promises_a_mount_that_is_not_there_is_refused() {
        let tree = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(tree.path()).unwrap().canonicalize_utf8().unwrap();
        std::fs::write(root.join("film.mkv"), "not empty").unwrap();
        let (mounts, known) = (Mounts::read().unwrap(), BTreeMap::new());
        let open = |fstab: &str, tier| {
            let opener = Opener { mounts: &mounts, fstab, known: &known, leniency: Leniency::default() };
            opener.root(tier, root.clone(), probe_here(&root))
        };
        for tier in [Tier::Array, Tier::Cache] {
            let fstab = format!("/dev/sdz1 {root} xfs defaults 0 0\n");
            assert!(matches!(open(&fstab, tier), Err(RootError::NotMounted { .. })), "{tier:?}");
            assert!(open("", tier).is_ok(), "{tier:?}");
        }
    }
}
