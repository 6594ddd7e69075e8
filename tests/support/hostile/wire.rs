//! As much of HTTP/1.1 as a server needs that answers once and hangs up, and that may stop in the middle.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write;
use std::io;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;

/// A request that has been read to its end.
pub struct Request {
    /// The HTTP method.
    pub method: String,
    /// The path, without its query.
    pub path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

/// An answer, whole or in part.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// By name.
    pub headers: Vec<(&'static str, String)>,
    /// What the client may read.
    pub body: String,
}

impl Request {
    /// Reads one request whose body, if any, says how long it is.
    pub async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Self> {
        let head = read_head(stream).await?;
        let (line, headers) = head.split_once("\r\n").ok_or(io::ErrorKind::InvalidData)?;
        let headers: HashMap<_, _> = headers
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        let (method, target) = line.split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
        let path = target.split([' ', '?']).next().unwrap_or_default();
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        Ok(Self { method: method.to_owned(), path: path.to_owned(), headers, body })
    }

    /// The credentials it came with, scheme and all.
    pub fn authorization(&self) -> Option<&str> {
        self.headers.get("authorization").map(String::as_str)
    }

    /// Its body, if that is a JSON object, or else an empty one.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).ok().filter(Value::is_object).unwrap_or_else(|| json!({}))
    }
}

async fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

impl Answer {
    /// An answer in JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self { body: body.to_string(), ..Self::empty(status) }.with("Content-Type", "application/json")
    }

    /// An answer that says nothing.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: vec![], body: String::new() }
    }

    /// With this header, instead of one of that name.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(existing, _)| *existing != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// With more text behind its body.
    pub fn followed_by(mut self, text: &str) -> Self {
        self.body.push_str(text);
        self
    }

    /// With another value for a member of its JSON body.
    pub fn replacing(self, member: &str, value: Value) -> Self {
        self.changed(|body| body[member] = value)
    }

    /// Without a member of its JSON body.
    pub fn without(self, member: &str) -> Self {
        self.changed(|body| drop(body.as_object_mut().and_then(|body| body.remove(member))))
    }

    /// All that goes over the wire.
    pub fn whole(&self) -> Vec<u8> {
        let mut text = self.head();
        text.push_str(&self.body);
        text.into_bytes()
    }

    /// The headers promise more than ever comes.
    pub fn up_to_the_bodys_middle(&self) -> Vec<u8> {
        let mut bytes = self.whole();
        bytes.truncate(bytes.len() - self.body.len() / 4);
        bytes
    }

    /// Not even the headers come to an end.
    pub fn up_to_the_headers_middle(&self) -> Vec<u8> {
        let head = self.head();
        head.as_bytes()[..head.len() / 2].to_owned()
    }

    fn head(&self) -> String {
        let length = self.body.len();
        let mut head =
            format!("HTTP/1.1 {} So\r\nContent-Length: {length}\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        head
    }

    fn changed(mut self, change: impl FnOnce(&mut Value)) -> Self {
        let mut body = serde_json::from_str(&self.body).unwrap_or_else(|_| json!({}));
        change(&mut body);
        self.body = body.to_string();
        self
    }
}
