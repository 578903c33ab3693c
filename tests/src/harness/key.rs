//! Developers' access keys, and the ledger's state of the budgets that they share.

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::client::Request;
use super::gate::Gate;
use super::wait::settled;

/// A developer's access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    name: String,
    secret: String,
}

/// One budget in `GET /pai/v1/model-providers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// The daily cap, if there is one.
    pub max_tokens_per_day: Option<u64>,
    /// Tokens settled today.
    pub used_today: u64,
    /// Tokens reserved.
    pub reserved: u64,
}

/// The two budgets of a provider: the total and the external share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderBudgets {
    /// The budget of all callers.
    pub provider: Budget,
    /// The external share, used by developers.
    pub external: Budget,
}

// === impl Key ===

impl Key {
    /// Returns the key of the `AccessKey` with this name. The same name always gives the same key.
    pub fn new(name: &str) -> Self {
        let secret = format!("pak_{}", sha256(&format!("a key for {name}")));
        Self::with_secret(name, &secret)
    }

    /// Returns a key with this secret.
    pub fn with_secret(name: &str, secret: &str) -> Self {
        Self { name: name.to_owned(), secret: secret.to_owned() }
    }

    /// Returns `metadata.name` of its manifest.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the secret that the developer sends.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Returns `spec.sha256` of its manifest.
    pub fn sha256(&self) -> String {
        sha256(&self.secret)
    }

    /// Returns its `AccessKey` manifest with these additional lines of `spec`, one per line, not indented.
    pub fn manifest(&self, spec: &str) -> String {
        let lines: String = spec.lines().map(|line| format!("  {}\n", line.trim_end())).collect();
        format!(
            "---\napiVersion: pai.io/v1\nkind: AccessKey\nmetadata: {{ name: {} }}\nspec:\n  sha256: {}\n{lines}",
            self.name,
            self.sha256()
        )
    }
}

// === impl Request ===

impl Request {
    /// Sends this key as the OpenAI clients do.
    pub fn key(self, key: &Key) -> Self {
        self.header("authorization", format!("Bearer {}", key.secret))
    }
}

// === impl Budget ===

impl Budget {
    /// Returns whether the used and reserved tokens exceed the cap.
    pub fn is_exceeded(&self) -> bool {
        self.max_tokens_per_day.is_some_and(|cap| self.used_today + self.reserved > cap)
    }
}

// === impl Gate ===

impl Gate {
    /// Returns the ledger's state of a provider's budgets, read with an operator's key.
    pub async fn provider_budgets(&self, operator: &Key, provider: &str) -> ProviderBudgets {
        let reply = self.get("/pai/v1/model-providers").key(operator).send().await.ok().json();
        let items = reply["items"].as_array().expect("items");
        let found = items.iter().find(|item| item["name"] == provider).expect("the provider is listed");
        ProviderBudgets { provider: budget(found), external: budget(&found["external"]) }
    }

    /// Waits until neither budget has reservations, within the documented time, and returns them.
    pub async fn settled_budgets(&self, operator: &Key, provider: &str) -> ProviderBudgets {
        settled("all reservations are settled", async || {
            let shares = self.provider_budgets(operator, provider).await;
            (shares.provider.reserved == 0 && shares.external.reserved == 0).then_some(shares)
        })
        .await
    }
}

fn budget(value: &Value) -> Budget {
    Budget::deserialize(value).expect("the documented fields")
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_the_whole_key() {
        // `printf 'pak_abc' | sha256sum`
        let key = Key::with_secret("abc", "pak_abc");
        assert_eq!(key.sha256(), "2a268bea0f89ae574372a01584796ba6a8f8cb892555eda9a66be1d57c4c1bac");
        assert_ne!(Key::new("a").secret(), Key::new("b").secret());
    }
}
