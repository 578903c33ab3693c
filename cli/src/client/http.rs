//! Requests to a gateway.

use std::time::Duration;

use reqwest::blocking::{Client as Http, RequestBuilder, Response};
use reqwest::header::LOCATION;
use reqwest::{Certificate, StatusCode, redirect};
use serde::Deserialize;
use serde_json::Value;

use super::{GatewayUrl, Target, problem};
use crate::failure::Failure;
use crate::output;

const CONNECT: Duration = Duration::from_secs(10);
const LIST_MODELS: Duration = Duration::from_secs(30);
/// How much of an answer that is not JSON an error message quotes.
const MAX_QUOTE: usize = 200;

/// Sends requests to one gateway, with one access key or none.
#[derive(Debug)]
pub struct Client {
    target: Target,
    http: Http,
}

/// One entry of `GET /v1/models`.
#[derive(Debug, Deserialize)]
pub struct Model {
    /// The model reference.
    pub id: String,
    /// The provider.
    #[serde(default)]
    pub owned_by: String,
    /// The context length, if the gateway knows it.
    pub max_model_len: Option<u64>,
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<Model>,
}

// === impl Client ===

impl Client {
    /// Prepares requests to a gateway.
    pub fn new(target: Target) -> Result<Self, Failure> {
        let mut builder = Http::builder()
            .user_agent(concat!("pai/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .timeout(None)
            .redirect(redirect::Policy::none())
            .tls_built_in_root_certs(target.url.is_encrypted() && target.ca_cert.is_none());
        if target.url.is_loopback() {
            builder = builder.no_proxy();
        }
        for certificate in target.certificates()? {
            builder = builder.add_root_certificate(certificate);
        }
        let http = builder.build().map_err(|error| problem::unreachable(&target.url, &error))?;
        Ok(Self { target, http })
    }

    /// Returns the gateway.
    pub fn url(&self) -> &GatewayUrl {
        &self.target.url
    }

    /// Returns the models that the gateway lists for this access key.
    pub fn models(&self) -> Result<Vec<Model>, Failure> {
        let request = self.http.get(format!("{}/models", self.url().openai())).timeout(LIST_MODELS);
        let text = self.send(request)?.text().map_err(|error| problem::unreachable(self.url(), &error))?;
        let list: ModelList = serde_json::from_str(&text).map_err(|_| {
            let url = self.url();
            Failure::refused(format!(
                "{url}/v1/models answers, but not with a list of models\n  Check that this is the URL of the gateway"
            ))
        })?;
        Ok(list.data)
    }

    /// Sends a chat completion request and returns the response, which may still be under way.
    pub fn chat(&self, body: &Value) -> Result<Response, Failure> {
        self.send(self.http.post(format!("{}/chat/completions", self.url().openai())).json(body))
    }

    fn send(&self, mut request: RequestBuilder) -> Result<Response, Failure> {
        if let Some(key) = &self.target.access_key {
            request = request.bearer_auth(key.reveal());
        }
        let response = request.send().map_err(|error| problem::unreachable(self.url(), &error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response)) }
    }

    fn refusal(&self, response: Response) -> Failure {
        let (url, status) = (self.url().clone(), response.status());
        if let Some(location) = response.headers().get(LOCATION).filter(|_| status.is_redirection()) {
            let location = output::printable(&String::from_utf8_lossy(location.as_bytes()));
            return Failure::refused(format!("{url} redirects to {location}\n  Use the URL of the gateway itself"));
        }
        let body = response.text().unwrap_or_default();
        match (status, reported(&body)) {
            (StatusCode::UNAUTHORIZED, message) => {
                let (rejected, message) = (self.rejected(), message.unwrap_or_else(|| quoted(status, &body)));
                Failure::refused(format!("{url} {rejected}: {message}\n  {}", self.log_in()))
            }
            (_, Some(message)) => Failure::refused(message),
            (StatusCode::NOT_FOUND, None) => {
                Failure::refused(format!("{url} is not a gateway: {}\n  Check the URL", quoted(status, &body)))
            }
            (_, None) => Failure::refused(format!("{url} answers with {}", quoted(status, &body))),
        }
    }

    fn rejected(&self) -> &'static str {
        if self.target.access_key.is_some() { "rejects the access key" } else { "requires an access key" }
    }

    fn log_in(&self) -> String {
        format!("Log in with a valid key: pai login {} --access-key pak_…", self.url())
    }
}

/// Returns the error message in a response of a gateway. OpenAI and Anthropic have the same form.
pub fn reported(body: &str) -> Option<String> {
    let json: Value = serde_json::from_str(body).ok()?;
    json.get("error")?.get("message")?.as_str().map(output::printable)
}

/// Returns the status and the first line of a response that is not from a gateway.
fn quoted(status: StatusCode, body: &str) -> String {
    let line: String = output::printable(body.lines().next().unwrap_or_default()).chars().take(MAX_QUOTE).collect();
    format!("HTTP {status} {line}").trim_end().to_owned()
}

/// Reads the certificates of a PEM file.
pub fn certificates(pem: &[u8]) -> Option<Vec<Certificate>> {
    Certificate::from_pem_bundle(pem).ok().filter(|certificates| !certificates.is_empty())
}
