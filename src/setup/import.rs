//! The settings of `PlexCache-D`, in our words.
//!
//! Owns what each key of its `plexcache_settings.json` (releases 3.1 and 3.2) means here, and the list of
//! those that mean nothing, so that nobody has to wonder. Values are taken as far as they are what they
//! should be; what is not is listed too, by its name and never by its value, because some are secret. The
//! file is only read, and so are its records of cached files beside it.

use std::collections::BTreeSet;
use std::io::Read;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Map as Object, Value as Json};

use super::write::{Setting, Value};
use crate::config::Placement;
use crate::secret::Secret;
use crate::state::open_file;

/// The largest file that is read, in bytes.
const MAX_SIZE: u64 = 64 << 20;

/// What `PlexCache-D` calls a gigabyte.
const GIB: f64 = 1_073_741_824.0;

/// Keys that say how it works, where ours works in another way or needs no telling.
const WITHOUT_COUNTERPART: [(&str, &str); 40] = [
    ("cache_dir", "each map has its own"),
    ("cache_drive_size", "limits are shares of the file system"),
    ("cache_eviction_threshold_percent", "room is made when something more urgent needs it"),
    ("eviction_min_priority", "rank decides: on deck first, then what comes next"),
    ("watchlist_retention_days", "what is on a watchlist stays wanted"),
    ("ondeck_retention_days", "see select.on_deck_max_age"),
    ("watchlist_cache_expiry", "Plex is asked in every run"),
    ("watched_cache_expiry", "Plex is asked in every run"),
    ("exit_if_active_session", "what plays is left alone, and the rest is done"),
    ("skip", "what plays is left alone, and the rest is done"),
    ("hardlinked_files", "links are kept in every placement, and `move` leaves such files alone"),
    ("check_hardlinks_on_restore", "links are kept"),
    ("cleanup_empty_folders", "only folders that plexcache made are removed"),
    ("excluded_folders", "nothing is looked for in folders; see select.exclude"),
    ("pinned_preferred_resolution", "see select.versions"),
    ("max_concurrent_moves_cache", "one disk at a time, at its full speed"),
    ("max_concurrent_moves_array", "one disk at a time, at its full speed"),
    ("max_log_files", "there is a history, and no logs"),
    ("keep_error_logs_days", "there is a history, and no logs"),
    ("log_max_files", "there is a history, and no logs"),
    ("notification_type", "--quiet prints only trouble, for whatever starts it"),
    ("unraid_level", "--quiet prints only trouble, for whatever starts it"),
    ("unraid_levels", "--quiet prints only trouble, for whatever starts it"),
    ("webhook_level", "--quiet prints only trouble, for whatever starts it"),
    ("webhook_levels", "--quiet prints only trouble, for whatever starts it"),
    ("webhook_url", "--quiet prints only trouble, for whatever starts it"),
    ("debug", "see --dry-run and -v"),
    ("firststart", "see --dry-run"),
    ("unraid", "found out"),
    ("script_folder", "not needed"),
    ("logs_folder", "not needed"),
    ("data_folder", "see state.dir"),
    ("nas_library_folders", "part of the maps"),
    ("plex_library_folders", "part of the maps"),
    ("plex_source", "part of the maps"),
    ("real_source", "part of the maps"),
    ("skip_ondeck", "part of the users"),
    ("skip_watchlist", "part of the users"),
    ("skip_users", "part of the users"),
    ("retry_limit", "not needed"),
];

/// All that was found.
#[derive(Debug, Default)]
pub struct Imported {
    pub url: Option<String>,
    pub token: Option<Secret>,
    pub settings: Vec<Setting>,
    pub folders: Vec<Folder>,
    /// How a cached file is shown, as it was.
    pub placement: Option<Placement>,
    /// Keys that were not taken over, and why.
    pub left: Vec<(String, String)>,
    /// The cached files that its records name.
    pub listed: BTreeSet<Utf8PathBuf>,
}

/// One of its path mappings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    pub plex: String,
    pub here: Utf8PathBuf,
    pub cache: Option<Utf8PathBuf>,
    pub cacheable: bool,
}

/// Why the settings cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot read {0}: {1}")]
    Read(Utf8PathBuf, std::io::Error),
    #[error("{0} is no settings file of PlexCache-D: {1}")]
    Foreign(Utf8PathBuf, String),
}

