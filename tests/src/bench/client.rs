//! A keep-alive connection that writes prepared requests and reads responses with little CPU time.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const BUFFER: usize = 64 * 1024;

/// A connection.
pub(super) struct Client {
    socket: TcpStream,
    input: BytesMut,
    answer: Answer,
}

/// The last response on a connection.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The lines of the head.
    pub(super) head: Vec<u8>,
    /// The body without its framing.
    pub(super) body: Vec<u8>,
    /// The number of chunks of the body. Envoy writes one chunk per buffer that its filters pass on.
    pub(super) chunks: u64,
}

enum Framing {
    Length(usize),
    Chunked,
}

// === impl Client ===

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, input: BytesMut::with_capacity(BUFFER), answer: Answer::default() })
    }

    /// Opens several connections to one address.
    pub(super) async fn connect_all(address: SocketAddr, connections: usize) -> Result<Vec<Self>> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(Self::connect(address).await?);
        }
        Ok(clients)
    }

    /// Sends a request and reads the complete response, which must be a 200.
    pub(super) async fn send(&mut self, request: &[u8]) -> Result<&Answer> {
        let answer = self.exchange(request).await?;
        if answer.status() != 200 {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            bail!("not a 200: {}{}", text(&answer.head), text(&answer.body));
        }
        Ok(answer)
    }

    /// Sends a request and reads the complete response of any status. After a cancelled call, [`Self::last_answer`] returns what
    /// was received.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<&Answer> {
        self.answer.head.clear();
        self.answer.body.clear();
        self.answer.chunks = 0;
        self.socket.write_all(request).await?;
        match self.head().await? {
            Framing::Length(length) => self.take(length).await?,
            Framing::Chunked => self.chunks().await?,
        }
        ensure!(self.input.is_empty(), "{} bytes follow the answer", self.input.len());
        Ok(&self.answer)
    }

    /// Returns the response as far as it was received.
    pub(super) fn last_answer(&self) -> &Answer {
        &self.answer
    }

    async fn head(&mut self) -> Result<Framing> {
        let mut framing = None;
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return framing.context("an answer without a length");
            }
            if let Some(length) = line.strip_prefix(b"content-length: ") {
                framing = Some(Framing::Length(std::str::from_utf8(length)?.parse()?));
            } else if &*line == b"transfer-encoding: chunked" {
                framing = Some(Framing::Chunked);
            }
            self.answer.head.extend_from_slice(&line);
            self.answer.head.push(b'\n');
        }
    }

    async fn chunks(&mut self) -> Result<()> {
        loop {
            let line = self.line().await?;
            let size = usize::from_str_radix(std::str::from_utf8(&line)?, 16).context("a chunk's size")?;
            self.take(size).await?;
            ensure!(self.line().await?.is_empty(), "a chunk is longer than it says");
            if size == 0 {
                return Ok(());
            }
            self.answer.chunks += 1;
        }
    }

    /// Returns the next line, without its line end.
    async fn line(&mut self) -> Result<BytesMut> {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let mut line = self.input.split_to(end + 1);
                line.truncate(end.saturating_sub(1));
                return Ok(line);
            }
            self.read().await?;
        }
    }

    /// Appends this number of bytes to the body.
    async fn take(&mut self, mut size: usize) -> Result<()> {
        while size > 0 {
            if self.input.is_empty() {
                self.read().await?;
            }
            let part = self.input.get(..size).unwrap_or(&self.input);
            self.answer.body.extend_from_slice(part);
            let taken = part.len();
            self.input.advance(taken);
            size -= taken;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<()> {
        self.input.reserve(BUFFER / 4);
        ensure!(self.socket.read_buf(&mut self.input).await? > 0, "the connection was closed in the middle of an answer");
        Ok(())
    }
}

// === impl Answer ===

impl Answer {
    /// Returns the status; 0 if there is none.
    pub(super) fn status(&self) -> u16 {
        let digits = self.head.strip_prefix(b"HTTP/1.1 ").and_then(|line| line.get(..3));
        digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0)
    }

    /// Returns the value of a header. The name must be in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split(|byte| *byte == b'\n');
        let value = lines.find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b": "))?;
        std::str::from_utf8(value).ok()
    }

    /// Returns whether a line of the head starts with this text.
    pub(super) fn has_header(&self, start: &str) -> bool {
        self.head.split(|byte| *byte == b'\n').any(|line| line.starts_with(start.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(answer: &'static str, step: usize) -> Result<(String, u64)> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 2];
            socket.read_exact(&mut request).await.unwrap();
            for piece in answer.as_bytes().chunks(step) {
                socket.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut client = Client::connect(address).await?;
        let answer = client.send(b"hi").await?;
        Ok((String::from_utf8_lossy(&answer.body).into_owned(), answer.chunks))
    }

    #[tokio::test]
    async fn responses_in_any_chunks() {
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n";
        for step in [1, 2, 7, 1000] {
            assert_eq!(answered(whole, step).await.unwrap(), ("abc".into(), 0));
            assert_eq!(answered(chunked, step).await.unwrap(), ("abc0123456789".into(), 2));
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_an_error() {
        for answer in [
            "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\nno",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcd",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        ] {
            assert!(answered(answer, 1000).await.is_err(), "{answer}");
        }
    }
}
