//! The columns: what an Envoy under measurement runs.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::Configuration;

/// One configuration of Envoy.
#[derive(Debug, Clone)]
pub struct Column {
    /// As the table calls it.
    pub name: String,
    /// What it runs.
    pub filter: Filter,
    /// Where that stands.
    pub positions: FilterPositions,
    /// Names of the columns that it is compared with.
    pub against: &'static [&'static str],
}

/// Where the filter stands, and what it stands in front of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterPositions {
    /// In the listener alone, in front of one provider.
    Listener,
    /// In the upstream chains of two providers as well, with the route by which a retry moves from one to the other. The providers
    /// share a server.
    Both,
    /// The same, but the first provider's server fails at every second request.
    BothFailing,
}

/// What stands in the filter chain before the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Nothing.
    None,
    /// A wasm module that does nothing.
    Empty(PathBuf),
    /// The same, but it holds requests until their bodies are there.
    Holding(PathBuf),
    /// A build of the gateway's filter, and what it is told.
    Gateway(PathBuf, Configuration),
    /// Envoy's own AI Protocol Manager, in C++: checks requests, and takes the usage from answers. It limits nothing.
    Native,
    /// `peer.lua`: routes by the model, and takes the usage from answers. It limits nothing.
    Lua,
}

/// The columns that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// No filter
    None,
    /// An empty filter: what the platform costs
    Empty,
    /// An empty filter that holds requests until their bodies are there: what Envoy does for any filter that routes by them
    Holding,
    /// One provider with a daily budget, open to everybody
    Filter,
    /// An access key, one of 100: budgets of provider, external use and key, tokens and requests per minute
    Developer,
    /// One of three agents, known by a header, with a daily budget
    Agent,
    /// As `filter`, with a guard against prompt injection
    Guards,
    /// As `developer`, with that guard: keys, agents, four budgets, two rates and a guard
    All,
    /// Envoy's own AI Protocol Manager, in C++: parses and counts, limits nothing
    Cpp,
    /// A Lua filter: finds the model and the usage by patterns, limits nothing
    Lua,
    /// Two empty filters where `fallback` has its own: in the listener and before the upstream
    EmptyTwice,
    /// As `filter`, in both positions: fallback is there for others
    Attempt,
    /// An agent with two providers, of which the first answers
    Fallback,
    /// The same, but the first fails at every second request
    FallbackUsed,
}

// === impl Filter ===

impl Filter {
    /// Its module, if it has one.
    pub fn module(&self) -> Option<&PathBuf> {
        match self {
            Self::None | Self::Native | Self::Lua => None,
            Self::Empty(module) | Self::Holding(module) | Self::Gateway(module, _) => Some(module),
        }
    }

    /// The headers that a request needs.
    pub(super) fn credentials(&self) -> String {
        match self {
            Self::Gateway(_, configuration) => configuration.credentials(),
            _ => Configuration::Open.credentials(),
        }
    }
}

// === impl Choice ===

impl Choice {
    /// What is measured where nothing else is asked for: the filter in the listener alone, and its peers.
    pub const DEFAULT: [Self; 9] =
        [Self::None, Self::Empty, Self::Filter, Self::Developer, Self::Agent, Self::Guards, Self::All, Self::Cpp, Self::Lua];
    /// The same where each column takes long: the least and the most that the filter does.
    pub const FEW: [Self; 6] = [Self::None, Self::Empty, Self::Filter, Self::All, Self::Cpp, Self::Lua];
    /// Access keys among which the developer's is one.
    pub(super) const KEYS: usize = 100;

    /// The column, with these builds of the empty filter and of the gateway's.
    pub fn column(self, empty: &Path, module: &Path) -> Column {
        let gateway = |configuration| Filter::Gateway(module.to_owned(), configuration);
        let (name, filter, against): (_, _, &[_]) = match self {
            Self::None => ("no filter", Filter::None, &[]),
            Self::Empty => ("empty", Filter::Empty(empty.to_owned()), &[]),
            Self::Holding => ("holding", Filter::Holding(empty.to_owned()), &["empty"]),
            Self::Filter => ("filter", gateway(Configuration::Open), &["other", "empty", "no filter"]),
            Self::Developer => ("developer", gateway(Configuration::Keys(Self::KEYS)), &["empty"]),
            Self::Agent => ("agent", gateway(Configuration::Agents), &["empty"]),
            Self::Guards => ("guards", gateway(Configuration::Guarded), &["filter"]),
            Self::All => ("all", gateway(Configuration::All(Self::KEYS)), &["empty", "cpp", "lua"]),
            Self::Cpp => ("cpp", Filter::Native, &["no filter"]),
            Self::Lua => ("lua", Filter::Lua, &["no filter"]),
            Self::EmptyTwice => ("empty-twice", Filter::Empty(empty.to_owned()), &["empty"]),
            Self::Attempt => ("attempt", gateway(Configuration::Open), &["empty-twice", "filter"]),
            Self::Fallback => ("fallback", gateway(Configuration::Fallback), &["empty-twice"]),
            Self::FallbackUsed => ("fallback-used", gateway(Configuration::Fallback), &["empty-twice"]),
        };
        let positions = match self {
            Self::EmptyTwice | Self::Attempt | Self::Fallback => FilterPositions::Both,
            Self::FallbackUsed => FilterPositions::BothFailing,
            _ => FilterPositions::Listener,
        };
        Column { name: name.to_owned(), filter, positions, against }
    }
}
