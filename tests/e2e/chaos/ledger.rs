//! Reads the ledger through the module's test hooks (`x-test-ledger`). Each account is read at one moment.

use std::collections::BTreeMap;

use e2e::harness::{Gate, Raw};
use serde::Deserialize;

const ACCOUNT: &str = "pai/1/account/";

/// A budget: its subject, and its index in the account.
pub type BudgetId = (String, usize);

/// All accounts by subject (`provider/openai`).
#[derive(Debug, Clone, Deserialize)]
pub struct Ledger {
    /// The VM that responded.
    pub instance: String,
    accounts: BTreeMap<String, Option<Vec<Budget>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Budget {
    pub used: u64,
    pub reserved: u64,
    pub cap: Option<u64>,
}

/// Reads the ledger repeatedly over reserved connections.
#[derive(Default)]
pub struct Reader {
    connections: Vec<Raw>,
}

// === impl Ledger ===

impl Ledger {
    /// Returns the budgets of a subject.
    pub fn of(&self, subject: &str) -> &[Budget] {
        self.accounts[&format!("{ACCOUNT}{subject}")].as_deref().expect("an account that can be read")
    }

    /// Returns the sum of all reserved tokens.
    pub fn reserved(&self) -> u64 {
        self.accounts.values().flatten().flatten().map(|budget| budget.reserved).sum()
    }

    /// Returns a violation: an account that cannot be read.
    pub fn fault(&self) -> Option<String> {
        self.accounts.iter().find(|(_, budgets)| budgets.is_none()).map(|(account, _)| format!("{account} cannot be read"))
    }

    /// Returns the tokens above the cap of each budget that is exceeded.
    pub fn overshoots(&self) -> impl Iterator<Item = (BudgetId, u64)> {
        self.accounts.iter().flat_map(|(account, budgets)| {
            let budgets = budgets.iter().flatten().enumerate();
            budgets.filter_map(|(index, budget)| {
                let above = (budget.used + budget.reserved).checked_sub(budget.cap?).filter(|above| *above > 0)?;
                Some(((account.strip_prefix(ACCOUNT).expect("an account").to_owned(), index), above))
            })
        })
    }
}

// === impl Reader ===

impl Reader {
    /// Opens connections in advance, for reading after the listeners are drained.
    pub async fn reserve(&mut self, gate: &Gate, connections: usize) {
        for _ in 0..connections {
            self.connections.push(gate.raw().await);
        }
    }

    /// Reads the ledger on the least recently used connection; `None` if it is closed or its VM has trapped.
    pub async fn sample(&mut self, gate: &Gate, drained: bool) -> Option<Ledger> {
        if self.connections.is_empty() {
            assert!(!drained, "no connection is left to look at the ledger by");
            self.reserve(gate, 2).await;
        }
        let mut connection = self.connections.remove(0);
        connection.write("GET /v1/models HTTP/1.1\r\nhost: gate.test\r\nx-test-ledger: 1\r\n\r\n").await;
        let reply = connection.reply().await?;
        if reply.header("connection") != Some("close") {
            self.connections.push(connection);
        }
        (reply.status == 200).then(|| serde_json::from_slice(&reply.body).expect("the hook's own words"))
    }
}
