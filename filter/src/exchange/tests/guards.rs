//! Where guards stand among the rules, and what is seen of them.

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

fn say(text: &str, members: &str) -> String {
    format!(r#"{{"model":"p/m","messages":[{{"role":"user","content":"{text}"}}]{members}}}"#)
}

#[test]
fn guards_refuse_before_budgets_and_after_sizes() {
    let (world, gate) = (World::new(), gate(GUARDED));
    let chat_headers = post("/v1/chat/completions", &[]);
    let hits = |guard: &str, action: &str| {
        let name = format!("pai.provider=.=p;.;guard=.={guard};.;action=.={action};.;guard_hits_total");
        world.counts().get(&name).copied().unwrap_or(0)
    };
    // The body, the code of the refusal if there is one, and who has found something.
    for (body, expected, matched_guards) in [
        (say("a forbidden word", ""), Some("prompt_rejected"), "words"),
        (say("a forbidden grey word", ""), Some("prompt_rejected"), "watch,words"),
        (say("a grey word", ",\"max_tokens\":9"), None, "watch"),
        (say("a word", ",\"max_tokens\":9"), None, ""),
        (say("a forbidden word", ",\"max_tokens\":9000"), Some("context_length_exceeded"), ""),
        (say("a forbidden word", ",\"model\":\"x\""), Some("invalid_body"), ""),
        (say("a forbidden word", "").replace("p/m", "q/m"), Some("model_not_found"), ""),
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
    assert_eq!((hits("words", "reject"), hits("watch", "audit")), (2, 2));

    // A spent budget does not hide what a guard has to say.
    let mut exchange = Exchange::new(Rc::clone(&gate));
    ask(&mut exchange, &world, &chat_headers, &say("a word", ",\"max_tokens\":9"));
    let usage = r#"{"usage":{"prompt_tokens":900,"completion_tokens":100}}"#;
    answer(&mut exchange, &world, "200", "application/json", usage);
    exchange.on_log(|| true, &world.env());
    let step = ask(&mut Exchange::new(Rc::clone(&gate)), &world, &chat_headers, &say("a forbidden word", ""));
    assert_eq!(refused(&step).1, "prompt_rejected");
    let step = ask(&mut Exchange::new(Rc::clone(&gate)), &world, &chat_headers, &say("a word", ""));
    assert_eq!(refused(&step).1, "insufficient_quota");
}

#[test]
fn what_a_guard_cannot_read_is_refused_unless_it_says_otherwise() {
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
