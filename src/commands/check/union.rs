//! The merged view of a map: whether it shows both tiers, and which of two copies it serves.
//!
//! mergerfs tells its branches and policies, and Unraid's shfs the disk of a file, in extended attributes:
//! reading these wakes no disk. What they cannot tell only a probe proves, which is asked for by `--probe`.

use std::collections::BTreeMap;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::getxattr;

use super::roots::{Opened, first};
use super::{ANSWER_WITHIN, fail, pass, skip, warn};
use crate::config::{Config, Map, Placement};
use crate::history::Index;
use crate::report::Finding;
use crate::tier::{KnownRoot, Leniency, MapTiers, Mount, Mounts, Tier, Tiers, ask_all};
use crate::transfer::probe::{PROBE, Probed, Served, probe};

/// Bytes of one attribute that are read.
const LONGEST: usize = 64 << 10;

/// The merged view as it says of itself.
#[derive(Debug)]
struct View {
    /// Without links.
    real: Utf8PathBuf,
    mount: Mount,
    mergerfs: Option<Mergerfs>,
}

/// Branches and policies of a mergerfs pool, by its attributes `user.mergerfs.*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Mergerfs {
    /// In their order, with their modes.
    branches: Vec<(Utf8PathBuf, String)>,
    open: String,
    getattr: String,
}

/// What is found of the merged view of a map.
pub(super) fn findings(config: &Config, number: usize, opened: &Opened, index: &Index, by_probe: bool) -> Vec<Finding> {
    let map = &config.maps[number];
    if !map.cacheable {
        return vec![pass("merged view", "cacheable = false: nothing is cached here")];
    }
    let mut findings = Vec::new();
    let probed = if by_probe && opened.tiers.is_ok() { run_probe(config, map, index) } else { None };
    let probed = match probed {
        Some(Ok(probed)) => {
            findings.extend(refused(&probed));
            Some(probed)
        }
        Some(Err(error)) => {
            let advice = format!("look for {PROBE} in the roots, and remove it");
            findings.push(fail("probe", format!("it did not end: {error}"), advice));
            None
        }
        None => None,
    };
    let Some(merged) = &map.merged else {
        findings.extend(without(map, number));
        return findings;
    };
    let Some(tiers) = opened.map() else {
        findings.push(first("merged view"));
        return findings;
    };
    let view = match ask_all([merged.clone()], ANSWER_WITHIN, |path| look(&path)).pop() {
        Some(Ok(view)) => view,
        Some(Err(error)) => {
            let advice = format!("mount it, or correct `merged` of [[map]] {}", number + 1);
            findings.push(fail("merged view", format!("{merged} cannot be looked at: {error}"), advice));
            return findings;
        }
        None => return findings,
    };
    match (&view.mergerfs, view.mount.fs_type.as_str()) {
        (Some(pool), _) => findings.extend(of_mergerfs(map, number, tiers, &view, pool)),
        (None, "fuse.shfs") => findings.extend(of_shfs(map, &view)),
        (None, _) if merged.starts_with("/mnt/user") => {
            let detail = format!(
                "{merged} is not Unraid's user share but {}: an exclusive share shows one pool alone",
                view.real
            );
            let advice = "in the share's settings give it both the pool and the array (Primary and Secondary storage)";
            findings.push(fail("merged view", detail, advice));
        }
        (None, fs_type) => {
            let detail = format!("{merged} is on {fs_type}, of which plexcache does not know that it is a union");
            findings.push(warn("merged view", detail, "check --probe shows whether it shows both tiers"));
        }
    }
    if map.placement == Placement::Copy {
        findings.push(served(map, number, &view, probed.as_ref(), index));
    }
    findings
}

/// No merged view: somebody else has to show the cache to Plex.
fn without(map: &Map, number: usize) -> Option<Finding> {
    let detail = format!(
        "placement = \"{}\" without `merged`: Plex sees cached files only if it knows {}",
        map.placement, map.cache
    );
    let advice =
        format!("name the union of both tiers as `merged` of [[map]] {}, or use placement = \"symlink\"", number + 1);
    (map.placement != Placement::Symlink).then(|| warn("merged view", detail, advice))
}

fn look(merged: &Utf8Path) -> io::Result<View> {
    let real = merged.canonicalize_utf8()?;
    let mount = Mounts::read()?.of(&real).cloned().ok_or_else(|| io::Error::other("it is on no mount"))?;
    let mergerfs = (mount.fs_type == "fuse.mergerfs").then(|| Mergerfs::read(&mount.point)).transpose()?;
    Ok(View { real, mount, mergerfs })
}

