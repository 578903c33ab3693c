//! Access keys: where they are sent, when they are valid, and the order of checks.

use std::time::{SystemTime, UNIX_EPOCH};

use e2e::harness::{Answer, Gate, Key, MODEL, Request, Upstream, gateway, named_provider, responses, until};

use crate::fixtures::{INVALID, OPEN, agent, alice, ask, capped, operated, operator, unauthorized, upstream, with_one};

#[tokio::test]
async fn a_key_is_read_from_each_of_three_headers() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("")).start().await;
    let bearer = format!("Bearer {}", alice().secret());
    let lower = format!("bearer  {}", alice().secret());
    let secret = alice().secret().to_owned();
    let ways: [&[(&str, &str)]; 7] = [
        &[("authorization", &bearer)],
        &[("authorization", &lower)],
        &[("x-api-key", &secret)],
        &[("api-key", &secret)],
        &[("authorization", &bearer), ("x-api-key", &secret), ("api-key", &secret)],
        &[("authorization", "Bearer sk-something-else"), ("x-api-key", &secret)],
        &[("authorization", &bearer), ("api-key", "another"), ("cookie", "session=1")],
    ];
    for headers in ways {
        for http2 in [false, true] {
            let request = gate.chat(&ask(MODEL, 8));
            let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
            let request = if http2 { request.http2() } else { request };
            request.send().await.ok();
            let seen = String::from_utf8_lossy(&upstream.last().head).into_owned();
            assert!(!seen.contains("pak_") && !seen.contains(&secret), "{headers:?}\n{seen}");
            assert!(!seen.contains("authorization") && !seen.contains("api-key"), "{headers:?}\n{seen}");
        }
    }
    assert_eq!(upstream.requests().len(), 2 * ways.len());
    let line = gate.access_log(|line| line["status"] == 200).await;
    assert_eq!(line["subject"], "key/alice", "{line}");
    until("the statistics name the key", async || (!gate.stats("alice").is_empty()).then_some(())).await;
}

#[tokio::test]
async fn a_key_counts_only_where_keys_are_sent() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("")).start().await;
    let secret = alice().secret().to_owned();
    let chat = || gate.chat(&ask(MODEL, 8));
    let elsewhere = [
        gate.post(&format!("/v1/chat/completions?api_key={secret}&key={secret}")).json(&ask(MODEL, 8)),
        chat().header("cookie", format!("authorization={secret}; api-key={secret}")),
        chat().header("proxy-authorization", format!("Bearer {secret}")),
        chat().header("x-goog-api-key", &secret),
        chat().header("openai-api-key", &secret),
        chat().header("authorization", format!("Basic {secret}")),
        chat().header("x-pai-subject", "key/alice").header("x-pai-key", &secret),
        chat().http2().trailer("authorization", &format!("Bearer {secret}")),
        chat(),
    ];
    for request in elsewhere {
        unauthorized(&request.send().await, &["key is needed", "access key", "pak_"]);
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn what_is_not_the_key_is_refused() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("")).manifests(Key::new("bob").manifest("")).start().await;
    let secret = alice().secret().to_owned();
    let garbage = [
        format!("{secret}x"),
        secret[..secret.len() - 1].to_owned(),
        secret.to_uppercase(),
        format!("pak_{}", alice().sha256()),
        alice().sha256(),
        secret.replace("pak_", ""),
        "pak_".to_owned(),
        "pak_*".to_owned(),
        format!("pak_{}", "a".repeat(8 * 1024)),
        format!("pak_{}é", "b".repeat(20)),
    ];
    for value in &garbage {
        for request in [gate.chat(&ask(MODEL, 8)), gate.chat(&ask(MODEL, 8)).http2(), gate.get("/v1/models")] {
            let reply = request.header("authorization", format!("Bearer {value}")).send().await;
            unauthorized(&reply, &[]);
            assert!(value.len() < 6 || !reply.text().contains(value.as_str()), "{}", reply.describe());
        }
    }
    for name in ["authorization", "x-api-key"] {
        let twice = gate.chat(&ask(MODEL, 8)).header(name, alice().secret()).header(name, Key::new("bob").secret()).send().await;
        unauthorized(&twice, &["two", "different", "more than one"]);
    }
    let two = gate.chat(&ask(MODEL, 8)).key(&alice()).header("x-api-key", Key::new("bob").secret()).send().await;
    unauthorized(&two, &["two", "different", "more than one"]);
    let one_good = gate.chat(&ask(MODEL, 8)).key(&alice()).header("api-key", "pak_unknown").send().await;
    unauthorized(&one_good, &["two", "different", "more than one"]);
    assert!(upstream.requests().is_empty());
    gate.chat(&ask(MODEL, 8)).key(&alice()).send().await.ok();
}

