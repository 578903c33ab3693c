//! Requests through what is rendered: credentials, addresses, TLS, bodies, the control socket.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;

use e2e::harness::{Answer, Authority, Received, Upstream, responses, until};
use pai::manifest::Manifest;
use pai::render::SecretFile;
use serde_json::{Value, json};

use super::live::Live;

const AGENT: &str = "spiffe://cluster.local/ns/agents/sa/one";

/// Reads manifests: providers as (name, dialect, endpoint, secret), and an agent with these models.
fn manifests(providers: &[(&str, &str, String, Option<&str>)], models: &[&str]) -> Vec<Manifest> {
    let provider = |(name, dialect, endpoint, secret): &(&str, &str, String, Option<&str>)| {
        let mut spec = json!({ "provider": dialect, "endpoint": endpoint, "allowedModels": ["m"] });
        if let Some(secret) = secret {
            spec["apiKeySecretRef"] = json!({ "name": secret, "key": "api-key" });
        }
        manifest("ModelProvider", name, spec)
    };
    let mut all: Vec<Value> = providers.iter().map(provider).collect();
    all.push(manifest("Agent", "one", json!({ "identities": [AGENT], "models": models })));
    all.push(manifest("Gateway", "default", json!({ "identityHeader": "x-agent-id" })));
    all.into_iter().map(|value| Manifest::from_value(value, 0).unwrap()).collect()
}

fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "pai.io/v1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

fn at(upstream: &Upstream) -> String {
    format!("http://{}/v1", upstream.address())
}

async fn chat(live: &Live, model: &str, content: &str) -> (u16, Option<String>) {
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": content }], "max_tokens": 8 });
    let request = reqwest::Client::new().post(format!("http://127.0.0.1:{}/v1/chat/completions", live.port().await));
    let answer = request.header("x-agent-id", AGENT).header("authorization", "Bearer of-client").json(&body).send().await.unwrap();
    let provider = answer.headers().get("x-pai-provider").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), provider)
}

fn chats(upstream: &Upstream) -> Vec<Received> {
    upstream.requests().into_iter().filter(|request| request.path.ends_with("/chat/completions")).collect()
}

fn text<'a>(request: &'a Received, header: &str) -> &'a str {
    request.header(header).map_or("", |value| std::str::from_utf8(value).unwrap())
}

/// Checks that no header of the gateway reached the provider.
fn is_clean(request: &Received) {
    let head = String::from_utf8_lossy(&request.head).to_ascii_lowercase();
    for hidden in ["x-pai-", "x-envoy-", "x-forwarded-", "x-agent-id", "of-client"] {
        assert!(!head.contains(hidden), "{head}");
    }
}

async fn serving() -> Upstream {
    Upstream::answering(|request| match &*request.path {
        "/v1/models" => Answer::json(&responses::models(8192)),
        _ => Answer::json(&responses::chat(5, 3)),
    })
    .await
}

#[tokio::test]
async fn a_rotated_secret_is_used_without_a_restart() {
    let upstream = serving().await;
    let live = Live::start(&manifests(&[("one", "vllm", at(&upstream), Some("token"))], &["one/m"]), &Authority::new("any")).await;
    for value in ["first", "second"] {
        for file in SecretFile::both("token", "api-key") {
            live.secret(&file, value);
        }
        until("the secret is used", async || {
            assert_eq!(chat(&live, "one/m", "Hello").await.0, 200);
            (text(&upstream.last(), "authorization") == format!("Bearer {value}")).then_some(())
        })
        .await;
    }
    chats(&upstream).iter().for_each(is_clean);
    let callout =
        until("a callout has been sent", async || upstream.requests().into_iter().find(|request| request.path == "/v1/models"))
            .await;
    let credential = text(&callout, "authorization");
    assert!(["Bearer s3cr3t", "Bearer first", "Bearer second"].contains(&credential), "{credential}");
    live.check();
}

