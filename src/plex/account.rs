//! plex.tv: who belongs to the household, and the tokens that plex.tv gives for them.
//!
//! Owns five calls: the home's users, those with whom a server is shared (XML only), switching to a
//! home user, and a user's token of one server. Whatever makes a token keeps one second between calls.
//! Refuses to take one user for another: everybody is told apart by plex.tv's id. A PIN travels in the
//! query of one call, as plex.tv wants it, and never in a message or a log, which name paths alone.

use std::sync::Mutex;
use std::time::Instant;

use super::PlexError;
use super::address::encode;
use super::client::{Client, Get};
use super::json::Row;
use super::outside::{Pacer, ServiceOptions, json, xml};
use super::tree::Tree;
use super::xml::Element;
use crate::secret::Secret;

/// A member of the owner's Plex Home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeUser {
    pub id: String,
    pub uuid: Option<String>,
    /// As Plex shows it.
    pub name: String,
    /// The name of the account, which a managed user has not.
    pub username: Option<String>,
    pub admin: bool,
    /// A PIN is needed to become this user.
    pub protected: bool,
}

/// Somebody with whom the server is shared; home users are among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedUser {
    pub id: String,
    /// Empty for a managed user, whose name only the home knows.
    pub name: String,
    /// Reads the server for them.
    pub token: Option<Secret>,
}

/// plex.tv itself. Threads may share it.
pub struct Account {
    client: Client,
    pacer: Mutex<Pacer>,
}

impl Account {
    /// Prepares to talk to it; sends nothing.
    ///
    /// # Errors
    /// [`PlexError::Config`]: the URL cannot be used.
    pub fn new(options: &ServiceOptions) -> Result<Self, PlexError> {
        Ok(Self { client: options.client()?, pacer: Mutex::new(Pacer::new(options.second)) })
    }

    /// The members of the home, the one who asks among them. Without a home that one is alone.
    ///
    /// # Errors
    /// How the call failed; [`PlexError::Forbidden`] or [`PlexError::NotFound`] may mean that there is none.
    pub fn home(&self, owner: &Secret) -> Result<Vec<HomeUser>, PlexError> {
        let call = Get::new("/api/v2/home/users", Some(owner));
        json(&self.client, &call, |answer| home_users(&answer))
    }

    /// Everybody with whom the server is shared. Invitations that are still open are left out.
    ///
    /// # Errors
    /// How the call failed.
    pub fn shared(&self, owner: &Secret, machine_id: &str) -> Result<Vec<SharedUser>, PlexError> {
        let call = Get::new(format!("/api/servers/{}/shared_servers", encode(machine_id)), Some(owner));
        xml(&self.client, &call, "MediaContainer", shared_users)
    }

    /// The account token of a home user.
    ///
    /// # Errors
    /// How the call failed; [`PlexError::Forbidden`] when a PIN is missing or wrong.
    pub fn switch(&self, owner: &Secret, id: &str, pin: Option<&Secret>) -> Result<Secret, PlexError> {
        let mut call = Get::new(format!("/api/v2/home/users/{}/switch", encode(id)), Some(owner));
        call.query = pin.map(|pin| format!("pin={}", encode(pin.expose()))).unwrap_or_default();
        call.post = Some(String::new());
        self.keep_pace();
        let what = "holds no token".to_owned();
        json(&self.client, &call, |user| Some(switched(&user)))?
            .ok_or_else(|| PlexError::Lacks { endpoint: call.endpoint(), what })
    }

    /// The token with which the user of this account token reads the server; `None` when the server
    /// is not shared with them.
    ///
    /// # Errors
    /// How the call failed.
    pub fn server_token(&self, account: &Secret, machine_id: &str) -> Result<Option<Secret>, PlexError> {
        let mut call = Get::new("/api/v2/resources", Some(account));
        "includeHttps=1".clone_into(&mut call.query);
        self.keep_pace();
        json(&self.client, &call, |resources| token_of(&resources, machine_id))
    }

    fn keep_pace(&self) {
        let mut pacer = self.pacer.lock().expect("nothing panics while it holds the pace");
        // The lock is held meanwhile, so that others queue up behind.
        std::thread::sleep(pacer.pause(Instant::now()));
    }
}

