//! Listings: paging, and the judgement whether a listing is whole.
//!
//! It is whole when as many rows came as the server says there are, each of them could be read, and
//! the list did not change meanwhile. Everything else is incomplete; an answer that says it has rows
//! and holds none has failed. Refuses to loop: pages that bring nothing new end a listing.

use std::collections::{HashMap, HashSet};

use super::client::{Client, Get};
use super::json::Container;
use super::tree::Tree;
use super::wire;
use super::{Item, PlexError, Read};
use crate::secret::Secret;

/// Pages of one listing; with full pages far more rows than any library has.
const MAX_PAGES: usize = 400;

/// So many rows are made room for at once when a server says that there are as many or more.
const MAX_RESERVED: u64 = 100_000;

/// One listing that is asked for.
pub(super) struct Ask<'a> {
    pub(super) path: String,
    pub(super) query: String,
    pub(super) who: &'a Secret,
    /// Where the rows are that do not say it themselves.
    pub(super) library: Option<&'a str>,
    /// Rows asked for at once.
    pub(super) page_size: u64,
}

impl Ask<'_> {
    /// All items of the listing, each once. `enough` sees what has come after each page but the
    /// last, and may stop.
    ///
    /// # Errors
    /// The first page did not come.
    pub(super) fn all(&self, client: &Client, mut enough: impl FnMut(&[Item]) -> bool) -> Result<Listing, PlexError> {
        let mut listing = Listing::default();
        let mut page_of = HashMap::new();
        // The rows that came, and those of them that an earlier page had brought already.
        let (mut came, mut repeated) = (0, 0);
        let mut total = None;
        for page in 0.. {
            let answer = match client.get(&self.page(came)) {
                Ok(answer) => answer,
                Err(error) if page == 0 => return Err(error),
                Err(error) => {
                    listing.problems.push(format!("{} from row {came} on: {error}", self.path));
                    return Ok(listing);
                }
            };
            if page == 0 {
                lacks_nothing(&self.path, &answer.container, answer.total)?;
                let said = answer.total.unwrap_or(0).min(MAX_RESERVED);
                listing.items.reserve_exact(usize::try_from(said).unwrap_or(0));
            } else if answer.total != total {
                listing.problems.push(format!("{} changed while it was read", self.path));
            }
            total = answer.total;
            let library = answer.container.library_id().or_else(|| self.library.map(str::to_owned));
            let rows = answer.container.rows();
            listing.problems.extend(lost_rows(&self.path, &answer.container));
            let (here, mut again) = (rows.len() as u64, 0);
            for item in listing.read(&self.path, &rows, library.as_deref()) {
                if let Some(&seen) = page_of.get(&item.rating_key) {
                    again += u64::from(seen < page);
                } else {
                    page_of.insert(item.rating_key.clone(), page);
                    listing.items.push(item);
                }
            }
            came += here;
            repeated += again;
            let last = here == again || total.map_or(here < self.page_size, |total| came >= total);
            if last || enough(&listing.items) {
                break;
            }
            if page + 1 == MAX_PAGES {
                listing.problems.push(format!("{} does not end", self.path));
                break;
            }
        }
        if let Some(total) = total.filter(|total| came - repeated < *total) {
            listing.problems.push(format!("{}: {} of {total} rows came", self.path, came - repeated));
        }
        Ok(listing)
    }

    fn page(&self, start: u64) -> Get<'_> {
        let mut call = Get::new(self.path.clone(), Some(self.who));
        call.query.clone_from(&self.query);
        call.page = Some((start, self.page_size));
        call
    }
}

/// What came of one listing, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) items: Vec<Item>,
    pub(super) problems: Vec<String>,
}

impl Listing {
    /// The items of an answer that is not paged.
    ///
    /// # Errors
    /// It says it has rows and holds none.
    pub(super) fn of(path: &str, container: &Container) -> Result<Self, PlexError> {
        lacks_nothing(path, container, None)?;
        let mut listing = Self { items: Vec::new(), problems: lost_rows(path, container).into_iter().collect() };
        listing.items = listing.read(path, &container.rows(), container.library_id().as_deref());
        Ok(listing)
    }

    /// Reads rows, keeping what is wrong with them.
    fn read(&mut self, path: &str, rows: &[&Tree], library: Option<&str>) -> Vec<Item> {
        let mut items = Vec::new();
        for row in rows {
            match wire::item(row, library) {
                Ok(item) => items.extend(item),
                Err(problem) => self.problems.push(format!("{path}: {problem}")),
            }
        }
        items
    }
}

