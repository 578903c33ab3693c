//! What a request may cost at most, and the limit that keeps it there.
//!
//! The upper bound of the prompt and the limit of completions make the ask; where they do not fit a cap, the limit shrinks before
//! the request is refused; a request is refused for its size only if a lower bound of it is too large.

use crate::budget::account::Ask;
use crate::estimate::prompt_tokens::Estimate;
use crate::policy::Dialect;

/// Completion tokens below which no limit is shrunk.
pub const LEAST_COMPLETION: u64 = 256;

/// Completion tokens of `/v1/completions` where a request names no limit: OpenAI's and vLLM's default.
pub const COMPLETIONS_DEFAULT: u64 = 16;

/// What bounds one request.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How the server treats a request without a limit.
    pub dialect: Dialect,
    /// The smallest of `maxTokensPerRequest` and the whole caps of the budgets that apply.
    pub ceiling: Option<u64>,
    /// `maxTokensPerRequest` is among what makes the ceiling.
    pub request_cap: bool,
    /// `defaultMaxTokens`
    pub default_max_tokens: u64,
    /// `max_model_len`, if known.
    pub window: Option<u64>,
    /// A length that the window is known to reach.
    pub window_floor: u64,
}

/// What a request wants to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Bounds of the prompt's tokens.
    pub prompt: Estimate,
    /// The limit of one completion, if one is named or the API has a default.
    pub limit: Option<u64>,
    /// Tokens that each completion must have.
    pub min_tokens: u64,
    /// Completions of each prompt.
    pub choices: u64,
    /// Completions of all prompts.
    pub sequences: u64,
}

/// What to reserve, and how to tell the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Tokens to reserve, where a budget with a cap applies.
    pub ask: Ask,
    demand: Demand,
    /// What the request would take if nothing held it back.
    want: u64,
    telling: Telling,
    window: Option<u64>,
}

/// The request can never fit: even a lower bound of what it needs is over `ceiling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("needs at least {needed} tokens, of {ceiling} that one request may take")]
pub struct TooLarge {
    /// Tokens that it takes at least.
    pub needed: u64,
    /// Tokens that it may take.
    pub ceiling: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    /// The request generates nothing.
    Nothing,
    /// The provider is told what was granted, but no limit above this.
    Always(u64),
    /// The provider is told only if less was granted than the request would take, and no limit above this.
    IfShrunk(u64),
}

impl Bounds {
    /// Whether a limit may be more than the server's window holds, for all that is known.
    pub fn is_unsure(&self) -> bool {
        self.dialect == Dialect::Vllm && self.window.is_none()
    }
}

impl Plan {
    /// Plans a request; `None` where nothing bounds it, so that nothing is reserved and nothing told.
    pub fn new(demand: Demand, bounds: &Bounds) -> Result<Option<Self>, TooLarge> {
        let Some(ceiling) = bounds.ceiling else { return Ok(None) };
        let needed = demand.total(demand.prompt.low, demand.limit.unwrap_or(1).max(demand.min_tokens));
        if needed > ceiling {
            return Err(TooLarge { needed, ceiling });
        }
        let (least, want, telling) = match demand.limit {
            _ if demand.sequences == 0 => (demand.prompt.high, demand.prompt.high, Telling::Nothing),
            Some(limit) => named(demand, limit, bounds),
            None if bounds.dialect == Dialect::Vllm => open(demand, ceiling, bounds),
            None => hosted(demand, bounds),
        };
        let most = want.clamp(1, ceiling);
        let ask = Ask { least: least.clamp(1, most), most, prompt: demand.prompt.high };
        Ok(Some(Self { ask, demand, want, telling, window: bounds.window }))
    }

