//! A prefilter: which patterns can match a text at all.
//!
//! All patterns form one automaton over bytes, which is made deterministic lazily, state by state. It is exact except for character
//! classes beyond ASCII, which it widens: a pattern that it rules out does not match. If a pattern is too large, or a text needs
//! more states than are cached, every pattern may match. New states are paid for by bytes read, so that the time is linear in the
//! text, whatever the patterns and the text are.

mod builder;

use std::cell::RefCell;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use self::builder::Builder;
use super::syntax::{Bytes, Edge, Look};

/// The maximum size of the automaton, in nodes. Patterns that do not fit are never ruled out.
const MAX_NODES: usize = 8 * 1024;
/// The maximum size of the cached states, in bytes. A full cache is emptied.
const MAX_CACHE_BYTES: usize = 256 * 1024;
/// The size of a state without its nodes and transitions, in bytes.
const STATE_BYTES: usize = 96;
/// The number of nodes that each byte read allows to visit for new transitions.
const CREDIT_PER_BYTE: i64 = 8;
/// The maximum number of such visits that is saved up.
const MAX_CREDIT: i64 = 1 << 20;

/// The automaton of all patterns.
#[derive(Debug)]
pub struct Prefilter {
    nodes: Vec<Node>,
    sets: Vec<Bytes>,
    /// The nodes at which patterns start.
    idle: Vec<u32>,
    /// The patterns that are part of the automaton, one bit each.
    known: u64,
    /// The class of each byte. Bytes of one class are equivalent for all patterns.
    classes: [u8; 256],
    /// One byte of each class.
    samples: Vec<u8>,
    /// For each pair of classes, whether a match may start with it. Empty if every pair may.
    pairs: Vec<bool>,
    cache: RefCell<Cache>,
}

/// A node of the non-deterministic automaton.
#[derive(Debug, Clone, Copy)]
enum Node {
    /// Matches one byte of a set.
    Byte { set: u16, next: u32 },
    /// Continues at both nodes.
    Fork(u32, u32),
    /// Matches an assertion between two characters.
    Look { look: Look, next: u32 },
    /// The end of a pattern.
    Match(u8),
}

/// What is done with assertions while nodes are followed.
#[derive(Debug, Clone, Copy)]
enum LookHandling {
    /// They are kept until the next byte is known.
    Defer,
    /// They are assumed to hold.
    Assume,
    /// They are evaluated between these edges.
    Evaluate(Edge, Edge),
}

/// A state of the deterministic automaton.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    nodes: Vec<u32>,
    /// The edge before the next byte; [`Edge::Other`] if no assertion depends on it.
    before: Edge,
    /// The patterns that ended on the transition to this state.
    matched: u64,
}

/// The states that have been built.
#[derive(Debug, Default)]
struct Cache {
    states: Vec<Rc<State>>,
    /// The row and marks of each state.
    places: BTreeMap<Rc<State>, u32>,
    /// One row for each state: a transition for each class, and one for the end of the text.
    rows: Vec<u32>,
    /// For each edge before the next byte, the state in which no pattern has started.
    idle: [Option<u32>; 5],
    bytes: usize,
    emptied: usize,
    credit: i64,
    walk: ClosureWalk,
}

/// Follows nodes without a byte, each at most once.
#[derive(Debug, Default)]
struct ClosureWalk {
    open: Vec<u32>,
    /// The round in which each node was last visited.
    seen: Vec<u32>,
    round: u32,
    visits: i64,
}

/// Marks a transition on which a pattern ends.
const MATCH: u32 = 1 << 31;
/// Marks a transition to a state in which no pattern has started.
const IDLE: u32 = 1 << 30;
/// A transition that has not been computed.
const UNKNOWN: u32 = u32::MAX;

// === impl Prefilter ===

