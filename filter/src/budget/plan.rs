//! The number of tokens to reserve for a request, and the `max_tokens` to inject so that the request stays within its reservation.
//!
//! The reservation is the upper bound of the prompt's tokens plus the limit of completion tokens. If that does not fit a cap, the
//! limit is lowered. A request is rejected for its size only if the lower bound of its tokens exceeds the cap.

use crate::budget::account::Ask;
use crate::estimate::prompt_tokens::Estimate;
use crate::policy::Dialect;

/// The number of completion tokens below which no limit is lowered.
pub const LEAST_COMPLETION: u64 = 256;

/// The limit of completion tokens of `/v1/completions` requests without `max_tokens`: OpenAI's and vLLM's default.
pub const COMPLETIONS_DEFAULT: u64 = 16;

/// The limits that apply to one request.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The provider's dialect. It determines how the server treats a request without a limit.
    pub dialect: Dialect,
    /// The maximum number of tokens of the request: the smallest of `maxTokensPerRequest` and the caps of the budgets that apply.
    pub ceiling: Option<u64>,
    /// Whether `maxTokensPerRequest` is set.
    pub request_cap: bool,
    /// `defaultMaxTokens` of the provider.
    pub default_max_tokens: u64,
    /// The model's context length (`max_model_len`), if known.
    pub context_length: Option<u64>,
    /// A lower bound of the context length; 0 if nothing is known.
    pub context_length_floor: u64,
}

/// The size of a request, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestSize {
    /// The bounds of the prompt's tokens.
    pub prompt: Estimate,
    /// The limit of one completion, if the request contains one or the API has a default.
    pub limit: Option<u64>,
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
    size: RequestSize,
    /// The number of tokens that the request may use if no cap applies.
    wanted: u64,
    injection: Injection,
    context_length: Option<u64>,
}

/// The request can never fit: even the lower bound of its tokens exceeds `ceiling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("needs at least {needed} tokens; the maximum for one request is {ceiling}")]
pub struct TooLarge {
    /// The lower bound of the request's tokens.
    pub needed: u64,
    /// The maximum number of tokens of one request.
    pub ceiling: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Injection {
    /// Injects no limit: the request generates nothing.
    None,
    /// Injects the granted limit, but at most this value.
    Always(u64),
    /// Injects a limit only if less was granted than wanted, and at most this value.
    IfLowered(u64),
}

impl Bounds {
    /// Returns whether an injected limit may exceed the model's context length, because that is not known.
    pub fn limit_may_exceed_context(&self) -> bool {
        self.dialect == Dialect::Vllm && self.context_length.is_none()
    }
}

impl Plan {
    /// Plans a request. Returns `None` if no limit applies to it: then nothing is reserved and no limit is injected. Fails if the
    /// request can never fit.
    pub fn new(size: RequestSize, bounds: &Bounds) -> Result<Option<Self>, TooLarge> {
        let Some(ceiling) = bounds.ceiling else { return Ok(None) };
        let needed = size.total(size.prompt.low, size.limit.unwrap_or(1).max(size.min_tokens));
        if needed > ceiling {
            return Err(TooLarge { needed, ceiling });
        }
        let (least, wanted, injection) = match size.limit {
            _ if size.sequences == 0 => (size.prompt.high, size.prompt.high, Injection::None),
            Some(limit) => with_limit(size, limit, bounds),
            None if bounds.dialect == Dialect::Vllm => without_limit_vllm(size, ceiling, bounds),
            None => without_limit_hosted(size, bounds),
        };
        let most = wanted.clamp(1, ceiling);
        let ask = Ask { least: least.clamp(1, most), most, prompt: size.prompt.high };
        Ok(Some(Self { ask, size, wanted, injection, context_length: bounds.context_length }))
    }

    /// Returns the limit to inject into the request for which `granted` tokens are reserved; `None` if the request stays as it is.
    pub fn limit(&self, granted: u64) -> Option<u64> {
        let highest = match self.injection {
            Injection::None => return None,
            Injection::IfLowered(_) if granted >= self.wanted => return None,
            Injection::IfLowered(highest) | Injection::Always(highest) => highest,
        };
        let least = self.size.min_tokens.max(1);
        // A limit that the request itself sets below `min_tokens` is left for the server to reject.
        let limit = self.completion_limit(granted).min(highest).max(least).min(self.size.limit.unwrap_or(u64::MAX));
        (self.size.limit != Some(limit)).then_some(limit)
    }

