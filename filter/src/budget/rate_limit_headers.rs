//! `x-ratelimit-*`: a budget's cap, what remains of it, and when all of it is available again.

use crate::budget::ledger::Ledger;
use crate::budget::subject::{BudgetKind, Subject};
use crate::clock::go_duration;

const TOKEN_HEADERS: [&str; 3] = ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];
const REQUEST_HEADERS: [&str; 3] = ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];

/// Returns the headers for those of the `visible` budgets of a subject that have a cap, at the time of the ledger. Of several token
/// budgets, the headers report the one with the fewest remaining tokens. Returns no headers if no budget has a cap or the ledger
/// cannot be read.
pub fn rate_limit_headers(subject: &Subject, visible: &[BudgetKind], ledger: &Ledger<'_>) -> Vec<(&'static str, String)> {
    if !visible.iter().any(|budget| subject.cap(*budget).is_some()) {
        return Vec::new();
    }
    let Ok(account) = ledger.read(subject) else { return Vec::new() };
    let shown = |budget: &BudgetKind| {
        let index = subject.index(*budget)?;
        let (limit, record) = (*subject.limits.get(index)?, account.record(index)?);
        let cap = limit.cap?;
        Some((*budget, cap, record.remaining(cap), record.reset(limit, ledger.now)))
    };
    let (requests, tokens): (Vec<_>, Vec<_>) =
        visible.iter().filter_map(shown).partition(|budget| budget.0 == BudgetKind::RequestsPerMinute);
    let tightest = tokens.into_iter().min_by_key(|budget| budget.2);
    let mut headers = Vec::with_capacity(6);
    for (names, budget) in [(TOKEN_HEADERS, tightest), (REQUEST_HEADERS, requests.into_iter().next())] {
        if let Some((_, cap, remaining, reset)) = budget {
            headers.extend(names.into_iter().zip([cap.to_string(), remaining.to_string(), go_duration(reset)]));
        }
    }
    headers
}
