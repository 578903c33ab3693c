//! A configuration that removes a caller: new requests are rejected at once; requests in progress finish and are settled.

use e2e::harness::{Answer, Call, Gate, Request, StreamingReply, Upstream, gateway, provider, responses, settled, until};
use serde_json::json;

use crate::fixtures::{ALICE, BOB, OPERATOR, RESEARCHER, WRITER, access_key, agent, agent_with_budget, chat_body, reference};

const PROVIDER: &str = "maxTokensPerDay: 100000\nexternalAccess: { enabled: true, maxTokensPerDay: 50000 }";

/// A caller, a configuration that contains it, and one that does not.
struct Change {
    what: &'static str,
    caller: (&'static str, &'static str),
    subject: &'static str,
    before: String,
    after: String,
    refusal: (u16, &'static str),
}

fn settings(audience: &str) -> String {
    gateway(&format!("audience: {audience}\nidentityHeader: x-agent-id\noperators: {{ identities: ['{OPERATOR}'] }}"))
}

fn changes() -> Vec<Change> {
    let model = reference();
    // The removed caller is first, so that the indexes of the others change.
    let with = |audience: &str, first: &str| {
        provider(PROVIDER) + &settings(audience) + first + &agent("team", &[WRITER], &[&model]) + &access_key("bob", BOB, &[])
    };
    let researcher = agent_with_budget("researcher", &[RESEARCHER], &[&model], 10_000);
    let alice = access_key("alice", ALICE, &["maxTokensPerDay: 10000"]);
    let as_researcher = ("x-agent-id", RESEARCHER);
    let as_alice = ("x-api-key", ALICE);
    vec![
        Change {
            what: "an Agent is removed",
            caller: as_researcher,
            subject: "agent/researcher",
            before: with("agents", &researcher),
            after: with("agents", ""),
            refusal: (403, "caller_not_allowed"),
        },
        Change {
            what: "an Agent is removed where keys are needed else",
            caller: as_researcher,
            subject: "agent/researcher",
            before: with("auto", &researcher),
            after: with("auto", ""),
            refusal: (401, "invalid_api_key"),
        },
        Change {
            what: "an Agent is given another identity",
            caller: as_researcher,
            subject: "agent/researcher",
            before: with("agents", &researcher),
            after: with("agents", &researcher.replace("sa/researcher", "sa/analyst")),
            refusal: (403, "caller_not_allowed"),
        },
        Change {
            what: "an AccessKey is removed",
            caller: as_alice,
            subject: "key/alice",
            before: with("auto", &alice),
            after: with("auto", ""),
            refusal: (401, "invalid_api_key"),
        },
        Change {
            what: "an AccessKey is disabled",
            caller: as_alice,
            subject: "key/alice",
            before: with("auto", &alice),
            after: with("auto", &(alice.clone() + "  disabled: true\n")),
            refusal: (401, "invalid_api_key"),
        },
        Change {
            what: "the audience changes",
            caller: as_alice,
            subject: "key/alice",
            before: with("auto", &alice),
            after: with("agents", &alice),
            refusal: (401, "invalid_api_key"),
        },
    ]
}

impl Change {
    fn chat_request(&self, request: Request) -> Request {
        request.header(self.caller.0, self.caller.1)
    }

