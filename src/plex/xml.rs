//! As much XML as plex.tv's older calls and its feeds speak: a tree of elements.
//!
//! Owns the reading of text that may be anything: entities, CDATA, comments and declarations are
//! understood; a document type is passed over and never acted upon, so no entity of its own exists.
//! Refuses what does not nest, what nests deeper than [`MAX_DEPTH`] and what has more than one root, and
//! never takes half a document for a whole one: the elements of a list that was cut short would look like
//! all of them. The time it takes grows with the text and no faster.

/// Elements within elements.
const MAX_DEPTH: usize = 64;
/// The longest name of an entity that is looked for, in bytes, its `;` included: `#x0010FFFF;`.
const MAX_ENTITY: usize = 12;

/// One element. Names keep their prefix.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    attributes: Vec<(String, String)>,
    /// The text right inside it, without that of its children.
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

impl Element {
    /// The value of an attribute; an empty one counts as absent, as plex.tv writes both.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        let (_, value) = self.attributes.iter().find(|(key, _)| key == name)?;
        Some(value.trim()).filter(|value| !value.is_empty())
    }

    /// The children of this name.
    pub(super) fn all<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first child of this name.
    pub(super) fn text_of<'e>(&'e self, name: &'e str) -> Option<&'e str> {
        self.all(name).map(|child| child.text.trim()).find(|text| !text.is_empty())
    }
}

/// Reads a document; the root element of it.
///
/// # Errors
/// What is wrong, and at which byte.
pub(super) fn parse(text: &str) -> Result<Element, (usize, &'static str)> {
    // What is open, outermost first, under a root that stands for the document.
    let mut open = vec![Element::default()];
    let mut rest = text;
    while !rest.is_empty() {
        let at = text.len() - rest.len();
        let (before, markup) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
        let top = open.last_mut().expect("the document is never closed");
        top.text.push_str(&unescaped(before));
        let cut = (at, "it ends in the middle");
        if markup.is_empty() {
            break;
        }
        rest = if let Some(inner) = markup.strip_prefix("<![CDATA[") {
            let (raw, rest) = inner.split_once("]]>").ok_or(cut)?;
            top.text.push_str(raw);
            rest
        } else if let Some(inner) = markup.strip_prefix("<!--") {
            inner.split_once("-->").ok_or(cut)?.1
        } else if let Some(inner) = markup.strip_prefix("<?") {
            inner.split_once("?>").ok_or(cut)?.1
        } else if let Some(inner) = markup.strip_prefix("<!") {
            declaration(inner).ok_or(cut)?
        } else if let Some(inner) = markup.strip_prefix("</") {
            let (name, rest) = inner.split_once('>').ok_or(cut)?;
            let closed = open.pop().filter(|closed| !open.is_empty() && closed.name == name.trim_end());
            let parent = open.last_mut().ok_or((at, "an end without a beginning"))?;
            parent.children.push(closed.ok_or((at, "an end that is not that of the last beginning"))?);
            rest
        } else {
            let (element, is_empty, rest) = start(&markup[1..]).ok_or(cut)?;
            if is_empty {
                top.children.push(element);
            } else if open.len() > MAX_DEPTH {
                return Err((at, "it nests too deep"));
            } else {
                open.push(element);
            }
            rest
        };
    }
    let mut document = open.swap_remove(0);
    match (open.is_empty(), document.children.pop()) {
        (true, Some(_)) if !document.children.is_empty() => Err((0, "it has more than one root")),
        (true, Some(root)) => Ok(root),
        (true, None) => Err((0, "there is no element")),
        (false, _) => Err((text.len(), "it ends in the middle")),
    }
}

/// What follows a `<!…>`, in whose brackets there may be more of them.
fn declaration(text: &str) -> Option<&str> {
    let mut brackets = 0_i32;
    let end = text.char_indices().find(|(_, letter)| {
        brackets += i32::from(*letter == '[') - i32::from(*letter == ']');
        *letter == '>' && brackets <= 0
    });
    end.map(|(end, _)| &text[end + 1..])
}

