//! A small stand-in for vLLM, for `pai gateway run --demo`. It implements vLLM's API without a model; its answers state that.

mod completion;
mod service;
mod tokens;

use std::convert::Infallible;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

/// The context length of each model.
const MAX_MODEL_LEN: u64 = 8192;

/// What a stand-in serves.
#[derive(Debug, Clone)]
pub struct Options {
    /// The names of its models.
    pub models: Vec<String>,
    /// The API key that it requires, as `vllm serve --api-key` does.
    pub api_key: Option<String>,
}

/// A running stand-in. It ends with the process.
#[derive(Debug)]
pub struct Server {
    url: String,
    fails: Arc<AtomicBool>,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        let models = ["meta-llama/Meta-Llama-3-70B-Instruct", "mistralai/Mistral-7B-Instruct-v0.3"].map(str::to_owned);
        Self { models: models.into(), api_key: None }
    }
}

// === impl Server ===

impl Server {
    /// Starts a stand-in on a free port of the loopback interface, in a thread of its own.
    pub fn start(options: Options) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let server = Self { url: format!("http://{}/v1", listener.local_addr()?), fails: Arc::default() };
        let service = Arc::new(service::Service { options, fails: server.fails.clone() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("demo".to_owned()).spawn(move || runtime.block_on(serve(listener, service)))?;
        Ok(server)
    }

    /// Returns the URL for the field `endpoint` of a `ModelProvider`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sets whether each request is answered with 503.
    pub fn set_fails(&self, fails: bool) {
        self.fails.store(fails, Relaxed);
    }
}

async fn serve(listener: TcpListener, service: Arc<service::Service>) -> std::io::Result<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await; // such as too many open files
            continue;
        };
        let service = service.clone();
        let answer = service_fn(move |request| {
            let service = service.clone();
            async move { Ok::<_, Infallible>(service.answer(request).await) }
        });
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
        tokio::spawn(connection);
    }
}

#[cfg(test)]
mod tests;
