//! Taking over what `PlexCache-D` has cached, so that `evict` and `undo` bring the library back.
//!
//! Its cached file is a copy on the cache, and the original beside its name as `NAME.plexcached`: what our
//! placement `hide` leaves, or `symlink` where it made links. So adopting is an ordinary action: an intent,
//! both files compared to the last byte, an outcome; and no file is touched. It is a step of `init` and no
//! part of `sync`, because finding every backup takes a walk over all disks of the array, once, which a
//! run that has nothing to do must never make; and it can be asked for alone (`init --adopt`), because the
//! mover or a lock may be in the way on the day of the import. A file that its records name and that is on
//! the cache alone (it was told to keep no backups) is what our `move` leaves, and is adopted as that.
//! Whatever is in doubt is left alone and listed: two originals, a copy that is gone or of another size, a
//! file of which there may be a backup where nobody could look.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use camino::Utf8PathBuf;

use super::sidecar::Rule;
use super::{Begin, Changes, Command, Session};
use crate::config::{Placement, Sidecars};
use crate::exit::Exit;
use crate::paths::MediaPath;
use crate::plan::{Action, Kind, Plan, Skip, Why};
use crate::report::PlanContext;
use crate::select::{FileKey, Reasons};
use crate::tier::{self, Fingerprint, MapTiers, Root};
use crate::transfer::KEPT;

/// Records as cached what `PlexCache-D` has cached.
#[derive(Debug, Default)]
pub struct Adopt {
    /// The files on the cache that its own records name.
    pub listed: BTreeSet<Utf8PathBuf>,
}

impl Command for Adopt {
    fn name(&self) -> &'static str {
        "init"
    }

    fn run(&self, session: &mut Session<'_>) -> anyhow::Result<Exit> {
        let Self { listed } = self;
        let mut changes = session.begin(&Begin { command: self.name(), ..Begin::default() })?;
        session.note("Looking for what PlexCache-D has cached, on every disk of the array.");
        let (plan, problems) = plan(&changes, listed);
        for problem in problems {
            changes.problem(problem);
        }
        let context = PlanContext { command: self.name(), ..PlanContext::default() };
        changes.apply(session, plan, &context, None)
    }
}

/// An original under its kept name.
struct Backup<'t> {
    root: &'t Root,
    /// The media path of the file that it is the original of.
    path: MediaPath,
}

fn plan(changes: &Changes, listed: &BTreeSet<Utf8PathBuf>) -> (Plan, Vec<String>) {
    let cached = &changes.index().cached;
    let (mut plan, mut problems) = (Plan::default(), Vec::new());
    for map in &changes.tiers.maps {
        let mut backups: BTreeMap<MediaPath, Vec<Backup>> = BTreeMap::new();
        for root in &map.array {
            for backup in backups_below(root, &mut problems) {
                backups.entry(backup.path.clone()).or_default().push(backup);
            }
        }
        let is_known =
            |path: &MediaPath| cached.contains_key(&FileKey { map: map.name.as_str().into(), path: path.clone() });
        backups.retain(|path, _| !is_known(path));
        let mut actions = Vec::new();
        for (path, backups) in &backups {
            match examine(map, path, backups) {
                Ok(action) => actions.push(action),
                Err((root, size, detail)) => plan.skipped.push(doubt(map, root, path, size, Why::Conflict, detail)),
            }
        }
        let listed = listed.iter().filter_map(|path| media_path(map, path));
        for path in listed.filter(|path| !is_known(path) && !backups.contains_key(path)) {
            match examine_lone(map, &path, problems.is_empty()) {
                Ok(action) => actions.extend(action),
                Err((root, size, detail)) => plan.skipped.push(doubt(map, root, &path, size, Why::NotOurs, detail)),
            }
        }
        join_units(&mut actions);
        plan.actions.extend(actions);
    }
    plan.kept_files = u64::try_from(cached.len()).unwrap_or(u64::MAX);
    (plan, problems)
}

fn media_path(map: &MapTiers, path: &Utf8PathBuf) -> Option<MediaPath> {
    MediaPath::parse(path.strip_prefix(&map.cache.path).ok()?.as_str()).ok()
}

