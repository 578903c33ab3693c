//! Operators: callers that may read `/pai/v1/…`, and nothing else, in addition to agents.

use e2e::harness::{Authority, ClientCertificate, Gate, Peers, Request, Upstream, gateway, provider};

use crate::fixtures::{
    ALICE, BOB, DISABLED, OPERATOR, RESEARCHER, UNKNOWN_IDENTITY, WRITER, WRONG, agent, agents, chat_request, keys, reference,
    upstream,
};
use crate::outcome::Outcome::{self, Agent, Anonymous, Key, Known, NoKey, NotNamed, Operator};
use crate::outcome::{case, check};

const PROVIDERS: &str = "/pai/v1/model-providers";
const OPERATORS: &str = "operators: { identities: [spiffe://cluster.local/ns/platform/sa/operator, spiffe://cluster.local/ns/sre/*], keys: [alice, disabled] }";
const ON_CALL: &str = "spiffe://cluster.local/ns/sre/sa/on-call";

struct Callers {
    operator: ClientCertificate,
    on_call: ClientCertificate,
    researcher: ClientCertificate,
    unknown: ClientCertificate,
}

impl Callers {
    fn new(mesh: &Authority) -> Self {
        let [operator, on_call, researcher, unknown] =
            [OPERATOR, ON_CALL, RESEARCHER, UNKNOWN_IDENTITY].map(|uri| mesh.client(&[uri]));
        Self { operator, on_call, researcher, unknown }
    }
}

async fn gate(mesh: &Authority, upstream: &Upstream, manifests: &str, audience: &str) -> Gate {
    Gate::builder()
        .manifests(manifests)
        .manifests(gateway(&format!("audience: {audience}\n{OPERATORS}")))
        .mtls(Peers::Optional, mesh)
        .upstream("vllm-local", upstream)
        .start()
        .await
}

fn open() -> String {
    provider("externalAccess: { enabled: true }")
}

fn key(request: Request, key: &str) -> Request {
    request.header("authorization", format!("Bearer {key}"))
}

#[tokio::test]
async fn operators_and_agents_read_the_providers_and_developers_do_not() {
    let upstream = upstream().await;
    let mesh = Authority::new("mesh");
    let callers = Callers::new(&mesh);
    let gate = gate(&mesh, &upstream, &(open() + &agents() + &keys()), "auto").await;
    let get = || gate.get(PROVIDERS);
    let cases = [
        case("an operator", get().identity(&callers.operator), Operator),
        case("an operator over HTTP/2", get().identity(&callers.operator).http2(), Operator),
        case("an operator by prefix", get().identity(&callers.on_call), Operator),
        case("an operator's key", key(get(), ALICE), Key("alice")),
        case("an operator's key elsewhere", get().header("x-api-key", ALICE), Key("alice")),
        case("an agent", get().identity(&callers.researcher), Agent("researcher")),
        case("a developer", key(get(), BOB), Known("key/bob", 403, "caller_not_allowed")),
        case("a disabled operator's key", key(get(), DISABLED), NoKey),
        case("a wrong key", key(get(), WRONG), NoKey),
        case("an operator with a wrong key", key(get(), WRONG).identity(&callers.operator), NoKey),
        case("an agent with a wrong key", key(get(), WRONG).identity(&callers.researcher), NoKey),
        case("an unknown identity", get().identity(&callers.unknown), NoKey),
        case("anonymous", get(), NoKey),
        case("a claim", get().header("x-forwarded-client-cert", format!("URI={OPERATOR}")), NoKey),
    ];
    check(&gate, cases).await;
}

