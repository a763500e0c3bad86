//! One `[[map]]`: where a folder of Plex is on each tier.
//!
//! Owns the rules about roots that can be told from their names alone: absolute, apart from each
//! other within a map and between maps, and never a user share. What only the file system can tell
//! (mounts, links, markers) is checked where the roots are opened.

use std::cmp::Ordering;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use globset::{GlobBuilder, GlobMatcher};

use super::ConfigError;
use super::file::{Document, MapEntry};
use super::values::Placement;
use crate::paths::PathMap;

/// The views of Unraid in which several disks appear as one. A file there is on no disk in particular.
const USER_SHARES: [&str; 3] = ["/mnt/user", "/mnt/user0", "/mnt/rootshare"];

/// Where a folder of Plex is on the array, on the cache and in the merged view.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// Plex's name for the folder, absolute, in Unix or Windows form.
    pub plex: String,
    /// Its root or roots on the array, as written: with globs. See [`Map::array_roots`].
    pub array: Vec<Utf8PathBuf>,
    /// Its root on the cache.
    pub cache: Utf8PathBuf,
    /// The union of both.
    pub merged: Option<Utf8PathBuf>,
    pub placement: Placement,
    /// Whether anything is cached; otherwise the folder is only known.
    pub cacheable: bool,
}

impl Map {
    /// The roots on the array, with globs expanded against the file system: in the order of the
    /// patterns, each one's matches in natural order (`disk2` before `disk10`), none twice.
    ///
    /// A path without a glob is returned whether it exists or not.
    ///
    /// # Errors
    /// A directory cannot be read, a name that matches is not UTF-8, or a glob matches no directory:
    /// disks that are not mounted must look like "stop", never like "empty".
    pub fn array_roots(&self) -> io::Result<Vec<Utf8PathBuf>> {
        let mut roots = Vec::new();
        for pattern in &self.array {
            for root in expand(pattern)? {
                if !roots.contains(&root) {
                    roots.push(root);
                }
            }
        }
        Ok(roots)
    }
}

/// Checks the maps of the file, alone and against each other.
pub(super) fn checked(entries: Vec<MapEntry>, document: &Document<'_>) -> Result<Vec<Map>, ConfigError> {
    let mut maps: Vec<Map> = Vec::new();
    let mut folders: Vec<Vec<String>> = Vec::new();
    let mut roots: Vec<Root> = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let number = index.to_string();
        let at = |key: &str, message: String| document.error(&["map", &number, key], message);
        let missing =
            |key: &str, what: &str| document.error(&["map", &number], format!("`{key}` is missing, expected {what}"));

        let plex = entry.plex.ok_or_else(|| missing("plex", "Plex's path of the folder"))?;
        let Some(folder) = plex_folder(&plex) else {
            return Err(at(
                "plex",
                format!("found \"{plex}\", expected an absolute path, `/data/media` or `D:\\Media`"),
            ));
        };
        if let Some(other) = folders.iter().position(|known| *known == folder) {
            let other = other + 1;
            return Err(at("plex", format!("found \"{plex}\", expected another folder than that of [[map]] {other}")));
        }

        if entry.array.is_empty() {
            return Err(missing("array", "a list of directories"));
        }
        let cache = entry.cache.ok_or_else(|| missing("cache", "a directory"))?.0;
        let array: Vec<Utf8PathBuf> = entry.array.into_iter().map(|path| path.0).collect();
        for (key, path) in array.iter().map(|path| ("array", path)).chain([("cache", &cache)]) {
            let root = Root::new(index, key, path)
                .map_err(|expected| at(key, format!("found \"{path}\", expected {expected}")))?;
            if let Some(share) = root.user_share() {
                return Err(at(key, format!("found \"{path}\", expected a directory outside {share}")).with_hint(
                    "name the directories on the disks themselves, such as /mnt/disk1/media and /mnt/cache/media; \
                     the user share is the `merged` view",
                ));
            }
            if let Some(other) = roots.iter().find(|other| other.overlaps(&root)) {
                let message = format!("found \"{path}\", expected a directory apart from {}", other.described(index));
                return Err(at(key, message));
            }
            roots.push(root);
        }

        let merged = entry.merged.map(|path| path.0);
        let placement = entry.placement.unwrap_or(match merged {
            Some(_) => Placement::Copy,
            None => Placement::Symlink,
        });
        folders.push(folder);
        maps.push(Map { plex, array, cache, merged, placement, cacheable: entry.cacheable.unwrap_or(true) });
    }
    for (index, map) in maps.iter().enumerate() {
        let Some(merged) = &map.merged else { continue };
        let view = Root::literal(index, "merged", merged);
        if let Some(root) = roots.iter().find(|root| root.is_same(&view)) {
            let message =
                format!("found \"{merged}\", expected the merged view, which is not {}", root.described(index));
            return Err(document.error(&["map", &index.to_string(), "merged"], message));
        }
    }
    Ok(maps)
}

