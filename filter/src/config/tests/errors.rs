//! What is reported of configurations with more than one error, and of those that are no configuration of ours.

use super::*;

const KNOWN_KINDS: &str = "known are ModelProvider, Agent, AccessKey and Gateway";
const BAD_CAP: &str = "ModelProvider p: spec.maxTokensPerDay: must be at least 1, got 0";
const NO_MODEL: &str = "must be `<provider>/<model-id>` of a ModelProvider of this configuration, got";

fn manifest(kind: &str, name: &str, spec: &str) -> String {
    format!("{{apiVersion: pai.io/v1, kind: {kind}, metadata: {{name: {name}}}, spec: {{{spec}}}}}")
}

/// An agent with an identity of its own.
fn agent(name: &str, spec: &str) -> String {
    manifest("Agent", name, &format!("identities: [{name}], {spec}"))
}

fn key(name: &str, spec: &str) -> String {
    let digest = name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().repeat(64);
    manifest("AccessKey", name, &format!("sha256: {}, {spec}", &digest[..64]))
}

fn stream(manifests: &[&str]) -> String {
    manifests.join("\n---\n")
}

fn assert_refused(text: &str, expected: &[&str]) {
    let invalid = load(text.as_bytes(), &env).expect_err(text);
    assert_eq!(invalid.lines().collect::<Vec<_>>(), expected, "{text}");
}

#[test]
fn every_bad_field_of_a_manifest_is_reported() {
    let (provider, gateway) = (vllm(""), manifest("Gateway", "g", ""));
    assert_refused(
        &vllm(
            "maxTokensPerDay: 0, allowedModels: ['a b', ok, '*x'], apiKeySecretRef: {name: '', kye: k}, externalAccess: {enabled: 1, \
             maxTokensPerDay: x}, guards: [{name: A, type: pattern, deny: ['(', x, 'x*'], sensitivity: low, action: drop}, {type: x}]",
        )
        .replace("'http://vllm'", "ftp"),
        &[
            "ModelProvider p: spec.endpoint: must begin with http:// or https://",
            "ModelProvider p: spec.apiKeySecretRef.kye: unknown field; did you mean `key`? Known here: name, key",
            "ModelProvider p: spec.apiKeySecretRef.name: must be 1 to 253 visible ASCII characters, got \"\"",
            "ModelProvider p: spec.allowedModels[0]: must be 1 to 256 visible ASCII characters, got \"a b\"",
            "ModelProvider p: spec.allowedModels[2]: may have `*` at its end only, got \"*x\"",
            BAD_CAP,
            "ModelProvider p: spec.externalAccess.enabled: must be true or false, got 1",
            "ModelProvider p: spec.externalAccess.maxTokensPerDay: must be a whole number, got \"x\"",
            "ModelProvider p: spec.guards[0].name: must be 1 to 63 lower case letters, digits and inner hyphens, got \"A\"",
            "ModelProvider p: spec.guards[0].sensitivity: is for guards of type `promptInjection`",
            "ModelProvider p: spec.guards[0].deny[0]: is not a valid pattern, or is too large: found open group without closing ')'",
            "ModelProvider p: spec.guards[0].deny[2]: matches the empty text, and so any text",
            "ModelProvider p: spec.guards[0].action: must be one of reject, audit, got \"drop\"",
            "ModelProvider p: spec.guards[1].name: is missing",
            "ModelProvider p: spec.guards[1].type: must be one of promptInjection, pattern, got \"x\"",
        ],
    );
    assert_refused(
        &stream(&[&provider, &manifest("Agent", "a", "identities: [], models: {}, maxTokensPerDay: -1, model: [m]")]),
        &[
            "Agent a: spec.model: unknown field; did you mean `models`? Known here: identities, models, maxTokensPerDay",
            "Agent a: spec.identities: must not be empty",
            "Agent a: spec.models: must be a list, got a map",
            "Agent a: spec.maxTokensPerDay: must be at least 1, got -1",
        ],
    );
    let numbers = "maxTokensPerDay: 0, requestsPerMinute: 0, tokensPerMinute: 0, expires: soon, disabled: 0, models: ['*/a', 1]";
    assert_refused(
        &stream(&[&provider, &manifest("AccessKey", "k", numbers)]),
        &[
            "AccessKey k: spec.sha256: is missing",
            "AccessKey k: spec.models[0]: may have `*` at its end only, got \"*/a\"",
            "AccessKey k: spec.models[1]: must be a string, got 1; put it in quotes",
            "AccessKey k: spec.maxTokensPerDay: must be at least 1, got 0",
            "AccessKey k: spec.requestsPerMinute: must be at least 1, got 0",
            "AccessKey k: spec.tokensPerMinute: must be at least 1, got 0",
            "AccessKey k: spec.expires: must be a timestamp such as 2027-01-01T00:00:00Z, got \"soon\"",
            "AccessKey k: spec.disabled: must be true or false, got 0",
        ],
    );
    let bad = "audience: all, routing: path, maxRequestBytes: 0, maxAttempts: 0, identityHeader: ':path', \
               operators: {identities: [''], keys: [x]}, callouts: {p: '', q: c}";
    assert_refused(
        &stream(&[&provider, &gateway.replace("spec: {", &format!("spec: {{{bad}"))]),
        &[
            "Gateway g: spec.audience: must be one of agents, external, auto, got \"all\"",
            "Gateway g: spec.routing: must be one of body, fixed, got \"path\"",
            "Gateway g: spec.maxRequestBytes: must be at least 1, got 0",
            "Gateway g: spec.maxAttempts: must be at least 1, got 0",
            "Gateway g: spec.identityHeader: must be a header name, got \":path\"",
            "Gateway g: spec.operators.identities[0]: must be 1 to 2048 visible ASCII characters, got \"\"",
            "Gateway g: spec.operators.keys[0]: no AccessKey is named \"x\"",
            "Gateway g: spec.callouts.p: must be 1 to 256 visible ASCII characters, got \"\"",
            "Gateway g: spec.callouts.q: no ModelProvider has this name",
        ],
    );
    let head =
        "{apiVersion: pai.io/v1, kind: Gateway, metadata: {name: G, namespace: N, labels: {a: 1, b: 2}, x: y}, spec: 5, y: z}";
    let label = "must be 1 to 63 lower case letters, digits and inner hyphens";
    assert_refused(
        &stream(&[&provider, head]),
        &[
            "document 2: y: unknown field; known here: apiVersion, kind, metadata, spec",
            "document 2: metadata.x: unknown field; known here: name, namespace, labels, annotations",
            &format!("document 2: metadata.name: {label}, got \"G\""),
            &format!("document 2: metadata.namespace: {label}, got \"N\""),
            "document 2: metadata.labels.a: must be a string, got 1; put it in quotes",
            "document 2: metadata.labels.b: must be a string, got 2; put it in quotes",
            "document 2: spec: must be a map, got a number",
        ],
    );
}

