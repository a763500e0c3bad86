//! Watchlist feeds: RSS 2.0, as XML or as JSON, from wherever the configuration says.
//!
//! A feed shows its newest entries alone, at most 50, and through a cache of hours: what is in it is
//! wanted, and what is not proves nothing. Its address is as good as a password, so no message names
//! more of it than its number. No token is ever sent.

use ureq::http::Uri;

use super::PlexError;
use super::client::{Client, Get};
use super::json::{MAX_ID, Row, Undecodable, value};
use super::outside::{Listed, ListedKind, MAX_IDS, Service, ServiceOptions, document, undecodable};
use super::tree::Tree;
use super::xml::Element;

/// The newest entries that count. Plex shows 50; what is seen is kept, and a feed may be anybody's.
pub(super) const MAX_ENTRIES: usize = 1000;

/// One feed.
pub struct Feed {
    client: Client,
    path: String,
    query: String,
    label: String,
}

/// An entry, and the uuid of whom it belongs to where the feed tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEntry {
    pub listed: Listed,
    pub author: Option<String>,
}

impl Feed {
    /// Prepares to read `address`, the feed of this number, from 1; sends nothing. `options.url` stands
    /// in for the host where Plex has its feeds.
    ///
    /// # Errors
    /// [`PlexError::Config`]: the address cannot be used. The error does not show it.
    pub fn new(address: &str, number: usize, options: &ServiceOptions) -> Result<Self, PlexError> {
        let wrong = || PlexError::Config {
            what: format!("select.rss: number {number} is no address of a feed"),
            hint: "write it like https://rss.plex.tv/01234567-89ab-cdef-0123-456789abcdef",
        };
        let uri: Uri = address.trim().parse().map_err(|_| wrong())?;
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.authority()) else { return Err(wrong()) };
        let origin = format!("{scheme}://{host}");
        let url = if origin == Service::Rss.url() { options.url.clone() } else { origin };
        let client = ServiceOptions { url, ..options.clone() }.client().map_err(|_| wrong())?;
        Ok(Self {
            client,
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            label: format!("feed {number}"),
        })
    }

    /// What is in it, the newest first.
    ///
    /// # Errors
    /// It cannot be read, or is no feed.
    pub fn read(&self) -> Result<Vec<FeedEntry>, PlexError> {
        let mut call = Get::new(self.path.clone(), None);
        call.query.clone_from(&self.query);
        call.label = Some(self.label.clone());
        let body = self.client.fetch(&call)?;
        let lacks = || PlexError::Lacks { endpoint: self.label.clone(), what: "has no items".to_owned() };
        entries(&body).map_err(|why| undecodable(&self.client, &call, why))?.ok_or_else(lacks)
    }
}

/// The entries of a feed; `None` when there is no place for any in it.
pub(super) fn entries(body: &[u8]) -> Result<Option<Vec<FeedEntry>>, Undecodable> {
    let is_markup = body.iter().find(|byte| byte.is_ascii_graphic()) == Some(&b'<');
    if is_markup || body.starts_with(b"\xef\xbb\xbf<") {
        let root = document(body, "rss")?;
        let items = root.all("channel").flat_map(|channel| channel.all("item"));
        let entry = |item: &Element| {
            let ids = item.all("guid").map(|guid| guid.text.trim().to_owned()).collect();
            self::entry(item.text_of("category")?, ids, item.text_of("author"))
        };
        let is_feed = root.all("channel").next().is_some();
        return Ok(is_feed.then(|| items.filter_map(entry).take(MAX_ENTRIES).collect()));
    }
    let feed = value(body)?;
    let entry = |item: &Tree| {
        let row = Row::new(item).ok()?;
        let guids = item.get("guids").and_then(Tree::as_list).unwrap_or_default();
        let ids = guids.iter().filter_map(|guid| guid.as_text().map(|guid| guid.trim().to_owned())).collect();
        self::entry(&row.text("category")?, ids, row.text("author").as_deref())
    };
    let items = feed.get("items").and_then(Tree::as_list);
    Ok(items.map(|items| items.iter().filter_map(entry).take(MAX_ENTRIES).collect()))
}

