//! The rules: which meanings, how close together, make an attack.
//!
//! A rule turns on a *key* word and asks for others around it. Rules are few and general; what they find is a matter of the
//! vocabulary, and what they must not find is what the table of harmless prompts is for.

use super::Sensitivity::{self, High, Low, Medium};
use super::tokens::*;
use super::words::*;

/// The version of rules and vocabulary together. It changes whenever a verdict may.
pub const VERSION: &str = "1";

/// What makes an attack.
pub struct Rule {
    /// The kind of attack, as reasons name it.
    pub family: &'static str,
    /// The least sensitive setting that takes it for an attack.
    pub level: Sensitivity,
    /// Any of these is looked for first.
    pub key: Classes,
    /// Each of these must be near the key.
    pub needs: &'static [Near],
    /// None of these may be.
    pub unless: &'static [Near],
}

/// Any of some classes within so many words before or after the key.
pub struct Near(pub Classes, pub usize, pub usize);

const fn rule(family: &'static str, level: Sensitivity, key: Classes, needs: &'static [Near]) -> Rule {
    Rule { family, level, key, needs, unless: &[] }
}

/// Every rule.
pub const RULES: &[Rule] = &[
    rule("override", Low, INSTR, &[Near(IGNORE, 7, 7), Near(PRIOR, 5, 5), Near(ALL | YOUR | SYSTEM, 5, 5)]),
    rule("override", Medium, INSTR, &[Near(IGNORE, 7, 7), Near(PRIOR | ALL | YOUR | SYSTEM, 5, 5)]),
    rule("override", Medium, RULE, &[Near(IGNORE, 6, 6), Near(YOUR | PRIOR, 4, 4)]),
    rule("override", Medium, SAID, &[Near(IGNORE, 4, 5), Near(PRIOR, 4, 4), Near(NEW | BECOME | AI | LINE, 12, 12)]),
    rule("override", High, INSTR | RULE, &[Near(IGNORE, 7, 7)]),
    rule("extraction", Low, INSTR, &[Near(SYSTEM, 3, 2), Near(REVEAL, 8, 8), Near(YOUR, 5, 3), Near(VERBATIM | ALL, 10, 10)]),
    rule("extraction", Medium, INSTR, &[Near(SYSTEM, 3, 2), Near(REVEAL, 8, 8), Near(YOUR | ME, 6, 4)]),
    rule("extraction", Medium, INSTR, &[Near(YOUR, 4, 2), Near(REVEAL, 8, 8), Near(VERBATIM | ALL | PRIOR | SYSTEM, 8, 8)]),
    rule("extraction", Medium, VERBATIM, &[Near(REVEAL, 8, 8), Near(PRIOR, 8, 8), Near(SAID | ALL | INSTR, 8, 8)]),
    rule("extraction", High, INSTR, &[Near(YOUR | SYSTEM, 4, 2), Near(REVEAL, 6, 6)]),
    rule("persona", Medium, PERSONA, &[Near(BECOME | YOUR, 12, 12)]),
    rule("persona", Medium, DAN, &[Near(BECOME, 8, 8), Near(WITHOUT | LIMITS | PERSONA, 20, 20)]),
    rule("persona", Medium, MODE, &[Near(SPECIAL, 2, 3), Near(BECOME | YOUR, 6, 4), Near(LIMITS | YOUR | REVEAL | ANSWER, 14, 14)]),
    rule("persona", Medium, LIMITS, &[Near(WITHOUT, 3, 3), Near(BECOME, 14, 14), Near(YOUR | AI, 14, 14)]),
    rule("persona", Medium, LIMITS, &[Near(WITHOUT, 2, 2), Near(ANSWER, 8, 8)]),
    rule("suppression", Medium, REFUSE, &[Near(NOT, 4, 4), Near(ANSWER | YOUR, 10, 10), Near(LIMITS | REFUSE | YES | FORBIDDEN | ALL, 12, 12)]),
    rule("suppression", Medium, BEGIN, &[Near(ANSWER, 4, 6), Near(YES, 2, 8)]),
    rule("delimiter", Medium, TEMPLATE, &[Near(SYSTEM | AI | USER, 0, 2)]),
    rule("delimiter", Medium, SYSTEM, &[Near(IGNORE | LIMITS | NEW | REVEAL | RULE, 16, 16), Near(BRACKET | HEAD, 1, 0)]),
    rule("exfiltration", Medium, ADDRESS, &[Near(SEND, 16, 10), Near(LOOT | GOODS, 16, 16), Near(IMAGE | SILENT | ALL | SYSTEM, 20, 20)]),
    rule("exfiltration", Medium, SILENT, &[Near(SEND, 25, 25), Near(LOOT | GOODS, 25, 25)]),
    rule("indirect", Medium, AI, &[Near(COLON | BRACKET, 0, 3), Near(IGNORE | SEND, 2, 20), Near(USER | INSTR | LOOT | GOODS, 20, 20)]),
    rule("authority", Medium, CLAIM, &[Near(YOUR, 20, 20), Near(INSTR | RULE | LIMITS | MODE, 25, 25), Near(REVEAL | IGNORE | WITHOUT, 25, 25)]),
    rule("splitting", Medium, PIECES, &[Near(EXECUTE, 20, 20), Near(IGNORE | REVEAL | INSTR | RULE | SYSTEM, 30, 30)]),
];

/// Words with which a text is taken to speak about attacks, within so many of what looks like one.
pub const MENTION: usize = 40;
