//! The query language of `/library/…/all`: fields, operators, order.
//!
//! Owns which fields exist, how `show.` and its like climb to a parent, and how a value is compared. A
//! field that it does not know filters nothing, as with Plex. Values that are absent match nothing, but
//! for a `viewCount`, which is then 0.

use std::cmp::{Ordering, Reverse};

use super::http::Request;
use super::model::{Item, Kind, Library};

/// The value of a field.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Unknown,
    Absent,
    Number(i64),
    Text(String),
}

impl From<Option<i64>> for Field {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Absent, Self::Number)
    }
}

/// The items of `candidates` that the arguments of the request let through, in the order they ask for.
pub(super) fn select(library: &Library, user: usize, request: &Request, candidates: Vec<&Item>) -> Vec<u64> {
    let query = Query { library, user };
    let mut items: Vec<&Item> = candidates
        .into_iter()
        .filter(|item| request.query.iter().all(|(name, value)| query.accepts(item, name, value)))
        .collect();
    let sort = request.arg("sort").unwrap_or("show.titleSort,season.index,episode.index,titleSort");
    let order: Vec<(&str, bool)> = sort
        .split(',')
        .map(|field| field.split_once(':').map_or((field, false), |(name, way)| (name, way == "desc")))
        .collect();
    items.sort_by_cached_key(|item| {
        let key = order.iter().map(|&(name, down)| {
            let field = query.field(item, name);
            // One of the two is the same for all items.
            if down { (Field::Unknown, Reverse(field)) } else { (field, Reverse(Field::Unknown)) }
        });
        key.collect::<Vec<_>>()
    });
    items.into_iter().map(|item| item.key).collect()
}

struct Query<'a> {
    library: &'a Library,
    user: usize,
}

impl Query<'_> {
    fn accepts(&self, item: &Item, name: &str, value: &str) -> bool {
        let set = value == "1";
        match name {
            "unwatched" => return (self.count(item) == 0) == set,
            "unwatchedLeaves" => return (self.unseen_leaves(item) > 0) == set,
            "inProgress" => return (self.library.seen(self.user, item.key).offset > 0) == set,
            "duplicate" => return (item.media.len() > 1) == set,
            _ => {}
        }
        // What stands before the first `=` may end in a part of the operator.
        let bare = name.trim_end_matches(['>', '<', '!']);
        let operator = &name[bare.len()..];
        let field = self.field(item, bare);
        if field == Field::Unknown {
            return true;
        }
        let value = value.strip_prefix('=').unwrap_or(value);
        let hit = |wanted: &str| match &field {
            Field::Number(number) => {
                let Some(wanted) = self.number(wanted) else { return false };
                let order = number.cmp(&wanted);
                matches!(
                    (operator, order),
                    (">>" | ">", Ordering::Greater)
                        | ("<<" | "<", Ordering::Less)
                        | (">" | "<" | "" | "!", Ordering::Equal)
                )
            }
            Field::Text(text) if bare.ends_with("title") => text.to_lowercase().contains(&wanted.to_lowercase()),
            Field::Text(text) => text == wanted,
            Field::Absent | Field::Unknown => false,
        };
        value.split(',').any(hit) != (operator == "!")
    }

    /// A number, or a time relative to the server's clock: `-30d`.
    fn number(&self, text: &str) -> Option<i64> {
        if let Ok(number) = text.parse() {
            return Some(number);
        }
        let unit = text.trim_start_matches(|letter: char| letter == '-' || letter == '+' || letter.is_ascii_digit());
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            "mon" => 2_592_000,
            "y" => 31_536_000,
            _ => return None,
        };
        let count: i64 = text[..text.len() - unit.len()].parse().ok()?;
        Some(self.library.now.saturating_add(count.saturating_mul(seconds)))
    }

    fn field(&self, item: &Item, name: &str) -> Field {
        let (kind, name) = match name.split_once('.') {
            Some(("movie", name)) => (Some(Kind::Movie), name),
            Some(("show", name)) => (Some(Kind::Show), name),
            Some(("season", name)) => (Some(Kind::Season), name),
            Some(("episode", name)) => (Some(Kind::Episode), name),
            Some(_) => return Field::Unknown,
            None => (None, name),
        };
        let target = match kind {
            Some(kind) => self.library.ancestor(item.key, kind),
            None => Some(item),
        };
        let Some(item) = target else { return Field::Absent };
        match name {
            "id" => Field::Text(item.key.to_string()),
            "guid" => Field::Text(item.guid.clone()),
            "title" => Field::Text(item.title.clone()),
            "titleSort" => Field::Text(sort_title(&item.title)),
            "originallyAvailableAt" => item.released.clone().map_or(Field::Absent, Field::Text),
            "index" => item.index.into(),
            "year" => item.year.into(),
            "addedAt" => Field::Number(item.added_at),
            "updatedAt" => Field::Number(item.updated_at),
            "duration" => Field::Number(item.duration),
            "viewCount" => Field::Number(self.count(item)),
            "lastViewedAt" => last_viewed_at(self.library, self.user, item).into(),
            "viewOffset" => match self.library.seen(self.user, item.key).offset {
                0 => Field::Absent,
                offset => Field::Number(offset),
            },
            _ => Field::Unknown,
        }
    }

    /// Views of a movie or an episode; for the rest, how many episodes have been seen.
    fn count(&self, item: &Item) -> i64 {
        if item.kind.is_leaf() {
            return self.library.seen(self.user, item.key).count;
        }
        let leaves = self.library.leaves(item.key).len() - self.unseen_leaves(item);
        i64::try_from(leaves).unwrap_or(i64::MAX)
    }

    fn unseen_leaves(&self, item: &Item) -> usize {
        let leaves = self.library.leaves(item.key);
        leaves.iter().filter(|leaf| self.library.seen(self.user, leaf.key).count == 0).count()
    }
}

/// When the user last viewed the item or anything below it.
pub(super) fn last_viewed_at(library: &Library, user: usize, item: &Item) -> Option<i64> {
    library.leaves(item.key).iter().filter_map(|leaf| library.seen(user, leaf.key).last_viewed_at).max()
}

/// The title without its article, by which Plex sorts.
pub(super) fn sort_title(title: &str) -> String {
    let articles = ["The ", "A ", "An "];
    let bare = articles.iter().find_map(|article| title.strip_prefix(article)).unwrap_or(title);
    bare.to_lowercase()
}
