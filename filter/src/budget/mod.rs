//! Token budgets: accounts and their arithmetic, the plan of a request, and the ledger that keeps accounts.

pub mod account;
pub mod ledger;
pub mod plan;