/// The members of a home; `None` when this is none, or one of them cannot be told.
pub(super) fn home_users(answer: &Tree) -> Option<Vec<HomeUser>> {
    let home = Row::new(answer).ok().filter(|home| home.has("users"))?;
    home.list("users").ok()?.into_iter().map(home_user).collect()
}

/// Those with whom a server is shared; `None` when it says that there are more than it names. An
/// invitation that nobody took has no user.
pub(super) fn shared_users(root: &Element) -> Option<Vec<SharedUser>> {
    let said = root.attribute("size").and_then(|size| size.parse().ok()).unwrap_or(0);
    let user = |share: &Element| {
        let text = |name: &str| share.attribute(name).map(str::to_owned);
        let name = text("username").or_else(|| text("email")).unwrap_or_default();
        Some(SharedUser { id: text("userID")?, name, token: share.attribute("accessToken").map(Secret::new) })
    };
    (root.all("SharedServer").count() >= said).then(|| root.all("SharedServer").filter_map(user).collect())
}

/// The account token of who was switched to.
pub(super) fn switched(user: &Tree) -> Option<Secret> {
    let token = Row::new(user).ok()?.text("authToken")?;
    Some(Secret::new(&token)).filter(|token| !token.is_empty())
}

/// The token of this server among the resources of an account; `Some(None)` when it has no such server.
#[expect(clippy::option_option, reason = "what is no list of resources says nothing of the server")]
pub(super) fn token_of(resources: &Tree, machine_id: &str) -> Option<Option<Secret>> {
    let rows = resources.as_list()?.iter().filter_map(|row| Row::new(row).ok());
    let mut servers = rows.filter(|row| row.text("clientIdentifier").as_deref() == Some(machine_id));
    let token = servers.find_map(|row| row.text("accessToken")).map(|token| Secret::new(&token));
    Some(token.filter(|token| !token.is_empty()))
}

