//! The names of a file: as Plex says it, and below a map's roots.
//!
//! Owns the translation from the one to the other. Everything that Plex says is untrusted: a
//! [`MediaPath`] can only be made from a text that has no `..`, no `.`, no empty component and no
//! NUL, so joined to a root it never leads out of it. Prefixes are compared by whole components and
//! the longest wins. Pure: no file is looked at here.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::shared::Text;

/// The longest path that is accepted, in bytes (`PATH_MAX` of Linux).
const MAX_PATH: usize = 4096;

/// A path in the words of the Plex server: foreign text, absolute, of Unix or Windows form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlexPath(String);

impl PlexPath {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PlexPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path below the roots of a map: relative, UTF-8, without `.`, `..` or empty components. Ordered by its
/// components, so that what is in a folder stays together.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Text")]
pub struct MediaPath(Text);

// One path has one text, so the text is all there is to compare; a path type would take it apart each time.
impl PartialEq for MediaPath {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for MediaPath {}

impl Hash for MediaPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Ord for MediaPath {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.as_str().as_bytes(), other.as_str().as_bytes());
        match first_difference(a, b).map(|at| (a[at], b[at])) {
            // The end of a component is before everything that could follow within it.
            Some((b'/', _)) => Ordering::Less,
            Some((_, b'/')) => Ordering::Greater,
            Some((a, b)) => a.cmp(&b),
            None => a.len().cmp(&b.len()),
        }
    }
}

/// Where two texts have different bytes; `None` when one begins with all of the other.
fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    // What they have in common is most of it, and passed over a word at a time.
    let (a_words, b_words) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let words = a_words.iter().zip(b_words).map(|(a, b)| u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b));
    if let Some((word, bits)) = words.enumerate().find(|(_, bits)| *bits != 0) {
        return Some(8 * word + bits.trailing_zeros() as usize / 8);
    }
    let common = 8 * a_words.len().min(b_words.len());
    Some(common + a[common..].iter().zip(&b[common..]).position(|(a, b)| a != b)?)
}

impl PartialOrd for MediaPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl MediaPath {
    /// Checks `text` and takes it as a path below a root.
    ///
    /// # Errors
    /// Says which rule it breaks: empty, absolute, too long, a NUL, or a component `.`, `..` or "".
    pub fn parse(text: &str) -> Result<Self, BadPath> {
        check(text)?;
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub fn as_path(&self) -> &Utf8Path {
        Utf8Path::new(self.as_str())
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.as_path().file_name().expect("a media path has at least one component")
    }

    /// The file name without its last extension.
    pub fn stem(&self) -> &str {
        self.as_path().file_stem().expect("a media path has at least one component")
    }

    /// The folder that holds it; `None` when that is the root itself.
    pub fn parent(&self) -> Option<MediaPath> {
        match self.as_path().parent() {
            Some(parent) if !parent.as_str().is_empty() => Some(Self(parent.as_str().into())),
            _ => None,
        }
    }

    /// The path of `name` in the same folder.
    ///
    /// # Errors
    /// `name` is not a single harmless component.
    pub fn sibling(&self, name: &str) -> Result<MediaPath, BadPath> {
        match self.parent() {
            Some(parent) => parent.join(name),
            None => MediaPath::parse(name),
        }
    }

    /// The path of `below` under this one taken as a folder.
    ///
    /// # Errors
    /// `below` is not a harmless relative path.
    pub fn join(&self, below: &str) -> Result<MediaPath, BadPath> {
        Self::parse(&format!("{}/{below}", self.0))
    }

    /// Whether it is `other` or lies in the folder `other`.
    pub fn is_in(&self, other: &MediaPath) -> bool {
        self.as_path().starts_with(other.as_path())
    }
}

impl fmt::Display for MediaPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<Text> for MediaPath {
    type Error = BadPath;

    fn try_from(text: Text) -> Result<Self, BadPath> {
        check(&text)?;
        Ok(Self(text))
    }
}

/// Which rule of a path below a root `text` breaks.
fn check(text: &str) -> Result<(), BadPath> {
    if text.is_empty() {
        return Err(BadPath::Empty);
    }
    if text.len() > MAX_PATH {
        return Err(BadPath::TooLong);
    }
    text.split('/').try_for_each(|component| match component {
        "" => Err(BadPath::EmptyComponent),
        "." | ".." => Err(BadPath::Dots),
        _ if component.contains('\0') => Err(BadPath::Nul),
        _ => Ok(()),
    })
}

/// Why a text is no path below a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("the path is empty")]
    Empty,
    #[error("the path is longer than {MAX_PATH} bytes")]
    TooLong,
    #[error("the path has an empty component")]
    EmptyComponent,
    #[error("the path has a component `.` or `..`")]
    Dots,
    #[error("the path has a NUL")]
    Nul,
}

