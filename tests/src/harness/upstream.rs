//! A scripted model server: the test says which bytes it sends, when, and how the connection ends.
//!
//! Two ways to use it. [`Upstream::answering`] answers every request by a function of the request. [`Upstream::scripted`]
//! hands each request to the test as a [`Call`], in the order of arrival, and the test plays the server.

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
use super::wait::DEADLINE;

const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";
const CHUNKED: &str = "transfer-encoding: chunked\r\n\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// One scripted server.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    service: Service,
    calls: tokio::sync::Mutex<UnboundedReceiver<Call>>,
    server: tokio::sync::Mutex<Server>,
}

/// What it does with every connection.
#[derive(Debug, Clone)]
struct Service {
    seen: Arc<Seen>,
    mode: Mode,
    tls: Option<Arc<ServerConfig>>,
}

/// Whether it is up.
#[derive(Debug)]
enum Server {
    Up(JoinHandle<()>),
    /// The port stays taken, so that nobody else answers on it.
    Down(Option<TcpSocket>),
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// The method.
    pub method: String,
    /// The request target.
    pub path: String,
    /// The whole head, request line and headers, as bytes.
    pub head: Vec<u8>,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// What came behind the body, as bytes.
    pub trailers: Vec<u8>,
}

/// One request that the test answers itself.
#[derive(Debug)]
pub struct Call {
    /// What was asked.
    pub request: Received,
    line: Line,
}

/// A connection from the proxy, and what was read from it ahead.
#[derive(Debug)]
struct Line {
    socket: Box<dyn Socket>,
    held: Vec<u8>,
    service: Service,
}

/// One side of a connection, with TLS or without.
trait Socket: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin {
    /// Breaks the connection when it is dropped.
    fn reset(&self);
}

/// What is sent for one request.
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

/// Who answers.
#[derive(Clone)]
enum Mode {
    Answering(Script),
    Scripted(UnboundedSender<Call>),
}

// === impl Upstream ===

impl Upstream {
    /// A server that answers every request as `answer` says.
    pub async fn answering(answer: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        Self::start(|_| Mode::Answering(Arc::new(answer)), None).await
    }

    /// The same, behind TLS.
    pub async fn answering_tls(
        certificate: &ServerCertificate,
        answer: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start(|_| Mode::Answering(Arc::new(answer)), Some(certificate)).await
    }

    /// A server that is played by the test: see [`Upstream::call`].
    pub async fn scripted() -> Self {
        Self::start(Mode::Scripted, None).await
    }

    /// An address where nobody listens.
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

    /// Goes down: nobody listens any more, and every connection ends where it is, but those in a test's hands.
    pub async fn stop(&self) {
        let mut server = self.server.lock().await;
        let Server::Up(task) = &mut *server else { return };
        task.abort();
        let _ = task.await;
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("a socket");
        socket.bind(self.address).expect("its port is free again");
        *server = Server::Down(Some(socket));
    }

    /// Comes back, on the same port.
    pub async fn restart(&self) {
        let mut server = self.server.lock().await;
        let Server::Down(socket) = &mut *server else { return };
        let socket = socket.take().expect("the port is held");
        let _inside = runtime().enter();
        let listener = socket.listen(1024).expect("its port is its own");
        *server = Server::Up(tokio::spawn(self.service.clone().serve(listener)));
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next request, in the test's hands.
    pub async fn call(&self) -> Call {
        let mut calls = self.calls.lock().await;
        timeout(DEADLINE, calls.recv()).await.expect("a request reaches the upstream").expect("the server runs")
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Received> {
        self.service.seen.requests.lock().expect("not poisoned").clone()
    }

    /// The last request so far.
    #[track_caller]
    pub fn last(&self) -> Received {
        self.requests().pop().expect("a request reached the upstream")
    }

    /// How many answers the other side did not wait for.
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
    /// Takes connections until it is aborted, and its connections with it.
    async fn serve(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            connections.spawn(self.clone().converse(socket));
            while connections.try_join_next().is_some() {}
        }
    }

    async fn converse(self, socket: TcpStream) {
        // A client that does not like our certificate is none.
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
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// The names of all headers.
    pub fn header_names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }
}

// === impl Call ===

impl Call {
    /// Sends these bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.line.socket.write_all(bytes.as_ref()).await;
        let _ = self.line.socket.flush().await;
        self
    }