    /// The limit to write into the request now that `granted` tokens are reserved for it, if one is to be written.
    pub fn limit(&self, granted: u64) -> Option<u64> {
        let highest = match self.telling {
            Telling::Nothing => return None,
            Telling::IfShrunk(_) if granted >= self.want => return None,
            Telling::IfShrunk(highest) | Telling::Always(highest) => highest,
        };
        let least = self.demand.min_tokens.max(1);
        // A limit below what each completion must have is the server's to refuse.
        let limit = self.room(granted).min(highest).max(least).min(self.demand.limit.unwrap_or(u64::MAX));
        (self.demand.limit != Some(limit)).then_some(limit)
    }

    /// Completion tokens for each sequence once the prompt is off `granted`. Where the upper bound of the prompt leaves less than
    /// is worth generating, just so much is told: should the prompt be as dense as that, no more than this goes over.
    fn room(&self, granted: u64) -> u64 {
        let Demand { prompt, sequences, .. } = self.demand;
        let prompts = (sequences / self.demand.choices.max(1)).max(1);
        let room = |prompt: u64| {
            let by_window = self.window.map_or(u64::MAX, |window| window.saturating_sub(prompt / prompts));
            (granted.saturating_sub(prompt) / sequences.max(1)).min(by_window)
        };
        let enough = self.demand.least_completion();
        room(prompt.high).max(room(prompt.low).min(enough))
    }
}

impl Demand {
    fn total(&self, prompt: u64, limit: u64) -> u64 {
        prompt.saturating_add(limit.saturating_mul(self.sequences))
    }

    /// Tokens of one completion below which no limit is shrunk.
    fn least_completion(&self) -> u64 {
        self.limit.unwrap_or(u64::MAX).min(LEAST_COMPLETION).max(self.min_tokens)
    }

    /// What the window alone keeps the request to: each completion fits into it together with its prompt, which the completions of
    /// one prompt share.
    fn natural(&self, window: u64) -> u64 {
        let shared = self.choices.saturating_sub(1).saturating_mul(self.prompt.low);
        window.saturating_mul(self.sequences).saturating_sub(shared).max(self.prompt.low)
    }
}

type Wanted = (u64, u64, Telling);

/// The request names a limit, which is not the gate's to shrink unless no ceiling holds it.
fn named(demand: Demand, limit: u64, bounds: &Bounds) -> Wanted {
    let natural = bounds.window.map_or(u64::MAX, |window| demand.natural(window));
    let want = demand.total(demand.prompt.high, limit).min(natural);
    (want, want, Telling::IfShrunk(limit))
}

/// Chat on vLLM without a limit: the server stops where the window ends.
fn open(demand: Demand, ceiling: u64, bounds: &Bounds) -> Wanted {
    let least = demand.total(demand.prompt.high, demand.least_completion());
    if let Some(window) = bounds.window {
        let natural = demand.natural(window);
        let telling = if natural > ceiling { Telling::Always(window) } else { Telling::IfShrunk(window) };
        return (least, natural, telling);
    }
    // A limit above the window is a 400, so that without knowing the window only a limit that any window holds may be told.
    let safe = bounds.window_floor.max(bounds.default_max_tokens);
    if !bounds.request_cap {
        return (least, demand.total(demand.prompt.high, bounds.default_max_tokens), Telling::IfShrunk(safe));
    }
    let room = ceiling.saturating_sub(demand.prompt.high) / demand.sequences.max(1);
    let telling = if room <= safe { Telling::Always(safe) } else { Telling::IfShrunk(safe) };
    (least, ceiling, telling)
}

