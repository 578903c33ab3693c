//! What operators are shown: the state of the gate and its ledger, as the documents of [`crate::http::api`].

use crate::budget::account::Record;
use crate::budget::ledger::{Unavailable, start};
use crate::budget::subject::{BudgetKind, Subject};
use crate::clock;
use crate::exchange::environment::Environment;
use crate::exchange::gate::Gate;
use crate::http::api::model_providers::{External, ModelProvider, ModelProviders};
use crate::http::refusal::{Refusal, Reply};
use crate::policy::Provider;
use crate::policy::name_pattern::NamePattern;

/// Answers `GET /pai/v1/model-providers`.
pub fn model_providers(gate: &Gate, env: &Environment<'_>) -> Result<Reply, Refusal> {
    let providers = gate.policy.providers.iter().zip(gate.budgets.providers());
    let items = providers.map(|(provider, subject)| model_provider(provider, subject, env)).collect::<Result<_, Unavailable>>();
    let items = items.map_err(|Unavailable| Refusal::ledger_unavailable())?;
    Ok(ModelProviders { ledger_since: clock::rfc3339(start::seconds(env.store)), items }.reply())
}

fn model_provider(provider: &Provider, subject: &Subject, env: &Environment<'_>) -> Result<ModelProvider, Unavailable> {
    let account = env.ledger().read(subject)?;
    let record = |budget| subject.index(budget).and_then(|index| account.record(index));
    let counts = |budget| record(budget).map_or((0, 0), |record: &Record| (record.used, record.reserved()));
    let (used_today, reserved) = counts(BudgetKind::Daily);
    let (external_used, external_reserved) = counts(BudgetKind::ExternalDaily);
    Ok(ModelProvider {
        name: provider.name.to_string(),
        provider: provider.dialect.name(),
        endpoint: provider.endpoint.url.to_string(),
        max_tokens_per_day: subject.cap(BudgetKind::Daily),
        used_today,
        reserved,
        external: External {
            enabled: provider.external.is_some_and(|external| external.enabled),
            max_tokens_per_day: subject.cap(BudgetKind::ExternalDaily),
            used_today: external_used,
            reserved: external_reserved,
        },
        last_used: (account.last_used > 0).then(|| clock::rfc3339(account.last_used)),
        age: env.now().seconds().saturating_sub(account.first_seen),
        models: provider.models.allowed.iter().flatten().map(NamePattern::to_string).collect(),
    })
}
