//! The proof of every map on real items: Plex's path, the file on the array, the same in the merged view.
//!
//! A file that is where its map says, with the size that Plex tells, proves the map for its library. One
//! that is not is looked for everywhere else, and what is found says which line is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::roots::Opened;
use super::search;
use super::server::{Asked, Sample, is_below};
use super::{ANSWER_WITHIN, fail, pass, skip, warn};
use crate::config::{Config, Map, Placement};
use crate::history::Index;
use crate::paths::{MediaPath, PathMap, PlexPath, Unmapped};
use crate::plex::{Library, MediaServer, RatingKey};
use crate::report::{Finding, byte_size};
use crate::select::FileKey;
use crate::setup::proof::{Found, Search, ending_removed, size_at};
use crate::tier::{Folder, ask_all};

/// So many files are looked for in places that no map names; a look wakes every disk.
const SEARCHES: usize = 4;

/// What was found of items, by map.
#[derive(Default)]
pub(super) struct Items {
    by_map: BTreeMap<usize, Vec<Finding>>,
    /// Libraries that no map has.
    pub(super) unmapped: Vec<Finding>,
}

impl Items {
    pub(super) fn of_map(&self, number: usize) -> Vec<Finding> {
        self.by_map.get(&number).cloned().unwrap_or_default()
    }
}

/// What is at a media path below a root.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// A regular file of so many bytes.
    File(u64),
    /// A link or folder.
    Other,
    Absent,
    Trouble(String),
}

/// A sample with a map.
struct Mapped<'a> {
    sample: &'a Sample,
    media: MediaPath,
}

/// Looks for the samples of every library.
pub(super) fn look(config: &Config, index: &Index, opened: &[Opened], asked: Option<&Asked>) -> Items {
    let mut items = Items::default();
    let Some(asked) = asked else {
        for number in 0..config.maps.len() {
            items.by_map.insert(number, vec![skip("item", "cannot be proved without Plex")]);
        }
        return items;
    };
    let Ok(paths) = PathMap::new(config.maps.iter().map(|map| map.plex.as_str())) else { return items };
    let mut prover =
        Prover { config, index, opened, asked, searches: SEARCHES, explained: Vec::new(), silent: BTreeSet::new() };
    let mut unmapped: Vec<&Sample> = Vec::new();
    let mut by_map: BTreeMap<usize, BTreeMap<&str, Vec<Mapped<'_>>>> = BTreeMap::new();
    for sample in &asked.samples {
        match paths.resolve(&sample.file.path) {
            Ok((number, media)) => {
                let libraries = by_map.entry(number).or_default();
                libraries.entry(&sample.library).or_default().push(Mapped { sample, media });
            }
            Err(Unmapped::NoMap(_) | Unmapped::Windows(_)) => unmapped.push(sample),
            // A name that no map could have says nothing of the maps.
            Err(_) => {}
        }
    }
    for (number, map) in config.maps.iter().enumerate() {
        let findings: Vec<Finding> = match by_map.get(&number) {
            Some(libraries) => libraries.values().flat_map(|samples| prover.prove(number, samples)).collect(),
            None => vec![prover.unused(number, map, &unmapped)],
        };
        let links = (map.placement == Placement::Symlink && map.cacheable).then(|| prover.through_links(number, map));
        let findings = findings.into_iter().chain(links).collect();
        items.by_map.insert(number, findings);
    }
    items.unmapped = prover.without_map(&unmapped);
    items
}

struct Prover<'a> {
    config: &'a Config,
    index: &'a Index,
    opened: &'a [Opened],
    asked: &'a Asked,
    searches: usize,
    /// Folders of Plex that a map has under a wrong name, which is said of the map.
    explained: Vec<PlexPath>,
    /// Places that did not answer in time; none is asked again.
    silent: BTreeSet<Utf8PathBuf>,
}

