//! HTTP/1.1 as Plex speaks it: a listener on the loopback address and a thread per connection.
//!
//! Owns sockets, keep-alive, gzip, chunks and the ways in which a connection can fail ([`Wire`]). It
//! knows nothing of Plex's content: a handler turns each [`Request`] into a [`Reply`]. Requests larger
//! than [`HEAD_LIMIT`] and [`BODY_LIMIT`] or with a chunked body are hung up on. After
//! [`Server`] is dropped no thread of it runs.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::locked;

const HEAD_LIMIT: usize = 64 << 10;
const BODY_LIMIT: usize = 1 << 20;
const CONNECTION_LIMIT: usize = 256;
/// What the `Keep-Alive` header promises.
const IDLE: Duration = Duration::from_secs(20);
/// The longest that a reply waits for a client that does not read.
const STALL: Duration = Duration::from_secs(120);

/// A request as it came, and who sent it.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// Path, percent-decoded, without the query.
    pub path: String,
    /// Query pairs in order, decoded. `a>>=1` is the pair (`a>>`, `1`), as Plex reads it.
    pub query: Vec<(String, String)>,
    /// Header fields in order, as sent.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Name of the user whose token came along; `None` without or with an unknown token.
    pub user: Option<String>,
}

impl Request {
    /// The first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The first query argument of that name.
    pub fn arg(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// An `X-Plex-…` value, which may be a header or an argument.
    pub fn plex_value(&self, name: &str) -> Option<&str> {
        self.header(name).or_else(|| self.arg(name))
    }

    /// Whether an argument like `unwatched=1` is set.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.arg(name) == Some("1")
    }

    fn wants(&self, header: &str, word: &str) -> bool {
        self.header(header).is_some_and(|value| value.to_ascii_lowercase().contains(word))
    }

    pub(super) fn wants_json(&self) -> bool {
        self.wants("Accept", "application/json")
    }

    /// Reads the head of a request, without the empty line, and the length of its body.
    fn parse(head: &[u8]) -> Option<(Self, usize)> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n");
        let mut start = lines.next()?.split(' ');
        let (method, target) = (start.next()?, start.next()?);
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        let request = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            path: decode(path),
            query: query.collect(),
            headers,
            body: Vec::new(),
            user: None,
        };
        if request.header("Transfer-Encoding").is_some() {
            return None;
        }
        let length = request.header("Content-Length").map_or(Some(0), |length| length.parse().ok())?;
        (length <= BODY_LIMIT).then_some((request, length))
    }
}

/// Percent-decoding; what is not a valid escape stays as it is, and `+` is a plus as in a path.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%').then(|| tail.get(..2)).flatten();
        let value = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(value.unwrap_or(first));
        rest = if value.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How a reply travels, when not in the usual way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// The reply waits this long.
    Delay(Duration),
    /// The request is read and nothing is ever said.
    Hang,
    /// The connection is reset before a byte of the reply.
    Reset,
    /// Half of the body, then the connection is closed.
    Truncate,
    /// `Transfer-Encoding: chunked` in place of a length.
    Chunked,
    /// The reply promises to keep the connection, which is closed all the same.
    Close,
}

/// What the handler wants said.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    pub(super) wire: Vec<Wire>,
}

impl Reply {
    pub(super) fn new(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        Self { status, headers: vec![("Content-Type", content_type.to_owned())], body, wire: Vec::new() }
    }

