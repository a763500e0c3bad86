//! The services of plex.tv: where they are, how they are asked, and what their lists are made of.
//!
//! Owns the base URLs, which the configuration may replace one by one, and the pace: plex.tv answers
//! those who ask too often with 429, for everybody behind the same address. Nothing else of this
//! program talks to a host that is not the Plex server. A [`Listed`] is known by ids alone; no title
//! is ever compared.

use std::time::{Duration, Instant};

use super::PlexError;
use super::client::{Client, Get};
use super::failure::Asked;
use super::json::{Row, Undecodable, value};
use super::server::ServerOptions;
use super::tree::Tree;
use super::xml::{self, Element};
use crate::secret::Secret;

/// The external ids of an entry that count: there are few services that give any.
pub(super) const MAX_IDS: usize = 16;

/// A service, by what it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Account,
    Discover,
    Metadata,
    Community,
    Rss,
}

impl Service {
    /// Where Plex runs it.
    pub fn url(self) -> &'static str {
        match self {
            Self::Account => "https://plex.tv",
            Self::Discover => "https://discover.provider.plex.tv",
            Self::Metadata => "https://metadata.provider.plex.tv",
            Self::Community => "https://community.plex.tv",
            Self::Rss => "https://rss.plex.tv",
        }
    }
}

/// How to talk to a service.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// Its base URL.
    pub url: String,
    /// What plex.tv knows this installation by.
    pub client_id: String,
    /// For one whole call.
    pub timeout: Duration,
    /// A second; all pauses are multiples of it.
    pub second: Duration,
}

impl ServiceOptions {
    pub(super) fn client(&self) -> Result<Client, PlexError> {
        Client::outside(&ServerOptions {
            timeout: self.timeout,
            client_id: self.client_id.clone(),
            backoff: self.second,
            ..ServerOptions::new(&self.url, Secret::new(""))
        })
    }
}

/// Whether an entry is a film or a show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListedKind {
    Movie,
    Show,
}

impl ListedKind {
    /// As plex.tv writes it, in whatever case.
    pub(super) fn read(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "movie" => Some(Self::Movie),
            "show" => Some(Self::Show),
            _ => None,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Movie => "movie",
            Self::Show => "show",
        }
    }
}

/// An entry of somebody's list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Listed {
    pub kind: ListedKind,
    /// Such as `plex://movie/5d77…`: the same in every library whose agent is Plex's own.
    pub guid: Option<String>,
    /// Such as `imdb://tt0133093`.
    pub ids: Vec<String>,
}

/// Reads JSON of any form and makes something of it.
pub(super) fn json<T>(client: &Client, call: &Get<'_>, read: impl FnOnce(Tree) -> Option<T>) -> Result<T, PlexError> {
    let body = client.fetch(call)?;
    let tree = value(&body).map_err(|why| undecodable(client, call, why))?;
    read(tree).ok_or_else(|| misshapen(call))
}

/// Reads XML and makes something of it.
pub(super) fn xml<T>(
    client: &Client,
    call: &Get<'_>,
    root: &str,
    read: impl FnOnce(&Element) -> Option<T>,
) -> Result<T, PlexError> {
    let body = client.fetch(call)?;
    let root = document(&body, root).map_err(|why| undecodable(client, call, why))?;
    read(&root).ok_or_else(|| misshapen(call))
}

fn misshapen(call: &Get<'_>) -> PlexError {
    PlexError::Lacks { endpoint: call.endpoint(), what: "is not of the form that it should have".to_owned() }
}

/// Reads XML whose root element has this name: a web page is none.
pub(super) fn document(body: &[u8], root: &str) -> Result<Element, Undecodable> {
    let not_plex = |what: &str| Undecodable::NotPlex(what.to_owned());
    let text = String::from_utf8_lossy(body);
    if text.trim().is_empty() {
        return Err(not_plex("an empty answer"));
    }
    match xml::parse(text.trim_start_matches('\u{feff}')) {
        Ok(element) if element.name == root => Ok(element),
        Ok(element) if element.name.eq_ignore_ascii_case("html") => Err(not_plex("a web page")),
        Ok(_) => Err(not_plex("XML of somebody else")),
        Err(_) if text.to_ascii_lowercase().contains("<html") => Err(not_plex("a web page")),
        Err((offset, why)) => Err(Undecodable::Syntax { offset, why: why.to_owned(), cut: false }),
    }
}

pub(super) fn undecodable(client: &Client, call: &Get<'_>, why: Undecodable) -> PlexError {
    let asked: Asked<'_> = client.asked(call);
    asked.undecodable(why).error
}

/// The external ids in a row's `Guid` list.
pub(super) fn ids_of(row: Row<'_>) -> Vec<String> {
    row.list("Guid").unwrap_or_default().into_iter().filter_map(|guid| guid.id("id")).take(MAX_IDS).collect()
}

/// Keeps calls apart.
#[derive(Debug)]
pub(super) struct Pacer {
    gap: Duration,
    last: Option<Instant>,
}

impl Pacer {
    pub(super) fn new(gap: Duration) -> Self {
        Self { gap, last: None }
    }

    /// How long a call that could be made at `now` has to wait; it counts as made after that.
    pub(super) fn pause(&mut self, now: Instant) -> Duration {
        let due = self.last.map_or(now, |last| (last + self.gap).max(now));
        self.last = Some(due);
        due - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_kept_apart_and_the_first_one_does_not_wait() {
        let second = Duration::from_secs(1);
        let mut pacer = Pacer::new(second);
        let start = Instant::now();
        let ms = Duration::from_millis;
        for (at, wait) in [(0, 0), (0, 1000), (1500, 500), (2000, 1000), (9000, 0), (9999, 1)] {
            assert_eq!(pacer.pause(start + ms(at)), ms(wait), "at {at}");
        }
    }
}
