//! The calls of a Plex Media Server.
//!
//! Owns which endpoint answers which question, and what is asked instead where a server does not
//! know it. Refuses to hand out rows that were not asked for, and to speak for a server that is not
//! the configured one.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::address::encode;
use super::client::{Client, Get, TRIES};
use super::listing::{Ask, Gathered, Listing, rows};
use super::wire;
use super::{
    Identity, Item, ItemKind, Library, LibraryKind, List, ListKind, MediaServer, PlexError, RatingKey, Read, Session,
    ShowRef,
};
use crate::secret::Secret;

/// Shows in one filter, so that the URL stays short.
const SHOWS_AT_ONCE: usize = 40;
/// Items in one call.
const ITEMS_AT_ONCE: usize = 50;
/// How many calls may be spent on finding the items that the server cannot answer.
const MAX_SPLITS: u32 = 16;
/// The owner's local account.
const OWNER: &str = "1";

/// Where the server is and how to talk to it.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// `http://host:32400`, with or without a path prefix.
    pub url: String,
    /// The owner's token.
    pub token: Secret,
    /// For one whole call, body included.
    pub timeout: Duration,
    /// PEM file of the authorities that are trusted instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// Trust any certificate.
    pub insecure_tls: bool,
    /// Refuse any other server.
    pub machine_id: Option<String>,
    /// What Plex knows this installation by.
    pub client_id: String,
    /// The version of this program.
    pub version: String,
    /// The pause before the first retry; all others are multiples of it.
    pub backoff: Duration,
    /// Rows asked for at once.
    pub page_size: u64,
}

impl ServerOptions {
    /// The usual: 60 seconds a call, public certificates, any server.
    pub fn new(url: impl Into<String>, token: Secret) -> Self {
        Self {
            url: url.into(),
            token,
            timeout: Duration::from_secs(60),
            ca_file: None,
            insecure_tls: false,
            machine_id: None,
            client_id: "plexcache".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backoff: Duration::from_secs(1),
            page_size: 500,
        }
    }
}

/// A Plex Media Server, asked over HTTP. Threads may share it.
pub struct PlexServer {
    pub(super) client: Client,
    pub(super) token: Secret,
    machine_id: Option<String>,
    page_size: u64,
    /// The server does not know the filter by show, so it need not be tried again.
    no_show_filter: AtomicBool,
}

impl PlexServer {
    /// Prepares to talk to the server; sends nothing.
    ///
    /// # Errors
    /// [`PlexError::Config`]: the URL or the CA file cannot be used.
    pub fn new(options: ServerOptions) -> Result<Self, PlexError> {
        Ok(Self {
            client: Client::new(&options)?,
            token: options.token,
            machine_id: options.machine_id,
            page_size: options.page_size.max(1),
            no_show_filter: AtomicBool::new(false),
        })
    }

    /// How many requests were sent, retries among them.
    pub fn request_count(&self) -> u64 {
        self.client.request_count()
    }

    /// From now on asks `renew` for another token when the server does not accept one, and goes on
    /// with that. Each token is asked for once.
    pub fn renew_with(&self, renew: impl Fn(&Secret) -> Option<Secret> + Send + Sync + 'static) {
        self.client.renew_with(Box::new(renew));
    }

    fn ask<'a>(&self, path: String, query: String, who: &'a Secret, library: &'a Library) -> Ask<'a> {
        Ask { path, query, who, library: Some(&library.id), page_size: self.page_size }
    }