/// Envoy's own limit of all headers is 60 KiB.
#[tokio::test]
async fn a_key_of_a_megabyte_never_reaches_the_filter() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("")).start().await;
    let mut raw = gate.raw().await;
    raw.write(format!("GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer pak_{}\r\n\r\n", "a".repeat(1 << 20))).await;
    if let Some(reply) = raw.reply().await {
        assert_eq!(reply.status, 431, "{}", reply.describe());
    }
    gate.get("/v1/models").key(&alice()).send().await.ok();
}

#[tokio::test]
async fn a_key_that_has_expired_or_is_disabled_says_so() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream)
        .manifests(alice().manifest("expires: 2100-01-01T00:00:00Z\ndisabled: false"))
        .manifests(Key::new("old").manifest("expires: 2020-01-01T00:00:00Z"))
        .manifests(Key::new("off").manifest("disabled: true"))
        .manifests(Key::new("both").manifest("expires: 2020-01-01T00:00:00Z\ndisabled: true"))
        .start()
        .await;
    for path in ["/v1/chat/completions", "/v1/models", "/pai/v1/model-providers", "/nowhere"] {
        let send = async |key: &Key| {
            let request = if path.contains("chat") { gate.chat(&ask(MODEL, 8)) } else { gate.get(path) };
            request.key(key).send().await
        };
        let (old, off) = (send(&Key::new("old")).await, send(&Key::new("off")).await);
        unauthorized(&old, &["expired"]);
        assert!(!old.message().contains("disabled"), "{}", old.message());
        unauthorized(&off, &["disabled"]);
        assert!(!off.message().contains("expired"), "{}", off.message());
        unauthorized(&send(&Key::new("both")).await, &["disabled", "expired"]);
        let unknown = send(&Key::new("unknown")).await;
        unauthorized(&unknown, &[]);
        assert!(!unknown.message().contains("expired") && !unknown.message().contains("disabled"), "{}", unknown.message());
    }
    gate.chat(&ask(MODEL, 8)).key(&alice()).send().await.ok();
}

/// Formats a time in seconds since 1970 as RFC 3339.
fn rfc3339(seconds: u64) -> String {
    // Howard Hinnant's `civil_from_days`.
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[tokio::test]
async fn a_key_expires_while_the_gate_runs() {
    assert_eq!(rfc3339(951_827_696), "2000-02-29T12:34:56Z");
    let upstream = upstream().await;
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("")).start().await;
    let end = now() + 4;
    let with_end = operated() + &named_provider("vllm-local", OPEN) + &alice().manifest(&format!("expires: {}", rfc3339(end)));
    gate.reconfigure(with_end).await.unwrap();
    // The clock before and after the request shows on which side of the expiry the response was sent.
    until("the key has expired", async || {
        let before = now();
        let reply = gate.chat(&ask(MODEL, 8)).key(&alice()).send().await;
        match reply.status {
            200 => assert!(before <= end, "served after the key had expired"),
            _ => {
                unauthorized(&reply, &["expired"]);
                assert!(now() >= end, "refused before the key expires");
            }
        }
        (reply.status == 401).then_some(())
    })
    .await;
    assert!(!upstream.requests().is_empty(), "it was served before");
}

