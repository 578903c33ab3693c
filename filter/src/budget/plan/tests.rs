use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const PROMPT: Estimate = Estimate { low: 10, typical: 10, high: 300 };

/// A vLLM with this `maxTokensPerRequest` and this smallest cap of a budget, whose context length is not known.
fn bounds(request_cap: Option<u64>, smallest_cap: Option<u64>) -> Bounds {
    Bounds {
        dialect: Dialect::Vllm,
        request_cap,
        smallest_cap,
        default_max_tokens: 4096,
        model: ModelLimits::default(),
        is_strict: false,
    }
}

fn with_context(context_length: u64, bounds: Bounds) -> Bounds {
    Bounds { model: ModelLimits { context_length: Some(context_length), ..bounds.model }, ..bounds }
}

fn hosted(bounds: Bounds) -> Bounds {
    Bounds { dialect: Dialect::OpenAi, ..bounds }
}

fn named(limit: u64) -> RequestSize {
    RequestSize { prompt: PROMPT, limit: Some(limit), is_named: true, min_tokens: 0, choices: 1, sequences: 1 }
}

fn unnamed() -> RequestSize {
    RequestSize { limit: None, is_named: false, ..named(0) }
}

fn planned(size: RequestSize, bounds: &Bounds) -> Plan {
    Plan::new(size, bounds).unwrap().unwrap()
}

fn granted(tokens: u64) -> Grant {
    Grant { tokens: Some(tokens), is_ample: false }
}

/// Returns the number of tokens of the whole ask, and the limit that is injected for it.
fn whole(size: RequestSize, bounds: &Bounds) -> (u64, Option<(u64, LimitedBy)>) {
    let plan = planned(size, bounds);
    (plan.ask.most, plan.limit(granted(plan.ask.most)).map(|limit| (limit.tokens, limit.by)))
}

/// Returns the limit that is injected if only these tokens are granted.
fn limit_of(plan: &Plan, tokens: u64) -> Option<u64> {
    plan.limit(granted(tokens)).map(|limit| limit.tokens)
}

use LimitedBy::{Budget, ContextWindow, RequestCap};

#[test]
fn without_caps_nothing_is_reserved() {
    for (size, bounds) in [
        (unnamed(), bounds(None, None)),
        (unnamed(), with_context(4096, bounds(None, None))),
        (unnamed(), hosted(bounds(None, None))),
        (named(1 << 50), bounds(None, None)),
        (named(1000), with_context(4096, bounds(None, None))),
        (RequestSize { sequences: 0, ..unnamed() }, with_context(4096, bounds(None, None))),
    ] {
        assert_eq!(Plan::new(size, &bounds), Ok(None), "{size:?}");
    }
    let plan = planned(named(1 << 50), &with_context(4096, bounds(None, None)));
    let limit = plan.limit(Grant::default()).unwrap();
    assert_eq!(limit, InjectedLimit { tokens: 3796, by: ContextWindow }, "a server would reject the named one");
}

#[test]
fn a_named_limit_is_reserved_whole_and_lowered_to_the_room() {
    let cap = bounds(Some(32_000), Some(1_000_000));
    for (limit, bounds, expected) in [
        (8000, cap, (8300, None)),
        (31_700, cap, (32_000, None)),
        (32_000, cap, (32_000, Some((31_700, RequestCap)))),
        (1 << 50, cap, (32_000, Some((31_700, RequestCap)))),
        (5000, bounds(None, Some(4000)), (4000, Some((3700, Budget)))),
        (5000, with_context(4096, cap), (4096, Some((3796, ContextWindow)))),
        (5000, with_context(4096, hosted(bounds(None, Some(4000)))), (4000, Some((3700, Budget)))),
        (500, bounds(Some(400), None), (400, Some((256, RequestCap)))),
        (200, bounds(Some(400), None), (400, None)),
    ] {
        assert_eq!(whole(named(limit), &bounds), expected, "{limit}, {bounds:?}");
    }
    let three = RequestSize { choices: 3, sequences: 3, ..named(100) };
    assert_eq!(whole(three, &bounds(Some(1000), None)), (600, None));
    assert_eq!(whole(RequestSize { limit: Some(1000), ..three }, &bounds(Some(1500), None)), (1500, Some((400, RequestCap))));
}