    /// The episodes of a few shows at once. The second list are those for which this says nothing.
    fn filtered<'k>(
        &self,
        who: &Secret,
        library: &Library,
        shows: &'k [RatingKey],
    ) -> Result<(Listing, Vec<&'k RatingKey>), PlexError> {
        let everything = || Ok((Listing::default(), shows.iter().collect()));
        if self.no_show_filter.load(Ordering::Relaxed) {
            return everything();
        }
        let wanted: BTreeSet<&RatingKey> = shows.iter().collect();
        let is_foreign = |item: &Item| show_key(item).is_none_or(|show| !wanted.contains(show));
        let path = format!("/library/sections/{}/all", encode(&library.id));
        let ask = self.ask(path, format!("type=4&show.id={}", join(shows)), who, library);
        // A server that ignores the filter lists the whole library; its first page tells.
        let mut ignored = false;
        let listing = ask.all(&self.client, |items| {
            ignored = items.iter().any(is_foreign);
            ignored
        });
        let mut listing = match listing {
            Ok(listing) => listing,
            Err(error @ (PlexError::NotFound { .. } | PlexError::Status { status: 400 | 500, .. })) => {
                tracing::debug!(%error, "no filter by show");
                if matches!(error, PlexError::Status { status: 400, .. }) {
                    self.no_show_filter.store(true, Ordering::Relaxed);
                }
                return everything();
            }
            Err(error) => return Err(error),
        };
        if ignored {
            self.no_show_filter.store(true, Ordering::Relaxed);
            return everything();
        }
        if listing.items.iter().any(|item| item.kind == ItemKind::Episode && show_key(item).is_none()) {
            return everything();
        }
        listing.items.retain(|item| item.kind == ItemKind::Episode && !is_foreign(item));
        let answered: BTreeSet<&RatingKey> = listing.items.iter().filter_map(show_key).collect();
        let silent = shows.iter().filter(|show| !answered.contains(show)).collect();
        Ok((listing, silent))
    }

    fn whole(&self, path: String, query: &str, who: &Secret, library: Option<&Library>) -> Read<Vec<Item>> {
        let library = library.map(|library| library.id.as_str());
        let ask = Ask { path, query: query.to_owned(), who, library, page_size: self.page_size };
        match ask.all(&self.client, |_| false) {
            Ok(listing) => Read::from_parts(listing.items, listing.problems),
            Err(error) => Read::Failed(error),
        }
    }

    fn lists(&self, path: &str, who: &Secret) -> Read<Vec<List>> {
        rows(&self.client, path, who, wire::list).map(|lists| lists.into_iter().flatten().collect())
    }

    /// The episodes of one show.
    fn leaves(&self, who: &Secret, library: &Library, show: &RatingKey) -> Result<Listing, PlexError> {
        let path = format!("/library/metadata/{}/allLeaves", encode(show.as_str()));
        let mut listing = match self.ask(path, String::new(), who, library).all(&self.client, |_| false) {
            Err(PlexError::NotFound { .. }) => Listing::default(),
            other => other?,
        };
        listing.items.retain(|item| item.kind == ItemKind::Episode);
        for item in &mut listing.items {
            let parent = item.show.get_or_insert_with(|| ShowRef { rating_key: None, title: String::new() });
            parent.rating_key.get_or_insert_with(|| show.clone());
        }
        Ok(listing)
    }
}

impl MediaServer for PlexServer {
    fn identity(&self) -> Result<Identity, PlexError> {
        let call = Get::new("/identity", None);
        let nameless = || PlexError::NotPlex {
            endpoint: "/identity".to_owned(),
            what: "it does not say which server it is".to_owned(),
        };
        let found = match self.client.get(&call) {
            Err(PlexError::NotFound { .. }) => return Err(nameless()),
            answer => wire::identity(&answer?.container).ok_or_else(nameless)?,
        };
        match &self.machine_id {
            Some(expected) if !expected.eq_ignore_ascii_case(&found.machine_id) => {
                Err(PlexError::WrongServer { expected: expected.clone(), found: found.machine_id })
            }
            _ => Ok(found),
        }
    }

    fn owner_name(&self) -> Result<String, PlexError> {
        let call = Get::new("/accounts", Some(&self.token));
        let name = wire::account_name(&self.client.get(&call)?.container, OWNER);
        name.ok_or_else(|| PlexError::Lacks { endpoint: call.path, what: "does not name the owner".to_owned() })
    }

    fn libraries(&self, who: &Secret) -> Read<Vec<Library>> {
        rows(&self.client, "/library/sections", who, wire::library)
    }

