//! The TOML text: from bytes to typed sections, with a line for every complaint.
//!
//! Owns the wire form of the whole file, the overrides laid over it, and the wording of what is
//! wrong with a key. Unknown keys are refused, never ignored: a setting that silently does nothing
//! is worse than a run that does not start. Messages never show what is written in a key for a
//! token.

use std::ops::Range;

use camino::Utf8Path;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::ConfigError;
use super::sections::{Evict, Limits, Plex, Safety, Select, State, Transfer, Users};
use super::values::{AbsolutePath, Placement};

/// The file as it is written. Every key is optional here, so that one override can be checked alone.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) version: Option<i64>,
    pub(super) plex: Plex,
    pub(super) users: Users,
    pub(super) select: Select,
    pub(super) map: Vec<MapEntry>,
    pub(super) limits: Limits,
    pub(super) evict: Evict,
    pub(super) transfer: Transfer,
    pub(super) safety: Safety,
    pub(super) state: State,
}

/// One `[[map]]` as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MapEntry {
    pub(super) plex: Option<String>,
    pub(super) array: Vec<AbsolutePath>,
    pub(super) cache: Option<AbsolutePath>,
    pub(super) merged: Option<AbsolutePath>,
    pub(super) placement: Option<Placement>,
    pub(super) cacheable: Option<bool>,
}

/// A parsed file that knows where each key stands.
pub(super) struct Document<'t> {
    file: &'t Utf8Path,
    text: &'t str,
    table: DeTable<'t>,
    /// The variables laid over it, with the path of the key that each sets.
    overrides: Vec<(&'t str, Vec<String>)>,
}

impl<'t> Document<'t> {
    /// Parses `text`; `file` is only for messages.
    pub(super) fn parse(file: &'t Utf8Path, text: &'t str) -> Result<Self, ConfigError> {
        match DeTable::parse(text) {
            Ok(table) => Ok(Self { file, text, table: table.into_inner(), overrides: Vec::new() }),
            Err(error) => {
                let line = error.span().map(|span| line_of(text, span.start));
                Err(ConfigError::new(format!("{}: {}", place(file, line), error.message())))
            }
        }
    }

    /// Lays the value of an environment variable over the key at `path`.
    pub(super) fn set(&mut self, variable: &'t str, path: Vec<String>, text: &'t str) -> Result<(), ConfigError> {
        let value = value_for(&path, text).map_err(|error| reworded(variable, &path, error.message()))?;
        put(&mut self.table, &path, value)
            .map_err(|expected| ConfigError::new(format!("{variable}: expected {expected}")))?;
        self.overrides.push((variable, path));
        Ok(())
    }

    /// Reads the sections.
    pub(super) fn typed(&self) -> Result<File, ConfigError> {
        typed(self.table.clone()).map_err(|error| {
            let path = error.span().and_then(|span| path_at(&self.table, &span)).unwrap_or_default();
            let line = error.span().map(|span| line_of(self.text, span.start));
            reworded(&labelled(&place(self.file, line), &path), &path, error.message())
        })
    }

    /// Whether the key at the dotted `path` is written in the file or set by a variable.
    pub(super) fn has(&self, path: &str) -> bool {
        path.split('.').try_fold(Node::Table(&self.table), |node, name| Some(node.child(name)?.0)).is_some()
    }

    /// A complaint about the key at `path`, which names its file and line, or the variable that set it.
    pub(super) fn error(&self, path: &[&str], message: impl AsRef<str>) -> ConfigError {
        ConfigError::new(format!("{}: {}", self.label(path), message.as_ref()))
    }

    /// What a message calls the key at `path`, and where it stands.
    fn label(&self, path: &[&str]) -> String {
        // Set by a variable as it is, or with all of its table.
        if let Some((variable, _)) = self.overrides.iter().rev().find(|(_, set)| begins(path, set)) {
            return (*variable).to_owned();
        }
        let mut node = Node::Table(&self.table);
        let mut line = None;
        for name in path {
            let Some((child, span)) = node.child(name) else { break };
            node = child;
            line = (!span.is_empty()).then(|| line_of(self.text, span.start));
        }
        // A table that stands nowhere in the file was made by the variables that set something in it.
        let made_by = self.overrides.iter().find(|(_, set)| line.is_none() && !path.is_empty() && begins(set, path));
        if let Some((variable, _)) = made_by {
            return (*variable).to_owned();
        }
        labelled(&place(self.file, line), path)
    }
}

/// A table or a list on the way to a key.
#[derive(Clone, Copy)]
enum Node<'a, 't> {
    Table(&'a DeTable<'t>),
    Array(&'a DeArray<'t>),
    Leaf,
}

