//! The part of a JSON document that this program reads.
//!
//! Owns the names of all fields that any reader asks for. A row of Plex has dozens of others, summaries and cast
//! among them: they are passed over where they stand, so that a listing of thousands takes no memory and hardly any
//! time for them. Nor are they looked at closely: how large a number is there, how deep a list, which half of a
//! character, is nobody's business. Of duplicate fields the last counts. Refuses to be asked for a field that is not in
//! [`NAMES`], which would never be there: that is a mistake of this program, and tests find it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// All fields that are read, by their length in bytes.
#[rustfmt::skip]
const NAMES: [&[&str]; 21] = [
    &[],
    &[],
    &["id"],
    &["key"],
    &["Guid", "Part", "User", "data", "file", "guid", "live", "name", "path", "size", "type", "user", "uuid", "year"],
    &["Media", "Track", "Video", "admin", "guids", "index", "items", "nodes", "state", "title", "users", "value"],
    &["Player", "author", "errors", "exists", "height"],
    &["Account", "Setting", "addedAt", "bitrate", "message", "product", "version"],
    &["Location", "Metadata", "category", "decision", "duration", "pageInfo", "username"],
    &["Directory", "_children", "authToken", "deletedAt", "endCursor", "leafCount", "protected", "proxyType",
        "ratingKey", "scannedAt", "totalSize", "updatedAt", "viewCount", "watchlist"],
    &["accessible", "refreshing", "viewOffset"],
    &["accessToken", "hasNextPage", "parentIndex", "parentTitle"],
    &["_elementType", "allFriendsV2", "friendlyName", "lastViewedAt", "playlistType"],
    &[],
    &["MediaContainer"],
    &["parentRatingKey", "videoResolution", "viewedLeafCount"],
    &["TranscodeSession", "clientIdentifier", "contentChangedAt", "grandparentTitle", "librarySectionID"],
    &["machineIdentifier"],
    &[],
    &[],
    &["grandparentRatingKey"],
];

/// A value and what is in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(Box<str>),
    List(Vec<Tree>),
    Object(Object),
}

/// The fields of an object that are read, as they came.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Object {
    fields: Vec<(&'static str, Tree)>,
    /// There were others.
    has_others: bool,
}

impl Tree {
    /// The field of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        self.as_object()?.get(name)
    }

    /// What these fields lead to, each in the one before.
    pub(super) fn at(&self, names: &[&str]) -> Option<&Self> {
        names.iter().try_fold(self, |tree, name| tree.get(name))
    }

    pub(super) fn as_object(&self) -> Option<&Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    pub(super) fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(list) = self { Some(list) } else { None }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(truth) = self { Some(*truth) } else { None }
    }
}

impl Object {
    pub(super) fn get(&self, name: &str) -> Option<&Tree> {
        debug_assert!(known(name).is_some(), "{name} is missing in NAMES");
        self.fields.iter().rev().find(|(other, _)| *other == name).map(|(_, tree)| tree)
    }

    /// The same, taken out of it.
    pub(super) fn take(&mut self, name: &str) -> Option<Tree> {
        debug_assert!(known(name).is_some(), "{name} is missing in NAMES");
        let place = self.fields.iter().rposition(|(other, _)| *other == name)?;
        Some(self.fields.remove(place).1)
    }

    /// Whether it came without any field, be it one that nobody reads.
    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty() && !self.has_others
    }
}

/// The field of this name, when it is one of those that are read.
fn known(name: &str) -> Option<&'static str> {
    let first = name.as_bytes().first()?;
    // Most fields are none of these, and few are of one length and begin alike.
    NAMES.get(name.len())?.iter().find(|known| known.as_bytes()[0] == *first && **known == name).copied()
}

/// The name of a field, when it is one of those that are read.
struct Name(Option<&'static str>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Known;

        impl Visitor<'_> for Known {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(Name(known(name)))
            }
        }

        deserializer.deserialize_str(Known)
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_bool<E>(self, truth: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(truth))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
                Ok(Tree::Number(number.into()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
                Ok(Tree::Number(number.into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
                Ok(Number::from_f64(number).map_or(Tree::Null, Tree::Number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Text(text.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Tree::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut object = Object::default();
                while let Some(Name(name)) = map.next_key()? {
                    if let Some(name) = name {
                        object.fields.push((name, map.next_value()?));
                    } else {
                        object.has_others = true;
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Tree::Object(object))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
impl From<&serde_json::Value> for Tree {
    fn from(value: &serde_json::Value) -> Self {
        serde_json::from_value(value.clone()).expect("every value is one")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_name_is_found_by_its_length() {
        for (length, names) in NAMES.iter().enumerate() {
            for name in *names {
                assert_eq!((name.len(), known(name)), (length, Some(*name)));
            }
        }
        assert_eq!((known(""), known("summary"), known(&"x".repeat(99))), (None, None, None));
    }

    #[test]
    fn what_nobody_reads_is_passed_over() {
        let tree: Tree = serde_json::from_str(
            r#"{"Media":[{"codec":null,"id":7}],"Role":[{"tag":[{"deep":1}]}],"summary":"long","title":"Alien"}"#,
        )
        .unwrap();
        assert_eq!(tree, Tree::from(&json!({"title": "Alien", "Role": 1, "Media": [{"id": 7, "codec": 1}]})));
        assert_eq!(tree.get("title").and_then(Tree::as_text), Some("Alien"));
        assert_eq!(tree.at(&["Media", "id"]), None, "a list has no fields");
        for (text, is_empty) in [("{}", true), (r#"{"summary":1}"#, false), (r#"{"title":1}"#, false)] {
            let tree: Tree = serde_json::from_str(text).unwrap();
            assert_eq!(tree.as_object().unwrap().is_empty(), is_empty, "{text}");
        }
    }

    #[test]
    fn of_fields_that_come_twice_the_last_counts() {
        let tree: Tree = serde_json::from_str(r#"{"id":1,"title":"a","id":[2]}"#).unwrap();
        assert_eq!(tree.get("id"), Some(&Tree::from(&json!([2]))));
    }

    #[test]
    #[should_panic(expected = "NAMES")]
    fn a_field_that_is_never_kept_is_not_asked_for() {
        let _ = Tree::from(&json!({"title": 1})).get("summary");
    }

    proptest::proptest! {
        #[test]
        fn a_document_is_read_when_and_only_when_it_is_json(text in r#"(\{|\}|\[|\]|,|:|"title"|"x"|1|-1.5|1e400|null|true| ){0,12}"#) {
            let is_json = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            let is_read = serde_json::from_str::<Tree>(&text).is_ok();
            // What is passed over is looked at less closely: a number may be too large to be one.
            proptest::prop_assert!(is_read || !is_json);
            proptest::prop_assert!(is_json || !is_read || text.contains("1e400"));
        }
    }
}
