//! The quick look: which patterns may match in a text at all.
//!
//! All patterns together are one automaton over bytes, made deterministic state by state where a text leads. It is exact but
//! for classes beyond ASCII, which it takes for more than they are, and it errs to this side only: a pattern that it rules out
//! matches nowhere. Where it cannot tell (a pattern that is too large, a text that needs more states than are kept), every
//! pattern may match. A state is paid for by the bytes that were read, so that the time is linear in the text whatever they are.

use std::cell::RefCell;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use super::syntax::{self, Ast, Bytes, Edge, Look};

/// The largest automaton, in nodes. What does not fit is not ruled out.
const MAX_NODES: usize = 8 * 1024;
/// The most that is kept of states, in bytes. When it is full it is emptied.
const MAX_CACHE_BYTES: usize = 256 * 1024;
/// What a state takes beside its nodes and transitions, in bytes.
const STATE_BYTES: usize = 96;
/// Nodes that may be visited to make transitions for each byte that is read.
const CREDIT_PER_BYTE: i64 = 8;
/// The most of them that is saved up.
const MAX_CREDIT: i64 = 1 << 20;

/// PatternCheck as one automaton.
#[derive(Debug)]
pub struct Prefilter {
    nodes: Vec<Node>,
    sets: Vec<Bytes>,
    /// Where the patterns begin.
    idle: Vec<u32>,
    /// The patterns that are in the automaton, one bit for each.
    known: u64,
    /// Bytes that are the same to all patterns are one class.
    classes: [u8; 256],
    /// One byte of each class.
    samples: Vec<u8>,
    /// A row for each class: before which other it may begin a match. Empty where that rules nothing out.
    pairs: Vec<bool>,
    cache: RefCell<Cache>,
}

/// A node of the automaton that is not deterministic.
#[derive(Debug, Clone, Copy)]
enum Node {
    /// One byte of a set.
    Byte { set: u16, next: u32 },
    /// Two ways.
    Fork(u32, u32),
    /// A place of a kind.
    Look { look: Look, next: u32 },
    /// The end of a pattern.
    Match(u8),
}

/// What becomes of the question for a place where nodes are followed.
#[derive(Debug, Clone, Copy)]
enum LookHandling {
    /// It waits for the next byte.
    Defer,
    /// It is left out.
    Assume,
    /// It is answered.
    Evaluate(Edge, Edge),
}

/// Where a text may have led.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    nodes: Vec<u32>,
    /// What stands before; [`Edge::Other`] where nobody asks.
    before: Edge,
    /// The patterns whose end was reached on the way here.
    matched: u64,
}

/// The states so far.
#[derive(Debug, Default)]
struct Cache {
    states: Vec<Rc<State>>,
    /// Each state's row, and marks.
    places: BTreeMap<Rc<State>, u32>,
    /// A row for each state: a place for each class, and one for the end of the text.
    rows: Vec<u32>,
    /// By what stands before, the states in which no pattern has begun.
    idle: [Option<u32>; 5],
    bytes: usize,
    emptied: usize,
    credit: i64,
    walk: ClosureWalk,
}

/// Following nodes, each once.
#[derive(Debug, Default)]
struct ClosureWalk {
    open: Vec<u32>,
    /// The round in which each node was seen last.
    seen: Vec<u32>,
    round: u32,
    visits: i64,
}

/// PatternCheck on their way to be an automaton.
#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    sets: Vec<Bytes>,
    places: BTreeMap<Bytes, u16>,
    starts: Vec<u32>,
    known: u64,
}

/// On a transition: a pattern ends here.
const MATCH: u32 = 1 << 31;
/// On a transition: no pattern has begun.
const IDLE: u32 = 1 << 30;
/// No transition: nobody has gone there.
const UNKNOWN: u32 = u32::MAX;

// === impl Prefilter ===