    /// Returns the number of completion tokens for each sequence: `granted` minus the prompt's tokens. If the upper bound of the
    /// prompt leaves less than the minimum useful completion, returns that one: a prompt as large as its upper bound then causes an
    /// overage of at most that many tokens.
    fn completion_limit(&self, granted: u64) -> u64 {
        let RequestSize { prompt, sequences, .. } = self.size;
        let prompts = (sequences / self.size.choices.max(1)).max(1);
        let remaining = |prompt: u64| {
            let by_context_length =
                self.context_length.map_or(u64::MAX, |context_length| context_length.saturating_sub(prompt / prompts));
            (granted.saturating_sub(prompt) / sequences.max(1)).min(by_context_length)
        };
        let enough = self.size.least_completion();
        remaining(prompt.high).max(remaining(prompt.low).min(enough))
    }
}

impl RequestSize {
    /// Returns the number of tokens of a prompt and of all completions with this limit.
    fn total(&self, prompt: u64, limit: u64) -> u64 {
        prompt.saturating_add(limit.saturating_mul(self.sequences))
    }

    /// Returns the number of tokens of one completion below which no limit is lowered.
    fn least_completion(&self) -> u64 {
        self.limit.unwrap_or(u64::MAX).min(LEAST_COMPLETION).max(self.min_tokens)
    }