/// What came of several listings that make one answer.
#[derive(Default)]
pub(super) struct Gathered {
    listing: Listing,
    /// Whether any of them came.
    any: bool,
    /// The first that did not.
    failure: Option<PlexError>,
}

impl Gathered {
    pub(super) fn add(&mut self, listing: Listing) {
        self.any = true;
        self.listing.items.extend(listing.items);
        self.listing.problems.extend(listing.problems);
    }

    /// One of them did not come.
    pub(super) fn miss(&mut self, error: PlexError) {
        self.listing.problems.push(error.to_string());
        self.failure.get_or_insert(error);
    }

    /// Ends early, because what comes next would fail too.
    pub(super) fn cut_short(mut self, error: PlexError) -> Read<Vec<Item>> {
        self.miss(error);
        self.finish()
    }

    pub(super) fn finish(self) -> Read<Vec<Item>> {
        let Listing { mut items, problems } = self.listing;
        match self.failure {
            Some(error) if !self.any => Read::Failed(error),
            _ => {
                let mut seen = HashSet::new();
                items.retain(|item| seen.insert(item.rating_key.clone()));
                Read::from_parts(items, problems)
            }
        }
    }
}

/// Asks for a listing that is never paged and whose rows are not items.
pub(super) fn rows<T>(
    client: &Client,
    path: &str,
    who: &Secret,
    read: impl Fn(&Tree) -> Result<T, String>,
) -> Read<Vec<T>> {
    let answer = client.get(&Get::new(path, Some(who))).and_then(|answer| {
        lacks_nothing(path, &answer.container, None)?;
        Ok(answer.container)
    });
    let container = match answer {
        Ok(container) => container,
        Err(error) => return Read::Failed(error),
    };
    let rows = container.rows();
    let mut problems: Vec<String> = lost_rows(path, &container).into_iter().collect();
    let mut values = Vec::new();
    for row in rows {
        match read(row) {
            Ok(value) => values.push(value),
            Err(problem) => problems.push(format!("{path}: {problem}")),
        }
    }
    Read::from_parts(values, problems)
}

/// The problem of an answer that holds fewer rows than it says.
fn lost_rows(path: &str, container: &Container) -> Option<String> {
    let came = container.rows().len();
    let said = container.size().filter(|said| *said > came as u64)?;
    Some(format!("{path}: the answer says {said} rows and holds {came}"))
}

/// Refuses an answer without rows that says it has some: that is not an empty listing.
fn lacks_nothing(path: &str, container: &Container, total: Option<u64>) -> Result<(), PlexError> {
    let said = total.or_else(|| container.size()).unwrap_or(0);
    if said == 0 || !container.rows().is_empty() {
        return Ok(());
    }
    Err(PlexError::Lacks { endpoint: path.to_owned(), what: format!("says {said} rows and holds none") })
}

#[cfg(test)]
mod tests {
    use super::super::stub::{Request, Stub, container, reply, token};
    use super::*;

