//! What operators are shown: the state of the gate and its ledger, as the documents of [`crate::http::api`].

use std::collections::BTreeMap;

use crate::budget::account::{Account, Record};
use crate::budget::ledger::{Unavailable, start};
use crate::budget::subject::{BudgetKind, Subject};
use crate::clock::{Time, rfc3339};
use crate::exchange::environment::Environment;
use crate::exchange::gate::{Gate, ProviderState};
use crate::exchange::live_workers;
use crate::http::api::access_keys::AccessKey;
use crate::http::api::agents::Agent;
use crate::http::api::model_providers::{Cooldown, External, ModelProvider, ModelProviders};
use crate::http::api::models::{self, Model};
use crate::http::api::page::Page;
use crate::http::api::status::{Status, Worker};
use crate::http::api::{List, Usage, json};
use crate::http::refusal::{Refusal, Reply};
use crate::identity::access_key::ReferencePattern;
use crate::identity::caller::Caller;
use crate::identity::model_access::ModelAccess;
use crate::policy::name_pattern::NamePattern;
use crate::policy::{Policy, Provider};

/// Answers `GET /v1/models`. For this list only, the models that a server lists itself count as exact entries.
pub fn models(gate: &Gate, access: &ModelAccess<'_>, env: &Environment<'_>) -> Reply {
    let model = |(provider, model): (usize, &str)| {
        Model::new(gate.policy.provider_name(provider), model, context_length(gate, provider, model, env))
    };
    let mut data: Vec<Model> = access.models().map(model).collect();
    for (index, state) in gate.providers.iter().enumerate() {
        let listed = listed(gate, index, state, env).unwrap_or_default();
        data.extend(access.only_listed_by(index, listed).map(|name| model((index, &name))));
    }
    models::list(data)
}

/// Returns the context length of a model, where it is known.
pub fn context_length(gate: &Gate, provider: usize, model: &str, env: &Environment<'_>) -> Option<u64> {
    let mut limits = gate.providers.get(provider)?.model_limits.borrow_mut();
    limits.get(env.store, env.recent_time()).of(model).context_length
}

/// Returns the models that the server of a provider with callouts lists, where they are known.
fn listed(gate: &Gate, provider: usize, state: &ProviderState, env: &Environment<'_>) -> Option<Vec<String>> {
    gate.policy.callout(provider)?;
    state.model_limits.borrow().listed(env.store)
}

/// Answers `GET /pai/v1/model-providers`.
pub fn model_providers(gate: &Gate, env: &Environment<'_>) -> Result<Reply, Refusal> {
    let providers = gate.policy.providers.iter().zip(gate.budgets.providers()).zip(&gate.providers).enumerate();
    let items = providers.map(|(index, ((provider, subject), state))| {
        let item = model_provider(provider, subject, state, env)?;
        Ok(ModelProvider { listed: listed(gate, index, state, env), ..item })
    });
    let items = items.collect::<Result<_, Unavailable>>().map_err(unavailable)?;
    Ok(json(&ModelProviders { ledger_since: rfc3339(start::seconds(env.store)), items }))
}

/// Answers `GET /pai/v1/agents`.
pub fn agents(gate: &Gate, page: &Page, env: &Environment<'_>) -> Result<Reply, Refusal> {
    let names: Vec<&str> = gate.policy.agents.iter().map(|agent| &*agent.name).collect();
    let (selected, next) = page.select(&names);
    let selected = selected.into_iter().filter_map(|index| Some((index, gate.policy.agents.get(index)?)));
    let items = selected.map(|(index, agent)| {
        let references = agent.models.iter();
        Ok(Agent {
            name: agent.name.to_string(),
            models: references.map(|one| format!("{}/{}", gate.policy.provider_name(one.provider), one.model)).collect(),
            max_tokens_per_day: agent.max_tokens_per_day.map(Into::into),
            usage: caller_usage(gate, Caller::Agent(index), env)?,
        })
    });
    let items: Vec<Agent> = items.collect::<Result<_, Unavailable>>().map_err(unavailable)?;
    Ok(json(&List { items, next }))
}

