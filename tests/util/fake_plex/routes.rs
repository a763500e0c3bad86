//! The calls that the server knows: who may make them, and which rows they give.
//!
//! Owns the map from method and path to an [`Answer`], Plex's order of refusals (401 before 403 before
//! 404) and its paging. Rows stay keys until their page is known, so a page of a large library costs
//! one page. Nothing here changes the library but the scan of a section, which is only noted.

use super::faults::Fault;
use super::filter;
use super::http::{Reply, Request};
use super::model::{GroupOf, Item, Kind, Library, Refresh, Section, SectionId, SectionKind};
use super::render::{self, Element, Value};
use super::view::{self, Context, Detail};

/// What a call comes to.
pub(super) enum Answer {
    List(Listing),
    /// 200 without a body: an action was taken up.
    Done,
    /// Plex's error page.
    Status(u16),
}

/// A container whose rows are not written yet.
pub(super) struct Listing {
    container: Element,
    /// The list of the rows in JSON.
    key: &'static str,
    rows: Vec<Row>,
    detail: Detail,
}

enum Row {
    Item(u64),
    /// An item in a playlist, and its place there.
    PlaylistItem(u64, i64),
    /// A line of the history, by its index.
    Play(usize),
    Plain(Element),
}

impl Listing {
    fn new(key: &'static str, rows: Vec<Row>) -> Self {
        let detail = Detail { context: Context::Server, guids: false, check_files: false };
        Self { container: Element::object("MediaContainer"), key, rows, detail }
    }

    fn plain(key: &'static str, rows: impl IntoIterator<Item = Element>) -> Self {
        Self::new(key, rows.into_iter().map(Row::Plain).collect())
    }

    fn items(keys: impl IntoIterator<Item = u64>, context: Context, request: &Request) -> Self {
        let (guids, check_files) = (request.flag("includeGuids"), request.flag("checkFiles"));
        let rows = keys.into_iter().map(Row::Item).collect();
        Self { detail: Detail { context, guids, check_files }, ..Self::new("Metadata", rows) }
    }

    fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.container.set(name, value);
        self
    }

    /// Names the section in the container, as listings of one section do.
    fn of_section(self, section: &Section) -> Self {
        self.with("allowSync", true)
            .with("identifier", "com.plexapp.plugins.library")
            .with("librarySectionID", section.id)
            .with("librarySectionTitle", section.title.as_str())
            .with("librarySectionUUID", view::uuid(section))
            .with("title1", section.title.as_str())
    }
}

/// Answers the request of that user; `None` stands for a missing or unknown token.
pub(super) fn answer(library: &mut Library, user: Option<usize>, request: &Request) -> Answer {
    let parts: Vec<&str> = request.path.split('/').filter(|part| !part.is_empty()).collect();
    if parts == ["identity"] {
        return Answer::List(identity(library));
    }
    let Some(user) = user else { return Answer::Status(401) };
    let reading = matches!(request.method.as_str(), "GET" | "HEAD");
    if let ["library", "sections", section, "refresh"] = parts[..] {
        return refresh(library, user, section, request);
    }
    if !reading {
        return Answer::Status(404);
    }
    let for_owner = matches!(parts[..], ["status" | ":", ..] | ["accounts" | "activities"]);
    if for_owner && !Library::is_owner(user) {
        return Answer::Status(403);
    }
    let listing = match parts[..] {
        [] => Some(root(library)),
        ["accounts"] => Some(accounts(library)),
        ["activities"] => Some(activities(library)),
        [":", "prefs"] => Some(preferences(library)),
        ["status", "sessions"] => {
            let rows = library.sessions.iter().map(|session| view::session(library, session));
            Some(Listing::plain("Metadata", rows))
        }
        ["status", "sessions", "history", "all"] => Some(history(library, request)),
        ["playlists"] => Some(playlists(library, user, request)),
        ["playlists", key, "items"] => playlist_items(library, user, key, request),
        ["library", ref rest @ ..] => in_library(library, user, rest, request),
        _ => None,
    };
    match listing {
        _ if parts.last() == Some(&"all") && request.arg("limit") == Some("0") => Answer::Status(500),
        Some(listing) => Answer::List(listing),
        None => Answer::Status(404),
    }
}

