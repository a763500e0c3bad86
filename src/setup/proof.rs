//! The proof of a map: where on this host a file of Plex's is, and which pair of folders explains that.
//!
//! Plex knows a file as `/data/tv/a/b/c.mkv`; here it is `/mnt/disk2/tv/a/b/c.mkv`. Both names end alike,
//! and where they begin to differ a map has to translate. Owns the search for the second name below
//! roots that might have it, and the arithmetic of both. Refuses what Plex says when it could lead out of
//! a root, by the rules of [`PathMap`]. Knows of disks only what it is told by whoever looks for it.

use std::cmp::Reverse;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::paths::{MediaPath, PathMap, PlexPath, Unmapped};

/// So many folders above a file are tried as the one that a map names. Libraries have two to six.
const DEEPEST: usize = 32;

/// A file as Plex knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlexFile {
    pub path: PlexPath,
    /// Bytes; `None` while Plex does not know.
    pub size: Option<u64>,
}

/// A file of this host that ends in the same names as one of Plex's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    plex: PlexPath,
    at: Utf8PathBuf,
    agreement: usize,
    same_size: bool,
}

/// What a search came to.
#[derive(Debug, Default)]
pub struct Search {
    /// The most convincing first, no path twice.
    pub found: Vec<Found>,
    /// Roots that could not be looked into, and why: nothing is known of what they hold.
    pub trouble: Vec<(Utf8PathBuf, io::Error)>,
}

/// Looks for `file` below each of `roots`, under every ending of its path, the longest first.
///
/// `look` gives the bytes of the regular file at a path, and `None` when there is none; see [`size_at`].
///
/// # Errors
/// Why the path of Plex can be no file of this host.
pub fn find(
    file: &PlexFile,
    roots: &[Utf8PathBuf],
    look: impl Fn(&Utf8Path) -> io::Result<Option<u64>>,
) -> Result<Search, Unmapped> {
    let endings = endings(&file.path)?;
    let mut search = Search::default();
    for root in roots {
        for ending in &endings {
            let at = root.join(ending.as_path());
            match look(&at) {
                Ok(None) => {}
                Ok(Some(size)) => {
                    let same_size = file.size == Some(size);
                    let agreement = common(&file.path, &at);
                    search.found.push(Found { plex: file.path.clone(), at, agreement, same_size });
                    if same_size {
                        break;
                    }
                }
                Err(error) => {
                    search.trouble.push((root.clone(), error));
                    break;
                }
            }
        }
    }
    search.settle();
    Ok(search)
}

/// The bytes of the regular file at `path`, as [`find`] wants to know them. A link is followed, because
/// Plex follows it.
///
/// # Errors
/// It cannot be told whether there is one.
pub fn size_at(path: &Utf8Path) -> io::Result<Option<u64>> {
    match std::fs::metadata(path) {
        Ok(meta) => Ok(meta.is_file().then_some(meta.len())),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => Ok(None),
            _ => Err(error),
        },
    }
}

impl Search {
    /// Adds what another search for the same file came to, such as one in other roots at the same time.
    pub fn join(&mut self, other: Self) {
        self.found.extend(other.found);
        self.trouble.extend(other.trouble);
        self.settle();
    }

    /// The file, when one was found of whose size there is no doubt.
    pub fn best(&self) -> Option<&Found> {
        self.found.first().filter(|found| found.same_size)
    }

    fn settle(&mut self) {
        self.found.sort_by_key(|found| (!found.same_size, Reverse(found.agreement)));
        let mut seen = std::collections::BTreeSet::new();
        self.found.retain(|found| seen.insert(found.at.clone()));
    }
}

impl Found {
    /// Where it is.
    pub fn at(&self) -> &Utf8Path {
        &self.at
    }

    /// Whether it has the size that Plex tells. A file of another size is only of the same name.
    pub fn same_size(&self) -> bool {
        self.same_size
    }

    /// How many names, from the last one on, both paths have in common.
    pub fn agreement(&self) -> usize {
        self.agreement
    }

    /// The root that belongs to this folder of Plex: what a map with this `plex` has to name.
    /// `None` when no root makes this file of it.
    pub fn root_for(&self, plex: &str) -> Option<Utf8PathBuf> {
        let below = PathMap::new([plex]).ok()?.resolve(&self.plex).ok()?.1;
        let root = ending_removed(&self.at, below.as_path())?;
        Some(root.to_owned())
    }