/// Reads the settings, and the records that lie beside them.
///
/// # Errors
/// The file cannot be read, or is none of its settings.
pub fn read(file: &Utf8Path) -> Result<Imported, ImportError> {
    let text = text_of(file).map_err(|error| ImportError::Read(file.to_owned(), error))?;
    let foreign = |why: &str| ImportError::Foreign(file.to_owned(), why.to_owned());
    // What serde quotes of it could be a secret.
    let json: Json = serde_json::from_str(&text)
        .map_err(|error| foreign(&format!("it cannot be read as JSON from line {} on", error.line())))?;
    let Json::Object(object) = json else { return Err(foreign("it is no JSON object")) };
    if !["PLEX_URL", "path_mappings", "plex_source", "cache_dir"].iter().any(|key| object.contains_key(*key)) {
        return Err(foreign("it has none of its keys"));
    }
    let mut imported = settings(&object);
    imported.listed = listed(file.parent().unwrap_or(Utf8Path::new(".")));
    Ok(imported)
}

fn text_of(file: &Utf8Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    open_file(file)?.take(MAX_SIZE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_start_matches('\u{feff}').to_owned())
}

/// The cached files that its list and its tracker name, where there are any.
fn listed(folder: &Utf8Path) -> BTreeSet<Utf8PathBuf> {
    let mut paths = BTreeSet::new();
    for folder in [folder.to_owned(), folder.join("data")] {
        let text = text_of(&folder.join("plexcache_cached_files.txt")).unwrap_or_default();
        paths.extend(text.lines().map(str::trim).map(Utf8PathBuf::from));
        for name in ["timestamps.json", "plexcache_timestamps.json"] {
            let text = text_of(&folder.join(name)).unwrap_or_default();
            let object: Object<String, Json> = serde_json::from_str(&text).unwrap_or_default();
            paths.extend(object.into_iter().map(|(path, _)| Utf8PathBuf::from(path)));
        }
    }
    paths.retain(|path| path.is_absolute());
    paths
}

fn settings(object: &Object<String, Json>) -> Imported {
    let mut imported = Imported::default();
    for (key, value) in object {
        if !imported.take(key, value, object) {
            let known = WITHOUT_COUNTERPART.iter().find(|(known, _)| known == key);
            let why = known.map_or("it is not known, or its value is not what it should be", |(_, why)| why);
            imported.left.push((key.clone(), why.to_owned()));
        }
    }
    let is_set = |key: &str| object.get(key).and_then(Json::as_bool);
    imported.placement = Some(match (is_set("use_symlinks"), is_set("create_plexcached_backups")) {
        (Some(true), _) => Placement::Symlink,
        (_, Some(false)) => Placement::Move,
        _ => Placement::Hide,
    });
    imported.folders = folders(object, &mut imported.left);
    // What is part of something else is no loss.
    imported.left.retain(|(_, why)| !why.starts_with("part of"));
    imported
}

impl Imported {
    fn set(&mut self, table: &str, key: &str, value: Value) -> bool {
        self.settings.push(Setting::new(table, key, value));
        true
    }

