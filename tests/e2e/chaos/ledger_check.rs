//! Checks the ledger after a round: each charge against what the providers sent, and each account against the charges.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{End, Outcome};
use crate::ledger::{BudgetId, Ledger};
use crate::plan::{Caller, Form, Plan, ProviderBehaviour};
use crate::setup::{Record, TRY_TIMEOUT, highest_estimate, is_vllm, lowest_estimate, name, provider_index};

/// The longest time from the end of a request at its client to its settlement, on a busy machine.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);

/// All records of a finished round.
pub struct LedgerCheck<'a> {
    pub plan: &'a Plan,
    pub outcomes: &'a [Outcome],
    pub records: &'a BTreeMap<String, Vec<Record>>,
    /// The lines of the access log, by request.
    pub lines: &'a BTreeMap<String, Value>,
    pub ledger: &'a Ledger,
    /// The most tokens above the cap of each budget that was ever exceeded.
    pub overshoots: BTreeMap<BudgetId, u64>,
    /// The times just before and just after the simulated midnight.
    pub midnight: Option<(Instant, Instant)>,
    /// The number of VMs that trapped.
    pub traps: usize,
    /// The time from which no connections were accepted.
    pub drained: Option<Instant>,
    pub faults: Vec<String>,
    /// What the summary reports.
    pub findings: Vec<String>,
}

/// A range of tokens, both ends inclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range(pub u64, pub u64);

/// One request with all its records.
#[derive(Clone, Copy)]
struct Case<'a> {
    /// The number of providers, and whether none of them has an outage.
    providers: usize,
    steady: bool,
    strict: bool,
    outcome: &'a Outcome,
    records: &'a [Record],
    line: Option<&'a Value>,
}

/// The day to which a charge belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Day {
    Yesterday,
    Either,
    Today,
}

// === impl Range ===

impl Range {
    fn exactly(tokens: u64) -> Self {
        Self(tokens, tokens)
    }

    fn add(&mut self, other: Self) {
        self.0 += other.0;
        self.1 += other.1;
    }

    fn holds(self, tokens: u64) -> bool {
        self.0 <= tokens && tokens <= self.1
    }
}

// === impl LedgerCheck ===

