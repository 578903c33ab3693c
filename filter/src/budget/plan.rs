//! The number of tokens to reserve for a request, and the limit of completion tokens that is injected.
//!
//! A reservation is the upper bound of the prompt's tokens plus the limit of each completion. A limit that the request names is
//! reserved whole, and lowered only to the *room*: what `maxTokensPerRequest`, the whole of each cap and the context length leave beside
//! the prompt. A request that names none takes a share of what its budgets have left. No request is refused because of the upper bound of
//! its prompt, except where that is certain and exceeds the whole cap of a budget ([`Plan::beyond_caps`]).

use crate::budget::account::{Ample, Ask, Share};
use crate::budget::ledger::Grant;
use crate::estimate::model_limits::ModelLimits;
use crate::estimate::prompt_tokens::Estimate;
use crate::policy::Dialect;

/// The number of completion tokens below which no limit is lowered.
pub const LEAST_COMPLETION: u64 = 256;

/// The limit of completion tokens of `/v1/completions` requests without `max_tokens`: OpenAI's and vLLM's default.
pub const COMPLETIONS_DEFAULT: u64 = 16;

/// The largest number of completion tokens that a request without a limit may always take of what a budget has left.
const LARGEST_FLOOR: u64 = 4096;

/// The number of completion tokens from which a share of a budget is large: the model's own limit is then left alone.
const AMPLE: u64 = 32_768;

/// The largest limit that is injected for a hosted model whose maximum is not known: few models in use have a smaller one.
const SAFE_HOSTED_LIMIT: u64 = 8192;

/// The limits that apply to one request.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The provider's dialect. It determines how the server treats a request without a limit.
    pub dialect: Dialect,
    /// `maxTokensPerRequest` of the provider.
    pub request_cap: Option<u64>,
    /// The smallest cap of the budgets that apply.
    pub smallest_cap: Option<u64>,
    /// `defaultMaxTokens` of the provider.
    pub default_max_tokens: u64,
    /// What is known of the model.
    pub model: ModelLimits,
    /// Whether the upper bound of the prompt is certain (`promptEstimate: strict`): it is then reserved whole, whatever the caps.
    pub is_strict: bool,
}

/// The size of a request, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestSize {
    /// The bounds of the prompt's tokens.
    pub prompt: Estimate,
    /// The limit of one completion, if the request contains one or the API has a default.
    pub limit: Option<u64>,
    /// Whether the request itself contains the limit.
    pub is_named: bool,
    /// The minimum number of tokens of each completion (`min_tokens`).
    pub min_tokens: u64,
    /// The number of completions of each prompt (`n`).
    pub choices: u64,
    /// The number of completions of all prompts.
    pub sequences: u64,
}

/// The tokens to reserve for a request, and the limit to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The tokens to reserve in the budgets that have a cap.
    pub ask: Ask,
    /// The tokens to reserve if no candidate holds `ask` only because tokens are used, and none because of reservations.
    pub lowered: Option<Ask>,
    size: RequestSize,
    injection: Injection,
    /// The limit of each completion if the whole ask is granted.
    planned: u64,
}

/// The request can never fit: even the lower bound of its tokens exceeds a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("needs at least {needed} tokens; the maximum for one request is {ceiling}")]
pub struct TooLarge {
    /// The lower bound of the request's tokens.
    pub needed: u64,
    /// The maximum number of tokens of one request.
    pub ceiling: u64,
}

/// A limit of completion tokens that replaces the request's own, or that the request did not contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InjectedLimit {
    /// The limit of one completion.
    pub tokens: u64,
    /// What requires it.
    pub by: LimitedBy,
}

/// What a limit follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitedBy {
    /// `maxTokensPerRequest`.
    RequestCap,
    /// The cap of a budget, or what it has left.
    Budget,
    /// The model's context length.
    ContextWindow,
}

/// When a limit is injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Injection {
    /// Never: the request generates nothing, or what it generates is the API's default.
    Never,
    /// If less than the whole ask is granted.
    IfLess,
    /// If less than the whole ask is granted, but only up to this limit: the server could reject a larger one.
    IfLessUpTo(u64),
    /// Always. A request whose budgets have plenty left is an exception.
    Always(LimitedBy),
}

/// The completion tokens that fit beside a prompt, for each completion.
#[derive(Debug, Clone, Copy)]
struct Room {
    tokens: u64,
    by: LimitedBy,
}

// === impl Bounds ===

impl Bounds {
    /// Returns whether the server could reject an injected limit, because the model's own is not known.
    pub fn limit_may_be_rejected(&self) -> bool {
        match self.dialect {
            Dialect::Vllm => self.model.context_length.is_none(),
            Dialect::OpenAi | Dialect::Anthropic => self.model.completion.is_none(),
        }
    }

    /// Returns the maximum number of tokens of the request: the smallest cap.
    fn ceiling(&self) -> Option<u64> {
        self.request_cap.into_iter().chain(self.smallest_cap).min()
    }

