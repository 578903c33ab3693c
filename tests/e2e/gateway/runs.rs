//! `pai gateway run`: its start, its end, and what it says.

use std::net::TcpListener;

use e2e::harness::Shell;
use e2e::standin::{Options, StandIn};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{MODEL, Scene, provider};

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_manifests_says_what_is_missing() {
    let scene = Scene::start();
    assert_eq!(scene.client.get(format!("{}/health", scene.gateway.url())).send().await.unwrap().status(), 200);
    let answer = scene.chat("vllm-local/x", json!({})).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let body: Value = answer.json().await.unwrap();
    assert!(body["error"]["message"].as_str().unwrap().contains("pai apply -f"), "{body}");
    let env = scene.shell.run("eval $(pai gateway env); echo $OPENAI_BASE_URL $OPENAI_API_KEY").stdout;
    assert_eq!(env, format!("{}/v1 unused\n", scene.gateway.url()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_providers_are_described_in_words() {
    let scene = Scene::start();
    let vllm = StandIn::start(Options { api_keys: vec!["KEY".to_owned()], ..Options::default() }).await.unwrap();
    let open = StandIn::start(Options::default()).await.unwrap();
    scene.apply(&[
        provider("gated", &vllm.url(), json!({})),
        provider("nowhere", "http://127.0.0.1:1", json!({})),
        provider("open", &open.url(), json!({ "allowedModels": ["other"] })),
    ]);
    let mut scene = scene;
    assert!(scene.gateway.end());
    let gateway = scene.shell.gateway(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let said = gateway.said();
    for expected in [
        "answers 401: it wants an API key: pai add secret gated-token",
        "nowhere: no server at http://127.0.0.1:1/v1",
        "the manifest allows other, which it does not serve",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    let drift = scene.shell.run("pai describe model-provider open").stdout;
    e2e::harness::until("the gateway has listed the models", async || {
        let drift = scene.shell.run("pai describe model-provider open").stdout;
        drift.contains(&format!("the server also serves {MODEL}")).then_some(())
    })
    .await;
    assert!(drift.contains("Name:"), "{drift}");
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_survive_a_restart_and_a_directory_has_one_gateway() {
    let mut scene = Scene::start();
    let vllm = StandIn::start(Options::default()).await.unwrap();
    scene.apply(&[provider("vllm-local", &vllm.url(), json!({}))]);
    let mut second = scene.shell.start_gateway(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert_eq!(second.wait(), Some(1));
    assert!(second.said().contains("a gateway runs in"), "{}", second.said());
    assert!(scene.gateway.end(), "Ctrl-C is no error");
    scene.gateway = scene.shell.gateway(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert_eq!(scene.chat(&format!("vllm-local/{MODEL}"), json!({})).send().await.unwrap().status(), 200);
}

#[test]
fn a_taken_port_is_said_in_one_sentence() {
    let home = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _listener = TcpListener::bind(taken).unwrap();
    let mut gateway = Shell::new(home.path()).start_gateway(&["--listen", &taken.to_string(), "--admin", "127.0.0.1:0"]);
    assert_eq!(gateway.wait(), Some(1));
    let said = gateway.said();
    assert!(
        said.starts_with(&format!("error: another program listens on {taken}; choose another")) && said.lines().count() == 1,
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demonstration_serves_and_is_replaced_by_the_next() {
    let home = TempDir::new().unwrap();
    let shell = Shell::new(home.path());
    for _ in 0..2 {
        let gateway = shell.gateway(&["--demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let said = gateway.said();
        let command = said.lines().map(str::trim).find(|line| line.starts_with("curl ")).unwrap();
        assert!(shell.run(&command.replacen("curl ", "curl -sSf ", 1)).stdout.contains("\"usage\""), "{said}");
        assert!(shell.run("pai get model-providers").stdout.contains("vllm-local"));
    }
    let gateway = shell.gateway(&["--demo", "fallback", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let said = gateway.said();
    let command = said.lines().map(str::trim).find(|line| line.starts_with("curl ")).unwrap();
    assert!(shell.run(&command.replacen("curl ", "curl -sSfi ", 1)).stdout.contains("x-pai-provider: vllm-backup"), "{said}");
}