    fn row(key: usize) -> String {
        format!(r#"{{"ratingKey":"{key}","type":"movie","Media":[]}}"#)
    }

    fn page(total: Option<usize>, rows: &[String]) -> Vec<u8> {
        let total = total.map_or_else(String::new, |total| format!(r#""totalSize":{total},"#));
        container(&format!(r#"{total}"size":{},"Metadata":[{}]"#, rows.len(), rows.join(",")))
    }

    /// Reads a listing, two rows a page: the keys that came, the problems, the requests.
    fn read(
        answer: impl Fn(&Request, usize) -> Vec<u8> + Send + Sync + 'static,
    ) -> (Result<String, PlexError>, String, usize) {
        let stub = Stub::new(answer);
        let token = token();
        let ask = Ask { path: "/all".to_owned(), query: String::new(), who: &token, library: None, page_size: 2 };
        let (outcome, problems) = match ask.all(&stub.client(), |_| false) {
            Ok(listing) => {
                let keys: Vec<&str> = listing.items.iter().map(|item| item.rating_key.as_str()).collect();
                (Ok(keys.join(" ")), listing.problems.join("; "))
            }
            Err(error) => (Err(error), String::new()),
        };
        (outcome, problems, stub.requests().len())
    }

    /// The rows of a faithful server that has items 0 to `total` and gives at most `cap` at once.
    fn faithful(total: usize, cap: usize) -> impl Fn(&Request, usize) -> Vec<u8> {
        move |request, _| {
            let rows: Vec<String> = (request.start()..total).take(cap).map(row).collect();
            page(Some(total), &rows)
        }
    }

    #[test]
    fn all_pages_are_read_however_many_rows_the_server_gives() {
        for (total, cap, requests) in [(0, 2, 1), (1, 2, 1), (2, 2, 1), (5, 2, 3), (5, 1, 5), (4, 9, 1)] {
            let keys: Vec<String> = (0..total).map(|key| key.to_string()).collect();
            assert_eq!(read(faithful(total, cap)), (Ok(keys.join(" ")), String::new(), requests), "{total} by {cap}");
        }
    }

    #[test]
    fn a_server_that_does_not_page_is_read_to_its_end() {
        for (rows, requests) in [(1, 1), (2, 2), (5, 2)] {
            let all: Vec<String> = (0..rows).map(row).collect();
            let (keys, problems, took) = read(move |_, _| page(None, &all));
            assert_eq!((keys.unwrap().split(' ').count(), problems.as_str(), took), (rows, "", requests));
        }
    }

    #[test]
    fn rows_that_did_not_come_are_noticed() {
        let gone = |_: &Request, number| page(Some(5), &if number == 0 { vec![row(0), row(1)] } else { vec![] });
        assert_eq!(read(gone), (Ok("0 1".to_owned()), "/all: 2 of 5 rows came".to_owned(), 2));
        let same = |_: &Request, _| page(Some(5), &[row(0), row(1)]);
        assert_eq!(read(same), (Ok("0 1".to_owned()), "/all: 2 of 5 rows came".to_owned(), 2));
        let shifted = |request: &Request, _| {
            page(Some(3), &if request.start() == 0 { vec![row(0), row(1)] } else { vec![row(1)] })
        };
        assert_eq!(read(shifted).1, "/all: 2 of 3 rows came");
        let changed =
            |request: &Request, number| page(Some(4 - number), &[row(request.start()), row(request.start() + 1)]);
        assert_eq!(read(changed).1, "/all changed while it was read");
    }

    #[test]
    fn a_page_that_fails_costs_what_it_held() {
        let later = |request: &Request, _| match request.start() {
            0 => page(Some(4), &[row(0), row(1)]),
            _ => reply(500, "", ""),
        };
        let (keys, problems, requests) = read(later);
        assert_eq!((keys, requests), (Ok("0 1".to_owned()), 4));
        assert_eq!(problems, "/all from row 2 on: Plex answers /all with status 500");
        assert!(matches!(read(|_, _| reply(500, "", "")).0, Err(PlexError::Status { status: 500, .. })));
    }

    #[test]
    fn an_answer_that_should_have_rows_is_not_an_empty_one() {
        for fields in [r#""size":3"#, r#""size":0,"totalSize":3"#, r#""size":"3","Hub":[{}]"#] {
            let error = read(move |_, _| container(fields)).0.unwrap_err();
            assert_eq!(error.to_string(), "the answer to /all says 3 rows and holds none");
        }
        for fields in [r#""size":0"#, r#""size":0,"totalSize":0,"Metadata":null"#, r#""size":-22"#, ""] {
            assert_eq!(read(move |_, _| container(fields)), (Ok(String::new()), String::new(), 1), "{fields}");
        }
    }

    #[test]
    fn an_answer_with_fewer_rows_than_it_says_is_not_whole() {
        let lossy = |_: &Request, _| container(&format!(r#""size":3,"Metadata":[{}]"#, row(0)));
        let problems = "/all: the answer says 3 rows and holds 1";
        assert_eq!(read(lossy), (Ok("0".to_owned()), problems.to_owned(), 1));
    }

    #[test]
    fn a_bad_row_costs_itself_and_other_kinds_cost_nothing() {
        let mixed = |_: &Request, _| {
            container(
                r#""totalSize":6,"size":6,"librarySectionID":4,
                "Directory":[{"key":"/library/metadata/2/allLeaves","title":"All episodes"}],
                "Metadata":[{"ratingKey":1,"type":"movie"},{"ratingKey":2,"type":"track"},{"type":"movie","title":"B"},
                7,{"ratingKey":1,"type":"movie"}]"#,
            )
        };
        let problems = "/all: row \"B\" has no ratingKey; /all: a row is not an object";
        assert_eq!(read(mixed), (Ok("1".to_owned()), problems.to_owned(), 1));
    }

    #[test]
    fn a_listing_without_end_is_left() {
        let endless = |request: &Request, _| page(Some(1_000_000), &[row(request.start())]);
        let (keys, problems, requests) = read(endless);
        assert_eq!((keys.unwrap().split(' ').count(), requests), (MAX_PAGES, MAX_PAGES));
        assert_eq!(problems, "/all does not end; /all: 400 of 1000000 rows came");
    }
}