    /// Returns what the caps and the context length leave for each completion beside a prompt of this number of tokens; `None` if
    /// nothing bounds it.
    fn room(&self, prompt: u64, size: &RequestSize) -> Option<Room> {
        let beside = |cap: u64| cap.saturating_sub(prompt) / size.sequences.max(1);
        let bounds = [
            self.request_cap.map(|cap| Room { tokens: beside(cap), by: LimitedBy::RequestCap }),
            self.smallest_cap.map(|cap| Room { tokens: beside(cap), by: LimitedBy::Budget }),
            self.model
                .context_length
                .map(|length| Room { tokens: length.saturating_sub(prompt / size.prompts()), by: LimitedBy::ContextWindow }),
        ];
        bounds.into_iter().flatten().min_by_key(|room| room.tokens)
    }
}

// === impl LimitedBy ===

impl LimitedBy {
    /// Returns the value of `x-pai-limited-by`, of the access log and of the metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestCap => "request-cap",
            Self::Budget => "budget",
            Self::ContextWindow => "context-window",
        }
    }
}

// === impl Plan ===

impl Plan {
    /// Plans a request. Returns `None` if no limit applies to it: then nothing is reserved and no limit is injected. Fails if the
    /// request can never fit.
    pub fn new(size: RequestSize, bounds: &Bounds) -> Result<Option<Self>, TooLarge> {
        if let Some(ceiling) = bounds.ceiling() {
            let least = size.limit.map_or(1, |limit| limit.min(LEAST_COMPLETION)).max(size.min_tokens);
            let needed = size.total(size.prompt.low, least);
            if needed > ceiling {
                return Err(TooLarge { needed, ceiling });
            }
        }
        let [low, room] = [size.prompt.low, size.prompt.high].map(|prompt| bounds.room(prompt, &size));
        let (Some(mut low), Some(room)) = (low, room) else { return Ok(None) };
        if let Some(cap) = bounds.smallest_cap.filter(|_| bounds.is_strict && size.limit.is_none()) {
            low.tokens = low.tokens.min(cap.saturating_sub(size.prompt.high) / size.sequences.max(1));
        }
        Ok(match size.limit {
            _ if size.sequences == 0 => bounds.ceiling().map(|_| Self::fixed(size, 0, Injection::Never, bounds)),
            Some(limit) => Self::with_limit(size, limit, room, low, bounds),
            None => bounds.ceiling().map(|_| Self::without_limit(size, room, low, bounds)),
        })
    }

    /// Returns the number of tokens that the smallest cap of a budget would have to be for the request, if that is more than it is. Only a
    /// certain upper bound is such a reason.
    pub fn beyond_caps(&self, bounds: &Bounds) -> Option<TooLarge> {
        let ceiling = bounds.smallest_cap.filter(|_| bounds.is_strict)?;
        (self.ask.least > ceiling).then_some(TooLarge { needed: self.ask.least, ceiling })
    }

    /// Returns the limit to inject into the request for which this was granted; `None` if the request stays as it is.
    pub fn limit(&self, grant: Grant) -> Option<InjectedLimit> {
        let less = grant.tokens.filter(|granted| *granted < self.ask.most);
        let (most, by) = match (self.injection, less) {
            (Injection::Never, _) => return None,
            _ if grant.is_ample => return None,
            (Injection::IfLess | Injection::IfLessUpTo(_), None) => return None,
            (Injection::IfLess | Injection::Always(_), Some(_)) => (u64::MAX, LimitedBy::Budget),
            (Injection::IfLessUpTo(most), Some(_)) => (most, LimitedBy::Budget),
            (Injection::Always(by), None) => (u64::MAX, by),
        };
        let beside = |granted: u64| granted.saturating_sub(self.size.prompt.high) / self.size.sequences.max(1);
        let tokens = less.map_or(self.planned, |granted| beside(granted).max(self.size.least_completion()).min(self.planned));
        (tokens <= most && self.size.limit != Some(tokens)).then_some(InjectedLimit { tokens, by })
    }

    /// Returns whether the exact number of the prompt's tokens could change the limit that is planned: `other` is the plan for the lower
    /// bound of the prompt. For a limit that is named, a difference of an eighth does not matter; for one that is not, the default has to be
    /// left.
    pub fn differs_from(&self, other: &Self, default_max_tokens: u64) -> bool {
        match self.size.limit {
            Some(_) => self.planned < other.planned - other.planned / 8,
            None => self.planned < default_max_tokens && other.planned >= default_max_tokens,
        }
    }

    /// Plans a request for which exactly this limit is reserved.
    fn fixed(size: RequestSize, limit: u64, injection: Injection, bounds: &Bounds) -> Self {
        let tokens = size.within(size.total(size.prompt.high, limit), bounds);
        Self { ask: Ask::whole(tokens, size.prompt.high), lowered: None, size, injection, planned: limit }
    }

