//! The stand-in vLLM behind every Envoy, and one that fails.

use std::time::Duration;

use anyhow::{Error, Result};

use super::workload::{MODEL, REFERENCE, TOKENS};
use crate::standin::{Fault, Options, StandIn};

/// Starts the stand-in in a runtime of its own, which ends with the process.
pub(super) async fn start() -> Result<StandIn> {
    start_with(Fault::default()).await
}

/// Starts a stand-in that responds 503 to every second request. (A model that always failed would enter its cooldown, and the
/// filter would skip it.)
pub(super) async fn start_failing() -> Result<StandIn> {
    start_with("status=503,every=2".parse().map_err(Error::msg)?).await
}

pub(super) async fn start_with(fault: Fault) -> Result<StandIn> {
    let options = Options {
        fault,
        models: vec![MODEL.to_owned(), REFERENCE.to_owned()],
        max_model_len: 1_048_576,
        tokens: TOKENS as u64,
        keep_alive: Duration::from_secs(24 * 3600), // an idle Envoy keeps its connections
        ..Options::default()
    };
    let (started, standin) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("stand-in".to_owned()).spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let _ = started.send(StandIn::start(options).await);
            std::future::pending::<()>().await;
        });
    })?;
    Ok(standin.await??)
}