    /// The folder of Plex that belongs to this root: what a map with this root has to name as `plex`,
    /// in Plex's own spelling. `None` when no folder makes this file of it.
    pub fn plex_for(&self, root: &Utf8Path) -> Option<String> {
        let below = self.at.strip_prefix(root).ok()?;
        folders(&self.plex)
            .find(|folder| {
                let rest = PathMap::new([*folder]).ok().and_then(|map| map.resolve(&self.plex).ok());
                rest.is_some_and(|(_, media)| media.as_path() == below)
            })
            .map(str::to_owned)
    }

    /// The two folders up to which the paths differ: `/data` and `/mnt/disk2` for the example above.
    /// Any pair of folders below them that are named alike is as right.
    pub fn pair(&self) -> (String, Utf8PathBuf) {
        let depth = self.agreement.max(1);
        let root = self.at.ancestors().nth(depth).unwrap_or(Utf8Path::new("/")).to_owned();
        let plex = self.plex_for(&root).unwrap_or_else(|| self.plex.as_str().to_owned());
        (plex, root)
    }
}

/// What can follow a folder that a map names, the longest first.
fn endings(path: &PlexPath) -> Result<Vec<MediaPath>, Unmapped> {
    let all = folders(path).map(|folder| match PathMap::new([folder]) {
        Ok(map) => map.resolve(path).map(|(_, media)| Some(media)),
        Err(_) => Ok(None),
    });
    let endings = all.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
    if endings.is_empty() {
        return Err(Unmapped::NotAbsolute(path.clone()));
    }
    Ok(endings)
}

/// The folders above a file of Plex's, in its own spelling, the one nearest the file last.
fn folders(path: &PlexPath) -> impl Iterator<Item = &str> {
    let text = path.as_str();
    let is_unix = text.starts_with('/');
    let separators = text.match_indices(move |c| c == '/' || (c == '\\' && !is_unix));
    let above: Vec<&str> = separators
        .filter_map(|(at, _)| match (&text[..at], is_unix) {
            ("", true) => Some("/"),
            // Of a Windows path the drive needs its backslash, and `\\` before a server is no folder.
            ("" | "\\", false) => None,
            (drive, false) if drive.ends_with(':') => Some(&text[..=at]),
            (folder, _) => Some(folder),
        })
        .collect();
    let superfluous = above.len().saturating_sub(DEEPEST);
    above.into_iter().skip(superfluous)
}

/// How many names both paths have in common, from the last one on.
fn common(plex: &PlexPath, at: &Utf8Path) -> usize {
    let is_unix = plex.as_str().starts_with('/');
    let names = plex.as_str().rsplit(move |c| c == '/' || (c == '\\' && !is_unix));
    let ours = at.as_str().rsplit('/');
    names.zip(ours).take_while(|(a, b)| a == b && !a.is_empty()).count()
}