    /// Plans a request with a limit. It is reserved whole, and lowered to the room. Returns `None` if neither is needed.
    fn with_limit(size: RequestSize, limit: u64, room: Room, low: Room, bounds: &Bounds) -> Option<Self> {
        if !size.is_named {
            // The API's default is too small to be lowered.
            return bounds.ceiling().map(|_| Self::fixed(size, limit, Injection::Never, bounds));
        }
        let plan = if limit <= room.tokens {
            bounds.ceiling()?;
            Self::fixed(size, limit, Injection::IfLess, bounds)
        } else {
            // Where even the upper bound of the prompt fills the room, the prompt is taken for less dense than that.
            let least = size.least_completion().min(low.tokens);
            Self::fixed(size, room.tokens.max(least).max(1), Injection::Always(room.by), bounds)
        };
        Some(Self { lowered: plan.lowered(bounds), ..plan })
    }

    /// Returns the ask for what the budgets have left, if that is at least `defaultMaxTokens` for each completion, and no less than a limit
    /// is lowered to.
    fn lowered(&self, bounds: &Bounds) -> Option<Ask> {
        let least = self.size.total(self.size.prompt.high, bounds.default_max_tokens.max(self.size.least_completion()));
        (least < self.ask.most).then_some(Ask { least, ..self.ask })
    }

    /// Plans a chat without a limit.
    fn without_limit(size: RequestSize, room: Room, low: Room, bounds: &Bounds) -> Self {
        let least = LEAST_COMPLETION.min(low.tokens).max(size.min_tokens).max(1);
        let wanted = room.tokens.max(least);
        let default = bounds.default_max_tokens.max(size.min_tokens);
        let total = |limit: u64| size.within(size.total(size.prompt.high, limit), bounds);
        let ample = |limit: u64| Ample { from: AMPLE.saturating_mul(size.sequences), tokens: total(limit) };
        let is_large = room.tokens >= AMPLE;
        let by = if is_large { LimitedBy::Budget } else { room.by };
        let (limit, injection, ample) = match (bounds.dialect, bounds.model.context_length) {
            // The server stops at the context length by itself.
            (Dialect::Vllm, Some(_)) if room.by == LimitedBy::ContextWindow => (wanted, Injection::IfLess, None),
            (Dialect::Vllm, Some(_)) => (wanted, Injection::Always(room.by), None),
            // A limit above the context length is rejected, so that a larger one is not injected while it is not known.
            (Dialect::Vllm, None) => {
                let safe = bounds.model.context_length_floor.max(default);
                match bounds.request_cap {
                    Some(_) if wanted <= safe => (wanted, Injection::Always(room.by), None),
                    Some(_) => (wanted, Injection::IfLessUpTo(safe), None),
                    None => (wanted.min(default), Injection::Always(by), is_large.then(|| ample(default))),
                }
            }
            (Dialect::OpenAi | Dialect::Anthropic, _) => {
                let safe =
                    bounds.model.completion.unwrap_or(bounds.model.completion_floor.max(SAFE_HOSTED_LIMIT)).max(size.min_tokens);
                let untold = if bounds.request_cap.is_some() { AMPLE } else { default };
                (wanted.min(safe), Injection::Always(by), is_large.then(|| ample(untold)))
            }
        };
        let most = total(limit);
        let floor = bounds.default_max_tokens.clamp(LEAST_COMPLETION, LARGEST_FLOOR).max(size.min_tokens);
        let share = Share { floor: floor.saturating_mul(size.sequences), ample };
        let ask = Ask { least: total(least).min(most), most, prompt: size.prompt.high, share: Some(share) };
        Self { ask, lowered: None, size, injection, planned: limit }
    }
}

// === impl RequestSize ===

impl RequestSize {
    /// Returns the number of tokens of a prompt and of all completions with this limit.
    fn total(&self, prompt: u64, limit: u64) -> u64 {
        prompt.saturating_add(limit.saturating_mul(self.sequences))
    }

    /// Lowers a number of tokens to the most that the request can use: the smallest cap, unless the upper bound is certain, and a context
    /// length for each completion.
    fn within(&self, tokens: u64, bounds: &Bounds) -> u64 {
        let contexts =
            bounds.model.context_length.filter(|_| self.sequences > 0).map(|length| length.saturating_mul(self.sequences));
        let ceiling = bounds.ceiling().filter(|_| !bounds.is_strict);
        let most = ceiling.into_iter().chain(contexts).min().unwrap_or(u64::MAX);
        tokens.min(most).max(1)
    }

    /// Returns the number of prompts.
    fn prompts(&self) -> u64 {
        (self.sequences / self.choices.max(1)).max(1)
    }

    /// Returns the number of tokens of one completion below which its limit is not lowered.
    fn least_completion(&self) -> u64 {
        LEAST_COMPLETION.max(self.min_tokens).min(self.limit.unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
