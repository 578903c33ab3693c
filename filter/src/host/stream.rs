//! The gate's side of one HTTP stream: feeds the callbacks of the host to the exchange, and does what the exchange tells.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use log::warn;

use crate::exchange::Exchange;
use crate::exchange::access_log::AccessLogEntry;
use crate::exchange::gate::Gate;
use crate::exchange::step::{BodyStep, CalloutEnd, CalloutRequest, ResponseStep, Step};
use crate::host::io::{Attribute, Body, Flow, HeaderMap, Io};
use crate::host::once;
use crate::host::streams::Streams;

/// How long a request waits for its body before the gate answers in the client's place: at least 30 seconds, as a wait is timed from the
/// tick before it.
const BODY_TIMEOUT: Duration = Duration::from_secs(31);
/// How much longer than its own timeout a callout is waited for: the host reports a timeout by itself, as a rule.
const CALLOUT_GRACE: Duration = Duration::from_secs(1);

/// One HTTP stream at the gate.
#[derive(Debug)]
pub struct Stream {
    id: u32,
    /// This stream, for those who find it later.
    this: Weak<Self>,
    streams: Rc<Streams<Stream>>,
    exchange: RefCell<Exchange>,
    waits: Cell<bool>,
    /// The token of the callout whose answer is awaited.
    callout: Cell<Option<u32>>,
}

// === impl Stream ===

