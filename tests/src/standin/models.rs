//! `GET /v1/models`: every served name, with the context length.

use bytes::Bytes;

use super::{Options, event_writer};

/// Returns the list as vLLM writes it.
pub(super) fn body(options: &Options) -> Bytes {
    let cards: Vec<_> = options.models.iter().enumerate().map(|(index, name)| card(options, index, name)).collect();
    format!(r#"{{"object":"list","data":[{}]}}"#, cards.join(",")).into()
}

fn card(options: &Options, index: usize, name: &str) -> String {
    let (name, created, window) = (event_writer::quoted(name), event_writer::now(), options.max_model_len);
    let root = event_writer::quoted(&format!("/models/{}", options.canonical_model().rsplit('/').next().unwrap_or_default()));
    format!(
        r#"{{"id":{name},"object":"model","created":{created},"owned_by":"vllm","root":{root},"parent":null,"max_model_len":{window},"permission":[{{"id":"modelperm-{index:016x}","object":"model_permission","created":{created},"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,"organization":"*","group":null,"is_blocking":false}}]}}"#
    )
}
