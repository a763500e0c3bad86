//! How a call fails, and whether to ask again.
//!
//! Owns the translation of everything that can go wrong on the wire into a [`PlexError`], with the
//! hint that helps, and the patience that each deserves. Whatever text of others ends up in an error
//! has been through [`clean`]: the server may echo the token.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::time::Duration;

use ureq::http::{HeaderMap, HeaderValue, StatusCode, header};

use super::PlexError;
use super::address::{Base, host_of};
use super::client::{CONNECT_TIMEOUT, Get};
use super::json::Undecodable;
use crate::secret::Secret;

/// A pause that is longer than this, in units of the back-off, is left to the next run.
const MAX_RETRY_AFTER: u32 = 30;
/// How long a server in maintenance gets, in units of the back-off.
const MAINTENANCE_PAUSE: u32 = 10;
/// Tries while there is no sign that the server runs at all.
const FIRST_TRIES: u32 = 2;

/// How one try failed, and whether another one is worth it.
pub(super) struct Failure {
    pub(super) error: PlexError,
    again: Again,
}

impl Failure {
    /// One that the next try would only repeat.
    pub(super) fn last(error: PlexError) -> Self {
        Self { error, again: Again::Never }
    }

    /// One that may pass.
    fn again(error: PlexError) -> Self {
        Self { error, again: Again::Soon }
    }

    /// How long to wait after this many tries, of at most `limit`, in units of the back-off; `None`
    /// to give up. `answered` says whether the server ever did.
    pub(super) fn pause(&self, tried: u32, limit: u32, answered: bool) -> Option<f64> {
        let limit = match self.again {
            Again::Never => return None,
            Again::Refused if !answered => limit.min(FIRST_TRIES),
            Again::Maintenance => limit.min(2),
            Again::Refused | Again::Soon | Again::After(_) => limit,
        };
        if tried >= limit {
            return None;
        }
        match self.again {
            Again::After(seconds) => u32::try_from(seconds).ok().filter(|s| *s <= MAX_RETRY_AFTER).map(f64::from),
            Again::Maintenance => Some(f64::from(MAINTENANCE_PAUSE)),
            _ => Some(f64::from(1_u32 << (tried - 1)) * (1.0 + jitter() / 2.0)),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Again {
    Never,
    /// After a growing pause.
    Soon,
    /// Nobody listens. Not worth much patience unless somebody did before.
    Refused,
    /// After as many seconds as the server asked for.
    After(u64),
    /// Once more, after a longer pause: the database is being migrated.
    Maintenance,
}

/// A call, and what its failures have to know of the client.
pub(super) struct Asked<'a> {
    pub(super) base: &'a Base,
    pub(super) timeout: Duration,
    pub(super) call: &'a Get<'a>,
}

impl Asked<'_> {
    /// Why no answer came, or not all of it.
    pub(super) fn broken(&self, error: ureq::Error) -> Failure {
        let server = self.base.origin.clone();
        let unreachable = |why: String, hint| PlexError::Unreachable { server: server.clone(), why, hint };
        let refused = "is Plex running there, and is plex.url right?";
        match error {
            ureq::Error::BodyExceedsLimit(limit) => {
                Failure::last(PlexError::TooLarge { endpoint: self.call.endpoint(), limit })
            }
            ureq::Error::Timeout(phase) => {
                let seconds = if matches!(phase, ureq::Timeout::Resolve | ureq::Timeout::Connect) {
                    CONNECT_TIMEOUT
                } else {
                    self.timeout
                }
                .as_secs_f64();
                let why = format!("no answer within {seconds} s ({phase})");
                Failure::again(unreachable(why, "the server may be busy; plex.timeout can be raised"))
            }
            ureq::Error::HostNotFound => {
                Failure { error: unreachable("there is no such host".to_owned(), refused), again: Again::Refused }
            }
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Failure { error: unreachable("the connection was refused".to_owned(), refused), again: Again::Refused }
            }
            ureq::Error::Io(error) if self.base.https && error.kind() == io::ErrorKind::InvalidData => {
                self.insecure(&error.to_string())
            }
            error @ (ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_)) => {
                self.insecure(&error.to_string())
            }
            ureq::Error::Io(error) => {
                let hint = if self.base.https {
                    "does this port speak https at all? Otherwise use http://"
                } else {
                    "Plex closes plain http connections when its setting `Secure connections` is `Required`"
                };
                let why = match error.kind() {
                    io::ErrorKind::UnexpectedEof => {
                        "the connection was closed before the answer was complete".to_owned()
                    }
                    _ => clean(&error.to_string(), self.call.token),
                };
                Failure::again(unreachable(why, hint))
            }
            error @ ureq::Error::Decompress(..) => Failure::again(PlexError::Body {
                endpoint: self.call.endpoint(),
                offset: 0,
                why: clean(&error.to_string(), self.call.token),
            }),
            error @ (ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..)) => {
                let what = clean(&format!("no HTTP ({error})"), self.call.token);
                Failure::last(PlexError::NotPlex { endpoint: self.call.endpoint(), what })
            }
            error => Failure::again(unreachable(clean(&error.to_string(), self.call.token), "")),
        }
    }

    fn insecure(&self, why: &str) -> Failure {
        let hint = if self.base.bare_ip {
            "Plex's certificate names a host below plex.direct, never a bare address: use that host, http://, or \
             plex.insecure_tls = true"
        } else if why.contains("certificate") {
            "name the authority that signed it with plex.ca_file, or set plex.insecure_tls = true"
        } else {
            "does this port speak https at all? Otherwise use http://"
        };
        let why = clean(why, self.call.token);
        Failure::last(PlexError::Tls { server: self.base.origin.clone(), why, hint })
    }

    /// Why an answer has no container.
    pub(super) fn undecodable(&self, why: Undecodable) -> Failure {
        let endpoint = self.call.endpoint();
        match why {
            Undecodable::NotPlex(what) => {
                let what = format!("{} sends {}", self.base.origin, clean(&what, self.call.token));
                Failure::last(PlexError::NotPlex { endpoint, what })
            }
            Undecodable::Syntax { offset, why, cut } => {
                let error = PlexError::Body { endpoint, offset, why: clean(&why, self.call.token) };
                // An answer without a length that was cut short looks like this.
                if cut { Failure::again(error) } else { Failure::last(error) }
            }
        }
    }

    /// What a status other than 200 means.
    pub(super) fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
        let endpoint = self.call.endpoint();
        let retry_after = number(headers.get(header::RETRY_AFTER));
        let wait = retry_after.map_or(Again::Soon, Again::After);
        match status.as_u16() {
            401 => Failure::last(PlexError::Unauthorized { endpoint }),
            // The older calls of plex.tv say it so.
            422 if String::from_utf8_lossy(body).contains("Invalid token") => {
                Failure::last(PlexError::Unauthorized { endpoint })
            }
            403 => Failure::last(PlexError::Forbidden { endpoint }),
            404 => Failure::last(PlexError::NotFound { endpoint }),
            429 => Failure { error: PlexError::RateLimited { endpoint, retry_after }, again: wait },
            503 => {
                let body = String::from_utf8_lossy(body);
                // Plex itself answers with XML; a proxy before a server that is down with something else.
                if body.contains("<Response") {
                    let said = attribute(&body, "status").or_else(|| attribute(&body, "title"));
                    let why = clean(said.unwrap_or("maintenance"), self.call.token);
                    Failure { error: PlexError::Busy { why }, again: Again::Maintenance }
                } else {
                    Failure { error: PlexError::Busy { why: format!("{endpoint}: 503") }, again: wait }
                }
            }
            300..=399 => {
                let to = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
                let to = clean(&to.map_or_else(|| "nowhere".to_owned(), host_of), self.call.token);
                Failure::last(PlexError::Redirected { endpoint, to })
            }
            code @ (500 | 502 | 504) => Failure { error: PlexError::Status { endpoint, status: code }, again: wait },
            code => Failure::last(PlexError::Status { endpoint, status: code }),
        }
    }
}