/// Why a path of Plex has no place below the configured roots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmapped {
    /// No map's `plex` is a prefix of it.
    #[error("no [[map]] has a `plex` folder that contains {0}")]
    NoMap(PlexPath),
    /// It is not absolute, or it is Plex's folder itself.
    #[error("{0} is not an absolute path of a file")]
    NotAbsolute(PlexPath),
    /// A server on Windows, and no map in Windows form.
    #[error("{0} is a Windows path and no [[map]] has its `plex` folder in that form")]
    Windows(PlexPath),
    /// It would lead somewhere else, or cannot be a name here.
    #[error("{path}: {why}")]
    Bad { path: PlexPath, why: BadPath },
    /// The server sent bytes that are not UTF-8; the name cannot be known.
    #[error("{0} holds bytes that are not UTF-8")]
    NotUtf8(PlexPath),
}

/// The `plex` folder of a map, taken apart once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Prefix {
    windows: bool,
    components: Vec<String>,
}

impl Prefix {
    /// `None` when the text is no absolute path in either form.
    fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix('/') {
            let components = rest.split('/').filter(|c| !c.is_empty()).map(str::to_owned).collect();
            return Some(Self { windows: false, components });
        }
        is_windows(text).then(|| Self {
            windows: true,
            components: text.split(['\\', '/']).filter(|c| !c.is_empty()).map(str::to_owned).collect(),
        })
    }

    /// What follows this prefix in `components`, when it is one.
    fn strip<'a, 'b>(&self, components: &'a [&'b str]) -> Option<&'a [&'b str]> {
        let (head, rest) = components.split_at_checked(self.components.len())?;
        // Windows names are not case sensitive, and servers write drive letters either way.
        let same = head
            .iter()
            .zip(&self.components)
            .all(|(a, b)| if self.windows { a.to_lowercase() == b.to_lowercase() } else { a == b });
        same.then_some(rest)
    }
}

