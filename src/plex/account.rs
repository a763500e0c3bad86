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
    /// How the call failed.
    pub fn home(&self, owner: &Secret) -> Result<Vec<HomeUser>, PlexError> {
        let call = Get::new("/api/v2/home/users", Some(owner));
        let users = json(&self.client, &call, |value| {
            let home = Row::new(value).ok()?;
            if !home.has("users") && !home.has("id") {
                return None;
            }
            home.list("users").ok()?.into_iter().map(home_user).collect()
        });
        match users {
            // Nobody is at home: there is none.
            Err(PlexError::NotFound { .. }) => Ok(Vec::new()),
            users => users,
        }
    }

    /// Everybody with whom the server is shared. Invitations that are still open are left out.
    ///
    /// # Errors
    /// How the call failed.
    pub fn shared(&self, owner: &Secret, machine_id: &str) -> Result<Vec<SharedUser>, PlexError> {
        let call = Get::new(format!("/api/servers/{}/shared_servers", encode(machine_id)), Some(owner));
        let root = xml(&self.client, &call, "MediaContainer")?;
        let user = |share: &super::xml::Element| {
            let text = |name: &str| share.attribute(name).map(str::to_owned);
            let name = text("username").or_else(|| text("email")).unwrap_or_default();
            Some(SharedUser { id: text("userID")?, name, token: share.attribute("accessToken").map(Secret::new) })
        };
        Ok(root.all("SharedServer").filter_map(user).collect())
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
        let token = json(&self.client, &call, |user| Row::new(user).ok()?.text("authToken").map(|t| Secret::new(&t)));
        token.and_then(|token| {
            let what = "holds no token".to_owned();
            Some(token).filter(|token| !token.is_empty()).ok_or(PlexError::Lacks { endpoint: call.endpoint(), what })
        })
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
        json(&self.client, &call, |value| {
            let rows = value.as_array()?.iter().filter_map(|row| Row::new(row).ok());
            let mut servers = rows.filter(|row| row.text("clientIdentifier").as_deref() == Some(machine_id));
            let token = servers.find_map(|row| row.text("accessToken")).map(|token| Secret::new(&token));
            Some(token.filter(|token| !token.is_empty()))
        })
    }

    fn keep_pace(&self) {
        let mut pacer = self.pacer.lock().expect("nothing panics while it holds the pace");
        // The lock is held meanwhile, so that others queue up behind.
        std::thread::sleep(pacer.pause(Instant::now()));
    }
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
