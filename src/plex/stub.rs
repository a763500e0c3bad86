//! A server for the tests of this module: one closure that answers raw HTTP.
//!
//! Owns the socket and the record of what was asked. Knows nothing of Plex; what it says is up to
//! the test.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::client::{Answer, Client, Get};
use super::{PlexError, PlexServer, ServerOptions};
use crate::secret::Secret;

/// The token of every test; it must never be seen.
pub(super) const TOKEN: &str = "s3cret-T0ken";

/// One request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Path and query.
    pub(super) target: String,
    /// The header lines, names in lower case.
    pub(super) headers: Vec<(String, String)>,
    /// Which connection it came on, from 0.
    pub(super) connection: usize,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first row that is asked for.
    pub(super) fn start(&self) -> usize {
        self.header("x-plex-container-start").map_or(0, |start| start.parse().unwrap())
    }
}

/// A listening server that answers until the test ends.
pub(super) struct Stub {
    pub(super) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Stub {
    /// Answers every request with the bytes that `answer` makes of it and of the number of requests
    /// before it. No bytes: the connection is closed.
    pub(super) fn new(answer: impl Fn(&Request, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || serve(&stream.unwrap(), connection, &seen, &*answer));
            }
        });
        Self { url, requests }
    }

    /// Everything that was asked so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn targets(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.target).collect()
    }

    /// Options with which nothing waits noticeably.
    pub(super) fn options(&self) -> ServerOptions {
        ServerOptions {
            backoff: Duration::from_micros(100),
            page_size: 2,
            client_id: "a-client".to_owned(),
            ..ServerOptions::new(&self.url, token())
        }
    }

    pub(super) fn client(&self) -> Client {
        Client::new(&self.options()).unwrap()
    }

    pub(super) fn server(&self) -> PlexServer {
        PlexServer::new(self.options()).unwrap()
    }
}

pub(super) fn token() -> Secret {
    Secret::new(TOKEN)
}

/// A whole answer.
pub(super) fn reply(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status} Text\r\nContent-Length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// An answer with these fields of a container.
pub(super) fn container(fields: &str) -> Vec<u8> {
    reply(200, "Content-Type: application/json\r\n", format!(r#"{{"MediaContainer":{{{fields}}}}}"#))
}

/// A call as good as any.
pub(super) fn get(client: &Client) -> Result<Answer, PlexError> {
    client.get(&Get::new("/library/sections", Some(&token())))
}

/// An answer without rows.
pub(super) const EMPTY: &str = r#"{"MediaContainer":{"size":0}}"#;

/// How a call ends that is answered with `answers` in turn, and how many requests it took.
pub(super) fn outcome(answers: &[Vec<u8>]) -> (Result<Answer, PlexError>, usize) {
    let answers = answers.to_vec();
    let stub = Stub::new(move |_, number| answers.get(number).or(answers.last()).unwrap().clone());
    let client = stub.client();
    let outcome = get(&client);
    assert_eq!(client.request_count(), stub.requests().len() as u64);
    (outcome, stub.requests().len())
}

fn serve(
    stream: &TcpStream,
    connection: usize,
    seen: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&Request, usize) -> Vec<u8>,
) {
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(first)) = lines.next() {
        let target = first.split(' ').nth(1).unwrap().to_owned();
        let mut headers = Vec::new();
        while let Some(Ok(line)) = lines.next() {
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let request = Request { target, headers, connection };
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        let bytes = answer(&request, number);
        let whole = bytes.windows(4).position(|end| end == b"\r\n\r\n").is_some_and(|end| {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            length == Some(bytes.len() - end - 4)
        });
        if { stream }.write_all(&bytes).is_err() || !whole {
            return;
        }
    }
}
