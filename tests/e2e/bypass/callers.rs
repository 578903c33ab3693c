//! Access keys and identities in other places, other spellings, and more than one of them.

use e2e::harness::{Gate, Key, MODEL, gateway, provider};

use crate::http1::{chat_body, json};
use crate::http2::{Frames, head};
use crate::row::{CHAT, Expected, FORWARDED, INVALID, NO_KEY, NOT_ALLOWED, Row};
use crate::table::Table;

const AGENT: &str = "spiffe://cluster.local/ns/agents/sa/researcher";
const OTHER: &str = "spiffe://cluster.local/ns/team/sa/writer";

fn alice() -> Key {
    Key::with_secret("alice", "pak_alice-7d0f6c1b2a9e4358")
}

fn bob() -> Key {
    Key::with_secret("bob", "pak_bob-1c5f9a3e7b2d4860")
}

fn operator() -> Key {
    Key::with_secret("operator", "pak_operator-0e4b8d2f6a1c9573")
}

fn manifests() -> String {
    let agent = |name: &str, identity: &str| {
        format!(
            "---\napiVersion: pai.io/v1\nkind: Agent\nmetadata: {{ name: {name} }}\nspec:\n  identities: ['{identity}']\n  models: [vllm-local/{MODEL}]\n"
        )
    };
    provider(&format!("allowedModels: [{MODEL}, 'qwen/*']\nmaxTokensPerDay: 100000000\nexternalAccess: {{ enabled: true }}"))
        + &alice().manifest(&format!("models: [vllm-local/{MODEL}]"))
        + &bob().manifest("")
        + &operator().manifest("")
        + &Key::with_secret("disabled", "pak_disabled-5b8e1d4c7f2a9036").manifest("disabled: true")
        + &Key::with_secret("expired", "pak_expired-9a6d3c0f7e1b2854").manifest("expires: 2020-01-01T00:00:00Z")
        + &agent("researcher", AGENT)
        + &agent("team", "spiffe://cluster.local/ns/team/*")
        + &gateway("identityHeader: x-agent-id\noperators: { keys: [operator] }")
}

/// A chat with these header lines.
fn sends(name: &'static str, lines: &str, answer: Expected) -> Row {
    Row::http1(name, json(&format!("POST {CHAT}"), lines, chat_body(MODEL)), [answer])
}

/// A chat with this `authorization` value.
fn bears(name: &'static str, value: &str, answer: Expected) -> Row {
    sends(name, &format!("authorization: {value}\r\n"), answer)
}

/// A chat with this value in the identity header.
fn is(name: &'static str, identity: &str, answer: Expected) -> Row {
    sends(name, &format!("x-agent-id: {identity}\r\n"), answer)
}

