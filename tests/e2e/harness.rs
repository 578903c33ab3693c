//! Tests of the harness itself, with a filter that does nothing: what it sends arrives, and it reports what Envoy does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::PathBuf;
use std::time::Duration;

use e2e::harness::{Answer, Authority, EnvoyFeature, Gate, MODEL, Peers, Request, Upstream, responses, until};
use serde_json::json;

/// A gateway with the empty filter; requests name their provider themselves.
fn noop() -> PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/wasm32-wasip1/release/noop_filter.wasm");
    std::env::var_os("PAI_NOOP_WASM").map_or_else(|| PathBuf::from(built), PathBuf::from)
}

async fn gate(upstream: &Upstream) -> Gate {
    Gate::builder().module(noop()).manifests("a").upstream("vllm-local", upstream).start().await
}

#[tokio::test]
async fn whole_answers_pass() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await;
    let gate = gate(&upstream).await;
    let body = json!({ "model": MODEL });
    for request in [gate.chat(&body), gate.chat(&body).http2()] {
        let reply = request.header("x-pai-provider", "vllm-local").send().await;
        assert_eq!(reply.ok().json()["usage"]["total_tokens"], 8);
        assert_eq!(upstream.last().json(), body);
    }
    let line = gate.access_log(|line| line["status"] == 200).await;
    assert_eq!(line["details"], "via_upstream");
}

