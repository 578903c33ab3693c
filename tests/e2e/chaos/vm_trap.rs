//! A VM traps with streams in flight: its worker's streams end, the others continue, its reservations are released, and its
//! replacement serves requests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use e2e::harness::{Answer, Call, Gate, Raw, TextKind, Upstream, provider, responses, until};
use serde_json::json;

use crate::client::{self, End, Seen};
use crate::ledger::{Ledger, Reader};
use crate::plan::{Caller, Client, Disconnect, Form, Plan, PlannedRequest, ProviderBehaviour};
use crate::setup::{SPEED, Scene};

const STREAMS: usize = 24;
const LIMIT: u64 = 100;
const PROMPT: u64 = 30;
const CAP: u64 = 1_000_000;

/// An open stream: the client's side, the provider's side, and the VM between them.
struct Stream {
    client: Raw,
    call: Call,
    instance: String,
}

async fn gate(upstream: &Upstream) -> Gate {
    let manifests = provider(&format!("maxTokensPerDay: {CAP}"));
    let builder = Gate::builder().manifests(manifests).upstream("vllm-local", upstream).with_test_hooks();
    builder.env("PAI_TEST_SPEED", &SPEED.to_string()).start().await
}

/// Returns the VM that serves this connection.
async fn instance(connection: &mut Raw) -> Option<String> {
    connection.write("GET /v1/models HTTP/1.1\r\nhost: gate.test\r\nx-test-ledger: 1\r\n\r\n").await;
    let reply = connection.reply().await.filter(|reply| reply.status == 200)?;
    serde_json::from_slice::<Ledger>(&reply.body).ok().map(|ledger| ledger.instance)
}

