//! Providers behind TLS: whoever cannot prove its name gets neither the prompt nor the key.

use e2e::harness::{Authority, ServerCertificate, Upstream};

use crate::fixtures::{ANTHROPIC, Member, OPENAI, Scene, Staging, VLLM, served};

async fn behind_tls(member: &'static Member, certificate: &ServerCertificate, trusted: &Authority) -> Scene {
    let upstream = Upstream::answering_tls(certificate, |request| member.conduct(request)).await;
    let staging = Staging::new().played(member, upstream);
    staging.with(|builder| builder.https(member.name, member.authority, trusted)).start().await
}

#[tokio::test]
async fn a_provider_with_the_right_certificate_serves() {
    e2e::needs!(OtherProviders);
    let trusted = Authority::new("trusted");
    let scene = behind_tls(&OPENAI, &trusted.server(OPENAI.authority), &trusted).await;
    served(&scene.ask("vllm-local=503").await, &OPENAI);
    served(&scene.ask_with(&OPENAI, "").await, &OPENAI);
    served(&scene.ask_with(&OPENAI, "openai=reset").await, &VLLM);
}

#[tokio::test]
async fn one_with_another_certificate_is_passed_over() {
    e2e::needs!(OtherProviders);
    let trusted = Authority::new("trusted");
    for certificate in [trusted.server("api.elsewhere.test"), Authority::new("other").server(OPENAI.authority)] {
        let scene = behind_tls(&OPENAI, &certificate, &trusted).await;
        served(&scene.ask("vllm-local=503").await, &ANTHROPIC);
        served(&scene.ask_with(&OPENAI, "").await, &VLLM);
        assert_eq!(scene.asked()[1], 0);
        let [vllm, openai, anthropic] = scene.charges().await;
        assert_eq!((vllm, openai, anthropic), (VLLM.tokens(), 0, ANTHROPIC.tokens()));
    }
}

/// A gate that speaks plainly to a server that wants TLS, or the other way round.
#[tokio::test]
async fn one_that_does_not_speak_tls_is_passed_over() {
    e2e::needs!(OtherProviders);
    let trusted = Authority::new("trusted");
    let scene = Staging::new().with(|builder| builder.https(VLLM.name, VLLM.name, &trusted)).start().await;
    served(&scene.ask("").await, &OPENAI);
    assert_eq!(scene.asked(), [0, 1, 0]);
}
