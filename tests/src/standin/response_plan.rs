//! The content of a response and the order of its events, decided before any byte is written.

use super::Fault;

/// The requested API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Chat,
    Completions,
}

/// When a stream reports usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsageReporting {
    Never,
    AtEnd,
    Continuous,
}

/// One completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub prompt_tokens: u64,
    pub length: u64,
    pub finish: &'static str,
}

/// A planned response.
#[derive(Clone, Debug)]
pub(super) struct ResponsePlan {
    pub api: Api,
    pub id: String,
    pub model: String,
    pub choices: Vec<Choice>,
    pub prompt_tokens: u64,
    pub stream: bool,
    pub usage_reporting: UsageReporting,
    pub details: bool,
    pub tool: Option<String>,
    pub fault: Fault,
}

/// The next event to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Role(usize),
    Token { choice: usize, number: u64, last: bool },
    Usage,
    Done,
    EngineDied,
}

/// Why a stream stops before the end of its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Reset,
    Hang,
    End,
}

/// The events of one stream, in vLLM's order: roles, tokens round by round, usage, `[DONE]`.
#[derive(Debug, Default)]
pub(super) struct EventSequence {
    sent: u64,
    role: usize,
    round: u64,
    choice: usize,
    tail: u8,
}

// === impl ResponsePlan ===

impl ResponsePlan {
    pub fn completion_tokens(&self) -> u64 {
        self.choices.iter().map(|choice| choice.length).sum()
    }

    /// Returns the number of a choice's tokens that are reasoning.
    pub fn reasoning(&self, choice: &Choice) -> u64 {
        if self.fault.reasoning && self.tool.is_none() { choice.length / 2 } else { 0 }
    }

    fn rounds(&self) -> u64 {
        self.choices.iter().map(|choice| choice.length).max().unwrap_or(0)
    }
}

// === impl EventSequence ===

impl EventSequence {
    /// Returns the next event, or why there is none; `Stop::End` ends the stream.
    pub fn next(&mut self, plan: &ResponsePlan) -> Result<Event, Stop> {
        let fault = &plan.fault;
        let reached = |limit: Option<u64>| limit.is_some_and(|limit| self.sent >= limit);
        let cut = match () {
            () if reached(fault.reset_after_events) => Some(Stop::Reset),
            () if reached(fault.hang_after_events) => Some(Stop::Hang),
            () if reached(fault.end_after_events) => Some(Stop::End),
            () => None,
        };
        if let Some(stop) = cut {
            return Err(stop);
        }
        let died = reached(fault.error_event_after);
        let event = if died { self.dying() } else { self.healthy(plan) };
        self.sent += 1;
        event.ok_or(Stop::End)
    }

    fn dying(&mut self) -> Option<Event> {
        self.tail = if self.tail < 4 { 4 } else { self.tail + 1 };
        match self.tail {
            4 => Some(Event::EngineDied),
            5 => Some(Event::Done),
            _ => None,
        }
    }

    fn healthy(&mut self, plan: &ResponsePlan) -> Option<Event> {
        if plan.api == Api::Chat && self.role < plan.choices.len() {
            self.role += 1;
            return Some(Event::Role(self.role - 1));
        }
        self.token(plan).or_else(|| self.ending(plan))
    }

    fn token(&mut self, plan: &ResponsePlan) -> Option<Event> {
        while self.round < plan.rounds() {
            let (choice, number) = (self.choice, self.round);
            self.choice += 1;
            match plan.choices.get(choice) {
                Some(planned) if number < planned.length => {
                    return Some(Event::Token { choice, number, last: number + 1 == planned.length });
                }
                Some(_) => {}
                None => (self.choice, self.round) = (0, self.round + 1),
            }
        }
        None
    }

    fn ending(&mut self, plan: &ResponsePlan) -> Option<Event> {
        self.tail += 1;
        match self.tail {
            1 if plan.usage_reporting != UsageReporting::Never => Some(Event::Usage),
            1 => self.ending(plan),
            2 => Some(Event::Done),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(api: Api, lengths: &[u64], usage_reporting: UsageReporting, fault: &str) -> ResponsePlan {
        let choices: Vec<_> = lengths.iter().map(|&length| Choice { prompt_tokens: 1, length, finish: "length" }).collect();
        ResponsePlan {
            api,
            id: String::new(),
            model: String::new(),
            choices,
            prompt_tokens: 1,
            stream: true,
            usage_reporting,
            details: false,
            tool: None,
            fault: fault.parse().unwrap(),
        }
    }

    fn events(plan: &ResponsePlan) -> (String, Stop) {
        let (mut sequence, mut text) = (EventSequence::default(), String::new());
        loop {
            match sequence.next(plan) {
                Ok(Event::Role(choice)) => text += &format!("r{choice} "),
                Ok(Event::Token { choice, number, last }) => {
                    text += &format!("{choice}.{number}{} ", if last { "!" } else { "" });
                }
                Ok(Event::Usage) => text += "usage ",
                Ok(Event::Done) => text += "done ",
                Ok(Event::EngineDied) => text += "died ",
                Err(stop) => return (text.trim_end().into(), stop),
            }
        }
    }

    #[test]
    fn orders() {
        let table = [
            (plan(Api::Chat, &[2], UsageReporting::Never, ""), "r0 0.0 0.1! done", Stop::End),
            (plan(Api::Chat, &[1, 2], UsageReporting::Continuous, ""), "r0 r1 0.0! 1.0 1.1! usage done", Stop::End),
            (plan(Api::Completions, &[2], UsageReporting::AtEnd, ""), "0.0 0.1! usage done", Stop::End),
            (plan(Api::Chat, &[3], UsageReporting::AtEnd, "error-event-after=2"), "r0 0.0 died done", Stop::End),
            (plan(Api::Chat, &[3], UsageReporting::AtEnd, "reset-after-events=2"), "r0 0.0", Stop::Reset),
            (plan(Api::Chat, &[3], UsageReporting::AtEnd, "hang-after-events=0"), "", Stop::Hang),
            (plan(Api::Chat, &[1], UsageReporting::AtEnd, "end-after-events=3"), "r0 0.0! usage", Stop::End),
        ];
        for (plan, want, stop) in table {
            assert_eq!(events(&plan), (want.to_string(), stop));
        }
    }
}
