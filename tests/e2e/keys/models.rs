//! The providers and models that a key may use.

use e2e::harness::{Gate, Key, MODEL, named_provider};
use serde_json::json;

use crate::fixtures::{INVALID, OPEN, agent, alice, ask, operated, upstream};

#[tokio::test]
async fn only_providers_that_are_opened_are_open() {
    let upstream = upstream().await;
    let models = |more: &str| format!("allowedModels: [{MODEL}, {{}}]\n{more}");
    let provider = |name: &str, more: &str| named_provider(name, &models(more).replace("{}", &format!("only-{name}")));
    let gate = Gate::builder()
        .manifests(operated())
        .manifests(provider("open", OPEN))
        .manifests(provider("shut", "externalAccess: { enabled: false, maxTokensPerDay: 1000 }"))
        .manifests(provider("inside", ""))
        .manifests(alice().manifest(""))
        .manifests(Key::new("all").manifest("models: ['*']"))
        .manifests(Key::new("insider").manifest("models: ['inside/*', 'shut/*']"))
        .manifests(agent(&format!("models: [inside/{MODEL}, open/{MODEL}]")))
        .upstream("open", &upstream)
        .upstream("shut", &upstream)
        .upstream("inside", &upstream)
        .start()
        .await;
    for key in [alice(), Key::new("all")] {
        let chat = async |model: &str| gate.chat(&ask(model, 8)).key(&key).send().await;
        for (model, served) in [(MODEL.to_owned(), MODEL), (format!("open/{MODEL}"), MODEL), ("only-open".to_owned(), "only-open")]
        {
            let reply = chat(&model).await;
            assert_eq!(reply.ok().header("x-pai-provider"), Some("open"), "{model}");
            assert_eq!(reply.header("x-pai-model"), Some(served), "{model}");
        }
        for model in [format!("shut/{MODEL}"), format!("inside/{MODEL}"), "inside/only-inside".to_owned(), "open/other".to_owned()]
        {
            chat(&model).await.refused(403, INVALID, "model_not_allowed");
        }
        for model in ["only-inside", "only-shut", "nowhere/model", "other"] {
            let reply = chat(model).await;
            reply.refused(404, INVALID, "model_not_found");
            assert!(!reply.message().contains("inside/") && !reply.message().contains("shut/"), "{}", reply.message());
        }
        let listed = gate.get("/v1/models").key(&key).send().await.ok().json();
        let ids: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
        assert_eq!(ids, [format!("open/{MODEL}").as_str(), "open/only-open"]);
        gate.get("/v1/models/open%2Fonly-open").key(&key).send().await.ok();
        for closed in ["inside%2Fonly-inside", "shut%2Fonly-shut", "only-inside"] {
            gate.get(&format!("/v1/models/{closed}")).key(&key).send().await.refused(404, INVALID, "model_not_found");
        }
    }
    let insider = Key::new("insider");
    for model in [format!("inside/{MODEL}"), format!("shut/{MODEL}"), format!("open/{MODEL}")] {
        gate.chat(&ask(&model, 8)).key(&insider).send().await.refused(403, INVALID, "model_not_allowed");
    }
    gate.chat(&ask(MODEL, 8)).key(&insider).send().await.refused(404, INVALID, "model_not_found");
    assert_eq!(gate.get("/v1/models").key(&insider).send().await.ok().json()["data"], json!([]));
    // A provider that is closed to developers is open to agents.
    let inside = gate.chat(&ask(&format!("inside/{MODEL}"), 8)).header("x-agent-id", "researcher").send().await;
    assert_eq!(inside.ok().header("x-pai-provider"), Some("inside"));
}

