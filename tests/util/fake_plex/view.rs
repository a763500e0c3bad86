//! Rows of the model as Plex shows them: which attributes an item has, where, and of which type.
//!
//! Owns Plex's oddities of content: a section id that is a number here and a text there, ids of media
//! that turn to text in sessions, attributes that are absent in place of 0, seasons that are hidden. It
//! decides nothing about who may see what.

use super::filter::{last_viewed_at, sort_title};
use super::model::{Group, GroupOf, Item, Kind, Library, Media, Section};
use super::render::{Element, Value};
use super::watching::{Extra, Play, Session};

/// Where a row appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    /// A listing of one section or one show: the container names the section.
    Section,
    /// A listing across sections: every row does.
    Server,
    /// The full page of an item: streams, external ids and folders too.
    Full,
}

/// What the request asks to be shown of an item.
#[derive(Debug, Clone, Copy)]
pub(super) struct Detail {
    pub(super) context: Context,
    pub(super) guids: bool,
    pub(super) check_files: bool,
}

pub(super) fn item(library: &Library, user: usize, item: &Item, detail: Detail) -> Element {
    let key = item.key;
    let path = format!("/library/metadata/{key}");
    let leaf = item.kind.is_leaf();
    let tag = if leaf { "Video" } else { "Directory" };
    let mut row = Element::in_list(tag, "Metadata")
        .with("ratingKey", key.to_string())
        .with("key", if leaf { path.clone() } else { format!("{path}/children") })
        .with("guid", item.guid.as_str())
        .with("type", item.kind.name())
        .with("title", item.title.as_str());
    if sort_title(&item.title) != item.title.to_lowercase() {
        row.set("titleSort", sort_title(&item.title));
    }
    if detail.context != Context::Section
        && let Some(section) = library.section(item.section)
    {
        row.set("librarySectionTitle", section.title.as_str());
        row.set("librarySectionID", section.id);
        row.set("librarySectionKey", format!("/library/sections/{}", section.id));
    }
    parents(library, item, &mut row);
    let mut row = row
        .with("summary", "")
        .with_some("index", item.index)
        .with_some("year", item.year)
        .with("thumb", format!("{path}/thumb/{}", item.updated_at))
        .with_some("originallyAvailableAt", item.released.as_deref())
        .with("addedAt", item.added_at)
        .with("updatedAt", item.updated_at)
        .with_some("deletedAt", item.deleted_at)
        .with_some("lastViewedAt", last_viewed_at(library, user, item));
    if leaf {
        let seen = library.seen(user, key);
        row.set("duration", item.duration);
        row = row
            .with_some("viewCount", Some(seen.count).filter(|count| *count != 0))
            .with_some("viewOffset", Some(seen.offset).filter(|offset| *offset != 0));
    } else {
        row = counts(library, user, item, row);
    }
    for version in &item.media {
        row.push(media(library, item, version, detail));
    }
    if detail.guids || detail.context == Context::Full {
        for guid in &item.external_guids {
            row.push(Element::row("Guid").with("id", guid.as_str()));
        }
    }
    if detail.context == Context::Full && item.kind == Kind::Show {
        for folder in folders(library, key) {
            row.push(Element::row("Location").with("path", folder));
        }
    }
    row
}

/// What a season says of its show, and an episode of both.
fn parents(library: &Library, item: &Item, row: &mut Element) {
    let mut above = library.lineage(item.key).skip(1);
    let (parent, grandparent) = (above.next(), above.next());
    let hidden = grandparent.is_some_and(|show| show.hide_seasons);
    if let Some(parent) = parent {
        if hidden {
            row.set("skipParent", true);
        } else {
            row.set("parentRatingKey", parent.key.to_string());
            row.set("parentKey", format!("/library/metadata/{}", parent.key));
        }
        row.set("parentGuid", parent.guid.as_str());
        row.set("parentTitle", parent.title.as_str());
        // A show counts as number 1 of nothing.
        if let Some(index) = if item.kind == Kind::Season { Some(1) } else { parent.index } {
            row.set("parentIndex", index);
        }
    }
    if let Some(show) = grandparent {
        row.set("grandparentRatingKey", show.key.to_string());
        row.set("grandparentKey", format!("/library/metadata/{}", show.key));
        row.set("grandparentGuid", show.guid.as_str());
        row.set("grandparentTitle", show.title.as_str());
    }
}

