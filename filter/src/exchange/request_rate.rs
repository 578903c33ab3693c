//! Requests per minute of an access key: every authenticated request counts, whatever becomes of it.

use crate::budget::account::Shortfall;
use crate::exchange::environment::Environment;
use crate::http::refusal::{Case, Refusal};
use crate::identity::budgets::Budgets;
use crate::identity::caller::Caller;

/// Counts a request of this caller against its requests per minute, where these have a cap.
pub fn count_request(budgets: &Budgets, caller: Caller, env: &Environment<'_>) -> Result<(), Refusal> {
    let Some(rate) = budgets.request_rate(caller) else { return Ok(()) };
    let wait = match env.ledger().count(rate) {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(Shortfall::Drains(wait))) => wait,
        Ok(Err(Shortfall::Reserved | Shortfall::Exhausted)) => 0,
        Err(_) => return Err(Refusal::ledger_unavailable()),
    };
    let cap = rate.capped().next().map_or(0, |(_, cap)| cap);
    let why = format!("The requests per minute of {} are {cap}.", rate.subject.describe());
    Err(Refusal::rate_exceeded(Case::RequestRate, &why, wait))
}
