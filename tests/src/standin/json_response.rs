//! Writes JSON (not streamed) responses as vLLM 0.32 does, including field order and nulls.

use std::fmt::Write as _;

use super::event_writer::{CACHED, FINGERPRINT, argument, call_id, now, quoted};
use super::response_plan::{Api, Choice, ResponsePlan};
use super::tokens;

/// Returns the body of a JSON response.
pub(super) fn body(plan: &ResponsePlan) -> Vec<u8> {
    let object = if plan.api == Api::Chat { "chat.completion" } else { "text_completion" };
    let (id, model, created) = (quoted(&plan.id), quoted(&plan.model), now());
    let choices: Vec<_> = plan.choices.iter().enumerate().map(|(index, choice)| one(plan, index, choice)).collect();
    let mut text = format!(
        r#"{{"id":{id},"object":"{object}","created":{created},"model":{model},"choices":[{}],"service_tier":null,"system_fingerprint":"{FINGERPRINT}","#,
        choices.join(",")
    );
    if !plan.fault.no_usage {
        whole_usage(&mut text, plan);
    }
    if plan.api == Api::Chat {
        text += r#""prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null,"#;
    }
    text += r#""kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}"#;
    text.into_bytes()
}

fn whole_usage(text: &mut String, plan: &ResponsePlan) {
    let (prompt, completion) = (plan.prompt_tokens, plan.completion_tokens() + plan.fault.extra_usage);
    let total = prompt + completion;
    let details = if plan.details { CACHED } else { "null" };
    let reasoning: u64 = plan.choices.iter().map(|choice| plan.reasoning(choice)).sum();
    let reasoning = if reasoning > 0 { format!(r#"{{"reasoning_tokens":{reasoning}}}"#) } else { "null".into() };
    let _ = write!(
        text,
        r#""usage":{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{completion},"prompt_tokens_details":{details},"completion_tokens_details":{reasoning}}},"#
    );
}

fn one(plan: &ResponsePlan, index: usize, choice: &Choice) -> String {
    let finish = choice.finish;
    let words = |from, to| quoted(&(from..to).map(tokens::word).collect::<String>());
    if plan.api == Api::Completions {
        let text = words(0, choice.length);
        return format!(
            r#"{{"index":{index},"text":{text},"logprobs":null,"finish_reason":"{finish}","stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,"routed_experts":null}}"#
        );
    }
    let split = plan.reasoning(choice);
    let reasoning = if split > 0 { words(0, split) } else { "null".into() };
    let (content, calls) = match &plan.tool {
        None => (words(split, choice.length), String::new()),
        Some(name) => ("null".into(), calls(plan, index, choice, name)),
    };
    format!(
        r#"{{"index":{index},"message":{{"role":"assistant","content":{content},"refusal":null,"annotations":null,"audio":null,"function_call":null,{calls}"reasoning":{reasoning}}},"logprobs":null,"finish_reason":"{finish}","stop_reason":null,"token_ids":null,"routed_experts":null}}"#
    )
}

fn calls(plan: &ResponsePlan, index: usize, choice: &Choice, name: &str) -> String {
    let arguments: String = (0..choice.length).map(|number| argument(number, choice.length)).collect();
    let (id, name, arguments) = (call_id(plan, index), quoted(name), quoted(&arguments));
    format!(r#""tool_calls":[{{"id":"{id}","type":"function","function":{{"name":{name},"arguments":{arguments}}}}}],"#)
}
