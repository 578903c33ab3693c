//! HTTP/1.1 and HTTP/2 requests to a gateway, with complete and streamed responses.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::rustls::HandshakeKind;

use super::certificate::{ClientCertificate, ClientTls};
use super::runtime::runtime;

/// How long a response head, or the next part of a body, may take.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// The last few requests to a gateway and their responses, for the report of a failing test.
pub(crate) type Recent = Arc<Mutex<VecDeque<String>>>;

/// A request builder.
#[must_use]
#[derive(Debug)]
pub struct Request {
    address: Address,
    tls: Option<ClientTls>,
    recent: Recent,
    method: String,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    chunks: Vec<Bytes>,
    declared: bool,
    trailers: Option<HeaderMap>,
    http2: bool,
    timeout_after: Duration,
}

/// Where a server listens.
#[derive(Debug, Clone)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A complete response.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as far as it was received.
    pub body: Bytes,
    /// Trailers, if any.
    pub trailers: Option<HeaderMap>,
    /// Whether the response was cut off.
    pub cut: bool,
}

/// A response whose body is still being received.
#[derive(Debug)]
pub struct StreamingReply {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// Whether the connection resumed a TLS session.
    pub resumed: bool,
    body: Incoming,
    held: BytesMut,
    trailers: Option<HeaderMap>,
    cut: bool,
    timeout_after: Duration,
    connection: JoinHandle<()>,
}

type Body = BoxBody<Bytes, Infallible>;

/// A body that yields once before each frame, so that the connection writes each frame separately.
struct ChunkedBody {
    frames: VecDeque<Frame<Bytes>>,
    paused: bool,
}

// === impl Request ===

impl Request {
    /// Builds a request to a server, without a gateway in between.
    pub fn direct(address: SocketAddr, method: &str, path: &str) -> Self {
        Self::new(address, None, Recent::default(), method, path)
    }

    pub(crate) fn new(address: SocketAddr, tls: Option<ClientTls>, recent: Recent, method: &str, path: &str) -> Self {
        Self::to(Address::Tcp(address), tls, recent, method, path)
    }

    /// Builds a request to a server that listens at a Unix socket.
    pub(crate) fn over_socket(socket: PathBuf, recent: Recent, method: &str, path: &str) -> Self {
        Self::to(Address::Unix(socket), None, recent, method, path)
    }

    fn to(address: Address, tls: Option<ClientTls>, recent: Recent, method: &str, path: &str) -> Self {
        Self {
            address,
            tls,
            recent,
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            chunks: Vec::new(),
            declared: true,
            trailers: None,
            http2: false,
            timeout_after: RESPONSE_TIMEOUT,
        }
    }

