//! Statistics and state of each key.

use e2e::harness::{MODEL, until};

use crate::fixtures::{alice, ask, capped, operator, upstream, with_one};

#[tokio::test]
async fn statistics_and_state_contain_each_key() {
    let upstream = upstream().await;
    let gate = with_one(&capped(10_000, 9000), &upstream).manifests(alice().manifest("maxTokensPerDay: 8000")).start().await;
    for _ in 0..2 {
        gate.chat(&ask(MODEL, 8)).key(&alice()).send().await.ok();
    }
    gate.chat(&ask("nowhere/m", 8)).key(&alice()).send().await;
    for (parts, value) in [
        (["subject_prompt_tokens", "key/alice"].as_slice(), " 10"),
        (&["subject_completion_tokens", "key/alice"], " 6"),
        (&["subject_requests", "key/alice", "allowed"], " 2"),
        (&["subject_requests", "key/alice", "model_not_found"], " 1"),
        (&["subject_budget", "key/alice", "limit"], " 8000"),
        (&["subject_budget", "key/alice", "used"], " 16"),
        (&["subject_budget", "key/alice", "reserved"], " 0"),
    ] {
        until(&format!("{parts:?} is{value}"), async || {
            let text = gate.prometheus();
            let mut lines = text.lines().filter(|line| line.starts_with("pai_") && parts.iter().all(|part| line.contains(part)));
            lines.any(|line| line.contains("subject=\"key/alice\"") && line.ends_with(value)).then_some(())
        })
        .await;
    }
    let refused = gate.access_log(|line| line["status"] == 404).await;
    assert_eq!(
        (refused["subject"].as_str(), refused["decision"].as_str()),
        (Some("key/alice"), Some("model_not_found")),
        "{refused}"
    );
    gate.chat(&ask(MODEL, 8)).header("x-api-key", "pak_unknown").send().await;
    let unknown = gate.access_log(|line| line["status"] == 401).await;
    assert!(!unknown.to_string().contains("pak_") && unknown["subject"] != "key/alice", "{unknown}");
}

/// The shipped configuration extracts every label of every statistic; an unknown label would remain in the name.
#[tokio::test]
async fn the_shipped_configuration_knows_every_label() {
    let upstream = upstream().await;
    let gate = with_one(&capped(10_000, 9000), &upstream).manifests(alice().manifest("maxTokensPerDay: 8000")).start().await;
    gate.chat(&ask(MODEL, 8)).key(&alice()).send().await.ok();
    gate.chat(&ask("nowhere/m", 8)).key(&alice()).send().await;
    gate.settled_budgets(&operator(), "vllm-local").await;
    until("the statistics name the key's budget", async || {
        gate.stats("wasmcustom.pai").keys().any(|name| name.contains("key/alice") && name.contains("budget")).then_some(())
    })
    .await;
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../envoy/envoy.yaml")).unwrap();
    for name in gate.stats("wasmcustom.pai").keys() {
        let labels = name.split(';').filter_map(|part| part.split_once("=.=")).map(|(label, _)| label.rsplit('.').next().unwrap());
        for label in labels {
            assert!(shipped.contains(&format!("tag_name: {label},")), "`{label}` of {name} is not in envoy/envoy.yaml");
        }
    }
}
