//! Rendered configurations.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::manifest::Manifest;

fn options() -> DynamicOptions {
    DynamicOptions {
        directory: PathBuf::from("/var/lib/pai"),
        module: PathBuf::from("/var/lib/pai/pai_filter.wasm"),
        envoy: EnvoyVersion::NEWEST,
        authorities: PathBuf::from(SYSTEM_AUTHORITIES),
    }
}

/// Reads manifests and validates them.
fn manifests(text: &str) -> Vec<Manifest> {
    pai_filter::config::load(text.as_bytes(), &|_| Some("key".to_owned())).unwrap();
    let values = pai_filter::config::parse(text.as_bytes()).unwrap();
    values.into_iter().map(|value| Manifest::from_value(value, 0).unwrap()).collect()
}

/// Returns a `ModelProvider` with these lines of `spec`.
fn provider(name: &str, dialect: &str, endpoint: &str, more: &str) -> String {
    format!(
        "---\napiVersion: pai.io/v1\nkind: ModelProvider\nmetadata: {{ name: {name} }}\nspec:\n  provider: {dialect}\n  endpoint: {endpoint}\n  {more}\n"
    )
}

fn agent(models: &str) -> String {
    format!(
        "---\napiVersion: pai.io/v1\nkind: Agent\nmetadata: {{ name: a }}\nspec:\n  identities: ['spiffe://a/b']\n  models: {models}\n"
    )
}

fn gateway(spec: &str) -> String {
    format!("---\napiVersion: pai.io/v1\nkind: Gateway\nmetadata: {{ name: default }}\nspec: {spec}\n")
}

const SECRET: &str = "apiKeySecretRef: { name: token, key: api-key }";

fn cluster<'a>(clusters: &'a [Value], name: &str) -> &'a Value {
    clusters.iter().find(|cluster| cluster["name"] == name).unwrap_or_else(|| panic!("no cluster {name}"))
}