    /// Takes one key over. `false` when it has no counterpart or a value that cannot be.
    fn take(&mut self, key: &str, value: &Json, all: &Object<String, Json>) -> bool {
        let number = value.as_u64();
        let days = value.as_f64().filter(|days| (0.0..100_000.0).contains(days));
        let text = value.as_str().map(str::trim);
        match key {
            "PLEX_URL" => {
                self.url = text.filter(|url| !url.is_empty()).map(|url| url.trim_end_matches('/').to_owned());
                self.url.is_some()
            }
            "PLEX_TOKEN" => {
                self.token = text.map(Secret::new).filter(|token| !token.is_empty());
                self.token.is_some()
            }
            "number_episodes" => number.is_some_and(|n| self.set("select", "next_episodes", Value::Number(n))),
            "prefetch_minimum_minutes" => match number {
                Some(0) => true,
                Some(minutes) => self.set("select", "prefetch_minutes", Value::Number(minutes)),
                None => false,
            },
            "days_to_monitor" => {
                number.is_some_and(|n| self.set("select", "on_deck_max_age", Value::Text(format!("{n}d"))))
            }
            "watchlist_toggle" => match value.as_bool() {
                Some(false) => self.set("select", "watchlist", Value::Flag(false)),
                on => on.is_some(),
            },
            "watchlist_episodes" => number.is_some_and(|n| self.set("select", key, Value::Number(n))),
            "remote_watchlist_rss_url" => {
                let on = all.get("remote_watchlist_toggle").and_then(Json::as_bool).unwrap_or(false);
                match text.filter(|url| on && !url.is_empty()) {
                    Some(url) => self.set("select", "rss", Value::List(vec![url.to_owned()])),
                    None => text.is_some(),
                }
            }
            "valid_sections" => {
                let Some(ids) = value.as_array() else { return false };
                let ids: Vec<String> = ids.iter().filter_map(Json::as_u64).map(|id| id.to_string()).collect();
                ids.is_empty() || self.set("select", "libraries", Value::List(ids))
            }
            "cache_retention_hours" => {
                number.is_some_and(|n| self.set("evict", "unwanted_after", Value::Text(format!("{n}h"))))
            }
            "watched_move" => value.as_bool() == Some(true),
            "ondeck_retention_days" | "watchlist_retention_days" => days == Some(0.0),
            "plexcache_quota" => self.take_size(text, "max_size"),
            "min_free_space" => self.take_size(text, "min_free"),
            "cache_limit" => self.take_limit(text, all),
            "cache_eviction_mode" => match text {
                Some("smart" | "fifo") => true,
                Some("none" | "") => self.set("evict", "make_room", Value::Flag(false)),
                _ => false,
            },
            "cache_associated_files" => match text {
                Some("subtitles") => true,
                Some(which @ ("all" | "none")) => self.set("select", "sidecars", Value::Text(which.to_owned())),
                _ => false,
            },
            "users" => value.as_array().is_some_and(|users| self.take_users(users, all)),
            "remote_watchlist_toggle" | "users_toggle" | "create_plexcached_backups" | "use_symlinks" => {
                value.is_boolean()
            }
            "path_mappings" => value.is_array(),
            _ => false,
        }
    }

    /// A size as it writes them; empty and 0 are none.
    fn take_size(&mut self, text: Option<&str>, key: &str) -> bool {
        match text {
            Some("" | "0") => true,
            Some(text) => size(text).is_some_and(|size| self.set("limits", key, Value::Text(size))),
            None => false,
        }
    }

    /// `cache_limit` counts everything on the drive, not only its own: a share of it is what the others leave
    /// free; bytes have no counterpart but the quota.
    fn take_limit(&mut self, text: Option<&str>, all: &Object<String, Json>) -> bool {
        let is_set =
            |key: &str| all.get(key).and_then(Json::as_str).is_some_and(|text| !matches!(text.trim(), "" | "0"));
        match text {
            Some("" | "0") => true,
            Some(text) => match text.strip_suffix('%').and_then(|share| share.trim().parse::<u8>().ok()) {
                Some(share @ 1..=100) if !is_set("min_free_space") => {
                    self.set("limits", "min_free", Value::Text(format!("{}%", 100 - share)))
                }
                None if !is_set("plexcache_quota") => self.take_size(Some(text), "max_size"),
                _ => false,
            },
            None => false,
        }
    }

