//! Asking Plex: which reads a run needs, all of them at once as far as one does not need another.
//!
//! Owns the four rounds (libraries and sessions; on deck; episodes; watch state) and what each
//! failure means for whom: the owner's list of libraries is the one thing without which nothing can
//! be said; anything else leaves the answers of its user incomplete. No read is made twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::thread;

use super::next::{Lookahead, show_of};
use super::{Request, Seen, SelectError, Viewer};
use crate::plex::{Item, Library, LibraryKind, PlexError, RatingKey, Read, Session};
use crate::secret::Secret;
use crate::shared::Text;

/// Reads under way at the same time.
const AT_ONCE: usize = 8;
/// The owner's account in sessions.
const OWNER_ID: &str = "1";

/// One viewer, and what came for them.
pub(super) struct Person<'a> {
    pub(super) viewer: &'a Viewer,
    pub(super) shelves: Vec<Shelf>,
    /// All about on deck came, whole.
    pub(super) on_deck_complete: bool,
    /// All about next episodes came, whole.
    pub(super) next_complete: bool,
    /// Has no token that Plex accepts: nothing of theirs counts in this run.
    pub(super) dropped: bool,
    /// What this person plays now, by rating key.
    pub(super) plays: BTreeSet<RatingKey>,
    /// What was read for this person's lists, with their watch state.
    pub(super) listed: Vec<Item>,
}

/// One library as one viewer sees it.
pub(super) struct Shelf {
    pub(super) library: Library,
    pub(super) on_deck: Vec<Item>,
    /// What this viewer plays now, on deck or not, with the owner's watch state.
    pub(super) playing: Vec<Item>,
    /// All episodes of the shows among these.
    pub(super) episodes: Vec<Item>,
}

/// All that Plex was asked in this run.
pub(super) struct Asked<'a> {
    pub(super) people: Vec<Person<'a>>,
    /// What plays, as far as it came.
    pub(super) sessions: Vec<Session>,
    /// The items of the sessions.
    pub(super) played: Vec<Item>,
    /// Why there may be more sessions.
    pub(super) sessions_trouble: Option<String>,
    /// Why there may be more items.
    pub(super) played_trouble: Option<String>,
    /// The configured ones, as the owner sees them.
    pub(super) libraries: Vec<Library>,
    /// None of them is missing.
    pub(super) libraries_complete: bool,
    /// Tokens that may see more of them than came.
    pub(super) shortsighted: BTreeSet<Secret>,
    /// One line each.
    pub(super) problems: Vec<String>,
    /// What should be put right and takes nothing away, one line each.
    pub(super) warnings: Vec<String>,
}

type Job<'j> = Box<dyn FnOnce() + Send + 'j>;

