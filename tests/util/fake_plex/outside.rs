//! The services of plex.tv as far as a household needs them: accounts, watchlists, the community, feeds.
//!
//! Owns who is a member of the owner's home and with whom the server is shared, the tokens that plex.tv
//! gives, everybody's watchlist and the feeds. The tokens of a server are worth nothing here, and the
//! owner's is that of the account. Each service is below a path of its own, so that one listener can be
//! all of them. As in the real ones, some calls know XML alone, a page of a watchlist has 20 rows unless
//! more are asked for and never more than 100, and a private list is a 200 with errors in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::{Value, json};

use super::faults::Fault;
use super::http::{Reply, Request};
use super::model::{Kind, Library, Pin};
use super::render::{self, Element, Value as Shown};

/// The most rows of a page of a watchlist, and how many there are unless asked.
const PAGE_LIMIT: usize = 100;
const PAGE: usize = 20;

/// Something on a list.
#[derive(Debug, Clone)]
pub struct Wish {
    pub kind: Kind,
    /// Hexadecimal, as plex.tv's ids are.
    pub id: String,
    pub title: String,
    /// `imdb://tt…` and the like; a watchlist does not show them.
    pub ids: Vec<String>,
}

impl Wish {
    /// Something that no library here has.
    pub fn absent(kind: Kind, number: u32) -> Self {
        Self { kind, id: format!("f{number:023x}"), title: format!("Absent {number}"), ids: Vec::new() }
    }

    fn guid(&self) -> String {
        format!("plex://{}/{}", self.kind.name(), self.id)
    }
}

/// What somebody is to the owner.
#[derive(Debug)]
struct Membership {
    home: bool,
    pin: Option<String>,
    /// plex.tv does not tell the owner this user's token.
    withheld: bool,
    /// plex.tv does not list this server for the user.
    outsider: bool,
}

/// All that plex.tv knows.
#[derive(Debug, Default)]
pub(super) struct Outside {
    members: BTreeMap<String, Membership>,
    /// Friends, with access to the server or without.
    friends: BTreeSet<String>,
    /// Account tokens that were given out, and whose they are.
    accounts: BTreeMap<String, String>,
    given: u64,
    lists: BTreeMap<String, Vec<Wish>>,
    private: BTreeSet<String>,
    /// By the last part of the path: entries, and whose they are.
    feeds: BTreeMap<String, Vec<(Wish, Option<String>)>>,
}

impl Library {
    /// Adds a user who is a member of the owner's home, with a PIN or without.
    pub fn add_home_user(&mut self, name: &str, token: &str, pin: Option<&str>) {
        self.add_user(name, token);
        self.join_home(name, pin);
    }

    /// Makes a user of the server a member of the home.
    pub fn join_home(&mut self, name: &str, pin: Option<&str>) {
        let membership = Membership { home: true, pin: pin.map(str::to_owned), withheld: false, outsider: false };
        self.outside.members.insert(name.to_owned(), membership);
    }

    /// Adds a friend with whom the server is shared.
    pub fn add_friend(&mut self, name: &str, token: &str) {
        self.add_user(name, token);
        let membership = Membership { home: false, pin: None, withheld: false, outsider: false };
        self.outside.members.insert(name.to_owned(), membership);
        self.add_stranger(name);
    }

    /// Adds a friend without access to the server.
    pub fn add_stranger(&mut self, name: &str) {
        self.outside.friends.insert(name.to_owned());
    }

    /// Whether plex.tv tells the owner this user's token of the server.
    pub fn withhold_token(&mut self, name: &str, withheld: bool) {
        self.outside.members.get_mut(name).expect("only a member's token can be withheld").withheld = withheld;
    }

    /// Whether plex.tv lists this server for the member.
    pub fn make_outsider(&mut self, name: &str, outsider: bool) {
        self.outside.members.get_mut(name).expect("only a member can be an outsider").outsider = outsider;
    }

