//! Sends random requests to vLLM, once directly and once through the gateway. The gateway must accept what vLLM accepts, unless
//! `docs/security.md` says otherwise. An error of vLLM must pass through the gateway unchanged.
//!
//! Requests are random: `PAI_SEED=…` repeats a run. The model's text is random.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use e2e::harness::{Gate, Reply, Request, Rng, seed};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::requests::{CAP, Case, Demand, MODEL, Rule};
use super::server::{MODELS, Server, answer, events, reported};

/// The number of requests.
const CASES: u64 = 1000;
/// The number of concurrent clients.
const CLIENTS: usize = 4;
/// The number of requests under a cap.
const CAPPED: u64 = 300;

/// Both responses to a request.
#[derive(Debug)]
struct Pair {
    case: Case,
    direct: Reply,
    through: Reply,
}

// === impl Pair ===

impl Pair {
    async fn of(case: Case, server: Server, gate: &Gate, model: &str, reference: &str) -> Self {
        let typed = |request: Request, body: Vec<u8>| request.header("content-type", case.content_type).body(body);
        let direct = answer(typed(server.request("POST", case.path), case.body(model))).await;
        let through = answer(typed(gate.post(case.path), case.body(reference))).await;
        Self { case, direct, through }
    }

    /// Returns an unexpected difference, if any.
    fn fault(&self) -> Option<String> {
        let Self { case, direct, through } = self;
        if let Some(rule) = case.rule {
            let body: Value = serde_json::from_slice(&through.body).unwrap_or_default();
            let refused = (through.status, body["error"]["code"].as_str()) == (rule.status, Some(rule.code));
            return (!refused).then(|| format!("the rule `{}` does not refuse it", rule.name));
        }
        if through.header("x-pai-limited-by").is_some() {
            // The gateway has lowered the limit: what vLLM rejects for its length is answered, or the client gets an error after which it tries again.
            let expected = [200, 503].contains(&through.status) || direct.status == through.status;
            return (!expected).then(|| "a lowered limit is rejected".to_owned());
        }
        if direct.status != through.status {
            return Some("the statuses differ".to_owned());
        }
        if direct.status != 200 {
            return (direct.body != through.body).then(|| "the refusals differ".to_owned());
        }
        if form(direct) != form(through) {
            return Some(format!("the answers' members differ: {:?}, {:?}", form(direct), form(through)));
        }
        // The model's text is random, but its length is not if only a limit ends it.
        let fixed = case.text.contains("\"ignore_eos\"") && !case.text.contains("\"stop\"");
        let tokens = |reply: &Reply| reported(reply).map(|(prompt, completion)| (prompt, if fixed { completion } else { 0 }));
        (tokens(direct) != tokens(through)).then(|| format!("tokens: {:?}, {:?}", tokens(direct), tokens(through)))
    }

    fn is_too_large(&self) -> bool {
        self.through.status == 400 && self.through.text().contains("\"context_length_exceeded\"")
    }

    /// Returns a violation under a cap: a rejected request that fits, or a response well above the cap.
    fn over_cap(&self) -> Option<String> {
        let Demand { limit, min_tokens, sequences } = self.case.demand();
        if self.is_too_large() {
            // A request that vLLM also rejects has no tokens.
            let (prompt, _) = reported(&self.direct)?;
            let needed = prompt + limit.map_or(1, |limit| limit.min(256)).max(min_tokens) * sequences;
            return (needed <= CAP).then(|| format!("refused, and needs {needed} tokens"));
        }
        if self.direct.status != self.through.status {
            return Some("the statuses differ".to_owned());
        }
        let (prompt, completion) = reported(&self.through)?;
        // If the upper bound of the prompt leaves too little room, each completion gets 256 tokens, or the minimum it requires.
        let most = CAP.max(prompt + limit.unwrap_or(256).min(256).max(min_tokens) * sequences);
        (prompt + completion > most).then(|| format!("{prompt} + {completion} tokens"))
    }

    fn describe(&self) -> String {
        let Self { case, direct, through } = self;
        let body: String = String::from_utf8_lossy(&case.body(MODEL)).chars().take(1500).collect();
        format!(
            "{} ({}), {}\n{body}\n--- directly: {}\n--- through the gate: {}\n",
            case.kind,
            case.content_type,
            case.path,
            direct.describe(),
            through.describe()
        )
    }
}

/// Returns the top-level members of a response, in any event, except for the fingerprint: vLLM puts it elsewhere if it sends usage.
fn form(reply: &Reply) -> BTreeSet<String> {
    let documents = match reply.header("content-type") {
        Some("application/json") => vec![reply.json()],
        _ => events(reply),
    };
    let names = documents.iter().filter_map(Value::as_object).flat_map(|object| object.keys().cloned());
    names.filter(|name| name != "system_fingerprint").collect()
}

