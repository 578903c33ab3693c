//! What is estimated until a provider reports it: prompt sizes and context lengths, calibrated by its reports.

pub mod context_length;
pub mod prompt_estimator;
pub mod prompt_tokens;