    fn on_deck(&self, who: &Secret, library: &Library) -> Read<Vec<Item>> {
        let path = format!("/library/sections/{}/onDeck", encode(&library.id));
        self.whole(path, "includeGuids=1", who, Some(library))
    }

    fn catalog(&self, who: &Secret, library: &Library) -> Read<Vec<Item>> {
        let number = if library.kind == LibraryKind::Show { 2 } else { 1 };
        let path = format!("/library/sections/{}/all", encode(&library.id));
        match self.ask(path, format!("type={number}&includeGuids=1"), who, library).all(&self.client, |_| false) {
            Ok(listing) => Read::from_parts(listing.items, listing.problems),
            Err(error) => Read::Failed(error),
        }
    }

    fn episodes(&self, who: &Secret, library: &Library, shows: &[RatingKey]) -> Read<Vec<Item>> {
        let shows: Vec<RatingKey> = BTreeSet::from_iter(shows).into_iter().cloned().collect();
        let mut gathered = Gathered::default();
        for chunk in shows.chunks(SHOWS_AT_ONCE) {
            let silent = match self.filtered(who, library, chunk) {
                Ok((listing, silent)) => {
                    // When it is silent about all of them, it is no answer.
                    if silent.len() < chunk.len() {
                        gathered.add(listing);
                    }
                    silent
                }
                Err(error) => return gathered.cut_short(error),
            };
            for show in silent {
                match self.leaves(who, library, show) {
                    Ok(listing) => gathered.add(listing),
                    Err(error) if is_about_the_item(&error) => gathered.miss(error),
                    Err(error) => return gathered.cut_short(error),
                }
            }
        }
        gathered.finish()
    }

    fn items(&self, who: &Secret, keys: &[RatingKey]) -> Read<Vec<Item>> {
        let keys: Vec<RatingKey> = BTreeSet::from_iter(keys).into_iter().cloned().collect();
        let mut gathered = Gathered::default();
        let mut batches: VecDeque<(&[RatingKey], u32)> =
            keys.chunks(ITEMS_AT_ONCE).map(|batch| (batch, TRIES)).collect();
        let mut splits = 0;
        while let Some((batch, tries)) = batches.pop_front() {
            let mut call = Get::new(format!("/library/metadata/{}", join(batch)), Some(who));
            call.tries = tries;
            match self.client.get(&call).and_then(|answer| Listing::of(&call.path, &answer.container)) {
                Ok(mut listing) => {
                    listing.items.retain(|item| batch.binary_search(&item.rating_key).is_ok());
                    gathered.add(listing);
                }
                // All of them are gone.
                Err(PlexError::NotFound { .. }) => gathered.add(Listing::default()),
                // One item that the server cannot answer must not hide the others.
                Err(error) if is_about_the_item(&error) && batch.len() > 1 && splits < MAX_SPLITS => {
                    splits += 2;
                    let (left, right) = batch.split_at(batch.len() / 2);
                    batches.push_front((right, 1));
                    batches.push_front((left, 1));
                }
                Err(error) if is_about_the_item(&error) => gathered.miss(error),
                Err(error) => return gathered.cut_short(error),
            }
        }
        gathered.finish()
    }

    fn videos(&self, who: &Secret, library: &Library, since: Option<i64>) -> Read<Vec<Item>> {
        let kind = if library.kind == LibraryKind::Show { 4 } else { 1 };
        let mut query = format!("type={kind}");
        if let Some(since) = since {
            // The operator means "after".
            let _ = write!(query, "&addedAt%3E%3E={}&sort=addedAt:desc", since.saturating_sub(1));
        }
        let path = format!("/library/sections/{}/all", encode(&library.id));
        // A server that does not know the filter lists the whole library.
        let is_new = |item: &Item| since.is_none_or(|since| item.added_at.is_some_and(|at| at >= since));
        let read = self.whole(path, &query, who, Some(library));
        read.map(|items| items.into_iter().filter(is_new).collect())
    }

    fn playlists(&self, who: &Secret) -> Read<Vec<List>> {
        self.lists("/playlists", who)
    }