impl Prefilter {
    /// An automaton of `patterns`, of which `regex-lite` has accepted each.
    pub fn new<'p>(patterns: impl Iterator<Item = &'p str>) -> Self {
        let mut builder = Builder::default();
        patterns.enumerate().for_each(|(number, pattern)| _ = builder.pattern(number, pattern));
        builder.build()
    }

    /// The patterns that may match in `text`, for [`has`].
    pub fn candidates(&self, text: &str) -> u64 {
        // It is never taken twice at a time; if it were, nothing would be ruled out.
        let Ok(mut cache) = self.cache.try_borrow_mut() else { return u64::MAX };
        let earned = i64::try_from(text.len()).unwrap_or(i64::MAX).saturating_mul(CREDIT_PER_BYTE);
        cache.credit = cache.credit.saturating_add(earned).min(MAX_CREDIT);
        self.scan(&mut cache, text.as_bytes()).map_or(u64::MAX, |matched| matched | !self.known)
    }

    /// The patterns of the automaton that end somewhere in `bytes`. `None`: it would take too long to tell.
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

    /// Goes on from `state` until a transition is marked or unknown, or the text has ended: from where, to where, and how many
    /// bytes were read. The end counts as one.
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

    /// How many of `bytes` stand before the first place where a match may begin.
    fn skip(&self, bytes: &[u8]) -> usize {
        let classes = self.samples.len();
        let begins = |pair: &[u8; 2]| {
            let [first, second] = pair.map(|byte| self.class(byte));
            self.pairs.get(first * classes + second).copied().unwrap_or(true)
        };
        // The last byte is not judged without a second.
        bytes.array_windows().position(begins).unwrap_or(bytes.len().saturating_sub(1))
    }

    fn class(&self, byte: u8) -> usize {
        self.classes.get(usize::from(byte)).copied().unwrap_or_default().into()
    }

    /// The length of a row.
    fn width(&self) -> usize {
        self.samples.len() + 1
    }

    /// The state after `before` in which no pattern has begun.
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

    /// Where `byte`, or the end of the text, leads from the state at `from`. `None`: nothing is left to pay for it.
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
        // Where the cache was emptied, `from` is not there any more.
        if let Some(place) = cache.rows.get_mut(from as usize + class).filter(|_| cache.emptied == emptied) {
            *place = next;
        }
        Some(next)
    }

    /// Where `byte` leads from some nodes.
    fn ways(&self, here: &[u32], byte: u8) -> impl Iterator<Item = u32> {
        here.iter().filter_map(move |&node| match self.node(node) {
            Some(Node::Byte { set, next }) if self.set(set).has(byte) => Some(next),
            _ => None,
        })
    }

    /// The state's row, which is made unless it is there.
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

    /// Which pairs of classes may begin a match. Every place is taken for one of any kind.
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
    /// Forgets which of `count` nodes were seen.
    fn begin(&mut self, count: usize) {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 || self.seen.len() != count {
            self.seen = vec![0; count];
            self.round = 1;
        }
    }

    /// Adds to `out` the nodes that wait for a byte, or are an end, from `node` on.
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

// === impl Builder ===

impl Builder {
    /// Adds a pattern. `None`: it is not known to the automaton.
    fn pattern(&mut self, number: usize, pattern: &str) -> Option<()> {
        let number = u8::try_from(number).ok().filter(|number| u32::from(*number) < u64::BITS)?;
        let ast = syntax::parse(pattern)?;
        let nodes = self.nodes.len();
        let start = self.push(Node::Match(number)).and_then(|end| self.add(&ast, end));
        if start.is_none() {
            self.nodes.truncate(nodes);
        }
        self.starts.push(start?);
        self.known |= 1 << number;
        Some(())
    }

    /// Adds what leads to `next` by way of `ast`, and says where it begins. `None`: the automaton is too large.
    fn add(&mut self, ast: &Ast, next: u32) -> Option<u32> {
        match ast {
            Ast::Class(bytes) if bytes.foreign != 0 => {
                let rest = self.rest_of_character(next)?;
                self.byte(*bytes, rest)
            }
            Ast::Class(bytes) => self.byte(*bytes, next),
            Ast::Literal(c) => {
                c.encode_utf8(&mut [0; 4]).bytes().rev().try_fold(next, |next, byte| self.byte(Bytes::of(byte), next))
            }
            Ast::Look(look) => self.push(Node::Look { look: *look, next }),
            Ast::Sequence(asts) => asts.iter().rev().try_fold(next, |next, ast| self.add(ast, next)),
            Ast::Alternation(branches) => {
                let (first, others) = branches.split_first()?;
                let first = self.add(first, next)?;
                others.iter().try_fold(first, |before, branch| {
                    let branch = self.add(branch, next)?;
                    self.push(Node::Fork(before, branch))
                })
            }
            Ast::Repeated(ast, least, None) => {
                let fork = self.push(Node::Fork(next, next))?;
                let body = self.add(ast, fork)?;
                self.set(fork, Node::Fork(body, next));
                if *least == 0 { Some(fork) } else { self.copies(ast, least - 1, body) }
            }
            Ast::Repeated(ast, least, Some(most)) => {
                let mut start = next;
                for _ in *least..*most {
                    let body = self.add(ast, start)?;
                    // Nothing, however often.
                    if body == start {
                        break;
                    }
                    start = self.push(Node::Fork(body, next))?;
                }
                self.copies(ast, *least, start)
            }
        }
    }