/// Returns the names of the upstream filters, and the header that the injector sets.
fn filters(cluster: &Value) -> (Vec<&str>, Option<&str>) {
    let options = &cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    let filters = options["http_filters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let header = filters.iter().find_map(|filter| filter.pointer("/typed_config/credential/typed_config/header")?.as_str());
    (filters.iter().map(|filter| filter["name"].as_str().unwrap()).collect(), header)
}

fn policy(gate: &Value) -> Value {
    serde_json::from_str(gate["typed_config"]["config"]["configuration"]["value"].as_str().unwrap()).unwrap()
}

#[test]
fn a_secret_is_added_in_the_form_that_the_chain_needs() {
    const CODEC: &str = "envoy.filters.http.upstream_codec";
    let text = provider("alone", "vllm", "http://a.test/v1", SECRET)
        + &provider("first", "vllm", "http://b.test/v1", SECRET)
        + &provider("second", "openai", "https://c.test/v1", "")
        + &provider("claude", "anthropic", "https://d.test/v1", SECRET)
        + &provider("open", "anthropic", "https://e.test/v1", "")
        + &agent("[first/m, second/m]");
    let rendered = dynamic(&manifests(&text), &options()).unwrap();
    let cases: [(&str, &[&str], Option<&str>); 7] = [
        ("alone", &["pai.credential", CODEC], Some("authorization")),
        ("alone-callouts", &["pai.credential", CODEC], Some("authorization")),
        ("first", &["pai.credential", "pai.attempt", CODEC], Some("x-pai-credential")),
        ("first-callouts", &["pai.credential", CODEC], Some("authorization")),
        ("second", &["pai.attempt", CODEC], None),
        ("claude", &["pai.credential", "pai.attempt", CODEC], Some("x-pai-credential")),
        ("open", &[], None),
    ];
    for (name, expected, header) in cases {
        assert_eq!(filters(cluster(&rendered.clusters, name)), (expected.to_vec(), header), "{name}");
    }
    let injector = |name| cluster(&rendered.clusters, name).to_string();
    assert!(injector("alone").contains("/var/lib/pai/sds/token.api-key.bearer.json"));
    assert!(injector("first").contains("/var/lib/pai/sds/token.api-key.json"));
    let names: Vec<String> = secret_files(&manifests(&text)).unwrap().iter().map(SecretFile::resource).collect();
    assert_eq!(names, ["token.api-key", "token.api-key.bearer"]);
    insta::assert_snapshot!(serde_json::to_string_pretty(cluster(&rendered.clusters, "first")).unwrap());
}

#[test]
fn only_providers_that_fall_back_share_a_route() {
    let text = provider("alone", "vllm", "http://a.test/v1", "")
        + &provider("first", "vllm", "http://b.test/v1", "")
        + &provider("second", "openai", "https://c.test/v1", "")
        + &agent("[first/m, second/m]");
    let routes = dynamic(&manifests(&text), &options()).unwrap().routes;
    let routes = routes["virtual_hosts"][0]["routes"].as_array().unwrap();
    let names: Vec<&str> = routes.iter().map(|route| route["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["alone", "fallback"]);
    let map = routes[1]
        .pointer("/route/inline_cluster_specifier_plugin/extension/typed_config/cluster_matcher/matcher_tree/exact_match_map/map");
    assert_eq!(map.unwrap().as_object().unwrap().keys().collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(routes[1]["route"]["retry_policy"]["refresh_cluster_on_retry"], true);
}

#[test]
fn a_model_that_is_listed_twice_is_no_fallback() {
    let text = provider("one", "vllm", "http://a.test/v1", "") + &agent("[one/m, one/m]");
    let rendered = dynamic(&manifests(&text), &options()).unwrap();
    assert_eq!(filters(cluster(&rendered.clusters, "one")), (vec![], None));
}

#[test]
fn the_policy_always_has_a_gateway() {
    let expected = json!({ "callouts": { "one": "one-callouts" }, "credentials": "proxy" });
    let one = provider("one", "vllm", "http://a.test/v1", "");
    for text in [one.clone(), one.clone() + &gateway("{}"), gateway("{ callouts: { one: one-callouts } }") + &one] {
        let rendered = dynamic(&manifests(&text), &options()).unwrap();
        let policy = policy(&rendered.gate);
        let items = policy["items"].as_array().unwrap();
        let gateways: Vec<&Value> = items.iter().filter(|item| item["kind"] == "Gateway").collect();
        assert_eq!(gateways.len(), 1, "{policy}");
        assert_eq!(gateways[0]["spec"], expected);
        assert_eq!(rendered.version.len(), 64);
    }
    let empty = dynamic(&[], &options()).unwrap();
    assert_eq!(policy(&empty.gate)["items"][0]["spec"], json!({ "credentials": "proxy" }));
    assert_eq!((empty.clusters.len(), &empty.routes["virtual_hosts"][0]["routes"]), (0, &json!([])));
}

#[test]
fn what_cannot_be_rendered_is_refused() {
    let one = provider("one", "vllm", "http://a.test/v1", "");
    let cases = [
        (
            one.clone() + &gateway("{ callouts: { one: mine } }"),
            "Gateway default: spec.callouts.one: must be `one-callouts`, got `mine`; this cluster is rendered, so remove the entry",
        ),
        (
            one.clone() + &gateway("{ credentials: environment }"),
            "Gateway default: spec.credentials: must be `proxy` here, got `environment`; remove the field",
        ),
        (
            one.clone() + &provider("one-callouts", "openai", "http://b.test/v1", ""),
            "ModelProvider one-callouts: metadata.name: `one-callouts` is the name of the cluster for callouts to another provider; rename \
             this one",
        ),
    ];
    for (text, message) in cases {
        let values = pai_filter::config::parse(text.as_bytes()).unwrap();
        let manifests: Vec<Manifest> = values.into_iter().map(|value| Manifest::from_value(value, 0).unwrap()).collect();
        assert_eq!(dynamic(&manifests, &options()).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_union_serves_both_configurations() {
    let old = provider("kept", "vllm", "http://old.test/v1", SECRET)
        + &provider("removed", "vllm", "http://b.test/v1", "")
        + &agent("[kept/m, removed/m]");
    let new = provider("kept", "vllm", "http://new.test/v1", SECRET)
        + &provider("added", "openai", "http://c.test/v1", "")
        + &gateway("{ maxRequestBytes: 33554432 }");
    let both = union(&manifests(&old), &manifests(&new), &options()).unwrap();
    let names: Vec<&str> = both.clusters.iter().map(|cluster| cluster["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["kept", "kept-callouts", "added", "removed", "removed-callouts"]);
    let kept = cluster(&both.clusters, "kept");
    assert!(kept.to_string().contains("new.test"), "the new address");
    assert_eq!(
        filters(kept).1,
        Some("x-pai-credential"),
        "the old policy falls back, and the attempt filter serves the new one too"
    );
    let host = &both.routes["virtual_hosts"][0];
    assert_eq!(host["request_body_buffer_limit"], 33_554_432 + 65_536);
    let routes: Vec<&Value> = host["routes"].as_array().unwrap().iter().map(|route| &route["name"]).collect();
    assert_eq!(routes, ["added", "fallback"]);
    let same = union(&manifests(&new), &manifests(&new), &options()).unwrap();
    let alone = dynamic(&manifests(&new), &options()).unwrap();
    assert_eq!((same.clusters, same.routes), (alone.clusters, alone.routes));
}

#[test]
fn buffers_hold_the_largest_body() {
    let bootstrap = |max_request_bytes| {
        bootstrap(&BootstrapOptions {
            directory: PathBuf::from("/var/lib/pai"),
            listen: "[::]:8080".parse().unwrap(),
            admin: "127.0.0.1:9901".parse().unwrap(),
            control: PathBuf::from("/run/pai.sock"),
            tls: true,
            max_request_bytes,
            node: "pai".to_owned(),
        })
        .unwrap()
    };
    for (bytes, buffer, connection) in [(1, 65_537, 131_074), (1 << 30, 1_073_807_360, 2_147_483_647)] {
        let listener = &bootstrap(bytes)["static_resources"]["listeners"][0];
        let manager = &listener["filter_chains"][0]["filters"][0]["typed_config"];
        assert_eq!(listener["per_connection_buffer_limit_bytes"], buffer);
        assert_eq!(manager["http2_protocol_options"]["initial_stream_window_size"], buffer);
        assert_eq!(manager["http2_protocol_options"]["initial_connection_window_size"], connection);
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&bootstrap(16 << 20)["static_resources"]["listeners"][1]).unwrap());
}

#[test]
fn secrets_are_written_in_both_forms() {
    let [raw, bearer] = SecretFile::both("a.b", "c/d").map(|file| (file.resource(), file.content(" s3cr3t\n", 7)));
    assert_eq!(raw.0, "a%2eb.c%2fd");
    assert_eq!(raw.1["resources"][0]["generic_secret"]["secret"]["inline_string"], "s3cr3t");
    assert_eq!(bearer.1["resources"][0]["generic_secret"]["secret"]["inline_string"], "Bearer s3cr3t");
    assert_eq!((&bearer.1["version_info"], &bearer.1["resources"][0]["name"]), (&json!("7"), &json!("a%2eb.c%2fd.bearer")));
    let long = SecretFile::new(&"n".repeat(253), &"k".repeat(253), SecretForm::Bearer);
    assert!(long.path(&PathBuf::new()).file_name().unwrap().len() < 100);
}
