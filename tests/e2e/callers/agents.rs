//! Agents: their allowed models, and their own budget.

use e2e::harness::{Answer, Gate, Reply, Request, Upstream, gateway, named_provider, responses, settled};
use serde_json::Value;

use crate::fixtures::{agent, agent_with_budget, chat_body};

const HEADER: &str = "x-agent-id";

fn as_agent(request: Request, identity: &str) -> Request {
    request.header(HEADER, identity)
}

fn chat(gate: &Gate, identity: &str, model: &str) -> Request {
    as_agent(gate.chat(&chat_body(model)), identity)
}

async fn upstream() -> Upstream {
    Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await
}

/// Three providers: one with a model list, one open to all models, one that is in no agent's list.
async fn gate(upstream: &Upstream) -> Gate {
    let models = [
        "listed/small",
        "open/large",
        "listed/org/deep",
        "open/org/deeper",
        "listed/denied",
        "listed/both",
        "open/both",
        "listed/absent",
        "open/starred",
    ];
    let builder = Gate::builder()
        .manifests(named_provider("listed", "allowedModels: [small, org/deep, denied, both, others]\ndeniedModels: [denied]"))
        .manifests(named_provider("open", "deniedModels: ['star*']"))
        .manifests(named_provider("unused", ""))
        .manifests(agent("researcher", &["researcher"], &models))
        .manifests(agent("other", &["other"], &["listed/others"]))
        .manifests(gateway(&format!("identityHeader: {HEADER}")));
    ["listed", "open", "unused"].iter().fold(builder, |builder, name| builder.upstream(name, upstream)).start().await
}

/// Returns the provider that served the request, and the model in its request.
fn served(reply: &Reply, upstream: &Upstream) -> (String, String, String) {
    reply.ok();
    let header = |name: &str| reply.header(name).unwrap_or_default().to_owned();
    let asked = upstream.last().json()["model"].as_str().unwrap().to_owned();
    (header("x-pai-provider"), header("x-pai-model"), asked)
}

#[tokio::test]
async fn an_agent_uses_the_models_of_its_list_and_no_other() {
    let upstream = upstream().await;
    let gate = gate(&upstream).await;
    for (model, provider, id) in [
        ("listed/small", "listed", "small"),
        ("open/large", "open", "large"),
        ("listed/org/deep", "listed", "org/deep"),
        ("open/org/deeper", "open", "org/deeper"),
        // Bare ids are resolved among the models that this agent may use.
        ("small", "listed", "small"),
        ("large", "open", "large"),
        ("org/deep", "listed", "org/deep"),
        ("org/deeper", "open", "org/deeper"),
    ] {
        let reply = chat(&gate, "researcher", model).send().await;
        assert_eq!(served(&reply, &upstream), (provider.to_owned(), id.to_owned(), id.to_owned()), "{model}");
    }

    // Another model of an existing provider is not allowed.
    let served = upstream.requests().len();
    for (identity, model) in [
        ("researcher", "listed/others"),
        ("researcher", "listed/nowhere"),
        ("researcher", "open/small"),
        ("researcher", "open/large2"),
        ("researcher", "open/org/deep"),
        ("researcher", "unused/x"),
        // In the agent's list, but not in the provider's.
        ("researcher", "listed/denied"),
        ("researcher", "listed/absent"),
        ("researcher", "open/starred"),
        ("other", "listed/small"),
        ("other", "open/large"),
    ] {
        let reply = chat(&gate, identity, model).send().await;
        assert_eq!(reply.status, 403, "{identity}: {model}: {}", reply.describe());
        reply.refused(403, "invalid_request_error", "model_not_allowed");
    }
    assert_eq!(upstream.requests().len(), served);
}

/// Returns the references in a message.
fn references(message: &str) -> Vec<String> {
    let words =
        message.split(|c: char| c.is_whitespace() || "`'\",;()[]".contains(c)).map(|word| word.trim_end_matches(['.', ':', '?']));
    let known = |word: &&str| ["listed/", "open/", "unused/"].iter().any(|provider| word.starts_with(provider));
    words.filter(known).map(str::to_owned).collect()
}

