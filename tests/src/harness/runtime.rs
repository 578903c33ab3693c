//! The runtime of upstreams and connections. It outlives the test that started them.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().thread_name("harness").build().expect("a runtime"));

/// Returns the harness's runtime.
pub(crate) fn runtime() -> &'static Handle {
    RUNTIME.handle()
}
