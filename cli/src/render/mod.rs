//! From manifests to Envoy's configuration.
