//! HTTP to the Plex server and to the services of plex.tv: one call, asked patiently, with the token
//! where only the other side sees it.
//!
//! Owns the connections and the limits of time and size. The token travels as a header, never in a
//! URL; no redirect is followed, because the token would follow it; no proxy of the environment is
//! used for the server, because one at home is not behind one. A token that the server no longer
//! accepts is replaced once, when somebody is there who can ([`Client::renew_with`]). Refuses to take
//! for an answer what is not one: every way in which a call can end without one is a [`PlexError`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::PlexError;
use super::address::Base;
use super::failure::{Asked, Failure, number};
use super::json::Container;
use super::server::ServerOptions;
use crate::secret::Secret;

/// Bytes of a decoded answer. The largest listings seen have tens of megabytes when they are not paged.
const MAX_BODY: u64 = 256 << 20;
/// The same of a service that is not the server: its pages are short, and a tree takes many times its text.
const MAX_OUTSIDE_BODY: u64 = 4 << 20;
/// Bytes that are read of the body of an error.
const MAX_ERROR_BODY: u64 = 64 << 10;
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Plex closes idle connections after 20 seconds (`Keep-Alive: timeout=20`).
const MAX_IDLE: Duration = Duration::from_secs(15);
/// Tries of one call.
pub(super) const TRIES: u32 = 3;

/// Gives a new token for one that was not accepted, where it can.
pub(crate) type Renew = Box<dyn Fn(&Secret) -> Option<Secret> + Send + Sync>;

/// One call.
#[derive(Clone)]
pub(super) struct Get<'a> {
    /// Below the base URL, with a leading slash, percent-encoded.
    pub(super) path: String,
    /// Without `?`, percent-encoded; may be empty.
    pub(super) query: String,
    pub(super) token: Option<&'a Secret>,
    /// The first row and the number of rows that are wanted.
    pub(super) page: Option<(u64, u64)>,
    pub(super) tries: u32,
    /// JSON that is sent; it makes the call a POST. May be empty.
    pub(super) post: Option<String>,
    /// How errors and the log name it where the path is nobody's business.
    pub(super) label: Option<String>,
}

impl<'a> Get<'a> {
    pub(super) fn new(path: impl Into<String>, token: Option<&'a Secret>) -> Self {
        Self { path: path.into(), query: String::new(), token, page: None, tries: TRIES, post: None, label: None }
    }

    /// How errors name it.
    pub(super) fn endpoint(&self) -> String {
        if let Some(label) = &self.label {
            return label.clone();
        }
        match self.path.char_indices().nth(80) {
            Some((end, _)) => format!("{}…", &self.path[..end]),
            None => self.path.clone(),
        }
    }
}

/// What a call brought.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) container: Container,
    /// How many rows the whole listing has, where the server says so.
    pub(super) total: Option<u64>,
}

/// A keep-alive connection pool to one server, shared by threads.
pub(super) struct Client {
    agent: ureq::Agent,
    base: Base,
    headers: HeaderMap,
    max_body: u64,
    timeout: Duration,
    backoff: Duration,
    /// Whether anything ever came back.
    answered: AtomicBool,
    requests: AtomicU64,
    renewals: Mutex<Renewals>,
}

/// Tokens that were replaced, and by which; `None` where there is no other. Each is asked for once.
#[derive(Default)]
struct Renewals {
    renew: Option<Renew>,
    replaced: BTreeMap<Secret, Option<Secret>>,
}

impl Client {
    /// Prepares to talk to the server of `options`; sends nothing.
    ///
    /// # Errors
    /// The URL, a header or the CA file cannot be used.
    pub(super) fn new(options: &ServerOptions) -> Result<Self, PlexError> {
        Self::build(options, None, MAX_BODY)
    }