#[tokio::test]
async fn an_unknown_model_is_answered_with_some_that_the_agent_may_use() {
    let upstream = upstream().await;
    let gate = gate(&upstream).await;
    for (identity, model, usable) in [
        (
            "researcher",
            "nowhere/x",
            &["listed/small", "open/large", "listed/org/deep", "open/org/deeper", "listed/both", "open/both"][..],
        ),
        ("researcher", "others", &["listed/small", "open/large", "listed/org/deep", "open/org/deeper", "listed/both", "open/both"]),
        ("researcher", "denied", &["listed/small", "open/large", "listed/org/deep", "open/org/deeper", "listed/both", "open/both"]),
        // An ambiguous id resolves to neither candidate.
        ("researcher", "both", &["listed/small", "open/large", "listed/org/deep", "open/org/deeper", "listed/both", "open/both"]),
        ("other", "small", &["listed/others"]),
        ("other", "large", &["listed/others"]),
        ("other", "nowhere/x", &["listed/others"]),
    ] {
        let reply = chat(&gate, identity, model).send().await;
        assert_eq!(reply.status, 404, "{identity}: {model}: {}", reply.describe());
        reply.refused(404, "invalid_request_error", "model_not_found");
        let mut suggested = references(&reply.message());
        suggested.retain(|reference| *reference != model);
        assert!((1..=5).contains(&suggested.len()), "{identity}: {model}: {}", reply.message());
        assert!(suggested.iter().all(|reference| usable.contains(&reference.as_str())), "{identity}: {model}: {}", reply.message());
    }
    assert!(upstream.requests().is_empty());
}

// === budgets ===

async fn gate_with_budgets(upstream: &Upstream, provider: &str) -> Gate {
    let manifests = named_provider("vllm-local", provider)
        + &agent_with_budget("small", &["small"], &["vllm-local/m"], 1000)
        + &agent_with_budget("large", &["large"], &["vllm-local/m"], 50_000)
        + &agent("free", &["free"], &["vllm-local/m"])
        + &gateway(&format!("identityHeader: {HEADER}"));
    Gate::start(manifests, upstream).await
}

fn limit(reply: &Reply) -> Option<u64> {
    reply.ok().header("x-ratelimit-limit-tokens").map(|limit| limit.parse().unwrap())
}

/// Waits until the provider has been charged this much and nothing is reserved, as an agent can read.
async fn settled_at(gate: &Gate, tokens: u64) {
    settled(&format!("{tokens} tokens are charged"), async || {
        let reply = as_agent(gate.get("/pai/v1/model-providers"), "free").send().await.ok().json();
        let number = |name: &str| reply["items"][0][name].as_u64();
        (number("usedToday") == Some(tokens) && number("reserved") == Some(0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_agents_budget_is_its_own() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 995))).await;
    let gate = gate_with_budgets(&upstream, "maxTokensPerDay: 100000").await;
    let reply = chat(&gate, "small", "vllm-local/m").send().await;
    assert_eq!(limit(&reply), Some(1000), "an agent sees its own budget, not the provider's");
    settled_at(&gate, 1000).await;
    let refused = chat(&gate, "small", "vllm-local/m").send().await;
    refused.refused(429, "insufficient_quota", "insufficient_quota");
    assert!(refused.message().contains("small"), "the budget is named: {}", refused.message());
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(refused.header("x-ratelimit-limit-tokens"), Some("1000"));
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), Some("0"));

    // Other agents have their own budget.
    let reply = chat(&gate, "large", "vllm-local/m").send().await;
    assert_eq!(limit(&reply), Some(50_000));
    let reply = chat(&gate, "free", "vllm-local/m").send().await;
    assert_eq!(limit(&reply), Some(100_000), "an agent without a budget of its own sees the provider's");
    settled_at(&gate, 3000).await;
}

#[tokio::test]
async fn the_providers_budget_holds_for_agents_with_budgets_too() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 995))).await;
    let gate = gate_with_budgets(&upstream, "maxTokensPerDay: 1000").await;
    assert_eq!(limit(&chat(&gate, "large", "vllm-local/m").send().await), Some(50_000));
    settled_at(&gate, 1000).await;
    for identity in ["small", "large", "free"] {
        let reply = chat(&gate, identity, "vllm-local/m").send().await;
        reply.refused(429, "insufficient_quota", "insufficient_quota");
        assert!(reply.message().contains("vllm-local"), "the budget is named: {}", reply.message());
    }
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn without_budgets_there_are_no_numbers() {
    let upstream = upstream().await;
    let gate = gate_with_budgets(&upstream, "").await;
    let reply = chat(&gate, "free", "vllm-local/m").send().await;
    let headers: Vec<&str> =
        reply.ok().headers.keys().map(|name| name.as_str()).filter(|name| name.starts_with("x-ratelimit")).collect();
    assert!(headers.is_empty(), "{headers:?}");
}

/// A request larger than the agent's daily budget is the client's error.
#[tokio::test]
async fn a_request_larger_than_an_agents_daily_budget_is_a_bad_request() {
    let upstream = upstream().await;
    let gate = gate_with_budgets(&upstream, "maxTokensPerDay: 100000").await;
    let body = |tokens: u64| -> Value {
        let mut body = chat_body("vllm-local/m");
        body["max_tokens"] = tokens.into();
        body["n"] = 4.into();
        body
    };
    let refused = as_agent(gate.chat(&body(5000)), "small").send().await;
    refused.refused(400, "invalid_request_error", "context_length_exceeded");
    as_agent(gate.chat(&body(5000)), "large").send().await.ok();
}
