//! The configuration as text, and its way to the disk.
//!
//! Owns the wording of a file that a person will open again, and the two rules of writing it: for its owner
//! alone from the first byte, because of the tokens in it, and in one step, so that it is there whole or not
//! at all. A value is written so that it is read as what it was, whatever is in it; a setting that this
//! release does not take is written as a comment. Makes the folder of a cache root, too, where the fast disk
//! has none yet; never a file of the user's, and never a mount point.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::MetadataExt;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{CWD, Gid, Mode, Uid, chownat, mkdirat};

use crate::config::{self, Environment, Map};
use crate::secret::Secret;
use crate::state::{PRIVATE, make_folders, replace_file, sync_dir};

/// What is in place of a secret where people see it.
const HIDDEN: &str = "***";

/// What will be configured.
#[derive(Debug, Clone)]
pub struct Draft {
    pub url: String,
    pub machine_id: String,
    pub token_file: Utf8PathBuf,
    pub maps: Vec<Map>,
    /// What differs from the defaults.
    pub settings: Vec<Setting>,
    pub state_dir: Option<Utf8PathBuf>,
}

/// One key that is set.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// As in the brackets: `select`, `users.override."anna"`.
    pub table: String,
    pub key: String,
    pub value: Value,
}

/// What a key is set to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Flag(bool),
    Number(u64),
    List(Vec<String>),
    Secret(Secret),
}

impl Setting {
    pub fn new(table: impl Into<String>, key: impl Into<String>, value: Value) -> Self {
        Self { table: table.into(), key: key.into(), value }
    }

    /// Whether this release takes it.
    pub fn is_taken(&self) -> bool {
        const LEAST: &str = "[[map]]\nplex = \"/a\"\narray = [\"/b\"]\ncache = \"/c\"\n[plex]\nurl = \"http://a\"\n";
        let text = format!("{LEAST}[{}]\n{}\n", self.table, self.line(false));
        // No override of the environment may decide it.
        config::parse(Utf8Path::new(""), &text, &Environment::new([], false, false)).is_ok()
    }

    fn line(&self, for_people: bool) -> String {
        let value = match &self.value {
            Value::Text(text) => quoted(text),
            Value::Flag(flag) => flag.to_string(),
            Value::Number(number) => number.to_string(),
            // The address of a feed is all that keeps others out.
            Value::List(_) if for_people && self.key == "rss" => listed(&[HIDDEN.to_owned()]),
            Value::List(list) => listed(list),
            Value::Secret(_) if for_people => quoted(HIDDEN),
            Value::Secret(secret) => quoted(secret.expose()),
        };
        let is_bare = self.key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let key = if is_bare && !self.key.is_empty() { self.key.clone() } else { quoted(&self.key) };
        format!("{key} = {value}")
    }
}

impl Draft {
    /// The text of the file; `for_people` without any secret.
    pub fn text(&self, for_people: bool) -> String {
        let Self { url, machine_id, token_file, maps, settings, state_dir } = self;
        let mut text = "# Written by `plexcache init`. Every key, with its default: plexcache.toml(5).\n\
             # Then: plexcache check, and plexcache sync --dry-run.\n\nversion = 1\n\n\n[plex]\n\
             # The address of the Plex server, as seen from this machine.\n"
            .to_owned();
        let _ = writeln!(text, "url = {}\n", quoted(url));
        let _ = writeln!(text, "# The owner's token is in this file, alone. Nobody else may read it.");
        let _ = writeln!(text, "token_file = {}", quoted(token_file.as_str()));
        if !machine_id.is_empty() {
            let _ = writeln!(text, "\n# No other server gets to see the token.\nmachine_id = {}", quoted(machine_id));
        }
        let mut own: Vec<Setting> = settings.clone();
        for (table, key, default) in [
            ("select", "next_episodes", Value::Number(5)),
            ("limits", "max_size", Value::Text("500GB".to_owned())),
            ("limits", "min_free", Value::Text("10%".to_owned())),
        ] {
            if !own.iter().any(|setting| (setting.table.as_str(), setting.key.as_str()) == (table, key)) {
                own.push(Setting::new(table, key, default));
            }
        }
        let mut tables: Vec<&str> = Vec::new();
        for setting in &own {
            if !tables.contains(&setting.table.as_str()) {
                tables.push(&setting.table);
            }
        }
        // A list of sorted names keeps a table before those in it.
        tables.sort_by_key(|table| (rank(table), table.to_owned()));
        for table in tables {
            let _ = writeln!(text, "\n\n[{table}]");
            for (number, setting) in own.iter().filter(|setting| setting.table == table).enumerate() {
                if number > 0 && comment(setting).is_some() {
                    text.push('\n');
                }
                if let Some(comment) = comment(setting) {
                    let _ = writeln!(text, "# {comment}");
                }
                let line = setting.line(for_people);
                if setting.is_taken() {
                    let _ = writeln!(text, "{line}");
                } else {
                    let _ = writeln!(text, "# Not supported by this release:\n#{line}");
                }
            }
        }
        for map in maps {
            text.push_str(&map_text(map));
        }
        if let Some(dir) = state_dir {
            let _ = writeln!(
                text,
                "\n\n[state]\n# The history. It has to outlive a reboot.\ndir = {}",
                quoted(dir.as_str())
            );
        }
        text
    }
}

