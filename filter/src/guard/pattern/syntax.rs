//! Parses patterns into syntax trees.
//!
//! The parser reads patterns that `regex-lite` has compiled, in the same way: characters are code points, named classes and case
//! are ASCII only. It only widens: of a class beyond ASCII it keeps the first bytes of its characters. It returns `None` for syntax
//! that it does not support (verbose mode).

mod look;
mod ranges;

use self::ranges::{Range, merged, named, one, other_case, others};

pub use self::look::{Edge, Look};

/// The first code point that is encoded in more than one byte.
const FOREIGN: u32 = 0x80;

/// The syntax tree of a pattern.
#[derive(Debug, Clone)]
pub enum Ast {
    /// One character: one of these bytes, and its continuation bytes if it is beyond ASCII.
    Class(Bytes),
    /// This character, beyond ASCII.
    Literal(char),
    Look(Look),
    /// Repeated at least as often as the first number, and at most as often as the second; without a maximum if it is `None`.
    Repeated(Box<Ast>, u32, Option<u32>),
    Sequence(Vec<Ast>),
    Alternation(Vec<Ast>),
}

/// A set of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes {
    pub ascii: u128,
    pub foreign: u128,
}

/// Parses `pattern`, which ignores case unless it contains `(?-i)`.
pub fn parse(pattern: &str) -> Option<Ast> {
    let mut parser = Parser { rest: pattern, flags: Flags { ignore_case: true, ..Flags::default() } };
    let ast = parser.alternation()?;
    parser.rest.is_empty().then_some(ast)
}

struct Parser<'p> {
    rest: &'p str,
    flags: Flags,
}

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    ignore_case: bool,
    lines: bool,
    dot_is_all: bool,
    crlf: bool,
}

/// An item of a class in brackets.
enum Item {
    Char(char),
    Ranges(Vec<Range>),
}

// === impl Bytes ===

impl Bytes {
    pub fn of(byte: u8) -> Self {
        let mut bytes = Self::default();
        bytes.insert(byte);
        bytes
    }

    pub fn insert(&mut self, byte: u8) {
        let half = if byte.is_ascii() { &mut self.ascii } else { &mut self.foreign };
        *half |= 1 << (byte & 0x7f);
    }

    pub fn has(&self, byte: u8) -> bool {
        let half = if byte.is_ascii() { self.ascii } else { self.foreign };
        half >> (byte & 0x7f) & 1 == 1
    }

    /// Returns the bytes that make a position next to them an `edge`.
    pub fn beside(edge: Edge) -> Self {
        let mut bytes = Self::default();
        (0..=u8::MAX).filter(|&byte| Edge::of(byte) == edge).for_each(|byte| bytes.insert(byte));
        bytes
    }

    pub fn or(self, other: Self) -> Self {
        Self { ascii: self.ascii | other.ascii, foreign: self.foreign | other.foreign }
    }

    fn of_ranges(ranges: &[Range]) -> Self {
        let mut bytes = Self::default();
        for &(first, last) in ranges {
            (first..=last.min(FOREIGN - 1)).for_each(|code| bytes.insert(code as u8));
            if last >= FOREIGN {
                (leading(first.max(FOREIGN))..=leading(last)).for_each(|byte| bytes.insert(byte));
            }
        }
        bytes
    }
}

/// Returns the first byte of a character beyond ASCII.
fn leading(code: u32) -> u8 {
    match code {
        ..0x800 => 0xc0 | (code >> 6) as u8,
        0x800..0x1_0000 => 0xe0 | (code >> 12) as u8,
        _ => 0xf0 | (code >> 18) as u8,
    }
}

// === impl Parser ===

