//! Gateways that this user is logged in to.