fn rank(table: &str) -> usize {
    let order = ["users", "select", "limits", "evict", "transfer", "safety"];
    let top = table.split('.').next().unwrap_or_default();
    order.iter().position(|name| *name == top).unwrap_or(order.len())
}

/// What a key means, for those that are often changed.
fn comment(setting: &Setting) -> Option<&'static str> {
    Some(match (setting.table.as_str(), setting.key.as_str()) {
        ("users", "exclude") => "For whom nothing is cached: names as Plex shows them.",
        ("select", "libraries") => "The libraries to look at, by title or id.",
        ("select", "next_episodes") => "So many episodes after the one on deck, for each user and show.",
        ("select", "on_deck_max_age") => "Not what nobody has touched for this long.",
        ("select", "watchlist_episodes") => "Of a show on a watchlist, so many of the next episodes.",
        ("select", "sidecars") => "Files beside a video that go with it: none, subtitles or all.",
        ("limits", "max_size") => "What plexcache may own on the fast disk: a size or a share of it.",
        ("limits", "min_free") => "What it leaves free there for everything else. Both limits hold.",
        ("evict", "unwanted_after") => "Off the cache this long after nobody wants it any more.",
        ("evict", "make_room") => "May what is more urgent push out what is less?",
        _ => return None,
    })
}

fn map_text(map: &Map) -> String {
    let Map { plex, array, cache, merged, placement, cacheable } = map;
    let array: Vec<String> = array.iter().map(|path| path.as_str().to_owned()).collect();
    let mut text = "\n\n[[map]]\n".to_owned();
    let mut line = |comment: &str, key: &str, value: &str| {
        let _ = writeln!(text, "# {comment}\n{key} = {value}");
    };
    line("What Plex calls the folder.", "plex", &quoted(plex));
    line("The same folder on the slow disks.", "array", &listed(&array));
    line("Where it is on the fast disk.", "cache", &quoted(cache.as_str()));
    if let Some(merged) = merged {
        line("Where all of them appear as one.", "merged", &quoted(merged.as_str()));
    }
    line(
        "How Plex gets to see a cached file: copy, hide, move or symlink.",
        "placement",
        &quoted(&placement.to_string()),
    );
    if !cacheable {
        line("It is known, and nothing in it is cached.", "cacheable", "false");
    }
    text
}

fn listed(list: &[String]) -> String {
    let items: Vec<String> = list.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}

/// A basic string of TOML.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Writes a file for its owner alone, in one step, and the folders above it where they are missing.
///
/// # Errors
/// It cannot be written; then there is what was there before.
pub fn write_private(file: &Utf8Path, text: &str) -> io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_str().is_empty()) {
        make_folders(folder)?;
    }
    replace_file(file, PRIVATE, text.as_bytes())
}