#[tokio::test]
async fn a_key_can_be_withdrawn_by_a_reload() {
    let upstream = upstream().await;
    let config = |spec: &str| operated() + &named_provider("vllm-local", OPEN) + &alice().manifest(spec);
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("")).start().await;
    gate.chat(&ask(MODEL, 8)).key(&alice()).send().await.ok();
    gate.reconfigure(config("disabled: true")).await.unwrap();
    until("the key is disabled", async || (gate.get("/v1/models").key(&alice()).send().await.status == 401).then_some(())).await;
    gate.reconfigure(config("")).await.unwrap();
    until("the key is back", async || (gate.get("/v1/models").key(&alice()).send().await.status == 200).then_some(())).await;
    gate.reconfigure(operated() + &named_provider("vllm-local", OPEN)).await.unwrap();
    until("the key is gone", async || (gate.get("/v1/models").key(&alice()).send().await.status == 401).then_some(())).await;
}

#[tokio::test]
async fn a_developer_may_not_read_what_operators_read() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("")).start().await;
    let state = |request: Request| request.send();
    state(gate.get("/pai/v1/model-providers").key(&operator())).await.ok();
    state(gate.get("/pai/v1/model-providers").key(&alice())).await.refused(403, INVALID, "caller_not_allowed");
    unauthorized(&state(gate.get("/pai/v1/model-providers")).await, &[]);
}

#[tokio::test]
async fn a_manifest_that_makes_no_sense_is_refused() {
    let upstream = upstream().await;
    let base = operated() + &named_provider("vllm-local", OPEN);
    let gate = with_one(OPEN, &upstream).start().await;
    let cases = [
        (alice().manifest("requestsPerMinute: 0"), "spec.requestsPerMinute"),
        (alice().manifest("tokensPerMinute: -5"), "spec.tokensPerMinute"),
        (alice().manifest("maxTokensPerDay: 1.5"), "spec.maxTokensPerDay"),
        (alice().manifest("expires: tomorrow"), "spec.expires"),
        (alice().manifest("disabled: perhaps"), "spec.disabled"),
        (alice().manifest("models: ['nowhere/*']"), "spec.models"),
        (alice().manifest("models: ['*/model']"), "spec.models"),
        (alice().manifest("tokensPerHour: 5"), "tokensPerHour"),
        (alice().manifest("").replace(&alice().sha256(), &alice().sha256()[..63]), "spec.sha256"),
        (alice().manifest("").replace(&alice().sha256(), &"g".repeat(64)), "spec.sha256"),
        (alice().manifest("").replace(&alice().sha256(), alice().secret()), "spec.sha256"),
        (alice().manifest("") + &alice().manifest(""), "alice"),
        (alice().manifest("").replace("alice", "Not_A_Label"), "metadata.name"),
    ];
    for (manifest, named) in cases {
        let log = match gate.reconfigure(base.clone() + &manifest).await {
            Err(log) => log,
            Ok(()) => panic!("was taken:\n{manifest}"),
        };
        let line = log.lines().find(|line| line.contains("wasm log")).unwrap_or_else(|| panic!("nothing was logged:\n{log}"));
        assert!(line.contains("AccessKey") || named == "metadata.name", "{line}");
        assert!(line.contains(named), "`{named}` is not named for\n{manifest}\nbut\n{line}");
        assert!(!log.contains(alice().secret()), "{log}");
    }
    unauthorized(&gate.get("/v1/models").key(&alice()).send().await, &[]);
}

#[tokio::test]
async fn duplicate_keys_are_rejected() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).start().await;
    let twin = Key::with_secret("twin", alice().secret());
    let config = operated() + &named_provider("vllm-local", OPEN) + &alice().manifest("") + &twin.manifest("");
    let log = gate.reconfigure(config).await.expect_err("whose budget would it be?");
    assert!(log.contains("spec.sha256") && log.contains("twin") && log.contains("alice"), "{log}");
}

#[tokio::test]
async fn an_unauthenticated_caller_is_rejected_before_the_body_arrives() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).manifests(Key::new("off").manifest("disabled: true")).start().await;
    for header in ["x-none: 1", "x-api-key: pak_unknown", &format!("x-api-key: {}", Key::new("off").secret())] {
        let mut raw = gate.raw().await;
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n";
        raw.write(format!("{head}{header}\r\n\r\n")).await;
        unauthorized(&raw.reply().await.unwrap(), &[]);
    }
}

