//! Changes that are refused change nothing.

use e2e::standin::{Options, StandIn};
use serde_json::json;

use super::{MODEL, Scene, manifest, provider};

#[tokio::test(flavor = "multi_thread")]
async fn what_envoy_refuses_is_rolled_back() {
    let scene = Scene::start();
    let vllm = StandIn::start(Options::default()).await.unwrap();
    scene.apply(&[provider("vllm-local", &vllm.url(), json!({}))]);
    // Envoy cannot read the authorities that this shell names for a provider with TLS.
    let secured = provider("secured", "https://127.0.0.1:1", json!({}));
    scene.shell.write("secured.json", &json!({ "items": [secured] }).to_string());
    let refused = scene.shell.attempt("SSL_CERT_FILE=/nowhere.pem pai apply -f secured.json");
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("Envoy refused the configuration") && refused.stderr.contains("/nowhere.pem"),
        "{}",
        refused.stderr
    );
    assert!(!scene.shell.run("pai get model-providers").stdout.contains("secured"));
    assert_eq!(scene.chat(&format!("vllm-local/{MODEL}"), json!({})).send().await.unwrap().status(), 200);
    scene.apply(&[provider("other", &vllm.url(), json!({}))]);
    assert_eq!(scene.chat(&format!("other/{MODEL}"), json!({})).send().await.unwrap().status(), 200, "later changes are accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn larger_buffers_need_a_restart() {
    let scene = Scene::start();
    let gateway = manifest("Gateway", "default", json!({ "maxRequestBytes": 33_554_432 }));
    scene.shell.write("gateway.json", &gateway.to_string());
    let refused = scene.shell.attempt("pai apply -f gateway.json");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("needs a restart; nothing was changed"), "{}", refused.stderr);
    assert_eq!(scene.shell.run("pai get gateway -o name").stdout, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn others_that_refer_to_a_manifest_are_named() {
    let scene = Scene::start();
    let agent = manifest("Agent", "researcher", json!({ "identities": ["x"], "models": [format!("vllm-local/{MODEL}")] }));
    scene.apply(&[provider("vllm-local", "http://127.0.0.1:1", json!({})), agent]);
    let refused = scene.shell.attempt("pai delete model-provider vllm-local");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("Agent researcher"), "{}", refused.stderr);
    let callouts = manifest("Gateway", "default", json!({ "callouts": { "vllm-local": "elsewhere" } }));
    scene.shell.write("gateway.json", &callouts.to_string());
    let refused = scene.shell.attempt("pai apply -f gateway.json");
    assert!(refused.code == Some(1) && refused.stderr.contains("vllm-local-callouts"), "{}", refused.stderr);
}
