//! Asks each provider for its models, and says in words what it found.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::Client;
use serde::Deserialize;

use super::Drift;
use crate::failure::innermost;
use crate::manifest::Manifest;

/// How long a provider may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Models that are named in a line.
const SHOWN: usize = 5;

/// The state of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether requests can succeed.
    pub is_good: bool,
    /// One sentence about it.
    pub text: String,
    /// The models that the server lists.
    pub models: Vec<String>,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

/// Asks the server of a provider for its models, with the provider's key if it has one.
pub fn probe(provider: &Manifest, key: Option<&str>) -> Finding {
    let endpoint = provider.spec_text("endpoint").trim_end_matches('/');
    let url = format!("{endpoint}/models");
    let client = Client::builder().timeout(TIMEOUT).no_proxy().build().unwrap_or_default();
    let mut request = client.get(url);
    if let Some(key) = key {
        request = request.bearer_auth(key).header("x-api-key", key).header("anthropic-version", "2023-06-01");
    }
    let what = format!("{} at {endpoint}", server(provider));
    let bad = |text: String| Finding { is_good: false, text, models: Vec::new() };
    match request.send() {
        Err(error) if error.is_timeout() => bad(format!("{what} does not answer within {} s", TIMEOUT.as_secs())),
        Err(error) if error.is_connect() => bad(format!("no server at {endpoint}: {}", innermost(&error))),
        Err(error) => bad(format!("{what} gives no answer: {}", innermost(&error))),
        Ok(response) => match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                bad(unauthorized(provider, &what, response.status(), key.is_some()))
            }
            status if !status.is_success() => bad(format!("{what} answers {status} to GET /models")),
            _ => match response.json::<Models>() {
                Ok(models) => served(provider, &what, models.data.into_iter().map(|model| model.id).collect()),
                Err(_) => bad(format!("{what} does not list its models in OpenAI's form: is the path of the endpoint right?")),
            },
        },
    }
}

fn server(provider: &Manifest) -> &'static str {
    match provider.spec_text("provider") {
        "vllm" => "vLLM",
        "anthropic" => "Anthropic",
        _ => "the server",
    }
}

fn unauthorized(provider: &Manifest, what: &str, status: StatusCode, has_key: bool) -> String {
    let status = status.as_u16();
    if has_key {
        let name = provider.secret_reference().map_or_else(String::new, |reference| reference.name);
        return format!("{what} answers {status}: it refuses the key of secret {name}; replace it: pai add secret {name} …");
    }
    format!(
        "{what} answers {status}: it wants an API key: pai add secret {name}-token --from-literal api-key=YOUR_TOKEN, and \
         apiKeySecretRef: {{name: {name}-token, key: api-key}} in the manifest",
        name = provider.name
    )
}

fn served(provider: &Manifest, what: &str, models: Vec<String>) -> Finding {
    let list = shown(&models);
    let drift = Drift::between(provider, &models);
    let text = match &drift {
        Some(drift) if !drift.missing.is_empty() => {
            format!("{what} serves {list}; the manifest allows {}, which it does not serve", shown(&drift.missing))
        }
        _ => format!("{what} serves {list}"),
    };
    let serves_some = drift.is_none_or(|drift| drift.not_allowed.len() < models.len());
    Finding { is_good: serves_some && !models.is_empty(), text, models }
}

fn shown(models: &[String]) -> String {
    match models {
        [] => "no model".to_owned(),
        models if models.len() <= SHOWN => models.join(", "),
        models => format!(
            "{} and {} more",
            models.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "),
            models.len().saturating_sub(SHOWN)
        ),
    }
}