#[test]
fn every_bad_manifest_is_reported() {
    let broken = vllm("maxTokensPerDay: 0");
    let bad_agent = agent("a", "models: [p/m], maxTokensPerDay: 0");
    let agent_error = "Agent a: spec.maxTokensPerDay: must be at least 1, got 0";
    assert_refused(
        &stream(&[&broken, "# empty", &bad_agent, "~", "{kind: Pod}"]),
        &[BAD_CAP, agent_error, &format!("document 5: kind: unknown kind \"Pod\"; {KNOWN_KINDS}")],
    );
    assert_refused(&format!("items: [{broken}, [], {bad_agent}]"), &[BAD_CAP, "items[1]: must be a map, got a list", agent_error]);
    let alone = "an object with `items` must be the only document";
    for text in [stream(&[&broken, "items: []", "items: []"]), stream(&["items: []", &broken, "{items: []}"])] {
        let invalid = load(text.as_bytes(), &env).unwrap_err();
        let mut lines: Vec<_> = invalid.lines().collect();
        lines.retain(|line| line != BAD_CAP);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].ends_with(alone), "{lines:?}");
    }
    // Each identity and each key that two manifests have.
    let (k, l) = (key("k", ""), key("k", "").replace("name: k", "name: l"));
    let [a, b, c] = ["a", "b", "c"].map(|name| manifest("Agent", name, "identities: [x, y], models: [p/m]"));
    assert_refused(
        &stream(&[&vllm(""), &k, &l, &a, &b, &c]),
        &[
            "Agent b: spec.identities[0]: Agent a has the same identity",
            "Agent b: spec.identities[1]: Agent a has the same identity",
            "Agent c: spec.identities[0]: Agent b has the same identity",
            "Agent c: spec.identities[1]: Agent b has the same identity",
            "AccessKey l: spec.sha256: AccessKey k has the same hash",
        ],
    );
}