impl Prover<'_> {
    /// Proves a map for one library.
    fn prove(&mut self, number: usize, samples: &[Mapped<'_>]) -> Vec<Finding> {
        let map = &self.config.maps[number];
        let array = &self.opened[number].array;
        let roots: Vec<Utf8PathBuf> = array.iter().chain([&map.cache]).cloned().collect();
        let paths: Vec<MediaPath> = samples.iter().map(|mapped| mapped.media.clone()).collect();
        let seen = self.look_below(&roots, &paths);
        let mut worst = None;
        for (nth, mapped) in samples.iter().enumerate() {
            let seen: Vec<&Seen> = seen.iter().map(|root| &root[nth]).collect();
            match self.judge(number, &roots, mapped, &seen) {
                Ok(at) => return self.proved(number, mapped, &at),
                Err(finding) => worst = worst.or(Some((mapped, finding))),
            }
        }
        let Some((mapped, finding)) = worst else { return Vec::new() };
        vec![finding.unwrap_or_else(|| self.lost(number, mapped))]
    }

    /// Where the sample is. An error without a finding: nowhere.
    fn judge(
        &self,
        number: usize,
        roots: &[Utf8PathBuf],
        mapped: &Mapped<'_>,
        seen: &[&Seen],
    ) -> Result<Utf8PathBuf, Option<Finding>> {
        let map = &self.config.maps[number];
        let Mapped { sample, media } = mapped;
        let key = FileKey { map: map.plex.as_str().into(), path: media.clone() };
        let label = format!("{}: {}", sample.library, sample.label);
        if let Some(action) = self.index.cached.get(&key).map(|cached| &cached.action) {
            let at = action.cache_path();
            return match seen.last() {
                Some(Seen::File(size)) if *size == action.size => Ok(at),
                Some(Seen::Trouble(why)) => {
                    Err(Some(fail("item", format!("{label} cannot be looked for: {why}"), "mend the cache root first")))
                }
                _ => {
                    let detail = format!("{label}: the cached copy {at} is not what it was");
                    Err(Some(warn("item", detail, "the next sync puts that in order; status tells what it knows")))
                }
            };
        }
        // The last root is the cache.
        let on_array = &seen[..seen.len() - 1];
        for (root, seen) in roots.iter().zip(on_array) {
            let at = root.join(media.as_path());
            match (seen, sample.file.size) {
                (Seen::File(size), Some(expected)) if *size != expected => {
                    let detail =
                        format!("{label}: {at} has {}, and Plex says {}", byte_size(*size), byte_size(expected));
                    let advice =
                        "scan the library in Plex if the file was replaced; else the map leads to another folder";
                    return Err(Some(warn("item", detail, advice)));
                }
                (Seen::File(_), _) => return Ok(at),
                (Seen::Other, _) => {
                    let detail = format!("{label}: {at} is a link or a folder, which is never cached");
                    return Err(Some(warn("item", detail, "name the folder that it leads to as a root")));
                }
                (Seen::Absent | Seen::Trouble(_), _) => {}
            }
        }
        match on_array.iter().find_map(|seen| if let Seen::Trouble(why) = seen { Some(why) } else { None }) {
            Some(why) => {
                Err(Some(fail("item", format!("{label} cannot be looked for: {why}"), "mend the roots first")))
            }
            None => Err(None),
        }
    }

    /// What follows once a file of a library is where its map says.
    fn proved(&mut self, number: usize, mapped: &Mapped<'_>, at: &Utf8Path) -> Vec<Finding> {
        let map = &self.config.maps[number];
        let Mapped { sample, media } = mapped;
        let name = format!("{}: {}", sample.library, sample.label);
        let mut findings = vec![pass("item", format!("{name} is {at}"))];
        if let Some(merged) = &map.merged {
            findings.extend(self.shown(number, merged, media, sample));
        }
        // Plex would hang on a dead view as well.
        if map.merged.as_ref().is_none_or(|merged| !self.silent.contains(merged)) {
            findings.extend(self.seen_by_plex(sample));
        }
        findings
    }

    /// Whether Plex itself reads the file.
    fn seen_by_plex(&self, sample: &Sample) -> Option<Finding> {
        let (name, path) = ("seen by Plex", &sample.file.path);
        let mend = "mount the folder into Plex's container, or mend the permissions of the file there";
        Some(if self.can_plex_read(&sample.key, |file| file == path)? {
            pass(name, format!("it reads {path}"))
        } else {
            fail(name, format!("it cannot read {path}"), mend)
        })
    }

    /// Whether Plex can read the file of the item that `is_it` knows; `None` when it does not say.
    fn can_plex_read(&self, key: &RatingKey, is_it: impl Fn(&PlexPath) -> bool) -> Option<bool> {
        let item = self.asked.plex.look_at_files(key).ok()??;
        let mut parts = item.versions.iter().flat_map(|version| &version.parts);
        parts.find(|part| part.file.as_ref().is_some_and(&is_it))?.readable
    }

    /// Whether Plex follows a link to the cache. Only a file that is cached shows it.
    fn through_links(&self, number: usize, map: &Map) -> Finding {
        let name = "links";
        let cached = self.index.cached.values().map(|cached| &cached.action).filter(|action| action.map == map.plex);
        let cached = cached.filter(|action| action.placement == Placement::Symlink);
        let mount =
            format!("mount {0} into Plex's container under the same path, {0}, or use placement = \"copy\"", map.cache);
        for action in cached.take(1) {
            let Some(key) = &action.rating_key else { continue };
            let Ok(paths) = PathMap::new([map.plex.as_str()]) else { continue };
            let is_it = |file: &PlexPath| paths.resolve(file).is_ok_and(|(_, media)| media == action.path);
            match self.can_plex_read(&RatingKey::new(key.as_str()), is_it) {
                Some(true) => return pass(name, format!("Plex reads {} through its link", action.path)),
                Some(false) => {
                    return fail(
                        name,
                        format!("Plex cannot read {} through its link to the cache", action.path),
                        mount,
                    );
                }
                None => {}
            }
        }
        let same_names = self.opened[number].array.iter().any(|root| root == Utf8Path::new(&map.plex));
        if same_names {
            let detail = "Plex names the array as this host does; that it sees the cache, too, cannot be proved before";
            return skip(name, format!("{detail} something is cached"));
        }
        let detail =
            format!("that Plex sees {} under this name cannot be proved before something is cached", map.cache);
        warn(name, detail, format!("{mount}; safety.verify_with_plex asks Plex after the first file"))
    }

    /// The file of the sample is on no root of its map.
    fn lost(&mut self, number: usize, mapped: &Mapped<'_>) -> Finding {
        let map = &self.config.maps[number];
        let Mapped { sample, media } = mapped;
        let at: Vec<String> =
            self.opened[number].array.iter().map(|root| root.join(media.as_path()).into_string()).collect();
        let place = if at.is_empty() { "no array root can be listed".to_owned() } else { at.join(" nor ") };
        let detail = format!("{}: {} of Plex is not at {place}", sample.library, sample.file.path);
        let Some(search) = self.search(sample, number) else {
            return fail("item", detail, "mend the map as with the other items");
        };
        match search.best().or_else(|| search.found.first()) {
            Some(found) if !found.same_size() => {
                let advice = format!("{} is named alike, but has another size", found.at());
                fail("item", detail, advice)
            }
            Some(found) => fail("item", detail, mend(map, number, &self.opened[number].array, found)),
            None => {
                let dead: Vec<&str> = search.trouble.iter().map(|(place, _)| place.as_str()).collect();
                let dead =
                    if dead.is_empty() { String::new() } else { format!("; not looked into: {}", dead.join(", ")) };
                let advice =
                    format!("is a disk missing, or from `array` of [[map]] {}? It was found nowhere{dead}", number + 1);
                fail("item", detail, advice)
            }
        }
    }

    /// A map below whose folder Plex has nothing.
    fn unused(&mut self, number: usize, map: &Map, unmapped: &[&Sample]) -> Finding {
        let libraries = &self.asked.libraries;
        let plex = PlexPath::new(map.plex.as_str());
        let holds = |library: &&Library| {
            library.locations.iter().any(|at| *at == plex || is_below(at, &plex) || is_below(&plex, at))
        };
        if let Some(library) = libraries.iter().find(holds) {
            return skip("item", format!("no item of {} is there yet", library.title));
        }
        let folders: BTreeSet<&str> =
            libraries.iter().flat_map(|library| &library.locations).map(PlexPath::as_str).collect();
        let folders: Vec<&str> = folders.into_iter().collect();
        let detail = format!("no library of Plex has its folder at or below {}", map.plex);
        for sample in unmapped {
            let Some(search) = self.search(sample, number) else { break };
            let Some(found) = search.best() else { continue };
            let array = &self.opened[number].array;
            if let Some(folder) = array.iter().find_map(|root| found.plex_for(root)) {
                let advice = format!(
                    "[[map]] {}: plex = \"{folder}\"; there {} of Plex is {}",
                    number + 1,
                    sample.file.path,
                    found.at()
                );
                self.explained.push(PlexPath::new(folder));
                return fail("item", detail, advice);
            }
        }
        let advice = format!("correct `plex` of [[map]] {}; Plex has: {}", number + 1, folders.join(", "));
        fail("item", detail, advice)
    }

    /// Libraries of which no map knows: left alone, which may be meant.
    fn without_map(&mut self, unmapped: &[&Sample]) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut told = BTreeSet::new();
        for sample in unmapped {
            if self.explained.iter().any(|folder| is_below(&sample.file.path, folder)) {
                continue;
            }
            let library = self.asked.libraries.iter().find(|library| library.title == sample.library);
            let folder =
                library.and_then(|library| library.locations.iter().find(|at| is_below(&sample.file.path, at)));
            let folder = folder.map_or(sample.file.path.as_str(), PlexPath::as_str);
            if !told.insert(folder.to_owned()) {
                continue;
            }
            let add =
                |plex: &str, root: &Utf8Path| format!("add a [[map]] with plex = \"{plex}\" and array = [\"{root}\"]");
            let search = self.search(sample, 0);
            let found = search.as_ref().and_then(Search::best);
            let advice = match found.map(|found| (found.root_for(folder), found.pair())) {
                Some((Some(root), _)) => add(folder, &root),
                Some((None, (plex, root))) => add(&plex, &root),
                None => "add a [[map]] with this `plex`, or leave the library out by select.libraries".to_owned(),
            };
            findings.push(warn(
                "library",
                format!("{}: no [[map]] has {folder}; it is left alone", sample.library),
                advice,
            ));
        }
        findings
    }

    /// The same file through the merged view.
    fn shown(&mut self, number: usize, merged: &Utf8Path, media: &MediaPath, sample: &Sample) -> Option<Finding> {
        let at = merged.join(media.as_path());
        let name = "merged item";
        if self.silent.contains(merged) {
            return Some(skip(name, format!("{merged} does not answer")));
        }
        let answer = ask_all([at.clone()], ANSWER_WITHIN, |at| size_at(&at)).pop()?;
        Some(match answer {
            Ok(Some(size)) if sample.file.size.is_none_or(|expected| expected == size) => {
                pass(name, format!("{at} is the same"))
            }
            Ok(Some(size)) => {
                let detail = format!("{at} has {}, another size than Plex says", byte_size(size));
                fail(name, detail, format!("`merged` of [[map]] {} has to show the array's folder", number + 1))
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::TimedOut {
                    self.silent.insert(merged.to_owned());
                }
                fail(name, format!("{at} cannot be looked at: {error}"), "is the union mounted, and its daemon well?")
            }
            Ok(None) => {
                let places = merged.ancestors().take(3).filter(|place| place.parent().is_some());
                let places: Vec<Utf8PathBuf> = places.map(Utf8Path::to_owned).collect();
                let search = search::of_places(&sample.file, &places);
                let root = search.best().and_then(|found| ending_removed(found.at(), media.as_path()));
                let advice = match root {
                    Some(root) => format!("[[map]] {}: merged = \"{root}\"", number + 1),
                    None => format!("`merged` of [[map]] {} has to show the array's folder", number + 1),
                };
                fail(name, format!("{at} does not exist"), advice)
            }
        })
    }

    /// What is at every media path below every root.
    fn look_below(&mut self, roots: &[Utf8PathBuf], paths: &[MediaPath]) -> Vec<Vec<Seen>> {
        let (silent, asked): (Vec<_>, Vec<_>) = roots.iter().partition(|root| self.silent.contains(*root));
        let questions = asked.iter().map(|root| ((*root).clone(), paths.to_vec()));
        let mut seen: BTreeMap<&Utf8PathBuf, Vec<Seen>> = BTreeMap::new();
        for (root, answer) in asked.iter().zip(ask_all(questions, ANSWER_WITHIN, look_at)) {
            let answer = answer.unwrap_or_else(|error| {
                if error.kind() == io::ErrorKind::TimedOut {
                    self.silent.insert((*root).clone());
                }
                vec![Seen::Trouble(format!("{root}: {error}")); paths.len()]
            });
            seen.insert(root, answer);
        }
        for root in silent {
            seen.insert(root, vec![Seen::Trouble(format!("{root} does not answer")); paths.len()]);
        }
        roots.iter().filter_map(|root| seen.get(root).cloned()).collect()
    }

    /// Looks everywhere, as often as may be.
    fn search(&mut self, sample: &Sample, number: usize) -> Option<Search> {
        self.searches = self.searches.checked_sub(1)?;
        let mut roots = self.opened[number].array.clone();
        roots.extend(self.opened.iter().flat_map(|opened| opened.array.iter().cloned()));
        let search = search::everywhere(&sample.file, self.config, &roots, &self.silent);
        let silent = search.trouble.iter().filter(|(_, error)| error.kind() == io::ErrorKind::TimedOut);
        self.silent.extend(silent.map(|(place, _)| place.clone()));
        Some(search)
    }
}

