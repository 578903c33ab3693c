//! The budgets that a key is charged to: its own, the external share and the provider's.

use std::time::{Duration, Instant};

use e2e::harness::{Answer, Gate, Key, MODEL, ProviderBudgets, Reply, Upstream, named_provider, responses, until};
use serde_json::{Value, json};

use crate::fixtures::{INVALID, OPEN, agent, alice, ask, capped, operated, operator, unauthorized, upstream, with_one};

/// Caps of the provider, of its external share and of the key, in this order, and what the message must contain.
const CAPS: [(&str, u64, u64, u64, &str); 3] =
    [("provider", 1000, 2000, 3000, "vllm-local"), ("external", 3000, 1000, 2000, "external"), ("key", 2000, 3000, 1000, "key")];

/// Returns the numbers in a message.
fn numbers(message: &str) -> Vec<u64> {
    message.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Sends a request with alice's key, and returns what it reserved and the provider's side of it.
async fn in_flight(
    gate: &Gate,
    upstream: &Upstream,
    max_tokens: u64,
) -> (tokio::task::JoinHandle<Reply>, e2e::harness::Call, ProviderBudgets) {
    let asked = gate.chat(&ask(MODEL, max_tokens)).key(&alice()).spawn_send();
    let call = upstream.call().await;
    (asked, call, gate.provider_budgets(&operator(), "vllm-local").await)
}

#[tokio::test]
async fn each_of_three_budgets_may_be_exhausted() {
    for (which, provider, external, key, named) in CAPS {
        let upstream = Upstream::scripted().await;
        let spec = alice().manifest(&format!("maxTokensPerDay: {key}"));
        let gate = with_one(&capped(provider, external), &upstream).manifests(spec).start().await;
        let (asked, call, during) = in_flight(&gate, &upstream, 600).await;
        assert!((601..800).contains(&during.provider.reserved), "{which}: {during:?}");
        assert_eq!(during.provider.reserved, during.external.reserved, "{which}: {during:?}");
        call.answer(Answer::json(&responses::chat(5, 932))).await;
        let reply = asked.await.unwrap();
        let tokens = reply.ok().rate_limit("tokens").expect("the key has a budget");
        assert_eq!((tokens.limit, tokens.remaining), (key, key - during.provider.reserved), "{which}");
        let shares = gate.settled_budgets(&operator(), "vllm-local").await;
        assert_eq!((shares.provider.used_today, shares.external.used_today), (937, 937), "{which}");

        for request in [gate.chat(&ask(MODEL, 100)), gate.chat(&ask(MODEL, 100)).http2()] {
            let reply = request.key(&alice()).send().await;
            reply.quota_exhausted();
            let message = reply.message();
            assert!(message.to_lowercase().contains(named), "{which}: {message}");
            assert!(message.contains("UTC"), "{which}: {message}");
            assert!(
                numbers(&message).iter().all(|forwarded| ![937, 63].contains(forwarded)),
                "{which}: it reveals what was used: {message}"
            );
            let tokens = reply.rate_limit("tokens").expect("the key has a budget");
            assert_eq!((tokens.limit, tokens.remaining), (key, key - 937), "{which}");
        }
        assert_eq!(gate.provider_budgets(&operator(), "vllm-local").await, shares, "{which}: all or none");
        assert_eq!(upstream.requests().len(), 1, "{which}");
    }
}

#[tokio::test]
async fn each_of_three_budgets_may_be_reserved() {
    for (which, provider, external, key, named) in CAPS {
        let upstream = Upstream::scripted().await;
        let spec = alice().manifest(&format!("maxTokensPerDay: {key}"));
        let gate = with_one(&capped(provider, external), &upstream).manifests(spec).start().await;
        let (asked, call, during) = in_flight(&gate, &upstream, 700).await;
        for _ in 0..8 {
            let reply = gate.chat(&ask(MODEL, 400)).key(&alice()).send().await;
            reply.rate_limited("tokens");
            assert_eq!(reply.retry_after(), 1, "{which}");
            assert!(reply.message().to_lowercase().contains(named), "{which}: {}", reply.message());
            let tokens = reply.rate_limit("tokens").expect("the key has a budget");
            assert_eq!(tokens.remaining, key - during.provider.reserved, "{which}: all or none");
        }
        assert_eq!(gate.provider_budgets(&operator(), "vllm-local").await, during, "{which}: all or none");
        // A request that fits beside it is admitted.
        let (beside, second, both) = in_flight(&gate, &upstream, 50).await;
        assert!(both.provider.reserved > during.provider.reserved && both.provider.reserved <= 1000, "{which}: {both:?}");
        assert_eq!(both.provider.reserved, both.external.reserved, "{which}: {both:?}");
        for (call, asked) in [(call, asked), (second, beside)] {
            call.answer(Answer::json(&responses::chat(5, 3))).await;
            asked.await.unwrap().ok();
        }
        let shares = gate.settled_budgets(&operator(), "vllm-local").await;
        assert_eq!((shares.provider.used_today, shares.external.used_today), (16, 16), "{which}");
        let (asked, call, _) = in_flight(&gate, &upstream, 400).await;
        call.answer(Answer::json(&responses::chat(5, 3))).await;
        let tokens = asked.await.unwrap().ok().rate_limit("tokens").unwrap();
        assert!((key - 16 - 600..key - 16 - 400).contains(&tokens.remaining), "{which}: {tokens:?}");
        gate.settled_budgets(&operator(), "vllm-local").await;
    }
}

#[tokio::test]
async fn a_request_larger_than_a_whole_budget_is_a_bad_request() {
    let upstream = upstream().await;
    for (provider, external, key) in [(1000, 5000, 5000), (5000, 1000, 5000), (5000, 5000, 1000)] {
        let spec = alice().manifest(&format!("maxTokensPerDay: {key}"));
        let gate = with_one(&capped(provider, external), &upstream).manifests(spec).start().await;
        for limit in [250, 4000, 1_000_000_000] {
            let mut body = ask(MODEL, limit);
            body["n"] = 4.into();
            let reply = gate.chat(&body).key(&alice()).send().await;
            reply.refused(400, INVALID, "context_length_exceeded");
        }
        let shares = gate.provider_budgets(&operator(), "vllm-local").await;
        assert_eq!((shares.provider.reserved, shares.external.reserved), (0, 0));
    }
    assert!(upstream.requests().is_empty());
    // A request that is too large for developers is not too large for agents.
    let gate = with_one(&capped(5000, 1000), &upstream)
        .manifests(agent(&format!("models: [vllm-local/{MODEL}]")))
        .manifests(alice().manifest(""))
        .start()
        .await;
    let mut body = ask(MODEL, 1000);
    body["n"] = 4.into();
    gate.chat(&body).key(&alice()).send().await.refused(400, INVALID, "context_length_exceeded");
    gate.chat(&body).header("x-agent-id", "researcher").send().await.ok();
    gate.settled_budgets(&operator(), "vllm-local").await;
}

#[tokio::test]
async fn a_limit_that_the_request_does_not_name_shrinks_with_the_tightest_budget() {
    let without = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hi" }] });
    for (provider, external, key, minute) in
        [(900, 50_000, 60_000, 40_000), (60_000, 900, 50_000, 40_000), (50_000, 60_000, 900, 40_000), (50_000, 60_000, 40_000, 900)]
    {
        let upstream = Upstream::scripted().await;
        let spec = alice().manifest(&format!("maxTokensPerDay: {key}\ntokensPerMinute: {minute}"));
        let gate = with_one(&capped(provider, external), &upstream).manifests(spec).start().await;
        let asked = gate.chat(&without).key(&alice()).spawn_send();
        let call = upstream.call().await;
        let forwarded = call.request.json();
        let limit = [&forwarded["max_tokens"], &forwarded["max_completion_tokens"]].into_iter().find_map(Value::as_u64);
        assert!(limit.is_some_and(|limit| (256..900).contains(&limit)), "{forwarded}");
        let shares = gate.provider_budgets(&operator(), "vllm-local").await;
        assert!(shares.provider.reserved <= 900 && shares.external.reserved <= 900, "{shares:?}");
        assert_eq!(shares.provider.reserved, shares.external.reserved);
        call.answer(Answer::json(&responses::chat(5, 3))).await;
        asked.await.unwrap().ok();
        gate.settled_budgets(&operator(), "vllm-local").await;
    }
}

#[tokio::test]
async fn agents_and_developers_share_the_providers_budget_but_not_the_external_one() {
    let upstream = Upstream::answering(|request| {
        let tokens = request.json()["max_tokens"].as_u64().unwrap();
        Answer::json(&responses::chat(5, tokens - 5))
    })
    .await;
    let gate = with_one(&capped(20_000, 10_000), &upstream)
        .manifests(agent(&format!("models: [vllm-local/{MODEL}]")))
        .manifests(alice().manifest(""))
        .manifests(Key::new("bob").manifest("maxTokensPerDay: 50000"))
        .start()
        .await;
    let as_agent = |tokens| gate.chat(&ask(MODEL, tokens)).header("x-agent-id", "researcher").send();
    let as_key = |key: Key, tokens| gate.chat(&ask(MODEL, tokens)).key(&key).send();
    let used = async || {
        let shares = gate.settled_budgets(&operator(), "vllm-local").await;
        (shares.provider.used_today, shares.external.used_today)
    };

    as_agent(5000).await.ok();
    assert_eq!(used().await, (5000, 0));
    as_key(alice(), 4000).await.ok();
    assert_eq!(used().await, (9000, 4000));
    as_key(Key::new("bob"), 5000).await.ok();
    assert_eq!(used().await, (14_000, 9000));
    // The external share is exhausted for all developers, whichever of them used it; the provider's budget is not.
    for key in [alice(), Key::new("bob")] {
        let reply = as_key(key, 2000).await;
        reply.quota_exhausted();
        let message = reply.message();
        assert!(message.to_lowercase().contains("external"), "{message}");
        assert!(
            numbers(&message).iter().all(|forwarded| ![9000, 4000, 5000, 1000].contains(forwarded)),
            "reveals what others used: {message}"
        );
    }
    as_agent(3000).await.ok();
    assert_eq!(used().await, (17_000, 9000));
    as_agent(2500).await.ok();
    assert_eq!(used().await, (19_500, 9000));
    // Now the provider's own budget has the least left.
    let reply = as_key(alice(), 600).await;
    reply.quota_exhausted();
    assert!(reply.message().contains("vllm-local"), "{}", reply.message());
    as_agent(600).await.quota_exhausted();
    assert_eq!(used().await, (19_500, 9000));
}

#[tokio::test]
async fn a_keys_budget_is_its_own_over_all_providers() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 295))).await;
    let gate = Gate::builder()
        .manifests(operated())
        .manifests(named_provider("one", &format!("{OPEN}\nmaxTokensPerDay: 10000")))
        .manifests(named_provider("two", &format!("{OPEN}\nmaxTokensPerDay: 20000")))
        .manifests(alice().manifest("maxTokensPerDay: 1000"))
        .manifests(Key::new("bob").manifest("maxTokensPerDay: 1000"))
        .upstream("one", &upstream)
        .upstream("two", &upstream)
        .start()
        .await;
    let chat = async |key: &Key, provider: &str| {
        let reply = gate.chat(&ask(&format!("{provider}/{MODEL}"), 300)).key(key).send().await;
        gate.settled_budgets(&operator(), provider).await;
        reply
    };
    for provider in ["one", "two", "one"] {
        chat(&alice(), provider).await.ok();
    }
    for provider in ["one", "two"] {
        let reply = chat(&alice(), provider).await;
        reply.quota_exhausted();
        assert_eq!(reply.rate_limit("tokens").unwrap().remaining, 100);
        assert!(reply.message().to_lowercase().contains("key"), "{}", reply.message());
    }
    let bob = chat(&Key::new("bob"), "one").await;
    assert!(bob.ok().rate_limit("tokens").unwrap().remaining > 500, "bob has used nothing");
    let used = async |provider: &str| gate.provider_budgets(&operator(), provider).await.provider.used_today;
    assert_eq!((used("one").await, used("two").await), (900, 300));
}

