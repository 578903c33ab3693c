//! Handles requests: routing, API keys and faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, VARY};
use hyper::{Request, Response, StatusCode, Version};

use super::counters::{MAX_RECORDED_BODY, Outcome};
use super::error::ApiError;
use super::head::{EVENTS, JSON, REQUEST_ID, response};
use super::recorder::{Exchange, Recorder, RequestFacts};
use super::response_body::{ConnectionCut, ResponseBody};
use super::response_plan::{Api, ResponsePlan};
use super::route::{Route, decoded};
use super::socket::ResetFlag;
use super::{Fault, Options, embeddings, json_response, lenient_json, models, request, tokenize};

const FAULT_HEADER: HeaderName = HeaderName::from_static("x-standin-fault");

/// The state shared by all connections.
pub(super) struct Server {
    pub options: Options,
    pub recorder: Arc<Recorder>,
    pub fault: Mutex<Fault>,
    pub serial: AtomicU64,
}

/// One parsed request.
struct Call {
    facts: RequestFacts,
    fields: Result<lenient_json::Fields, ApiError>,
    fault: Fault,
    reset: Option<ResetFlag>,
    echo_id: Option<HeaderValue>,
}

// === impl Server ===

impl Server {
    /// Handles one request; an error cuts the connection.
    pub async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        reset: ResetFlag,
    ) -> Result<Response<ResponseBody>, ConnectionCut> {
        let (parts, body) = request.into_parts();
        let path = decoded(parts.uri.path());
        let route = Route::of(&path, &self.options);
        let Some(route) = route.filter(|route| route.method() == parts.method.as_str()) else {
            return Ok(self.unrouted(route, &parts.headers));
        };
        let Ok(body) = body.collect().await else {
            return Err(ConnectionCut);
        };
        let body = body.to_bytes();
        if !route.counted() {
            return Ok(self.control(route, &body));
        }
        let fields = if route == Route::Models { Ok(lenient_json::Fields::new()) } else { read(&parts.headers, &body) };
        let fault = self.fault_for(&parts.headers, fields.as_ref().ok());
        let mut facts = RequestFacts { method: parts.method, status: 200, ..RequestFacts::default() };
        facts.path = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
        facts.headers = parts.headers;
        facts.body = Bytes::copy_from_slice(body.get(..MAX_RECORDED_BODY).unwrap_or(&body));
        if let Ok(fields) = &fields {
            request::record_fields(&mut facts, fields);
        }
        let echo_id = self.echo_id(&facts.headers);
        let reset = (parts.version < Version::HTTP_2).then_some(reset);
        self.call(route, &path, Call { facts, fields, fault, reset, echo_id }).await
    }

    async fn call(&self, route: Route, path: &str, call: Call) -> Result<Response<ResponseBody>, ConnectionCut> {
        if !self.authorized(path, &call.facts.headers) {
            return Ok(self.error_response(call, &ApiError::Unauthorized));
        }
        if call.fault.reset_before_headers || call.fault.hang {
            return self.no_answer(call).await;
        }
        if let Some(status) = call.fault.status.and_then(|status| StatusCode::from_u16(status).ok()) {
            wait(call.fault.latency.unwrap_or(self.options.latency)).await;
            return Ok(self.error_response(call, &ApiError::injected(status)));
        }
        match route {
            Route::Generate(api) => self.generate(api, call).await,
            Route::Embed => Ok(self.embed(call)),
            _ => Ok(self.simple(call, models::body(&self.options))),
        }
    }

    async fn generate(&self, api: Api, mut call: Call) -> Result<Response<ResponseBody>, ConnectionCut> {
        let id = self.id(if api == Api::Chat { "chatcmpl-" } else { "cmpl-" }, &call);
        let fault = call.fault.clone();
        let plan = match &call.fields {
            Ok(fields) => request::plan(api, fields, &self.options, fault, id),
            Err(refusal) => Err(refusal.clone()),
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(refusal) => return Ok(self.error_response(call, &refusal)),
        };
        call.facts.stream = plan.stream;
        call.facts.prompt_tokens = plan.prompt_tokens;
        let exchange = self.recorder.begin(call.facts);
        exchange.prompt();
        let interval = plan.fault.interval.unwrap_or(self.options.token_interval);
        wait(plan.fault.latency.unwrap_or(self.options.latency)).await;
        if plan.stream {
            let fault = plan.fault.clone();
            let reply = ResponseBody::events(plan, interval, exchange, call.reset);
            return Ok(response(StatusCode::OK, EVENTS, &fault, call.echo_id, reply));
        }
        answer_whole(plan, interval, exchange, call.reset, call.echo_id).await
    }

    fn embed(&self, mut call: Call) -> Response<ResponseBody> {
        let id = self.id("embd-", &call);
        let answer = call
            .fields
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|fields| embeddings::answer(fields, &self.options, &call.fault, &id));
        match answer {
            Err(refusal) => self.error_response(call, &refusal),
            Ok((prompt_tokens, body)) => {
                call.facts.prompt_tokens = prompt_tokens;
                self.simple(call, body.into())
            }
        }
    }

    /// Responds with 200 and this body.
    fn simple(&self, call: Call, body: Bytes) -> Response<ResponseBody> {
        let exchange = self.recorder.begin(call.facts);
        exchange.prompt();
        let reply = ResponseBody::whole(body, &call.fault, Some(exchange), Outcome::Completed);
        response(StatusCode::OK, JSON, &call.fault, call.echo_id, reply)
    }

    fn error_response(&self, mut call: Call, refusal: &ApiError) -> Response<ResponseBody> {
        call.facts.status = refusal.status().as_u16();
        call.facts.stream = false;
        let exchange = self.recorder.begin(call.facts);
        let reply = ResponseBody::whole(refusal.body(), &call.fault, Some(exchange), Outcome::Refused);
        let mut response = response(refusal.status(), JSON, &call.fault, call.echo_id, reply);
        if *refusal == ApiError::Unauthorized {
            response.headers_mut().remove(VARY); // vLLM rejects it before its CORS middleware
        }
        response
    }

    async fn no_answer(&self, mut call: Call) -> Result<Response<ResponseBody>, ConnectionCut> {
        call.facts.status = 0;
        let mut exchange = self.recorder.begin(call.facts);
        if call.fault.hang {
            return std::future::pending().await;
        }
        exchange.end(Outcome::Cut);
        cut(call.reset)
    }

    /// Handles unknown paths, wrong methods and trailing slashes.
    fn unrouted(&self, route: Option<Route>, headers: &HeaderMap) -> Response<ResponseBody> {
        let refusal = match route {
            Some(_) => ApiError::Detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
            None => ApiError::Detail(StatusCode::NOT_FOUND, "Not Found"),
        };
        let healthy = Fault::default();
        let reply = ResponseBody::whole(refusal.body(), &healthy, None, Outcome::Refused);
        let mut response = response(refusal.status(), JSON, &healthy, self.echo_id(headers), reply);
        if let Some(route) = route {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(route.method()));
        }
        response
    }

    /// Handles the stand-in's own control paths.
    fn control(&self, route: Route, body: &[u8]) -> Response<ResponseBody> {
        let json = |value: Result<Vec<u8>, serde_json::Error>| (StatusCode::OK, value.unwrap_or_default());
        let (status, body) = match route {
            Route::Version => (StatusCode::OK, br#"{"version":"0.32.0"}"#.to_vec()),
            Route::Tokenize => match tokenize::answer(body, &self.options) {
                Ok(answer) => {
                    self.recorder.record_tokenized();
                    (StatusCode::OK, answer)
                }
                Err(refusal) => (refusal.status(), refusal.body().to_vec()),
            },
            Route::Counters => json(serde_json::to_vec(&self.recorder.counters())),
            Route::Requests => json(serde_json::to_vec(&self.recorder.recorded())),
            Route::Fault => match String::from_utf8_lossy(body).parse() {
                Ok(fault) => {
                    *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
                    (StatusCode::OK, b"{}".to_vec())
                }
                Err(error) => (StatusCode::BAD_REQUEST, error.into_bytes()),
            },
            _ => (StatusCode::OK, Vec::new()),
        };
        let healthy = Fault::default();
        let bare = body.is_empty();
        let reply = ResponseBody::whole(body.into(), &healthy, None, Outcome::Completed);
        let mut response = response(status, JSON, &healthy, None, reply);
        if bare {
            response.headers_mut().remove(CONTENT_TYPE);
        }
        response
    }

    fn authorized(&self, path: &str, headers: &HeaderMap) -> bool {
        let keys = &self.options.api_keys;
        if keys.is_empty() || !path.starts_with("/v1") {
            return true;
        }
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (scheme, key) = given.split_once(' ').unwrap_or_default();
        scheme.eq_ignore_ascii_case("bearer") && keys.iter().any(|known| known == key)
    }

    fn fault_for(&self, headers: &HeaderMap, fields: Option<&lenient_json::Fields>) -> Fault {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).next();
        let specs = [
            headers.get(FAULT_HEADER).and_then(|value| value.to_str().ok()),
            fields.and_then(|fields| fields.get("standin_fault")?.as_str()),
        ];
        for spec in specs.into_iter().flatten() {
            if let Err(error) = fault.add(spec) {
                eprintln!("stand-in: {error}");
            }
        }
        fault
    }

    fn id(&self, prefix: &str, call: &Call) -> String {
        let header = call.facts.headers.get(REQUEST_ID).map(|value| value.as_bytes().iter().map(|b| char::from(*b)).collect());
        let field = || Some(call.fields.as_ref().ok()?.get("request_id")?.as_str()?.to_owned());
        let given: Option<String> = header.or_else(field);
        prefix.to_owned() + &given.unwrap_or_else(|| format!("{:016x}", self.number()))
    }

    fn echo_id(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if !self.options.request_id_headers {
            return None;
        }
        let fresh = || format!("{:016x}{:016x}", self.number(), self.number()).parse().ok();
        headers.get(REQUEST_ID).cloned().or_else(fresh)
    }

    /// Returns a number that looks random and never repeats.
    fn number(&self) -> u64 {
        let mut x = self.serial.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

async fn answer_whole(
    plan: ResponsePlan,
    interval: Duration,
    mut exchange: Exchange,
    reset: Option<ResetFlag>,
    echo_id: Option<HeaderValue>,
) -> Result<Response<ResponseBody>, ConnectionCut> {
    let rounds = plan.choices.iter().map(|choice| choice.length).max().unwrap_or(0);
    wait(interval.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX))).await;
    if plan.fault.hang_after_events.is_some() {
        return std::future::pending().await;
    }
    if plan.fault.reset_after_events.is_some() {
        exchange.end(Outcome::Cut);
        return cut(reset);
    }
    exchange.sent(plan.completion_tokens());
    let reply = ResponseBody::whole(json_response::body(&plan).into(), &plan.fault, Some(exchange), Outcome::Completed);
    Ok(response(StatusCode::OK, JSON, &plan.fault, echo_id, reply))
}

fn cut(reset: Option<ResetFlag>) -> Result<Response<ResponseBody>, ConnectionCut> {
    if let Some(reset) = reset {
        reset.store(true, Relaxed);
    }
    Err(ConnectionCut)
}

async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// Checks the media type and parses the JSON.
fn read(headers: &HeaderMap, body: &[u8]) -> Result<lenient_json::Fields, ApiError> {
    let given = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let media_type = given.split(|byte| *byte == b';').next().unwrap_or_default();
    if !media_type.eq_ignore_ascii_case(b"application/json") {
        let line = "Unsupported Media Type: Only 'application/json' is allowed";
        return Err(ApiError::validation(line, None));
    }
    lenient_json::object(body)
}
