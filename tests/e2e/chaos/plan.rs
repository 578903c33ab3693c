//! The plan of a round, generated from its seed. The same seed gives the same plan.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::harness::{EnvoyFeature, Rng, TextKind};

/// The number of concurrent clients, and of consecutive requests per client.
pub const CLIENTS: u64 = 200;
pub const REQUESTS_PER_CLIENT: u64 = 4;

/// One round.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub workers: u32,
    pub form: Form,
    /// Whether the budgets are smaller than the demand.
    pub tight: bool,
    /// Whether the upper bounds of prompts are certain (`promptEstimate: strict`).
    pub strict: bool,
    pub clients: Vec<Client>,
    /// Events, each with the number of finished requests after which it occurs.
    pub events: Vec<(u64, Event)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One provider, no manifests of callers.
    OneProvider,
    /// Three providers, an agent, access keys, guards, fallback.
    Everything,
}

#[derive(Debug, Clone)]
pub struct Client {
    /// Each request with the pause before it.
    pub requests: Vec<(Duration, PlannedRequest)>,
}

/// One request, and the behaviour of each provider.
#[derive(Debug, Clone)]
pub struct PlannedRequest {
    /// Identifies the request in the prompt and in the access log.
    pub id: String,
    pub caller: Caller,
    /// The provider of the requested model.
    pub named: usize,
    /// The kind of the prompt's text, and its length in bytes.
    pub kind: TextKind,
    pub length: usize,
    pub limit: Option<u64>,
    /// Completion tokens of a complete response, if the limit allows.
    pub words: u64,
    pub stream: bool,
    pub wants_usage: bool,
    pub http2: bool,
    /// Whether a guard must reject it.
    pub forbidden: bool,
    pub slow: bool,
    pub disconnect: Disconnect,
    pub behaviours: [ProviderBehaviour; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Anonymous, or the agent.
    Inside,
    /// A developer, by the index of the key.
    Developer(usize),
}

/// When the client disconnects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disconnect {
    Never,
    After(Duration),
    /// After this number of events of a stream.
    Events(u64),
    /// In the middle of the request body.
    Body,
    /// It sends half of the body and waits.
    Stalled,
    /// It sends no body and waits.
    Silent,
}

/// A provider's behaviour for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderBehaviour {
    Serve,
    Status(u16),
    /// Resets the connection after reading the request.
    Reset,
    /// Closes the connection after reading the request.
    Close,
    /// Resets the connection in the middle of the response head.
    HalfHead,
    /// Resets the connection after this number of words, or in the middle of the body.
    CutReset(u64),
    /// Closes the connection there.
    CutClose(u64),
    /// Never responds.
    Hang,
    /// Stops sending there.
    HangAfter(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Reload,
    Trap,
    Midnight,
    /// An outage of a provider for this time.
    Outage(usize, Duration),
    Drain,
}

// === impl Plan ===

impl Plan {
    /// Generates the plan of this seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let everything = EnvoyFeature::ClusterRefresh.is_supported() && seed.is_multiple_of(2);
        let form = if everything { Form::Everything } else { Form::OneProvider };
        let workers = if (seed / 2).is_multiple_of(2) { 2 } else { 4 };
        let tight = rng.below(2) == 0;
        let strict = rng.below(2) == 0;
        let events = events(&mut rng, form);
        let clients = (0..CLIENTS).map(|number| Client::new(&mut rng, form, number)).collect();
        Self { seed, workers, form, tight, strict, clients, events }
    }

    pub fn requests(&self) -> impl Iterator<Item = &PlannedRequest> {
        self.clients.iter().flat_map(|client| client.requests.iter().map(|(_, planned)| planned))
    }

    pub fn by_id(&self) -> BTreeMap<String, PlannedRequest> {
        self.requests().map(|planned| (planned.id.clone(), planned.clone())).collect()
    }

    /// Returns whether the plan contains the event.
    pub fn has(&self, wanted: Event) -> bool {
        self.events.iter().any(|(_, event)| *event == wanted)
    }

    pub fn has_outage(&self) -> bool {
        self.events.iter().any(|(_, event)| matches!(event, Event::Outage(..)))
    }

    /// Returns the number of providers.
    pub fn providers(&self) -> usize {
        match self.form {
            Form::OneProvider => 1,
            Form::Everything => 3,
        }
    }

    /// Describes the plan in one line.
    pub fn describe(&self) -> String {
        let events: Vec<String> = self.events.iter().map(|(when, event)| format!("{event:?} at {when}")).collect();
        format!(
            "seed {}: {:?}, {} workers, {} budgets, {} estimates; {}",
            self.seed,
            self.form,
            self.workers,
            if self.tight { "tight" } else { "ample" },
            if self.strict { "strict" } else { "usual" },
            events.join(", ")
        )
    }
}