#[tokio::test]
#[ignore = "needs a vLLM: scripts/test vllm"]
async fn the_gate_accepts_what_vllm_accepts() {
    let server = Server::running();
    let seed = seed();
    println!("difference: PAI_SEED={seed}");
    let mut rng = Rng::new(seed);
    // One gateway knows the context length; the other does not, and has the attempt filter in its chain.
    let caps = "maxTokensPerDay: 50000000\nmaxTokensPerRequest: 32000";
    let gates = [Arc::new(server.gate_with_known_context_length(caps).await), Arc::new(server.gate(caps).fallback().start().await)];
    let empty = json!({ "model": MODELS[0], "messages": [{ "role": "user", "content": "" }] });
    let overhead = server.prompt_tokens(&empty).await;

    let cases = (0..CASES).map(|_| Case::random(&mut rng, overhead)).collect();
    let pairs = run_phase(cases, server, gates).await;
    print(&pairs);
    let faults: Vec<String> = pairs.iter().filter_map(|pair| Some(format!("{}: {}", pair.fault()?, pair.describe()))).collect();
    assert!(faults.is_empty(), "{} of {CASES} requests:\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test]
#[ignore = "needs a vLLM: scripts/test vllm"]
async fn a_cap_rejects_no_request_that_fits() {
    let server = Server::running();
    let seed = seed();
    println!("cap: PAI_SEED={seed}");
    let mut rng = Rng::new(seed);
    let cap = format!("maxTokensPerRequest: {CAP}");
    let gates = [Arc::new(server.gate_with_known_context_length(&cap).await), Arc::new(server.gate(&cap).start().await)];
    let cases = (0..CAPPED).map(|_| Case::near_the_cap(&mut rng)).collect();
    let pairs = run_phase(cases, server, gates.clone()).await;
    let charged = gates[0].used().await + gates[1].used().await;
    let answered: u64 =
        pairs.iter().filter_map(|pair| reported(&pair.through)).map(|(prompt, completion)| prompt + completion).sum();
    assert_eq!(charged, answered, "what is charged is what vLLM reports");
    let counted = |gate: &Gate| gate.stats("vllm-local-callouts.upstream_rq_200").values().sum::<u64>();
    println!("cap: {charged} tokens charged; callouts answered: {}", counted(&gates[0]));
    let faults: Vec<String> = pairs.iter().filter_map(|pair| Some(format!("{}: {}", pair.over_cap()?, pair.describe()))).collect();
    let refused = pairs.iter().filter(|pair| pair.is_too_large()).count();
    let fit = pairs.iter().filter(|pair| pair.direct.status == 200 && pair.through.status == 200).count();
    println!("cap: {CAPPED} requests under a cap of {CAP} tokens: {fit} answered, {refused} refused as too large");
    assert!(faults.is_empty(), "{} of {CAPPED} requests:\n{}", faults.len(), faults.join("\n"));
}

/// Sends these requests to both from several concurrent clients: half of them through each gateway, half of those by reference.
async fn run_phase(mut cases: Vec<Case>, server: Server, gates: [Arc<Gate>; 2]) -> Vec<Pair> {
    let share = cases.len().div_ceil(CLIENTS);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let share = cases.split_off(cases.len().saturating_sub(share));
        let (gate, model) = (Arc::clone(&gates[client / 2]), MODELS[client % 2]);
        clients.spawn(async move {
            let mut pairs = Vec::new();
            for (at, case) in share.into_iter().enumerate() {
                let reference = if at % 2 == 0 { format!("vllm-local/{model}") } else { model.to_owned() };
                pairs.push(Pair::of(case, server, &gate, model, &reference).await);
            }
            pairs
        });
    }
    assert!(cases.is_empty());
    clients.join_all().await.into_iter().flatten().collect()
}

fn print(pairs: &[Pair]) {
    let mut statuses: BTreeMap<(u16, u16), u64> = BTreeMap::new();
    let mut rules: BTreeMap<Rule, (u64, u64)> = BTreeMap::new();
    for Pair { case, direct, through } in pairs {
        *statuses.entry((direct.status, through.status)).or_default() += 1;
        if let Some(rule) = case.rule {
            let (all, taken) = rules.entry(rule).or_default();
            *all += 1;
            *taken += u64::from(direct.status == 200);
        }
    }
    for kind in pairs.iter().map(|pair| pair.case.kind).collect::<BTreeSet<&str>>() {
        let of_kind: Vec<&Pair> = pairs.iter().filter(|pair| pair.case.kind == kind).collect();
        let taken = of_kind.iter().filter(|pair| pair.direct.status == 200).count();
        println!("difference: {} of the kind `{kind}`, of which vLLM takes {taken}", of_kind.len());
    }
    let statuses: Vec<String> = statuses.iter().map(|((direct, through), count)| format!("{direct}/{through}: {count}")).collect();
    println!("difference: {} requests, directly/through the gate: {}", pairs.len(), statuses.join(", "));
    for (rule, (all, taken)) in rules {
        println!(
            "difference: {all} refused with {} {} for the rule `{}`, of which vLLM takes {taken}",
            rule.status, rule.code, rule.name
        );
    }
}
