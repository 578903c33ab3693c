//! The running Envoy of a gateway.
