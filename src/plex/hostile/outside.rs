//! What must hold of any bytes that come in place of an answer of plex.tv, or of a feed.
//!
//! Owns the checks that the properties here and the fuzzer share: nothing panics, no answer leads to
//! calls without end, nothing becomes more or longer than it came, and an answer that lost something is
//! never whole.

use crate::plex::json::{Container, MAX_ID, value};
use crate::plex::outside::{Listed, MAX_IDS, document};
use crate::plex::rss::MAX_ENTRIES;
use crate::plex::{Read, account, community, discover, rss};

/// Calls for one list, each of which would be answered alike.
const MAX_CALLS: usize = 3;

/// Reads `body` as every answer that is asked for.
pub(crate) fn check(body: &[u8]) {
    if let Ok(value) = value(body) {
        let members = account::home_users(&value).unwrap_or_default();
        assert!(members.len() <= body.len());
        assert!(members.iter().all(|member| !member.id.is_empty() && !member.name.trim().is_empty()));
        let token = [account::switched(&value), account::token_of(&value, "ab").flatten()];
        assert!(token.into_iter().flatten().all(|token| !token.is_empty()));
        let friends = community::friends_in(&value).unwrap_or_default();
        assert!(friends.iter().all(|friend| !friend.uuid.is_empty() && !friend.name.is_empty()));
        let mut calls = 0;
        let read = community::pages(|_, _| {
            calls += 1;
            Ok(value.clone())
        });
        check_list(body, &read, calls);
    }
    if Container::decode(body).is_ok() {
        let mut calls = 0;
        let read = discover::pages(|_| {
            calls += 1;
            Ok(Container::decode(body).expect("it was decoded before"))
        });
        check_list(body, &read, calls);
    }
    if let Ok(root) = document(body, "MediaContainer") {
        let users = account::shared_users(&root).unwrap_or_default();
        assert!(users.len() <= root.all("SharedServer").count());
        assert!(users.iter().all(|user| !user.id.is_empty()));
    }
    if let Ok(Some(entries)) = rss::entries(body) {
        assert!(entries.len() <= MAX_ENTRIES);
        for entry in &entries {
            check_entry(&entry.listed);
        }
    }
}

fn check_list(body: &[u8], read: &Read<Vec<Listed>>, calls: usize) {
    assert!(calls <= MAX_CALLS, "{calls} calls");
    let Some(listed) = read.value() else { return };
    assert!(listed.len() <= calls * body.len());
    for entry in listed {
        check_entry(entry);
    }
}

