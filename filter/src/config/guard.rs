//! `ModelProvider.spec.guards`.

use std::collections::BTreeSet;

use crate::guard::injection::Sensitivity;
use crate::guard::pattern::{InvalidPattern, MAX_PATTERNS, PatternCheck, RegexPattern};
use crate::guard::{Action, Check, Guard, ROLES, Unreadable};

use super::field::{Field, Fields, did_you_mean};
use super::identifier;
use super::invalid::{Reason, Reported};
use super::quote::quoted;

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

/// Reads the guards of a provider.
pub(super) fn read_list(list: Field<'_>) -> Result<Vec<Guard>, Reported> {
    if list.len() > Some(MAX_GUARDS) {
        return Err(list.refuse(format!("must have at most {MAX_GUARDS} guards")));
    }
    let mut names = BTreeSet::new();
    list.list(|entry| guard(entry, &mut names))
}

fn guard(entry: Field<'_>, names: &mut BTreeSet<Box<str>>) -> Result<Guard, Reported> {
    let mut entry = entry.fields(FIELDS)?;
    let name = entry.required("name", |name| name.text(|name| unused_name(name, names)));
    let check = entry.required("type", |kind| kind.one_of(TYPES)).and_then(|kind| match kind {
        Type::PromptInjection => injection(&mut entry),
        Type::Pattern => patterns(&mut entry),
    });
    let action = entry.optional("action", |action| action.one_of(ACTIONS));
    let roles = entry.optional("roles", roles);
    let unreadable = entry.optional("unreadable", |unreadable| unreadable.one_of(UNREADABLE));
    Ok(Guard {
        name: name?,
        action: action?.unwrap_or_default(),
        roles: roles?,
        unreadable: unreadable?.unwrap_or_default(),
        check: check?,
    })
}

fn unused_name(name: &str, names: &mut BTreeSet<Box<str>>) -> Result<Box<str>, Reason> {
    let name = identifier::dns_label(name)?;
    if names.insert(name.clone()) { Ok(name) } else { Err("is used twice; guards of one provider have different names".into()) }
}

fn injection(entry: &mut Fields<'_>) -> Result<Check, Reported> {
    let deny = refuse_present(entry, "deny", "is for guards of type `pattern`");
    let allow = refuse_present(entry, "allow", "is for guards of type `pattern`");
    let sensitivity = entry.optional("sensitivity", |sensitivity| sensitivity.one_of(SENSITIVITIES));
    deny.and(allow)?;
    Ok(Check::Injection(sensitivity?.unwrap_or(Sensitivity::Medium)))
}

fn patterns(entry: &mut Fields<'_>) -> Result<Check, Reported> {
    let sensitivity = refuse_present(entry, "sensitivity", "is for guards of type `promptInjection`");
    let deny = entry.required("deny", pattern_list);
    let allow = entry.optional("allow", pattern_list);
    sensitivity?;
    Ok(Check::Pattern(PatternCheck::new(deny?, allow?.unwrap_or_default())))
}

/// Refuses a field that is there.
fn refuse_present(entry: &mut Fields<'_>, name: &'static str, reason: &str) -> Result<(), Reported> {
    entry.optional(name, |field| Err::<(), _>(field.refuse(reason))).map(|_| ())
}

fn pattern_list(list: Field<'_>) -> Result<Vec<RegexPattern>, Reported> {
    match list.len() {
        Some(0) => Err(list.refuse(format!("must have 1 to {MAX_PATTERNS} patterns"))),
        Some(count) if count > MAX_PATTERNS => {
            Err(list.refuse_element(MAX_PATTERNS, format!("is one too many: a list has at most {MAX_PATTERNS} patterns")))
        }
        _ => list.list(|entry| entry.text(pattern)),
    }
}

fn pattern(text: &str) -> Result<RegexPattern, Reason> {
    RegexPattern::new(text).map_err(|error| match error {
        // The engine's message names no part of the pattern.
        InvalidPattern::Syntax(_) | InvalidPattern::TooLong | InvalidPattern::MatchesEmpty => error.to_string().into(),
    })
}

fn roles(list: Field<'_>) -> Result<Vec<Box<str>>, Reported> {
    if list.len() == Some(0) {
        return Err(list.refuse("must name a role; leave it out for all"));
    }
    list.list(|role| role.text(known_role))
}

fn known_role(text: &str) -> Result<Box<str>, Reason> {
    if ROLES.contains(&text) {
        return Ok(text.into());
    }
    let meant = did_you_mean(text, ROLES.into_iter());
    let rule = format!("must be one of {}, got {}", ROLES.join(", "), quoted(text));
    Err(format!("{rule}; texts with any other role are always checked{meant}").into())
}