fn in_library(library: &Library, user: usize, rest: &[&str], request: &Request) -> Option<Listing> {
    let visible = |id: &SectionId| library.sees(user, *id);
    match rest {
        [] => {
            let rows = ["sections", "recentlyAdded", "onDeck"]
                .map(|key| Element::row("Directory").with("key", key).with("title", key));
            let listing = Listing::plain("Directory", rows).with("title1", "Plex Library");
            Some(listing.with("identifier", "com.plexapp.plugins.library").with("mediaTagVersion", library.now))
        }
        ["sections"] | ["sections", "all"] => {
            let sections = library.sections.iter().filter(|section| visible(&section.id));
            let rows = sections.map(|section| view::section(section, library.now, library.revision));
            Some(Listing::plain("Directory", rows).with("allowSync", false).with("title1", "Plex Library"))
        }
        ["onDeck"] => {
            let home = |id: SectionId| visible(&id) && library.section(id).is_some_and(|section| section.hidden == 0);
            Some(Listing::items(library.on_deck(user, home), Context::Server, request))
        }
        ["all"] => {
            let kind = request.arg("type").and_then(kind_of).unwrap_or(Kind::Movie);
            let items = library.items.values().filter(|item| item.kind == kind && visible(&item.section)).collect();
            let keys = limited(filter::select(library, user, request, items), request);
            Some(Listing::items(keys, Context::Server, request))
        }
        ["sections", id, what] => {
            let section = library.section(id.parse().ok()?).filter(|section| visible(&section.id))?;
            of_section(library, user, section, what, request)
        }
        ["metadata", keys] => {
            let keys: Vec<&str> = keys.split(',').collect();
            metadata(library, user, &keys, request)
        }
        ["metadata", key, what] => {
            let item = library.find_item(key).filter(|item| visible(&item.section))?;
            below(library, user, item, what, request)
        }
        ["collections", key, "children" | "items"] => {
            let key = key.parse::<u64>().ok()?;
            let group = library.groups.iter().find(|group| group.key == key)?;
            let GroupOf::Section(section) = group.of else { return None };
            let section = library.section(section).filter(|section| visible(&section.id))?;
            Some(Listing::items(group.items.iter().copied(), Context::Section, request).of_section(section))
        }
        _ => None,
    }
}

fn of_section(library: &Library, user: usize, section: &Section, what: &str, request: &Request) -> Option<Listing> {
    let own = match section.kind {
        SectionKind::Movie => Some(Kind::Movie),
        SectionKind::Show => Some(Kind::Show),
        SectionKind::Artist => None,
    };
    let listing = match what {
        "onDeck" => {
            let keys = library.on_deck(user, |id| id == section.id);
            return Some(Listing::items(keys, Context::Section, request).of_section(section));
        }
        "all" if request.arg("type") != Some("18") => {
            let kind = request.arg("type").map_or(own, kind_of);
            let items = library.items.values().filter(|item| item.section == section.id && Some(item.kind) == kind);
            let keys = limited(filter::select(library, user, request, items.collect()), request);
            let listing = Listing::items(keys, Context::Section, request);
            listing.with("viewGroup", kind.map_or(section.kind.name(), Kind::name))
        }
        "all" | "collections" => {
            let groups = library.groups.iter().filter(|group| group.of == GroupOf::Section(section.id));
            Listing::plain("Metadata", groups.map(|group| view::group(library, group)))
        }
        _ => return None,
    };
    Some(listing.of_section(section))
}