#[tokio::test]
async fn a_developer_sees_the_keys_own_budgets_only() {
    let upstream = Upstream::scripted().await;
    let keys: [(&str, &str, Option<u64>); 5] = [
        ("neither", "", None),
        ("rated", "requestsPerMinute: 600", None),
        ("day", "maxTokensPerDay: 5000", Some(5000)),
        ("minute", "tokensPerMinute: 4000\nmaxTokensPerDay: 5000", Some(4000)),
        ("both", "tokensPerMinute: 5000\nmaxTokensPerDay: 4000", Some(4000)),
    ];
    let mut builder = with_one(&capped(3000, 2000), &upstream);
    for (name, spec, _) in keys {
        builder = builder.manifests(Key::new(name).manifest(spec));
    }
    let gate = builder.start().await;
    for (name, _, limit) in keys {
        for stream in [false, true] {
            let mut body = ask(MODEL, 50);
            body["stream"] = json!(stream);
            let asked = gate.chat(&body).key(&Key::new(name)).spawn_send();
            let call = upstream.call().await;
            let reserved = gate.provider_budgets(&operator(), "vllm-local").await.provider.reserved;
            call.answer(if stream {
                Answer::stream(responses::stream(&["a"], 5, true))
            } else {
                Answer::json(&responses::chat(5, 1))
            })
            .await;
            let reply = asked.await.unwrap();
            let tokens = reply.ok().rate_limit("tokens");
            assert_eq!(tokens.map(|tokens| tokens.limit), limit, "{name}\n{}", reply.describe());
            if let (Some(tokens), Some(limit)) = (tokens, limit) {
                let before = if stream { 6 } else { 0 };
                let remaining = limit - reserved - before;
                // A rate's bucket refills meanwhile.
                assert!((remaining..=remaining + before).contains(&tokens.remaining), "{name}\n{}", reply.describe());
            }
            gate.settled_budgets(&operator(), "vllm-local").await;
        }
    }
    // If other budgets reject the request, a key without limits reveals nothing of them.
    let asked = gate.chat(&ask(MODEL, 1500)).key(&Key::new("day")).spawn_send();
    let call = upstream.call().await;
    let reply = gate.chat(&ask(MODEL, 1500)).key(&Key::new("neither")).send().await;
    reply.rate_limited("tokens");
    assert_eq!(reply.rate_limit("tokens"), None, "{}", reply.describe());
    call.answer(Answer::json(&responses::chat(5, 2000))).await;
    asked.await.unwrap().ok();
    gate.settled_budgets(&operator(), "vllm-local").await;
    let reply = gate.chat(&ask(MODEL, 500)).key(&Key::new("neither")).send().await;
    reply.quota_exhausted();
    assert_eq!(reply.rate_limit("tokens"), None, "{}", reply.describe());
}

