//! Linking this machine to a Plex account by a PIN that a person types at plex.tv/link.
//!
//! Owns the two calls of that conversation, which are the only ones that go to plex.tv without a token.
//! Refuses an answer that is none, an id or a code that could be anything but digits and letters, and to wait
//! longer than the PIN lives. The token that comes is a [`Secret`].

use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::Deserialize;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::PlexError;
use super::address::Base;
use super::client::CONNECT_TIMEOUT;
use crate::secret::Secret;

/// Where accounts live.
pub const ACCOUNT: &str = "https://plex.tv";

/// For one call.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest answer that is read, in bytes.
const MAX_BODY: u64 = 64 << 10;

/// The longest that a PIN is waited for, whatever plex.tv says of its life (15 minutes).
const MAX_LIFE: Duration = Duration::from_secs(3600);

/// Between two questions whether somebody has typed the PIN.
const INTERVAL: Duration = Duration::from_secs(2);

/// A PIN that was given out and waits to be typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    id: u64,
    /// What to type.
    pub code: String,
    /// For so long.
    pub life: Duration,
}

/// plex.tv, as far as linking goes.
pub struct Linking {
    agent: Agent,
    base: Base,
    client_id: String,
}

/// A PIN as plex.tv writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    id: u64,
    code: String,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    auth_token: Option<Secret>,
}