    /// The same for a service that is not the server: behind the proxy of the environment, should
    /// there be one, and with the usual certificates.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub(super) fn outside(options: &ServerOptions) -> Result<Self, PlexError> {
        Self::build(options, ureq::Proxy::try_from_env(), MAX_OUTSIDE_BODY)
    }

    fn build(options: &ServerOptions, proxy: Option<ureq::Proxy>, max_body: u64) -> Result<Self, PlexError> {
        let base = Base::parse(&options.url)?;
        let mut tls = TlsConfig::builder().disable_verification(options.insecure_tls);
        if let Some(file) = &options.ca_file {
            tls = tls.root_certs(read_roots(file)?);
        }
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (header::ACCEPT, "application/json"),
            (header::USER_AGENT, &format!("plexcache/{}", options.version)),
            (HeaderName::from_static("x-plex-product"), "plexcache"),
            (HeaderName::from_static("x-plex-version"), &options.version),
            (HeaderName::from_static("x-plex-client-identifier"), &options.client_id),
        ] {
            let ascii: String = value.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
            headers.insert(name, HeaderValue::from_str(&ascii).expect("printable ASCII is a header value"));
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy)
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(options.timeout))
            .max_idle_age(MAX_IDLE)
            .max_idle_connections_per_host(8)
            .tls_config(tls.build())
            .build()
            .new_agent();
        Ok(Self {
            agent,
            base,
            headers,
            max_body,
            timeout: options.timeout,
            backoff: options.backoff,
            answered: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            renewals: Mutex::default(),
        })
    }

    /// From now on asks `renew` for another token when one is not accepted.
    pub(super) fn renew_with(&self, renew: Renew) {
        self.renewals().renew = Some(renew);
    }

    fn renewals(&self) -> std::sync::MutexGuard<'_, Renewals> {
        self.renewals.lock().expect("nothing panics while it holds the tokens")
    }

    /// The token that stands for `token` by now.
    fn current(&self, token: &Secret) -> Secret {
        self.renewals().replaced.get(token).cloned().flatten().unwrap_or_else(|| token.clone())
    }

    /// Another token than `rejected`, which stood for `token`. Other threads wait meanwhile: they would
    /// ask for the same.
    fn renewed(&self, token: &Secret, rejected: &Secret) -> Option<Secret> {
        let mut renewals = self.renewals();
        if !renewals.replaced.contains_key(token) {
            let new = renewals.renew.as_ref().and_then(|renew| renew(token));
            renewals.replaced.insert(token.clone(), new);
        }
        renewals.replaced[token].clone().filter(|new| new != rejected)
    }

    /// How many requests were sent, retries among them.
    pub(super) fn request_count(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Asks until there is an answer or no point in asking again.
    ///
    /// # Errors
    /// How the last try failed.
    pub(super) fn get(&self, call: &Get<'_>) -> Result<Answer, PlexError> {
        let Some(token) = call.token else { return self.container(call) };
        let current = self.current(token);
        match self.container(&Get { token: Some(&current), ..call.clone() }) {
            Err(error @ PlexError::Unauthorized { .. }) => match self.renewed(token, &current) {
                Some(new) => self.container(&Get { token: Some(&new), ..call.clone() }),
                None => Err(error),
            },
            outcome => outcome,
        }
    }

    fn container(&self, call: &Get<'_>) -> Result<Answer, PlexError> {
        self.patiently(call, |headers, body| {
            let container = Container::decode(body).map_err(|why| self.asked(call).undecodable(why))?;
            let total = container.total().or_else(|| number(headers.get("x-plex-container-total-size")));
            Ok(Answer { container, total })
        })
    }

    /// The same for an answer that is no container: its bytes.
    ///
    /// # Errors
    /// How the last try failed.
    pub(super) fn fetch(&self, call: &Get<'_>) -> Result<Vec<u8>, PlexError> {
        self.patiently(call, |_, body| Ok(body.to_vec()))
    }

    fn patiently<T>(
        &self,
        call: &Get<'_>,
        read: impl Fn(&HeaderMap, &[u8]) -> Result<T, Failure>,
    ) -> Result<T, PlexError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let failure = match self.once(call, tried).and_then(|(headers, body)| read(&headers, &body)) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let answered = self.answered.load(Ordering::Relaxed);
            match failure.pause(tried, call.tries, answered) {
                Some(units) => std::thread::sleep(self.backoff.mul_f64(units)),
                None => return Err(failure.error),
            }
        }
    }

    fn once(&self, call: &Get<'_>, tried: u32) -> Result<(HeaderMap, Vec<u8>), Failure> {
        let started = Instant::now();
        let sent = self.send(call);
        let (status, bytes) = match &sent {
            Ok((status, _, body)) => (status.as_u16(), body.len()),
            Err(_) => (0, 0),
        };
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let method = if call.post.is_some() { "POST" } else { "GET" };
        tracing::debug!(method, path = call.endpoint(), status, bytes, ms, tried, "plex");
        let (status, headers, body) = sent?;
        self.answered.store(true, Ordering::Relaxed);
        match status {
            StatusCode::OK => Ok((headers, body)),
            // What was asked for was made: a token.
            StatusCode::CREATED if call.post.is_some() => Ok((headers, body)),
            _ => Err(self.asked(call).refused(status, &headers, &body)),
        }
    }

    pub(super) fn asked<'a>(&'a self, call: &'a Get<'a>) -> Asked<'a> {
        Asked { base: &self.base, timeout: self.timeout, call }
    }

    fn send(&self, call: &Get<'_>) -> Result<(StatusCode, HeaderMap, Vec<u8>), Failure> {
        let mark = if call.query.is_empty() { "" } else { "?" };
        let url = format!("{}{}{}{mark}{}", self.base.origin, self.base.prefix, call.path, call.query);
        let mut headers = self.headers.clone();
        if let Some(token) = call.token {
            headers.insert("x-plex-token", token_header(token)?);
        }
        if let Some((start, size)) = call.page {
            // Both or neither: a size without a start is ignored.
            headers.insert("x-plex-container-start", start.into());
            headers.insert("x-plex-container-size", size.into());
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let sent = if let Some(body) = &call.post {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            with_headers(self.agent.post(url), &headers).send(body.as_str())
        } else {
            with_headers(self.agent.get(url), &headers).call()
        };
        let mut response = sent.map_err(|error| self.asked(call).broken(error))?;
        let status = response.status();
        let limit = if status.is_success() { self.max_body } else { MAX_ERROR_BODY };
        let body = match response.body_mut().with_config().limit(limit).read_to_vec() {
            Ok(body) => body,
            // The status says enough.
            Err(_) if !status.is_success() => Vec::new(),
            Err(error) => return Err(self.asked(call).broken(error)),
        };
        Ok((status, response.into_parts().0.headers, body))
    }
}