    /// Somebody is no member and no friend any more.
    pub fn leave(&mut self, name: &str) {
        self.outside.members.remove(name);
        self.outside.friends.remove(name);
    }

    /// All account tokens that were given out are worth nothing from now on.
    pub fn revoke_accounts(&mut self) {
        self.outside.accounts.clear();
    }

    /// What plex.tv calls an item of the library.
    pub fn wish(&self, rating_key: &str) -> Wish {
        let item = self.find_item(rating_key).expect("the item is in the library");
        let id = item.guid.rsplit('/').next().unwrap_or_default().to_owned();
        Wish { kind: item.kind, id, title: item.title.clone(), ids: item.external_guids.clone() }
    }

    /// The rating key of the show of an episode.
    pub fn show_of(&self, episode: &str) -> String {
        let top = self.lineage(self.key_of(episode)).last().map(|top| top.key);
        top.expect("an episode has a show").to_string()
    }

    /// Adds to the end of somebody's watchlist, which begins with the latest entry.
    pub fn add_wish(&mut self, user: &str, wish: Wish) {
        self.outside.lists.entry(user.to_owned()).or_default().push(wish);
    }

    /// Empties somebody's watchlist.
    pub fn clear_wishes(&mut self, user: &str) {
        self.outside.lists.remove(user);
    }

    /// Whether friends may see somebody's watchlist.
    pub fn set_private(&mut self, user: &str, private: bool) {
        if private {
            self.outside.private.insert(user.to_owned());
        } else {
            self.outside.private.remove(user);
        }
    }

    /// The feed at `/rss/NAME`: entries, and the uuid of whose they are.
    pub fn set_feed(&mut self, name: &str, entries: Vec<(Wish, Option<String>)>) {
        self.outside.feeds.insert(name.to_owned(), entries);
    }

    /// Whose account this token opens. That of the owner is the server's too.
    pub(super) fn account_of(&self, token: &str) -> Option<String> {
        if self.users[0].token == token {
            return Some(self.users[0].name.clone());
        }
        self.outside.accounts.get(token).cloned()
    }

    fn account_id(&self, name: &str) -> i64 {
        self.users.iter().find(|user| user.name == name).map_or(0, |user| if user.id == 1 { 900 } else { user.id })
    }
}

/// The uuid of an account.
pub fn account_uuid(name: &str) -> String {
    let number = name.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    format!("{number:016x}")
}

/// Answers for all services.
pub(super) fn answer(library: &mut Library, account: Option<&str>, request: &Request, faults: &[Fault]) -> Reply {
    let path = request.path.clone();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if let ["rss", name] = parts[..] {
        return feed(library, name, request);
    }
    if let ["plex.tv", "api", "v2", "pins", ref rest @ ..] = parts[..] {
        return pin(library, rest, request);
    }
    let Some(account) = account else {
        return match parts.first() {
            Some(&"discover" | &"metadata") => xml_error(401, "Unauthorized"),
            _ if parts.contains(&"servers") => {
                let body =
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<errors><error>Invalid token</error></errors>\n";
                Reply::new(422, "application/xml; charset=utf-8", body.into())
            }
            _ => json_error(401, 1001, "User could not be authenticated"),
        };
    };
    match (request.method.as_str(), &parts[..]) {
        ("GET", ["plex.tv", "api", "v2", "home", "users"]) => home_users(library),
        ("POST", ["plex.tv", "api", "v2", "home", "users", id, "switch"]) => switch(library, id, request),
        ("GET", ["plex.tv", "api", "v2", "resources"]) => resources(library, account),
        ("GET", ["plex.tv", "api", "servers", id, "shared_servers"]) if *id == library.machine_id => {
            shared_servers(library, account, request)
        }
        ("GET", ["discover", "library", "sections", "watchlist", "all" | "released" | "available"]) => {
            watchlist(library, account, request, faults)
        }
        ("GET", ["metadata", "library", "metadata", id]) => described(library, id, request, faults),
        ("POST", ["community", "api"]) => graphql(library, request),
        _ => Reply::error(404, &path),
    }
}