/// An entry without a kind or an id matches nothing; as absence proves nothing, it is passed over.
fn entry(category: &str, mut ids: Vec<String>, author: Option<&str>) -> Option<FeedEntry> {
    let kind = ListedKind::read(category)?;
    ids.retain(|id| id.contains("://") && id.len() <= MAX_ID);
    ids.truncate(MAX_IDS);
    let guid = ids.iter().position(|id| id.starts_with("plex://")).map(|at| ids.remove(at));
    let listed = Listed { kind, guid, ids };
    let author = author.filter(|author| (1..=MAX_ID).contains(&author.len())).map(str::to_owned);
    (listed.guid.is_some() || !listed.ids.is_empty()).then_some(FeedEntry { listed, author })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `movie guid ids by author` of each entry; `None` when it is no feed.
    fn read(body: &str) -> Option<Vec<String>> {
        let show = |FeedEntry { listed: Listed { kind, guid, ids }, author }| {
            let by = author.map(|author| format!(" by {author}")).unwrap_or_default();
            format!("{} {} {}{by}", kind.word(), guid.unwrap_or_default(), ids.join(","))
        };
        Some(entries(body.as_bytes()).ok()??.into_iter().map(show).collect())
    }

    #[test]
    fn a_feed_is_read_as_xml_and_as_json() {
        let xml = "\u{feff} <rss><channel><item><title>a</title><category> Movie </category><guid>imdb://tt1</guid>\
            <guid>plex://movie/a</guid><author>7</author></item></channel><channel><item><category>show</category>\
            <guid><![CDATA[tvdb://2]]></guid></item></channel></rss>";
        let json = r#"{"description":1,"description":2,"items":[{"category":" Movie ","guids":["imdb://tt1","plex://movie/a"],
            "author":7},{"category":"show","guids":[" tvdb://2 ",3]}]}"#;
        for body in [xml, json, &format!("\u{feff}{json}")] {
            assert_eq!(read(body).unwrap(), ["movie plex://movie/a imdb://tt1 by 7", "show  tvdb://2"], "{body}");
        }
    }

    #[test]
    fn what_is_no_feed_is_no_empty_one() {
        for body in [
            "",
            " ",
            "{}",
            "[]",
            "null",
            r#"{"items":null}"#,
            r#"{"items":{"category":"movie","guids":["imdb://tt1"]}}"#,
            r#"{"items":[{"category":"movie","guids":["imdb://tt1"]}"#,
            "<rss/>",
            "<rss><channel/></rss><rss/>",
            "<rss><channel><item><category>movie</category>",
            "<feed><channel/></feed>",
            "<html><body>Sign in</body></html>",
        ] {
            assert_eq!(read(body), None, "{body}");
        }
        assert_eq!(read("<rss><channel/></rss>"), Some(Vec::new()));
        assert_eq!(read(r#"{"items":[]}"#), Some(Vec::new()));
    }

    #[test]
    fn an_entry_of_no_use_is_passed_over() {
        let item = |category: &str, guids: &str| format!(r#"{{"category":{category},"guids":{guids}}}"#);
        let long = format!(r#"["imdb://{}"]"#, "1".repeat(300));
        for (category, guids) in [
            ("\"album\"", r#"["imdb://tt1"]"#),
            ("null", r#"["imdb://tt1"]"#),
            ("\"movie\"", "[]"),
            ("\"movie\"", "null"),
            ("\"movie\"", r#"["tt1"]"#),
            ("\"movie\"", &long),
        ] {
            let body = format!(r#"{{"items":[{},{},7]}}"#, item(category, guids), item("\"show\"", r#"["tvdb://2"]"#));
            assert_eq!(read(&body).unwrap(), ["show  tvdb://2"], "{body}");
        }
    }

    #[test]
    fn a_feed_without_end_is_read_as_far_as_feeds_reach() {
        let item = "<item><category>movie</category><guid>imdb://tt1</guid></item>";
        let body = format!("<rss><channel>{}</channel></rss>", item.repeat(MAX_ENTRIES + 1));
        assert_eq!(read(&body).unwrap().len(), MAX_ENTRIES);
        let ids = vec!["\"imdb://tt1\""; MAX_IDS + 1].join(",");
        let entries = entries(format!(r#"{{"items":[{{"category":"movie","guids":[{ids}]}}]}}"#).as_bytes()).unwrap();
        assert_eq!(entries.unwrap()[0].listed.ids.len(), MAX_IDS);
    }

    #[test]
    fn an_address_that_cannot_be_used_is_not_shown() {
        let options = ServiceOptions {
            url: Service::Rss.url().to_owned(),
            client_id: "c".to_owned(),
            timeout: std::time::Duration::from_secs(1),
            second: std::time::Duration::from_millis(1),
        };
        for address in ["s3cret", "/s3cret", "ftp://s3cret/x", "https://", "http://[s3cret", "https://a b/s3cret", ""] {
            let Err(error) = Feed::new(address, 3, &options) else { panic!("{address} is an address") };
            let text = format!("{error} {error:?}");
            assert!(text.contains("number 3") && !text.contains("s3cret"), "{text}");
        }
    }
}