/// The first check that fails determines the error.
#[tokio::test]
async fn errors_are_reported_in_their_order() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("requestsPerMinute: 1")).start().await;
    gate.get("/v1/models").key(&alice()).send().await.ok();
    // Everything is wrong at first; each step corrects what was reported.
    let gzip = |request: Request| request.header("content-encoding", "gzip");
    let bad = |path: &str| gate.post(path).text("{");
    unauthorized(&gzip(bad("/nowhere")).header("x-api-key", "pak_unknown").send().await, &[]);
    gzip(bad("/nowhere")).key(&alice()).send().await.refused(404, INVALID, "unknown_url");
    gate.get("/pai/v1/model-providers").key(&alice()).send().await.refused(403, INVALID, "caller_not_allowed");
    gzip(bad("/v1/chat/completions")).key(&alice()).send().await.refused(415, INVALID, "unsupported_encoding");
    bad("/v1/chat/completions").key(&alice()).send().await.rate_limited("requests");
    bad("/v1/chat/completions").key(&operator()).send().await.invalid_body(None);
}

/// A key is checked first: a caller that sends one is a developer or unauthenticated, whatever else identifies it.
#[tokio::test]
async fn a_key_counts_before_any_identity() {
    let upstream = upstream().await;
    let gate = with_one(&capped(10_000, 9000), &upstream)
        .manifests(agent(&format!("models: [vllm-local/{MODEL}]")))
        .manifests(alice().manifest(""))
        .start()
        .await;
    let identified = || gate.chat(&ask(MODEL, 8)).header("x-agent-id", "researcher");
    identified().key(&alice()).send().await.ok();
    let line = gate.access_log(|line| line["status"] == 200).await;
    assert_eq!(line["subject"], "key/alice", "{line}");
    let shares = gate.settled_budgets(&operator(), "vllm-local").await;
    assert_eq!((shares.provider.used_today, shares.external.used_today), (8, 8));
    unauthorized(&identified().header("x-api-key", "pak_unknown").send().await, &[]);
    identified().header("x-api-key", "sk-another").send().await.ok();
    let shares = gate.settled_budgets(&operator(), "vllm-local").await;
    assert_eq!((shares.provider.used_today, shares.external.used_today), (16, 8));
}

/// With fixed routing the headers are forwarded before the body is evaluated: without the key.
#[tokio::test]
async fn keys_count_with_fixed_routing_too() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 495))).await;
    let gate = Gate::builder()
        .manifests(gateway("routing: fixed\noperators: { keys: [operator] }"))
        .without_stop_iteration()
        .manifests(operator().manifest(""))
        .manifests(named_provider("vllm-local", &capped(10_000, 9000)))
        .manifests(alice().manifest("maxTokensPerDay: 1000\nrequestsPerMinute: 6"))
        .upstream("vllm-local", &upstream)
        .start()
        .await;
    unauthorized(&gate.chat(&ask(MODEL, 400)).header("x-api-key", "pak_unknown").send().await, &[]);
    for nth in 1..=2 {
        let reply = gate.chat(&ask(MODEL, 400)).header("x-api-key", alice().secret()).send().await;
        assert_eq!(reply.ok().rate_limit("requests").unwrap().remaining, 6 - nth);
        let seen = String::from_utf8_lossy(&upstream.last().head).into_owned();
        assert!(!seen.contains("pak_") && !seen.contains("api-key"), "{seen}");
        let shares = gate.settled_budgets(&operator(), "vllm-local").await;
        assert_eq!((shares.provider.used_today, shares.external.used_today), (500 * nth, 500 * nth));
    }
    for _ in 0..4 {
        gate.chat(&ask(MODEL, 400)).key(&alice()).send().await.quota_exhausted();
    }
    gate.chat(&ask(MODEL, 400)).key(&alice()).send().await.rate_limited("requests");
    assert!(upstream.requests().iter().skip(2).all(|request| request.body.is_empty()), "no body has left");
}