impl<'a, 't> Node<'a, 't> {
    fn of(value: &'a DeValue<'t>) -> Self {
        match value {
            DeValue::Table(table) => Self::Table(table),
            DeValue::Array(array) => Self::Array(array),
            _ => Self::Leaf,
        }
    }

    /// What is under `name` (or at that index), and where it begins.
    fn child(self, name: &str) -> Option<(Self, Range<usize>)> {
        match self {
            Self::Table(table) => {
                let (key, value) = table.get_key_value(name)?;
                Some((Self::of(value.get_ref()), key.span()))
            }
            Self::Array(array) => {
                let value = array.get(name.parse::<usize>().ok()?)?;
                Some((Self::of(value.get_ref()), value.span()))
            }
            Self::Leaf => None,
        }
    }
}

fn typed(table: DeTable<'_>) -> Result<File, toml::de::Error> {
    File::deserialize(toml::de::Deserializer::from(Spanned::new(0..0, table)))
}

/// The value that the text of a variable means for the key at `path`.
///
/// The types of the sections decide: the text is tried as a TOML value, as a plain string and as a
/// list with commas, and the first that the key accepts is it.
fn value_for<'t>(path: &[String], text: &'t str) -> Result<DeValue<'t>, toml::de::Error> {
    let toml = DeValue::parse(text).map(Spanned::into_inner);
    let string = |text: &'t str| Spanned::new(0..0, DeValue::String(DeString::Borrowed(text)));
    // What looks like a list or a table is one: a forgotten quote must not become part of a name.
    let candidates = if text.starts_with(['[', '{']) {
        vec![toml?]
    } else {
        let list = text.split(',').map(|item| string(item.trim())).collect();
        toml.into_iter().chain([string(text).into_inner(), DeValue::Array(list)]).collect()
    };
    let mut plain = None;
    for value in candidates {
        match typed(alone(path, value.clone())) {
            Ok(_) => return Ok(value),
            Err(error) if !value.is_array() || plain.is_none() => plain = Some(error),
            Err(_) => {}
        }
    }
    Err(plain.expect("there is at least one candidate, and each was refused"))
}

/// A file with nothing but `value` at `path`.
fn alone<'t>(path: &[String], value: DeValue<'t>) -> DeTable<'t> {
    let mut path = path.to_vec();
    if let [first, index, ..] = path.as_mut_slice()
        && first == "map"
    {
        // The position of a map in the real file says nothing about its keys.
        "0".clone_into(index);
    }
    let mut table = DeTable::new();
    put(&mut table, &path, value).expect("an empty file takes a value anywhere, and map 0");
    table
}

/// Puts `value` at `path`, with the tables on the way. The error says what was expected.
fn put<'t>(table: &mut DeTable<'t>, path: &[String], value: DeValue<'t>) -> Result<(), &'static str> {
    const EXPECTED: &str = "the number of a [[map]], counted from 0 and without gaps";
    let [name, index, rest @ ..] = path else { return put_in_tables(table, path, value) };
    if name != "map" {
        return put_in_tables(table, path, value);
    }
    let DeValue::Array(maps) = child(table, name, DeValue::Array(DeArray::default())) else {
        return Err("a list of maps to put the key into");
    };
    let index: usize = index.parse().map_err(|_| EXPECTED)?;
    if index == maps.len() {
        maps.push(Spanned::new(0..0, DeValue::Table(DeTable::new())));
    }
    match (maps.get_mut(index).ok_or(EXPECTED)?.get_mut(), rest) {
        (map, []) => *map = value,
        (DeValue::Table(map), rest) => put_in_tables(map, rest, value)?,
        _ => return Err("a table to put the key into"),
    }
    Ok(())
}

fn put_in_tables<'t>(table: &mut DeTable<'t>, path: &[String], value: DeValue<'t>) -> Result<(), &'static str> {
    let (name, rest) = path.split_first().expect("the path of a key is not empty");
    if rest.is_empty() {
        *child(table, name, DeValue::Boolean(false)) = value;
        return Ok(());
    }
    match child(table, name, DeValue::Table(DeTable::new())) {
        DeValue::Table(inner) => put_in_tables(inner, rest, value),
        _ => Err("a table to put the key into"),
    }
}

/// What is under `name`, which is `empty` when there was nothing.
fn child<'a, 't>(table: &'a mut DeTable<'t>, name: &str, empty: DeValue<'t>) -> &'a mut DeValue<'t> {
    let key = Spanned::new(0..0, DeString::Owned(name.to_owned()));
    table.entry(key).or_insert(Spanned::new(0..0, empty)).get_mut()
}

