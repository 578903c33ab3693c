//! `ModelProvider.spec.guards`.

use std::collections::BTreeSet;

use crate::guard::injection::Sensitivity;
use crate::guard::pattern::{InvalidPattern, MAX_PATTERNS, PatternCheck, RegexPattern};
use crate::guard::{Action, Check, Guard, ROLES, Unreadable};

use super::field::{Field, Fields};
use super::invalid::{InvalidConfig, Reason, quoted};
use super::word;

pub(super) const FIELDS: &[&str] = &["name", "type", "action", "roles", "unreadable", "sensitivity", "deny", "allow"];

const TYPES: &[(&str, Type)] = &[("promptInjection", Type::PromptInjection), ("pattern", Type::Pattern)];
const ACTIONS: &[(&str, Action)] = &[("reject", Action::Reject), ("audit", Action::Audit)];
const UNREADABLE: &[(&str, Unreadable)] = &[("reject", Unreadable::Reject), ("allow", Unreadable::Allow)];
const SENSITIVITIES: &[(&str, Sensitivity)] =
    &[("low", Sensitivity::Low), ("medium", Sensitivity::Medium), ("high", Sensitivity::High)];

/// The most guards of one provider.
const MAX_GUARDS: usize = 16;

/// The values of `type`.
#[derive(Clone, Copy)]
enum Type {
    PromptInjection,
    Pattern,
}

/// Reads the list.
pub(super) fn compile(list: Field) -> Result<Vec<Guard>, InvalidConfig> {
    let many = list.refuse(format!("must have at most {MAX_GUARDS} guards"));
    let mut names = BTreeSet::new();
    let guards = list.list(|entry| guard(entry, &mut names))?;
    if guards.len() > MAX_GUARDS { Err(many) } else { Ok(guards) }
}

fn guard(entry: Field, names: &mut BTreeSet<Box<str>>) -> Result<Guard, InvalidConfig> {
    let mut entry = entry.fields(FIELDS)?;
    let name = entry.required("name", |name| name.text(|name| new_name(name, names)))?;
    let check = match entry.required("type", |kind| kind.one_of(TYPES))? {
        Type::PromptInjection => injection(&mut entry)?,
        Type::Pattern => patterns(&mut entry)?,
    };
    Ok(Guard {
        name,
        action: entry.optional("action", |action| action.one_of(ACTIONS))?.unwrap_or_default(),
        roles: entry.optional("roles", roles)?,
        unreadable: entry.optional("unreadable", |unreadable| unreadable.one_of(UNREADABLE))?.unwrap_or_default(),
        check,
    })
}

fn new_name(name: &str, names: &mut BTreeSet<Box<str>>) -> Result<Box<str>, Reason> {
    let name = word::label(name)?;
    if names.insert(name.clone()) { Ok(name) } else { Err("is used twice; guards of one provider have different names".into()) }
}

fn injection(entry: &mut Fields) -> Result<Check, InvalidConfig> {
    for other in ["deny", "allow"] {
        entry.optional(other, |field| Err::<(), _>(field.refuse("is for guards of type `pattern`")))?;
    }
    let sensitivity = entry.optional("sensitivity", |sensitivity| sensitivity.one_of(SENSITIVITIES))?;
    Ok(Check::Injection(sensitivity.unwrap_or(Sensitivity::Medium)))
}

fn patterns(entry: &mut Fields) -> Result<Check, InvalidConfig> {
    entry.optional("sensitivity", |field| Err::<(), _>(field.refuse("is for guards of type `promptInjection`")))?;
    let deny = entry.required("deny", pattern_list)?;
    let allow = entry.optional("allow", pattern_list)?.unwrap_or_default();
    Ok(Check::Pattern(PatternCheck::new(deny, allow)))
}

fn pattern_list(list: Field) -> Result<Vec<RegexPattern>, InvalidConfig> {
    let number = list.refuse(format!("must have 1 to {MAX_PATTERNS} patterns"));
    let mut count = 0;
    let patterns = list.list(|entry| {
        count += 1;
        if count > MAX_PATTERNS {
            return Err(entry.refuse(format!("is one too many: a list has at most {MAX_PATTERNS} patterns")));
        }
        entry.text(pattern)
    })?;
    if patterns.is_empty() { Err(number) } else { Ok(patterns) }
}

fn pattern(text: &str) -> Result<RegexPattern, Reason> {
    RegexPattern::new(text).map_err(|error| match error {
        // The engine's message names no part of the pattern.
        InvalidPattern::Syntax(_) | InvalidPattern::TooLong | InvalidPattern::MatchesEmpty => error.to_string().into(),
    })
}

fn roles(list: Field) -> Result<Vec<Box<str>>, InvalidConfig> {
    let none = list.refuse("must name a role; leave it out for all");
    let roles = list.list(|role| role.text(known_role))?;
    if roles.is_empty() { Err(none) } else { Ok(roles) }
}

fn known_role(text: &str) -> Result<Box<str>, Reason> {
    if ROLES.contains(&text) {
        return Ok(text.into());
    }
    let reason = format!("must be one of {}, got {}; texts of any other role are always judged", ROLES.join(", "), quoted(text));
    Err(reason.into())
}
