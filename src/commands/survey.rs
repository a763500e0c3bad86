//! The wants and the index, held against the disks: what the planner has to know of every file.
//!
//! Looks and never changes anything. What is cached already and unchanged is not looked for on the
//! array, so that its disks sleep. Whatever cannot be looked at is reported as a reason to leave the
//! file alone, never as an absence.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::sidecar::{Rule, SUBS};
use crate::config::{Placement, Sidecars};
use crate::history::{Hold, Index};
use crate::paths::MediaPath;
use crate::plan::{
    Action, Cached, CachedFile, Candidate, CandidateFile, CopyState, FileState, Kind, Pool, Release, Why,
};
use crate::select::{FileKey, Playing, Want};
use crate::shared::Text;
use crate::tier::{Folder, InTurn, MAX_NAME, MapTiers, OpenFiles, Root, Stat, Tiers};
use crate::transfer::KEPT;

/// How much of both ends of two files is compared before they may count as one. Bytes.
const SAMPLE: usize = 1 << 20;

/// For how long after it was cached, or changed in Plex, a unit's folder is looked at for new sidecars.
const NEWS: SignedDuration = SignedDuration::from_hours(48);

/// Everything a survey looks at.
pub(super) struct Survey<'a> {
    pub(super) tiers: &'a Tiers,
    pub(super) index: &'a Index,
    pub(super) open: &'a OpenFiles,
    pub(super) playing: &'a Playing,
    pub(super) sidecars: Sidecars,
    pub(super) min_file_age: SignedDuration,
    pub(super) now: Timestamp,
}

