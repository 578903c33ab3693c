//! Dense prompts, sent at once at a budget: by how much they exceed it, and that they do not where the upper bound of a prompt is certain. The
//! rules are in `docs/budgets.md`, "Estimates".
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use e2e::harness::{Answer, Call, Gate, MODEL, Reply, Rng, TextKind, Upstream, provider, responses, until};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const CAP: u64 = 200_000;
/// The bytes of a prompt of the attack.
const BYTES: usize = 20_000;
/// The requests of an attack: more than the budget can hold.
const REQUESTS: usize = 110;

/// What an attack has used.
#[derive(Debug)]
struct Outcome {
    /// What the budget had left before.
    left: u64,
    admitted: u64,
    used: u64,
}

fn chat(text: &str) -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": text }], "max_tokens": 1 })
}

/// Reports so few tokens for ordinary prompts that the factor of the upper bound becomes the least that is possible.
async fn calibrate(gate: &Gate, upstream: &Upstream) {
    let text = TextKind::English.text(2000, &mut Rng::new(1));
    let mut reserved = Vec::new();
    until("the upper bound is the least that is possible", async || {
        let asked = gate.chat(&chat(&text)).spawn_send();
        let call = upstream.call().await;
        reserved.push(gate.provider("vllm-local").await.reserved);
        call.answer(Answer::json(&responses::chat(300, 1))).await;
        asked.await.unwrap().ok();
        gate.used().await;
        // Nothing lowers it further.
        (reserved.len() > 40 && reserved.iter().rev().take(10).all(|tokens| tokens == reserved.last().unwrap())).then_some(())
    })
    .await;
    assert!(reserved.last() < reserved.first(), "{reserved:?}");
}

/// Sends dense prompts at once, and answers none before all are decided.
async fn attack(spec: &str, text: &str, ordinary_before: bool) -> Outcome {
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider(&format!("maxTokensPerDay: {CAP}\n{spec}")), &upstream).await;
    if ordinary_before {
        calibrate(&gate, &upstream).await;
    }
    let before = gate.used().await;
    let seen = upstream.requests().len();
    let sent: Vec<JoinHandle<Reply>> = (0..REQUESTS).map(|_| gate.chat(&chat(text)).spawn_send()).collect();
    let admitted = until("all are decided", async || {
        let (admitted, refused) = (upstream.requests().len() - seen, sent.iter().filter(|sent| sent.is_finished()).count());
        (admitted + refused == REQUESTS).then_some(admitted)
    })
    .await;
    let during = gate.provider("vllm-local").await;
    assert!(during.used_today + during.reserved <= CAP, "{during:?}");
    for _ in 0..admitted {
        let call: Call = upstream.call().await;
        call.answer(Answer::json(&responses::chat(text.len() as u64, 1))).await;
    }
    let mut served = 0;
    for sent in sent {
        let reply = sent.await.unwrap();
        match reply.status {
            200 => served += 1,
            _ => _ = reply.refused(429, "tokens", "rate_limit_exceeded"),
        }
    }
    assert_eq!(served, admitted);
    let used = gate.used().await - before;
    assert_eq!(used, admitted as u64 * (text.len() as u64 + 1), "all of it is charged");
    let next = gate.chat(&chat(&TextKind::English.text(BYTES, &mut Rng::new(2)))).send().await;
    next.quota_exhausted();
    Outcome { left: CAP - before, admitted: admitted as u64, used }
}

/// Prints a result, for the documentation.
fn show(what: &str, Outcome { left, admitted, used }: &Outcome) -> f64 {
    let times = *used as f64 / *left as f64;
    eprintln!("{what}: {admitted} admitted, {used} used of {left} left: {times:.2} times");
    times
}

#[tokio::test]
async fn dense_prompts_at_once_use_no_more_than_the_documented_multiple_of_a_budget() {
    let letters = TextKind::Letters.text(BYTES, &mut Rng::new(1));
    let rare = TextKind::RareScript.text(BYTES, &mut Rng::new(1));
    let digits = TextKind::Digits.text(BYTES, &mut Rng::new(1));
    // No tokenizer in use has a token for each space; no text has a lower estimate.
    let spaces = " ".repeat(BYTES);
    for (what, text, least, most) in [
        ("digits, at the density of real tokenizers", &digits, 1.0, 64.0 / 56.0),
        ("a rare script", &rare, 1.2, 64.0 / 56.0 * 1024.0 / 763.0),
        ("two rare letters", &letters, 3.0, 64.0 / 56.0 * 256.0 / 81.0),
        ("spaces, a token for each", &spaces, 8.0, 64.0 / 7.0),
    ] {
        let times = show(what, &attack("", text, true).await);
        assert!((least..=most).contains(&times), "{what}: {times}");
    }
    let times = show("two rare letters, before any sample", &attack("", &letters, false).await);
    assert!((2.5..=256.0 / 81.0).contains(&times), "{times}");
}

#[tokio::test]
async fn with_strict_estimates_dense_prompts_at_once_exceed_nothing() {
    for text in [TextKind::Letters.text(BYTES, &mut Rng::new(1)), " ".repeat(BYTES)] {
        let outcome = attack("promptEstimate: strict", &text, false).await;
        let times = show("strict", &outcome);
        assert!(outcome.used <= CAP && times > 0.8, "{outcome:?}");
    }
}

#[tokio::test]
async fn with_strict_estimates_no_request_exceeds_the_whole_cap() {
    let upstream = Upstream::answering(|request| {
        let body = request.json();
        let text = body["messages"][0]["content"].as_str().unwrap().len() as u64;
        Answer::json(&responses::chat(text, body["max_tokens"].as_u64().unwrap()))
    })
    .await;
    for limits in ["maxTokensPerDay: 5000", "maxTokensPerDay: 5000\nmaxTokensPerRequest: 2000"] {
        let gate = Gate::start(provider(&format!("{limits}\npromptEstimate: strict")), &upstream).await;
        // 128 bytes for each token of the caps would be possible.
        for bytes in [4800, 5000, 20_000] {
            let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "z".repeat(bytes) }], "max_tokens": 256 });
            let reply = gate.chat(&body).send().await;
            reply.refused(400, "invalid_request_error", "context_length_exceeded");
            assert!(
                reply.message().contains(&format!("may need up to {}", bytes + "user".len() + 80 + 256)),
                "{}",
                reply.message()
            );
        }
        assert_eq!(gate.used().await, 0);
        let without_limit = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "z".repeat(4800) }] });
        gate.chat(&without_limit).send().await.ok();
        let used = gate.used().await;
        assert!((4801..=5000).contains(&used), "{used}");
    }
}
