//! Nearly JSON, read leniently.
//!
//! Owns every tolerance of form: servers of ten years send numbers as strings, one object instead of
//! a list, bytes that are not UTF-8, a byte order mark, duplicate keys, raw control characters.
//! Decoding goes through [`Tree`], which keeps what is read of an answer. Refuses what is no answer
//! of Plex at all, and never turns what it cannot read into an empty list. A character that could not
//! be decoded stays visible as U+FFFD; it is never dropped or replaced by one that a name could have.

use std::borrow::Cow;

use super::tree::{Object, Tree};

/// The keys under which rows come: by class of element in some versions, and all alike in the oldest.
const ROW_KEYS: [&str; 5] = ["Metadata", "Video", "Track", "Directory", "_children"];

/// The longest id that is believed, in bytes. Those of Plex are numbers, or hexadecimal of 24 to 40 digits.
pub(super) const MAX_ID: usize = 255;

/// Why an answer has no container.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Undecodable {
    /// A web page, XML, nothing, or JSON of somebody else.
    NotPlex(String),
    /// No JSON from this byte on. `cut` when it merely ends too early.
    Syntax { offset: usize, why: String, cut: bool },
}

/// Decodes what should be JSON of any form.
pub(super) fn value(body: &[u8]) -> Result<Tree, Undecodable> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = std::str::from_utf8(body).map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed);
    match text.trim_start().as_bytes().first() {
        None => return Err(Undecodable::NotPlex("an empty answer".to_owned())),
        Some(b'<') => return Err(Undecodable::NotPlex(describe_markup(&text))),
        Some(_) => {}
    }
    serde_json::from_str(&text).or_else(|error| {
        serde_json::from_str(&repair(&text)).map_err(|_| Undecodable::Syntax {
            offset: byte_offset(&text, &error),
            why: error.to_string(),
            // Within a number that is passed over the parser only says that it is none.
            cut: error.is_eof() || text.ends_with(['-', '+', '.', 'e', 'E']),
        })
    })
}

/// The `MediaContainer` of an answer.
#[derive(Debug)]
pub(super) struct Container(Object);

impl Container {
    /// Decodes the body of an answer.
    pub(super) fn decode(body: &[u8]) -> Result<Self, Undecodable> {
        let foreign = || Undecodable::NotPlex("JSON without a MediaContainer".to_owned());
        let Tree::Object(mut root) = value(body)? else { return Err(foreign()) };
        match root.take("MediaContainer") {
            Some(Tree::Object(container)) => Ok(Self(container)),
            // The oldest form has no object around it.
            None if root.get("_elementType").and_then(Tree::as_text) == Some("MediaContainer") => Ok(Self(root)),
            _ => Err(foreign()),
        }
    }

    /// All rows, whatever their key. An element that is no object is a row too: a bad one.
    pub(super) fn rows(&self) -> Vec<&Tree> {
        let mut rows = Vec::new();
        for value in ROW_KEYS.iter().filter_map(|key| self.0.get(key)) {
            match value {
                Tree::Null => {}
                Tree::Object(object) if object.is_empty() => {}
                Tree::List(list) => rows.extend(list),
                single => rows.push(single),
            }
        }
        rows
    }

    /// How many rows this answer says it holds.
    pub(super) fn size(&self) -> Option<u64> {
        self.fields().int("size").and_then(|size| u64::try_from(size).ok())
    }

    /// How many rows the whole listing has. Only said when the listing is paged.
    pub(super) fn total(&self) -> Option<u64> {
        self.fields().int("totalSize").and_then(|total| u64::try_from(total).ok())
    }

    /// The library to which the rows belong that do not say it themselves.
    pub(super) fn library_id(&self) -> Option<String> {
        self.fields().id("librarySectionID")
    }

    /// The container's own fields.
    pub(super) fn fields(&self) -> Row<'_> {
        Row(&self.0)
    }
}

/// One JSON object, whose fields are read as what they mean and not as what they are.
#[derive(Clone, Copy)]
pub(super) struct Row<'a>(&'a Object);

impl<'a> Row<'a> {
    /// Takes `tree` for a row.
    ///
    /// # Errors
    /// It is no object.
    pub(super) fn new(tree: &'a Tree) -> Result<Self, String> {
        tree.as_object().map(Self).ok_or_else(|| "a row is not an object".to_owned())
    }