#[test]
fn errors_have_no_consequences_that_are_reported_too() {
    let unknown = |path: &str, text: &str| format!("{path}: {NO_MODEL} \"{text}\"");
    // References to a manifest that is there and broken.
    let gateway = manifest("Gateway", "g", "routing: fixed, callouts: {p: c, q: c}, operators: {keys: [k, l]}");
    let (models, bad_key) = (agent("a", "models: [p/m, q/m]"), key("k", "models: [p/m, 'p/*'], disabled: 1"));
    assert_refused(
        &stream(&[&models, &gateway, &vllm("maxTokensPerDay: 0"), &bad_key]),
        &[
            BAD_CAP,
            "AccessKey k: spec.disabled: must be true or false, got 1",
            &unknown("Agent a: spec.models[1]", "q/m"),
            "Gateway g: spec.operators.keys[1]: no AccessKey is named \"l\"",
            "Gateway g: spec.callouts.q: no ModelProvider has this name",
        ],
    );
    // The manifest that is referred to has an unknown kind, another API, a bad name, no name.
    let user = agent("a", "models: [p/m]");
    let top = "Known here: apiVersion, kind, metadata, spec";
    let metadata = "Known here: name, namespace, labels, annotations";
    let [version, kind, name, spec] =
        ["apiVersion: pai.io/v1", "kind: ModelProvider", "metadata: {name: p}", "spec: {provider: vllm, endpoint: 'http://p'}"];
    for (parts, error) in [
        (
            [version, "kind: ModelProvder", name, spec],
            format!("document 1: kind: unknown kind \"ModelProvder\"; {KNOWN_KINDS}; did you mean `ModelProvider`?"),
        ),
        (
            ["apiVersion: pai.io/v2", kind, name, spec],
            "ModelProvider p: apiVersion: must be pai.io/v1, got \"pai.io/v2\"".to_owned(),
        ),
        ([version, "kynd: Agent", name, spec], format!("document 1: kynd: unknown field; did you mean `kind`? {top}")),
        (
            [version, kind, "metadata: {nam: p}", spec],
            format!("document 1: metadata.nam: unknown field; did you mean `name`? {metadata}"),
        ),
        ([version, kind, name, "spce: {}"], format!("ModelProvider p: spce: unknown field; did you mean `spec`? {top}")),
    ] {
        assert_refused(&format!("{{{}}}\n---\n{user}", parts.join(", ")), &[&error]);
    }
    let upper = vllm("").replace("name: p", "name: P");
    assert_refused(
        &stream(&[&upper, &agent("a", "models: [P/m, q/m, P/, m]")]),
        &[
            "document 1: metadata.name: must be 1 to 63 lower case letters, digits and inner hyphens, got \"P\"",
            &unknown("Agent a: spec.models[1]", "q/m"),
            &unknown("Agent a: spec.models[2]", "P/"),
            &unknown("Agent a: spec.models[3]", "m"),
        ],
    );
    // A manifest that is there twice has the same identities, keys and references twice.
    let (user, k, gateway) = (user.as_str(), key("k", ""), manifest("Gateway", "g", "routing: fixed"));
    let twice = |manifest: &str| format!("{manifest}: metadata.name: is used twice; names are unique per kind");
    assert_refused(
        &stream(&[&vllm(""), user, &k, &gateway, &vllm(""), user, &k, &gateway]),
        &[&twice("ModelProvider p"), &twice("Agent a"), &twice("AccessKey k"), &twice("Gateway g")],
    );
    // What was not read may be anything.
    assert_refused(
        &stream(&[&agent("a", "models: [q/m]"), "a: {b: [{c: 1, c: 2}]}"]),
        &["document 2: a.b[0]: field \"c\" is given twice at line 3 column 9"],
    );
}