/// Every file `NAME.plexcached` below a root. What cannot be looked into is a problem, never an absence.
fn backups_below<'t>(root: &'t Root, problems: &mut Vec<String>) -> Vec<Backup<'t>> {
    let mut found = Vec::new();
    let mut folders = vec![None];
    while let Some(at) = folders.pop() {
        let mut cannot = |error: &io::Error| {
            // Another file system is mounted there, and none of ours.
            if error.raw_os_error() != Some(libc::EXDEV) {
                let place = at.as_ref().map_or(root.path.clone(), |at: &MediaPath| root.path.join(at.as_path()));
                problems.push(format!("cannot look into {place}: {error}"));
            }
        };
        let folder = match &at {
            None => root.folder.again(),
            Some(at) => root.folder.folder(at),
        };
        let (folder, names) = match folder.and_then(|folder| folder.names().map(|names| (folder, names))) {
            Ok(both) => both,
            Err(error) => {
                cannot(&error);
                continue;
            }
        };
        for name in names.into_iter().filter_map(|name| name.into_string().ok()) {
            let below = match &at {
                None => MediaPath::parse(&name),
                Some(at) => at.join(&name),
            };
            let Ok(below) = below else { continue };
            match folder.stat(&name) {
                Ok(Some(stat)) if stat.kind == tier::Kind::Folder => folders.push(Some(below)),
                Ok(Some(_)) => {
                    let path = name.strip_suffix(KEPT).filter(|name| !name.is_empty()).map(|name| below.sibling(name));
                    found.extend(path.and_then(Result::ok).map(|path| Backup { root, path }));
                }
                Ok(None) => {}
                Err(error) => cannot(&error),
            }
        }
    }
    found
}

type Doubt<'t> = (&'t Root, u64, String);

/// Whether the backup and what lies on the cache are such a pair; if not, what is in doubt.
fn examine<'t>(map: &MapTiers, path: &MediaPath, backups: &[Backup<'t>]) -> Result<Action, Doubt<'t>> {
    let root = backups[0].root;
    let mut size = 0;
    let looked = || -> io::Result<Result<(Fingerprint, Fingerprint, Placement), String>> {
        let name = path.file_name();
        let folder = root.folder.parent_of(path)?;
        let Some(kept) = folder.stat(&format!("{name}{KEPT}"))? else { return Ok(Err("it is gone".to_owned())) };
        size = kept.size;
        if !kept.is_file() {
            return Ok(Err(format!("{name}{KEPT} is not a regular file")));
        }
        if let [_, other, ..] = backups {
            return Ok(Err(format!("there is a backup of it on {} as well", other.root.path)));
        }
        let placement = match folder.stat(name)? {
            None => Placement::Hide,
            Some(stat) if stat.kind == tier::Kind::Link => {
                let target = map.cache.path.join(path.as_path());
                if folder.read_link(name)? != target.as_str().as_bytes() {
                    return Ok(Err(format!("its name on the array is a link, and not to {target}")));
                }
                Placement::Symlink
            }
            Some(_) => return Ok(Err("both the file and its backup are on the array".to_owned())),
        };
        if let Some((other, _)) = map.find(path)?.into_iter().find(|(other, _)| other.path != root.path) {
            return Ok(Err(format!("{} has a file of that name", other.path)));
        }
        match map.cache.folder.stat_below(path)? {
            None => Ok(Err("there is a backup of it, and no copy on the cache; nothing shows it to Plex".to_owned())),
            Some(copy) if !copy.is_file() => Ok(Err("what lies on the cache is not a regular file".to_owned())),
            Some(copy) if copy.size != kept.size => {
                Ok(Err(format!("the backup has {} bytes and the copy on the cache {}", kept.size, copy.size)))
            }
            Some(copy) => Ok(Ok((kept.fingerprint(), copy.fingerprint(), placement))),
        }
    }();
    let (array, copy, placement) = match looked {
        Ok(Ok(pair)) => pair,
        Ok(Err(detail)) => return Err((root, size, detail)),
        Err(error) => return Err((root, size, format!("it cannot be looked at: {error}"))),
    };
    Ok(Action { placement, size, array: Some(array), copy: Some(copy), ..adoption(map, root, path) })
}

