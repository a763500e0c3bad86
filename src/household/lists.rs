//! The household's lists at plex.tv: watchlists of its own, of friends, and feeds.
//!
//! Reads all that the configuration asks for, together where nobody minds, and says of each list whether
//! all of it came. What is in a feed is remembered for `select.rss_keep`, because a feed forgets. A list
//! that could not be read is never an empty one.

use std::collections::BTreeSet;
use std::thread;

use jiff::Timestamp;

use super::tokens::{Feeds, Seen};
use super::{Ask, Household, Member, NoToken, TokenState, UserKind};
use crate::plex::{Community, Discover, Feed, FeedEntry, Listed, PlexError, Read, Service};
use crate::secret::Secret;
use crate::select::{List, Lists, Reason, Source};

/// So many entries of a feed are kept. It may be anybody's, and shows others each time it is read.
const MAX_SEEN: usize = 5000;

/// The watchlists of friends, by name.
type ByFriend = Vec<(String, Read<Vec<Listed>>)>;

/// What one question to plex.tv came to.
enum Came {
    Watchlist(usize, Result<Read<Vec<Listed>>, NoToken>),
    Friends(Result<ByFriend, PlexError>),
    Feed(usize, Result<Vec<FeedEntry>, PlexError>),
}

impl Household {
    /// Reads the lists. A dry run keeps nothing of the feeds.
    ///
    /// # Errors
    /// [`PlexError::Config`]: an address cannot be used.
    pub fn lists(&mut self, ask: &Ask<'_>, is_dry_run: bool) -> Result<Lists, PlexError> {
        let select = &ask.config.select;
        let discover = Discover::new(&self.services.of(Service::Discover), &self.services.of(Service::Metadata))?;
        let community = Community::new(&self.services.of(Service::Community))?;
        let rss = self.services.of(Service::Rss);
        let feeds: Vec<Feed> = (1..)
            .zip(&select.rss)
            .map(|(number, address)| Feed::new(address, number, &rss))
            .collect::<Result<_, _>>()?;

        let mut lists = Lists::default();
        let readers: Vec<usize> = (0..self.members.len()).filter(|&at| self.reads_watchlist(ask, at)).collect();
        let came = thread::scope(|scope| {
            let mut threads = Vec::new();
            for &at in &readers {
                let (household, discover) = (&*self, &discover);
                threads.push(scope.spawn(move || Came::Watchlist(at, household.watchlist(discover, at))));
            }
            if select.friends_watchlists {
                threads.push(scope.spawn(|| Came::Friends(friends(&community, ask))));
            }
            for (number, feed) in feeds.iter().enumerate() {
                threads.push(scope.spawn(move || Came::Feed(number, feed.read())));
            }
            threads.into_iter().map(|thread| thread.join().expect("reading a list does not panic")).collect::<Vec<_>>()
        });
        let mut memory = Feeds::load(ask.state);
        let before = memory.clone();
        // Feeds that are no longer configured are forgotten.
        let addresses: BTreeSet<String> = select.rss.iter().map(|address| Feeds::key(address)).collect();
        memory.feeds.retain(|key, _| addresses.contains(key));
        for came in came {
            match came {
                Came::Watchlist(at, read) => lists.lists.push(self.take_watchlist(at, read)),
                Came::Friends(Ok(friends)) => {
                    for (name, read) in friends {
                        lists.lists.push(self.take_friend(name, read));
                    }
                }
                Came::Friends(Err(error)) => {
                    self.outages.add("the watchlists of friends".to_owned(), error);
                    lists.unknown.insert(Source::FriendWatchlist);
                }
                Came::Feed(number, read) => {
                    let seen = memory.feeds.entry(Feeds::key(&select.rss[number])).or_default();
                    self.take_feed(ask, number, read, seen, &mut lists);
                }
            }
        }
        if !is_dry_run
            && memory != before
            && let Err(error) = memory.save(ask.state)
        {
            tracing::warn!("cannot keep what is in the feeds: {error}");
        }
        Ok(lists)
    }

    /// The external ids of an entry, for libraries whose agent knows no other.
    ///
    /// # Errors
    /// How the call failed.
    pub fn external_ids(&self, owner: &Secret, guid: &str) -> Result<Vec<String>, PlexError> {
        Discover::new(&self.services.of(Service::Discover), &self.services.of(Service::Metadata))?.ids(owner, guid)
    }

