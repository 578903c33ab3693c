//! Providers behind TLS: a server that cannot prove its name receives neither the prompt nor the key.

use e2e::harness::{Authority, ServerCertificate, Upstream};

use crate::fixtures::{ANTHROPIC, OPENAI, Scene, SceneBuilder, TestProvider, VLLM, assert_served};

async fn behind_tls(member: &'static TestProvider, certificate: &ServerCertificate, trusted: &Authority) -> Scene {
    let upstream = Upstream::answering_tls(certificate, |request| member.respond(request)).await;
    let staging = SceneBuilder::new().with_upstream(member, upstream);
    staging.with(|builder| builder.https(member.name, member.authority, trusted)).start().await
}

#[tokio::test]
async fn a_provider_with_the_right_certificate_serves() {
    e2e::needs!(ClusterRefresh);
    let trusted = Authority::new("trusted");
    let scene = behind_tls(&OPENAI, &trusted.server(OPENAI.authority), &trusted).await;
    assert_served(&scene.ask("vllm-local=503").await, &OPENAI);
    assert_served(&scene.ask_with(&OPENAI, "").await, &OPENAI);
    assert_served(&scene.ask_with(&OPENAI, "openai=reset").await, &VLLM);
}

#[tokio::test]
async fn one_with_another_certificate_is_skipped() {
    e2e::needs!(ClusterRefresh);
    let trusted = Authority::new("trusted");
    for certificate in [trusted.server("api.elsewhere.test"), Authority::new("other").server(OPENAI.authority)] {
        let scene = behind_tls(&OPENAI, &certificate, &trusted).await;
        assert_served(&scene.ask("vllm-local=503").await, &ANTHROPIC);
        assert_served(&scene.ask_with(&OPENAI, "").await, &VLLM);
        assert_eq!(scene.request_counts()[1], 0);
        let [vllm, openai, anthropic] = scene.charges().await;
        assert_eq!((vllm, openai, anthropic), (VLLM.tokens(), 0, ANTHROPIC.tokens()));
    }
}

/// A plaintext gateway with a TLS server, and vice versa.
#[tokio::test]
async fn one_without_tls_is_skipped() {
    e2e::needs!(ClusterRefresh);
    let trusted = Authority::new("trusted");
    let scene = SceneBuilder::new().with(|builder| builder.https(VLLM.name, VLLM.name, &trusted)).start().await;
    assert_served(&scene.ask("").await, &OPENAI);
    assert_eq!(scene.request_counts(), [0, 1, 0]);
}