    /// Adds a header. Values may be arbitrary bytes.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        self.headers.push((name, HeaderValue::from_bytes(value.as_ref()).expect("a header value")));
        self
    }

    /// Sets a JSON body and its media type.
    pub fn json(self, body: &Value) -> Self {
        self.text(body.to_string())
    }

    /// Sets a body of media type `application/json`.
    pub fn text(self, body: impl AsRef<[u8]>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// Sets a body and declares its length.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.chunks = vec![Bytes::copy_from_slice(body.as_ref())];
        self
    }

    /// Sets a JSON body in these chunks, without a declared length.
    pub fn chunked<B: AsRef<[u8]>>(self, pieces: impl IntoIterator<Item = B>) -> Self {
        let mut request = self.header("content-type", "application/json");
        request.chunks = pieces.into_iter().map(|piece| Bytes::copy_from_slice(piece.as_ref())).collect();
        request.declared = false;
        request
    }

    /// Adds a trailer.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a trailer name");
        let value = HeaderValue::from_str(value).expect("a trailer value");
        self.trailers.get_or_insert_default().insert(name, value);
        self
    }

    /// Presents this client certificate. The gateway's listener must use TLS.
    pub fn identity(mut self, certificate: &ClientCertificate) -> Self {
        self.tls.as_mut().expect("a gateway with TLS").identify(certificate);
        self
    }

    /// Uses HTTP/2 (with prior knowledge where the listener does not use TLS).
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Sets how long to wait for the response head and for each part of the body.
    pub fn timeout(mut self, timeout_after: Duration) -> Self {
        self.timeout_after = timeout_after;
        self
    }

    /// Sends the request and reads the complete response.
    pub async fn send(self) -> Reply {
        let recent = Arc::clone(&self.recent);
        let asked = format!("{} {}", self.method, self.path);
        let reply = self.stream().await.rest().await;
        remember(&recent, &asked, &reply);
        reply
    }

    /// Sends the request and reads the response head.
    pub async fn stream(self) -> StreamingReply {
        self.try_stream().await.expect("a response of the gateway")
    }

    /// Sends the request in the background, for responses that depend on another event.
    pub fn spawn_send(self) -> JoinHandle<Reply> {
        runtime().spawn(self.send())
    }

    /// Sends the request in the background and reads the response head.
    pub fn spawn_stream(self) -> JoinHandle<StreamingReply> {
        runtime().spawn(self.stream())
    }

    /// Like [`Request::stream`], for connections that may be closed without a response.
    pub async fn try_stream(self) -> Result<StreamingReply, hyper::Error> {
        // Spawned on the harness's runtime, so that the connection outlives the caller's runtime.
        runtime()
            .spawn(async move { timeout(self.timeout_after, self.exchange()).await })
            .await
            .expect("no panic")
            .expect("a response in time")
    }

    async fn exchange(self) -> Result<StreamingReply, hyper::Error> {
        let address = match &self.address {
            Address::Tcp(address) => *address,
            Address::Unix(path) => {
                let socket = UnixStream::connect(path).await.expect("the gateway listens");
                return self.over(socket, false).await;
            }
        };
        let socket = TcpStream::connect(address).await.expect("the gateway listens");
        socket.set_nodelay(true).expect("a socket");
        match self.tls.clone() {
            None => self.over(socket, false).await,
            Some(tls) => {
                let protocol: &[u8] = if self.http2 { b"h2" } else { b"http/1.1" };
                // If the gateway rejects the client certificate, the error is reported only on the first read.
                let stream = tls.connect(socket, protocol).await.expect("the gateway's side of the handshake");
                let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                self.over(stream, resumed).await
            }
        }
    }

    async fn over<S>(self, socket: S, resumed: bool) -> Result<StreamingReply, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (io, timeout_after) = (TokioIo::new(socket), self.timeout_after);
        let (answer, connection) = if self.http2 {
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
            let connection = tokio::spawn(async move { drop(connection.await) });
            (sender.send_request(self.into_http()).await?, connection)
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            let connection = tokio::spawn(async move { drop(connection.await) });
            (sender.send_request(self.into_http()).await?, connection)
        };
        let (head, body) = answer.into_parts();
        Ok(StreamingReply {
            status: head.status.as_u16(),
            headers: head.headers,
            resumed,
            body,
            held: BytesMut::new(),
            trailers: None,
            cut: false,
            timeout_after,
            connection,
        })
    }

    fn into_http(self) -> hyper::Request<Body> {
        let target = if self.http2 { format!("http://gate.test{}", self.path) } else { self.path.clone() };
        let mut built = hyper::Request::builder().method(self.method.as_str()).uri(target);
        if !self.http2 && !self.headers.iter().any(|(name, _)| name == "host") {
            built = built.header("host", "gate.test");
        }
        for (name, value) in &self.headers {
            built = built.header(name, value);
        }
        built.body(self.into_body()).expect("a request")
    }

    fn into_body(self) -> Body {
        if self.declared && self.trailers.is_none() {
            return Full::new(self.chunks.concat().into()).boxed();
        }
        let trailers = self.trailers.map(Frame::trailers);
        let frames = self.chunks.into_iter().map(Frame::data).chain(trailers).collect();
        ChunkedBody { frames, paused: false }.boxed()
    }
}

