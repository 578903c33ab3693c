//! A scripted model server: the test determines which bytes it sends, when, and how the connection ends.
//!
//! [`Upstream::answering`] computes the response from each request. [`Upstream::scripted`] passes each request to the test as a
//! [`Call`], in order of arrival, and the test writes the response.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::certificate::ServerCertificate;
use super::raw::{dechunk, find};
use super::runtime::runtime;
use super::wait::{DEADLINE, until};

const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";
const CHUNKED: &str = "transfer-encoding: chunked\r\n\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A scripted server.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    service: Service,
    calls: tokio::sync::Mutex<UnboundedReceiver<Call>>,
    server: tokio::sync::Mutex<Server>,
}

/// How the server handles each connection.
#[derive(Debug, Clone)]
struct Service {
    seen: Arc<Seen>,
    mode: Mode,
    tls: Option<Arc<ServerConfig>>,
}

/// Whether the server is running.
#[derive(Debug)]
enum Server {
    Up(JoinHandle<()>),
    /// Stopped. The port stays bound, so that no other process can use it.
    Down(Option<TcpSocket>),
}

/// A received request.
#[derive(Debug, Clone)]
pub struct Received {
    /// The method.
    pub method: String,
    /// The request target.
    pub path: String,
    /// The raw head: request line and headers.
    pub head: Vec<u8>,
    /// Header names in lower case, and their values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// The raw trailers.
    pub trailers: Vec<u8>,
}

/// A request that the test answers itself.
#[derive(Debug)]
pub struct Call {
    /// The received request.
    pub request: Received,
    line: Line,
}

/// A connection from the gateway, and bytes read ahead.
#[derive(Debug)]
struct Line {
    socket: Box<dyn Socket>,
    held: Vec<u8>,
    service: Service,
}

/// A connection with or without TLS.
trait Socket: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin {
    /// Sends a RST when the connection is dropped.
    fn reset(&self);
}

/// A scripted response.
#[derive(Debug, Clone)]
pub struct Answer {
    pieces: Vec<Vec<u8>>,
    pause: Option<Duration>,
    end: End,
    begun: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    KeepOpen,
    Hang,
    Close,
    Reset,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Mutex<Vec<Received>>,
    aborted: AtomicUsize,
}

type Script = Arc<dyn Fn(&Received) -> Answer + Send + Sync>;

/// How requests are answered.
#[derive(Clone)]
enum Mode {
    Answering(Script),
    Scripted(UnboundedSender<Call>),
}

// === impl Upstream ===

impl Upstream {
    /// Starts a server that computes each response by `answer`.
    pub async fn answering(answer: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        Self::start(|_| Mode::Answering(Arc::new(answer)), None).await
    }

    /// Like [`Upstream::answering`], behind TLS.
    pub async fn answering_tls(
        certificate: &ServerCertificate,
        answer: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start(|_| Mode::Answering(Arc::new(answer)), Some(certificate)).await
    }

    /// Starts a server whose responses the test writes: see [`Upstream::call`].
    pub async fn scripted() -> Self {
        Self::start(Mode::Scripted, None).await
    }

    /// Returns an address on which nothing listens.
    pub async fn unreachable_address() -> SocketAddr {
        let listener = bind().await;
        listener.local_addr().expect("a bound socket")
    }

    async fn start(mode: impl FnOnce(UnboundedSender<Call>) -> Mode, certificate: Option<&ServerCertificate>) -> Self {
        let listener = runtime().spawn(bind()).await.expect("no panic");
        let address = listener.local_addr().expect("a bound socket");
        let (sender, calls) = mpsc::unbounded_channel();
        let tls = certificate.map(|certificate| certificate.config(&[]));
        let service = Service { seen: Arc::default(), mode: mode(sender), tls };
        let server = Server::Up(runtime().spawn(service.clone().serve(listener)));
        Self { address, service, calls: tokio::sync::Mutex::new(calls), server: tokio::sync::Mutex::new(server) }
    }

    /// Stops listening and closes all connections, except those held by the test as a [`Call`].
    pub async fn stop(&self) {
        let mut server = self.server.lock().await;
        let Server::Up(task) = &mut *server else { return };
        task.abort();
        let _ = task.await;
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("a socket");
        // Another process of this machine may hold the port for a connection of its own.
        until("its port is free again", async || socket.bind(self.address).ok()).await;
        *server = Server::Down(Some(socket));
    }

    /// Starts listening again on the same port.
    pub async fn restart(&self) {
        let mut server = self.server.lock().await;
        let Server::Down(socket) = &mut *server else { return };
        let socket = socket.take().expect("the port is held");
        let _inside = runtime().enter();
        let listener = socket.listen(1024).expect("its port is its own");
        *server = Server::Up(tokio::spawn(self.service.clone().serve(listener)));
    }

    /// Returns the server's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the next request as a [`Call`].
    pub async fn call(&self) -> Call {
        let mut calls = self.calls.lock().await;
        timeout(DEADLINE, calls.recv()).await.expect("a request reaches the upstream").expect("the server runs")
    }

