//! The labels in the names of the filter's metrics.

/// The labels, each of which Envoy needs a rule for.
pub(super) const LABELS: [&str; 13] = [
    "provider",
    "model",
    "decision",
    "subject",
    "guard",
    "action",
    "kind",
    "reason",
    "status_class",
    "le",
    "version",
    "result",
    "limited_by",
];
