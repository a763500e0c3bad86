//! The roots of a map: whether a run would take them, and what room and which rights it finds there.
//!
//! The judgement is that of [`Tiers::open`], which every run relies on; nothing is judged twice.

use std::collections::BTreeMap;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{Access, AtFlags, accessat};
use rustix::io::Errno;

use super::{ANSWER_WITHIN, fail, pass, skip, union, warn};
use crate::config::{Config, Map, Placement};
use crate::history::Index;
use crate::report::{Finding, byte_size};
use crate::tier::{Folder, KnownRoot, Leniency, MapTiers, RootError, Space, Tier, Tiers, ask_all};

/// The roots of one map.
pub(super) struct Opened {
    /// Those on the array, with patterns expanded, whether they can be used or not.
    pub(super) array: Vec<Utf8PathBuf>,
    /// Opened, or why a run would refuse them.
    pub(super) tiers: Result<Tiers, RootError>,
}

impl Opened {
    pub(super) fn map(&self) -> Option<&MapTiers> {
        self.tiers.as_ref().ok().and_then(|tiers| tiers.maps.first())
    }
}

/// Opens the roots of every map by itself, all at once.
pub(super) fn open(config: &Config, index: &Index) -> Vec<Opened> {
    type Question = (Map, BTreeMap<Utf8PathBuf, KnownRoot>, Leniency);
    let leniency = Leniency { same_device: config.safety.allow_same_device, changed_roots: false };
    let questions = config.maps.iter().map(|map| (map.clone(), index.roots.clone(), leniency));
    let ask = |(map, known, leniency): Question| {
        let tiers = Tiers::open(std::slice::from_ref(&map), &known, leniency);
        Ok(Opened { array: map.array_roots().unwrap_or_default(), tiers })
    };
    // Two questions of a run's patience are in it: for the patterns and for the roots.
    let answers = ask_all(questions, 2 * ANSWER_WITHIN, ask);
    let opened = answers.into_iter().zip(&config.maps).map(|(answer, map)| {
        answer.unwrap_or_else(|source| {
            let path = map.array.first().cloned().unwrap_or_default();
            Opened { array: Vec::new(), tiers: Err(RootError::Open { tier: Tier::Array, path, source }) }
        })
    });
    opened.collect()
}

/// What is found of the roots of a map.
pub(super) fn findings(config: &Config, number: usize, opened: &Opened, index: &Index) -> Vec<Finding> {
    let map = &config.maps[number];
    let mut findings = Vec::new();
    let tiers = match (&opened.tiers, opened.map()) {
        (Err(error), _) => {
            findings.push(fail("roots", error.to_string(), advice(map, number, error)));
            return findings;
        }
        (Ok(_), None) => return findings,
        (Ok(_), Some(tiers)) => tiers,
    };
    findings.push(roots(tiers));
    findings.extend(on_system_disk(tiers));
    let roots: Vec<_> = tiers.array.iter().chain([&tiers.cache]).collect();
    let folders: Vec<Folder> = match roots.iter().map(|root| root.folder.again()).collect() {
        Ok(folders) => folders,
        Err(error) => {
            let error: io::Error = error;
            findings.push(fail("rights", error.to_string(), ""));
            return findings;
        }
    };
    let answers = ask_all(folders, ANSWER_WITHIN, |folder| Ok((is_writable(&folder)?, folder.space()?)));
    let mut denied = Vec::new();
    for (root, answer) in roots.iter().zip(answers) {
        match answer {
            Err(error) => findings.push(fail("rights", format!("{} cannot be asked: {error}", root.path), "")),
            Ok((writable, space)) => {
                // An original is not touched in `copy`, so its disk may be read-only.
                if !writable && (root.tier == Tier::Cache || map.placement != Placement::Copy) {
                    denied.push(root.path.as_str());
                }
                if root.tier == Tier::Cache {
                    findings.extend(room(config, root.path.as_path(), space, index));
                }
            }
        }
    }
    findings.push(if denied.is_empty() {
        pass("rights", "files can be made where they have to be")
    } else {
        let advice = "run plexcache as root, or mount it for writing";
        fail("rights", format!("no file can be made in {}", denied.join(", ")), advice)
    });
    findings
}

