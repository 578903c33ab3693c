//! Builds the automaton of a prefilter.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{Cache, ClosureWalk, LookHandling, MAX_CREDIT, MAX_NODES, Node, Prefilter, sorted};
use crate::guard::pattern::syntax::{self, Ast, Bytes, Edge};

/// Builds the automaton.
#[derive(Default)]
pub(super) struct Builder {
    nodes: Vec<Node>,
    sets: Vec<Bytes>,
    places: BTreeMap<Bytes, u16>,
    starts: Vec<u32>,
    known: u64,
}

// === impl Builder ===

impl Builder {
    /// Adds a pattern. Returns `None` if it is not part of the automaton.
    pub fn pattern(&mut self, number: usize, pattern: &str) -> Option<()> {
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

    /// Adds the nodes that match `ast` and continue at `next`. Returns their first node; `None` if the automaton is too large.
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
                    // The repeated expression matches only the empty text.
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

    /// Adds nodes that match any number of continuation bytes. In UTF-8, no other bytes follow the first byte of a character beyond
    /// ASCII.
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

    pub fn build(mut self) -> Prefilter {
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

/// Splits each class into the bytes in `kind` and the others. Returns one byte of each class.
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
