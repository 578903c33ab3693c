//! The routes: vLLM's paths that the stand-in imitates, and its own control paths.

use super::Options;
use super::response_plan::Api;

/// The route of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Generate(Api),
    Embed,
    Models,
    Tokenize,
    Health,
    Version,
    Counters,
    Requests,
    Fault,
}

// === impl Route ===

impl Route {
    pub fn of(path: &str, options: &Options) -> Option<Self> {
        Some(match path {
            "/v1/chat/completions" => Self::Generate(Api::Chat),
            "/v1/completions" => Self::Generate(Api::Completions),
            "/v1/embeddings" if !options.no_embeddings => Self::Embed,
            "/v1/models" => Self::Models,
            "/tokenize" => Self::Tokenize,
            "/health" => Self::Health,
            "/version" => Self::Version,
            "/standin/counters" => Self::Counters,
            "/standin/requests" => Self::Requests,
            "/standin/fault" => Self::Fault,
            _ => return None,
        })
    }

    pub fn method(self) -> &'static str {
        match self {
            Self::Generate(_) | Self::Embed | Self::Tokenize | Self::Fault => "POST",
            _ => "GET",
        }
    }

    /// Returns whether requests on this route are counted and recorded.
    pub fn counted(self) -> bool {
        matches!(self, Self::Generate(_) | Self::Embed | Self::Models)
    }
}

/// Percent-decodes a path once, as uvicorn does before it routes.
pub(super) fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = (first == b'%').then(|| after.first_chunk::<2>()).flatten();
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
