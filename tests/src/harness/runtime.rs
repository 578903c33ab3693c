//! The runtime that upstreams and connections live on, so that none of them ends with the test that started it.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().thread_name("harness").build().expect("a runtime"));

/// Where the harness spawns.
pub(crate) fn runtime() -> &'static Handle {
    RUNTIME.handle()
}
