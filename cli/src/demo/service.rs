//! Routes requests to the stand-in, and writes errors as vLLM does.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::completion::{Api, Completion};
use super::{MAX_MODEL_LEN, Options, tokens};

/// The body of a response.
pub type Body = BoxBody<Bytes, Infallible>;

/// What all connections share.
#[derive(Debug)]
pub struct Service {
    pub options: Options,
    pub fails: Arc<AtomicBool>,
}

/// An error, as vLLM writes it.
#[derive(Debug, PartialEq)]
pub struct ApiError {
    status: StatusCode,
    body: Value,
}

// === impl Service ===

impl Service {
    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        self.route(request).await.unwrap_or_else(|error| json_response(error.status, &error.body))
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        if self.fails.load(Relaxed) {
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "The stand-in is set to fail", "service_unavailable"));
        }
        let path = request.uri().path().to_owned();
        if path.starts_with("/v1") && !self.is_authorized(&request) {
            return Err(ApiError { status: StatusCode::UNAUTHORIZED, body: json!({"error": "Unauthorized"}) });
        }
        match (request.method(), path.as_str()) {
            (&Method::GET, "/health") => Ok(response(StatusCode::OK, "text/plain", full(""))),
            (&Method::GET, "/v1/models") => Ok(json_response(StatusCode::OK, &self.models())),
            (&Method::POST, "/v1/chat/completions") => self.complete(Api::Chat, &read(request).await?),
            (&Method::POST, "/v1/completions") => self.complete(Api::Text, &read(request).await?),
            (&Method::POST, "/v1/embeddings") => self.embed(&read(request).await?),
            (&Method::POST, "/tokenize") => self.tokenize(&read(request).await?),
            _ => Err(ApiError { status: StatusCode::NOT_FOUND, body: json!({"detail": "Not Found"}) }),
        }
    }

    fn is_authorized<T>(&self, request: &Request<T>) -> bool {
        let Some(key) = &self.options.api_key else {
            return true;
        };
        request.headers().get(AUTHORIZATION).is_some_and(|value| value.as_bytes() == format!("Bearer {key}").as_bytes())
    }

    fn models(&self) -> Value {
        let card = |id: &String| json!({"id": id, "object": "model", "created": 0, "owned_by": "pai-demo", "max_model_len": MAX_MODEL_LEN});
        json!({"object": "list", "data": self.options.models.iter().map(card).collect::<Vec<_>>()})
    }

    fn complete(&self, api: Api, body: &Value) -> Result<Response<Body>, ApiError> {
        let completion = Completion::new(api, self.model(body)?, body)?;
        Ok(match completion.streams() {
            true => response(StatusCode::OK, "text/event-stream; charset=utf-8", completion.stream()),
            false => json_response(StatusCode::OK, &completion.whole()),
        })
    }

    fn embed(&self, body: &Value) -> Result<Response<Body>, ApiError> {
        let (model, input) = (self.model(body)?, body.get("input").unwrap_or(&Value::Null));
        let count = tokens::of_prompt(input);
        let vector = |text: &Value| {
            let sum = text.to_string().bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
            (0..8).map(|index| f64::from(sum.rotate_left(index * 4) % 1000) / 1000.0).collect::<Vec<_>>()
        };
        let item = |(index, text)| json!({"object": "embedding", "index": index, "embedding": vector(text)});
        let data: Vec<_> = tokens::prompts(input).into_iter().enumerate().map(item).collect();
        let usage = json!({"prompt_tokens": count, "total_tokens": count, "completion_tokens": 0});
        Ok(json_response(
            StatusCode::OK,
            &json!({"id": "embd-demo", "object": "list", "created": 0, "model": model, "data": data, "usage": usage}),
        ))
    }

    fn tokenize(&self, body: &Value) -> Result<Response<Body>, ApiError> {
        self.model(body)?;
        let messages = body.get("messages").and_then(Value::as_array);
        let count =
            messages.map_or_else(|| body.get("prompt").map_or(0, tokens::of_prompt), |messages| tokens::of_messages(messages));
        let tokens: Vec<u64> = (0..count).collect();
        Ok(json_response(
            StatusCode::OK,
            &json!({"count": count, "max_model_len": MAX_MODEL_LEN, "tokens": tokens, "token_strs": null}),
        ))
    }

    /// Returns the model that a request names.
    fn model<'a>(&self, body: &'a Value) -> Result<&'a str, ApiError> {
        let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
        let is_served = self.options.models.iter().any(|served| served == model);
        let message = format!("The model `{model}` does not exist.");
        if is_served { Ok(model) } else { Err(ApiError::new(StatusCode::NOT_FOUND, &message, "NotFoundError")) }
    }
}

// === impl ApiError ===

impl ApiError {
    /// Returns an error with vLLM's form.
    pub fn new(status: StatusCode, message: &str, kind: &str) -> Self {
        Self { status, body: json!({"error": {"message": message, "type": kind, "param": null, "code": status.as_u16()}}) }
    }

    /// Returns an error about the request.
    pub fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message, "BadRequestError")
    }
}

async fn read(request: Request<Incoming>) -> Result<Value, ApiError> {
    let body = request.into_body().collect().await.map_err(|_| ApiError::bad_request("The body is incomplete"))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| ApiError::bad_request(&format!("JSON decode error: {error}")))
}

/// Returns a body that is complete.
pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    response(status, "application/json", full(body.to_string()))
}

fn response(status: StatusCode, media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