fn check_entry(listed: &Listed) {
    assert!(listed.guid.is_some() || !listed.ids.is_empty(), "an entry without an id matches nothing");
    let ids = listed.ids.iter().chain(&listed.guid);
    let longest = "plex://movie/".len() + MAX_ID;
    assert!(ids.clone().count() <= MAX_IDS + 1 && ids.clone().all(|id| id.len() <= longest), "{listed:?}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::tests::{absurd, mutate};
    use super::*;
    use crate::plex::xml;

    /// Answers as plex.tv gives them, of so many rows.
    fn well_formed(kind: usize, rows: usize) -> Value {
        let each = |row: &dyn Fn(usize) -> Value| (1..=rows).map(row).collect::<Vec<_>>();
        match kind {
            0 => json!({"id": 1, "users": each(&|id| json!({"id": id, "title": "anna", "protected": true}))}),
            1 => Value::from(each(
                &|id| json!({"clientIdentifier": if id == 1 { "ab" } else { "x" }, "accessToken": "t"}),
            )),
            2 => json!({"authToken": "t"}),
            3 => json!({"data": {"allFriendsV2": each(&|id| json!({"user": {"id": id, "username": "carl"}}))}}),
            4 => json!({"data": {"user": {"watchlist": {
                "nodes": each(&|id| json!({"id": format!("a{id}"), "type": "MOVIE", "title": "x", "image": {"alt": [8.4]}})),
                "pageInfo": {"hasNextPage": false, "endCursor": "c"}}}}}),
            5 => json!({"MediaContainer": {"size": rows, "totalSize": rows, "Metadata":
                each(&|id| json!({"ratingKey": format!("a{id}"), "type": "show", "Guid": [{"id": "imdb://tt1"}],
                    "summary": "x \u{e9}", "rating": 8.4, "Image": [{"url": "u", "n": [1, {}]}]}))}}),
            _ => json!({"items": each(&|id| json!({"category": "movie", "guids": [format!("imdb://tt{id}")]}))}),
        }
    }

    const KINDS: usize = 7;

    fn shared(users: usize) -> String {
        let user =
            |id| format!("<SharedServer userID=\"{id}\" username='a&amp;{id}'><Section key='1'/></SharedServer>");
        let users_text: String = (1..=users).map(user).collect();
        format!("<?xml version=\"1.0\"?><MediaContainer size=\"{users}\">{users_text}</MediaContainer>")
    }

    fn feed(items: usize) -> String {
        let item =
            |id| format!("<item><category>movie</category><guid>imdb://tt{id}</guid><d><![CDATA[<]]></d></item>");
        let items: String = (1..=items).map(item).collect();
        format!("<rss><!-- - --><channel>{items}</channel></rss>")
    }

    /// How many users or entries an answer is taken to have, when it is taken for a whole one.
    fn count(body: &[u8]) -> Option<usize> {
        let value = value(body).ok();
        let of_value = value.as_ref().and_then(|value| {
            let home = account::home_users(value).map(|users| users.len());
            let friends = || community::friends_in(value).map(|friends| friends.len());
            home.or_else(friends).or_else(|| whole(community::pages(|_, _| Ok(value.clone()))))
        });
        let shares = || document(body, "MediaContainer").ok().and_then(|root| account::shared_users(&root));
        let list = || {
            Container::decode(body).ok().and_then(|_| whole(discover::pages(|_| Ok(Container::decode(body).unwrap()))))
        };
        let feed = || rss::entries(body).ok().flatten().map(|entries| entries.len());
        of_value.or_else(|| shares().map(|users| users.len())).or_else(list).or_else(feed)
    }

    fn whole(read: Read<Vec<Listed>>) -> Option<usize> {
        match read {
            Read::Complete(listed) => Some(listed.len()),
            Read::Incomplete { .. } | Read::Failed(_) => None,
        }
    }

    #[test]
    fn well_formed_answers_are_whole() {
        for rows in [0, 1, 4] {
            for kind in [0, 3, 4, 5, 6] {
                assert_eq!(count(well_formed(kind, rows).to_string().as_bytes()), Some(rows), "{kind}");
            }
            assert_eq!(count(shared(rows).as_bytes()), Some(rows));
            assert_eq!(count(feed(rows).as_bytes()), Some(rows));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn any_bytes_are_an_answer_or_an_error(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            check(&body);
        }

        #[test]
        fn a_mutated_answer_is_read_without_panicking(
            (kind, rows) in (0..KINDS, 0_usize..4),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), proptest::option::of(absurd())), 1..6),
        ) {
            let mut answer = well_formed(kind, rows);
            for (place, with) in changes {
                mutate(&mut answer, place, with);
            }
            check(answer.to_string().as_bytes());
        }

        #[test]
        fn bytes_that_changed_on_the_way_do_no_harm(
            rows in 0_usize..4,
            is_feed: bool,
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut body = if is_feed { feed(rows) } else { shared(rows) }.into_bytes();
            for (at, byte) in changes {
                let at = at.index(body.len());
                body[at] = byte;
            }
            check(&body);
        }

        #[test]
        fn an_answer_that_was_cut_is_none(
            (kind, rows) in (0..KINDS + 2, 1_usize..4),
            at in any::<proptest::sample::Index>(),
        ) {
            let body = match kind.checked_sub(KINDS) {
                None => well_formed(kind, rows).to_string(),
                Some(0) => shared(rows),
                Some(_) => feed(rows),
            };
            let cut = &body.as_bytes()[..at.index(body.len())];
            prop_assert_eq!(count(cut), None);
            prop_assert!(xml::parse(&String::from_utf8_lossy(cut)).is_err());
        }

        #[test]
        fn an_answer_that_lost_a_row_of_those_that_it_counts_is_not_whole(
            rows in 1_usize..5,
            row in any::<proptest::sample::Index>(),
            with in proptest::option::of(absurd()),
        ) {
            let mut answer = well_formed(5, rows);
            let list = answer["MediaContainer"]["Metadata"].as_array_mut().unwrap();
            let row = row.index(rows);
            match with {
                Some(with) => list[row] = with,
                None => drop(list.remove(row)),
            }
            prop_assert_eq!(count(answer.to_string().as_bytes()), None);
            let one_less = shared(rows - 1).replace(&format!("size=\"{}\"", rows - 1), &format!("size=\"{rows}\""));
            prop_assert_eq!(count(one_less.as_bytes()), None);
        }
    }
}
