//! What can go wrong between a client and a Plex server, on demand.
//!
//! Owns the list of [`Fault`]s and the rule which request meets which ([`Matcher`]). Every fault has
//! been seen at a real server or a proxy before one. Faults of the connection are carried out by
//! `http`, faults of shape by `render`, faults of paging by `routes`; those of status and bytes here.

use std::time::Duration;

use super::http::{Reply, Request, Wire};

/// One way to misbehave. Several may hold for one request where they do not exclude each other.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The reply comes late. Ends early when the server stops.
    Delay(Duration),
    /// The request is taken and never answered.
    Hang,
    /// The connection is reset before the reply.
    Reset,
    /// The connection is closed in the middle of the body.
    Truncated,
    /// The body comes in chunks, without a length. No fault of the server; clients differ.
    Chunked,
    /// The reply says keep-alive, and then the connection is closed.
    Closed,
    /// This status with Plex's error page.
    Status(u16),
    /// 503 in XML, as while the server starts or migrates its database.
    Maintenance,
    /// 429, with `Retry-After` in seconds where given.
    TooManyRequests { retry_after: Option<u32> },
    /// 200 and a web page: a captive portal or the login page of a proxy.
    LoginPage,
    /// 200 and nothing.
    EmptyBody,
    /// 200 and this, of whatever kind.
    Says(&'static str),
    /// 302 to the same path and query below this base URL.
    Redirect(String),
    /// XML although JSON was asked for.
    AlwaysXml,
    /// A byte order mark before the body.
    ByteOrderMark,
    /// The whole body in latin-1; what latin-1 does not have becomes `?`.
    Latin1,
    /// A byte in every title that is no UTF-8.
    InvalidUtf8,
    /// A raw control character in every title.
    ControlCharacters,
    /// JSON only: half of a surrogate pair in every title.
    LoneSurrogates,
    /// JSON only: an empty list of rows or of media is `null` in place of an absent key.
    NullLists,
    /// JSON only: the same as `[]`.
    EmptyLists,
    /// JSON only: `size` is right, and the list of rows is `null`. A failed read, not an empty one.
    LostRows,
    /// JSON only: `size` is right, and the first row did not come.
    LostRow,
    /// JSON only: a list of one is the object itself.
    SingleObjects,
    /// JSON only: `size` and `type` twice in every object; the last one is right.
    DuplicateKeys,
    /// JSON only: every number and boolean as a string.
    NumbersAsStrings,
    /// JSON only: the row at this index of the reply is no object.
    BadRow(usize),
    /// At most so many rows in a reply, whatever was asked for.
    PageCap(usize),
    /// Since the first page so many rows came in front (a row is seen twice), or, when negative, so
    /// many vanished from the front (rows are passed over).
    ShiftedPages(i64),
    /// The body grows by so many bytes that mean nothing.
    HugeBody(usize),
}

impl Fault {
    fn wire(&self) -> Option<Wire> {
        match self {
            Self::Delay(time) => Some(Wire::Delay(*time)),
            Self::Hang => Some(Wire::Hang),
            Self::Reset => Some(Wire::Reset),
            Self::Truncated => Some(Wire::Truncate),
            Self::Chunked => Some(Wire::Chunked),
            Self::Closed => Some(Wire::Close),
            _ => None,
        }
    }
}

/// Which requests meet a fault.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    path: String,
    exact: bool,
    user: Option<String>,
    argument: Option<(String, String)>,
    skip: u32,
    times: Option<u32>,
}

impl Matcher {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests whose path begins so.
    pub fn path(prefix: &str) -> Self {
        Self { path: prefix.to_owned(), ..Self::default() }
    }

    /// Requests of exactly this path.
    pub fn exact_path(path: &str) -> Self {
        Self { exact: true, ..Self::path(path) }
    }

    /// Only those of the user of this name.
    #[must_use]
    pub fn user(self, name: &str) -> Self {
        Self { user: Some(name.to_owned()), ..self }
    }

    /// Only those with this value as an argument or, for `X-Plex-…`, a header.
    #[must_use]
    pub fn with(self, name: &str, value: &str) -> Self {
        Self { argument: Some((name.to_owned(), value.to_owned())), ..self }
    }