/// Chat on a hosted provider without a limit: `defaultMaxTokens` becomes one.
fn hosted(demand: Demand, bounds: &Bounds) -> Wanted {
    let limit = bounds.default_max_tokens.max(demand.min_tokens);
    let least = demand.total(demand.prompt.high, limit.min(demand.least_completion()));
    (least, demand.total(demand.prompt.high, limit), Telling::Always(limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const PROMPT: Estimate = Estimate { low: 10, high: 300 };

    fn bounds(ceiling: Option<u64>, window: Option<u64>) -> Bounds {
        Bounds { dialect: Dialect::Vllm, ceiling, request_cap: true, default_max_tokens: 4096, window, window_floor: 0 }
    }

    fn demand(limit: Option<u64>, sequences: u64) -> Demand {
        Demand { prompt: PROMPT, limit, min_tokens: 0, choices: sequences, sequences }
    }

    /// Least and most of the ask, and the limit told if all is granted, and if only the least is.
    fn plan(demand: Demand, bounds: &Bounds) -> (u64, u64, Option<u64>, Option<u64>) {
        let plan = Plan::new(demand, bounds).unwrap().unwrap();
        (plan.ask.least, plan.ask.most, plan.limit(plan.ask.most), plan.limit(plan.ask.least))
    }

    #[test]
    fn nothing_bounds_nothing() {
        assert_eq!(Plan::new(demand(None, 1), &bounds(None, Some(4096))), Ok(None));
        assert_eq!(Plan::new(demand(Some(1 << 60), u64::MAX), &bounds(None, None)), Ok(None));
    }

    #[test]
    fn a_named_limit_is_reserved_and_shrinks_under_a_ceiling_only() {
        assert_eq!(plan(demand(Some(100), 1), &bounds(Some(1000), None)), (400, 400, None, None));
        assert_eq!(plan(demand(Some(100), 3), &bounds(Some(1000), None)), (600, 600, None, None));
        assert_eq!(plan(demand(Some(900), 1), &bounds(Some(1000), None)), (1000, 1000, Some(700), Some(700)));
        assert_eq!(plan(demand(Some(9000), 1), &bounds(Some(10_000), Some(4096))), (4096, 4096, None, None), "the window ends it");
        for (limit, sequences, needed) in [(991, 1, 1001), (500, 2, 1010), (u64::MAX, 1, u64::MAX), (2, u64::MAX, u64::MAX)] {
            let too_large = TooLarge { needed, ceiling: 1000 };
            assert_eq!(
                Plan::new(demand(Some(limit), sequences), &bounds(Some(1000), None)),
                Err(too_large),
                "{limit} × {sequences}"
            );
        }
    }

    #[test]
    fn a_dense_estimate_refuses_nobody() {
        let prompt = Estimate { low: 50, high: 6000 };
        let named = plan(Demand { prompt, limit: Some(500), min_tokens: 0, choices: 1, sequences: 1 }, &bounds(Some(4000), None));
        assert_eq!(named, (4000, 4000, Some(256), Some(256)), "as little as is worth generating");
        let open = plan(Demand { prompt, limit: None, min_tokens: 0, choices: 1, sequences: 1 }, &bounds(Some(4000), Some(8192)));
        assert_eq!(open, (4000, 4000, Some(256), Some(256)));
        let prompt = Estimate { low: 50, high: 15_000 };
        let limit =
            plan(Demand { prompt, limit: None, min_tokens: 0, choices: 1, sequences: 1 }, &bounds(Some(4000), Some(8192))).2;
        assert_eq!(limit, Some(256), "as little as is worth generating");
    }

    #[test]
    fn without_a_limit_vllm_is_kept_by_its_window_or_the_cap_whichever_is_smaller() {
        assert_eq!(plan(demand(None, 1), &bounds(Some(32_000), Some(4096))), (556, 4096, None, Some(256)), "the window binds");
        assert_eq!(plan(demand(None, 2), &bounds(Some(32_000), Some(4096))), (812, 8182, None, Some(256)));
        assert_eq!(plan(demand(None, 1), &bounds(Some(2000), Some(4096))), (556, 2000, Some(1700), Some(256)), "the cap binds");
        assert_eq!(plan(demand(None, 1), &bounds(Some(2000), None)), (556, 2000, Some(1700), Some(256)), "any window holds that");
        assert_eq!(
            plan(demand(None, 1), &bounds(Some(400), None)),
            (400, 400, Some(256), Some(256)),
            "as little as is worth generating"
        );
    }

    #[test]
    fn no_limit_is_told_that_an_unknown_window_may_not_hold() {
        let cap = bounds(Some(32_000), None);
        assert_eq!(plan(demand(None, 1), &cap), (556, 32_000, None, Some(256)));
        assert_eq!(Plan::new(demand(None, 1), &cap).unwrap().unwrap().limit(20_000), Some(4096), "shrunk by a budget");
        let reached = Bounds { window_floor: 40_000, ..cap };
        assert_eq!(plan(demand(None, 1), &reached), (556, 32_000, Some(31_700), Some(256)), "it has held as much before");
        let budget_only = Bounds { request_cap: false, ..bounds(Some(1_000_000), None) };
        assert_eq!(plan(demand(None, 1), &budget_only), (556, 4396, None, Some(256)), "the default is reserved and not told");
        let small = Bounds { ceiling: Some(1000), ..budget_only };
        assert_eq!(plan(demand(None, 1), &small), (556, 1000, Some(700), Some(256)), "a whole budget may be less");
    }

    #[test]
    fn hosted_providers_are_told_the_default() {
        let hosted = Bounds { dialect: Dialect::OpenAi, default_max_tokens: 1000, ..bounds(Some(50_000), None) };
        assert_eq!(plan(demand(None, 1), &hosted), (556, 1300, Some(1000), Some(256)));
        assert_eq!(plan(demand(None, 1), &Bounds { ceiling: Some(900), ..hosted }), (556, 900, Some(600), Some(256)));
    }

    #[test]
    fn no_limit_is_told_below_what_each_completion_must_have() {
        let demand = Demand { min_tokens: 500, ..demand(None, 1) };
        assert_eq!(plan(demand, &bounds(Some(2000), Some(4096))), (800, 2000, Some(1700), Some(500)));
        assert_eq!(
            plan(demand, &bounds(Some(700), Some(4096))),
            (700, 700, Some(500), Some(500)),
            "that much, whatever the prompt"
        );
        assert!(Plan::new(demand, &bounds(Some(509), Some(4096))).is_err());
    }

    #[test]
    fn a_named_limit_is_never_raised() {
        // vLLM refuses what must be longer than its limit, and has to see it so.
        let dense = Estimate { low: 10, high: 1000 };
        for (limit, min_tokens) in [(16, 106), (400, 500), (1, 2)] {
            let demand = Demand { prompt: dense, limit: Some(limit), min_tokens, choices: 1, sequences: 1 };
            assert_eq!(plan(demand, &bounds(Some(600), Some(4096))).2, None, "{limit}, at least {min_tokens}");
        }
    }

    #[test]
    fn prompts_do_not_share_what_completions_of_one_prompt_share() {
        let prompt = Estimate { low: 10_000, high: 10_064 };
        let many = Demand { prompt, limit: Some(16), min_tokens: 0, choices: 1, sequences: 100 };
        assert_eq!(plan(many, &bounds(Some(1_000_000), Some(4096))), (11_664, 11_664, None, None));
        let pairs = Demand { limit: Some(100), choices: 2, sequences: 200, ..many };
        assert_eq!(plan(pairs, &bounds(Some(1_000_000), Some(4096))), (30_064, 30_064, None, None));
        let shrunk = Demand { prompt: Estimate { low: 120, high: 15_064 }, limit: Some(500), choices: 1, sequences: 3, ..many };
        assert_eq!(plan(shrunk, &bounds(Some(16_000), Some(8192))).2, Some(312), "each prompt has a window of its own");
        let hosted = Bounds { dialect: Dialect::OpenAi, ..bounds(Some(200_000), None) };
        let must = Demand { min_tokens: 100_000, ..demand(None, 1) };
        assert_eq!(plan(must, &hosted), (100_300, 100_300, Some(100_000), Some(100_000)), "what is told is reserved");
    }

    #[test]
    fn embeddings_ask_for_their_prompt() {
        assert_eq!(plan(demand(None, 0), &bounds(Some(1000), None)), (300, 300, None, None));
        assert_eq!(plan(demand(None, 0), &bounds(Some(200), None)), (200, 200, None, None));
        assert!(Plan::new(demand(None, 0), &bounds(Some(9), None)).is_err());
    }
}
