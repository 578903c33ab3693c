//! Clients that disconnect at any moment, read slowly, and record what they received.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::plan::{Disconnect, Form, PlannedRequest};
use crate::setup::{body, caller};

const PATH: &str = "/v1/chat/completions";
/// Longer than all timeouts of the gateway together: a request that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The outcome of one request, as seen by its client.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub planned: PlannedRequest,
    pub sent: Instant,
    pub over: Instant,
    pub end: End,
    pub seen: Seen,
}

/// What the client received.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub status: Option<u16>,
    pub provider: Option<String>,
    /// The number of complete events with a delta.
    pub words: u64,
    /// The usage in the response.
    pub usage: Option<(u64, u64)>,
    pub code: Option<String>,
    pub done: bool,
    events: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The response is complete.
    Whole,
    /// The response was cut off, or there was none.
    Cut,
    /// The client disconnected.
    Disconnected,
    /// The connection was refused.
    Refused,
    /// The response stopped without an end.
    Hung,
}

/// A task that is aborted with its owner; its connection is closed with it.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends one request.
pub async fn run_request(gate: SocketAddr, planned: PlannedRequest, form: Form) -> Outcome {
    let (sent, mut seen) = (Instant::now(), Seen::default());
    let end = timeout(PATIENCE, perform(gate, &planned, form, &mut seen)).await.unwrap_or(End::Hung);
    Outcome { planned, sent, over: Instant::now(), end, seen }
}

async fn perform(gate: SocketAddr, planned: &PlannedRequest, form: Form, seen: &mut Seen) -> End {
    let Ok(socket) = connect(gate, planned.slow).await else { return End::Refused };
    match planned.disconnect {
        Disconnect::Body | Disconnect::Stalled | Disconnect::Silent => half(socket, planned, form, seen).await,
        Disconnect::After(moment) => {
            tokio::select! {
                end = exchange(socket, planned, form, seen) => end,
                () = sleep(moment) => End::Disconnected,
            }
        }
        Disconnect::Never | Disconnect::Events(_) => exchange(socket, planned, form, seen).await,
    }
}

async fn connect(gate: SocketAddr, slow: bool) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if slow {
        socket.set_recv_buffer_size(4096)?;
    }
    let stream = socket.connect(gate).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends half of the body or nothing, then disconnects or waits for the gateway's response.
async fn half(mut socket: TcpStream, planned: &PlannedRequest, form: Form, seen: &mut Seen) -> End {
    let body = body(planned).to_string();
    let mut head =
        format!("POST {PATH} HTTP/1.1\r\nhost: gate.test\r\ncontent-type: application/json\r\nx-test-case: {}\r\n", planned.id);
    for (name, value) in caller(planned, form) {
        head += &format!("{name}: {value}\r\n");
    }
    let part = if planned.disconnect == Disconnect::Silent { "" } else { &body[..body.floor_char_boundary(body.len() / 2)] };
    head += &format!("content-length: {}\r\n\r\n{part}", body.len());
    if socket.write_all(head.as_bytes()).await.is_err() {
        return End::Cut;
    }
    if planned.disconnect == Disconnect::Body {
        sleep(Duration::from_millis(3)).await;
        // A killed process does not close its connections in order.
        let _ = socket.set_zero_linger();
        return End::Disconnected;
    }
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        match socket.read_buf(&mut answer).await {
            Ok(read) if read > 0 => {}
            _ => break,
        }
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    seen.status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    if seen.status.is_some() { End::Whole } else { End::Cut }
}

async fn exchange(socket: TcpStream, planned: &PlannedRequest, form: Form, seen: &mut Seen) -> End {
    let Some((answer, _connection)) = send(socket, planned, form).await else { return End::Cut };
    let (head, mut body) = answer.into_parts();
    seen.status = Some(head.status.as_u16());
    seen.provider = head.headers.get("x-pai-provider").and_then(|value| Some(value.to_str().ok()?.to_owned()));
    let streamed = head.headers.get("content-type").is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    let mut held = BytesMut::new();
    loop {
        if streamed {
            seen.take_events(&mut held);
            if matches!(planned.disconnect, Disconnect::Events(most) if seen.events >= most) {
                return End::Disconnected;
            }
        }
        if planned.slow {
            sleep(Duration::from_millis(4)).await;
        }
        match body.frame().await {
            Some(Ok(frame)) => held.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
            Some(Err(_)) => return End::Cut,
            None => break,
        }
    }
    if streamed {
        return if seen.done { End::Whole } else { End::Cut };
    }
    // Some Envoys end an incomplete HTTP/2 response as if it were complete (seen with 1.36).
    let whole = seen.take_document(&held) || seen.status != Some(200);
    if whole { End::Whole } else { End::Cut }
}

async fn send(
    socket: TcpStream,
    planned: &PlannedRequest,
    form: Form,
) -> Option<(hyper::Response<hyper::body::Incoming>, Connection)> {
    let mut request = hyper::Request::post(if planned.http2 { format!("http://gate.test{PATH}") } else { PATH.to_owned() })
        .header("content-type", "application/json")
        .header("x-test-case", &planned.id);
    if !planned.http2 {
        request = request.header("host", "gate.test");
    }
    for (name, value) in caller(planned, form) {
        request = request.header(name, value);
    }
    let body = body(planned).to_string();
    let request = request.body(Full::<Bytes>::from(body).map_err(|never: Infallible| match never {})).ok()?;
    let io = TokioIo::new(socket);
    if planned.http2 {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.ok()?;
        let connection = Connection(tokio::spawn(async move { drop(connection.await) }));
        return Some((sender.send_request(request).await.ok()?, connection));
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
    let connection = Connection(tokio::spawn(async move { drop(connection.await) }));
    Some((sender.send_request(request).await.ok()?, connection))
}

// === impl Seen ===

impl Seen {
    /// Removes the complete events from `held`.
    fn take_events(&mut self, held: &mut BytesMut) {
        while let Some(at) = held.windows(2).position(|pair| pair == b"\n\n") {
            let event = held.split_to(at + 2);
            self.events += 1;
            self.done |= &*event == b"data: [DONE]\n\n";
            let text = String::from_utf8_lossy(&event);
            self.words += u64::from(text.contains("\"content\":\"w"));
            if text.contains("\"choices\":[]") {
                self.usage = text.strip_prefix("data: ").and_then(|json| usage(&serde_json::from_str(json.trim()).ok()?));
            }
        }
    }

    /// Parses a JSON response; returns whether it is valid.
    fn take_document(&mut self, body: &[u8]) -> bool {
        let Ok(document) = serde_json::from_slice::<Value>(body) else { return false };
        self.usage = usage(&document);
        self.code = document["error"]["code"].as_str().map(str::to_owned);
        true
    }
}

fn usage(document: &Value) -> Option<(u64, u64)> {
    let usage = &document["usage"];
    Some((usage["prompt_tokens"].as_u64()?, usage["completion_tokens"].as_u64()?))
}
