//! A wasm filter without any function: it implements every callback of the real filter and continues. With the configuration `hold`
//! it holds requests until their bodies are complete, as any filter that routes by the body must.
#![cfg(target_os = "wasi")]
#![allow(unsafe_code, missing_docs, reason = "the SDK's entry macro is both")]

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

#[derive(Clone, Copy)]
struct Noop {
    holds: bool,
}

impl Context for Noop {}

impl RootContext for Noop {
    fn on_configure(&mut self, _size: usize) -> bool {
        self.holds = self.get_plugin_configuration().is_some_and(|configuration| configuration == b"hold");
        true
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(*self))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl HttpContext for Noop {
    fn on_http_request_headers(&mut self, _headers: usize, end: bool) -> Action {
        self.until(end)
    }

    fn on_http_request_body(&mut self, _size: usize, end: bool) -> Action {
        self.until(end)
    }
}

impl Noop {
    fn until(self, end: bool) -> Action {
        if self.holds && !end { Action::Pause } else { Action::Continue }
    }
}

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Noop { holds: false }) });
}}