/// Applies `limit=`, which is not paging: what is beyond it does not exist.
fn limited(mut keys: Vec<u64>, request: &Request) -> Vec<u64> {
    keys.truncate(request.arg("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX));
    keys
}

fn kind_of(number: &str) -> Option<Kind> {
    [Kind::Movie, Kind::Show, Kind::Season, Kind::Episode].into_iter().find(|kind| kind.number() == number)
}

/// Full pages of items and collections; those that are gone are just absent, unless all are.
fn metadata(library: &Library, user: usize, keys: &[&str], request: &Request) -> Option<Listing> {
    let mut sections: Vec<SectionId> = Vec::new();
    let mut rows = Vec::new();
    for key in keys {
        let group = library.groups.iter().find(|group| group.key.to_string() == *key);
        if let Some(group) = group {
            let row = Row::Plain(view::group(library, group));
            match group.of {
                GroupOf::User(owner) if owner == user => rows.push(row),
                GroupOf::Section(section) if library.sees(user, section) => rows.push(row),
                _ => {}
            }
        } else if let Some(item) = library.find_item(key).filter(|item| library.sees(user, item.section)) {
            sections.push(item.section);
            rows.push(Row::Item(item.key));
        }
    }
    if rows.is_empty() {
        return None;
    }
    let listing = Listing { rows, ..Listing::items([], Context::Full, request) };
    match sections.first().and_then(|id| library.section(*id)) {
        Some(section) if sections.iter().all(|id| *id == section.id) => Some(listing.of_section(section)),
        _ => Some(listing),
    }
}

fn below(library: &Library, user: usize, item: &Item, what: &str, request: &Request) -> Option<Listing> {
    let children = |item: &Item| library.children(item.key).into_iter().map(|child| child.key).collect::<Vec<_>>();
    let leaves = |item: &Item| library.leaves(item.key).into_iter().map(|leaf| leaf.key).collect::<Vec<_>>();
    let (keys, group) = match (what, item.kind) {
        ("children", Kind::Show) => (children(item), "season"),
        ("children", Kind::Season) => (children(item), "episode"),
        ("children", _) => (Vec::new(), item.kind.name()),
        ("allLeaves" | "grandchildren", Kind::Show | Kind::Season) => (leaves(item), "episode"),
        _ => return None,
    };
    let mut listing = Listing::items(keys, Context::Section, request).with("key", item.key.to_string());
    if what == "children" && item.kind == Kind::Show && !request.flag("excludeAllLeaves") {
        listing.rows.insert(0, Row::Plain(view::all_episodes(library, user, item)));
    }
    if what == "allLeaves" {
        listing = listing.with("mixedParents", true);
    }
    listing = listing.with("parentTitle", item.title.as_str()).with("viewGroup", group);
    Some(listing.of_section(library.section(item.section)?))
}

fn identity(library: &Library) -> Listing {
    Listing::new("", Vec::new())
        .with("apiVersion", "1.2.2")
        .with("claimed", true)
        .with("machineIdentifier", library.machine_id.as_str())
        .with("version", library.version.as_str())
}

fn root(library: &Library) -> Listing {
    let rows = ["accounts", "activities", "library", "playlists", "status"];
    let rows = rows.map(|key| Element::row("Directory").with("count", 1).with("key", key).with("title", key));
    Listing::plain("Directory", rows)
        .with("allowCameraUpload", true)
        .with("allowChannelAccess", true)
        .with("allowSharing", true)
        .with("allowSync", true)
        .with("friendlyName", library.friendly_name.as_str())
        .with("machineIdentifier", library.machine_id.as_str())
        .with("multiuser", true)
        .with("myPlex", true)
        .with("myPlexMappingState", "mapped")
        .with("myPlexSigninState", "ok")
        .with("myPlexSubscription", true)
        .with("myPlexUsername", "owner@example.com")
        .with("ownerFeatures", "pass,webhooks")
        .with("platform", library.platform.as_str())
        .with("platformVersion", "6.12.0")
        .with("transcoderActiveVideoSessions", 0)
        .with("updatedAt", library.now)
        .with("version", library.version.as_str())
}

/// Account 0 has no name and is nobody.
fn accounts(library: &Library) -> Listing {
    let known = library.users.iter().map(|user| (user.id, user.name.as_str()));
    let rows = std::iter::once((0, "")).chain(known).map(|(id, name)| {
        Element::row("Account").with("id", id).with("key", format!("/accounts/{id}")).with("name", name)
    });
    Listing::plain("Account", rows).with("identifier", "com.plexapp.system.accounts")
}

fn activities(library: &Library) -> Listing {
    let scans = library.sections.iter().filter(|section| section.refreshing).map(|section| {
        Element::row("Activity")
            .with("uuid", view::uuid(section))
            .with("type", "library.update.section")
            .with("cancellable", false)
            .with("userID", 1)
            .with("title", "Scanning")
            .with("subtitle", section.title.as_str())
            .with("progress", 42)
            .child(Element::object("Context").with("librarySectionID", section.id.to_string()))
    });
    Listing::plain("Activity", scans)
}

fn preferences(library: &Library) -> Listing {
    let setting = |id: &str, kind: &str, default: Value, value: Value| {
        Element::row("Setting")
            .with("id", id)
            .with("label", id)
            .with("summary", "")
            .with("type", kind)
            .with("default", default)
            .with("value", value)
            .with("hidden", false)
            .with("advanced", false)
            .with("group", "library")
    };
    let rows = [
        setting("FriendlyName", "text", "".into(), library.friendly_name.as_str().into()),
        setting("autoEmptyTrash", "bool", true.into(), true.into()),
        setting("OnDeckWindow", "int", 16.into(), library.on_deck_weeks.into()),
        setting("OnDeckLimit", "int", 40.into(), Value::count(library.on_deck_limit)),
        setting("OnDeckIncludePremieres", "bool", true.into(), true.into()),
        setting("LibraryVideoPlayedThreshold", "int", 90.into(), 90.into()),
        setting("secureConnections", "int", 1.into(), 1.into()),
    ];
    Listing::plain("Setting", rows)
}

fn history(library: &Library, request: &Request) -> Listing {
    let mut rows: Vec<usize> = (0..library.history.len()).collect();
    rows.retain(|&row| {
        let play = &library.history[row];
        request.query.iter().all(|(name, value)| {
            let number: Option<i64> = value.parse().ok();
            match name.as_str() {
                "accountID" => number == Some(play.account),
                "librarySectionID" => number == Some(play.section),
                "metadataItemID" => play.item.is_some_and(|item| item.to_string() == *value),
                "viewedAt>" => number.is_some_and(|number| play.viewed_at >= number),
                "viewedAt<" => number.is_some_and(|number| play.viewed_at <= number),
                _ => true,
            }
        })
    });
    let viewed_at = |row: &usize| library.history[*row].viewed_at;
    match request.arg("sort") {
        Some("viewedAt:desc") => rows.sort_by_key(|row| std::cmp::Reverse(viewed_at(row))),
        Some("viewedAt" | "viewedAt:asc") => rows.sort_by_key(viewed_at),
        _ => {}
    }
    Listing::new("Metadata", rows.into_iter().map(Row::Play).collect())
}

fn playlists(library: &Library, user: usize, request: &Request) -> Listing {
    let video = request.arg("playlistType").is_none_or(|kind| kind == "video");
    let own = library.groups.iter().filter(|group| video && group.of == GroupOf::User(user));
    Listing::plain("Metadata", own.map(|group| view::group(library, group)))
}

fn playlist_items(library: &Library, user: usize, key: &str, request: &Request) -> Option<Listing> {
    let key = key.parse::<u64>().ok()?;
    let group = library.groups.iter().find(|group| group.key == key && group.of == GroupOf::User(user))?;
    let rows = (1..).zip(&group.items).map(|(place, item)| Row::PlaylistItem(*item, place)).collect();
    let listing = Listing { rows, ..Listing::items([], Context::Server, request) };
    Some(
        listing
            .with("leafCount", Value::count(group.items.len()))
            .with("playlistType", "video")
            .with("ratingKey", group.key.to_string())
            .with("title", group.title.as_str()),
    )
}

fn refresh(library: &mut Library, user: usize, section: &str, request: &Request) -> Answer {
    if !Library::is_owner(user) {
        return Answer::Status(403);
    }
    let Some(section) = section.parse().ok().and_then(|id| library.section(id)) else { return Answer::Status(404) };
    match request.method.as_str() {
        "GET" | "POST" => {}
        "DELETE" => return Answer::Done,
        _ => return Answer::Status(404),
    }
    let path = request.arg("path").map(str::to_owned);
    let takes_effect = path.as_deref().is_none_or(|path| {
        let below = |location: &String| path.strip_prefix(location.as_str());
        let inside = section.locations.iter().filter_map(below).any(|rest| rest.is_empty() || rest.starts_with('/'));
        // Plex scans folders; the path of a file does nothing.
        let mut parts = library.items.values().flat_map(|item| &item.media).flat_map(|media| &media.parts);
        inside && !parts.any(|part| part.file.as_deref() == Some(path))
    });
    let section = section.id;
    library.refreshes.push(Refresh { section, path, takes_effect });
    Answer::Done
}

/// Cuts the page out, writes its rows and renders them as asked. Paging needs both start and size.
pub(super) fn page_and_render(
    library: &Library,
    user: Option<usize>,
    listing: &Listing,
    request: &Request,
    faults: &[Fault],
) -> Reply {
    let number = |name: &str| request.plex_value(name).and_then(|value| value.parse::<usize>().ok());
    let paging = number("X-Plex-Container-Start").zip(number("X-Plex-Container-Size"));
    let (mut start, mut size) = paging.unwrap_or((0, usize::MAX));
    let (offset, mut total) = (start, listing.rows.len());
    for fault in faults {
        match fault {
            Fault::PageCap(most) => size = size.min(*most),
            Fault::ShiftedPages(by) if start > 0 => {
                let rows = usize::try_from(by.unsigned_abs()).unwrap_or(usize::MAX);
                if *by > 0 {
                    start = start.saturating_sub(rows);
                    total = total.saturating_add(rows);
                } else {
                    start = start.saturating_add(rows);
                    total = total.saturating_sub(rows);
                }
            }
            _ => {}
        }
    }
    // `/identity` is answered without a user; it has no rows, so nobody's view is shown.
    let user = user.unwrap_or_default();
    let rows: Vec<Element> =
        listing.rows.iter().skip(start).take(size).map(|row| write_row(library, user, row, listing.detail)).collect();

    let mut container = Element::object("MediaContainer").with("size", Value::count(rows.len()));
    if paging.is_some() {
        container.set("totalSize", Value::count(total));
        container.set("offset", Value::count(offset));
    }
    container.absorb(&listing.container);
    for fault in faults {
        if let Fault::HugeBody(bytes) = fault {
            container.set("padding", "x".repeat(*bytes));
        }
    }
    for row in rows {
        container.push(row);
    }
    let json = request.wants_json() && !faults.contains(&Fault::AlwaysXml);
    let mut reply = if json {
        Reply::new(200, "application/json", render::json(&container, listing.key, faults).into_bytes())
    } else {
        Reply::new(200, "text/xml;charset=utf-8", render::xml(&container).into_bytes())
    };
    if paging.is_some() {
        reply.headers.push(("X-Plex-Container-Start", offset.to_string()));
        reply.headers.push(("X-Plex-Container-Total-Size", total.to_string()));
    }
    reply
}

fn write_row(library: &Library, user: usize, row: &Row, detail: Detail) -> Element {
    match row {
        Row::Item(key) => view::item(library, user, &library.items[key], detail),
        Row::PlaylistItem(key, place) => {
            view::item(library, user, &library.items[key], detail).with("playlistItemID", *place)
        }
        Row::Play(index) => view::play(library, &library.history[*index]),
        Row::Plain(element) => element.clone(),
    }
}
