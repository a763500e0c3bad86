//! What must hold of any bytes that come in place of an answer of Plex.
//!
//! Owns the checks that the properties here and the fuzzer share: nothing panics, an answer that lost
//! rows is never whole, and no path leads out of its root. Only built for tests and the fuzzer. What
//! comes in place of an answer of plex.tv is in `outside`.

pub(crate) mod outside;

use super::json::Container;
use super::listing::Listing;
use super::wire;
use crate::paths::{PathMap, PlexPath};

/// Reads `body` as every answer that is asked for.
pub(crate) fn check(body: &[u8]) {
    let Ok(container) = Container::decode(body) else { return };
    let rows = container.rows();
    match Listing::of("/", &container) {
        Err(_) => assert!(rows.is_empty(), "only an answer without rows fails as a whole"),
        Ok(listing) => {
            let read = rows.iter().filter_map(|row| wire::item(row, None).ok());
            let (read, items) =
                read.fold((0, 0), |(read, items), item| (read + 1, items + usize::from(item.is_some())));
            assert_eq!(listing.items.len(), items, "every row that can be read counts");
            if listing.problems.is_empty() {
                assert_eq!(read, rows.len(), "a whole answer has no row that cannot be read");
                assert!(container.size().is_none_or(|said| said <= read as u64), "a whole answer has all its rows");
            }
            for item in &listing.items {
                assert!(!item.rating_key.as_str().is_empty());
                drop((item.label(), item.watched()));
                for part in item.versions.iter().flat_map(|version| &version.parts) {
                    if let Some(file) = &part.file {
                        check_path(file.as_str());
                    }
                }
            }
        }
    }
    for row in &rows {
        drop((wire::library(row), wire::list(row), wire::session(row)));
    }
    drop((wire::identity(&container), wire::account_name(&container, "1")));
}

