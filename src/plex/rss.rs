//! Watchlist feeds: RSS 2.0, as XML or as JSON, from wherever the configuration says.
//!
//! A feed shows its newest entries alone, at most 50, and through a cache of hours: what is in it is
//! wanted, and what is not proves nothing. Its address is as good as a password, so no message names
//! more of it than its number. No token is ever sent.

use serde_json::Value;
use ureq::http::Uri;

use super::PlexError;
use super::client::{Client, Get};
use super::json::{Row, value};
use super::outside::{Listed, ListedKind, Service, ServiceOptions, parse_xml, undecodable};

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
        let is_markup = body.iter().find(|byte| byte.is_ascii_graphic()) == Some(&b'<');
        if is_markup || body.starts_with(b"\xef\xbb\xbf<") {
            let root = parse_xml(&self.client, &call, &body, "rss")?;
            let items = root.all("channel").flat_map(|channel| channel.all("item"));
            let entry = |item: &super::xml::Element| {
                let ids = item.all("guid").map(|guid| guid.text.trim().to_owned()).collect();
                self::entry(item.text_of("category")?, ids, item.text_of("author"))
            };
            return Ok(items.filter_map(entry).collect());
        }
        let feed = value(&body).map_err(|why| undecodable(&self.client, &call, why))?;
        let lacks = || PlexError::Lacks { endpoint: self.label.clone(), what: "has no items".to_owned() };
        let items = feed.get("items").and_then(Value::as_array).ok_or_else(lacks)?;
        let entry = |item: &Value| {
            let row = Row::new(item).ok()?;
            let guids = item.get("guids").and_then(Value::as_array).into_iter().flatten();
            let ids = guids.filter_map(|guid| guid.as_str().map(|guid| guid.trim().to_owned())).collect();
            self::entry(&row.text("category")?, ids, row.text("author").as_deref())
        };
        Ok(items.iter().filter_map(entry).collect())
    }
}

/// An entry without a kind or an id matches nothing; as absence proves nothing, it is passed over.
fn entry(category: &str, mut ids: Vec<String>, author: Option<&str>) -> Option<FeedEntry> {
    let kind = ListedKind::read(category)?;
    ids.retain(|id| id.contains("://"));
    let guid = ids.iter().position(|id| id.starts_with("plex://")).map(|at| ids.remove(at));
    let listed = Listed { kind, guid, ids };
    let author = author.filter(|author| !author.is_empty()).map(str::to_owned);
    (listed.guid.is_some() || !listed.ids.is_empty()).then_some(FeedEntry { listed, author })
}