/// Makes the folders of a cache root that are missing, each with owner and mode of the folder that it stands
/// for on the array. The fast disk itself has to be there.
///
/// # Errors
/// One cannot be made.
pub fn make_cache_root(map: &Map) -> io::Result<()> {
    let Some(model) = map.array_roots()?.into_iter().next() else { return Ok(()) };
    let mut missing = Vec::new();
    for (folder, like) in map.cache.ancestors().zip(model.ancestors()) {
        match std::fs::symlink_metadata(folder) {
            Ok(_) => break,
            // Where the names part the disk itself begins, and is not mounted.
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder.file_name() == like.file_name() => {
                missing.push((folder, like));
            }
            Err(error) => return Err(error),
        }
    }
    for (folder, like) in missing.into_iter().rev() {
        let like = std::fs::metadata(like)?;
        mkdirat(CWD, folder.as_std_path(), Mode::RWXU)?;
        let (owner, group) = (Uid::from_raw(like.uid()), Gid::from_raw(like.gid()));
        // An ordinary user may not give it away, and need not.
        let _unless_allowed =
            chownat(CWD, folder.as_std_path(), Some(owner), Some(group), rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        rustix::fs::chmodat(
            CWD,
            folder.as_std_path(),
            Mode::from_raw_mode(like.mode() & 0o7777),
            rustix::fs::AtFlags::empty(),
        )?;
        if let Some(above) = folder.parent() {
            sync_dir(above)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Placement;
    use proptest::prelude::*;

    fn draft(settings: Vec<Setting>) -> Draft {
        let map = Map {
            plex: "/data/media".to_owned(),
            array: vec!["/mnt/disk1/media".into(), "/mnt/disk2/media".into()],
            cache: "/mnt/cache/media".into(),
            merged: Some("/mnt/pool/media".into()),
            placement: Placement::Hide,
            cacheable: false,
        };
        Draft {
            url: "http://127.0.0.1:32400".to_owned(),
            machine_id: "5ca1".to_owned(),
            token_file: "/etc/plexcache/token".into(),
            maps: vec![map],
            settings,
            state_dir: Some("/mnt/cache/appdata/plexcache".into()),
        }
    }

    fn parsed(text: &str) -> config::Config {
        config::parse(Utf8Path::new("c"), text, &Environment::new([], false, false))
            .unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn what_is_written_is_read_as_what_was_meant() {
        let draft = draft(vec![
            Setting::new("users.tokens", "Ben \"the\" \\ 2nd\n", Value::Secret(Secret::new("s3cret"))),
            Setting::new("users", "exclude", Value::List(vec!["Anna".to_owned(), "\u{7f}".to_owned()])),
            Setting::new("limits", "max_size", Value::Text("70%".to_owned())),
            Setting::new("evict", "make_room", Value::Flag(false)),
            Setting::new("select", "next_episodes", Value::Number(7)),
        ]);
        let config = parsed(&draft.text(false));
        assert_eq!(config.maps, draft.maps);
        assert_eq!((config.plex.url, config.plex.machine_id), (draft.url.clone(), Some(draft.machine_id.clone())));
        assert_eq!(config.users.tokens["Ben \"the\" \\ 2nd\n"].expose(), "s3cret");
        assert_eq!(config.users.exclude, ["Anna", "\u{7f}"]);
        assert_eq!(config.limits.max_size, config::Size::Percent(70.0));
        assert_eq!((config.select.next_episodes, config.evict.make_room), (7, false));
        assert_eq!(config.state.dir, draft.state_dir);
        assert!(!draft.text(true).contains("s3cret"));
        assert!(draft.text(false).lines().filter(|line| line.starts_with('#')).count() > 10);
    }

    #[test]
    fn what_this_release_does_not_take_stands_there_as_a_comment() {
        let unknown = Setting::new("select", "from_the_future", Value::Flag(true));
        assert!(!unknown.is_taken());
        let text = draft(vec![unknown]).text(false);
        parsed(&text);
        assert!(text.contains("# Not supported by this release:\n#from_the_future = true"), "{text}");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "\\PC{0,8}[\u{0}-\u{1f}\"\\\\#\u{7f}\u{85}]{0,4}\\PC{0,4}") {
            let found: toml::Table = toml::from_str(&format!("a = {}", quoted(&text))).unwrap();
            prop_assert_eq!(found["a"].as_str(), Some(text.as_str()));
        }
    }
}