fn home_users(library: &Library) -> Reply {
    let owner = (library.users[0].name.as_str(), true, None);
    let home = library.outside.members.iter().filter(|(_, member)| member.home);
    let users = std::iter::once(owner).chain(home.map(|(name, member)| (name.as_str(), false, member.pin.as_ref())));
    let users: Vec<Value> = users
        .map(|(name, admin, pin)| {
            json!({
                "id": library.account_id(name), "uuid": account_uuid(name), "title": name,
                "username": admin.then_some(name), "email": null, "friendlyName": null,
                "hasPassword": admin, "restricted": !admin, "restrictionProfile": null,
                "admin": admin, "guest": false, "protected": pin.is_some(),
            })
        })
        .collect();
    let home = json!({
        "id": 77, "name": "Home", "guestUserID": null, "guestEnabled": false, "subscription": true, "users": users,
    });
    reply_json(200, &home)
}

fn switch(library: &mut Library, id: &str, request: &Request) -> Reply {
    let is_meant = |name: &String| library.account_id(name).to_string() == id || account_uuid(name) == id;
    let Some(name) = library.outside.members.keys().find(|name| is_meant(name)).cloned() else {
        return json_error(404, 1002, "User not found");
    };
    let member = &library.outside.members[&name];
    if member.pin.is_some() && member.pin.as_deref() != request.arg("pin") {
        return json_error(403, 1041, "A valid PIN is required to perform this action");
    }
    library.outside.given += 1;
    let token = format!("{name}-account-{}", library.outside.given);
    library.outside.accounts.insert(token.clone(), name.clone());
    let (id, uuid) = (library.account_id(&name), account_uuid(&name));
    reply_json(201, &json!({ "id": id, "uuid": uuid, "title": name, "authToken": token, "home": true }))
}

fn resources(library: &Library, account: &str) -> Reply {
    let token = library.users.iter().find(|user| user.name == account).map(|user| user.token.clone());
    let server = json!({
        "name": library.friendly_name, "product": "Plex Media Server", "provides": "server",
        "clientIdentifier": library.machine_id, "owned": false, "ownerId": 900, "sourceTitle": null,
        "accessToken": token, "connections": [],
    });
    let player = json!({ "name": "TV", "product": "Plex for TV", "provides": "player", "clientIdentifier": "tv",
        "accessToken": null });
    if library.outside.members.get(account).is_some_and(|member| member.outsider) {
        return reply_json(200, &json!([player]));
    }
    reply_json(200, &json!([player, server]))
}

/// XML, whatever is asked for.
fn shared_servers(library: &Library, account: &str, request: &Request) -> Reply {
    if account != library.users[0].name {
        return Reply::error(403, &request.path);
    }
    let mut root = Element::object("MediaContainer").with("machineIdentifier", library.machine_id.as_str());
    for (number, (name, member)) in (1..).zip(&library.outside.members) {
        let Some(user) = library.users.iter().find(|user| user.name == *name) else { continue };
        let share = Element::row("SharedServer")
            .with("id", number)
            // A managed user has no name of an account.
            .with("username", if member.home { "" } else { name.as_str() })
            .with("email", "")
            .with("userID", library.account_id(name))
            .with_some("accessToken", (!member.withheld).then_some(user.token.as_str()))
            .with("name", library.friendly_name.as_str())
            .with("acceptedAt", library.now)
            .with("allLibraries", true)
            .with("owned", false);
        root.push(share);
    }
    // An invitation that nobody has taken yet.
    root.push(Element::row("SharedServer").with("id", 99).with("email", "somebody@example.org"));
    Reply::new(200, "application/xml; charset=utf-8", render::xml(&root).into_bytes())
}

