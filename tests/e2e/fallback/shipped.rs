//! The shipped `envoy/fallback.yaml`, except for addresses and trusted authorities, with hosted providers that use HTTP/2 over TLS.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use e2e::harness::{Answer, Authority, EnvoyFeature, Gate, SLASHED, Upstream, envoy_binary, responses, until};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

const NAME: &str = "localhost";

/// An HTTP/2 server that always sends the same response.
struct Hosted {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct Seen {
    authority: String,
    path: String,
    credential: String,
    headers: String,
    body: Value,
}

// === impl Hosted ===

impl Hosted {
    async fn answering(authority: &Authority, status: u16, body: Value) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = TlsAcceptor::from(authority.server(NAME).config(&[b"h2"]));
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let notes = Arc::clone(&seen);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(converse(socket, tls.clone(), Arc::clone(&notes), status, body.to_string()));
            }
        });
        Self { address, seen, server }
    }

    async fn stop(self) {
        self.server.abort();
        let _ = self.server.await;
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn converse(socket: TcpStream, tls: TlsAcceptor, seen: Arc<Mutex<Vec<Seen>>>, status: u16, body: String) {
    let Ok(stream) = tls.accept(socket).await else { return };
    let serve = service_fn(move |request: hyper::Request<Incoming>| {
        let (seen, body) = (Arc::clone(&seen), body.clone());
        async move {
            let noted = noted(request).await;
            seen.lock().unwrap().push(noted);
            let answer = hyper::Response::builder().status(status).header("content-type", "application/json");
            Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(body))).unwrap())
        }
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), serve).await;
}

async fn noted(request: hyper::Request<Incoming>) -> Seen {
    let (head, body) = request.into_parts();
    Seen {
        authority: head.uri.authority().unwrap().to_string(),
        path: head.uri.path().to_owned(),
        credential: head.headers.get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned(),
        headers: format!("{:?}", head.headers),
        body: serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap(),
    }
}

/// The line that Envoys before 1.39 reject, together with the whole file.
const NEW: &str = "              refresh_cluster_on_retry: true # look at x-pai-provider again\n";

fn shipped() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../envoy/fallback.yaml")).unwrap()
}

/// Replaces `old`, which must occur, by `new`.
fn with(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "{old}");
    text.replace(old, new)
}

async fn gate(vllm: SocketAddr, openai: SocketAddr, anthropic: SocketAddr, trusted: &Path) -> Gate {
    gate_without("", vllm, openai, anthropic, trusted).await
}

/// Starts the shipped configuration without this line.
async fn gate_without(line: &str, vllm: SocketAddr, openai: SocketAddr, anthropic: SocketAddr, trusted: &Path) -> Gate {
    let socket_address = |name: &str, address: SocketAddr| format!("{{ address: {name}, port_value: {} }}", address.port());
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/wasm32-wasip1/release/pai_filter.wasm");
    let text = with(&shipped(), "port_value: 9901", "port_value: 0");
    let text = with(&text, "port_value: 8080", "port_value: 0");
    let text = with(&text, "{ address: 127.0.0.1, port_value: 8000 }", &socket_address("127.0.0.1", vllm));
    let text = with(&text, "{ address: api.openai.com, port_value: 443 }", &socket_address(NAME, openai));
    let text = with(&text, "{ address: api.anthropic.com, port_value: 443 }", &socket_address(NAME, anthropic));
    let text = with(&text, "sni: api.openai.com", &format!("sni: {NAME}"));
    let text = with(&text, "sni: api.anthropic.com", &format!("sni: {NAME}"));
    let text = with(&text, "/etc/ssl/certs/ca-certificates.crt", trusted.to_str().unwrap());
    let text = with(&text, line, "");
    let text = with(&text, "target/wasm32-wasip1/release/pai_filter.wasm", module.to_str().unwrap());
    let gate = Gate::builder().configuration(text).default_header("x-agent-id", "spiffe://cluster.local/ns/agents/sa/researcher");
    let gate = gate.env("PAI_SECRET_OPENAI_API_KEY", "key-of-openai").env("PAI_SECRET_ANTHROPIC_API_KEY", "key-of-anthropic");
    gate.start().await
}