fn counts(library: &Library, user: usize, item: &Item, row: Element) -> Element {
    let leaves = library.leaves(item.key);
    let viewed = leaves.iter().filter(|leaf| library.seen(user, leaf.key).count > 0).count();
    let views: i64 = leaves.iter().map(|leaf| library.seen(user, leaf.key).count).sum();
    let mut row = row
        .with("leafCount", Value::count(leaves.len()))
        .with("viewedLeafCount", Value::count(viewed))
        .with_some("viewCount", Some(views).filter(|views| *views != 0));
    if item.kind == Kind::Show {
        row.set("childCount", Value::count(item.children.len()));
        if item.hide_seasons {
            row.set("skipChildren", true);
        }
    }
    row
}

/// The folders right below a section's location in which a show has files.
fn folders(library: &Library, show: u64) -> Vec<String> {
    let mut folders: Vec<String> = Vec::new();
    for leaf in library.leaves(show) {
        let locations = library.section(leaf.section).map_or(&[][..], |section| &section.locations);
        let files = leaf.media.iter().flat_map(|media| &media.parts).filter_map(|part| part.file.as_deref());
        for file in files {
            let folder = locations.iter().find_map(|location| {
                let (name, _) = file.strip_prefix(location.as_str())?.strip_prefix('/')?.split_once('/')?;
                Some(format!("{location}/{name}"))
            });
            folders.extend(folder.filter(|folder| !folders.contains(folder)));
        }
    }
    folders
}

fn media(library: &Library, item: &Item, version: &Media, detail: Detail) -> Element {
    let mut row = Element::row("Media")
        .with("id", version.id)
        .with("duration", item.duration)
        .with("bitrate", 9005)
        .with("aspectRatio", 1.78)
        .with("audioChannels", 2)
        .with("audioCodec", "aac")
        .with("videoCodec", "h264")
        .with("videoResolution", version.resolution.as_str())
        .with("container", "mkv")
        .with("videoFrameRate", "24p")
        .with_some("deletedAt", version.deleted_at);
    if version.proxy_type != 0 {
        row.set("proxyType", version.proxy_type);
        row.set("target", "Optimized for TV");
        row.set("title", "Optimized for TV");
    }
    for part in &version.parts {
        let extension =
            part.file.as_deref().and_then(|file| file.rsplit_once('.')).map_or("mkv", |(_, extension)| extension);
        let mut shown = Element::row("Part")
            .with("id", part.id)
            .with("key", format!("/library/parts/{}/{}/file.{extension}", part.id, item.added_at))
            .with("duration", item.duration)
            .with_some("file", part.file.as_deref())
            .with_some("size", part.size)
            .with("container", extension)
            // A text in JSON too.
            .with("hasThumbnail", "1");
        if detail.check_files && library.checks_files {
            let (exists, accessible) = part.file.as_deref().map_or((false, false), |file| library.finds(file));
            shown.set("exists", exists);
            shown.set("accessible", accessible);
        }
        if detail.context == Context::Full {
            for (number, codec) in [(1, "h264"), (2, "aac")] {
                let stream = Element::row("Stream")
                    .with("id", part.id * 10 + number)
                    .with("streamType", number)
                    .with("default", true)
                    .with("codec", codec)
                    .with("index", number - 1);
                shown.push(stream);
            }
        }
        row.push(shown);
    }
    row
}

