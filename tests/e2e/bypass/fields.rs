//! Body fields that a server may read more leniently than the gateway, and fields that move cost or content past it.

use e2e::harness::MODEL;

use crate::http1::{chat_with, chat_with_messages, json, post_with};
use crate::row::{CHAT, FORWARDED, INVALID, Row};

pub fn rows() -> Vec<Row> {
    const TEXT: &str = "/v1/completions";
    const EMBED: &str = "/v1/embeddings";
    vec![
        // === values that other parsers read as numbers ===
        chat_with("a limit in quotes", r#""max_tokens":"5""#, INVALID),
        chat_with("a limit with a point", r#""max_tokens":5.0"#, FORWARDED),
        chat_with("a limit with an exponent", r#""max_tokens":1e1"#, FORWARDED),
        chat_with("half a token", r#""max_tokens":5.5"#, INVALID),
        chat_with("a limit that floats do not hold", r#""max_tokens":9007199254740993"#, INVALID),
        chat_with("a limit with a huge exponent", r#""max_tokens":1e400"#, INVALID),
        chat_with("a limit with a tiny exponent", r#""max_tokens":5e-324"#, INVALID),
        chat_with("a limit of nothing", r#""max_tokens":0"#, INVALID),
        chat_with("a limit of less than nothing", r#""max_tokens":-1"#, INVALID),
        chat_with("a limit of minus nothing", r#""max_tokens":-0"#, INVALID),
        chat_with("a limit beyond 63 bits", r#""max_tokens":9223372036854775808"#, INVALID),
        chat_with("a limit beyond 64 bits", r#""max_tokens":18446744073709551617"#, INVALID),
        chat_with("a limit in an array", r#""max_tokens":[5]"#, INVALID),
        chat_with("a limit in an object", r#""max_tokens":{"value":5}"#, INVALID),
        chat_with("a limit that is true", r#""max_tokens":true"#, INVALID),
        chat_with("a limit twice", r#""max_tokens":5,"max_tokens":500000"#, INVALID),
        chat_with("a limit twice, once escaped", r#""max_tokens":5,"m\u0061x_tokens":500000"#, INVALID),
        chat_with("a limit twice, once null", r#""max_tokens":null,"max_tokens":500000"#, INVALID),
        chat_with("the other limit twice", r#""max_completion_tokens":5,"max_completi\u006fn_tokens":500000"#, INVALID),
        chat_with("a number of choices in quotes", r#""n":"2""#, INVALID),
        chat_with("no choices", r#""n":0"#, INVALID),
        chat_with("choices twice", r#""n":1,"n":64"#, INVALID),
        chat_with("choices with a point", r#""n":1.5"#, INVALID),
        chat_with("best of in quotes", r#""best_of":"64""#, INVALID),
        chat_with("best of, twice", r#""best_of":1,"best_of":64"#, INVALID),
        chat_with("least tokens in quotes", r#""min_tokens":"500000""#, INVALID),
        chat_with("least tokens below nothing", r#""min_tokens":-5"#, INVALID),
        // === values that other parsers read as true ===
        chat_with("a stream, by word", r#""stream":"true""#, INVALID),
        chat_with("a stream, by number", r#""stream":1"#, INVALID),
        chat_with("a stream, yes", r#""stream":"yes""#, INVALID),
        chat_with("a stream, twice", r#""stream":false,"stream":true"#, INVALID),
        chat_with("options of a stream in an array", r#""stream":true,"stream_options":[]"#, INVALID),
        chat_with(
            "options of a stream twice",
            r#""stream":true,"stream_options":{},"stream_options":{"include_usage":false}"#,
            INVALID,
        ),
        chat_with("usage twice", r#""stream":true,"stream_options":{"include_usage":true,"include_us\u0061ge":false}"#, INVALID),
        chat_with("usage by word", r#""stream":true,"stream_options":{"include_usage":"no"}"#, INVALID),
        // === fields that bypass cost or content checks ===
        chat_with("a transfer", r#""kv_transfer_params":{"prompt_token_ids":[1,2,3]}"#, INVALID),
        chat_with("a transfer, escaped", r#""kv_tr\u0061nsfer_params":{"do_remote_prefill":true}"#, INVALID),
        chat_with("a transfer, null and then one", r#""kv_transfer_params":null,"kv_transfer_params":{"a":1}"#, INVALID),
        chat_with("an encoder's transfer", r#""ec_transfer_params":{"a":1}"#, INVALID),
        chat_with("a transfer among the extra arguments", r#""vllm_xargs":{"kv_transfer_params":{"a":1}}"#, INVALID),
        chat_with("extra arguments as text", r#""vllm_xargs":"{}""#, INVALID),
        chat_with("a search by beams", r#""use_beam_search":true"#, INVALID),
        chat_with("a search by beams, by number", r#""use_beam_search":1"#, INVALID),
        chat_with("a search by beams, by word", r#""use_beam_search":"false""#, INVALID),
        chat_with("a prompt as a tensor", r#""prompt_embeds":"AAAA""#, INVALID),
        chat_with("a template", r#""chat_template":"{{ messages * 1000 }}""#, INVALID),
        chat_with("a template among its arguments", r#""chat_template_kwargs":{"chat_templ\u0061te":"x"}"#, INVALID),
        chat_with("a turn before others", r#""priority":-1"#, INVALID),
        chat_with("a turn with a point", r#""priority":-0.5"#, INVALID),
        chat_with("a turn of nothing", r#""priority":0"#, FORWARDED),
        chat_with_messages(
            "a tensor among the parts",
            r#"[{"role":"user","content":[{"type":"prompt_embeds","prompt_embeds":"AA"}]}]"#,
            INVALID,
        ),
        chat_with_messages(
            "a tensor by its type only",
            r#"[{"role":"user","content":[{"type":"prompt_\u0065mbeds","data":"AA"}]}]"#,
            INVALID,
        ),
        post_with("a tensor for text", TEXT, r#""prompt":"a","prompt_embeds":["AA"]"#, INVALID),
        // === other types of prompts ===
        chat_with_messages("messages as text", r#""Hi""#, INVALID),
        chat_with_messages("messages as an object", r#"{"0":{"role":"user","content":"Hi"}}"#, INVALID),
        chat_with_messages("messages of text", r#"["Hi"]"#, INVALID),
        chat_with_messages("messages of null", "[null]", INVALID),
        chat_with_messages("null for messages", "null", INVALID),
        chat_with("messages twice", r#""messages":[]"#, INVALID),
        post_with("ids beside text", TEXT, r#""prompt":[1,"a"]"#, INVALID),
        post_with("ids that are no integers", TEXT, r#""prompt":[1.5]"#, INVALID),
        post_with("ids below nothing", TEXT, r#""prompt":[-1]"#, INVALID),
        post_with("a prompt that is an object", TEXT, r#""prompt":{"text":"a"}"#, INVALID),
        post_with("a prompt twice", TEXT, r#""prompt":"a","prompt":"b""#, INVALID),
        post_with("a prompt that is a number", TEXT, r#""prompt":5"#, INVALID),
        post_with("an array three deep", TEXT, r#""prompt":[[[1]]]"#, INVALID),
        post_with("messages for text", TEXT, r#""messages":[{"role":"user","content":"Hi"}]"#, INVALID),
        post_with("an input that is true", EMBED, r#""input":true"#, INVALID),
        post_with("an input twice", EMBED, r#""input":"a","inp\u0075t":"b""#, INVALID),
        post_with("no input", EMBED, r#""prompt":"a""#, INVALID),
        Row::http1(
            "a body of text sent to chat",
            json(&format!("POST {CHAT}"), "", format!(r#"{{"model":"{MODEL}","prompt":"Hi"}}"#)),
            [INVALID],
        ),
    ]
}