    fn copies(&mut self, ast: &Ast, count: u32, next: u32) -> Option<u32> {
        let mut start = next;
        for _ in 0..count {
            let body = self.add(ast, start)?;
            if body == start {
                break;
            }
            start = body;
        }
        Some(start)
    }

    /// The bytes that continue a character, as many as there are: no other follows those of a first one.
    fn rest_of_character(&mut self, next: u32) -> Option<u32> {
        let fork = self.push(Node::Fork(next, next))?;
        let byte = self.byte(Bytes { ascii: 0, foreign: u128::from(u64::MAX) }, fork)?;
        self.set(fork, Node::Fork(byte, next));
        Some(fork)
    }

    fn byte(&mut self, bytes: Bytes, next: u32) -> Option<u32> {
        let set = match self.places.get(&bytes) {
            Some(&set) => set,
            None => {
                let set = u16::try_from(self.sets.len()).ok()?;
                self.sets.push(bytes);
                self.places.insert(bytes, set);
                set
            }
        };
        self.push(Node::Byte { set, next })
    }

    fn push(&mut self, node: Node) -> Option<u32> {
        let place = u32::try_from(self.nodes.len()).ok().filter(|_| self.nodes.len() < MAX_NODES)?;
        self.nodes.push(node);
        Some(place)
    }

    fn set(&mut self, place: u32, node: Node) {
        if let Some(old) = self.nodes.get_mut(place as usize) {
            *old = node;
        }
    }

    fn build(mut self) -> Prefilter {
        let looks = self.nodes.iter().any(|node| matches!(node, Node::Look { .. }));
        let edges = [Edge::Word, Edge::LineFeed, Edge::CarriageReturn].map(Bytes::beside);
        let kinds = edges.iter().filter(|_| looks).chain(&self.sets);
        let mut classes = [0; 256];
        let mut samples = Vec::new();
        for kind in kinds {
            samples = refine(&mut classes, *kind);
        }
        if samples.is_empty() {
            samples.push(0);
        }
        let (mut walk, mut idle) = (ClosureWalk::default(), Vec::new());
        walk.begin(self.nodes.len());
        self.starts.drain(..).for_each(|start| walk.follow(&self.nodes, start, LookHandling::Defer, &mut idle));
        let idle = sorted(idle);
        let Self { nodes, sets, known, .. } = self;
        let cache = RefCell::new(Cache { credit: MAX_CREDIT, ..Cache::default() });
        let filter = Prefilter { nodes, sets, idle, known, classes, samples, pairs: Vec::new(), cache };
        Prefilter { pairs: filter.pairs(), ..filter }
    }
}

/// What `sort` does, in a tenth of the code.
fn sorted(nodes: Vec<u32>) -> Vec<u32> {
    BinaryHeap::from(nodes).into_sorted_vec()
}

/// Whether a pattern is among `candidates`. Those from the 65th on always are.
pub fn has(candidates: u64, number: usize) -> bool {
    u32::try_from(number).ok().and_then(|number| candidates.checked_shr(number)).is_none_or(|bits| bits & 1 == 1)
}

/// Splits classes into what is in `kind` and what is not, and gives a byte of each.
fn refine(classes: &mut [u8; 256], kind: Bytes) -> Vec<u8> {
    let mut split: BTreeMap<(u8, bool), u8> = BTreeMap::new();
    let mut samples = Vec::new();
    for (byte, class) in (0..=u8::MAX).zip(classes) {
        let next = samples.len() as u8;
        *class = *split.entry((*class, kind.has(byte))).or_insert_with(|| {
            samples.push(byte);
            next
        });
    }
    samples
}