/// The row that stands beside the seasons of a show: no key of its own, no type.
pub(super) fn all_episodes(library: &Library, user: usize, show: &Item) -> Element {
    let leaves = library.leaves(show.key);
    let viewed = leaves.iter().filter(|leaf| library.seen(user, leaf.key).count > 0).count();
    Element::row("Directory")
        .with("leafCount", Value::count(leaves.len()))
        .with("thumb", format!("/library/metadata/{}/thumb/{}", show.key, show.updated_at))
        .with("viewedLeafCount", Value::count(viewed))
        .with("key", format!("/library/metadata/{}/allLeaves", show.key))
        .with("title", "All episodes")
}

pub(super) fn section(section: &Section, now: i64, revision: i64) -> Element {
    let agent = if section.kind.name() == "movie" { "tv.plex.agents.movie" } else { "tv.plex.agents.series" };
    let mut row = Element::row("Directory")
        .with("allowSync", true)
        .with("filters", true)
        .with("refreshing", section.refreshing)
        .with("key", section.id.to_string())
        .with("type", section.kind.name())
        .with("title", section.title.as_str())
        .with("agent", agent)
        .with("scanner", "Plex Scanner")
        .with("language", "en-US")
        .with("uuid", uuid(section))
        .with("updatedAt", now)
        .with("createdAt", now)
        .with("scannedAt", now)
        .with("content", true)
        .with("directory", true)
        .with("contentChangedAt", revision)
        .with("hidden", section.hidden);
    for (index, location) in (1..).zip(&section.locations) {
        row.push(Element::row("Location").with("id", section.id * 100 + index).with("path", location.as_str()));
    }
    row
}

pub(super) fn uuid(section: &Section) -> String {
    format!("00000000-0000-4000-8000-{:012}", section.id)
}

/// A row of the sessions: ids are texts here, and a transcoder hides the file.
pub(super) fn session(library: &Library, session: &Session) -> Element {
    let detail = Detail { context: Context::Full, guids: false, check_files: false };
    let mut row = match session.what {
        Ok(key) => item(library, session.user, &library.items[&key], detail),
        Err(Extra::LiveTv) => Element::in_list("Video", "Metadata")
            .with("key", format!("/livetv/sessions/{}", session.key))
            .with("guid", "tv.plex.xmltv://news/2026-01-01")
            .with("live", "1")
            .with("type", "episode")
            .with("title", "The News")
            .child(Element::row("Media").with("id", "1").child(Element::row("Part").with("id", "1"))),
        Err(Extra::Trailer) => Element::in_list("Video", "Metadata")
            .with("ratingKey", "99999999")
            .with("key", "/library/metadata/99999999")
            .with("guid", "iva://api.internetvideoarchive.com/2.0/DataService/VideoAssets(1)")
            .with("extraType", 1)
            .with("type", "clip")
            .with("title", "Trailer"),
    };
    if let Ok(key) = session.what {
        let found = &library.items[&key];
        row.set("librarySectionID", found.section.to_string());
        row.take_children("Guid");
        row.take_children("Media");
        if let Some(version) = found.media.get(session.version) {
            row.push(session_media(library, found, version, session));
        }
    }
    row.set("sessionKey", session.key.to_string());
    row.set("viewOffset", session.view_offset);
    let user = &library.users[session.user];
    row.push(
        Element::object("User")
            .with("id", user.id.to_string())
            .with("thumb", format!("https://plex.tv/users/{:016x}/avatar", user.id))
            .with("title", user.name.as_str()),
    );
    row.push(
        Element::object("Player")
            .with("address", "192.168.1.20")
            .with("device", "TV")
            .with("machineIdentifier", format!("player-{}", session.key))
            .with("platform", "Android")
            .with("product", "Plex for Android (TV)")
            .with("remotePublicAddress", "203.0.113.7")
            .with("state", session.state.as_str())
            .with("title", "Living room")
            .with("local", true)
            .with("relayed", false)
            .with("secure", true)
            .with("userID", user.id),
    );
    row.push(
        Element::object("Session")
            .with("id", format!("session-{}", session.key))
            .with("bandwidth", 9005)
            .with("location", "lan"),
    );
    if session.transcoding {
        row.push(
            Element::object("TranscodeSession")
                .with("key", format!("/transcode/sessions/session-{}", session.key))
                .with("throttled", false)
                .with("complete", false)
                .with("progress", 2.5)
                .with("size", -22)
                .with("speed", 1.2)
                .with("duration", 2_700_000)
                .with("context", "streaming")
                .with("videoDecision", "transcode")
                .with("audioDecision", "copy")
                .with("protocol", "dash")
                .with("container", "mp4"),
        );
    }
    row
}

