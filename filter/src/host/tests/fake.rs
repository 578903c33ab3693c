//! A host in memory: one worker, one message at a time, and a list of the calls that were made.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use crate::budget::subject::BudgetKind;
use crate::clock::{Clock, Time};
use crate::exchange::environment::Environment;
use crate::exchange::gate::Gate;
use crate::exchange::step::CalloutRequest;
use crate::exchange::worker::Worker;
use crate::host::attempt::Attempt;
use crate::host::io::{Attribute, Body, HeaderMap, Io};
use crate::host::stream::Stream;
use crate::host::streams::Streams;
use crate::http::headers::{HeaderEdit, Headers};
use crate::http::refusal::Reply;
use crate::identity::peer_identity::Peer;
use crate::metrics::{Kind, Meter};
use crate::store::{Memory, Store};

/// The calls, by their kinds.
pub mod call {
    pub const HEADERS: &str = "read headers";
    pub const EDIT: &str = "edit a header";
    pub const BODY: &str = "read a body";
    pub const REPLACE: &str = "replace a body";
    pub const REPLY: &str = "reply";
    pub const RESUME: &str = "resume";
    pub const STATE: &str = "set filter state";
    pub const ATTRIBUTE: &str = "read an attribute";
    pub const CLOCK: &str = "read the clock";
    pub const GET: &str = "read shared data";
    pub const SET: &str = "write shared data";
    pub const METRIC: &str = "write a metric";
}

type Pairs = Vec<(String, Vec<u8>)>;

/// The host.
pub struct Fake {
    pub streams: Rc<Streams<Stream>>,
    pub worker: RefCell<Worker>,
    now: Cell<Time>,
    uptime: Cell<Duration>,
    store: Memory,
    calls: RefCell<Vec<&'static str>>,
    headers: RefCell<[Pairs; 4]>,
    bodies: RefCell<[Vec<u8>; 3]>,
    attributes: RefCell<HashMap<String, Vec<u8>>>,
    state: RefCell<BTreeMap<String, Vec<u8>>>,
    replies: RefCell<Vec<u16>>,
    entered: RefCell<Vec<u32>>,
    callouts: RefCell<Vec<String>>,
    refuses_callouts: Cell<bool>,
}

impl Fake {
    pub fn new() -> Self {
        Self {
            streams: Rc::new(Streams::new(1)),
            worker: RefCell::new(Worker::new(1)),
            now: Cell::new(Time(43_200_000_000_000)),
            uptime: Cell::new(Duration::ZERO),
            store: Memory::default(),
            calls: RefCell::default(),
            headers: RefCell::default(),
            bodies: RefCell::default(),
            attributes: RefCell::default(),
            state: RefCell::default(),
            replies: RefCell::default(),
            entered: RefCell::default(),
            callouts: RefCell::default(),
            refuses_callouts: Cell::new(false),
        }
    }

