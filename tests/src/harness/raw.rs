//! A connection on which the test writes raw bytes: split requests, incomplete bodies, pipelined requests.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::{RESPONSE_TIMEOUT, Reply};

/// One TCP connection to a gateway.
#[derive(Debug)]
pub struct Raw {
    socket: TcpStream,
    held: Vec<u8>,
}

/// How the end of an HTTP/1.1 body is determined.
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

// === impl Raw ===

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.expect("the gateway listens");
        socket.set_nodelay(true).expect("a socket");
        Self { socket, held: Vec::new() }
    }

    /// Writes these bytes. A connection that the gateway has already closed is not an error here; the response shows it.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.socket.write_all(bytes.as_ref()).await;
        let _ = self.socket.flush().await;
        self
    }

    /// Reads the next complete response; `None` if the connection ends first.
    pub async fn reply(&mut self) -> Option<Reply> {
        self.reply_within(RESPONSE_TIMEOUT).await
    }

    /// Like [`Raw::reply`], with a longer timeout.
    pub async fn reply_within(&mut self, timeout_after: Duration) -> Option<Reply> {
        timeout(timeout_after, self.read_reply()).await.expect("a response in time")
    }

    /// Reads up to and including these bytes; returns `false` if the connection ends first.
    pub async fn until(&mut self, what: &str) -> bool {
        loop {
            if let Some(at) = find(&self.held, what.as_bytes()) {
                self.held.drain(..at + what.len());
                return true;
            }
            let read = timeout(RESPONSE_TIMEOUT, self.socket.read_buf(&mut self.held)).await.expect("the response continues");
            if matches!(read, Ok(0) | Err(_)) {
                return false;
            }
        }
    }

    /// Closes the write side and reads the response, if any.
    pub async fn shut(mut self) -> Option<Reply> {
        let _ = self.socket.shutdown().await;
        self.reply().await
    }

    /// Waits until the gateway closes the connection, and returns what it sent.
    pub async fn closed(mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.held);
        let _ = timeout(RESPONSE_TIMEOUT, self.socket.read_to_end(&mut rest)).await.expect("the gate closes");
        rest
    }

    /// Closes the connection with a RST.
    pub fn reset(self) {
        let _ = self.socket.set_zero_linger();
    }

    async fn read_reply(&mut self) -> Option<Reply> {
        loop {
            if let Some((reply, length)) = parse_with_length(&self.held, false) {
                self.held.drain(..length);
                return Some(reply);
            }
            if matches!(self.socket.read_buf(&mut self.held).await, Ok(0) | Err(_)) {
                let (reply, _) = parse_with_length(&self.held, true)?;
                self.held.clear();
                return Some(reply);
            }
        }
    }
}

/// Parses one complete HTTP/1.1 response after which the connection was closed.
pub(crate) fn parse(bytes: &[u8]) -> Option<Reply> {
    parse_with_length(bytes, true).map(|(reply, _)| reply)
}

fn parse_with_length(bytes: &[u8], closed: bool) -> Option<(Reply, usize)> {
    let head_length = find(bytes, b"\r\n\r\n")? + 4;
    let (status, headers) = parse_head(&bytes[..head_length])?;
    if (100..200).contains(&status) {
        let (reply, length) = parse_with_length(&bytes[head_length..], closed)?;
        return Some((reply, head_length + length));
    }
    let rest = &bytes[head_length..];
    let (body, length, cut) = match framing(status, &headers) {
        Framing::Length(length) if rest.len() >= length => (rest[..length].to_vec(), length, false),
        Framing::Chunked if dechunk(rest).is_some() => {
            let (body, length) = dechunk(rest)?;
            (body, length, false)
        }
        Framing::UntilClose if closed => (rest.to_vec(), rest.len(), false),
        _ if closed => (rest.to_vec(), rest.len(), true),
        _ => return None,
    };
    let reply = Reply { status, headers, body: Bytes::from(body), trailers: None, cut };
    Some((reply, head_length + length))
}

fn parse_head(head: &[u8]) -> Option<(u16, HeaderMap)> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let status = std::str::from_utf8(lines.next()?).ok()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = HeaderMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = find(line, b":")?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    Some((status, headers))
}

fn framing(status: u16, headers: &HeaderMap) -> Framing {
    if status == 204 || status == 304 {
        return Framing::Length(0);
    }
    if headers.get("transfer-encoding").is_some() {
        return Framing::Chunked;
    }
    let length = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    length.map_or(Framing::UntilClose, Framing::Length)
}

/// Decodes a chunked body; returns it and its encoded length once the last chunk is complete.
pub(crate) fn dechunk(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = find(bytes.get(at..)?, b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        at += line + 2;
        if size == 0 {
            let end = find(bytes.get(at - 2..)?, b"\r\n\r\n")?;
            return Some((body, at + end + 2));
        }
        body.extend_from_slice(bytes.get(at..at + size)?);
        at += size + 2;
    }
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
