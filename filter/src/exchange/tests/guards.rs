//! Tests of guards: their order among the checks, and their metrics and log fields.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const GUARDED: &str = "
apiVersion: pai.io/v1
kind: ModelProvider
metadata: { name: p }
spec:
  provider: vllm
  endpoint: http://vllm:8000/v1
  maxTokensPerDay: 1000
  maxTokensPerRequest: 500
  guards:
    - { name: watch, type: pattern, action: audit, unreadable: allow, deny: ['gr[e-]y'] }
    - { name: words, type: pattern, deny: [forbidden] }
";

fn message(text: &str, members: &str) -> String {
    format!(r#"{{"model":"p/m","messages":[{{"role":"user","content":"{text}"}}]{members}}}"#)
}

#[test]
fn guards_are_evaluated_after_sizes_and_before_budgets() {
    let (world, gate) = (World::new(), gate(GUARDED));
    let chat_headers = post("/v1/chat/completions", &[]);
    let matches = |guard: &str, action: &str| {
        let name = format!("pai.provider=.=p;.;guard=.={guard};.;action=.={action};.;guard_hits_total");
        world.counts().get(&name).copied().unwrap_or(0)
    };
    // The body, the code of the error if the request is rejected, and the guards that match.
    for (body, expected, matched_guards) in [
        (message("a forbidden word", ""), Some("prompt_rejected"), "words"),
        (message("a forbidden grey word", ""), Some("prompt_rejected"), "watch,words"),
        (message("a grey word", ",\"max_tokens\":9"), None, "watch"),
        (message("a word", ",\"max_tokens\":9"), None, ""),
        (message("a forbidden word", ",\"n\":100,\"max_tokens\":9000"), Some("context_length_exceeded"), ""),
        (message("a forbidden word", ",\"model\":\"x\""), Some("invalid_body"), ""),
        (message("a forbidden word", "").replace("p/m", "q/m"), Some("model_not_found"), ""),
    ] {
        let mut exchange = Exchange::new(Rc::clone(&gate));
        let step = ask(&mut exchange, &world, &chat_headers, &body);
        match expected {
            None => assert!(matches!(step, Step::Forward(_)), "{body}: {step:?}"),
            Some(code) => assert_eq!(refused(&step).1, code, "{body}"),
        }
        if let (Step::Reply(reply), Some("prompt_rejected")) = (&step, expected) {
            let text = String::from_utf8_lossy(&reply.body);
            assert!(reply.status == 403 && text.contains("Guard `words`") && !text.contains("forbidden"), "{text}");
            assert!(reply.headers.iter().all(|(name, _)| *name == "content-type"), "{reply:?}");
        }
        let entry = exchange.on_log(|| false, &world.env()).unwrap();
        assert_eq!(entry.guard, matched_guards, "{body}");
        assert_eq!(world.ledger(&gate), (0, 0), "{body}");
    }
    assert_eq!((matches("words", "reject"), matches("watch", "audit")), (2, 2));

    // Guards are evaluated before budgets, also if a budget is exhausted.
    let mut exchange = Exchange::new(Rc::clone(&gate));
    ask(&mut exchange, &world, &chat_headers, &message("a word", ",\"max_tokens\":9"));
    let usage = r#"{"usage":{"prompt_tokens":900,"completion_tokens":100}}"#;
    answer(&mut exchange, &world, "200", "application/json", usage);
    exchange.on_log(|| true, &world.env());
    let step = ask(&mut Exchange::new(Rc::clone(&gate)), &world, &chat_headers, &message("a forbidden word", ""));
    assert_eq!(refused(&step).1, "prompt_rejected");
    let step = ask(&mut Exchange::new(Rc::clone(&gate)), &world, &chat_headers, &message("a word", ""));
    assert_eq!(refused(&step).1, "insufficient_quota");
}

#[test]
fn unreadable_prompts_are_rejected_unless_the_guard_allows_them() {
    let (world, gate) = (World::new(), gate(GUARDED));
    for (path, body) in [
        ("/v1/completions", r#"{"model":"p/m","prompt":[1,2,3]}"#),
        ("/v1/completions", r#"{"model":"p/m","prompt":[[1],[2]]}"#),
        ("/v1/embeddings", r#"{"model":"p/m","input":[1,2]}"#),
        (
            "/v1/chat/completions",
            r#"{"model":"p/m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x/y.png"}}]}]}"#,
        ),
    ] {
        let mut exchange = Exchange::new(Rc::clone(&gate));
        let step = ask(&mut exchange, &world, &post(path, &[]), body);
        assert_eq!(refused(&step).1, "prompt_rejected", "{body}");
        let Step::Reply(reply) = step else { panic!() };
        assert!(String::from_utf8_lossy(&reply.body).contains("cannot read"), "{body}");
        assert_eq!(exchange.on_log(|| false, &world.env()).unwrap().guard, "words", "the other guard allows it");
    }
}