/// Opens a stream and lets two words pass.
async fn open(gate: &Gate, upstream: &Upstream) -> Stream {
    let mut client = gate.raw().await;
    let instance = instance(&mut client).await.expect("a VM");
    let body = json!({ "model": "llama", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": LIMIT, "stream": true })
        .to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: gate.test\r\ncontent-type: application/json";
    client.write(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
    let mut call = upstream.call().await;
    call.start_stream().await.chunk(responses::role(Some((PROMPT, 0)))).await.chunk(responses::delta("w", Some((PROMPT, 2)))).await;
    client.until("\"content\":\"w\"").await;
    Stream { client, call, instance }
}

async fn ledger(gate: &Gate, reader: &mut Reader) -> Ledger {
    until("a VM shows the ledger", async || reader.sample(gate, false).await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_affects_only_its_worker() {
    let upstream = Upstream::scripted().await;
    let gate = gate(&upstream).await;
    let mut reader = Reader::default();
    let mut streams = Vec::new();
    while streams.len() < STREAMS || streams.iter().map(|stream: &Stream| &stream.instance).collect::<BTreeSet<_>>().len() < 2 {
        streams.push(open(&gate, &upstream).await);
    }
    let budget = ledger(&gate, &mut reader).await.of("provider/vllm-local")[0];
    let each = budget.reserved / streams.len() as u64;
    assert_eq!((budget.used, budget.reserved % streams.len() as u64), (0, 0));
    let estimate = each - LIMIT;
    assert!((PROMPT..PROMPT + 100).contains(&estimate), "{estimate}");

    // The VM that serves the next connection traps.
    let reply = gate.trap().await.expect("an answer");
    let trapped = Instant::now();
    assert_eq!((reply.status, &*reply.body), (503, &b""[..]), "it fails closed");

    let mut by_instance: BTreeMap<String, Vec<Stream>> = BTreeMap::new();
    for mut stream in streams {
        // The next event shows whether the stream's VM has trapped.
        stream.call.chunk(responses::delta("x", Some((PROMPT, 5)))).await;
        by_instance.entry(stream.instance.clone()).or_default().push(stream);
    }
    let mut dead = Vec::new();
    for (instance, streams) in by_instance {
        let mut survivors = 0;
        let all = streams.len();
        for Stream { mut client, mut call, .. } in streams {
            let alive = client.until("\"content\":\"x\"").await;
            if alive {
                survivors += 1;
                call.chunk(responses::final_usage(PROMPT, 7)).await.chunk(responses::DONE).await;
                call.end().await;
                assert!(client.until("data: [DONE]").await, "a stream of another worker goes on to its end");
            } else {
                call.aborted().await;
            }
        }
        assert!(survivors == 0 || survivors == all, "{survivors} of {all} of {instance}");
        if survivors == 0 {
            dead.push((instance, all as u64));
        }
    }
    let [(instance, lost)] = &*dead else { panic!("one VM has died, not {}", dead.len()) };
    let finished = upstream.requests().len() as u64 - lost;
    assert!(finished > 0);

    // The reservations of the trapped VM remain until a minute has passed, and are not charged before.
    let held = ledger(&gate, &mut reader).await.of("provider/vllm-local")[0];
    let settled = finished * (PROMPT + 7);
    assert_eq!((held.used, held.reserved), (settled, lost * each), "{:?} after the trap", trapped.elapsed());

    // A new VM replaces the trapped one, and both workers serve requests.
    let mut instances = BTreeSet::new();
    let served = async || {
        let mut client = gate.raw().await;
        instances.extend(self::instance(&mut client).await);
        (instances.len() == 2).then_some(())
    };
    until("two VMs serve", served).await;
    assert!(!instances.contains(instance), "the dead one is not one of them");

    let minute = Duration::from_secs(60) / SPEED;
    let budget = until("the dead VM's reservations are given back", async || {
        let budget = reader.sample(&gate, false).await?.of("provider/vllm-local")[0];
        (budget.reserved == 0).then_some(budget)
    })
    .await;
    assert!(trapped.elapsed() >= minute - Duration::from_secs(1), "given up after {:?}", trapped.elapsed());
    assert_eq!(budget.used, settled + lost * estimate, "the prompts' upper bounds are charged");

    let asked = gate.chat(&json!({ "model": "llama", "messages": [], "max_tokens": 5 })).spawn_send();
    upstream.call().await.answer(Answer::json(&responses::chat(5, 3))).await;
    asked.await.unwrap().ok();
    assert_eq!(gate.used().await, budget.used + 8);
    gate.assert_no_trap();
}

/// A request that is retried twice.
fn falling_back(number: usize) -> PlannedRequest {
    PlannedRequest {
        id: format!("f{number}"),
        caller: Caller::Inside,
        named: 0,
        kind: TextKind::English,
        length: 100,
        limit: Some(10),
        words: 5,
        stream: number.is_multiple_of(2),
        wants_usage: false,
        http2: false,
        forbidden: false,
        slow: false,
        disconnect: Disconnect::Never,
        behaviours: [ProviderBehaviour::Reset, ProviderBehaviour::Status(503), ProviderBehaviour::Serve],
    }
}

/// The gate filter and the attempt filter of a worker share one VM, including a replacement VM.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replacement_vm_falls_back_too() {
    e2e::needs!(ClusterRefresh);
    let mut plan =
        Plan { seed: 0, workers: 1, form: Form::Everything, tight: false, strict: false, clients: Vec::new(), events: Vec::new() };
    let requests: Vec<PlannedRequest> = (0..600).map(falling_back).collect();
    plan.clients.push(Client { requests: requests.iter().map(|planned| (Duration::ZERO, planned.clone())).collect() });
    let scene = Scene::new(&plan).await;
    let mut requests = requests.into_iter();
    let mut send = async || client::run_request(scene.gate.address(), requests.next().expect("enough of them"), plan.form).await;
    for traps in 0..3 {
        if traps > 0 {
            scene.gate.trap().await;
            // Until each plugin is restarted, requests are rejected.
            until("a VM serves", async || {
                tokio::time::sleep(Duration::from_millis(30)).await;
                let Seen { status, .. } = send().await.seen;
                assert!(matches!(status, Some(200 | 503)), "{status:?}");
                (status == Some(200)).then_some(())
            })
            .await;
        }
        for _ in 0..10 {
            let outcome = send().await;
            assert_eq!((outcome.seen.status, outcome.end), (Some(200), End::Whole), "after {traps} traps: {outcome:?}");
        }
    }
    assert!(!scene.gate.logs().contains("no gate has let through"), "a request was taken for one that got past the gate");
    scene.gate.assert_no_trap();
}
