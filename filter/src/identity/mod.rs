//! Who calls, and which models each caller may use: credentials, agents, access keys, certificates.

pub mod access_key;
pub mod agent;
pub mod budgets;
pub mod caller;
pub mod certificate;
pub mod credentials;
pub mod model_access;
pub mod model_refusals;
pub mod peer_identity;