/// Which line of a map would have to be otherwise for this file to be found.
fn mend(map: &Map, number: usize, array: &[Utf8PathBuf], found: &Found) -> String {
    let at = format!("the file is {}", found.at());
    let number = number + 1;
    if found.at().starts_with(&map.cache) {
        return format!("{at}, below the cache root: are `array` and `cache` of [[map]] {number} exchanged?");
    }
    if let Some(folder) = array.iter().find_map(|root| found.plex_for(root)) {
        return format!("{at}; [[map]] {number}: plex = \"{folder}\"");
    }
    if let Some(root) = found.root_for(&map.plex) {
        return format!("{at}; [[map]] {number}: \"{root}\" belongs into `array`");
    }
    let (plex, root) = found.pair();
    format!("{at}; [[map]] {number}: plex = \"{plex}\" and array = [\"{root}\"]")
}

/// What is at every media path below a root.
fn look_at((root, paths): (Utf8PathBuf, Vec<MediaPath>)) -> io::Result<Vec<Seen>> {
    let folder = Folder::open_root(&root)?;
    let look = |path: &MediaPath| match folder.stat_below(path) {
        Ok(Some(stat)) if stat.is_file() => Seen::File(stat.size),
        Ok(Some(_)) => Seen::Other,
        Ok(None) => Seen::Absent,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Seen::Absent,
        Err(error) => Seen::Trouble(format!("{}: {error}", root.join(path.as_path()))),
    };
    Ok(paths.iter().map(look).collect())
}