/// Maps `text` as a path of Plex.
pub(crate) fn check_path(text: &str) {
    let maps = PathMap::new(["/data/media", "/data", r"D:\Media", r"\\nas\films", "/"]).expect("all are absolute");
    let Ok((_, media)) = maps.resolve(&PlexPath::new(text)) else { return };
    let inside = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
    assert!(media.as_str().split('/').all(inside), "{media:?} leads out of its root");
    assert!(media.as_path().is_relative());
    let family = [media.sibling(media.stem()), media.join(media.file_name())];
    for other in family.into_iter().flatten() {
        assert!(other.as_str().split('/').all(inside), "{other:?} leads out of its root");
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// An answer as Plex gives it, of so many films.
    fn well_formed(films: usize) -> Value {
        let film = |key: usize| {
            json!({"ratingKey": key.to_string(), "type": "movie", "title": "Dune \u{1f3dc}", "year": 2021,
                "summary": "x \u{e9}", "rating": 8.4, "Role": [{"tag": "a", "n": [1, {}]}],
                "lastViewedAt": 1_700_000_000, "index": 5, "librarySectionID": 1, "Guid": [{"id": "imdb://tt1"}],
                "User": {"id": 1, "title": "anna"}, "Player": {"title": "TV", "state": "playing"},
                "Media": [{"id": key + 50, "height": 1080, "Part": [
                    {"id": key + 70, "file": format!("/data/media/Movies/{key}.mkv"), "size": 5_000_000_000_u64}]}]})
        };
        let rows: Vec<Value> = (1..=films).map(film).collect();
        json!({"MediaContainer": {"size": films, "librarySectionID": 1, "machineIdentifier": "ab", "Metadata": rows}})
    }

    fn listing(body: &[u8]) -> Option<Listing> {
        Container::decode(body).ok().and_then(|container| Listing::of("/", &container).ok())
    }

    fn is_whole(body: &[u8]) -> bool {
        listing(body).is_some_and(|listing| listing.problems.is_empty())
    }

    /// Values that no server should send.
    pub(super) fn absurd() -> impl Strategy<Value = Value> {
        const PATHS: [&str; 6] = [
            "/data/media/../../etc/passwd",
            "/data/media//a",
            "/data/media/a\0b",
            "/etc/passwd",
            "D:\\Media\\..\\a",
            "/",
        ];
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            prop_oneof![Just(i64::MIN), Just(-5), Just(i64::MAX), any::<i64>()].prop_map(Value::from),
            prop_oneof![Just(u64::MAX), Just(1 << 63)].prop_map(Value::from),
            prop_oneof![Just(1e308), Just(-1e308), Just(0.5)].prop_map(Value::from),
            proptest::sample::select(&PATHS).prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            Just(json!([])),
            Just(json!({})),
            Just(json!([[[[1]]], "x", null])),
            Just(json!({"Media": {"Part": [{"file": 7}]}})),
        ]
    }

    /// All places in `value`, outermost first.
    fn places(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(index, inner)| places(inner, &format!("{at}/{index}"), found));
            }
            Value::Object(map) => map.iter().for_each(|(key, inner)| places(inner, &format!("{at}/{key}"), found)),
            _ => {}
        }
    }

    /// Puts a value in the place of another, or takes it away where there is none to put.
    pub(super) fn mutate(answer: &mut Value, place: proptest::sample::Index, with: Option<Value>) {
        let mut all = Vec::new();
        places(answer, "", &mut all);
        let place = &all[place.index(all.len())];
        match (with, place.rsplit_once('/')) {
            (Some(with), _) => *answer.pointer_mut(place).unwrap() = with,
            (None, Some((parent, key))) => match answer.pointer_mut(parent).unwrap() {
                Value::Object(map) => drop(map.remove(key)),
                Value::Array(list) => drop(list.remove(key.parse().unwrap())),
                _ => {}
            },
            (None, None) => {}
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
            films in 0_usize..4,
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), proptest::option::of(absurd())), 1..6),
        ) {
            let mut answer = well_formed(films);
            for (place, with) in changes {
                mutate(&mut answer, place, with);
            }
            check(answer.to_string().as_bytes());
        }

        #[test]
        fn bytes_that_changed_on_the_way_do_no_harm(
            films in 1_usize..4,
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut body = well_formed(films).to_string().into_bytes();
            for (at, byte) in changes {
                let at = at.index(body.len());
                body[at] = byte;
            }
            check(&body);
        }

        #[test]
        fn an_answer_that_was_cut_is_not_whole(films in 0_usize..4, at in any::<proptest::sample::Index>()) {
            let body = well_formed(films).to_string();
            prop_assert!(is_whole(body.as_bytes()));
            prop_assert!(!is_whole(&body.as_bytes()[..at.index(body.len())]));
        }

        #[test]
        fn an_answer_that_lost_a_row_is_not_whole(
            films in 1_usize..5,
            row in any::<proptest::sample::Index>(),
            with in proptest::option::of(absurd()),
        ) {
            let mut answer = well_formed(films);
            let rows = answer["MediaContainer"]["Metadata"].as_array_mut().unwrap();
            let row = row.index(films);
            match with {
                Some(with) => rows[row] = with,
                None => drop(rows.remove(row)),
            }
            prop_assert!(!is_whole(answer.to_string().as_bytes()));
        }

        #[test]
        fn rows_that_a_second_key_hides_are_missed(films in 1_usize..5, left in 0_usize..5) {
            let (more, fewer) = (well_formed(films), well_formed(left.min(films - 1)));
            let list = |answer: &Value| answer["MediaContainer"]["Metadata"].to_string();
            let body = format!(
                r#"{{"MediaContainer":{{"size":{films},"Metadata":{},"Metadata":{}}}}}"#, list(&more), list(&fewer)
            );
            prop_assert!(!is_whole(body.as_bytes()));
        }

        #[test]
        fn no_path_leads_out_of_its_root(text in r"(/|\\|\.|data|media|D:|nas|films|\x00|\u{fffd}|é| ){0,14}") {
            check_path(&text);
        }
    }

    #[test]
    fn nesting_without_end_does_no_harm() {
        for (open, close) in [("[", "]"), ("{\"Media\":", "}"), ("{\"MediaContainer\":", "}"), ("{\"summary\":", "}")] {
            let deep = format!("{}1{}", open.repeat(200_000), close.repeat(200_000));
            check(deep.as_bytes());
            assert!(!is_whole(format!(r#"{{"MediaContainer":{{"size":1,"Metadata":[{deep}]}}}}"#).as_bytes()));
        }
    }
}
