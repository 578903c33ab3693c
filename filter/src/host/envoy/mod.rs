//! The adapter to Envoy: callbacks of proxy-wasm in, host calls out, and nothing decided.

mod hostcalls;
mod metrics;
mod shared_data;

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;

use proxy_wasm::hostcalls as sdk;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, LogLevel};

use self::hostcalls::Envoy;
use crate::exchange::worker::Worker;
use crate::host::attempt::Attempt;
use crate::host::io::Flow;
use crate::host::root::{FIRST_TICK, Root, TICK};
use crate::host::stream::Stream;
use crate::host::streams::Streams;

#[cfg(feature = "test-hooks")]
mod hooks;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(EnvoyRoot::new()) });
}}

thread_local! {
    /// What all configurations in this VM share.
    static SHARED: Shared = Shared::new(RandomState::new().build_hasher().finish());
}

#[derive(Clone)]
struct Shared {
    worker: Rc<RefCell<Worker>>,
    streams: Rc<Streams<Stream>>,
}

/// One configuration of the plugin.
struct EnvoyRoot {
    root: Root,
    envoy: Envoy,
}

/// One HTTP stream at the gate.
struct EnvoyStream {
    stream: Rc<Stream>,
    envoy: Envoy,
}

/// One attempt at a provider.
struct EnvoyAttempt {
    attempt: Attempt,
    envoy: Envoy,
}

// === impl Shared ===

impl Shared {
    fn new(instance: u64) -> Self {
        Self { worker: Rc::new(RefCell::new(Worker::new(instance))), streams: Rc::new(Streams::new(instance)) }
    }
}

// === impl EnvoyRoot ===

impl EnvoyRoot {
    fn new() -> Self {
        let Shared { worker, streams } = SHARED.with(Shared::clone);
        Self { root: Root::new(streams), envoy: Envoy::new(worker) }
    }
}

impl Drop for EnvoyRoot {
    fn drop(&mut self) {
        self.root.end(&self.envoy);
    }
}

impl Context for EnvoyRoot {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, _body_size: usize, _trailers: usize) {
        self.root.on_callout(&self.envoy, token);
    }
}

impl RootContext for EnvoyRoot {
    fn on_configure(&mut self, _size: usize) -> bool {
        if hostcalls::property(&["plugin_root_id"]).as_deref() == Some(b"attempt") {
            self.root.configure_attempt(&self.envoy);
            return true;
        }
        let manifests = sdk::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX).ok().flatten().unwrap_or_default();
        self.root.configure_gate(&self.envoy, &manifests, &|name| std::env::var(name).ok())
            && sdk::set_tick_period(FIRST_TICK).is_ok()
    }

    fn on_tick(&mut self) {
        if self.root.is_first_tick() {
            // A tick that stays short costs a little CPU and nothing else.
            let _ = sdk::set_tick_period(TICK);
        }
        self.root.on_tick(&self.envoy);
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        let envoy = self.envoy.clone();
        Some(match self.root.attempt() {
            Some(attempt) => Box::new(EnvoyAttempt { attempt, envoy }),
            None => Box::new(EnvoyStream { stream: self.root.stream(id), envoy }),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

// === impl EnvoyStream ===

impl Context for EnvoyStream {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, _body_size: usize, _trailers: usize) {
        self.stream.on_callout(&self.envoy, token);
    }
}

impl HttpContext for EnvoyStream {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        #[cfg(feature = "test-hooks")]
        if hooks::obey(&self.stream, &self.envoy) {
            return Action::Pause;
        }
        action(self.stream.on_request_headers(&self.envoy, end_of_stream))
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        action(self.stream.on_request_body(&self.envoy, size, end_of_stream))
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        action(self.stream.on_request_trailers(&self.envoy))
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        action(self.stream.on_response_headers(&self.envoy, end_of_stream))
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        action(self.stream.on_response_body(&self.envoy, size, end_of_stream))
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        action(self.stream.on_response_trailers(&self.envoy))
    }

    fn on_log(&mut self) {
        #[cfg(feature = "test-hooks")]
        hooks::show_reserved(&self.stream, &self.envoy);
        self.stream.on_log(&self.envoy);
    }
}

// === impl EnvoyAttempt ===

impl Context for EnvoyAttempt {
    fn on_done(&mut self) -> bool {
        self.attempt.on_done(&self.envoy);
        true
    }
}

impl HttpContext for EnvoyAttempt {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        action(self.attempt.on_request_headers(&self.envoy, end_of_stream))
    }

    fn on_http_request_body(&mut self, _size: usize, end_of_stream: bool) -> Action {
        action(self.attempt.on_request_body(&self.envoy, end_of_stream))
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        action(self.attempt.on_request_trailers(&self.envoy))
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        action(self.attempt.on_response_headers(&self.envoy))
    }
}

fn action(flow: Flow) -> Action {
    match flow {
        Flow::Continue => Action::Continue,
        Flow::Pause => Action::Pause,
    }
}