fn events(rng: &mut Rng, form: Form) -> Vec<(u64, Event)> {
    let part = |rng: &mut Rng, from: u64, to: u64| CLIENTS * REQUESTS_PER_CLIENT * (from + rng.below(to - from)) / 100;
    let mut events: Vec<_> = (0..2 + rng.below(3)).map(|_| (part(rng, 3, 90), Event::Reload)).collect();
    if rng.below(2) == 0 {
        events.push((part(rng, 10, 60), Event::Trap));
    }
    if rng.below(2) == 0 {
        events.push((part(rng, 15, 70), Event::Midnight));
    }
    if rng.below(2) == 0 {
        let who = if form == Form::Everything { rng.below(3) as usize } else { 0 };
        events.push((part(rng, 10, 70), Event::Outage(who, millis(rng, 50, 300))));
    }
    if rng.below(2) == 0 {
        events.push((part(rng, 75, 95), Event::Drain));
    }
    events.sort_by_key(|(when, _)| *when);
    events
}

// === impl Client ===

impl Client {
    fn new(rng: &mut Rng, form: Form, number: u64) -> Self {
        let planned = |turn: u64| {
            (millis(rng, 0, if turn == 0 { 1000 } else { 700 }), PlannedRequest::new(rng, form, &format!("c{number}t{turn}")))
        };
        Self { requests: (0..REQUESTS_PER_CLIENT).map(planned).collect() }
    }
}

// === impl PlannedRequest ===

impl PlannedRequest {
    fn new(rng: &mut Rng, form: Form, id: &str) -> Self {
        let stream = rng.below(3) > 0;
        let slow = stream && rng.below(20) == 0;
        let words = if slow { 200 } else { 1 + rng.below(60) };
        let limit = (rng.below(8) > 0).then(|| words + rng.below(20));
        let caller = match form {
            Form::Everything if rng.below(3) == 0 => Caller::Developer(rng.below(3) as usize),
            _ => Caller::Inside,
        };
        // The agent's candidates are tried in the order of its list; a developer has the named provider only.
        let named = match form {
            Form::Everything if caller != Caller::Inside || rng.below(4) == 0 => rng.below(3) as usize,
            _ => 0,
        };
        let longest = if rng.below(8) == 0 { 6500 } else { 600 };
        let mut planned = Self {
            id: id.to_owned(),
            caller,
            named,
            kind: TextKind::ALL[rng.below(TextKind::ALL.len() as u64) as usize],
            length: 20 + rng.below(longest) as usize,
            limit,
            words,
            stream,
            wants_usage: rng.below(2) == 0,
            http2: rng.below(3) == 0,
            forbidden: form == Form::Everything && rng.below(25) == 0,
            slow,
            disconnect: Disconnect::new(rng, words, stream),
            behaviours: [ProviderBehaviour::Serve; 3],
        };
        planned.behaviours = std::array::from_fn(|_| ProviderBehaviour::new(rng, words));
        planned
    }

    /// Returns whether the request body is never completed.
    pub fn is_unfinished(&self) -> bool {
        matches!(self.disconnect, Disconnect::Stalled | Disconnect::Silent)
    }

    /// Returns whether every provider would serve it.
    pub fn is_served(&self) -> bool {
        self.behaviours.iter().all(|behaviour| *behaviour == ProviderBehaviour::Serve)
    }
}

// === impl Disconnect ===

impl Disconnect {
    fn new(rng: &mut Rng, words: u64, stream: bool) -> Self {
        if rng.below(2) == 0 {
            return Self::Never;
        }
        match rng.below(20) {
            0 => [Self::Stalled, Self::Silent][rng.below(2) as usize],
            1 | 2 => Self::Body,
            3..=11 if stream => Self::Events(rng.below(words + 2)),
            _ => Self::After(millis(rng, 0, 250)),
        }
    }
}

// === impl ProviderBehaviour ===

impl ProviderBehaviour {
    fn new(rng: &mut Rng, words: u64) -> Self {
        let at = rng.below(words);
        match rng.below(40) {
            0..=23 => Self::Serve,
            24..=27 => Self::Status([500, 503, 429, 400][rng.below(4) as usize]),
            28 | 29 => Self::Reset,
            30 | 31 => Self::Close,
            32 | 33 => Self::HalfHead,
            34 | 35 => Self::CutReset(at),
            36 | 37 => Self::CutClose(at),
            38 => Self::HangAfter(at),
            _ => Self::Hang,
        }
    }
}

fn millis(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(from + rng.below(to - from))
}