/// The folders of a union that make up `path`; empty when that cannot be told.
pub(super) fn branches_of(path: &Utf8Path) -> Vec<Utf8PathBuf> {
    let Some(Ok(View { real, mount, mergerfs: Some(pool) })) =
        ask_all([path.to_owned()], ANSWER_WITHIN, |path| look(&path)).pop()
    else {
        return Vec::new();
    };
    let rest = real.strip_prefix(&mount.point).unwrap_or(Utf8Path::new("")).to_owned();
    pool.branches.iter().map(|(branch, _)| if rest == "" { branch.clone() } else { branch.join(&rest) }).collect()
}

impl Mergerfs {
    fn read(point: &Utf8Path) -> io::Result<Self> {
        let control = point.join(".mergerfs");
        let value = |name: &str| attribute(&control, &format!("user.mergerfs.{name}"));
        Ok(Self {
            branches: branches(&value("branches")?),
            open: value("func.open")?,
            getattr: value("func.getattr").unwrap_or_default(),
        })
    }

    /// The place among the branches of the one that `root` is in.
    fn place(&self, root: &Utf8Path) -> Option<usize> {
        self.branches.iter().position(|(branch, _)| root.starts_with(branch))
    }
}

/// `/mnt/ssd=NC:/mnt/disk1=RW,50G`: since 2.25 a branch may say its own least free space.
fn branches(text: &str) -> Vec<(Utf8PathBuf, String)> {
    let branch = |text: &str| match text.rsplit_once('=') {
        Some((path, mode)) => (Utf8PathBuf::from(path), mode.split(',').next().unwrap_or(mode).to_owned()),
        None => (Utf8PathBuf::from(text), "RW".to_owned()),
    };
    text.split(':').filter(|text| !text.is_empty()).map(branch).collect()
}

fn attribute(path: &Utf8Path, name: &str) -> io::Result<String> {
    let mut value = vec![0; LONGEST];
    let length = getxattr(path.as_std_path(), name, &mut value[..])?;
    value.truncate(length);
    Ok(String::from_utf8_lossy(&value).trim_end_matches('\0').to_owned())
}

fn of_mergerfs(map: &Map, number: usize, tiers: &MapTiers, view: &View, pool: &Mergerfs) -> Vec<Finding> {
    let name = "merged view";
    let rest = view.real.strip_prefix(&view.mount.point).unwrap_or(Utf8Path::new(""));
    let mut findings = Vec::new();
    for root in tiers.array.iter().chain([&tiers.cache]) {
        let real = root.path.canonicalize_utf8().unwrap_or_else(|_| root.path.clone());
        let Some((branch, _)) = pool.place(&real).and_then(|place| pool.branches.get(place)) else {
            let detail = format!("the pool {} has no branch for {}", view.mount.point, root.path);
            let advice = match root.tier {
                Tier::Cache => "put the cache first into the pool's branches, as NC: ssd=NC:disk1:disk2",
                Tier::Array => "add the disk to the pool, or take the root out of `array`",
            };
            findings.push(fail(name, detail, advice));
            continue;
        };
        let below = real.strip_prefix(branch).unwrap_or(Utf8Path::new(""));
        if below != rest {
            let right = if below == "" { view.mount.point.clone() } else { view.mount.point.join(below) };
            let detail = format!("{} shows another folder than {}", view.real, root.path);
            findings.push(fail(name, detail, format!("[[map]] {}: merged = \"{right}\"", number + 1)));
        }
    }
    if !findings.is_empty() {
        return findings;
    }
    let modes: Vec<String> = pool.branches.iter().map(|(path, mode)| format!("{path}={mode}")).collect();
    let awake = if pool.getattr == "newest" {
        "; func.getattr=newest asks every disk at each look, so they stay awake (ff does not)"
    } else {
        ""
    };
    findings.push(pass(name, format!("mergerfs with {}{awake}", modes.join(":"))));
    findings.extend(order(map, tiers, pool));
    findings
}