    /// A whole number, from a number, a text or a truth value. Fractions are cut off.
    pub(super) fn int(self, key: &str) -> Option<i64> {
        // Through the decimal text, which unlike a cast never wraps or saturates.
        let whole = |number: f64| format!("{:.0}", number.trunc()).parse().ok();
        match self.0.get(key)? {
            Tree::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
            Tree::Text(text) => {
                let text = text.trim();
                text.parse().ok().or_else(|| whole(text.parse().ok()?))
            }
            Tree::Bool(truth) => Some(i64::from(*truth)),
            Tree::Null | Tree::List(_) | Tree::Object(_) => None,
        }
    }

    /// An opaque id, from a text or a whole number.
    pub(super) fn id(self, key: &str) -> Option<String> {
        match self.0.get(key)? {
            Tree::Text(text) => Some(text.trim()).filter(|id| (1..=MAX_ID).contains(&id.len())).map(str::to_owned),
            Tree::Number(_) => self.int(key).map(|id| id.to_string()),
            _ => None,
        }
    }

    /// A truth value, from one, a number or a text.
    pub(super) fn flag(self, key: &str) -> bool {
        match self.0.get(key) {
            Some(Tree::Text(text)) if text.trim().eq_ignore_ascii_case("true") => true,
            _ => self.int(key).is_some_and(|number| number != 0),
        }
    }