impl<'p> Parser<'p> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = self.rest.get(next.len_utf8()..)?;
        Some(next)
    }

    fn take(&mut self, expected: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }

    /// Returns the text before `end`, and skips both.
    fn until(&mut self, end: char) -> Option<&'p str> {
        let (before, rest) = self.rest.split_once(end)?;
        self.rest = rest;
        Some(before)
    }

    fn alternation(&mut self) -> Option<Ast> {
        let mut branches = Vec::new();
        let mut branch = Vec::new();
        while let Some(c) = self.peek().filter(|c| *c != ')') {
            match c {
                '|' => {
                    self.next();
                    branches.push(Ast::Sequence(std::mem::take(&mut branch)));
                }
                '(' => branch.extend(self.group()?),
                '*' | '+' | '?' | '{' => {
                    let repeated = branch.pop()?;
                    branch.push(self.repetition(repeated)?);
                }
                '[' => branch.push(self.class()?),
                _ => branch.push(self.single()?),
            }
        }
        branches.push(Ast::Sequence(branch));
        Some(Ast::Alternation(branches))
    }

    /// Parses a group. Returns `None` within `Some` for flags that apply to the rest of the enclosing group.
    fn group(&mut self) -> Option<Option<Ast>> {
        self.take("(")?;
        let outer = self.flags;
        if self.take("?P<").or_else(|| self.take("?<")).is_some() {
            self.until('>')?;
        } else if self.take("?").is_some() && self.flags()? {
            return Some(None);
        }
        let ast = self.alternation()?;
        self.take(")")?;
        self.flags = outer;
        Some(Some(ast))
    }

    /// Parses flags. Returns whether the group consists of flags only.
    fn flags(&mut self) -> Option<bool> {
        let mut on = true;
        loop {
            match self.next()? {
                '-' => on = false,
                'i' => self.flags.ignore_case = on,
                'm' => self.flags.lines = on,
                's' => self.flags.dot_is_all = on,
                'R' => self.flags.crlf = on,
                // Greediness affects the length of a match, not whether there is one.
                'U' | 'u' => {}
                ':' => return Some(false),
                ')' => return Some(true),
                _ => return None,
            }
        }
    }

    fn repetition(&mut self, repeated: Ast) -> Option<Ast> {
        let (least, most) = match self.next()? {
            '*' => (0, None),
            '+' => (1, None),
            '?' => (0, Some(1)),
            _ => {
                let number = |digits: &str| digits.trim().parse::<u32>().ok();
                let bounds = self.until('}')?;
                match bounds.split_once(',') {
                    None => (number(bounds)?, Some(number(bounds)?)),
                    Some((least, "")) => (number(least)?, None),
                    Some((least, most)) => (number(least)?, Some(number(most)?)),
                }
            }
        };
        _ = self.take("?");
        // Any number of repetitions may follow each other.
        Some(match (least, most) {
            (0, Some(0)) => Ast::Sequence(Vec::new()),
            (1, Some(1)) => repeated,
            _ => Ast::Repeated(Box::new(repeated), least, most),
        })
    }

    fn single(&mut self) -> Option<Ast> {
        let Flags { lines, crlf, dot_is_all, .. } = self.flags;
        Some(match self.peek()? {
            '\\' => return self.escape(),
            '.' => {
                self.next();
                let ends: &[Range] = match (dot_is_all, crlf) {
                    (true, _) => &[],
                    (_, false) => &[(0x0a, 0x0a)],
                    (_, true) => &[(0x0a, 0x0a), (0x0d, 0x0d)],
                };
                Ast::Class(Bytes::of_ranges(&others(ends)))
            }
            '^' | '$' => Ast::Look(match (self.next()?, lines, crlf) {
                ('^', false, _) => Look::Start,
                ('^', _, false) => Look::LineStart,
                ('^', _, true) => Look::CrlfStart,
                (_, false, _) => Look::End,
                (_, _, false) => Look::LineEnd,
                (_, _, true) => Look::CrlfEnd,
            }),
            _ => self.next().map(|c| self.literal(c))?,
        })
    }

    fn literal(&self, c: char) -> Ast {
        let Some(byte) = u8::try_from(c).ok().filter(u8::is_ascii) else { return Ast::Literal(c) };
        let mut bytes = Bytes::of(byte);
        if self.flags.ignore_case {
            bytes.insert(byte.to_ascii_lowercase());
            bytes.insert(byte.to_ascii_uppercase());
        }
        Ast::Class(bytes)
    }

    fn escape(&mut self) -> Option<Ast> {
        if let Some(look) = self.look() {
            return Some(Ast::Look(look));
        }
        Some(match self.item()? {
            Item::Char(c) => self.literal(c),
            Item::Ranges(ranges) => Ast::Class(Bytes::of_ranges(&ranges)),
        })
    }

    fn look(&mut self) -> Option<Look> {
        const LOOKS: [(&str, Look); 10] = [
            ("\\b{start}", Look::WordStart),
            ("\\b{end}", Look::WordEnd),
            ("\\b{start-half}", Look::NoWordBefore),
            ("\\b{end-half}", Look::NoWordAfter),
            ("\\b", Look::Boundary),
            ("\\B", Look::NoBoundary),
            ("\\<", Look::WordStart),
            ("\\>", Look::WordEnd),
            ("\\A", Look::Start),
            ("\\z", Look::End),
        ];
        LOOKS.iter().find(|(name, _)| self.take(name).is_some()).map(|(_, look)| *look)
    }

    /// Parses an escape or a plain character.
    fn item(&mut self) -> Option<Item> {
        let c = self.next()?;
        if c != '\\' {
            return Some(Item::Char(c));
        }
        Some(match self.next()? {
            'd' => Item::Ranges(named("digit")?),
            's' => Item::Ranges(named("space")?),
            'w' => Item::Ranges(named("word")?),
            'D' => Item::Ranges(others(&named("digit")?)),
            'S' => Item::Ranges(others(&named("space")?)),
            'W' => Item::Ranges(others(&named("word")?)),
            'x' => Item::Char(self.code(2)?),
            'u' => Item::Char(self.code(4)?),
            'U' => Item::Char(self.code(8)?),
            'a' => Item::Char('\x07'),
            'f' => Item::Char('\x0c'),
            't' => Item::Char('\t'),
            'n' => Item::Char('\n'),
            'r' => Item::Char('\r'),
            'v' => Item::Char('\x0b'),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Item::Char(c),
            _ => return None,
        })
    }

    fn code(&mut self, length: usize) -> Option<char> {
        let digits = if self.take("{").is_some() {
            self.until('}')?
        } else {
            let (digits, rest) = self.rest.split_at_checked(length)?;
            self.rest = rest;
            digits
        };
        char::from_u32(u32::from_str_radix(digits, 16).ok()?)
    }

    fn class(&mut self) -> Option<Ast> {
        self.take("[")?;
        let negated = self.take("^").is_some();
        let mut ranges = Vec::new();
        while self.take("-").is_some() {
            ranges.push(one('-'));
        }
        if ranges.is_empty() && self.take("]").is_some() {
            ranges.push(one(']'));
        }
        while self.take("]").is_none() {
            if self.peek()? == '[' {
                ranges.extend(self.posix()?);
                continue;
            }
            match self.item()? {
                Item::Ranges(all) => ranges.extend(all),
                Item::Char(c) if self.is_range() => {
                    self.take("-")?;
                    let Item::Char(last) = self.item()? else { return None };
                    ranges.push((u32::from(c), u32::from(last)));
                }
                Item::Char(c) => ranges.push(one(c)),
            }
        }
        ranges = merged(ranges);
        if self.flags.ignore_case {
            ranges.extend(ranges.clone().into_iter().filter_map(other_case));
            ranges = merged(ranges);
        }
        Some(Ast::Class(Bytes::of_ranges(&if negated { others(&ranges) } else { ranges })))
    }

    /// Returns whether a hyphen that denotes a range is next.
    fn is_range(&self) -> bool {
        self.rest.strip_prefix('-').is_some_and(|rest| !rest.starts_with([']', '-']))
    }

    fn posix(&mut self) -> Option<Vec<Range>> {
        self.take("[:")?;
        let negated = self.take("^").is_some();
        let ranges = named(self.until(':')?)?;
        self.take("]")?;
        Some(if negated { others(&ranges) } else { ranges })
    }
}