#[tokio::test]
async fn the_shipped_configuration_falls_back() {
    e2e::needs!(ClusterRefresh);
    let trusted = Authority::new("trusted");
    let file = std::env::temp_dir().join(format!("pai-trusted-{}.pem", std::process::id()));
    std::fs::write(&file, trusted.pem()).unwrap();
    let vllm = Upstream::answering(|request| match &*request.path {
        "/v1/models" => Answer::json(&responses::models(8192)),
        _ => Answer::error(503, &json!({ "error": "busy" })),
    })
    .await;
    let anthropic = Hosted::answering(&trusted, 429, json!({ "error": "slow down" })).await;
    let openai = Hosted::answering(&trusted, 200, responses::chat(7, 5)).await;
    let gate = gate(vllm.address(), openai.address, anthropic.address, &file).await;
    until("the filter has requested the context length", async || {
        vllm.requests().iter().any(|request| request.path == "/v1/models").then_some(())
    })
    .await;

    let body =
        json!({ "model": format!("vllm-local/{SLASHED}"), "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 8 });
    for request in [gate.chat(&body), gate.chat(&body).http2()] {
        let reply = request.send().await;
        assert_eq!(reply.ok().header("x-pai-provider"), Some("openai"));
        assert!(!reply.headers.keys().any(|name| name.as_str().starts_with("x-envoy-")), "{}", reply.describe());
    }
    assert_eq!(gate.used_of("openai").await, 24);
    assert_eq!((gate.used().await, gate.used_of("anthropic").await), (0, 0));
    for (hosted, name, model) in [(&openai, "openai", "gpt-5-mini"), (&anthropic, "anthropic", "claude-haiku-4-5")] {
        assert_eq!(hosted.seen().len(), 2, "{name}");
        for seen in hosted.seen() {
            let sent = (&*seen.authority, &*seen.path, &*seen.credential);
            let credential = format!("Bearer key-of-{name}");
            assert_eq!(sent, (&*format!("api.{name}.com"), "/v1/chat/completions", &*credential));
            assert_eq!(seen.body["model"], model);
            let hidden = ["x-pai-", "x-envoy-", "x-forwarded-", "x-agent-id"];
            assert!(hidden.iter().all(|name| !seen.headers.contains(name)), "{}", seen.headers);
        }
    }

    // If no provider is reachable, the client receives the error soon.
    openai.stop().await;
    anthropic.stop().await;
    vllm.stop().await;
    gate.chat(&body).send().await.refused(503, "server_error", "upstream_unavailable");
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn a_hosted_provider_without_the_right_certificate_gets_nothing() {
    e2e::needs!(ClusterRefresh);
    let (trusted, other) = (Authority::new("trusted"), Authority::new("other"));
    let file = std::env::temp_dir().join(format!("pai-trusted-only-{}.pem", std::process::id()));
    std::fs::write(&file, trusted.pem()).unwrap();
    let vllm = Upstream::answering(|_| Answer::error(503, &json!({}))).await;
    let anthropic = Hosted::answering(&other, 200, responses::chat(1, 1)).await;
    let openai = Hosted::answering(&trusted, 200, responses::chat(7, 5)).await;
    let gate = gate(vllm.address(), openai.address, anthropic.address, &file).await;
    let body =
        json!({ "model": format!("vllm-local/{SLASHED}"), "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 8 });
    assert_eq!(gate.chat(&body).send().await.ok().header("x-pai-provider"), Some("openai"));
    assert!(anthropic.seen().is_empty());
    std::fs::remove_file(file).unwrap();
}

/// An older Envoy reports the line that it does not know, and accepts the file without it.
#[tokio::test]
async fn an_older_envoy_names_what_it_does_not_know() {
    let file = std::env::temp_dir().join(format!("pai-shipped-{}.yaml", std::process::id()));
    let module = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/wasm32-wasip1/release/pai_filter.wasm");
    let text = with(&shipped(), "target/wasm32-wasip1/release/pai_filter.wasm", module);
    for (text, accepted) in [(text.clone(), EnvoyFeature::ClusterRefresh.is_supported()), (with(&text, NEW, ""), true)] {
        std::fs::write(&file, text).unwrap();
        let mut envoy = Command::new(envoy_binary());
        envoy.args(["--mode", "validate", "-c"]).arg(&file);
        let output = envoy.env("PAI_SECRET_OPENAI_API_KEY", "key").env("PAI_SECRET_ANTHROPIC_API_KEY", "key").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), accepted, "{said}");
        // The number of spaces in the rest of the message differs between builds.
        assert!(accepted || said.contains("'refresh_cluster_on_retry'"), "{said}");
    }
    std::fs::remove_file(file).unwrap();
}

/// The remaining features work: an exhausted budget leads to another provider, a failure does not.
#[tokio::test]
async fn the_shipped_configuration_without_the_new_line() {
    let trusted = Authority::new("trusted");
    let file = std::env::temp_dir().join(format!("pai-trusted-older-{}.pem", std::process::id()));
    std::fs::write(&file, trusted.pem()).unwrap();
    let vllm = Upstream::answering(|request| match &*request.path {
        "/v1/models" => Answer::json(&responses::models(8192)),
        _ if request.text().contains("fail") => Answer::error(503, &json!({ "error": "busy" })),
        _ => Answer::json(&responses::chat(50_000_000, 0)),
    })
    .await;
    let anthropic = Hosted::answering(&trusted, 200, responses::chat(7, 5)).await;
    let openai = Hosted::answering(&trusted, 200, responses::chat(1, 1)).await;
    let gate = gate_without(NEW, vllm.address(), openai.address, anthropic.address, &file).await;
    let body = |text: &str| json!({ "model": format!("vllm-local/{SLASHED}"), "messages": [{ "role": "user", "content": text }], "max_tokens": 8 });
    let reply = gate.chat(&body("fail")).send().await;
    if EnvoyFeature::ClusterRefresh.is_supported() {
        reply.refused(503, "server_error", "upstream_unavailable");
    } else {
        assert_eq!((reply.status, reply.json()), (503, json!({ "error": "busy" })), "{}", reply.describe());
    }
    assert_eq!(gate.used().await, 0);
    gate.chat(&body("spend")).send().await.ok();
    assert_eq!(gate.used().await, 50_000_000);
    let reply = gate.chat(&body("Hello")).send().await;
    assert_eq!(reply.ok().header("x-pai-provider"), Some("anthropic"));
    assert_eq!((gate.used_of("anthropic").await, gate.used_of("openai").await), (12, 0));
    assert_eq!((anthropic.seen().len(), openai.seen().len()), (1, 0));
    std::fs::remove_file(file).unwrap();
}