pub fn rows() -> Vec<Row> {
    let bad = Expected::Envoy(400);
    let (alice, bob) = (alice(), bob());
    let (key, other, hash) = (alice.secret(), bob.secret(), alice.sha256());
    let bearer = format!("authorization: Bearer {key}\r\n");
    let line = format!("POST {CHAT}");
    let chunked = |trailer: &str| {
        let body = chat_body(MODEL);
        format!(
            "POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n{trailer}\r\n\r\n",
            body.len()
        )
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    vec![
        // === misspelled keys ===
        bears("a key", &format!("Bearer {key}"), FORWARDED),
        bears("a scheme in lower case", &format!("bearer {key}"), FORWARDED),
        bears("blanks behind the scheme", &format!("Bearer   {key}"), FORWARDED),
        bears("no scheme", key, FORWARDED),
        bears("the scheme twice", &format!("Bearer Bearer {key}"), NO_KEY),
        bears("another scheme", &format!("Token {key}"), NO_KEY),
        bears("a scheme without a blank", &format!("Bearer{key}"), NO_KEY),
        bears("a password", "Basic cGFrX2FsaWNlLTdkMGY2YzFiMmE5ZTQzNTg6", NO_KEY),
        bears("quotes", &format!("Bearer \"{key}\""), NO_KEY),
        bears("upper case", &format!("Bearer {}", key.to_ascii_uppercase()), NO_KEY),
        bears("a letter less", &format!("Bearer {}", &key[..key.len() - 1]), NO_KEY),
        bears("a letter more", &format!("Bearer {key}a"), NO_KEY),
        bears("the prefix only", "Bearer pak_", NO_KEY),
        bears("a word behind", &format!("Bearer {key} x"), NO_KEY),
        bears("percent-encoded", &format!("Bearer {}", key.replace('_', "%5F")), NO_KEY),
        bears("its hash", &format!("Bearer {hash}"), NO_KEY),
        bears("its hash for a key", &format!("Bearer pak_{hash}"), NO_KEY),
        bears("very long", &format!("Bearer pak_{}", "a".repeat(20_000)), NO_KEY),
        bears("a zero behind", &format!("Bearer {key}\0"), bad),
        bears("a wide letter", &format!("Bearer {}", key.replace('a', "ａ")), NO_KEY),
        bears("disabled", "Bearer pak_disabled-5b8e1d4c7f2a9036", NO_KEY),
        bears("expired", "Bearer pak_expired-9a6d3c0f7e1b2854", NO_KEY),
        bears("a name for a key", "Bearer alice", NO_KEY),
        // === keys in other places ===
        sends("none", "", NO_KEY),
        sends("in a header of Azure's", &format!("api-key: {key}\r\n"), FORWARDED),
        sends("in a header of Google's", &format!("x-goog-api-key: {key}\r\n"), NO_KEY),
        sends("in a header with underscores", &format!("x_api_key: {key}\r\n"), NO_KEY),
        sends("for a proxy", &format!("proxy-authorization: Bearer {key}\r\n"), NO_KEY),
        sends("in a cookie", &format!("cookie: authorization={key}\r\n"), NO_KEY),
        sends("in the filter's own header", &format!("x-pai-key: {key}\r\nx-pai-subject: key/alice\r\n"), NO_KEY),
        sends("on a folded line", &format!("authorization:\r\n Bearer {key}\r\n"), FORWARDED),
        Row::http1(
            "in the query",
            json(&format!("{line}?api_key={key}&authorization=Bearer+{key}"), "", chat_body(MODEL)),
            [NO_KEY],
        ),
        Row::http1("in the target", json(&format!("POST http://{key}@gate.test{CHAT}"), "", chat_body(MODEL)), [NO_KEY]),
        Row::http1(
            "in the body",
            json(&line, "", chat_body(MODEL).replacen('{', &format!("{{\"api_key\":\"{key}\","), 1)),
            [NO_KEY],
        ),
        Row::http1("in a trailer", chunked(&format!("authorization: Bearer {key}")), [NO_KEY]),
        // === several keys ===
        sends("the same twice", &format!("{bearer}{bearer}"), FORWARDED),
        sends("the same in two headers", &format!("{bearer}x-api-key: {key}\r\n"), FORWARDED),
        sends("two, in two lines", &format!("{bearer}authorization: Bearer {other}\r\n"), NO_KEY),
        sends("two, in two headers", &format!("{bearer}api-key: {other}\r\n"), NO_KEY),
        bears("two, by a comma", &format!("Bearer {key}, Bearer {other}"), NO_KEY),
        bears("two, one of them unknown", &format!("Bearer {key}, Bearer pak_x"), NO_KEY),
        bears("one, and a credential of another kind", &format!("Bearer sk-x, Bearer {key}"), FORWARDED),
        sends("one that is wrong, and an identity", &format!("authorization: Bearer pak_x\r\nx-agent-id: {AGENT}\r\n"), NO_KEY),
        // === identities ===
        is("an identity", AGENT, FORWARDED),
        is("of a prefix", OTHER, FORWARDED),
        is("a slash behind it", &format!("{AGENT}/"), NO_KEY),
        is("a letter more of it", &format!("{AGENT}2"), NO_KEY),
        is("it in upper case", &AGENT.to_ascii_uppercase(), NO_KEY),
        is("it percent-encoded", &AGENT.replace('/', "%2F"), NO_KEY),
        is("a star for it", "*", NO_KEY),
        is("the prefix, with its star", "spiffe://cluster.local/ns/team", NO_KEY),
        is("two of them by a comma", &format!("{OTHER},{AGENT}"), NO_KEY),
        is("two of them, one empty", &format!("{AGENT},"), NO_KEY),
        is("nothing for it", "", NO_KEY),
        sends("identities in two lines", &format!("x-agent-id: {OTHER}\r\nx-agent-id: {AGENT}\r\n"), NO_KEY),
        sends("an identity in a header with underscores", &format!("x_agent_id: {AGENT}\r\n"), NO_KEY),
        sends("an identity in a certificate's header", &format!("x-forwarded-client-cert: By=a;URI={AGENT}\r\n"), NO_KEY),
        sends(
            "an identity in the mesh's header",
            &format!("x-envoy-peer-metadata-id: {AGENT}\r\nx-envoy-peer-metadata: {AGENT}\r\n"),
            NO_KEY,
        ),
        Row::http1("an identity in a trailer", chunked(&format!("x-agent-id: {AGENT}")), [NO_KEY]),
        Row::http2(
            "an agent, and another identity in a trailer",
            Frames::default()
                .headers(1, &head(&[("x-agent-id", AGENT)]))
                .data(1, chat_body(MODEL))
                .last(1, &[("x-agent-id", OTHER), ("authorization", key)]),
            [FORWARDED],
        ),
        Row::http2(
            "an identity in a trailer, over HTTP/2",
            Frames::default().headers(1, &head(&[])).data(1, chat_body(MODEL)).last(1, &[("x-agent-id", AGENT)]),
            [NO_KEY],
        ),
        Row::http2(
            "a key in two headers of HTTP/2",
            Frames::default().headers(1, &head(&[("authorization", key), ("authorization", other)])).end(1, chat_body(MODEL)),
            [NO_KEY],
        ),
        // === beyond permissions ===
        Row::http1("a model that is not the key's", json(&line, &bearer, chat_body("vllm-local/qwen/good")), [NOT_ALLOWED]),
        Row::http1(
            "a model that is not the agent's",
            json(&line, &format!("x-agent-id: {AGENT}\r\n"), chat_body("vllm-local/qwen/good")),
            [NOT_ALLOWED],
        ),
        Row::http1(
            "what only operators may read",
            format!("GET /pai/v1/model-providers HTTP/1.1\r\nhost: a\r\n{bearer}\r\n"),
            [Expected::Refused(403, "caller_not_allowed")],
        ),
        Row::http1("the list, anonymously", "GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n", [NO_KEY]),
        Row::http1("an unknown path, anonymously", "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n", [NO_KEY]),
        Row::http1("an invalid body, anonymously", json(&line, "", "{"), [NO_KEY]),
        Row::http1("a body that is none, with a key", json(&line, &bearer, "{"), [INVALID]),
        Row::http1(
            "a request without a key behind one with a key",
            text(json(&line, &bearer, chat_body(MODEL))) + &text(json(&line, "", chat_body(MODEL))),
            [FORWARDED, NO_KEY],
        ),
        Row::http1(
            "an anonymous request behind an agent's",
            text(json(&line, &format!("x-agent-id: {AGENT}\r\n"), chat_body(MODEL))) + &text(json(&line, "", chat_body(MODEL))),
            [FORWARDED, NO_KEY],
        ),
    ]
}

#[tokio::test]
async fn no_row_gets_past() {
    let operator = format!("Bearer {}", operator().secret());
    let builder = Gate::builder().manifests(manifests()).default_header("authorization", &operator);
    Table::behind(builder).await.run(rows()).await;
}
