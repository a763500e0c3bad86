//! The files of an item: which versions count, and where their parts lie below the maps.
//!
//! Owns what is a unit: all parts of one version, or none of them. A version that lacks a file, has
//! one outside every map, or matches `select.exclude` is no unit; the first two are noted, each path
//! and each item once, so that the report can say why something is not cached. No file is looked at.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::want::FileKey;
use crate::config::{Select, Versions};
use crate::paths::{PathMap, Unmapped};
use crate::plex::{Item, Version};

/// All files of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// In the order of play, at least one.
    pub(super) parts: Vec<FileKey>,
    pub(super) media_id: Option<String>,
}

/// Finds units, and notes what cannot be one.
pub(super) struct Finder<'a> {
    maps: &'a PathMap,
    names: &'a [String],
    select: &'a Select,
    /// By Plex's path: the title, and why it has no place here.
    pub(super) unmapped: BTreeMap<String, (String, Unmapped)>,
    /// By title.
    pub(super) unusable: BTreeMap<String, &'static str>,
}

impl<'a> Finder<'a> {
    /// `names` are the maps' names in the order in which `maps` was made of them.
    pub(super) fn new(maps: &'a PathMap, names: &'a [String], select: &'a Select) -> Self {
        Self { maps, names, select, unmapped: BTreeMap::new(), unusable: BTreeMap::new() }
    }

    /// The units of `item` that `select.versions` asks for.
    pub(super) fn units(&mut self, item: &Item) -> Vec<Unit> {
        if let Some(why) = why_unusable(item) {
            self.unusable.insert(item.label(), why);
            return Vec::new();
        }
        let mut found: Vec<(&Version, Unit)> = Vec::new();
        for version in item.versions.iter().filter(|version| has_files(version)) {
            if let Some(parts) = self.parts(item, version) {
                let media_id = Some(version.media_id.clone()).filter(|id| !id.is_empty());
                found.push((version, Unit { parts, media_id }));
            }
        }
        // What cannot be cached is out of the choice: its smaller sibling is better than nothing.
        let chosen = match self.select.versions {
            Versions::All => return found.into_iter().map(|(_, unit)| unit).collect(),
            Versions::Largest => found.into_iter().max_by_key(|(version, unit)| (extent(version), Reverse(id(unit)))),
            Versions::Smallest => found.into_iter().min_by_key(|(version, unit)| {
                let (size, height, bitrate) = extent(version);
                (size.unwrap_or(u64::MAX), height, bitrate, id(unit))
            }),
        };
        chosen.map(|(_, unit)| unit).into_iter().collect()
    }

    /// Where all parts of the version are; `None` when one of them has no place or is excluded.
    fn parts(&mut self, item: &Item, version: &Version) -> Option<Vec<FileKey>> {
        let mut parts = Vec::new();
        let mut seen = BTreeSet::new();
        for path in version.parts.iter().filter_map(|part| part.file.as_ref()) {
            match self.maps.resolve(path) {
                Ok((index, media)) => {
                    let map = self.names.get(index).expect("every map has a name").into();
                    let key = FileKey { map, path: media };
                    if seen.insert(key.clone()) {
                        parts.push(key);
                    }
                }
                Err(why) => {
                    let title = item.label();
                    let noted = self.unmapped.entry(path.as_str().to_owned()).or_insert((title.clone(), why));
                    // One file may belong to several items; the answer's order must not choose.
                    if title < noted.0 {
                        noted.0 = title;
                    }
                    return None;
                }
            }
        }
        parts.shrink_to_fit();
        let excluded = parts.iter().any(|part| self.excludes(part));
        (!parts.is_empty() && !excluded).then_some(parts)
    }

    /// Whether `select.exclude` says that this is never wanted.
    pub(super) fn excludes(&self, key: &FileKey) -> bool {
        self.select.exclude.is_match(key.path.as_str())
    }
}

/// Whether there is a file of it that could be cached, wherever it lies.
pub(super) fn is_usable(item: &Item) -> bool {
    why_unusable(item).is_none()
}

fn why_unusable(item: &Item) -> Option<&'static str> {
    if item.deleted {
        Some("in Plex's trash: its file is gone")
    } else if item.versions.iter().any(has_files) {
        None
    } else if item.versions.iter().any(|version| version.deleted) {
        Some("every version of it is in Plex's trash")
    } else {
        Some("Plex names no file of it")
    }
}

/// Whether every part has a file and it is not one of Plex's own optimized copies.
fn has_files(version: &Version) -> bool {
    let whole = !version.parts.is_empty() && version.parts.iter().all(|part| part.file.is_some());
    whole && !version.optimized && !version.deleted
}

/// Bytes (`None` when not all are known), lines and bitrate.
fn extent(version: &Version) -> (Option<u64>, Option<i64>, Option<i64>) {
    let size = version.parts.iter().try_fold(0_u64, |sum, part| Some(sum.saturating_add(part.size?)));
    (size, version.height, version.bitrate)
}

