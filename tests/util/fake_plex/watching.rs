//! Who has seen what, and what plays now.
//!
//! Owns the state that Plex keeps per user: plays, offsets, on deck, and the server's sessions and
//! history. Keeps Plex's rule that a show is on deck at most once, and that a finished episode gives
//! its place to the next one that this user has not seen.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Kind, Library, RatingKey, SectionId};

const WEEK: i64 = 7 * 24 * 3600;

#[derive(Debug)]
pub(super) struct User {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) token: String,
    /// The sections that are shared with the user; `None` for all.
    pub(super) sections: Option<BTreeSet<SectionId>>,
    seen: BTreeMap<u64, Seen>,
    /// What is on deck, with the time at which it got there.
    deck: Vec<(u64, i64)>,
}

/// What a user did with a movie or an episode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) count: i64,
    /// Epoch seconds.
    pub(super) last_viewed_at: Option<i64>,
    /// Milliseconds; 0 when not in the middle of it.
    pub(super) offset: i64,
}

impl User {
    pub(super) fn new(id: i64, name: &str, token: &str) -> Self {
        let (name, token) = (name.to_owned(), token.to_owned());
        Self { id, name, token, sections: None, seen: BTreeMap::new(), deck: Vec::new() }
    }
}

/// Something other than an item of the library that plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    LiveTv,
    Trailer,
}

/// A stream that plays. Fields that are public may be changed at will.
#[derive(Debug, Clone)]
pub struct Session {
    pub(super) key: u64,
    pub(super) user: usize,
    pub(super) what: Result<u64, Extra>,
    /// Which version plays, from 0.
    pub version: usize,
    pub transcoding: bool,
    /// `playing`, `paused` or `buffering`.
    pub state: String,
    /// Milliseconds.
    pub view_offset: i64,
}

/// A line of the history. It outlives its item, so it has its own copy of the names.
#[derive(Debug, Clone)]
pub(super) struct Play {
    pub(super) id: u64,
    pub(super) account: i64,
    pub(super) viewed_at: i64,
    /// `None` once the item is gone.
    pub(super) item: Option<u64>,
    pub(super) section: SectionId,
    pub(super) kind: Kind,
    pub(super) title: String,
    /// Title of the show, number of the season, number of the episode.
    pub(super) show: Option<String>,
    pub(super) season: Option<i64>,
    pub(super) index: Option<i64>,
}

impl Library {
    pub(super) fn user_index(&self, name: &str) -> usize {
        let index = self.users.iter().position(|user| user.name == name);
        index.unwrap_or_else(|| panic!("there is no user {name}"))
    }

    pub(super) fn user_of_token(&self, token: &str) -> Option<usize> {
        self.users.iter().position(|user| user.token == token)
    }

    pub(super) fn user_name(&self, user: usize) -> &str {
        &self.users[user].name
    }

    pub(super) fn is_owner(user: usize) -> bool {
        user == 0
    }

    /// Whether the section is shared with the user.
    pub(super) fn sees(&self, user: usize, section: SectionId) -> bool {
        self.users[user].sections.as_ref().is_none_or(|shared| shared.contains(&section))
    }

    pub(super) fn seen(&self, user: usize, item: u64) -> Seen {
        self.users[user].seen.get(&item).copied().unwrap_or_default()
    }

    /// Sets what Plex knows of a user and a movie or episode; neither on deck nor history change.
    pub fn set_seen(&mut self, user: &str, rating_key: &str, count: i64, last_viewed_at: Option<i64>, offset: i64) {
        let (user, item) = (self.user_index(user), self.key_of(rating_key));
        self.users[user].seen.insert(item, Seen { count, last_viewed_at, offset });
    }

    /// Puts a movie or an episode on the user's deck, in place of another episode of the same show.
    /// `last_viewed_at` in epoch seconds is `None` for an episode that was never started, `view_offset`
    /// in milliseconds 0 when it is not in the middle. As in Plex, [`Library::on_deck_weeks`] and
    /// [`Library::on_deck_limit`] bound what is shown: what was viewed longer ago is not on deck.
    pub fn set_on_deck(&mut self, user: &str, rating_key: &str, last_viewed_at: Option<i64>, view_offset: i64) {
        let (user, item) = (self.user_index(user), self.key_of(rating_key));
        let count = self.seen(user, item).count;
        self.users[user].seen.insert(item, Seen { count, last_viewed_at, offset: view_offset });
        let since = last_viewed_at.unwrap_or(self.now);
        self.put_on_deck(user, item, since);
    }

    /// Takes everything off the user's deck.
    pub fn clear_on_deck(&mut self, user: &str) {
        let user = self.user_index(user);
        self.users[user].deck.clear();
    }

    /// Takes one item off the user's deck.
    pub fn remove_from_deck(&mut self, user: &str, rating_key: &str) {
        let (user, item) = (self.user_index(user), self.key_of(rating_key));
        self.users[user].deck.retain(|(key, _)| *key != item);
    }

    fn put_on_deck(&mut self, user: usize, item: u64, since: i64) {
        self.clear_deck_of(user, item);
        self.users[user].deck.push((item, since));
    }