impl Survey<'_> {
    /// All that is cached, with what became of the copies. Files of maps that are no longer configured
    /// are left out: nothing is known of their roots.
    pub(super) fn cached(
        &self,
        releases: &BTreeMap<FileKey, Option<Release>>,
        is_pinned: impl Fn(&FileKey) -> bool,
    ) -> BTreeMap<FileKey, CachedFile> {
        let mut files = BTreeMap::new();
        let mut in_turn = InTurn::default();
        for (key, cached) in &self.index.cached {
            let Some(root) = self.tiers.root(&cached.action.cache_root) else { continue };
            let (state, open) = match state_in_turn(&mut in_turn, &root.folder, cached) {
                Ok((state, stat)) => (state, stat.and_then(|stat| self.holder(&stat))),
                Err(error) => (CopyState::Changed, Some(format!("it cannot be looked at: {error}"))),
            };
            let unit = cached.action.unit_key();
            let file = CachedFile {
                cached: Arc::clone(cached),
                state,
                open,
                playing: self.is_playing(cached.action.rating_key.as_deref(), [key, &unit]),
                release: releases.get(&unit).copied().flatten(),
                held_until: self.hold(key, Kind::Cache),
                pinned: is_pinned(key) || is_pinned(&unit),
                superseded: false,
            };
            files.insert(key.clone(), file);
        }
        files
    }

    /// Marks the cached parts of `wants` whose originals were replaced since, in the units of which Plex
    /// has learned something. What cannot be looked at is taken to be as it was.
    pub(super) fn mark_superseded(&self, wants: &[Arc<Want>], files: &mut BTreeMap<FileKey, CachedFile>) {
        for want in wants {
            for part in &want.parts {
                let Some(file) = files.get_mut(part).filter(|file| self.learned_since(want, file.cached.at)) else {
                    continue;
                };
                file.superseded = self.is_replaced(&file.cached.action).unwrap_or_else(|error| {
                    tracing::debug!("cannot look for the original of {part}: {error}");
                    false
                });
            }
        }
    }

    /// Whether the array has a file under the name of a cached one that is not its original.
    fn is_replaced(&self, action: &Action) -> io::Result<bool> {
        let Some(map) = self.tiers.map(&action.map) else { return Ok(false) };
        let found = map.find(&action.path)?;
        let at_home = found.iter().find(|(root, _)| root.path == action.array_root);
        if let Some((_, stat)) = at_home {
            let is_original = action.placement == Placement::Copy && Some(stat.fingerprint()) == action.array;
            return Ok(stat.is_file() && !is_original);
        }
        // On another disk it is the newer one only if the original is nowhere any more.
        Ok(found.iter().any(|(_, stat)| stat.is_file()) && self.kept_original(&action.key())?.is_none())
    }

    fn holder(&self, stat: &Stat) -> Option<String> {
        self.open.holder(stat.dev, stat.ino).map(str::to_owned)
    }

    /// Until when an undo holds the file on the tier of `kind`.
    fn hold(&self, key: &FileKey, kind: Kind) -> Option<Timestamp> {
        let Hold { kind: held, until, .. } = self.index.holds.get(key)?;
        (*held == kind && *until > self.now).then_some(*until)
    }

    /// Files that an undo has evicted, and until when they stay off the cache.
    pub(super) fn held_off(&self) -> BTreeMap<FileKey, Timestamp> {
        let keys = self.index.holds.keys();
        keys.filter_map(|key| Some((key.clone(), self.hold(key, Kind::Evict)?))).collect()
    }

    fn is_playing<'k>(&self, rating_key: Option<&str>, files: impl IntoIterator<Item = &'k FileKey>) -> bool {
        match self.playing {
            Playing::Known { rating_keys, files: playing } => {
                rating_key.is_some_and(|key| rating_keys.contains(key))
                    || files.into_iter().any(|file| playing.contains(file))
            }
            Playing::Unknown(_) => false,
        }
    }

    /// Looks for the files of every want. `files` is what is known of those that are cached.
    pub(super) fn candidates(&self, wants: &[Arc<Want>], files: &BTreeMap<FileKey, CachedFile>) -> Vec<Candidate> {
        fn unit_of<'i>((key, cached): &(&'i FileKey, &'i Cached)) -> (&'i Text, &'i MediaPath) {
            (&key.map, &cached.action.unit)
        }
        let mut by_unit: Vec<(&FileKey, &Cached)> =
            self.index.cached.iter().map(|(key, cached)| (key, &**cached)).collect();
        // Stable: within a unit they stay in the order of their keys.
        by_unit.sort_by(|a, b| unit_of(a).cmp(&unit_of(b)));
        let candidate = |want: &Arc<Want>| {
            let unit = (&want.unit().map, &want.unit().path);
            let first = by_unit.partition_point(|file| unit_of(file) < unit);
            let count = by_unit[first..].iter().take_while(|file| unit_of(file) == unit).count();
            self.candidate(want, &by_unit[first..first + count], files)
        };
        wants.iter().map(candidate).collect()
    }

    fn candidate(
        &self,
        want: &Arc<Want>,
        cached: &[(&FileKey, &Cached)],
        seen: &BTreeMap<FileKey, CachedFile>,
    ) -> Candidate {
        let blocked = |why, detail: &str| Candidate {
            want: Arc::clone(want),
            files: Vec::new(),
            blocked: Some((why, detail.to_owned())),
        };
        let Some(map) = self.tiers.map(&want.unit().map) else {
            return blocked(Why::Unmapped, "its map is no longer configured");
        };
        if !map.cacheable {
            return blocked(Why::NotCacheable, "its map says cacheable = false");
        }
        if self.is_playing(want.rating_key.as_deref(), &want.parts) {
            return blocked(Why::Playing, "playing now");
        }
        let mut files = Vec::new();
        let keys: BTreeSet<&FileKey> = cached.iter().map(|(key, _)| *key).collect();
        if want.parts.iter().all(|part| keys.contains(part)) && !self.has_news(want, cached) {
            let parts: BTreeSet<&FileKey> = want.parts.iter().collect();
            let of_parts = |key: &FileKey| !parts.contains(key);
            files.extend(cached.iter().filter_map(|(key, cached)| known(map, key, cached, seen)));
            files.sort_by_key(|file| (of_parts(&file.key), file.key.clone()));
        }
        if files.is_empty() {
            let mut keys = want.parts.clone();
            keys.extend(self.sidecars_of(map, &want.parts));
            files.extend(keys.iter().map(|key| self.file(map, key, seen)));
        }
        // There is mostly one, of very many units.
        files.shrink_to_fit();
        let blocked = files.iter().take(want.parts.len()).find_map(|file| match &file.state {
            FileState::Blocked { why, detail } => Some((*why, detail.clone())),
            FileState::Cached | FileState::OnArray { .. } => None,
        });
        Candidate { want: Arc::clone(want), files, blocked }
    }

    /// Whether the unit is worth another look at the array: a sidecar was left out when it was cached, or
    /// Plex has learned something of the item since, of a new subtitle perhaps. For a while only, because
    /// it wakes the array's disks.
    fn has_news(&self, want: &Want, cached: &[(&FileKey, &Cached)]) -> bool {
        if cached.iter().any(|(_, cached)| cached.action.left_out && self.is_new(cached.at)) {
            return true;
        }
        let since = cached.iter().map(|(_, cached)| cached.at).min();
        since.is_some_and(|since| self.learned_since(want, since))
    }

    /// Whether Plex has lately learned something of the item, and after `at`.
    fn learned_since(&self, want: &Want, at: Timestamp) -> bool {
        let updated = want.updated_at.and_then(|at| Timestamp::from_second(at).ok());
        updated.is_some_and(|updated| updated > at && self.is_new(updated))
    }

    fn is_new(&self, at: Timestamp) -> bool {
        self.now.duration_since(at) < NEWS
    }

    fn file(&self, map: &MapTiers, key: &FileKey, seen: &BTreeMap<FileKey, CachedFile>) -> CandidateFile {
        if let Some(known) = self.index.cached.get(key).and_then(|cached| known(map, key, cached, seen)) {
            return known;
        }
        let mut file = CandidateFile {
            key: key.clone(),
            size: 0,
            placement: map.placement,
            array_root: map.array.first().map_or("".into(), |root| root.path.as_path().into()),
            cache_root: map.cache.path.as_path().into(),
            state: FileState::Cached,
        };
        file.state = match self.on_array(map, key) {
            Ok((root, stat, state)) => {
                file.array_root = root.path.as_path().into();
                file.size = stat.size;
                state
            }
            Err((why, detail)) => FileState::Blocked { why, detail },
        };
        file
    }

    /// Where on the array the file is, and whether it can be cached as it is now.
    fn on_array<'t>(&'t self, map: &'t MapTiers, key: &FileKey) -> Result<(&'t Root, Stat, FileState), (Why, String)> {
        let cannot = |error: io::Error| (Why::Unavailable, format!("cannot look at it: {error}"));
        if let Some((root, stat)) = self.kept_original(key).map_err(cannot)? {
            let state = FileState::OnArray { array: stat.fingerprint(), adopt: None };
            return Ok((root, stat, state));
        }
        let there = map.cache.folder.stat_below(&key.path).map_err(cannot)?;
        let found = map.find(&key.path).map_err(cannot)?;
        let Some((root, stat)) = found.into_iter().next() else {
            return Err(match there {
                Some(_) => (Why::NotOurs, "it is on the cache, and not by plexcache".to_owned()),
                None => (Why::Missing, "it is on no disk of its map".to_owned()),
            });
        };
        let blocked = |why, detail| FileState::Blocked { why, detail };
        let state = if !stat.is_file() {
            blocked(Why::Conflict, "it is not a regular file on the array".to_owned())
        } else if map.placement == Placement::Move && stat.links > 1 {
            blocked(Why::HardLinked, format!("{} names on the array", stat.links))
        } else if self.is_young(&stat) {
            blocked(Why::TooYoung, "it was written a moment ago".to_owned())
        } else if let Some(holder) = self.holder(&stat).filter(|_| map.placement != Placement::Copy) {
            blocked(Why::Open, format!("open in {holder}"))
        } else if let Some(obstacle) = cannot_be_kept(root, map, key).map_err(cannot)? {
            blocked(Why::Conflict, obstacle)
        } else {
            match there {
                None => FileState::OnArray { array: stat.fingerprint(), adopt: None },
                Some(copy) if may_be_equal(root, map, key, &stat, &copy).map_err(cannot)? => {
                    FileState::OnArray { array: stat.fingerprint(), adopt: Some(copy.fingerprint()) }
                }
                Some(_) => blocked(Why::Conflict, "there is another file on the cache".to_owned()),
            }
        };
        Ok((root, stat, state))
    }

    /// The original of a copy that is gone, where it still stands beside its name. An eviction gives it
    /// its name back, and then it can be cached like any other file.
    fn kept_original(&self, key: &FileKey) -> io::Result<Option<(&Root, Stat)>> {
        let Some(action) = self.index.cached.get(key).map(|cached| &cached.action) else { return Ok(None) };
        let kept = action.path.sibling(&format!("{}{KEPT}", action.path.file_name()));
        let (Some(root), Ok(kept)) = (self.tiers.root(&action.array_root), kept) else { return Ok(None) };
        let stat = root.folder.stat_below(&kept)?;
        Ok(stat.filter(|stat| stat.is_file() && Some(stat.fingerprint()) == action.array).map(|stat| (root, stat)))
    }

    /// By the later of mtime and ctime, since an importer may set the first to anything.
    fn is_young(&self, stat: &Stat) -> bool {
        let newest = i128::from(stat.mtime_ns.max(stat.ctime_ns));
        let age = self.now.as_nanosecond() - newest;
        !self.min_file_age.is_zero() && age < self.min_file_age.as_nanos()
    }

    /// The sidecars of a unit, on whichever disk they are.
    fn sidecars_of(&self, map: &MapTiers, parts: &[FileKey]) -> Vec<FileKey> {
        let mut found = BTreeSet::new();
        if self.sidecars == Sidecars::None {
            return Vec::new();
        }
        let videos: BTreeSet<&FileKey> = parts.iter().collect();
        for part in parts {
            for root in &map.array {
                let folder = match root.folder.parent_of(&part.path) {
                    Ok(folder) => folder,
                    Err(error) => {
                        if error.kind() != io::ErrorKind::NotFound {
                            tracing::debug!("cannot look for sidecars of {part}: {error}");
                        }
                        continue;
                    }
                };
                self.sidecars_in(&folder, &part.path, &mut found);
            }
        }
        found
            .into_iter()
            .map(|path| FileKey { map: map.name.as_str().into(), path })
            .filter(|key| !videos.contains(key))
            .collect()
    }

    fn sidecars_in(&self, folder: &Folder, video: &MediaPath, found: &mut BTreeSet<MediaPath>) {
        let names = texts(folder);
        let rule = Rule { mode: self.sidecars, stem: video.stem(), names: &names };
        let mut take = |path: Result<MediaPath, _>| {
            if let Ok(path) = path {
                found.insert(path);
            }
        };
        for name in names.iter().filter(|name| rule.takes(name)) {
            take(video.sibling(name));
        }
        for subs in names.iter().filter(|name| name.to_lowercase() == SUBS) {
            let below = |name: &str| MediaPath::parse(name).ok().and_then(|name| folder.folder(&name).ok());
            let Some(subs_folder) = below(subs) else { continue };
            for name in texts(&subs_folder) {
                if rule.takes_in_subs(&name) {
                    take(video.sibling(&format!("{subs}/{name}")));
                } else if rule.takes_subs_folder(&name)
                    && let Some(own) = MediaPath::parse(&name).ok().and_then(|name| subs_folder.folder(&name).ok())
                {
                    for inner in texts(&own) {
                        take(video.sibling(&format!("{subs}/{name}/{inner}")));
                    }
                }
            }
        }
    }

    /// Every cache file system, with what may be used of it.
    pub(super) fn pools(&self, limits: &crate::config::Limits) -> io::Result<Vec<Pool>> {
        let mut pools: BTreeMap<u64, Pool> = BTreeMap::new();
        for map in &self.tiers.maps {
            let space = map.cache.folder.space()?;
            let pool = pools.entry(map.cache.dev).or_insert_with(|| Pool {
                cache_roots: BTreeSet::new(),
                total: space.total,
                free: space.free,
                max_size: limits.max_size.of(space.total),
                min_free: limits.min_free.of(space.total),
            });
            pool.cache_roots.insert(map.cache.path.clone());
        }
        Ok(pools.into_values().collect())
    }
}