#[test]
fn a_request_that_can_never_fit_is_refused_for_its_lower_bound() {
    for (size, ceiling, needed) in [
        (named(1000), 265, Some(266)),
        (named(1000), 266, None),
        (named(100), 109, Some(110)),
        (named(100), 110, None),
        (RequestSize { sequences: 2, ..named(1000) }, 521, Some(522)),
        (RequestSize { sequences: u64::MAX, ..named(2) }, 1 << 50, Some(u64::MAX)),
        (unnamed(), 10, Some(11)),
        (unnamed(), 11, None),
        (RequestSize { min_tokens: 500, ..unnamed() }, 509, Some(510)),
        (RequestSize { min_tokens: 500, ..named(1000) }, 509, Some(510)),
        (RequestSize { min_tokens: 500, ..named(100) }, 509, Some(510)),
        (RequestSize { sequences: 0, ..unnamed() }, 9, Some(10)),
    ] {
        for bounds in [bounds(Some(ceiling), None), bounds(Some(1 << 60), Some(ceiling))] {
            let refused = Plan::new(size, &bounds).err();
            assert_eq!(refused, needed.map(|needed| TooLarge { needed, ceiling }), "{size:?}");
        }
    }
    let long = RequestSize { prompt: Estimate { low: 5000, typical: 5000, high: 9000 }, ..named(100) };
    assert!(Plan::new(long, &with_context(4096, bounds(None, None))).is_ok(), "the server knows its context length better");
}

#[test]
fn a_high_estimate_neither_refuses_nor_starves_a_request() {
    let dense = Estimate { low: 50, typical: 50, high: 6000 };
    for size in [named(500), unnamed()] {
        let size = RequestSize { prompt: dense, ..size };
        assert_eq!(whole(size, &bounds(Some(4000), None)), (4000, Some((256, RequestCap))));
    }
    let size = RequestSize { prompt: dense, ..unnamed() };
    assert_eq!(whole(size, &bounds(Some(200), None)), (200, Some((150, RequestCap))), "what the lower bound leaves");
}

#[test]
fn what_budgets_have_left_lowers_a_named_limit_to_no_less_than_the_default() {
    let plan = planned(named(32_000), &bounds(None, Some(50_000)));
    assert_eq!(plan.ask, Ask::whole(32_300, 300));
    let lowered = plan.lowered.unwrap();
    assert_eq!((lowered.least, lowered.most), (4396, 32_300));
    assert_eq!(plan.limit(granted(5300)), Some(InjectedLimit { tokens: 5000, by: Budget }));
    assert_eq!(planned(named(4096), &bounds(None, Some(50_000))).lowered, None, "it names no more than the default");
    let cut = planned(named(50_000), &bounds(Some(10_000), Some(50_000)));
    assert_eq!((limit_of(&cut, 10_000), limit_of(&cut, 6000)), (Some(9700), Some(5700)));
}

/// Returns requests of many sizes with many bounds.
fn combinations() -> Vec<(RequestSize, Bounds)> {
    let mut combinations = Vec::new();
    for high in [80, 300, 1000, 5000] {
        for limit in [None, Some(1), Some(100), Some(256), Some(300), Some(5000), Some(1 << 40)] {
            for (sequences, min_tokens) in [(1, 0), (1, 300), (3, 0)] {
                let prompt = Estimate { low: high / 8, typical: high / 4, high };
                let size = RequestSize { prompt, limit, is_named: limit.is_some(), min_tokens, choices: sequences, sequences };
                for request_cap in [None, Some(900), Some(32_000)] {
                    for smallest_cap in [Some(1000), Some(5100), Some(40_000), Some(10_000_000)] {
                        for context_length in [None, Some(4096)] {
                            for (default_max_tokens, dialect) in [(1, Dialect::Vllm), (4096, Dialect::Vllm), (300, Dialect::OpenAi)]
                            {
                                let model = ModelLimits { context_length, ..ModelLimits::default() };
                                let bounds = bounds(request_cap, smallest_cap);
                                combinations.push((size, Bounds { default_max_tokens, dialect, model, ..bounds }));
                            }
                        }
                    }
                }
            }
        }
    }
    combinations
}

