//! What only tests do to the module, which they build with the feature `test-hooks`: they set its clock, let its time pass faster, make
//! its VM trap, and read the whole ledger. What is shipped has none of this.

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Envoy, MapType, with_environment, with_headers};
use crate::budget::subject::Subject;
use crate::exchange::Exchange;
use crate::exchange::environment::Environment;
use crate::http::refusal::Reply;
use crate::store::Store as _;

/// Where all workers find how many seconds their clock is ahead: an `i64` in little endian.
const AHEAD: &str = "pai/test/clock";

/// How many times as fast the uptime passes by which instances are given up for dead: `PAI_TEST_SPEED`.
static SPEED: LazyLock<u32> =
    LazyLock::new(|| std::env::var("PAI_TEST_SPEED").ok().and_then(|speed| speed.parse().ok()).unwrap_or(1));

/// Does what a request asks for in `x-test-clock: <seconds ahead>`, `x-test-trap` and `x-test-ledger`; the last is answered.
#[expect(clippy::panic, reason = "the test wants it")]
pub(super) fn obey(exchange: &Exchange) -> Option<Reply> {
    with_headers(MapType::HttpRequestHeaders, |headers| {
        let ahead = headers.get("x-test-clock").and_then(|value| std::str::from_utf8(value).ok()?.parse::<i64>().ok());
        if let Some(ahead) = ahead {
            while !Envoy.set(AHEAD, &ahead.to_le_bytes(), Envoy.get(AHEAD).1) {}
        }
        if headers.get("x-test-trap").is_some() {
            panic!("as a test has asked");
        }
        headers.get("x-test-ledger").map(|_| with_environment(|env| ledger(exchange, env)))
    })
}

/// The time as tests have set it.
pub(super) fn shift(now: Duration) -> Duration {
    let ahead = Envoy.get(AHEAD).0.and_then(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?))).unwrap_or(0);
    let by = Duration::from_secs(ahead.unsigned_abs());
    if ahead < 0 { now.saturating_sub(by) } else { now.saturating_add(by) }
}

/// The uptime as tests want it.
pub(super) fn hasten(uptime: Duration) -> Duration {
    uptime.saturating_mul(*SPEED)
}

/// This instance, and every account as it stands: each is read at one moment.
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