impl LedgerCheck<'_> {
    /// Checks all requests and accounts.
    pub fn run(&mut self) {
        let cases = self.outcomes.iter().map(|outcome| Case {
            providers: self.plan.providers(),
            steady: !self.plan.has_outage(),
            strict: self.plan.strict,
            outcome,
            records: self.records.get(&outcome.planned.id).map_or(&[], Vec::as_slice),
            line: self.lines.get(&outcome.planned.id),
        });
        let cases: Vec<Case<'_>> = cases.collect();
        let mut faults = Vec::new();
        for case in &cases {
            let checked = self.answer(case).and_then(|()| self.charge(case));
            faults.extend(checked.err().map(|fault| case.describe(&fault)));
        }
        self.faults.extend(faults);
        for provider in 0..self.plan.providers() {
            self.provider(provider, &cases);
        }
        self.overshoots(&cases);
        let providers = (0..self.plan.providers()).map(|provider| self.ledger.of(&format!("provider/{}", name(provider)))[0].used);
        self.sum("all providers", providers.sum(), &cases);
        if self.plan.form == Form::Everything {
            // The third key has no cap, and therefore no account.
            for (subject, caller) in
                [("agent/researcher", Caller::Inside), ("key/alice", Caller::Developer(0)), ("key/bob", Caller::Developer(1))]
            {
                let own: Vec<Case<'_>> = cases.iter().filter(|case| case.outcome.planned.caller == caller).copied().collect();
                self.sum(subject, self.ledger.of(subject)[0].used, &own);
            }
        }
    }

    /// Checks by how much a budget was exceeded: not at all if the upper bounds of prompts are certain, otherwise by no more than the
    /// overage of the requests that were in flight when the last of them was admitted. Nothing is admitted while a budget is exceeded.
    fn overshoots(&mut self, cases: &[Case<'_>]) {
        for ((subject, index), above) in &self.overshoots {
            let most = if self.plan.strict { 0 } else { most_overage(subject, *index, cases) };
            let found = format!("budget {index} of {subject} was exceeded by {above}, with {most} of overage in flight at most");
            if *above > most {
                self.faults.push(found.clone());
            }
            self.findings.push(found);
        }
    }

    /// Checks that the client's response is as planned.
    fn answer(&self, case: &Case<'_>) -> Result<(), String> {
        let Outcome { planned, end, seen, .. } = case.outcome;
        if *end == End::Hung {
            return Err("it hangs".to_owned());
        }
        if *end == End::Refused {
            return if self.drained.is_some() { Ok(()) } else { Err("no connection".to_owned()) };
        }
        let providers: BTreeSet<usize> = case.records.iter().map(|record| record.provider).collect();
        if providers.len() != case.records.len() {
            return Err("a provider was sent it twice".to_owned());
        }
        // Envoy had not accepted the connection when it drained its listeners.
        let outside = case.line.is_none() && case.records.is_empty() && self.drained.is_some_and(|at| case.outcome.over >= at);
        // A trapped VM rejects requests until it is replaced.
        let troubled = self.traps > 0 || outside;
        match (seen.status, end) {
            (Some(200), End::Whole) if !planned.is_unfinished() => return case.served(),
            (_, End::Disconnected) => return Ok(()),
            (Some(503), _) if self.traps > 0 => return Ok(()),
            (Some(408), End::Whole) if planned.is_unfinished() => return Ok(()),
            (Some(403), End::Whole) if planned.forbidden => return Ok(()),
            (_, End::Cut) if troubled => return Ok(()),
            _ if planned.is_unfinished() => return Err("no 408 for an incomplete body".to_owned()),
            _ if planned.forbidden => return Err("forbidden, and not refused".to_owned()),
            (Some(429), End::Whole) if self.plan.tight => return Ok(()),
            _ => {}
        }
        if planned.is_served() && !case.is_late() && !self.plan.has_outage() {
            return Err("every provider would have served it".to_owned());
        }
        let broken = matches!(seen.status, Some(400 | 429 | 500 | 502 | 503 | 504)) && *end == End::Whole;
        let cut = *end == End::Cut && seen.status == Some(200);
        let by = seen
            .provider
            .as_deref()
            .and_then(provider_index)
            .and_then(|by| case.records.iter().find(|record| record.provider == by));
        let deserved =
            case.is_late() || by.is_some_and(|record| record.behaviour != ProviderBehaviour::Serve) || self.plan.has_outage();
        if broken || cut && deserved { Ok(()) } else { Err("an error without a cause".to_owned()) }
    }

    /// Checks that the charge matches what was sent.
    fn charge(&self, case: &Case<'_>) -> Result<(), String> {
        let Some(line) = case.line else { return Ok(()) };
        let Some(charged) = charged(line) else {
            // Only a trapped VM writes no decision.
            return if self.traps > 0 || line["decision"].is_string() { Ok(()) } else { Err("nothing was logged".to_owned()) };
        };
        let mut range = Range::default();
        for attempt in case.attempts()? {
            range.add(attempt.1);
        }
        if !range.holds(charged) {
            return Err(format!("charged {charged}, and {range:?} were sent"));
        }
        let passed = case.passed();
        let completion = tokens(line, "completion_tokens").unwrap_or(0);
        if passed.is_none_or(|range| range.holds(completion)) {
            Ok(())
        } else {
            Err(format!("charged {completion} for a completion, and {passed:?} were sent"))
        }
    }

    fn provider(&mut self, provider: usize, cases: &[Case<'_>]) {
        let [mut all, mut external] = [Range::default(); 2];
        for case in cases {
            let Ok(attempts) = case.attempts() else { continue };
            // Reservations of a trapped VM are charged with the prompt, or not at all if the day has ended.
            let range = attempts.into_iter().filter(|(who, _)| *who == provider).fold(Range::default(), |mut sum, (_, range)| {
                sum.add(range);
                sum
            });
            let range = self.today(case, range);
            all.add(range);
            if matches!(case.outcome.planned.caller, Caller::Developer(_)) {
                external.add(range);
            }
        }
        let budgets = self.ledger.of(&format!("provider/{}", name(provider)));
        for (what, range, budget) in [("all", all, budgets[0]), ("developers", external, budgets[1])] {
            if !range.holds(budget.used) {
                self.faults.push(format!("{} ({what}): used {}, and {range:?} were sent", name(provider), budget.used));
            }
        }
    }

    /// Checks that the used tokens of an account equal the charges of its callers' requests.
    fn sum(&mut self, what: &str, used: u64, cases: &[Case<'_>]) {
        let mut sum = Range::default();
        for case in cases {
            let range = match case.line.and_then(charged) {
                Some(charged) => Range::exactly(charged),
                None => Range(0, case.attempts().map_or(0, |attempts| attempts.iter().map(|(_, range)| range.1).sum())),
            };
            sum.add(self.today(case, range));
        }
        if !sum.holds(used) {
            self.faults.push(format!("{what}: used {used}, and the requests were charged {sum:?}"));
        }
    }

    fn today(&self, case: &Case<'_>, range: Range) -> Range {
        match case.day(self.midnight) {
            Day::Yesterday => Range::default(),
            Day::Either => Range(0, range.1),
            Day::Today => range,
        }
    }
}

// === impl Case ===

impl Case<'_> {
    /// Checks that a complete response is one provider's, unmodified.
    fn served(&self) -> Result<(), String> {
        let seen = &self.outcome.seen;
        let by = seen.provider.as_deref().and_then(provider_index);
        let Some(record) = self.records.iter().find(|record| Some(record.provider) == by) else {
            return Err("a response that no provider has sent".to_owned());
        };
        if record.behaviour != ProviderBehaviour::Serve {
            return Err("a whole answer from a provider that has broken it off".to_owned());
        }
        if record.stream && seen.words != record.words {
            return Err(format!("{} words came, {} were sent", seen.words, record.words));
        }
        let expects_usage = !record.stream || self.outcome.planned.wants_usage;
        if expects_usage != seen.usage.is_some() || seen.usage.is_some_and(|usage| usage != (record.prompt, record.words)) {
            return Err(format!("{:?} reported, {:?} sent", seen.usage, (record.prompt, record.words)));
        }
        Ok(())
    }

    /// Returns the providers that received the request, or may have, and the range of their charges.
    fn attempts(&self) -> Result<Vec<(usize, Range)>, String> {
        let estimate = Range(0, highest_estimate(&self.outcome.planned));
        let Some(line) = self.line.filter(|line| line["decision"].is_string()) else {
            // The progress is unknown: the request may have been admitted without reaching its provider.
            let asked = self.records.iter().map(|record| (record.provider, self.charge_after_trap(record)));
            let others = (0..self.providers).filter(|provider| !self.records.iter().any(|record| record.provider == *provider));
            return Ok(asked.chain(others.map(|provider| (provider, estimate))).collect());
        };
        let last = line["provider"].as_str().and_then(provider_index).filter(|_| charged(line).is_some());
        let passed: BTreeMap<usize, &str> = line["attempts"].as_str().unwrap_or_default().split(',').filter_map(skipped).collect();
        let mut attempts = Vec::new();
        for record in self.records {
            let range = match passed.get(&record.provider) {
                _ if Some(record.provider) == last => self.charge_of_last(record),
                Some(&"reset") => Range(self.least_charge(record), estimate.1),
                Some(status) if matches!(record.behaviour, ProviderBehaviour::Status(code) if code.to_string() == *status) => {
                    Range::default()
                }
                other => return Err(format!("{} was sent it, and the log has {other:?}: {line}", name(record.provider))),
            };
            attempts.push((record.provider, range));
        }
        let unread = |provider: &usize| !self.records.iter().any(|record| record.provider == *provider);
        let resets = passed.iter().filter(|(_, why)| **why == "reset").map(|(provider, _)| *provider);
        attempts.extend(resets.chain(last).filter(unread).map(|provider| (provider, estimate)));
        Ok(attempts)
    }

    /// Returns the range of the charge of the last provider.
    fn charge_of_last(&self, record: &Record) -> Range {
        let Outcome { planned, end, seen, .. } = self.outcome;
        let (least, most) = (self.least_charge(record), highest_estimate(planned));
        let whole = record.prompt + record.words;
        let answered = seen.provider.as_deref() == Some(name(record.provider));
        if *end == End::Whole && answered && seen.status == Some(200) {
            return Range::exactly(whole);
        }
        match record.behaviour {
            // The status was not received, or too late.
            ProviderBehaviour::Status(_) if *end == End::Disconnected || self.is_local() => Range(0, most),
            ProviderBehaviour::Status(_) => Range::default(),
            ProviderBehaviour::Reset | ProviderBehaviour::Close | ProviderBehaviour::HalfHead | ProviderBehaviour::Hang => {
                Range(least, most)
            }
            ProviderBehaviour::CutClose(_) if self.breaks_off(record) && *end == End::Cut && answered => {
                Range::exactly(record.prompt + record.max_words())
            }
            _ if !record.stream => Range(least, most.max(whole)),
            _ if is_vllm(record.provider) && seen.words > 0 => Range(record.prompt + seen.words, record.prompt + record.sent()),
            _ if is_vllm(record.provider) => Range(least, most.max(record.prompt + record.sent())),
            _ => Range(least + seen.words, most + record.sent()),
        }
    }

    /// Returns a lower bound of the charge for the prompt: what the provider counts, or what the filter estimates.
    fn least_charge(&self, record: &Record) -> u64 {
        record.prompt.min(lowest_estimate(&self.outcome.planned, self.strict))
    }

    /// Returns by how much the charge in the budgets of this subject exceeds what was reserved for it, at most.
    fn overage(&self, subject: &str) -> u64 {
        let Some((line, charged)) = self.line.and_then(|line| Some((line, charged(line)?))) else { return 0 };
        // Charges of failed attempts do not exceed their reservations.
        let last = line["provider"].as_str().and_then(provider_index);
        if subject.strip_prefix("provider/").is_some_and(|name| provider_index(name) != last) {
            return 0;
        }
        let failed = self.attempts().unwrap_or_default().into_iter().filter(|(provider, _)| Some(*provider) != last);
        let failed: u64 = failed.map(|(_, range)| range.0).sum();
        tokens(line, "reserved").map_or(0, |reserved| charged.saturating_sub(failed).saturating_sub(reserved))
    }

    /// Returns whether the request counts in this budget, and the period in which it was admitted to it.
    fn admission(&self, subject: &str, index: usize) -> Option<(Instant, Instant)> {
        let Outcome { planned, sent, over, .. } = self.outcome;
        let caller = planned.caller;
        let provider = subject.strip_prefix("provider/").map(|name| provider_index(name).expect("a provider"));
        let counts = match (subject, provider) {
            (_, Some(_)) => index == 0 || caller != Caller::Inside,
            ("agent/researcher", None) => caller == Caller::Inside,
            ("key/alice", None) => caller == Caller::Developer(0),
            ("key/bob", None) => caller == Caller::Developer(1),
            _ => false,
        };
        let reached = |record: &&Record| provider.is_none_or(|provider| provider == record.provider);
        let last = self.records.iter().filter(reached).map(|record| record.at).max();
        counts.then(|| (*sent, last.unwrap_or(*over)))
    }

    /// Returns whether the provider cut off this stream, in which each event contains the usage.
    fn breaks_off(&self, record: &Record) -> bool {
        self.steady && !self.is_late() && is_vllm(record.provider) && record.stream
    }

    /// Returns whether Envoy may have timed out, because of a silent provider or a busy machine.
    fn is_late(&self) -> bool {
        self.outcome.over - self.outcome.sent >= TRY_TIMEOUT
    }

    /// Returns the number of deltas that passed the gateway in a stream: at least those that the client received, at most those
    /// that were sent.
    fn passed(&self) -> Option<Range> {
        let seen = &self.outcome.seen;
        let by = seen.provider.as_deref().and_then(provider_index)?;
        let record = self.records.iter().find(|record| record.provider == by && record.stream)?;
        // Where no usage is reported, the finish event counts as a delta.
        let finish = u64::from(!is_vllm(by) && record.sent() == record.words);
        (seen.status == Some(200)).then(|| Range(seen.words, record.sent() + finish))
    }

    /// Returns the range of the charge where a VM trapped that had the request, or that had skipped this provider before.
    fn charge_after_trap(&self, record: &Record) -> Range {
        let charge = if matches!(record.behaviour, ProviderBehaviour::Status(_)) { 0 } else { record.prompt + record.words };
        Range(0, highest_estimate(&self.outcome.planned).max(charge))
    }

    fn day(&self, midnight: Option<(Instant, Instant)>) -> Day {
        let Some((before, after)) = midnight else { return Day::Today };
        let only = if let [record] = self.records { Some(record) } else { None };
        if self.outcome.sent > after {
            Day::Today
        } else if self.outcome.over < before || only.is_some_and(|record| record.at < before) && self.is_single() {
            Day::Yesterday
        } else {
            Day::Either
        }
    }

    /// Returns whether the request was sent to one provider only.
    fn is_single(&self) -> bool {
        self.line.is_some_and(|line| line["attempts"].is_null() && line["decision"].is_string())
    }

    /// Returns whether Envoy generated the response.
    fn is_local(&self) -> bool {
        self.line.is_some_and(|line| line["decision"].as_str().is_some_and(|decision| decision.starts_with("upstream_")))
    }

    fn describe(&self, fault: &str) -> String {
        let records: Vec<String> = self
            .records
            .iter()
            .map(|record| {
                format!(
                    "{}: {:?}, {}+{}, sent {}",
                    name(record.provider),
                    record.behaviour,
                    record.prompt,
                    record.words,
                    record.sent()
                )
            })
            .collect();
        let Outcome { planned, end, seen, .. } = self.outcome;
        format!(
            "{}: {fault}\n    {planned:?}\n    {end:?} {seen:?}\n    {records:?}\n    {}",
            planned.id,
            self.line.unwrap_or(&Value::Null)
        )
    }
}

/// Returns the largest overage of requests in flight at once, of those that count in this budget.
fn most_overage(subject: &str, index: usize, cases: &[Case<'_>]) -> u64 {
    let periods: Vec<_> = cases
        .iter()
        .filter_map(|case| Some((case.admission(subject, index)?, case.outcome.over + SETTLES_WITHIN, case.overage(subject))))
        .collect();
    let in_flight = |((from, to), ..): &((Instant, Instant), Instant, u64)| {
        let others = periods.iter().filter(|((sent, _), settled, _)| sent <= to && settled >= from);
        others.map(|(_, _, overage)| overage).sum()
    };
    periods.iter().map(in_flight).max().unwrap_or(0)
}

/// Returns the charged tokens in a line of the access log.
fn charged(line: &Value) -> Option<u64> {
    Some(tokens(line, "prompt_tokens")? + tokens(line, "completion_tokens")?)
}

fn tokens(line: &Value, field: &str) -> Option<u64> {
    line[field].as_str()?.parse().ok()
}

fn skipped(entry: &str) -> Option<(usize, &str)> {
    let (who, why) = entry.split_once('=')?;
    Some((provider_index(who)?, why))
}