    /// Plex's error page: the same HTML whatever was asked for. A browser that opens `/` without a
    /// token is sent on to the web client.
    pub(super) fn error(status: u16, path: &str) -> Self {
        let reason = reason(status);
        let script = if status == 401 && path == "/" {
            "<script>window.location = window.location.href + 'web/index.html';</script>"
        } else {
            ""
        };
        let page =
            format!("<html><head>{script}<title>{reason}</title></head><body><h1>{status} {reason}</h1></body></html>");
        Self::new(status, "text/html", page.into_bytes())
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

type Handler = Box<dyn Fn(Request) -> Reply + Send + Sync>;

/// The listener and all threads of its connections.
pub(super) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    handler: Handler,
    connections: Mutex<Connections>,
    stopped: Condvar,
}

#[derive(Default)]
struct Connections {
    stopping: bool,
    next: u64,
    /// A second handle of every open socket, by which the server can end a blocked read or write.
    open: HashMap<u64, TcpStream>,
}

impl Server {
    pub(super) fn start(handler: Handler) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback address has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { handler, connections: Mutex::default(), stopped: Condvar::new() });
        let acceptor = Some(thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        }));
        Self { address, shared, acceptor }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        {
            let mut connections = locked(&self.shared.connections);
            connections.stopping = true;
            for stream in connections.open.values() {
                // A client that is gone already is as good as one that is shut out.
                drop(stream.shutdown(Shutdown::Both));
            }
        }
        self.shared.stopped.notify_all();
        // The acceptor sits in `accept`; any connection wakes it.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let accepted = listener.accept().and_then(|(stream, _)| Ok((stream.try_clone()?, stream)));
        threads.retain(|thread| !thread.is_finished());
        let (id, stream) = {
            let mut connections = locked(&shared.connections);
            if connections.stopping {
                break;
            }
            let Ok((second, stream)) = accepted else { continue };
            if connections.open.len() == CONNECTION_LIMIT {
                continue;
            }
            connections.next += 1;
            let id = connections.next;
            connections.open.insert(id, second);
            (id, stream)
        };
        let shared = Arc::clone(shared);
        threads.push(thread::spawn(move || {
            // A client that hangs up in the middle is its own affair.
            drop(shared.serve(&stream));
            // The second handle goes first: the socket closes, or resets, with `stream`.
            drop(locked(&shared.connections).open.remove(&id));
        }));
    }
    for thread in threads {
        drop(thread.join());
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(STALL))?;
        loop {
            stream.set_read_timeout(Some(IDLE))?;
            let Some(head) = wait_for_head(stream)? else { return Ok(()) };
            let Some((mut request, body)) = Request::parse(&head[..head.len() - 4]) else { return Ok(()) };
            // The last byte stays in the socket: closing a socket with unread bytes resets it.
            let mut message = vec![0; head.len() + body];
            let last = message.len() - 1;
            let mut input = stream;
            input.read_exact(&mut message[..last])?;
            stream.peek(&mut message[last..])?;
            request.body = message.split_off(head.len());

            let head_only = request.method == "HEAD";
            let gzip = request.wants("Accept-Encoding", "gzip");
            let wants_close = request.wants("Connection", "close");
            let reply = (self.handler)(request);
            let faulty = |wire: Wire| reply.wire.contains(&wire);
            for wire in &reply.wire {
                if let Wire::Delay(time) = wire {
                    self.wait(*time);
                }
            }
            if faulty(Wire::Reset) {
                return Ok(());
            }
            input.read_exact(&mut [0])?;
            if faulty(Wire::Hang) {
                // Ends when the client gives up or the server stops.
                stream.set_read_timeout(None)?;
                io::copy(&mut input, &mut io::sink())?;
                return Ok(());
            }
            let close = wants_close || reply.status == 401;
            send(stream, &reply, head_only, gzip, close)?;
            if close || faulty(Wire::Close) || faulty(Wire::Truncate) {
                return Ok(());
            }
        }
    }

    /// Waits, but no longer than until the server stops.
    fn wait(&self, time: Duration) {
        let connections = locked(&self.connections);
        drop(self.stopped.wait_timeout_while(connections, time, |connections| !connections.stopping));
    }
}

/// The bytes of the next head up to and with its empty line, still unread; `None` when there is none.
fn wait_for_head(stream: &TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; HEAD_LIMIT];
    let deadline = Instant::now() + IDLE;
    loop {
        let count = match stream.peek(&mut buffer) {
            Ok(0) => return Ok(None),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Ok(count) => count,
            Err(error) => return Err(error),
        };
        if let Some(end) = buffer[..count].windows(4).position(|window| window == b"\r\n\r\n") {
            buffer.truncate(end + 4);
            return Ok(Some(buffer));
        }
        if count == HEAD_LIMIT || Instant::now() > deadline {
            return Ok(None);
        }
        // A head in several segments: the bytes stay unread, so the socket cannot wake us for the rest.
        thread::sleep(Duration::from_millis(1));
    }
}

fn send(mut stream: &TcpStream, reply: &Reply, head_only: bool, gzip: bool, close: bool) -> io::Result<()> {
    let gzip = gzip && reply.status == 200 && !reply.body.is_empty();
    let packed;
    let body = if gzip {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&reply.body)?;
        packed = encoder.finish()?;
        &packed
    } else {
        &reply.body
    };
    let truncate = reply.wire.contains(&Wire::Truncate);
    let chunked = reply.wire.contains(&Wire::Chunked);

    let mut head = format!("HTTP/1.1 {} {}\r\nX-Plex-Protocol: 1.0\r\n", reply.status, reason(reply.status));
    let mut field = |name: &str, value: &str| {
        for text in [name, ": ", value, "\r\n"] {
            head.push_str(text);
        }
    };
    for (name, value) in &reply.headers {
        field(name, value);
    }
    if gzip {
        field("Content-Encoding", "gzip");
    }
    if chunked {
        field("Transfer-Encoding", "chunked");
    } else {
        // A body that is cut short must have promised at least one byte.
        field("Content-Length", &body.len().max(usize::from(truncate)).to_string());
    }
    if close {
        field("Connection", "close");
    } else {
        field("Connection", "Keep-Alive");
        field("Keep-Alive", &format!("timeout={}", IDLE.as_secs()));
    }
    field("Cache-Control", "no-cache");
    head.push_str("\r\n");

    let mut message = head.into_bytes();
    if !head_only {
        let shown = if truncate { &body[..body.len() / 2] } else { &body[..] };
        if chunked {
            for chunk in shown.chunks(8 << 10) {
                write!(message, "{:x}\r\n", chunk.len())?;
                message.extend_from_slice(chunk);
                message.extend_from_slice(b"\r\n");
            }
            if !truncate {
                message.extend_from_slice(b"0\r\n\r\n");
            }
        } else {
            message.extend_from_slice(shown);
        }
    }
    stream.write_all(&message)?;
    stream.flush()
}
