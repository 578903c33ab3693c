//! Tables of configurations that are accepted and refused, and rules that hold for every configuration.

use std::collections::BTreeSet;

use super::{load, parse};
use crate::identity::access_key::ReferencePattern;
use crate::policy::name_pattern::NamePattern;
use crate::policy::{
    AllowedOrigin, Audience, Callout, Cors, Credentials, Dialect, ExternalAccess, LimitField, Policy, PromptEstimate,
    ProviderCredential, Routing,
};

const OPEN: &str = include_str!("fixtures/open.yaml");
const TOKEN_GATED: &str = include_str!("fixtures/token-gated.yaml");
const BUDGETS: &str = include_str!("fixtures/budgets.yaml");
const EXTERNAL: &str = include_str!("fixtures/external.yaml");
const ALL: &str = include_str!("fixtures/all.yaml");
const ALL_JSON: &str = include_str!("fixtures/all.json");
const REFERENCE: &str = include_str!("../../../docs/configuration.md");

const MODEL: &str = "meta-llama/Meta-Llama-3-70B-Instruct";

fn env(name: &str) -> Option<String> {
    let value = match name {
        "PAI_SECRET_VLLM_TOKEN_API_KEY" => " s3cret\n",
        "PAI_SECRET_HOSTED_TOKEN_API_KEY" => "sk-hosted",
        "PAI_SECRET_EMPTY_KEY" => " \n",
        "PAI_SECRET_SPACED_KEY" => "two words",
        _ => return None,
    };
    Some(value.to_owned())
}