/// Whether `text` is an absolute path in Windows form: `D:\…`, `D:/…` or `\\server\…`.
fn is_windows(text: &str) -> bool {
    let bytes = text.as_bytes();
    text.starts_with(r"\\")
        || (bytes.len() >= 3 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' && matches!(bytes[2], b'\\' | b'/'))
}

/// All maps' `plex` folders: finds the map of a path.
#[derive(Debug, Clone, Default)]
pub struct PathMap {
    prefixes: Vec<Prefix>,
}

impl PathMap {
    /// Takes the `plex` folders in the order of the maps.
    ///
    /// # Errors
    /// The index of the first one that is not an absolute path.
    pub fn new<'a>(plex_folders: impl IntoIterator<Item = &'a str>) -> Result<Self, usize> {
        let prefixes = plex_folders
            .into_iter()
            .enumerate()
            .map(|(index, folder)| Prefix::parse(folder).ok_or(index))
            .collect::<Result<_, _>>()?;
        Ok(Self { prefixes })
    }

    /// The index of the map whose `plex` folder is the longest prefix of `path`, and the media path
    /// below it.
    ///
    /// # Errors
    /// Why the path has no place below any root.
    pub fn resolve(&self, path: &PlexPath) -> Result<(usize, MediaPath), Unmapped> {
        let text = path.as_str();
        if text.contains('\u{fffd}') {
            return Err(Unmapped::NotUtf8(path.clone()));
        }
        let windows = !text.starts_with('/') && is_windows(text);
        let components: Vec<&str> = if windows {
            text.trim_start_matches('\\').split(['\\', '/']).collect()
        } else {
            text.strip_prefix('/').ok_or_else(|| Unmapped::NotAbsolute(path.clone()))?.split('/').collect()
        };
        let best = self
            .prefixes
            .iter()
            .enumerate()
            .filter(|(_, prefix)| prefix.windows == windows)
            .filter_map(|(index, prefix)| Some((prefix.components.len(), index, prefix.strip(&components)?)))
            .max_by_key(|(length, index, _)| (*length, std::cmp::Reverse(*index)));
        let Some((_, index, rest)) = best else {
            let why = if windows { Unmapped::Windows } else { Unmapped::NoMap };
            return Err(why(path.clone()));
        };
        if rest.is_empty() {
            return Err(Unmapped::NotAbsolute(path.clone()));
        }
        match MediaPath::parse(&rest.join("/")) {
            Ok(media) => Ok((index, media)),
            Err(why) => Err(Unmapped::Bad { path: path.clone(), why }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(folders: &[&str], path: &str) -> Result<(usize, String), Unmapped> {
        let map = PathMap::new(folders.iter().copied()).unwrap();
        map.resolve(&PlexPath::new(path)).map(|(index, media)| (index, media.as_str().to_owned()))
    }

    proptest::proptest! {
        #[test]
        fn media_paths_are_ordered_as_their_components_are(
            common in "[a-c]{0,20}",
            a in "[a-c /\\-.é]{0,9}",
            b in "[a-c /\\-.é]{0,9}",
        ) {
            let parsed = [&a, &b].map(|rest| MediaPath::parse(&format!("{common}{rest}")));
            if let [Ok(one), Ok(other)] = parsed {
                proptest::prop_assert_eq!(one.cmp(&other), one.as_path().cmp(other.as_path()), "{} {}", a, b);
                proptest::prop_assert_eq!(one == other, one.as_path() == other.as_path());
            }
        }
    }

    #[test]
    fn the_longest_prefix_wins_on_component_boundaries() {
        let folders = ["/data", "/data/media", "/data/media/TV", "/"];
        for (path, index, media) in [
            ("/data/media/TV/a.mkv", 2, "a.mkv"),
            ("/data/media/TVs/a.mkv", 1, "TVs/a.mkv"),
            ("/data/mediafiles/a.mkv", 0, "mediafiles/a.mkv"),
            ("/database/a.mkv", 3, "database/a.mkv"),
        ] {
            assert_eq!(resolve(&folders, path), Ok((index, media.to_owned())), "{path}");
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let folders = ["/data/media"];
        for path in ["/data/media/../etc/passwd", "/data/media/a/../../b", "/data/media/./a", "/data/media//a"] {
            assert!(matches!(resolve(&folders, path), Err(Unmapped::Bad { .. })), "{path}");
        }
        assert!(matches!(resolve(&folders, "/data/media/a\0b"), Err(Unmapped::Bad { .. })));
        assert!(matches!(resolve(&folders, "/other/a"), Err(Unmapped::NoMap(_))));
        assert!(matches!(resolve(&folders, "data/media/a"), Err(Unmapped::NotAbsolute(_))));
        assert!(matches!(resolve(&folders, "/data/media"), Err(Unmapped::NotAbsolute(_))));
        assert!(matches!(resolve(&folders, "/data/media/a\u{fffd}.mkv"), Err(Unmapped::NotUtf8(_))));
        assert!(matches!(resolve(&folders, r"D:\media\a"), Err(Unmapped::Windows(_))));
    }

    #[test]
    fn a_windows_server_is_mapped_by_a_windows_prefix() {
        let folders = [r"D:\Media", r"\\nas\films", "/data"];
        assert_eq!(resolve(&folders, r"d:\media\TV\a.mkv"), Ok((0, "TV/a.mkv".to_owned())));
        assert_eq!(resolve(&folders, r"\\NAS\films\b.mkv"), Ok((1, "b.mkv".to_owned())));
        assert!(matches!(resolve(&folders, r"D:\Media\..\a.mkv"), Err(Unmapped::Bad { .. })));
    }

    #[test]
    fn a_backslash_is_part_of_a_name_on_a_unix_server() {
        assert_eq!(resolve(&["/data"], r"/data/AC\DC.mkv"), Ok((0, r"AC\DC.mkv".to_owned())));
    }

    proptest::proptest! {
        #[test]
        fn a_mapped_path_never_leaves_its_root(path in "/(data|media|\\.|\\.\\.|/|a|\\\\|\u{0}){0,12}") {
            if let Ok((_, media)) = resolve(&["/data", "/data/media"], &path) {
                proptest::prop_assert!(!media.starts_with('/'));
                proptest::prop_assert!(media.split('/').all(|c| !matches!(c, "" | "." | "..")));
            }
        }
    }
}