fn with_headers<B>(mut request: ureq::RequestBuilder<B>, headers: &HeaderMap) -> ureq::RequestBuilder<B> {
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request
}

/// The token as a header, marked so that nobody logs it.
fn token_header(token: &Secret) -> Result<HeaderValue, Failure> {
    let text = token.expose();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let what = "the Plex token is empty or holds characters that no token has".to_owned();
        return Err(Failure::last(PlexError::Config { what, hint: "copy the token again, without quotes" }));
    }
    let mut value = HeaderValue::from_str(text).expect("printable ASCII is a header value");
    value.set_sensitive(true);
    Ok(value)
}

/// The authorities in `file`, which then are the only ones that are trusted.
fn read_roots(file: &Path) -> Result<RootCerts, PlexError> {
    let wrong = |what: String| PlexError::Config {
        what: format!("plex.ca_file {}: {what}", file.display()),
        hint: "it must hold the PEM certificate of the authority that signed the server's",
    };
    let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let mut roots: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(error.to_string()))? {
            roots.push(certificate);
        }
    }
    if roots.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    Ok(RootCerts::from(roots))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::stub::{EMPTY, Stub, TOKEN, container, get, outcome, reply, token};
    use super::*;

    #[test]
    fn a_request_says_who_asks_and_keeps_the_token_out_of_the_url() {
        let stub = Stub::new(|_, _| container(r#""size":0"#));
        let options = ServerOptions {
            url: format!("{}/plex/", stub.url),
            client_id: "caf\u{e9}\r\n 7".to_owned(),
            version: "1.2.3".to_owned(),
            ..stub.options()
        };
        let token = token();
        let mut call = Get::new("/library/all", Some(&token));
        "type=4".clone_into(&mut call.query);
        call.page = Some((20, 10));
        Client::new(&options).unwrap().get(&call).unwrap();
        let request = stub.requests().remove(0);
        assert_eq!(request.target, "/plex/library/all?type=4");
        for (name, value) in [
            ("x-plex-token", TOKEN),
            ("accept", "application/json"),
            ("accept-encoding", "gzip"),
            ("user-agent", "plexcache/1.2.3"),
            ("x-plex-product", "plexcache"),
            ("x-plex-version", "1.2.3"),
            ("x-plex-client-identifier", "caf 7"),
            ("x-plex-container-start", "20"),
            ("x-plex-container-size", "10"),
        ] {
            assert_eq!(request.header(name), Some(value), "{name}");
        }
    }

    #[test]
    fn threads_share_the_connections() {
        let stub = Stub::new(|_, _| container(r#""size":0"#));
        let client = stub.client();
        for _ in 0..5 {
            get(&client).unwrap();
        }
        assert!(stub.requests().iter().all(|request| request.connection == 0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| get(&client).unwrap());
            }
        });
        assert_eq!(client.request_count(), 9);
    }

    #[test]
    fn a_total_is_also_taken_from_the_header() {
        let answer = reply(200, "X-Plex-Container-Total-Size: 7\r\n", EMPTY);
        assert_eq!(outcome(&[answer]).0.unwrap().total, Some(7));
        assert_eq!(outcome(&[container(r#""totalSize":"3""#)]).0.unwrap().total, Some(3));
    }

    #[test]
    fn gzip_and_chunks_are_decoded() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(EMPTY.as_bytes()).unwrap();
        let gzip = reply(200, "Content-Encoding: gzip\r\n", gzip.finish().unwrap());
        assert!(outcome(std::slice::from_ref(&gzip)).0.is_ok());
        let (head, tail) = EMPTY.split_at(9);
        let chunked =
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{head}\r\n14\r\n{tail}\r\n0\r\n\r\n");
        assert!(outcome(&[chunked.into_bytes()]).0.is_ok());
        let end = gzip.len() - 12;
        let cut = reply(
            200,
            "Content-Encoding: gzip\r\n",
            &gzip[gzip.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4..end],
        );
        let (error, tries) = outcome(&[cut]);
        assert!(error.unwrap_err().to_string().contains("/library/sections"));
        assert_eq!(tries, 3);
    }

    #[test]
    fn a_ca_file_without_a_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = tempfile::NamedTempFile::new_in(&folder).unwrap();
        file.write_all(b"no certificate").unwrap();
        for path in [file.path().to_owned(), folder.path().join("absent")] {
            let options = ServerOptions { ca_file: Some(path), ..ServerOptions::new("https://plex", token()) };
            assert!(matches!(Client::new(&options), Err(PlexError::Config { .. })));
        }
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_not_shown() {
        let stub = Stub::new(|_, _| container(""));
        for bad in ["", "s3cret-T0ken\u{e9}", "s3cret-T0ken\r\nX-Evil: 1", "\"s3cret T0ken\""] {
            let error = stub.client().get(&Get::new("/", Some(&Secret::new(bad)))).unwrap_err();
            assert!(matches!(error, PlexError::Config { .. }));
            assert!(!format!("{error} {error:?}").contains("T0ken"));
        }
        assert!(stub.requests().is_empty());
    }
}
