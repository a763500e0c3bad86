//! Globs on media paths, and the pins that are made of them.
//!
//! Owns the rules of matching, the same for every key: all of the path must match, a star stays
//! within a component. A pattern that does not compile is refused where it stands in its list.

use globset::{Glob, GlobBuilder, GlobSet};
use serde::Deserialize;
use serde::de::Deserializer;

use super::values::{BadValue, text};

const GLOB: &str = "a glob such as `**/Kids/**`, with every `[` and `{` closed";
const PIN: &str = "a glob such as `**/Kids/**` or `plex:RATINGKEY` with the number of an item";

/// Globs on media paths. `*` and `?` stay within a component, `**` crosses them.
#[derive(Debug, Clone, Default)]
pub struct Globs {
    patterns: Vec<String>,
    set: GlobSet,
}

impl Globs {
    /// Compiles `patterns`.
    ///
    /// # Errors
    /// The first pattern that is no glob.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, BadValue> {
        patterns.into_iter().map(|text| Pattern::parse(text, GLOB)).collect::<Result<Vec<_>, _>>().map(Self::compile)
    }

    fn compile(patterns: Vec<Pattern>) -> Self {
        let set = GlobSet::new(patterns.iter().map(|pattern| &pattern.0))
            .expect("globs that compile one by one compile together");
        Self { patterns: patterns.into_iter().map(|pattern| pattern.0.glob().to_owned()).collect(), set }
    }

    /// Whether any of them matches all of `path`.
    pub fn is_match(&self, path: &str) -> bool {
        self.set.is_match(path)
    }

    /// Those that match all of `path`, as they were written.
    pub fn matching(&self, path: &str) -> impl Iterator<Item = &str> {
        self.set.matches(path).into_iter().map(|at| self.patterns[at].as_str())
    }

    /// The patterns as they were written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl<'de> Deserialize<'de> for Globs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::compile)
    }
}

/// What always stays on the cache: globs on media paths, and items of Plex.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pins {
    /// Files whose media path matches.
    pub paths: Globs,
    /// Rating keys (digits) of movies, episodes, seasons or shows.
    pub rating_keys: Vec<String>,
}

impl<'de> Deserialize<'de> for Pins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut patterns = Vec::new();
        let mut rating_keys = Vec::new();
        for pin in Vec::deserialize(deserializer)? {
            match pin {
                Pin::Path(pattern) => patterns.push(pattern),
                Pin::RatingKey(key) => rating_keys.push(key),
            }
        }
        Ok(Self { paths: Globs::compile(patterns), rating_keys })
    }
}

/// One glob. A type of its own so that a message points at the one pattern in a list.
struct Pattern(Glob);

impl Pattern {
    fn parse(text: &str, expected: &'static str) -> Result<Self, BadValue> {
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        // The builder accepts what the regular expression behind it may still refuse as too large.
        glob.ok()
            .filter(|glob| !text.is_empty() && GlobSet::new([glob]).is_ok())
            .map(Self)
            .ok_or_else(|| BadValue::new(text, expected))
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, GLOB, |text| Self::parse(text, GLOB))
    }
}

/// One pin.
enum Pin {
    Path(Pattern),
    RatingKey(String),
}

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, PIN, |text| match text.strip_prefix("plex:") {
            Some(key) if !key.is_empty() && key.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Self::RatingKey(key.to_owned()))
            }
            Some(_) => Err(BadValue::new(text, PIN)),
            None => Pattern::parse(text, PIN).map(Self::Path),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_a_component_and_two_cross_it() {
        let globs = Globs::new(["**/Kids/**", "Movies/*.mkv"]).unwrap();
        for (path, expected) in [
            ("TV/Kids/a/b.mkv", true),
            ("Kids/a.mkv", true),
            ("TV/Kidsroom/a.mkv", false),
            ("Movies/a.mkv", true),
            ("Movies/a/a.mkv", false),
        ] {
            assert_eq!(globs.is_match(path), expected, "{path}");
        }
        assert!(Globs::new(["a", "[b"]).is_err());
        assert!(Globs::new(["{a"]).is_err());
        assert!(Globs::new([""]).is_err());
        assert!(!Globs::default().is_match(""));
    }

    #[test]
    fn a_pin_is_a_glob_or_an_item_of_plex() {
        #[derive(Deserialize)]
        struct Keys {
            pin: Pins,
        }
        let pins = |text: &str| toml::from_str::<Keys>(&format!("pin = {text}")).map(|keys| keys.pin);
        let good = pins("['**/a', 'plex:12', 'b']").unwrap();
        assert_eq!(good.rating_keys, ["12"]);
        assert_eq!(good.paths.patterns(), ["**/a", "b"]);
        for bad in ["['plex:']", "['plex:a']", "['']", "['[']", "[1]", "'a'"] {
            assert!(pins(bad).is_err(), "{bad}");
        }
    }
}