fn roots(tiers: &MapTiers) -> Finding {
    let with_type = |root: &crate::tier::Root| format!("{} ({})", root.path, root.mount.fs_type);
    let array: Vec<String> = tiers.array.iter().map(with_type).collect();
    let new = tiers.array.iter().chain([&tiers.cache]).any(|root| root.is_new);
    let marks = if new { "; the first sync puts a marker on them" } else { "" };
    pass("roots", format!("array {}, cache {}{marks}", array.join(", "), with_type(&tiers.cache)))
}

/// What to do about roots that a run refuses, as concretely as can be said.
fn advice(map: &Map, number: usize, error: &RootError) -> String {
    match error {
        RootError::Union { tier: Tier::Array, path, .. } => match union::branches_of(path) {
            branches if branches.is_empty() => error.hint().to_owned(),
            branches => {
                let branches = branches.iter().filter(|branch| !map.cache.starts_with(branch));
                let named: Vec<String> = branches.map(|branch| format!("\"{branch}\"")).collect();
                let merged = if map.merged.is_none() { format!(", and merged = \"{path}\"") } else { String::new() };
                format!("[[map]] {}: array = [{}]{merged}", number + 1, named.join(", "))
            }
        },
        error => format!("[[map]] {}: {}", number + 1, error.hint()),
    }
}

/// A cache that is a folder of the system's disk may be the empty mount point of an SSD. One that has
/// its marker is no such thing.
fn on_system_disk(tiers: &MapTiers) -> Option<Finding> {
    let system = Folder::open_root(Utf8Path::new("/")).and_then(|root| root.stat_self()).ok()?.dev;
    let is_new = tiers.cache.is_new && tiers.cache.dev == system;
    (is_new && tiers.array.iter().all(|root| root.dev != system)).then(|| {
        let detail = format!("the cache root {} is on the system's own disk", tiers.cache.path);
        warn("mounts", detail, "is the SSD mounted? If the system's disk is meant, there is nothing to do")
    })
}

/// Whether this user may make files in the folder.
fn is_writable(folder: &Folder) -> io::Result<bool> {
    match accessat(folder, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) => Ok(true),
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Room on the cache: bytes by `[limits]`, and inodes.
fn room(config: &Config, cache: &Utf8Path, space: Space, index: &Index) -> Vec<Finding> {
    let here = index.cached.values().map(|cached| &cached.action).filter(|action| action.cache_root.as_path() == cache);
    let owned = here.fold(0_u64, |sum, action| sum.saturating_add(action.size));
    let (free, least) = (space.free, config.limits.min_free.of(space.total));
    let detail = format!(
        "{} free of {} on {cache}; limits.min_free leaves {}",
        byte_size(free),
        byte_size(space.total),
        byte_size(least)
    );
    let mut findings = Vec::new();
    findings.push(if free.saturating_add(owned) <= least {
        let lacking = byte_size(least.saturating_sub(free.saturating_add(owned)));
        let advice = format!("free more than {lacking} there, or lower limits.min_free: nothing can be cached now");
        fail("space", detail, advice)
    } else {
        pass("space", detail)
    });
    match space.free_inodes {
        Some(0) => findings.push(fail("inodes", format!("none is free on {cache}"), "remove small files there")),
        Some(few @ 1..1000) => {
            findings.push(warn("inodes", format!("only {few} are free on {cache}"), "remove small files there"));
        }
        Some(_) | None => {}
    }
    findings
}

/// Says that the roots have to be mended first.
pub(super) fn first(name: &'static str) -> Finding {
    skip(name, "the roots have to be right first")
}
