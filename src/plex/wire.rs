//! What the rows of Plex's answers mean.
//!
//! Owns the names of the fields and what is made of each. Each row is read on its own, so that one
//! bad row costs that row and not the listing. Refuses to invent: a row without its key, or whose
//! files cannot be read, is a problem that the caller hears of; a field that is missing stays missing.

use super::json::{Container, Row};
use super::tree::Tree;
use super::{
    Identity, Item, ItemKind, Library, LibraryKind, List, ListKind, Part, RatingKey, Session, ShowRef, Version,
};
use crate::paths::PlexPath;

/// `proxyType` of a version that Plex made itself.
const PROXY_OPTIMIZED: i64 = 42;

/// Characters of a title that are kept.
const MAX_TITLE: usize = 1000;

/// Which server this is; `None` when it does not say.
pub(super) fn identity(container: &Container) -> Option<Identity> {
    let row = container.fields();
    Some(Identity {
        machine_id: row.text("machineIdentifier").filter(|id| !id.is_empty())?,
        version: row.text("version").unwrap_or_default(),
    })
}

/// The name of the local account `id`.
pub(super) fn account_name(container: &Container, id: &str) -> Option<String> {
    let accounts = container.fields().list("Account").ok()?;
    let account = accounts.into_iter().find(|account| account.id("id").as_deref() == Some(id))?;
    Some(account.text("name").unwrap_or_default())
}

/// Reads a row of a listing. `library` is where it is when it does not say so itself.
///
/// `Ok(None)` for what this program does not deal with: music, photos, collections, and the pseudo
/// row "All episodes".
///
/// # Errors
/// What is wrong with the row.
pub(super) fn item(row: &Tree, library: Option<&str>) -> Result<Option<Item>, String> {
    let row = Row::new(row)?;
    let kind = match row.text("type").as_deref() {
        Some("movie") => ItemKind::Movie,
        Some("episode") => ItemKind::Episode,
        Some("clip" | "video") => ItemKind::Clip,
        Some("show") => ItemKind::Show,
        Some("season") => ItemKind::Season,
        Some(_) => return Ok(None),
        None if is_all_episodes(row) => return Ok(None),
        None => return Err(format!("{} has no type", row.name())),
    };
    let Some(rating_key) = row.id("ratingKey").map(RatingKey::new) else {
        return if is_all_episodes(row) { Ok(None) } else { Err(format!("{} has no ratingKey", row.name())) };
    };
    let show = |key, title| {
        let rating_key = row.id(key).map(RatingKey::new);
        let title = self::title(row, title);
        (rating_key.is_some() || title.is_some()).then(|| ShowRef { rating_key, title: title.unwrap_or_default() })
    };
    let (show, season, episode) = match kind {
        ItemKind::Episode => {
            (show("grandparentRatingKey", "grandparentTitle"), row.int("parentIndex"), row.int("index"))
        }
        ItemKind::Season => (show("parentRatingKey", "parentTitle"), row.int("index"), None),
        ItemKind::Movie | ItemKind::Clip | ItemKind::Show => (None, None, None),
    };
    let mut versions = row.list("Media")?.into_iter().map(version).collect::<Result<Vec<_>, _>>()?;
    // There is mostly one, of very many items.
    versions.shrink_to_fit();
    Ok(Some(Item {
        rating_key,
        kind,
        title: title(row, "title").unwrap_or_default(),
        show,
        season,
        episode,
        year: row.int("year").filter(|year| *year != 0),
        library_id: row.id("librarySectionID").or_else(|| library.map(str::to_owned)),
        guid: row.text("guid"),
        guids: row.list("Guid").unwrap_or_default().into_iter().filter_map(|guid| guid.text("id")).collect(),
        duration_ms: row.int("duration"),
        view_offset_ms: row.int("viewOffset").filter(|offset| *offset > 0),
        view_count: row.int("viewCount").unwrap_or(0).max(0),
        last_viewed_at: row.int("lastViewedAt"),
        added_at: row.int("addedAt"),
        updated_at: row.int("updatedAt"),
        leaf_count: row.int("leafCount"),
        viewed_leaf_count: row.int("viewedLeafCount"),
        deleted: in_trash(row) || (!versions.is_empty() && versions.iter().all(|version| version.deleted)),
        versions,
    }))
}

