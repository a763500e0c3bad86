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
use super::tree::Tree;
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
        friends_in(&answer).ok_or_else(|| lacks("does not list the friends"))
    }

    /// The watchlist of a friend, the latest entry first; none of a private one.
    pub fn watchlist(&self, owner: &Secret, friend: &Friend) -> Read<Vec<Listed>> {
        pages(|page, after| {
            std::thread::sleep(self.second.mul_f64(if page == 0 { 1.0 } else { 5.0 } * (1.0 + jitter())));
            self.ask(owner, WATCHLIST, &object!({ "uuid": friend.uuid, "first": PAGE, "after": after }))
        })
    }

    fn ask(&self, owner: &Secret, query: &str, variables: &Value) -> Result<Tree, PlexError> {
        let mut call = Get::new("/api", Some(owner));
        call.post = Some(object!({ "query": query, "variables": variables }).to_string());
        json(&self.client, &call, |answer| answer.as_object().is_some().then_some(answer))
    }
}

/// The friends; `None` when they are not all told.
pub(super) fn friends_in(answer: &Tree) -> Option<Vec<Friend>> {
    let rows = answer.at(&["data", "allFriendsV2"])?.as_list()?;
    let friend = |row: &Tree| {
        let user = Row::new(row.get("user")?).ok()?;
        Some(Friend { uuid: user.id("id")?, name: user.text("username").filter(|name| !name.is_empty())? })
    };
    // GraphQL answers in part and says so beside it.
    if errors(answer).is_empty() { rows.iter().map(friend).collect() } else { None }
}