    /// Returns all requests received so far.
    pub fn requests(&self) -> Vec<Received> {
        self.service.seen.requests.lock().expect("not poisoned").clone()
    }

    /// Returns the last request received.
    #[track_caller]
    pub fn last(&self) -> Received {
        self.requests().pop().expect("a request reached the upstream")
    }

    /// Returns the number of responses that the client aborted.
    pub fn aborted(&self) -> usize {
        self.service.seen.aborted.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Server::Up(task) = self.server.get_mut() {
            task.abort();
        }
    }
}

// === impl Service ===

impl Service {
    /// Accepts connections until aborted. Aborting also closes the connections.
    async fn serve(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            connections.spawn(self.clone().converse(socket));
            while connections.try_join_next().is_some() {}
        }
    }

    async fn converse(self, socket: TcpStream) {
        // A client that rejects the certificate is ignored.
        let Some(socket) = self.secure(socket).await else { return };
        Line { socket, held: Vec::new(), service: self }.converse().await;
    }

    async fn secure(&self, socket: TcpStream) -> Option<Box<dyn Socket>> {
        let Some(tls) = self.tls.clone() else { return Some(Box::new(socket)) };
        Some(Box::new(TlsAcceptor::from(tls).accept(socket).await.ok()?))
    }
}

// === impl Mode ===

impl std::fmt::Debug for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Answering(_) => "Answering",
            Self::Scripted(_) => "Scripted",
        })
    }
}

// === impl Received ===

impl Received {
    /// Returns the first value of a header.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// Returns the names of all headers.
    pub fn header_names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Parses the body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }
}

// === impl Call ===

impl Call {
    /// Sends raw bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.line.socket.write_all(bytes.as_ref()).await;
        let _ = self.line.socket.flush().await;
        self
    }

    /// Sends the head of a chunked response.
    pub async fn start(&mut self, status: u16, content_type: &str) -> &mut Self {
        self.send(format!("HTTP/1.1 {status} Scripted\r\ncontent-type: {content_type}\r\n{CHUNKED}")).await
    }

    /// Sends the head of an event stream.
    pub async fn start_stream(&mut self) -> &mut Self {
        self.start(200, EVENT_STREAM).await
    }

    /// Sends these bytes as one chunk.
    pub async fn chunk(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.send(chunk(bytes.as_ref())).await
    }

    /// Sends the last chunk and keeps the connection open for the next request.
    pub async fn end(mut self) {
        self.send(LAST_CHUNK).await;
        self.reuse();
    }

    /// Sends the last chunk and a trailer, and keeps the connection open for the next request.
    pub async fn end_with_trailer(mut self, name: &str, value: &str) {
        self.send(format!("0\r\n{name}: {value}\r\n\r\n")).await;
        self.reuse();
    }

    /// Sends a complete response. The connection stays open for the next request unless the response ends it.
    pub async fn answer(mut self, answer: Answer) {
        let played = answer.play(&mut self.line.socket).await;
        match answer.end {
            End::KeepOpen if played.is_ok() => self.reuse(),
            End::Hang => self.aborted().await,
            End::KeepOpen | End::Close => self.close().await,
            End::Reset => self.reset(),
        }
    }

    /// Closes the connection.
    pub async fn close(mut self) {
        let _ = self.line.socket.shutdown().await;
    }

    /// Resets the connection.
    pub fn reset(self) {
        self.line.socket.reset();
    }

    /// Waits until the gateway closes the connection.
    pub async fn aborted(mut self) {
        let Line { socket, held, .. } = &mut self.line;
        timeout(DEADLINE, gone(socket, held)).await.expect("the upstream connection is aborted");
    }

    fn reuse(self) {
        runtime().spawn(self.line.converse());
    }
}

// === impl Answer ===

