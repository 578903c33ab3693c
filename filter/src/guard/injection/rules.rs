//! The rules: which word classes, how close together, are an attack.
//!
//! A rule has a *key* class and requires others near it. Rules are few and general. The vocabulary determines what they detect; the
//! corpus of harmless prompts, what they must not.

use super::Sensitivity::{self, High, Low, Medium};
use super::tokens::*;
use super::words::*;

/// The version of rules and vocabulary together. It changes whenever a verdict may change.
pub const VERSION: &str = "1";

/// A rule: which classes are an attack.
pub struct AttackRule {
    /// The family of the attack, as reported.
    pub family: &'static str,
    /// The least sensitive setting that applies the rule.
    pub level: Sensitivity,
    /// The key: a token with any of these classes.
    pub key: Classes,
    /// Each of these must be near the key.
    pub needs: &'static [Near],
    /// None of these may be near the key.
    pub unless: &'static [Near],
}

/// Any of these classes, at most this many words before or after the key.
pub struct Near(pub Classes, pub usize, pub usize);

const fn rule(family: &'static str, level: Sensitivity, key: Classes, needs: &'static [Near]) -> AttackRule {
    AttackRule { family, level, key, needs, unless: &[] }
}

const fn except(rule: AttackRule, unless: &'static [Near]) -> AttackRule {
    AttackRule { unless, ..rule }
}