    /// Puts a request where the filter reads it.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) {
        let all = [(":method", method), (":path", path)].into_iter().chain(headers.iter().copied());
        self.headers.borrow_mut()[0] = all.map(|(name, value)| (name.to_owned(), value.into())).collect();
        self.restore_body(body);
    }

    /// Puts the request's body back, as a host does for a retry.
    pub fn restore_body(&self, body: &str) {
        self.bodies.borrow_mut()[0] = body.into();
    }

    pub fn response(&self, status: &str, headers: &[(&str, &str)], body: &str) {
        let all = [(":status", status)].into_iter().chain(headers.iter().copied());
        self.headers.borrow_mut()[2] = all.map(|(name, value)| (name.to_owned(), value.into())).collect();
        self.bodies.borrow_mut()[1] = body.into();
    }

    pub fn callout_answer(&self, status: &str, body: &str) {
        self.headers.borrow_mut()[3] = vec![(":status".to_owned(), status.into())];
        self.bodies.borrow_mut()[2] = body.into();
    }

    pub fn attribute(&self, attribute: Attribute, value: &str) {
        self.attribute_bytes(attribute, value.as_bytes());
    }

    pub fn attribute_bytes(&self, attribute: Attribute, value: &[u8]) {
        self.attributes.borrow_mut().insert(format!("{attribute:?}"), value.into());
    }

    /// Begins an attempt in the cluster of a provider, with the token that the gate has left.
    pub fn attempt_at(&self, provider: &str) -> Attempt {
        self.attribute(Attribute::ClusterProvider, provider);
        if let Some(token) = self.state.borrow().get("pai.exchange") {
            self.attribute_bytes(Attribute::ExchangeToken, token);
        }
        Attempt::new(Rc::clone(&self.streams))
    }

    pub fn refuse_callouts(&self) {
        self.refuses_callouts.set(true);
    }

    pub fn set_uptime(&self, uptime: Duration) {
        self.uptime.set(uptime);
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.find(0, name)
    }

    pub fn response_header(&self, name: &str) -> Option<String> {
        self.find(2, name)
    }

    fn find(&self, map: usize, name: &str) -> Option<String> {
        let headers = self.headers.borrow();
        let (_, value) = headers[map].iter().find(|(known, _)| known == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    pub fn request_size(&self) -> usize {
        self.bodies.borrow()[0].len()
    }

    pub fn request_text(&self) -> String {
        String::from_utf8_lossy(&self.bodies.borrow()[0]).into_owned()
    }

    pub fn state(&self, name: &str) -> Option<String> {
        self.state.borrow().get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    pub fn replies(&self) -> Vec<u16> {
        self.replies.borrow().clone()
    }

    pub fn entered(&self) -> Vec<u32> {
        self.entered.borrow().clone()
    }

    pub fn callouts(&self) -> Vec<String> {
        self.callouts.borrow().clone()
    }

    /// How many calls of a kind were made.
    pub fn calls(&self, kind: &str) -> usize {
        self.calls.borrow().iter().filter(|call| **call == kind).count()
    }

    pub fn all_calls(&self) -> Vec<&'static str> {
        self.calls.borrow().clone()
    }

    pub fn forget_calls(&self) {
        self.calls.borrow_mut().clear();
    }

    /// Tokens reserved at the first provider.
    pub fn reserved(&self, gate: &Gate) -> u64 {
        let subject = gate.budgets.provider(0).unwrap();
        let index = subject.index(BudgetKind::Daily).unwrap();
        self.environment().ledger().read(subject).unwrap().record(index).unwrap().reserved()
    }

    fn note(&self, call: &'static str) {
        self.calls.borrow_mut().push(call);
    }
}

fn place(of: HeaderMap) -> usize {
    match of {
        HeaderMap::Request => 0,
        HeaderMap::RequestTrailers => 1,
        HeaderMap::Response => 2,
        HeaderMap::Callout => 3,
    }
}

fn body_place(of: Body) -> usize {
    match of {
        Body::Request => 0,
        Body::Response => 1,
        Body::Callout => 2,
    }
}

impl Io for Fake {
    type Bytes = Vec<u8>;

    fn environment(&self) -> Environment<'_> {
        Environment::new(self, self, self, &self.worker)
    }

    fn headers<T>(&self, of: HeaderMap, read: impl FnOnce(&Headers<'_>) -> T) -> T {
        self.note(call::HEADERS);
        let pairs = self.headers.borrow()[place(of)].clone();
        read(&Headers(pairs.iter().map(|(name, value)| (name.as_bytes(), &**value)).collect()))
    }

    fn edit_headers(&self, of: HeaderMap, edits: &[HeaderEdit]) {
        for edit in edits {
            self.note(call::EDIT);
            let map = &mut self.headers.borrow_mut()[place(of)];
            match edit {
                HeaderEdit::Remove(name) => map.retain(|(known, _)| known != name),
                HeaderEdit::Set(name, value) => {
                    map.retain(|(known, _)| known != name);
                    map.push((name.to_string(), value.as_bytes().into()));
                }
            }
        }
    }

    fn body(&self, of: Body, length: usize) -> Vec<u8> {
        self.note(call::BODY);
        let bodies = self.bodies.borrow();
        let body = &bodies[body_place(of)];
        body[..body.len().min(length)].to_vec()
    }

    fn replace_body(&self, of: Body, length: usize, bytes: &[u8]) {
        self.note(call::REPLACE);
        let body = &mut self.bodies.borrow_mut()[body_place(of)];
        let length = length.min(body.len());
        body.splice(..length, bytes.iter().copied());
    }

    fn reply(&self, reply: &Reply) {
        self.note(call::REPLY);
        self.replies.borrow_mut().push(reply.status);
    }

    fn resume_request(&self) {
        self.note(call::RESUME);
    }

    fn set_filter_state(&self, name: &str, value: &[u8]) {
        self.note(call::STATE);
        self.state.borrow_mut().insert(name.to_owned(), value.to_vec());
    }

    fn attribute(&self, attribute: Attribute) -> Option<Vec<u8>> {
        self.note(call::ATTRIBUTE);
        self.attributes.borrow().get(&format!("{attribute:?}")).cloned()
    }

    fn send_callout(&self, callout: &CalloutRequest) -> Option<u32> {
        if self.refuses_callouts.get() {
            return None;
        }
        self.callouts.borrow_mut().push(callout.path.clone());
        u32::try_from(self.callouts.borrow().len()).ok()
    }

    fn enter_stream(&self, stream: u32) -> bool {
        self.entered.borrow_mut().push(stream);
        true
    }

    fn uptime(&self) -> Duration {
        self.uptime.get()
    }
}

impl Clock for Fake {
    fn now(&self) -> Time {
        self.note(call::CLOCK);
        self.now.get()
    }
}

impl Store for Fake {
    fn get(&self, key: &str) -> (Option<Vec<u8>>, u32) {
        self.note(call::GET);
        self.store.get(key)
    }

    fn set(&self, key: &str, value: &[u8], version: u32) -> bool {
        self.note(call::SET);
        self.store.set(key, value, version)
    }
}

impl Meter for Fake {
    fn define(&self, _kind: Kind, _name: &str) -> u32 {
        0
    }

    fn add(&self, _series: u32, _by: u64) {
        self.note(call::METRIC);
    }

    fn set(&self, _series: u32, _value: u64) {
        self.note(call::METRIC);
    }
}

impl Peer for Fake {
    fn principal(&self) -> Option<Vec<u8>> {
        None
    }

    fn digest(&self) -> Option<Vec<u8>> {
        None
    }

    fn is_verified(&self) -> Option<bool> {
        None
    }

    fn certificate(&self) -> Option<Vec<u8>> {
        None
    }

    fn uri(&self) -> Option<Vec<u8>> {
        None
    }
}