#[test]
fn manifests_of_other_kinds_are_named_first() {
    let config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, uid: b}\ndata: {x: y}\nimmutable: true";
    let gateway_api = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: a, uid: b}\nspec: {listeners: []}";
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: vllm-token}\nstringData: {api-key: s3cret}\ntype: Opaque";
    let hint = "; a secret is an environment variable `PAI_SECRET_<NAME>_<KEY>`, see docs/configuration.md#secrets";
    let items = "; a list of manifests is `{\"items\": […]}`, without `kind` and `apiVersion`";
    let unknown = |kind: &str, hint: &str| format!("document 1: kind: unknown kind \"{kind}\"; {KNOWN_KINDS}{hint}");
    for (text, expected) in [
        (config_map.to_owned(), unknown("ConfigMap", "")),
        (secret.to_owned(), unknown("Secret", hint)),
        (format!("{{apiVersion: v1, kind: List, items: [{}]}}", vllm("")), unknown("List", items)),
        (format!("{{kind: ModelProviderList, metadata: {{}}, items: [{}]}}", vllm("")), unknown("ModelProviderList", items)),
        ("{kind: Liszt}".to_owned(), unknown("Liszt", "")),
        ("{kind: agent}".to_owned(), unknown("agent", "; did you mean `Agent`?")),
        ("{kind: access_key, x: y}".to_owned(), unknown("access_key", "; did you mean `AccessKey`?")),
        ("{kind: \"a\\u202eb\"}".to_owned(), unknown("a\\u{202e}b", "")),
        ("{kind: pak_x}".to_owned(), unknown("pak_…", "")),
        (gateway_api.to_owned(), "Gateway a: apiVersion: must be pai.io/v1, got \"gateway.networking.k8s.io/v1\"".to_owned()),
        (
            "{kind: [Agent]}".to_owned(),
            "document 1: kind: must be one of ModelProvider, Agent, AccessKey, Gateway, got a list".to_owned(),
        ),
    ] {
        assert_refused(&text, &[&expected]);
    }
}

#[test]
fn syntax_errors_have_their_lines() {
    let provider = vllm("");
    let broken = vllm("maxTokensPerDay: 0");
    for (after, expected) in [
        (
            "a: [b",
            "document 2: did not find expected ',' or ']' at line 4 column 1, while parsing a flow sequence at line 3 column 4",
        ),
        ("a: b: c", "document 2: mapping values are not allowed in this context at line 3 column 5"),
        (
            "\n\na:\n\tb",
            "document 2: found character that cannot start any token at line 6 column 1, while scanning for the next token",
        ),
        ("a: *b", "document 2: unknown anchor at line 3 column 4"),
        ("a: 1\na: 2", "document 2: field \"a\" is given twice at line 3 column 1"),
        (
            "a: {pak_x: {b: 1, b: 2}}",
            "document 2: cannot be parsed at line 3 column 12; it may contain an access key in the wrong place",
        ),
    ] {
        let syntax = expected;
        // What follows a syntax error is not read, and what refers to it is not reported.
        let user = agent("a", "models: [q/m]");
        assert_refused(&format!("{provider}---\n{after}\n---\n{user}"), &[syntax]);
        assert_refused(&format!("{broken}---\n{after}"), &[BAD_CAP, syntax]);
    }
    // The parser can go on after these.
    let other = provider.replace("name: p", "name: q");
    for (bad, error) in [
        ("a: {b: 1, b: 2}", "document 2: a: field \"b\" is given twice at line 3 column 4"),
        ("a: !secret b", "document 2: a: tags (`!name`) are not accepted at line 3 column 4"),
    ] {
        assert_refused(&format!("{other}---\n{bad}\n---\n{broken}"), &[error, BAD_CAP]);
    }
    // The parser finds a bad character before it has parsed the documents before it.
    assert_refused(&format!("{broken}---\n# \u{7}"), &["configuration: control characters are not allowed at line 3"]);
    assert_refused("\u{7}", &["document 1: control characters are not allowed at line 1 column 1"]);
}

