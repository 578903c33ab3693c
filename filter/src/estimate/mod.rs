//! What is estimated until a provider reports it: prompt sizes and context lengths, calibrated by its reports.

pub mod context_length;
pub mod estimator;
pub mod shared;