/// A whole watchlist, from what `ask` gives for the page of this number, from 0, after this cursor.
pub(super) fn pages(mut ask: impl FnMut(usize, Option<&str>) -> Result<Tree, PlexError>) -> Read<Vec<Listed>> {
    let (mut listed, mut problems) = (Vec::new(), Vec::new());
    let mut after: Option<String> = None;
    for page in 0.. {
        let answer = match ask(page, after.as_deref()) {
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
        let hub = answer.at(&["data", "user", "watchlist"]);
        let Some(nodes) = hub.and_then(|hub| hub.get("nodes")?.as_list()) else {
            if page == 0 {
                return Read::Failed(lacks("holds no watchlist"));
            }
            problems.push(format!("page {} holds no watchlist", page + 1));
            break;
        };
        if !errors(&answer).is_empty() {
            problems.push(format!("page {} came with an error", page + 1));
        }
        for node in nodes {
            match entry(node) {
                Ok(entry) => listed.extend(entry),
                Err(problem) => problems.push(problem),
            }
        }
        let info = hub.and_then(|hub| hub.get("pageInfo"));
        let next = info.and_then(|info| info.get("endCursor")?.as_text());
        match (info.and_then(|info| info.get("hasNextPage")?.as_bool()), next) {
            (Some(false), _) => break,
            (Some(true), Some(next)) if after.as_deref() != Some(next) && page + 1 < MAX_PAGES => {
                after = Some(next.to_owned());
            }
            (Some(true), _) => {
                problems.push("its pages do not end".to_owned());
                break;
            }
            (None, _) => {
                problems.push(format!("page {} does not say whether it is the last", page + 1));
                break;
            }
        }
    }
    Read::from_parts(listed, problems)
}

/// What went wrong beside an answer.
fn errors(answer: &Tree) -> &[Tree] {
    answer.get("errors").and_then(Tree::as_list).unwrap_or_default()
}

/// How a private list, and one of somebody who is gone, is told: 200 and an error that names no fault.
fn is_private(answer: &Tree) -> bool {
    let user = answer.at(&["data", "user"]);
    let errors = errors(answer);
    let not_found = |error: &Tree| {
        error.get("message").and_then(Tree::as_text).is_some_and(|text| text.starts_with("User not found"))
    };
    user.is_none_or(|user| *user == Tree::Null) && !errors.is_empty() && errors.iter().all(not_found)
}

/// `Ok(None)` for a kind that no library of films or shows has.
fn entry(node: &Tree) -> Result<Option<Listed>, String> {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A watchlist whose pages are these: how it came, how many calls it took, and the cursors asked for.
    fn read(answers: &[Value]) -> (String, Vec<Option<String>>) {
        let mut cursors = Vec::new();
        let read = pages(|page, after| {
            assert_eq!(page, cursors.len());
            cursors.push(after.map(str::to_owned));
            answers.get(page).map(Tree::from).ok_or_else(|| lacks("broke off"))
        });
        let came = |listed: &[Listed]| -> String {
            listed.iter().flat_map(|entry| [" ", entry.guid.as_deref().unwrap()]).collect()
        };
        let shown = match &read {
            Read::Complete(listed) => format!("all{}", came(listed)),
            Read::Incomplete { value, problems } => format!("some{}: {}", came(value), problems.join("; ")),
            Read::Failed(error) => error.to_string(),
        };
        (shown, cursors)
    }

    fn page(nodes: &Value, info: &Value) -> Value {
        json!({"data": {"user": {"watchlist": {"nodes": nodes, "pageInfo": info}}}})
    }

    fn film(id: &str) -> Value {
        json!({"id": id, "type": "MOVIE", "title": "x"})
    }

    #[test]
    fn a_watchlist_is_whole_when_its_last_page_says_so() {
        let more = |cursor: &str| json!({"hasNextPage": true, "endCursor": cursor});
        let last = json!({"hasNextPage": false, "endCursor": null});
        let (one, two) = (json!([film("a")]), json!([{"id": "b", "type": "show"}, {"id": "c", "type": "SEASON"}]));
        let with_error = json!({"errors": [{"message": "timeout"}], "data": page(&one, &last)["data"]});
        for (answers, expected, calls) in [
            (vec![page(&json!([]), &last)], "all", 1),
            (vec![page(&one, &more("1")), page(&two, &last)], "all plex://movie/a plex://show/b", 2),
            (vec![page(&one, &json!({}))], "some plex://movie/a: page 1 does not say whether it is the last", 1),
            (vec![page(&one, &Value::Null)], "some plex://movie/a: page 1 does not say whether it is the last", 1),
            (
                vec![page(&one, &json!({"hasNextPage": "no"}))],
                "some plex://movie/a: page 1 does not say whether it is the last",
                1,
            ),
            (vec![page(&one, &json!({"hasNextPage": true}))], "some plex://movie/a: its pages do not end", 1),
            (
                vec![page(&one, &more("1")), page(&one, &more("1"))],
                "some plex://movie/a plex://movie/a: its pages do not end",
                2,
            ),
            (vec![with_error], "some plex://movie/a: page 1 came with an error", 1),
            (vec![page(&one, &more("1"))], "some plex://movie/a: from page 2 on: the answer of /api broke off", 2),
            (vec![page(&one, &more("1")), json!({})], "some plex://movie/a: page 2 holds no watchlist", 2),
            (vec![page(&json!([{"id": "a"}]), &last)], "some: row a has no type", 1),
            (vec![page(&json!([{"type": "MOVIE"}]), &last)], "some: a row has no id", 1),
            (vec![page(&json!([7]), &last)], "some: a row is not an object", 1),
        ] {
            let (shown, cursors) = read(&answers);
            assert_eq!(
                shown.replace(&lacks("broke off").to_string(), "the answer of /api broke off"),
                expected,
                "{answers:?}"
            );
            assert_eq!(cursors.len(), calls);
            assert_eq!(cursors.get(1), (calls > 1).then(|| Some("1".to_owned())).as_ref());
        }
        let endless: Vec<Value> = (0..).take(MAX_PAGES + 1).map(|n| page(&json!([]), &more(&n.to_string()))).collect();
        assert_eq!(read(&endless).1.len(), MAX_PAGES);
    }

    #[test]
    fn only_a_clear_word_makes_a_watchlist_private() {
        let errors = |messages: &[&str]| messages.iter().map(|text| json!({"message": text})).collect::<Vec<_>>();
        let no_list = lacks("holds no watchlist").to_string();
        for (answer, expected) in [
            (json!({"data": {"user": null}, "errors": errors(&["User not found: 1"])}), "all"),
            (json!({"errors": errors(&["User not found"])}), "all"),
            (json!({"data": {"user": null}}), &no_list),
            (json!({"data": {"user": null}, "errors": []}), &no_list),
            (json!({"data": {"user": null}, "errors": errors(&["User not found", "Internal"])}), &no_list),
            (json!({"data": {"user": null}, "errors": [7]}), &no_list),
            (json!({"data": {"user": {}}, "errors": errors(&["User not found"])}), &no_list),
            (json!({"data": {"user": {"watchlist": {"nodes": null}}}}), &no_list),
            (json!({}), &no_list),
        ] {
            assert_eq!(read(std::slice::from_ref(&answer)).0, *expected, "{answer}");
        }
    }

    #[test]
    fn friends_are_all_told_or_none() {
        let friends = |rows: Value| {
            friends_in(&Tree::from(&json!({"data": {"allFriendsV2": rows}}))).map(|all| {
                let show = |friend: Friend| format!("{} {}", friend.uuid, friend.name);
                all.into_iter().map(show).collect::<Vec<_>>().join(", ")
            })
        };
        for (rows, expected) in [
            (json!([]), Some("")),
            (
                json!([{"user": {"id": "a", "username": "carl"}}, {"user": {"id": 7, "username": "dora"}}]),
                Some("a carl, 7 dora"),
            ),
            (json!([{"user": {"id": "a", "username": "carl"}}, {"user": null}]), None),
            (json!([{"user": {"id": "a", "username": ""}}]), None),
            (json!([{"user": {"username": "carl"}}]), None),
            (json!([{}]), None),
            (json!({"user": {"id": "a", "username": "carl"}}), None),
            (Value::Null, None),
        ] {
            assert_eq!(friends(rows.clone()).as_deref(), expected, "{rows}");
        }
        let in_part = json!({"data": {"allFriendsV2": []}, "errors": [{"message": "timeout"}]});
        assert_eq!(friends_in(&Tree::from(&in_part)), None);
    }
}