    /// Waits until both workers have the new configuration: each connection belongs to one of them.
    async fn in_force(&self, gate: &Gate, status: u16) {
        let mut in_a_row = 0;
        until(&format!("{}: the caller is answered {status}", self.what), async || {
            let reply = self.chat_request(gate.get("/v1/models")).send().await;
            in_a_row = if reply.status == status { in_a_row + 1 } else { 0 };
            (in_a_row == 8).then_some(())
        })
        .await;
    }
}

async fn begin(change: &Change, gate: &Gate, upstream: &Upstream) -> (Call, StreamingReply) {
    let mut body = chat_body(&reference());
    body["stream"] = json!(true);
    let asked = change.chat_request(gate.chat(&body)).header("x-test-case", change.what).spawn_stream();
    let mut call = upstream.call().await;
    call.start_stream().await.chunk(responses::delta("a", Some((5, 1)))).await;
    let mut answer = asked.await.unwrap();
    assert_eq!(answer.event().await.unwrap(), responses::delta("a", None));
    (call, answer)
}

/// Returns the provider's budget and its external share, used and reserved, as an operator reads them.
async fn books(gate: &Gate) -> [(u64, u64); 2] {
    let reply = gate.get("/pai/v1/model-providers").header("x-agent-id", OPERATOR).send().await.ok().json();
    let item = &reply["items"][0];
    [item, &item["external"]].map(|budget| (budget["usedToday"].as_u64().unwrap(), budget["reserved"].as_u64().unwrap()))
}

/// Returns the increase of the charges.
async fn books_gain(gate: &Gate, before: [(u64, u64); 2]) -> [(u64, u64); 2] {
    let now = books(gate).await;
    [0, 1].map(|share| (now[share].0 - before[share].0, now[share].1))
}

#[tokio::test]
async fn a_removed_caller_is_rejected_while_its_stream_continues() {
    let upstream = Upstream::scripted().await;
    let changes = changes();
    let gate = Gate::start(&changes[0].after, &upstream).await;
    for change in changes {
        let what = change.what;
        gate.reconfigure(&change.before).await.unwrap();
        change.in_force(&gate, 200).await;
        let before = books(&gate).await;
        let (mut call, mut answer) = begin(&change, &gate, &upstream).await;

        gate.reconfigure(&change.after).await.unwrap();
        change.in_force(&gate, change.refusal.0).await;
        for request in [gate.chat(&chat_body(&reference())), gate.chat(&chat_body(&reference())).http2(), gate.get("/v1/models")] {
            let reply = change.chat_request(request).send().await;
            assert_eq!(reply.status, change.refusal.0, "{what}: {}", reply.describe());
            reply.refused(change.refusal.0, "invalid_request_error", change.refusal.1);
        }

        call.chunk(responses::delta("b", Some((5, 2)))).await;
        assert_eq!(answer.event().await.unwrap(), responses::delta("b", None), "{what}");
        call.chunk(responses::DONE).await;
        call.end().await;
        assert!(!answer.rest().await.cut, "{what}: the stream was cut");

        let external = if change.subject.starts_with("key/") { (7, 0) } else { (0, 0) };
        let expected = [(7, 0), external];
        settled(&format!("{what}: the stream is settled"), async || (books_gain(&gate, before).await == expected).then_some(()))
            .await;
        let line = gate.access_log(|line| line["case"] == what).await;
        assert_eq!(
            (line["subject"].as_str(), line["completion_tokens"].as_str()),
            (Some(change.subject), Some("2")),
            "{what}: {line}"
        );
    }
}

/// A caller that is removed and added again keeps its charges.
#[tokio::test]
async fn a_caller_that_is_added_again_keeps_its_usage() {
    let upstream = Upstream::scripted().await;
    let changes: Vec<Change> = changes().into_iter().filter(|change| change.what.ends_with("is removed")).collect();
    let gate = Gate::start(&changes[0].after, &upstream).await;
    for change in changes {
        let what = change.what;
        gate.reconfigure(&change.before).await.unwrap();
        change.in_force(&gate, 200).await;
        let before = books(&gate).await;
        let (mut call, answer) = begin(&change, &gate, &upstream).await;
        gate.reconfigure(&change.after).await.unwrap();
        change.in_force(&gate, change.refusal.0).await;
        call.chunk(responses::delta("b", Some((5, 1000)))).await.chunk(responses::DONE).await;
        call.end().await;
        answer.rest().await;
        settled(&format!("{what}: the stream is settled"), async || {
            (books_gain(&gate, before).await[0] == (1005, 0)).then_some(())
        })
        .await;

        gate.reconfigure(&change.before).await.unwrap();
        change.in_force(&gate, 200).await;
        let asked = change.chat_request(gate.chat(&chat_body(&reference()))).spawn_send();
        upstream.call().await.answer(Answer::json(&responses::chat(5, 3))).await;
        let reply = asked.await.unwrap();
        let number = |name: &str| reply.header(name).unwrap().parse::<u64>().unwrap();
        assert_eq!(number("x-ratelimit-limit-tokens"), 10_000, "{what}");
        assert!(number("x-ratelimit-remaining-tokens") <= 10_000 - 1005, "{what}: {}", reply.describe());
    }
}