/// `path` without `ending`, when it ends in it.
pub(crate) fn ending_removed<'p>(path: &'p Utf8Path, ending: &Utf8Path) -> Option<&'p Utf8Path> {
    path.ends_with(ending).then(|| path.ancestors().nth(ending.components().count())).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str, size: u64) -> PlexFile {
        PlexFile { path: PlexPath::new(path), size: Some(size) }
    }

    fn search(plex: &PlexFile, roots: &[&str], files: &[(&str, u64)]) -> Search {
        let roots: Vec<Utf8PathBuf> = roots.iter().map(Utf8PathBuf::from).collect();
        find(plex, &roots, |path| {
            if path.starts_with("/dead") {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Ok(files.iter().find(|(name, _)| path == Utf8Path::new(name)).map(|(_, size)| *size))
        })
        .unwrap()
    }

    #[test]
    fn a_file_is_found_below_whichever_root_has_an_ending_of_its_path() {
        let plex = file("/data/tv/a/b/c.mkv", 7);
        for (root, at, pair) in [
            ("/mnt/disk2/tv", "/mnt/disk2/tv/a/b/c.mkv", ("/data", "/mnt/disk2")),
            ("/mnt/disk2", "/mnt/disk2/tv/a/b/c.mkv", ("/data", "/mnt/disk2")),
            ("/mnt/disk2/Series", "/mnt/disk2/Series/a/b/c.mkv", ("/data/tv", "/mnt/disk2/Series")),
            ("/data", "/data/tv/a/b/c.mkv", ("/", "/")),
            ("/flat", "/flat/c.mkv", ("/data/tv/a/b", "/flat")),
        ] {
            let search = search(&plex, &["/mnt/empty", root], &[(at, 7)]);
            let found = search.best().unwrap();
            assert_eq!((found.at().as_str(), found.same_size()), (at, true));
            let (folder, root) = found.pair();
            assert_eq!((folder.as_str(), root.as_str()), pair, "{at}");
        }
    }

    #[test]
    fn what_a_map_should_say_follows_from_the_half_of_it_that_is_right() {
        let found = search(&file("/data/tv/a/c.mkv", 7), &["/mnt/d/tv"], &[("/mnt/d/tv/a/c.mkv", 7)]).found.remove(0);
        let root = |plex| found.root_for(plex).map(Utf8PathBuf::into_string);
        let plex = |root| found.plex_for(Utf8Path::new(root));
        for (folder, expected) in [
            ("/data/tv", Some("/mnt/d/tv")),
            ("/data", Some("/mnt/d")),
            ("/data/tv/a", Some("/mnt/d/tv/a")),
            ("/", None),
            ("/media", None),
        ] {
            assert_eq!(root(folder).as_deref(), expected, "{folder}");
        }
        for (root, expected) in
            [("/mnt/d/tv", Some("/data/tv")), ("/mnt/d", Some("/data")), ("/mnt", None), ("/mnt/e", None)]
        {
            assert_eq!(plex(root).as_deref(), expected, "{root}");
        }
    }

    #[test]
    fn a_file_of_the_right_size_and_the_longer_ending_convinces_more() {
        let files = [("/one/c.mkv", 7), ("/two/a/c.mkv", 7), ("/three/tv/a/c.mkv", 8)];
        let plex = file("/data/tv/a/c.mkv", 7);
        let looked = search(&plex, &["/three", "/one", "/two", "/one"], &files);
        let order: Vec<&str> = looked.found.iter().map(|found| found.at().as_str()).collect();
        assert_eq!(order, ["/two/a/c.mkv", "/one/c.mkv", "/three/tv/a/c.mkv"]);
        let unknown = PlexFile { size: None, ..plex };
        assert!(search(&unknown, &["/two"], &files).best().is_none(), "a size that nobody knows");
    }

    #[test]
    fn a_root_that_cannot_be_looked_into_is_trouble_and_no_absence() {
        let plex = file("/data/a/c.mkv", 7);
        let mut dead = search(&plex, &["/dead"], &[]);
        assert_eq!((dead.found.len(), dead.trouble.len()), (0, 1));
        dead.join(search(&plex, &["/x"], &[("/x/a/c.mkv", 7)]));
        assert_eq!((dead.best().unwrap().at().as_str(), dead.trouble.len()), ("/x/a/c.mkv", 1));
    }

    #[test]
    fn a_windows_server_is_explained_in_its_own_spelling() {
        for (path, root, at, folder) in [
            (r"D:\Media\TV\a.mkv", "/srv/TV", "/srv/TV/a.mkv", r"D:\Media\TV"),
            (r"D:\Media\TV\a.mkv", "/srv/b", "/srv/b/Media/TV/a.mkv", r"D:\"),
            (r"\\nas\films\b\a.mkv", "/srv/films", "/srv/films/b/a.mkv", r"\\nas\films"),
        ] {
            let found = search(&file(path, 1), &[root], &[(at, 1)]).found.remove(0);
            assert_eq!(found.plex_for(Utf8Path::new(root)).as_deref(), Some(folder), "{path}");
            assert_eq!(found.root_for(folder).as_deref(), Some(Utf8Path::new(root)), "{path}");
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_not_looked_for() {
        for path in ["/data/../etc/passwd", "data/a.mkv", "/data//a.mkv", "/", "", "/data/a\u{fffd}.mkv"] {
            let looked = find(&file(path, 1), &["/mnt".into()], |path| panic!("looked at {path}"));
            assert!(looked.is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn nothing_outside_a_root_is_looked_at_and_pairs_translate(path in "/?([a-c.]{1,2}[/\\\\]?){0,6}") {
            let roots = ["/r/a".into(), "/r".into()];
            let inside = |path: &Utf8Path| {
                assert!(path.starts_with("/r") && !path.components().any(|c| c.as_str() == ".."));
                Ok(Some(1))
            };
            if let Ok(search) = find(&file(&path, 1), &roots, inside) {
                for found in search.found {
                    let (plex, root) = found.pair();
                    prop_assert_eq!(found.root_for(&plex), Some(root), "{}", path);
                }
            }
        }
    }
}