fn id(unit: &Unit) -> (Option<String>, FileKey) {
    (unit.media_id.clone(), unit.parts.first().expect("a unit has at least one part").clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Globs;
    use crate::paths::PlexPath;
    use crate::plex::{ItemKind, Part, RatingKey};

    fn version(id: &str, files: &[&str], size: u64) -> Version {
        let part = |file: &&str| Part {
            file: Some(*file).filter(|file| !file.is_empty()).map(PlexPath::new),
            size: Some(size).filter(|&size| size > 0),
            ..Part::default()
        };
        Version { media_id: id.to_owned(), parts: files.iter().map(part).collect(), ..Version::default() }
    }

    fn movie(versions: &[Version]) -> Item {
        Item { versions: versions.to_vec(), ..Item::new(RatingKey::new("1"), ItemKind::Movie, "Dune") }
    }

    /// What is found for an item, as media ids and paths; what is unmapped; what is unusable.
    fn find(select: &Select, item: &Item) -> (Vec<String>, Vec<String>, Vec<&'static str>) {
        let maps = PathMap::new(["/data"]).unwrap();
        let names = ["/data".to_owned()];
        let mut finder = Finder::new(&maps, &names, select);
        let show = |unit: Unit| {
            let parts: Vec<&str> = unit.parts.iter().map(|part| part.path.as_str()).collect();
            format!("{}:{}", unit.media_id.unwrap_or_default(), parts.join("+"))
        };
        let units = finder.units(item).into_iter().map(show).collect();
        (units, finder.unmapped.into_keys().collect(), finder.unusable.into_values().collect())
    }

    #[test]
    fn all_parts_of_a_version_are_one_unit() {
        let item = movie(&[version("1", &["/data/cd1.avi", "/data/cd2.avi", "/data/cd2.avi"], 1)]);
        assert_eq!(find(&Select::default(), &item).0, ["1:cd1.avi+cd2.avi"]);
    }

    #[test]
    fn versions_are_chosen_among_those_that_can_be_cached() {
        let item = movie(&[
            version("1", &["/data/hd.mkv"], 5),
            version("2", &["/data/uhd.mkv"], 50),
            version("3", &["/elsewhere/8k.mkv"], 500),
            Version { optimized: true, ..version("4", &["/data/Plex Versions/tiny.mp4"], 1) },
            Version { deleted: true, ..version("5", &["/data/gone.mkv"], 1) },
            version("6", &["/data/cd1.avi", ""], 1),
            version("7", &["/data/recording.ts"], 0),
        ]);
        for (versions, expected) in [
            (Versions::All, &["1:hd.mkv", "2:uhd.mkv", "7:recording.ts"][..]),
            (Versions::Largest, &["2:uhd.mkv"]),
            (Versions::Smallest, &["1:hd.mkv"]),
        ] {
            let (units, unmapped, unusable) = find(&Select { versions, ..Select::default() }, &item);
            assert_eq!(units, expected);
            assert_eq!(unmapped, ["/elsewhere/8k.mkv"]);
            assert!(unusable.is_empty());
        }
    }

    #[test]
    fn equal_versions_are_told_apart_by_their_ids_whatever_their_order() {
        let mut versions = [version("1", &["/data/a.mkv"], 5), version("2", &["/data/b.mkv"], 5)];
        for _ in 0..2 {
            for choice in [Versions::Largest, Versions::Smallest] {
                let select = Select { versions: choice, ..Select::default() };
                assert_eq!(find(&select, &movie(&versions)).0, ["1:a.mkv"]);
            }
            versions.reverse();
        }
    }

    #[test]
    fn an_item_without_a_file_says_why() {
        let gone = version("1", &["/data/a.mkv"], 1);
        for (item, why) in [
            (movie(&[]), "Plex names no file of it"),
            (movie(&[version("1", &[], 1)]), "Plex names no file of it"),
            (movie(&[version("1", &[""], 1)]), "Plex names no file of it"),
            (movie(&[Version { deleted: true, ..gone.clone() }]), "every version of it is in Plex's trash"),
            (Item { deleted: true, ..movie(&[gone]) }, "in Plex's trash: its file is gone"),
        ] {
            assert_eq!(find(&Select::default(), &item), (Vec::new(), Vec::new(), vec![why]));
        }
    }

    #[test]
    fn a_version_is_excluded_when_one_of_its_parts_is() {
        let select = Select { exclude: Globs::new(["**/Kids/**"]).unwrap(), ..Select::default() };
        let item = movie(&[
            version("1", &["/data/Films/Kids/a.mkv"], 1),
            version("2", &["/data/Films/b.mkv", "/data/Films/Kids/b2.mkv"], 1),
            version("3", &["/data/Films/c.mkv"], 1),
        ]);
        assert_eq!(find(&select, &item), (vec!["3:Films/c.mkv".to_owned()], Vec::new(), Vec::new()));
    }

    #[test]
    fn a_version_with_a_part_outside_every_map_is_no_unit() {
        let item = movie(&[version("1", &["/data/cd1.avi", "/other/../cd2.avi"], 1)]);
        let (units, unmapped, _) = find(&Select::default(), &item);
        assert!(units.is_empty());
        assert_eq!(unmapped, ["/other/../cd2.avi"]);
    }
}