impl Answer {
    /// A response of these raw bytes, including the head.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self::raw_chunks([bytes])
    }

    /// A response of these raw chunks, including the head.
    pub fn raw_chunks<B: AsRef<[u8]>>(pieces: impl IntoIterator<Item = B>) -> Self {
        let pieces = pieces.into_iter().map(|piece| piece.as_ref().to_vec()).collect();
        Self { pieces, pause: None, end: End::KeepOpen, begun: Arc::default() }
    }

    /// A response with this status and body.
    pub fn new(status: u16, content_type: &str, body: impl AsRef<[u8]>) -> Self {
        Self::with_headers(status, &[("content-type", content_type)], body)
    }

    /// A response with this status, headers and body.
    pub fn with_headers(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("HTTP/1.1 {status} Scripted\r\n{lines}content-length: {}\r\n\r\n", body.len());
        Self::raw([head.as_bytes(), body].concat())
    }

    /// A JSON response with status 200.
    pub fn json(body: &Value) -> Self {
        Self::new(200, "application/json", body.to_string())
    }

    /// An error response with a JSON body.
    pub fn error(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    /// An event stream with one HTTP chunk per event.
    pub fn stream<B: AsRef<[u8]>>(pieces: impl IntoIterator<Item = B>) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {EVENT_STREAM}\r\n{CHUNKED}").into_bytes();
        let chunks = pieces.into_iter().map(|piece| chunk(piece.as_ref()));
        let pieces = std::iter::once(head).chain(chunks).chain([LAST_CHUNK.to_vec()]).collect();
        Self { pieces, pause: None, end: End::KeepOpen, begun: Arc::default() }
    }

    /// Pauses before each chunk but the first.
    pub fn paced(mut self, pause: Duration) -> Self {
        self.pause = Some(pause);
        self
    }

    /// Counts the chunks that were started.
    pub fn counting(mut self, begun: &Arc<AtomicUsize>) -> Self {
        self.begun = Arc::clone(begun);
        self
    }

    /// Omits the last chunk and keeps the connection open without sending more.
    pub fn then_hang(mut self) -> Self {
        self.pieces.pop();
        self.end = End::Hang;
        self
    }

    /// Closes the connection after the response.
    pub fn then_close(mut self) -> Self {
        self.end = End::Close;
        self
    }

    /// Omits the last chunk: the response is incomplete.
    pub fn unfinished(mut self) -> Self {
        self.pieces.pop();
        self
    }

    /// Resets the connection after the response.
    pub fn then_reset(mut self) -> Self {
        self.end = End::Reset;
        self
    }

    async fn play(&self, socket: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        for (index, piece) in self.pieces.iter().enumerate() {
            if let Some(pause) = self.pause.filter(|_| index > 0) {
                tokio::time::sleep(pause).await;
            }
            self.begun.fetch_add(1, Ordering::SeqCst);
            socket.write_all(piece).await?;
            socket.flush().await?;
        }
        Ok(())
    }
}

// === impl Socket ===

impl Socket for TcpStream {
    fn reset(&self) {
        let _ = self.set_zero_linger();
    }
}

impl Socket for TlsStream<TcpStream> {
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}

// === impl Line ===

impl Line {
    /// Handles requests until the connection ends or is passed to the test.
    async fn converse(mut self) {
        while let Some(request) = next_request(&mut self.socket, &mut self.held).await {
            self.service.seen.requests.lock().expect("not poisoned").push(request.clone());
            let answer = match self.service.mode.clone() {
                Mode::Answering(script) => script(&request),
                Mode::Scripted(calls) => {
                    let _ = calls.send(Call { request, line: self });
                    return;
                }
            };
            let (mut reader, mut writer) = tokio::io::split(&mut self.socket);
            let played = tokio::select! {
                played = answer.play(&mut writer) => played.is_ok(),
                () = gone(&mut reader, &mut self.held) => false,
            };
            match answer.end {
                _ if !played => {
                    self.service.seen.aborted.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                End::KeepOpen => {}
                End::Hang => {
                    gone(&mut reader, &mut self.held).await;
                    self.service.seen.aborted.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                End::Close => return drop(self.socket.shutdown().await),
                End::Reset => return self.socket.reset(),
            }
        }
    }
}

async fn bind() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port")
}

/// Reads until the peer closes the connection.
async fn gone(reader: &mut (impl AsyncRead + Unpin), held: &mut Vec<u8>) {
    while matches!(reader.read_buf(held).await, Ok(read) if read > 0) {}
}

/// Reads the next complete request; `None` if the connection ends first.
async fn next_request(socket: &mut (impl AsyncRead + Unpin), held: &mut Vec<u8>) -> Option<Received> {
    loop {
        if let Some((request, length)) = parse(held) {
            held.drain(..length);
            return Some(request);
        }
        if matches!(socket.read_buf(held).await, Ok(0) | Err(_)) {
            return None;
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(Received, usize)> {
    let head_length = find(bytes, b"\r\n\r\n")? + 4;
    let head = &bytes[..head_length];
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let first = String::from_utf8_lossy(lines.next()?).into_owned();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let headers: Vec<(String, Vec<u8>)> = lines.filter_map(header_line).collect();
    let value = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_slice());
    let rest = &bytes[head_length..];
    let (body, trailers, length) = if value("transfer-encoding").is_some() {
        let (body, length) = rest.ends_with(b"\r\n\r\n").then(|| dechunk(rest))??;
        (body, trailers(&rest[..length]), length)
    } else {
        let length = value("content-length").map_or("0", |value| std::str::from_utf8(value).unwrap_or("0"));
        let length = length.parse().ok()?;
        (rest.get(..length)?.to_vec(), Vec::new(), length)
    };
    Some((Received { method, path, head: head.to_vec(), headers, body, trailers }, head_length + length))
}

/// Returns the bytes between the last chunk and the final blank line.
fn trailers(chunked: &[u8]) -> Vec<u8> {
    let at = chunked.windows(5).rposition(|window| window == b"\r\n0\r\n").map(|at| at + 5);
    let lines = at.map_or(chunked, |at| &chunked[at..]);
    lines.strip_suffix(b"\r\n").unwrap_or(lines).to_vec()
}

fn header_line(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = find(line, b":")?;
    let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
    Some((name, line[colon + 1..].trim_ascii().to_vec()))
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
