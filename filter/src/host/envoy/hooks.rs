//! What only tests do to the module, which they build with the feature `test-hooks`: they set its clock, let its time pass faster, make
//! its VM trap, have it wait for a callout, and read the whole ledger and what was reserved for a request. What is shipped has none of
//! this.

use std::sync::LazyLock;
use std::time::Duration;

use proxy_wasm::hostcalls;
use serde_json::{Value, json};

use super::hostcalls::Envoy;
use crate::budget::subject::Subject;
use crate::exchange::Exchange;
use crate::exchange::environment::Environment;
use crate::exchange::step::CalloutRequest;
use crate::host::io::{HeaderMap, Io as _};
use crate::host::stream::Stream;
use crate::http::refusal::Reply;
use crate::store::Store as _;

/// Where all workers find how many seconds their clock is ahead: an `i64` in little endian.
const AHEAD: &str = "pai/test/clock";

/// How many times as fast the uptime passes by which instances are given up for dead: `PAI_TEST_SPEED`.
static SPEED: LazyLock<u32> =
    LazyLock::new(|| std::env::var("PAI_TEST_SPEED").ok().and_then(|speed| speed.parse().ok()).unwrap_or(1));

/// Does what a request asks for in `x-test-clock: <seconds ahead>`, `x-test-trap`, `x-test-callout: <cluster>` and `x-test-ledger`. Returns
/// whether it has answered: the last is.
#[expect(clippy::panic, reason = "the test wants it")]
pub(super) fn obey(stream: &Stream, envoy: &Envoy) -> bool {
    let reply = envoy.headers(HeaderMap::Request, |headers| {
        let text = |name| headers.get(name).and_then(|value| std::str::from_utf8(value).ok());
        if let Some(ahead) = text("x-test-clock").and_then(|value| value.parse::<i64>().ok()) {
            while !envoy.set(AHEAD, &ahead.to_le_bytes(), envoy.get(AHEAD).1) {}
        }
        if headers.get("x-test-trap").is_some() {
            panic!("a test requested this");
        }
        if let Some(cluster) = text("x-test-callout") {
            stream.exchange().borrow_mut().ask_first(callout(cluster));
        }
        headers.get("x-test-ledger").map(|_| ledger(&stream.exchange().borrow(), &envoy.environment()))
    });
    reply.inspect(|reply| envoy.reply(reply)).is_some()
}

/// Writes into filter state what is reserved for a request that is about to be settled, so that an access log shows by how much its charge
/// exceeds it.
pub(super) fn show_reserved(stream: &Stream, envoy: &Envoy) {
    if let Some(tokens) = stream.exchange().borrow().reserved() {
        envoy.set_filter_state("pai.test_reserved", tokens.to_string().as_bytes());
    }
}

/// A request that a test wants answered before its own is evaluated.
fn callout(cluster: &str) -> CalloutRequest {
    CalloutRequest {
        cluster: cluster.into(),
        method: "GET",
        path: "/v1/models".to_owned(),
        authority: "callout".into(),
        credential: None,
        body: Vec::new(),
        timeout: Duration::from_secs(1),
    }
}

/// The time as tests have set it.
pub(super) fn shift(now: Duration) -> Duration {
    let value = hostcalls::get_shared_data(AHEAD).unwrap_or_default().0;
    let ahead = value.and_then(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?))).unwrap_or(0);
    let by = Duration::from_secs(ahead.unsigned_abs());
    if ahead < 0 { now.saturating_sub(by) } else { now.saturating_add(by) }
}

/// The uptime as tests want it.
pub(super) fn hasten(uptime: Duration) -> Duration {
    uptime.saturating_mul(*SPEED)
}

/// Returns this instance, and every account, each read at one moment.
fn ledger(exchange: &Exchange, env: &Environment<'_>) -> Reply {
    let accounts: serde_json::Map<String, Value> =
        exchange.gate().budgets.all().map(|subject| (subject.key.to_string(), account(subject, env))).collect();
    let instance = env.worker.borrow().heartbeat.instance();
    let body = json!({ "instance": format!("{instance:016x}"), "accounts": accounts }).to_string().into_bytes();
    Reply { status: 200, headers: vec![("content-type", "application/json".to_owned())], body }
}

fn account(subject: &Subject, env: &Environment<'_>) -> Value {
    let Ok(account) = env.ledger().read(subject) else { return Value::Null };
    let budgets = subject.limits.iter().enumerate().filter_map(|(place, limit)| {
        let record = account.record(place)?;
        Some(json!({ "used": record.used, "reserved": record.reserved(), "cap": limit.cap }))
    });
    budgets.collect()
}