#[tokio::test]
async fn a_fallback_carries_the_body_and_its_own_credential() {
    e2e::needs!(ClusterRefresh);
    let failing = Upstream::answering(|_| Answer::error(503, &json!({}))).await;
    let (second, alone) = (serving().await, serving().await);
    let providers = [
        ("first", "vllm", at(&failing), Some("one")),
        ("second", "openai", at(&second), Some("two")),
        ("alone", "anthropic", at(&alone), Some("three")),
    ];
    let mut manifests = manifests(&providers, &["first/m", "second/m"]);
    let other = manifest("Agent", "two", json!({ "identities": ["spiffe://other"], "models": ["alone/m"] }));
    manifests.push(Manifest::from_value(other, 0).unwrap());
    let live = Live::start(&manifests, &Authority::new("any")).await;
    for secret in ["one", "two", "three"] {
        for file in SecretFile::both(secret, "api-key") {
            live.secret(&file, &format!("key-of-{secret}"));
        }
    }
    let content = "word ".repeat(3 * 1024 * 1024);
    until("the secrets are used", async || {
        assert_eq!(chat(&live, "first/m", "Hello").await, (200, Some("second".to_owned())));
        (text(&second.last(), "authorization") == "Bearer key-of-two").then_some(())
    })
    .await;
    assert_eq!(chat(&live, "first/m", &content).await, (200, Some("second".to_owned())));
    for (upstream, secret) in [(&failing, "one"), (&second, "two")] {
        let request = chats(upstream).pop().unwrap();
        assert_eq!(text(&request, "authorization"), format!("Bearer key-of-{secret}"));
        assert!(request.body.len() > content.len());
        is_clean(&request);
    }
    live.check();
}

#[tokio::test]
async fn providers_are_reached_by_name_and_address() {
    let authority = Authority::new("trusted");
    let answer = |_: &Received| Answer::json(&responses::chat(5, 3));
    let named = Upstream::answering_tls(&authority.server("localhost"), answer).await;
    let addressed = Upstream::answering_tls(&authority.server("127.0.0.1"), answer).await;
    let wrong = Upstream::answering_tls(&authority.server("other.test"), answer).await;
    let untrusted = Upstream::answering_tls(&Authority::new("other").server("localhost"), answer).await;
    let plain = serving().await;
    let v6 = ipv6_server();
    let port = |upstream: &Upstream| upstream.address().port();
    let mut providers = vec![
        ("named", "openai", format!("https://localhost:{}/v1", port(&named)), None),
        ("addressed", "vllm", format!("https://127.0.0.1:{}/v1", port(&addressed)), None),
        ("wrong", "openai", format!("https://127.0.0.1:{}/v1", port(&wrong)), None),
        ("wrong-name", "openai", format!("https://localhost:{}/v1", port(&wrong)), None),
        ("untrusted", "openai", format!("https://localhost:{}/v1", port(&untrusted)), None),
        ("plain", "vllm", format!("http://localhost:{}/v1", port(&plain)), None),
    ];
    providers.extend(v6.map(|port| ("v6", "openai", format!("http://[::1]:{port}/v1"), None)));
    let models: Vec<String> = providers.iter().map(|(name, ..)| format!("{name}/m")).collect();
    let mut manifests = manifests(&providers, &["plain/m"]);
    manifests.retain(|manifest| manifest.name != "one");
    let live = Live::start(&manifests, &authority).await;
    for model in models {
        let expected = if ["wrong/m", "wrong-name/m", "untrusted/m"].contains(&&*model) { 503 } else { 200 };
        assert_eq!(chat(&live, &model, "Hello").await.0, expected, "{model}\n{}", live.log());
    }
    assert!(chats(&wrong).is_empty() && chats(&untrusted).is_empty());
}

/// Starts a server on an IPv6 address, where there is IPv6.
fn ipv6_server() -> Option<u16> {
    let listener = TcpListener::bind("[::1]:0").ok()?;
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let _ = socket.read(&mut [0; 4096]);
            let body = responses::chat(5, 3).to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = socket.write_all((head + &body).as_bytes());
        }
    });
    Some(port)
}

#[tokio::test]
async fn the_control_socket_is_the_owners() {
    let live = Live::start(&[], &Authority::new("any")).await;
    let socket = live.control();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    for (path, status) in [("/health", "200"), ("/v1/nothing", "404")] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: control\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
}

#[tokio::test]
async fn the_certificate_of_the_listener_is_exchanged_while_envoy_runs() {
    let directory = std::env::temp_dir().join(format!("pai-certificate-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (chain, key) = (directory.join("server.pem"), directory.join("server.key"));
    let write = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        for (path, pem) in [(&key, made.signing_key.serialize_pem()), (&chain, made.cert.pem())] {
            let next = path.with_extension("next");
            std::fs::write(&next, pem).unwrap();
            std::fs::rename(next, path).unwrap();
        }
    };
    write();
    let live = Live::start_with(&[], &Authority::new("any"), 1 << 20, Some((&chain, &key))).await;
    let url = format!("https://localhost:{}/health", live.port().await);
    for _ in 0..2 {
        until("the certificate is used", async || {
            let curl =
                Command::new("curl").args(["-s", "-4", "--fail", "--max-time", "5", "--cacert"]).arg(&chain).arg(&url).output();
            curl.unwrap().status.success().then_some(())
        })
        .await;
        write();
    }
    std::fs::remove_dir_all(directory).unwrap();
}
