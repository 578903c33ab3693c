//! Manifests as written, and how they become a policy.
