//! Many requests that a server is to count at once, with servers that count well, slowly, wrongly or not at all. The rules are in
//! `docs/budgets.md`, "Exact counts".
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::harness::{Answer, Gate, MODEL, Reply, Upstream, gateway, provider, responses, until};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const CONTEXT_LENGTH: u64 = 8192;
const PROMPT: u64 = 5000;
const REQUESTS: usize = 60;
/// The most that two workers have under way at once.
const AT_ONCE: usize = 2 * 4;

/// A server that counts in some way, and how many of its answers are under way at once.
struct Counter {
    server: Upstream,
    /// For each answer, the number of its chunks that were begun.
    begun: Arc<Mutex<Vec<Arc<AtomicUsize>>>>,
    most_at_once: Arc<AtomicUsize>,
}

impl Counter {
    /// `answer` has two chunks.
    async fn new(answer: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        let (begun, most_at_once) = (Arc::new(Mutex::new(Vec::<Arc<AtomicUsize>>::new())), Arc::new(AtomicUsize::new(0)));
        let (answers, most) = (Arc::clone(&begun), Arc::clone(&most_at_once));
        let server = Upstream::answering(move |request| {
            if request.path == "/v1/models" {
                return Answer::json(&responses::models(CONTEXT_LENGTH));
            }
            let mine = Arc::new(AtomicUsize::new(0));
            let mut answers = answers.lock().unwrap();
            answers.push(Arc::clone(&mine));
            let under_way = answers.iter().filter(|begun| begun.load(Ordering::SeqCst) < 2).count();
            most.fetch_max(under_way, Ordering::SeqCst);
            answer().counting(&mine)
        })
        .await;
        Self { server, begun, most_at_once }
    }

    fn requests(&self) -> usize {
        self.begun.lock().unwrap().len()
    }
}

/// A gateway with two workers that know the context length.
async fn gate(provider_server: &Upstream, counter: &Counter) -> Gate {
    let gate = Gate::builder()
        .manifests(provider("maxTokensPerDay: 100000000"))
        .manifests(gateway("callouts: { vllm-local: counter-callouts }"))
        .upstream("vllm-local", provider_server)
        .upstream("counter", &counter.server)
        .start()
        .await;
    // Each request has a connection of its own, so that some reach either worker.
    until("both workers know the context length", async || {
        for _ in 0..20 {
            let listed = gate.get("/pai/v1/model-providers").send().await.json();
            listed["items"][0]["contextLengths"][MODEL].as_u64()?;
        }
        Some(())
    })
    .await;
    gate
}

/// A chat whose limit depends on the exact number of its prompt's tokens.
fn uncertain() -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": "word ".repeat(4000) }], "max_tokens": 9_999_999 })
}

/// Returns `pai_token_counts_total` by result.
fn counts(gate: &Gate) -> BTreeMap<String, u64> {
    let prometheus = gate.prometheus();
    let lines = prometheus.lines().filter(|line| line.starts_with("pai_token_counts_total"));
    let parsed = lines.map(|line| {
        let result = line.split("result=\"").nth(1).unwrap().split('"').next().unwrap();
        (result.to_owned(), line.rsplit(' ').next().unwrap().parse().unwrap())
    });
    parsed.filter(|(_, count)| *count > 0).collect()
}

/// Returns the exact limit that follows from the count, or the one that follows from the estimates.
fn limit(reply: &Reply) -> u64 {
    assert_eq!(reply.header("x-pai-limited-by"), Some("context-window"), "{}", reply.describe());
    reply.header("x-pai-max-tokens").unwrap().parse().unwrap()
}