    fn collections(&self, who: &Secret, library: &Library) -> Read<Vec<List>> {
        self.lists(&format!("/library/sections/{}/collections", encode(&library.id)), who)
    }

    fn members(&self, who: &Secret, list: &List) -> Read<Vec<Item>> {
        let key = encode(list.rating_key.as_str());
        let path = match list.kind {
            ListKind::Playlist => format!("/playlists/{key}/items"),
            ListKind::Collection => format!("/library/collections/{key}/children"),
        };
        self.whole(path, "", who, None)
    }

    fn look_at_files(&self, key: &RatingKey) -> Result<Option<Item>, PlexError> {
        let mut call = Get::new(format!("/library/metadata/{}", encode(key.as_str())), Some(&self.token));
        "checkFiles=1".clone_into(&mut call.query);
        // A server whose disk does not answer is not put to it again.
        call.tries = 1;
        match self.client.get(&call).and_then(|answer| Listing::of(&call.path, &answer.container)) {
            Ok(listing) => Ok(listing.items.into_iter().find(|item| item.rating_key == *key)),
            Err(PlexError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn sessions(&self) -> Read<Vec<Session>> {
        rows(&self.client, "/status/sessions", &self.token, wire::session)
    }
}

/// Whether the error is about what was asked for, and other calls may do better.
fn is_about_the_item(error: &PlexError) -> bool {
    match error {
        // A proxy says these when the server behind it is gone.
        PlexError::Status { status, .. } => !matches!(status, 502 | 504),
        PlexError::Body { .. } | PlexError::Lacks { .. } | PlexError::TooLarge { .. } => true,
        _ => false,
    }
}

fn show_key(item: &Item) -> Option<&RatingKey> {
    item.show.as_ref()?.rating_key.as_ref()
}

fn join(keys: &[RatingKey]) -> String {
    let encoded: Vec<String> = keys.iter().map(|key| encode(key.as_str())).collect();
    encoded.join(",")
}

#[cfg(test)]
mod tests {
    use super::super::stub::{Stub, TOKEN, container, reply, token};
    use super::*;

    fn library() -> Library {
        Library {
            id: "2".to_owned(),
            title: "TV".to_owned(),
            kind: LibraryKind::Show,
            locations: vec![],
            refreshing: false,
            stamp: None,
        }
    }

    fn keys(keys: &[&str]) -> Vec<RatingKey> {
        keys.iter().copied().map(RatingKey::new).collect()
    }

    fn ben() -> Secret {
        Secret::new("ben-token")
    }

    fn movies(keys: &[&str]) -> Vec<u8> {
        let rows: Vec<String> = keys.iter().map(|key| format!(r#"{{"ratingKey":"{key}","type":"movie"}}"#)).collect();
        container(&format!(r#""size":{},"Metadata":[{}]"#, rows.len(), rows.join(",")))
    }

    /// Episodes given as `show.episode`, or as `.episode` where the show is not said.
    fn episodes(total: usize, episodes: &[&str]) -> Vec<u8> {
        let rows: Vec<String> = episodes
            .iter()
            .map(|key| match key.split_once('.').unwrap() {
                ("", _) => format!(r#"{{"ratingKey":"{key}","type":"episode"}}"#),
                (show, _) => format!(r#"{{"ratingKey":"{key}","type":"episode","grandparentRatingKey":{show}}}"#),
            })
            .collect();
        container(&format!(r#""size":{},"totalSize":{total},"Metadata":[{}]"#, rows.len(), rows.join(",")))
    }

    /// What came in short: `ok 1 2`, `partial 1 2: problems` or the error.
    fn short(read: &Read<Vec<Item>>) -> String {
        let came = |items: &[Item]| {
            let keys = items.iter().flat_map(|item| [" ", item.rating_key.as_str()]);
            keys.collect::<String>()
        };
        match read {
            Read::Complete(items) => format!("ok{}", came(items)),
            Read::Incomplete { value, problems } => format!("partial{}: {}", came(value), problems.join("; ")),
            Read::Failed(error) => error.to_string(),
        }
    }

    #[test]
    fn the_server_is_known_before_it_sees_a_token() {
        let stub = Stub::new(|_, _| container(r#""size":0,"machineIdentifier":"AB12","version":"1.43.3""#));
        let identity = Identity { machine_id: "AB12".to_owned(), version: "1.43.3".to_owned() };
        assert_eq!(stub.server().identity(), Ok(identity.clone()));
        for (id, same) in [("ab12", true), ("cd34", false)] {
            let options = ServerOptions { machine_id: Some(id.to_owned()), ..stub.options() };
            let found = PlexServer::new(options).unwrap().identity();
            let other = PlexError::WrongServer { expected: id.to_owned(), found: "AB12".to_owned() };
            assert_eq!(found, if same { Ok(identity.clone()) } else { Err(other) });
        }
        for request in stub.requests() {
            assert_eq!((request.target.as_str(), request.header("x-plex-token")), ("/identity", None));
        }
        for answer in [container(r#""size":0"#), reply(404, "", "")] {
            let nameless = Stub::new(move |_, _| answer.clone());
            assert!(matches!(nameless.server().identity(), Err(PlexError::NotPlex { .. })));
        }
    }

    #[test]
    fn the_owner_is_asked_for_with_the_owners_token() {
        let stub = Stub::new(|_, _| container(r#""Account":[{"id":0,"name":""},{"id":1,"name":"anna"}]"#));
        assert_eq!(stub.server().owner_name(), Ok("anna".to_owned()));
        let request = stub.requests().remove(0);
        assert_eq!((request.target.as_str(), request.header("x-plex-token")), ("/accounts", Some(TOKEN)));
        let stub = Stub::new(|_, _| container(r#""Account":[{"id":0,"name":""}]"#));
        assert!(matches!(stub.server().owner_name(), Err(PlexError::Lacks { .. })));
    }

    #[test]
    fn libraries_are_those_of_the_user() {
        let stub = Stub::new(|request, _| match request.header("x-plex-token") {
            Some("ben-token") => container(r#""size":1,"Directory":[{"key":"2","type":"show","title":"TV"}]"#),
            Some(TOKEN) => container(r#""size":2,"Directory":[{"key":"2","type":"show","title":"TV"},{"title":"?"}]"#),
            Some("none") => container(r#""size":0"#),
            _ => reply(401, "", ""),
        });
        let server = stub.server();
        assert_eq!(server.libraries(&ben()), Read::Complete(vec![library()]));
        let problems = vec![r#"/library/sections: row "?" has no key"#.to_owned()];
        assert_eq!(server.libraries(&token()), Read::Incomplete { value: vec![library()], problems });
        assert_eq!(server.libraries(&Secret::new("none")), Read::Complete(vec![]));
        assert!(matches!(server.libraries(&Secret::new("old")), Read::Failed(PlexError::Unauthorized { .. })));
    }

    #[test]
    fn on_deck_is_asked_for_by_library_and_user() {
        let stub = Stub::new(|request, _| match request.start() {
            0 => episodes(3, &["1.1", "1.2"]),
            _ => episodes(3, &["2.1"]),
        });
        let read = stub.server().on_deck(&ben(), &library());
        assert_eq!(short(&read), "ok 1.1 1.2 2.1");
        assert!(read.value().unwrap().iter().all(|item| item.library_id.as_deref() == Some("2")));
        for request in stub.requests() {
            assert_eq!(request.target, "/library/sections/2/onDeck?includeGuids=1");
            assert_eq!(request.header("x-plex-token"), Some("ben-token"));
        }
    }

    /// A server that answers the filter with `filter`, and knows the shows 1, 2 and 3 of two
    /// episodes each; 8 cannot be read and 9 is refused.
    fn shows(filter: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Stub {
        Stub::new(move |request, _| {
            if request.target.starts_with("/library/sections/2/all?type=4&show.id=") {
                return filter(request.start());
            }
            match request.target.strip_prefix("/library/metadata/").unwrap().strip_suffix("/allLeaves").unwrap() {
                show @ ("1" | "2" | "3") => episodes(2, &[&format!("{show}.1"), ".2"]),
                "8" => reply(500, "", ""),
                "9" => reply(401, "", ""),
                _ => reply(404, "", ""),
            }
        })
    }

    fn ask(stub: &Stub, shows: &[&str]) -> String {
        short(&stub.server().episodes(&ben(), &library(), &keys(shows)))
    }

    #[test]
    fn the_episodes_of_many_shows_take_one_call() {
        let stub = shows(|start| if start == 0 { episodes(3, &["1.1", "1.2"]) } else { episodes(3, &["2.1"]) });
        assert_eq!(ask(&stub, &["2", "1", "2"]), "ok 1.1 1.2 2.1");
        assert_eq!(stub.targets(), ["/library/sections/2/all?type=4&show.id=1,2"; 2]);
    }

    #[test]
    fn no_shows_take_no_call() {
        let stub = shows(|_| Vec::new());
        assert_eq!(ask(&stub, &[]), "ok");
        assert_eq!(short(&stub.server().items(&ben(), &[])), "ok");
        assert!(stub.requests().is_empty());
    }

    #[test]
    fn only_so_many_shows_are_asked_for_at_once() {
        let stub = shows(|_| episodes(0, &[]));
        let many: Vec<String> = (100..181).map(|show| show.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(ask(&stub, &many), "ok");
        let filters = stub.targets().into_iter().filter(|target| target.contains("show.id="));
        assert_eq!(filters.map(|target| target.split(',').count()).collect::<Vec<_>>(), [40, 40, 1]);
    }

    #[test]
    fn rows_of_other_shows_are_dropped() {
        let stub = shows(|_| episodes(2, &["1.1", "7.1"]));
        assert_eq!(ask(&stub, &["1"]), "ok 1.1");
    }

    #[test]
    fn a_show_without_rows_is_asked_for_alone() {
        let stub = shows(|_| episodes(1, &["1.9"]));
        assert_eq!(ask(&stub, &["1", "2", "404"]), "ok 1.9 2.1 .2");
        let targets = [
            "/library/sections/2/all?type=4&show.id=1,2,404",
            "/library/metadata/2/allLeaves",
            "/library/metadata/404/allLeaves",
        ];
        assert_eq!(stub.targets(), targets);
    }

    #[test]
    fn a_server_without_the_filter_is_asked_show_by_show() {
        for status in [400, 404, 500] {
            let stub = shows(move |_| reply(status, "", ""));
            let read = stub.server().episodes(&ben(), &library(), &keys(&["3"]));
            assert_eq!(short(&read), "ok 3.1 .2", "{status}");
            let show = read.value().unwrap()[1].show.as_ref().unwrap();
            assert_eq!(show.rating_key, Some(RatingKey::new("3")));
        }
        let whole_library = |start: usize| episodes(500, &[&format!("1.{start}"), &format!("5.{start}")]);
        for stub in [shows(whole_library), shows(|_| reply(400, "", ""))] {
            let server = stub.server();
            for _ in 0..3 {
                assert_eq!(short(&server.episodes(&ben(), &library(), &keys(&["1"]))), "ok 1.1 .2");
            }
            assert_eq!(stub.targets().iter().filter(|target| target.contains("show.id=")).count(), 1);
        }
    }

    #[test]
    fn rows_that_do_not_say_their_show_are_not_guessed_at() {
        let stub = shows(|_| episodes(2, &["1.1", ".7"]));
        assert_eq!(ask(&stub, &["1", "2"]), "ok 1.1 .2 2.1");
    }

    #[test]
    fn a_show_that_cannot_be_read_is_missing_and_said_to_be() {
        let stub = shows(|_| episodes(1, &["1.1"]));
        assert_eq!(ask(&stub, &["1", "8"]), "partial 1.1: Plex answers /library/metadata/8/allLeaves with status 500");
        let stub = shows(|_| reply(400, "", ""));
        assert_eq!(ask(&stub, &["8"]), "Plex answers /library/metadata/8/allLeaves with status 500");
        let refused = "Plex does not accept the token (/library/metadata/9/allLeaves: 401)";
        assert_eq!(ask(&stub, &["9"]), refused);
        assert_eq!(ask(&stub, &["3", "9"]), format!("partial 3.1 .2: {refused}"));
        let stub = shows(|start| if start == 0 { episodes(3, &["1.1", "1.2"]) } else { reply(403, "", "") });
        let partial = "partial 1.1 1.2: /library/sections/2/all from row 2 on: Plex does not allow /library/sections/2/all with this token (403)";
        assert_eq!(ask(&stub, &["1"]), partial);
    }

    #[test]
    fn items_come_in_batches_and_those_that_are_gone_do_not() {
        let stub = Stub::new(|request, _| match request.target.strip_prefix("/library/metadata/").unwrap() {
            "gone" => reply(404, "", ""),
            batch => movies(&batch.split(',').filter(|key| *key != "110").chain(["other"]).collect::<Vec<_>>()),
        });
        let many: Vec<RatingKey> = (100..160).map(|key: u32| RatingKey::new(key.to_string())).collect();
        let read = stub.server().items(&ben(), &many);
        assert!(read.is_complete());
        assert_eq!(read.value().unwrap().len(), 59);
        assert_eq!(stub.targets().iter().map(|target| target.split(',').count()).collect::<Vec<_>>(), [50, 10]);
        assert_eq!(short(&stub.server().items(&ben(), &keys(&["gone"]))), "ok");
    }

    #[test]
    fn an_item_that_the_server_cannot_answer_does_not_hide_the_others() {
        let stub = Stub::new(|request, _| match request.target.strip_prefix("/library/metadata/").unwrap() {
            batch if batch.contains("13") => reply(500, "", ""),
            batch => movies(&batch.split(',').collect::<Vec<_>>()),
        });
        let many: Vec<RatingKey> = (10..20).map(|key: u32| RatingKey::new(key.to_string())).collect();
        let problem = "Plex answers /library/metadata/13 with status 500";
        let read = short(&stub.server().items(&ben(), &many));
        assert_eq!(read, format!("partial 10 11 12 14 15 16 17 18 19: {problem}"));
        assert_eq!(short(&stub.server().items(&ben(), &keys(&["13"]))), problem);
        let broken = Stub::new(|_, _| reply(500, "", ""));
        let many: Vec<RatingKey> = (0..50).map(|key: u32| RatingKey::new(key.to_string())).collect();
        let server = broken.server();
        assert!(matches!(server.items(&ben(), &many), Read::Failed(PlexError::Status { status: 500, .. })));
        assert!(server.request_count() < 25, "{}", server.request_count());
    }

    #[test]
    fn an_id_of_the_server_cannot_change_what_is_asked() {
        let stub = Stub::new(|_, _| reply(404, "", ""));
        assert_eq!(short(&stub.server().items(&ben(), &keys(&["1/../../x?y=", "2,3"]))), "ok");
        assert_eq!(stub.targets(), ["/library/metadata/1%2F..%2F..%2Fx%3Fy%3D,2%2C3"]);
    }

    #[test]
    fn videos_are_asked_for_by_the_time_they_were_added_and_held_to_it() {
        for (kind, number) in [(LibraryKind::Show, 4), (LibraryKind::Movie, 1)] {
            let stub = Stub::new(|_, _| {
                let rows = r#"{"ratingKey":"1","type":"movie","addedAt":70},{"ratingKey":"2","type":"movie","addedAt":69},
                    {"ratingKey":"3","type":"movie"}"#;
                container(&format!(r#""size":3,"totalSize":3,"Metadata":[{rows}]"#))
            });
            for (since, came, query) in
                [(Some(70), "ok 1", "&addedAt%3E%3E=69&sort=addedAt:desc"), (None, "ok 1 2 3", "")]
            {
                let read = stub.server().videos(&ben(), &Library { kind, ..library() }, since);
                assert_eq!(short(&read), came);
                let target = format!("/library/sections/2/all?type={number}{query}");
                assert_eq!(stub.targets().last(), Some(&target));
            }
        }
    }

    #[test]
    fn playlists_and_collections_are_listed_and_their_members_read() {
        let stub = Stub::new(|request, _| match request.target.as_str() {
            "/playlists" | "/library/sections/2/collections" => container(
                r#""size":3,"Metadata":[{"ratingKey":7,"type":"playlist","title":"A"},{"ratingKey":8,"type":"collection",
                "title":"B"},{"ratingKey":9,"type":"playlist","playlistType":"audio"}]"#,
            ),
            "/playlists/7/items" => movies(&["2", "1"]),
            "/library/collections/8/children" => movies(&["3"]),
            _ => reply(404, "", ""),
        });
        let server = stub.server();
        let Read::Complete(lists) = server.playlists(&ben()) else { panic!("{:?}", server.playlists(&ben())) };
        assert_eq!(server.collections(&ben(), &library()), Read::Complete(lists.clone()));
        assert_eq!(lists.iter().map(|list| list.title.as_str()).collect::<Vec<_>>(), ["A", "B"]);
        let members: Vec<String> = lists.iter().map(|list| short(&server.members(&ben(), list))).collect();
        assert_eq!(members, ["ok 2 1", "ok 3"]);
        let gone = List { rating_key: RatingKey::new("10"), ..lists[0].clone() };
        assert!(matches!(server.members(&ben(), &gone), Read::Failed(PlexError::NotFound { .. })));
    }

    #[test]
    fn the_server_looks_at_the_files_of_one_item() {
        let stub = Stub::new(|request, _| match request.target.as_str() {
            "/library/metadata/7?checkFiles=1" => container(
                r#""size":1,"Metadata":[{"ratingKey":7,"type":"movie","Media":[{"Part":[{"file":"/a","exists":0}]}]}]"#,
            ),
            "/library/metadata/8?checkFiles=1" => movies(&["7"]),
            "/library/metadata/9?checkFiles=1" => reply(500, "", ""),
            _ => reply(404, "", ""),
        });
        let server = stub.server();
        let item = server.look_at_files(&RatingKey::new("7")).unwrap().unwrap();
        assert_eq!(item.versions[0].parts[0].readable, Some(false));
        assert_eq!(server.look_at_files(&RatingKey::new("8")), Ok(None), "another item is no answer");
        assert_eq!(server.look_at_files(&RatingKey::new("6")), Ok(None));
        assert!(server.look_at_files(&RatingKey::new("9")).is_err());
        assert_eq!(stub.requests()[0].header("x-plex-token"), Some(TOKEN));
    }

    #[test]
    fn sessions_are_the_owners_to_see() {
        for (fields, files) in [
            (r#""size":0"#, Some(0)),
            (r#""size":1,"Video":{"ratingKey":"1","Media":{"Part":{"file":"/m/a"}}}"#, Some(1)),
            (r#""size":2,"Metadata":[{"ratingKey":"1","type":"track"},{"type":"clip"}]"#, Some(0)),
            (r#""size":2,"Metadata":[{"ratingKey":"1"}]"#, None),
            (r#""size":1,"Metadata":[3]"#, None),
            (r#""size":1,"Session":[{}]"#, None),
        ] {
            let stub = Stub::new(move |_, _| container(fields));
            let read = stub.server().sessions();
            assert_eq!(read.is_complete(), files.is_some(), "{fields}");
            if let (Some(files), Read::Complete(sessions)) = (files, &read) {
                assert_eq!(sessions.iter().flat_map(|session| &session.files).count(), files, "{fields}");
            }
            let request = stub.requests().remove(0);
            assert_eq!((request.target.as_str(), request.header("x-plex-token")), ("/status/sessions", Some(TOKEN)));
        }
        let forbidden = Stub::new(|_, _| reply(403, "", ""));
        assert!(matches!(forbidden.server().sessions(), Read::Failed(PlexError::Forbidden { .. })));
    }
}