fn session_media(library: &Library, found: &Item, version: &Media, session: &Session) -> Element {
    let detail = Detail { context: Context::Full, guids: false, check_files: false };
    let mut media = media(library, found, version, detail);
    let parts = media.take_children("Part");
    media.set("id", version.id.to_string());
    media.set("selected", true);
    if session.transcoding {
        media.set("bitrate", 2000);
        media.set("container", "mp4");
        media.set("protocol", "dash");
        media.set("videoResolution", "720");
    }
    for (mut part, original) in parts.into_iter().zip(&version.parts) {
        part.set("id", original.id.to_string());
        part.set("selected", true);
        part.set("decision", if session.transcoding { "transcode" } else { "directplay" });
        for mut stream in part.take_children("Stream") {
            stream.turn_to_text("id");
            part.push(stream);
        }
        if session.transcoding {
            part.set("container", "mp4");
            part.unset("size");
            if let Some(file) = original.file.as_deref() {
                part.set("file", file.rsplit(['/', '\\']).next().unwrap_or(file));
            }
        }
        media.push(part);
    }
    media
}

/// A line of the history; of an item that is gone only the names are left.
pub(super) fn play(library: &Library, play: &Play) -> Element {
    let metadata = |key: u64| format!("/library/metadata/{key}");
    let mut lineage = play.item.into_iter().flat_map(|item| library.lineage(item)).map(|item| item.key);
    let (item, parent, grandparent) = (lineage.next(), lineage.next(), lineage.next());
    Element::in_list("Video", "Metadata")
        .with("historyKey", format!("/status/sessions/history/{}", play.id))
        .with_some("key", item.map(metadata))
        .with_some("ratingKey", item.map(|item| item.to_string()))
        .with("librarySectionID", play.section.to_string())
        .with_some("parentKey", parent.map(metadata))
        .with_some("grandparentKey", grandparent.map(metadata))
        .with("title", play.title.as_str())
        .with_some("grandparentTitle", play.show.as_deref())
        .with("type", play.kind.name())
        .with_some("index", play.index)
        .with_some("parentIndex", play.season)
        .with("viewedAt", play.viewed_at)
        .with("accountID", play.account)
        .with("deviceID", 1)
}

/// A playlist or a collection.
pub(super) fn group(library: &Library, group: &Group) -> Element {
    let key = group.key;
    let items = group.items.iter().filter_map(|key| library.items.get(key));
    match group.of {
        GroupOf::User(_) => Element::in_list("Playlist", "Metadata")
            .with("ratingKey", key.to_string())
            .with("key", format!("/playlists/{key}/items"))
            .with("guid", format!("com.plexapp.agents.none://{key:032x}"))
            .with("type", "playlist")
            .with("title", group.title.as_str())
            .with("summary", "")
            .with("smart", false)
            .with("playlistType", "video")
            .with("duration", items.map(|item| item.duration).sum::<i64>())
            .with("leafCount", Value::count(group.items.len()))
            .with("addedAt", library.now)
            .with("updatedAt", library.now),
        GroupOf::Section(section) => Element::in_list("Directory", "Metadata")
            .with("ratingKey", key.to_string())
            .with("key", format!("/library/collections/{key}/children"))
            .with("guid", format!("collection://{key:032x}"))
            .with("type", "collection")
            .with("title", group.title.as_str())
            .with("librarySectionID", section)
            .with_some("subtype", items.map(|item| item.kind.name()).next())
            .with("summary", "")
            .with("addedAt", library.now)
            .with("updatedAt", library.now)
            // A text in JSON too.
            .with("childCount", group.items.len().to_string()),
    }
}