/// The element that begins after its `<`, whether it is empty, and what follows its `>`.
fn start(text: &str) -> Option<(Element, bool, &str)> {
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, '>' | '/'))?;
    let mut element = Element { name: text[..end].to_owned(), ..Element::default() };
    let mut rest = text[end..].trim_start();
    loop {
        if let Some(rest) = rest.strip_prefix("/>") {
            return Some((element, true, rest));
        }
        if let Some(rest) = rest.strip_prefix('>') {
            return Some((element, false, rest));
        }
        let (name, value) = rest.split_once('=')?;
        let value = value.trim_start();
        let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        let (value, after) = value[1..].split_once(quote)?;
        element.attributes.push((name.trim().to_owned(), unescaped(value)));
        rest = after.trim_start();
    }
}

/// The text with its entities resolved; one that XML does not know stays as it is.
fn unescaped(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        whole.push_str(before);
        // Not further than a name may be: a text of ampersands alone would be searched again for each.
        let end = after.bytes().take(MAX_ENTITY).position(|byte| byte == b';');
        let entity = end.and_then(|end| Some((character(&after[..end])?, &after[end + 1..])));
        rest = if let Some((letter, rest)) = entity {
            whole.push(letter);
            rest
        } else {
            whole.push('&');
            after
        };
    }
    whole.push_str(rest);
    whole
}

fn character(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let digits = entity.strip_prefix('#')?;
            let code = match digits.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => digits.parse().ok(),
            };
            code.and_then(char::from_u32)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_becomes_a_tree() {
        let root = parse(
            "\u{feff}<?xml version=\"1.0\"?>\n<!DOCTYPE rss [<!ENTITY a \"b\">]><!-- <no> -->\n<rss v='2' e=\"\">\
             <channel ><title>A &amp; B&#33;</title><item><guid isPermaLink = \"false\">imdb://tt1</guid>\
             <guid>tmdb://2</guid><d><![CDATA[<b>&amp;]]></d><x:y a=\"&lt;&quot;&#x41;&nope;\"/></item></channel>\n</rss>\n",
        )
        .unwrap();
        assert_eq!((root.name.as_str(), root.attribute("v"), root.attribute("e")), ("rss", Some("2"), None));
        let channel = root.all("channel").next().unwrap();
        assert_eq!(channel.text_of("title"), Some("A & B!"));
        let item = channel.all("item").next().unwrap();
        assert_eq!(item.all("guid").map(|guid| guid.text.as_str()).collect::<Vec<_>>(), ["imdb://tt1", "tmdb://2"]);
        assert_eq!(item.text_of("d"), Some("<b>&amp;"));
        assert_eq!(item.all("x:y").next().unwrap().attribute("a"), Some("<\"A&nope;"));
    }

    #[test]
    fn half_a_document_is_none() {
        for text in [
            "",
            "text",
            "<a>",
            "<a><b/>",
            "<a><b></a></b>",
            "</a>",
            "<a",
            "<a x",
            "<a x=",
            "<a x=\"1>",
            "<a/",
            "<!--",
            "<![CDATA[",
            "<?xml",
            "<a>&",
            "<a></b></a>",
            "<a/><a/>",
            "<a><b/></a><a/>",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse(&"<a>".repeat(1000)).unwrap_err().1, "it nests too deep");
    }

    #[test]
    fn an_entity_is_read_as_far_as_its_name_may_reach() {
        for (text, read) in [
            ("&amp;&lt;&gt;&quot;&apos;", "&<>\"'"),
            ("&#65;&#x41;&#X41;&#x00000041;&#128512;", "AAAA\u{1f600}"),
            ("&;&#;&#x;&#xd800;&#x110000;&#-1;&nbsp;", "&;&#;&#x;&#xd800;&#x110000;&#-1;&nbsp;"),
            ("&#000000000000065;&amp", "&#000000000000065;&amp"),
            ("&&amp;&\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9};", "&&&\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9};"),
        ] {
            assert_eq!(unescaped(text), read);
        }
        // Without a bound this takes minutes.
        let many = "&".repeat(4 << 20);
        assert_eq!(unescaped(&many), many);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_fail_hard(text in "[<>/a-c=\"'!?\\[\\]&;# \u{e9}-]{0,60}") {
            let _ = parse(&text).is_ok();
        }
    }
}