/// Answers `GET /pai/v1/access-keys`.
pub fn access_keys(gate: &Gate, page: &Page, env: &Environment<'_>) -> Result<Reply, Refusal> {
    let names: Vec<&str> = gate.policy.keys.iter().map(|key| &*key.name).collect();
    let (selected, next) = page.select(&names);
    let selected = selected.into_iter().filter_map(|index| Some((index, gate.policy.keys.get(index)?)));
    let items = selected.map(|(index, key)| {
        Ok(AccessKey {
            name: key.name.to_string(),
            models: key.models.as_ref().map(|models| models.iter().map(|one| reference(one, &gate.policy)).collect()),
            max_tokens_per_day: key.max_tokens_per_day.map(Into::into),
            tokens_per_minute: key.tokens_per_minute.map(Into::into),
            requests_per_minute: key.requests_per_minute.map(Into::into),
            usage: caller_usage(gate, Caller::Developer(index), env)?,
            expires: key.expires.map(rfc3339),
            disabled: key.disabled,
        })
    });
    let items: Vec<AccessKey> = items.collect::<Result<_, Unavailable>>().map_err(unavailable)?;
    Ok(json(&List { items, next }))
}

/// Answers `GET /pai/v1/status`.
pub fn status(gate: &Gate, env: &Environment<'_>) -> Reply {
    let worker = |live: &live_workers::LiveWorker| Worker {
        instance: format!("{:016x}", live.instance),
        version: live_workers::hex(&live.version),
    };
    json(&Status {
        module_version: env!("CARGO_PKG_VERSION"),
        version: live_workers::hex(&gate.policy.version),
        started: rfc3339(start::seconds(env.store)),
        access: if gate.policy.admits_anonymous() { "open" } else { "closed" },
        workers: live_workers::list(env.store, env.now()).iter().map(worker).collect(),
    })
}

fn model_provider(
    provider: &Provider,
    subject: &Subject,
    state: &ProviderState,
    env: &Environment<'_>,
) -> Result<ModelProvider, Unavailable> {
    let account = env.ledger().read(subject)?;
    let (used_today, reserved) = counts(subject, BudgetKind::Daily, &account);
    let (external_used, external_reserved) = counts(subject, BudgetKind::ExternalDaily, &account);
    let now = env.now();
    let usage = usage(subject, &account, now);
    let mut limits = state.model_limits.borrow_mut();
    let context_lengths: BTreeMap<_, _> =
        limits.get(env.store, now).context_lengths().map(|(model, length)| (model.to_owned(), length)).collect();
    let cooldown = |(label, model): (String, Time)| Cooldown { model: label, until: rfc3339(model.seconds()) };
    let cooling = provider.models.labels().into_iter().zip(&state.models);
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
        last_used: usage.last_used,
        age: now.seconds().saturating_sub(account.first_seen),
        models: provider.models.allowed.iter().flatten().map(NamePattern::to_string).collect(),
        remaining: usage.remaining,
        resets_at: usage.resets_at,
        context_lengths,
        cooldowns: cooling.filter_map(|(label, model)| Some((label, model.cooldown.until(now)?))).map(cooldown).collect(),
        listed: None,
    })
}

fn caller_usage(gate: &Gate, caller: Caller, env: &Environment<'_>) -> Result<Usage, Unavailable> {
    let Some(subject) = gate.budgets.caller(caller) else { return Ok(Usage::default()) };
    let usage = usage(subject, &env.ledger().read(subject)?, env.now());
    Ok(if gate.budgets.counts_tokens(caller) { usage } else { Usage { used_today: None, reserved: None, ..usage } })
}

fn usage(subject: &Subject, account: &Account, now: Time) -> Usage {
    let (used_today, reserved) = counts(subject, BudgetKind::Daily, account);
    let remaining = |cap: u64| cap.saturating_sub(used_today).saturating_sub(reserved);
    Usage {
        used_today: Some(used_today),
        reserved: Some(reserved),
        remaining: subject.cap(BudgetKind::Daily).map(remaining),
        resets_at: rfc3339(now.seconds() + now.seconds_to_midnight()),
        last_used: (account.last_used > 0).then(|| rfc3339(account.last_used)),
    }
}

/// Returns used and reserved tokens of a budget.
fn counts(subject: &Subject, budget: BudgetKind, account: &Account) -> (u64, u64) {
    let record = subject.index(budget).and_then(|index| account.record(index));
    record.map_or((0, 0), |record: &Record| (record.used, record.reserved()))
}

/// Returns an entry of an access key's `models` as it is written.
fn reference(entry: &ReferencePattern, policy: &Policy) -> String {
    match entry.provider {
        Some(provider) => format!("{}/{}", policy.provider_name(provider), entry.model),
        None => entry.model.to_string(),
    }
}

fn unavailable(_: Unavailable) -> Refusal {
    Refusal::ledger_unavailable()
}