#[test]
fn twenty_errors_are_shown_and_the_others_counted() {
    let capless = |count: usize| {
        let entry =
            |n: usize| manifest("ModelProvider", &format!("p{n}"), "provider: vllm, endpoint: 'http://p', maxTokensPerDay: 0");
        (0..count).map(entry).collect::<Vec<_>>().join("\n---\n")
    };
    for (count, last) in [(20, None), (21, Some("1 more error is not shown")), (5000, Some("4980 more errors are not shown"))] {
        let invalid = load(capless(count).as_bytes(), &env).unwrap_err();
        let lines: Vec<_> = invalid.lines().collect();
        let shown = |n: usize| format!("ModelProvider p{n}: spec.maxTokensPerDay: must be at least 1, got 0");
        assert_eq!(lines[..20], (0..20).map(shown).collect::<Vec<_>>());
        assert_eq!(lines.get(20).map(String::as_str), last);
        assert!(lines.len() <= 21);
    }
    // One list, one map, and references.
    let list = vllm(&format!("allowedModels: [{}]", vec!["a b"; 5000].join(", ")));
    let map = vllm(&(0..4000).map(|n| format!("allowedModel{n}: 0")).collect::<Vec<_>>().join(", "));
    let models = format!("{}---\n{}", vllm(""), agent("a", &format!("models: [{}]", vec!["q/m"; 5000].join(", "))));
    let patterns = vllm(&format!("guards: [{{name: a, type: pattern, deny: [{}]}}]", vec!["("; 64].join(", ")));
    for (text, omitted) in [(list, 4980), (map, 3980), (models, 4980), (patterns, 44)] {
        let invalid = load(text.as_bytes(), &env).unwrap_err();
        assert_eq!(invalid.lines().last().unwrap(), format!("{omitted} more errors are not shown"));
    }
}

#[test]
fn hostile_names_and_values_are_shown_short_and_escaped() {
    let huge = "k".repeat(1_000_000);
    let controls = "\\u001b[31m\\n\\u202e\\u2066\\u0000\\U0001F600".repeat(100);
    let deep = format!("{}1{}", "{a: ".repeat(120), "}".repeat(120));
    for spec in [
        format!("{huge}: 1"),
        format!("\"{controls}\": 1"),
        format!("provider: {huge}"),
        format!("provider: \"{controls}\""),
        format!("guards: [{{\"{controls}\": 1}}]"),
        format!("guards: {deep}"),
        format!("allowedModels: [{deep}]"),
        format!("apiKeySecretRef: {{name: \"{controls}\", key: \"{controls}\", {huge}: {huge}}}"),
        "pak_secret: 1, allowedModel: pak_secret, vllm: pak_secret".to_owned(),
    ] {
        for head in ["spec", "metadata", "speck"] {
            let text = format!("{{apiVersion: pai.io/v1, kind: ModelProvider, metadata: {{name: p}}, {head}: {{{spec}}}}}");
            let invalid = load(text.as_bytes(), &env).unwrap_err();
            for line in invalid.lines() {
                assert!(line.chars().all(|c| c == '…' || c == ' ' || c.is_ascii_graphic()), "{line}");
                assert!(line.len() < 600 && !line.contains("secret:"), "{line}");
            }
        }
    }
    let line = refusal(&format!("\"{}\": {{b: 1, b: 2}}", "\\U0001F600".repeat(99)));
    assert!(line.starts_with("document 1: …") && line.len() < 250, "{line}");
    assert!(line.ends_with("field \"b\" is given twice at line 1 column 995"), "{line}");
}

/// A parser that has met a syntax error has no next document: to read on would end the VM.
#[test]
fn a_syntax_error_behind_a_broken_rule_ends_the_reading() {
    for text in [
        "a: !x 1\nb: ]\n---\nc: 1",
        "{a: !x 1, b: [\n}\n---\nc: 1",
        "a: 1\na: 2\nb: {c: [}\n---\nd: e: f",
        "{\"s\": [\n-7: [\n s\": [\n!S)7: &x 1\nv: {\"s\": [\n-7: '",
    ] {
        let invalid = load(text.as_bytes(), &env).expect_err(text);
        assert_eq!(invalid.lines().count(), 1, "{text}: {invalid}");
    }
    let found = include_bytes!("../../../fuzz/seeds/configuration/b80bc76e9c19c232b13745f8e4de1b4c6f88f84a");
    load(found, &env).unwrap_err();
    let two = load(b"a: !x 1\n---\na: !y 1", &env).unwrap_err();
    assert_eq!(two.lines().count(), 2, "without one, the next document is read: {two}");
}