    /// Sends a status line and headers of an answer in chunks.
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

    /// Sends the last chunk; the connection takes the next request.
    pub async fn end(mut self) {
        self.send(LAST_CHUNK).await;
        self.reuse();
    }

    /// Sends the last chunk and a trailer; the connection takes the next request.
    pub async fn end_with_trailer(mut self, name: &str, value: &str) {
        self.send(format!("0\r\n{name}: {value}\r\n\r\n")).await;
        self.reuse();
    }

    /// Sends a whole answer; the connection takes the next request, unless the answer ends it.
    pub async fn answer(mut self, answer: Answer) {
        let played = answer.play(&mut self.line.socket).await;
        match answer.end {
            End::KeepOpen if played.is_ok() => self.reuse(),
            End::Hang => self.aborted().await,
            End::KeepOpen | End::Close => self.close().await,
            End::Reset => self.reset(),
        }
    }

    /// Ends the connection in order.
    pub async fn close(mut self) {
        let _ = self.line.socket.shutdown().await;
    }

    /// Breaks the connection.
    pub fn reset(self) {
        self.line.socket.reset();
    }

    /// Waits until the other side has given up.
    pub async fn aborted(mut self) {
        let Line { socket, held, .. } = &mut self.line;
        timeout(DEADLINE, gone(socket, held)).await.expect("the provider's side is aborted");
    }

    fn reuse(self) {
        runtime().spawn(self.line.converse());
    }
}

// === impl Answer ===

impl Answer {
    /// These bytes as they are, head and all.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self::raw_chunks([bytes])
    }

    /// These pieces as they are, head and all.
    pub fn raw_chunks<B: AsRef<[u8]>>(pieces: impl IntoIterator<Item = B>) -> Self {
        let pieces = pieces.into_iter().map(|piece| piece.as_ref().to_vec()).collect();
        Self { pieces, pause: None, end: End::KeepOpen, begun: Arc::default() }
    }

    /// A status and a body.
    pub fn new(status: u16, content_type: &str, body: impl AsRef<[u8]>) -> Self {
        Self::with_headers(status, &[("content-type", content_type)], body)
    }

    /// A status, headers and a body.
    pub fn with_headers(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("HTTP/1.1 {status} Scripted\r\n{lines}content-length: {}\r\n\r\n", body.len());
        Self::raw([head.as_bytes(), body].concat())
    }

    /// 200 and JSON.
    pub fn json(body: &Value) -> Self {
        Self::new(200, "application/json", body.to_string())
    }

    /// An error with a JSON body.
    pub fn error(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    /// An event stream, one chunk per piece.
    pub fn stream<B: AsRef<[u8]>>(pieces: impl IntoIterator<Item = B>) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {EVENT_STREAM}\r\n{CHUNKED}").into_bytes();
        let chunks = pieces.into_iter().map(|piece| chunk(piece.as_ref()));
        let pieces = std::iter::once(head).chain(chunks).chain([LAST_CHUNK.to_vec()]).collect();
        Self { pieces, pause: None, end: End::KeepOpen, begun: Arc::default() }
    }

    /// The model server's own pace: a pause before each piece but the first.
    pub fn paced(mut self, pause: Duration) -> Self {
        self.pause = Some(pause);
        self
    }

    /// Counts the pieces of which anything is sent.
    pub fn counting(mut self, begun: &Arc<AtomicUsize>) -> Self {
        self.begun = Arc::clone(begun);
        self
    }

    /// Nothing more comes, not even the end: the last piece is left out and the connection hangs.
    pub fn then_hang(mut self) -> Self {
        self.pieces.pop();
        self.end = End::Hang;
        self
    }

    /// The connection is closed afterwards.
    pub fn then_close(mut self) -> Self {
        self.end = End::Close;
        self
    }

    /// The last piece is left out: the answer stops before its end.
    pub fn unfinished(mut self) -> Self {
        self.pieces.pop();
        self
    }

    /// The connection is broken afterwards.
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
    /// Takes requests until the connection ends or the test takes it over.
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

/// Reads on until the other side has closed the connection.
async fn gone(reader: &mut (impl AsyncRead + Unpin), held: &mut Vec<u8>) {
    while matches!(reader.read_buf(held).await, Ok(read) if read > 0) {}
}

/// The next whole request; `None` when the connection ends first.
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

/// What stands between the last chunk and the blank line.
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
