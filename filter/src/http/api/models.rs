//! What the gate answers by itself: models and providers, as this caller may know them.

use serde::Serialize;

use crate::clock::{self, Time};
use crate::exchange::environment::Environment;
use crate::exchange::gate::{Gate, place};
use crate::http::refusal::{Case, Refusal, Reply, printable};
use crate::identity::model_access::{DenialReason, ModelAccess, UnresolvedModel};
use crate::openai::is_model_name;
use crate::policy::name_pattern::NamePattern;

/// The key under which the ledger keeps the moment it began, in seconds since 1970.
const SINCE: &str = "pai/1/since";

#[derive(Serialize)]
struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProviderList {
    ledger_since: String,
    items: Vec<ProviderItem>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProviderItem {
    name: String,
    provider: &'static str,
    endpoint: String,
    max_tokens_per_day: Option<u64>,
    used_today: u64,
    reserved: u64,
    external: ExternalItem,
    last_used: Option<String>,
    age: u64,
    models: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalItem {
    enabled: bool,
    max_tokens_per_day: Option<u64>,
    used_today: u64,
    reserved: u64,
}

/// `GET /v1/models`
pub fn list(access: &ModelAccess<'_>) -> Reply {
    let data = access.references().map(|(provider, id)| Model::new(id, &provider.name)).collect();
    json(&ModelList { object: "list", data })
}

/// `GET /v1/models/{ref}`
pub fn retrieve(access: &ModelAccess<'_>, name: &str) -> Result<Reply, Refusal> {
    let found = Some(name).filter(|name| is_model_name(name)).and_then(|name| access.resolve(name).ok());
    let candidate = found.ok_or_else(|| not_found(access, name))?;
    let provider = access.provider_name(candidate.provider);
    Ok(json(&Model::new(format!("{provider}/{}", candidate.model), provider)))
}

/// `GET /pai/v1/model-providers`
pub fn providers(gate: &Gate, env: &Environment<'_>) -> Result<Reply, Refusal> {
    let items = gate.policy.providers.iter().zip(&gate.providers).map(|(provider, state)| {
        let account = env.ledger().read(&state.subject)?;
        let [daily, share] = [place::DAY, place::EXTERNAL].map(|place| account.record(place).cloned().unwrap_or_default());
        let external = provider.external;
        Ok(ProviderItem {
            name: provider.name.to_string(),
            provider: provider.dialect.name(),
            endpoint: provider.endpoint.url.to_string(),
            max_tokens_per_day: provider.max_tokens_per_day.map(Into::into),
            used_today: daily.used,
            reserved: daily.reserved(),
            external: ExternalItem {
                enabled: external.is_some_and(|external| external.enabled),
                max_tokens_per_day: external.and_then(|external| external.max_tokens_per_day).map(Into::into),
                used_today: share.used,
                reserved: share.reserved(),
            },
            last_used: (account.last_used > 0).then(|| clock::rfc3339(account.last_used)),
            age: env.now().seconds().saturating_sub(account.first_seen),
            models: provider.models.allowed.iter().flatten().map(NamePattern::to_string).collect(),
        })
    });
    let items = items.collect::<Result<_, crate::budget::ledger::Unavailable>>().map_err(|_| Refusal::ledger_unavailable())?;
    Ok(json(&ProviderList { ledger_since: clock::rfc3339(since(env)), items }))
}

/// No such model, as far as this caller can see.
pub fn not_found(access: &ModelAccess<'_>, name: &str) -> Refusal {
    let suggestions = access.suggestions();
    let hint = if suggestions.is_empty() {
        "Name a model that you may use as `<provider>/<model-id>`.".to_owned()
    } else {
        format!("You may use, for example: {}.", suggestions.join(", "))
    };
    Refusal::new(Case::ModelNotFound, format!("The model `{}` does not exist. {hint}", printable(name))).about(Some("model"))
}

/// Why a name names no candidate, for its sender.
pub fn unresolved(access: &ModelAccess<'_>, name: &str, unresolved: UnresolvedModel) -> Refusal {
    match unresolved {
        UnresolvedModel::NotFound => not_found(access, name),
        UnresolvedModel::Ambiguous => {
            let hint = access.suggestions().join(", ");
            let why = format!("More than one provider serves `{name}`. Name one as `<provider>/<model-id>`, for example: {hint}.");
            Refusal::new(Case::ModelNotFound, why).about(Some("model"))
        }
        UnresolvedModel::NotAllowed(provider, barrier) => {
            let provider = access.provider_name(provider);
            let why = match barrier {
                DenialReason::NotAllowedByProvider => format!("is not allowed on provider `{provider}`"),
                DenialReason::NotExternal => {
                    format!("cannot be used with an access key: provider `{provider}` has no `externalAccess`")
                }
                DenialReason::NotAllowedForKey => "is not in `spec.models` of this access key".to_owned(),
                DenialReason::NotAllowedForAgent => "is not in `spec.models` of this agent".to_owned(),
            };
            let why = format!("The model `{name}` {why}. Ask the operator, or use another model.");
            Refusal::new(Case::ModelNotAllowed, why).about(Some("model"))
        }
    }
}

/// Notes when the ledger began, unless it is known.
pub fn begin(env: &Environment<'_>) {
    if env.store.get(SINCE).0.is_none() {
        // Who loses this race finds it done.
        let _ = env.store.set(SINCE, &env.now().seconds().to_le_bytes(), 0);
    }
}

fn since(env: &Environment<'_>) -> u64 {
    let bytes = env.store.get(SINCE).0.unwrap_or_default();
    bytes.try_into().map_or(Time::default().seconds(), u64::from_le_bytes)
}

fn json(document: &impl Serialize) -> Reply {
    // Documents of strings and numbers have a JSON form.
    Reply::json(serde_json::to_vec(document).unwrap_or_default())
}

impl Model {
    fn new(id: String, provider: &str) -> Self {
        Self { id, object: "model", created: 0, owned_by: provider.to_owned() }
    }
}
