//! Which paths are governed.

use std::borrow::Cow;

use crate::openai::Operation;

/// The route of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `GET /health`, `HEAD /health`
    Health,
    /// A request to a model.
    Model(Operation),
    /// `GET /v1/models`
    ListModels,
    /// `GET /v1/models/{ref}`
    RetrieveModel(String),
    /// `GET /pai/v1/model-providers`
    ModelProviders,
    /// `GET /pai/v1/agents`, with its query.
    Agents(String),
    /// `GET /pai/v1/access-keys`, with its query.
    AccessKeys(String),
    /// `GET /pai/v1/status`
    Status,
}

impl Route {
    /// Returns the route of a request line; `None` if the path is not governed. The path is percent-decoded once, as vLLM does, and
    /// compared whole: `/v1/%63ompletions` is `/v1/completions`.
    pub fn parse(method: &[u8], target: &[u8]) -> Option<Self> {
        let mut parts = target.splitn(2, |&b| b == b'?');
        let path = percent_decode(parts.next().unwrap_or_default())?;
        let mut query = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        match (method, &*path) {
            (b"POST", b"/v1/chat/completions") => Some(Self::Model(Operation::Chat)),
            (b"POST", b"/v1/completions") => Some(Self::Model(Operation::TextCompletion)),
            (b"POST", b"/v1/embeddings") => Some(Self::Model(Operation::Embeddings)),
            (b"GET" | b"HEAD", b"/health") => Some(Self::Health),
            (b"GET", b"/v1/models") => Some(Self::ListModels),
            (b"GET", b"/pai/v1/model-providers") => Some(Self::ModelProviders),
            (b"GET", b"/pai/v1/agents") => Some(Self::Agents(query())),
            (b"GET", b"/pai/v1/access-keys") => Some(Self::AccessKeys(query())),
            (b"GET", b"/pai/v1/status") => Some(Self::Status),
            (b"GET", path) => {
                let reference = path.strip_prefix(b"/v1/models/").filter(|reference| !reference.is_empty())?;
                String::from_utf8(reference.to_vec()).ok().map(Self::RetrieveModel)
            }
            _ => None,
        }
    }

    /// Returns who may use this route, where not everybody may who may use the gateway.
    pub fn readers(&self) -> Option<Readers> {
        match self {
            Self::Health | Self::Model(_) | Self::ListModels | Self::RetrieveModel(_) => None,
            Self::ModelProviders => Some(Readers::Workloads),
            Self::Agents(_) | Self::AccessKeys(_) | Self::Status => Some(Readers::Operators),
        }
    }
}

/// Who may read an endpoint under `/pai/v1/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Agents, anonymous ones too, and operators.
    Workloads,
    /// Operators only.
    Operators,
}

/// Decodes `%XX` once. Returns `None` if a percent sign is not followed by two hexadecimal digits.
fn percent_decode(path: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !path.contains(&b'%') {
        return Some(Cow::Borrowed(path));
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            decoded.push(byte);
            rest = tail;
            continue;
        }
        let (&[high, low], tail) = tail.split_first_chunk()?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        decoded.push(u8::try_from(digit(high)? << 4 | digit(low)?).ok()?);
        rest = tail;
    }
    Some(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn only_governed_lines_have_a_route() {
        let chat = Some(Route::Model(Operation::Chat));
        let model = |reference: &str| Some(Route::RetrieveModel(reference.to_owned()));
        for (method, target, expected) in [
            ("POST", "/v1/chat/completions", chat.clone()),
            ("POST", "/v1/chat/completions?api-version=1", chat.clone()),
            ("POST", "/v1/chat%2Fcompletions", chat.clone()),
            ("POST", "/%761/%63hat/completions", chat.clone()),
            ("POST", "/v1/completions", Some(Route::Model(Operation::TextCompletion))),
            ("POST", "/v1/embeddings", Some(Route::Model(Operation::Embeddings))),
            ("GET", "/v1/models", Some(Route::ListModels)),
            ("GET", "/v1/models/a%2Fb%2Fc", model("a/b/c")),
            ("GET", "/v1/models/a/b", model("a/b")),
            ("GET", "/pai/v1/model-providers", Some(Route::ModelProviders)),
            ("GET", "/pai/v1/agents", Some(Route::Agents(String::new()))),
            ("GET", "/pai/v1/access-keys?after=a&limit=9?", Some(Route::AccessKeys("after=a&limit=9?".to_owned()))),
            ("GET", "/pai/v1/status?x", Some(Route::Status)),
            ("GET", "/health", Some(Route::Health)),
            ("HEAD", "/health?full=1", Some(Route::Health)),
            ("POST", "/health", None),
            ("GET", "/health/", None),
            ("GET", "/healthz", None),
            ("POST", "/pai/v1/status", None),
            ("POST", "/v1/chat%252Fcompletions", None),
            ("POST", "/v1/chat/completions/", None),
            ("POST", "//v1/chat/completions", None),
            ("POST", "/v1/./chat/completions", None),
            ("POST", "/V1/chat/completions", None),
            ("POST", "/v1/chat/completions;x", None),
            ("POST", "/v1/chat/completions%3f", None),
            ("POST", "/v1/chat/completions%", None),
            ("POST", "/v1/chat/completions/batch", None),
            ("POST", "/invocations", None),
            ("post", "/v1/chat/completions", None),
            ("GET", "/v1/chat/completions", None),
            ("HEAD", "/v1/models", None),
            ("GET", "/v1/models/", None),
            ("GET", "/v1/models/%ff", None),
            ("DELETE", "/v1/models/a", None),
            ("GET", "/metrics", None),
            ("GET", "", None),
        ] {
            assert_eq!(Route::parse(method.as_bytes(), target.as_bytes()), expected, "{method} {target}");
        }
    }
}