    /// The first `count` matching requests pass unharmed.
    #[must_use]
    pub fn skip(self, count: u32) -> Self {
        Self { skip: count, ..self }
    }

    /// The fault is used up after `count` requests.
    #[must_use]
    pub fn times(self, count: u32) -> Self {
        Self { times: Some(count), ..self }
    }

    fn matches(&self, request: &Request) -> bool {
        let path = if self.exact { request.path == self.path } else { request.path.starts_with(&self.path) };
        let user = self.user.is_none() || self.user == request.user;
        let argument = self.argument.as_ref().is_none_or(|(name, value)| request.plex_value(name) == Some(value));
        path && user && argument
    }
}

/// The faults in force.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Vec<(Matcher, Fault)>,
}

impl Faults {
    /// From now on requests that match meet `fault`.
    pub fn add(&mut self, matcher: Matcher, fault: Fault) {
        self.rules.push((matcher, fault));
    }

    /// The server is well again.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// The faults of this request, in the order in which they were added; counts the request.
    pub(super) fn take(&mut self, request: &Request) -> Vec<Fault> {
        let mut taken = Vec::new();
        for (matcher, fault) in &mut self.rules {
            if !matcher.matches(request) {
                continue;
            }
            if matcher.skip > 0 {
                matcher.skip -= 1;
                continue;
            }
            match &mut matcher.times {
                Some(0) => continue,
                Some(times) => *times -= 1,
                None => {}
            }
            taken.push(fault.clone());
        }
        taken
    }
}

/// The reply of a fault that keeps the request from the server proper.
pub(super) fn instead_of_answer(faults: &[Fault], request: &Request) -> Option<Reply> {
    faults.iter().find_map(|fault| match fault {
        Fault::Status(status) => Some(Reply::error(*status, &request.path)),
        Fault::Maintenance => Some(Reply::new(
            503,
            "text/xml;charset=utf-8",
            b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response code=\"503\" title=\"Maintenance\" \
              status=\"Plex Media Server is currently running database migrations.\"/>\n"
                .to_vec(),
        )),
        Fault::TooManyRequests { retry_after } => {
            let mut reply = Reply::error(429, &request.path);
            reply.headers.extend(retry_after.map(|seconds| ("Retry-After", seconds.to_string())));
            Some(reply)
        }
        Fault::LoginPage => Some(Reply::new(
            200,
            "text/html; charset=utf-8",
            b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><form></form></body></html>".to_vec(),
        )),
        Fault::Says(body) => Some(Reply::new(200, "application/octet-stream", body.as_bytes().to_vec())),
        Fault::EmptyBody => Some(Reply::new(200, "text/html", Vec::new())),
        Fault::Redirect(base) => {
            let mut reply = Reply::new(302, "text/html", Vec::new());
            reply.headers.push(("Location", format!("{base}{}", request.target)));
            Some(reply)
        }
        _ => None,
    })
}

/// Spoils the bytes of a reply and says how it has to travel.
pub(super) fn spoil(faults: &[Fault], reply: &mut Reply) {
    for fault in faults {
        match fault {
            Fault::ByteOrderMark => drop(reply.body.splice(..0, *b"\xef\xbb\xbf")),
            Fault::Latin1 => {
                let text = String::from_utf8_lossy(&reply.body);
                reply.body = text.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap_or(b'?')).collect();
            }
            Fault::InvalidUtf8 => reply.body = into_titles(&reply.body, b"\xff"),
            Fault::ControlCharacters => reply.body = into_titles(&reply.body, b"\x01"),
            Fault::LoneSurrogates => reply.body = into_titles(&reply.body, b"\\ud800"),
            _ => reply.wire.extend(fault.wire()),
        }
    }
}

/// Puts `bytes` at the front of every title, in JSON and in XML.
fn into_titles(body: &[u8], bytes: &[u8]) -> Vec<u8> {
    let openings: [&[u8]; 2] = [b"\"title\":\"", b" title=\""];
    let mut spoilt = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(&first) = rest.first() {
        if let Some(opening) = openings.iter().find(|opening| rest.starts_with(opening)) {
            spoilt.extend_from_slice(opening);
            spoilt.extend_from_slice(bytes);
            rest = &rest[opening.len()..];
        } else {
            spoilt.push(first);
            rest = &rest[1..];
        }
    }
    spoilt
}