/// The PIN of plex.tv, which has one at a time here. It needs a client to say who it is.
fn pin(library: &mut Library, rest: &[&str], request: &Request) -> Reply {
    let say = |status, body: String| Reply::new(status, "application/json; charset=utf-8", body.into_bytes());
    let pin =
        |token: &str| format!(r#"{{"id":4711,"code":"AB3D","expiresIn":900,"trusted":false,"authToken":{token}}}"#);
    if request.plex_value("X-Plex-Client-Identifier").is_none() {
        return say(400, r#"{"errors":[{"code":1000,"message":"X-Plex-Client-Identifier is missing"}]}"#.to_owned());
    }
    match (request.method.as_str(), rest, &mut library.pin) {
        ("POST", [], _) => say(201, pin("null")),
        ("GET", ["4711"], Pin::Waiting) => say(200, pin("null")),
        ("GET", ["4711"], Pin::Linked { looks: looks @ 1.., .. }) => {
            *looks -= 1;
            say(200, pin("null"))
        }
        ("GET", ["4711"], Pin::Linked { token, .. }) => say(200, pin(&format!("\"{token}\""))),
        _ => say(404, r#"{"errors":[{"code":1020,"message":"Code not found or expired","status":404}]}"#.to_owned()),
    }
}

fn row(wish: &Wish) -> Element {
    let tag = if wish.kind == Kind::Movie { "Video" } else { "Directory" };
    Element::in_list(tag, "Metadata")
        .with("ratingKey", wish.id.as_str())
        .with("guid", wish.guid())
        .with("key", format!("/library/metadata/{}", wish.id))
        .with("type", wish.kind.name())
        .with("title", wish.title.as_str())
        .with("addedAt", 1_583_884_800)
        .with("userState", false)
}

fn watchlist(library: &Library, account: &str, request: &Request, faults: &[Fault]) -> Reply {
    let number = |name: &str| request.plex_value(name).and_then(|value| value.parse::<usize>().ok());
    let start = number("X-Plex-Container-Start").unwrap_or(0);
    let size = number("X-Plex-Container-Size").unwrap_or(PAGE).min(PAGE_LIMIT);
    let all = library.outside.lists.get(account).map_or(&[][..], Vec::as_slice);
    let page: Vec<Element> = all.iter().skip(start).take(size).map(row).collect();
    let mut container = Element::object("MediaContainer")
        .with("librarySectionID", "watchlist")
        .with("offset", Shown::count(start))
        .with("totalSize", Shown::count(all.len()))
        .with("identifier", "tv.plex.provider.discover")
        .with("size", Shown::count(page.len()));
    for row in page {
        container.push(row);
    }
    rendered(&container, request, faults)
}

/// An item on a watchlist, with its external ids.
fn described(library: &Library, id: &str, request: &Request, faults: &[Fault]) -> Reply {
    let Some(wish) = library.outside.lists.values().flatten().find(|wish| wish.id == id) else {
        return xml_error(404, "Not Found");
    };
    let mut row = row(wish);
    for id in &wish.ids {
        row.push(Element::row("Guid").with("id", id.as_str()));
    }
    rendered(&Element::object("MediaContainer").with("size", 1).child(row), request, faults)
}

fn rendered(container: &Element, request: &Request, faults: &[Fault]) -> Reply {
    if request.wants_json() && !faults.contains(&Fault::AlwaysXml) {
        Reply::new(200, "application/json", render::json(container, "Metadata", faults).into_bytes())
    } else {
        Reply::new(200, "text/xml;charset=utf-8", render::xml(container).into_bytes())
    }
}

/// The two questions that are known; another one is a mistake of the client.
fn graphql(library: &Library, request: &Request) -> Reply {
    let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let query = asked["query"].as_str().unwrap_or_default();
    let outside = &library.outside;
    if query.contains("allFriendsV2") {
        let friend = |name: &String| json!({ "user": { "id": account_uuid(name), "username": name } });
        let friends: Vec<Value> = outside.friends.iter().map(friend).collect();
        return reply_json(200, &json!({ "data": { "allFriendsV2": friends } }));
    }
    let variables = &asked["variables"];
    let first = variables["first"].as_u64().and_then(|first| usize::try_from(first).ok()).unwrap_or(usize::MAX);
    if !query.contains("watchlist(") || first > PAGE_LIMIT {
        return reply_json(400, &json!({ "errors": [{ "message": "Bad query" }] }));
    }
    let uuid = variables["uuid"].as_str().unwrap_or_default();
    let visible = |name: &&String| account_uuid(name) == uuid && !outside.private.contains(*name);
    let Some(name) = outside.friends.iter().find(visible) else {
        let message = format!("User not found: {uuid}");
        return reply_json(200, &json!({ "data": { "user": null }, "errors": [{ "message": message }] }));
    };
    let all = outside.lists.get(name).map_or(&[][..], Vec::as_slice);
    let start = variables["after"].as_str().and_then(|after| after.parse().ok()).unwrap_or(0);
    let node = |wish: &Wish| json!({ "id": wish.id, "title": wish.title, "type": wish.kind.name().to_uppercase() });
    let nodes: Vec<Value> = all.iter().skip(start).take(first).map(node).collect();
    let end = start + nodes.len();
    let info = json!({ "hasNextPage": end < all.len(), "endCursor": end.to_string() });
    reply_json(200, &json!({ "data": { "user": { "watchlist": { "nodes": nodes, "pageInfo": info } } } }))
}

/// XML unless `format=json`. Knows no tokens, and shows 50 entries at most.
fn feed(library: &Library, name: &str, request: &Request) -> Reply {
    let Some(entries) = library.outside.feeds.get(name) else { return Reply::error(404, &request.path) };
    let entries = &entries[..entries.len().min(50)];
    if request.arg("format") == Some("json") {
        let item = |(wish, author): &(Wish, Option<String>)| {
            json!({ "title": format!("{} (2020)", wish.title), "pubDate": "Tue, 03 Nov 2026 10:00:00 GMT",
                "link": "https://watch.plex.tv/x", "guids": wish.ids, "description": "", "category": wish.kind.name(),
                "author": author, "credits": [], "keywords": [] })
        };
        let items: Vec<Value> = entries.iter().map(item).collect();
        let items = Value::from(items);
        // The real ones say this twice.
        let text = format!(
            "{{\"title\":\"Watchlist\",\"description\":\"\",\"description\":\"\",\"category\":\"\",\"items\":{items}}}"
        );
        return Reply::new(200, "application/json", text.into_bytes());
    }
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<rss xmlns:media=\"http://search.yahoo.com/mrss/\" \
         version=\"2.0\"><channel><title><![CDATA[Watchlist & more]]></title>\n",
    );
    for (wish, author) in entries {
        let title = wish.title.replace('&', "&amp;").replace('<', "&lt;");
        let guids: Vec<String> = wish.ids.iter().map(|id| format!("<guid isPermaLink=\"false\">{id}</guid>")).collect();
        let author = author.as_ref().map(|author| format!("<author>{author}</author>")).unwrap_or_default();
        let _ = writeln!(
            text,
            "<item><title>{title} (2020)</title><pubDate>Tue, 03 Nov 2026 10:00:00 GMT</pubDate>{}\
             <category>{}</category>{author}<media:rating scheme=\"urn:mpaa\"/></item>",
            guids.concat(),
            wish.kind.name(),
        );
    }
    text.push_str("</channel></rss>\n");
    Reply::new(200, "application/rss+xml; charset=utf-8", text.into_bytes())
}

fn reply_json(status: u16, value: &Value) -> Reply {
    Reply::new(status, "application/json; charset=utf-8", value.to_string().into_bytes())
}

fn json_error(status: u16, code: u32, message: &str) -> Reply {
    reply_json(status, &json!({ "errors": [{ "code": code, "message": message, "status": status }] }))
}

fn xml_error(status: u16, message: &str) -> Reply {
    let body = format!("<Error error=\"{message}\" message=\"{message}\" statusCode=\"{status}\"/>");
    Reply::new(status, "text/xml;charset=utf-8", body.into_bytes())
}