impl<'a> Asked<'a> {
    /// The first round: who can see which libraries, and what plays.
    pub(super) fn start(request: &Request<'a>) -> Result<Self, SelectError> {
        let tokens: BTreeSet<&Secret> =
            request.viewers.iter().map(|viewer| &viewer.token).chain([request.owner]).collect();
        let tokens: Vec<&Secret> = tokens.into_iter().filter(|token| !token.is_empty()).collect();
        let mut sessions = None;
        let mut lists: Vec<Option<Read<Vec<Library>>>> = tokens.iter().map(|_| None).collect();
        let mut jobs: Vec<Job<'_>> = vec![Box::new(|| sessions = Some(request.server.sessions()))];
        for (slot, token) in lists.iter_mut().zip(&tokens) {
            jobs.push(Box::new(|| *slot = Some(request.server.libraries(token))));
        }
        at_once(jobs);

        let lists: BTreeMap<&Secret, Read<Vec<Library>>> =
            tokens.into_iter().zip(lists).filter_map(|(token, list)| Some((token, list?))).collect();
        let mut asked = Self {
            people: Vec::new(),
            sessions: Vec::new(),
            played: Vec::new(),
            sessions_trouble: None,
            played_trouble: None,
            libraries: Vec::new(),
            libraries_complete: lists.get(request.owner).is_some_and(Read::is_complete),
            shortsighted: BTreeSet::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        let missing = asked.check_libraries(request, lists.get(request.owner))?;
        asked.libraries_complete &= !missing;
        let in_part = lists.iter().filter(|(_, list)| missing || !list.is_complete());
        asked.shortsighted = in_part.map(|(&token, _)| token.clone()).collect();
        let mut names = BTreeSet::new();
        for viewer in request.viewers.iter().filter(|viewer| names.insert(&viewer.name)) {
            let mut person = Person {
                viewer,
                shelves: Vec::new(),
                on_deck_complete: !missing,
                next_complete: !missing,
                dropped: false,
                plays: BTreeSet::new(),
                listed: Vec::new(),
            };
            let what = || format!("the libraries of {}", viewer.name);
            let libraries = if let Some(list) = lists.get(&viewer.token) {
                asked.take(&mut person, list.clone(), what)
            } else {
                // Whoever looked for the token has said so.
                person.dropped = true;
                Vec::new()
            };
            let libraries = included(request, libraries);
            person.shelves.extend(libraries.into_iter().map(|library| Shelf {
                library,
                on_deck: Vec::new(),
                playing: Vec::new(),
                episodes: Vec::new(),
            }));
            asked.people.push(person);
        }
        asked.take_sessions(request, sessions.expect("every job has run"));
        Ok(asked)
    }

    /// Whether a library that the configuration names is missing on the server.
    fn check_libraries(
        &mut self,
        request: &Request<'_>,
        list: Option<&Read<Vec<Library>>>,
    ) -> Result<bool, SelectError> {
        let visible = match list {
            Some(Read::Complete(libraries) | Read::Incomplete { value: libraries, .. }) => libraries,
            Some(Read::Failed(error)) => return Err(SelectError::Plex(error.clone())),
            None => return Err(SelectError::NoToken),
        };
        if visible.is_empty() {
            return Err(SelectError::NoLibraries);
        }
        self.libraries = included(request, visible.clone());
        if self.libraries.is_empty() {
            let configured = request.select.libraries.join(", ");
            let visible = visible.iter().map(|library| library.title.as_str()).collect::<Vec<_>>().join(", ");
            return Err(SelectError::NoneIncluded { configured, visible });
        }
        let is_there = |entry: &str| visible.iter().any(|library| library.title == entry || library.id == entry);
        let missing: Vec<&String> =
            request.select.libraries.iter().filter(|entry| *entry != "*" && !is_there(entry)).collect();
        for entry in &missing {
            self.problems.push(format!(
                "Plex has no library \"{entry}\" (select.libraries); what was wanted before stays wanted"
            ));
        }
        Ok(!missing.is_empty())
    }

    fn take_sessions(&mut self, request: &Request<'_>, sessions: Read<Vec<Session>>) {
        (self.sessions, self.sessions_trouble) = came(sessions);
        for session in &self.sessions {
            let Some(key) = session.rating_key.as_ref().filter(|_| !session.live) else { continue };
            let is_owners = session.user_id.as_deref() == Some(OWNER_ID);
            for person in &mut self.people {
                let own = if is_owners {
                    person.viewer.token == *request.owner
                } else {
                    session.user.as_ref() == Some(&person.viewer.name)
                };
                if own {
                    person.plays.insert(key.clone());
                }
            }
        }
    }

    /// The second round: what is on deck, and the items that play now.
    pub(super) fn on_deck(&mut self, request: &Request<'_>) {
        let keys: BTreeSet<RatingKey> = self
            .sessions
            .iter()
            .filter(|session| !session.live)
            .filter_map(|session| session.rating_key.clone())
            .collect();
        let keys: Vec<RatingKey> = keys.into_iter().collect();
        let mut played = Read::Complete(Vec::new());
        let mut people = std::mem::take(&mut self.people);
        let mut reads: Vec<Vec<Option<Read<Vec<Item>>>>> =
            people.iter().map(|person| person.shelves.iter().map(|_| None).collect()).collect();
        let mut jobs: Vec<Job<'_>> = Vec::new();
        if !keys.is_empty() {
            jobs.push(Box::new(|| played = request.server.items(request.owner, &keys)));
        }
        for (person, slots) in people.iter().zip(&mut reads).filter(|(person, _)| person.viewer.tastes.on_deck) {
            for (shelf, slot) in person.shelves.iter().zip(slots) {
                let token = &person.viewer.token;
                jobs.push(Box::new(|| *slot = Some(request.server.on_deck(token, &shelf.library))));
            }
        }
        at_once(jobs);

        for (person, reads) in people.iter_mut().zip(reads) {
            for (index, read) in reads.into_iter().enumerate() {
                let Some(read) = read.filter(|_| !person.dropped) else { continue };
                let title = person.shelves[index].library.title.clone();
                let what = || format!("on deck of {} in {title}", person.viewer.name);
                let items = self.take(person, read, what);
                person.shelves[index].on_deck = items;
            }
        }
        self.people = people;
        (self.played, self.played_trouble) = came(played);
    }

    /// The third round: the episodes of the shows that are on deck or play now. `counts` says which
    /// items on deck do, as some are too old.
    pub(super) fn episodes(&mut self, request: &Request<'_>, counts: impl Fn(&Item) -> bool) {
        let mut people = std::mem::take(&mut self.people);
        let mut wanted: Vec<(usize, usize, Vec<RatingKey>)> = Vec::new();
        for (at, person) in people.iter_mut().enumerate() {
            let plays = &person.plays;
            for (index, shelf) in person.shelves.iter_mut().enumerate() {
                shelf.on_deck.retain(&counts);
                let is_here = |item: &&Item| {
                    plays.contains(&item.rating_key) && item.library_id.as_ref() == Some(&shelf.library.id)
                };
                shelf.playing = self.played.iter().filter(is_here).cloned().collect();
                let seeds = shelf.on_deck.iter().chain(&shelf.playing);
                let shows: BTreeSet<RatingKey> = seeds.filter_map(show_of).cloned().collect();
                let tastes = &person.viewer.tastes;
                let looks_ahead = tastes.on_deck && !Lookahead::of(tastes).is_off();
                if !shows.is_empty() && !person.dropped && looks_ahead {
                    wanted.push((at, index, shows.into_iter().collect()));
                }
            }
        }
        let reads = each(&wanted, |(at, index, shows)| {
            let person = &people[*at];
            request.server.episodes(&person.viewer.token, &person.shelves[*index].library, shows)
        });
        for ((at, index, _), read) in wanted.into_iter().zip(reads) {
            let person = &mut people[at];
            if !person.dropped {
                let on_deck_complete = person.on_deck_complete;
                let title = person.shelves[index].library.title.clone();
                let what = || format!("episodes for {} in {title}", person.viewer.name);
                person.shelves[index].episodes = self.take(person, read, what);
                // Only the next episodes depend on this one.
                person.on_deck_complete = on_deck_complete && !person.dropped;
            }
        }
        self.people = people;
    }

    /// The fourth round: what the viewers have seen of `items` (by name, rating keys). What is already
    /// in `seen` is not asked again; what cannot be learnt stays absent from it.
    pub(super) fn watched(
        &mut self,
        request: &Request<'_>,
        items: &BTreeMap<Text, BTreeSet<Text>>,
        seen: &mut BTreeMap<(Text, Text), Seen>,
    ) {
        let mut wanted: Vec<(&Viewer, Vec<RatingKey>)> = Vec::new();
        for person in self.people.iter().filter(|person| !person.dropped) {
            let Some((name, keys)) = items.get_key_value(person.viewer.name.as_str()) else { continue };
            let is_new = |key: &&Text| !seen.contains_key(&(name.clone(), (*key).clone()));
            let keys: Vec<RatingKey> = keys.iter().filter(is_new).map(|key| RatingKey::new(key.clone())).collect();
            if !keys.is_empty() {
                wanted.push((person.viewer, keys));
            }
        }
        let reads = each(&wanted, |(viewer, keys)| request.server.items(&viewer.token, keys));
        for ((viewer, keys), read) in wanted.into_iter().zip(reads) {
            let (items, trouble) = came(read);
            let name = Text::from(&viewer.name);
            for item in &items {
                seen.insert((name.clone(), item.rating_key.text().clone()), Seen::of(item));
            }
            match trouble {
                Some(trouble) => self.problems.push(format!("what {} has watched: {trouble}", viewer.name)),
                None => {
                    for key in keys {
                        seen.entry((name.clone(), key.text().clone())).or_insert(Seen::Gone);
                    }
                }
            }
        }
    }

    /// What came of a read for `person`; what did not is noted, for the report and for the person.
    fn take<T: Default>(&mut self, person: &mut Person<'_>, read: Read<T>, what: impl Fn() -> String) -> T {
        if let Read::Failed(error @ PlexError::Unauthorized { .. }) = &read {
            person.dropped = true;
            let name = &person.viewer.name;
            self.problems.push(format!("{name}: {error}; what was wanted before stays wanted"));
        }
        let (value, trouble) = came(read);
        if let Some(trouble) = trouble {
            person.on_deck_complete = false;
            person.next_complete = false;
            if !person.dropped {
                self.problems.push(format!("{}: {trouble}", what()));
            }
        }
        value
    }
}

/// What came, and what is wrong with it.
pub(super) fn came<T: Default>(read: Read<T>) -> (T, Option<String>) {
    match read {
        Read::Complete(value) => (value, None),
        Read::Incomplete { value, problems } => {
            let more = match problems.len() {
                0 | 1 => String::new(),
                n => format!(" (and {} more)", n - 1),
            };
            let first = problems.into_iter().next().unwrap_or_default();
            (value, Some(format!("answered in part: {first}{more}")))
        }
        Read::Failed(error) => (T::default(), Some(error.to_string())),
    }
}

/// The movie and show libraries that `select.libraries` asks for, each once, by id.
fn included(request: &Request<'_>, libraries: Vec<Library>) -> Vec<Library> {
    let usable = |library: &Library| matches!(library.kind, LibraryKind::Movie | LibraryKind::Show);
    let mut by_id: BTreeMap<String, Library> = BTreeMap::new();
    for library in libraries {
        if usable(&library) && request.select.includes_library(&library.title, &library.id) {
            by_id.entry(library.id.clone()).or_insert(library);
        }
    }
    by_id.into_values().collect()
}

/// Runs one read for each input, and gives the answers in the order of the inputs.
pub(super) fn each<T: Sync, R: Send>(inputs: &[T], read: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let mut slots: Vec<Option<R>> = inputs.iter().map(|_| None).collect();
    let read = &read;
    let fill = |(slot, input)| -> Job<'_> {
        let (slot, input): (&mut Option<R>, &T) = (slot, input);
        Box::new(move || *slot = Some(read(input)))
    };
    at_once(slots.iter_mut().zip(inputs).map(fill).collect());
    slots.into_iter().flatten().collect()
}

/// Runs all jobs, a few at a time, the first ones first.
fn at_once(jobs: Vec<Job<'_>>) {
    let workers = jobs.len().min(AT_ONCE);
    let queue = Mutex::new(jobs.into_iter());
    let work = || {
        loop {
            let Some(job) = queue.lock().expect("nothing panics while it holds the queue").next() else { break };
            job();
        }
    };
    thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn answers_keep_the_order_of_their_questions_and_few_are_under_way_at_once() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let inputs: Vec<usize> = (0..100).collect();
        let answers = each(&inputs, |&input| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
            input * 2
        });
        assert_eq!(answers, inputs.iter().map(|input| input * 2).collect::<Vec<_>>());
        assert!(most.into_inner() <= AT_ONCE);
        assert!(each(&[0; 0], |_| ()).is_empty());
    }

    #[test]
    fn reads_that_can_be_made_together_are() {
        // Every read waits for all the others: one after the other they would never end.
        let barrier = std::sync::Barrier::new(AT_ONCE);
        each(&[(); AT_ONCE], |()| barrier.wait().is_leader());
    }
}