/// Whether the pool serves the cache when both tiers have a file. Only `copy` depends on it.
fn order(map: &Map, tiers: &MapTiers, pool: &Mergerfs) -> Option<Finding> {
    if map.placement != Placement::Copy {
        return None;
    }
    let place = |path: &Utf8Path| pool.place(&path.canonicalize_utf8().unwrap_or_else(|_| path.to_owned()));
    let cache = place(&tiers.cache.path)?;
    let before: Vec<&str> = tiers
        .array
        .iter()
        .filter(|root| place(&root.path).is_some_and(|place| place < cache))
        .filter_map(|root| place(&root.path).map(|place| pool.branches[place].0.as_str()))
        .collect();
    let open = &pool.open;
    Some(match (before.is_empty(), open.as_str()) {
        // `all` takes the first that it finds, too (mergerfs(1), "policy descriptions").
        (true, "ff" | "epff" | "all" | "epall") => {
            pass("branch order", format!("the cache comes first, and func.open={open} takes the first"))
        }
        (true, _) => warn(
            "branch order",
            format!("func.open={open} need not take the first branch, which is the cache"),
            "mount the pool with func.open=ff, or use placement = \"hide\"",
        ),
        (false, _) => fail(
            "branch order",
            format!("{} comes before the cache {}: cached copies are never served", before.join(", "), map.cache),
            "put the cache's branch first (ssd=NC:disk1:disk2), or use placement = \"hide\"",
        ),
    })
}

/// Unraid: the settings of the share say what its mover does with cached files.
fn of_shfs(map: &Map, view: &View) -> Vec<Finding> {
    let share = view.real.strip_prefix("/mnt/user").ok().and_then(|rest| rest.components().next());
    let Some(share) = share.map(|share| share.as_str().to_owned()) else {
        return vec![pass("merged view", "Unraid's user shares")];
    };
    let settings = std::fs::read_to_string(format!("/boot/config/shares/{share}.cfg"));
    vec![match settings {
        Ok(text) => share_finding(map, &share, &text),
        Err(_) => pass("merged view", format!("Unraid's share {share}, with its default settings")),
    }]
}

fn share_finding(map: &Map, share: &str, settings: &str) -> Finding {
    let value = settings
        .lines()
        .filter_map(|line| line.trim().split_once('='))
        .find(|(key, _)| key.trim() == "shareUseCache")
        .map_or("no", |(_, value)| value.trim().trim_matches('"'));
    let name = "merged view";
    let is_copy = map.placement == Placement::Copy;
    match value {
        "prefer" => warn(
            name,
            format!("the mover takes the whole share {share} to the pool (shareUseCache=prefer)"),
            "in the share's settings set the mover's action to Primary -> Secondary, or Primary storage to Array",
        ),
        "only" => warn(
            name,
            format!("the share {share} has its files on the pool alone (shareUseCache=only)"),
            "in the share's settings add the array as Secondary storage",
        ),
        "yes" if !is_copy => warn(
            name,
            format!("the mover takes cached files of the share {share} back to the array (shareUseCache=yes)"),
            "use placement = \"copy\", of which the mover leaves a file alone that the array has",
        ),
        value => pass(name, format!("Unraid's share {share} (shareUseCache={value})")),
    }
}

/// Which copy a reader of the merged view gets: by the probe, else by a file that is cached now.
fn served(map: &Map, number: usize, view: &View, probed: Option<&Probed>, index: &Index) -> Finding {
    let name = "served copy";
    let mend = if view.mergerfs.is_some() {
        "put the cache's branch first (ssd=NC:disk1:disk2) and use func.open=ff, or use placement = \"hide\""
    } else {
        "use placement = \"hide\", which leaves the union no choice"
    };
    match probed.and_then(|probed| probed.served.as_ref()) {
        Some(Ok(Served::Tier(Tier::Cache))) => return pass(name, "the cache's, as a probe showed"),
        Some(Ok(Served::Tier(Tier::Array))) => return fail(name, "the array's, as a probe showed", mend),
        Some(Ok(Served::Neither)) => {
            let advice = format!("correct `merged` of [[map]] {}", number + 1);
            return fail(name, format!("{} shows neither of two probe files", view.real), advice);
        }
        Some(Err(error)) => return fail(name, format!("a probe cannot be read: {error}"), ""),
        None => {}
    }
    let cached = index.cached.values().map(|cached| &cached.action);
    let cached = cached.filter(|action| action.map == map.plex && action.cache_root == map.cache);
    let Some(action) = cached.max_by_key(|action| action.size) else {
        return skip(name, "nothing is cached yet; check --probe shows which one it is");
    };
    let shown = view.real.join(action.path.as_path());
    let question = (shown, view.mergerfs.is_some());
    let ask = |(shown, is_mergerfs): (Utf8PathBuf, bool)| {
        if is_mergerfs {
            return attribute(&shown, "user.mergerfs.fullpath").map(Utf8PathBuf::from);
        }
        // The one disk or pool that shfs reads it from, such as `cache` or `disk3`.
        attribute(&shown, "system.LOCATION").map(|disk| Utf8Path::new("/mnt").join(disk))
    };
    match ask_all([question], ANSWER_WITHIN, ask).pop() {
        Some(Ok(from)) if action.cache_path().starts_with(&from) => {
            pass(name, format!("the cache's, as {} shows", action.path))
        }
        Some(Ok(from)) => fail(name, format!("{} is served from {from}", action.path), mend),
        Some(Err(_)) | None => skip(name, "the union does not tell; check --probe shows which one it is"),
    }
}