    /// Yes or no, where it is said so that it cannot be mistaken.
    pub(super) fn truth(self, key: &str) -> Option<bool> {
        match self.0.get(key)? {
            Tree::Bool(truth) => Some(*truth),
            Tree::Number(number) => number.as_i64().map(|number| number != 0),
            Tree::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "1" | "true" => Some(true),
                "0" | "false" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// A text as it is, spaces and all: names of files begin and end with them. A title that is
    /// only digits comes as a number from some servers.
    pub(super) fn text(self, key: &str) -> Option<String> {
        match self.0.get(key)? {
            Tree::Text(text) => Some(text.as_ref().to_owned()),
            Tree::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Whether anything at all is there.
    pub(super) fn has(self, key: &str) -> bool {
        self.0.get(key).is_some_and(|value| *value != Tree::Null)
    }

    /// The objects of a list, which may be absent, null, empty or a single object.
    ///
    /// # Errors
    /// Something else is there.
    pub(super) fn list(self, key: &str) -> Result<Vec<Row<'a>>, String> {
        let wrong = || format!("{} of {} is no list of objects", key, self.name());
        match self.0.get(key) {
            None => Ok(self.old_children(key)),
            Some(Tree::Null) => Ok(Vec::new()),
            Some(Tree::Object(object)) if object.is_empty() => Ok(Vec::new()),
            Some(Tree::Object(object)) => Ok(vec![Row(object)]),
            Some(Tree::List(list)) => list.iter().map(|tree| tree.as_object().map(Row).ok_or_else(wrong)).collect(),
            Some(Tree::Bool(_) | Tree::Number(_) | Tree::Text(_)) => Err(wrong()),
        }
    }

    /// The children of class `key` in the oldest form, where all sit in one list.
    fn old_children(self, key: &str) -> Vec<Row<'a>> {
        let children = self.0.get("_children").and_then(Tree::as_list).unwrap_or_default();
        let rows = children.iter().filter_map(Tree::as_object).map(Row);
        rows.filter(|child| child.text("_elementType").as_deref() == Some(key)).collect()
    }

    /// How a problem names this row.
    pub(super) fn name(self) -> String {
        match (self.id("ratingKey").or_else(|| self.id("id")), self.text("title")) {
            (Some(key), _) => format!("row {key}"),
            (None, Some(title)) => format!("row {:?}", title.chars().take(60).collect::<String>()),
            (None, None) => "a row".to_owned(),
        }
    }
}

/// Makes JSON of what is nearly JSON: inside texts, raw control characters and halves of surrogate
/// pairs become U+FFFD; outside, control characters become spaces.
fn repair(text: &str) -> String {
    let mut repaired = String::with_capacity(text.len());
    let mut rest = text;
    let mut quoted = false;
    while let Some(first) = rest.chars().next() {
        let mut taken = first.len_utf8();
        match first {
            '\\' if quoted => {
                let (length, whole) = escape(rest);
                taken = length;
                repaired.push_str(if whole { &rest[..length] } else { "\u{fffd}" });
            }
            control if control < ' ' => repaired.push(if quoted { '\u{fffd}' } else { ' ' }),
            other => {
                quoted ^= other == '"';
                repaired.push(other);
            }
        }
        rest = &rest[taken..];
    }
    repaired
}

/// The length of the escape at the start of `text`, and whether it stands for a character: half of
/// a surrogate pair does not.
fn escape(text: &str) -> (usize, bool) {
    match (surrogate(text), text.get(6..).and_then(surrogate)) {
        (None, _) => (1 + text[1..].chars().next().map_or(0, char::len_utf8), true),
        (Some(0xd800..0xdc00), Some(0xdc00..)) => (12, true),
        (Some(_), _) => (6, false),
    }
}

/// The code unit of the escape at the start of `text`, when it is half of a surrogate pair.
fn surrogate(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u32::from_str_radix(digits, 16).ok().filter(|unit| (0xd800..0xe000).contains(unit))
}

/// Where in `text` the parser stopped. Columns count bytes, from 1; at 0 nothing of the line is read.
fn byte_offset(text: &str, error: &serde_json::Error) -> usize {
    let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    (lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1)).min(text.len())
}

/// What it is that begins with `<`.
fn describe_markup(text: &str) -> String {
    let head = text.chars().take(4096).collect::<String>();
    let lower = head.to_ascii_lowercase();
    if !lower.contains("<html") && !lower.contains("<!doctype html") {
        return "XML where JSON was asked for".to_owned();
    }
    let title = lower.find("<title>").map(|start| start + "<title>".len()).and_then(|start| {
        let end = lower[start..].find("</title>")?;
        Some(head[start..start + end].trim().chars().filter(|c| !c.is_control()).take(60).collect::<String>())
    });
    match title.filter(|title| !title.is_empty()) {
        Some(title) => format!("a web page, {title:?}"),
        None => "a web page".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn row<T>(value: &Value, read: impl FnOnce(Row<'_>) -> T) -> T {
        read(Row::new(&value.into()).unwrap())
    }

    fn decoded(body: impl AsRef<[u8]>) -> Container {
        Container::decode(body.as_ref()).unwrap()
    }

    #[test]
    fn a_number_is_read_from_whatever_holds_one() {
        for (value, number) in [
            (json!(7), Some(7)),
            (json!("7"), Some(7)),
            (json!(" 7 "), Some(7)),
            (json!(7.9), Some(7)),
            (json!("7.0"), Some(7)),
            (json!(-22), Some(-22)),
            (json!("-1"), Some(-1)),
            (json!(true), Some(1)),
            (json!(false), Some(0)),
            (json!(15_000_000_000_i64), Some(15_000_000_000)),
            (json!(u64::MAX), None),
            (json!(1e300), None),
            (json!("1e300"), None),
            (json!("NaN"), None),
            (json!("inf"), None),
            (json!(""), None),
            (json!("2021-01-01T00:00:00Z"), None),
            (json!(null), None),
            (json!([7]), None),
            (json!({"a": 7}), None),
        ] {
            assert_eq!(row(&json!({"size": value}), |row| row.int("size")), number, "{value}");
        }
        assert_eq!(row(&json!({}), |row| row.int("size")), None);
    }

    #[test]
    fn an_id_is_read_from_a_text_or_a_number() {
        for (value, id) in [
            (json!(49564), Some("49564")),
            (json!("49564"), Some("49564")),
            (json!(49564.0), Some("49564")),
            (json!("5df46a38237002001dce338d"), Some("5df46a38237002001dce338d")),
            (json!(""), None),
            (json!(" "), None),
            (json!(true), None),
            (json!(null), None),
            (json!({}), None),
        ] {
            assert_eq!(row(&json!({"id": value}), |row| row.id("id")).as_deref(), id, "{value}");
        }
    }

    #[test]
    fn a_truth_value_is_read_from_whatever_holds_one() {
        for value in [json!(true), json!(1), json!("1"), json!("true"), json!("True"), json!(1_700_000_000)] {
            assert!(row(&json!({"live": value}), |row| row.flag("live")), "{value}");
        }
        for value in [json!(false), json!(0), json!("0"), json!("false"), json!(""), json!(null), json!([])] {
            assert!(!row(&json!({"live": value}), |row| row.flag("live")), "{value}");
        }
        assert!(!row(&json!({}), |row| row.flag("live")));
    }

    #[test]
    fn a_list_may_be_absent_null_empty_or_one_object() {
        for (value, length) in [
            (json!({}), Some(0)),
            (json!({"Media": null}), Some(0)),
            (json!({"Media": []}), Some(0)),
            (json!({"Media": {}}), Some(0)),
            (json!({"Media": {"id": 1}}), Some(1)),
            (json!({"Media": [{"id": 1}, {"id": 2}]}), Some(2)),
            (json!({"Media": [{"id": 1}, null]}), None),
            (json!({"Media": "x"}), None),
            (json!({"Media": 1}), None),
        ] {
            assert_eq!(row(&value, |row| row.list("Media").ok().map(|list| list.len())), length, "{value}");
        }
    }

    #[test]
    fn rows_come_under_many_keys() {
        for (body, count) in [
            (r#"{"MediaContainer":{"size":0}}"#, 0),
            (r#"{"MediaContainer":{"Metadata":null}}"#, 0),
            (r#"{"MediaContainer":{"Metadata":[]}}"#, 0),
            (r#"{"MediaContainer":{"Metadata":{}}}"#, 0),
            (r#"{"MediaContainer":{"Metadata":{"ratingKey":1}}}"#, 1),
            (r#"{"MediaContainer":{"Metadata":[{},{}],"Directory":[{}]}}"#, 3),
            (r#"{"MediaContainer":{"Video":[{}],"Track":[{}]}}"#, 2),
            (r#"{"MediaContainer":{"_children":[{}]}}"#, 1),
            (r#"{"_elementType":"MediaContainer","_children":[{},{}]}"#, 2),
            (r#"{"MediaContainer":{"Metadata":"broken"}}"#, 1),
            (r#"{"MediaContainer":{"Hub":[{}]}}"#, 0),
            (r#"{"MediaContainer":{"Metadata":[{}],"Metadata":[{},{}]}}"#, 2),
        ] {
            assert_eq!(decoded(body).rows().len(), count, "{body}");
        }
    }

    #[test]
    fn bytes_that_are_nearly_json_are_read() {
        let title = |body: &[u8]| Row::new(decoded(body).rows()[0]).unwrap().text("title").unwrap();
        let with = |title: &[u8]| {
            let mut body = br#"{"MediaContainer":{"Metadata":{"ratingKey":"1","type":"movie","title":""#.to_vec();
            body.extend_from_slice(title);
            body.extend_from_slice(br#""}}}"#);
            body
        };
        for (raw, read) in [
            (&b"plain"[..], "plain"),
            (b"Caf\xc3\xa9", "Caf\u{e9}"),
            (b"Caf\xe9", "Caf\u{fffd}"),
            (b"a\x01b\nc", "a\u{fffd}b\u{fffd}c"),
            (br"\ud83d\ude00 \ud83d x \ude00", "\u{1f600} \u{fffd} x \u{fffd}"),
            (br"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
            (b"\x01\\\"\\\\\\n\\u00e9", "\u{fffd}\"\\\n\u{e9}"),
        ] {
            assert_eq!(title(&with(raw)), read);
        }
        let mut marked = b"\xef\xbb\xbf \r\n".to_vec();
        marked.extend(with(b"marked"));
        assert_eq!(title(&marked), "marked");
        let mut spaced = with(b"\x02");
        spaced.splice(1..1, [0, 1]);
        assert_eq!(title(&spaced), "\u{fffd}");
        assert_eq!(title(br#"{"MediaContainer":{"Metadata":[{"ratingKey":1,"ratingKey":2,"type":"movie","title":"a","title":"b"}]}}"#), "b");
    }

    #[test]
    fn an_answer_that_cannot_be_read_says_where() {
        for (body, offset, cut) in [
            (r#"{"MediaContainer":{"#, 18, true),
            (r#"{"MediaContainer":{"a":"#, 22, true),
            ("{\n\n\"MediaContainer\" 1}", 20, false),
            (r#"{"MediaContainer":{"rating":8."#, 29, true),
            ("OK", 0, false),
            (r#"{"MediaContainer":{}} x"#, 22, false),
        ] {
            match Container::decode(body.as_bytes()).unwrap_err() {
                Undecodable::Syntax { offset: at, cut: short, .. } => assert_eq!((at, short), (offset, cut), "{body}"),
                other @ Undecodable::NotPlex(_) => panic!("{body}: {other:?}"),
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_the_decoder_fail_hard(body: Vec<u8>) {
            let _ = Container::decode(&body).is_ok();
        }

        #[test]
        fn a_repaired_answer_stays_what_it_was(text in "[a-z\"\\\\u0-9d\u{1}\u{e9}\\{\\}:]{0,40}") {
            let whole = serde_json::to_string(&text).unwrap();
            proptest::prop_assert_eq!(repair(&whole), whole);
            let _ = repair(&text).len();
        }
    }
}