/// The components of a folder of Plex in a form in which equal folders are equal.
fn plex_folder(text: &str) -> Option<Vec<String>> {
    // Whether it is absolute, and in which form, is known there alone.
    PathMap::new([text]).ok()?;
    let components: Vec<String> = if text.starts_with('/') {
        text.split('/').map(str::to_owned).collect()
    } else {
        text.split(['/', '\\']).map(str::to_lowercase).collect()
    };
    let leads_elsewhere = components.iter().any(|c| c == "." || c == ".." || c.contains('\0'));
    let form = if text.starts_with('/') { "/" } else { "\\" };
    let kept = components.into_iter().filter(|c| !c.is_empty());
    (!leads_elsewhere).then(|| [form.to_owned()].into_iter().chain(kept).collect())
}

/// A root as far as its name tells.
struct Root {
    map: usize,
    key: &'static str,
    path: Utf8PathBuf,
    components: Vec<Component>,
}

enum Component {
    Name(String),
    Glob(GlobMatcher),
}

impl Root {
    /// Only roots on the array may have globs. The error says what was expected.
    fn new(map: usize, key: &'static str, path: &Utf8Path) -> Result<Self, &'static str> {
        if path == "/" {
            return Err("a directory below `/`");
        }
        if key != "array" {
            return Ok(Self::literal(map, key, path));
        }
        let components = names(path)
            .map(|name| match glob(name) {
                None => Ok(Component::Name(name.to_owned())),
                Some(glob) => glob.map(Component::Glob),
            })
            .collect::<Result<_, _>>()
            .map_err(|_| "a glob with every `[` and `{` closed within one component")?;
        Ok(Self { map, key, path: path.to_owned(), components })
    }

    fn literal(map: usize, key: &'static str, path: &Utf8Path) -> Self {
        let components = names(path).map(|name| Component::Name(name.to_owned())).collect();
        Self { map, key, path: path.to_owned(), components }
    }

    /// Whether one may lie in the other. Of two different globs only the file system can tell.
    fn overlaps(&self, other: &Self) -> bool {
        self.components.iter().zip(&other.components).all(|(a, b)| a.may_be(b))
    }

    fn is_same(&self, other: &Self) -> bool {
        self.components.len() == other.components.len() && self.overlaps(other)
    }

    fn user_share(&self) -> Option<&'static str> {
        USER_SHARES.into_iter().find(|share| {
            let share = Self::literal(0, "", Utf8Path::new(share));
            share.components.len() <= self.components.len() && self.overlaps(&share)
        })
    }

    fn described(&self, seen_from: usize) -> String {
        let Self { key, path, .. } = self;
        if self.map == seen_from {
            format!("its `{key}` \"{path}\"")
        } else {
            format!("`{key}` \"{path}\" of [[map]] {}", self.map + 1)
        }
    }
}

impl Component {
    fn may_be(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a == b,
            (Self::Glob(glob), Self::Name(name)) | (Self::Name(name), Self::Glob(glob)) => glob.is_match(name),
            (Self::Glob(a), Self::Glob(b)) => a.glob() == b.glob(),
        }
    }
}

/// The components of an absolute path, below `/`.
fn names(path: &Utf8Path) -> impl Iterator<Item = &str> {
    path.as_str().split('/').filter(|name| !name.is_empty())
}

/// The matcher for a component, when it is a glob.
fn glob(name: &str) -> Option<Result<GlobMatcher, globset::Error>> {
    let build = || GlobBuilder::new(name).literal_separator(true).build().map(|glob| glob.compile_matcher());
    name.contains(['*', '?', '[', '{']).then(build)
}

/// The directories that `pattern` matches, or `pattern` itself when it has no glob.
fn expand(pattern: &Utf8Path) -> io::Result<Vec<Utf8PathBuf>> {
    let mut found = vec![Utf8PathBuf::from("/")];
    let mut globbed = false;
    for name in names(pattern) {
        let Some(glob) = glob(name) else {
            for path in &mut found {
                path.push(name);
            }
            continue;
        };
        let glob = glob.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut matches = Vec::new();
        for parent in found {
            match entries(&parent, &glob) {
                Ok(names) => matches.extend(names.into_iter().map(|name| parent.join(name))),
                // Below a glob, what matches so far need not have the rest of the path.
                Err(error) if globbed && is_no_directory(&error) => {}
                Err(error) => return Err(io::Error::new(error.kind(), format!("{parent}: {error}"))),
            }
        }
        found = matches;
        globbed = true;
    }
    if !globbed {
        return Ok(found);
    }
    let mut roots = Vec::new();
    for path in found {
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => roots.push(path),
            Ok(_) => {}
            Err(error) if is_no_directory(&error) => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("{path}: {error}"))),
        }
    }
    if roots.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{pattern} matches no directory")));
    }
    roots.sort_by(|a, b| natural(a.as_str(), b.as_str()));
    Ok(roots)
}

fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The names in `directory` that match, hidden ones only when the glob begins with a dot.
fn entries(directory: &Utf8Path, glob: &GlobMatcher) -> io::Result<Vec<String>> {
    let mut matches = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let shown = name.to_string_lossy();
        if !glob.is_match(&*shown) || (shown.starts_with('.') && !glob.glob().glob().starts_with('.')) {
            continue;
        }
        match name.into_string() {
            Ok(name) => matches.push(name),
            Err(name) => {
                let message = format!("the name {} is not UTF-8", name.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
    }
    Ok(matches)
}

/// Compares as people count: runs of digits by their value.
fn natural(a: &str, b: &str) -> Ordering {
    fn key(text: &str) -> Vec<(bool, usize, &str)> {
        let mut chunks = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let number = first.is_ascii_digit();
            let end = rest.find(|c: char| c.is_ascii_digit() != number).unwrap_or(rest.len());
            let (chunk, tail) = rest.split_at(end);
            let digits = chunk.trim_start_matches('0');
            chunks.push(if number { (false, digits.len(), digits) } else { (true, 0, chunk) });
            rest = tail;
        }
        chunks
    }
    key(a).cmp(&key(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn check(toml: &str) -> Result<Vec<Map>, ConfigError> {
        let document = Document::parse(Utf8Path::new("c.toml"), toml)?;
        checked(document.typed()?.map, &document)
    }

    fn maps(entries: &[(&str, &str, &str)]) -> String {
        let mut text = String::new();
        for (plex, array, cache) in entries {
            writeln!(text, "[[map]]\nplex = '{plex}'\narray = [{array}]\ncache = '{cache}'").unwrap();
        }
        text
    }

    #[test]
    fn the_placement_follows_from_the_merged_view_unless_it_is_named() {
        let map = "[[map]]\nplex = \"/d\"\narray = [\"/a/\"]\ncache = \"/b//c/.\"\n";
        for (more, placement) in [
            ("", Placement::Symlink),
            ("merged = \"/m\"", Placement::Copy),
            ("merged = \"/m\"\nplacement = \"move\"", Placement::Move),
            ("placement = \"copy\"", Placement::Copy),
        ] {
            let maps = check(&format!("{map}{more}")).unwrap();
            assert_eq!(maps[0].placement, placement);
            assert_eq!((maps[0].array[0].as_str(), maps[0].cache.as_str()), ("/a", "/b/c"));
            assert!(maps[0].cacheable);
        }
    }

    #[test]
    fn roots_must_be_apart() {
        for (entries, expected) in [
            (
                vec![("/d", "'/a'", "/a")],
                "c.toml:4: [[map]] cache: found \"/a\", expected a directory apart from its `array` \"/a\"",
            ),
            (vec![("/d", "'/a'", "/a/b")], "c.toml:4: [[map]] cache: "),
            (vec![("/d", "'/a/b'", "/a")], "c.toml:4: [[map]] cache: "),
            (vec![("/d", "'/a', '/a/b'", "/c")], "c.toml:3: [[map]] array: "),
            (
                vec![("/d", "'/a'", "/b"), ("/e", "'/b/c'", "/f")],
                "c.toml:7: [[map]] array: found \"/b/c\", expected a directory apart from `cache` \"/b\" of [[map]] 1",
            ),
            (vec![("/d", "'/a'", "/b"), ("/e", "'/c'", "/b")], "c.toml:8: [[map]] cache: "),
            (vec![("/d", "'/mnt/disk*/m'", "/mnt/disk_ssd/m")], "c.toml:4: [[map]] cache: "),
            (vec![("/d", "'/mnt/disk*/m'", "/b"), ("/e", "'/mnt/disk*/m/x'", "/c")], "c.toml:7: [[map]] array: "),
            (vec![("/d", "'/'", "/b")], "c.toml:3: [[map]] array: found \"/\", expected a directory below `/`"),
            (vec![("/d", "'/a[/m'", "/b")], "c.toml:3: [[map]] array: found \"/a[/m\", expected a glob"),
        ] {
            let error = check(&maps(&entries)).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        for entries in [
            vec![("/d", "'/a'", "/ab")],
            vec![("/d", "'/mnt/disk*/tv'", "/mnt/cache/tv"), ("/e", "'/mnt/disk*/films'", "/mnt/cache/films")],
        ] {
            assert!(check(&maps(&entries)).is_ok(), "{entries:?}");
        }
    }

    #[test]
    fn a_user_share_is_no_root() {
        for path in ["/mnt/user", "/mnt/user/media", "/mnt/user0/media", "/mnt/rootshare", "/mnt/*/media"] {
            let error = check(&maps(&[("/d", &format!("'{path}'"), "/b")])).unwrap_err();
            assert!(error.to_string().contains("expected a directory outside /mnt/"), "{error}");
            assert!(error.hint().unwrap().contains("/mnt/disk1/media"));
        }
        assert!(check(&maps(&[("/d", "'/a'", "/mnt/user/media")])).is_err());
        assert!(check(&maps(&[("/d", "'/mnt/users/media'", "/mnt/cache/media")])).is_ok());
    }

    #[test]
    fn the_merged_view_is_no_root_of_any_map() {
        for merged in ["/a", "/b", "/c"] {
            let text = maps(&[("/d", "'/a'", "/b"), ("/e", "'/c'", "/f")]) + &format!("merged = '{merged}'\n");
            let error = check(&text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("c.toml:9: [[map]] merged: found \"{merged}\"")), "{error}");
        }
    }

    #[test]
    fn plex_folders_are_absolute_and_unique() {
        for (a, b, good) in [
            ("/data", "/data/tv", true),
            ("/data", "/data/", false),
            ("/data//tv", "/data/tv", false),
            ("/data", "/Data", true),
            (r"D:\Media", "d:/media/", false),
            (r"\\nas\tv", r"\\NAS\tv", false),
            (r"D:\Media", r"E:\Media", true),
            ("/data", "media", false),
            ("/data", "/data/../etc", false),
        ] {
            let result = check(&maps(&[(a, "'/a'", "/b"), (b, "'/c'", "/f")]));
            assert_eq!(result.is_ok(), good, "{a} {b}");
            if let Err(error) = result {
                assert!(error.to_string().starts_with("c.toml:6: [[map]] plex: "), "{error}");
            }
        }
    }

    #[test]
    fn what_is_missing_is_named_with_the_line_of_its_map() {
        for (text, message) in [
            ("[[map]]\ncache = '/b'", "c.toml:1: [[map]]: `plex` is missing"),
            ("\n[[map]]\nplex = '/d'\narray = ['/a']", "c.toml:2: [[map]]: `cache` is missing"),
            ("[[map]]\nplex = '/d'\ncache = '/b'\narray = []", "c.toml:1: [[map]]: `array` is missing"),
        ] {
            let error = check(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn globs_expand_in_natural_order_to_directories_only() {
        let temp = tempfile::tempdir().unwrap();
        let base = Utf8PathBuf::try_from(temp.path().to_owned()).unwrap();
        for directory in ["disk10/m", "disk2/m", "disk1/m", "disk3", "disks", ".disk/m", "other/m"] {
            #[expect(clippy::disallowed_methods, reason = "the test's own directory")]
            std::fs::create_dir_all(base.join(directory)).unwrap();
        }
        for file in ["disk4", "disks/m"] {
            std::fs::OpenOptions::new().write(true).create_new(true).open(base.join(file)).unwrap();
        }
        let roots = |patterns: &[&str]| {
            let map = Map {
                plex: "/d".into(),
                array: patterns.iter().map(|pattern| base.join(pattern)).collect(),
                cache: "/c".into(),
                merged: None,
                placement: Placement::Copy,
                cacheable: true,
            };
            let below = |root: Utf8PathBuf| root.strip_prefix(&base).unwrap().to_string();
            map.array_roots().map(|roots| roots.into_iter().map(below).collect::<Vec<_>>())
        };
        assert_eq!(roots(&["disk*/m"]).unwrap(), ["disk1/m", "disk2/m", "disk10/m"]);
        assert_eq!(roots(&["disk?/m", "missing", "disk*/m"]).unwrap(), ["disk1/m", "disk2/m", "missing", "disk10/m"]);
        assert_eq!(roots(&["disk[12]/*"]).unwrap(), ["disk1/m", "disk2/m"]);
        assert_eq!(roots(&["{other,disk1}/m"]).unwrap(), ["disk1/m", "other/m"]);
        assert_eq!(roots(&["nothing*/m"]).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(roots(&["missing/disk*"]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn numbers_in_names_are_compared_by_value() {
        let mut names = ["disk10", "disk2", "disk02", "disk", "disk1a", "disk1"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["disk", "disk1", "disk1a", "disk02", "disk2", "disk10"]);
    }
}