/// Whether a file of which there is no backup is on the cache and nowhere else; `None` when it is not on the
/// cache. `is_all_seen`: every backup that there is was found.
fn examine_lone<'t>(map: &'t MapTiers, path: &MediaPath, is_all_seen: bool) -> Result<Option<Action>, Doubt<'t>> {
    let mut size = 0;
    let looked = || -> io::Result<Result<Option<Fingerprint>, String>> {
        let Some(copy) = map.cache.folder.stat_below(path)? else { return Ok(Ok(None)) };
        size = copy.size;
        if !copy.is_file() {
            return Ok(Err("what lies on the cache is not a regular file".to_owned()));
        }
        if copy.links > 1 {
            return Ok(Err(format!("PlexCache-D lists it, and it has {} names on the cache", copy.links)));
        }
        if let Some((other, _)) = map.find(path)?.first() {
            return Ok(Err(format!("PlexCache-D lists it, and {} has a file of that name", other.path)));
        }
        if !is_all_seen {
            return Ok(Err("there may be a backup of it where the array could not be looked into".to_owned()));
        }
        Ok(Ok(Some(copy.fingerprint())))
    }();
    // Where it would be moved to: beside what it came from, else where there is most room.
    let free = |root: &&Root| root.folder.space().map_or(0, |space| space.free);
    let home = map.array.iter().find(|root| root.folder.parent_of(path).is_ok());
    let root = home.or_else(|| map.array.iter().max_by_key(free)).unwrap_or(&map.array[0]);
    match looked {
        Ok(Ok(Some(copy))) => {
            let placement = Placement::Move;
            Ok(Some(Action { placement, size, copy: Some(copy), ..adoption(map, root, path) }))
        }
        Ok(Ok(None)) => Ok(None),
        Ok(Err(detail)) => Err((root, size, detail)),
        Err(error) => Err((root, size, format!("it cannot be looked at: {error}"))),
    }
}

/// What all adoptions have in common.
fn adoption(map: &MapTiers, root: &Root, path: &MediaPath) -> Action {
    Action {
        kind: Kind::Cache,
        map: map.name.as_str().into(),
        path: path.clone(),
        unit: path.clone(),
        title: title(path.stem()).into(),
        rating_key: None,
        media_id: None,
        updated_at: None,
        reasons: Reasons::default(),
        evict_why: None,
        placement: Placement::Hide,
        array_root: root.path.as_path().into(),
        cache_root: map.cache.path.as_path().into(),
        size: 0,
        array: None,
        copy: None,
        checksum: None,
        left_out: false,
    }
}

/// Lets sidecars belong to their videos, by the rule by which `sync` finds them.
fn join_units(actions: &mut [Action]) {
    let mut by_folder: BTreeMap<Option<MediaPath>, Vec<MediaPath>> = BTreeMap::new();
    for action in actions.iter() {
        by_folder.entry(action.path.parent()).or_default().push(action.path.clone());
    }
    for files in by_folder.values() {
        let names: Vec<String> = files.iter().map(|path| path.file_name().to_owned()).collect();
        for video in files {
            let rule = Rule { mode: Sidecars::All, stem: video.stem(), names: &names };
            let is_video = !rule.takes(video.file_name());
            for action in actions.iter_mut().filter(|action| is_video && action.path.parent() == video.parent()) {
                if rule.takes(action.path.file_name()) {
                    action.unit = video.clone();
                    action.title = title(video.stem()).into();
                }
            }
        }
    }
}

/// What people call the file, as near as its name tells: `Andor - S01E01 - Kassa` is `Andor S01E01`.
fn title(stem: &str) -> String {
    let is_number = |text: &str| text.starts_with('S') && text.len() > 4 && text.as_bytes()[1].is_ascii_digit();
    match stem.split_once(" - ").and_then(|(show, rest)| Some((show, rest.split(' ').next()?))) {
        Some((show, number)) if is_number(number) => format!("{show} {number}"),
        _ => stem.to_owned(),
    }
}

fn doubt(map: &MapTiers, root: &Root, path: &MediaPath, size: u64, why: Why, detail: String) -> Skip {
    Skip {
        kind: Kind::Cache,
        map: map.name.as_str().into(),
        path: path.as_str().to_owned(),
        unit: path.as_str().to_owned(),
        title: "".into(),
        array_path: Some(root.path.join(path.as_path())),
        cache_path: Some(map.cache.path.join(path.as_path())),
        size,
        why,
        detail,
        reasons: Reasons::default(),
    }
}