/// Checks that whatever is granted covers the upper bound of the prompt and the limit that the server gets, as far as caps and the context
/// length allow.
fn assert_covered(size: RequestSize, bounds: &Bounds, most: u64) -> Option<usize> {
    let plan = Plan::new(size, bounds).ok()??;
    if plan.beyond_caps(bounds).is_some() {
        return None;
    }
    let least = plan.lowered.map_or(plan.ask.least, |lowered| lowered.least);
    for tokens in [plan.ask.least, least, least + 1, least.midpoint(plan.ask.most), plan.ask.most] {
        let tokens = tokens.min(plan.ask.most);
        // Where the server gets no limit, the default is what is reserved.
        let Some(limit) = limit_of(&plan, tokens).or(size.limit) else { continue };
        let context = bounds.model.context_length.map_or(u64::MAX, |length| length * size.sequences);
        let needed = (size.prompt.high.saturating_add(limit.saturating_mul(size.sequences))).min(context).min(most);
        assert!(tokens >= needed, "{tokens} granted, {needed} needed with the limit {limit}: {size:?} {bounds:?}");
    }
    Some(1)
}

#[test]
fn what_is_granted_covers_the_limit_that_is_sent() {
    let checked = combinations().into_iter().filter_map(|(size, bounds)| assert_covered(size, &bounds, bounds.ceiling()?)).count();
    assert!(checked > 4000, "{checked}");
}

#[test]
fn with_a_certain_upper_bound_it_is_covered_whatever_the_caps() {
    let strict = combinations().into_iter().map(|(size, bounds)| (size, Bounds { is_strict: true, ..bounds }));
    let checked = strict.clone().filter_map(|(size, bounds)| assert_covered(size, &bounds, u64::MAX)).count();
    assert!(checked > 3000, "{checked}");
    for (size, bounds) in strict {
        let Ok(Some(plan)) = Plan::new(size, &bounds) else { continue };
        let cap = bounds.smallest_cap.unwrap();
        let least = size.limit.map_or(size.min_tokens.max(1), |_| size.least_completion());
        let context = bounds.model.context_length.map_or(u64::MAX, |length| length * size.sequences);
        let fits = size.total(size.prompt.high, least).min(context) <= cap;
        assert_eq!(plan.beyond_caps(&bounds).is_none(), fits, "{size:?} {bounds:?}");
    }
}

#[test]
fn nothing_is_injected_into_completions_and_embeddings() {
    let completion = RequestSize { limit: Some(COMPLETIONS_DEFAULT), is_named: false, ..named(0) };
    assert_eq!(whole(completion, &bounds(Some(1000), None)), (316, None));
    assert_eq!(whole(RequestSize { sequences: 50, ..completion }, &bounds(Some(1000), None)).1, None);
    let embeddings = RequestSize { sequences: 0, ..unnamed() };
    assert_eq!(whole(embeddings, &with_context(100, bounds(Some(1000), None))), (300, None));
    assert_eq!(whole(embeddings, &bounds(Some(200), None)), (200, None));
}

#[test]
fn a_chat_without_a_limit_asks_for_the_room_and_takes_a_share() {
    for (bounds, expected) in [
        // vLLM, the context length known: what it leaves is not injected.
        (with_context(4096, bounds(Some(32_000), None)), (4096, None)),
        (with_context(131_072, bounds(Some(32_000), None)), (32_000, Some((31_700, RequestCap)))),
        (with_context(131_072, bounds(None, Some(100_000))), (100_000, Some((99_700, Budget)))),
        // vLLM, not known: no limit that the server could reject.
        (bounds(Some(2000), None), (2000, Some((1700, RequestCap)))),
        (bounds(Some(32_000), None), (32_000, None)),
        (bounds(None, Some(100_000)), (4396, Some((4096, Budget)))),
        (bounds(None, Some(2000)), (2000, Some((1700, Budget)))),
        // Hosted.
        (hosted(bounds(Some(2000), None)), (2000, Some((1700, RequestCap)))),
        (hosted(bounds(Some(32_000), None)), (8492, Some((8192, RequestCap)))),
        (hosted(bounds(None, Some(200_000))), (8492, Some((8192, Budget)))),
    ] {
        assert_eq!(whole(unnamed(), &bounds), expected, "{bounds:?}");
    }
    let seen = ModelLimits { context_length_floor: 40_000, ..ModelLimits::default() };
    let plan = planned(unnamed(), &Bounds { model: seen, ..bounds(Some(32_000), None) });
    assert_eq!(limit_of(&plan, 32_000), Some(31_700), "the context length is at least this");
    let plan = planned(unnamed(), &bounds(Some(32_000), None));
    assert_eq!((limit_of(&plan, 4396), limit_of(&plan, 4397)), (Some(4096), None), "a larger one could be rejected");
    for (completion, completion_floor, told) in [(Some(16_384), 0, 16_384), (Some(1000), 0, 1000), (None, 9000, 9000)] {
        let model = ModelLimits { completion, completion_floor, ..ModelLimits::default() };
        assert_eq!(whole(unnamed(), &Bounds { model, ..hosted(bounds(None, Some(200_000))) }).1, Some((told, Budget)));
    }
}