    /// Takes the item, and with it its whole show, off the deck.
    fn clear_deck_of(&mut self, user: usize, item: u64) {
        let top = |item: u64| self.lineage(item).last().map(|top| top.key);
        let gone = top(item);
        let deck = self.users[user].deck.iter().copied().filter(|(key, _)| top(*key) != gone).collect();
        self.users[user].deck = deck;
    }

    /// The keys on the user's deck, the latest first, within Plex's window and limit.
    pub(super) fn on_deck(&self, user: usize, shown: impl Fn(SectionId) -> bool) -> Vec<u64> {
        let mut deck: Vec<(u64, i64)> = self.users[user]
            .deck
            .iter()
            .copied()
            .filter(|(key, since)| *since >= self.now - self.on_deck_weeks * WEEK && shown(self.items[key].section))
            .collect();
        deck.sort_by_key(|(_, since)| std::cmp::Reverse(*since));
        deck.truncate(self.on_deck_limit);
        deck.into_iter().map(|(key, _)| key).collect()
    }

    /// The user has watched it to the end at `at`, epoch seconds: one more view, a line of history, and
    /// the next episode that the user has not seen goes on deck.
    pub fn mark_watched(&mut self, user: &str, rating_key: &str, at: i64) {
        self.add_history(user, rating_key, at);
        let (user, key) = (self.user_index(user), self.key_of(rating_key));
        let count = self.seen(user, key).count + 1;
        self.users[user].seen.insert(key, Seen { count, last_viewed_at: Some(at), offset: 0 });
        let next = self.next_unseen(user, key);
        self.clear_deck_of(user, key);
        if let Some(next) = next {
            self.put_on_deck(user, next, at);
        }
    }

    /// Adds a line to the history and changes nothing else.
    pub fn add_history(&mut self, user: &str, rating_key: &str, at: i64) {
        let (user, key) = (self.user_index(user), self.key_of(rating_key));
        let item = &self.items[&key];
        let play = Play {
            id: 1 + self.history.last().map_or(0, |play| play.id),
            account: self.users[user].id,
            viewed_at: at,
            item: Some(key),
            section: item.section,
            kind: item.kind,
            title: item.title.clone(),
            show: self.ancestor(key, Kind::Show).map(|show| show.title.clone()),
            season: self.ancestor(key, Kind::Season).and_then(|season| season.index),
            index: item.index,
        };
        self.history.push(play);
    }

    /// The user has not watched it after all. Plex keeps the date.
    pub fn mark_unwatched(&mut self, user: &str, rating_key: &str) {
        let (user, item) = (self.user_index(user), self.key_of(rating_key));
        if let Some(seen) = self.users[user].seen.get_mut(&item) {
            seen.count = 0;
            seen.offset = 0;
        }
    }

    /// The first episode after this one, across season ends, that the user has not seen.
    fn next_unseen(&self, user: usize, episode: u64) -> Option<u64> {
        let show = self.ancestor(episode, Kind::Show)?;
        let leaves = self.leaves(show.key);
        let mut after = leaves.into_iter().skip_while(|leaf| leaf.key != episode).skip(1);
        after.find(|leaf| self.seen(user, leaf.key).count == 0).map(|leaf| leaf.key)
    }

    /// The user starts to play; returns the key of the session.
    pub fn start_session(&mut self, user: &str, rating_key: &str, transcoding: bool) -> String {
        let item = self.key_of(rating_key);
        self.add_session(user, Ok(item), transcoding)
    }

    /// The user starts to play something that is no item of the library.
    pub fn start_extra_session(&mut self, user: &str, extra: Extra) -> String {
        self.add_session(user, Err(extra), false)
    }

    fn add_session(&mut self, user: &str, what: Result<u64, Extra>, transcoding: bool) -> String {
        let user = self.user_index(user);
        let key = 1 + self.sessions.last().map_or(0, |session| session.key);
        let state = "playing".to_owned();
        self.sessions.push(Session { key, user, what, version: 0, transcoding, state, view_offset: 0 });
        key.to_string()
    }

    /// A running session, to be changed.
    pub fn session_mut(&mut self, session: &str) -> &mut Session {
        let found = self.sessions.iter_mut().find(|known| known.key.to_string() == session);
        found.unwrap_or_else(|| panic!("there is no session {session}"))
    }

    /// The session ends. Watch state does not change.
    pub fn stop_session(&mut self, session: &str) {
        let key = self.session_mut(session).key;
        self.sessions.retain(|session| session.key != key);
    }

    /// Drops every trace of an item that is gone, but for the names in the history.
    pub(super) fn forget(&mut self, item: u64) {
        for user in &mut self.users {
            user.seen.remove(&item);
            user.deck.retain(|(key, _)| *key != item);
        }
        for group in &mut self.groups {
            group.items.retain(|key| *key != item);
        }
        self.sessions.retain(|session| session.what != Ok(item));
        for play in &mut self.history {
            play.item = play.item.filter(|key| *key != item);
        }
    }

    /// The rating key of the episode by its numbers.
    pub fn episode(&self, show: &str, season: i64, index: i64) -> RatingKey {
        let show = self.key_of(show);
        let found = self.leaves(show).into_iter().find(|leaf| {
            leaf.index == Some(index) && self.ancestor(leaf.key, Kind::Season).and_then(|s| s.index) == Some(season)
        });
        found.unwrap_or_else(|| panic!("the show {show} has no episode {season}x{index}")).key.to_string()
    }
}