    /// Whether this member's own watchlist is read. A pasted token opens it only when it is an account's,
    /// so it is asked for by name; that of somebody the server is shared with only their friends can see.
    fn reads_watchlist(&self, ask: &Ask<'_>, at: usize) -> bool {
        let Member { user, tastes, .. } = &self.members[at];
        let told = ask.config.users.overrides.get(&user.name).and_then(|own| own.watchlist);
        match (user.kind, &user.token) {
            (UserKind::Pasted, _) => told == Some(true),
            // Whoever it is without a token, there may have been a list.
            (UserKind::Owner | UserKind::Home, _) | (UserKind::Shared, TokenState::Missing(_)) => tastes.watchlist,
            (UserKind::Shared, _) => false,
        }
    }

    fn watchlist(&self, discover: &Discover, at: usize) -> Result<Read<Vec<Listed>>, NoToken> {
        let member = &self.members[at];
        match (member.user.kind, &member.id) {
            (UserKind::Home, Some(id)) => {
                let token = self.keys.account_token(id, None)?;
                match discover.watchlist(&token) {
                    Read::Failed(PlexError::Unauthorized { .. }) => {
                        Ok(discover.watchlist(&self.keys.account_token(id, Some(&token))?))
                    }
                    read => Ok(read),
                }
            }
            (UserKind::Owner | UserKind::Pasted, _) => Ok(discover.watchlist(&member.token)),
            // Named already.
            (UserKind::Home | UserKind::Shared, _) => Err(NoToken::Outsider),
        }
    }

    fn take_watchlist(&mut self, at: usize, read: Result<Read<Vec<Listed>>, NoToken>) -> List {
        let Member { user, .. } = &self.members[at];
        let (name, kind) = (user.name.clone(), user.kind);
        let is_named = matches!(user.token, TokenState::Missing(_));
        let reason = Reason::of_user(Source::Watchlist, &name);
        let what = format!("the watchlist of {name}");
        let (entries, complete) = match read {
            Ok(Read::Failed(PlexError::Unauthorized { .. })) if kind == UserKind::Pasted => {
                let hint = format!(
                    "paste a token of the account, or remove watchlist = true from [users.override.\"{name}\"]"
                );
                self.outages.tell(format!("{name}: the pasted token opens no watchlist"), hint);
                (Vec::new(), false)
            }
            Ok(read) => self.taken(what, read),
            Err(NoToken::Pin(text, hint)) if !is_named => {
                self.outages.tell(
                    format!("{name}: cannot read the watchlist: {text}; what was wanted before stays wanted"),
                    hint.replace(
                        &format!("add \"{name}\" to users.exclude"),
                        &format!("set watchlist = false in [users.override.\"{name}\"]"),
                    ),
                );
                (Vec::new(), false)
            }
            Err(NoToken::Plex(error)) if !is_named => {
                self.outages.add(what, error);
                (Vec::new(), false)
            }
            Err(_) => (Vec::new(), false),
        };
        List { reason, viewer: Some(name), entries, complete }
    }

    fn take_friend(&mut self, name: String, read: Read<Vec<Listed>>) -> List {
        let (entries, complete) = self.taken(format!("the watchlist of {name}"), read);
        let viewer = self.members.iter().map(|member| &member.user.name).find(|known| **known == name).cloned();
        List { reason: Reason::of_user(Source::FriendWatchlist, name), viewer, entries, complete }
    }

    fn taken(&mut self, what: String, read: Read<Vec<Listed>>) -> (Vec<Listed>, bool) {
        match read {
            Read::Complete(entries) => (entries, true),
            Read::Incomplete { value, problems } => {
                let first = problems.into_iter().next().unwrap_or_default();
                let text = format!("{what} came in part: {first}; what was wanted before stays wanted");
                self.outages.told.push(super::Trouble { text, hint: None });
                (value, false)
            }
            Read::Failed(error) => {
                self.outages.add(what, error);
                (Vec::new(), false)
            }
        }
    }