#[tokio::test]
async fn an_agent_sees_its_own_budget_or_else_the_providers() {
    let upstream = upstream().await;
    for (own, limit) in [("", 20_000), ("\nmaxTokensPerDay: 30000", 30_000)] {
        let gate = with_one(&capped(20_000, 1000), &upstream)
            .manifests(agent(&format!("models: [vllm-local/{MODEL}]{own}")))
            .manifests(alice().manifest("maxTokensPerDay: 500"))
            .start()
            .await;
        let reply = gate.chat(&ask(MODEL, 8)).header("x-agent-id", "researcher").send().await;
        let tokens = reply.ok().rate_limit("tokens").unwrap();
        assert_eq!(tokens.limit, limit);
        assert!(tokens.remaining < limit && tokens.remaining > limit - 200, "{tokens:?}");
        assert_eq!(reply.rate_limit("requests"), None);
        gate.settled_budgets(&operator(), "vllm-local").await;
    }
}

#[tokio::test]
async fn a_keys_budget_outlives_a_reload() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 495))).await;
    let gate = with_one(&capped(10_000, 9000), &upstream).manifests(alice().manifest("maxTokensPerDay: 1000")).start().await;
    gate.chat(&ask(MODEL, 500)).key(&alice()).send().await.ok();
    let before = gate.settled_budgets(&operator(), "vllm-local").await;
    // The key has a new secret and other limits; its budget belongs to its name.
    let rotated = Key::with_secret("alice", "pak_rotated");
    let config = operated() + &named_provider("vllm-local", &capped(10_000, 9000)) + &rotated.manifest("maxTokensPerDay: 600");
    gate.reconfigure(config).await.unwrap();
    let start = Instant::now();
    until("the new key is in force", async || (gate.get("/v1/models").key(&rotated).send().await.status == 200).then_some(()))
        .await;
    assert!(start.elapsed() < Duration::from_secs(10));
    unauthorized(&gate.chat(&ask(MODEL, 50)).key(&alice()).send().await, &[]);
    let reply = gate.chat(&ask(MODEL, 300)).key(&rotated).send().await;
    reply.quota_exhausted();
    assert_eq!(reply.rate_limit("tokens").map(|tokens| (tokens.limit, tokens.remaining)), Some((600, 100)));
    assert_eq!(gate.provider_budgets(&operator(), "vllm-local").await, before);
}

