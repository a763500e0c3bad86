//! One tree, two texts: an [`Element`] as Plex's XML or as Plex's JSON.
//!
//! Owns the rules by which the two differ: XML names an element by its class and writes every value as
//! an attribute (booleans as `0` and `1`); JSON gathers elements into lists by their list name, and an
//! empty list is an absent key. Where Plex's JSON is odd, the tree holds a text in place of a number.
//! Faults of shape are made here, since only the writer can produce a key twice.

use super::faults::Fault;

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Int(i64),
    Bool(bool),
    Float(f64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl Value {
    /// A count of rows; no list here comes near the limit.
    pub(super) fn count(count: usize) -> Self {
        Self::Int(i64::try_from(count).unwrap_or(i64::MAX))
    }

    fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Bool(truth) => u8::from(*truth).to_string(),
            Self::Float(number) => number.to_string(),
        }
    }
}

/// A node of the answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Element {
    tag: &'static str,
    /// The key in JSON.
    key: &'static str,
    /// Whether JSON has a list under the key, or the object itself.
    listed: bool,
    attributes: Vec<(&'static str, Value)>,
    children: Vec<Element>,
}

impl Element {
    /// An element `tag` that JSON has in the list `key`.
    pub(super) fn in_list(tag: &'static str, key: &'static str) -> Self {
        Self { tag, key, listed: true, attributes: Vec::new(), children: Vec::new() }
    }

    /// An element whose list has its own name, as most have.
    pub(super) fn row(tag: &'static str) -> Self {
        Self::in_list(tag, tag)
    }

    /// An element that JSON has as an object.
    pub(super) fn object(tag: &'static str) -> Self {
        Self { listed: false, ..Self::row(tag) }
    }

    /// Sets an attribute, in place of an older one of the same name.
    pub(super) fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        let value = value.into();
        match self.attributes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.attributes.push((name, value)),
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// Sets an attribute that is left out when there is nothing to say.
    pub(super) fn with_some(self, name: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub(super) fn push(&mut self, child: Self) {
        self.children.push(child);
    }

    pub(super) fn child(mut self, child: Self) -> Self {
        self.push(child);
        self
    }

    pub(super) fn unset(&mut self, name: &str) {
        self.attributes.retain(|(known, _)| *known != name);
    }

    /// Turns the value of an attribute into a text, for JSON.
    pub(super) fn turn_to_text(&mut self, name: &str) {
        if let Some((_, value)) = self.attributes.iter_mut().find(|(known, _)| *known == name) {
            *value = Value::Text(value.plain());
        }
    }

    /// Takes over the attributes of another element.
    pub(super) fn absorb(&mut self, other: &Self) {
        for (name, value) in &other.attributes {
            self.set(name, value.clone());
        }
    }

    /// Takes the children of that tag out.
    pub(super) fn take_children(&mut self, tag: &str) -> Vec<Self> {
        let (taken, kept) = self.children.drain(..).partition(|child| child.tag == tag);
        self.children = kept;
        taken
    }
}

/// The XML text of a whole answer.
pub(super) fn xml(root: &Element) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    write_xml(&mut text, root);
    text
}

fn write_xml(text: &mut String, element: &Element) {
    text.push('<');
    text.push_str(element.tag);
    for (name, value) in &element.attributes {
        text.push(' ');
        text.push_str(name);
        text.push_str("=\"");
        for letter in value.plain().chars() {
            match letter {
                '&' => text.push_str("&amp;"),
                '<' => text.push_str("&lt;"),
                '>' => text.push_str("&gt;"),
                '"' => text.push_str("&quot;"),
                '\n' => text.push_str("&#10;"),
                '\r' => text.push_str("&#13;"),
                '\t' => text.push_str("&#9;"),
                // No way to write these in XML 1.0.
                letter if letter.is_control() => text.push(' '),
                letter => text.push(letter),
            }
        }
        text.push('"');
    }
    if element.children.is_empty() {
        text.push_str("/>\n");
        return;
    }
    text.push_str(">\n");
    for child in &element.children {
        write_xml(text, child);
    }
    text.push_str("</");
    text.push_str(element.tag);
    text.push_str(">\n");
}

/// The JSON text of a whole answer, whose rows are in the list `rows`.
pub(super) fn json(root: &Element, rows: &str, faults: &[Fault]) -> String {
    let mut writer = Json { text: String::from("{\"MediaContainer\":"), faults };
    writer.object(root, Some(rows));
    writer.text.push('}');
    writer.text
}

struct Json<'a> {
    text: String,
    faults: &'a [Fault],
}

impl Json<'_> {
    fn has(&self, fault: &Fault) -> bool {
        self.faults.contains(fault)
    }

    /// Writes an object; `rows` is the name of the main list when this is the container.
    fn object(&mut self, element: &Element, rows: Option<&str>) {
        self.text.push('{');
        let start = self.text.len();
        for (name, value) in &element.attributes {
            if self.has(&Fault::DuplicateKeys) && matches!(*name, "size" | "type") {
                // A reader that takes the last of two keeps its sense.
                self.name(name, start);
                self.text.push('0');
            }
            self.name(name, start);
            self.value(value);
        }
        let mut keys: Vec<&str> = Vec::new();
        for child in &element.children {
            if !keys.contains(&child.key) {
                keys.push(child.key);
            }
        }
        for &key in &keys {
            self.name(key, start);
            let children: Vec<&Element> = element.children.iter().filter(|child| child.key == key).collect();
            if rows == Some(key) && self.has(&Fault::LostRows) {
                self.text.push_str("null");
            } else if !children[0].listed || (children.len() == 1 && self.has(&Fault::SingleObjects)) {
                self.object(children[0], None);
            } else {
                self.list(&children, rows == Some(key));
            }
        }
        let empty = if self.has(&Fault::NullLists) {
            "null"
        } else if self.has(&Fault::EmptyLists) {
            "[]"
        } else {
            ""
        };
        let expected = rows.or((element.tag == "Video").then_some("Media"));
        if let Some(key) = expected.filter(|key| !empty.is_empty() && !key.is_empty() && !keys.contains(key)) {
            self.name(key, start);
            self.text.push_str(empty);
        }
        self.text.push('}');
    }

    fn list(&mut self, mut children: &[&Element], rows: bool) {
        if rows && self.has(&Fault::LostRow) {
            children = &children[1..];
        }
        self.text.push('[');
        for (index, child) in children.iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            if rows && self.has(&Fault::BadRow(index)) {
                self.text.push_str("\"not an item\"");
            } else {
                self.object(child, None);
            }
        }
        self.text.push(']');
    }

    fn name(&mut self, name: &str, start: usize) {
        if self.text.len() > start {
            self.text.push(',');
        }
        self.string(name);
        self.text.push(':');
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(truth) if !self.has(&Fault::NumbersAsStrings) => {
                self.text.push_str(if *truth { "true" } else { "false" });
            }
            Value::Int(_) | Value::Float(_) if !self.has(&Fault::NumbersAsStrings) => {
                self.text.push_str(&value.plain());
            }
            _ => self.string(&value.plain()),
        }
    }

    fn string(&mut self, text: &str) {
        self.text.push_str(&serde_json::Value::from(text).to_string());
    }
}