    /// What a feed showed, and what it showed before and still counts.
    fn take_feed(
        &mut self,
        ask: &Ask<'_>,
        number: usize,
        read: Result<Vec<FeedEntry>, PlexError>,
        seen: &mut Vec<Seen>,
        lists: &mut Lists,
    ) {
        let complete = read.is_ok();
        match read {
            Ok(entries) => *seen = remembered(entries, seen, ask.now, ask.config.select.rss_keep),
            Err(error) => {
                let text = format!("feed {}: {error}; what was wanted before stays wanted", number + 1);
                let hint = "select.rss names it; Plex's feeds fail now and then, and the next run will ask again";
                self.outages.tell(text, hint);
            }
        }
        let reason = Reason::of(Source::Rss);
        let mut add = |viewer: Option<String>, entry: Option<&Seen>| {
            let found = lists.lists.iter().position(|list| list.reason == reason && list.viewer == viewer);
            let at = found.unwrap_or_else(|| {
                lists.lists.push(List { reason: reason.clone(), viewer, entries: Vec::new(), complete: true });
                lists.lists.len() - 1
            });
            let list = &mut lists.lists[at];
            list.complete &= complete;
            list.entries.extend(entry.map(|seen| seen.listed.clone()));
        };
        // An empty feed is an answer too.
        add(None, None);
        for entry in seen.iter() {
            add(self.author(ask, entry.author.as_deref()), Some(entry));
        }
    }

    /// Whose entry of a feed it is: the owner's where the feed does not say.
    fn author(&self, ask: &Ask<'_>, author: Option<&str>) -> Option<String> {
        let Some(author) = author.filter(|author| Some(*author) != self.owner_uuid.as_deref()) else {
            return Some(ask.owner_name.to_owned());
        };
        let is_author =
            |member: &&Member| [&member.uuid, &member.id].into_iter().any(|id| id.as_deref() == Some(author));
        self.members.iter().find(is_author).map(|member| member.user.name.clone())
    }
}

/// The watchlists of the owner's friends, one after the other.
fn friends(community: &Community, ask: &Ask<'_>) -> Result<ByFriend, PlexError> {
    let users = &ask.config.users;
    let is_wanted =
        |name: &str| users.includes(name) && users.overrides.get(name).and_then(|own| own.watchlist) != Some(false);
    let friends = community.friends(ask.owner)?;
    let friends = friends.into_iter().filter(|friend| is_wanted(&friend.name));
    Ok(friends.map(|friend| (friend.name.clone(), community.watchlist(ask.owner, &friend))).collect())
}

/// The entries of a feed, and after them those that it had before and that still count.
fn remembered(now_there: Vec<FeedEntry>, before: &[Seen], now: Timestamp, keep: std::time::Duration) -> Vec<Seen> {
    let lasts = |entry: &&Seen| entry.at.checked_add(keep).is_ok_and(|until| until > now);
    // A clock that went back must not make it last for ever.
    let older = before.iter().filter(lasts).map(|entry| Seen { at: entry.at.min(now), ..entry.clone() });
    let newest = now_there.into_iter().map(|FeedEntry { listed, author }| Seen { listed, author, at: now });
    let mut known = BTreeSet::new();
    newest.chain(older).filter(|entry| known.insert(entry.listed.clone())).take(MAX_SEEN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plex::ListedKind;
    use std::time::Duration;

    fn entry(id: &str) -> FeedEntry {
        FeedEntry { listed: Listed { kind: ListedKind::Movie, guid: None, ids: vec![id.to_owned()] }, author: None }
    }

    #[test]
    fn what_leaves_a_feed_counts_until_it_is_too_old() {
        let at = |day: i64| Timestamp::from_second(day * 86400).unwrap();
        let keep = Duration::from_secs(30 * 86400);
        let ids = |seen: &[Seen]| seen.iter().map(|seen| seen.listed.ids[0].clone()).collect::<Vec<_>>();
        let first = remembered(vec![entry("a"), entry("b"), entry("a")], &[], at(0), keep);
        assert_eq!(ids(&first), ["a", "b"]);
        let second = remembered(vec![entry("c"), entry("b")], &first, at(20), keep);
        assert_eq!(ids(&second), ["c", "b", "a"]);
        let third = remembered(vec![], &second, at(30), keep);
        assert_eq!(ids(&third), ["c", "b"], "a was last seen 30 days ago");
        assert_eq!(ids(&remembered(vec![], &third, at(10), keep)), ["c", "b"]);
        assert_eq!(ids(&remembered(vec![], &remembered(vec![], &third, at(10), keep), at(45), keep)), [""; 0]);
        let many: Vec<FeedEntry> = (0..=MAX_SEEN).map(|number| entry(&number.to_string())).collect();
        assert_eq!(remembered(many, &third, at(31), keep).len(), MAX_SEEN, "it has an end");
    }
}