#[test]
fn nothing_is_injected_where_budgets_have_plenty_left() {
    let ample = Grant { is_ample: true, ..granted(4396) };
    for (bounds, reserved) in [
        (hosted(bounds(None, Some(10_000_000))), Some(4396)),
        (hosted(bounds(Some(100_000), None)), Some(33_068)),
        (hosted(bounds(Some(33_000), Some(10_000_000))), None),
        (bounds(None, Some(10_000_000)), Some(4396)),
        (bounds(None, Some(33_000)), None),
        (with_context(131_072, bounds(None, Some(10_000_000))), None),
        (bounds(Some(100_000), None), None),
    ] {
        let plan = planned(unnamed(), &bounds);
        assert_eq!(plan.ask.ample().map(|ample| ample.tokens), reserved, "{bounds:?}");
        assert_eq!(plan.ask.ample().map_or(AMPLE, |ample| ample.from), AMPLE);
        if reserved.is_some() {
            assert_eq!(plan.limit(ample), None, "{bounds:?}");
        }
    }
}

#[test]
fn a_share_is_at_least_the_default_and_at_most_4096() {
    for (default_max_tokens, choices, floor, least) in
        [(4096, 1, 4096, 556), (1000, 1, 1000, 556), (8192, 3, 3 * 4096, 1068), (5, 1, 256, 305)]
    {
        let size = RequestSize { choices, sequences: choices, ..unnamed() };
        let plan = planned(size, &Bounds { default_max_tokens, ..bounds(None, Some(1_000_000)) });
        assert_eq!((plan.ask.share.unwrap().floor, plan.ask.least), (floor, least), "{default_max_tokens} × {choices}");
    }
}

#[test]
fn no_limit_is_injected_below_min_tokens_nor_above_the_named_one() {
    let size = RequestSize { min_tokens: 500, ..unnamed() };
    let plan = planned(size, &with_context(4096, bounds(Some(2000), None)));
    assert_eq!((plan.ask.least, limit_of(&plan, 2000), limit_of(&plan, 800)), (800, Some(1700), Some(500)));
    assert_eq!(whole(size, &with_context(4096, bounds(Some(700), None))), (700, Some((500, RequestCap))));
    let hosted = hosted(bounds(None, Some(200_000)));
    assert_eq!(whole(RequestSize { min_tokens: 100_000, ..unnamed() }, &hosted).1, Some((100_000, Budget)));
    // vLLM rejects a request with `min_tokens` above its limit. It has to receive both values unchanged.
    let dense = Estimate { low: 10, typical: 10, high: 1000 };
    for (limit, min_tokens) in [(16, 106), (400, 500), (1, 2)] {
        let size = RequestSize { prompt: dense, min_tokens, ..named(limit) };
        assert_eq!(whole(size, &with_context(4096, bounds(Some(600), None))).1, None, "{limit}, at least {min_tokens}");
    }
}

#[test]
fn prompts_share_no_context_length() {
    let prompt = Estimate { low: 120, typical: 120, high: 15_064 };
    let size = RequestSize { prompt, sequences: 3, ..named(500) };
    assert_eq!(whole(size, &with_context(8192, bounds(Some(20_000), None))), (16_564, None));
    assert_eq!(whole(size, &with_context(5200, bounds(Some(20_000), None))), (15_600, Some((256, ContextWindow))));
}

#[test]
fn an_exact_count_matters_where_the_bounds_differ() {
    let exact = |size: RequestSize| RequestSize {
        prompt: Estimate { low: size.prompt.low, typical: size.prompt.low, high: size.prompt.low },
        ..size
    };
    let prompt = Estimate { low: 100, typical: 100, high: 10_000 };
    for (size, bounds, expected) in [
        (named(8000), bounds(Some(32_000), None), false),
        (named(30_000), bounds(Some(32_000), None), true),
        (named(1 << 50), with_context(8192, bounds(None, None)), true),
        (unnamed(), bounds(Some(32_000), None), false),
        (unnamed(), bounds(Some(12_000), None), true),
        (unnamed(), with_context(12_000, bounds(Some(32_000), None)), true),
    ] {
        let size = RequestSize { prompt, ..size };
        let plans = [size, exact(size)].map(|size| planned(size, &bounds));
        assert_eq!(plans[0].differs_from(&plans[1], 4096), expected, "{size:?}, {bounds:?}");
    }
}