/// A number in 0..1 that differs between processes, so that two hosts do not ask in step.
fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).expect("the upper half of 64 bits")) / f64::from(u32::MAX)
}

/// The whole number in a header.
pub(super) fn number(value: Option<&HeaderValue>) -> Option<u64> {
    value?.to_str().ok()?.trim().parse().ok()
}

/// The value of `name="…"` in a line of XML.
fn attribute<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!(" {name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

/// Makes text of others fit for a message: without the token, should it be echoed, without control
/// characters, and short.
fn clean(text: &str, token: Option<&Secret>) -> String {
    let text = match token.map(Secret::expose).filter(|token| !token.is_empty()) {
        Some(token) => text.replace(token, "***"),
        None => text.to_owned(),
    };
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use tracing::level_filters::LevelFilter;

    use super::super::ServerOptions;
    use super::super::client::Client;
    use super::super::stub::{EMPTY, Stub, TOKEN, get, outcome, reply, token};
    use super::*;

    const MAINTENANCE: &str = r#"<?xml version="1.0"?><Response code="503" title="Maintenance" status="migrations"/>"#;

    #[test]
    fn what_may_pass_is_asked_again_and_what_will_not_is_not() {
        let good = || reply(200, "", EMPTY);
        let cut = || b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"Media".to_vec();
        let unsized_cut = || b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"MediaContainer\":{\"size\"".to_vec();
        let wait = |seconds: &str| reply(429, &format!("Retry-After: {seconds}\r\n"), "");
        for (name, answers, tries, good_end) in [
            ("500 once", vec![reply(500, "", ""), good()], 2, true),
            ("502, 504", vec![reply(502, "", "<html>"), reply(504, "", ""), good()], 3, true),
            ("500 always", vec![reply(500, "", "")], 3, false),
            ("reset once", vec![Vec::new(), good()], 2, true),
            ("cut once", vec![cut(), good()], 2, true),
            ("cut always", vec![cut()], 3, false),
            ("cut without a length", vec![unsized_cut(), good()], 2, true),
            ("pause", vec![wait("30"), good()], 2, true),
            ("pause without a length", vec![reply(429, "", ""), good()], 2, true),
            ("pause in words", vec![wait("Wed, 21 Oct 2026 07:28:00 GMT"), good()], 2, true),
            ("long pause", vec![wait("31"), good()], 1, false),
            ("maintenance once", vec![reply(503, "", MAINTENANCE), good()], 2, true),
            ("maintenance", vec![reply(503, "", MAINTENANCE), reply(503, "", MAINTENANCE), good()], 2, false),
            ("503 of a proxy", vec![reply(503, "", "<html>"), reply(503, "", ""), good()], 3, true),
            ("400", vec![reply(400, "", ""), good()], 1, false),
            ("401", vec![reply(401, "Connection: close\r\n", "<html>"), good()], 1, false),
            ("404", vec![reply(404, "", ""), good()], 1, false),
            ("redirect", vec![reply(301, "Location: https://b/\r\n", ""), good()], 1, false),
            ("web page", vec![reply(200, "", "<html>"), good()], 1, false),
            ("no JSON", vec![reply(200, "", "{]"), good()], 1, false),
        ] {
            let (outcome, took) = outcome(&answers);
            assert_eq!((outcome.is_ok(), took), (good_end, tries), "{name}: {outcome:?}");
        }
    }

    #[test]
    fn every_refusal_has_its_error() {
        let at = || "/library/sections".to_owned();
        let html = "<html><head><title>Unauthorized</title></head></html>";
        for (answer, error) in [
            (reply(401, "", html), PlexError::Unauthorized { endpoint: at() }),
            (reply(403, "", html), PlexError::Forbidden { endpoint: at() }),
            (reply(404, "", html), PlexError::NotFound { endpoint: at() }),
            (reply(400, "", html), PlexError::Status { endpoint: at(), status: 400 }),
            (reply(500, "", html), PlexError::Status { endpoint: at(), status: 500 }),
            (reply(204, "", ""), PlexError::Status { endpoint: at(), status: 204 }),
            (reply(503, "", MAINTENANCE), PlexError::Busy { why: "migrations".to_owned() }),
            (reply(503, "", html), PlexError::Busy { why: "/library/sections: 503".to_owned() }),
            (reply(429, "Retry-After: 600\r\n", ""), PlexError::RateLimited { endpoint: at(), retry_after: Some(600) }),
            (
                reply(302, &format!("Location: https://other:8443/x?X-Plex-Token={TOKEN}\r\n"), ""),
                PlexError::Redirected { endpoint: at(), to: "https://other:8443".to_owned() },
            ),
        ] {
            let found = outcome(&[answer]).0.unwrap_err();
            assert_eq!(found, error);
            assert_eq!(
                found.is_transient(),
                matches!(
                    error,
                    PlexError::Busy { .. } | PlexError::RateLimited { .. } | PlexError::Status { status: 500, .. }
                )
            );
        }
    }

    #[test]
    fn what_is_not_plex_is_told_apart_from_what_is_broken() {
        for (body, what) in [
            ("", "an empty answer"),
            (" \r\n", "an empty answer"),
            ("<!DOCTYPE html><title>Login \u{7}here</title>", r#"a web page, "Login here""#),
            ("<?xml version='1.0'?><MediaContainer/>", "XML"),
            ("[]", "JSON without a MediaContainer"),
            (r#"{"MediaContainer":null}"#, "JSON without a MediaContainer"),
            (r#"{"errors":[{"code":1001}]}"#, "JSON without a MediaContainer"),
        ] {
            let error = outcome(&[reply(200, "", body)]).0.unwrap_err();
            assert!(matches!(&error, PlexError::NotPlex { what: said, .. } if said.contains(what)), "{error}");
        }
        let error = outcome(&[reply(200, "", "{\"MediaContainer\":\n{\"size\":x}}")]).0.unwrap_err();
        assert!(matches!(error, PlexError::Body { offset: 27, .. }), "{error}");
        let error = outcome(&[b"SSH-2.0-OpenSSH_9.7\r\n".to_vec()]).0.unwrap_err();
        assert!(matches!(error, PlexError::NotPlex { .. }), "{error:?}");
    }

    #[test]
    fn a_server_that_is_not_there_is_not_waited_for_long() {
        let stub = Stub::new(|_, _| Vec::new());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = ServerOptions { url: format!("http://127.0.0.1:{port}"), ..stub.options() };
        let client = Client::new(&options).unwrap();
        let error = get(&client).unwrap_err();
        assert!(error.to_string().ends_with("the connection was refused"), "{error}");
        assert!(error.is_transient() && error.hint().is_some());
        assert_eq!(client.request_count(), 2);
    }

    #[test]
    fn pauses_grow_and_end() {
        let error = PlexError::Busy { why: String::new() };
        let failure = |again| Failure { error: error.clone(), again };
        for (again, tried, limit, answered, least) in [
            (Again::Soon, 1, 3, false, Some(1.0)),
            (Again::Soon, 2, 3, true, Some(2.0)),
            (Again::Soon, 3, 4, true, Some(4.0)),
            (Again::Soon, 3, 3, true, None),
            (Again::Soon, 1, 1, true, None),
            (Again::Refused, 1, 3, false, Some(1.0)),
            (Again::Refused, 2, 3, false, None),
            (Again::Refused, 2, 3, true, Some(2.0)),
            (Again::After(0), 1, 3, true, Some(0.0)),
            (Again::After(30), 2, 3, true, Some(30.0)),
            (Again::After(31), 1, 3, true, None),
            (Again::After(u64::MAX), 1, 3, true, None),
            (Again::Maintenance, 1, 3, true, Some(10.0)),
            (Again::Maintenance, 2, 3, true, None),
            (Again::Never, 1, 3, true, None),
        ] {
            let pause = failure(again).pause(tried, limit, answered);
            let most = if matches!(again, Again::Soon | Again::Refused) { 1.5 } else { 1.0 };
            assert_eq!(pause.is_some(), least.is_some(), "{again:?} {tried} {limit}");
            if let (Some(pause), Some(least)) = (pause, least) {
                assert!(pause >= least && pause <= least * most, "{again:?}: {pause}");
            }
        }
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up() {
        let stub = Stub::new(|_, _| {
            std::thread::sleep(Duration::from_secs(20));
            Vec::new()
        });
        let options = ServerOptions { timeout: Duration::from_millis(50), ..stub.options() };
        let error = get(&Client::new(&options).unwrap()).unwrap_err();
        assert!(error.to_string().contains("no answer within 0.05 s"), "{error}");
    }

    #[test]
    fn a_port_without_tls_is_told_from_one_without_a_certificate_for_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
            }
        });
        for (host, hint) in [("127.0.0.1", "plex.direct"), ("localhost", "http://")] {
            let options = ServerOptions::new(format!("https://{host}:{port}"), token());
            let client = Client::new(&options).unwrap();
            let error = get(&client).unwrap_err();
            assert!(matches!(error, PlexError::Tls { .. }), "{error:?}");
            assert!(error.hint().unwrap().contains(hint), "{error:?}");
            assert_eq!(client.request_count(), 1);
        }
    }

    #[test]
    fn an_answer_has_a_largest_size() {
        let base = Base::parse("http://plex").unwrap();
        let asked = Asked { base: &base, timeout: Duration::ZERO, call: &Get::new("/a", None) };
        let failure = asked.broken(ureq::Error::BodyExceedsLimit(9));
        assert_eq!(failure.pause(1, 3, true), None);
        assert_eq!(failure.error, PlexError::TooLarge { endpoint: "/a".to_owned(), limit: 9 });
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_error_and_no_event_shows_a_token_that_the_server_echoes() {
        // While there is only one subscriber, a thread of another test that meets the event first would
        // switch it off for all. So there are two.
        let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_max_level(LevelFilter::OFF).finish());
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(move || writer.clone()).finish();
        let mut shown = Vec::new();
        tracing::subscriber::with_default(subscriber, || {
            for answer in [
                reply(200, "", format!("<html><title>{TOKEN}</title>")),
                reply(503, "", format!(r#"<Response code="503" status="{TOKEN}"/>"#)),
                reply(301, &format!("Location: http://{TOKEN}.example.org/{TOKEN}\r\n"), ""),
                reply(200, "", format!("{{\"{TOKEN}\":{TOKEN}")),
                reply(400, "", TOKEN),
                format!("HTTP/1.1 {TOKEN}\r\n\r\n").into_bytes(),
                Vec::new(),
            ] {
                let error = outcome(&[answer]).0.unwrap_err();
                writeln!(shown, "{error} {error:?} {:?}", error.hint()).unwrap();
            }
        });
        let shown = String::from_utf8(shown).unwrap();
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("path=\"/library/sections\"") && log.contains("status=301"), "{log}");
        assert!(!log.contains(TOKEN), "{log}");
        assert!(shown.contains("***") && !shown.contains(TOKEN), "{shown}");
    }
}