/// The path of the innermost key or value that begins where `span` does, or holds it.
fn path_at(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    table.iter().find_map(|(key, value)| {
        let name = key.get_ref().to_string();
        let below = match value.get_ref() {
            DeValue::Table(inner) => path_at(inner, span),
            DeValue::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
                let inner = item.get_ref().as_table()?;
                path_at(inner, span).map(|rest| [vec![index.to_string()], rest].concat())
            }),
            _ => None,
        };
        let here = || key.span() == *span || (value.span().start <= span.start && span.end <= value.span().end);
        match below {
            Some(rest) => Some([vec![name], rest].concat()),
            None => here().then(|| vec![name]),
        }
    })
}

/// Whether `start` is `path` or leads to it.
fn begins(path: &[impl AsRef<str>], start: &[impl AsRef<str>]) -> bool {
    start.len() <= path.len() && start.iter().zip(path).all(|(a, b)| a.as_ref() == b.as_ref())
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

fn place(file: &Utf8Path, line: Option<usize>) -> String {
    line.map_or_else(|| file.to_string(), |line| format!("{file}:{line}"))
}

/// `PLACE: [section] key`; a map by its position when the line is not enough, as it has none.
fn labelled<S: AsRef<str>>(place: &str, path: &[S]) -> String {
    let path: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
    match path.as_slice() {
        [] => place.to_owned(),
        [key] => format!("{place}: {key}"),
        ["map", _] => format!("{place}: [[map]]"),
        ["map", _, key @ ..] => format!("{place}: [[map]] {}", key.join(".")),
        [section @ .., key] => format!("{place}: [{}] {key}", section.join(".")),
    }
}

/// Turns a message of the parser into `LABEL: found …, expected …`.
fn reworded(label: &str, path: &[impl AsRef<str>], message: &str) -> ConfigError {
    if let Some((name, known)) = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, ")) {
        let error = ConfigError::new(format!("{label}: found an unknown key `{name}`, {known}"));
        return match nearest(name, &quoted(known)) {
            Some(near) => error.with_hint(format!("did you mean `{near}`?")),
            None => error,
        };
    }
    if let Some((word, known)) = message.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, ")) {
        return ConfigError::new(format!("{label}: found \"{word}\", {known}"));
    }
    let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let Some((found, expected)) = wrong.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return ConfigError::new(format!("{label}: {message}"));
    };
    // A token that was pasted into the wrong key of its kind is still a token.
    let secret = path.iter().any(|name| name.as_ref().contains("token"));
    let found = if secret { "something else (not shown)" } else { found };
    let expected = match expected {
        "u32" | "i64" => "a whole number, 0 or more",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    };
    ConfigError::new(format!("{label}: found {found}, expected {expected}"))
}

/// The words between backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The one of `known` that a slip of the finger turns into `name`.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let slips = name.chars().count() / 3 + 1;
    let best = known.iter().min_by_key(|known| distance(name, known))?;
    (distance(name, best) <= slips).then_some(best)
}

