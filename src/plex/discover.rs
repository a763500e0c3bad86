//! discover.provider.plex.tv: a user's own watchlist, and the external ids of what is on it.
//!
//! Owns the paging of a watchlist, whose pages hold at most 100 rows, and the judgement whether all of
//! it came. An entry without a kind or an id, of which no use can be made, is a problem and not passed
//! over in silence.

use std::collections::BTreeSet;

use super::address::encode;
use super::client::{Client, Get};
use super::json::{Container, Row};
use super::outside::{Listed, ListedKind, ServiceOptions, ids_of, undecodable};
use super::tree::Tree;
use super::{PlexError, Read};
use crate::secret::Secret;

const WATCHLIST: &str = "/library/sections/watchlist/all";
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
        pages(|came| {
            let mut call = Get::new(WATCHLIST, Some(who));
            "sort=watchlistedAt:desc&includeGuids=1&includeCollections=1&includeExternalMedia=1"
                .clone_into(&mut call.query);
            call.page = Some((came, PAGE));
            self.container(&call)
        })
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

/// A whole watchlist, from what `ask` gives from this row on.
pub(super) fn pages(mut ask: impl FnMut(u64) -> Result<Container, PlexError>) -> Read<Vec<Listed>> {
    let (mut listed, mut problems) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    // The rows that came, and those of them that had come before.
    let (mut came, mut repeated) = (0, 0);
    let mut total = None;
    for page in 0.. {
        let container = match ask(came) {
            Ok(container) => container,
            Err(error) if page == 0 => return Read::Failed(error),
            Err(error) => {
                problems.push(format!("{WATCHLIST} from row {came} on: {error}"));
                break;
            }
        };
        let rows = container.rows();
        let (here, said) = (rows.len() as u64, container.size());
        let before = std::mem::replace(&mut total, container.total());
        // An answer that does not speak of rows is not an empty list.
        if page == 0 && here == 0 && total.or(said) != Some(0) {
            let what = "neither holds rows nor says that there are none".to_owned();
            return Read::Failed(PlexError::Lacks { endpoint: WATCHLIST.to_owned(), what });
        }
        if page > 0 && total != before {
            problems.push(format!("{WATCHLIST} changed while it was read"));
        }
        if let Some(said) = said.filter(|said| *said > here) {
            problems.push(format!("{WATCHLIST}: the answer says {said} rows and holds {here}"));
        }
        let before = repeated;
        for row in &rows {
            let key = key_of(row);
            let is_known_by_its_key = key.is_some();
            if !seen.insert(key.unwrap_or_else(|| format!("{row:?}"))) {
                repeated += 1;
                if !is_known_by_its_key {
                    problems.push(format!("{WATCHLIST}: rows that nothing tells apart"));
                }
                continue;
            }
            match entry(row) {
                Ok(entry) => listed.extend(entry),
                Err(problem) => problems.push(format!("{WATCHLIST}: {problem}")),
            }
        }
        came += here;
        let is_last = here == repeated - before || total.map_or(here < PAGE, |total| came >= total);
        if is_last {
            break;
        }
        if page + 1 == MAX_PAGES {
            problems.push(format!("{WATCHLIST} does not end"));
            break;
        }
    }
    if let Some(total) = total.filter(|total| came - repeated < *total) {
        problems.push(format!("{WATCHLIST}: {} of {total} rows came", came - repeated));
    }
    Read::from_parts(listed, problems)
}

/// What tells one row from another; `None` when Plex did not say.
fn key_of(row: &Tree) -> Option<String> {
    Row::new(row).ok().and_then(|row| row.id("ratingKey").or_else(|| row.text("guid")))
}