// === impl StreamingReply ===

impl StreamingReply {
    /// Returns the next bytes of the body; `None` at its end or where it is cut off.
    pub async fn next(&mut self) -> Option<Bytes> {
        if !self.held.is_empty() {
            return Some(self.held.split().freeze());
        }
        self.read().await
    }

    /// Returns the next complete SSE event, including its blank line; `None` if the stream ends first.
    pub async fn event(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.held.windows(2).position(|pair| pair == b"\n\n") {
                return Some(String::from_utf8_lossy(&self.held.split_to(at + 2)).into_owned());
            }
            let more = self.read().await?;
            self.held.extend_from_slice(&more);
        }
    }

    /// Reads the body to its end.
    pub async fn rest(mut self) -> Reply {
        let mut body = self.held.split();
        while let Some(more) = self.read().await {
            body.extend_from_slice(&more);
        }
        Reply {
            status: self.status,
            headers: std::mem::take(&mut self.headers),
            body: body.freeze(),
            trailers: self.trailers.take(),
            cut: self.cut,
        }
    }

    /// Closes the connection in the middle of the response.
    pub async fn abort(self) {
        self.connection.abort();
        let _ = self.connection.await;
    }

    async fn read(&mut self) -> Option<Bytes> {
        loop {
            match timeout(self.timeout_after, self.body.frame()).await.expect("the response continues") {
                None => return None,
                Some(Err(_)) => {
                    self.cut = true;
                    return None;
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Some(data),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
    }
}

// === impl ChunkedBody ===

impl hyper::body::Body for ChunkedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.paused = !self.paused;
        if self.paused {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.frames.pop_front().map(Ok))
    }
}

// === impl Reply ===

impl Reply {
    /// Parses the body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns a header's value; `None` if the header is absent.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("visible ASCII"))
    }

    /// Fails unless the status is 200.
    #[track_caller]
    pub fn ok(&self) -> &Self {
        assert_eq!(self.status, 200, "{}", self.describe());
        self
    }

    /// Fails unless this is an OpenAI error with this status, type and code.
    #[track_caller]
    pub fn refused(&self, status: u16, kind: &str, code: &str) -> &Self {
        assert_eq!(self.status, status, "{}", self.describe());
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.describe());
        let body = self.json();
        let members: Vec<&str> = body["error"].as_object().expect("an error object").keys().map(String::as_str).collect();
        assert_eq!(members, ["message", "type", "param", "code"], "{}", self.describe());
        assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{}", self.describe());
        assert_eq!(
            (body["error"]["type"].as_str(), body["error"]["code"].as_str()),
            (Some(kind), Some(code)),
            "{}",
            self.describe()
        );
        self
    }

    /// Fails unless this is the error for an invalid body, with this `param`.
    #[track_caller]
    pub fn invalid_body(&self, param: Option<&str>) -> &Self {
        self.refused(400, "invalid_request_error", "invalid_body");
        assert_eq!(self.json()["error"]["param"].as_str(), param, "{}", self.describe());
        self
    }

    /// Returns the error's message.
    #[track_caller]
    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().expect("a message").to_owned()
    }

    /// Formats the response for a failure report.
    pub fn describe(&self) -> String {
        let mut text = format!("{}\n", self.status);
        for (name, value) in &self.headers {
            let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
        let body = self.text();
        let shown: String = body.chars().take(2000).collect();
        let _ = write!(text, "\n{shown}{}", if self.cut { "\n(cut)" } else { "" });
        text
    }
}

fn remember(recent: &Recent, asked: &str, reply: &Reply) {
    let mut recent = recent.lock().expect("not poisoned");
    if recent.len() == 3 {
        recent.pop_front();
    }
    recent.push_back(format!("{asked} -> {}", reply.describe()));
}
