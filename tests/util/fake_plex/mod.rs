//! A stand-in Plex Media Server for tests, benchmarks and the demo.
//!
//! Owns one [`Library`] and answers for it over real HTTP as Plex does: XML unless JSON is asked for,
//! both from one tree; tokens, views and rights per user; Plex's paging, its errors and its oddities.
//! [`Faults`] make it misbehave in the ways real servers and the proxies before them do. Every request
//! is kept, so that a test can show that nothing was ever written.
//!
//! It refuses every call that would change a Plex server, but for the scan of a section, which it only
//! notes. It keeps to std, `serde_json` and `flate2`, so any target can include it by path, and binds
//! the loopback address only. Threads, connections, sizes and waits are bounded, and dropping a
//! [`FakePlex`] ends all of them.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each target that includes this uses its own part of it")]

mod faults;
mod filter;
mod http;
mod model;
mod outside;
mod render;
mod routes;
mod view;
mod watching;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use faults::{Fault, Faults, Matcher};
pub use http::Request;
pub use model::{Item, Kind, Library, Media, Part, RatingKey, Refresh, SectionId, SectionKind};
pub use outside::{Wish, account_uuid};
pub use watching::{Extra, Session};

use http::{Reply, Server};
use routes::Answer;

/// Requests that are kept; older ones are forgotten first.
const LOG_LIMIT: usize = 100_000;

/// A running stand-in server, and beside it one for plex.tv, on another port and with its own faults. Dropping it ends its threads and closes its connections.
pub struct FakePlex {
    state: Arc<State>,
    server: Server,
    outside: Server,
}

struct State {
    library: Mutex<Library>,
    faults: Mutex<Faults>,
    log: Mutex<VecDeque<Request>>,
    outside_faults: Mutex<Faults>,
    outside_log: Mutex<VecDeque<Request>>,
}

impl FakePlex {
    /// Starts to serve `library` on a free port of the loopback address.
    pub fn start(library: Library) -> Self {
        let state = Arc::new(State {
            library: Mutex::new(library),
            faults: Mutex::default(),
            log: Mutex::default(),
            outside_faults: Mutex::default(),
            outside_log: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let server = Server::start(Box::new(move |request| shared.reply(request)));
        let shared = Arc::clone(&state);
        let outside = Server::start(Box::new(move |request| shared.reply_outside(request)));
        Self { state, server, outside }
    }

    /// The base URL of the stand-in for plex.tv. Its services are below `/plex.tv`, `/discover`,
    /// `/metadata`, `/community` and `/rss`.
    pub fn outside_url(&self) -> String {
        format!("http://{}", self.outside.address())
    }

    /// Adds or clears faults of plex.tv.
    pub fn outside_faults<R>(&self, change: impl FnOnce(&mut Faults) -> R) -> R {
        change(&mut locked(&self.state.outside_faults))
    }

    /// Every request to plex.tv so far, oldest first.
    pub fn outside_requests(&self) -> Vec<Request> {
        locked(&self.state.outside_log).iter().cloned().collect()
    }

    /// The base URL, `http://127.0.0.1:PORT`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Changes or reads the library between two requests.
    pub fn edit<R>(&self, change: impl FnOnce(&mut Library) -> R) -> R {
        change(&mut locked(&self.state.library))
    }

    /// Adds or clears faults; they hold from the next request on.
    pub fn faults<R>(&self, change: impl FnOnce(&mut Faults) -> R) -> R {
        change(&mut locked(&self.state.faults))
    }

    /// Every request so far, oldest first, those that got an error included.
    pub fn requests(&self) -> Vec<Request> {
        locked(&self.state.log).iter().cloned().collect()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        locked(&self.state.log).clear();
        locked(&self.state.outside_log).clear();
    }
}

impl State {
    /// The whole way of a request: who asks, the log, the faults, the answer, its bytes. No two locks
    /// are held at once, so the closures of a test may use the server's other parts.
    fn reply(&self, mut request: Request) -> Reply {
        let user = {
            let library = locked(&self.library);
            let user = request.plex_value("X-Plex-Token").and_then(|token| library.user_of_token(token));
            request.user = user.map(|user| library.user_name(user).to_owned());
            user
        };
        note(&self.log, &request);
        let faults = locked(&self.faults).take(&request);
        let mut reply =
            faults::instead_of_answer(&faults, &request).unwrap_or_else(|| self.answer(user, &request, &faults));
        faults::spoil(&faults, &mut reply);
        reply
    }

    /// The same for plex.tv, which knows people by their account.
    fn reply_outside(&self, mut request: Request) -> Reply {
        request.user = request.plex_value("X-Plex-Token").and_then(|token| locked(&self.library).account_of(token));
        note(&self.outside_log, &request);
        let faults = locked(&self.outside_faults).take(&request);
        let mut reply = faults::instead_of_answer(&faults, &request)
            .unwrap_or_else(|| outside::answer(&mut locked(&self.library), request.user.as_deref(), &request, &faults));
        faults::spoil(&faults, &mut reply);
        reply
    }

    fn answer(&self, user: Option<usize>, request: &Request, faults: &[Fault]) -> Reply {
        let mut library = locked(&self.library);
        match routes::answer(&mut library, user, request) {
            Answer::List(listing) => routes::page_and_render(&library, user, &listing, request, faults),
            Answer::Done => Reply::new(200, "text/html", Vec::new()),
            Answer::Status(status) => Reply::error(status, &request.path),
        }
    }
}

fn note(log: &Mutex<VecDeque<Request>>, request: &Request) {
    let mut log = locked(log);
    if log.len() == LOG_LIMIT {
        log.pop_front();
    }
    log.push_back(request.clone());
}

/// A closure of a test that panicked under the lock must not hide its message behind a second panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