    /// Returns the maximum number of tokens that the context length allows: each completion fits into it together with its prompt.
    /// The completions of one prompt share that prompt.
    fn largest_within(&self, context_length: u64) -> u64 {
        let shared = self.choices.saturating_sub(1).saturating_mul(self.prompt.low);
        context_length.saturating_mul(self.sequences).saturating_sub(shared).max(self.prompt.low)
    }
}

/// The least number of tokens to reserve, the wanted number, and what to inject.
type Wanted = (u64, u64, Injection);

/// Plans a request with an explicit limit. The limit is lowered only if it does not fit the ceiling.
fn with_limit(size: RequestSize, limit: u64, bounds: &Bounds) -> Wanted {
    let largest = bounds.context_length.map_or(u64::MAX, |context_length| size.largest_within(context_length));
    let wanted = size.total(size.prompt.high, limit).min(largest);
    (wanted, wanted, Injection::IfLowered(limit))
}

/// Plans a chat request to vLLM without a limit: the server stops at the context length.
fn without_limit_vllm(size: RequestSize, ceiling: u64, bounds: &Bounds) -> Wanted {
    let least = size.total(size.prompt.high, size.least_completion());
    if let Some(context_length) = bounds.context_length {
        let largest = size.largest_within(context_length);
        let injection = if largest > ceiling { Injection::Always(context_length) } else { Injection::IfLowered(context_length) };
        return (least, largest, injection);
    }
    // vLLM rejects a limit above the context length with 400. While that is unknown, the injected limit stays at a safe value.
    let safe = bounds.context_length_floor.max(bounds.default_max_tokens);
    if !bounds.request_cap {
        return (least, size.total(size.prompt.high, bounds.default_max_tokens), Injection::IfLowered(safe));
    }
    let limit = ceiling.saturating_sub(size.prompt.high) / size.sequences.max(1);
    let injection = if limit <= safe { Injection::Always(safe) } else { Injection::IfLowered(safe) };
    (least, ceiling, injection)
}

/// Plans a chat request to a hosted provider without a limit: `defaultMaxTokens` is injected.
fn without_limit_hosted(size: RequestSize, bounds: &Bounds) -> Wanted {
    let limit = bounds.default_max_tokens.max(size.min_tokens);
    let least = size.total(size.prompt.high, limit.min(size.least_completion()));
    (least, size.total(size.prompt.high, limit), Injection::Always(limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const PROMPT: Estimate = Estimate { low: 10, typical: 10, high: 300 };

    fn bounds(ceiling: Option<u64>, context_length: Option<u64>) -> Bounds {
        Bounds {
            dialect: Dialect::Vllm,
            ceiling,
            request_cap: true,
            default_max_tokens: 4096,
            context_length,
            context_length_floor: 0,
        }
    }

    fn size(limit: Option<u64>, sequences: u64) -> RequestSize {
        RequestSize { prompt: PROMPT, limit, min_tokens: 0, choices: sequences, sequences }
    }

    /// Returns the least and the most to reserve, and the limits injected if the most and if the least is granted.
    fn plan(size: RequestSize, bounds: &Bounds) -> (u64, u64, Option<u64>, Option<u64>) {
        let plan = Plan::new(size, bounds).unwrap().unwrap();
        (plan.ask.least, plan.ask.most, plan.limit(plan.ask.most), plan.limit(plan.ask.least))
    }

    #[test]
    fn without_limits_there_is_no_plan() {
        assert_eq!(Plan::new(size(None, 1), &bounds(None, Some(4096))), Ok(None));
        assert_eq!(Plan::new(size(Some(1 << 60), u64::MAX), &bounds(None, None)), Ok(None));
    }

    #[test]
    fn an_explicit_limit_is_reserved_and_lowered_only_to_fit_the_ceiling() {
        assert_eq!(plan(size(Some(100), 1), &bounds(Some(1000), None)), (400, 400, None, None));
        assert_eq!(plan(size(Some(100), 3), &bounds(Some(1000), None)), (600, 600, None, None));
        assert_eq!(plan(size(Some(900), 1), &bounds(Some(1000), None)), (1000, 1000, Some(700), Some(700)));
        assert_eq!(
            plan(size(Some(9000), 1), &bounds(Some(10_000), Some(4096))),
            (4096, 4096, None, None),
            "the context length is the bound"
        );
        for (limit, sequences, needed) in [(991, 1, 1001), (500, 2, 1010), (u64::MAX, 1, u64::MAX), (2, u64::MAX, u64::MAX)] {
            let too_large = TooLarge { needed, ceiling: 1000 };
            assert_eq!(Plan::new(size(Some(limit), sequences), &bounds(Some(1000), None)), Err(too_large), "{limit} × {sequences}");
        }
    }

    #[test]
    fn a_high_estimate_rejects_no_request() {
        let prompt = Estimate { low: 50, typical: 50, high: 6000 };
        let explicit =
            plan(RequestSize { prompt, limit: Some(500), min_tokens: 0, choices: 1, sequences: 1 }, &bounds(Some(4000), None));
        assert_eq!(explicit, (4000, 4000, Some(256), Some(256)), "the minimum useful completion");
        let unlimited =
            plan(RequestSize { prompt, limit: None, min_tokens: 0, choices: 1, sequences: 1 }, &bounds(Some(4000), Some(8192)));
        assert_eq!(unlimited, (4000, 4000, Some(256), Some(256)));
        let prompt = Estimate { low: 50, typical: 50, high: 15_000 };
        let limit =
            plan(RequestSize { prompt, limit: None, min_tokens: 0, choices: 1, sequences: 1 }, &bounds(Some(4000), Some(8192))).2;
        assert_eq!(limit, Some(256), "the minimum useful completion");
    }

    #[test]
    fn without_a_limit_vllm_requests_are_bound_by_the_context_length_or_the_cap() {
        assert_eq!(
            plan(size(None, 1), &bounds(Some(32_000), Some(4096))),
            (556, 4096, None, Some(256)),
            "bound by the context length"
        );
        assert_eq!(plan(size(None, 2), &bounds(Some(32_000), Some(4096))), (812, 8182, None, Some(256)));
        assert_eq!(plan(size(None, 1), &bounds(Some(2000), Some(4096))), (556, 2000, Some(1700), Some(256)), "bound by the cap");
        assert_eq!(
            plan(size(None, 1), &bounds(Some(2000), None)),
            (556, 2000, Some(1700), Some(256)),
            "safe for any context length"
        );
        assert_eq!(
            plan(size(None, 1), &bounds(Some(400), None)),
            (400, 400, Some(256), Some(256)),
            "the minimum useful completion"
        );
    }

    #[test]
    fn no_limit_is_injected_that_may_exceed_an_unknown_context_length() {
        let cap = bounds(Some(32_000), None);
        assert_eq!(plan(size(None, 1), &cap), (556, 32_000, None, Some(256)));
        assert_eq!(Plan::new(size(None, 1), &cap).unwrap().unwrap().limit(20_000), Some(4096), "lowered by a budget");
        let reached = Bounds { context_length_floor: 40_000, ..cap };
        assert_eq!(
            plan(size(None, 1), &reached),
            (556, 32_000, Some(31_700), Some(256)),
            "the context length is known to be at least this"
        );
        let budget_only = Bounds { request_cap: false, ..bounds(Some(1_000_000), None) };
        assert_eq!(plan(size(None, 1), &budget_only), (556, 4396, None, Some(256)), "the default is reserved and not injected");
        let small = Bounds { ceiling: Some(1000), ..budget_only };
        assert_eq!(plan(size(None, 1), &small), (556, 1000, Some(700), Some(256)), "the cap of a budget may be lower");
    }

    #[test]
    fn hosted_providers_get_the_default_limit() {
        let hosted = Bounds { dialect: Dialect::OpenAi, default_max_tokens: 1000, ..bounds(Some(50_000), None) };
        assert_eq!(plan(size(None, 1), &hosted), (556, 1300, Some(1000), Some(256)));
        assert_eq!(plan(size(None, 1), &Bounds { ceiling: Some(900), ..hosted }), (556, 900, Some(600), Some(256)));
    }

    #[test]
    fn no_injected_limit_is_below_min_tokens() {
        let size = RequestSize { min_tokens: 500, ..size(None, 1) };
        assert_eq!(plan(size, &bounds(Some(2000), Some(4096))), (800, 2000, Some(1700), Some(500)));
        assert_eq!(
            plan(size, &bounds(Some(700), Some(4096))),
            (700, 700, Some(500), Some(500)),
            "`min_tokens`, whatever the prompt"
        );
        assert!(Plan::new(size, &bounds(Some(509), Some(4096))).is_err());
    }

    #[test]
    fn an_explicit_limit_is_never_raised() {
        // vLLM rejects a request with `min_tokens` above its limit. It has to receive both values unchanged.
        let dense = Estimate { low: 10, typical: 10, high: 1000 };
        for (limit, min_tokens) in [(16, 106), (400, 500), (1, 2)] {
            let size = RequestSize { prompt: dense, limit: Some(limit), min_tokens, choices: 1, sequences: 1 };
            assert_eq!(plan(size, &bounds(Some(600), Some(4096))).2, None, "{limit}, at least {min_tokens}");
        }
    }

    #[test]
    fn only_completions_of_one_prompt_share_a_prompt() {
        let prompt = Estimate { low: 10_000, typical: 10_000, high: 10_064 };
        let many = RequestSize { prompt, limit: Some(16), min_tokens: 0, choices: 1, sequences: 100 };
        assert_eq!(plan(many, &bounds(Some(1_000_000), Some(4096))), (11_664, 11_664, None, None));
        let pairs = RequestSize { limit: Some(100), choices: 2, sequences: 200, ..many };
        assert_eq!(plan(pairs, &bounds(Some(1_000_000), Some(4096))), (30_064, 30_064, None, None));
        let lowered = RequestSize {
            prompt: Estimate { low: 120, typical: 120, high: 15_064 },
            limit: Some(500),
            choices: 1,
            sequences: 3,
            ..many
        };
        assert_eq!(plan(lowered, &bounds(Some(16_000), Some(8192))).2, Some(312), "each prompt has the whole context length");
        let hosted = Bounds { dialect: Dialect::OpenAi, ..bounds(Some(200_000), None) };
        let must = RequestSize { min_tokens: 100_000, ..size(None, 1) };
        assert_eq!(plan(must, &hosted), (100_300, 100_300, Some(100_000), Some(100_000)), "the injected limit is reserved");
    }

    #[test]
    fn embeddings_reserve_their_prompt() {
        assert_eq!(plan(size(None, 0), &bounds(Some(1000), None)), (300, 300, None, None));
        assert_eq!(plan(size(None, 0), &bounds(Some(200), None)), (200, 200, None, None));
        assert!(Plan::new(size(None, 0), &bounds(Some(9), None)).is_err());
    }
}