    fn take_users(&mut self, users: &[Json], all: &Object<String, Json>) -> bool {
        if all.get("users_toggle").and_then(Json::as_bool) == Some(false) {
            self.left.push(("users_toggle".to_owned(), "set users.include to your own name".to_owned()));
        }
        // Older releases have lists of names or tokens beside the users.
        let skips = |user: &Json, key: &str| {
            let lists = |name: &str| {
                let list = all.get(name).and_then(Json::as_array);
                list.is_some_and(|list| {
                    ["title", "token"].iter().any(|of| user.get(of).is_some_and(|it| list.contains(it)))
                })
            };
            user.get(key).and_then(Json::as_bool).unwrap_or(false) || lists(key) || lists("skip_users")
        };
        let mut excluded = Vec::new();
        for user in users {
            let text = |key: &str| user.get(key).and_then(Json::as_str).map(str::trim).filter(|text| !text.is_empty());
            let Some(name) = text("title") else {
                self.left.push(("users".to_owned(), "one of them has no title".to_owned()));
                continue;
            };
            match (skips(user, "skip_ondeck"), skips(user, "skip_watchlist")) {
                (true, true) => {
                    excluded.push(name.to_owned());
                    continue;
                }
                (on_deck, watchlist) => {
                    let table = format!("users.override.{}", super::write::quoted(name));
                    for key in ["on_deck", "watchlist"].into_iter().zip([on_deck, watchlist]).filter(|(_, skip)| *skip)
                    {
                        self.set(&table, key.0, Value::Flag(false));
                    }
                }
            }
            if let Some(token) = text("token") {
                self.set("users.tokens", name, Value::Secret(Secret::new(token)));
            }
            for key in ["days_to_monitor", "watchlist_retention_days"] {
                if user.get(key).is_some_and(|value| !value.is_null() && value.as_f64() != Some(0.0)) {
                    self.left.push((format!("users: {key}"), "is the same for all users".to_owned()));
                }
            }
        }
        if !excluded.is_empty() {
            self.set("users", "exclude", Value::List(excluded));
        }
        true
    }
}

/// `250GB`, `1.5TB`, `50%`, or a bare number of gigabytes; of 1024 each.
fn size(text: &str) -> Option<String> {
    let text = text.to_ascii_uppercase();
    let parse = |number: &str| number.trim().parse::<f64>().ok().filter(|n| n.is_finite() && (0.0..1e9).contains(n));
    if let Some(share) = text.strip_suffix('%') {
        return parse(share).filter(|share| *share <= 100.0).map(|share| format!("{share}%"));
    }
    let (number, scale) = if let Some(number) = text.strip_suffix("TB").or_else(|| text.strip_suffix('T')) {
        (number, 1024.0)
    } else if let Some(number) = text.strip_suffix("GB").or_else(|| text.strip_suffix('G')) {
        (number, 1.0)
    } else if let Some(number) = text.strip_suffix("MB").or_else(|| text.strip_suffix('M')) {
        (number, 1.0 / 1024.0)
    } else {
        (text.as_str(), 1.0)
    };
    let gib = parse(number)? * scale;
    let whole = gib.fract() == 0.0;
    Some(if whole { format!("{gib}GiB") } else { format!("{:.0}", gib * GIB) })
}