#[tokio::test]
async fn a_keys_patterns_say_which_models() {
    let upstream = upstream().await;
    let lists: [(&str, &str, &[&str], &[&str]); 6] = [
        ("all", "['*']", &["one/a", "one/qwen/b", "two/a", "two/qwen/b"], &[]),
        ("provider", "['one/*']", &["one/a", "one/qwen/b"], &["two/a", "two/qwen/b"]),
        ("prefix", "['one/qwen/*']", &["one/qwen/b"], &["one/a", "two/qwen/b"]),
        ("part", "['two/qw*']", &["two/qwen/b"], &["two/a", "one/qwen/b"]),
        ("reference", "[two/a]", &["two/a"], &["one/a", "two/qwen/b", "two/aa"]),
        ("several", "[two/a, 'one/qwen/*']", &["two/a", "one/qwen/b"], &["one/a", "two/qwen/b"]),
    ];
    let allowed = format!("allowedModels: [a, aa, qwen/b]\n{OPEN}");
    let mut builder = Gate::builder().manifests(operated());
    for name in ["one", "two"] {
        builder = builder.manifests(named_provider(name, &allowed)).upstream(name, &upstream);
    }
    for (name, models, _, _) in lists {
        builder = builder.manifests(Key::new(name).manifest(&format!("models: {models}")));
    }
    let gate = builder.start().await;
    for (name, _, allowed, refused) in lists {
        let key = Key::new(name);
        let listed = gate.get("/v1/models").key(&key).send().await.ok().json().to_string();
        for reference in allowed {
            let reply = gate.chat(&ask(reference, 8)).key(&key).send().await;
            assert_eq!(reply.ok().header("x-pai-provider"), reference.split('/').next(), "{name}: {reference}");
            assert!(listed.contains(&format!("\"{reference}\"")), "{name}: {reference} is not in {listed}");
            gate.get(&format!("/v1/models/{}", reference.replace('/', "%2F"))).key(&key).send().await.ok();
        }
        for reference in refused {
            gate.chat(&ask(reference, 8)).key(&key).send().await.refused(403, INVALID, "model_not_allowed");
            assert!(!listed.contains(&format!("\"{reference}\"")), "{name}: {reference} is in {listed}");
            let path = format!("/v1/models/{}", reference.replace('/', "%2F"));
            gate.get(&path).key(&key).send().await.refused(404, INVALID, "model_not_found");
        }
    }
}

/// An exact entry of a key also represents a model of a provider without a model list.
#[tokio::test]
async fn a_keys_exact_entries_are_listed() {
    let upstream = upstream().await;
    let gate = Gate::builder()
        .manifests(operated())
        .manifests(named_provider("one", &format!("deniedModels: [bad]\n{OPEN}")))
        .manifests(named_provider("two", &format!("allowedModels: [a, 'b*']\n{OPEN}")))
        .manifests(named_provider("shut", "allowedModels: [a]"))
        .manifests(alice().manifest("models: [one/meta/x, one/bad, two/a, two/bb, two/c, shut/a, 'one/q*']"))
        .upstream("one", &upstream)
        .upstream("two", &upstream)
        .start()
        .await;
    let listed = gate.get("/v1/models").key(&alice()).send().await.ok().json();
    let mut ids: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["one/meta/x", "two/a", "two/bb"]);
    for (model, status) in [
        ("one/meta/x", 200),
        ("two/bb", 200),
        ("one/qq", 200),
        ("one/bad", 403),
        ("two/c", 403),
        ("shut/a", 403),
        ("one/other", 403),
    ] {
        let reply = gate.chat(&ask(model, 8)).key(&alice()).send().await;
        assert_eq!(reply.status, status, "{model}: {}", reply.describe());
    }
}

#[tokio::test]
async fn a_bare_id_is_resolved_among_the_keys_models() {
    let upstream = upstream().await;
    let mut builder = Gate::builder().manifests(operated());
    for name in ["one", "two", "three", "four", "five", "six", "seven"] {
        builder = builder.manifests(named_provider(name, &format!("allowedModels: [{MODEL}]\n{OPEN}"))).upstream(name, &upstream);
    }
    builder = builder.manifests(alice().manifest("models: ['two/*']")).manifests(Key::new("all").manifest(""));
    let gate = builder.start().await;
    let found = gate.chat(&ask(MODEL, 8)).key(&alice()).send().await;
    assert_eq!(found.ok().header("x-pai-provider"), Some("two"));
    let unclear = gate.chat(&ask(MODEL, 8)).key(&Key::new("all")).send().await;
    unclear.refused(404, INVALID, "model_not_found");
    let message = unclear.message();
    assert_eq!(message.matches(&format!("/{MODEL}")).count(), 5, "{message}");
    let unknown = gate.chat(&ask("unknown", 8)).key(&alice()).send().await;
    unknown.refused(404, INVALID, "model_not_found");
    assert!(!unknown.message().contains("one/"), "{}", unknown.message());
}
