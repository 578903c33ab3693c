//! A model server whose responses are invalid HTTP, invalid JSON, or empty.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Its responses, in turn.
const ANSWERS: [&[u8]; 6] = [
    b"\x16\x03\x01\x00\xc4\x01\x00\x00\xc0\x03\x03 this is not HTTP\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 24\r\n\r\n{\"choices\": [{\"message\": ",
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"id\"\r\nno size\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 36\r\n\r\ndata: {\"usage\": \xff\xfe}\n\ndata: [[[[\n\n\0\0\0\0",
    b"HTTP/1.1 500 Oops\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html>\0</html",
    b"",
];

/// The server; dropping it stops it.
pub(super) struct MalformedUpstream {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

// === impl MalformedUpstream ===

impl MalformedUpstream {
    /// Starts the server on a free loopback port.
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, accepting: tokio::spawn(accept(listener)) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MalformedUpstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener) {
    for answer in ANSWERS.iter().cycle() {
        if let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer_once(socket, answer));
        }
    }
}

/// Waits for the first bytes of a request, and briefly for the rest: closing a socket with unread bytes would reset it.
async fn answer_once(mut socket: TcpStream, answer: &[u8]) {
    let mut request = [0; 16 * 1024];
    if socket.read(&mut request).await.is_ok_and(|read| read > 0) {
        let _ = socket.write_all(answer).await;
        let _ = socket.shutdown().await;
        while socket.read(&mut request).await.is_ok_and(|read| read > 0) {}
    }
}