/// Its mappings, or what stood in their place before there were any.
fn folders(object: &Object<String, Json>, left: &mut Vec<(String, String)>) -> Vec<Folder> {
    let text = |object: &Object<String, Json>, key: &str| {
        object.get(key).and_then(Json::as_str).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let folder = |text: String| Utf8PathBuf::from(format!("/{}", text.trim_matches('/')));
    let cache_dir = text(object, "cache_dir").map(folder);
    let mappings = object.get("path_mappings").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut folders = Vec::new();
    for (number, mapping) in (1..).zip(mappings) {
        let name = format!("path_mappings {number}");
        let Json::Object(mapping) = mapping else {
            left.push((name, "it is no object".to_owned()));
            continue;
        };
        let is = |key: &str| mapping.get(key).and_then(Json::as_bool).unwrap_or(true);
        if !is("enabled") {
            left.push((name, "it is not enabled".to_owned()));
            continue;
        }
        let (Some(plex), Some(here)) = (text(mapping, "plex_path"), text(mapping, "real_path")) else {
            left.push((name, "it lacks plex_path or real_path".to_owned()));
            continue;
        };
        // In a container its own name for the cache is not that of the host.
        let cache = text(mapping, "host_cache_path").or_else(|| text(mapping, "cache_path")).map(folder);
        folders.push(Folder { plex: plex_folder(&plex), here: folder(here), cache, cacheable: is("cacheable") });
    }
    if mappings.is_empty()
        && let (Some(plex), Some(real)) = (text(object, "plex_source"), text(object, "real_source"))
    {
        let names = |key: &str| -> Vec<String> {
            let list = object.get(key).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(Json::as_str).map(|name| name.trim_matches(['/', '\\']).to_owned()).collect()
        };
        let (plex, real) = (plex_folder(&plex), folder(real));
        let pairs: Vec<(String, String)> =
            names("plex_library_folders").into_iter().zip(names("nas_library_folders")).collect();
        if pairs.iter().all(|(plex, nas)| plex == nas) {
            folders.push(Folder { plex, here: real, cache: cache_dir, cacheable: true });
        } else {
            // Folders have other names for Plex than here: each needs a map.
            folders.extend(pairs.into_iter().map(|(plex_name, nas)| Folder {
                plex: format!("{}/{plex_name}", plex.trim_end_matches('/')),
                here: real.join(&nas),
                cache: cache_dir.as_ref().map(|cache| cache.join(&nas)),
                cacheable: true,
            }));
        }
    }
    folders
}

fn plex_folder(text: &str) -> String {
    let trimmed = text.trim_end_matches(['/', '\\']);
    if trimmed.is_empty() || trimmed.ends_with(':') { text.to_owned() } else { trimmed.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(text: &str) -> Imported {
        let Json::Object(object) = serde_json::from_str(text).unwrap() else { panic!() };
        settings(&object)
    }

    fn lines(imported: &Imported) -> Vec<String> {
        let line = |setting: &Setting| format!("{}.{} {:?}", setting.table, setting.key, setting.value);
        imported.settings.iter().map(line).collect()
    }

    fn left(imported: &Imported) -> Vec<&str> {
        imported.left.iter().map(|(key, _)| key.as_str()).collect()
    }

    #[test]
    fn every_setting_with_a_counterpart_is_taken_and_the_others_are_listed() {
        let imported = import(
            r#"{"PLEX_URL": "http://192.168.0.188:32400/", "PLEX_TOKEN": "s3cret-owner", "valid_sections": [2, 1],
             "number_episodes": 5, "days_to_monitor": 99, "watchlist_toggle": false, "watchlist_episodes": 1,
             "prefetch_minimum_minutes": 0, "cache_retention_hours": 24, "watched_move": true, "users_toggle": true,
             "users": [{"title": "Frank", "token": "s3cret-1", "skip_ondeck": false, "skip_watchlist": true},
                       {"title": "Bo", "token": "s3cret-2", "skip_ondeck": true, "skip_watchlist": true},
                       {"title": "Di", "token": "", "days_to_monitor": 7}],
             "remote_watchlist_toggle": true, "remote_watchlist_rss_url": "https://rss.plex.tv/s3cret-feed",
             "plexcache_quota": "500", "min_free_space": "50GB", "cache_limit": "250GB", "cache_drive_size": "",
             "cache_eviction_mode": "smart", "eviction_min_priority": 60, "cache_associated_files": "all",
             "create_plexcached_backups": true, "webhook_url": "https://example.org/s3cret-hook", "novelty": 1,
             "cache_dir": "/mnt/cache/media/", "path_mappings": []}"#,
        );
        assert_eq!(imported.url.as_deref(), Some("http://192.168.0.188:32400"));
        assert_eq!(imported.token.as_ref().unwrap().expose(), "s3cret-owner");
        assert_eq!(imported.placement, Some(Placement::Hide));
        let found: BTreeSet<String> = lines(&imported).into_iter().collect();
        let expected = [
            r#"select.libraries List(["2", "1"])"#,
            "select.next_episodes Number(5)",
            r#"select.on_deck_max_age Text("99d")"#,
            "select.watchlist Flag(false)",
            "select.watchlist_episodes Number(1)",
            r#"evict.unwanted_after Text("24h")"#,
            r#"users.override."Frank".watchlist Flag(false)"#,
            "users.tokens.Frank Secret(***)",
            r#"users.exclude List(["Bo"])"#,
            r#"select.rss List(["https://rss.plex.tv/s3cret-feed"])"#,
            r#"limits.max_size Text("500GiB")"#,
            r#"limits.min_free Text("50GiB")"#,
            r#"select.sidecars Text("all")"#,
        ];
        assert_eq!(found, expected.iter().map(|&line| line.to_owned()).collect());
        let expected = ["cache_dir", "cache_drive_size", "cache_limit", "eviction_min_priority", "novelty"];
        let mut keys = left(&imported);
        keys.sort_unstable();
        assert_eq!(keys, [&expected[..], &["users: days_to_monitor", "webhook_url"]].concat());
        assert!(!format!("{:?}", imported.left).contains("s3cret"));
    }

    #[test]
    fn sizes_are_what_they_were_there() {
        for (text, expected) in [
            ("250", Some("250GiB")),
            ("250gb", Some("250GiB")),
            ("1.5TB", Some("1536GiB")),
            ("512MB", Some("536870912")),
            ("2.5T", Some("2560GiB")),
            ("50%", Some("50%")),
            ("150%", None),
            ("-1", None),
            ("NaN", None),
            ("many", None),
        ] {
            assert_eq!(size(text).as_deref(), expected, "{text}");
        }
        let limit = |text: &str| lines(&import(text));
        assert_eq!(limit(r#"{"cache_limit": "80%"}"#), [r#"limits.min_free Text("20%")"#]);
        assert_eq!(limit(r#"{"cache_limit": "100"}"#), [r#"limits.max_size Text("100GiB")"#]);
        assert!(limit(r#"{"cache_limit": "80%", "min_free_space": "1"}"#).iter().all(|line| !line.contains("20%")));
    }

    #[test]
    fn maps_are_those_that_are_enabled_with_the_names_of_the_host() {
        let imported = import(
            r#"{"path_mappings": [
             {"name": "a", "plex_path": "/data/", "real_path": "/mnt/user/data/", "cache_path": "/mnt/cache/data/",
              "host_cache_path": "/mnt/cache_downloads/data/", "cacheable": true, "enabled": true},
             {"plex_path": "D:\\", "real_path": "/mnt/user/d", "cacheable": false},
             {"plex_path": "/off", "real_path": "/off", "enabled": false}, {"plex_path": "/half"}, 3]}"#,
        );
        let folder = |plex: &str, here: &str, cache: Option<&str>, cacheable| Folder {
            plex: plex.to_owned(),
            here: here.into(),
            cache: cache.map(Utf8PathBuf::from),
            cacheable,
        };
        let expected = [
            folder("/data", "/mnt/user/data", Some("/mnt/cache_downloads/data"), true),
            folder("D:\\", "/mnt/user/d", None, false),
        ];
        assert_eq!(imported.folders, expected);
        assert_eq!(left(&imported), ["path_mappings 3", "path_mappings 4", "path_mappings 5"]);
    }

    #[test]
    fn folders_of_older_releases_get_a_map_each_where_their_names_differ() {
        let old = |plex: &str, nas: &str| {
            let text = format!(
                r#"{{"plex_source": "/media/movies/", "real_source": "/mnt/user/media/", "cache_dir": "/mnt/c/media/",
                 "plex_library_folders": [{plex}], "nas_library_folders": [{nas}]}}"#
            );
            let folders = import(&text).folders;
            let line = |f: &Folder| format!("{} {} {}", f.plex, f.here, f.cache.as_ref().unwrap());
            folders.iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(old(r#""a", "b""#, r#""a", "b""#), ["/media/movies /mnt/user/media /mnt/c/media"]);
        assert_eq!(
            old(r#""a", "b""#, r#""m/a", "tv/b""#),
            [
                "/media/movies/a /mnt/user/media/m/a /mnt/c/media/m/a",
                "/media/movies/b /mnt/user/media/tv/b /mnt/c/media/tv/b"
            ]
        );
    }

    #[test]
    fn users_of_older_releases_are_skipped_by_name_or_token() {
        let imported = import(
            r#"{"users": [{"title": "A", "token": "ta"}, {"title": "B", "token": "tb"}, {"token": "x"}],
             "skip_ondeck": ["A", "tb"], "skip_watchlist": ["B"]}"#,
        );
        let expected =
            [r#"users.override."A".on_deck Flag(false)"#, "users.tokens.A Secret(***)", r#"users.exclude List(["B"])"#];
        assert_eq!(lines(&imported), expected);
        assert_eq!(left(&imported), ["users"]);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_listed_and_not_guessed() {
        let imported = import(
            r#"{"PLEX_URL": 1, "number_episodes": "five", "watchlist_toggle": 1, "valid_sections": {}, "users": {},
             "cache_limit": [], "cache_eviction_mode": "lifo"}"#,
        );
        assert_eq!(lines(&imported), Vec::<String>::new());
        assert_eq!(left(&imported).len(), 7);
    }
}