impl Linking {
    /// Prepares to talk to the account service at `url`, under the name that plex.tv knows this installation
    /// by or under one of its own; sends nothing.
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn new(url: &str, client_id: Option<String>) -> Result<Self, PlexError> {
        let base = Base::parse(url)?;
        // Unlike a server at home it may be behind a proxy, which the environment names.
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(TIMEOUT))
            .build()
            .new_agent();
        let mut id = [0; 16];
        // The same for both calls and for nobody else; without randomness the process tells them apart.
        if getrandom(&mut id, GetRandomFlags::empty()).is_err() {
            id[..4].copy_from_slice(&std::process::id().to_ne_bytes());
        }
        let own = || format!("plexcache-{:032x}", u128::from_ne_bytes(id));
        Ok(Self { agent, base, client_id: client_id.unwrap_or_else(own) })
    }

    /// Asks for a PIN of four characters.
    ///
    /// # Errors
    /// plex.tv did not give one.
    pub fn begin(&self) -> Result<Pin, PlexError> {
        const PATH: &str = "/api/v2/pins";
        let request = self.agent.post(self.url(PATH));
        let answer = self.headers(request).send_empty().map_err(|error| self.unreachable(&error))?;
        let answer = self.answer(PATH, answer)?.ok_or_else(|| lacks(PATH, "holds no PIN"))?;
        if answer.code.is_empty() || answer.code.len() > 64 || !answer.code.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(lacks(PATH, "holds no PIN"));
        }
        let life = Duration::from_secs(answer.expires_in.unwrap_or(900)).min(MAX_LIFE);
        Ok(Pin { id: answer.id, code: answer.code, life })
    }

    /// Waits until somebody has typed the PIN. `None` when nobody did as long as it lived. `interval` is only
    /// given by tests.
    ///
    /// # Errors
    /// plex.tv stopped answering. One call that fails in passing does not count.
    pub fn wait(&self, pin: &Pin, interval: Option<Duration>) -> Result<Option<Secret>, PlexError> {
        let pause = interval.unwrap_or(INTERVAL);
        let times = pin.life.as_millis() / INTERVAL.as_millis();
        let mut failures = 0;
        for _ in 0..times.max(1) {
            std::thread::sleep(pause);
            match self.look(pin) {
                Ok(Looked::Linked(token)) => return Ok(Some(token)),
                Ok(Looked::Expired) => return Ok(None),
                Ok(Looked::Pending) => failures = 0,
                Err(error) if error.is_transient() && failures < 5 => failures += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn look(&self, pin: &Pin) -> Result<Looked, PlexError> {
        let path = format!("/api/v2/pins/{}", pin.id);
        let request = self.agent.get(self.url(&path));
        let answer = self.headers(request).call().map_err(|error| self.unreachable(&error))?;
        Ok(match self.answer(&path, answer)? {
            None => Looked::Expired,
            Some(answer) if answer.id != pin.id => return Err(lacks(&path, "is about another PIN")),
            Some(Answer { auth_token: Some(token), .. }) if !token.is_empty() => Looked::Linked(token),
            Some(_) => Looked::Pending,
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{}{path}", self.base.origin, self.base.prefix)
    }

    fn headers<Any>(&self, request: ureq::RequestBuilder<Any>) -> ureq::RequestBuilder<Any> {
        request
            .header("accept", "application/json")
            .header("x-plex-product", "plexcache")
            .header("x-plex-version", env!("CARGO_PKG_VERSION"))
            .header("x-plex-client-identifier", &self.client_id)
    }

    /// `None` when plex.tv does not know the PIN, or not any more.
    fn answer(&self, path: &str, mut response: Response<Body>) -> Result<Option<Answer>, PlexError> {
        let (endpoint, status) = (path.to_owned(), response.status().as_u16());
        match status {
            200 | 201 => {}
            404 => return Ok(None),
            429 => return Err(PlexError::RateLimited { endpoint, retry_after: None }),
            status => return Err(PlexError::Status { endpoint, status }),
        }
        let body = response.body_mut().with_config().limit(MAX_BODY).read_to_vec();
        let body = body.map_err(|error| self.unreachable(&error))?;
        // What serde says of it could hold a part of it, and so of the token.
        serde_json::from_slice(&body).map(Some).map_err(|_| lacks(path, "is no PIN"))
    }

    fn unreachable(&self, error: &ureq::Error) -> PlexError {
        let (server, why) = (self.base.origin.clone(), error.to_string());
        PlexError::Unreachable { server, why, hint: "is this machine on the Internet? Preferences.xml works without" }
    }
}

enum Looked {
    Pending,
    Linked(Secret),
    Expired,
}

fn lacks(path: &str, what: &str) -> PlexError {
    PlexError::Lacks { endpoint: path.to_owned(), what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::stub::{Stub, reply};
    use super::*;

    const PENDING: &str = r#"{"id":7,"code":"AB12","expiresIn":900,"authToken":null,"location":{"code":"GB"}}"#;
    const LINKED: &str = r#"{"id":7,"code":"AB12","expiresIn":900,"authToken":"s3cret-T0ken"}"#;

    /// Gives out a PIN and then answers with these, one after the other.
    fn link(answers: Vec<(u16, &'static str)>) -> (Result<Option<Secret>, PlexError>, Stub) {
        let stub = Stub::new(move |_, before| match before {
            0 => reply(201, "", PENDING),
            n => {
                let (status, body) = answers[(n - 1).min(answers.len() - 1)];
                reply(status, "", body)
            }
        });
        let linking = Linking::new(&stub.url, None).unwrap();
        let pin = linking.begin().unwrap();
        assert_eq!((pin.code.as_str(), pin.life), ("AB12", Duration::from_secs(900)));
        (linking.wait(&pin, Some(Duration::from_micros(50))), stub)
    }

    #[test]
    fn the_token_comes_once_the_pin_is_typed_and_is_never_seen() {
        let (token, stub) = link(vec![(200, PENDING), (503, ""), (200, PENDING), (200, LINKED)]);
        let token = token.unwrap().unwrap();
        assert_eq!(token.expose(), "s3cret-T0ken");
        assert!(!format!("{token:?}").contains("T0ken"));
        assert_eq!(stub.targets()[0], "/api/v2/pins");
        assert!(stub.targets()[1..].iter().all(|target| target == "/api/v2/pins/7"));
        let ids: Vec<_> =
            stub.requests().iter().map(|r| r.header("x-plex-client-identifier").unwrap().to_owned()).collect();
        assert!(ids.iter().all(|id| *id == ids[0]) && ids[0].len() > 20, "{ids:?}");
        assert!(stub.requests().iter().all(|request| request.header("x-plex-token").is_none()));
    }

    #[test]
    fn a_pin_that_nobody_types_expires() {
        assert_eq!(link(vec![(200, PENDING), (404, r#"{"errors":[{"code":1020}]}"#)]).0, Ok(None));
        assert_eq!(link(vec![(200, PENDING)]).0, Ok(None));
    }

    #[test]
    fn what_is_no_answer_is_an_error_without_its_text() {
        for body in ["", "<html>", r#"{"id":"x","authToken":"s3cret"}"#, r#"{"id":8,"code":"A","authToken":"s3cret"}"#]
        {
            let error = link(vec![(200, body)]).0.unwrap_err();
            assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        }
        for body in ["{}", r#"{"id":1,"code":""}"#, r#"{"id":1,"code":"a\u001b[2J"}"#] {
            let stub = Stub::new(move |_, _| reply(201, "", body));
            assert!(Linking::new(&stub.url, None).unwrap().begin().is_err(), "{body}");
        }
    }
}