/// On roots opened for it alone, so that one that stops to answer meanwhile holds up nothing.
fn run_probe(config: &Config, map: &Map, index: &Index) -> Option<io::Result<Probed>> {
    type Question = (Map, BTreeMap<Utf8PathBuf, KnownRoot>, Leniency);
    let leniency = Leniency { same_device: config.safety.allow_same_device, changed_roots: false };
    let ask = |(map, known, leniency): Question| {
        let tiers = Tiers::open(std::slice::from_ref(&map), &known, leniency).map_err(io::Error::other)?;
        let tiers = tiers.maps.first().ok_or_else(|| io::Error::other("no root"))?;
        let array = tiers.array.first().ok_or_else(|| io::Error::other("no array root"))?;
        Ok(probe(array, &tiers.cache, map.merged.as_deref()))
    };
    ask_all([(map.clone(), index.roots.clone(), leniency)], 2 * ANSWER_WITHIN, ask).pop()
}

/// Where no probe file could be made.
fn refused(probed: &Probed) -> Vec<Finding> {
    if probed.refused.is_empty() {
        return vec![pass("probe", "a file was made on both tiers and removed")];
    }
    let say = |(tier, error): &(Tier, io::Error)| {
        let advice = "run plexcache as root, or mount it for writing; a read-only array is enough for \"copy\"";
        warn("probe", format!("no file can be made on the {}: {error}", tier.word()), advice)
    };
    probed.refused.iter().map(say).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;

    fn map(placement: Placement) -> Map {
        Map {
            plex: "/d".to_owned(),
            array: vec!["/mnt/disk1/m".into()],
            cache: "/mnt/cache/m".into(),
            merged: Some("/mnt/user/m".into()),
            placement,
            cacheable: true,
        }
    }

    #[test]
    fn the_branches_of_a_pool_are_told_with_their_modes() {
        let told = branches("/mnt/ssd=NC:/mnt/disk1=RW,50G:/mnt/a=b=RO:/mnt/plain");
        let told: Vec<(&str, &str)> = told.iter().map(|(path, mode)| (path.as_str(), mode.as_str())).collect();
        let expected = [("/mnt/ssd", "NC"), ("/mnt/disk1", "RW"), ("/mnt/a=b", "RO"), ("/mnt/plain", "RW")];
        assert_eq!(told, expected);
        assert_eq!(branches(""), []);
    }

    #[test]
    fn a_share_whose_mover_works_against_the_map_is_warned_of() {
        let cfg = |value: &str| format!("# Share\r\nshareUseCache=\"{value}\"\r\nshareCachePool=\"cache\"\r\n");
        for (value, placement, verdict) in [
            ("no", Placement::Copy, Verdict::Pass),
            ("yes", Placement::Copy, Verdict::Pass),
            ("yes", Placement::Move, Verdict::Warn),
            ("yes", Placement::Hide, Verdict::Warn),
            ("prefer", Placement::Copy, Verdict::Warn),
            ("only", Placement::Copy, Verdict::Warn),
        ] {
            let finding = share_finding(&map(placement), "m", &cfg(value));
            assert_eq!(finding.verdict, verdict, "{value} {placement}: {finding:?}");
            assert_eq!(finding.advice.is_some(), verdict == Verdict::Warn);
        }
        assert_eq!(share_finding(&map(Placement::Move), "m", "").verdict, Verdict::Pass);
    }

    #[test]
    fn without_a_merged_view_only_links_need_no_warning() {
        for (placement, warns) in
            [(Placement::Copy, true), (Placement::Hide, true), (Placement::Move, true), (Placement::Symlink, false)]
        {
            assert_eq!(without(&map(placement), 0).is_some(), warns, "{placement}");
        }
    }
}