impl Stream {
    /// Creates the stream of this number, for the configuration in force.
    pub fn new(id: u32, gate: Rc<Gate>, streams: Rc<Streams<Stream>>) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            id,
            this: Weak::clone(this),
            streams,
            exchange: RefCell::new(Exchange::new(gate)),
            waits: Cell::new(false),
            callout: Cell::new(None),
        })
    }

    /// Returns its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns its exchange.
    pub fn exchange(&self) -> &RefCell<Exchange> {
        &self.exchange
    }

    /// The request's headers have arrived.
    pub fn on_request_headers(&self, io: &impl Io, end_of_stream: bool) -> Flow {
        // Every path but two is closed at a control listener, so that it has to be known of each request. Elsewhere the host returns nothing.
        if io.attribute(Attribute::ListenerControl).as_deref() == Some(&[1]) {
            self.exchange.borrow_mut().enter_control_listener();
        }
        let step = io.headers(HeaderMap::Request, |headers| {
            let env = io.environment();
            let peer = || {
                let now = env.now();
                env.worker.borrow_mut().verified.identity(io, env.store, now)
            };
            self.exchange.borrow_mut().on_request_headers(headers, end_of_stream, &peer, &env)
        });
        if self.exchange.borrow().awaits_body() {
            self.wait(BODY_TIMEOUT);
        }
        self.act(step, io)
    }

    /// More of the request's body has arrived: `size` bytes are held so far.
    pub fn on_request_body(&self, io: &impl Io, size: usize, end_of_stream: bool) -> Flow {
        if self.callout.get().is_none() {
            self.stop_waiting();
        }
        let body = || io.body(Body::Request, size);
        let step = self.exchange.borrow_mut().on_request_body(size, end_of_stream, body, &io.environment());
        self.act(step, io)
    }

    /// The request's trailers have arrived: its body is whole.
    pub fn on_request_trailers(&self, io: &impl Io) -> Flow {
        if self.callout.get().is_none() {
            self.stop_waiting();
        }
        // What is not sent as a header is not sent as a trailer either.
        let edits = io.headers(HeaderMap::RequestTrailers, |trailers| self.exchange.borrow().strip(trailers));
        io.edit_headers(HeaderMap::RequestTrailers, &edits);
        let body = || io.body(Body::Request, usize::MAX);
        let step = self.exchange.borrow_mut().on_request_trailers(body, &io.environment());
        self.act(step, io)
    }

    /// The answer to a callout has arrived, or the news that there is none.
    pub fn on_callout(&self, io: &impl Io, token: u32) {
        if self.callout.get() != Some(token) {
            return;
        }
        match io.headers(HeaderMap::Callout, |headers| headers.status()) {
            Some(status) => {
                let body = io.body(Body::Callout, CalloutEnd::LIMIT);
                self.end_callout(CalloutEnd::Answered { status, body: body.as_ref() }, io);
            }
            None => self.end_callout(CalloutEnd::Unanswered, io),
        }
    }

    /// It has waited too long.
    pub fn on_timeout(&self, io: &impl Io) {
        self.waits.set(false);
        if self.callout.get().is_some() {
            return self.end_callout(CalloutEnd::Unanswered, io);
        }
        let Some(reply) = self.exchange.borrow_mut().on_body_timeout() else { return };
        io.reply(&reply);
        if once(&io.environment(), "pai/1/body-timeout", b"told") {
            warn!(
                "a request was held for 30 s and its body never arrived: either its client sent none, or the plugin's \
                 `allow_on_headers_stop_iteration` is not true (see docs/configuration.md, `routing`)"
            );
        }
    }

    /// The response's headers have arrived.
    pub fn on_response_headers(&self, io: &impl Io, end_of_stream: bool) -> Flow {
        if !self.exchange.borrow().awaits_answer() {
            return Flow::Continue;
        }
        let unrouted = Cell::new(false);
        let step = io.headers(HeaderMap::Response, |headers| {
            let details = || {
                let details = io.attribute(Attribute::ResponseDetails)?;
                unrouted.set(details.starts_with(b"route_not_found") || details.starts_with(b"cluster_not_found"));
                Some(details)
            };
            self.exchange.borrow_mut().on_response_headers(headers, end_of_stream, details, &io.environment())
        });
        if unrouted.get() {
            self.warn_unrouted(io);
        }
        match step {
            ResponseStep::Continue => Flow::Continue,
            ResponseStep::Edit(edits) => {
                io.edit_headers(HeaderMap::Response, &edits);
                Flow::Continue
            }
            ResponseStep::Hold(edits) => {
                io.edit_headers(HeaderMap::Response, &edits);
                Flow::Pause
            }
            ResponseStep::Reply(reply) => {
                io.reply(&reply);
                Flow::Pause
            }
        }
    }

    /// A chunk of the response's body has arrived: `size` bytes, with those that are held.
    pub fn on_response_body(&self, io: &impl Io, size: usize, end_of_stream: bool) -> Flow {
        let mut exchange = self.exchange.borrow_mut();
        if !exchange.reads_answer() {
            return Flow::Continue;
        }
        let chunk = io.body(Body::Response, size.min(exchange.answer_limit()));
        let step = exchange.on_response_body(chunk.as_ref(), end_of_stream, &io.environment());
        drop(exchange);
        match step {
            BodyStep::Continue => Flow::Continue,
            BodyStep::Replace(bytes) => {
                io.replace_body(Body::Response, size, &bytes);
                Flow::Continue
            }
            BodyStep::Hold => Flow::Pause,
            BodyStep::Reply(reply) => {
                io.reply(&reply);
                Flow::Pause
            }
        }
    }

    /// The response has ended with trailers.
    pub fn on_response_trailers(&self, io: &impl Io) -> Flow {
        let limit = self.exchange.borrow().answer_limit();
        let body = || io.body(Body::Response, limit);
        let reply = self.exchange.borrow_mut().on_response_trailers(body, &io.environment());
        let Some(reply) = reply else { return Flow::Continue };
        io.reply(&reply);
        Flow::Pause
    }

    /// The stream has ended: settles it, and fills the access log.
    pub fn on_log(&self, io: &impl Io) {
        self.stop_waiting();
        self.streams.remove(self.id);
        // The host's address is known once there was a connection. (The time at which a pooled one was ready is known of failures too.)
        let connected = || io.attribute(Attribute::UpstreamLocalAddress).is_some();
        if let Some(entry) = self.exchange.borrow_mut().on_log(connected, &io.environment()) {
            show(&entry, io);
        }
    }

    /// Does what the exchange tells about the request.
    fn act(&self, step: Step, io: &impl Io) -> Flow {
        match step {
            Step::Continue => Flow::Continue,
            Step::Hold => Flow::Pause,
            Step::Ask(callout) => self.ask(&callout, io),
            Step::Forward(forward) => {
                io.edit_headers(HeaderMap::Request, &forward.headers);
                if let Some(splice) = &forward.body {
                    io.replace_body(Body::Request, splice.length, &splice.bytes);
                }
                self.expect_attempts(io);
                Flow::Continue
            }
            Step::Reply(reply) => {
                io.reply(&reply);
                Flow::Pause
            }
        }
    }

    /// Sends a callout and holds the request for its answer. Where it cannot be sent, the request continues without one.
    fn ask(&self, callout: &CalloutRequest, io: &impl Io) -> Flow {
        let Some(token) = io.send_callout(callout) else {
            let step = self.answer(CalloutEnd::NotSent, io);
            return self.act(step, io);
        };
        self.callout.set(Some(token));
        self.wait(callout.timeout + CALLOUT_GRACE);
        Flow::Pause
    }

    /// Lets the exchange go on that waits for a callout, and the request with it.
    fn end_callout(&self, end: CalloutEnd<'_>, io: &impl Io) {
        self.stop_waiting();
        self.callout.set(None);
        let step = self.answer(end, io);
        if self.act(step, io) == Flow::Continue {
            io.resume_request();
        }
    }

    fn answer(&self, end: CalloutEnd<'_>, io: &impl Io) -> Step {
        self.exchange.borrow_mut().on_callout(end, || io.body(Body::Request, usize::MAX), &io.environment())
    }

    /// Warns once for each provider that no route leads to its cluster.
    fn warn_unrouted(&self, io: &impl Io) {
        let exchange = self.exchange.borrow();
        let Some(provider) = exchange.provider_name() else { return };
        if once(&io.environment(), &format!("pai/1/unrouted/{provider}"), b"told") {
            warn!(
                "a request for provider `{provider}` got 503: no route matches the header `x-pai-provider: {provider}`, or its route names a \
                 cluster that does not exist. Each ModelProvider needs a route that matches this header, and a cluster (see \
                 docs/troubleshooting.md)"
            );
        }
    }

    /// Lets attempt filters find this stream, where there are any. A request without alternatives is known to them too, so that they
    /// can distinguish it from one that no gate has admitted.
    fn expect_attempts(&self, io: &impl Io) {
        if self.streams.expects_attempts() {
            self.streams.publish(self.id, Weak::clone(&self.this));
            io.set_filter_state("pai.exchange", &self.streams.token(self.id));
        }
    }

    fn wait(&self, timeout: Duration) {
        self.streams.wait(self.id, Weak::clone(&self.this), timeout);
        self.waits.set(true);
    }

    fn stop_waiting(&self) {
        if self.waits.replace(false) {
            self.streams.stop_waiting(self.id);
        }
    }
}

/// Writes what access logs show into filter state.
fn show(entry: &AccessLogEntry, io: &impl Io) {
    let (prompt, completion) =
        entry.tokens.map_or_else(Default::default, |(prompt, completion)| (prompt.to_string(), completion.to_string()));
    let (max_tokens, limited_by) = entry.limit.map_or_else(Default::default, |limit| (limit.tokens.to_string(), limit.by.name()));
    for (name, value) in [
        ("pai.provider", &*entry.provider),
        ("pai.model", &entry.model),
        ("pai.subject", &entry.subject),
        ("pai.decision", entry.decision),
        ("pai.guard", &entry.guard),
        ("pai.attempts", &entry.attempts),
        ("pai.prompt_tokens", &prompt),
        ("pai.completion_tokens", &completion),
        ("pai.max_tokens", &max_tokens),
        ("pai.limited_by", limited_by),
    ] {
        if !value.is_empty() {
            io.set_filter_state(name, value.as_bytes());
        }
    }
}