/// What became of the copy that the history tells of.
pub(super) fn copy_state(root: &Root, cached: &Cached) -> io::Result<(CopyState, Option<Stat>)> {
    state_in_turn(&mut InTurn::default(), &root.folder, cached)
}

/// The same below the open folder of a cache root, of very many.
pub(super) fn state_in_turn<'f>(
    in_turn: &mut InTurn<'f>,
    folder: &'f Folder,
    cached: &Cached,
) -> io::Result<(CopyState, Option<Stat>)> {
    let stat = in_turn.stat_below(folder, &cached.action.path)?;
    let state = match &stat {
        None => CopyState::Gone,
        Some(stat) if stat.is_file() && Some(stat.fingerprint()) == cached.action.copy => CopyState::Unchanged,
        Some(_) => CopyState::Changed,
    };
    Ok((state, stat))
}

/// A file that the history says is cached; `None` when the copy is gone.
fn known(
    map: &MapTiers,
    key: &FileKey,
    cached: &Cached,
    seen: &BTreeMap<FileKey, CachedFile>,
) -> Option<CandidateFile> {
    let is_gone = match seen.get(key).filter(|_| cached.action.cache_root == map.cache.path) {
        Some(file) => file.state == CopyState::Gone,
        // The map has another cache root by now. An error is the planner's to see, on the cached side.
        None => matches!(copy_state(&map.cache, cached), Ok((CopyState::Gone, _))),
    };
    (!is_gone).then(|| CandidateFile {
        key: key.clone(),
        size: cached.action.size,
        placement: cached.action.placement,
        array_root: cached.action.array_root.clone(),
        cache_root: cached.action.cache_root.clone(),
        state: FileState::Cached,
    })
}

