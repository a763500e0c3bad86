//! community.plex.tv: who the owner's friends are, and what is on their watchlists. GraphQL.
//!
//! Owns the two questions and the pace that Plex asks for: pages of at most 100, one at a time, five to
//! ten seconds between the pages of a list and one to two between lists. A watchlist that its owner
//! keeps private is an answer: nobody is told what is on it, and nothing failed.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use serde_json::{Value, json as object};

use super::client::{Client, Get};
use super::json::Row;
use super::outside::{Listed, ListedKind, ServiceOptions, json};
use super::{PlexError, Read};
use crate::secret::Secret;

/// Rows of a page.
const PAGE: u32 = 100;
/// Pages of one watchlist.
const MAX_PAGES: usize = 50;

const FRIENDS: &str = "query GetAllFriends { allFriendsV2 { user { id username } } }";
const WATCHLIST: &str = "query GetWatchlistHub($uuid: ID = \"\", $first: PaginationInt!, $after: String) { \
    user(id: $uuid) { watchlist(first: $first, after: $after) { nodes { id title type } \
    pageInfo { hasNextPage endCursor } } } }";

/// A friend of the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Friend {
    pub uuid: String,
    pub name: String,
}

/// The community. One call at a time.
pub struct Community {
    client: Client,
    second: Duration,
}

impl Community {
    /// Prepares to talk to it; sends nothing.
    ///
    /// # Errors
    /// [`PlexError::Config`]: the URL cannot be used.
    pub fn new(options: &ServiceOptions) -> Result<Self, PlexError> {
        Ok(Self { client: options.client()?, second: options.second })
    }

    /// The owner's friends.
    ///
    /// # Errors
    /// How the call failed.
    pub fn friends(&self, owner: &Secret) -> Result<Vec<Friend>, PlexError> {
        let answer = self.ask(owner, FRIENDS, &object!({}))?;
        let rows = answer.pointer("/data/allFriendsV2").and_then(Value::as_array);
        let friend = |row: &Value| {
            let user = Row::new(row.get("user")?).ok()?;
            Some(Friend { uuid: user.id("id")?, name: user.text("username").filter(|name| !name.is_empty())? })
        };
        let friends = rows.and_then(|rows| rows.iter().map(friend).collect());
        friends.ok_or_else(|| lacks("does not list the friends"))
    }

    /// The watchlist of a friend, the latest entry first; none of a private one.
    pub fn watchlist(&self, owner: &Secret, friend: &Friend) -> Read<Vec<Listed>> {
        let (mut listed, mut problems) = (Vec::new(), Vec::new());
        let mut after = Value::Null;
        for page in 0.. {
            std::thread::sleep(self.second.mul_f64(if page == 0 { 1.0 } else { 5.0 } * (1.0 + jitter())));
            let variables = object!({ "uuid": friend.uuid, "first": PAGE, "after": after });
            let answer = match self.ask(owner, WATCHLIST, &variables) {
                Ok(answer) => answer,
                Err(error) if page == 0 => return Read::Failed(error),
                Err(error) => {
                    problems.push(format!("from page {} on: {error}", page + 1));
                    break;
                }
            };
            if page == 0 && is_private(&answer) {
                return Read::Complete(Vec::new());
            }
            let hub = answer.pointer("/data/user/watchlist");
            let Some(nodes) = hub.and_then(|hub| hub.get("nodes")?.as_array()) else {
                if page == 0 {
                    return Read::Failed(lacks("holds no watchlist"));
                }
                problems.push(format!("page {} holds no watchlist", page + 1));
                break;
            };
            for node in nodes {
                match entry(node) {
                    Ok(entry) => listed.extend(entry),
                    Err(problem) => problems.push(problem),
                }
            }
            let info = hub.and_then(|hub| hub.get("pageInfo"));
            let more = info.is_some_and(|info| info.get("hasNextPage") == Some(&Value::Bool(true)));
            let next = info.and_then(|info| info.get("endCursor")).filter(|next| next.is_string());
            match next {
                _ if !more => break,
                Some(next) if *next != after && page + 1 < MAX_PAGES => after = next.clone(),
                _ => {
                    problems.push("its pages do not end".to_owned());
                    break;
                }
            }
        }
        Read::from_parts(listed, problems)
    }

    fn ask(&self, owner: &Secret, query: &str, variables: &Value) -> Result<Value, PlexError> {
        let mut call = Get::new("/api", Some(owner));
        call.post = Some(object!({ "query": query, "variables": variables }).to_string());
        json(&self.client, &call, |value| value.is_object().then(|| value.clone()))
    }
}

/// How a private list, and one of somebody who is gone, is told: 200 and an error that names no fault.
fn is_private(answer: &Value) -> bool {
    let user = answer.pointer("/data/user");
    let errors = answer.get("errors").and_then(Value::as_array);
    let not_found = |error: &Value| {
        error.get("message").and_then(Value::as_str).is_some_and(|text| text.starts_with("User not found"))
    };
    user.is_none_or(Value::is_null) && errors.is_some_and(|errors| !errors.is_empty() && errors.iter().all(not_found))
}

/// `Ok(None)` for a kind that no library of films or shows has.
fn entry(node: &Value) -> Result<Option<Listed>, String> {
    let row = Row::new(node)?;
    let kind = row.text("type").ok_or_else(|| format!("{} has no type", row.name()))?;
    let Some(kind) = ListedKind::read(&kind) else { return Ok(None) };
    let id = row.id("id").ok_or_else(|| format!("{} has no id", row.name()))?;
    Ok(Some(Listed { kind, guid: Some(format!("plex://{}/{id}", kind.word())), ids: Vec::new() }))
}

fn lacks(what: &str) -> PlexError {
    PlexError::Lacks { endpoint: "/api".to_owned(), what: what.to_owned() }
}

/// A number in 0..1 that differs from call to call.
fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).expect("the upper half of 64 bits")) / f64::from(u32::MAX)
}