/// All rules.
pub const RULES: &[AttackRule] = &[
    rule("override", Low, INSTR, &[Near(IGNORE, 7, 7), Near(PRIOR, 4, 4), Near(ALL | YOUR | SYSTEM, 5, 5)]),
    rule("override", Low, INSTR, &[Near(IGNORE, 6, 6), Near(PRIOR | YOUR | SYSTEM, 5, 4)]),
    except(rule("override", Medium, INSTR, &[Near(IGNORE, 4, 4), Near(ALL, 4, 3)]), &[Near(WITHIN, 0, 5), Near(ASKS, 9, 0)]),
    rule("override", Medium, RULE, &[Near(IGNORE, 6, 6), Near(YOUR, 4, 4)]),
    except(
        rule(
            "override",
            Medium,
            RULE,
            &[Near(IGNORE, 5, 5), Near(PRIOR | ALL, 3, 3), Near(YOUR | BECOME | NEW | ANSWER | INSTR, 14, 14)],
        ),
        &[Near(ASKS, 9, 0)],
    ),
    rule(
        "override",
        Medium,
        VOID,
        &[
            Near(INSTR | RULE | LIMITS, 6, 6),
            Near(HEADING | AI | ADDRESSED, 10, 10),
            Near(ALL | PRIOR | NEW | ANSWER | YOUR, 12, 12),
        ],
    ),
    rule("override", Medium, IGNORE, &[Near(SAID, 4, 4), Near(PRIOR, 5, 5), Near(ALL, 4, 4)]),
    rule("override", Medium, IGNORE, &[Near(SAID, 1, 6), Near(PRIOR, 2, 8), Near(YOUR, 1, 5), Near(NEW | ANSWER | BECOME, 14, 14)]),
    rule("override", Medium, INSTR | RULE, &[Near(IGNORE, 3, 3), Near(HIDDEN, 3, 3)]),
    rule("override", Medium, INSTR, &[Near(NEW, 2, 0), Near(COLON, 0, 3), Near(AI | IGNORE | SYSTEM | INSTR, 12, 12)]),
    rule("override", High, INSTR | RULE, &[Near(IGNORE | VOID, 7, 7)]),
    rule("extraction", Low, INSTR, &[Near(SYSTEM, 3, 2), Near(REVEAL, 8, 8), Near(YOUR, 5, 3), Near(VERBATIM | ALL, 10, 10)]),
    rule("extraction", Low, INSTR, &[Near(SYSTEM, 3, 2), Near(REVEAL, 8, 8), Near(YOUR | ME, 6, 4)]),
    rule("extraction", Medium, INSTR, &[Near(YOUR, 4, 2), Near(REVEAL, 8, 8), Near(VERBATIM | ALL | PRIOR | SYSTEM, 8, 8)]),
    rule(
        "extraction",
        Medium,
        VERBATIM,
        &[Near(REVEAL, 8, 8), Near(PRIOR, 8, 8), Near(SAID | INSTR, 8, 8), Near(YOUR | ALL, 10, 10)],
    ),
    rule(
        "extraction",
        Medium,
        EXACT,
        &[
            Near(REVEAL, 10, 8),
            Near(PRIOR | YOUR | SYSTEM, 8, 8),
            Near(ALL | INSTR | RULE, 8, 8),
            Near(SAID | INSTR | RULE | SYSTEM, 8, 8),
        ],
    ),
    rule("extraction", High, INSTR, &[Near(YOUR | SYSTEM, 4, 2), Near(REVEAL, 6, 6)]),
    rule("persona", Low, PERSONA, &[Near(BECOME | YOUARE | MODE, 10, 10), Near(YOUR | ANSWER | AI, 14, 14)]),
    rule("persona", Medium, DAN, &[Near(BECOME | YOUARE, 8, 8), Near(WITHOUT | LIMITS | PERSONA, 20, 20)]),
    rule(
        "persona",
        Medium,
        MODE,
        &[Near(SPECIAL, 2, 3), Near(BECOME | YOUARE, 6, 5), Near(LIMITS | REVEAL | ANSWER | FORBIDDEN | YOUR, 14, 14)],
    ),
    rule("persona", Medium, LIMITS, &[Near(WITHOUT, 3, 3), Near(BECOME | YOUARE, 14, 14), Near(YOUR | AI, 14, 14)]),
    rule("persona", Medium, LIMITS, &[Near(WITHOUT, 2, 2), Near(ANSWER, 8, 8), Near(LIMITS | FORBIDDEN | ALL, 8, 8)]),
    rule(
        "suppression",
        Medium,
        REFUSE,
        &[Near(NOT | WITHOUT, 3, 3), Near(ANSWER | YOUR, 8, 8), Near(LIMITS | REFUSE | YES | FORBIDDEN, 8, 8)],
    ),
    rule(
        "suppression",
        Medium,
        REFUSE,
        &[Near(NOT | WITHOUT, 3, 4), Near(REFUSE, 9, 9), Near(NOT | WITHOUT | FORBIDDEN | YES, 7, 7)],
    ),
    rule("suppression", High, REFUSE, &[Near(NOT, 3, 3)]),
    rule("suppression", Medium, FORBIDDEN, &[Near(ANSWER, 5, 2), Near(SAID | YOUR, 3, 3)]),
    rule("suppression", Medium, BEGIN, &[Near(ANSWER, 4, 6), Near(YES, 2, 8), Near(REFUSE | FORBIDDEN | LIMITS, 16, 16)]),
    rule("delimiter", Medium, TEMPLATE, &[Near(HEADING | AI | USER, 0, 2)]),
    rule(
        "delimiter",
        Medium,
        HEADING,
        &[
            Near(BRACKET | HEAD, 1, 0),
            Near(IGNORE | VOID | LIMITS | REVEAL | RULE, 16, 16),
            Near(YOUR | ALL | NEW | NOT | WITHOUT, 16, 16),
        ],
    ),
    rule(
        "exfiltration",
        Medium,
        LOOT,
        &[Near(ADDRESS, 12, 12), Near(SEND, 10, 10), Near(IMAGE | SILENT | ALL | YOUR | SYSTEM | NOT, 14, 14)],
    ),
    rule(
        "exfiltration",
        Medium,
        IMAGE,
        &[Near(ADDRESS, 0, 3), Near(SEND | LOOT | GOODS, 12, 16), Near(YOUR | INSTR | LOOT | USER | NOT, 20, 20)],
    ),
    rule("exfiltration", Medium, SILENT, &[Near(SEND, 14, 14), Near(LOOT | GOODS, 12, 12)]),
    rule("indirect", Medium, ADDRESSED, &[Near(IGNORE | SEND | REVEAL | ANSWER | NOT | EXECUTE | SILENT, 20, 20)]),
    rule(
        "authority",
        Medium,
        CLAIM,
        &[
            Near(YOUR | AI | SYSTEM, 14, 14),
            Near(INSTR | RULE | LIMITS | MODE, 14, 14),
            Near(REVEAL | IGNORE | WITHOUT | VOID, 14, 14),
        ],
    ),
    rule(
        "splitting",
        Medium,
        PIECES,
        &[Near(EXECUTE, 14, 14), Near(IGNORE | REVEAL | INSTR | RULE | SYSTEM, 24, 24), Near(OPENS, 16, 16)],
    ),
];

/// The distance, in words, at which words about attacks make a match a mention.
pub const MENTION: usize = 40;
/// The distance at which words that name the topic do so, if they come before the match.
pub const TITLE: usize = 300;