/// Why the original could not stay beside what takes its place, in the placements that keep it there.
fn cannot_be_kept(root: &Root, map: &MapTiers, key: &FileKey) -> io::Result<Option<String>> {
    if !matches!(map.placement, Placement::Hide | Placement::Symlink) {
        return Ok(None);
    }
    let target = map.cache.path.join(key.path.as_path());
    if map.placement == Placement::Symlink && target.as_str().len() > root.mount.max_link() {
        return Ok(Some("the path of its copy would be too long for a link".to_owned()));
    }
    let name = format!("{}{KEPT}", key.path.file_name());
    if name.len() > MAX_NAME {
        return Ok(Some(format!("{name} would be too long a name")));
    }
    let Ok(kept) = key.path.sibling(&name) else { return Ok(None) };
    Ok(root.folder.stat_below(&kept)?.map(|_| format!("there is a {name} already")))
}

/// Whether a file on the cache may be the same as the one on the array: same size, same ends. The
/// whole is compared when it is adopted.
fn may_be_equal(root: &Root, map: &MapTiers, key: &FileKey, array: &Stat, copy: &Stat) -> io::Result<bool> {
    if !copy.is_file() || copy.size != array.size {
        return Ok(false);
    }
    let (one, other) = (root.folder.open_below(&key.path)?, map.cache.folder.open_below(&key.path)?);
    let length = SAMPLE.min(usize::try_from(array.size).unwrap_or(SAMPLE));
    let (mut a, mut b) = (vec![0; length], vec![0; length]);
    for offset in [0, array.size - length as u64] {
        one.read_exact_at(&mut a, offset)?;
        other.read_exact_at(&mut b, offset)?;
        if a != b {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The names in a folder that can be media paths, in order.
fn texts(folder: &Folder) -> Vec<String> {
    let names = folder.names().unwrap_or_else(|error| {
        tracing::debug!("cannot list a folder: {error}");
        Vec::new()
    });
    let mut names: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
    names.sort_unstable();
    names
}
