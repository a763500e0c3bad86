//! The smallest HTTP client that can see what a server really sends.
//!
//! Owns one kept connection and its replies, headers and bytes included; undoes chunks and gzip and
//! nothing else. It follows, repeats and forgives nothing, so a test sees every error as it happens.
#![allow(dead_code, unreachable_pub, reason = "each target that includes this uses its own part of it")]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use flate2::read::GzDecoder;
use serde_json::Value;

/// A reply as it came over the wire, chunks and gzip undone.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        let all: Value = serde_json::from_slice(&self.body).unwrap();
        all["MediaContainer"].clone()
    }

    /// The named value of every row.
    pub fn column(&self, name: &str) -> Vec<Value> {
        self.json()["Metadata"].as_array().into_iter().flatten().map(|row| row[name].clone()).collect()
    }

    pub fn titles(&self) -> Vec<String> {
        self.column("title").iter().map(|title| title.as_str().unwrap().to_owned()).collect()
    }
}

/// A connection that is kept over several requests.
pub struct Client(pub TcpStream);

impl Client {
    pub fn to(url: &str) -> Self {
        let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(stream)
    }

    pub fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: plex\r\n");
        for (name, value) in headers {
            for piece in [name, ": ", value, "\r\n"] {
                request.push_str(piece);
            }
        }
        self.0.write_all(format!("{request}\r\n").as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if method == "HEAD" {
            return Ok(answer);
        }
        if answer.header("Transfer-Encoding") == Some("chunked") {
            loop {
                let mut line = Vec::new();
                while !line.ends_with(b"\r\n") {
                    let mut byte = [0];
                    self.0.read_exact(&mut byte)?;
                    line.push(byte[0]);
                }
                let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
                let mut chunk = vec![0; size + 2];
                self.0.read_exact(&mut chunk)?;
                answer.body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    break;
                }
            }
        } else {
            answer.body = vec![0; answer.header("Content-Length").unwrap().parse().unwrap()];
            self.0.read_exact(&mut answer.body)?;
        }
        if answer.header("Content-Encoding") == Some("gzip") {
            let mut plain = Vec::new();
            GzDecoder::new(&answer.body[..]).read_to_end(&mut plain)?;
            answer.body = plain;
        }
        Ok(answer)
    }
}