/// A title, which only people read: cut where no title goes on, because it is written to the history.
fn title(row: Row<'_>, key: &str) -> Option<String> {
    let title = row.text(key)?;
    Some(match title.char_indices().nth(MAX_TITLE) {
        Some((end, _)) => format!("{}…", &title[..end]),
        None => title,
    })
}

fn version(media: Row<'_>) -> Result<Version, String> {
    let mut parts: Vec<Part> = media.list("Part")?.into_iter().map(part).collect::<Result<_, _>>()?;
    parts.shrink_to_fit();
    let made_by_plex = |file: &PlexPath| file.as_str().split(['/', '\\']).any(|name| name == "Plex Versions");
    Ok(Version {
        media_id: media.id("id").unwrap_or_default(),
        optimized: media.int("proxyType") == Some(PROXY_OPTIMIZED)
            || parts.iter().filter_map(|part| part.file.as_ref()).any(made_by_plex),
        deleted: in_trash(media),
        height: media.int("height"),
        resolution: media.text("videoResolution"),
        bitrate: media.int("bitrate"),
        parts,
    })
}

fn part(row: Row<'_>) -> Result<Part, String> {
    let file = row.text("file");
    if file.is_none() && row.has("file") {
        return Err(format!("the file of {} is no text", row.name()));
    }
    Ok(Part {
        part_id: row.id("id").unwrap_or_default(),
        file: file.filter(|file| !file.is_empty()).map(PlexPath::new),
        size: row.int("size").and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0),
        readable: match (row.truth("exists"), row.truth("accessible")) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (exists, accessible) => exists.or(accessible),
        },
    })
}

/// Reads a row of `/library/sections`.
///
/// # Errors
/// What is wrong with the row.
pub(super) fn library(row: &Tree) -> Result<Library, String> {
    let row = Row::new(row)?;
    let id = row.id("key").ok_or_else(|| format!("{} has no key", row.name()))?;
    let stamps = ["updatedAt", "scannedAt", "contentChangedAt"].map(|key| row.int(key));
    Ok(Library {
        title: title(row, "title").unwrap_or_else(|| id.clone()),
        id,
        kind: match row.text("type").as_deref() {
            Some("movie") => LibraryKind::Movie,
            Some("show") => LibraryKind::Show,
            Some("artist") => LibraryKind::Music,
            Some("photo") => LibraryKind::Photo,
            _ => LibraryKind::Other,
        },
        locations: row.list("Location")?.into_iter().filter_map(|at| at.text("path")).map(PlexPath::new).collect(),
        refreshing: row.flag("refreshing"),
        stamp: stamps.iter().any(Option::is_some).then(|| stamps.map(|at| at.unwrap_or(0).to_string()).join("-")),
    })
}

/// Reads a playlist or a collection. `Ok(None)` for one that holds no videos.
///
/// # Errors
/// What is wrong with the row.
pub(super) fn list(row: &Tree) -> Result<Option<List>, String> {
    let row = Row::new(row)?;
    let kind = match row.text("type").as_deref() {
        Some("playlist") if row.text("playlistType").is_none_or(|kind| kind == "video") => ListKind::Playlist,
        Some("collection") => ListKind::Collection,
        _ => return Ok(None),
    };
    let rating_key =
        row.id("ratingKey").map(RatingKey::new).ok_or_else(|| format!("{} has no ratingKey", row.name()))?;
    Ok(Some(List { rating_key, title: title(row, "title").unwrap_or_default(), kind }))
}

