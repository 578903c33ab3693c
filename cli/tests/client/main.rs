//! The commands that talk to a gateway as a client, run as a user runs them.

mod env;
mod login;
mod support;
