//! Token budgets: accounts and their arithmetic, the plan of a request, and the ledger that stores accounts.

pub mod account;
pub mod ledger;
pub mod plan;
pub mod rate_limit_headers;
pub mod subject;