fn policy(text: &str) -> Policy {
    load(text.as_bytes(), &env).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn refusal(text: &str) -> String {
    match load(text.as_bytes(), &env) {
        Ok(_) => panic!("was accepted:\n{text}"),
        Err(error) => error.to_string(),
    }
}

/// A provider `p` with these lines in its spec, in flow style.
fn provider(spec: &str) -> String {
    format!("{{apiVersion: pai.io/v1, kind: ModelProvider, metadata: {{name: p}}, spec: {{{spec}}}}}\n")
}

/// A provider `p` that is complete without `spec`.
fn vllm(spec: &str) -> String {
    provider(&format!("provider: vllm, endpoint: 'http://vllm', {spec}"))
}

fn gateway(spec: &str) -> String {
    format!("{}\n---\n{}", lone_gateway(spec), vllm(""))
}

fn lone_gateway(spec: &str) -> String {
    format!("{{apiVersion: pai.io/v1, kind: Gateway, metadata: {{name: g}}, spec: {{{spec}}}}}")
}

#[test]
fn manifests_are_parsed_as_written_in_both_forms() {
    let items = |text: &str| serde_json::Value::from(parse(text.as_bytes()).unwrap());
    assert_eq!(items("items: [{a: 1}, {b: [2]}]"), items("a: 1\n---\nb: [2]"));
    let kinds = |text| items(text).as_array().unwrap().iter().map(|item| item["kind"].clone()).collect::<Vec<_>>();
    assert_eq!(kinds(ALL).len(), 6);
    assert_eq!(kinds(ALL_JSON), ["ModelProvider", "Gateway"]);
    let documents = items("a: [1, -2, 3.5, .inf, null, true, 'x']\n---\n---\nb: {c: 18446744073709551615}");
    assert_eq!(documents, serde_json::json!([{"a": [1, -2, 3.5, "inf", null, true, "x"]}, {"b": {"c": u64::MAX}}]));
    for text in ["", "a: 1\na: 2", "a: !tag 1", "{", "items: [1]\n---\na: 1"] {
        assert!(parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn the_example_manifests_are_accepted() {
    let open = policy(OPEN);
    let provider = &open.providers[0];
    assert_eq!(&*provider.name, "vllm-local");
    assert_eq!(provider.dialect, Dialect::Vllm);
    assert_eq!(&*provider.endpoint.url, "http://vllm.vllm-system.svc.cluster.local:8000/v1");
    assert_eq!(&*provider.endpoint.authority, "vllm.vllm-system.svc.cluster.local:8000");
    assert_eq!(&*provider.endpoint.base_path, "/v1");
    assert_eq!(provider.credential, ProviderCredential::None);
    let second = NamePattern::Exact("mistralai/Mistral-7B-Instruct-v0.3".into());
    assert_eq!(provider.models.allowed, Some(vec![NamePattern::Exact(MODEL.into()), second]));
    assert_eq!(provider.default_max_tokens.get(), 4096);
    assert_eq!(provider.limit_field, LimitField::MaxTokens);
    assert_eq!(provider.prompt_estimate, PromptEstimate::Estimated);
    assert_eq!(provider.external, None);
    assert_eq!(open.gateway.audience, Audience::Auto);

    let gated = policy(TOKEN_GATED);
    assert_eq!(gated.providers[0].credential.value().unwrap().expose(), "Bearer s3cret");

    let budgets = policy(BUDGETS);
    assert_eq!(budgets.providers[0].max_tokens_per_day.unwrap().get(), 50_000_000);
    assert_eq!(budgets.providers[0].max_tokens_per_request.unwrap().get(), 32_000);

    let external = policy(EXTERNAL).providers[0].external.unwrap();
    assert!(external.enabled);
    assert_eq!(external.max_tokens_per_day.unwrap().get(), 5_000_000);
}

#[test]
fn a_stream_of_every_field_is_accepted() {
    let Policy { providers, gateway, .. } = policy(ALL);
    assert_eq!(providers.iter().map(|p| &*p.name).collect::<Vec<_>>(), ["vllm-local", "hosted"]);
    assert_eq!(providers[0].max_tokens_per_day.unwrap().get(), 50_000_000);
    assert_eq!(providers[0].max_tokens_per_request.unwrap().get(), 32_000);
    assert_eq!(providers[0].default_max_tokens.get(), 2048);
    assert_eq!(providers.iter().map(|p| p.limit_field).collect::<Vec<_>>(), [LimitField::MaxCompletionTokens; 2]);
    assert_eq!(
        providers.iter().map(|p| p.prompt_estimate).collect::<Vec<_>>(),
        [PromptEstimate::Strict, PromptEstimate::Estimated]
    );
    assert_eq!(providers[0].models.denied, [NamePattern::Prefix("meta-llama/Llama-2".into())]);
    let external = ExternalAccess { enabled: false, max_tokens_per_day: 5_000_000.try_into().ok() };
    assert_eq!(providers[0].external, Some(external));
    assert_eq!(&*providers[1].endpoint.base_path, "/openai/v1");
    assert_eq!(providers[1].credential.value().unwrap().expose(), "Bearer sk-hosted");

    assert_eq!(gateway.audience, Audience::Agents);
    assert_eq!(gateway.routing, Routing::Body);
    assert_eq!((gateway.max_request_bytes, gateway.max_attempts), (1_048_576, 2));
    assert_eq!(gateway.identity_header.as_deref(), Some("x-agent-id"));
    assert_eq!(gateway.operators.identities, [NamePattern::new("spiffe://cluster.local/ns/ops/sa/*")]);
    assert_eq!(gateway.callouts, [Callout { provider: 1, cluster: "outbound|443||api.example.com".into() }]);
}

#[test]
fn an_object_with_items_is_taken_as_json_and_as_yaml() {
    for text in [ALL_JSON, &format!("\u{feff}--- # items\nitems: [\n{},\n]\n", vllm("allowedModels: []"))] {
        let policy = policy(text);
        assert_eq!(policy.providers.len(), 1);
        assert_eq!(policy.providers[0].models.allowed.as_deref(), Some([].as_slice()), "[] is no model");
    }
    assert_eq!(policy(ALL_JSON).gateway.routing, Routing::Fixed);
}

#[test]
fn null_is_absent_and_lenient_values_are_accepted() {
    let nulls = "apiKeySecretRef: null, allowedModels: null, deniedModels: ~, maxTokensPerDay: , externalAccess: , guards: , promptEstimate: ";
    let policy = policy(&vllm(nulls));
    assert!(policy.providers[0].models.allowed.is_none());
    assert!(policy.providers[0].external.is_none());
    for spec in ["guards: []", "allowedModels: [a, a, '*']", "maxTokensPerDay: 9007199254740992", "externalAccess: {}"] {
        self::policy(&vllm(spec));
    }
}

#[test]
fn endpoints() {
    let accepted = [
        ("http://vllm", "vllm", "/v1"),
        ("http://vllm/", "vllm", ""),
        ("https://api.openai.com/v1/", "api.openai.com", "/v1"),
        ("HTTPS://Api.Example.com.:443/a/b-c~d", "Api.Example.com.:443", "/a/b-c~d"),
        ("http://10.0.0.1:65535/v1", "10.0.0.1:65535", "/v1"),
        ("http://[::1]:8000/v1", "[::1]:8000", "/v1"),
        ("http://[fd00::1]", "[fd00::1]", "/v1"),
        ("http://model_server:1/v1", "model_server:1", "/v1"),
    ];
    for (url, authority, path) in accepted {
        let policy = policy(&provider(&format!("provider: vllm, endpoint: '{url}'")));
        let endpoint = &policy.providers[0].endpoint;
        assert_eq!((&*endpoint.url, &*endpoint.authority, &*endpoint.base_path), (url, authority, path));
    }
    let ascii = "must be visible ASCII, at most 2048 characters";
    let scheme = "must begin with http:// or https://";
    let query = "must not have a query or a fragment";
    let host = "must name a host: a DNS name, an IPv4 address or an IPv6 address in brackets";
    let port = "must have a port from 1 to 65535, or none";
    let dots = "must not have `//`, `.` or `..` in its path";
    let marks = "must not have quotes, brackets, backslashes or `%` in its path";
    let refused = [
        ("", scheme),
        ("vllm:8000/v1", scheme),
        ("ftp://vllm", scheme),
        ("http:/vllm", scheme),
        (r"http://vllm\r\nx-evil: 1", ascii),
        ("http://v llm/v1", ascii),
        ("http://vllm/ä", ascii),
        ("http://me:s3cret@vllm/v1", "must not contain credentials; use apiKeySecretRef"),
        ("http://vllm/v1?key=s3cret", query),
        ("http://vllm?key=s3cret", query),
        ("http://vllm/v1#x", query),
        ("http://", host),
        ("http:///v1", host),
        ("http://:80", host),
        ("http://a..b", host),
        ("http://a,b", host),
        ("http://[::1", host),
        ("http://::1", host),
        ("http://[::1]x:80", host),
        ("http://[fe80::1%25eth0]", host),
        ("http://vllm:", port),
        ("http://vllm:0", port),
        ("http://vllm:65536", port),
        ("http://vllm:+80", port),
        ("http://[::1]:", port),
        ("http://vllm//v1", dots),
        ("http://vllm/v1//", dots),
        ("http://vllm/a/../v1", dots),
        ("http://vllm/.", dots),
        ("http://vllm/%2e%2e", marks),
        ("http://vllm/a\\\\b", marks),
        ("http://vllm/<v1>", marks),
    ];
    for (url, reason) in refused {
        let text = provider(&format!("provider: vllm, endpoint: \"{url}\""));
        assert_eq!(refusal(&text), format!("ModelProvider p: spec.endpoint: {reason}"), "{url}");
    }
}

#[test]
fn values_of_a_model_provider_are_refused() {
    let known = "provider, endpoint, apiKeySecretRef, allowedModels, deniedModels, maxTokensPerDay, maxTokensPerRequest, \
                 defaultMaxTokens, limitField, externalAccess, guards, promptEstimate";
    let unknown = format!("spec.name: unknown field; known here: {known}");
    let long = format!("spec.allowedModels[0]: must be 1 to 256 visible ASCII characters, got \"{}…\"", "a".repeat(60));
    let cases = [
        ("maxTokensPerDay: 0", "spec.maxTokensPerDay: must be at least 1, got 0"),
        ("maxTokensPerDay: -0.0", "spec.maxTokensPerDay: must be at least 1, got 0"),
        ("maxTokensPerDay: -5", "spec.maxTokensPerDay: must be at least 1, got -5"),
        ("maxTokensPerDay: 1.5", "spec.maxTokensPerDay: must be a whole number, got 1.5"),
        ("maxTokensPerDay: .inf", "spec.maxTokensPerDay: must be a whole number, got inf"),
        ("maxTokensPerDay: .nan", "spec.maxTokensPerDay: must be a whole number, got NaN"),
        ("maxTokensPerDay: '5'", "spec.maxTokensPerDay: must be a whole number, got \"5\""),
        ("maxTokensPerDay: 5_000", "spec.maxTokensPerDay: must be a whole number, got \"5_000\""),
        ("maxTokensPerDay: true", "spec.maxTokensPerDay: must be a whole number, got true"),
        ("maxTokensPerDay: [5]", "spec.maxTokensPerDay: must be a whole number, got a list"),
        ("maxTokensPerDay: 9007199254740993", "spec.maxTokensPerDay: must be at most 9007199254740992, got 9007199254740993"),
        ("maxTokensPerRequest: 1e300", "spec.maxTokensPerRequest: must be at most 9007199254740992, got 1e300"),
        (
            "limitField: max_tokenz",
            "spec.limitField: must be one of max_tokens, max_completion_tokens, got \"max_tokenz\"; did you mean `max_tokens`?",
        ),
        ("defaultMaxTokens: 0.0", "spec.defaultMaxTokens: must be at least 1, got 0"),
        ("externalAccess: {maxTokensPerDay: 0}", "spec.externalAccess.maxTokensPerDay: must be at least 1, got 0"),
        ("externalAccess: {enabled: 'yes'}", "spec.externalAccess.enabled: must be true or false, got \"yes\""),
        ("externalAccess: true", "spec.externalAccess: must be a map, got a boolean"),
        (
            "externalAccess: {enable: true}",
            "spec.externalAccess.enable: unknown field; did you mean `enabled`? Known here: enabled, maxTokensPerDay",
        ),
        ("name: x", &unknown),
        ("allowedModels: all", "spec.allowedModels: must be a list, got a string"),
        ("allowedModels: [a, 5]", "spec.allowedModels[1]: must be a string, got 5; put it in quotes"),
        ("allowedModels: ['']", "spec.allowedModels[0]: must be 1 to 256 visible ASCII characters, got \"\""),
        ("allowedModels: [a b]", "spec.allowedModels[0]: must be 1 to 256 visible ASCII characters, got \"a b\""),
        ("allowedModels: [\"a\\r\\nb\"]", "spec.allowedModels[0]: must be 1 to 256 visible ASCII characters, got \"a\\r\\nb\""),
        (&format!("allowedModels: [{}]", "a".repeat(257)), &long),
        ("deniedModels: ['*-8b']", "spec.deniedModels[0]: may have `*` at its end only, got \"*-8b\""),
        ("deniedModels: ['a**']", "spec.deniedModels[0]: may have `*` at its end only, got \"a**\""),
        ("guards: [{type: promptInjection}]", "spec.guards[0].name: is missing"),
        ("guards: {}", "spec.guards: must be a list, got a map"),
        ("promptEstimate: strikt", "spec.promptEstimate: must be one of estimated, strict, got \"strikt\"; did you mean `strict`?"),
        ("promptEstimate: true", "spec.promptEstimate: must be one of estimated, strict, got true"),
        ("apiKeySecretRef: sk-pasted", "spec.apiKeySecretRef: must be a map, got a string"),
        ("apiKeySecretRef: {name: a}", "spec.apiKeySecretRef.key: is missing"),
        (
            "apiKeySecretRef: {name: a, key: b.c}",
            "spec.apiKeySecretRef: environment variable PAI_SECRET_A_B_C is not set; pass it to the VM",
        ),
        ("apiKeySecretRef: {name: empty, key: key}", "spec.apiKeySecretRef: environment variable PAI_SECRET_EMPTY_KEY is empty"),
        (
            "apiKeySecretRef: {name: spaced, key: key}",
            "spec.apiKeySecretRef: environment variable PAI_SECRET_SPACED_KEY must contain visible ASCII characters only",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(refusal(&vllm(spec)), format!("ModelProvider p: {expected}"), "{spec}");
    }
    let refused = refusal(&provider("provider: tgi, endpoint: 'http://vllm'"));
    assert_eq!(refused, "ModelProvider p: spec.provider: must be one of vllm, openai, anthropic, got \"tgi\"");
    assert_eq!(refusal(&provider("provider: vllm")), "ModelProvider p: spec.endpoint: is missing");
}

#[test]
fn agents_and_access_keys_are_accepted() {
    let Policy { agents, keys, gateway, .. } = policy(ALL);
    let agent = agents.get(0).unwrap();
    assert_eq!(&*agent.name, "researcher");
    assert_eq!(
        agent.identities,
        ["spiffe://cluster.local/ns/agents/sa/researcher", "spiffe://cluster.local/ns/lab/*"].map(NamePattern::new)
    );
    let models: Vec<(usize, &str)> = agent.models.iter().map(|reference| (reference.provider, &*reference.model)).collect();
    assert_eq!(models, [(0, MODEL), (1, "gpt-5-mini")]);
    assert_eq!(agent.max_tokens_per_day.unwrap().get(), 2_000_000);

    let key = keys.get(0).unwrap();
    assert_eq!((&*key.name, key.sha256[..2].to_owned()), ("alice-laptop", vec![0xb5, 0xcd]));
    let any = |provider, model| ReferencePattern { provider, model: NamePattern::new(model) };
    let models = [any(Some(0), "*"), any(Some(0), "mistralai/*"), any(Some(1), "gpt-5-mini")];
    assert_eq!(key.models.as_deref(), Some(models.as_slice()));
    let limits = [key.max_tokens_per_day, key.tokens_per_minute, key.requests_per_minute].map(|limit| limit.unwrap().get());
    assert_eq!(limits, [200_000, 100_000, 60]);
    assert_eq!((key.expires, key.disabled), (Some(1_798_761_600), false));
    let ci = keys.get(1).unwrap();
    assert_eq!((ci.models.as_deref(), ci.expires, ci.disabled), (Some([any(None, "*")].as_slice()), None, true));
    assert_eq!(gateway.operators.keys, [1]);
}

#[test]
fn values_of_an_agent_are_refused() {
    let agent = |name: &str, spec: &str| {
        format!("---\n{{apiVersion: pai.io/v1, kind: Agent, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n")
    };
    let reference = "must be `<provider>/<model-id>` of a ModelProvider of this configuration, got";
    let cases = [
        ("models: [p/m]", "spec.identities: is missing".to_owned()),
        ("identities: [a]", "spec.models: is missing".to_owned()),
        ("identities: [], models: [p/m]", "spec.identities: must not be empty".to_owned()),
        ("identities: [a], models: []", "spec.models: must not be empty".to_owned()),
        ("identities: a, models: [p/m]", "spec.identities: must be a list, got a string".to_owned()),
        ("identities: ['*/a'], models: [p/m]", "spec.identities[0]: may have `*` at its end only, got \"*/a\"".to_owned()),
        (
            "identities: ['a b'], models: [p/m]",
            "spec.identities[0]: must be 1 to 2048 visible ASCII characters, got \"a b\"".to_owned(),
        ),
        ("identities: [a], models: [q/m]", format!("spec.models[0]: {reference} \"q/m\"")),
        ("identities: [a], models: [p/m, m]", format!("spec.models[1]: {reference} \"m\"")),
        ("identities: [a], models: [p/]", format!("spec.models[0]: {reference} \"p/\"")),
        ("identities: [a], models: ['p/*']", "spec.models[0]: must be an exact reference, without `*`, got \"p/*\"".to_owned()),
        ("identities: [a], models: [p/m], maxTokensPerDay: 0", "spec.maxTokensPerDay: must be at least 1, got 0".to_owned()),
        (
            "identities: [a], models: [p/m], fallback: []",
            "spec.fallback: unknown field; known here: identities, models, maxTokensPerDay".to_owned(),
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(refusal(&(vllm("") + &agent("a", spec))), format!("Agent a: {expected}"), "{spec}");
    }
    let two = vllm("") + &agent("a", "identities: [x, y], models: [p/m]") + &agent("b", "identities: [z, y], models: [p/m]");
    assert_eq!(refusal(&two), "Agent b: spec.identities[1]: Agent a has the same identity");
}

#[test]
fn values_of_an_access_key_are_refused() {
    let digest = "b5cd".repeat(16);
    let key = |name: &str, spec: &str| {
        format!("---\n{{apiVersion: pai.io/v1, kind: AccessKey, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n")
    };
    let with = |spec: &str| key("k", &format!("sha256: {digest}, {spec}"));
    let hash = "spec.sha256: must be the SHA-256 of the whole key: 64 hexadecimal digits";
    let pattern = "must be `*`, or begin with the name of a ModelProvider of this configuration and a slash, got";
    let moment = "spec.expires: must be a timestamp such as 2027-01-01T00:00:00Z, got";
    let cases = [
        (key("k", ""), "spec.sha256: is missing".to_owned()),
        (key("k", "sha256: pak_pasted"), hash.to_owned()),
        (key("k", &format!("sha256: {}x", &digest[..63])), hash.to_owned()),
        (key("k", &format!("sha256: '+{}'", &digest[..63])), hash.to_owned()),
        (key("k", "sha256: [1]"), "spec.sha256: must be a string, got a list".to_owned()),
        (with("models: [q/m]"), format!("spec.models[0]: {pattern} \"q/m\"")),
        (with("models: [m]"), format!("spec.models[0]: {pattern} \"m\"")),
        (with("models: ['p*']"), format!("spec.models[0]: {pattern} \"p*\"")),
        (with("models: ['*/m']"), "spec.models[0]: may have `*` at its end only, got \"*/m\"".to_owned()),
        (with("requestsPerMinute: 0"), "spec.requestsPerMinute: must be at least 1, got 0".to_owned()),
        (with("requestsPerMinute: 60000001"), "spec.requestsPerMinute: must be at most 60000000, got 60000001".to_owned()),
        (with("tokensPerMinute: many"), "spec.tokensPerMinute: must be a whole number, got \"many\"".to_owned()),
        (with("maxTokensPerDay: -1"), "spec.maxTokensPerDay: must be at least 1, got -1".to_owned()),
        (with("expires: 2027-01-01"), format!("{moment} \"2027-01-01\"")),
        (with("expires: 1"), "spec.expires: must be a string, got 1; put it in quotes".to_owned()),
        (with("disabled: 'yes'"), "spec.disabled: must be true or false, got \"yes\"".to_owned()),
        (
            with("key: pak_pasted"),
            "spec.key: unknown field; known here: sha256, previous, models, maxTokensPerDay, requestsPerMinute, tokensPerMinute, expires, disabled"
                .to_owned(),
        ),
    ];
    for spec in ["models: [pak_slip]", "expires: pak_slip", "disabled: pak_slip", "requestsPerMinute: 'x pak_slip'", "pak_slip: 1"]
    {
        let refused = refusal(&(vllm("") + &with(spec)));
        assert!(!refused.contains("slip"), "{refused}");
    }
    assert!(!refusal("a: pak_slip: b").contains("slip"));
    for (manifest, expected) in cases {
        let refused = refusal(&(vllm("") + &manifest));
        assert_eq!(refused, format!("AccessKey k: {expected}"), "{manifest}");
        assert!(!refused.contains("pak_"), "what may be a key is not repeated");
    }
    assert!(load((vllm("") + &key("k", &format!("sha256: {}", digest.to_uppercase()))).as_bytes(), &env).is_ok());
    let two = vllm("") + &with("") + &key("other", &format!("sha256: {digest}"));
    assert_eq!(refusal(&two), "AccessKey other: spec.sha256: AccessKey k has the same hash");
}

#[test]
fn guards_are_accepted() {
    use crate::guard::injection::Sensitivity;
    use crate::guard::{Action, Check, Unreadable};
    let guards = "guards: [{name: a, type: promptInjection}, {name: b, type: promptInjection, action: audit, roles: [user, tool], \
                  unreadable: allow, sensitivity: high}, {name: c, type: pattern, deny: ['x+', 'y'], allow: [xx]}]";
    let policy = policy(&vllm(guards));
    let [a, b, c] = policy.providers[0].guards.as_slice() else { panic!("three guards") };
    assert_eq!((&*a.name, a.action, &a.roles, a.unreadable), ("a", Action::Reject, &None, Unreadable::Reject));
    assert!(matches!(a.check, Check::Injection(Sensitivity::Medium)));
    assert_eq!((b.action, b.unreadable), (Action::Audit, Unreadable::Allow));
    assert_eq!(b.roles.as_deref(), Some(["user".into(), "tool".into()].as_slice()));
    assert!(matches!(b.check, Check::Injection(Sensitivity::High)));
    assert!(matches!(c.check, Check::Pattern(_)));
}

#[test]
fn values_of_guards_are_refused() {
    let many =
        format!("guards: [{}]", (0..17).map(|n| format!("{{name: g{n}, type: promptInjection}}")).collect::<Vec<_>>().join(", "));
    let patterns = |count| format!("guards: [{{name: a, type: pattern, deny: [{}]}}]", vec!["x"; count].join(", "));
    policy(&vllm(&patterns(64)));
    let label = "must be 1 to 63 lower case letters, digits and inner hyphens";
    let roles = "must be one of system, developer, user, assistant, tool, function";
    for (spec, expected) in [
        ("guards: [{name: a}]", "spec.guards[0].type: is missing".to_owned()),
        ("guards: [{name: A, type: promptInjection}]", format!("spec.guards[0].name: {label}, got \"A\"")),
        ("guards: [{name: a, type: x}]", "spec.guards[0].type: must be one of promptInjection, pattern, got \"x\"".to_owned()),
        ("guards: [{name: a, type: pattern}]", "spec.guards[0].deny: is missing".to_owned()),
        ("guards: [{name: a, type: pattern, deny: []}]", "spec.guards[0].deny: must have 1 to 64 patterns".to_owned()),
        (&patterns(65), "spec.guards[0].deny[64]: is one too many: a list has at most 64 patterns".to_owned()),
        (
            "guards: [{name: a, type: pattern, deny: ['x', 'a*']}]",
            "spec.guards[0].deny[1]: matches the empty text, and so any text".to_owned(),
        ),
        (
            "guards: [{name: a, type: pattern, deny: [x], sensitivity: low}]",
            "spec.guards[0].sensitivity: is for guards of type `promptInjection`".to_owned(),
        ),
        (
            "guards: [{name: a, type: promptInjection, deny: [x]}]",
            "spec.guards[0].deny: is for guards of type `pattern`".to_owned(),
        ),
        (
            "guards: [{name: a, type: promptInjection, action: drop}]",
            "spec.guards[0].action: must be one of reject, audit, got \"drop\"".to_owned(),
        ),
        (
            "guards: [{name: a, type: promptInjection, unreadable: yes}]",
            "spec.guards[0].unreadable: must be one of reject, allow, got \"yes\"".to_owned(),
        ),
        (
            "guards: [{name: a, type: promptInjection, sensitivity: 5}]",
            "spec.guards[0].sensitivity: must be one of low, medium, high, got 5".to_owned(),
        ),
        (
            "guards: [{name: a, type: promptInjection, roles: []}]",
            "spec.guards[0].roles: must name a role; leave it out for all".to_owned(),
        ),
        (
            "guards: [{name: a, type: promptInjection, roles: [User]}]",
            format!(
                "spec.guards[0].roles[0]: {roles}, got \"User\"; texts with any other role are always checked; did you mean `user`?"
            ),
        ),
        (
            "guards: [{name: a, type: promptInjection}, {name: a, type: promptInjection}]",
            "spec.guards[1].name: is used twice; guards of one provider have different names".to_owned(),
        ),
        (&many, "spec.guards: must have at most 16 guards".to_owned()),
    ] {
        assert_eq!(refusal(&vllm(spec)), format!("ModelProvider p: {expected}"), "{spec}");
    }
    let syntax = refusal(&vllm("guards: [{name: a, type: pattern, deny: [x, y, '(secret']}]"));
    assert!(syntax.starts_with("ModelProvider p: spec.guards[0].deny[2]: is not a valid pattern"), "{syntax}");
    assert!(!syntax.contains("secret"), "{syntax}");
}

#[test]
fn values_of_a_gateway_are_refused() {
    let own = "cannot name a caller; use a header of its own, such as x-agent-id";
    let cases = [
        ("audience: all", "spec.audience: must be one of agents, external, auto, got \"all\"".to_owned()),
        ("routing: 1", "spec.routing: must be one of body, fixed, got 1".to_owned()),
        ("maxRequestBytes: 0", "spec.maxRequestBytes: must be at least 1, got 0".to_owned()),
        ("maxRequestBytes: 2e9", "spec.maxRequestBytes: must be at most 1073741824, got 2000000000".to_owned()),
        ("maxAttempts: 11", "spec.maxAttempts: must be at most 10, got 11".to_owned()),
        ("identityHeader: 'a b'", "spec.identityHeader: must be a header name, got \"a b\"".to_owned()),
        ("identityHeader: ':path'", "spec.identityHeader: must be a header name, got \":path\"".to_owned()),
        ("identityHeader: Authorization", format!("spec.identityHeader: \"authorization\" {own}")),
        ("identityHeader: X-Pai-Me", format!("spec.identityHeader: \"x-pai-me\" {own}")),
        ("identityHeader: x-forwarded-client-cert", format!("spec.identityHeader: \"x-forwarded-client-cert\" {own}")),
        ("identityHeader: cookie", format!("spec.identityHeader: \"cookie\" {own}")),
        (
            "operators: {identities: ['*/sa/ops']}",
            "spec.operators.identities[0]: may have `*` at its end only, got \"*/sa/ops\"".to_owned(),
        ),
        ("operators: {keys: [alice]}", "spec.operators.keys[0]: no AccessKey is named \"alice\"".to_owned()),
        ("operators: [alice]", "spec.operators: must be a map, got a list".to_owned()),
        ("callouts: {other: c}", "spec.callouts.other: no ModelProvider has this name".to_owned()),
        ("callouts: {p: ''}", "spec.callouts.p: must be 1 to 256 visible ASCII characters, got \"\"".to_owned()),
        ("callouts: {p: }", "spec.callouts.p: must be a string, got nothing".to_owned()),
    ];
    for (spec, expected) in cases {
        assert_eq!(refusal(&gateway(spec)), format!("Gateway g: {expected}"), "{spec}");
    }
    let two = format!("{}\n---\n{}", gateway("routing: fixed"), vllm("").replace("name: p", "name: q"));
    let expected = "Gateway g: spec.routing: `fixed` needs exactly one ModelProvider, and there are 2";
    assert_eq!(refusal(&two), expected);
}

#[test]
fn manifests_are_refused() {
    let p = vllm("");
    let manifest = |head: &str| format!("{{{head}, spec: {{}}}}\n---\n{p}");
    let label = "must be 1 to 63 lower case letters, digits and inner hyphens";
    let v1 = "apiVersion: pai.io/v1";
    let secret = "document 1: kind: unknown kind \"Secret\"; known are ModelProvider, Agent, AccessKey and Gateway; a secret is an \
                  environment variable `PAI_SECRET_<NAME>_<KEY>`, see docs/configuration.md#secrets";
    let cases = [
        (format!("{p}---\n{p}"), "ModelProvider p: metadata.name: is used twice; names are unique per kind".to_owned()),
        (
            format!("{}---\n{{{v1}, kind: Gateway, metadata: {{name: h}}, spec: {{}}}}", gateway("")),
            "Gateway h: kind: only one Gateway is allowed, and `g` is already there".to_owned(),
        ),
        (manifest(&format!("{v1}, kind: Secret, metadata: {{name: a}}")), secret.to_owned()),
        (manifest("apiVersion: v1, kind: Secret, metadata: {name: a}"), secret.to_owned()),
        (manifest("kind: Gateway, metadata: {name: a}"), "Gateway a: apiVersion: is missing".to_owned()),
        (manifest(&format!("{v1}, kind: Gateway")), "document 1: metadata: is missing".to_owned()),
        (manifest(&format!("{v1}, kind: Gateway, metadata: {{}}")), "document 1: metadata.name: is missing".to_owned()),
        (
            manifest(&format!("{v1}, kind: Gateway, metadata: {{name: A_b}}")),
            format!("document 1: metadata.name: {label}, got \"A_b\""),
        ),
        (
            manifest(&format!("{v1}, kind: Gateway, metadata: {{name: -a}}")),
            format!("document 1: metadata.name: {label}, got \"-a\""),
        ),
        (
            manifest(&format!("{v1}, kind: Gateway, metadata: {{name: 5}}")),
            "document 1: metadata.name: must be a string, got 5; put it in quotes".to_owned(),
        ),
        (
            manifest(&format!("{v1}, kind: Gateway, metadata: {{name: a, labels: {{a.b/c: 1}}}}")),
            "Gateway a: metadata.labels[\"a.b/c\"]: must be a string, got 1; put it in quotes".to_owned(),
        ),
        (
            manifest(&format!("{v1}, kind: Gateway, metadata: {{name: a, uid: x}}")),
            "Gateway a: metadata.uid: unknown field; known here: name, namespace, labels, annotations".to_owned(),
        ),
        (
            manifest(&format!("{v1}, kind: Gateway, metadata: {{name: a}}, status: {{}}")),
            "Gateway a: status: unknown field; known here: apiVersion, kind, metadata, spec".to_owned(),
        ),
        (format!("{{{v1}, kind: Gateway, metadata: {{name: a}}}}\n---\n{p}"), "Gateway a: spec: is missing".to_owned()),
        (
            format!("{{items: [{p}, {{kind: Gateway}}]}}"),
            "items[1]: apiVersion: is missing\nitems[1]: metadata: is missing\nitems[1]: spec: is missing".to_owned(),
        ),
        ("{items: [~]}".to_owned(), "items[0]: must be a map, got nothing".to_owned()),
        ("{items: {}}".to_owned(), "document 1: items: must be a list, got a map".to_owned()),
        (
            "{items: [], kinds: []}".to_owned(),
            "document 1: kinds: unknown field; known here: items\n\
             configuration: contains no ModelProvider; write at least one"
                .to_owned(),
        ),
        ("items: []".to_owned(), "configuration: contains no ModelProvider; write at least one".to_owned()),
        (
            "{apiVersion: pai.io/v1, kind: AccessKey, metadata: {name: k}, spec: {sha256: ".to_owned() + &"0".repeat(64) + "}}",
            "configuration: contains no ModelProvider; write at least one".to_owned(),
        ),
        (
            lone_gateway("routing: fixed"),
            "Gateway g: spec.routing: `fixed` needs exactly one ModelProvider, and there are 0".to_owned(),
        ),
        (format!("{p}---\nitems: []"), "document 2: an object with `items` must be the only document".to_owned()),
        (format!("{p}---\n- {p}"), "document 2: must be a map, got a list".to_owned()),
        (
            "\"\\u001b[31m\\n\u{202e}\": 1".to_owned(),
            "document 1: [\"\\u{1b}[31m\\n\\u{202e}\"]: unknown field; known here: apiVersion, kind, metadata, spec\n\
             document 1: kind: is missing"
                .to_owned(),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(&text), expected, "{text}");
    }
}

#[test]
fn text_that_is_no_configuration_is_refused() {
    let empty =
        "configuration: is empty; write manifests (`apiVersion: pai.io/v1`, `kind: ModelProvider`, …) or `{\"items\": […]}`";
    let nested = "configuration: brackets are nested too deeply";
    let block = "- ".repeat(200);
    let cases = [
        ("", empty),
        (" \n# nothing\n---\n---\n", empty),
        ("%YAML 1.2\n---\n{}", "configuration: YAML directives (lines that begin with `%`) are not accepted"),
        ("a: 1\na: 2", "document 1: field \"a\" is given twice at line 1 column 1"),
        ("a: {b: [{c: 1, c: 2}]}", "document 1: a.b[0]: field \"c\" is given twice at line 1 column 9"),
        ("a: !secret b", "document 1: a: tags (`!name`) are not accepted at line 1 column 4"),
        ("a: *b", "document 1: unknown anchor at line 1 column 4"),
        ("{a: 1", "document 1: did not find expected ',' or '}' at line 2 column 1, while parsing a flow mapping"),
        (&"[".repeat(100_000), nested),
        (&"{a: ".repeat(100_000), nested),
        (&block, "document 1: recursion limit exceeded at line 1 column 257"),
        ("? [a]\n: 1", "document 1: invalid type: sequence, expected a field name at line 1 column 3"),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(text), expected);
    }
    let utf16: Vec<u8> = OPEN.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let large = vec![b'#'; 8 * 1024 * 1024 + 1];
    assert_eq!(load(b"\xff", &env).unwrap_err().to_string(), "configuration: must be UTF-8");
    assert!(load(&utf16, &env).is_err());
    assert_eq!(load(&large, &env).unwrap_err().to_string(), "configuration: is longer than 8 MiB");
}

#[test]
fn aliases_are_followed_but_do_not_multiply() {
    let shared = format!("items: [&p {}]", vllm("allowedModels: &m [a], deniedModels: *m"));
    assert_eq!(policy(&shared).providers[0].models.denied, [NamePattern::Exact("a".into())]);

    let laughs: String = (1..20).map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(","))).collect();
    let long = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), vec!["*a"; 10_000].join(","));
    for bomb in [format!("a0: &a0 x\n{laughs}"), long, "a: &a [*a, *a]".to_owned()] {
        let refused = refusal(&bomb);
        let bounded = ["aliases repeat too much; write the values out", "recursion limit exceeded"];
        assert!(bounded.iter().any(|reason| refused.contains(reason)), "{refused}");
    }
}

#[test]
fn two_references_never_share_a_variable() {
    let reference = |name: &str, secret: &str, key: &str| {
        vllm(&format!("apiKeySecretRef: {{name: {secret}, key: {key}}}")).replace("name: p", &format!("name: {name}"))
    };
    let same = format!("{}---\n{}", reference("p", "vllm-token", "api-key"), reference("q", "vllm-token", "api-key"));
    assert_eq!(policy(&same).providers.len(), 2);
    for (secret, key) in [("vllm.token", "api-key"), ("vllm", "token-api-key"), ("VLLM-TOKEN", "api-key")] {
        let text = format!("{}---\n{}", reference("p", "vllm-token", "api-key"), reference("q", secret, key));
        let expected = "ModelProvider q: spec.apiKeySecretRef: another apiKeySecretRef has the same environment variable \
                        PAI_SECRET_VLLM_TOKEN_API_KEY; rename one of the two";
        assert_eq!(refusal(&text), expected);
    }
}

#[test]
fn neither_errors_nor_debug_output_show_secrets() {
    assert!(!format!("{:?}", policy(TOKEN_GATED)).contains("s3cret"));
    for spec in ["endpoint: 'http://me:s3cret@h'", "endpoint: 'http://h?k=s3cret'", "apiKeySecretRef: s3cret", "key: s3cret"] {
        assert!(!refusal(&provider(&format!("provider: vllm, {spec}"))).contains("s3cret"), "{spec}");
    }
}

/// The fields that the tables of one chapter of the reference have in their first column.
fn documented(chapter: &str) -> BTreeSet<String> {
    let start = REFERENCE.find(&format!("\n## {chapter}\n")).unwrap_or_else(|| panic!("no chapter {chapter}")) + 1;
    let text = &REFERENCE[start..];
    let text = text.find("\n## ").map_or(text, |end| &text[..end]);
    let first_column = |line: &str| Some(line.strip_prefix("| `")?.split_once("` |")?.0.to_owned());
    text.lines().filter_map(first_column).collect()
}

#[test]
fn the_reference_has_every_field_and_no_other() {
    use super::{access_key, agent, cors, gateway, guard, manifest, provider, secret};
    let within = |path: &str, fields: &[&str]| fields.iter().map(|field| format!("{path}{field}")).collect::<Vec<_>>();
    for (chapter, fields) in [
        ("Every manifest", [within("", manifest::FIELDS), within("metadata.", manifest::METADATA_FIELDS)].concat()),
        (
            "ModelProvider",
            [
                within("", provider::FIELDS),
                within("apiKeySecretRef.", secret::FIELDS),
                within("externalAccess.", provider::EXTERNAL_FIELDS),
                within("guards[].", guard::FIELDS),
            ]
            .concat(),
        ),
        ("Agent", within("", agent::FIELDS)),
        ("AccessKey", [within("", access_key::FIELDS), within("previous.", access_key::PREVIOUS_FIELDS)].concat()),
        (
            "Gateway",
            [within("", gateway::FIELDS), within("operators.", gateway::OPERATOR_FIELDS), within("cors.", cors::FIELDS)].concat(),
        ),
    ] {
        assert_eq!(documented(chapter), BTreeSet::from_iter(fields), "docs/configuration.md, {chapter}");
    }
}

mod errors;
#[cfg(not(target_arch = "wasm32"))]
mod properties;

#[test]
fn a_gateway_without_a_provider_is_accepted() {
    let policy = policy(&lone_gateway("audience: external"));
    assert_eq!((policy.providers.len(), policy.gateway.audience), (0, Audience::External));
}

/// With `credentials: proxy` no variable is read, and none can be missing or shared, wherever the Gateway is in the configuration.
#[test]
fn the_proxy_has_the_secrets_where_the_gateway_says_so() {
    let provider = |name: &str, secret: &str| {
        vllm(&format!("apiKeySecretRef: {{name: {secret}, key: key}}")).replace("name: p}", &format!("name: {name}}}"))
    };
    let providers = format!("{}\n---\n{}\n---\n{}", provider("a", "a-b"), provider("b", "a.b"), vllm(""));
    let proxy = lone_gateway("credentials: proxy");
    for text in [format!("{proxy}\n---\n{providers}"), format!("{providers}\n---\n{proxy}")] {
        let policy = load(text.as_bytes(), &|name| panic!("{name} is read")).unwrap();
        let credentials: Vec<_> = policy.providers.into_iter().map(|provider| provider.credential).collect();
        assert_eq!(credentials, [ProviderCredential::Proxy, ProviderCredential::Proxy, ProviderCredential::None]);
        assert_eq!(policy.gateway.credentials, Credentials::Proxy);
    }
    let environment = format!("{}\n---\n{providers}", lone_gateway("credentials: environment"));
    let refused = refusal(&environment);
    assert!(refused.contains("PAI_SECRET_A_B_KEY is not set") && refused.contains("rename one of the two"), "{refused}");
    // An error of the Gateway has no others as its consequence.
    let wrong = format!("{}\n---\n{providers}", lone_gateway("credentials: proxy, audience: all"));
    assert_eq!(refusal(&wrong).lines().count(), 1, "{}", refusal(&wrong));
}

#[test]
fn origins_are_read_as_browsers_write_them() {
    let read =
        |cors: &str| load(lone_gateway(&format!("cors: {{{cors}}}")).as_bytes(), &env).map(|policy| policy.gateway.cors.unwrap());
    let cors = read(
        "allowOrigins: ['https://chat.example.com', 'http://localhost:3000', 'http://[::1]:8080', 'tauri://localhost', 'https://*.example.com', 'https://*.example.com:8443', '*']",
    );
    let exact = |origin: &str| AllowedOrigin::Exact(origin.into());
    let below = |suffix: &str| AllowedOrigin::Subdomains { scheme: "https://".into(), suffix: suffix.into() };
    let expected = [
        exact("https://chat.example.com"),
        exact("http://localhost:3000"),
        exact("http://[::1]:8080"),
        exact("tauri://localhost"),
        below(".example.com"),
        below(".example.com:8443"),
        AllowedOrigin::Any,
    ];
    assert_eq!(cors.unwrap(), Cors { origins: expected.into(), headers: None, max_age: 600 });
    let cors = read("allowOrigins: ['*'], allowHeaders: [Authorization, X-Stainless-Lang], maxAge: 60").unwrap();
    assert_eq!((cors.headers.as_deref(), cors.max_age), (Some("authorization, x-stainless-lang"), 60));
    for (written, seconds) in [("30s", 30), ("10m", 600), ("24h", 86_400), ("60.0", 60)] {
        assert_eq!(read(&format!("allowOrigins: ['*'], maxAge: {written}")).unwrap().max_age, seconds);
    }
    for (wrong, expected) in [
        ("", "spec.cors.allowOrigins: is missing"),
        ("allowOrigins: []", "spec.cors.allowOrigins: must not be empty"),
        ("allowOrigins: ['null']", "spec.cors.allowOrigins[0]: must be an origin such as"),
        ("allowOrigins: [chat.example.com]", "must be an origin"),
        ("allowOrigins: ['https://chat.example.com/']", "an origin has no path"),
        ("allowOrigins: ['https://Chat.example.com']", "write it in lower case"),
        ("allowOrigins: ['https://chat.example.com:443']", "leave out the default port"),
        ("allowOrigins: ['http://localhost:80']", "leave out the default port"),
        ("allowOrigins: ['https://a:0']", "must be an origin"),
        ("allowOrigins: ['https://a:65536']", "must be an origin"),
        ("allowOrigins: ['https://a:']", "must be an origin"),
        ("allowOrigins: ['https://*']", "must be an origin"),
        ("allowOrigins: ['https://*.']", "must be an origin"),
        ("allowOrigins: ['https://a.*.com']", "must be an origin"),
        ("allowOrigins: ['https://*a.com']", "must be an origin"),
        ("allowOrigins: ['https://*.[::1]']", "must be an origin"),
        ("allowOrigins: ['https://user@a.com']", "must be an origin"),
        ("allowOrigins: ['https://a b']", "must be an origin"),
        ("allowOrigins: ['://a']", "must be an origin"),
        ("allowOrigins: ['*'], allowHeaders: ['a: b']", "spec.cors.allowHeaders[0]: must be a header name"),
        ("allowOrigins: ['*'], maxAge: 0", "spec.cors.maxAge: must be at least 1"),
        ("allowOrigins: ['*'], maxAge: 25h", "spec.cors.maxAge: must be a duration"),
        ("allowOrigins: ['*'], maxAge: -1s", "spec.cors.maxAge: must be a duration"),
        ("allowOrigins: ['*'], maxAge: \u{e4}", "spec.cors.maxAge: must be a duration"),
        ("allowOrigins: ['*'], allowCredentials: true", "spec.cors.allowCredentials: unknown field"),
    ] {
        let refused = read(wrong).unwrap_err().to_string();
        assert!(refused.contains(expected), "{wrong}: {refused}");
    }
}
