//! One attempt at a provider, behind the router: makes the request its provider's own, and moves it on when the attempt fails.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use log::warn;

use crate::exchange::step::AttemptStep;
use crate::exchange::{credential, no_exchange};
use crate::host::io::{Attribute, Body, Flow, HeaderMap, Io};
use crate::host::once;
use crate::host::stream::Stream;
use crate::host::streams::Streams;
use crate::http::headers::HeaderEdit;

/// One attempt at a provider.
#[derive(Debug)]
pub struct Attempt {
    streams: Rc<Streams<Stream>>,
    /// The stream that it belongs to, until it has been answered or has ended.
    of: RefCell<Option<Rc<Stream>>>,
    /// Which of the exchange's attempts it is.
    ordinal: Cell<u32>,
    /// The headers wait for the body.
    holds: Cell<bool>,
    /// Its stream had ended before it began: nothing is forwarded.
    late: Cell<bool>,
}

// === impl Attempt ===

impl Attempt {
    /// Creates an attempt of some stream of this worker.
    pub fn new(streams: Rc<Streams<Stream>>) -> Self {
        Self { streams, of: RefCell::default(), ordinal: Cell::new(0), holds: Cell::new(false), late: Cell::new(false) }
    }

    /// The request's headers have arrived.
    pub fn on_request_headers(&self, io: &impl Io, end_of_stream: bool) -> Flow {
        let provider = io.attribute(Attribute::ClusterProvider);
        let token = io.attribute(Attribute::ExchangeToken);
        let found = token.as_deref().and_then(|token| self.streams.find(token));
        if found.is_none() && token.as_deref().is_some_and(|token| self.streams.is_ours(token)) {
            // The stream has ended: Envoy 1.39 starts an attempt after it has answered that there is no room for it. It crashes on a
            // second answer.
            self.late.set(true);
            return Flow::Pause;
        }
        let step = match &found {
            Some(stream) => {
                let mut exchange = stream.exchange().borrow_mut();
                self.holds.set(!end_of_stream && !exchange.awaits_decision());
                let step = exchange.on_attempt(provider.as_deref(), &|| injected(io), &io.environment());
                self.ordinal.set(exchange.ordinal());
                step
            }
            None => no_exchange(),
        };
        match step {
            AttemptStep::Forward(edits) => {
                *self.of.borrow_mut() = found;
                io.edit_headers(HeaderMap::Request, &edits);
                // Envoy forgets where the headers are once they have gone on from here, and the next attempt's are written into them.
                if self.holds.get() { Flow::Pause } else { Flow::Continue }
            }
            AttemptStep::Refuse(reply) => {
                io.reply(&reply);
                Flow::Pause
            }
            AttemptStep::MissingCredential(reply) => {
                warn_missing_credential(provider.as_deref(), io);
                io.reply(&reply);
                Flow::Pause
            }
            AttemptStep::Misrouted(reply) => {
                warn_misrouted(provider.as_deref(), found.is_some(), io);
                io.reply(&reply);
                Flow::Pause
            }
        }
    }

    /// More of the request's body has arrived.
    pub fn on_request_body(&self, io: &impl Io, end_of_stream: bool) -> Flow {
        if self.late.get() {
            return Flow::Pause;
        }
        if !self.holds.get() {
            return Flow::Continue;
        }
        if !end_of_stream {
            // At a retry Envoy has the trailers already: it would send them twice if anything went on before them.
            return Flow::Pause;
        }
        self.rewrite_body(io);
        Flow::Continue
    }

    /// The request's trailers have arrived: its body is whole.
    pub fn on_request_trailers(&self, io: &impl Io) -> Flow {
        if self.late.get() {
            return Flow::Pause;
        }
        self.rewrite_body(io);
        Flow::Continue
    }

    /// The provider's headers have arrived.
    pub fn on_response_headers(&self, io: &impl Io) -> Flow {
        let Some(stream) = self.of.take() else { return Flow::Continue };
        let edits = io.headers(HeaderMap::Response, |headers| {
            stream.exchange().borrow_mut().on_attempt_answer(self.ordinal.get(), headers, &io.environment())
        });
        io.edit_headers(HeaderMap::Response, &edits.response);
        self.edit_request(&edits.request, io);
        Flow::Continue
    }

    /// The attempt has ended: without an answer, where none was seen.
    pub fn on_done(&self, io: &impl Io) {
        let Some(stream) = self.of.take() else { return };
        let connected = || io.attribute(Attribute::UpstreamLocalAddress).is_some();
        let edits = stream.exchange().borrow_mut().on_attempt_end(self.ordinal.get(), connected, &io.environment());
        // There are edits only where the stream continues.
        self.edit_request(&edits, io);
    }

    /// Makes the body, which is whole, the provider's own.
    fn rewrite_body(&self, io: &impl Io) {
        let of = self.of.borrow();
        let Some(stream) = of.as_ref().filter(|_| self.holds.get()) else { return };
        let exchange = stream.exchange().borrow();
        let reach = exchange.attempt_reach();
        if reach == 0 {
            return;
        }
        if let Some(splice) = exchange.on_attempt_body(|| io.body(Body::Request, reach)) {
            io.replace_body(Body::Request, splice.length, &splice.bytes);
        }
    }

    /// Changes the headers that the next attempt will have: all attempts share one map. This must be done from here. Where the gate
    /// changes them, Envoy clears its route, and the retry goes to the old cluster while its metadata are the new one's.
    fn edit_request(&self, edits: &[HeaderEdit], io: &impl Io) {
        if self.holds.get() {
            io.edit_headers(HeaderMap::Request, edits);
        }
    }
}

/// Returns the credential that the proxy has written into the request's headers.
fn injected(io: &impl Io) -> Option<Vec<u8>> {
    io.headers(HeaderMap::Request, |headers| headers.get(credential::INJECTED).map(<[u8]>::to_vec))
}

/// Warns once for each provider of a credential that the proxy has not added.
fn warn_missing_credential(provider: Option<&[u8]>, io: &impl Io) {
    let provider = String::from_utf8_lossy(provider.unwrap_or_default());
    if once(&io.environment(), &format!("pai/1/no-credential/{provider}"), b"told") {
        warn!(
            "a request for provider `{provider}` got 502: it has an `apiKeySecretRef`, the Gateway says `credentials: proxy`, and the              `credential_injector` of its cluster has written no `x-pai-credential`. Its secret is missing, empty, or not visible ASCII              (see docs/configuration.md, `credentials`)"
        );
    }
}

/// Warns once of a request that has reached the wrong cluster; `admitted`: a gate has let it through.
fn warn_misrouted(provider: Option<&[u8]>, admitted: bool, io: &impl Io) {
    if !once(&io.environment(), "pai/1/misrouted", b"told") {
        return;
    }
    let provider = provider.map(String::from_utf8_lossy);
    match (&provider, admitted) {
        (None, _) => warn!(
            "an attempt filter does not know its provider: the cluster has no `metadata.filter_metadata.pai.provider` (see docs/fallback.md)"
        ),
        (Some(name), false) => warn!(
            "a request reached the cluster of provider `{name}` that no gate has let through: gate and attempt filter must have one \
             `vm_config`, and the gate must be in every listener that leads there (see docs/fallback.md)"
        ),
        (Some(name), true) => warn!(
            "a request for another provider was sent to the cluster of `{name}`: the route must follow `x-pai-provider`, also when it \
             retries (`refresh_cluster_on_retry`, see docs/fallback.md). Until the attempt filters are configured anew, a provider that \
             fails is not followed by another"
        ),
    }
}
