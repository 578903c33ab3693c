//! Counts and records requests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::HeaderMap;
use serde_json::Value;
use tokio::sync::Notify;

use super::counters::{Counters, MAX_RECORDED_REQUESTS, ModelCounters, Outcome, RecordedRequest};

/// The fields of a request, as far as they could be parsed.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestFacts {
    pub method: hyper::Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub model: Option<String>,
    pub limit: Option<(&'static str, i64)>,
    pub stream: bool,
    pub stream_options: Option<Value>,
    pub n: Option<i64>,
    pub prompt_tokens: u64,
    pub status: u16,
}

/// All counters, and the recorded requests.
#[derive(Default)]
pub(super) struct Recorder {
    totals: Totals,
    models: Vec<(String, ModelTotals)>,
    ring: Mutex<VecDeque<Arc<Entry>>>,
    pub changed: Notify,
}

#[derive(Default)]
struct Totals {
    requests: AtomicU64,
    ended: [AtomicU64; 5],
    streams_open: AtomicU64,
    connections: AtomicU64,
    tokenized: AtomicU64,
}

#[derive(Default)]
struct ModelTotals {
    requests: AtomicU64,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
}

struct Entry {
    facts: RequestFacts,
    completion_tokens: AtomicU64,
    outcome: AtomicU8,
}

/// One request in progress. If it is dropped before its end, it counts as aborted.
pub(super) struct Exchange {
    recorder: Arc<Recorder>,
    entry: Arc<Entry>,
    model: Option<usize>,
    ended: bool,
}

/// An open connection; counted while it exists.
pub(super) struct Connection(Arc<Recorder>);

// === impl Recorder ===

impl Recorder {
    pub fn new(models: &[String]) -> Self {
        let models = models.iter().map(|name| (name.clone(), ModelTotals::default())).collect();
        Self { models, ..Self::default() }
    }

    /// Records a received request.
    pub fn begin(self: &Arc<Self>, facts: RequestFacts) -> Exchange {
        self.totals.requests.fetch_add(1, Relaxed);
        self.totals.streams_open.fetch_add(u64::from(facts.stream), Relaxed);
        let asked = facts.model.as_deref();
        let model = self.models.iter().position(|(name, _)| asked.is_none_or(|asked| asked == name || asked.is_empty()));
        let entry = Arc::new(Entry { facts, completion_tokens: AtomicU64::new(0), outcome: AtomicU8::new(0) });
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let forgotten = if ring.len() >= MAX_RECORDED_REQUESTS { ring.pop_front() } else { None };
        ring.push_back(entry.clone());
        drop(ring);
        drop(forgotten);
        self.changed.notify_waiters();
        Exchange { recorder: self.clone(), entry, model, ended: false }
    }

    /// Records a prompt that was counted at `/tokenize`.
    pub fn record_tokenized(&self) {
        self.totals.tokenized.fetch_add(1, Relaxed);
    }

    pub fn connect(self: &Arc<Self>) -> Connection {
        self.totals.connections.fetch_add(1, Relaxed);
        Connection(self.clone())
    }

    pub fn in_flight(&self) -> u64 {
        let ended: u64 = self.totals.ended.iter().map(|count| count.load(Relaxed)).sum();
        self.totals.requests.load(Relaxed).saturating_sub(ended)
    }

    pub fn counters(&self) -> Counters {
        let ended = |outcome: Outcome| self.totals.ended.get(outcome as usize).map_or(0, |count| count.load(Relaxed));
        let models: BTreeMap<_, _> = self.models.iter().map(|(name, totals)| (name.clone(), totals.snapshot())).collect();
        let mut total = ModelCounters::default();
        models.values().for_each(|model| total.add(model));
        Counters {
            requests: self.totals.requests.load(Relaxed),
            completed: ended(Outcome::Completed),
            refused: ended(Outcome::Refused),
            aborted: ended(Outcome::Aborted),
            cut: ended(Outcome::Cut),
            in_flight: self.in_flight(),
            streams_open: self.totals.streams_open.load(Relaxed),
            connections: self.totals.connections.load(Relaxed),
            tokenized: self.totals.tokenized.load(Relaxed),
            total,
            models,
        }
    }

    pub fn recorded(&self) -> Vec<RecordedRequest> {
        let entries: Vec<_> = self.ring.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        entries.iter().map(|entry| entry.recorded()).collect()
    }

    pub fn clear(&self) {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

// === impl ModelTotals ===

impl ModelTotals {
    fn snapshot(&self) -> ModelCounters {
        ModelCounters {
            requests: self.requests.load(Relaxed),
            prompt_tokens: self.prompt_tokens.load(Relaxed),
            completion_tokens: self.completion_tokens.load(Relaxed),
        }
    }
}

// === impl Exchange ===

impl Exchange {
    /// Counts the prompt: the model starts to process it.
    pub fn prompt(&self) {
        if let Some(totals) = self.totals() {
            totals.requests.fetch_add(1, Relaxed);
            totals.prompt_tokens.fetch_add(self.entry.facts.prompt_tokens, Relaxed);
        }
    }

    /// Counts completion tokens that are sent.
    pub fn sent(&self, tokens: u64) {
        self.entry.completion_tokens.fetch_add(tokens, Relaxed);
        if let Some(totals) = self.totals() {
            totals.completion_tokens.fetch_add(tokens, Relaxed);
        }
        self.recorder.changed.notify_waiters();
    }

    /// Records the outcome: the last byte was handed over, or the response was cut off.
    pub fn end(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.entry.outcome.store(outcome as u8, Relaxed);
        self.recorder.totals.streams_open.fetch_sub(u64::from(self.entry.facts.stream), Relaxed);
        if let Some(count) = self.recorder.totals.ended.get(outcome as usize) {
            count.fetch_add(1, Relaxed);
        }
        self.recorder.changed.notify_waiters();
    }

    fn totals(&self) -> Option<&ModelTotals> {
        self.recorder.models.get(self.model?).map(|(_, totals)| totals)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.end(Outcome::Aborted);
    }
}

// === impl Connection ===

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.totals.connections.fetch_sub(1, Relaxed);
    }
}

// === impl Entry ===

impl Entry {
    fn recorded(&self) -> RecordedRequest {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let facts = &self.facts;
        let headers: Vec<_> = facts.headers.iter().map(|(k, v)| (k.to_string(), lossy(v.as_bytes()))).collect();
        RecordedRequest {
            method: facts.method.to_string(),
            path: facts.path.clone(),
            model: facts.model.clone(),
            limit_field: facts.limit.map(|(field, _)| field),
            limit: facts.limit.map(|(_, limit)| limit),
            stream: facts.stream,
            stream_options: facts.stream_options.clone(),
            n: facts.n,
            prompt_tokens: facts.prompt_tokens,
            completion_tokens: self.completion_tokens.load(Relaxed),
            outcome: Outcome::from_u8(self.outcome.load(Relaxed)),
            status: facts.status,
            authorization: facts.headers.get("authorization").map(|value| lossy(value.as_bytes())),
            headers,
            body: lossy(&facts.body),
        }
    }
}
