//! discover.provider.plex.tv: a user's own watchlist, and the external ids of what is on it.
//!
//! Owns the paging of a watchlist, whose pages hold at most 100 rows, and the judgement whether all of
//! it came. An entry without a kind or an id, of which no use can be made, is a problem and not passed
//! over in silence.

use super::address::encode;
use super::client::{Client, Get};
use super::json::{Container, Row};
use super::outside::{Listed, ListedKind, ServiceOptions, ids_of, undecodable};
use super::{PlexError, Read};
use crate::secret::Secret;

/// Rows of a page (the limit since December 2025).
const PAGE: u64 = 100;
/// Pages of one watchlist.
const MAX_PAGES: usize = 100;

/// The services that know watchlists and what is on them.
pub struct Discover {
    client: Client,
    metadata: Client,
}

impl Discover {
    /// Prepares to talk to both; sends nothing.
    ///
    /// # Errors
    /// [`PlexError::Config`]: a URL cannot be used.
    pub fn new(discover: &ServiceOptions, metadata: &ServiceOptions) -> Result<Self, PlexError> {
        Ok(Self { client: discover.client()?, metadata: metadata.client()? })
    }

    /// The watchlist of the user of this account token, the latest entry first.
    pub fn watchlist(&self, who: &Secret) -> Read<Vec<Listed>> {
        let path = "/library/sections/watchlist/all";
        let (mut listed, mut problems) = (Vec::new(), Vec::new());
        let mut came = 0;
        for page in 0.. {
            let mut call = Get::new(path, Some(who));
            "sort=watchlistedAt:desc&includeGuids=1&includeCollections=1&includeExternalMedia=1"
                .clone_into(&mut call.query);
            call.page = Some((came, PAGE));
            let container = match self.container(&call) {
                Ok(container) => container,
                Err(error) if page == 0 => return Read::Failed(error),
                Err(error) => {
                    problems.push(format!("{path} from row {came} on: {error}"));
                    break;
                }
            };
            let rows = container.rows();
            let total = container.total().or_else(|| container.size());
            for row in &rows {
                match entry(row) {
                    Ok(entry) => listed.extend(entry),
                    Err(problem) => problems.push(format!("{path}: {problem}")),
                }
            }
            came += rows.len() as u64;
            let missing = total.is_some_and(|total| came < total);
            if rows.is_empty() && missing {
                problems.push(format!("{path}: {came} of {} rows came", total.unwrap_or_default()));
            }
            if rows.is_empty() || !missing {
                break;
            }
            if page + 1 == MAX_PAGES {
                problems.push(format!("{path} does not end"));
                break;
            }
        }
        Read::from_parts(listed, problems)
    }

    /// The external ids of the entry with this guid; none when Plex has forgotten it.
    ///
    /// # Errors
    /// How the call failed.
    pub fn ids(&self, who: &Secret, guid: &str) -> Result<Vec<String>, PlexError> {
        let Some((_, id)) = guid.rsplit_once('/') else { return Ok(Vec::new()) };
        let call = Get::new(format!("/library/metadata/{}", encode(id)), Some(who));
        let container = match self.metadata.get(&call) {
            Ok(answer) => answer.container,
            Err(PlexError::NotFound { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        Ok(container.rows().into_iter().filter_map(|row| Row::new(row).ok()).flat_map(ids_of).collect())
    }

    fn container(&self, call: &Get<'_>) -> Result<Container, PlexError> {
        let body = self.client.fetch(call)?;
        Container::decode(&body).map_err(|why| undecodable(&self.client, call, why))
    }
}

/// `Ok(None)` for a kind that no library of films or shows has.
fn entry(row: &serde_json::Value) -> Result<Option<Listed>, String> {
    let row = Row::new(row)?;
    let kind = row.text("type").ok_or_else(|| format!("{} has no type", row.name()))?;
    let Some(kind) = ListedKind::read(&kind) else { return Ok(None) };
    let made_up = || row.id("ratingKey").map(|id| format!("plex://{}/{id}", kind.word()));
    let guid = row.text("guid").filter(|guid| !guid.is_empty()).or_else(made_up);
    let ids = ids_of(row);
    if guid.is_none() && ids.is_empty() {
        return Err(format!("{} has no id", row.name()));
    }
    Ok(Some(Listed { kind, guid, ids }))
}