impl Prefilter {
    /// Builds the automaton of `patterns`, which `regex-lite` has compiled.
    pub fn new<'p>(patterns: impl Iterator<Item = &'p str>) -> Self {
        let mut builder = Builder::default();
        patterns.enumerate().for_each(|(number, pattern)| _ = builder.pattern(number, pattern));
        builder.build()
    }

    /// Returns the patterns that may match in `text`, as a bit set for [`has`].
    pub fn candidates(&self, text: &str) -> u64 {
        // The cache is never borrowed twice; if it were, no pattern would be ruled out.
        let Ok(mut cache) = self.cache.try_borrow_mut() else { return u64::MAX };
        let earned = i64::try_from(text.len()).unwrap_or(i64::MAX).saturating_mul(CREDIT_PER_BYTE);
        cache.credit = cache.credit.saturating_add(earned).min(MAX_CREDIT);
        self.scan(&mut cache, text.as_bytes()).map_or(u64::MAX, |matched| matched | !self.known)
    }

    /// Returns the patterns of the automaton that end anywhere in `bytes`; `None` if the credit is exhausted.
    fn scan(&self, cache: &mut Cache, bytes: &[u8]) -> Option<u64> {
        let (mut at, mut matched) = (0, 0);
        let mut state = self.rest(cache, Edge::None);
        while matched != self.known && at <= bytes.len() {
            if state & IDLE != 0 {
                let begin = at + self.skip(bytes.get(at..)?);
                if let Some(&last) = bytes.get(at..begin)?.last() {
                    state = self.rest(cache, Edge::of(last));
                }
                at = begin;
            }
            let (from, next, read) = self.run(&cache.rows, state & !(MATCH | IDLE), bytes.get(at..)?);
            at += read;
            state = if next == UNKNOWN { self.step(cache, from, bytes.get(at - 1).copied())? } else { next };
            if state & MATCH != 0 {
                matched |= cache.state(state, self.width())?.matched;
            }
        }
        Some(matched)
    }

    /// Follows transitions from `state` until one is marked or unknown, or the text ends. Returns the last state, the transition
    /// from it, and the number of bytes read; the end of the text counts as one.
    fn run(&self, rows: &[u32], mut state: u32, bytes: &[u8]) -> (u32, u32, usize) {
        let next = |state: u32, class: usize| rows.get(state as usize + class).copied().unwrap_or(UNKNOWN);
        for (at, &byte) in bytes.iter().enumerate() {
            let next = next(state, self.class(byte));
            if next >= IDLE {
                return (state, next, at + 1);
            }
            state = next;
        }
        (state, next(state, self.samples.len()), bytes.len() + 1)
    }

    /// Returns the number of `bytes` before the first position at which a match may start.
    fn skip(&self, bytes: &[u8]) -> usize {
        let classes = self.samples.len();
        let begins = |pair: &[u8; 2]| {
            let [first, second] = pair.map(|byte| self.class(byte));
            self.pairs.get(first * classes + second).copied().unwrap_or(true)
        };
        // The last byte is never skipped: its successor is unknown.
        bytes.array_windows().position(begins).unwrap_or(bytes.len().saturating_sub(1))
    }

    fn class(&self, byte: u8) -> usize {
        self.classes.get(usize::from(byte)).copied().unwrap_or_default().into()
    }

    /// Returns the length of a row.
    fn width(&self) -> usize {
        self.samples.len() + 1
    }

    /// Returns the state after the edge `before` in which no pattern has started.
    fn rest(&self, cache: &mut Cache, before: Edge) -> u32 {
        if let Some(&Some(state)) = cache.idle.get(before as usize) {
            return state;
        }
        let state = self.keep(cache, self.idle.clone(), before, 0);
        if let Some(idle) = cache.idle.get_mut(before as usize) {
            *idle = Some(state);
        }
        state
    }

    /// Computes the transition from the state at `from` for `byte`, or for the end of the text. Returns `None` if the credit is
    /// exhausted.
    fn step(&self, cache: &mut Cache, from: u32, byte: Option<u8>) -> Option<u32> {
        cache.credit = cache.credit.checked_sub(std::mem::take(&mut cache.walk.visits)).filter(|credit| *credit > 0)?;
        let state = cache.state(from, self.width())?;
        let edge = byte.map_or(Edge::None, Edge::of);
        let mut here = Vec::new();
        cache.walk.begin(self.nodes.len());
        state
            .nodes
            .iter()
            .for_each(|&node| cache.walk.follow(&self.nodes, node, LookHandling::Evaluate(state.before, edge), &mut here));
        let matched = here.iter().fold(0, |matched, &node| match self.node(node) {
            Some(Node::Match(pattern)) => matched | 1 << pattern,
            _ => matched,
        });
        let mut nodes = Vec::new();
        if let Some(byte) = byte {
            cache.walk.begin(self.nodes.len());
            let next = self.ways(&here, byte).chain(self.idle.iter().copied());
            next.for_each(|node| cache.walk.follow(&self.nodes, node, LookHandling::Defer, &mut nodes));
            nodes = sorted(nodes);
        }
        let emptied = cache.emptied;
        let next = self.keep(cache, nodes, edge, matched);
        let class = byte.map_or(self.samples.len(), |byte| self.class(byte));
        // If the cache was emptied, `from` no longer exists.
        if let Some(place) = cache.rows.get_mut(from as usize + class).filter(|_| cache.emptied == emptied) {
            *place = next;
        }
        Some(next)
    }

    /// Returns the nodes that `byte` leads to from the nodes `here`.
    fn ways(&self, here: &[u32], byte: u8) -> impl Iterator<Item = u32> {
        here.iter().filter_map(move |&node| match self.node(node) {
            Some(Node::Byte { set, next }) if self.set(set).has(byte) => Some(next),
            _ => None,
        })
    }

    /// Returns the row of a state, which is added unless it is cached.
    fn keep(&self, cache: &mut Cache, nodes: Vec<u32>, before: Edge, matched: u64) -> u32 {
        let asks = nodes.iter().any(|&node| matches!(self.node(node), Some(Node::Look { .. })));
        let before = if asks { before } else { Edge::Other };
        let state = State { nodes, before, matched };
        if let Some(&place) = cache.places.get(&state) {
            return place;
        }
        let bytes = STATE_BYTES + (self.width() + state.nodes.len()) * size_of::<u32>();
        if cache.bytes + bytes > MAX_CACHE_BYTES {
            cache.empty();
        }
        let idle = !self.pairs.is_empty() && state.nodes == self.idle;
        let marks = if matched == 0 { 0 } else { MATCH } | if idle { IDLE } else { 0 };
        let place = cache.rows.len() as u32 | marks;
        cache.bytes += bytes;
        cache.rows.resize(cache.rows.len() + self.width(), UNKNOWN);
        let state = Rc::new(state);
        cache.states.push(Rc::clone(&state));
        cache.places.insert(state, place);
        place
    }

    fn node(&self, node: u32) -> Option<Node> {
        self.nodes.get(node as usize).copied()
    }

    fn set(&self, set: u16) -> Bytes {
        self.sets.get(usize::from(set)).copied().unwrap_or_default()
    }

    /// Returns which pairs of classes may start a match. Assertions are assumed to hold.
    fn pairs(&self) -> Vec<bool> {
        let mut walk = ClosureWalk::default();
        let ends = |nodes: &[u32]| nodes.iter().any(|&node| matches!(self.node(node), Some(Node::Match(_))));
        let mut first = Vec::new();
        walk.begin(self.nodes.len());
        self.idle.iter().for_each(|&node| walk.follow(&self.nodes, node, LookHandling::Assume, &mut first));
        if ends(&first) {
            return Vec::new();
        }
        let mut pairs = Vec::new();
        for &byte in &self.samples {
            let mut second = Vec::new();
            walk.begin(self.nodes.len());
            for next in self.ways(&first, byte) {
                walk.follow(&self.nodes, next, LookHandling::Assume, &mut second);
            }
            let ends = ends(&second);
            let bytes = second.iter().fold(Bytes::default(), |bytes, &node| match self.node(node) {
                Some(Node::Byte { set, .. }) => bytes.or(self.set(set)),
                _ => bytes,
            });
            pairs.extend(self.samples.iter().map(|&byte| ends || bytes.has(byte)));
        }
        pairs
    }
}