/// On other paths, an operator that no Agent matches is anonymous.
#[tokio::test]
async fn an_operator_is_no_agent() {
    let upstream = upstream().await;
    let mesh = Authority::new("mesh");
    let callers = Callers::new(&mesh);
    for (audience, manifests, anonymous) in [
        ("auto", open() + &agents() + &keys(), NoKey),
        ("auto", open() + &keys(), NoKey),
        ("agents", open() + &agents() + &keys(), NotNamed),
    ] {
        let gate = gate(&mesh, &upstream, &manifests, audience).await;
        let operator = |request: Request| request.identity(&callers.operator);
        let cases = [
            case("reads", operator(gate.get(PROVIDERS)), Operator),
            case("chats", operator(chat_request(&gate)), anonymous),
            case("chats over HTTP/2", operator(chat_request(&gate)).http2(), anonymous),
            case("lists", operator(gate.get("/v1/models")), anonymous),
            case("retrieves", operator(gate.get("/v1/models/vllm-local%2Fx")), anonymous),
            case("unknown path", operator(gate.get("/pai/v1/other")), anonymous_on_an_unknown_path(anonymous)),
            case("dot segments", operator(gate.get("/pai/v1/../../v1/models")), anonymous_on_an_unknown_path(anonymous)),
            case("posts", operator(gate.post("/v1/completions").text("{}")), anonymous),
        ];
        check(&gate, cases).await;
    }
    assert!(upstream.requests().is_empty());
}

/// The missing key is reported before the path, the missing Agent after it.
fn anonymous_on_an_unknown_path(anonymous: Outcome) -> Outcome {
    if anonymous == NoKey { NoKey } else { Known("none", 404, "unknown_url") }
}

#[tokio::test]
async fn an_operator_that_is_an_agent_is_both() {
    let upstream = upstream().await;
    let mesh = Authority::new("mesh");
    let callers = Callers::new(&mesh);
    let manifests = open() + &keys() + &agent("platform", &[OPERATOR], &[&reference()]);
    let gate = gate(&mesh, &upstream, &manifests, "auto").await;
    let cases = [
        case("reads", gate.get(PROVIDERS).identity(&callers.operator), Agent("platform")),
        case("chats", chat_request(&gate).identity(&callers.operator), Agent("platform")),
        case("an operator's key chats", key(chat_request(&gate), ALICE), Key("alice")),
    ];
    check(&gate, cases).await;
}

/// If anonymous callers count as agents, they may read what agents may read.
#[tokio::test]
async fn anonymous_agents_read_the_providers() {
    let upstream = upstream().await;
    let mesh = Authority::new("mesh");
    let callers = Callers::new(&mesh);
    let only_identities = gateway("audience: agents\noperators: { identities: [spiffe://cluster.local/ns/platform/sa/operator] }");
    let gate = Gate::builder()
        .manifests(provider("") + &only_identities)
        .mtls(Peers::Optional, &mesh)
        .upstream("vllm-local", &upstream)
        .start()
        .await;
    let cases = [
        case("anonymous", gate.get(PROVIDERS), Anonymous),
        case("an unknown identity", gate.get(PROVIDERS).identity(&callers.unknown), Anonymous),
        case("an operator", gate.get(PROVIDERS).identity(&callers.operator), Anonymous),
        case("an operator chats", chat_request(&gate).identity(&callers.operator), Anonymous),
    ];
    check(&gate, cases).await;
}

#[tokio::test]
async fn where_all_are_developers_only_operators_keys_read() {
    let upstream = upstream().await;
    let mesh = Authority::new("mesh");
    let writer = mesh.client(&[WRITER]);
    let gate = gate(&mesh, &upstream, &(open() + &agents() + &keys()), "external").await;
    let cases = [
        case("an operator's key", key(gate.get(PROVIDERS), ALICE), Key("alice")),
        case("a developer", key(gate.get(PROVIDERS), BOB), Known("key/bob", 403, "caller_not_allowed")),
        case("an agent's certificate", gate.get(PROVIDERS).identity(&writer), NoKey),
        case("anonymous", gate.get(PROVIDERS), NoKey),
    ];
    check(&gate, cases).await;
}

#[tokio::test]
async fn an_operators_key_must_exist() {
    let upstream = upstream().await;
    let gate = Gate::start(open() + &keys(), &upstream).await;
    let log = gate.reconfigure(open() + &keys() + &gateway("operators: { keys: [carol] }")).await.unwrap_err();
    assert!(log.contains("Gateway default: spec.operators.keys") && log.contains("carol"), "{log}");
}
