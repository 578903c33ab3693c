//! The stand-in's options: models, context length, speed, compatibility flags.

use std::time::Duration;

use super::Fault;

/// The two names under which the captured server served its one model.
pub const CAPTURED_MODELS: [&str; 2] = ["meta-llama/Meta-Llama-3-70B-Instruct", "mistralai/Mistral-7B-Instruct-v0.3"];

/// Options of a stand-in; [`Options::default`] is the captured server with tools and embeddings enabled.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Model id to serve; repeatable. As in vLLM, responses contain the first
    #[arg(long = "model", value_name = "NAME", default_values_t = CAPTURED_MODELS.map(String::from))]
    pub models: Vec<String>,
    /// Context length: prompt and completion together
    #[arg(long, value_name = "TOKENS", default_value_t = 4096)]
    pub max_model_len: u64,
    /// API key that /v1 requires as a bearer token; repeatable
    #[arg(long = "api-key", value_name = "KEY")]
    pub api_keys: Vec<String>,
    /// Time to the first token (`250ms`, `1s`)
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0")]
    pub latency: Duration,
    /// Time between tokens
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0")]
    pub token_interval: Duration,
    /// Natural length of a completion
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub tokens: u64,
    /// Bytes of text that count as one prompt token
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    pub bytes_per_token: u64,
    /// Prompt tokens per image; without this option images are rejected, as by a text model
    #[arg(long, value_name = "N")]
    pub image_tokens: Option<u64>,
    /// Fault of every response, comma-separated: see --help
    #[arg(long, value_name = "SPEC", default_value = "")]
    pub fault: Fault,
    /// Reject prompt + max_tokens beyond the context length, as vLLM did before it clamped
    #[arg(long)]
    pub legacy_length: bool,
    /// Like vLLM's --enable-request-id-headers
    #[arg(long)]
    pub request_id_headers: bool,
    /// Like vLLM's --enable-prompt-tokens-details
    #[arg(long)]
    pub prompt_tokens_details: bool,
    /// Like vLLM's --enable-force-include-usage
    #[arg(long)]
    pub force_usage: bool,
    /// Reject tools, as a server without a tool call parser does
    #[arg(long)]
    pub no_tools: bool,
    /// Do not serve /v1/embeddings, like a server of a generative model
    #[arg(long)]
    pub no_embeddings: bool,
    /// Time after which idle connections are closed
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    pub keep_alive: Duration,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            models: CAPTURED_MODELS.map(String::from).to_vec(),
            max_model_len: 4096,
            api_keys: Vec::new(),
            latency: Duration::ZERO,
            token_interval: Duration::ZERO,
            tokens: 64,
            bytes_per_token: 4,
            image_tokens: None,
            fault: Fault::default(),
            legacy_length: false,
            request_id_headers: false,
            prompt_tokens_details: false,
            force_usage: false,
            no_tools: false,
            no_embeddings: false,
            keep_alive: Duration::from_secs(5),
        }
    }
}

impl Options {
    /// Returns the name in responses, whichever alias was requested.
    pub fn canonical_model(&self) -> &str {
        self.models.first().map_or("", String::as_str)
    }
}

/// Parses `250ms`, `1.5s`, `2m` or plain seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("`{text}` is not a duration such as `250ms` or `1s`");
    let (number, unit) = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)]
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
        .unwrap_or((text, 1.0));
    let seconds = number.parse::<f64>().map_err(|_| invalid())? * unit;
    Duration::try_from_secs_f64(seconds).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in [("0", 0), ("250ms", 250), ("1.5s", 1500), ("2m", 120_000), ("3", 3000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(want)), "{text}");
        }
        for text in ["", "ms", "-1s", "1h", "infs"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