/// The number of letters to insert, remove or replace to get from `a` to `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Every key of the file as a path, `NAME` for the name of a user, from the types themselves.
#[cfg(test)]
pub(super) fn known_keys() -> Vec<Vec<String>> {
    fn below(path: &[String]) -> Vec<Vec<String>> {
        let asked = [path, &["?".to_owned()]].concat();
        let probe = typed(alone(&asked, DeValue::Boolean(true)));
        let message = probe.err().map(|error| error.message().to_owned()).unwrap_or_default();
        match message.strip_prefix("unknown field `?`, ") {
            Some(known) => quoted(known).iter().flat_map(|name| below(&step(path, name))).collect(),
            None => vec![path.to_vec()],
        }
    }
    fn step(path: &[String], name: &str) -> Vec<String> {
        let more: &[&str] = match name {
            "map" => &["map", "0"],
            "override" => &["override", "NAME"],
            _ => &[name],
        };
        path.iter().map(String::as_str).chain(more.iter().copied()).map(str::to_owned).collect()
    }
    below(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> (String, Option<String>) {
        let error = Document::parse(Utf8Path::new("c.toml"), text).and_then(|document| document.typed().map(drop));
        let error = error.unwrap_err();
        (error.to_string(), error.hint().map(str::to_owned))
    }

    #[test]
    fn a_wrong_value_is_named_with_file_line_key_found_and_expected() {
        for (text, message) in [
            (
                "[select]\nnext_episodes = \"five\"",
                "c.toml:2: [select] next_episodes: found string \"five\", expected a whole number, 0 or more",
            ),
            (
                "\n\n[select]\nnext_episodes = -1",
                "c.toml:4: [select] next_episodes: found integer `-1`, expected a whole number, 0 or more",
            ),
            ("select = 5", "c.toml:1: select: found integer `5`, expected a table"),
            ("[select]\nlibraries = \"TV\"", "c.toml:2: [select] libraries: found string \"TV\", expected a list"),
            (
                "[select]\nversions = \"best\"",
                "c.toml:2: [select] versions: found \"best\", expected one of `all`, `largest`, `smallest`",
            ),
            (
                "[evict]\nmake_room = \"yes\"",
                "c.toml:2: [evict] make_room: found string \"yes\", expected true or false",
            ),
            (
                "[select]\nexclude = [\n  \"a\",\n  \"[b\"\n]",
                "c.toml:4: [select] exclude: found string \"[b\", expected a glob such as `**/Kids/**`, \
                 with every `[` and `{` closed",
            ),
            (
                "[[map]]\ncache = \"/a\"\n[[map]]\ncache = \"b\"",
                "c.toml:4: [[map]] cache: found string \"b\", expected an absolute path without `..`",
            ),
            (
                "[users.override.anna]\nwatchlist = 1",
                "c.toml:2: [users.override.anna] watchlist: found integer `1`, expected true or false",
            ),
        ] {
            assert_eq!(complaint(text).0, message);
        }
    }

    #[test]
    fn broken_toml_names_the_line() {
        let (message, _) = complaint("[plex]\nurl = \"http://a\n");
        assert!(message.starts_with("c.toml:2: "), "{message}");
        let (message, _) = complaint("[plex]\nurl = \"http://a\"\nurl = \"http://b\"");
        assert!(message.starts_with("c.toml:3: duplicate key"), "{message}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        for (text, line, hint) in [
            ("[select]\nnext_episode = 1", 2, Some("next_episodes")),
            ("[selct]", 1, Some("select")),
            ("[[map]]\nplacment = \"copy\"", 2, Some("placement")),
            ("[plex.endpoints]\nacount = \"http://a\"", 2, Some("account")),
            ("[evict]\nfrobnicate = 1", 2, None),
        ] {
            let (message, found) = complaint(text);
            assert!(message.starts_with(&format!("c.toml:{line}: ")), "{message}");
            assert!(message.contains("found an unknown key"), "{message}");
            assert_eq!(found, hint.map(|near| format!("did you mean `{near}`?")), "{text}");
        }
    }

    #[test]
    fn no_message_shows_a_token() {
        for text in [
            "[plex]\ntoken = 123456",
            "[plex]\ntoken_file = \"123456\"",
            "[users.tokens]\nben = 123456",
            "[plex]\nurl = \"http://a/?X-Plex-Token=123456\"",
            "[plex]\nurl = \"http://anna:123456@a\"",
        ] {
            let (message, _) = complaint(text);
            assert!(message.starts_with("c.toml:2: ") && !message.contains("123456"), "{message}");
        }
    }

    #[test]
    fn a_url_is_plain_http() {
        for (url, good) in [
            ("http://127.0.0.1:32400", true),
            ("https://plex.example/prefix/", true),
            ("http://[::1]:32400", true),
            ("127.0.0.1:32400", false),
            ("ftp://a", false),
            ("http://", false),
            ("http:///a", false),
            ("http://a b", false),
            ("http://a\\b", false),
            ("http://a#b", false),
        ] {
            let text = format!("[plex]\nurl = '{url}'");
            let result = Document::parse(Utf8Path::new("c"), &text).unwrap().typed();
            assert_eq!(result.is_ok(), good, "{url}");
        }
    }

    #[test]
    fn a_file_written_on_windows_is_read() {
        let text = "\u{feff}[plex]\r\nurl = \"http://a\"\r\n";
        assert_eq!(Document::parse(Utf8Path::new("c"), text).unwrap().typed().unwrap().plex.url, "http://a");
        assert!(complaint(&format!("{text}uri = 1\r\n")).0.starts_with("c.toml:3: [plex] uri: "));
    }

    #[test]
    fn dotted_keys_and_inline_tables_are_named_too() {
        for (text, place) in [
            ("version = 1\nselect.pin = 1", "c.toml:2: [select] pin: "),
            ("select = { pin = [1] }", "c.toml:1: [select] pin: "),
            ("map = [\n{ plex = 1 }]", "c.toml:2: [[map]] plex: "),
        ] {
            let (message, _) = complaint(text);
            assert!(message.starts_with(place), "{message}");
        }
    }

    #[test]
    fn the_distance_counts_letters() {
        for (a, b, slips) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("é", "e", 1), ("ab", "ba", 2)] {
            assert_eq!(distance(a, b), slips);
            assert_eq!(distance(b, a), slips);
        }
    }

    #[test]
    fn the_types_tell_their_keys() {
        let keys: Vec<String> = known_keys().iter().map(|path| path.join(".")).collect();
        for key in ["version", "plex.url", "plex.endpoints.rss", "users.tokens", "map.0.cacheable", "state.dir"] {
            assert!(keys.iter().any(|known| known == key), "{key} in {keys:?}");
        }
        assert!(keys.contains(&"users.override.NAME.next_episodes".to_owned()));
    }
}
