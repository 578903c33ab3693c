//! The body of a response: JSON or a stream, paced, encoded, fragmented, and counted as it is sent.

use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::Fault;
use super::counters::Outcome;
use super::event_writer::Writer;
use super::recorder::Exchange;
use super::response_plan::{Event, EventSequence, ResponsePlan, Stop};
use super::socket::ResetFlag;

const BUFFER: usize = 16 * 1024;
/// The time for written data to reach the peer before a reset discards it.
const BEFORE_RESET: Duration = Duration::from_millis(20);

/// A fault cut the connection.
#[derive(Debug)]
pub(super) struct ConnectionCut;

/// The body of a response.
pub(super) struct ResponseBody {
    source: Source,
    pending: Bytes,
    fragment: Option<usize>,
    yield_once: bool,
    coalesce: bool,
    delay: Option<Pin<Box<Sleep>>>,
}

enum Source {
    Ended,
    Whole { exchange: Option<Exchange>, outcome: Outcome },
    Events(Box<Events>),
}

/// A stream in progress.
struct Events {
    plan: ResponsePlan,
    sequence: EventSequence,
    writer: Writer,
    buffer: BytesMut,
    encoder: Option<GzEncoder<Vec<u8>>>,
    interval: Duration,
    round: u64,
    held: Option<Event>,
    exchange: Exchange,
    reset: Option<ResetFlag>,
    resetting: bool,
}

/// The next step of a stream.
enum Step {
    Send(Bytes),
    Wait(Duration),
    Hang,
    End(Option<Bytes>),
    Cut,
}

// === impl ConnectionCut ===

impl std::fmt::Display for ConnectionCut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut by a fault")
    }
}

impl std::error::Error for ConnectionCut {}

// === impl ResponseBody ===

impl ResponseBody {
    /// Builds a complete body. The exchange ends when the body is handed over.
    pub fn whole(body: Bytes, fault: &Fault, exchange: Option<Exchange>, outcome: Outcome) -> Self {
        let body = if fault.gzip { gzip(&body) } else { body };
        Self::new(Source::Whole { exchange, outcome }, body, fault)
    }

    /// Builds a stream of events.
    pub fn events(plan: ResponsePlan, interval: Duration, exchange: Exchange, reset: Option<ResetFlag>) -> Self {
        let fault = plan.fault.clone();
        let events = Events {
            writer: Writer::new(&plan),
            sequence: EventSequence::default(),
            buffer: BytesMut::with_capacity(BUFFER),
            encoder: fault.gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast())),
            plan,
            interval,
            round: 0,
            held: None,
            exchange,
            reset,
            resetting: false,
        };
        Self::new(Source::Events(Box::new(events)), Bytes::new(), &fault)
    }

    fn new(source: Source, pending: Bytes, fault: &Fault) -> Self {
        let fragment = fault.fragment.map(usize::from);
        Self { source, pending, fragment, yield_once: false, coalesce: fault.coalesce, delay: None }
    }

    /// Returns the next fragment of the pending bytes, if any.
    fn piece(&mut self) -> Option<Bytes> {
        if self.pending.is_empty() {
            return None;
        }
        let size = self.fragment.unwrap_or(usize::MAX).min(self.pending.len());
        self.yield_once = !self.coalesce;
        Some(self.pending.split_to(size))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ConnectionCut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ConnectionCut>>> {
        let this = &mut *self;
        if std::mem::take(&mut this.yield_once) {
            cx.waker().wake_by_ref(); // returning Pending once makes hyper flush: one write per event
            return Poll::Pending;
        }
        loop {
            if let Some(delay) = &mut this.delay {
                ready!(delay.as_mut().poll(cx));
                this.delay = None;
            }
            if let Some(piece) = this.piece() {
                if this.pending.is_empty() {
                    this.source.handed_over();
                }
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let Source::Events(events) = &mut this.source else {
                this.source.handed_over();
                return Poll::Ready(None);
            };
            match events.step() {
                Step::Send(bytes) => this.pending = bytes,
                Step::Wait(time) => this.delay = Some(Box::pin(sleep(time))),
                Step::Hang => return Poll::Pending,
                Step::Cut => return Poll::Ready(Some(Err(ConnectionCut))),
                Step::End(tail) => {
                    events.exchange.end(Outcome::Completed);
                    this.source = Source::Ended;
                    this.pending = tail.unwrap_or_default();
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Ended) && self.pending.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.source {
            Source::Events(_) => SizeHint::default(),
            _ => SizeHint::with_exact(self.pending.len() as u64),
        }
    }
}

// === impl Source ===

impl Source {
    fn handed_over(&mut self) {
        if let Self::Whole { exchange, outcome } = self {
            if let Some(exchange) = exchange {
                exchange.end(*outcome);
            }
            *self = Self::Ended;
        }
    }
}

// === impl Events ===

impl Events {
    fn step(&mut self) -> Step {
        if self.resetting {
            return self.cut();
        }
        let event = match self.held.take().map_or_else(|| self.sequence.next(&self.plan), Ok) {
            Ok(event) => event,
            Err(Stop::Hang) => return Step::Hang,
            Err(Stop::End) => {
                return Step::End(self.encoder.take().and_then(|end| end.finish().ok()).map(Bytes::from));
            }
            Err(Stop::Reset) => {
                self.resetting = true;
                return Step::Wait(BEFORE_RESET);
            }
        };
        if let Event::Token { number, .. } = event {
            if number > self.round && !self.interval.is_zero() {
                self.round = number;
                self.held = Some(event);
                return Step::Wait(self.interval);
            }
            self.exchange.sent(1);
        }
        self.writer.write(&mut self.buffer, &self.plan, event);
        let bytes = self.encoded();
        if event == Event::Done && self.encoder.is_none() {
            self.exchange.end(Outcome::Completed); // before the client can have read it
        }
        Step::Send(bytes)
    }

    fn cut(&mut self) -> Step {
        if let Some(reset) = &self.reset {
            reset.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        self.exchange.end(Outcome::Cut);
        Step::Cut
    }

    fn encoded(&mut self) -> Bytes {
        let plain = self.buffer.split().freeze();
        self.buffer.reserve(BUFFER / 8);
        let Some(encoder) = &mut self.encoder else {
            return plain;
        };
        let _ = encoder.write_all(&plain).and_then(|()| encoder.flush()); // writing to a Vec cannot fail
        std::mem::take(encoder.get_mut()).into()
    }
}

fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let _ = encoder.write_all(body); // writing to a Vec cannot fail
    encoder.finish().unwrap_or_default().into()
}