fn home_user(row: Row<'_>) -> Option<HomeUser> {
    let text = |key| row.text(key).filter(|text: &String| !text.trim().is_empty());
    Some(HomeUser {
        id: row.id("id")?,
        uuid: text("uuid"),
        name: text("title").or_else(|| text("username")).or_else(|| text("friendlyName"))?,
        username: text("username"),
        admin: row.flag("admin"),
        protected: row.flag("protected"),
    })
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::{Value, json};

    use super::super::outside::document;
    use super::*;

    fn shared(text: &str) -> Option<Vec<String>> {
        let root = document(text.as_bytes(), "MediaContainer").unwrap();
        let show = |user: SharedUser| format!("{} {} {}", user.id, user.name, user.token.is_some());
        shared_users(&root).map(|users| users.into_iter().map(show).collect())
    }

    #[test]
    fn a_home_is_all_of_its_members_or_none() {
        let home = |users: Value| {
            let show = |user: HomeUser| format!("{} {} {} {}", user.id, user.name, user.admin, user.protected);
            home_users(&Tree::from(&json!({"id": 1, "users": users})))
                .map(|users| users.into_iter().map(show).collect())
        };
        for (users, expected) in [
            (json!([]), Some(vec![])),
            (json!({"id": 1, "title": "a", "admin": "1"}), Some(vec!["1 a true false"])),
            (
                json!([{"id": 1, "title": "a", "admin": true}, {"id": "2", "title": " ", "username": "b", "protected": 1}]),
                Some(vec!["1 a true false", "2 b false true"]),
            ),
            (json!([{"id": 1, "friendlyName": "c", "title": null}]), Some(vec!["1 c false false"])),
            (json!([{"id": 1, "title": "a"}, {"title": "b"}]), None),
            (json!([{"id": 1, "title": "a"}, {"id": 2}]), None),
            (json!([{"id": 1, "title": "a"}, null]), None),
            (json!("none"), None),
            (Value::Null, None),
        ] {
            let expected: Option<Vec<String>> = expected.map(|all| all.into_iter().map(str::to_owned).collect());
            assert_eq!(home(users.clone()), expected, "{users}");
        }
        for foreign in [json!({"id": 1}), json!([]), json!("users"), json!({"errors": [{"code": 1001}]})] {
            assert_eq!(home_users(&Tree::from(&foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn an_invitation_is_nobody_and_a_list_that_lost_somebody_is_no_list() {
        let ben =
            r#"<SharedServer userID="7" username="" email="b@x.org" accessToken="t"><Section key="1"/></SharedServer>"#;
        let open = r#"<SharedServer id="9" email="c@x.org"/>"#;
        let none = r#"<SharedServer userID="" accessToken="t"/>"#;
        for (size, rows, expected) in [
            ("", vec![ben, open], Some(vec!["7 b@x.org true"])),
            (r#"size="2""#, vec![open, ben], Some(vec!["7 b@x.org true"])),
            (r#"size="1""#, vec![none], Some(vec![])),
            (r#"size="0""#, vec![], Some(vec![])),
            (r#"size="many""#, vec![], Some(vec![])),
            (r#"size="2""#, vec![ben], None),
            (r#"size="1""#, vec![], None),
        ] {
            let expected: Option<Vec<String>> = expected.map(|all| all.into_iter().map(str::to_owned).collect());
            assert_eq!(
                shared(&format!("<MediaContainer {size}>{}</MediaContainer>", rows.concat())),
                expected,
                "{size}"
            );
        }
    }

    #[test]
    fn a_token_is_that_of_the_server_that_is_meant() {
        let row = |id: &str, token: Value| json!({"clientIdentifier": id, "accessToken": token});
        let some = |token: &str| Some(Some(Secret::new(token)));
        for (resources, expected) in [
            (json!([]), Some(None)),
            (json!([row("other", json!("o")), row("ab", json!("t"))]), some("t")),
            (json!([row("AB", json!("o"))]), Some(None)),
            (json!([row("ab", Value::Null)]), Some(None)),
            (json!([row("ab", json!(""))]), Some(None)),
            (json!([7, null, [], row("ab", json!("t"))]), some("t")),
            (json!([row("ab", json!(["t"]))]), Some(None)),
            (json!({"clientIdentifier": "ab", "accessToken": "t"}), None),
            (Value::Null, None),
        ] {
            assert_eq!(token_of(&Tree::from(&resources), "ab"), expected, "{resources}");
        }
        for (user, expected) in [
            (json!({"authToken": "t"}), Some(Secret::new("t"))),
            (json!({"authToken": ""}), None),
            (json!({"authToken": null}), None),
            (json!({"authenticationToken": "t"}), None),
            (json!([{"authToken": "t"}]), None),
        ] {
            assert_eq!(switched(&Tree::from(&user)), expected, "{user}");
        }
    }

    #[test]
    fn captures_of_plex_tv_are_what_they_are_and_nothing_else() {
        let folder = std::env::var_os("PLEXCACHE_FIXTURES")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from)
            .join("plex/myplex");
        if !folder.is_dir() {
            println!("skipped: no captures at {} (set PLEXCACHE_FIXTURES)", folder.display());
            return;
        }
        let json =
            |name: &str| -> Value { serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap() };
        let resources = json("api/v2/resources.json");
        let rows = resources.as_array().unwrap();
        let server = rows.iter().find(|row| row["accessToken"].is_string()).unwrap();
        let token = token_of(&Tree::from(&resources), server["clientIdentifier"].as_str().unwrap()).unwrap().unwrap();
        assert_eq!(Some(token.expose()), server["accessToken"].as_str());
        assert_eq!(token_of(&Tree::from(&resources), "another"), Some(None));
        for name in
            ["user/user_info_plexpass.json", "pins_new.json", "friends_accepted_mixed.json", "friends_empty.json"]
        {
            assert_eq!(home_users(&Tree::from(&json(&format!("api/v2/{name}")))), None, "{name} is no home");
        }
        assert_eq!(
            switched(&Tree::from(&json("api/v2/pins_new.json"))),
            None,
            "a PIN that nobody typed holds no token"
        );
        for name in ["api/resources.xml", "devices.xml"] {
            let root = document(&std::fs::read(folder.join(name)).unwrap(), "MediaContainer").unwrap();
            assert!(root.all("Device").next().is_some(), "{name}");
            assert!(root.all("SharedServer").next().is_none(), "{name} shares nothing");
        }
    }
}
