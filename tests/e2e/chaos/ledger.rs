//! Reads the ledger through the module's test hooks (`x-test-ledger`). Each account is read at one moment.

use std::collections::BTreeMap;

use e2e::harness::{Gate, Raw};
use serde::Deserialize;

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
        self.accounts[&format!("pai/1/account/{subject}")].as_deref().expect("an account that can be read")
    }

    /// Returns the sum of all reserved tokens.
    pub fn reserved(&self) -> u64 {
        self.accounts.values().flatten().flatten().map(|budget| budget.reserved).sum()
    }

    /// Returns a violation: a budget that is exceeded or unreadable.
    pub fn fault(&self) -> Option<String> {
        let exceeded = |budget: &Budget| budget.cap.is_some_and(|cap| budget.used + budget.reserved > cap);
        self.accounts.iter().find_map(|(account, budgets)| match budgets {
            None => Some(format!("{account} cannot be read")),
            Some(budgets) => budgets.iter().find(|budget| exceeded(budget)).map(|budget| format!("{account}: {budget:?}")),
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