#[tokio::test]
async fn an_external_share_without_a_cap_is_counted_and_no_more() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 295))).await;
    let gate = with_one(&format!("{OPEN}\nmaxTokensPerDay: 5000"), &upstream)
        .manifests(agent(&format!("models: [vllm-local/{MODEL}]")))
        .manifests(alice().manifest(""))
        .start()
        .await;
    for _ in 0..2 {
        gate.chat(&ask(MODEL, 300)).key(&alice()).send().await.ok();
        gate.chat(&ask(MODEL, 300)).header("x-agent-id", "researcher").send().await.ok();
    }
    let shares = gate.settled_budgets(&operator(), "vllm-local").await;
    assert_eq!((shares.provider.used_today, shares.external.used_today), (1200, 600));
    assert_eq!((shares.provider.max_tokens_per_day, shares.external.max_tokens_per_day), (Some(5000), None));
}

#[tokio::test]
async fn what_is_in_flight_while_a_key_is_withdrawn_is_settled_all_the_same() {
    let upstream = Upstream::scripted().await;
    let base = |caps: &str| operated() + &named_provider("vllm-local", caps);
    let with_alice = |caps: &str, spec: &str| base(caps) + &alice().manifest(spec);
    let gate = Gate::builder()
        .manifests(with_alice(&format!("{OPEN}\nmaxTokensPerDay: 10000"), "maxTokensPerDay: 1000\ntokensPerMinute: 5000"))
        .upstream("vllm-local", &upstream)
        .start()
        .await;
    let (asked, call, during) = in_flight(&gate, &upstream, 300).await;
    assert!(during.provider.reserved > 300, "{during:?}");
    // Meanwhile the key is removed, and the external share gets a cap.
    let capped = capped(10_000, 9000);
    gate.reconfigure(base(&capped)).await.unwrap();
    until("the key is gone", async || (gate.get("/v1/models").key(&alice()).send().await.status == 401).then_some(())).await;
    let meanwhile = gate.provider_budgets(&operator(), "vllm-local").await;
    assert_eq!(meanwhile.provider.reserved, during.provider.reserved, "what is in flight stays reserved");
    call.answer(Answer::json(&responses::chat(5, 195))).await;
    asked.await.unwrap().ok();
    let shares = gate.settled_budgets(&operator(), "vllm-local").await;
    assert_eq!((shares.provider.used_today, shares.external.used_today), (200, 200));
    // The key is added again, and keeps its usage.
    gate.reconfigure(with_alice(&capped, "maxTokensPerDay: 1000")).await.unwrap();
    until("the key is back", async || (gate.get("/v1/models").key(&alice()).send().await.status == 200).then_some(())).await;
    let (asked, call, during) = in_flight(&gate, &upstream, 300).await;
    assert_eq!(during.provider.reserved, during.external.reserved);
    call.answer(Answer::json(&responses::chat(5, 3))).await;
    let tokens = asked.await.unwrap().ok().rate_limit("tokens").unwrap();
    assert_eq!(tokens.remaining, 1000 - 200 - during.provider.reserved);
    gate.settled_budgets(&operator(), "vllm-local").await;
}

#[tokio::test]
async fn limits_may_be_as_large_as_numbers_get() {
    let upstream = upstream().await;
    // The largest integer that a float represents exactly, because numbers may have passed through protobuf.
    let largest = 1_u64 << 53;
    let spec = format!("maxTokensPerDay: {largest}\ntokensPerMinute: {largest}\nrequestsPerMinute: 60000000");
    let gate = with_one(&capped(largest, largest), &upstream).manifests(alice().manifest(&spec)).start().await;
    for _ in 0..4 {
        let reply = gate.chat(&ask(MODEL, 8)).key(&alice()).send().await;
        assert_eq!(reply.ok().rate_limit("tokens").unwrap().limit, largest);
        assert_eq!(reply.rate_limit("requests").unwrap().limit, 60_000_000);
    }
    gate.settled_budgets(&operator(), "vllm-local").await;
}