/// `Ok(None)` for a kind that no library of films or shows has.
fn entry(row: &Tree) -> Result<Option<Listed>, String> {
    let row = Row::new(row)?;
    let kind = row.text("type").ok_or_else(|| format!("{} has no type", row.name()))?;
    let Some(kind) = ListedKind::read(&kind) else { return Ok(None) };
    let made_up = || row.id("ratingKey").map(|id| format!("plex://{}/{id}", kind.word()));
    let guid = row.id("guid").or_else(made_up);
    let ids = ids_of(row);
    if guid.is_none() && ids.is_empty() {
        return Err(format!("{} has no id", row.name()));
    }
    Ok(Some(Listed { kind, guid, ids }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn row(id: usize) -> Value {
        json!({"ratingKey": format!("{id:04}"), "type": "movie"})
    }

    fn answer(total: Option<usize>, rows: &[Value]) -> Value {
        let mut container = json!({"size": rows.len(), "Metadata": rows});
        if let Some(total) = total {
            container["totalSize"] = total.into();
        }
        json!({ "MediaContainer": container })
    }

    /// A watchlist answered in this way, from the row and the number of the call: how many entries came,
    /// the problems, and the calls.
    fn read(answer: impl Fn(usize, usize) -> Option<Value>) -> (Option<usize>, String, usize) {
        let mut calls = 0;
        let gone = || PlexError::NotFound { endpoint: WATCHLIST.to_owned() };
        let read = pages(|from| {
            calls += 1;
            let body = answer(usize::try_from(from).unwrap(), calls - 1).ok_or_else(gone)?.to_string();
            Ok(Container::decode(body.as_bytes()).unwrap())
        });
        match read {
            Read::Complete(listed) => (Some(listed.len()), String::new(), calls),
            Read::Incomplete { value, problems } => (Some(value.len()), problems.join("; "), calls),
            Read::Failed(error) => (None, error.to_string(), calls),
        }
    }

    fn faithful(count: usize, from: usize) -> Value {
        let rows: Vec<Value> = (from..count).take(100).map(row).collect();
        answer(Some(count), &rows)
    }

    #[test]
    fn all_pages_make_the_list() {
        for (count, calls) in [(0, 1), (1, 1), (100, 1), (101, 2), (250, 3)] {
            assert_eq!(read(|from, _| Some(faithful(count, from))), (Some(count), String::new(), calls));
            // Without a total a page that is not full is the last.
            let without_total = |from: usize| {
                let rows: Vec<Value> = (from..count).take(100).map(row).collect();
                answer(None, &rows)
            };
            let calls = count / 100 + 1;
            assert_eq!(read(|from, _| Some(without_total(from))), (Some(count), String::new(), calls), "{count}");
        }
    }

    #[test]
    fn rows_that_nothing_tells_apart_make_no_whole_list() {
        let keyless = |_: usize| json!({"type": "artist"});
        let read = read(|from, _| {
            let rows: Vec<Value> = if from < 200 { (0..100).map(keyless).collect() } else { vec![row(1)] };
            Some(answer(None, &rows))
        });
        assert_eq!(read.0, Some(0));
        assert!(read.1.contains("nothing tells apart"), "{}", read.1);
    }

    #[test]
    fn an_answer_without_rows_is_an_empty_list_only_when_it_says_so() {
        for (container, is_empty) in [
            (json!({"size": 0}), true),
            (json!({"totalSize": 0}), true),
            (json!({"size": 0, "totalSize": 0, "Metadata": []}), true),
            (json!({}), false),
            (json!({"Metadata": []}), false),
            (json!({"size": 3}), false),
            (json!({"size": 0, "totalSize": 3}), false),
            (json!({"size": "x"}), false),
            (json!({"size": -1}), false),
        ] {
            let (came, problems, _) = read(|_, _| Some(json!({ "MediaContainer": container })));
            assert_eq!(came, is_empty.then_some(0), "{container}: {problems}");
        }
    }

    type Answer<'a> = &'a dyn Fn(usize, usize) -> Option<Value>;

    #[test]
    fn a_list_that_lost_something_on_the_way_says_so() {
        let lost = |from, call| match call {
            0 => Some(faithful(150, from)),
            _ => None,
        };
        let shrank = |from, call| Some(if call == 0 { faithful(150, from) } else { faithful(149, from) });
        let same_page = |_, _| Some(faithful(150, 0));
        let short = |from, call| Some(if call == 0 { faithful(150, from) } else { answer(Some(150), &[]) });
        let said_more = |_, _| {
            let mut answer = answer(Some(1), &[row(1)]);
            answer["MediaContainer"]["size"] = 2.into();
            Some(answer)
        };
        let nameless = |_, _| Some(answer(Some(2), &[row(1), json!({"type": "movie"})]));
        let no_kind = |_, _| Some(answer(Some(1), &[json!({"ratingKey": "a"})]));
        let no_row = |_, _| Some(answer(Some(2), &[row(1), json!(7)]));
        let cases: [(Answer<'_>, usize, &str, usize); 8] = [
            (&lost, 100, "from row 100 on", 2),
            (&shrank, 149, "changed while it was read", 2),
            (&same_page, 100, "100 of 150 rows came", 2),
            (&short, 100, "100 of 150 rows came", 2),
            (&said_more, 1, "says 2 rows and holds 1", 1),
            (&nameless, 1, "a row has no id", 1),
            (&no_kind, 0, "row a has no type", 1),
            (&no_row, 1, "a row is not an object", 1),
        ];
        for (answer, came, problem, calls) in cases {
            let read = read(answer);
            assert_eq!((read.0, read.2), (Some(came), calls), "{problem}");
            assert!(read.1.contains(problem), "{problem}: {}", read.1);
        }
        let endless = |from: usize, _| Some(faithful(usize::MAX >> 20, from));
        let (_, problems, calls) = read(endless);
        assert_eq!(calls, MAX_PAGES);
        assert!(problems.contains("does not end"), "{problems}");
    }

    #[test]
    fn an_entry_is_known_by_its_ids() {
        let show =
            |row: &Value| entry(&row.into()).map(|entry| entry.map(|Listed { guid, ids, .. }| (guid, ids.join(" "))));
        let guid = |text: &str| Some(text.to_owned());
        for (row, expected) in [
            (json!({"type": "movie", "ratingKey": "a"}), Ok(Some((guid("plex://movie/a"), String::new())))),
            (json!({"type": " Show ", "guid": "plex://show/b"}), Ok(Some((guid("plex://show/b"), String::new())))),
            (
                json!({"type": "movie", "guid": "", "Guid": [{"id": "imdb://tt1"}, {"id": null}, {"id": "tmdb://2"}]}),
                Ok(Some((None, "imdb://tt1 tmdb://2".to_owned()))),
            ),
            (
                json!({"type": "movie", "guid": "x".repeat(256), "ratingKey": 7}),
                Ok(Some((guid("plex://movie/7"), String::new()))),
            ),
            (json!({"type": "album", "ratingKey": "a"}), Ok(None)),
            (json!({"type": "movie", "Guid": "imdb://tt1"}), Err("a row has no id".to_owned())),
        ] {
            assert_eq!(show(&row), expected, "{row}");
        }
        let many: Vec<Value> = (0..99).map(|id| json!({"id": format!("imdb://tt{id}")})).collect();
        let listed = entry(&Tree::from(&json!({"type": "movie", "Guid": many}))).unwrap().unwrap();
        assert_eq!(listed.ids.len(), super::super::outside::MAX_IDS);
    }
}