/// Reads a row of `/status/sessions`, whatever it plays.
///
/// # Errors
/// What is wrong with the row.
pub(super) fn session(row: &Tree) -> Result<Session, String> {
    let row = Row::new(row)?;
    let first = |key| Ok::<_, String>(row.list(key)?.into_iter().next());
    let (user, player) = (first("User")?, first("Player")?);
    let media = row.list("Media")?;
    let mut parts = Vec::new();
    for media in &media {
        parts.extend(media.list("Part")?);
    }
    let transcoded = |row: &Row<'_>| row.text("decision").as_deref() == Some("transcode");
    Ok(Session {
        rating_key: row.id("ratingKey").map(RatingKey::new),
        title: title(row, "title").unwrap_or_default(),
        user: user.and_then(|user| user.text("title")),
        user_id: user.and_then(|user| user.id("id")),
        player: player.and_then(|player| player.text("title").or_else(|| player.text("product"))),
        state: player.and_then(|player| player.text("state")),
        media_ids: media.iter().filter_map(|media| media.id("id")).collect(),
        part_ids: parts.iter().filter_map(|part| part.id("id")).collect(),
        files: parts.iter().filter_map(|part| part.text("file")).filter(|f| is_path(f)).map(PlexPath::new).collect(),
        transcoding: first("TranscodeSession")?.is_some() || parts.iter().any(transcoded),
        live: row.flag("live"),
    })
}