fn whole(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn count() -> String {
    json!({ "count": PROMPT, "max_model_len": CONTEXT_LENGTH, "tokens": vec![1; 5000], "token_strs": null }).to_string()
}

fn after(millis: u64, answer: impl AsRef<[u8]>) -> Answer {
    Answer::raw_chunks([b"", answer.as_ref()]).paced(Duration::from_millis(millis))
}

/// The limit that follows from the exact count, with its margin of 1 %.
const EXACT: u64 = CONTEXT_LENGTH - PROMPT - PROMPT / 100;

#[tokio::test]
async fn no_server_that_counts_holds_anything_up() {
    let huge = format!("{{\"count\":{PROMPT},\"max_model_len\":{CONTEXT_LENGTH},\"tokens\":[1{}]}}", ",1".repeat(2_000_000));
    let garbage = "<html>".repeat(700_000);
    type Answering = Box<dyn Fn() -> Answer + Send + Sync>;
    let cases: Vec<(&str, Answering, &str)> = vec![
        ("at once", Box::new(|| after(0, whole(count()))), "answered"),
        ("after 500 ms", Box::new(|| after(500, whole(count()))), "timeout"),
        ("not at all", Box::new(|| Answer::raw_chunks(["", "", ""]).then_hang()), "timeout"),
        ("the head, and not the body", Box::new(|| Answer::raw_chunks([&whole(count())[..90], b"", b""]).then_hang()), "timeout"),
        ("with 404", Box::new(|| Answer::error(404, &json!({ "detail": "Not Found" }))), "failed"),
        ("with a reset", Box::new(|| Answer::raw("").then_reset()), "failed"),
        ("with garbage", Box::new(|| after(0, whole("{\"count\":\"many\"}"))), "failed"),
        ("with a huge body", Box::new(move || after(0, whole(&huge))), "answered"),
        ("with much garbage", Box::new(move || after(0, whole(&garbage))), "failed"),
    ];
    for (what, answer, expected) in cases {
        let upstream = Upstream::answering(|_| Answer::json(&responses::chat(PROMPT, 3))).await;
        let counter = Counter::new(answer).await;
        let gate = gate(&upstream, &counter).await;
        let body = uncertain();
        let sent: Vec<JoinHandle<Reply>> = (0..REQUESTS).map(|_| gate.chat(&body).spawn_send()).collect();
        let mut exact = 0;
        for sent in sent {
            let reply = sent.await.unwrap();
            reply.ok();
            let limit = limit(&reply);
            assert!((256..=EXACT).contains(&limit), "{what}: {limit}");
            exact += usize::from(limit == EXACT);
        }
        assert_eq!(gate.used().await, REQUESTS as u64 * (PROMPT + 3), "{what}: nothing stays reserved, each is charged once");
        let asked = counter.requests();
        assert!(asked > 0, "{what}");
        let by_result = until("the metric counts each request to count", async || {
            Some(counts(&gate)).filter(|by_result| by_result.values().sum::<u64>() == asked as u64)
        })
        .await;
        let expected_count = by_result.get(expected).copied().unwrap_or(0) as usize;
        eprintln!(
            "{what}: {asked} of {REQUESTS} counted, {} at once at most: {by_result:?}",
            counter.most_at_once.load(Ordering::SeqCst)
        );
        // On a busy machine, a server may be slower than it tries to be.
        assert!(
            expected_count > 0 && by_result.keys().all(|result| result == expected || result == "timeout"),
            "{what}: {by_result:?}"
        );
        assert_eq!(
            exact,
            by_result.get("answered").copied().unwrap_or(0) as usize,
            "{what}: those that were counted, and no others"
        );
        if expected != "answered" {
            assert!(asked <= AT_ONCE, "{what}: {asked} were sent, although the first ones failed");
        }
        gate.assert_no_trap();
    }
}

#[tokio::test]
async fn beyond_four_at_once_in_a_worker_the_estimates_decide_at_once() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(PROMPT, 3))).await;
    let counter = Counter::new(|| after(100, whole(count()))).await;
    let gate = gate(&upstream, &counter).await;
    let body = uncertain();
    let sent: Vec<JoinHandle<Reply>> = (0..REQUESTS).map(|_| gate.chat(&body).spawn_send()).collect();
    let mut limits = Vec::new();
    for sent in sent {
        limits.push(limit(sent.await.unwrap().ok()));
    }
    let exact = limits.iter().filter(|limit| **limit == EXACT).count();
    let most = counter.most_at_once.load(Ordering::SeqCst);
    eprintln!("{} of {REQUESTS} counted, {most} at once at most", counter.requests());
    assert!(exact > 0 && exact < REQUESTS, "{limits:?}");
    // A count that the filter no longer waits for may still be under way at the server.
    let late = counts(&gate).get("timeout").copied().unwrap_or(0) as usize;
    assert!(most <= AT_ONCE + late, "{most} at once");
    assert!(most > 4, "both workers have sent some: {most} at once");
    assert_eq!(gate.used().await, REQUESTS as u64 * (PROMPT + 3));
    // All places are free again.
    let asked = counter.requests();
    if late == 0 {
        assert_eq!(limit(gate.chat(&body).send().await.ok()), EXACT);
        assert_eq!(counter.requests(), asked + 1);
    }
    gate.assert_no_trap();
}

#[tokio::test]
async fn clients_that_leave_while_a_server_counts_free_its_places() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(PROMPT, 3))).await;
    let counter = Counter::new(|| after(30, whole(count()))).await;
    let gate = gate(&upstream, &counter).await;
    let body = uncertain();
    // If these kept their places, none would be left.
    for _ in 0..4 * AT_ONCE {
        let before = counter.requests();
        let left = gate.chat(&body).spawn_send();
        until("the server counts, or the request is over", async || {
            (counter.requests() > before || left.is_finished()).then_some(())
        })
        .await;
        left.abort();
        let _ = left.await;
    }
    until("a request of each worker is counted", async || {
        let replies: Vec<Reply> = [gate.chat(&body).send().await, gate.chat(&body).send().await].into();
        // On a busy machine the server may have been too slow twice, and is then left alone.
        let late = counts(&gate).get("timeout").copied().unwrap_or(0);
        (late >= 2 || replies.iter().all(|reply| limit(reply.ok()) == EXACT)).then_some(())
    })
    .await;
    gate.used().await;
    gate.assert_no_trap();
}