// === impl Cache ===

impl Cache {
    fn state(&self, place: u32, width: usize) -> Option<Rc<State>> {
        let row = (place & !(MATCH | IDLE)) as usize;
        self.states.get(row.checked_div(width)?).map(Rc::clone)
    }

    fn empty(&mut self) {
        self.states.clear();
        self.places.clear();
        self.rows.clear();
        self.idle = [None; 5];
        self.bytes = 0;
        self.emptied += 1;
    }
}

// === impl ClosureWalk ===

impl ClosureWalk {
    /// Starts a new round over `count` nodes.
    fn begin(&mut self, count: usize) {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 || self.seen.len() != count {
            self.seen = vec![0; count];
            self.round = 1;
        }
    }

    /// Appends to `out` the nodes reachable from `node` without a byte that match a byte or end a pattern.
    fn follow(&mut self, nodes: &[Node], node: u32, looks: LookHandling, out: &mut Vec<u32>) {
        self.open.push(node);
        while let Some(at) = self.open.pop() {
            self.visits += 1;
            let Some(seen) = self.seen.get_mut(at as usize) else { continue };
            if std::mem::replace(seen, self.round) == self.round {
                continue;
            }
            match (nodes.get(at as usize), looks) {
                (Some(&Node::Fork(one, other)), _) => self.open.extend([one, other]),
                (Some(&Node::Look { next, .. }), LookHandling::Assume) => self.open.push(next),
                (Some(&Node::Look { look, next }), LookHandling::Evaluate(before, after)) => {
                    self.open.extend(look.holds(before, after).then_some(next));
                }
                _ => out.push(at),
            }
        }
    }
}

/// Sorts `nodes`, with a tenth of the code size of `sort`.
fn sorted(nodes: Vec<u32>) -> Vec<u32> {
    BinaryHeap::from(nodes).into_sorted_vec()
}

/// Returns whether the pattern at index `number` is among `candidates`. Those from the 65th on always are.
pub fn has(candidates: u64, number: usize) -> bool {
    u32::try_from(number).ok().and_then(|number| candidates.checked_shr(number)).is_none_or(|bits| bits & 1 == 1)
}