/// Whether `file` is a path on some server, not the bare name that a transcoded session shows.
fn is_path(file: &str) -> bool {
    let drive = matches!(file.as_bytes(), [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic());
    file.starts_with('/') || file.starts_with(r"\\") || drive
}

/// Whether the row stands for all episodes of a show among its seasons. It has no key of its own.
fn is_all_episodes(row: Row<'_>) -> bool {
    row.id("ratingKey").is_none() && row.text("key").is_some_and(|key| key.ends_with("/allLeaves"))
}

/// Whether Plex found no file any more.
fn in_trash(row: Row<'_>) -> bool {
    row.flag("deletedAt")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use serde_json::{Value, json};

    use super::super::json::Undecodable;
    use super::*;

    fn decoded(body: impl AsRef<[u8]>) -> Container {
        Container::decode(body.as_ref()).unwrap()
    }

    fn parsed(value: &Value) -> Item {
        item(&value.into(), Some("9")).unwrap().unwrap()
    }

    #[test]
    fn an_episode_is_read_with_its_files() {
        let value = json!({
        "ratingKey": "49564", "key": "/library/metadata/49564", "guid": "plex://episode/5ea7", "type": "episode",
        "title": "Circus", "grandparentRatingKey": 49556, "grandparentTitle": "Bluey (2018)", "parentIndex": "2",
        "index": 33, "librarySectionID": 2, "duration": 434_000, "viewOffset": "131703", "viewCount": 1,
        "lastViewedAt": 1_681_908_352, "addedAt": 1_654_258_196, "updatedAt": null, "year": 0,
        "Guid": [{"id": "imdb://tt1"}, {"id": "tvdb://2"}, {}],
        "Media": [
            {"id": 80994, "videoResolution": "1080", "height": "1080", "bitrate": 9005, "Part": [
                {"id": 80994, "file": "/tv/Bluey (2018)/cd1.mkv ", "size": 15_000_000_000_u64, "hasThumbnail": "1"},
                {"id": "80995", "file": "/tv/Bluey (2018)/cd2.mkv", "size": "148929894"}]},
            {"id": 2, "proxyType": 42, "Part": {"id": 3, "file": "/tv/b.mp4", "size": 0}},
            {"id": 4, "Part": [{"file": "/tv/Plex Versions/Optimized for TV/b.mp4", "size": -1}]},
            {"id": 5, "Part": [{"id": 6}]},
            {"id": 7},
        ]});
        let item = parsed(&value);
        assert_eq!(item.label(), "Bluey (2018) S02E33");
        assert_eq!(item.show.as_ref().unwrap().rating_key, Some(RatingKey::new("49556")));
        assert_eq!(item.library_id.as_deref(), Some("2"));
        assert_eq!((item.view_offset_ms, item.view_count, item.updated_at, item.year), (Some(131_703), 1, None, None));
        assert_eq!(item.guids, ["imdb://tt1", "tvdb://2"]);
        let ids: Vec<&str> = item.versions.iter().map(|version| version.media_id.as_str()).collect();
        assert_eq!(ids, ["80994", "2", "4", "5", "7"]);
        let optimized: Vec<bool> = item.versions.iter().map(|version| version.optimized).collect();
        assert_eq!(optimized, [false, true, true, false, false]);
        let parts = &item.versions[0].parts;
        assert_eq!(parts[0].file, Some(PlexPath::new("/tv/Bluey (2018)/cd1.mkv ")));
        assert_eq!((parts[0].size, parts[1].size), (Some(15_000_000_000), Some(148_929_894)));
        assert_eq!((item.versions[1].parts[0].size, item.versions[2].parts[0].size), (None, None));
        assert_eq!(item.versions[3].parts, [Part { part_id: "6".to_owned(), ..Part::default() }]);
        assert!(!item.deleted);
    }

    #[test]
    fn a_row_needs_no_more_than_a_key_and_a_type() {
        for (kind, read) in [
            ("movie", ItemKind::Movie),
            ("episode", ItemKind::Episode),
            ("clip", ItemKind::Clip),
            ("video", ItemKind::Clip),
            ("show", ItemKind::Show),
            ("season", ItemKind::Season),
        ] {
            let item = parsed(&json!({"ratingKey": 1, "type": kind}));
            let library_id = Some("9".to_owned());
            assert_eq!(item, Item { library_id, ..Item::new(RatingKey::new("1"), read, "") });
        }
    }

    #[test]
    fn what_is_in_the_trash_is_marked() {
        for (fields, deleted) in [
            (json!({"deletedAt": 1_700_000_000}), true),
            (json!({"deletedAt": "1700000000"}), true),
            (json!({"deletedAt": null, "Media": []}), false),
            (json!({"Media": [{"id": 1, "deletedAt": 5}]}), true),
            (json!({"Media": [{"id": 1, "deletedAt": 5}, {"id": 2}]}), false),
        ] {
            let mut value = json!({"ratingKey": "1", "type": "movie"});
            value.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            assert_eq!(parsed(&value).deleted, deleted, "{fields}");
        }
    }

    #[test]
    fn a_row_is_skipped_or_a_problem_but_never_both() {
        for value in [
            json!({"ratingKey": "1", "type": "track"}),
            json!({"type": "collection", "childCount": "3"}),
            json!({"key": "/library/metadata/22/allLeaves", "title": "All episodes", "leafCount": 18}),
            json!({"key": "/library/metadata/22/allLeaves", "type": "season", "title": "All episodes"}),
        ] {
            assert_eq!(item(&Tree::from(&value), None), Ok(None), "{value}");
        }
        for (value, problem) in [
            (json!({"type": "episode", "title": "A"}), "row \"A\" has no ratingKey"),
            (json!({"type": "movie", "ratingKey": null}), "a row has no ratingKey"),
            (json!({"ratingKey": 5}), "row 5 has no type"),
            (json!({"ratingKey": 5, "type": "movie", "Media": "x"}), "Media of row 5 is no list of objects"),
            (
                json!({"ratingKey": 5, "type": "movie", "Media": [{"id": 8, "Part": [1]}]}),
                "Part of row 8 is no list of objects",
            ),
            (
                json!({"ratingKey": 5, "type": "movie", "Media": [{"Part": [{"id": 8, "file": ["/a"]}]}]}),
                "the file of row 8 is no text",
            ),
            (json!("row"), "a row is not an object"),
            (json!(null), "a row is not an object"),
        ] {
            assert_eq!(item(&Tree::from(&value), None), Err(problem.to_owned()), "{value}");
        }
    }

    #[test]
    fn the_oldest_form_is_read() {
        let body = r#"{"_elementType":"MediaContainer","librarySectionID":"3","_children":[{"_elementType":"Video",
            "ratingKey":"7","type":"movie","title":1917,"_children":[{"_elementType":"Genre","id":"1"},
            {"_elementType":"Media","id":"8","_children":[{"_elementType":"Part","id":"9","file":"/m/a.mkv","size":"5"}]}]}]}"#;
        let container = decoded(body);
        let item = item(container.rows()[0], container.library_id().as_deref()).unwrap().unwrap();
        assert_eq!((item.title.as_str(), item.library_id.as_deref()), ("1917", Some("3")));
        let part =
            Part { part_id: "9".to_owned(), file: Some(PlexPath::new("/m/a.mkv")), size: Some(5), readable: None };
        assert_eq!(item.versions[0].parts, [part]);
    }

    #[test]
    fn a_library_is_read() {
        let value = json!({"key": 1, "type": "show", "title": "TV", "refreshing": "1", "hidden": 2,
            "Location": [{"id": 1, "path": "/a"}, {"id": 2}, {"id": 3, "path": r"D:\b"}]});
        let read = library(&Tree::from(&value)).unwrap();
        assert_eq!((read.id.as_str(), read.kind, read.refreshing), ("1", LibraryKind::Show, true));
        assert_eq!(read.locations, [PlexPath::new("/a"), PlexPath::new(r"D:\b")]);
        let bare = library(&Tree::from(&json!({"key": "7"}))).unwrap();
        assert_eq!((bare.title.as_str(), bare.kind, bare.locations.len()), ("7", LibraryKind::Other, 0));
        assert_eq!(library(&Tree::from(&json!({"title": "TV"}))), Err("row \"TV\" has no key".to_owned()));
    }

    #[test]
    fn a_playlist_or_collection_is_read_unless_it_holds_music() {
        let list = |kind, title: &str| List { rating_key: RatingKey::new("5"), title: title.to_owned(), kind };
        for (value, expected) in [
            (
                json!({"ratingKey": 5, "type": "playlist", "title": "Tonight", "playlistType": "video"}),
                Some(ListKind::Playlist),
            ),
            (json!({"ratingKey": "5", "type": "playlist", "title": "Tonight"}), Some(ListKind::Playlist)),
            (
                json!({"ratingKey": "5", "type": "collection", "title": "Tonight", "subtype": "show"}),
                Some(ListKind::Collection),
            ),
            (json!({"ratingKey": 5, "type": "playlist", "title": "Tonight", "playlistType": "audio"}), None),
            (json!({"ratingKey": 5, "type": "movie", "title": "Tonight"}), None),
        ] {
            assert_eq!(super::list(&Tree::from(&value)), Ok(expected.map(|kind| list(kind, "Tonight"))), "{value}");
        }
        assert_eq!(
            super::list(&Tree::from(&json!({"type": "playlist", "title": "A"}))),
            Err("row \"A\" has no ratingKey".to_owned())
        );
    }

    #[test]
    fn a_file_is_readable_unless_the_server_says_otherwise() {
        for (fields, readable) in [
            (json!({}), None),
            (json!({"exists": null, "accessible": "perhaps"}), None),
            (json!({"exists": true, "accessible": 1}), Some(true)),
            (json!({"exists": "1"}), Some(true)),
            (json!({"accessible": true}), Some(true)),
            (json!({"exists": 1, "accessible": 0}), Some(false)),
            (json!({"exists": "0", "accessible": "1"}), Some(false)),
            (json!({"accessible": false}), Some(false)),
            (json!({"exists": "false"}), Some(false)),
        ] {
            let value = json!({"ratingKey": 1, "type": "movie", "Media": [{"Part": [fields]}]});
            assert_eq!(parsed(&value).versions[0].parts[0].readable, readable, "{value}");
        }
    }

    #[test]
    fn a_session_names_only_what_is_a_path() {
        let value = json!({"ratingKey": "49", "type": "movie", "title": "Dune", "sessionKey": "203",
            "User": {"id": "1", "title": "owner"}, "Player": {"title": "TV", "state": "paused"},
            "TranscodeSession": {"key": "x"},
            "Media": [{"id": "5", "Part": [{"id": "6", "file": "Dune.mkv"}, {"id": 7, "file": "/m/Dune.mkv"},
                {"file": r"D:\m\Dune.mkv"}, {"file": r"\\nas\Dune.mkv"}, {"file": "C:relative"}, {}]}]});
        let read = session(&Tree::from(&value)).unwrap();
        assert_eq!(
            read.files.iter().map(PlexPath::as_str).collect::<Vec<_>>(),
            ["/m/Dune.mkv", r"D:\m\Dune.mkv", r"\\nas\Dune.mkv"]
        );
        assert_eq!((read.media_ids, read.part_ids), (vec!["5".to_owned()], vec!["6".to_owned(), "7".to_owned()]));
        assert_eq!((read.user.as_deref(), read.user_id.as_deref()), (Some("owner"), Some("1")));
        assert_eq!((read.player.as_deref(), read.state.as_deref()), (Some("TV"), Some("paused")));
        assert!(read.transcoding && !read.live);
    }

    #[test]
    fn a_session_of_anything_else_is_kept_without_files() {
        for (value, live, transcoding) in [
            (
                json!({"type": "movie", "live": "1", "key": "/livetv/sessions/a", "Media": [{"Part": [{"id": 1}]}]}),
                true,
                false,
            ),
            (json!({"type": "clip", "guid": "iva://api", "extraType": 1}), false, false),
            (json!({"type": "track", "guid": "library://a", "Media": {}}), false, false),
            (json!({"type": "movie", "Media": [{"Part": {"decision": "transcode", "file": "x"}}]}), false, true),
            (json!({}), false, false),
        ] {
            let read = session(&Tree::from(&value)).unwrap();
            assert!(read.files.is_empty() && read.rating_key.is_none());
            assert_eq!((read.live, read.transcoding), (live, transcoding), "{value}");
        }
        assert!(session(&Tree::from(&json!({"Media": [1]}))).is_err());
    }

    #[test]
    fn the_owner_is_account_one() {
        let name = |accounts: &str| {
            let body = format!(r#"{{"MediaContainer":{{"Account":{accounts}}}}}"#);
            account_name(&decoded(body), "1")
        };
        assert_eq!(
            name(r#"[{"id":0,"name":""},{"id":1,"name":"anna"},{"id":1000,"name":"ben"}]"#).as_deref(),
            Some("anna")
        );
        assert_eq!(name(r#"{"id":"1"}"#).as_deref(), Some(""));
        assert_eq!(name(r#"[{"id":0,"name":""}]"#), None);
    }

    fn captures(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                captures(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_capture_of_a_real_server_is_read_without_a_problem() {
        let folder = std::env::var_os("PLEXCACHE_FIXTURES")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
        if !folder.is_dir() {
            println!("skipped: no captures at {} (set PLEXCACHE_FIXTURES)", folder.display());
            return;
        }
        let mut files = Vec::new();
        captures(&folder, &mut files);
        let (mut items, mut parts) = (0, 0);
        for file in files {
            let container = match Container::decode(&fs::read(&file).unwrap()) {
                Ok(container) => container,
                // plex.tv answers without a container.
                Err(Undecodable::NotPlex(what)) if what.starts_with("JSON") => continue,
                Err(error) => panic!("{}: {error:?}", file.display()),
            };
            for row in container.rows() {
                let item = item(row, None).unwrap_or_else(|problem| panic!("{}: {problem}", file.display()));
                let versions = item.iter().flat_map(|item| &item.versions);
                parts += versions.flat_map(|version| &version.parts).filter(|part| part.file.is_some()).count();
                items += usize::from(item.is_some());
            }
        }
        assert!(items > 0 && parts > 0, "{items} items, {parts} files");
    }
}