#[tokio::test]
async fn chunks_and_trailers_arrive() {
    let upstream = Upstream::answering(|_| Answer::stream(["one", "two"])).await;
    let gate = gate(&upstream).await;
    let pieces = [r#"{"mod"#, r#"el": 1}"#];
    for request in [
        gate.post("/v1/chat/completions").chunked(pieces),
        gate.post("/v1/chat/completions").chunked(pieces).trailer("x-end", "1").http2(),
    ] {
        let reply = request.header("x-pai-provider", "vllm-local").send().await;
        assert_eq!(reply.ok().text(), "onetwo");
        assert_eq!(upstream.last().text(), pieces.concat());
    }
}

#[tokio::test]
async fn the_test_acts_as_the_server() {
    let upstream = Upstream::scripted().await;
    let gate = gate(&upstream).await;
    let asked = gate.chat(&json!({})).header("x-pai-provider", "vllm-local").spawn_stream();
    let mut call = upstream.call().await;
    call.start_stream().await.chunk("data: 1\n\n").await;
    let mut answer = asked.await.unwrap();
    assert_eq!(answer.event().await.as_deref(), Some("data: 1\n\n"));
    call.chunk("data: 2\n\n").await;
    assert_eq!(answer.event().await.as_deref(), Some("data: 2\n\n"));
    answer.abort().await;
    call.aborted().await;

    let asked = gate.chat(&json!({})).header("x-pai-provider", "vllm-local").spawn_send();
    let mut call = upstream.call().await;
    call.start_stream().await.chunk("data: 1\n\n").await;
    call.reset();
    assert!(asked.await.unwrap().cut);

    for _ in 0..2 {
        let asked = gate.chat(&json!({})).header("x-pai-provider", "vllm-local").spawn_send();
        upstream.call().await.answer(Answer::json(&json!({ "ok": true }))).await;
        assert_eq!(asked.await.unwrap().ok().json()["ok"], true);
    }
}

#[tokio::test]
async fn an_aborted_response_is_counted() {
    let events = vec!["data: 1\n\n"; 1000];
    let upstream = Upstream::answering(move |_| Answer::stream(&events).paced(Duration::from_millis(5))).await;
    let gate = gate(&upstream).await;
    let mut answer = gate.chat(&json!({})).header("x-pai-provider", "vllm-local").stream().await;
    answer.event().await.unwrap();
    answer.abort().await;
    until("the upstream connection is aborted", async || (upstream.aborted() == 1).then_some(())).await;
}

#[tokio::test]
async fn raw_bytes_arrive_as_written() {
    let upstream = Upstream::answering(|_| Answer::json(&json!({ "ok": true }))).await;
    let gate = gate(&upstream).await;
    let request = "POST /x HTTP/1.1\r\nhost: a\r\nx-pai-provider: vllm-local\r\ncontent-length: 2\r\n\r\nhi";
    let mut raw = gate.raw().await;
    raw.write([request, request].concat()).await;
    for _ in 0..2 {
        assert_eq!(raw.reply().await.unwrap().ok().json()["ok"], true);
    }
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn a_configuration_is_accepted_or_rejected() {
    let upstream = Upstream::answering(|_| Answer::json(&json!({}))).await;
    let gate = gate(&upstream).await;
    gate.reconfigure("b").await.unwrap();
    gate.reconfigure("c").await.unwrap();
    let refused = Gate::builder().module("/nonexistent.wasm").upstream("vllm-local", &upstream).start_rejected().await;
    assert!(refused.log.contains("nonexistent"), "{}", refused.log);
}

/// Properties that the filter relies on: Envoy reports the names in an unverified certificate, too, and reports a resumed session
/// as not verified. Envoys before 1.39 report nothing.
#[tokio::test]
async fn envoy_reports_which_certificates_it_verified() {
    let upstream = Upstream::answering(|_| Answer::json(&json!({ "ok": true }))).await;
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let named = ours.client(&["spiffe://a/b", "spiffe://a/c"]).resuming();
    let forged = foreign.client(&["spiffe://a/b"]);
    for peers in [Peers::Required, Peers::Optional, Peers::AcceptUntrusted] {
        let builder = Gate::builder().module(noop()).manifests("a").mtls(peers, &ours);
        let gate = builder.upstream("vllm-local", &upstream).start().await;
        let ask = || gate.get("/").header("x-pai-provider", "vllm-local");
        assert_eq!(seen(&gate, ask().identity(&ours.client(&["spiffe://a/b"]))).await, Some(peer_in_log("spiffe://a/b", true)));
        assert_eq!(
            seen(&gate, ask().identity(&ours.client(&["spiffe://a/b"])).http2()).await,
            Some(peer_in_log("spiffe://a/b", true))
        );
        assert_eq!(seen(&gate, ask().identity(&ours.client_host("b.a"))).await, Some(peer_in_log("null", true)));
        let anonymous = (peers != Peers::Required).then(|| peer_in_log("null", false));
        assert_eq!(seen(&gate, ask()).await, anonymous, "{peers:?}");
        let untrusted = (peers == Peers::AcceptUntrusted).then(|| peer_in_log("spiffe://a/b", false));
        assert_eq!(seen(&gate, ask().identity(&forged)).await, untrusted, "{peers:?}");
    }
    let gate = Gate::builder().module(noop()).manifests("a").mtls(Peers::Required, &ours);
    let gate = gate.upstream("vllm-local", &upstream).start().await;
    let again = until("a session is resumed", async || {
        let answer =
            gate.get("/").header("x-pai-provider", "vllm-local").header("x-test-case", "again").identity(&named).stream().await;
        let resumed = answer.resumed;
        answer.rest().await.ok();
        resumed.then_some(())
    });
    again.await;
    let line = gate
        .access_log(|line| line["case"] == "again" && line["verified"].as_str().unwrap_or("null") == peer_in_log("", false).1)
        .await;
    assert_eq!(line["peer"], "spiffe://a/b,spiffe://a/c", "{line}");
}

fn peer_in_log(peer: &str, verified: bool) -> (String, String) {
    (peer.to_owned(), if EnvoyFeature::PeerCertificateValid.is_supported() { verified.to_string() } else { "null".to_owned() })
}

/// Returns the peer of the request in the access log; `None` if there was no response.
async fn seen(gate: &Gate, request: Request) -> Option<(String, String)> {
    let lines = gate.access_lines().len();
    request.try_stream().await.ok()?.rest().await.ok();
    let line = until("the request is in the access log", async || gate.access_lines().into_iter().nth(lines)).await;
    Some((line["peer"].as_str().unwrap_or("null").to_owned(), line["verified"].as_str().unwrap_or("null").to_owned()))
}

#[tokio::test]
async fn an_upstream_goes_down_and_comes_back() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await;
    let gate = gate(&upstream).await;
    let ask = async || gate.chat(&json!({ "model": MODEL })).header("x-pai-provider", "vllm-local").send().await.status;
    assert_eq!(ask().await, 200);
    upstream.stop().await;
    assert_eq!(ask().await, 503);
    upstream.restart().await;
    assert_eq!(ask().await, 200);
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn envoy_accepts_only_the_right_certificate() {
    let (trusted, other) = (Authority::new("trusted"), Authority::new("other"));
    for (certificate, status) in [
        (trusted.server("api.openai.test"), 200),
        (trusted.server("api.elsewhere.test"), 503),
        (other.server("api.openai.test"), 503),
    ] {
        let upstream = Upstream::answering_tls(&certificate, |_| Answer::json(&responses::chat(5, 3))).await;
        let gate = Gate::builder().module(noop()).manifests("a").upstream("openai", &upstream);
        let gate = gate.https("openai", "api.openai.test", &trusted).start().await;
        let reply = gate.chat(&json!({ "model": MODEL })).header("x-pai-provider", "openai").send().await;
        assert_eq!(reply.status, status, "{}", reply.describe());
        assert_eq!(upstream.requests().len(), usize::from(status == 200));
    }
}

/// The filters in the clusters' chains receive their configuration like the one in the listener's chain.
#[tokio::test]
async fn a_gate_with_fallback_retries() {
    let upstream = Upstream::answering(|_| Answer::error(503, &json!({}))).await;
    let gate = Gate::builder().module(noop()).manifests("a").upstream("vllm-local", &upstream);
    let gate = gate.fallback().retry_on_status().start().await;
    assert!(gate.reconfigure("b").await.is_ok());
    for provider in ["vllm-local", "another"] {
        let reply = gate.chat(&json!({ "model": MODEL })).header("x-pai-provider", provider).send().await;
        assert_eq!(reply.status, 503);
        assert_eq!(upstream.requests().len(), 6, "one and five retries, of the first");
    }
    let line = gate.access_log(|line| line["tries"] == 6).await;
    assert_eq!(line["details"], "via_upstream");
}
